"""The form of a journal: what is recorded and not yet in the tree.

A file begins with MAGIC. Each record behind it is

    length  4 bytes  of the leaf, little-endian
    check   4 bytes  CRC-32 of the length, the index of the leaf in 8 bytes, and the leaf; little-endian
    leaf

The index is not stored: the name of the file has the first one and the others follow. It is in the check,
so that a record that was moved does not pass. The check finds accidents; it keeps nobody from writing
another record. That is what the tree is for."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from pangate.ledger.tiles import MAX_LEAF_BYTES

MAGIC = b"pangate journal 1\n"
HEAD_BYTES = 8

_HEAD = Struct("<II")
_CHECKED = Struct("<IQ")


class Records(NamedTuple):
    """What a journal holds. `end` is the offset behind the last whole record; `problem` says in a few
    words why there is no further one there, and is "" when the file ends there."""

    leaves: list[bytes]
    end: int
    problem: str


def encode_records(leaves: Sequence[bytes], first: int) -> bytes:
    """The records of `leaves`, the first of which has the index `first`."""
    parts = []
    for index, leaf in enumerate(leaves, first):
        length = len(leaf)
        parts.append(_HEAD.pack(length, crc32(leaf, crc32(_CHECKED.pack(length, index)))))
        parts.append(leaf)
    return b"".join(parts)


def decode_records(data: bytes, first: int, start: int = len(MAGIC)) -> Records:
    """The records of `data` from the offset `start` on, up to the first that is not whole."""
    leaves: list[bytes] = []
    position, end = start, len(data)
    if start <= len(MAGIC) and not data.startswith(MAGIC):
        return Records(leaves, 0, "the file does not begin as a journal does")
    while position < end:
        if end - position < HEAD_BYTES:
            return Records(leaves, position, "the file ends within the head of a record")
        length, check = _HEAD.unpack_from(data, position)
        if length > MAX_LEAF_BYTES:
            return Records(leaves, position, "the length of a record is out of range")
        body = position + HEAD_BYTES
        leaf = data[body : body + length]
        if len(leaf) < length:
            return Records(leaves, position, "the file ends within a record")
        if crc32(leaf, crc32(_CHECKED.pack(length, first + len(leaves)))) != check:
            return Records(leaves, position, "a record does not have the check that stands with it")
        leaves.append(leaf)
        position = body + length
    return Records(leaves, position, "")
