"""The words of the gateway as frozen dataclasses, and as tuples where many are made. No behaviour, no input
or output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

Action = Literal["allow", "deny", "hold"]
Way = Literal["password", "oauth", "certificate"]
"""How an agent proves who it is: its token as a password, its token by the protocol's OAuth mechanism,
or a certificate in the TLS handshake."""

Effect = Literal[
    "read", "write", "bulk_write", "schema", "privilege", "code", "file", "session", "admin"
]

EFFECTS: tuple[Effect, ...] = get_args(Effect)
"""Everything that a statement can do, in the order in which a refusal names it:

read        data comes out
write       rows are added, changed, removed or locked; other sessions are notified
bulk_write  rows are changed or removed with no condition that could spare one (with `write`)
schema      tables, views, types, functions and the like are made, changed or removed
privilege   who may do what: grants, owners, row security, SET ROLE
code        what runs is not in the statement: DO, functions of one's own, SQL from a text, programs
file        files of the server or its network are reached
session     settings and locks that change what other statements mean or do
admin       the server itself: ALTER SYSTEM, signals, replication slots, VACUUM"""


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
    """One role of one principal on one resource: the result of authorisation.

    `effects` is what its statements may do. `functions` are the names of functions, beside the
    resource's built-in ones, that they may call without the effect `code`."""

    role: str
    resource: str
    mask: str = "last4"
    limits: Limits = field(default_factory=Limits)
    effects: frozenset[Effect] = frozenset({"read"})
    functions: tuple[str, ...] = ()


class Relation(NamedTuple):
    """A table, view or the like that a statement names. `schema` is empty where none is written.
    `use` is what happens to it: "read", "write" or "schema"."""

    schema: str
    name: str
    use: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


class Part(NamedTuple):
    """One statement of a text, as its language's grammar reads it.

    `needs` has each effect with what in the statement has it; `calls` are functions that the language
    does not bring along, as written. `columns` are (relation, column): the relation is empty where
    the statement does not say it, the column "*" for all. `executes` and `prepares` are names of
    prepared statements."""

    command: str
    needs: Mapping[Effect, str]
    calls: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    where: Literal["", "none", "constant", "some"] = ""
    """For UPDATE, DELETE and MERGE: whether there is a condition, and whether it depends on the row."""
    limit: bool = False
    returning: bool = False
    explain: Literal["", "plan", "analyze"] = ""
    transaction: str = ""
    """"begin", "commit", "rollback", "savepoint", ... for transaction control."""
    executes: str = ""
    prepares: str = ""
    whole: bool = False
    """Whether rows are written or compared without the names of their columns: INSERT with no list of them,
    a row as a value, a star within a subquery."""
    shown: tuple[str, ...] = ()
    """Columns of a SELECT that it does no more than show, and the names that it gives them, as often as they
    stand in it."""
    lasting: str = ""
    """What in it may leave something in its session that does not end with its transaction; empty when
    nothing is known to."""
    deallocates: str | None = None
    """The prepared statement that it takes away; empty for all."""


class Understanding(NamedTuple):
    """What a text does. `refusal` is not empty when it would make the gateway misread what comes behind
    it: then nobody may run it. `constant` is true when other literals in its place change nothing."""

    parts: tuple[Part, ...]
    refusal: str = ""
    constant: bool = False
    effects: frozenset[Effect] = frozenset()
    """All effects that its parts need."""
    calls: tuple[str, ...] = ()
    """All calls of its parts."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One command as the codec read it.

    `kind` is the codec's name for the message that carries it ("query", "parse", "bind", "call").
    `text` is the command as the agent wrote it, unmasked: it is masked before it is recorded.
    `parameters` are the bind values as text, None for NULL, unmasked likewise. `refusal` is not empty
    when the codec cannot pass it, whoever asks: the gate then denies with this reason. `meaning` is
    what the command does; None counts as everything. `runs` is false when the command only gets a name
    and runs by another statement, which is judged again and has the values.

    `shown` and `shown_parameters` are the same as they may be kept, where sensitive authentication data
    may be among their values, otherwise None. Whatever keeps or shows a statement takes these."""

    kind: str
    text: str
    parameters: tuple[str | None, ...] = ()
    name: str = ""
    refusal: str = ""
    meaning: Understanding | None = None
    runs: bool = True
    shown: str | None = None
    shown_parameters: tuple[str | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """What a held statement waits for: `quorum` different people of the groups in `approvers`.

    A request waits `expires_seconds`, and in a transaction, whose locks are held meanwhile,
    `transaction_seconds`. An approver's login has one of `acr` and all of `amr`, where they name any.
    With `estimate` the planner's estimate of rows is a part of what is approved."""

    approvers: tuple[str, ...]
    quorum: int = 1
    expires_seconds: float = 3600.0
    transaction_seconds: float = 60.0
    reason_required: bool = False
    acr: tuple[str, ...] = ()
    amr: tuple[str, ...] = ()
    mode: Literal["wait", "refuse-and-retry"] = "wait"
    estimate: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a statement. `reason` reaches the agent; `rule` names what decided. `hold` is
    what it waits for when the action is "hold", None otherwise.

    `needs_estimate` is true when the number of rows that the planner expects could change it: then
    whoever can ask the planner decides again with that, and for everybody else the action stands.
    `shadow` has (rule, action) of rules that are only tried out and would have decided. `code` is the
    class of a refusal, as those of exceptions, by which a protocol chooses its own."""

    action: Action
    reason: str = ""
    rule: str = ""
    hold: Hold | None = None
    needs_estimate: bool = False
    shadow: tuple[tuple[str, Action], ...] = ()
    code: str = "authorisation.denied"

    @property
    def open(self) -> bool:
        """Whether it is not the last word yet."""
        return self.action == "hold" or self.needs_estimate


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


class Event(NamedTuple):
    """One record. `code` is stable ("session.start", "statement.allowed", ...); the fields are those
    of PCI DSS 10.2.2: who, what type, when, success or failure, where from, on which resource.

    `time` is in seconds since the epoch, `data` holds what is particular to the code; every text in it is
    masked before it is written. `config` are the letters of the configuration that was in force, `role`
    is the role of a session, `statement` the number of one within its session; 0 where there is none.
    A tuple, because it is made for every statement and a tuple is made in a third of the time."""

    code: str
    time: float
    session: str
    principal: str
    origin: str
    resource: str
    success: bool
    data: Mapping[str, object] = MappingProxyType({})
    config: str = ""
    role: str = ""
    statement: int = 0
