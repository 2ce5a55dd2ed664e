"""Tokens and their keys."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from pangate import Key, Masker, MaskingError
from pangate.masking import iin
from pangate.masking.tokens import Tokens

SECRET = bytes(range(32))
TOKENS = Tokens(Key(SECRET))
EVERY_RANGE = iin.select(iin.packs())


def complete(body: str) -> str:
    return next(body + d for d in "0123456789" if oracle.luhn(body + d))


VALID = st.integers(12, 19).flatmap(
    lambda n: st.text("0123456789", min_size=n - 1, max_size=n - 1).filter(lambda s: s[0] != "0")
).map(complete)  # fmt: skip


@given(VALID)
@settings(max_examples=200, deadline=None)
def test_an_fpe_token_keeps_the_format_and_is_no_pan(digits: str) -> None:
    token = TOKENS.fpe(digits)
    assert token is not None
    assert len(token) == len(digits)
    assert token[0] != "0"
    assert not oracle.luhn(token)
    if len(digits) >= 13:
        assert token[-4:] == digits[-4:]
    if len(digits) >= 16:
        assert token[:6] == digits[:6]
    assert TOKENS.fpe(digits) == token
    required = tuple(r for r in EVERY_RANGE if r.luhn)
    for shown in (token, " ".join(token[i : i + 4] for i in range(0, len(token), 4))):
        assert not oracle.find(shown.encode(), required)


@given(VALID)
@settings(max_examples=100, deadline=None)
def test_a_token_has_no_digit_and_its_form(digits: str) -> None:
    token = TOKENS.token(digits)
    assert len(token) == 36
    assert token.startswith("tok_")
    assert set(token[4:]) <= set("abcdefghijklmnop")


def test_no_two_pans_share_an_fpe_token() -> None:
    """A seventh of the PANs that one head and tail allow."""
    candidates = (f"411111{middle:06}1111" for middle in range(0, 1_000_000, 7))
    chosen = [pan for pan in candidates if oracle.luhn(pan)]
    assert len(chosen) > 14_000
    made = {TOKENS.fpe(pan) for pan in chosen}
    assert len(made) == len(chosen)
    assert None not in made


def test_what_fails_the_luhn_check_has_no_fpe_token_and_is_masked_instead() -> None:
    assert TOKENS.fpe("4111111111111112") is None
    assert TOKENS.fpe("0000000000000000") is None
    masker = Masker("fpe", packs=["core", "unionpay-no-luhn"], key=Key(SECRET))
    assert masker.mask("6212345678901231") == "************1231"


def test_the_same_key_gives_the_same_token_in_another_process() -> None:
    script = (
        "from pangate import Key, Masker; k = Key(bytes(range(32)));"
        "print(*(Masker(kind, key=k).mask('4111111111111111') for kind in ('token', 'fpe')))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    # Written down, so that a release that changes tokens does not go unseen: joins over years rest on it.
    assert out.split() == ["tok_hialfancpkdjhomobhbkbehlbnogdbce", "4111117887671111"]
    other = Key(bytes(range(1, 33)))
    assert Masker("token", key=other).mask("4111111111111111") != out.split()[0]


def test_keys_come_from_bytes_files_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    for content in (SECRET, SECRET + b"\n", b"hex:" + SECRET.hex().encode() + b"\r\n",
                    b"base64:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="):  # fmt: skip
        file.write_bytes(content)
        assert Key.from_file(file) == Key(SECRET)
    monkeypatch.setenv("PAN_KEY", "hex:" + SECRET.hex())
    assert Key.from_environment("PAN_KEY") == Key(SECRET)
    monkeypatch.delenv("PAN_KEY")
    with pytest.raises(MaskingError, match="PAN_KEY is not set"):
        Key.from_environment("PAN_KEY")
    with pytest.raises(MaskingError, match="No such file"):
        Key.from_file(tmp_path / "none")
    for content, reason in (
        (b"short", "5 bytes and needs 32"),
        (b"hex:zz", "key file"),
        (b"a" * 64, "not random"),
    ):
        file.write_bytes(content)
        with pytest.raises(MaskingError, match=reason):
            Key.from_file(file)


def test_a_key_shows_itself_to_nobody() -> None:
    key = Key(SECRET)
    assert repr(key) == "Key(...)"
    assert SECRET not in repr(Masker("token", key=key)).encode()
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
    with pytest.raises(TypeError, match="not str"):
        Key("a text of more than thirty-two bytes")  # type: ignore[arg-type]
    with pytest.raises(MaskingError) as caught:
        Key(b"secret")
    assert "secret" not in str(caught.value)
