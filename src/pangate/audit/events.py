"""The events of a record by where it is, for those who read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pangate.errors import LedgerError


def events(path: Path) -> Iterator[Mapping[str, Any]]:
    """The events of the file of JSON lines at `path`, in their order. A last line that is not whole is one
    that is being written, and left out. Raises LedgerError when it cannot be read or is no record."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    event = json.loads(line)
                except ValueError:
                    event = None
                if not isinstance(event, dict):
                    raise LedgerError(f"line {number} of {path} is no event")
                yield event
    except OSError as wrong:
        raise LedgerError(f"{path} cannot be read: {wrong.strerror}") from None


def recordings(path: Path) -> Path:
    """The directory that the names of recordings in these events count from."""
    return path.parent
