"""Values in their binary format as the text that the server would write; hex where that is not known."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

_DAY_0, _TIME_0 = date(2000, 1, 1), datetime(2000, 1, 1)  # noqa: DTZ001 - the server's own epoch

_UTF8 = "utf-8"


def shown(oid: int, value: bytes, encoding: str = _UTF8) -> str:
    """A binary `value` of the type `oid`. What does not have the form of its type is shown as hex."""
    if oid in _TEXTS:
        return value.decode(encoding, "replace")
    try:
        if oid in _ARRAYS:
            return _array(value, encoding)
        if oid in _READERS:
            return _READERS[oid](value)
    except (struct.error, ValueError, OverflowError, IndexError):
        pass
    return _hex(value)


def _hex(value: bytes) -> str:
    return "\\x" + value.hex()


def _number(form: str) -> Callable[[bytes], str]:
    one = struct.Struct(form)
    return lambda value: format(one.unpack(value)[0], "g" if form == "!f" else "")


def _bool(value: bytes) -> str:
    return {b"\0": "f", b"\1": "t"}[value] if value in (b"\0", b"\1") else _hex(value)


def _numeric(value: bytes) -> str:
    count, weight, sign, scale = struct.unpack_from("!hhHh", value)
    digits = struct.unpack(f"!{count}h", value[8:])
    if sign not in (0, 0x4000):
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign, _hex(value))
    if abs(weight) > 40_000:
        return _hex(value)
    before = "".join(f"{digits[at] if at < count else 0:04d}" for at in range(weight + 1)).lstrip(
        "0"
    )
    places = -(-scale // 4)
    after = "".join(
        f"{digits[at] if 0 <= at < count else 0:04d}"
        for at in range(weight + 1, weight + 1 + places)
    )[:scale]
    text = (before or "0") + (f".{after}" if scale > 0 else "")
    return f"-{text}" if sign else text


def _date(value: bytes) -> str:
    (days,) = struct.unpack("!i", value)
    if days in (0x7FFFFFFF, -0x80000000):
        return "infinity" if days > 0 else "-infinity"
    return (_DAY_0 + timedelta(days=days)).isoformat()


def _timestamp(value: bytes) -> str:
    (micros,) = struct.unpack("!q", value)
    if micros in (0x7FFFFFFFFFFFFFFF, -0x8000000000000000):
        return "infinity" if micros > 0 else "-infinity"
    return _short((_TIME_0 + timedelta(microseconds=micros)).isoformat(" "))


def _short(text: str) -> str:
    """Without the zeros that a fraction of a second ends with."""
    return text.rstrip("0") if "." in text else text


def _timestamptz(value: bytes) -> str:
    text = _timestamp(value)
    return text if text.endswith("infinity") else f"{text}+00"


def _time(value: bytes) -> str:
    (micros,) = struct.unpack("!q", value)
    return _short((_TIME_0 + timedelta(microseconds=micros)).time().isoformat())


def _json_b(value: bytes) -> str:
    return value[1:].decode() if value[:1] == b"\1" else _hex(value)


def _array(value: bytes, encoding: str) -> str:
    """An array of one dimension."""
    dimensions, _, oid = struct.unpack_from("!iiI", value)
    if dimensions == 0:
        return "{}"
    if dimensions != 1:
        return _hex(value)
    count, _ = struct.unpack_from("!ii", value, 12)
    at = 20
    items = []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", value, at)
        at += 4
        if size < 0:
            items.append("NULL")
            continue
        if at + size > len(value):
            return _hex(value)
        items.append(shown(oid, value[at : at + size], encoding))
        at += size
    return "{" + ",".join(items) + "}"


_TEXTS = frozenset({18, 19, 25, 114, 142, 705, 1042, 1043})
"""char name text json xml unknown bpchar varchar"""

_ARRAYS = frozenset(
    {199, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1115, 1182}
    | {1185, 1231, 2951, 3807}
)

_READERS: Mapping[int, Callable[[bytes], str]] = {
    16: _bool,
    20: _number("!q"),
    21: _number("!h"),
    23: _number("!i"),
    26: _number("!I"),
    700: _number("!f"),
    701: _number("!d"),
    1082: _date,
    1083: _time,
    1114: _timestamp,
    1184: _timestamptz,
    1700: _numeric,
    2950: lambda value: str(uuid.UUID(bytes=value)),
    3802: _json_b,
}
