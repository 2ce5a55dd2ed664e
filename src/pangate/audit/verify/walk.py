"""The walk over the leaves: hashes, tiles of level 0, events. In several processes when there are many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import msgspec

from pangate.audit.reader import Ledger, PathOf
from pangate.audit.verify.claims import Claims
from pangate.audit.verify.report import MAX_FINDINGS, Finding
from pangate.errors import LedgerError
from pangate.ledger.tiles import WIDTH, decode_bundle, entries_path, split_tile, tile_path
from pangate.ledger.tree import HASH_BYTES, whole_root

VERSIONS = {2, 3}
"""The version of events that is read here, their member `v`."""

PART = 512
"""Bundles that a process takes at a time; a ledger with fewer than two parts is read by one."""

Progress = Callable[[int, int], None]
"""Is told how many leaves are done, of how many."""


class _Event(msgspec.Struct, gc=False):
    v: int
    sequence: int
    time: str
    code: str


_DECODER = msgspec.json.Decoder(_Event)


class Walk:
    """What was found over a row of bundles of a tree with `size` leaves."""

    def __init__(self, ledger: Ledger, size: int) -> None:
        self._ledger = ledger
        self.size = size
        self.roots: list[bytes] = []
        """Root of every full bundle, as the leaves have it; later, as it was signed."""
        self.tile_roots: dict[int, bytes] = {}
        """Those that the tile gives, where they are others."""
        self.edge: list[bytes] = []
        """Hashes of the leaves in the last bundle, when that is partial."""
        self.missing: list[int] = []
        """Bundles that are not there."""
        self.differing: set[int] = set()
        """Bundles whose hashes are not those of their tile."""
        self.damaged: set[int] = set()
        """Bundles that have not the form."""
        self.claims = Claims()
        self.events = 0
        self.findings: list[Finding] = []
        self.more_findings = 0
        self.times_back: list[int] = []
        self.first_time = ""
        self.last_time = ""

    @property
    def directory(self) -> Path:
        """Where the ledger is."""
        return self._ledger.directory

    @property
    def bundles(self) -> int:
        """Bundles of the whole tree."""
        return (self.size + WIDTH - 1) // WIDTH

    def find(self, kind: str, where: str, message: str, sequence: int) -> None:
        """Add a finding."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(kind, where, message, sequence))
        else:
            self.more_findings += 1

    def go(self, first: int, end: int) -> None:
        """Take the bundles from `first` to before `end`."""
        full, rest = divmod(self.size, WIDTH)
        for number in range(first, end):
            width = WIDTH if number < full else rest
            leaves = self.leaves(number, width)
            tile = self.stored_tile(0, number, width)
            if leaves is None:
                self.missing.append(number)
                hashes = split_tile(tile or b"") if len(tile or b"") % HASH_BYTES == 0 else []
            else:
                hashes = [sha256(b"\0" + leaf).digest() for leaf in leaves]
            if tile == b"".join(hashes):
                if leaves is not None:
                    self._events(leaves, number * WIDTH)
            else:
                self.differing.add(number)
                signed = tile if tile and len(tile) == width * HASH_BYTES else b""
                if leaves is not None:
                    self._events_alike(leaves, hashes, signed, number * WIDTH)
                if signed and number < full:
                    self.tile_roots[number] = whole_root(split_tile(signed))
            if number == full:
                self.edge = hashes
            else:
                right = len(hashes) == width
                self.roots.append(whole_root(hashes) if right else bytes(HASH_BYTES))

    def add(self, part: Walk) -> None:
        """Add what was found over the bundles that follow."""
        self.roots += part.roots
        self.tile_roots |= part.tile_roots
        self.edge = part.edge
        self.missing += part.missing
        self.differing |= part.differing
        self.damaged |= part.damaged
        self.claims.add(part.claims)
        self.events += part.events
        for item in part.findings:
            self.find(item.kind, item.where, item.message, item.sequence)
        self.more_findings += part.more_findings
        if part.first_time and part.first_time < self.last_time:
            self.times_back.append((len(self.roots) - len(part.roots)) * WIDTH + 1)
        self.times_back += part.times_back
        self.last_time = part.last_time or self.last_time

    def leaves(self, number: int, width: int) -> list[bytes] | None:
        """The leaves of a bundle; None when it is missing. Said and cut short when it is damaged."""
        path = entries_path(number, width)
        data = self.stored(lambda wide: entries_path(number, wide), width, hashes=False)
        if data is None:
            return None
        try:
            leaves = decode_bundle(data)
        except LedgerError as error:
            if number not in self.damaged:
                self.damaged.add(number)
                self.find("bundle", path, str(error), number * WIDTH + 1)
            return []
        if len(leaves) > width and not (self._ledger.directory / path).exists():
            del leaves[width:]  # what has come in its place holds more
        return leaves

    def stored_tile(self, level: int, index: int, width: int) -> bytes | None:
        """A tile as it is on disk; None when it is missing."""
        return self.stored(lambda wide: tile_path(level, index, wide), width)

    def stored(self, path_of: PathOf, width: int, *, hashes: bool = True) -> bytes | None:
        """A tile, or a bundle when `hashes` is false. When its file is not there, the beginning of
        what has come in its place; None when that is not there either."""
        try:
            return (self._ledger.directory / path_of(width)).read_bytes()
        except OSError:
            pass
        try:
            data = self._ledger.wider(path_of, width)
        except LedgerError:
            return None
        return data[: width * HASH_BYTES] if hashes else data

    def _events(self, leaves: Sequence[bytes], first: int) -> None:
        """Read the events of consecutive leaves. All at once where they are as they should be."""
        self.events += len(leaves)
        decode = _DECODER.decode
        try:
            events = [decode(leaf) for leaf in leaves]
        except msgspec.DecodeError:
            events = []
        times = [event.time for event in events]
        if (
            not events
            or [event.sequence for event in events]
            != list(range(first + 1, first + 1 + len(leaves)))
            or not {event.v for event in events} <= VERSIONS
            or times[0] < self.last_time
            or sorted(times) != times
        ):
            for sequence, leaf in enumerate(leaves, first + 1):
                self._event(leaf, sequence)
            return
        self.first_time = self.first_time or times[0]
        self.last_time = times[-1]
        if Claims.may_be_in(b"".join(leaves)):
            for sequence, leaf in enumerate(leaves, first + 1):
                self.claims.take(leaf, sequence)

    def _event(self, leaf: bytes, sequence: int) -> None:
        where = f"sequence {sequence}"
        try:
            event = _DECODER.decode(leaf)
        except msgspec.DecodeError as error:
            self.find("event", where, f"is no event: {error}", sequence)
            return
        if event.sequence != sequence:
            self.find(
                "event",
                where,
                f"the event that stands here has the sequence {event.sequence}",
                sequence,
            )
        if event.v not in VERSIONS:
            self.find("event", where, f"has the version {event.v}", sequence)
        if event.time < self.last_time:
            self.times_back.append(sequence)
        self.first_time = self.first_time or event.time
        self.last_time = event.time
        self.claims.take(leaf, sequence)

    def _events_alike(
        self, leaves: Sequence[bytes], hashes: Sequence[bytes], tile: bytes, first: int
    ) -> None:
        """Read the events of a damaged bundle that are as the tile has them."""
        for place, leaf in enumerate(leaves):
            at = place * HASH_BYTES
            if tile[at : at + HASH_BYTES] == hashes[place]:
                self._events([leaf], first + place)


def walk_all(walk: Walk, processes: int, progress: Progress | None) -> None:
    """Take all bundles, in up to `processes` processes."""
    count = walk.bundles
    parts = [(at, min(at + PART, count)) for at in range(0, count, PART)]
    if processes < 2 or len(parts) < 2:
        for first, end in parts:
            walk.go(first, end)
            if progress:
                progress(min(end * WIDTH, walk.size), walk.size)
        return
    directory, size = walk.directory, walk.size
    with ProcessPoolExecutor(min(processes, len(parts)), get_context("spawn")) as pool:
        made = [pool.submit(_part, directory, size, *part) for part in parts]
        for (_, end), part in zip(parts, made, strict=True):
            walk.add(part.result())
            if progress:
                progress(min(end * WIDTH, size), size)


def _part(directory: Path, size: int, first: int, end: int) -> Walk:
    walk = Walk(Ledger(directory), size)
    walk.go(first, end)
    return walk
