"""The short way from socket to socket: what it leaves to the long one, and that it sends what it should, once
and in order."""

import asyncio
import resource
import signal
import socket
import sys
from pathlib import Path

import pytest

from pangate._again import Answered, Known, ShortWay
from pangate._book import (
    Book,
    Decided,
    Frames,
    Given,
    Histogram,
    InForce,
    Pending,
    Steps,
    Tally,
    Written,
)
from pangate._leaf import Encoder
from pangate._pump import Pump, Turn
from pangate._wire import Poll, Wire
from pangate.errors import RecordFailed
from pangate.masking import default_scanner
from pangate.masking.keys import wiped_names
from pangate.metrics import Metrics
from pangate.model import Event

# --- one session ------------------------------------------------------------------------------------


class Way(ShortWay):
    """Requests that begin with "again" came before; their answers with "whole"."""

    known = Known("Q", ("statement",), None, None, None, (), b"", b"", True, None, (), 0)
    described = None

    def again(self, data):
        return self.known if data.startswith(b"again") else None

    def proceed(self, known, data):
        assert known is self.known
        return data

    def answered(self, data):
        if not data.startswith(b"whole"):
            return None
        number = getattr(self, "number", 0) + 1
        self.number = number
        return Answered(
            bytearray(data), number, 1, len(data), {}, {}, 0, 0, self.described, number, 10 * number
        )


class Session:
    """The long way: what came there, and what the gate was asked."""

    def __init__(self, decided, sent, pump_of):
        self.said, self.durable, self.behind = [], 0, []
        self.decided, self.sent = decided, sent
        self.pump = pump_of(self)

    def __getattr__(self, name):
        return lambda *words: self.said.append((name, *words))

    # of the gate

    def again(self, known):
        self.said.append(("decide",))
        known.decided = self.decided
        return self.decided is not None and self.pump_book.again(self.decided, (), None)

    def on_disk(self, urgent):
        return urgent <= self.durable


class Peer:
    """A transport with a socket of which nothing is known: everything is written to it."""

    def __init__(self, name, sent):
        self.name, self.sent = name, sent

    def get_write_buffer_size(self):
        return 1

    def is_closing(self):
        return False

    def get_extra_info(self, name):
        return self

    def fileno(self):
        return -1

    def write(self, data):
        self.sent.append((self.name, bytes(data)))


def event(code, data):
    return Event(code, 1.0, "s", "p", "192.0.2.1:1", "r", True, data, "c", "role", 1)


class Gate:
    """What a turn asks of the gate and its recorder."""

    def __init__(self, pending, file):
        self.metrics, self.recorder = Metrics(), self
        self.leaves, self.urgent, self.woken = pending, 0, 0
        self.written = None if file is None else Written(file.fileno(), 0, 0, 10_000)
        self.record_failure = ""

    def wake(self):
        self.woken += 1


class One:
    """One session whose requests are allowed."""

    def __init__(self, decided=True, most_rows=None, file=None):
        encode = Encoder(default_scanner(), wiped_names())
        ends = ("bytes", "masked", "number", "rows", "seconds")
        form = encode.form(event("allowed", {"number": 0}), ("number",))
        ended = encode.form(event("ended", dict.fromkeys(ends, 0)), ends)
        self.steps = Steps(1.0)
        self.pending = Pending(0, 10_000, None, encode, lambda: "unknown", self.steps)
        in_force, judge, self.given = InForce("abc"), object(), Given()
        self.book = Book(self.pending, Histogram((1.0,)), print, in_force, self.given)
        self.book.admit(judge, most_rows, None)
        known = Decided(judge, in_force.letters, ((Tally(), form),), ended, ended)
        self.begun, self.sent, self.way, self.late = [], [], Way(), []
        self.way.known.decided = None
        self.gate = Gate(self.pending, file)
        self.turn = Turn(
            self.begun.append, self.gate, lambda: self.late.append("others"), self.late.extend
        )
        self.session = Session(
            known if decided else None, self.sent, lambda session: Pump(session, self.turn)
        )
        self.session.pump_book = self.book
        self.pump = self.session.pump
        self.said = self.session.said

    def start(self, *wires):
        session = self.session
        wires = wires or (Wire(Peer("agent", self.sent)), Wire(Peer("backend", self.sent)))
        self.pump.start(
            self.way, self.book, session, 1000, session.behind,
            lambda data: self.said.append(("from_backend", data)), *wires,
        )  # fmt: skip
        return self


def test_what_came_before_is_recorded_then_forwarded_and_answered():
    one = One().start()
    one.pump.from_agent(b"again 1")
    assert (one.sent, one.begun, len(one.pending.leaves)) == ([], [one.turn.commit], 1)
    assert one.pump.waits
    assert one.turn.forward() == []
    assert one.sent == [("backend", b"again 1")]
    assert not one.pump.waits
    one.pump.from_backend(b"whole 1")
    assert one.sent[1:] == [("agent", b"whole 1")]
    assert (len(one.pending.leaves), one.given.rows, one.given.size) == (2, 1, 10)
    assert one.said == [("decide",), ("write_soon",)]
    one.turn.writing = True
    one.pump.from_agent(b"again 2")
    one.turn.forward()
    one.pump.from_backend(b"whole 2")
    assert one.said == [("decide",), ("write_soon",), ("read_together",)], "it is decided once"
    one.pump.from_agent(b"again 3")
    one.turn.forward()
    assert one.said[2:] == [("read_together",)], "and that once, too"
    one.pump.from_backend(b"whole 3")
    metrics = one.gate.metrics
    counted = [
        histogram.buckets()[0][-1][1]
        for histogram in (metrics.to_backend_seconds, metrics.to_agent_seconds)
    ]
    assert counted == [3, 3]
    assert one.pump.active > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of many at once")
async def test_what_a_poll_reads_of_both_sides():
    loop, one = asyncio.get_running_loop(), One()
    poll, ends, wires = Poll(loop, one.turn), [], []
    for _ in range(2):
        here, there = socket.socketpair()
        there.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
        ends.append((transport, there))
        wires.append(Wire(transport))
    (_, agent), (_, backend) = ends
    one.start(*wires)
    for wire in wires:
        assert poll.watch(wire, one.pump, False)
    async with asyncio.timeout(10):
        agent.sendall(b"again 1")
        while not one.late:
            await asyncio.sleep(0.001)
        assert (one.late, one.begun) == (["others"], []), (
            "behind the last that came, not a turn later"
        )
        one.turn.forward()
        assert await loop.sock_recv(backend, 100) == b"again 1"
        backend.sendall(b"whole 1")
        assert await loop.sock_recv(agent, 100) == b"whole 1"
        one.said.clear()
        backend.sendall(b"half")
        agent.sendall(b"new")
        while len(one.said) < 2:
            await asyncio.sleep(0.001)
    assert sorted(one.said) == [("from_agent", b"new"), ("from_backend", b"half")]
    one.pump.end()
    assert poll.watch(wires[0], one.pump, False), "it was given back"
    poll.close()
    for transport, there in ends:
        transport.abort()
        there.close()


def test_what_is_not_known_goes_the_long_way():
    one = One()
    one.pump.from_agent(b"again 1")
    assert one.said == [("from_agent", b"again 1")], "the login is not over"
    one.start()
    one.said.clear()
    one.pump.from_backend(b"whole 1")
    assert one.said == [("from_backend", b"whole 1")], "nothing was asked"
    one.said.clear()
    one.pump.from_agent(b"new")
    one.session.behind.append("something")
    one.pump.from_agent(b"again 1")
    assert one.said == [("from_agent", b"new"), ("from_agent", b"again 1")]
    one.session.behind.clear()
    one.said.clear()
    one.pump.open = False
    one.pump.from_agent(b"again 1")
    assert one.said == [("from_agent", b"again 1")]
    assert (one.begun, one.pending.leaves, one.sent) == ([], [], [])


def test_an_answer_that_looks_otherwise_goes_the_long_way_and_all_behind_it():
    one = One().start()
    one.pump.from_agent(b"again 1")
    one.turn.forward()
    one.said.clear()
    one.pump.from_backend(b"half")
    one.pump.from_backend(b"whole")
    assert one.said == [("from_backend", b"half"), ("from_backend", b"whole")]


def test_what_the_gate_does_not_allow_is_decided_step_by_step():
    one = One(decided=False).start()
    one.pump.from_agent(b"again 1")
    assert one.said == [("decide",), ("from_agent", b"again 1")]
    assert not one.pump.waits


def test_what_has_to_be_on_the_disk_first_waits_the_long_way():
    one = One().start()
    one.book.urgent = 5
    one.pump.from_agent(b"again 1")
    assert one.turn.forward() == [one.session]
    assert one.sent == []
    name, urgent, came, data = one.said[-1]
    assert (name, urgent, data) == ("put_off", 5, b"again 1")
    assert came > 0
    one.session.durable = 5
    one.pump.from_backend(b"whole 1")
    one.pump.from_agent(b"again 2")
    assert one.turn.forward() == []
    assert one.sent[-1] == ("backend", b"again 2")


def test_nothing_is_forwarded_for_a_session_that_is_over():
    one = One().start()
    one.pump.from_agent(b"again 1")
    one.pump.end()
    assert one.turn.forward() == []
    assert one.sent == []
    one.pump.from_agent(b"again 2")
    one.pump.from_backend(b"whole 1")
    assert one.said[-2:] == [("from_agent", b"again 2"), ("from_backend", b"whole 1")]


def test_a_record_that_takes_nothing_ends_the_session():
    one = One().start()
    one.pump.from_agent(b"again 1")
    one.turn.forward()
    one.pump.from_backend(b"whole 1")
    one.pending.closed = True
    one.said.clear()
    one.pump.from_agent(b"again 2")
    ((name, wrong),) = one.said
    assert name == "stop"
    assert isinstance(wrong, RecordFailed)
    assert not one.pump.waits


def test_those_whose_record_was_not_written_are_named():
    one = One().start()
    one.pump.from_agent(b"again 1")
    assert one.turn.take() == [one.session]
    assert one.turn.forward() == []
    assert one.sent == []


def test_a_recording_that_failed_stops_what_waits():
    one = One()
    one.book.frames = Frames(0.0, True)
    one.start()
    one.pump.from_agent(b"again 1")
    one.book.frames.failed = True

    def failed():
        raise RecordFailed("no room")

    one.session.check_recording = failed
    assert one.turn.forward() == []
    assert one.sent == []
    assert one.said[-1][0] == "stop"


def test_limits_are_the_gates_to_judge():
    one = One(most_rows=1).start()
    for number in (1, 2):
        one.pump.from_agent(b"again %d" % number)
        one.turn.forward()
        one.pump.from_backend(b"whole %d" % number)
    assert ("received", 2, 20) in one.said
    assert ("received", 1, 10) not in one.said


def test_rows_that_the_agent_is_not_told_of_are_described_in_the_record():
    one = One()
    one.way.described = (7, b"columns")
    one.start()
    one.pump.from_agent(b"again 1")
    one.turn.forward()
    one.pump.from_backend(b"whole 1")
    assert ("rows_described", 1, (7, b"columns")) in one.said


# --- one turn ---------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    with (tmp_path / "record").open("ab", buffering=0) as opened:
        yield opened


def test_a_turn_is_one_write_and_then_forwards(file):
    one = One(file=file).start()
    one.pump.from_agent(b"again 1")
    one.turn.come()
    assert one.begun == [one.turn.commit], "it is asked for once"
    leaves = one.pending.leaves[:]
    (commit,) = one.begun
    commit()
    assert (one.sent, one.late, one.pending.leaves) == ([("backend", b"again 1")], [], [])
    assert Path(file.name).read_bytes() == b"".join(leaf + b"\n" for leaf in leaves)
    assert one.gate.woken == 1
    one.pump.from_backend(b"whole 1")
    one.pump.from_agent(b"again 2")
    commit()
    assert len(one.begun) == 2
    assert one.gate.woken == 1, "something waits for the disk already"
    written = one.gate.written
    assert [sequence for _, _, sequence in written.kept] == [1, 3]
    assert written.end() == (Path(file.name).stat().st_size, 3)


@pytest.mark.parametrize(
    "wrong", ["no file", "others", "failure", "clock", "urgent", "unsound", "failing", "changed"]
)
def test_what_is_not_as_always_is_left_to_the_gateway(file, wrong):
    one = One(file=None if wrong == "no file" else file).start()
    one.pump.from_agent(b"again 1")
    match wrong:
        case "others":
            one.turn.others = True
        case "failure":
            one.gate.record_failure = "no room"
        case "clock":
            one.steps.latest += 100
            one.steps.see(one.steps.latest - 50)
        case "urgent":
            one.gate.urgent = 1
        case "unsound":
            one.gate.written.sound = False
        case "failing":
            one.gate.written.failing = True
        case "changed":
            file.write(b"x")
    one.turn.commit()
    assert (one.late, one.sent) == (["others"], [])
    assert len(one.pending.leaves) == 1


def test_those_who_wait_for_the_disk_are_handed_over(file):
    one = One(file=file).start()
    one.book.urgent = 5
    one.pump.from_agent(b"again 1")
    one.turn.commit()
    assert one.late == [one.session]
    assert one.said[-1][0] == "put_off"


def test_what_was_written_in_part_is_not_written_again(tmp_path):
    limit = 700
    with (tmp_path / "record").open("ab", buffering=0) as file:
        written = Written(file.fileno(), 0, 0, 10_000)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            assert written.append([b"a" * 300]) == 1
            assert written.append([b"b" * 300, b"c" * 300]) == -1
            assert written.append([b"d"]) == -1, "a part waits to be seen to"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        data, done = written.take_part()
        assert (data, done) == (b"b" * 300 + b"\n" + b"c" * 300 + b"\n", limit - 301)
        assert written.take_part() is None
        assert written.end() == (301, 1)
        assert written.append([b"d"]) == -1, "the file has more than is known"
    assert (tmp_path / "record").read_bytes()[301:] == data[:done]


def test_what_is_kept_is_bounded(file):
    written = Written(file.fileno(), 0, 0, 100)
    assert written.append([b"a" * 99]) == 1
    assert written.append([b"b"]) == 0
    assert written.append([b"c"]) == -1
    assert written.kept_bytes == 102
    _, data, _ = written.kept.popleft()
    written.let_go += len(data)
    assert written.append([b"c"]) == 0
    assert written.sequence == 3
