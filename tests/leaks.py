"""The leak matrix: ways to bring a PAN out of PostgreSQL, each in every form that a result can take.

`corpus/leaks.csv` has one row a way. `sql` is what the agent says, its statements parted by ` ;; `; `setup`
is what the superuser has made before. `{pan}` stands for the PAN and `{s}` for the schema of the setup. One
column a form says what has to come of it:

masked    the PAN is there without the gateway, and masked with it
refused   the PAN is there without the gateway; with it the result is refused, or masked
gap       the PAN leaves in a form that content scanning does not see, or the result is refused
-         the form does not exist for this way, or does not show the PAN

Run as a program with the path of docs/security.md, it prints the matrix between that page's markers."""

from __future__ import annotations

import base64
import csv
import re
import struct
import sys
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus" / "leaks.csv"
FORMS = ("simple", "text", "binary", "copy text", "copy csv", "copy binary")
OUTCOMES = ("masked", "refused", "gap", "-")
BEGIN, END = "<!-- leak matrix: begin -->", "<!-- leak matrix: end -->"


@dataclass(frozen=True)
class Way:
    """One row of the corpus. `expected` is the outcome by form; `since` is the first major version of
    PostgreSQL that knows the way."""

    group: str
    name: str
    setup: str
    sql: tuple[str, ...]
    expected: dict[str, str]
    since: int


def ways() -> list[Way]:
    """The corpus."""
    with CORPUS.open(newline="", encoding="utf-8") as file:
        return [
            Way(
                row["group"],
                row["name"],
                row["setup"],
                tuple(row["sql"].split(" ;; ")),
                {form: row[form] for form in FORMS},
                int(row["since"] or 0),
            )
            for row in csv.DictReader(file)
        ]


# --- the judge -------------------------------------------------------------------------------------
# Plain search for one known PAN in raw bytes, so that the scanner is not its own judge.


def _groups(digits: str) -> bytes:
    """Base-10000 digits as numeric_send has them; a last group is filled with zeros."""
    digits += "0" * (-len(digits) % 4)
    return b"".join(struct.pack("!H", int(digits[i : i + 4])) for i in range(0, len(digits), 4))


@cache
def _judge(pan: str) -> tuple[tuple[tuple[str, bytes], ...], re.Pattern[bytes]]:
    """The encodings of `pan` by name, and a pattern for it with other bytes between its digits."""
    text, value = pan.encode(), int(pan)
    even = len(pan) + len(pan) % 2
    codes = [("text", text), ("base64", base64.b64encode(text).rstrip(b"=")[:-1])]
    codes += [("hex", text.hex().encode()), ("packed", bytes.fromhex(pan.rjust(even, "0")))]
    codes.append(("packed", bytes.fromhex(pan.ljust(even, "f"))))
    for number in (value, -value, value * 100, -value * 100):
        codes += [("int8", struct.pack("!q", number)), ("int8", struct.pack("<q", number))]
    for real in (float(value), -float(value)):
        codes += [("float8", struct.pack("!d", real)), ("float8", struct.pack("<d", real))]
    codes += [("numeric", _groups("0" * zeros + pan)) for zeros in range(4)]
    return tuple(codes), re.compile("[^0-9]{0,2}".join(pan).encode())


def encodings_in(data: bytes, pan: str) -> set[str]:
    """The encodings in which `pan` stands in `data`; "separated" has one or two other bytes between
    some of its digits. A PAN has no letters, so its hex form has none either."""
    codes, separated = _judge(pan)
    found = {name for name, code in codes if code in data}
    if "text" not in found and separated.search(data):
        found.add("separated")
    return found


# --- the table in the docs -------------------------------------------------------------------------

SIGNS = {"masked": "masked", "refused": "refused", "gap": "**passes**", "-": ""}


def table() -> str:
    """The matrix as Markdown: a table a group, ways that fare alike on one line."""
    lines = []
    for group, members in groupby(ways(), key=lambda way: way.group):
        alike: dict[tuple[str, ...], list[str]] = {}
        for way in members:
            alike.setdefault(tuple(way.expected.values()), []).append(way.name)
        lines += ["", f"**{group}**", ""]
        lines += ["| ways | " + " | ".join(FORMS) + " |", "|---" * (len(FORMS) + 1) + "|"]
        for outcomes, names in alike.items():
            signs = " | ".join(SIGNS[outcome] for outcome in outcomes)
            lines.append(f"| {'; '.join(names)} | {signs} |".replace("  |", " |"))
    return "\n".join(lines).strip()


def printed(page: str) -> str:
    """`page` with the matrix between its markers."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(printed(target.read_text(encoding="utf-8")), encoding="utf-8")
