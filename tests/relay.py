"""Somebody between pangate and its database: ends TLS with a certificate of its own and passes the rest
on, or changes it on the way."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pangate.protocols.postgres.messages import ssl_request


class Relay:
    """Listens at `host`:`port` from `with` to its end and relays to the server at `target`.

    `files` are certificate and key that it shows. `change` gets what the server sends. `answer` is
    what it says to SSLRequest; anything but b"S" ends it there."""

    def __init__(
        self,
        target: tuple[str, int],
        files: tuple[Path, Path] | None,
        *,
        host: str = "127.0.0.1",
        change: Callable[[bytes], bytes] = bytes,
        answer: bytes = b"S",
    ) -> None:
        self._target, self._change, self._answer = target, change, answer
        self._context: ssl.SSLContext | None = None
        if files is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*files)
        self._listener = socket.create_server((host, 0))
        self.host, self.port = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.relayed = 0
        """Connections that came through TLS."""

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            # at once: a session may need a connection of the gateway's own beside it
            threading.Thread(target=self._take, args=(plain,), daemon=True).start()

    def _take(self, plain: socket.socket) -> None:
        with plain, contextlib.suppress(OSError):
            plain.settimeout(10)
            self._relay(plain)

    def _relay(self, plain: socket.socket) -> None:
        assert plain.recv(8) == ssl_request()
        plain.sendall(self._answer)
        if self._answer[:1] != b"S" or self._context is None:
            return
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname = False
        anybody.verify_mode = ssl.CERT_NONE
        with (
            self._context.wrap_socket(plain, server_side=True) as near,
            socket.create_connection(self._target, timeout=10) as bare,
        ):
            bare.sendall(ssl_request())
            assert bare.recv(1) == b"S"
            with anybody.wrap_socket(bare) as far:
                self.relayed += 1
                back = threading.Thread(target=self._copy, args=(far, near, self._change))
                back.start()
                self._copy(near, far, bytes)
                back.join()

    @staticmethod
    def _copy(source: ssl.SSLSocket, to: ssl.SSLSocket, change: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                to.sendall(change(data))
        for sock in (source, to):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
