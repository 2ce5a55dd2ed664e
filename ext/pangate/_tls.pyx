# cython: freethreading_compatible = True
"""TLS of the ssl module, on two buffers in memory. An event loop has such a layer too, which spends more on a
message than OpenSSL does."""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE

from pangate._wire cimport Wire

from ssl import MemoryBIO, SSLCertVerificationError, SSLWantReadError, SSLZeroReturnError

cdef enum:
    PIECE = 32768  # bytes that go into TLS or out of it at a time: its buffers keep room for the most ever
    ABOVE_RECORD = 16385  # one more than a record holds, so that a full one is known to be all of it

LAST_SECONDS = 1.0
"""How long somebody whose certificate is refused may take to read why."""


@cython.final
cdef class Tls(Wire):
    """TLS over a transport of the event loop, whose protocol it is; and the transport of `protocol`, which is
    connected when the handshake is done.

    `ready` is a future of the loop: done then, or with what went wrong before. A handshake has no time of its
    own: who waits for `ready` and gives up aborts. `closing_seconds` is how long a peer may take to say that
    it has taken note of the end. What the peer sends after its end, and what it sent before and was not read
    when this side closed, is nobody's. An error within TLS ends the connection."""

    def __init__(self, protocol, context, ready, double closing_seconds, *, bint server, hostname=None):
        self.protocol, self.context, self.ready = protocol, context, ready
        self.closing_seconds, self.server, self.hostname = closing_seconds, server, hostname
        self.loop = ready.get_loop()
        self.state = SHAKING

    # --- the protocol of what is below ------------------------------------------------------------

    def connection_made(self, transport):
        """There is a socket: shake hands."""
        if self.state != SHAKING:
            transport.abort()  # who waited has given up
            return
        self.begin(transport)
        self.incoming, self.outgoing = MemoryBIO(), MemoryBIO()
        self.incoming_write, self.outgoing_read = self.incoming.write, self.outgoing.read
        try:
            self.ssl_object = self.context.wrap_bio(
                self.incoming, self.outgoing, server_side=self.server, server_hostname=self.hostname
            )
        except Exception as wrong:
            self.refuse(wrong)
            return
        # what SSLObject's own methods do is call these
        below = getattr(self.ssl_object, "_sslobj", self.ssl_object)
        self.tls_read, self.tls_write = below.read, below.write
        if not self.server:
            self.shake()

    def data_received(self, bytes data not None):
        """Records came, or parts of them."""
        self.came(data)

    cdef int came(self, bytes data) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at
        cdef list parts
        if self.state == SHAKING:
            self.incoming_write(data)
            self.shake()
        elif self.state == OPEN or self.state == CLOSING:
            parts = []
            if size <= PIECE:
                self.incoming_write(data)
                self.decrypt(size, parts)
            else:
                view = memoryview(data)
                for at in range(0, size, PIECE):
                    self.incoming_write(view[at : at + PIECE])
                    self.decrypt(PIECE, parts)
            self.hand_on(parts)
        return 0

    def eof_received(self):
        """The peer has closed its socket, whatever it has said before: the transport closes too."""
        return False

    def connection_lost(self, wrong):
        """The socket is closed."""
        self.let_go()
        self.state = OVER
        if self.timer is not None:
            self.timer.cancel()
        wrong = self.wrong or wrong or self.failure
        protocol, self.protocol, self.received = self.protocol, None, None
        self.timer = self.unwritten = self.incoming = self.outgoing = None
        self.incoming_write = self.outgoing_read = self.tls_read = self.tls_write = None
        self.transport = self.waiting = self.closing = self.put = None
        if self.ready is not None and not self.ready.done():
            self.ready.set_exception(
                wrong or ConnectionResetError("the peer went away during the TLS handshake")
            )
        if self.connected:
            protocol.connection_lost(wrong)

    def pause_writing(self):
        """The peer takes nothing more for now."""
        self.full = True
        if self.state == OPEN and self.unwritten is None:
            self.protocol.pause_writing()

    def resume_writing(self):
        """It does again."""
        self.full = False
        if self.state == OPEN and self.unwritten is None:
            self.protocol.resume_writing()

    # --- the handshake ------------------------------------------------------------------------------

    cdef int shake(self) except -1:
        try:
            self.ssl_object.do_handshake()
        except SSLWantReadError:
            return self.flush()
        except Exception as wrong:
            return self.refuse(wrong)
        self.state, self.connected = OPEN, True
        self.received = self.protocol.data_received
        # Also a ticket of TLS 1.3, which nobody waits for: it acknowledges the peer's last word, and until
        # that comes its system may keep what it says next.
        self.flush()
        self.protocol.connection_made(self)
        if not self.ready.done():
            self.ready.set_result(None)
        self.ready = None
        self.go_on()
        return 0

    cdef int refuse(self, wrong) except -1:
        """The handshake has failed. The peer is told why, if it takes that at once; who showed a certificate
        has time to read it, because a socket that is closed with unread bytes resets the connection, and
        what was said is lost."""
        self.wrong, self.state = wrong, ENDING
        if not self.ready.done():
            self.ready.set_exception(wrong)  # not a second later: who waits may have given up by then
        self.flush()
        if self.server and isinstance(wrong, SSLCertVerificationError) and not self.closing():
            self.transport.write_eof()
            self.timer = self.loop.call_later(LAST_SECONDS, self.abort)
        else:
            self.transport.abort()
        return 0

    # --- what comes -----------------------------------------------------------------------------------

    def go_on(self):
        """Read what had come already when nothing was to be read, or with the handshake's end."""
        cdef list parts = []
        if self.state == OPEN and not self.paused and <Py_ssize_t>self.incoming.pending > 0:
            self.decrypt(ABOVE_RECORD, parts)
            self.hand_on(parts)

    cdef int decrypt(self, Py_ssize_t size, list parts) except -1:
        """Read what there is, of which `size` encrypted bytes have just come. What ends the connection is
        kept for `hand_on`."""
        cdef Py_ssize_t most = min(size, <Py_ssize_t>ABOVE_RECORD), got
        cdef bytes part
        if self.said_end or self.wrong is not None:
            return 0
        try:
            while True:
                part = self.tls_read(most)
                got = PyBytes_GET_SIZE(part)
                if got == 0:
                    self.said_end = True
                    return 0
                parts.append(part)
                # a record that is not read to its end has filled what there was room for
                if got < most and <Py_ssize_t>self.incoming.pending == 0:
                    return 0
                most = ABOVE_RECORD
        except SSLWantReadError:
            pass
        except SSLZeroReturnError:
            self.said_end = True
        except OSError as wrong:  # SSLError is one
            self.wrong = wrong
        return 0

    cdef int hand_on(self, list parts) except -1:
        """Give the protocol what was read, then see to what TLS has to say and to the end."""
        if parts and self.state == OPEN:
            self.received(parts[0] if len(parts) == 1 else b"".join(parts))
        if self.state != OPEN and self.state != CLOSING:
            return 0
        if self.wrong is not None:
            return self.broken(self.wrong)
        if self.unwritten is not None:
            self.settle()
        if <Py_ssize_t>self.outgoing.pending > 0:
            self.flush()
        if self.state == CLOSING:
            if self.said_end:
                self.transport.close()
            elif self.unwritten is None:
                self.part()
        elif self.said_end:
            self.protocol.eof_received()
            self.close()
        return 0

    # --- what goes ------------------------------------------------------------------------------------

    cdef int to_peer(self, data) except -1:
        cdef Py_ssize_t size = len(data), at
        if size == 0 or self.state != OPEN:
            return 0
        if size <= PIECE:
            self.encrypt(data)
            return self.flush()
        view = memoryview(data)
        for at in range(0, size, PIECE):
            self.encrypt(view[at : at + PIECE])
            self.flush()
        return 0

    cdef int encrypt(self, data) except -1:
        """Make records of `data`. All of it is taken, or nothing: then TLS wants to hear the peer first, of
        whose own messages it has one by half, and nothing more is to be written before."""
        if self.unwritten is not None:
            self.unwritten.append(bytes(data))
            return 0
        if self.wrong is not None:
            return 0
        try:
            self.tls_write(data)
        except SSLWantReadError:
            self.unwritten = [bytes(data)]
            if self.state == OPEN and not self.full:
                self.protocol.pause_writing()
        except OSError as wrong:
            self.broken(wrong)
        return 0

    cdef int settle(self) except -1:
        """Write what could not be written, if it can be now."""
        try:
            while self.unwritten:
                self.tls_write(self.unwritten[0])
                del self.unwritten[0]
        except SSLWantReadError:
            return 0
        except OSError as wrong:
            return self.broken(wrong)
        self.unwritten = None
        if self.state == OPEN and not self.full:
            self.protocol.resume_writing()
        return 0

    cdef int flush(self) except -1:
        if self.state == OVER:
            return 0
        data = self.outgoing_read()
        return Wire.to_peer(self, data)

    # --- the end --------------------------------------------------------------------------------------

    cdef int part(self) except -1:
        """Say that this side has ended; close when the peer has too."""
        try:
            self.ssl_object.unwrap()
        except SSLWantReadError:
            return self.flush()
        except OSError as wrong:
            return self.broken(wrong)
        self.flush()
        self.transport.close()
        return 0

    cdef int broken(self, wrong) except -1:
        """An error within TLS. The peer is told, if it takes that at once."""
        self.wrong = wrong
        self.flush()
        self.abort()
        return 0

    def too_late(self):
        """The peer has not taken note of the end."""
        self.wrong = TimeoutError("the peer did not end TLS in time")
        self.abort()

    # --- the transport of what is above ---------------------------------------------------------------

    def write(self, data):
        """Send `data`."""
        self.to_peer(data)

    def writelines(self, parts):
        """Send all of them, small ones at once."""
        cdef Py_ssize_t size = 0
        parts = list(parts)
        if len(parts) == 1:
            self.to_peer(parts[0])
            return
        for data in parts:
            size += len(data)
        if size <= PIECE:
            self.to_peer(b"".join(parts))
            return
        for data in parts:
            self.to_peer(data)

    def close(self):
        """Say that this side has ended, wait for the peer to say it, then close."""
        self.let_go()
        if self.state == OPEN:
            self.state = CLOSING
            if self.unwritten is None:
                if not self.said_end:
                    # what came and was not read is nobody's, and TLS does not end before it
                    self.decrypt(ABOVE_RECORD, [])
                self.part()
            if self.state == CLOSING and not self.closing():
                self.timer = self.loop.call_later(self.closing_seconds, self.too_late)
                self.transport.resume_reading()
        elif self.state == SHAKING:
            self.abort()

    def abort(self):
        """Close without a word."""
        self.let_go()
        if self.transport is not None:
            self.state = ENDING
            self.transport.abort()
        else:
            self.state = OVER

    def is_closing(self):
        """Whether nothing more is sent."""
        return self.state != OPEN or self.closing()

    def pause_reading(self):
        """Hand nothing more on for now."""
        if self.state == OPEN:
            self.paused = True
            Wire.pause_reading(self)

    def resume_reading(self):
        """Hand on again what comes."""
        if self.state == OPEN:
            self.paused = False
            if <Py_ssize_t>self.incoming.pending > 0:
                self.loop.call_soon(self.go_on)
            Wire.resume_reading(self)

    def is_reading(self):
        """Whether what comes is handed on."""
        return self.state == OPEN and (
            self.transport.is_reading() if self.poll is None else bool(self.listening)
        )

    def get_write_buffer_size(self):
        """Bytes that wait for the peer."""
        if self.state == OVER:
            return 0
        return self.waiting() + (sum(map(len, self.unwritten)) if self.unwritten is not None else 0)

    def set_write_buffer_limits(self, high=None, low=None):
        """With how many of them the protocol's writing is paused, and goes on again."""
        if self.state != OVER:
            self.transport.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self):
        """The same numbers, the low one first."""
        return (0, 0) if self.state == OVER else self.transport.get_write_buffer_limits()

    def set_protocol(self, protocol):
        """From now on what comes is `protocol`'s."""
        self.protocol = protocol
        if self.state != OVER:
            self.received = protocol.data_received

    def get_protocol(self):
        """Whose it is."""
        return self.protocol

    def can_write_eof(self):
        """No: TLS ends both ways at once."""
        return False

    def get_extra_info(self, name, default=None):
        """What asyncio's transports tell, of the socket and of TLS."""
        if name == "ssl_object":
            return self.ssl_object
        if name == "sslcontext":
            return self.context
        if name in ("cipher", "compression"):
            return getattr(self.ssl_object, name)()
        if name == "peercert":
            return self.ssl_object.getpeercert()
        return default if self.transport is None else self.transport.get_extra_info(name, default)
