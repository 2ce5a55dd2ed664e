"""What the data path asks of the system: enough descriptors, and no password in clear on a network."""

from __future__ import annotations

import resource
import ssl
from pathlib import Path

import pytest

from pangate.config import Config, ResourceSettings, load
from pangate.config.base import SecretSettings
from pangate.config.workers import of_worker
from pangate.proxy import sockets

FILE = """\
[listen]
allow_plaintext_loopback = true
[limits]
max_sessions = 1000
[[issuers]]
url = "https://issuer.example"
audience = "pangate"
[[resources]]
name = "one"
host = "127.0.0.1"
database = "one"
user = "service"
tls = "disable"
password = { env = "SECRET" }
pool = { max_connections = 300 }
[[resources]]
name = "two"
host = "127.0.0.1"
database = "two"
user = "service"
tls = "disable"
password = { env = "SECRET" }
pool = { max_connections = 5000, idle_seconds = 0 }
[[resources]]
name = "three"
host = "127.0.0.1"
database = "three"
user = "service"
tls = "disable"
password = { env = "SECRET" }
[[roles]]
name = "reader"
match = { team = "payments" }
resources = ["one", "two", "three"]
[audit]
path = "audit.jsonl"
[process]
workers = 2
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("SECRET", "not in the file")
    path = tmp_path / "pangate.toml"
    path.write_text(FILE)
    return load(path)


class Limit:
    """Stands in for the system's limit of open files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.now = soft, hard
        monkeypatch.setattr(resource, "getrlimit", lambda _: self.now)
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, _: int, now: tuple[int, int]) -> None:
        self.now = now


# both sides and the recording of each session, what waits of `one` and `three`, and some
NEEDED = 3 * 1000 + 300 + 80 + 64


@pytest.mark.parametrize("hard", [1 << 20, resource.RLIM_INFINITY])
def test_there_are_descriptors_for_sessions_and_for_what_waits(settings, monkeypatch, caplog, hard):
    limit = Limit(monkeypatch, 1024, hard)
    sockets.allow_descriptors(settings)
    assert limit.now == (NEEDED, hard)
    assert not caplog.records


def test_a_worker_needs_its_part(settings, monkeypatch):
    limit = Limit(monkeypatch, 1024, 1 << 20)
    sockets.allow_descriptors(of_worker(settings, 1))
    assert limit.now[0] == 3 * 500 + 150 + 40 + 64


def test_a_limit_that_is_higher_stays(settings, monkeypatch):
    limit = Limit(monkeypatch, NEEDED, 1 << 20)
    monkeypatch.setattr(resource, "setrlimit", None)
    sockets.allow_descriptors(settings)
    assert limit.now[0] == NEEDED


def test_what_the_system_does_not_allow_is_said(settings, monkeypatch, caplog):
    limit = Limit(monkeypatch, 1024, 4096 - 1024)
    sockets.allow_descriptors(settings)
    assert limit.now == (3072, 3072)
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"need {NEEDED} open files and the system allows 3072" in said
    assert "max_sessions = 1000 and 380 connections of pools" in said


@pytest.mark.parametrize(
    ("host", "tls", "allowed"),
    [
        ("db.example", True, True),
        ("db.example", False, False),
        ("10.0.0.7", False, False),
        ("localhost.example", False, False),
        ("localhost", False, True),
        ("127.0.0.9", False, True),
        ("[::1]", False, True),
        ("/run/postgresql", False, True),
    ],
)
def test_a_password_in_clear_crosses_no_network(host, tls, allowed):
    target = ResourceSettings(
        name="one", host=host, database="d", user="u", password=SecretSettings(env="SECRET")
    )
    context = ssl.create_default_context() if tls else None
    assert sockets.cleartext(target, context) is allowed
