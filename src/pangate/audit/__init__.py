"""The record of everything that happens: the Recorder, which masks, numbers and encodes events, and
the contract of the sinks behind it. One sink a file."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pangate._book import Pending, Written
from pangate._leaf import Encoder, Form
from pangate.audit.clock import BACK, ClockState, Steps
from pangate.audit.codes import URGENT
from pangate.audit.reader import LARGE
from pangate.errors import RecordFailed
from pangate.ledger.letters import letters
from pangate.model import Event

if TYPE_CHECKING:
    from pangate.config import Config

MAX_LEAF = 48 << 10
"""Bytes of a leaf beyond which the data of its event goes into a file of its own, where the record is sealed.
A leaf of a log in tiles has 65,535 at the most."""

SHORT_TEXT = 256
"""Characters of a text that stays in the leaf of such an event."""

MAX_PENDING_BYTES = 64 << 20
"""Records that wait to be flushed. Beyond it nothing more is taken, so nothing more is done."""

MAX_FORM = MAX_LEAF - 6 * 4096
"""Bytes of an event that comes again, without what differs: that is of a request of 4096 bytes at the
most, each of which may become six."""

SHORTEST_PAN = 12
"""Digits of the shortest card number (ISO/IEC 7812 as issuers use it); what is shorter has none."""

MaskText = Callable[[str], str]

Fsync = Literal["urgent", "always", "interval"]
"""Which events have to be on the disk before anything follows from them: those that are urgent, all, none."""

Encode = Callable[[Event, int], bytes]
"""Makes the leaf of an event with its sequence: one line of canonical JSON without its newline, version 3,
every text in it masked. TypeError for data that is not text, numbers, booleans, None, and mappings and
sequences of these."""


class Sink(Protocol):
    """Where encoded records go. A leaf is one of them: a line of JSON without its newline."""

    @property
    def last_sequence(self) -> int:
        """Sequence of the last leaf that is stored; 0 when there is none."""

    @property
    def synced_sequence(self) -> int:
        """Sequence of the last leaf that outlives a loss of power."""

    @property
    def failure(self) -> str:
        """Why nothing that was appended may be relied on; empty when it may."""

    @property
    def repaired_bytes(self) -> int:
        """Length of the incomplete leaf that was taken away when the sink was opened."""

    def append(self, leaves: Sequence[bytes]) -> None:
        """Store `leaves` in this order, so that they outlive this process.

        Raises RecordFailed when not all of them are; `last_sequence` says which, and the others may be
        appended again then."""

    def sync(self, notice: Callable[[], None] | None = None) -> None:
        """Have what was appended outlive a loss of power. Does not wait: `notice` is called, from any
        thread, when `synced_sequence` or `failure` says how that ended."""

    def close(self) -> None:
        """Store lastingly what was appended, and let go of the file. May be called twice."""


class Recorder:
    """Takes events, gives each the next sequence, and writes them when `flush` is called.

    For one thread. `record` only gathers, so that one `flush` can write for many sessions; what
    depends on an event being recorded waits for `flush` to return, and when the event is urgent, for
    `on_disk` to say so. A flush that fails keeps what it could not write and the next one tries again: no
    event is lost and no sequence skipped."""

    def __init__(
        self,
        sink: Sink,
        encode: Encode,
        clock: Callable[[], float] = time.time,
        about: Mapping[str, object] | None = None,
        fsync: Fsync = "urgent",
        steps: Steps | None = None,
    ) -> None:
        """`about` goes into the data of `log.start`, which is written before this returns. `steps` sees the
        time of every event."""
        self._sink = sink
        self._fsync, self._steps = fsync, steps
        self._behind = False
        self.urgent = 0
        """Sequence of the last event that has to be on the disk before anything follows from it."""
        self._encode = encode
        self._clock = clock
        self.leaves = Pending(
            sink.last_sequence,
            MAX_PENDING_BYTES,
            encode,
            getattr(encode, "encoder", None),
            getattr(encode, "clock", None),
            steps,
            getattr(encode, "longest", 0),
        )
        """What is recorded and not yet flushed."""
        self.written: Written | None = getattr(sink, "written", None)
        """The end of the file that it goes to, where it is a file that only grows."""
        self.wake: Callable[[], None] = getattr(sink, "wake", lambda: None)
        """Has what was written there brought to the disk, where nothing waited for that."""
        if sink.repaired_bytes:
            self._record_own("audit.repaired", {"removed_bytes": sink.repaired_bytes})
        self._record_own("log.start", about or {})
        self.flush()

    @property
    def sequence(self) -> int:
        """Sequence of the last event that was recorded."""
        return self.leaves.sequence

    @property
    def pending(self) -> int:
        """Events that are recorded and not yet flushed."""
        return len(self.leaves.leaves)

    @property
    def waiting_seconds(self) -> float:
        """How long the oldest of these has been waiting."""
        return max(0.0, self._clock() - self.leaves.since) if self.leaves.leaves else 0.0

    def record(self, event: Event, *, urgent: bool = False) -> int:
        """Gather `event` with every text in it masked, and return its sequence. It is `urgent` by its code
        too (audit/codes.py), and the configuration may say that all events are, or none.

        Raises RecordFailed when too much is waiting, and TypeError for data that has no form."""
        leaves = self.leaves
        if not leaves.in_time(event.time):
            self._see(event.time)
        sequence = leaves.note(event, 0.0 if leaves.leaves else self._clock())
        if self._fsync != "interval" and (
            urgent or self._fsync == "always" or event.code in URGENT
        ):
            self.urgent = sequence
        return sequence

    def in_time(self) -> bool:
        """Whether the clock is right, so that forms may be filled."""
        moment = self._clock()
        if self.leaves.in_time(moment):
            return True
        self._see(moment)
        return not self._behind

    def form(self, event: Event, holes: tuple[str, ...]) -> Form | None:
        """The form of events like `event`, which are not urgent, that differ in nothing but their time, their
        statement and what their data has for `holes`; None when there are none."""
        make = getattr(self._encode, "form", None)
        return None if make is None or self._fsync == "always" else make(event, holes)

    @property
    def failure(self) -> str:
        """Why nothing that was written may be relied on; empty when it may."""
        return self._sink.failure or self.clock_failure

    @property
    def clock_failure(self) -> str:
        """Why nothing may follow from what is recorded now, by its time; empty when it may."""
        if self._steps is None or not self._steps.behind:
            return ""
        return (
            f"the system's clock went back and is {self._steps.behind:.1f} seconds behind the last event: "
            "set it right, or when it is right, say so with SIGHUP (audit.clock_back_seconds)"
        )

    def look(self) -> None:
        """See what the clock says, when nothing is recorded for a while."""
        if not self.leaves.closed:
            self._see(self._clock())

    def accept_clock(self) -> None:
        """Somebody says that the clock is right; recorded when it had gone back."""
        if self._steps is None or not self._steps.behind:
            return
        now, behind = self._clock(), self._steps.behind
        self._steps.accept(now)
        self._behind = False
        self._record_own("clock.accepted", {"seconds": round(behind, 3)})

    def _see(self, moment: float) -> None:
        if self._steps is None:
            return
        self._steps.see(moment)
        was, self._behind = self._behind, self._steps.behind > 0
        if self._behind and not was:
            self._record_own("clock.back", {"seconds": round(self._steps.behind, 3)})

    def flush(self) -> None:
        """Write all that was recorded, and begin to bring it to the disk when something in it is urgent.
        Raises RecordFailed, and keeps what is not written, when that fails."""
        leaves = self.leaves
        if not leaves.leaves:
            return
        try:
            self._sink.append(leaves.leaves)
        except RecordFailed:
            leaves.take(leaves.sequence - self._sink.last_sequence)
            raise
        leaves.take()
        if self.urgent > self._sink.synced_sequence:
            self._sink.sync()

    def on_disk(self, sequence: int) -> bool:
        """Whether the event `sequence` outlives a loss of power. Raises RecordFailed when nobody knows."""
        if sequence <= self._sink.synced_sequence:
            return True
        if wrong := self._sink.failure:
            raise RecordFailed(wrong)
        return False

    def sync(self, notice: Callable[[], None]) -> None:
        """Have what was flushed brought to the disk. `notice` is called from any thread when `on_disk` may
        answer otherwise."""
        self._sink.sync(notice)

    def close(self) -> None:
        """Record `log.stop`, flush, and close the sink. May be called twice.

        Raises RecordFailed when the last records could not be written; the sink is closed then
        too."""
        if self.leaves.closed:
            return
        try:
            self._record_own("log.stop", {})
            self.leaves.closed = True
            self.flush()
        finally:
            self.leaves.closed = True
            self._sink.close()

    def _record_own(self, code: str, data: Mapping[str, object]) -> None:
        self.record(Event(code, self._clock(), "-", "gateway", "local", "audit", True, data))


def open_recorder(config: Config, about: Mapping[str, object] | None = None) -> Recorder:
    """The recorder that `config` asks for, open for writing.

    Raises RecordFailed when its file cannot be opened, is not a record, or belongs to another
    gateway that is running."""
    from pangate.audit.jsonl import JsonLines

    sink = JsonLines(config.audit.path, config.audit.fsync_seconds)
    try:
        large = config.audit.ledger / LARGE if config.audit.seal_seconds else None
        steps = Steps(config.audit.clock_back_seconds, sink.last_time)
        encode = leaf_encoder(large, steps)
        about = {"config": config.digest, **(about or {})}
        return Recorder(sink, encode, about=about, fsync=config.audit.fsync, steps=steps)
    except BaseException:
        sink.close()
        raise


def leaf_encoder(large: Path | None = None, steps: Steps | None = None) -> Encode:
    """What the gateway makes its leaves with: texts masked as the cells of a result are, the state of the
    clock in each leaf, which is "back" while `steps` say so.

    With `large`, a directory, the data of an event that is too long for a leaf of a Merkle log is in a file
    there, named by its digest, and the leaf has the digest. RecordFailed when that cannot be written."""
    from pangate.masking import default_scanner
    from pangate.masking.keys import wiped_names

    return _Leaves(Encoder(default_scanner(), wiped_names()), ClockState(), large, steps)


class _Leaves:
    """Makes leaves, at once or by a form."""

    def __init__(
        self, encoder: Encoder, clock: ClockState, large: Path | None, steps: Steps | None
    ) -> None:
        self.encoder, self._large, self._steps = encoder, large, steps
        self.clock = clock.now
        self.longest = MAX_LEAF if large is not None else 0
        """Bytes of a leaf that needs nothing but the encoder; 0 when every one is such a leaf."""

    def form(self, event: Event, holes: tuple[str, ...]) -> Form | None:
        """None for events that are long without what differs: no leaf by a form is too long for the log."""
        form = self.encoder.form(event, holes)
        return form if len(form) <= MAX_FORM else None

    def __call__(self, event: Event, sequence: int) -> bytes:
        encoder, large, steps = self.encoder, self._large, self._steps
        state = BACK if steps is not None and steps.behind else self.clock()
        leaf = encoder.encode(event, sequence, event.time, state)
        if large is None or len(leaf) <= MAX_LEAF:
            return leaf
        data = encoder.encode_value(event.data)
        kept = {key: value for key, value in event.data.items() if _short(value)}
        kept["large"] = {"bytes": len(data), "digest": _keep_large(large, data)}
        return encoder.encode(event._replace(data=kept), sequence, event.time, state)


def _short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= SHORT_TEXT
    return value is None or isinstance(value, (bool, int, float))


def _keep_large(directory: Path, data: bytes) -> str:
    """Put `data` into a file of `directory`, on the disk, and return its name."""
    name = letters(hashlib.sha256(data).digest())
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(
            directory / f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        (directory / f"{name}.new").replace(directory / name)
    except OSError as error:
        raise RecordFailed(
            f"a long text of the record cannot be written to {directory}: {error.strerror}"
        ) from None
    return name


def pan_mask() -> MaskText:
    """A function that masks a text as the cells of a result are masked: card numbers to their last four
    digits, in the hex and octal forms of bytea too, and sensitive values by their names in a document."""
    from pangate._frame import TEXT, mask_cell
    from pangate.masking import default_scanner
    from pangate.masking.keys import wiped_names

    scanner, names = default_scanner(), wiped_names()

    def mask(text: str) -> str:
        if len(text) < SHORTEST_PAN and '"' not in text:
            return text
        data = bytearray(text.encode())
        hits = mask_cell(scanner, 0, TEXT, data, None, names)
        if hits < 0:
            raise RecordFailed("there is no memory to mask a record; give the gateway more")
        return data.decode() if hits else text

    return mask
