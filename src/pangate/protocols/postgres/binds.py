"""The bind values of a Bind message as text, for the record and for the decision.

Only what can be read is shown: a binary value of a type that is not known is named by its size, so that
a card number inside it can never reach the record in a form that the masker does not see."""

from __future__ import annotations

import struct
import uuid

from pangate.errors import ProtocolError
from pangate.protocols.postgres.messages import Reader

_TEXT = frozenset({18, 19, 25, 114, 142, 705, 1042, 1043, 1790, 2275})
_INTEGERS = {16: "!?", 20: "!q", 21: "!h", 23: "!i", 26: "!I", 700: "!f", 701: "!d"}


def bind_values(reader: Reader, types: tuple[int, ...]) -> tuple[str | None, ...]:
    """The values of a Bind message whose reader stands behind the statement's name; reads the message to
    its end. `types` are the parameters' OIDs as far as they are known. ProtocolError when the
    message is malformed."""
    formats = reader.int16s(reader.int16())
    values: list[str | None] = []
    count = reader.int16()
    if len(formats) not in (0, 1, count) or any(f not in (0, 1) for f in formats):
        raise ProtocolError("a Bind message has wrong parameter formats")
    for i in range(count):
        length = reader.int32()
        if length == -1:
            values.append(None)
            continue
        raw = reader.take(length)
        format_ = formats[i if len(formats) > 1 else 0] if formats else 0
        oid = types[i] if i < len(types) else 0
        values.append(_binary(oid, raw) if format_ else raw.decode("utf-8", "backslashreplace"))
    results = reader.int16s(reader.int16())
    if any(f not in (0, 1) for f in results):
        raise ProtocolError("a Bind message has wrong result formats")
    reader.done()
    return tuple(values)


def bound_values(reader: Reader) -> bytes:
    """The formats and values of a Bind message whose reader stands behind the statement's name, as they
    are; `bind_values` has looked at them."""
    before = reader.at
    reader.int16s(reader.int16())
    for _ in range(reader.int16()):
        length = reader.int32()
        if length != -1:
            reader.take(length)
    return reader.since(before)


def _binary(oid: int, raw: bytes) -> str:
    try:
        if oid in _TEXT:
            return raw.decode()
        if oid in _INTEGERS:
            return str(struct.unpack(_INTEGERS[oid], raw)[0])
        if oid == 1700:
            return _numeric(raw)
        if oid == 2950:
            return str(uuid.UUID(bytes=raw))
        if oid == 3802 and raw[:1] == b"\1":
            return raw[1:].decode()
    except (struct.error, UnicodeDecodeError, ValueError):
        pass
    return f"<binary, {len(raw)} bytes>"


def _numeric(raw: bytes) -> str:
    """numeric_recv's form as text; ValueError when it is not one."""
    count, weight, sign, scale = struct.unpack_from("!hhHH", raw)
    if count < 0 or len(raw) != 8 + 2 * count or not -2000 <= weight <= 2000:
        raise ValueError("not a numeric")
    if sign not in (0, 0x4000):
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign, "?")
    groups = struct.unpack_from(f"!{count}H", raw, 8)

    def group(power: int) -> str:
        at = weight - power
        return f"{groups[at] if 0 <= at < count else 0:04d}"

    whole = "".join(group(power) for power in range(max(weight, 0), -1, -1)).lstrip("0") or "0"
    fraction = "".join(group(power) for power in range(-1, -(scale + 3) // 4 - 1, -1))[:scale]
    return ("-" if sign else "") + whole + ("." + fraction if scale else "")
