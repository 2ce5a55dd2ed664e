"""What the rules say to a statement that nobody sends: asked on the command line and in the console."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pangate import policy, sql
from pangate.config import Config
from pangate.errors import NotAuthorised, PangateError
from pangate.model import Principal, Statement, Verdict


class Unusable(PangateError):
    """What was given to ask with makes no question."""


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks for what: the claims of a verified token, and a statement. `role` is taken instead of
    what the claims give; `now` is in seconds since the epoch, None for the present."""

    resource: str
    text: str
    claims: Mapping[str, object] = field(default_factory=dict)
    role: str = ""
    source: str = ""
    now: float | None = None
    rows: float | None = None


def ask(config: Config, question: Question) -> tuple[Principal, policy.Explanation]:
    """Who the claims make of somebody, and the explained verdict. Raises Unusable."""
    if question.resource not in config.resources_by_name:
        known = ", ".join(config.resources_by_name)
        raise Unusable(f'there is no resource "{question.resource}"; there is {known}')
    claims = question.claims
    issuer = claims.get("iss")
    if issuer is None and len(config.issuers) == 1:
        issuer = config.issuers[0].url
    issuer = str(issuer or "")
    roles = policy.roles_for(config, claims, issuer)
    if question.role:
        if not any(role.name == question.role for role in config.roles):
            known = ", ".join(role.name for role in config.roles)
            raise Unusable(f'there is no role "{question.role}"; there is {known}')
        roles = (question.role,)
    principal = Principal(str(claims.get("sub", "")), issuer, 0.0, roles, claims)
    try:
        grant = policy.authorise(principal, question.resource, config)
    except NotAuthorised as refused:
        verdict = Verdict("deny", refused.reason, "role.none")
        return principal, policy.Explanation(verdict, (), (), ())
    meaning = sql.resolve(sql.understand(question.text), {})
    return principal, policy.explain(
        config.rulebook,
        principal,
        grant,
        Statement("query", question.text, meaning=meaning),
        source=question.source,
        now=time.time() if question.now is None else question.now,
        estimate=question.rows,
    )
