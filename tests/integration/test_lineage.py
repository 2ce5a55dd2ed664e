"""Sensitive columns under other names, with the real server: nothing of a CVV comes out by any statement of
the corpus, in any form that results have, and what has none of it comes out as it is."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from pangate.trial import Trial, until
from servers import masked, past, psql, service, through

pytestmark = pytest.mark.integration

CORPUS = Path(__file__).parents[1] / "corpus" / "lineage.csv"
TABLES = """
create schema pay;
create table pay.cards (id int, holder text, pan text, cvv text, doc jsonb, n int, pin text);
insert into pay.cards select i, 'Ada', '4111111111111111', '7319',
    '{"cvv": "7319", "pin": "7319", "a": {"cvv": "7319", "b": "c"}, "note": "x", "list": ["y"]}', i, '7319'
    from generate_series(1, 3) i;
create table pay.notes (id int, note text);
insert into pay.notes values (1, 'one'), (2, '4111111111111111');
create view pay.shown as select id, cvv as x, cvv is not null as has from pay.cards;
create view pay.again as select x || '' as y from pay.shown;
create table pay.rows (r pay.cards);
insert into pay.rows select c from pay.cards c;
create extension if not exists hstore with schema public;
create table pay.kept as select id, hstore(array['note', 'x', 'cvv', '7319', 'card-pin', '7319']) as kept
    from pay.cards;
alter table pay.cards owner to payments_service;
grant usage, create on schema pay to payments_service;
grant all on all tables in schema pay to payments_service;
analyze pay.cards;
"""
WIPED = {
    None, b"***", b"**", b"*", b"", b"0", b'"***"', b'\1"***"', b"\0010", bytes(2), bytes(4), bytes(8)
}  # fmt: skip
"""All that may stand where something was wiped."""


def rows() -> list[dict[str, str]]:
    with CORPUS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", autouse=True)
def tables(trial, token):
    trial.postgres.psql(TABLES)
    # Made past the gateway, which believes what it knows for a while; DDL through it is noticed.
    done = trial.psql(token, "create temp table noticed ()")
    assert done.returncode == 0, done.stderr
    yield
    trial.postgres.psql("drop schema pay cascade")


@pytest.fixture
def agent(trial, token):
    with psycopg.connect(through(trial, token), autocommit=True) as connection:
        yield connection


def simple(connection: psycopg.Connection, sql: str) -> list[pq.abc.PGresult]:
    """All results of a Query."""
    connection.pgconn.send_query(sql.encode())
    return list(iter(connection.pgconn.get_result, None))


def extended(connection: psycopg.Connection, sql: str, format_: int) -> list[pq.abc.PGresult]:
    """The same statement by statement."""
    parts = [part for part in sql.split(";") if part.strip()]
    return [
        connection.pgconn.exec_params(part.encode(), [], result_format=format_) for part in parts
    ]


def cells(result: pq.abc.PGresult) -> Iterator[tuple[int, bytes | None]]:
    for row, column in itertools.product(range(result.ntuples), range(result.nfields)):
        yield column, result.get_value(row, column)


def check(row: dict[str, str], column: int, value: bytes | None) -> None:
    assert b"7319" not in (value or b""), row["sql"]
    for word in row["carried"].split():
        if word == str(column) or (word.endswith("+") and column >= int(word[:-1])):
            assert value in WIPED, row["sql"]


def clean(connection: psycopg.Connection) -> None:
    if connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        connection.pgconn.exec_(b"rollback")
    connection.pgconn.exec_(b"discard all")


@pytest.mark.parametrize("form", ["simple", "text", "binary"])
def test_corpus(trial, agent, form):
    answered = 0
    for row in rows():
        if form == "simple":
            results = simple(agent, row["sql"])
        else:
            results = extended(agent, row["sql"], int(form == "binary"))
        for result in results:
            assert b"gateway" not in (result.error_message or b""), (
                row["sql"],
                result.error_message,
            )
            for column, value in cells(result):
                answered += column == 0
                if result.ftable(column) == 0:
                    check(row, column, value)
                else:
                    assert b"7319" not in (value or b""), row["sql"]
        clean(agent)
    assert answered > 200


def copied(connection: psycopg.Connection, sql: str) -> bytes:
    """What a COPY of a query sends; nothing when the server does not take it."""
    with (
        contextlib.suppress(psycopg.Error),
        connection.cursor() as cursor,
        cursor.copy(f"copy ({sql}) to stdout") as copy,
    ):
        return b"".join(copy)
    return b""
    return b""


def test_corpus_by_copy(agent):
    answered = 0
    for row in rows():
        data = copied(agent, row["sql"])
        assert b"7319" not in data, row["sql"]
        for line in data.splitlines():
            answered += 1
            for column, value in enumerate(line.split(b"\t")):
                if not row["carried"].endswith("+"):
                    check(row, column, None if value == b"\\N" else value)
    assert answered > 200


def test_what_has_none_of_it_is_unchanged(trial, agent):
    compared = 0
    with psycopg.connect(past(trial), autocommit=True) as direct:
        for row in rows():
            if row["carried"]:
                continue
            for ours, theirs in zip(
                extended(agent, row["sql"], 0), extended(direct, row["sql"], 0), strict=True
            ):
                assert ours.status == theirs.status, (row["sql"], ours.error_message)
                names = [ours.fname(i) for i in range(ours.nfields)]
                for (column, one), (_, other) in zip(cells(ours), cells(theirs), strict=True):
                    if names[column] in (b"cvv", b"pin"):
                        assert one == b"***"
                    elif names[column] not in (b"t", b"doc", b"QUERY PLAN"):
                        want = None if other is None else masked(other.decode()).encode()
                        assert one == want, row["sql"]
                        compared += 1
    assert compared > 40


@pytest.mark.parametrize("binary", [False, True])
def test_a_key_that_is_a_parameter(agent, binary):
    with agent.cursor(binary=binary) as cursor:
        for _ in range(7):  # psycopg prepares what it sees often
            for key, shown in (("cvv", "***"), ("note", "x"), ("CVV2", "***"), ("gone", None)):
                sql = "select doc->>%s as x, id + 1 as n from pay.cards where id = 1"
                value, number = cursor.execute(sql, (key,)).fetchone()
                assert (value, number) == (shown if key != "CVV2" else None, 2)


def test_views_by_their_columns(agent):
    assert agent.execute("select x, has from pay.shown where id = 1").fetchone() == ("***", True)
    assert agent.execute("select y from pay.again limit 1").fetchone() == ("***",)
    assert "7319" not in str(agent.execute("select r from pay.rows limit 1").fetchone())
    assert "7319" not in str(agent.execute("select * from pay.rows limit 1").fetchone())


def test_a_view_that_comes_later(trial, token, agent):
    """In the very transaction, behind it, and for others."""
    assert agent.execute("select count(*) from pay.shown").fetchone() == (3,)
    with agent.transaction():
        agent.execute("create view pay.later as select id, cvv as q from pay.cards")
        for _ in range(3):
            assert agent.execute("select q from pay.later limit 1").fetchone() == ("***",)
            assert agent.execute("select q || '' from pay.later limit 1").fetchone() == ("***",)
            assert agent.execute("select id + 1 from pay.later where id = 1").fetchone() == (2,)
    with psycopg.connect(through(trial, token), autocommit=True) as other:
        for connection in (agent, other):
            assert connection.execute("select q from pay.later limit 1").fetchone() == ("***",)
            row = connection.execute("select to_jsonb(l) from pay.later l limit 1").fetchone()
            assert row == ("***",)
    trial.postgres.psql("create view pay.silent as select cvv as z from pay.cards")
    trial.postgres.psql("grant select on pay.silent to payments_service")
    assert agent.execute("select z from pay.silent limit 1").fetchone() == ("***",)
    agent.execute("drop view pay.later")


def test_a_lock_on_the_table_of_a_view(agent):
    """What a view is made of cannot be read then; its columns count as what they may be."""
    with agent.transaction():
        agent.execute("alter table pay.cards add column more int")
        assert agent.execute("select x from pay.shown limit 1").fetchone() == ("***",)
        assert agent.execute("select count(*) from pay.shown").fetchone() == (3,)
    assert agent.execute("select x, id from pay.shown where id = 1").fetchone() == ("***", 1)
    agent.execute("alter table pay.cards drop column more")


def test_names_given_in_SQL(trial, token, agent):  # noqa: N802
    with agent.transaction():
        agent.execute("declare c cursor for select id + 0, cvv || '' from pay.cards order by id")
        assert agent.execute("fetch 1 from c").fetchone() == (1, "***")
        assert agent.execute("fetch 1 from c").fetchone() == (2, "***")
    agent.execute("prepare s(int) as select upper(cvv), $1 + 1 from pay.cards")
    assert agent.execute("execute s(1)").fetchone() == ("***", 2)
    agent.execute(
        "do $$ begin execute 'deallocate s'; "
        "execute 'prepare s(int) as select $1 + 1, cvv || '''' from pay.cards'; end $$"
    )
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot be read off"):
        agent.execute("execute s(1)")  # a number that is wiped to 0 would be believed


def test_psql_describes_tables(trial, token):
    """What psql asks the catalog is not taken for what it names."""
    done = psql(
        trial.environment(token, "payments"), trial, "\\d pay.cards\n\\d+ pay.shown\n\\dt pay.*\n"
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.replace("127.0.0.1", "")
        == psql(service(trial), trial, "\\d pay.cards\n\\d+ pay.shown\n\\dt pay.*\n").stdout
    )


def test_tables_made_past_the_gateway_are_known_in_time(postgres):
    """Whole rows of a table that nobody told the gateway of."""
    with Trial(postgres, limits="catalog_seconds = 0.5") as own:
        assert own.psql(own.token(), "select 'x' || 1").stdout  # what there is is known from now on
        own.postgres.psql(
            "create schema late; create table late.cards (cvv text); insert into late.cards values ('7319');"
            "grant usage on schema late to payments_service; grant select on late.cards to payments_service"
        )
        try:
            until(
                lambda: (
                    "7319"
                    not in own.psql(own.token(), "select c::text as x from late.cards c").stdout
                ),
                "what the gateway knows being read again",
            )
        finally:
            own.postgres.psql("drop schema late cascade")


def test_rows_that_a_violated_constraint_quotes(trial, token):
    trial.postgres.psql(
        "create table pay.strict (id int, cvv text unique, n int not null check (n > 0));"
        "insert into pay.strict values (1, '7319', 1); grant all on pay.strict to payments_service"
    )
    for command in (
        "insert into pay.strict values (2, '7319', 2)",
        "update pay.strict set n = 0",
        "update pay.strict set n = null",
    ):
        done = trial.psql(token, command)
        assert done.returncode == 1
        assert "7319" not in done.stderr
        assert "DETAIL" in done.stderr
        assert "(***)" in done.stderr


def test_a_cursor_of_psycopg_is_described_by_its_own_query(agent):
    """It declares in SQL and describes by the protocol."""
    with agent.transaction():
        with agent.cursor("plain") as cursor:
            cursor.execute("select max(holder), count(*) from pay.cards")
            assert cursor.fetchall() == [("Ada", 3)]
        with agent.cursor("wiped") as cursor:
            cursor.execute("select max(cvv) from pay.cards")
            assert cursor.fetchall() == [("***",)]
