"""Accepting agents: what is watched, and what happens when the system gives no descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from types import SimpleNamespace

import pytest
import uvloop

from pangate import proxy
from pangate.config import LimitSettings
from pangate.proxy import sockets

FIRST = LimitSettings(keepalive_seconds=7, keepalive_interval_seconds=3, dead_peer_seconds=20)
SECOND = LimitSettings(keepalive_seconds=5, keepalive_interval_seconds=2, dead_peer_seconds=9)


def watched(sock: socket.socket) -> tuple[int, ...]:
    names = ("TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    options = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
    return (sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *options)


class Welcomes:
    """Stands for the gateway."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(limits=FIRST)
        self.came: asyncio.Queue[tuple[socket.socket, str]] = asyncio.Queue()

    def welcome(self, sock: socket.socket, origin: str) -> None:
        self.came.put_nowait((sock, origin))

    async def next(self) -> tuple[socket.socket, str]:
        return await asyncio.wait_for(self.came.get(), 5)


class Poor(socket.socket):
    """A listener whose system has no descriptor, so many times."""

    without = 2

    def accept(self):
        if self.without:
            self.without -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def connections(listener: socket.socket, gateway: Welcomes, *, many: int):
    accepting = proxy._Accepting(gateway, listener)
    accepting.begin()
    found = []
    try:
        for number in range(many):
            with socket.create_connection(listener.getsockname()) as agent:
                sock, origin = await gateway.next()
                with sock:
                    found.append((watched(sock), origin == "{}:{}".format(*agent.getsockname())))
            if number == 0:
                gateway.config = SimpleNamespace(limits=SECOND)
    finally:
        accepting.end()
    return found


def test_each_connection_is_watched_by_the_limits_in_force():
    with sockets.listen("127.0.0.1", 0, limits=FIRST) as listener:
        # the first one is there before anybody accepts
        first = (1, 1, 7, 3, 5, 20_000)
        with socket.create_connection(listener.getsockname()):
            listener.setblocking(True)
            accepted, _ = listener.accept()
            with accepted:
                assert watched(accepted) == first
        listener.setblocking(False)
        gateway = Welcomes()
        found = uvloop.run(connections(listener, gateway, many=3))
    second = (1, 1, 5, 2, 2, 9_000)
    assert found == [(first, True), (second, True), (second, True)]


def test_without_descriptors_it_is_said_once_and_tried_again(caplog):
    with contextlib.closing(Poor()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        with caplog.at_level(logging.ERROR, "pangate"):
            found = uvloop.run(connections(listener, Welcomes(), many=1))
    assert len(found) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "cannot accept a connection: Too many open files"
    ]


def test_what_is_no_trouble_of_the_system_ends_accepting_and_is_told():
    class Broken(socket.socket):
        calls = 0

        def accept(self):
            self.calls += 1
            raise RuntimeError("not of the system")

    async def run() -> None:
        accepting = proxy._Accepting(Welcomes(), listener)
        accepting.begin()
        with (
            socket.create_connection(listener.getsockname()),
            pytest.raises(RuntimeError, match="not of the system"),
        ):
            await asyncio.wait_for(accepting.failed, 5)
        await asyncio.sleep(0.05)
        accepting.end()

    with contextlib.closing(Broken()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        uvloop.run(run())
        assert listener.calls == 1


def test_nothing_is_accepted_past_the_end():
    async def run() -> None:
        gateway = Welcomes()
        accepting = proxy._Accepting(gateway, listener)
        accepting.begin()
        accepting.end()
        with socket.create_connection(listener.getsockname()):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(gateway.came.get(), 0.2)
            assert listener.accept()[0].close() is None

    with sockets.listen("127.0.0.1", 0) as listener:
        uvloop.run(run())
