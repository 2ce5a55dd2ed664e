"""Connections of the control plane that are slow, silent or too many, and errors that nobody expected."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest

from console_office import URL, Office
from pangate.control import Control
from pangate.control.api import ALIVE_SECONDS
from pki import SERVER, Pki, dns

GET = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


class Answer:
    def __init__(self, head: bytes, body: bytes) -> None:
        self.status = int(head.split()[1])
        self.headers = head.lower()
        self.body = body


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            (length,) = (
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            return Answer(head, await self.reader.readexactly(length))

    async def over(self) -> bytes:
        """What comes until the other side ends it."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                return await self.reader.read()
        return b""


@dataclass
class Served:
    office: Office
    port: int
    control: Control
    clients: list[Client] = field(default_factory=list)

    async def client(self, **more: object) -> Client:
        made = Client(*await asyncio.open_connection("127.0.0.1", self.port, **more))
        self.clients.append(made)
        return made

    async def closed(self, count: int = 1) -> int:
        """How many of all were ended by the gateway, once it is `count` of them."""
        async with asyncio.timeout(10):
            while True:
                found = sum(one.reader.at_eof() for one in self.clients)
                if found >= count:
                    return found
                for one in self.clients:
                    with contextlib.suppress(TimeoutError, ConnectionError):
                        async with asyncio.timeout(0.01):
                            await one.reader.read(1 << 20)
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def served(office: Office, **limits: object) -> AsyncIterator[Served]:
    settings = msgspec.structs.replace(office.gate.config.control, **limits)
    office.gate.config = msgspec.structs.replace(office.gate.config, control=settings)
    listener = socket.create_server(("127.0.0.1", 0))
    control = Control(office.gate, settings)
    task = asyncio.create_task(control.run_on(listener))
    while not control.started:
        await asyncio.sleep(0.01)
    made = Served(office, listener.getsockname()[1], control)
    try:
        yield made
    finally:
        for one in made.clients:
            one.writer.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()
        assert not control._places.by_address
        assert not control._places.waiting
        assert not control._places.shaking


@pytest.mark.parametrize("sent", [b"", b"GET /openapi.json HTT", b"GET / HTTP/1.1\r\nA: b\r\n"])
async def test_who_does_not_ask_is_told_and_closed(office, sent):
    async with served(office, request_seconds=0.3) as at:
        client = await at.client()
        began = time.monotonic()
        await client.send(sent)
        answer = await client.answer()
        assert 0.2 < time.monotonic() - began < 5
        assert answer.status == 408
        assert "control.request_seconds" in json.loads(answer.body)["detail"]
        assert await client.over() == b""


@pytest.mark.parametrize(
    "first", [b"GET /openapi.json HTTP/1.1\r\nX: ", b"\r\n", GET + b"\r\n"],
    ids=["head", "nothing", "behind an answer"],
)  # fmt: skip
async def test_who_sends_a_byte_now_and_then_is_closed_too(office, first):
    async with served(office, request_seconds=0.4) as at:
        client = await at.client()
        await client.send(first)
        if first.startswith(GET):
            assert (await client.answer()).status == 200
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while not client.reader.at_eof() and time.monotonic() - began < 5:
                await client.send(b"\r\n" if first.endswith(b"\n") else b"x")
                await asyncio.sleep(0.05)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await client.reader.read(4096)
        assert time.monotonic() - began < 3


async def test_a_body_that_does_not_come(office, at):
    token = at.issuer.mint("ada", "pangate", 300, iss=at.url, groups=["owners"])
    head = (
        f"POST /api/delegations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Length: 100\r\n\r\n{"
    )
    async with served(office, request_seconds=0.4) as served_at:
        client = await served_at.client()
        await client.send(head.encode())
        assert (await client.answer()).status == 408
        assert await client.over() == b""
        await asyncio.sleep(0.1)
        # the form of a console waits for its body too
        client = await served_at.client()
        await client.send(b"POST /console/policy HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
        found = await client.over()
        assert b" 421 " in found or b" 408 " in found


async def test_a_request_that_comes_in_time_is_served_for_as_long_as_it_takes(
    office, at, monkeypatch
):
    async def slow(*_, **__):
        await asyncio.sleep(0.8)
        return []

    monkeypatch.setattr(office.web.desk, "requests", slow)
    token = at.issuer.mint("ada", "pangate", 300, iss=at.url, groups=["owners"])
    async with served(office, request_seconds=0.3) as served_at:
        client = await served_at.client()
        await client.send(
            f"GET /api/approvals HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b'{"approvals":[]}')
        # and goes on to the next one on the same connection
        await client.send(GET)
        assert (await client.answer()).status == 200


async def test_who_does_not_read(office):
    async with served(office, request_seconds=0.5) as at:
        client = await at.client()
        client.writer.transport.pause_reading()
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                await client.send(GET * 3000)
        async with asyncio.timeout(10):
            while at.control.server_state.connections:
                await asyncio.sleep(0.05)
        client.writer.transport.resume_reading()
        got = await client.over()
        assert got.startswith(b"HTTP/1.1 200"), "it was served until it did not read"
        assert got.count(b"HTTP/1.1 200") < 3000


async def test_one_address_has_its_part(office):
    async with served(office, max_connections_per_address=3) as at:
        first = [await at.client() for _ in range(3)]
        more = await at.client()
        answer = await more.answer()
        assert answer.status == 503
        assert (
            "3 connections already (control.max_connections_per_address)"
            in json.loads(answer.body)["detail"]
        )
        assert await more.over() == b""
        first[0].writer.close()
        async with asyncio.timeout(10):
            while at.control._places.by_address["127.0.0.1"] > 2:
                await asyncio.sleep(0.01)
        again = await at.client()
        await again.send(GET)
        assert (await again.answer()).status == 200


async def test_idle_connections_stop_nobody(office):
    """As many as there may be, and more: they make room, the oldest first."""
    async with served(office, max_connections=20, max_connections_per_address=1000) as at:
        idle = [await at.client() for _ in range(60)]
        for _ in range(5):
            client = await at.client()
            await client.send(GET)
            assert (await client.answer()).status == 200
        assert len(at.control.server_state.connections) <= 20
        assert await at.closed(45) == 45
        assert not idle[-1].reader.at_eof()
        assert idle[0].reader.at_eof()


async def test_who_is_served_makes_no_room(office, at):
    token = at.issuer.mint("ada", "pangate", 300, iss=at.url, groups=["owners"])
    watch = (
        f"GET /api/approvals/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
    async with served(office, max_connections=4, max_watches=4) as served_at:
        streams = [await served_at.client() for _ in range(4)]
        for one in streams:
            await one.send(watch)
            async with asyncio.timeout(10):
                assert b" 200 " in await one.reader.readuntil(b"\r\n\r\n")
        more = await served_at.client()
        answer = await more.answer()
        assert (answer.status, json.loads(answer.body)["error"]) == (503, "busy")
        assert "control.max_connections)" in json.loads(answer.body)["detail"]
        streams[0].writer.close()
        async with asyncio.timeout(10):
            while len(served_at.control.server_state.connections) > 3:
                await asyncio.sleep(0.01)
        again = await served_at.client()
        await again.send(GET)
        assert (await again.answer()).status == 200


async def test_one_person_watches_so_often(office, at):
    def watch(name: str) -> bytes:
        token = at.issuer.mint(name, "pangate", 300, iss=at.url, groups=["owners"])
        return (
            f"GET /api/approvals/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        ).encode()

    assert ALIVE_SECONDS > 10  # nothing is written meanwhile, so the end is heard by itself
    async with served(office, max_watches=2) as served_at:
        streams = []
        for name in ("ada", "ada", "bob"):
            client = await served_at.client()
            await client.send(watch(name))
            async with asyncio.timeout(10):
                assert b" 200 " in await client.reader.readuntil(b"\r\n\r\n")
                await client.reader.readuntil(b"watching")
            streams.append(client)
        third = await served_at.client()
        await third.send(watch("ada"))
        answer = await third.answer()
        assert answer.status == 429
        assert "control.max_watches" in json.loads(answer.body)["detail"]
        streams[0].writer.close()
        async with asyncio.timeout(10):
            while True:
                client = await served_at.client()
                await client.send(watch("ada"))
                async with asyncio.timeout(5):
                    head = await client.reader.readuntil(b"\r\n\r\n")
                if b" 200 " in head:
                    break
                await asyncio.sleep(0.05)


async def test_the_same_behind_tls(office, tmp_path):
    pki = Pki(tmp_path)
    certificate, key = pki.issue("gateway", "gateway", dns("localhost"), usage=SERVER)
    trusting = ssl.create_default_context(cafile=pki.ca)
    async with served(office, request_seconds=0.5, certificate=certificate, key=key) as at:
        # not even a handshake
        silent = await at.client()
        began = time.monotonic()
        assert await silent.over() == b""
        assert time.monotonic() - began < 5
        slow = await at.client(ssl=trusting, server_hostname="localhost")
        assert (await slow.answer()).status == 408
        client = await at.client(ssl=trusting, server_hostname="localhost")
        await client.send(GET)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("bound", ["max_connections", "max_connections_per_address"])
async def test_handshakes_are_no_more_than_connections(office, tmp_path, bound):
    """Who begins none holds a descriptor, which agents need too."""
    pki = Pki(tmp_path)
    certificate, key = pki.issue("gateway", "gateway", dns("localhost"), usage=SERVER)
    trusting = ssl.create_default_context(cafile=pki.ca)
    limits = {"request_seconds": 1.0, "certificate": certificate, "key": key, bound: 3}
    async with served(office, **limits) as at:
        silent = [await at.client() for _ in range(6)]
        assert await at.closed(3) == 3
        assert at.control._places.shaking.total() == 3
        for one in silent:
            assert await one.over() == b""
        while at.control._places.shaking:
            await asyncio.sleep(0.01)
        client = await at.client(ssl=trusting, server_hostname="localhost")
        await client.send(GET)
        assert (await client.answer()).status == 200


async def test_no_descriptor_for_a_connection(office, monkeypatch, caplog):
    """It is tried again and said once, and the listener lives on."""
    loop, left = asyncio.get_running_loop(), [3]
    real = type(loop).sock_accept

    async def short(self, sock):
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return await real(self, sock)

    monkeypatch.setattr(type(loop), "sock_accept", short)
    async with served(office) as at:
        client = await at.client()
        await client.send(GET)
        assert (await client.answer()).status == 200
    assert left == [0]
    assert caplog.text.count("Too many open files") == 1


# Errors that nobody expected


async def test_an_error_is_told_plainly_and_logged_without_its_words(
    office, at, monkeypatch, caplog
):
    async def wrong(*_, **__):
        raise ValueError("the token eyJhbGciOi is odd")

    monkeypatch.setattr(office.web.desk, "requests", wrong)
    token = at.issuer.mint("ada", "pangate", 300, iss=at.url, groups=["owners"])
    browser = office.browser(URL)
    answer = await browser.get("/api/approvals", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["error"]) == (500, "internal")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ValueError at " in caplog.text
    assert " in wrong" in caplog.text
    caplog.clear()
    approver, _ = office.signed_in("ada", "owners", roles=("approver",))
    page = await approver.get("/console/approvals")
    assert page.status_code == 500
    assert "Internal error" in page.text
    assert "ValueError" in caplog.text
    for said in (answer.text, page.text, caplog.text):
        assert "eyJhbGciOi" not in said
        assert "Traceback" not in said
