"""Sets of events of one block, and rows of numbers, as bytes."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from pangate.audit.index.schema import BITMAP_BYTES, BLOCK

Positions = npt.NDArray[np.int64]
"""Places in a block, ascending, each once."""

Numbers = npt.NDArray[np.int64]


def pack(positions: Positions) -> bytes:
    """A set as bytes: as many bits as a block has events, or the positions where that is shorter."""
    if 2 * len(positions) < BITMAP_BYTES:
        return positions.astype("<u2").tobytes()
    bits = np.zeros(BLOCK, np.bool_)
    bits[positions] = True
    return np.packbits(bits, bitorder="little").tobytes()


def unpack(data: bytes) -> Positions:
    """The set that `pack` made these bytes of."""
    if len(data) == BITMAP_BYTES:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return np.flatnonzero(bits).astype(np.int64)
    return np.frombuffer(data, "<u2").astype(np.int64)


def join(data: bytes, more: Positions) -> bytes:
    """A set that was packed, with these positions too."""
    if len(data) == BITMAP_BYTES:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        bits[more] = 1
        return np.packbits(bits, bitorder="little").tobytes()
    if len(data) + 2 * len(more) < BITMAP_BYTES and more[0] > int.from_bytes(data[-2:], "little"):
        # as nearly always: events come in their order
        return data + more.astype("<u2").tobytes()
    return pack(np.union1d(unpack(data), more))


def unpack_bitmap(data: bytes) -> npt.NDArray[np.uint8]:
    """Of a set that is as many bits as a block has events: a one for each that is in it."""
    return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")


def pack_counts(counts: Numbers) -> bytes:
    """Counts as bytes, each at the most what four bytes hold."""
    return np.minimum(counts, 0xFFFF_FFFF).astype("<u4").tobytes()


def unpack_counts(data: bytes) -> Numbers:
    """The counts that `pack_counts` made these bytes of."""
    return np.frombuffer(data, "<u4").astype(np.int64)


def pack_numbers(numbers: Numbers) -> bytes:
    """A row of numbers as bytes; short where they differ little from one to the next."""
    return zlib.compress(np.diff(numbers, prepend=0).astype("<i8").tobytes(), 1)


def unpack_numbers(data: bytes) -> Numbers:
    """The numbers that `pack_numbers` made these bytes of."""
    found: Any = np.cumsum(np.frombuffer(zlib.decompress(data), "<i8"))
    return found.astype(np.int64)  # type: ignore[no-any-return]
