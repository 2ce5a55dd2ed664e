"""Those who keep checkpoints and events elsewhere, each a real one: rsyslog, OpenSSL's time authority behind
HTTP, and an HTTPS server that writes down what is posted to it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from pangate.trial import until
from pki import SERVER, Pki, dns

RSYSLOG = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin")

_RSYSLOG = """\
global(workDirectory="{work}" maxMessageSize="128k" {global_tls})
module(load="imtcp" {module_tls})
module(load="imudp")
input(type="imtcp" address="127.0.0.1" port="{port}")
input(type="imudp" address="127.0.0.1" port="{port}")
template(name="raw" type="string" string="%rawmsg%\\n")
template(name="parsed" type="string"
         string="%timereported:::date-rfc3339% %hostname% %app-name% %msgid% %pri%\\n")
action(type="omfile" file="{file}" template="raw")
action(type="omfile" file="{parsed}" template="parsed")
"""

_TSA = """\
[tsa]
default_tsa = here
[here]
dir = {directory}
serial = $dir/serial
signer_cert = $dir/tsa.pem
certs = $dir/tsa.pem
signer_key = $dir/tsa.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.32473.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def free_port() -> int:
    """A port that nobody listens on, for who cannot take any."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            port = udp.getsockname()[1]
            with socket.socket() as tcp, contextlib.suppress(OSError):
                tcp.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no port is free")


def server_files(directory: Path) -> tuple[Path, Path, Path]:
    """CA, certificate and key of a server on localhost."""
    directory.mkdir(exist_ok=True)
    pki = Pki(directory)
    certificate, key = pki.certificate("localhost", dns("localhost"), usage=SERVER)
    pem = directory / "server.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = directory / "server.key"
    private.touch(0o600)
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pki.ca, pem, private


class Rsyslog:
    """rsyslogd on localhost, TCP (or TLS) and UDP on one port. `lines` has what it was sent, as it came."""

    def __init__(self, directory: Path, *, tls: bool = False, port: int | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.port = port or free_port()
        self.file = directory / "received"
        self.parsed = directory / "parsed"
        self.ca = None
        shared = module = ""
        if tls:
            self.ca, certificate, key = server_files(directory / "pki")
            shared = (
                'defaultNetstreamDriver="ossl" '
                f'defaultNetstreamDriverCAFile="{self.ca}" '
                f'defaultNetstreamDriverCertFile="{certificate}" '
                f'defaultNetstreamDriverKeyFile="{key}"'
            )
            module = 'streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon"'
        (directory / "rsyslog.conf").write_text(
            _RSYSLOG.format(
                work=directory,
                port=self.port,
                file=self.file,
                parsed=self.parsed,
                global_tls=shared,
                module_tls=module,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Rsyslog:
        assert RSYSLOG, "Debian's package rsyslog"
        command = [RSYSLOG, "-n", "-f", "rsyslog.conf", "-i", str(self.directory / "pid")]
        with (self.directory / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                command, cwd=self.directory, stdout=subprocess.DEVNULL, stderr=errors
            )
        until(self._listens, "rsyslog listens")
        return self

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def __exit__(self, *error: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)

    def lines(self) -> list[bytes]:
        """Every message."""
        return self.file.read_bytes().splitlines() if self.file.exists() else []


class _Posted(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status, answer = self.server.answer(dict(self.headers), body)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def _serving(answer, context: ssl.SSLContext | None = None) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Posted) as server:
        server.answer = answer  # type: ignore[attr-defined]
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class TimeAuthority:
    """An authority after RFC 3161: `openssl ts` makes its answers. `ca` is what its certificate leads to."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.ca = directory / "ca.pem"
        self.asked = 0
        ca = (
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=Test CA",
        )
        self._openssl(*ca, "-keyout", "ca.key", "-out", "ca.pem")
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Test TSA"),
            *("-keyout", "tsa.key", "-out", "tsa.csr"),
        )
        (directory / "usage").write_text("extendedKeyUsage=critical,timeStamping\n")
        self._openssl(
            *("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "30", "-extfile", "usage", "-out", "tsa.pem"),
        )
        (directory / "serial").write_text("01\n")
        (directory / "tsa.cnf").write_text(_TSA.format(directory=directory))
        self._lock = threading.Lock()

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=60
        )

    def _answer(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        with self._lock:
            self.asked += 1
            (self.directory / "query").write_bytes(body)
            self._openssl(
                *("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply")
            )
            return 200, (self.directory / "reply").read_bytes()

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Its address while it is there."""
        with _serving(self._answer) as port:
            yield f"http://127.0.0.1:{port}/tsa"


class Webhook:
    """Writes what is posted to it into `file`, a line each. `status` is what it answers."""

    def __init__(self, directory: Path) -> None:
        self.ca, certificate, key = server_files(directory)
        self.file = directory / "posted"
        self.status = 200
        self.headers: dict[str, str] = {}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)

    def _answer(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        self.headers = {name.lower(): value for name, value in headers.items()}
        if self.status == 200:
            with self.file.open("ab") as file:
                file.write(body + b"\n")
        return self.status, b"kept"

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Its address while it is there."""
        with _serving(self._answer, self._context) as port:
            yield f"https://localhost:{port}/checkpoints"
