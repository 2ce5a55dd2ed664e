"""The lightest client that there can be: it sends a query and throws away what comes, so that a result is as
fast as whatever is in front of it. It counts bytes, reads the last tag, and looks for card numbers when asked."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Callable, Mapping

from pangate.protocols.postgres.messages import message, query, ssl_request, startup
from pangate.protocols.postgres.scram import ScramClient

READY = b"Z\0\0\0\5I"
CLEARTEXT, SASL, SASL_MORE, SASL_LAST = 3, 10, 11, 12
CHUNK = 256 << 10
TAIL = 256

TAG = re.compile(rb"(?:SELECT|COPY) (\d+)\0\Z")


class WireError(Exception):
    """The server said something else than was asked for."""


class Client:
    """One connection as an environment for psql describes it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._sock: socket.socket = socket.create_connection(
            (environment["PGHOST"], int(environment["PGPORT"])), timeout=60
        )
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._space = bytearray(CHUNK)
        if environment["PGSSLMODE"] != "disable":
            self._sock.sendall(ssl_request())
            if self._sock.recv(1) != b"S":
                raise WireError("no TLS is spoken")
            context = ssl.create_default_context(cafile=environment["PGSSLROOTCERT"])
            context.set_alpn_protocols(["postgresql"])
            self._sock = context.wrap_socket(self._sock, server_hostname="localhost")
        self._log_in(environment)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close()

    def _log_in(self, environment: Mapping[str, str]) -> None:
        names = {"user": environment["PGUSER"], "database": environment["PGDATABASE"]}
        self._sock.sendall(startup(names))
        scram = ScramClient(environment["PGPASSWORD"])
        while True:
            code, body = self._message()
            if code == b"Z":
                return
            if code == b"E":
                raise WireError(body.replace(b"\0", b" ").decode(errors="replace"))
            if code != b"R":
                continue
            kind = struct.unpack("!I", body[:4])[0]
            if kind == CLEARTEXT:
                self._sock.sendall(message(b"p", environment["PGPASSWORD"].encode() + b"\0"))
            elif kind == SASL:
                first = scram.first()
                head = b"SCRAM-SHA-256\0" + struct.pack("!I", len(first))
                self._sock.sendall(message(b"p", head + first))
            elif kind == SASL_MORE:
                self._sock.sendall(message(b"p", scram.final(body[4:])))

    def _message(self) -> tuple[bytes, bytes]:
        head = self._exactly(5)
        return head[:1], self._exactly(struct.unpack("!I", head[1:])[0] - 4)

    def _exactly(self, size: int) -> bytes:
        out = b""
        while len(out) < size:
            data = self._sock.recv(size - len(out))
            if not data:
                raise WireError("the connection was closed")
            out += data
        return out

    def fetch(self, sql: str, look: Callable[[bytes], object] | None = None) -> tuple[int, int]:
        """Run one statement, and return how many bytes came and the number of its last tag. `look` is given
        all of it, piece by piece."""
        self._sock.sendall(query(sql))
        view, tail, size = memoryview(self._space), b"", 0
        while True:
            count = self._sock.recv_into(self._space)
            if not count:
                raise WireError("the connection was closed")
            size += count
            if look is not None:
                look(bytes(view[:count]))
            tail = (tail + bytes(view[max(0, count - TAIL) : count]))[-TAIL:]
            if tail.endswith(READY):
                return size, _rows(tail)


def _rows(tail: bytes) -> int:
    """The number in the tag in front of ReadyForQuery."""
    found = TAG.search(tail[: -len(READY)])
    if found is None:
        raise WireError(f"the result does not end as it should: {tail!r}")
    return int(found[1])
