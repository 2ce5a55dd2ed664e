"""Questions to the index, answered window by window, from the newest event on."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pangate.audit.index.schema import BLOCK, BLOCK_BITS, KIND
from pangate.audit.index.sets import Numbers, unpack, unpack_counts, unpack_numbers
from pangate.errors import LedgerError

WINDOW = 64
"""Blocks that are looked at together at the most; the first window is one, for the newest are mostly
enough."""

FEW = 256
"""Candidates of a window that are looked up in the words one by one."""

Mask = npt.NDArray[np.bool_]
"""For each event of a window, whether it is meant."""

WORD = re.compile(r"\w+")

LAST_PART = ("principal", "table")
"""Kinds whose value may be asked for by what stands behind its last `#` or `.`."""


class Hit(NamedTuple):
    """An event that was found. `ended` is the sequence of the one that says how the statement ended; 0 for
    none. Offsets are places in the record's file, -1 for none."""

    sequence: int
    offset: int
    ended: int
    ended_offset: int


class Total(NamedTuple):
    """How many events, how many card numbers were masked in what they gave, and how many events are
    failures."""

    events: int
    masked: int
    failed: int


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for: events that have, of each kind in `terms`, one of its values, all words of `text`,
    a time from `since` to before `until` (seconds since 1970), `masked` card numbers at least, and a sequence
    behind `after` and before `before`.

    A value may have `*` for any characters; an address may be a network ("10.0.0.0/8"). How a statement ended
    is left out as an event of its own, unless its code is asked for or `every` is true."""

    terms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    text: str = ""
    since: float | None = None
    until: float | None = None
    masked: int = 0
    after: int = 0
    before: int | None = None
    every: bool = False


def search(db: sqlite3.Connection, asked: Query, most: int | None) -> list[Hit]:
    """Up to `most` events that `asked` is about, the newest first."""
    found: list[Hit] = []
    for window in _windows(db, asked):
        left = None if most is None else most - len(found)
        places = np.flatnonzero(window.mask)[::-1][:left]
        found += window.hits(places)
        if most is not None and len(found) >= most:
            break
    return found


def count(
    db: sqlite3.Connection, asked: Query, by: Sequence[str]
) -> dict[str, list[tuple[str, Total]]]:
    """For each kind in `by`, the totals of each of its values, the most events first. Of the kind `all`
    there is one value: everything that `asked` is about."""
    sums: dict[str, defaultdict[int, list[int]]] = {
        kind: defaultdict(lambda: [0, 0, 0]) for kind in by
    }
    failures = _ids(db, "success", "false")
    for window in _windows(db, asked):
        masked = window.masked()
        failed = window.having(failures)
        for kind in by:
            total = sums[kind]
            for term, start, bits, counts in window.postings(kind):
                places = unpack(bits) + start
                meant = window.mask[places]
                if not meant.any():
                    continue
                places = places[meant]
                numbers = masked[places] if counts is None else unpack_counts(counts)[meant]
                into = total[term]
                into[0] += len(places)
                into[1] += int(numbers.sum())
                into[2] += int(failed[places].sum())
    names = {
        kind: dict(db.execute("select id, value from terms where kind = ?", (KIND[kind],)))
        for kind in by
    }
    return {
        kind: sorted(
            ((names[kind][term], Total(*total)) for term, total in sums[kind].items()),
            key=lambda item: (-item[1].events, item[0]),
        )
        for kind in by
    }


def values(db: sqlite3.Connection, kind: str) -> list[tuple[str, int]]:
    """Every value of a kind with the sequence that it was first seen at."""
    return db.execute(
        "select value, first from terms where kind = ? order by first, value", (KIND[kind],)
    ).fetchall()


def first_at(db: sqlite3.Connection, since: float) -> int:
    """The sequence of the first event at `since` or later; one behind the last for none."""
    micros = int(since * 1e6)
    rows = db.execute(
        "select block, times from blocks where latest >= ? order by block limit 1", (micros,)
    )
    for block, times in rows:
        place = int(np.flatnonzero(unpack_numbers(times) >= micros)[0])
        return int(block) * BLOCK + place + 1
    found = db.execute("select value from meta where key = 'sequence'").fetchone()
    return int(found[0]) + 1 if found else 1


# Windows


class _Window:
    """Blocks `first` to `last`; `mask` has a place for each of their events."""

    def __init__(self, db: sqlite3.Connection, first: int, last: int) -> None:
        self._db = db
        self.first, self.last = first, last
        self.mask: Mask = np.ones((last - first + 1) * BLOCK, np.bool_)

    def having(self, ids: Sequence[int]) -> Mask:
        """The events that have any of these terms."""
        found = np.zeros(len(self.mask), np.bool_)
        for number in ids:
            for block, bits in self._db.execute(
                "select block, bits from postings where term = ? and block between ? and ?",
                (number, self.first, self.last),
            ):
                found[unpack(bits) + (block - self.first) * BLOCK] = True
        return found

    def masked(self) -> Numbers:
        """How many card numbers were masked in each event."""
        found = np.zeros(len(self.mask), np.int64)
        for block, bits, counts in self._db.execute(
            "select block, bits, counts from postings where block between ? and ? and term in "
            "(select id from terms where kind = ?)",
            (self.first, self.last, KIND["network"]),
        ):
            found[unpack(bits) + (block - self.first) * BLOCK] += unpack_counts(counts)
        return found

    def postings(self, kind: str) -> Iterator[tuple[int, int, bytes, bytes | None]]:
        """(term, place where its block begins, set, counts) for all terms of a kind."""
        for term, block, bits, counts in self._db.execute(
            "select term, block, bits, counts from postings where block between ? and ? and term in "
            "(select id from terms where kind = ?)",
            (self.first, self.last, KIND[kind]),
        ):
            yield term, (block - self.first) * BLOCK, bits, counts

    def between(self, since: float | None, until: float | None) -> None:
        """Leave those of this time."""
        begin = 0 if since is None else int(since * 1e6)
        end = np.iinfo(np.int64).max if until is None else int(until * 1e6)
        inside = np.zeros(len(self.mask), np.bool_)
        for block, earliest, latest in self._db.execute(
            "select block, earliest, latest from blocks where block between ? and ? and latest >= ? "
            "and earliest < ?",
            (self.first, self.last, begin, end),
        ):
            start = (block - self.first) * BLOCK
            part = slice(start, start + BLOCK)
            if begin <= earliest and latest < end:
                inside[part] = True
                continue
            (times,) = self._db.execute(
                "select times from blocks where block = ?", (block,)
            ).fetchone()
            when = unpack_numbers(times)
            inside[part] = (when >= begin) & (when < end)
        self.mask &= inside

    def saying(self, said: Said) -> None:
        """Leave those that have these words."""
        blocks = self.mask.reshape(-1, BLOCK)
        open_blocks = np.ones(len(blocks), np.bool_)
        # common words first: their sets are there, and where all words are common no more is to be asked
        known = np.zeros(len(blocks), np.int64)
        for word in said.words:
            for number in _ids(self._db, "word", word, exact=True):
                for block, bits in self._db.execute(
                    "select block, bits from postings where term = ? and block between ? and ?",
                    (number, self.first, self.last),
                ):
                    index = block - self.first
                    having = np.zeros(BLOCK, np.bool_)
                    having[unpack(bits)] = True
                    blocks[index] &= having
                    known[index] += 1
        if said.plain:
            open_blocks = known < len(said.words)
        undecided = self.mask & np.repeat(open_blocks, BLOCK)
        places = np.flatnonzero(undecided)
        if not len(places):
            return
        base = self.first * BLOCK + 1
        if len(places) <= FEW:
            found = [
                place
                for place in places.tolist()
                if self._db.execute(
                    "select 1 from words where words match ? and rowid = ?",
                    (said.match, base + place),
                ).fetchone()
            ]
        else:
            found = []
            for start, end in _runs(open_blocks & blocks.any(axis=1)):
                rows = self._db.execute(
                    "select rowid from words where words match ? and rowid between ? and ?",
                    (said.match, base + start * BLOCK, base + end * BLOCK - 1),
                )
                found += [row[0] - base for row in rows.fetchall()]
        having = np.zeros(len(self.mask), np.bool_)
        having[found] = True
        self.mask &= having | ~undecided

    def hits(self, places: Numbers) -> list[Hit]:
        """What is to be known of the events at `places`."""
        columns: dict[int, tuple[Numbers, Numbers]] = {}

        def of(block: int) -> tuple[Numbers, Numbers]:
            if block not in columns:
                row = self._db.execute(
                    "select offsets, ended from blocks where block = ?", (block,)
                ).fetchone()
                columns[block] = unpack_numbers(row[0]), unpack_numbers(row[1])
            return columns[block]

        found = []
        for index in (places + self.first * BLOCK).tolist():
            offsets, behind = of(index >> BLOCK_BITS)
            place = index & (BLOCK - 1)
            ended, ended_offset = 0, -1
            if behind[place]:
                last = index + int(behind[place])
                ended = last + 1
                ended_offset = int(of(last >> BLOCK_BITS)[0][last & (BLOCK - 1)])
            found.append(Hit(index + 1, int(offsets[place]), ended, ended_offset))
        return found


def _windows(db: sqlite3.Connection, asked: Query) -> Iterator[_Window]:
    """The windows that have something of `asked`, the newest first, with what is meant in their masks."""
    last = db.execute("select max(block) from blocks").fetchone()[0]
    if last is None:
        return
    every = asked.every or "code" in asked.terms
    chosen = [_ids(db, "all" if every else "entry", "")]
    for kind, wanted in asked.terms.items():
        ids = [number for value in wanted for number in _ids(db, kind, value)]
        if not ids:
            return
        chosen.append(list(dict.fromkeys(ids)))
    said = said_of(asked.text) if asked.text else None
    lowest = max(0, asked.after) >> BLOCK_BITS
    if asked.before is not None:
        last = min(last, (asked.before - 2) >> BLOCK_BITS)
    top, size = last, 1
    while top >= lowest:
        window = _Window(db, max(lowest, top - size + 1), top)
        top, size = top - size, min(2 * size, WINDOW)
        begin = window.first * BLOCK
        if asked.after > begin:
            window.mask[: asked.after - begin] = False
        if asked.before is not None:
            window.mask[max(0, asked.before - 1 - begin) :] = False
        if asked.since is not None or asked.until is not None:
            window.between(asked.since, asked.until)
        for ids in sorted(chosen, key=len):
            if not window.mask.any():
                break
            window.mask &= window.having(ids)
        if asked.masked and window.mask.any():
            window.mask &= window.masked() >= asked.masked
        if said is not None:
            window.saying(said)
        if window.mask.any():
            yield window


def _ids(db: sqlite3.Connection, kind: str, value: str, *, exact: bool = False) -> list[int]:
    """The terms of a kind that a value means."""
    number = KIND[kind]
    found = db.execute("select id from terms where kind = ? and value = ?", (number, value))
    ids = [row[0] for row in found]
    accept: Any = None
    if exact:
        return ids
    if kind == "address" and "/" in value:
        accept = _in_network(value)
    elif "*" in value:
        accept = re.compile(fnmatch.translate(value.replace("[", "[[]").replace("?", "[?]"))).match
    elif not ids and kind in LAST_PART:
        accept = re.compile(rf".*[#.]{re.escape(value)}\Z", re.DOTALL).match
    if accept is None:
        return ids
    rows = db.execute("select id, value from terms where kind = ?", (number,))
    return [row[0] for row in rows if accept(row[1])]


def _in_network(value: str) -> Any:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise LedgerError(
            f"{value!r} is no network; write one like 10.0.0.0/8 or 2001:db8::/32"
        ) from None

    def inside(address: str) -> bool:
        try:
            return ipaddress.ip_address(address) in network
        except ValueError:
            return False

    return inside


def _runs(flags: Mask) -> Iterator[tuple[int, int]]:
    """(start, end) of each row of neighbours that are true."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


class Said(NamedTuple):
    """Words to look for. `match` is what FTS5 is asked; `words` are those that an event must have for it;
    `plain` is whether that is all."""

    match: str
    words: Sequence[str]
    plain: bool


def said_of(text: str) -> Said:
    """What to look for by `text`: all of its words; words between quotes beside each other; a `*` behind a
    word for how it goes on. LedgerError when there is no word in it."""
    parts, words, plain = [], [], True
    for quoted, word in re.findall(r'"([^"]*)"|([^\s"]+)', text):
        phrase = quoted or word
        if not any(one.isalnum() or one == "_" for one in phrase):
            continue
        if not quoted and word.endswith("*"):
            parts.append(f'"{word.rstrip("*")}"*')
            plain = False
            continue
        parts.append(f'"{phrase}"')
        if WORD.fullmatch(phrase):
            words.append(phrase.lower())
            continue
        plain = False
        if phrase.isascii():
            words += WORD.findall(phrase.lower())
    if not parts:
        raise LedgerError(f"there is no word to look for in {text!r}")
    return Said(" AND ".join(parts), list(dict.fromkeys(words)), plain)
