"""Questions to the index, answered window by window, from the newest event on."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pangate.audit.index.schema import BITMAP_BYTES, BLOCK, BLOCK_BITS, KIND
from pangate.audit.index.sets import Numbers, unpack, unpack_bitmap, unpack_counts, unpack_numbers
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
    names = {
        kind: db.execute(
            "select id, value from terms where kind = ? order by id", (KIND[kind],)
        ).fetchall()
        for kind in by
    }
    numbers = {kind: np.array([row[0] for row in names[kind]], np.int64) for kind in by}
    sums = {kind: np.zeros((3, len(names[kind])), np.int64) for kind in by}
    failures = _ids(db, "success", "false")
    for window in _windows(db, asked):
        masked = window.masked() * window.mask
        # of an event that is meant: one, and one more for a failure beyond what a block can have of these
        ones = window.mask + ((window.having(failures) & window.mask) << 16)
        for kind in by:
            window.add(kind, numbers[kind], ones, masked, sums[kind])
    found = {}
    for kind in by:
        rows = zip(names[kind], sums[kind].T.tolist(), strict=True)
        totals = [(value, Total(*total)) for (_, value), total in rows if total[0]]
        found[kind] = sorted(totals, key=lambda item: (-item[1].events, item[0]))
    return found


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

    def add(
        self, kind: str, numbers: Numbers, ones: Numbers, masked: Numbers, sums: Numbers
    ) -> None:
        """Add to `sums`, a row of each of Total, what is meant of each term of a kind; `numbers` are the
        terms in their order, `ones` and `masked` have a place for each event.

        Small sets all at once: there are many of them, and what is done for one by itself costs more than
        what is in it."""
        small: list[bytes] = []
        terms, starts = [], []
        found: list[tuple[int, int, int]] = []
        for term, block, bits, counts in self._db.execute(
            "select term, block, bits, counts from postings where block between ? and ? and term in "
            "(select id from terms where kind = ?)",
            (self.first, self.last, KIND[kind]),
        ):
            start = (block - self.first) * BLOCK
            part = slice(start, start + BLOCK)
            if counts is not None:
                places = unpack(bits) + start
                many = unpack_counts(counts)[self.mask[places]]
                found.append((term, int(ones[places].sum()), int(many.sum())))
            elif len(bits) < BITMAP_BYTES:
                small.append(bits)
                terms.append(term)
                starts.append(start)
            else:
                having = unpack_bitmap(bits)
                found.append((term, int(ones[part] @ having), int(masked[part] @ having)))
        if small:
            sizes = np.fromiter(map(len, small), np.int64, len(small)) // 2
            ends = np.cumsum(sizes)
            places = np.frombuffer(b"".join(small), "<u2") + np.repeat(starts, sizes)
            counted = (
                np.add.reduceat(each[places], ends - sizes).tolist() for each in (ones, masked)
            )
            found += zip(terms, *counted, strict=True)
        if found:
            rows = np.array(found, np.int64)
            owners = np.searchsorted(numbers, rows[:, 0])
            for row, added in enumerate((rows[:, 1] & 0xFFFF, rows[:, 2], rows[:, 1] >> 16)):
                np.add.at(sums[row], owners, added)

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

    def saying(self, said: Said, descent: _Descent) -> None:
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
        if said.begins:
            found = [row - base for row in descent.down_to(base, base + int(places[-1]))]
        elif len(places) <= FEW:
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


class _Descent:
    """The events that have some words, from the newest on, by one question for all windows. For words of
    which the beginning is asked for: FTS5 puts together the sets of all that begin so before it says the
    first, for each question anew."""

    def __init__(self, db: sqlite3.Connection, match: str) -> None:
        self._db, self._match = db, match
        self._rows: Iterator[tuple[int]] | None = None
        self._read = 0
        """What was read and is for a later window; 0 for nothing."""

    def down_to(self, first: int, last: int) -> list[int]:
        """Those from `first` to `last`, which is before all that was asked for until now."""
        if self._rows is None:
            self._rows = self._db.execute(
                "select rowid from words where words match ? and rowid <= ? order by rowid desc",
                (self._match, last),
            )
        found = []
        while row := self._read or next(self._rows, (0,))[0]:
            self._read = row
            if row < first:
                break
            self._read = 0
            if row <= last:
                found.append(row)
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
    descent = _Descent(db, said.match if said is not None else "")
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
            window.saying(said, descent)
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
    `plain` is whether that is all, `begins` whether only the beginning of a word is said."""

    match: str
    words: Sequence[str]
    plain: bool
    begins: bool


def said_of(text: str) -> Said:
    """What to look for by `text`: all of its words; words between quotes beside each other; a `*` behind a
    word for how it goes on. LedgerError when there is no word in it."""
    parts, words, plain, begins = [], [], True, False
    for quoted, word in re.findall(r'"([^"]*)"|([^\s"]+)', text):
        phrase = quoted or word
        if not any(one.isalnum() or one == "_" for one in phrase):
            continue
        if not quoted and word.endswith("*"):
            parts.append(f'"{word.rstrip("*")}"*')
            plain, begins = False, True
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
    return Said(" AND ".join(parts), list(dict.fromkeys(words)), plain, begins)
