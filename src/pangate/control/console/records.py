"""The record, read for people: by its index (audit/index), in a thread and for one of them after the other,
so that looking back takes little from sessions that run. What is shown is read from the record itself. With
several workers each has a record of its own; they are shown as one."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pangate.audit.events import whole
from pangate.audit.index import Hit, Index, Query, Record
from pangate.audit.replay import Session, session_of
from pangate.audit.several import FIRST, Place, Several, by_time, joined, number_of, sources
from pangate.errors import LedgerError

log = logging.getLogger("pangate")

AT_A_TIME = 20_000
"""Events that are indexed before a question is answered, at the most. The sealer's process, where there is
one, has mostly done it."""

MOST_OF_SESSION = 50_000
"""Events of one session that are looked at."""

COUNTED_BY = ("network", "resource", "role", "principal")
"""What masked card numbers are counted by."""

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

    def query(self) -> Query:
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
        )


@dataclass
class Page:
    """Some of what is looked for, the newest first. `on` is where the next page begins, None when there is
    no more; `behind` is true when the newest events are not indexed yet."""

    rows: list[Any] = field(default_factory=list)
    on: Place | None = None
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """An event, and the one that says how it ended, None where there is none. `source` is the record that has
    it, empty where there is one only."""

    event: Row
    ended: Row | None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as the record has it. `state` is "open", "ended", or "broken off" when the gateway went
    before it."""

    start: Row
    end: Row | None
    state: str
    source: str = ""


@dataclass
class Counts:
    """What happened in each span of time, by what it is counted by. `masked` are card numbers."""

    masked: dict[str, dict[str, int]] = field(default_factory=dict)
    statements: dict[str, dict[str, int]] = field(default_factory=dict)
    sessions: dict[str, dict[str, int]] = field(default_factory=dict)
    behind: bool = False


class _Hit(NamedTuple):
    """An event that was found, and where."""

    source: str
    found_by: Index
    hit: Hit
    event: Row


class Records:
    """The records of the gateway that writes to `path`. `workers` is how many of its workers there are now: a
    session that another one had is over."""

    def __init__(self, path: Path, workers: int = 1) -> None:
        self.path = path
        self._workers = workers
        self._indexes: dict[str, Index] = {}
        self._one = asyncio.Semaphore(1)

    async def search(self, wanted: Wanted, before: Place | None = None, most: int = 50) -> Page:
        """Events before a place, with how they ended. Raises LedgerError."""

        def work(several: Several) -> Page:
            found, on = _newest(several, wanted.query(), before, most)
            page = Page(on=on)
            for source, index, hit, event in found:
                ended = _event(index, hit.ended, hit.ended_offset) if hit.ended else None
                page.rows.append(Found(event, ended, "" if several.alone else source))
            return page

        return await self._read(work)

    async def sessions(self, before: Place | None = None, most: int = 50) -> Page:
        """Sessions that began before a place, as `Listed`."""

        def work(several: Several) -> Page:
            asked = Query({"code": ["session.start"]})
            found, on = _newest(several, asked, before, most)
            page = Page(on=on)
            ends, began = {}, {}
            for source, index in several.indexes.items():
                names = [str(one.event["session"]) for one in found if one.source == source]
                if not names:
                    continue
                asked = Query({"code": ["session.end"], "session": names})
                for hit in index.search(asked, 2 * most):
                    end = _event(index, hit.sequence, hit.offset)
                    ends[source, end["session"]] = end
                last = index.search(Query({"code": ["log.start"]}), 1)
                began[source] = last[0].sequence if last else 0
            for source, _, _, start in found:
                over = ends.get((source, start["session"]))
                running = self._runs(source) and start["sequence"] > began[source]
                state = "ended" if over else "open" if running else "broken off"
                page.rows.append(Listed(start, over, state, "" if several.alone else source))
            return page

        return await self._read(work)

    async def counts(self, spans: Sequence[tuple[str, float]], by: str = "resource") -> Counts:
        """Counts of each of `spans`, (name, when it begins), in their order; the last one is up to now. Card
        numbers are counted `by` one of COUNTED_BY."""

        def work(several: Several) -> Counts:
            found = Counts()
            kinds = tuple(dict.fromkeys((by, "verdict", "code")))
            firsts = {
                index: [index.first_at(begins) for _, begins in spans]
                for index in several.indexes.values()
            }
            for place, (name, _) in enumerate(spans):
                counted = []
                for index, first in firsts.items():
                    end = first[place + 1] if place + 1 < len(first) else None
                    if first[place] != end:
                        counted.append(
                            index.count(Query(after=first[place] - 1, before=end), kinds)
                        )
                if not counted:
                    continue
                sums = joined(counted, kinds)
                found.masked[name] = {value: one.masked for value, one in sums[by]}
                found.statements[name] = {value: one.events for value, one in sums["verdict"]}
                began = dict(sums["code"]).get("session.start")
                found.sessions[name] = {"sessions": began.events} if began else {}
            return found

        return await self._read(work)

    async def session(self, name: str) -> tuple[Session, Path]:
        """What the record has of one session, and the directory of the record that has it. Raises
        LedgerError, also when that is nothing."""

        def work(several: Several) -> tuple[Session, Path]:
            # requests for approval stand in the first process's record too, under the session's name
            hits = several.search(Query({"session": [name]}), MOST_OF_SESSION)
            source = max(hits, key=lambda one: (len(hits[one]) > 0, one != FIRST, len(hits[one])))
            index = several.indexes[source]
            events = (_event(index, hit.sequence, hit.offset) for hit in reversed(hits[source]))
            return session_of(events, name), index.record.directory

        return await self._read(work)

    def _runs(self, source: str) -> bool:
        """Whether a process that writes to this record is one of those that there are now."""
        number = number_of(source)
        return number <= self._workers if number else self._workers == 1

    async def _read(self, work: Callable[[Several], Answer]) -> Answer:
        async with self._one:
            return await asyncio.to_thread(self._answer, work)

    def _answer(self, work: Callable[[Several], Answer]) -> Answer:
        for source, path in sources(self.path):
            if source not in self._indexes:
                self._indexes[source] = Index(Record(path), notice=log.warning)
        each = max(1, AT_A_TIME // len(self._indexes))
        behind = [index.catch_up(each) == each for index in self._indexes.values()]
        answer = work(Several(self._indexes))
        if isinstance(answer, (Page, Counts)):
            answer.behind = any(behind)
        return answer


def _newest(
    several: Several, asked: Query, before: Place | None, most: int
) -> tuple[list[_Hit], Place | None]:
    """The newest events of all records before a place, and the place behind them when there are more."""
    streams = [
        _events(source, several.indexes[source], hits)
        for source, hits in several.search(asked, most + 1, before).items()
    ]
    merged = by_time(streams, lambda one: str(one.event.get("time", "")), newest_first=True)
    found = list(islice(merged, most + 1))
    if len(found) <= most:
        return found, None
    del found[most:]
    reached = {
        source: index.position().sequence + 1 if before is None else before.get(source, 1)
        for source, index in several.indexes.items()
    }
    for one in found:
        reached[one.source] = one.hit.sequence
    return found, reached


def _events(source: str, index: Index, hits: Sequence[Hit]) -> Iterator[_Hit]:
    for hit in hits:
        yield _Hit(source, index, hit, _event(index, hit.sequence, hit.offset))


def _event(index: Index, sequence: int, offset: int) -> Row:
    found = json.loads(index.record.line(sequence, offset))
    if not isinstance(found, dict):
        raise LedgerError(f"event {sequence} is no event; `pangate audit verify` says more")
    return whole(found, index.record.directory)


def _day(text: str, more: int = 0) -> float | None:
    """When a day, or the one `more` days behind it, begins; None for what is none."""
    try:
        day = datetime.date.fromisoformat(text) + datetime.timedelta(days=more)
    except (ValueError, OverflowError):
        return None
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()
