"""Which columns of a text's results carry what must not be shown: a corpus with the answers written by hand,
and the same answers under any case, comments and quoting."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate.protocols.postgres.carriers import Carriers
from pangate.protocols.postgres.catalog import NameRules
from pangate.sql import Given, lineage, settled
from pangate.sql.carried import EVERYTHING, MASK, ROW, WIPE, Lineage
from pangate.sql.tree import MAX_TEXT

CORPUS = Path(__file__).parents[2] / "corpus" / "lineage.csv"
COLUMNS = ("id", "holder", "pan", "cvv", "doc", "n", "pin")
SHOWN = "SELECT cards.id, cards.cvv AS x, (cards.cvv IS NOT NULL) AS has FROM pay.cards;"
AGAIN = "SELECT (shown.x || ''::text) AS y FROM pay.shown;"


def carriers(
    given_: dict[str, str] | None = None, definitions: list[tuple[str, ...]] | None = None
) -> Carriers:
    """A database with pay.cards and two views over it."""
    named = [
        ("70", str(number), "pay", "cards", name, "1", "0")
        for number, name in enumerate(COLUMNS, 1)
        if name in ("cvv", "pin", "pan")
    ]
    named.append(("90", "1", "pay", "rows", "r", "0", "70"))
    uses = [("80", "70", "1"), ("80", "70", "4"), ("81", "80", "2"), ("82", "70", "1")]
    if definitions is None:
        definitions = [("80", "shown", SHOWN), ("81", "again", AGAIN)]
    names = [("80", "shown"), ("81", "again"), ("82", "harmless")]
    return Carriers(NameRules(given_ or {}), named, uses, names, definitions)


KNOWN = carriers()


def shown(found: Lineage) -> str:
    """As the corpus has it: indexes, `r` behind what is a row that JSON may show, `+` for all from there."""
    words = [f"{i}{'r' if bits == ROW else ''}" for i, bits in enumerate(found.columns) if bits]
    return " ".join(words + [f"{len(found.columns)}+"] * bool(found.rest))


def rows() -> list[dict[str, str]]:
    with CORPUS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_corpus(row):
    assert shown(lineage(row["sql"], KNOWN)) == row["carried"]


# --- in whatever form ------------------------------------------------------------------------------

ATTACKS = [
    row for row in rows() if row["carried"] == "0" and row["name"] not in ("comments", "no SQL")
]
SPLIT = re.compile(r"""(E?'(?:[^'])*'|U&"[^"]*"|"[^"]*"|\$\$.*?\$\$)|([a-z_][a-z_0-9]*)|(\s+)""")
BETWEEN = st.sampled_from((" ", "\n", "\t ", " /* 'x */ ", '/*/* " */*/ ', " -- it's\n", "\r\n"))


@st.composite
def disguised(draw) -> tuple[str, str]:
    """A statement of the corpus in other case, with other space."""
    row = draw(st.sampled_from(ATTACKS))

    def other(found: re.Match[str]) -> str:
        if found[2]:
            return "".join(draw(st.sampled_from((c, c.upper()))) for c in found[2])
        return draw(BETWEEN) if found[3] else found[0]

    return SPLIT.sub(other, row["sql"]), row["name"]


@settings(max_examples=200, deadline=None)
@given(disguised())
def test_case_comments_and_space_change_nothing(made):
    sql, name = made
    assert shown(lineage(sql, KNOWN)) == "0", (name, sql)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=12).filter(lambda name: "\0" not in name))
def test_quoted_names_are_followed(name):
    quoted = '"' + name.replace('"', '""') + '"'
    sql = f"with q as (select cvv as {quoted} from pay.cards) select {quoted} || '' as x from q"
    assert lineage(sql, KNOWN).of(0)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_breaks_it(text):
    for each in (text, "select " + text):
        assert lineage(each, KNOWN) == lineage(each, KNOWN)


@pytest.mark.parametrize(
    "sql",
    [
        "select " + "(" * 5000 + "cvv" + ")" * 5000 + " || ''",
        "select " + "cvv || " * 2000 + "''",
        "select cvv || ''" + " " * MAX_TEXT,
        "with recursive "
        + ", ".join(f"a{i} as (select x{i + 1} as x{i} from a{i + 1})" for i in range(100))
        + ", a100 as (select cvv as x100 from pay.cards) select x0 || '' from a0",
    ],
)
def test_what_is_too_much_counts_as_everything(sql):
    assert lineage(sql, KNOWN).of(0) & WIPE


def test_views_that_rest_on_one_another_are_read_once_each():
    session = Given()
    session.note("create temp view v0 as select cvv as a, cvv as b from pay.cards")
    for i in range(1, 100):
        session.note(f"create temp view v{i} as select x.a, y.b from v{i - 1} x, v{i - 1} y")
    assert lineage("select a || '' as x from v99", KNOWN, session).of(0) & WIPE


# --- parameters, rules, sessions -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "carried"),
    [(("cvv",), WIPE), (("note",), 0), ((None,), 0), ((), WIPE), (("{a,CVV2}",), WIPE)],
)
def test_a_key_that_is_a_parameter(values, carried):
    found = lineage("select doc->>$1 as x, id + 1 from pay.cards", KNOWN)
    assert settled(found.of(0), values, KNOWN) == carried
    assert not found.of(1)


def test_rules_that_mask_and_rules_of_one_table():
    known = Carriers(
        NameRules({"acct": "mask", "pay.cards.code": "wipe"}),
        [
            ("1", "1", "pay", "cards", "code", "1", "0"),
            ("1", "2", "pay", "cards", "acct", "1", "0"),
        ],
        [],
        [],
        [],
    )
    assert lineage("select acct || '' as x from pay.cards", known) == Lineage((MASK,))
    assert lineage("select code || '' as x from pay.cards", known).of(0) == WIPE
    assert not lineage("select code || '' as x from pay.other", known)
    assert lineage("select to_jsonb(c) from pay.cards c", known).of(0) & WIPE, "JSON knows no table"


def test_a_pin_that_is_a_number_elsewhere():
    """`pin` and `cid` are other things as well: they count where some text column has that name."""
    assert lineage("select pin::int as x from pay.cards", KNOWN)
    known = Carriers(NameRules({}), [("1", "1", "pay", "t", "cid", "0", "0")], [], [], [])
    assert not lineage("select max(cid) + 1 as x from pay.t", known)
    assert lineage("select doc->>'cid' as x from pay.t", known)


def test_views_whose_definition_is_not_known():
    """Every column of theirs counts, when they use a sensitive one."""
    known = Carriers(
        NameRules({}),
        [("70", "4", "pay", "cards", "cvv", "1", "0")],
        [("80", "70", "4"), ("81", "80", "0"), ("82", "70", "1")],
        [("80", "shown"), ("81", "again"), ("82", "harmless")],
        None,
    )
    assert [known.carried(oid, 9) for oid in (80, 81, 82)] == [WIPE, WIPE, 0]
    assert lineage("select id + 1 as x from pay.again", known).of(0) & WIPE
    assert not lineage("select id + 1 as x from pay.harmless", known)


def test_views_by_their_definition():
    assert [KNOWN.carried(80, i) for i in (1, 2, 3)] == [0, WIPE, 0]
    assert KNOWN.carried(81, 1) == WIPE
    assert KNOWN.carried(90, 1) == WIPE, "a column that is a row of such a table"


def test_a_session_that_names_too_much():
    session = Given()
    for i in range(300):
        session.note(f"prepare p{i} as select {i}")
    assert lineage("execute p299", KNOWN, session) == Lineage((0,))
    assert lineage("execute p1", KNOWN, session) == EVERYTHING, "forgotten"
    for i in range(300):
        session.note(f"create temp table t{i} (a int)")
    assert lineage("select a + 1 as x from t1", KNOWN, session).of(0) & WIPE
    assert lineage("select 1 + 1 as x", KNOWN, session) == Lineage((0,))


def test_a_name_with_two_meanings_has_both():
    session = Given()
    session.note("prepare p as select cvv || '' from pay.cards")
    session.note("prepare p as select 1, id + 1 from pay.cards")
    assert lineage("execute p", KNOWN, session).of(0) & WIPE
    session.forget()
    assert lineage("execute p", KNOWN, session) == EVERYTHING
    session.note("create table broken (")
    assert lineage("select a + 1 as x from t", KNOWN, session).of(0) & WIPE


def test_what_parse_prepared_is_executed_in_SQL():  # noqa: N802
    session = Given({"s": "select cvv || '' from pay.cards", "t": "select 1 + 1"}.get)
    assert lineage("execute s", KNOWN, session).of(0) == WIPE
    assert not lineage("execute t", KNOWN, session)
