"""Tracks of a magnetic stripe (ISO/IEC 7813) and EMV tag 57: what stands behind the PAN is sensitive
authentication data and is wiped whole, the PAN itself is masked like any other."""

from __future__ import annotations

import re
from collections.abc import Iterable

Data = bytes | bytearray

# Behind a PAN. Track 1: ^name^ expiry and the rest. Track 2: = or D, expiry, service code and the rest.
# No quote, bracket or backslash is taken, since those belong to what the track stands in.
_BEHIND = re.compile(
    rb"\^[^^\r\n\"<>\\]{2,26}\^[0-9^][^?\r\n\"<>\\]{0,60}"
    rb"|=(?:[0-9]{4}|=)[0-9=]*"
    rb"|[Dd][0-9]{7,}"
)
# With its sentinel in front a track is one, whether or not its number is a PAN that we know.
_WHOLE = re.compile(
    rb"%[A-Za-z]([0-9][0-9 ]{10,22})(?=\^[^^\r\n\"<>\\]{2,26}\^[0-9^])|;([0-9]{12,19})(?==[0-9]{7})"
)
BEHIND_DIGIT = re.compile(rb"[0-9][=Dd]")
"""What the rest of track 2 begins with, behind a PAN; `Places.other` has the other marks."""
_DIGITS = re.compile(rb"[0-9]+")


def wipe(data: Data, hits: Iterable[tuple[int, int, int]], shown: int = 4) -> list[tuple[int, int]]:
    """What must go of `data`, in bytes from start to end: the rest of every track whose PAN is one of
    `hits`, and all but the last `shown` digits of a number that only its track shows to be a PAN."""
    found = []
    for _, end, _ in hits:
        if end < len(data) and data[end] in b"=^Dd":
            behind = _BEHIND.match(data, end)
            if behind:
                found.append((end + 1, behind.end()))
    if b"^" in data or (b";" in data and b"=" in data):
        for whole in _WHOLE.finditer(data):
            number = 1 if whole.group(1) else 2
            last = whole.end(number) - shown
            found += [run.span() for run in _DIGITS.finditer(data, whole.start(number), last)]
            behind = _BEHIND.match(data, whole.end(number))
            if behind:
                found.append((whole.end(number) + 1, behind.end()))
    return found
