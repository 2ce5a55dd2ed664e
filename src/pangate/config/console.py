"""The table of the web console: how people sign in to it, and what they may see there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta

from pangate.config.base import Count, Seconds, Settings, Text

ROLES = ("viewer", "approver", "auditor", "admin")
"""What somebody can be in the console."""

Match = dict[str, Any]


class ConsoleSettings(Settings, frozen=True, kw_only=True):
    """The web console, at `/console` of this listener. People sign in at an issuer, and what they may see is
    what their claims match of `viewer`, `approver`, `auditor` and `admin`; who matches none is refused.
    What they may decide is what `approvers` and the rules say, as anywhere else."""

    url: Annotated[
        Text,
        Meta(
            description="How browsers reach this listener, such as https://gateway.example:6480; the "
            "issuer sends people back to `/console/callback` below it."
        ),
    ]
    client_id: Annotated[
        Text,
        Meta(description="Name of the console at the issuer, which its identity tokens are for."),
    ]
    secret_file: Annotated[
        Path | None,
        Meta(
            description="File with the secret of that client alone, mode 0600; left out: a public client, "
            "which proves itself with PKCE only."
        ),
    ] = None
    issuer: Annotated[
        str | None,
        Meta(
            description="`url` of the issuer that people sign in at; may be left out if there is only one."
        ),
    ] = None
    scope: Annotated[
        Text,
        Meta(
            description="What is asked of the issuer, with spaces between; what it needs to put the claims "
            "below into identity tokens goes here."
        ),
    ] = "openid"
    viewer: Annotated[
        Match,
        Meta(
            description="Claims of people who see counts, the state of the ledger, and what rules decide."
        ),
    ] = {}
    approver: Annotated[
        Match,
        Meta(description="Claims of people who see and decide requests that concern them as well."),
    ] = {}
    auditor: Annotated[
        Match,
        Meta(
            description="Claims of people who read the record, sessions and all requests, and decide nothing."
        ),
    ] = {}
    admin: Annotated[
        Match,
        Meta(
            description="Claims of people who read what auditors do, see who is signed in, and end that."
        ),
    ] = {}
    idle_seconds: Annotated[
        Seconds,
        Meta(
            description="Without a page asked for in this time somebody is signed out, in seconds "
            "(PCI DSS 8.2.8: 900 at the most)."
        ),
    ] = 900.0
    max_seconds: Annotated[
        Seconds,
        Meta(description="After this time somebody signs in again in any case, in seconds."),
    ] = 28_800.0
    sign_ins_per_minute: Annotated[
        Count,
        Meta(
            description="Sign-ins that one address may begin in a minute (an IPv6 one: its /64); failed "
            "ones count twice."
        ),
    ] = 20
    actions_per_minute: Annotated[
        Count, Meta(description="Forms that one person may send in a minute, searches too.")
    ] = 60

    @property
    def secure(self) -> bool:
        """Whether browsers reach it by TLS."""
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        """What browsers send as `Host`."""
        return urlsplit(self.url).netloc.lower()

    def matches(self) -> Iterator[tuple[str, Match]]:
        """The roles that anybody can have, each with its claims."""
        for role in ROLES:
            wanted: Match = getattr(self, role)
            if wanted:
                yield role, wanted


def console_problems(console: ConsoleSettings, wrong_url: str | None) -> Iterator[tuple[str, str]]:
    """What is wrong within the table, as (key, problem with its remedy). `wrong_url` is what is wrong with
    its `url` as any."""
    if wrong_url is not None:
        yield "url", wrong_url
    elif urlsplit(console.url).path not in ("", "/"):
        yield "url", "has a path; write the scheme, the host and the port alone"
    elif console.url != console.url.lower() or urlsplit(console.url).port in (80, 443):
        yield (
            "url",
            "is not as browsers send it: write it in small letters, and without the port of its scheme",
        )
    if "openid" not in console.scope.split():
        yield "scope", 'has no "openid", without which there is no identity token; add it'
    if not any(console.matches()):
        yield (
            "viewer",
            "missing, as are approver, auditor and admin, so nobody could sign in; write at least one, "
            'for example approver = { groups = "payments-owners" }',
        )
    if console.idle_seconds > console.max_seconds:
        yield (
            "idle_seconds",
            f"{console.idle_seconds:g} is more than max_seconds ({console.max_seconds:g}); make it less",
        )
