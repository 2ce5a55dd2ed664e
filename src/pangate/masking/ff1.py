"""FF1, format-preserving encryption after NIST SP 800-38G, on the AES of `cryptography`."""

from __future__ import annotations

from pangate.errors import MaskingError

SMALLEST_DOMAIN = 1_000_000
"""Fewest texts that FF1 may be used on (SP 800-38G revision 1)."""

_NUMERALS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ROUNDS = 10
_BLOCK = 16


class FF1:
    """One AES key (16, 24 or 32 bytes) and a radix from 2 to 36. Texts are numerals `0-9a-z`, big end
    first. MaskingError for a key, text or tweak that FF1 cannot use; ModuleNotFoundError without the
    extra `tokens`. An instance belongs to one thread at a time."""

    def __init__(self, key: bytes, radix: int = 10) -> None:
        if len(key) not in (16, 24, 32):
            raise MaskingError(f"an AES key has 16, 24 or 32 bytes, not {len(key)}")
        if not 2 <= radix <= len(_NUMERALS):
            raise MaskingError(f"radix {radix} is not within 2 to {len(_NUMERALS)}")
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        # ECB is the bare block cipher, which FF1 is built on. Nothing is ever encrypted with it alone.
        self._block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update  # noqa: S305
        self.radix = radix

    def encrypt(self, text: str, tweak: bytes = b"") -> str:
        """`text` encrypted to a text of the same length and radix."""
        return self._run(text, tweak, encrypting=True)

    def decrypt(self, text: str, tweak: bytes = b"") -> str:
        """What was encrypted to `text` with this key and tweak."""
        return self._run(text, tweak, encrypting=False)

    def _run(self, text: str, tweak: bytes, *, encrypting: bool) -> str:
        n = len(text)
        if not set(text) <= set(_NUMERALS[: self.radix]):
            raise MaskingError(f"a text of radix {self.radix} has other numerals in it")
        # Long texts are never needed here, and 2**16 is far within what FF1 allows.
        if n < 2 or self.radix**n < SMALLEST_DOMAIN or n > 0xFFFF or len(tweak) > 0xFFFF:
            raise MaskingError(
                f"FF1 needs at least {SMALLEST_DOMAIN:,} possible texts; {n} numerals of radix "
                f"{self.radix} are too few, or text or tweak are too long"
            )
        u, v = n // 2, n - n // 2
        a, b = int(text[:u], self.radix), int(text[u:], self.radix)
        moduli = self.radix**u, self.radix**v
        # Names after the standard: b bytes hold the right half, d bytes come out of each round.
        width = ((self.radix**v - 1).bit_length() + 7) // 8
        out = 4 * ((width + 3) // 4) + 4
        head = bytes((1, 2, 1)) + self.radix.to_bytes(3) + bytes((10, u % 256))
        first = self._block(head + n.to_bytes(4) + len(tweak).to_bytes(4))
        fixed = tweak + bytes(-(len(tweak) + width + 1) % _BLOCK)
        if encrypting:
            for i in range(_ROUNDS):
                a, b = b, (a + self._round(first, fixed, i, b, width, out)) % moduli[i % 2]
        else:
            for i in reversed(range(_ROUNDS)):
                a, b = (b - self._round(first, fixed, i, a, width, out)) % moduli[i % 2], a
        return self._numerals(a, u) + self._numerals(b, v)

    def _round(self, first: bytes, fixed: bytes, i: int, half: int, width: int, out: int) -> int:
        """The number y of one round: CBC-MAC over what is fixed and one half, stretched to `out`."""
        text = fixed + bytes((i,)) + half.to_bytes(width)
        mac = int.from_bytes(first)
        for at in range(0, len(text), _BLOCK):
            block = (mac ^ int.from_bytes(text[at : at + _BLOCK])).to_bytes(_BLOCK)
            mac = int.from_bytes(self._block(block))
        stretched = mac.to_bytes(_BLOCK)
        for j in range(1, (out + _BLOCK - 1) // _BLOCK):
            stretched += self._block((mac ^ j).to_bytes(_BLOCK))
        return int.from_bytes(stretched[:out])

    def _numerals(self, value: int, count: int) -> str:
        if self.radix == 10:
            return str(value).zfill(count)
        digits = []
        for _ in range(count):
            value, digit = divmod(value, self.radix)
            digits.append(_NUMERALS[digit])
        return "".join(reversed(digits))
