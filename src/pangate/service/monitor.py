"""The listener for whoever watches the gateway: one GET a connection, answered or refused within bounds.
It knows nothing of what it answers with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import httptools

from pangate.config import MonitorSettings
from pangate.errors import ConfigError
from pangate.proxy import sockets

log = logging.getLogger("pangate")

MAX_REQUEST_BYTES = 8192
REQUEST_SECONDS = 5.0
"""From the accepted connection to its end, whatever the other side does."""

MAX_CONNECTIONS = 32

TEXT = "text/plain; charset=utf-8"

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Answer(NamedTuple):
    """What a path answers with."""

    status: int
    body: bytes
    content_type: str = TEXT


Paths = Mapping[str, Callable[[], Answer]]


async def listen(settings: MonitorSettings, paths: Paths) -> asyncio.Server:
    """Serve `paths` where `settings` say. Raises ConfigError when nothing can listen there."""
    assert settings.port is not None
    open_now: set[_Connection] = set()
    try:
        listener = sockets.listen(settings.host, settings.port)
    except OSError as wrong:
        raise ConfigError(
            [
                f"monitor.port: cannot listen on {settings.host}:{settings.port}: "
                f"{wrong.strerror or wrong}; name an address and a free port of this machine"
            ]
        ) from None
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(paths, open_now), sock=listener
    )
    host, port = listener.getsockname()[:2]
    log.info("metrics and health at http://%s:%d", f"[{host}]" if ":" in host else host, port)
    return server


class _Connection(asyncio.Protocol):
    """One connection: httptools calls the `on_` methods while it reads."""

    def __init__(self, paths: Paths, open_now: set[_Connection]) -> None:
        self._paths = paths
        self._open_now = open_now
        self._parser = httptools.HttpRequestParser(self)
        self._size = 0
        self._url = b""
        self._answered = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._open_now) >= MAX_CONNECTIONS:
            self._transport.abort()
            return
        self._open_now.add(self)
        self._timer = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_now.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._answered:
            return
        self._size += len(data)
        try:
            if self._size <= MAX_REQUEST_BYTES:
                self._parser.feed_data(data)
            else:
                self._answer(Answer(431, b"the request is too long\n"))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._answer(Answer(400, b"this is not an HTTP request that is understood here\n"))

    # What httptools found

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_headers_complete(self) -> None:
        if self._parser.get_method() != b"GET":
            self._answer(Answer(405, b"GET is all there is\n"))
            return
        path = (httptools.parse_url(self._url).path or b"").decode("ascii", "replace")
        make = self._paths.get(path)
        if make is None:
            known = ", ".join(self._paths)
            self._answer(Answer(404, f"there is {known}\n".encode()))
            return
        try:
            answer = make()
        except Exception as wrong:
            log.error("%s cannot be answered", path, exc_info=wrong)
            answer = Answer(500, b"internal error; see the gateway's log\n")
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        if self._answered:
            return
        self._answered = True
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
            f"Content-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n"
            f"{'Allow: GET' + chr(13) + chr(10) if answer.status == 405 else ''}"
            "Cache-Control: no-store\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            "Connection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + answer.body)
        self._transport.close()
