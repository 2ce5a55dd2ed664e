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

from leaves import encode
from pangate.audit import Recorder, syncer
from pangate.audit import jsonl as module
from pangate.audit.jsonl import JsonLines
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


def test_one_append_is_one_write(path, monkeypatch):
    sink = JsonLines(path)
    writes = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (writes.append(data), write(fd, data))[1])
    sink.append([leaf(1), leaf(2), leaf(3)])
    assert writes == [content(1, 2, 3)]
    sink.close()


# The tail


def test_every_torn_tail_is_repaired_by_taking_away_the_torn_line_alone(path):
    whole = content(1, 2, 3)
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(1, len(whole) + 1):
        path.write_bytes(whole[:cut])
        path.chmod(0o600)
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
        path.write_bytes(content(1) + torn + bytes(zeros))
        path.chmod(0o600)
        sink = JsonLines(path)
        assert (sink.last_sequence, sink.repaired_bytes) == (1, len(torn) + zeros)
        sink.close()
        assert path.read_bytes() == content(1)


def test_long_lines_are_read_whole(path):
    text = "x" * 300_000
    path.write_bytes(leaf(1, text) + b"\n" + leaf(2, text) + b"\n" + leaf(3, text))
    path.chmod(0o600)
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
    path.write_bytes(data)
    path.chmod(0o600)
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
        path.write_bytes(content(1))
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
