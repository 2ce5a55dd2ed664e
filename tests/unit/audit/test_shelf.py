"""Files that have ended come to the disk and are closed, few one by one, many together."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import threading
from pathlib import Path

import pytest

from pangate.audit import shelf
from pangate.audit.shelf import MOST_ALONE, Shelf


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each of the two ways was taken; both are taken for real."""
    seen = {"alone": 0, "together": 0}
    alone, together = os.fdatasync, shelf._syncfs

    def fdatasync(file: int) -> None:
        seen["alone"] += 1
        alone(file)

    def syncfs(file: int) -> int:
        seen["together"] += 1
        assert together is not None
        assert together(file) == 0
        return 0

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    if together is not None:
        monkeypatch.setattr(shelf, "_syncfs", syncfs)
    return seen


def files(directory: Path, count: int) -> list[int]:
    made = []
    for number in range(count):
        file = os.open(directory / str(number), os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(file, b"x")
        made.append(file)
    return made


def put_away(shelf_: Shelf, made: list[int]) -> None:
    for file in made:
        shelf_.put(file, f"file {file}")
    shelf_.close()
    assert_closed(made)


def assert_closed(made: list[int]) -> None:
    for file in made:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file)


def test_few_files_one_by_one(tmp_path, synced):
    put_away(Shelf(sync=True), files(tmp_path, 3))
    assert synced == {"alone": 3, "together": 0}


@pytest.mark.skipif(shelf._syncfs is None, reason="the system has no syncfs")
def test_many_files_together(tmp_path, synced):
    one = Shelf(sync=True)
    put_away(one, files(tmp_path, 10 * MOST_ALONE))
    assert synced["together"] >= 1
    assert synced["alone"] + synced["together"] <= MOST_ALONE + 10


def test_without_sync_they_are_closed_alone(tmp_path, synced):
    put_away(Shelf(sync=False), files(tmp_path, 3 * MOST_ALONE))
    assert synced == {"alone": 0, "together": 0}


def test_it_may_be_closed_twice_and_used_again(tmp_path, synced):
    before = set(threading.enumerate())  # others may have a shelf
    one = Shelf(sync=True)
    one.close()
    put_away(one, files(tmp_path, 2))
    one.close()
    put_away(one, files(tmp_path, 3))
    assert synced == {"alone": 5, "together": 0}
    assert one.failed == 0
    assert set(threading.enumerate()) <= before


def test_what_is_put_while_it_closes_is_put_away(tmp_path, monkeypatch):
    """It closes while its thread is at a file, and another comes before that is done."""
    working, go_on = threading.Event(), threading.Event()
    sync = os.fdatasync

    def fdatasync(file: int) -> None:
        working.set()
        assert go_on.wait(20)
        sync(file)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    one = Shelf(sync=True)
    made = files(tmp_path, 2)
    one.put(made[0], "first")
    assert working.wait(20)
    closing = [threading.Thread(target=one.close, daemon=True) for _ in range(2)]
    for thread in closing:
        thread.start()
    while not one._stopping:
        closing[0].join(0.01)
    one.put(made[1], "second")
    go_on.set()
    for thread in closing:
        thread.join(20)
        assert not thread.is_alive(), "close hangs"
    assert_closed(made)


def test_without_a_thread_it_puts_away_what_it_has_when_it_is_closed(tmp_path, monkeypatch):
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one = Shelf(sync=True)
    monkeypatch.setattr(threading.Thread, "start", refused)
    put_away(one, files(tmp_path, 3))
    assert one.failed == 0


# --- what fails --------------------------------------------------------------------------------------


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.ERROR, "pangate")
    return caplog


def test_a_descriptor_that_is_none_does_not_end_the_thread(tmp_path, synced, complaints):
    """Neither fdatasync nor close works on it."""
    one = Shelf(sync=True)
    (gone,) = files(tmp_path, 1)
    os.close(gone)
    one.put(gone, "sessions/gone.rec")
    one.close()
    assert one.failed == 1
    assert "sessions/gone.rec may not be whole on the disk: Bad file" in complaints.text
    put_away(one, files(tmp_path, 2))
    assert (one.failed, synced["alone"]) == (1, 3)


def test_a_file_that_cannot_be_synced_is_told_and_the_others_are(tmp_path, synced, complaints):
    one = Shelf(sync=True)
    receiver, pipe = os.pipe()  # fdatasync knows nothing to do with one
    put_away(one, [*files(tmp_path, 2), pipe])
    os.close(receiver)
    assert synced == {"alone": 3, "together": 0}
    assert one.failed == 1
    assert [record.getMessage() for record in complaints.records] == [
        f"the recording file {pipe} may not be whole on the disk: Invalid argument"
    ]


together = pytest.mark.skipif(
    shelf._syncfs is None or shelf._sync_file_range is None, reason="the system has no syncfs"
)
MANY = 4 * MOST_ALONE


def put_together(made: list[int]) -> Shelf:
    """All of `made` at once, however slowly they come."""
    one = Shelf(sync=True)
    one._put_away([(file, f"file {file}") for file in made])
    assert_closed(made)
    return one


def failing(code: int):
    def call(*_: int) -> int:
        ctypes.set_errno(code)
        return -1

    return call


@together
def test_when_all_cannot_be_synced_together_each_is_alone(tmp_path, synced, monkeypatch):
    monkeypatch.setattr(shelf, "_syncfs", failing(errno.EIO))
    one = put_together(files(tmp_path, MANY))
    assert synced == {"alone": MANY, "together": 0}
    assert one.failed == 0


@together
def test_files_of_two_devices_are_not_synced_by_one_of_them(tmp_path, synced):
    other = os.memfd_create("other")
    made = [*files(tmp_path, MANY), other]
    assert os.fstat(other).st_dev != os.fstat(made[0]).st_dev, "this could not fail"
    assert put_together(made).failed == 0
    assert synced == {"alone": MANY + 1, "together": 0}


@together
def test_all_together_and_one_was_not_written(tmp_path, synced, monkeypatch, complaints):
    """syncfs does not know it of a file that was opened before the one it was given."""
    real = shelf._sync_file_range
    made = files(tmp_path, MANY)

    def sync_file_range(file: int, *more: int) -> int:
        return failing(errno.EIO)() if file == made[5] else real(file, *more)

    monkeypatch.setattr(shelf, "_sync_file_range", sync_file_range)
    one = put_together(made)
    assert one.failed == 1
    assert f"file {made[5]} may not be whole on the disk: Input/output error" in complaints.text
    assert synced == {"alone": 0, "together": 1}


@together
def test_all_together_where_it_cannot_be_told_of_each(tmp_path, synced, monkeypatch):
    monkeypatch.setattr(shelf, "_sync_file_range", failing(errno.ENOSYS))
    assert put_together(files(tmp_path, MANY)).failed == 0
    assert synced == {"alone": MANY, "together": 1}
