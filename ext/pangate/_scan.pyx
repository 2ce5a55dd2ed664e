# cython: freethreading_compatible = True
"""The PAN scanner for Python. The work is done in scan.c; this is the owner of its tables and the way in.

Buffers are taken with the buffer protocol itself: a typed memoryview argument costs more than the scan of
a small field."""

from cpython.buffer cimport (
    Py_buffer,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memset

cdef extern from "Python.h":
    ctypedef struct PyObject
    PyObject *PyBytes_FromStringAndSize(const char *data, Py_ssize_t size) except NULL
    char *PyBytes_AS_STRING(PyObject *data)
    int _PyBytes_Resize(PyObject **data, Py_ssize_t size) except -1
    void Py_DECREF(PyObject *data)

cdef extern from "scan_stream.h" nogil:
    enum:
        SCAN_HELD
    ctypedef struct scan_stream_t:
        uint8_t count
    size_t scan_stream_feed(scan_stream_t *stream, const scan_rules_t *rules, int kind,
                            const uint8_t *chunk, size_t len, uint8_t *out, scan_counts_t *counts)
    size_t scan_stream_finish(scan_stream_t *stream, const scan_rules_t *rules, int kind, uint8_t *out,
                              scan_counts_t *counts)

import os

from pangate.errors import MaskingError

cdef enum:
    RELEASE = 16384  # bytes from which on other threads may run meanwhile
    MANY = 256  # hits that are kept without memory of their own
    DENSE = 200  # bytes a hit, below which all is masked at once

_KERNELS = ("portable", "sse2", "avx2", "avx512", "neon")


def kernels():
    """Names of the kernels that this machine can run, the slowest first."""
    return tuple(name for i, name in enumerate(_KERNELS) if scan_supported(i))


cdef int _choose(name) except -1:
    if name is None:
        name = os.environ.get("PANGATE_KERNEL") or _KERNELS[scan_preferred()]
    if name not in kernels():
        raise MaskingError(
            f"kernel {name!r} cannot run on this machine; PANGATE_KERNEL may be "
            + ", ".join(kernels())
        )
    return _KERNELS.index(name)


_default = _choose(None)  # at import, so that a wrong PANGATE_KERNEL shows at once


def kernel():
    """Name of the kernel that a Scanner uses when it is not told otherwise."""
    return _KERNELS[_default]


cdef int _check(int kind) except -1:
    if kind & ~(SCAN_KIND_MASK | SCAN_DIGITS) or (kind & SCAN_KIND_MASK) > SCAN_FULL:
        raise MaskingError(
            f"kind {kind} does not exist; take one of pangate.masking.KINDS, with DIGITS or without"
        )
    return 0


def _by_end(place):
    return place[1], -place[0]


cdef class Scanner:
    """Issuer tables ready to scan with. Safe to share between threads.

    `tables` is a `pangate.masking.iin.Tables`; `kernel` forces one of `kernels()`. MaskingError when this
    machine cannot run it."""

    def __cinit__(self, tables, kernel=None):
        cdef int chosen = _default if kernel is None else _choose(kernel)
        self.rules = <scan_rules_t *>calloc(1, sizeof(scan_rules_t))
        if self.rules == NULL:
            raise MemoryError
        self.networks = tuple(tables.networks)
        self.kernel = _KERNELS[chosen]
        if len(self.networks) > SCAN_NETWORKS:
            raise MaskingError(f"{len(self.networks)} networks are more than {SCAN_NETWORKS}")
        # Copies of our own, so that nobody can change what is being read without the GIL.
        transitions = bytes(tables.next)
        issuers = bytes(tables.issuers)
        nodes = len(transitions) // (10 * sizeof(uint16_t))
        if not nodes or nodes > 0x7fff or len(issuers) != nodes * sizeof(scan_issuer_t):
            raise MaskingError("the issuer tables do not fit each other")
        for target in memoryview(transitions).cast("H"):
            if target >= nodes:
                raise MaskingError("the issuer tables point outside of themselves")
        self.tables = (transitions, issuers)
        self.rules.next = <const uint16_t (*)[10]><const char *>transitions
        self.rules.issuer = <const scan_issuer_t *><const char *>issuers
        self.rules.eight_plus_four = tables.eight_plus_four
        self.rules.kernel = chosen
        scan_prepare(self.rules)

    def __dealloc__(self):
        free(self.rules)

    def mask(self, buffer, int kind=0):
        """Mask every PAN in a writable buffer in place. Returns their number.

        `kind` is one of `pangate.masking.KINDS`, with `DIGITS` ORed for numbers. TypeError or
        BufferError when the buffer cannot be written."""
        cdef Py_buffer view
        cdef size_t hits
        _check(kind)
        if PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0:
            return
        if view.len >= RELEASE:
            with nogil:
                hits = scan_mask(self.rules, kind, <uint8_t *>view.buf, view.len, NULL)
        else:
            hits = scan_mask(self.rules, kind, <uint8_t *>view.buf, view.len, NULL)
        PyBuffer_Release(&view)
        return hits

    def mask_alone(self, buffer, int kind=0):
        """As `mask`, for a text in which nothing else is looked for, as long as no PAN in it has to do with
        what is: one with a dash may be within a UUID, one before `=`, `^`, `D` or `d` be a track's. Then
        -1 is returned, and nothing is masked."""
        cdef Py_buffer view
        cdef scan_hit_t few[MANY]
        cdef scan_hit_t *hits = few
        cdef Py_ssize_t found, masked = 0
        _check(kind)
        if PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0:
            return
        try:
            with nogil:
                found = scan_find(self.rules, <const uint8_t *>view.buf, view.len, hits, MANY)
                if found > MANY:
                    hits = <scan_hit_t *>malloc(found * sizeof(scan_hit_t))
                    if hits != NULL:
                        scan_find(self.rules, <const uint8_t *>view.buf, view.len, hits, found)
                if hits != NULL and found:
                    masked = mask_hits(self.rules, kind, <uint8_t *>view.buf, view.len, hits, found)
            if hits == NULL:
                raise MemoryError
            return masked
        finally:
            if hits != few:
                free(hits)
            PyBuffer_Release(&view)

    def mask_json(self, buffer, int kind=0):
        """Mask every PAN in a writable buffer of JSON text in place, so that it stays JSON."""
        cdef Py_buffer view
        cdef size_t hits
        _check(kind)
        if PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0:
            return
        with nogil:
            hits = scan_mask_json(self.rules, kind, <uint8_t *>view.buf, view.len, NULL)
        PyBuffer_Release(&view)
        return hits

    def mask_counted(self, buffer, int kind=0):
        """As `mask`; returns the numbers by network index."""
        cdef Py_buffer view
        cdef scan_counts_t counts
        memset(&counts, 0, sizeof(counts))
        _check(kind)
        if PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0:
            return
        with nogil:
            scan_mask(self.rules, kind, <uint8_t *>view.buf, view.len, &counts)
        PyBuffer_Release(&view)
        return _by_network(&counts)

    def find(self, buffer):
        """Every PAN in a buffer as (start, end, network index), by its end, then its length."""
        cdef Py_buffer view
        cdef scan_hit_t few[64]
        cdef scan_hit_t *hits = few
        cdef size_t cap = 64, found, i
        if PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) < 0:
            return
        try:
            with nogil:
                found = scan_find(self.rules, <const uint8_t *>view.buf, view.len, hits, cap)
            if found > cap:
                cap = found
                hits = <scan_hit_t *>malloc(cap * sizeof(scan_hit_t))
                if hits == NULL:
                    raise MemoryError
                with nogil:
                    scan_find(self.rules, <const uint8_t *>view.buf, view.len, hits, cap)
            places = [(hits[i].start, hits[i].end, hits[i].network) for i in range(found)]
            if found > 1:
                places.sort(key=_by_end)
            return places
        finally:
            if hits != few:
                free(hits)
            PyBuffer_Release(&view)

    def mask_fields(self, buffer, offsets, lengths, int kind=0):
        """Mask many fields of one writable buffer in place, each with its own boundaries.

        `offsets` and `lengths` are contiguous arrays of int64 (bytes) of the same size; a length of -1 is
        a field that is not there. Returns the number of PANs. MaskingError when a field lies outside of
        the buffer: nothing is masked then."""
        cdef Py_buffer view
        cdef const int64_t[::1] at = offsets
        cdef const int64_t[::1] size = lengths
        cdef Py_ssize_t i, n = at.shape[0]
        cdef size_t hits = 0
        cdef bint bad = False
        _check(kind)
        if size.shape[0] != n:
            raise MaskingError(f"{n} offsets came with {size.shape[0]} lengths")
        if PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0:
            return
        with nogil:
            for i in range(n):
                if size[i] == -1:
                    continue
                if at[i] < 0 or size[i] < 0 or at[i] > view.len or size[i] > view.len - at[i]:
                    bad = True
                    break
            if not bad and n:
                hits = scan_mask_fields(self.rules, kind, <uint8_t *>view.buf, view.len, &at[0], &size[0],
                                        n, NULL)
        PyBuffer_Release(&view)
        if bad:
            raise MaskingError("a field lies outside of the buffer; check offsets and lengths")
        return hits


cdef Py_ssize_t mask_hits(const scan_rules_t *rules, int kind, uint8_t *buf, size_t n, scan_hit_t *hits,
                          size_t found) noexcept nogil:
    """Mask all of `hits`, and say how many they are; -1 when one of them is not for the scanner alone."""
    cdef size_t i, start, end
    for i in range(found):
        start, end = hits[i].start, hits[i].end
        if end < n and (buf[end] == 61 or buf[end] == 94 or (buf[end] | 32) == 100):
            return -1
        if memchr(buf + start, 45, end - start) != NULL:
            return -1
    if found > n // DENSE or kind & SCAN_DIGITS:
        scan_mask(rules, kind, buf, n, NULL)
        return found
    # What overlaps is masked together. It begins and ends with a group, so that the PANs within are the same.
    i = 0
    while i < found:
        start, end = hits[i].start, hits[i].end
        i += 1
        while i < found and hits[i].start < end:
            if hits[i].end > end:
                end = hits[i].end
            i += 1
        scan_mask(rules, kind, buf + start, end - start, NULL)
    return found


cdef dict _by_network(const scan_counts_t *counts):
    return {i: counts.by_network[i] for i in range(SCAN_NETWORKS) if counts.by_network[i]}


cdef class Stream:
    """One text in chunks that are split anywhere. What comes out, put together, is what `Scanner.mask` makes
    of the whole.

    A byte is held back only while a PAN that it belongs to may still be ahead: 37 bytes at the most (19
    digits and 18 separators), whatever the text. `kind` goes without DIGITS, whose fillers depend on more
    than that; MaskingError then. For one thread at a time."""

    cdef Scanner scanner
    cdef int kind
    cdef bint busy, done
    cdef scan_stream_t state
    cdef scan_counts_t found

    def __cinit__(self, Scanner scanner not None, int kind=0):
        _check(kind)
        if kind & SCAN_DIGITS:
            raise MaskingError("a stream cannot fill with digits; mask fields, or take a kind without DIGITS")
        self.scanner = scanner
        self.kind = kind
        memset(&self.state, 0, sizeof(self.state))
        memset(&self.found, 0, sizeof(self.found))

    cdef int _begin(self) except -1:
        if self.done:
            raise MaskingError("the stream is finished; take a new one")
        if self.busy:
            raise MaskingError("the stream is being fed by another thread; take one stream a thread")
        return 0

    def feed(self, chunk):
        """Take a bytes-like chunk; returns as bytes what may be released. MaskingError after `finish`."""
        cdef Py_buffer view
        cdef PyObject *out = NULL
        cdef uint8_t *target
        cdef size_t size
        self._begin()
        if PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE) < 0:
            return
        try:
            out = PyBytes_FromStringAndSize(NULL, view.len + SCAN_HELD)
            target = <uint8_t *>PyBytes_AS_STRING(out)
            if view.len >= RELEASE:
                self.busy = True
                with nogil:
                    size = scan_stream_feed(&self.state, self.scanner.rules, self.kind,
                                            <const uint8_t *>view.buf, view.len, target, &self.found)
                self.busy = False
            else:
                size = scan_stream_feed(&self.state, self.scanner.rules, self.kind,
                                        <const uint8_t *>view.buf, view.len, target, &self.found)
        finally:
            PyBuffer_Release(&view)
        return _shrunk(out, size)

    def finish(self):
        """The text ends here: the rest of it, as bytes."""
        cdef uint8_t rest[SCAN_HELD]
        cdef size_t size
        self._begin()
        self.done = True
        size = scan_stream_finish(&self.state, self.scanner.rules, self.kind, rest, &self.found)
        return <bytes>(<char *>rest)[:size]

    @property
    def held(self):
        """Bytes that are held back now."""
        return self.state.count

    @property
    def counts(self):
        """PANs so far by network index, as `Scanner.mask_counted` gives them. One that is held back is not
        in it yet."""
        return _by_network(&self.found)


cdef object _shrunk(PyObject *data, Py_ssize_t size):
    if _PyBytes_Resize(&data, size) < 0:  # which has let go of it then
        return None
    result = <object>data
    Py_DECREF(data)  # `result` has one of its own
    return result
