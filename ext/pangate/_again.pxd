"""Requests that came before, for other extension modules. See _again.pyx."""

from pangate._frame cimport Plan


cdef class Known:
    cdef readonly str kind
    cdef readonly tuple statements
    cdef readonly bytes name, portal
    cdef readonly object prepared
    cdef readonly tuple types
    cdef readonly bytes head, description
    cdef readonly bint shown
    cdef readonly Plan plan
    cdef readonly tuple names
    cdef readonly object generation
    cdef public object decided  # what the gate remembers of it
    cdef public bint fresh  # whether it is another connection's, and was not asked for on this one yet
    cdef readonly tuple values  # those of the last statement now
    cdef readonly str text  # its text now; None when it is the same


cdef class Answered:
    cdef readonly object data
    cdef readonly long long number
    cdef readonly long long rows
    cdef readonly long long size
    cdef readonly dict masked
    cdef readonly dict columns
    cdef readonly object place
    cdef readonly object began
    cdef readonly tuple described
    cdef readonly long long all_rows
    cdef readonly long long all_size


cdef class Standing:
    cdef public long long numbers  # of statements until now
    cdef public bytes status       # what the last ReadyForQuery said of the transaction
    cdef public bint changed       # whether something ran that may have changed what is known of the resource
    cdef public object candidate   # a request that may be remembered, once it is answered; None for none


cdef class ShortWay:
    cpdef Known again(self, bytes data)
    cpdef bytes proceed(self, Known known, bytes data)
    cpdef Answered answered(self, bytes data)
