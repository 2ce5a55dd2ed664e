"""What the record holds of statements that touch sensitive columns, and what the server says of their values,
with the real server: a corpus of statements with 7319 where a CVV stands."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import psycopg
import pytest

from pangate.trial import until
from servers import past, through

pytestmark = pytest.mark.integration

CORPUS = Path(__file__).parents[1] / "corpus" / "recorded.csv"
TABLES = """
create schema pay;
create table pay.cards (id int, holder text, pan text, cvv text, doc jsonb, n int, pin text);
create table pay.keyed (id int primary key, v text, cvv text);
create table pay.notes (id int, note text);
insert into pay.cards select i, 'Ada', '4111111111111111', '73194', '{"cvv": "73194"}', i, '73194'
    from generate_series(1, 3) i;
insert into pay.keyed values (1, 'a', 'b');
create view pay.shown as select id, cvv as x from pay.cards;
create view pay.again as select x || '' as y from pay.shown;
grant usage, create on schema pay to payments_service;
grant all on all tables in schema pay to payments_service;
"""


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


def recorded(trial, since: int) -> str:
    """What the record holds of statements from byte `since` on, without how long they took."""
    with trial.audit.open("rb") as file:
        file.seek(since)
        lines = file.read().splitlines()
    data = [{"code": event["code"], **event["data"]} for event in map(json.loads, lines)]
    return json.dumps([{**one, "seconds": 0} for one in data])


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_corpus(trial, agent, row):
    agent.pgconn.exec_(
        b"select x from pay.shown where false; select x || '' from pay.shown where false"
    )
    since = trial.audit.stat().st_size
    steps = row["sql"].split(" ;; ")
    values = json.loads(row["parameters"] or "null")
    for step in steps:
        if values is None:
            agent.pgconn.send_query(step.encode())
        else:
            given = [None if value is None else value.encode() for value in values]
            agent.pgconn.send_query_params(step.encode(), given)
        results = 0
        while (result := agent.pgconn.get_result()) is not None:
            results += 1
            assert b"gateway" not in (result.error_message or b""), result.error_message
            if result.status == psycopg.pq.ExecStatus.COPY_OUT:
                while agent.pgconn.get_copy_data(0)[0] > 0:
                    pass
        assert results
    until(lambda: recorded(trial, since).count("statement.finished") >= len(steps), "the record")
    found = recorded(trial, since)
    if row["kept"] == "wiped":
        assert "7319" not in found
        assert '"wiped": true' in found
    else:
        assert "5151" in found
        assert '"wiped"' not in found


ERRORS = [
    "select cvv::date from pay.cards",
    "select (cvv || 'x')::int from pay.cards",
    "select ('{' || cvv)::json from pay.cards",
    "select cvv::regclass from pay.cards",
    "select (cvv || 'x')::regtype from pay.cards",
    "select make_date(cvv::int, 13, 1) from pay.cards",
    "select setseed(cvv::float) from pay.cards",
    "select date_part(cvv, now()) from pay.cards",
    "select x::date from pay.shown",
    "select y::date from pay.again",
    "select c::text::date from pay.cards c",
    "select (doc ->> 'cvv')::date from pay.cards",
    "select (to_jsonb(c) -> 'doc' ->> 'cvv')::date from pay.cards c",
    "select d::date from (select * from pay.cards) as c(a, b, c, d)",
    "update pay.cards set n = cvv::date - current_date",
    "insert into pay.notes select cvv::date - current_date from pay.cards",
    "do $$ declare d date; begin select cvv into d from pay.cards; end $$",
    "do $$ begin raise exception 'it is %', (select cvv from pay.cards limit 1); end $$",
    "do $$ begin raise notice 'it is %', (select cvv from pay.cards limit 1); end $$",
    "do $$ begin execute (select 'select x' || cvv || ' from pay.cards' from pay.cards limit 1); end $$",
    "select query_to_xml('select x' || cvv, true, true, '') from pay.cards",
    "begin; declare c cursor for select cvv::date from pay.cards; fetch c",
    "prepare e as select cvv::date from pay.cards; execute e",
    "select count(*) from pay.cards where cvv::date > now()",
    "copy (select cvv::date from pay.cards) to stdout",
]


@pytest.mark.parametrize("text", ERRORS)
def test_errors_that_quote_a_value_do_not_show_it(trial, agent, text):
    with psycopg.connect(past(trial), autocommit=True) as direct:
        assert b"7319" in said(direct, text), "not an error that quotes one"
    heard = said(agent, text)
    assert b"7319" not in heard
    assert heard


def said(connection: psycopg.Connection, text: str) -> bytes:
    """All errors and notices that a text gets."""
    notices: list[str] = []
    fields = ("message_primary", "message_detail", "message_hint", "context", "internal_query")
    connection.add_notice_handler(
        lambda notice: notices.extend(str(getattr(notice, field)) for field in fields)
    )
    connection.pgconn.send_query(text.encode())
    found = []
    while (result := connection.pgconn.get_result()) is not None:
        if result.status == psycopg.pq.ExecStatus.COPY_OUT:
            while connection.pgconn.get_copy_data(0)[0] > 0:
                pass
        found.append(result.error_message)
        found += (
            result.error_field(field) or b""
            for field in (
                psycopg.pq.DiagnosticField.CONTEXT,
                psycopg.pq.DiagnosticField.INTERNAL_QUERY,
            )
        )
    return b"\n".join(found) + "\n".join(notices).encode()


def test_an_ordinary_error_is_the_servers(agent):
    assert b'date: "abc"' in said(agent, "select note::date from (values ('abc')) v(note)")
    assert b'column "foo" does not exist' in said(agent, "select cvv, foo from pay.cards")


def test_what_other_sessions_run_is_not_shown(trial, token, agent):
    with psycopg.connect(through(trial, token), autocommit=True) as other:
        other.execute("select 1 from pay.cards where cvv = '7319'")
        for text in (
            "select query from pg_stat_activity",
            "select query || '' from pg_stat_activity",
            "select a::text from pg_stat_activity a",
            "select query from pg_stat_get_activity(null)",
            "select pg_stat_get_backend_activity(i) from pg_stat_get_backend_idset() i",
            "select to_jsonb(a) ->> 'query' from pg_stat_activity a",
            "select to_jsonb(a)::text from pg_stat_activity a",
            "select to_jsonb(a) from pg_stat_activity a",
        ):
            found = agent.execute(text).fetchall()
            assert found
            assert "7319" not in repr(found), text
        states = agent.execute("select state from pg_stat_activity where pid <> 0").fetchall()
        assert ("idle",) in states
