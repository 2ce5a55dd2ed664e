"""What is noted in C is what would be noted in Python."""

import json
import os
import struct
import time

import pytest

import leaves
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
    is_unchanged,
)
from pangate._leaf import Encoder
from pangate.audit.recorded import BAR, FINISHED, HEAD, SENT, STATEMENT
from pangate.errors import RecordFailed
from pangate.masking import default_scanner
from pangate.masking.keys import wiped_names
from pangate.model import Event

PAN = "4111111111111111"


def event(code: str = "a", **data: object) -> Event:
    return Event(code, 1_700_000_000.25, "s", "p", "192.0.2.1:1", "r", True, data, "c", "role", 3)


def encoder() -> Encoder:
    return Encoder(default_scanner(), wiped_names())


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
    (data, count, sent), taken = made.take()
    assert (count, sent, taken, len(data)) == (3, 5, size, size)
    assert frames(data) == [
        (STATEMENT, struct.pack("<I", 7)),
        (SENT, b"abcde"),
        (FINISHED, struct.pack("<IQ", 7, 2**40)),
    ]
    assert made.take() == ((b"", 0, 0), 0)


def test_frames_are_chosen_from_once_there_is_no_room():
    made = Frames(time.monotonic(), True, 5)
    made.statement(1)
    made.sent([b"abc"])
    (data, count, sent), _ = made.take()
    assert (count, sent) == (2, 3)
    made.sent([b"de"])
    made.sent([b"f"])
    made.finished(1, 6)
    parts, _ = made.take()
    assert [kind for kind, _, _ in parts] == [b"", SENT, FINISHED]
    data, count, sent = parts[0][2]
    assert (frames(data), count, sent) == ([(SENT, b"de")], 1, 2)
    assert parts[1][2] == [b"f"]
    made.sent([b"g"])
    assert [kind for kind, _, _ in made.take()[0]] == [SENT]


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
    sizes = iter([60, 40, 1, 1])
    waiting = Pending(10, 100, lambda event, sequence: b"x" * next(sizes))
    assert waiting.note(event(), 5.0) == 11
    assert waiting.note(event(), 6.0) == 12
    assert waiting.since == 5.0
    with pytest.raises(RecordFailed) as wrong:
        waiting.note(event(), 7.0)
    assert "more than 100 bytes" in wrong.value.detail
    assert waiting.sequence == 12
    waiting.take(1)
    assert (waiting.leaves, waiting.size) == ([b"x" * 40], 40)
    waiting.take()
    assert (waiting.leaves, waiting.size) == ([], 0)
    assert waiting.note(event(), 8.0) == 13
    assert waiting.since == 8.0
    waiting.closed = True
    with pytest.raises(RecordFailed):
        waiting.note(event(), 9.0)


def test_the_leaf_of_an_event_is_masked_and_has_the_state_of_the_clock():
    steps = Steps(1.0)
    waiting = Pending(0, 1000, None, encoder(), lambda: "synchronised", steps)
    made = event(text=f"select {PAN}")
    assert waiting.note(made, 0.0) == 1
    steps.see(5.0)
    steps.see(1.0)
    assert waiting.note(made, 0.0) == 2
    assert waiting.leaves == [
        leaves.encode(made, 1, "synchronised"),
        leaves.encode(made, 2, "back"),
    ]
    assert PAN.encode() not in waiting.leaves[0]


def test_a_leaf_that_is_too_long_is_made_by_whoever_knows_how():
    waiting = Pending(
        6, 10_000, lambda event, sequence: b"%d" % sequence, encoder(), str, None, 300
    )
    waiting.note(event(text="x" * 40), 0.0)
    waiting.note(event(text="x" * 400), 0.0)
    assert json.loads(waiting.leaves[0])["sequence"] == 7
    assert waiting.leaves[1] == b"8"


def test_what_is_no_event_has_no_leaf():
    for wrong in (("a", 1.0), object(), list(event())):
        with pytest.raises(TypeError):
            encoder().encode(wrong, 1, 1.0, "unknown")


def test_a_clock_is_in_time_until_it_goes_back():
    steps = Steps(1.0, 100.0)
    waiting = Pending(0, 100, steps=steps)
    assert waiting.in_time(100.5)
    assert steps.latest == 100.5
    for moment in (100.4, 50.0, float("nan")):
        assert not waiting.in_time(moment)
        assert steps.latest == 100.5
    steps.see(50.0)
    assert not waiting.in_time(101.0), "somebody has to see that it is right again"
    steps.see(101.0)
    assert waiting.in_time(101.0)
    assert Pending(0, 100).in_time(0.0)


def test_a_file_that_somebody_changed_is_told(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    with path.open("r+b") as file:
        assert is_unchanged(file.fileno(), 5)
        assert not is_unchanged(file.fileno(), 4)
        file.truncate(4)
        assert is_unchanged(file.fileno(), 4)
        path.unlink()
        assert not is_unchanged(file.fileno(), 4)
        taken = os.dup(file.fileno())
        os.close(taken)
    assert not is_unchanged(taken, 4)


def test_a_book_notes_from_the_decision_to_the_end():
    encode = encoder()
    first = encode.form(event("first", number=0), ("number",))
    asked = encode.form(
        event("second", number=0, parameters=[], text=""), ("number", "parameters", "text")
    )
    ends = ("bytes", "masked", "number", "rows", "seconds")
    ended = encode.form(event("ended", **dict.fromkeys(ends, 0)), ends)
    columns = tuple(sorted((*ends, "columns")))
    found_some = encode.form(event("ended", **dict.fromkeys(columns, 0)), columns)
    parsed, bound = Tally(), Tally()
    masked = []
    seconds = Histogram((1.0,))
    waiting = Pending(0, 10_000, None, encode, lambda: "synchronised")
    in_force = InForce("abc")
    book = Book(waiting, seconds, masked.append, in_force, Given())
    judge = object()
    book.admit(judge, None, None)
    forms = ((parsed, first), (bound, asked))
    known = Decided(judge, in_force.letters, forms, ended, found_some)
    assert book.again(known, ("1", PAN), "select")
    assert book.started.keys() == {1, 2}
    assert book.answered(known, 2, 2, 3, 40, {"visa": 1}, {}, 5, 9)
    assert book.started == {}
    assert (book.statements, book.rows, book.size, book.masked) == (2, 3, 40, {"visa": 1})
    assert (parsed.number, bound.number) == (1, 1)
    assert masked == [{"visa": 1}]
    assert seconds.buckets()[0][-1] == ("+Inf", 2)
    found = [json.loads(leaf) for leaf in waiting.leaves]
    assert [(leaf["code"], leaf["sequence"], leaf["statement"]) for leaf in found] == [
        ("first", 1, 1),
        ("second", 2, 2),
        ("ended", 3, 1),
        ("ended", 4, 2),
    ]
    assert {leaf["clock"] for leaf in found} == {"synchronised"}
    assert found[0]["data"] == {"number": 1}
    assert found[1]["data"] == {
        "number": 2,
        "parameters": ["1", "************1111"],
        "text": "select",
    }
    assert found[2]["data"].items() >= {"bytes": 0, "masked": {}, "number": 1, "rows": 0}.items()
    seconds_ = found[3]["data"].pop("seconds")
    assert 0 <= seconds_ < 60
    assert found[3]["data"] == {"bytes": 40, "masked": {"visa": 1}, "number": 2, "rows": 3}
    assert book.again(known, ("1", PAN), "select")
    assert book.answered(known, 4, 2, 1, 9, {"visa": 1}, {"pan": 1}, 5, 9)
    last = json.loads(waiting.leaves[-1])["data"]
    last.pop("seconds")
    assert last == {
        "bytes": 9, "columns": {"pan": 1}, "masked": {"visa": 1}, "number": 4, "rows": 1,
    }  # fmt: skip
    waiting.closed = True
    with pytest.raises(RecordFailed):
        book.again(known, (), None)


def test_a_book_notes_nothing_of_what_is_not_certain():
    encode = encoder()
    form = encode.form(event("first", number=0), ("number",))
    steps = Steps(1.0)
    waiting = Pending(0, 10_000, None, encode, lambda: "synchronised", steps)
    in_force = InForce("abc")
    book = Book(waiting, Histogram((1.0,)), print, in_force, Given())
    judge = object()
    forms = ((Tally(), form),)
    known = Decided(judge, in_force.letters, forms)
    assert not book.again(known, (), None), "nobody is admitted"
    book.admit(judge, None, None)
    assert book.again(known, (), None)
    assert not book.answered(known, 1, 1, 0, 0, {}, {}, 0, 0), "there is no form of its end"
    assert book.started.keys() == {1}
    others = (
        None,
        Decided(object(), in_force.letters, forms),
        Decided(judge, "".join(("a", "bc")), forms),
        Decided(judge, in_force.letters, ()),
    )
    for other in others:
        assert not book.again(other, (), None)
    in_force.letters = "abd"
    assert not book.again(known, (), None), "another configuration is in force"
    assert not book.again(Decided(judge, in_force.letters, forms), (), None)
    book.admit(judge, None, None)
    now = Decided(judge, in_force.letters, forms, form, form)
    assert book.again(now, (), None)
    steps.see(time.time() + 100)
    assert not book.again(now, (), None), "the clock went back"
    assert not book.answered(now, 2, 1, 0, 0, {}, {}, 0, 0)
    assert (book.statements, book.started.keys()) == (2, {1, 2})
    assert len(waiting.leaves) == 2


def test_a_book_counts_what_may_be_given_and_no_more():
    given, in_force = Given(), InForce("a")
    book = Book(Pending(0, 100), Histogram((1.0,)), print, in_force, given)
    assert not book.within(0, 0), "nobody is admitted"
    book.admit(object(), 3, 100)
    assert book.within(2, 90)
    assert book.within(3, 100)
    assert not book.within(4, 100)
    assert not book.within(3, 101)
    assert (given.rows, given.size) == (3, 100)
    in_force.letters = "b"
    assert not book.within(3, 100)
    book.admit(object(), None, None)
    assert book.within(1000, 10_000)
    assert (given.rows, given.size) == (1000, 10_000)
