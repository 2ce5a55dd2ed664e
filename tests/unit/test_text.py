"""The one look at a text against its plain definition, byte by byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate import _text

NAMES = {b"cvv", b"pin", b"ode"}
ENDS = np.zeros(32768, dtype=np.uint8)
for _name in NAMES:
    ENDS[(_name[0] & 31) << 10 | (_name[1] & 31) << 5 | (_name[2] & 31)] = 1
POINTS = np.zeros(131072, dtype=np.uint8)
POINTS[0xFF10:0xFF1A] = 1
POINTS[0x660:0x66A] = 1
POINTS[[0xA0, 0x2011]] = 2
LOOK = _text.Look(ENDS, POINTS)


def digit(data: bytes, i: int) -> bool:
    return 0 <= i < len(data) and data[i : i + 1].isdigit()


def name(data: bytes, i: int) -> bool:
    head = data[:i]
    for _ in range(5):
        if head[-1:] and head[-1:] in (b'"', b"'", b"\\", b"]", b" ", b"\t"):
            head = head[:-1]
    if len(head) < 3:
        return len(head) > 0
    a, b, c = head[-3:]
    return bool(ENDS[(a & 31) << 10 | (b & 31) << 5 | (c & 31)])


def percent(data: bytes, i: int) -> bool:
    if i + 2 >= len(data):
        return False
    a, b = data[i + 1 : i + 2], data[i + 2 : i + 3].lower()
    if a == b"3" and (b.isdigit() or b == b"d"):
        return b.isdigit() or digit(data, i - 1)
    if a == b"2" and b in (b"0", b"d") and digit(data, i - 1):
        return True
    if a == b"5" and b == b"e":
        return digit(data, i - 1)
    return b.isdigit() and digit(data, i + 3)


def beyond(data: bytes, i: int) -> bool:
    behind = digit(data, i - 1) or (i > 1 and data[i - 1] in b" -" and digit(data, i - 2))
    lead = data[i]
    if lead == 0xA0:
        return behind
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if i + size > len(data):
        return False
    point = lead & (0x1F, 0x0F, 0x07)[size - 2]
    for byte in data[i + 1 : i + size]:
        point = point << 6 | byte & 0x3F
    kind = POINTS[point] if point < len(POINTS) else 0
    return bool(kind == 1 or (kind == 2 and behind))


def track(data: bytes, i: int) -> bool:
    if data[i] == 0x3B:
        return digit(data, i + 1)
    return digit(data, i - 1) or (i > 0 and data[i - 1] == 0x20)


def plain(data: bytes) -> tuple[list[int] | bool, ...]:
    n = len(data)
    other = 0 in data
    found: tuple[list[int], ...] = ([], [], [], [], [], [])
    for i, byte in enumerate(data):
        if byte in b":=>" and name(data, i):
            found[0].append(i)
        elif byte == 0x25 and percent(data, i):
            found[1].append(i)
        elif byte == 0x5C and i + 3 < n and data[i + 1] in b"ux":
            found[2].append(i)
        elif byte == 0x26 and i + 4 < n and data[i + 1] in b"#n":
            found[3].append(i)
        elif byte == 0x2B and i + 6 < n and all(digit(data, k) for k in (i - 1, i + 1, i + 4)):
            found[4].append(i)
        elif (byte >= 0xC0 or byte == 0xA0) and beyond(data, i):
            found[5].append(i)
        elif byte in b";^" and track(data, i):
            other = True
    return (*found, other)


pieces = st.one_of(
    st.sampled_from(
        [b"cvv", b"pin", b"code", b'"', b"'", b" ", b":", b"=", b">", b"%3", b"%34", b"%20", b"%2D", b"%5e",
         b"%41", b"%", b"\\u0034", b"\\x34", b"\\", b"&#52;", b"&nbsp;", b"&", b"+", b"4111", b"4", b"-",
         b";", b"^", b"\0",
         b"\xa0", "\uff14".encode(), "\u0664".encode(), "\u2011".encode(), b"\xc2\xa0", b"\xf0", b"\xe2\x80"]
    ),
    st.binary(max_size=6),
    st.sampled_from([b"x" * 61, b"4" * 63, b"x" * 130]),
)  # fmt: skip


@given(st.lists(pieces, max_size=14).map(b"".join))
@settings(max_examples=600)
def test_against_the_plain_definition(data):
    assert LOOK.places(data) == plain(data)


def test_every_alignment_at_the_end_of_a_buffer():
    for mark in (
        b"cvv=",
        b"1%34",
        b"\\u0034",
        b"&#52;",
        b"4+1111+",
        "1\uff14".encode(),
        b"1\xa0",
        b"\xf0",
        b";4",
        b"4^",
        b"\0",
        b'cvv "=',
    ):
        for pad in range(70):
            data = b"x" * pad + mark
            assert LOOK.places(data) == plain(data)
            assert LOOK.places(data[:-1]) == plain(data[:-1])


def test_tables_of_another_size_are_refused():
    with pytest.raises(ValueError, match="32768"):
        _text.Look(ENDS[:10], POINTS)
    with pytest.raises(ValueError, match="131072"):
        _text.Look(ENDS, POINTS[:10])
    with pytest.raises(TypeError):
        LOOK.places("text")
