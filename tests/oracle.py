"""The plain definition of what a PAN is and what masking it means: slow, obvious, and the judge of every
kernel."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from pangate.masking.iin import Range, select

CHAIN = re.compile(rb"[0-9](?:[ -]?[0-9])*")
GROUP = re.compile(rb"[0-9]+")
EIGHT = {"visa", "mastercard", "discover", "jcb", "unionpay"}


def luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


@cache
def issuer(digits: str, ranges: tuple[Range, ...]) -> tuple[str, bool] | None:
    """(network, Luhn required) of a digit string, or None. The longest prefix names the network, the
    earlier range among equals; Luhn is needed only when every matching range wants it."""
    found: list[tuple[int, int, Range]] = []
    for order, r in enumerate(ranges):
        head = digits[: len(r.first)]
        if len(digits) in r.lengths and r.first <= head <= r.last:
            width = next(len(p) for p in r.prefixes() if digits.startswith(p))
            found.append((-width, order, r))
    if not found:
        return None
    return min(found)[2].network, all(r.luhn for _, _, r in found)


def find(data: bytes, ranges: tuple[Range, ...] | None = None) -> list[tuple[int, int, str, bool]]:
    """Every PAN of one field as (start, end, network, Luhn required), by its end, then its digits."""
    ranges = ranges or select()
    hits = []
    for chain in CHAIN.finditer(data):
        groups = list(GROUP.finditer(data, chain.start(), chain.end()))
        for last in range(len(groups)):
            for first in range(last, -1, -1):
                digits = b"".join(g.group() for g in groups[first : last + 1]).decode()
                if len(digits) > 19:
                    break
                if len(digits) < 12:
                    continue
                known = issuer(digits, ranges)
                if known and (not known[1] or luhn(digits)):
                    hits.append((groups[first].start(), groups[last].end(), *known))
    return hits


def hidden(digits: int, kind: str, network: str) -> tuple[int, int]:
    """Which digits of a PAN are masked: from, to."""
    if digits < 13 or kind == "full":
        return 0, digits
    head = 0
    if kind in ("first6_last4", "first8_last4") and digits >= 14:
        head = 6
    if kind == "first8_last4" and digits == 16 and network in EIGHT:
        head = 8
    return head, digits - 4


def mask(data: bytes, kind: str = "last4", ranges: tuple[Range, ...] | None = None) -> bytes:
    """One field with every PAN masked: the union where they overlap."""
    out = bytearray(data)
    for start, end, network, _ in find(data, ranges):
        places = [i for i in range(start, end) if 48 <= data[i] <= 57]
        low, high = hidden(len(places), kind, network)
        for i in places[low:high]:
            out[i] = ord("*")
    return bytes(out)


UNSEEN = re.compile(
    "[\\x00-\\x20\\x7f-\\xa0\\xad\\u1680\\u2000-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u3000\\ufeff]"
)
NUMBER = re.compile(r"[+-]?([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]*))?")


def says_code(text: str, *, pin: bool) -> bool:
    """Whether a text says a code of a card, or a PIN: three or four digits, or four to twelve or sixteen of
    hexadecimal; however it is written."""
    few, most = (4, 12) if pin else (3, 4)
    plain = ""
    for character in UNSEEN.sub("", text):
        digit = unicodedata.digit(character, None) if character.isdecimal() else None
        wide = "\uff01" <= character <= "\uff5e"
        plain += (
            str(digit) if digit is not None else chr(ord(character) - 0xFEE0) if wide else character
        )
    if pin:
        block = re.sub("[-:]", "", re.sub(r"\A[0\\]x(?=.)", "", plain))
        if re.fullmatch("[0-9a-fA-F]{16}|[0-9]{4,12}", block):
            return True
        if re.fullmatch("[0-9]+", block):
            return False
    elif re.fullmatch("[0-9]+", plain):
        return few <= len(plain) <= most
    found = NUMBER.fullmatch(plain)
    if not found or not found[1] + found[2]:
        return False
    power = int(found[3]) if found[3] and found[3] not in "+-" else 0
    digits, end = found[1] + found[2], len(found[1]) + min(power, 10_000)
    if end < 0 or digits[end:].strip("0"):
        return False
    whole = digits[:end].ljust(end, "0")
    return len(whole) >= few and len(whole.lstrip("0")) <= most
