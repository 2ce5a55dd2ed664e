"""Why a statement has its verdict: every rule in its order, with what of it does not match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pangate.model import Effect, Grant, Part, Principal, Statement, Verdict
from pangate.policy.judge import NOT_UNDERSTOOD, Rulebook, Step, needs_of
from pangate.policy.rules import ANY, Access, Rule, accesses


@dataclass(frozen=True, slots=True)
class Considered:
    """A rule as one access met it. `outcome` is "decides", "would decide" (a shadow rule), "no" with
    `why`, or "not reached"."""

    rule: str
    action: str
    outcome: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Explained:
    """One effect of one part on one relation, and the rules that it met. `part` counts from 1."""

    part: int
    access: Access
    rules: tuple[Considered, ...]

    def __str__(self) -> str:
        effect, relation = self.access.effect, self.access.relation
        if effect is None:
            return "no effect"
        if relation is None:
            return effect
        return f"{effect} on {'what it does not name' if relation is ANY else relation}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict with what it rests on. `accesses` is empty when the role decides alone."""

    verdict: Verdict
    parts: tuple[Part, ...]
    needs: tuple[Mapping[Effect, str], ...]
    accesses: tuple[Explained, ...]


def explain(
    book: Rulebook,
    principal: Principal,
    grant: Grant,
    statement: Statement,
    *,
    source: str = "",
    now: float = 0.0,
    estimate: float | None = None,
) -> Explanation:
    """The verdict on a statement, as `policy.decide` gives it, and how it came about."""
    steps: list[Step] = []
    verdict = book.judge(principal, grant, source).decide(statement, now, estimate, steps.append)
    meaning = statement.meaning
    parts = meaning.parts if meaning is not None else (NOT_UNDERSTOOD,)
    needs = tuple(needs_of(part, grant) for part in parts)
    explained = []
    if verdict.rule not in (f"role:{grant.role}", "role.missing", "protocol") or (
        verdict.action == "allow"
    ):
        met = {(step.part, step.access, step.rule): step for step in steps}
        for number, part in enumerate(parts, 1):
            for access in accesses(part, needs[number - 1]):
                considered = []
                for rule in book.rules:
                    step = met.get((number, access, rule.name))
                    failed = rule.session_mismatch(principal, grant.role, grant.resource, source)
                    considered.append(_considered(rule, failed, step, source, estimate))
                explained.append(Explained(number, access, tuple(considered)))
    return Explanation(verdict, parts, needs, tuple(explained))


def _considered(
    rule: Rule, failed: str, step: Step | None, source: str, estimate: float | None
) -> Considered:
    if not failed and step is None:
        return Considered(rule.name, rule.action, "not reached")
    if step is not None:
        failed = step.failed
    if failed:
        return Considered(rule.name, rule.action, "no", _why(rule, failed, source, estimate))
    why = ""
    if step is not None and step.why:
        why = f"its condition cannot be decided: {step.why}"
    elif rule.settings.source and not source:
        why = "where the agent comes from is not known"
    return Considered(rule.name, rule.action, "would decide" if rule.shadow else "decides", why)


def _why(rule: Rule, failed: str, source: str, estimate: float | None) -> str:
    """What of a rule does not match, and what it wants there."""
    settings = rule.settings
    if failed == "match":
        issuer = f" of {settings.issuer}" if settings.issuer else ""
        return f"it is for other claims{issuer}: {dict(settings.match)}"
    if failed == "source":
        return f"{source or 'no address'} is in none of {', '.join(settings.source)}"
    if failed == "when" and settings.when is not None:
        when = settings.when
        days = " ".join(when.days) or "every day"
        return f"it is not now in {days} {when.begin} to {when.end} {when.zone}"
    if failed == "rows_over":
        return f"the planner expects {estimate:g} rows, not more than {rule.rows_over}"
    if failed == "condition":
        return f"not true: {settings.condition}"
    return f"its {failed} are {', '.join(getattr(settings, failed))}"
