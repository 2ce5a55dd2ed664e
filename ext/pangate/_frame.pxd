"""Walkers over framed protocols, and names as the kernels take them. See _frame.pyx."""

from libc.stdint cimport uint8_t, uint64_t

cdef extern from "cell.h" nogil:
    ctypedef uint64_t cell_op_t

cdef extern from "names.h" nogil:
    enum:
        NAME_LONGEST
        NAME_ANY
        NAME_CODE
        NAME_PIN
        NAME_ESCAPED
    ctypedef struct name_rule_t:
        uint8_t text[40]
        uint8_t len
        uint8_t shape
        uint8_t glued
    ctypedef struct names_t:
        const name_rule_t *rules
        size_t count
        uint8_t ends[256]
    int names_find(const names_t *names, const uint8_t *name, size_t len)
    int name_fits(int shape, const uint8_t *value, size_t len, int how)


cdef class Names:
    cdef names_t table
    cdef name_rule_t *rules


cdef class Plan:
    cdef cell_op_t *ops
    cdef uint8_t *wipes  # NULL when nothing is wiped
    cdef uint64_t *hits
    cdef readonly int columns


ctypedef struct whole_t:
    uint8_t status     # of the transaction
    uint64_t place     # of the first message that went to the agent
    uint64_t tag       # of the tag
    uint64_t end       # of ReadyForQuery
    uint64_t rows
    uint64_t size
    uint64_t all_rows  # since the session began
    uint64_t all_size


cdef class WholeAnswers:
    cdef object whole(self, bytes data, bytes head, bytes description, bint shown, Plan plan, whole_t *found)
    cdef dict masked_now(self)
