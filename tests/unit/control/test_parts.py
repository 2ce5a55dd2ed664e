"""What pages are made of: texts laid out, charts, and the record read backwards."""

from __future__ import annotations

import datetime
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate.audit.several import last_sequence, place_of, place_text
from pangate.control.console import records, texts
from pangate.control.console.charts import MOST_SERIES, OTHERS, chart
from pangate.control.console.records import Records, Wanted
from pangate.errors import LedgerError

STATEMENTS = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(["select", "from", "where", "(", ")", ",", ";", "'a  b'", "--x\n", "/*", "*/",
                         "$$", "case", "end", "\"c\"", "1", " ", "\n", "begin", "join", "and"]),
        max_size=40,
    ).map(" ".join),
)  # fmt: skip


@settings(deadline=None)
@given(STATEMENTS)
def test_laying_out_changes_white_space_alone(text):
    made = texts.laid_out(text)
    assert made == "" or "".join(made.split()) == "".join(text.split())


@settings(deadline=None)
@given(STATEMENTS)
def test_colours_change_nothing(text):
    made = texts.coloured(text)
    plain = re.sub(r"</?span[^>]*>", "", str(made))
    assert texts.Markup(plain).unescape() == texts.visible(text).replace("\r\n", "\n")
    assert re.findall(r"<(?!/?span)", str(made)) == []


def test_a_long_statement_is_shown_as_it_is():
    long = "select 1 from a where b; " * 4000
    assert texts.laid_out(long) == ""
    assert "<span" not in texts.coloured(long)
    assert texts.laid_out("select 1") == ""
    assert texts.laid_out("select a from b where c") == "select a\nfrom b\nwhere c"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0 s"), (5, "5 s"), (65, "1 min 5 s"), (120, "2 min"), (3700, "1 h 1 min"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_lasting(seconds, said):
    assert texts.lasting(seconds) == said


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["2026-11-01", "2026-11-02", "2026-11-03"]),
        st.dictionaries(st.text("abcdefghij", min_size=1, max_size=1), st.integers(1, 10**6), max_size=10),
        max_size=3,
    )
)  # fmt: skip
def test_charts_count_everything_once(counts):
    times = ["2026-11-01", "2026-11-02", "2026-11-03"]
    made = chart("x", times, counts)
    total = sum(sum(one.values()) for one in counts.values())
    assert made.total == total == sum(sum(row) for _, row in made.rows)
    assert len(made.names) <= MOST_SERIES
    assert all(bar.height >= 0 and 0 <= bar.y <= 170 and 0 <= bar.x <= 440 for bar in made.bars)
    if len(made.names) == MOST_SERIES and OTHERS in made.names:
        assert made.names[-1] == OTHERS


# --- the record by its index -------------------------------------------------------------------


def line(number: int, **changes: object) -> dict[str, object]:
    return {
        "v": 2, "sequence": number, "code": "statement.allowed",
        "time": f"2026-11-{number % 28 + 1:02d}T10:00:00.000000Z", "principal": "i#job", "origin": "o:1",
        "resource": "payments", "role": "r", "session": "s", "statement": number, "success": True,
        "config": "", "clock": "unknown",
        "data": {"number": number, "text": f"select word{number} from cards", "verdict": "allow",
                 "relations": ["cards"]}, **changes,
    }  # fmt: skip


def write(path, events) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps(one, separators=(",", ":"), sort_keys=True) for one in events]
    path.write_text("\n".join(lines) + '\n{"torn":')


def written(path, events) -> Records:
    write(path, events)
    return Records(path)


def numbers(page) -> list[int]:
    return [one.event["sequence"] for one in page.rows]


async def test_pages_of_a_search(tmp_path):
    made = written(tmp_path / "a.jsonl", [line(number) for number in range(1, 40)])
    found, before = [], None
    while True:
        page = await made.search(Wanted(), before, most=7)
        found += numbers(page)
        assert len(page.rows) <= 7
        if page.on is None:
            break
        before = page.on
    assert found == list(range(39, 0, -1))
    assert (await made.search(Wanted(), most=39)).on is None


async def test_what_is_wanted(tmp_path):
    events = [
        line(1), line(2, success=False, code="statement.denied"), line(3, principal="i#ada"),
        line(4, resource="ledger"), line(5, session="t"),
        line(6, code="statement.finished", statement=5, session="t",
             data={"number": 5, "rows": 2, "masked": {"visa": 3, "amex": 1}}),
        line(7, data={"text": 'say "h\u00e9" twice', "relations": ["notes"]}),
    ]  # fmt: skip
    made = written(tmp_path / "a.jsonl", events)

    async def found(**wanted):
        return numbers(await made.search(Wanted(**wanted)))

    assert await found(failures=True) == [2]
    assert await found(code="statement.d") == []
    assert await found(code="statement.denied") == [2]
    assert await found(code="statement.") == [7, 6, 5, 4, 3, 2, 1]
    assert await found(principal="ada") == [3]
    assert await found(resource="ledger") == [4]
    assert await found(session="t") == [5]
    assert await found(table="notes") == [7]
    assert await found(text="WORD3 cards") == [3]
    assert await found(text="h\u00e9") == [7]
    assert await found(masked=4) == [5]
    assert await found(masked=5) == []
    assert await found(after="2026-11-04", before="2026-11-05") == [4, 3]
    (one,) = (await made.search(Wanted(session="t"))).rows
    assert one.ended["data"]["rows"] == 2
    with pytest.raises(LedgerError, match="no word"):
        await found(text="!!")


async def test_sessions_and_how_they_ended(tmp_path):
    def start(number, session):
        return line(number, code="session.start", session=session)

    events = [
        line(1, code="log.start"), start(2, "gone"), start(3, "done"),
        line(4, code="session.end", session="done", data={"rows": 3}),
        line(5, code="log.start"), start(6, "now"),
    ]  # fmt: skip
    made = written(tmp_path / "a.jsonl", events)
    page = await made.sessions()
    assert [(one.start["session"], one.state) for one in page.rows] == [
        ("now", "open"), ("done", "ended"), ("gone", "broken off"),
    ]  # fmt: skip
    first = await made.sessions(most=2)
    assert [one.start["session"] for one in (await made.sessions(first.on, 2)).rows] == ["gone"]
    assert (await made.session("done"))[0].end["data"] == {"rows": 3}
    for name in ("nobody", "../x"):
        with pytest.raises(LedgerError):
            await made.session(name)


async def test_counts(tmp_path):
    def day(number: int) -> float:
        return datetime.datetime(2026, 11, number, tzinfo=datetime.UTC).timestamp()

    events = [
        line(1), line(2, data={"number": 2, "verdict": "deny"}),
        line(3, code="statement.finished", statement=2, data={"number": 2, "masked": {"visa": 2}}),
        line(4, code="session.start", resource="ledger", data={}),
        line(5, code="approval.requested", data={}),
    ]  # fmt: skip
    made = written(tmp_path / "a.jsonl", events)
    found = await made.counts(
        [("2", day(2)), ("3", day(3)), ("4", day(4)), ("5", day(5)), ("6", day(6))]
    )
    assert found.masked["3"] == {"payments": 2}
    assert found.statements == {
        "2": {"allow": 1}, "3": {"deny": 1}, "4": {}, "5": {}, "6": {"hold": 1},
    }  # fmt: skip
    assert found.sessions["5"] == {"sessions": 1}
    assert found.sessions["2"] == {}
    for by, value in (("network", "visa"), ("role", "r"), ("principal", "i#job")):
        found = await made.counts([("3", day(3)), ("4", day(4))], by)
        assert found.masked["3"] == {value: 2}
        assert sum(found.masked["4"].values()) == 0
        assert found.statements["3"] == {"deny": 1}


async def test_the_index_is_caught_up_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "AT_A_TIME", 10)
    made = written(tmp_path / "a.jsonl", [line(number) for number in range(1, 26)])
    page = await made.search(Wanted())
    assert (numbers(page)[0], page.behind) == (10, True)
    assert (await made.search(Wanted())).behind
    page = await made.search(Wanted())
    assert (numbers(page)[0], page.behind) == (25, False)


def at(second: int) -> str:
    return f"2026-11-02T10:00:{second:02d}.000000Z"


async def test_the_records_of_all_workers_are_one(tmp_path):
    """Each has sequences of its own, some the same as another's; times say what comes after what."""
    write(tmp_path / "a.jsonl", [
        line(1, code="log.start", time=at(0)),
        line(2, code="approval.requested", time=at(5), session="one", data={"request": "r"}),
        line(3, code="console.viewed", time=at(30), session="-", data={}),
    ])  # fmt: skip
    write(tmp_path / "worker-1" / "a.jsonl", [
        line(1, code="log.start", time=at(1)),
        line(2, code="session.start", time=at(2), session="one", data={}),
        line(3, time=at(4), session="one", statement=1),
        line(4, code="statement.finished", time=at(6), session="one", statement=1,
             data={"number": 3, "masked": {"visa": 2}}),
        line(5, time=at(20), session="one", principal="i#ada"),
        line(6, code="session.end", time=at(21), session="one", data={"rows": 1}),
    ])  # fmt: skip
    write(tmp_path / "worker-2" / "a.jsonl", [
        line(1, code="log.start", time=at(1)),
        line(2, code="session.start", time=at(3), session="two", data={}),
        line(3, time=at(10), session="two", resource="ledger"),
    ])  # fmt: skip
    write(tmp_path / "worker-10" / "a.jsonl", [
        line(1, code="log.start", time=at(1)),
        line(2, code="session.start", time=at(25), session="old", data={}),
    ])  # fmt: skip
    made = Records(tmp_path / "a.jsonl", workers=2)
    page = await made.search(Wanted(), most=100)
    every = [(one.source, one.event["sequence"]) for one in page.rows]
    assert [one.event["time"] for one in page.rows] == sorted(
        (one.event["time"] for one in page.rows), reverse=True
    )
    assert len(every) == 13, "how the statement ended is told with it"
    assert every[:3] == [("first", 3), ("worker-10", 2), ("worker-1", 6)]
    (masked,) = (await made.search(Wanted(masked=2))).rows
    assert masked.ended["data"]["masked"] == {"visa": 2}
    # a page goes on where the one before it ended, in each of the records
    for most in (1, 2, 3, 5):
        found, before = [], None
        while True:
            page = await made.search(Wanted(), before, most)
            found += [(one.source, one.event["sequence"]) for one in page.rows]
            if page.on is None:
                break
            before = place_of(place_text(page.on))
        assert found == every
    sessions = (await made.sessions()).rows
    assert [(one.source, one.start["session"], one.state) for one in sessions] == [
        ("worker-10", "old", "broken off"), ("worker-2", "two", "open"), ("worker-1", "one", "ended"),
    ]  # fmt: skip
    session, directory = await made.session("one")
    assert (sorted(session.commands), directory) == ([3, 5], tmp_path / "worker-1")
    found = await made.counts([("now", records._day("2026-11-02"))])
    assert found.masked["now"] == {"payments": 2, "ledger": 0}
    assert found.sessions["now"] == {"sessions": 3}


async def test_a_record_that_comes_later_is_no_part_of_older_pages(tmp_path):
    write(tmp_path / "a.jsonl", [line(1, time=at(1)), line(2, time=at(2))])
    made = Records(tmp_path / "a.jsonl", workers=1)
    first = await made.search(Wanted(), most=1)
    assert numbers(first) == [2]
    write(tmp_path / "worker-1" / "a.jsonl", [line(9, time=at(0))])
    assert numbers(await made.search(Wanted(), first.on)) == [1]
    assert numbers(await made.search(Wanted())) == [2, 1, 9]


@pytest.mark.parametrize(
    "text", ["", "12", "x", "1-", "0-1.", "0-1..1-2", "0-1\n", "\u0661-1", "0-" + "1" * 19]
)
def test_what_is_no_place(text):
    assert place_of(text) is None


async def test_what_is_no_record(tmp_path):
    (tmp_path / "a.jsonl").write_text("nonsense\n")
    with pytest.raises(LedgerError):
        await Records(tmp_path / "a.jsonl").search(Wanted())
    with pytest.raises(LedgerError):
        await Records(tmp_path / "b" / "c.jsonl").search(Wanted())


def test_the_last_sequence_of_a_file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("")
    assert last_sequence(path) == 0
    write(path, [line(1), line(2, data={"text": "x" * 200_000})])
    assert last_sequence(path) == 2
    path.write_text("\0" * 70_000)
    assert last_sequence(path) == 0
