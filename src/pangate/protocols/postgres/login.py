"""pangate's own login at a PostgreSQL server: startup, authentication, parameters, until it is ready.

Bytes in, bytes out, as the codec; the password is used here and kept nowhere else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from pangate.errors import ProtocolError, ResourceUnavailable
from pangate.protocols.postgres import messages
from pangate.protocols.postgres.messages import Reader, message, text
from pangate.protocols.postgres.scram import ScramClient

_SQLSTATE = re.compile(r"[0-9A-Z]{5}", re.ASCII)

LOGIN_MESSAGE_MAX = 65_536
"""Bytes of one message during the login; no server needs more."""


LOGIN_MAX = 1_048_576
"""Bytes of a whole login: its parameters are kept."""


class BackendLogin:
    """One login. `start()` gives the first bytes; `feed(data)` takes the server's and gives the answer.
    When `done` is true, `parameters` and `key` hold what the server said, and `rest` the bytes
    behind the login.

    `password` is empty when there is none; `cleartext` allows a password in clear, which is right only
    inside verified TLS or on loopback. Raises ResourceUnavailable when the server refuses, ProtocolError
    when it does not speak the protocol."""

    def __init__(
        self,
        user: str,
        database: str,
        password: str,
        *,
        cleartext: bool = False,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self._user, self._database, self._password = user, database, password
        self._binding, self._cleartext = b"", cleartext
        self._extra = dict(parameters or {})
        self._buffer = bytearray()
        self._taken = 0
        self._scram: ScramClient | None = None
        self._verified = False
        self._authenticated = False
        self.parameters: dict[str, str] = {}
        self.key = b""
        self.rest = b""
        self.done = False

    def bind(self, binding: bytes) -> None:
        """`binding` is the connection's tls-server-end-point data (RFC 5929); empty for none."""
        self._binding = binding

    def start(self) -> bytes:
        """The startup packet."""
        return messages.startup({"user": self._user, "database": self._database, **self._extra})

    def feed(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take bytes of the server, give the bytes to answer with."""
        self._buffer += data
        self._taken += len(data)
        out = []
        while not self.done and len(self._buffer) >= 5:
            length = int.from_bytes(self._buffer[1:5], "big")
            if not 4 <= length <= LOGIN_MESSAGE_MAX:
                raise ProtocolError("the backend sent a login message of a wrong length", "backend")
            if self._taken - len(self._buffer) > LOGIN_MAX:
                raise ProtocolError("the backend does not come to the end of the login", "backend")
            if len(self._buffer) < length + 1:
                break
            code, body = self._buffer[0], bytes(self._buffer[5 : length + 1])
            del self._buffer[: length + 1]
            out.append(self._message(code, body))
        if self.done:
            self.rest = bytes(self._buffer)
            self._buffer.clear()
            self._password = ""
        return b"".join(out)

    def _message(self, code: int, body: bytes) -> bytes:
        match code:
            case 0x52:  # R
                return self._authentication(body)
            case 0x45:  # E
                fields = messages.error_fields(body)
                # What the server says of pangate's own login is not for the agent: it may hold the
                # password, or a card number. So this is the code, if it is one, and nothing else.
                state = fields.get("C", "")
                raise ResourceUnavailable(
                    "the backend refused the gateway's login (SQLSTATE "
                    f"{state if _SQLSTATE.fullmatch(state) else '?'})"
                )
            case 0x4E:  # N
                return b""
        if not self._authenticated:
            raise ProtocolError(f"the backend sent {chr(code)!r} before it let us in", "backend")
        match code:
            case 0x53:  # S
                reader = Reader(body, "backend")
                name = reader.cstring().decode("utf-8", "replace")
                self.parameters[name] = reader.cstring().decode("utf-8", "replace")
                reader.done()
            case 0x4B:  # K
                if not 8 <= len(body) <= 260:
                    raise ProtocolError(
                        "the backend sent a cancel key of a wrong length", "backend"
                    )
                self.key = body
            case 0x5A:  # Z
                self.done = True
            case _:
                raise ProtocolError(f"the backend sent {chr(code)!r} during the login", "backend")
        return b""

    def _authentication(self, body: bytes) -> bytes:
        reader = Reader(body, "backend")
        kind = reader.int32()
        if self._authenticated:
            raise ProtocolError("the backend asks for authentication twice", "backend")
        if kind in (3, 5, 10) and not self._password:
            raise ResourceUnavailable(
                "the backend asks for a password, and this resource has none in the configuration"
            )
        match kind:
            case 0:
                if self._scram and not self._verified:
                    raise ProtocolError("the backend let us in before SCRAM was done", "backend")
                self._authenticated = True
                return b""
            case 3:
                if not self._cleartext:
                    raise ResourceUnavailable(
                        "the backend asks for the password in clear on a connection without "
                        'verified TLS; set tls = "verify-full" for this resource'
                    )
                return message(b"p", text(self._password))
            case 5:
                salt = reader.take(4)
                inner = hashlib.md5(  # noqa: S324 - the protocol's own
                    (self._password + self._user).encode()
                ).hexdigest()
                outer = hashlib.md5(inner.encode() + salt).hexdigest()  # noqa: S324
                return message(b"p", text("md5" + outer))
            case 10:
                return self._sasl_start(reader)
            case 11 if self._scram:
                return message(b"p", self._scram.final(body[4:]))
            case 12 if self._scram:
                self._scram.verify(body[4:])
                self._verified = True
                return b""
        raise ResourceUnavailable(
            f"the backend asks for authentication method {kind}, which pangate does not speak; "
            "use scram-sha-256 in pg_hba.conf"
        )

    def _sasl_start(self, reader: Reader) -> bytes:
        offered = set()
        while name := reader.cstring():
            offered.add(name.decode("ascii", "replace"))
        if self._scram or not offered & {"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}:
            # Their names are the server's own text, and go nowhere.
            raise ResourceUnavailable(
                "the backend offers no SASL mechanism that pangate speaks, which are SCRAM-SHA-256 and "
                "SCRAM-SHA-256-PLUS"
            )
        self._scram = ScramClient(
            self._password, binding=self._binding, offered="SCRAM-SHA-256-PLUS" in offered
        )
        first = self._scram.first()
        body = text(self._scram.mechanism) + len(first).to_bytes(4, "big") + first
        return message(b"p", body)
