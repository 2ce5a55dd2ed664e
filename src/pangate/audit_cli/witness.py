"""`pangate audit witness`: cosign the checkpoints of ledgers that run elsewhere (C2SP tlog-witness).

To be run by somebody else than the gateway, on another machine. It speaks HTTP; TLS is for a proxy in
front of it, and nothing that it is sent or says is secret."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pangate.audit.anchors import write_whole
from pangate.audit_cli.verify import read_keys
from pangate.errors import LedgerError
from pangate.ledger.letters import letters
from pangate.ledger.note import Signer, Verifier
from pangate.ledger.witness import MAX_BYTES, TEXT_TYPE, Answer, Witness

TIMEOUT_SECONDS = 10
MAX_CONNECTIONS = 64


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--key",
        required=True,
        type=Path,
        metavar="FILE",
        help="the witness's private key, of pangate audit keygen --witness",
    )
    parser.add_argument(
        "--log",
        required=True,
        action="append",
        type=Path,
        metavar="FILE",
        help="public keys of the ledgers to cosign for, one a line; repeatable",
    )
    parser.add_argument(
        "--state",
        required=True,
        type=Path,
        metavar="DIRECTORY",
        help="where it keeps the last checkpoint of each ledger",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", required=True, type=int, help="port to listen on; 0 for any")


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    logs: dict[str, list[Verifier]] = {}
    for file in options.log:
        for key in read_keys(file):
            logs.setdefault(key.name, []).append(key)
    with State(options.state) as state:
        witness = Witness(read_private(options.key), logs, state.load, state.keep)
        try:
            server = WitnessServer((options.host, options.port), witness)
        except OSError as error:
            raise LedgerError(
                f"{options.host}:{options.port} cannot be listened on: {error.strerror}"
            ) from None
        with server:
            host, port = server.server_address[:2]
            print(f"witness listens on {host!s}:{port}", flush=True)

            def stop(number: int, frame: object) -> None:
                threading.Thread(target=server.shutdown).start()

            signal.signal(signal.SIGTERM, stop)
            signal.signal(signal.SIGINT, stop)
            server.serve_forever(0.1)
    return 0


def read_private(file: Path) -> Signer:
    """The private key in `file`. Raises LedgerError, also when others can read it."""
    try:
        mode = file.stat().st_mode
        text = file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        detail = error.strerror if isinstance(error, OSError) else "it is no text"
        raise LedgerError(f"{file} cannot be read: {detail}") from None
    if mode & 0o077:
        raise LedgerError(
            f"{file} has mode {stat.S_IMODE(mode):04o}, so that others can read the key; "
            "chmod it to 0600"
        )
    return Signer.from_private(text)


class State:
    """The last cosigned checkpoint of each log, a file each, for one witness at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(f"{directory} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise LedgerError(f"{directory} is in use by another witness") from None

    def __enter__(self) -> State:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)

    def load(self, origin: str) -> bytes | None:
        """The last note of `origin`."""
        try:
            return self._path(origin).read_bytes()
        except FileNotFoundError:
            return None

    def keep(self, origin: str, note: bytes) -> None:
        """Store the last note of `origin` lastingly."""
        write_whole(self._path(origin), note)

    def _path(self, origin: str) -> Path:
        return self._directory / f"{letters(sha256(origin.encode()).digest())}.checkpoint"


class WitnessServer(ThreadingHTTPServer):
    """Answers POST /add-checkpoint. One submission is decided at a time."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        address: tuple[str, int],
        witness: Witness,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._witness = witness
        self._clock = clock
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def add_checkpoint(self, text: bytes) -> Answer:
        """What is answered to a submission."""
        with self._lock:
            return self._witness.add_checkpoint(text, int(self._clock()))

    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()


class _Handler(BaseHTTPRequestHandler):
    server: WitnessServer
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_SECONDS

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path.rpartition("/")[2] != "add-checkpoint":
            self._answer(Answer(404, TEXT_TYPE, b"POST /add-checkpoint is all there is\n"))
        elif not length.isascii() or not length.isdigit() or int(length) > MAX_BYTES:
            self._answer(Answer(413, TEXT_TYPE, b"a submission says its length, and is not long\n"))
        else:
            text = self.rfile.read(int(length))
            if len(text) == int(length):
                try:
                    self._answer(self.server.add_checkpoint(text))
                except LedgerError as error:
                    self._answer(Answer(500, TEXT_TYPE, f"{error}\n".encode()))
                return
        self.close_connection = True

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Sequence[object]) -> None:  # noqa: A002
        """Nothing: what counts is the state, and what is refused is the log's to tell."""
