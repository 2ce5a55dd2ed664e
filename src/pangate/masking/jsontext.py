"""Edits of a JSON text that leave it JSON: outside of strings digits take the place of stars, and within
strings no escape is cut."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from pangate.masking.hit import Edit

Data = bytes | bytearray

# A string ends with its line at the latest, as the scanner has it too: lines are masked one by one.
_STRING = re.compile(rb'"((?:[^"\\\n]|\\[^\n])*)(?:"|\\?(?=\n)|\\?\Z)')
_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|[^u])|\\u")
_IN_NUMBER = b"0123456789.+-eE"
_LONGEST_NUMBER = 4096
_STAR = b"\\u002a"


def strings(data: Data) -> list[tuple[int, int]]:
    """Where the strings of a JSON text are, without their quotes."""
    return [match.span(1) for match in _STRING.finditer(data)]


def number_at(data: Data, start: int, end: int) -> tuple[int, int]:
    """The whole number, with its sign, fraction and exponent, that data[start:end] is a part of."""
    low, high = max(0, start - _LONGEST_NUMBER), min(len(data), end + _LONGEST_NUMBER)
    while start > low and data[start - 1] in _IN_NUMBER:
        start -= 1
    while end < high and data[end] in _IN_NUMBER:
        end += 1
    return start, end


class Fitting:
    """Makes edits of one JSON text fit into it. `data` keeps its length while this is in use."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._strings = strings(data)
        self._starts = [start for start, _ in self._strings]
        self._escapes: dict[int, list[tuple[int, int]]] = {}

    def within(self, start: int, end: int) -> bool:
        """Whether data[start:end] is inside of one string."""
        i = bisect_right(self._starts, start) - 1
        return i >= 0 and end <= self._strings[i][1]

    def fit(self, edits: Iterable[Edit]) -> Iterator[Edit]:
        """The edits, changed where they would break the text."""
        for edit in edits:
            if self.within(edit.start, edit.end):
                yield from self._in_string(edit)
            elif len(edit.text) != edit.end - edit.start:
                yield self._value(edit)
            else:
                yield from self._in_parts(edit)

    def _value(self, edit: Edit) -> Edit:
        """An edit outside of strings: what is no number becomes a string, in the place of all the number."""
        if edit.text[:1] in b"0123456789":
            return edit
        return Edit(*number_at(self._data, edit.start, edit.end), b'"' + edit.text + b'"')

    def _in_parts(self, edit: Edit) -> Iterator[Edit]:
        """An edit that is not inside of one string, byte by byte."""
        data, text = self._data, edit.text
        for k, new in enumerate(text):
            i = edit.start + k
            old = data[i]
            if self.within(i, i + 1):
                yield from self._in_string(Edit(i, i + 1, bytes((new,))))
                continue
            if new in b"*0" and 48 <= old < 58:
                behind = (
                    text[k + 1] if k + 1 < len(text) else data[i + 1] if i + 1 < len(data) else 0
                )
                if behind == 42 and i + 1 < len(data):
                    behind = data[i + 1]
                first = not (i and 48 <= data[i - 1] < 58)
                new = 49 if first and 48 <= behind < 58 else 48  # no leading zero
            elif new == 42:
                continue  # a bracket, a comma, a quote or a word
            if new != old:
                yield Edit(i, i + 1, bytes((new,)))

    def _in_string(self, edit: Edit) -> Iterator[Edit]:
        i = bisect_right(self._starts, edit.start) - 1
        escapes = self._escapes.get(i)
        if escapes is None:
            low, high = self._strings[i]
            escapes = [match.span() for match in _ESCAPE.finditer(self._data, low, high)]
            self._escapes[i] = escapes
        start, end, text = edit
        same = len(text) == end - start
        cut: list[Edit] = []
        at = bisect_right(escapes, (start, start)) - 1
        for low, high in escapes[max(0, at) :]:
            if low >= edit.end:
                break
            if high <= edit.start:
                continue
            whole = edit.start <= low and high <= edit.end
            if not same:
                start, end = min(start, low), max(end, high)
            elif whole:
                piece = text[low - start : high - start]
                if (b"\\" in piece or b'"' in piece) and not _ESCAPE.fullmatch(piece):
                    text = text[: low - start] + self._data[low:high] + text[high - start :]
            else:
                a, b = max(low, start), min(high, end)
                text = text[: a - start] + bytes(self._data[a:b]) + text[b - start :]
                if high - low == len(_STAR):
                    cut.append(Edit(low, high, _STAR))
        yield Edit(start, end, text)
        yield from cut
