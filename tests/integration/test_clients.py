"""Ordinary clients through the gateway: psql, psycopg and asyncpg see masked results, and otherwise what
they would see without it."""

from __future__ import annotations

import asyncio
import csv
import decimal
import signal
import ssl
import subprocess
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest
from psycopg import sql as psql_sql

import oracle
from conftest import PANS
from pangate.masking import DIGITS, default_scanner
from pangate.trial import until

pytestmark = [pytest.mark.integration, pytest.mark.pools]


def number(value: int) -> int:
    """A masked number, as the scanner alone makes it."""
    out = bytearray(str(value).encode())
    default_scanner().mask(out, DIGITS)
    return int(out)


def text(value: str) -> str:
    return oracle.mask(value.encode()).decode()


def assert_clean(shown: str | bytes) -> None:
    data = shown.encode() if isinstance(shown, str) else shown
    assert default_scanner().find(data) == []
    assert not any(pan.encode() in data for pan in PANS)
    assert not any(pan.encode().hex().encode() in data for pan in PANS)


# --- psql ------------------------------------------------------------------------------------------


CORPUS = Path(__file__).parents[1] / "corpus" / "postgres.csv"


def rows() -> list[dict[str, str]]:
    with CORPUS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_corpus_of_ways_out(trial, token, row):
    done = trial.psql(token, *row["sql"].split(" ;; "))
    assert done.returncode == 0 or "gb18030" in row["name"], done.stderr
    assert len(done.stdout) > 20 or row["name"] == "gb18030"
    assert_clean(done.stdout + done.stderr)


def test_psql_shows_masks_where_the_pans_were(trial, token):
    direct = trial.postgres.psql("select t, n, d, v, m from cards order by id", "postgres", "-At")
    through = trial.psql(token, "select t, n, d, v, m from cards order by id", arguments=("-At",))
    for before, after in zip(direct.splitlines(), through.stdout.splitlines(), strict=True):
        t, n, d, v, _ = before.split("|")
        shown = after.split("|")
        assert shown[:4] == [
            text(t),
            str(number(int(n))),
            f"{number(int(d[:-3]))}{d[-3:]}",
            text(v),
        ]
        assert len(before) == len(after)


def test_what_is_no_pan_is_as_it_was(trial, token):
    command = (
        "select generate_series(1, 2000), now()::date, md5('x'), pi(), '{\"a\": [1.5, null]}'::jsonb,"
        " array[1, 2], '\\x00ff'::bytea, 12345678901::bigint, 'caf\u00e9', null"
    )
    direct = trial.postgres.psql(command)
    assert trial.psql(token, command).stdout == direct


def test_psql_describes_tables(trial, token):
    for command in ("\\d cards", "\\dt", "\\du", "\\l", "\\df shout", "\\dn"):
        done = trial.psql(token, command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_errors_notices_and_notifications_are_masked(trial, token):
    done = trial.psql(token, "select shout('4111111111111111')")
    assert "************1111" in done.stderr
    assert done.stderr.count("************1111") == 2
    assert_clean(done.stderr)
    done = trial.psql(token, "select ('4111111111111111x' || id)::int from cards")
    assert '"************1111x1"' in done.stderr
    assert_clean(done.stderr)
    done = trial.psql(token, "listen cards", "notify cards, '4111111111111111'", "select 1")
    assert 'payload "************1111"' in done.stdout
    assert_clean(done.stdout)


def test_transactions_and_writes(trial, token):
    done = trial.psql(
        token,
        "begin; insert into notes values (1, 'one')",
        "select nonsense",
        "insert into notes values (2, 'two')",
        "rollback",
    )
    assert 'column "nonsense" does not exist' in done.stderr
    assert "current transaction is aborted" in done.stderr
    done = trial.psql(
        token, "insert into notes values (3, 'kept') returning note", arguments=("-At",)
    )
    assert done.stdout.splitlines()[0] == "kept"
    assert trial.postgres.psql("select count(*) from notes", "postgres", "-At").strip() == "1"
    copied = subprocess.run(
        [str(trial.postgres.bin / "psql"), "-X", "-c", "copy notes from stdin"],
        input=b"7\tfrom the agent\n8\tand more\n",
        env=trial.environment(token),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert copied.stdout.strip() == b"COPY 2"
    trial.postgres.psql("truncate notes")


def test_cancel_reaches_the_own_session_only(trial, token):
    process = subprocess.Popen(
        [str(trial.postgres.bin / "psql"), "-X", "-c", "select pg_sleep(60)"],
        env=trial.environment(token),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def running() -> bool:
        found = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)' and state = 'active'"
        return trial.postgres.psql(found, "postgres", "-At").strip() == "1"

    until(running, "the statement")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert b"canceling statement due to user request" in errors
    until(lambda: not running(), "the end of the statement")


# --- psycopg ---------------------------------------------------------------------------------------


def dsn(trial, token, **more) -> str:
    return psycopg.conninfo.make_conninfo(
        host=trial.host, port=trial.port, user="agent", password=token, dbname="payments",
        sslmode="verify-full", sslrootcert=str(trial.ca), **more,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _no_notes_of_others(trial):
    trial.postgres.psql("truncate notes", "postgres")


@pytest.fixture
def connection(trial, token):
    with psycopg.connect(dsn(trial, token), autocommit=True) as open_connection:
        yield open_connection


COLUMNS = "id, t, v, c, n, d, j, jb, ta, na, da, x, h, p, e, s, u, ok"


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_psycopg(connection, postgres, binary, prepare):
    columns = COLUMNS if not binary else COLUMNS.replace(" h,", "").replace(" e,", "")
    query = f"select {columns}, b from cards where id < %s order by id"
    with connection.cursor(binary=binary) as cursor:
        rows = cursor.execute(query, (100,), prepare=prepare).fetchall()
        again = cursor.execute(query, (100,), prepare=prepare).fetchall()
    assert rows == again
    assert len(rows) == len(PANS)
    for row, pan in zip(rows, PANS, strict=True):
        value = dict(zip(columns.split(", "), row, strict=False))
        masked = number(int(pan))
        assert value["t"] == text(pan)
        assert value["v"] == f"card {text(pan)}"
        assert value["c"].strip() == text(pan)
        assert value["n"] == masked
        assert value["d"] == decimal.Decimal(masked) + decimal.Decimal("0.50")
        assert value["j"] == value["jb"] == {"pan": text(pan), "n": masked}
        assert value["ta"] == [text(pan), "x", None]
        assert value["na"] == [masked, 7]
        assert value["da"] == [decimal.Decimal(masked)]
        xml = value["x"].decode() if binary else value["x"]
        assert xml == f"<pan>{text(pan)}</pan>"
        assert value["ok"] is True
        assert bytes(row[-1]) == b"x " + text(pan).encode()
    assert_clean(repr(rows))


def test_psycopg_types_of_ones_own_in_binary(connection):
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute("select h, e, p from cards order by id").fetchall()
    for pan, (holder, mood, domain) in zip(PANS, rows, strict=True):
        assert (text(pan).encode() if isinstance(holder, bytes) else text(pan)) in holder
        assert mood in ("fine", b"fine")
        assert domain == text(pan)
    assert_clean(repr(rows))


def test_psycopg_pipeline_and_server_cursor(connection):
    with connection.pipeline(), connection.cursor() as one, connection.cursor() as two:
        one.execute("select t from cards where id = %s", (1,))
        two.execute("select n from cards where id = %s", (2,))
        assert one.fetchone() == (text(PANS[0]),)
        assert two.fetchone() == (number(int(PANS[1])),)
    with connection.transaction(), connection.cursor(name="held") as cursor:
        cursor.itersize = 1
        cursor.execute("select t from cards order by id")
        assert [t for (t,) in cursor] == [text(pan) for pan in PANS]


def test_psycopg_an_error_in_a_pipeline(connection):
    with pytest.raises(psycopg.errors.UndefinedTable), connection.pipeline():
        connection.execute("select 1")
        connection.execute("select * from nowhere")
        connection.execute("select 2")
    assert connection.execute("select 3").fetchone() == (3,)


def test_psycopg_copy(connection):
    with connection.cursor() as cursor:
        with cursor.copy("copy (select t, n from cards order by id) to stdout") as copy:
            rows = list(copy.rows())
        assert rows == [(text(pan), str(number(int(pan)))) for pan in PANS]
        with cursor.copy(
            "copy (select t, n from cards order by id) to stdout (format binary)"
        ) as copy:
            copy.set_types(["text", "int8"])
            assert list(copy.rows()) == [(text(pan), number(int(pan))) for pan in PANS]
        with (
            pytest.raises(psycopg.errors.FeatureNotSupported, match="QUOTE"),
            cursor.copy(
                "copy (select t from cards) to stdout (format csv, quote '7', force_quote *)"
            ) as copy,
        ):
            list(copy)
        assert cursor.execute("select 1").fetchone() == (1,)


def test_psycopg_identifiers_and_nulls(connection):
    query = psql_sql.SQL("select {} from cards where id = 1").format(psql_sql.Identifier("t"))
    assert connection.execute(query).fetchone() == (text(PANS[0]),)
    assert connection.execute("select null::text, ''").fetchone() == (None, "")


def test_a_result_larger_than_all_buffers(connection):
    rows = connection.execute(
        "select id, repeat('x', 200) || ' 4111111111111111' from generate_series(1, 50000) id"
    ).fetchall()
    assert len(rows) == 50000
    assert {value[-16:] for _, value in rows} == {"************1111"}
    (wide,) = connection.execute("select repeat('4111111111111111,', 200000)").fetchone()
    assert wide == "************1111," * 200000


def test_a_message_over_the_limit_is_refused_by_its_name(connection):
    """Digits without an end are in no piece that can be masked by itself; others are
    (test_long_values.py)."""
    with pytest.raises(psycopg.OperationalError, match="max_message_bytes"):
        connection.execute("select repeat('1', 20000000)")


async def test_psycopg_async(trial, token):
    async with await psycopg.AsyncConnection.connect(dsn(trial, token)) as connection:
        cursor = await connection.execute("select t, n from cards where t = %s", (PANS[0],))
        assert await cursor.fetchone() == (text(PANS[0]), number(int(PANS[0])))


# --- asyncpg ---------------------------------------------------------------------------------------


@pytest.fixture
async def apg(trial, token):
    context = ssl.create_default_context(cafile=str(trial.ca))
    connection = await asyncpg.connect(
        host=trial.host,
        port=trial.port,
        user="agent",
        password=token,
        database="payments",
        ssl=context,
    )
    yield connection
    await connection.close()


async def test_asyncpg_binary_results(apg):
    query = (
        "select id, t, v, n, d, f, jb, ta, na, da, b, s, u, row(t, n) as h from cards order by id"
    )
    statement = await apg.prepare(query)
    for rows in (await statement.fetch(), await statement.fetch(), await apg.fetch(query)):
        assert len(rows) == len(PANS)
        for row, pan in zip(rows, PANS, strict=True):
            masked = number(int(pan))
            assert row["t"] == text(pan)
            assert row["n"] == masked
            assert row["d"] == decimal.Decimal(masked) + decimal.Decimal("0.50")
            assert row["f"] == float(masked)
            assert row["ta"] == [text(pan), "x", None]
            assert row["na"] == [masked, 7]
            assert row["da"] == [decimal.Decimal(masked)]
            assert row["b"] == b"x " + text(pan).encode()
            assert tuple(row["h"]) == (text(pan), masked)
            assert text(pan) in row["jb"]
        assert_clean(repr(rows))


async def test_asyncpg_parameters_cursors_and_errors(apg):
    assert await apg.fetchval("select t from cards where n = $1", int(PANS[0])) == text(PANS[0])
    async with apg.transaction():
        seen = [row["t"] async for row in apg.cursor("select t from cards order by id", prefetch=1)]
    assert seen == [text(pan) for pan in PANS]
    with pytest.raises(asyncpg.UndefinedColumnError):
        await apg.fetch("select nothing from cards")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await apg.fetch("select 1 / $1::int", 0)
    assert await apg.fetchval("select 1") == 1
    await apg.executemany("insert into notes values ($1, $2)", [(n, "x") for n in range(50)])
    assert await apg.fetchval("select count(*) from notes") == 50
    await apg.execute("delete from notes")


async def test_asyncpg_timeout_cancels(apg):
    began = time.monotonic()
    with pytest.raises((asyncio.TimeoutError, TimeoutError)):
        await apg.fetch("select pg_sleep(30)", timeout=0.5)
    assert await apg.fetchval("select 2") == 2
    assert time.monotonic() - began < 20


async def test_asyncpg_copy_out(apg):
    parts = []

    async def take(data: bytes) -> None:
        parts.append(data)

    await apg.copy_from_query("select t, n from cards", output=take)
    assert_clean(b"".join(parts))
    await apg.copy_from_query("select t, n, h from cards", output=take, format="binary")
    assert_clean(b"".join(parts))


async def test_many_sessions_at_once(trial, token):
    async def one(n: int) -> str:
        async with await psycopg.AsyncConnection.connect(dsn(trial, token)) as connection:
            cursor = await connection.execute("select t || %s from cards where id = 1", (str(n),))
            (value,) = await cursor.fetchone()
            return value

    values = await asyncio.gather(*(one(n) for n in range(40)))
    # a digit behind a PAN makes a longer run of digits: what is no PAN stays
    assert len(values) == 40
    assert_clean(" ".join(v for v in values if len(v) == 16))
