# cython: freethreading_compatible = True
"""Framed messages: walk them, mask what they carry in place, stop only at what needs a decision.

PostgreSQL's messages after the login: one type byte, an int32 length that counts itself, the body
(https://www.postgresql.org/docs/current/protocol-message-formats.html)."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from pangate._scan cimport Scanner, scan_counts_t, scan_rules_t

from pangate.errors import ProtocolError

cdef extern from "cell.h" nogil:
    enum:
        CELL_TEXT
        CELL_REFUSED
        CELL_OPS
    int cell_op_of(uint32_t oid, int format)
    long cell_mask(const scan_rules_t *rules, int kind, int op, uint8_t *cell, size_t len,
                   scan_counts_t *counts)

cdef enum:
    MAX_COLUMNS = 1664  # MaxTupleAttributeNumber of the server

REFUSED = CELL_REFUSED
OPS = CELL_OPS


def op_of(unsigned int oid, int format) -> int:
    """What has to be done with a cell of this type (its OID) and format (0 text, 1 binary)."""
    return cell_op_of(oid, format)


def mask_cell(Scanner scanner not None, int kind, int op, bytearray cell not None):
    """Mask one cell in place. Returns the number of PANs masked; -1 when it cannot be decoded."""
    cdef uint8_t *p = cell
    return cell_mask(scanner.rules, kind, op, p, len(cell), NULL)


cdef inline uint32_t be32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint16_t be16(const uint8_t *p) noexcept nogil:
    return <uint16_t>((p[0] << 8) | p[1])


cdef class Plan:
    """How the cells of one result are handled: one operation a column."""

    cdef uint8_t ops[MAX_COLUMNS]
    cdef readonly int columns

    def __cinit__(self, ops):
        self.columns = len(ops)
        if self.columns > MAX_COLUMNS:
            raise ProtocolError(f"the backend described {self.columns} columns", "backend")
        for i, op in enumerate(ops):
            if not 0 <= op < CELL_OPS:
                raise ValueError(f"operation {op} is not known")
            self.ops[i] = op


cdef class Walker:
    """The backend's bytes, message by message.

    `load` takes a chunk; `advance` masks rows and COPY data as long as they come and stops at the next
    message of another type, which stands complete at `body`; `keep`, `drop` or `replace` say what
    becomes of it; `release` gives the bytes that may go to the agent. What is not complete is held
    back, at most `limit` bytes."""

    cdef Scanner scanner
    cdef scan_counts_t counts
    cdef bytearray buf
    cdef list done
    cdef Py_ssize_t start  # of what is not yet released
    cdef Py_ssize_t at     # of the message that is looked at
    cdef Py_ssize_t end    # behind it
    cdef readonly Py_ssize_t limit
    cdef public int kind
    cdef uint64_t rows
    cdef uint64_t row_bytes
    cdef readonly uint64_t all_rows   # since the session began
    cdef readonly uint64_t all_bytes
    cdef public bint muted  # rows are dropped: their result was refused

    def __cinit__(self, Scanner scanner not None, Py_ssize_t limit):
        self.scanner = scanner
        self.limit = limit
        self.buf = bytearray()
        self.done = []
        memset(&self.counts, 0, sizeof(self.counts))

    def load(self, data) -> None:
        """Take the next chunk of backend bytes."""
        if self.buf:
            self.buf += data
        else:
            self.buf = bytearray(data)

    def advance(self, Plan plan) -> int:
        """Mask rows by `plan` and COPY data as text. Returns the type of the next other message, or
        0 when more bytes are needed. Raises ProtocolError for rows that are not as described."""
        cdef uint8_t *base = self.buf
        cdef Py_ssize_t size = len(self.buf)
        cdef Py_ssize_t at = self.at
        cdef Py_ssize_t body
        cdef uint32_t length
        cdef uint8_t code
        cdef int bad = 0
        with nogil:
            while True:
                if size - at < 5:
                    code = 0
                    break
                code = base[at]
                length = be32(base + at + 1)
                if length < 4 or length > <size_t>self.limit:
                    bad = 1
                    break
                body = <Py_ssize_t>length - 4
                if size - at - 5 < body:
                    code = 0
                    break
                if code == c"D":
                    if self.muted:
                        break
                    bad = self.mask_row(plan, base + at + 5, body)
                elif code == c"d":
                    if self.muted:
                        break
                    bad = self.mask_copy(base + at + 5, body)
                else:
                    break
                if bad:
                    break
                self.rows += 1
                self.row_bytes += <uint64_t>body
                self.all_rows += 1
                self.all_bytes += <uint64_t>body
                at += 5 + body
        self.at = at
        if bad == 1:
            raise ProtocolError(
                f"the backend sent a message {chr(code)!r} of {length} bytes; "
                f"limits.max_message_bytes is {self.limit}",
                "backend",
            )
        if bad == 2:
            raise ProtocolError("the backend sent a row that is not as it was described", "backend")
        if bad == 3:
            raise ProtocolError(
                "a value cannot be decoded, so it cannot be masked; cast its column to text", "backend"
            )
        if bad == 4:
            raise ProtocolError("the backend split a row of COPY over two messages", "backend")
        self.end = at + 5 + body if code else at
        return code

    cdef int mask_row(self, Plan plan, uint8_t *p, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t at = 2
        cdef int32_t length
        cdef int i
        if plan is None or n < 2 or be16(p) != plan.columns:
            return 2
        for i in range(plan.columns):
            if n - at < 4:
                return 2
            length = <int32_t>be32(p + at)
            at += 4
            if length == -1:
                continue
            if length < 0 or length > n - at:
                return 2
            if plan.ops[i]:
                if cell_mask(self.scanner.rules, self.kind, plan.ops[i], p + at, length,
                             &self.counts) < 0:
                    return 3
            at += length
        return 0 if at == n else 2

    cdef int mask_copy(self, uint8_t *p, Py_ssize_t n) noexcept nogil:
        # A row of COPY in text or csv ends with a newline, which ends every chain of digits. A server
        # sends whole rows; one that does not could split a PAN, so it is not passed on.
        if n == 0:
            return 0
        if p[n - 1] != c"\n":
            return 4
        if cell_mask(self.scanner.rules, self.kind, CELL_TEXT, p, n, &self.counts) < 0:
            return 3
        return 0

    def body(self) -> bytes:
        """The body of the message that `advance` stopped at."""
        return bytes(self.buf[self.at + 5 : self.end])

    def mask_body(self, Py_ssize_t offset) -> int:
        """Mask the body of the message in place, as text, from `offset` on."""
        cdef uint8_t *base = self.buf
        cdef Py_ssize_t first = self.at + 5 + offset
        if first > self.end:
            raise ProtocolError("the backend sent a message that is too short", "backend")
        cdef long hits = cell_mask(self.scanner.rules, self.kind, CELL_TEXT, base + first,
                                   self.end - first, &self.counts)
        if hits < 0:
            raise ProtocolError("a message of the backend cannot be decoded", "backend")
        return hits

    def mask_text(self, bytearray text not None) -> int:
        """Mask a text that is not in the stream (a name, a value) in place."""
        cdef uint8_t *p = text
        cdef long hits = cell_mask(self.scanner.rules, self.kind, CELL_TEXT, p, len(text), &self.counts)
        if hits < 0:
            raise ProtocolError("a text of the backend cannot be decoded", "backend")
        return hits

    def keep(self) -> None:
        """The message goes to the agent as it stands."""
        self.at = self.end

    def drop(self) -> None:
        """The message does not go to the agent."""
        self._cut()
        self.at = self.start = self.end

    def replace(self, data: bytes) -> None:
        """`data` goes to the agent in the place of the message."""
        self._cut()
        self.done.append(data)
        self.at = self.start = self.end

    def insert(self, data: bytes) -> None:
        """`data` goes to the agent before the message, of which nothing is said yet."""
        self._cut()
        self.done.append(data)
        self.start = self.at

    cdef _cut(self):
        if self.at > self.start:
            self.done.append(memoryview(self.buf)[self.start : self.at])

    def release(self) -> list:
        """The buffers that may go to the agent, in order."""
        if self.start == 0 and self.at == len(self.buf) and self.at:
            # everything goes: no slice, and the next chunk gets a buffer of its own
            self.done.append(self.buf)
            self.buf = bytearray()
        else:
            self._cut()
            if self.at < len(self.buf):
                # what is behind belongs to the next chunk; the slices keep the old buffer alive
                self.buf = self.buf[self.at :]
            else:
                self.buf = bytearray()
        self.start = self.at = self.end = 0
        done = self.done
        self.done = []
        return done

    def take_counts(self):
        """PANs masked by network index, rows and bytes since the last call."""
        masked = {}
        cdef int i
        if self.counts.total:
            for i in range(<int>(sizeof(self.counts.by_network) // sizeof(self.counts.by_network[0]))):
                if self.counts.by_network[i]:
                    masked[i] = self.counts.by_network[i]
        rows, size = self.rows, self.row_bytes
        memset(&self.counts, 0, sizeof(self.counts))
        self.rows = self.row_bytes = 0
        return masked, rows, size

    @property
    def held(self) -> int:
        """Bytes that are held back because their message is not complete."""
        return len(self.buf) - self.at
