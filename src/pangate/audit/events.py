"""The events of a record by where it is, for those who read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pangate.audit.reader import LARGE
from pangate.errors import LedgerError
from pangate.ledger.letters import from_letters


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
                yield whole(event, path.parent)
    except OSError as wrong:
        raise LedgerError(f"{path} cannot be read: {wrong.strerror}") from None


def whole(event: dict[str, Any], directory: Path) -> Mapping[str, Any]:
    """The event with its data, where that was too long for a leaf and is in a file of `directory`. As it is
    when the file is not there or is not the one that the event names: `pangate audit verify` says so."""
    data = event.get("data")
    large = data.get("large") if isinstance(data, dict) else None
    if not isinstance(large, dict):
        return event
    try:
        name = from_letters(str(large.get("digest")))
        kept = (directory / LARGE / str(large["digest"])).read_bytes()
        if hashlib.sha256(kept).digest() != name:
            return event
        found = json.loads(kept)
    except (OSError, ValueError, LedgerError):
        return event
    return {**event, "data": {**found, "large": large}} if isinstance(found, dict) else event


def recordings(path: Path) -> Path:
    """The directory that the names of recordings in these events count from."""
    return path.parent
