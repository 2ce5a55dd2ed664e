"""Events as people and programs get them: a table, lines of JSON, CSV."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pangate.audit.events import whole
from pangate.audit.index import Hit, Record
from pangate.audit.several import Several, by_time
from pangate.errors import LedgerError

MOST_COLUMN = 28
"""Characters of a column but the last one, at the most, where the terminal is narrow."""

NO_TERMINAL = 160
"""Characters of a line when nobody says how many there are."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet would take for a formula."""

CSV_FIELDS = (
    "sequence", "time", "code", "success", "principal", "role", "resource", "origin", "session", "statement",
    "verdict", "rule", "effects", "tables", "masked", "rows", "error", "seconds", "text",
    "record",
)  # fmt: skip


class Found(NamedTuple):
    """An event with the one that says how it ended, as they stand in the record. `source` is the record that
    has them, empty where there is one only."""

    event: Mapping[str, Any]
    ended: Mapping[str, Any] | None = None
    source: str = ""

    @property
    def data(self) -> Mapping[str, Any]:
        """What is particular to the event."""
        data = self.event.get("data")
        return data if isinstance(data, Mapping) else {}

    @property
    def outcome(self) -> Mapping[str, Any]:
        """How it ended."""
        data = self.ended.get("data") if self.ended else None
        if isinstance(data, Mapping):
            return data
        return self.data if self.event.get("code") == "statement.finished" else {}

    @property
    def masked(self) -> int:
        """Card numbers that were masked in what it gave."""
        masked = self.outcome.get("masked")
        return sum(masked.values()) if isinstance(masked, Mapping) else 0

    @property
    def number(self) -> str:
        """Its sequence, behind the name of its record where there are several."""
        sequence = str(self.event.get("sequence", ""))
        return f"{self.source}/{sequence}" if self.source else sequence

    @property
    def text(self) -> str:
        """What it says: the statement, or why."""
        said = next(
            (str(self.data[key]) for key in ("text", "detail", "reason") if self.data.get(key)), ""
        )
        if not said and self.data.get("command"):
            said = str(self.data["command"])
        return said


def fetch(record: Record, hits: Iterable[Hit], *, alone: bool = False) -> Iterator[Found]:
    """The events that were found, read from the record, each with the one that says how it ended, unless
    `alone`. Those that the record has no more are left out, and said."""
    gone = 0
    with record.reader() as line:
        for hit in hits:
            try:
                event = _event(record, hit.sequence, line(hit.sequence, hit.offset))
                ended = None
                if hit.ended and not alone:
                    ended = _event(record, hit.ended, line(hit.ended, hit.ended_offset))
            except LedgerError:
                gone += 1
                continue
            yield Found(event, ended)
    if gone:
        print(
            f"pangate audit: {gone:,} events that were found are not in the record any more; "
            "`pangate audit verify` says whether they were retired",
            file=sys.stderr,
        )


def fetch_all(
    several: Several,
    hits: Mapping[str, Sequence[Hit]],
    *,
    newest_first: bool = False,
    alone: bool = False,
) -> Iterator[Found]:
    """The same of all records, in the order of time. The hits of each are the newest first."""

    def of(source: str, found: Sequence[Hit]) -> Iterator[Found]:
        ordered = found if newest_first else reversed(found)
        name = "" if several.alone else source
        for one in fetch(several.indexes[source].record, ordered, alone=alone):
            yield one._replace(source=name)

    streams = [of(source, found) for source, found in hits.items() if found]
    return by_time(streams, lambda one: str(one.event.get("time", "")), newest_first=newest_first)


def _event(record: Record, sequence: int, line: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise LedgerError(f"the event {sequence} cannot be read")
    return whole(event, record.directory)


def add(parser: argparse.ArgumentParser) -> None:
    """The options for the form of what is shown."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line, as the record has it; with several records it says which in `record`",
    )
    form.add_argument("--csv", action="store_true", help="CSV with a line of names")


def show(options: argparse.Namespace, found: Iterable[Found], *, head: bool = True) -> None:
    """Print events as the options ask for, with the names of the columns when `head` is true."""
    if options.json:
        for one in found:
            event = dict(one.event)
            if one.source:
                event["record"] = one.source
            if one.ended is not None:
                event["finished"] = one.ended
            print(json.dumps(event, ensure_ascii=False))
    elif options.csv:
        writer = csv.writer(sys.stdout)
        if head:
            writer.writerow(CSV_FIELDS)
        writer.writerows([cell(value) for value in _fields(one)] for one in found)
    else:
        print_table(HEAD if head else None, [_row(one) for one in found])
    sys.stdout.flush()


def _fields(one: Found) -> Iterator[object]:
    event, data, outcome = one.event, one.data, one.outcome
    for name in CSV_FIELDS:
        match name:
            case "effects":
                yield " ".join(map(str, data.get("effects", ())))
            case "tables":
                yield " ".join(map(str, data.get("relations", ())))
            case "masked":
                yield one.masked
            case "rows" | "seconds" | "error":
                yield outcome.get(name, "")
            case "record":
                yield one.source
            case "text":
                yield one.text
            case "verdict" | "rule":
                yield data.get(name, "")
            case _:
                yield event.get(name, "")


def cell(value: object) -> str:
    """A value for CSV, which no spreadsheet takes for a formula."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


HEAD = ("SEQUENCE", "TIME (UTC)", "PRINCIPAL", "RESOURCE", "EVENT", "MASKED", "WHAT")


def _row(one: Found) -> tuple[str, ...]:
    event, data = one.event, one.data
    code = str(event.get("code", ""))
    ended = one.outcome.get("error")
    marks = f"{code} {data.get('verdict', '')}" if code == "approval.requested" else code
    return (
        one.number,
        str(event.get("time", ""))[:19].replace("T", " "),
        short_name(str(event.get("principal", ""))),
        str(event.get("resource", "")),
        f"{marks} ({ended})" if ended else marks,
        str(one.masked or ""),
        " ".join(one.text.split()),
    )


def short_name(principal: str) -> str:
    """A principal without its issuer."""
    return principal.rpartition("#")[2] or principal


def print_table(
    head: Sequence[str] | None, rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> None:
    """Rows that fit the terminal: the last column has what is left of a line. Those in `right` are
    numbers."""
    if not rows:
        return
    cells = [[plain(cell) for cell in row] for row in rows]
    every = [list(head), *cells] if head else cells
    count = len(every[0])
    width = shutil.get_terminal_size((NO_TERMINAL, 24)).columns
    sizes = [max(len(row[column]) for row in every) for column in range(count)]
    if sum(sizes) + 2 * (count - 1) > width:
        sizes = [min(size, MOST_COLUMN) for size in sizes[:-1]] + [sizes[-1]]
    sizes[-1] = min(sizes[-1], max(10, width - sum(sizes[:-1]) - 2 * (count - 1)))
    for row in every:
        parts = []
        for column, (cell, size) in enumerate(zip(row, sizes, strict=True)):
            text = cell if len(cell) <= size else cell[: size - 1] + "…"
            parts.append(f"{text:>{size}}" if column in right else f"{text:<{size}}")
        print("  ".join(parts).rstrip())


def plain(text: str) -> str:
    """`text` without what a terminal takes as an order, or shows in another order than it stands."""
    return "".join(one if one == "\n" or one.isprintable() else ascii(one)[1:-1] for one in text)
