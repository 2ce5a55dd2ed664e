"""Connections to a resource that wait, logged in, for their next owner.

Everything of the last owner is taken away before a connection waits, and what cannot be taken away
ends it instead. A connection serves one session at a time, from its login to its end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Literal

from pangate.errors import PangateError
from pangate.protocols import Login, Resting
from pangate.proxy import sockets

if TYPE_CHECKING:
    from pangate.config import PoolSettings
    from pangate.protocols import Codec
    from pangate.proxy.ahead import Ahead

log = logging.getLogger("pangate")

CREDENTIAL_SECONDS = 5.0
"""How long a credential counts as the resource's after it was read: until then, what was logged in with it
may be used again without reading it."""

FRESH_SECONDS = 1.0
"""How long a connection that was made as new counts as being there without being asked."""

CLEAN_SECONDS = 30.0
"""How long a resource may take to make a connection as new."""


def fits(asked: Mapping[str, str], credential: bytes) -> Hashable:
    """What a session that asks for these settings has to have in common with a connection."""
    return tuple(sorted(asked.items())), credential


class Connection:
    """One connection to a resource that is logged in. `fits` is what a session has to have in common with
    it: settings, credential."""

    def __init__(
        self, fits: Hashable, parameters: dict[str, str], key: bytes, farewell: bytes, born: float
    ) -> None:
        self.fits = fits
        self.parameters = parameters
        self.key = key
        self.farewell = farewell
        self.born = born
        self.owners = 1
        self.since = born
        """When it began to wait."""
        self.parted: tuple[object, Hashable] | None = None
        """Which session parted with it, and of which identity that is; None when it is as new."""
        self.carried: object | None = None
        """What the codec knows of it."""
        self.transport: asyncio.Transport

    @property
    def fresh(self) -> bool:
        """Whether it was made as new a moment ago."""
        return asyncio.get_running_loop().time() - self.since < FRESH_SECONDS

    @property
    def process(self) -> int:
        """The resource's number for it."""
        return int.from_bytes(self.key[:4], "big")


class _Waiting(asyncio.Protocol):
    """The connection's protocol while it has no owner: is made as new, where `cleaning` is what does that,
    then waits."""

    def __init__(
        self, pool: Pool, connection: Connection, cleaning: Login | None, codec: Codec
    ) -> None:
        self._pool, self.connection = pool, connection
        self._cleaning: Login | None = cleaning
        self._resting: Resting | None = None
        if cleaning is None:
            self._resting = codec.resting(connection.parameters)
        else:
            self._codec = codec
        self.over = False
        """Whether the pool counts it no more."""
        self.patience: asyncio.TimerHandle | None = None
        """Gives it up when it is not made as new in time."""

    def settle(self) -> None:
        """It was made as new, or is over."""
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None

    def data_received(self, data: bytes) -> None:
        if self.over:
            return
        try:
            if self._resting is not None:
                self._resting.feed(data)
            elif self._cleaning is not None:
                self._cleaning.feed(data)
                if self._cleaning.done:
                    self.connection.parameters = dict(self._cleaning.parameters)
                    self._resting = self._codec.resting(self.connection.parameters)
                    self._cleaning = None
                    del self._codec  # it holds a session's statements
                    self._pool.cleaned(self)
        except PangateError as wrong:
            log.debug("a connection is not used again: %s", wrong)
            self._pool.drop(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.drop(self)
        self._pool.lost(self.connection)

    @property
    def usable(self) -> bool:
        """Whether it waits, and nothing of a message has come by half."""
        return (
            not self.over
            and self._resting is not None
            and self._resting.between_messages
            and not self.connection.transport.is_closing()
            and not sockets.peer_closed(self.connection.transport)
        )


class _Ending(asyncio.Protocol):
    """The connection's protocol when nobody wants to hear more of it."""

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self._pool, self._connection = pool, connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self._connection)


class Pool:
    """The connections to one resource: those that sessions own, and those that wait.

    `take` gives one that waits, or the place of a new one; each is given back once, by `rest` when it may
    have another owner and by `leave` when it is closed. When `settings.max_connections` are open, `take`
    waits its turn, first come, first served."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._waiting: dict[Hashable, list[_Waiting]] = {}
        self._cleaning: set[_Waiting] = set()
        self._open = 0
        self._asking: deque[tuple[Hashable, asyncio.Future[Connection | None]]] = deque()
        self._ending: set[Connection] = set()
        """Connections that were told to close, without an owner, and have not yet."""
        self._all_lost: asyncio.Future[None] | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False
        self._kept: Hashable = None
        """What `settings.ready` connections that wait longer than others fit."""
        self.credential = b""
        self._credential_until = 0.0
        self.ahead: Ahead | None = None
        """Who makes connections before they are asked for (settings.ready)."""
        self.reused = 0
        """How often a connection had a further owner."""

    @property
    def knows_credential(self) -> bool:
        """Whether the resource's credential was read a moment ago."""
        return asyncio.get_running_loop().time() < self._credential_until

    def credential_was_read(self, digest: bytes) -> None:
        """`digest` stands for the credential that is the resource's now."""
        self.credential = digest
        self._credential_until = asyncio.get_running_loop().time() + CREDENTIAL_SECONDS

    @property
    def open(self) -> int:
        """Connections that are open or being opened."""
        return self._open

    @property
    def waiting(self) -> int:
        """Connections that have no owner."""
        return sum(map(len, self._waiting.values())) + len(self._cleaning)

    @property
    def asking(self) -> int:
        """Sessions that wait for a connection."""
        return len(self._asking)

    async def take(self, fits: Hashable, rather: Connection | None = None) -> Connection | None:
        """A connection that fits, `rather` if it waits, or None for the place of a new one."""
        if not self._asking and (found := self._find(fits, rather)) is not False:
            return found or None
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._asking.append((fits, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._return(turn.result())
            else:
                self._asking = deque(entry for entry in self._asking if entry[1] is not turn)
            raise

    def take_fresh(self, fits: Hashable) -> Connection | None:
        """One that fits and was made as new a moment ago, when one waits and nobody has to wait his turn. It
        is read from as before: its owner takes over before the event loop goes on."""
        line = self._waiting.get(fits)
        if not line or self._asking or not line[-1].connection.fresh or not line[-1].usable:
            return None
        return self._give(fits, line)

    def place_ahead(self, asked: Mapping[str, str]) -> bool:
        """Take the place of a connection that nobody asks for yet: when fewer than `settings.ready` wait that
        fit, fewer than that wait at all that nobody has had, and there is room without ending another."""
        settings = self._settings
        like = self._kept = fits(asked, self.credential)
        if self._closed or self._asking or self._open >= settings.max_connections:
            return False
        cleaning = sum(waiting.connection.fits == like for waiting in self._cleaning)
        if len(self._waiting.get(like, ())) + cleaning >= settings.ready:
            return False
        untouched = sum(waiting.connection.owners == 0 for waiting in self._without_owner())
        if untouched >= settings.ready:
            return False
        self._open += 1
        return True

    def offer(self, connection: Connection, codec: Codec, said: bytes) -> None:
        """In the place that `place_ahead` took: a connection that has logged in and waits for its first
        owner. `said` is what the resource has said behind the login."""
        connection.since = asyncio.get_running_loop().time()
        waiting = _Waiting(self, connection, None, codec)
        connection.transport.set_protocol(waiting)
        self._waiting.setdefault(connection.fits, []).append(waiting)
        if self._closed:
            self.drop(waiting)
            return
        if said:
            waiting.data_received(said)
        self._sweep_later()
        self._serve()

    def leave(self) -> None:
        """A connection that was taken is closed."""
        self._open -= 1
        self._serve()

    def rest(self, connection: Connection, codec: Codec) -> bool:
        """Take a connection back whose owner has gone, `codec` being at rest. False when it is not used
        again; then the caller closes it and says `leave` when that is done."""
        now = asyncio.get_running_loop().time()
        settings = self._settings
        if (
            self._closed
            or not settings.idle_seconds
            or now - connection.born > settings.max_seconds
        ):
            return False
        cleaning = codec.clean(connection.parameters, connection.key)
        connection.parted = connection.carried = None
        waiting = _Waiting(self, connection, cleaning, codec)
        self._cleaning.add(waiting)
        connection.since = now
        connection.transport.set_protocol(waiting)
        connection.transport.resume_reading()
        connection.transport.write(cleaning.start())
        loop = asyncio.get_running_loop()
        waiting.patience = loop.call_later(CLEAN_SECONDS, self._give_up, waiting)
        self._sweep_later()
        return True

    def lend(self, connection: Connection, codec: Codec) -> bool:
        """Take a connection back as it is, from a session that goes on without it and has left what `codec`
        knows of. False when it is not used again; then the caller says `end`."""
        now = asyncio.get_running_loop().time()
        if self._closed or now - connection.born > self._settings.max_seconds:
            return False
        connection.since = now
        waiting = _Waiting(self, connection, None, codec)
        connection.transport.set_protocol(waiting)
        connection.transport.resume_reading()
        self._waiting.setdefault(connection.fits, []).append(waiting)
        self._sweep_later()
        self._serve()
        return True

    def renew(self, connection: Connection, mark: object, codec: Codec) -> None:
        """Make a connection as new that waits as the session of `mark`, which is over, has left it."""
        line = self._waiting.get(connection.fits, [])
        for waiting in line:
            if waiting.connection is connection and (connection.parted or (None,))[0] is mark:
                if not waiting.usable:
                    self.drop(waiting)
                    return
                line.remove(waiting)
                if not line:
                    del self._waiting[connection.fits]
                waiting.over = True
                connection.transport.pause_reading()
                if not self.rest(connection, codec):
                    self.end(connection)
                return

    def end(self, connection: Connection) -> None:
        """Close a connection that was taken, of which its session wants to hear nothing more."""
        self._ending.add(connection)
        connection.transport.set_protocol(_Ending(self, connection))
        connection.transport.write(connection.farewell)
        connection.transport.close()
        self.leave()

    def lost(self, connection: Connection) -> None:
        """A connection without an owner is closed."""
        self._ending.discard(connection)
        if self._all_lost is not None and not self._ending and not self._all_lost.done():
            self._all_lost.set_result(None)

    async def gone(self) -> None:
        """Until connections that were told to close have."""
        if self._ending:
            self._all_lost = asyncio.get_running_loop().create_future()
            await self._all_lost

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting in self._cleaning:
            self.drop(waiting)

    def cleaned(self, waiting: _Waiting) -> None:
        """It is as new."""
        waiting.settle()
        self._cleaning.discard(waiting)
        connection = waiting.connection
        connection.since = asyncio.get_running_loop().time()
        self._waiting.setdefault(connection.fits, []).append(waiting)
        self._serve()

    def drop(self, waiting: _Waiting) -> None:
        """A connection without an owner is not used again."""
        if waiting.over:
            return
        waiting.over = True
        waiting.settle()
        self._cleaning.discard(waiting)
        line = self._waiting.get(waiting.connection.fits, [])
        if waiting in line:
            line.remove(waiting)
            if not line:
                del self._waiting[waiting.connection.fits]
        transport = waiting.connection.transport
        if not transport.is_closing():
            self._ending.add(waiting.connection)
            transport.write(waiting.connection.farewell)
            transport.close()
        self._open -= 1
        self._serve()

    def close(self) -> None:
        """Use nothing again from now on."""
        self._closed = True
        if self._sweeping:
            self._sweeping.cancel()
        for waiting in self._without_owner():
            self.drop(waiting)

    def _without_owner(self) -> list[_Waiting]:
        return [*self._cleaning, *(one for line in self._waiting.values() for one in line)]

    def _find(
        self, fits: Hashable, rather: Connection | None = None
    ) -> Connection | Literal[False] | None:
        """A connection, None for the place of a new one, False when there is neither."""
        line = self._waiting.get(fits)
        if rather is not None and line is not None and line[-1].connection is not rather:
            # it is put where it is found first
            line.sort(key=lambda waiting: waiting.connection is rather)
        while line:
            waiting = line[-1]  # the one that waited least: the others may end
            if not waiting.usable:
                self.drop(waiting)
                line = self._waiting.get(fits)
                continue
            found = self._give(fits, line)
            found.transport.pause_reading()
            return found
        if self._open >= self._settings.max_connections and not self._make_room():
            return False
        self._open += 1
        return None

    def _give(self, fits: Hashable, line: list[_Waiting]) -> Connection:
        """The last of those that wait and fit."""
        waiting = line.pop()
        if not line:
            del self._waiting[fits]
        waiting.over = True
        connection = waiting.connection
        connection.owners += 1
        self.reused += connection.owners > 1
        return connection

    def _make_room(self) -> bool:
        """End the connection that has waited longest for somebody it fits."""
        lines = [line[0] for line in self._waiting.values()]
        if not lines:
            return False
        oldest = min(lines, key=lambda waiting: waiting.connection.since)
        asking, self._asking = self._asking, deque()  # the room is for who makes it
        self.drop(oldest)
        self._asking = asking
        return True

    def _serve(self) -> None:
        """Give whoever has waited longest what there is."""
        while self._asking:
            fits, turn = self._asking[0]
            if turn.done():
                self._asking.popleft()
                continue
            found = self._find(fits)
            if found is False:
                return
            self._asking.popleft()
            turn.set_result(found)

    def _return(self, given: Connection | None) -> None:
        """Take back what was given to somebody who had stopped asking."""
        if given is not None:
            given.transport.write(given.farewell)
            given.transport.close()
        self.leave()

    def _sweep_later(self) -> None:
        if self._sweeping is None:
            delay = min(self._settings.idle_seconds, self._settings.max_seconds)
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(delay / 2 + 0.1, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        now = asyncio.get_running_loop().time()
        settings = self._settings
        keep = self._waiting.get(self._kept, [])[-settings.ready :] if settings.ready else []
        for waiting in self._without_owner():
            connection = waiting.connection
            idle, age = now - connection.since, now - connection.born
            if age >= settings.max_seconds or (
                idle >= settings.idle_seconds and waiting not in keep
            ):
                self.drop(waiting)
        if self.ahead is not None:
            self.ahead.look()
        if self.ahead is not None or self._without_owner():
            self._sweep_later()
