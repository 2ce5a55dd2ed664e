import errno
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from leaves import encode, with_check
from pangate.audit import Recorder, syncer
from pangate.audit import jsonl as module
from pangate.audit.jsonl import JsonLines
from pangate.audit.marks import Marker, mark_of, read_mark
from pangate.errors import RecordFailed
from pangate.model import Event

SOURCE = Path(__file__).parents[3] / "src"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def leaf(sequence: int, text: str = "") -> bytes:
    record = {
        "clock": "unknown",
        "code": "x",
        "data": {"text": text},
        "sequence": sequence,
        "v": 2,
    }
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def content(*sequences: int) -> bytes:
    return b"".join(leaf(sequence) + b"\n" for sequence in sequences)


def put(path: Path, data: bytes) -> None:
    """The file as it is found after a crash, without a mark."""
    path.write_bytes(data)
    path.chmod(0o600)
    mark_of(path).unlink(missing_ok=True)


def detail(path: Path, **options: object) -> str:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(RecordFailed) as caught:
        JsonLines(path, **options)  # type: ignore[arg-type]
    if before is not None:
        assert path.read_bytes() == before
    assert str(path) in caught.value.detail
    assert str(path) not in caught.value.reason
    return caught.value.detail


def test_lines_are_appended_and_the_file_is_private(path):
    sink = JsonLines(path)
    assert (sink.last_sequence, sink.repaired_bytes) == (0, 0)
    assert path.stat().st_mode & 0o777 == 0o600
    sink.append([leaf(1)])
    sink.append([leaf(2), leaf(3)])
    assert path.read_bytes() == content(1, 2, 3)
    assert sink.last_sequence == 3
    sink.close()
    sink.close()
    with pytest.raises(RecordFailed):
        sink.append([leaf(4)])
    again = JsonLines(path)
    assert (again.last_sequence, again.repaired_bytes) == (3, 0)
    again.append([leaf(4)])
    again.close()
    assert path.read_bytes() == content(1, 2, 3, 4)


def writes() -> int:
    """How often this thread has called write(2)."""
    said = Path("/proc/thread-self/io").read_text()
    return int(said.partition("syscw:")[2].split()[0])


def test_one_append_is_one_write(path):
    sink = JsonLines(path)
    before = writes()
    sink.append([leaf(1), leaf(2), leaf(3)])
    assert writes() == before + 1
    assert path.read_bytes() == content(1, 2, 3)
    sink.close()


def test_every_torn_tail_is_repaired_by_taking_away_the_torn_line_alone(path):
    whole = content(1, 2, 3)
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(1, len(whole) + 1):
        put(path, whole[:cut])
        sink = JsonLines(path)
        kept = whole[:cut].rfind(b"\n") + 1
        assert path.read_bytes() == whole[:kept]
        assert sink.repaired_bytes == cut - kept
        assert sink.last_sequence == whole[:kept].count(b"\n")
        sink.append([leaf(sink.last_sequence + 1)])
        assert path.read_bytes() == content(*range(1, sink.last_sequence + 1))
        sink.close()
    assert last


@pytest.mark.parametrize("zeros", [1, 4096, 200_000])
def test_zeros_that_a_crash_left_are_taken_away(path, zeros):
    for torn in (b"", leaf(2)[:20]):
        put(path, content(1) + torn + bytes(zeros))
        sink = JsonLines(path)
        assert (sink.last_sequence, sink.repaired_bytes) == (1, len(torn) + zeros)
        sink.close()
        assert path.read_bytes() == content(1)


def checked(sequence: int, text: str = "x" * 50) -> bytes:
    return with_check(leaf(sequence, text).replace(b'"v":2', b'"v":3'))


def marked(path: Path, data: bytes, size: int, sequence: int) -> None:
    """The file as it is found after a loss of power: so much of it was on the disk before."""
    put(path, data)
    marker = Marker(path)
    marker.put(size, sequence)
    marker.close()


def lines(*sequences: int) -> bytes:
    return b"".join(checked(sequence) + b"\n" for sequence in sequences)


def test_behind_the_mark_every_record_is_proven_and_what_is_torn_is_kept_beside(path):
    whole, sure = lines(1, 2, 3, 4), len(lines(1, 2))
    for cut in range(sure, len(whole) + 1):
        marked(path, whole[:cut], sure, 2)
        sink = JsonLines(path)
        kept = whole[:cut].rfind(b"\n") + 1
        assert path.read_bytes() == whole[:kept]
        assert (sink.repaired_bytes, sink.last_sequence) == (cut - kept, whole[:kept].count(b"\n"))
        sink.close()
        assert read_mark(path) == (kept, sink.last_sequence)
        beside = path.with_name("audit.jsonl.torn")
        if cut > kept:
            assert beside.read_bytes() == whole[kept:cut]
            assert beside.stat().st_mode & 0o777 == 0o600
            beside.unlink()
        assert not beside.exists()


@pytest.mark.parametrize("hole", [(150, 200), (150, 350), (310, 480), (150, 10_000)])
def test_pages_that_never_came_to_the_disk(path, hole):
    """And what stands behind them, which came without them, is not proven either."""
    data = bytearray(lines(*range(1, 6)))
    begin, end = hole
    data[begin:end] = bytes(min(end, len(data)) - begin)
    one = len(checked(1)) + 1
    marked(path, bytes(data), one, 1)
    sink = JsonLines(path)
    whole = begin // one
    assert sink.last_sequence == whole
    assert path.read_bytes() == lines(*range(1, whole + 1))
    assert path.with_name("audit.jsonl.torn").read_bytes() == data[whole * one :]
    sink.append([checked(whole + 1)])
    sink.close()
    assert JsonLines(path).last_sequence == whole + 1


def test_what_is_not_the_work_of_a_crash_is_left_alone(path):
    one = len(checked(1)) + 1
    changed = lines(1, 2).replace(b"xxx", b"xyx")
    for data, size, sequence, told in (
        (lines(1)[:-1], one, 1, "bytes where"),
        (lines(1, 3), one, 1, "not a record"),
        (lines(1, 1), one, 1, "not a record"),
        (lines(2, 3), one, 1, "not a record"),
        (lines(1, 2) + b"x", one, 1, "not a record"),
        (lines(1) + changed[one:], one, 1, "not what was written"),
        (lines(1) + b"x" * 300 + b"\n" + lines(2), one, 1, "not a record"),
        (lines(1) + b"\n" + lines(2), one, 1, "not a record"),
        (lines(1, 2), one - 1, 1, "not a record"),
        (changed[:one] + lines(2), one, 1, "not what was written"),
    ):
        marked(path, data, size, sequence)
        assert told in detail(path)
    put(path, changed[:one])
    assert "not what was written" in detail(path)


def test_a_mark_that_is_not_whole_is_none(path):
    marked(path, lines(1, 2), len(lines(1)), 1)
    found = mark_of(path).read_bytes()
    assert (len(found), read_mark(path)) == (64, (len(lines(1)), 1))
    for data in (b"", found[:10], found.replace(b" ", b"1 ", 1), bytes(64), b"\xff" * 64):
        mark_of(path).write_bytes(data)
        assert read_mark(path) is None
        sink = JsonLines(path)
        assert sink.last_sequence == 2
        sink.close()


def test_the_latest_time_is_that_of_a_clock_that_was_right(path):
    moment = 1_700_000_000.0
    found = []
    for sequence, (clock, seconds) in enumerate(
        [("unknown", 0), ("synchronised", 50), ("back", 20), ("back", 21)], 1
    ):
        made = Event("x", moment + seconds, "s", "p", "o", "r", True)
        found.append(encode(made, sequence, clock))
    put(path, b"".join(line + b"\n" for line in found))
    sink = JsonLines(path)
    assert sink.last_time == moment + 50
    sink.close()


def test_long_lines_are_read_whole(path):
    text = "x" * 300_000
    put(path, leaf(1, text) + b"\n" + leaf(2, text) + b"\n" + leaf(3, text))
    sink = JsonLines(path)
    assert sink.last_sequence == 2
    assert sink.repaired_bytes == len(leaf(3, text))
    sink.close()


@pytest.mark.parametrize(
    "data",
    [
        b"root:x:0:0:root:/root:/bin/bash\n",
        b"root:x:0:0",
        b'{"a":1}\n',
        b'{"clock":"x","code":"x","sequence":"1","v":2}\n',
        b'{"clock":"x","code":"x","sequence":0,"v":2}\n',
        b'{"clock":"x","code":"x","sequence":true,"v":2}\n',
        b'{"clock":"x","code":"x","sequence":1,"v":1}\n',
        b'{"code":"x","sequence":1,"v":1}\n',
        b'{"clock":"x","code":"x","sequence":1\n',
        b"\n",
        b"[1]\n",
        content(1) + b"somebody wrote here",
        content(1) + b"somebody wrote here\n",
        content(1) + b"\n",
        content(1) + b"\xff\xfe",
    ],
)
def test_a_file_that_is_not_a_record_is_left_alone(path, data):
    put(path, data)
    assert "not a record at byte" in detail(path)


@pytest.mark.parametrize(("mode", "refused"), [(0o600, 0), (0o640, 0), (0o644, 1), (0o660, 1)])
def test_who_may_read_the_file(path, mode, refused):
    path.touch()
    path.chmod(mode)
    if refused:
        assert f"has mode {mode:04o}" in detail(path)
    else:
        JsonLines(path).close()


def test_what_cannot_be_opened(path, tmp_path):
    assert "cannot be opened" in detail(tmp_path)
    assert "cannot be opened" in detail(tmp_path / "no" / "such" / "file")
    (tmp_path / "real").touch(0o600)
    path.symlink_to(tmp_path / "real")
    assert "is a symbolic link" in detail(path)
    path.unlink()
    os.mkfifo(path, 0o600)
    assert "not a regular file" in detail(path)


def test_two_gateways_cannot_write_one_file(path):
    first = JsonLines(path)
    assert "in use by another gateway" in detail(path)
    code = (
        "import sys; from pathlib import Path; from pangate.audit.jsonl import JsonLines\n"
        "from pangate.errors import RecordFailed\n"
        "try:\n    JsonLines(Path(sys.argv[1]))\n"
        "except RecordFailed as error:\n    print(error.detail)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=True, cwd=SOURCE
    )
    assert "in use by another gateway" in done.stdout
    first.close()
    JsonLines(path).close()


# Failures of the disk. A limit of the file's size makes the kernel cut a write short.


@pytest.fixture
def room():
    """Says how large files may become."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))

    yield limit
    limit(None)


def test_a_short_write_leaves_whole_lines_and_heals(path, room):
    """What was written whole stays: a sealer may have read it."""
    sink = JsonLines(path)
    sink.append([leaf(1)])
    one = len(leaf(2)) + 1
    for extra, whole in ((1, 0), (one - 1, 0), (one, 1), (one + 5, 1)):
        room(len(content(1)) + extra)
        with pytest.raises(RecordFailed) as caught:
            sink.append([leaf(2), leaf(3)])
        assert f"took {extra} of" in caught.value.detail
        assert path.read_bytes() == content(*range(1, 2 + whole))
        assert sink.last_sequence == 1 + whole
        room(None)
        sink.append([leaf(2), leaf(3)][whole:])
        sink.close()
        assert path.read_bytes() == content(1, 2, 3)
        put(path, content(1))
        sink = JsonLines(path)
    room(len(content(1)))
    with pytest.raises(RecordFailed) as caught:
        sink.append([leaf(2)])
    assert os.strerror(errno.EFBIG) in caught.value.detail
    room(None)
    sink.close()


def test_a_recorder_over_a_full_disk_loses_nothing(path, room):
    recorder = Recorder(JsonLines(path), encode)
    recorder.record(Event("a", 0.0, "s", "p", "o", "r", True))
    room(path.stat().st_size + len(encode(Event("a", 0.0, "s", "p", "o", "r", True), 2)) + 30)
    recorder.record(Event("b", 0.0, "s", "p", "o", "r", True))
    with pytest.raises(RecordFailed):
        recorder.flush()
    assert recorder.pending == 1, "the first was written whole"
    recorder.record(Event("c", 0.0, "s", "p", "o", "r", True))
    with pytest.raises(RecordFailed):
        recorder.flush()
    room(None)
    recorder.flush()
    recorder.close()
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [record["code"] for record in records] == ["log.start", "a", "b", "c", "log.stop"]
    assert [record["sequence"] for record in records] == [1, 2, 3, 4, 5]


def test_a_torn_line_that_cannot_be_cut_back_stops_everything_until_it_can(path, room, monkeypatch):
    sink = JsonLines(path)
    sink.append([leaf(1)])
    room(len(content(1)) + 7)

    def fail(fd: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", fail)
        with pytest.raises(RecordFailed):
            sink.append([leaf(2)])
        assert path.read_bytes() == content(1) + leaf(2)[:7]
        room(None)
        with pytest.raises(RecordFailed):
            sink.append([leaf(2)])
        assert path.read_bytes() == content(1) + leaf(2)[:7]
    sink.append([leaf(2)])
    sink.close()
    assert path.read_bytes() == content(1, 2)


# The disk


def synced(sink: JsonLines, sequence: int) -> bool:
    deadline = time.monotonic() + 10
    while sink.synced_sequence < sequence and time.monotonic() < deadline:
        time.sleep(0.005)
    return sink.synced_sequence == sequence


def test_the_disk_follows_by_itself_and_at_once_when_it_is_asked_to(path):
    sink = JsonLines(path, 0.01)
    sink.append([leaf(1)])
    assert synced(sink, 1)
    sink.close()
    sink = JsonLines(path, 60)
    sink.append([leaf(2), leaf(3)])
    assert sink.synced_sequence == 1
    done = threading.Event()
    sink.sync(done.set)
    assert done.wait(10)
    assert sink.synced_sequence == 3
    sink.append([leaf(4)])
    sink.close()
    assert sink.synced_sequence == 4
    assert not sink._syncer._thread.is_alive()


def test_who_appends_does_not_wait_for_the_disk(path, monkeypatch):
    """And what is asked for while an fsync runs shares the next one."""
    go_on, calls = threading.Semaphore(0), []

    def slow(fd: int) -> None:
        calls.append(sink.last_sequence)
        assert go_on.acquire(timeout=10)

    sink = JsonLines(path, 60)
    monkeypatch.setattr(os, "fdatasync", slow)
    sink.append([leaf(1)])
    sink.sync()
    while not calls:
        time.sleep(0.001)
    notices = [threading.Event() for _ in range(20)]
    for number, notice in enumerate(notices, 2):
        sink.append([leaf(number)])
        sink.sync(notice.set)
    assert (sink.synced_sequence, calls) == (0, [1])
    go_on.release()
    assert not notices[0].wait(0.05), "what came meanwhile is not in the first"
    go_on.release()
    for notice in notices:
        assert notice.wait(10)
    assert (sink.synced_sequence, calls) == (21, [1, 21])
    go_on.release()
    sink.close()


@pytest.fixture
def broken(monkeypatch):
    """Makes the disk fail; what the kernel does then is the worst it may: it forgets the pages."""
    state = {"broken": False}
    sync = os.fdatasync

    def fdatasync(fd: int) -> None:
        if state["broken"]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(syncer, "RETRY_SECONDS", 0.01)
    return state


def test_what_a_failed_fsync_lost_is_written_again(path, broken):
    sink = JsonLines(path, 60)
    sink.append([leaf(1)])
    sink.sync()
    assert synced(sink, 1)
    broken["broken"] = True
    sink.append([leaf(2), leaf(3)])
    told = threading.Event()
    sink.sync(told.set)
    assert told.wait(10)
    assert "could not be brought to its disk" in sink.failure
    for _ in range(2):
        with pytest.raises(RecordFailed) as caught:
            sink.append([leaf(4)])
        assert "could not be brought to its disk" in caught.value.detail
    with path.open("r+b") as file:  # the pages are gone
        file.seek(len(content(1)))
        file.write(bytes(len(content(2, 3))))
    broken["broken"] = False
    assert synced(sink, 3)
    assert sink.failure == ""
    assert path.read_bytes() == content(1, 2, 3)
    sink.append([leaf(4)])
    sink.close()
    assert path.read_bytes() == content(1, 2, 3, 4)


def test_a_disk_that_fails_to_the_end_is_said_to_have(path, broken):
    sink = JsonLines(path, 0.01)
    broken["broken"] = True
    sink.append([leaf(1)])
    deadline = time.monotonic() + 10
    while not sink.failure and time.monotonic() < deadline:
        time.sleep(0.001)
    with pytest.raises(RecordFailed, match="nothing was executed"):
        sink.append([leaf(2)])
    with pytest.raises(RecordFailed) as caught:
        sink.close()
    assert "could not be brought to its disk" in caught.value.detail
    assert sink.synced_sequence == 0


def test_a_file_that_was_replaced_is_not_written_again(path, broken):
    sink = JsonLines(path, 0.01)
    broken["broken"] = True
    sink.append([leaf(1)])
    while not sink.failure:
        time.sleep(0.001)
    path.rename(path.with_suffix(".gone"))
    path.write_bytes(b"another")
    broken["broken"] = False
    deadline = time.monotonic() + 10
    while "it was replaced" not in sink.failure and time.monotonic() < deadline:
        time.sleep(0.001)
    assert "it was replaced by another file" in sink.failure
    assert path.read_bytes() == b"another"
    with pytest.raises(RecordFailed):
        sink.close()


def test_what_waits_for_the_disk_is_bounded(path, monkeypatch):
    hang = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda fd: hang.wait(10))
    monkeypatch.setattr(module, "MAX_UNSYNCED_BYTES", 1000)
    sink = JsonLines(path, 60)
    number = 1
    with pytest.raises(RecordFailed) as caught:
        for number in range(1, 100):
            sink.append([leaf(number)])
    assert "more than 1000 bytes that its disk does not take" in caught.value.detail
    assert sink.last_sequence == number - 1 > 1
    hang.set()
    sink.sync()
    assert synced(sink, number - 1)
    sink.append([leaf(number)])
    sink.close()


# Somebody else


@pytest.mark.parametrize("change", ["append", "truncate", "remove"])
def test_a_file_that_somebody_else_changed_is_not_written(path, change):
    sink = JsonLines(path)
    sink.append([leaf(1), leaf(2)])
    if change == "append":
        with path.open("ab") as file:
            file.write(b"forged\n")
    elif change == "truncate":
        os.truncate(path, len(content(1)))
    else:
        path.unlink()
    for _ in range(2):
        with pytest.raises(RecordFailed) as caught:
            sink.append([leaf(3)])
        assert "somebody else" in caught.value.detail or "was removed" in caught.value.detail
    if change != "remove":
        assert leaf(3) not in path.read_bytes()
    with pytest.raises(RecordFailed):
        sink.close()


def test_a_gateway_that_is_killed_leaves_whole_lines(path):
    code = (
        "import sys; from pathlib import Path; from pangate.audit.jsonl import JsonLines\n"
        "sink = JsonLines(Path(sys.argv[1]))\n"
        "n = 0\n"
        "while True:\n"
        "    leaves = []\n"
        "    for _ in range(5):\n"
        "        n += 1\n"
        '        leaves.append(b\'{"clock":"x","code":"x","sequence":%d,"v":2}\' % n)\n'
        "    sink.append(leaves)\n"
        "    if n == 5:\n"
        "        print('ready', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=SOURCE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.1)
    process.kill()
    process.wait()
    process.stdout.close()
    sink = JsonLines(path)
    sequences = [json.loads(line)["sequence"] for line in path.read_bytes().splitlines()]
    assert sequences == list(range(1, len(sequences) + 1))
    assert sink.last_sequence == len(sequences) >= 5
    sink.close()


def test_zeros_in_the_last_line_without_a_mark(path):
    """The sequence goes on where the last whole record was, and does not begin anew."""
    put(path, content(1, 2, 3) + b"\0" * 200 + b'"v":2}\n')
    sink = JsonLines(path)
    assert sink.last_sequence == 3
    sink.append([leaf(4)])
    sink.close()
    assert path.read_bytes() == content(1, 2, 3, 4)


def test_a_record_behind_retired_ones(path):
    """Zeros in front of a whole record are where others were."""
    put(path, b"\0" * 70_000 + content(8))
    sink = JsonLines(path)
    assert sink.last_sequence == 8
    sink.append([leaf(9)])
    sink.close()
    sink = JsonLines(path)
    assert (sink.last_sequence, read_mark(path).sequence) == (9, 9)
    sink.close()
    assert path.read_bytes() == b"\0" * 70_000 + content(8, 9)


def test_a_mark_that_cannot_be_written_holds_nothing_up(path, monkeypatch):
    sink = JsonLines(path)
    done = threading.Event()

    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(Marker, "put", full)
    monkeypatch.setattr(sink._syncer, "_told", full)
    sink.append([leaf(1)])
    sink.sync(done.set)
    assert done.wait(10)
    assert (sink.synced_sequence, sink.failure) == (1, "")
    sink.append([leaf(2)])
    done.clear()
    sink.sync(done.set)
    assert done.wait(10), "the thread lives"
    assert sink.synced_sequence == 2
    sink.close()


def test_what_is_behind_the_mark_is_brought_to_the_disk_at_the_start(path, monkeypatch):
    """A failed fsync leaves it as clean in memory, and the next fsync would not write it."""
    sink = JsonLines(path)
    sink.append([leaf(1)])
    sink.close()
    with path.open("ab") as file:
        file.write(content(2, 3))
    written = []
    real = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda fd, data, at: written.append((at, bytes(data))) or real(fd, data, at)
    )
    sink = JsonLines(path)
    assert (len(content(1)), content(2, 3)) in written
    assert sink.last_sequence == 3
    sink.close()
