"""Brings a file that grows to its disk, by a thread of its own, so that nobody else waits for the disk."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from pangate._book import Written

RETRY_SECONDS = 0.5
"""Between two attempts on a disk that failed."""


class Syncer:
    """For the file at `path`, the end of which is `written`.

    What was written and is not known to be on the disk is kept there. After a failed fsync the kernel
    takes the pages for clean, whether they are on the disk or not, and the next fsync would say that all is
    well. So they are written once more, in their place, and `failure` says why nothing may be relied on until
    that has come to an end."""

    def __init__(
        self,
        path: Path,
        written: Written,
        seconds: float,
        synced: Callable[[int, int], None] = lambda length, sequence: None,
    ) -> None:
        """`seconds` is the longest time between a write and its fsync. `synced` is called, by the thread,
        with the length and the sequence that are on the disk from then on."""
        self._path, self._written, self._seconds = path, written, seconds
        self._told = synced
        self._changed = threading.Condition()
        self._notices: list[Callable[[], None]] = []
        self._hurry = self._stopping = False
        self.failure = ""
        """Why the disk cannot be relied on; empty when it can."""
        self._thread = threading.Thread(target=self._run, name="audit-fsync", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was written where nothing was kept. Otherwise the thread knows of it, and to wake it
        costs more than to write."""
        with self._changed:
            self._changed.notify()

    def soon(self, notice: Callable[[], None] | None = None) -> None:
        """Bring to the disk at once what was written so far. `notice` is called, by the thread, when that is
        done or has failed."""
        with self._changed:
            self._hurry = True
            if notice is not None:
                self._notices.append(notice)
            self._changed.notify()

    def close(self) -> None:
        """Bring the rest to the disk, trying once."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    # The thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._written.kept or self._hurry or self._stopping)
                if not self.failure:
                    # others may come by then
                    self._changed.wait_for(lambda: self._hurry or self._stopping, self._seconds)
                notices, self._notices = self._notices, []
                self._hurry = False
                length, sequence = self._written.end()
            failure = self._bring()
            with self._changed:
                if not failure:
                    self._on_disk(length, sequence)
                self.failure, self._written.failing = failure, bool(failure)
                stopping = self._stopping
            for notice in notices:
                notice()
            if stopping and (failure or not self._written.kept):
                return
            if failure:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, RETRY_SECONDS)

    def _on_disk(self, length: int, sequence: int) -> None:
        written = self._written
        while written.kept and written.kept[0][2] <= sequence:
            _, data, _ = written.kept.popleft()
            written.let_go += len(data)
        written.synced = sequence
        with contextlib.suppress(OSError):
            # a mark that could not be written is an older one, which is as true; the next one is tried
            self._told(length, sequence)

    def _bring(self) -> str:
        """What is wrong; empty when all that was written before is on the disk."""
        try:
            if self.failure:
                self._write_again()
            os.fdatasync(self._written.fd)
        except OSError as wrong:
            return (
                f"could not be brought to its disk ({wrong.strerror or wrong}); it is tried again "
                f"every {RETRY_SECONDS:g} seconds, so see to the disk"
            )
        return ""

    def _write_again(self) -> None:
        """Put what is kept in its place once more. Nobody writes meanwhile, because there is a failure."""
        kept = list(self._written.kept)
        # one of its own, because the file's descriptor only appends
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            own, there = os.fstat(self._written.fd), os.fstat(fd)
            if (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino):
                raise OSError(0, "it was replaced by another file")
            for offset, data, _ in kept:
                done = 0
                while done < len(data):
                    done += os.pwrite(fd, data[done:], offset + done)
            os.fdatasync(fd)
        finally:
            os.close(fd)
