"""The connections of the control plane: who is slow, silent or one of too many makes room for others.

The server itself (uvicorn) ends those that were answered and stay idle. What it does not bound is bounded
here: how long a TLS handshake, a request and the reading of an answer may take, how many connections there
are, and how many of one address."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pangate.auth.oidc import network_of
from pangate.config.approvals import ControlSettings
from pangate.logs import Episode

log = logging.getLogger("pangate")

REFUSED_SECONDS = 0.1
"""Between two attempts to accept when there is no descriptor for a connection."""


class Places:
    """All connections of one listener, and how many each address has."""

    def __init__(self, settings: ControlSettings) -> None:
        self.settings = settings
        self.by_address: Counter[str] = Counter()
        self.waiting: dict[Connection, None] = {}
        """Those of which no request is under way, the one that waits longest first."""
        self.shaking: Counter[str] = Counter()
        """How many of each address are not through their TLS handshake yet."""

    def protocol(self, *args: Any, **more: Any) -> Connection:
        """One connection, for the server."""
        return Connection(self, *args, **more)


class Accepting:
    """Accepts on `listener` until it is closed, which is the server's to say. Of connections that are not
    through their TLS handshake there are no more than of others; beyond that they are closed at once, since
    nothing can be said to them."""

    def __init__(
        self,
        places: Places,
        listener: socket.socket,
        context: ssl.SSLContext | None,
        connection: Callable[[], asyncio.Protocol],
        shutdown_seconds: float,
    ) -> None:
        self._places, self._context, self._connection = places, context, connection
        self._shutdown_seconds = shutdown_seconds
        listener.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()
        self._own = asyncio.get_running_loop().create_task(self._accept(listener))

    def close(self) -> None:
        """Accept no more."""
        self._own.cancel()
        for task in self._tasks:
            task.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        trouble = Episode()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as wrong:
                if trouble.begins():
                    log.error("the control plane cannot accept a connection: %s", wrong.strerror)
                await asyncio.sleep(REFUSED_SECONDS)
                continue
            task = loop.create_task(self._welcome(sock, network_of(str(address[0]))))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _welcome(self, sock: socket.socket, address: str) -> None:
        shaking, settings = self._places.shaking, self._places.settings
        most = settings.max_connections_per_address
        if shaking[address] >= most or shaking.total() >= settings.max_connections:
            sock.close()
            return
        secure = self._context is not None
        shaking[address] += 1
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connection,
                sock,
                ssl=self._context,
                ssl_handshake_timeout=settings.request_seconds if secure else None,
                ssl_shutdown_timeout=self._shutdown_seconds if secure else None,
            )
        except (OSError, EOFError):
            sock.close()  # it spoke no TLS, or went away
        except asyncio.CancelledError:
            sock.close()
            raise
        finally:
            shaking[address] -= 1
            if not shaking[address]:
                del shaking[address]


class Connection(HttpToolsProtocol):
    """One connection. From its beginning, and then from the first byte of each further request, it has
    `control.request_seconds` until that request is there, its body too."""

    def __init__(self, places: Places, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._places = places
        self._address = ""
        self._coming: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        places = self._places
        self._address = network_of(self.client[0] if self.client else "unknown")
        places.by_address[self._address] += 1
        most = places.settings.max_connections_per_address
        if places.by_address[self._address] > most:
            self._refuse(
                "503 Service Unavailable",
                "busy",
                f"your address has {most} connections already (control.max_connections_per_address)",
            )
            return
        places.waiting[self] = None
        if len(self.connections) > places.settings.max_connections:
            # who has asked for nothing makes room, the one that waits longest
            first = next(iter(places.waiting))
            del places.waiting[first]
            if first is self:
                most = places.settings.max_connections
                self._refuse(
                    "503 Service Unavailable",
                    "busy",
                    f"there are {most} connections already (control.max_connections)",
                )
                return
            first.transport.abort()
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        places = self._places
        places.waiting.pop(self, None)
        places.by_address[self._address] -= 1
        if places.by_address[self._address] <= 0:
            del places.by_address[self._address]
        self._here()
        self._read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._coming is None:
            self._wait_for_request()
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            seconds = self._places.settings.request_seconds
            self._unread = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read()

    # the parser

    def on_message_complete(self) -> None:
        self._here()
        if not self.cycle.response_complete:
            self._places.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline:
            self._places.waiting[self] = None

    # inside

    def _wait_for_request(self) -> None:
        seconds = self._places.settings.request_seconds
        self._coming = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._coming = None
        if self.transport.is_closing():
            return
        if self.pipeline:
            # it is the one before that is not answered yet, and this one is not read meanwhile
            self._wait_for_request()
            return
        seconds = self._places.settings.request_seconds
        self._refuse(
            "408 Request Timeout",
            "too slow",
            f"a request is to come within {seconds:g} seconds (control.request_seconds)",
        )

    def _refuse(self, status: str, kind: str, detail: str) -> None:
        """Say why, where nothing else is being said, and close."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = json.dumps({"error": kind, "detail": detail}).encode()
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        if cycle is not None and not cycle.response_complete:
            # whoever waits for the body hears that there is none to come
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _here(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            self._coming = None

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
