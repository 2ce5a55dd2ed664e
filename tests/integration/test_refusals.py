"""Bad input and bad days: each gives one clear error in the client's own protocol or on the terminal, leaks
nothing and leaves nothing hanging."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from pangate.embedded import EmbeddedPostgres
from pangate.masking import default_scanner
from pangate.protocols.postgres.messages import (
    GSSENC_REQUEST,
    error_fields,
    message,
    ssl_request,
    startup,
)
from pangate.trial import Trial, until

pytestmark = pytest.mark.integration

TOKEN_FAULT = "authentication failed: the password must be a valid, unexpired identity token"
NO_GRANT = "no role of this identity grants access to the requested database"


def assert_refused(
    trial: Trial, token: str, says: str, database: str = "payments", **environment
) -> str:
    done = subprocess.run(
        [str(trial.postgres.bin / "psql"), "-X", "-w", "-c", "select 1"],
        env={**trial.environment(token, database), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert says in done.stderr
    assert trial.secret not in done.stderr
    assert not token or token not in done.stderr
    return done.stderr


def events(trial: Trial) -> list[dict]:
    return [json.loads(line) for line in trial.audit.read_text().splitlines()]


# --- tokens and grants -----------------------------------------------------------------------------


def test_every_fault_of_a_token_reads_the_same(trial):
    good = trial.token()
    head, body, _ = good.split(".")
    faults = [
        "swordfish",
        good[:-6] + "AAAAAA",
        f"{head}.{body}.",
        trial.token(seconds=-3600),
        trial.issuer.mint("ci-job-42", audience="somebody-else", team="payments"),
        "x" * 16000,
    ]
    said = {
        assert_refused(trial, token, TOKEN_FAULT).partition("FATAL:")[2].strip() for token in faults
    }
    assert len(said) == 1
    details = [e["data"]["detail"] for e in events(trial) if e["code"] == "auth.failed"]
    assert len(set(details[-len(faults) :])) > 3, "the record says what was wrong with each"
    assert not any(token in trial.audit.read_text() for token in faults if len(token) > 20)
    # and the right one still works
    assert trial.psql(good, "select 1").returncode == 0


def test_no_token(trial):
    assert_refused(trial, "", "no password supplied")


def test_a_token_that_is_too_long(trial):
    assert_refused(trial, "x" * 20_000, "limits.token_bytes")


def test_unknown_database_and_no_grant_read_the_same(trial):
    one = assert_refused(trial, trial.token(), NO_GRANT, database="nowhere")
    two = assert_refused(trial, trial.token(), NO_GRANT, database="ledger")
    three = assert_refused(trial, trial.token(team="marketing"), NO_GRANT)
    assert len({re.sub(r"port \d+", "", text) for text in (one, two, three)}) == 1


def test_plaintext_is_refused_before_the_token_is_asked_for(trial):
    assert_refused(trial, trial.token(), "sslmode=require", PGSSLMODE="disable")


def test_settings_that_are_not_passed(trial):
    assert_refused(trial, trial.token(), "client_encoding", PGCLIENTENCODING="GB18030")
    with pytest.raises(psycopg.OperationalError, match="replication"):
        psycopg.connect(
            host=trial.host, port=trial.port, user="a", password=trial.token(), dbname="payments",
            sslmode="require", replication="database",
        )  # fmt: skip


def test_a_session_ends_with_its_token(postgres, trial):
    with psycopg.connect(
        host=trial.host, port=trial.port, user="a", password=trial.token(seconds=2), dbname="payments",
        sslmode="require", autocommit=True,
    ) as connection:  # fmt: skip
        assert connection.execute("select 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError, match="token of this session has expired"):
            for _ in range(60):
                connection.execute("select 1")
                time.sleep(0.1)


# --- bytes -----------------------------------------------------------------------------------------


def exchange(trial: Trial, *parts: bytes, tls: bool = False) -> bytes:
    """What the gateway answers to these bytes until it closes."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection((trial.host, trial.port), timeout=20))
        sock: socket.socket = plain
        if tls:
            plain.sendall(ssl_request())
            assert plain.recv(1) == b"S"
            context = ssl.create_default_context(cafile=str(trial.ca))
            sock = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
        answer = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for part in parts:
                sock.sendall(part)
            while chunk := sock.recv(65536):
                answer += chunk
        return answer


LOGIN = startup({"user": "agent", "database": "payments"})


@pytest.mark.parametrize(
    ("parts", "tls", "code"),
    [
        ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",), False, "08P01"),
        ((b"\x00" * 64,), False, "08P01"),
        ((b"\xff" * 64,), False, "08P01"),
        ((LOGIN,), False, "0A000"),
        ((secrets.token_bytes(200),), True, "08P01"),
        ((LOGIN, message(b"Q", b"select 1\0")), True, "08P01"),
        ((LOGIN, b"p\xff\xff\xff\xff"), True, None),
        ((struct.pack("!ii", 8, GSSENC_REQUEST), LOGIN), False, "0A000"),
        ((ssl_request(),), True, "08P01"),
    ],
)
def test_garbage_gets_the_protocols_error(trial, parts, tls, code):
    answer = exchange(trial, *parts, tls=tls)
    if code is None:
        assert b"limits.token_bytes" in answer
        return
    at = answer.find(b"E")
    assert at >= 0
    assert error_fields(answer[at + 5 :])["C"] == code


def test_after_the_login_garbage_ends_the_session(trial, token):
    with socket.create_connection((trial.host, trial.port), timeout=20) as plain:
        plain.sendall(ssl_request())
        assert plain.recv(1) == b"S"
        context = ssl.create_default_context(cafile=str(trial.ca))
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(LOGIN + message(b"p", token.encode() + b"\0"))
            seen = b""
            while b"Z\0\0\0\5I" not in seen:
                seen += sock.recv(65536)
            sock.sendall(b"!\0\0\0\4")
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                while chunk := sock.recv(65536):
                    seen += chunk
    assert b"08P01" in seen
    assert events(trial)[-1]["code"] == "session.end"
    assert events(trial)[-1]["success"] is False


def test_direct_tls_as_newer_clients_speak_it(trial, token):
    context = ssl.create_default_context(cafile=str(trial.ca))
    context.set_alpn_protocols(["postgresql"])
    with (
        socket.create_connection((trial.host, trial.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert sock.selected_alpn_protocol() == "postgresql"
        sock.sendall(LOGIN + message(b"p", token.encode() + b"\0") + message(b"X"))
        seen = b""
        with contextlib.suppress(ssl.SSLError):
            while chunk := sock.recv(65536):
                seen += chunk
    assert b"R\0\0\0\x08\0\0\0\0" in seen


def test_silence_is_cut_off(postgres):
    with Trial(postgres, limits="login_seconds = 0.5") as own:
        for first in (b"", b"\0\0", ssl_request(), ssl_request() + b"\x16\x03"):
            with socket.create_connection((own.host, own.port), timeout=10) as sock:
                sock.sendall(first)
                began = time.monotonic()
                with contextlib.suppress(ConnectionError):
                    while sock.recv(4096):
                        pass
                assert time.monotonic() - began < 5


def test_connections_come_and_go_and_leave_nothing(trial, token):
    trial.psql(token, "select 1")
    before = descriptors(trial)
    for n in range(1500):
        with socket.create_connection((trial.host, trial.port), timeout=20) as sock:
            if n % 3:
                sock.sendall(ssl_request() if n % 3 == 1 else b"GET / HTTP/1.0\r\n")
    until(lambda: descriptors(trial) <= before + 2, "the end of all connections")
    assert trial.psql(token, "select 1").returncode == 0


def descriptors(trial: Trial) -> int:
    """Open files of the gateway. Its memory is private, so only root can count them; for others, the
    connections to it that its side has not closed (states: Linux, include/net/tcp_states.h)."""
    if os.geteuid() == 0:
        return len(list(Path(f"/proc/{trial.pid}/fd").iterdir()))
    established, close_wait = "01", "08"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [state for _, local, _, state, *_ in lines if int(local.split(":")[1], 16) == trial.port]
    return ours.count(established) + ours.count(close_wait)


def test_too_many_sessions(postgres):
    with Trial(postgres, limits="max_sessions = 2") as own:
        held = [
            psycopg.connect(
                host=own.host, port=own.port, user="a", password=own.token(), dbname="payments",
                sslmode="require",
            )
            for _ in range(2)
        ]  # fmt: skip
        with contextlib.ExitStack() as stack:
            for connection in held:
                stack.enter_context(connection)
            answer = exchange(own, ssl_request())
            assert b"limits.max_sessions" in answer


# --- the resource ----------------------------------------------------------------------------------


def test_a_backend_that_is_down_comes_back_or_ends_mid_session():
    # a login each: one that waits would not see that the password was changed
    pool = "pool = { idle_seconds = 0 }"
    with EmbeddedPostgres() as postgres, Trial(postgres, resource=pool) as own:
        connection = psycopg.connect(
            host=own.host, port=own.port, user="a", password=own.token(), dbname="payments",
            sslmode="require", autocommit=True,
        )  # fmt: skip
        with connection:
            assert connection.execute("select 1").fetchone() == (1,)
            postgres.halt()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        said = assert_refused(own, own.token(), "cannot be reached")
        assert str(postgres.port) not in said.partition("FATAL")[2]
        postgres.resume()
        assert own.psql(own.token(), "select 1").returncode == 0
        # the gateway's own login is refused: the agent learns no more than that
        postgres.psql("alter role payments_service password 'changed'")
        said = assert_refused(own, own.token(), "refused the gateway's login (SQLSTATE 28P01)")
        assert "payments_service" not in said
        # its certificate is by somebody unknown
        config = own.config.read_text()
        own.stop_gateway()
        own.config.write_text(config.replace(str(postgres.authority.ca), str(own.ca)))
        own.start_gateway()
        assert_refused(own, own.token(), "a TLS connection to the resource could not be made")
        assert own.secret not in own.log.read_text() + own.audit.read_text()


def test_sigterm_drains(postgres):
    with Trial(postgres, limits="drain_seconds = 0.5") as own:
        with psycopg.connect(
            host=own.host, port=own.port, user="a", password=own.token(), dbname="payments",
            sslmode="require", autocommit=True,
        ) as connection:  # fmt: skip
            connection.execute("select 1")
            assert own.stop_gateway() == 0
            with pytest.raises(psycopg.OperationalError, match="shutting down"):
                connection.execute("select 1")
        codes = [e["code"] for e in events(own)]
        assert codes[-2:] == ["session.end", "log.stop"]
        assert "Traceback" not in own.log.read_text()


# --- the record ------------------------------------------------------------------------------------


def test_a_command_is_recorded_before_it_ends_and_masked(trial, token):
    mark = f"mark-{secrets.token_hex(3).translate(str.maketrans('0123456789', 'ghijklmnop'))}"
    sql = f"select pg_sleep(5), '{mark} 4111111111111111'"
    process = subprocess.Popen(
        [str(trial.postgres.bin / "psql"), "-X", "-c", sql],
        env=trial.environment(token),
        stdout=subprocess.DEVNULL,
    )

    def recorded() -> list[dict]:
        return [e for e in events(trial) if mark in str(e["data"].get("text", ""))]

    until(lambda: bool(recorded()), "the record")
    assert process.poll() is None, "it is still running"
    assert recorded()[0]["data"]["text"].endswith("************1111'")
    assert process.wait(timeout=20) == 0
    until(lambda: events(trial)[-1]["code"] == "session.end", "the end of the session")
    session = recorded()[0]["session"]
    # the catalog may have been read again, or not
    of_session = [e for e in events(trial) if e["session"] == session]
    finished = [e for e in of_session if e["code"] != "catalog.read"]
    assert [e["code"] for e in finished] == [
        "session.start", "session.connected", "statement.allowed", "statement.finished", "session.recording",
        "session.end",
    ]  # fmt: skip
    assert finished[3]["data"]["masked"] == {"visa": 1}


def test_bind_values_are_recorded_masked(trial, token):
    with psycopg.connect(
        host=trial.host, port=trial.port, user="a", password=token, dbname="payments",
        sslmode="require", autocommit=True,
    ) as connection:  # fmt: skip
        connection.execute("select %s::text, %b::bigint", ("5555555555554444", 4111111111111111))
    until(lambda: events(trial)[-1]["code"] == "session.end", "the end of the session")
    (bound,) = [e for e in events(trial)[-6:] if e["data"].get("kind") == "bind"]
    assert bound["data"]["parameters"] == ["************4444", "************1111"]


def test_nothing_in_the_record_is_a_pan_and_no_sequence_is_missing(trial, token):
    trial.psql(token, "select * from cards", "select 4111111111111111, '3782 822463 10005'")
    data = trial.audit.read_bytes()
    assert default_scanner().find(data) == []
    assert default_scanner().find(trial.log.read_bytes()) == []
    numbers = [e["sequence"] for e in events(trial)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert trial.audit.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_recorded_is_not_executed(postgres):
    """The record's file may grow no more: a full disk, as a limit of the process."""
    with Trial(postgres, effects='effects = ["read", "write"]') as own:
        postgres.psql(
            "create table if not exists done (what text); grant all on done to payments_service"
        )
        with psycopg.connect(
            host=own.host, port=own.port, user="a", password=own.token(), dbname="payments",
            sslmode="require", autocommit=True,
        ) as connection:  # fmt: skip
            connection.execute("insert into done values ('before')")
            time.sleep(0.2)  # the outcome of that is written
            size = own.audit.stat().st_size + own.log.stat().st_size
            resource.prlimit(
                own.pid, resource.RLIMIT_FSIZE, (own.audit.stat().st_size, size + 10**6)
            )
            with pytest.raises(psycopg.OperationalError, match="could not be written"):
                connection.execute("insert into done values ('unrecorded')")
        resource.prlimit(own.pid, resource.RLIMIT_FSIZE, (size + 10**6, size + 10**6))
        until(lambda: own.psql(own.token(), "select 1").returncode == 0, "recovery")
        assert postgres.psql("select what from done", "postgres", "-At").split() == ["before"]
        numbers = [e["sequence"] for e in events(own)]
        assert numbers == list(range(1, len(numbers) + 1))
        postgres.psql("drop table done")


# --- custody ---------------------------------------------------------------------------------------


def test_the_real_password_is_nowhere(trial, token):
    done = trial.psql(
        token,
        "show all",
        "select * from pg_stat_activity",
        "select current_user, session_user",
        "select * from pg_authid",
        "select rolpassword from pg_roles",
    )
    places = {
        "output": done.stdout + done.stderr,
        "record": trial.audit.read_text(),
        "log": trial.log.read_text(),
        "command line": Path(f"/proc/{trial.pid}/cmdline").read_text(),
        "environment": environment(trial.pid),
        "processes": "".join(map(shown, Path("/proc").glob("[0-9]*/cmdline"))),
        "configuration": subprocess.run(
            [sys.executable, "-m", "pangate.cli", "check", "--config", str(trial.config)],
            capture_output=True, text=True, check=True,
        ).stdout,
    }  # fmt: skip
    assert "payments_service" in places["output"]
    for place, text in places.items():
        assert trial.secret not in text, place
        assert token not in text or place == "output", place


def environment(pid: int) -> str:
    """What others can read of a process's environment: of one whose memory is private, only root."""
    path = Path(f"/proc/{pid}/environ")
    if os.geteuid() != 0:
        with pytest.raises(PermissionError):
            path.read_bytes()
        return ""
    return path.read_text()


def shown(path: Path) -> str:
    """A file of /proc; nothing when its process has ended meanwhile."""
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_no_core_is_dumped_and_memory_is_private(trial):
    limits = Path(f"/proc/{trial.pid}/limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0", limits)
    # In /proc a process that may not be dumped belongs to root, whoever runs it (proc(5)); root itself
    # cannot see the difference.
    assert Path(f"/proc/{trial.pid}/mem").stat().st_uid == 0


# --- the terminal ----------------------------------------------------------------------------------


def test_a_broken_configuration_says_everything_at_once(tmp_path):
    path = tmp_path / "pangate.toml"
    path.write_text('[listen]\nprot = 1\nport = 99999\n[audit]\npath = "nowhere/audit"\n[roless]\n')
    for command in ("serve", "check"):
        done = subprocess.run(
            [sys.executable, "-m", "pangate.cli", command, "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        for word in ("prot", "port", "roless", "issuers", "resources", "audit.path"):
            assert word in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
