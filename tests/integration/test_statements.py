"""What a statement may do, with real servers: the corpora of COPY's options and of effects, by psql past the
gateway and as bytes through it."""

from __future__ import annotations

import csv
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from pangate.protocols.postgres.messages import error_fields, message, startup
from pangate.trial import Trial
from servers import assert_clean, events, fatal, rest, session_of, through, tls

CORPUS = Path(__file__).parents[1] / "corpus"


def rows(name: str) -> list[dict[str, str]]:
    with (CORPUS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


STATEMENTS = rows("sql.csv")
ALLOWED = [row for row in STATEMENTS if row["reader"] == "allow"]
DENIED = [row for row in STATEMENTS if row["reader"] == "deny"]


@pytest.mark.parametrize("row", rows("copy.csv"), ids=lambda row: row["name"])
def test_corpus_of_copy(trial, token, row):
    done = trial.psql(token, row["sql"])
    assert_clean(done.stdout + done.stderr)
    if row["verdict"] == "masked":
        assert done.returncode == 0, done.stderr
        assert "*" in done.stdout
    else:
        assert done.returncode != 0
        assert "gateway" in done.stderr or "masked" in done.stderr, done.stderr
        assert "1111" not in done.stdout


# --- past the gateway: what counts as reading changes nothing --------------------------------------

STATE = """
select md5(string_agg(c::text, '' order by id)) from cards c;
select md5(string_agg(n::text, '' order by n::text)) from notes n;
select count(*), sum(relnatts), md5(string_agg(relname || relacl::text, '' order by oid)) from pg_class;
select count(*), md5(string_agg(proname, '' order by oid)) from pg_proc;
select count(*), md5(string_agg(rolname || rolsuper::text, '' order by oid)) from pg_authid;
select count(*) from pg_largeobject; select count(*) from pg_policy; select count(*) from pg_subscription;
select md5(string_agg(name || setting, '' order by name)) from pg_file_settings;
"""


def test_what_counts_as_reading_changes_nothing(trial):
    """As the superuser, and in read-only transactions, which the server lets nothing be changed in."""
    environment = {**trial.postgres.environment(), "PGDATABASE": "postgres"}
    readonly = {**environment, "PGOPTIONS": "-c default_transaction_read_only=on"}

    def psql(text: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(trial.postgres.bin / "psql"), "-X", "-At", "-c", text],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    before = psql(STATE, environment).stdout
    assert before.count("\n") == 9
    ran = 0
    for row in ALLOWED:
        done = psql(row["sql"], readonly)
        assert "read-only" not in done.stderr, row["sql"]
        ran += done.returncode == 0
    assert ran > 0.8 * len(ALLOWED)
    assert psql(STATE, environment).stdout == before
    # and that is no word on everything: the server does refuse those that change something
    refused = [
        row["sql"]
        for row in DENIED
        if row["effects"] in ("write", "write bulk_write", "schema", "privilege")
        and "read-only" in psql(row["sql"], readonly).stderr
    ]
    assert len(refused) > 50
    assert psql(STATE, environment).stdout == before


# --- through the gateway, as an agent that may read ------------------------------------------------


class Agent:
    """A session as bytes: one Query or one extended sequence, and what comes back."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.rest = b""

    def log_in(self, database: str, token: str, **parameters: str) -> bytes:
        self.sock.sendall(startup({"user": "agent", "database": database, **parameters}))
        self.sock.sendall(message(b"p", token.encode() + b"\0"))
        return self.until_ready()

    def query(self, text: str) -> list[tuple[bytes, bytes]]:
        self.sock.sendall(message(b"Q", text.encode() + b"\0"))
        return self.answers()

    def parse(self, text: str, name: bytes = b"") -> list[tuple[bytes, bytes]]:
        body = name + b"\0" + text.encode() + b"\0\0\0"
        self.sock.sendall(message(b"P", body) + message(b"S"))
        return self.answers()

    def run(self, name: bytes = b"") -> list[tuple[bytes, bytes]]:
        bind = message(b"B", b"\0" + name + b"\0\0\0\0\0\0\0")
        self.sock.sendall(bind + message(b"E", b"\0\0\0\0\0") + message(b"S"))
        return self.answers()

    def answers(self) -> list[tuple[bytes, bytes]]:
        found = []
        while True:
            kind, body = self.one()
            found.append((kind, body))
            if kind == b"G":
                self.sock.sendall(message(b"f", b"no\0"))
            if kind == b"Z":
                return found

    def one(self) -> tuple[bytes, bytes]:
        while len(self.rest) < 5 or len(self.rest) <= int.from_bytes(self.rest[1:5], "big"):
            chunk = self.sock.recv(65536)
            if not chunk:
                raise ConnectionError(self.rest)
            self.rest += chunk
        size = int.from_bytes(self.rest[1:5], "big")
        kind, body = self.rest[:1], self.rest[5 : size + 1]
        self.rest = self.rest[size + 1 :]
        return kind, body

    def until_ready(self) -> bytes:
        return b"".join(body for _, body in self.answers())


@pytest.fixture(scope="module")
def reader_token(trial: Trial) -> str:
    """A token of the role `ledger-reader`, which has the effects that a role has by default."""
    return trial.token(team="ledger", seconds=7200)


@pytest.fixture
def reader(trial: Trial, reader_token: str) -> Iterator[Agent]:
    with tls(trial) as sock:
        agent = Agent(sock)
        agent.log_in("ledger", reader_token)
        yield agent


def refusals(answers: list[tuple[bytes, bytes]]) -> list[dict[str, str]]:
    fields = [error_fields(body) for kind, body in answers if kind == b"E"]
    ours = (
        "needs the effect",
        "not passed through this gateway",
        "settings are not changed through",
    )
    return [one for one in fields if any(text in one["M"] for text in ours)]


def test_corpus_through_the_gateway(reader):
    for row in STATEMENTS:
        answers = reader.query(row["sql"])
        refused = refusals(answers)
        if row["reader"] == "deny":
            assert [one["C"] for one in refused] == ["42501"], row["sql"]
            assert not any(kind in (b"D", b"C", b"H", b"G") for kind, _ in answers), row["sql"]
        else:
            assert not refused, row["sql"]
        if answers[-1] != (b"Z", b"I"):
            reader.query("rollback")


def test_corpus_through_the_gateway_in_the_extended_protocol(reader):
    for row in DENIED:
        (refused,) = refusals(reader.parse(row["sql"]))
        assert refused["C"] == "42501"
    assert [kind for kind, _ in reader.query("select 1")] == [b"T", b"D", b"C", b"Z"]


def test_a_refusal_says_what_and_by_which_role_and_is_recorded(trial, reader):
    (refused,) = refusals(reader.query("select 'mark one'; delete from notes"))
    assert refused["M"] == (
        "statement 2 of 2 needs the effect 'write' (DELETE), which role 'ledger-reader' does not grant; "
        "ask whoever runs the gateway for a role that does"
    )
    reader.query("select t from cards c where 'mark one' = t")
    denied, allowed = [
        e
        for e in session_of(trial, "mark one")
        if e["code"] in ("statement.denied", "statement.allowed")
    ]
    assert denied["data"]["effects"] == ["read", "write", "bulk_write"]
    assert denied["data"]["relations"] == ["notes"]
    assert (allowed["data"]["effects"], allowed["data"]["relations"]) == (["read"], ["cards"])


def test_execute_is_judged_by_what_was_prepared(reader):
    assert not refusals(reader.query("prepare p as select 1; execute p"))
    assert not refusals(reader.query("execute p"))
    assert not refusals(reader.parse("select 2", b"named"))
    assert not refusals(reader.query('execute "named"'))
    assert refusals(reader.query("execute other"))
    # the name was never taken, because the statement was refused
    assert refusals(reader.query("prepare w as delete from notes"))
    assert refusals(reader.query("execute w"))
    assert not refusals(reader.query("prepare w as select 3"))
    assert not refusals(reader.query("execute w"))
    assert not refusals(reader.query("deallocate all"))


def test_a_bind_is_judged_again(trial, reader):
    reader.parse("select 'mark two'", b"s")
    assert (b"C", b"SELECT 1\0") in reader.run(b"s")
    kinds = [e["data"].get("kind") for e in session_of(trial, "mark two")]
    assert kinds.count("parse") == kinds.count("bind") == 1


def test_ordinary_work_of_a_reader(trial, reader_token):
    """A driver's whole session, and a psql's, with the effects that a role has by default."""
    address = through(trial, reader_token).replace("dbname=payments", "dbname=ledger")
    with psycopg.connect(address, application_name="report") as connection:
        connection.read_only = True
        with connection.transaction(), connection.cursor("server_side") as cursor:
            cursor.execute("select t from cards where id > %s order by id", (0,))
            assert len(cursor.fetchmany(2)) == 2
        connection.execute("set statement_timeout = '10s'")
        with connection.cursor() as cursor, cursor.copy("copy cards to stdout") as copy:
            assert len(list(copy)) > 3
        connection.rollback()
        connection.prepare_threshold = 0
        for n in range(3):
            connection.execute("select %s::int", (n,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="'write'"):
            connection.execute("update notes set note = %s where id = %s", ("x", 1))


async def test_asyncpg_finds_out_about_types_as_a_reader(trial, reader_token):
    connection = await asyncpg.connect(
        host=trial.host, port=trial.port, user="agent", password=reader_token, database="ledger",
        ssl=ssl.create_default_context(cafile=str(trial.ca)), timeout=20,
    )  # fmt: skip
    try:
        (found,) = await connection.fetch("select array_agg(h) from cards where id = $1", 1)
        assert [holder["name"] for holder in found[0]] == ["Ada"]
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="'write'"):
            await connection.execute("delete from notes where id = $1", 1)
        async with connection.transaction(readonly=True):
            assert await connection.fetchval("select count(*) from cards") == 4
        await connection.reset()  # what its pool does
    finally:
        await connection.close()


# --- what would make the gateway misread -----------------------------------------------------------


def test_strings_that_are_read_otherwise_end_the_session(trial, token):
    """Code can change the setting where the gateway does not see it; the server tells."""
    with tls(trial) as sock:
        agent = Agent(sock)
        agent.log_in("payments", token)
        hidden = "do $$ begin perform set_config('standard_conforming_' || 'strings', 'off', false); end $$"
        agent.sock.sendall(message(b"Q", hidden.encode() + b"\0"))
        assert "standard_conforming_strings" in fatal(agent.rest + rest(sock))["M"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"options": "-c role=postgres"}, "'privilege'"),
        ({"role": "postgres"}, "'privilege'"),
        ({"options": "-c myapp.tenant=1"}, "'session'"),
        ({"options": "-c search_path=public,pg_catalog"}, "'session'"),
        ({"options": "-O"}, "a startup option other than -c"),
        ({"standard_conforming_strings": "off"}, "standard_conforming_strings"),
        ({"options": "-c standard_conforming_strings=off"}, "standard_conforming_strings"),
        ({"client_encoding": "SJIS"}, "client_encoding"),
        ({"options": "-c client_encoding=GBK"}, "client_encoding"),
    ],
)
def test_startup_parameters_are_judged(trial, reader_token, parameters, said):
    with tls(trial) as sock, pytest.raises(ConnectionError):
        Agent(sock).log_in("ledger", reader_token, **parameters)
    denied = [e for e in events(trial) if e["code"] == "authorisation.denied"]
    assert said in denied[-1]["data"]["detail"]


def test_startup_parameters_of_an_ordinary_session_pass(trial, reader_token):
    with tls(trial) as sock:
        agent = Agent(sock)
        options = "-c statement_timeout=5s -c search_path=public"
        agent.log_in("ledger", reader_token, options=options, datestyle="ISO", application_name="x")
        assert (b"D", b"\0\1\0\0\0\x025s") in agent.query("show statement_timeout")
