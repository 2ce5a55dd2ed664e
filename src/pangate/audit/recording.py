"""Writes what agents were sent: one file a session, in the form that recorded.py describes.

A session only gathers; blocks are cut, compressed, hashed and written by one thread behind. What waits for
it is bounded: whoever sends more holds the resource's bytes until there is room again (`full`), so that
nothing is left out because it came fast. A file that cannot be written ends its session."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pangate._book import Frames
from pangate.audit import recorded
from pangate.audit.recorded import (
    BAR,
    CUT,
    END,
    GAP,
    HEAD,
    HEADER,
    MAGIC,
    PLACE,
    SENT,
    Damaged,
    Reading,
)
from pangate.audit.shelf import Shelf
from pangate.errors import RecordFailed
from pangate.ledger.letters import letters
from pangate.protocols import Buffer, Excerpt, open_excerpt

if TYPE_CHECKING:
    from pangate.config import Config

FOLDER = "sessions"
"""Where in the ledger the recordings are: a folder for each day, a file for each session."""

BLOCK = 256 << 10
"""Bytes that are gathered before they are compressed together."""

EASY, TRY_AGAIN = 8, 63
"""What compresses to less than one in EASY costs little CPU and gets all of it; so many blocks behind one
that does not are compressed with less."""

MOST_WAITING, MOST_OF_ONE = 64 << 20, 4 << 20
"""Bytes that wait to be written, of all sessions and of one: a session that has more is held until there are
half of these."""

MARK_BYTES, MARK_SECONDS = 16 << 20, 60.0
"""How much may be written, or how long something stand in a file, before an event has its digest."""

FLUSH_SECONDS = 1.0
"""How long what was sent may wait to be in the file."""

_Part = tuple[bytes, int, Any]
_Block = list[_Part] | tuple[bytearray, int, int]
"""Parts to choose from, or frames as they are written, their number, and what they have of what was sent."""


class Recordings:
    """The recordings of one gateway, below `directory`. With `sync` a file is brought to its disk when it
    ends. Raises RecordFailed when nothing can be recorded at all."""

    def __init__(self, directory: Path, *, sync: bool = True) -> None:
        self.folder = directory / FOLDER
        self.shelf = Shelf(sync=sync)
        """Where the files of sessions that are over go."""
        module = recorded.zstd()
        options = module.CompressionParameter

        def compressor(level: int) -> Any:
            # Longer matches and a table that stays in the nearest cache: rows come out smaller and sooner
            # than with the level's own numbers. No checksum: the digest is over all of it.
            chosen = {options.hash_log: 12, options.min_match: 7}
            return module.ZstdCompressor(options={options.compression_level: level, **chosen})

        self._whole = module.ZstdCompressor.FLUSH_FRAME
        self._compressors = {
            (here, easy): compressor(1 if easy else -7)
            for here in (True, False)
            for easy in (True, False)
        }
        self._days: set[str] = set()
        self._queue: queue.SimpleQueue[Recording | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._held: set[Recording] = set()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Bytes that wait to be written."""
        return self._waiting

    def open(
        self,
        session: str,
        about: Mapping[str, object],
        notice: Callable[[], None],
        *,
        protocol: str = "postgresql",
        rows: int | None = None,
        size: int | None = None,
    ) -> Recording:
        """The recording of a session that begins now. `about` goes into its header, and is masked already;
        `rows` and `size` bound what is recorded, in rows of one result and in bytes of the session.
        `notice` is called, from another thread, when `full` or `failure` changes.

        Raises RecordFailed when its file cannot be made."""
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        day = now[:10]
        try:
            if day not in self._days:
                # each by itself: the mode counts for the last one only
                self.folder.mkdir(mode=0o700, exist_ok=True)
                (self.folder / day).mkdir(mode=0o700, exist_ok=True)
                self._days.add(day)
            made = Recording(self, f"{day}/{session}", notice, protocol, rows, size)
        except OSError as wrong:
            self._days.discard(day)
            raise _failed(f"a recording in {self.folder / day} cannot be made", wrong) from None
        header = {
            "session": session,
            "began": f"{now}Z",
            "protocol": protocol,
            "record_rows": rows,
            "record_bytes": size,
            **about,
        }
        made.begin(header)
        return made

    def unfinished(self) -> Iterator[tuple[str, Mapping[str, object]]]:
        """The recordings that a gateway left open when it was killed, as (session, data of an event). Each
        counts as ended when the next is asked for."""
        for path in sorted(self.folder.glob("*/*.open")):
            reading = Reading(path)
            data: dict[str, object] = {"file": _name(path)}
            try:
                try:
                    for _ in reading:
                        pass
                except Damaged as wrong:
                    data["damaged"] = str(wrong.offset)
                    reading.read_rest()
                data.update(bytes=reading.bytes, frames=reading.frames, digest=reading.digest)
                data["torn"] = reading.torn
            except OSError as wrong:
                data["failure"] = wrong.strerror or "cannot be read"
            yield path.stem, data
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".rec"))

    def close(self) -> None:
        """Write what waits, and end the thread. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
        self.shelf.close()

    # --- between the sessions and the thread ------------------------------------------------------

    def submit(self, recording: Recording, size: int) -> None:
        """`recording` has a block of `size` bytes to be written."""
        with self._lock:
            self._waiting += size
            recording.waiting += size
            over = self._waiting > MOST_WAITING or recording.waiting > MOST_OF_ONE
            if over:
                self._held.add(recording)
                recording.full = True
        self._hand_over(recording)

    def _hand_over(self, work: Recording) -> None:
        """Have the thread write the blocks of a recording."""
        self._queue.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
            self._thread.start()

    def done(self, recording: Recording, size: int) -> None:
        """`size` bytes of `recording` wait no more."""
        with self._lock:
            self._waiting -= size
            recording.waiting -= size
            if not self._held:
                return
            room = self._waiting <= MOST_WAITING // 2
            released = [one for one in self._held if room and one.waiting <= MOST_OF_ONE // 2]
            self._held.difference_update(released)
            for one in released:
                one.full = False
        for one in released:
            one.notice()

    def forget(self, recording: Recording) -> None:
        """`recording` is over."""
        with self._lock:
            self._held.discard(recording)

    def compress(self, data: bytes | bytearray, *, here: bool, easy: bool) -> bytes:
        """`data` as a zstd frame; `here` is on the thread of the sessions. What is not `easy` gets less
        done to it."""
        made: bytes = self._compressors[here, easy].compress(data, self._whole)
        return made

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work.write_blocks()


class Recording:
    """The recording of one session. Every method but `write_blocks` is for the thread of the sessions."""

    def __init__(
        self,
        owner: Recordings,
        name: str,
        notice: Callable[[], None],
        protocol: str,
        rows: int | None,
        size: int | None,
    ) -> None:
        self.name = f"{FOLDER}/{name}.rec"
        """The file's name in the ledger, once the session is over."""
        self.notice = notice
        self._failure = ""
        self.waiting = 0
        self._owner = owner
        # text, not paths: every session has these
        self._path = f"{owner.folder}/{name}.open"
        self._ended = f"{owner.folder}/{name}.rec"
        self._began = time.monotonic()
        self.frames = Frames(self._began, rows is None, -1 if size is None else size)
        """What was gathered, and is not a block yet."""
        self._blocks: deque[tuple[_Block, int]] = deque()
        self._lock = threading.Lock()  # over the blocks being written, and all below
        self._written = 0
        self._frames = 0
        self._digest = hashlib.sha256()
        self._marked = 0
        self._marked_at = self._began
        self._excerpt: Excerpt | None = None if rows is None else open_excerpt(protocol, rows)
        self._room = size
        self._hard = 0
        """Blocks to come that are taken to be hard to compress."""
        self._gap = [0, 0]
        self._cut = [0, 0]
        self._cut_digest = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)

    # --- what happens ---------------------------------------------------------------------------

    @property
    def failure(self) -> str:
        """Why its file cannot be written; empty when it can."""
        return self._failure

    @failure.setter
    def failure(self, why: str) -> None:
        self._failure, self.frames.failed = why, bool(why)

    @property
    def full(self) -> bool:
        """Whether nothing more may be sent to the agent for now."""
        return self.frames.full

    @full.setter
    def full(self, full: bool) -> None:
        self.frames.full = full

    def begin(self, header: Mapping[str, object]) -> None:
        """Write the header. Raises RecordFailed when that cannot be done."""
        with self._lock:
            self._write(MAGIC + self._frame(HEADER, 0, _json(header)), here=True)
        if self.failure:
            failure = self.failure
            self.end()
            with contextlib.suppress(OSError):
                # Nothing of a session is in it, and its number stands in no event.
                os.unlink(self._ended)  # noqa: PTH108
            raise RecordFailed(failure)
        self._marked = self._written

    def sent(self, buffers: Sequence[Buffer]) -> None:
        """These bytes are on their way to the agent; nobody changes them from now on."""
        self.frames.sent(list(buffers))
        if self.frames.size >= BLOCK:
            self.flush()

    def statement(self, number: int) -> None:
        """The statement with this number was decided."""
        self.frames.statement(number)

    def described(self, number: int, place: int, description: bytes) -> None:
        """The agent was not told what the rows behind `place` are."""
        self.frames.described(PLACE.pack(number, place) + description)

    def finished(self, number: int, place: int) -> None:
        """What belongs to a statement ends with the message at `place`."""
        self.frames.finished(number, place)

    def flush(self) -> None:
        """Have what was gathered written."""
        if self.frames.size:
            parts, size = self.frames.take()
            self._blocks.append((parts, size))
            self._owner.submit(self, size)

    @property
    def unmarked(self) -> bool:
        """Whether anything is not yet in a file whose digest is in an event."""
        return bool(self.frames.size) or self.waiting > 0 or self._written > self._marked

    def mark(self) -> Mapping[str, object] | None:
        """The data of an event on what is in the file by now, when one is due."""
        fresh = self._written - self._marked
        now = time.monotonic()
        if not fresh or (fresh < MARK_BYTES and now - self._marked_at < MARK_SECONDS):
            return None
        self._marked_at = now
        with self._lock:
            self._marked = self._written
            return self._extent()

    def end(self) -> Mapping[str, object]:
        """The session is over: write what waits, and return the data of the event that ends the recording.
        `failure` is in it when the file is not what it should be."""
        with self._lock:
            self._write_blocks(here=True)
            gathered = self._joined(self.frames.take()[0])
            summary = {"sent": self.frames.sent_bytes, "cut": self._cut_summary()}
            now = self.frames.micros
            last = self._frame(END, now, _json(summary))
            self._write(b"".join([gathered, *self._gap_frame(now), last]), here=True)
            if not self.failure:
                self._check_unchanged()
            data: dict[str, object] = {**self._extent(), **summary}
            if self.failure:
                data["failure"] = self.failure
        self._owner.forget(self)
        with contextlib.suppress(OSError):
            os.rename(self._path, self._ended)  # noqa: PTH104
        self._owner.shelf.put(self._fd, self.name)
        self._fd = -1
        return data

    # --- the file -------------------------------------------------------------------------------

    def write_blocks(self) -> None:
        """Write the blocks that wait. For the thread behind."""
        with self._lock:
            self._write_blocks(here=False)

    def _write_blocks(self, *, here: bool) -> None:
        while self._blocks:
            parts, size = self._blocks.popleft()
            self._write(self._joined(parts), here=here)
            self._owner.done(self, size)
            if self.failure and not here:
                self.notice()

    def _joined(self, parts: _Block) -> bytes | bytearray:
        """The frames of `parts` as they are written."""
        try:
            if isinstance(parts, tuple):
                return self._all_of(*parts)
            return b"".join(self._frames_of(parts))
        except Exception as wrong:  # noqa: BLE001 - the session ends, the thread does not
            self.failure = f"the recording {self._path} cannot be made: internal error: {wrong!r}"
            return b""

    def _write(self, data: bytes | bytearray, *, here: bool) -> None:
        if self.failure or not data:
            return
        easy = self._hard == 0
        packed = memoryview(self._owner.compress(data, here=here, easy=easy))
        if not easy:
            self._hard -= 1
        elif len(packed) > len(data) // EASY and len(data) >= BLOCK // 4:
            self._hard = TRY_AGAIN
        try:
            while packed:
                done = os.write(self._fd, packed)
                self._digest.update(packed[:done])
                self._written += done
                packed = packed[done:]
        except OSError as wrong:
            self.failure = _failed(f"the recording {self._path} cannot be written", wrong).detail

    def _all_of(self, data: bytearray, frames: int, sent: int) -> bytearray:
        """Frames of which nothing is left out, with so many bytes of what was sent."""
        self._frames += frames
        if self._room is not None:
            self._room -= sent
        return data

    def _frames_of(self, parts: list[_Part]) -> list[Buffer]:
        """The frames of `parts` as buffers, less what is not to be recorded."""
        out: list[Buffer] = []
        for kind, micros, data in parts:
            if not kind:
                out.append(self._all_of(*data))
                continue
            if kind != SENT:
                out += self._gap_frame(micros)
                out.append(self._frame(kind, micros, data))
                continue
            size = sum(map(len, data))
            if self._excerpt is None and (self._room is None or size <= self._room):
                self._frames += 1
                out.append(HEAD.pack(kind, size, micros, BAR))
                out += data
                if self._room is not None:
                    self._room -= size
            else:
                for buffer in data:
                    self._keep(memoryview(buffer), micros, out)
        return out

    def _keep(self, data: memoryview, micros: int, out: list[Buffer]) -> None:
        pieces = self._excerpt.take(data) if self._excerpt else [(True, len(data), 0)]
        at = 0
        for kept, end, rows in pieces:
            piece = data[at:end]
            at = end
            room = len(piece) if self._room is None else self._room
            keep = min(len(piece), room) if kept else 0
            if keep:
                out += self._gap_frame(micros)
                out += [HEAD.pack(SENT, keep, micros, BAR), piece[:keep]]
                self._frames += 1
                if self._room is not None:
                    self._room -= keep
            if keep < len(piece):
                self._cut_digest.update(piece[keep:])
                self._gap[0] += len(piece) - keep
                self._gap[1] += rows

    def _gap_frame(self, micros: int) -> list[Buffer]:
        size, rows = self._gap
        if not size:
            return []
        self._gap = [0, 0]
        self._cut[0] += size
        self._cut[1] += rows
        return [
            self._frame(CUT, micros, GAP.pack(size, rows, self._room is None or self._room > 0))
        ]

    def _frame(self, kind: bytes, micros: int, payload: bytes) -> bytes:
        self._frames += 1
        return HEAD.pack(kind, len(payload), micros, BAR) + payload

    def _cut_summary(self) -> Mapping[str, object] | None:
        """What is not recorded of what was sent; None when all is."""
        size, rows = self._cut[0] + self._gap[0], self._cut[1] + self._gap[1]
        if not size:
            return None
        return {"bytes": size, "rows": rows, "digest": letters(self._cut_digest.digest())}

    def _extent(self) -> dict[str, object]:
        return {
            "file": self.name,
            "bytes": self._written,
            "frames": self._frames,
            "digest": letters(self._digest.digest()),
            "cut": self._cut_summary(),
        }

    def _check_unchanged(self) -> None:
        try:
            found, there = os.fstat(self._fd), os.lstat(self._path)
        except OSError as wrong:
            self.failure = _failed(
                f"the recording {self._path} is not there any more", wrong
            ).detail
            return
        if (found.st_dev, found.st_ino) != (there.st_dev, there.st_ino):
            self.failure = (
                f"the recording {self._path} was replaced by another file; find out who did it"
            )
        elif found.st_size != self._written:
            self.failure = (
                f"the recording {self._path} has {found.st_size} bytes where {self._written} were "
                "written: somebody else changed it; find out who"
            )


def open_recordings(config: Config) -> Recordings:
    """The recordings that `config` asks for. Raises RecordFailed when there can be none."""
    return Recordings(config.audit.ledger, sync=config.audit.fsync != "interval")


_json = msgspec.json.Encoder(order="sorted").encode


def _name(path: Path) -> str:
    return f"{FOLDER}/{path.parent.name}/{path.stem}.rec"


def _failed(what: str, wrong: OSError) -> RecordFailed:
    return RecordFailed(f"{what}: {wrong.strerror or wrong}")
