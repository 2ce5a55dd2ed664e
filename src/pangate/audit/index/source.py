"""The record, as what is indexed: its lines from a place on, and one of them by its sequence."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pangate._gather import split
from pangate.audit.events import whole
from pangate.audit.holds import HOLDS
from pangate.audit.lines import blocks, sequence_of
from pangate.audit.reader import CHECKPOINT, Ledger
from pangate.audit.tombstones import TOMBSTONES
from pangate.errors import LedgerError
from pangate.ledger.tiles import WIDTH

SHORT = 4096
"""Bytes that most lines fit into."""

MOST_LINE = 80 << 20
"""Longest line in bytes; a longer one is a sign of damage."""

NO_OFFSET = -1


class Line(NamedTuple):
    """An event as it stands in the record. `offset` is its place in the file, NO_OFFSET in a ledger."""

    sequence: int
    offset: int
    data: bytes


class Position(NamedTuple):
    """How far a record was read: the last sequence, where its line ends, and the digest of that line."""

    sequence: int = 0
    end: int = 0
    digest: str = ""

    @classmethod
    def behind(cls, line: Line) -> Position:
        """The position behind `line`."""
        end = NO_OFFSET if line.offset < 0 else line.offset + len(line.data) + 1
        return cls(line.sequence, end, digest_of(line.data))


class Moved(Exception):
    """The record does not go on from a position: it is another one, or was cut or changed."""


class Record:
    """The record at `path`: the file of JSON lines that a gateway writes, or the directory of a ledger,
    which may have such a file in it. LedgerError when it is neither."""

    def __init__(self, path: Path) -> None:
        self.file: Path | None = path
        self.directory = path.parent
        if path.is_dir():
            self.directory = path
            self.file = _file_in(path)
        elif not path.exists() and (path.parent / CHECKPOINT).exists():
            self.file = None  # a copy of a ledger, without the file that it was made of
        self.missing = 0
        """Events that the ledger should have and has not."""
        self._ledger: Ledger | None = None
        if self.file is None and not (self.directory / CHECKPOINT).exists():
            raise LedgerError(
                f"{path} holds no record: neither a file of JSON lines nor a ledger; name the file of "
                "audit.path, or the directory of a ledger"
            )

    @property
    def retired(self) -> str:
        """Changes when events are taken away because of their age."""
        names = sorted(path.name for path in (self.directory / TOMBSTONES).glob("*.note"))
        return digest_of("\n".join(names).encode()) if names else ""

    @property
    def name(self) -> Path:
        """What the record is called by."""
        return self.file or self.directory

    def lines(self, position: Position) -> Iterator[Line]:
        """The whole lines behind `position`, by their order. Raises Moved when the record does not go on from
        there, LedgerError when it cannot be read or holds something else."""
        if self.file is None:
            yield from self._sealed(position, None)
            return
        try:
            fd = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as wrong:
            raise LedgerError(f"{self.file} cannot be read: {wrong.strerror}") from None
        try:
            yield from self._from_file(fd, position)
        except OSError as wrong:
            raise LedgerError(f"{self.file} cannot be read: {wrong.strerror}") from None
        finally:
            os.close(fd)

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Every event, with long data where it is beside its leaf. LedgerError for what is none."""
        for line in self.lines(Position()):
            try:
                event = json.loads(line.data)
            except ValueError:
                event = None
            if not isinstance(event, dict):
                raise LedgerError(f"{self.name}: the event {line.sequence} cannot be read")
            yield whole(event, self.directory)

    def line(self, sequence: int, offset: int = NO_OFFSET) -> bytes:
        """The event with this sequence, from `offset` of the file where it is there, from the ledger
        otherwise. LedgerError when the record does not have it."""
        with self.reader() as line:
            return line(sequence, offset)

    @contextlib.contextmanager
    def reader(self) -> Iterator[Callable[[int, int], bytes]]:
        """`line` for many events, with the file open meanwhile."""
        fd = -1
        if self.file is not None:
            try:
                fd = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as wrong:
                raise LedgerError(f"{self.file} cannot be read: {wrong.strerror}") from None

        def line(sequence: int, offset: int) -> bytes:
            found = self._line_at(fd, offset) if fd >= 0 and offset >= 0 else b""
            if found and sequence_of(found) == sequence:
                return found
            return self._open_ledger().leaf(sequence - 1)

        try:
            yield line
        finally:
            if fd >= 0:
                os.close(fd)

    def _line_at(self, fd: int, offset: int) -> bytes:
        """The line that begins at `offset`; empty when none ends."""
        size = SHORT
        while True:
            try:
                data = os.pread(fd, size, offset)
            except OSError as wrong:
                raise LedgerError(f"{self.file} cannot be read: {wrong.strerror}") from None
            end = data.find(b"\n")
            if end >= 0:
                return data[:end]
            if len(data) < size or size > MOST_LINE:
                return b""
            size *= 16

    # The file

    def _from_file(self, fd: int, position: Position) -> Iterator[Line]:
        start = 0
        if position.sequence:
            if position.end >= 0 and self._line_before(fd, position.end) == position.digest:
                start = position.end
            else:
                # A file that begins later, because the older part of it was put away: then the ledger has
                # what is in between.
                begins = self._first(fd)
                if begins == 1:
                    raise Moved
                self._check_sealed(position)
                if begins > position.sequence + 1:
                    yield from self._sealed(position, begins - 1)
                    position = Position(begins - 1)
        elif (begins := self._first(fd)) > 1 and (self.directory / CHECKPOINT).exists():
            yield from self._sealed(position, begins - 1)
        for block in self._blocks(fd, start):
            yield from [line for line in block if line.sequence > position.sequence]

    def _blocks(self, fd: int, offset: int) -> Iterator[list[Line]]:
        return blocks(fd, offset, lambda data, at: split(data, at, Line, self._number))

    def _number(self, line: bytes, offset: int) -> int:
        """The sequence of a line that says none."""
        raise LedgerError(f"{self.file} holds something that is no event at byte {offset}")

    def _first(self, fd: int) -> int:
        """The sequence that the file begins with; 1 for an empty one."""
        for block in self._blocks(fd, 0):
            return block[0].sequence
        return 1

    @staticmethod
    def _line_before(fd: int, end: int) -> str:
        """The digest of the line that ends at `end`."""
        take = 1 << 17
        while True:
            start = max(0, end - take)
            data = os.pread(fd, end - start, start)
            if len(data) != end - start or not data.endswith(b"\n"):
                return ""
            before = data.rfind(b"\n", 0, len(data) - 1)
            if before >= 0 or start == 0:
                return digest_of(data[before + 1 : -1])
            if take > MOST_LINE:
                return ""
            take *= 8

    # The ledger

    def _open_ledger(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger(self.directory)
        return self._ledger

    def _check_sealed(self, position: Position) -> None:
        try:
            if digest_of(self._open_ledger().leaf(position.sequence - 1)) == position.digest:
                return
        except LedgerError:
            pass
        raise Moved

    def _sealed(self, position: Position, last: int | None) -> Iterator[Line]:
        """The lines behind `position` that the ledger has, up to the sequence `last`."""
        ledger = self._open_ledger()
        ledger.refresh()
        if position.sequence:
            self._check_sealed(position)
        first = position.sequence
        while first < ledger.size and (last is None or first < last):
            number = first // WIDTH
            try:
                leaves = ledger.bundle(number)
            except LedgerError:
                # retired, or lost; whoever verifies is told which
                leaves = []
                self.missing += min(ledger.size, (number + 1) * WIDTH) - first
            for leaf in leaves[first % WIDTH :]:
                first += 1
                if last is not None and first > last:
                    return
                yield Line(first, NO_OFFSET, leaf)
            first = (number + 1) * WIDTH
        if last is None:
            for start, leaves in ledger.unsealed():
                for sequence, leaf in enumerate(leaves, start + 1):
                    if sequence > max(ledger.size, position.sequence):
                        yield Line(sequence, NO_OFFSET, leaf)


def digest_of(line: bytes) -> str:
    """What a line is known again by."""
    return hashlib.sha256(line).hexdigest()


def _file_in(directory: Path) -> Path | None:
    """The file of JSON lines in `directory`; None when there is none. LedgerError for several."""
    found = sorted(path for path in directory.glob("*.jsonl") if path.name != HOLDS)
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise LedgerError(f"{directory} has several records ({names}); name the file of one")
    return found[0] if found else None
