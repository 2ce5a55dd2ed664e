from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Check, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

cdef inline const uint8_t *bytes_of(data, Py_ssize_t *size) except NULL:
    if PyBytes_Check(data):
        size[0] = PyBytes_GET_SIZE(data)
        return <const uint8_t *>PyBytes_AS_STRING(data)
    if PyByteArray_Check(data):
        size[0] = PyByteArray_GET_SIZE(data)
        return <const uint8_t *>PyByteArray_AS_STRING(data)
    raise TypeError("neither bytes nor a bytearray")


cdef enum State:
    SHAKING, OPEN, CLOSING, ENDING, OVER


cdef class Out:
    cdef object waiting, closing, put
    cdef int fd
    cdef int begin(self, transport) except -1
    cdef int to_peer(self, data) except -1


cdef class Tls(Out):
    cdef State state
    cdef object loop, context, hostname, protocol, received, ready, timer, wrong
    cdef object transport, ssl_object, incoming, outgoing
    cdef object incoming_write, outgoing_read, tls_read, tls_write
    cdef double closing_seconds
    cdef list unwritten
    cdef bint server, connected, paused, full, said_end
    cdef int shake(self) except -1
    cdef int refuse(self, wrong) except -1
    cdef int deliver(self, list parts) except -1
    cdef int decrypt(self, Py_ssize_t size, list parts) except -1
    cdef int encrypt(self, data) except -1
    cdef int flush(self) except -1
    cdef int settle(self) except -1
    cdef int part(self) except -1
    cdef int broken(self, wrong) except -1
