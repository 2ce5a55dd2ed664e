"""How many rows a held statement concerns, counted on a connection of the gateway's own: in a transaction
that can only read, within a time, up to a bound, and taken back."""

from __future__ import annotations

from pangate.protocols.postgres import messages
from pangate.protocols.postgres.estimate import RowEstimate
from pangate.protocols.postgres.messages import Reader, message

QUERY_CANCELED = "57014"


class RowCount(RowEstimate):
    """See `pangate.protocols.Count`. `text` is what `sql.counted` made of `held`, the statement itself, of
    which the server says the types of parameters that `text` has no use for."""

    def __init__(
        self, text: str, held: str, types: tuple[int, ...], values: bytes, seconds: float
    ) -> None:
        super().__init__(text, types, values)
        self._held = held
        self._seconds = seconds
        self._out = b""
        self._asked = not types or all(types)
        self.refusal = ""

    def start(self) -> bytes:
        """The types of parameters first, where the agent left them to the server."""
        milliseconds = max(1, round(self._seconds * 1000))
        begin = messages.query(
            f"begin transaction read only; set local statement_timeout = {milliseconds}; "
            "set local lock_timeout = '500ms'"
        )
        if self._asked:
            return begin + self._count()
        return begin + self._parse(self._held) + message(b"D", b"S\0") + messages.sync()

    def take(self) -> bytes:
        """What is to be sent by now."""
        out, self._out = self._out, b""
        return out

    def _parse(self, text: str) -> bytes:
        types = b"".join(oid.to_bytes(4, "big") for oid in self._types)
        named = messages.text("") + messages.text(text)
        return message(b"P", named + len(self._types).to_bytes(2, "big") + types)

    def _count(self) -> bytes:
        return (
            self._parse(self._text)
            + message(b"B", b"\0\0" + self._values + b"\0\0")
            + message(b"E", b"\0" + bytes(4))
            + messages.sync()
            + messages.query("rollback")
        )

    def _message(self, code: int, body: bytes) -> None:
        if code == ord("E") and not self.refusal:
            state = next((part[1:6] for part in body.split(b"\0") if part[:1] == b"C"), b"").decode(
                "ascii", "replace"
            )
            self.refusal = (
                f"it took longer than {self._seconds:g} s"
                if state == QUERY_CANCELED
                else f"the server refused to count (SQLSTATE {state})"
            )
        elif code == ord("t") and not self._asked:
            reader = Reader(body, "backend")
            self._types = tuple(reader.int32() & 0xFFFFFFFF for _ in range(reader.int16()))
        elif code == ord("Z"):
            self._ready += 1
            if self._ready == 2 and not self._asked:
                self._asked = True
                self._ready = 1
                self._out += messages.query("rollback") if self.refusal else self._count()
                self.done = False
            elif self._ready == 3 or (self._ready == 2 and self.refusal):
                text = self._plan.decode("ascii", "replace")
                self.rows = int(text) if text.isdigit() else None
                self.done = True
        elif code == ord("D"):
            super()._message(code, body)
