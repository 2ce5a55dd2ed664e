"""Who is signed in to the console, for its administrators."""

from __future__ import annotations

from starlette.responses import Response

from pangate.control.console.web import ADMIN, Page, Refusal, Visit, Web


async def listed(web: Web, visit: Visit) -> Response:
    """All sessions."""
    await web.record(visit, "console.viewed", {"page": "people"})
    rows = [
        (one, web.sessions.age(one), web.sessions.idle(one), web.sessions.left(one))
        for one in web.sessions.all()
    ]
    return web.page("people.html", visit, rows=rows)


async def end(web: Web, visit: Visit) -> Response:
    """Sign somebody out."""
    name = visit.asked.path_params["id"]
    found = next((one for one in web.sessions.all() if one.id == name), None)
    if found is None:
        raise Refusal(404, "Nobody is there", "This session has ended already.")
    data = {"by": visit.session.person.name, "of": found.person.name, "ended": found.id}
    await web.record(visit, "console.signed_out", data)
    web.sessions.end(found)
    return web.to("/console/people")


PAGES = (
    Page("/console/people", listed, ADMIN),
    Page("/console/people/{id}/end", end, ADMIN, method="POST"),
)
