"""An append-only file of JSON lines, one record a line, written by one gateway at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from pangate._book import Written, is_unchanged
from pangate.audit.clock import BACK
from pangate.audit.marks import Marker, is_whole, mark_of, read_mark
from pangate.audit.syncer import Syncer
from pangate.errors import RecordFailed

BEGINNING = b'{"clock":"'
"""How every record begins: its keys are sorted, and `clock` is the first."""

SYNC_SECONDS = 0.05
"""The longest time between a write and the disk's knowing it."""

MAX_UNSYNCED_BYTES = 64 << 20
"""What may wait for the disk. Beyond it nothing more is written, so nothing more is done."""

_BLOCK = 1 << 16


class JsonLines:
    """The file at `path`, locked, with an incomplete last line taken away.

    Every `append` is one write(2) to a descriptor that only appends. When it is short, the whole lines that
    it wrote stay, and the rest is cut off before anything else is written: what somebody may have read
    already never goes away. Somebody else's change of the file and its removal end all writing until the
    gateway is started again. A disk that fails ends it until the disk has everything.

    Raises RecordFailed when the file cannot be opened or is not a record."""

    def __init__(self, path: Path, seconds: float = SYNC_SECONDS) -> None:
        """`seconds` is the longest time between a write and its fsync."""
        self.path = path
        self._found = 0
        """Sequence of the last leaf that was there."""
        self.last_time = 0.0
        """The latest time of an event, by what it says, but of those whose clock was behind."""
        self.repaired_bytes = 0
        self._broken = ""
        self._fd = self._open()
        try:
            length = self._recover()
            self._marker = Marker(path)
            self._sync_directory()
        except OSError as error:
            self._release()
            raise self._failed(f"cannot be read: {error.strerror}") from None
        except BaseException:
            self._release()
            raise
        self.written = Written(self._fd, length, self._found, MAX_UNSYNCED_BYTES)
        """The end of the file; `append` of it does what is done when nothing is wrong."""
        self._syncer = Syncer(path, self.written, seconds, self._marker.put)

    @property
    def last_sequence(self) -> int:
        """Sequence of the last leaf that was written."""
        return self.written.sequence

    @property
    def synced_sequence(self) -> int:
        """Sequence of the last leaf that is known to be on the disk."""
        return self.written.synced

    @property
    def failure(self) -> str:
        """Why nothing that was appended may be relied on; empty when it may."""
        wrong = self._broken or self._syncer.failure
        return f"the audit file {self.path} {wrong}" if wrong else ""

    def append(self, leaves: Sequence[bytes]) -> None:
        """Write `leaves`. Raises RecordFailed when they are not all written; `last_sequence` says which
        are."""
        leaves = list(leaves)
        first = self.written.append(leaves)
        if first < 0:
            self._append(leaves, self.written.take_part())
        elif first:
            self.wake()

    def wake(self) -> None:
        """Something was written where nothing waited for the disk."""
        self._syncer.wake()

    def _append(self, leaves: Sequence[bytes], part: tuple[bytes, int] | None) -> None:
        """The same where something is wrong, or was; `part` is what was written of it by now."""
        if part is None:
            if self._fd < 0:
                raise self._failed("is closed; the gateway is stopping")
            if wrong := self.failure:
                raise RecordFailed(wrong)
            if self.written.kept_bytes > MAX_UNSYNCED_BYTES:
                raise self._failed(
                    f"has more than {MAX_UNSYNCED_BYTES} bytes that its disk does not take; see to the disk"
                )
            data = b"\n".join((*leaves, b""))
            try:
                if not self.written.sound:
                    self._cut_back()
                if not is_unchanged(self._fd, self.written.length):
                    self._say_changed()
                part = data, os.write(self._fd, data)
            except OSError as error:
                self.written.sound = False
                raise self._failed(f"cannot be written: {error.strerror}") from None
        data, written = part
        if written == len(data):
            self._wrote(data, len(leaves))
            return
        self.written.sound = False
        kept = data[: data.rfind(b"\n", 0, written) + 1]
        if kept:
            self._wrote(kept, kept.count(b"\n"))
        with contextlib.suppress(OSError):
            self._cut_back()
        raise self._failed(
            f"took {written} of {len(data)} bytes; make room on its disk and try again"
        )

    def sync(self, notice: Callable[[], None] | None = None) -> None:
        """Have what was appended brought to the disk at once. `notice` is called from another thread when
        `synced_sequence` or `failure` says how that ended."""
        self._syncer.soon(notice)

    def close(self) -> None:
        """Bring what was written to the disk and let go of the file."""
        if self._fd < 0:
            return
        self.written.sound = False
        self._syncer.close()
        self._marker.close()
        self._release()
        if wrong := self.failure:
            raise RecordFailed(wrong)

    # Opening

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            reason = "is a symbolic link" if self.path.is_symlink() else error.strerror
            raise self._failed(f"cannot be opened: {reason}; name a file to append to") from None
        self._fd = fd
        try:
            self._check_file(os.fstat(fd))
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sync_directory()
        except BlockingIOError:
            self._release()
            raise self._failed(
                "is in use by another gateway; give each gateway a file of its own"
            ) from None
        except OSError as error:
            self._release()
            raise self._failed(f"cannot be locked: {error.strerror}") from None
        except RecordFailed:
            self._release()
            raise
        return fd

    def _check_file(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise self._failed("is not a regular file; name a file to append to")
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o027:
            raise self._failed(
                f"has mode {mode:04o}: others could read it or its group change it; "
                "chmod it to 0600, or to 0640 for a group that ships it"
            )

    def _sync_directory(self) -> None:
        # A new file is lasting only when its directory is.
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _recover(self) -> int:
        """Find the last whole record, take away what follows it, and return the length that is left."""
        length = os.fstat(self._fd).st_size
        mark = read_mark(self.path)
        if mark is None:
            end = self._newline_before(length) + 1
            # of the last records alone, because a file without a mark may be of any length
            start = self._record_before(end)
            if self._whole_from(start, end, None) != end:
                end = start  # pages of it never came to the disk
                start = self._record_before(end)
                if self._whole_from(start, end, None) != end:
                    raise self._not_a_record(start)
        else:
            if length < mark.size:
                raise self._failed(
                    f"has {length} bytes where {mark.size} were on its disk: somebody cut it off, or the "
                    f"disk lost them; keep it and {mark_of(self.path).name} as evidence under other "
                    "names, and the gateway begins a new one"
                )
            if mark.size:
                start = self._record_before(mark.size)
                if self._whole_from(start, mark.size, mark.sequence) != mark.size:
                    raise self._not_a_record(start)
            self._found = mark.sequence
            end = self._whole_from(mark.size, length, mark.sequence + 1)
            if end > mark.size:
                self._write_once_more(mark.size, end)
        if length > end:
            self._take_away(end, length)
        before = end
        while not self.last_time and before:
            # by a clock that was behind: when was it right?
            start = self._record_before(before)
            if start == before:
                break  # zeros alone, where others were retired
            self._sequence_of(os.pread(self._fd, before - 1 - start, start), start)
            before = start
        return end

    def _record_before(self, end: int) -> int:
        """Where the record begins that ends at `end`. In front of it may be zeros, where others were
        retired."""
        start = self._newline_before(end - 1) + 1 if end else 0
        while start < end:
            found = os.pread(self._fd, min(_BLOCK, end - start), start)
            kept = found.lstrip(b"\0")
            if kept and not kept.startswith(BEGINNING):
                break  # no zeros, or those that a crash left
            start += len(found) - len(kept)
            if kept:
                break
        return start

    def _write_once_more(self, start: int, end: int) -> None:
        """What is behind the mark may be in memory alone, in pages that a failed fsync left as clean: written
        again, it comes to the disk with the next one."""
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            while start < end:
                data = os.pread(fd, min(_BLOCK, end - start), start)
                os.pwrite(fd, data, start)
                start += len(data)
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def _whole_from(self, start: int, end: int, sequence: int | None) -> int:
        """Where the whole records between `start` and `end` end, the first of which is `sequence`."""
        rest = b""
        while start + len(rest) < end:
            piece = os.pread(self._fd, min(_BLOCK, end - start - len(rest)), start + len(rest))
            if not piece:
                break
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if b"\0" in line:
                    return start
                found = self._sequence_of(line, start)
                if sequence is not None and found != sequence:
                    raise self._not_a_record(start)
                self._found, sequence = found, found + 1
                start += len(line) + 1
        return start

    def _take_away(self, end: int, length: int) -> None:
        """Take away what stands behind the last whole record, when it is what a crash leaves: a record
        without its end, or pages that never came to the disk, which are zeros, and what stands behind them.
        It is kept beside the file."""
        torn = os.pread(self._fd, min(length - end, MAX_UNSYNCED_BYTES), end)
        begun = torn[: len(BEGINNING)]
        if not BEGINNING.startswith(begun) and b"\0" not in torn:
            raise self._not_a_record(end)
        if b"\n" in torn and b"\0" not in torn:
            raise self._not_a_record(end)
        kept = os.open(
            self.path.with_name(self.path.name + ".torn"),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
        )
        with os.fdopen(kept, "ab") as file:
            file.write(torn)
            file.flush()
            os.fsync(kept)
        os.ftruncate(self._fd, end)
        os.fsync(self._fd)
        self.repaired_bytes = length - end

    def _newline_before(self, end: int) -> int:
        """Offset of the last newline before `end`, or -1."""
        while end > 0:
            start = max(0, end - _BLOCK)
            found = os.pread(self._fd, end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found
            end = start
        return -1

    def _sequence_of(self, line: bytes, offset: int) -> int:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not line.startswith(BEGINNING) or not isinstance(record, dict):
            raise self._not_a_record(offset)
        sequence = record.get("sequence")
        if record.get("v") not in (2, 3) or type(sequence) is not int or sequence < 1:
            raise self._not_a_record(offset)
        if record["v"] == 3 and not is_whole(line):
            raise self._failed(
                f"has a record at byte {offset} that is not what was written; keep it and "
                f"{mark_of(self.path).name} as evidence under other names, and the gateway begins a new one"
            )
        if record.get("clock") != BACK:
            with contextlib.suppress(ValueError):
                self.last_time = datetime.fromisoformat(str(record.get("time"))).timestamp()
        return sequence

    # Writing

    def _say_changed(self) -> None:
        found = os.fstat(self._fd)
        if found.st_nlink == 0:
            self._broken = "was removed while it was written; start the gateway again"
        elif found.st_size != self.written.length:
            self._broken = (
                f"has {found.st_size} bytes where {self.written.length} were written: somebody else "
                "changed it; find out who, then start the gateway again"
            )
        if self._broken:
            self.written.sound = False
            raise self._failed(self._broken)

    def _wrote(self, data: bytes, leaves: int) -> None:
        if self.written.wrote(data, leaves):
            self.wake()

    def _cut_back(self) -> None:
        """Take away what was written without its end."""
        if os.fstat(self._fd).st_size > self.written.length:
            os.ftruncate(self._fd, self.written.length)
        self.written.sound = not self._broken

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _failed(self, what: str) -> RecordFailed:
        return RecordFailed(f"the audit file {self.path} {what}")

    def _not_a_record(self, offset: int) -> RecordFailed:
        return self._failed(
            f"holds something that is not a record at byte {offset}; keep it and "
            f"{mark_of(self.path).name} as evidence under other names, and the gateway begins a new one"
        )
