"""What was found: where, what, and how likely it is a PAN."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Data = bytes | bytearray

CONFIDENCES = ("low", "medium", "high")


class Hit(NamedTuple):
    """One value that is masked. `start` and `end` are offsets into what was searched. `rule` is "pan",
    "track", "column:<rule>" or "pattern:<name>"; `decoder` is "" where it stands in plain ASCII.
    `masked` never holds more than the masker's kind allows; `confidence` is low, medium or high."""

    start: int
    end: int
    network: str
    masked: str
    rule: str
    decoder: str
    confidence: str


class Edit(NamedTuple):
    """`text` takes the place of data[start:end]."""

    start: int
    end: int
    text: bytes


def clusters(hits: Sequence[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Hits that overlap, together."""
    together: list[tuple[int, int, int]] = []
    end = -1
    for hit in sorted(hits):
        if together and hit[0] >= end:
            yield together
            together = []
        together.append(hit)
        end = max(end, hit[1]) if len(together) > 1 else hit[1]
    if together:
        yield together


# RFC 9562: version 1 to 8, variant 8 to b. One that holds no letter could as well be a number, and what
# goes on in either direction is no UUID.
UUID = re.compile(
    rb"(?<![0-9A-Za-z_\-])[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-"
    rb"[0-9a-fA-F]{12}(?![0-9A-Za-z_\-])"
)
_LENGTH = 36


def in_uuid(data: Data, start: int, end: int) -> bool:
    """Whether data[start:end] is within a UUID that has at least one letter."""
    first = max(0, start - _LENGTH)
    for match in UUID.finditer(data, first, min(len(data), end + _LENGTH + 1)):
        if match.start() <= start and end <= match.end():
            # `first` may have cut what stands before it, so that is looked at again
            whole = UUID.match(data, match.start())
            return whole is not None and not whole.group().replace(b"-", b"").isdigit()
    return False


_WORDS = re.compile(
    rb"card|pan\b|visa|master|amex|discover|diners|jcb|maestro|credit|debit|\bcc", re.IGNORECASE
)
_NEAR = 32
_REGULAR = {(4, 6, 5), (4, 6, 4), (4, 4, 4, 4), *((4, 4, 4, 4, n) for n in (1, 2, 3)), (4, 4, 4, 1)}


def confidence(data: Data, start: int, end: int, *, plain: bool = True) -> str:
    """How likely a hit is a PAN. low: digits that only join over irregular separators, or that a letter
    touches; high: digits of a usual shape with a word about cards in the 32 bytes before; medium:
    everything else. What is not `plain` stands in an encoding, so that its shape says nothing."""
    if plain:
        text = bytes(data[start:end])
        sizes = tuple(len(group) for group in re.split(rb"[ \-]", text))
        touched = (start > 0 and _letter(data[start - 1])) or (
            end < len(data) and _letter(data[end])
        )
        mixed = b" " in text and b"-" in text
        if touched or mixed or (len(sizes) > 1 and sizes not in _REGULAR):
            return "low"
    before = bytes(data[max(0, start - _NEAR) : start])
    return "high" if _WORDS.search(before.rpartition(b"\n")[2]) else "medium"


def _letter(byte: int) -> bool:
    return 65 <= byte <= 90 or 97 <= byte <= 122
