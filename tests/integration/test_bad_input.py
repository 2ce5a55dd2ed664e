"""Bad bytes, bad peers and bad starts, one by one: each ends in one whole error of the client's own
protocol or on the terminal, in bounded time and memory, and nothing of it is left open."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from conftest import EVERYTHING
from pangate.embedded import EmbeddedPostgres
from pangate.issuer import LocalIssuer
from pangate.protocols.postgres.messages import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    error_fields,
    message,
    ssl_request,
    startup,
)
from pangate.trial import Trial, until
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
    through,
    tls,
)

pytestmark = pytest.mark.integration

MANY = "auth_failures_per_minute = 100000"
TOKEN_FAULT = "the password must be a valid, unexpired identity token"


@pytest.fixture(scope="module")
def own(postgres, trial):
    """A gateway that takes many failed logins from one address. At the end it has said of none of what it
    was given here that it did not understand itself. What waits for an owner ends soon."""
    pool = "pool = { idle_seconds = 1 }"
    with Trial(postgres, effects=EVERYTHING, limits=MANY, resource=pool) as running:
        yield running
        log = running.log.read_text()
        assert "Traceback" not in log
        assert "internal error" not in log
        assert_clean(log)
        assert_clean(running.audit.read_bytes())


@pytest.fixture(scope="module")
def quick(postgres, trial):
    """A gateway that waits for nobody for long."""
    limits, pool = f"login_seconds = 0.6\n{MANY}", "pool = { idle_seconds = 0.5 }"
    with Trial(postgres, effects=EVERYTHING, limits=limits, resource=pool) as running:
        yield running


def raw(version: int, *fields: bytes) -> bytes:
    body = struct.pack("!i", version) + b"\0".join(fields) + b"\0\0"
    return struct.pack("!i", len(body) + 4) + body


def password(text: bytes) -> bytes:
    return message(b"p", text + b"\0")


# --- before and at the login -------------------------------------------------------------------------

AT_LOGIN = {
    "empty password": ((LOGIN, password(b"")), "28P01", TOKEN_FAULT),
    "binary password": ((LOGIN, password(b"\xff\xfe\x80")), "28P01", TOKEN_FAULT),
    "no end of the password": ((LOGIN, message(b"p", b"abc")), "08P01", "password message"),
    "two passwords in one": ((LOGIN, message(b"p", b"a\0b\0")), "08P01", "password message"),
    "SCRAM instead": ((LOGIN, message(b"p", b"SCRAM-SHA-256\0\0\0\0\x01n")), "08P01", "password message"),
    "a query instead": ((LOGIN, message(b"Q", b"select 1\0")), "08P01", "did not answer"),
    "a password of length 0": ((LOGIN, b"p\0\0\0\4"), "08P01", "did not answer"),
    "a password over the limit": ((LOGIN, b"p\x7f\xff\xff\xff"), "53400", "limits.token_bytes"),
    "protocol 2": ((raw(2 << 16, b"user", b"a"),), "08P01", "use protocol 3.0"),
    "protocol 4": ((raw(4 << 16, b"user", b"a"),), "08P01", "use protocol 3.0"),
    "no user": ((startup({"database": "payments"}),), "0A000", "set a user name"),
    "an empty user": ((startup({"user": ""}),), "0A000", "set a user name"),
    "fields cut off": ((b"\0\0\0\x0d\0\3\0\0user\0",), "08P01", "startup"),
    "no end of a field": ((b"\0\0\0\x0c\0\3\0\0user",), "08P01", "startup"),
    "a startup packet too long": ((b"\0\1\0\0\0\3\0\0",), "08P01", "startup"),
    "a startup packet too short": ((b"\0\0\0\7\0\3\0\0",), "08P01", "startup"),
    "a length below zero": ((b"\xff\xff\xff\xff\0\3\0\0",), "08P01", "startup"),
    "replication": ((startup({"user": "a", "replication": "database"}),), "0A000", "replication"),
    "physical replication": ((startup({"user": "a", "replication": "true"}),), "0A000", "replication"),
    "GSS inside TLS": ((struct.pack("!ii", 8, GSSENC_REQUEST),), "08P01", "encryption request"),
    "TLS inside TLS": ((ssl_request(),), "08P01", "encryption request"),
    "a cancel key too short": ((struct.pack("!iiI", 12, CANCEL_REQUEST, 1),), "08P01", "cancel"),
    "HTTP": ((b"POST / HTTP/1.1\r\nhost: x\r\n\r\n",), "08P01", "startup"),
    "JSON": ((b'{"select": 1, "from": "cards"}\n',), "08P01", "startup"),
    "zeros": ((b"\0" * 100,), "08P01", "startup"),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_LOGIN)
def test_one_fatal_error_before_a_session(own, name):
    parts, code, says = AT_LOGIN[name]
    with tls(own) as sock:
        for part in parts:
            sock.sendall(part)
        said = fatal(rest(sock))
    assert (said["S"], said["V"], said["C"]) == ("FATAL", "FATAL", code), said
    assert says in said["M"]


def test_unknown_options_are_negotiated(own, trial):
    with tls(own) as sock:
        sock.sendall(raw(3 << 16 | 2, b"user", b"a", b"_pq_.thing", b"1", b"database", b"payments"))
        sock.sendall(password(own.token().encode()) + message(b"X"))
        first, *others = messages(rest(sock))
    assert first[0] == b"v"
    assert first[1] == struct.pack("!ii", 3 << 16 | 2, 1) + b"_pq_.thing\0"
    assert others[-1] == (b"Z", b"I")


def test_names_that_are_card_numbers(own):
    """A PAN as the database, the user or the application: the record and the error have it masked."""
    with tls(own) as sock:
        sock.sendall(startup({"user": "378282246310005", "database": "4111111111111111"}))
        sock.sendall(password(own.token().encode()))
        answer = rest(sock)
    assert_clean(answer)
    assert "grants access" in fatal(answer)["M"]
    until(lambda: events(own)[-1]["code"] == "authorisation.denied", "the record")
    assert events(own)[-1]["resource"] == "************1111"
    with psycopg.connect(through(own, own.token(), application_name="5555555555554444")) as agent:
        (shown,) = agent.execute("show application_name").fetchone()
    assert shown == "************4444"


def test_encodings_in_which_a_digit_may_be_no_digit(own):
    for parameters in (
        {"client_encoding": "GB18030"},
        {"client_encoding": "johab"},
        {"options": "-c client_encoding=GB18030"},
    ):
        with tls(own) as sock:
            sock.sendall(startup({"user": "a", "database": "payments", **parameters}))
            sock.sendall(password(own.token().encode()))
            assert "client_encoding" in fatal(rest(sock))["M"]


def test_too_many_failed_logins(postgres, trial):
    """A stranger who guesses is told to wait; who has a token from elsewhere is not asked to pay for it."""
    with Trial(postgres, effects=EVERYTHING, limits="auth_failures_per_minute = 3") as few:
        for _ in range(3):
            with tls(few) as sock:
                sock.sendall(LOGIN + password(b"guess"))
                assert TOKEN_FAULT in fatal(rest(sock))["M"]
        with tls(few) as sock:
            sock.sendall(LOGIN + password(few.token().encode()))
            said = fatal(rest(sock))
        assert "minute" in said["M"]
        assert few.psql(few.token(), "select 1").returncode == 2


# --- silence ---------------------------------------------------------------------------------------

STAGES = {
    "nothing": b"",
    "half a length": b"\0\0",
    "a startup packet without its end": LOGIN[:-3],
    "no password": LOGIN,
    "half a password": LOGIN + b"p\0\0\0\x40abc",
}


@pytest.mark.parametrize("name", STAGES)
def test_silence_inside_tls_is_ended_with_a_word(quick, name):
    with tls(quick) as sock:
        sock.sendall(STAGES[name])
        began = time.monotonic()
        answer = rest(sock)
    assert time.monotonic() - began < 5
    assert "limits.login_seconds" in fatal(answer[answer.index(b"E\0\0\0") :])["M"]


def test_an_agent_that_gives_a_byte_at_a_time(quick):
    """Bytes do not buy time."""
    began = time.monotonic()
    with tls(quick) as sock, contextlib.suppress(ConnectionError, ssl.SSLError):
        for byte in LOGIN + password(b"x" * 200):
            sock.sendall(bytes([byte]))
            time.sleep(0.02)
            assert time.monotonic() - began < 8
    assert time.monotonic() - began < 8


def test_many_silent_ones_do_not_stand_in_the_way(quick):
    with contextlib.ExitStack() as stack:
        before = descriptors(quick)
        for _ in range(100):
            stack.enter_context(socket.create_connection((quick.host, quick.port), timeout=10))
        assert quick.psql(quick.token(), "select 1").returncode == 0
        until(lambda: descriptors(quick) <= before, "the end of the silent ones")


# --- after the login -------------------------------------------------------------------------------

AFTER_LOGIN = {
    "an unknown type": (b"!\0\0\0\4", "08P01", "is not known"),
    "a length of 0": (b"Q\0\0\0\0", "08P01", "length"),
    "a length below zero": (b"Q\xff\xff\xff\xff", "53400", "max_message_bytes"),
    "over the limit": (b"Q\x40\0\0\0", "53400", "max_message_bytes"),
    "no end of the text": (message(b"Q", b"select 1"), "08P01", ""),
    "text behind the end": (message(b"Q", b"select 1\0select 2\0"), "08P01", ""),
    "an empty Bind": (message(b"B"), "08P01", ""),
    "more values than there are": (message(b"B", b"\0\0\0\0\x7f\xff"), "08P01", ""),
    "a value past the end": (message(b"B", b"\0\0\0\0\0\1\0\0\0\xff"), "08P01", ""),
    "a Describe of nothing": (message(b"D", b"Z\0"), "08P01", "neither"),
    "an Execute cut off": (message(b"E", b"\0\0\0"), "08P01", ""),
    "a startup packet": (LOGIN, "08P01", ""),
    "a password again": (password(b"x"), "08P01", "is not known"),
}


@pytest.mark.parametrize("name", AFTER_LOGIN)
def test_one_fatal_error_within_a_session(own, name):
    data, code, says = AFTER_LOGIN[name]
    with session(own, own.token()) as sock:
        sock.sendall(data)
        answer = rest(sock)
    said = error_fields(messages(answer)[-1][1])
    assert (said["S"], said["C"]) == ("FATAL", code), said
    assert says in said["M"]
    until(lambda: events(own)[-1]["code"] == "session.end", "the end of the session")
    assert events(own)[-1]["success"] is False


def test_hostile_messages_end_a_session_or_are_answered(own):
    """Random changes of what clients say: whatever comes of it, whole messages, no PAN and an end."""
    chance = random.Random(7)
    token = own.token()
    parts = [
        message(b"Q", b"select t from cards\0"),
        message(b"P", b"s\0select t, n from cards where id = $1\0\0\1\0\0\0\x17"),
        message(b"B", b"p\0s\0\0\0\0\1\0\0\0\0011\0\1\0\1"),
        message(b"D", b"Ss\0"),
        message(b"D", b"Pp\0"),
        message(b"E", b"p\0\0\0\0\0"),
        message(b"C", b"Pp\0"),
        message(b"F", b"\0\0\0\1\0\0\0\0\0\0"),
        message(b"Q", b"copy cards to stdout\0"),
        message(b"Q", b"copy notes from stdin\0"),
        message(b"d", b"1\tx\n"),
        message(b"c"),
        message(b"f", b"no\0"),
        message(b"H"),
        message(b"S"),
    ]
    for _ in range(80):
        data = bytearray(b"".join(chance.choices(parts, k=chance.randrange(1, 9))))
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randrange(1, 4)]
                case _:
                    data[at:at] = chance.randbytes(2)
        with session(own, token) as sock:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                # what it waits for in vain is ended by Sync, and then by Terminate
                sock.sendall(data + message(b"f", b"end\0") + message(b"S") + message(b"X"))
                # the rest of a message whose length was changed
                sock.sendall(b"\0" * 70_000 + message(b"X"))
            sock.settimeout(0.5)
            answer = b""
            with contextlib.suppress(TimeoutError):
                answer = rest(sock)
        assert_clean(answer)
    until(lambda: backends(own) == 0, "the end of all sessions at the server")
    assert own.psql(token, "select 1").returncode == 0


# --- agents that are gone --------------------------------------------------------------------------


def drop(sock: socket.socket) -> None:
    """Reset the connection: nothing is said, and no port waits."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_twenty_thousand_that_only_knock(own):
    token = own.token()
    assert own.psql(token, "select 1").returncode == 0
    before = descriptors(own)
    began = time.monotonic()
    done = 0
    for n in range(20_000):
        sock = socket.create_connection((own.host, own.port), timeout=20)
        if n % 4 == 1:
            sock.sendall(b"\0")
        elif n % 4 == 2:
            sock.sendall(ssl_request())
        drop(sock)
        done += 1
        if time.monotonic() - began > 12:
            break
    assert done >= 2000
    until(lambda: descriptors(own) <= before, "the end of all connections")
    assert own.psql(token, "select 1").returncode == 0


@pytest.mark.parametrize("when", ["in the handshake", "before the password", "idle", "in a result"])
def test_agents_that_vanish_leave_nothing_at_the_server(own, when):
    token = own.token()
    own.psql(token, "select 1")
    until(lambda: backends(own) == 0, "the end of other sessions")
    before = descriptors(own)
    for _ in range(25):
        if when == "in the handshake":
            sock = socket.create_connection((own.host, own.port), timeout=20)
            sock.sendall(ssl_request() + b"\x16\x03\x01\x02\0")
            drop(sock)
            continue
        with tls(own) if when == "before the password" else session(own, token) as sock:
            if when == "before the password":
                sock.sendall(LOGIN)
                sock.recv(9)
            elif when == "in a result":
                many = b"select repeat('x', 1000) from generate_series(1, 1000000)\0"
                sock.sendall(message(b"Q", many))
                sock.recv(1000)
            drop(sock)
    until(lambda: backends(own) == 0, "the end of all sessions at the server")
    until(lambda: descriptors(own) <= before, "the end of all connections")
    assert own.psql(token, "select 1").returncode == 0


def memory(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_agent_that_does_not_read_costs_no_memory(own):
    token = own.token()
    own.psql(token, "select repeat('x', 1000) from generate_series(1, 10000)")
    before = memory(own.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            sock = stack.enter_context(session(own, token))
            sock.sendall(
                message(b"Q", b"select repeat('x', 1000) from generate_series(1, 10000000)\0")
            )
        time.sleep(1.5)
        assert memory(own.pid) - before < 32 << 20
        # and others are served meanwhile
        assert own.psql(token, "select 1").returncode == 0
    until(lambda: backends(own) == 0, "the end of all sessions at the server")


def test_a_server_that_does_not_read_costs_no_memory(own):
    token = own.token()
    before = memory(own.pid)
    with session(own, token) as sock:
        sock.sendall(message(b"Q", b"select pg_backend_pid()\0"))
        data = sock.recv(4096)
        rows = [body for kind, body in messages(data) if kind == b"D"]
        pid = int(rows[0][6:])
        sock.sendall(message(b"Q", b"begin; copy notes from stdin\0"))
        assert b"G" in sock.recv(4096)
        os.kill(pid, signal.SIGSTOP)
        try:
            sock.settimeout(1)
            sent = 0
            with pytest.raises(TimeoutError):
                while sent < 256 << 20:
                    sent += sock.send(message(b"d", b"1\t" + b"x" * 60_000 + b"\n"))
            assert memory(own.pid) - before < 48 << 20
            assert own.psql(token, "select 1").returncode == 0
        finally:
            os.kill(pid, signal.SIGCONT)
        drop(sock)
    until(lambda: backends(own) == 0, "the end of all sessions at the server")


@pytest.mark.skipif(
    os.geteuid() != 0, reason="counts open files of a process whose memory is private"
)
def test_without_a_free_descriptor_it_waits_for_one(own):
    """Sessions that are open go on; who comes waits and is served when there is one again."""
    token, said = own.token(), "cannot accept a connection"
    most = resource.prlimit(own.pid, resource.RLIMIT_NOFILE)
    log = own.log.read_text()
    with psycopg.connect(through(own, token), autocommit=True) as agent:
        assert agent.execute("select 1").fetchone() == (1,)
        until(lambda: backends(own) == 1, "the end of other sessions")
        used = descriptors(own)
        # a program of its own, so that it can wait: it connects when it is told to
        client = subprocess.Popen(
            [
                "sh",
                "-c",
                'read _ && exec "$@"',
                "sh",
                own.postgres.bin / "psql",
                "-XAtc",
                "select 2",
            ],
            env={**own.environment(token), "PGAPPNAME": "comes when there is none free"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        resource.prlimit(own.pid, resource.RLIMIT_NOFILE, (used + 20, most[1]))
        try:
            with contextlib.ExitStack() as stack:
                for _ in range(60):
                    sock = stack.enter_context(socket.socket())
                    sock.settimeout(5)
                    sock.connect((own.host, own.port))
                until(lambda: own.log.read_text().count(said) > log.count(said), "the log")
                client.stdin.write("now\n")
                client.stdin.flush()
                for number in range(10):
                    assert agent.execute(f"select {number}").fetchone() == (number,)
                    time.sleep(0.1)
                assert client.poll() is None, "it is not refused"
                assert "comes when there is none free" not in own.audit.read_text()
                assert descriptors(own) >= used + 20, "this could not fail"
            answer, wrong = client.communicate(timeout=30)
            assert (client.returncode, answer, wrong) == (0, "2\n", "")
            assert "comes when there is none free" in own.audit.read_text()
            until(lambda: descriptors(own) <= used, "the end of all connections")
            assert agent.execute("select 3").fetchone() == (3,)
        finally:
            resource.prlimit(own.pid, resource.RLIMIT_NOFILE, most)
            client.kill()
            client.wait()
    new = own.log.read_text()[len(log) :]
    assert new.count(said) == 1, "one line is enough"


# --- the server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone():
    """A server and a gateway of their own, for what would hurt others."""
    with (
        EmbeddedPostgres() as server,
        Trial(
            server,
            effects=EVERYTHING,
            limits="connect_seconds = 1",
            resource="pool = { idle_seconds = 0 }",
        ) as running,
    ):
        yield running


def test_a_session_that_the_server_ends(alone):
    with psycopg.connect(through(alone, alone.token()), autocommit=True) as agent:
        alone.postgres.psql(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'payments_service'"
        )
        with pytest.raises(psycopg.OperationalError, match="terminating connection due to admin"):
            agent.execute("select 1")
    until(lambda: events(alone)[-1]["code"] == "session.end", "the record")


def test_a_server_process_that_is_killed_in_a_command(alone):
    """The server then ends all sessions and recovers; the next agent is served."""
    with psycopg.connect(through(alone, alone.token()), autocommit=True) as agent:
        (pid,) = agent.execute("select pg_backend_pid()").fetchone()
        began = time.monotonic()
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(psycopg.OperationalError, match="the resource closed the connection"):
            agent.execute("select pg_sleep(30)")
        killer.join()
        assert time.monotonic() - began < 10
    last = [e for e in events(alone) if e["code"] == "session.end"][-1]
    assert last["success"] is False
    assert last["data"]["unfinished"], "the record says that the outcome is not known"
    until(lambda: alone.psql(alone.token(), "select 1").returncode == 0, "recovery")


def test_a_server_that_does_not_answer(alone):
    """Its port takes connections, and nobody is there."""
    os.kill(alone.postgres.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = alone.psql(alone.token(), "select 1")
        assert time.monotonic() - began < 8
        assert done.returncode == 2
        assert "did not answer in time (limits.connect_seconds)" in done.stderr
    finally:
        os.kill(alone.postgres.pid, signal.SIGCONT)
    until(lambda: alone.psql(alone.token(), "select 1").returncode == 0, "recovery")


def test_a_server_that_has_no_room(alone):
    alone.postgres.psql("alter role payments_service connection limit 0")
    done = alone.psql(alone.token(), "select 1")
    alone.postgres.psql("alter role payments_service connection limit -1")
    assert done.returncode == 2
    assert done.stderr.count("FATAL") == 1
    assert "53300" in done.stderr
    assert "payments_service" not in done.stderr


class Pretender:
    """Somebody who listens where the server should be, and answers each connection with these bytes."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self):
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self._listener.getsockname()[1]

    def _serve(self) -> None:
        for answer in self._answers:
            sock, _ = self._listener.accept()
            with sock:
                sock.settimeout(5)
                with contextlib.suppress(OSError):
                    sock.recv(4096)
                    sock.sendall(answer)
                    sock.recv(4096)

    def __exit__(self, *_):
        self._thread.join(timeout=10)
        self._listener.close()


def test_somebody_else_where_the_server_should_be(postgres, trial):
    """No TLS, garbage for TLS, an error for an answer, nothing: the password is not sent to any of them."""
    answers = {
        b"N": "TLS",
        b"S" + b"\0" * 50: "TLS",
        b"E\0\0\0\x10SFATAL\0M4111111111111111\0\0": "TLS",
        b"": "limits.connect_seconds",
        b"HTTP/1.1 400": "TLS",
    }
    with (
        Trial(postgres, effects=EVERYTHING, limits="connect_seconds = 2") as own,
        Pretender(*answers) as port,
    ):
        own.stop_gateway()
        text = own.config.read_text()
        own.config.write_text(text.replace(f"port = {postgres.port}", f"port = {port}"))
        own.start_gateway()
        for answer, says in answers.items():
            done = own.psql(own.token(), "select 1")
            assert done.returncode == 2
            assert done.stderr.count("FATAL") == 1
            assert says in done.stderr, answer
            assert_clean(done.stderr)
        assert_clean(own.log.read_text())


def test_a_server_that_speaks_nonsense_after_tls_is_off(postgres, trial):
    """On loopback without TLS: what comes is not PostgreSQL's."""
    answers = (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"R\0\0\0\x08\0\0\0\x0b",
        b"R\xff\xff\xff\xff",
        b"Z\0\0\0\5I",
    )
    with (
        Trial(postgres, effects=EVERYTHING, limits="connect_seconds = 2", tls="disable") as own,
        Pretender(*answers) as port,
    ):
        own.stop_gateway()
        text = own.config.read_text()
        own.config.write_text(text.replace(f"port = {postgres.port}", f"port = {port}"))
        own.start_gateway()
        for _ in answers:
            done = own.psql(own.token(), "select 1")
            assert done.returncode == 2
            assert done.stderr.count("FATAL") == 1, done.stderr
        assert "Traceback" not in own.log.read_text()


# --- the issuer ------------------------------------------------------------------------------------


def test_an_issuer_that_is_away(postgres, trial):
    """Nobody can be verified then, and the agent learns no more than that; when it is back, all is well."""
    with Trial(postgres, effects=EVERYTHING, limits=MANY) as own:
        token = own.token()
        own.stop_gateway()
        text = own.config.read_text()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            away = f"http://127.0.0.1:{silent.getsockname()[1]}"
            own.config.write_text(
                text.replace(f'url = "{own.issuer.url}"', f'url = "{away}"\nfetch_seconds = 0.5')
            )
            own.start_gateway()
            with LocalIssuer() as other:
                foreign = other.mint("ci-job-42", team="payments")
            for bad in (token, foreign):
                began = time.monotonic()
                done = own.psql(bad, "select 1")
                assert time.monotonic() - began < 8
                assert done.returncode == 2
                assert done.stderr.count("FATAL") == 1
        own.stop_gateway()
        own.config.write_text(text)
        own.start_gateway()
        assert own.psql(token, "select 1").returncode == 0


# --- the terminal ----------------------------------------------------------------------------------


def changed(text: str, name: str, directory: Path, trial: Trial) -> tuple[str, str]:
    """A configuration with one thing wrong, and what has to be said of it."""
    lines = dict.fromkeys(["certificate", "key", "password"])
    for line in text.splitlines():
        head = line.partition(" = ")[0]
        if head in lines and lines[head] is None:
            lines[head] = line
    certificate, key, secret = lines["certificate"], lines["key"], lines["password"]
    match name:
        case "no TOML":
            return text + "\n[limits\n", "pangate.toml"
        case "no bytes of text":
            return text + "# \udcff", "pangate.toml"
        case "no certificate":
            return text.replace(certificate, 'certificate = "nowhere.pem"'), "listen.certificate"
        case "no key":
            return text.replace(key + "\n", ""), "listen.key"
        case "somebody else's key":
            other = directory / "other"
            other.mkdir()
            from pangate.embedded import Authority

            _, path = Authority(other).issue("other")
            return text.replace(key, f'key = "{path}"'), "key"
        case "a port that is taken":
            return text.replace("port = 0", f"port = {trial.port}"), "in use"
        case "a record that is in use":
            return text, "in use by another gateway"
        case "a record that is none":
            path = directory / "notes.txt"
            path.write_text("shopping list\n")
            path.chmod(0o600)
            return text.replace(str(trial.audit), str(path)), "not a record"
        case "a record that is a directory":
            return text.replace(str(trial.audit), str(directory)), "audit"
        case "a password in the open":
            return text.replace(secret, 'password = "swordfish"'), "password"
        case "a password that all may read":
            path = directory / "password"
            path.write_text("swordfish\n")
            path.chmod(0o644)
            return text.replace(secret, f'password = {{ file = "{path}" }}'), "0644"
        case "a role for nothing":
            return text.replace('resources = ["ledger"]', 'resources = ["ledgr"]'), "ledgr"
        case "a name twice":
            return text.replace('name = "ledger"', 'name = "payments"'), "payments"
        case "plaintext to elsewhere":
            return text.replace('host = "127.0.0.1"\nport = 0', 'host = "0.0.0.0"\nport = 0').replace(
                certificate + "\n", ""
            ).replace(key + "\n", ""), "certificate"  # fmt: skip
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        "no TOML", "no bytes of text", "no certificate", "no key", "somebody else's key",
        "a port that is taken",
        "a record that is in use", "a record that is none", "a record that is a directory",
        "a password in the open", "a password that all may read", "a role for nothing", "a name twice",
        "plaintext to elsewhere",
    ],
)  # fmt: skip
def test_a_start_that_fails_says_why(own, tmp_path, name):
    text, says = changed(own.config.read_text(), name, tmp_path, own)
    if name != "a record that is in use" and str(own.audit) in text:
        text = text.replace(str(own.audit), str(tmp_path / "audit.jsonl"))
    path = tmp_path / "pangate.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = subprocess.run(
        [sys.executable, "-m", "pangate.cli", "serve", "--config", str(path)],
        capture_output=True, text=True, timeout=20, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert says in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "swordfish" not in done.stderr
    assert own.secret not in done.stderr
    assert "listening on" not in done.stderr
    assert own.psql(own.token(), "select 1").returncode == 0, "the other one runs on"
