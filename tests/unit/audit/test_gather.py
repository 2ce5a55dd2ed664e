"""What is gathered of the lines of a record for its index is what the slow way, event by event, takes of
them."""

import json
import random
import sqlite3
import zlib
from datetime import UTC, datetime, timedelta

import pytest

import records
from pangate._gather import Gather, split
from pangate.audit import leaf_encoder
from pangate.audit.index import Index, Record, writer
from pangate.audit.index.source import Line
from pangate.errors import LedgerError
from pangate.model import Event


class Slow:
    """Gathers nothing by itself."""

    def __init__(self, places, room):
        self.__dict__["inner"] = Gather(places, room)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __setattr__(self, name, value):
        setattr(self.inner, name, value)

    def take(self, lines, most, slow):
        count, last = 0, None
        for last in lines:
            slow(last)
            count += 1
            if count == most:
                break
        return count, last


def everything(path):
    with sqlite3.connect(path) as db:
        tables = ("terms", "postings", "blocks", "running", "samples", "meta", "words_data")
        found = {
            name: db.execute(f"select * from {name} order by 1, 2").fetchall() for name in tables
        }
    db.close()
    found["meta"] = [row for row in found["meta"] if row[0] != "made"]
    return found


def indexed(directory, data, monkeypatch, slow, most=None):
    directory.mkdir()
    path = directory / "audit.jsonl"
    path.write_bytes(data)
    with monkeypatch.context() as patched:
        if slow:
            patched.setattr(writer, "Gather", Slow)
        index = Index(Record(path))
        while index.catch_up(most):
            pass
    return everything(index.path)


def odd_leaves(seed):
    """Events that are not as nearly always, in one way each, between others."""
    chance = random.Random(seed)
    encode = leaf_encoder()
    texts = (
        "", "select 1", "select\n\t1\r", 'select "a", \'b\\c\'', "sélect 💳", "select \x01", "x" * 70_000,
        "select '\u2028'", "\\u0041", "null", '","masked":{"visa":1},"x":"',
    )  # fmt: skip
    parameters = (
        (), None, ("1",), (None,), ("a", None, "b"), ("",), ("",) * 3, ('"],["', "\\"), ("\x02",), "text",
        5,
        ("a", 5), ({"a": 1},), ("y" * 66_000,),
    )  # fmt: skip
    extra = (
        {}, {}, {}, {}, {"request": "abc"}, {"error": "42P01"}, {"note": "n"}, {"reason": "r"},
        {"application": "a"}, {"detail": "d"}, {"role": "other"},
        {"unknown": {"text": "no", "list": [1, {"a": "]}"}]}},
        {"masked": {"visa": 2}}, {"masked": {}}, {"masked": {"visa": 0}}, {"masked": []},
        {"verdict": 5}, {"effects": []}, {"effects": "read"}, {"number": -1},
        {"number": "7"}, {"number": 10**17}, {"rule": ""},
        {"deep": [[[[[[[[[[[[1]]]]]]]]]]]]}, {"a\\b": 1}, {'"': 1},
    )  # fmt: skip
    for sequence in range(1, 3001):
        session = f"session{chance.randrange(5)}" if chance.random() < 0.97 else 's"\\'
        data = {"number": chance.randrange(30)}
        code = chance.choice(("statement.allowed", "statement.allowed", "statement.finished"))
        if code == "statement.allowed":
            data |= {
                "text": chance.choice(texts), "verdict": "allow", "rule": "rule:read", "effects": ["read"],
                "relations": chance.choice(([], ["a.b"], ["a.b", "c.d"], ['e"f'])),
            }  # fmt: skip
            given = chance.choice(parameters)
            data |= {} if given is None else {"parameters": given}
        else:
            data |= {"masked": {}, "rows": 1, "bytes": 5, "seconds": 0.25}
        data |= chance.choice(extra)
        if chance.random() < 0.02:
            code = chance.choice(("session.end", "log.start", "statement.denied", "session.start"))
        role = chance.choice(("reader", "reader", "writer", ""))
        resource = chance.choice(("payments", "payments", 'odd "one"'))
        event = Event(code, records.BEGAN + sequence / 100, session, "https://id#job", "10.0.0.1:5", resource,
                      chance.random() < 0.9, data, "abc", role, 0)  # fmt: skip
        yield encode(event, sequence)


def test_of_a_long_record_it_is_the_same(tmp_path, monkeypatch):
    lines = [leaf + b"\n" for leaf in records.leaves(30_000, seconds=2.0)]
    data = b"".join(lines)
    slow = indexed(tmp_path / "slow", data, monkeypatch, slow=True)
    assert indexed(tmp_path / "fast", data, monkeypatch, slow=False) == slow


@pytest.mark.parametrize("seed", range(3))
def test_of_odd_events_it_is_the_same(tmp_path, monkeypatch, seed):
    data = b"".join(leaf + b"\n" for leaf in odd_leaves(seed))
    slow = indexed(tmp_path / "slow", data, monkeypatch, True, 700)
    assert indexed(tmp_path / "fast", data, monkeypatch, False, 700) == slow


def test_what_is_as_nearly_always_goes_the_fast_way():
    slow = []
    lines = [Line(n, 0, leaf) for n, leaf in enumerate(records.leaves(5000), 1)]
    count, last = Gather(lambda sample: [], 100).take(iter(lines), 5000, slow.append)
    assert (count, last) == (5000, lines[-1])
    codes = [json.loads(line.data)["code"] for line in slow]
    others = sum(not code.startswith("statement.") or code == "statement.denied" for code in codes)
    assert len(codes) - others < 300  # those in which something was masked, or that failed
    assert len(codes) < 1500


def test_only_as_many_as_are_wanted_are_taken():
    lines = iter([Line(n, 0, leaf) for n, leaf in enumerate(records.leaves(10), 1)])
    gather = Gather(lambda sample: [], 100)
    assert gather.take(lines, 4, lambda line: None)[0] == 4
    assert next(lines).sequence == 5
    assert gather.take(iter([]), 4, lambda line: None) == (0, None)
    for wrong in (b"line", (1, 2), None):
        with pytest.raises(TypeError, match="tuple"):
            gather.take([wrong], 1, lambda line: None)


def statement():
    return next(leaf for leaf in records.leaves(1000) if b'"statement.allowed"' in leaf)


def test_a_line_that_is_cut_or_changed_goes_the_slow_way():
    leaf, slow = statement(), []
    gather = Gather(lambda sample: [], 100)
    broken = [leaf[:end] for end in range(len(leaf))]
    for at in range(len(leaf)):
        for byte in (0, 34, 44, 58, 91, 92, 93, 123, 125, leaf[at] ^ 1):
            if byte != leaf[at]:
                broken.append(leaf[:at] + bytes([byte]) + leaf[at + 1 :])
    lines = [Line(1, 0, one) for one in broken]
    assert gather.take(lines, len(lines), slow.append)[0] == len(slow) == len(lines)
    assert not gather.heads
    assert not gather.sequences.size


def test_times_are_those_of_the_calendar():
    encode = leaf_encoder()
    for days in range(0, 40_000, 7):
        for clock in ("00:00:00.000000", "23:59:59.999999", "12:34:56.789012"):
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)
            text = f"{moment:%Y-%m-%d}T{clock}Z"
            data = {"number": 1, "masked": {}}
            event = Event("statement.finished", 0.0, "s", "p", "o", "r", True, data, "c", "role", 1)
            gather = Gather(lambda sample: [], 100)
            line = _with_time(encode(event, 1), text)
            gather.take([Line(1, 0, line)], 1, pytest.fail)
            said = datetime.fromisoformat(text)
            micros = (said - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            assert int.from_bytes(gather.times.tobytes(), "little") == micros


@pytest.mark.parametrize("text", [
    "2026-02-29T00:00:00.000000Z", "2026-13-01T00:00:00.000000Z", "2026-04-31T00:00:00.000000Z",
    "2026-01-01T24:00:00.000000Z", "2026-01-01 00:00:00.000000Z", "1969-12-31T00:00:00.000000Z",
])  # fmt: skip
def test_what_is_no_time_goes_the_slow_way(text):
    slow = []
    line = _with_time(statement(), text)
    Gather(lambda sample: [], 100).take([Line(1, 0, line)], 1, slow.append)
    assert len(slow) == 1


def _with_time(leaf, text):
    """The leaf with another time, and the check that is right for it."""

    at = leaf.rindex(b'"time":"') + 8
    changed = leaf[:at] + text.encode() + leaf[at + 27 :]
    body = changed[:-20]
    check = zlib.crc32(body)
    letters = bytes(97 + (check >> (28 - 4 * i) & 15) for i in range(8))
    return body + b',"whole":"' + letters + b'"}'


def test_lines_are_split_where_they_end():
    leaves = list(records.leaves(50))
    data = b"\0\0" + b"\n".join(leaves[:20]) + b"\n\0\0\0" + b"\n".join(leaves[20:])
    found, taken = split(data, 1000, Line, lambda line, offset: 0)
    assert [line.data for line in found] == leaves[:49]  # the last one may go on
    assert [line.sequence for line in found] == list(range(1, 50))
    assert all(type(line) is Line for line in found)
    for line in found:
        begin = line.offset - 1000
        assert data[begin : begin + len(line.data)] == line.data
    assert data[taken:] == leaves[49]


def test_a_line_without_a_sequence_is_asked_for():
    asked = []

    def number(line, offset):
        asked.append((line, offset))
        return 7

    assert split(b"what\n\nrest", 5, Line, number) == ([Line(7, 5, b"what"), Line(7, 10, b"")], 6)
    assert asked == [(b"what", 5), (b"", 10)]

    def refuse(line, offset):
        raise LedgerError("no event")

    with pytest.raises(LedgerError):
        split(b"what\n", 0, Line, refuse)
    for wrong in (list, dict, 5):
        with pytest.raises(TypeError):
            split(b"", 0, wrong, number)
