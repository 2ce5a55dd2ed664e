"""FunctionCall, the fast path by which drivers read and write large objects. Other functions are refused: the
protocol does not say what type they give.

A large object comes in pieces, and a PAN may lie over the border of two. So digits at a border are masked
whatever they are, unless the object begins or ends there."""

from __future__ import annotations

from dataclasses import dataclass

from pangate._frame import Walker
from pangate.model import Statement
from pangate.protocols.postgres.messages import Reader

OPEN = 952
READ = 954
WRITE = 955
LSEEK = (956, 3170)

FUNCTIONS: dict[int, tuple[str, int]] = {
    715: ("lo_create", 4),
    OPEN: ("lo_open", 4),
    953: ("lo_close", 4),
    READ: ("loread", -1),
    WRITE: ("lowrite", 4),
    956: ("lo_lseek", 4),
    957: ("lo_creat", 4),
    958: ("lo_tell", 4),
    964: ("lo_unlink", 4),
    1004: ("lo_truncate", 4),
    3170: ("lo_lseek64", 8),
    3171: ("lo_tell64", 8),
    3172: ("lo_truncate64", 4),
}
"""Functions that may be called, by OID (pg_proc.dat): name, and bytes of the result, -1 for any number."""

_CHAIN = b"0123456789 -"


@dataclass(frozen=True, slots=True)
class Call:
    """One FunctionCall: the function's OID and its arguments as they stand."""

    oid: int
    arguments: tuple[bytes | None, ...]
    formats: tuple[int, ...]
    result: int

    def integer(self, index: int) -> int:
        """An argument as a number; -1 when it is none."""
        if index >= len(self.arguments):
            return -1
        raw = self.arguments[index]
        if raw is None:
            return -1
        if self.formats[index if len(self.formats) > 1 else 0] if self.formats else 0:
            return int.from_bytes(raw, "big", signed=True)
        try:
            return int(raw)
        except ValueError:
            return -1


def parse(raw: bytes) -> Call:
    """A FunctionCall message. ProtocolError when it is malformed."""
    reader = Reader(raw[5:], "frontend")
    oid = reader.int32() & 0xFFFFFFFF
    formats = reader.int16s(reader.int16())
    count = reader.int16()
    arguments = []
    for _ in range(count):
        length = reader.int32()
        arguments.append(None if length == -1 else reader.take(length))
    result = reader.int16()
    reader.done()
    return Call(oid, tuple(arguments), formats, result)


def statement(raw: bytes) -> Statement:
    """What a FunctionCall asks for, as the SELECT that would do the same. What it may not ask for comes with
    its refusal."""
    call = parse(raw)
    if call.oid not in FUNCTIONS:
        return Statement(
            "call",
            f"function call of OID {call.oid}",
            refusal="function calls by OID cannot be masked; call the function with SELECT",
        )
    name, _ = FUNCTIONS[call.oid]
    if any(format_ not in (0, 1) for format_ in (*call.formats, call.result)) or (
        len(call.formats) not in (0, 1, len(call.arguments))
    ):
        return Statement("call", f"select {name}()", refusal="a function call has wrong formats")
    shown = []
    for index, argument in enumerate(call.arguments):
        if call.oid == WRITE and index == 1:
            shown.append(f"$1 /* {len(argument or b'')} bytes */")
        else:
            shown.append(str(call.integer(index)))
    return Statement("call", f"select {name}({', '.join(shown)})")


class Reads:
    """What was read of the large objects of one session."""

    def __init__(self) -> None:
        self._open: dict[int, bool] = {}
        """Whether a PAN may have begun before the place of a descriptor; it may where nothing is known."""
        self._asked: list[Call] = []

    def call(self, raw: bytes) -> int:
        """A call goes to the server. Returns its function's OID."""
        call = parse(raw)
        self._asked.append(call)
        return call.oid

    def failed(self) -> None:
        """The call that is answered now failed."""
        if self._asked:
            self._asked.pop(0)

    def mask(self, oid: int, walker: Walker) -> bytes | None:
        """The body of the FunctionCallResponse that the walker stopped at, masked; None when it is not what
        the function gives."""
        call = self._asked.pop(0) if self._asked else None
        reader = Reader(walker.body(), "backend")
        length = reader.int32()
        value = b"" if length == -1 else reader.take(length)
        reader.done()
        if call is None or oid not in FUNCTIONS:
            return None
        _, size = FUNCTIONS[oid]
        descriptor = call.integer(0)
        if oid in LSEEK:
            self._open[descriptor] = True
        if length == -1 or (size > 0 and call.result == 1 and length == size):
            if oid == OPEN:
                self._open[int.from_bytes(value, "big", signed=True)] = False
            return walker.body()
        if oid != READ or call.result != 1:
            # A number as text is short; loread as text is bytea in an escaped form.
            return walker.body() if size > 0 and length <= 20 else None
        masked = bytearray(value)
        walker.mask_text(masked)
        if self._open.get(descriptor, True):
            _star(masked, 0, len(masked), 1)
        whole = len(value) < call.integer(1)  # the object ends here
        self._open[descriptor] = not whole and value[-1:] in _EDGES
        if self._open[descriptor]:
            _star(masked, len(masked) - 1, -1, -1)
        return length.to_bytes(4, "big") + bytes(masked)


_EDGES = frozenset(bytes([byte]) for byte in _CHAIN)


def _star(data: bytearray, at: int, end: int, step: int) -> None:
    """Mask the digits of a chain that begins at `at`, 37 bytes of it at most (19 digits, 18 separators)."""
    for place in range(at, end, step):
        if data[place] not in _CHAIN or abs(place - at) >= 37:
            return
        if data[place] not in b" -":
            data[place] = ord("*")
