"""Notes for the record from who is not its writer: that somebody read it, or decides what becomes of it.

The gateway alone writes its record. Who reads it on the command line drops a note, a small file, into a
directory beside the record; the gateway takes it into the record and removes it, at its next start when it
does not run. Who the reader is, is the owner of that file, which the system knows and no note can say
otherwise."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import secrets
import stat
import string
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pangate.errors import LedgerError, RecordFailed

SUFFIX = ".inbox"
NOTE = ".note"
UNFINISHED = ".new"

MAX_BYTES = 8 << 10
"""Of a note; what is longer is refused by both sides."""

SHORTENED, MOST_SHORTENED = 60, 20
"""Characters of what was asked, and how much of it, that stay in a note which would be longer than
MAX_BYTES."""

MOST_WAITING = 10_000
"""Notes that wait; no more are left behind these."""

AT_A_TIME = 100
"""Notes that are taken at a time."""

ABANDONED_SECONDS = 3600.0
"""A note that is so old and not finished is of somebody who was killed, and removed."""

DECIDING = {
    ("hold", "add"): "audit.hold_placed",
    ("hold", "release"): "audit.hold_released",
    ("retain", None): "audit.retention_applied",
    ("export", None): "audit.exported",
}
"""The codes of commands, with their action, that do more than read. Until they had these, they were
recorded as `audit.read`."""

Record = Callable[[str, str, bool, Mapping[str, object]], None]
"""Takes (code, principal, success, data) of an event."""


def inbox_of(record: Path) -> Path:
    """The directory for notes to the record at `record`."""
    return record.with_name(record.name + SUFFIX)


# Leaving


def leave(
    inbox: Path, command: str, asked: Mapping[str, object], mask: Callable[[str], str]
) -> None:
    """Leave the note that `command` reads the record. `asked` are its options; texts in them are masked
    before they are in any file. LedgerError when that cannot be done; then nothing may be read."""
    asked_for = {key: _masked(value, mask) for key, value in asked.items()}
    note = {
        "command": command,
        "asked": asked_for,
        "read_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if user := os.environ.get("SUDO_USER"):
        note["sudo_user"] = mask(user[:100])
    data = json.dumps(note, ensure_ascii=False).encode()
    if len(data) > MAX_BYTES:
        # what was done and to what stays; a long reason is cut
        note["asked"] = {
            **{key: _shortened(value) for key, value in list(asked_for.items())[:MOST_SHORTENED]},
            "too_long": len(data),
        }
        data = json.dumps(note, ensure_ascii=False).encode()
    try:
        if sum(item.name.endswith(NOTE) for item in os.scandir(inbox)) >= MOST_WAITING:
            raise LedgerError(
                f"{MOST_WAITING} notes wait in {inbox}: start the gateway, which takes them into the record"
            )
    except PermissionError:
        pass  # who may put a note there need not see those of others
    except OSError as wrong:
        raise _refused(inbox, wrong) from None
    # letters only: digits could read as a card number
    name = "".join(secrets.choice(string.ascii_lowercase) for _ in range(20))
    made = inbox / f"{name}{UNFINISHED}"
    try:
        # Only who may enter the directory can read it; the gateway must, whoever left it.
        fd = os.open(
            made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o644)
            file.write(data)
            file.flush()
            os.fsync(fd)
        made.rename(inbox / f"{name}{NOTE}")
    except OSError as wrong:
        with contextlib.suppress(OSError):
            made.unlink()
        raise _refused(inbox, wrong) from None


def _shortened(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:SHORTENED]


def _masked(value: object, mask: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {str(key): _masked(one, mask) for key, one in value.items()}
    if isinstance(value, Sequence):
        # as one text: a number may be given in several words
        return mask(" ".join(map(str, value)))
    return value if value is None or isinstance(value, (bool, int, float)) else mask(str(value))


def _refused(inbox: Path, wrong: OSError) -> LedgerError:
    why = wrong.strerror
    if wrong.errno == errno.ENOENT:
        why = "it is not there; the gateway makes it when it starts"
    elif wrong.errno in (errno.EACCES, errno.EPERM):
        why = "permission denied; be the gateway's user, or of a group that may write there"
    return LedgerError(
        f"reading the record is an event of it, and {inbox} cannot take a note of that: {why}"
    )


# Taking


class Taken(NamedTuple):
    """A note, or what is wrong with one."""

    name: str
    principal: str
    data: Mapping[str, object]
    right: bool


class Inbox:
    """The notes for one gateway's record. RecordFailed when the directory cannot be made or is not safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._recorded: set[str] = set()
        """Notes whose event may not be written yet, or that could not be removed."""
        try:
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            found = path.lstat()
        except OSError as wrong:
            raise RecordFailed(f"{path} cannot be made: {wrong.strerror}") from None
        if not stat.S_ISDIR(found.st_mode):
            raise RecordFailed(f"{path} is not a directory; remove it, and the gateway makes one")
        if found.st_uid not in (os.geteuid(), 0):
            raise RecordFailed(f"{path} belongs to another user; it is to be the gateway's own")
        if found.st_mode & 0o007:
            raise RecordFailed(
                f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, so that anybody could put notes there; "
                "chmod it to 0700, or to 0730 for a group that may read the record"
            )

    def take(self, record: Record) -> int:
        """Give `record` up to AT_A_TIME notes. How many there were. They are removed by `done`, once their
        events are written; until then no note is given twice."""
        count = 0
        for taken in self._waiting():
            code = _code_of(taken.data) if taken.right else "audit.note_refused"
            record(code, taken.principal, taken.right, {"note": taken.name, **taken.data})
            self._recorded.add(taken.name)
            count += 1
        return count

    def done(self) -> None:
        """Remove the notes that were given: their events are written."""
        for name in list(self._recorded):
            path = self.path / f"{name}{NOTE}"
            try:
                path.unlink(missing_ok=True)
            except IsADirectoryError:
                with contextlib.suppress(OSError):
                    path.rmdir()
            except OSError:
                continue  # it is not given again for as long as this gateway runs
            self._recorded.discard(name)

    def _waiting(self) -> Iterator[Taken]:
        try:
            with os.scandir(self.path) as found:
                names = [item.name for _, item in zip(range(2 * MOST_WAITING), found, strict=False)]
        except OSError:
            return  # whoever wants to read is refused meanwhile
        count = 0
        for file in sorted(names):
            name, dot, suffix = file.rpartition(".")
            if dot + suffix == UNFINISHED:
                self._abandon(file)
            elif dot + suffix == NOTE and name not in self._recorded:
                taken = _read(self.path, name)
                if taken is not None:
                    yield taken
                    count += 1
            if count == AT_A_TIME:
                return

    def _abandon(self, file: str) -> None:
        with contextlib.suppress(OSError):
            if time.time() - (self.path / file).lstat().st_mtime > ABANDONED_SECONDS:
                (self.path / file).unlink()


def _read(inbox: Path, name: str) -> Taken | None:
    """The note with this name; None when it is gone."""
    path = inbox / f"{name}{NOTE}"
    if not (name.isascii() and name.isalpha() and len(name) < 100):
        return Taken(name, "unknown", {"detail": "a name that no note has"}, right=False)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as wrong:
        return Taken(name, "unknown", {"detail": f"cannot be read: {wrong.strerror}"}, right=False)
    try:
        found = os.fstat(fd)
        who = _name_of(found.st_uid)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            return Taken(name, who, {"detail": "no file, or a long one"}, right=False)
        data = os.read(fd, MAX_BYTES)
    except OSError as wrong:
        return Taken(name, "unknown", {"detail": f"cannot be read: {wrong.strerror}"}, right=False)
    finally:
        os.close(fd)
    note = _form_of(data)
    if note is None:
        return Taken(name, who, {"detail": "it has not the form of a note"}, right=False)
    # who left the note may have left several words where one text was to be
    asked = {
        key: " ".join(value) if isinstance(value, list) else value
        for key, value in note["asked"].items()
    }
    return Taken(name, who, {**note, "asked": asked, "uid": found.st_uid}, right=True)


def _code_of(note: Mapping[str, Any]) -> str:
    """The code of the event that a note becomes."""
    return DECIDING.get((note["command"], note["asked"].get("action")), "audit.read")


def _form_of(data: bytes) -> dict[str, Any] | None:
    try:
        note = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(note, dict) or not {"command", "asked", "read_at"} <= note.keys():
        return None
    if not note.keys() <= {"command", "asked", "read_at", "sudo_user"}:
        return None
    texts = [value for key, value in note.items() if key != "asked"]
    flat = isinstance(note["asked"], dict) and all(map(_is_flat, note["asked"].values()))
    return note if flat and all(isinstance(text, str) for text in texts) else None


def _is_flat(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    return value is None or isinstance(value, (str, bool, int, float))


def _name_of(uid: int) -> str:
    try:
        return f"unix:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"unix:{uid}"
