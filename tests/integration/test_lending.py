"""Transaction pooling: sessions that have one connection after another. Nothing of one reaches the next, none
loses anything of its own, and names mean what they meant."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from conftest import EVERYTHING
from pangate.embedded import EmbeddedPostgres
from pangate.protocols.postgres.messages import error_fields
from pangate.trial import Trial, until
from pgwire import SYNC, bind, close, describe, execute, parse, query, split
from servers import past, psql, session, through
from states import ENDS, STATES, ask

pytestmark = pytest.mark.integration

BY_TRANSACTION = 'pool = {{ mode = "transaction", idle_seconds = 300, max_connections = {} }}'
ANYTIME = {
    "what others may read in pg_stat_activity",
    "last value of a sequence",
    "transaction's lock",
}
"""What everybody sees while the session is there, in either mode."""


def lending(postgres, most: int, **more: str) -> Trial:
    """A gateway with at most so many connections to the tables of the other one."""
    return Trial(
        postgres,
        effects=EVERYTHING,
        **{**more, "resource": f"{BY_TRANSACTION.format(most)}\n{more.get('resource', '')}"},
    )


@pytest.fixture(scope="module")
def one(postgres, trial) -> Iterator[Trial]:
    """One connection for all sessions."""
    with lending(postgres, 1, limits="connect_seconds = 3") as running:
        yield running


@pytest.fixture(scope="module")
def two(postgres, trial) -> Iterator[Trial]:
    """Two connections for all sessions."""
    with lending(postgres, 2) as running:
        yield running


@contextlib.contextmanager
def agent(trial: Trial, who: str = "one", **more: object) -> Iterator[psycopg.Connection]:
    """A session without the numbers that drivers give to prepared statements, closed as it is."""
    connection = psycopg.connect(through(trial, trial.token(who), **more), autocommit=True)
    connection.prepare_threshold = None
    with contextlib.closing(connection):
        yield connection


def process(connection: psycopg.Connection) -> int:
    """The backend that serves it now."""
    return int(str(ask(connection, "select pg_backend_pid()")))


def tell(connection: psycopg.Connection, text: str) -> object:
    """The answer, or the error's class."""
    try:
        return ask(connection, text)
    except psycopg.Error as wrong:
        return wrong.sqlstate


def told_by(postgres: EmbeddedPostgres, text: str) -> str:
    """What the server itself answers."""
    return postgres.psql(text, "postgres", "-At").strip()


def events_of(trial: Trial, code: str) -> list[dict]:
    return [
        event
        for event in map(json.loads, trial.audit.read_text().splitlines())
        if event["code"] == code
    ]


# --- what a session leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["one", "two"], ids=["same identity", "another identity"])
@pytest.mark.parametrize("state", sorted(STATES.keys() - ANYTIME))
def test_nothing_reaches_the_next_and_nothing_is_lost(two, state, other):
    script, question, fresh = STATES[state]
    with contextlib.closing(psycopg.connect(past(two), autocommit=True)) as connection:
        expected = tell(connection, question)
        tell(connection, script)
        kept = tell(connection, question)
    if fresh is not None:
        assert expected == fresh
    with agent(two, "one") as first, agent(two, other) as second:
        served = process(first)
        tell(first, script)
        assert tell(second, question) == expected
        assert tell(first, question) == kept
        assert tell(second, question) == expected
    with agent(two, other) as third, agent(two, other) as fourth:
        third.execute("begin")  # both connections, whoever had them
        processes = {process(third), process(fourth)}
        answers = [tell(fourth, question), tell(third, question)]
    assert answers == [expected, expected]
    assert served in processes, "the connection was not used again: this could not fail"


@pytest.mark.parametrize("state", ENDS)
def test_what_cannot_be_taken_away_ends_the_connection(one, state):
    with agent(one) as connection:
        first = process(connection)
        tell(connection, ENDS[state])
        assert process(connection) == first
    with agent(one, "two") as connection:
        assert process(connection) != first


LEAVE_NOTHING = {
    "read": "select count(*) from cards",
    "write": "insert into notes values (1, 'x'); delete from notes where id = 1",
    "transaction": "begin; insert into notes values (2, 'x'); savepoint a; rollback to a; rollback",
    "local setting": "begin; set local work_mem = '70MB'; commit",
    "local setting by a function": "begin; select set_config('work_mem', '70MB', true); commit",
    "isolation": "begin isolation level serializable; select count(*) from notes; commit",
    "isolation, later": "begin; set transaction read only; commit",
    "cursor": "begin; declare mine cursor for select 1; fetch all from mine; close mine; commit",
    "transaction's advisory lock": "begin; select pg_advisory_xact_lock(4); commit",
    "notify": "notify nobody",
    "explain": "explain select * from cards",
    "show": "show work_mem",
    "failed": "select 1/0",
    "failed transaction": "begin; select 1/(id-id) from cards",
    "lock": "begin; lock table notes in share mode; rollback",
    "random": "select random() < 2",
    "empty": "",
}


@pytest.mark.parametrize("what", LEAVE_NOTHING)
def test_what_leaves_nothing_does_not_pin(one, what):
    """With one connection, nobody else could be served otherwise."""
    with agent(one, "one") as first, agent(one, "two") as second:
        for _ in range(2):
            tell(first, LEAVE_NOTHING[what])
            if "failed transaction" in what:
                tell(first, "rollback")
            assert tell(second, "select 42") == 42


def test_why_a_session_is_pinned_is_recorded(postgres, trial):
    with lending(postgres, 3, tables="[monitor]\nport = 0") as running:
        with agent(running, "careful") as first, agent(running, "harmless") as second:
            served = process(first)
            first.execute("set work_mem = '70MB'")
            first.execute("select pg_advisory_lock(1)")
            second.execute("select 1")
            assert process(second) != process(first) == served
        (pinned,) = events_of(running, "session.pinned")
        assert pinned["principal"].endswith("#careful")
        assert pinned["data"] == {"detail": "SET"}


# --- who serves whom -----------------------------------------------------------------------------------


def test_many_sessions_share_few_connections(two):
    async def visitor(number: int) -> set[int]:
        seen = set()
        async with await psycopg.AsyncConnection.connect(
            through(two, two.token(f"agent-{number % 3}")), autocommit=True
        ) as connection:
            for turn in range(20):
                cursor = await connection.execute(
                    "select pg_backend_pid(), %s::int", [100 * number + turn]
                )
                found, said = await cursor.fetchone()
                assert said == 100 * number + turn
                seen.add(found)
        return seen

    async def all_of_them() -> list[set[int]]:
        return await asyncio.gather(*(visitor(number) for number in range(8)))

    seen = asyncio.run(all_of_them())
    assert len(set().union(*seen)) <= 2
    assert any(len(found) == 2 for found in seen), "no session had a second connection"


def test_the_record_says_which_backend_served_which_statement(two):
    """A connection is in the record when it is another one than before, and not each time."""
    with agent(two, "recorded") as first, agent(two, "blocker") as second:
        served = [process(first)]
        served.append(process(first))
        with second.transaction():
            # whichever it has; the first one's was given back last
            held = process(second)
            served.append(process(first))
            served.append(process(first))
        assert (held == served[1]) == (served[2] != served[1])
    events = [
        event
        for event in map(json.loads, two.audit.read_text().splitlines())
        if event["principal"].endswith("#recorded")
    ]
    backend, told = 0, []
    for event in events:
        if event["code"] == "session.connected":
            assert event["data"]["backend"] != backend
            backend = event["data"]["backend"]
        elif event["code"] == "statement.finished":
            told.append(backend)
    assert told == served


def test_the_database_knows_who_it_serves_at_any_time(postgres):
    with lending(
        postgres,
        1,
        resource='application_name = "{application}"\nprincipal_setting = "pangate.principal"',
    ) as running:
        asked = "select current_setting('application_name') || ' ' || current_setting('pangate.principal')"
        with (
            agent(running, "one", application_name="same") as first,
            agent(running, "two", application_name="same") as second,
            agent(running, "one", application_name="same") as third,
        ):
            for _ in range(3):
                for connection, who in ((first, "one"), (second, "two"), (third, "one")):
                    assert ask(connection, asked) == f"same {running.issuer.url}#{who}"


def test_settings_of_the_startup_packet_are_kept(one):
    with agent(one, options="-c timezone=Asia/Tokyo") as first, agent(one) as second:
        for _ in range(3):
            assert ask(first, "show timezone") == "Asia/Tokyo"
            assert ask(second, "show timezone") != "Asia/Tokyo"


def test_a_session_that_finds_no_connection_is_told_so(one):
    with agent(one) as first, agent(one) as second:
        first.execute("begin")
        first.execute("select 1")
        with pytest.raises(psycopg.OperationalError, match="max_connections"):
            second.execute("select 1")
        first.execute("commit")
        with agent(one) as third:
            assert ask(third, "select 1") == 1


def test_a_statement_that_is_refused_needs_no_connection_for_long(postgres):
    with (
        Trial(postgres, resource=BY_TRANSACTION.format(1)) as running,  # its role may read
        agent(running) as first,
        agent(running) as second,
    ):
        for _ in range(3):
            for connection in (first, second):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("insert into notes values (1, 'x')")
                assert ask(connection, "select 5") == 5


# --- prepared statements -----------------------------------------------------------------------------


def told(sock) -> list[tuple[str, bytes]]:
    """What the gateway says up to the next ReadyForQuery."""
    seen = b""
    while seen[-6:-1] != b"Z\0\0\0\5":
        chunk = sock.recv(65536)
        assert chunk, seen
        seen += chunk
    return split(seen)


def kinds(found: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in found)


def value(found: list[tuple[str, bytes]]) -> bytes:
    return dict(found)["D"][6:]


RUN = execute() + SYNC


def say(sock, data: bytes) -> list[tuple[str, bytes]]:
    sock.sendall(data)
    return told(sock)


@contextlib.contextmanager
def three(trial: Trial) -> Iterator[list]:
    """Three sessions: two of one identity, one of another."""
    with (
        session(trial, trial.token("one")) as first,
        session(trial, trial.token("one")) as second,
        session(trial, trial.token("two")) as third,
    ):
        yield [first, second, third]


def test_names_mean_in_each_session_what_it_gave_them(one):
    with three(one) as sockets:
        for number, sock in enumerate(sockets):
            found = say(sock, parse("s", f"select {number} + $1::int") + describe("S", "s") + SYNC)
            assert kinds(found) == "1tTZ"
        for turn in range(3):
            for number, sock in enumerate(sockets):
                found = say(sock, bind("", "s", [b"%d" % turn]) + describe("P") + RUN)
                assert kinds(found) == "2TDCZ"
                assert value(found) == b"%d" % (number + turn)
                found = say(sock, describe("S", "s") + SYNC)
                assert kinds(found) == "tTZ"


def test_the_statement_without_a_name(one):
    with three(one) as sockets:
        for number, sock in enumerate(sockets):
            assert kinds(say(sock, parse("", f"select {number}") + SYNC)) == "1Z"
        for _ in range(2):
            for number, sock in enumerate(sockets):
                assert value(say(sock, bind() + RUN)) == b"%d" % number
        # the same text in two sessions
        for sock in (*sockets, *sockets):
            assert kinds(say(sock, parse("", "select 5") + SYNC)) == "1Z"
        for sock in (*sockets, *sockets):
            assert value(say(sock, bind() + RUN)) == b"5"
            assert kinds(say(sock, describe("S") + SYNC)) == "tTZ"
        # it is gone after a Query, and not another's for who has none
        say(sockets[0], query("select 1"))
        assert kinds(say(sockets[0], bind() + RUN)) == "EZ"
        with session(one, one.token("one")) as sock:
            found = say(sock, bind() + RUN)
            assert kinds(found) == "EZ"
            found = say(sock, describe("S") + SYNC)
            assert (kinds(found), error_fields(dict(found)["E"])["C"]) == ("EZ", "26000")


def test_a_name_that_is_taken_and_one_that_is_closed(one):
    with three(one) as sockets:
        for sock in sockets:
            assert kinds(say(sock, parse("s", "select 1") + SYNC)) == "1Z"
        for sock in sockets:
            found = say(sock, parse("s", "select 2") + SYNC)
            assert kinds(found) == "EZ"
            fields = error_fields(dict(found)["E"])
            assert (fields["C"], fields["M"]) == ("42P05", 'prepared statement "s" already exists')
        for number, sock in enumerate(sockets):
            found = say(sock, close("S", "s") + parse("s", f"select {number}") + SYNC)
            assert kinds(found) == "31Z"
        for number, sock in enumerate(sockets):
            assert value(say(sock, bind("", "s") + RUN)) == b"%d" % number
        for sock in sockets:
            assert kinds(say(sock, close("S", "s") + close("S", "no such") + SYNC)) == "33Z"
            assert kinds(say(sock, bind("", "s") + RUN)) == "EZ"


def test_errors_say_the_agent_s_names_and_places(one):
    with three(one) as sockets:
        first, second, _ = sockets
        assert kinds(say(first, parse("mine", "select $1::int") + SYNC)) == "1Z"
        for sock in (second, first):
            say(sock, query("select 1"))
        found = say(first, bind("", "mine") + RUN)
        fields = error_fields(dict(found)["E"])
        assert (fields["C"], '"mine"' in fields["M"]) == ("08P01", True)
        found = say(first, parse("bad", "select nonsense") + SYNC)
        fields = error_fields(dict(found)["E"])
        assert (fields["C"], fields["P"]) == ("42703", "8")
        assert kinds(say(first, bind("", "bad") + RUN)) == "EZ"


def test_a_statement_whose_table_went_fails_as_the_agent_s_own(two):
    two.postgres.psql("create table going as select 7 as n; grant select on going to public")
    with three(two) as sockets:
        for sock in sockets:
            assert kinds(say(sock, parse("s", "select n from going") + SYNC)) == "1Z"
            assert value(say(sock, bind("", "s") + RUN)) == b"7"
        two.postgres.psql("drop table going")
        for sock in sockets:
            for _ in range(2):
                found = say(sock, bind("", "s") + RUN)
                assert (kinds(found), error_fields(dict(found)["E"])["C"]) == ("EZ", "42P01")
            assert value(say(sock, query("select 1"))) == b"1"
        two.postgres.psql("create table going as select 8 as n; grant select on going to public")
        for sock in sockets:
            assert value(say(sock, bind("", "s") + RUN)) == b"8"
        two.postgres.psql("drop table going")


def test_pipelines_over_several_syncs(one):
    with three(one) as sockets:
        for number, sock in enumerate(sockets):
            say(sock, parse("s", f"select {number} + $1::int") + SYNC)
        for number, sock in enumerate(sockets):
            step = bind("", "s", [b"1"]) + execute()
            sock.sendall(
                step + SYNC + step + step + SYNC
                + bind("", "s", [b"x"]) + step + SYNC + query(f"select {number}") + step + SYNC
            )  # fmt: skip
            one_more = b"%d" % (number + 1)
            first, second, third, fourth, fifth = (told_one(sock) for _ in range(5))
            assert (kinds(first), value(first)) == ("2DCZ", one_more)
            assert kinds(second) == "2DC2DCZ"
            assert kinds(third) == "EZ"
            assert value(fourth) == b"%d" % number
            assert (kinds(fifth), value(fifth)) == ("2DCZ", one_more)


def told_one(sock) -> list[tuple[str, bytes]]:
    """What is said up to the next ReadyForQuery and not a byte more."""
    seen = b""
    while seen[-6:-1] != b"Z\0\0\0\5":
        chunk = sock.recv(1)
        assert chunk, seen
        seen += chunk
    return split(seen)


def test_names_in_sql(two):
    with three(two) as sockets:
        for number, sock in enumerate(sockets):
            say(sock, parse("s", f"select {number}") + parse("t", "select 5") + SYNC)
        first, second, third = sockets
        for text in ("execute s", "deallocate s; execute s", "execute s; deallocate s"):
            found = say(third, query(text))
            assert error_fields(dict(found)["E"])["C"] == "42501", text
        assert error_fields(dict(say(third, parse("e", "execute s") + SYNC))["E"])["C"] == "42501"
        assert value(say(third, bind("", "s") + RUN)) == b"2"
        for sock, number in ((first, 0), (second, 1)):
            assert kinds(say(sock, query("deallocate s"))) == "CZ"
            assert kinds(say(sock, bind("", "s") + RUN)) == "EZ"
            assert value(say(sock, bind("", "t") + RUN)) == b"5"
            say(sock, parse("s", f"select {number} + 10") + SYNC)
        for sock, number in ((first, 10), (second, 11)):
            assert value(say(sock, bind("", "s") + RUN)) == b"%d" % number
        found = say(first, query("deallocate nothing"))
        assert error_fields(dict(found)["E"])["C"] == "26000"
        assert kinds(say(first, query("deallocate all"))) == "CZ"
        assert kinds(say(first, bind("", "t") + RUN)) == "EZ"
        assert value(say(second, bind("", "t") + RUN)) == b"5"
        assert value(say(third, bind("", "s") + RUN)) == b"2"
        say(third, query("prepare own as select 7"))  # which pins
        assert value(say(third, query("execute own"))) == b"7"
        found = say(third, query("execute s"))
        assert error_fields(dict(found)["E"])["C"] == "26000"
        found = say(first, parse("a", "select 1") + parse("b", "select 2") + SYNC)
        assert kinds(say(first, query("deallocate a; select 1/0; deallocate b"))) == "CEZ"
        assert value(say(first, bind("", "b") + RUN)) == b"2", "it was not taken away"


def test_no_text_runs_that_its_name_does_not_mean_any_more(postgres, trial):
    """A name that is given again, told from the first by what is wiped."""
    columns = 'columns = { "people.secret" = "wipe" }'
    postgres.psql(
        "create table if not exists people (secret text); truncate people;"
        "insert into people values ('hush hush'); grant all on people to public"
    )
    with lending(postgres, 1, resource=columns) as own, three(own) as (sock, *_):
        say(sock, parse("s1", "select secret || '' from people") + SYNC)
        assert b"hush" not in repr(say(sock, bind("", "s1") + RUN)).encode()
        say(sock, close("S", "s1") + SYNC)
        say(sock, parse("s1", "select 'harmless' || ''") + SYNC)
        for text in ("execute s1", "deallocate s1; execute s1"):
            found = say(sock, query(text))
            assert b"hush" not in repr(found).encode()
            assert "E" in dict(found)
        assert value(say(sock, bind("", "s1") + RUN)) == b"harmless"


def test_types_are_those_that_the_session_was_told(postgres, two):
    """The same text is about other columns where a session looks for its tables elsewhere."""
    for schema, kind in (("sa", "bigint"), ("sb", "double precision")):
        postgres.psql(
            f"drop schema if exists {schema} cascade; create schema {schema};"
            f"create table {schema}.t (v {kind}); grant all on schema {schema} to public;"
            f"grant all on all tables in schema {schema} to public"
        )
    text = "insert into t values ($1)"
    with three(two) as (first, second, _):
        say(first, query("begin; set local search_path = sb"))
        say(first, parse("s", text) + SYNC)
        say(first, query("commit"))
        say(second, query("begin; set local search_path = sa"))
        told = say(second, parse("s", text) + describe("S", "s") + SYNC)
        assert dict(told)["t"] == b"\0\x01" + (20).to_bytes(4, "big")
        say(second, query("commit"))
        for _ in range(3):  # on whichever connection
            say(first, query("select 1"))
            say(second, query("begin; set local search_path = sa"))
            found = say(second, bind("", "s", [(42).to_bytes(8, "big")], [1]) + execute("") + SYNC)
            assert kinds(found) == "2CZ", found
            say(second, query("commit"))
    assert told_by(postgres, "select count(*), min(v), max(v) from sa.t") == "3|42|42"


def test_sessions_go_on_when_the_pool_is_another_one(postgres, trial):
    with lending(postgres, 2) as own, three(own) as sockets:
        for sock in sockets:
            assert value(say(sock, query("select 1"))) == b"1"
        before = own.config.read_text()
        own.config.write_text(before.replace("idle_seconds = 300", "idle_seconds = 299"))
        os.kill(own.pid, signal.SIGHUP)
        until(lambda: len(events_of(own, "config.reloaded")) == 1, "the reload")
        for _ in range(2):
            for sock in sockets:
                assert value(say(sock, query("select 2"))) == b"2"


def test_what_a_view_leaves_is_gone_with_its_session(postgres, one):
    postgres.psql(
        "create or replace function hidden_lock() returns int language plpgsql volatile as "
        "$$ begin perform pg_advisory_lock(4711); return 1; end $$;"
        "create or replace view locking as select hidden_lock() as n; grant select on locking to public"
    )
    held = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711"
    with agent(one) as connection:
        assert ask(connection, "select n from locking") == 1
        assert told_by(postgres, held) == "1"
    until(lambda: told_by(postgres, held) == "0", "the end of the lock", 5)


def test_a_setting_of_ones_own_ends_its_connection_however_it_is_spelled(two):
    for text in ("select set_config(E'my\\x2eown', 'v', true)", 'set local U&"my\\002eother" = 1'):
        with agent(two, "one") as connection:
            ask(connection, "select 1")
            served = process(connection)
            with connection.transaction():
                connection.execute(text)
        with agent(two, "two") as other:
            assert process(other) != served, text


def test_a_connection_keeps_so_many_statements(one):
    """Beyond them the oldest are closed, and are right when they are asked for again."""
    with three(one) as sockets:
        for sock in sockets[:2]:
            for number in range(300):
                assert kinds(say(sock, parse(f"s{number}", f"select {number}") + SYNC)) == "1Z"
        for number in (0, 299, 150, 1, 0):
            for sock in sockets[:2]:
                assert value(say(sock, bind("", f"s{number}") + RUN)) == b"%d" % number
        found = say(sockets[2], query("select count(*)::text from pg_prepared_statements"))
        assert value(found) == b"0", "of another identity"
    with agent(one, "one") as first:
        # what is pinned sees nothing of others of its identity either
        assert ask(first, "select count(*) from pg_prepared_statements") == 0


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_prepares(two, binary):
    async def visitor(number: int) -> None:
        async with await psycopg.AsyncConnection.connect(
            through(two, two.token(f"agent-{number % 2}")), autocommit=True, prepare_threshold=1
        ) as connection:
            connection.prepared_max = 3  # so that it also takes statements away
            for turn in range(30):
                kind = (turn + number) % 5
                cursor = connection.cursor(binary=binary)
                await cursor.execute(f"select %s::int * 1000 + {number * 10 + kind}", [turn])
                assert await cursor.fetchone() == (turn * 1000 + number * 10 + kind,)
                if turn % 7 == 3:
                    with pytest.raises(psycopg.errors.DivisionByZero):
                        await connection.execute("select 1 / %s::int", [0])
                if turn % 9 == 4:
                    with contextlib.suppress(ZeroDivisionError):
                        async with connection.transaction():
                            await connection.execute("select %s::int", [1])
                            raise ZeroDivisionError

    async def all_of_them() -> None:
        await asyncio.gather(*(visitor(number) for number in range(8)))

    asyncio.run(all_of_them())


def test_asyncpg_prepares(two):
    async def visitor(number: int) -> None:
        connection = await asyncpg.connect(
            host=two.host, port=two.port, user="agent", password=two.token(f"agent-{number % 2}"),
            database="payments", ssl="require", statement_cache_size=3,
        )  # fmt: skip
        try:
            kept = await connection.prepare(f"select $1::int + {number}")
            for turn in range(25):
                kind = (turn + number) % 5
                found = await connection.fetchval(
                    f"select $1::int * 1000 + {number * 10 + kind}", turn
                )
                assert found == turn * 1000 + number * 10 + kind
                assert await kept.fetchval(turn) == turn + number
                async with connection.transaction():
                    cursor = connection.cursor("select generate_series(1, $1::int)", 120)
                    assert [row[0] async for row in cursor] == list(range(1, 121))
        finally:
            await connection.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(visitor(number) for number in range(8)))

    asyncio.run(all_of_them())


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench(two, mode, tmp_path):
    two.postgres.psql(
        "drop table if exists counted; create table counted (id int primary key, n int);"
        "insert into counted select g, 0 from generate_series(1, 8) g; grant all on counted to public"
    )
    script = tmp_path / "script.sql"
    script.write_text(
        "\\set value random(1, 1000)\n"
        "begin;\nupdate counted set n = n + 1 where id = :client_id + 1;\n"
        "select :value + n from counted where id = :client_id + 1;\ncommit;\nselect :value;\n"
    )
    done = subprocess.run(
        [
            str(two.postgres.bin / "pgbench"), "-n", "-M", mode, "-c", "8", "-j", "8", "-t", "40",
            "-f", str(script), "payments",  # a thread each: it prepares without letting others go on
        ],
        env=two.environment(two.token("bench")), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "processed: 320/320" in done.stdout, done.stdout + done.stderr
    found = two.postgres.psql("select sum(n), min(n) from counted", "postgres", "-At").strip()
    assert found == "320|40"


# --- the life of a session -----------------------------------------------------------------------------


def test_a_cancel_request_reaches_the_connection_of_now_and_nobody_else(two):
    with agent(two, "one") as first, agent(two, "one") as second:
        first.execute("select 1")
        first.cancel_safe()  # nothing of it runs
        for _ in range(3):
            assert ask(second, "select 1 from pg_sleep(0.05)") == 1
            first.execute("select 1")
        for _ in range(3):
            timer = threading.Timer(0.4, first.cancel_safe)
            timer.start()
            began = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled):
                first.execute("select pg_sleep(20)")
            assert time.monotonic() - began < 10
            timer.join()
            for connection in (second, first, second):
                assert ask(connection, "select 2 from pg_sleep(0.05)") == 2
        assert not [e for e in events_of(two, "session.pinned") if "cancel" in str(e["data"])]


def test_a_cancel_request_of_a_session_without_a_connection_hits_nobody(one):
    """The other one runs on the connection that this one had a moment ago."""
    with agent(one, "one") as first, agent(one, "two") as second:
        assert ask(first, "select 1") == 1
        found: list[object] = []
        running = threading.Thread(
            target=lambda: found.append(tell(second, "select 7 from pg_sleep(1)"))
        )
        running.start()
        time.sleep(0.3)
        first.cancel_safe()
        running.join()
        assert found == [7]


def test_an_agent_that_goes_while_its_statement_runs(one):
    sleeper = psycopg.connect(through(one, one.token("one")), autocommit=True)
    sleeper.pgconn.send_query(b"select pg_sleep(30)")
    time.sleep(0.3)
    sleeper.pgconn.finish()
    with agent(one, "two") as connection:
        assert ask(connection, "select 3") == 3


def test_an_agent_that_goes_in_its_transaction(two):
    with agent(two, "two") as other:
        connection = psycopg.connect(through(two, two.token("one")), autocommit=True)
        connection.execute("begin")
        connection.execute("insert into notes values (4719, 'lost')")
        sock = socket.socket(fileno=os.dup(connection.fileno()))
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        assert ask(other, "select count(*) from notes where id = 4719") == 0
        with agent(two, "one") as next_one:
            next_one.execute("begin")
            assert ask(next_one, "select count(*) from notes where id = 4719") == 0
            assert ask(other, "select 1") == 1
        with contextlib.suppress(psycopg.Error):
            connection.close()


def gone(trial: Trial, dead: int) -> bool:
    found = f"select count(*) from pg_stat_activity where pid = {dead}"
    return trial.postgres.psql(found, "postgres", "-At").strip() == "0"


def test_a_backend_that_dies_while_nobody_has_it(one):
    with agent(one, "one") as first, agent(one, "two") as second:
        for connection in (first, second, first):
            dead = process(connection)
            one.postgres.psql(f"select pg_terminate_backend({dead})")
            until(lambda: gone(one, dead), "its end")  # noqa: B023 - it is asked here only
            time.sleep(0.1)
            assert process(connection) != dead


def test_a_backend_that_dies_while_somebody_has_it(one):
    with agent(one, "one") as first, agent(one, "two") as second:
        first.execute("begin")
        dead = process(first)
        one.postgres.psql(f"select pg_terminate_backend({dead})")
        with pytest.raises(psycopg.OperationalError):
            first.execute("select 1")
        assert process(second) != dead


def test_listen_pins(two):
    with agent(two, "one") as first, agent(two, "two") as second:
        first.execute("listen news")
        second.execute("notify news, 'hello'")
        (note,) = first.notifies(timeout=5, stop_after=1)
        assert note.payload == "hello"
        assert list(second.notifies(timeout=0.2)) == []


def test_copy_in_and_out(two):
    with agent(two, "one") as first, agent(two, "two") as second:
        for connection in (first, second, first):
            connection.execute("begin")
            with connection.cursor().copy("copy notes from stdin") as copy:
                for number in range(1000):
                    copy.write_row((4800, f"line {number}"))
            with connection.cursor().copy(
                "copy (select * from notes where id = 4800) to stdout"
            ) as copy:
                assert len(list(copy.rows())) == 1000
            connection.execute("rollback")
            with connection.cursor().copy(
                "copy (select generate_series(1, 500)) to stdout"
            ) as copy:
                assert len(list(copy.rows())) == 500
            with (
                pytest.raises(psycopg.errors.InvalidTextRepresentation),
                connection.cursor().copy("copy notes from stdin") as copy,
            ):
                copy.write("x\ty\n")
        assert not [e for e in events_of(two, "session.pinned") if "COPY" in e["data"]["detail"]]


def test_settings_that_the_server_changes_while_nobody_is_there(postgres, trial):
    """They come as ParameterStatus to whoever has the connection next, and each agent knows its own."""
    with lending(postgres, 1) as running:
        try:
            with agent(running, "one") as first, agent(running, "two") as second:
                before = first.info.parameter_status("TimeZone")
                assert ask(first, "show timezone") == before
                running.postgres.psql("alter system set timezone = 'Asia/Kolkata'")
                running.postgres.psql("select pg_reload_conf()")
                time.sleep(0.5)
                for connection in (second, first, second, first):
                    assert ask(connection, "show timezone") == "Asia/Kolkata"
                    connection.execute("select 1")
                    assert connection.info.parameter_status("TimeZone") == "Asia/Kolkata"
        finally:
            running.postgres.psql("alter system reset timezone")
            running.postgres.psql("select pg_reload_conf()")


def test_what_a_trigger_leaves_does_not_reach_the_next(two):
    """Nothing in the statement says that it sets anything."""
    two.postgres.psql(
        """
        create table if not exists watched (n int); grant all on watched to public;
        create or replace function leave() returns trigger language plpgsql as $$ begin
            perform set_config('work_mem', '66MB', false), pg_advisory_lock(4714);
            create temporary table if not exists left_behind (n int);
            return new; end $$;
        drop trigger if exists leaves on watched;
        create trigger leaves before insert on watched for each row execute function leave();
        """
    )
    asked = (
        "select current_setting('work_mem') || ' ' || coalesce(to_regclass('pg_temp.left_behind')::text, '')"
        " || (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())"
    )
    with agent(two, "one") as first, agent(two, "one") as second, agent(two, "two") as third:
        for other in (second, third):
            for _ in range(3):
                first.execute("insert into watched values (1)")
                for _ in range(3):
                    assert ask(other, asked) == "4MB 0"


def test_sequences(two):
    """What INSERT takes from one is not the next session's, and never silently another's."""
    two.postgres.psql(
        "create table if not exists numbered (id serial, note text); grant all on numbered to public;"
        "grant all on sequence numbered_id_seq to public"
    )
    insert = "insert into numbered (note) values ('x') returning id"
    for who in ("one", "two"):
        with agent(two, "one") as first:
            mine = ask(first, insert)
            with agent(two, who) as second, agent(two, who) as third:
                second.execute("begin")  # both connections
                assert [tell(one, "select lastval()") for one in (second, third)] == ["55000"] * 2
            assert tell(first, "select lastval()") == "55000", "an error, and nothing else"
        with agent(two, "one") as first, agent(two, who) as second:
            with first.transaction():
                mine = ask(first, insert)
                assert ask(first, "select lastval()") == mine
            mine = ask(first, "select nextval('numbered_id_seq')")
            for _ in range(2):
                second.execute("select 1")
                assert ask(first, "select currval('numbered_id_seq')") == mine


def test_idle_sessions_and_roles_limits_hold(postgres, trial):
    with lending(
        postgres, 1, limits="idle_seconds = 1", role="limits = { max_rows = 3 }"
    ) as running:
        with agent(running, "idle") as first:
            assert ask(first, "select 1") == 1
            time.sleep(2)
            with pytest.raises(psycopg.OperationalError, match="idle_seconds"):
                first.execute("select 1")
        with agent(running, "greedy") as first:
            first.execute("select 1")
            first.execute("select 1")
            with pytest.raises(psycopg.OperationalError, match="max_rows"):
                first.execute("select generate_series(1, 9)")
        with agent(running, "next") as first:
            assert ask(first, "select 1") == 1


def test_drain(postgres, trial):
    with (
        lending(postgres, 1, limits="drain_seconds = 20") as running,
        agent(running) as first,
        agent(running) as second,
    ):
        first.execute("begin")
        first.execute("select 1")
        stopping = threading.Thread(target=running.stop_gateway)
        stopping.start()
        time.sleep(0.5)
        first.execute("commit")
        assert ask(second, "select 1") == 1
        first.close()
        second.close()
        stopping.join(15)
        assert not stopping.is_alive()


def test_psql_is_none_the_wiser(two):
    """A script of everything, answered as it is past the gateway."""
    script = """
        select 1; begin; select 2; commit; select 1/0; begin; select 1/0; select 3; rollback;
        prepare p as select $1::int; execute p(4); deallocate p; execute p(5);
        set work_mem = '9MB'; show work_mem; reset work_mem; show work_mem;
        create temp table t as select 5 as n; select * from t; discard temp; select * from t;
        declare c cursor with hold for select 6; fetch c; close c; discard all; select 7;
        select 8 \\; select 9; savepoint x; do $$ begin raise notice 'ten'; end $$;
        copy (select 11) to stdout; select $1 \\bind 12 \\g
    """
    agents = psql(two.environment(two.token("one")), two, script)
    direct = psql(
        {**two.postgres.environment(), "PGUSER": "payments_service", "PGPASSWORD": two.secret},
        two,
        script,
    )
    assert direct.stdout.count("\n") > 60
    assert (agents.stdout, agents.stderr) == (direct.stdout, direct.stderr)
