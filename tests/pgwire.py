"""A PostgreSQL server and client in bytes, for the tests of the codec: what each side would send."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from pangate.masking import default_scanner
from pangate.model import Statement, Verdict
from pangate.protocols import (
    Authenticate,
    Close,
    Described,
    Execute,
    Finished,
    Learn,
    StartTLS,
    ToBackend,
    ToFrontend,
)
from pangate.protocols.postgres import PostgresCodec
from pangate.protocols.postgres.catalog import Catalog, open_catalog
from pangate.protocols.postgres.messages import message, startup

ALLOW = Verdict("allow")


def cstring(value: str | bytes) -> bytes:
    return (value.encode() if isinstance(value, str) else value) + b"\0"


def query(sql: str) -> bytes:
    return message(b"Q", cstring(sql))


def parse(name: str, sql: str, types: Sequence[int] = ()) -> bytes:
    body = cstring(name) + cstring(sql) + struct.pack(f"!h{len(types)}I", len(types), *types)
    return message(b"P", body)


def bind(
    portal: str = "",
    name: str = "",
    values: Sequence[bytes | None] = (),
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    body = cstring(portal) + cstring(name)
    body += struct.pack(f"!h{len(formats)}h", len(formats), *formats)
    body += struct.pack("!h", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    body += struct.pack(f"!h{len(results)}h", len(results), *results)
    return message(b"B", body)


def describe(what: str, name: str = "") -> bytes:
    return message(b"D", what.encode() + cstring(name))


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message(b"E", cstring(portal) + struct.pack("!i", rows))


def close(what: str, name: str = "") -> bytes:
    return message(b"C", what.encode() + cstring(name))


SYNC = message(b"S")
FLUSH = message(b"H")
TERMINATE = message(b"X")
PARSED, BOUND, CLOSED, NO_DATA = (message(c) for c in (b"1", b"2", b"3", b"n"))


def row_description(
    columns: Iterable[tuple[str, int, int] | tuple[str, int, int, int, int]],
) -> bytes:
    """Columns as (name, OID of the type, format), and table and attribute where it is a table's."""
    columns = list(columns)
    body = struct.pack("!h", len(columns))
    for name, oid, format_, *origin in columns:
        table, attribute = origin or (0, 0)
        body += cstring(name) + struct.pack("!IhIhih", table, attribute, oid, -1, -1, format_)
    return message(b"T", body)


def described(columns: Iterable[tuple], status: str = "I") -> bytes:
    """What the server answers to what stands in front of a COPY in a Query."""
    return PARSED + message(b"t", b"\0\0") + row_description(columns) + ready(status)


def row(*cells: bytes | None) -> bytes:
    body = struct.pack("!h", len(cells))
    for cell in cells:
        body += struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
    return message(b"D", body)


def complete(tag: str) -> bytes:
    return message(b"C", cstring(tag))


def ready(status: str = "I") -> bytes:
    return message(b"Z", status.encode())


def error(code: str, text: str, severity: str = "ERROR") -> bytes:
    fields = (("S", severity), ("V", severity), ("C", code), ("M", text))
    return message(b"E", b"".join(k.encode() + cstring(v) for k, v in fields) + b"\0")


def copy_out(columns: int, format_: int = 0) -> bytes:
    return message(b"H", struct.pack(f"!bh{columns}h", format_, columns, *[format_] * columns))


def copy_data(data: bytes) -> bytes:
    return message(b"d", data)


def split(stream: bytes) -> list[tuple[str, bytes]]:
    """The messages of a stream as (type, body). It must end with a whole message."""
    out = []
    at = 0
    while at < len(stream):
        length = int.from_bytes(stream[at + 1 : at + 5], "big")
        assert length >= 4
        assert at + 1 + length <= len(stream), "the stream ends within a message"
        out.append((chr(stream[at]), stream[at + 5 : at + 1 + length]))
        at += 1 + length
    return out


def kinds(stream: bytes) -> str:
    """The types of the messages of a stream."""
    return "".join(kind for kind, _ in split(stream))


def cells(body: bytes) -> list[bytes | None]:
    """The cells of a DataRow."""
    (count,) = struct.unpack_from("!h", body)
    at, out = 2, []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        out.append(None if length < 0 else body[at : at + length])
        at += max(length, 0)
    return out


def send_numeric(value: Decimal) -> bytes:
    """numeric_send, the obvious way."""
    sign, digits, exponent = value.as_tuple()
    scale = max(-exponent, 0)
    text = "".join(map(str, digits)) + "0" * max(exponent, 0)
    whole, fraction = (text[:-scale], text[-scale:]) if scale else (text, "")
    fraction = fraction.rjust(scale, "0")
    whole = whole.rjust(-(-len(whole) // 4) * 4, "0")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int((whole + fraction)[i : i + 4]) for i in range(0, len(whole + fraction), 4)]
    weight = len(whole) // 4 - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    return struct.pack(
        f"!hhHH{len(groups)}H", len(groups), weight, 0x4000 if sign else 0, scale, *groups
    )


@dataclass
class Bench:
    """A codec past its login, and what came out of it."""

    codec: PostgresCodec = field(
        default_factory=lambda: PostgresCodec(default_scanner(), tls="none")
    )
    verdict: Verdict = ALLOW
    to_backend: bytes = b""
    to_frontend: bytes = b""
    statements: list[Statement] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    described: list[Described] = field(default_factory=list)
    closed: str = ""
    catalog: Catalog = field(default_factory=lambda: open_catalog({}))
    tables: dict[int, list[tuple[int, str, str, str]]] = field(default_factory=dict)
    """What the catalog's server says: per table OID (attribute number, schema, table, column)."""
    types: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    """Rows of its types: OID, typtype, base type, subtype, send function."""
    views: list[tuple[int, str, str]] = field(default_factory=list)
    """Its views: OID, name, definition. What they use is taken to be every table."""
    unreadable: bool = False
    errands: int = 0

    def log_in(self, parameters: dict[str, str] | None = None, mask: str = "last4") -> Bench:
        self.take(self.codec.frontend(startup({"user": "agent", "database": "payments"})))
        self.take(self.codec.frontend(message(b"p", cstring("a-token"))))
        known = parameters or {"client_encoding": "UTF8"}
        self.take(self.codec.ready(known, b"12345678", mask, self.catalog))
        self.to_frontend = b""
        return self

    def take(self, actions: list[object]) -> None:
        while actions:
            following: list[object] = []
            for at, action in enumerate(actions):
                match action:
                    case ToBackend():
                        self.to_backend += bytes(action.data)
                    case ToFrontend():
                        self.to_frontend += bytes(action.data)
                    case Execute():
                        assert at == len(actions) - 1, "Execute must be the last action"
                        self.statements.append(action.statement)
                        following = self.codec.resume(self.verdict)
                    case Learn():
                        assert at == len(actions) - 1, "Learn must be the last action"
                        following = self._learn(action)
                    case Finished():
                        self.finished.append(action)
                    case Described():
                        self.described.append(action)
                    case Close():
                        self.closed = action.reason
                    case Authenticate() | StartTLS():
                        assert at == len(actions) - 1
            actions = following

    def _learn(self, action: Learn) -> list[object]:
        self.errands += 1
        if not self.unreadable:
            wanted = action.errand._wanted
            if wanted.types:
                self.catalog.take_types(self.types)
            views = {oid for oid, _, _ in self.views}
            if wanted.carriers:
                self.catalog.take_carriers(
                    [
                        (str(table), str(number), *names, "1", "0")
                        for table, columns in self.tables.items()
                        for number, *names in columns
                    ],
                    [
                        (str(view), str(table), str(number))
                        for view in views
                        for table, columns in self.tables.items()
                        for number, *_ in columns
                        if table != view
                    ],
                    [(str(oid), name) for oid, name, _ in self.views],
                    [(str(oid), *rest) for oid, *rest in self.views],
                )
            if wanted.tables:
                rows = [
                    (str(table), str(number), *names, "0", str(int(table in views)))
                    for table in wanted.tables
                    for number, *names in self.tables.get(table, ())
                ]
                self.catalog.take_tables(wanted.tables, rows)
        return self.codec.learned()

    def agent(self, *data: bytes) -> Bench:
        for part in data:
            self.take(self.codec.frontend(part))
        return self

    def server(self, *data: bytes) -> Bench:
        for part in data:
            self.take(self.codec.backend(part))
        return self

    def sent(self) -> bytes:
        """What went to the backend since the last call."""
        data, self.to_backend = self.to_backend, b""
        return data

    def seen(self) -> bytes:
        """What went to the agent since the last call."""
        data, self.to_frontend = self.to_frontend, b""
        return data
