# cython: freethreading_compatible = True
"""What is noted of every statement: counts, the leaves that wait to be written, the frames of a recording. No
Python runs for a statement whose form is known."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport rint
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from pangate._leaf cimport Encoder, Form

from collections import deque

from pangate.errors import RecordFailed

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)
    enum:
        CLOCK_MONOTONIC
        CLOCK_MONOTONIC_COARSE
        CLOCK_REALTIME

cdef extern from "<unistd.h>" nogil:
    Py_ssize_t c_write "write"(int fd, const void *data, size_t size)

cdef extern from "<sys/stat.h>" nogil:
    struct file_t "stat":
        long st_nlink
        long long st_size
    int fstat(int fd, file_t *found)

cdef enum:
    HEAD = 14  # of a frame: its kind, the length of what follows, microseconds, a bar

cdef double ASKED_SECONDS = 1.0  # how often the state of the clock is asked for at the most


cdef double seconds_of(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <double>now.tv_sec + <double>now.tv_nsec * 1e-9


cdef inline double millionths(double seconds) noexcept nogil:
    return rint(seconds * 1e6) / 1e6


cpdef bint is_unchanged(int fd, long long length):
    """Whether the file that is open as `fd` has this length and a name. False too when nobody can say."""
    cdef file_t found
    return fstat(fd, &found) == 0 and found.st_nlink > 0 and found.st_size == length


@cython.final
cdef class Histogram:
    """Counts of values by upper bound, in seconds."""

    def __cinit__(self, bounds):
        if len(bounds) > MOST_BOUNDS:
            raise ValueError(f"a histogram has {MOST_BOUNDS} bounds at the most")
        self.many = len(bounds)
        for i, bound in enumerate(bounds):
            self.bounds[i] = bound
            self.counts[i] = 0
        self.counts[self.many] = 0
        self.sum = 0

    cpdef observe(self, double seconds):
        """Count one value."""
        cdef int i = 0
        while i < self.many and self.bounds[i] < seconds:
            i += 1
        self.counts[i] += 1
        self.sum += seconds

    def buckets(self):
        """What Prometheus takes: (bound, values up to it), and the sum of all values."""
        made = []
        cdef uint64_t total = 0
        cdef int i
        for i in range(self.many + 1):
            total += self.counts[i]
            made.append((str(self.bounds[i]) if i < self.many else "+Inf", <object>total))
        # to the microsecond: a float's sixteen digits could read as a card number
        return made, round(self.sum, 6)


@cython.final
cdef class Steps:
    """Notices that the system's clock went back by more than `most` seconds behind the latest time that was
    seen."""

    def __init__(self, double most, double latest=0.0):
        self.most, self.latest, self.behind = most, latest, 0.0

    def see(self, double moment):
        """It is `moment` by the clock, in seconds since 1970."""
        if moment < self.latest - self.most:
            self.behind = self.latest - moment
        else:
            self.behind = 0.0
            self.latest = max(self.latest, moment)

    def accept(self, double moment):
        """What the clock says is right, and what it said before was not."""
        self.latest, self.behind = moment, 0.0


@cython.final
cdef class Pending:
    """Leaves that wait to be written, `most` bytes of them. `encode` makes a leaf of an event with its
    sequence. `encoder` does the same without Python, where there is one, for leaves of `longest` bytes at the
    most; `clock` says the state of the clock for it, and `steps` whether it went back."""

    def __init__(self, long long sequence, long long most, encode=None, Encoder encoder=None, clock=None,
                 Steps steps=None, Py_ssize_t longest=0):
        self.leaves, self.sequence, self.most = [], sequence, most
        self.encode, self.encoder, self.clock, self.steps = encode, encoder, clock, steps
        self.longest = longest
        self.asked = -ASKED_SECONDS

    cpdef bint in_time(self, double moment):
        """Whether it is right that it is `moment` by the clock, without a doubt: it is not before what was
        seen, as nearly always. Otherwise Steps.see knows."""
        if self.steps is None:
            return True
        if self.steps.behind or not moment >= self.steps.latest:
            return False
        self.steps.latest = moment
        return True

    def note(self, event, double now):
        """An event, of which the leaf is made. Returns its sequence."""
        cdef bytes leaf
        if self.closed:
            raise RecordFailed("the record is closed; the gateway is stopping")
        if self.encoder is None:
            leaf = self.encode(event, self.sequence + 1)
        else:
            leaf = self.encoder.leaf(event, self.sequence + 1, event[1], self.clock_state())
            if self.longest and PyBytes_GET_SIZE(leaf) > self.longest:
                leaf = self.encode(event, self.sequence + 1)
        self.put(leaf, now)
        return self.sequence

    cpdef take(self, Py_ssize_t left=0):
        """They are written, all but the last `left` of them."""
        self.leaves = self.leaves[len(self.leaves) - left :] if left else []
        self.size = sum(map(len, self.leaves)) if left else 0

    cdef int put(self, bytes leaf, double now) except -1:
        if self.size + PyBytes_GET_SIZE(leaf) > self.most:
            raise RecordFailed(
                f"more than {self.most} bytes of records wait to be written; see whether the disk of the "
                "audit file is full or slow"
            )
        if not self.leaves:
            self.since = now
        self.leaves.append(leaf)
        self.size += PyBytes_GET_SIZE(leaf)
        self.sequence += 1
        return 0

    cdef str clock_state(self):
        cdef double now
        if self.steps is not None and self.steps.behind:
            return "back"
        now = seconds_of(CLOCK_MONOTONIC_COARSE)
        if now >= self.asked + ASKED_SECONDS:
            self.state, self.asked = self.clock(), now
        return self.state

    cdef int fill(self, Form form, double now, long long statement, tuple values) except -1:
        if self.closed:
            raise RecordFailed("the record is closed; the gateway is stopping")
        return self.put(
            self.encoder.filled(form, self.sequence + 1, now, self.clock_state(), statement, values), now
        )


cdef class Written:
    """The end of a file that only grows, open as `fd`: it has `length` bytes up to the leaf `sequence`. What
    was written and is not known to be on its disk is kept, up to `most` bytes.

    For the thread that writes; another one, which brings it to the disk, takes from the front of `kept`,
    counts in `let_go` the bytes that it took, and sets `synced`, the last leaf that is on the disk, and
    `failing`."""

    def __init__(self, int fd, long long length, long long sequence, long long most):
        self.fd, self.length, self.sequence, self.most = fd, length, sequence, most
        self.synced, self.sound, self.kept = sequence, True, deque()

    @property
    def kept_bytes(self):
        """Bytes that are kept."""
        return self.total - self.let_go

    def end(self):
        """(length, sequence), of one moment."""
        return self.length, self.sequence

    cpdef bint wrote(self, bytes data, long long leaves):
        """`data` was written to the end, so many leaves. Returns whether nothing was kept before."""
        cdef bint first = not self.kept
        offset = self.length
        self.length += PyBytes_GET_SIZE(data)
        self.sequence += leaves
        self.total += PyBytes_GET_SIZE(data)
        self.kept.append((offset, data, self.sequence))
        return first

    cpdef int append(self, list leaves) except -2:
        """Write leaves, each a line, with one write: 1 when nothing was kept before, so that somebody has to
        see to the disk, otherwise 0. -1 when not all of it was written, or nothing may be (not `sound`,
        `failing`, the file changed, too much is kept, something was begun): `take_part` has what was
        begun."""
        cdef bytes data
        cdef Py_ssize_t size, done
        if self.part is not None or not self.sound or self.failing or self.total - self.let_go > self.most:
            return -1
        if not is_unchanged(self.fd, self.length):
            return -1
        data = b"\n".join((*leaves, b""))
        size = PyBytes_GET_SIZE(data)
        # with the GIL: what goes to the page cache takes less time than to get it back
        done = c_write(self.fd, PyBytes_AS_STRING(data), size)
        if done == size:
            return self.wrote(data, len(leaves))
        if done > 0:
            self.part = (data, done)
        return -1

    def take_part(self):
        """(data, how much of it was written) where an `append` wrote a part; None where none did, or it was
        taken."""
        part, self.part = self.part, None
        return part


@cython.final
cdef class Frames:
    """What was gathered of a recording that began at `began`, in seconds of the monotonic clock: frames as
    they are written while all is kept (`whole`, and no more than `room` bytes were sent, -1 for any number),
    otherwise (kind, microseconds, data) for whoever chooses."""

    def __init__(self, double began, bint whole, long long room=-1):
        self.began, self.whole, self.room = began, whole, room
        self.parts, self.framed = [], bytearray()

    @property
    def micros(self):
        """Microseconds since the recording began."""
        return self.moment()

    def take(self):
        """((Frames as bytes, their number, what they have of what was sent) or the parts, their size), and
        begin anew. A part of no kind is of such frames."""
        size, self.size = self.size, 0
        if self.whole:
            return self.block(), size
        parts, self.parts = self.parts, []
        return parts, size

    cdef tuple block(self):
        made = (self.framed, <object>self.count, <object>self.gathered)
        self.framed, self.count, self.gathered = bytearray(), 0, 0
        return made

    cdef bint fits(self, Py_ssize_t size) except -1:
        """Whether so many bytes that are sent are kept, and nobody has to choose."""
        if not self.whole:
            return False
        if self.room >= 0:
            if size > self.room:
                self.whole = False
                if self.count:
                    self.parts.append((b"", 0, self.block()))
                return False
            self.room -= size
        self.gathered += size
        return True

    cdef uint64_t moment(self, double now=0) noexcept:
        """Microseconds since the recording began; `now` is what the monotonic clock said just now."""
        return <uint64_t>(((now or seconds_of(CLOCK_MONOTONIC)) - self.began) * 1e6)

    cdef uint8_t *frame(self, uint8_t kind, uint64_t micros, Py_ssize_t size) except NULL:
        """Room for a frame of this size."""
        cdef Py_ssize_t at = PyByteArray_GET_SIZE(self.framed)
        cdef uint32_t length = <uint32_t>size
        cdef uint8_t *p
        PyByteArray_Resize(self.framed, at + HEAD + size)
        p = <uint8_t *>PyByteArray_AS_STRING(self.framed) + at
        p[0] = kind
        memcpy(p + 1, &length, 4)
        memcpy(p + 5, &micros, 8)
        p[13] = c"|"
        self.count += 1
        return p + HEAD

    cdef int note(self, bytes kind, const uint8_t *data, Py_ssize_t size, double now=0) except -1:
        cdef uint64_t micros = self.moment(now)
        if self.whole:
            memcpy(self.frame((<const uint8_t *>kind)[0], micros, size), data, size)
        else:
            self.parts.append((kind, micros, data[:size]))
        self.size += HEAD + size
        return 0

    cdef int number(self, bytes kind, uint32_t number, double now=0) except -1:
        return self.note(kind, <const uint8_t *>&number, 4, now)

    cdef int place(self, bytes kind, uint32_t number, uint64_t place, double now=0) except -1:
        cdef uint8_t data[12]
        memcpy(data, &number, 4)
        memcpy(data + 4, &place, 8)
        return self.note(kind, data, 12, now)

    def statement(self, uint32_t number):
        """A statement was decided."""
        self.number(b"q", number)

    def finished(self, uint32_t number, uint64_t place):
        """A statement ended."""
        self.place(b"f", number, place)

    cpdef described(self, bytes data):
        """Rows were described."""
        self.note(b"d", <const uint8_t *><const char *>data, PyBytes_GET_SIZE(data))

    cdef int one(self, data, const uint8_t *p, Py_ssize_t size) except -1:
        """`data`, which is these bytes, is on its way; nobody changes it from now on."""
        if self.fits(size):
            self.note(b"s", p, size)
        else:
            self.parts.append((b"s", self.moment(), [data]))
            self.size += HEAD + size
        self.sent_bytes += <uint64_t>size
        return 0

    def sent(self, list buffers not None):
        """These bytes are on their way, which nobody changes from now on."""
        cdef uint64_t micros = self.moment()
        cdef const uint8_t[:] view
        cdef Py_ssize_t size = 0
        cdef uint8_t *p
        for buffer in buffers:
            size += len(buffer)
        if not size:
            return
        if self.fits(size):
            p = self.frame(c"s", micros, size)
            for buffer in buffers:
                view = buffer
                if view.shape[0]:
                    memcpy(p, &view[0], view.shape[0])
                    p += view.shape[0]
        else:
            self.parts.append((b"s", micros, list(buffers)))
        self.size += HEAD + size
        self.sent_bytes += <uint64_t>size


@cython.final
cdef class InForce:
    """The letters of the configuration in force, for all who go by it."""

    def __init__(self, str letters not None):
        self.letters = letters


@cython.final
cdef class Tally:
    """How many of one kind there were."""


@cython.final
cdef class Given:
    """Rows, and their bytes, that agents were given, of all sessions."""


@cython.final
cdef class Decided:
    """What is known of a request that came before: by whom it was decided under which configuration, and what
    is recorded of it. `forms` are (where it is counted, form) of its statements, the last of which has values
    and a text where there are any; none when it is to be decided again each time. `ended` is the form of
    their end, `found` that of one in whose columns something was masked."""

    def __init__(self, judge, str letters not None, tuple forms not None, Form ended=None, Form found=None):
        self.judge, self.letters, self.forms = judge, letters, forms
        self.ended, self.found = ended, found


@cython.final
cdef class Book:
    """What is noted of the statements of one session. `seconds` and `given` count for all sessions."""

    def __init__(self, Pending pending not None, Histogram seconds not None, count_masked,
                 InForce in_force not None, Given given not None):
        self.pending, self.seconds = pending, seconds
        self.count_masked, self.in_force, self.given = count_masked, in_force, given
        self.started, self.masked = {}, {}
        self.most_rows = self.most_bytes = -1

    def admit(self, judge, most_rows, most_bytes):
        """From now on, and by the configuration in force, `judge` decides, and so many rows and bytes may be
        given, None for any number."""
        self.judge, self.letters = judge, self.in_force.letters
        self.most_rows = -1 if most_rows is None else most_rows
        self.most_bytes = -1 if most_bytes is None else most_bytes

    cpdef bint within(self, long long rows, long long size) except -1:
        """Count what the agent was given since the session began. False, and nothing is counted, when that is
        more than it may have, or the configuration is another one by now."""
        if self.letters is not self.in_force.letters:
            return False
        if 0 <= self.most_rows < rows or 0 <= self.most_bytes < size:
            return False
        self.given.rows += rows - self.rows_given
        self.given.size += size - self.bytes_given
        self.rows_given, self.bytes_given = rows, size
        return True

    cpdef bint again(self, decided, tuple values, str text) except -1:
        """Note statements that are allowed as before. False, and nothing is noted, when that is not certain:
        nobody decided them by what is in force now, or the clock is not right."""
        cdef Decided known
        cdef double now
        if type(decided) is not Decided:
            return False
        known = <Decided>decided
        if (
            known.judge is not self.judge or known.letters is not self.in_force.letters
            or self.letters is not known.letters or not known.forms
        ):
            return False
        now = seconds_of(CLOCK_REALTIME)
        if not self.pending.in_time(now):
            return False
        self.note(known.forms, now, values, text)
        return True

    cdef int note(self, tuple forms, double now, tuple values, str text) except -1:
        cdef double began = seconds_of(CLOCK_MONOTONIC)
        cdef Py_ssize_t i, many = len(forms)
        cdef tuple pair, given
        for i in range(many):
            pair = <tuple>forms[i]
            number = self.statements + 1
            if i < many - 1 or (not values and text is None):
                given = (number,)
            elif text is None:
                given = (number, values)
            elif values:
                given = (number, values, text)
            else:
                given = (number, text)
            self.pending.fill(<Form?>pair[1], now, number, given)
            self.statements = number
            self.started[number] = began
            if self.frames is not None:
                self.frames.number(b"q", <uint32_t>self.statements, began)
            (<Tally?>pair[0]).number += 1
        return 0

    cpdef bint answered(self, decided, long long number, Py_ssize_t many, long long rows, long long size,
                        dict masked, dict columns, uint64_t began, uint64_t place) except -1:
        """Note that the `many` statements up to `number` ended: the last one as it says, the others without
        rows. False, and nothing is noted, when there is no form for it, or the clock is not right."""
        cdef double now, ended, took
        cdef long long other
        cdef Form form
        cdef tuple values
        if type(decided) is not Decided:
            return False
        form = (<Decided>decided).found if columns else (<Decided>decided).ended
        if form is None or (<Decided>decided).ended is None:
            return False
        now, ended = seconds_of(CLOCK_REALTIME), seconds_of(CLOCK_MONOTONIC)
        if not self.pending.in_time(now):
            return False
        for other in range(number - many + 1, number + 1):
            took = millionths(ended - <double>self.started.pop(other))
            self.seconds.observe(took)
            if other < number:
                if self.frames is not None:
                    self.frames.place(b"f", <uint32_t>other, began, ended)
                self.pending.fill((<Decided>decided).ended, now, other, (0, {}, other, 0, took))
                continue
            if self.frames is not None:
                self.frames.place(b"f", <uint32_t>other, place, ended)
            values = (size, masked, other, rows, took)
            if columns:
                values = (size, columns, masked, other, rows, took)
            self.pending.fill(form, now, other, values)
        self.add(rows, size, masked)
        if masked:
            self.count_masked(masked)
        return True

    cpdef add(self, long long rows, long long size, masked):
        """What a statement came to."""
        self.rows += rows
        self.size += size
        for network, count in masked.items():
            self.masked[network] = self.masked.get(network, 0) + count
