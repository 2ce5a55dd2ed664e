"""How a log is stored: C2SP tlog-tiles. A tile has up to 256 hashes, an entry bundle the leaves of a
tile of level 0."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from pangate.errors import LedgerError
from pangate.ledger.tree import HASH_BYTES, ReadHash, whole_root

WIDTH = 256
"""Hashes of a full tile and leaves of a full bundle."""

TILE_HEIGHT = 8
"""Levels of the tree from a tile's hashes up to the root over them."""

MAX_LEVEL = 63
MAX_LEAF_BYTES = 0xFFFF

_PATH = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Where the tile with number `index` of `level` is, from the log's directory, with slashes."""
    return f"tile/{level}/{_numbered(index, width)}"


def entries_path(index: int, width: int = WIDTH) -> str:
    """Where the entry bundle with number `index` is, from the log's directory, with slashes."""
    return f"tile/entries/{_numbered(index, width)}"


def parse_path(path: str) -> tuple[int | None, int, int] | None:
    """(level, index, width) of a path that tile_path or entries_path could have made; the level of
    a bundle is None. None when the path is no such path."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    kind, groups, last, width = found.groups()
    index = int(groups.replace("x", "").replace("/", "") + last)
    if groups.startswith("x000/"):
        return None
    wide = WIDTH if width is None else int(width)
    if kind == "entries":
        return (None, index, wide) if wide < WIDTH or width is None else None
    level = int(kind)
    if level > MAX_LEVEL or (width is not None and wide >= WIDTH):
        return None
    return level, index, wide


def _numbered(index: int, width: int) -> str:
    text = f"{index % 1000:03d}"
    rest = index // 1000
    while rest:
        text = f"x{rest % 1000:03d}/{text}"
        rest //= 1000
    return text if width == WIDTH else f"{text}.p/{width}"


def tile_widths(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, number of full tiles, width of the partial one or 0) for every level that a tree of
    `size` leaves has tiles on, from level 0 up."""
    level = 0
    while size:
        yield level, size // WIDTH, size % WIDTH
        size //= WIDTH
        level += 1


def width_of(level: int, index: int, size: int) -> int:
    """Hashes of a tile in a tree of `size` leaves; 0 when the tree has no such tile."""
    return max(0, min(WIDTH, (size >> (TILE_HEIGHT * level)) - index * WIDTH))


def split_tile(data: bytes) -> list[bytes]:
    """The hashes of a tile. Raises LedgerError when its length is no multiple of a hash's."""
    if len(data) % HASH_BYTES:
        raise LedgerError(f"a tile has {HASH_BYTES} bytes a hash, and this one {len(data)} bytes")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """An entry bundle of up to 256 leaves. Raises LedgerError for one that is too long."""
    parts = []
    for leaf in leaves:
        if len(leaf) > MAX_LEAF_BYTES:
            raise LedgerError(f"a leaf has at most {MAX_LEAF_BYTES} bytes, and this {len(leaf)}")
        parts.append(len(leaf).to_bytes(2))
        parts.append(leaf)
    return b"".join(parts)


def decode_bundle(data: bytes) -> list[bytes]:
    """The leaves of an entry bundle. Raises LedgerError when its end is in the middle of one."""
    leaves = []
    position, end = 0, len(data)
    while position < end:
        if position + 2 > end:
            raise LedgerError(f"a length of 2 bytes was expected at byte {position}, the last one")
        start = position + 2
        position = start + (data[position] << 8 | data[position + 1])
        leaves.append(data[start:position])
    if position > end:
        raise LedgerError(
            f"the entry at byte {start - 2} says {position - start} bytes, and {end - start} follow"
        )
    return leaves


def hash_reader(read_tile: Callable[[int, int], bytes]) -> ReadHash:
    """Reads hashes of any height from tiles. `read_tile(level, index)` gives the bytes of a tile, in
    which there may be more hashes than are needed; a missing one is a LedgerError."""

    def read(height: int, index: int) -> bytes:
        level, inside = divmod(height, TILE_HEIGHT)
        first = index << inside
        tile = read_tile(level, first // WIDTH)
        at = first % WIDTH * HASH_BYTES
        until = at + (HASH_BYTES << inside)
        if len(tile) < until:
            raise LedgerError(
                f"tile {tile_path(level, first // WIDTH)} has {len(tile)} bytes where {until} "
                "are needed"
            )
        return whole_root(split_tile(tile[at:until]))

    return read
