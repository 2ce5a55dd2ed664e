"""The layout and the bundles, by the examples of the C2SP specification and by round trips."""

import pytest

from pangate.errors import LedgerError
from pangate.ledger import tiles


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (tiles.tile_path(0, 0), "tile/0/000"),
        (tiles.tile_path(0, 1234067), "tile/0/x001/x234/067"),
        (tiles.tile_path(1, 999), "tile/1/999"),
        (tiles.tile_path(1, 1000, 17), "tile/1/x001/000.p/17"),
        (tiles.entries_path(1234), "tile/entries/x001/234"),
        (tiles.entries_path(0, 255), "tile/entries/000.p/255"),
    ],
)
def test_paths(path, expected):
    assert path == expected


def test_paths_are_read_back():
    for index in (0, 1, 999, 1000, 123456, 1234067, 10**9):
        for width in (1, 17, 255, 256):
            assert tiles.parse_path(tiles.tile_path(3, index, width)) == (3, index, width)
            assert tiles.parse_path(tiles.entries_path(index, width)) == (None, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/00",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/entries/000.p/256",
        "tile/0/001/x000",
        "tile/0/000.new",
        "tile/0/000\n",
        "checkpoint",
    ],
)
def test_other_paths_are_none(path):
    assert tiles.parse_path(path) is None


def test_the_example_of_70_000_leaves():
    assert list(tiles.tile_widths(70_000)) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert list(tiles.tile_widths(256)) == [(0, 1, 0), (1, 0, 1)]
    assert list(tiles.tile_widths(0)) == []
    for level, full, partial in tiles.tile_widths(70_000):
        assert tiles.width_of(level, full, 70_000) == partial
        assert tiles.width_of(level, full + 1, 70_000) == 0
        if full:
            assert tiles.width_of(level, full - 1, 70_000) == 256


def test_bundles():
    leaves = [b"", b"a", b"x" * 0x102, b"y" * 0xFFFF]
    data = tiles.encode_bundle(leaves)
    assert data[:5] == b"\0\0\0\1a"
    assert data[5:7] == b"\1\2"
    assert tiles.decode_bundle(data) == leaves
    assert tiles.decode_bundle(b"") == []
    with pytest.raises(LedgerError, match="at most 65535 bytes, and this 65536"):
        tiles.encode_bundle([b"z" * 0x10000])


def test_a_bundle_that_ends_early():
    data = tiles.encode_bundle([b"first", b"second"])
    with pytest.raises(LedgerError, match="entry at byte 7 says 6 bytes, and 5 follow"):
        tiles.decode_bundle(data[:-1])
    with pytest.raises(LedgerError, match="2 bytes was expected at byte 7"):
        tiles.decode_bundle(data[:8])


def test_a_tile_has_whole_hashes():
    assert tiles.split_tile(bytes(64)) == [bytes(32)] * 2
    with pytest.raises(LedgerError, match="this one 63 bytes"):
        tiles.split_tile(bytes(63))
