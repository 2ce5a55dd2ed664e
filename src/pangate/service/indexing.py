"""The process that keeps the index of the record up, and who looks after it: the sealer. Sealing waits for
the disk and indexing for the processor, and neither for the other. It needs no key, and gets none."""

from __future__ import annotations

import argparse
import logging
import os
import select
import subprocess
import sys
import time
from pathlib import Path

from pangate import logs
from pangate.audit.index import Index, InUse, Record
from pangate.audit.signing import INHERITED
from pangate.config import LogSettings
from pangate.errors import LedgerError
from pangate.service import system

log = logging.getLogger("pangate")

INDEX_SECONDS = 0.3
"""How often the index takes what is new. Who searches takes what is missing first."""

INDEXED = 1 << 15
"""Events that are indexed in one piece; between two pieces the sealer may end."""

AGAIN_SECONDS = 5.0
"""Between the end of a process that should not have ended and the next one."""

STOP_SECONDS = 5.0
"""How long a piece may take when the sealer ends."""

_PROGRAM = "from pangate.service.indexing import main; raise SystemExit(main())"


class Indexer:
    """The process that indexes `record` as long as somebody looks after it, and logs as `look` says."""

    def __init__(self, record: Path, look: LogSettings) -> None:
        self._record, self._look = record, look
        self._process: subprocess.Popen[bytes] | None = None
        self._due = 0.0
        self._failure = ""

    def look_after(self) -> None:
        """Start it, and again some time after it has ended. What goes wrong with it stops nothing else."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            log.error("the process that keeps the index up ended (%d)", code)
            self._let_go()
            self._due = time.monotonic() + AGAIN_SECONDS
        if time.monotonic() < self._due:
            return
        look = ("--log-format", self._look.format, "--log-level", self._look.level)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", _PROGRAM, "--record", str(self._record), *look],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                # what else there is may be the key's
                env={name: os.environ[name] for name in INHERITED if name in os.environ},
            )
        except OSError as error:
            self._due = time.monotonic() + AGAIN_SECONDS
            failure = error.strerror or str(error)
            if failure != self._failure:
                log.error("the process that keeps the index up cannot be started: %s", failure)
            self._failure = failure
        else:
            self._failure = ""

    def let_end(self) -> None:
        """Have it end behind the piece that it is at."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def close(self) -> None:
        """The same, and wait for it."""
        self.let_end()
        if self._process is None:
            return
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._let_go()

    def _let_go(self) -> None:
        assert self._process is not None
        self.let_end()
        self._process.wait()
        self._process = None


class Indexing:
    """Keeps the index of a record up, a piece at a time."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self._index: Index | None = None
        self._failure = ""
        self._seen: tuple[int, int] | None = None
        """Size and time of the record's file when all of it was indexed."""

    def step(self) -> bool:
        """Take a piece of what is new. Whether there may be more at once."""
        now = self._look()
        if now is not None and now == self._seen:
            return False
        try:
            if self._index is None:
                self._index = Index(
                    Record(self._record), notice=log.warning, lock_seconds=0, keep=True
                )
            if self._index.catch_up(INDEXED) == INDEXED:
                return True
        except InUse:
            pass  # somebody searches, and took what was new
        except LedgerError as wrong:
            if str(wrong) != self._failure:
                self._failure = str(wrong)
                log.warning("the index is not kept up: %s", wrong)
        else:
            self._failure, self._seen = "", now
        return False

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._record.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns


def index(record: Path) -> None:
    """Index until standard input ends, which it does when the sealer is gone."""
    indexing = Indexing(record)
    collector = system.SeldomCollector()
    wait = 0.0
    while not select.select([sys.stdin], [], [], wait)[0]:
        began = time.monotonic()
        behind = indexing.step()
        collector.look()
        wait = 0.0 if behind else max(0.0, began + INDEX_SECONDS - time.monotonic())


def main() -> int:
    """The process."""
    parser = argparse.ArgumentParser(
        prog="pangate-indexer", description="Index a record. The sealer starts this by itself."
    )
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args()
    logs.configure(LogSettings(format=options.log_format, level=options.log_level))
    system.forbid_dumps()
    system.leave_signals()
    index(options.record)
    return 0
