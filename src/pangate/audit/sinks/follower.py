"""Gives a sink what comes to the record, in a thread of its own, and keeps how far it is in a small file. A
sink that was away gets everything from where it was: each event once or more, and none is left out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pangate.audit.lines import lines, open_record, sequence_of
from pangate.audit.marks import read_mark
from pangate.audit.sinks import Sink
from pangate.errors import LedgerError
from pangate.ledger.letters import letters

POLL_SECONDS = 0.5
"""How often the record is looked at."""

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 30.0

BATCH_BYTES, BATCH_LEAVES = 256 << 10, 1000

CLOSE_SECONDS = 10.0
"""How long the last events may take when the gateway stops."""

log = logging.getLogger("pangate.audit")


class SinkFollower:
    """Follows the record at `record` for `sink`; `state` is the file that says how far it is."""

    def __init__(
        self, record: Path, state: Path, sink: Sink, clock: Callable[[], float] = time.time
    ) -> None:
        self.name = sink.name
        self._record, self._state, self._sink, self._clock = record, state, sink, clock
        self.sequence = 0
        """The last event that is there."""
        self.failure = ""
        self.failures = 0
        self.behind = 0
        """Bytes of the record that are not there yet."""
        self.caught_up = clock()
        """When it last had everything, in seconds since 1970."""
        self._offset = -1
        self._fd = -1
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(
            target=self._work, name=f"audit-sink-{self.name}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Have it deliver what there is and end; `close` waits for that."""
        self._stopping = True
        self._wake.set()

    def close(self) -> None:
        """Deliver what there is, and end."""
        self.stop()
        self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        retry = FIRST_RETRY_SECONDS
        while True:
            last = self._stopping
            try:
                while self._deliver():
                    pass
            except (OSError, LedgerError) as error:
                self._failed(str(error))
            except Exception as error:
                # a thread that ended would be a sink that nobody misses
                log.debug("the sink %s", self.name, exc_info=error)
                self._failed(f"internal error: {error!r}")
            else:
                if self.failure:
                    log.info("the sink %s has caught up", self.name)
                self.failure, retry = "", FIRST_RETRY_SECONDS
                self.caught_up = self._clock()
            if last:
                break
            self._wake.wait(retry if self.failure else POLL_SECONDS)
            if self.failure:
                retry = min(2 * retry, LONGEST_RETRY_SECONDS)
        self._sink.close()
        if self._fd >= 0:
            os.close(self._fd)

    def _failed(self, failure: str) -> None:
        self.failures += 1
        if failure != self.failure:
            # once, and again when it is something else
            self.failure = failure
            log.error("the sink %s: %s", self.name, failure)
        with contextlib.suppress(OSError):
            self.behind = max(0, self._record.stat().st_size - max(0, self._offset))

    def _deliver(self) -> bool:
        """Give the sink the next events. False when there are none."""
        if self._fd < 0:
            self._fd = open_record(self._record)
        if self._offset < 0:
            self._offset = self._begin()
        batch: list[bytes] = []
        size, offset = 0, self._offset
        # what is not on the disk yet may be lost with the power, and something else stand in its place
        mark = read_mark(self._record)
        for at, line in lines(self._fd, self._offset):
            if mark is not None and at + len(line) >= mark.size:
                break
            batch.append(line)
            size += len(line)
            offset = at + len(line) + 1
            if size >= BATCH_BYTES or len(batch) >= BATCH_LEAVES:
                break
        self.behind = max(0, os.fstat(self._fd).st_size - self._offset)
        if not batch:
            return False
        fresh = [line for line in batch if sequence_of(line) > self.sequence]
        if fresh:
            self._sink.deliver(fresh)
        self.sequence = sequence_of(batch[-1])
        self._offset = offset
        self.behind = max(0, os.fstat(self._fd).st_size - offset)
        self._keep(batch[-1])
        return True

    def _begin(self) -> int:
        """Where in the record it goes on: where it was, or at the beginning."""
        # asked in any case: it takes away what a crash has left of a delivery
        last = self._sink.last()
        try:
            kept = json.loads(self._state.read_bytes())
            offset, self.sequence = int(kept["offset"]), int(kept["sequence"])
            bytes_, digest = int(kept["bytes"]), str(kept["digest"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError):
            log.error("%s cannot be read: the sink gets the whole record again", self._state)
            self.sequence = 0
            return 0
        if offset and not self._is_before(offset, bytes_, digest):
            log.error("%s is another record: the sink gets all of it", self._record)
            self.sequence = 0
            return 0
        if self.sequence < last <= self.sequence + BATCH_LEAVES:
            # it was delivered, and a crash kept that from being noted
            self.sequence = last
        return offset

    def _is_before(self, offset: int, size: int, digest: str) -> bool:
        """Whether the line that was delivered last ends at `offset`, or was retired since."""
        if not 0 < size < offset:
            return False
        found = os.pread(self._fd, size + 1, offset - size - 1)
        if len(found) == size + 1 and not found.strip(b"\0"):
            return True
        return found[-1:] == b"\n" and _digest(found[:-1]) == digest

    def _keep(self, last: bytes) -> None:
        new = self._state.with_name(self._state.name + ".new")
        new.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            kept = {"offset": self._offset, "sequence": self.sequence}
            json.dump({**kept, "bytes": len(last), "digest": _digest(last)}, file)
        new.replace(self._state)


def _digest(line: bytes) -> str:
    return letters(hashlib.sha256(line).digest())
