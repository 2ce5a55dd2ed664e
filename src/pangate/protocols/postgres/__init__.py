"""The PostgreSQL codec: protocol 3.0 between an agent and a server, every result masked.

Two machines that share one queue. The frontend machine reads what the agent sends and notes in the
queue what the server will answer, in order; the backend machine walks the answers against the queue.
So it knows for every row which statement and which result description it belongs to, also when the
agent pipelines.

Four things are done in the protocol's own way rather than beside it:

* A refused statement is replaced by one that the server itself refuses, and the server's error by ours.
  So transactions abort, pipelines skip to the next Sync and `ReadyForQuery` is right, with no model of
  the transaction on our side.
* The description of a result is taken from the portal that runs, right before it runs: a Describe is put
  in where the agent sent none, and its answer left out. Nothing that an agent can rename,
  deallocate or prepare again in SQL can make a plan stale.
* A COPY carries no types. So what it sends is described by the server right before it: a Parse and
  Describe of the COPY's own query are put in front.
* A result that cannot be masked (a binary type that is not known) is replaced by an error; what the
  server still sends of it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from pangate import sql
from pangate._scan import Scanner
from pangate.errors import AuthenticationFailed, LimitReached, ProtocolError, Refused
from pangate.masking import KINDS
from pangate.model import Certificate, Credential, Part, Statement, Verdict, Way
from pangate.protocols import (
    PASSWORD_ONLY,
    Action,
    Authenticate,
    Buffer,
    Cancel,
    Close,
    Execute,
    Knowledge,
    Reach,
    StartTLS,
    ToBackend,
    ToFrontend,
    Ways,
)
from pangate.protocols.postgres import largeobjects, messages, renewal
from pangate.protocols.postgres.answers import SIMPLE
from pangate.protocols.postgres.binds import bind_values, bound_values
from pangate.protocols.postgres.catalog import Catalog
from pangate.protocols.postgres.catalog import open_catalog as open_knowledge
from pangate.protocols.postgres.conversation import (
    UNKNOWN,
    CopyPlan,
    Expected,
    Prepared,
    Running,
)
from pangate.protocols.postgres.counting import RowCount
from pangate.protocols.postgres.estimate import RowEstimate, can_be_explained
from pangate.protocols.postgres.lent import Lent
from pangate.protocols.postgres.login import BackendLogin
from pangate.protocols.postgres.messages import Reader, message
from pangate.protocols.postgres.oauth import OAuthBearer
from pangate.protocols.postgres.opening import NOT_OPENED, read_opening
from pangate.protocols.postgres.shown import as_shown
from pangate.protocols.postgres.ways import chosen
from pangate.sql import copy_out
from pangate.sql.counted import NotCountable, count_of

__all__ = ["PostgresCodec", "open_knowledge"]

NEWEST_MINOR = 2
"""3.2 is the newest protocol: PostgreSQL 18. There is no 3.1."""

OWN_NAME = "pangate: what a COPY sends"
"""Name of a prepared statement of our own."""

MAX_MEANINGS = 64
"""Different statements that one name of a prepared statement may have had."""

POISON = "PANGATE REFUSED A STATEMENT"
"""What the server gets in the place of a refused statement: a syntax error, whatever the state."""

MAX_GREETINGS = 64
"""Different sets of parameters of one server whose masked form is kept."""

_ENOUGH = 65_536
"""Bytes that wait behind a statement being decided before no more are asked for."""

_COPY_DATA = ord("d")
_LONGEST = (1 << 30) - 1
"""What the server takes of one message, in bytes."""


class PostgresCodec(Lent):
    """One connection. See `pangate.protocols` for the contract.

    `tls` says what TLS means here: "required" (nothing but SSLRequest before it), "offered" (plaintext
    is accepted as well), or "none"; `ways` how the agent may authenticate. `max_message` bounds what is
    kept of one message in either direction in bytes (a longer DataRow, and CopyData of the agent, pass
    in pieces), `max_pending` the answers that a pipelining agent may leave unread, `max_statements`
    the names it may give."""

    tls_request = messages.ssl_request()
    tls_accepted = b"S"
    farewell = messages.terminate()

    def __init__(
        self,
        scanner: Scanner,
        *,
        tls: str = "required",
        max_message: int = 16 * 1024 * 1024,
        max_pending: int = 10_000,
        max_statements: int = 10_000,
        token_bytes: int = 16_384,
        ways: Ways = PASSWORD_ONLY,
    ) -> None:
        super().__init__(scanner, max_message)
        self._tls = tls
        self._max_message = max_message
        self._max_pending = max_pending
        self._max_statements = max_statements
        self._token_bytes = token_bytes
        self._ways = ways
        self._oauth: OAuthBearer | None = None
        self.certificate: Certificate | None = None
        self._inbox = bytearray()
        self._state: Callable[[list[Action]], bool] = self._startup
        self._in_tls = False
        self._opening = NOT_OPENED
        self.key_bytes = 8
        self.in_preface = True
        """Whether the agent may still ask for TLS."""
        self.full = False
        self._described: bytes | None = None
        self._asked = 0  # how many answers were ever expected
        self._synced = 0  # which of them was the last that ends a sequence
        self._unsynced = False  # whether an extended sequence was begun and not ended
        self._ran = False  # whether that has executed something, whose locks are held up to Sync
        self._walked = 0  # how much of what waits was looked at for the end of the session
        self.leaving = False
        self._naming: dict[bytes, tuple[int, Expected]] = {}  # the last that gives or takes a name
        self._bound: dict[bytes, int] = {}  # how many answers were expected when a portal was bound
        self._waiting: tuple[str, bytes, Prepared | None, bytes, Statement] | None = None
        self._meanings: dict[str, tuple[Part, ...]] = {}
        """What a prepared statement of a name may run: everything that was ever prepared under it."""
        self._secretive: set[str] = set()
        """Names of prepared statements whose values are not kept."""
        self._skipping = False  # nothing counts up to Sync
        self._ending = False
        self._spoilt = False  # what was run may leave what no statement takes away
        self._parted = False  # the server was told that this is the end
        self._passing = 0  # bytes to come of a CopyData that is passed on as it comes

    # --- the agent's side -----------------------------------------------------------------------

    def frontend(self, data: Buffer) -> list[Action]:
        """Take bytes from the agent."""
        self._lane.idle = False
        if self._lane.pending is not None:
            self._replay()
            self._standing.candidate = None
        elif self._begun:
            if self._idle():
                self._note_request(bytes(data))
            else:
                self._standing.candidate = None
        self._inbox += data
        actions: list[Action] = []
        self._read(actions)
        return actions

    def _idle(self) -> bool:
        return not (
            self._queue
            or self._inbox
            or self._running
            or not self._begun
            or self._skipping
            or self._unsynced
            or self._copying
            or self._passing
            or self._learning
            or self._ending
            or self._waiting is not None
            or self._failed
            or self._walker.held
        )

    def backend(self, data: Buffer) -> list[Action]:
        """Take bytes from the server, after its login."""
        self._lane.idle = False
        if self._lane.pending is not None:
            self._replay()
        actions = super().backend(data)
        if self._passing and any(isinstance(action, ToBackend) for action in actions):
            # It would stand in the middle of that message, and the rest of it be read as messages.
            raise ProtocolError("the agent sent COPY data that the server did not ask for")
        if self._ending:
            self._end(actions)
        if self._learning:
            return actions  # Learn is the last one
        if self._standing.candidate is not None:
            self._note_answer(bytes(data))
        if self._state == self._command and self._inbox:
            self._read(actions)  # a Bind may have waited for one of these answers
        return actions

    def _read(self, actions: list[Action]) -> None:
        self.full = False
        while self._state(actions):
            pass

    def _go_on(self, actions: list[Action]) -> None:
        self._state = self._command
        self._read(actions)

    def _stop(self, actions: list[Action]) -> bool:
        # waiting for `ready` or `resume`; what comes meanwhile is kept, within its bound
        if len(self._inbox) > self._max_message + 5:
            raise LimitReached(
                f"more than {self._max_message} bytes wait behind a statement "
                "(limits.max_message_bytes)"
            )
        self.full = len(self._inbox) > _ENOUGH
        if self._waiting:
            self._look_ahead()
        return False

    def _startup(self, actions: list[Action]) -> bool:
        if len(self._inbox) < 8:
            return False
        length = int.from_bytes(self._inbox[:4], "big")
        code = int.from_bytes(self._inbox[4:8], "big")
        if not 8 <= length <= messages.STARTUP_MAX:
            raise ProtocolError("these bytes are not a PostgreSQL startup packet")
        if len(self._inbox) < length:
            return False
        body = bytes(self._inbox[8:length])
        del self._inbox[:length]
        if code in (messages.SSL_REQUEST, messages.GSSENC_REQUEST):
            return self._encryption(code, body, actions)
        self.in_preface = False
        if code == messages.CANCEL_REQUEST:
            if not 4 < len(body) <= 260:
                raise ProtocolError("a cancel request has a key of a wrong length")
            self._state = self._stop
            actions.append(Cancel(body))
            return False
        if code >> 16 != 3:
            raise ProtocolError(
                f"protocol {code >> 16}.{code & 0xFFFF} is not spoken here; use protocol 3.0 or 3.2"
            )
        if self._tls == "required" and not self._in_tls:
            raise Refused("this gateway takes identity tokens inside TLS only; set sslmode=require")
        self._opening = opened = read_opening(body)
        parameters, unknown = opened.parameters, opened.unknown
        minor = code & 0xFFFF
        if minor > NEWEST_MINOR or unknown or (0 < minor < NEWEST_MINOR):
            minor = NEWEST_MINOR if minor >= NEWEST_MINOR else 0
            actions.append(ToFrontend(_negotiate(minor, unknown)))
        # From 3.2 on a cancel key may be longer, and be no guess for anybody.
        self.key_bytes = 36 if minor >= 2 else 8
        if parameters.get("replication", "false").lower() not in ("false", "off", "no", "0"):
            raise Refused("replication connections are not passed through this gateway")
        if not parameters.get("user"):
            raise Refused("the startup packet names no user; set a user name")
        way = chosen(parameters, self._ways.names, certificate=self.certificate is not None)
        match way:
            case "password":
                self._state = self._password
                actions.append(ToFrontend(message(b"R", (3).to_bytes(4, "big"))))
            case "oauth":
                self._oauth = OAuthBearer(self._ways)
                self._state = self._sasl
                actions.append(ToFrontend(self._oauth.request()))
            case "certificate":
                self._authenticate(self.certificate or Certificate(b""), way, actions)
                return False
        return True

    def _encryption(self, code: int, body: bytes, actions: list[Action]) -> bool:
        if body or not self.in_preface or self._in_tls:
            raise ProtocolError("an encryption request came where none is allowed")
        if code == messages.SSL_REQUEST and self._tls != "none":
            if self._inbox:
                # What came before TLS is not what the agent said inside it (CVE-2021-23222).
                raise ProtocolError("bytes came between SSLRequest and TLS")
            self._in_tls = True
            self.in_preface = False
            actions.append(StartTLS(b"S"))
            return False
        actions.append(ToFrontend(b"N"))
        return True

    def tls_started(self) -> None:
        """The connection spoke TLS from its first byte (sslnegotiation=direct)."""
        self._in_tls = True
        self.in_preface = False

    def _secret_message(self, more: int) -> bytes | None:
        """The body of the message that carries the token, which may have `more` bytes around it; None
        while it is not whole."""
        if len(self._inbox) < 5:
            return None
        length = int.from_bytes(self._inbox[1:5], "big")
        if self._inbox[0] != 0x70 or length < 5:
            raise ProtocolError("the agent did not answer the request for a password")
        if length > self._token_bytes + more + 4:
            raise LimitReached(
                f"the token is longer than {self._token_bytes} bytes (limits.token_bytes)"
            )
        if len(self._inbox) < length + 1:
            return None
        body = bytes(self._inbox[5 : length + 1])
        del self._inbox[: length + 1]
        return body

    def _password(self, actions: list[Action]) -> bool:
        body = self._secret_message(1)
        if body is None:
            return False
        if body.find(b"\0") != len(body) - 1:
            raise ProtocolError("the password message is malformed")
        self._authenticate(body[:-1].decode("utf-8", "replace"), "password", actions)
        return False

    def _sasl(self, actions: list[Action]) -> bool:
        assert self._oauth is not None
        body = self._secret_message(OAuthBearer.MORE)
        if body is None:
            return False
        reply, token = self._oauth.answer(body)
        if reply:
            actions.append(ToFrontend(reply))
        if token is not None:
            self._authenticate(token, "oauth", actions)
        return token is None

    def _authenticate(self, credential: Credential, way: Way, actions: list[Action]) -> None:
        self._state = self._stop
        parameters = self._opening.kept
        resource = parameters.get("database") or parameters["user"]
        ask = Authenticate(credential, resource, parameters, way, self._opening.statement)
        actions.append(ask)

    def challenge(self, error: Refused) -> bytes:
        """With OAUTHBEARER a token that fails is answered in the mechanism's own way first."""
        if self._oauth is None:
            return b""
        self._state = self._sasl
        return self._oauth.reject(error)

    def login(
        self,
        user: str,
        database: str,
        password: str,
        *,
        cleartext: bool,
        settings: Mapping[str, str] | None = None,
    ) -> BackendLogin:
        """The login at the server, with the agent's own settings but not its names."""
        asked = self.settings if settings is None else settings
        return BackendLogin(user, database, password, cleartext=cleartext, parameters=asked)

    @property
    def settings(self) -> Mapping[str, str]:
        """The startup parameters that are settings."""
        return self._opening.settings

    @property
    def at_rest(self) -> bool:
        """Whether the server has answered everything and waits for a command."""
        return not (
            self._queue
            or self._lane.pending
            or self._unsynced
            or self._copying
            or self._passing
            or self._learning
            or self._parted
            or self._walker.within_message
        )

    @property
    def reusable(self) -> bool:
        """Whether the connection can be made as new."""
        return self.at_rest and not self._spoilt

    def clean(self, parameters: Mapping[str, str], key: bytes) -> renewal.Renewal:
        """Roll back, and discard all."""
        return renewal.clean(parameters, key, in_transaction=self._standing.status != b"I")

    def adopt(
        self,
        parameters: Mapping[str, str],
        key: bytes,
        settings: Mapping[str, str],
        *,
        look: bool = True,
    ) -> renewal.Renewal:
        """Set `settings`."""
        return renewal.adopt(parameters, key, settings, look=look)

    def resting(self, parameters: dict[str, str]) -> renewal.Resting:
        """Who takes notices and parameters."""
        return renewal.Resting(parameters)

    @property
    def within_message(self) -> bool:
        """Whether what the agent was given ends in the middle of a row."""
        return self._walker.within_message

    def cancel_request(self, key: bytes) -> bytes:
        """CancelRequest."""
        return messages.cancel_request(key)

    @property
    def received(self) -> tuple[int, int]:
        """Rows and bytes of rows since the session began."""
        return self._walker.all_rows, self._walker.all_bytes

    def ready(
        self, parameters: Mapping[str, str], key: bytes, mask: str, knowledge: Knowledge
    ) -> list[Action]:
        """Go on after `Authenticate`."""
        if not isinstance(knowledge, Catalog):
            raise TypeError(f"a PostgreSQL codec needs a Catalog, not {type(knowledge).__name__}")
        self._catalog = knowledge
        self._walker.kind = KINDS[mask]
        self._walker.names = knowledge.rules.names
        self._encoding = parameters.get("client_encoding", "UTF8")
        self._check_encoding(self._encoding)
        self._check_strings(parameters.get("standard_conforming_strings", "on"))
        of = (mask, *parameters.items())
        greeting = knowledge.greetings.get(of)
        if greeting is None:
            greeting = self._greeting(parameters)
            if len(knowledge.greetings) < MAX_GREETINGS:
                knowledge.greetings[of] = greeting
        ready = message(b"K", key) + message(b"Z", b"I")
        actions: list[Action] = [ToFrontend(greeting + ready)]
        self._state = self._command
        if self._names is None:
            self._begun = True
            self._lane.begin(knowledge, knowledge.requests.setdefault(mask, {}))
        self._report(parameters)
        self._read(actions)
        return actions

    def _greeting(self, parameters: Mapping[str, str]) -> bytes:
        greeting = message(b"R", (0).to_bytes(4, "big"))
        for name, value in parameters.items():
            masked = bytearray(messages.text(name) + messages.text(value))
            self._walker.mask_text(masked)
            greeting += message(b"S", bytes(masked))
        return greeting

    def _command(self, actions: list[Action]) -> bool:
        inbox = self._inbox
        if len(inbox) < 5:
            return False
        length = int.from_bytes(inbox[1:5], "big")
        if length < 4 or length > self._max_message:
            if inbox[0] == _COPY_DATA and 4 <= length <= _LONGEST:
                self._passing = length + 1
                self._state = self._pass_on
                return True
            if inbox[0] in _FRONTEND and length >= 4:
                raise LimitReached(
                    f"a message of {length} bytes is longer than limits.max_message_bytes "
                    f"({self._max_message})"
                )
            raise ProtocolError("a message has a wrong length")
        if inbox[0] not in _FRONTEND:
            raise ProtocolError(f"message type {bytes(inbox[:1])!r} is not known")
        if len(inbox) < length + 1:
            return False
        raw = bytes(inbox[: length + 1])
        # So many answers of five bytes and more are past any buffer of the server: some are on their way.
        self.full = len(self._queue) >= self._max_pending
        if self.full and self._failed and all(ahead.kind not in "Ss" for ahead in self._queue):
            self._skipping = True  # or none is: the server skips to a Sync that it was not sent yet
            self.full = False
        if self._skipping and raw[0] not in b"SX":
            # As the server does after an error in an extended sequence: nothing counts up to Sync.
            del inbox[: length + 1]
            return True
        if self.full:
            return False
        if self.away and raw[0] not in b"QPBFX":
            if raw[0] in b"Hdcf":
                del inbox[: length + 1]  # they say nothing to a server that does nothing
                return True
            self._state = self._stop
            actions.append(Reach())
            return False
        handled = _FRONTEND[raw[0]](self, raw, actions)
        if handled is None:  # it waits for an answer that is on its way
            if self._failed and all(ahead.kind not in "Ss" for ahead in self._queue):
                self._skipping = (
                    True  # which never comes: the server skips to a Sync, and this with it
                )
                del inbox[: length + 1]
                return True
            self.full = True
            return False
        del inbox[: length + 1]
        return handled

    def _pass_on(self, actions: list[Action]) -> bool:
        """A CopyData longer than may be kept: it is data to the server, and no decision hangs on it."""
        have = min(self._passing, len(self._inbox))
        if (
            have and not self._skipping and not self.away
        ):  # away, there is no COPY that it belongs to
            actions.append(ToBackend(bytes(self._inbox[:have])))
        del self._inbox[:have]
        self._passing -= have
        if self._passing:
            return False
        self._state = self._command
        return True

    def _on_query(self, raw: bytes, actions: list[Action]) -> bool | None:
        reader = Reader(raw[5:], "frontend")
        text = reader.cstring().decode("utf-8", "backslashreplace")
        reader.done()
        if self._in_sql_in_doubt(text):
            return None
        refusal = ""
        if self._unsynced and _copy_plan(text):
            # What is asked in front of it ends with a Sync of ours, and the server may be skipping to one.
            refusal = (
                "COPY by a Query is not passed behind an extended sequence without its Sync; "
                "send Sync first"
            )
        return self._ask("Q", raw, Statement("query", text, refusal=refusal), None, actions)

    def _on_parse(self, raw: bytes, actions: list[Action]) -> bool | None:
        reader = Reader(raw[5:], "frontend")
        name = reader.cstring()
        text = reader.cstring().decode("utf-8", "backslashreplace")
        types = reader.uint32s(reader.int16())
        reader.done()
        if self._names is not None and name and self.lookup(name) is None:
            return None  # whether that name is taken decides what is sent
        if len(self._prepared) >= self._max_statements and name not in self._prepared:
            raise LimitReached(f"more than {self._max_statements} prepared statements are open")
        prepared = Prepared(text, types)
        if self._names is not None:
            prepared.wire = raw[6 + len(name) :]
            prepared.digest = self._names.digest(prepared.wire)
        statement = Statement("parse", text, name=name.decode("utf-8", "replace"), runs=False)
        return self._ask("P", raw, statement, prepared, actions, name)

    def _on_bind(self, raw: bytes, actions: list[Action]) -> bool | None:
        reader = Reader(raw[5:], "frontend")
        portal, name = reader.cstring(), reader.cstring()
        known = self.lookup(name)
        if known is None or self._in_sql_in_doubt(known.text):
            return None
        values = bind_values(reader, known.types)
        refusal = ""
        if known is UNKNOWN:
            # Prepared in SQL, or not at all: which text would run is not known here.
            refusal = (
                f"prepared statement {name.decode('utf-8', 'replace')!r} is not known to this gateway; "
                "prepare it through the protocol, or use SQL EXECUTE for what SQL PREPARE made"
            )
        statement = Statement(
            "bind", known.text, values, name.decode("utf-8", "replace"), refusal=refusal
        )
        return self._ask("B", raw, statement, known, actions, portal, doubtful=known.doubtful)

    def lookup(self, name: bytes) -> Prepared | None:
        """What `name` means when the server comes to the message that is read now: UNKNOWN when nothing,
        None when an answer that is still on its way decides."""
        number, expected = self._naming.get(name, (0, None))
        if expected is None or number <= self._asked - len(self._queue):  # it is answered
            return self._prepared.get(name, UNKNOWN)
        if self._synced > number or expected.kind == "Q":
            # When that Parse fails, the server skips to Sync: before it this Bind is skipped with it,
            # behind it the name means what it meant before.
            return None
        return expected.prepared or UNKNOWN

    def _ask(
        self,
        kind: str,
        raw: bytes,
        statement: Statement,
        prepared: Prepared | None,
        actions: list[Action],
        name: bytes = b"",
        *,
        doubtful: bool = False,
    ) -> bool:
        if not statement.refusal:
            understood = sql.understand(statement.text)
            refusal = self._names.refuses(understood.parts) if self._names is not None else ""
            meaning = sql.resolve(understood, self._meanings)
            statement = replace(statement, meaning=meaning, refusal=refusal)
        unknown = doubtful or (kind == "B" and bool(statement.refusal))
        statement = as_shown(statement, self._catalog, self._secretive, doubtful=unknown)
        if self._standing.candidate is not None:
            self._standing.candidate.statements.append(statement)
        self._standing.numbers += 1
        self._deciding = self._standing.numbers
        self._waiting = (kind, raw, prepared, name, statement)
        self._running[self._standing.numbers] = Running(
            self._standing.numbers,
            statement.text,
            values=statement.parameters,
            doubtful=doubtful,
            secret=statement.shown is not None,
        )
        self._state = self._stop
        actions.append(Execute(statement))
        return False

    def resume(self, verdict: Verdict) -> list[Action]:
        """Go on after `Execute`: forward it, or let it fail as the server would."""
        if self._waiting is None:
            raise RuntimeError("resume() without an Execute action")
        kind, raw, prepared, name, statement = self._waiting
        self._waiting = None
        self._walked = 0
        self.leaving = False
        actions: list[Action] = []
        number, self._deciding = self._deciding, 0
        if verdict.action == "allow":
            self._spoilt = self._spoilt or renewal.spoils(statement)
            running = self._running[number]
            self._note_names(statement)
            placed = None
            if self._names is not None:
                raw, placed = self._names.send(kind, raw, number, statement, prepared, actions)
            if kind == "P":
                self.expect(Expected("P", number, name, prepared, placed=placed))
            elif kind == "B":
                self._portals[name] = number
                self._bound[name] = self._asked
                self._described = None
                self.expect(Expected("B", number, name))
            elif kind == "E":
                self._run_portal(raw, name, number, actions)
            elif kind == "F":
                self.expect(Expected("F", number, call=self._reads.call(raw)))
            else:
                self._described = None
                running.copy = _copy_plan(running.text)
                if running.copy:
                    self._describe_copy(running.copy.out.select, number, actions)
                self.expect(Expected("Q", number))
                self._note_deallocated(statement.text)
            if kind != "E":
                actions.append(ToBackend(raw))
        else:
            self._poison(kind, name, number, verdict, actions)
        self._state = self._command
        self._read(actions)
        return actions

    # --- while a statement waits ----------------------------------------------------------------

    def exact(self) -> bytes:
        """The message; of a Bind what stands behind its names, with what the types of its values are."""
        kind, raw, _, _, statement = self._held()
        if kind != "B":
            return raw
        reader = Reader(raw[5:], "frontend")
        reader.cstring()
        known = self.lookup(reader.cstring()) or UNKNOWN
        return repr((statement.text, known.types)).encode("utf-8", "surrogatepass") + reader.rest()

    def estimate(self) -> RowEstimate | None:
        """EXPLAIN of a query or a Bind, where nothing but the server's own functions would be evaluated
        for it."""
        kind, raw, _, _, statement = self._held()
        if kind not in "QB" or not can_be_explained(statement.meaning):
            return None
        if kind == "Q":
            return RowEstimate(statement.text)
        reader = Reader(raw[5:], "frontend")
        reader.cstring()
        known = self.lookup(reader.cstring()) or UNKNOWN
        return RowEstimate(statement.text, known.types, bound_values(reader))

    def count(self, bound: int, seconds: float) -> RowCount:
        """As the estimate, where the statement can be turned into one that counts."""
        kind, raw, _, _, statement = self._held()
        if kind not in "QB":
            raise Refused("only what is sent as a query, or is bound, can be counted")
        try:
            text = count_of(statement.text, bound)
        except NotCountable as wrong:
            raise Refused(str(wrong)) from None
        types: tuple[int, ...] = ()
        values = b"\0\0\0\0"
        if kind == "B":
            reader = Reader(raw[5:], "frontend")
            reader.cstring()
            types = (self.lookup(reader.cstring()) or UNKNOWN).types
            values = bound_values(reader)
            sent = int.from_bytes(values[2 + 2 * int.from_bytes(values[:2], "big") :][:2], "big")
            # those that the agent left to the server to find out
            types += (0,) * (sent - len(types))
        return RowCount(text, statement.text, types, values, seconds)

    def _held(self) -> tuple[str, bytes, Prepared | None, bytes, Statement]:
        if self._waiting is None:
            raise RuntimeError("no statement waits")
        return self._waiting

    def notice(self, text: str) -> bytes:
        """NoticeResponse, which may come at any time that is not the middle of a message."""
        return b"" if self.within_message else messages.notice(self._said(text))

    @property
    def in_transaction(self) -> bool:
        """As the last ReadyForQuery said, or within an extended sequence that has executed something."""
        return self._standing.status != b"I" or self._ran

    def _look_ahead(self) -> None:
        """See whether a Terminate waits behind the statement."""
        inbox = self._inbox
        while not self.leaving and len(inbox) - self._walked >= 5:
            at = self._walked
            self.leaving = inbox[at : at + 1] == b"X"
            length = int.from_bytes(inbox[at + 1 : at + 5], "big")
            if length < 4 or at + 1 + length > len(inbox):
                return
            self._walked = at + 1 + length

    def _note_names(self, statement: Statement) -> None:
        """Remember what a name given to a prepared statement may stand for, for an SQL EXECUTE of it.
        Whether the server took the name, and took an earlier one back, is not asked: what EXECUTE
        needs is what any of them needs."""
        for part in statement.meaning.parts if statement.meaning else ():
            name = part.prepares or (statement.name if statement.kind == "parse" else "")
            known = self._meanings.get(name, ())
            if name and part not in known:
                if len(self._meanings) >= self._max_statements or len(known) >= MAX_MEANINGS:
                    self._meanings.clear()  # from now on EXECUTE of what is forgotten needs everything
                    self._secretive.clear()
                    known = ()
                self._meanings[name] = (*known, part)
            if name and statement.shown is not None:
                self._secretive.add(name)

    def _poison(
        self, kind: str, name: bytes, number: int, verdict: Verdict, actions: list[Action]
    ) -> None:
        self._described = None
        if self._names is not None:
            self._names.refused()
            if kind == "P" and not name:
                self._on_unnamed_gone()
        sqlstate = messages.SQLSTATE.get(verdict.code, "42501")
        error = messages.error(sqlstate, self._said(verdict.reason))
        if kind in "QF":
            self.expect(Expected("Q", number, error=error, sqlstate=sqlstate))
            actions.append(ToBackend(messages.query(POISON)))
        else:
            self.expect(Expected("X", number, error=error, sqlstate=sqlstate))
            actions.append(ToBackend(messages.parse("", POISON)))
            self._skipping = True

    def _describe_copy(
        self, select: str, number: int, actions: list[Action], *, extended: bool = False
    ) -> None:
        """Have the server describe what a COPY will send, right before it."""
        if extended:
            # The unnamed statement is the agent's.
            self.expect(Expected("c"))
            actions.append(ToBackend(messages.close_statement(OWN_NAME)))
            name, tag = OWN_NAME, b""
        else:
            name, tag = "", SIMPLE  # a Query takes the unnamed statement away in any case
        self.expect(Expected("p", name=tag))
        self.expect(Expected("y", number, name=tag))
        actions.append(ToBackend(messages.parse(name, select) + messages.describe_statement(name)))
        if extended:
            self.expect(Expected("c"))
            actions.append(ToBackend(messages.close_statement(OWN_NAME)))
        else:
            self.expect(Expected("s"))
            actions.append(ToBackend(messages.sync()))

    def expect(self, expected: Expected) -> None:
        """It is noted in the queue, and where it counts for what comes behind it."""
        if not self._queue:
            self._naming.clear()
        self._queue.append(expected)
        self._asked += 1
        if expected.kind in "Ss":
            self._unsynced = self._ran = False
            self.sequence += 1
        elif expected.kind not in "QF":
            self._unsynced = True
            self._ran |= expected.kind == "E"
        if expected.kind in "SQ":
            self._synced = self._asked
        elif expected.kind == "P":
            self._naming[expected.name] = self._asked, expected
        elif expected.kind == "C" and expected.name[:1] == b"S":
            self._naming[expected.name[1:]] = self._asked, expected
        if expected.kind == "Q" and self._names is not None:
            self._naming[b""] = self._asked, expected  # it takes that one away

    def _in_doubt(self, portal: bytes) -> bool:
        """Whether an answer that is still on its way decides if there is such a portal: it ends with the
        transaction. During a COPY the server answers no such message."""
        if portal not in self._portals or self._copying:
            return False
        behind = len(self._queue) - (self._asked - self._bound.get(portal, 0))
        return any(ahead.kind in "SQF" for ahead in islice(self._queue, max(behind, 0), None))

    def _on_describe(self, raw: bytes, actions: list[Action]) -> bool | None:
        what, name = self._named(raw)
        if what == "P" and self._in_doubt(name):
            return None
        if what == "S" and self._names is not None:
            renamed = self._names.describe(raw, name, actions)
            if renamed is None:
                return None
            raw = renamed
        self._described = name if what == "P" else None
        portal = self._portals.get(name, 0) if what == "P" else 0
        self.expect(Expected("D", 0, name, describes=what, portal=portal))
        actions.append(ToBackend(raw))
        return True

    def _on_execute(self, raw: bytes, actions: list[Action]) -> bool | None:
        reader = Reader(raw[5:], "frontend")
        portal = reader.cstring()
        reader.int32()
        reader.done()
        if self._in_doubt(portal):
            return None
        if portal in self._portals:
            self._run_portal(raw, portal, self._portals[portal], actions)
            return True
        # a cursor that SQL declared: fetching from it is a command of its own
        name = portal.decode("utf-8", "replace")
        statement = Statement("execute", f"fetch from {sql.quoted(name)}", name=name)
        return self._ask("E", raw, statement, None, actions, portal)

    def _run_portal(self, raw: bytes, portal: bytes, number: int, actions: list[Action]) -> None:
        if self._described != portal:
            self.expect(Expected("d", 0, portal, describes="P", portal=number))
            actions.append(ToBackend(messages.describe_portal(portal)))
        self._described = None
        running = self._running.get(number)
        if running and running.copy is None and (copy := _copy_plan(running.text)):
            running.copy = copy
            self._describe_copy(copy.out.select, number, actions, extended=True)
        self.expect(Expected("E", number, portal))
        if running:
            self._note_deallocated(running.text)
        actions.append(ToBackend(raw))

    def _on_close(self, raw: bytes, actions: list[Action]) -> bool | None:
        what, name = self._named(raw)
        if what == "P" and self._in_doubt(name):
            return None
        self._described = None
        # It is gone for whatever comes behind this: when the server skips a Close, it skips that as well. Its
        # answer is not waited for, since the server keeps it back until Sync.
        closes = self._portals.pop(name, 0) if what == "P" else 0
        if what == "S" and self._names is not None:
            raw = self._names.close(raw, name)
        self.expect(Expected("C", 0, what.encode() + name, closes=closes))
        actions.append(ToBackend(raw))
        return True

    def _named(self, raw: bytes) -> tuple[str, bytes]:
        reader = Reader(raw[5:], "frontend")
        what = reader.take(1)
        name = reader.cstring()
        reader.done()
        if what not in (b"S", b"P"):
            raise ProtocolError("a message names neither a statement nor a portal")
        return what.decode(), name

    def _on_sync(self, raw: bytes, actions: list[Action]) -> bool:
        self._described = None
        self._skipping = False
        if not self._copying:  # during a COPY the server ignores it
            self.expect(Expected("S"))
        actions.append(ToBackend(raw))
        return True

    def _on_copy_end(self, raw: bytes, actions: list[Action]) -> bool:
        if self._copying:
            self._copying = False
        elif self._queue:
            self.expect(Expected("m"))
        actions.append(ToBackend(raw))
        return True

    def _on_plain(self, raw: bytes, actions: list[Action]) -> bool:
        # Flush and CopyData: no answer of their own
        actions.append(ToBackend(raw))
        return True

    def _on_call(self, raw: bytes, actions: list[Action]) -> bool:
        return self._ask("F", raw, largeobjects.statement(raw), None, actions)

    def _on_terminate(self, raw: bytes, actions: list[Action]) -> bool:
        if not self.at_rest:
            actions.append(ToBackend(raw))
            self._parted = True
        # Otherwise it is not passed on: the connection may have another owner, or whoever closes it says it.
        self._state = self._stop
        self._ending = True
        self._end(actions)
        return False

    def _end(self, actions: list[Action]) -> None:
        # the server comes to Terminate when it has answered all that was before it
        if not self._queue:
            actions.append(Close("the agent ended the session"))

    def refuse(self, error: Refused | ProtocolError) -> bytes:
        """ErrorResponse, fatal."""
        if self._oauth is not None and isinstance(error, AuthenticationFailed):
            return self._oauth.refusal(error)
        if isinstance(error, ProtocolError):
            said = self._said(f"protocol violation: {error}")
            return messages.error("08P01", said, severity="FATAL")
        return messages.refusal(error, self._said(error.reason))

    def _said(self, text: str) -> str:
        """What the gateway itself says. It may quote the agent, and in it a name that is a card number."""
        shown = bytearray(text.encode("utf-8", "replace"))
        self._walker.mask_text(shown)
        return shown.decode("utf-8", "replace")


def _negotiate(minor: int, unknown: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion: 3.`minor` is what we speak, and these options are not known."""
    body = (messages.PROTOCOL_3_0 + minor).to_bytes(4, "big") + len(unknown).to_bytes(4, "big")
    return message(b"v", body + b"".join(messages.text(name) for name in unknown))


def _copy_plan(text: str) -> CopyPlan | None:
    if "copy" not in text.lower():
        return None
    out = copy_out(text)
    return CopyPlan(out) if out else None


_Handler = Callable[[PostgresCodec, bytes, list[Action]], "bool | None"]


_FRONTEND: Mapping[int, _Handler] = {
    ord("Q"): PostgresCodec._on_query,
    ord("P"): PostgresCodec._on_parse,
    ord("B"): PostgresCodec._on_bind,
    ord("D"): PostgresCodec._on_describe,
    ord("E"): PostgresCodec._on_execute,
    ord("C"): PostgresCodec._on_close,
    ord("S"): PostgresCodec._on_sync,
    ord("H"): PostgresCodec._on_plain,
    ord("d"): PostgresCodec._on_plain,
    ord("c"): PostgresCodec._on_copy_end,
    ord("f"): PostgresCodec._on_copy_end,
    ord("F"): PostgresCodec._on_call,
    ord("X"): PostgresCodec._on_terminate,
}
