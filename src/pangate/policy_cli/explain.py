"""`pangate policy explain`: one verdict, and every rule that was looked at on the way."""

from __future__ import annotations

from pangate.config import Config
from pangate.policy_cli import OK
from pangate.question import Question, ask


def run(config: Config, question: Question) -> int:
    """Print the explanation."""
    principal, found = ask(config, question)
    roles = ", ".join(principal.roles) or "none"
    print(f"principal  {principal.name}, roles: {roles}")
    for number, (part, needs) in enumerate(zip(found.parts, found.needs, strict=True), 1):
        print(f"statement  {number} of {len(found.parts)}: {part.command or 'not understood'}")
        for effect, why in needs.items():
            print(f"           needs {effect}: {why}")
        tables = ", ".join(f"{relation} ({relation.use})" for relation in part.relations)
        if tables:
            print(f"           tables: {tables}")
        if part.where:
            print(f"           where: {part.where}")
    width = max((len(rule.name) for rule in config.rules), default=0)
    for explained in found.accesses:
        print(f"\nstatement {explained.part}, {explained}")
        for number, rule in enumerate(explained.rules, 1):
            what = f"{rule.outcome}: {rule.why}" if rule.why else rule.outcome
            print(f"  {number:>3}  {rule.rule:<{width}}  {rule.action:<5}  {what}")
        if not any(rule.outcome == "decides" for rule in explained.rules):
            print("       no rule matches: the role grants it")
    verdict = found.verdict
    print(f"\nverdict    {verdict.action}, decided by {verdict.rule}")
    if verdict.reason:
        print(f"reason     {verdict.reason}")
    if verdict.hold is not None:
        groups = " or ".join(verdict.hold.approvers)
        print(f"approval   of {verdict.hold.quorum} of {groups}, in {verdict.hold.mode} mode")
    if verdict.needs_estimate:
        print("estimate   the planner's could change it: give one with --rows")
    for name, action in verdict.shadow:
        print(f"shadow     {name} would {action}")
    return OK
