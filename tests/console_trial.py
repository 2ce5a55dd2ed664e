"""A gateway with its console, agents of the local issuer, and people of a real OpenID Connect provider."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from conftest import EVERYTHING
from pangate.embedded import EmbeddedPostgres, free_port
from pangate.trial import Trial
from provider import Provider

PASSWORD = "correct horse"

PEOPLE: dict[str, dict[str, object]] = {
    "ada": {"groups": ["owners", "staff"]},
    "bob": {"groups": ["owners"]},
    "ann": {"groups": ["audit"]},
    "vic": {"groups": ["staff"]},
    "max": {"groups": ["owners", "night", "admins"]},
    "eve": {"groups": ["nothing"]},
    "fay": {"groups": ["stand-ins"]},
}
"""Who can sign in, with their claims. The trial's agents may have an `owner`."""

TABLES = """
[[approvers]]
name = "owners"
match = {{ groups = "owners" }}
issuer = "{people}"
owns = "owner"
[[approvers]]
name = "night"
match = {{ groups = "night" }}
issuer = "{people}"
[[rules]]
name = "truncate"
verdict = "hold"
reason = "emptying needs a strong sign-in"
tables = ["vault"]
effects = ["schema", "bulk_write"]
hold = {{ approvers = ["owners"], acr = ["strong"] }}
[[rules]]
name = "ddl"
verdict = "hold"
reason = "schema changes wait"
effects = ["schema", "bulk_write"]
hold = {{ approvers = ["owners"], reason_required = true, estimate = true }}
[approvals]
break_glass = ["night"]
[control]
port = {port}
certificate = "gateway.pem"
key = "gateway.key"
[control.console]
url = "https://localhost:{port}"
issuer = "{people}"
client_id = "console"
secret_file = "console-secret"
viewer = {{ groups = "staff" }}
approver = {{ groups = ["owners", "stand-ins"] }}
auditor = {{ groups = "audit" }}
admin = {{ groups = "admins" }}
"""

SECRET = "console-secret-of-the-tests"


class ConsoleTrial(Trial):
    """The gateway with its console at `url`. People are of `provider`, agents of the local issuer."""

    def __init__(
        self, postgres: EmbeddedPostgres, provider: Provider, port: int, more: str = ""
    ) -> None:
        tables = TABLES.format(people=provider.url, port=port) + more
        super().__init__(
            postgres, effects=EVERYTHING, tables=tables, audit="seal_seconds = 0.2", role=""
        )
        self.url = f"https://localhost:{port}"
        self._people = provider.url

    def _configure(self) -> None:
        super()._configure()
        (self.directory / "console-secret").touch(mode=0o600)
        (self.directory / "console-secret").write_text(SECRET + "\n")
        text = self.config.read_text()
        issuer = (
            f'\n[[issuers]]\nurl = "{self._people}"\naudience = "pangate"\n'
            'algorithms = ["ES256", "RS256"]\nallow_http_loopback = true\n\n'
        )
        for old, new in (
            ('\n[[resources]]\nname = "payments"\n', issuer + '[[resources]]\nname = "payments"\n'),
            ('match = { team = "payments" }\n',
             f'match = {{ team = "payments" }}\nissuer = "{self.issuer.url}"\n'),
            ('match = { team = "ledger" }\n',
             f'match = {{ team = "ledger" }}\nissuer = "{self.issuer.url}"\n'),
        ):  # fmt: skip
            assert text.count(old) == 1
            text = text.replace(old, new)
        self.config.write_text(text)

    def held(self, statement: str, **claims: object) -> subprocess.Popen[str]:
        """An agent's psql that wants to run a statement, and waits."""
        return subprocess.Popen(
            [str(self.postgres.bin / "psql"), "-X", "-c", statement],
            env=self.environment(self.token(**claims)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def events(self) -> list[dict]:
        """The record, whole lines of it."""
        return [json.loads(line) for line in self.audit.read_text().split("\n")[:-1]]


@contextmanager
def console_trial(postgres: EmbeddedPostgres, more: str = "") -> Iterator[ConsoleTrial]:
    """One of them, with its provider, from `with` to its end. `more` goes into its configuration."""
    port = free_port()
    people = {name: {**claims, "password": PASSWORD} for name, claims in PEOPLE.items()}
    callback = f"https://localhost:{port}/console/callback"
    with (
        Provider({}, callback=callback, secret=SECRET, people=people) as provider,
        ConsoleTrial(postgres, provider, port, more) as made,
    ):
        yield made
