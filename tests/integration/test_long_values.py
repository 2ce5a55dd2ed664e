"""Values far longer than `limits.max_message_bytes`, through a gateway that keeps one mebibyte at the
most: they come out masked and otherwise as they are, and the gateway does not grow by them."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from conftest import EVERYTHING, PANS
from pangate.protocols.postgres.messages import message
from pangate.trial import Trial, until
from servers import events, messages, past, rest, session, session_of, through

pytestmark = pytest.mark.integration

MIB = 1 << 20
LIMIT = MIB
GROWTH = 24 * MIB
"""What the gateway may grow by: buffers of both sockets, a window, what the allocator keeps. A value that was
kept whole would be more."""

# 1009 bytes is prime, so that over the whole value PANs lie across the borders of windows in every way.
UNIT = (
    "'%s ' || repeat('some words, ', 40) || '%s' || chr(10) || rpad('', %d, 'no line ends here ')"
)
PAN, OTHER = PANS[0], PANS[1]
MASKED, OTHER_MASKED = "************1111", "************4444"


def unit(size: int = 1009) -> str:
    return UNIT % (PAN, OTHER, size - 514)


def as_agent(value: str) -> str:
    return value.replace(PAN, MASKED).replace(OTHER, OTHER_MASKED)


def resident(trial: Trial, what: str) -> int:
    """VmRSS, or VmHWM, its peak, of the gateway in bytes."""
    status = Path(f"/proc/{trial.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(what + ":"))
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def small(postgres, trial) -> Iterator[Trial]:
    """A gateway that keeps little. `trial` has filled the tables."""
    with Trial(postgres, effects=EVERYTHING, limits=f"max_message_bytes = {LIMIT}") as running:
        with psycopg.connect(through(running, running.token())) as warm:
            warm.execute("select * from cards").fetchall()
            warm.execute(f"select repeat({unit()}, 3000)").fetchall()
        yield running
        assert "Traceback" not in running.log.read_text()


@contextmanager
def bounded(trial: Trial) -> Iterator[None]:
    before = resident(trial, "VmRSS")
    peak = [before]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], resident(trial, "VmRSS"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    print(f"grew by {(peak[0] - before) / MIB:.1f} MiB from {before / MIB:.1f} MiB")
    assert peak[0] - before < GROWTH


def finished(trial: Trial, mark: str) -> list[dict]:
    """How the statement with `mark` ended."""
    return [e["data"] for e in session_of(trial, mark) if "rows" in e["data"] and e["data"]["rows"]]


def test_a_long_text(small):
    query = f"select 7, repeat({unit()}, 62000), {PAN}"
    with psycopg.connect(past(small)) as direct:
        (_, value, _) = direct.execute(query).fetchone()
    assert len(value) > 60_000_000
    assert value.count(PAN) == 62_000
    with psycopg.connect(through(small, small.token())) as agent, bounded(small):
        (first, shown, last) = agent.execute(query).fetchone()
        assert agent.execute("select 1").fetchone() == (1,)
    assert (first, last % 10_000) == (7, 1111)
    assert shown == as_agent(value)
    until(lambda: finished(small, "62000"), "the record of how it ended")
    outcome = finished(small, "62000")[0]
    assert outcome["rows"] == 1
    assert outcome["bytes"] > len(value)
    assert outcome["masked"] == {"visa": 62_001, "mastercard": 62_000}


@pytest.mark.parametrize("binary", [False, True])
def test_a_long_bytea(small, binary):
    query = f"select convert_to(repeat({unit()}, 41000), 'UTF8'), 'end'"
    with psycopg.connect(past(small)) as direct:
        (value, _) = direct.execute(query, binary=True).fetchone()
    assert len(value) > 40_000_000
    with psycopg.connect(through(small, small.token())) as agent, bounded(small):
        (shown, end) = agent.execute(query, binary=binary).fetchone()
    assert end == "end"
    assert shown == as_agent(value.decode()).encode()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("type_", ["json", "jsonb"])
def test_long_json(small, type_, binary):
    """PANs in strings and as numbers, and what stands under the name of a code, in every one of many rows."""
    one = '{"n": %s, "pan": "4111111111111111", "bare": 5555555555554444, "card": {"cvv": "737"}}'
    made = f"(select '[' || string_agg(format('{one}', n), ', ') || ']' from generate_series(1, 60000) n)"
    query = "select 7, doc from long_documents"
    small.postgres.psql(
        f"drop table if exists long_documents; create table long_documents as select {made}::{type_} as doc;"
        " grant select on long_documents to public",
        "postgres",
    )
    with psycopg.connect(past(small)) as direct:
        (_, value) = direct.execute(query).fetchone()
    assert len(json.dumps(value)) > 4 * MIB
    with psycopg.connect(through(small, small.token())) as agent, bounded(small):
        psycopg.types.json.set_json_loads(bytes.decode, agent)
        (first, shown) = agent.execute(query, binary=binary).fetchone()
    assert first == 7
    assert PAN not in shown
    assert "737" not in re.sub(r'"n" ?: ?\d+', "", shown)
    shown = json.loads(shown)
    assert len(shown) == len(value)
    for row, real in zip(shown, value, strict=True):
        assert row["n"] == real["n"]
        assert row["pan"] == "************1111"
        assert row["bare"] % 10_000 == 4444
        assert row["bare"] != 5555555555554444
        assert row["card"]["cvv"] == "***"


def copied(connection: psycopg.Connection, query: str) -> list[bytes]:
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        return [bytes(row) for row in copy]


@pytest.mark.parametrize("form", ["text", "csv, header", "csv, force_quote *", "binary"])
def test_a_long_row_of_copy(small, form):
    """Between short ones, with its PANs across windows in every way, and what has to be escaped."""
    long = f"repeat({unit()} || '\\, \" ' || chr(9), 41000)"
    rows = (
        f"select 7, {PAN}::text, 'x' union all select 8, {long}, '{OTHER}'"
        f" union all select 9, '{PAN}', null"
    )
    query = f"copy ({rows}) to stdout (format {form})"
    with psycopg.connect(past(small)) as direct:
        expected = copied(direct, query)
    assert max(map(len, expected)) > 40_000_000
    with psycopg.connect(through(small, small.token())) as agent, bounded(small):
        shown = copied(agent, query)
        assert agent.execute("select 1").fetchone() == (1,)
    assert len(shown) == len(expected)
    for row, real in zip(shown, expected, strict=True):
        assert row == as_agent(real.decode("latin-1")).encode("latin-1")
    until(lambda: finished(small, f"(format {form})"), "the record of how it ended")
    outcome = finished(small, f"(format {form})")[-1]
    assert outcome["masked"] == {"visa": 41_002, "mastercard": 41_001}
    assert outcome["bytes"] >= sum(map(len, shown))
    assert outcome["rows"] in (len(shown), len(shown) + 1)


@pytest.mark.parametrize("form", ["text", "csv"])
def test_what_is_wiped_in_a_long_row_of_copy(small, form):
    small.postgres.psql(
        "drop table if exists long_cards; create table long_cards (cvv text, doc json, note text);"
        f" insert into long_cards values ('737', '{{\"cvv\": \"737\"}}', repeat({unit()}, 5000)),"
        " (repeat('737', 1000000), null, null); grant select on long_cards to public",
        "postgres",
    )
    query = f"copy (select note, doc, cvv from long_cards) to stdout (format {form})"
    with psycopg.connect(past(small)) as direct:
        expected = copied(direct, query)
    with psycopg.connect(through(small, small.token())) as agent, bounded(small):
        shown = copied(agent, query)
    assert [len(row) for row in shown] == [len(row) for row in expected]
    for row in shown:
        assert PAN.encode() not in row
        assert b"737" not in row.replace(b"some words", b"")
    assert shown[0].endswith((b"***\n", b'***"\n'))
    assert shown[1].endswith(b"*" * 3_000_000 + b"\n")


@pytest.mark.parametrize(
    "value",
    [
        f"array['a', repeat({unit()}, 20000), '{PAN}']",
        f"row('a', repeat({unit()}, 20000), row({PAN}::bigint, repeat({unit()}, 3000)))",
        "(select kept from long_hstores)",
        f"array[hstore('k', repeat({unit()}, 20000))]",
        "(select range_agg(int8range(n * 10, n * 10 + 1)) from generate_series(1, 100000) n)"
        f" + int8multirange(int8range({PAN}, {PAN} + 1))",
        "(select array_agg(n) from generate_series(1, 300000) n)",
        "(select path('(' || string_agg(n || ',' || n, ',') || ')') from generate_series(1, 100000) n)",
    ],
)
def test_what_holds_others_is_taken_apart(small, value):
    small.postgres.psql(
        "create extension if not exists hstore with schema public; drop table if exists long_hstores;"
        f" create table long_hstores as select hstore(array['k', repeat({unit()}, 20000), 'cvv', '737',"
        f" 'n', '{OTHER}']) as kept; grant select on long_hstores to public",
        "postgres",
    )
    query = f"select 7, {value}"

    def run(url: str) -> list[bytes]:
        with psycopg.connect(url) as connection, connection.cursor(binary=True) as cursor:
            cursor.execute(query)
            return [cursor.pgresult.get_value(0, column) for column in (0, 1)]

    expected = run(past(small))
    assert len(expected[1]) > LIMIT
    with bounded(small):
        shown = run(through(small, small.token()))
    assert shown[0] == expected[0]
    assert len(shown[1]) == len(expected[1])
    whole = as_agent(expected[1].decode("latin-1")).encode("latin-1")
    assert PAN.encode() not in shown[1]
    number = int(PAN)
    for was in (number, number + 1):
        filler = 10**15 + was % 10_000
        whole = whole.replace(struct.pack("!q", was), struct.pack("!q", filler))
    if "kept" in value:
        whole = whole.replace(b"\0\0\0\x03737", b"\0\0\0\x03***")
    assert b"737" not in shown[1]
    differs = [at for at in range(len(whole)) if whole[at] != shown[1][at]][:9]
    assert not differs or "range" in value  # what is no PAN there may look like one


def test_zeros_and_noise(small):
    """Values without a line or a word in them: nothing of them changes."""
    query = (
        "select repeat('a', 8000000), decode(repeat('00', 5000000), 'hex'),"
        " decode(repeat(md5('a') || md5('b'), 150000), 'hex'), repeat('\u6f22', 3000000)"
    )
    with psycopg.connect(past(small)) as direct:
        expected = direct.execute(query).fetchone()
    with psycopg.connect(through(small, small.token())) as agent, bounded(small):
        assert agent.execute(query).fetchone() == expected
        assert agent.execute(query, binary=True).fetchone() == expected


def test_a_slow_reader_makes_nothing_pile_up(small):
    with session(small, small.token()) as sock, bounded(small):
        sock.sendall(message(b"Q", f"select repeat({unit()}, 60000)".encode() + b"\0"))
        time.sleep(3)
        seen = 0
        while seen < 60_000_000:
            chunk = sock.recv(1 << 16)
            assert chunk
            seen += len(chunk)


def test_a_long_value_into_a_table(small):
    value = f"{PAN} and more ".encode() * 1_300_000
    assert len(value) > 20_000_000
    with session(small, small.token()) as sock, bounded(small):
        sock.sendall(message(b"Q", b"copy notes (id, note) from stdin\0"))
        reply = b""
        while not reply.startswith((b"G", b"E")):
            reply += sock.recv(65536)
        assert reply.startswith(b"G"), reply
        sock.sendall(message(b"d", b"4711\t" + value + b"\n") + message(b"c", b""))
        reply = b""
        while not reply.endswith(b"Z\0\0\0\5I"):
            reply += sock.recv(65536)
    assert messages(reply)[0] == (b"C", b"COPY 1\0")
    look = "select md5(note) from notes where id = 4711; delete from notes where id = 4711"
    stored = small.postgres.psql(look, "postgres", "-At")
    assert hashlib.md5(value, usedforsecurity=False).hexdigest() in stored
    assert PAN not in small.audit.read_text()


def test_what_stands_under_a_name_in_long_json(small):
    """A string, what is nested, and a key of which only the end is left when its value comes."""
    query = (
        f"select json_build_object('a', repeat({unit()}, 5000),"
        " 'cvv2', array[repeat('737, ', 500000), '737'],"
        f" repeat('long and ', 200000) || 'cvv', '737', 'end', '{PAN}')::text as t"
        f" union all select repeat({unit()}, 3000)"
    )
    # Of an expression with such a key all is wiped; here it is data, as that of a table.
    small.postgres.psql(
        f"drop table if exists long_names; create table long_names as {query};"
        " grant select on long_names to public",
        "postgres",
    )
    for type_ in ("text", "json"):
        shown_as = f"select t::{type_} as doc from long_names where t like '{{%'"
        with psycopg.connect(through(small, small.token())) as agent, bounded(small):
            psycopg.types.json.set_json_loads(bytes.decode, agent)
            (shown,) = agent.execute(shown_as).fetchone()
        assert PAN not in shown
        assert "737" not in shown
        read = json.loads(shown)
        assert read["a"].startswith("************1111 some words, ")
        assert read["cvv2"] == 0
        assert list(read.values())[2:] == ["***", MASKED]


def test_who_sends_all_of_it_first_is_told_too(small):
    """A connection that is closed with unread bytes is reset, and what was said last is lost."""
    with session(small, small.token()) as sock:
        sock.sendall(message(b"Q", b"select '" + b"x" * (20 * MIB) + b"'\0"))
        assert b"max_message_bytes" in rest(sock)


@pytest.mark.parametrize("how", ["query", "parse", "bind", "call"])
def test_a_long_message_of_the_agent_that_is_decided_is_refused(small, how):
    """It is decided and recorded whole before anything of it goes on."""
    long = "x" * (2 * MIB)
    with (
        psycopg.connect(through(small, small.token()), autocommit=True) as agent,
        pytest.raises(psycopg.OperationalError, match="max_message_bytes"),
    ):
        match how:
            case "query":
                agent.pgconn.send_query(f"select '{long}'".encode())
                results = iter(agent.pgconn.get_result, None)
                raise psycopg.OperationalError(str([one.error_message for one in results]))
            case "parse":
                agent.execute(f"select '{long}', %s", (1,))
            case "bind":
                agent.execute("select length(%s)", (long,))
            case "call":
                agent.execute("select lo_from_bytea(0, %b)", (long.encode(),))
    until(lambda: "max_message_bytes" in json.dumps(events(small)[-1]), "the record of the end")


@pytest.mark.parametrize(
    "query",
    [
        "select ('[' || repeat('4111', 2000000) || ']')::xml",
        "select 1, repeat('4111,', 2000000)",
    ],
)
def test_what_cannot_be_masked_in_pieces_is_refused_by_the_limits_name(small, query):
    with (
        psycopg.connect(through(small, small.token())) as agent,
        pytest.raises(psycopg.OperationalError, match="max_message_bytes"),
    ):
        agent.execute(query)


def test_an_error_behind_the_beginning_of_a_row_just_ends_the_session(small):
    """Within a message nothing can be said: no error may look like a part of the value."""
    with session(small, small.token()) as sock:
        query = f"select repeat({unit()}, 3000), repeat('4111,', 2000000)"
        sock.sendall(message(b"Q", query.encode() + b"\0"))
        seen = rest(sock)
    assert seen.startswith(b"T")
    assert PAN.encode() not in seen
    assert b"max_message_bytes" not in seen
    assert b"FATAL" not in seen
    until(lambda: "max_message_bytes" in json.dumps(events(small)[-1]), "the record of the end")


def test_a_limit_of_the_role_holds_within_a_row(postgres, trial):
    with (
        Trial(postgres, role="limits = { max_bytes = 5_000_000 }") as strict,
        session(strict, strict.token()) as sock,
    ):
        query = f"select repeat({unit()}, 60000)"
        sock.sendall(message(b"Q", query.encode() + b"\0"))
        seen = rest(sock)
        until(lambda: "max_bytes" in json.dumps(events(strict)[-1]), "the record of the end")
    assert 1_000_000 < len(seen) < 6_000_000
    assert PAN.encode() not in seen
    assert b"FATAL" not in seen
