"""What statements do, by a corpus whose expectations a person wrote, and by every other way to write them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate import policy, sql
from pangate.model import EFFECTS, Grant, Part, Principal, Relation, Statement
from pangate.sql.tree import MAX_TEXT, parse_or_why
from rewriting import TRICKY, rewritten

CORPUS = Path(__file__).parents[2] / "corpus" / "sql.csv"
ROWS = list(csv.DictReader(CORPUS.read_text("utf-8").splitlines(keepends=True)))

FLAG = re.compile(r"(\w+)(?:=(rollback to|commit prepared|rollback prepared|\w+))?")


def effects(meaning) -> str:
    """The effects as the corpus writes them."""
    if meaning.refusal:
        return "refused"
    if meaning.effects == set(EFFECTS):
        return "everything"
    return " ".join(effect for effect in EFFECTS if effect in meaning.effects)


def flags(part: Part) -> dict[str, object]:
    found = {
        "where": part.where,
        "limit": part.limit,
        "returning": part.returning,
        "explain": part.explain,
        "tx": part.transaction,
        "executes": part.executes,
        "prepares": part.prepares,
    }
    return {name: value for name, value in found.items() if value}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["sql"][:60])
def test_corpus(row):
    meaning = sql.understand(row["sql"])
    assert effects(meaning) == row["effects"]
    assert " ".join(meaning.calls) == row["calls"]
    if len(meaning.parts) == 1:
        given = {found[1]: found[2] or True for found in FLAG.finditer(row["flags"])}
        seen = flags(meaning.parts[0])
        assert {name: seen.get(name) for name in given} == given
        for name in ("limit", "explain", "tx", "executes", "prepares"):
            assert name in given or name not in seen
    reader = Grant("reader", "payments")
    statement = Statement("query", row["sql"], meaning=meaning)
    who = Principal("agent", "https://issuer.example", 0.0, ("reader",))
    assert policy.decide(who, reader, statement).action == row["reader"]


def test_the_corpus_is_large_and_has_every_effect():
    assert len({row["sql"] for row in ROWS}) >= 300
    seen = {effect for row in ROWS for effect in row["effects"].split()}
    assert seen == {*EFFECTS, "everything", "refused"}


def test_trees_are_read_as_the_standard_library_reads_them(monkeypatch):
    def trees():
        return [parse_or_why(row["sql"]) for row in ROWS] + [parse_or_why(text) for text in DEEP]

    fast = trees()
    monkeypatch.setattr("pgparse.json", json)
    assert trees() == fast


DEEP = (
    "select '\x01\x7f\u2028\U0001f4b3', 99999999999999999999, 1e400, -0.0",
    "select " + "(select " * 400 + "1" + ")" * 400,
    "select " + "1+" * 4000 + "1",
)


# --- the same in other words -----------------------------------------------------------------------

PLAIN = [
    row
    for row in ROWS
    if row["effects"] != "everything" and row["sql"] and not TRICKY.search(row["sql"])
]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(PLAIN), st.data())
def test_however_it_is_written_it_is_the_same(row, data):
    other = rewritten(data, row["sql"])
    expected, seen = sql.understand(row["sql"]), sql.understand(other)
    assert (seen.effects, seen.calls, seen.refusal) == (
        expected.effects,
        expected.calls,
        expected.refusal,
    ), other
    assert [(p.needs, p.relations, p.columns, flags(p)) for p in seen.parts] == [
        (p.needs, p.relations, p.columns, flags(p)) for p in expected.parts
    ], other


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("selct from'\"\\$;-/*()e&U1,é\n"), max_size=40))
def test_garbage_is_never_harmless(text):
    meaning = sql.understand(text)
    assert meaning.effects <= {"read"} or meaning.effects == set(EFFECTS)
    if meaning.effects == {"read"}:
        assert "select" in text.lower() or "values" in text.lower()


# --- what it touches -------------------------------------------------------------------------------


def touched(text: str) -> set[str]:
    return {f"{r.use}:{r}" for part in sql.understand(text).parts for r in part.relations}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select * from cards", {"read:cards"}),
        ('select * from s.cards, "S"."Cards" x', {"read:s.cards", "read:S.Cards"}),
        ("with c as (select * from cards) select * from c", {"read:cards"}),
        # the name of a CTE means the table within itself, and before it
        ("with cards as (select * from cards) select * from cards", {"read:cards"}),
        ("with a as (select * from b), b as (select 1) select * from a, b", {"read:b"}),
        ("with recursive a as (select * from b), b as (select 1) select * from a", set()),
        ("with c as (select 1) select * from public.c", {"read:public.c"}),
        ("select (with c as (select 1) select 2) from c", {"read:c"}),
        ("insert into notes select id, t from cards", {"write:notes", "read:cards"}),
        ("with notes as (select 1) insert into notes values (1)", {"write:notes"}),
        (
            "update notes set note = (select t from cards) where id = 1",
            {"write:notes", "read:cards"},
        ),
        ("delete from notes using cards where true", {"write:notes", "read:cards"}),
        ("truncate a, b.c", {"write:a", "write:b.c"}),
        ("copy cards to stdout", {"read:cards"}),
        ("copy notes from stdin", {"write:notes"}),
        ("drop table a, b.c", {"schema:a", "schema:b.c"}),
        ("alter table notes add x int", {"schema:notes"}),
        ("create table x as select * from cards", {"schema:x", "read:cards"}),
        ("create view v as select * from cards", {"schema:v", "read:cards"}),
        ("lock table notes", {"write:notes"}),
        ("grant select on cards to x", {"schema:cards"}),
        ("declare c cursor for select * from cards", {"read:cards"}),
        ("prepare p as select * from cards", {"read:cards"}),
        ("explain select * from cards", {"read:cards"}),
        ("select * from cards for update of cards", {"read:cards", "write:cards"}),
        (
            "merge into notes using cards on true when matched then delete",
            {"write:notes", "read:cards"},
        ),
    ],
)
def test_relations(text, expected):
    assert touched(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select t from cards", {("cards", "t")}),
        ("select c.t, c.* from s.cards c", {("s.cards", "t"), ("s.cards", "*")}),
        ("select * from cards, notes", {("cards", "*"), ("notes", "*")}),
        ("select c from cards c", {("cards", "*")}),
        ("select to_jsonb(c) from cards c", {("cards", "*")}),
        ("select t from cards, notes", {("", "t")}),
        (
            "select notes.note from cards, notes where cards.t = 'x'",
            {("notes", "note"), ("cards", "t")},
        ),
        ("insert into notes (id) values (1)", {("notes", "id")}),
        ("update notes set note = 'x' where id = 1", {("notes", "note"), ("notes", "id")}),
        ("copy cards (t, v) to stdout", {("cards", "t"), ("cards", "v")}),
        ("copy cards to stdout", {("cards", "*")}),
        ("with c as (select t from cards) select c.t from c", {("", "t")}),
    ],
)
def test_columns(text, expected):
    assert set(sql.understand(text).parts[0].columns) == expected


# --- EXECUTE ---------------------------------------------------------------------------------------


def prepared(**texts: str) -> dict[str, tuple[Part, ...]]:
    return {name: sql.understand(text).parts for name, text in texts.items()}


def test_execute_does_what_was_prepared():
    known = prepared(p="prepare p as delete from notes")
    meaning = sql.resolve(sql.understand("execute p"), known)
    assert effects(meaning) == "write bulk_write"
    assert meaning.parts[0].relations == (Relation("", "notes", "write"),)
    meaning = sql.resolve(sql.understand("create temp table x as execute p"), known)
    assert effects(meaning) == "write bulk_write"
    meaning = sql.resolve(sql.understand("explain analyze execute p"), known)
    assert effects(meaning) == "read write bulk_write"


def test_execute_of_what_nobody_saw_does_everything():
    assert effects(sql.resolve(sql.understand("execute q"), {})) == "everything"
    assert effects(sql.resolve(sql.understand("select 1; execute q"), {})) == "everything"
    assert (
        effects(sql.resolve(sql.understand('execute "P"'), prepared(p="select 1"))) == "everything"
    )


def test_execute_of_what_the_same_text_prepares():
    text = "prepare p as select t from cards; execute p; deallocate p"
    assert effects(sql.resolve(sql.understand(text), {})) == "read"
    text = "prepare p as delete from notes where id = 1; execute p"
    assert effects(sql.resolve(sql.understand(text), prepared(p="select f()"))) == "read write"
    assert sql.resolve(sql.understand(text), prepared(p="select f()")).calls == ("f",)
    # the name is known only behind its PREPARE
    text = "execute p; prepare p as select 1"
    assert effects(sql.resolve(sql.understand(text), {})) == "everything"


def test_what_executes_nothing_stays_as_it_is():
    meaning = sql.understand("select 1")
    assert sql.resolve(meaning, {}) is meaning


# --- memory and size -------------------------------------------------------------------------------


def test_one_shape_is_read_once():
    first = sql.understand("select t from cards where id = 1 and v in ('a', 'b')")
    assert sql.understand("select t from cards where id = 2 and v in ('c')") is first
    assert sql.understand("select t from cards where id = 2 -- x\n and v in ('c')") is not None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("set work_mem = 1", "set work_mem = 2", ""),
        (
            "set standard_conforming_strings = 'on'",
            "set standard_conforming_strings = 'off'",
            "refused",
        ),
        (
            "select set_config('timezone', 'x', true)",
            "select set_config('role', 'x', true)",
            "read privilege",
        ),
        ("copy notes to stdout (null '1')", "copy notes to stdout (null '2')", "read"),
        (
            "explain (analyze 0) truncate t",
            "explain (analyze 1) delete from t",
            "read write bulk_write",
        ),
        (
            "delete from t where f(a, 1, 2) = f(a, 1)",
            "delete from t where f(a, 1) = f(a, 1)",
            "write bulk_write",
        ),
        (
            "delete from t where g(a, 1, 2 = b) = g(a, 2 = b)",
            "delete from t where g(a, 2 = b) = g(a, 2 = b)",
            "write bulk_write",
        ),
        (
            "delete from t where (a, (1, 2)) = (a, (1, 2), (1, 2))",
            "delete from t where (a, (1, 2)) = (a, (1, 2))",
            "write bulk_write",
        ),
        ("select t from cards limit (5)", "select t from cards limit (null)", "read"),
    ],
)
def test_a_shape_never_stands_for_what_does_more(first, second, expected):
    sql.understand(first)
    meaning = sql.understand(second)
    assert effects(meaning) == expected
    assert not meaning.parts[0].limit


def test_memory_is_bounded():
    for n in range(3 * sql.ENTRIES):
        sql.understand(f"set a.b{n} = 1")
        sql.understand(f"select c{n}")
    assert len(sql._texts) <= sql.ENTRIES
    assert len(sql._shapes) <= sql.ENTRIES
    long = "select " + ", ".join(f"c{n}" for n in range(sql.KEPT_TEXT))
    sql.understand(long)
    assert long not in sql._texts
    assert long not in sql._shapes


def test_long_texts():
    rows = ",".join(f"({n}, 'abc{n}', null, -5)" for n in range(20_000))
    assert effects(sql.understand(f"insert into notes values {rows}")) == "write"
    rows = ",".join(f"({n}, now(), e'\\'{n}')" for n in range(6_000))
    assert effects(sql.understand(f"insert into notes values {rows}")) == "write"
    assert effects(sql.understand(f"insert into notes values {rows}; drop table x")) == "everything"
    assert effects(sql.understand(f"select {'x' * MAX_TEXT}")) == "everything"
    assert effects(sql.understand(f"select '{'x' * MAX_TEXT}'")) == "read"
    assert effects(sql.understand(f"select '{'x' * MAX_TEXT}', f()")) == "read"
    assert sql.understand(f"select '{'x' * MAX_TEXT}', f()").calls == ("f",)
    assert effects(sql.understand(f"set application_name = '{'x' * MAX_TEXT}'")) == "everything"
    assert effects(sql.understand(f"select '{'x' * MAX_TEXT}")) == "everything"


@pytest.mark.parametrize(
    "text",
    [
        "select 1" + "+1" * 100_000, "select " + "- " * 8_000 + "1",
        "select " + "(" * 8_000 + "1" + ")" * 8_000, "select " + "not " * 4_000 + "true",
        "select 1" + "::int" * 3_000, "select " + "array[" * 2_000 + "]" * 2_000,
        "select 1" + " union select 1" * 1_000, "select a" + " isnull" * 2_000, "select '" + "'" * 100_000,
        "(" * 200_000, "select $" + "$" * 100_001, "/*" * 100_000, "select " + "f(" * 900 + ")" * 900,
        "select 1" + "-a" * 8_000, "explain " * 2_000 + "select 1",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_deep_and_long_texts_end_in_the_worst_case_or_a_reading(text):
    assert effects(sql.understand(text)) in ("everything", "read")


# --- startup ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"user": "a", "database": "b", "application_name": "x", "client_encoding": "UTF8"}, ""),
        ({"options": "-c statement_timeout=5s --search_path=public -cgeqo=off"}, ""),
        ({"options": "-c application_name=a\\ b"}, ""),
        ({"options": "--default-transaction-isolation=serializable"}, ""),
        ({"role": "postgres"}, "privilege"),
        ({"options": "-c role=postgres"}, "privilege"),
        ({"options": "-c ROLE=postgres"}, "privilege"),
        ({"options": "-crole=postgres"}, "privilege"),
        ({"options": "--role=postgres"}, "privilege"),
        ({"options": "--session-authorization=postgres"}, "privilege"),
        ({"options": "-c \\role=postgres"}, "privilege"),
        ({"myapp.tenant": "5"}, "session"),
        ({"search_path": "evil, pg_catalog"}, "session"),
        ({"options": "-c search_path=evil,pg_catalog"}, "session"),
        ({"standard_conforming_strings": "off"}, "refused"),
        ({"options": "-c standard_conforming_strings=off"}, "refused"),
        ({"options": "--standard-conforming-strings=off"}, "refused"),
        ({"client_encoding": "SJIS"}, "refused"),
        ({"options": "-c client_encoding=big5"}, "refused"),
        ({"options": "-O"}, "everything"),
        ({"options": "-P -c geqo=off"}, "everything"),
        ({"options": "-c"}, "everything"),
        ({"options": "-d 5"}, "everything"),
        ({"options": "--x"}, "everything"),
    ],
)
def test_startup_parameters(parameters, expected):
    assert effects(sql.startup(parameters)) == expected


@pytest.mark.parametrize(
    ("text", "whole", "shown"),
    [
        ("select a, b as c, t.d from t", False, ("a", "b", "c", "d")),
        ("select a, upper(a) from t", False, ()),
        ("select a from t order by b", False, ("a",)),
        ("select * from t", False, ("*",)),
        ("select t.* from t where a = 1", False, ("*",)),
        ("declare c cursor for select * from t", False, ("*",)),
        ("select t from t", True, ("t",)),
        ("select 1 from (select * from t) u", True, ()),
        ("select a from t as t(a)", True, ("a",)),
        ("select * from t union select * from u", True, ()),
        ("insert into t values (1)", True, ()),
        ("insert into t (a) values (1) returning *, a", False, ()),
        ("merge into t using u on t.a = u.a when not matched then insert values (1)", True, ()),
        ("update t set a = 1 where t = row(1)", True, ()),
    ],
)
def test_whole_rows_and_columns_that_are_only_shown(text, whole, shown):
    (part,) = sql.understand(text).parts
    assert (part.whole, sorted(part.shown)) == (whole, sorted(shown))
