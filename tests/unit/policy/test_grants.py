import itertools
from types import SimpleNamespace

import pytest

from pangate import policy, sql
from pangate.errors import NotAuthorised
from pangate.model import EFFECTS, Grant, Limits, Principal, Statement

ISSUER, OTHER = "https://a.example", "https://b.example"


def role(
    name,
    match=None,
    resources=("payments",),
    mask="last4",
    issuer=None,
    limits=None,
    effects=("read",),
    functions=(),
):
    return SimpleNamespace(
        name=name,
        match=match if match is not None else {"team": "reporting"},
        resources=resources,
        mask=mask,
        issuer=issuer,
        limits=SimpleNamespace(model=limits or Limits()),
        effects=effects,
        functions=functions,
    )


def rules(*roles, resources=("payments", "ledger")):
    return SimpleNamespace(
        roles=roles, resources_by_name={name: SimpleNamespace() for name in resources}
    )


def principal(*roles):
    return Principal("agent-1", ISSUER, 0.0, roles)


@pytest.mark.parametrize(
    ("match", "claims", "expected"),
    [
        ({"a": "x"}, {"a": "x"}, True),
        ({"a": "x"}, {"a": "X"}, False),
        ({"a": "x"}, {"a": "x "}, False),
        ({"a": "x"}, {"a": "xy"}, False),
        ({"a": "*"}, {"a": "x"}, False),
        ({"a": "x"}, {}, False),
        ({"a": "x"}, {"b": "x"}, False),
        ({"a": "x"}, {"a": None}, False),
        ({"a": ["x", "y"]}, {"a": "y"}, True),
        ({"a": ["x", "y"]}, {"a": "z"}, False),
        ({"a": "x"}, {"a": ["w", "x"]}, True),
        ({"a": ["x", "y"]}, {"a": ["w", "y"]}, True),
        ({"a": ["x", "y"]}, {"a": ["w", "v"]}, False),
        ({"a": "x"}, {"a": []}, False),
        ({"a": "x"}, {"a": [["x"]]}, False),
        ({"a": "x"}, {"a": {"x": 1}}, False),
        ({"a": "x", "b": "y"}, {"a": "x", "b": "y", "c": "z"}, True),
        ({"a": "x", "b": "y"}, {"a": "x"}, False),
        # Numbers, truth and text are not each other, although 1 == True and 1 == 1.0 in Python.
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": False}, {"a": 0}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": ""}, {}, False),
        # Tables, as Kubernetes has them
        ({"k": {"ns": "pay"}}, {"k": {"ns": "pay", "sa": {"name": "x"}}}, True),
        ({"k": {"ns": "pay", "sa": {"name": "y"}}}, {"k": {"ns": "pay", "sa": {"name": "x"}}}, False),
        ({"k": {"sa": {"name": ["x", "y"]}}}, {"k": {"sa": {"name": "x"}}}, True),
        ({"k": {"ns": "pay"}}, {"k": "ns"}, False),
        ({"k": {"ns": "pay"}}, {"k": [{"ns": "pay"}]}, False),
        ({"k": {}}, {"k": {}}, False),
    ],
)  # fmt: skip
def test_claims_to_roles(match, claims, expected):
    found = policy.roles_for(rules(role("r", match)), claims, ISSUER)
    assert found == (("r",) if expected else ())


def test_a_role_of_one_issuer_is_not_for_the_claims_of_another():
    configured = rules(role("a", issuer=ISSUER), role("b", issuer=OTHER), role("any"))
    claims = {"team": "reporting"}
    assert policy.roles_for(configured, claims, ISSUER) == ("a", "any")
    assert policy.roles_for(configured, claims, OTHER) == ("b", "any")


def test_a_grant_is_of_a_role_that_is_held():
    configured = rules(
        role("a", limits=Limits(max_rows=5), effects=("read", "write"), functions=("f",)),
        role("b", resources=("ledger",)),
    )
    assert policy.authorise(principal("a"), "payments", configured) == Grant(
        "a", "payments", "last4", Limits(max_rows=5), frozenset({"read", "write"}), ("f",)
    )


def test_unknown_and_not_granted_read_the_same():
    configured = rules(role("a"), role("gone", resources=("removed",)))
    texts = set()
    for who, resource in [
        (principal(), "payments"),
        (principal("a"), "ledger"),
        (principal("a"), "nowhere"),
        (principal("a"), ""),
        (principal("a"), "PAYMENTS"),
        (principal("a"), "payments\0"),
        (principal("nobody"), "payments"),
        (principal("gone"), "removed"),
    ]:
        with pytest.raises(NotAuthorised) as caught:
            policy.authorise(who, resource, configured)
        texts.add(caught.value.reason)
    (text,) = texts
    assert "ask whoever runs the gateway for a role" in text


def test_of_several_roles_the_mask_that_shows_least_holds_in_any_order():
    for masks in itertools.permutations(policy.MASKS, 3):
        roles = [role(f"r-{mask}", mask=mask) for mask in masks]
        held = principal(*(r.name for r in reversed(roles)))
        found = policy.authorise(held, "payments", rules(*roles))
        assert found.mask == min(masks, key=policy.MASKS.index)
        assert found.role == f"r-{found.mask}"


def test_among_equal_masks_the_first_in_the_configuration_holds():
    configured = rules(role("one", limits=Limits(max_rows=1)), role("two"))
    found = policy.authorise(principal("two", "one"), "payments", configured)
    assert (found.role, found.limits.max_rows) == ("one", 1)


def test_a_role_that_is_not_held_has_no_say():
    configured = rules(role("strict", mask="full"), role("mine"))
    assert policy.authorise(principal("mine"), "payments", configured).mask == "last4"


def judged(text, *effects, functions=()):
    grant = Grant("a", "payments", effects=frozenset(effects), functions=functions)
    return policy.decide(
        principal("a"), grant, Statement("query", text, meaning=sql.understand(text))
    )


def test_a_grant_covers_statements_of_its_holder_alone():
    grant = Grant("a", "payments")
    statement = Statement("query", "select 1", meaning=sql.understand("select 1"))
    allowed = policy.decide(principal("a"), grant, statement)
    assert (allowed.action, allowed.rule) == ("allow", "role:a")
    denied = policy.decide(principal("b"), grant, statement)
    assert denied.action == "deny"
    assert "ask whoever runs the gateway" in denied.reason


def test_a_command_that_nobody_understood_needs_everything():
    statement = Statement("query", "select 1")
    denied = policy.decide(principal("a"), Grant("a", "payments"), statement)
    assert (denied.action, denied.rule) == ("deny", "role:a")
    everything = Grant("a", "payments", effects=frozenset(EFFECTS))
    assert policy.decide(principal("a"), everything, statement).action == "allow"


@pytest.mark.parametrize(
    ("text", "effects", "said"),
    [
        ("select 1", ("read",), None),
        ("select 1", (), "needs the effect 'read' (SELECT)"),
        ("select 1", ("write",), "needs the effect 'read'"),
        ("begin", (), None),
        ("delete from t where a = 1", ("read",), "'write' (DELETE)"),
        ("delete from t where a = 1", ("write",), None),
        ("delete from t", ("write",), "'bulk_write' (DELETE without WHERE)"),
        ("delete from t", ("write", "bulk_write"), None),
        ("select 1; select 2; drop table t", ("read",), "statement 3 of 3 needs the effect 'schema'"),
        ("select f()", ("read",), "'code' (a call of f, which roles.functions does not list)"),
        ("select f()", ("read", "code"), None),
        ("set role x", ("read", "session"), "'privilege' (SET role)"),
        ("selct", ("read",), "cannot be understood (syntax error at character 1)"),
        ("set standard_conforming_strings = off", EFFECTS, "not passed through this gateway"),
    ],
)  # fmt: skip
def test_what_is_not_granted_is_denied_and_says_what_and_by_which_role(text, effects, said):
    verdict = judged(text, *effects)
    if said is None:
        assert verdict.action == "allow"
    else:
        assert verdict.action == "deny"
        assert said in verdict.reason
        assert "role 'a'" in verdict.reason or verdict.rule == "protocol"


@pytest.mark.parametrize(
    ("functions", "text", "action"),
    [
        (("f",), "select f()", "allow"),
        (("f",), "select F()", "allow"),
        (("f",), 'select "F"()', "deny"),
        (("f",), "select s.f()", "deny"),
        (("s.f",), "select s.f()", "allow"),
        (("s.f",), "select f()", "deny"),
        (("s.f",), "select f(), s.f()", "deny"),
        (("s.*",), "select s.f(), s.g()", "allow"),
        (("s.*",), "select sf()", "deny"),
        (("st_*",), "select st_x()", "allow"),
        (("st_*",), "select st_x.f()", "deny"),
        (("*",), "select f()", "allow"),
        (("*",), "select s.f()", "deny"),
        # what a function is known to do stays
        (("dblink",), "select dblink('', '')", "deny"),
        (("*",), "select pg_read_file('x')", "deny"),
        (("pg_terminate_backend",), "select pg_terminate_backend(1)", "deny"),
    ],
)
def test_functions_that_a_role_lists_may_be_called(functions, text, action):
    assert judged(text, "read", functions=functions).action == action
