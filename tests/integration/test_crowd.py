"""Many idle sessions, active ones and readers that hardly read at the same time: all are served, each has
its own answers, and what is kept for who does not read is bounded. benchmarks/crowd.py has the figures."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from crowd import Asking, Slow, reading
from idle_sessions import each, memory

from guests import context
from pangate.embedded import EmbeddedPostgres
from pangate.trial import Trial

pytestmark = [pytest.mark.integration, pytest.mark.slow]

IDLE, ACTIVE, SLOW, QUESTIONS = 300, 50, 2, 20
ALL = IDLE + ACTIVE + SLOW

FOR_ONE_READER = 8 << 20
"""More than the gateway may keep for a reader of gigabytes, in bytes: what waits for it, what waits to be
recorded, the sockets' buffers."""


async def test_idle_active_and_slow_sessions_at_the_same_time():
    server = EmbeddedPostgres({"max_connections": str(ALL + 40), "shared_buffers": "16MB"})
    with (
        server,
        Trial(
            server,
            limits=f"max_sessions = {ALL}\nlogin_seconds = 60\nconnect_seconds = 60",
            resource=f"pool = {{ max_connections = {ALL} }}",
        ) as trial,
    ):
        token, secure = trial.token(), context(trial)
        agents = [Asking() for _ in range(IDLE + ACTIVE)]
        number = {agent: 1000 * at for at, agent in enumerate(agents)}

        async def begin(agent: Asking) -> None:
            await agent.begin(trial, secure, token)
            await agent.ask(number[agent])

        async def work(agent: Asking) -> None:
            for more in range(QUESTIONS):
                await agent.ask(number[agent] + more)

        await each(agents, begin)
        idle, active = agents[:IDLE], agents[IDLE:]
        await asyncio.gather(*map(work, active))  # what is loaded once is loaded
        before = memory(trial.pid) if os.geteuid() == 0 else 0
        slow = [Slow() for _ in range(SLOW)]
        await each(slow, lambda reader: reader.begin(trial, secure, token, 10_000_000))
        await reading(slow, asyncio.gather(*map(work, active)))
        await reading(slow, asyncio.sleep(2))
        if os.geteuid() == 0:
            assert memory(trial.pid) - before < SLOW * FOR_ONE_READER
        assert all(reader.rows for reader in slow)
        await each(idle, lambda agent: agent.ask(number[agent] + 1))
        for one in [*agents, *slow]:
            one.leave()
        log = Path(trial.log).read_text()
        assert "Traceback" not in log
        assert "internal error" not in log
