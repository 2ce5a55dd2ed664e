"""What two processes of one gateway say to each other."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from pangate.errors import LimitReached, PangateError, RecordFailed, StateFailed
from pangate.service import link as links
from pangate.service.link import Link, LinkLost


class Side:
    """One end, and what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.lost = asyncio.Event()
        self.answers: dict[str, Any] = {}

    async def hear(self, name: str, value: Any) -> object:
        self.heard.append((name, value))
        answer = self.answers.get(name)
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def ends() -> tuple[Side, Link, Side, Link]:
    one, other = socket.socketpair()
    left, right = Side(), Side()
    return (
        left,
        await Link.open(one, left.hear, left.lost.set),
        right,
        await Link.open(other, right.hear, right.lost.set),
    )


async def test_what_is_told_arrives_in_its_order_and_what_is_asked_is_answered():
    left, here, right, there = await ends()
    right.answers["sum"] = {"of": [1, 2], "bytes": b"\0\xff"}
    for number in range(50):
        here.tell("number", number)
    assert await here.ask("sum", ["a", None]) == {"of": [1, 2], "bytes": b"\0\xff"}
    assert [value for name, value in right.heard if name == "number"] == list(range(50))
    assert right.heard[-1] == ("sum", ["a", None])
    there.tell("back", 1)
    await here.ask("sum")
    assert left.heard == [("back", 1)]
    here.close()
    there.close()


async def test_a_long_value_arrives_whole():
    _, here, right, there = await ends()
    right.answers["long"] = "x" * (5 << 20)
    assert await here.ask("long", b"y" * (3 << 20)) == "x" * (5 << 20)
    assert right.heard == [("long", b"y" * (3 << 20))]
    here.close()
    there.close()


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (LimitReached("two are open"), LimitReached),
        (StateFailed("no room on the disk"), StateFailed),
        (RecordFailed("no room either"), RecordFailed),
        (PangateError("something else"), LinkLost),
        (ValueError("nobody may read this"), LinkLost),
    ],
)
async def test_what_is_raised_there_is_raised_here(raised, kind):
    _, here, right, there = await ends()
    right.answers["take"] = raised
    with pytest.raises(kind) as found:
        await here.ask("take", 1)
    said = str(getattr(found.value, "detail", found.value))
    assert ("nobody may read" not in said) if isinstance(raised, ValueError) else said
    here.close()
    there.close()


async def test_an_answer_that_does_not_come_is_not_waited_for():
    _, here, right, there = await ends()
    right.answers["slow"] = asyncio.Event()
    with pytest.raises(LinkLost, match=r"no answer to slow within 0\.05 seconds"):
        await here.ask("slow", seconds=0.05)
    right.answers["slow"].set()
    assert await here.ask("quick") is None  # a late answer is nobody's
    here.close()
    there.close()


async def test_when_the_other_side_goes_nothing_hangs():
    left, here, right, there = await ends()
    right.answers["slow"] = asyncio.Event()
    waiting = asyncio.ensure_future(here.ask("slow"))
    await asyncio.sleep(0.01)
    there.close()
    with pytest.raises(LinkLost, match="has ended"):
        await waiting
    await asyncio.wait_for(left.lost.wait(), 5)
    here.tell("nobody hears this")
    with pytest.raises(LinkLost, match="has ended"):
        await here.ask("anything")


async def test_too_long_a_message_is_not_sent_and_ends_a_link_that_gets_one(monkeypatch):
    left, here, _, there = await ends()
    monkeypatch.setattr(links, "MAX_BYTES", 1000)
    with pytest.raises(LinkLost, match="too long"):
        await there.ask("long", b"x" * 2000)
    monkeypatch.setattr(links, "MAX_BYTES", 1 << 20)
    there.tell("long", b"x" * 2000)
    monkeypatch.setattr(links, "MAX_BYTES", 1000)
    await asyncio.wait_for(left.lost.wait(), 5)
    here.close()
    there.close()


async def test_a_side_that_reads_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(links, "MAX_WAITING_BYTES", 1 << 20)
    one, other = socket.socketpair()
    side = Side()
    here = await Link.open(one, side.hear, side.lost.set)
    for _ in range(40):
        here.tell("long", b"x" * 100_000)
    await asyncio.wait_for(side.lost.wait(), 5)
    other.close()
