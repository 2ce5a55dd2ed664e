"""Rows that are too long to be kept: what comes out, piece by piece, is what masking each cell at once
gives, however the bytes are split and wherever a window ends."""

import itertools
import json
import random
import struct
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pangate import _frame
from pangate._frame import SAFE, Names, Plan, Walker
from pangate.errors import LimitReached, ProtocolError
from pangate.masking import default_scanner
from pangate.protocols.postgres import PostgresCodec
from pgwire import (
    SYNC,
    Bench,
    cells,
    complete,
    copy_data,
    copy_out,
    described,
    kinds,
    query,
    ready,
    row,
    row_description,
    split,
)

SCANNER = default_scanner()
LIMIT, WINDOW = 320, 64
"""Bounds of the walkers here, in bytes: small, so that windows end everywhere."""

PAN = b"4111111111111111"
MASKED = b"************1111"
TEXT, BYTEA = _frame.op_of(25, 0), _frame.op_of(17, 0)
BINARY_BYTEA = _frame.op_of(17, 1)
JSONB = _frame.op_of(3802, 1)
JSON, INT8, ARRAY = _frame.op_of(114, 0), _frame.op_of(20, 1), _frame.op_of(1009, 1)
LONGEST = "verification_value_on_the_back_of_a_card"
NAMES = Names({"cvv": _frame.CODE, "track2": _frame.ANY, LONGEST: _frame.CODE})

# What the masks look at, and what tears it apart: a window may end in the middle of any of these.
PIECES = (
    PAN, PAN, b"4111 1111 1111 1111", b"5555-5555-5555-4444", b"3782 822463 10005", b"4", b"11", b"0" * 30,
    b" ", b"-", b"\\x" + PAN.hex().encode(), b"\\x" + PAN.hex().encode() + b"0", b"\\x00", b"\\", b"x",
    b"\\001" + PAN, b"\\0014111 1111 1111 1111", b"\\3566002020360505", b"\x81\x30\x81\x35" + PAN, b"\x8a9",
    b";" + PAN + b"=49121010000000000000?", b"%B" + PAN + b"^DOE/JOHN^49121010000000000000ABC ?",
    b"%B" + PAN + b"^DOE/JOHN^4912101" + b"Q" * 70, MASKED + b"=4912101000", b"^", b"=", b"?", b"*" * 12,
    b"$4,111,111,111,111,111.00", b"4.111111111111111e+15", b"e+15", b"4111,", b"\xc2\xa0",
    b"4,111,111,111,111,111 \xe2\x82\xac", b"a" * 50, b"\xe2\x82\xac4'111'111'111'111'111", b"$",
    b"\xe2\x80\xaf", b"4\xc2\xa0111\xc2\xa0111\xc2\xa0111\xc2\xa0111\xc2\xa0111 kr", b"4.111111111111111E+15",
    b"\xe6\xbc\xa2\xe5\xad\x97", b"\xe6\xbc\xa2" * 40, b"\n", b"ab", b"xyz ", b"Z" * 20,
    b"some words, no numbers. ", b"/" * 90, b"\0", b"'", b"{", b'{"cvv": "123"}',
)  # fmt: skip

texts = st.lists(st.sampled_from(PIECES), min_size=4, max_size=60).map(b"".join)


def masked(op: int, cell: bytes) -> tuple[int, bytes]:
    """The judge: the whole cell at once."""
    out = bytearray(cell)
    hits = _frame.mask_cell(SCANNER, 0, op, out, None, NAMES)
    return hits, bytes(out)


def walker() -> Walker:
    made = Walker(SCANNER, LIMIT, WINDOW)
    made.names = NAMES
    return made


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


class Out:
    """What a walker gave for `chunks`: its bytes, what it booked, and the error that ended it."""

    def __init__(self, plan: Plan, chunks: list[bytes], walking: Walker | None = None) -> None:
        walking = walking or walker()
        self.data, self.error, self.held = b"", "", 0
        try:
            for chunk in chunks:
                walking.load(chunk)
                assert walking.advance(plan) == 0
                self.data += b"".join(map(bytes, walking.release()))
                self.held = max(self.held, walking.held)
        except (LimitReached, ProtocolError) as wrong:
            self.error = str(wrong)
        self.within = walking.within_message
        self.hits, self.counts = plan.take_hits(), walking.take_counts()
        self.all = walking.all_rows, walking.all_bytes


def assert_at_once(
    ops: list[int], *values: bytes | None, splits: list[list[bytes]] | None = None
) -> bool:
    """Judge a row of these values, whole and split. False when it was refused, for its limit."""
    stream = row(*values) + row(*[None] * len(ops))
    expected = [
        (0, None) if v is None else masked(op, v) for op, v in zip(ops, values, strict=True)
    ]
    wanted = row(*(value for _, value in expected)) + row(*[None] * len(ops))
    assert len(stream) > 2 * LIMIT
    outs = [Out(Plan(ops), chunks) for chunks in (splits or [[stream], bytewise(stream)])]
    for out in outs:
        assert wanted.startswith(out.data)
        assert out.error == outs[0].error
        if out.error:
            assert "limits.max_message_bytes" in out.error
            continue
        assert out.data == wanted
        assert not out.within
        assert out.hits == {i: hits for i, (hits, _) in enumerate(expected) if hits}
        assert out.counts[1:] == out.all == (2, len(stream) - 10)
        assert out.counts[0] == outs[0].counts[0]
    return not outs[0].error


@settings(max_examples=300, deadline=None)
@given(
    texts, st.lists(st.integers(0, 10**6), max_size=8), st.sampled_from([TEXT, BINARY_BYTEA, BYTEA])
)
@example(PAN * 60, [], TEXT)
@example(b"\\x" + b"00" * 500, [1], TEXT)
@example((MASKED + b"=4912101000 ") * 40, [], TEXT)
@example(b"*" * 12 + b"=4912101000\n" + b"/" * 700 + PAN, [], TEXT)
@example(b"\\001" + PAN + b"/" * 700 + PAN + b" 4111 1111 1111 1111", [], TEXT)
def test_a_text_in_windows_is_the_text_at_once(text, cuts, op):
    value = text * -(-2 * LIMIT // max(1, len(text)))
    stream = row(value) + row(None)
    assert_at_once([op], value, splits=[[stream], pieces(stream, cuts)])


def test_random_texts_byte_by_byte_mostly_pass():
    """The same from a seed, and with the share of what is refused: a cut that is too shy would pass the
    law and stream nothing."""
    chance = random.Random(20_261_125)
    passed = 0
    for _ in range(300):
        value = b"".join(chance.choices(PIECES, k=120))
        passed += assert_at_once([TEXT], value)
    assert passed > 150


@given(
    st.lists(st.sampled_from([*PIECES, b"\0\xff", b"\x7f" * 9]), min_size=4, max_size=60).map(
        b"".join
    )
)
@settings(max_examples=150, deadline=None)
def test_bytea_in_hex(raw):
    value = raw * -(-LIMIT // len(raw))
    assert_at_once([BYTEA], b"\\x" + value.hex().encode())
    assert_at_once([BYTEA], b"\\x" + value.hex().upper().encode())


@pytest.mark.parametrize("shift", range(WINDOW + 1))
def test_a_pan_across_the_border_of_a_window(shift):
    """For every place of a PAN relative to the windows, in each form."""
    for joint in (b"\n", b"/", b"xyz", b"\xe6\xbc\xa2" * 20):
        value = b"/" * shift + joint.join([PAN, b"4111 1111 1111 1111", b"\\001" + PAN] * 12)
        assert assert_at_once([TEXT], value)
        assert PAN not in masked(TEXT, value)[1]
        assert assert_at_once([BYTEA], b"\\x" + value.hex().encode())
        assert assert_at_once([BINARY_BYTEA], value)


@pytest.mark.parametrize(
    "fill", [b"x", b"a", b"e", b"\xe6\xbc\xa2", b"\0", b"Zq9", b"/", b"word word\n", b"\xff"]
)
def test_what_stands_between_may_be_nearly_anything(fill):
    value = fill * (2000 // len(fill))
    value += (b"Z" + PAN + b"Z" + fill * 50) * 20
    assert assert_at_once([TEXT], value)
    assert assert_at_once([BYTEA], b"\\x" + value.hex().encode())


INNER = [piece.decode("latin-1") for piece in PIECES]
scalars = st.one_of(
    st.sampled_from([None, True, int(PAN), 4111, -1, 1.5, 4.111111111111111e15, 123, 0]),
    st.lists(st.sampled_from(INNER), max_size=3).map("".join),
)
keys = st.sampled_from(["cvv", "cvv", "pan", "n", "", 'a"b', "c\\", PAN.decode(), "card_cvv", "$"])
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=30,
)


def as_json(value: object, chance: random.Random) -> bytes:
    separators = chance.choice([(",", ":"), (", ", ": "), (" ,\n", " : ")])
    text = json.dumps(
        value,
        ensure_ascii=chance.random() < 0.5,
        separators=separators,
        indent=chance.choice([None, 1]),
    )
    return text.replace("\\u0000", " ").encode()


@given(documents, st.integers(0, 10**6), st.lists(st.integers(0, 10**6), max_size=8))
@settings(max_examples=300, deadline=None)
def test_json_in_windows_is_the_json_at_once(document, seed, cuts):
    one = as_json(document, random.Random(seed))
    value = b"[" + b",".join([one] * -(-2 * LIMIT // len(one))) + b"]"
    stream = row(value) + row(None)
    for op in (JSON, TEXT):
        assert_at_once([op], value, splits=[[stream], pieces(stream, cuts)])
    assert_at_once([JSONB], b"\1" + value)


def a_document(chance: random.Random, depth: int = 0) -> object:
    """Values as people keep them: most are short, and what is wiped is a code."""
    match chance.randrange(6 if depth < 3 else 4):
        case 0:
            return chance.choice([int(PAN), 12, -3.5, None, True])
        case 1 | 2 | 3:
            short = [piece for piece in INNER if len(piece) < 20]  # six bytes each, at the most
            return "".join(chance.choices(short, k=2))
        case 4:
            return [a_document(chance, depth + 1) for _ in range(chance.randrange(5))]
        case _:
            names = chance.sample(["cvv", "pan", "name", "notes", "n"], 3)
            found = {name: a_document(chance, depth + 1) for name in names}
            return {**found, "cvv": "123"} if "cvv" in found else found


def test_random_json_mostly_passes():
    chance = random.Random(20_261_129)
    passed = {JSON: 0, TEXT: 0}
    for _ in range(150):
        parts = [as_json(a_document(chance), chance) for _ in range(80)]
        value = b"[" + b",".join(parts) + b"]"
        for op in passed:
            passed[op] += assert_at_once([op], value)
    assert passed[JSON] > 140
    assert passed[TEXT] > 75


@pytest.mark.parametrize("shift", range(WINDOW + 1))
def test_what_is_wiped_across_the_border_of_a_window(shift):
    """A name in one window and its value in the next would leave the value as it is."""
    for value in (b'"123"', b"123", b'["123", {"a": "]"}]', b' \n "123"'):
        part = b'{"pad": "' + b"x" * shift + b'", "cvv" : ' + value + b', "pan": "' + PAN + b'"}'
        whole = b"[" + b",".join([part] * 12) + b"]"
        for op in (JSON, TEXT):
            assert assert_at_once([op], whole)
            assert b"123" not in masked(op, whole)[1]
        assert assert_at_once([JSONB], b"\1" + whole)


def test_numbers_in_json_are_cut_at_their_commas():
    assert assert_at_once([JSON], b"[" + b",".join([PAN, b"12", b"4111"] * 40) + b"]")
    # but not where a sign of currency may make an amount of them
    assert not assert_at_once([JSON], b"[" + b"4,111,111,111,111,111,$," * 60 + b"1]")


def test_the_text_of_numbers_has_no_place_to_cut():
    assert not assert_at_once([TEXT], b"4111,5555,1234 0-" * 60)
    assert not assert_at_once([TEXT], b"\\x" + PAN.hex().encode() * 30)
    assert not assert_at_once([BYTEA], b"\\x" + (PAN * 50).hex().encode())
    # but up to the limit it does without
    assert assert_at_once([TEXT], (b"4111,5555,1234 0-" * 15 + b"\n") * 5)


def test_cells_of_one_row_are_each_their_own():
    long = (PAN + b"\n" + b"." * 40 + b"\n") * 30
    int8 = struct.pack("!q", int(PAN))
    array = struct.pack("!iiiii", 1, 0, 25, 1, 1) + struct.pack("!i", 16) + PAN
    ops = [INT8, TEXT, SAFE, ARRAY, JSON, TEXT, BYTEA, TEXT]
    hexed = b"\\x" + long.hex().encode()
    assert assert_at_once(ops, int8, long, PAN * 99, array, b'{"n":' + PAN + b"}", None, hexed, b"")
    assert assert_at_once(ops, None, None, PAN * 99, None, b'{"cvv": "123"}', long, None, PAN)


def an_array(oid: int, *values: bytes | None, ndim: int = 1) -> bytes:
    head = struct.pack("!iiI", ndim, 0, oid) + struct.pack("!ii", len(values), 1) * ndim
    return head + b"".join(map(an_element, values))


def an_element(value: bytes | None) -> bytes:
    return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


def a_record(*fields: tuple[int, bytes | None]) -> bytes:
    parts = (struct.pack("!I", oid) + an_element(value) for oid, value in fields)
    return struct.pack("!i", len(fields)) + b"".join(parts)


short_texts = st.lists(st.none() | st.sampled_from(PIECES) | st.just(b""), min_size=1, max_size=40)


@given(short_texts, st.lists(st.integers(0, 10**6), max_size=8))
@settings(max_examples=150, deadline=None)
def test_arrays_and_composites_go_element_by_element(values, cuts):
    values = values * -(-3 * LIMIT // (4 * len(values)))
    array = an_array(25, *values)
    record = a_record(*((25, value) for value in values), (20, struct.pack("!q", int(PAN))))
    for op, value in ((ARRAY, array), (_frame.RECORD, record)):
        stream = row(value) + row(None)
        assert assert_at_once(
            [op], value, splits=[[stream], pieces(stream, cuts), bytewise(stream)]
        )


def test_what_is_held_is_taken_apart_to_any_depth():
    inner = an_array(25, *[PAN] * 5)
    assert assert_at_once([ARRAY], an_array(1009, *[inner] * 10, ndim=2))
    assert assert_at_once([_frame.RECORD], a_record(*[(1009, inner)] * 10))
    long = (PAN + b"\n") * 60
    assert assert_at_once([ARRAY], an_array(25, b"x", long, *[b"y"] * 80))
    for depth in range(1, 19):
        value, oid = long, 25
        for level in range(depth):
            if level % 2:
                value, oid = an_array(oid, None, value), 1009
            else:
                value, oid = a_record((oid, value), (20, None), (25, PAN)), 2249
        value = a_record((oid, value))
        stream = row(value) + row(None)
        outs = [Out(Plan([_frame.RECORD]), chunks) for chunks in ([stream], bytewise(stream))]
        hits, whole = masked(_frame.RECORD, value)
        for out in outs:
            assert PAN not in out.data
            assert (hits >= 0) == (depth < 16)
            assert bool(out.error) == (hits < 0)
            assert out.error or out.data == row(whole) + row(None)


def test_a_number_has_to_be_there_whole():
    numeric = struct.pack("!hhHh", 300, 299, 0, 0) + struct.pack("!h", 1234) * 300
    assert not assert_at_once([ARRAY], an_array(1700, None, numeric))


INT8S = _frame.with_inner(_frame.MULTIRANGE, 20)
TEXTS = _frame.with_inner(_frame.RANGE, 25)


def an_hstore(*pairs: bytes | None) -> bytes:
    return struct.pack("!i", len(pairs) // 2) + b"".join(map(an_element, pairs))


hstore_texts = st.sampled_from(
    [*PIECES, b"cvv", b"card_cvv", b"123", b"track2", b"", (PAN + b"\n") * 30]
)


@given(st.lists(hstore_texts, min_size=2, max_size=20), st.lists(st.integers(0, 10**6), max_size=8))
@settings(max_examples=300, deadline=None)
@example([b"track2", (PAN + b"\n") * 60], [])
@example([b"cvv", (b"123\n") * 60, b"cvv", b"123", b"cvv", b""], [])
@example([b"cvv", b" " * 90 + b"123", b"track2", b"1" * 90, b"cvv", b"123" + b" " * 254], [])
def test_hstore_in_windows_is_the_hstore_at_once(values, cuts):
    value = an_hstore(*values[: len(values) // 2 * 2], b"n", None, b"o", b"x\n" * LIMIT)
    stream = row(value) + row(None)
    assert_at_once(
        [_frame.HSTORE], value, splits=[[stream], pieces(stream, cuts), bytewise(stream)]
    )


def quoted(text: bytes) -> bytes:
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


@given(st.lists(hstore_texts, min_size=2, max_size=20), st.lists(st.integers(0, 10**6), max_size=8))
@settings(max_examples=200, deadline=None)
@example([b"cvv", b"123"], [])
@example([b"track2", (PAN + b";") * 60], [])
def test_the_text_of_hstore_in_windows_is_the_text_at_once(values, cuts):
    pairs = [quoted(a) + b"=>" + quoted(b) for a, b in itertools.pairwise(values)]
    value = b", ".join(pairs * -(-2 * LIMIT // (sum(map(len, pairs)))))
    stream = row(value) + row(None)
    assert_at_once([TEXT], value, splits=[[stream], pieces(stream, cuts), bytewise(stream)])


@pytest.mark.parametrize("length", range(55, 70))
def test_the_first_key_of_a_long_text_of_hstore_may_be_long(length):
    value = b'"%b"=>"1", ' % (b"x" * length) + b", ".join(
        [b'"%b cvv"=>"123"' % (b"y" * length)] * 9
    )
    splits = [[row(value) + row(None)], bytewise(row(value) + row(None))]
    assert assert_at_once([TEXT], value, splits=splits)
    assert b"123" not in masked(TEXT, value)[1]


def test_long_text_of_hstore_passes():
    for shift in range(WINDOW + 1):
        one = b'"b"=>NULL, "cvv"=>"123", "a%b"=>"%b"' % (b"x" * shift, PAN)
        assert assert_at_once([TEXT], b", ".join([one] * 14))
        assert b"123" not in masked(TEXT, b", ".join([one] * 14))[1]


def test_what_stands_under_a_name_in_a_long_hstore():
    long = (PAN + b"\n" + b"." * 40) * 30
    for key, value in ((b"cvv", b"123"), (b"track2", long), (b"track2", b"123")):
        for before in range(WINDOW):
            hstore = an_hstore(b"a" * before, long, key, value, b"b", None, b"c", PAN)
            assert assert_at_once([_frame.HSTORE], hstore)
            out = Out(Plan([_frame.HSTORE]), bytewise(row(hstore)))
            assert an_element(key) + an_element(b"*" * len(value)) in out.data
    # by its last words the value may have to be wiped
    assert not assert_at_once([_frame.HSTORE], an_hstore(long, b"1"))


def test_ranges():
    long = (PAN + b"\n" + b"." * 40) * 30
    assert assert_at_once([TEXTS], b"\2" + an_element(b"a") + an_element(long))
    assert assert_at_once([TEXTS], b"\2" + an_element(long) + an_element(PAN))
    bounds = an_element(struct.pack("!q", int(PAN))) + an_element(struct.pack("!q", 7))
    ranges = struct.pack("!i", 50) + an_element(b"\2" + bounds) * 50
    assert assert_at_once([INT8S], ranges)
    texts = struct.pack("!i", 3) + an_element(b"\2" + an_element(long) + an_element(b"b")) * 3
    assert assert_at_once([_frame.with_inner(_frame.MULTIRANGE, 25)], texts)


@pytest.mark.parametrize("op", [_frame.op_of(oid, 1) for oid in (602, 604, 603)])
def test_geometry(op):
    doubles = struct.pack("!dd", float(PAN), 1.5) * 90
    head = {_frame.op_of(602, 1): 5, _frame.op_of(604, 1): 4}.get(op, 0)
    assert assert_at_once([op], bytes(head) + doubles)
    out = Out(Plan([op]), bytewise(row(bytes(head) + doubles + b"\0")))
    assert "decoded" in out.error


@given(short_texts, st.lists(st.integers(0, 10**6), max_size=8))
@settings(max_examples=100, deadline=None)
def test_words_of_a_search(values, cuts):
    words = [value.replace(b"\0", b"") for value in values if value] + [PAN]
    words *= -(-2 * LIMIT // (3 * len(words)))
    places = [struct.pack("!h2h", 2, 0x3431, 0x3131), b"\0\0"]
    vector = struct.pack("!i", len(words)) + b"".join(
        word + b"\0" + places[i % 2] for i, word in enumerate(words)
    )
    query = struct.pack("!i", len(words)) + b"".join(
        b"\2\4\0\1\2\1\1\0\1" + word + b"\0" for word in words
    )
    for op, value in ((_frame.op_of(3614, 1), vector), (_frame.op_of(3615, 1), query)):
        stream = row(value) + row(None)
        assert assert_at_once(
            [op], value, splits=[[stream], pieces(stream, cuts), bytewise(stream)]
        )
        out = Out(Plan([op]), bytewise(row(value + b"\3")))
        assert out.error


def test_bits_and_versioned_texts():
    assert assert_at_once(
        [_frame.op_of(1562, 1)], struct.pack("!i", 900 * 8) + (PAN + b"\xf0") * 60
    )
    assert assert_at_once([_frame.VERSIONED], b"\1" + (PAN + b"\n/" + b"." * 40) * 30)


def test_a_column_of_pans_with_a_text_beyond_the_limit_shows_no_digit():
    value = b"card 4111 1111 1111 1111, or 12; " * 40
    for chunks in ([row(value)], bytewise(row(value))):
        out = Out(Plan([_frame.FORCED]), chunks)
        assert not out.error
        assert out.data[11:] == bytes(b"*"[0] if 48 <= byte < 58 else byte for byte in value)
        assert out.hits == {0: 1}
    # up to the limit it is what it is at once
    assert assert_at_once([_frame.FORCED, TEXT], value[:300], b"x\n" * 900)


@pytest.mark.parametrize(
    ("op", "wrong"),
    [
        (ARRAY, struct.pack("!iiI", 7, 0, 25) + b"\0" * 900),
        (ARRAY, struct.pack("!iiI", 1, 0, 99_999) + b"\0" * 900),
        (ARRAY, an_array(25, *[b"x"] * 200) + b"\0\0"),
        (ARRAY, an_array(25, *[b"x"] * 200) + struct.pack("!i", 9)),
        (ARRAY, an_array(25, *[b"x"] * 200) + struct.pack("!i", -2)),
        (_frame.RECORD, a_record(*[(25, b"x")] * 200) + struct.pack("!Ii", 25, -1)),
        (_frame.RECORD, struct.pack("!i", 201) + a_record(*[(25, b"x")] * 200)[4:]),
        (_frame.RECORD, a_record(*[(25, b"x")] * 200, (99_999, b"x"))),
    ],
)
def test_a_long_array_that_is_not_what_it_says_ends_the_walk(op, wrong):
    outs = [Out(Plan([op]), chunks) for chunks in ([row(wrong)], bytewise(row(wrong)))]
    assert all("decoded" in out.error for out in outs)


WIPED = {
    "text": (b"7", b"*"),
    "digit": (b"7", b"0"),
    "zeros": (b"\7", b"\0"),
    "empty": (b"7", b"0"),
}


@pytest.mark.parametrize("size", [0, 1, 3, 500, 5000])
@pytest.mark.parametrize("kind", WIPED)
def test_what_is_wiped_in_a_long_row_keeps_its_length(kind, size):
    was, becomes = WIPED[kind]
    plan = Plan([TEXT, TEXT, TEXT], [0, _frame.WIPES[kind], 0])
    stream = row(LONG_ROW, was * size, PAN) + row(b"a", was * 3, PAN)
    wanted = row(masked(TEXT, LONG_ROW)[1], becomes * size, MASKED)
    for chunks in ([stream], bytewise(stream), [row(b"b", b"7", None) + stream]):
        out = Out(plan, chunks)
        assert not out.error
        assert wanted in out.data
        assert out.hits[1] == (2 if len(chunks) > 1 or chunks[0] == stream else 3)
        assert PAN not in out.data
        # what comes before and behind is as short as ever
        assert out.data.endswith(
            row(b"a", {"text": b"***", "digit": b"0", "zeros": b"\0" * 3}.get(kind, b""), MASKED)
        )


LONG_ROW = (PAN + b"\n" + b"." * 40) * 50


@pytest.mark.parametrize(
    ("kind", "value"),
    [("json", b'{"a": "%b"}' % (b"7" * 900)), ("json", b"7"), ("json", b"7777"), ("json", b"77777"),
     ("jsonb", b'\1{"a": "%b"}' % (b"7" * 900)), ("jsonb", b"\1" + b"7"),
     ("jsonb", b"\1" + b"77777")],
)  # fmt: skip
def test_wiped_json_in_a_long_row_is_json(kind, value):
    plan = Plan([TEXT, JSON], [0, _frame.WIPES[kind]])
    for chunks in ([row(LONG_ROW, value)], bytewise(row(LONG_ROW, value))):
        (shown,) = (cells(body)[1] for _, body in split(Out(plan, chunks).data))
        assert len(shown) == len(value)
        assert b"7" not in shown
        assert json.loads(shown.removeprefix(b"\1")) in ("***", 0)


@pytest.mark.parametrize("digits", [5, 0x7377])
def test_a_wiped_numeric_in_a_long_row_is_zero(digits):
    """Of as many digits as it has room for, whatever it says of itself."""
    value = struct.pack("!hhHh5h", digits, 2, 0x4000, 4, 7377, 7377, 7377, 7377, 7377)
    for chunks in ([row(LONG_ROW, value)], bytewise(row(LONG_ROW, value))):
        out = Out(Plan([TEXT, TEXT], [0, _frame.WIPES["numeric"]]), chunks)
        (shown,) = (cells(body)[1] for _, body in split(out.data))
        assert shown == struct.pack("!hhHh5h", 5, 0, 0, 0, 0, 0, 0, 0, 0)
    odd = Out(Plan([TEXT, TEXT], [0, _frame.WIPES["numeric"]]), [row(LONG_ROW, value + b"7")])
    assert odd.error
    assert b"7" not in odd.data[11 + len(LONG_ROW) :]


def test_what_has_to_be_whole_may_be_as_long_as_the_limit():
    document = b'{"cvv": "123", "pan": "' + PAN + b'", "more": "' + b"x" * (LIMIT - 60) + b'"}'
    long = b"x\n" * 500
    assert len(document) <= LIMIT
    assert assert_at_once([JSON, TEXT], document, long)
    assert assert_at_once([TEXT, TEXT], long, document)
    assert b"123" not in masked(TEXT, document)[1]
    assert assert_at_once([JSON, TEXT], document + b" " * LIMIT, long)
    # a key is known by what is left of it, and here there is room for none
    string = b'{"more": "%b"}' % (b"x" * LIMIT)
    assert not assert_at_once([JSON, TEXT], string, long)
    assert not assert_at_once([TEXT, TEXT], long, string)


ROOMY, TAIL = 4096, 1024
"""A limit that has room for a key's end."""


def assert_json_at_once(op: int, document: bytes, cuts: Sequence[int] = ()) -> bool:
    """Whether a document comes out as it does at once, with that limit. False when it is refused for it."""
    hits, whole = masked(op, document)
    stream = row(document) + row(None)
    wanted = row(whole) + row(None)
    outs = []
    for chunks in ([stream], pieces(stream, [*cuts, *range(0, len(stream), 97)])):
        made = Walker(SCANNER, ROOMY, 512)
        made.names = NAMES
        out = Out(Plan([op]), chunks, made)
        outs.append(out)
        assert wanted.startswith(out.data)
        assert out.error == outs[0].error
        assert "limits.max_message_bytes" in out.error if out.error else out.data == wanted
        assert out.error or out.hits == ({0: hits} if hits else {})
        assert out.counts[0] == outs[0].counts[0]
        assert out.held < ROOMY + 512 + 200
    return not outs[0].error


def test_a_value_without_quotes_that_has_one_within():
    """It is no JSON, and what follows is as much inside of strings, or outside, as at once."""
    for name in (b"track2", b"cvv", b"pin"):
        for op in (JSON, TEXT):
            document = b'{"%b": a"b ' % name + b"/ ; z:" * 900 + b' "q": 1, "cvv":"123", "w": "zz"}'
            assert_json_at_once(op, document)


LONG_STRINGS = st.lists(
    st.sampled_from(
        [*INNER, "some words; ", "\\", '"', "\\u0034111111111111111", "\t", "x" * 700, "/" * 90]
    ),
    min_size=1,
    max_size=12,
).map("".join)


@given(
    LONG_STRINGS,
    LONG_STRINGS,
    st.sampled_from(["cvv", "track2", "a", "card_track2", "pan", "x" * 5000 + "_track2"]),
    st.booleans(),
    st.integers(0, 700),
    st.lists(st.integers(0, 10**6), max_size=4),
)
@settings(max_examples=400, deadline=None)
@example("x" * 700, PAN.decode() + " ", "track2", False, 0, [])
@example("/" * 90, "4111 1111 1111 1111; ", "a", True, 17, [])
def test_strings_and_wiped_values_beyond_the_limit(first, second, name, ascii_only, shift, cuts):
    long = [text * -(-2 * ROOMY // len(text)) for text in (first, second)]
    document = {
        "s" * (shift + 1): "." * shift,
        "n": long[0],
        name: long[1],
        "list": [int(PAN), "123", {name: [second, {"]": long[0]}, '"'], "cvv": "123"}],
        "end": PAN.decode(),
    }
    text = json.dumps(document, ensure_ascii=ascii_only).replace("\\u0000", " ").encode()
    for op in (JSON, TEXT):
        assert_json_at_once(op, text, cuts)
    assert_json_at_once(JSONB, b"\1" + text, cuts)


@pytest.mark.parametrize("op", [JSON, TEXT])
def test_long_strings_of_words_pass(op):
    words = "some words, " + PAN.decode() + ' and "more"; \\ a\ttab: '
    for shift in range(0, 700, 7):
        for name in ("a", "cvv", "track2", "x" * 5000 + "_track2"):
            document = {"pad": "." * shift, name: words * 400, "cvv": "123", "b": [words * 300]}
            assert assert_json_at_once(op, json.dumps(document).encode())
            document = {
                "pad": "." * shift,
                name: [words * 200, {"}": words * 200}],
                "b": PAN.decode(),
            }
            text = json.dumps(document).encode()
            assert assert_json_at_once(op, text)
            shown = masked(op, text)[1]
            assert PAN not in shown
            assert (b"some" in shown) == (name == "a")


@pytest.mark.parametrize(
    "name", ["cvv", LONGEST, "".join(f"\\u{ord(letter):04x}" for letter in LONGEST)]
)
def test_a_key_of_which_only_the_end_is_left_is_still_known(name):
    for pad in range(2 * ROOMY, 2 * ROOMY + 600, 7):
        key = "words and " * (pad // 10) + "x" * (pad % 10) + f" {name}"
        document = f'{{"{key}": "123", "b": 1}}'.encode()
        assert assert_json_at_once(JSON, document)
        assert b"123" not in masked(JSON, document)[1]


@pytest.mark.parametrize(
    "end", [b"", b'"', b'" ', b'":', b'": "', b"}", b'"}', b"\\", b"\n", b'\n"}']
)
@pytest.mark.parametrize("start", [b'{"a": "', b'{"track2": "', b'{"track2": [', b'{"', b'"'])
def test_json_that_is_none_is_not_passed_otherwise_than_at_once(start, end):
    for middle in (
        b"words; " * 1500,
        b"[ " * 5000,
        b'"' * 9000,
        b'":' * 5000,
        b"\\" * 9001,
        b"a\n" * 4000,
    ):
        for op in (JSON, TEXT):
            assert_json_at_once(op, start + middle + end)


PROSE = 'and "so on", he said; then a line\nand another with 5" of it, {or not}. No comma here\n'


@pytest.mark.parametrize("start", ['"', '" ', '  "', " " * 70, "[", ' \n"'])
@pytest.mark.parametrize(
    "line",
    [
        "just words without an end ",
        "words to the end of the line\n",
        'a line with one quote " in it\n',
        'lines with "two" of them\n',
        "words; " * 40 + "\n",
        PROSE,
        PROSE + "4111 1111 1111 1111, ",
    ],
)
def test_long_prose_that_begins_as_a_document_passes(start, line):
    """A line break within what would be a string is none in a column of text."""
    for shift in range(0, 700, 23):
        value = (start + "x" * shift + line * -(-3 * ROOMY // len(line))).encode()
        assert assert_json_at_once(TEXT, value)
        assert b"4111 1111" not in masked(TEXT, value)[1]


def test_a_name_and_its_value_in_long_prose():
    for shift in range(0, 700, 7):
        for part in ('"cvv": "123"\n', '"cvv"\n:\n"123"\n', '{"a\nb": 1, "cvv":\n[123]}\n'):
            text = '"' + "x" * shift + '"\n' + (part + "words to the end\n" * 9) * 90
            assert assert_json_at_once(TEXT, b"[" + text.encode())
            assert b"123" not in masked(TEXT, b"[" + text.encode())[1]


@pytest.mark.parametrize("size", range(7))
@pytest.mark.parametrize("op", [JSON, TEXT])
def test_a_short_value_that_is_wiped_at_the_end_of_the_longest_window(op, size):
    """It is known to be wiped before it is known to be short, and has to have its quote."""
    for pad in range(ROOMY - 30, ROOMY):
        document = b"{" + b" " * (pad - 13) + b'"track2": "' + b"x" * size
        assert assert_json_at_once(op, document + b'", "b": 1, "track2": "12"' + b', "zz"' * ROOMY)
        for end in (b"", b'"', b'" ', b'\\"', b'", "track2": "'):
            assert_json_at_once(op, document + end)


@pytest.mark.parametrize("spelled", ["123", "\\u0031\\u0032\\u0033", " 123 ", "123.0", "\u3000123"])
def test_the_longest_value_that_may_be_a_code_at_every_place(spelled):
    """It is whole wherever a window ends, and one byte more is none."""
    for pad in (*range(0, 600, 11), *range(ROOMY - 300, ROOMY + 300, 11)):
        for more in (0, 200, 256 - len(spelled.encode()), 257 - len(spelled.encode()), 3 * ROOMY):
            value = spelled.encode() + b" " * more
            document = b'{"a": ["%b"], "cvv": "%b", "b": ["%b"]}' % (
                b"." * pad,
                value,
                b". " * ROOMY,
            )
            for op in (JSON, TEXT):
                assert_json_at_once(op, document)
                assert (spelled.encode() in masked(op, document)[1]) == (len(value) > 256)


TOKENS = [
    '"', ":", ",", "{", "}", "[", "]", " ", "\\", "\n", "=>", '"cvv"', '"cvv": ', '"123"', "123",
    '"track2": "', "x; " * 700,
    "words; " * 1100, "/" * 3000, 'track2"', "cvv", "\\u0063vv", '"a": "', '", ', "null",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS), min_size=2, max_size=16), st.integers(0, 10**6))
@settings(max_examples=500, deadline=None)
@example(['"cvv": ', '"', "words; " * 1100, 'cvv"', ":", '"cvv": ', '"123"'], 0)
def test_what_is_no_json_at_all_in_windows(tokens, cut):
    for op in (JSON, TEXT):
        assert_json_at_once(op, ("{" + "".join(tokens) + " " * 9).encode(), [cut])


def test_little_is_held():
    """About a window, and what comes at once; however long the row is."""
    value = b"x" * 70 + (PAN + b"\n" + b"." * 40) * 5000
    stream = row(b"1", value, b"2")
    out = Out(Plan([SAFE, TEXT, SAFE]), [stream[i : i + 50] for i in range(0, len(stream), 50)])
    assert out.data == row(b"1", masked(TEXT, value)[1], b"2")
    assert out.held <= 2 * WINDOW + 50
    safe = Out(Plan([SAFE]), [row(value)[i : i + 50] for i in range(0, len(row(value)), 50)])
    assert safe.data == row(value)
    assert safe.held <= WINDOW + 50


def long_row(*, length: int = 0, columns: int = 1, cell: int = 0, size: int = 2000) -> bytes:
    body = struct.pack("!hi", columns, cell or size) + b"x" * size
    return b"D" + struct.pack("!i", length or len(body) + 4) + body


@pytest.mark.parametrize(
    "stream",
    [
        long_row(columns=2),
        long_row(columns=0),
        long_row(cell=2001),
        long_row(cell=1999),
        long_row(cell=-2),
        long_row(length=-5),
        long_row(length=2005),
        long_row(length=2011),
        b"D" + struct.pack("!ihi", 2010, 1, -1) + b"x" * 2000,
    ],
)
def test_a_row_that_is_not_as_described_ends_the_walk(stream):
    for chunks in ([stream], bytewise(stream)):
        out = Out(Plan([TEXT]), chunks)
        assert out.error
        assert PAN not in out.data


def test_a_value_that_is_not_what_its_type_says_is_not_passed():
    for wrong in (b"\\x" + b"00" * 500 + b"0", b"\\x" + b"00" * 300 + b"0g" + b"00" * 300):
        out = Out(Plan([BYTEA]), [row(wrong)])
        assert "decoded" in out.error
        assert not out.data
        out = Out(Plan([BYTEA]), bytewise(row(wrong)))
        assert "decoded" in out.error
        assert b"g" not in out.data


def test_what_would_have_to_be_null_keeps_the_limit():
    plan = Plan([TEXT, TEXT], [0, _frame.WIPES["null"]])
    out = Out(plan, [row(b"x\n" * 1000, b"123")])
    assert "limits.max_message_bytes" in out.error
    assert b"123" not in out.data


def test_other_long_messages_keep_the_limit():
    for code in b"ENASTtVd":  # COPY data that nobody asked for among them
        out = Out(Plan([TEXT]), [bytes([code]) + struct.pack("!i", LIMIT + 1)])
        assert "limits.max_message_bytes" in out.error


# --- through the codec -------------------------------------------------------------------------------

SMALL = 2048
LONG = (PAN + b"\n" + b"." * 40 + b"\n") * 200
HELD_BACK = b"x\n" * 2000 + b"4111 " * 1000


@pytest.fixture
def bench() -> Bench:
    return Bench(PostgresCodec(SCANNER, tls="none", max_message=SMALL)).log_in()


def result(*values: bytes, binary: int = 0, oid: int = 25) -> bytes:
    names = [(f"c{i}", oid, binary) for i in range(len(values))]
    return row_description(names) + row(*values)


def test_a_long_row_through_the_codec(bench):
    bench.agent(query("select t from cards"))
    end = row(PAN) + complete("SELECT 2") + ready()
    bench.server(*pieces(result(LONG) + end, list(range(0, 20_000, 77))))
    assert not bench.codec.within_message
    shown = split(bench.seen())
    assert [kind for kind, _ in shown] == list("TDDCZ")
    assert cells(shown[1][1]) == [LONG.replace(PAN, MASKED)]
    (finished,) = bench.finished
    assert finished.outcome.masked == {"visa": 201}
    assert finished.outcome.columns == {"c0": 201}
    assert finished.outcome.rows == 2
    assert finished.outcome.bytes == len(row(LONG)) + len(row(PAN)) - 10


def test_an_error_within_a_message_is_said_to_be_one(bench):
    bench.agent(query("select t from cards"))
    bench.server(result(HELD_BACK)[:2000])
    assert not bench.codec.within_message  # the first window is still here
    bench.server(result(HELD_BACK)[2000:4000])
    assert bench.codec.within_message
    with pytest.raises(LimitReached, match="max_message_bytes"):
        bench.server(result(HELD_BACK)[4000:])
    assert bench.codec.within_message


def test_an_error_in_the_first_window_can_be_told(bench):
    bench.agent(query("select t from cards"))
    data = row_description([("a", 25, 0), ("b", 114, 0)]) + row(b"12", b"1" * 9000)
    with pytest.raises(LimitReached, match=r"column 2 .* 2048 .*limits.max_message_bytes"):
        bench.server(*bytewise(data))
    assert not bench.codec.within_message
    assert kinds(bench.seen()) == "T"


@pytest.mark.parametrize("chunks", [bytewise, lambda data: [data]])
def test_a_muted_result_is_dropped_as_it_comes(bench, chunks):
    bench.agent(query("select 1; select t from cards"))
    refused = (
        row_description([("a", 99_999, 1)]) + row(b"4111") + row(LONG) * 2 + complete("SELECT 1")
    )
    more = result(LONG) + row(b"1") + complete("SELECT 1") + ready()
    bench.unreadable = True
    bench.server(*chunks(refused + more))
    assert kinds(bench.seen()) == "EZ"
    bench.unreadable = False
    bench.agent(query("select 1")).server(result(b"1") + complete("SELECT 1") + ready())
    assert kinds(bench.seen()) == "TDCZ"


def test_long_copy_data_of_a_refused_copy_is_dropped(bench):
    bench.agent(query("copy cards to stdout (format binary)"))
    bench.unreadable = True
    bench.server(described([("a", 99_999, 0)]), copy_out(1, 1))
    assert kinds(bench.seen()) == "E"
    bench.server(*bytewise(copy_data(LONG)), complete("COPY 1"), ready())
    assert kinds(bench.seen()) == "Z"


# --- the agent's side ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [bytewise, lambda data: [data]])
def test_long_copy_data_of_the_agent_passes_in_pieces(bench, chunks):
    bench.agent(query("copy notes from stdin"))
    bench.server(b"G" + struct.pack("!ibhh", 9, 0, 1, 0))
    bench.sent()
    data = copy_data(b"1\t" + b"y" * 9000 + b"\n") + copy_data(b"2\tz\n") + b"c\0\0\0\4"
    bench.agent(*chunks(data))
    assert bench.sent() == data
    assert len(bench.codec._inbox) == 0
    bench.server(complete("COPY 2") + ready())
    bench.agent(query("select 1"))
    assert bench.sent() == query("select 1")


def test_what_stands_in_copy_data_is_never_a_message(bench):
    """Its bytes spell a Query that nobody decided; they stay data however they are cut."""
    inner = query("drop table cards")
    data = copy_data(b"x" * 3000 + inner * 50)
    for cuts in ([], [3005], list(range(2990, 3100))):
        bench.agent(*pieces(data, cuts))
        assert bench.sent() == data
        assert bench.statements == []


def test_nothing_is_put_into_a_message_of_the_agent(bench):
    """A refused result, then a COPY that the gateway itself has to fail: in the middle of the agent's data
    its CopyFail would make messages of the rest."""
    bench.agent(query("select a from cards; copy notes from stdin"))
    bench.unreadable = True
    bench.server(row_description([("a", 99_999, 1)]), row(b"1"), complete("SELECT 1"))
    bench.agent(copy_data(b"x" * 9000)[:5000])
    bench.sent()
    with pytest.raises(ProtocolError, match="did not ask"):
        bench.server(b"G" + struct.pack("!ibhh", 9, 0, 1, 0))
    assert bench.sent() == b""


def test_skipped_copy_data_is_skipped_in_pieces_too(bench):
    bench.codec._skipping = True
    bench.agent(*bytewise(copy_data(b"x" * 9000)), SYNC)
    assert bench.sent() == SYNC


def test_no_length_that_a_server_would_not_take(bench):
    for length in (b"\xff\xff\xff\xff", b"\x40\0\0\0"):
        with pytest.raises(LimitReached, match="max_message_bytes"):
            bench.agent(b"d" + length)
