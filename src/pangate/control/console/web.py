"""What all pages of the console share: who visits, what a page is made with, and the record of it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pangate.approvals.desk import Desk
from pangate.audit.several import place_text
from pangate.auth.oidc import Throttle
from pangate.config.console import ConsoleSettings
from pangate.control.console import texts
from pangate.control.console.provider import Provider
from pangate.control.console.records import Records
from pangate.control.console.sessions import Cookies, Session, Sessions
from pangate.errors import PangateError, StateFailed
from pangate.gate import Gate
from pangate.ledger.letters import letters
from pangate.model import Event

ANYBODY = ("viewer", "approver", "auditor", "admin")
DECIDING = ("approver",)
REQUESTS = ("approver", "auditor", "admin")
READING = ("auditor", "admin")
ADMIN = ("admin",)

NAVIGATION = (
    ("/console", "Overview", ANYBODY),
    ("/console/approvals", "Approvals", REQUESTS),
    ("/console/delegations", "Delegations", REQUESTS),
    ("/console/sessions", "Sessions", READING),
    ("/console/record", "Record", READING),
    ("/console/counts", "Counts", ANYBODY),
    ("/console/policy", "Policy", ANYBODY),
    ("/console/ledger", "Ledger", ANYBODY),
    ("/console/people", "Signed in", ADMIN),
)

CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # not "no-referrer": with that browsers send forms without their Origin
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

STATIC = {
    "console.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}


class Refusal(PangateError):
    """A page is not shown or a form not taken. The text is for who asked."""

    def __init__(self, status: int, title: str, text: str) -> None:
        self.status, self.title = status, title
        super().__init__(text)


@dataclass
class Visit:
    """Somebody who is signed in, and what they ask for. `form` is what they sent."""

    asked: HttpRequest
    session: Session
    origin: str
    form: Mapping[str, str] = field(default_factory=dict)

    def query(self, name: str, most: int = 500) -> str:
        """A parameter of the address, without what stands around it."""
        return self.asked.query_params.get(name, "").strip()[:most]

    def sent(self, name: str) -> str:
        """A field of the form."""
        return self.form.get(name, "")


Handler = Callable[["Web", Visit], Awaitable[Response]]
Stranger = Callable[["Web", HttpRequest, str], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    """A path with who may ask for it. `open_to` is for those who are not signed in; `by_hand` is false for
    what a page fetches by itself."""

    path: str
    show: Handler | None = None
    roles: tuple[str, ...] = ()
    method: str = "GET"
    open_to: Stranger | None = None
    by_hand: bool = True


class Web:
    """One console. It holds who is signed in; all else is the gate's."""

    def __init__(self, gate: Gate, settings: ConsoleSettings) -> None:
        self.gate = gate
        self.settings = settings
        self.sessions = Sessions(settings)
        self.provider = Provider(gate, settings)
        self.cookies = Cookies(secure=settings.secure)
        self.sign_ins = Throttle(settings.sign_ins_per_minute)
        self.actions = Throttle(settings.actions_per_minute)
        self.ending = asyncio.Event()
        """Set when the gateway stops, so that nothing that has no end keeps it."""
        self.records = Records(gate.config.audit.path, gate.config.process.workers)
        folder = resources.files(__package__)
        self.static = {name: (folder / "static" / name).read_bytes() for name in STATIC}
        version = letters(hashlib.sha256(b"".join(self.static.values())).digest())[:12]
        self.headers = dict(HEADERS)
        if settings.secure:
            self.headers["Strict-Transport-Security"] = "max-age=31536000"
        self._pages = jinja2.Environment(
            loader=jinja2.PackageLoader(__package__, "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=self._shown,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._pages.filters |= texts.FILTERS
        self._pages.globals |= {
            "version": version,
            "now": time.time,
            "query": _query,
            "place": place_text,
        }

    async def close(self) -> None:
        """End what is under way."""
        await self.provider.close()

    @property
    def desk(self) -> Desk:
        """Where requests are decided."""
        if self.gate.desk is None:
            raise StateFailed("there is no state")
        return self.gate.desk

    # --- pages --------------------------------------------------------------------------------------

    def page(
        self, name: str, visit: Visit | None = None, status: int = 200, **values: object
    ) -> Response:
        """A page, or a piece of one."""
        session = visit.session if visit else None
        navigation = [
            (path, title) for path, title, roles in NAVIGATION if session and session.has(*roles)
        ]
        here = visit.asked.url.path if visit else ""
        text = self._pages.get_template(name).render(
            session=session, navigation=navigation, here=here, **values
        )
        return HTMLResponse(text, status, self.headers)

    def to(self, path: str) -> Response:
        """Go on at another page of the console."""
        return RedirectResponse(path, 303, self.headers)

    def _shown(self, value: object) -> object:
        """What becomes of every value on a page: no card number in it, whatever it comes from, and nothing
        that cannot be seen or changes the order of what is seen."""
        if value is None:
            return ""
        if isinstance(value, str) and not isinstance(value, Markup):
            return texts.visible(self.gate.mask_text(value))
        return value

    # --- the record ---------------------------------------------------------------------------------

    async def record(
        self, visit: Visit, code: str, data: Mapping[str, object], *, success: bool = True
    ) -> None:
        """Have it in the record what somebody does or reads; then it may be done or shown. Raises
        RecordFailed."""
        session = visit.session
        await self.event(code, session.person.name, visit.origin, data, session.id, success=success)

    async def event(
        self,
        code: str,
        principal: str,
        origin: str,
        data: Mapping[str, object],
        session: str = "-",
        *,
        success: bool = True,
    ) -> None:
        """The same for somebody who is not signed in."""
        self.gate.record(
            Event(code, time.time(), session, principal, origin, "console", success, data)
        )
        await self.gate.durable()


def _query(**values: object) -> str:
    """The query of an address, of those values that are there."""
    return urlencode({name: value for name, value in values.items() if value not in ("", None)})
