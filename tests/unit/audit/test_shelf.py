"""Files that have ended come to the disk and are closed, few one by one, many together."""

from __future__ import annotations

import os
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
        shelf_.put(file)
    shelf_.close()
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


def test_it_may_be_closed_twice_and_used_again(tmp_path):
    one = Shelf(sync=True)
    one.close()
    put_away(one, files(tmp_path, 1))
    one.close()
