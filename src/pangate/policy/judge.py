"""From the rules and what a statement does to its verdict. The first rule that matches decides."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pangate.model import (
    EFFECTS,
    Action,
    Effect,
    Grant,
    Hold,
    Part,
    Principal,
    Statement,
    Understanding,
    Verdict,
)
from pangate.policy.conditions import ConditionFailed
from pangate.policy.rules import ANY, Access, Rule, RuleRules, accesses

ENTRIES = 2048
"""So many verdicts are remembered for each kind of session, and so many kinds of sessions."""

NOT_UNDERSTOOD = Part("", dict.fromkeys(EFFECTS, "a command that the gateway does not understand"))

Verdicts = dict[int, tuple[Understanding, Verdict]]

_STRICTNESS: dict[Action, int] = {"allow": 0, "hold": 1, "deny": 2}


@dataclass(frozen=True, slots=True)
class Step:
    """One comparison: rule `rule` (its name) with one access of one part of a statement. `failed` is the
    criterion that did not fit, empty when all did; `why` says more of it where there is more."""

    part: int
    access: Access
    rule: str
    failed: str
    why: str = ""


Trace = Callable[[Step], None]


class Rulebook:
    """The rules of a configuration, in its order."""

    def __init__(self, rules: Sequence[RuleRules] = ()) -> None:
        self.rules = tuple(map(Rule, rules))
        self._verdicts: dict[tuple[Grant, tuple[int, ...]], Verdicts] = {}

    def judge(self, principal: Principal, grant: Grant, source: str = "") -> Judge:
        """Who decides for a session of `principal` under `grant` from the address `source`."""
        mine = tuple(
            number
            for number, rule in enumerate(self.rules)
            if not rule.session_mismatch(principal, grant.role, grant.resource, source)
        )
        if len(self._verdicts) >= ENTRIES:
            self._verdicts.clear()
        verdicts = self._verdicts.setdefault((grant, mine), {})
        return Judge(principal, grant, source, [self.rules[number] for number in mine], verdicts)


@dataclass(slots=True)
class _Circumstances:
    """What a decision rests on beside the statement, and what is known of it so far."""

    now: float
    estimate: float | None
    parameters: int
    dynamic: bool = False
    needs_estimate: bool = False


class Judge:
    """Decides the statements of one session. Verdicts that nothing but the statement's meaning can
    change are remembered, and shared with the sessions that have the same rules and the same grant."""

    __slots__ = ("_by_effect", "_grant", "_held", "_principal", "_rules", "_source", "_verdicts")

    def __init__(
        self,
        principal: Principal,
        grant: Grant,
        source: str,
        rules: Sequence[Rule],
        verdicts: Verdicts,
    ) -> None:
        self._principal = principal
        self._grant = grant
        self._source = source
        self._rules = rules
        self._held = grant.role in principal.roles
        # What is known is known of those that hold the role.
        self._verdicts = verdicts if self._held else {}
        self._by_effect: dict[Effect | None, list[Rule]] = {}

    def decide(
        self,
        statement: Statement,
        now: float,
        estimate: float | None = None,
        trace: Trace | None = None,
    ) -> Verdict:
        """The verdict on one statement at `now` (seconds since the epoch), when the planner expects
        `estimate` rows; None when it was not asked, or cannot say. `trace` is told each comparison."""
        meaning = statement.meaning
        known = self._verdicts.get(id(meaning))
        # the identity may have been another's, and is not while it is kept here
        if known is not None and known[0] is meaning and trace is None:
            return known[1]
        if not self._held:
            return Verdict(
                "deny",
                "the role of this session is not held any more; connect again, or ask whoever runs "
                "the gateway for a role that grants it",
                "role.missing",
            )
        if meaning is not None and meaning.refusal:
            return Verdict("deny", meaning.refusal, "protocol")
        parts = meaning.parts if meaning is not None else (NOT_UNDERSTOOD,)
        about = _Circumstances(now, estimate, len(statement.parameters))
        needs = [needs_of(part, self._grant) for part in parts]
        verdict = self._ceiling(parts, needs) or self._refined(parts, needs, about, trace)
        if meaning is not None and not about.dynamic:
            if len(self._verdicts) >= ENTRIES:
                self._verdicts.clear()
            self._verdicts[id(meaning)] = meaning, verdict
        return verdict

    def remembers(self, meaning: Understanding) -> bool:
        """Whether the verdict on it holds for every statement that means the same, as long as this judge is
        the one who decides."""
        known = self._verdicts.get(id(meaning))
        return known is not None and known[0] is meaning

    # What the role grants

    def _ceiling(
        self, parts: Sequence[Part], all_needs: Sequence[Mapping[Effect, str]]
    ) -> Verdict | None:
        """What the first part that is not granted needs; None when all are."""
        grant = self._grant
        for number, needs in enumerate(all_needs, 1):
            if needs.keys() <= grant.effects:
                continue
            effect = next(one for one in EFFECTS if one in needs and one not in grant.effects)
            return Verdict(
                "deny",
                f"{_which(number, parts)} needs the effect {effect!r} ({needs[effect]}), which role "
                f"{grant.role!r} does not grant; ask whoever runs the gateway for a role that does",
                f"role:{grant.role}",
            )
        return None

    # What the rules say of it

    def _refined(
        self,
        parts: Sequence[Part],
        all_needs: Sequence[Mapping[Effect, str]],
        about: _Circumstances,
        trace: Trace | None,
    ) -> Verdict:
        verdict = Verdict("allow", rule=f"role:{self._grant.role}")
        if not self._rules:
            return verdict
        deciding: set[str] = set()
        shadow: dict[tuple[str, Action], None] = {}
        for number, (part, needs) in enumerate(zip(parts, all_needs, strict=True), 1):
            answers: dict[str, bool | ConditionFailed] = {}
            for access in accesses(part, needs):
                rule = self._first(number, part, access, about, answers, shadow, trace)
                if rule is None:
                    continue
                if rule.name in deciding:
                    continue
                if rule.action == "allow" and rule.name not in answers:
                    found = rule.allowed
                else:
                    found = _verdict(rule, answers, _which(number, parts), access, needs)
                if found.action == verdict.action == "hold":
                    verdict = _both(verdict, found)
                elif _STRICTNESS[found.action] > _STRICTNESS[verdict.action] or not deciding:
                    verdict = found
                deciding.add(rule.name)
        if about.needs_estimate or shadow:
            return replace(verdict, needs_estimate=about.needs_estimate, shadow=tuple(shadow))
        return verdict

    def _first(
        self,
        number: int,
        part: Part,
        access: Access,
        about: _Circumstances,
        answers: dict[str, bool | ConditionFailed],
        shadow: dict[tuple[str, Action], None],
        trace: Trace | None,
    ) -> Rule | None:
        """The first rule that matches an access. A condition is asked once for each part."""
        rules = self._rules if trace is not None else self._about(access.effect)
        for rule in rules:
            failed = rule.access_mismatch(access, part)
            if not failed and rule.dynamic:
                about.dynamic = True
                failed = self._circumstances_mismatch(rule, part, about, answers)
            if trace is not None:
                answer = answers.get(rule.name) if rule.condition else None
                why = str(answer) if isinstance(answer, ConditionFailed) else ""
                trace(Step(number, access, rule.name, failed, why))
            if failed:
                continue
            if not rule.shadow:
                return rule
            # A condition that fails denies.
            wrong = isinstance(answers.get(rule.name), ConditionFailed)
            shadow[rule.name, "deny" if wrong else rule.action] = None
        return None

    def _about(self, effect: Effect | None) -> Sequence[Rule]:
        """The rules that can match an effect at all, in their order."""
        found = self._by_effect.get(effect)
        if found is None:
            found = [rule for rule in self._rules if not rule.effects or effect in rule.effects]
            self._by_effect[effect] = found
        return found

    def _circumstances_mismatch(
        self,
        rule: Rule,
        part: Part,
        about: _Circumstances,
        answers: dict[str, bool | ConditionFailed],
    ) -> str:
        if not rule.open_at(about.now):
            return "when"
        if rule.rows_over is not None:
            if about.estimate is not None and about.estimate <= rule.rows_over:
                return "rows_over"
            missing = about.estimate is None
        else:
            missing = False
        if rule.condition is not None:
            answer = answers.get(rule.name)
            if answer is None:
                try:
                    answer = rule.condition.holds(self._variables(part, about))
                except ConditionFailed as wrong:
                    answer = wrong
                answers[rule.name] = answer
            if answer is False:
                return "condition"
        if missing and not rule.shadow:
            about.needs_estimate = True
        return ""

    def _variables(self, part: Part, about: _Circumstances) -> Mapping[str, object]:
        needs = needs_of(part, self._grant)
        return {
            "principal": {
                **self._principal.claims,
                "sub": self._principal.subject,
                "iss": self._principal.issuer,
            },
            "role": self._grant.role,
            "resource": self._grant.resource,
            "effects": [effect for effect in EFFECTS if effect in needs],
            "tables": [str(relation) for relation in part.relations],
            "columns": [f"{table}.{name}" if table else name for table, name in part.columns],
            "command": part.command,
            "where": part.where,
            "source": self._source,
            "time": datetime.datetime.fromtimestamp(about.now, datetime.UTC),
            "parameters": about.parameters,
        }


def needs_of(part: Part, grant: Grant) -> Mapping[Effect, str]:
    """What a part needs of a role, with `code` for what it calls and the role does not list."""
    if not part.calls or "code" in part.needs:
        return part.needs
    for name in part.calls:
        if not _listed(name, grant.functions):
            return {
                **part.needs,
                "code": f"a call of {name}, which roles.functions does not list",
            }
    return part.needs


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


def _which(number: int, parts: Sequence[Part]) -> str:
    return f"statement {number} of {len(parts)}" if len(parts) > 1 else "this statement"


def _verdict(
    rule: Rule,
    answers: Mapping[str, bool | ConditionFailed],
    which: str,
    access: Access,
    needs: Mapping[Effect, str],
) -> Verdict:
    """What a rule that matches says."""
    if isinstance(answers.get(rule.name), ConditionFailed):
        return Verdict(
            "deny",
            f"{which} is denied because the condition of rule {rule.name!r} cannot be decided; ask "
            "whoever runs the gateway to look at it",
            f"rule:{rule.name}",
        )
    if rule.action == "allow":
        return rule.allowed
    why = rule.reason
    if not why and access.effect is not None:
        why = f"effect {access.effect!r}, {needs[access.effect]}"
        if access.relation is not None and access.relation is not ANY:
            why += f", on {access.relation}"
    verb = "is denied by" if rule.action == "deny" else "needs approval by"
    reason = f"{which} {verb} rule {rule.name!r}" + (f": {why}" if why else "")
    return Verdict(rule.action, reason, f"rule:{rule.name}", rule.hold)


def _both(first: Verdict, second: Verdict) -> Verdict:
    """One hold that satisfies two, or a refusal when none can."""
    one, other = first.hold, second.hold
    assert one is not None
    assert other is not None
    approvers = tuple(group for group in one.approvers if group in other.approvers)
    acr = tuple(level for level in one.acr if level in other.acr) or (
        () if one.acr and other.acr else one.acr or other.acr
    )
    if not approvers or (one.acr and not acr):
        return Verdict(
            "deny",
            f"{first.reason}; and {second.reason}: nobody may approve both, send what they "
            "are about in statements of their own",
            second.rule,
        )
    retry = "refuse-and-retry" in (one.mode, other.mode)
    hold = Hold(
        approvers,
        max(one.quorum, other.quorum),
        min(one.expires_seconds, other.expires_seconds),
        min(one.transaction_seconds, other.transaction_seconds),
        one.reason_required or other.reason_required,
        acr,
        tuple(dict.fromkeys((*one.amr, *other.amr))),
        "refuse-and-retry" if retry else "wait",
        one.estimate or other.estimate,
    )
    return replace(first, reason=f"{first.reason}; and {second.reason}", hold=hold)
