"""A server that channels are told at, in the test's own loop: it keeps what it was sent and answers as it is
told to, well or badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Answering = Callable[["Received"], "bytes | None"]


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)


def answer(status: int, body: bytes = b"", headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{headers}connection: close\r\n\r\n"
    ).encode() + body


OK = answer(200, b"ok")


@dataclass
class Receiver:
    """`answering` makes the bytes of an answer; None leaves the question without one."""

    answering: Answering = lambda received: OK
    received: list[Received] = field(default_factory=list)
    tried: int = 0
    port: int = 0
    scheme: str = "http"

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def until(self, count: int, seconds: float = 15) -> list[Received]:
        async with asyncio.timeout(seconds):
            while len(self.received) < count:
                await asyncio.sleep(0.01)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tried += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {}
            for line in head[1:]:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            got = Received(urlsplit(head[0].split(" ")[1]).path, headers, body)
            said = self.answering(got)
            self.received.append(got)
            if said is None:
                await reader.read()  # until the other side has had enough
            else:
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def receiver(
    answering: Answering | None = None, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Receiver]:
    made = Receiver(answering or (lambda received: OK), scheme="https" if tls else "http")
    server = await asyncio.start_server(made.serve, "127.0.0.1", port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None
        await asyncio.sleep(0)
