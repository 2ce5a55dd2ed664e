"""One TOML file read into frozen, typed settings: this file has the types. A description of a
field is its reference and its remedy. The settings hold where secrets are, never the secrets."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import stat
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from pangate import policy
from pangate.config.approvals import (
    ApprovalSettings,
    ControlSettings,
    DeskSettings,
    StateSettings,
)
from pangate.config.audit import AnchorSettings, RetentionSettings, SinkSettings
from pangate.config.base import (
    AnyPort,
    Count,
    Name,
    Port,
    Seconds,
    Settings,
)
from pangate.config.base import (
    SecretSettings as SecretSettings,
)
from pangate.config.base import (
    is_loopback as is_loopback,
)
from pangate.config.channels import SlackSettings, WebhookSettings
from pangate.config.profiles import Profile
from pangate.config.rules import ApproverSettings, RuleSettings
from pangate.model import Effect, Limits, Resource, Way

Tls = Literal["verify-full", "verify-ca", "disable"]
MaskName = Literal["full", "last4", "first6_last4", "first8_last4"]
ALGORITHMS = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)
"""The signature algorithms that may be pinned: asymmetric ones only."""

CERTIFICATE_ISSUER = "x509"
"""What stands where a token's issuer would, for agents that come with a client certificate."""


class ListenSettings(Settings, frozen=True, kw_only=True):
    """Where agents connect."""

    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on: a name or an IP address.")
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(ge=0, le=65535, description="Port to listen on, 1 to 65535; 0 takes any free port."),
    ] = 6432
    certificate: Annotated[
        Path | None,
        Meta(description="PEM file with the gateway's certificate, then its chain. Needs `key`."),
    ] = None
    key: Annotated[
        Path | None,
        Meta(description="PEM file with the unencrypted private key of `certificate`, mode 0600."),
    ] = None
    allow_plaintext_loopback: Annotated[
        bool,
        Meta(
            description="true takes tokens without TLS too; only on a loopback `host`, for trials."
        ),
    ] = False
    authentication: Annotated[
        tuple[Way, ...],
        Meta(
            description='How agents may authenticate: "password" (their token is the password), '
            '"oauth" (their token by OAUTHBEARER), "certificate" (TLS client certificate). The first '
            "that a connection can go is taken, unless the agent names another of them with the "
            "startup option `pangate.authentication`; nothing falls back to another way."
        ),
    ] = ("password",)
    client_ca: Annotated[
        Path | None,
        Meta(description="PEM file with the CAs of client certificates. For `certificate` only."),
    ] = None
    client_crl: Annotated[
        Path | None,
        Meta(
            description="PEM file with a current revocation list of each of these CAs; what is on "
            "one, or has no current one, is refused."
        ),
    ] = None
    client_name: Annotated[
        Literal["spiffe", "common_name", "dns", "uri"],
        Meta(
            description="What names an agent whose certificate has no SPIFFE ID: the common name of "
            'its subject, or its one DNS or URI name; "spiffe" refuses it.'
        ),
    ] = "spiffe"
    oauth_issuer: Annotated[
        str | None,
        Meta(
            description="`url` of the issuer that OAuth clients are sent to for a token; may be left "
            "out if there is only one."
        ),
    ] = None
    oauth_scope: Annotated[
        str,
        Meta(description="Scope that OAuth clients are told to ask for; empty for none."),
    ] = ""


class LimitSettings(Settings, frozen=True, kw_only=True):
    """The bounds of the gateway. Reaching one gives an error that says which."""

    max_message_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1 << 30,
            description="Longest protocol message of either side that is kept whole, in bytes. A longer "
            "row of a result or of COPY passes in pieces, and so does what an agent sends in COPY; "
            "others are refused.",
        ),
    ] = 16 << 20
    max_sessions: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Connections from agents open at the same time.")
    ] = 1000
    login_seconds: Annotated[
        Seconds, Meta(description="From the accepted connection to the end of its login, seconds.")
    ] = 10.0
    connect_seconds: Annotated[
        Seconds, Meta(description="To reach a resource and log in to it, in seconds.")
    ] = 5.0
    credential_seconds: Annotated[
        Seconds, Meta(description="To obtain a resource's password from its source, in seconds.")
    ] = 5.0
    catalog_seconds: Annotated[
        Seconds,
        Meta(
            description="How long what a resource says of its own types, tables and views is believed, "
            "in seconds. Changes that pass through the gateway are noticed at once."
        ),
    ] = 60.0
    idle_seconds: Annotated[
        Seconds | None,
        Meta(description="Longest silence of a session, in seconds; leave it out for no bound."),
    ] = None
    keepalive_seconds: Annotated[
        Seconds, Meta(description="Silence of a connection before it is probed, in seconds.")
    ] = 60.0
    keepalive_interval_seconds: Annotated[
        Seconds, Meta(description="From one unanswered probe to the next, in seconds.")
    ] = 15.0
    dead_peer_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="How long an agent or a resource may answer no probe, acknowledge nothing, "
            "or take nothing of what is sent to it, in seconds; its connection is closed then.",
        ),
    ] = 300.0
    close_seconds: Annotated[
        Seconds,
        Meta(
            description="How long the last bytes of an ended session may wait to be read, in "
            "seconds; then its connections are reset."
        ),
    ] = 5.0
    drain_seconds: Annotated[
        Seconds, Meta(description="How long open sessions may go on after SIGTERM, in seconds.")
    ] = 30.0
    max_held: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Requests that wait for approval at the same time."),
    ] = 1000
    max_held_per_principal: Annotated[
        int, Meta(ge=1, le=100_000, description="The same, of one identity.")
    ] = 20
    token_bytes: Annotated[
        int, Meta(ge=256, le=1 << 20, description="Longest token that is looked at, in bytes.")
    ] = 16384
    token_grace_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="How long a session may outlive its token, in seconds, 0 to 86400.",
        ),
    ] = 0.0
    auth_failures_per_minute: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Failed logins from one address in a minute; more are refused unchecked.",
        ),
    ] = 30
    token_cache_entries: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Verified tokens remembered (by digest) until they expire; 0 for none.",
        ),
    ] = 4096


class IssuerSettings(Settings, frozen=True, kw_only=True):
    """An identity provider whose signed tokens are believed."""

    url: Annotated[
        str,
        Meta(description="The issuer: an https URL, exactly as the tokens' `iss` claim has it."),
    ]
    audience: Annotated[
        str | tuple[str, ...],
        Meta(description="What a token's `aud` must name for it to be meant for this gateway."),
    ]
    algorithms: Annotated[
        tuple[str, ...],
        Meta(
            description="Signature algorithms that are accepted, of "
            + ", ".join(sorted(ALGORITHMS))
            + "."
        ),
    ] = ("RS256", "ES256")
    jwks_url: Annotated[
        str | None,
        Meta(
            description="https URL of the key set. Left out: the `jwks_uri` that the issuer's "
            "`/.well-known/openid-configuration` names."
        ),
    ] = None
    ca: Annotated[
        Path | None,
        Meta(
            description="PEM file with the CA of the issuer's server; left out: the system's CAs."
        ),
    ] = None
    allow_http_loopback: Annotated[
        bool, Meta(description="true allows http instead of https to a loopback address.")
    ] = False
    leeway_seconds: Annotated[
        float,
        Meta(ge=0, le=300, description="Tolerated difference of clocks, in seconds, 0 to 300."),
    ] = 30.0
    max_life_seconds: Annotated[
        Seconds,
        Meta(description="Longest life (`exp` minus `iat`) that a token may have, in seconds."),
    ] = 86_400.0
    refresh_seconds: Annotated[
        Seconds, Meta(description="Age at which the keys are fetched again, in seconds.")
    ] = 300.0
    stale_seconds: Annotated[
        Seconds,
        Meta(
            description="How long keys are still used when the issuer cannot be reached, counted "
            "from their last fetch, in seconds; not less than `refresh_seconds`."
        ),
    ] = 3600.0
    fetch_seconds: Annotated[
        Seconds, Meta(description="To fetch the issuer's keys, in seconds, all in all.")
    ] = 5.0
    subject_claim: Annotated[
        str, Meta(min_length=1, description="The claim that names the agent.")
    ] = "sub"

    @property
    def audiences(self) -> tuple[str, ...]:
        """`audience` as a tuple, however it was written."""
        return (self.audience,) if isinstance(self.audience, str) else self.audience


class PoolSettings(Settings, frozen=True, kw_only=True):
    """How connections to a resource are used again. Between two owners, everything that the first one left is
    taken away; a connection that ran what could leave more is closed instead."""

    mode: Annotated[
        Literal["session", "transaction"],
        Meta(
            description="Whether a session keeps its connection to its end, or parts with it after each "
            "transaction that leaves nothing."
        ),
    ] = "session"
    idle_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="How long a connection without an owner waits for one, in seconds; 0 closes "
            "each with its session.",
        ),
    ] = 300.0
    max_seconds: Annotated[
        Seconds, Meta(description="A connection of this age has no further owner, in seconds.")
    ] = 3600.0
    max_connections: Annotated[
        Count,
        Meta(
            description="Connections of sessions to the resource at the same time, those that wait for an "
            "owner too; a session that finds none waits its turn, limits.connect_seconds at most. "
            "PostgreSQL's own `max_connections` is 100 by default, three of them for superusers."
        ),
    ] = 80
    ready: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="Connections that are logged in before anybody asks for them, with the settings of "
            "the session that came last; as many wait however long nobody comes. Each worker has its own.",
        ),
    ] = 0


class ResourceSettings(Settings, frozen=True, kw_only=True):
    """A system that agents reach through the gateway."""

    name: Annotated[Name, Meta(description="What agents ask for: their database name.")]
    protocol: Annotated[Literal["postgresql"], Meta(description="Protocol of the resource.")] = (
        "postgresql"
    )
    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Name or IP address, or the directory of a unix socket (begins with `/`).",
        ),
    ]
    port: Annotated[Port, Meta(description="Port of the resource, 1 to 65535.")] = 5432
    database: Annotated[Name, Meta(description="Name of the database at the resource.")]
    user: Annotated[Name, Meta(description="User that the gateway logs in as.")]
    password: Annotated[
        SecretSettings | None,
        Meta(
            description='Where the password is: { file = "path" }, { env = "NAME" } or '
            '{ command = ["program", "argument"] }. It is never written in this file. Needed unless '
            "the gateway logs in with a `certificate`."
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        Meta(
            description="PEM file with the certificate that the gateway shows to the resource, then "
            "its chain. Needs `key`."
        ),
    ] = None
    key: Annotated[
        Path | None,
        Meta(description="PEM file with the unencrypted private key of `certificate`, mode 0600."),
    ] = None
    tls: Annotated[
        Tls,
        Meta(
            description='"verify-full" (CA and host name), "verify-ca", or "disable", which is for '
            "loopback addresses and unix sockets only."
        ),
    ] = "verify-full"
    ca: Annotated[
        Path | None,
        Meta(description="PEM file with the CA of the resource; left out: the system's CAs."),
    ] = None

    columns: Annotated[
        dict[str, Literal["wipe", "mask", "leave"]],
        Meta(
            description='Columns and what is done with their values: "wipe" (nothing is shown), "mask" (a '
            'card number, whatever its digits are), "leave" (no card number, whatever its digits '
            "are). A key is `column`, `table.column` or `schema.table.column`, in quotes; "
            '"leave" needs the full name. An alias changes nothing.'
        ),
    ] = {}
    sensitive_columns: Annotated[
        bool,
        Meta(
            description="Wipe columns that are named as sensitive authentication data (cvv, cvc2, "
            "security_code, pin_block, track2, ...)."
        ),
    ] = True

    pool: Annotated[
        PoolSettings, Meta(description="How connections to the resource are used again.")
    ] = PoolSettings()
    application_name: Annotated[
        str | None,
        Meta(
            description="The `application_name` that the resource is told: text with `{application}` (the "
            "agent's own), `{principal}` and `{role}`. Left out: the agent's own."
        ),
    ] = None
    principal_setting: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")] | None,
        Meta(
            description="A setting of the session that carries the principal, such as `pangate.principal`, "
            "for the resource's own logs and policies (`current_setting('pangate.principal')`). An "
            "agent whose role has the effect `session` can change it.",
        ),
    ] = None

    @property
    def unix(self) -> bool:
        """Whether `host` is the directory of a unix socket."""
        return self.host.startswith("/")

    @property
    def on_this_machine(self) -> bool:
        """Whether no network is on the way: only then it may go without TLS, and a password in clear."""
        return self.unix or is_loopback(self.host)

    @property
    def model(self) -> Resource:
        """The resource in the gateway's own words."""
        return Resource(self.name, self.protocol, self.host, self.port, self.database, self.user)


class RoleLimitSettings(Settings, frozen=True, kw_only=True):
    """Bounds that a role puts on its sessions; what is left out is not bounded by the role."""

    max_sessions: Annotated[
        Count | None, Meta(description="Sessions of one principal at the same time.")
    ] = None
    max_rows: Annotated[Count | None, Meta(description="Rows that one session may receive.")] = None
    max_bytes: Annotated[Count | None, Meta(description="Bytes that one session may receive.")] = (
        None
    )
    max_seconds: Annotated[Seconds | None, Meta(description="Life of one session, in seconds.")] = (
        None
    )

    @property
    def model(self) -> Limits:
        """The bounds in the gateway's own words."""
        return Limits(self.max_sessions, self.max_rows, self.max_bytes, self.max_seconds)


class RoleSettings(Settings, frozen=True, kw_only=True):
    """Who may reach what, and how much of a card number they see. What no role grants is denied."""

    name: Annotated[Name, Meta(description="Name of the role, as records show it.")]
    match: Annotated[
        dict[str, Any],
        Meta(
            description="Verified claims that a token must have, all of them: a value, a list of "
            "which one is enough, or a table for a claim that is itself a table. A claim that is a "
            "list matches by any of its items. Values are compared exactly."
        ),
    ]
    issuer: Annotated[
        str | None,
        Meta(
            description='`url` of the issuer of the token, or "x509" for client certificates; may be '
            "left out if there is only one."
        ),
    ] = None
    resources: Annotated[
        tuple[str, ...], Meta(description="Names of the resources that the role grants.")
    ]
    effects: Annotated[
        tuple[Effect, ...],
        Meta(
            description='What statements may do: "read", "write", "bulk_write", "schema", '
            '"privilege", "code", "file", "session", "admin"; `docs/policy.md` says what each is. '
            "Transactions, cursors and settings that only form or bound the session's own "
            "statements need none."
        ),
    ] = ("read",)
    functions: Annotated[
        tuple[str, ...],
        Meta(
            description="Functions beside PostgreSQL's own that may be called without the effect "
            '"code", as statements write them: "balance", "payments.balance", "payments.*", "st_*".'
        ),
    ] = ()
    mask: Annotated[
        MaskName,
        Meta(
            description='What stays visible of a card number: "full" (nothing), "last4", '
            '"first6_last4" or "first8_last4"; the latter two need a `justification`.'
        ),
    ] = "last4"
    justification: Annotated[
        str,
        Meta(
            max_length=2000,
            description="Why the role has to see more than the last four digits "
            "(PCI DSS 4.0.1, requirement 3.4.1).",
        ),
    ] = ""
    limits: Annotated[RoleLimitSettings, Meta(description="Bounds of the role's sessions.")] = (
        RoleLimitSettings()
    )
    record: Annotated[
        Literal["full", "digest"],
        Meta(
            description='What is recorded of the answers that the role\'s sessions are sent: "full", all of '
            'them, or "digest", their size, timing and digest only.'
        ),
    ] = "full"
    record_rows: Annotated[
        Count | None,
        Meta(
            description='With "full", the first rows of each result that are recorded; the rest is '
            "counted and digested. Leave it out for all rows."
        ),
    ] = None
    record_bytes: Annotated[
        Count,
        Meta(
            description='With "full", how much of what one session is sent is recorded, in bytes before '
            "compression; the rest is counted and digested."
        ),
    ] = 1 << 30


class AuditSettings(Settings, frozen=True, kw_only=True):
    """The record: what cannot be written here is not forwarded."""

    path: Annotated[
        Path,
        Meta(
            description="File that events are appended to; its directory must exist. What agents are "
            "sent is recorded beside it, in the directory `sessions`."
        ),
    ]
    fsync: Annotated[
        Literal["urgent", "always", "interval"],
        Meta(
            description='What waits for the disk: "urgent" statements that do more than read and write rows '
            "(`bulk_write`, `schema`, `privilege`, `code`, `file`, `admin`), decisions of people and refused "
            'logins; "always" everything; "interval" nothing, so a power failure may lose `fsync_seconds`.'
        ),
    ] = "urgent"
    fsync_seconds: Annotated[
        float,
        Meta(
            ge=0.001,
            le=60,
            description="The longest time between an event and its being on the disk, where nothing waits "
            "for that.",
        ),
    ] = 0.05
    clock_back_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="How far the system's clock may go back behind the last event. Beyond that nothing "
            "is executed until it has caught up, or somebody says with SIGHUP that it is right.",
        ),
    ] = 1.0
    seal_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seal the record so often, in seconds: a process of its own makes a Merkle log of "
            "it, in the directory of `path`, and signs checkpoints. 0 seals nothing.",
        ),
    ] = 1.0
    key: Annotated[
        Path | None,
        Meta(
            description="File with the private key that signs checkpoints, mode 0600; made at the first "
            "start when it is not there. Left out: `path` with `.key` behind it."
        ),
    ] = None
    key_command: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Instead of `key`: program and arguments, run without a shell, that print the "
            "private key, such as a vault's client. `{origin}` in an argument is the name of the log."
        ),
    ] = None
    key_environment: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], ...],
        Meta(
            description="Environment variables that `key_command` is given, beside PATH and the like: "
            "nothing else of the gateway's environment reaches it."
        ),
    ] = ()
    origin: Annotated[
        Annotated[str, Meta(pattern=r"^[^\s+]{1,200}$")] | None,
        Meta(
            description="Name of the log in checkpoints and keys, without spaces and `+`. Left out: "
            "`pangate/` and the host's name."
        ),
    ] = None

    anchors: Annotated[
        tuple[AnchorSettings, ...],
        Meta(
            description="Where checkpoints are kept out of reach of whoever has the record; each is a table "
            "`[[audit.anchors]]`. Needs `seal_seconds`."
        ),
    ] = ()

    sinks: Annotated[
        tuple[SinkSettings, ...],
        Meta(description="Who gets the events beside the file; each is a table `[[audit.sinks]]`."),
    ] = ()

    retention: Annotated[RetentionSettings, Meta(description="How long the record is kept.")] = (
        RetentionSettings()
    )

    @property
    def ledger(self) -> Path:
        """The directory that recordings and what is sealed are in."""
        return self.path.parent

    @property
    def private_key(self) -> Path:
        """The file of the private key, where no command prints it."""
        return self.key or self.path.with_name(self.path.name + ".key")


class LogSettings(Settings, frozen=True, kw_only=True):
    """What the gateway says of itself on standard error. Card numbers in it are masked."""

    format: Annotated[
        Literal["text", "json"],
        Meta(description='"text" for people, "json" for one JSON object a line.'),
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least that is written; `--log-level` has the last word."),
    ] = "info"


class MonitorSettings(Settings, frozen=True, kw_only=True):
    """Where `/metrics`, `/healthz` and `/readyz` are read, by HTTP and by whoever can connect."""

    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on: a name or an IP address.")
    ] = "127.0.0.1"
    port: Annotated[
        AnyPort | None,
        Meta(
            description="Port to listen on; 0 takes any free port; leave it out to have none.",
        ),
    ] = None
    allow_network: Annotated[
        bool,
        Meta(
            description="true allows a `host` that is not loopback: whoever reaches it may read, "
            "without TLS and without a password."
        ),
    ] = False


class ProcessSettings(Settings, frozen=True, kw_only=True):
    """What the gateway asks of the operating system for itself."""

    lock_memory: Annotated[
        bool,
        Meta(
            description="true keeps the gateway's memory out of swap (mlockall); where the system "
            "does not allow it, a warning says so."
        ),
    ] = True
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Processes that serve agents, on one port. With more than one, each has a record of "
            "its own, in a directory `worker-N` beside `audit.path`; `docs/operations.md` says more.",
        ),
    ] = 1


class Config(Settings, frozen=True, kw_only=True, dict=True):
    """The whole file. Made by `load`, which guarantees that every reference in it resolves."""

    path: Path
    listen: ListenSettings
    limits: LimitSettings
    issuers: tuple[IssuerSettings, ...]
    resources: tuple[ResourceSettings, ...]
    roles: tuple[RoleSettings, ...]
    audit: AuditSettings
    log: LogSettings = LogSettings()
    monitor: MonitorSettings = MonitorSettings()
    process: ProcessSettings = ProcessSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    state: StateSettings = StateSettings()
    control: ControlSettings = ControlSettings()
    approvers: tuple[ApproverSettings, ...] = ()
    webhooks: tuple[WebhookSettings, ...] = ()
    slack: tuple[SlackSettings, ...] = ()
    rules: tuple[RuleSettings, ...] = ()
    """The file's own, and behind them those of the profile."""
    profile: Profile = ""

    @functools.cached_property
    def rulebook(self) -> policy.Rulebook:
        return policy.Rulebook(self.rules)

    @functools.cached_property
    def resources_by_name(self) -> Mapping[str, ResourceSettings]:
        return {resource.name: resource for resource in self.resources}

    @functools.cached_property
    def roles_by_name(self) -> Mapping[str, RoleSettings]:
        return {role.name: role for role in self.roles}

    @functools.cached_property
    def issuers_by_url(self) -> Mapping[str, IssuerSettings]:
        return {issuer.url: issuer for issuer in self.issuers}

    @functools.cached_property
    def oauth_discovery(self) -> str:
        """Where OAuth clients find the issuer that they get their token of; empty for no issuer."""
        url = self.listen.oauth_issuer or next((issuer.url for issuer in self.issuers), "")
        return url and discovery_url(url)

    @property
    def state_path(self) -> Path:
        """Where the state is."""
        return self.state.path or self.audit.path.with_name(self.audit.path.name + ".state")

    @functools.cached_property
    def desk(self) -> DeskSettings:
        """What decisions on held statements rest on."""
        return DeskSettings(
            self.approvers,
            self.approvals.break_glass,
            self.approvals.delegation_seconds,
            self.approvals.keep_seconds,
            self.limits.max_held,
            self.limits.max_held_per_principal,
        )

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the canonical form of what `describe` prints. Secrets are not
        in it: neither passwords nor the arguments of commands that fetch them."""
        from pangate.config.text import public

        text = json.dumps(public(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


TABLES: tuple[tuple[str, type[Settings], bool], ...] = (
    ("listen", ListenSettings, False),
    ("limits", LimitSettings, False),
    ("issuers", IssuerSettings, True),
    ("resources", ResourceSettings, True),
    ("roles", RoleSettings, True),
    ("approvers", ApproverSettings, True),
    ("rules", RuleSettings, True),
    ("approvals", ApprovalSettings, False),
    ("webhooks", WebhookSettings, True),
    ("slack", SlackSettings, True),
    ("state", StateSettings, False),
    ("control", ControlSettings, False),
    ("audit", AuditSettings, False),
    ("log", LogSettings, False),
    ("monitor", MonitorSettings, False),
    ("process", ProcessSettings, False),
)
"""The tables of the file in the order of its reference: key, type, and whether it is an array."""

PROFILE = (
    'Rules to start from: "pci" denies what reaches the server or its files, holds changes without a '
    "condition, schema and privilege changes and code for the people in `[[approvers]]`, and leaves "
    "reading and writing to the roles. The rules of the file come first."
)
"""What the key `profile` is, which stands in front of all tables."""

OPTIONAL = ("approvers", "rules", "webhooks", "slack")
"""The arrays that may be left out."""


def load(path: Path, *, files: bool = True) -> Config:
    """Read and check the file at `path`; relative paths in it start from its directory. Without `files`,
    what it names beside itself (secrets, certificates, directories) need not be there: it says what the
    rules are all the same.

    Raises ConfigError with every problem that was found."""
    from pangate.config.reader import read

    return read(path.absolute(), files=files)


def describe(config: Config) -> str:
    """The resolved configuration as TOML, defaults filled in and secrets left out."""
    from pangate.config.text import describe

    return describe(config)


def reference() -> str:
    """The reference of the file in Markdown, made from the types above."""
    from pangate.config.text import reference

    return reference()


def discovery_url(issuer: str) -> str:
    """Where the discovery document of an issuer is (OpenID Connect Discovery 1.0, section 4)."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def url_problem(url: str, allow_http_loopback: bool) -> str | None:
    """What is wrong with `url` as one that keys are fetched from, or None."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("https", "http") or not host or not re.fullmatch(r"[!-~]+", url):
        return "is not an https URL with a host; write https://host/path"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password; take it out"
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        return "has a query or a fragment; take it out"
    if parts.scheme == "http" and not is_loopback(host):
        return f"http to {host} can be forged on the way; use https"
    if parts.scheme == "http" and not allow_http_loopback:
        return "http is for trials on loopback; use https or set allow_http_loopback = true"
    return None


def private_file_problem(path: Path) -> str | None:
    """What is wrong with `path` as a file that holds a secret, or None.

    It must be a regular file owned by the user that runs the gateway, with no permission for
    anybody else, or owned by root and not readable by others (0440 and a group is how container
    platforms hand a secret to an unprivileged user)."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return f"there is no file {path}; create it or correct the path"
    except OSError as error:
        return f"cannot look at {path}: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a regular file"
    mode = stat.S_IMODE(found.st_mode)
    user = os.geteuid()
    if found.st_uid not in (0, user):
        return f"{path} belongs to another user (uid {found.st_uid}); chown it to uid {user}"
    open_to_others = mode & (0o037 if found.st_uid == 0 else 0o077)
    if open_to_others:
        return (
            f"{path} has mode {mode:04o}, open to others than its owner; chmod it to 0600 "
            "(for a container's secret owned by root, 0440 is enough)"
        )
    if not os.access(path, os.R_OK):
        return f"{path} cannot be read by uid {user}; change its owner or group"
    return None


def _bare(annotation: Any) -> Any:
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def settings_of(annotation: Any) -> type[Settings] | None:
    bare = _bare(annotation)
    if typing.get_origin(bare) is types.UnionType:
        # a table that may be left out
        bare = next(kind for kind in typing.get_args(bare) if kind is not types.NoneType)
    return bare if isinstance(bare, type) and issubclass(bare, Settings) else None


def items_of(annotation: Any) -> type[Settings] | None:
    """The type of the tables of an array inside a table; None for what is no such array."""
    bare = _bare(annotation)
    if typing.get_origin(bare) is not tuple:
        return None
    return settings_of(typing.get_args(bare)[0])


def description_of(annotation: Any) -> str:
    if typing.get_origin(annotation) is Annotated:
        for meta in reversed(typing.get_args(annotation)[1:]):
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    return ""


def doc_of(kind: type[Settings]) -> str:
    return " ".join((kind.__doc__ or "").split())


def toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_\-]+", key) else json.dumps(key, ensure_ascii=False)
