"""Patterns of the user's own, on RE2: linear in the text, so that no pattern can hang on any input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pangate.errors import MaskingError

_MEMORY = 8 << 20  # bytes that RE2 may take for one pattern; it grows slow, not wrong, beyond
_GROUP = "mask"


class Patterns:
    """Named regular expressions in RE2's syntax. What a match covers is wiped, or only its group `mask`
    when the pattern has one. A match never goes over a line end.

    MaskingError names the pattern that is wrong; ModuleNotFoundError without the extra `patterns`."""

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._compiled: list[tuple[str, Any, int]] = []
        if not patterns:
            return
        try:
            import re2
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'patterns need RE2; install it with: pip install "pangate[patterns]"',
                name=error.name,
            ) from error
        options = re2.Options()
        options.never_nl = True
        options.log_errors = False
        options.max_mem = _MEMORY
        for name, pattern in patterns.items():
            if not isinstance(pattern, str):
                raise MaskingError(f"patterns.{name}: a pattern is a text")
            try:
                compiled = re2.compile(pattern.encode(), options=options)
            except re2.error as error:
                reason = error.args[0] if error.args else "it cannot be compiled"
                reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
                raise MaskingError(f"patterns.{name}: {reason}") from None
            if compiled.search(b"") is not None:
                raise MaskingError(
                    f"patterns.{name}: it matches nothing at all; make it say what it is for"
                )
            groups = {_text(key): number for key, number in compiled.groupindex.items()}
            self._compiled.append((name, compiled, groups.get(_GROUP, 0)))

    def __bool__(self) -> bool:
        return bool(self._compiled)

    def find(self, data: bytes) -> Iterator[tuple[int, int, str]]:
        """Start and end in bytes and the pattern's name of everything that matches."""
        for name, compiled, group in self._compiled:
            for match in compiled.finditer(data):
                start, end = match.span(group)
                if 0 <= start < end:
                    yield start, end, name


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
