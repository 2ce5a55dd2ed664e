"""The codec contract and the registry of protocols.

A codec is the protocol machine of one connection: bytes in, actions out, no sockets and no clock. It is
made for one connection and shared with nothing. Three rules hold for every codec:

* `Execute`, `Reach` and `Authenticate` are always the last action of the list they stand in: the codec
  then reads nothing more of what the agent sent until `resume`, `reached` or `ready` is called, and keeps the
  rest. `Learn` is the same for what the resource sent, until `learned` is called.
* Splitting the bytes in any way gives the same bytes out (joined) and the same statements.
* Bytes that the protocol does not allow, or that the codec does not know, raise `ProtocolError`;
  what is understood and not passed (a limit, an encoding, replication) raises `Refused`. Nothing
  else is ever raised, and the connection is over then.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, Protocol

from pangate._again import ShortWay
from pangate._scan import Scanner
from pangate.errors import ProtocolError, Refused
from pangate.model import Certificate, Credential, Outcome, Statement, Verdict, Way

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ToBackend:
    """Send these bytes to the resource."""

    data: Buffer


@dataclass(frozen=True, slots=True)
class ToFrontend:
    """Send these bytes to the agent. What came from the resource is masked already."""

    data: Buffer


@dataclass(frozen=True, slots=True)
class Authenticate:
    """The agent presented a credential and asks for `resource`. Answer with `ready`, or with
    `challenge` and `refuse`.

    `settings` is what the parameters do beside that, when they do anything: it needs a verdict as
    every statement does."""

    credential: Credential = field(repr=False)
    resource: str
    parameters: Mapping[str, str]
    way: Way = "password"
    settings: Statement | None = None


@dataclass(frozen=True, slots=True)
class Execute:
    """The agent wants this statement executed. Answer with `resume`."""

    statement: Statement


@dataclass(frozen=True, slots=True)
class Finished:
    """The statement that was executed as number `number` (counted from 1 per session) has ended, with the
    message to the agent that begins at `place`: so many bytes after the login."""

    number: int
    outcome: Outcome
    place: int = 0


@dataclass(frozen=True, slots=True)
class Described:
    """What the rows of a statement are that the agent is sent from `place` on, when it is not told: the
    protocol's own description, masked. For whoever reads the record."""

    number: int
    place: int
    description: bytes


@dataclass(frozen=True, slots=True)
class Cancel:
    """This connection only asks to cancel what the session with `key` is running."""

    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Learn:
    """What comes from the resource cannot be masked before more is known of the resource. Run `errand` on a
    connection of the gateway's own, then call `learned`, whether it went well or not. Until then
    the codec keeps what comes."""

    errand: Errand


@dataclass(frozen=True, slots=True)
class Reach:
    """What the agent sent needs a connection to the resource, and the session has parted with its own. Answer
    with `reached`; until then the codec keeps what comes."""


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Send `reply`, then speak TLS; the codec goes on inside it."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The session is over; send what is queued, then close both sides."""

    reason: str


Action = (
    ToBackend
    | ToFrontend
    | Authenticate
    | Execute
    | Finished
    | Described
    | Cancel
    | Learn
    | Reach
    | StartTLS
    | Close
)


@dataclass(frozen=True, slots=True)
class Ways:
    """How agents may authenticate at a listener. `names` are in the order of precedence;
    `discovery` and `scope` tell a client that comes by OAuth where it gets its token."""

    names: tuple[Way, ...] = ("password",)
    discovery: str = ""
    scope: str = ""


PASSWORD_ONLY = Ways()


class Login(Protocol):
    """pangate's own login at a resource, before the session's bytes. Sans sockets as well."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """What the resource reports of itself."""

    @property
    def key(self) -> bytes:
        """The resource's cancel key."""

    @property
    def rest(self) -> bytes:
        """What came behind the login."""

    @property
    def done(self) -> bool:
        """Whether it is over."""

    def bind(self, binding: bytes) -> None:
        """Tell it the channel binding of the TLS connection, before `start`."""

    def start(self) -> bytes:
        """The first bytes."""

    def feed(self, data: Buffer) -> bytes:
        """Take bytes of the resource, give the answer; `done` says when it is over."""


class Resting(Protocol):
    """Listens to a connection that is nobody's. Raises ProtocolError or ResourceUnavailable when it cannot
    be anybody's any more."""

    @property
    def between_messages(self) -> bool:
        """Whether what came so far is whole."""

    def feed(self, data: Buffer) -> None:
        """Take bytes of the resource."""


class Knowledge(Protocol):
    """What a codec knows of a resource beside what its protocol says. The sessions on a resource share
    one."""

    def expire(self) -> None:
        """Learn everything again when it is needed."""


class Excerpt(Protocol):
    """What is recorded of what an agent is sent, when that is the first rows of each result."""

    def take(self, data: Buffer) -> list[tuple[bool, int, int]]:
        """The next bytes in pieces: whether it is recorded, where it ends in `data`, and how many rows begin
        in it that are not."""


@dataclass(frozen=True, slots=True)
class Table:
    """A result begins that has these columns."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a result as text, None for NULL."""

    cells: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """Text of a bulk transfer as it was sent."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """What else was said. `code` is that of an error or notice."""

    kind: Literal["done", "error", "notice", "notification", "parameter"]
    text: str
    code: str = ""


Reply = Table | Row | Lines | Said


class Transcript(Protocol):
    """Reads what an agent was sent. Raises ProtocolError for what is none of the protocol."""

    def described(self, place: int, description: bytes) -> None:
        """What the rows from `place` on are; see `Described`. Comes before these bytes do."""

    def cut(self, size: int, *, whole: bool) -> None:
        """So many bytes are missing here. Unless `whole`, they end within a message, and nothing behind them
        can be read."""

    def take(self, data: bytes) -> Iterator[tuple[int, Reply]]:
        """What the next bytes say, each with its place."""

    def table(self) -> Table:
        """The columns of the rows that come now."""


class Errand(Protocol):
    """What the gateway itself asks a resource, after a login of its own. Sans sockets as well; what it
    brings home goes to the knowledge that it was made for."""

    @property
    def done(self) -> bool:
        """Whether it is over."""

    @property
    def knowledge(self) -> Knowledge:
        """What it was made for."""

    @property
    def summary(self) -> Mapping[str, object]:
        """What is asked for, for the record."""

    def login(self, user: str, database: str, password: str, *, cleartext: bool) -> Login:
        """The login of the connection."""

    def start(self) -> bytes:
        """The first bytes after the login."""

    def feed(self, data: Buffer) -> None:
        """Take bytes of the resource; `done` says when it is over."""


class Estimate(Protocol):
    """What the gateway asks a resource about one statement, after a login of its own. Sans sockets."""

    @property
    def done(self) -> bool:
        """Whether it is over."""

    @property
    def rows(self) -> int | None:
        """How many rows are expected; None when the resource did not say."""

    def login(self, user: str, database: str, password: str, *, cleartext: bool) -> Login:
        """The login of the connection."""

    def start(self) -> bytes:
        """The first bytes after the login."""

    def feed(self, data: Buffer) -> None:
        """Take bytes of the resource; `done` says when it is over."""


class Count(Estimate, Protocol):
    """The same for how many rows there are."""

    @property
    def refusal(self) -> str:
        """Why the resource did not count them; empty when it did."""

    def take(self) -> bytes:
        """What is to be sent to the resource by now."""


class Codec(Protocol):
    """One connection's protocol machine."""

    key_bytes: int
    """Length of a cancel key."""

    in_preface: bool
    """Whether the agent may still ask for TLS."""

    full: bool
    """Whether what the agent sent waits for answers of the resource: read no more of it meanwhile."""

    tls_request: bytes
    """What asks a resource of this protocol for TLS; empty when TLS begins with the first byte."""

    tls_accepted: bytes
    """What the resource answers when it agrees."""

    certificate: Certificate | None
    """What the agent proved in TLS; set, if at all, before the first byte inside it."""

    def tls_started(self) -> None:
        """The connection speaks TLS from its first byte on."""

    def frontend(self, data: Buffer) -> list[Action]:
        """Take bytes from the agent."""

    def backend(self, data: Buffer) -> list[Action]:
        """Take bytes from the resource, after its login; mask what they carry."""

    def login(
        self,
        user: str,
        database: str,
        password: str,
        *,
        cleartext: bool,
        settings: Mapping[str, str] | None = None,
    ) -> Login:
        """The login for what the agent asked for, or with other `settings`. `cleartext` allows the
        password in clear."""

    def ready(
        self, parameters: Mapping[str, str], key: bytes, mask: str, knowledge: Knowledge
    ) -> list[Action]:
        """Go on after `Authenticate`: the resource is logged in. `parameters` are what it reported,
        `key` is the cancel key for the agent, `mask` the mask of the grant, `knowledge` what
        `open_knowledge` made for the resource. The first action is the greeting to the agent, and the
        only one that has the key in it."""

    def learned(self) -> list[Action]:
        """Go on after `Learn`, with what the resource sent meanwhile."""

    def resume(self, verdict: Verdict) -> list[Action]:
        """Go on after `Execute`: forward the statement, or answer with the protocol's own error. It may be
        called much later; what the agent sends meanwhile is kept, within bounds, and the answers
        to what was forwarded before go on."""

    @property
    def short_way(self) -> ShortWay:
        """The way of requests that came before but for their values."""

    # While a statement waits for `resume`:

    def exact(self) -> bytes:
        """All that the waiting statement is made of, but for names that a session chooses: two that are
        the same here do the same."""

    def estimate(self) -> Estimate | None:
        """What asks how many rows the waiting statement concerns; None when that cannot be asked without
        running anything."""

    def count(self, bound: int, seconds: float) -> Count:
        """What counts the rows that the waiting statement concerns, up to `bound` and for `seconds` at the
        most. Raises Refused with the reason why that cannot be."""

    def notice(self, text: str) -> bytes:
        """What tells the agent something without being an answer; empty where the protocol, or this
        moment, has no place for it."""

    @property
    def leaving(self) -> bool:
        """Whether the agent, behind the waiting statement, has said that it ends the session."""

    @property
    def in_transaction(self) -> bool:
        """Whether the waiting statement's session holds locks meanwhile, as far as is known by now."""

    def challenge(self, error: Refused) -> bytes:
        """After `Authenticate`: what the protocol wants said, and answered by the agent, before the
        refusal for `error`. Empty when it has no such thing; otherwise `frontend` raises `error`
        as soon as the answer is there."""

    def refuse(self, error: Refused | ProtocolError) -> bytes:
        """The protocol's own fatal error for `error`, ready to be sent to the agent."""

    @property
    def within_message(self) -> bool:
        """Whether the agent has the beginning of a message by now and not its end: nothing but the rest of
        it can be said to the agent."""

    def cancel_request(self, key: bytes) -> bytes:
        """What asks the resource to cancel what runs under `key`."""

    farewell: bytes
    """What ends a connection to a resource."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What the agent asked for that the resource keeps for the connection: two sessions with the same
        settings may use one connection after each other."""

    @property
    def at_rest(self) -> bool:
        """Whether the resource owes nothing, and was sent nothing that it waits for the rest of."""

    @property
    def reusable(self) -> bool:
        """Whether it is at rest, and what this session ran leaves nothing that `clean` cannot take away."""

    def clean(self, parameters: Mapping[str, str], key: bytes) -> Login:
        """What takes everything of this session away from its connection, at rest. `parameters` are what
        the resource reported, `key` is its cancel key."""

    def adopt(
        self,
        parameters: Mapping[str, str],
        key: bytes,
        settings: Mapping[str, str],
        *,
        look: bool = True,
    ) -> Login:
        """What makes a clean connection this session's, with further `settings`. Without these, and without
        `look`, the resource is not asked whether it is still there, and the login is done at once."""

    # One connection after another, for whoever called `lend`:

    away: bool
    """Whether the session has no connection: before `resume` comes `reached` then."""

    def lend(self) -> None:
        """Before `ready`: from then on the session may part with its connection whenever `lendable` says
        so."""

    def carry(self) -> object:
        """What is known of a connection that is new: what it keeps of sessions beyond their use of it. For
        `taken`, `renew` and `reached` of whichever session has it."""

    def taken(self, carried: object) -> None:
        """Before `ready`: the connection is the one with this."""

    @property
    def pinned(self) -> str:
        """What of its statements makes the session keep its connection to the end, since it may have left
        something there that does not end with a transaction; empty when nothing did."""

    @property
    def lendable(self) -> bool:
        """Whether the session leaves nothing on its connection that it could need again, and nothing is under
        way."""

    def part(self) -> None:
        """The session has no connection any more."""

    def renew(
        self,
        parameters: Mapping[str, str],
        key: bytes,
        settings: Mapping[str, str],
        carried: object,
        *,
        kin: bool,
    ) -> tuple[Login, object]:
        """What makes a connection that another session has parted with this one's, with further `settings`,
        and what it carries then. `kin` says that both are of one identity."""

    def unchanged(self, parameters: Mapping[str, str], key: bytes) -> Login:
        """The same for a connection that nobody else has had meanwhile."""

    def reached(self, carried: object, parameters: Mapping[str, str]) -> list[Action]:
        """There is a connection again, about which the resource reported `parameters`."""

    def resting(self, parameters: dict[str, str]) -> Resting:
        """Who listens to a connection that nobody has; `parameters` are kept up to date."""

    @property
    def received(self) -> tuple[int, int]:
        """Rows and bytes of rows that the agent was given since the session began."""


def open_knowledge(
    protocol: str, columns: Mapping[str, str], *, sensitive: bool = True
) -> Knowledge:
    """The knowledge of one resource of `protocol`, empty. `columns` says what to do with columns by their
    names ("wipe", "mask" or "leave"), `sensitive` whether those that are named as sensitive
    authentication data are wiped. MaskingError names an entry that cannot be used."""
    module = importlib.import_module(PROTOCOLS[protocol][0])
    knowledge: Knowledge = module.open_knowledge(columns, sensitive=sensitive)
    return knowledge


def open_excerpt(protocol: str, rows: int) -> Excerpt:
    """What takes the first `rows` rows of each result of `protocol`."""
    module = importlib.import_module(f"{PROTOCOLS[protocol][0]}.excerpt")
    excerpt: Excerpt = module.Excerpt(rows)
    return excerpt


def open_transcript(protocol: str, parameters: Mapping[str, str]) -> Transcript:
    """A reader of what an agent was sent. `parameters` are what the resource reported when it began."""
    module = importlib.import_module(f"{PROTOCOLS[protocol][0]}.transcript")
    transcript: Transcript = module.Transcript(parameters)
    return transcript


def open_codec(
    protocol: str,
    scanner: Scanner,
    *,
    tls: str,
    max_message: int,
    token_bytes: int,
    ways: Ways = PASSWORD_ONLY,
) -> Codec:
    """A codec for one connection of `protocol`. `tls` is "required", "offered" (plaintext is taken as
    well) or "none"; the bounds are in bytes. KeyError when the protocol is not known."""
    codec: Codec = _codec_of(protocol)(
        scanner, tls=tls, max_message=max_message, token_bytes=token_bytes, ways=ways
    )
    return codec


@cache
def _codec_of(protocol: str) -> Callable[..., Codec]:
    module, name = PROTOCOLS[protocol]
    found: Callable[..., Codec] = getattr(importlib.import_module(module), name)
    return found


PROTOCOLS: Mapping[str, tuple[str, str]] = {
    "postgresql": ("pangate.protocols.postgres", "PostgresCodec"),
}
"""Module and class of each protocol's codec: a new protocol is one file and one line."""
