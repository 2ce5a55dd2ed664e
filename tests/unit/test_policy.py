import itertools
from types import SimpleNamespace

import pytest

from pangate import policy
from pangate.errors import NotAuthorised
from pangate.model import Grant, Limits, Principal, Statement

ISSUER, OTHER = "https://a.example", "https://b.example"


def role(name, match=None, resources=("payments",), mask="last4", issuer=None, limits=None):
    return SimpleNamespace(
        name=name,
        match=match if match is not None else {"team": "reporting"},
        resources=resources,
        mask=mask,
        issuer=issuer,
        limits=SimpleNamespace(model=limits or Limits()),
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
    configured = rules(role("a", limits=Limits(max_rows=5)), role("b", resources=("ledger",)))
    assert policy.authorise(principal("a"), "payments", configured) == Grant(
        "a", "payments", "last4", Limits(max_rows=5)
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


def test_a_grant_covers_statements_of_its_holder_alone():
    grant = Grant("a", "payments")
    statement = Statement("query", "select 1")
    allowed = policy.decide(principal("a"), grant, statement)
    assert (allowed.action, allowed.rule) == ("allow", "role:a")
    denied = policy.decide(principal("b"), grant, statement)
    assert denied.action == "deny"
    assert "ask whoever runs the gateway" in denied.reason
