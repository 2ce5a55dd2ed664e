"""What it costs to know what a statement does: seen before, of a shape seen before, new, and very long. Each
asserts that the answer is right. Beside it stands the parser alone, whose time nothing here can beat."""

from __future__ import annotations

import itertools

import pgparse
import pytest

from pangate import policy, sql
from pangate.model import EFFECTS, Grant, Principal, Statement

SHORT = {
    "select 1": ({"read"}, "select {}"),
    "by key": ({"read"}, "select * from cards where id = $1 -- {}"),
    "listing": (
        {"read"},
        "select id, holder, card from charges where id = {} and card = 'abc' order by id limit 4",
    ),
    "insert": ({"write"}, "insert into notes (id, note) values ({}, 'x')"),
    "update": ({"write"}, "update notes set note = 'x' where id = {}"),
    "delete all": ({"write", "bulk_write"}, "delete from notes where {0} = {0}"),
    "set": (set(), "set statement_timeout = {}"),
}
GRANT = Grant("reader", "payments", effects=frozenset(EFFECTS))
WHO = Principal("agent", "https://issuer.example", 0.0, ("reader",))


def forget() -> None:
    sql._texts.clear()
    sql._shapes.clear()


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.benchmark(group="sql: new")
def test_new(benchmark, name):
    effects, text = SHORT[name]
    text = text.format(17)
    found = benchmark.pedantic(sql.understand, (text,), setup=forget, rounds=3000)
    assert found.effects == effects


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.benchmark(group="sql: parser alone")
def test_parser_alone(benchmark, name):
    assert len(benchmark(pgparse.parse, SHORT[name][1].format(17))) == 1


@pytest.mark.parametrize("name", [name for name in SHORT if name != "set"])
@pytest.mark.benchmark(group="sql: same shape")
def test_same_shape(benchmark, name):
    effects, text = SHORT[name]
    forget()
    texts = itertools.cycle([text.format(n) for n in range(5000)])
    found = benchmark(lambda: sql.understand(next(texts)))
    assert found.effects == effects


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.benchmark(group="sql: same text")
def test_same_text(benchmark, name):
    effects, text = SHORT[name]
    # another object each time, as they come from the wire: its hash is not known yet
    texts = itertools.cycle([text.format(17).encode() for _ in range(16)])
    assert benchmark(lambda: sql.understand(next(texts).decode())).effects == effects


@pytest.mark.benchmark(group="sql: verdict")
def test_verdict(benchmark):
    text = SHORT["listing"][1].format(1)
    judge = policy.Rulebook().judge(WHO, GRANT)

    def decide():
        return judge.decide(Statement("query", text, meaning=sql.understand(text)), 0.0)

    assert benchmark(decide).action == "allow"


LONG = {
    "VALUES": (
        {"write"},
        "insert into t values " + ",".join(f"({n}, 'abc{n}', null)" for n in range(48_000)),
    ),
    "VALUES with calls": (
        {"write"},
        "insert into t values " + ",".join(f"({n}, now(), E'\\\\{n}')" for n in range(6_000)),
    ),
    "one string": ({"read"}, "select '" + "x" * (1 << 20) + "'"),
    "no SQL": (set(EFFECTS), "x()" * 40_000),
    "all columns": (set(EFFECTS), "select " + ",".join(f"c{n}" for n in range(150_000))),
    "as long as is parsed": ({"read"}, "select " + ",".join(f"c{n:05}" for n in range(2_300))),
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.benchmark(group="sql: long")
def test_long(benchmark, name):
    effects, text = LONG[name]
    found = benchmark.pedantic(sql.understand, (text,), setup=forget, rounds=10)
    benchmark.extra_info["bytes"] = len(text)
    assert found.effects == effects
