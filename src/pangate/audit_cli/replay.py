"""`pangate audit replay`: a session as it happened, its commands and what it was sent."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pangate.audit.replay import (
    Checked,
    Moment,
    NoSuchSession,
    Session,
    check,
    moments,
    session_of,
)
from pangate.audit_cli import FAILED, OK, add_ledger, sources_of
from pangate.audit_cli.output import plain
from pangate.errors import LedgerError

if TYPE_CHECKING:
    from pangate.audit.index import Record

LONGEST_PAUSE = 2.0
"""Seconds that nothing happens, at the most: nobody wants to wait for a night to pass."""

BATCH = 1000
"""Rows of a table that its columns are measured by."""


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("session", metavar="SESSION", help="the session's id, as events have it")
    add_ledger(parser, several=True)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--speed",
        type=_speed,
        metavar="N",
        help="so many times as fast as it was; the default on a terminal is 1. No pause is longer "
        f"than {LONGEST_PAUSE:g} seconds",
    )
    how.add_argument("--step", action="store_true", help="wait for Enter before each command")
    how.add_argument(
        "--dump", action="store_true", help="all at once; the default when nobody watches"
    )
    how.add_argument("--json", action="store_true", help="all at once, one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """Check the recording, and show the session. Fails when the recording is not what the ledger says, or
    cannot be read to its end."""
    # from the first event to the last, and not by the index, which is no evidence
    record, session = _found(options)
    checked = check(session, record.directory)
    played = moments(session, checked.path)
    if options.json:
        return _json(session, checked, played)
    pace = options.speed
    if pace is None and not options.dump and not options.step and sys.stdout.isatty():
        pace = 1.0
    return _show(session, checked, _paced(played, pace, step=options.step))


def _found(options: argparse.Namespace) -> tuple[Record, Session]:
    """The record that has the session, and what it has of it. A session is in the record of one worker."""
    from pangate.audit.index import Record

    wrong: LedgerError | None = None
    for source in reversed(sources_of(options)):
        try:
            return Record(source.path), session_of(Record(source.path).events(), options.session)
        except NoSuchSession as nothing:
            wrong = wrong or nothing
        except LedgerError as unreadable:
            # another may have it; where none has, this one might
            if wrong is None or isinstance(wrong, NoSuchSession):
                wrong = unreadable
    assert wrong is not None
    raise wrong


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return speed


def _paced(played: Iterator[Moment], speed: float | None, *, step: bool) -> Iterator[Moment]:
    before = 0.0
    for moment in played:
        if speed is not None and moment.seconds > before:
            sys.stdout.flush()
            time.sleep(min(LONGEST_PAUSE, (moment.seconds - before) / speed))
        if step and moment.kind == "command":
            sys.stdout.flush()
            sys.stdin.readline()
        before = max(before, moment.seconds)
        yield moment


def _json(session: Session, checked: Checked, played: Iterator[Moment]) -> int:
    first = {
        "kind": "session",
        "session": session.id,
        "verified": checked.right,
        "recording": checked.sentence,
        "start": session.start,
        "end": session.end,
    }
    print(json.dumps(first))
    code = OK if checked.right else FAILED
    for moment in played:
        if moment.code == "damaged":
            code = FAILED
        print(json.dumps(moment._asdict()))
    return code


def _show(session: Session, checked: Checked, played: Iterator[Moment]) -> int:
    print(f"{'verified' if checked.right else 'NOT VERIFIED'}: {plain(checked.sentence)}")
    code = OK if checked.right else FAILED
    for name, event in (("began", session.start), ("ended", session.end)):
        if event is None:
            print(f"{name}: the ledger does not say when")
        else:
            print(f"{name}: {plain(_line(event))}")
    table: list[tuple[str | None, ...]] = []
    names: Sequence[str] = ()
    for moment in played:
        if moment.kind == "row" and len(table) < BATCH:
            table.append(moment.value)
            continue
        _print_table(names, table)
        table = [moment.value] if moment.kind == "row" else []
        names = moment.value if moment.kind == "table" else names
        code = FAILED if moment.code == "damaged" else code
        if text := _said(moment):
            print(text)
    _print_table(names, table)
    return code


def _said(moment: Moment) -> str:
    value = moment.value
    match moment.kind:
        case "command":
            return _command(moment)
        case "cut":
            rows = f"{value['rows']} rows, " if value["rows"] else ""
            return f"[{rows}{value['bytes']} bytes that were sent are not recorded]"
        case "end":
            return (
                f"{_clock(moment.seconds)} the recording ends; {value.get('sent')} bytes were sent"
            )
        case "notification":
            return f"notification {plain(value)}"
        case "parameter":
            return f"[{plain(value)}]"
        case "error" | "notice":
            code = f" ({plain(moment.code)})" if moment.code else ""
            return f"{plain(value)}{code}"
        case "lines" | "done":
            return plain(value)
    return ""


def _command(moment: Moment) -> str:
    event: Mapping[str, Any] = moment.value
    data = event["data"]
    said = f"\n{_clock(moment.seconds)} #{moment.number} {data.get('kind', '')} {data.get('verdict', '')}"
    lines = [plain(said), *(f"    {line}" for line in plain(str(data.get("text", ""))).split("\n"))]
    if data.get("parameters"):
        shown = ", ".join("NULL" if value is None else str(value) for value in data["parameters"])
        lines.append(f"    with {plain(shown)}")
    if data.get("reason"):
        lines.append(f"    {plain(str(data['reason']))}")
    return "\n".join(lines)


def _print_table(names: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    """Rows under the names of their columns, as psql shows them."""
    if not rows:
        return
    width = max(len(names), max(map(len, rows)))
    head = [plain(name) for name in names] + ["?"] * (width - len(names))
    cells = [
        ["NULL" if cell is None else plain(cell).replace("\n", "\\n") for cell in row]
        + [""] * (width - len(row))
        for row in rows
    ]
    sizes = [max(len(line[column]) for line in (head, *cells)) for column in range(width)]

    def line(values: Sequence[str]) -> str:
        return " | ".join(
            f"{value:<{size}}" for value, size in zip(values, sizes, strict=True)
        ).rstrip()

    print(line(head))
    print("-+-".join("-" * size for size in sizes))
    for values in cells:
        print(line(values))


def _line(event: Mapping[str, Any]) -> str:
    data = event.get("data", {})
    parts = [str(event.get("time")), str(event.get("principal")), f"from {event.get('origin')}"]
    parts.append(f"at {event.get('resource')}")
    parts += [str(data[key]) for key in ("role", "reason") if data.get(key)]
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"[{hours:02d}:{minutes:02d}:{rest:06.3f}]"
