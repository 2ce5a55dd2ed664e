"""Conditions in CEL: wrong ones are found when they are loaded, and what goes wrong later denies."""

import subprocess
import sys

import msgspec
import pytest

from pangate import policy, sql
from pangate.config.rules import RuleSettings
from pangate.model import EFFECTS, Grant, Principal, Statement

WHO = Principal("agent-1", "https://a.example", 0.0, ("dev",), {"team": "pay", "n": 3, "x": None})
GRANT = Grant("dev", "payments", effects=frozenset(EFFECTS))
NOON = 1_772_452_800.0  # 2026-03-02T12:00:00Z, a Monday


def judged(text, condition, verdict="deny", **more):
    rule = msgspec.convert(
        {"name": "c", "verdict": verdict, "condition": condition, **more}, RuleSettings
    )
    statement = Statement("query", text, ("a", None), meaning=sql.understand(text))
    return policy.decide(
        WHO, GRANT, statement, policy.Rulebook([rule]), source="10.1.2.3", now=NOON
    )


@pytest.mark.parametrize(
    "condition",
    [
        'principal.team == "pay" && principal.n > 2',
        'principal.sub == "agent-1" && principal.iss == "https://a.example"',
        'role == "dev" && resource == "payments"',
        'effects == ["read", "write", "bulk_write"]',
        'tables == ["pay.cards"]',
        'columns.exists(column, column == "pay.cards.id")',
        'command == "UPDATE" && where == "none"',
        'source == "10.1.2.3"',
        "time.getHours() == 12 && time.getDayOfWeek() == 1",
        "parameters == 2",
        "has(principal.team) && !has(principal.absent)",
        'tables.all(t, t.startsWith("pay."))',
    ],
)
def test_what_a_condition_can_see(condition):
    text = "update pay.cards set id = id + 1 returning id"
    assert judged(text, condition).action == "deny"
    assert judged(text, f"!({condition})").rule == "role:dev"


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("1 +", "is no CEL"),
        ("", "is no CEL"),
        ("tabels == []", 'there is no variable "tabels"; there is principal, '),
        ("true || nope", 'there is no variable "nope"'),
        ("tables.exists(t, u == t)", 'there is no variable "u"'),
        ("sleep(3)", 'there is no function "sleep"'),
    ],
)
def test_what_is_wrong_on_its_face_is_not_loaded(condition, said):
    with pytest.raises(ValueError, match=r".") as caught:
        policy.Condition(condition)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "condition",
    ["principal.absent == 1", "1 / 0 == 1", "tables[7] == ''", "'a' < 1", "principal.n"],
)
@pytest.mark.parametrize("verdict", ["allow", "deny"])
def test_what_goes_wrong_later_denies(condition, verdict):
    found = judged("select 1", condition, verdict)
    assert (found.action, found.rule) == ("deny", "rule:c")
    assert "cannot be decided" in found.reason


def test_a_shadow_rule_that_goes_wrong_denies_nothing():
    found = judged("select 1", "principal.absent", "allow", shadow=True)
    assert found.action == "allow"
    assert found.shadow == (("c", "deny"),)


def test_a_condition_is_not_asked_where_the_rest_does_not_match():
    assert judged("select 1", "principal.absent", effects=["schema"]).rule == "role:dev"


def test_rules_without_conditions_import_no_cel():
    code = (
        "import sys, pangate.config, pangate.policy\n"
        "from pangate.config.rules import RuleSettings\n"
        "pangate.policy.Rulebook([RuleSettings(name='a', verdict='deny')])\n"
        "assert 'cel' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
