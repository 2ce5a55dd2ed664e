"""What waits for people: the list, live; one request with all that it rests on; and deciding it. Every rule
about who may decide what is the desk's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from markupsafe import Markup
from starlette.responses import Response

from pangate.approvals import DecisionRefused
from pangate.approvals.people import groups_of, sign_in_missing
from pangate.control.console import texts
from pangate.control.console.sessions import MOST_STREAMS
from pangate.control.console.web import DECIDING, REQUESTS, Page, Refusal, Visit, Web
from pangate.control.streams import Stream
from pangate.store import Choice, Decision, Request, Review

MOST_SHOWN = 200
MOST_REASON = 10_000
BEAT_SECONDS = 15.0
"""How often a live list is loaded again when nothing happens: the time left goes on."""

CHOICES: dict[str, Choice] = {
    "approve": "approve",
    "deny": "deny",
    "break-glass": "break_glass",
}


async def listed(web: Web, visit: Visit) -> Response:
    """The page with the list."""
    await web.record(visit, "console.viewed", {"page": "approvals"})
    return web.page("approvals.html", visit, **await _lists(web, visit))


async def lists(web: Web, visit: Visit) -> Response:
    """The list alone, for a page that is open."""
    found = await _lists(web, visit)
    shown = [*found["waiting"], *found["settled"]]
    if new := [one for one in shown if one.id not in visit.session.listed]:
        # a page that is open loads this again and again: what it was shown before is recorded already
        await web.desk.listed(visit.session.person, visit.origin, new)
        visit.session.listed = frozenset(one.id for one in shown)
    return web.page("approvals_list.html", visit, **found)


async def _lists(web: Web, visit: Visit) -> dict[str, Any]:
    waiting = await web.desk.requests(("pending", "approved"), MOST_SHOWN)
    settled = await web.desk.requests(("denied", "expired", "withdrawn", "executed"), MOST_SHOWN)
    due = []
    for review in await web.desk.reviews():
        found, _, _ = await web.desk.show(review.request)
        if _sees(web, visit, found):
            due.append((review, found))
    return {
        "waiting": [
            one
            for one in waiting
            if _sees(web, visit, one) or await web.desk.stands_in(visit.session.person, one)
        ],
        "settled": [one for one in settled if _sees(web, visit, one)][:20],
        "due": due,
    }


async def live(web: Web, visit: Visit) -> Response:
    """Tells an open list that there is something else in it."""
    mine = [one for one in web.sessions.all() if one.person.name == visit.session.person.name]
    most = web.gate.config.control.max_watches
    if sum(one.streams for one in mine) >= most or visit.session.streams >= MOST_STREAMS:
        return Response(status_code=429, headers=web.headers)
    # counted before anything is waited for: many may ask at once
    visit.session.streams += 1
    return Stream(_changes(web, visit), web.headers, lambda: _over(visit))


def _over(visit: Visit) -> None:
    visit.session.streams -= 1


async def _changes(web: Web, visit: Visit) -> AsyncIterator[str]:
    session = visit.session
    changes = web.desk.watch()
    following = asyncio.ensure_future(anext(changes))
    ending = asyncio.ensure_future(web.ending.wait())
    both = asyncio.FIRST_COMPLETED
    try:
        yield "retry: 3000\n\n"
        while not web.sessions.over(session):
            done, _ = await asyncio.wait(
                {following, ending}, timeout=BEAT_SECONDS, return_when=both
            )
            if ending in done:
                return
            if not done:
                yield "data: beat\n\n"
                continue
            change = following.result()
            following = asyncio.ensure_future(anext(changes))
            if _sees(web, visit, change.request):
                yield "data: changed\n\n"
        yield "data: over\n\n"
    finally:
        for task in (following, ending):
            task.cancel()
        await asyncio.gather(following, ending, return_exceptions=True)


async def show(web: Web, visit: Visit) -> Response:
    """One request."""
    found, decisions, alike = await _visible(web, visit)
    web.desk.viewed(found, visit.session.person, visit.origin)
    await web.gate.durable()
    return web.page("approval.html", visit, **await _about(web, visit, found, decisions, alike))


async def _about(
    web: Web, visit: Visit, found: Request, decisions: list[Decision], alike: list[Request]
) -> dict[str, Any]:
    person = visit.session.person
    groups = web.gate.config.desk.groups
    glass = set(groups_of(person, groups)) & set(web.gate.config.desk.break_glass)
    due: Review | None = next(
        (one for one in await web.desk.reviews() if one.request == found.id), None
    )
    laid_out, exact = await asyncio.to_thread(_read_out, web.gate.mask_text(found.statement))
    return {
        "one": found,
        "counted": web.desk.counted(found.id),
        "countable": web.desk.countable(found.id),
        "uncounted": "",
        "decisions": decisions,
        "earlier": [(one, (await web.desk.show(one.id))[1]) for one in alike],
        "laid_out": laid_out,
        "exact": exact,
        "missing": sign_in_missing(found, person.claims),
        "mine": web.desk.called(person) == found.principal,
        "may_break": bool(glass),
        "decides": visit.session.has(*DECIDING),
        "review": due,
    }


def _read_out(text: str) -> tuple[Markup, Markup]:
    """A statement laid out, and as it is; both with colours. In a thread."""
    return texts.coloured(texts.laid_out(text)), texts.coloured(text)


async def decide(web: Web, visit: Visit) -> Response:
    """Approve, deny, break the glass, withdraw, review, or have the rows counted."""
    found, decisions, alike = await _visible(web, visit)
    choice, reason = visit.asked.path_params["choice"], visit.sent("reason")[:MOST_REASON]
    person, origin = visit.session.person, visit.origin
    if choice == "withdraw":
        await web.desk.withdraw_by(found.id, person, reason, origin)
    elif choice == "review":
        await web.desk.review(found.id, person, visit.sent("finding"), reason, origin)
    elif choice == "count":
        try:
            await web.desk.count(found.id, person, origin)
        except DecisionRefused as refused:
            if refused.kind != "not countable":
                raise
            about = await _about(web, visit, found, decisions, alike)
            return web.page("approval.html", visit, **{**about, "uncounted": refused.reason})
    elif choice in CHOICES:
        await web.desk.decide(found.id, person, CHOICES[choice], reason, origin)
    else:
        raise Refusal(404, "Not found", "There is nothing like that to be done with a request.")
    return web.to(f"/console/approvals/{found.id}")


def _sees(web: Web, visit: Visit, request: Request) -> bool:
    """Auditors see every request; all others what the desk says concerns them."""
    return visit.session.has("auditor", "admin") or web.desk.may_see(visit.session.person, request)


async def _visible(web: Web, visit: Visit) -> tuple[Request, list[Decision], list[Request]]:
    found, decisions, alike = await web.desk.show(cast(str, visit.asked.path_params["id"]))
    if not _sees(web, visit, found) and not await web.desk.stands_in(visit.session.person, found):
        raise await web.desk.unseen(visit.session.person, found, visit.origin)
    return found, decisions, alike


PAGES = (
    Page("/console/approvals", listed, REQUESTS),
    Page("/console/approvals/list", lists, REQUESTS, by_hand=False),
    Page("/console/approvals/live", live, REQUESTS, by_hand=False),
    Page("/console/approvals/{id}", show, REQUESTS),
    Page("/console/approvals/{id}/{choice}", decide, DECIDING, method="POST"),
)
