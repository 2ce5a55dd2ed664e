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
from pangate.audit import Recorder
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


@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_lines_are_appended_and_the_file_is_private(path, fsync):
    sink = JsonLines(path, fsync)
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
    again = JsonLines(path, fsync)
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


def test_a_short_write_leaves_no_partial_line_and_heals(path, room):
    sink = JsonLines(path)
    sink.append([leaf(1)])
    for extra in (1, len(leaf(2)), len(leaf(2)) + 1, len(leaf(2)) + 5):
        room(len(content(1)) + extra)
        with pytest.raises(RecordFailed) as caught:
            sink.append([leaf(2), leaf(3)])
        assert f"took {extra} of" in caught.value.detail
        assert path.read_bytes() == content(1)
        assert sink.last_sequence == 1
    room(len(content(1)))
    with pytest.raises(RecordFailed) as caught:
        sink.append([leaf(2)])
    assert os.strerror(errno.EFBIG) in caught.value.detail
    room(None)
    sink.append([leaf(2), leaf(3)])
    sink.close()
    assert path.read_bytes() == content(1, 2, 3)


def test_a_recorder_over_a_full_disk_loses_nothing(path, room):
    recorder = Recorder(JsonLines(path), encode)
    room(path.stat().st_size + 30)
    recorder.record(Event("a", 0.0, "s", "p", "o", "r", True))
    with pytest.raises(RecordFailed):
        recorder.flush()
    recorder.record(Event("b", 0.0, "s", "p", "o", "r", True))
    with pytest.raises(RecordFailed):
        recorder.flush()
    room(None)
    recorder.flush()
    recorder.close()
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [record["code"] for record in records] == ["log.start", "a", "b", "log.stop"]
    assert [record["sequence"] for record in records] == [1, 2, 3, 4]


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


def test_a_disk_that_fails_to_sync_is_not_trusted_again(path, monkeypatch):
    sink = JsonLines(path, "always")
    sink.append([leaf(1)])

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(RecordFailed):
            sink.append([leaf(2)])
    with pytest.raises(RecordFailed) as caught:
        sink.append([leaf(3)])
    assert "could not be brought to its disk" in caught.value.detail
    with pytest.raises(RecordFailed):
        sink.close()


def test_at_intervals_the_disk_follows(path, monkeypatch):
    monkeypatch.setattr(module, "SYNC_SECONDS", 0.05)
    synced = threading.Event()
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (sync(fd), synced.set())[0])
    sink = JsonLines(path)
    assert not synced.wait(0.15)
    sink.append([leaf(1)])
    assert synced.wait(2)
    synced.clear()
    assert not synced.wait(0.2)
    sink.append([leaf(2)])
    assert synced.wait(2)
    sink.close()
    assert sink._syncer is not None
    assert not sink._syncer.is_alive()


def test_a_failed_sync_in_between_stops_the_next_append(path, monkeypatch):
    monkeypatch.setattr(module, "SYNC_SECONDS", 0.01)

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    sink = JsonLines(path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        sink.append([leaf(1)])
        time.sleep(0.3)
        with pytest.raises(RecordFailed):
            sink.append([leaf(2)])
    with pytest.raises(RecordFailed):
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
