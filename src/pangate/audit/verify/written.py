"""The file that events were written to first, and are shown from, against what was sealed of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pangate.audit.lines import data_from, lines, sequence_of
from pangate.audit.marks import MARK, mark_of
from pangate.errors import LedgerError
from pangate.ledger.tiles import WIDTH
from pangate.ledger.tree import leaf_hash

if TYPE_CHECKING:
    from pangate.audit.verify.retired import Retired
    from pangate.audit.verify.run import Run

BEGINNING = b'{"clock":"'

LOOKED_AT = 1 << 18
"""Bytes at the beginning of a file that say whether it is a record."""


def compare(run: Run, retired: Retired) -> None:
    """Every line up to the last sealed event has to be the leaf that was signed. Zeros may stand where a
    tombstone is. A directory may have none, as a copy of the tree has. Whatever is taken for such a file
    by who shows events is looked at; a symbolic link is none, since the gateway writes to no such."""
    for path in sorted(run.directory.iterdir()):
        if path.is_symlink():
            if mark_of(path).exists() or path.suffix == ".jsonl" or _is_record(path):
                message = (
                    "it is a symbolic link: what is shown from it is not what was written here"
                )
                run.find("journal", path.name, message, 0)
        elif path.is_file() and (mark_of(path).exists() or _is_record(path)):
            _File(run, path, retired).compare()
        elif path.name.endswith(MARK) and not path.with_name(path.name[: -len(MARK)]).exists():
            name = path.name[: -len(MARK)]
            run.find("journal", name, "it is not there, but the mark is that was beside it", 0)


def _is_record(path: Path) -> bool:
    """Whether its first line is an event, behind what readers pass over."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        first = os.pread(fd, LOOKED_AT, data_from(fd, 0)).lstrip(b"\0 \t\r\n").partition(b"\n")[0]
    except OSError:
        return False
    finally:
        os.close(fd)
    return first.startswith(BEGINNING) or sequence_of(first) > 0


class _File:
    def __init__(self, run: Run, path: Path, retired: Retired) -> None:
        self._run, self._path, self._retired = run, path, retired
        self._number = -1
        self._leaves: list[bytes] | None = None
        self._hashes: list[bytes] = []

    def compare(self) -> None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                before = self._compared(fd)
            finally:
                os.close(fd)
        except (LedgerError, OSError) as error:
            self._find(str(error), 0)
            return
        if before < self._run.checkpoint.size and mark_of(self._path).exists():
            self._gap(before, self._run.checkpoint.size)

    def _compared(self, fd: int) -> int:
        """The last sealed event that stands in it, or one beyond all when nothing more is to be said."""
        size = self._run.checkpoint.size
        at = before = 0
        while True:
            at, before = self._alike(fd, at, before)
            for place, line in lines(fd, at):
                sequence = sequence_of(line)
                if sequence <= before:
                    self._find(
                        f"{sequence or 'what is no event'} stands behind the event {before}",
                        before + 1,
                    )
                    return size
                if sequence > size:
                    return before
                if sequence > before + 1:
                    self._gap(before, sequence - 1)
                if not self._is_sealed(sequence - 1, line):
                    self._find(f"the event {sequence} is not the one that is sealed", sequence)
                at, before = place + len(line) + 1, sequence
                if before % WIDTH == 0:
                    break
            else:
                return before

    def _alike(self, fd: int, at: int, before: int) -> tuple[int, int]:
        """How far whole bundles stand in it byte by byte, from the event behind `before` at `at` on."""
        size = self._run.checkpoint.size
        while before < size and before % WIDTH == 0:
            leaves = self._of(before // WIDTH)
            if not leaves:
                break
            there = b"\n".join(leaves) + b"\n"
            if os.pread(fd, len(there), at) != there:
                break
            at, before = at + len(there), before + len(leaves)
        return at, before

    def _gap(self, first: int, last: int) -> None:
        """The events behind `first` up to `last` are not there."""
        if not self._retired.covers(first, last - 1):
            self._find(
                f"the events {first + 1} to {last} are not in it, and no tombstone is over them",
                first + 1,
            )

    def _is_sealed(self, index: int, line: bytes) -> bool:
        number, place = divmod(index, WIDTH)
        leaves = self._of(number)
        if leaves is not None:
            return place < len(leaves) and line == leaves[place]
        return place < len(self._hashes) and leaf_hash(line) == self._hashes[place]

    def _of(self, number: int) -> list[bytes] | None:
        """The leaves of a bundle; None when they are not there, and then `_hashes` has what was signed."""
        if number != self._number:
            self._number = number
            width = min(WIDTH, self._run.checkpoint.size - number * WIDTH)
            # that these are what was signed is found out elsewhere
            self._leaves = self._run.walk.leaves(number, width)
            self._hashes = self._run.signed_hashes(number) if self._leaves is None else []
        return self._leaves

    def _find(self, message: str, sequence: int) -> None:
        self._run.find("journal", self._path.name, message, sequence)
