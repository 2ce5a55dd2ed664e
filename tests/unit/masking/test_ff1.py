"""FF1 against the sample vectors of NIST SP 800-38G and the laws of a permutation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangate.errors import MaskingError
from pangate.masking.ff1 import FF1

AES_128 = "2B7E151628AED2A6ABF7158809CF4F3C"
AES_192 = AES_128 + "EF4359D8D580AA4F"
AES_256 = AES_192 + "7F036D6F04FC6A94"
TWEAK_10, TWEAK_36 = "39383736353433323130", "3737373770717273373737"
DIGITS, LETTERS = "0123456789", "0123456789abcdefghi"


@pytest.mark.parametrize(
    ("key", "radix", "tweak", "text", "expected"),
    [
        (AES_128, 10, "", DIGITS, "2433477484"),
        (AES_128, 10, TWEAK_10, DIGITS, "6124200773"),
        (AES_128, 36, TWEAK_36, LETTERS, "a9tv40mll9kdu509eum"),
        (AES_192, 10, "", DIGITS, "2830668132"),
        (AES_192, 10, TWEAK_10, DIGITS, "2496655549"),
        (AES_192, 36, TWEAK_36, LETTERS, "xbj3kv35jrawxv32ysr"),
        (AES_256, 10, "", DIGITS, "6657667009"),
        (AES_256, 10, TWEAK_10, DIGITS, "1001623463"),
        (AES_256, 36, TWEAK_36, LETTERS, "xs8a0azh2avyalyzuwd"),
    ],
)
def test_the_sample_vectors_of_the_standard(
    key: str, radix: int, tweak: str, text: str, expected: str
) -> None:
    cipher = FF1(bytes.fromhex(key), radix)
    assert cipher.encrypt(text, bytes.fromhex(tweak)) == expected
    assert cipher.decrypt(expected, bytes.fromhex(tweak)) == text


@given(st.text("0123456789", min_size=6, max_size=60), st.binary(max_size=40))
def test_what_was_encrypted_is_decrypted(text: str, tweak: bytes) -> None:
    cipher = FF1(bytes(range(32)))
    secret = cipher.encrypt(text, tweak)
    assert len(secret) == len(text)
    assert cipher.decrypt(secret, tweak) == text


@pytest.mark.parametrize(
    ("text", "radix", "reason"),
    [
        ("12345", 10, "too few"),
        ("", 10, "too few"),
        ("1" * 19, 2, "too few"),
        ("12345a", 10, "other numerals"),
        ("１２３４５６", 10, "other numerals"),
        ("-12345", 10, "other numerals"),
    ],
)
def test_a_text_that_ff1_cannot_use_is_refused(text: str, radix: int, reason: str) -> None:
    with pytest.raises(MaskingError, match=reason):
        FF1(bytes(16), radix).encrypt(text)


def test_a_key_or_radix_that_aes_or_ff1_cannot_use_is_refused() -> None:
    with pytest.raises(MaskingError, match="16, 24 or 32 bytes, not 15"):
        FF1(bytes(15))
    with pytest.raises(MaskingError, match="radix 37"):
        FF1(bytes(16), 37)
