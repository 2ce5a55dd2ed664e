"""The listener for watchers: what it answers, and that nothing it is sent costs more than its bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httptools
import pytest

from pangate.config import MonitorSettings
from pangate.errors import ConfigError
from pangate.service import monitor
from pangate.service.monitor import Answer


def broken() -> Answer:
    raise ValueError("4111111111111111")


PATHS = {
    "/metrics": lambda: Answer(200, b"x" * 100, "text/special"),
    "/broken": broken,
    "/readyz": lambda: Answer(503, b"draining\n"),
}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await monitor.listen(MonitorSettings(port=0), PATHS)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def exchange(port: int, *parts: bytes) -> bytes:
    """What comes back until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.005)
        async with asyncio.timeout(20):
            try:
                return await reader.read()
            except ConnectionError:
                return b""
    finally:
        writer.close()


def status(answer: bytes) -> int:
    """By a parser that is not ours."""
    parser = httptools.HttpResponseParser(type("Nothing", (), {})())
    parser.feed_data(answer)
    return parser.get_status_code()


async def test_an_answer(port):
    answer = await exchange(port, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status(answer) == 200
    assert body == b"x" * 100
    assert b"Content-Type: text/special\r\n" in head
    assert b"Content-Length: 100\r\n" in head
    assert b"Connection: close" in head
    assert await exchange(port, *(bytes([b]) for b in b"GET /metrics HTTP/1.0\r\n\r\n")) == answer


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /readyz HTTP/1.1\r\n\r\n", 503),
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"GET http://x/metrics HTTP/1.1\r\n\r\n", 200),
        (b"GET /../metrics HTTP/1.1\r\n\r\n", 404),
        (b"GET /%6detrics HTTP/1.1\r\n\r\n", 404),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        (b"CONNECT x:1 HTTP/1.1\r\n\r\n", 405),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
        (b"NONSENSE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 9000, 431),
        (b"GET /" + b"y" * 9000, 431),
    ],
)
async def test_requests(port, request_, expected):
    answer = await exchange(port, request_)
    assert status(answer) == expected
    assert b"4111" not in answer
    assert b"Traceback" not in answer


async def test_one_request_a_connection(port):
    answer = await exchange(port, b"GET /readyz HTTP/1.1\r\n\r\n" * 50)
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_silence_and_slowness_are_cut_off(port, monkeypatch):
    monkeypatch.setattr(monitor, "REQUEST_SECONDS", 0.3)
    began = asyncio.get_running_loop().time()
    assert await exchange(port) == b""
    assert await exchange(port, b"GET /metr") == b""
    assert await exchange(port, *[b"GET /metrics HTTP/1.1\r\n", *[b"a: b\r\n"] * 400]) == b""
    assert asyncio.get_running_loop().time() - began < 10


async def test_many_connections_are_turned_away_and_make_room_again(port):
    held = [
        await asyncio.open_connection("127.0.0.1", port) for _ in range(monitor.MAX_CONNECTIONS)
    ]
    await asyncio.sleep(0.05)
    assert await exchange(port, b"GET /readyz HTTP/1.1\r\n\r\n") == b""
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.05)
    assert status(await exchange(port, b"GET /readyz HTTP/1.1\r\n\r\n")) == 503


async def test_an_address_in_use_is_a_problem_of_the_configuration():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"monitor\.port: cannot listen on 127\.0\.0\.1"):
            await monitor.listen(MonitorSettings(port=taken.getsockname()[1]), PATHS)
