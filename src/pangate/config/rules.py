"""The tables that refine what roles grant: rules, what a hold asks for, and who may approve."""

from __future__ import annotations

import ipaddress
import zoneinfo
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import Meta

from pangate.config.base import Count, Name, Seconds, Settings, Text
from pangate.model import Action, Effect, Hold

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Rows = Annotated[int, Meta(ge=0)]
Expression = Annotated[str, Meta(min_length=1, max_length=2000)]
Clock = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class ApproverSettings(Settings, frozen=True, kw_only=True):
    """A group of people who may decide what rules hold. Nobody decides their own request."""

    name: Annotated[Name, Meta(description="Name of the group, as `hold.approvers` has it.")]
    match: Annotated[
        dict[str, Any],
        Meta(
            description="Verified claims that a person must have to be in the group, as in `roles`."
        ),
    ]
    issuer: Annotated[
        str | None,
        Meta(
            description="`url` of the issuer of these claims; may be left out if there is only one."
        ),
    ] = None
    owns: Annotated[
        Text | None,
        Meta(
            description="Claim of an agent that names the subject of the person, or of the people, "
            "who own it: they may not decide its requests, as it may not itself."
        ),
    ] = None


class HoldSettings(Settings, frozen=True, kw_only=True):
    """What a held statement waits for."""

    approvers: Annotated[
        tuple[Name, ...],
        Meta(min_length=1, description="Names of the groups whose members may decide."),
    ]
    quorum: Annotated[
        Count, Meta(le=100, description="How many different people have to approve.")
    ] = 1
    expires_seconds: Annotated[
        Seconds, Meta(description="How long a request waits for its decision, in seconds.")
    ] = 3600.0
    transaction_seconds: Annotated[
        Seconds,
        Meta(
            description="The same inside a transaction, which keeps its locks meanwhile, in seconds."
        ),
    ] = 60.0
    reason_required: Annotated[
        bool, Meta(description="true asks for a written reason with each decision.")
    ] = False
    acr: Annotated[
        tuple[Text, ...],
        Meta(description="Authentication contexts, one of which an approver's login must have."),
    ] = ()
    amr: Annotated[
        tuple[Text, ...],
        Meta(description="Authentication methods, all of which an approver's login must have."),
    ] = ()
    mode: Annotated[
        Literal["wait", "refuse-and-retry"],
        Meta(
            description='"wait" keeps the statement until it is decided; "refuse-and-retry" answers '
            "with an error at once, and the same statement passes once after its approval."
        ),
    ] = "wait"
    estimate: Annotated[
        bool,
        Meta(description="true binds the approval to the planner's estimate of rows as well."),
    ] = False

    @property
    def model(self) -> Hold:
        """The hold in the gateway's own words."""
        return Hold(
            self.approvers,
            self.quorum,
            self.expires_seconds,
            self.transaction_seconds,
            self.reason_required,
            self.acr,
            self.amr,
            self.mode,
            self.estimate,
        )


class WhenSettings(Settings, frozen=True, kw_only=True, rename={"begin": "from", "end": "to"}):
    """A window of the week."""

    days: Annotated[
        tuple[Day, ...],
        Meta(description='Days on which the window begins: "mon" to "sun"; left out: all.'),
    ] = ()
    begin: Annotated[Clock, Meta(description='When it begins, as "HH:MM".')] = "00:00"
    end: Annotated[
        Clock,
        Meta(description='When it ends, as "HH:MM"; not later than `from` means on the next day.'),
    ] = "00:00"
    zone: Annotated[Text, Meta(description='Time zone, such as "Europe/Vienna".')] = "UTC"


class RuleSettings(Settings, frozen=True, kw_only=True):
    """Refines what roles grant: allows, denies or holds statements. It matches when all that it names
    does; what it leaves out matches everything. `docs/policy.md` says which rule decides."""

    name: Annotated[Name, Meta(description="Name of the rule, as records and refusals show it.")]
    verdict: Annotated[
        Action,
        Meta(
            description='"allow", "deny" or "hold" for approval. Nothing is allowed that the role '
            "does not grant."
        ),
    ]
    reason: Annotated[
        str, Meta(max_length=500, description="What the agent reads of why, in its error.")
    ] = ""
    match: Annotated[
        dict[str, Any], Meta(description="Verified claims of the agent, as in `roles`.")
    ] = {}
    issuer: Annotated[
        str | None,
        Meta(description="`url` of the issuer of these claims; left out: any that is configured."),
    ] = None
    roles: Annotated[tuple[str, ...], Meta(description="Names of roles, of which any.")] = ()
    resources: Annotated[
        tuple[str, ...], Meta(description="Names of resources, of which any.")
    ] = ()
    effects: Annotated[
        tuple[Effect, ...], Meta(description="Effects of a statement, of which any.")
    ] = ()
    tables: Annotated[
        tuple[Text, ...],
        Meta(
            description="Tables, of which any: `table` or `schema.table`, with `*` and `?` for any "
            "characters and any one."
        ),
    ] = ()
    columns: Annotated[
        tuple[Text, ...],
        Meta(
            description="Columns, of which any: `column`, `table.column` or `schema.table.column`, "
            "with `*` and `?`."
        ),
    ] = ()
    source: Annotated[
        tuple[str, ...],
        Meta(description='Addresses that the agent comes from: "10.1.0.0/16", "2001:db8::/32".'),
    ] = ()
    when: Annotated[WhenSettings | None, Meta(description="Window of the week.")] = None
    rows_over: Annotated[
        Rows | None,
        Meta(description="Matches when the planner expects more rows than this."),
    ] = None
    condition: Annotated[
        Expression | None,
        Meta(description="Condition in CEL; `docs/policy.md` has its variables."),
    ] = None
    hold: Annotated[
        HoldSettings | None, Meta(description='What a statement waits for; for "hold" only.')
    ] = None
    shadow: Annotated[
        bool,
        Meta(description="true only records what the rule would have done, and does nothing."),
    ] = False


def rule_problems(rule: RuleSettings) -> Iterator[tuple[str, str]]:
    """What is wrong within a rule, as (key, problem with its remedy)."""
    if not rule.name.isprintable():
        yield "name", "has control characters; take them out"
    if not rule.reason.isprintable():
        yield "reason", "has control characters; take them out"
    if rule.verdict == "hold" and rule.hold is None:
        yield "hold", 'missing: it says who may approve; write hold = { approvers = ["GROUP"] }'
    if rule.verdict != "hold" and rule.hold is not None:
        yield "hold", f'has no effect with verdict = "{rule.verdict}"; take one away'
    if rule.verdict == "allow" and rule.rows_over is not None:
        yield "rows_over", 'allows nothing; give the rule the verdict "hold" or "deny"'
    if rule.issuer is not None and not rule.match:
        yield "issuer", "has no effect without match; name a claim, or take it out"
    for key, most in (("tables", 1), ("columns", 2)):
        for pattern in getattr(rule, key):
            words = pattern.split(".")
            if not all(words) or len(words) > most + 1:
                form = "[schema.]table" if key == "tables" else "[[schema.]table.]column"
                yield key, f'"{pattern}" is no {form}; write it as that'
    for network in rule.source:
        try:
            ipaddress.ip_network(network)
        except ValueError as wrong:
            yield "source", f"{wrong}; write an address, or a network such as 10.1.0.0/16"


def when_problems(when: WhenSettings) -> Iterator[tuple[str, str]]:
    """What is wrong within a window, as (key, problem with its remedy)."""
    try:
        zoneinfo.ZoneInfo(when.zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        yield "zone", f'there is no time zone "{when.zone}"; write one such as "Europe/Vienna"'
    if not when.days and when.begin == when.end:
        yield "from", "the window is the whole week; give it days, or a from and a to that differ"
