"""Who may decide a request: pure rules over verified claims, the request and what was said so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pangate.model import Principal
from pangate.policy.claims import matches_table
from pangate.store import Delegation, Request


class GroupRules(Protocol):
    """A group of approvers, as the configuration has it."""

    @property
    def name(self) -> str: ...
    @property
    def match(self) -> Mapping[str, object]: ...
    @property
    def issuer(self) -> str | None: ...
    @property
    def owns(self) -> str | None: ...


def groups_of(person: Principal, groups: Sequence[GroupRules]) -> tuple[str, ...]:
    """Names of the groups that `person` is in."""
    return tuple(
        group.name
        for group in groups
        if group.issuer in (None, person.issuer) and matches_table(group.match, person.claims)
    )


def excluded(
    name: str, requester: str, claims: Mapping[str, object], groups: Sequence[GroupRules]
) -> str:
    """Why the person of this name may not decide what `requester` asks for, whatever else is so; empty
    when they may. `claims` are the requester's. Names and claims are all masked: who cannot be told
    apart that way is the same.

    Nobody is exempt: being an administrator, or in every group, changes nothing."""
    if name == requester:
        return "nobody decides their own request"
    subject = name.partition("#")[2]
    for group in groups:
        if group.owns is not None and subject in owners(group.owns, claims):
            return f"you own the agent that asks (its claim {group.owns!r} names you)"
    return ""


def owners(claim: str, claims: Mapping[str, object]) -> tuple[str, ...]:
    """The subjects that a claim of an agent names as its owners."""
    value = claims.get(claim)
    found = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(one for one in found if isinstance(one, str))


def sign_in_missing(request: Request, claims: Mapping[str, object]) -> str:
    """What a person's login lacks for this request; empty when it will do."""
    if request.acr and claims.get("acr") not in request.acr:
        return f"sign in again with acr {' or '.join(request.acr)}"
    amr = claims.get("amr")
    methods = amr if isinstance(amr, (list, tuple)) else (amr,)
    missing = [method for method in request.amr if method not in methods]
    if missing:
        return f"sign in again with {' and '.join(missing)} (amr)"
    return ""


def standing(delegation: Delegation, receiver: str, request: Request, now: float) -> bool:
    """Whether a delegation lets `receiver` decide this request now."""
    return (
        delegation.receiver == receiver
        and delegation.group in request.approvers
        and delegation.starts <= now < delegation.ends
        and delegation.revoked is None
    )


_OF_THE_TOKEN = frozenset(
    ("iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash", "sid", "auth_time")
)
"""Claims that say something of the token alone."""


def shown(claims: Mapping[str, object], mask: Callable[[str], str]) -> dict[str, object]:
    """The claims that somebody who decides, or reads of it later, sees: all but what concerns the token
    alone, masked. They are no longer than a token may be."""
    return {
        mask(str(name)): _shown(value, mask)
        for name, value in claims.items()
        if name not in _OF_THE_TOKEN
    }


def _shown(value: object, mask: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, (list, tuple)):
        return [_shown(one, mask) for one in value]
    if value is None or isinstance(value, bool):
        return value
    said = str(value)
    masked = mask(said)
    return value if masked == said and isinstance(value, (int, float)) else masked
