"""The form of a journal, byte by byte."""

import zlib

import pytest

from pangate.ledger.records import MAGIC, decode_records, encode_records

LEAVES = [b'{"a":1}', b"", b"x" * 300]


def test_the_bytes_of_a_record():
    made = encode_records([b"leaf"], 0x0102)
    checked = b"\4\0\0\0" + b"\2\1\0\0\0\0\0\0" + b"leaf"
    assert made == b"\4\0\0\0" + zlib.crc32(checked).to_bytes(4, "little") + b"leaf"


def test_a_round_trip():
    data = MAGIC + encode_records(LEAVES, 7)
    assert decode_records(data, 7) == (LEAVES, len(data), "")
    assert decode_records(MAGIC, 7) == ([], len(MAGIC), "")
    more = encode_records([b"more"], 10)
    assert decode_records(data + more, 10, len(data)) == ([b"more"], len(data + more), "")


def test_records_are_bound_to_their_place():
    data = MAGIC + encode_records(LEAVES, 7)
    assert decode_records(data, 8).problem == "a record does not have the check that stands with it"
    assert decode_records(data, 8).leaves == []


@pytest.mark.parametrize("kept", range(len(MAGIC) + 8 + 7 + 1, len(MAGIC) + 8 + 7 + 8))
def test_a_torn_record(kept):
    data = (MAGIC + encode_records(LEAVES, 0))[:kept]
    assert decode_records(data, 0) == (
        LEAVES[:1],
        len(MAGIC) + 8 + 7,
        "the file ends within the head of a record",
    )


def test_every_cut_and_every_changed_byte_shows():
    data = MAGIC + encode_records(LEAVES, 0)
    ends = {len(MAGIC + encode_records(LEAVES[:count], 0)) for count in range(4)}
    for position in range(len(data)):
        cut = decode_records(data[:position], 0)
        assert bool(cut.problem) == (position not in ends)
        changed = bytearray(data)
        changed[position] ^= 0x10
        assert decode_records(bytes(changed), 0).problem


def test_another_file():
    assert decode_records(b"pangate journal 2\n", 0).end == 0
    assert decode_records(b"", 0).problem == "the file does not begin as a journal does"
    assert "out of range" in decode_records(MAGIC + b"\xff" * 8, 0).problem
