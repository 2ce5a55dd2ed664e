# cython: freethreading_compatible = True
"""Events as the bytes of leaves: the canonical encoding, with every text in it masked on the way.

The tests have the same in Python, slow and obvious (tests/leaves.py); both give the same bytes."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_GET_LENGTH
from libc.math cimport INFINITY, floor, modf, rint
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy

from pangate._frame cimport Names
from pangate._scan cimport Scanner

from collections.abc import Mapping

cdef extern from "cell.h" nogil:
    enum:
        CELL_TEXT
    long cell_mask(const cell_env_t *env, size_t op, uint8_t *cell, size_t len)
    int cell_is_document(const cell_env_t *env, const uint8_t *cell, size_t len, int more)

cdef extern from "crc.h" nogil:
    uint32_t crc32 "crc_of"(const uint8_t *data, size_t size)
    uint32_t crc_of_any(const uint8_t *data, size_t size)

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    char *PyOS_double_to_string(double value, char form, int precision, int flags, int *kind) except NULL
    void PyMem_Free(void *p)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    enum:
        Py_DTSF_ADD_DOT_0

cdef enum:
    MAX_DEPTH = 16
    SHORTEST_PAN = 12
    MANY = 1024  # texts, and sets of keys, whose bytes are kept
    LONG = 256  # characters of a text, and keys of a set, that are not kept

cdef double SMALL = 1e11  # integers below have too few digits for a PAN
cdef double EXACT = 9007199254740992.0  # 2 ** 53: readers take numbers as doubles
cdef double LAST_SECOND = 253402300799.0  # the year 9999

cdef uint8_t PLAIN[256]  # bytes that stand in a JSON string as they are
cdef const char *HEX = "0123456789abcdef"
cdef dict ESCAPES = {8: b"b", 9: b"t", 10: b"n", 12: b"f", 13: b"r", 34: b'"', 92: b"\\"}
cdef char SHORT[256]
cdef uint8_t PAIRS[200]  # the numbers below a hundred


def crc_of(const uint8_t[::1] data not None, bint portable=False):
    """CRC-32 as zlib has it; with `portable` as processors do it that cannot do better."""
    cdef const uint8_t *p = &data[0] if data.shape[0] else <const uint8_t *>b""
    return crc_of_any(p, data.shape[0]) if portable else crc32(p, data.shape[0])


cdef enum:
    CHECK_BYTES = 20  # of the last field: its name, eight letters, what closes it
    SEQUENCE_DIGITS = 18


def is_whole(bytes line not None):
    """Whether a leaf ends with the check of all that stands before it."""
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(line)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(line) - CHECK_BYTES
    cdef uint32_t crc
    cdef int i
    if n < 0 or memcmp(p + n, b',"whole":"', 10) != 0 or p[n + 18] != 34 or p[n + 19] != 125:
        return False
    crc = crc32(p, n)
    for i in range(8):
        if p[n + 10 + i] != 97 + (crc >> (28 - 4 * i) & 15):
            return False
    return True


def sequence_of(bytes line not None):
    """The sequence of a leaf; 0 when it has none. What stands in front of it is data, which may have any
    names, so it is the last one that counts."""
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(line)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(line), at = n - 11, i
    cdef long long found = 0
    while at >= 0 and (p[at] != 34 or memcmp(p + at, b'"sequence":', 11) != 0):
        at -= 1
    if at < 0:
        return 0
    at += 11
    i = at
    while i < n and i - at < SEQUENCE_DIGITS and 48 <= p[i] <= 57:
        found = found * 10 + (p[i] - 48)
        i += 1
    if i == at or n - i < 12 or memcmp(p + i, b',"session":"', 12) != 0:
        return 0
    return found


for _byte in range(100):
    PAIRS[2 * _byte], PAIRS[2 * _byte + 1] = b"%02d" % _byte

for _byte in range(256):
    PLAIN[_byte] = _byte >= 32 and _byte not in (34, 92)
    SHORT[_byte] = ESCAPES.get(_byte, b"\0")[0]


cdef inline Py_ssize_t digits_in(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Digits, and stars that may stand for some."""
    cdef Py_ssize_t i, count = 0
    for i in range(n):
        count += (<uint8_t>(p[i] - 48) < 10) | (p[i] == 42)
    return count


cdef enum:
    HOLE_END = 0
    HOLE_CLOCK
    HOLE_SEQUENCE
    HOLE_STATEMENT
    HOLE_TIME
    HOLE_VALUE  # and those behind it, of the values in their order


cdef enum:
    FIELDS = 11  # of an event, a tuple in the order of pangate.model.Event
    CODE = 0
    SESSION = 2
    PRINCIPAL
    ORIGIN
    RESOURCE
    SUCCESS
    DATA
    CONFIG
    ROLE
    STATEMENT


cdef inline object field(event, Py_ssize_t place):
    """A field of an event by its place: by its name it takes as long as all that is done with it."""
    return <object>PyTuple_GET_ITEM(event, place)


@cython.final
cdef class Form:
    """The leaf of an event that comes again, all but what differs: bytes, and what stands behind them."""

    def __cinit__(self):
        self.pieces, self.holes = [], b""
        self.size = self.values = 0

    def __len__(self):
        """Bytes of what does not differ."""
        return self.size


@cython.final
cdef class Encoder:
    """Makes leaves of events. For one thread.

    What is quick about it: the bytes of texts that come again in the head of events are kept, and so is the
    order of each set of keys. None of this shows in what comes out."""

    def __cinit__(self, Scanner scanner not None, Names names not None):
        self.scanner, self.names = scanner, names
        self.env.rules, self.env.counts, self.env.types = scanner.rules, NULL, NULL
        self.env.names, self.env.kind = &names.table, 0
        self.heads, self.orders = {}, {}
        self.second = -1.0

    def __dealloc__(self):
        free(self.out)
        free(self.scratch)

    def encode(self, event, long long sequence, double time, str clock not None):
        """The leaf of `event` with this sequence, which happened at `time`, in seconds since 1970, by a clock
        in the state `clock`.

        TypeError for data that has no form, ValueError for a time that has none."""
        return self.leaf(event, sequence, time, clock)

    cdef bytes leaf(self, event, long long sequence, double time, str clock):
        if not PyTuple_Check(event) or PyTuple_GET_SIZE(event) != FIELDS:
            raise TypeError("an event is a tuple of its fields")
        self.at = 0
        self.put(b'{"clock":')
        self.head(clock)
        self.put(b',"code":')
        self.head(field(event, CODE))
        self.put(b',"config":')
        self.head(field(event, CONFIG))
        self.put(b',"data":')
        self.value(field(event, DATA), 0)
        self.put(b',"origin":')
        self.head(field(event, ORIGIN))
        self.put(b',"principal":')
        self.head(field(event, PRINCIPAL))
        self.put(b',"resource":')
        self.head(field(event, RESOURCE))
        self.put(b',"role":')
        self.head(field(event, ROLE))
        self.put(b',"sequence":')
        self.integer(sequence)
        self.put(b',"session":')
        self.head(field(event, SESSION))
        self.put(b',"statement":')
        self.integer(field(event, STATEMENT))
        self.put(b',"success":true' if field(event, SUCCESS) else b',"success":false')
        self.put(b',"time":"')
        self.when(time)
        self.put(b'","v":3')
        self.check()
        return PyBytes_FromStringAndSize(<char *>self.out, self.at)

    def form(self, event, tuple holes not None):
        """The form of events that are like `event` but for their sequence, time, clock, statement, and the
        values that their data has for the keys `holes`, which sort in this order."""
        cdef Form made = Form()
        cdef dict data = dict(event.data)
        cdef bint first = True
        cdef Py_ssize_t filled = 0
        self.at = 0
        self.put(b'{"clock":')
        self.hole(made, HOLE_CLOCK)
        self.put(b',"code":')
        self.head(event.code)
        self.put(b',"config":')
        self.head(event.config)
        self.put(b',"data":{')
        for key, name in self.order_of(tuple(data)):
            if not first:
                self.put(b",")
            first = False
            self.put(name)
            if key in holes:
                if holes[filled] != key:
                    raise ValueError(f"{holes} are not in the order of their names")
                self.hole(made, HOLE_VALUE + <int>filled)
                filled += 1
            else:
                self.value(data[key], 1)
        if filled != len(holes):
            raise ValueError(f"the data of the event does not have all of {holes}")
        self.put(b'},"origin":')
        self.head(event.origin)
        self.put(b',"principal":')
        self.head(event.principal)
        self.put(b',"resource":')
        self.head(event.resource)
        self.put(b',"role":')
        self.head(event.role)
        self.put(b',"sequence":')
        self.hole(made, HOLE_SEQUENCE)
        self.put(b',"session":')
        self.head(event.session)
        self.put(b',"statement":')
        self.hole(made, HOLE_STATEMENT)
        self.put(b',"success":true' if event.success else b',"success":false')
        self.put(b',"time":"')
        self.hole(made, HOLE_TIME)
        self.put(b'","v":3')
        self.hole(made, HOLE_END)
        made.values = filled
        return made

    cdef int hole(self, Form made, int what) except -1:
        made.pieces.append(PyBytes_FromStringAndSize(<char *>self.out, self.at))
        made.holes += bytes((what,))
        made.size += self.at
        self.at = 0
        return 0

    def fill(self, Form form not None, long long sequence, double time, str clock not None,
             long long statement, tuple values not None):
        """The leaf of an event of this form."""
        return self.filled(form, sequence, time, clock, statement, values)

    cdef bytes filled(self, Form form, long long sequence, double time, str clock, long long statement,
                      tuple values):
        cdef Py_ssize_t i
        cdef int what
        cdef const uint8_t *holes = <const uint8_t *>PyBytes_AS_STRING(form.holes)
        if len(values) != form.values:
            raise ValueError(f"a form with {form.values} values was given {len(values)}")
        self.at = 0
        for i in range(len(form.pieces)):
            self.put(<bytes>form.pieces[i])
            what = holes[i]
            if what >= HOLE_VALUE:
                self.value(values[what - HOLE_VALUE], 1)
            elif what == HOLE_TIME:
                self.when(time)
            elif what == HOLE_CLOCK:
                self.head(clock)
            elif what == HOLE_SEQUENCE:
                self.integer(sequence)
            elif what == HOLE_STATEMENT:
                self.integer(statement)
        self.check()
        return PyBytes_FromStringAndSize(<char *>self.out, self.at)

    def encode_value(self, value):
        """The bytes of one value of an event's data."""
        self.at = 0
        self.value(value, 0)
        return PyBytes_FromStringAndSize(<char *>self.out, self.at)

    cdef int check(self) except -1:
        """The last field: CRC-32 of all that stands before it, in letters."""
        cdef uint32_t crc = crc32(self.out, self.at)
        cdef int i
        self.put(b',"whole":"')
        self.reserve(10)
        for i in range(8):
            self.out[self.at + i] = <uint8_t>(97 + (crc >> (28 - 4 * i) & 15))
        self.out[self.at + 8], self.out[self.at + 9] = 34, 125
        self.at += 10
        return 0

    # Bytes

    cdef inline int reserve(self, Py_ssize_t more) except -1:
        cdef uint8_t *made
        cdef Py_ssize_t room
        if self.at + more > self.room:
            room = (self.at + more) * 2 + 1024
            made = <uint8_t *>realloc(self.out, room)
            if made == NULL:
                raise MemoryError
            self.out, self.room = made, room
        return 0

    cdef inline int put(self, bytes data) except -1:
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        self.reserve(n)
        memcpy(self.out + self.at, PyBytes_AS_STRING(data), n)
        self.at += n
        return 0

    cdef inline int integer(self, long long value) except -1:
        cdef uint8_t digits[24]
        cdef int i = 24
        cdef unsigned long long rest = -<unsigned long long>value if value < 0 else <unsigned long long>value
        cdef unsigned int pair
        self.reserve(24)
        while rest > 99:
            i -= 2
            pair = <unsigned int>(rest % 100)
            memcpy(digits + i, &PAIRS[2 * pair], 2)
            rest //= 100
        if rest > 9:
            i -= 2
            memcpy(digits + i, &PAIRS[2 * rest], 2)
        else:
            i -= 1
            digits[i] = <uint8_t>(48 + rest)
        if value < 0:
            i -= 1
            digits[i] = 45
        memcpy(self.out + self.at, digits + i, 24 - i)
        self.at += 24 - i
        return 0

    cdef void two(self, char *place, int value) noexcept:
        place[0] = <char>(48 + value // 10)
        place[1] = <char>(48 + value % 10)

    cdef int when(self, double time) except -1:
        """The moment in UTC with microseconds, rounded to the nearest, half to even."""
        cdef double second
        cdef double micro = rint(modf(time, &second) * 1e6)
        cdef int64_t days, era, of_era, year_of_era, day_of_year, month, year, rest
        cdef int i
        if micro >= 1e6:
            micro -= 1e6
            second += 1
        if not 0 <= time or second > LAST_SECOND:
            raise ValueError(f"a time of {time} seconds since 1970 has no form")
        if second != self.second:
            # days to a date: Howard Hinnant, chrono-compatible low-level date algorithms
            days = <int64_t>floor(second / 86400)
            rest = <int64_t>second - days * 86400
            days += 719468
            era = days // 146097
            of_era = days - era * 146097
            year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
            day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
            month = (5 * day_of_year + 2) // 153
            self.two(self.moment + 8, <int>(day_of_year - (153 * month + 2) // 5 + 1))
            month = month + 3 if month < 10 else month - 9
            year = year_of_era + era * 400 + (month <= 2)
            self.two(self.moment, <int>(year // 100))
            self.two(self.moment + 2, <int>(year % 100))
            self.two(self.moment + 5, <int>month)
            self.two(self.moment + 11, <int>(rest // 3600))
            self.two(self.moment + 14, <int>(rest // 60 % 60))
            self.two(self.moment + 17, <int>(rest % 60))
            self.moment[4] = self.moment[7] = 45
            self.moment[10] = 84
            self.moment[13] = self.moment[16] = 58
            self.moment[19] = 46
            self.second = second
        self.reserve(32)
        memcpy(self.out + self.at, self.moment, 20)
        rest = <int64_t>micro
        for i in range(25, 19, -1):
            self.out[self.at + i] = <uint8_t>(48 + rest % 10)
            rest //= 10
        self.out[self.at + 26] = 90
        self.at += 27
        return 0

    # Texts

    cdef inline int head(self, str text) except -1:
        """A text that is likely to come again."""
        cdef bytes kept = <bytes>self.heads.get(text)
        cdef Py_ssize_t began = self.at
        if kept is not None:
            return self.put(kept)
        self.text(text)
        if PyUnicode_GET_LENGTH(text) <= LONG:
            if len(self.heads) >= MANY:
                self.heads.clear()
            self.heads[text] = PyBytes_FromStringAndSize(<char *>self.out + began, self.at - began)
        return 0

    cdef int text(self, str text) except -1:
        """A text, masked as a cell of a result is, as a JSON string."""
        cdef Py_ssize_t length = PyUnicode_GET_LENGTH(text), n = 0
        cdef const uint8_t *p
        try:
            p = <const uint8_t *>PyUnicode_AsUTF8AndSize(text, &n)
        except UnicodeEncodeError:
            text = _whole(text)
            p = <const uint8_t *>PyUnicode_AsUTF8AndSize(text, &n)
        if self.may_change(p, n, length):
            p = self.masked(p, n)
        return self.escaped(p, n)

    cdef bint may_change(self, const uint8_t *p, Py_ssize_t n, Py_ssize_t length) noexcept:
        """Whether the mask could find something. A PAN takes 12 digits however it is spelled, and so does one
        in front of a track that has stars already; the names of sensitive values count in documents only."""
        if length < SHORTEST_PAN and memchr(p, 34, n) == NULL:
            return False
        return cell_is_document(&self.env, p, n, 0) or digits_in(p, n) >= SHORTEST_PAN

    cdef const uint8_t *masked(self, const uint8_t *p, Py_ssize_t n) except NULL:
        cdef uint8_t *made
        if n > self.scratch_room:
            free(self.scratch)
            self.scratch_room = 0
            self.scratch = <uint8_t *>malloc(n * 2)
            if self.scratch == NULL:
                raise MemoryError
            self.scratch_room = n * 2
        made = self.scratch
        memcpy(made, p, n)
        if cell_mask(&self.env, CELL_TEXT, made, n) < 0:
            raise MemoryError
        return made

    cdef int escaped(self, const uint8_t *p, Py_ssize_t n) except -1:
        cdef Py_ssize_t i, begun = 0
        cdef uint8_t *out
        cdef uint8_t byte
        self.reserve(n * 6 + 2)
        out = self.out + self.at
        out[0] = 34
        out += 1
        for i in range(n):
            byte = p[i]
            if PLAIN[byte]:
                continue
            memcpy(out, p + begun, i - begun)
            out += i - begun
            begun = i + 1
            out[0] = 92
            if SHORT[byte]:
                out[1] = SHORT[byte]
                out += 2
            else:
                out[1], out[2], out[3] = 117, 48, 48
                out[4], out[5] = HEX[byte >> 4], HEX[byte & 15]
                out += 6
        memcpy(out, p + begun, n - begun)
        out += n - begun
        out[0] = 34
        self.at = out + 1 - self.out
        return 0

    # Values

    cdef int value(self, value, int depth) except -1:
        cdef long long number
        cdef int overflow = 0
        if depth > MAX_DEPTH:
            raise TypeError(f"data of an event is nested deeper than {MAX_DEPTH}")
        if type(value) is str:
            return self.text(value)
        if isinstance(value, str):
            return self.text(str.__str__(value))
        if value is None:
            return self.put(b"null")
        if value is True:
            return self.put(b"true")
        if value is False:
            return self.put(b"false")
        if isinstance(value, int):
            number = PyLong_AsLongLongAndOverflow(value, &overflow)
            if not overflow and -SMALL < number < SMALL:
                return self.integer(number)
            return self.large(value)
        if isinstance(value, float):
            return self.floating(value)
        if type(value) is dict:
            if not <dict>value:
                return self.put(b"{}")
            return self.mapping(value, depth)
        if type(value) is list:
            return self.items(value, depth)
        if type(value) is tuple:
            return self.row(value, depth)
        if isinstance(value, Mapping):
            return self.mapping(dict(value), depth)
        if isinstance(value, (list, tuple)):
            return self.items(list(value), depth)
        raise TypeError(f"data of an event cannot hold a {type(value).__name__}")

    cdef int items(self, list value, int depth) except -1:
        cdef bint first = True
        self.put(b"[")
        for item in value:
            if not first:
                self.put(b",")
            first = False
            self.value(item, depth + 1)
        return self.put(b"]")

    cdef int row(self, tuple value, int depth) except -1:
        cdef Py_ssize_t i
        self.put(b"[")
        for i in range(PyTuple_GET_SIZE(value)):
            if i:
                self.put(b",")
            self.value(<object>PyTuple_GET_ITEM(value, i), depth + 1)
        return self.put(b"]")

    cdef int large(self, value) except -1:
        """An integer that may be a PAN, or too large for some readers: then as text."""
        cdef str text = str(value)
        cdef Py_ssize_t began
        cdef bytes number = text.encode()
        if -EXACT <= value <= EXACT:
            began = self.at
            self.text(text)
            if PyBytes_FromStringAndSize(<char *>self.out + began + 1, self.at - began - 2) != number:
                return 0
            self.at = began
            return self.put(number)
        return self.text(text)

    cdef int floating(self, double value) except -1:
        cdef Py_ssize_t began, n
        cdef char *made
        cdef bytes number
        cdef double micro
        if not -INFINITY < value < INFINITY:
            return self.text(str(value))
        micro = rint(value * 1e6)
        if 10 <= micro < SMALL and micro / 1e6 == value:
            return self.decimal(<int64_t>micro)
        if 1 <= micro < 10 and micro / 1e6 == value:
            self.integer(<int64_t>micro)
            return self.put(b"e-6")
        made = PyOS_double_to_string(value, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
        try:
            number = made
        finally:
            PyMem_Free(made)
        n = PyBytes_GET_SIZE(number)
        if n >= SHORTEST_PAN or not -EXACT <= value <= EXACT:
            began = self.at
            self.text(number.decode())
            if not -EXACT <= value <= EXACT or (
                PyBytes_FromStringAndSize(<char *>self.out + began + 1, self.at - began - 2) != number
            ):
                return 0
            self.at = began
        if b"e" in number:
            number = _plain_float(number)
        return self.put(number)

    cdef int decimal(self, int64_t micro) except -1:
        """A number of so many millionths, less than 12 digits: no shorter decimal is the same float."""
        cdef int64_t rest = micro % 1000000
        cdef int i
        self.integer(micro // 1000000)
        self.reserve(7)
        self.out[self.at] = 46
        for i in range(6, 0, -1):
            self.out[self.at + i] = <uint8_t>(48 + rest % 10)
            rest //= 10
        i = 6
        while i > 1 and self.out[self.at + i] == 48:
            i -= 1
        self.at += i + 1
        return 0

    cdef int mapping(self, dict value, int depth) except -1:
        cdef tuple keys = tuple(value)
        cdef tuple order = <tuple>self.orders.get(keys)
        cdef bint first = True
        if order is None:
            order = self.order_of(keys)
        self.put(b"{")
        for key, name in order:
            if not first:
                self.put(b",")
            first = False
            self.put(name)
            self.value(value[key], depth + 1)
        return self.put(b"}")

    cdef tuple order_of(self, tuple keys):
        """The keys of a mapping in the order of what they are called, with their bytes."""
        cdef dict made = {}
        cdef list order = []
        cdef str name, unique
        cdef Py_ssize_t began = self.at
        cdef bint keep = len(keys) <= LONG
        for key in keys:
            keep = keep and type(key) is str and len(key) <= LONG
            name = unique = self.masked_text(str(key))
            number = 1
            while unique in made:
                # Two keys may differ only in the digits that the mask takes away.
                number += 1
                unique = f"{name}#{number}"
            made[unique] = key
        for name, key in sorted(made.items(), key=_first):
            self.raw(name)
            self.put(b":")
            order.append((key, PyBytes_FromStringAndSize(<char *>self.out + began, self.at - began)))
            self.at = began
        found = tuple(order)
        if keep:
            if len(self.orders) >= MANY:
                self.orders.clear()
            self.orders[keys] = found
        return found

    cdef str masked_text(self, str text):
        cdef Py_ssize_t n = 0
        cdef const uint8_t *p
        text = _whole(text)
        p = <const uint8_t *>PyUnicode_AsUTF8AndSize(text, &n)
        if not self.may_change(p, n, PyUnicode_GET_LENGTH(text)):
            return text
        return self.masked(p, n)[:n].decode()

    cdef int raw(self, str text) except -1:
        cdef Py_ssize_t n = 0
        cdef const uint8_t *p = <const uint8_t *>PyUnicode_AsUTF8AndSize(text, &n)
        return self.escaped(p, n)


def _first(pair):
    return pair[0]


def _whole(str text):
    # A lone surrogate has no UTF-8. It becomes "?", which, unlike a numeric escape, puts no digit beside
    # what follows: that could hide a card number from the mask.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _plain_float(bytes number):
    """A float that Python writes with an exponent below -4, as the canonical form has it: 0.00001 to
    0.0000999 without one, no leading zero in others."""
    digits, _, exponent = number.partition(b"e-")
    power = int(exponent)
    if power > 5:
        return digits + b"e-%d" % power
    sign = b"-" if digits.startswith(b"-") else b""
    return sign + b"0." + b"0" * (power - 1) + digits.lstrip(b"-").replace(b".", b"")
