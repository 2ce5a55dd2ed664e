"""CSV with rules by column: only what is masked is written anew."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from pangate._frame import fits
from pangate.errors import MaskingError
from pangate.mask_cli.inputs import Failed, Source

if TYPE_CHECKING:
    from mmap import mmap

    from pangate.masking.masker import Masker

LONGEST_RECORD = 16 << 20
_SHOWN = 4  # digits that a mask leaves
_DELIMITERS = b",;\t|"
_QUOTED = rb'"[^"]*(?:""[^"]*)*'


class Table:
    """CSV whose header names columns. Those that a rule is about are treated by it, the others are
    masked as text; what is not masked stays as it was written, quotes included."""

    def __init__(self, masker: Masker, source: Source, options: argparse.Namespace) -> None:
        self._masker = masker
        self._name = source.name
        masker.check_stream("text")
        if options.delimiter is not None and len(options.delimiter.encode()) != 1:
            raise MaskingError("--delimiter: one character of ASCII")
        self._delimiter = options.delimiter.encode() if options.delimiter else b""
        self._held = bytearray()
        self._fields: re.Pattern[bytes] | None = None
        self._quoted = _quoted(self._delimiter or _DELIMITERS)
        self._line = b"\n"  # what ends a record
        self._header = 0  # bytes of it that are still to come
        self._again = 0  # bytes below which no further record can be whole
        self._rules: list[tuple[str, Any] | None] = []
        self.column_hits: list[tuple[int, int, str]] = []
        self.left: list[tuple[int, int]] = []

    def feed(self, chunk: memoryview | bytes) -> bytes:
        """What may be released."""
        self._held += chunk
        return self._release(last=False)

    def parts(self, chunk: memoryview | bytes) -> list[bytes]:
        """As `feed`, in the way that a `Stream` has it."""
        return [self.feed(chunk)]

    def through(self, buffer: mmap, start: int, end: int) -> list[bytes]:
        """As `feed` of a part of a buffer."""
        return [self.feed(memoryview(buffer)[start:end])]

    def finish(self) -> bytes:
        """The rest."""
        return self._release(last=True)

    def whole(self, data: bytearray, *, last: bool = False) -> int:
        """How many bytes at the front of `data`, which begins with a record, are whole records. The
        first one is the header."""
        if len(data) < self._again and not last:
            return 0
        if self._fields is None and data:
            self._header = self._find_header(data, last=last)
        end = data.rfind(self._line) if self._fields is not None else -1
        for span in reversed([match.span() for match in self._quoted.finditer(data)]):
            if end >= span[1]:
                break
            if end > span[0]:
                end = data.rfind(self._line, 0, span[0])
        # Twice as much before the next look, so that a quote that never ends costs no look a chunk.
        self._again = 0 if end >= 0 else 2 * len(data)
        return len(data) if last else end + 1

    def _release(self, *, last: bool) -> bytes:
        cut = self.whole(self._held, last=last)
        if not cut:
            if len(self._held) > LONGEST_RECORD:
                raise Failed(
                    f"{self._name}: a CSV record is longer than {LONGEST_RECORD >> 20} MiB"
                )
            return b""
        taken = bytes(self._held[:cut])
        del self._held[:cut]
        header, self._header = self._header, 0
        if not any(self._rules):
            return bytes(self._masker.mask(taken))
        return bytes(self._masker.mask(taken[:header]) + self._by_column(taken[header:]))

    def _find_header(self, data: bytearray, *, last: bool) -> int:
        """The bytes of the header and of what stands before it, 0 when it is not all there: empty lines,
        comments without a delimiter, and the `sep=;` of spreadsheets."""
        begin = 0
        while begin < len(data):
            end = _first(data, self._quoted, begin, last=last)
            if not end:
                return 0
            line = bytes(data[begin:end])
            told = _TOLD.fullmatch(line)
            bare = line.strip(b"\xef\xbb\xbf \t\r\n")
            if told:
                self._delimiter = self._delimiter or told.group(1)
            elif bare and (not bare.startswith(b"#") or any(one in bare for one in _DELIMITERS)):
                if line.endswith(b"\r"):
                    self._line = b"\r"
                self._learn(line)
                return end
            begin = end
        if last:
            self._learn(bytes(data))
        return begin if last else 0

    def _learn(self, line: bytes) -> None:
        """Take the delimiter and the rules of the columns from the header."""
        outside = self._quoted.sub(b"", line)
        mark = self._delimiter or max((bytes((one,)) for one in _DELIMITERS), key=outside.count)
        self._quoted = _quoted(mark)
        plain = rb"[^" + re.escape(mark) + rb"\r\n]*"
        self._fields = re.compile(
            rb'(%b"?%b|%b)(%b|\r?\n|\r|\Z)' % (_QUOTED, plain, plain, re.escape(mark))
        )
        for field in self._fields.finditer(line):
            if field.group(2) in (b"", b"\n", b"\r\n") and not field.group(1) and not self._rules:
                break
            name = field.group(1).strip(b'" \xef\xbb\xbf').decode("utf-8", "replace")
            action = self._masker.columns.action(name)
            self._rules.append(None if action is None else (name, action))
            if field.group(2) != mark:
                break

    def rule(self, name: str) -> str:
        """The rule that a column falls under."""
        return self._masker.columns.rule(name)

    def offset(self, block: bytes) -> int:
        """Fill `column_hits` and `left` for a block of whole records, and say where in it they count from."""
        self.column_hits.clear()
        self.left.clear()
        if self._fields is None:  # of a block that was cut, and not by `whole`
            self.whole(bytearray(block), last=True)
        begin, self._header = self._header, 0
        if any(self._rules):
            self._by_column(block[begin:])
        return begin

    def _by_column(self, data: bytes) -> bytearray:
        out, waiting, column = bytearray(), bytearray(), 0
        assert self._fields is not None
        for field in self._fields.finditer(data):
            value, end = field.group(1), field.group(2)
            rule = self._rules[column] if column < len(self._rules) else None
            if rule is None or not value:
                waiting += value
            else:
                out += self._masker.mask(waiting)
                waiting.clear()
                out += self.value(value, rule, field.start(1))
            waiting += end
            column = 0 if end in (b"\n", b"\r\n", b"\r") else column + 1
        return out + self._masker.mask(waiting)

    def value(self, value: bytes, rule: tuple[str, Any], place: int) -> bytes:
        """One value of a column that has a rule."""
        name, (action, shape) = rule
        quoted = value[:1] == b'"' and value[-1:] == b'"' and len(value) > 1
        inner = value[1:-1] if quoted else value
        if action == "leave":
            self.left.append((place, place + len(value)))
            return value
        shown = sum(48 <= byte < 58 for byte in inner)
        if not inner.strip(b"* ") or (action == "mask" and b"*" in inner and shown <= _SHOWN):
            return value  # empty, or masked already
        if not fits(shape, inner):
            return self._masker.mask(value)
        self.column_hits.append((place, place + len(value), name))
        masked = b"***" if action == "wipe" else self._masker.number(inner, bare=False, resize=True)
        return b'"' + masked + b'"' if quoted else masked


def _quoted(marks: bytes) -> re.Pattern[bytes]:
    """What stands in quotes. A quote opens only where a field begins; elsewhere, as in 12" wide, it is
    a character like any other."""
    return re.compile(rb"(?<![^%b\r\n])%b\"?" % (re.escape(marks), _QUOTED))


_TOLD = re.compile(rb"(?:\xef\xbb\xbf)?sep=([^\r\n])(?:\r?\n|\r)?", re.IGNORECASE)
_LINE_END = re.compile(rb"\n|\r\n|\r(?=[^\n])")  # a \r that is last may be half of one


def _first(data: bytearray, quoted: re.Pattern[bytes], begin: int, *, last: bool) -> int:
    """Where the record ends that begins at `begin`, 0 when its end is not there yet."""
    for match in quoted.finditer(data, begin):
        end = _LINE_END.search(data, begin, match.start())
        if end:
            return end.end()
        begin = match.end()
    end = _LINE_END.search(data, begin)
    return end.end() if end else len(data) if last else 0
