"""The file of the index: who may have it open, how it comes to be what the record is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pangate.audit.index import query
from pangate.audit.index.query import Hit, Query, Total
from pangate.audit.index.schema import APPLICATION, SCHEMA, VERSION
from pangate.audit.index.source import Line, Moved, Position, Record
from pangate.audit.index.writer import BATCH, Writer
from pangate.errors import LedgerError

SUFFIX = ".index"
LOCK_SUFFIX = ".lock"
LOCK_SECONDS = 60.0
"""How long another process that has the index is waited for."""

CACHE = -64_000
"""Kibibytes of the file that are kept in memory, as SQLite counts them."""

CHECKPOINT_PAGES = 8192
"""Pages that are written behind the file before they are put into it: many are written again and again."""

Notice = Callable[[str], None]
Progress = Callable[[int, int], None]


class InUse(LedgerError):
    """Another process has the index."""


def index_path(record: Record) -> Path:
    """Where the index of a record is: beside its file, or in its ledger."""
    if record.file is None:
        return record.directory / f"events{SUFFIX}"
    return record.file.with_name(record.file.name + SUFFIX)


class Index:
    """The index of `record`, in the file at `path`. For one thread; any number of processes may have one.

    `notice` is told in a sentence when the index is made anew, and why. With `keep` the file stays open from
    one call to the next, until `close`: opening and closing it costs more than a few thousand events do.
    Every method raises LedgerError when the record or the index cannot be read or written."""

    def __init__(
        self,
        record: Record,
        path: Path | None = None,
        notice: Notice = lambda said: None,
        lock_seconds: float = LOCK_SECONDS,
        *,
        keep: bool = False,
    ) -> None:
        self.record = record
        self.path = path or index_path(record)
        self._notice = notice
        self._lock_seconds = lock_seconds
        self._ids: dict[tuple[int, str], int] = {}
        self._made = ""
        """Which index these numbers are of."""
        self._keep = keep
        self._kept: tuple[sqlite3.Connection, int] | None = None
        """What is open, and the inode that it had at its place."""

    def close(self) -> None:
        """Let go of the file."""
        if self._kept is not None:
            db, self._kept = self._kept[0], None
            db.close()

    # Making it

    def catch_up(self, most: int | None = None, progress: Progress | None = None) -> int:
        """Take what the record has and the index has not, `most` events at the most. How many were taken.

        `progress` is told how many were, and how many bytes of the record's file are behind them."""
        with self._locked(fcntl.LOCK_EX):
            try:
                return self._catch_up(most, progress)
            except Moved as why:
                self._start_anew(
                    str(why) or "is of another record, or of one that was changed since"
                )
            except sqlite3.DatabaseError as wrong:
                if isinstance(wrong, sqlite3.OperationalError) and not _damaged(wrong):
                    raise self._failed(wrong) from None
                self._start_anew(f"is damaged ({wrong})")
            try:
                return self._catch_up(most, progress)
            except Moved:
                raise LedgerError(
                    f"{self.record.name} changed while it was read; try again"
                ) from None
            except sqlite3.Error as wrong:
                raise self._failed(wrong) from None

    def make_anew(self, progress: Progress | None = None) -> int:
        """Remove the index and make it of the whole record. How many events it has."""
        with self._locked(fcntl.LOCK_EX):
            self._remove()
        return self.catch_up(progress=progress)

    def _catch_up(self, most: int | None, progress: Progress | None) -> int:
        with self._open() as db:
            position = _position(db)
            self._check_retired(db, position)
            done, left = 0, most
            lines = self.record.lines(position)
            while left is None or left > 0:
                size = BATCH if left is None else min(BATCH, left)
                db.execute("begin immediate")
                try:
                    taken = self._take(db, lines, size)
                    db.execute("commit")
                except BaseException:
                    self._ids.clear()  # some of these are of the transaction that is taken back
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("rollback")
                    raise
                done += taken
                if progress is not None and taken:
                    progress(done, _position(db).end)
                if taken < size:
                    break
                left = None if left is None else left - taken
            return done

    def _check_retired(self, db: sqlite3.Connection, position: Position) -> None:
        """Nothing of events that were taken away because of their age stays here."""
        retired = self.record.retired
        kept = db.execute("select value from meta where key = 'retired'").fetchone()
        if position.sequence and (kept is None or kept[0] != retired):
            raise Moved("has events that were retired since")
        db.execute("insert or replace into meta values ('retired', ?)", (retired,))

    def _take(self, db: sqlite3.Connection, lines: Iterator[Line], size: int) -> int:
        writer = Writer(db, self.record, self._ids)
        try:
            taken = writer.take(lines, size)
            writer.store()
        finally:
            writer.end()
        return taken

    # Asking it

    def search(self, asked: Query, most: int | None) -> list[Hit]:
        """Up to `most` events that `asked` is about, the newest first."""
        with self._reading() as db:
            return query.search(db, asked, most)

    def count(self, asked: Query, by: Sequence[str]) -> dict[str, list[tuple[str, Total]]]:
        """For each kind in `by`, how many of the events that `asked` is about have each of its values."""
        with self._reading() as db:
            return query.count(db, asked, by)

    def values(self, kind: str) -> list[tuple[str, int]]:
        """Every value of a kind, with the sequence of the first event that has it."""
        with self._reading() as db:
            return query.values(db, kind)

    def first_at(self, since: float) -> int:
        """The sequence of the first event at `since` (seconds) or later; one behind the last for none."""
        with self._reading() as db:
            return query.first_at(db, since)

    def position(self) -> Position:
        """How far the record is indexed."""
        with self._reading() as db:
            return _position(db)

    # The file

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._locked(fcntl.LOCK_SH):
            try:
                with self._open() as db:
                    yield db
            except sqlite3.Error as wrong:
                raise self._failed(wrong) from None

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Hold the index's lock. A file of its own, for the index itself may be removed."""
        path = self.path.with_name(self.path.name + LOCK_SUFFIX)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as wrong:
            raise LedgerError(
                f"the index {self.path} cannot be made: {wrong.strerror}; name a place where it can be "
                "with --index"
            ) from None
        try:
            until = time.monotonic() + self._lock_seconds
            while True:
                try:
                    fcntl.flock(fd, how | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise InUse(
                            f"the index {self.path} is in use by another process, which may be making it; "
                            "try again"
                        ) from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # Whoever removes it has the lock, as we have now. No other descriptor of a file may be closed while
        # SQLite has it open: its locks would be gone.
        if self._kept is not None and self._kept[1] != _inode(self.path):
            self.close()
        db = self._opened() if self._kept is None else self._kept[0]
        self._kept = None
        try:
            self._check_form(db)
            self._check_same(db)
            yield db
        except BaseException:
            db.close()
            raise
        if self._keep:
            self._kept = db, _inode(self.path)
        else:
            db.close()

    def _opened(self) -> sqlite3.Connection:
        try:
            # never, not for a moment, readable by others
            os.close(
                os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            )
        except OSError as wrong:
            raise LedgerError(f"the index {self.path} cannot be opened: {wrong.strerror}") from None
        db = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        try:
            # No other process has it while this one writes: the lock is ours. `wal` keeps it whole in a
            # crash.
            db.execute("pragma journal_mode = wal")
            db.execute("pragma synchronous = normal")
            db.execute(f"pragma cache_size = {CACHE}")
            db.execute("pragma temp_store = memory")
            db.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
        except BaseException:
            db.close()
            raise
        return db

    def _check_form(self, db: sqlite3.Connection) -> None:
        application = db.execute("pragma application_id").fetchone()[0]
        version = db.execute("pragma user_version").fetchone()[0]
        if (application, version) == (APPLICATION, VERSION):
            return
        if application or version or db.execute("select 1 from sqlite_schema").fetchone():
            raise sqlite3.DatabaseError(f"its form is {version} and not {VERSION}")
        with contextlib.closing(sqlite3.connect(":memory:")) as trial:
            try:
                trial.execute("create virtual table words using fts5 (text)")
            except sqlite3.OperationalError as wrong:
                raise LedgerError(
                    f"the SQLite of this Python cannot index words ({wrong}); use one with FTS5"
                ) from None
        db.executescript(
            f"begin; {SCHEMA} pragma application_id = {APPLICATION}; "
            f"pragma user_version = {VERSION}; commit;"
        )

    def _check_same(self, db: sqlite3.Connection) -> None:
        """Forget the numbers of terms when another process has made the index anew since."""
        found = db.execute("select value from meta where key = 'made'").fetchone()
        if found is None:
            found = (secrets.token_hex(16),)
            db.execute("insert into meta values ('made', ?)", found)
        if found[0] != self._made:
            self._ids.clear()
            self._made = found[0]

    def _start_anew(self, why: str) -> None:
        self._notice(f"the index {self.path} {why}; it is made anew from the record")
        self._remove()

    def _remove(self) -> None:
        self.close()
        self._ids.clear()
        for suffix in ("", "-wal", "-shm", "-journal"):
            try:
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            except OSError as wrong:
                raise LedgerError(
                    f"the index {self.path} cannot be removed: {wrong.strerror}"
                ) from None

    def _failed(self, wrong: sqlite3.Error) -> LedgerError:
        return LedgerError(
            f"the index {self.path}: {wrong}; make it anew with `pangate audit reindex`"
        )


def _inode(path: Path) -> int:
    """Which file is at a place; 0 when none is."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _position(db: sqlite3.Connection) -> Position:
    found = dict(db.execute("select key, value from meta").fetchall())
    if "sequence" not in found:
        return Position()
    return Position(int(found["sequence"]), int(found["end"]), str(found["digest"]))


def _damaged(wrong: sqlite3.OperationalError) -> bool:
    """Whether an error says that the file is not what it should be, rather than that a disk is full."""
    return "no such" in str(wrong) or "malformed" in str(wrong) or "has no column" in str(wrong)
