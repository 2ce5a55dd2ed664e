"""Messages of RFC 5424, and their ways to a receiver: UDP (RFC 5426), TCP with octet counting (RFC 6587),
TLS (RFC 5425). For threads: it blocks, within bounds."""

from __future__ import annotations

import contextlib
import fcntl
import re
import socket
import ssl
import struct
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Transport = Literal["udp", "tcp", "tls"]

LOG_AUDIT = 13
"""The facility."""

WARNING, NOTICE, INFORMATIONAL = 4, 5, 6

TIMEOUT_SECONDS = 10.0
"""To connect, and for what was sent to arrive."""

MAX_DATAGRAM = 65_507 - 2048
"""Bytes of a message that always fit into one datagram."""

_NAME = re.compile(r"[^!-~]")


def message(when: str, code: str, text: bytes, severity: int, host: str = "") -> bytes:
    """One message: `when` as RFC 3339 has it, `code` as its MSGID, `text` in UTF-8. It has no structured
    data: whoever stores it stores one text, in one piece."""
    name = _NAME.sub("", host or socket.gethostname())[:255] or "-"
    mark = _NAME.sub("", code)[:32] or "-"
    head = f"<{LOG_AUDIT * 8 + severity}>1 {when} {name} pangate - {mark} - "
    return head.encode() + text


class Receiver:
    """Where messages go. It connects when there is something to send, and again after a failure."""

    def __init__(
        self,
        host: str,
        port: int,
        transport: Transport,
        *,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self._address = (host, port)
        self._transport = transport
        self._files = (ca, certificate, key)
        self._socket: socket.socket | None = None

    def __str__(self) -> str:
        return f"{self._address[0]}:{self._address[1]} ({self._transport})"

    def send(self, messages: Sequence[bytes]) -> None:
        """Send all of them. Returns when the receiver's system has taken them, for UDP when they are gone.

        OSError when not: then some may have arrived, and all are to be sent again."""
        try:
            if self._socket is not None and self._over(self._socket):
                self.close()
            if self._socket is None:
                self._socket = self._connect()
            if self._transport == "udp":
                for one in messages:
                    self._socket.send(one)
                return
            self._socket.sendall(b"".join(b"%d %s" % (len(one), one) for one in messages))
            self._arrived(self._socket)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        if self._transport == "udp":
            family, kind, protocol, _, address = socket.getaddrinfo(
                *self._address, type=socket.SOCK_DGRAM
            )[0]
            opened = socket.socket(family, kind, protocol)
            try:
                opened.settimeout(TIMEOUT_SECONDS)
                opened.connect(address)
            except OSError:
                opened.close()
                raise
            return opened
        opened = socket.create_connection(self._address, TIMEOUT_SECONDS)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._transport == "tls":
                return self._context().wrap_socket(opened, server_hostname=self._address[0])
        except (OSError, ValueError):
            opened.close()
            raise
        return opened

    def _context(self) -> ssl.SSLContext:
        ca, certificate, key = self._files
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        return context

    @staticmethod
    def _over(opened: socket.socket) -> bool:
        """Whether the receiver has ended the connection. Otherwise what is written now would be lost
        without a word. A receiver says nothing of its own; what it says is dropped."""
        if opened.type == socket.SOCK_DGRAM:
            return False
        opened.settimeout(0)
        try:
            return not opened.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        finally:
            opened.settimeout(TIMEOUT_SECONDS)

    @staticmethod
    def _arrived(opened: socket.socket) -> None:
        """Wait until the other system has acknowledged every byte. The protocol has no answers, so this is
        the most that a sender can know."""
        until = time.monotonic() + TIMEOUT_SECONDS
        pause = 0.0005
        while struct.unpack("i", fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]:
            if time.monotonic() > until:
                raise TimeoutError(f"nothing is acknowledged for {TIMEOUT_SECONDS:g} seconds")
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
