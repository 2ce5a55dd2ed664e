"""What is kept of what happened: sessions, one of them again as it was, and the record itself. Whoever reads
it is in the record before they see it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.responses import Response

from pangate.audit import replay
from pangate.audit.several import Place, place_of
from pangate.control.console import texts
from pangate.control.console.records import Page as Results
from pangate.control.console.records import Wanted
from pangate.control.console.web import READING, Page, Refusal, Visit, Web
from pangate.errors import LedgerError

MOST_MOMENTS = 500
"""Commands, rows and messages of a session on one page."""

MOST_CELL = 2_000
"""Characters of a value that are shown."""

MOST_PLACE = 10_000
"""Characters of a place in the records of all workers."""

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass
class Block:
    """Something of a session on a page: a command, a table, or a text."""

    kind: str
    seconds: float
    number: int = 0
    event: Any = None
    names: Sequence[str] = ()
    rows: list[Sequence[str | None]] = field(default_factory=list)
    text: str = ""
    code: str = ""
    sql: Markup | str = ""


async def sessions(web: Web, visit: Visit) -> Response:
    """The list of sessions."""
    await web.record(visit, "console.viewed", {"page": "sessions"})
    found = await web.records.sessions(_place(visit))
    return web.page("sessions.html", visit, found=found, first=_place(visit) is None)


async def session(web: Web, visit: Visit) -> Response:
    """One session, played again."""
    name = visit.asked.path_params["id"]
    skip = _moment(visit)
    await web.record(visit, "console.viewed", {"page": "session", "of": name, "from": skip})
    try:
        found, directory = await web.records.session(name)
    except LedgerError as wrong:
        raise Refusal(404, "Not in the record", f"{str(wrong).capitalize()}.") from None
    checked, blocks, more = await asyncio.to_thread(_played, web, found, directory, skip)
    return web.page(
        "session.html",
        visit,
        found=found,
        checked=checked,
        blocks=blocks,
        skip=skip,
        more=skip + MOST_MOMENTS if more else None,
    )


def _played(
    web: Web, found: replay.Session, directory: Path, skip: int
) -> tuple[replay.Checked, list[Block], bool]:
    """A page of a session: from the moment `skip` on. In a thread."""
    checked = replay.check(found, directory)
    blocks: list[Block] = []
    names: Sequence[str] = ()
    left = texts.MOST_COLOURED
    for count, moment in enumerate(replay.moments(found, checked.path)):
        if count >= skip + MOST_MOMENTS:
            return checked, blocks, True
        if moment.kind == "table":
            names = moment.value
        if count < skip:
            continue
        last = blocks[-1] if blocks else None
        if moment.kind == "row" and (last is None or last.kind != "table"):
            last = Block("table", moment.seconds, moment.number, names=names)
            blocks.append(last)
        if moment.kind == "row" and last is not None:
            last.rows.append([_cell(cell) for cell in moment.value])
        else:
            made = _block(moment, names)
            blocks.append(made)
            if made.kind == "command":
                text = web.gate.mask_text(str(made.event["data"].get("text", "")))
                made.sql = texts.coloured(text, left)
                left = max(0, left - len(text))
    return checked, blocks, False


def _block(moment: replay.Moment, names: Sequence[str]) -> Block:
    made = Block(moment.kind, moment.seconds, moment.number, code=moment.code)
    match moment.kind:
        case "command":
            made.event = moment.value
        case "table":
            made.names = names
        case "cut":
            made.text = (
                f"{moment.value['rows']} rows, {moment.value['bytes']} bytes that were sent are not "
                "recorded"
            )
        case "end":
            made.text = f"The recording ends; {moment.value.get('sent')} bytes were sent."
        case _:
            made.text = str(moment.value)
    return made


def _cell(cell: str | None) -> str | None:
    if cell is None or len(cell) <= MOST_CELL:
        return cell
    return f"{cell[:MOST_CELL]} … ({len(cell) - MOST_CELL} more characters)"


async def record(web: Web, visit: Visit) -> Response:
    """Search the record."""
    asked = {
        name: visit.query(name)
        for name in ("text", "code", "principal", "resource", "table", "session", "after", "before")
    }
    masked = {name: web.gate.mask_text(value) for name, value in asked.items()}
    if masked != asked:
        # The record has no card number, and neither should an address that browsers remember.
        return web.to(
            f"/console/record?{urlencode({name: value for name, value in masked.items() if value})}"
        )
    for name in ("after", "before"):
        if not _DAY.fullmatch(asked[name]):
            asked[name] = ""
    failures = visit.query("failures") == "1"
    masked_least = visit.query("masked", 9)
    number = int(masked_least) if masked_least.isascii() and masked_least.isdigit() else 0
    wanted = Wanted(**asked, masked=number, failures=failures)
    at = _place(visit)
    said = {name: value for name, value in asked.items() if value}
    await web.record(
        visit,
        "console.viewed",
        {"page": "record", "search": said, "masked": number, "failures": failures},
    )
    wrong = ""
    try:
        found = await web.records.search(wanted, at)
    except LedgerError as failed:
        found, wrong = Results(), str(failed)
    return web.page("record.html", visit, found=found, wanted=wanted, first=at is None, wrong=wrong)


def _place(visit: Visit) -> Place | None:
    return place_of(visit.query("at", MOST_PLACE))


def _moment(visit: Visit) -> int:
    at = visit.query("at", 20)
    return int(at) if at.isascii() and at.isdigit() else 0


PAGES = (
    Page("/console/sessions", sessions, READING),
    Page("/console/sessions/{id}", session, READING),
    Page("/console/record", record, READING),
)
