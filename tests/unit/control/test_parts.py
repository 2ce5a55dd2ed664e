"""What pages are made of: texts laid out, charts, and the record read backwards."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(STATEMENTS)
def test_laying_out_changes_white_space_alone(text):
    made = texts.laid_out(text)
    assert made == "" or "".join(made.split()) == "".join(text.split())


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


# --- the record backwards ----------------------------------------------------------------------


def line(number: int, **changes: object) -> dict[str, object]:
    return {
        "sequence": number, "code": "statement.allowed", "time": f"2026-11-{number % 28 + 1:02d}T10:00:00Z",
        "principal": "i#job", "origin": "o", "resource": "payments", "session": "s", "success": True,
        "data": {"text": f"select {'x' * (number * 7 % 50)}"}, **changes,
    }  # fmt: skip


def written(path, events, end="\n"):
    path.write_text("\n".join(json.dumps(one, separators=(",", ":")) for one in events) + end)
    return Records(path)


@pytest.mark.parametrize("size", [7, 64, 1000, 1 << 18])
@pytest.mark.parametrize("end", ["\n", '\n{"torn":'])
async def test_whole_lines_from_the_end(tmp_path, monkeypatch, size, end):
    monkeypatch.setattr(records, "BLOCK_BYTES", size)
    events = [line(number) for number in range(1, 40)]
    made = written(tmp_path / "a", events, end)
    found, at = [], None
    while True:
        page = await made.search(Wanted(), at, most=7)
        found += page.rows
        if page.on is None:
            break
        at = page.on
    assert [one["sequence"] for one in found] == list(range(39, 0, -1))
    assert (await written(tmp_path / "b", [line(1)]).search(Wanted())).rows == [line(1)]
    (tmp_path / "c").touch()
    assert (await Records(tmp_path / "c").search(Wanted())).rows == []


async def test_only_so_much_is_looked_at_for_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_BYTES", 2000)
    made = written(tmp_path / "a", [line(number) for number in range(1, 200)])
    page = await made.search(Wanted(text="nowhere"))
    assert page.rows == []
    assert page.on
    assert page.oldest
    assert not (await made.counts("2026", 10)).whole


async def test_what_is_wanted(tmp_path):
    events = [
        line(1), line(2, success=False, code="statement.denied"), line(3, principal="i#ADA"),
        line(4, resource="ledger"), line(5, session="t"), line(6, data={"text": 'say "hé"'}),
    ]  # fmt: skip
    made = written(tmp_path / "a", events)

    async def found(**wanted):
        return [one["sequence"] for one in (await made.search(Wanted(**wanted))).rows]

    assert await found(failures=True) == [2]
    assert await found(code="statement.d") == [2]
    assert await found(principal="ada") == [3]
    assert await found(resource="ledger") == [4]
    assert await found(session="t") == [5]
    assert await found(text="SELECT") == [5, 4, 3, 2, 1]
    assert await found(after="2026-11-04", before="2026-11-05") == [4, 3]


async def test_sessions_and_how_they_ended(tmp_path):
    def start(number, session):
        return line(number, code="session.start", session=session)

    events = [
        line(1, code="log.start"), start(2, "gone"), start(3, "done"),
        line(4, code="session.end", session="done", data={"rows": 3}),
        line(5, code="log.start"), start(6, "now"),
    ]  # fmt: skip
    page = await written(tmp_path / "a", events).sessions()
    assert [(one.start["session"], one.state) for one in page.rows] == [
        ("now", "open"), ("done", "ended"), ("gone", "broken off"),
    ]  # fmt: skip


async def test_counts(tmp_path):
    events = [
        line(1), line(2, code="statement.denied", time="2026-11-03T09"),
        line(3, code="statement.finished", data={"masked": {"visa": 2}}),
        line(4, code="statement.finished", data={"masked": {"visa": 1, "amex": 1}}, time="2026-11-04T11"),
        line(5, code="approval.requested"), line(6, code="session.start"),
    ]  # fmt: skip
    found = await written(tmp_path / "a", events).counts("2026-11-03", 10)
    assert found.masked == {"2026-11-04": {"visa": 3, "amex": 1}}
    assert found.statements == {"2026-11-03": {"denied": 1}, "2026-11-06": {"held": 1}}
    assert found.sessions == {"2026-11-07": 1}


async def test_what_is_no_record(tmp_path):
    (tmp_path / "a").write_text("nonsense\n")
    with pytest.raises(LedgerError, match="no event"):
        await Records(tmp_path / "a").search(Wanted())
    with pytest.raises(LedgerError, match="cannot be read"):
        await Records(tmp_path / "b").search(Wanted())
