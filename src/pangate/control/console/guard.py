"""Who gets to a page, in this order: (1) the host that was asked for; (2) the session; (3) the role; for a
form also (4) its size; (5) where it was sent from; (6) its token; (7) how many there were."""

from __future__ import annotations

import hashlib
import logging
from urllib.parse import parse_qsl

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from pangate.approvals import DecisionRefused
from pangate.control.console.sessions import same
from pangate.control.console.web import STATIC, Page, Refusal, Visit, Web
from pangate.control.faults import report
from pangate.errors import LedgerError, RecordFailed, Refused, StateFailed

log = logging.getLogger("pangate")

MAX_BODY_BYTES = 131_072
MAX_FIELDS = 50

NOT_DONE = "Nothing was done. Tell whoever runs the gateway."


def route(web: Web, page: Page) -> Route:
    """The page behind its guard."""

    async def guarded(asked: HttpRequest) -> Response:
        visit: Visit | None = None
        try:
            _check_host(web, asked)
            if page.open_to is not None:
                return await page.open_to(web, asked, origin_of(asked))
            found = _visit(web, asked, page)
            if isinstance(found, Response):
                return found
            visit = found
            await _check_role(web, visit, page)
            if page.method == "POST":
                visit.form = await _form(web, visit)
            assert page.show is not None
            return await page.show(web, visit)
        except Refusal as wrong:
            return web.page(
                "error.html", visit, wrong.status, title=wrong.title, text=str(wrong), back=""
            )
        except DecisionRefused as wrong:
            return _refused(web, visit, wrong)
        except (RecordFailed, StateFailed) as wrong:
            log.error("%s", wrong.detail)
            title = "The record or the state cannot be written"
            return web.page("error.html", visit, 503, title=title, text=NOT_DONE, back="")
        except LedgerError as wrong:
            title = "The record cannot be read"
            return web.page("error.html", visit, 503, title=title, text=f"{wrong}.", back="")
        except Exception as wrong:  # noqa: BLE001 - whoever asks is told that it is no fault of theirs
            if isinstance(wrong, Refused):
                return web.page(
                    "error.html", visit, 503, title="Not now", text=wrong.reason, back=""
                )
            report("the console", wrong)
            title, text = "Internal error", "The log of the gateway says more."
            return web.page("error.html", visit, 500, title=title, text=text, back="")

    return Route(page.path, guarded, methods=[page.method])


def static(web: Web) -> Route:
    """The style, the script and the mark, by name."""

    async def give(asked: HttpRequest) -> Response:
        name = asked.path_params["name"]
        if name not in STATIC:
            return Response("there is no such file\n", 404, web.headers, "text/plain")
        headers = {**web.headers, "Cache-Control": "public, max-age=86400"}
        return Response(web.static[name], 200, headers, STATIC[name])

    return Route("/console/static/{name}", give, methods=["GET"])


def origin_of(asked: HttpRequest) -> str:
    """Where somebody asks from."""
    return f"{asked.client.host}:{asked.client.port}" if asked.client else "unknown"


def address_of(asked: HttpRequest) -> str:
    """The same without the port."""
    return asked.client.host if asked.client else "unknown"


def _check_host(web: Web, asked: HttpRequest) -> None:
    # A name of somebody else's that leads here would make their page one of ours.
    if asked.headers.get("host", "").lower() != web.settings.host:
        raise Refusal(
            421, "Another address", f"This console is at {web.settings.url} (control.console.url)."
        )


def _visit(web: Web, asked: HttpRequest, page: Page) -> Visit | Response:
    """Who asks; or where they go instead."""
    session = web.sessions.find(asked.cookies.get(web.cookies.session), by_hand=page.by_hand)
    if session is not None and not web.gate.authenticator.believes(session.person.issuer):
        web.sessions.end(session)
        session = None
    if session is not None:
        return Visit(asked, session, origin_of(asked))
    if not page.by_hand:
        return Response(status_code=401, headers=web.headers)
    if page.method != "GET":
        raise Refusal(
            401, "You are not signed in any more", "Nothing was done. Sign in and do it again."
        )
    path = asked.url.path + (f"?{asked.url.query}" if asked.url.query else "")
    return web.page("sign_in.html", to=path if path != "/console" else "", said="")


async def _check_role(web: Web, visit: Visit, page: Page) -> None:
    if page.roles and not visit.session.has(*page.roles):
        data = {"page": page.path, "needs": list(page.roles), "detail": "not one of these roles"}
        await web.record(visit, "console.refused", data, success=False)
        raise Refusal(
            403,
            "Not for your role",
            f"This needs the role {' or '.join(page.roles)}, which the configuration gives by claims.",
        )


async def _form(web: Web, visit: Visit) -> dict[str, str]:
    """What was sent, once it is certain that this person meant to send it."""
    asked, wrong = visit.asked, ""
    data = b""
    async for chunk in asked.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise Refusal(413, "Too long", f"A form has {MAX_BODY_BYTES} bytes at the most.")
    try:
        fields = dict(
            parse_qsl(
                data.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
            )
        )
    except ValueError:
        raise Refusal(400, "Not a form", "What was sent cannot be read as a form.") from None
    if asked.headers.get("origin", web.settings.url.rstrip("/")) != web.settings.url.rstrip("/"):
        wrong = "sent from another site (Origin)"
    elif asked.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        wrong = "sent from another site (Sec-Fetch-Site)"
    elif not same(fields.pop("form", ""), visit.session.form):
        wrong = "without the token of this session's forms"
    if wrong:
        data_of = {"page": asked.url.path, "detail": f"a form {wrong}"}
        await web.record(visit, "console.refused", data_of, success=False)
        raise Refusal(
            403,
            "This form is not from here",
            "Nothing was done. Go back, load the page again, and send it from there.",
        )
    who = hashlib.sha256(visit.session.person.name.encode()).hexdigest()
    if web.actions.reached(who):
        await web.record(
            visit, "console.refused", {"page": asked.url.path, "detail": "too many"}, success=False
        )
        raise Refusal(
            429,
            "Too many at a time",
            "Nothing was done. Wait a minute (control.console.actions_per_minute).",
        )
    web.actions.failed(who)  # it counts all of them, not failures
    return fields


_STATUS = {"unknown": 404, "settled": 409, "again": 409, "reason": 422, "misused": 422}


def _refused(web: Web, visit: Visit | None, wrong: DecisionRefused) -> Response:
    titles = {
        "unknown": "There is no such request",
        "settled": "It is decided already",
        "again": "You decided it already",
        "own": "Not your own",
        "not entitled": "Not for you to decide",
        "sign-in": "Sign in again for this",
        "reason": "A reason is missing",
    }
    back = ""
    if visit is not None and wrong.kind != "unknown" and "id" in visit.asked.path_params:
        back = f"/console/approvals/{visit.asked.path_params['id']}"
    return web.page(
        "error.html",
        visit,
        _STATUS.get(wrong.kind, 403),
        title=titles.get(wrong.kind, "Refused"),
        text=f"{wrong.reason[:1].upper()}{wrong.reason[1:]}.",
        back=back,
    )
