"""The scanner's stream: however a text is split, what comes out is the mask of the whole."""

import random
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from pangate import _scan
from pangate.errors import MaskingError
from pangate.masking import DIGITS, KINDS, default_scanner
from pangate.masking.iin import compile_ranges, select

TABLES = compile_ranges(select())
SCANNERS = [_scan.Scanner(TABLES, name) for name in _scan.kernels()]
MOST = 37

PIECES = st.sampled_from(
    [
        b"4111111111111111",
        b"4111 1111 1111 1111",
        b"8-1-7-1-9-9-9-9-0-0-0-0-0-0-0-0-0-2-1",
        b"5555555555554444 4111111111111111",
        b"501800000009",
        b"4000000000000000006",
        b"4111111111111111 1111",
        b"00000000000000000000",
        b"4",
        b"11",
        b" ",
        b"-",
        b"  ",
        b"x",
        b"\n",
        b"\xff",
    ]
)
texts = st.lists(PIECES, max_size=12).map(b"".join)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def through(scanner: _scan.Scanner, kind: int, chunks: list[bytes]) -> tuple[bytes, dict[int, int]]:
    stream = _scan.Stream(scanner, kind)
    out, taken = [], 0
    for chunk in chunks:
        out.append(stream.feed(chunk))
        taken += len(chunk)
        assert stream.held <= MOST
        assert sum(map(len, out)) + stream.held == taken
    return b"".join([*out, stream.finish()]), stream.counts


@given(
    data=texts,
    cuts=st.lists(st.integers(0, 400), max_size=9),
    kind=st.sampled_from(list(KINDS)),
    scanner=st.sampled_from(SCANNERS),
)
@settings(max_examples=400, deadline=None)
def test_any_splitting_gives_the_mask_of_the_whole(data, cuts, kind, scanner):
    expected = oracle.mask(data, kind)
    counts = scanner.mask_counted(bytearray(data), KINDS[kind])
    for chunks in (pieces(data, cuts), [bytes([byte]) for byte in data], [data]):
        assert through(scanner, KINDS[kind], chunks) == (expected, counts)


@pytest.mark.parametrize("group", [1, 2, 4, 7, 19, 20, 50_000])
def test_an_endless_chain_is_released_as_it_comes(group):
    rng = random.Random(group)
    digits = "".join(rng.choices("0123456789", k=3000))
    data = "-".join(digits[i : i + group] for i in range(0, 3000, group)).encode()
    expected = oracle.mask(data)
    for step in (1, 3, 36, 37, 38, 1000):
        chunks = [data[i : i + step] for i in range(0, len(data), step)]
        assert through(default_scanner(), 0, chunks)[0] == expected


def test_what_is_held_back_is_what_may_still_change():
    stream = _scan.Stream(default_scanner())
    assert stream.feed(b"card 41111111") == b"card "
    assert stream.feed(b"11111111") == b""  # one more digit, and it is none
    assert (stream.held, stream.counts) == (16, {})
    assert stream.feed(b"\n") == b"************1111\n"
    assert (stream.held, stream.counts) == (0, {0: 1})
    assert stream.feed(b"4111111111111111") == b""
    # twenty digits are no PAN, whatever follows
    assert stream.feed(b"1111") == b"41111111111111111111"
    assert stream.feed(b"1 ") == b"1 "
    assert stream.feed(memoryview(bytearray(b"4111 1111 1111 1111"))) == b""
    assert stream.finish() == b"**** **** **** 1111"
    assert stream.counts == {0: 2}


def test_the_longest_pan_is_held_back_whole():
    pan = b"8-1-7-1-9-9-9-9-0-0-0-0-0-0-0-0-0-2-1"
    stream = _scan.Stream(default_scanner())
    assert stream.feed(pan) == b""
    assert stream.held == len(pan) == MOST
    assert stream.feed(b".") == b"*-*-*-*-*-*-*-*-*-*-*-*-*-*-*-0-0-2-1."


def test_a_mask_reaches_into_what_is_held_back():
    """The first number is decided, and overlaps with one that is not."""
    data = b"4000 0000 0000 0000 006"  # a PAN of 19 digits; what follows is a group of its own
    stream = _scan.Stream(default_scanner())
    out = stream.feed(data) + stream.feed(b" ") + stream.feed(b"411111111111") + stream.finish()
    assert out == oracle.mask(data + b" 411111111111")


def test_misuse_is_an_error():
    scanner = default_scanner()
    with pytest.raises(MaskingError, match="DIGITS"):
        _scan.Stream(scanner, DIGITS)
    for kind in (-1, 4, 7, 16):
        with pytest.raises(MaskingError, match=f"kind {kind} does not exist"):
            _scan.Stream(scanner, kind)
    with pytest.raises(TypeError):
        _scan.Stream(None)
    stream = _scan.Stream(scanner)
    for wrong in ("4111", 7, None):
        with pytest.raises(TypeError):
            stream.feed(wrong)
    assert stream.feed(b"41") == b""
    assert stream.finish() == b"41"
    for call in (lambda: stream.feed(b"x"), stream.finish):
        with pytest.raises(MaskingError, match="finished"):
            call()


def test_a_kind_that_does_not_exist_masks_nothing():
    data = bytearray(b"4111111111111111")
    for kind in (-1, 4, 7, 12, 16):
        for call in (
            default_scanner().mask,
            default_scanner().mask_json,
            default_scanner().mask_counted,
        ):
            with pytest.raises(MaskingError, match=f"kind {kind} does not exist"):
                call(data, kind)
    assert data == b"4111111111111111"


def test_two_threads_on_one_stream_are_told():
    stream = _scan.Stream(default_scanner())
    chunk = b"4111111111111111 " * 200_000
    seen: list[str] = []
    together = threading.Barrier(2)

    def feed() -> None:
        together.wait(10)
        for _ in range(500):
            try:
                stream.feed(chunk)
            except MaskingError as wrong:
                seen.append(str(wrong))
            if seen:
                return

    threads = [threading.Thread(target=feed) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen
    assert all("one stream a thread" in text for text in seen)


def test_what_is_given_back_is_not_kept():
    stream = _scan.Stream(default_scanner())
    for chunk in (b"x" * 100, b"x" * 100_000, b"4"):
        out = stream.feed(chunk)
        # the name here and the argument of getrefcount; one byte or none is shared by everybody
        assert sys.getrefcount(out) == 2 or len(out) < 2
