"""The lines of the file that events are written to, from any place in it, while it grows. Where lines were
retired there are zeros in their place, mostly as a hole that takes no room: these are passed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TypeVar

from pangate._leaf import sequence_of
from pangate.errors import LedgerError

__all__ = ["BLOCK", "MAX_LINE", "blocks", "data_from", "lines", "open_record", "sequence_of"]

MAX_LINE = 64 << 20
"""Bytes of the longest line; what is longer is no event."""

BLOCK = 1 << 20


def open_record(path: Path) -> int:
    """A descriptor for `lines`. Raises LedgerError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}") from None


Found = TypeVar("Found")

Split = Callable[[bytes, int], tuple[list[Found], int]]
"""Makes of bytes, which begin at a place of the file where a line does, what their whole lines are, and says
how many bytes these take. Zeros between lines are passed over."""


def lines(fd: int, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(where it begins, line without its newline) for each whole line from `offset` on, which is where one
    begins. What is not whole yet is left out. LedgerError when a line has no end."""
    return chain.from_iterable(blocks(fd, offset, _split))


def blocks(fd: int, offset: int, split: Split[Found]) -> Iterator[list[Found]]:
    """What `split` makes of each block of the file from `offset` on. LedgerError when a line has no end."""
    data, at = b"", offset
    while True:
        found, taken = split(data, at)
        if found:
            yield found
        data, at = data[taken:], at + taken
        if len(data) > MAX_LINE:
            raise LedgerError(f"the line at byte {at} of the record has no end")
        if not data:
            at = data_from(fd, at)
        more = os.pread(fd, max(BLOCK, len(data)), at + len(data))
        if not more:
            return
        data += more


def _split(data: bytes, at: int) -> tuple[list[tuple[int, bytes]], int]:
    found, start = [], 0
    while start < len(data):
        if data[start] == 0:
            # nothing that is written begins so
            start = len(data) - len(data[start:].lstrip(b"\0"))
            continue
        end = data.find(b"\n", start)
        if end < 0:
            break
        found.append((at + start, data[start:end]))
        start = end + 1
    return found, start


def data_from(fd: int, offset: int) -> int:
    """Where there is something from `offset` on, as far as the file system knows of its holes."""
    try:
        return max(offset, os.lseek(fd, offset, os.SEEK_DATA))
    except OSError:
        return offset
