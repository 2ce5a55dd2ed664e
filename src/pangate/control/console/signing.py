"""Signing in and out."""

from __future__ import annotations

import dataclasses
import re
import time

from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from pangate.approvals.people import shown
from pangate.control.console.guard import address_of
from pangate.control.console.provider import SignInFailed
from pangate.control.console.sessions import SIGN_IN_SECONDS
from pangate.control.console.web import Page, Refusal, Visit, Web
from pangate.model import Principal
from pangate.policy.claims import matches_table

UNKNOWN = "unknown"
"""The principal of an event before there is one."""

_PATH = re.compile(r"/console(/[A-Za-z0-9/_.\-]*)?(\?[!-~]{0,2000})?")
_CONTEXT = re.compile(r"[!-~]{1,200}( [!-~]{1,200}){0,9}")


async def begin(web: Web, asked: HttpRequest, origin: str) -> Response:
    """Send somebody to the issuer."""
    to, acr = asked.query_params.get("to", ""), asked.query_params.get("acr", "")
    if not _PATH.fullmatch(to) or "//" in to.partition("?")[0]:
        to = "/console"
    await _limited(web, asked, origin)
    web.sign_ins.failed(address_of(asked))  # it counts all of them, not failures
    strong = asked.query_params.get("again", "") == "1"
    name, pending = web.sessions.ask(to, strong=strong)
    try:
        where = await web.provider.address(pending, acr.split() if _CONTEXT.fullmatch(acr) else ())
    except SignInFailed as wrong:
        return await _failed(web, asked, origin, wrong, to)
    answer = RedirectResponse(where, 303, web.headers)
    web.cookies.give(answer, web.cookies.sign_in, name, SIGN_IN_SECONDS)
    return answer


async def back(web: Web, asked: HttpRequest, origin: str) -> Response:
    """Somebody comes back from the issuer."""
    await _limited(web, asked, origin)
    parameters = dict(asked.query_params)
    pending = web.sessions.asked(
        asked.cookies.get(web.cookies.sign_in), parameters.get("state", "")
    )
    if pending is None:
        wrong = SignInFailed(
            "this sign-in was not begun in this browser, or took too long; sign in again",
            "no such sign-in (state)",
        )
        return await _failed(web, asked, origin, wrong, "")
    try:
        person = await web.provider.person(pending, parameters, address_of(asked))
    except SignInFailed as failed:
        return await _failed(web, asked, origin, failed, pending.to)
    roles = frozenset(
        role for role, wanted in web.settings.matches() if matches_table(wanted, person.claims)
    )
    if not roles:
        data = {"detail": "no role of the console", "claims": _claims(web, person)}
        await web.event("console.refused", person.name, origin, data, success=False)
        raise Refusal(
            403,
            "No role for you here",
            "You are who you say, and the configuration gives your claims no role in the console. "
            "Ask whoever runs the gateway.",
        )
    # The token says who somebody is now. How long that is believed is the session's own limit.
    person = dataclasses.replace(person, expires_at=time.time() + web.settings.max_seconds)
    before = web.sessions.find(asked.cookies.get(web.cookies.session))
    name, session = web.sessions.begin(person, roles, origin)
    try:
        data = {"roles": sorted(roles), "claims": _claims(web, person)}
        await web.event("console.signed_in", person.name, origin, data, session.id)
    except BaseException:
        web.sessions.end(session)
        raise
    if before is not None:
        web.sessions.end(before)
    answer = web.to(pending.to)
    web.cookies.take(answer, web.cookies.sign_in)
    web.cookies.give(answer, web.cookies.session, name)
    return answer


async def out(web: Web, visit: Visit) -> Response:
    """Sign out."""
    web.sessions.end(visit.session)
    await web.record(visit, "console.signed_out", {"by": visit.session.person.name})
    answer = web.page("sign_in.html", to="", said="You are signed out.")
    web.cookies.take(answer, web.cookies.session)
    return answer


async def _limited(web: Web, asked: HttpRequest, origin: str) -> None:
    if web.sign_ins.reached(address_of(asked)):
        data = {"detail": "too many sign-ins (control.console.sign_ins_per_minute)",
                "kind": "throttled", "authentication": "console"}  # fmt: skip
        await web.event("auth.failed", UNKNOWN, origin, data, success=False)
        raise Refusal(429, "Too many sign-ins", "Too many began at your address. Wait a minute.")


async def _failed(
    web: Web, asked: HttpRequest, origin: str, wrong: SignInFailed, to: str
) -> Response:
    web.sign_ins.failed(address_of(asked))
    data = {"detail": wrong.detail, "kind": wrong.kind, "authentication": "console"}
    await web.event("auth.failed", UNKNOWN, origin, data, success=False)
    text = str(wrong)
    return web.page("sign_in.html", to=to, said=f"You are not signed in: {text}.", status=403)


def _claims(web: Web, person: Principal) -> dict[str, object]:
    return shown(person.claims, web.gate.mask_text)


PAGES = (
    Page("/console/sign-in", open_to=begin),
    Page("/console/callback", open_to=back),
    Page("/console/sign-out", out, method="POST"),
)
