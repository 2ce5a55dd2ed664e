"""Bind values as the record shows them."""

import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangate.errors import ProtocolError
from pangate.protocols.postgres.binds import _numeric, bind_values
from pangate.protocols.postgres.messages import Reader
from pgwire import bind, send_numeric


def values(raw: bytes, types: tuple[int, ...] = ()) -> tuple[str | None, ...]:
    return bind_values(Reader(raw[5 + 2 :], "frontend"), types)


def test_text_null_and_binary():
    assert values(bind(values=[b"4111111111111111", None, b"x"])) == ("4111111111111111", None, "x")
    eight = struct.pack("!q", 4111111111111111)
    assert values(bind(values=[eight], formats=[1]), (20,)) == ("4111111111111111",)
    assert values(bind(values=[b"abc", b"def"], formats=[0, 1]), (0, 25)) == ("abc", "def")


def test_what_cannot_be_read_is_named_by_its_size():
    eight = struct.pack("!q", 4111111111111111)
    assert values(bind(values=[eight], formats=[1]), (1016,)) == ("<binary, 8 bytes>",)
    assert values(bind(values=[eight], formats=[1])) == ("<binary, 8 bytes>",)
    assert values(bind(values=[b"\xff"], formats=[1]), (25,)) == ("<binary, 1 bytes>",)
    assert values(bind(values=[b"123"], formats=[1]), (20,)) == ("<binary, 3 bytes>",)


@pytest.mark.parametrize(
    "raw",
    [
        bind(values=[b"x"])[:-1],
        bind(values=[b"x"]) + b"x",
        bind(values=[b"x", b"y", b"z"], formats=[0, 1]),
        bind(values=[b"x"], formats=[2]),
        bind(results=[7]),
    ],
)
def test_malformed(raw):
    with pytest.raises(ProtocolError):
        values(raw)


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20
    )
)
def test_numeric_as_text(value):
    assert Decimal(_numeric(send_numeric(value))) == value


def test_numeric_special():
    assert _numeric(struct.pack("!hhHH", 0, 0, 0xC000, 0)) == "NaN"
    with pytest.raises(ValueError, match="numeric"):
        _numeric(struct.pack("!hhHH", 3, 0, 0, 0))
