"""What stands between two owners of one connection to a PostgreSQL server: the statements that take away
everything of the one before, and those that set what belongs to the next.

After https://www.postgresql.org/docs/current/sql-discard.html and what that page leaves out."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence

from pangate.errors import ProtocolError, ResourceUnavailable
from pangate.model import Effect, Statement
from pangate.protocols.postgres import messages
from pangate.protocols.postgres.login import LOGIN_MESSAGE_MAX
from pangate.protocols.postgres.messages import Reader

LASTING: frozenset[Effect] = frozenset({"code", "file", "admin"})
"""Effects that can leave something behind which no statement takes away: what a procedural language keeps
in memory, a library that was loaded, a connection of dblink."""

_NO_DOT = re.compile(r"(?:(?!u&)[^.\\])*", re.IGNORECASE | re.DOTALL)
"""A text without a dot, and without an escape that could be one."""

_SILENT = frozenset(b"CTDIN123ntA")
"""Messages that a server may send in between and that say nothing about whether it is clean."""


def spoils(statement: Statement) -> bool:
    """Whether a connection that ran `statement` must not have another owner.

    It is so when the statement, or a function that is not the server's own, could leave what `clean`
    cannot take away; and when it may name a setting of its own (`my.name`): its value would be gone,
    but not that it was there."""
    meaning = statement.meaning
    if meaning is None or meaning.calls or meaning.effects & LASTING:
        return True
    return "session" in meaning.effects and not _NO_DOT.fullmatch(statement.text)


def clean(parameters: Mapping[str, str], key: bytes, *, in_transaction: bool) -> Renewal:
    """Take away what the last owner left: its transaction, settings, role, prepared statements, cursors,
    temporary tables, listens, advisory locks, sequence values and the state of random()."""
    queries = ["ROLLBACK"] if in_transaction else []
    return Renewal([*queries, *_everything()], parameters, key)


def _everything() -> list[str]:
    # DISCARD ALL has to stand alone; each query is an answer more to wait for
    return ["DISCARD ALL", f"RESET ROLE; {_seed()}"]


def _seed() -> str:
    chance = int.from_bytes(secrets.token_bytes(7), "big") >> 3
    return f"SELECT pg_catalog.setseed({chance / (1 << 53)!r})"


ALL_BUT_STATEMENTS = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; "
    "SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; "
)
"""What DISCARD ALL does, but for prepared statements and their plans."""


def renew(
    parameters: Mapping[str, str], key: bytes, settings: Mapping[str, str], *, statements: bool
) -> Renewal:
    """Between two sessions of which none left a transaction, or anything that it needs again: take away what
    the last one may have left all the same, with `statements` all but prepared statements, and set what
    belongs to the next."""
    own = [_set(name, value) for name, value in settings.items()]
    queries = [ALL_BUT_STATEMENTS + _seed()] if statements else _everything()
    return Renewal([*queries, *own], parameters, key)


def nothing(parameters: Mapping[str, str], key: bytes) -> Renewal:
    """Between a session and itself."""
    return Renewal([], parameters, key)


def adopt(
    parameters: Mapping[str, str], key: bytes, settings: Mapping[str, str], *, look: bool
) -> Renewal:
    """See that the server is there, if that has to be looked at, and set what belongs to the next owner."""
    queries = [_set(name, value) for name, value in settings.items()]
    return Renewal(queries or ([""] if look else []), parameters, key)


class Renewal:
    """Queries that are sent at once, and the answers to all of them. A `Login` to who drives it.

    Raises ResourceUnavailable when one of them fails, ProtocolError when the server says what does not
    belong there: such a connection has no next owner."""

    def __init__(self, queries: Sequence[str], parameters: Mapping[str, str], key: bytes) -> None:
        self._queries = queries
        self._open = len(queries)
        self._told = False
        """Whether the server said that a parameter changed."""
        self._buffer = bytearray()
        self.parameters = dict(parameters)
        self.key = key
        self.rest = b""
        self.done = not queries

    def bind(self, binding: bytes) -> None:
        """The connection is authenticated already."""

    def start(self) -> bytes:
        """All queries."""
        return b"".join(map(messages.query, self._queries))

    def feed(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take bytes of the server. There is nothing to answer."""
        whole = None
        if not self._buffer and not self.done and self._open == len(self._queries):
            whole = len(self._queries), bytes(data)
            if whole in _right:
                self._open, self.done = 0, True
                return b""
        self._buffer += data
        while found := messages.take_message(self._buffer, LOGIN_MESSAGE_MAX):
            self._message(*found)
        if self.done and self._buffer:
            raise ProtocolError("the backend said more than was asked for", "backend")
        if whole is not None and self.done and not self._told:
            _remember(whole)
        return b""

    def _message(self, code: int, body: bytes) -> None:
        if code == ord("E"):
            raise ResourceUnavailable(
                "the backend could not prepare a connection for its next owner"
            )
        if code == ord("S"):
            self._told = True
            note_parameter(self.parameters, body)
        elif code == ord("Z") and not self.done:
            if body not in (b"I", b"E", b"T"):
                raise ProtocolError("the backend is in a state that is not known", "backend")
            self._open -= 1
            self.done = not self._open
            if self.done and body != b"I":
                raise ResourceUnavailable("the backend did not end its transaction")
        elif code not in _SILENT:
            raise ProtocolError(f"the backend sent {chr(code)!r}, unasked", "backend")


MOST_ANSWERS, LONGEST_ANSWER = 16, 256
"""Whole answers that are remembered, and how long one may be, in bytes."""

_right: set[tuple[int, bytes]] = set()
"""Answers that were all that so many queries ask for, and told of no parameter: a server says the same after
each session."""


def _remember(whole: tuple[int, bytes]) -> None:
    if len(whole[1]) <= LONGEST_ANSWER:
        if len(_right) >= MOST_ANSWERS:
            _right.clear()
        _right.add(whole)


def note_parameter(parameters: dict[str, str], body: bytes) -> None:
    """What a ParameterStatus says goes into `parameters`."""
    reader = Reader(body, "backend")
    name = reader.cstring().decode("utf-8", "replace")
    parameters[name] = reader.cstring().decode("utf-8", "replace")
    reader.done()


class Resting:
    """What a server may say to nobody: parameters that changed, notices. Raises ProtocolError for anything
    else, and ResourceUnavailable when it says that it ends the connection."""

    def __init__(self, parameters: dict[str, str]) -> None:
        self._buffer = bytearray()
        self._parameters = parameters

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes of the server."""
        self._buffer += data
        while found := messages.take_message(self._buffer, LOGIN_MESSAGE_MAX):
            code, body = found
            if code == ord("S"):
                note_parameter(self._parameters, body)
            elif code == ord("E"):
                raise ResourceUnavailable("the backend ended a connection at rest")
            elif code != ord("N"):
                raise ProtocolError(f"the backend sent {chr(code)!r}, unasked", "backend")

    @property
    def between_messages(self) -> bool:
        """Whether nothing of a message has come that is not whole."""
        return not self._buffer


def _set(name: str, value: str) -> str:
    return f"SET {_name(name)} TO {_literal(value)}"


def _name(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _literal(value: str) -> str:
    # Right whatever standard_conforming_strings says: E'' reads a doubled backslash as one.
    return "E'" + value.replace("\\", "\\\\").replace("'", "''").replace("\0", "") + "'"
