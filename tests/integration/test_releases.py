"""Every ordinary client against every major version: through the gateway it sees what it sees past it, but
for the masks. What psql, psycopg and asyncpg do beyond this stands in tests of their own, on one version."""

from __future__ import annotations

import decimal
import io
import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pg8000.dbapi
import pg8000.native
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from conftest import PANS
from installations import NODE, installations
from pangate.trial import Trial
from servers import (
    as_agent,
    assert_clean,
    assert_equal_but_for_masks,
    masked,
    number,
    numbers,
    past,
    psql,
    service,
    through,
)

pytestmark = pytest.mark.integration

DRIVERS = Path(__file__).parents[1] / "drivers"
JAR = Path("/usr/share/java/postgresql.jar")
COLUMNS = "id, t, v, n, d, b, ta, na, da, ok"
QUERY = f"select {COLUMNS} from cards order by id"


@pytest.fixture(scope="module")
def release_token(trial_of: Trial) -> str:
    return trial_of.token(seconds=7200)


@pytest.fixture(scope="module")
def ways(trial_of: Trial, release_token: str) -> tuple[dict[str, str], dict[str, str]]:
    """Environments past the gateway and through it, for programs that know PGHOST and the like."""
    return service(trial_of), trial_of.environment(release_token)


def test_the_versions_are_those_that_are_promised():
    assert len(installations()) >= 3, "servers of three major versions stand behind the gateway"


# --- psql and pgbench ------------------------------------------------------------------------------

SCRIPTS = {
    "rows": "select id, t, v, c, p, s, u, ok, e from cards order by id;",
    "bind": "select $1::text, id from cards where t = $1 \\bind 4111111111111111 \\g\n",
    "cursor": "begin; declare c cursor for select id, t from cards order by id; fetch 2 from c; commit;",
    "copy": "copy (select id, t, v from cards order by id) to stdout (format csv, header);",
    "error": "\\set VERBOSITY verbose\nselect (t || 'x')::int from cards; select 'on';",
    "savepoint": "begin; savepoint a; select (t || 'x')::int from cards; rollback to a;"
    "select t from cards where id = 3; commit;",
    "describe": "\\d cards\n\\dt cards\n\\sf shout\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_psql(trial_of, ways, name):
    before, after = (psql(way, trial_of, SCRIPTS[name], "-A") for way in ways)
    if name == "bind" and "invalid command \\bind" in before.stderr:
        pytest.skip("psql has \\bind since 16")
    assert after.stdout == masked(before.stdout)
    # the source line of an error in verbose mode is the server's; it has no PAN
    assert after.stderr == masked(before.stderr)
    assert after.returncode == before.returncode
    assert_clean(after.stdout + after.stderr)


@pytest.fixture(scope="module")
def bench_tables(trial_of) -> Iterator[None]:
    _pgbench(trial_of, trial_of.postgres.environment(), "--initialize", "--quiet")
    grant = "grant all on pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history to"
    trial_of.postgres.psql(f"{grant} payments_service")
    yield
    trial_of.postgres.psql(
        "drop table pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history"
    )


def _pgbench(trial: Trial, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [str(trial.postgres.bin / "pgbench"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["select-only", "tpcb-like"])
def test_pgbench(trial_of, ways, bench_tables, mode, script):
    command = ["-n", f"--builtin={script}", f"--protocol={mode}", "--client=2", "--transactions=40"]
    count = "select count(*), coalesce(sum(delta), 0) from pgbench_history"
    before = int(trial_of.postgres.psql(count, "postgres", "-At").partition("|")[0])
    said = _pgbench(trial_of, ways[1], *command)
    assert "number of transactions actually processed: 80/80" in said
    assert "number of failed transactions: 0 (0.000%)" in said
    after, moved = trial_of.postgres.psql(count, "postgres", "-At").strip().split("|")
    assert int(after) - before == (80 if script == "tpcb-like" else 0)
    balance = "select sum(abalance) from pgbench_accounts"
    assert trial_of.postgres.psql(balance, "postgres", "-At").strip() == moved


# --- psycopg and asyncpg ---------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg(trial_of, release_token, binary):
    found = []
    for where in (past(trial_of), through(trial_of, release_token)):
        with psycopg.connect(where, autocommit=True) as connection:
            some = connection.execute(QUERY, binary=binary).fetchall()
            some += connection.execute(QUERY, prepare=True, binary=binary).fetchall()
            with connection.transaction(), connection.cursor(name="c", binary=binary) as cursor:
                cursor.itersize = 2
                some += list(cursor.execute(QUERY))
            with connection.pipeline():
                asked = f"select {COLUMNS} from cards where id = %s"
                cursors = [connection.execute(asked, (n,), binary=binary) for n in range(1, 5)]
                some += [cursor.fetchone() for cursor in cursors]
            copied = "copy (select id, t, v, ta from cards order by id) to stdout"
            with connection.cursor() as cursor, cursor.copy(copied) as copy:
                some += [tuple(row) for row in copy.rows()]
            with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute("select 1 / 0")
        found.append(some)
    assert_equal_but_for_masks(*found)


async def test_asyncpg(trial_of, release_token):
    address = {"host": "127.0.0.1", "database": "payments", "user": "agent"}
    theirs = ssl.create_default_context(cafile=str(trial_of.postgres.authority.ca))
    own = ssl.create_default_context(cafile=str(trial_of.ca))
    logins = (
        {
            **address, "port": trial_of.postgres.port, "user": "payments_service", "ssl": theirs,
            "database": "postgres", "password": trial_of.secret,
        },
        {**address, "port": trial_of.port, "password": release_token, "ssl": own},
    )  # fmt: skip
    found = []
    for login in logins:
        connection = await asyncpg.connect(**login)
        statement = await connection.prepare(QUERY)
        some = [*await statement.fetch(), *await statement.fetch()]
        async with connection.transaction():
            some += [row async for row in connection.cursor(QUERY, prefetch=2)]
        asked = f"select {COLUMNS} from cards where t = $1 and n = $2"
        some += await connection.fetch(asked, PANS[2], int(PANS[2]))
        some += await connection.fetch("select row(t, n, d, ta), array[row(n, t)] from cards")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("select 1 / $1::int", 0)
        await connection.close()
        found.append(some)
    assert_equal_but_for_masks(*found)


# --- pg8000 ----------------------------------------------------------------------------------------


def _pg8000(trial: Trial, token: str) -> list[dict[str, object]]:
    theirs = ssl.create_default_context(cafile=str(trial.postgres.authority.ca))
    own = ssl.create_default_context(cafile=str(trial.ca))
    return [
        {
            "user": "payments_service", "password": trial.secret, "port": trial.postgres.port,
            "database": "postgres", "host": "127.0.0.1", "ssl_context": theirs,
        },
        {
            "user": "agent", "password": token, "port": trial.port, "database": "payments",
            "host": "127.0.0.1", "ssl_context": own,
        },
    ]  # fmt: skip


def test_pg8000(trial_of, release_token):
    found = []
    for login in _pg8000(trial_of, release_token):
        some = []
        with pg8000.native.Connection(**login) as connection:
            some += connection.run(QUERY)
            some += connection.run(f"select {COLUMNS} from cards where id = :id", id=3)
            some += connection.run(
                "select j, jb, x::text, h::text, e, r::text from cards order by id"
            )
            prepared = connection.prepare(f"select {COLUMNS} from cards where t = :t")
            for pan in PANS:
                some += prepared.run(t=pan)
            prepared.close()
            some += connection.run(
                "select cast(:a as text), cast(:b as bigint), cast(:c as numeric), cast(:d as bytea)",
                a=PANS[0], b=int(PANS[1]), c=decimal.Decimal(PANS[2]) / 4, d=PANS[3].encode(),
            )  # fmt: skip
            some += [connection.run('select t as "4111111111111111" from cards where id = 2')[0]]
            some.append([column["name"] for column in connection.columns])
            connection.run("start transaction")
            connection.run("insert into notes values (31, :note)", note=PANS[0])
            connection.run("savepoint one")
            with pytest.raises(pg8000.native.DatabaseError) as wrong:
                connection.run("select ('x' || t)::int from cards")
            some.append([wrong.value.args[0]["C"], wrong.value.args[0]["M"]])
            connection.run("rollback to savepoint one")
            connection.run("commit")
            some += connection.run("delete from notes where id = 31 returning note")
            out = io.BytesIO()
            connection.run("copy (select id, t, v from cards order by id) to stdout", stream=out)
            some.append([out.getvalue().decode()])
            connection.run("copy notes from stdin", stream=io.BytesIO(f"32\t{PANS[1]}\n".encode()))
            some += connection.run("delete from notes where id = 32 returning note")
            connection.run('listen "4111111111111111"')
            connection.run("select pg_notify('4111111111111111', 'card 4111111111111111')")
            connection.run("select shout(:pan)", pan=PANS[0])
            some += [list(note[1:]) for note in connection.notifications]
            said = connection.notices[-1]
            some.append([bytes(said[key]).decode() for key in (b"M", b"D")])
            some += connection.run(
                "select :v || :pan", v="caf\u00e9 \u0664 \U0001f600 ", pan=PANS[0]
            )
            large = connection.run(
                "select repeat('x', 200) || :pan from generate_series(1, 20000)", pan=PANS[0]
            )
            some += [[len(large)], *large[:2], *large[-2:]]
        found.append([tuple(row) for row in some])
    assert_equal_but_for_masks(*found)


def test_pg8000_by_the_database_api(trial_of, release_token):
    found = []
    for login in _pg8000(trial_of, release_token):
        connection = pg8000.dbapi.connect(**login)
        cursor = connection.cursor()
        cursor.execute(QUERY)
        some = [cursor.fetchone(), *cursor.fetchmany(2), *cursor.fetchall()]
        cursor.execute("select t, n from cards where n = %s", (int(PANS[1]),))
        some += cursor.fetchall()
        cursor.executemany(
            "insert into notes values (%s, %s)", [(n, PANS[0]) for n in range(33, 38)]
        )
        connection.commit()
        cursor.execute("delete from notes where id between 33 and 37 returning note")
        some += cursor.fetchall()
        connection.commit()
        with pytest.raises(pg8000.dbapi.DatabaseError):
            cursor.execute("select 1 / 0")
        connection.rollback()
        cursor.execute("select t from cards order by id")
        some += cursor.fetchall()
        connection.close()
        found.append([tuple(row) for row in some])
    assert_equal_but_for_masks(*found)


# --- SQLAlchemy ------------------------------------------------------------------------------------

SALES = """
create table sales (
    id serial primary key, card text unique, n bigint, d numeric(20, 2), j jsonb, tags text[], note text
);
comment on column sales.card is 'such as 4111111111111111';
alter table sales owner to payments_service;
"""


class Base(DeclarativeBase):
    pass


class Sale(Base):
    __tablename__ = "sales"
    id: Mapped[int] = mapped_column(primary_key=True)
    card: Mapped[str]
    n: Mapped[int] = mapped_column(sqlalchemy.BigInteger)
    d: Mapped[decimal.Decimal] = mapped_column(sqlalchemy.Numeric(20, 2))
    j: Mapped[dict] = mapped_column(sqlalchemy.dialects.postgresql.JSONB)
    tags: Mapped[list] = mapped_column(sqlalchemy.ARRAY(sqlalchemy.Text))
    note: Mapped[str | None]


@pytest.fixture(scope="module")
def sales(trial_of):
    trial_of.postgres.psql(SALES)
    yield
    trial_of.postgres.psql("drop table sales")


def _sell(connection: sqlalchemy.Connection) -> list[tuple[object, ...]]:
    """What an application does with SQLAlchemy: the same over every driver."""
    some: list[tuple[object, ...]] = []
    connection.execute(sqlalchemy.text("truncate sales restart identity"))
    connection.commit()
    inspected = sqlalchemy.inspect(connection)
    some += [(c["name"], str(c["type"]), c["comment"]) for c in inspected.get_columns("sales")]
    some += [
        (u["name"], tuple(u["column_names"])) for u in inspected.get_unique_constraints("sales")
    ]
    with Session(connection) as session:
        made = [
            Sale(card=pan, n=int(pan), d=decimal.Decimal(pan), j={"pan": pan}, tags=[pan, "x"])
            for pan in PANS
        ]
        session.add_all(made)
        session.flush()
        some += [(sale.id,) for sale in made]
        nested = session.begin_nested()
        session.add(Sale(card=PANS[0], n=1, d=decimal.Decimal(1), j={}, tags=[]))
        with pytest.raises(sqlalchemy.exc.IntegrityError) as wrong:
            session.flush()
        orig = wrong.value.orig
        said = f"{orig} {getattr(orig.__cause__, 'detail', '')}"
        some.append((re.search(r"Key \(card\)=\(.*?\)", said)[0],))
        nested.rollback()
        session.commit()
        session.expire_all()
        by = sqlalchemy.select(Sale).order_by(Sale.id)
        some += [
            (sale.id, sale.card, sale.n, sale.d, sale.j, sale.tags, sale.note)
            for sale in session.scalars(by)
        ]
        one = session.scalars(by.where(Sale.card == PANS[1], Sale.n == int(PANS[1]))).one()
        one.note = f"paid by {PANS[1]}"
        session.commit()
        some.append((session.get_one(Sale, one.id).note,))
        many = [{"card": f"{n} {PANS[0]}", "n": n, "d": 0, "j": {}, "tags": []} for n in range(40)]
        returned = session.execute(sqlalchemy.insert(Sale).returning(Sale.card, Sale.n), many)
        some += [tuple(row) for row in returned]
        session.rollback()
    again = upsert(Sale).values(id=1, card="x", n=1, d=1, j={}, tags=[])
    done = again.on_conflict_do_update(index_elements=["id"], set_={"note": PANS[2]})
    some += [tuple(row) for row in connection.execute(done.returning(Sale.card, Sale.note))]
    connection.commit()
    rows = connection.execution_options(stream_results=True, yield_per=3).execute(
        sqlalchemy.text("select card, n from sales order by id")
    )
    some += [tuple(row) for row in rows]
    connection.rollback()
    with pytest.raises(sqlalchemy.exc.DBAPIError):
        connection.execute(sqlalchemy.text("select 1 / 0"))
    connection.rollback()
    some.append(tuple(connection.execute(sqlalchemy.text("select max(card) from sales")).one()))
    connection.rollback()
    return some


@pytest.mark.parametrize("driver", ["psycopg", "pg8000", "asyncpg"])
async def test_sqlalchemy(trial_of, release_token, sales, driver):
    theirs, own = trial_of.postgres.authority.ca, trial_of.ca
    logins = (
        ("payments_service", trial_of.secret, trial_of.postgres.port, "postgres", theirs),
        ("agent", release_token, trial_of.port, "payments", own),
    )
    found = []
    for user, password, port, database, ca in logins:
        url = sqlalchemy.URL.create(
            f"postgresql+{driver}", user, password, "127.0.0.1", port, database
        )
        if driver == "psycopg":
            arguments = {"sslmode": "verify-full", "sslrootcert": str(ca)}
        else:
            name = "ssl" if driver == "asyncpg" else "ssl_context"
            arguments = {name: ssl.create_default_context(cafile=str(ca))}
        if driver == "asyncpg":
            engine = create_async_engine(url, connect_args=arguments)
            async with engine.connect() as connection:
                found.append(await connection.run_sync(_sell))
            await engine.dispose()
        else:
            plain = sqlalchemy.create_engine(url, connect_args=arguments)
            with plain.connect() as connection:
                found.append(_sell(connection))
            plain.dispose()
    assert_equal_but_for_masks(*found)


# --- programs in other languages -------------------------------------------------------------------


def expected(value):
    """What the program prints through the gateway where it prints `value` past it."""
    match value:
        case {"hex": str(text), **rest} if not rest:
            return {"hex": as_agent(bytes.fromhex(text)).hex()}
        case {"number": str(text), **rest} if not rest:
            return {"number": numbers(text)}
        case {"json": str(text), **rest} if not rest:
            return {"json": _as_json(text)}
        case {"money": str(text), **rest} if not rest:
            whole, _, cents = text.removeprefix("$").partition(".")
            return {"money": f"${number(int(whole.replace(',', ''))):,}.{cents}"}
        case dict():
            return {masked(key): expected(item) for key, item in value.items()}
        case list():
            return [expected(item) for item in value]
    return as_agent(value)


def _as_json(text: str) -> str:
    """JSON text with PANs in its strings masked by `*` and those that are numbers by digits."""
    strings = re.split(r'("(?:[^"\\]|\\.)*")', text)
    return "".join(masked(part) if part[:1] == '"' else numbers(part) for part in strings)


def compared(command: list[str], ways, **more: str) -> list[str]:
    """Run a program past the gateway and through it; the steps that it went through."""
    printed = []
    for way in ways:
        done = subprocess.run(
            command,
            env={**way, **more},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout[-1000:]
        assert done.stderr == ""
        printed.append([json.loads(line) for line in done.stdout.splitlines()])
    before, after = printed
    assert [step for step, _ in after] == [step for step, _ in before]
    for (step, was), (_, shown) in zip(before, after, strict=True):
        assert shown == expected(was), step
    changed = [step for (step, was), (_, shown) in zip(before, after, strict=True) if shown != was]
    assert len(changed) > len(before) / 2, "there was little to mask: this could hardly fail"
    assert_clean(json.dumps(after).replace(",", ""))
    return [step for step, _ in before]


def test_node(ways):
    steps = compared(
        ["node", str(DRIVERS / "agent.js")], ways, NODE_MODULES_OF=str(NODE / "package.json")
    )
    assert {"simple", "named 3", "binary", "cursor", "cancelled", "copy csv", "large"} <= set(steps)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    """The classes of the Java program."""
    place = tmp_path_factory.mktemp("classes")
    command = ["javac", "-cp", str(JAR), "-d", str(place), "-encoding", "UTF-8", "-Xlint:all"]
    done = subprocess.run(
        [*command, str(DRIVERS / "Agent.java")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return place


def test_pgjdbc(ways, compiled):
    classes = os.pathsep.join((str(compiled), str(JAR)))
    steps = compared(
        ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "Agent"], ways
    )
    assert {"prepareThreshold -1 3", "fetch size 6", "batch true", "cancelled", "large"} <= set(
        steps
    )
