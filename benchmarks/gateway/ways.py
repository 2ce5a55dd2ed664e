"""The ways to one PostgreSQL on one machine, all started and idle until it is their turn."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pangate.embedded import Authority, EmbeddedError, EmbeddedPostgres, _account, free_port
from pangate.trial import Trial

USER = "payments_service"
PEER_IDLE_SECONDS = 10
"""How long pooled connections wait for their next owner, in pgbouncer and pangate alike."""

PARTS = ("masking", "policy", "record", "recording")
WITHOUT = ("masking", "policy", "record", "recording", "sealing", "policy,record,recording,sealing",
           "masking,policy,record,recording,sealing")  # fmt: skip

RULES = """
[[approvers]]
name = "security"
match = { groups = "security" }

[[rules]]
name = "server"
verdict = "deny"
effects = ["file", "admin"]

[[rules]]
name = "changes"
verdict = "hold"
effects = ["code", "privilege", "schema", "bulk_write"]
hold = { approvers = ["security"], reason_required = true }

[[rules]]
name = "read"
verdict = "allow"
effects = ["read"]

[[rules]]
name = "write"
verdict = "allow"
effects = ["write"]
"""
"""What is decided is what the profile "pci" decides."""


@dataclass(frozen=True)
class Way:
    """One way to the database: an environment for a client, and the proxy's first process, 0 for none."""

    name: str
    environment: Mapping[str, str]
    pid: int = 0
    audit: Path | None = None


class Peer:
    """A program with a configuration file, run as an unprivileged user when we are root."""

    def __init__(self, program: str, arguments: Sequence[str], config: str) -> None:
        found = shutil.which(program) or f"/usr/sbin/{program}"
        if not Path(found).exists():
            raise EmbeddedError(f"{program} is not there; sudo apt-get install {program}")
        self._command, self._config = [found, *arguments], config
        self.port = free_port()

    def __enter__(self) -> Peer:
        account = _account()
        self.directory = Path(tempfile.mkdtemp(prefix="pangate-peer-"))
        self.directory.chmod(0o755)
        file = self.directory / "config"
        file.write_text(self._config.format(port=self.port, directory=self.directory))
        self._process = subprocess.Popen(
            [*self._command, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        time.sleep(0.5)
        if self._process.poll() is not None:
            raise EmbeddedError(f"{self._command[0]} ended with {self._process.returncode}")
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._process.pid


BOUNCER = """[databases]
postgres = host=127.0.0.1 port={server} dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {{port}}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = {mode}
max_client_conn = 2000
default_pool_size = {size}
server_idle_timeout = {idle}
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
{tls}
"""
"""The password in clear, as pangate is given its token, so that no side computes SCRAM for the client."""

HAPROXY = """global
  maxconn 4000
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen postgres
  bind 127.0.0.1:{{port}}
  server one 127.0.0.1:{server}
"""


def bouncer(server: EmbeddedPostgres, users: Path, mode: str, *, tls: bool) -> Peer:
    """pgbouncer in front of `server`, with TLS on both sides or on none."""
    lines = "client_tls_sslmode = disable\nserver_tls_sslmode = disable\n"
    if tls:
        lines = "client_tls_sslmode = require\nserver_tls_sslmode = verify-ca\n"
        certificate, key = users.with_name("peer.pem"), users.with_name("peer.key")
        lines += f"client_tls_cert_file = {certificate}\nclient_tls_key_file = {key}\n"
        lines += f"server_tls_ca_file = {server.authority.ca}\n"
    size = 250 if mode == "session" else 50
    return Peer("pgbouncer", ["-q"], BOUNCER.format(
        server=server.port, users=users, mode=mode, size=size, idle=PEER_IDLE_SECONDS, tls=lines,
    ))  # fmt: skip


def pangate(
    server: EmbeddedPostgres, *, tls: bool, without: str = "", workers: int = 1, limits: str = ""
) -> Trial:
    """The gateway as it is shipped, with a pool, rules and a sealer; or with parts of it off."""
    parts = [part for part in without.split(",") if part]
    trial = Trial(
        server,
        listen=("" if tls else "allow_plaintext_loopback = true"),
        tls="verify-full" if tls else "disable",
        effects='effects = ["read", "write"]',
        limits=f"max_sessions = 2000{limits}",
        audit="seal_seconds = 0" if "sealing" in parts else "seal_seconds = 1",
        resource=f"pool = {{ idle_seconds = {PEER_IDLE_SECONDS}, max_connections = 1000 }}\n",
        tables=RULES + (f"[process]\nworkers = {workers}\n" if workers > 1 else ""),
    )
    taken = [part for part in parts if part != "sealing"]
    if taken:
        launcher = Path(__file__).with_name("without.py")
        trial.program = (sys.executable, str(launcher), ",".join(taken))
    return trial


@contextlib.contextmanager
def started(server: EmbeddedPostgres, names: Sequence[str]) -> Iterator[dict[str, Way]]:
    """The ways of these names, in front of one server that is filled already."""
    with contextlib.ExitStack() as stack:
        # the password of the service is the same for all trials of a server
        secret = "svc-" + hashlib.sha256(server.password.encode()).hexdigest()[:24]
        direct = {**server.environment(), "PGUSER": USER, "PGPASSWORD": secret}
        plain = {**direct, "PGSSLMODE": "disable"}
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pangate-peers-")))
        place.chmod(0o755)
        authority = Authority(place)
        _, key = authority.issue("peer")
        users = place / "users.txt"
        users.write_text(f'"{USER}" "{secret}"\n')
        account = _account()
        if account is not None:
            shutil.chown(key, account.pw_uid, account.pw_gid)
        found = {}
        for name in names:
            found[name] = _start(name, stack, server, users, authority, direct, plain)
        yield found


def _start(
    name: str,
    stack: contextlib.ExitStack,
    server: EmbeddedPostgres,
    users: Path,
    authority: Authority,
    direct: Mapping[str, str],
    plain: Mapping[str, str],
) -> Way:
    tls = name.endswith(" tls")
    kind = name.removesuffix(" tls")
    if kind == "direct":
        return Way(name, direct if tls else plain)
    if kind == "haproxy":
        peer = stack.enter_context(
            Peer("haproxy", ["-db", "-f"], HAPROXY.format(server=server.port))
        )
        return Way(name, {**plain, "PGPORT": str(peer.port)}, peer.pid)
    if kind.startswith("pgbouncer"):
        mode = "transaction" if "transaction" in kind else "session"
        peer = stack.enter_context(bouncer(server, users, mode, tls=tls))
        way = {**plain, "PGPORT": str(peer.port)}
        if tls:
            way |= {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(authority.ca)}
        return Way(name, way, peer.pid)
    workers = 2 if "2 workers" in kind else 1
    without = kind.partition(" without ")[2]
    trial = stack.enter_context(pangate(server, tls=tls, without=without, workers=workers))
    environment = trial.environment(trial.token(seconds=86_400))
    if not tls:
        environment["PGSSLMODE"] = "disable"
    return Way(name, environment, trial.pid, trial.audit)
