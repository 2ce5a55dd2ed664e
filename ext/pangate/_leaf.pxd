"""Leaves of events for other extension modules. See _leaf.pyx."""

from libc.stdint cimport int64_t, uint8_t

from pangate._frame cimport Names, names_t
from pangate._scan cimport Scanner, scan_counts_t, scan_rules_t

cdef extern from "cell.h" nogil:
    ctypedef struct cell_types_t:
        size_t count
    ctypedef struct cell_env_t:
        const scan_rules_t *rules
        scan_counts_t *counts
        const cell_types_t *types
        const names_t *names
        int kind


cdef class Form:
    cdef list pieces
    cdef bytes holes  # what stands behind each piece
    cdef Py_ssize_t size, values


cdef class Encoder:
    cdef Scanner scanner
    cdef Names names
    cdef cell_env_t env
    cdef uint8_t *out
    cdef Py_ssize_t room, at
    cdef uint8_t *scratch
    cdef Py_ssize_t scratch_room
    cdef dict heads   # text: its bytes in JSON
    cdef dict orders  # keys of a mapping: ((key, its bytes in JSON with the colon), ...) in order
    cdef double second
    cdef char moment[20]

    cdef bytes leaf(self, event, long long sequence, double time, str clock)
    cdef bytes filled(self, Form form, long long sequence, double time, str clock, long long statement,
                      tuple values)
    cdef int hole(self, Form made, int what) except -1
    cdef int check(self) except -1
    cdef int reserve(self, Py_ssize_t more) except -1
    cdef int put(self, bytes data) except -1
    cdef int integer(self, long long value) except -1
    cdef void two(self, char *place, int value) noexcept
    cdef int when(self, double time) except -1
    cdef int head(self, str text) except -1
    cdef int text(self, str text) except -1
    cdef bint may_change(self, const uint8_t *p, Py_ssize_t n, Py_ssize_t length) noexcept
    cdef const uint8_t *masked(self, const uint8_t *p, Py_ssize_t n) except NULL
    cdef int escaped(self, const uint8_t *p, Py_ssize_t n) except -1
    cdef int value(self, value, int depth) except -1
    cdef int items(self, list value, int depth) except -1
    cdef int row(self, tuple value, int depth) except -1
    cdef int large(self, value) except -1
    cdef int floating(self, double value) except -1
    cdef int decimal(self, int64_t micro) except -1
    cdef int mapping(self, dict value, int depth) except -1
    cdef tuple order_of(self, tuple keys)
    cdef str masked_text(self, str text)
    cdef int raw(self, str text) except -1
