"""A ledger on disk, read: its checkpoint, its leaves, its hashes and proofs. Nothing is verified here
but the form; `audit.verify` does that. Any number may read while one gateway writes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.note import parse_note
from pangate.ledger.proof import Proof, inclusion_proof
from pangate.ledger.records import Records, decode_records
from pangate.ledger.tiles import (
    WIDTH,
    decode_bundle,
    entries_path,
    hash_reader,
    tile_path,
    width_of,
)
from pangate.ledger.tree import HASH_BYTES, ReadHash

CHECKPOINT = "checkpoint"
PUBLIC_KEYS = "log.pub"

ROTATIONS = "log.rotations"
"""How each of these handed over to the next one."""

JOURNAL = "journal"
SESSIONS = "sessions"
LARGE = "large"
ANCHORS = "anchors"

CACHED_TILES = 64

PathOf = Callable[[int], str]
"""The path of a tile or a bundle by its width."""


class Ledger:
    """The ledger in `directory` as of its newest checkpoint when it was opened; `refresh` takes the
    newest one again.

    Raises LedgerError when there is none, and from every method for files that are missing or have
    not the form."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._tiles: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self.refresh()

    def refresh(self) -> None:
        """Take the newest checkpoint."""
        self._note = self.read(CHECKPOINT)
        body, self._lines = parse_note(self._note)
        self._checkpoint = Checkpoint.parse(body)
        self._tiles.clear()

    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint. Its signature is not verified."""
        return self._checkpoint

    def checkpoint_note(self) -> bytes:
        """The newest checkpoint as it was signed."""
        return self._note

    @property
    def size(self) -> int:
        """Leaves that the checkpoint has."""
        return self._checkpoint.size

    def read(self, path: str) -> bytes:
        """The bytes of a file of the ledger."""
        try:
            return (self.directory / path).read_bytes()
        except OSError as error:
            raise LedgerError(f"{path} cannot be read: {error.strerror}") from None

    def tile(self, level: int, index: int, width: int | None = None) -> bytes:
        """The first `width` hashes of a tile, by default as many as the checkpoint has."""
        if width is None:
            width = width_of(level, index, self.size)
        found = self._read_wide(lambda wide: tile_path(level, index, wide), width)
        if len(found) < width * HASH_BYTES:
            raise LedgerError(
                f"{tile_path(level, index, width)} has {len(found)} bytes and not "
                f"{width * HASH_BYTES}"
            )
        return found[: width * HASH_BYTES]

    def bundle(self, index: int, width: int | None = None) -> list[bytes]:
        """The first `width` leaves of a bundle, by default as many as the checkpoint has."""
        if width is None:
            width = width_of(0, index, self.size)
        try:
            leaves = decode_bundle(self._read_wide(lambda wide: entries_path(index, wide), width))
        except LedgerError as error:
            raise LedgerError(f"{entries_path(index, width)}: {error}") from None
        if len(leaves) < width:
            raise LedgerError(
                f"{entries_path(index, width)} has {len(leaves)} leaves and not {width}"
            )
        return leaves[:width]

    @cached_property
    def hash(self) -> ReadHash:
        """Hashes of whole subtrees, by height and index."""
        return hash_reader(self._cached_tile)

    def leaf(self, index: int) -> bytes:
        """The leaf with this index, sealed or not."""
        for leaf in self.leaves(index, 1):
            return leaf
        raise LedgerError(f"the ledger has no event with the sequence {index + 1}")

    def leaves(self, first: int = 0, count: int | None = None) -> Iterator[bytes]:
        """Up to `count` leaves from the index `first` on: the sealed ones, then the unsealed tail."""
        index = first
        end = None if count is None else first + count
        while index < self.size and (end is None or index < end):
            number, inside = divmod(index, WIDTH)
            leaves = self.bundle(number)
            stop = len(leaves) if end is None else min(len(leaves), end - number * WIDTH)
            yield from leaves[inside:stop]
            index = number * WIDTH + stop
        if end is None or index < end:
            for start, leaves in self.unsealed():
                if start > index:
                    raise LedgerError(
                        f"{JOURNAL} begins with the sequence {start + 1}, and {index + 1} is next"
                    )
                stop = len(leaves) if end is None else min(len(leaves), end - start)
                yield from leaves[index - start : stop]
                index = max(index, start + stop)

    def prove(self, index: int) -> Proof:
        """The proof that the leaf with this index is in the tree of the checkpoint."""
        if not 0 <= index < self.size:
            raise LedgerError(
                f"the checkpoint has the sequences 1 to {self.size}, and {index + 1} is none of "
                "them; wait until it is sealed"
            )
        hashes = tuple(inclusion_proof(self.hash, index, self.size))
        return Proof(self.leaf(index), index, hashes, self._note)

    # The journal

    def segments(self) -> list[tuple[int, str]]:
        """Index of the first leaf and path of each file of the journal, in order."""
        try:
            names = sorted(item.name for item in (self.directory / JOURNAL).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LedgerError(f"{JOURNAL} cannot be read: {error.strerror}") from None
        return [
            (int(name), f"{JOURNAL}/{name}") for name in names if name.isascii() and name.isdigit()
        ]

    def segment(self, first: int, path: str) -> Records:
        """The records of one file of the journal."""
        return decode_records(self.read(path), first)

    def unsealed(self) -> Iterator[tuple[int, list[bytes]]]:
        """(index, leaves) of each file of the journal that reaches beyond the checkpoint, up to where
        the journal is torn."""
        segments = self.segments()
        for position, (first, path) in enumerate(segments):
            following = segments[position + 1][0] if position + 1 < len(segments) else None
            if following is not None and following <= self.size:
                continue
            found = self.segment(first, path)
            if found.leaves and first + len(found.leaves) > self.size:
                yield first, found.leaves
            if found.problem:
                return

    # Tiles

    def _cached_tile(self, level: int, index: int) -> bytes:
        tile = self._tiles.get((level, index))
        if tile is None:
            tile = self._tiles[level, index] = self.tile(level, index)
            if len(self._tiles) > CACHED_TILES:
                self._tiles.popitem(last=False)
        else:
            self._tiles.move_to_end((level, index))
        return tile

    def wider(self, path_of: PathOf, width: int) -> bytes:
        """What has come in the place of a partial tile or bundle of `width`: the full one, or the
        next partial one. LedgerError when there is none."""
        if width != WIDTH and (self.directory / path_of(WIDTH)).exists():
            return self.read(path_of(WIDTH))
        wider = [item for item in self._widths(path_of(WIDTH) + ".p") if item > width]
        if not wider:
            raise LedgerError(f"{path_of(width)} is missing")
        return self.read(path_of(min(wider)))

    def _read_wide(self, path_of: PathOf, width: int) -> bytes:
        """A file that holds `width` or more: the partial one, or what has come in its place."""
        try:
            return (self.directory / path_of(width)).read_bytes()
        except FileNotFoundError:
            return self.wider(path_of, width)
        except OSError as error:
            raise LedgerError(f"{path_of(width)} cannot be read: {error.strerror}") from None

    def _widths(self, folder: str) -> list[int]:
        try:
            names = [item.name for item in (self.directory / folder).iterdir()]
        except OSError:
            return []
        return [int(name) for name in names if name.isascii() and name.isdigit()]
