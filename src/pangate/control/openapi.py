"""The HTTP API as OpenAPI 3.1 says it: made of the types that it answers with, so that it cannot say
anything else."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pangate import __version__
from pangate.store import Decision, Delegation, Request, Review

Schema = dict[str, Any]

STATES = ("pending", "approved", "denied", "expired", "withdrawn", "executed")

MOST_TEXT = 10_000
LATEST = 1e11
"""Times are below: in the year 5138."""

ERRORS = {
    "400": "The body is not a JSON object.",
    "401": "There is no token, it is not valid, or the sign-in behind it does not do.",
    "403": "You may not do this to this request.",
    "404": "There is nothing here, or nothing that is any of your business.",
    "405": "This is not done here.",
    "409": "It was decided, or said, before.",
    "413": "The body is too long.",
    "422": "A value or a parameter is missing or wrong.",
    "429": "You have as many of these open as you may.",
    "500": "An error in the gateway; its log says more.",
    "503": "Nothing was done; tell whoever runs the gateway.",
}

KINDS = (
    "unknown", "settled", "again", "own", "not entitled", "sign-in", "reason", "misused",
    "not countable", "authentication", "method", "channel", "refused", "record.failed", "state.failed",
    "limit.reached",
)  # fmt: skip
"""The classes of errors."""


@functools.cache
def document() -> bytes:
    """The whole of it as JSON."""
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "pangate approvals",
                "version": __version__,
                "description": "Statements that wait for people, and the decisions on them. What is none "
                "of your business is not there.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"token": []}],
            "paths": _paths(),
            "components": {
                "schemas": _schemas(),
                "responses": {
                    status: _answer(text, _ref("Error")) for status, text in ERRORS.items()
                },
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "bearerFormat": "JWT",
                        "description": "An identity token of a configured issuer.",
                    }
                },
            },
        }
    ).encode()


def _paths() -> dict[str, Any]:
    request = [_parameter("id", "The request.", _NAME)]
    decided = _answer("The request as it stands then.", _ref("Request"))
    reason = _body("Decision", required=False)
    deciding = ("403", "404", "409", "413")
    decisions = {
        f"/api/approvals/{{id}}/{word}": {
            "post": _operation(word, text, decided, *deciding, "400", parameters=request, **reason)
        }
        for word, text in (
            ("approve", "Let a statement run, once."),
            ("deny", "Refuse a statement."),
            ("break-glass", "Let it run at once, alone; somebody else has to review it."),
            ("withdraw", "Take back a request of your own agent."),
        )
    }
    state = {"type": "array", "items": {"enum": [*STATES, "all"]}}
    states = {
        "name": "state",
        "in": "query",
        "description": "In which states; left out: pending.",
        "schema": state,
    }
    listed = _answer("Requests that concern you, the newest first.", _list("approvals", "Request"))
    shown = _answer("One request, what was decided, and earlier ones like it.", _ref("Shown"))
    given = [_parameter("id", "The delegation.", _NAME)]
    nothing = {"description": "Done."}
    channel = [
        _parameter("name", "The channel.", {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"})
    ]
    return {
        "/api/approvals": {
            "get": _operation("list", "List requests.", listed, parameters=[states])
        },
        "/api/approvals/watch": {
            "get": _operation(
                "watch",
                "Follow what happens, until your token ends.",
                {
                    "description": "Server-sent events: `event` is the code, `data` a Request and "
                    "its `code`.",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                },
                "429",
            )
        },
        "/api/approvals/{id}": {
            "get": _operation("show", "Show one request; it is recorded that you looked.", shown,
                              "404", parameters=request)
        },
        **decisions,
        "/api/approvals/{id}/count": {
            "post": _operation("count", "Have the rows counted that it concerns, up to a bound.",
                               _answer("As they are now.", _ref("Count")), "400", "404", "409", "413",
                               parameters=request, **_body("Nothing", required=False))
        },
        "/api/delegations": {
            "get": _operation("delegations", "List delegations that you gave or have.",
                              _answer("Yours.", _list("delegations", "Delegation"))),
            "post": _operation(
                "delegate", "Let another person decide in your place for a time.",
                _answer("As it was given.", _ref("Delegation")), "400", "413",
                status="201", **_body("NewDelegation"),
            ),
        },
        "/api/delegations/{id}": {
            "delete": _operation("revoke", "Take one back that you gave.", nothing, "404",
                                 status="204", parameters=given)
        },
        "/api/reviews": {
            "get": _operation("reviews", "List broken glass that nobody has looked at.",
                              _answer("The oldest first.", _list("reviews", "Due")))
        },
        "/api/reviews/{id}": {
            "post": _operation("review", "Say whether it was justified.", nothing, *deciding, "400",
                               status="204", parameters=request, **_body("Finding"))
        },
        "/api/channels/{name}": {
            "post": {
                **_operation(
                    "hear", "What comes for a channel, signed as its kind does.",
                    {**decided, "description": "The request; nothing for a channel that answers itself."},
                    *deciding, parameters=channel,
                    requestBody={
                        "required": True,
                        "content": {
                            "application/json": {"schema": _ref("Said")},
                            "application/x-www-form-urlencoded": {
                                "schema": {"type": "object", "properties": {"payload": _TEXT},
                                           "required": ["payload"]}
                            },
                        },
                    },
                ),
                "security": [],
            }
        },
    }  # fmt: skip


_NAME: Schema = {"type": "string", "pattern": "^[a-z]+$", "minLength": 1, "maxLength": 100}
_TEXT: Schema = {"type": "string", "maxLength": MOST_TEXT}
_TIME: Schema = {"type": "number", "minimum": 0, "exclusiveMaximum": LATEST}


def _operation(
    name: str,
    text: str,
    answer: Schema,
    *errors: str,
    status: str = "200",
    **more: object,
) -> Schema:
    known = sorted({"401", "422", "500", "503", *errors})
    responses = {one: {"$ref": f"#/components/responses/{one}"} for one in known}
    return {
        "operationId": name,
        "summary": text,
        "responses": {status: answer, **responses},
        **more,
    }


def _parameter(name: str, text: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _body(name: str, *, required: bool = True) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(name)}}
    return {"requestBody": {"required": required, "content": content}}


def _answer(text: str, schema: Schema) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(name: str, of: str) -> Schema:
    return _object({name: {"type": "array", "items": _ref(of)}})


def _object(properties: Mapping[str, Schema], required: Sequence[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def _schemas() -> dict[str, Schema]:
    made: dict[str, Schema] = {}
    for kind in (Request, Decision, Delegation, Review):
        _, found = msgspec.json.schema_components([kind], schema_hook=_anything)
        schema = found[kind.__name__]
        made[kind.__name__] = _object(schema["properties"])
    del made["Delegation"]["properties"]["claims"]
    made["Delegation"]["required"].remove("claims")
    decision = made.pop("Decision")["properties"]
    kept = ("person", "authority", "choice", "reason", "time", "channel")
    made["Decided"] = _object({name: decision[name] for name in kept})
    request = made["Request"]["properties"]
    alike = ("id", "state", "outcome", "created", "principal")
    said = {"type": "array", "items": _ref("Decided")}
    made["Earlier"] = _object({**{name: request[name] for name in alike}, "decisions": said})
    made["Shown"] = _object(
        {
            **request,
            "decisions": said,
            "earlier": {"type": "array", "items": _ref("Earlier")},
        }
    )
    made["Due"] = _object({**made.pop("Review")["properties"], "approval": _ref("Request")})
    number = {"type": "integer", "minimum": 0}
    made["Count"] = _object({"rows": number, "bound": number, "more": {"type": "boolean"}})
    made["Nothing"] = _object({})
    made["Error"] = _object({"error": {"enum": list(KINDS)}, "detail": {"type": "string"}})
    made["Decision"] = _object({"reason": _TEXT}, ())
    made["NewDelegation"] = _object(
        {
            "receiver": _TEXT,
            "group": _TEXT,
            "starts": _TIME,
            "ends": _TIME,
            "reason": {**_TEXT, "minLength": 1},
        },
        ("receiver", "group", "starts", "ends", "reason"),
    )
    made["Finding"] = _object(
        {"finding": {"enum": ["justified", "not justified"]}, "note": {**_TEXT, "minLength": 1}}
    )
    wanted = {"request": _TEXT, "choice": {"enum": ["approve", "deny"]}, "reason": _TEXT}
    made["Said"] = {**_object(wanted, ("request", "choice")), "additionalProperties": True}
    return made


def _anything(kind: type) -> Schema:
    return {"description": "Any value: claims are the issuer's."}
