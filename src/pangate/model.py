"""The words of the gateway as frozen dataclasses. No behaviour, no input or output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["allow", "deny", "hold"]
Way = Literal["password", "oauth", "certificate"]
"""How an agent proves who it is: its token as a password, its token by the protocol's OAuth mechanism,
or a certificate in the TLS handshake."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who the agent is, as its issuer vouches for it.

    `expires_at` is the end of the token's life in seconds since the epoch. `claims` are the verified
    claims. `roles` are the names of the roles that the configuration gives to these claims."""

    subject: str
    issuer: str
    expires_at: float
    roles: tuple[str, ...] = ()
    claims: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`issuer#subject`: unique over all issuers."""
        return f"{self.issuer}#{self.subject}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What an agent proved in its TLS handshake: `der` is the certificate, which a configured CA
    signed, and the agent has its key. Empty when it showed none. A type of its own, so that nothing
    that an agent sends can pass for one."""

    der: bytes = field(repr=False)


Credential = str | Certificate
"""A token as the agent sent it, or the certificate of its connection."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What agents reach through the gateway. `name` is what the agent asks for (for PostgreSQL the
    database parameter), `database` what the backend calls it."""

    name: str
    protocol: str
    host: str
    port: int
    database: str
    user: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that a role puts on one session; None means that only the gateway's own bounds hold."""

    max_sessions: int | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """One role of one principal on one resource: the result of authorisation."""

    role: str
    resource: str
    mask: str = "last4"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Statement:
    """One command as the codec read it.

    `kind` is the codec's name for the message that carries it ("query", "parse", "bind", "call").
    `text` is the command as the agent wrote it, unmasked: it is masked before it is recorded.
    `parameters` are the bind values as text, None for NULL, unmasked likewise. `refusal` is not empty
    when the codec cannot pass it, whoever asks: the gate then denies with this reason."""

    kind: str
    text: str
    parameters: tuple[str | None, ...] = ()
    name: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a statement. `reason` reaches the agent; `rule` names what decided."""

    action: Action
    reason: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a statement ended: rows and bytes to the agent, PANs masked by network, what was masked or
    wiped by column, the error's code when there was one. `seconds` runs from the forwarding to the
    last byte."""

    rows: int = 0
    bytes: int = 0
    masked: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """One record. `code` is stable ("session.start", "statement.execute", ...); the fields are those
    of PCI DSS 10.2.2: who, what type, when, success or failure, where from, on which resource.

    `time` is in seconds since the epoch, `sequence` is gap-free within one recorder, `data` holds what
    is particular to the code; every text in it is masked before it is written."""

    code: str
    time: float
    session: str
    principal: str
    origin: str
    resource: str
    success: bool
    data: Mapping[str, object] = field(default_factory=dict)
