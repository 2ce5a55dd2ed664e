"""Sockets and TLS, and nothing of a protocol: listen, connect, peek, contexts, channel binding."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import resource
import socket
import ssl
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pangate import _pump
from pangate._tls import Tls
from pangate.config import Config, LimitSettings, ResourceSettings
from pangate.model import Certificate

log = logging.getLogger("pangate")

LAST_SECONDS = 1.0
"""How long somebody who is refused before TLS may take to read why."""

TLS_RECORD = 0x16
"""First byte of a TLS ClientHello."""


def listen(
    host: str, port: int, *, shared: bool = False, limits: LimitSettings | None = None
) -> socket.socket:
    """A listening socket. With `shared`, others of the same user may listen on the same port, and the kernel
    spreads the connections over them. With `limits` it is watched from the first one on."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if limits is not None:
            watch(listener, limits)
        listener.bind(address)
        listener.listen(1024)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


async def connect_tcp(host: str, port: int) -> socket.socket:
    """A socket connected to the first address of `host` that answers."""
    loop = asyncio.get_running_loop()
    failed: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as wrong:
            failed = wrong
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failed or OSError(f"{host} has no address")


INHERITED = sys.platform == "linux"
"""Whether what `watch` sets of a listening socket holds for the connections that come to it from then on."""


def watch(sock: socket.socket, limits: LimitSettings) -> None:
    """Have the system close `sock` when its peer is not there any more (limits.dead_peer_seconds): it does
    not answer probes, or does not acknowledge or take what was sent. Send small messages at once."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    idle = max(1, math.ceil(min(limits.keepalive_seconds, limits.dead_peer_seconds)))
    interval = max(1, math.ceil(limits.keepalive_interval_seconds))
    probes = max(1, math.ceil((limits.dead_peer_seconds - idle) / interval))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", min(idle, 32_767)),
        ("TCP_KEEPINTVL", min(interval, 32_767)),
        ("TCP_KEEPCNT", min(probes, 127)),
        ("TCP_USER_TIMEOUT", int(limits.dead_peer_seconds * 1000)),
    ):
        if option := getattr(socket, name, None):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def peer_closed(transport: asyncio.Transport) -> bool:
    """Whether the peer has closed its side, also when nothing is read from it now. False where the system
    does not tell."""
    sock = transport.get_extra_info("socket")
    return sock is not None and _pump.peer_closed(sock.fileno())


def cleartext(target: ResourceSettings, context: ssl.SSLContext | None) -> bool:
    """Whether a password may be sent in clear to `target`: inside TLS, or where no network is on the way."""
    return context is not None or target.on_this_machine


def allow_descriptors(config: Config) -> None:
    """Raise this process's limit of open files as far as its sessions and connections that wait for one need
    and the system allows; say so when that is not enough."""
    sessions = config.limits.max_sessions
    # all that may wait; those that sessions have are counted with them, and twice beside an older pool's
    pooled = sum(one.pool.max_connections for one in config.resources if one.pool.idle_seconds)
    wanted = 3 * sessions + pooled + 64  # both sides and the recording
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        log.warning(
            "limits.max_sessions = %d and %d connections of pools (pool.max_connections) need %d open files "
            "and the system allows %d; raise its limit (LimitNOFILE, ulimit -n) or lower these",
            sessions, pooled, wanted, possible,
        )  # fmt: skip


async def receive(sock: socket.socket, size: int) -> bytes:
    """The next `size` bytes of `sock`. EOFError when it ends before."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        try:
            more = sock.recv(size - len(data))  # it is here mostly
        except BlockingIOError:
            more = await loop.sock_recv(sock, size - len(data))
        if not more:
            raise EOFError("the agent went away")
        data += more
    return data


async def say_last(sock: socket.socket, data: bytes) -> None:
    """Send `data` and take what still comes for LAST_SECONDS at most: a socket that is closed with unread
    bytes resets the connection, and what was said is lost."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):  # and TimeoutError, which is one
        async with asyncio.timeout(LAST_SECONDS):
            await loop.sock_sendall(sock, data)
            sock.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(sock, 65536):
                pass


async def peek(sock: socket.socket) -> int:
    """The next byte of `sock`, left where it is. EOFError when there is none."""
    try:
        data = sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        await _readable(sock)
        data = sock.recv(1, socket.MSG_PEEK)
    if not data:
        raise EOFError("the agent went away")
    return data[0]


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def notice() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(sock, notice)
    try:
        await readable
    finally:
        loop.remove_reader(sock)


async def secure(
    protocol: asyncio.Protocol,
    sock: socket.socket,
    context: ssl.SSLContext,
    closing_seconds: float,
    hostname: str | None = None,
) -> Tls:
    """TLS over a connected socket, from the end of its handshake on; `hostname` is the server's that is
    spoken to, None where this is the server's side. Raises OSError, which ssl.SSLError is one of. The socket
    is closed then."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    tls = Tls(protocol, context, ready, closing_seconds, server=hostname is None, hostname=hostname)
    # it says "accepted", and means one that is connected
    await loop.connect_accepted_socket(lambda: tls, sock)
    try:
        await ready
    except ssl.SSLError:
        raise  # it ends by itself, when the peer has read why
    except BaseException:
        tls.abort()
        raise
    return tls


async def streams(
    sock: socket.socket, context: ssl.SSLContext | None, closing_seconds: float, hostname: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connected socket as streams, with TLS where there is a context."""
    if context is None:
        return await asyncio.open_connection(sock=sock)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    tls = await secure(protocol, sock, context, closing_seconds, hostname)
    return reader, asyncio.StreamWriter(tls, protocol, reader, asyncio.get_running_loop())


def listen_context(config: Config, *, certificates: bool = True) -> ssl.SSLContext | None:
    """TLS of the listener; without `certificates` no agent is asked for one."""
    if config.listen.certificate is None or config.listen.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.listen.certificate, config.listen.key)
    context.set_alpn_protocols(["postgresql"])
    context.num_tickets = 1
    if config.listen.client_ca is not None and certificates:
        # Asked for, not required: a certificate that is not good ends the handshake, and none at
        # all leaves the other ways.
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(config.listen.client_ca)
        if config.listen.client_crl is not None:
            context.load_verify_locations(config.listen.client_crl)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    return context


def peer_certificate(transport: asyncio.Transport) -> Certificate | None:
    """What the peer proved in its TLS handshake, None for nothing."""
    found = transport.get_extra_info("ssl_object")
    der = found.getpeercert(binary_form=True) if found else None
    return Certificate(der) if der else None


def backend_context(target: ResourceSettings) -> ssl.SSLContext | None:
    if target.tls == "disable":
        return None
    context = ssl.create_default_context(cafile=str(target.ca) if target.ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = target.tls == "verify-full"
    if target.certificate is not None and target.key is not None:
        context.load_cert_chain(target.certificate, target.key)
    return context


class Contexts:
    """The TLS of one configuration: of the listener (None without), and of every resource. Made by
    reading all its files, so that one that is wrong is found before it is needed. With `keep`, the
    listener's is the one that is there.

    Raises OSError, which ssl.SSLError is one of."""

    def __init__(self, config: Config, keep: Contexts | None = None) -> None:
        self.listener: ssl.SSLContext | None = keep.listener if keep else listen_context(config)
        self.listener_alone: ssl.SSLContext | None = (
            keep.listener_alone if keep else listen_context(config, certificates=False)
        )
        """The same for agents whose certificates are not looked at for now."""
        self.expires: float | None = keep.expires if keep else _expiry(config)
        """When the listener's certificate ends, in seconds since the epoch; None without."""
        self._backends = {
            resource.name: (resource, backend_context(resource)) for resource in config.resources
        }

    def backend(self, resource: ResourceSettings) -> ssl.SSLContext | None:
        """The TLS towards `resource`, which an older configuration may have had."""
        known = self._backends.get(resource.name)
        return known[1] if known and known[0] == resource else backend_context(resource)


def _expiry(config: Config) -> float | None:
    if config.listen.certificate is None:
        return None
    first = x509.load_pem_x509_certificates(config.listen.certificate.read_bytes())[0]
    return first.not_valid_after_utc.timestamp()


def end_point(transport: asyncio.BaseTransport) -> bytes:
    """The tls-server-end-point binding (RFC 5929) of a TLS connection, empty when its certificate's
    signature has no hash to take."""
    found = transport.get_extra_info("ssl_object")
    der = found.getpeercert(binary_form=True) if found else None
    if not der:
        return b""
    algorithm = x509.load_der_x509_certificate(der).signature_hash_algorithm
    if algorithm is None:
        return b""
    if isinstance(algorithm, (hashes.MD5, hashes.SHA1)):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(der)
    return digest.finalize()


def why(wrong: BaseException) -> str:
    """What went wrong with a connection, in one line."""
    if isinstance(wrong, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {wrong.verify_message}"
    if isinstance(wrong, OSError) and wrong.strerror:
        return wrong.strerror
    return str(wrong) or type(wrong).__name__
