from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Check, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t

cdef inline const uint8_t *bytes_of(data, Py_ssize_t *size) except NULL:
    if PyBytes_Check(data):
        size[0] = PyBytes_GET_SIZE(data)
        return <const uint8_t *>PyBytes_AS_STRING(data)
    if PyByteArray_Check(data):
        size[0] = PyByteArray_GET_SIZE(data)
        return <const uint8_t *>PyByteArray_AS_STRING(data)
    raise TypeError("neither bytes nor a bytearray")


cdef class Receiver:
    cdef object call
    cdef int receive(self, Wire wire, bytes data) except -1


cdef class Wire:
    cdef object transport, waiting, closing, put
    cdef int fd
    cdef Poll poll
    cdef Receiver receiver
    cdef object within
    cdef readonly object failure
    cdef uint32_t serial
    cdef bint listening
    cdef int begin(self, transport) except -1
    cdef int to_peer(self, data) except -1
    cdef int came(self, bytes data) except -1
    cdef int let_go(self) except -1


cdef class Batch:
    cdef bint gathering
    cdef int over(self) except -1


cdef class Poll:
    cdef object loop
    cdef Batch batch
    cdef list wires
    cdef uint8_t *room
    cdef int fd
    cdef uint32_t serial
    cdef int listen(self, Wire wire) except -1
    cdef int ignore(self, Wire wire) except -1
    cdef int read(self, Wire wire) except -1
