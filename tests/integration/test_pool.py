"""Connections to the database that have one owner after another: nothing of one agent's session reaches the
next, and what could not be taken away ends the connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator

import psycopg
import pytest

from conftest import EVERYTHING
from pangate.protocols.postgres.messages import message
from pangate.proxy.pool import FRESH_SECONDS
from pangate.trial import Trial, until
from pgwire import bind, execute, parse, query, split
from servers import backends, past, session, through
from states import ENDS, STATES, ask

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pooled(postgres, trial) -> Iterator[Trial]:
    """A gateway of its own, in front of the tables of the other one."""
    with Trial(postgres, effects=EVERYTHING) as running:
        yield running


def visit(trial: Trial, who: str, *texts: str, **more: object) -> tuple[int, list[object]]:
    """A session of the agent `who`: its backend process, and what each text answers."""
    # closed as it is: a `with` of its own would commit
    with contextlib.closing(
        psycopg.connect(through(trial, trial.token(who), **more), autocommit=True)
    ) as connection:
        # without the numbers that drivers give to prepared statements
        connection.prepare_threshold = None
        process = connection.info.backend_pid
        backend = ask(connection, "select pg_backend_pid()")
        answers = []
        for text in texts:
            try:
                answers.append(ask(connection, text))
            except psycopg.Error as wrong:
                answers.append(wrong)
    assert process != backend, "agents have cancel keys of the gateway's own"
    return int(str(backend)), answers


def at_rest(trial: Trial, process: int) -> None:
    """Until the backend has been made as new."""

    def clean() -> bool:
        with psycopg.connect(past(trial)) as connection:
            found = connection.execute(
                "select state, query from pg_stat_activity where pid = %s", [process]
            ).fetchone()
        return found is None or (found[0] == "idle" and "setseed" in found[1])

    until(clean, "the connection is at rest")


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_left(pooled, state):
    script, question, fresh = STATES[state]
    with psycopg.connect(past(pooled), autocommit=True) as connection:
        expected = ask(connection, question)
    if fresh is not None:
        assert expected == fresh, "a connection past the gateway does not have this by itself"
    first, _ = visit(pooled, "one", script)
    at_rest(pooled, first)
    second, answers = visit(pooled, "two", question)
    assert second == first, "the connection was not used again: this could not fail"
    assert answers == [expected]


def test_random_numbers_do_not_go_on(pooled):
    first, _ = visit(pooled, "one", "select setseed(0.5)")
    at_rest(pooled, first)
    second, after = visit(pooled, "two", "select random()")
    with psycopg.connect(past(pooled), autocommit=True) as connection:
        ask(connection, "select setseed(0.5)")
        foreseen = ask(connection, "select random()")
    assert second == first
    assert after != [foreseen]


@pytest.mark.parametrize("state", ENDS)
def test_what_cannot_be_taken_away_ends_the_connection(pooled, state):
    first, _ = visit(pooled, "one", ENDS[state])

    def ended() -> bool:
        with psycopg.connect(past(pooled)) as connection:
            return (
                ask(connection, f"select count(*) from pg_stat_activity where pid = {first}") == 0
            )

    until(ended, "the connection has ended")
    second, _ = visit(pooled, "two")
    assert second != first


def test_settings_of_the_startup_packet_are_part_of_what_fits(pooled):
    first, (zone,) = visit(pooled, "one", "show timezone", options="-c timezone=Asia/Tokyo")
    at_rest(pooled, first)
    second, (other,) = visit(pooled, "two", "show timezone")
    third, (again,) = visit(pooled, "three", "show timezone", options="-c timezone=Asia/Tokyo")
    assert (zone, again) == ("Asia/Tokyo", "Asia/Tokyo")
    assert other != zone
    assert second != first == third


def test_a_prepared_statement_of_the_protocol_is_gone(pooled):
    for who in ("one", "two"):
        with psycopg.connect(through(pooled, pooled.token(who)), autocommit=True) as connection:
            connection.prepare_threshold = 0  # named at once, by the same name in both
            process = ask(connection, "select pg_backend_pid()")
            assert ask(connection, "select 40 + 2") == 42
        at_rest(pooled, process)


def test_an_agent_that_goes_without_a_word(pooled):
    connection = psycopg.connect(through(pooled, pooled.token("one")))
    process = ask(connection, "select pg_backend_pid()")
    connection.execute("insert into notes values (4713, 'lost')")
    sock = socket.socket(fileno=os.dup(connection.fileno()))
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    at_rest(pooled, process)
    second, (count,) = visit(pooled, "two", "select count(*) from notes where id = 4713")
    assert second == process
    assert count == 0
    with contextlib.suppress(psycopg.Error):
        connection.close()


def test_an_agent_that_goes_while_its_statement_runs(pooled):
    first, _ = visit(pooled, "one")
    at_rest(pooled, first)
    connection = psycopg.connect(through(pooled, pooled.token("one")))
    process = ask(connection, "select pg_backend_pid()")
    connection.pgconn.send_query(b"select pg_sleep(30)")
    connection.pgconn.finish()
    second, _ = visit(pooled, "two", "select 1")
    assert second != process, "its answer is still to come"


def told(sock) -> list[tuple[str, bytes]]:
    """What the gateway says up to the next ReadyForQuery."""
    seen = b""
    while seen[-6:-1] != b"Z\0\0\0\5":
        seen += sock.recv(65536)
    return split(seen)


def test_an_agent_that_goes_with_a_portal_half_read(pooled):
    """Nothing is owed, and yet its statement has not ended: the cancel request for it comes late."""
    with session(pooled, pooled.token("one")) as sock:
        sock.sendall(query("begin"))
        told(sock)
        sql = "select pg_backend_pid()::text from generate_series(1, 9)"
        sock.sendall(parse("", sql) + bind() + execute(rows=1) + message(b"S"))
        found = told(sock)
    assert "s" in dict(found), "the portal is suspended"
    process = dict(found)["D"][6:]
    with session(pooled, pooled.token("two")) as sock:
        sock.sendall(query("select pg_backend_pid()::text from pg_sleep(0.5)"))
        found = told(sock)
    assert [kind for kind, _ in found] == ["T", "D", "C", "Z"]
    assert dict(found)["D"][6:] != process


def test_a_connection_that_was_cancelled_has_no_further_owner(pooled):
    with psycopg.connect(through(pooled, pooled.token("one")), autocommit=True) as connection:
        process = ask(connection, "select pg_backend_pid()")
        connection.cancel_safe()
    second, _ = visit(pooled, "two")
    assert second != process


def test_connections_that_ended_while_they_waited(pooled):
    first, _ = visit(pooled, "one")
    at_rest(pooled, first)
    pooled.postgres.psql(f"select pg_terminate_backend({first})")
    second, answers = visit(pooled, "two", "select 42")
    assert (second != first, answers) == (True, [42])


def test_who_has_waited_is_asked_whether_it_is_there(pooled):
    """What a connection ran last, when its owner has said nothing yet, tells."""

    def last(waited: float) -> str:
        first, _ = visit(pooled, "one")
        at_rest(pooled, first)
        time.sleep(waited)
        with psycopg.connect(through(pooled, pooled.token("two"))):
            events = map(json.loads, pooled.audit.read_text().splitlines())
            found = [event for event in events if event["code"] == "session.connected"][-1]
            process = found["data"]["backend"]
            with psycopg.connect(past(pooled)) as connection:
                text = ask(connection, f"select query from pg_stat_activity where pid = {process}")
        return str(text)

    assert last(FRESH_SECONDS + 0.3) == ""
    # a slow machine needs more than one try to come in time
    until(lambda: "setseed" in last(0.0), "one that is not asked", 60)


def test_a_session_that_has_said_nothing_on_its_connection_is_counted(pooled):
    """What the other tests count: the server shows what was sent to make the connection as new."""
    first, _ = visit(pooled, "one")
    at_rest(pooled, first)
    until(lambda: backends(pooled) == 0, "the end of other sessions")
    with session(pooled, pooled.token("two")):
        assert backends(pooled) == 1
    until(lambda: backends(pooled) == 0, "its end")


def test_who_may_not_log_in_any_more_is_served_by_what_waits(pooled):
    """As operations.md says, and what it says to do about it."""
    first, _ = visit(pooled, "one")
    at_rest(pooled, first)
    try:
        pooled.postgres.psql("alter role payments_service nologin")
        second, answers = visit(pooled, "two", "select count(*) > 0 from cards")
        assert (second, answers) == (first, [True])
        text = pooled.config.read_text()
        assert "max_seconds" not in text
        pooled.config.write_text(
            text.replace(
                'name = "payments"\nhost', 'name = "payments"\npool.max_seconds = 3000\nhost'
            )
        )
        os.kill(pooled.pid, signal.SIGHUP)
        until(lambda: "config.reloaded" in pooled.audit.read_text(), "the reload")
        with pytest.raises(psycopg.OperationalError, match="refused the gateway's login"):
            visit(pooled, "three")
    finally:
        pooled.postgres.psql("alter role payments_service login")
    visit(pooled, "four", "select 1")


def test_the_record_says_which_backend_served_whom(pooled):
    process, _ = visit(pooled, "ci-job-77")
    events = map(json.loads, pooled.audit.read_text().splitlines())
    connected = [event for event in events if event["code"] == "session.connected"][-1]
    assert connected["principal"].endswith("#ci-job-77")
    assert connected["data"]["backend"] == process
    assert connected["data"]["owner"] >= 1


def test_the_database_knows_who_it_serves(postgres):
    with Trial(
        postgres,
        resource='application_name = "{application}/{principal}"\n'
        'principal_setting = "pangate.principal"',
    ) as trial:
        asked = "select current_setting('application_name'), current_setting('pangate.principal')"
        processes = set()
        for who in ("one", "two", "two"):
            with psycopg.connect(
                through(trial, trial.token(who), application_name="nightly"), autocommit=True
            ) as connection:
                process = ask(connection, "select pg_backend_pid()")
                name, principal = connection.execute(asked).fetchone()
            assert principal == f"{trial.issuer.url}#{who}"
            assert name == f"nightly/{trial.issuer.url}#{who}"[:63]
            processes.add(process)
            at_rest(trial, process)
        assert len(processes) == 2


def test_at_most_so_many_connections_and_everybody_has_their_turn(postgres):
    with Trial(postgres, resource="pool = { max_connections = 2 }") as trial:
        dsn = through(trial, trial.token("one"))

        async def visitor(number: int) -> tuple[int, int]:
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                cursor = await connection.execute("select pg_backend_pid(), pg_sleep(0.02)")
                process, _ = await cursor.fetchone()
                return number, process

        async def all_of_them() -> list[tuple[int, int]]:
            return await asyncio.gather(*(visitor(number) for number in range(12)))

        found = asyncio.run(all_of_them())
        assert sorted(number for number, _ in found) == list(range(12))
        with psycopg.connect(past(trial)) as connection:
            count = connection.execute(
                "select count(*) from pg_stat_activity where usename = 'payments_service' and pid = any(%s)",
                [[process for _, process in found]],
            ).fetchone()
        assert count[0] <= 2


def test_a_session_that_finds_no_connection_is_told_so(postgres):
    with (
        Trial(
            postgres, resource="pool = { max_connections = 1 }", limits="connect_seconds = 1"
        ) as trial,
        psycopg.connect(through(trial, trial.token("one"))) as connection,
    ):
        assert ask(connection, "select 1") == 1
        with pytest.raises(
            psycopg.OperationalError, match=r"connect_seconds.*max_connections|max_connections"
        ):
            psycopg.connect(through(trial, trial.token("two")))


def test_no_pool(postgres):
    with Trial(postgres, resource="pool = { idle_seconds = 0 }") as trial:
        first, _ = visit(trial, "one")
        second, _ = visit(trial, "one")
        assert second != first


def test_a_connection_is_ready_before_anybody_asks(postgres):
    with Trial(
        postgres, resource="pool = { ready = 1, idle_seconds = 1, max_seconds = 600 }"
    ) as trial:

        def waiting() -> list[int]:
            # of this gateway alone: other trials have their own connections at the server
            lines = trial.log.read_text()
            assert "made ahead" not in lines
            with psycopg.connect(past(trial)) as connection:
                rows = connection.execute(
                    "select pid from pg_stat_activity where usename = 'payments_service' and state = 'idle' "
                    "and (query = '' or query like '%setseed(%') and application_name = 'nightly'"
                ).fetchall()
            return [pid for (pid,) in rows]

        with psycopg.connect(
            through(trial, trial.token("one"), application_name="nightly"), autocommit=True
        ) as first:
            process = ask(first, "select pg_backend_pid()")
            until(lambda: len(waiting()) == 1, "another connection is ready")
            (ready,) = waiting()
            assert ready != process
            second, _ = visit(trial, "two", application_name="nightly")
            assert second == ready
        events = [json.loads(line) for line in trial.audit.read_text().splitlines()]
        owners = [one["data"]["owner"] for one in events if one["code"] == "session.connected"]
        assert owners == [1, 1], "nobody had it before"
        # and it waits longer than what has no owner otherwise does
        until(lambda: len(waiting()) == 1, "one is left")
        left = waiting()
        time.sleep(3)
        assert waiting() == left, "it was made anew"
