"""The tables of what waits for a person: where it is kept, and how it is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from pangate.config.base import AnyPort, Count, Name, Seconds, Settings
from pangate.config.console import ConsoleSettings
from pangate.config.rules import ApproverSettings


class StateSettings(Settings, frozen=True, kw_only=True):
    """What the gateway remembers beside its record: requests for approval and who decided them."""

    path: Annotated[
        Path | None,
        Meta(
            description="SQLite file of this gateway alone, made with mode 0600; left out: the path of "
            "the audit file with `.state` at its end."
        ),
    ] = None


class ApprovalSettings(Settings, frozen=True, kw_only=True):
    """How statements that rules hold are decided."""

    notice_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="How often a session that waits for approval is told so, in the protocol's own "
            "notice, in seconds; 0 for never.",
        ),
    ] = 20.0
    break_glass: Annotated[
        tuple[Name, ...],
        Meta(
            description="Names of groups whose people may let a held statement run at once, alone and "
            "with a reason; everybody is told, and somebody else has to review it."
        ),
    ] = ()
    count_rows: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000_000,
            description="Where it stops when somebody who decides has the rows of a statement counted.",
        ),
    ] = 10_000
    count_seconds: Annotated[
        float,
        Meta(gt=0, le=600, description="How long the resource may count, in seconds."),
    ] = 5.0
    delegation_seconds: Annotated[
        Seconds,
        Meta(description="How long one person may let another decide in their place, in seconds."),
    ] = 1_209_600.0
    keep_seconds: Annotated[
        Seconds,
        Meta(description="How long requests are kept once they are over, in seconds."),
    ] = 31_536_000.0


class ControlSettings(Settings, frozen=True, kw_only=True):
    """Where people and their programs reach the gateway by HTTP, to decide what waits. Everybody who has a
    token of an issuer may ask; what they see and may do is what `approvers` say."""

    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on: a name or an IP address.")
    ] = "127.0.0.1"
    port: Annotated[
        AnyPort | None,
        Meta(description="Port to listen on; 0 takes any free port; leave it out to have none."),
    ] = None
    certificate: Annotated[
        Path | None,
        Meta(
            description="PEM file with the certificate, then its chain; left out: no TLS, which only a "
            "loopback `host` allows. Needs `key`."
        ),
    ] = None
    key: Annotated[
        Path | None,
        Meta(description="PEM file with the unencrypted private key of `certificate`, mode 0600."),
    ] = None
    max_connections: Annotated[
        Count,
        Meta(
            description="Connections at a time. When all are taken, one that asks for nothing makes room for "
            "the next."
        ),
    ] = 200
    max_connections_per_address: Annotated[
        Count,
        Meta(
            description="Those of one address (an IPv6 one: its /64). Behind a proxy all have the proxy's."
        ),
    ] = 100
    request_seconds: Annotated[
        Seconds,
        Meta(
            description="How long a TLS handshake may take, then a request with its body to come, and an "
            "answer to be taken, in seconds."
        ),
    ] = 10.0
    max_watches: Annotated[
        Count,
        Meta(
            description="Live streams of one person at a time, those of the console for themselves."
        ),
    ] = 8
    console: Annotated[
        ConsoleSettings | None,
        Meta(description="The web console; left out: none. `docs/console.md` sets one up."),
    ] = None


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """All that decisions rest on, out of several tables."""

    groups: Sequence[ApproverSettings]
    break_glass: Sequence[str]
    delegation_seconds: float
    keep_seconds: float
    max_held: int
    max_held_per_principal: int
