"""Puts events into the index, many in one transaction."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain, pairwise
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from pangate._gather import Gather
from pangate._gather import Numbers as Row
from pangate.audit.events import whole
from pangate.audit.index import entries
from pangate.audit.index.entries import Entry, Head, Kind, Meaning, Terms, cut
from pangate.audit.index.schema import BITMAP_BYTES, BLOCK, BLOCK_BITS, KIND
from pangate.audit.index.sets import (
    Numbers,
    join,
    pack,
    pack_counts,
    pack_numbers,
    unpack,
    unpack_counts,
    unpack_numbers,
)
from pangate.audit.index.source import Line, Position, Record
from pangate.audit.lines import sequence_of
from pangate.errors import LedgerError

BATCH = 1 << 16
"""Events in one transaction at the most."""

MOST_IDS = 1 << 16
"""Terms whose numbers are kept in memory."""

SAMPLED = 16
"""One text of so many is looked at for common words."""

MOST_SAMPLE = 2000
"""Characters that are looked at of a text."""

COMMON = 128
"""Events of a block that have a word, for it to be a common one there."""

MOST_COMMON = 400
"""Common words of a block at the most."""

SHORT = 32
"""Events of a term in one transaction that are few."""

MOST_RUNNING = 1 << 20
"""Statements that have not ended and are remembered; a record that has more of them is damaged."""


WORD = re.compile(r"\w+")

Names = tuple[str, ...]


class Columns:
    """The rows of numbers of one block."""

    __slots__ = ("ended", "offsets", "times")

    def __init__(self, row: tuple[bytes, bytes, bytes] | None) -> None:
        if row is None:
            self.times: Numbers = np.zeros(BLOCK, np.int64)
            self.offsets: Numbers = np.full(BLOCK, -1, np.int64)
            self.ended: Numbers = np.zeros(BLOCK, np.int64)
        else:
            self.times, self.offsets, self.ended = map(unpack_numbers, row)


class Writer:
    """One transaction's worth of events, put down by `store`. `db` is in a transaction."""

    def __init__(
        self, db: sqlite3.Connection, record: Record, ids: dict[tuple[int, str], int]
    ) -> None:
        self._db, self._record = db, record
        self._ids = ids
        self._heads: defaultdict[tuple[str, str, str, str, str, str], list[int]] = defaultdict(list)
        self._kinds: defaultdict[tuple[str, bool, str, str, str, str], list[int]] = defaultdict(
            list
        )
        self._meanings: defaultdict[tuple[Names, Names], list[int]] = defaultdict(list)
        self._places: defaultdict[tuple[str, Names], list[int]] = defaultdict(list)
        """Statements that were allowed, by resource and tables."""
        self._named: dict[tuple[str, Names], list[str]] = {}
        self._pending: defaultdict[int, list[list[int] | Numbers]] = defaultdict(list)
        """By the number of a term, parts of its events, put together in `_store_postings`."""
        self._single: defaultdict[int, list[int]] = defaultdict(list)
        """The same of those that come one by one."""
        self._counts: defaultdict[int, list[int]] = defaultdict(list)
        """Of the terms that have counts, parallel to `_single`."""
        self._gather = Gather(self._places_of, MOST_RUNNING)
        for session, statement, first, places in db.execute("select * from running"):
            mine = self._gather.running.setdefault(session, {})
            mine[statement] = first, json.loads(places)
            self._gather.room -= 1
        self._grown: dict[int, tuple[bytes, bytes | None]] = {}
        """By its term, what `postings` has of the last block that has anything."""
        self._rows: list[tuple[int, int, bytes, bytes | None]] = []
        """Of `postings`, to be put down."""
        self._first = 0
        self.last: Line | None = None

    def take(self, lines: Iterator[Line], most: int) -> int:
        """Take up to `most` events. How many there were. LedgerError when one is none."""
        count, self.last = self._gather.take(lines, most, self._add)
        if self.last is not None:
            self._first = int(of(self._gather.sequences)[0])
        return count

    def _add(self, line: Line) -> None:
        """Take an event, of whatever form. LedgerError when it is none."""
        event = entries.decoded(line.data)
        if event is None:
            raise LedgerError(f"{self._record.name}: the line {line.sequence} is no event")
        if event.data.large is not None:
            kept = whole(json.loads(line.data), self._record.directory)
            event = entries.entry_of(kept)
        data, sequence = event.data, line.sequence
        role = event.role or data.role
        gather = self._gather
        # plain tuples until `_spread`, which are made in a fraction of the time
        self._heads[
            event.time[:10], event.session, event.principal, event.origin, event.resource, role
        ].append(sequence)
        self._kinds[
            event.code, event.success, data.verdict, data.rule, data.error, data.request
        ].append(sequence)
        if data.effects or data.relations:
            self._meanings[data.effects, data.relations].append(sequence)
        words = entries.words(data)
        if words:
            gather.words.append((sequence, words))
        gather.sequences.append(sequence)
        gather.offsets.append(line.offset)
        gather.times.append(_micros(event.time))
        told = False
        match event.code:
            case "statement.finished":
                told = self._finished(event, sequence)
            case "statement.allowed":
                self._started(event, sequence)
            case "session.end":
                gather.room += len(gather.running.pop(event.session, ()))
            case "log.start":
                gather.running, gather.room = {}, MOST_RUNNING
        if not told:
            gather.entries.append(sequence)

    def _started(self, event: Entry, sequence: int) -> None:
        key = event.resource, event.data.relations
        self._places[key].append(sequence)
        places = self._named.get(key)
        if places is None:
            places = self._named[key] = entries.places(*key)
        if self._gather.room > 0:
            self._gather.room -= 1
            mine = self._gather.running.setdefault(event.session, {})
            mine[event.data.number] = sequence, places

    def _places_of(self, sample: bytes) -> list[str]:
        event = self._sample(sample)
        return entries.places(event.resource, event.data.relations)

    def _sample(self, line: bytes) -> Entry:
        """What a group of events has in common, by the line of one of them."""
        event = entries.decoded(line)
        if event is None:
            raise LedgerError(f"{self._record.name}: the line {sequence_of(line)} is no event")
        return event

    def _finished(self, event: Entry, sequence: int) -> bool:
        """Tell of a statement how it ended; false when nobody knows which it was."""
        data = event.data
        began = self._gather.running.get(event.session, {}).pop(data.number, None)
        targets = (sequence,) if began is None else (sequence, began[0])
        for network, count in data.masked.items():
            if count > 0:
                term = self._number("network", cut(network), sequence)
                self._single[term] += targets
                self._counts[term] += [count] * len(targets)
        if began is None:
            return False
        self._gather.room += 1
        first, places = began
        self._gather.began.append(first)
        self._gather.behind.append(sequence - first)
        if data.error:
            self._single[self._number("error", cut(data.error), sequence)].append(first)
        if any(count > 0 for count in data.masked.values()):
            for place in places:
                self._single[self._number("masked_at", place, sequence)].append(first)
        return True

    # Down

    def _number(self, kind: str, value: str, sequence: int) -> int:
        """The number of a term, which is made when it is new."""
        key = KIND[kind], value
        number = self._ids.get(key)
        if number is None:
            if len(self._ids) >= MOST_IDS:
                self._ids.clear()
            made = self._db.execute(
                "insert into terms (kind, value, first) values (?, ?, ?) on conflict do nothing "
                "returning id",
                (*key, sequence),
            ).fetchone()
            if made is None:
                made = self._db.execute(
                    "select id from terms where kind = ? and value = ?", key
                ).fetchone()
            number = self._ids[key] = int(made[0])
        return number

    def store(self) -> Position | None:
        """Put down what was taken. The position behind it, None when there was nothing."""
        if self.last is None:
            return None
        self._store_columns()
        self._spread()
        self._db.executemany("insert into words (rowid, text) values (?, ?)", self._gather.words)
        self._store_common()
        self._store_postings()
        self._db.execute("delete from running")
        self._db.executemany(
            "insert into running values (?, ?, ?, ?)",
            (
                (session, statement, sequence, json.dumps(places))
                for session, mine in self._gather.running.items()
                for statement, (sequence, places) in mine.items()
            ),
        )
        position = Position.behind(self.last)
        self._db.executemany(
            "insert or replace into meta values (?, ?)", position._asdict().items()
        )
        return position

    def end(self) -> None:
        """Let go of what was taken: what gathers knows its writer, and no collector need look for the two."""
        del self._gather

    def _spread(self) -> None:
        """From groups of events to terms, in the order of their first events, which terms are numbered by."""
        if self._gather.entries.size:
            told = of(self._gather.entries)
            self._pending[self._number("entry", "", int(told[0]))].append(told)
        for first, terms, sequences in sorted(self._groups(), key=itemgetter(0)):
            for kind, value in terms:
                self._pending[self._number(kind, value, first)].append(sequences)
        for term, single in self._single.items():
            self._pending[term].append(single)

    def _groups(self) -> Iterator[tuple[int, Terms, list[int] | Numbers]]:
        """(sequence of the first event, terms, sequences of all) of each group."""
        for head, sequences in self._heads.items():
            yield sequences[0], Head(*head).terms(), sequences
        for kind, sequences in self._kinds.items():
            yield sequences[0], Kind(*kind).terms(), sequences
        for meaning, sequences in self._meanings.items():
            yield sequences[0], Meaning(*meaning).terms(), sequences
        for key, sequences in self._places.items():
            yield sequences[0], (("place", place) for place in self._named[key]), sequences
        for group in self._gather.heads.values():
            found = of(group.sequences)
            yield int(found[0]), Head.of(self._sample(group.sample)).terms(), found
        for group in self._gather.kinds.values():
            event, found = self._sample(group.sample), of(group.sequences)
            yield int(found[0]), chain.from_iterable(self._said(event)), found

    @staticmethod
    def _said(event: Entry) -> Iterator[Terms]:
        """The terms of events of the kind of this one, of those that say nothing that is rare."""
        yield Kind.of(event).terms()
        yield Meaning(event.data.effects, event.data.relations).terms()
        if event.code == "statement.allowed":
            places = entries.places(event.resource, event.data.relations)
            yield (("place", place) for place in places)

    def _store_columns(self) -> None:
        blocks: dict[int, Columns] = {}

        def columns(block: int) -> Columns:
            if block not in blocks:
                row = self._db.execute(
                    "select times, offsets, ended from blocks where block = ?", (block,)
                ).fetchone()
                blocks[block] = Columns(row)
            return blocks[block]

        gather = self._gather
        places = of(gather.sequences) - 1
        times, offsets = of(gather.times), of(gather.offsets)
        for block, chosen in _by_block(places):
            found = columns(block)
            found.times[places[chosen] & (BLOCK - 1)] = times[chosen]
            found.offsets[places[chosen] & (BLOCK - 1)] = offsets[chosen]
        places, behind = of(gather.began) - 1, of(gather.behind)
        for block, chosen in _by_block(places):
            columns(block).ended[places[chosen] & (BLOCK - 1)] = behind[chosen]
        for block, found in blocks.items():
            known = found.times[found.times > 0]
            self._db.execute(
                "insert or replace into blocks values (?, ?, ?, ?, ?, ?)",
                (
                    block,
                    int(known.min(initial=np.iinfo(np.int64).max)),
                    int(known.max(initial=0)),
                    pack_numbers(found.times),
                    pack_numbers(found.offsets),
                    pack_numbers(found.ended),
                ),
            )

    def _store_common(self) -> None:
        """Make the sets of the common words of blocks that are full now. What these words are, a sample of
        the texts says; which events have them, the words themselves."""
        assert self.last is not None
        self._db.executemany(
            "insert into samples values (?, ?)",
            (
                (sequence, text[:MOST_SAMPLE])
                for sequence, text in self._gather.words
                if not sequence % SAMPLED
            ),
        )
        kept = self._db.execute("select value from meta where key = 'worded'").fetchone()
        block = begin = int(kept[0]) if kept else (self._first - 1) >> BLOCK_BITS
        while self.last.sequence >= (block + 1) * BLOCK:
            low, high = block * BLOCK + 1, (block + 1) * BLOCK
            counts: Counter[str] = Counter()
            for (text,) in self._db.execute(
                "select text from samples where sequence between ? and ?", (low, high)
            ):
                counts.update(set(WORD.findall(text.lower())))
            for word, count in counts.most_common(MOST_COMMON):
                if count * SAMPLED * 2 < COMMON:
                    break
                rows = self._db.execute(
                    "select rowid from words where words match ? and rowid between ? and ?",
                    (f'"{word}"', low, high),
                ).fetchall()
                if len(rows) >= COMMON:
                    having = [row[0] for row in rows]
                    self._pending[self._number("word", cut(word), low)].append(having)
            block += 1
        if block > begin or kept is None:
            self._db.execute("delete from samples where sequence <= ?", (block * BLOCK,))
            self._db.execute("insert or replace into meta values ('worded', ?)", (block,))

    def _store_postings(self) -> None:
        fresh = self._fresh_block()
        # of the block that grows, by one question; of older ones few change, and each by itself
        self._grown = {
            term: (bits, counts)
            for term, bits, counts in self._db.execute(
                "select term, bits, counts from postings where block = ? and term in "
                "(select value from json_each(?))",
                (fresh - 1, json.dumps(list(self._pending))),
            )
        }
        for term, parts in self._pending.items():
            counted = self._counts.get(term)
            if counted is None and sum(map(len, parts)) <= SHORT:
                few = [int(one) for part in parts for one in part]
                if self._append(term, few, fresh):
                    continue
            every = np.concatenate(parts).astype(np.int64) - 1
            counts = None if counted is None else np.array(counted, np.int64)
            if len(every) > 1 and not (every[1:] > every[:-1]).all():
                every, where = np.unique(every, return_index=True)
                if counts is not None:
                    counts = counts[where]
            if every[0] >> BLOCK_BITS == every[-1] >> BLOCK_BITS:
                block = int(every[0]) >> BLOCK_BITS
                self._put(term, block, every & (BLOCK - 1), counts, fresh)
                continue
            block_of = every >> BLOCK_BITS
            edges = np.flatnonzero(np.diff(block_of)) + 1
            starts = [0, *edges.tolist(), len(every)]
            for start, end in pairwise(starts):
                part = slice(start, end)
                self._put(
                    term,
                    int(block_of[start]),
                    every[part] & (BLOCK - 1),
                    None if counts is None else counts[part],
                    fresh,
                )
        self._db.executemany("insert or replace into postings values (?, ?, ?, ?)", self._rows)

    def _append(self, term: int, sequences: list[int], fresh: int) -> bool:
        """Add a few events to the set of a term, where they are of one block and behind those that are in it:
        without arrays, which cost more than these have in them. Whether it was so."""
        block, low = (sequences[0] - 1) >> BLOCK_BITS, sequences[0]
        begin = (block << BLOCK_BITS) + 1
        for sequence in sequences[1:]:
            if sequence <= low:
                return False
            low = sequence
        if low - begin >= BLOCK:
            return False
        before = b""
        if block < fresh:
            row = self._grown.get(term) if block == fresh - 1 else self._row(term, block)
            before = row[0] if row is not None else b""
        if len(before) + 2 * len(sequences) >= BITMAP_BYTES:
            return False
        if before and int.from_bytes(before[-2:], "little") >= sequences[0] - begin:
            return False
        packed = struct.pack(f"<{len(sequences)}H", *[one - begin for one in sequences])
        self._rows.append((term, block, before + packed, None))
        return True

    def _row(self, term: int, block: int) -> tuple[bytes, bytes | None] | None:
        found: tuple[bytes, bytes | None] | None = self._db.execute(
            "select bits, counts from postings where term = ? and block = ?", (term, block)
        ).fetchone()
        return found

    def _fresh_block(self) -> int:
        """The first block that has nothing yet."""
        found = self._db.execute("select max(block) from postings where term = ?", (self._all,))
        last = found.fetchone()[0]
        return 0 if last is None else int(last) + 1

    @property
    def _all(self) -> int:
        return self._number("all", "", 1)

    def _put(
        self, term: int, block: int, places: Numbers, counts: Numbers | None, fresh: int
    ) -> None:
        if block < fresh:
            row = self._grown.get(term) if block == fresh - 1 else self._row(term, block)
            if row is not None:
                if counts is not None:
                    before = unpack(row[0])
                    dense = np.zeros(BLOCK, np.int64)
                    dense[before] = unpack_counts(row[1] or b"")
                    dense[places] = counts
                    places = np.flatnonzero(dense).astype(np.int64)
                    counts = dense[places]
                else:
                    self._rows.append((term, block, join(row[0], places), None))
                    return
        packed = None if counts is None else pack_counts(counts)
        self._rows.append((term, block, pack(places), packed))


def of(numbers: Row) -> Numbers:
    """What was gathered, as an array."""
    return np.frombuffer(numbers.tobytes(), np.int64)


def _by_block(places: Numbers) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Each block that any of these places, counted from 0, is in, and which are in it."""
    blocks = places >> BLOCK_BITS
    for block in np.unique(blocks):
        yield int(block), blocks == block


def _micros(time: str) -> int:
    """Microseconds since 1970 of a time as events have it; 0 for what is none."""
    try:
        # without the Z, which numpy has no word for
        return int(np.datetime64(time[:-1], "us").astype(np.int64))
    except ValueError:
        return 0
