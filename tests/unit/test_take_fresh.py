"""A pool gives a connection at once where it was made as new a moment ago, and nobody was there before."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from pangate.config import PoolSettings
from pangate.protocols.postgres.renewal import Resting
from pangate.proxy.pool import FRESH_SECONDS, Connection, Pool

CODEC = SimpleNamespace(resting=Resting)


class Wire:
    """Stands for a transport."""

    def __init__(self) -> None:
        self.paused = self.closed = False

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.paused = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self.closed = True


async def waiting(pool: Pool, fits: str = "fits") -> Connection:
    assert await pool.take(fits) is None  # the place of a new one
    made = Connection(fits, {}, bytes(8), b"", asyncio.get_running_loop().time())
    made.owners = 0
    made.transport = Wire()
    pool.offer(made, CODEC, b"")
    return made


@pytest.fixture
def pool() -> Pool:
    return Pool(PoolSettings(max_connections=2))


async def test_it_is_given_once_and_read_from(pool):
    made = await waiting(pool)
    assert pool.take_fresh("other") is None
    assert pool.take_fresh("fits") is made
    assert (made.owners, made.transport.paused) == (1, False)
    assert pool.take_fresh("fits") is None
    assert (pool.open, pool.waiting) == (1, 0)
    pool.close()


async def test_otherwise_it_is_given_paused(pool):
    made = await waiting(pool)
    assert await pool.take("fits") is made
    assert made.transport.paused
    pool.close()


async def test_what_has_waited_a_while_or_is_gone_or_has_said_a_part_is_not_given_at_once(pool):
    made = await waiting(pool)
    made.since -= FRESH_SECONDS
    assert pool.take_fresh("fits") is None
    made.since += FRESH_SECONDS
    made.transport.closed = True
    assert pool.take_fresh("fits") is None
    made.transport.closed = False
    made.transport.protocol.data_received(b"N")
    assert pool.take_fresh("fits") is None
    assert (pool.open, pool.waiting) == (1, 1)  # who takes it the other way sees to it
    pool.close()


async def test_whoever_waits_his_turn_comes_first(pool):
    made = await waiting(pool)
    turn = asyncio.get_running_loop().create_future()
    pool._asking.append(("other", turn))
    assert pool.take_fresh("fits") is None
    turn.cancel()
    pool._asking.clear()
    assert pool.take_fresh("fits") is made
    pool.close()
