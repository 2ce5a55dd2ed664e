"""A gateway of two workers: agents land on both, and what has to hold over all of them does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import httpx
import psycopg
import pytest

from conftest import EVERYTHING
from pangate import cli
from pangate.embedded import EmbeddedPostgres
from pangate.trial import Trial, until
from servers import through

pytestmark = pytest.mark.integration

LIMITS = "auth_failures_per_minute = 6"
TABLES = """
[[approvers]]
name = "owners"
match = { groups = "owners" }
owns = "owner"
[[rules]]
name = "ddl"
verdict = "hold"
effects = ["schema"]
hold = { approvers = ["owners"] }
[control]
port = 0
[monitor]
port = 0
[process]
workers = 2
"""
AT = re.compile(r"control plane at (http://[\w.:]+)")
WATCHED = re.compile(r"metrics and health at http://([\d.]+):(\d+)")
SERVES = re.compile(r"worker (\d) serves, process (\d+)")


def gateway(postgres: EmbeddedPostgres, **lines: str) -> Trial:
    return Trial(
        postgres,
        **{
            "tables": TABLES,
            "effects": EVERYTHING,
            "audit": "seal_seconds = 0.1",
            "limits": LIMITS,
            "role": "limits = { max_sessions = 12 }",
            **lines,
        },
    )


@pytest.fixture
def two(postgres: EmbeddedPostgres) -> Iterator[Trial]:
    with gateway(postgres) as running:
        yield running


OPEN: list[psycopg.Connection] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Nothing of a test stays open, however it ends."""
    yield
    while OPEN:
        OPEN.pop().close()


def session(trial: Trial, token: str) -> psycopg.Connection:
    made = psycopg.connect(through(trial, token), autocommit=True)
    OPEN.append(made)
    return made


def processes(trial: Trial) -> dict[int, int]:
    """The process of each worker as it is now."""
    return {int(number): int(pid) for number, pid in SERVES.findall(trial.log.read_text())}


def records(trial: Trial) -> list[Path]:
    return sorted(trial.directory.glob("worker-*/audit.jsonl"))


def events(trial: Trial) -> list[dict]:
    """The events of the first process, then those of each worker."""
    return [
        {**json.loads(line), "of": record.parent.name}
        for record in (trial.audit, *records(trial))
        for line in record.read_text().splitlines()
    ]


def spread(trial: Trial, token: str, most: int = 12) -> dict[str, list[psycopg.Connection]]:
    """Sessions that are open, by the worker that has them: some on each."""
    found: dict[str, list[psycopg.Connection]] = {}
    for _ in range(most):
        made = session(trial, token)
        row = made.execute("select pg_backend_pid()").fetchone()
        (owner,) = (
            event["of"]
            for event in events(trial)
            if event["code"] == "session.connected" and event["data"]["backend"] == row[0]
        )
        found.setdefault(owner, []).append(made)
        if len(found) == 2:
            return found
    raise AssertionError(f"{most} sessions are all on {list(found)}")


def close(found: dict[str, list[psycopg.Connection]]) -> None:
    for one in (one for several in found.values() for one in several):
        one.close()


def get(trial: Trial, path: str) -> tuple[int, str]:
    found = WATCHED.findall(trial.log.read_text())[-1]
    connection = HTTPConnection(found[0], int(found[1]), timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def verified(trial: Trial) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pangate.cli", "audit", "verify", "--config", str(trial.config)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_sessions_are_on_both_and_each_record_verifies(two):
    token = two.token()
    found = spread(two, token)
    close(found)
    until(
        lambda: (
            sum(event["code"] == "session.end" for event in events(two))
            == sum(map(len, found.values()))
        ),
        "the end of the sessions",
    )
    time.sleep(2.2)  # each says once a second how it stands
    status, text = get(two, "/metrics")
    assert status == 200
    count = sum(map(len, found.values()))
    assert f'pangate_sessions_total{{resource="payments"}} {count}.0' in text
    assert "pangate_sessions_open 0.0" in text
    assert 'pangate_worker_up{worker="2"} 1.0' in text
    until(lambda: get(two, "/readyz")[0] == 200, "every worker has said that it is ready")
    name = next(e["session"] for e in events(two) if e["code"] == "session.start")
    shown = subprocess.run(
        [sys.executable, "-m", "pangate.cli", "audit", "replay", name, "--config", str(two.config)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "pg_backend_pid" in shown.stdout
    assert two.stop_gateway() == 0
    done = verified(two)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("verified:") == 3
    origins = re.findall(r"^(\S+): [\d,]+ events sealed", done.stdout, re.MULTILINE)
    assert len(set(origins)) == 3
    # every event once, each log with its own sequence
    for record in records(two):
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        assert [line["sequence"] for line in lines] == list(range(1, len(lines) + 1))


def test_a_cancel_request_reaches_the_worker_that_has_the_session(two):
    token = two.token()
    running = [
        subprocess.Popen(
            [str(two.postgres.bin / "psql"), "-X", "-c", f"select pg_sleep(60), {number}"],
            env=two.environment(token), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(8)
    ]  # fmt: skip
    sleeping = (
        "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' "
        "and state = 'active' and usename = 'payments_service'"
    )
    until(lambda: two.postgres.psql(sleeping, "postgres", "-At").strip() == "8", "eight sessions")
    owners = Counter(e["of"] for e in events(two) if e["code"] == "session.start")
    assert len(owners) == 2, owners
    for process in running:
        process.send_signal(signal.SIGINT)
    for process in running:
        _, errors = process.communicate(timeout=30)
        assert "canceling statement due to user request" in errors
    cancelled = Counter(e["of"] for e in events(two) if e["code"] == "session.cancel")
    assert cancelled == owners


def test_an_approval_reaches_the_worker_that_waits(two):
    two.postgres.psql("grant create on schema public to payments_service")
    person = two.issuer.mint("grace", groups=["owners"])
    url = AT.findall(two.log.read_text())[-1]
    client = httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {person}"}, trust_env=False, timeout=20
    )
    found = spread(two, two.token())
    with client:
        for owner, sessions in found.items():
            table = owner.replace("-", "_")
            asking = beside(sessions[0], f"create table if not exists held_{table} ()")
            waiting: list[dict] = []

            def there(waiting: list[dict] = waiting) -> bool:
                answer = client.get("/api/approvals").raise_for_status().json()["approvals"]
                waiting[:] = [one for one in answer if one["state"] == "pending"]
                return bool(waiting)

            until(there, "a request")
            (request,) = waiting
            until(lambda: get(two, "/readyz")[0] == 200, "every worker has said that it is ready")
            answer = client.post(
                f"/api/approvals/{request['id']}/approve", json={"reason": "agreed"}
            )
            assert answer.status_code == 200, answer.text
            asking()
            two.postgres.psql(f"set role payments_service; drop table held_{table}")
    close(found)
    ran = [e for e in events(two) if e["code"] == "approval.executed"]
    assert {e["of"] for e in ran} == set(found)
    assert all(e["data"]["people"] for e in ran)
    asked = [e["of"] for e in events(two) if e["code"] == "approval.requested"]
    assert asked == [two.directory.name] * 2  # the first process keeps and decides them


@pytest.fixture
def two_that_hold(postgres: EmbeddedPostgres) -> Iterator[Trial]:
    with gateway(postgres, tables=TABLES.replace('["schema"]', '["bulk_write"]')) as running:
        yield running


def test_rows_are_counted_in_the_worker_that_waits(two_that_hold):
    two = two_that_hold
    two.postgres.psql(
        "drop table if exists counted; create table counted as select n from generate_series(1, 30) n;"
        "grant all on counted to payments_service"
    )
    person = two.issuer.mint("grace", groups=["owners"])
    url = AT.findall(two.log.read_text())[-1]
    client = httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {person}"}, trust_env=False, timeout=20
    )
    asking = beside(session(two, two.token()), "delete from counted")
    waiting: list[dict] = []

    def there() -> bool:
        waiting[:] = client.get("/api/approvals").raise_for_status().json()["approvals"]
        return bool(waiting)

    with client:
        until(there, "a request")
        path = f"/api/approvals/{waiting[0]['id']}"
        answer = client.post(f"{path}/count", json={})
        assert answer.status_code == 200, answer.text
        assert answer.json()["rows"] == 30
        assert client.post(f"{path}/approve", json={"reason": "agreed"}).status_code == 200
    asking()
    # what it asked and what it was told is in the first process's record, with everything else of the request
    told = [e for e in events(two) if e["code"] == "approval.counted"]
    assert [(e["of"], e["data"]["rows"]) for e in told] == [(two.directory.name, 30)]


def test_the_records_of_all_processes_are_read_as_one(two):
    found = spread(two, two.token())
    close(found)
    until(
        lambda: sum(e["code"] == "session.end" for e in events(two)) >= len(found), "they are over"
    )
    words = [sys.executable, "-m", "pangate.cli", "audit"]
    ways = ("--config", str(two.config)), ("--directory", str(two.directory))
    for way in ways:
        done = subprocess.run(
            [*words, "search", "--json", "--limit", "1000", "--code", "session.start", *way],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        starts = [json.loads(line) for line in done.stdout.splitlines()]
        assert {one["record"] for one in starts} == set(found)
    # the report verifies the ledger of each, by its own keys or by those that are kept elsewhere
    kept = [two.directory / "log.pub", *sorted(two.directory.glob("worker-*/log.pub"))]
    for keys in ([], [word for path in kept for word in ("--key", str(path))]):
        done = subprocess.run(
            [*words, "report", "--since", "1d", "--json", "--config", str(two.config), *keys],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        sections = json.loads(done.stdout)["sections"]
        about = [one for one in sections if one["title"].startswith("The record itself")]
        names = [one["title"].rpartition(" ")[2] for one in about]
        assert names == ["first", "worker-1", "worker-2"]
        for one in about:
            assert ["verified", "nothing was changed"] in one["rows"]


def beside(session: psycopg.Connection, sql: str) -> Callable[[], None]:
    """Run `sql` beside; what is returned waits for its end and raises what it raised."""
    pool = ThreadPoolExecutor(1)
    done = pool.submit(session.execute, sql)

    def wait() -> None:
        done.result(timeout=30)
        pool.shutdown()

    return wait


def test_limits_hold_over_both(postgres):
    with gateway(postgres, role="limits = { max_sessions = 3 }") as trial:
        token = trial.token()
        open_now = [session(trial, token) for _ in range(3)]
        for _ in range(6):
            with pytest.raises(psycopg.OperationalError, match="has 3 open sessions"):
                session(trial, token)
        # another identity has its own
        session(trial, trial.token("another-job")).close()
        open_now.pop().close()
        made: list[psycopg.Connection] = []

        def room() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                made.append(session(trial, token))
            return bool(made)

        until(room, "room for another session")
        for one in (*open_now, *made):
            one.close()


def test_failed_logins_count_in_both(two):
    bad = two.token()[:-8] + "AAAAAAAA"
    refused = 0
    for _ in range(30):
        done = two.psql(bad, "select 1")
        refused += "too many failed logins" in done.stderr
        time.sleep(0.02)
    # six are looked at, one more where two workers look at the same time
    looked = sum(
        e["code"] == "auth.failed" and e["data"]["kind"] != "throttled" for e in events(two)
    )
    assert looked <= 7
    assert refused >= 23


def test_a_worker_that_is_killed_takes_only_its_own_sessions(two):
    token = two.token()
    found = spread(two, token)
    before = processes(two)
    (dead, *_), (alive, *_) = found["worker-1"], found["worker-2"]
    os.kill(before[1], signal.SIGKILL)
    with pytest.raises(psycopg.OperationalError):
        dead.execute("select 1")
    assert alive.execute("select 1").fetchone() == (1,)
    until(lambda: processes(two)[1] != before[1], "another worker")
    assert processes(two)[2] == before[2]
    # its sessions are not counted any more: 12 are allowed
    more = [session(two, token) for _ in range(12 - len(found["worker-2"]))]
    with pytest.raises(psycopg.OperationalError, match="has 12 open sessions"):
        session(two, token)
    for one in more:
        one.close()
    close(found)
    until(lambda: get(two, "/readyz")[0] == 200, "readiness")
    assert 'pangate_worker_restarts_total{worker="1"} 1.0' in _soon(two)
    assert [e["data"]["worker"] for e in events(two) if e["code"] == "worker.ended"] == [1]
    assert two.stop_gateway() == 0
    done = verified(two)
    assert done.returncode == 0, done.stdout


def _soon(trial: Trial) -> str:
    time.sleep(1.1)
    return get(trial, "/metrics")[1]


def test_a_reload_and_the_end_reach_both(two):
    found = spread(two, two.token())
    text = two.config.read_text()
    two.config.write_text(
        text.replace('match = { team = "payments" }', 'match = { team = "nobody" }')
    )
    os.kill(two.pid, signal.SIGHUP)
    until(lambda: sum(e["code"] == "config.reloaded" for e in events(two)) == 3, "three reloads")
    for sessions in found.values():
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sessions[0].execute("select 1")
    digests = {e["data"]["config"] for e in events(two) if e["code"] == "config.reloaded"}
    assert len(digests) == 1
    close(found)
    workers = list(processes(two).values())
    assert two.stop_gateway() == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert [e["of"] for e in events(two) if e["code"] == "log.stop"]
    assert sum(e["code"] == "log.stop" for e in events(two)) == 3


def test_workers_end_with_the_first_process(two):
    workers = list(processes(two).values())
    os.kill(two.pid, signal.SIGKILL)
    until(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()], "the workers' end")
    two.stop_gateway()
    two.start_gateway()
    assert two.psql(two.token(), "select 1").returncode == 0


def test_what_is_held_retired_and_exported_is_of_all_records(two, capsys):
    close(spread(two, two.token()))
    names = ("first", "worker-1", "worker-2")
    until(
        lambda: all((one.parent / "checkpoint").exists() for one in [two.audit, *records(two)]),
        "all are sealed",
    )
    config = ["--config", str(two.config)]
    hold = ["audit", "hold", "add", "case", "--from", "2020-01-01", "--reason", "a court asks"]
    assert cli.main([*hold, *config]) == 0
    shown = capsys.readouterr()
    assert [line for line in shown.out.splitlines() if line[-1] == ":"] == [f"{n}:" for n in names]
    assert shown.out.count("case: held") == 3
    # each says for itself what is wrong
    assert cli.main([*hold, *config]) == 1
    shown = capsys.readouterr()
    assert [line.partition(": there is")[0] for line in shown.err.splitlines()] == [
        f"pangate audit hold: {name}" for name in names
    ]
    assert cli.main(["audit", "hold", "list", *config]) == 0
    assert capsys.readouterr().out.count("case: from 2020-01-01") == 3
    two.stop_gateway()
    assert cli.main(["audit", "retain", *config]) == 0
    assert capsys.readouterr().out.count("0 events") == 3
    day, out = f"{datetime.now(UTC):%Y-%m-%d}", two.directory / "period.tar.gz"
    words = ["--from", day, "--to", day, "--out", str(out)]
    assert cli.main(["audit", "export", *words, *config]) == 0
    assert not out.exists()
    for name, record in zip(names, [two.audit, *records(two)], strict=True):
        archive = out.with_name(f"period.{name}.tar.gz")
        key = record.parent / "log.pub"
        assert cli.main(["audit", "verify", str(archive), "--key", str(key)]) == 0
    # what is wrong with one keeps it from no other
    record = records(two)[0]
    record.write_bytes(record.read_bytes().replace(b"session.start", b"session.stalt", 1))
    capsys.readouterr()
    assert cli.main(["audit", "retain", *config]) == 1
    shown = capsys.readouterr()
    assert "pangate audit retain: worker-1: the ledger does not verify" in shown.err
    assert shown.out.count("0 events") == 2
