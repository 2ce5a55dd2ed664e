"""What agents were sent, in files: whole or cut as the role says, readable to the last frame, and a session's
end when it cannot be written."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import stat
import threading
from pathlib import Path

import pytest

from pangate.audit import recorded, recording
from pangate.audit.recorded import (
    CUT,
    DESCRIBED,
    END,
    FINISHED,
    GAP,
    HEADER,
    NUMBER,
    PLACE,
    SENT,
    STATEMENT,
    Damaged,
    Reading,
    digest_of,
    header_of,
)
from pangate.audit.recording import Recordings
from pangate.errors import RecordFailed
from pangate.ledger.letters import letters
from pgwire import message


@pytest.fixture
def recordings(tmp_path: Path):
    made = Recordings(tmp_path)
    yield made
    made.close()


def opened(recordings: Recordings, session: str = "abcdefgh", notice=lambda: None, **bounds):
    return recordings.open(session, {"role": "reader"}, notice, **bounds)


def file_of(recordings: Recordings, data) -> Path:
    return recordings.folder.parent / data["file"]


def sent_of(path: Path) -> bytes:
    return b"".join(frame.payload for frame in Reading(path) if frame.kind == SENT)


def row(text: bytes) -> bytes:
    return message(b"D", b"\0\1" + len(text).to_bytes(4, "big") + text)


def result(rows: int, size: int = 5) -> bytes:
    return (
        message(b"T", b"\0\0")
        + b"".join(row(b"%0*d" % (size, number)) for number in range(rows))
        + message(b"C", b"SELECT\0")
        + message(b"Z", b"I")
    )


def test_a_session_is_recorded_in_its_order(recordings):
    made = opened(recordings)
    made.statement(1)
    made.sent([b"first ", bytearray(b"and "), memoryview(b"second")])
    made.described(1, 7, b"columns")
    made.finished(1, 9)
    made.sent([b"!"])
    data = made.end()
    path = file_of(recordings, data)
    reading = Reading(path)
    frames = list(reading)
    assert [frame.kind for frame in frames] == [
        HEADER, STATEMENT, SENT, DESCRIBED, FINISHED, SENT, END
    ]  # fmt: skip
    assert header_of(frames[0])["session"] == "abcdefgh"
    assert header_of(frames[0])["role"] == "reader"
    assert NUMBER.unpack(frames[1].payload) == (1,)
    assert frames[2].payload == b"first and second"
    assert frames[3].payload == PLACE.pack(1, 7) + b"columns"
    assert PLACE.unpack(frames[4].payload) == (1, 9)
    assert header_of(frames[-1]) == {"sent": 17, "cut": None}
    assert [frame.seconds for frame in frames] == sorted(frame.seconds for frame in frames)
    assert not reading.torn
    assert reading.ended
    assert (data["bytes"], data["frames"], data["digest"]) == (
        path.stat().st_size, len(frames), reading.digest
    )  # fmt: skip
    plain = hashlib.sha256(path.read_bytes()).hexdigest()
    assert data["digest"] == plain.translate(str.maketrans("0123456789abcdef", "abcdefghijklmnop"))
    assert (data["sent"], data["cut"]) == (17, None)
    assert "failure" not in data


def test_nobody_else_may_read_it(recordings):
    data = opened(recordings).end()
    path = file_of(recordings, data)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_any_zstd_reads_it(recordings):
    made = opened(recordings)
    made.sent([b"what the agent saw"])
    path = file_of(recordings, made.end())
    plain = recorded.zstd().decompress(path.read_bytes())
    assert plain.startswith(b"pangate recording 1\n")
    assert b"what the agent saw" in plain


def test_much_is_recorded_by_the_thread_behind_and_is_all_there(recordings):
    made = opened(recordings)
    generator = random.Random(7)
    given = [generator.randbytes(generator.randrange(1, 60_000)) for _ in range(200)]
    for piece in given:
        made.sent([piece])
        if made.full:
            made.full = False  # nobody holds this one
    data = made.end()
    assert sent_of(file_of(recordings, data)) == b"".join(given)
    assert data["sent"] == sum(map(len, given))
    assert recordings.waiting == 0


def test_what_comes_too_fast_is_held_and_released(tmp_path, monkeypatch):
    recordings = Recordings(tmp_path)
    go_on = threading.Event()
    noticed = threading.Event()
    write = os.write

    def slow(file, data):
        if threading.current_thread().name == "recordings":
            assert go_on.wait(20)
        return write(file, data)

    made = opened(recordings, notice=noticed.set)
    other = opened(recordings, "other")
    monkeypatch.setattr(recording.os, "write", slow)
    pieces = 0
    while not made.full:
        made.sent([bytes(100_000)])
        pieces += 1
        assert pieces * 100_000 <= 2 * recording.MOST_OF_ONE
    assert pieces * 100_000 > recording.MOST_OF_ONE // 2
    other.sent([bytes(recording.BLOCK)])
    assert not other.full, "one session's backlog holds no other"
    assert not noticed.is_set()
    go_on.set()
    assert noticed.wait(20)
    assert not made.full
    data = made.end()
    assert sent_of(file_of(recordings, data)) == bytes(pieces * 100_000)
    other.end()
    recordings.close()


def test_all_sessions_together_are_bounded_too(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "MOST_WAITING", 3 * recording.BLOCK)
    recordings = Recordings(tmp_path)
    go_on = threading.Event()
    write = os.write

    def slow(file, data):
        if threading.current_thread().name == "recordings":
            assert go_on.wait(20)
        return write(file, data)

    notices = [threading.Event() for _ in range(5)]
    made = [
        opened(recordings, f"session{number}", notice=notice.set)
        for number, notice in enumerate(notices)
    ]
    monkeypatch.setattr(recording.os, "write", slow)
    for one in made:
        one.sent([bytes(recording.BLOCK)])
    assert [one.full for one in made] == [False, False, True, True, True]
    go_on.set()
    assert all(notice.wait(20) for notice in notices[2:])
    assert not any(one.full for one in made)
    for one in made:
        one.end()
    recordings.close()


# --- cut -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_first_rows_of_each_result_however_it_is_split(recordings, seed):
    generator = random.Random(seed)
    stream = result(5) + result(2) + message(b"N", b"note\0") + result(0) + result(9, 300)
    kept = result(3).replace(message(b"C", b"SELECT\0") + message(b"Z", b"I"), b"")
    pieces, at = [], 0
    while at < len(stream):
        size = generator.choice((1, 2, 3, 5, 17, 400))
        pieces.append(stream[at : at + size])
        at += size
    made = opened(recordings, f"s{seed}", rows=3)
    for piece in pieces:
        made.sent([piece])
    data = made.end()
    path = file_of(recordings, data)
    got = sent_of(path)
    ends = message(b"C", b"SELECT\0") + message(b"Z", b"I")
    assert got == (
        kept + ends + result(2) + message(b"N", b"note\0") + result(0)
        + result(3, 300)
    )  # fmt: skip
    lost = stream_less(stream, got)
    assert data["cut"]["rows"] == 2 + 6
    assert data["cut"]["bytes"] == len(stream) - len(got)
    assert data["cut"]["digest"] == letters(hashlib.sha256(lost).digest())
    assert data["sent"] == len(stream)
    gaps = [GAP.unpack(frame.payload) for frame in Reading(path) if frame.kind == CUT]
    assert sum(gap[0] for gap in gaps) == data["cut"]["bytes"]
    assert sum(gap[1] for gap in gaps) == 8
    assert all(gap[2] == 1 for gap in gaps)


def stream_less(stream: bytes, got: bytes) -> bytes:
    """The rows that are left out, by reading messages one after the other."""
    lost, at, rows = b"", 0, 0
    while at < len(stream):
        end = at + 1 + int.from_bytes(stream[at + 1 : at + 5], "big")
        rows = rows + 1 if stream[at : at + 1] == b"D" else 0
        if rows > 3:
            lost += stream[at:end]
        at = end
    assert len(lost) + len(got) == len(stream)
    return lost


def test_the_first_bytes_of_a_session(recordings):
    made = opened(recordings, size=1000)
    made.sent([b"a" * 900])
    made.statement(1)
    made.sent([b"b" * 900])
    made.sent([b"c" * 900])
    made.finished(1, 2700)
    data = made.end()
    path = file_of(recordings, data)
    assert sent_of(path) == b"a" * 900 + b"b" * 100
    lost = b"b" * 800 + b"c" * 900
    assert data["cut"] == {
        "bytes": 1700, "rows": 0, "digest": letters(hashlib.sha256(lost).digest())
    }  # fmt: skip
    gaps = [GAP.unpack(frame.payload) for frame in Reading(path) if frame.kind == CUT]
    assert gaps == [(1700, 0, 0)]
    assert [frame.kind for frame in Reading(path)][-3:] == [CUT, FINISHED, END]


def test_the_digest_alone(recordings):
    made = opened(recordings, size=0)
    made.statement(1)
    made.sent([result(1000)])
    made.finished(1, 0)
    data = made.end()
    path = file_of(recordings, data)
    assert sent_of(path) == b""
    assert data["cut"]["bytes"] == data["sent"] == len(result(1000))
    assert data["cut"]["digest"] == letters(hashlib.sha256(result(1000)).digest())
    assert [frame.kind for frame in Reading(path)] == [HEADER, STATEMENT, CUT, FINISHED, END]


# --- digests on the way ----------------------------------------------------------------------------


def test_a_long_session_has_digests_of_its_beginning(recordings, monkeypatch):
    made = opened(recordings)
    made.flush()
    assert made.mark() is None
    assert not made.unmarked, "nothing happened"
    marks = []
    monkeypatch.setattr(recording, "MARK_BYTES", 300_000)
    for _ in range(10):
        made.sent([os.urandom(200_000)])
        made.flush()
        made.write_blocks()
        if data := made.mark():
            marks.append(data)
    assert len(marks) == 5
    data = made.end()
    path = file_of(recordings, data)
    for mark in marks:
        assert mark["file"] == data["file"]
        assert digest_of(path, mark["bytes"]) == (mark["digest"], mark["bytes"])
    monkeypatch.undo()


def test_a_slow_session_has_them_by_time(recordings, monkeypatch):
    made = opened(recordings)
    made.sent([b"x"])
    made.flush()
    made.write_blocks()
    assert made.mark() is None
    assert made.unmarked
    monkeypatch.setattr(recording, "MARK_SECONDS", 0.0)
    assert made.mark()
    assert not made.unmarked
    made.end()


# --- what goes wrong -------------------------------------------------------------------------------


def test_a_disk_that_is_full_ends_it_and_says_so(tmp_path):
    recordings = Recordings(tmp_path)
    noticed = threading.Event()
    made = opened(recordings, notice=noticed.set)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        made.sent([os.urandom(300_000)])
        assert noticed.wait(20)
        assert "cannot be written" in made.failure
        assert os.strerror(errno.EFBIG) in made.failure
        data = made.end()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    path = file_of(recordings, data)
    assert data["failure"] == made.failure
    assert (data["digest"], data["bytes"]) == digest_of(path), "what is there is what is said"
    assert data["bytes"] == 100_000
    reading = Reading(path)
    kinds = [frame.kind for frame in reading]
    assert kinds[0] == HEADER
    assert reading.torn
    assert recordings.waiting == 0
    whole = opened(recordings, "after")
    whole.sent([b"works again"])
    assert "failure" not in whole.end()
    recordings.close()


def test_a_session_whose_file_cannot_be_made_does_not_begin(tmp_path):
    recordings = Recordings(tmp_path)
    (tmp_path / "sessions").write_text("in the way")
    with pytest.raises(RecordFailed) as wrong:
        opened(recordings)
    assert "sessions" in wrong.value.detail
    (tmp_path / "sessions").unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(RecordFailed, match="nothing was executed"):
            opened(recordings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.glob("sessions/*/*")) == []
    opened(recordings).end()
    recordings.close()


@pytest.mark.parametrize("what", ["replaced", "removed", "longer", "shorter"])
def test_a_file_that_somebody_changes_meanwhile_is_told(recordings, what):
    made = opened(recordings)
    made.sent([b"x" * 100])
    made.flush()
    made.write_blocks()
    (path,) = recordings.folder.glob("*/*.open")
    if what == "longer":
        with path.open("ab") as file:
            file.write(b"more")
    elif what == "shorter":
        os.truncate(path, 10)
    else:
        path.unlink()
        if what == "replaced":
            path.write_bytes(b"something else")
    data = made.end()
    assert str(path) in data["failure"]


def test_a_recording_of_a_gateway_that_was_killed(tmp_path):
    first = Recordings(tmp_path)
    made = opened(first)
    made.sent([b"seen"])
    made.flush()
    made.write_blocks()
    (path,) = first.folder.glob("*/*.open")
    first.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-20:-5])

    second = Recordings(tmp_path)
    ((session, data),) = second.unfinished()
    assert session == "abcdefgh"
    after = tmp_path / data["file"]
    assert (data["digest"], data["bytes"]) == digest_of(after)
    assert data["frames"] == 2
    assert not path.exists()
    assert list(second.unfinished()) == []
    second.close()


def test_every_torn_end_is_read_up_to_it(tmp_path):
    recordings = Recordings(tmp_path)
    made = opened(recordings)
    for number in range(4):
        made.sent([b"piece %d" % number])
        made.flush()
        made.write_blocks()
    path = file_of(recordings, made.end())
    recordings.close()
    whole = path.read_bytes()
    all_frames = list(Reading(path))
    seen = set()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        reading = Reading(path)
        frames = list(reading)
        assert frames == all_frames[: len(frames)]
        assert not reading.ended
        seen.add(len(frames))
    assert seen == set(range(len(all_frames)))


def test_damage_is_told_and_never_read_over(tmp_path):
    recordings = Recordings(tmp_path)
    made = opened(recordings)
    made.sent([b"some text that is long enough to be worth compressing " * 20])
    path = file_of(recordings, made.end())
    recordings.close()
    whole = path.read_bytes()
    reading = Reading(path)
    frames = list(reading)
    told = other = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        damaged = Reading(path)
        try:
            got = list(damaged)
        except Damaged as wrong:
            told += str(path) in str(wrong)
            continue
        # it reads as something else: that is what the digest is for
        other += got != frames
        damaged.read_rest()
        assert damaged.digest != reading.digest
    assert told > 20
    assert other > 20
    path.write_bytes(recorded.zstd().compress(b"another kind of file, which is long"))
    with pytest.raises(Damaged, match="not a recording"):
        list(Reading(path))
