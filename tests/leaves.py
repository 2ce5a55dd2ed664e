"""The canonical encoding of events once more, slow and obvious: what `pangate._leaf` is measured against."""

import math
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from pangate._frame import TEXT, mask_cell
from pangate.ledger.letters import letters
from pangate.masking import default_scanner
from pangate.masking.keys import wiped_names
from pangate.model import Event

MAX_DEPTH = 16
SHORTEST_PAN = 12

MaskText = Callable[[str], str]

_scanner, _names = default_scanner(), wiped_names()


def mask_text(text: str) -> str:
    """A text as a cell of a result would be masked."""
    if len(text) < SHORTEST_PAN and '"' not in text:
        return text
    data = bytearray(text.encode())
    hits = mask_cell(_scanner, 0, TEXT, data, None, _names)
    assert hits >= 0
    return data.decode()


def encode(
    event: Event,
    sequence: int,
    clock: str = "unknown",
    *,
    time: float | None = None,
    mask_text: MaskText = mask_text,
) -> bytes:
    """The leaf of `event`: a line of JSON, keys sorted, no spaces, UTF-8, time in UTC."""
    moment = datetime.fromtimestamp(event.time if time is None else time, UTC)
    record = {
        "v": 3,
        "sequence": sequence,
        "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "clock": clock,
        "code": _text(event.code, mask_text),
        "config": _text(event.config, mask_text),
        "session": _text(event.session, mask_text),
        "principal": _text(event.principal, mask_text),
        "origin": _text(event.origin, mask_text),
        "resource": _text(event.resource, mask_text),
        "role": _text(event.role, mask_text),
        "statement": event.statement,
        "success": event.success,
        "data": _masked(event.data, mask_text, 0),
    }
    return with_check(msgspec.json.encode(record, order="sorted"))


def with_check(leaf: bytes) -> bytes:
    """A leaf with the field that proves that it is whole."""
    made = letters(zlib.crc32(leaf[:-1]).to_bytes(4, "big"))
    return leaf[:-1] + f',"whole":"{made}"}}'.encode()


def encode_value(value: object) -> bytes:
    """One value of an event's data."""
    return msgspec.json.encode(_masked(value, mask_text, 0), order="sorted")


def _text(text: str, mask_text: MaskText) -> str:
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return mask_text(text)


def _masked(value: object, mask_text: MaskText, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise TypeError(f"data of an event is nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return _text(value, mask_text)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 10 ** (SHORTEST_PAN - 1):
        return value
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        text = str(value)
        masked = mask_text(text)
        exact = masked == text and abs(value) <= 1 << 53
        return value if exact else masked
    if isinstance(value, Mapping):
        made: dict[str, object] = {}
        for key, item in value.items():
            name = unique = _text(str(key), mask_text)
            number = 1
            while unique in made:
                number += 1
                unique = f"{name}#{number}"
            made[unique] = _masked(item, mask_text, depth + 1)
        return made
    if isinstance(value, (list, tuple)):
        return [_masked(item, mask_text, depth + 1) for item in value]
    raise TypeError(f"data of an event cannot hold a {type(value).__name__}")
