"""The records of one gateway read as one: that of its first process, and one of each worker.

Each has an index and sequences of its own. What they say is put together here: events by their times, counts
by their sums."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import merge
from pathlib import Path
from typing import NamedTuple, TypeVar

from pangate.audit.events import WORKERS, records
from pangate.audit.index import Hit, Index, Query, Total
from pangate.audit.lines import MAX_LINE, sequence_of
from pangate.audit.reader import CHECKPOINT

FIRST = "first"
"""What the record of the first process is called, which is the only one where there is one process."""

Place = Mapping[str, int]
"""How far somebody has read, from the newest event on: the lowest sequence of each record that they saw."""

Item = TypeVar("Item")

_PLACE = re.compile(r"[0-9]{1,6}-[0-9]{1,18}(\.[0-9]{1,6}-[0-9]{1,18})*")
_TAIL = 1 << 16


class Source(NamedTuple):
    """One record: "first" or "worker-3", and where it is."""

    name: str
    path: Path


def sources(path: Path) -> list[Source]:
    """The records of the gateway that writes to `path`, also of workers that there are no more."""
    first, *workers = records(path)
    return [Source(FIRST, first), *(Source(one.parent.name, one) for one in workers)]


def sources_in(place: Path) -> list[Source]:
    """The records at a place that somebody named: of a file that alone, of a directory its own and those of
    workers in it."""
    workers = []
    if place.is_dir():
        found = [one for one in place.glob(WORKERS) if number_of(one.name) and _has_record(one)]
        workers = [
            Source(one.name, one) for one in sorted(found, key=lambda one: number_of(one.name))
        ]
    own = [] if workers and not _has_record(place) else [Source(FIRST, place)]
    return [*own, *workers]


def number_of(name: str) -> int:
    """The number of the worker that has the record of this name; 0 for what is none's."""
    number = name.removeprefix("worker-")
    return int(number) if number != name and number.isascii() and number.isdigit() else 0


def _has_record(directory: Path) -> bool:
    return (directory / CHECKPOINT).exists() or any(directory.glob("*.jsonl"))


def last_sequence(path: Path) -> int:
    """The sequence of the last event in the file at `path`; 0 when there is none within its last `MAX_LINE`
    bytes, which may all be zeros where what was there is retired. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        take = _TAIL
        while True:
            start = max(0, size - take)
            file.seek(start)
            for line in reversed(file.read(size - start).split(b"\n")):
                event = line.lstrip(b"\0")  # which stand where what was before it is retired
                if event.startswith(b"{") and (found := sequence_of(event)):
                    return found
            if start == 0 or take == MAX_LINE:
                return 0
            take = min(16 * take, MAX_LINE)


def by_time(
    streams: Sequence[Iterator[Item]], time_of: Callable[[Item], str], *, newest_first: bool
) -> Iterator[Item]:
    """All of several streams by their times. What comes from one stays in its order, whatever its clock did;
    no more is taken of each than is asked for."""
    return merge(*streams, key=time_of, reverse=newest_first)


def place_text(place: Place) -> str:
    """A place as it stands in an address."""
    return ".".join(f"{number_of(name)}-{sequence}" for name, sequence in place.items())


def place_of(text: str) -> Place | None:
    """The same read again; None for what is none."""
    if not _PLACE.fullmatch(text):
        return None
    pairs = [part.split("-") for part in text.split(".")]
    return {f"worker-{int(a)}" if int(a) else FIRST: int(b) for a, b in pairs}


class Several:
    """The indexes of several records, by their names, asked as one."""

    def __init__(self, indexes: Mapping[str, Index]) -> None:
        self.indexes = indexes

    @property
    def alone(self) -> bool:
        """Whether there is one record only, so that nobody needs to say which is meant."""
        return len(self.indexes) == 1

    def search(
        self, asked: Query, most: int | None, before: Place | None = None
    ) -> dict[str, list[Hit]]:
        """Up to `most` events of each record, the newest first. With `before`, those before its place; a
        record that it does not name came later, and has none."""
        return {
            name: index.search(_before(asked, name, before), most)
            for name, index in self.indexes.items()
        }

    def count(self, asked: Query, by: Sequence[str]) -> dict[str, list[tuple[str, Total]]]:
        """As of one index."""
        return joined([index.count(asked, by) for index in self.indexes.values()], by)

    def values(self, kind: str) -> list[str]:
        """Every value of a kind."""
        return list(
            dict.fromkeys(
                value for index in self.indexes.values() for value, _ in index.values(kind)
            )
        )


def joined(
    counts: Sequence[Mapping[str, list[tuple[str, Total]]]], by: Sequence[str]
) -> dict[str, list[tuple[str, Total]]]:
    """The sums of what several indexes counted, the most events first."""
    found: dict[str, list[tuple[str, Total]]] = {}
    for kind in by:
        sums: dict[str, Total] = {}
        for one in counts:
            for value, total in one.get(kind, ()):
                known = sums.get(value, Total(0, 0, 0))
                sums[value] = Total(*map(sum, zip(known, total, strict=True)))
        found[kind] = sorted(sums.items(), key=lambda item: (-item[1].events, item[0]))
    return found


def _before(asked: Query, name: str, before: Place | None) -> Query:
    return asked if before is None else replace(asked, before=before.get(name, 1))
