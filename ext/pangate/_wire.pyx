# cython: freethreading_compatible = True
"""Connected sockets under transports of an event loop: what goes to a peer is given to the socket at once,
as far as it takes it; and what comes from many peers is read in one call of the loop.

The transports stay, and have everything else: what a socket does not take, errors, the end."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

import os

cdef extern from *:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <sys/socket.h>
    #include <unistd.h>
    #if defined(__linux__)
    #include <sys/epoll.h>
    typedef struct epoll_event poll_event;
    static int poll_make(void) { return epoll_create1(EPOLL_CLOEXEC); }
    static int poll_change(int set, int fd, int in, uint64_t mark) {
        struct epoll_event one = {.events = EPOLLIN, .data.u64 = mark};
        return epoll_ctl(set, in ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &one);
    }
    static int poll_ready(int set, poll_event *found, int most) { return epoll_wait(set, found, most, 0); }
    static uint64_t poll_mark(const poll_event *found, int i) { return found[i].data.u64; }
    #else
    typedef struct { int unused; } poll_event;
    static int poll_make(void) { errno = ENOSYS; return -1; }
    static int poll_change(int set, int fd, int in, uint64_t mark) { return -1; }
    static int poll_ready(int set, poll_event *found, int most) { return 0; }
    static uint64_t poll_mark(const poll_event *found, int i) { return 0; }
    #endif
    /* bytes, 0 at the end, -1 for an error, -2 when there is nothing now */
    static Py_ssize_t take(int fd, void *room, size_t size) {
        Py_ssize_t got = recv(fd, room, size, MSG_DONTWAIT);
        return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) ? -2 : got;
    }
    """
    ctypedef struct poll_event:
        pass
    int poll_make() nogil
    int poll_change(int set, int fd, int into, uint64_t mark) nogil
    int poll_ready(int set, poll_event *found, int most) nogil
    uint64_t poll_mark(const poll_event *found, int i) nogil
    Py_ssize_t take(int fd, void *room, size_t size) nogil

cdef extern from "<sys/socket.h>" nogil:
    Py_ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL

cdef enum:
    ROOM = 262144  # bytes that are read of one peer before it is another's turn
    AT_ONCE = 256  # peers that are read in one call of the loop


cdef class Receiver:
    """Who takes what a poll has read: a function, or what a class of this kind does."""

    def __init__(self, call):
        self.call = call

    cdef int receive(self, Wire wire, bytes data) except -1:
        self.call(data)
        return 0


cdef class Wire:
    """The socket under `transport`. It is given at once what it takes of what is sent, unless something waits
    before that; the rest is the transport's. What comes is the transport's too, until a poll has it.

    `failure` is the error of a read by a poll: a socket tells it once, so the transport finds an end without
    one."""

    def __init__(self, transport):
        self.begin(transport)

    cdef int begin(self, transport) except -1:
        self.transport = transport
        self.waiting, self.closing = transport.get_write_buffer_size, transport.is_closing
        self.put, self.fd = transport.write, transport.get_extra_info("socket").fileno()
        return 0

    def send(self, data not None):
        """Send bytes or a bytearray that nobody changes from now on."""
        self.to_peer(data)

    cdef int to_peer(self, data) except -1:
        cdef Py_ssize_t size = 0, sent
        cdef const uint8_t *p = bytes_of(data, &size)
        # a transport that is closing has given its descriptor away, or will
        if size == 0 or self.closing():
            return 0
        if <Py_ssize_t>self.waiting() > 0:
            self.put(data)
            return 0
        sent = c_send(self.fd, p, size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < size:
            # an error is found once more by the transport, which knows what to do with it
            self.put(data if sent <= 0 else memoryview(data)[sent:])
        return 0

    cdef int came(self, bytes data) except -1:
        return self.receiver.receive(self, data)

    # what a transport has of this too

    def pause_reading(self):
        """Read nothing more for now."""
        if self.poll is None:
            self.transport.pause_reading()
        else:
            self.poll.ignore(self)

    def resume_reading(self):
        """Read again."""
        if self.poll is None:
            self.transport.resume_reading()
        else:
            self.poll.listen(self)

    def unwatch(self):
        """What comes is the transport's again. To be called before anything is done with it but sending,
        and at the latest when its connection is lost."""
        self.let_go()

    cdef int let_go(self) except -1:
        cdef Poll poll = self.poll
        cdef bint listening = self.listening
        if poll is None:
            return 0
        poll.ignore(self)
        poll.wires[self.fd] = None
        self.poll = self.receiver = self.within = None
        if listening and not self.closing():
            self.transport.resume_reading()
        return 0


cdef class Batch:
    """What many peers sent at the same time and is to be seen to together. `gathering` is whether more of it
    may come."""

    cdef int over(self) except -1:
        """That was all."""
        return 0


@cython.final
cdef class Poll:
    """Reads many sockets in one call of the event loop, which is told of them as of one descriptor; behind it
    `batch` is over. Raises OSError where the system cannot do this: only Linux can."""

    def __cinit__(self):
        self.fd = -1

    def __init__(self, loop, Batch batch not None):
        self.loop, self.batch, self.wires = loop, batch, []
        self.room = <uint8_t *>malloc(ROOM)
        if self.room == NULL:
            raise MemoryError
        self.fd = poll_make()
        if self.fd < 0:
            raise OSError("no epoll")
        loop.add_reader(self.fd, self.ready)

    def __dealloc__(self):
        free(self.room)

    def close(self):
        """No socket is watched any more."""
        if self.fd >= 0:
            for wire in self.wires:
                if wire is not None:
                    (<Wire>wire).let_go()
            self.loop.remove_reader(self.fd)
            os.close(self.fd)
            self.fd = -1

    def watch(self, Wire wire not None, Receiver receiver not None, bint paused):
        """From now on `receiver` is given what comes, instead of the transport's protocol and in the present
        context; a wire that is TLS takes it itself. `paused` is whether nothing is to be read yet. False when
        it cannot be watched; the transport goes on then."""
        if self.fd < 0 or wire.poll is not None or wire.closing():
            return False
        self.serial += 1
        wire.serial = self.serial
        if not paused and poll_change(self.fd, wire.fd, True, (<uint64_t>wire.serial << 32) | wire.fd):
            return False
        wire.transport.pause_reading()
        while len(self.wires) <= wire.fd:
            self.wires.append(None)
        self.wires[wire.fd] = wire
        wire.poll, wire.receiver, wire.listening = self, receiver, not paused
        wire.within = PyContext_CopyCurrent()
        return True

    cdef int listen(self, Wire wire) except -1:
        if not wire.listening:
            if poll_change(self.fd, wire.fd, True, (<uint64_t>wire.serial << 32) | wire.fd):
                wire.listening = True
                return wire.let_go()
            wire.listening = True
        return 0

    cdef int ignore(self, Wire wire) except -1:
        if wire.listening:
            wire.listening = False
            poll_change(self.fd, wire.fd, False, 0)
        return 0

    def ready(self):
        """Something came for some."""
        cdef poll_event found[AT_ONCE]
        cdef int count = poll_ready(self.fd, found, AT_ONCE), i
        cdef uint64_t mark
        cdef Py_ssize_t fd
        cdef Wire wire
        # What is said of a session in the log has its name, which is the context's: what is called sets it,
        # and the loop's own context shall not keep it.
        own = PyContext_CopyCurrent()
        PyContext_Enter(own)
        try:
            self.batch.gathering = True
            for i in range(count):
                mark = poll_mark(found, i)
                fd = <uint32_t>mark
                if fd >= len(self.wires):
                    continue
                wire = <Wire>self.wires[fd]
                # one before may have ended it, or paused it, and its descriptor may be another's by now
                if wire is not None and wire.listening and wire.serial == <uint32_t>(mark >> 32):
                    self.read(wire)
        finally:
            self.batch.gathering = False
            try:
                self.batch.over()
            finally:
                PyContext_Exit(own)

    cdef int read(self, Wire wire) except -1:
        cdef Py_ssize_t got
        cdef bytes data
        if wire.closing():
            return wire.let_go()
        got = take(wire.fd, self.room, ROOM)
        if got == -2:
            return 0
        if got <= 0:
            if got < 0:
                number = errno
                wire.failure = OSError(number, os.strerror(number))
            return wire.let_go()  # the transport finds the end, and knows what to do with it
        data = PyBytes_FromStringAndSize(<char *>self.room, got)
        context = wire.within
        PyContext_Enter(context)
        try:
            wire.came(data)
        except Exception as wrong:
            transport = wire.transport
            wire.let_go()
            self.loop.call_exception_handler(
                {"message": "what came could not be taken", "exception": wrong, "transport": transport}
            )
            if transport is not None:
                transport.abort()
        finally:
            PyContext_Exit(context)
        return 0
