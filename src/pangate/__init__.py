"""pangate, the library: find and mask card numbers. The gateway is not imported here.

import pangate

pangate.mask("card 4111 1111 1111 1111")     # 'card **** **** **** 1111'
pangate.find(text)                           # [Hit(start, end, network, ...), ...]
pangate.Masker("first6_last4").mask(text)
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, overload

from pangate.errors import MaskingError

if TYPE_CHECKING:
    from pangate.masking.hit import Hit
    from pangate.masking.logfilter import MaskingFilter
    from pangate.masking.masker import Form, Masker, T
    from pangate.masking.stream import Stream
    from pangate.masking.tokens import Key

__version__ = "0.1.0"

__all__ = ["Hit", "Key", "Masker", "MaskingError", "MaskingFilter", "Stream", "find", "mask"]

_WHERE = {
    "Hit": "hit",
    "Key": "tokens",
    "Masker": "masker",
    "MaskingFilter": "logfilter",
    "Stream": "stream",
}


def __getattr__(name: str) -> Any:
    # Imported when it is used: `pangate serve` and a log filter need other parts than a script.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"pangate.masking.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _default() -> Masker:
    from pangate.masking.masker import Masker

    return Masker()


@overload
def mask(value: memoryview, form: Form = ...) -> bytes: ...
@overload
def mask(value: T, form: Form = ...) -> T: ...
def mask(value: Any, form: Form = "text") -> Any:
    """`value` with every card number masked but its last four digits, and of the same type: str, bytes,
    bytearray, memoryview (gives bytes), numbers, containers of these, numpy and Arrow arrays. See
    `Masker.mask`. TypeError for anything else."""
    return _default().mask(value, form)


def find(value: str | bytes | bytearray | memoryview) -> list[Hit]:
    """Where the card numbers are in `value`. See `Masker.find`."""
    return _default().find(value)
