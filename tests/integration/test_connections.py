"""After many connections nothing is left: no descriptor, no task, no object, no memory."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from conftest import EVERYTHING
from guests import WAYS, Guest, context, guests
from pangate import config
from pangate.audit import open_recorder
from pangate.audit.recording import open_recordings
from pangate.auth import open_authenticator
from pangate.embedded import EmbeddedPostgres
from pangate.gate import Gate
from pangate.protocols.postgres.messages import message, query
from pangate.proxy import Gateway, sockets
from pangate.trial import Trial, until
from pgwire import ready
from servers import LOGIN, backends, descriptors

pytestmark = pytest.mark.integration

OURS = {
    "Session",
    "AgentSide",
    "BackendSide",
    "Pump",
    "Out",
    "PostgresCodec",
    "GateSession",
    "Walker",
    "BackendLogin",
}


def counted() -> Counter[str]:
    gc.collect()
    found = Counter(type(each).__name__ for each in gc.get_objects())
    return Counter({name: found[name] for name in OURS})


async def test_no_object_and_no_task_outlives_its_connection(postgres: EmbeddedPostgres, trial):
    """The gateway in this process, so that its tasks can be counted."""
    limits, pool = "auth_failures_per_minute = 100000", "pool = { idle_seconds = 0.5 }"
    with Trial(postgres, effects=EVERYTHING, limits=limits, resource=pool) as made:
        made.stop_gateway()
        settings = config.load(made.config)
        recorder, authenticator = open_recorder(settings), open_authenticator(settings)
        recordings = open_recordings(settings)
        gate = Gate(settings, authenticator, recorder, recordings)
        gateway = Gateway(gate, sockets.Contexts(settings))
        with sockets.listen("127.0.0.1", 0) as listener:
            running = asyncio.create_task(gateway.run(listener))
            guest = Guest(*listener.getsockname()[:2], context(made), made.token())
            await guests(guest, 2 * len(WAYS))
            tasks, objects, files = None, None, 0
            for round_ in range(2):
                if round_:
                    await guests(guest, 10 * len(WAYS))
                async with asyncio.timeout(20):
                    while (
                        gateway._sessions
                        or gateway._closing
                        or gateway._tasks
                        or any(pool.open for pool in gateway.pools.values())
                    ):
                        await asyncio.sleep(0.05)
                await asyncio.sleep(0.3)
                now = (
                    len(asyncio.all_tasks()),
                    counted(),
                    len(list(Path("/proc/self/fd").iterdir())),
                )
                if round_:
                    assert now[0] <= tasks
                    assert now[1] == objects
                    assert now[2] <= files + 1
                tasks, objects, files = now
            assert not gateway._keys
            assert not gateway.gate.open
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await authenticator.close()
        recorder.close()


OWN = 8
"""Descriptors that the gateway opens for itself now and then: the issuer's keys, its state, its log. What
a way to end leaves would be there sixty times."""


async def test_a_thousand_connections_leave_nothing(postgres, trial):
    """The gateway as it is served; all ways to end, and those that fail at each stage of the login."""
    limits = "auth_failures_per_minute = 100000"
    # what waits for an owner ends soon
    pool = "pool = { idle_seconds = 1 }"
    with Trial(postgres, effects=EVERYTHING, limits=limits, resource=pool) as made:
        guest = Guest(made.host, made.port, context(made), made.token())

        def memory() -> int:
            return int(Path(f"/proc/{made.pid}/statm").read_text().split()[1]) * 4096

        async def quiet() -> None:
            await asyncio.to_thread(until, lambda: backends(made) == 0, "the end of sessions", 30)
            await asyncio.to_thread(until, lambda: descriptors(made) <= used + OWN, "the end", 30)

        used = descriptors(made)
        await guests(guest, 20 * len(WAYS))
        await quiet()
        used = descriptors(made)
        before = memory()
        await guests(guest, 60 * len(WAYS))
        await quiet()
        assert memory() - before < 16 << 20
        assert descriptors(made) <= used + OWN
        log = made.log.read_text()
        assert "Traceback" not in log
        assert "never retrieved" not in log
        assert made.psql(made.token(), "select 1").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of a process that is private")
def test_idle_sessions_are_small(postgres, trial):
    """benchmarks/idle_sessions.py measures it; here it is bounded: everything, TLS on both sides included."""
    with Trial(
        postgres,
        effects=EVERYTHING,
        limits="max_sessions = 300",
        resource="pool = { max_connections = 300 }",
    ) as made:
        secure = context(made)

        async def open_all(count: int) -> int:
            loop = asyncio.get_running_loop()
            login = LOGIN + message(b"p", made.token().encode() + b"\0")
            writers = []
            for _ in range(count):
                reader, writer = await asyncio.open_connection(
                    made.host, made.port, ssl=secure, server_hostname="localhost"
                )
                writer.write(login)
                await reader.readuntil(ready())
                writer.write(query("select 1"))
                await reader.readuntil(ready())
                writers.append(writer)
            await loop.run_in_executor(None, time.sleep, 0.3)
            size = int(Path(f"/proc/{made.pid}/statm").read_text().split()[1]) * 4096
            for writer in writers:
                writer.transport.abort()
            return size

        few, many = asyncio.run(open_all(20)), asyncio.run(open_all(120))
        assert (many - few) / 100 < 128 << 10
