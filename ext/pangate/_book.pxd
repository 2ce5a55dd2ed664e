"""What is noted of statements, for other extension modules. See _book.pyx."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pangate._leaf cimport Encoder, Form

cdef enum:
    MOST_BOUNDS = 32


cdef class Histogram:
    cdef double bounds[MOST_BOUNDS]
    cdef uint64_t counts[MOST_BOUNDS + 1]
    cdef int many
    cdef double sum

    cpdef observe(self, double seconds)


cdef class Steps:
    cdef double most
    cdef public double latest
    cdef readonly double behind  # seconds that it lacks now; 0.0 when it is right


cdef class Pending:
    cdef readonly list leaves
    cdef readonly long long size
    cdef public long long sequence
    cdef public bint closed
    cdef readonly double since  # when the oldest came, in seconds since the epoch
    cdef long long most
    cdef object encode
    cdef Encoder encoder
    cdef object clock
    cdef Steps steps
    cdef Py_ssize_t longest
    cdef str state
    cdef double asked

    cpdef bint in_time(self, double moment)
    cpdef take(self, Py_ssize_t left=*)
    cdef int put(self, bytes leaf, double now) except -1
    cdef str clock_state(self)
    cdef int fill(self, Form form, double now, long long statement, tuple values) except -1


cdef class Written:
    cdef readonly int fd
    cdef readonly long long length
    cdef readonly long long sequence
    cdef readonly object kept  # (offset, data, sequence of its last leaf), the oldest first
    cdef tuple part            # what the last `append` began: its data and how much of it was written
    cdef public long long synced
    cdef public long long let_go
    cdef public bint sound
    cdef public bint failing
    cdef long long total
    cdef long long most

    cpdef bint wrote(self, bytes data, long long leaves)
    cpdef int append(self, list leaves) except -2


cdef class Frames:
    cdef double began
    cdef public bint failed  # their file cannot be written
    cdef public bint full    # nothing more may be sent for now
    cdef bint whole
    cdef readonly Py_ssize_t size
    cdef readonly uint64_t sent_bytes
    cdef bytearray framed
    cdef uint64_t count
    cdef long long room        # bytes that may be sent until somebody has to choose; -1 for any number
    cdef long long gathered    # of those in `framed`
    cdef list parts

    cdef uint64_t moment(self, double now=*) noexcept
    cdef uint8_t *frame(self, uint8_t kind, uint64_t micros, Py_ssize_t size) except NULL
    cdef tuple block(self)
    cdef bint fits(self, Py_ssize_t size) except -1
    cdef int note(self, bytes kind, const uint8_t *data, Py_ssize_t size, double now=*) except -1
    cdef int number(self, bytes kind, uint32_t number, double now=*) except -1
    cdef int place(self, bytes kind, uint32_t number, uint64_t place, double now=*) except -1
    cpdef described(self, bytes data)
    cdef int one(self, data, const uint8_t *p, Py_ssize_t size) except -1


cdef class InForce:
    cdef public str letters


cdef class Tally:
    cdef public long long number


cdef class Given:
    cdef public long long rows
    cdef public long long size


cdef class Decided:
    cdef readonly object judge
    cdef readonly str letters
    cdef readonly tuple forms
    cdef readonly Form ended
    cdef readonly Form found


cdef class Book:
    cdef Pending pending
    cdef Histogram seconds
    cdef object count_masked
    cdef InForce in_force
    cdef Given given
    cdef public Frames frames
    cdef readonly dict started  # when the statements began that are not over, by their numbers
    cdef public long long statements
    cdef public long long urgent  # the last event that has to be on the disk before anything follows
    cdef public long long rows
    cdef public long long size
    cdef readonly dict masked
    cdef object judge
    cdef str letters
    cdef long long most_rows
    cdef long long most_bytes
    cdef long long rows_given
    cdef long long bytes_given

    cpdef bint again(self, decided, tuple values, str text) except -1
    cpdef bint answered(self, decided, long long number, Py_ssize_t many, long long rows, long long size,
                        dict masked, dict columns, uint64_t began, uint64_t place) except -1
    cpdef bint within(self, long long rows, long long size) except -1
    cdef int note(self, tuple forms, double now, tuple values, str text) except -1
    cpdef add(self, long long rows, long long size, masked)


cdef double seconds_of(int clock) noexcept nogil
