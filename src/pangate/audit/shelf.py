"""Brings files that have ended to their disk and closes them, many at a time.

A disk takes hundreds of files at once in about the time of one; and to wake a thread for each costs whoever
hands it over more than to write it."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import threading
from collections.abc import Callable, Sequence

log = logging.getLogger("pangate")

GATHER_SECONDS = 0.02
"""How long a file waits for others."""

MOST_ALONE = 8
"""So many are brought to the disk one after the other; more with everything else that their file system has
to write."""

_ALL_OF_IT = 0, 0, 1 | 2 | 4
"""To sync_file_range: from the first byte to the last; wait, write, wait."""


def _open(name: str, *arguments: type[ctypes._SimpleCData[int]]) -> Callable[..., int] | None:
    """A function of the system's C library, None where it has none of that name."""
    try:
        found = ctypes.CDLL(None, use_errno=True)[name]
    except (OSError, AttributeError):
        return None
    found.argtypes = arguments
    return found


_syncfs = _open("syncfs", ctypes.c_int)
_sync_file_range = _open(
    "sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
)


class Shelf:
    """Takes files by their descriptors; with `sync` they are brought to the disk."""

    def __init__(self, *, sync: bool) -> None:
        self._sync = sync
        self._changed = threading.Condition()
        self._files: list[tuple[int, str]] = []
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.failed = 0
        """Files of which nobody knows whether they are on the disk as they were written."""

    def put(self, file: int, name: str) -> None:
        """`file` has ended; nobody uses its descriptor any more. `name` is what the log calls it."""
        with self._changed:
            self._files.append((file, name))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="shelf", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # no thread is to be had now: the next file tries again
                self._thread = thread
            elif len(self._files) == 1:
                self._changed.notify()

    def close(self) -> None:
        """Put away what is left, and end the thread. May be called twice; what is put meanwhile or later is
        put away too."""
        with self._changed:
            thread = self._thread
            if thread is None:
                files, self._files = self._files, []
            else:
                self._stopping = True
                self._changed.notify()
        if thread is None:
            self._put_away(files)
        else:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._files or self._stopping)
                if not self._files:
                    # within the lock, so that what is put from now on has another thread
                    self._thread, self._stopping = None, False
                    return
                self._changed.wait_for(lambda: self._stopping, GATHER_SECONDS)
                files, self._files = self._files, []
            self._put_away(files)

    def _put_away(self, files: Sequence[tuple[int, str]]) -> None:
        together = self._sync and len(files) > MOST_ALONE and _together([file for file, _ in files])
        failed: dict[str, str] = {}
        for file, name in files:
            try:
                if self._sync and not (together and _is_there(file)):
                    os.fdatasync(file)
            except OSError as wrong:
                failed[name] = wrong.strerror or str(wrong)
            try:
                os.close(file)
            except OSError as wrong:
                failed.setdefault(name, wrong.strerror or str(wrong))
        if failed:
            self.failed += len(failed)
            name, why = next(iter(failed.items()))
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            log.error("the recording %s%s may not be whole on the disk: %s", name, more, why)


def _together(files: Sequence[int]) -> bool:
    """Have everything written that the file system of these has to write. False when that cannot be done, or
    they are not all of one, or something of it failed, be it of others: then each is asked by itself."""
    if _syncfs is None or _sync_file_range is None:
        return False
    try:
        devices = {os.fstat(file).st_dev for file in files}
    except OSError:
        return False
    return len(devices) == 1 and _syncfs(files[0]) == 0


def _is_there(file: int) -> bool:
    """After everything was written: whether all of `file` was. syncfs knows it only of what failed since the
    one file was opened that it was given, and before Linux 5.8 of nothing. False when it cannot be told;
    OSError when it was not."""
    assert _sync_file_range is not None
    if _sync_file_range(file, *_ALL_OF_IT) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EPERM, errno.ESPIPE, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code))
