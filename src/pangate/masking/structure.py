"""Masking of Python values: numbers, mappings, sequences, and what holds columns of values.

The keys of a mapping are names for the rules of columns, and are masked themselves. A type that is not
known here is a TypeError, since it would come back unmasked."""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from pangate._frame import ANY, fits
from pangate.errors import MaskingError

if TYPE_CHECKING:
    from pangate.masking.masker import Masker

DEEPEST = 100
"""Levels of values within values."""

_EXACT = Context(prec=200)
_MOST = 10**19  # numbers from here on have more digits than a PAN
_NAMES, _VALUES = ("name", "key", "field", "column"), ("value", "values")
_HARMLESS = (
    bool,
    type(None),
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
)


def mask_value(masker: Masker, value: Any) -> Any:
    """`value` masked, of the same type. TypeError for a type that cannot be masked."""
    if value is None or isinstance(value, bool):
        raise TypeError(f"mask takes texts, bytes, numbers, containers and arrays, not {value!r}")
    return _mask(masker, value, DEEPEST)


def mask_array_into(masker: Masker, buffer: Any) -> int | None:
    """Mask a numpy array by its elements in place; None when it is none, or one of bytes."""
    if _module(buffer) != "numpy":
        return None
    from pangate.masking import array

    return array.mask_into(masker, buffer)


def _module(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _mask(masker: Masker, value: Any, left: int) -> Any:
    if left <= 0:
        raise MaskingError(f"mask: values lie deeper than {DEEPEST} levels in each other")
    module = _module(value)
    if module == "numpy":
        from pangate.masking import array

        return array.mask(masker, value)
    if module == "pyarrow":
        from pangate.masking import arrow

        return arrow.mask(masker, value)
    if isinstance(value, str):
        return masker.mask(str.__str__(value))  # of a subclass the characters, whatever it prints
    if isinstance(value, bytes):
        return masker.mask(bytes(value))
    if isinstance(value, bytearray):
        return masker.mask(bytearray(value))
    if isinstance(value, memoryview):
        return masker.mask(value)
    if isinstance(value, uuid.UUID):
        return _uuid(masker, value)
    if isinstance(value, _HARMLESS):
        return value
    if isinstance(value, int | float | Decimal):
        return _number(masker, value)
    if isinstance(value, Mapping):
        return _mapping(masker, value, left)
    if isinstance(value, list | tuple):
        pair = _pair(masker, value)
        items = pair if pair is not None else [_mask(masker, one, left - 1) for one in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, set | frozenset):
        return type(value)(_mask(masker, one, left - 1) for one in value)
    raise TypeError(f"mask does not know how to mask {type(value).__name__}; convert it first")


def _number(masker: Masker, value: Any) -> Any:
    if isinstance(value, int):
        return masker.mask_integer(int(value))
    finite = value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)
    if not finite or abs(value) >= _MOST:
        return value
    whole = int(value)
    masked = masker.mask_integer(whole)
    if masked == whole:
        return value
    made: Any  # what stands behind the point stays
    if isinstance(value, Decimal):
        made = _EXACT.add(Decimal(masked), _EXACT.subtract(value, Decimal(whole)))
    else:
        made = type(value)(masked) + (value - whole)
    # A float of 17 digits and more is rounded, which can make a PAN of what was none.
    return made if masker.mask_integer(int(made)) == int(made) else type(value)(0)


def _uuid(masker: Masker, value: uuid.UUID) -> uuid.UUID:
    """A UUID masked as its text is, with digits, so that it remains one."""
    text = str(value)
    masked = masker.mask(text)
    if masked == text:
        return value
    if len(masked) != len(text):  # a token is none
        return uuid.UUID(int=0)
    return uuid.UUID("".join("0" if a != b else a for a, b in zip(text, masked, strict=True)))


def _mapping(masker: Masker, value: Mapping[Any, Any], left: int) -> dict[Any, Any]:
    masked: dict[Any, Any] = {}
    named = _entry(masker, value)
    for key, one in value.items():
        name = _mask(masker, key, left - 1)
        if name in masked:  # two PANs with the same last four
            name = next(
                f"{name} ({i})" for i in range(2, len(value) + 2) if f"{name} ({i})" not in masked
            )
        rule = _name(key)
        if named is not None and rule.lower() in _VALUES:
            rule = named
        masked[name] = by_name(masker, rule, one, left)
    return masked


def _name(key: Any) -> str:
    """What a key is called for the rules by name, "" when it is no name."""
    return key.decode("latin-1") if isinstance(key, bytes) else key if isinstance(key, str) else ""


def _entry(masker: Masker, value: Mapping[Any, Any]) -> str | None:
    """The name that a mapping like {"name": "cvv", "value": "123"} gives to its value."""
    for key, one in value.items():
        if _name(key).lower() in _NAMES and masker.columns.action(_name(one)) is not None:
            return _name(one)
    return None


def _pair(masker: Masker, value: list[Any] | tuple[Any, ...]) -> list[Any] | None:
    """Both values of a pair like ("cvv", "123"), None when it is none."""
    if len(value) == 2 and masker.columns.action(_name(value[0])) is not None:
        name = _name(value[0])
        return [_mask(masker, value[0], DEEPEST), by_name(masker, name, value[1], DEEPEST)]
    return None


def by_name(masker: Masker, name: str, value: Any, left: int = DEEPEST) -> Any:
    """A value masked by the rules for the name of its field."""
    found = masker.columns.action(name)
    if found is None or left <= 0:
        return _mask(masker, value, left - 1)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {
            _mask(masker, key, left - 1): by_name(masker, name, one, left - 1)
            for key, one in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [by_name(masker, name, one, left - 1) for one in value]
    if _module(value) in ("numpy", "pyarrow"):
        return _columns_by_name(masker, name, value, left)
    action, shape = found
    raw = isinstance(value, bytes | bytearray | memoryview)
    text = bytes(value) if raw else str(value).encode("utf-8", "surrogatepass")
    if shape != ANY and not fits(shape, text):
        return _mask(masker, value, left - 1)
    if action == "leave":
        return value
    if isinstance(value, int | float | Decimal):
        number = b"0" if action == "wipe" else masker.number(text, bare=True, resize=True)
        return type(value)(number.decode())
    if action == "mask" and (raw or isinstance(value, str)):
        masked = masker.number(text, bare=False, resize=True)
        return masked if raw else masked.decode("utf-8", "surrogatepass")
    return b"***" if raw else "***"


def _columns_by_name(masker: Masker, name: str, value: Any, left: int) -> Any:
    """An array or a scalar of numpy or Arrow by the rules for its name: as a list, since what is wiped
    may not fit its type."""
    if hasattr(value, "tolist"):
        return by_name(masker, name, value.tolist(), left - 1)
    if hasattr(value, "as_py"):
        return by_name(masker, name, value.as_py(), left - 1)
    raise TypeError(f"mask does not know how to mask {type(value).__name__}; convert it first")
