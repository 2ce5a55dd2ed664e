"""Whether the system's clock follows a source of time (PCI DSS 10.6), as the kernel says, and whether it has
gone back."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Literal

from pangate._book import Steps

__all__ = ["BACK", "KEPT_SECONDS", "ClockState", "State", "Steps", "state"]

State = Literal["synchronised", "unsynchronised", "unknown"]

BACK = "back"
"""The state in an event that comes before an earlier one by its time."""

KEPT_SECONDS = 5.0
"""The kernel is asked this often at the most."""

_ERROR = 5
"""What adjtimex(2) returns when the clock is not synchronised: TIME_ERROR."""

_STRUCT_BYTES = 512
"""More than any system's struct timex has; its first field, `modes`, is zero: change nothing."""


def state() -> State:
    """What adjtimex(2) says now; "unknown" on a system without it."""
    try:
        found = ctypes.CDLL(None, use_errno=True).adjtimex(
            ctypes.create_string_buffer(_STRUCT_BYTES)
        )
    except (AttributeError, OSError):
        return "unknown"
    if found < 0:
        return "unknown"
    return "unsynchronised" if found == _ERROR else "synchronised"


class ClockState:
    """The state, asked now and then. `ask` and `clock` (in seconds) are for tests."""

    def __init__(
        self, ask: Callable[[], State] = state, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._clock = ask, clock
        self._state: State = "unknown"
        self._until = float("-inf")

    def now(self) -> State:
        """The state, KEPT_SECONDS old at the most."""
        now = self._clock()
        if now >= self._until:
            self._state, self._until = self._ask(), now + KEPT_SECONDS
        return self._state
