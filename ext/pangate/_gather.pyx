# cython: freethreading_compatible = True
"""What the events of a record have in common, for its index: gathered from their lines, without a Python
object for each of what is in them.

Statements that were allowed and that ended are nearly all that a record has. Of those that look as they
nearly always do, what is the same in many is told by the bytes that it stands in; audit/index/writer.py reads
it once for each group. All others it takes one by one, in its own slower way, which gives the same."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy

from pangate._leaf import is_whole, sequence_of

cdef extern from "Python.h":
    object PyType_GenericAlloc(PyTypeObject *kind, Py_ssize_t items)

cdef enum:
    MOST_DEPTH = 16
    MOST_KEY = 4096  # bytes of what a group is told by
    MOST_TEXT = 65536  # bytes of a text whose words are taken here
    NUMBER_DIGITS = 15
    TIME_BYTES = 27


ctypedef struct Span:
    const uint8_t *p
    Py_ssize_t n


cdef class Numbers:
    """A row of integers that grows."""

    cdef long long *row
    cdef Py_ssize_t room
    cdef readonly Py_ssize_t size

    def __dealloc__(self):
        free(self.row)

    def __len__(self):
        return self.size

    cpdef int append(self, long long number) except -1:
        """Put a number behind the others."""
        cdef long long *grown
        if self.size == self.room:
            grown = <long long *>realloc(self.row, 2 * (self.room + 8) * sizeof(long long))
            if grown == NULL:
                raise MemoryError
            self.row, self.room = grown, 2 * (self.room + 8)
        self.row[self.size] = number
        self.size += 1
        return 0

    def tobytes(self):
        """All of them, eight bytes each in the order of this machine."""
        return PyBytes_FromStringAndSize(<char *>self.row, self.size * sizeof(long long))


@cython.final
cdef class Group:
    """Events that have in common what the line of the first one, `sample`, says."""

    cdef readonly bytes sample
    cdef readonly Numbers sequences
    cdef object session
    cdef object places

    def __init__(self, bytes sample not None):
        self.sample, self.sequences = sample, Numbers()


cdef inline Group group(dict groups, bytes key, bytes data):
    """The group that is told by a key, which is made when it is new."""
    found = groups.get(key)
    if found is None:
        found = groups[key] = Group(data)
    return <Group>found


ctypedef struct Line:
    bint allowed  # or else ended
    Span success, origin, principal, resource, role, session
    Span verdict, rule, effects, relations, text, parameters
    long long number, time
    const uint8_t *day


cdef inline bint is_digit(uint8_t byte) noexcept nogil:
    return <uint8_t>(byte - 48) < 10


cdef inline int word(const uint8_t **at, const uint8_t *end, const char *text, Py_ssize_t n) noexcept nogil:
    """Step over a text that has to stand here; 0 when it does not."""
    if end - at[0] < n or memcmp(at[0], text, n) != 0:
        return 0
    at[0] += n
    return 1


cdef int string(const uint8_t **at, const uint8_t *end, Span *found) noexcept nogil:
    """Step over a string; `found` is what stands between its quotes. 0 when none stands here."""
    cdef const uint8_t *p = at[0]
    if p >= end or p[0] != 34:
        return 0
    p += 1
    found.p = p
    while p < end and p[0] != 34:
        p += 2 if p[0] == 92 else 1
    if p >= end:
        return 0
    found.n = p - found.p
    at[0] = p + 1
    return 1


cdef int value(const uint8_t **at, const uint8_t *end, Span *found) noexcept nogil:
    """Step over any value; `found` is all of it. 0 when it is not whole, or too deep."""
    cdef const uint8_t *p = at[0]
    cdef Span inside
    cdef int depth = 0
    found.p = p
    while p < end:
        if p[0] == 34:
            if not string(&p, end, &inside):
                return 0
        elif p[0] == 91 or p[0] == 123:
            depth += 1
            p += 1
            if depth > MOST_DEPTH:
                return 0
            continue
        elif p[0] == 93 or p[0] == 125:
            depth -= 1
            p += 1
        elif depth == 0:
            while p < end and p[0] != 44 and p[0] != 125:
                p += 1
        else:
            p += 1
            continue
        if depth <= 0:
            found.n = p - found.p
            at[0] = p
            return depth == 0 and found.n > 0
    return 0


cdef inline bint named(Span key, const char *name, Py_ssize_t n) noexcept nogil:
    return key.n == n and memcmp(key.p, name, n) == 0


cdef int whole_number(Span digits, long long *found) noexcept nogil:
    cdef Py_ssize_t i
    found[0] = 0
    if digits.n == 0 or digits.n > NUMBER_DIGITS:
        return 0
    for i in range(digits.n):
        if not is_digit(digits.p[i]):
            return 0
        found[0] = 10 * found[0] + (digits.p[i] - 48)
    return 1


cdef inline int digits(const uint8_t *p, int n) noexcept nogil:
    """The number that `n` digits say; -1 when one is none."""
    cdef int i, found = 0
    for i in range(n):
        if not is_digit(p[i]):
            return -1
        found = 10 * found + (p[i] - 48)
    return found


cdef inline int days_of(int year, int month) noexcept nogil:
    if month == 2:
        return 28 + (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0))
    return 30 + ((month + month // 8) & 1)


cdef long long micros(const uint8_t *p) noexcept nogil:
    """Microseconds from 1970 to a time like 2026-11-25T10:00:00.000000Z; -1 for what is none such."""
    cdef int year = digits(p, 4), month = digits(p + 5, 2), day = digits(p + 8, 2)
    cdef int hour = digits(p + 11, 2), minute = digits(p + 14, 2), second = digits(p + 17, 2)
    cdef int fraction = digits(p + 20, 6)
    cdef int before, era, days
    if p[4] != 45 or p[7] != 45 or p[10] != 84 or p[13] != 58 or p[16] != 58 or p[19] != 46 or p[26] != 90:
        return -1
    if year < 1970 or not 1 <= month <= 12 or not 1 <= day <= days_of(year, month):
        return -1
    if not 0 <= hour < 24 or not 0 <= minute < 60 or not 0 <= second < 60 or fraction < 0:
        return -1
    # Years that begin in March have the day that comes and goes at their end.
    before = year - (month < 3)
    era = before // 400
    days = 146097 * era + 365 * (before % 400) + (before % 400) // 4 - (before % 400) // 100
    days += (153 * ((month + 9) % 12) + 2) // 5 + day - 1 - 719468
    return ((days * 24LL + hour) * 60 + minute) * 60000000LL + second * 1000000LL + fraction


cdef int read_data(const uint8_t **at, const uint8_t *end, Line *line) noexcept nogil:
    """Step over the data of an event. 0 when something in it is not as nearly always."""
    cdef Span key, found
    if not word(at, end, b"{", 1):
        return 0
    while True:
        if not string(at, end, &key) or not word(at, end, b":", 1) or not value(at, end, &found):
            return 0
        if named(key, b"number", 6):
            if not whole_number(found, &line.number):
                return 0
        elif named(key, b"verdict", 7):
            line.verdict = found
        elif named(key, b"rule", 4):
            line.rule = found
        elif named(key, b"effects", 7):
            line.effects = found
        elif named(key, b"relations", 9):
            line.relations = found
        elif named(key, b"text", 4):
            line.text = found
        elif named(key, b"parameters", 10):
            line.parameters = found
        elif named(key, b"masked", 6):
            if found.n != 2:
                return 0
        elif (
            named(key, b"request", 7) or named(key, b"error", 5) or named(key, b"reason", 6)
            or named(key, b"detail", 6) or named(key, b"note", 4) or named(key, b"application", 11)
            or named(key, b"large", 5) or named(key, b"role", 4) or memchr(key.p, 92, key.n) != NULL
        ):
            return 0
        if word(at, end, b"}", 1):
            return 1
        if not word(at, end, b",", 1):
            return 0


cdef int read(const uint8_t *p, Py_ssize_t n, Line *line) noexcept nogil:
    """What is in the line of an event of version 3. 0 when it has not the form that it nearly always has."""
    cdef const uint8_t *end = p + n
    cdef Span skipped
    cdef Py_ssize_t i
    if not word(&p, end, b'{"clock":', 9) or not string(&p, end, &skipped):
        return 0
    if word(&p, end, b',"code":"statement.allowed","config":', 37):
        line.allowed = True
    elif not word(&p, end, b',"code":"statement.finished","config":', 38):
        return 0
    if not string(&p, end, &skipped) or not word(&p, end, b',"data":', 8) or not read_data(&p, end, line):
        return 0
    if not word(&p, end, b',"origin":', 10) or not string(&p, end, &line.origin):
        return 0
    if not word(&p, end, b',"principal":', 13) or not string(&p, end, &line.principal):
        return 0
    if not word(&p, end, b',"resource":', 12) or not string(&p, end, &line.resource):
        return 0
    if not word(&p, end, b',"role":', 8) or not string(&p, end, &line.role) or line.role.n == 0:
        return 0
    if not word(&p, end, b',"sequence":', 12) or not value(&p, end, &skipped):
        return 0
    if not word(&p, end, b',"session":', 11) or not string(&p, end, &line.session):
        return 0
    for i in range(line.session.n):
        if line.session.p[i] == 92 or line.session.p[i] > 127:
            return 0
    if not word(&p, end, b',"statement":', 13) or not value(&p, end, &skipped):
        return 0
    if not word(&p, end, b',"success":', 11) or not value(&p, end, &line.success):
        return 0
    if not word(&p, end, b',"time":', 8) or not string(&p, end, &skipped) or skipped.n != TIME_BYTES:
        return 0
    line.day, line.time = skipped.p, micros(skipped.p)
    return line.time >= 0 and word(&p, end, b',"v":3,', 7)


@cython.final
cdef class Gather:
    """What was gathered of some events. `places` gives, for the line of a statement, the names of the places
    that it is about."""

    cdef readonly dict heads
    """Groups of those that have session, principal, origin, resource, role and day in common."""
    cdef readonly dict kinds
    """Groups of those that have code, success, verdict, rule, effects, tables and resource in common."""
    cdef readonly list words
    """(sequence, text) of those that have a text."""
    cdef readonly Numbers sequences
    cdef readonly Numbers offsets
    cdef readonly Numbers times
    """Of every event: its sequence, its place in the file, microseconds since 1970."""
    cdef readonly Numbers entries
    """Sequences of those that are told by themselves."""
    cdef readonly Numbers began
    cdef readonly Numbers behind
    """Of statements that ended: their sequence, and how many events behind it that was."""
    cdef public dict running
    """By session and number, statements that have not ended: (sequence, places)."""
    cdef public Py_ssize_t room
    """How many more of these are remembered."""
    cdef object places
    cdef uint8_t key[MOST_KEY]
    cdef Py_ssize_t size
    cdef bytearray text

    def __init__(self, places, Py_ssize_t room):
        self.places, self.room = places, room
        self.heads, self.kinds, self.words, self.running = {}, {}, [], {}
        self.sequences, self.offsets, self.times = Numbers(), Numbers(), Numbers()
        self.entries, self.began, self.behind = Numbers(), Numbers(), Numbers()
        self.text = bytearray(MOST_TEXT)

    def take(self, lines, Py_ssize_t most, slow):
        """Take up to `most` of `lines`, tuples of sequence, offset and bytes; `slow` takes those that are not
        as nearly always. Returns how many were taken, and the last of them."""
        cdef Py_ssize_t count = 0
        last = None
        for last in lines:
            if not isinstance(last, tuple) or len(last) != 3:
                raise TypeError("a line is a tuple of sequence, offset and bytes")
            if not self.one(last):
                slow(last)
            count += 1
            if count == most:
                break
        return count, last

    cdef bint one(self, taken) except -1:
        """Take a line. False when it has to go the other way, and then nothing of it was taken."""
        cdef bytes data = <bytes>PyTuple_GET_ITEM(taken, 2)
        cdef long long sequence = <object>PyTuple_GET_ITEM(taken, 0)
        cdef Line line
        cdef Group head, kind
        line.allowed = False
        line.number = 0
        line.verdict = line.rule = line.effects = line.relations = line.text = line.parameters = Span(NULL, 0)
        if not read(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &line):
            return False
        # what was damaged may look like anything
        if not is_whole(data):
            return False
        words = self.worded(&line)
        if words is None:
            return False
        self.size = 0
        if not (self.put(line.day, 10) and self.add(line.origin) and self.add(line.principal)
                and self.add(line.resource) and self.add(line.role) and self.add(line.session)):
            return False
        key = self.taken_key()
        if not (self.put(<const uint8_t *>(b"a" if line.allowed else b"f"), 1) and self.add(line.success)
                and self.add(line.verdict) and self.add(line.rule) and self.add(line.effects)
                and self.add(line.relations) and self.add(line.resource)):
            return False
        kind = group(self.kinds, self.taken_key(), data)
        head = group(self.heads, key, data)
        if head.session is None:
            head.session = PyUnicode_DecodeUTF8(<char *>line.session.p, line.session.n, "strict")
        head.sequences.append(sequence)
        kind.sequences.append(sequence)
        self.sequences.append(sequence)
        self.offsets.append(<object>PyTuple_GET_ITEM(taken, 1))
        self.times.append(line.time)
        if words:
            self.words.append((sequence, words))
        if line.allowed:
            self.started(head, kind, line.number, sequence)
            self.entries.append(sequence)
        elif not self.finished(head, line.number, sequence):
            self.entries.append(sequence)
        return True

    cdef bytes taken_key(self):
        """The key, and an empty one for the next."""
        size, self.size = self.size, 0
        return PyBytes_FromStringAndSize(<char *>self.key, size)

    cdef bint put(self, const uint8_t *p, Py_ssize_t n) noexcept:
        if n > MOST_KEY - self.size:
            return False
        memcpy(self.key + self.size, p, n)
        self.size += n
        return True

    cdef bint add(self, Span part) noexcept:
        """Put a part behind the key. The byte in front of it stands in no JSON as it is."""
        return self.put(b"\0", 1) and (part.n == 0 or self.put(part.p, part.n))

    cdef int started(self, Group head, Group kind, long long number, long long sequence) except -1:
        if kind.places is None:
            kind.places = self.places(kind.sample)
        if self.room > 0:
            self.room -= 1
            mine = self.running.get(head.session)
            if mine is None:
                mine = self.running[head.session] = {}
            (<dict>mine)[number] = (sequence, kind.places)
        return 0

    cdef bint finished(self, Group head, long long number, long long sequence) except -1:
        """Tell of a statement when it ended; false when nobody knows which it was."""
        cdef long long first
        mine = self.running.get(head.session)
        began = None if mine is None else (<dict>mine).pop(number, None)
        if began is None:
            return False
        self.room += 1
        first = began[0]
        self.began.append(first)
        self.behind.append(sequence - first)
        return True

    cdef object worded(self, Line *line):
        """The text whose words an event is found by, which may be empty; None for one that is not plain."""
        cdef const uint8_t *p
        cdef const uint8_t *end
        cdef Span one
        cdef Py_ssize_t size = 0
        if line.text.n + line.parameters.n > MOST_TEXT:
            return None
        if line.text.n:
            if line.text.p[0] != 34:
                return None
            size = self.plain(line.text.p + 1, line.text.n - 2, size)
        if line.parameters.n > 2 and size >= 0:
            p, end = line.parameters.p, line.parameters.p + line.parameters.n
            if p[0] != 91:
                return None
            while True:
                p += 1  # over the bracket or comma
                if not word(&p, end, b"null", 4):
                    if not string(&p, end, &one):
                        return None
                    self.text[size] = 10
                    size = self.plain(one.p, one.n, size + 1)
                    if size < 0:
                        return None
                if p >= end or p[0] != 44:
                    break
            if p != end - 1 or p[0] != 93:
                return None
        elif line.parameters.n and line.parameters.p[0] != 91:
            return None
        if size < 0:
            return None
        try:
            return PyUnicode_DecodeUTF8(<char *>self.text, size, "strict")
        except UnicodeDecodeError:
            return None

    cdef Py_ssize_t plain(self, const uint8_t *p, Py_ssize_t n, Py_ssize_t size) noexcept:
        """Put what a JSON string says behind the text; its new size, -1 for an escape that is left to
        others."""
        cdef uint8_t *out = <uint8_t *><char *>self.text + size
        cdef const uint8_t *end = p + n
        cdef const uint8_t *escape
        cdef Py_ssize_t part
        while p < end:
            escape = <const uint8_t *>memchr(p, 92, end - p)
            part = (end if escape == NULL else escape) - p
            memcpy(out, p, part)
            out += part
            p += part
            if p < end:
                if p[1] == 110:
                    out[0] = 10
                elif p[1] == 116:
                    out[0] = 9
                elif p[1] == 114:
                    out[0] = 13
                elif p[1] == 34 or p[1] == 92:
                    out[0] = p[1]
                else:
                    return -1
                out += 1
                p += 2
        return out - <uint8_t *><char *>self.text


cdef inline void give(tuple made, Py_ssize_t place, part):
    Py_INCREF(part)
    PyTuple_SET_ITEM(made, place, part)


def split(bytes data not None, long long at, kind not None, number not None):
    """The whole lines of `data`, which stands at byte `at` of a file, as tuples of the class `kind`:
    sequence, offset, bytes. Zeros between lines are passed over. `number(line, offset)` is asked for the
    sequence of what has none. Returns them, and how many bytes they take."""
    cdef const uint8_t *begin = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef const uint8_t *p = begin
    cdef const uint8_t *end = begin + PyBytes_GET_SIZE(data)
    cdef const uint8_t *stop
    cdef list found = []
    cdef bytes line
    if not isinstance(kind, type) or not issubclass(kind, tuple):
        raise TypeError("lines are tuples")
    while p < end:
        if p[0] == 0:
            p += 1
            continue
        stop = <const uint8_t *>memchr(p, 10, end - p)
        if stop == NULL:
            break
        line = PyBytes_FromStringAndSize(<char *>p, stop - p)
        offset = at + (p - begin)
        sequence = sequence_of(line) or number(line, offset)
        made = PyType_GenericAlloc(<PyTypeObject *><PyObject *>kind, 3)
        give(<tuple>made, 0, sequence)
        give(<tuple>made, 1, offset)
        give(<tuple>made, 2, line)
        found.append(made)
        p = stop + 1
    return found, p - begin
