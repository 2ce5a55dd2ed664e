"""Whether claims are the ones that somebody wants."""

from __future__ import annotations

from collections.abc import Mapping


def matches_table(wanted: Mapping[str, object], claims: Mapping[str, object]) -> bool:
    """Whether `claims` has all of `wanted`: a value, one of a list, or a table inside."""
    return all(
        claim in claims and _matches(value, claims[claim]) for claim, value in wanted.items()
    )


def _matches(wanted: object, found: object) -> bool:
    if isinstance(wanted, Mapping):
        # An empty table would be true of everything.
        return isinstance(found, Mapping) and bool(wanted) and matches_table(wanted, found)
    options = wanted if isinstance(wanted, (list, tuple)) else (wanted,)
    values = found if isinstance(found, (list, tuple)) else (found,)
    return any(_same(option, value) for option in options for value in values)


def _same(option: object, value: object) -> bool:
    # In Python True == 1: the types have to be the same as well.
    return type(option) is type(value) and option == value
