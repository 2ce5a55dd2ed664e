"""What an agent was sent, as people read it: a recorded stream into tables, errors and notices."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pangate.errors import ProtocolError
from pangate.protocols import Lines, Reply, Row, Said, Table
from pangate.protocols.postgres.messages import Column, Reader, error_fields, row_description
from pangate.protocols.postgres.values import shown

_CODECS: Mapping[str, str] = {
    "LATIN1": "latin-1",
    "LATIN2": "iso8859-2",
    "LATIN9": "iso8859-15",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "WIN866": "cp866",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "ISO_8859_5": "iso8859-5",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
}
"""Python's names of client encodings; the others are read as UTF-8."""

_head = struct.Struct("!BI")


class Transcript:
    """See `pangate.protocols.Transcript`."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._encoding = _codec(parameters.get("client_encoding", "UTF8"))
        self._left = bytearray()
        self._at = 0  # place of the first byte of it
        self._columns: Sequence[Column] = ()
        self._named: dict[int, bytes] = {}
        self._copy: Literal["lines", "rows"] = "lines"
        self._copy_head = False
        self._lost = False

    def described(self, place: int, description: bytes) -> None:
        """See the contract."""
        self._named[place] = description

    def cut(self, size: int, *, whole: bool) -> None:
        """See the contract."""
        self._at += size + len(self._left)
        self._left.clear()
        self._lost = self._lost or not whole

    def take(self, data: bytes) -> Iterator[tuple[int, Reply]]:
        """See the contract."""
        left = self._left
        left += data
        if self._lost:
            self._at += len(left)
            left.clear()
            return
        at = 0
        while len(left) - at >= 5:
            kind, length = _head.unpack_from(left, at)
            if length < 4:
                raise ProtocolError("a recorded message has a wrong length", "backend")
            if len(left) - at < length + 1:
                break
            body = bytes(left[at + 5 : at + length + 1])
            place = self._at + at
            self._describe(place)
            reply = self._reply(kind, body)
            if reply is not None:
                yield place, reply
            at += length + 1
        self._at += at
        del left[:at]

    def _describe(self, place: int) -> None:
        for known in [known for known in self._named if known <= place]:
            self._columns = row_description(self._named.pop(known))

    def _reply(self, kind: int, body: bytes) -> Reply | None:
        match chr(kind):
            case "T":
                self._columns = row_description(body)
                return self._table()
            case "D":
                return Row(self._cells(Reader(body, "backend")))
            case "d":
                return self._copied(body)
            case "H":
                return self._begin_copy(body)
            case "C":
                return Said("done", self._text(body[:-1]))
            case "I":
                return Said("done", "(empty query)")
            case "s":
                return Said("done", "(suspended)")
            case "E" | "N":
                fields = error_fields(body)
                return Said(
                    "error" if kind == ord("E") else "notice",
                    self._problem(fields),
                    fields.get("C", ""),
                )
            case "A":
                reader = Reader(body[4:], "backend")
                channel, payload = reader.cstring(), reader.cstring()
                return Said("notification", f"{self._text(channel)}: {self._text(payload)}")
            case "S":
                reader = Reader(body, "backend")
                name, value = self._text(reader.cstring()), self._text(reader.cstring())
                if name == "client_encoding":
                    self._encoding = _codec(value)
                return Said("parameter", f"{name} = {value}")
            case "V":
                return Said("done", f"(function result of {max(len(body) - 4, 0)} bytes)")
            case "G":
                return Said("done", "(the server takes COPY data)")
        return None

    def table(self) -> Table:
        """See the contract."""
        return self._table()

    def _table(self) -> Table:
        return Table(tuple(self._text(column.name) for column in self._columns))

    def _cells(self, reader: Reader) -> tuple[str | None, ...]:
        cells: list[str | None] = []
        for index in range(reader.int16()):
            size = reader.int32()
            if size < 0:
                cells.append(None)
                continue
            column = self._columns[index] if index < len(self._columns) else None
            value = reader.take(size)
            if column is None or column.format == 0:
                cells.append(self._text(value))
            else:
                cells.append(shown(column.oid, value, self._encoding))
        reader.done()
        return tuple(cells)

    def _begin_copy(self, body: bytes) -> Reply | None:
        self._copy = "rows" if body[:1] == b"\1" else "lines"
        self._copy_head = True
        if self._copy == "rows":
            self._columns = [
                Column(column.name, column.table, column.attribute, column.oid, 1)
                for column in self._columns
            ]
            return self._table()
        return None

    def _copied(self, body: bytes) -> Reply | None:
        if self._copy == "lines":
            return Lines(self._text(body).rstrip("\n"))
        if self._copy_head:
            self._copy_head = False
            # the signature, flags and the length of what extends them
            body = body[19 + int.from_bytes(body[15:19], "big") :]
        if body in (b"", b"\xff\xff"):
            return None
        return Row(self._cells(Reader(body, "backend")))

    def _text(self, value: bytes) -> str:
        return value.decode(self._encoding, "replace")

    def _problem(self, fields: Mapping[str, str]) -> str:
        text = f"{fields.get('V', fields.get('S', 'ERROR'))}: {fields.get('M', '')}"
        for letter, name in (("D", "DETAIL"), ("H", "HINT"), ("W", "CONTEXT")):
            if fields.get(letter):
                text += f"\n{name}: {fields[letter]}"
        return text


def _codec(encoding: str) -> str:
    return _CODECS.get(encoding.upper(), "utf-8")
