"""What is masked and how. The scanner over the issuer ranges is the floor; rules stand beside it, one a
file."""

from __future__ import annotations

from functools import cache

from pangate._scan import Scanner
from pangate.masking.iin import compile_ranges, select

KINDS = {"last4": 0, "first6_last4": 1, "first8_last4": 2, "full": 3}
"""What stays visible of a PAN, and the number that the kernel knows it by."""

DIGITS = 8
"""ORed to a kind: fill with digits instead of `*`, for places that hold numbers."""


@cache
def default_scanner() -> Scanner:
    """The scanner over the core networks, built once."""
    return Scanner(compile_ranges(select()))
