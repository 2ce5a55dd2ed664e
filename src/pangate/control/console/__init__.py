"""The web console: pages that the gateway makes, for people with a browser.

Off unless `[control.console]` is there. Whoever asks for a page is signed in at an issuer (provider.py,
signing.py) and has a session (sessions.py); guard.py lets a page be asked for or a form be sent; each page is
a function in the file of its subject. Everything that somebody does, and every reading of evidence, is an
event before it is shown. What is decided about requests is decided at the desk, as for the API."""

from __future__ import annotations

from starlette.routing import BaseRoute

from pangate.control.console import (
    approvals,
    delegations,
    evidence,
    overview,
    people,
    policy,
    signing,
)
from pangate.control.console.guard import route, static
from pangate.control.console.web import Page, Web

__all__ = ["PAGES", "Web", "routes"]

PAGES: tuple[Page, ...] = (
    *signing.PAGES,
    *overview.PAGES,
    *approvals.PAGES,
    *delegations.PAGES,
    *evidence.PAGES,
    *policy.PAGES,
    *people.PAGES,
)


def routes(web: Web) -> list[BaseRoute]:
    """The paths of the console."""
    return [static(web), *(route(web, page) for page in PAGES)]
