"""Conditions in CEL, the Common Expression Language: compiled once, with every name in them known."""

from __future__ import annotations

import re
from collections.abc import Mapping

VARIABLES = (
    "principal",
    "role",
    "resource",
    "effects",
    "tables",
    "columns",
    "command",
    "where",
    "source",
    "time",
    "parameters",
)

_FUNCTIONS = """
    size contains startsWith endsWith matches has in type dyn bool int uint double string bytes
    timestamp duration min max all exists exists_one existsOne map filter
    getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear getHours getMinutes
    getSeconds getMilliseconds
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""CEL's own. Operators have names that nobody can write."""

_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|map|filter)\s*\(\s*(\w+)\s*,")
"""Names that a condition makes itself, for the items of a list."""


class ConditionFailed(Exception):
    """A condition came to no answer."""


class Condition:
    """A condition, compiled. Raises ValueError, with what is wrong, when it cannot be."""

    __slots__ = ("_program", "text")

    def __init__(self, text: str) -> None:
        # Here, because it takes longer to import than all the rest, and few rules need it.
        import cel

        self.text = text
        try:
            self._program = cel.compile(text)
        except ValueError as wrong:
            raise ValueError(f"is no CEL: {_first_line(str(wrong))}") from None
        known = {*VARIABLES, *_BOUND.findall(text)}
        for name in self._program.variables():
            if name not in known and not name.startswith("@"):
                raise ValueError(f'there is no variable "{name}"; there is {", ".join(VARIABLES)}')
        for name in self._program.functions():
            if name.isidentifier() and name.strip("_") == name and name not in FUNCTIONS:
                raise ValueError(f'there is no function "{name}"')

    def holds(self, variables: Mapping[str, object]) -> bool:
        """Whether it is true of `variables`, which are all of VARIABLES. Raises ConditionFailed."""
        try:
            found = self._program.execute(dict(variables))
        except Exception as wrong:  # noqa: BLE001 - the library has no common base
            raise ConditionFailed(_first_line(str(wrong)) or type(wrong).__name__) from None
        if not isinstance(found, bool):
            raise ConditionFailed(f"it is {type(found).__name__} and not true or false")
        return found


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]
