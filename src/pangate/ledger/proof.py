"""Proofs that a leaf is in a tree and that one tree is the beginning of another (RFC 6962, section
2.1; checked as RFC 9162 does), and the file that carries the first kind (C2SP tlog-proof)."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pangate.errors import LedgerError
from pangate.ledger.note import decode_base64
from pangate.ledger.tree import HASH_BYTES, ReadHash, empty_root, node_hash, range_root

MAX_HASHES = 63
"""Hashes of the longest proof: one a level."""

_MAGIC = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile("index (0|[1-9][0-9]{0,18})")


def inclusion_proof(read: ReadHash, index: int, size: int) -> list[bytes]:
    """The hashes beside the way from leaf `index` up to the root of the tree of `size` leaves."""
    if not 0 <= index < size:
        raise LedgerError(f"a tree of {size} leaves has no leaf {index}")
    proof = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            proof.append(range_root(read, middle, end))
            end = middle
        else:
            proof.append(range_root(read, first, middle))
            first = middle
    return proof[::-1]


def consistency_proof(read: ReadHash, old: int, new: int) -> list[bytes]:
    """The hashes that lead from the tree of `old` leaves to that of `new` leaves."""
    if not 0 <= old <= new:
        raise LedgerError(f"a tree of {new} leaves does not grow out of one of {old}")
    if old in (0, new):
        return []
    proof = []
    first, end = 0, new
    while old != end:
        middle = first + _split(end - first)
        if old <= middle:
            proof.append(range_root(read, middle, end))
            end = middle
        else:
            proof.append(range_root(read, first, middle))
            first = middle
    if first:  # otherwise it is the old root itself, which the verifier has
        proof.append(range_root(read, first, end))
    return proof[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the leaf with the hash `leaf` is number `index` in the tree with `root`."""
    if not 0 <= index < size:
        return False
    node, last, result = index, size - 1, leaf
    for other in proof:
        if not last:
            return False
        if node & 1 or node == last:
            result = node_hash(other, result)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            result = node_hash(result, other)
        node >>= 1
        last >>= 1
    return last == 0 and result == root


def verify_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of `old` leaves is the beginning of the tree of `new` leaves."""
    if not 0 <= old <= new:
        return False
    if old == 0:
        return not proof and old_root == empty_root()
    if old == new:
        return not proof and old_root == new_root
    hashes = list(proof)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    first = second = hashes[0]
    for other in hashes[1:]:
        if not last:
            return False
        if node & 1 or node == last:
            first = node_hash(other, first)
            second = node_hash(other, second)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            second = node_hash(second, other)
        node >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root


@dataclass(frozen=True, slots=True)
class Proof:
    """All that shows that a leaf is in a log, but for the public key: the leaf itself as `extra`,
    its index, the hashes beside its way up, and the signed checkpoint."""

    extra: bytes
    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def text(self) -> bytes:
        """The proof as a file."""
        lines = [_MAGIC, f"extra {base64.b64encode(self.extra).decode()}", f"index {self.index}"]
        lines += [base64.b64encode(item).decode() for item in self.hashes]
        return "\n".join([*lines, "", ""]).encode() + self.checkpoint

    @classmethod
    def parse(cls, text: bytes) -> Proof:
        """The proof in a file. Nothing of it is verified. Raises LedgerError."""
        head, separator, checkpoint = text.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            lines = []
        if not separator or lines[:1] != [_MAGIC]:
            raise LedgerError(f"a proof begins with {_MAGIC} and has a checkpoint below it")
        extra = b""
        rest = lines[1:]
        if rest and rest[0].startswith("extra "):
            extra = decode_base64(rest.pop(0).removeprefix("extra "))
        index = _INDEX.fullmatch(rest[0]) if rest else None
        if index is None:
            raise LedgerError("a proof says the index of its leaf")
        hashes = tuple(decode_base64(line) for line in rest[1:])
        if len(hashes) > MAX_HASHES or any(len(item) != HASH_BYTES for item in hashes):
            raise LedgerError(f"a proof has at most {MAX_HASHES} hashes of {HASH_BYTES} bytes")
        return cls(extra, int(index[1]), hashes, checkpoint)


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1
