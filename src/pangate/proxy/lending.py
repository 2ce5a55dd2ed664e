"""Sessions that have one connection after another (`pool.mode = "transaction"`).

A session parts with its connection when nothing is under way and nothing of it is left there, and takes one
again, its last if that is free, when something is to be sent. What its statements may leave pins it: then it
keeps its connection to the end, as every session does in the other mode."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pangate.errors import PangateError
from pangate.model import Verdict
from pangate.protocols import Login

if TYPE_CHECKING:
    from pangate.gate import Admission
    from pangate.proxy.pool import Connection, Pool
    from pangate.proxy.session import Session


class Lending:
    """The connections of one session, from its login on."""

    def __init__(self, session: Session, admission: Admission, pool: Pool) -> None:
        self._session = session
        self._admission = admission
        self.pool = pool
        self._identity = admission.principal.name, admission.grant.role
        self._mark = object()
        self.last: Connection | None = None
        """The connection that it had last, or has."""
        self._recorded: Connection | None = None
        self._pinned = False
        self._task: asyncio.Task[None] | None = None

    # --- a connection is taken --------------------------------------------------------------------

    def renewal(self, connection: Connection, own: Mapping[str, str]) -> Login:
        """What makes `connection` this session's, with further settings."""
        codec = self._session.codec
        if connection.parted is None:  # it is as new
            connection.carried = codec.carry()
            return codec.adopt(
                connection.parameters, connection.key, own, look=not connection.fresh
            )
        mark, identity = connection.parted
        if mark is self._mark and connection is self.last:
            return codec.unchanged(connection.parameters, connection.key)
        login, connection.carried = codec.renew(
            connection.parameters,
            connection.key,
            own,
            connection.carried,
            kin=identity == self._identity,
        )
        return login

    def begin(self, connection: Connection, login: Login) -> None:
        """The login is over, and `connection` is the first one."""
        connection.parameters = dict(login.parameters)
        if connection.carried is None:
            connection.carried = self._session.codec.carry()
        self.last = self._recorded = connection
        self._session.codec.taken(connection.carried)

    def fetch(self, verdict: Verdict | None) -> None:
        """Take a connection, then go on: with the statement that `verdict` is about, or with what waits."""
        self._task = asyncio.get_running_loop().create_task(self._fetch(verdict))

    @property
    def fetching(self) -> bool:
        """Whether it waits for a connection."""
        return self._task is not None

    async def _fetch(self, verdict: Verdict | None) -> None:
        session = self._session
        try:
            login = await session.reach(self._admission)
            side = session.backend
            assert side is not None
            connection = side.connection
            assert connection is not None
            if connection.carried is None:
                connection.carried = session.codec.carry()
            connection.parameters = dict(login.parameters)
            self.last = connection
            session.backend_key = login.key
            if connection is not self._recorded:
                self._recorded = connection
                session.gate.event(
                    "session.connected",
                    True,
                    {"backend": connection.process, "owner": connection.owners},
                )
            session.arrived(connection.carried, login, verdict)
            self._task = None
            self.look()
        except PangateError as wrong:
            self._task = None
            session.fail(wrong)
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            self._task = None
            session.crashed(wrong)

    def stop(self) -> None:
        """The session is over."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    # --- and given back ---------------------------------------------------------------------------

    def look(self) -> None:
        """Something was said on either side: see whether the session may part with its connection."""
        session = self._session
        if self.fetching or session.closed or session.backend is None:
            return
        codec = session.codec
        free = codec.lendable
        if codec.pinned and not self._pinned:
            self._pinned = True
            session.gate.event("session.pinned", True, {"detail": codec.pinned})
        if free and session.sent_everything:
            self.give()

    def leave(self) -> None:
        """The session is over: its last connection is made as new, though it waits for others by now."""
        if self.last is not None and self._session.backend is None:
            self.pool.renew(self.last, self._mark, self._session.codec)

    def give(self) -> bool:
        """Part with the connection. False when it stays with the session."""
        session, pool = self._session, self.pool
        side = session.backend
        if side is None or side.in_login or not session.codec.lendable:
            return False
        connection = side.connection
        if connection is None or side.gone or side.full or side.transport.is_closing():
            return False
        connection.parted = self._mark, self._identity
        if session.spoilt or not pool.lend(connection, session.codec):
            pool.end(connection)
            session.spoilt = False  # it was the connection that was
        session.parted()
        session.codec.part()
        return True
