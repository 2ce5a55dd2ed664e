"""What was done to leaves, told from the hashes that they should have and those that they have."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Difference(NamedTuple):
    """One change. `kind` is "edited", "deleted", "inserted" or "moved". `sequence` is where the leaf
    belongs (for an inserted one: where it stands), and `other` where a moved one stands instead."""

    kind: str
    sequence: int
    other: int = 0


def differences(
    expected: Mapping[int, Sequence[bytes]], actual: Mapping[int, Sequence[bytes]]
) -> list[Difference]:
    """The changes that make `actual` of `expected`. Both map the index of the first leaf of a bundle to
    hashes; a bundle is in both or in none.

    A leaf that only stands elsewhere because others before it were taken out or put in is no change
    of its own."""
    belongs = {
        digest: first + place
        for first, hashes in expected.items()
        for place, digest in enumerate(hashes)
    }
    stands: dict[bytes, list[int]] = {}
    for first, hashes in actual.items():
        for place, digest in enumerate(hashes):
            stands.setdefault(digest, []).append(first + place)
    lost = {index for digest, index in belongs.items() if digest not in stands}
    found: list[Difference] = []
    strange: list[int] = []
    rights: dict[bytes, int] = {}
    for digest, places in stands.items():
        if digest not in belongs:
            strange += places
        else:
            # A copy of a leaf is put in, wherever it stands; the first that stands right is the leaf.
            right = belongs[digest] if belongs[digest] in places else places[0]
            rights[digest] = right
            strange += [place for place in places if place != right]
    for place in sorted(strange):
        if place in lost:
            lost.discard(place)
            found.append(Difference("edited", place + 1))
        else:
            found.append(Difference("inserted", place + 1))
    found += [Difference("deleted", index + 1) for index in lost]
    right_places = set(rights.values())
    in_order = [
        belongs[digest]
        for first in sorted(actual)
        for place, digest in enumerate(actual[first], first)
        if place in right_places
    ]
    by_index = {index: digest for digest, index in belongs.items()}
    for index in _out_of_order(in_order):
        found.append(Difference("moved", index + 1, rights[by_index[index]] + 1))
    return sorted(found, key=lambda item: (item.sequence, item.kind))


def _out_of_order(numbers: Iterable[int]) -> set[int]:
    """The fewest of `numbers` without which the others go up."""
    items = list(numbers)
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for place, number in enumerate(items):
        at = bisect_left(tails, number)
        before.append(ends[at - 1] if at else -1)
        if at == len(tails):
            tails.append(number)
            ends.append(place)
        else:
            tails[at] = number
            ends[at] = place
    kept = set()
    place = ends[-1] if ends else -1
    while place >= 0:
        kept.add(items[place])
        place = before[place]
    return set(items) - kept
