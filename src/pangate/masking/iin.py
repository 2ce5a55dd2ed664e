"""The issuer ranges: read from `iin.csv`, switched by pack and network, compiled with pyahocorasick into
the numpy tables that the kernel runs on."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import ahocorasick
import numpy as np
import numpy.typing as npt

from pangate.errors import MaskingError

SHORTEST, LONGEST, DEPTH = 12, 19, 8
"""Digits of the shortest and the longest PAN, and of the longest prefix."""

CORE = "core"

EIGHT_PLUS_FOUR = frozenset({"visa", "mastercard", "discover", "jcb", "unionpay"})
"""Networks whose 16-digit PANs may show eight and four digits (PCI SSC FAQ 1091)."""


@dataclass(frozen=True, slots=True)
class Range:
    """Issuer prefixes from `first` to `last` (equally long), and what they allow."""

    first: str
    last: str
    lengths: frozenset[int]
    network: str
    luhn: bool
    pack: str
    source: str

    def prefixes(self) -> Iterator[str]:
        """The prefixes, as few as say the same: a full decade is its shorter prefix."""
        low, high, width = int(self.first), int(self.last), len(self.first)
        while low <= high:
            step, digits = 1, width
            while digits > 1 and low % (step * 10) == 0 and low + step * 10 - 1 <= high:
                step *= 10
                digits -= 1
            yield str(low // step).zfill(digits)
            low += step


@dataclass(frozen=True, slots=True)
class Tables:
    """What the kernel runs on.

    `next` has shape (nodes, 10) and type uint16: the node behind each digit, 0 for none. `issuers`
    has shape (nodes, 10) and type uint8: lengths with the Luhn check, lengths without it (bit n for
    12 + n digits), then the network's index for each of the eight lengths."""

    next: npt.NDArray[np.uint16]
    issuers: npt.NDArray[np.uint8]
    networks: tuple[str, ...]
    eight_plus_four: int


@cache
def ranges() -> tuple[Range, ...]:
    """Every range of `iin.csv`. MaskingError names the line that is wrong."""
    text = files("pangate.masking").joinpath("iin.csv").read_text(encoding="utf-8")
    found = []
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        try:
            found.append(_range(row))
        except (ValueError, KeyError) as wrong:
            raise MaskingError(f"iin.csv, line {number}: {wrong}") from wrong
    return tuple(found)


def _range(row: dict[str, str]) -> Range:
    first, last = row["prefix_from"], row["prefix_to"]
    if not (first.isdecimal() and last.isdecimal() and len(first) == len(last) <= DEPTH):
        raise ValueError(f"prefixes {first} to {last} are not equally long digits, at most {DEPTH}")
    if first > last:
        raise ValueError(f"{first} is above {last}")
    if row["luhn"] not in ("required", "optional"):
        raise ValueError(f"luhn is {row['luhn']!r}, not required or optional")
    lengths: set[int] = set()
    for part in row["lengths"].split():
        low, _, high = part.partition("-")
        lengths.update(range(int(low), int(high or low) + 1))
    if not lengths or min(lengths) < SHORTEST or max(lengths) > LONGEST:
        raise ValueError(f"lengths {row['lengths']} are not within {SHORTEST} to {LONGEST}")
    required = row["luhn"] == "required"
    return Range(
        first, last, frozenset(lengths), row["network"], required, row["pack"], row["source"]
    )


def packs() -> tuple[str, ...]:
    """Names of the packs, the core first."""
    return tuple(dict.fromkeys(r.pack for r in ranges()))


def networks() -> tuple[str, ...]:
    """Names of the networks of all packs. Their order is that of their indices, in every scanner."""
    return tuple(dict.fromkeys(r.network for r in ranges()))


def select(
    with_packs: Collection[str] = (CORE,),
    without: Collection[str] = (),
) -> tuple[Range, ...]:
    """The ranges of `with_packs`, less the networks in `without`. MaskingError for a name that does
    not exist, and when nothing would be left."""
    for name in with_packs:
        if name not in packs():
            raise MaskingError(f"pack {name!r} does not exist; there are {', '.join(packs())}")
    for name in without:
        if name not in networks():
            raise MaskingError(
                f"network {name!r} does not exist; there are {', '.join(networks())}"
            )
    chosen = tuple(r for r in ranges() if r.pack in with_packs and r.network not in without)
    if not chosen:
        raise MaskingError("no issuer range is left; switch on a pack or a network")
    return chosen


def compile_ranges(chosen: tuple[Range, ...]) -> Tables:
    """The tables for these ranges. Where ranges share a prefix and a length, a longer prefix decides
    the network, then the earlier range; Luhn is not required as soon as one of them does without."""
    names = networks()
    words: dict[str, list[Range]] = {}
    for r in chosen:
        for prefix in r.prefixes():
            words.setdefault(prefix, []).append(r)
    automaton = ahocorasick.Automaton()
    for prefix in words:
        automaton.add_word(prefix, prefix)
    edges = _edges(automaton)
    table = np.zeros((len(edges), 10), dtype=np.uint16)
    issuers = np.zeros((len(edges), 10), dtype=np.uint8)
    todo = [(0, "")]
    for node, prefix in todo:
        # What a prefix allows, the prefixes that it begins with allow too: `issuers[node]` has that
        # from its parent already.
        seen: set[int] = set()
        for r in words.get(prefix, ()):
            for length in r.lengths:
                bit = length - SHORTEST
                issuers[node, 0 if r.luhn else 1] |= 1 << bit
                if length not in seen:
                    issuers[node, 2 + bit] = names.index(r.network)
                    seen.add(length)
        for digit, target in edges[node].items():
            table[node, int(digit)] = target
            issuers[target] = issuers[node]
            todo.append((target, prefix + digit))
    allowed = sum(1 << i for i, name in enumerate(names) if name in EIGHT_PLUS_FOUR)
    return Tables(table, issuers, names, allowed)


def _edges(automaton: ahocorasick.Automaton) -> list[dict[str, int]]:
    """The automaton's trie as edges by node, numbered breadth first from its root.

    `dump` names nodes by their addresses cut to 32 bits; that these are unique is checked. It needs a
    finished automaton, but the failure links are of no use to prefixes that are anchored."""
    automaton.make_automaton()
    nodes, links, _failures = automaton.dump()
    if len({node for node, _ in nodes}) != len(nodes):
        raise MaskingError("two nodes of the issuer automaton cannot be told apart; try again")
    after: dict[int, dict[str, int]] = {node: {} for node, _ in nodes}
    inner = set()
    for source, letter, target in links:
        after[source][letter.decode() if isinstance(letter, bytes) else letter] = target
        inner.add(target)
    (root,) = (node for node, _ in nodes if node not in inner)
    number = {root: 0}
    order = [root]
    for node in order:
        for target in after[node].values():
            number[target] = len(order)
            order.append(target)
    return [{letter: number[target] for letter, target in after[n].items()} for n in order]
