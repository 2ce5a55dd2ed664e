"""The desk of two workers, whose requests are kept and decided in the first process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from approvals_office import Office, agent, ask, office, person, rules
from pangate.approvals import Counted, DecisionRefused
from pangate.approvals.afar import Counter, DeskAfar
from pangate.audit import pan_mask
from pangate.errors import LimitReached, RecordFailed, Refused, StateFailed
from pangate.model import Event

ADA = person("ada", "owners")


class Line:
    """The way to the first process, with what goes over it as bytes; `cut` when it is gone."""

    def __init__(self, office: Office) -> None:
        self.cut = False
        self._tasks: set[asyncio.Task[object]] = set()
        self.counter = Counter(office.desk, self._back, self._asked_back)
        self.events: list[Event] = []
        self.desk = DeskAfar(
            self, office.desk.key, rules(), self.events.append, self._durable, pan_mask(),
            lambda: office.now,
        )  # fmt: skip

    async def ask(self, name: str, value: object) -> Any:
        if self.cut:
            raise StateFailed("the first process is gone")
        return crossed(await self.counter.hear(name, crossed(value)))

    def tell(self, name: str, value: object) -> None:
        task = asyncio.get_running_loop().create_task(self.counter.hear(name, crossed(value)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _back(self, name: str, value: object) -> None:
        assert name == "approval.changed"
        self.desk.changed(crossed(value))

    async def _asked_back(self, name: str, value: object, seconds: float) -> Any:
        assert name == "approval.count"
        if self.cut:
            raise StateFailed("the worker is gone")
        return crossed(await self.desk.counted_here(crossed(value)))

    async def _durable(self) -> None:
        pass


def crossed(value: object) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


@pytest.fixture
async def first(tmp_path) -> AsyncIterator[Office]:
    async with office(tmp_path / "state") as made:
        yield made


@pytest.fixture
async def two(first: Office) -> tuple[Line, Line]:
    return Line(first), Line(first)


async def left(ticket) -> None:
    async with asyncio.timeout(5):
        await ticket.left


async def test_a_request_is_decided_in_the_first_process_and_runs_once_in_its_worker(first, two):
    one, other = two
    ticket = await one.desk.request(ask("drop table cards where pan = '4111111111111111'"))
    assert one.desk.waiting == 1
    assert other.desk.waiting == 0
    assert first.codes == ["approval.requested"]
    # what went over is masked
    assert "4111111111111111" not in first.events[0].data["text"]
    await first.desk.decide(ticket.request.id, ADA, "approve", "agreed")
    await left(ticket)
    assert ticket.request.state == "approved"
    assert await one.desk.consume(ticket)
    assert not await one.desk.consume(ticket)
    one.desk.executed(ticket, 3, "session")
    (ran,) = one.events
    assert ran.code == "approval.executed"
    assert ran.data["people"] == [ADA.name]
    assert ran.data["number"] == 3
    assert one.desk.waiting == first.desk.waiting == 0
    assert (await first.desk._store.get(ticket.request.id)).state == "executed"


@pytest.mark.parametrize("how", ["deny", "expire", "withdraw"])
async def test_every_other_end_reaches_the_worker(first, two, how):
    one, _ = two
    ticket = await one.desk.request(ask())
    if how == "deny":
        await first.desk.decide(ticket.request.id, ADA, "deny", "no")
    elif how == "expire":
        first.now += 4000
        first.desk._due(first.desk._tickets[ticket.request.id])
    else:
        assert await one.desk.withdraw(ticket, "the agent went away")
    await left(ticket)
    assert (
        ticket.request.state
        == {"deny": "denied", "expire": "expired", "withdraw": "withdrawn"}[how]
    )
    assert not await one.desk.consume(ticket)
    assert one.desk.waiting == first.desk.waiting == 0


async def test_who_tries_again_may_come_to_another_worker_and_it_runs_once(first, two):
    one, other = two
    again = ask("delete from a where b = 1", mode="refuse-and-retry", exact=b"1")
    assert await other.desk.known(again) is None
    ticket = await one.desk.request(again)
    known = await other.desk.known(again)
    assert known.request.id == ticket.request.id
    assert known.request.state == "pending"
    assert await other.desk.known(ask("delete from a where b = 1", exact=b"2")) is None
    await first.desk.decide(ticket.request.id, ADA, "approve")
    known = await other.desk.known(again)
    assert known.request.state == "approved"
    used = await asyncio.gather(other.desk.consume(known), one.desk.consume(ticket))
    assert sorted(used) == [False, True]
    assert await one.desk.known(again) is None


async def test_bounds_hold_over_all_workers(first, two):
    one, other = two
    for number in range(5):
        await (one, other)[number % 2].desk.request(ask(f"drop table t{number}"))
    with pytest.raises(LimitReached, match="max_held_per_principal"):
        await other.desk.request(ask("drop table another"))
    assert one.desk.waiting + other.desk.waiting == 5
    await other.desk.request(ask("drop table another", principal=agent("another")))


async def test_a_worker_that_ends_takes_its_requests_along_and_no_others(first, two):
    one, other = two
    gone = await one.desk.request(ask("drop table a"))
    retry = ask("drop table b", mode="refuse-and-retry")
    stays = await one.desk.request(retry)
    others = await other.desk.request(ask("drop table c"))
    await one.counter.gone("its process ended")
    states = {one.id: one.state for one in await first.desk.requests([], 10)}
    assert states == {
        gone.request.id: "withdrawn",
        stays.request.id: "pending",
        others.request.id: "pending",
    }
    known = await other.desk.known(retry)
    assert known.request.id == stays.request.id


async def test_nothing_is_held_that_the_first_process_does_not_keep(first, two):
    one, _ = two
    first.full = True
    with pytest.raises(RecordFailed):
        await one.desk.request(ask())
    assert one.desk.waiting == 0
    first.full = False
    one.cut = True
    with pytest.raises(StateFailed):
        await one.desk.request(ask())
    assert one.desk.waiting == 0
    one.cut = False
    await one.desk.shut("the gateway is shutting down")
    with pytest.raises(Refused, match="shutting down"):
        await one.desk.request(ask())


async def test_what_was_used_up_and_could_not_run_is_said_to_be_so(first, two):
    one, _ = two
    ticket = await one.desk.request(ask())
    await first.desk.decide(ticket.request.id, ADA, "approve")
    await left(ticket)
    assert await one.desk.consume(ticket)
    await one.desk.lapse(ticket, "the agent went away")
    kept = await first.desk._store.get(ticket.request.id)
    assert (kept.state, kept.outcome) == ("withdrawn", "the agent went away")
    assert first.codes[-1] == "approval.withdrawn"


async def test_what_nobody_runs_in_the_end_counts_for_no_worker(first, two):
    """An approval that lapsed, and one that was used up through another worker."""
    one, other = two
    for number in range(2):
        again = ask(f"drop table t{number}", mode="refuse-and-retry")
        ticket = await one.desk.request(again)
        await first.desk.decide(ticket.request.id, ADA, "approve")
        await left(ticket)
        assert one.desk.open == 1
        if number:
            assert await other.desk.consume(await other.desk.known(again))
            other.desk.executed(ticket, 1, "session")
        else:
            first.now += 4000
            first.desk._due(first.desk._tickets[ticket.request.id])
        await settled(one, other)
        assert ticket.request.state == ("executed" if number else "expired")
        assert (one.desk._tickets, one.desk._of_principal) == ({}, {})
        for line in two:
            assert (line.counter._tickets, line.counter._consumed) == ({}, set())


async def test_a_refusal_that_is_remembered_counts_for_no_worker(first, two):
    one, _ = two
    again = ask("drop table t", mode="refuse-and-retry")
    ticket = await one.desk.request(again)
    await first.desk.decide(ticket.request.id, ADA, "deny", "not today")
    await left(ticket)
    for line in two:
        known = await line.desk.known(again)
        assert known.request.state == "denied"
        assert not await line.desk.consume(known)
        assert (line.desk._tickets, line.counter._tickets) == ({}, {})


async def settled(*lines: Line) -> None:
    """All that was said has come, and what comes of it."""
    for _ in range(100):
        await asyncio.sleep(0.001)
        if not any(line._tasks or line.counter._tickets for line in lines):
            return


async def test_an_answer_that_comes_too_late(first, two, monkeypatch):
    """It was used up and will not run: so it is said, and it is used up all the same."""
    one, other = two
    again = ask("drop table t", mode="refuse-and-retry")
    ticket = await one.desk.request(again)
    await first.desk.decide(ticket.request.id, ADA, "approve")
    await left(ticket)
    late, real = asyncio.Event(), one.counter.hear

    async def slow(name, value):
        found = await real(name, value)
        if name == "approval.consume":
            await late.wait()
        return found

    monkeypatch.setattr(one.counter, "hear", slow)
    asking = asyncio.create_task(one.desk.consume(ticket))
    while ticket.request.state == "approved":
        await asyncio.sleep(0.001)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await settled(one)
    kept = await first.desk._store.get(ticket.request.id)
    assert (kept.state, kept.outcome) == ("withdrawn", "the gateway did not answer in time")
    assert first.codes[-1] == "approval.withdrawn"
    assert await other.desk.known(again) is None


async def test_an_approval_that_was_used_up_for_another_does_not_lapse_for_this_one(first, two):
    one, other = two
    again = ask("drop table t", mode="refuse-and-retry")
    ticket = await one.desk.request(again)
    await first.desk.decide(ticket.request.id, ADA, "approve")
    await left(ticket)
    assert await other.desk.consume(await other.desk.known(again))
    one.tell("approval.lapse", {"request": ticket.request.id, "why": "late"})
    await settled(one)
    kept = await first.desk._store.get(ticket.request.id)
    assert kept.state == "executed"
    assert "approval.withdrawn" not in first.codes


async def test_a_worker_that_ends_while_it_asks(first, two, monkeypatch):
    one, _ = two
    real, reached = first.desk._store.add, asyncio.Event()

    async def slow(*arguments):
        await real(*arguments)
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(first.desk._store, "add", slow)
    asking = asyncio.create_task(one.desk.request(ask()))
    await reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.gather(*first.desk._tasks)
    assert (first.desk._tickets, first.desk._of_principal) == ({}, {})
    (kept,) = await first.desk.requests([], 10)
    assert kept.state == "withdrawn"


async def test_rows_are_counted_by_the_worker_that_has_the_session(first, two):
    one, other = two
    ticket = await one.desk.request(ask("delete from cards"))
    name = ticket.request.id
    await other.desk.request(ask("delete from notes"))
    assert first.desk.countable(name)
    # its session is not there yet, or not any more
    assert "no session waits" in await uncounted(first, name)

    async def counted() -> Counted:
        return Counted(7, 10)

    async def wrong() -> Counted:
        raise DecisionRefused("not countable", "its session is over")

    ticket.count = wrong
    assert await uncounted(first, name) == "its session is over"
    ticket.count = counted
    assert await first.desk.count(name, ADA) == Counted(7, 10)
    assert first.codes[-2:] == ["approval.counting", "approval.counted"]
    first.now += 60
    one.cut = True
    assert await uncounted(first, name) == "its process does not answer"
    one.cut = False
    again = await one.desk.request(ask("delete from cards", mode="refuse-and-retry"))
    assert not first.desk.countable(again.request.id)


async def uncounted(first: Office, name: str) -> str:
    with pytest.raises(DecisionRefused) as caught:
        await first.desk.count(name, ADA)
    assert caught.value.kind == "not countable"
    return caught.value.reason


async def test_a_worker_that_ends_with_an_approval_that_it_used_up(first, two):
    one, _ = two
    ticket = await one.desk.request(ask("drop table a"))
    await first.desk.decide(ticket.request.id, ADA, "approve")
    await left(ticket)
    assert await one.desk.consume(ticket)
    await one.counter.gone("its process ended")
    (said,) = [event for event in first.events if event.code == "approval.unknown"]
    assert said.data["request"] == ticket.request.id
    assert (await first.desk._store.get(ticket.request.id)).state == "executed"
