"""Cells of PostgreSQL results: each type decoded, masked and encoded again, against a plain oracle that
does the same to the value's text."""

import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangate import _frame
from pangate.masking import default_scanner
from pangate.protocols.postgres.binds import _numeric
from pgwire import send_numeric

SCANNER = default_scanner()
DIGITS = 8
PANS = [
    "4111111111111111",
    "4222222222222",
    "378282246310005",
    "5555555555554444",
    "6011000990139424",
    "30569309025904",
    "8171999900000000021",
    "4200000000000000",
]
NUMBERS = [int(p) for p in PANS]

numbers = st.one_of(
    st.sampled_from(NUMBERS),
    st.integers(0, 2**63 - 1),
    st.sampled_from([n for n in NUMBERS if n < 10**17]).map(lambda n: n * 10),
    st.integers(10**11, 10**16),
)


def mask(oid: int, format_: int, cell: bytes, kind: int = 0) -> tuple[int, bytes]:
    data = bytearray(cell)
    hits = _frame.mask_cell(SCANNER, kind, _frame.op_of(oid, format_), data)
    assert len(data) == len(cell)
    return hits, bytes(data)


def as_number(text: str, kind: int = 0) -> str:
    """The oracle: the digits of a number masked as text."""
    data = bytearray(text.encode())
    SCANNER.mask(data, kind | DIGITS)
    return data.decode()


def test_text_and_escapes():
    assert mask(25, 0, b"card 4111 1111 1111 1111 ok") == (1, b"card **** **** **** 1111 ok")
    assert mask(25, 1, b"x") == (0, b"x")
    # hex of bytea inside an array or a composite
    hexed = b"4111111111111111".hex().encode()
    hits, out = mask(1001, 0, b'{"\\\\x' + hexed + b'"}')
    assert hits == 1
    assert bytes.fromhex(out[5:-2].decode()) == b"************1111"
    # an octal escape glues its digits to the PAN behind it
    hits, out = mask(25, 0, b"\\0014111111111111111")
    assert (hits, out) == (1, b"\\001************1111")
    # and a PAN that merely begins like one is still found
    hits, out = mask(25, 0, b"\\3566002020360505")
    assert (hits, out) == (1, b"\\************0505")


def test_a_digit_that_is_half_a_character():
    """GB18030 and JOHAB have characters whose last byte is a digit."""
    for head in (b"\x81\x30\x81\x35", b"\x8a\x39"):
        hits, out = mask(25, 0, b"a" + head + b"4111111111111111 b")
        assert hits == 1
        assert out == b"a" + head + b"************1111 b"


@pytest.mark.parametrize("kind", [0, 1])
@given(value=numbers, negative=st.booleans())
def test_int8(kind, value, negative):
    signed = -value if negative else value
    hits, out = mask(20, 1, struct.pack("!q", signed), kind)
    text = as_number(str(value), kind)
    assert struct.unpack("!q", out)[0] == (-int(text) if negative else int(text))
    assert (hits > 0) == (text != str(value))
    if value in NUMBERS:
        assert hits == 1
        assert mask(20, 1, out)[0] == 0, "a masked number must not look like a PAN"


@given(value=numbers, scale=st.integers(0, 4), negative=st.booleans())
def test_numeric(value, scale, negative):
    number = Decimal(value) + Decimal(7 if scale else 0).scaleb(-scale)
    if negative:
        number = -number
    hits, out = mask(1700, 1, send_numeric(number))
    text = as_number(f"{abs(number):f}")
    shown = _numeric(out).lstrip("-")
    if value in NUMBERS:
        assert hits >= 1
        assert mask(1700, 1, out)[0] == 0
        assert not shown.startswith(str(value))
    if value % 10000:  # else a filler may fall where the server stores nothing
        assert shown == text
    assert (hits > 0) == (text != f"{abs(number):f}")


def test_numeric_that_is_none():
    for special in (0xC000, 0xD000, 0xF000):
        assert mask(1700, 1, struct.pack("!hhHH", 0, 0, special, 0))[0] == 0
    zero = struct.pack("!hhHH", 0, 0, 0, 2)
    assert mask(1700, 1, zero) == (0, zero)
    for bad in (
        b"",
        b"1234567",
        struct.pack("!hhHH", 2, 0, 0, 0),
        struct.pack("!hhHHH", 1, 0, 0, 0, 10000),
        struct.pack("!hhHHH", 1, 0, 0x1234, 0, 1),
    ):
        assert mask(1700, 1, bad)[0] == -1
    # the largest weight that a server can send stays within bounds
    assert mask(1700, 1, struct.pack("!hhHHH", 1, 32767, 0, 0, 4111))[0] >= 0


@given(value=st.sampled_from([n for n in NUMBERS if n < 2**53]), negative=st.booleans())
def test_float8(value, negative):
    hits, out = mask(701, 1, struct.pack("!d", -float(value) if negative else float(value)))
    assert hits == 1
    masked = struct.unpack("!d", out)[0]
    assert abs(masked) == float(as_number(str(value)))
    # as text, the way the server prints it
    text = repr(float(value)) if value >= 10**15 else str(value)
    if value >= 10**15:
        text = f"{value:e}"
        digits = str(value).rstrip("0")
        text = f"{digits[0]}.{digits[1:]}e+{len(str(value)) - 1}"
    hits, out = mask(701, 0, text.encode())
    assert hits == 1
    assert Decimal(out.decode()) == Decimal(int(as_number(str(value)))) or value % 10000 == 0
    hits, out = mask(600, 0, b"(" + text.encode() + b",2)")
    assert hits == 1


@given(st.floats())
def test_any_float(value):
    hits, out = mask(701, 1, struct.pack("!d", value))
    if hits == 0:
        assert out == struct.pack("!d", value)
    assert mask(701, 0, repr(value).encode())[0] >= 0


def test_json():
    hits, out = mask(114, 0, b'{"a": "4111111111111111", "b": 4111111111111111}')
    assert hits == 2
    assert b"4111111111111111" not in out
    import json

    read = json.loads(out)
    assert read["a"] == "************1111"
    assert isinstance(read["b"], int)
    assert mask(3802, 1, b"\x01" + b'"4111111111111111"') == (1, b"\x01" + b'"************1111"')
    assert mask(3802, 1, b"\x02{}")[0] == -1
    assert mask(3802, 1, b"")[0] == -1


def test_bytea_in_json():
    hexed = b"x 4111111111111111".hex().encode()
    hits, out = mask(114, 0, b'[{"b":"\\\\x' + hexed + b'"}]')
    assert hits == 1
    assert bytes.fromhex(out[10:-3].decode()) == b"x ************1111"


def test_bytea():
    hexed = b"\\x" + b"no 4111111111111111!".hex().encode()
    hits, out = mask(17, 0, hexed)
    assert hits == 1
    assert bytes.fromhex(out[2:].decode()) == b"no ************1111!"
    assert mask(17, 0, b"\\x123")[0] == -1
    assert mask(17, 0, b"\\xzz")[0] == -1
    assert mask(17, 0, b"\\000\\0074111111111111111") == (1, b"\\000\\007************1111")
    assert mask(17, 1, b"\x004111111111111111") == (1, b"\x00************1111")


def test_money():
    hits, out = mask(790, 0, b"$4,111,111,111,111,111.00")
    assert hits == 1
    assert out.endswith(b",111.00")
    assert b"4,111" not in out
    hits, out = mask(790, 1, struct.pack("!q", 411111111111111100))
    assert hits == 1
    assert struct.unpack("!q", out)[0] % 1000000 == 111100
    assert mask(790, 0, b"$12.50") == (0, b"$12.50")
    assert mask(790, 1, struct.pack("!q", 1250)) == (0, struct.pack("!q", 1250))


AMOUNTS = (
    "$4,111,111,111,111,111.00",
    "-$4,111,111,111,111,111.00",
    "$ 4,111,111,111,111,111.00",
    "4.111.111.111.111.111,00 \u20ac",
    "4.111.111.111.111.111,00\u20ac",
    "\u20ac4.111.111.111.111.111,00",
    "4\u00a0111\u00a0111\u00a0111\u00a0111\u00a0111,00\u00a0\u20ac",
    "4\u202f111\u202f111\u202f111\u202f111\u202f111,00 \u20ac",
    "\u00a34,111,111,111,111,111.00",
    "\uffe54,111,111,111,111,111",
    "4\u2019111\u2019111\u2019111\u2019111\u2019111.000 $",
)


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("oid", [25, 114, 790, 2249, 2277])
def test_amounts_of_every_locale_also_where_no_type_tells_of_them(amount, oid):
    """As money prints them (cash_out of the server): groups of three, a sign of currency."""
    for around in ("{}", "({},x)", '{{"{}"}}', "12\t{}\t7\n", "caf\u00e9 {}, twice {}"):
        text = around.format(amount, amount)
        hits, out = mask(oid, 0, text.encode())
        shown = out.decode()
        assert hits == text.count(amount)
        digits = [d for d in amount if d.isdigit()]
        assert "".join(digits[:16]) not in "".join(d for d in shown if d.isdigit())
        assert [c for c in shown if not c.isdigit()] == [c for c in text if not c.isdigit()]


@pytest.mark.parametrize(
    "text",
    ["$12.50", "$4,111.00", "411,111,111,111,111,111", "$4,1111,111", "\u20ac5", "1,2 \u20ac"],
)
def test_what_is_no_such_amount_stays(text):
    for around in ("{}", "{} {}", "\u00e9{}\u00e9"):
        data = around.format(text, text).encode()
        assert mask(25, 0, data) == (0, data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4.111111111111111e+15", "1.000000000001111e+15"),
        ("{-4.111111111111111e+15,1}", "{-1.000000000001111e+15,1}"),
        ("a 4.111111111111111E+15 b", "a 1.000000000001111E+15 b"),
        ("4.2e+15", "1.0e+15"),
        ("4.111111111111112e+15", "4.111111111111112e+15"),
        ("4.111111111111111e+150", "4.111111111111111e+150"),
        ("4.111111111111111e+5", "4.111111111111111e+5"),
        ("4.111111111111111e+99", "4.111111111111111e+99"),
        ("e+15", "e+15"),
        ("4e+1", "4e+1"),
    ],
)
@pytest.mark.parametrize("oid", [25, 114, 701, 2249])
def test_exponents_also_where_no_type_tells_of_them(text, expected, oid):
    assert mask(oid, 0, text.encode()) == (int(text != expected), expected.encode())


@pytest.mark.parametrize(
    "packed", ["4111111111111111", "0378282246310005", "378282246310005f", "501800000009"]
)
def test_two_digits_a_byte(packed):
    pan = packed.strip("0f") if packed.startswith("0") else packed.strip("f")
    masked = as_number(pan)
    expected = packed.replace(pan, masked)
    assert mask(17, 1, bytes.fromhex(packed)) == (1, bytes.fromhex(expected))
    assert mask(17, 0, f"\\x{packed}".encode()) == (1, f"\\x{expected}".encode())
    assert mask(1001, 1, array(17, bytes.fromhex(packed))) == (
        1,
        array(17, bytes.fromhex(expected)),
    )
    for text in ('{{"\\\\x{}"}}', "1\t\\\\x{}\n", '["\\\\x{}"]'):
        hits, out = mask(114 if text[0] == "[" else 25, 0, text.format(packed).encode())
        assert hits == 1
        assert pan not in out.decode()


@given(data=st.binary(min_size=11, max_size=40))
def test_a_longer_value_of_bytes_is_scanned_as_bytes_only(data):
    plain = bytearray(data)
    hits = SCANNER.mask(plain)
    if (
        not hits
        and b"\\" not in data
        and b"$" not in data
        and b"e+" not in data.lower()
        and max(data) < 128
    ):
        assert mask(17, 1, data) == (0, data)


def element(data: bytes | None) -> bytes:
    return struct.pack("!i", -1) if data is None else struct.pack("!i", len(data)) + data


def array(oid: int, *items: bytes | None) -> bytes:
    head = struct.pack("!iiIii", 1, 0, oid, len(items), 1)
    return head + b"".join(map(element, items))


def record(*fields: tuple[int, bytes | None]) -> bytes:
    return struct.pack("!i", len(fields)) + b"".join(
        struct.pack("!I", oid) + element(data) for oid, data in fields
    )


def test_arrays_composites_and_ranges():
    number = struct.pack("!q", 4111111111111111)
    masked = struct.pack("!q", int(as_number("4111111111111111")))
    assert mask(1009, 1, array(25, b"4111111111111111", None, b"x")) == (
        1,
        array(25, b"************1111", None, b"x"),
    )
    assert mask(1016, 1, array(20, number)) == (1, array(20, masked))
    assert mask(2249, 1, record((20, number), (25, None), (23, b"\0\0\0\1"))) == (
        1,
        record((20, masked), (25, None), (23, b"\0\0\0\1")),
    )
    nested = record((2249, record((1016, array(20, number)))))
    assert mask(2249, 1, nested) == (1, record((2249, record((1016, array(20, masked))))))
    low = b"\x02" + element(number)
    assert mask(3926, 1, low) == (1, b"\x02" + element(masked))
    # what is inside and not known is refused
    assert mask(2249, 1, record((90001, b"x")))[0] == -1
    assert mask(2277, 1, array(20))[0] == -1
    assert mask(2287, 1, array(90001, b"x"))[0] == -1
    deep = record((25, b"x"))
    for _ in range(40):
        deep = record((2249, deep))
    assert mask(2249, 1, deep)[0] == -1


@pytest.mark.parametrize("oid", [1009, 1016, 2249, 3926, 3906, 602, 604, 701, 20, 790, 1700, 3802])
@given(data=st.binary(max_size=80))
def test_garbage_is_refused_or_left_in_length(oid, data):
    hits, out = mask(oid, 1, data)
    assert hits >= -1
    assert len(out) == len(data)


def test_the_table_is_sorted_and_unknown_binary_is_refused():
    known = [oid for oid in range(1, 70000) if _frame.op_of(oid, 1) != _frame.REFUSED]
    assert {16, 20, 25, 1700, 2950, 3802, 5069} <= set(known)
    assert _frame.op_of(90001, 1) == _frame.REFUSED
    assert _frame.op_of(90001, 0) != _frame.REFUSED
    for oid in (20, 21, 23, 701, 1082, 1114, 1184, 1700, 2950):
        assert oid in known
