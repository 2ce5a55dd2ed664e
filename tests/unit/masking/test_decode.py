"""Decoders: the corpus of evasions, and laws that hold for every one of them."""

from __future__ import annotations

import base64
import csv
import random
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import oracle
from pangate import Masker, MaskingError
from pangate.masking import decode

CORPUS = Path(__file__).parents[2] / "corpus" / "decoders.csv"
PANS = ("4111111111111111", "378282246310005", "5555 5555 5555 4444", "6011-0009-9013-9424")
MASKED = ("************1111", "***********0005", "**** **** **** 4444", "****-****-****-9424")


def text(escaped: str) -> str:
    return escaped.encode("latin-1", "backslashreplace").decode("unicode_escape")


def rows() -> list[dict[str, str]]:
    with CORPUS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_the_corpus(row: dict[str, str]) -> None:
    given_, expected = text(row["input"]), text(row["expected"])
    masker = Masker(decode=row["decode"])
    assert masker.mask(given_) == expected
    assert masker.mask(given_.encode()) == expected.encode()
    buffer = bytearray(given_.encode())
    masker.mask_into(buffer)
    assert buffer == expected.encode()
    assert bool(masker.find(given_)) == (given_ != expected)


ENCODINGS = {
    "escapes": lambda s: "".join(f"\\u{ord(c):04x}" for c in s).encode(),
    "percent": lambda s: "".join(f"%{ord(c):02X}" for c in s).encode(),
    "entities": lambda s: "".join(f"&#{ord(c)};" for c in s).encode(),
    "unicode": lambda s: "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in s).encode(),
    "utf16": lambda s: s.encode("utf-16-le"),
    "hex": lambda s: s.encode().hex().encode(),
    "base64": lambda s: base64.b64encode(s.encode()),
}


def decoded(name: str, data: bytes) -> str:
    """The plain text behind an encoding, by the standard library's own decoders."""
    import html
    import unicodedata
    import urllib.parse

    reading = {
        "escapes": lambda: data.decode().encode().decode("unicode_escape"),
        "percent": lambda: urllib.parse.unquote(data.decode()),
        "entities": lambda: html.unescape(data.decode()),
        "unicode": lambda: unicodedata.normalize("NFKC", data.decode()),
        "utf16": lambda: data.decode("utf-16-le"),
        "hex": lambda: bytes.fromhex(data.decode()).decode(),
        "base64": lambda: base64.b64decode(data).decode(),
    }
    return reading[name]()


@pytest.mark.parametrize("name", ENCODINGS)
@given(
    st.text("0123456789 -x", max_size=24),
    st.sampled_from(PANS),
    st.text("0123456789 -x", max_size=24),
)
@settings(max_examples=150, deadline=None)
def test_what_is_masked_is_what_the_oracle_masks_in_the_decoded_text(
    name: str, before: str, pan: str, behind: str
) -> None:
    plain = before + pan + behind
    assume(not oracle.find(ENCODINGS[name](plain)))  # hexadecimal can look like a PAN by itself
    # among such digits two separators are one, which the plain definition does not have
    assume(name != "unicode" or not re.search("[ -] ", plain))
    masker = Masker(decode=[name], sensitive=False, tracks=False, uuids="mask")
    masked = masker.mask(ENCODINGS[name](plain))
    assert len(masked) == len(ENCODINGS[name](plain))
    expected = oracle.mask(plain.encode()).decode()
    assert decoded(name, masked) == expected


def test_two_separators_are_one_among_digits_beyond_ascii():
    wide = ENCODINGS["unicode"]("4111- 1111- 1111- 1111")
    masked = Masker(decode=["unicode"], sensitive=False, tracks=False).mask(wide)
    assert decoded("unicode", masked) == "****- ****- ****- 1111"


@pytest.mark.parametrize("name", decode.DECODERS)
@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_no_input_breaks_a_decoder_or_changes_its_length(name: str, data: bytes) -> None:
    assert len(Masker(decode=[name]).mask(data)) == len(data)


ALPHABET = [*"01234567890123456789", *"%;=- \0\n+", "4111", "%3", "%20", "\\u003", "&#5"]


@given(st.lists(st.sampled_from(ALPHABET), max_size=60).map("".join))
@settings(max_examples=300, deadline=None)
def test_decoders_only_ever_mask_more(data: str) -> None:
    """What the oracle masks is masked, whatever else the decoders find around it."""
    masked = Masker(decode="all", sensitive=False, uuids="mask").mask(data.encode())
    expected = oracle.mask(data.encode())
    assert len(masked) == len(expected)
    for ours, theirs in zip(masked, expected, strict=True):
        if theirs == ord("*"):
            assert (
                ours == ord("*") or chr(ours) in "0123456789abcdefA%"
            )  # 2a, %2A of another encoding
            assert ours not in b"456789"


@pytest.mark.parametrize("index", range(len(PANS)))
@pytest.mark.parametrize("order", ["utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_of_both_orders(index: int, order: str) -> None:
    plain = f"pay {PANS[index]} now".encode(order)
    assert Masker().mask(plain).decode(order) == f"pay {MASKED[index]} now"


@pytest.mark.parametrize("index", range(len(PANS)))
@pytest.mark.parametrize("before", [b"", b" ", b"0", b"pan ", b"-"])
def test_utf16_behind_bytes_that_are_not(index: int, before: bytes) -> None:
    """A length or a text in front must not glue to the number, whichever end is first."""
    for order in ("utf-16-be", "utf-16-le"):
        masked = Masker().mask(before + PANS[index].encode(order))
        assert masked == before + MASKED[index].encode(order)


def test_a_long_run_is_read_in_time_that_grows_with_its_length() -> None:
    digits = "".join(random.Random(1).choices("0123456789", k=20_000))
    masked = Masker(decode="all").mask(digits)
    assert len(masked) == len(digits)
    assert masked.count("*") > 1000  # about three of a hundred windows of 16 digits


def test_a_name_that_does_not_exist_is_an_error_that_says_which_do() -> None:
    with pytest.raises(MaskingError, match=r"no decoder 'hexx'.*escapes"):
        Masker(decode=["hexx"])
