# cython: freethreading_compatible = True
"""The short way of a session, from socket to socket: a request that came before is decided, recorded and
forwarded, and its answer masked, recorded and given, without Python of the gateway's own.

Nothing is done here that the long way (proxy/session.py) does not do, and in its order: whatever is not as it
was before goes there."""

cimport cython
from libc.stdint cimport uint8_t

from pangate._again cimport Answered, Known, ShortWay
from pangate._book cimport Book, Frames, Histogram, Pending, Written, seconds_of
from pangate._wire cimport Batch, Receiver, Wire, bytes_of

cdef extern from *:
    """
    #include <errno.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    /* 1 when its peer has closed its side; 0 when not, when it is no TCP socket, or when nobody can tell */
    static int peer_has_closed(int fd) {
    #if defined(__linux__) && defined(TCP_INFO)
        unsigned char state = 0;
        socklen_t size = 1;
        if (!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &size)) return size == 1 && state != 1;
        return errno != EOPNOTSUPP && errno != ENOPROTOOPT;
    #else
        (void)fd;
        return 0;
    #endif
    }
    """
    int peer_has_closed(int fd) nogil

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC

cdef enum:
    SEVERAL = 2  # requests of the short way after which a session is worth reading together with others


def peer_closed(int fd):
    """Whether the peer of a TCP connection has closed its side, also when nothing is read from it now. False
    where the system does not tell."""
    return peer_has_closed(fd) != 0


@cython.final
cdef class Turn(Batch):
    """The requests of one turn of the event loop, of all sessions: they wait for one write of the record.

    `call_soon` is the loop's. What is as nearly always is done here; `commit_others` writes and forwards
    when some have taken the long way or anything is wrong, and `put_off` has the sessions whose requests have
    to be on the disk first. Of the gate's recorder come what is recorded and not yet written, the end of the
    file that it goes to, where there is one, and who is told when something has to be brought to the disk."""

    cdef list pumps
    cdef object call_soon, commit_, gate, recorder, commit_others, put_off, wake
    cdef Pending pending
    cdef Written written
    cdef Histogram to_backend, to_agent, flush
    cdef bint due
    cdef public bint others
    """Whether requests wait that have taken the long way."""
    cdef public bint writing
    """Whether somebody sees to it that what is recorded is written soon."""
    cdef public bint recording
    """The same for what agents were sent."""

    def __init__(self, call_soon, gate, commit_others, put_off):
        self.call_soon, self.commit_others, self.put_off = call_soon, commit_others, put_off
        metrics = gate.metrics
        self.to_backend, self.to_agent = metrics.to_backend_seconds, metrics.to_agent_seconds
        self.flush = metrics.flush_seconds
        self.gate, self.recorder = gate, gate.recorder
        self.pending, self.written = gate.recorder.leaves, gate.recorder.written
        self.wake = gate.recorder.wake
        self.commit_ = self.commit
        self.pumps = []

    cdef int add(self, Pump pump) except -1:
        self.pumps.append(pump)
        if not self.due:
            self.come()
        return 0

    def come(self):
        """Something waits to be committed."""
        if not self.due:
            self.due = True
            if not self.gathering:
                self.call_soon(self.commit_)

    cdef int over(self) except -1:
        """All that came at this time has been looked at."""
        if self.due:
            self.commit()
        return 0

    def commit(self):
        """Have what is recorded in the kernel, then forward what waits for that."""
        self.due = False
        if self.others or not self.recorded():
            self.commit_others()
        elif left := self.forward():
            self.put_off(left)

    cdef bint recorded(self) except -1:
        """Whether everything is in the kernel, written here if need be. False when it is not, or something
        more is to be done for it."""
        cdef double began
        cdef int first
        if self.written is None or self.gate.record_failure:
            return False
        if self.pending.steps is not None and self.pending.steps.behind:
            return False
        if not self.pending.leaves:
            return True
        if <long long>self.recorder.urgent > self.written.synced:
            return False
        began = seconds_of(CLOCK_MONOTONIC)
        first = self.written.append(self.pending.leaves)
        if first < 0:
            return False
        self.pending.take()
        if first:
            self.wake()
        self.flush.observe(seconds_of(CLOCK_MONOTONIC) - began)
        return True

    def take(self):
        """The sessions whose requests wait; they do not any more."""
        pumps, self.pumps = self.pumps, []
        return [(<Pump>pump).session for pump in pumps]

    def forward(self):
        """Everything recorded so far is in the kernel: send the resources what waited for that. Returns the
        sessions whose requests have to be on the disk first, and wait the long way."""
        cdef list pumps = self.pumps, left = []
        self.pumps = []
        for pump in pumps:
            if not (<Pump>pump).forward():
                left.append((<Pump>pump).session)
        return left


@cython.final
cdef class Pump(Receiver):
    """The short way of one session. `session` has the long one: `from_agent`, `put_off` for what has to be on
    the disk first, `stop` for what goes wrong."""

    cdef object session, gate, long_way, behind
    cdef ShortWay way
    cdef Book book
    cdef Frames frames
    cdef Turn turn
    cdef Wire agent, backend
    cdef Known known
    cdef bytes out
    cdef double came
    cdef long long on_disk
    cdef Py_ssize_t block
    cdef int seen
    cdef public bint open
    """Whether requests may go the short way now: the session is not over, and nothing of it waits."""
    cdef readonly double active
    """When something came last, by the monotonic clock."""

    def __init__(self, session, Turn turn not None):
        self.session, self.turn = session, turn

    def start(self, ShortWay way not None, Book book not None, gate, Py_ssize_t block, behind,
              long_way, Wire agent not None, Wire backend not None):
        """The login is over. `gate` is the gate's session; what is recorded of what is sent has a block at
        `block` bytes; `behind` is true while requests of the long way wait; `long_way` takes the
        resource's bytes."""
        self.way, self.book, self.gate = way, book, gate
        self.block, self.frames = block, book.frames
        self.behind, self.long_way = behind, long_way
        self.agent, self.backend = agent, backend
        self.on_disk = -1
        self.open = True

    def end(self):
        """The session is over."""
        self.open = False
        self.known = self.out = None
        if self.agent is not None:
            self.agent.let_go()
            self.backend.let_go()

    @property
    def waits(self):
        """Whether a request waits to be forwarded."""
        return self.out is not None

    cdef int receive(self, Wire wire, bytes data) except -1:
        return self.of_agent(data) if wire is self.agent else self.of_backend(data)

    def from_agent(self, bytes data not None):
        """Bytes came from the agent."""
        self.of_agent(data)

    def from_backend(self, bytes data not None):
        """Bytes came from the resource."""
        self.of_backend(data)

    cdef int of_agent(self, bytes data) except -1:
        cdef Known known
        if self.open and not self.behind:
            self.came = seconds_of(CLOCK_MONOTONIC)
            try:
                known = self.way.again(data)
                if known is not None and (
                    self.book.again(known.decided, known.values, known.text) or self.gate.again(known)
                ):
                    self.known = known
                    self.out = self.way.proceed(known, data)
                    self.turn.add(self)
                    self.active = self.came
                    if self.seen < SEVERAL:
                        self.seen += 1
                        if self.seen == SEVERAL:
                            self.session.read_together()
                    return 0
            except Exception as wrong:
                self.session.stop(wrong)
                return 0
        self.session.from_agent(data)
        return 0

    cdef bint forward(self) except -1:
        """False when it has to be on the disk first."""
        data, self.out = self.out, None
        if data is None or not self.open:
            return True
        try:
            if self.frames is not None and self.frames.failed:
                self.gate.check_recording()
            if self.book.urgent != self.on_disk:
                if not self.gate.on_disk(self.book.urgent):
                    self.session.put_off(self.book.urgent, self.came, data)
                    return False
                self.on_disk = self.book.urgent
            self.backend.to_peer(data)
            self.turn.to_backend.observe(seconds_of(CLOCK_MONOTONIC) - self.came)
        except Exception as wrong:
            self.session.stop(wrong)
        return True

    cdef int of_backend(self, bytes data) except -1:
        cdef Known known = self.known
        cdef Answered answered
        cdef double came
        if known is not None and self.open:
            self.known = None
            came = seconds_of(CLOCK_MONOTONIC)
            try:
                answered = self.way.answered(data)
                if answered is not None:
                    self.active = came
                    self.take(known, answered)
                    self.turn.to_agent.observe(seconds_of(CLOCK_MONOTONIC) - came)
                    return 0
            except Exception as wrong:
                self.session.stop(wrong)
                return 0
        self.long_way(data)
        return 0

    cdef int take(self, Known known, Answered answered) except -1:
        cdef Py_ssize_t size = 0
        cdef const uint8_t *p
        if not self.book.within(answered.all_rows, answered.all_size):
            self.gate.received(answered.all_rows, answered.all_size)
        if answered.described is not None:
            self.gate.rows_described(answered.number, answered.described)
        if not self.book.answered(
            known.decided, answered.number, len(known.statements), answered.rows, answered.size,
            answered.masked, answered.columns, answered.began, answered.place
        ):
            self.gate.answered(known, answered)
        if not self.turn.writing:
            self.session.write_soon()
        self.agent.to_peer(answered.data)
        if self.frames is not None:
            p = bytes_of(answered.data, &size)
            self.frames.one(answered.data, p, size)
            if self.frames.size >= self.block or self.frames.full:
                self.session.hold_for_record()
            if not self.turn.recording:
                self.session.record_soon()
        return 0
