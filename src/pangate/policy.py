"""Who may do what: claims to roles, roles to a grant, a grant and a statement to a verdict. Pure;
what is not granted is denied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pangate.errors import NotAuthorised
from pangate.model import EFFECTS, Effect, Grant, Limits, Part, Principal, Statement, Verdict

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
        if role.issuer in (None, issuer) and _matches_table(role.match, claims)
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


def decide(principal: Principal, grant: Grant, statement: Statement) -> Verdict:
    """The verdict on one statement of a session that runs under `grant`.

    It is allowed when the grant has every effect that the statement needs, and `code` or the name of
    each function that it calls beside the resource's own. What nobody understood needs everything. A
    principal that does not hold the grant's role is denied."""
    if grant.role not in principal.roles:
        return Verdict(
            "deny",
            "the role of this session is not held any more; connect again, or ask whoever runs "
            "the gateway for a role that grants it",
            "role.missing",
        )
    meaning = statement.meaning
    if meaning is None:
        part = Part("", dict.fromkeys(EFFECTS, "a command that the gateway does not understand"))
        return _missing(grant, [part]) or _allowed(grant)
    if meaning.refusal:
        return Verdict("deny", meaning.refusal, "protocol")
    if meaning.effects <= grant.effects and (not meaning.calls or "code" in grant.effects):
        return _allowed(grant)
    return _missing(grant, meaning.parts) or _allowed(grant)


def _allowed(grant: Grant) -> Verdict:
    return Verdict("allow", rule=f"role:{grant.role}")


def _missing(grant: Grant, parts: Sequence[Part]) -> Verdict | None:
    """What the first part that is not granted needs; None when all are."""
    for number, part in enumerate(parts, 1):
        needs = dict(part.needs)
        for name in part.calls:
            if not _listed(name, grant.functions):
                needs.setdefault("code", f"a call of {name}, which roles.functions does not list")
        for effect in EFFECTS:
            if effect in needs and effect not in grant.effects:
                which = (
                    f"statement {number} of {len(parts)}" if len(parts) > 1 else "this statement"
                )
                return Verdict(
                    "deny",
                    f"{which} needs the effect {effect!r} ({needs[effect]}), which role "
                    f"{grant.role!r} does not grant; ask whoever runs the gateway for a role that does",
                    f"role:{grant.role}",
                )
    return None


def _listed(name: str, functions: Sequence[str]) -> bool:
    return any(
        name == listed
        # "st_*" is no word on the functions of a schema st_other
        or (
            listed[-1] == "*"
            and name.startswith(listed[:-1])
            and "." not in name[len(listed) - 1 :]
        )
        for listed in functions
    )


def _matches_table(wanted: Mapping[str, object], claims: Mapping[str, object]) -> bool:
    return all(
        claim in claims and _matches(value, claims[claim]) for claim, value in wanted.items()
    )


def _matches(wanted: object, found: object) -> bool:
    if isinstance(wanted, Mapping):
        # An empty table would be true of everything.
        return isinstance(found, Mapping) and bool(wanted) and _matches_table(wanted, found)
    options = wanted if isinstance(wanted, (list, tuple)) else (wanted,)
    values = found if isinstance(found, (list, tuple)) else (found,)
    return any(_same(option, value) for option in options for value in values)


def _same(option: object, value: object) -> bool:
    # In Python True == 1: the types have to be the same as well.
    return type(option) is type(value) and option == value
