"""Digests as letters: hexadecimal with a to p instead of 0 to f.

The record is scanned for card numbers. In 64 hexadecimal digits there is now and then a run of 16
decimal ones that looks like one, and would be masked. Letters never do."""

from __future__ import annotations

import re

from pangate.errors import LedgerError

_HEX = "0123456789abcdef"
_LETTERS = "abcdefghijklmnop"
_TO_LETTERS = str.maketrans(_HEX, _LETTERS)
_TO_HEX = str.maketrans(_LETTERS, _HEX)
_FORM = re.compile("(?:[a-p]{2})*")


def letters(digest: bytes) -> str:
    """`digest` as two letters from a to p a byte."""
    return digest.hex().translate(_TO_LETTERS)


def from_letters(text: str) -> bytes:
    """The digest that `letters` made `text` of. Raises LedgerError for anything else."""
    if not _FORM.fullmatch(text):
        raise LedgerError("a digest in letters has pairs of the letters a to p only")
    return bytes.fromhex(text.translate(_TO_HEX))
