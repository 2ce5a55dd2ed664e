"""Streams: splitting changes nothing, and what is held back is bounded."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate import Masker, MaskingError
from pangate.masking.stream import LONGEST_LINE

DIGITS = ["4111111111111111", "4111 1111 ", "1111 1111", "%34", "\\u0034", "41", "1", " ", "-"]
OTHERS = [
    "\n",
    ", ",
    "x",
    "é",
    "４",
    "\0",
    "=2512101123",
    "^DOE/J^2512101",
    '"cvv": "123"',
    "cvv=123",
]
PIECES = st.sampled_from([*DIGITS, *OTHERS])


def split(data: str | bytes, places: list[int]) -> list[str | bytes]:
    cuts = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(st.lists(PIECES, max_size=40).map("".join), st.lists(st.integers(0, 10_000), max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_splitting_gives_the_mask_of_the_whole(text: str, places: list[int]) -> None:
    masker = Masker()
    stream = masker.stream()
    out = "".join(stream.feed(part) for part in split(text, places)) + stream.finish()
    assert out == masker.mask(text)
    stream = masker.stream()
    data = text.encode()
    out_bytes = b"".join(stream.feed(part) for part in split(data, places)) + stream.finish()
    assert out_bytes == masker.mask(data)


def through(masker: Masker, form: str, parts: list[bytes], room: int) -> bytes:
    """The parts as they come out of buffers with so much room in front of each."""
    stream = masker.stream(form)  # type: ignore[arg-type]
    out = b""
    for part in parts:
        buffer = bytearray(b"4" * room + part + b"1")
        out += b"".join(map(bytes, stream.through(buffer, room, room + len(part))))
        assert buffer[-1:] == b"1"
    return out + bytes(stream.finish() or b"")


@pytest.mark.parametrize("form", ["text", "json"])
@given(
    st.lists(PIECES, max_size=40).map("".join),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.sampled_from([0, 1, 30, 4096]),
)
@settings(max_examples=200, deadline=None)
def test_masking_where_it_was_read_gives_the_same(
    form: str, text: str, places: list[int], room: int
) -> None:
    masker, data = Masker(), text.encode()
    parts = [bytes(part) for part in split(data, places)]  # type: ignore[arg-type]
    assert through(masker, form, parts, room) == masker.mask(data, form)  # type: ignore[arg-type]


def test_what_the_scanner_alone_masks_is_not_copied() -> None:
    stream = Masker().stream()
    buffer = bytearray(64) + b"card 4111111111111111\nand 41"
    (first,) = stream.through(buffer, 64, len(buffer))
    assert isinstance(first, memoryview)
    assert first == b"card ************1111\n"
    assert buffer[64:86] == first
    more = bytearray(64) + b"11111111111111\n"
    assert [bytes(part) for part in stream.through(more, 64, len(more))] == [
        b"and ************1111\n"
    ]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("size", [1000, 4096, 65_536, 1 << 20])
def test_lines_longer_than_what_is_held_back_come_out_the_same_however_they_are_split(
    form: str, size: int
) -> None:
    rng = random.Random(size)
    cards = [
        {"pan": "4111 1111 1111 1111", "n": 5555555555554444, "t": "é\\n" * rng.randrange(9)}
        for _ in range(4000)
    ]
    whole = json.dumps(cards, ensure_ascii=False)
    assert "\n" not in whole
    assert len(whole) > 3 * LONGEST_LINE
    stream = Masker().stream(form)
    outs = []
    for at in range(0, len(whole), size):
        outs.append(stream.feed(whole[at : at + size]))
        assert stream.held <= LONGEST_LINE + 4 * size
    out = "".join(outs) + stream.finish()
    assert "4111 1111" not in out
    assert "5555555555554444" not in out
    assert out == Masker().mask(whole, form)
    if form == "json":
        assert json.loads(out)[0] == {
            "pan": "**** **** **** 1111",
            "n": 1000000000004444,
            "t": cards[0]["t"],
        }


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_without_any_end_hides_no_pan_at_a_cut(form: str) -> None:
    rng = random.Random(7)
    parts, places = ['"'], 0
    while places < 3 * LONGEST_LINE:
        filler = "x" * rng.randrange(3000)
        parts += [filler, "4111111111111111"]
        places += len(filler) + 16
    whole = "".join(parts)
    outs = []
    for size in (777, 70_000, 1 << 20):
        stream = Masker().stream(form)
        outs.append(
            "".join(stream.feed(whole[at : at + size]) for at in range(0, len(whole), size))
            + stream.finish()
        )
    assert outs[0] == outs[1] == outs[2] == whole.replace("4111111111111111", "************1111")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "pan", ["4111,1111,1111,1111", "4111|1111|1111|1111", "4111\t1111\t1111\t1111"]
)
def test_a_mark_that_a_decoder_joins_over_is_no_end(form: str, pan: str) -> None:
    masker = Masker(decode=["default", "separators"])
    for place in range(LONGEST_LINE - 24, LONGEST_LINE + 4):
        stream = masker.stream(form)
        line = "x, a" + "x" * (place - 5) + " " + pan + " " + "y" * 3000
        out = stream.feed(line) + stream.finish()
        assert out == masker.mask(line, form)
        assert out.count("*") == 12 or form == "json"  # bare numbers are filled with digits
        assert pan not in out


def test_what_is_held_back_is_bounded_and_released_at_a_line_end() -> None:
    stream = Masker().stream()
    assert stream.feed(b"card 4111") == b""
    assert stream.held == 9
    assert stream.feed(b"111111111111\nnext") == b"card ************1111\n"
    assert stream.held == 4
    for _ in range(100):
        stream.feed(b"7 " * 5000)
        assert stream.held < LONGEST_LINE
    stream.finish()


def test_misuse_is_an_error() -> None:
    stream = Masker().stream()
    with pytest.raises(TypeError, match="not int"):
        stream.feed(7)
    stream.feed("text")
    with pytest.raises(TypeError, match="not both"):
        stream.feed(b"bytes")
    stream.finish()
    for call in (lambda: stream.feed("x"), stream.finish):
        with pytest.raises(MaskingError, match="finished"):
            call()
    with pytest.raises(MaskingError, match="wrapped looks over line ends"):
        Masker(decode=["wrapped"]).stream()
    with pytest.raises(MaskingError, match="no 'xml'"):
        Masker().stream("xml")


NESTED = st.recursive(
    st.sampled_from([123, "1234", "x" * 300, int(DIGITS[0]), None, "cvv: [", 'a "pin": {']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(st.sampled_from(["cvv", "pin", "a", "track2"]), inner, max_size=4),
    ),
    max_leaves=12,
)
LINES = st.one_of(
    NESTED.map(lambda value: json.dumps(value, indent=1)),
    NESTED.map(json.dumps),
    st.sampled_from(["a line cvv: [1, 2", "} ] cvv=12", ""]),
)


@pytest.mark.parametrize("form", ["text", "json"])
@given(st.lists(LINES, min_size=1, max_size=8).map("\n".join).filter(len), st.integers(1, 5000))
@settings(max_examples=150, deadline=None)
def test_a_value_that_goes_on_over_lines(form: str, text: str, size: int) -> None:
    """As pretty-printed JSON has it: `"cvv": [` and what is to be wiped on the lines behind."""
    masker = Masker()
    stream = masker.stream(form)  # type: ignore[arg-type]
    pieces = [stream.feed(text[i : i + size]) for i in range(0, len(text), size)]
    whole = masker.mask(text, form)  # type: ignore[arg-type]
    assert "".join([*pieces, stream.finish()]) == whole
    data = text.encode()
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    assert through(masker, form, parts, 4096).decode() == whole


def test_a_value_that_never_ends_holds_nothing_back_for_long() -> None:
    line = b"  123,\n"
    stream = Masker().stream()
    most = 0
    for chunk in [b'{"cvv": [\n', *[line] * 30_000, b"x" * 300_000, b"\n", *[line] * 30_000]:
        stream.feed(chunk)
        most = max(most, stream.held)
    assert most < 2 * LONGEST_LINE + 8192
