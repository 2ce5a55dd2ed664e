"""What is noted in C is what would be noted in Python."""

import struct
import time

import pytest

from pangate._book import Book, Frames, Histogram, Pending
from pangate.audit.recorded import BAR, FINISHED, HEAD, SENT, STATEMENT
from pangate.errors import RecordFailed


def frames(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(data):
        kind, size, _, bar = HEAD.unpack_from(data, at)
        assert bar == BAR
        found.append((kind, bytes(data[at + HEAD.size : at + HEAD.size + size])))
        at += HEAD.size + size
    return found


def test_frames_are_as_they_are_written():
    made = Frames(time.monotonic(), True)
    made.statement(7)
    made.sent([b"ab", bytearray(b"c"), memoryview(b"xdex")[1:3], b""])
    made.finished(7, 2**40)
    assert made.sent_bytes == 5
    size = made.size
    (data, count), taken = made.take()
    assert (count, taken, len(data)) == (3, size, size)
    assert frames(data) == [
        (STATEMENT, struct.pack("<I", 7)),
        (SENT, b"abcde"),
        (FINISHED, struct.pack("<IQ", 7, 2**40)),
    ]
    assert made.take() == ((b"", 0), 0)


def test_parts_are_left_to_whoever_chooses():
    made = Frames(time.monotonic() - 1, False)
    made.sent([b"ab", b"c"])
    made.statement(1)
    parts, size = made.take()
    assert [(kind, data) for kind, _, data in parts] == [
        (SENT, [b"ab", b"c"]),
        (STATEMENT, b"\1\0\0\0"),
    ]
    assert size == 2 * HEAD.size + 7
    assert 1_000_000 <= parts[0][1] <= parts[1][1]


def test_leaves_wait_within_a_bound():
    waiting = Pending(10, 100)
    assert waiting.add(b"x" * 60, 5.0) == 11
    assert waiting.add(b"x" * 40, 6.0) == 12
    assert waiting.since == 5.0
    with pytest.raises(RecordFailed) as wrong:
        waiting.add(b"x", 7.0)
    assert "more than 100 bytes" in wrong.value.detail
    assert waiting.sequence == 12
    waiting.take(1)
    assert (waiting.leaves, waiting.size) == ([b"x" * 40], 40)
    waiting.take()
    assert waiting.add(b"x", 8.0) == 13
    assert waiting.since == 8.0


def test_a_book_notes_from_the_decision_to_the_end():
    leaves = []

    def make(form, sequence, now, state, statement, values):
        leaves.append((form, sequence, state, statement, values))
        return b"leaf"

    kinds: dict[tuple[str, str], int] = {}
    masked = []
    seconds = Histogram((1.0,))
    waiting = Pending(0, 1000, make, lambda: "synchronised")
    book = Book(waiting, kinds, seconds, masked.append)
    forms = ((("parse", "allow"), "p"), (("bind", "allow"), "b"))
    book.again(forms, ("1",), "select")
    assert book.started.keys() == {1, 2}
    book.answered("e", 2, 2, 3, 40, {"visa": 1}, 5, 9)
    assert book.started == {}
    assert (book.statements, book.rows, book.size, book.masked) == (2, 3, 40, {"visa": 1})
    assert kinds == {("parse", "allow"): 1, ("bind", "allow"): 1}
    assert masked == [{"visa": 1}]
    assert seconds.buckets()[0][-1] == ("+Inf", 2)
    assert [leaf[:4] for leaf in leaves] == [
        ("p", 1, "synchronised", 1),
        ("b", 2, "synchronised", 2),
        ("e", 3, "synchronised", 1),
        ("e", 4, "synchronised", 2),
    ]
    assert leaves[0][4] == (1,)
    assert leaves[1][4] == (2, ("1",), "select")
    assert leaves[3][4][:4] == (40, {"visa": 1}, 2, 3)
    assert waiting.leaves == [b"leaf"] * 4
    waiting.closed = True
    with pytest.raises(RecordFailed):
        book.again(forms, (), None)
