# cython: freethreading_compatible = True
"""One look at a text for all places where a rule or a decoder might have something to do, so that the rules
themselves, which are Python, see only these."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

cdef extern from "text.h" nogil:
    enum:
        TEXT_BLOCKS
    ctypedef struct text_names_t:
        uint32_t last
        uint32_t before
        uint32_t third
    int text_blocks(const uint8_t *p, size_t n, const text_names_t *names, uint64_t *marks, uint64_t *leads)

cdef extern from *:
    int __builtin_ctzll(uint64_t bits) nogil

cdef enum:
    NAME = 1      # : = or >, behind what may be the end of a name that has a rule
    PERCENT = 2   # % of an encoded digit, separator or track mark, or of a character that ends in a digit
    SLASH = 3     # \u or \x
    ENTITY = 4    # &# or &n
    PLUS = 5      # + between digits
    BEYOND = 6    # a digit beyond ASCII, or a separator beyond ASCII behind a digit
    KINDS = 7
    TRACK = 7     # ; or ^ where a track may have one

    RELEASE = 16384  # bytes from which on other threads may run meanwhile

    POINTS = 0x20000  # all digits of Unicode are below

ctypedef struct places_t:
    size_t *at
    size_t count, room

cdef uint8_t KIND[256]
cdef uint8_t BLANK[256]

for _byte in range(256):
    KIND[_byte] = {58: NAME, 61: NAME, 62: NAME, 37: PERCENT, 92: SLASH, 38: ENTITY, 43: PLUS,
                   59: TRACK, 94: TRACK}.get(_byte, 0)
    BLANK[_byte] = _byte in b"\"'\\] \t"


cdef inline bint digit(uint8_t byte) noexcept nogil:
    return <uint8_t>(byte - 48) < 10


cdef inline bint is_name(const uint8_t *p, size_t i, const uint8_t *ends) noexcept nogil:
    cdef unsigned three
    cdef size_t skipped = 0
    while i and skipped < 5 and BLANK[p[i - 1]]:
        i -= 1
        skipped += 1
    if i < 3:
        return i > 0
    three = (p[i - 3] & 31) << 10 | (p[i - 2] & 31) << 5 | (p[i - 1] & 31)
    return ends[three >> 3] >> (three & 7) & 1


cdef inline bint is_percent(const uint8_t *p, size_t i, size_t n) noexcept nogil:
    cdef uint8_t a, b
    if i + 2 >= n:
        return False
    a, b = p[i + 1], p[i + 2]
    if a == 51 and (digit(b) or (b | 32) == 100):  # a digit, or =
        return digit(b) or (i and digit(p[i - 1]))
    if a == 50 and (b == 48 or (b | 32) == 100) and i and digit(p[i - 1]):  # a separator
        return True
    if a == 53 and (b | 32) == 101:  # ^
        return i and digit(p[i - 1])
    # another character whose last place is a digit, which would glue to a number behind it
    return digit(b) and i + 3 < n and digit(p[i + 3])


cdef inline bint is_place(int kind, const uint8_t *p, size_t i, size_t n, const uint8_t *ends) noexcept nogil:
    if kind == NAME:
        return is_name(p, i, ends)
    if kind == PERCENT:
        return is_percent(p, i, n)
    if kind == SLASH:
        return i + 3 < n and (p[i + 1] == 117 or p[i + 1] == 120)
    if kind == ENTITY:
        return i + 4 < n and (p[i + 1] == 35 or p[i + 1] == 110)
    return i + 6 < n and i > 0 and digit(p[i - 1]) and digit(p[i + 1]) and digit(p[i + 4])


cdef inline bint is_beyond(const uint8_t *p, size_t i, size_t n, const uint8_t *points) noexcept nogil:
    cdef uint8_t b = p[i]
    cdef unsigned long point
    cdef int kind
    cdef bint behind = i > 0 and (
        digit(p[i - 1]) or (i > 1 and (p[i - 1] == 32 or p[i - 1] == 45) and digit(p[i - 2])))
    if b == 0xA0:  # a whole character in Latin-1 only
        return behind
    if b < 0xE0:
        if i + 1 >= n:
            return False
        point = (b & 0x1F) << 6 | (p[i + 1] & 0x3F)
    elif b < 0xF0:
        if i + 2 >= n:
            return False
        point = (b & 0x0F) << 12 | (p[i + 1] & 0x3F) << 6 | (p[i + 2] & 0x3F)
    else:
        if i + 3 >= n:
            return False
        point = (<unsigned long>(b & 0x07) << 18 | <unsigned long>(p[i + 1] & 0x3F) << 12
                 | (p[i + 2] & 0x3F) << 6 | (p[i + 3] & 0x3F))
    if point >= POINTS:
        return False
    kind = points[point]
    return kind == 1 or (kind == 2 and behind)


cdef bint keep(places_t *places, size_t i) noexcept nogil:
    cdef size_t *more
    if places.count == places.room:
        places.room = places.room * 2 + 64
        more = <size_t *>realloc(places.at, places.room * sizeof(size_t))
        if more == NULL:
            return False
        places.at = more
    places.at[places.count] = i
    places.count += 1
    return True


cdef inline bint is_track(const uint8_t *p, size_t i, size_t n) noexcept nogil:
    if p[i] == 59:
        return i + 1 < n and digit(p[i + 1])
    return i > 0 and (digit(p[i - 1]) or p[i - 1] == 32)


_NOTHING = ([], [], [], [], [], [], False)
_NO_PLACES = ([], [], [], [], [], [], True)


cdef class Look:
    """What is looked for, made once. Safe to share between threads.

    `ends` has shape (32768,): whether a name that has a rule may end in three letters, five bits each.
    `points` has shape (131072,): 1 for code points that are digits, 2 for separators. ValueError when
    a shape is another."""

    cdef uint8_t ends[4096]  # a bit for each
    cdef text_names_t names
    cdef const uint8_t[::1] points

    def __cinit__(self, const uint8_t[::1] ends, const uint8_t[::1] points):
        cdef size_t i
        if ends.shape[0] != 32768:
            raise ValueError(f"ends has {ends.shape[0]} entries, not 32768")
        if points.shape[0] != POINTS:
            raise ValueError(f"points has {points.shape[0]} entries, not {POINTS}")
        self.points = points
        memset(self.ends, 0, sizeof(self.ends))
        memset(&self.names, 0, sizeof(self.names))
        for i in range(32768):
            if ends[i]:
                self.ends[i >> 3] |= 1 << (i & 7)
                self.names.last |= <uint32_t>1 << (i & 31)
                self.names.before |= <uint32_t>1 << (i >> 5 & 31)
                self.names.third |= <uint32_t>1 << (i >> 10)

    def places(self, data):
        """Offsets in bytes of what may be names, percent, slash, entity and plus signs, and digits and
        separators beyond ASCII, as six lists, which are not to be changed; then whether there is a byte 0, or
        a `;` or `^` that may be a track's."""
        cdef Py_buffer view
        cdef places_t found[KINDS]
        cdef size_t any_found = 0
        cdef int kind
        cdef bint failed, other = False
        if PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0:
            return
        for kind in range(KINDS):
            found[kind].at = NULL
            found[kind].count = found[kind].room = 0
        try:
            if view.len < RELEASE:
                failed = not self._look(<const uint8_t *>view.buf, view.len, found, &other)
            else:
                with nogil:
                    failed = not self._look(<const uint8_t *>view.buf, view.len, found, &other)
            if failed:
                raise MemoryError
            for kind in range(KINDS):
                any_found |= found[kind].count
            if not any_found:
                return _NO_PLACES if other else _NOTHING
            lists = [[found[kind].at[i] for i in range(found[kind].count)] for kind in range(1, KINDS)]
            return (*lists, bool(other))
        finally:
            for kind in range(KINDS):
                free(found[kind].at)
            PyBuffer_Release(&view)

    cdef bint _look(self, const uint8_t *p, size_t n, places_t *found, bint *other) noexcept nogil:
        cdef uint64_t marks[TEXT_BLOCKS]
        cdef uint64_t leads[TEXT_BLOCKS]
        cdef uint8_t last[64]
        cdef size_t at = 0, count, b, i
        cdef uint64_t bits
        cdef int kind
        while at < n:
            count = (n - at) // 64
            if count:
                count = count if count < TEXT_BLOCKS else TEXT_BLOCKS
                other[0] |= text_blocks(p + at, count, &self.names, marks, leads)
            else:
                memset(last, 32, 64)
                memcpy(last, p + at, n - at)
                count = 1
                other[0] |= text_blocks(last, 1, &self.names, marks, leads)
            if at == 0:  # a name of one or two letters has no third
                for i in range(1, n if n < 8 else 8):
                    if KIND[p[i]] == NAME:
                        marks[0] |= <uint64_t>1 << i
            for b in range(count):
                bits = marks[b]
                while bits:
                    i = at + __builtin_ctzll(bits)
                    bits &= bits - 1
                    kind = KIND[p[i]]
                    if kind == TRACK:
                        other[0] |= is_track(p, i, n)
                    elif is_place(kind, p, i, n, self.ends) and not keep(&found[kind], i):
                        return False
                bits = leads[b]
                while bits:
                    i = at + __builtin_ctzll(bits)
                    bits &= bits - 1
                    if is_beyond(p, i, n, &self.points[0]) and not keep(&found[BEYOND], i):
                        return False
                at += 64
        return True
