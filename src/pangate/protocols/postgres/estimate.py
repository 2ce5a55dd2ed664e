"""How many rows the planner expects a statement to concern, asked on a connection of the gateway's own.

EXPLAIN plans and does not run. But planning evaluates what is immutable or stable, so a statement that
calls functions which the server does not bring along is not explained, and the rest is explained in a
transaction that can only read, and is taken back."""

from __future__ import annotations

import json
from typing import Any

from pangate.errors import ProtocolError
from pangate.model import Understanding
from pangate.protocols import Buffer
from pangate.protocols.postgres import messages
from pangate.protocols.postgres.login import BackendLogin
from pangate.protocols.postgres.messages import Reader, message

COMMANDS = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"))

MESSAGE_MAX = 16 << 20

BEGIN = "begin transaction read only; set local statement_timeout = '2s'; set local lock_timeout = '500ms'"


def can_be_explained(meaning: Understanding | None) -> bool:
    """Whether the planner can be asked about a statement and nothing of it would run."""
    if meaning is None or meaning.refusal or len(meaning.parts) != 1:
        return False
    (part,) = meaning.parts
    plain = not (part.calls or part.explain or part.executes or part.prepares)
    return plain and part.command in COMMANDS and "code" not in part.needs


class RowEstimate:
    """See `pangate.protocols.Estimate`. `types` are OIDs of the parameters, `values` the formats and
    values of a Bind."""

    def __init__(self, text: str, types: tuple[int, ...] = (), values: bytes = b"\0\0\0\0") -> None:
        self._text, self._types, self._values = text, types, values
        self._buffer = bytearray()
        self._plan = b""
        self._ready = 0
        self.done = False
        self.rows: int | None = None

    def login(self, user: str, database: str, password: str, *, cleartext: bool) -> BackendLogin:
        """The login of its own connection."""
        return BackendLogin(
            user,
            database,
            password,
            cleartext=cleartext,
            parameters={"application_name": "pangate", "client_encoding": "UTF8"},
        )

    def start(self) -> bytes:
        """All of it at once: the server skips to Sync where something fails."""
        parse = (
            messages.text("")
            + messages.text(f"explain (format json) {self._text}")
            + len(self._types).to_bytes(2, "big")
            + b"".join(oid.to_bytes(4, "big") for oid in self._types)
        )
        return (
            messages.query(BEGIN)
            + message(b"P", parse)
            + message(b"B", b"\0\0" + self._values + b"\0\0")
            + message(b"E", b"\0" + bytes(4))
            + messages.sync()
            + messages.query("rollback")
        )

    def feed(self, data: Buffer) -> None:
        """Take bytes of the server."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 5 and not self.done:
            length = int.from_bytes(buffer[at + 1 : at + 5], "big")
            if not 4 <= length <= MESSAGE_MAX:
                raise ProtocolError("the backend explained in a wrong length", "backend")
            if len(buffer) - at < length + 1:
                break
            self._message(buffer[at], bytes(buffer[at + 5 : at + 1 + length]))
            at += length + 1
        del buffer[:at]

    def _message(self, code: int, body: bytes) -> None:
        if code == ord("D"):
            reader = Reader(body, "backend")
            if reader.int16() != 1:
                raise ProtocolError("the backend's plan is not understood", "backend")
            self._plan += reader.take(reader.int32())
            if len(self._plan) > MESSAGE_MAX:
                raise ProtocolError("the backend's plan has no end", "backend")
        elif code == ord("Z"):
            self._ready += 1
            if self._ready == 3:
                self.rows = _rows(self._plan)
                self.done = True


def _rows(plan: bytes) -> int | None:
    """The rows at the top of a plan; for what changes rows, of what feeds it."""
    try:
        node: Any = json.loads(plan)[0]["Plan"]
        while node["Node Type"] == "ModifyTable":
            (node,) = node["Plans"]
        return int(node["Plan Rows"])
    except (ValueError, KeyError, IndexError, TypeError):
        return None
