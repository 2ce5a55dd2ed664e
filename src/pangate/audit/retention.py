"""Takes away the data of events that are old enough, and leaves what shows that this was on purpose: the
hashes of the leaves, and a tombstone that the log has signed. The tree stays what it was.

Whole bundles of 256 events go, never the last ones, with the recordings and long texts that no event names
any more. In the file of events zeros stand in the place of what is gone, as a hole where the file system has
these: no offset changes, so the gateway goes on writing meanwhile and needs to know nothing of it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from pangate.audit.anchors import write_whole
from pangate.audit.holds import Hold, Holds, text_of
from pangate.audit.lines import lines, open_record, sequence_of
from pangate.audit.reader import LARGE, SESSIONS, Ledger
from pangate.audit.tombstones import TOMBSTONES, Tombstone, range_root, tombstones
from pangate.audit.verify.claims import Claims
from pangate.errors import LedgerError
from pangate.ledger.letters import letters
from pangate.ledger.note import Signer, Verifier
from pangate.ledger.statement import TOMBSTONE, sign
from pangate.ledger.tiles import WIDTH, entries_path
from pangate.ledger.tree import leaf_hash

LOCK = "retain.lock"

_ZEROS = bytes(1 << 20)
_NEW_SECONDS = 86_400.0

_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class _Event(msgspec.Struct, gc=False):
    time: str
    session: str = ""
    principal: str = ""


_DECODER = msgspec.json.Decoder(_Event)


class File(NamedTuple):
    """A recording or a long text: its path within the ledger, its length and its digest in letters."""

    path: str
    size: int
    digest: str


@dataclass(slots=True)
class Range:
    """Leaves from `first` to before `end`, all of whole bundles, and the times of their events."""

    first: int
    end: int
    oldest: str
    newest: str
    files: list[File] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What goes. `held` counts events that are old enough and that a hold keeps."""

    before: str
    ranges: list[Range]
    held: int
    unfinished: list[Tombstone]
    """What has a tombstone already, and of which something is still there."""

    @property
    def events(self) -> int:
        """How many events go."""
        return sum(one.end - one.first for one in self.ranges)


class Retention:
    """For the ledger in `directory` and the file of events `record`. One at a time works on a ledger."""

    def __init__(self, directory: Path, record: Path | None, verifiers: Sequence[Verifier]) -> None:
        self._directory, self._record = directory, record
        self._ledger = Ledger(directory)
        self._verifiers = verifiers

    def plan(self, keep_days: int, now: datetime, holds: Holds) -> Plan:
        """What is older than `keep_days` and not held."""
        before = text_of(now - timedelta(days=keep_days))
        done = tombstones(self._directory, self._ledger.checkpoint().origin, self._verifiers)
        ranges: list[Range] = []
        held = 0
        gone = {number for one in done for number in one.bundles}
        # the last events stay: whoever writes and seals goes on from these
        for number in range((self._ledger.size - 1) // WIDTH):
            if number in gone:
                continue
            events = [_DECODER.decode(leaf) for leaf in self._ledger.bundle(number)]
            oldest = min(event.time for event in events)
            newest = max(event.time for event in events)
            if newest >= before:
                break
            if any(_held(hold, events, oldest, newest) for hold in holds.active.values()):
                held += len(events)
                continue
            last = ranges[-1] if ranges else None
            if (
                last is not None
                and last.end == number * WIDTH
                and not _between(holds.active, last.oldest, newest)
            ):
                last.end += WIDTH
                last.newest = max(last.newest, newest)
                last.oldest = min(last.oldest, oldest)
            else:
                ranges.append(Range(number * WIDTH, (number + 1) * WIDTH, oldest, newest))
        self._files(ranges, gone)
        unfinished = [one for one in done if any(self._left(one))]
        return Plan(before, ranges, held, unfinished)

    def apply(
        self, plan: Plan, signer: Signer, keep_days: int, holds: Holds, by: str, now: datetime
    ) -> Iterator[str]:
        """Do it; yields what was done, line by line. After a crash another `apply` does the rest."""
        lock = _lock(self._directory / LOCK)
        try:
            for one in plan.ranges:
                found = self._bury(one, signer, keep_days, holds, by, now)
                yield from self._remove(found)
                yield f"retired the events {one.first + 1} to {one.end}"
            for found in plan.unfinished:
                yield from self._remove(found)
                yield f"finished what was begun: the events {found.first + 1} to {found.end}"
        finally:
            os.close(lock)

    # What goes

    def _files(self, ranges: Sequence[Range], gone: set[int]) -> None:
        """Give each range the files that its events name and that no event names that stays."""
        if not ranges:
            return
        old: dict[int, Claims] = {}
        of_range = {
            number: place
            for place, one in enumerate(ranges)
            for number in range(one.first // WIDTH, one.end // WIDTH)
        }
        kept = Claims()
        for number in range((self._ledger.size + WIDTH - 1) // WIDTH):
            if number in gone:
                continue
            place = of_range.get(number)
            claims = kept if place is None else old.setdefault(place, Claims())
            for sequence, leaf in enumerate(self._ledger.bundle(number), number * WIDTH + 1):
                claims.take(leaf, sequence)
        for line in self._unsealed():
            kept.take(line, 0)
        stays = kept.files()
        for place, claims in old.items():
            for path, whole in claims.files().items():
                if path not in stays and whole and _is_ours(path):
                    found = self._measured(path)
                    if found is not None:
                        ranges[place].files.append(found)

    def _unsealed(self) -> Iterator[bytes]:
        if self._record is None:
            return
        fd = open_record(self._record)
        try:
            for _, line in lines(fd):
                if sequence_of(line) > self._ledger.size:
                    yield line
        finally:
            os.close(fd)

    def _measured(self, path: str) -> File | None:
        digest, size = hashlib.sha256(), 0
        try:
            with (self._directory / path).open("rb") as file:
                while data := file.read(1 << 20):
                    digest.update(data)
                    size += len(data)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerError(f"{path} cannot be read: {error.strerror}") from None
        return File(path, size, letters(digest.digest()))

    # Its tombstone

    def _bury(
        self, one: Range, signer: Signer, keep_days: int, holds: Holds, by: str, now: datetime
    ) -> Tombstone:
        listed = "".join(f"{file.digest} {file.size} {file.path}\n" for file in sorted(one.files))
        values: Mapping[str, object] = {
            "origin": self._ledger.checkpoint().origin,
            "first": one.first,
            "end": one.end,
            "tree": letters(range_root(self._ledger.hash, one.first, one.end)),
            "oldest": one.oldest,
            "newest": one.newest,
            "files": len(one.files),
            "list": letters(hashlib.sha256(listed.encode()).digest()),
            "holds": holds.entries,
            "held": holds.digest,
            "keep_days": keep_days,
            "time": text_of(now),
            "by": by,
        }
        folder = self._directory / TOMBSTONES
        folder.mkdir(mode=0o700, exist_ok=True)
        name = f"{one.first:012d}-{one.end:012d}"
        write_whole(folder / f"{name}.files", listed.encode())
        write_whole(folder / f"{name}.note", sign(TOMBSTONE, values, signer))
        found = tombstones(self._directory, signer.verifier.name, [signer.verifier])
        return next(item for item in found if item.first == one.first)

    # Taking it away

    def _left(self, one: Tombstone) -> Iterator[Path]:
        """What a tombstone is over and that is still there."""
        for number in one.bundles:
            for path in (entries_path(number), entries_path(number) + ".p"):
                if (self._directory / path).exists():
                    yield self._directory / path
        for name in one.files:
            file = self._directory / name
            if _is_ours(name) and file.exists() and not _is_newer(file, one):
                yield file
            if _is_ours(name) and _aside(file).exists():
                yield _aside(file)

    def _remove(self, one: Tombstone) -> Iterator[str]:
        if self._record is not None:
            # first: the bundles say which lines are the right ones
            yield from self._erase(self._record, one)
        for path in self._left(one):
            try:
                if path.is_dir() and path.suffix == ".p":
                    shutil.rmtree(path)
                elif path.parent.name == LARGE and path != _aside(path.with_suffix("")):
                    self._remove_large(path, one)
                else:
                    path.unlink()
            except OSError as error:
                raise LedgerError(f"{path} cannot be removed: {error.strerror}") from None

    @staticmethod
    def _remove_large(path: Path, one: Tombstone) -> None:
        """The gateway may be writing the same text again just now, under the same name: that one stays."""
        aside = _aside(path)
        path.rename(aside)
        if _is_newer(aside, one) and not path.exists():
            aside.rename(path)
        else:
            aside.unlink()

    def _erase(self, record: Path, one: Tombstone) -> Iterator[str]:
        """Put zeros in the place of the lines, after having seen that they are what was sealed."""
        try:
            fd = os.open(record, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise LedgerError(f"{record} cannot be written: {error.strerror}") from None
        try:
            begin = end = -1
            for at, line in lines(fd):
                index = sequence_of(line) - 1
                if index < one.first:
                    continue
                if index >= one.end:
                    break
                if leaf_hash(line) != self._ledger.hash(0, index):
                    raise LedgerError(
                        f"the line at byte {at} of {record} is not the event {index + 1} that was "
                        "sealed; keep it as evidence"
                    )
                begin = at if begin < 0 else begin
                end = at + len(line) + 1
            if begin >= 0 and not _punch(fd, begin, end - begin):
                yield (
                    f"the disk of {record} has no holes: what was there is overwritten, and its room "
                    "is not free"
                )
            os.fdatasync(fd)
        except OSError as error:
            raise LedgerError(f"{record} cannot be written: {error.strerror}") from None
        finally:
            os.close(fd)


def _held(hold: Hold, events: Sequence[_Event], oldest: str, newest: str) -> bool:
    if hold.by_time:
        return hold.overlaps(oldest, newest)
    return any(hold.covers(event.time, event.session, event.principal) for event in events)


def _between(active: Mapping[str, Hold], oldest: str, newest: str) -> bool:
    """Whether a hold's time is within. A tombstone says its times: none may seem to be over a held one."""
    return any(hold.by_time and hold.overlaps(oldest, newest) for hold in active.values())


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".retired")


def _is_newer(path: Path, one: Tombstone) -> bool:
    """Whether a file was written since, or a little before: then an event that stays may name it."""
    return path.stat().st_mtime >= datetime.fromisoformat(one.time).timestamp() - _NEW_SECONDS


def _is_ours(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] in (LARGE, SESSIONS) and ".." not in parts


def _punch(fd: int, offset: int, length: int) -> bool:
    """Make a hole. False when the file system has none: then zeros were written."""
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if call(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length) == 0:
        return True
    wrong = ctypes.get_errno()
    if wrong not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(wrong, os.strerror(wrong))
    end = offset + length
    while offset < end:
        offset += os.pwrite(fd, _ZEROS[: end - offset], offset)
    return False


def _lock(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LedgerError(f"{path} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise LedgerError("somebody else retires events of this ledger just now") from None
    return fd
