"""What a verdict costs: with the PCI profile, with many rules, with a condition, known already and new; and
what it costs together with knowing what the statement does. Each asserts that the answer is right."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from pangate import policy, sql
from pangate.config.profiles import profile_rules
from pangate.config.rules import RuleSettings
from pangate.model import EFFECTS, Grant, Principal, Statement

WHO = Principal("agent", "https://issuer.example", 0.0, ("deploy",), {"team": "pay", "level": 2})
GRANT = Grant("deploy", "payments", effects=frozenset(EFFECTS))
LISTING = "select id, holder, card from charges where id = {} and card = 'abc' order by id limit 4"
MANY = [
    {"name": f"r{number}", "verdict": "deny", "tables": [f"pay.t{number}"], "effects": ["read"]}
    for number in range(100)
]
CONDITION = [
    {"name": "c", "verdict": "deny", "condition": "principal.level > 3 && 'read' in effects"}
]


def book(own):
    return policy.Rulebook(
        [*msgspec.convert(own, list[RuleSettings]), *profile_rules("pci", ["dba"])]
    )


RULES = {"pci": book([]), "pci and 100 rules": book(MANY), "pci and a condition": book(CONDITION)}


def forget() -> None:
    sql._texts.clear()
    sql._shapes.clear()


def judging(name, text):
    judge = RULES[name].judge(WHO, GRANT, "10.0.0.1")
    return judge, Statement("query", text, meaning=sql.understand(text))


@pytest.mark.parametrize("name", ["pci", "pci and 100 rules"])
@pytest.mark.benchmark(group="policy: known verdict")
def test_known(benchmark, name):
    judge, statement = judging(name, LISTING.format(1))
    assert benchmark(judge.decide, statement, 0.0).rule == "rule:pci-read"


@pytest.mark.parametrize("name", RULES)
@pytest.mark.benchmark(group="policy: new verdict")
def test_new(benchmark, name):
    judge, statement = judging(name, LISTING.format(1))
    found = benchmark.pedantic(
        judge.decide, (statement, 0.0), setup=judge._verdicts.clear, rounds=5000
    )
    assert found.rule == "rule:pci-read"


@pytest.mark.benchmark(group="policy: with understanding")
def test_same_shape(benchmark):
    judge, _ = judging("pci", LISTING.format(1))
    texts = itertools.cycle([LISTING.format(number) for number in range(5000)])

    def decide():
        text = next(texts)
        return judge.decide(Statement("query", text, meaning=sql.understand(text)), 0.0)

    assert benchmark(decide).action == "allow"


@pytest.mark.parametrize(
    "text", ["select 1", LISTING.format(1), "update notes set note = 'x' where id = 4"]
)
@pytest.mark.benchmark(group="policy: with understanding, new")
def test_everything_new(benchmark, text):
    judge, _ = judging("pci", text)

    def setup():
        forget()
        judge._verdicts.clear()

    def decide():
        return judge.decide(Statement("query", text, meaning=sql.understand(text)), 0.0)

    assert benchmark.pedantic(decide, setup=setup, rounds=3000).action == "allow"
