"""What proves how much of the record's file is whole: the check in each line, and the mark beside the file
that says up to where it is on its disk."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import NamedTuple

from pangate._leaf import is_whole as checked
from pangate.ledger.letters import letters

MARK = ".synced"
"""What the name of a mark ends with."""

_MARK_BYTES = 64
"""A mark is written with one write into one sector, so it is there as it was before or as it is after."""


def is_whole(line: bytes) -> bool:
    """Whether an event is as it was written. Of one of version 2, which has no check, nobody knows: then
    true."""
    return checked(line) or line.endswith(b',"v":2}')


class Mark(NamedTuple):
    """So many bytes of the file, up to the event `sequence`, are on the disk."""

    size: int = 0
    sequence: int = 0


def mark_of(path: Path) -> Path:
    """The file of the mark of the file at `path`."""
    return path.with_name(path.name + MARK)


def read_mark(path: Path) -> Mark | None:
    """The mark of the file at `path`; None when there is none that is whole. Raises OSError."""
    try:
        data = mark_of(path).read_bytes()
    except FileNotFoundError:
        return None
    text, _, check = data.rstrip().rpartition(b" ")
    try:
        size, sequence = map(int, text.split())
    except ValueError:
        return None
    return Mark(size, sequence) if check == _check(text) else None


class Marker:
    """Keeps the mark of the file at `path`. Raises OSError."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(mark_of(path), flags, 0o600)
        self._lasting = False

    def put(self, size: int, sequence: int) -> None:
        """The file is on the disk up to here. The first mark is as well, so that there is one after any
        crash; a later one when the system likes: an older one is as true."""
        text = b"%d %d" % (size, sequence)
        os.pwrite(self._fd, (text + b" " + _check(text)).ljust(_MARK_BYTES - 1) + b"\n", 0)
        if not self._lasting:
            os.fsync(self._fd)
            self._lasting = True

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def _check(text: bytes) -> bytes:
    return letters(zlib.crc32(text).to_bytes(4, "big")).encode()
