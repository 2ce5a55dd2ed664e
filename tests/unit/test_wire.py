"""Many sockets read in one call of the loop: everything comes, once and in order, to whom it is for; what is
paused, ended or lost comes to nobody else; and whatever is unusual is the transport's."""

import asyncio
import contextlib
import contextvars
import random
import socket
import struct
import sys

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate._book import Histogram
from pangate._pump import Turn
from pangate._wire import Batch, Poll, Receiver, Wire

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of many at once")


def run(work, loop=uvloop.new_event_loop):
    """Run `work` with a poll; nothing may be left to the loop's handler of exceptions but what it returns."""

    async def watched():
        wrong = []
        here = asyncio.get_running_loop()
        here.set_exception_handler(lambda _, found: wrong.append(found["exception"]))
        poll = Poll(here, Batch())
        async with asyncio.timeout(20):
            expected = await work(poll) or []
        poll.close()
        assert [type(one) for one in wrong] == expected

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(watched())


class Side(asyncio.Protocol):
    """What came by the transport itself, and how that ended."""

    def __init__(self):
        self.came, self.lost = [], asyncio.get_running_loop().create_future()
        self.wire = None

    def data_received(self, data):
        self.came.append(data)

    def connection_lost(self, exc):
        self.wire.unwatch()
        self.lost.set_result(exc)


class End:
    """A connection: a transport here, a bare socket there, and what the poll has given."""

    def __init__(self, transport, side, peer):
        self.transport, self.side, self.peer = transport, side, peer
        self.wire = side.wire = Wire(transport)
        self.got = []

    def watched(self, poll, call=None, *, paused=False):
        assert poll.watch(self.wire, Receiver(call or self.got.append), paused)
        return self


async def connected():
    listener = socket.create_server(("127.0.0.1", 0))
    peer = socket.create_connection(listener.getsockname())
    here, _ = listener.accept()
    listener.close()
    here.setblocking(False)
    transport, side = await asyncio.get_running_loop().create_connection(Side, sock=here)
    return End(transport, side, peer)


async def until(ready):
    async with asyncio.timeout(10):
        while not ready():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("loop", LOOPS)
def test_everything_comes_to_whom_it_is_for_and_in_order(loop):
    async def work(poll):
        ends = [(await connected()).watched(poll) for _ in range(40)]
        sent = [b""] * len(ends)
        draw = random.Random(20261130)
        for turn in range(600):
            which = draw.randrange(len(ends))
            part = b"%d;" % turn * draw.choice((1, 1, 1, 3000))
            ends[which].peer.sendall(part)
            sent[which] += part
            if turn % 7 == 0:
                await asyncio.sleep(0)
        await until(
            lambda: all(sum(map(len, e.got)) == len(s) for e, s in zip(ends, sent, strict=True))
        )
        assert [b"".join(end.got) for end in ends] == sent
        for end in ends:
            assert end.side.came == []
            end.wire.unwatch()
            end.peer.sendall(b"by the transport")
        await until(lambda: all(end.side.came for end in ends))
        for end in ends:
            assert b"".join(end.side.came) == b"by the transport"
            end.transport.close()
            await end.side.lost
            end.peer.close()

    run(work, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_more_than_is_read_at_a_time(loop):
    async def work(poll):
        end = (await connected()).watched(poll)
        whole = random.Random(1).randbytes(3_000_000)
        await asyncio.get_running_loop().run_in_executor(None, end.peer.sendall, whole)
        await until(lambda: sum(map(len, end.got)) == len(whole))
        assert b"".join(end.got) == whole
        end.transport.abort()
        await end.side.lost
        end.peer.close()

    run(work, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_paused_waits(loop):
    async def work(poll):
        end = (await connected()).watched(poll, paused=True)
        end.peer.sendall(b"1")
        await asyncio.sleep(0.02)
        assert (end.got, end.side.came) == ([], [])
        end.wire.resume_reading()
        await until(lambda: end.got)
        end.wire.pause_reading()
        end.wire.pause_reading()
        end.peer.sendall(b"2")
        await asyncio.sleep(0.02)
        assert end.got == [b"1"]
        end.wire.unwatch()
        await asyncio.sleep(0.02)
        assert end.side.came == [], "it was paused, and stays so"
        end.wire.resume_reading()
        await until(lambda: end.side.came)
        assert (end.got, end.side.came) == ([b"1"], [b"2"])
        end.transport.close()
        await end.side.lost
        end.peer.close()

    run(work, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["closed", "reset", "half"])
def test_the_end_is_the_transports_behind_all_that_came_before(loop, how):
    async def work(poll):
        end = (await connected()).watched(poll)
        end.peer.sendall(b"last words")
        if how == "reset":
            await until(lambda: end.got)
            end.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            end.peer.shutdown(socket.SHUT_WR)
        else:
            end.peer.close()
        wrong = await asyncio.wait_for(end.side.lost, 5)
        assert end.got == [b"last words"]
        assert end.side.came == []
        wrong = wrong or end.wire.failure
        assert isinstance(wrong, ConnectionResetError) if how == "reset" else wrong is None
        assert not poll.watch(end.wire, Receiver(end.got.append), False), "it is closed"
        end.peer.close()

    run(work, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["unwatch", "pause", "abort", "close"])
def test_one_may_end_another_that_something_came_for_at_the_same_time(loop, how):
    async def work(poll):
        ends = [await connected() for _ in range(2)]

        def come(me, other):
            def call(data):
                me.got.append(data)
                if how == "unwatch":
                    other.wire.unwatch()
                elif how == "pause":
                    other.wire.pause_reading()
                else:
                    getattr(other.transport, how)()

            return call

        for me, other in (ends, ends[::-1]):
            me.watched(poll, come(me, other))
            me.peer.sendall(b"now")
        await until(lambda: ends[0].got or ends[1].got)
        await asyncio.sleep(0.02)
        first, second = ends if ends[0].got else ends[::-1]
        assert (first.got, second.got) == ([b"now"], [])
        assert second.side.came == ([b"now"] if how == "unwatch" else [])
        assert second.side.lost.done() == (how in ("abort", "close"))
        for end in ends:
            end.transport.abort()
            await end.side.lost
            end.peer.close()

    run(work, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_fails_ends_its_own_connection_only(loop):
    async def work(poll):
        bad, good = [await connected() for _ in range(2)]

        def fails(data):
            raise RuntimeError("no")

        bad.watched(poll, fails)
        good.watched(poll)
        for end in (bad, good):
            end.peer.sendall(b"x")
        await asyncio.wait_for(bad.side.lost, 5)
        await until(lambda: good.got)
        assert bad.peer.recv(10) == b""
        good.transport.abort()
        await good.side.lost
        for end in (bad, good):
            end.peer.close()
        return [RuntimeError]

    run(work, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_poll_that_is_closed_gives_all_back(loop):
    async def work(poll):
        end = (await connected()).watched(poll)
        assert not poll.watch(end.wire, Receiver(print), False), "it is watched already"
        poll.close()
        poll.close()
        assert not poll.watch(end.wire, Receiver(print), False)
        end.peer.sendall(b"x")
        await until(lambda: end.side.came)
        assert (end.got, end.side.came) == ([], [b"x"])
        end.transport.abort()
        await end.side.lost
        end.peer.close()

    run(work, loop)


CONNECTIONS = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), CONNECTIONS, st.integers(1, 400_000)),
        st.tuples(st.sampled_from(["watch", "unwatch", "pause", "resume"]), CONNECTIONS),
        st.tuples(st.just("turn"), st.integers(0, 2)),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(STEPS, st.lists(st.booleans(), min_size=3, max_size=3))
def test_whatever_is_done_with_them_each_byte_comes_once_and_in_order(steps, closed):
    async def work(poll):
        ends = [await connected() for _ in range(3)]
        sent, paused = [b""] * 3, [False] * 3
        for end in ends:
            end.peer.setblocking(False)
            end.side.came = end.got  # by whichever way
        for what, which, *size in steps:
            end = ends[which]
            if what == "turn":
                await asyncio.sleep(which / 1000)
            elif what == "send":
                part = random.Random(len(sent[which])).randbytes(size[0])
                with contextlib.suppress(BlockingIOError):
                    sent[which] += part[: end.peer.send(part)]
            elif what == "watch":
                poll.watch(end.wire, Receiver(end.got.append), paused[which])
            elif what == "unwatch":
                end.wire.unwatch()
            elif paused[which] != (what == "pause"):
                paused[which] = what == "pause"
                getattr(end.wire, f"{what}_reading")()
        for end, held in zip(ends, paused, strict=True):
            if held:
                end.wire.resume_reading()
        await until(
            lambda: all(sum(map(len, e.got)) == len(s) for e, s in zip(ends, sent, strict=True))
        )
        assert [b"".join(end.got) for end in ends] == sent
        for end, here in zip(ends, closed, strict=True):
            if here:
                end.transport.close()
            else:
                end.peer.close()
        for end in ends:
            await asyncio.wait_for(end.side.lost, 5)
            end.peer.close()

    run(work)


NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody")


def test_each_is_called_in_the_context_in_which_it_was_watched():
    async def work(poll):
        seen = []
        ends = []
        for name in ("ada", "bob"):
            end = await connected()
            NAME.set(name)

            def call(data, own=name):
                seen.append((own, NAME.get()))
                NAME.set(f"{own} again")

            end.watched(poll, call)
            ends.append(end)
        NAME.set("main")
        for end in ends:
            end.peer.sendall(b"1")
        await until(lambda: len(seen) == 2)
        for end in ends:
            end.peer.sendall(b"2")
        await until(lambda: len(seen) == 4)
        assert sorted(seen[:2]) == [("ada", "ada"), ("bob", "bob")]
        assert sorted(seen[2:]) == [("ada", "ada again"), ("bob", "bob again")]
        assert NAME.get() == "main"
        for end in ends:
            end.transport.abort()
            await end.side.lost
            end.peer.close()

    run(work)


class Gate:
    """As much of a gate as a turn asks for."""

    class metrics:  # noqa: N801
        to_backend_seconds = to_agent_seconds = flush_seconds = Histogram((1.0,))

    class recorder:  # noqa: N801
        leaves, written, wake, urgent = None, None, None, 0

    record_failure = ""


def test_what_came_together_is_committed_together_and_at_once():
    async def work(_):
        loop, done = asyncio.get_running_loop(), []
        later = []
        turn = Turn(later.append, Gate, lambda: done.append("commit"), done.extend)
        poll = Poll(loop, turn)
        ends = [await connected() for _ in range(3)]

        def call(data):
            done.append(data)
            turn.come()

        for end in ends:
            end.watched(poll, call)
            end.peer.sendall(b"x")
        await until(lambda: "commit" in done)
        assert later == [], "the loop need not come again for it"
        assert done.index("commit") == done.count(b"x") == 3
        turn.come()
        assert later == [turn.commit], "what comes otherwise waits for the loop"
        poll.close()
        for end in ends:
            end.transport.abort()
            await end.side.lost
            end.peer.close()

    run(work)
