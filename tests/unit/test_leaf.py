"""The encoder of leaves against its oracle, byte for byte."""

import csv
import enum
import json
import math
import random
import re
import zlib
from collections import ChainMap
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import leaves
import oracle
from documents import documents
from pangate._leaf import Encoder, crc_of, is_whole, sequence_of
from pangate.ledger.letters import letters
from pangate.masking import default_scanner
from pangate.masking.keys import wiped_names
from pangate.model import Event

PAN = "4111111111111111"
CORPUS = Path(__file__).parents[1] / "corpus"

encoder = Encoder(default_scanner(), wiped_names())

pieces = st.sampled_from(
    [
        *(PAN, "5555 5555 5555 4444", "378282246310005", '"', "\\", "\0", "\n", "\x1f", "\x7f"),
        *("\xe9", "\u20ac", "\U0001f4b3", "\ud800", "\udcff", "{", "[", '{"cvv": "123"}'),
        *('{"card_cvv":', "\\x", "0", "7", PAN.encode().hex(), "\\064\\061\\061\\061"),
        *("4111-1111-1111-1111", " ", "-", "%3C", "pin"),
        *('"cvv"=>"123"', '"a"=>NULL, ', '"cvv"=>'),
        *("\t", "\ufeff", " " * 61, "*" * 12, "=4912101", '{"cid": " 12\\u0033"}'),
    ]
)
texts = st.one_of(st.text(max_size=40), st.lists(pieces, max_size=8).map("".join))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    texts,
    st.integers(),
    st.integers(-(10**12), 10**12),
    st.just(int(PAN)),
    st.floats(),
    st.floats(0, 1000).map(lambda value: round(value, 6)),
    st.floats(1e-9, 1e-3),
    st.just(float(PAN)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(texts, st.integers()), inner, max_size=5),
        st.dictionaries(texts, inner, max_size=3).map(MappingProxyType),
    ),
    max_leaves=12,
)


def event(**changes: object) -> Event:
    fields = {
        "code": "statement.allowed",
        "time": 1_700_000_000.123456,
        "session": "abcdefghijklmnop",
        "principal": "https://issuer.example#agent-1",
        "origin": "192.0.2.1:4711",
        "resource": "payments",
        "success": True,
    }
    return Event(**{**fields, **changes})


@given(values)
@example(1e-5)
@example(1.5e-5)
@example(9.99e-6)
@example(1e-100)
@example(-1e-5)
@example(-0.0)
@example(0.3)
@example(0.30000000000000004)
@example(float(2**53))
@example(float(2**53 + 2))
@example(10**11)
@example(-(10**11) + 1)
@example(2**53)
@example(2**63)
@example({"1": 1, 1: 2})
@example({PAN: 1, "4222222222221111": 2, "4333333333331111": {}})
def test_values_are_as_the_oracle_has_them(value):
    assert encoder.encode_value(value) == leaves.encode_value(value)


@pytest.mark.parametrize("document", documents(), ids=lambda document: document.name)
def test_documents_of_the_corpus(document):
    text = document.value.decode()
    leaf = encoder.encode_value(text)
    assert leaf == leaves.encode_value(text)
    assert document.gone.decode() not in json.loads(leaf)


def test_a_track_behind_a_number_that_has_stars_already():
    text = "*" * 12 + "=4912101"
    assert json.loads(encoder.encode_value(text)) == "*" * 12 + "=" + "*" * 7
    assert encoder.encode_value(text) == leaves.encode_value(text)


@given(
    st.fixed_dictionaries(
        dict.fromkeys(("code", "session", "principal", "origin", "resource", "config"), texts)
        | {"role": texts, "statement": st.integers(0, 2**40), "success": st.booleans()}
        | {"data": st.dictionaries(texts, values, max_size=5)}
    ),
    st.integers(1, 2**50),
    st.sampled_from(["unknown", "synchronised", "unsynchronised"]),
)
def test_events_are_as_the_oracle_has_them(fields, sequence, clock):
    made = event(**fields)
    leaf = encoder.encode(made, sequence, made.time, clock)
    assert leaf == leaves.encode(made, sequence, clock)
    assert leaf == encoder.encode(made, sequence, made.time, clock)
    assert json.loads(leaf)["sequence"] == sequence


@given(
    st.dictionaries(texts, values, max_size=5),
    st.integers(0, 2**40),
    st.sampled_from(["unknown", "synchronised"]),
    st.data(),
)
def test_a_form_that_is_filled_is_the_leaf(data, statement, clock, draw):
    data = {"number": 1, "text": "select 1", **data}
    holes = tuple(sorted(draw.draw(st.sets(st.sampled_from(["number", "text"])))))
    first = event(data={**data, **dict.fromkeys(holes, 0)})
    made = event(data=data, statement=statement, time=5.5)
    filled = encoder.fill(
        encoder.form(first, holes), 7, 5.5, clock, statement, tuple(data[key] for key in holes)
    )
    assert filled == encoder.encode(made, 7, 5.5, clock)


def test_the_holes_of_a_form_are_what_it_has():
    with pytest.raises(ValueError, match="order"):
        encoder.form(event(data={"a": 1, "b": 2}), ("b", "a"))
    with pytest.raises(ValueError, match="all of"):
        encoder.form(event(data={"a": 1}), ("a", "b"))
    with pytest.raises(ValueError, match="1 values"):
        encoder.fill(encoder.form(event(data={"a": 1}), ("a",)), 1, 1.0, "unknown", 1, ())


@given(st.floats(0, 253402300799.0))
@example(0.0)
@example(951782399.9999996)
@example(951782400.0)
@example(4107542399.0)
@example(1.0000005)
@example(1.0000015)
@example(253402300799.0)
def test_times_are_as_the_oracle_has_them(moment):
    made = event(time=moment)
    # years before 1000 would differ in strftime; there are none
    assert encoder.encode(made, 1, moment, "unknown") == leaves.encode(made, 1)


@pytest.mark.parametrize("moment", [-1.0, 253402300800.0, math.nan, math.inf, -math.inf])
def test_a_time_that_has_no_form_is_an_error(moment):
    with pytest.raises(ValueError, match="has no form"):
        encoder.encode(event(), 1, moment, "unknown")


def test_days_are_right_over_centuries():
    for day in range(0, 60_000, 13):
        made = event(time=day * 86400.0 + 1)
        assert encoder.encode(made, 1, made.time, "unknown") == leaves.encode(made, 1)


def test_evasions_of_the_corpus_are_masked_as_by_the_oracle():
    seen = 0
    for path in sorted(CORPUS.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                for cell in row:
                    for text in (cell, f"select '{cell}'", cell * 3):
                        assert encoder.encode_value(text) == leaves.encode_value(text), text
                        seen += 1
    assert seen > 1000


def test_no_card_number_stays():
    for data in ({"p": PAN}, {PAN: 1}, {"n": int(PAN)}, {"f": float(PAN)}, {"l": [[{"x": PAN}]]}):
        leaf = encoder.encode(event(data=data, principal=PAN, session=PAN), 1, 1.0, "unknown")
        assert not oracle.find(leaf)
        assert PAN.encode() not in leaf


def test_what_was_kept_does_not_come_out_elsewhere():
    own = Encoder(default_scanner(), wiped_names())
    for number in range(3000):  # more than are kept, of heads and of sets of keys
        made = event(principal=f"p{number}", data={f"k{number}": number, "a": 1})
        assert own.encode(made, 1, 1.0, "unknown") == leaves.encode(made._replace(time=1.0), 1)
    for keys in (("b", "a"), ("a", "b"), ("a",), ()):
        made = event(time=1.0, data=dict.fromkeys(keys, 1))
        assert own.encode(made, 1, 1.0, "unknown") == leaves.encode(made, 1)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def test_what_is_like_the_plain_types():
    assert encoder.encode_value({"a": Colour.RED, "b": Level.HIGH}) == b'{"a":"red","b":3}'
    assert encoder.encode_value(ChainMap({"b": 1}, {"a": 2})) == b'{"a":2,"b":1}'


@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}])
def test_data_that_has_no_form_is_an_error(value):
    with pytest.raises(TypeError, match=type(value).__name__):
        encoder.encode_value({"a": [value]})


def test_data_that_is_nested_without_end_is_an_error():
    endless: dict[str, object] = {}
    endless["a"] = endless
    listed: list[object] = []
    listed.append(listed)
    for value in (endless, listed):
        with pytest.raises(TypeError, match="nested deeper"):
            encoder.encode_value(value)
    assert encoder.encode_value([1]) == b"[1]"  # nothing is left over


def test_long_texts_take_memory_only_while_they_are_there():
    long = "x" * 3_000_000 + PAN + "\n"
    assert encoder.encode_value(long) == leaves.encode_value(long)
    assert encoder.encode_value("a") == b'"a"'


def is_whole_slowly(line: bytes) -> bool:
    body, name, rest = line.rpartition(b',"whole":"')
    return bool(name) and rest == letters(zlib.crc32(body).to_bytes(4, "big")).encode() + b'"}'


def sequence_slowly(line: bytes) -> int:
    _, name, rest = line.rpartition(b'"sequence":')
    found = re.match(rb'([0-9]{1,18}),"session":"', rest) if name else None
    return int(found[1]) if found else 0


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    *(b'"sequence":', b',"session":"', b"7", b"12345678", b"0", b"-", b'"', b"}"),
                    *(b',"whole":"', b"aaaaaaaa", b'"}', b"\xff", b" "),
                ]
            ),
            st.binary(max_size=6),
        ),
        max_size=9,
    ).map(b"".join),
    st.booleans(),
)
@example(b'"sequence":123456789012345678,"session":"', False)
@example(b'"sequence":1234567890123456789,"session":"', False)
@example(b'"sequence":1,"session":', False)
@example(b"", True)
def test_the_sequence_and_the_check_of_a_leaf(line, checked):
    if checked:
        line = leaves.with_check(line + b"}")
    assert is_whole(line) == is_whole_slowly(line)
    assert sequence_of(line) == sequence_slowly(line)


def test_a_bit_that_changed_is_told():
    line = encoder.encode(event(data={"asked": {"sequence": 9, "session": "x"}}), 7, 1.0, "unknown")
    assert is_whole(line)
    assert sequence_of(line) == 7
    for place in range(len(line)):
        for bit in (1, 128):
            changed = bytearray(line)
            changed[place] ^= bit
            assert not is_whole(bytes(changed)), place


def test_what_stands_under_a_sensitive_name_in_the_text_of_hstore_is_not_recorded():
    made = encoder.encode_value('"cvv"=>"123", "note"=>"fine"')
    assert json.loads(made) == '"cvv"=>"***", "note"=>"fine"'


def test_the_check_is_that_of_zlib_at_every_length_and_place():
    data = random.Random(32).randbytes(2_000)
    for size in (*range(300), 511, 512, 513, 1_999):
        for at in (0, 1, 7, 15):
            part = data[at : at + size]
            assert crc_of(part) == crc_of(part, True) == zlib.crc32(part), (size, at)
    for part in (b"\0" * 1_000, b"\xff" * 1_000):
        assert crc_of(part) == zlib.crc32(part)
