"""`pangate audit show`: all that the record has of an event, a session or a request for approval."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from itertools import islice

from pangate.audit.index import Hit, Index, Query
from pangate.audit.several import Several
from pangate.audit_cli import OK, add_ledger, output, question
from pangate.audit_cli.output import Found, plain
from pangate.errors import LedgerError

MOST = 10_000
"""Events of one session that are shown; --json has all."""


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "id",
        metavar="ID",
        help="the sequence of an event, the id of a session or of a request for approval; with several "
        "records an event is worker-2/17, or first/17 for the first process",
    )
    add_ledger(parser, several=True)
    question.add_index(parser)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line, as the record has it"
    )


def run(options: argparse.Namespace) -> int:
    """Find and show."""
    several = question.open_indexes(options)
    hits = _hits(several, options.id)
    found = output.fetch_all(several, hits, alone=True)
    if options.json:
        output.show(options, found)
        return OK
    for number, one in enumerate(islice(found, MOST)):
        if number:
            print()
        print("\n".join(_lines(one)))
    count = sum(map(len, hits.values()))
    if count > MOST:
        print(f"\nThese are the first {MOST:,} of {count:,} events; --json shows all.")
    return OK


def _hits(several: Several, name: str) -> dict[str, list[Hit]]:
    """Of each record that has something, the newest first."""
    source, slash, number = name.rpartition("/")
    if number.isascii() and number.isdigit():
        if slash and source not in several.indexes:
            raise LedgerError(
                f"there is no record {source[:100]!r}; there is {', '.join(several.indexes)}"
            )
        indexes = {source: several.indexes[source]} if slash else several.indexes
        hits = {one: _event(index, int(number[:18])) for one, index in indexes.items()}
        hits = {one: found for one, found in hits.items() if found}
        if len(hits) > 1:
            meant = ", ".join(f"{one}/{number}" for one in hits)
            raise LedgerError(f"several records have an event {number}; say which: {meant}")
        if not hits:
            ends = " and ".join(
                f"{one} those up to {index.position().sequence}" for one, index in indexes.items()
            )
            has = f"the record has {ends.removeprefix('first ')}" if several.alone else ends
            raise LedgerError(f"there is no event {number}; {has}")
        return hits
    for kind in ("session", "request"):
        if "*" not in name:
            hits = several.search(Query(terms={kind: (name,)}, every=True), None)
            if any(hits.values()):
                return hits
    raise LedgerError(
        f"{name[:100]!r} is no event, session or request for approval that the record has; events have "
        "numbers, `pangate audit search` shows them"
    )


def _event(index: Index, sequence: int) -> list[Hit]:
    """One event, and the one that says how it ended."""
    hits = index.search(Query(after=sequence - 1, before=sequence + 1, every=True), None)
    if hits and hits[0].ended:
        ended = hits[0].ended
        hits = [*index.search(Query(after=ended - 1, before=ended + 1, every=True), 1), *hits]
    return hits


FIRST = (
    "sequence",
    "time",
    "code",
    "success",
    "principal",
    "role",
    "resource",
    "origin",
    "session",
)


def _lines(one: Found) -> list[str]:
    """An event, a field a line."""
    event = one.event
    rest = [key for key in event if key not in (*FIRST, "data", "v")]
    lines = [f"{'record:':<12} {one.source}"] if one.source else []
    lines += [
        f"{key + ':':<12} {_value(event[key])}"
        for key in (*FIRST, *rest)
        if event.get(key) not in ("", None)
    ]
    for key in sorted(one.data, key=lambda key: (key != "text", key)):
        value = _value(one.data[key])
        if "\n" in value:
            value = "\n".join(["", *(f"      {line}" for line in value.split("\n"))])
        lines.append(f"  {plain(key) + ':':<12} {value}")
    return lines


def _value(value: object) -> str:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(str(key))} {_value(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    return plain(json.dumps(value))
