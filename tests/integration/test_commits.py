"""When statements are forwarded: not before their record is where it has to be, many with one write and one
fsync, and those that need no disk past those that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
from collections.abc import AsyncIterator, Iterator

import asyncpg
import msgspec
import pytest

from conftest import EVERYTHING
from pangate import config
from pangate.audit import open_recorder
from pangate.audit.events import events
from pangate.audit.marks import mark_of
from pangate.audit.recording import open_recordings
from pangate.auth import open_authenticator
from pangate.config import SecretSettings
from pangate.errors import RecordFailed, Refused
from pangate.gate import Admission, Gate
from pangate.protocols import Authenticate, Login
from pangate.proxy import Gateway, sockets
from pangate.proxy.pool import FRESH_SECONDS, Connection
from pangate.proxy.session import Session
from pangate.proxy.sides import BackendSide
from pangate.trial import Trial, until

pytestmark = pytest.mark.integration


class Disk:
    """Stands between the gateway and fdatasync: `close` makes every call wait until `open`."""

    def __init__(self) -> None:
        self.calls = 0
        self._sync = os.fdatasync
        self._free = threading.Event()
        self._free.set()

    def fdatasync(self, fd: int) -> None:
        self.calls += 1
        assert self._free.wait(30)
        self._sync(fd)

    def close(self) -> None:
        self._free.clear()

    def open(self) -> None:
        self._free.set()


@pytest.fixture(scope="module")
def place(postgres) -> Iterator[Trial]:
    with Trial(postgres, effects=EVERYTHING, audit="fsync_seconds = 60.0") as made:
        made.stop_gateway()
        yield made


@pytest.fixture
def disk(monkeypatch) -> Iterator[Disk]:
    made = Disk()
    monkeypatch.setattr(os, "fdatasync", made.fdatasync)
    yield made
    made.open()


@pytest.fixture
async def gateway(place: Trial, disk: Disk) -> AsyncIterator[Gateway]:
    settings = config.load(place.config)
    for file in (place.audit, mark_of(place.audit)):
        file.unlink(missing_ok=True)
    recorder, authenticator = open_recorder(settings), open_authenticator(settings)
    recordings = open_recordings(settings)
    made = Gateway(Gate(settings, authenticator, recorder, recordings), sockets.Contexts(settings))
    place.postgres.psql(
        "drop table if exists counted; create table counted as select 0 as n;"
        "grant all on counted to public"
    )
    with sockets.listen("127.0.0.1", 0) as listener:
        place.port = listener.getsockname()[1]
        running = asyncio.create_task(made.run(listener))
        yield made
        disk.open()
        running.cancel()
        await made.drain(0.2, asyncio.Event())
        await asyncio.gather(running, return_exceptions=True)
    await authenticator.close()
    recordings.close()
    recorder.close()


@contextlib.asynccontextmanager
async def agent(place: Trial, token: str = "") -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=place.port, user="agent", database="payments",
        password=token or place.token(), ssl=ssl.create_default_context(cafile=place.ca),
    )  # fmt: skip
    try:
        yield connection
    finally:
        connection.terminate()


def counted(place: Trial) -> int:
    return int(place.postgres.psql("select n from counted", "postgres", "-At"))


async def recorded(gateway: Gateway, text: str, times: int = 1) -> None:
    """Wait until the event of a statement is in the file."""
    data = text.encode()
    async with asyncio.timeout(20):
        while gateway.config.audit.path.read_bytes().count(data) < times:
            await asyncio.sleep(0.01)


BULK = "update counted set n = n + 1"


async def test_what_is_urgent_waits_for_the_disk_and_nobody_else_does(gateway, place, disk):
    async with agent(place) as one, agent(place) as other:
        disk.close()
        waiting = asyncio.ensure_future(one.execute(BULK))
        await recorded(gateway, BULK)
        for _ in range(5):
            assert await other.fetchval("select 41 + 1") == 42
            await other.execute("insert into counted select 0 where false")
        assert counted(place) == 0
        assert not waiting.done()
        disk.open()
        assert await asyncio.wait_for(waiting, 20) == "UPDATE 1"
        assert counted(place) == 1
    gateway.gate.written()
    found = [event for event in events(place.audit) if event["code"] == "statement.allowed"]
    assert next(event for event in found if event["data"]["text"] == BULK)


async def test_those_that_wait_share_an_fsync(gateway, place, disk):
    async with contextlib.AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(agent(place)) for _ in range(12)]
        disk.close()
        before = disk.calls
        waiting = [asyncio.ensure_future(one.execute(BULK)) for one in agents]
        await recorded(gateway, BULK, 12)
        disk.open()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 20) == ["UPDATE 1"] * 12
        assert counted(place) == 12
        # the one that ran, and one for all that came meanwhile
        assert disk.calls - before <= 3


async def test_what_follows_in_a_session_stays_behind(gateway, place, disk):
    """One chunk: a change of every row, one that needs no disk, and the agent's last word."""
    async with agent(place) as one:
        disk.close()
        text = f"{BULK}; insert into counted select 0 where false"
        waiting = asyncio.ensure_future(one.execute(text))
        await recorded(gateway, "where false")
        await asyncio.sleep(0.05)
        assert counted(place) == 0
        disk.open()
        await asyncio.wait_for(waiting, 20)
        assert counted(place) == 1


async def test_a_last_word_behind_what_waits(gateway, place, disk):
    """Query and Terminate in one packet: the query is still forwarded."""
    async with agent(place) as one:
        disk.close()
        body = BULK.encode() + b"\0"
        query = b"Q" + (len(body) + 4).to_bytes(4, "big") + body
        one._transport.write(query + b"X\0\0\0\4")
        await recorded(gateway, BULK)
        assert counted(place) == 0
        disk.open()
        async with asyncio.timeout(20):
            while counted(place) == 0:
                await asyncio.sleep(0.02)
        await recorded(gateway, '"session.end"')
    assert counted(place) == 1


async def test_a_known_token_is_let_in_at_once_and_recorded_before_it_is_told_anything(
    gateway, place, monkeypatch
):
    token, tasks, failed = place.token(), [], []
    log_in = Session._log_in

    def counted(self: Session, ask: Authenticate, admission: Admission | None):
        tasks.append(admission)
        return log_in(self, ask, admission)

    monkeypatch.setattr(Session, "_log_in", counted)
    for _ in range(3):
        async with agent(place, token) as one:
            assert await one.fetchval("select 1") == 1
            last = [e for e in events(place.audit) if e["code"].startswith("session.")][-2:]
            assert [e["code"] for e in last] == ["session.start", "session.connected"]
        await asyncio.to_thread(until, lambda: gateway.pools["payments"].waiting == 1, "the rest")
    assert tasks == [None]
    assert last[1]["data"]["owner"] == 3

    def refused(self: Session, admission: Admission) -> None:
        raise Refused("it is not to be told this")

    def failing() -> None:
        failed.append(gateway.gate.recorder.pending)
        raise RecordFailed("the disk is full")

    monkeypatch.setattr(Session, "_at_hand", refused)
    monkeypatch.setattr(gateway.gate.recorder, "flush", failing)
    with pytest.raises(asyncpg.PostgresError) as caught:
        async with agent(place, token):
            pass
    assert caught.value.sqlstate == "58030"
    assert failed[0] == 1
    monkeypatch.undo()


async def test_statements_that_come_together_are_one_write(gateway, place, disk, monkeypatch):
    async with contextlib.AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(agent(place)) for _ in range(8)]
        appended = []
        append = gateway.gate.recorder._sink.append
        monkeypatch.setattr(
            gateway.gate.recorder._sink,
            "append",
            lambda leaves: (appended.append(list(leaves)), append(leaves))[1],
        )
        # all sockets are readable by the time that the event loop comes to look
        for number, one in enumerate(agents):
            body = b"select %d\0" % number
            one._transport.write(b"Q" + (len(body) + 4).to_bytes(4, "big") + body)
        await recorded(gateway, '"statement.finished"', 8)
        most = max(sum(b'"statement.allowed"' in leaf for leaf in leaves) for leaves in appended)
        assert most > 1


# --- a login --------------------------------------------------------------------------------------------


async def test_a_resource_is_asked_nothing_for_a_session_that_is_not_recorded(
    gateway, place, monkeypatch
):
    """A connection that has waited a while is asked whether it is there, in the name of the next session."""
    heard = []
    log_in = BackendSide.log_in

    async def asked(self: BackendSide, login: Login) -> None:
        if login.start():
            heard.append((self.reused, gateway.gate.recorder.pending))
        await log_in(self, login)

    async with agent(place):
        pass
    await asyncio.sleep(FRESH_SECONDS + 0.3)
    monkeypatch.setattr(BackendSide, "log_in", asked)
    async with agent(place) as one:
        assert await one.fetchval("select 1") == 1
    assert heard == [(True, 0)]


async def test_an_agent_is_told_nothing_of_a_login_that_is_not_recorded(
    gateway, place, monkeypatch
):
    """Its login fails for another reason, and that it was let in is not in the record then."""
    resource = gateway.config.resources_by_name["payments"]
    gone = msgspec.structs.replace(
        resource, password=SecretSettings(file=place.directory / "nowhere")
    )
    monkeypatch.setitem(gateway.config.resources_by_name, "payments", gone)
    with pytest.raises(asyncpg.PostgresError, match="cannot read its credential"):
        async with agent(place):
            pass
    monkeypatch.setattr(gateway.gate.recorder, "flush", failing)
    with pytest.raises(asyncpg.PostgresError) as caught:
        async with agent(place):
            pass
    assert caught.value.sqlstate == "58030"
    monkeypatch.undo()


def failing() -> None:
    raise RecordFailed("the disk is full")


async def test_what_an_older_configuration_had_keeps_no_connections(gateway):
    """A session that was let in right before a reload."""
    resource = gateway.config.resources_by_name["payments"]
    pool = msgspec.structs.replace(resource.pool, ready=2)
    older = msgspec.structs.replace(resource, database="before", pool=pool)
    made = gateway.pool(older)
    assert made.ahead is None
    assert "payments" not in gateway.pools
    assert await made.take("anything") is None
    connection = Connection("anything", {}, bytes(8), b"", asyncio.get_running_loop().time())
    assert not made.rest(connection, None)
    made.leave()
    assert (made.open, made.waiting) == (0, 0)
