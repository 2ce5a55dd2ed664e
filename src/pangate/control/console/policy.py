"""What the rules in force would say to a statement, and why. Nothing is run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.responses import Response

from pangate.control.console import texts
from pangate.control.console.web import ANYBODY, Page, Visit, Web
from pangate.question import Question, Unusable, ask

MOST_CHARACTERS = 20_000


async def asked(web: Web, visit: Visit) -> Response:
    """The form."""
    return _page(web, visit)


async def explained(web: Web, visit: Visit) -> Response:
    """The form with its answer."""
    try:
        question = _question(visit)
        data = {"page": "policy", "resource": question.resource, "text": question.text,
                "claims": dict(question.claims), "source": question.source}  # fmt: skip
        await web.record(visit, "console.viewed", data)
        principal, found = ask(web.gate.config, question)
    except Unusable as wrong:
        return _page(web, visit, wrong=str(wrong))
    return _page(
        web,
        visit,
        found=found,
        principal=principal,
        coloured=await asyncio.to_thread(texts.coloured, web.gate.mask_text(question.text)),
    )


def _question(visit: Visit) -> Question:
    text = visit.sent("text")
    if not text.strip():
        raise Unusable("write the statement that is to be judged")
    if len(text) > MOST_CHARACTERS:
        raise Unusable(f"a statement has {MOST_CHARACTERS} characters at the most here")
    try:
        claims = json.loads(visit.sent("claims") or "{}")
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise Unusable('the claims are no JSON object; write them as {"team": "payments"}')
    rows: float | None = None
    if visit.sent("rows").strip():
        try:
            rows = float(int(visit.sent("rows")))
        except ValueError:
            raise Unusable("the rows that the planner expects are a whole number") from None
    return Question(
        visit.sent("resource"), text, claims, source=visit.sent("source").strip(), rows=rows
    )


def _page(web: Web, visit: Visit, **values: Any) -> Response:
    empty: dict[str, Any] = {"wrong": "", "found": None, "principal": None, "coloured": ""}
    kept = {name: visit.sent(name) for name in ("resource", "text", "claims", "source", "rows")}
    return web.page(
        "policy.html",
        visit,
        resources=list(web.gate.config.resources_by_name),
        kept=kept,
        **{**empty, **values},
    )


PAGES = (
    Page("/console/policy", asked, ANYBODY),
    Page("/console/policy", explained, ANYBODY, method="POST"),
)
