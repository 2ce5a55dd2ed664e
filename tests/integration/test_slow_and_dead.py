"""Peers that are slow, silent or gone, and a server that restarts: nothing grows, what is over ends in
bounded time, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from conftest import EVERYTHING
from pangate.config import LimitSettings
from pangate.embedded import EmbeddedPostgres
from pangate.protocols.postgres.messages import message, ssl_request
from pangate.proxy import sockets
from pangate.trial import Trial, until
from pgwire import bind, execute, parse, query, ready
from servers import (
    LOGIN,
    assert_clean,
    backends,
    descriptors,
    events,
    fatal,
    messages,
    rest,
    session,
    tls,
)

pytestmark = pytest.mark.integration

PAN = "4111111111111111"
MANY = 20_000
"""More statements than answers may be outstanding (10,000)."""

BIG = f"select '{PAN}' || repeat('x', 1000) from generate_series(1, %d)"


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def own(postgres, trial):
    # what waits for an owner ends soon
    pool = "pool = { idle_seconds = 0.5 }"
    limits = "auth_failures_per_minute = 100000"
    with Trial(postgres, effects=EVERYTHING, limits=limits, resource=pool) as running:
        yield running
        assert "Traceback" not in running.log.read_text()
        assert "internal error" not in running.log.read_text()


@pytest.fixture(scope="module")
def strict(postgres, trial):
    """A gateway that gives up on the dead soon."""
    limits = """
        keepalive_seconds = 1
        keepalive_interval_seconds = 1
        dead_peer_seconds = 2
        close_seconds = 0.5
    """
    pool = "pool = { idle_seconds = 0.5 }"
    with Trial(
        postgres, effects=EVERYTHING, limits=textwrap.dedent(limits), resource=pool
    ) as running:
        yield running
        assert "Traceback" not in running.log.read_text()


def serve(sock: ssl.SSLSocket) -> bytes:
    """Run a small statement; all of its answer, or all that came before the end."""
    seen = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        sock.sendall(query("select count(*) from generate_series(1, 1000)"))
        while not seen.endswith(ready()):
            data = sock.recv(65536)
            if not data:
                break
            seen += data
    return seen


# --- slow ------------------------------------------------------------------------------------------


def test_a_gigabyte_for_an_agent_that_reads_late(own):
    """It waits at the server, not in the gateway; and comes, masked and whole, when it is read."""
    token = own.token()
    own.psql(token, BIG % 10_000)
    before = memory(own.pid)
    with session(own, token) as sock:
        sock.sendall(query(BIG % 1_000_000))
        time.sleep(1.5)
        assert memory(own.pid) - before < 8 << 20
        assert own.psql(token, "select 1").returncode == 0
        size, tail, found = 0, b"", False
        while not tail.endswith(ready()):
            data = sock.recv(1 << 20)
            assert data, tail
            found = found or PAN.encode() in tail + data
            size += len(data)
            tail = (tail + data)[-64:]
        assert b"SELECT 1000000" in tail
        assert size > 10**9
        assert not found
        assert memory(own.pid) - before < 8 << 20


def test_copy_to_a_server_that_reads_late(own):
    """It waits with the agent, and arrives whole."""
    token = own.token()
    with session(own, token) as sock:
        sock.sendall(query("select pg_backend_pid()"))
        pid = int(next(body for kind, body in messages(sock.recv(4096)) if kind == b"D")[6:])
        sock.sendall(query("begin; copy notes from stdin"))
        assert b"G" in sock.recv(4096)
        before = memory(own.pid)
        line = message(b"d", b"1\t" + b"x" * 60_000 + b"\n")
        left = 2000
        done = threading.Event()

        def send() -> None:
            sock.sendall(line * left + message(b"c"))
            done.set()

        os.kill(pid, signal.SIGSTOP)
        try:
            sender = threading.Thread(target=send)
            sender.start()
            assert not done.wait(1.5)
            assert memory(own.pid) - before < 8 << 20
            assert own.psql(token, "select 1").returncode == 0
        finally:
            os.kill(pid, signal.SIGCONT)
        sender.join(timeout=60)
        seen = b""
        while not seen.endswith(ready("T")):
            seen += sock.recv(4096)
        assert b"COPY 2000" in seen
        sock.sendall(query("rollback"))


def test_many_statements_whose_answers_are_not_read(own):
    """The agent is slowed down, as by the server itself; when it reads, every answer is there."""
    token = own.token()
    before = memory(own.pid)
    with session(own, token) as sock:
        flood = parse("s", "select $1::text") + (bind("", "s", [b"x" * 30]) + execute()) * MANY
        flood += message(b"S")
        at = 0
        sock.setblocking(False)
        seen = b""
        stalled = time.monotonic()
        while time.monotonic() - stalled < 2 and at < len(flood):
            with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
                at += sock.send(flood[at : at + 65536])
                stalled = time.monotonic()
                continue
            time.sleep(0.01)
        assert memory(own.pid) - before < 48 << 20
        assert own.psql(token, "select 1").returncode == 0
        counted = 0
        while not seen.endswith(ready()):
            readable, writable, _ = select.select([sock], [sock] if at < len(flood) else [], [], 20)
            assert readable or writable
            with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if writable:
                    at += sock.send(flood[at : at + 65536])
            with contextlib.suppress(ssl.SSLWantReadError):
                data = sock.recv(1 << 18)
                assert data, seen
                counted += (seen[-8:] + data).count(b"SELECT 1\0") - seen[-8:].count(b"SELECT 1\0")
                seen = data if len(data) > 16 else seen[-16:] + data
        assert counted == MANY
    until(lambda: memory(own.pid) - before < 96 << 20, "memory for others")


async def test_a_driver_that_sends_many_rows_at_once(own):
    """asyncpg writes a Bind and an Execute for each before it reads."""
    import asyncpg

    context = ssl.create_default_context(cafile=str(own.ca))
    agent = await asyncpg.connect(
        host=own.host, port=own.port, user="agent", password=own.token(), database="payments",
        ssl=context,
    )  # fmt: skip
    async with asyncio.timeout(100):
        async with agent.transaction():
            await agent.executemany(
                "insert into notes values ($1, $2)", [(-7, "x") for _ in range(MANY)]
            )
            assert await agent.fetchval("select count(*) from notes where id = -7") == MANY
            await agent.execute("delete from notes where id = -7")
    await agent.close()


def test_a_server_that_dies_while_its_agent_does_not_read(own):
    """Nothing is read from the server then, so its end is seen when the agent goes on."""
    with session(own, own.token()) as sock:
        sock.sendall(query("select pg_backend_pid()"))
        pid = next(body for kind, body in messages(sock.recv(4096)) if kind == b"D")[6:].decode()
        sock.sendall(query(BIG % 1_000_000))
        time.sleep(0.5)
        own.postgres.psql(f"select pg_terminate_backend({pid})")
        time.sleep(0.2)
        answer = rest(sock)
    assert answer.count(b"SFATAL\0") == 1
    assert_clean(answer[-2000:])
    until(lambda: backends(own) == 0, "the end of the session at the server")


def test_an_agent_that_does_not_read_and_whose_time_is_up(postgres, trial):
    """Its last error waits for limits.close_seconds and no longer."""
    limits = "close_seconds = 0.5"
    with Trial(
        postgres, effects=EVERYTHING, limits=limits, role="limits = { max_seconds = 1.0 }"
    ) as own:
        own.psql(own.token(), "select 1")
        used = descriptors(own)
        with session(own, own.token()) as sock:
            sock.sendall(query(BIG % 10_000_000))
            until(lambda: "max_seconds" in own.audit.read_text(), "the end of the session")
            until(lambda: descriptors(own) <= used, "the end of its connections", 10)
            until(lambda: backends(own) == 0, "the end of the statement", 10)
            assert sock.fileno() >= 0


def test_what_runs_when_its_agent_goes_is_cancelled(own):
    with session(own, own.token()) as sock:
        sock.sendall(query("select pg_sleep(600)"))
        until(lambda: backends(own) == 1, "the session")
        time.sleep(0.2)
    until(lambda: backends(own) == 0, "the end of the statement", 5)
    ended = [e for e in events(own) if e["code"] == "session.end"]
    assert ended[-1]["data"]["unfinished"] == [1]


# --- silent ----------------------------------------------------------------------------------------


def test_each_wait_has_a_name(postgres, trial):
    limits = "idle_seconds = 1\nlogin_seconds = 3\ndrain_seconds = 0.3"
    with Trial(postgres, effects=EVERYTHING, limits=limits) as own:
        with socket.create_connection((own.host, own.port), timeout=10) as sock:
            sock.sendall(ssl_request())
            assert sock.recv(1) == b"S"
            sock.sendall(b"\x16\x03\x01\x02\0\x01\0\x01\xfc")  # a ClientHello begins
            until(lambda: "limits.login_seconds" in own.audit.read_text(), "the end of it")
        with session(own, own.token()) as sock:
            began = time.monotonic()
            sock.sendall(query("select 1"))
            answer = rest(sock)
            assert time.monotonic() - began < 8
            assert "limits.idle_seconds" in fatal(answer)["M"]
        with session(own, own.token()) as sock:
            sock.sendall(query("select 1"))
            os.kill(own.pid, signal.SIGTERM)
            assert "limits.drain_seconds" in fatal(rest(sock))["M"]


def test_bytes_keep_a_session_from_being_idle(postgres, trial):
    with (
        Trial(postgres, effects=EVERYTHING, limits="idle_seconds = 2") as own,
        session(own, own.token()) as sock,
    ):
        for _ in range(8):
            time.sleep(0.4)
            sock.sendall(query("select 1"))
            assert serve(sock).endswith(ready())


@pytest.mark.parametrize("stage", ["hello", "startup", "password", "idle", "asked"])
@pytest.mark.parametrize("how", ["shut", "reset", "junk"])
def test_an_agent_that_breaks_its_connection(own, stage, how):
    """Half-closed, reset, or with bytes under TLS that are none: the session ends, and nothing is left."""
    used = descriptors(own)
    with socket.create_connection((own.host, own.port), timeout=20) as plain:
        plain.sendall(ssl_request())
        assert plain.recv(1) == b"S"
        context = ssl.create_default_context(cafile=str(own.ca))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inside = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def go(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    data = plain.recv(65536)
                    assert data
                    incoming.write(data)
                finally:
                    plain.sendall(outgoing.read())

        if stage != "hello":
            go(inside.do_handshake)
            go(lambda: inside.write(LOGIN))
        if stage in ("password", "idle", "asked"):
            go(lambda: inside.read(65536))
            go(lambda: inside.write(message(b"p", own.token().encode() + b"\0")))
        if stage in ("idle", "asked"):
            seen = b""
            while not seen.endswith(ready()):
                seen += go(lambda: inside.read(65536))
        if stage == "asked":
            go(lambda: inside.write(query("select pg_sleep(600)")))
            time.sleep(0.1)
        match how:
            case "shut":
                plain.shutdown(socket.SHUT_WR)
            case "junk":
                plain.sendall(b"\x17\x03\x03\0\x20" + b"\0" * 32)
            case _:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                plain.close()
        if how != "reset":
            plain.settimeout(8)
            with contextlib.suppress(ConnectionError):
                while plain.recv(65536):
                    pass
    until(lambda: descriptors(own) <= used, "the end of all connections")
    until(lambda: backends(own) == 0, "the end of the session at the server", 5)


# --- gone ------------------------------------------------------------------------------------------


def test_an_agent_that_takes_nothing_is_dead_in_the_end(strict):
    strict.psql(strict.token(), "select 1")
    used = descriptors(strict)
    with session(strict, strict.token()) as sock:
        sock.sendall(query(BIG % 10_000_000))
        until(lambda: "limits.dead_peer_seconds" in strict.audit.read_text(), "the end of it", 15)
        until(lambda: descriptors(strict) <= used, "the end of its connections", 5)
        assert sock.fileno() >= 0
    last = [e for e in events(strict) if e["code"] == "session.end"][-1]
    assert last["data"]["reason"] == (
        "the agent did not answer for 2 seconds (limits.dead_peer_seconds)"
    )


def test_both_sides_are_watched():
    """Whatever connects to a resource or accepts an agent goes through `watch`."""
    limits = LimitSettings(keepalive_seconds=7, keepalive_interval_seconds=3, dead_peer_seconds=20)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as sock:
        sock.connect(listener.getsockname())
        sockets.watch(sock, limits)
        option = {
            name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        }
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert option == {
        "TCP_KEEPIDLE": 7, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 5, "TCP_USER_TIMEOUT": 20_000,
    }  # fmt: skip


CABLES = itertools.count()


@pytest.fixture
def far():
    """A network of its own behind a cable that can be pulled: (its name, our address, its address)."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2 for a network namespace")
    number = next(CABLES)
    name, cable = f"pangate{os.getpid()}n{number}", f"pg{os.getpid() % 10**6}n{number}"
    net = f"10.213.{(os.getpid() + number) % 250}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as wrong:
        pytest.skip(f"network namespaces cannot be made here: {wrong.stderr.decode().strip()}")
    try:
        ip("link", "add", cable, "type", "veth", "peer", "name", "far0", "netns", name)
        ip("addr", "add", f"{net}.1/24", "dev", cable)
        ip("link", "set", cable, "up")
        ip("-n", name, "addr", "add", f"{net}.2/24", "dev", "far0")
        ip("-n", name, "link", "set", "far0", "up")
        yield name, f"{net}.1", f"{net}.2"
    finally:
        for words in (("link", "del", cable), ("netns", "del", name)):
            subprocess.run(["ip", *words], check=False, capture_output=True)


def far_program(name: str, text: str, *words: str) -> subprocess.Popen[str]:
    """A program that runs in the network `name`; it says "ready" when it is."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, "-c", textwrap.dedent(text), *words],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


AGENT = """
    import socket, ssl, sys, time
    from pangate.protocols.postgres.messages import message
    from pgwire import query, ready
    from servers import LOGIN
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["postgresql"])
    plain = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    sock = context.wrap_socket(plain)
    sock.sendall(LOGIN + message(b"p", sys.argv[3].encode() + b"\\0"))
    seen = b""
    while not seen.endswith(ready()):
        seen += sock.recv(65536)
    if sys.argv[4]:
        sock.sendall(query(sys.argv[4]))
        time.sleep(0.2)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("runs", ["", "select pg_sleep(1)", BIG % 10_000_000])
def test_an_agent_whose_cable_is_pulled(strict, far, runs):
    """No FIN and no RST: idle, with an answer that is not acknowledged, and in a long result."""
    name, here, _ = far
    text = strict.config.read_text()
    strict.stop_gateway()
    strict.config.write_text(
        text.replace('host = "127.0.0.1"\nport = 0', f'host = "{here}"\nport = 0')
    )
    try:
        strict.start_gateway()
        used = descriptors(strict)
        agent = far_program(name, AGENT, here, str(strict.port), strict.token(), runs)
        try:
            assert backends(strict) == 1
            subprocess.run(["ip", "-n", name, "link", "set", "far0", "down"], check=True)
            began = time.monotonic()
            until(lambda: backends(strict) == 0, "the end of the session at the server", 20)
            assert time.monotonic() - began < 12
            # one may be the connection to the issuer of tokens
            until(lambda: descriptors(strict) <= used + 1, "the end of all connections")
            reasons = [e["data"]["reason"] for e in events(strict) if e["code"] == "session.end"]
            assert "dead_peer_seconds" in reasons[-1]
        finally:
            agent.kill()
            agent.communicate()
    finally:
        strict.stop_gateway()
        strict.config.write_text(text)
        strict.start_gateway()


LISTENER = """
    import socket, sys
    with socket.create_server((sys.argv[1], 0)) as listener:
        print("ready", flush=True)
        print(listener.getsockname()[1], flush=True)
        sock, _ = listener.accept()
        sys.stdin.read()
"""


@pytest.mark.parametrize("sends", [b"", b"x"])
async def test_a_resource_whose_cable_is_pulled(far, sends):
    """The gateway's way to a resource: silent, and with a command that is not acknowledged."""
    name, _, there = far
    limits = LimitSettings(keepalive_seconds=1, keepalive_interval_seconds=1, dead_peer_seconds=2)
    process = far_program(name, LISTENER, there)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        sock = await sockets.connect_tcp(there, port)
        with sock:
            sockets.watch(sock, limits)
            subprocess.run(["ip", "-n", name, "link", "set", "far0", "down"], check=True)
            loop = asyncio.get_running_loop()
            if sends:
                await loop.sock_sendall(sock, sends)
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(20):
                    await loop.sock_recv(sock, 1)
            assert time.monotonic() - began < 12
    finally:
        process.kill()
        process.communicate()


# --- a restart -------------------------------------------------------------------------------------


def test_a_database_that_restarts_under_load():
    """Each agent gets one clear error, connects again and goes on; the gateway is the same."""
    with (
        EmbeddedPostgres() as server,
        Trial(
            server,
            effects=EVERYTHING,
            limits="max_sessions = 200",
            resource="pool = { idle_seconds = 0.5 }",
        ) as own,
    ):
        token = own.token()
        assert own.psql(token, "select 1").returncode == 0
        until(lambda: backends(own) == 0, "the end of other sessions")
        used, pid = descriptors(own), own.pid
        stop = threading.Event()
        errors: list[dict[str, str]] = []
        served = [0] * 12

        def work(number: int) -> None:
            while not stop.is_set():
                with tls(own) as sock:
                    sock.sendall(LOGIN + message(b"p", token.encode() + b"\0"))
                    seen = b""
                    while not seen.endswith(ready()) and (data := sock.recv(65536)):
                        seen += data
                    while seen.endswith(ready()) and not stop.is_set():
                        seen = serve(sock)
                        served[number] += seen.endswith(ready())
                    if not stop.is_set():
                        errors.append(fatal(seen))
                        time.sleep(0.05)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(len(served))]
        for worker in workers:
            worker.start()
        try:
            for _ in range(2):
                until(lambda: all(served), "the first answers")
                server.halt()
                time.sleep(0.5)
                served[:] = [0] * len(served)
                server.resume()
                until(lambda: all(served), "answers after the restart", 30)
        finally:
            stop.set()
            for worker in workers:
                worker.join()
        assert len(errors) >= 2 * len(workers)
        assert {said["S"] for said in errors} == {"FATAL"}
        # terminated, or starting up and shutting down, or not to be reached
        assert {said["C"] for said in errors} <= {"57P01", "57P02", "57P03", "08006"}
        assert own.pid == pid
        until(lambda: descriptors(own) <= used, "the end of all connections")
        log = own.log.read_text()
        assert "Traceback" not in log
        assert "internal error" not in log
        ended = [e for e in events(own) if e["code"] == "session.end"]
        started = [e for e in events(own) if e["code"] == "session.start"]
        assert len(ended) == len(started)
