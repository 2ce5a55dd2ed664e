"""Brings files that have ended to their disk and closes them, many at a time.

A disk takes hundreds of files at once in about the time of one; and to wake a thread for each costs whoever
hands it over more than to write it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Sequence

GATHER_SECONDS = 0.02
"""How long a file waits for others."""

MOST_ALONE = 8
"""So many are brought to the disk one after the other; more with everything else that its file system has to
write."""


def _open_syncfs() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).syncfs
    except (OSError, AttributeError):
        return None


_syncfs = _open_syncfs()


class Shelf:
    """Takes files by their descriptors; with `sync` they are brought to the disk."""

    def __init__(self, *, sync: bool) -> None:
        self._sync = sync
        self._changed = threading.Condition()
        self._files: list[int] = []
        self._stopping = False
        self._thread: threading.Thread | None = None

    def put(self, file: int) -> None:
        """`file` has ended; nobody uses its descriptor any more."""
        with self._changed:
            self._files.append(file)
            if self._thread is None:
                self._stopping = False
                self._thread = threading.Thread(target=self._run, name="shelf", daemon=True)
                self._thread.start()
            elif len(self._files) == 1:
                self._changed.notify()

    def close(self) -> None:
        """Put away what is left, and end the thread. May be called twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._files or self._stopping)
                self._changed.wait_for(lambda: self._stopping, GATHER_SECONDS)
                files, self._files = self._files, []
                last = self._stopping
            self._put_away(files)
            if last:
                return

    def _put_away(self, files: Sequence[int]) -> None:
        together = self._sync and len(files) > MOST_ALONE and _syncfs is not None
        if together:
            _syncfs(files[0])  # type: ignore[misc]
        for file in files:
            # What is wrong with the disk shows with the next write; what is in a file is known elsewhere.
            with contextlib.suppress(OSError):
                if self._sync and not together:
                    os.fdatasync(file)
            os.close(file)
