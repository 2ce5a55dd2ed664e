"""The record, read for people: the newest first, a bounded piece of the file at a time, in a thread, and
for one of them after the other, so that looking back takes little from sessions that run."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pangate.audit.events import whole
from pangate.audit.replay import Session, session_of
from pangate.errors import LedgerError

BLOCK_BYTES = 1 << 18
MOST_BYTES = 32 << 20
"""Of the record, so much is looked at for one page."""

Row = Mapping[str, Any]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is searched for; what is empty matches everything. `text` is anywhere in an event, `code` is how
    its code begins, `after` and `before` are days."""

    text: str = ""
    code: str = ""
    principal: str = ""
    resource: str = ""
    session: str = ""
    after: str = ""
    before: str = ""
    failures: bool = False

    def matches(self, event: Row) -> bool:
        """Whether an event is one of them; its text is not looked at."""
        return (
            str(event.get("code", "")).startswith(self.code)
            and self.principal.lower() in str(event.get("principal", "")).lower()
            and self.resource in ("", event.get("resource"))
            and self.session in ("", event.get("session"))
            and self.after <= str(event.get("time", ""))[: len(self.after)]
            and (not self.before or str(event.get("time", ""))[: len(self.before)] <= self.before)
            and not (self.failures and event.get("success"))
        )


@dataclass
class Page:
    """Some of what is looked for, the newest first. `on` is where the next page begins, None when there is
    no more; `oldest` is how far back it was looked."""

    rows: list[Any] = field(default_factory=list)
    on: int | None = None
    oldest: str = ""


@dataclass
class Listed:
    """A session as the record has it. `state` is "open", "ended", "broken off" when the gateway went
    before it, and empty when its end is not in what was looked at."""

    start: Row
    end: Row | None
    state: str


@dataclass
class Counts:
    """What happened by hour or day (the first letters of the time), the newest first."""

    by: int
    whole: bool = True
    masked: dict[str, Counter[str]] = field(default_factory=dict)
    statements: dict[str, Counter[str]] = field(default_factory=dict)
    sessions: Counter[str] = field(default_factory=Counter)


class Records:
    """The record in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._one = asyncio.Semaphore(1)

    async def search(self, wanted: Wanted, at: int | None = None, most: int = 50) -> Page:
        """Events, from the place `at` backwards. Raises LedgerError."""
        return await self._read(lambda: self._search(wanted, at, most))

    async def sessions(self, at: int | None = None, most: int = 50) -> Page:
        """Sessions by their beginning, as rows that are `Listed`."""
        return await self._read(lambda: self._sessions(at, most))

    async def counts(self, since: str, by: int) -> Counts:
        """Counts from the time `since` on, by the first `by` letters of the time."""
        return await self._read(lambda: self._counts(since, by))

    async def session(self, name: str) -> Session:
        """What the record has of one session. Raises LedgerError."""
        return await self._read(lambda: session_of(self._of_session(name), name))

    async def _read(self, work: Callable[[], Answer]) -> Answer:
        async with self._one:
            try:
                return await asyncio.to_thread(work)
            except OSError as wrong:
                raise LedgerError(f"{self.path} cannot be read: {wrong.strerror}") from None

    def _search(self, wanted: Wanted, at: int | None, most: int) -> Page:
        page = Page()
        needle = json.dumps(wanted.text, ensure_ascii=False)[1:-1].lower().encode()
        line = b""
        for page.on, line in self._back(at):
            if needle and needle not in line.lower():
                continue
            event = _event(line)
            if wanted.after and str(event.get("time", ""))[: len(wanted.after)] < wanted.after:
                page.on = None
                break
            if wanted.matches(event):
                page.rows.append(whole(event, self.path.parent))
                if len(page.rows) == most:
                    break
        page.on = page.on or None
        page.oldest = str(_event(line).get("time", "")) if line else ""
        return page

    def _sessions(self, at: int | None, most: int) -> Page:
        page = Page()
        ends: dict[str, Row] = {}
        running = at is None
        for page.on, line in self._back(at):
            if b'"code":"session.' not in line and b'"code":"log.start"' not in line:
                continue
            event = _event(line)
            page.oldest = str(event["time"])
            if event["code"] == "log.start":
                running = False
            elif event["code"] == "session.end":
                ends[event["session"]] = event
            elif event["code"] == "session.start":
                end = ends.pop(event["session"], None)
                state = "ended" if end else "open" if running else "" if at else "broken off"
                page.rows.append(Listed(event, end, state))
                if len(page.rows) == most:
                    break
        page.on = page.on or None
        return page

    def _counts(self, since: str, by: int) -> Counts:
        found = Counts(by)
        place = 0  # when there is nothing
        for place, line in self._back(None):  # noqa: B007 - used behind the loop
            event = _event(line)
            at = str(event.get("time", ""))
            if at < since:
                return found
            code, when = str(event.get("code", "")), at[:by]
            data = event.get("data", {})
            if code == "statement.finished":
                found.masked.setdefault(when, Counter()).update(data.get("masked", {}))
            elif code in ("statement.allowed", "statement.denied"):
                found.statements.setdefault(when, Counter())[code[10:]] += 1
            elif code == "approval.requested":
                found.statements.setdefault(when, Counter())["held"] += 1
            elif code == "session.start":
                found.sessions[when] += 1
        found.whole = not place
        return found

    def _of_session(self, name: str) -> Iterator[Row]:
        mark = f'"session":{json.dumps(name)}'.encode()
        with self.path.open("rb") as file:
            for line in file:
                if mark in line and line.endswith(b"\n"):
                    yield whole(_event(line), self.path.parent)

    def _back(self, at: int | None) -> Iterator[tuple[int, bytes]]:
        """Whole lines with the place where each begins, from the one before `at` backwards, until so many
        bytes are looked at as one page may take."""
        with self.path.open("rb") as file:
            end = file.seek(0, 2)
            at = end if at is None else min(max(at, 0), end)
            least = max(0, at - MOST_BYTES)
            kept = b""  # of a line that began in a block that is not read yet
            first = True
            while at > least:
                size = min(BLOCK_BYTES, at - least)
                at -= size
                file.seek(at)
                lines = (file.read(size) + kept).split(b"\n")
                kept = lines[0]
                place = at + sum(len(line) + 1 for line in lines)
                for line in reversed(lines[1:]):
                    place -= len(line) + 1
                    # the last piece of the file is a line that is being written, or nothing
                    if line and not first:
                        yield place, line
                    first = False
            if at == 0 and kept and not first:
                yield 0, kept


def _event(line: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise LedgerError("a line of the record is no event; `pangate audit verify` says which")
    return found
