"""Rules by the name of a field: columns, keys of JSON and forms, `name=value` and `<name>value` in text.

A name is read as words, so `cardCvv2`, `card_cvv2` and `CARD-CVV2` are one. A rule's words must be its
last ones: `billing.cvv` is a cvv, `cvv_result` is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pangate._frame import ANY, CODE, PIN, fits
from pangate.errors import MaskingError

Data = bytes | bytearray
Action = Literal["wipe", "mask", "leave"]
ACTIONS: tuple[Action, ...] = ("wipe", "mask", "leave")
"""wipe: nothing of the value stays, not even its length. mask: a PAN, whatever its digits are. leave:
not a PAN, whatever its digits are (only for names that the user gives)."""

_WHATEVER = (
    # card verification codes
    *("cvv", "cvv2", "cvc", "cvc2", "cvn", "cvn2", "cvd", "cvd2", "cav", "cav2"),
    *("csc", "icvv", "dcvv", "cvv_code", "cvc_code", "cvv_number", "cvc_number"),
    *("cvv_value", "cvc_value", "security_code", "card_code", "verification_value"),
    *("card_verification_value", "card_verification_number"),
    # PIN blocks
    *("pin_block", "pinblock", "epb", "enc_pin", "pin_data"),
    # tracks
    *("track1", "track2", "track3", "track_1", "track_2", "track_3", "track_data"),
    *("track1_data", "track2_data", "track3_data", "track_1_data", "track_2_data"),
    *("magstripe", "magnetic_stripe", "stripe_data"),
    *("track2_equivalent", "track2_equivalent_data"),
)

SENSITIVE: dict[str, int] = {
    **dict.fromkeys(_WHATEVER, ANY),
    # These are other things as well, so the value has to look like it.
    "cid": CODE,
    "verification_code": CODE,
    "pin": PIN,
    "pin_code": PIN,
    "pin_number": PIN,
}
"""Names of sensitive authentication data, and what their value must look like to be it: a shape of
`pangate._frame.fits`."""

GLUED = ("cvv", "cvv2", "cvc2", "securitycode", "pinblock", "magstripe", "trackdata", "cardcvc")
"""Names that may end any longer word."""

MOST_LOOKED = 1000
"""Places of one text that are looked at more closely."""

_NAME = re.compile(r"[A-Za-z0-9_]+")
_WORD = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+")


@lru_cache(maxsize=4096)
def words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case: `cardCvv2` is card, cvv2."""
    return tuple(word.lower() for word in _WORD.findall(name))


class Columns:
    """What to do with a value by the name of its field.

    `given` maps names to actions and stands before the built-in names of sensitive authentication data,
    which `sensitive=False` switches off. MaskingError names the entry that cannot be used."""

    def __init__(self, given: Mapping[str, str] | None = None, *, sensitive: bool = True) -> None:
        self._given: dict[tuple[str, ...], Action] = {}
        for name, action in (given or {}).items():
            if not words(name):
                raise MaskingError(f"columns: the name {name!r} has neither letters nor digits")
            for allowed in ACTIONS:
                if action == allowed:
                    self._given[words(name)] = allowed
                    break
            else:
                raise MaskingError(
                    f"columns.{name}: there is no action {action!r}; there are {', '.join(ACTIONS)}"
                )
        self._sensitive = (
            {words(name): shape for name, shape in SENSITIVE.items()} if sensitive else {}
        )
        self._longest = max(map(len, (*self._given, *self._sensitive)), default=0)
        self._glued = GLUED if sensitive else ()
        self.ends = _ends([*self._given, *self._sensitive, *((name,) for name in self._glued)])
        self._known: dict[str, tuple[Action, int] | None] = {}
        self._stems = _stems([*self._given, *self._sensitive, *((name,) for name in self._glued)])

    def __bool__(self) -> bool:
        return bool(self._longest)

    @property
    def leaves(self) -> bool:
        """Whether some value is to be left as it is."""
        return "leave" in self._given.values()

    def action(self, name: str) -> tuple[Action, int] | None:
        """What to do with the value of this name and the shape that it has to have, None for nothing."""
        try:
            return self._known[name]
        except KeyError:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[name] = self._action(name)
            return found

    def _action(self, name: str) -> tuple[Action, int] | None:
        tail = self._tail(name)
        if tail in self._given:
            return self._given[tail], ANY
        return ("wipe", self._sensitive.get(tail, ANY)) if tail else None

    def _tail(self, name: str) -> tuple[str, ...]:
        """The last words of a name that some rule is about, () when none is."""
        parts = words(name)
        for rules in (self._given, self._sensitive):
            for first in range(max(0, len(parts) - self._longest), len(parts)):
                if parts[first:] in rules:
                    return parts[first:]
        return parts[-1:] if parts and parts[-1].endswith(self._glued) else ()

    def mentions(self, text: str) -> bool:
        """Whether some words of a text, wherever they stand in it, are a name that some rule is about. It may
        say so of a text in which parts of words are such a name over and over."""
        lowered = text.lower()
        looked = 0
        for stem in self._stems:
            at = lowered.find(stem)
            while at >= 0:
                looked += 1
                if looked > MOST_LOOKED:
                    return True
                near = slice(max(0, at - _NAME_REACH), at + len(stem) + _NAME_REACH)
                # `cardCvv` has words as it is written, and `CVv` as the database takes it
                if self._names(text[near]) or self._names(lowered[near]):
                    return True
                at = lowered.find(stem, at + len(stem))
        return False

    def _names(self, text: str) -> bool:
        found = _NAME.findall(text)
        # a name may be written as several: "security code", `card-code`
        return any(
            self._tail("_".join(found[max(0, end - 3) : end])) for end in range(1, len(found) + 1)
        )

    def rule(self, name: str) -> str:
        """The rule that a name falls under, as it may be shown: the rest of the name comes from the
        data and can hold a PAN."""
        tail = self._tail(name)
        if tail in self._given or tail in self._sensitive:
            return "_".join(tail)
        return next((glued for glued in self._glued if tail[-1:] and tail[-1].endswith(glued)), "")

    def wipes(self, name: str, value: bytes) -> bool:
        """Whether a value of this name is wiped."""
        found = self.action(name)
        return found is not None and found[0] == "wipe" and fits(found[1], value)

    def values(self, data: Data, marks: Iterable[int]) -> Iterator[Value]:
        """The values in a text that some rule is about, in the order of the text. `marks` are the places
        of `:`, `=` and `>` that may have such a name in front."""
        done = 0
        for mark in marks:
            if mark < done:
                continue
            before, quoted = _before(data, mark)
            found = self.action(before)
            if found is None:
                continue
            for value in _values(data, mark, quoted=quoted):
                end = _fitting(found[1], data[value.start : value.end])
                if end:
                    yield value._replace(end=value.start + end, name=before, action=found[0])
                done = max(done, value.end)

    def open_at(self, data: Data, cut: int, marks: Iterable[int]) -> int:
        """Where the line begins whose name has an object or an array for its value that goes on behind
        `cut`, `cut` where there is none. `marks` as for `values`, of all of `data`."""
        for mark in marks:
            if mark >= cut:
                break
            match = _VALUE.match(data, mark)
            if (
                match is None
                or match.group(4) is None
                or self.action(_before(data, mark)[0]) is None
            ):
                continue
            begin = match.start(4)
            if begin + _NESTED > cut and not _closed(data, begin, min(cut, begin + _NESTED)):
                return data.rfind(b"\n", 0, mark) + 1
        return cut


class Value(NamedTuple):
    """Where a value stands. `bare` when it is a JSON number or word, which must remain one."""

    start: int
    end: int
    bare: bool
    name: str = ""
    action: Action = "wipe"


_MOST_KNOWN = 4096
_NAME_REACH = 72
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.["


def _stems(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Texts of which one is in whatever has one of these names in it, as few as are found soon."""
    stems: list[str] = []
    for name in sorted(filter(None, names), key=lambda name: (len(name), len("".join(name)))):
        if not any(stem in word for word in name for stem in stems):
            stems.append(max(name, key=len))
    return tuple(stem for stem in stems if not any(one != stem and one in stem for one in stems))


def _ends(names: Iterable[tuple[str, ...]]) -> npt.NDArray[np.uint8]:
    """Which three letters a name with a rule may end in, as a table of shape (32768,). Of each letter
    five bits count, so that its case does not."""
    table = np.zeros((32, 32, 32), dtype=np.uint8)
    for name in names:
        for between in ("", "_", "-", ".", " ", "["):
            last = [ord(letter) & 31 for letter in between.join(name)[-3:]]
            at: list[int | slice] = [slice(None)] * (3 - len(last))
            table[(*at, *last)] = 1
    return table.reshape(-1)


def _before(data: Data, mark: int) -> tuple[str, bool]:
    """The name in front of a mark, and whether it stands in quotes."""
    text = bytes(data[max(0, mark - _NAME_REACH) : mark]).rstrip(b" \t")
    bare = text.rstrip(b"\"'\\")
    quoted = len(bare) < len(text)
    bare = bare.removesuffix(b"]")
    start = len(bare.rstrip(_LETTERS))
    quoted = quoted and start > 0 and bare[start - 1] in b"\"'"
    return bare[start:].decode("latin-1").replace("[", "."), quoted


# What a value begins with decides where it ends. A string may be left open by a cut text.
_VALUE = re.compile(
    rb"[:=>]>?[ \t]{0,8}(?:"
    rb"(\\*)\"((?:[^\"\\\r\n]|\\(?!\\*\")|\\.)*?)(?:\1\"|\Z|(?=[\r\n\"]))"
    rb"|\\*'([^'\r\n]*)"
    rb"|([{\[])"
    rb"|(?!\\+[\"'])([^\s\"'&;,<>{}\[\]()|]+)"
    rb")"
)
_SCALAR = re.compile(
    rb"\"((?:[^\"\\\r\n]|\\.)*)\"(\s*:)?|(?<![\w\"])(-?[0-9][0-9.eE+\-]*)|[{}\[\]]"
)
_NESTED = 4096  # bytes of an object behind a name that are looked through
NAME_TO_END = _NESTED + _NAME_REACH + 16
"""Bytes from the beginning of a name to the last one of its value that is looked at."""


def _values(data: Data, mark: int, *, quoted: bool) -> Iterator[Value]:
    match = _VALUE.match(data, mark)
    if match is None:
        return
    for group in (2, 3):
        if match.group(group) is not None:
            start, end = match.span(group)
            yield Value(start, _unescaped(data, start, end), bare=False)
            return
    if match.group(5) is not None:
        start, end = match.span(5)
        yield Value(start, _unescaped(data, start, end), bare=quoted)
        return
    depth = 0
    for scalar in _SCALAR.finditer(data, match.start(4), match.start(4) + _NESTED):
        sign = scalar.group()
        if scalar.group(1) is not None:
            if scalar.group(2) is None:  # else it is a key
                yield Value(*scalar.span(1), bare=False)
        elif scalar.group(3) is not None:
            yield Value(*scalar.span(3), bare=True)
        else:
            depth += 1 if sign in b"{[" else -1
            if depth <= 0:
                return


def _closed(data: Data, begin: int, end: int) -> bool:
    depth = 0
    for scalar in _SCALAR.finditer(data, begin, end):
        if scalar.group(1) is None and scalar.group(3) is None:
            depth += 1 if scalar.group() in (b"{", b"[") else -1
            if depth <= 0:
                return True
    return False


def _unescaped(data: Data, start: int, end: int) -> int:
    """The end of a value without the backslashes of the quote behind it, which may be another's."""
    while end - start > 1 and data[end - 1] == 92 and data[end : end + 1] in (b'"', b"'"):
        end -= 1
    return end


def _fitting(shape: int, value: Data) -> int:
    """How much of a value is what a rule is about, 0 for nothing. What has a shape may end at an escape,
    as in `pin=1234\\nnext` of a JSON string."""
    if fits(shape, bytes(value), escaped=True):
        return len(value)
    part = bytes(value.partition(b"\\")[0])
    return len(part) if shape != ANY and fits(shape, part) else 0
