"""A file of JSON lines, as the record's own, on other storage or for a program that ships it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pangate.audit.lines import BLOCK, MAX_LINE, sequence_of
from pangate.errors import LedgerError


class FileSink:
    """Appends. The file is opened for each delivery, so that it may be renamed away at any time. A line
    that is not whole, after a crash, is taken away."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    def last(self) -> int:
        """The sequence in its last line."""
        fd = self._open()
        try:
            size = os.fstat(fd).st_size
            end = self._end(fd, size)
            if end < size:
                os.ftruncate(fd, end)
            if not end:
                return 0
            start = self._end(fd, end - 1)
            found = sequence_of(os.pread(fd, end - 1 - start, start))
        finally:
            os.close(fd)
        if not found:
            raise LedgerError(
                f"{self._path} does not end with an event; give the sink a file of its own"
            )
        return found

    def deliver(self, leaves: Sequence[bytes]) -> None:
        """Append all of `leaves`, on the disk, or none."""
        data = b"\n".join(leaves) + b"\n"
        fd = self._open()
        try:
            size = os.fstat(fd).st_size
            try:
                written = os.write(fd, data)
                os.fdatasync(fd)
            except OSError:
                written = -1
                raise
            finally:
                if written != len(data):
                    os.ftruncate(fd, size)
        finally:
            os.close(fd)
        if written != len(data):
            raise LedgerError(f"{self._path} took a part only; make room on its disk")

    def close(self) -> None:
        """Nothing is open."""

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)

    def _end(self, fd: int, before: int) -> int:
        """Where the last line that ends before `before` ends."""
        at = before
        while at > 0 and before - at <= MAX_LINE:
            start = max(0, at - BLOCK)
            found = os.pread(fd, at - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            at = start
        if at > 0:
            raise LedgerError(f"{self._path} has a line without an end")
        return 0
