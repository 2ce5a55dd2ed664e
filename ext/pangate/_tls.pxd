from pangate._wire cimport Wire


cdef enum State:
    SHAKING, OPEN, CLOSING, ENDING, OVER


cdef class Tls(Wire):
    cdef State state
    cdef object loop, context, hostname, protocol, received, ready, timer, wrong
    cdef object ssl_object, incoming, outgoing
    cdef object incoming_write, outgoing_read, tls_read, tls_write
    cdef double closing_seconds
    cdef list unwritten
    cdef bint server, connected, paused, full, said_end
    cdef int shake(self) except -1
    cdef int refuse(self, wrong) except -1
    cdef int hand_on(self, list parts) except -1
    cdef int decrypt(self, Py_ssize_t size, list parts) except -1
    cdef int encrypt(self, data) except -1
    cdef int flush(self) except -1
    cdef int settle(self) except -1
    cdef int part(self) except -1
    cdef int broken(self, wrong) except -1
