"""Who may do what: claims to roles, roles to a grant, a grant and a statement to a verdict. Pure;
what is not granted is denied, and rules refine what is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pangate.errors import NotAuthorised
from pangate.model import Effect, Grant, Limits, Principal, Statement, Verdict
from pangate.policy.claims import matches_table
from pangate.policy.conditions import Condition
from pangate.policy.explain import Explanation, explain
from pangate.policy.judge import Judge, Rulebook, Step
from pangate.policy.rules import covers

__all__ = [
    "MASKS",
    "Condition",
    "Explanation",
    "Judge",
    "Rulebook",
    "Step",
    "authorise",
    "covers",
    "decide",
    "explain",
    "roles_for",
]

MASKS = ("full", "last4", "first6_last4", "first8_last4")
"""The masks from the one that shows least to the one that shows most."""


class LimitRules(Protocol):
    """The bounds of a role, as the configuration has them."""

    @property
    def model(self) -> Limits: ...


class RoleRules(Protocol):
    """A role, as the configuration has it."""

    @property
    def name(self) -> str: ...
    @property
    def match(self) -> Mapping[str, object]: ...
    @property
    def issuer(self) -> str | None: ...
    @property
    def resources(self) -> Sequence[str]: ...
    @property
    def mask(self) -> str: ...
    @property
    def limits(self) -> LimitRules: ...
    @property
    def effects(self) -> Sequence[Effect]: ...
    @property
    def functions(self) -> Sequence[str]: ...


class Rules(Protocol):
    """What decisions rest on. `pangate.config.Config` is one."""

    @property
    def roles(self) -> Sequence[RoleRules]: ...
    @property
    def resources_by_name(self) -> Mapping[str, object]: ...


def roles_for(rules: Rules, claims: Mapping[str, object], issuer: str) -> tuple[str, ...]:
    """Names of the roles that verified `claims` of `issuer` have, in the configuration's order.

    A role without an issuer is for the only one that is configured; `config.load` refuses it when
    there are several."""
    return tuple(
        role.name
        for role in rules.roles
        if role.issuer in (None, issuer) and matches_table(role.match, claims)
    )


def authorise(principal: Principal, resource: str, rules: Rules) -> Grant:
    """The grant of `principal` on the resource named `resource`.

    When several of the principal's roles grant it, the one whose mask shows least holds, and the
    first in the configuration among equals; its limits and effects hold with it. So a further role
    never shows more of a card number.

    Raises NotAuthorised, with one sentence for an unknown resource and for one that is not granted,
    so that names cannot be guessed."""
    held = set(principal.roles)
    granting = [role for role in rules.roles if role.name in held and resource in role.resources]
    if not granting or resource not in rules.resources_by_name:
        raise NotAuthorised(
            "no role of this identity grants access to the requested database; ask whoever runs "
            "the gateway for a role that grants it"
        )
    role = min(granting, key=lambda role: MASKS.index(role.mask))
    return Grant(
        role.name,
        resource,
        role.mask,
        role.limits.model,
        frozenset(role.effects),
        tuple(role.functions),
    )


def decide(
    principal: Principal,
    grant: Grant,
    statement: Statement,
    rules: Rulebook | None = None,
    *,
    source: str = "",
    now: float = 0.0,
    estimate: float | None = None,
) -> Verdict:
    """The verdict on one statement of a session that runs under `grant`.

    The grant is the most that it may do: every effect that it needs, and `code` or the name of each
    function that it calls beside the resource's own. What nobody understood needs everything. A
    principal that does not hold the grant's role is denied. Within that, for each effect and each
    table of each part the first of `rules` that matches decides, and the strictest of these verdicts
    is the statement's. A session that decides often keeps what `Rulebook.judge` gives it."""
    judge = (rules or _NO_RULES).judge(principal, grant, source)
    return judge.decide(statement, now, estimate)


_NO_RULES = Rulebook()
