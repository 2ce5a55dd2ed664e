"""Which rule decides: order, what each criterion matches, and that nothing gives more than the role."""

import datetime

import msgspec
import pytest

from pangate import policy, sql
from pangate.config.rules import RuleSettings
from pangate.model import EFFECTS, Grant, Part, Principal, Statement, Understanding

ISSUER, OTHER = "https://a.example", "https://b.example"
WHO = Principal("agent-1", ISSUER, 0.0, ("dev",), {"team": "pay", "level": 3})
GRANT = Grant("dev", "payments", effects=frozenset(EFFECTS), functions=("listed",))
DEFAULTS = {"name": "r", "verdict": "deny"}
APPROVED = {"approvers": ["dba"]}


def book(*rules):
    return policy.Rulebook([msgspec.convert({**DEFAULTS, **rule}, RuleSettings) for rule in rules])


def judged(text, *rules, who=WHO, grant=GRANT, source="10.1.2.3", now=0.0, estimate=None):
    meaning = None if text is None else sql.understand(text)
    statement = Statement("query", text or "?", meaning=meaning)
    return policy.decide(
        who, grant, statement, book(*rules), source=source, now=now, estimate=estimate
    )


def matches(text, rule, **more):
    """Whether a rule that denies decides."""
    found = judged(text, rule, **more)
    assert found.rule == ("rule:r" if found.action == "deny" else "role:dev")
    return found.action == "deny"


def lifts(text, rule, **more):
    """Whether a rule that allows stands before one that denies everything."""
    found = judged(text, {**rule, "verdict": "allow"}, {"name": "all"}, **more)
    assert found.rule == ("rule:r" if found.action == "allow" else "rule:all")
    return found.action == "allow"


def test_without_rules_the_role_decides():
    assert judged("drop table t").rule == "role:dev"
    assert judged("drop table t", {"effects": ["read"]}).action == "allow"


def test_no_rule_gives_more_than_the_role():
    reader = Grant("dev", "payments", effects=frozenset({"read"}))
    denied = judged("delete from t", {"verdict": "allow"}, grant=reader)
    assert (denied.action, denied.rule) == ("deny", "role:dev")
    nobody = Principal("x", ISSUER, 0.0, ())
    assert judged("select 1", {"verdict": "allow"}, who=nobody).rule == "role.missing"


def test_the_first_that_matches_decides():
    first = {"name": "a", "verdict": "allow", "effects": ["schema"]}
    second = {"name": "b", "effects": ["schema"], "reason": "never"}
    assert judged("drop table t", first, second).rule == "rule:a"
    found = judged("drop table t", second, first)
    assert (found.action, found.rule) == ("deny", "rule:b")
    assert found.reason == "this statement is denied by rule 'b': never"


def test_the_strictest_verdict_of_all_parts_and_effects_decides():
    rules = (
        {"name": "w", "verdict": "hold", "effects": ["write"], "hold": APPROVED},
        {"name": "s", "effects": ["schema"]},
        {"name": "r", "effects": ["read"], "verdict": "allow"},
    )
    assert judged("select 1; select 2", *rules).rule == "rule:r"
    held = judged("select 1; insert into t values (1); select 2", *rules)
    assert (held.action, held.rule, held.hold.approvers) == ("hold", "rule:w", ("dba",))
    assert "statement 2 of 3 needs approval by rule 'w'" in held.reason
    assert judged("insert into t values (1); drop table t", *rules).rule == "rule:s"
    assert judged("with x as (delete from t returning *) select * from x", *rules).action == "hold"


def test_two_holds_are_one_that_satisfies_both():
    one = {"approvers": ["dba", "sec"], "quorum": 2, "expires_seconds": 60, "acr": ["a", "b"]}
    two = {"approvers": ["sec"], "mode": "refuse-and-retry", "amr": ["otp"], "acr": ["b"]}
    rules = (
        {"name": "w", "verdict": "hold", "effects": ["write"], "hold": one},
        {"name": "s", "verdict": "hold", "effects": ["schema"], "hold": two},
    )
    found = judged("insert into t values (1); drop table t", *rules)
    assert found.action == "hold"
    assert found.hold.approvers == ("sec",)
    assert (found.hold.quorum, found.hold.expires_seconds) == (2, 60)
    assert (found.hold.acr, found.hold.amr) == (("b",), ("otp",))
    assert found.hold.mode == "refuse-and-retry"
    assert "'w'" in found.reason
    assert "'s'" in found.reason
    rules[0]["hold"]["approvers"] = ["dba"]
    assert judged("insert into t values (1); drop table t", *rules).action == "deny"
    rules[0]["hold"].update(approvers=["sec"], acr=["a"])
    assert judged("insert into t values (1); drop table t", *rules).action == "deny"


def test_what_nobody_understands_has_every_effect_on_any_table():
    for text in (None, "no sql at all"):
        for effect in EFFECTS:
            assert matches(text, {"effects": [effect]})
            if effect != "session":
                assert matches(text, {"effects": [effect], "tables": ["pay.cards"]})
        assert not lifts(text, {"tables": ["*"]})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"match": {"team": "pay"}}, True),
        ({"match": {"team": "ops"}}, False),
        ({"match": {"team": "pay", "level": 4}}, False),
        ({"match": {"team": "pay"}, "issuer": ISSUER}, True),
        ({"match": {"team": "pay"}, "issuer": OTHER}, False),
        ({"roles": ["x", "dev"]}, True),
        ({"roles": ["x"]}, False),
        ({"resources": ["payments"]}, True),
        ({"resources": ["ledger"]}, False),
        ({"source": ["10.1.0.0/16"]}, True),
        ({"source": ["10.2.0.0/16", "::/0"]}, False),
    ],
)
def test_who_and_where(rule, expected):
    assert matches("select 1", rule) is expected


@pytest.mark.parametrize(
    ("source", "inside"),
    [
        ("10.1.0.1", True),
        ("::ffff:10.1.0.1", True),
        ("[2001:db8::1]", True),
        ("fe80::1%eth0", False),
        ("192.0.2.1", False),
    ],
)
def test_addresses_of_both_families(source, inside):
    rule = {"source": ["10.1.0.0/16", "2001:db8::/32"]}
    assert matches("select 1", rule, source=source) is inside
    assert lifts("select 1", rule, source=source) is inside


def test_an_address_that_is_not_known_is_denied_and_not_allowed():
    rule = {"source": ["10.1.0.0/16"]}
    assert matches("select 1", rule, source="unix")
    assert not lifts("select 1", rule, source="unix")


@pytest.mark.parametrize(
    ("text", "denied", "allowed"),
    [
        ("select * from pay.cards", True, True),
        ("select * from cards", True, False),  # it may be, by the search path
        ('select * from PAY."cards"', True, True),
        ('select * from pay."Cards"', True, False),
        ("select * from other.cards", False, False),
        ("select * from pay.notes", False, False),
        ("select * from pay.notes, pay.cards", True, False),
        ("select 1", False, False),
        ("begin", False, False),
        ("do $$ begin end $$", True, False),
        ("drop schema pay cascade", True, False),
        ("drop table pay.cards", True, True),
        ("grant select on all tables in schema pay to x", True, False),
        ("with cards as (select 1) select * from cards", False, False),
        ("with x as (delete from pay.cards) select * from pay.notes", True, False),
        ("copy pay.cards to stdout", True, True),
        ("truncate pay.notes cascade", True, False),
        ("drop table pay.notes cascade", True, False),
        ("select unlisted()", True, False),
        ("select * from (select * from pay.cards) x", True, True),
        ("create view v as select * from pay.cards", True, False),
        ("lock table pay.cards", True, True),
        ("vacuum", True, False),
        ("select pg_advisory_lock(1)", False, False),
    ],
)
def test_tables(text, denied, allowed):
    rule = {"tables": ["pay.cards"]}
    assert matches(text, rule) is denied
    assert lifts(text, rule) is allowed


def test_patterns_of_tables():
    assert matches("select * from pay.cards_2024", {"tables": ["pay.cards_*"]})
    assert matches("select * from pay.cards_1", {"tables": ["p?y.cards_?"]})
    assert not matches("select * from pay.cards_12", {"tables": ["pay.cards_?"]})
    assert matches("select * from x.cards", {"tables": ["cards"]})
    assert lifts("select * from x.cards", {"tables": ["*.cards"]})
    assert lifts("select * from cards", {"tables": ["cards"]})
    assert not matches("select * from x.a", {"tables": ["[a]"]})
    assert matches('select * from x."[a]"', {"tables": ["[a]"]})
    assert matches('select * from x."a\nb"', {"tables": ["a?b"]})


def test_the_effect_and_the_table_belong_together():
    writes_cards = {"effects": ["write"], "tables": ["cards"]}
    assert not matches("insert into notes select * from cards", writes_cards)
    assert matches("insert into cards select * from notes", writes_cards)
    assert matches("select * from cards for update", writes_cards)
    assert matches("update cards set a = 1 where id = 2", writes_cards)
    assert not lifts("delete from notes using cards where true", {"effects": ["write"]})


@pytest.mark.parametrize(
    ("text", "denied", "allowed"),
    [
        ("select pan from pay.cards", True, True),
        ("select PAN from cards", True, True),
        ("select c.pan from pay.cards c", True, True),
        ("select id from pay.cards", False, False),
        ("select id, pan from pay.cards", True, False),
        ("select * from pay.cards", True, False),
        ("select c from pay.cards c", True, False),
        ("table pay.cards", True, False),
        ("select a from pay.cards as c(a, b)", True, False),
        ("select x.a from (pay.cards join pay.notes on true) as x(a, b)", True, False),
        ("select count(*) from pay.cards where pan = '1'", True, True),
        ("select id from pay.cards order by pan", True, False),
        ("copy pay.cards (id) to stdout", False, False),
        ("copy pay.cards to stdout", True, False),
        ("insert into pay.cards values (1)", True, False),
        ("insert into pay.cards (id) values (1)", False, False),
        ("insert into pay.cards (id) values (1) on conflict (id) do update set pan = '1'", True, False),
        ("update pay.cards set pan = '1' where pan = '2'", True, True),
        ("update pay.cards set (id, pan) = (1, 2) where id = 1", True, False),
        ("delete from pay.cards where id = 1", True, False),
        ("drop table pay.cards", True, False),
        ("alter table pay.cards drop column id", True, False),
        ("begin", False, False),
        ("select 1", False, False),
        ("do $$ begin end $$", True, False),
        ("select id from pay.cards natural join pay.notes", True, False),
        ("select id from pay.cards join pay.notes using (pan)", True, False),
        ("merge into pay.cards c using pay.notes n on c.id = n.id when matched then update set pan = '1'",
         True, False),
    ],
)  # fmt: skip
def test_columns(text, denied, allowed):
    rule = {"columns": ["pan"]}
    assert matches(text, rule) is denied
    assert lifts(text, rule) is allowed


def test_columns_of_tables():
    assert matches("select pan from cards", {"columns": ["pay.cards.pan"]})
    assert not lifts("select pan from cards", {"columns": ["pay.cards.pan"]})
    assert lifts("select pan from pay.cards", {"columns": ["pay.cards.pan"]})
    assert not matches("select pan from pay.notes", {"columns": ["cards.pan"]})
    assert matches("select pan from pay.notes, cards", {"columns": ["cards.pan"]})


def at(text):
    return datetime.datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("when", "now", "open_"),
    [
        ({"from": "09:00", "to": "17:00"}, "2026-03-02T09:00+00:00", True),
        ({"from": "09:00", "to": "17:00"}, "2026-03-02T08:59:59+00:00", False),
        ({"from": "09:00", "to": "17:00"}, "2026-03-02T17:00+00:00", False),
        # Vienna is an hour, and in summer two, in front
        ({"from": "09:00", "to": "17:00", "zone": "Europe/Vienna"}, "2026-03-02T08:30+00:00", True),
        ({"from": "09:00", "to": "17:00", "zone": "Europe/Vienna"}, "2026-07-02T15:30+00:00", False),
        ({"days": ["sat", "sun"]}, "2026-03-01T12:00+00:00", True),
        ({"days": ["sat", "sun"]}, "2026-03-02T00:00+00:00", False),
        # over midnight: Friday evening to Saturday morning
        ({"days": ["fri"], "from": "22:00", "to": "06:00"}, "2026-03-06T23:00+00:00", True),
        ({"days": ["fri"], "from": "22:00", "to": "06:00"}, "2026-03-07T05:59+00:00", True),
        ({"days": ["fri"], "from": "22:00", "to": "06:00"}, "2026-03-07T06:00+00:00", False),
        ({"days": ["fri"], "from": "22:00", "to": "06:00"}, "2026-03-06T05:00+00:00", False),
        ({"days": ["sun"], "from": "22:00", "to": "06:00"}, "2026-03-02T05:00+00:00", True),
    ],
)  # fmt: skip
def test_windows(when, now, open_):
    assert matches("select 1", {"when": when}, now=at(now)) is open_


def test_rows_over_asks_for_the_estimate_and_stands_without_it():
    rule = {"verdict": "hold", "rows_over": 100, "effects": ["write"], "hold": APPROVED}
    text = "delete from t where a < 3"
    asked = judged(text, rule)
    assert (asked.action, asked.needs_estimate) == ("hold", True)
    assert judged(text, rule, estimate=100.0).action == "allow"
    found = judged(text, rule, estimate=101.0)
    assert (found.action, found.needs_estimate) == ("hold", False)
    assert not judged("select 1", rule).needs_estimate


def test_shadow_rules_say_what_they_would_do_and_do_nothing():
    rules = (
        {"name": "early", "effects": ["schema"], "verdict": "allow"},
        {"name": "s", "shadow": True},
        {"name": "h", "shadow": True, "verdict": "hold", "effects": ["read"], "hold": APPROVED},
        {"name": "n", "shadow": True, "effects": ["admin"]},
    )
    found = judged("select 1", *rules)
    assert (found.action, found.rule) == ("allow", "role:dev")
    assert found.shadow == (("s", "deny"), ("h", "hold"))
    # It would not have decided: another stands before it.
    assert judged("drop table t", *rules).shadow == ()


def test_verdicts_are_remembered_only_where_nothing_else_can_change_them():
    fixed = book(
        {"effects": ["schema"]}, {"name": "w", "when": {"days": ["mon"]}, "effects": ["write"]}
    )
    judge = fixed.judge(WHO, GRANT, "10.0.0.1")
    monday, tuesday = at("2026-03-02T12:00+00:00"), at("2026-03-03T12:00+00:00")
    read = Statement("query", "", meaning=sql.understand("select 1"))
    write = Statement("query", "", meaning=sql.understand("insert into t values (1)"))
    assert judge.decide(read, monday) is judge.decide(read, tuesday)
    assert judge.decide(write, monday).action == "deny"
    assert judge.decide(write, tuesday).action == "allow"
    # Other sessions share what was found, unless other rules or another grant are theirs.
    assert fixed.judge(WHO, GRANT, "10.9.0.1").decide(read, monday) is judge.decide(read, monday)
    less = Grant("dev", "payments", effects=frozenset())
    assert fixed.judge(WHO, less, "10.0.0.1").decide(read, monday).action == "deny"


def test_a_meaning_that_is_gone_lends_its_verdict_to_no_other():
    judge = book({"effects": ["schema"]}).judge(WHO, GRANT)
    for number in range(5000):
        effect = "schema" if number % 2 else "read"
        part = Part("X", {effect: "x"})
        meaning = Understanding((part,), effects=frozenset({effect}))
        found = judge.decide(Statement("query", "", meaning=meaning), 0.0)
        assert found.action == ("deny" if number % 2 else "allow")


@pytest.mark.parametrize(
    ("first", "second", "covered"),
    [
        ({}, {"effects": ["read"]}, True),
        ({"effects": ["read"]}, {}, False),
        ({"effects": ["read", "write"]}, {"effects": ["read"], "tables": ["x"]}, True),
        ({"effects": ["read"], "tables": ["x"]}, {"effects": ["read"], "tables": ["y"]}, False),
        ({"verdict": "allow", "tables": ["x"]}, {"tables": ["x"]}, False),
        ({"verdict": "allow", "tables": ["x"]}, {"verdict": "allow", "tables": ["x"]}, True),
        ({"match": {"a": "b"}}, {"match": {"a": "b"}, "effects": ["read"]}, True),
        ({"match": {"a": "b"}}, {"match": {"a": "c"}}, False),
        ({"match": {"a": "b"}, "issuer": ISSUER}, {"match": {"a": "b"}}, False),
        ({"shadow": True}, {}, False),
        ({"condition": "true"}, {}, False),
        ({"rows_over": 1}, {}, False),
        ({"when": {"days": ["mon"]}}, {}, False),
    ],
)
def test_a_rule_that_can_never_decide_is_known(first, second, covered):
    made = [msgspec.convert({**DEFAULTS, **rule}, RuleSettings) for rule in (first, second)]
    assert policy.covers(*made) is covered
