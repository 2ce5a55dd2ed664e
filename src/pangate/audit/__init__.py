"""The record of everything that happens: the Recorder, which masks, numbers and encodes events, and
the contract of the sinks behind it. One sink a file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from pangate.errors import RecordFailed
from pangate.model import Event

if TYPE_CHECKING:
    from pangate.config import Config

VERSION = 1
"""The version of the form of a record, its field `v`."""

MAX_PENDING_BYTES = 64 << 20
"""Records that wait to be flushed. Beyond it nothing more is taken, so nothing more is done."""

MAX_DEPTH = 16

SHORTEST_PAN = 12
"""Digits of the shortest card number (ISO/IEC 7812 as issuers use it); what is shorter has none."""

MaskText = Callable[[str], str]


class Sink(Protocol):
    """Where encoded records go. A leaf is one of them: a line of JSON without its newline."""

    @property
    def last_sequence(self) -> int:
        """Sequence of the last leaf that is stored; 0 when there is none."""

    @property
    def repaired_bytes(self) -> int:
        """Length of the incomplete leaf that was taken away when the sink was opened."""

    def append(self, leaves: Sequence[bytes]) -> None:
        """Store all of `leaves` in this order, or none.

        Returns when they are stored as lastingly as the configuration asks for. Raises
        RecordFailed when they are not; they may be appended again then."""

    def close(self) -> None:
        """Store lastingly what was appended, and let go of the file. May be called twice."""


class Recorder:
    """Takes events, gives each the next sequence, and writes them when `flush` is called.

    For one thread. `record` only gathers, so that one `flush` can write for many sessions; what
    depends on an event being recorded waits for `flush` to return. A flush that fails keeps what it
    could not write and the next one tries again: no event is lost and no sequence skipped."""

    def __init__(
        self,
        sink: Sink,
        mask_text: MaskText,
        clock: Callable[[], float] = time.time,
        about: Mapping[str, object] | None = None,
    ) -> None:
        """`about` goes into the data of `log.start`, which is written before this returns."""
        self._sink = sink
        self._mask_text = mask_text
        self._clock = clock
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._waiting_since = 0.0
        self._sequence = sink.last_sequence
        self._closed = False
        if sink.repaired_bytes:
            self._record_own("audit.repaired", {"removed_bytes": sink.repaired_bytes})
        self._record_own("log.start", about or {})
        self.flush()

    @property
    def sequence(self) -> int:
        """Sequence of the last event that was recorded."""
        return self._sequence

    @property
    def pending(self) -> int:
        """Events that are recorded and not yet flushed."""
        return len(self._pending)

    @property
    def waiting_seconds(self) -> float:
        """How long the oldest of these has been waiting."""
        return max(0.0, self._clock() - self._waiting_since) if self._pending else 0.0

    def record(self, event: Event) -> int:
        """Gather `event` with every text in it masked, and return its sequence.

        Raises RecordFailed when too much is waiting, and TypeError for data that is not text,
        numbers, booleans, None, and mappings and sequences of these."""
        if self._closed:
            raise RecordFailed("the record is closed; the gateway is stopping")
        leaf = encode(event, self._sequence + 1, self._mask_text)
        if self._pending_bytes + len(leaf) > MAX_PENDING_BYTES:
            raise RecordFailed(
                f"more than {MAX_PENDING_BYTES} bytes of records wait to be written; see whether "
                "the disk of the audit file is full or slow"
            )
        if not self._pending:
            self._waiting_since = self._clock()
        self._pending.append(leaf)
        self._pending_bytes += len(leaf)
        self._sequence += 1
        return self._sequence

    def flush(self) -> None:
        """Write all that was recorded. Raises RecordFailed, and keeps it, when that fails."""
        if self._pending:
            self._sink.append(self._pending)
            self._pending = []
            self._pending_bytes = 0

    def close(self) -> None:
        """Record `log.stop`, flush, and close the sink. May be called twice.

        Raises RecordFailed when the last records could not be written; the sink is closed then
        too."""
        if self._closed:
            return
        try:
            self._record_own("log.stop", {})
            self._closed = True
            self.flush()
        finally:
            self._closed = True
            self._sink.close()

    def _record_own(self, code: str, data: Mapping[str, object]) -> None:
        self.record(Event(code, self._clock(), "-", "gateway", "local", "audit", True, data))


def open_recorder(config: Config, about: Mapping[str, object] | None = None) -> Recorder:
    """The recorder that `config` asks for, open for writing.

    Raises RecordFailed when its file cannot be opened, is not a record, or belongs to another
    gateway that is running."""
    from pangate.audit.jsonl import JsonLines

    sink = JsonLines(config.audit.path, config.audit.fsync)
    try:
        return Recorder(sink, pan_mask(), about={"config": config.digest, **(about or {})})
    except BaseException:
        sink.close()
        raise


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


def encode(event: Event, sequence: int, mask_text: MaskText) -> bytes:
    """`event` as one line of JSON without its newline: keys sorted, no spaces, UTF-8, time in UTC
    with microseconds. Equal events have equal bytes."""
    moment = datetime.fromtimestamp(event.time, UTC)
    record = {
        "v": VERSION,
        "sequence": sequence,
        "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "code": event.code,
        "session": _text(event.session, mask_text),
        "principal": _text(event.principal, mask_text),
        "origin": _text(event.origin, mask_text),
        "resource": _text(event.resource, mask_text),
        "success": event.success,
        "data": _masked(event.data, mask_text, 0),
    }
    return msgspec.json.encode(record, order="sorted")


def _text(text: str, mask_text: MaskText) -> str:
    # A lone surrogate has no UTF-8. It becomes "?", which, unlike a numeric escape, puts no digit
    # beside what follows: that could hide a card number from the mask.
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return mask_text(text)


def _masked(value: object, mask_text: MaskText, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise TypeError(f"data of an event is nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return _text(value, mask_text)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 10 ** (SHORTEST_PAN - 1):
        return value
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        text = str(value)
        masked = mask_text(text)
        # A reader that takes numbers as doubles would change a larger one.
        exact = masked == text and abs(value) <= 1 << 53
        return value if exact else masked
    if isinstance(value, Mapping):
        made: dict[str, object] = {}
        for key, item in value.items():
            name = unique = _text(str(key), mask_text)
            number = 1
            while unique in made:
                # Two keys may differ only in the digits that the mask takes away.
                number += 1
                unique = f"{name}#{number}"
            made[unique] = _masked(item, mask_text, depth + 1)
        return made
    if isinstance(value, (list, tuple)):
        return [_masked(item, mask_text, depth + 1) for item in value]
    raise TypeError(f"data of an event cannot hold a {type(value).__name__}")
