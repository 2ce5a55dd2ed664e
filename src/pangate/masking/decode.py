"""Decoders: card numbers that do not stand in the data as plain ASCII digits.

A decoder reads data and yields views: a decoded text, which the scanner can look at, with the way back
from each of its bytes to the bytes of the data. What is masked in the view is masked in the data in the
data's own encoding, in the same number of bytes.

Each costs next to nothing where its context is absent (a byte that its encoding cannot do without), and
those that have no such byte are off until they are switched on. No view goes over a line end, so data
may be cut there, but for those of `wrapped`."""

from __future__ import annotations

import base64
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pangate._text import Look
from pangate.errors import MaskingError
from pangate.masking.hit import Edit

Data = bytes | bytearray


class Places(NamedTuple):
    """Where in some data a name with a value, or an encoded character that matters, may be; offsets in
    bytes, of more places than there are. `other`: there is a byte 0, as in wide encodings, or a mark
    that a track may have."""

    names: list[int]
    percent: list[int]
    slash: list[int]
    entity: list[int]
    plus: list[int]
    beyond: list[int]
    other: bool


def looker(ends: npt.NDArray[np.uint8]) -> Look:
    """What `look` takes; `ends` are those of `Columns.ends`."""
    return Look(ends, _points())


def look(data: Data | memoryview, at: Look) -> Places:
    """The places of `data`."""
    return Places(*at.places(data))


FEWEST = 12  # digits of the shortest PAN
_TAIL = 128
"""Encoded characters read behind a number, so that what follows the PAN on a track is seen."""


class View:
    """A decoded stretch of data. `text` is what is read, the scanner reads its first `limit` bytes; what
    follows is there for the rules about what stands behind a PAN. `at[i]` is the start and `to[i]` the
    end of what stands in the data for text[i]. `put(old, byte)` encodes one byte in as many bytes as
    `old` has, `encode(text)` any ASCII text."""

    def __init__(
        self,
        name: str,
        data: Data,
        text: bytearray,
        at: Sequence[int],
        to: Sequence[int],
        put: Callable[[bytes, int], bytes],
        encode: Callable[[bytes], bytes],
        limit: int | None = None,
    ) -> None:
        self.name = name
        self.text = text
        self.limit = len(text) if limit is None else limit
        self._data, self._at, self._to, self._put, self._encode = data, at, to, put, encode

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where text[start:end] stands in the data."""
        return self._at[start], self._to[end - 1]

    def fill(self, masked: bytes | bytearray) -> Iterator[Edit]:
        """The edits that turn `text` into `masked`, which is as long."""
        for i, (old, new) in enumerate(zip(self.text, masked, strict=True)):
            if old != new:
                start, end = self._at[i], self._to[i]
                yield Edit(start, end, self._put(bytes(self._data[start:end]), new))

    def replace(self, start: int, end: int, text: bytes) -> Edit:
        """The edit that puts `text` in the place of text[start:end]."""
        return Edit(*self.span(start, end), self._encode(text))


class Base64View(View):
    """A view of base64, in which letters do not stand for single bytes: an edit writes all of it.

    `self._at` holds the places of the letters in the data, line ends within them left out."""

    def __init__(self, name: str, data: Data, letters: bytes, at: Sequence[int]) -> None:
        self._url = b"-" in letters or b"_" in letters
        padded = letters + b"=" * (-len(letters) % 4)
        if len(letters) % 4 == 1:
            padded = letters[:-1]
        plain = padded.translate(_FROM_URL) if self._url else padded
        text = bytearray(base64.b64decode(plain))
        super().__init__(name, data, text, at, at, lambda old, new: old, lambda text: text)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the letters stand that hold text[start:end]."""
        return self._at[start * 8 // 6], self._at[(end * 8 - 1) // 6] + 1

    def fill(self, masked: bytes | bytearray) -> Iterator[Edit]:
        """One edit for each letter that changes."""
        for at, old, new in zip(
            self._at, self._letters(self.text), self._letters(masked), strict=False
        ):
            if old != new:
                yield Edit(at, at + 1, bytes((new,)))

    def replace(self, start: int, end: int, text: bytes) -> Edit:
        """Base64 cannot grow within a text that others measured: such a number loses all its digits."""
        masked = bytearray(self.text)
        masked[start:end] = _STARS.sub(b"*", bytes(masked[start:end]))
        edits = list(self.fill(masked))
        first, last = edits[0].start, edits[-1].end
        changed = bytearray(self._data[first:last])
        for edit in edits:
            changed[edit.start - first] = edit.text[0]
        return Edit(first, last, bytes(changed))

    def _letters(self, text: bytes | bytearray) -> bytes:
        encoded = base64.b64encode(text)
        return encoded.translate(_TO_URL) if self._url else encoded


_STARS = re.compile(rb"[0-9]")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_TO_URL = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class Decoder:
    """`views(data, places)` yields the views of one encoding. `context` says cheaply that there is none.
    `default` ones are on when nothing else is said; those that look `over_lines` cannot be streamed, and
    those that join digits `over_marks` (commas and others) let a stream cut at fewer places."""

    name: str
    default: bool
    context: Callable[[Data, Places], bool]
    views: Callable[[Data, Places], Iterator[View]]
    what: str
    over_lines: bool = False
    over_marks: bool = False


# --- encodings of single characters: an anchor is found, the number around it is read -----------------


class _Escape(NamedTuple):
    """How a character is written. `anchor` finds where a scanner of plain bytes may go wrong: at an
    encoded digit or separator, at the digit that ends any other encoded character, at the = or ^ of a
    track. `before` are the plain digits and separators in front of it, `chain` those of either form,
    `one` is any one character; its groups are numbers in `bases`."""

    name: str
    anchor: re.Pattern[bytes]
    before: re.Pattern[bytes]
    chain: re.Pattern[bytes]
    one: re.Pattern[bytes]
    bases: tuple[int, ...]
    separator: bytes
    put: Callable[[bytes, int], bytes]


def _escape(
    name: str,
    encoded: bytes,
    one: bytes,
    bases: tuple[int, ...],
    put: Callable[[bytes, int], bytes],
    *,
    anchor: bytes = b"",
    separator: bytes = b"",
) -> _Escape:
    plain = rb"[0-9 \-" + separator + rb"]"
    return _Escape(
        name,
        re.compile(encoded + anchor),
        re.compile(plain + rb"*\Z"),
        re.compile(rb"(?:" + plain + rb"|" + encoded + rb")+"),
        re.compile(one + rb"|[^\r\n]"),
        bases,
        separator,
        put,
    )


def _escaped(how: _Escape, data: Data, anchors: list[int]) -> Iterator[View]:
    done = 0
    for anchor in anchors:
        if anchor < done or how.anchor.match(data, anchor) is None:
            continue
        start = _start(how, data, done, anchor)
        chain = how.chain.match(data, start)
        if chain is None or len(chain.group()) < FEWEST:
            continue
        done = chain.end()
        text = bytearray()
        at: list[int] = []
        to: list[int] = []
        for one in how.one.finditer(data, start, min(len(data), done + _TAIL)):
            if one.start() != (to[-1] if to else start):
                break  # a line end
            text.append(_value(one, how))
            at.append(one.start())
            to.append(one.end())
        yield View(how.name, data, text, at, to, how.put, bytes, bisect_left(at, done))


def _start(how: _Escape, data: Data, done: int, anchor: int) -> int:
    """Where the number begins that the anchor is in or in front of."""
    start = anchor
    while start > done:  # back over the plain digits, however many
        low = max(done, start - 64)
        before = how.before.search(data, low, start)
        start = before.start() if before else start
        if start > low:
            break
    # These may be the end of an encoded character, and the anchor may be one that is no digit, as the
    # last of %C3%A9 is.
    first = max(done, start - _LONGEST_ESCAPE)
    while first <= anchor:
        one = how.one.match(data, first) if data[first] in _LEADS else None
        if one and len(one.group()) > 1 and first <= start < one.end():
            if _value(one, how) in _CHAIN:
                return first
            start = first = one.end()
        else:
            first += 1
    return start


_LONGEST_ESCAPE = 8
_LEADS = b"%\\&"
_CHAIN = b"0123456789 -"


def _value(one: re.Match[bytes], how: _Escape) -> int:
    whole = one.group()
    if len(whole) == 1:
        return 0x20 if whole == how.separator else whole[0]
    for group, base in zip(one.groups(), how.bases, strict=True):
        if group is not None:
            return fold(int(group, base))
    return 0x20  # a separator with a name


def fold(point: int) -> int:
    """The ASCII byte that a code point is read as, 0xff for none."""
    if point < 0x80:
        return point
    if point > 0x10FFFF:
        return 0xFF
    character = chr(point)
    if character in SEPARATORS:
        return 0x20
    digit = unicodedata.decimal(character, None)
    return 0xFF if digit is None else 0x30 + digit


def _put_percent(old: bytes, new: int) -> bytes:
    return bytes((new,)) if len(old) == 1 else b"%%%02X" % new


def put_slash(old: bytes, new: int) -> bytes:
    """A character in the place of one that may be escaped as \\x34 or \\u0034, escaped alike."""
    if len(old) == 1:
        return bytes((new,))
    return old[:-2] + b"%02x" % new if b"x" in old else old[:-4] + b"%04x" % new


def _put_entity(old: bytes, new: int) -> bytes:
    if len(old) == 1:
        return bytes((new,))
    if old[2:3] in (b"x", b"X"):
        return old[:3] + (b"%x" % new).zfill(len(old) - 4) + b";"
    return b"&#" + str(new).encode().zfill(len(old) - 3) + b";"


_DIGIT = (
    rb"(?:00(?:3[0-9]|2[0dD]|[aA]0)|[fF]{2}1[0-9]|06[6fF][0-9]"
    rb"|20(?:0[0-9a-fA-F]|1[0-5]|2[a-fA-F]|6[6-9]))"
)
_PERCENT = _escape(
    "percent",
    rb"%(?:3[0-9]|20|2[dD])",
    rb"%([0-9a-fA-F]{2})",
    (16,),
    _put_percent,
    anchor=rb"|%[0-9a-fA-F][0-9](?=[0-9])|%(?:(?<=[0-9]%)|(?<=%3[0-9]%))(?:3[dD]|5[eE])",
    separator=b"+",
)
_PLUS = _escape(
    "plus", rb"\+[0-9]{4,6}\+(?=[0-9])", rb"(?!)()", (16,), _put_percent, separator=b"+"
)
_SLASH = _escape(
    "escapes",
    rb"\\+(?:u" + _DIGIT + rb"|x(?:3[0-9]|2[0dD]))",
    rb"\\+u([0-9a-fA-F]{4})|\\+x([0-9a-fA-F]{2})",
    (16, 16),
    put_slash,
    anchor=rb"|\\+(?:u[0-9a-fA-F]{3}|x[0-9a-fA-F])[0-9](?=[0-9])|(?<=[0-9\\])\\(?:u00|x)(?:3[dD]|5[eE])",
)
_ENTITY = _escape(
    "entities",
    rb"&(?:#(?:0{0,5}(?:4[89]|5[0-7]|32|45|160)|[xX]0{0,5}(?:3[0-9]|2[0dD]|[aA]0));|nbsp;)",
    rb"&#[xX]([0-9a-fA-F]{1,7});|&#([0-9]{1,8});|&nbsp;",
    (16, 10),
    _put_entity,
)


def _percent(data: Data, places: Places) -> Iterator[View]:
    return _escaped(_PERCENT, data, places.percent)


def _plus(data: Data, places: Places) -> Iterator[View]:
    return _escaped(_PLUS, data, places.plus)


def _slash(data: Data, places: Places) -> Iterator[View]:
    return _escaped(_SLASH, data, places.slash)


def _entity(data: Data, places: Places) -> Iterator[View]:
    return _escaped(_ENTITY, data, places.entity)


# --- encodings of the whole text -----------------------------------------------------------------------

SEPARATORS = frozenset(
    "\u00a0\u00ad\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d"
    "\u2010\u2011\u2012\u2013\u2014\u2015\u202f\u205f\u2060\u2212\u3000\ufe58\ufe63\ufeff\uff0d"
    # marks of direction, which come along when a number is copied from a form
    "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    "\udca0"  # a no-break space that is not UTF-8 but Latin-1
)
"""Beyond ASCII, what may stand between the digits of a PAN."""

_SEPARATED = "[ \\-" + "".join(sorted(SEPARATORS)) + "]"
_UNICODE = re.compile(rf"\d(?:{_SEPARATED}{{0,2}}\d){{{FEWEST - 1},}}")
_STARS_BY_LENGTH = {1: b"*", 2: "\u066d".encode(), 3: "\uff0a".encode(), 4: "\U0001f7b6".encode()}
"""A mask of as many bytes as the digit had in UTF-8, so that neither bytes nor characters move."""


@cache
def _points() -> npt.NDArray[np.uint8]:
    """Which code points are digits (1) and which may stand between digits (2)."""
    table = np.zeros(0x20000, dtype=np.uint8)
    # Ten of a script stand in a row (The Unicode Standard, 4.6), so every tenth code point finds them all.
    for some in range(0x80, len(table), 10):
        if chr(some).isdecimal():
            table[[i for i in range(some - 9, some + 10) if chr(i).isdecimal()]] = 1
    table[:0x80] = 0
    table[[ord(separator) for separator in SEPARATORS]] = 2
    return table


def _unicode(data: Data, places: Places) -> Iterator[View]:
    done = 0
    for place in places.beyond:
        if place >= done:
            begin = data.rfind(b"\n", done, place) + 1 or done
            end = data.find(b"\n", place)
            done = end if end >= 0 else len(data)
            yield from _unicode_line(data, begin, bytes(data[begin:done]))


def _unicode_line(data: Data, begin: int, line: bytes) -> Iterator[View]:
    whole = line.decode("utf-8", "surrogateescape")
    seen, position = 0, begin
    for match in _UNICODE.finditer(whole):
        if match.group().isascii():
            continue
        position += len(whole[seen : match.start()].encode("utf-8", "surrogateescape"))
        seen, here = match.start(), position
        text = bytearray()
        at: list[int] = []
        to: list[int] = []
        for character in whole[match.start() : match.end() + _TAIL]:
            if character in "\r\n":
                break
            length = len(character.encode("utf-8", "surrogateescape"))
            byte = fold(ord(character))
            if byte == 0x20 and text and text[-1] in b" -":
                to[-1] = here + length  # two separators are one
            else:
                text.append(byte)
                at.append(here)
                to.append(here + length)
            here += length
        stop = position + len(match.group().encode("utf-8", "surrogateescape"))
        limit = bisect_left(at, stop)
        yield View("unicode", data, text, at, to, _put_unicode, bytes, limit)


def _put_unicode(old: bytes, new: int) -> bytes:
    if len(old) == 1:
        return bytes((new,))
    if not 48 <= new < 58:
        return _STARS_BY_LENGTH.get(len(old), b"*" * len(old))
    character = old.decode()
    return chr(ord(character) - unicodedata.decimal(character) + new - 48).encode()


def may_be_wide(data: Data) -> bool:
    """Whether there may be a PAN in UTF-16 or UTF-32 in here."""
    return _MAY_BE_WIDE.search(data) is not None


_MAY_BE_WIDE = re.compile(rb"[0-9 \-](?:\0{1,3}[0-9 \-]){%d}" % (FEWEST - 1))


def _wide(name: str, codec: str, before: int, behind: int) -> Callable[[Data], Iterator[View]]:
    """Units of one byte of ASCII with zeros before or behind it."""
    low, high = b"\0" * before, b"\0" * behind
    number = re.compile(rb"(?:" + low + rb"[0-9 \-]" + high + rb"){%d,}" % FEWEST)
    rest = re.compile(rb"(?:" + low + rb"[\x20-\x7e]" + high + rb"){0,%d}" % _TAIL)
    size = before + behind + 1

    def views(data: Data) -> Iterator[View]:
        for match in number.finditer(data):
            start, end = match.span()
            if (
                before
                and start
                and data[start - 1] in _CHAIN
                and (start == 1 or data[start - 2] == 0)
                and data[end : end + 1] == b"\0"
            ):
                continue  # the other order behind ASCII, read from its second byte
            tail = rest.match(data, end)
            end = tail.end() if tail else end
            text = bytearray(data[start + before : end : size])
            yield View(
                name,
                data,
                text,
                range(start, end, size),
                range(start + size, end + size, size),
                lambda old, new: low + bytes((new,)) + high,
                lambda text: text.decode("ascii").encode(codec),
                len(match.group()) // size,
            )

    return views


_WIDE = (
    _wide("utf16", "utf-16-le", 0, 1),
    _wide("utf16", "utf-16-be", 1, 0),
    _wide("utf16", "utf-32-le", 0, 3),
    _wide("utf16", "utf-32-be", 3, 0),
)


def _utf16(data: Data, places: Places) -> Iterator[View]:
    for views in _WIDE:
        yield from views(data)


_HEX_DIGITS = re.compile(rb"3[0-9](?:3[0-9]|2[0dD]){%d}" % (FEWEST - 1))
_HEX_MARKED = re.compile(rb"\\x(?=[0-9a-fA-F]{24})")
_HEX_BEFORE = re.compile(rb"[0-9a-fA-F]*\Z")
_HEX_RUN = re.compile(rb"[0-9a-fA-F]*")
_HEX_REACH = 512  # bytes read before and behind the digits


def _hex_view(name: str, data: Data, start: int, end: int) -> View:
    end -= (end - start) % 2
    return View(
        name,
        data,
        bytearray.fromhex(data[start:end].decode("ascii")),
        range(start, end, 2),
        range(start + 2, end + 2, 2),
        lambda old, new: b"%02x" % new,
        lambda text: text.hex().encode(),
    )


def _bytea(data: Data, places: Places) -> Iterator[View]:
    for place in places.slash:
        mark = _HEX_MARKED.match(data, place)
        run = _HEX_RUN.match(data, mark.end()) if mark else None
        if run and _HEX_DIGITS.search(data, run.start(), run.end()):
            yield _hex_view("bytea", data, run.start(), run.end())


def _hex(data: Data, places: Places) -> Iterator[View]:
    done = 0
    while digits := _HEX_DIGITS.search(data, done):
        before = _HEX_BEFORE.search(data, max(done, digits.start() - _HEX_REACH), digits.start())
        start = before.start() if before else digits.start()
        run = _HEX_RUN.match(data, digits.end())
        end = run.end() if run else digits.end()
        # where the pairs begin is not known
        yield _hex_view("hex", data, start, end)
        yield _hex_view("hex", data, start + 1, end)
        done = end


_BASE64_DIGITS = re.compile(rb"(?:[ILMNO][CDSTijyz][A0EIMQUYcgk][wxyz0-5gt]){3}")
_WRAPPED_DIGITS = re.compile(rb"(?:[ILMNO][CDSTijyz][A0EIMQUYcgk][wxyz0-5gt](?:\r?\n)?){3}")
_BASE64_BEFORE = re.compile(rb"[A-Za-z0-9+/_\-]*\Z")
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/_\-]*")
_WRAPPED_BEFORE = re.compile(rb"(?:[A-Za-z0-9+/_\-]|(?<=[A-Za-z0-9+/_\-])\r?\n)*\Z")
_WRAPPED_RUN = re.compile(rb"(?:[A-Za-z0-9+/_\-]|\r?\n(?=[A-Za-z0-9+/_\-]))*")
_BASE64_REACH = 512


def _base64(data: Data, places: Places) -> Iterator[View]:
    return _letters("base64", _BASE64_DIGITS, _BASE64_BEFORE, _BASE64_RUN, data)


def _letters(
    name: str,
    number: re.Pattern[bytes],
    before: re.Pattern[bytes],
    behind: re.Pattern[bytes],
    data: Data,
) -> Iterator[View]:
    done = 0
    while digits := number.search(data, done):
        front = before.search(data, max(0, digits.start() - _BASE64_REACH), digits.start())
        start = front.start() if front else digits.start()
        reach = min(len(data), digits.end() + _BASE64_REACH)
        run = behind.match(data, start, reach)
        end = run.end() if run else digits.end()
        at = [i for i in range(start, end) if data[i] not in b"\r\n"]
        # the digits show where the fours begin
        at = at[sum(i < digits.start() for i in at) % 4 :]
        if len(at) % 4 == 1:
            at.pop()
        yield Base64View(name, data, bytes(data[i] for i in at), at)
        done = end if end < reach else max(digits.end(), end - _BASE64_REACH // 2)


# --- plain digits that the scanner's own chains do not allow ------------------------------------------


def _grouped(mark: bytes) -> re.Pattern[bytes]:
    """Digits in the groups that cards have, with the same mark between all of them."""
    return re.compile(
        rb"(?<![0-9])[0-9]{4}("
        + mark
        + rb")(?:[0-9]{4}\1[0-9]{4}\1(?:[0-9]{4}\1)?[0-9]{1,4}|[0-9]{6}\1[0-9]{4,5})(?![0-9])"
    )


_SEPARATORS = _grouped(rb"[^0-9A-Za-z\r\n]{1,3}")
_WRAPPED = _grouped(rb"[ \t]*\r?\n[ \t]*")
_ZEROS = re.compile(rb"(?<![0-9])0+([1-9][0-9]{11,18})(?![0-9])")
_LONG_RUN = re.compile(rb"[0-9]{13,}")
_STARTS = 64  # of windows in one view
_LONGEST = 19


def _plain(name: str, data: Data, places: list[int], text: bytearray, end: int) -> View:
    """A view of bytes as they are, the scanner's part of which ends where `end` is in the data."""
    after = [i + 1 for i in places]
    limit = bisect_left(places, end)
    return View(name, data, text, places, after, lambda old, new: bytes((new,)), bytes, limit)


def _separators(data: Data, places: Places) -> Iterator[View]:
    return _groups("separators", _SEPARATORS, data)


def _wrapped(data: Data, places: Places) -> Iterator[View]:
    yield from _groups("wrapped", _WRAPPED, data)
    yield from _letters("wrapped", _WRAPPED_DIGITS, _WRAPPED_BEFORE, _WRAPPED_RUN, data)


def _groups(name: str, pattern: re.Pattern[bytes], data: Data) -> Iterator[View]:
    for match in pattern.finditer(data):
        text = bytearray()
        places: list[int] = []
        for i in range(match.start(), min(len(data), match.end() + _TAIL)):
            if i < match.end() and not 48 <= data[i] < 58:
                if text[-1] != 0x20:  # a mark is one space
                    text.append(0x20)
                    places.append(i)
                continue
            text.append(data[i])
            places.append(i)
        yield _plain(name, data, places, text, match.end())


def _zeros(data: Data, places: Places) -> Iterator[View]:
    for match in _ZEROS.finditer(data):
        start, end = match.start(1), min(len(data), match.end() + _TAIL)
        at = list(range(start, end))
        yield _plain("zeros", data, at, bytearray(data[start:end]), match.end())


def _inside(data: Data, places: Places) -> Iterator[View]:
    for run in _LONG_RUN.finditer(data):
        for first in range(run.start(), run.end() - FEWEST + 1, _STARTS):
            text = bytearray()
            at: list[int] = []
            for start in range(first, min(first + _STARTS, run.end() - FEWEST + 1)):
                for end in range(start + FEWEST, min(start + _LONGEST, run.end()) + 1):
                    if (start, end) != run.span():  # the whole run is the scanner's own
                        text += data[start:end] + b"|"
                        at += range(start, end + 1)
            after = [i + 1 for i in at]
            yield View("inside", data, text, at, after, lambda old, new: bytes((new,)), bytes)


DECODERS = {
    decoder.name: decoder
    for decoder in (
        Decoder("escapes", True, lambda data, places: bool(places.slash), _slash, r"\u0034, \x34"),
        Decoder(
            "percent",
            True,
            lambda data, places: bool(places.percent),
            _percent,
            "%34, and %20 between",
        ),
        Decoder(
            "plus",
            True,
            lambda data, places: bool(places.plus),
            _plus,
            "+ for the spaces of a form",
        ),
        Decoder(
            "entities",
            True,
            lambda data, places: bool(places.entity),
            _entity,
            "&#52;, &#x34;, &nbsp;",
        ),
        Decoder(
            "unicode",
            True,
            lambda data, places: bool(places.beyond),
            _unicode,
            "digits and spaces of Unicode",
        ),
        Decoder(
            "utf16",
            True,
            lambda data, places: b"\0" in data,
            _utf16,
            "UTF-16 and UTF-32, both ends first",
        ),
        Decoder(
            "bytea",
            True,
            lambda data, places: bool(places.slash),
            _bytea,
            r"\x and hexadecimal ASCII",
        ),
        Decoder("hex", False, lambda data, places: True, _hex, "hexadecimal ASCII without a mark"),
        Decoder("base64", False, lambda data, places: True, _base64, "base64, also the URL kind"),
        Decoder(
            "separators",
            False,
            lambda data, places: True,
            _separators,
            "4.4.4.4 and 4.6.5 with any separator",
            over_marks=True,
        ),
        Decoder(
            "zeros",
            False,
            lambda data, places: b"0" in data,
            _zeros,
            "zeros in front, to a fixed width",
        ),
        Decoder(
            "wrapped",
            False,
            lambda data, places: b"\n" in data,
            _wrapped,
            "base64 and fours over lines",
            over_lines=True,
        ),
        Decoder(
            "inside", False, lambda data, places: True, _inside, "within a longer run of digits"
        ),
    )
}
"""Every decoder by its name."""

DEFAULT = tuple(name for name, decoder in DECODERS.items() if decoder.default)


def choose(names: str | Collection[str]) -> tuple[Decoder, ...]:
    """Decoders by name, in the order of `DECODERS`; "default" and "all" stand for what they say.
    MaskingError for a name that does not exist."""
    wanted: set[str] = set()
    for name in (names,) if isinstance(names, str) else names:
        if name == "default":
            wanted.update(DEFAULT)
        elif name == "all":
            wanted.update(DECODERS)
        elif name in DECODERS:
            wanted.add(name)
        else:
            raise MaskingError(
                f"decode: there is no decoder {name!r}; there are default, all, {', '.join(DECODERS)}"
            )
    return tuple(decoder for name, decoder in DECODERS.items() if name in wanted)
