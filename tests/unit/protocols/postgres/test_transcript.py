"""What a recorded stream says, and values in binary as the server writes them as text."""

from __future__ import annotations

import random
import struct

import psycopg
import pytest

from pangate.errors import ProtocolError
from pangate.protocols import Lines, Row, Said, Table
from pangate.protocols.postgres.messages import error, message
from pangate.protocols.postgres.transcript import Transcript
from pangate.protocols.postgres.values import shown
from pgwire import Bench, cstring


def columns(*named: tuple[str, int, int]) -> bytes:
    """The body of a RowDescription of (name, OID, format)."""
    return struct.pack("!h", len(named)) + b"".join(
        cstring(name) + struct.pack("!IhIhih", 0, 0, oid, -1, -1, form) for name, oid, form in named
    )


def row(*cells: bytes | None) -> bytes:
    return message(
        b"D",
        struct.pack("!h", len(cells))
        + b"".join(
            struct.pack("!i", -1 if cell is None else len(cell)) + (cell or b"") for cell in cells
        ),
    )


STREAM = (
    message(b"T", columns(("id", 23, 1), ("name", 25, 0)))
    + row(struct.pack("!i", 7), "Zoë".encode())
    + row(None, b"")
    + message(b"C", b"SELECT 2\0")
    + error("22012", "division by zero", detail="it was zero")
    + message(b"N", b"SNOTICE\0VNOTICE\0C00000\0Mcareful\0\0")
    + message(b"H", b"\0\0\1\0\0")
    + message(b"d", b"1\ttwo\n")
    + message(b"c")
    + message(b"A", b"\0\0\0\1shop\0paid\0")
    + message(b"S", b"TimeZone\0UTC\0")
    + message(b"Z", b"I")
)
SAYS = [
    Table(("id", "name")),
    Row(("7", "Zoë")),
    Row((None, "")),
    Said("done", "SELECT 2"),
    Said("error", "ERROR: division by zero\nDETAIL: it was zero", "22012"),
    Said("notice", "NOTICE: careful", "00000"),
    Lines("1\ttwo"),
    Said("notification", "shop: paid"),
    Said("parameter", "TimeZone = UTC"),
]


@pytest.mark.parametrize("seed", range(10))
def test_it_says_the_same_however_it_is_split(seed):
    generator = random.Random(seed)
    reader = Transcript({})
    got, at = [], 0
    while at < len(STREAM):
        size = generator.choice((1, 2, 5, 30, 1000))
        got += reader.take(STREAM[at : at + size])
        at += size
    assert [reply for _, reply in got] == SAYS
    places = [place for place, _ in got]
    assert places == sorted(set(places))
    assert places[0] == 0
    assert STREAM[places[3] : places[3] + 1] == b"C"


def test_rows_of_which_the_agent_was_told_nothing():
    one, two = row(struct.pack("!q", 12)), row(b"\1")
    reader = Transcript({})
    reader.described(0, columns(("n", 20, 1)))
    reader.described(len(one), columns(("ok", 16, 1)))
    assert [reply for _, reply in reader.take(one + two)] == [Row(("12",)), Row(("t",))]
    assert reader.table() == Table(("ok",))


def test_what_is_cut_between_rows_and_within_one():
    one = row(b"first")
    reader = Transcript({})
    assert [place for place, _ in reader.take(one)] == [0]
    reader.cut(1000, whole=True)
    assert [place for place, _ in reader.take(one)] == [len(one) + 1000]
    assert list(reader.take(one[:7])) == []
    reader.cut(500, whole=False)
    assert list(reader.take(b"anything that is left of it")) == []


def test_other_encodings():
    reader = Transcript({"client_encoding": "LATIN1"})
    ((_, reply),) = reader.take(row("Zoë".encode("latin-1")))
    assert reply == Row(("Zoë",))
    list(reader.take(message(b"S", b"client_encoding\0UTF8\0")))
    ((_, reply),) = reader.take(row("Zoë".encode()))
    assert reply == Row(("Zoë",))


def test_what_is_none_of_the_protocol():
    with pytest.raises(ProtocolError):
        list(Transcript({}).take(b"D\0\0\0\1 more"))
    with pytest.raises(ProtocolError):
        list(Transcript({}).take(message(b"D", b"\0\2\0\0\0\1x")))
    with pytest.raises(ProtocolError):
        list(Transcript({}).take(row(b"x")[:-1] + b"x" + message(b"D", b"\0\1\0\0\0\1xy")))


@pytest.mark.parametrize(
    "sql",
    [
        "select true, false, 7::int2, -7::int4, 9007199254740993::int8, 4000000000::oid",
        "select 0::numeric, 1.50::numeric, -12345678901234.000100::numeric, 1e20::numeric, 0.00001::numeric",
        "select 'NaN'::numeric, 10000::numeric, 100000000::numeric(20,2), 0.5::numeric, 1e-9::numeric",
        "select 1.5::float8, -2.25::float4, 1e100::float8",
        "select 'text', 'n'::name, 'v'::varchar, 'c'::char(3), '\\x00ff'::bytea",
        "select '2026-11-24'::date, 'infinity'::date, '-infinity'::date, '12:30:00.5'::time",
        "select '2026-11-24 12:30:00.25'::timestamp, '-infinity'::timestamp",
        "select '4111111a-1111-4111-8111-111111111111'::uuid, '{\"a\": 1}'::jsonb, '[2]'::json",
        "select array[1, null, 3], array[]::text[], array[1.5, 2]::numeric[], array['a','b']",
    ],
)
def test_binary_values_are_shown_as_the_server_shows_them(postgres, sql):
    with psycopg.connect(**server(postgres), autocommit=True) as one:
        one.execute("set timezone = 'UTC'")
        texts = one.pgconn.exec_params(sql.encode(), [], result_format=0)
        binary = one.pgconn.exec_params(sql.encode(), [], result_format=1)
        for index in range(texts.nfields):
            expected = texts.get_value(0, index).decode()
            got = shown(binary.ftype(index), binary.get_value(0, index))
            assert number(got) == number(expected), (index, binary.ftype(index))


def number(text: str) -> object:
    """Doubles may be written in more than one way."""
    try:
        return float(text) if "e" in text else text
    except ValueError:
        return text


def server(postgres) -> dict[str, object]:
    settings = postgres.environment()
    return {
        "host": settings["PGHOST"],
        "port": settings["PGPORT"],
        "user": settings["PGUSER"],
        "password": settings["PGPASSWORD"],
        "dbname": settings.get("PGDATABASE", "postgres"),
        "sslmode": "require",
    }


@pytest.mark.parametrize("oid", [16, 20, 23, 701, 1082, 1114, 1184, 1700, 2950, 3802, 1007, 1231])
def test_values_that_are_not_of_their_type_are_shown_as_hex(oid):
    generator = random.Random(oid)
    for size in range(30):
        value = generator.randbytes(size)
        assert isinstance(shown(oid, value), str)
    assert shown(oid, b"\xff\xff\xff") == "\\xffffff"


# --- where the codec says that things are -----------------------------------------------------------


def test_the_codec_says_what_rows_are_and_where():
    bench = Bench().log_in()
    bench.agent(message(b"P", b"\0select 1\0\0\0"))
    bench.agent(message(b"B", b"\0" * 8) + message(b"E", b"\0" * 5) + message(b"S"))
    body = columns(("n", 25, 0))
    answer = (
        message(b"1") + message(b"2") + message(b"T", body) + row(b"x")
        + message(b"C", b"SELECT 1\0") + message(b"Z", b"I")
    )  # fmt: skip
    bench.server(answer)
    given = bench.to_frontend
    assert b"T" + struct.pack("!I", len(body) + 4) not in given
    (described,) = bench.described
    assert described.description == body
    assert given[described.place :].startswith(row(b"x"))
    assert [given[one.place : one.place + 1] for one in bench.finished] == [b"1", b"C"]
    assert described.number == bench.finished[1].number
