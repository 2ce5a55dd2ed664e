"""`pangate audit show`: all that the record has of an event, a session or a request for approval."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from pangate.audit.index import Hit, Index, Query
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
        help="the sequence of an event, the id of a session or of a request for approval",
    )
    add_ledger(parser)
    question.add_index(parser)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line, as the record has it"
    )


def run(options: argparse.Namespace) -> int:
    """Find and show."""
    index = question.open_index(options)
    hits = _hits(index, options.id)
    if options.json:
        for one in output.fetch(index.record, reversed(hits), alone=True):
            print(json.dumps(one.event, ensure_ascii=False))
        return OK
    for number, one in enumerate(output.fetch(index.record, reversed(hits[-MOST:]), alone=True)):
        if number:
            print()
        print("\n".join(_lines(one)))
    if len(hits) > MOST:
        print(f"\nThese are the first {MOST:,} of {len(hits):,} events; --json shows all.")
    return OK


def _hits(index: Index, name: str) -> list[Hit]:
    """The newest first."""
    if name.isascii() and name.isdigit():
        sequence = int(name[:18])
        hits = index.search(Query(after=sequence - 1, before=sequence + 1, every=True), None)
        if not hits:
            raise LedgerError(
                f"there is no event {name}; the record has those up to {index.position().sequence}"
            )
        if hits[0].ended:
            hits = (
                index.search(
                    Query(after=hits[0].ended - 1, before=hits[0].ended + 1, every=True), 1
                )
                + hits
            )
        return hits
    for kind in ("session", "request"):
        if "*" not in name and (
            hits := index.search(Query(terms={kind: (name,)}, every=True), None)
        ):
            return hits
    raise LedgerError(
        f"{name[:100]!r} is no event, session or request for approval that the record has; events have "
        "numbers, `pangate audit search` shows them"
    )


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
    lines = [
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
