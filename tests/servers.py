"""Ways to the servers that tests start: as an agent through the gateway, as the gateway itself past it, as
bytes; and what the masks make of a value, by the plain definition or by the scanner alone."""

from __future__ import annotations

import contextlib
import decimal
import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
from psycopg.conninfo import make_conninfo

import oracle
from conftest import PANS
from pangate.masking import DIGITS, default_scanner
from pangate.protocols.postgres.login import BackendLogin
from pangate.protocols.postgres.messages import error_fields, message, ssl_request, startup
from pangate.trial import Trial

LOGIN = startup({"user": "agent", "database": "payments"})
NUMBER = re.compile(r"[0-9]+")


# --- what is expected ------------------------------------------------------------------------------


def masked(text: str) -> str:
    """What an agent reads where `text` stands."""
    return oracle.mask(text.encode()).decode()


def number(value: int) -> int:
    """What an agent reads where the number `value` stands: a number of as many digits."""
    out = bytearray(str(value).encode())
    default_scanner().mask(out, DIGITS)
    return int(out)


def numbers(text: str) -> str:
    """`text` with each whole number in it as an agent reads it."""
    return NUMBER.sub(lambda found: str(number(int(found[0]))).zfill(len(found[0])), text)


def as_agent(value):
    """What an agent's driver gives where one past the gateway gives `value`."""
    match value:
        case None | bool() | float():
            return value
        case str():
            return masked(value)
        case bytes():
            return oracle.mask(value)
        case int() | decimal.Decimal():
            out = bytearray(format(value, "d" if isinstance(value, int) else "f").encode())
            default_scanner().mask(out, DIGITS)
            return type(value)(out.decode())
        case dict():
            return {masked(key): as_agent(item) for key, item in value.items()}
        case list():
            return [as_agent(item) for item in value]
        case tuple() | asyncpg.Record():
            return tuple(map(as_agent, value))
    raise TypeError(type(value))


def assert_equal_but_for_masks(before, after) -> None:
    """All rows but for the masks. Their types count as well as their values."""
    assert len(before) == len(after) > 0
    changed = 0
    for was, shown in zip(before, after, strict=True):
        expected = as_agent(tuple(was))
        assert repr(tuple(shown)) == repr(expected)
        changed += repr(expected) != repr(tuple(was))
    assert changed, "there was nothing to mask: this could not fail"


def assert_clean(shown: str | bytes) -> None:
    """No PAN is in `shown`, by the plain definition and by search for those that the tables hold."""
    data = shown.encode() if isinstance(shown, str) else shown
    assert oracle.find(data) == []
    for pan in PANS:
        assert pan.encode() not in data
        assert pan.encode().hex().encode() not in data


# --- psql ------------------------------------------------------------------------------------------


def service(trial: Trial) -> dict[str, str]:
    """Environment for a psql that goes past the gateway, with the gateway's own login."""
    return {
        **trial.postgres.environment(),
        "PGUSER": "payments_service",
        "PGPASSWORD": trial.secret,
    }


def psql(
    environment: dict[str, str], trial: Trial, script: str, *arguments: str, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Feed `script` to a psql."""
    return subprocess.run(
        [str(trial.postgres.bin / "psql"), "-X", *arguments, "-f", "-"],
        input=script,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


# --- drivers ---------------------------------------------------------------------------------------


def through(trial: Trial, token: str, **more: object) -> str:
    """Connection string of an agent."""
    return make_conninfo(
        host=trial.host, port=trial.port, user="agent", password=token, dbname="payments",
        sslmode="verify-full", sslrootcert=str(trial.ca), connect_timeout=20, **more,
    )  # fmt: skip


def past(trial: Trial, **more: object) -> str:
    """Connection string past the gateway, with the gateway's own login."""
    return make_conninfo(
        host=trial.postgres.host, port=trial.postgres.port, user="payments_service",
        password=trial.secret, dbname="postgres", sslmode="verify-full",
        sslrootcert=str(trial.postgres.authority.ca), **more,
    )  # fmt: skip


# --- bytes -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def tls(trial: Trial) -> Iterator[ssl.SSLSocket]:
    """A socket to the gateway with TLS on it and nothing said yet."""
    with socket.create_connection((trial.host, trial.port), timeout=20) as plain:
        plain.sendall(ssl_request())
        assert plain.recv(1) == b"S"
        context = ssl.create_default_context(cafile=str(trial.ca))
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            yield sock


@contextlib.contextmanager
def session(trial: Trial, token: str, database: str = "payments") -> Iterator[ssl.SSLSocket]:
    """A socket to the gateway on which an agent has logged in."""
    with tls(trial) as sock:
        login = startup({"user": "agent", "database": database})
        sock.sendall(login + message(b"p", token.encode() + b"\0"))
        seen = b""
        while b"Z\0\0\0\5I" not in seen:
            chunk = sock.recv(65536)
            assert chunk, seen
            seen += chunk
        yield sock


@contextlib.contextmanager
def past_session(trial: Trial) -> Iterator[ssl.SSLSocket]:
    """A socket to the server itself on which the gateway's own login has logged in."""
    with socket.create_connection((trial.host, trial.postgres.port), timeout=20) as plain:
        plain.sendall(ssl_request())
        assert plain.recv(1) == b"S"
        context = ssl.create_default_context(cafile=str(trial.postgres.authority.ca))
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            login = BackendLogin("payments_service", "postgres", trial.secret)
            sock.sendall(login.start())
            while not login.done:
                chunk = sock.recv(65536)
                assert chunk, "the server ended the login"
                sock.sendall(login.feed(chunk))
            yield sock


def rest(sock: socket.socket) -> bytes:
    """What comes until the other side closes."""
    seen = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while chunk := sock.recv(65536):
            seen += chunk
    return seen


def messages(data: bytes) -> list[tuple[bytes, bytes]]:
    """`data` of the server's side as (type, body), with nothing left over."""
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big")
        assert len(data) > size, "the last message is not whole"
        found.append((data[:1], data[5 : size + 1]))
        data = data[size + 1 :]
    return found


def fatal(data: bytes) -> dict[str, str]:
    """Fields of the one error that `data` ends with."""
    errors = [body for kind, body in messages(data) if kind == b"E"]
    assert len(errors) == 1, data
    assert messages(data)[-1][0] == b"E", data
    return error_fields(errors[0])


# --- the gateway -----------------------------------------------------------------------------------


def events(trial: Trial) -> list[dict]:
    """The record, whole lines of it."""
    lines = trial.audit.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]


def session_of(trial: Trial, mark: str) -> list[dict]:
    """The events of the session that has `mark` in one of its statements."""
    found = events(trial)
    names = {e["session"] for e in found if mark in str(e["data"].get("text", ""))}
    assert len(names) <= 1, f"{mark} is in {len(names)} sessions"
    return [e for e in found if e["session"] in names]


def descriptors(trial: Trial) -> int:
    """Open files of the gateway. Its memory is private, so only root can count them; for others, the
    connections to it that its side has not closed (states: Linux, include/net/tcp_states.h)."""
    if os.geteuid() == 0:
        return len(list(Path(f"/proc/{trial.pid}/fd").iterdir()))
    established, close_wait = "01", "08"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [state for _, local, _, state, *_ in lines if int(local.split(":")[1], 16) == trial.port]
    return ours.count(established) + ours.count(close_wait)


def backends(trial: Trial) -> int:
    """Sessions that the gateway has at the server: all its connections but those that were made as new and
    wait for an owner. What the server says of one does not change before its next owner says something, so
    that the record tells whether it has one."""
    owned: dict[str, int] = {}
    for event in events(trial):
        if event["code"] == "session.connected":
            owned[event["session"]] = event["data"]["backend"]
        elif event["code"] == "session.end":
            owned.pop(event["session"], None)
    counted = (
        "select count(*) from pg_stat_activity where usename = 'payments_service' "
        "and (not (state = 'idle' and query like '%setseed(%') "
        f"or pid = any('{{{','.join(map(str, owned.values()))}}}'))"
    )
    return int(trial.postgres.psql(counted, "postgres", "-At"))
