"""Connections that are made before anybody asks: how many logins that takes at a resource that does what no
PostgreSQL does, and what becomes of what it says."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from conftest import EVERYTHING
from hostile import GREETING, Hostile, Peer, parameter
from pangate.protocols.postgres.messages import message, startup
from pangate.trial import Trial, until
from pgwire import complete, error, query, ready
from servers import session, tls

pytestmark = pytest.mark.integration

POOL = "sensitive_columns = false\npool = {{ {} }}\n"


@contextlib.contextmanager
def hostile(postgres, pool: str) -> Iterator[tuple[Trial, Logins]]:
    """A gateway and the logins at its resource."""
    with (
        Logins() as server,
        Trial(
            postgres,
            effects=EVERYTHING,
            resource=POOL.format(pool),
            tls="disable",
            port=server.port,
        ) as own,
    ):
        yield own, server


class Logins(Hostile):
    """Counts who logs in, and by what name. `later` is done to all but the first."""

    def __init__(self) -> None:
        super().__init__(self._login)
        self._lock = threading.Lock()
        self.names: list[str] = []
        """The application_name of each login."""
        self.open: list[str] = []
        """Those that are still there."""
        self.later = Peer.wait
        self.first = Peer.wait

    def _login(self, peer: Peer) -> None:
        body = peer.startup()[4:].split(b"\0")
        name = dict(zip(body[::2], body[1::2], strict=False)).get(b"application_name", b"").decode()
        with self._lock:
            self.names.append(name)
            self.open.append(name)
            first = len(self.names) == 1
        try:
            (self.first if first else self.later)(peer)
        finally:
            with self._lock:
                self.open.remove(name)


def let_in(peer: Peer) -> None:
    """And answer to every query that it was empty."""
    peer.send(GREETING)
    while True:
        if peer.message()[0] == b"Q":
            peer.send(message(b"I") + ready())


@contextlib.contextmanager
def agent(own: Trial, name: str) -> Iterator[bytes]:
    """A session that asks for this application_name; what it was told at its login."""
    with tls(own) as sock:
        login = startup({"user": "agent", "database": "payments", "application_name": name})
        sock.sendall(login + message(b"p", own.token().encode() + b"\0"))
        seen = b""
        while ready() not in seen:
            more = sock.recv(65536)
            assert more, seen
            seen += more
        yield seen


def let_in_and_end(peer: Peer) -> None:
    peer.send(GREETING)
    peer.sock.close()


def let_in_and_say_that_it_ends(peer: Peer) -> None:
    peer.send(GREETING + error("57P01", "terminating", "FATAL"))
    peer.wait()


@pytest.mark.parametrize("later", [let_in_and_end, let_in_and_say_that_it_ends])
def test_a_resource_that_ends_what_waits_is_not_asked_for_ever(postgres, trial, later):
    with hostile(postgres, "ready = 3") as (own, server):
        server.first, server.later = let_in, later
        with agent(own, "one"):
            until(lambda: len(server.names) >= 2, "another login")
            time.sleep(1.5)
            assert len(server.names) <= 1 + 3
        log = own.log.read_text()
        assert "internal error" not in log
        assert log.count("no connection could be made ahead") <= 1


def test_so_many_are_ready_whatever_they_are_like(postgres, trial):
    with (
        hostile(postgres, "ready = 2, idle_seconds = 300") as (own, server),
        contextlib.ExitStack() as stack,
    ):
        server.first = server.later = let_in
        stack.enter_context(agent(own, "a"))
        until(lambda: server.open.count("a") == 3, "two are ready")
        for name in ("b", "c", "d"):
            stack.enter_context(agent(own, name))
        time.sleep(1.0)
        assert sorted(server.open) == ["a", "a", "a", "b", "c", "d"]
        stack.enter_context(agent(own, "a"))
        until(lambda: len(server.names) == 7, "another one is made where one was taken")
        time.sleep(0.5)
        assert sorted(server.open) == ["a", "a", "a", "a", "b", "c", "d"]


def test_those_that_are_like_nobody_who_comes_make_way(postgres, trial):
    with (
        hostile(postgres, "ready = 1, idle_seconds = 1") as (own, server),
        contextlib.ExitStack() as stack,
    ):
        server.first = server.later = let_in
        stack.enter_context(agent(own, "a"))
        until(lambda: server.open.count("a") == 2, "one is ready")
        stack.enter_context(agent(own, "b"))
        until(lambda: sorted(server.open) == ["a", "b", "b"], "one that is like the last")
        time.sleep(2.5)
        assert sorted(server.open) == ["a", "b", "b"]
        assert server.names.count("b") == 2, "it is not made again and again"


def test_what_is_said_behind_the_login_is_not_lost(postgres, trial):
    def behave(peer: Peer) -> None:
        peer.send(GREETING + parameter("server_version", "77.1"))
        peer.wait()

    with hostile(postgres, "ready = 1") as (own, server):
        server.first, server.later = let_in, behave
        with agent(own, "a") as told:
            assert b"77.1" not in told
            until(lambda: len(server.names) == 2, "one is ready")
            time.sleep(0.3)
            with agent(own, "a") as told:
                assert len(server.open) <= 3
            assert b"server_version\x0077.1\0" in told


def test_what_is_said_behind_the_login_between_two_transactions(postgres, trial):
    """The connection that a session is given in the middle of its life is new."""

    def then(peer: Peer) -> None:
        peer.send(GREETING + parameter("application_name", "77.2"))
        while peer.message()[0] != b"Q":
            pass
        peer.send(complete("SET") + ready())
        peer.wait()

    gone = threading.Event()

    def first(peer: Peer) -> None:
        peer.send(GREETING)
        assert gone.wait(20)
        peer.sock.close()

    with hostile(postgres, 'mode = "transaction"') as (own, server):
        server.first, server.later = first, then
        with session(own, own.token()) as sock:
            gone.set()
            until(lambda: not server.open, "its first connection is gone")
            time.sleep(0.3)
            sock.sendall(query("begin"))
            seen = b""
            while not seen.endswith(ready()):
                more = sock.recv(65536)
                assert more, seen
                seen += more
    assert b"application_name\x0077.2\0" in seen


def test_after_a_reload_the_pool_of_before_makes_nothing_more(postgres, trial):
    with (
        hostile(postgres, "ready = 2, idle_seconds = 1") as (own, server),
        contextlib.ExitStack() as stack,
    ):
        server.first = server.later = let_in
        stack.enter_context(agent(own, "a"))
        until(lambda: server.open.count("a") == 3, "two are ready")
        text = own.config.read_text()
        own.config.write_text(text.replace("ready = 2", "ready = 0"))
        os.kill(own.pid, signal.SIGHUP)
        until(lambda: server.open == ["a"], "what waited is closed")
        time.sleep(1.5)
        assert server.names == ["a", "a", "a"]
