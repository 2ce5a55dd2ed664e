"""Who decides in whose place: the list of delegations, giving one, and ending one. Whether it may be given is
the desk's to say, as for the API."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from pangate.approvals import DecisionRefused
from pangate.approvals.people import groups_of
from pangate.control.console.web import DECIDING, READING, REQUESTS, Page, Visit, Web
from pangate.store import Delegation

MOST_REASON = 10_000
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Listed:
    """One of them as a page has it. `mine` is whether who looks gave it, and may end it; `holds` is whether
    its time has come."""

    one: Delegation
    mine: bool
    holds: bool


async def listed(web: Web, visit: Visit) -> Response:
    """Those that who asks gave or has; for those who audit, all."""
    return await _page(web, visit)


async def give(web: Web, visit: Visit) -> Response:
    """Let somebody decide in one's own place for a time."""
    person = visit.session.person
    kept = {name: visit.sent(name).strip() for name in ("receiver", "group", "starts", "ends")}
    kept["reason"] = visit.sent("reason")[:MOST_REASON]
    receiver = kept["receiver"]
    if receiver and "#" not in receiver:
        receiver = f"{person.issuer}#{receiver}"
    try:
        starts = _moment(kept["starts"], "From") if kept["starts"] else time.time()
        ends = _moment(kept["ends"], "To")
        await web.desk.delegate(
            person, receiver, kept["group"], starts, ends, kept["reason"], visit.origin
        )
    except DecisionRefused as refused:
        return await _page(web, visit, 422, wrong=refused.reason, kept=kept)
    return web.to("/console/delegations")


async def end(web: Web, visit: Visit) -> Response:
    """Take one back."""
    name = visit.asked.path_params["delegation"]
    try:
        await web.desk.revoke(name, visit.session.person, visit.origin)
    except DecisionRefused as refused:
        return await _page(web, visit, 404, wrong=refused.reason)
    return web.to("/console/delegations")


async def _page(
    web: Web,
    visit: Visit,
    status: int = 200,
    *,
    wrong: str = "",
    kept: Mapping[str, str] | None = None,
) -> Response:
    await web.record(visit, "console.viewed", {"page": "delegations"})
    person, now = visit.session.person, time.time()
    me = web.desk.called(person)
    audits = visit.session.has(*READING)
    found = await (web.desk.delegations() if audits else web.desk.delegated_to(person))
    most = web.gate.config.desk.delegation_seconds
    tomorrow = datetime.datetime.fromtimestamp(now + min(DAY, most), datetime.UTC)
    return web.page(
        "delegations.html",
        visit,
        status,
        rows=[Listed(one, one.giver == me, one.starts <= now) for one in found],
        audits=audits,
        decides=visit.session.has(*DECIDING),
        groups=groups_of(person, web.gate.config.desk.groups),
        most=most,
        wrong=wrong,
        kept=kept
        or {"receiver": "", "group": "", "starts": "", "ends": f"{tomorrow:%Y-%m-%dT%H:%M}", "reason": ""},
    )  # fmt: skip


def _moment(text: str, name: str) -> float:
    """A time as a field of a form has it, which is UTC here whatever the clock of the browser."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or not 1970 < found.year < 3000:
        raise DecisionRefused("misused", f"{name} is a day and a time, as 2026-11-30T08:00, in UTC")
    return found.replace(tzinfo=datetime.UTC).timestamp()


PAGES = (
    Page("/console/delegations", listed, REQUESTS),
    Page("/console/delegations", give, DECIDING, method="POST"),
    Page("/console/delegations/{delegation}/end", end, DECIDING, method="POST"),
)
