# cython: freethreading_compatible = True
"""Framed messages: walk them, mask what they carry in place, stop only at what needs a decision.

PostgreSQL's messages after the login: one type byte, an int32 length that counts itself, the body
(https://www.postgresql.org/docs/current/protocol-message-formats.html)."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from pangate._scan cimport Scanner, scan_counts_t, scan_rules_t

from pangate.errors import LimitReached, ProtocolError

cdef extern from "cell.h" nogil:
    enum:
        CELL_SAFE
        CELL_TEXT
        CELL_LINE
        CELL_INT8
        CELL_ARRAY
        CELL_RECORD
        CELL_RANGE
        CELL_MULTIRANGE
        CELL_HSTORE
        CELL_VERSIONED
        CELL_FORCED
        CELL_FORCED_INT8
        CELL_REFUSED
        CELL_OPS
    struct cell_type:
        uint32_t oid
        cell_op_t op
    ctypedef struct cell_types_t:
        const cell_type *rows
        size_t count
    ctypedef struct cell_env_t:
        const scan_rules_t *rules
        scan_counts_t *counts
        const cell_types_t *types
        const names_t *names
        int kind
    cell_op_t cell_op_of(const cell_types_t *types, uint32_t oid, int format)
    long cell_mask(const cell_env_t *env, cell_op_t op, uint8_t *cell, size_t len)

cdef extern from "copy.h" nogil:
    enum:
        WIPE_NOT
        WIPE_TEXT
        WIPE_DIGIT
        WIPE_ZEROS
        WIPE_NUMERIC
        WIPE_JSON
        WIPE_JSONB
        WIPE_EMPTY
        WIPE_NULL
        WIPE_KINDS
    ctypedef struct copy_form_t:
        int csv
        uint8_t delimiter
        uint8_t quote
        uint8_t escape
        const uint8_t *null
        size_t null_len
    long cell_wipe(int wipe, size_t len, uint8_t *out)
    long copy_mask_row(const cell_env_t *env, const copy_form_t *form, const cell_op_t *ops,
                       const uint8_t *wipes, uint64_t *hits, size_t columns, uint8_t *row, size_t len,
                       uint8_t *out)

cdef extern from "cell_stream.h" nogil:
    enum:
        CELL_WINDOW_MIN
        CELL_UNDECODABLE
        CELL_TOO_LONG
    ctypedef struct cell_stream_t:
        size_t left
    void cell_stream_begin(cell_stream_t *stream, cell_op_t op, size_t len, size_t window, size_t limit)
    int cell_stream_wipe(cell_stream_t *stream, int wipe, size_t len)
    long cell_stream_mask(cell_stream_t *stream, const cell_env_t *env, uint8_t *p, size_t have,
                          uint64_t *hits)

cdef extern from "copy_stream.h" nogil:
    enum:
        COPY_SPLIT
    ctypedef struct copy_stream_t:
        size_t left
        size_t column
    void copy_stream_begin(copy_stream_t *stream, size_t len, size_t window, size_t limit)
    long copy_stream_mask(copy_stream_t *stream, const cell_env_t *env, const copy_form_t *form,
                          const cell_op_t *ops, const uint8_t *wipes, uint64_t *hits, size_t columns,
                          uint8_t *p, size_t have)

cdef enum:
    MAX_COLUMNS = 1664  # MaxTupleAttributeNumber of the server

WINDOW = 256 * 1024
"""Bytes of a long cell that are masked at once."""

SAFE, TEXT, INT8, ARRAY, RECORD = CELL_SAFE, CELL_TEXT, CELL_INT8, CELL_ARRAY, CELL_RECORD
RANGE, MULTIRANGE, HSTORE, VERSIONED = CELL_RANGE, CELL_MULTIRANGE, CELL_HSTORE, CELL_VERSIONED
FORCED, FORCED_INT8, REFUSED, OPS = CELL_FORCED, CELL_FORCED_INT8, CELL_REFUSED, CELL_OPS

WIPES = {
    "not": WIPE_NOT, "text": WIPE_TEXT, "digit": WIPE_DIGIT, "zeros": WIPE_ZEROS,
    "numeric": WIPE_NUMERIC, "json": WIPE_JSON, "jsonb": WIPE_JSONB, "empty": WIPE_EMPTY,
    "null": WIPE_NULL,
}


def with_inner(int op, unsigned int oid) -> int:
    """A range or multirange (`op`) of the type `oid`."""
    return <cell_op_t>oid << 8 | <cell_op_t>op


cdef class Types:
    """The types that a database has beside the built-in ones: {OID: operation for the binary form}. Does not
    change; safe to share."""

    cdef cell_types_t table
    cdef cell_type *rows

    def __cinit__(self, operations=()):
        pairs = sorted(dict(operations).items())
        self.rows = <cell_type *>calloc(len(pairs) or 1, sizeof(cell_type))
        if self.rows == NULL:
            raise MemoryError
        for i, (oid, op) in enumerate(pairs):
            if not 0 <= (op & 0xff) < CELL_OPS:
                raise ValueError(f"operation {op} is not known")
            self.rows[i].oid = oid
            self.rows[i].op = op
        self.table.rows = self.rows
        self.table.count = len(pairs)

    def __dealloc__(self):
        free(self.rows)

    def __len__(self):
        return self.table.count


ANY, CODE, PIN = NAME_ANY, NAME_CODE, NAME_PIN


cdef class Names:
    """Names whose values are wiped in JSON and hstore: {name: shape}, the name as words in lower case with
    `_` between them, the shape ANY, CODE (three or four digits) or PIN. Those of `glued` may end any
    longer word. Does not change; safe to share."""

    def __cinit__(self, shapes, glued=()):
        every = [(name, shape, 0) for name, shape in shapes.items()] + [(name, ANY, 1) for name in glued]
        self.rules = <name_rule_t *>calloc(len(every) or 1, sizeof(name_rule_t))
        if self.rules == NULL:
            raise MemoryError
        memset(&self.table, 0, sizeof(self.table))
        cdef bytes text
        for i, (name, shape, joined) in enumerate(every):
            text = name.encode()
            if not 0 < len(text) <= NAME_LONGEST or shape not in (ANY, CODE, PIN):
                raise ValueError(f"the name {name!r} or its shape {shape} cannot be used")
            memcpy(self.rules[i].text, <const char *>text, len(text))
            self.rules[i].len, self.rules[i].shape, self.rules[i].glued = len(text), shape, joined
            last = text[len(text) - 1]
            self.table.ends[last] = self.table.ends[ord(chr(last).upper())] = 1
        self.table.rules, self.table.count = self.rules, len(every)

    def __dealloc__(self):
        free(self.rules)

    def find(self, bytes name not None):
        """Whether some rule is about this name."""
        return names_find(&self.table, <const uint8_t *><const char *>name, len(name)) >= 0


def fits(int shape, bytes value not None, bint escaped=False):
    """Whether a value looks like what names of this shape (ANY, CODE, PIN) are about: blanks, a fraction of
    zeros, an exponent and digits beyond ASCII count for what they say, and backslashes when it is `escaped`
    as in JSON. One of more than 256 bytes is no code and no PIN."""
    cdef const uint8_t *p = <const uint8_t *><const char *>value
    return name_fits(shape, p, len(value), NAME_ESCAPED if escaped else 0) != 0


def op_of(unsigned int oid, int format, Types types=None) -> int:
    """What has to be done with a cell of this type (its OID) and format (0 text, 1 binary)."""
    return cell_op_of(NULL if types is None else &types.table, oid, format)


def mask_cell(Scanner scanner not None, int kind, op, bytearray cell not None, Types types=None,
              Names names=None):
    """Mask one cell in place. Returns the number of PANs masked; -1 when it cannot be decoded."""
    cdef uint8_t *p = cell
    cdef cell_env_t env
    env.rules, env.counts, env.kind = scanner.rules, NULL, kind
    env.types = NULL if types is None else &types.table
    env.names = NULL if names is None else &names.table
    return cell_mask(&env, op, p, len(cell))


cdef inline uint32_t be32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline void put32(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 24)
    p[1] = <uint8_t>(v >> 16)
    p[2] = <uint8_t>(v >> 8)
    p[3] = <uint8_t>v


cdef inline uint16_t be16(const uint8_t *p) noexcept nogil:
    return <uint16_t>((p[0] << 8) | p[1])


cdef class Plan:
    """How the cells of one result are handled: one operation a column, and what takes the place of values
    that are wiped. Counts what was found a column."""

    def __cinit__(self, ops, wipes=None):
        self.columns = len(ops)
        if self.columns > MAX_COLUMNS:
            raise ProtocolError(f"the backend described {self.columns} columns", "backend")
        self.ops = <cell_op_t *>calloc(self.columns or 1, sizeof(cell_op_t))
        self.hits = <uint64_t *>calloc(self.columns or 1, sizeof(uint64_t))
        if self.ops == NULL or self.hits == NULL:
            raise MemoryError
        for i, op in enumerate(ops):
            if not 0 <= (op & 0xff) < CELL_OPS:
                raise ValueError(f"operation {op} is not known")
            self.ops[i] = op
        if wipes is not None and any(wipes):
            if len(wipes) != self.columns:
                raise ValueError(f"{len(wipes)} wipes came with {self.columns} columns")
            self.wipes = <uint8_t *>calloc(self.columns or 1, 1)
            if self.wipes == NULL:
                raise MemoryError
            for i, wipe in enumerate(wipes):
                if not 0 <= wipe < WIPE_KINDS:
                    raise ValueError(f"wipe {wipe} is not known")
                self.wipes[i] = wipe

    def __dealloc__(self):
        free(self.ops)
        free(self.wipes)
        free(self.hits)

    @property
    def rewrites(self):
        """Whether rows are built anew, since values are wiped."""
        return self.wipes != NULL

    @property
    def hit(self):
        """Whether anything was masked or wiped since `take_hits`."""
        cdef int i
        for i in range(self.columns):
            if self.hits[i]:
                return True
        return False

    def take_hits(self):
        """What was masked or wiped a column since the last call, as {index: count}."""
        found = {}
        cdef int i
        for i in range(self.columns):
            if self.hits[i]:
                found[i] = self.hits[i]
                self.hits[i] = 0
        return found


cdef enum:
    SHORT_WORK = 16384  # bytes that are masked before another thread could begin with anything


cdef enum:
    COPY_NOT = 0  # nobody described what would come
    COPY_CELLS = 1
    COPY_BINARY = 2


cdef enum:
    STREAM_NOT = 0
    STREAM_ROW    # cells with their lengths
    STREAM_CELLS  # of COPY in text or csv
    STREAM_JOINED  # the same, and its cells make one text
    STREAM_LINE   # a text


cdef inline int wrong_of(long done) noexcept nogil:
    # by the numbers of _walk
    if done == CELL_UNDECODABLE:
        return 3
    if done == CELL_TOO_LONG:
        return 5
    return 4 if done == COPY_SPLIT else 2


cdef Py_ssize_t binary_head(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Length of what stands before the first row of COPY in binary; -1 when it does not."""
    if n < 19 or memcmp(p, b"PGCOPY\n\377\r\n\0", 11):
        return -1
    if be32(p + 11) or be32(p + 15):  # flags and an extension, which no server sends
        return -1
    return 19


cdef bint plain_tag(const uint8_t *p, Py_ssize_t n, bint rows) noexcept nogil:
    """Whether a command that says so has done nothing but with rows, or begun or ended a transaction."""
    if n < 1 or p[n - 1] or memchr(p, 0, n - 1) != NULL:
        return False
    if rows and n > 7 and not memcmp(p, b"SELECT ", 7):
        return True
    if n > 7 and (
        not memcmp(p, b"INSERT ", 7) or not memcmp(p, b"UPDATE ", 7) or not memcmp(p, b"DELETE ", 7)
    ):
        return True
    return not rows and (
        (n == 6 and not memcmp(p, b"BEGIN", 5)) or (n == 7 and not memcmp(p, b"COMMIT", 6))
        or (n == 9 and not memcmp(p, b"ROLLBACK", 8))
    )


cdef dict NOTHING = {}


cdef class WholeAnswers:
    """What a walker does for the short way of requests that came before."""

    cdef object whole(self, bytes data, bytes head, bytes description, bint shown, Plan plan, whole_t *found):
        """All that the backend answers to one request, when it is just as expected: `head`, `description`
        (which goes to the agent when it is `shown`), rows of `plan`, the tag of a command that only reads or
        writes rows, ReadyForQuery. Its rows are masked. Returns what goes to the agent, and None when it is
        anything else: then nothing is taken of it."""
        raise NotImplementedError

    cdef dict masked_now(self):
        """PANs masked by network index since they were taken, and take all counts."""
        raise NotImplementedError


cdef class Walker(WholeAnswers):
    """The backend's bytes, message by message.

    `load` takes a chunk; `advance` masks rows and COPY data as long as they come and stops at the next
    message of another type, which stands complete at `body`; `keep`, `drop` or `replace` say what
    becomes of it; `release` gives the bytes that may go to the agent. What is not complete is held
    back, at most `limit` bytes. A row that cannot be decoded stops the walk as well, with `undecodable`
    set: nothing of it may be kept.

    A row longer than `limit`, of a result or of COPY, goes out as it comes, its long cells in windows of
    `window` bytes; what of it has to be there whole has `limit` bytes at the most. What is wiped in such a
    row keeps its length, which stands in front of it."""

    cdef Scanner scanner
    cdef scan_counts_t counts
    cdef cell_env_t env
    cdef Types known
    cdef Names wiped
    cdef copy_form_t form
    cdef bytes null_text
    cdef int copying
    cdef bint copy_begun
    cdef bint copy_header  # the line of column names comes next
    cdef bytearray buf
    cdef list done
    cdef uint64_t put      # bytes that were ever in `done`
    cdef Py_ssize_t start  # of what is not yet released
    cdef Py_ssize_t at     # of the message that is looked at
    cdef Py_ssize_t end    # behind it
    cdef readonly Py_ssize_t limit
    cdef uint64_t rows
    cdef uint64_t row_bytes
    cdef readonly uint64_t all_rows   # since the session began
    cdef readonly uint64_t all_bytes
    cdef public bint muted  # rows are dropped: their result was refused
    cdef readonly bint undecodable
    cdef size_t window
    cdef cell_stream_t cell
    cdef copy_stream_t cells
    cdef int streaming         # how a row longer than `limit` goes on that was begun
    cdef Py_ssize_t ahead      # bytes behind what was looked at whose cells are masked
    cdef bint in_cell
    cdef bint row_out          # some of it may go to the agent already
    cdef int column            # that comes next
    cdef Py_ssize_t row_left   # bytes of the row behind what was looked at
    cdef Py_ssize_t looked     # bytes behind `at` that were looked at, and masked
    cdef Py_ssize_t skipping   # bytes still to come of a message that is dropped
    cdef readonly bint within_message  # what was released ends within a message

    def __cinit__(self, Scanner scanner not None, Py_ssize_t limit, Py_ssize_t window=WINDOW):
        self.scanner = scanner
        self.limit = limit
        self.window = max(min(window, limit), CELL_WINDOW_MIN)
        self.buf = bytearray()
        self.done = []
        memset(&self.counts, 0, sizeof(self.counts))
        self.env.rules = scanner.rules
        self.env.counts = &self.counts
        self.env.types = NULL
        self.env.names = NULL
        self.env.kind = 0

    @property
    def kind(self):
        """The kind of the mask."""
        return self.env.kind

    @kind.setter
    def kind(self, int kind):
        self.env.kind = kind

    @property
    def types(self):
        """The types of the database beside the built-in ones."""
        return self.known

    @types.setter
    def types(self, Types types):
        self.known = types
        self.env.types = NULL if types is None else &types.table

    @property
    def names(self):
        """Names whose values are wiped in JSON and hstore."""
        return self.wiped

    @names.setter
    def names(self, Names names):
        self.wiped = names
        self.env.names = NULL if names is None else &names.table

    def copy_cells(self, bint csv, int delimiter, int quote, int escape, bytes null not None,
                   bint header=False) -> None:
        """COPY data that comes is rows of the plan, in text or csv; with `header` behind a line of names.
        ValueError for a mark that could be taken for a part of a number or of a mask."""
        cdef int mark
        for mark in [delimiter, quote, escape] if csv else [delimiter]:
            if not 0 < mark < 0x80 or chr(mark).isalnum() or mark in b"*\\\r\n":
                raise ValueError(f"{chr(mark)!r} is no mark of COPY behind which a card number would be seen")
        self.copying = COPY_CELLS
        self.copy_header = header
        self.null_text = null
        self.form.csv, self.form.delimiter = csv, delimiter
        self.form.quote, self.form.escape = quote, escape
        self.form.null, self.form.null_len = <const uint8_t *><const char *>self.null_text, len(null)

    def copy_binary(self) -> None:
        """COPY data that comes is rows of the plan, in binary."""
        self.copying = COPY_BINARY
        self.copy_begun = False

    def load(self, data) -> None:
        """Take the next chunk of backend bytes."""
        if self.buf:
            self.buf += data
        else:
            self.buf = bytearray(data)

    def advance(self, Plan plan) -> int:
        """Mask rows and COPY data by `plan`. Returns the type of the next other message, or 0 when more bytes
        are needed. Raises ProtocolError for rows that are not as described, LimitReached for a value that
        is too long to be masked."""
        while True:
            if self.skipping:
                self._skip()
                if self.skipping:
                    return 0
            code = self._walk(plan)
            if not self.skipping:
                return code

    cdef _skip(self):
        self._cut()
        cdef Py_ssize_t have = min(self.skipping, len(self.buf) - self.at)
        self.skipping -= have
        self.at = self.start = self.end = self.at + have

    cdef int _walk(self, Plan plan) except -1:
        cdef uint8_t *base = self.buf
        cdef uint8_t *out = NULL
        cdef Py_ssize_t size = len(self.buf)
        cdef Py_ssize_t at = self.at
        cdef Py_ssize_t first = at  # of the rows that are built anew
        cdef Py_ssize_t have = 0
        cdef Py_ssize_t body = 0
        cdef Py_ssize_t made
        cdef uint32_t length = 0
        cdef uint8_t code
        cdef int bad = 0
        cdef bint again = False
        cdef bint anew = plan is not None and plan.wipes != NULL
        self.undecodable = False
        if anew:
            out = <uint8_t *>malloc(size - at + 1)
            if out == NULL:
                raise MemoryError
        with nogil:
            while True:
                if self.streaming:
                    code = c"D"
                    bad = self.stream_row(plan, base, size, &at)
                    if bad:
                        break
                    if self.streaming:
                        code = 0
                        break
                if size - at < 5:
                    code = 0
                    break
                code = base[at]
                length = be32(base + at + 1)
                body = <Py_ssize_t>length - 4
                if length < 4 or length > <size_t>self.limit:
                    if self.muted and (code == c"D" or code == c"d") and body >= 0:
                        self.skipping = 5 + body
                        code = 0
                        break
                    if (code == c"D" or code == c"d") and plan is not None and <int32_t>length > 0:
                        if have:  # it is changed where it is: what was built goes first
                            again = True
                            break
                        if code == c"d" and self.copying == COPY_NOT:
                            bad = 1
                            break
                        if code == c"D":
                            bad = self.begin_row(plan, base + at, size - at, body, 0)
                        else:
                            bad = self.begin_copy(plan, base + at, size - at, body)
                        if bad:
                            break
                        if not self.streaming:
                            code = 0
                            break
                        continue
                    bad = 1
                    break
                if size - at - 5 < body:
                    code = 0
                    break
                if self.muted or (code != c"D" and code != c"d"):
                    break
                made = body
                if code == c"D":
                    bad = self.mask_row(plan, base + at + 5, body)
                    if not bad and anew:
                        made = self.wipe_row(plan, base + at + 5, body, out + have + 5)
                else:
                    bad = self.mask_copy(plan, base + at + 5, body, out + have + 5 if anew else NULL, &made)
                if bad:
                    break
                if anew:
                    if not have:
                        first = at
                    out[have] = code
                    put32(out + have + 1, <uint32_t>(made + 4))
                    have += 5 + made
                self.rows += 1
                self.row_bytes += <uint64_t>made
                self.all_rows += 1
                self.all_bytes += <uint64_t>made
                at += 5 + body
        if anew:
            if have:
                if first > self.start:
                    self._put(memoryview(self.buf)[self.start : first])
                self._put(<bytes>(<char *>out)[:have])
                self.start = at
            free(out)
        self.at = at
        if again:
            return self._walk(plan)
        if bad == 1:
            raise ProtocolError(
                f"the backend sent a message {chr(code)!r} of {length} bytes; "
                f"limits.max_message_bytes is {self.limit}",
                "backend",
            )
        if bad == 2:
            raise ProtocolError("the backend sent a row that is not as it was described", "backend")
        if bad == 5:
            raise LimitReached(
                f"column {self.column} of this result holds a value longer than {self.limit} bytes "
                "(limits.max_message_bytes) that cannot be masked in pieces; ask for a part of it"
            )
        if bad == 6:
            raise LimitReached(
                f"a row of this COPY is longer than {self.limit} bytes (limits.max_message_bytes), and the "
                "DELIMITER makes one text of it that cannot be masked in pieces; use another one"
            )
        if bad == 3 and self.streaming:
            raise ProtocolError(
                f"column {self.column} of a row longer than limits.max_message_bytes cannot be decoded, so "
                "it cannot be masked",
                "backend",
            )
        if bad == 4:
            raise ProtocolError("the backend split a row of COPY over two messages", "backend")
        self.undecodable = bad == 3
        self.end = at + 5 + body if code else at
        return code

    cdef int mask_row(self, Plan plan, uint8_t *p, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t at = 2
        cdef int32_t length
        cdef int i
        cdef long found
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
            if plan.wipes != NULL and plan.wipes[i]:
                plan.hits[i] += 1
            elif plan.ops[i]:
                found = cell_mask(&self.env, plan.ops[i], p + at, length)
                if found < 0:
                    return 3
                plan.hits[i] += <uint64_t>found
            at += length
        return 0 if at == n else 2

    cdef int begin_row(self, Plan plan, const uint8_t *p, Py_ssize_t have, Py_ssize_t body,
                       Py_ssize_t head) noexcept nogil:
        # `head` bytes of COPY stand in front of it. Nothing is begun while too few bytes are there.
        if have < 7 + head:
            return 0
        if be16(p + 5 + head) != plan.columns or body - head < 2 + 4 * plan.columns:
            return 2
        self.begin(STREAM_ROW, 2 + head)
        self.column = 0
        self.row_left = body - head - 2
        return 0

    cdef int begin_copy(self, Plan plan, const uint8_t *p, Py_ssize_t have, Py_ssize_t body) noexcept nogil:
        cdef Py_ssize_t head = 0
        if self.copying == COPY_BINARY:
            if not self.copy_begun:
                if have < 5 + 19:
                    return 0
                head = binary_head(p + 5, body)
                if head < 0:
                    return 2
            return self.begin_row(plan, p, have, body, head)
        self.column = 1
        self.row_left = body
        if self.copy_header:
            self.begin(STREAM_LINE, 0)
        elif self.form.delimiter == c" " or self.form.delimiter == c"-":
            self.begin(STREAM_JOINED, 0)
        else:
            self.begin(STREAM_CELLS, 0)
        self.copy_header = False
        copy_stream_begin(&self.cells, body, self.window, self.limit)
        cell_stream_begin(&self.cell, CELL_LINE, body, self.window, self.limit)
        return 0

    cdef void begin(self, int how, Py_ssize_t head) noexcept nogil:
        self.streaming = how
        self.in_cell = self.row_out = False
        self.copy_begun = True
        self.ahead = 0
        self.looked = 5 + head
        self.rows += 1
        self.all_rows += 1
        self.row_bytes += <uint64_t>head
        self.all_bytes += <uint64_t>head

    cdef int stream_row(self, Plan plan, uint8_t *base, Py_ssize_t size, Py_ssize_t *at) noexcept nogil:
        # The first window of a row stays here until it is masked: what is wrong with the row is mostly known
        # by then, and can still be said in a message.
        cdef Py_ssize_t pos = at[0] + self.looked
        cdef Py_ssize_t first = pos
        cdef int bad
        if plan is None:
            return 2
        if self.streaming == STREAM_ROW:
            bad = self.stream_cells(plan, base, size, &pos)
        elif self.streaming == STREAM_LINE:
            bad = self.stream_line(base, size, &pos)
        else:
            bad = self.stream_copy(plan, base, size, &pos)
        self.row_bytes += <uint64_t>(pos - first)
        self.all_bytes += <uint64_t>(pos - first)
        self.looked = pos - at[0]
        if bad:
            return bad
        if not self.streaming or self.row_out or <size_t>self.looked >= self.window:
            self.row_out = self.streaming != STREAM_NOT
            at[0] = pos
            self.looked = 0
        return 0

    cdef int stream_line(self, uint8_t *base, Py_ssize_t size, Py_ssize_t *pos) noexcept nogil:
        cdef uint64_t hits = 0
        cdef long done
        if size - pos[0] >= self.row_left and base[pos[0] + self.row_left - 1] != c"\n":
            return 4
        done = cell_stream_mask(&self.cell, &self.env, base + pos[0], size - pos[0], &hits)
        if done < 0:
            return wrong_of(done)
        pos[0] += done
        self.row_left -= done
        if not self.cell.left:
            self.streaming = STREAM_NOT
        return 0

    cdef int stream_copy(self, Plan plan, uint8_t *base, Py_ssize_t size, Py_ssize_t *pos) noexcept nogil:
        cdef uint64_t hits = 0
        cdef Py_ssize_t first = pos[0] + self.ahead
        cdef long done
        if self.cells.left:
            done = copy_stream_mask(&self.cells, &self.env, &self.form, plan.ops, plan.wipes, plan.hits,
                                    plan.columns, base + first, size - first)
            self.column = <int>self.cells.column + 1
            if done < 0:
                return wrong_of(done)
            self.ahead += done
        done = self.ahead
        if self.streaming == STREAM_JOINED:  # a PAN may stand in two cells
            done = cell_stream_mask(&self.cell, &self.env, base + pos[0], self.ahead, &hits)
            if done < 0:
                return 6 if done == CELL_TOO_LONG else 3
        pos[0] += done
        self.ahead -= done
        if not self.cells.left and not self.ahead:
            self.streaming = STREAM_NOT
        return 0

    cdef int stream_cells(self, Plan plan, uint8_t *base, Py_ssize_t size, Py_ssize_t *pos) noexcept nogil:
        cdef int32_t length
        cdef long done
        while True:
            if not self.in_cell:
                if self.column == plan.columns:
                    self.streaming = STREAM_NOT
                    return 2 if self.row_left else 0
                if size - pos[0] < 4:
                    return 0
                length = <int32_t>be32(base + pos[0])
                pos[0] += 4
                self.row_left -= 4
                self.column += 1
                if length == -1:
                    continue
                # what is behind it has room for the lengths of the other cells
                if length < 0 or length > self.row_left - 4 * (plan.columns - self.column):
                    return 2
                if plan.wipes != NULL and plan.wipes[self.column - 1]:
                    plan.hits[self.column - 1] += 1
                    if not cell_stream_wipe(&self.cell, plan.wipes[self.column - 1], length):
                        return 5
                else:
                    cell_stream_begin(&self.cell, plan.ops[self.column - 1], length, self.window, self.limit)
                self.in_cell = True
            done = cell_stream_mask(&self.cell, &self.env, base + pos[0], size - pos[0],
                                    &plan.hits[self.column - 1])
            if done < 0:
                return wrong_of(done)
            pos[0] += done
            self.row_left -= done
            if self.cell.left:
                return 0
            self.in_cell = False

    cdef Py_ssize_t wipe_row(self, Plan plan, const uint8_t *p, Py_ssize_t n, uint8_t *out) noexcept nogil:
        # The row is as it was described: mask_row has been over it.
        cdef Py_ssize_t at = 2
        cdef Py_ssize_t have = 2
        cdef int32_t length
        cdef long made
        cdef int i
        memcpy(out, p, 2)
        for i in range(plan.columns):
            length = <int32_t>be32(p + at)
            at += 4
            made = length
            if length >= 0:
                if plan.wipes[i]:
                    made = cell_wipe(plan.wipes[i], length, out + have + 4)
                else:
                    memcpy(out + have + 4, p + at, length)
                at += length
            put32(out + have, <uint32_t>made)
            have += 4 + (made if made > 0 else 0)
        return have

    cdef int mask_copy(self, Plan plan, uint8_t *p, Py_ssize_t n, uint8_t *out,
                       Py_ssize_t *made) noexcept nogil:
        cdef long done
        cdef Py_ssize_t head = 0
        cdef int bad
        if self.copying == COPY_BINARY:
            if not self.copy_begun:
                head = binary_head(p, n)
                if head < 0:
                    return 2
                self.copy_begun = True
                if out != NULL:
                    memcpy(out, p, head)
                if head == n:
                    return 0
            if n - head == 2 and be16(p + head) == 0xffff:  # the trailer
                if out != NULL:
                    memcpy(out + head, p + head, 2)
                return 0
            bad = self.mask_row(plan, p + head, n - head)
            if not bad and out != NULL:
                made[0] = head + self.wipe_row(plan, p + head, n - head, out + head)
            return bad
        # A row of COPY in text or csv ends with a newline, which ends every chain of digits. A server
        # sends whole rows; one that does not could split a PAN, so it is not passed on.
        if n == 0:
            return 0
        if p[n - 1] != c"\n":
            return 4
        if plan is None or self.copying == COPY_NOT:
            return 2  # in lines of which nothing else is known a name and its value could hide
        if self.copy_header:  # names are text, whatever their columns are
            self.copy_header = False
            if cell_mask(&self.env, CELL_LINE, p, n) < 0:
                return 3
            if out != NULL:
                memcpy(out, p, n)
            return 0
        done = copy_mask_row(&self.env, &self.form, plan.ops, plan.wipes, plan.hits, plan.columns, p, n, out)
        if done < 0:
            return 2 if done == -1 else 3
        made[0] = done
        if self.form.delimiter == c" " or self.form.delimiter == c"-":
            # It joins the cells to one chain, and a PAN may stand in two of them.
            if cell_mask(&self.env, CELL_LINE, out if out != NULL else p, done) < 0:
                return 3
        return 0

    cdef object whole(self, bytes data, bytes head, bytes description, bint shown, Plan plan, whole_t *found):
        cdef const uint8_t *p = <const uint8_t *><const char *>data
        cdef Py_ssize_t n = len(data), at = len(head), first, tag, size = len(description)
        cdef uint64_t count = 0, bytes_ = 0
        cdef Py_ssize_t body
        cdef scan_counts_t before
        cdef int bad = 0
        cdef uint8_t *q
        if (
            len(self.buf) or self.done or self.muted or self.streaming or self.skipping or self.at
            or (plan is not None and plan.wipes != NULL) or n < at + size
            or memcmp(p, <const char *>head, at) or memcmp(p + at, <const char *>description, size)
        ):
            return None
        at += size
        first = at
        while n - at >= 5 and p[at] == c"D":
            body = <Py_ssize_t>be32(p + at + 1) - 4
            if body < 2 or body > n - at - 5 or body + 4 > self.limit:
                return None
            count += 1
            bytes_ += <uint64_t>body
            at += 5 + body
        tag = at
        if (count and plan is None) or n - at < 6 or p[at] != c"C":
            return None
        body = <Py_ssize_t>be32(p + at + 1) - 4
        if n - at - 5 - body != 6 or body > 64 or not plain_tag(p + at + 5, body, plan is not None):
            return None
        at += 5 + body
        if p[at] != c"Z" or be32(p + at + 1) != 5:
            return None
        out = PyByteArray_FromStringAndSize(<const char *>p, n)
        q = <uint8_t *>PyByteArray_AS_STRING(out)
        before = self.counts
        if n < SHORT_WORK:
            bad = self.mask_rows(plan, q, first, tag, n)
        else:
            with nogil:
                bad = self.mask_rows(plan, q, first, tag, n)
        if bad:
            self.counts = before
            if plan is not None:
                plan.take_hits()
            return None
        at = 0
        if size and not shown:
            at = size
            del out[first - size : first]
        self.rows += count
        self.row_bytes += bytes_
        self.all_rows += count
        self.all_bytes += bytes_
        found.place = self.put
        self.put += <uint64_t>(n - at)
        found.status = p[n - 1]
        found.tag, found.end = found.place + <uint64_t>(tag - at), found.place + <uint64_t>(n - at - 6)
        found.rows, found.size = self.rows, self.row_bytes
        found.all_rows, found.all_size = self.all_rows, self.all_bytes
        return out

    cdef int mask_rows(
        self, Plan plan, uint8_t *q, Py_ssize_t at, Py_ssize_t tag, Py_ssize_t n
    ) noexcept nogil:
        """Rows up to the tag, and the tag, of `n` bytes; not 0 when that cannot be."""
        cdef Py_ssize_t body
        cdef int bad = 0
        while at < tag and not bad:
            body = <Py_ssize_t>be32(q + at + 1) - 4
            bad = self.mask_row(plan, q + at + 5, body)
            at += 5 + body
        if not bad and cell_mask(&self.env, CELL_TEXT, q + tag + 5, n - 11 - tag) < 0:
            bad = 3
        return bad

    cdef dict masked_now(self):
        masked = NOTHING
        if self.counts.total:
            masked = <dict>self.take_counts()[0]
        self.rows = self.row_bytes = 0
        return masked

    @property
    def masked(self) -> bool:
        """Whether a PAN was masked since `take_counts`."""
        return self.counts.total != 0

    def body(self) -> bytes:
        """The body of the message that `advance` stopped at."""
        return bytes(self.buf[self.at + 5 : self.end])

    def mask_body(self, Py_ssize_t offset) -> int:
        """Mask the body of the message in place, as text, from `offset` on."""
        cdef uint8_t *base = self.buf
        cdef Py_ssize_t first = self.at + 5 + offset
        if first > self.end:
            raise ProtocolError("the backend sent a message that is too short", "backend")
        cdef long hits = cell_mask(&self.env, CELL_TEXT, base + first, self.end - first)
        if hits < 0:
            raise ProtocolError("a message of the backend cannot be decoded", "backend")
        return hits

    def mask_text(self, bytearray text not None) -> int:
        """Mask a text that is not in the stream (a name, a value) in place."""
        cdef uint8_t *p = text
        cdef long hits = cell_mask(&self.env, CELL_TEXT, p, len(text))
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
        self._put(data)
        self.at = self.start = self.end

    def insert(self, data: bytes) -> None:
        """`data` goes to the agent before the message, of which nothing is said yet."""
        self._cut()
        self._put(data)
        self.start = self.at

    cdef _cut(self):
        if self.at > self.start:
            self._put(memoryview(self.buf)[self.start : self.at])

    cdef _put(self, piece):
        self.done.append(piece)
        self.put += <uint64_t>len(piece)

    def release(self) -> list:
        """The buffers that may go to the agent, in order."""
        if self.start == 0 and self.at == len(self.buf) and self.at:
            # everything goes: no slice, and the next chunk gets a buffer of its own
            self._put(self.buf)
            self.buf = bytearray()
        elif self.at:
            self._cut()
            if self.at < len(self.buf):
                # what is behind belongs to the next chunk; the slices keep the old buffer alive
                self.buf = self.buf[self.at :]
            else:
                self.buf = bytearray()
        self.start = self.at = self.end = 0
        self.within_message = self.row_out
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
    def place(self) -> int:
        """Bytes that went to the agent, or may, before the message that `advance` stopped at."""
        return self.put + <uint64_t>(self.at - self.start)

    @property
    def held(self) -> int:
        """Bytes that are held back because their message is not complete."""
        return len(self.buf) - self.at
