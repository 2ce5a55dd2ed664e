"""What goes to a peer, plain and with TLS: everything comes, once and in order, however its bytes are split;
the handshake and the ends of a connection; garbage ends it and does nothing else."""

import asyncio
import contextlib
import random
import re
import socket
import ssl
import subprocess
import threading

import pytest
import uvloop

from pangate._tls import Tls
from pangate._wire import Wire
from pki import CLIENT, SERVER, Pki, dns

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def run(work, loop=uvloop.new_event_loop):
    """Run `work`; nothing may be left to the loop's handler of exceptions."""

    async def watched():
        wrong = []
        asyncio.get_running_loop().set_exception_handler(lambda _, found: wrong.append(found))
        async with asyncio.timeout(20):
            await work()
        assert wrong == []

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(watched())


# --- what sends -------------------------------------------------------------------------------------


class Ends:
    """A transport on one end of a pair of sockets, and the other end."""

    def __init__(self, transport, peer):
        self.transport, self.peer = transport, peer
        self.out = Wire(transport)

    async def read(self, size):
        loop, data = asyncio.get_running_loop(), b""
        while len(data) < size:
            more = await loop.sock_recv(self.peer, 1 << 20)
            assert more, f"{len(data)} of {size} bytes came"
            data += more
        return data


async def ends():
    here, peer = socket.socketpair()
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
    return Ends(transport, peer)


@pytest.mark.parametrize("loop", LOOPS)
def test_everything_comes_in_order_however_little_the_socket_takes(loop):
    async def work():
        made = await ends()
        parts = [bytes((number,)) * (number * 997) for number in range(256)]
        for number, part in enumerate(parts):
            made.out.send(bytearray(part) if number % 2 else part)
            if number == 50:
                made.transport.write(b"between")
        assert made.transport.get_write_buffer_size() > 0, "the socket took all of it"
        whole = b"".join(parts[:51]) + b"between" + b"".join(parts[51:])
        assert await made.read(len(whole)) == whole
        made.transport.close()
        made.peer.close()

    run(work, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_transport_that_closes_gets_nothing_more(loop):
    async def work():
        made = await ends()
        made.out.send(b"before")
        made.transport.close()
        made.out.send(b"behind")
        assert await made.read(6) == b"before"
        await asyncio.sleep(0.05)
        assert made.peer.recv(100) == b""
        made.peer.close()

    run(work, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_is_gone_is_the_transports_to_find(loop):
    async def work():
        lost = asyncio.get_running_loop().create_future()

        class Side(asyncio.Protocol):
            def connection_lost(self, exc):
                lost.set_result(exc)

        made = await ends()
        made.transport.set_protocol(Side())
        made.peer.close()
        made.out.send(b"x" * 1000)
        wrong = await asyncio.wait_for(lost, 5)
        assert wrong is None or isinstance(wrong, OSError)
        assert made.transport.is_closing()

    run(work, loop)


async def test_other_things_than_bytes_are_refused():
    made = await ends()
    with pytest.raises(TypeError):
        made.out.send(memoryview(b"abc"))
    made.transport.close()
    made.peer.close()


# --- TLS --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def contexts(pki, tmp_path_factory):
    """A server's context and a client's, made anew for each call: of one version, where it is named; `asked`
    is whether clients are asked for a certificate, `shown` the files of what the client has."""
    files = pki.issue("server", "localhost", dns("localhost"), usage=SERVER)

    def made(version=None, *, asked=False, shown=None):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*files)
        client = ssl.create_default_context(cafile=pki.ca)
        if asked:
            server.verify_mode = ssl.CERT_OPTIONAL
            server.load_verify_locations(pki.ca)
        if shown:
            client.load_cert_chain(*shown)
        if version is not None:
            server.maximum_version = client.maximum_version = version
            server.minimum_version = client.minimum_version = version
        return server, client

    return made


class Side(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self):
        self.said, self.data = [], b""
        self.lost = asyncio.get_running_loop().create_future()
        self.wrong = None

    def connection_made(self, transport):
        self.transport = transport
        self.said.append("made")

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.said.append("eof")

    def pause_writing(self):
        self.said.append("pause")

    def resume_writing(self):
        self.said.append("resume")

    def connection_lost(self, exc):
        self.said.append("lost")
        self.wrong = exc
        self.lost.set_result(None)


class Both:
    """Our end, and the other one, moved by hand. What the other one says comes to ours in pieces of `size`
    bytes, or by the socket for 0."""

    def __init__(self, contexts, *, server=True, size=0, side=None, closing_seconds=5.0):
        self.side, self.size = side or Side(), size
        self.here, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours, theirs = contexts if server else contexts[::-1]
        name = "localhost"
        self.tls = theirs.wrap_bio(
            self.incoming, self.outgoing, server_side=not server,
            server_hostname=name if server else None,
        )  # fmt: skip
        self.ready = asyncio.get_running_loop().create_future()
        self.our = Tls(
            self.side, ours, self.ready, closing_seconds,
            server=server, hostname=None if server else name,
        )  # fmt: skip
        self.raw = b""

    async def begin(self):
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.our, self.here)
        return self

    async def shaken(self):
        """Shake hands."""
        await self.begin()
        done = False
        while not done or not self.ready.done():
            if not done:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self.tls.do_handshake()
                    done = True
            await self.give()
            await self.take()
        await self.ready
        return self

    async def give(self, data=None):
        """What the other one has to say, or `data` as it stands."""
        if data is None:
            data = self.outgoing.read()
        if not self.size:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)
            await asyncio.sleep(0.001)
            return
        for at in range(0, len(data), self.size):
            self.our.data_received(data[at : at + self.size])

    async def take(self):
        """What our end has sent."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while more := self.sock.recv(1 << 20):
                self.raw += more
                self.incoming.write(more)
                await asyncio.sleep(0)

    async def say(self, data):
        """Have the other one send `data`."""
        self.tls.write(data)
        await self.give()

    async def hear(self, size):
        """The next `size` bytes that the other one reads."""
        data = b""
        while len(data) < size:
            await self.take()
            with contextlib.suppress(ssl.SSLWantReadError):
                data += self.tls.read(1 << 20)
            await asyncio.sleep(0)
        return data

    async def lost(self):
        await self.side.lost
        self.sock.close()


def records(raw):
    """The types of the records that these bytes are."""
    found = []
    while raw:
        found.append(raw[0])
        raw = raw[5 + int.from_bytes(raw[3:5], "big") :]
    return found


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("server", [True, False])
@pytest.mark.parametrize("size", [0, 1, 7, 20_000, 1 << 20])
def test_the_same_comes_both_ways_however_it_is_split(contexts, loop, version, server, size):
    sizes = [0, 1, 100, 16_383, 16_384, 16_385, 32_768, 32_769, 100_000]
    sizes = sizes if size != 1 else [*sizes[:3], 17_000]

    async def work():
        both = await Both(contexts(version), server=server, size=size).shaken()
        said = [bytes((number + 1,)) * length for number, length in enumerate(sizes)]
        for part in said:
            if part:
                await both.say(part)
            both.our.write(memoryview(part) if len(part) % 2 else part)
            assert await both.hear(len(part)) == part
        both.our.writelines(iter([bytearray(part) for part in said]))
        assert await both.hear(sum(sizes)) == b"".join(said)
        while len(both.side.data) < sum(sizes):
            await asyncio.sleep(0)
        assert both.side.data == b"".join(said)
        assert both.side.said[0] == "made"
        assert both.our.get_extra_info("ssl_object").version() == version.name.replace("v1_", "v1.")
        both.our.abort()
        await both.lost()
        assert both.side.wrong is None

    run(work, loop)


def test_a_plain_client_in_its_own_thread_is_served(contexts):
    """Over TCP, with the ssl module's own sockets, both ways at once."""
    server, client = contexts()
    sent = random.Random(5).randbytes(3_000_000)

    def talk(address, heard):
        with (
            socket.create_connection(address, 10) as plain,
            client.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sender = threading.Thread(target=sock.sendall, args=(sent,))
            sender.start()
            while len(heard) < len(sent):
                heard += sock.recv(100_000)
            sender.join()
            # takes note of what the server says, and says the same
            sock.unwrap()

    class Echo(Side):
        def data_received(self, data):
            self.data += data
            self.transport.write(data)

    async def work():
        loop, heard = asyncio.get_running_loop(), bytearray()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        talking = loop.run_in_executor(None, talk, listener.getsockname(), heard)
        sock, _ = await loop.sock_accept(listener)
        side, ready = Echo(), loop.create_future()
        tls = Tls(side, server, ready, 5.0, server=True)
        await loop.connect_accepted_socket(lambda: tls, sock)
        await talking
        await side.lost
        listener.close()
        assert (side.data == sent, heard == sent) == (True, True)
        assert (side.said[-2:], side.wrong) == (["eof", "lost"], None)

    run(work)


def test_what_is_small_is_one_record_and_what_is_long_is_sent_in_pieces(contexts):
    async def work():
        both = await Both(contexts()).shaken()
        both.raw = b""
        both.our.writelines([b"a" * 100, bytearray(b"b" * 100), memoryview(b"c" * 100)])
        assert await both.hear(300) == b"a" * 100 + b"b" * 100 + b"c" * 100
        assert records(both.raw) == [23]
        both.raw = b""
        both.our.write(b"x" * 70_000)
        await both.hear(70_000)
        assert records(both.raw) == [23] * 5  # two pieces of two records, and what is left
        both.our.abort()
        await both.lost()

    run(work)


def test_who_takes_nothing_pauses_the_writing(contexts):
    async def work():
        both = await Both(contexts()).shaken()
        both.our.set_write_buffer_limits(200_000, 10_000)
        whole = b""
        for number in range(64):
            whole += bytes((number,)) * 16_000
            both.our.write(whole[-16_000:])
            if both.side.said[-1] == "pause":
                break
        waiting = both.our.get_write_buffer_size()
        assert 200_000 <= waiting <= 240_000
        assert both.side.said == ["made", "pause"]
        assert await both.hear(len(whole)) == whole
        assert (both.side.said, both.our.get_write_buffer_size()) == (
            ["made", "pause", "resume"],
            0,
        )
        assert both.our.get_write_buffer_limits() == (10_000, 200_000)
        both.our.abort()
        await both.lost()

    run(work)


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_read_while_reading_is_paused(contexts, loop):
    class Paused(Side):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def work():
        # what is said with the handshake's end has come when the protocol hears of the connection
        both = Both(contexts(), side=Paused(), size=1 << 20)
        await both.begin()
        for _ in range(2):
            with contextlib.suppress(ssl.SSLWantReadError):
                both.tls.do_handshake()
                both.tls.write(b"early")
            await both.give()
            await both.take()
        assert (both.side.said, both.side.data, both.our.is_reading()) == (["made"], b"", False)
        both.size = 0
        both.tls.write(b" and late")
        await both.give()
        await asyncio.sleep(0.02)
        assert both.side.data == b""
        both.our.resume_reading()
        assert both.our.is_reading()
        while len(both.side.data) < 14:
            await asyncio.sleep(0.001)
        assert both.side.data == b"early and late"
        both.our.abort()
        await both.lost()

    run(work, loop)


# --- the end of a connection --------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("loop", LOOPS)
def test_who_closes_says_so_and_waits_for_the_peer(contexts, loop, version):
    async def work():
        both = await Both(contexts(version)).shaken()
        both.our.write(b"the last")
        both.our.close()
        assert both.our.is_closing()
        both.our.write(b"too late")
        both.our.writelines([b"too", b"late"])
        await both.say(b"not heard any more" * 2000)
        assert await both.hear(8) == b"the last"
        assert not both.side.lost.done()
        assert both.tls.read(100) == b"", "its end"
        both.tls.unwrap()
        await both.give()
        await both.lost()
        assert (both.side.said, both.side.data, both.side.wrong) == (["made", "lost"], b"", None)
        assert both.our.is_closing()
        both.our.close()
        both.our.abort()
        both.our.write(b"nobody")

    run(work, loop)


def test_who_is_paused_hears_of_the_end_when_it_closes(contexts):
    async def work():
        both = await Both(contexts()).shaken()
        both.our.pause_reading()
        await both.say(b"not read")
        both.our.close()
        await both.take()
        with contextlib.suppress(ssl.SSLWantReadError):
            both.tls.unwrap()
        await both.give()
        await both.lost()
        assert (both.side.said, both.side.data, both.side.wrong) == (["made", "lost"], b"", None)

    run(work)


def test_a_peer_that_does_not_take_note_of_the_end_is_cut_off(contexts):
    async def work():
        both = await Both(contexts(), closing_seconds=0.05).shaken()
        both.our.close()
        await both.lost()
        assert (both.side.said, type(both.side.wrong)) == (["made", "lost"], TimeoutError)

    run(work)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [0, 1, 7, 1 << 20])
def test_a_peer_that_ends_is_heard_to_its_end_and_answered(contexts, size, version):
    async def work():
        both = await Both(contexts(version), size=size).shaken()
        both.our.write(b"answer")
        both.tls.write(b"the last of it")
        with pytest.raises(ssl.SSLWantReadError):
            both.tls.unwrap()
        await both.give(both.outgoing.read() + b"and no TLS behind it")
        assert await both.hear(6) == b"answer"
        both.tls.unwrap()  # the answer to the end is there
        await both.lost()
        assert both.side.said == ["made", "eof", "lost"]
        assert (both.side.data, both.side.wrong) == (b"the last of it", None)

    run(work)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_goes_without_a_word_is_lost(contexts, loop):
    async def work():
        both = await Both(contexts()).shaken()
        both.tls.write(b"whole")
        whole = both.outgoing.read()
        both.tls.write(b"cut off")
        await both.give(whole + both.outgoing.read()[:-3])
        both.sock.shutdown(socket.SHUT_WR)
        await both.lost()
        assert (both.side.said, both.side.data) == (["made", "lost"], b"whole")
        assert both.side.wrong is None

    run(work, loop)


def test_a_protocol_that_fails_ends_its_own_connection(contexts):
    class Failing(Side):
        def data_received(self, data):
            raise KeyError("a fault")

    async def work():
        loop, said = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, found: said.append(type(found["exception"])))
        both = await Both(contexts(), side=Failing()).shaken()
        await both.say(b"something")
        await both.lost()
        assert (both.side.said, type(both.side.wrong), said) == (
            ["made", "lost"],
            KeyError,
            [KeyError],
        )

    run(work)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_garbage_ends_the_connection_and_nothing_else(contexts, size, version):
    async def work():
        rng = random.Random(7)
        for _ in range(12):
            both = await Both(contexts(version), size=size).shaken()
            both.tls.write(b"good")
            good = both.outgoing.read()
            both.tls.write(b"changed on its way")
            bad = bytearray(both.outgoing.read())
            # a length that grew would only be waited for
            bad[rng.choice([0, 1, *range(5, len(bad))])] ^= 1 << rng.randrange(8)
            both.raw = b""
            await both.give(good + bytes(bad) + good)
            await both.take()
            with pytest.raises(ssl.SSLError):
                for _ in range(3):
                    both.tls.read(1000)
            await both.lost()
            assert (both.side.said, both.side.data) == (["made", "lost"], b"good")
            assert isinstance(both.side.wrong, ssl.SSLError)

    run(work)


# --- the handshake ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\x00\x05hello"]
)
@pytest.mark.parametrize("size", [0, 1])
def test_what_is_no_handshake_is_refused(contexts, loop, data, size):
    async def work():
        both = await Both(contexts(), size=size).begin()
        await both.give(data)
        with pytest.raises(ssl.SSLError):
            await both.ready
        await both.take()
        # an alert, to who speaks TLS
        assert records(both.raw) == [21] * data.startswith(b"\x16")
        assert (both.side.said, both.our.is_closing()) == ([], True)
        both.sock.close()

    run(work, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("server", [True, False])
def test_a_peer_that_goes_during_the_handshake_is_told_of(contexts, loop, server):
    async def work():
        both = await Both(contexts(), server=server).begin()
        both.sock.close()
        with pytest.raises(OSError, match=r"during the TLS handshake|[Rr]eset|[Pp]ipe"):
            await both.ready
        assert both.side.said == []

    run(work, loop)


@pytest.mark.parametrize("way", ["close", "abort"])
def test_who_gives_up_the_handshake_closes(contexts, way):
    async def work():
        both = await Both(contexts()).begin()
        getattr(both.our, way)()
        with pytest.raises(ConnectionResetError):
            await both.ready
        assert both.sock.recv(100) == b""
        both.sock.close()
        # and who gave up before there was a socket gets none
        early = Both(contexts())
        early.our.abort()
        await early.begin()
        await asyncio.sleep(0.01)
        assert early.sock.recv(100) == b""
        early.sock.close()

    run(work)


def test_a_server_that_is_not_the_one_that_is_meant_is_refused(contexts, tmp_path):
    async def work():
        server, _ = contexts()
        both = await Both(
            (server, ssl.create_default_context(cafile=Pki(tmp_path).ca)), server=False
        ).begin()
        for _ in range(2):
            with contextlib.suppress(ssl.SSLWantReadError):
                both.tls.do_handshake()
            await both.give()
            await both.take()
        with pytest.raises(ssl.SSLCertVerificationError):
            await both.ready
        await both.take()
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            both.tls.do_handshake()
        assert both.side.said == []
        both.sock.close()

    run(work)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", VERSIONS)
def test_who_shows_a_bad_certificate_can_read_why(contexts, tmp_path, loop, version):
    shown = Pki(tmp_path, "another CA").issue("client", "agent", usage=CLIENT)

    async def work(waits):
        both = await Both(contexts(version, asked=True, shown=shown)).begin()
        told = ""
        for _ in range(5):
            try:
                both.tls.do_handshake()
                both.tls.write(b"what comes behind it " * 5000)
                both.tls.read(100)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as wrong:
                told = wrong.reason
                break
            await both.give()
            await asyncio.sleep(0.01)
            await both.take()
        assert "UNKNOWN_CA" in told
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
            both.ready.result()  # who waits knows it before the peer has read why
        if not waits:
            both.sock.close()
        began = asyncio.get_running_loop().time()
        while both.our.get_extra_info("socket") is not None:
            await asyncio.sleep(0.01)
            assert asyncio.get_running_loop().time() < began + 10
        assert (asyncio.get_running_loop().time() - began > 0.5) == waits
        assert both.side.said == []
        both.sock.close()

    for waits in (True, False) if loop is uvloop.new_event_loop else (False,):
        run(lambda waits=waits: work(waits), loop)


def test_what_was_shown_is_known(contexts, pki):
    shown = pki.issue("known", "agent", usage=CLIENT)

    async def work():
        both = await Both(contexts(asked=True, shown=shown)).shaken()
        info = both.our.get_extra_info
        assert info("peercert")["subject"] == ((("commonName", "agent"),),)
        assert info("ssl_object").getpeercert(binary_form=True)
        assert info("cipher") == both.tls.cipher()
        assert info("compression") is None
        assert isinstance(info("sslcontext"), ssl.SSLContext)
        assert info("socket").fileno() == both.here.fileno()
        assert info("nothing", 5) == 5
        assert both.our.get_protocol() is both.side
        assert not both.our.can_write_eof()
        other = Side()
        both.our.set_protocol(other)
        await both.say(b"another's")
        assert (both.side.data, other.data) == (b"", b"another's")
        both.our.abort()
        await other.lost
        assert (info("socket", "gone"), both.our.get_write_buffer_size()) == ("gone", 0)
        both.sock.close()

    run(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed(contexts, version):
    async def work():
        both_contexts = contexts(version)
        first = await Both(both_contexts).shaken()
        first.our.write(b"with a ticket")
        assert await first.hear(13) == b"with a ticket"
        session = first.tls.session
        first.our.abort()
        await first.lost()
        second = Both(both_contexts)
        second.tls.session = session
        await second.shaken()
        assert second.tls.session_reused
        second.our.abort()
        await second.lost()

    run(work)


# --- what TLS says by itself ------------------------------------------------------------------------


class Stubborn:
    """A TLS connection that wants to hear the peer before it writes, as within a message of its own that has
    come by half."""

    def __init__(self, tls):
        self._tls, self.wants = tls, True

    def __getattr__(self, name):
        if name == "_sslobj":
            raise AttributeError(name)
        return getattr(self._tls, name)

    def write(self, data):
        if self.wants:
            raise ssl.SSLWantReadError
        return self._tls.write(data)


@pytest.mark.parametrize("closes", [False, True])
def test_what_cannot_be_written_yet_goes_when_the_peer_was_heard(contexts, closes):
    async def work():
        server, client = contexts()
        made = []

        class Context(ssl.SSLContext):
            def wrap_bio(self, *args, **more):
                made.append(Stubborn(server.wrap_bio(*args, **more)))
                return made[0]

        both = await Both((Context(ssl.PROTOCOL_TLS_SERVER), client)).shaken()
        both.our.write(b"one ")
        both.our.writelines([b"two ", bytearray(b"three ")])
        both.our.write(bytearray(b"four"))
        assert both.our.get_write_buffer_size() == 18
        assert both.side.said == ["made", "pause"]
        await both.say(b"not enough yet")
        if closes:
            both.our.close()
        made[0].wants = False
        await both.say(b"more")
        assert await both.hear(18) == b"one two three four"
        assert both.our.get_write_buffer_size() == 0
        assert both.side.said == ["made", "pause", *([] if closes else ["resume"])]
        if closes:
            assert both.tls.read(100) == b"", "its end"
            both.tls.unwrap()
            await both.give()
        else:
            both.our.abort()
        await both.lost()

    run(work)


@pytest.mark.parametrize("version", VERSIONS)
def test_keys_are_changed_and_nothing_is_agreed_upon_again(contexts, version, pki):
    """With OpenSSL's own client, which can ask for both: for new keys (TLS 1.3), for another handshake (1.2),
    which OpenSSL refuses by itself."""

    async def work():
        server, _ = contexts(version)
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        client = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}",
            "-CAfile", str(pki.ca),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        sock, _ = await loop.sock_accept(listener)
        side, ready = Side(), loop.create_future()
        tls = Tls(side, server, ready, 5.0, server=True)
        await loop.connect_accepted_socket(lambda: tls, sock)
        await ready
        for number in range(3):
            client.stdin.write(b"before %d\n" % number)
            while not side.data.endswith(b"before %d\n" % number):
                await asyncio.sleep(0.01)
            client.stdin.write(b"K\n" if version is ssl.TLSVersion.TLSv1_3 else b"R\n")
            await asyncio.sleep(0.2)  # a command is one only where nothing is read with it
            if version is ssl.TLSVersion.TLSv1_2:
                break
            tls.write(b"answer %d\n" % number)
            assert b"answer" in await client.stdout.readuntil(b"answer %d\n" % number)
        if version is ssl.TLSVersion.TLSv1_3:
            tls.abort()
        await side.lost
        client.stdin.close()
        await client.wait()
        listener.close()

    run(work)


def test_a_server_that_shakes_hands_again_is_served(contexts, pki):
    """OpenSSL's own, which asks for another handshake of TLS 1.2: what is written meanwhile waits for it."""
    certificate, key = pki.issue("again", "localhost", dns("localhost"), usage=SERVER)

    async def work():
        _, client = contexts(ssl.TLSVersion.TLSv1_2)
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        server = await asyncio.create_subprocess_exec(
            "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1", "-tls1_2",
            "-cert", str(certificate), "-key", str(key),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        await server.stdout.readuntil(b"ACCEPT")
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        side, ready = Side(), loop.create_future()
        tls = Tls(side, client, ready, 5.0, server=False, hostname="localhost")
        await loop.connect_accepted_socket(lambda: tls, sock)
        await ready
        whole, heard = b"", b""
        for number in range(200):
            part = b"line %d of what is written\n" % number
            whole += part
            tls.write(part)
            if number in (50, 100, 150):
                server.stdin.write(b"r\n")
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.002)
        while b"line 199 of" not in heard:
            heard += await server.stdout.read(100_000)
        lines = re.findall(rb"line \d+ of what is written\n", heard)
        assert b"".join(lines) == whole
        assert heard.count(b"SSL_do_handshake") == 3
        tls.abort()
        await side.lost
        server.stdin.close()
        await server.wait()

    run(work)
