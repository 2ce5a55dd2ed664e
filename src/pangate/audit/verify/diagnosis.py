"""What was changed, read from the signed root downwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from pangate.audit.verify.differences import differences
from pangate.ledger.tiles import (
    TILE_HEIGHT,
    WIDTH,
    entries_path,
    split_tile,
    tile_path,
    tile_widths,
)
from pangate.ledger.tree import HASH_BYTES, Frontier, leaf_hash, whole_root

if TYPE_CHECKING:
    from pangate.audit.verify.run import Run

MANY = 16
"""With more changes in one bundle than these, the bundle is named and not each leaf."""

Levels = list[list[bytes]]
"""The hashes that the tiles of each level consist of. Of level 0 only the partial tile."""

Edge = tuple[int, Sequence[bytes]]
"""Level and hashes of a partial tile."""


def levels_of(roots: Sequence[bytes], edge: Sequence[bytes]) -> Levels:
    """The levels over full bundles with these roots, and the hashes in the partial bundle."""
    levels = [list(edge), list(roots)]
    while len(levels[-1]) >= WIDTH:
        row = levels[-1]
        levels.append(
            [
                whole_root(row[at : at + WIDTH])
                for at in range(0, len(row) - len(row) % WIDTH, WIDTH)
            ]
        )
    return levels


def edges_of(levels: Levels, size: int) -> list[Edge]:
    """The partial tiles of a tree of `size` leaves, the highest first."""
    return [
        (level, levels[level][full * WIDTH if level else 0 :])
        for level, full, partial in reversed(list(tile_widths(size)))
        if partial
    ]


def edge_root(edges: Sequence[Edge]) -> bytes:
    """Root of a tree by its partial tiles, the highest first."""
    frontier = Frontier()
    for level, hashes in edges:
        for item in hashes:
            frontier.append_whole(item, TILE_HEIGHT * level)
    return frontier.root()


class Diagnosis:
    """`own` is the tree as the leaves give it. What is on disk is the other witness; the third is the
    tree over the tiles of level 0."""

    def __init__(self, run: Run, own: Levels) -> None:
        self._run = run
        self._size = run.checkpoint.size
        self._own = own
        roots = [
            run.walk.tile_roots.get(number, root) for number, root in enumerate(run.walk.roots)
        ]
        self._tiles = levels_of(roots, own[0])
        self._expected: dict[int, list[bytes]] = {}
        self._actual: dict[int, list[bytes]] = {}

    def run(self) -> None:
        """Add the findings. The roots of the run become those that are signed."""
        places = [
            (level, full, partial)
            for level, full, partial in reversed(list(tile_widths(self._size)))
            if partial
        ]
        choices = [self._candidates(*place) for place in places]
        for chosen in product(*choices):
            edges = [
                (place[0], split_tile(tile)) for place, tile in zip(places, chosen, strict=True)
            ]
            if edge_root(edges) == self._run.checkpoint.root:
                break
        else:
            self._unrooted()
            return
        for (level, full, partial), tile in zip(places, chosen, strict=True):
            self._settle(level, full, partial, tile)
        self._tell(trusted=True)

    def _candidates(self, level: int, index: int, width: int) -> list[bytes]:
        """What the tile may hold, without doubles: as on disk, by the leaves, by the lower tiles."""
        at = index * WIDTH if level else 0
        found = [
            self._run.walk.stored_tile(level, index, width),
            b"".join(self._own[level][at : at + width]),
            b"".join(self._tiles[level][at : at + width]),
        ]
        return list(
            dict.fromkeys(
                tile for tile in found if tile is not None and len(tile) == width * HASH_BYTES
            )
        )

    def _settle(self, level: int, index: int, width: int, tile: bytes) -> None:
        """Go on below a tile of which `tile` is what was signed."""
        self._compare(level, index, width, tile)
        hashes = split_tile(tile)
        if level == 0:
            self._leaves(index, hashes, self._run.walk.edge)
            self._run.walk.edge = hashes
            return
        for place, digest in enumerate(hashes):
            self._descend(level - 1, index * WIDTH + place, digest)

    def _compare(self, level: int, index: int, width: int, tile: bytes) -> None:
        stored = self._run.walk.stored_tile(level, index, width)
        if stored == tile:
            return
        where = tile_path(level, index, width)
        if stored is None:
            self._run.find("tile", where, "is missing")
        elif len(stored) != len(tile):
            self._run.find("tile", where, f"has {len(stored)} bytes and not {len(tile)}")
        else:
            at = next(place for place in range(len(tile)) if stored[place] != tile[place])
            self._run.find(
                "tile",
                f"{where} byte {at}",
                f"was changed: its hash {at // HASH_BYTES} is not the one that was signed",
            )

    def _descend(self, level: int, index: int, digest: bytes) -> None:
        """Go on at a full tile whose root is `digest`."""
        run = self._run
        if level == 0:
            own = run.walk.roots[index]
            run.walk.roots[index] = digest
            if own == digest and index not in run.walk.differing:
                return
        for tile in self._full(level, index):
            if whole_root(split_tile(tile)) == digest:
                break
        else:
            self._lost(level, index)
            return
        if level:
            self._settle(level, index, WIDTH, tile)
            return
        self._compare(0, index, WIDTH, tile)
        if own != digest and index not in run.walk.missing:
            self._leaves(index, split_tile(tile), self._hashes(index))

    def _full(self, level: int, index: int) -> list[bytes]:
        if level:
            return self._candidates(level, index, WIDTH)
        stored = self._run.walk.stored_tile(0, index, WIDTH)
        found = [stored, b"".join(self._hashes(index))]
        return [tile for tile in found if tile is not None and len(tile) == WIDTH * HASH_BYTES]

    def _hashes(self, index: int) -> list[bytes]:
        width = min(WIDTH, self._size - index * WIDTH)
        return [leaf_hash(leaf) for leaf in self._run.walk.leaves(index, width) or ()]

    def _lost(self, level: int, index: int) -> None:
        """Neither what is on disk nor what the leaves give has the hash that is signed."""
        span = WIDTH ** (level + 1)
        first, last = index * span, min((index + 1) * span, self._size) - 1
        self._run.find(
            "tree",
            tile_path(level, index),
            f"the events {first + 1} to {last + 1} and the hashes over them were changed together: "
            "none of them is what was signed",
            first + 1,
        )

    def _leaves(self, index: int, expected: list[bytes], actual: list[bytes]) -> None:
        if expected != actual and index not in self._run.walk.damaged:
            self._expected[index * WIDTH] = expected
            self._actual[index * WIDTH] = list(actual)

    def _tell(self, *, trusted: bool) -> None:
        """Say what was done to the leaves."""
        words = {
            "edited": "was changed",
            "deleted": "was taken out",
            "inserted": "is no event that was signed: it was put in",
            "moved": "stands in another place, that of the sequence",
        }
        by_bundle: dict[int, int] = {}
        found = differences(self._expected, self._actual)
        for item in found:
            number = (item.sequence - 1) // WIDTH
            by_bundle[number] = by_bundle.get(number, 0) + 1
        doubt = "" if trusted else ", by a tile that is not signed itself"
        for number, count in by_bundle.items():
            if count > MANY:
                first = min(
                    item.sequence for item in found if (item.sequence - 1) // WIDTH == number
                )
                self._run.find(
                    "edited",
                    entries_path(number, min(WIDTH, self._size - number * WIDTH)),
                    f"{count} of its events are not those that were signed, the first is {first}"
                    f"{doubt}",
                    first,
                )
        for item in found:
            if by_bundle[(item.sequence - 1) // WIDTH] <= MANY:
                place = f" {item.other}" if item.kind == "moved" else ""
                self._run.find(
                    item.kind,
                    f"sequence {item.sequence}",
                    f"the event {item.sequence} {words[item.kind]}{place}{doubt}",
                    item.sequence,
                )

    def _unrooted(self) -> None:
        """Nothing on disk has the signed root."""
        run = self._run
        whole = "" if run.walk.differing else ", although they agree with each other"
        run.find(
            "tree",
            f"sequences 1 to {self._size}",
            f"the events and the tiles do not have the root that the checkpoint has{whole}: they "
            "belong to another tree, or the upper tiles were changed with the events",
        )
        for index in sorted(run.walk.differing - set(run.walk.missing)):
            width = min(WIDTH, self._size - index * WIDTH)
            tile = run.walk.stored_tile(0, index, width)
            if tile is None or len(tile) != width * HASH_BYTES:
                run.find("tile", tile_path(0, index, width), "is missing or was cut")
            else:
                self._leaves(index, split_tile(tile), self._hashes(index))
        self._tell(trusted=False)
