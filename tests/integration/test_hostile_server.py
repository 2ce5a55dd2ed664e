"""A resource that does what no PostgreSQL does: each thing ends in one whole error for the agent, or is
passed as it should be; in bounded time and memory, and nobody else notices."""

from __future__ import annotations

import base64
import os
import struct
import time
from pathlib import Path

import pytest

from hostile import GREETING, KEY, LET_IN, Hostile, Peer, hostile, parameter
from pangate.protocols.postgres.messages import error_fields, message
from pangate.trial import Trial, until
from pgwire import (
    BOUND,
    PARSED,
    complete,
    copy_data,
    copy_out,
    error,
    query,
    ready,
    row,
    row_description,
)
from servers import LOGIN, assert_clean, descriptors, fatal, messages, rest, session, tls

pytestmark = pytest.mark.integration

PAN = b"4111111111111111"
MANY = "auth_failures_per_minute = 100000\nconnect_seconds = 2"


@pytest.fixture(scope="module")
def made(postgres, trial):
    """A gateway and its hostile resource; what it says of all of this names no fault of its own."""
    with hostile(postgres, MANY) as (own, server):
        yield own, server
        log = own.log.read_text()
        assert "Traceback" not in log
        assert "internal error" not in log
        assert_clean(log)
        assert_clean(own.audit.read_bytes())


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- the login -------------------------------------------------------------------------------------

SCRAM = message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0")


def scram(first: bytes, nonce: bool = True, final: bytes = b"", early: bool = False):
    """SCRAM as far as the client's proof, with this for the server's first message."""

    def behave(peer: Peer) -> None:
        peer.startup()
        peer.send(SCRAM)
        _, body = peer.message()
        theirs = body.partition(b"r=")[2]
        peer.send(
            message(
                b"R",
                struct.pack("!i", 11) + (b"r=" + theirs + b"more," if nonce else b"") + first,
            )
        )
        if early:
            peer.send(GREETING)
        if final:
            peer.message()
            peer.send(message(b"R", struct.pack("!i", 12) + final), GREETING)
        peer.wait()

    return behave


def sends(*data: bytes):
    def behave(peer: Peer) -> None:
        peer.startup()
        peer.send(*data)

    return behave


def endless(data: bytes, first: bytes = b""):
    def behave(peer: Peer) -> None:
        peer.startup()
        peer.send(first)
        peer.endless(data)

    return behave


def dribble(peer: Peer) -> None:
    peer.startup()
    for byte in GREETING:
        peer.send(bytes([byte]))
        time.sleep(0.2)


def before_being_asked(peer: Peer) -> None:
    peer.send(GREETING, row_description([("a", 25, 0)]), row(PAN), ready())


def reset_after(*data: bytes):
    def behave(peer: Peer) -> None:
        if data:
            peer.startup()
            peer.send(*data)
        peer.reset()

    return behave


SALT = b"s=" + base64.b64encode(b"salt")
AT_LOGIN = {
    "endless parameters": endless(parameter("name", "x" * 60_000), LET_IN),
    "endless other parameters": endless(
        b"".join(parameter(f"p{n}", "x" * 1000) for n in range(2000)), LET_IN
    ),
    "endless notices": endless(message(b"N", b"M" + b"x" * 60_000 + b"\0\0"), LET_IN),
    "endless notices before it lets in": endless(message(b"N", b"Mx\0\0")),
    "an endless message": endless(b"x" * 60_000, b"R\x7f\xff\xff\xff"),
    "a byte at a time": dribble,
    "silence": sends(),
    "silence behind the password": sends(LET_IN),
    "nothing and the end": lambda peer: peer.sock.close(),
    "the end behind the password": lambda peer: (
        peer.startup(), peer.send(LET_IN), peer.sock.close(),
    ),
    "a reset": reset_after(),
    "a reset behind the startup": reset_after(b""),
    "a reset behind the password": reset_after(LET_IN),
    "a reset behind half a message": reset_after(LET_IN, b"S\0\0"),
    "its side shut": lambda peer: (peer.startup(), peer.sock.shutdown(1)),
    "answers before being asked": before_being_asked,
    "rows for a login": sends(LET_IN, row(PAN)),
    "two logins": sends(LET_IN, LET_IN, KEY, ready()),
    "ready and not let in": sends(ready()),
    "a length of 3": sends(b"R\0\0\0\3"),
    "a length below zero": sends(b"R\xff\xff\xff\xff"),
    "an unknown message": sends(LET_IN, message(b"!")),
    "an unknown method": sends(message(b"R", struct.pack("!i", 99))),
    "GSS": sends(message(b"R", struct.pack("!i", 7))),
    "no method": sends(message(b"R")),
    "a salt too short": sends(message(b"R", struct.pack("!i", 5) + b"ab")),
    "a parameter without its end": sends(LET_IN, message(b"S", b"a\0b")),
    "a key too long": sends(LET_IN, message(b"K", b"x" * 300)),
    "an error with a PAN": sends(error("28000", "no " + PAN.decode(), "FATAL")),
    "no mechanism": sends(message(b"R", struct.pack("!i", 10) + b"\0")),
    "mechanisms without an end": sends(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256")),
    "SCRAM of another nonce": scram(b"r=other," + SALT + b",i=4096", nonce=False),
    "SCRAM without a salt": scram(b"s=,i=4096"),
    "SCRAM with a bad salt": scram(b"s=%%%,i=4096"),
    "SCRAM without iterations": scram(SALT),
    "SCRAM with iterations below zero": scram(SALT + b",i=-1"),
    "SCRAM with words for iterations": scram(SALT + b",i=many"),
    "SCRAM with too many digits": scram(SALT + b",i=" + b"9" * 5000),
    "SCRAM with too many iterations": scram(SALT + b",i=2000000000"),
    "SCRAM with a field twice": scram(SALT + b"," + SALT + b",i=4096"),
    "SCRAM that is no text": scram(b"\xff\xfe\0\0"),
    "SCRAM without a proof": scram(SALT + b",i=4096", early=True),
    "SCRAM with a wrong proof": scram(SALT + b",i=4096", final=b"v=AAAA"),
    "SCRAM with an error": scram(SALT + b",i=4096", final=b"e=other-error"),
    "SCRAM's end before its middle": sends(SCRAM, message(b"R", struct.pack("!i", 12) + b"v=AAAA")),
    "SCRAM twice": sends(SCRAM, SCRAM),
    "an encoding that hides digits": sends(
        LET_IN, parameter("client_encoding", "GB18030"), KEY, ready()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_LOGIN)
def test_one_fatal_error_at_the_login(made, name):
    own, server = made
    server.behaviour = AT_LOGIN[name]
    before = memory(own.pid)
    began = time.monotonic()
    with tls(own) as sock:
        sock.sendall(LOGIN + message(b"p", own.token().encode() + b"\0"))
        answer = rest(sock)
    assert time.monotonic() - began < 5
    said = fatal(answer)
    assert said["S"] == "FATAL"
    assert said["C"] in ("08006", "0A000")
    assert_clean(answer)
    assert memory(own.pid) - before < 48 << 20


def test_a_login_that_costs_time_is_not_paid_by_others(made):
    """A million iterations are allowed, and take more than half a second: meanwhile others are served."""
    own, server = made
    server.behaviour = scram(SALT + b",i=1000000")
    other = own.token(team="ledger")
    with session(own, other, "ledger") as agent, tls(own) as slow:
        serve(agent)
        slow.sendall(LOGIN + message(b"p", own.token().encode() + b"\0"))
        longest = 0.0
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            began = time.monotonic()
            serve(agent)
            longest = max(longest, time.monotonic() - began)
    assert longest < 0.4


def serve(sock) -> None:
    """What an agent of the real server runs."""
    sock.sendall(query("select 1"))
    seen = b""
    while not seen.endswith(ready()):
        seen += sock.recv(4096)


# --- the session -----------------------------------------------------------------------------------


def columns(count: int) -> bytes:
    return row_description([(f"c{n}", 25, 0) for n in range(count)])


def cell(length: int, data: bytes = b"") -> bytes:
    return message(b"D", struct.pack("!hi", 1, length) + data)


ONE = row_description([("a", 25, 0)])
DONE = complete("SELECT 1") + ready()
COPY_BOTH = message(b"W", struct.pack("!bh", 0, 0))

WRONG = {
    "a row that nobody described": row(PAN) + DONE,
    "a row of another width": ONE + row(PAN, PAN) + DONE,
    "a cell of the greatest length": ONE + cell(0x7FFFFFFF, PAN),
    "a cell of length -2": ONE + cell(-2, PAN),
    "a cell past the end": ONE + cell(17, PAN),
    "a row with something behind": ONE + message(b"D", struct.pack("!hi", 1, 16) + PAN + b"!"),
    "an empty row message": ONE + message(b"D"),
    "-1 columns": message(b"T", struct.pack("!h", -1)),
    "columns without an end": message(b"T", struct.pack("!h", 2) + b"a\0"),
    "1665 columns": columns(1665) + DONE,
    "a column of format 2": row_description([("a", 25, 2)]) + row(PAN) + DONE,
    "32767 columns": columns(32_767) + DONE,
    "a description longer than any message may be": b"T\x7f\xff\xff\xff" + PAN * 4000,
    "a length of 3": b"T\0\0\0\3" + PAN,
    "a length below zero": b"D\xff\xff\xff\xff" + PAN,
    "an unknown message": message(b"!", PAN),
    "replication": COPY_BOTH + message(b"d", PAN),
    "a login": LET_IN,
    "a key": KEY,
    "an answer that nobody asked for": PARSED + BOUND,
    "COPY data in two halves": copy_out(1) + copy_data(PAN[:8]) + copy_data(PAN[8:] + b"\n"),
    "an encoding that hides digits": parameter("client_encoding", "GB18030") + ONE + row(PAN) + DONE,
    "a parameter without its end": message(b"S", PAN),
    "ready twice": DONE + ready(),
    "a notification that is too short": message(b"A", b"x"),
    "FATAL": error("57P01", "terminating, card " + PAN.decode(), "FATAL"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_ends_the_session(made, name):
    own, server = made

    def behave(peer: Peer) -> None:
        peer.let_in()
        peer.message()
        peer.send(WRONG[name])

    server.behaviour = behave
    with session(own, own.token()) as sock:
        sock.sendall(query("copy cards to stdout" if "COPY" in name else "select a"))
        answer = rest(sock)
    said = error_fields([body for kind, body in messages(answer) if kind == b"E"][-1])
    assert said["S"] == "FATAL"
    assert said["C"] in ("08006", "0A000", "57P01"), said
    assert sum(kind == b"E" for kind, _ in messages(answer)) == 1
    assert_clean(answer)


@pytest.mark.parametrize("data", [DONE, ready(), row(PAN), error("XX000", PAN.decode()), ONE])
def test_an_answer_before_the_question(made, data):
    own, server = made

    def behave(peer: Peer) -> None:
        peer.startup()
        peer.send(GREETING, data)

    server.behaviour = behave
    with tls(own) as sock:
        sock.sendall(LOGIN + message(b"p", own.token().encode() + b"\0"))
        answer = rest(sock)
    said = fatal(answer)
    assert said["C"] == "08006"
    assert_clean(answer)


RIGHT = {
    "no columns": message(b"T", b"\0\0") + row() * 3 + complete("SELECT 3") + ready(),
    "1664 columns": columns(1664) + row(*[PAN] * 1664) + DONE,
    "notices, notifications and parameters unasked": (
        message(b"N", b"SNOTICE\0Msaw " + PAN + b"\0\0")
        + message(b"A", struct.pack("!i", 7) + b"c\0" + PAN + b"\0")
        + parameter("application_name", PAN.decode())
        + ONE + row(b"x") + DONE
    ),
    "an empty error": message(b"E", b"\0") + ready(),
    "1000 results": (ONE + row(PAN) + complete("SELECT 1")) * 1000 + ready(),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_strange_answer_is_passed(made, name):
    own, server = made

    def behave(peer: Peer) -> None:
        peer.let_in()
        peer.message()
        peer.send(RIGHT[name])

    server.behaviour = behave
    with session(own, own.token()) as sock:
        sock.sendall(query("select a"))
        seen = b""
        while not seen.endswith(ready()):
            seen += sock.recv(65536)
    assert_clean(seen)
    assert [kind for kind, _ in messages(seen)] == [kind for kind, _ in messages(RIGHT[name])]


@pytest.mark.parametrize("what", ["notices", "rows", "results", "parameters", "copy"])
def test_an_endless_answer_to_an_agent_that_does_not_read(made, what):
    own, server = made
    parts = {
        "notices": message(b"N", b"SNOTICE\0M" + PAN + b"x" * 50_000 + b"\0\0"),
        "rows": row(PAN + b"x" * 1000) * 60,
        "results": (complete("SELECT 1") + ONE + row(PAN)) * 500,
        "parameters": parameter("application_name", "x" * 50_000),
        "copy": copy_data(PAN + b"x" * 1000 + b"\n") * 60,
    }
    sent = []

    def behave(peer: Peer) -> None:
        peer.let_in()
        peer.message()
        peer.send(copy_out(1) if what == "copy" else ONE)
        sent.append(peer.endless(parts[what]))

    server.behaviour = behave
    used = descriptors(own)
    before = memory(own.pid)
    with session(own, own.token()) as sock:
        sock.sendall(query("select a"))
        time.sleep(1)
        assert memory(own.pid) - before < 16 << 20
        with session(own, own.token(team="ledger"), "ledger") as other:
            serve(other)
    until(lambda: len(sent) == 1, "the end of the resource's connection")
    until(lambda: descriptors(own) <= used, "the end of all connections")


@pytest.mark.parametrize("stage", ["idle", "asked", "in a message", "in a row", "in COPY IN"])
@pytest.mark.parametrize("how", ["end", "reset", "shut"])
def test_a_resource_that_goes_away(made, stage, how):
    own, server = made
    parts = {
        "idle": b"",
        "asked": b"",
        "in a message": ONE + row(b"x") + b"D\0\0\1\0",
        "in a row": ONE + row(b"x"),
        "in COPY IN": message(b"G", struct.pack("!bh", 0, 0)),
    }

    def behave(peer: Peer) -> None:
        peer.let_in()
        if stage != "idle":
            peer.message()
            peer.send(parts[stage])
            time.sleep(0.1)
        match how:
            case "end":
                peer.sock.close()
            case "reset":
                peer.reset()
            case _:
                peer.sock.shutdown(1)

    server.behaviour = behave
    used = descriptors(own)
    with session(own, own.token()) as sock:
        if stage != "idle":
            sock.sendall(query("select a"))
        answer = rest(sock)
    said = fatal(answer)
    assert said["C"] == "08006"
    assert "the resource closed the connection; connect again" in said["M"]
    assert len(messages(answer)) == (
        3 if stage.startswith("in a ") else 2 if "COPY" in stage else 1
    )
    until(lambda: descriptors(own) <= used, "the end of all connections")


def test_a_greeting_and_the_end_at_once(made):
    """The resource is gone before the session has begun."""
    own, server = made

    def behave(peer: Peer) -> None:
        peer.let_in()
        peer.sock.close()

    server.behaviour = behave
    for _ in range(20):
        with tls(own) as sock:
            sock.sendall(LOGIN + message(b"p", own.token().encode() + b"\0"))
            answer = rest(sock)
        assert fatal(answer)["C"] == "08006"


def test_what_an_ended_session_runs_is_cancelled(made: tuple[Trial, Hostile]):
    """The agent resets its connection in the middle of a statement."""
    own, server = made
    cancelled = []

    def behave(peer: Peer) -> None:
        first = peer.startup()
        if first[:4] == struct.pack("!i", 80877102):
            cancelled.append(first[4:])
            peer.sock.close()
            return
        peer.send(GREETING)
        peer.message()

    server.behaviour = behave
    with session(own, own.token()) as sock:
        sock.sendall(query("select pg_sleep(3600)"))
        until(lambda: "pg_sleep" in own.audit.read_text(), "the record")
    until(lambda: cancelled == [struct.pack("!ii", 1, 2)], "the cancel request")
