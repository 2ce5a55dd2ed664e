"""Connections from agents in all ways that they begin and end, for what has to be the same after many of
them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct

from pangate.protocols.postgres.messages import message, query, ssl_request, startup
from pangate.trial import Trial
from pgwire import ready


class Guest:
    """One connection from an agent, and how it goes."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, token: str) -> None:
        self._where, self._context, self._token = (host, port), context, token

    async def go(self, way: str) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, self._where)
            if way == "junk":
                await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\n\r\n")
                while await loop.sock_recv(sock, 4096):
                    pass
            elif way == "half a hello":
                await loop.sock_sendall(sock, ssl_request() + b"\x16\x03\x01\x02\0")
            elif way == "a reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif way != "nothing":
                await self._inside(sock.dup(), way)

    async def _inside(self, sock: socket.socket, way: str) -> None:
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=self._context, server_hostname="localhost"
        )
        try:
            database = "nowhere" if way == "no grant" else "payments"
            token = "guess" if way == "no token" else self._token
            if way != "no startup":
                writer.write(startup({"user": "agent", "database": database}))
            if way not in ("no startup", "no password"):
                writer.write(message(b"p", token.encode() + b"\0"))
            if way == "gone in the login":
                await writer.drain()
                writer.transport.abort()
                return
            if way in ("a session", "gone in a statement", "an error", "an end"):
                await reader.readuntil(ready())
            if way == "a session":
                writer.write(query("select 1"))
                await reader.readuntil(ready())
                writer.write(message(b"X"))
            if way == "gone in a statement":
                writer.write(query("select pg_sleep(60)"))
                await writer.drain()
                await asyncio.sleep(0.02)
            elif way == "an error":
                writer.write(b"!\0\0\0\4")
            if way in ("no startup", "no password", "gone in a statement", "an end"):
                writer.transport.abort()
            else:
                while await reader.read(4096):
                    pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            assert way not in ("a session", "an end"), way
        finally:
            writer.close()


WAYS = (
    "a session", "an end", "gone in a statement", "an error", "gone in the login", "no password", "no token",
    "no grant", "no startup", "junk", "half a hello", "a reset", "nothing",
)  # fmt: skip


async def guests(guest: Guest, count: int, at_once: int = 10) -> None:
    """`count` connections, of every way the same."""
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with gate:
            await guest.go(WAYS[number % len(WAYS)])

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


def context(trial: Trial) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(trial.ca))
    made.set_alpn_protocols(["postgresql"])
    return made
