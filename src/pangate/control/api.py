"""The HTTP API of approvals: JSON in, JSON out, a bearer token of a configured issuer with each request.

What somebody has nothing to do with does not exist for them. The decisions are the desk's; nothing is
decided here."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, cast

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pangate.approvals import DecisionRefused
from pangate.approvals.channels import ChannelFailed, Message, NotBelieved
from pangate.approvals.desk import Desk
from pangate.control.faults import report
from pangate.control.openapi import document
from pangate.control.streams import Stream
from pangate.errors import AuthenticationFailed, RecordFailed, Refused, StateFailed
from pangate.gate import Gate
from pangate.model import Principal
from pangate.store import Choice, Decision, Request, State

log = logging.getLogger("pangate")

MAX_BODY_BYTES = 65_536
MAX_MESSAGE_BYTES = 262_144
"""Of a message to a channel: Slack repeats the whole of what it shows."""

MOST_SHOWN = 500
ALIVE_SECONDS = 15.0
"""How often a watcher that nothing happens for is told that the line is open."""

STATUS = {
    "unknown": 404,
    "settled": 409,
    "again": 409,
    "own": 403,
    "not entitled": 403,
    "sign-in": 401,
    "reason": 422,
    "misused": 422,
    "not countable": 422,
}
"""By the kind of a refused decision."""

STATES: tuple[State, ...] = ("pending", "approved", "denied", "expired", "withdrawn", "executed")

CHOICES: dict[str, Choice] = {
    "approve": "approve",
    "deny": "deny",
    "break-glass": "break_glass",
}

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[HttpRequest], Awaitable[Response]]


class _Wrong(Exception):
    """What was sent cannot be understood."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        self.status, self.kind, self.detail = status, kind, detail


def routes(gate: Gate) -> list[Route]:
    """The paths of the API."""
    api = _Api(gate)
    paths: dict[str, dict[str, Handler]] = {
        "/openapi.json": {"GET": api.openapi},
        "/api/approvals": {"GET": api.requests},
        "/api/approvals/watch": {"GET": api.watch},
        "/api/approvals/{id}": {"GET": api.show},
        "/api/approvals/{id}/count": {"POST": api.count},
        "/api/approvals/{id}/{choice}": {"POST": api.decide},
        "/api/delegations": {"GET": api.delegations, "POST": api.delegate},
        "/api/delegations/{id}": {"DELETE": api.revoke},
        "/api/reviews": {"GET": api.reviews},
        "/api/reviews/{id}": {"POST": api.review},
        "/api/channels/{name}": {"POST": api.hear},
        "/api/{rest:path}": {},
    }
    return [Route(path, _Resource(handlers)) for path, handlers in paths.items()]


class _Resource:
    """What is at one path. Errors are JSON too where there is nothing, or not this."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = {method: _guarded(handler) for method, handler in handlers.items()}
        if "GET" in handlers:
            self._handlers["HEAD"] = self._handlers["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get(scope["method"])
        if handler is not None:
            answer = await handler(HttpRequest(scope, receive))
        elif not self._handlers:
            answer = _error(404, "unknown", "there is nothing here; see /openapi.json")
        else:
            allowed = ", ".join(sorted(self._handlers))
            answer = _error(405, "method", f"there is {allowed} here")
            answer.headers["Allow"] = allowed
        try:
            await answer(scope, receive, send)
        except Exception as wrong:  # noqa: BLE001 - an answer has begun, and ends here
            report("the API", wrong)


def _guarded(handler: Handler) -> Handler:
    async def guarded(asked: HttpRequest) -> Response:
        try:
            return await handler(asked)
        except _Wrong as wrong:
            return _error(wrong.status, wrong.kind, wrong.detail)
        except DecisionRefused as wrong:
            return _error(STATUS[wrong.kind], wrong.kind, wrong.reason)
        except AuthenticationFailed as wrong:
            return _error(401, "authentication", wrong.reason)
        except (RecordFailed, StateFailed) as wrong:
            log.error("%s", wrong.detail)
            return _error(503, wrong.code, "nothing was done; tell whoever runs the gateway")
        except Refused as wrong:
            return _error(503, wrong.code, wrong.reason)
        except ClientDisconnect:
            # nobody reads it
            return _error(400, "misused", "the request did not come to its end")
        except Exception as wrong:  # noqa: BLE001 - whoever asks is told that it is no fault of theirs
            report("the API", wrong)
            return _error(500, "internal", "internal error in the gateway; see its log")

    return guarded


def _error(status: int, kind: str, detail: str) -> Response:
    headers = dict(HEADERS)
    if status == 401:
        # RFC 9470: the token is good, and the sign-in behind it will not do
        step_up = ' error="insufficient_user_authentication"' if kind == "sign-in" else ""
        headers["WWW-Authenticate"] = f"Bearer{step_up}"
    return JSONResponse({"error": kind, "detail": detail}, status, headers)


class _Api:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._watches: Counter[str] = Counter()
        """Live streams by the name of who has them."""

    # Who asks

    @property
    def _desk(self) -> Desk:
        if self._gate.desk is None:
            raise StateFailed("there is no state")
        return self._gate.desk

    async def _person(self, asked: HttpRequest, *parameters: str) -> tuple[Principal, str]:
        """Who asks, and from where. The query has no other parameters than these."""
        address = asked.client.host if asked.client else "unknown"
        origin = f"{address}:{asked.client.port}" if asked.client else address
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _Wrong(
                401, "authentication", "send your identity token: Authorization: Bearer ..."
            )
        try:
            person = await self._gate.authenticator.authenticate(token.strip(), address)
        except AuthenticationFailed as wrong:
            self._gate.event(
                "auth.failed",
                False,
                {"detail": wrong.detail, "kind": wrong.kind, "authentication": "api",
                 "asked_from": origin},
            )  # fmt: skip
            await self._gate.durable()
            raise
        if not set(asked.query_params) <= set(parameters):
            known = ", ".join(parameters) or "none"
            raise _Wrong(422, "misused", f"there is no such parameter; there is {known}")
        return person, origin

    async def _bytes(self, asked: HttpRequest, most: int) -> bytes:
        data = b""
        async for chunk in asked.stream():
            data += chunk
            if len(data) > most:
                raise _Wrong(413, "misused", f"send {most} bytes at the most")
        return data

    async def _body(self, asked: HttpRequest, *names: str) -> dict[str, Any]:
        """The body, which has no other keys than these."""
        data = await self._bytes(asked, MAX_BODY_BYTES)
        if not data:
            return {}
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise _Wrong(400, "misused", "the body is not a JSON object")
        for name in found:
            if name not in names:
                known = ", ".join(names) or "none"
                raise _Wrong(422, "misused", f"there is no such key; there is {known}")
        return found

    async def openapi(self, asked: HttpRequest) -> Response:
        """What this is, to anybody."""
        return Response(document(), headers=HEADERS, media_type="application/json")

    # Requests

    async def requests(self, asked: HttpRequest) -> Response:
        """The requests that concern who asks, the newest first."""
        person, origin = await self._person(asked, "state")
        states = asked.query_params.getlist("state") or ["pending"]
        if not set(states) <= {*STATES, "all"}:
            raise _Wrong(422, "misused", f"state is one of all, {', '.join(STATES)}")
        wanted = () if "all" in states else tuple(cast(State, state) for state in states)
        found = await self._desk.requests(wanted, MOST_SHOWN)
        shown = [one for one in found if self._desk.may_see(person, one)]
        if shown:
            await self._desk.listed(person, origin, shown)
        return _json({"approvals": [_request(one) for one in shown]})

    async def show(self, asked: HttpRequest) -> Response:
        """One request with what was decided, and earlier ones like it."""
        person, origin = await self._person(asked)
        found, decisions, alike = await self._visible(person, asked.path_params["id"], origin)
        self._desk.viewed(found, person, origin)
        self._gate.written()
        return _json(
            {
                **_request(found),
                "decisions": [_decision(one) for one in decisions],
                "earlier": [
                    {"id": one.id, "state": one.state, "outcome": one.outcome,
                     "created": one.created, "principal": one.principal,
                     "decisions": [_decision(said) for said in await self._desk.said_of(one.id)]}
                    for one in alike
                ],
            }
        )  # fmt: skip

    async def _visible(
        self, person: Principal, request: str, origin: str
    ) -> tuple[Request, list[Any], list[Any]]:
        found, decisions, alike = await self._desk.show(request)
        if not self._desk.may_see(person, found) and not await self._desk.stands_in(person, found):
            raise await self._desk.unseen(person, found, origin)
        return found, decisions, alike

    async def decide(self, asked: HttpRequest) -> Response:
        """approve, deny, break-glass or withdraw."""
        person, origin = await self._person(asked)
        request, word = asked.path_params["id"], asked.path_params["choice"]
        reason = _text(await self._body(asked, "reason"), "reason")
        await self._visible(person, request, origin)
        if word == "withdraw":
            return _json(_request(await self._desk.withdraw_by(request, person, reason, origin)))
        choice = CHOICES.get(word)
        if choice is None:
            raise _Wrong(404, "unknown", f"there is {', '.join(CHOICES)} and withdraw")
        return _json(_request(await self._desk.decide(request, person, choice, reason, origin)))

    async def count(self, asked: HttpRequest) -> Response:
        """How many rows it concerns."""
        person, origin = await self._person(asked)
        request = asked.path_params["id"]
        await self._body(asked)
        await self._visible(person, request, origin)
        found = await self._desk.count(request, person, origin)
        return _json({"rows": found.rows, "bound": found.bound, "more": found.more})

    async def watch(self, asked: HttpRequest) -> Response:
        """Every change that concerns who asks, as server-sent events, until their token ends."""
        person, origin = await self._person(asked)
        most = self._gate.config.control.max_watches
        if self._watches[person.name] >= most:
            raise _Wrong(429, "busy", f"you watch {most} times already (control.max_watches)")
        self._watches[person.name] += 1
        try:
            await self._desk.listed(person, origin, ())
        except BaseException:
            self._over(person.name)
            raise
        return Stream(self._changes(person), HEADERS, lambda: self._over(person.name))

    def _over(self, name: str) -> None:
        self._watches[name] -= 1
        if not self._watches[name]:
            del self._watches[name]

    async def _changes(self, person: Principal) -> AsyncIterator[str]:
        yield ": watching\n\n"
        changes = self._desk.watch()
        following = asyncio.ensure_future(anext(changes))
        try:
            while self._desk.is_current(person):
                done, _ = await asyncio.wait({following}, timeout=ALIVE_SECONDS)
                if not done:
                    yield ": still here\n\n"
                    continue
                change = following.result()
                following = asyncio.ensure_future(anext(changes))
                if self._desk.may_see(person, change.request):
                    said = json.dumps({"code": change.code, **_request(change.request)})
                    yield f"event: {change.code}\ndata: {said}\n\n"
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    # Delegations and reviews

    async def delegations(self, asked: HttpRequest) -> Response:
        """Those that who asks gave or has."""
        person, _ = await self._person(asked)
        found = await self._desk.delegated_to(person)
        return _json({"delegations": [_without_claims(asdict(one)) for one in found]})

    async def delegate(self, asked: HttpRequest) -> Response:
        """Give one."""
        person, origin = await self._person(asked)
        body = await self._body(asked, "receiver", "group", "starts", "ends", "reason")
        made = await self._desk.delegate(
            person,
            _text(body, "receiver"),
            _text(body, "group"),
            _time(body, "starts"),
            _time(body, "ends"),
            _text(body, "reason"),
            origin,
        )
        return _json(_without_claims(asdict(made)), 201)

    async def revoke(self, asked: HttpRequest) -> Response:
        """Take one back."""
        person, origin = await self._person(asked)
        await self._desk.revoke(asked.path_params["id"], person, origin)
        return Response(status_code=204, headers=HEADERS)

    async def reviews(self, asked: HttpRequest) -> Response:
        """What was run by breaking the glass and nobody has looked at yet."""
        person, origin = await self._person(asked)
        due, shown = [], []
        for one in await self._desk.reviews():
            found, _, _ = await self._desk.show(one.request)
            if self._desk.may_see(person, found):
                due.append({**asdict(one), "approval": _request(found)})
                shown.append(found)
        if shown:
            await self._desk.listed(person, origin, shown)
        return _json({"reviews": due})

    async def review(self, asked: HttpRequest) -> Response:
        """Say whether it was justified."""
        person, origin = await self._person(asked)
        body = await self._body(asked, "finding", "note")
        request = asked.path_params["id"]
        await self._visible(person, request, origin)
        finding, note = _text(body, "finding"), _text(body, "note")
        await self._desk.review(request, person, finding, note, origin)
        return Response(status_code=204, headers=HEADERS)

    # Channels

    async def hear(self, asked: HttpRequest) -> Response:
        """A signed message for a channel."""
        address = asked.client.host if asked.client else "unknown"
        origin = f"{address}:{asked.client.port}" if asked.client else address
        name = asked.path_params["name"]
        body = await self._bytes(asked, MAX_MESSAGE_BYTES)
        headers = {key.lower(): value for key, value in asked.headers.items()}
        try:
            found = await self._desk.hear(name, Message(headers, body), origin)
        except NotBelieved as wrong:
            # what follows of this address is refused as well, and no further line says so
            if not self._gate.authenticator.throttled(address):
                self._gate.event(
                    "auth.failed",
                    False,
                    {"detail": f"channel {name}: {wrong}", "kind": "invalid",
                     "authentication": "channel", "asked_from": origin},
                )  # fmt: skip
                self._gate.written()
            self._gate.authenticator.failed(address)
            raise _Wrong(
                401, "authentication", "the message is not signed as it has to be"
            ) from None
        except ChannelFailed as wrong:
            log.error("channel %s: %s", name, wrong)
            raise _Wrong(
                503, "channel", "nothing was done; tell whoever runs the gateway"
            ) from None
        return (
            Response(status_code=200, headers=HEADERS) if found is None else _json(_request(found))
        )


def _json(content: object, status: int = 200) -> Response:
    return JSONResponse(content, status, HEADERS)


def _request(request: Request) -> dict[str, Any]:
    return asdict(request)


def _decision(made: Decision) -> dict[str, Any]:
    return {
        "person": made.person,
        "authority": made.authority,
        "choice": made.choice,
        "reason": made.reason,
        "time": made.time,
        "channel": made.channel,
    }


def _without_claims(made: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made.items() if name != "claims"}


def _text(body: dict[str, Any], name: str) -> str:
    found = body.get(name, "")
    if not isinstance(found, str) or len(found) > 10_000:
        raise _Wrong(422, "misused", f"{name} is a text of 10000 characters at the most")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise _Wrong(422, "misused", f"{name} is not a text that has UTF-8") from None
    return found


def _time(body: dict[str, Any], name: str) -> float:
    found = body.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < 1e11:
        raise _Wrong(422, "misused", f"{name} is a time in seconds since 1970")
    return float(found)
