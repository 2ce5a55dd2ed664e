"""Tokens in the place of PANs: the same key gives the same token for the same PAN everywhere, so that
joins and counts over masked data still work.

A `token` is `tok_` and 32 letters, without a digit. An `fpe` token is digits in the PAN's own format:
of a PAN with 16 digits or more the middle ones are encrypted by FF1 and the first six and the last four
stay. Shorter PANs would leave FF1 fewer than a million texts, so of them all but the last four are
encrypted, and of those under 13 digits all. Whoever holds the key can make tokens for every PAN there
is and compare: the key makes the difference, and its holder stays in the scope of PCI DSS."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import threading
from pathlib import Path

from pangate.errors import MaskingError
from pangate.masking.ff1 import FF1

SHORTEST_KEY = 32
"""Bytes."""

_FEWEST_VALUES = 8  # different bytes in a key; 32 random bytes have about 30
_STEPS = 10_000
_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")


class Key:
    """A secret that tokens are made with, at least 32 bytes of it. There is no default.

    Two tokens of different kinds need not be told apart by whoever has the key, but one cannot be made
    of the other without it. MaskingError when it is too short or plainly not random."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes | bytearray) -> None:
        if not isinstance(secret, bytes | bytearray):
            raise TypeError(f"a key is bytes, not {type(secret).__name__}")
        if len(secret) < SHORTEST_KEY:
            raise MaskingError(
                f"the key has {len(secret)} bytes and needs {SHORTEST_KEY} or more; make one with: "
                "openssl rand -hex 32"
            )
        if len(set(secret)) < _FEWEST_VALUES:
            raise MaskingError("the key is not random; make one with: openssl rand -hex 32")
        self._secret = bytes(secret)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Key:
        """The file's bytes, one line end at the end of them left out, are the key; a file that begins
        with `hex:` or `base64:` is decoded."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise MaskingError(f"key file {path}: {reason}") from error
        return cls._from_text(content.removesuffix(b"\n").removesuffix(b"\r"), f"key file {path}")

    @classmethod
    def from_environment(cls, name: str) -> Key:
        """The UTF-8 bytes of an environment variable, decoded as those of a file."""
        value = os.environb.get(name.encode()) if os.supports_bytes_environ else None
        if value is None:
            raise MaskingError(
                f"environment variable {name} is not set, and there is no default key"
            )
        return cls._from_text(value, f"environment variable {name}")

    @classmethod
    def _from_text(cls, text: bytes, where: str) -> Key:
        try:
            if text.startswith(b"hex:"):
                text = binascii.unhexlify(text[4:])
            elif text.startswith(b"base64:"):
                text = base64.b64decode(text[7:], validate=True)
        except binascii.Error as error:
            raise MaskingError(f"{where}: {error}") from None
        try:
            return cls(text)
        except MaskingError as error:
            raise MaskingError(f"{where}: {error}") from None

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose, so that no two uses of a key touch each other."""
        return hmac.digest(self._secret, b"pangate 1 " + purpose.encode(), hashlib.sha256)

    def digest(self, digits: str) -> str:
        """What an allow-list holds in the place of a number: 64 hexadecimal digits."""
        return hmac.digest(self.derive("allow"), digits.encode(), hashlib.sha256).hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.derive("hash"))

    def __repr__(self) -> str:
        return "Key(...)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a key is not pickled; give each process its own from a file")


def luhn(digits: str) -> bool:
    """Whether digits pass the Luhn check."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit)
        total += value if i % 2 == 0 else (value * 2 if value < 5 else value * 2 - 9)
    return total % 10 == 0


class Tokens:
    """Makes tokens of PANs with one key. Safe to share between threads."""

    def __init__(self, key: Key) -> None:
        self._mac = key.derive("token")
        self._aes = key.derive("fpe")
        self._local = threading.local()

    def token(self, digits: str) -> str:
        """`tok_` and 32 letters a to p: 128 bits of HMAC-SHA256."""
        mac = hmac.digest(self._mac, digits.encode(), hashlib.sha256)[:16]
        return "tok_" + mac.hex().encode().translate(_LETTERS).decode()

    def fpe(self, digits: str) -> str | None:
        """Digits of the same length that do not pass the Luhn check, neither as a whole nor, cut into
        fours, in a part of twelve digits or more, and do not begin with 0. Different PANs have
        different tokens. None when there is no such token: for numbers that do not pass the Luhn
        check themselves, since a check is then what cannot be broken."""
        if not 12 <= len(digits) <= 19 or digits[0] == "0" or not luhn(digits):
            return None
        head = digits[:6] if len(digits) >= 16 else ""
        tail = digits[-4:] if len(digits) >= 13 else ""
        middle = digits[len(head) : len(digits) - len(tail)]
        tweak = f"{len(digits)}:{head}:{tail}".encode()
        # FF1 permutes all middles, also those that make valid PANs. Walking its cycle from a valid
        # one, take valid ones as opening and usable ones as closing brackets: each opening one has a
        # closing one of its own, so that no two PANs share a token, as a plain walk would let them.
        cipher, depth = self._cipher(), 1
        for _ in range(_STEPS):
            middle = cipher.encrypt(middle, tweak)
            candidate = head + middle + tail
            if luhn(candidate):
                depth += candidate[0] != "0"
            elif _usable(candidate):
                depth -= 1
                if not depth:
                    return candidate
        return None

    def _cipher(self) -> FF1:
        try:
            cipher: FF1 = self._local.cipher
        except AttributeError:
            cipher = self._local.cipher = FF1(self._aes)
        return cipher


def _usable(candidate: str) -> bool:
    """Whether digits that fail the Luhn check as a whole do so in their parts, cut into fours."""
    if candidate[0] == "0":
        return False
    ends = [*range(0, len(candidate), 4), len(candidate)]
    return not any(
        luhn(candidate[a:b]) for a in ends for b in ends if b - a >= 12 and b - a < len(candidate)
    )
