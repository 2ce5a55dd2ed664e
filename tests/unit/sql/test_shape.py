"""The C lexer that takes literals out of a text, against the server's own parser: what has a shape is read
as the server reads it."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pgparse
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate import sql
from pangate._shape import shape

CORPUS = Path(__file__).parents[2] / "corpus" / "sql.csv"
TEXTS = [row["sql"] for row in csv.DictReader(CORPUS.read_text("utf-8").splitlines(keepends=True))]


def without_constants(node: Any) -> Any:
    """A tree without places and without what is constant: None, and no item of a list."""
    if isinstance(node, list):
        return [kept for kept in map(without_constants, node) if kept is not None]
    if not isinstance(node, dict):
        return node
    if "A_Const" in node or "SetToDefault" in node:
        return None
    made = {
        key: without_constants(value) for key, value in node.items() if not key.endswith("location")
    }
    holds = ("ResTarget", "TypeCast", "A_Expr", "SortBy", "List", "RowExpr", "CollateClause")
    if len(node) == 1 and next(iter(node)) in holds and not mentions(node):
        return None
    return made


def mentions(node: Any) -> bool:
    """Whether a column, a call, a query or a parameter is in it."""
    if isinstance(node, dict):
        return any(
            key in ("ColumnRef", "FuncCall", "SubLink", "ParamRef") or mentions(value)
            for key, value in node.items()
        )
    return isinstance(node, list) and any(map(mentions, node))


def trees(text: str) -> Any:
    return [without_constants(statement["stmt"]) for statement in pgparse.parse(text)]


def check(text: str) -> bool:
    """Whether `text` has a shape and parses; then both have to be the same but for constants."""
    try:
        whole = trees(text)
    except (pgparse.PGQueryError, RecursionError):
        return False
    reduced = shape(text)
    if reduced is None:
        return False
    assert trees(reduced) == whole, reduced
    assert shape(reduced) == reduced
    return True


@pytest.mark.parametrize("text", TEXTS)
def test_corpus(text):
    # NULLIF of one argument is no statement any more, and none that stands for another
    if sql.understand(text).constant and "nullif" not in text:
        check(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1", "select 0"),
        ("select  'a''b'  , t.c1\t", "select '' , t.c1 "),
        ("select 1.5e-3 + .5 + 0x1F + 1_000", "select 0 + 0 + 0 + 0"),
        ("select e'a\\'b' from t", "select '' from t"),
        ("select $a$ $$ '$a$ from t", "select '' from t"),
        ('select "a""1" , $1', 'select "a""1" , $1'),
        ("select 1 -- one 'x\nfrom t", "select 0\nfrom t"),
        ("select 1 /* /* 'x */ */ from t", "select 0 from t"),
        ("where a in (1, 2, 'x', null, -5)", "where a in (0)"),
        ("insert into t values (1, 'a'), (2, 'b'),(3,null)", "insert into t values (0)"),
        ("values (1, now()), (2, now())", "values (0, now()), (0, now())"),
        ("select f(1), (2)", "select f(0), (0)"),
        ("limit (null)", "limit (null)"),
        ("select null, 1", "select null, 0"),
        ("select a - 1, b -1, -1", "select a - 0, b -0"),
        ("", ""),
    ],
)
def test_what_a_shape_is(text, expected):
    assert shape(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "select '", "select e'a\\'", 'select "', "select $$", "select $a$ $b$", "select /* /* */",
        "select u&'\\0041'", 'select U&"a"', "select b'1'", "select X'1f'", "select n'x'", "select 1a",
        "select 1$a", "select date'2020-01-01'", "select e'a'\n'\\''", "select e'a' -- x\n '\\''",
        "select $$a$$'b'", "select 1.5.6", "select \ud800",
    ],
)  # fmt: skip
def test_what_has_none(text):
    assert shape(text) is None


PIECES = [
    "select", "values", "from t", "where", "union all", "limit", "null", "default", "true", "in", "and",
    "a", "t.b", '"q"', '"q""r"', "f(", "(", ")", "((", "))", ",", ", ", " ,", "+", "-", "- ", "||", "=", "::",
    "int", "::text", ".", "*", ";", "1", "23", "1.5", ".5", "5.", "1e5", "1e", "0x1f", "1_0", "'a'", "'b''c'",
    "'\\'", "e'\\''", "E'\\\\'", "e'x''y'", "''", "$$x$$", "$t$ ' $t$", "$t$ $$ $t$", "$1", "$2", "x'1f'",
    "u&'\\0041'", "n'x'", "--c\n", "-- '\n", "/* ' */", "/* /* */ */", "/*", "*/", "\n", "\t", " ", " ", " ",
    "é", "e", "u&", "'", '"', "$$", "$t$", "\\",
]  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_any_pieces(text):
    check("select " + text)


def test_pieces_at_random_are_not_all_refused():
    """The test above tests something: of random lists of a grammar, most have a shape."""
    chosen = random.Random(7)
    literals = ["1", "-2", "'a'", "e'\\''", "null", "$$x$$", "1.5", "default"]
    others = ["now()", "a", "(1)", "f(2, 3)", "a + 1", "'x'::text", "(1, 'x')", "-a", '"q"']
    found = 0
    for _ in range(3000):
        rows = [
            ", ".join(
                chosen.choice(literals if chosen.random() < 0.7 else others)
                for _ in range(chosen.randrange(1, 5))
            )
            for _ in range(chosen.randrange(1, 4))
        ]
        found += check("insert into t values " + ",".join(f"({row})" for row in rows))
        found += check(f"select {rows[0]} from t where a in ({rows[-1]}) and f({rows[0]}) = 'x'")
    assert found > 2000


def test_a_long_text_is_read_once():
    text = "insert into t values " + ",".join(f"({n},'abc{n}', null)" for n in range(50_000))
    assert shape(text) == "insert into t values (0)"
    assert shape("'" * 100_001) is None
    assert shape('"a"' * 50_000) == '"a"' * 50_000
