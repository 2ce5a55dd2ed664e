"""The two sides of a session: a transport to each peer, why nothing is read from it for now, and who hears
what comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from pangate._wire import Poll, Wire
from pangate.errors import ResourceUnavailable
from pangate.logs import SESSION
from pangate.protocols import Login
from pangate.proxy import sockets

if TYPE_CHECKING:
    from pangate.proxy.pool import Connection
    from pangate.proxy.session import Session

LOGIN, OTHER_SIDE, CODEC, TURN, LEARN, RECORD, DISK = 1, 2, 4, 8, 16, 32, 64
"""Why nothing is read from a peer for now: its login is looked at; the other side takes nothing more; the
codec has enough; others have their turn first; more has to be known of the resource; what was sent is not
recorded yet; the record of what it sent is not on the disk yet. Reading goes on when no reason is left."""

WRITE_LIMITS = 256 << 10, 64 << 10
"""Bytes that wait for a peer when the other side is held, and when it is released."""


class Peer(asyncio.Protocol):
    """One side of a session: hands everything to the session."""

    transport: asyncio.Transport

    def __init__(self, session: Session) -> None:
        self.session = session
        self.full = False
        """Whether the peer takes nothing more for now."""
        self.gone = False
        self.wire: Wire | None = None
        """The socket under the transport, from the beginning of the short way on."""
        self._held = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their base class
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(*WRITE_LIMITS)

    def hold(self, reason: int) -> None:
        """Read nothing more from the peer until `reason` is gone."""
        if not self._held:
            (self.wire or self.transport).pause_reading()
        self._held |= reason

    def release(self, reason: int) -> None:
        """`reason` is gone."""
        if self._held:
            self._held &= ~reason
            if not self._held:
                (self.wire or self.transport).resume_reading()

    def read_by(self, poll: Poll | None) -> None:
        """From now on `poll` reads what comes, for the session's short way."""
        if poll is not None and self.wire is not None:
            poll.watch(self.wire, self.session.pump, bool(self._held))

    @property
    def failure(self) -> OSError | None:
        """What a read failed with that the transport did not see."""
        return self.wire.failure if self.wire is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if self.wire is not None:
            self.wire.unwatch()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False


class AgentSide(Peer):
    """The agent's side."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        # a function of the session's own, because it is called for every request
        self.data_received = session.pump.from_agent  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.session.codec.certificate = sockets.peer_certificate(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.session.agent_lost(exc or self.failure)
        self.session.rest()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.session.backend:
            self.session.backend.hold(OTHER_SIDE)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.session.backend:
            self.session.backend.release(OTHER_SIDE)


class BackendSide(Peer):
    """The resource's side: first its login, then the session's bytes."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._arrived = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self.in_login = True
        self.connection: Connection | None = None
        """What the pool knows of it, from the end of the login on."""
        self.reused = False
        self.forsaken = False
        """Whether its place in the pool is given up already."""

    def take_over(self, connection: Connection, *, paused: bool = True) -> None:
        """The connection had another owner before. `paused` is whether nothing is read from it now."""
        self.connection, self.transport, self.reused = connection, connection.transport, True
        self.transport.set_write_buffer_limits(*WRITE_LIMITS)
        self._held = LOGIN if paused else 0
        self.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        if self.reused:
            # the connection was made in the name of another session
            SESSION.set(self.session.gate.id)
        if not self.in_login:
            self.session.from_backend(data)
            return
        # a step at a time, and nothing past the login before the codec is ready for it
        self.hold(LOGIN)
        self._arrived += data
        self._wake()

    async def log_in(self, login: Login) -> None:
        """Go through `login`; nothing is read from the resource afterwards until `begin`. Raises
        ResourceUnavailable and ProtocolError."""
        loop = asyncio.get_running_loop()
        if begin := login.start():
            self.transport.write(begin)
        while not login.done:
            if not self._arrived and not self.gone:
                self._waiter = loop.create_future()
                self.release(LOGIN)
                await self._waiter
            if not self._arrived:
                raise ResourceUnavailable("the backend closed the connection")
            data = bytes(self._arrived)
            self._arrived.clear()
            if self.reused:
                login.feed(data)
                continue
            # in a thread: what the server asks of a password may take as long as the server likes
            if answer := await loop.run_in_executor(None, login.feed, data):
                self.transport.write(answer)
        self.hold(LOGIN)

    def begin(self) -> None:
        """From now on, what comes is the session's."""
        self.in_login = False
        self.release(LOGIN)
        if self.gone:
            self.session.backend_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.forsaken:
            self.session.leave_pool()
        if self.in_login:
            self._wake()
        else:
            self.session.backend_lost(exc or self.failure)
        self.session.rest()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.session.agent.hold(OTHER_SIDE)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.session.agent.release(OTHER_SIDE)
