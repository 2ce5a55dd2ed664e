"""Trees, tiles and proofs against RFC 6962's own definitions and the published vectors."""

import random

import pytest

import merkle
from pangate.errors import LedgerError
from pangate.ledger import proof, tiles, tree

SIZES = [*range(20), 31, 32, 33, 63, 64, 65, 255, 256, 257, 300]


def leaves_of(size):
    return [f"leaf {number}".encode() for number in range(size)]


def reader(leaves):
    """Hashes by tiles that are made of the definition."""

    def read_tile(level, index):
        span = 256**level
        first = index * 256 * span
        hashes = [
            merkle.mth(leaves[start : start + span])
            for start in range(first, min(first + 256 * span, len(leaves)), span)
            if start + span <= len(leaves)
        ]
        return b"".join(hashes)

    return tiles.hash_reader(read_tile)


def test_published_roots():
    assert tree.empty_root() == merkle.VECTOR_ROOTS[0]
    frontier = tree.Frontier()
    for size, leaf in enumerate(merkle.VECTOR_LEAVES, 1):
        frontier.append(tree.leaf_hash(leaf))
        assert frontier.size == size
        assert (
            frontier.root() == merkle.VECTOR_ROOTS[size] == merkle.mth(merkle.VECTOR_LEAVES[:size])
        )


def test_published_proofs():
    read = reader(merkle.VECTOR_LEAVES)
    assert [item.hex() for item in proof.inclusion_proof(read, 5, 8)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [item.hex() for item in proof.consistency_proof(read, 6, 8)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@pytest.mark.parametrize("size", SIZES)
def test_a_frontier_is_the_tree(size):
    leaves = leaves_of(size)
    frontier = tree.Frontier()
    frontier.extend(map(tree.leaf_hash, leaves))
    assert frontier.root() == merkle.mth(leaves)
    stored = tree.Frontier.of(reader(leaves), size)
    assert (stored.size, stored.root()) == (size, merkle.mth(leaves))
    grown = stored.copy()
    grown.append(tree.leaf_hash(b"one more"))
    assert grown.root() == merkle.mth([*leaves, b"one more"])
    assert stored.root() == merkle.mth(leaves)


def test_whole_subtrees_can_be_appended():
    leaves = leaves_of(600)
    frontier = tree.Frontier()
    for first in (0, 256):
        hashes = [tree.leaf_hash(leaf) for leaf in leaves[first : first + 256]]
        frontier.append_whole(tree.whole_root(hashes), 8)
    frontier.extend(tree.leaf_hash(leaf) for leaf in leaves[512:])
    assert (frontier.size, frontier.root()) == (600, merkle.mth(leaves))
    with pytest.raises(LedgerError, match="height 8 cannot follow a tree of 600"):
        frontier.append_whole(bytes(32), 8)
    with pytest.raises(ValueError, match="whole subtree"):
        tree.whole_root([bytes(32)] * 3)


@pytest.mark.parametrize("size", SIZES)
def test_inclusion(size):
    leaves = leaves_of(size)
    read, root = reader(leaves), merkle.mth(leaves)
    for index in range(size) if size < 70 else (0, 1, size // 2, size - 2, size - 1):
        made = proof.inclusion_proof(read, index, size)
        assert made == merkle.path(index, leaves)
        leaf = tree.leaf_hash(leaves[index])
        assert proof.verify_inclusion(leaf, index, size, root, made)
        assert not proof.verify_inclusion(tree.leaf_hash(b"other"), index, size, root, made)
        assert not proof.verify_inclusion(leaf, index, size, bytes(32), made)
        assert not proof.verify_inclusion(leaf, index, size, root, [*made, bytes(32)])
        assert not proof.verify_inclusion(leaf, index + size, size, root, made)
        if made:
            assert not proof.verify_inclusion(leaf, index, size, root, made[:-1])
            assert not proof.verify_inclusion(leaf, index ^ 1, size, root, made)
    with pytest.raises(LedgerError, match=f"has no leaf {size}"):
        proof.inclusion_proof(read, size, size)


@pytest.mark.parametrize("new", SIZES)
def test_consistency(new):
    leaves = leaves_of(new)
    read, new_root = reader(leaves), merkle.mth(leaves)
    for old in range(new + 1) if new < 70 else (0, 1, 64, new // 2, 255, new - 1, new):
        made = proof.consistency_proof(read, old, new)
        old_root = merkle.mth(leaves[:old])
        assert made == (merkle.proof(old, leaves) if old else [])
        assert proof.verify_consistency(old, old_root, new, new_root, made)
        assert not proof.verify_consistency(old, bytes(32), new, new_root, made)
        assert not proof.verify_consistency(old, old_root, new, new_root, [*made, bytes(32)])
        if old:
            assert not proof.verify_consistency(old, old_root, new, bytes(32), made)
        if made:
            assert not proof.verify_consistency(old, old_root, new, new_root, made[:-1])
            assert not proof.verify_consistency(old, old_root, new, new_root, [])
    assert not proof.verify_consistency(new + 1, new_root, new, new_root, [])
    with pytest.raises(LedgerError, match="does not grow"):
        proof.consistency_proof(read, new + 1, new)


def test_random_trees():
    chance = random.Random(6962)
    for _ in range(60):
        size = chance.randrange(1, 700)
        leaves = leaves_of(size)
        read, root = reader(leaves), merkle.mth(leaves)
        index, old = chance.randrange(size), chance.randrange(1, size + 1)
        leaf = tree.leaf_hash(leaves[index])
        assert proof.verify_inclusion(
            leaf, index, size, root, proof.inclusion_proof(read, index, size)
        )
        made = proof.consistency_proof(read, old, size)
        assert made == merkle.proof(old, leaves)


def test_a_reader_names_the_tile_that_is_too_short():
    read = tiles.hash_reader(lambda level, index: bytes(32))
    with pytest.raises(LedgerError, match=r"tile/0/x001/234 has 32 bytes where 256 are needed"):
        read(3, 1234 * 32)
