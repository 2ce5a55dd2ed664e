"""The form of a recording, version 1, and its reader.

A file is a row of zstd frames, so that any zstd shows what is in it. What is in it is a line, `MAGIC`, and
then frames of ours, of which each zstd frame holds whole ones: 14 bytes (a letter for the kind, the length
of what follows, the microseconds since the session began, a bar) and the payload. The letter and the bar
stand there so that no digit of a length can stand before a digit of a payload and make a card number of it.

    h  header       JSON: the session, its role, the resource, what is recorded of it
    s  sent         bytes as the agent was sent them, masked
    q  statement    uint32: the statement with this number was decided
    d  described    uint32, uint64, rest: the statement, the place in what was sent, and, in the protocol's
                    own form, what the rows behind that place are, where the agent was not told
    f  finished     uint32, uint64: the statement, and the place of the last message that belongs to it
    x  cut          uint64, uint64, byte: bytes and rows that were sent here and are not recorded; 1 when
                    what is recorded behind it begins with a message
    e  end          JSON: what was sent and what was cut, all in all

Numbers are little-endian, places count the bytes that were sent since the login."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pangate.errors import PangateError, RecordFailed
from pangate.ledger.letters import letters

MAGIC = b"pangate recording 1\n"
HEADER, SENT, STATEMENT, DESCRIBED, FINISHED, CUT, END = b"h", b"s", b"q", b"d", b"f", b"x", b"e"
HEAD = struct.Struct("<cIQc")
BAR = b"|"
NUMBER = struct.Struct("<I")
PLACE = struct.Struct("<IQ")
GAP = struct.Struct("<QQB")

MAX_FRAME = 1 << 30
"""Longest payload in bytes; a longer one is a sign of damage."""

_READ = 1 << 20


def zstd() -> Any:
    """The zstd module of this Python. RecordFailed says what to install when there is none."""
    try:
        from compression import zstd
    except ModuleNotFoundError:
        try:
            from backports import zstd
        except ModuleNotFoundError:
            raise RecordFailed(
                "recordings need the package backports.zstd, which is not installed; "
                'install it with: pip install "pangate[gateway]"'
            ) from None
    return zstd


class Damaged(PangateError):
    """A recording cannot be read any further. `offset` is the byte of the file from which on."""

    def __init__(self, what: str, offset: int) -> None:
        self.offset = offset
        super().__init__(f"{what} at byte {offset}")


class Frame(NamedTuple):
    """`seconds` count from the beginning of the session."""

    kind: bytes
    seconds: float
    payload: bytes


class Reading:
    """The frames of the recording at `path`, with its size and digest once all of it is read.

    `torn` is true when the file ends within a frame, as it does when the gateway was killed: the frames
    before that are all there. Raises Damaged for what is no recording, OSError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.frames = 0
        self.torn = False
        self.ended = False
        """Whether its end was written."""
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Of what was read of the file."""
        return letters(self._digest.digest())

    def __iter__(self) -> Iterator[Frame]:
        left = bytearray()
        begun = False
        try:
            for data in self._unpacked():
                left += data
                if not begun:
                    if len(left) < len(MAGIC):
                        continue
                    if not left.startswith(MAGIC):
                        raise Damaged(
                            f"{self.path} is not a recording of version 1: wrong bytes", 0
                        )
                    del left[: len(MAGIC)]
                    begun = True
                yield from self._cut(left)
        finally:
            self.torn = self.torn or bool(left) or not begun
            self.ended = self.ended and not self.torn

    def _cut(self, left: bytearray) -> Iterator[Frame]:
        """Take the whole frames from `left`."""
        at = 0
        while len(left) - at >= HEAD.size:
            kind, length, micros, bar = HEAD.unpack_from(left, at)
            if bar != BAR or length > MAX_FRAME:
                raise Damaged(f"{self.path} holds something that is no frame", self.bytes)
            end = at + HEAD.size + length
            if end > len(left):
                break
            self.frames += 1
            self.ended = kind == END
            yield Frame(kind, micros / 1e6, bytes(left[at + HEAD.size : end]))
            at = end
        del left[:at]

    def _unpacked(self) -> Iterator[bytes]:
        module = zstd()
        frame = module.ZstdDecompressor()
        whole = True
        with self.path.open("rb") as file:
            while data := file.read(_READ):
                before = self.bytes
                self.bytes += len(data)
                self._digest.update(data)
                while data:
                    try:
                        made = frame.decompress(data)
                    except module.ZstdError:
                        raise Damaged(f"{self.path} is damaged: no zstd", before) from None
                    whole = frame.eof
                    data = frame.unused_data if whole else b""
                    if whole:
                        frame = module.ZstdDecompressor()
                    if made:
                        yield made
        self.torn = not whole

    def read_rest(self) -> None:
        """Take what is left of the file into `bytes` and `digest`, without looking into it."""
        with self.path.open("rb") as file:
            file.seek(self.bytes)
            while data := file.read(_READ):
                self.bytes += len(data)
                self._digest.update(data)


def digest_of(path: Path, size: int | None = None) -> tuple[str, int]:
    """The digest of the first `size` bytes of a file (all of it for None), and how many there were."""
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while data := file.read(_READ if size is None else min(_READ, size - done)):
            digest.update(data)
            done += len(data)
    return letters(digest.digest()), done


def header_of(frame: Frame) -> Mapping[str, Any]:
    """What a frame of kind `h` or `e` says. Damaged when it is not JSON."""
    try:
        found = json.loads(frame.payload)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Damaged("a header that is not JSON", 0)
    return found
