"""The lines of a record from any place, over what was retired, while it grows."""

import os
import random

import pytest

import ledgers
from pangate.audit import lines as module
from pangate.audit.lines import lines, open_record
from pangate.errors import LedgerError

LEAVES = ledgers.events(400)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "record"
    path.write_bytes(b"".join(leaf + b"\n" for leaf in LEAVES))
    return path


def read(path, offset=0):
    fd = open_record(path)
    try:
        return list(lines(fd, offset))
    finally:
        os.close(fd)


def test_all_and_from_any_line(record):
    found = read(record)
    assert [line for _, line in found] == LEAVES
    for at, line in found[::37]:
        assert read(record, at)[0] == (at, line)
    assert read(record, record.stat().st_size) == []


@pytest.mark.parametrize("block", [1, 7, 200, 4096, 1 << 20])
def test_any_block(record, monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    assert [line for _, line in read(record)] == LEAVES


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_zeros_in_the_place_of_lines(record, monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    places = read(record)
    rng = random.Random(5)
    for _ in range(20):
        data = bytearray(record.read_bytes())
        gone = set()
        for _ in range(rng.randrange(1, 5)):
            first = rng.randrange(400)
            end = min(400, first + rng.randrange(1, 90))
            begin = places[first][0]
            until = places[end][0] if end < 400 else len(data)
            data[begin:until] = bytes(until - begin)
            gone.update(range(first, end))
        other = record.with_name("other")
        other.write_bytes(data)
        assert read(other) == [place for number, place in enumerate(places) if number not in gone]


def test_a_hole_of_any_size_is_passed_over(tmp_path):
    path = tmp_path / "record"
    with path.open("wb") as file:
        file.seek(1 << 40)
        file.write(LEAVES[0] + b"\n" + LEAVES[1] + b"\nnot whole")
    assert read(path) == [(1 << 40, LEAVES[0]), ((1 << 40) + len(LEAVES[0]) + 1, LEAVES[1])]


def test_a_line_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE", 5000)
    (tmp_path / "record").write_bytes(LEAVES[0] + b"\n" + b"x" * 20_000)
    with pytest.raises(LedgerError, match=f"the line at byte {len(LEAVES[0]) + 1} "):
        read(tmp_path / "record")
    with pytest.raises(LedgerError, match="cannot be read"):
        open_record(tmp_path / "none")
