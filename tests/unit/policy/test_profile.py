"""What the PCI profile says of a corpus of statements, and that no other way to write one gets more."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate import policy, sql
from pangate.config.profiles import profile_rules
from pangate.config.rules import RuleSettings
from pangate.model import EFFECTS, Grant, Principal, Statement
from rewriting import TRICKY, rewritten

CORPUS = Path(__file__).parents[2] / "corpus" / "policy.csv"
ROWS = list(csv.DictReader(CORPUS.read_text("utf-8").splitlines(keepends=True)))
PLAIN = [row for row in ROWS if row["sql"] and not TRICKY.search(row["sql"])]
STRICT = ("allow", "hold", "deny")
WHOLE = [
    row
    for row in PLAIN
    if all(part.command and not part.executes for part in sql.understand(row["sql"]).parts)
]
"""Statements that stay what they are when others stand beside them: no halves, no EXECUTE."""

OWN = [
    {"name": "notes", "verdict": "allow", "tables": ["notes"], "effects": ["bulk_write"]},
    {"name": "cards", "verdict": "deny", "tables": ["public.cards"], "effects": ["read"]},
    {"name": "v", "verdict": "deny", "columns": ["v", "cards.n"]},
]
PCI = policy.Rulebook(profile_rules("pci", ["dba"]))
BESIDE = policy.Rulebook(
    [*msgspec.convert(OWN, list[RuleSettings]), *profile_rules("pci", ["dba"])]
)
WHO = Principal("agent", "https://issuer.example", 0.0, ("deploy", "writer"))
DEPLOY = Grant("deploy", "payments", effects=frozenset(EFFECTS))
WRITER = Grant("writer", "payments", effects=frozenset({"read", "write"}))


def verdict(text, grant=DEPLOY, book=PCI):
    meaning = sql.resolve(sql.understand(text), {})
    return policy.decide(WHO, grant, Statement("query", text, meaning=meaning), book)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["sql"][:60])
def test_corpus(row):
    found = verdict(row["sql"])
    assert (found.action, found.rule.partition(":")[2] or found.rule) == (
        row["verdict"],
        row["rule"],
    )
    assert verdict(row["sql"], WRITER).action == row["writer"]
    assert bool(found.reason) is (found.action != "allow")
    assert (found.hold is not None) is (found.action == "hold")


def test_the_corpus_is_large_and_has_every_rule():
    assert len({row["sql"] for row in ROWS}) >= 500
    assert {row["rule"] for row in ROWS} >= {rule.name for rule in PCI.rules}


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(PLAIN), st.data())
def test_however_it_is_written_its_verdict_is_the_same(row, data):
    other = rewritten(data, row["sql"])
    for book in (PCI, BESIDE):
        expected, seen = verdict(row["sql"], book=book), verdict(other, book=book)
        assert (seen.action, seen.rule) == (expected.action, expected.rule), other


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(WHOLE), min_size=2, max_size=4))
def test_together_they_get_no_more_than_the_least_of_them(rows):
    text = ";".join(row["sql"] for row in rows)
    for book in (PCI, BESIDE):
        least = max(STRICT.index(verdict(row["sql"], book=book).action) for row in rows)
        assert STRICT.index(verdict(text, book=book).action) >= least, text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["sql"][:60])
def test_what_is_explained_is_what_is_decided(row):
    meaning = sql.resolve(sql.understand(row["sql"]), {})
    found = policy.explain(BESIDE, WHO, DEPLOY, Statement("query", row["sql"], meaning=meaning))
    assert found.verdict == verdict(row["sql"], book=BESIDE)
    deciding = {
        f"rule:{rule.rule}"
        for access in found.accesses
        for rule in access.rules
        if rule.outcome == "decides"
    }
    if found.verdict.rule.startswith("rule:"):
        assert found.verdict.rule in deciding
    else:
        assert not deciding
    for access in found.accesses:
        assert [rule.rule for rule in access.rules] == [rule.name for rule in BESIDE.rules]
        # In order, each either says what does not match, or ends it.
        outcomes = [rule.outcome for rule in access.rules]
        assert outcomes == sorted(outcomes, key=("no", "decides", "not reached").index)
