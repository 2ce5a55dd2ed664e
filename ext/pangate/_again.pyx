# cython: freethreading_compatible = True
"""Requests that came before but for their values.

A program sends the same few requests over and over. What was found out about one of them (what it does, who
may, what its rows are) holds for the next that is the same in every byte but those of its values. This
module takes the values out of a request, and finds what is known by what is left."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from pangate._frame cimport Plan, WholeAnswers, whole_t

cdef enum:
    LONGEST = 4096  # bytes of a request that is looked at
    MOST = 64  # requests that one connection remembers
    MOST_VALUES = 64

cdef uint8_t PLAIN[256]  # what stands in values that name nothing: no letter, no escape

for _byte in range(256):
    PLAIN[_byte] = chr(_byte) in "0123456789 +-.:,"


cdef inline uint32_t be32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline Py_ssize_t be16(const uint8_t *p) noexcept nogil:
    return (<Py_ssize_t>p[0] << 8) | p[1]


cdef inline bint in_word(uint8_t c) noexcept nogil:
    return c"0" <= c <= c"9" or c"a" <= c <= c"z" or c"A" <= c <= c"Z" or c == c"_" or c == c"." or c == c"$"


cdef inline Py_ssize_t text_end(const uint8_t *p, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    """Behind the NUL of a string, -1 when it has none."""
    cdef const uint8_t *found = <const uint8_t *>memchr(p + at, 0, n - at) if at < n else NULL
    return found - p + 1 if found != NULL else -1


cdef class Known:
    """What is known of a request. `statements` are as they were asked, without values; `head` and
    `description` are the answers in front of the rows, whole messages; `shown` says whether the description
    goes to the agent, which has asked for it; `names` are those of the plan's columns, and `generation` is
    that of what the plan was made by."""

    def __init__(self, str kind, tuple statements, name, portal, prepared, types, bytes head,
                 bytes description, bint shown, plan, tuple names, generation):
        self.kind, self.statements = kind, statements
        self.name, self.portal, self.prepared, self.types = name, portal, prepared, types
        self.head, self.description, self.shown = head, description, shown
        self.plan, self.names, self.generation = plan, names, generation
        self.values = ()

    def for_another(self):
        """The same for another connection, which has not asked for it yet."""
        cdef Known made = Known.__new__(Known)
        made.kind, made.statements = self.kind, self.statements
        made.name, made.portal, made.prepared, made.types = self.name, self.portal, self.prepared, self.types
        made.head, made.description, made.shown = self.head, self.description, self.shown
        made.plan, made.names, made.generation = self.plan, self.names, self.generation
        made.values = ()
        made.fresh = True
        return made

    def given(self, tuple values not None, str text):
        """The same request with these values and this text."""
        self.values, self.text = values, text
        return self


cdef class Answered:
    """All that the resource answered to a request that came before: `data` is for the agent. The last of its
    statements had `number` and ended with the message at `place`, the others with that at `began`, the first
    of it; `described` is the place and the description of the rows when the agent is not told it. `all_rows`
    and `all_size` are what it was given since the session began."""

    def __init__(self, data, long long number, long long rows, long long size, dict masked, dict columns,
                 place, began, tuple described, long long all_rows=0, long long all_size=0):
        self.data, self.number, self.rows, self.size = data, number, rows, size
        self.masked, self.columns, self.place, self.began = masked, columns, place, began
        self.described, self.all_rows, self.all_size = described, all_rows, all_size


cdef int keep(dict known, bytes key, Known one) except -1:
    if len(known) >= MOST:
        known.clear()
    known[key] = one
    return 0


cdef class Requests:
    """The requests that one connection remembers. `look` takes one apart; then `key` is what is left of
    it without its values, `kind` the letter of its first message, empty when it is none that could come
    again."""

    cdef dict known
    cdef readonly str kind
    cdef readonly bytes key
    cdef readonly bytes name
    """The prepared statement that is bound."""
    cdef readonly bytes portal
    cdef readonly bint asks_description
    cdef readonly bint exact
    """Whether the text of a query stands in the key as it is."""
    cdef readonly tuple values
    """Values of a Bind as texts; None when some are in binary."""
    cdef readonly str text
    """The text of a query; None when it is the one that is known."""
    cdef readonly bint plain
    """Whether no value has a letter in it."""
    cdef uint8_t room[LONGEST]

    def __cinit__(self):
        self.known = {}
        self.kind = ""

    cpdef look(self, bytes data):
        """What is known of the request `data`; None when nothing is."""
        cdef const uint8_t *p
        cdef Py_ssize_t n
        if data is None:
            raise TypeError("a request is bytes")
        p, n = <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
        self.kind = ""
        if not 6 <= n <= LONGEST:
            return None
        if p[0] == c"Q":
            if not self.query(p, n):
                return None
        elif p[0] == c"B":
            if not self.bound(p, n, 0):
                return None
        elif p[0] == c"P":
            if not self.parsed(p, n):
                return None
        else:
            return None
        return self.known.get(self.key)

    def remember(self, bytes key not None, Known known not None):
        """What is known of requests with this key."""
        keep(self.known, key, known)

    cdef bint query(self, const uint8_t *p, Py_ssize_t n) except -1:
        # A number that stands by itself is a value, in a text where nothing else could be around it: a
        # string, a name in quotes, a comment.
        cdef Py_ssize_t i = 5, o = 1, end = n - 1
        cdef bint simple = True
        cdef uint8_t c
        if be32(p + 1) != <uint32_t>end or p[end] != 0 or memchr(p + 5, 0, n - 6) != NULL:
            return False
        for i in range(5, end):
            c = p[i]
            if c == 39 or c == 34 or c == 36 or c == 92 or c >= 128 or (
                (c == 45 or c == 47) and (p[i + 1] == 45 or p[i + 1] == 42)
            ):
                simple = False
                break
        i = 5
        self.exact = True
        if simple:
            self.room[0] = c"q"
            while i < end:
                c = p[i]
                if c"0" <= c <= c"9" and not in_word(p[i - 1] if i > 5 else 0):
                    while c"0" <= p[i] <= c"9":
                        i += 1
                    if in_word(p[i]):  # not a number by itself: the text counts as it is
                        simple = False
                        break
                    self.room[o] = c"0"
                    o += 1
                    self.exact = False
                else:
                    self.room[o] = c
                    o += 1
                    i += 1
        if not simple or self.exact:
            self.exact = True
            self.key = PyBytes_FromStringAndSize(<const char *>p, n)
            self.text = None
        else:
            self.key = PyBytes_FromStringAndSize(<const char *>self.room, o)
            self.text = PyUnicode_DecodeUTF8(<const char *>p + 5, end - 5, NULL)
        self.kind = "Q"
        self.name = self.portal = None
        self.values = ()
        self.plain = True
        return True

    cdef bint parsed(self, const uint8_t *p, Py_ssize_t n) except -1:
        # of the unnamed statement only, which a Bind follows
        cdef Py_ssize_t at
        cdef uint32_t length = be32(p + 1)
        if length > <uint32_t>(n - 1) or p[5] != 0:
            return False
        at = text_end(p, 6, length + 1)
        if at < 0 or at + 2 > <Py_ssize_t>length + 1 or at + 2 + 4 * be16(p + at) != <Py_ssize_t>length + 1:
            return False
        at = length + 1
        if at + 5 > n or p[at] != c"B" or not self.bound(p, n, at) or PyBytes_GET_SIZE(self.name):
            self.kind = ""
            return False
        self.kind = "P"
        return True

    cdef bint bound(self, const uint8_t *p, Py_ssize_t n, Py_ssize_t first) except -1:
        """Bind, Describe of its portal or none, Execute of all of it, Sync, and nothing else."""
        cdef Py_ssize_t at = first, name, portal, formats, values, results, end, count, i
        cdef Py_ssize_t begun[MOST_VALUES]
        cdef int32_t sizes[MOST_VALUES]
        cdef uint32_t length = be32(p + first + 1)
        cdef bint binary = False
        cdef list made
        if length > <uint32_t>(n - first - 1):
            return False
        end = first + 1 + length
        portal = first + 5
        name = text_end(p, portal, end)
        if name < 0:
            return False
        formats = text_end(p, name, end)
        if formats < 0 or formats + 2 > end:
            return False
        count = be16(p + formats)
        at = formats + 2 + 2 * count
        if count > MOST_VALUES or at + 2 > end:
            return False
        for i in range(count):
            if be16(p + formats + 2 + 2 * i) > 1:
                return False
            binary = binary or be16(p + formats + 2 + 2 * i) == 1
        i = count
        count = be16(p + at)
        values = at + 2
        if count > MOST_VALUES or (i != 0 and i != 1 and i != count):
            return False
        at = values
        self.plain = True
        for i in range(count):
            if at + 4 > end:
                return False
            sizes[i] = <int32_t>be32(p + at)
            at += 4
            begun[i] = at
            if sizes[i] == -1:
                continue
            if sizes[i] < 0 or sizes[i] > end - at:
                return False
            at += sizes[i]
        results = at
        if at + 2 > end or at + 2 + 2 * be16(p + at) != end:
            return False
        for i in range(be16(p + at)):
            if be16(p + at + 2 + 2 * i) > 1:
                return False
        at = end
        self.asks_description = at < n and p[at] == c"D"
        if self.asks_description:
            if at + 6 + name - portal > n or be32(p + at + 1) != <uint32_t>(5 + name - portal):
                return False
            if p[at + 5] != c"P" or memcmp(p + at + 6, p + portal, name - portal):
                return False
            at += 6 + name - portal
        # Execute without a limit, then Sync
        if n - at != 9 + name - portal + 5 or p[at] != c"E":
            return False
        if be32(p + at + 1) != <uint32_t>(8 + name - portal) or memcmp(p + at + 5, p + portal, name - portal):
            return False
        at += 5 + name - portal
        if be32(p + at) or p[at + 4] != c"S" or be32(p + at + 5) != 4:
            return False
        # the length of the Bind is one of its values'
        memcpy(self.room, p, values)
        for i in range(4):
            self.room[first + 1 + i] = 0
        memcpy(self.room + values, p + results, n - results)
        self.key = PyBytes_FromStringAndSize(<const char *>self.room, values + n - results)
        self.portal = PyBytes_FromStringAndSize(<const char *>p + portal, name - portal - 1)
        self.name = PyBytes_FromStringAndSize(<const char *>p + name, formats - name - 1)
        self.text = None
        self.exact = True
        self.kind = "B"
        if binary:
            self.values = None
            self.plain = False
            return True
        made = []
        for i in range(count):
            if sizes[i] < 0:
                made.append(None)
                continue
            for at in range(begun[i], begun[i] + sizes[i]):
                if not PLAIN[p[at]]:
                    self.plain = False
                    break
            made.append(PyUnicode_DecodeUTF8(<const char *>p + begun[i], sizes[i], "backslashreplace"))
        self.values = tuple(made)
        return True


cdef dict NOTHING = {}
cdef tuple STATUS = tuple(bytes((_byte,)) for _byte in range(256))


cdef class ShortWay:
    """The short way through a codec, whatever its protocol."""

    cpdef Known again(self, bytes data):
        """What is known of the request `data`, when it came before but for its values and nothing is under
        way; nothing has happened yet then. None when it is to go by `frontend`."""
        raise NotImplementedError

    cpdef bytes proceed(self, Known known, bytes data):
        """It may: what the resource is sent of it."""
        raise NotImplementedError

    cpdef Answered answered(self, bytes data):
        """Take what the resource answers, when it is the whole answer to what went the short way and looks
        like the one before. None when it is to go by `backend`."""
        raise NotImplementedError


@cython.final
cdef class Standing:
    """How a conversation stands, for the short way as for the long one."""

    def __init__(self):
        self.status = b"I"


cdef class Lane(ShortWay):
    """The short way through a codec: requests that are known go by here, while nothing else is under way.
    What it takes of the codec are its own names and portals, `values` for those that are in binary, and
    `mentioned` for values that may name something; `idle` is true when nothing is under way for certain."""

    cdef readonly Requests requests
    cdef public bint idle
    cdef readonly Known pending
    """The request that was sent, and is not answered yet."""
    cdef readonly bytes sent
    cdef WholeAnswers walker
    cdef object codec, catalog, values, mentioned, describe, prepare
    cdef Standing standing
    cdef dict prepared, portals, common
    cdef tuple networks
    cdef Py_ssize_t most

    def __init__(self, codec, Standing standing not None, WholeAnswers walker not None, dict prepared,
                 dict portals, tuple networks, Py_ssize_t most, values, mentioned, describe, prepare):
        self.requests = Requests()
        self.standing = standing
        self.codec, self.walker, self.prepared, self.portals = codec, walker, prepared, portals
        self.networks, self.most = networks, most
        self.values, self.mentioned, self.describe, self.prepare = values, mentioned, describe, prepare

    def begin(self, catalog, dict common not None):
        """From now on there may be requests, and this is what is known of the resource. `common` has the
        requests of all connections whose results are masked as this one's are."""
        self.catalog, self.common = catalog, common

    def remember(self, bytes key not None, Known known not None):
        """What is known of requests with this key. A query is one for every connection."""
        keep(self.requests.known, key, known)
        if known.name is None:
            keep(self.common, key, known.for_another())

    cdef Known shared(self):
        """What another connection came to know of the request that was looked at."""
        cdef Known known = <Known>self.common.get(self.requests.key)
        if known is None or known.generation != self.catalog.generation:
            return None
        self.codec.settle()
        known = known.for_another()
        keep(self.requests.known, self.requests.key, known)
        return known

    cpdef Known again(self, bytes data):
        """What is known of the request `data`, with its values, when it is one and nothing is under way."""
        cdef Requests requests = self.requests
        cdef Known known
        cdef tuple values
        if self.pending is not None or self.catalog is None or PyBytes_GET_SIZE(data) > self.most:
            return None
        if not self.idle:
            if not self.codec._idle():
                return None
            self.idle = True
        known = <Known>requests.look(data)
        if known is None or known.generation != self.catalog.generation:
            known = self.shared() if requests.kind == "Q" else None
            if known is None:
                return None
        values = requests.values
        if known.name is not None:
            prepared = self.prepared.get(known.name)
            if prepared is None:
                return None
            if requests.kind == "B" and (prepared is not known.prepared or prepared.doubtful):
                return None
            if values is None:
                values = self.values(data, prepared.types if requests.kind == "B" else known.types)
            if values and not requests.plain and self.mentioned(values):
                return None
        known.values, known.text = values, requests.text
        return known

    cpdef bytes proceed(self, Known known, bytes data):
        """It may: what the resource is sent."""
        cdef Py_ssize_t at
        self.standing.candidate = None
        self.pending, self.sent = known, data
        if known.name is None or known.shown:
            return data
        # as the codec does where the agent asks for no description: behind it comes what ends with Sync
        at = PyBytes_GET_SIZE(data) - PyBytes_GET_SIZE(known.portal) - 15
        return data[:at] + self.describe(known.portal) + data[at:]

    def forget(self):
        """What was sent, which goes on by the long way."""
        sent, self.pending, self.sent = self.sent, None, None
        self.idle = False
        return sent

    cpdef Answered answered(self, bytes data):
        """The answer to what was sent, when it is just that. None for everything else, of which nothing is
        taken then."""
        cdef Known known = self.pending
        cdef Plan plan
        cdef dict columns = NOTHING, masked
        cdef tuple described = None
        cdef whole_t found
        if known is None or known.generation != self.catalog.generation:
            return None
        plan = known.plan
        out = self.walker.whole(data, known.head, known.description, known.shown, plan, &found)
        if out is None:
            return None
        self.pending = self.sent = None
        self.standing.status = <bytes>STATUS[found.status]
        self.standing.numbers += len(known.statements)
        number = self.standing.numbers
        masked = self.walker.masked_now()
        if masked:
            masked = {self.networks[index]: count for index, count in masked.items()}
        if plan is not None and plan.hit:
            columns = {known.names[index]: count for index, count in (<dict>plan.take_hits()).items()}
        if known.name is not None:
            self.portals[known.portal] = number
            if known.kind == "P":
                self.prepared[b""] = self.prepare(known.statements[0].text, known.types)
            if not known.shown and plan is not None:
                described = (found.place + <uint64_t>PyBytes_GET_SIZE(known.head), known.description[5:])
        if found.status == c"I":
            if self.portals:
                self.portals.clear()  # outside of a transaction none lives on
            if self.standing.changed:
                self.standing.changed = False
                self.catalog.expire()
        place = found.end if known.name is None else found.tag
        cdef Answered made = Answered.__new__(Answered)
        made.data, made.number, made.rows, made.size = out, number, found.rows, found.size
        made.masked, made.columns, made.described = masked, columns, described
        made.place, made.began = place, found.place
        made.all_rows, made.all_size = found.all_rows, found.all_size
        return made


def answer_parts(bytes data not None):
    """What stands in front of the rows of `data`, when it is all that a resource answers to one request:
    (ParseComplete and BindComplete, the description); None when it is anything else."""
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data), at = 0, head, description
    while n - at >= 5 and (p[at] == c"1" or p[at] == c"2") and be32(p + at + 1) == 4:
        at += 5
    head = at
    if n - at >= 5 and (p[at] == c"T" or p[at] == c"n"):
        if be32(p + at + 1) < 4 or be32(p + at + 1) > <uint32_t>(n - at - 1):
            return None
        at += 1 + be32(p + at + 1)
    description = at
    return data[:head], data[head:description]
