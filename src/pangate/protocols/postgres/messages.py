"""PostgreSQL's messages as bytes: what pangate builds and what it reads, protocol 3.0.

Names and layouts after https://www.postgresql.org/docs/current/protocol-message-formats.html."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pangate.errors import ProtocolError, Refused

PROTOCOL_3_0 = 196608
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104

STARTUP_MAX = 10_000
"""Bytes of a startup packet, as the server bounds it (MAX_STARTUP_PACKET_LENGTH)."""

SQLSTATE: Mapping[str, str] = {
    "auth.failed": "28P01",
    "authorisation.denied": "42501",
    "resource.unavailable": "08006",
    "record.failed": "58030",
    "state.failed": "58030",
    "approval.cancelled": "57014",
    "limit.reached": "53400",
    "refused": "0A000",
}
"""SQLSTATE by the code of a refusal (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

_int32 = struct.Struct("!i")
_int16 = struct.Struct("!h")
_column = struct.Struct("!IhIhih")


def message(code: bytes, body: bytes = b"") -> bytes:
    """One message: type byte, length, body."""
    return code + _int32.pack(len(body) + 4) + body


def text(value: str) -> bytes:
    """A string as the protocol carries it: UTF-8, ended by NUL."""
    return value.replace("\0", "").encode() + b"\0"


def error(
    sqlstate: str, reason: str, *, severity: str = "ERROR", detail: str = "", hint: str = ""
) -> bytes:
    """ErrorResponse."""
    return message(b"E", _report(sqlstate, reason, severity, detail, hint))


def notice(reason: str) -> bytes:
    """NoticeResponse."""
    return message(b"N", _report("00000", reason, "NOTICE", "", ""))


def _report(sqlstate: str, reason: str, severity: str, detail: str, hint: str) -> bytes:
    fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", reason)]
    if detail:
        fields.append(("D", detail))
    if hint:
        fields.append(("H", hint))
    return b"".join(code.encode() + text(value) for code, value in fields) + b"\0"


def refusal(refused: Refused, said: str) -> bytes:
    """The fatal ErrorResponse for a refusal, its SQLSTATE chosen by the code of the refusal; `said` is its
    reason as the agent may read it."""
    return error(SQLSTATE.get(refused.code, "0A000"), said, severity="FATAL")


def error_fields(body: bytes) -> dict[str, str]:
    """The fields of ErrorResponse or NoticeResponse by their type letter."""
    fields = {}
    for part in body.split(b"\0"):
        if part:
            fields[chr(part[0])] = part[1:].decode("utf-8", "replace")
    return fields


def startup(parameters: Mapping[str, str]) -> bytes:
    """StartupMessage of protocol 3.0."""
    body = _int32.pack(PROTOCOL_3_0)
    body += b"".join(text(name) + text(value) for name, value in parameters.items()) + b"\0"
    return _int32.pack(len(body) + 4) + body


def ssl_request() -> bytes:
    """SSLRequest."""
    return struct.pack("!ii", 8, SSL_REQUEST)


def cancel_request(key: bytes) -> bytes:
    """CancelRequest for the process id and secret of a BackendKeyData body."""
    return struct.pack("!ii", 8 + len(key), CANCEL_REQUEST) + key


def terminate() -> bytes:
    """Terminate."""
    return message(b"X")


def query(sql: str) -> bytes:
    """Query."""
    return message(b"Q", text(sql))


def parse(name: str, sql: str) -> bytes:
    """Parse without parameter types."""
    return message(b"P", text(name) + text(sql) + b"\0\0")


def describe_statement(name: str) -> bytes:
    """Describe of a prepared statement."""
    return message(b"D", b"S" + text(name))


def close_statement(name: str) -> bytes:
    """Close of a prepared statement."""
    return message(b"C", b"S" + text(name))


def sync() -> bytes:
    """Sync."""
    return message(b"S")


def describe_portal(name: bytes) -> bytes:
    """Describe of a portal."""
    return message(b"D", b"P" + name + b"\0")


def parameter_status(parameters: Iterable[tuple[str, str]]) -> bytes:
    """ParameterStatus, one message each."""
    return b"".join(message(b"S", text(name) + text(value)) for name, value in parameters)


def take_message(buffer: bytearray, longest: int) -> tuple[int, bytes] | None:
    """The first message of `buffer`, taken out of it: type and body; None when it is not whole. ProtocolError
    for a backend's message whose length cannot be or is beyond `longest` bytes."""
    if len(buffer) < 5:
        return None
    length = int.from_bytes(buffer[1:5], "big")
    if not 4 <= length <= longest:
        raise ProtocolError("the backend sent a message of a wrong length", "backend")
    if len(buffer) < length + 1:
        return None
    code, body = buffer[0], bytes(buffer[5 : length + 1])
    del buffer[: length + 1]
    return code, body


class Short(ProtocolError):
    """A message ends before its contents do."""


class Reader:
    """A cursor over one message body. Every read is bounds-checked; what is too short or not ended is a
    ProtocolError of `side`."""

    __slots__ = ("_at", "_data", "_side")

    def __init__(self, data: bytes, side: str) -> None:
        self._data, self._side, self._at = data, side, 0

    def _short(self) -> ProtocolError:
        return Short("a message is shorter than its contents say", self._side)

    def cstring(self) -> bytes:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise self._short()
        value = self._data[self._at : end]
        self._at = end + 1
        return value

    def take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise self._short()
        value = self._data[self._at : end]
        self._at = end
        return value

    def int16(self) -> int:
        return int(_int16.unpack(self.take(2))[0])

    def int32(self) -> int:
        return int(_int32.unpack(self.take(4))[0])

    def uint32s(self, count: int) -> tuple[int, ...]:
        if count < 0:
            raise self._short()
        return struct.unpack(f"!{count}I", self.take(4 * count))

    def int16s(self, count: int) -> tuple[int, ...]:
        if count < 0:
            raise self._short()
        return struct.unpack(f"!{count}h", self.take(2 * count))

    @property
    def at(self) -> int:
        """Where it stands."""
        return self._at

    def since(self, at: int) -> bytes:
        """What was read since it stood at `at`."""
        return self._data[at : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data) - self._at)

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def done(self) -> None:
        if not self.at_end:
            raise ProtocolError("a message is longer than its contents say", self._side)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of RowDescription. `table` and `attribute` are 0 when it is not a table's column."""

    name: bytes
    table: int
    attribute: int
    oid: int
    format: int


def row_description(body: bytes) -> list[Column]:
    """The columns of a RowDescription."""
    reader = Reader(body, "backend")
    columns = []
    count = reader.int16()
    if count < 0:
        raise ProtocolError("the backend described less than no columns", "backend")
    for _ in range(count):
        name = reader.cstring()
        table, attribute, oid, _size, _modifier, format_ = _column.unpack(reader.take(_column.size))
        if format_ not in (0, 1):
            raise ProtocolError(f"the backend described a column of format {format_}", "backend")
        columns.append(Column(name, table, attribute, oid, format_))
    reader.done()
    return columns


def with_names(body: bytes, names: Iterable[bytes]) -> bytes:
    """The RowDescription `body` with other column names."""
    reader = Reader(body, "backend")
    out = [reader.take(2)]
    for name in names:
        reader.cstring()
        out += [name, b"\0", reader.take(_column.size)]
    return b"".join(out)


def startup_parameters(body: bytes) -> dict[str, str]:
    """The parameters of a StartupMessage, from behind its version."""
    reader = Reader(body, "frontend")
    parameters: dict[str, str] = {}
    try:
        while name := reader.cstring():
            if name.decode() in parameters:
                raise ProtocolError(f"the startup packet names {name.decode()!r} twice")
            parameters[name.decode()] = reader.cstring().decode()
    except UnicodeDecodeError as wrong:
        raise ProtocolError("the startup packet is not UTF-8") from wrong
    except Short as wrong:
        raise ProtocolError("the startup packet ends within a field") from wrong
    if not reader.at_end:
        raise ProtocolError("the startup packet goes on behind its last field")
    return parameters
