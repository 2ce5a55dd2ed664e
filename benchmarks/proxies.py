"""The peers that the gateway is measured beside, and what a process has used of the CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from pangate.embedded import EmbeddedError, EmbeddedPostgres, _account, free_port

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system seconds of one process, its ended children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def version(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[
        0
    ]


class PgBouncer:
    """pgbouncer in session mode in front of `postgres`, without TLS, as it is benchmarked elsewhere. It
    passes bytes and looks at message headers only."""

    def __init__(self, postgres: EmbeddedPostgres, user: str, password: str) -> None:
        self.program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        if not Path(self.program).exists():
            raise EmbeddedError("pgbouncer is not there; sudo apt-get install pgbouncer")
        self._postgres, self._user, self._password = postgres, user, password
        self.port = 0

    def __enter__(self) -> PgBouncer:
        self.directory = Path(tempfile.mkdtemp(prefix="pangate-bouncer-"))
        self.directory.chmod(0o755)
        self.port = free_port()
        users = self.directory / "users.txt"
        users.write_text(f'"{self._user}" "{self._password}"\n')
        config = self.directory / "pgbouncer.ini"
        config.write_text(
            f"""[databases]
postgres = host=127.0.0.1 port={self._postgres.port} dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = session
max_client_conn = 500
default_pool_size = 100
server_tls_sslmode = disable
client_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
"""
        )
        account = _account()
        self._process = subprocess.Popen(
            [self.program, "-q", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        time.sleep(0.5)
        if self._process.poll() is not None:
            raise EmbeddedError(f"pgbouncer ended with {self._process.returncode}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._process.pid
