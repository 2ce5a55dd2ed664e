"""A text without the values in it, for when they may not be kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from pangate._shape import shape
from pangate.sql.tree import MAX_TEXT

WIPED = "***"

_AGAIN = r"\s(?:\s|--[^\n\r]*[\n\r])*+"
"""What may stand between two strings that are one; that a newline is in it is not asked for."""

_TOKEN = re.compile(
    rf"""
      (?P<line>--[^\n\r]*)
    | (?P<block>/\*)
    | (?P<string>
          [eE]'(?:[^'\\]|\\.|'')*+(?:'{_AGAIN}'(?:[^'\\]|\\.|'')*+)*+(?:'|\\?\Z)
        | (?:[uU]&|[bBxXnN])?'(?:[^']|'')*+(?:'|\Z)
      )
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*+(?:"|\Z))
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    | (?P<word>[$]?[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<parameter>\$[0-9]+(?![0-9A-Za-z_$\x80-\U0010ffff]))
    | (?P<number>[$.]?[0-9][A-Za-z0-9_.$\x80-\U0010ffff]*)
    | \s+
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_LETTER = re.compile(r"[^\W\d_]")
_DIGITS = re.compile(r"[0-9]{3}")
_COMMENT = re.compile(r"/\*|\*/")


def without_values(text: str, *, understood: bool) -> str:
    """`text` with `***` for whatever stands in its literals and comments. Names stay, unless they are no more
    than digits; of a text that is not `understood`, which may be read wrongly here, those with three
    digits and more in a row go as well. Of one that is longer than is parsed, lists of rows may be shortened
    to the first."""
    if len(text) > MAX_TEXT:
        text = shape(text) or text
    return "".join(_pieces(text, understood))


def _pieces(text: str, understood: bool) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return
        at = found.end()
        kind, piece = found.lastgroup, found[0]
        if kind == "block":
            at = _behind_comment(text, at)
            yield f"/* {WIPED} */"
        elif kind == "line":
            yield f"-- {WIPED}"
        elif kind == "string":
            yield f"'{WIPED}'"
        elif kind == "dollar":
            end = text.find(piece, at)
            at = len(text) if end < 0 else end + len(piece)
            yield f"'{WIPED}'"
        elif kind == "number":
            yield WIPED
        elif kind == "quoted":
            kept = _LETTER.search(piece) and piece[0] == '"' and (understood or not _long(piece))
            yield piece if kept else f'"{WIPED}"'
        elif kind == "word":
            yield piece if understood or not _long(piece) else WIPED
        else:
            yield piece


def without_names(text: str, names: Iterable[str]) -> str | None:
    """`text` without `names`, as often as each is given. None when it is too long to look, or has comments,
    code or names of digits, of which nobody can say what they are about."""
    if len(text) > MAX_TEXT:
        return None
    left = Counter(names)
    out = []
    for found in _TOKEN.finditer(text):
        kind, piece = found.lastgroup, found[0]
        if kind in ("line", "block", "dollar") or (kind == "quoted" and not _LETTER.search(piece)):
            return None
        name = piece.lower() if kind == "word" else piece[1:-1] if kind == "quoted" else ""
        if left[name] > 0:
            left[name] -= 1
        else:
            out.append(piece)
    return "".join(out)


def _long(piece: str) -> bool:
    return _DIGITS.search(piece) is not None


def _behind_comment(text: str, at: int) -> int:
    """Where a comment ends that began in front of `at`; comments nest."""
    depth = 1
    for mark in _COMMENT.finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)


_HEX = re.compile(
    r"\\(?:[xX]([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|\+([0-9a-fA-F]{6})|u?([0-9a-fA-F]{4}))"
    r"|&#[xX]([0-9a-fA-F]{1,6});"
)
_OTHERS = ((re.compile(r"\\([0-7]{3})"), 8), (re.compile(r"&#([0-9]{1,7});"), 10))


def unescaped(text: str) -> str:
    """`text` with what stands for a character in the strings of SQL, JSON and XML read, in every way that it
    may be meant: to look for a name that hides so."""
    other = text
    for pattern, base in _OTHERS:
        other = _read(other, pattern, base)
    return f"{_read(text, _HEX, 16)}\n{other}"


def _read(text: str, pattern: re.Pattern[str], base: int) -> str:
    def character(found: re.Match[str]) -> str:
        number = int(next(filter(None, found.groups())), base)
        return chr(number) if number < 0x110000 else ""

    return pattern.sub(character, text)
