"""Values that are no texts: numbers, containers, numpy and Arrow."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections import OrderedDict, namedtuple
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import oracle
from pangate import Key, Masker, MaskingError

PAN, MASKED = "4111111111111111", "************1111"
KEY = Key(bytes(range(32)))


def test_containers() -> None:
    point = namedtuple("point", "x y")
    when, some = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), uuid.uuid4()
    value = {
        "pan": PAN,
        "n": [int(PAN), float(PAN), Decimal(PAN), 1.5, None, True, when, some],
        "cvv": 123,
        "cvc": "999",
        "card": {"securityCode": b"123", "x": point(PAN, 1)},
        "fields": [
            ("cvv", "123"),
            {"name": "pin", "value": "1234"},
            {"name": "city", "value": "Bonn"},
        ],
        "set": {PAN},
        f"key {PAN}": b"x",
        "nan": float("nan"),
    }
    masked = Masker().mask(value)
    assert masked["pan"] == MASKED
    assert masked["n"] == [
        1000000000001111,
        1000000000001111.0,
        Decimal(1000000000001111),
        1.5,
        None,
        True,
        when,
        some,
    ]
    assert [type(one) for one in masked["n"][:3]] == [int, float, Decimal]
    assert (masked["cvv"], masked["cvc"]) == (0, "***")
    assert masked["card"] == {"securityCode": b"***", "x": (MASKED, 1)}
    assert type(masked["card"]["x"]) is point
    assert masked["fields"] == [
        ("cvv", "***"),
        {"name": "pin", "value": "***"},
        {"name": "city", "value": "Bonn"},
    ]
    assert masked["set"] == {MASKED}
    assert masked[f"key {MASKED}"] == b"x"
    assert value["pan"] == PAN
    assert Masker().mask(OrderedDict(a=PAN)) == {"a": MASKED}
    both = Masker().mask({"4111111111111111": 1, "4012888888881111": 2, "4222222222222": 3})
    assert sorted(both.values()) == [1, 2, 3]


class Word(str, enum.Enum):  # noqa: UP042  (not a StrEnum: its str() is its name)
    CARD = PAN


class Sub(bytearray):
    pass


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "nothing"


def test_subclasses_are_masked_by_what_they_hold() -> None:
    masker = Masker()
    assert masker.mask(Word.CARD) == MASKED
    assert masker.mask(Loud(PAN)) == MASKED
    assert masker.mask(Sub(PAN.encode())) == MASKED.encode()
    assert masker.mask([memoryview(PAN.encode())]) == [MASKED.encode()]


def test_numbers_beyond_any_pan() -> None:
    masker = Masker(packs=["core", "national"])
    for value in (10**5000, -(10**19), Decimal("sNaN"), Decimal("1e9999"), float("inf"), 1e300):
        assert masker.mask(value) is value
    assert masker.mask(Decimal(8171999900000000021)) == 1000000000000000021


@given(st.integers(10**16, 10**19 - 1), st.sampled_from(["last4", "first6_last4"]))
@settings(max_examples=300, deadline=None)
def test_a_float_that_is_rounded_is_no_pan_either(value: int, kind: str) -> None:
    masked = Masker(kind).mask(float(value))
    assert not oracle.find(str(int(masked)).encode())


def test_a_uuid_is_masked_where_its_text_is() -> None:
    number = uuid.UUID("41111111-1111-4111-8111-000000000000")
    lettered = uuid.UUID("aaaaaaaa-4111-4111-9111-111111111a11")
    for value, masker in (
        (number, Masker()),
        (lettered, Masker(uuids="mask")),
        (lettered, Masker()),
    ):
        text = masker.mask(str(value))
        masked = masker.mask(value)
        assert (masked == value) == (text == str(value))
        assert str(masked) == text.replace("*", "0")


def test_bytes_in_arrays_are_masked() -> None:
    data = np.frombuffer(f"card {PAN}!".encode(), dtype=np.uint8)
    for array in (data, data.astype(np.int8), np.stack([data, data]), data[::-1][::-1]):
        masked = Masker().mask(array)
        assert masked.dtype == array.dtype
        assert masked.shape == array.shape
        assert masked.tobytes() == f"card {MASKED}!".encode() * (array.size // data.size)
    with pytest.raises(MaskingError):
        Masker("token", key=KEY).mask(data)


def test_a_masked_array_keeps_its_mask() -> None:
    masked = Masker().mask(np.ma.MaskedArray([int(PAN), 2], mask=[True, False]))
    assert masked.mask.tolist() == [True, False]
    assert masked.data.tolist() == [1000000000001111, 2]


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_texts_in_columns_of_bytes(order: str) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow as pa

    data, expected = PAN.encode(order) + b"x", MASKED.encode(order) + b"x"
    assert Masker().mask(pa.array([b"a", data])).to_pylist() == [b"a", expected]
    assert Masker().mask(np.array([b"a", data])).tolist() == [b"a", expected]


def test_a_type_that_is_not_known_is_an_error_and_not_returned() -> None:
    for value in ([object()], {"a": {1j}}, (lambda: 0,), {"a": iter("x")}):
        with pytest.raises(TypeError):
            Masker().mask(value)
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(MaskingError, match="deeper than 100"):
        Masker().mask(deep)


@given(
    st.integers(-(10**22), 10**22)
    | st.sampled_from([int(PAN), -int(PAN), 378282246310005, 2**63, 10**19])
)
@settings(max_examples=300, deadline=None)
def test_integers_are_masked_as_their_digits_are(value: int) -> None:
    masked = Masker().mask(value)
    if oracle.find(str(abs(value)).encode()):
        assert len(str(abs(masked))) == len(str(abs(value)))
        assert str(masked)[-4:] == str(value)[-4:] or len(str(abs(value))) == 12
        assert not oracle.find(str(abs(masked)).encode())
        assert (masked < 0) == (value < 0)
    else:
        assert masked == value


INTEGERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(
        [int(PAN), -int(PAN), 378282246310005, 8171999900000000021, 501800000009, 0, -(2**63)]
    ),
)


@given(
    st.lists(INTEGERS, max_size=40),
    st.sampled_from(["last4", "first6_last4", "full", "fpe", "token"]),
)
@settings(max_examples=150, deadline=None)
def test_a_column_of_integers_is_masked_as_each_of_them(values: list[int], kind: str) -> None:
    masker = Masker(kind, key=KEY if kind in ("fpe", "token") else None)
    column = np.array(values, dtype=np.int64)
    before = column.copy()
    expected = [masker.mask(value) for value in values]
    assert masker.mask(column).tolist() == expected
    assert (column == before).all()
    if kind != "token":
        count = masker.mask_into(column)
        assert column.tolist() == expected
        assert count >= sum(a != b for a, b in zip(values, expected, strict=True))


@given(
    hnp.arrays(
        np.uint64, st.integers(0, 30), elements=st.integers(0, 2**64 - 1) | st.just(int(PAN))
    )
)
@settings(max_examples=100, deadline=None)
def test_unsigned_integers(column: np.ndarray) -> None:
    assert Masker().mask(column).tolist() == [Masker().mask(value) for value in column.tolist()]


def test_shapes_strides_and_byte_orders() -> None:
    table = np.full((4, 3), int(PAN))
    assert (Masker().mask(table) == 1000000000001111).all()
    assert Masker().mask_into(table[:, 1]) == 4
    assert table[0].tolist() == [int(PAN), 1000000000001111, int(PAN)]
    swapped = np.array([int(PAN)], dtype=">i8")
    assert Masker().mask(swapped).tolist() == [1000000000001111]
    assert (
        Masker().mask(np.array([1.5, np.nan, float(PAN), -np.inf])).tolist()[2]
        == 1000000000001111.0
    )
    assert Masker().mask(np.int64(PAN)) == 1000000000001111
    small = np.arange(5, dtype=np.int32)
    assert Masker().mask(small).tolist() == [0, 1, 2, 3, 4]
    frozen = np.array([int(PAN)])
    frozen.flags.writeable = False
    with pytest.raises(TypeError, match="writable"):
        Masker().mask_into(frozen)
    with pytest.raises(TypeError, match="complex128"):
        Masker().mask(np.array([1j]))
    raw = np.frombuffer(bytearray(PAN.encode()), dtype=np.uint8)
    assert Masker().mask_into(raw) == 1
    assert raw.tobytes().decode() == MASKED


@pytest.mark.parametrize("kind", ["last4", "token", "fpe"])
def test_columns_of_texts(kind: str) -> None:
    masker = Masker(kind, key=KEY if kind != "last4" else None)
    texts = [PAN, "", "x 4111-1111-1111-1111", "cvv=123", "5" * 16, "%34111111111111111", "41"]
    for values in (texts, [*texts, "４１１１１１１１１１１１１１１１"]):
        assert masker.mask(np.array(values)).tolist() == [masker.mask(text) for text in values]
        encoded = [text.encode() for text in values]
        assert masker.mask(np.array(encoded)).tolist() == [masker.mask(text) for text in encoded]
        assert masker.mask(np.array(values, dtype=object)).tolist() == [
            masker.mask(text) for text in values
        ]
    plain = [PAN, "", "4111-1111-1111-1111", "5555555555554444"]
    assert masker.mask(np.array(plain)).tolist() == [masker.mask(text) for text in plain]
    # a cell ends where it ends: the next one begins a number of its own
    assert masker.mask(np.array([b"41111111", b"11111111"])).tolist() == [b"41111111", b"11111111"]


def test_structured_arrays_have_names() -> None:
    table = np.array([(PAN, 123, 5)], dtype=[("card", "U16"), ("cvv", "i8"), ("n", "i8")])
    assert Masker().mask(table).tolist() == [(MASKED, 0, 5)]


pa = pytest.importorskip("pyarrow")


@pytest.mark.parametrize("kind", ["last4", "token", "fpe", "full"])
@pytest.mark.parametrize(
    "type_", ["string", "large_string", "binary", "large_binary", "string_view"]
)
@pytest.mark.parametrize("extra", [[], ["cvv=123 x"]])
def test_arrow_texts(kind: str, type_: str, extra: list[str]) -> None:
    masker = Masker(kind, key=KEY if kind in ("token", "fpe") else None)
    texts = [PAN, None, "", "x 4111-1111-1111-1111", "41111111", "11111111", *extra] * 3
    values = [t if t is None or "string" in type_ else t.encode() for t in texts]
    expected = [None if value is None else masker.mask(value) for value in values]
    array = pa.array(values, type=getattr(pa, type_)())
    masked = masker.mask(array)
    assert masked.type == array.type
    assert masked.to_pylist() == expected
    masked.validate(full=True)
    assert array.to_pylist() == values
    assert masker.mask(array[2:9]).to_pylist() == expected[2:9]
    assert masker.mask(pa.chunked_array([array, array[:3]])).to_pylist() == expected + expected[:3]


def test_arrow_values_are_copied_only_when_something_is_masked() -> None:
    clean = pa.array(["a", "b", None])
    assert Masker().mask(clean) is clean
    array = pa.array([PAN, "b"])
    masked = Masker().mask(array)
    assert masked.buffers()[1].address == array.buffers()[1].address  # offsets are shared
    assert masked.buffers()[2].address != array.buffers()[2].address


def test_arrow_tables_and_nested_types() -> None:
    table = pa.table(
        {
            "card": [PAN, None],
            "number": pa.array([int(PAN), None], pa.int64()),
            "cvv": ["123", "9"],
            "cvc2": pa.array([123, None], pa.int32()),
            "list": [[PAN, "x"], None],
            "struct": [{"pan": PAN, "cvv": "1"}, None],
            "kinds": pa.array([PAN, PAN]).dictionary_encode(),
            "decimal": pa.array([Decimal(PAN), None], pa.decimal128(20, 0)),
            "float": [float(PAN), 1.5],
            "ok": [True, None],
            "when": pa.array([0, 1], pa.timestamp("us")),
        }
    )
    masked = Masker().mask(table)
    assert masked.schema == table.schema
    masked.validate(full=True)
    assert masked.to_pylist() == [
        {
            "card": MASKED, "number": 1000000000001111, "cvv": "***", "cvc2": 0, "list": [MASKED, "x"],
            "struct": {"pan": MASKED, "cvv": "***"}, "kinds": MASKED, "decimal": Decimal(1000000000001111),
            "float": 1000000000001111.0, "ok": True, "when": datetime.datetime(1970, 1, 1),  # noqa: DTZ001
        },
        {
            "card": None, "number": None, "cvv": "***", "cvc2": None, "list": None, "struct": None,
            "kinds": MASKED, "decimal": None, "float": 1.5, "ok": None, "when": table["when"][1].as_py(),
        },
    ]  # fmt: skip
    assert Masker().mask(table.to_batches()[0]).to_pylist() == masked.to_pylist()
    with pytest.raises(TypeError):
        Masker().mask(pa.scalar(PAN))


def test_sensitive_values_of_any_type_under_their_name() -> None:
    masked = Masker().mask(
        {
            "pin": {"1234"},
            "PIN": bytearray(b"1234"),
            "user_pin": np.array([1234, 5678]),
            "userPin": np.int64(1234),
            b"cvv": b"123",
            "cvc": {PAN: "123"},
        }
    )
    assert masked == {
        "pin": ["***"],
        "PIN": b"***",
        "user_pin": [0, 0],
        "userPin": 0,
        b"cvv": b"***",
        "cvc": {MASKED: "***"},
    }
    assert Masker().mask([{"Name": "cvv", "Value": "123"}]) == [{"Name": "cvv", "Value": "***"}]


def test_what_stands_behind_the_point_hides_no_pan() -> None:
    value = [Decimal(PAN + ".50"), -4222222222222.5, Decimal("0." + "1" * 30)]
    masked = [Decimal("1000000000001111.50"), -1000000002222.5, value[2]]
    assert Masker().mask(value) == masked
    assert Masker().mask(np.array([4222222222222.5])).tolist() == [1000000002222.5]


def test_names_of_columns_are_masked() -> None:
    array = Masker().mask(np.array([(1, 2)], dtype=[(PAN, "i8"), ("4111 1111 1111 1111", "i8")]))
    assert array.dtype.names == (MASKED, "**** **** **** 1111")
    pa = pytest.importorskip("pyarrow")
    inner = pa.array([{PAN: "x"}])
    table = Masker().mask(pa.table({PAN: ["x"], "s": inner}, metadata={"note": PAN}))
    assert PAN not in str(table.schema) + repr(table.to_pylist()) + repr(table.schema.metadata)
    assert table.num_rows == 1


@pytest.mark.parametrize("packs", [("core",), ("core", "unionpay-no-luhn", "national")])
def test_no_integer_token_is_found_again(packs: tuple[str, ...]) -> None:
    """Networks without the Luhn check would take any token for a card of theirs."""
    masker = Masker("fpe", key=KEY, packs=packs)
    scanner = Masker(packs=packs)
    for pan in (6205500000000000004, 8171999927660000, 8600000000000000, int(PAN)):
        assert scanner.find(str(masker.mask(pan))) == []


@pytest.mark.parametrize(
    "cell",
    [
        f"{PAN}=25121011234",
        f"{PAN}D2512101123456",
        f"{PAN}d2512101123456",
        f"%B{PAN}^DOE/J^2512101123",
        "%B4111 1111 1111 1111 ^DOE/J^2512101123",
        ";4111111111111112=2512101123?",
    ],
)
def test_tracks_in_columns(cell: str) -> None:
    """Each alone among words, so that nothing else makes a look at the cells necessary."""
    pa = pytest.importorskip("pyarrow")
    texts = ["order", "paid", cell, "", f"d{PAN}"]
    expected = [Masker().mask(text) for text in texts]
    assert expected[2] != cell
    assert Masker().mask(pa.array(texts)).to_pylist() == expected
    assert Masker().mask(np.array(texts)).tolist() == expected
