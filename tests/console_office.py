"""The console in front of a gate with a desk and a record, asked without sockets; and the issuer that people
sign in at, with a token endpoint that gives what a test wants."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from approvals_office import ask
from pangate import config
from pangate.approvals import Ticket, open_desk
from pangate.audit import open_recorder, pan_mask
from pangate.audit.recording import open_recordings
from pangate.auth import open_authenticator
from pangate.control import application
from pangate.control.console import Web
from pangate.control.console.sessions import Session
from pangate.errors import RecordFailed
from pangate.gate import Gate
from pangate.issuer import LocalIssuer
from pangate.model import Principal

URL = "https://gateway.example"

TOML = """
[listen]
allow_plaintext_loopback = true
[[issuers]]
url = "{issuer}"
audience = "pangate"
algorithms = ["ES256"]
allow_http_loopback = true
[[resources]]
name = "payments"
host = "127.0.0.1"
database = "db"
user = "svc"
password = {{ env = "PANGATE_TEST_PASSWORD" }}
tls = "disable"
[[roles]]
name = "reader"
match = {{ team = "payments" }}
resources = ["payments"]
[[approvers]]
name = "owners"
match = {{ groups = "owners" }}
owns = "owner"
[[approvers]]
name = "night"
match = {{ groups = "night" }}
[[rules]]
name = "ddl"
verdict = "hold"
effects = ["schema"]
hold = {{ approvers = ["owners"] }}
[approvals]
break_glass = ["night"]
[audit]
path = "audit.jsonl"
[control]
port = 0
[control.console]
url = "https://gateway.example"
client_id = "console"
secret_file = "client"
viewer = {{ groups = "staff" }}
approver = {{ groups = ["owners", "night"] }}
auditor = {{ groups = "audit" }}
admin = {{ groups = "admins" }}
{console}
"""

FORM = re.compile(r'name="form" value="([^"]+)"')


@dataclass
class People:
    """The issuer at `url`. `claims` go into the next identity token or take the place of its own, and
    `answer` is given instead of one; `asked` is what its token endpoint was sent, with the header of the
    client."""

    issuer: LocalIssuer
    url: str = ""
    claims: dict[str, object] = field(default_factory=dict)
    answer: tuple[int, dict[str, object]] | None = None
    extra: dict[str, object] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def documents(self) -> dict[str, object]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.issuer.url}/keys",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            **self.extra,
        }

    def token(self) -> str:
        claims = {"iss": self.url, "aud": "console", **self.claims}
        subject = str(claims.pop("sub", "ada"))
        audience, seconds = claims.pop("aud"), float(claims.pop("seconds", 300))
        return self.issuer.mint(subject, audience, seconds, **claims)


@contextlib.contextmanager
def people() -> Iterator[People]:
    with LocalIssuer() as issuer:
        made = People(issuer)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, made.documents())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                sent = dict(urllib.parse.parse_qsl(body))
                basic = self.headers.get("authorization", "").removeprefix("Basic ")
                made.asked.append({**sent, "client": base64.b64decode(basic).decode()})
                self.reply(*(made.answer or (200, {"id_token": made.token()})))

            def reply(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield made
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class Browser(httpx.AsyncClient):
    """What somebody who may be signed in asks with. `form` is the token of their session."""

    form = ""

    async def send_form(self, path: str, headers: dict[str, str] | None = None, **fields: str):
        return await self.post(path, data={"form": self.form, **fields}, headers=headers or {})


@dataclass
class Office:
    gate: Gate
    web: Web
    issuer: str
    browsers: list[Browser] = field(default_factory=list)

    def browser(self, url: str = URL) -> Browser:
        transport = httpx.ASGITransport(application(self.gate, self.web), client=("192.0.2.7", 9))
        made = Browser(transport=transport, base_url=url)
        self.browsers.append(made)
        return made

    def person(self, name: str, *groups: str, **claims: object) -> Principal:
        claims = {"sub": name, "groups": list(groups), **claims}
        return Principal(name, self.issuer, time.time() + 3600, claims=claims)

    def signed_in(
        self, name: str, *groups: str, roles: tuple[str, ...] = (), **claims: object
    ) -> tuple[Browser, Session]:
        cookie, session = self.web.sessions.begin(
            self.person(name, *groups, **claims), frozenset(roles), "192.0.2.7:9"
        )
        made = self.browser()
        made.cookies.set(self.web.cookies.session, cookie, domain="gateway.example")
        made.form = session.form
        return made, session

    async def held(self, text: str = "drop table payments", **changes: object) -> Ticket:
        agent = Principal("job", self.issuer, time.time() + 3600, ("writer",), {"team": "payments"})
        return await self.web.desk.request(ask(text, **{"principal": agent, **changes}))

    def events(self, code: str = "") -> list[dict]:
        self.gate.written()
        lines = self.gate.config.audit.path.read_text().splitlines()
        return [one for one in map(json.loads, lines) if one["code"].startswith(code)]


@contextlib.asynccontextmanager
async def console_office(directory: Path, issuer: str, console: str = "") -> AsyncIterator[Office]:
    (directory / "client").touch(mode=0o600)
    (directory / "client").write_text("the secret&\n")
    path = directory / "pangate.toml"
    path.write_text(TOML.format(issuer=issuer, console=console))
    settings = config.load(path)
    recorder, authenticator = open_recorder(settings), open_authenticator(settings)
    recordings = open_recordings(settings)
    gate = Gate(settings, authenticator, recorder, recordings)
    gate.desk = await open_desk(settings, gate.record, gate.durable, pan_mask())
    web = Web(gate, settings.control.console)
    made = Office(gate, web, issuer)
    try:
        yield made
    finally:
        for browser in made.browsers:
            await browser.aclose()
        await web.close()
        await gate.desk.close()
        await authenticator.close()
        recordings.close()
        with contextlib.suppress(RecordFailed):  # some tests take its file away
            recorder.close()
