"""A server that is none: it takes connections where the resource should be and does to each what it is told.
For what a real PostgreSQL cannot be made to do."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from conftest import EVERYTHING
from pangate.embedded import EmbeddedPostgres
from pangate.protocols.postgres.messages import message
from pangate.trial import Trial
from pgwire import ready

Behaviour = Callable[["Peer"], None]

LET_IN = message(b"R", struct.pack("!i", 0))
KEY = message(b"K", struct.pack("!ii", 1, 2))


def parameter(name: str, value: str) -> bytes:
    return message(b"S", name.encode() + b"\0" + value.encode() + b"\0")


GREETING = LET_IN + parameter("client_encoding", "UTF8") + KEY + ready()
"""How a server that asks for no password lets a client in."""


class Peer:
    """One connection of the gateway."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(10)

    def startup(self) -> bytes:
        """Read the startup packet."""
        return self._exactly(int.from_bytes(self._exactly(4), "big") - 4)

    def message(self) -> tuple[bytes, bytes]:
        """Read one message: type and body."""
        code = self._exactly(1)
        return code, self._exactly(int.from_bytes(self._exactly(4), "big") - 4)

    def let_in(self) -> None:
        self.startup()
        self.send(GREETING)

    def send(self, *data: bytes) -> None:
        self.sock.sendall(b"".join(data))

    def endless(self, data: bytes) -> int:
        """Send `data` until the gateway ends it; bytes sent."""
        sent = 0
        with contextlib.suppress(OSError):
            while True:
                self.sock.sendall(data)
                sent += len(data)
        return sent

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait(self) -> None:
        """Until the gateway closes."""
        while self.sock.recv(65536):
            pass

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                raise ConnectionError("the gateway went away")
            data += more
        return data


class Hostile:
    """Listens from `with` to its end; `behaviour` is done to each connection, and may be changed."""

    def __init__(self, behaviour: Behaviour = Peer.let_in) -> None:
        self.behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Hostile:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for thread in self._threads:
            thread.join(timeout=20)
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            sock, _ = self._listener.accept()
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            peer = Peer(sock)
            self.behaviour(peer)
            if sock.fileno() >= 0:
                peer.wait()


@contextlib.contextmanager
def hostile(postgres: EmbeddedPostgres, limits: str = "") -> Iterator[tuple[Trial, Hostile]]:
    """A gateway whose resource `payments` is a Hostile, and `ledger` the real server."""
    with (
        Hostile() as server,
        Trial(
            postgres,
            effects=EVERYTHING,
            limits=limits,
            # it does not answer for its catalog
            resource="sensitive_columns = false\n",
            tls="disable",
            port=server.port,
        ) as own,
    ):
        yield own, server
