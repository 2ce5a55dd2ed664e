"""What may be kept of a statement: a corpus of statements that hold 7319 where a CVV stands, and 5151 where
nothing does that has to go."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangate import sql
from pangate.model import Part, Statement
from pangate.protocols.postgres.catalog import Catalog, open_catalog
from pangate.protocols.postgres.shown import as_shown
from pangate.sql.tree import statements_of

CORPUS = Path(__file__).parents[3] / "corpus" / "recorded.csv"
COLUMNS = ("id", "holder", "pan", "cvv", "doc", "n", "pin")
SENSITIVE = [
    ("70", "4", "pay", "cards", "cvv", "1", "0"),
    ("70", "7", "pay", "cards", "pin", "1", "0"),
    ("71", "3", "pay", "keyed", "cvv", "1", "0"),
]
VIEWS = [
    ("80", "shown", "SELECT cards.id, cards.cvv AS x FROM pay.cards;"),
    ("81", "again", "SELECT (shown.x || ''::text) AS y FROM pay.shown;"),
]
USES = [("80", "70", "1"), ("80", "70", "4"), ("81", "80", "2")]


def rows() -> list[dict[str, str]]:
    with CORPUS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def known(columns: dict[str, str] | None = None, *, sensitive: bool = True) -> Catalog:
    catalog = open_catalog(columns or {}, sensitive=sensitive)
    catalog.take_carriers(SENSITIVE, USES, [(oid, name) for oid, name, _ in VIEWS], VIEWS)
    return catalog


def kept(text: str, parameters: tuple[str | None, ...], catalog: Catalog) -> list[Statement]:
    """The steps of a row as they would be recorded, in one session."""
    prepared: dict[str, tuple[Part, ...]] = {}
    secretive: set[str] = set()
    found = []
    steps = text.split(" ;; ")
    for step in steps:
        meaning = sql.resolve(sql.understand(step), prepared)
        values = parameters if step is steps[-1] else ()
        statement = as_shown(Statement("query", step, values, meaning=meaning), catalog, secretive)
        for part in meaning.parts:
            if part.prepares:
                prepared[part.prepares] = (part,)
                if statement.shown is not None:
                    secretive.add(part.prepares)
        found.append(statement)
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_corpus(row):
    parameters = tuple(json.loads(row["parameters"] or "[]"))
    assert row["kept"] in ("wiped", "kept")
    assert ("7319" in row["sql"] + row["parameters"]) == (row["kept"] == "wiped")
    for statement in kept(row["sql"], parameters, known()):
        if row["kept"] == "kept":
            assert (statement.shown, statement.shown_parameters) == (None, None)
        elif statement.shown is None:
            assert "7319" not in statement.text
            assert not statement.parameters
        else:
            assert "7319" not in statement.shown
            assert statement.shown_parameters == tuple(
                None if value is None else "***"
                for value in parameters[: len(statement.parameters)]
            )


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_before_anything_is_known_of_the_database_more_is_wiped(row):
    parameters = tuple(json.loads(row["parameters"] or "[]"))
    for statement in kept(row["sql"], parameters, open_catalog({})):
        if row["kept"] == "wiped" and "view" not in row["name"]:
            assert "7319" not in (statement.shown or statement.text)


def shown(text: str, *parameters: str | None, catalog: Catalog | None = None) -> str | None:
    (statement,) = kept(text, parameters, catalog or known())
    return statement.shown


def test_names_and_operators_stay():
    assert shown("update pay.cards set cvv = '1', n = 2 where id > -.5e3 and x is null") == (
        "update pay.cards set cvv = '***', n = *** where id > -*** and x is null"
    )
    assert shown("select cvv from t where a = $1 and b = $q$ x $q$ /* a */ -- b") == (
        "select cvv from t where a = $1 and b = '***' /* *** */ -- ***"
    )


def test_rules_of_the_configuration():
    catalog = known({"pay.cards.holder": "wipe", "token": "mask"})
    assert shown("select 1 from pay.cards where holder = 'x'", catalog=catalog) is not None
    assert shown("select 1 from other where token = 'x'", catalog=catalog) is not None
    assert shown("select 1 from other where tokens = 'x'", catalog=catalog) is None
    assert shown("select 1 from pay.cards where holder = 'x'") is None


def test_without_sensitive_columns_all_is_kept():
    catalog = known(sensitive=False)
    assert shown("update pay.cards set cvv = '7319'", catalog=catalog) is None


def test_when_another_text_may_run_its_values_are_wiped():
    statement = Statement("bind", "select $1", ("7319",), meaning=sql.understand("select $1"))
    assert as_shown(statement, known(), ()).shown_parameters is None
    assert as_shown(statement, known(), (), doubtful=True).shown_parameters == ("***",)


def test_of_a_long_text_the_first_rows_stay():
    text = "insert into pay.cards (cvv) values " + ", ".join(["('7319')"] * 10_000)
    assert shown(text) == "insert into pay.cards (cvv) values ('***')"


PIECES = (
    "'", "''", "7319", "E'", "\\", "$$", "$a$", "/*", "*/", "--", "\n", " ", '"', "U&'", "cvv", "(", ";",
    "x'", "e",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_no_literal_is_left_whatever_is_not_finished(text):
    assert "7319" not in sql.without_values(text, understood=False)


def constants(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.get("A_Const", {}).values():
            if isinstance(value, dict):
                yield from map(str, value.values())
        for value in node.values():
            yield from constants(value)
    elif isinstance(node, list):
        for value in node:
            yield from constants(value)


@pytest.mark.parametrize("corpus", ["sql.csv", "postgres.csv", "lineage.csv", "recorded.csv"])
def test_where_the_grammar_sees_a_literal_it_is_taken_out(corpus):
    with (CORPUS.parent / corpus).open(newline="", encoding="utf-8") as file:
        texts = [row["sql"] for row in csv.DictReader(file)]
    seen = 0
    for text in texts:
        marked = re.sub(r"(?<![\w$.])[0-9]+(?![\w$.])", "73190", text)  # so that none is in a name
        for constant in constants(statements_of(marked) or []):
            if "73190" in constant:
                seen += 1
                assert constant not in sql.without_values(marked, understood=True), marked
    assert seen > 10


@given(st.integers(0, 3000))
def test_it_takes_no_longer_for_what_is_not_finished(count):
    """Every way that a string could be taken apart again would double it."""
    text = "select cvv = E'" + "'' " * count + "\\"
    assert sql.without_values(text, understood=False) == "select cvv = '***'"
