"""Connections to a resource that are logged in before anybody asks for them (resources.pool.ready)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pangate import credentials
from pangate.config import ResourceSettings
from pangate.errors import PangateError
from pangate.masking import default_scanner
from pangate.protocols import open_codec
from pangate.proxy import sockets
from pangate.proxy.pool import Connection, Pool, fits

if TYPE_CHECKING:
    from pangate.proxy import Gateway

log = logging.getLogger("pangate")


class _LoggingIn(asyncio.Protocol):
    """The connection's protocol up to the end of its login. A stream would close with its writer."""

    def __init__(self) -> None:
        self._arrived = bytearray()
        self._over = False
        self._came = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        self._came.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._came.set()

    async def more(self) -> bytes:
        """What has come. EOFError when nothing will."""
        await self._came.wait()
        data = bytes(self._arrived)
        if not data and self._over:
            raise EOFError("the resource closed the connection")
        self._arrived.clear()
        if not self._over:
            self._came.clear()
        return data

    def left(self) -> bytes:
        """What has come since. EOFError when the connection is over."""
        if self._over:
            raise EOFError("the resource closed the connection")
        return bytes(self._arrived)


class Ahead:
    """Keeps so many connections of one pool waiting, for a session like the last one that came.

    They are made one after the other, `settings.ready` at the most for each session that comes and each time
    that the pool looks through what waits: so a resource that ends them at once is not asked for ever more.
    When one fails, nothing is tried before the next of these."""

    def __init__(self, gateway: Gateway, resource: ResourceSettings, pool: Pool) -> None:
        self._gateway, self._resource, self._pool = gateway, resource, pool
        self._asked: Mapping[str, str] | None = None
        self._tries = 0
        self._working = False

    def like(self, asked: Mapping[str, str]) -> None:
        """A session came that asked for these settings."""
        self._asked = asked
        self.look()

    def look(self) -> None:
        """Make what is missing."""
        self._tries = self._resource.pool.ready
        if self._asked is not None and not self._working:
            self._working = True
            self._gateway.run_for(self._work())

    async def _work(self) -> None:
        try:
            while self._asked is not None and self._pool.place_ahead(self._asked):
                self._tries -= 1
                if not await self._one_more(self._asked) or self._tries <= 0:
                    return
        except Exception as wrong:
            log.error("internal error", exc_info=wrong)
        finally:
            self._working = False

    async def _one_more(self, asked: Mapping[str, str]) -> bool:
        pool, seconds = self._pool, self._gateway.config.limits.connect_seconds
        offered = False
        try:
            async with asyncio.timeout(seconds):
                await self._log_in(asked)
            offered = True
        except (PangateError, OSError, EOFError) as wrong:
            log.warning(
                "resource %s: no connection could be made ahead: %s",
                self._resource.name, str(wrong) or "it took too long (limits.connect_seconds)",
            )  # fmt: skip
        finally:
            if not offered:
                pool.leave()
        return offered

    async def _log_in(self, asked: Mapping[str, str]) -> None:
        resource, limits = self._resource, self._gateway.config.limits
        loop = asyncio.get_running_loop()
        secret = await credentials.read(resource, limits.credential_seconds)
        self._pool.credential_was_read(secret.digest)
        codec = open_codec(
            resource.protocol, default_scanner(), tls="none",
            max_message=limits.max_message_bytes, token_bytes=limits.token_bytes,
        )  # fmt: skip
        sock, context = await self._gateway.connect(resource, codec)
        side = _LoggingIn()
        if context is None:
            transport, _ = await loop.create_connection(lambda: side, sock=sock)
        else:
            transport = await sockets.secure(
                side, sock, context, limits.close_seconds, resource.host
            )
        try:
            login = codec.login(
                resource.user,
                resource.database,
                secret.reveal(),
                cleartext=sockets.cleartext(resource, context),
                settings=asked,
            )
            if context is not None:
                login.bind(sockets.end_point(transport))
            transport.write(login.start())
            while not login.done:
                data = await side.more()
                # in a thread: what the server asks of a password may take as long as the server likes
                if answer := await loop.run_in_executor(None, login.feed, data):
                    transport.write(answer)
            said = login.rest + side.left()
        except BaseException:
            transport.abort()
            raise
        connection = Connection(
            fits(asked, secret.digest),
            dict(login.parameters),
            login.key,
            codec.farewell,
            loop.time(),
        )
        connection.owners = 0
        connection.transport = transport
        # nothing else has run since: what comes later comes to the pool
        self._pool.offer(connection, codec, said)
