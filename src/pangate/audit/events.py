"""The events of a record by where it is, for those who read it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pangate.audit.lines import lines, open_record
from pangate.audit.reader import LARGE
from pangate.errors import LedgerError
from pangate.ledger.letters import from_letters


def events(path: Path) -> Iterator[Mapping[str, Any]]:
    """The events of the file of JSON lines at `path`, in their order, without those that were retired.
    A last line that is not whole is one that is being written, and left out. Raises LedgerError when it
    cannot be read or is no record."""
    try:
        fd = open_record(path)
        try:
            for number, (_, line) in enumerate(lines(fd), 1):
                try:
                    event = json.loads(line)
                except ValueError:
                    event = None
                if not isinstance(event, dict):
                    raise LedgerError(f"line {number} of {path} is no event")
                yield whole(event, path.parent)
        finally:
            os.close(fd)
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


WORKERS = "worker-*"
"""Directories beside a record, each with the record of one worker (process.workers)."""


def records(path: Path) -> list[Path]:
    """The record at `path`, and those of the gateway's workers, also of workers that there are no more."""
    found = path.parent.glob(f"{WORKERS}/{path.name}")
    numbered = (one for one in found if one.parent.name.removeprefix("worker-").isdecimal())
    by_number = sorted(numbered, key=lambda one: int(one.parent.name.removeprefix("worker-")))
    return [path, *by_number]


def recordings(path: Path) -> Path:
    """The directory that the names of recordings in these events count from."""
    return path.parent
