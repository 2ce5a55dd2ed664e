"""Statements that wait for a person, between real clients and a real server: nothing happens before the
decision, and then it happens exactly once, or the client has its database's own error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import msgspec
import psycopg
import pytest

from approvals_office import person
from conftest import EVERYTHING
from pangate import config
from pangate.approvals import DecisionRefused, open_desk
from pangate.audit import open_recorder, pan_mask
from pangate.audit.marks import mark_of
from pangate.audit.recording import open_recordings
from pangate.auth import open_authenticator
from pangate.gate import Gate
from pangate.model import Principal
from pangate.proxy import Gateway, sockets
from pangate.store import Request
from pangate.trial import Trial

pytestmark = pytest.mark.integration

DRIVERS = Path(__file__).parents[1] / "drivers"
JAR = Path("/usr/share/java/postgresql.jar")

RULES = """
[[approvers]]
name = "owners"
match = { groups = "owners" }
owns = "owner"
[[rules]]
name = "ddl waits"
verdict = "hold"
reason = "schema changes wait"
effects = ["schema"]
hold = { approvers = ["owners"], transaction_seconds = 30 }
[[rules]]
name = "deletes wait"
verdict = "hold"
effects = ["write"]
tables = ["doomed"]
hold = { approvers = ["owners"], quorum = 2, estimate = true }
[[rules]]
name = "bulk is tried again"
verdict = "hold"
effects = ["bulk_write"]
tables = ["retried"]
hold = { approvers = ["owners"], mode = "refuse-and-retry", expires_seconds = 60 }
[approvals]
notice_seconds = 1
"""


@dataclass
class Room:
    """A gateway in this process, its database, and people who decide."""

    trial: Trial
    gateway: Gateway
    port: int

    @property
    def desk(self):
        return self.gateway.gate.desk

    async def waiting(self, count: int = 1) -> Request:
        """The request that waits, once there are `count`."""
        async with asyncio.timeout(20):
            while len(found := await self.desk.requests()) < count:
                await asyncio.sleep(0.01)
        return found[0]

    async def decide(
        self, choice: str = "approve", who: str = "ada", reason: str = "fine"
    ) -> Request:
        request = await self.waiting()
        return await self.desk.decide(request.id, self.person(who), choice, reason)

    def person(self, who: str) -> Principal:
        return person(who, "owners", issuer=self.trial.issuer.url)

    def owner(self, text: str) -> str:
        """What the superuser's psql says."""
        return self.trial.postgres.psql(text, "postgres", "-At").strip()

    def exists(self, table: str) -> bool:
        return self.owner(f"select to_regclass('{table}') is not null") == "t"

    def events(self) -> list[dict]:
        self.gateway.gate.written()
        return [json.loads(line) for line in self.trial.audit.read_text().splitlines()]

    def codes(self, start: str = "approval.") -> list[str]:
        return [event["code"] for event in self.events() if event["code"].startswith(start)]

    @contextlib.asynccontextmanager
    async def asyncpg(self, **claims: object) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="agent", database="payments",
            password=self.trial.token(**claims), ssl=ssl.create_default_context(cafile=self.trial.ca),
        )  # fmt: skip
        try:
            yield connection
        finally:
            connection.terminate()

    @contextlib.asynccontextmanager
    async def psycopg(self, **more: object) -> AsyncIterator[psycopg.AsyncConnection]:
        connection = await psycopg.AsyncConnection.connect(
            host="127.0.0.1", port=self.port, user="agent", dbname="payments",
            password=self.trial.token(), sslmode="verify-full", sslrootcert=str(self.trial.ca),
            **{"autocommit": True, **more},
        )  # fmt: skip
        try:
            yield connection
        finally:
            await connection.close()

    async def psql(self, *commands: str) -> asyncio.subprocess.Process:
        words = [word for command in commands for word in ("-c", command)]
        return await asyncio.create_subprocess_exec(
            str(self.trial.postgres.bin / "psql"), "-X", *words,
            env={**self.trial.environment(self.trial.token()), "PGPORT": str(self.port)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture(scope="module", params=["session", "transaction"])
def place(request, postgres):
    pool = f'pool = {{ mode = "{request.param}", idle_seconds = 300 }}'
    with Trial(postgres, effects=EVERYTHING, tables=RULES, resource=pool) as made:
        made.stop_gateway()
        postgres.psql("grant create on schema public to payments_service")
        yield made


@pytest.fixture
async def room(place: Trial) -> AsyncIterator[Room]:
    settings = config.load(place.config)
    for file in (place.audit, mark_of(place.audit)):
        file.unlink(missing_ok=True)
    recorder, authenticator = open_recorder(settings), open_authenticator(settings)
    recordings = open_recordings(settings)
    gate = Gate(settings, authenticator, recorder, recordings)
    gate.desk = await open_desk(settings, gate.record, gate.durable, pan_mask())
    gateway = Gateway(gate, sockets.Contexts(settings))
    with sockets.listen("127.0.0.1", 0) as listener:
        running = asyncio.create_task(gateway.run(listener))
        made = Room(place, gateway, listener.getsockname()[1])
        for table in ("payments_old", "doomed", "retried", "noted"):
            made.owner(
                f"set role payments_service; drop table if exists {table}; "
                f"create table {table} as select g as id from generate_series(1, 50) g"
            )
        made.owner("analyze")
        yield made
        running.cancel()
        await gateway.drain(0.2, asyncio.Event())
        await asyncio.gather(running, return_exceptions=True)
    await gate.desk.close()
    await authenticator.close()
    recordings.close()
    recorder.close()


async def test_psql_waits_and_goes_on(room: Room):
    process = await room.psql("drop table payments_old", "select 'went on'")
    request = await room.waiting()
    assert request.statement == "drop table payments_old"
    assert request.words[0] == "DROP TABLE on payments_old."
    assert request.claims["team"] == "payments"
    assert room.exists("payments_old")
    await asyncio.sleep(1.3)
    await room.decide()
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, err
    assert b"DROP TABLE" in out
    assert b"went on" in out
    assert err.count(f"NOTICE:  request {request.id} waits for approval".encode()) >= 2
    assert not room.exists("payments_old")
    assert room.codes() == ["approval.requested", "approval.decided", "approval.executed"]
    statements = [event for event in room.events() if event["code"].startswith("statement.")]
    assert statements[0]["code"] == "statement.allowed"
    assert statements[0]["data"]["request"] == request.id
    codes = [event["code"] for event in room.events()]
    assert codes.index("approval.decided") < codes.index("statement.allowed")


async def test_what_waits_has_a_connection_only_where_it_keeps_one(room: Room):
    settings = room.gateway.config.resources_by_name["payments"].pool
    async with room.psycopg() as connection:
        await connection.execute("select 1")
        waits = asyncio.create_task(connection.execute("drop table payments_old"))
        await room.waiting()
        pool = room.gateway.pools["payments"]
        assert pool.open - pool.waiting == (1 if settings.mode == "session" else 0)
        await room.decide()
        await asyncio.wait_for(waits, 20)
        assert not room.exists("payments_old")
        assert pool.open - pool.waiting == 1, "DDL pins"


async def test_psql_is_denied_and_goes_on(room: Room):
    process = await room.psql("drop table payments_old", "select 'went on'")
    request = await room.decide("deny", reason="not today")
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert f"schema changes wait: request {request.id} was not approved".encode() in err
    assert b"not today" in err
    assert b"went on" in out
    assert room.exists("payments_old")


@pytest.mark.parametrize("choice", ["approve", "deny"])
async def test_asyncpg_sends_what_it_prepared(room: Room, choice):
    async with room.asyncpg() as connection:
        delete = asyncio.create_task(
            connection.fetch("delete from doomed where id < $1 returning id", 11)
        )
        request = await room.waiting()
        assert (request.kind, list(request.parameters)) == ("bind", ["11"])
        assert request.estimate is not None
        assert 0 < request.estimate <= 50
        assert room.owner("select count(*) from doomed") == "50"
        await room.decide()
        await asyncio.sleep(0.05)
        assert not delete.done()  # two have to
        await room.decide(choice, "bob")
        if choice == "approve":
            assert len(await asyncio.wait_for(delete, 20)) == 10
        else:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="was not approved"):
                await asyncio.wait_for(delete, 20)
        assert await connection.fetchval("select count(*) from doomed") == (
            40 if choice == "approve" else 50
        )


async def test_nobody_approves_their_own(room: Room):
    async with room.asyncpg(owner="ada") as connection:
        drop = asyncio.create_task(connection.execute("drop table payments_old"))
        with pytest.raises(DecisionRefused) as caught:
            await room.decide()
        assert caught.value.kind == "own"
        assert not drop.done()
        await room.decide("approve", "bob")
        await asyncio.wait_for(drop, 20)


@pytest.mark.parametrize("choice", ["approve", "deny"])
async def test_in_a_transaction(room: Room, choice):
    async with room.psycopg(autocommit=False) as connection:
        await connection.execute("insert into noted values (77)")
        drop = asyncio.create_task(connection.execute("drop table payments_old"))
        request = await room.waiting()
        assert request.in_transaction
        assert request.expires - request.created == pytest.approx(30)
        await room.decide(choice)
        if choice == "approve":
            await asyncio.wait_for(drop, 20)
            await connection.commit()
            assert not room.exists("payments_old")
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await asyncio.wait_for(drop, 20)
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                await connection.execute("select 1")
            await connection.rollback()
            assert room.exists("payments_old")
    kept = room.owner("delete from noted where id = 77 returning id")
    assert bool(kept) is (choice == "approve")


@pytest.mark.parametrize("choice", ["approve", "deny"])
async def test_a_pipeline_queues_behind_it(room: Room, choice):
    async with room.psycopg() as connection, connection.pipeline() as pipeline:
        before = await connection.execute("select 'before'")
        drop = await connection.execute("drop table payments_old")
        behind = await connection.execute("select 'behind'")
        sync = asyncio.create_task(pipeline.sync())
        await room.decide(choice)
        if choice == "approve":
            await asyncio.wait_for(sync, 20)
            assert (await before.fetchone(), await behind.fetchone()) == (("before",), ("behind",))
            assert drop.statusmessage == "DROP TABLE"
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await asyncio.wait_for(sync, 20)
    assert room.exists("payments_old") is (choice == "deny")


async def test_a_flood_behind_it_is_bounded(room: Room):
    """What an agent sends behind a held statement stays with the agent, but for a little."""
    async with room.asyncpg() as connection:
        drop = asyncio.create_task(connection.execute("drop table payments_old"))
        await room.waiting()
        (session,) = room.gateway._sessions
        transport = connection._transport
        transport.write(b"H\0\0\0\4" * 2_000_000)
        await asyncio.sleep(0.5)
        assert len(session.codec._inbox) < 512 << 10
        assert not session.closed
        await room.decide()
        await asyncio.wait_for(drop, 60)
        assert not room.exists("payments_old")


async def test_a_cancel_withdraws(room: Room):
    async with room.asyncpg() as connection:
        with pytest.raises(TimeoutError):
            await connection.execute("drop table payments_old", timeout=1)
        async with asyncio.timeout(20):
            while room.desk.open:
                await asyncio.sleep(0.02)
        assert room.codes()[-1] == "approval.withdrawn"
        assert await connection.fetchval("select 1") == 1
    async with room.psycopg() as connection:
        drop = asyncio.create_task(connection.execute("drop table payments_old"))
        await room.waiting()
        await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled, match="cancelled by the agent"):
            await asyncio.wait_for(drop, 20)
        assert (await (await connection.execute("select 1")).fetchone()) == (1,)
    assert room.exists("payments_old")


@pytest.mark.parametrize("flood", [0, 1_000_000])
async def test_a_client_that_goes_withdraws(room: Room, flood):
    """Also one of whom nothing is read any more."""
    async with room.asyncpg() as connection:
        drop = asyncio.create_task(connection.execute("drop table payments_old"))
        await room.waiting()
        connection._transport.write(b"H\0\0\0\4" * flood)
        await asyncio.sleep(0.1)
        connection._transport.abort()
        with pytest.raises(asyncpg.PostgresError):
            await asyncio.wait_for(drop, 20)
        async with asyncio.timeout(20):
            while room.desk.open:
                await asyncio.sleep(0.02)
    assert room.codes()[-1] == "approval.withdrawn"
    assert room.exists("payments_old")


async def test_terminate_behind_it_withdraws(room: Room):
    async with room.asyncpg() as connection:
        drop = asyncio.create_task(connection.execute("drop table payments_old"))
        await room.waiting()
        connection._transport.write(b"X\0\0\0\4")
        with pytest.raises(asyncpg.PostgresError):
            await asyncio.wait_for(drop, 20)
    assert room.codes()[-1] == "approval.withdrawn"
    assert room.exists("payments_old")


async def test_nobody_decides(room: Room):
    async with room.asyncpg() as connection:
        drop = asyncio.create_task(connection.execute("drop table payments_old"))
        request = await room.waiting()
        (session,) = room.gateway._sessions
        session.gate.note(in_transaction=False, seconds=0.1)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="nobody decided in time"):
            await asyncio.wait_for(drop, 20)
        assert await connection.fetchval("select 1") == 1
    assert room.codes()[-1] == "approval.expired"
    assert any(event["data"].get("request") == request.id for event in room.events()[-6:])
    assert room.exists("payments_old")


async def test_refuse_and_retry(room: Room):
    async with room.asyncpg() as connection:
        for said in ("waits for approval", "still waits for approval"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match=said):
                await connection.execute("delete from retried")
        await room.decide()
    async with room.asyncpg() as connection:
        # what differs is another request; the same passes once, in whatever session
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"\bwaits for approval"):
            await connection.execute("delete from retried ")
        assert await connection.execute("delete from retried") == "DELETE 50"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"\bwaits for approval"):
            await connection.execute("delete from retried")
    assert room.codes().count("approval.executed") == 1


async def test_what_changed_meanwhile_is_not_run(room: Room):
    """The role is taken away, or others would be asked by now."""
    for change in (
        ('name = "payments-reader"\nmatch = { team = "payments" }',
         'name = "payments-reader"\nmatch = { team = "nobody" }'),
        ('effects = ["schema"]\nhold = { approvers = ["owners"]',
         'effects = ["schema"]\nhold = { approvers = ["owners"], quorum = 2'),
    ):  # fmt: skip
        async with room.asyncpg() as connection:
            drop = asyncio.create_task(connection.execute("drop table payments_old"))
            await room.waiting()
            text = room.trial.config.read_text()
            assert change[0] in text
            before = room.gateway.config
            try:
                room.trial.config.write_text(text.replace(*change))
                settings = config.load(room.trial.config)
            finally:
                room.trial.config.write_text(text)
            room.gateway.reconfigure(
                settings, room.gateway.gate.authenticator, room.gateway.contexts
            )
            await room.decide()
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await asyncio.wait_for(drop, 20)
            room.gateway.reconfigure(before, room.gateway.gate.authenticator, room.gateway.contexts)
        assert room.codes()[-1] == "approval.withdrawn"
        assert room.exists("payments_old")


async def test_an_estimate_that_grew_needs_another_approval(room: Room):
    async with room.asyncpg() as connection:
        delete = asyncio.create_task(connection.execute("delete from doomed where id > 0"))
        await room.waiting()
        room.owner("insert into doomed select generate_series(1000, 9000); analyze doomed")
        await room.decide()
        await room.decide("approve", "bob")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="rows are expected now"):
            await asyncio.wait_for(delete, 20)
    assert room.owner("select count(*) from doomed where id < 100") == "50"


async def test_draining_ends_what_waits(room: Room):
    async with room.asyncpg() as connection:
        drop = asyncio.create_task(connection.execute("drop table payments_old"))
        await room.waiting()
        draining = asyncio.create_task(room.gateway.drain(20, asyncio.Event()))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="shutting down"):
            await asyncio.wait_for(drop, 20)
        assert await connection.fetchval("select 1") == 1
    await asyncio.wait_for(draining, 20)
    assert room.exists("payments_old")


async def test_approval_and_disconnect_race(room: Room):
    """Whatever comes first: it ran once or not at all, and the record says which."""
    for number in range(30):
        room.owner(f"set role payments_service; create table race_{number} ()")
        async with room.asyncpg() as connection:
            drop = asyncio.create_task(connection.execute(f"drop table race_{number}"))
            request = await room.waiting()

            async def leave(connection=connection, number=number):
                await asyncio.sleep(0.0004 * (number % 10))
                connection._transport.abort()

            decided = room.desk.decide(request.id, room.person("ada"), "approve")
            await asyncio.gather(decided, leave(), return_exceptions=True)
            with contextlib.suppress(asyncpg.PostgresError, OSError):
                await asyncio.wait_for(drop, 20)
        async with asyncio.timeout(20):
            while room.desk.open or room.gateway._sessions:
                await asyncio.sleep(0.01)
    codes = {}
    for event in room.events():
        if event["code"] in ("approval.executed", "approval.withdrawn"):
            table = event["data"]["request"]
            codes.setdefault(table, []).append(event["code"])
    assert len(codes) == 30
    assert all(len(found) == 1 for found in codes.values())
    ran = sum(found == ["approval.executed"] for found in codes.values())
    left = sum(room.exists(f"race_{number}") for number in range(30))
    # what was sent may still not have been done, when the agent's going cancelled it
    assert 30 - left <= ran
    for number in range(30):
        room.owner(f"drop table if exists race_{number}")


# --- counting -------------------------------------------------------------------------------------------


async def uncountable(work) -> str:
    with pytest.raises(DecisionRefused) as caught:
        await work
    assert caught.value.kind == "not countable"
    return caught.value.reason


async def test_its_rows_are_counted(room: Room):
    async with room.asyncpg() as connection:
        # what $1 is, the driver leaves to the server, and counting has no use for it
        update = asyncio.create_task(
            connection.execute("update doomed set id = id + $1 where id < $2 and id > 4", 1, 11)
        )
        request = await room.waiting()
        found = await room.desk.count(request.id, room.person("ada"), "10.0.0.9:1")
        assert (found.rows, found.bound, found.more) == (6, 10_000, False)
        room.owner("delete from doomed where id = 5")
        # not asked again at once
        assert (await room.desk.count(request.id, room.person("bob"))).rows == 6
        await room.desk.decide(request.id, room.person("ada"), "deny")
        with pytest.raises(asyncpg.PostgresError):
            await asyncio.wait_for(update, 20)
        with pytest.raises(DecisionRefused, match="denied already"):
            await room.desk.count(request.id, room.person("ada"))
        assert await connection.fetchval("select count(*) from doomed") == 49
    asked, counted = [e for e in room.events() if e["code"].startswith("approval.count")]
    assert (asked["code"], asked["origin"]) == ("approval.counting", "10.0.0.9:1")
    assert (counted["data"]["rows"], counted["data"]["bound"]) == (6, 10_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("delete from doomed", 50),
        ("delete from doomed where id % 2 = 0 returning *", 25),
        ("delete from doomed using noted where doomed.id = noted.id", "it has USING"),
        ("delete from doomed where nextval('spent') > 0", "would do more than read: write"),
        ("delete from doomed where pg_sleep(id) is null", "it took longer than 0.5 s"),
        ("delete from doomed where id / (id - 5) = 0", "SQLSTATE 22012"),
        ("insert into doomed values (1)", "it is no SELECT, UPDATE, DELETE or TRUNCATE"),
    ],
)
async def test_what_can_be_counted(room: Room, text, said):
    rules = room.gateway.config.approvals
    limited = msgspec.structs.replace(rules, count_seconds=0.5)
    room.gateway.gate.config = msgspec.structs.replace(room.gateway.config, approvals=limited)
    room.owner("set role payments_service; create sequence if not exists spent")
    before = room.owner("select last_value, is_called from spent")
    async with room.psycopg() as connection:
        work = asyncio.create_task(connection.execute(text))
        request = await room.waiting()
        counting = room.desk.count(request.id, room.person("ada"))
        if isinstance(said, int):
            assert (await counting).rows == said
        else:
            assert said in await uncountable(counting)
        await room.desk.decide(request.id, room.person("ada"), "deny")
        with pytest.raises(psycopg.Error):
            await asyncio.wait_for(work, 20)
    assert room.owner("select last_value, is_called from spent") == before
    assert room.owner("select count(*) from doomed") == "50"


async def test_there_is_a_bound_and_nothing_to_count_without_a_session(room: Room):
    rules = room.gateway.config.approvals
    limited = msgspec.structs.replace(rules, count_rows=10)
    room.gateway.gate.config = msgspec.structs.replace(room.gateway.config, approvals=limited)
    async with room.psycopg() as connection:
        work = asyncio.create_task(connection.execute("delete from doomed"))
        request = await room.waiting()
        found = await room.desk.count(request.id, room.person("ada"))
        assert (found.rows, found.more) == (10, True)
        await room.desk.decide(request.id, room.person("ada"), "deny")
        with pytest.raises(psycopg.Error):
            await asyncio.wait_for(work, 20)
        with pytest.raises(psycopg.Error, match="waits for approval"):
            await connection.execute("delete from retried")
        request = await room.waiting()
        assert "no session waits" in await uncountable(
            room.desk.count(request.id, room.person("ada"))
        )


# --- pgjdbc ---------------------------------------------------------------------------------------------


async def test_pgjdbc_waits_and_goes_on(room: Room):
    process = await asyncio.create_subprocess_exec(
        "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", str(JAR), str(DRIVERS / "Held.java"),
        env={**os.environ, **room.trial.environment(room.trial.token()), "PGPORT": str(room.port)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(90):
        while not await room.desk.requests():
            assert process.returncode is None
            await asyncio.sleep(0.05)
    request = await room.waiting()
    assert (request.kind, list(request.parameters)) == ("bind", ["7"])
    assert (await room.desk.count(request.id, room.person("ada"))).rows == 7
    await room.desk.decide(request.id, room.person("ada"), "approve")
    await room.desk.decide(request.id, room.person("bob"), "approve")
    for choice in ("approve", "deny"):
        request = await room.waiting()
        assert request.in_transaction
        await room.desk.decide(request.id, room.person("ada"), choice)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err
    assert out.decode().split("\n") == [
        "deleted 7", "noted 50", "dropped", "noted 51", "refused 42501", "noted 51", "",
    ]  # fmt: skip
    assert room.owner("select count(*) from doomed") == "43"
    assert not room.exists("payments_old")
    assert room.exists("retried")
