"""Puts the newest checkpoint into an anchor at intervals, in a thread of its own: an anchor that is slow or
away holds up nothing and no other one, is tried again, and gets the newest checkpoint then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pangate.audit.anchors import TIMEOUT_SECONDS, Anchor, Contradicted, grown
from pangate.audit.reader import Ledger
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60.0
"""Between tries of an anchor that failed: twice as long each time."""

CLOSE_SECONDS = 2 * TIMEOUT_SECONDS

log = logging.getLogger("pangate.audit")


class AnchorFollower:
    """Puts the newest checkpoint of the ledger in `directory` into `anchor` every `seconds`, when there is
    a new one, and at `follow`."""

    def __init__(
        self,
        directory: Path,
        anchor: Anchor,
        seconds: float | None = None,
        name: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without `seconds` it waits for `follow`."""
        self.name = name or anchor.name
        self._directory, self._anchor, self._seconds, self._clock = (
            directory,
            anchor,
            seconds,
            clock,
        )
        self._wake = threading.Event()
        self._stopping = False
        self.failure = ""
        """What is wrong now; empty when nothing is."""
        self.failures = 0
        """How often putting it there failed."""
        self.contradicted = False
        """Whether the anchor has seen another ledger. Nothing clears this."""
        self.put_at = 0.0
        """When the anchor last had the newest checkpoint, in seconds since 1970; 0 for never."""
        self._last: Checkpoint | None = None
        self._retry = FIRST_RETRY_SECONDS
        self._thread = threading.Thread(
            target=self._work, name=f"audit-anchor-{self.name}", daemon=True
        )
        self._thread.start()

    @property
    def size(self) -> int:
        """Leaves of the last checkpoint that is there."""
        return 0 if self._last is None else self._last.size

    def follow(self, first_index: int, leaves: Sequence[bytes]) -> None:
        """There is a newer checkpoint."""
        self._wake.set()

    def stop(self) -> None:
        """Have it put the newest checkpoint there and end; `close` waits for that."""
        self._stopping = True
        self._wake.set()

    def close(self) -> None:
        """Put the newest checkpoint there, and end."""
        self.stop()
        self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        stopping = False
        wait = 0.0 if self._seconds is not None else None
        while not stopping:
            self._wake.wait(wait)
            self._wake.clear()
            stopping = self._stopping
            self._put()
            wait = self._seconds
            if self.failure and self._seconds is not None:
                wait, self._retry = self._retry, min(2 * self._retry, LONGEST_RETRY_SECONDS)

    def _put(self) -> None:
        try:
            try:
                ledger = Ledger(self._directory)
            except LedgerError:
                if self._last is None:
                    return  # nothing is sealed yet
                raise
            if self._last is not None:
                # whoever rolls the ledger back may roll back what the anchor has left in it
                grown(ledger, self._last, f"this process, at {self.name},")
            if self._last != ledger.checkpoint():
                self._last = self._anchor.put(ledger)
        except LedgerError as error:
            self._failed(str(error), isinstance(error, Contradicted))
        except Exception as error:
            # a thread that ended would be an anchor that nobody misses
            log.debug("the anchor %s", self.name, exc_info=error)
            self._failed(f"internal error: {error!r}", contradicted=False)
        else:
            if self.failure:
                log.info("the anchor %s has the newest checkpoint again", self.name)
            self.failure, self._retry = "", FIRST_RETRY_SECONDS
            self.put_at = self._clock()

    def _failed(self, failure: str, contradicted: bool) -> None:
        self.failures += 1
        self.contradicted |= contradicted
        if failure != self.failure:
            # once, and again when it is something else
            self.failure = failure
            log.error("the anchor %s: %s", self.name, failure)
