"""The first rows of each result in what an agent is sent, and what else there is."""

from __future__ import annotations

import struct

from pangate.protocols import Buffer

_head = struct.Struct("!BI")
_ROWS = frozenset(b"Dd")
_ASIDE = frozenset(b"NAS")
"""NoticeResponse, NotificationResponse and ParameterStatus may stand among the rows of a result."""


class Excerpt:
    """See `pangate.protocols.Excerpt`."""

    def __init__(self, rows: int) -> None:
        self._most = rows
        self._rows = 0  # of the result that comes
        self._kept = True
        self._left = 0  # bytes of the body of a message that is under way
        self._begun = bytearray()  # of the five bytes in front of it

    def take(self, data: Buffer) -> list[tuple[bool, int, int]]:
        """See `pangate.protocols.Excerpt`."""
        pieces: list[tuple[bool, int, int]] = []
        at = rows = 0
        size = len(data)
        kept = self._kept
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            if not self._begun:
                now = self._keeps(data[at])
                if now != kept:
                    if at:
                        pieces.append((kept, at, rows))
                    kept, rows = now, 0
                rows += not now
                if size - at >= 5:
                    self._left = _head.unpack_from(data, at)[1] - 4
                    at += 5
                    continue
            step = min(5 - len(self._begun), size - at)
            self._begun += data[at : at + step]
            at += step
            if len(self._begun) == 5:
                self._left = _head.unpack(self._begun)[1] - 4
                self._begun.clear()
        if size:
            pieces.append((kept, size, rows))
        self._kept = kept
        return pieces

    def _keeps(self, kind: int) -> bool:
        if kind in _ROWS:
            self._rows += 1
            return self._rows <= self._most
        if kind not in _ASIDE:
            self._rows = 0
        return True
