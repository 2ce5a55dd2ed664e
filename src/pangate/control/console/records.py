"""The record, read for people: by its index (audit/index), in a thread and for one of them after the other,
so that looking back takes little from sessions that run. What is shown is read from the record itself."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pangate.audit.events import whole
from pangate.audit.index import Hit, Index, Query, Record
from pangate.audit.replay import Session, session_of
from pangate.errors import LedgerError

log = logging.getLogger("pangate")

AT_A_TIME = 20_000
"""Events that are indexed before a question is answered, at the most. The sealer's process, where there is
one, has mostly done it."""

MOST_OF_SESSION = 50_000
"""Events of one session that are looked at."""

Row = Mapping[str, Any]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is searched for; what is empty matches everything. `text` are words, `code` ends in a dot for all
    that begin with it, `after` and `before` are days."""

    text: str = ""
    code: str = ""
    principal: str = ""
    resource: str = ""
    table: str = ""
    session: str = ""
    after: str = ""
    before: str = ""
    masked: int = 0
    failures: bool = False

    def query(self, before: int | None) -> Query:
        """The same as a question to the index."""
        code = f"{self.code}*" if self.code.endswith(".") else self.code
        given = {
            "code": code,
            "principal": self.principal,
            "resource": self.resource,
            "table": self.table,
            "session": self.session,
            "success": "false" if self.failures else "",
        }
        return Query(
            {kind: [value] for kind, value in given.items() if value},
            text=self.text,
            since=_day(self.after),
            until=_day(self.before, 1),
            masked=self.masked,
            before=before,
        )


@dataclass
class Page:
    """Some of what is looked for, the newest first. `on` is where the next page begins, None when there is
    no more; `behind` is true when the newest events are not indexed yet."""

    rows: list[Any] = field(default_factory=list)
    on: int | None = None
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """An event, and the one that says how it ended, None where there is none."""

    event: Row
    ended: Row | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as the record has it. `state` is "open", "ended", or "broken off" when the gateway went
    before it."""

    start: Row
    end: Row | None
    state: str


@dataclass
class Counts:
    """What happened in each span of time, by what it is counted by. `masked` are card numbers."""

    masked: dict[str, dict[str, int]] = field(default_factory=dict)
    statements: dict[str, dict[str, int]] = field(default_factory=dict)
    sessions: dict[str, dict[str, int]] = field(default_factory=dict)
    behind: bool = False


class Records:
    """The record in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index: Index | None = None
        self._one = asyncio.Semaphore(1)

    async def search(self, wanted: Wanted, before: int | None = None, most: int = 50) -> Page:
        """Events before the sequence `before`, with how they ended. Raises LedgerError."""

        def work(index: Index) -> Page:
            page, hits = _page(index.search(wanted.query(before), most + 1), most)
            for hit in hits:
                event = self._event(hit.sequence, hit.offset)
                ended = self._event(hit.ended, hit.ended_offset) if hit.ended else None
                page.rows.append(Found(event, ended))
            return page

        return await self._read(work)

    async def sessions(self, before: int | None = None, most: int = 50) -> Page:
        """Sessions that began before the sequence `before`, as `Listed`."""

        def work(index: Index) -> Page:
            asked = Query({"code": ["session.start"]}, before=before)
            page, hits = _page(index.search(asked, most + 1), most)
            starts = [self._event(hit.sequence, hit.offset) for hit in hits]
            ends = {}
            if starts:
                names = [str(start["session"]) for start in starts]
                asked = Query({"code": ["session.end"], "session": names})
                for hit in index.search(asked, 2 * most):
                    end = self._event(hit.sequence, hit.offset)
                    ends[end["session"]] = end
            last = index.search(Query({"code": ["log.start"]}), 1)
            began = last[0].sequence if last else 0
            for start in starts:
                over = ends.get(start["session"])
                state = "ended" if over else "open" if start["sequence"] > began else "broken off"
                page.rows.append(Listed(start, over, state))
            return page

        return await self._read(work)

    async def counts(self, spans: Sequence[tuple[str, float]]) -> Counts:
        """Counts of each of `spans`, (name, when it begins), in their order; the last one is up to now."""

        def work(index: Index) -> Counts:
            found = Counts()
            firsts = [index.first_at(begins) for _, begins in spans]
            ends: list[int | None] = [*firsts[1:], None]
            for (name, _), first, end in zip(spans, firsts, ends, strict=True):
                if first == end:
                    continue
                asked = Query(after=first - 1, before=end)
                by = index.count(asked, ("resource", "verdict", "code"))
                found.masked[name] = {value: one.masked for value, one in by["resource"]}
                found.statements[name] = {value: one.events for value, one in by["verdict"]}
                began = dict(by["code"]).get("session.start")
                found.sessions[name] = {"sessions": began.events} if began else {}
            return found

        return await self._read(work)

    async def session(self, name: str) -> Session:
        """What the record has of one session. Raises LedgerError, also when that is nothing."""

        def work(index: Index) -> Session:
            hits = index.search(Query({"session": [name]}), MOST_OF_SESSION)
            return session_of(
                (self._event(hit.sequence, hit.offset) for hit in reversed(hits)), name
            )

        return await self._read(work)

    async def _read(self, work: Callable[[Index], Answer]) -> Answer:
        async with self._one:
            return await asyncio.to_thread(self._answer, work)

    def _answer(self, work: Callable[[Index], Answer]) -> Answer:
        if self._index is None:
            self._index = Index(Record(self.path), notice=log.warning)
        behind = self._index.catch_up(AT_A_TIME) == AT_A_TIME
        answer = work(self._index)
        if isinstance(answer, (Page, Counts)):
            answer.behind = behind
        return answer

    def _event(self, sequence: int, offset: int) -> Row:
        assert self._index is not None
        found = json.loads(self._index.record.line(sequence, offset))
        if not isinstance(found, dict):
            raise LedgerError(f"event {sequence} is no event; `pangate audit verify` says more")
        return whole(found, self.path.parent)


def _page(hits: list[Hit], most: int) -> tuple[Page, list[Hit]]:
    """A page for what was found, which is one more than fits when there is more."""
    return Page(on=hits[most - 1].sequence if len(hits) > most else None), hits[:most]


def _day(text: str, more: int = 0) -> float | None:
    """When a day, or the one `more` days behind it, begins; None for what is none."""
    try:
        day = datetime.date.fromisoformat(text) + datetime.timedelta(days=more)
    except (ValueError, OverflowError):
        return None
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()
