"""State in one SQLite file, for one gateway. A single thread of its own has the connection, so the event
loop never waits for a disk; a step is committed, and on the disk, before it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from pangate.errors import StateFailed
from pangate.store import Decision, Delegation, Notice, Request, Review, State

T = TypeVar("T")

MIGRATIONS: Sequence[str] = (
    """
create table requests (
    id text primary key, state text not null, expires real not null, created real not null,
    settled real, outcome text not null, shape text not null, data blob not null
) strict;
create index requests_by_state on requests (state, created);
create index requests_by_shape on requests (shape, created);
create table decisions (
    request text not null references requests (id) on delete cascade, person text not null,
    authority text not null, time real not null, data blob not null,
    primary key (request, person), unique (request, authority)
) strict;
create table delegations (
    id text primary key, giver text not null, ends real not null, revoked real, data blob not null
) strict;
create table reviews (
    request text primary key, time real not null, finding text not null, data blob not null
) strict;
""",
    """
create table notices (
    number integer primary key autoincrement, id text not null unique, channel text not null,
    request text not null references requests (id) on delete cascade, code text not null,
    time real not null, due real not null, attempts integer not null, failure text not null,
    body blob not null
) strict;
create index notices_in_order on notices (channel, request, number);
create index notices_by_due on notices (channel, due);
create table places (
    channel text not null, request text not null references requests (id) on delete cascade,
    place text not null, primary key (channel, request)
) strict;
create table seen (
    channel text not null, message text not null, until real not null,
    primary key (channel, message)
) strict;
create index seen_by_until on seen (until);
""",
)
"""Each takes the file from the version that is its index to the next. One that was released is never
changed."""

_LOOSE = 0o077


class SqliteStore:
    """See `pangate.store.Store`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pangate-state")
        self._db: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Open the file, or make it."""
        store = cls(path)
        try:
            await store._run(store._open)
        except BaseException:
            store._thread.shutdown()
            raise
        return store

    def _open(self) -> None:
        try:
            # never, not for a moment, readable by others
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as wrong:
            raise StateFailed(f"cannot open {self._path}: {wrong.strerror} (state.path)") from None
        try:
            mode = os.fstat(descriptor).st_mode
        finally:
            os.close(descriptor)
        if mode & _LOOSE:
            raise StateFailed(
                f"{self._path} has mode {mode & 0o777:04o}, so others may read or change who approved "
                "what; run: chmod 0600 on it (state.path)"
            )
        db = sqlite3.connect(self._path, timeout=1.0, isolation_level=None)
        try:
            # The lock lasts as long as the process: no second gateway, and it is gone with kill -9.
            db.execute("pragma locking_mode = exclusive")
            db.execute("pragma journal_mode = wal")
            db.execute("pragma synchronous = full")
            db.execute("pragma foreign_keys = on")
            db.execute("begin immediate")
            _migrate(db, self._path)
            db.execute("commit")
        except sqlite3.OperationalError as wrong:
            db.close()
            if "locked" in str(wrong):
                raise StateFailed(
                    f"{self._path} is in use by another gateway; give each its own (state.path)"
                ) from None
            raise
        except BaseException:
            db.close()
            raise
        self._db = db

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        def guarded() -> T:
            try:
                return work(*arguments)
            except sqlite3.Error as wrong:
                self._roll_back()
                raise StateFailed(f"{self._path}: {wrong} (state.path)") from None

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)
        except RuntimeError as wrong:
            if "shutdown" not in str(wrong):
                raise
            raise StateFailed(f"{self._path} is closed; the gateway is stopping") from None

    def _roll_back(self) -> None:
        if self._db is not None and self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("rollback")

    @property
    def _open_db(self) -> sqlite3.Connection:
        if self._db is None:
            raise StateFailed(f"{self._path} is closed; the gateway is stopping")
        return self._db

    def _change(self, statement: str, *values: object) -> int:
        """Run one statement and commit it; how many rows it changed."""
        return self._open_db.execute(statement, values).rowcount

    def _change_and_tell(self, notices: Sequence[Notice], statement: str, *values: object) -> int:
        """The same, together with what is to be told of it; nothing of both when it changes no row."""
        if not notices:
            return self._change(statement, *values)
        db = self._open_db
        db.execute("begin immediate")
        changed = self._change(statement, *values)
        if changed:
            self._tell(notices)
        db.execute("commit" if changed else "rollback")
        return changed

    def _tell(self, notices: Sequence[Notice]) -> None:
        for one in notices:
            self._change(
                "insert into notices (id, channel, request, code, time, due, attempts, failure, body) "
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                one.id,
                one.channel,
                one.request,
                one.code,
                one.time,
                one.due,
                one.attempts,
                one.failure,
                one.body,
            )

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self._open_db.execute(statement, values).fetchall()

    # --- requests -----------------------------------------------------------------------------------

    async def add(self, request: Request, notices: Sequence[Notice] = ()) -> None:
        """Keep a new request."""
        await self._run(
            self._change_and_tell,
            notices,
            "insert into requests values (?, ?, ?, ?, ?, ?, ?, ?)",
            request.id,
            request.state,
            request.expires,
            request.created,
            request.settled,
            request.outcome,
            request.shape,
            _encoded(request),
        )

    async def get(self, request: str) -> Request | None:
        """The request of this id."""
        found = await self._run(self._rows, f"{_REQUESTS} where id = ?", request)
        return _request(found[0]) if found else None

    async def find(self, states: Sequence[State] = (), *, most: int = 100) -> list[Request]:
        """The newest in these states."""
        where = f" where state in ({_marks(states)})" if states else ""
        text = f"{_REQUESTS}{where} order by created desc, id limit ?"
        return [_request(row) for row in await self._run(self._rows, text, *states, most)]

    async def alike(self, shape: str, *, most: int = 10) -> list[Request]:
        """The newest of this shape."""
        text = f"{_REQUESTS} where shape = ? order by created desc, id limit ?"
        return [_request(row) for row in await self._run(self._rows, text, shape, most)]

    async def note(
        self,
        request: str,
        *,
        in_transaction: bool,
        expires: float,
        notices: Sequence[Notice] = (),
    ) -> None:
        """Add what became known."""

        def change() -> None:
            db = self._open_db
            db.execute("begin immediate")
            found = self._rows(f"{_REQUESTS} where id = ?", request)
            if found:
                made = replace(_request(found[0]), in_transaction=in_transaction, expires=expires)
                self._change(
                    "update requests set data = ?, expires = ? where id = ?",
                    _encoded(made),
                    made.expires,
                    request,
                )
                self._tell(notices)
            db.execute("commit")

        await self._run(change)

    async def decide(
        self,
        decision: Decision,
        state: State,
        outcome: str,
        notices: Sequence[Notice] = (),
    ) -> bool:
        """Keep a decision, once."""

        def change() -> bool:
            db = self._open_db
            db.execute("begin immediate")
            settled = None if state in ("pending", "approved") else decision.time
            moved = self._change(
                "update requests set state = ?, outcome = ?, settled = ? "
                "where id = ? and state = 'pending' and expires > ?",
                state,
                outcome,
                settled,
                decision.request,
                decision.time,
            )
            if moved:
                moved = self._change(
                    "insert or ignore into decisions values (?, ?, ?, ?, ?)",
                    decision.request,
                    decision.person,
                    decision.authority,
                    decision.time,
                    _encoded(decision),
                )
            if moved:
                self._tell(notices)
            db.execute("commit" if moved else "rollback")
            return bool(moved)

        return await self._run(change)

    async def decisions(self, request: str) -> list[Decision]:
        """In order."""
        text = "select data from decisions where request = ? order by time, rowid"
        found = await self._run(self._rows, text, request)
        return [msgspec.json.decode(row[0], type=Decision) for row in found]

    async def settle(
        self,
        request: str,
        states: Sequence[State],
        state: State,
        outcome: str,
        now: float,
        notices: Sequence[Notice] = (),
    ) -> bool:
        """From one of `states` to `state`."""
        text = (
            "update requests set state = ?, outcome = ?, settled = ? "  # noqa: S608 - question marks
            f"where id = ? and state in ({_marks(states)})"
        )

        def change() -> bool:
            db = self._open_db
            db.execute("begin immediate")
            changed = self._change(text, state, outcome, now, request, *states)
            if changed:
                self._change(
                    "delete from notices where request = ? and code = 'approval.executed'", request
                )
                self._tell(notices)
            db.execute("commit")
            return bool(changed)

        return await self._run(change)

    async def consume(self, request: str, now: float, notices: Sequence[Notice] = ()) -> bool:
        """Once."""
        text = (
            "update requests set state = 'executed', settled = ? "
            "where id = ? and state = 'approved' and expires > ?"
        )
        return bool(await self._run(self._change_and_tell, notices, text, now, request, now))

    # --- delegations and reviews --------------------------------------------------------------------

    async def add_delegation(self, delegation: Delegation) -> None:
        """Keep a new one."""
        await self._run(
            self._change,
            "insert into delegations values (?, ?, ?, ?, ?)",
            delegation.id,
            delegation.giver,
            delegation.ends,
            delegation.revoked,
            _encoded(delegation),
        )

    async def revoke_delegation(self, delegation: str, giver: str, now: float) -> bool:
        """Once."""
        text = (
            "update delegations set revoked = ? "
            "where id = ? and giver = ? and revoked is null and ends > ?"
        )
        return bool(await self._run(self._change, text, now, delegation, giver, now))

    async def delegations(self, now: float) -> list[Delegation]:
        """Those that are not over."""
        text = "select data from delegations where ends > ? and revoked is null order by ends, id"
        found = await self._run(self._rows, text, now)
        return [msgspec.json.decode(row[0], type=Delegation) for row in found]

    async def add_review(self, review: Review) -> None:
        """Ask for it."""
        await self._run(
            self._change,
            "insert or ignore into reviews values (?, ?, ?, ?)",
            review.request,
            review.time,
            review.finding,
            _encoded(review),
        )

    async def review(
        self, request: str, finding: str, reviewer: str, note: str, now: float
    ) -> bool:
        """Once."""

        def change() -> bool:
            db = self._open_db
            db.execute("begin immediate")
            found = self._rows(
                "select data from reviews where request = ? and finding = ''", request
            )
            if found:
                made = replace(
                    msgspec.json.decode(found[0][0], type=Review),
                    finding=cast(Any, finding),
                    reviewer=reviewer,
                    note=note,
                    reviewed=now,
                )
                self._change(
                    "update reviews set finding = ?, data = ? where request = ?",
                    finding,
                    _encoded(made),
                    request,
                )
            db.execute("commit")
            return bool(found)

        return await self._run(change)

    async def reviews(self, *, due_only: bool = True) -> list[Review]:
        """The oldest first."""
        text = "select data from reviews where finding = '' or not ? order by time"
        found = await self._run(self._rows, text, due_only)
        return [msgspec.json.decode(row[0], type=Review) for row in found]

    # --- what channels are told ---------------------------------------------------------------------

    async def due(self, channel: str, now: float, *, most: int) -> list[tuple[Notice, str]]:
        """The first of each request."""
        text = (
            "select id, channel, request, code, time, body, due, attempts, failure, coalesce((select place "
            "from places where channel = n.channel and request = n.request), '') from notices as n "
            "where channel = ? and due <= ? and not exists (select 1 from notices as before where "
            "before.channel = n.channel and before.request = n.request and before.number < n.number) "
            "order by due, number limit ?"
        )
        return [
            (_notice(row), row[9]) for row in await self._run(self._rows, text, channel, now, most)
        ]

    async def next_due(self, channel: str) -> float | None:
        """Of what is the first of its request."""
        text = (
            "select min(due) from notices as n where channel = ? and not exists (select 1 from notices "
            "as before where before.channel = n.channel and before.request = n.request "
            "and before.number < n.number)"
        )
        found = await self._run(self._rows, text, channel)
        return cast(float | None, found[0][0])

    async def told(self, notice: Notice, place: str) -> None:
        """In one step."""

        def change() -> None:
            db = self._open_db
            db.execute("begin immediate")
            self._change("delete from notices where id = ?", notice.id)
            if place:
                self._place(notice.channel, notice.request, place)
            db.execute("commit")

        await self._run(change)

    def _place(self, channel: str, request: str, place: str) -> None:
        # whose request is forgotten by now has no place
        self._change(
            "insert into places select ?, id, ? from requests where id = ? "
            "on conflict (channel, request) do update set place = excluded.place",
            channel,
            place,
            request,
        )

    async def set_place(self, channel: str, request: str, place: str) -> None:
        """Over what was there."""
        await self._run(self._place, channel, request, place)

    async def postpone(self, notice: str, due: float, failure: str) -> None:
        """One attempt more."""
        text = "update notices set due = ?, failure = ?, attempts = attempts + 1 where id = ?"
        await self._run(self._change, text, due, failure, notice)

    async def beyond(self, channel: str, *, most: int, at_once: int) -> list[Notice]:
        """The oldest first."""
        text = (
            "select id, channel, request, code, time, body, due, attempts, failure from notices "
            "where channel = ? and number <= (select number from notices "
            "where channel = ? order by number desc limit 1 offset ?) order by number limit ?"
        )
        found = await self._run(self._rows, text, channel, channel, most, at_once)
        return [_notice(row) for row in found]

    async def kept_for_others(self, names: Sequence[str]) -> dict[str, int]:
        """By channel."""
        text = "select channel, count(*) from notices group by channel order by channel"
        found = await self._run(self._rows, text)
        return {row[0]: row[1] for row in found if row[0] not in names}

    async def keep_channels(self, names: Sequence[str]) -> int:
        """All of what others were to be told."""
        text = f"delete from notices where channel not in ({_marks(names)})"  # noqa: S608 - question marks
        return await self._run(self._change, text, *names)

    async def first_seen(self, channel: str, message: str, now: float, until: float) -> bool:
        """Once."""

        def change() -> int:
            db = self._open_db
            db.execute("begin immediate")
            self._change("delete from seen where until < ?", now)
            changed = self._change(
                "insert or ignore into seen values (?, ?, ?)", channel, message, until
            )
            db.execute("commit")
            return changed

        return bool(await self._run(change))

    async def forget(self, before: float) -> int:
        """Drop what is old."""

        def change() -> int:
            db = self._open_db
            db.execute("begin immediate")
            gone = self._change(
                "delete from requests where settled < ? "
                "and id not in (select request from reviews where finding = '')",
                before,
            )
            self._change(
                "delete from reviews where finding <> '' "
                "and request not in (select id from requests)"
            )
            self._change("delete from delegations where ends < ?", before)
            self._change("delete from seen where until < ?", before)
            db.execute("commit")
            return gone

        return await self._run(change)

    async def close(self) -> None:
        """Let go of the file."""
        if self._db is None:
            return

        def close() -> None:
            db, self._db = self._open_db, None
            db.close()

        try:
            await self._run(close)
        finally:
            self._thread.shutdown()


_REQUESTS = "select data, state, expires, settled, outcome from requests"


def _request(row: tuple[Any, ...]) -> Request:
    data, state, expires, settled, outcome = row
    found = msgspec.json.decode(data, type=Request)
    return replace(found, state=state, expires=expires, settled=settled, outcome=outcome)


def _notice(row: Sequence[Any]) -> Notice:
    return Notice(
        id=row[0],
        channel=row[1],
        request=row[2],
        code=row[3],
        time=row[4],
        body=row[5],
        due=row[6],
        attempts=row[7],
        failure=row[8],
    )


def _encoded(thing: Request | Decision | Delegation | Review) -> bytes:
    return msgspec.json.encode(asdict(thing))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the newest version, within the transaction that is open."""
    (version,) = db.execute("pragma user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StateFailed(
            f"{path} was written by a newer pangate (version {version}, this one knows "
            f"{len(MIGRATIONS)}); run that one (state.path)"
        )
    for step in MIGRATIONS[version:]:
        for statement in step.split(";"):
            if statement.strip():
                db.execute(statement)
    db.execute(f"pragma user_version = {len(MIGRATIONS)}")
