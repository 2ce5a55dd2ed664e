"""Held statements at a gateway as it is served, for tests: its configuration, who asks and who decides."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import httpx

from pangate.trial import Trial, until

TABLES = """
[[approvers]]
name = "owners"
match = { groups = "owners" }
owns = "owner"
[[approvers]]
name = "night"
match = { groups = "night" }
[[rules]]
name = "ddl"
verdict = "hold"
reason = "schema changes wait"
effects = ["schema"]
hold = { approvers = ["owners"] }
[approvals]
break_glass = ["night"]
[control]
port = 0
"""

AT = re.compile(r"control plane at (http://[\w.:]+)")


def url(trial: Trial) -> str:
    return AT.findall(trial.log.read_text())[-1]


def people(trial: Trial, who: str, *groups: str, **claims: object) -> str:
    return trial.issuer.mint(who, groups=list(groups), **claims)


def api(trial: Trial, token: str | None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url(trial), headers=headers, trust_env=False, timeout=20)


def drop(trial: Trial, **claims: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(trial.postgres.bin / "psql"), "-X", "-c", "drop table payments_old"],
        env=trial.environment(trial.token(**claims)),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def waiting(client: httpx.Client) -> dict:
    found: list[dict] = []

    def there() -> bool:
        found[:] = client.get("/api/approvals").raise_for_status().json()["approvals"]
        return bool(found)

    until(there, "a request")
    return found[0]


def command(trial: Trial, token: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pangate.cli", "approvals", "--url", url(trial), *words],
        env={**os.environ, "PANGATE_TOKEN": token},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
