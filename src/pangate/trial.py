"""A whole pangate on one machine for a trial: a database with card data, an issuer of tokens and the
gateway between them, each a real one. The demonstration shows it; the tests and benchmarks use it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pangate.embedded import Authority, EmbeddedPostgres
from pangate.errors import PangateError
from pangate.issuer import LocalIssuer

LISTENING = re.compile(r"listening on ([\w.:]+):(\d+)")

CONFIG = """\
[listen]
host = "127.0.0.1"
port = 0
certificate = "{certificate}"
key = "{key}"
{listen}
[limits]
{limits}
[[issuers]]
url = "{issuer}"
audience = "pangate"
algorithms = ["ES256"]
allow_http_loopback = true

[[resources]]
name = "payments"
host = "127.0.0.1"
port = {payments_port}
database = "postgres"
user = "payments_service"
password = {{ file = "{password}" }}
{payments}

[[resources]]
name = "ledger"
host = "127.0.0.1"
port = {port}
database = "postgres"
user = "payments_service"
password = {{ file = "{password}" }}
{resource}

[[roles]]
name = "payments-reader"
match = {{ team = "payments" }}
resources = ["payments"]
{effects}
{role}
[[roles]]
name = "ledger-reader"
match = {{ team = "ledger" }}
resources = ["ledger"]

[audit]
path = "{audit}"
{audit_settings}
{tables}
"""


class TrialError(PangateError):
    """A part of the trial did not come up; says which and why."""


class Trial:
    """The database, the issuer and the gateway, from `with` to its end.

    `listen`, `role`, `audit`, `limits` are lines that go into those tables of the configuration,
    `effects` the line of the role that says what its statements may do; `tables` are whole tables
    that follow, `resource` lines of the resource `payments`; `tls` is how the gateway reaches the
    database; `port` is where it looks for `payments` instead, and `tls` then holds for that alone;
    `postgres` is a running database to use instead of one of its own."""

    def __init__(
        self,
        postgres: EmbeddedPostgres | None = None,
        *,
        listen: str = "",
        role: str = "",
        effects: str = "",
        audit: str = "",
        limits: str = "",
        tables: str = "",
        resource: str = "",
        tls: str = "verify-full",
        port: int | None = None,
    ) -> None:
        self._own = postgres is None
        self.postgres = postgres or EmbeddedPostgres()
        self.issuer = LocalIssuer()
        self.program: tuple[str, ...] = (sys.executable, "-m", "pangate.cli")
        """What runs as the gateway."""
        self._lines = {
            "listen": listen,
            "role": role,
            "effects": effects,
            "audit_settings": audit,
            "limits": limits,
            "tables": tables,
        }
        self._resource = resource
        self._tls = tls
        self._payments_port = port
        self._stack = contextlib.ExitStack()
        self._gateway: subprocess.Popen[bytes] | None = None
        self.host, self.port = "127.0.0.1", 0
        # one for all trials of a server, so that they can stand side by side
        self.secret = "svc-" + hashlib.sha256(self.postgres.password.encode()).hexdigest()[:24]
        """The real password, which nobody but the gateway may see."""

    def __enter__(self) -> Trial:
        with self._stack as stack:
            self.directory = Path(tempfile.mkdtemp(prefix="pangate-trial-"))
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            if self._own:
                stack.enter_context(self.postgres)
            stack.enter_context(self.issuer)
            self._configure()
            stack.callback(self.stop_gateway)
            self.start_gateway()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _configure(self) -> None:
        self.audit = self.directory / "audit.jsonl"
        self.log = self.directory / "gateway.log"
        self.config = self.directory / "pangate.toml"
        password = self.directory / "password"
        password.touch(mode=0o600)
        password.write_text(self.secret + "\n")
        authority = Authority(self.directory)
        self.ca = authority.ca
        certificate, key = authority.issue("gateway")
        self.postgres.psql(
            "do $$ begin if not exists (select from pg_roles where rolname = 'payments_service') "
            "then create role payments_service login; end if; end $$;"
            f"alter role payments_service password '{self.secret}';"
        )
        self.config.write_text(
            CONFIG.format(
                certificate=certificate,
                key=key,
                issuer=self.issuer.url,
                port=self.postgres.port,
                payments_port=self._payments_port or self.postgres.port,
                password=password,
                payments=self._way(self._tls) + self._resource,
                resource=self._way(self._tls if self._payments_port is None else "verify-full"),
                audit=self.audit,
                **self._lines,
            )
        )

    def _way(self, tls: str) -> str:
        ca = "" if tls == "disable" else f'ca = "{self.postgres.authority.ca}"\n'
        return f'tls = "{tls}"\n{ca}'

    # --- the gateway ------------------------------------------------------------------------------

    def start_gateway(self) -> None:
        """Start `pangate serve` and wait until it listens."""
        with self.log.open("ab") as log:
            begin = log.tell()
            self._gateway = subprocess.Popen(
                [*self.program, "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        def listening() -> re.Match[str] | None:
            return LISTENING.search(self.log.read_bytes()[begin:].decode(errors="replace"))

        deadline = time.monotonic() + 30
        while not (found := listening()):
            if self._gateway.poll() is not None:
                raise TrialError(f"the gateway did not start: {self.log.read_text()[-800:]}")
            if time.monotonic() > deadline:
                raise TrialError(f"the gateway does not listen: {self.log.read_text()[-800:]}")
            time.sleep(0.02)
        self.port = int(found[2])

    @property
    def pid(self) -> int:
        """Process id of the gateway."""
        assert self._gateway is not None
        return self._gateway.pid

    def stop_gateway(self) -> int | None:
        """Stop the gateway as a service manager would; its exit code, None when it did not run."""
        process, self._gateway = self._gateway, None
        if process is None:
            return None
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=40)
        return process.returncode

    # --- clients ----------------------------------------------------------------------------------

    def token(self, subject: str = "ci-job-42", team: str = "payments", **claims: object) -> str:
        """A token of the local issuer for a program of `team`."""
        return self.issuer.mint(subject, team=team, **claims)  # type: ignore[arg-type]

    def environment(self, token: str, database: str = "payments") -> dict[str, str]:
        """Environment for an agent's psql: the gateway's address and the token, nothing else."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": "agent",
            "PGPASSWORD": token,
            "PGDATABASE": database,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.ca),
            "PGCONNECT_TIMEOUT": "20",
            "PSQLRC": "/dev/null",
            "LC_ALL": "C.UTF-8",
        }

    def psql(
        self,
        token: str,
        *commands: str,
        database: str = "payments",
        arguments: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run an agent's psql with these commands."""
        words = [str(self.postgres.bin / "psql"), "-X", *arguments]
        for command in commands:
            words += ["-c", command]
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="backslashreplace",  # what is binary
            stdin=subprocess.DEVNULL,
            env=self.environment(token, database),
            timeout=60,
            check=False,
        )


def until(ready: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for `ready`; TrialError when it takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TrialError(f"{what} did not happen within {seconds:g} seconds")
        time.sleep(0.02)
