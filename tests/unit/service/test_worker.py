"""The configuration as one worker has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangate.audit.events import records
from pangate.config import Config, load
from pangate.config.workers import of_worker
from pangate.errors import ConfigError

FILE = """
[listen]
allow_plaintext_loopback = true
[limits]
max_sessions = 7
[[issuers]]
url = "https://issuer.example"
audience = "pangate"
[[resources]]
name = "payments"
host = "127.0.0.1"
database = "payments"
user = "service"
tls = "disable"
password = {{ env = "SECRET" }}
pool = {{ max_connections = {most}, ready = {ready} }}
[[roles]]
name = "reader"
match = {{ team = "payments" }}
resources = ["payments"]
[audit]
path = "audit.jsonl"
{audit}
[process]
workers = 3
[monitor]
port = 9100
"""


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("SECRET", "not in the file")


def configured(tmp_path: Path, most: int = 8, audit: str = "", ready: int = 0) -> Config:
    path = tmp_path / "pangate.toml"
    path.write_text(FILE.format(most=most, audit=audit, ready=ready))
    return load(path)


def test_each_has_its_record_and_its_part_and_no_listener_but_the_agents(tmp_path):
    whole = configured(tmp_path, audit='origin = "bank"\nseal_seconds = 1')
    made = [of_worker(whole, number) for number in (1, 2, 3)]
    assert [one.audit.path for one in made] == [
        tmp_path / f"worker-{number}" / "audit.jsonl" for number in (1, 2, 3)
    ]
    assert len({one.audit.origin for one in made} | {whole.audit.origin}) == 4
    assert len({one.audit.private_key for one in made} | {whole.audit.private_key}) == 4
    # never more than what is allowed
    assert sum(one.limits.max_sessions for one in made) <= 7
    pools = [one.resources_by_name["payments"].pool.max_connections for one in made]
    assert sum(pool for pool in pools if pool is not None) <= 8
    assert all(one.monitor.port is None and one.control.port is None for one in made)
    # events of all name the one configuration that is in the file
    assert {one.digest for one in made} == {whole.digest}


def test_a_key_and_a_file_anchor_are_for_one_ledger(tmp_path):
    anchor = '[[audit.anchors]]\nname = "worm"\nkind = "file"\npath = "elsewhere"'
    sink = '[[audit.sinks]]\nname = "copy"\nkind = "file"\npath = "copied"'
    whole = configured(tmp_path, audit=f'key = "signer"\nseal_seconds = 1\n{anchor}\n{sink}')
    one, two = of_worker(whole, 1), of_worker(whole, 2)
    files = [each.audit.private_key for each in (whole, one, two)]
    files += [each.audit.anchors[0].path for each in (whole, one, two)]
    files += [each.audit.sinks[0].path for each in (whole, one, two)]
    assert len(set(files)) == 9


def test_what_cannot_be_divided_is_a_problem_of_the_file(tmp_path):
    with pytest.raises(ConfigError, match=r"max_connections: is less than process\.workers"):
        configured(tmp_path, most=2)


def test_no_worker_has_more_ready_than_it_may_have(tmp_path):
    for most, ready in ((8, 3), (8, 8), (5, 2)):
        with pytest.raises(
            ConfigError, match=r"pool\.ready: is more than a worker's part"
        ) as wrong:
            configured(tmp_path, most=most, ready=ready)
        assert f"which is {most // 3};" in str(wrong.value)
    with pytest.raises(ConfigError, match=r"pool\.ready: is more than max_connections") as wrong:
        configured(tmp_path, most=8, ready=9)
    assert str(wrong.value).count("pool.ready") == 1
    assert of_worker(configured(tmp_path, most=8, ready=2), 1).resources[0].pool.ready == 2


def test_the_records_of_a_gateway_are_those_of_all_its_workers(tmp_path):
    own = tmp_path / "audit.jsonl"
    for name in ("worker-10", "worker-2", "worker-x", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.jsonl").touch()
    (tmp_path / "worker-3").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in records(own)]
    assert found == ["audit.jsonl", "worker-2/audit.jsonl", "worker-10/audit.jsonl"]
