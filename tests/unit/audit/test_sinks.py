"""Sinks: everything comes to them, in order, once or more; what was away catches up; nobody waits."""

import json
import threading
import time

import pytest

from leaves import encode
from pangate.audit.marks import Marker
from pangate.audit.sinks import follower as module
from pangate.audit.sinks import open_sink
from pangate.audit.sinks.file import FileSink
from pangate.audit.sinks.follower import SinkFollower
from pangate.audit.syslog import MAX_DATAGRAM, Receiver, message
from pangate.config.audit import SinkSettings
from pangate.errors import LedgerError
from pangate.model import Event
from pangate.trial import until
from receivers import RSYSLOG, Rsyslog

needs_rsyslog = pytest.mark.skipif(RSYSLOG is None, reason="Debian's package rsyslog")


def leaf(sequence, text="select 1", success=True):
    event = Event(
        "statement.finished", 1_700_000_000 + sequence, "s1", "reports", "192.0.2.7", "cards",
        success, {"text": text},
    )  # fmt: skip
    return encode(event, sequence)


LEAVES = [leaf(number) for number in range(1, 3001)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.02)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.touch()
    return path


def write(path, leaves):
    with path.open("ab") as file:
        file.write(b"".join(one + b"\n" for one in leaves))


@pytest.fixture
def following(tmp_path, record):
    made = []

    def start(sink):
        made.append(SinkFollower(record, tmp_path / "sinks" / f"{sink.name}.json", sink))
        return made[-1]

    yield start
    for one in made:
        one.close()


def got(path):
    return path.read_bytes().splitlines()


def test_a_file(tmp_path, record, following):
    there = tmp_path / "there"
    follower = following(FileSink("there", there))
    write(record, LEAVES[:10])
    until(lambda: follower.sequence == 10, "ten")
    write(record, LEAVES[10:2500])
    until(lambda: follower.sequence == 2500, "all")
    assert got(there) == LEAVES[:2500]
    follower.close()
    assert (follower.behind, follower.failure) == (0, "")
    write(record, LEAVES[2500:])
    follower = following(FileSink("there", there))
    until(lambda: follower.sequence == 3000, "it goes on where it was")
    follower.close()
    assert got(there) == LEAVES


def test_a_file_after_a_crash(tmp_path, record, following):
    there = tmp_path / "there"
    write(record, LEAVES[:20])
    following(FileSink("there", there)).close()
    state = (tmp_path / "sinks/there.json").read_bytes()
    write(record, LEAVES[20:30])
    following(FileSink("there", there)).close()
    # delivered, and not noted; and a line that is torn
    (tmp_path / "sinks/there.json").write_bytes(state)
    with there.open("ab") as file:
        file.write(LEAVES[30][:40])
    write(record, LEAVES[30:35])
    following(FileSink("there", there)).close()
    assert got(there) == LEAVES[:35], "no event twice, none torn"
    # renamed away while it is followed
    follower = following(FileSink("there", there))
    there.rename(tmp_path / "there.1")
    write(record, LEAVES[35:40])
    until(lambda: follower.sequence == 40, "the rest")
    assert got(there) == LEAVES[35:40]


def test_a_file_whose_first_delivery_a_crash_cut_off(tmp_path, record, following):
    there = tmp_path / "there"
    there.write_bytes(LEAVES[0] + b"\n" + LEAVES[1][:50])
    there.chmod(0o600)
    write(record, LEAVES[:3])
    follower = following(FileSink("there", there))
    until(lambda: follower.sequence == 3, "three")
    assert got(there) == [LEAVES[0], *LEAVES[:3]]


@pytest.mark.parametrize("state", [b"", b"x", b"[]", b'{"offset":"a"}'])
def test_a_state_that_is_gone_leaves_nothing_out(tmp_path, record, following, state):
    there = tmp_path / "there"
    write(record, LEAVES[:20])
    following(FileSink("there", there)).close()
    if state:
        (tmp_path / "sinks/there.json").write_bytes(state)
    else:
        (tmp_path / "sinks/there.json").unlink()
    write(record, LEAVES[20:25])
    following(FileSink("there", there)).close()
    assert got(there) == [*LEAVES[:20], *LEAVES[:25]]


def test_another_record(tmp_path, record, following, caplog):
    there = tmp_path / "there"
    write(record, LEAVES[:20])
    following(FileSink("there", there)).close()
    record.unlink()
    other = [leaf(number, "another") for number in range(1, 31)]
    write(record, other)
    following(FileSink("there", there)).close()
    assert got(there) == [*LEAVES[:20], *other]
    assert "is another record" in caplog.text


def test_what_is_not_on_the_disk_is_not_given_away(tmp_path, record, following):
    """After a crash something else may stand in its place."""
    write(record, LEAVES[:20])
    marker = Marker(record)
    size = sum(len(one) + 1 for one in LEAVES[:12])
    marker.put(size, 12)
    follower = following(FileSink("there", tmp_path / "there"))
    until(lambda: follower.sequence == 12, "what is on the disk")
    until(lambda: follower.behind == record.stat().st_size - size, "the rest waits")
    marker.put(record.stat().st_size, 20)
    until(lambda: follower.sequence == 20, "the rest")
    marker.close()
    assert got(tmp_path / "there") == LEAVES[:20]


class Picky:
    """A sink that fails when it is told to, after having taken a part."""

    name = "picky"

    def __init__(self):
        self.got = []
        self.fail = True
        self.go = threading.Event()
        self.go.set()

    def last(self):
        return 0

    def deliver(self, leaves):
        assert self.go.wait(20)
        if self.fail:
            self.got += leaves[:1]
            raise OSError("is down")
        self.got += leaves

    def close(self):
        pass


def test_one_that_is_down_catches_up_and_holds_up_no_other(tmp_path, record, following, caplog):
    picky = Picky()
    down, up = following(picky), following(FileSink("there", tmp_path / "there"))
    for start in range(0, 3000, 500):
        write(record, LEAVES[start : start + 500])
        until(lambda start=start: up.sequence == start + 500, "the other has it")
    until(lambda: down.failures > 2, "it is tried again")
    until(lambda: down.behind == record.stat().st_size, "how far it is behind")
    assert (down.sequence, down.failure) == (0, "is down")
    assert caplog.text.count("the sink picky: is down") == 1, "said once"
    first = len(picky.got)
    picky.fail = False
    until(lambda: down.sequence == 3000, "it caught up")
    assert picky.got[first:] == LEAVES
    until(lambda: not down.failure and not down.behind, "nothing is wrong")


def test_one_that_hangs_holds_up_no_end(tmp_path, record, following, monkeypatch):
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.2)
    picky = Picky()
    picky.go.clear()
    write(record, LEAVES[:5])
    follower = following(picky)
    start = time.monotonic()
    follower.close()
    assert time.monotonic() - start < 10
    picky.fail = False
    picky.go.set()


def test_a_file_that_cannot_be_written(tmp_path, record, following):
    write(record, LEAVES[:5])
    follower = following(FileSink("there", tmp_path / "no" / "where"))
    until(lambda: "No such file" in follower.failure, "it says so")
    (tmp_path / "no").mkdir()
    until(lambda: follower.sequence == 5, "and goes on")
    (tmp_path / "text").write_text("something else\n")
    with pytest.raises(LedgerError, match="does not end with an event"):
        FileSink("x", tmp_path / "text").last()


@needs_rsyslog
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_syslog(tmp_path, record, following, transport):
    count = 200 if transport == "udp" else 3000
    with Rsyslog(tmp_path / "rsyslog", tls=transport == "tls") as receiver:
        settings = SinkSettings(
            name="siem", kind="syslog", host="localhost", port=receiver.port, transport=transport,
            ca=receiver.ca,
        )  # fmt: skip
        follower = following(open_sink(settings))
        for number in range(0, count, 50):
            write(record, LEAVES[number : number + 50])
            if transport == "udp":
                until(lambda number=number: follower.sequence == number + 50, "sent")
        until(lambda: follower.sequence == count, "all are sent", seconds=60)
        write(record, [leaf(count + 1, "x" * 100_000), leaf(count + 2, "ä", success=False)])
        until(lambda: len(receiver.lines()) == count + 2, "all are there", seconds=60)
    lines = receiver.lines()
    head = b"<110>1 2023-11-14T22:13:21.000000Z "
    assert lines[0].startswith(head), lines[0]
    assert [line.partition(b" - statement.finished - ")[2] for line in lines[:count]] == LEAVES[
        :count
    ]
    cut = json.loads(lines[count].partition(b" - statement.finished - ")[2])
    assert cut["sequence"] == count + 1
    assert cut["cut"]["bytes"] > 100_000
    assert lines[-1].startswith(b"<108>1 ")
    assert "ä".encode() in lines[-1]
    parsed = receiver.parsed.read_bytes().splitlines()[0].split()
    assert parsed[0].startswith(b"2023-11-14T"), "as rsyslog has understood it"
    assert parsed[2:] == [b"pangate", b"statement.finished", b"110"]


@needs_rsyslog
def test_a_receiver_that_comes_and_goes(tmp_path, record, following):
    first = Rsyslog(tmp_path / "one")
    settings = SinkSettings(
        name="siem", kind="syslog", host="localhost", port=first.port, transport="tcp"
    )
    follower = following(open_sink(settings))
    write(record, LEAVES[:100])
    until(lambda: follower.failure, "nobody is there")
    with first:
        until(lambda: len(first.lines()) == 100, "it caught up", seconds=30)
    write(record, LEAVES[100:200])
    until(lambda: follower.failure, "it is gone")
    with Rsyslog(tmp_path / "two", port=first.port) as second:
        until(lambda: follower.sequence == 200, "it caught up", seconds=30)
        until(lambda: len(second.lines()) >= 100, "all are there")
    texts = [
        line.partition(b" - statement.finished - ")[2] for line in (*first.lines(), *second.lines())
    ]
    assert list(dict.fromkeys(texts)) == LEAVES[:200], "in order, and none is left out"


def test_what_a_message_may_hold():
    found = message("2026-11-29T00:00:00Z", "a code\n<with> all" + "x" * 99, b"text", 6, "h\nost é")
    assert (
        found
        == b"<110>1 2026-11-29T00:00:00Z host pangate - "
        + ("acode<with>all" + "x" * 18).encode()
        + b" - text"
    )
    assert MAX_DATAGRAM < 65_507


def test_a_receiver_that_takes_nothing(monkeypatch):
    """It accepts, and reads nothing: what was sent does not arrive."""
    import socket

    from pangate.audit import syslog

    monkeypatch.setattr(syslog, "TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        receiver = Receiver("127.0.0.1", server.getsockname()[1], "tcp")
        with pytest.raises(OSError):  # noqa: PT011
            receiver.send([b"x" * 60_000] * 400)
        receiver.close()
