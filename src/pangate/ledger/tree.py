"""The Merkle tree of RFC 6962, section 2.1, over SHA-256."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from pangate.errors import LedgerError

HASH_BYTES = 32

ReadHash = Callable[[int, int], bytes]
"""`read(height, index)` is the hash of the whole subtree over the leaves from `index << height` to
before `(index + 1) << height`. Height 0 has the leaf hashes."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf by its content."""
    return sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of a node by the hashes of its two children."""
    return sha256(b"\1" + left + right).digest()


def empty_root() -> bytes:
    """Root of the tree without leaves."""
    return sha256(b"").digest()


def whole_root(hashes: Sequence[bytes]) -> bytes:
    """Root over `hashes`, whose number is a power of two."""
    row = list(hashes)
    if not row or len(row) & (len(row) - 1):
        raise ValueError("a whole subtree has 1, 2, 4, 8, ... hashes")
    digest = sha256
    while len(row) > 1:
        row = [
            digest(b"\1" + left + right).digest()
            for left, right in zip(row[::2], row[1::2], strict=True)
        ]
    return row[0]


def range_root(read: ReadHash, first: int, end: int) -> bytes:
    """Root over the leaves from `first` to before `end`, as RFC 6962 splits a tree.

    `first` is a multiple of the smallest power of two that is no less than `end - first`, which holds for
    all ranges that proofs are made of."""
    if first == end:
        return empty_root()
    root = b""
    # The whole subtrees of a range, the smallest and last first; each joins what is to its right.
    position = end
    while position > first:
        span = position - first
        height = (span & -span).bit_length() - 1
        position -= 1 << height
        whole = read(height, position >> height)
        root = node_hash(whole, root) if root else whole
    return root


class Frontier:
    """The right edge of a tree that grows: the roots of its whole subtrees, the largest first."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    @classmethod
    def of(cls, read: ReadHash, size: int) -> Frontier:
        """The frontier of a tree of `size` leaves whose hashes are stored."""
        frontier = cls()
        position = 0
        for height in range(size.bit_length() - 1, -1, -1):
            if size >> height & 1:
                frontier._roots.append(read(height, position >> height))
                position += 1 << height
        frontier.size = size
        return frontier

    def copy(self) -> Frontier:
        """Another frontier that grows on its own."""
        other = Frontier()
        other.size = self.size
        other._roots = self._roots.copy()
        return other

    def append(self, leaf: bytes) -> None:
        """Add one leaf by its hash."""
        self.append_whole(leaf, 0)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves by their hashes."""
        for leaf in leaves:
            self.append_whole(leaf, 0)

    def append_whole(self, root: bytes, height: int) -> None:
        """Add a whole subtree of `1 << height` leaves by its root.

        Raises LedgerError when the tree does not end where such a subtree can begin."""
        if self.size & ((1 << height) - 1):
            raise LedgerError(
                f"a subtree of height {height} cannot follow a tree of {self.size} leaves"
            )
        carry = self.size >> height
        while carry & 1:
            root = node_hash(self._roots.pop(), root)
            carry >>= 1
        self._roots.append(root)
        self.size += 1 << height

    def root(self) -> bytes:
        """Root of the tree as it is now."""
        if not self._roots:
            return empty_root()
        root = self._roots[-1]
        for whole in reversed(self._roots[:-1]):
            root = node_hash(whole, root)
        return root
