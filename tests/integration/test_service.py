"""The gateway as a service, with a real database behind it: reload, readiness, metrics, logs, drain."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pangate.embedded import Authority, EmbeddedPostgres
from pangate.masking import default_scanner
from pangate.trial import Trial, until

pytestmark = pytest.mark.integration

TABLES = '[monitor]\nport = 0\n[log]\nformat = "json"\n'
URL = re.compile(r"metrics and health at http://([\d.]+):(\d+)")


def monitored(postgres: EmbeddedPostgres, **lines: str) -> Trial:
    return Trial(postgres, **{"tables": TABLES, **lines})


@pytest.fixture(scope="module")
def own(postgres: EmbeddedPostgres) -> Iterator[Trial]:
    with monitored(postgres) as running:
        yield running


def get(trial: Trial, path: str, method: str = "GET") -> tuple[int, str]:
    found = URL.findall(trial.log.read_text())[-1]
    connection = HTTPConnection(found[0], int(found[1]), timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def samples(trial: Trial) -> dict[tuple[str, ...], float]:
    """What /metrics says: (name, *sorted label values) to value."""
    time.sleep(1.05)  # a text is made once a second
    status, text = get(trial, "/metrics")
    assert status == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def lines(trial: Trial) -> list[dict]:
    return [json.loads(line) for line in trial.log.read_text().splitlines()]


def events(trial: Trial, code: str = "") -> list[dict]:
    found = [json.loads(line) for line in trial.audit.read_text().split("\n")[:-1]]
    return [e for e in found if not code or e["code"] == code]


def connect(trial: Trial, **more: object) -> psycopg.Connection:
    return psycopg.connect(
        host=trial.host, port=trial.port, user="a", password=trial.token(), dbname="payments",
        sslmode="require", autocommit=True, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def reload(trial: Trial, change: str = "", to: str = "") -> dict:
    """Change the file, tell the gateway, and wait for what it records of it."""
    if change:
        text = trial.config.read_text()
        assert change in text
        trial.config.write_text(text.replace(change, to))
    known = len(events(trial))
    os.kill(trial.pid, signal.SIGHUP)
    found: list[dict] = []

    def told() -> bool:
        found[:] = [e for e in events(trial)[known:] if e["code"].startswith("config.")]
        return bool(found)

    until(told, "the reload")
    return found[-1]


# --- metrics and health ----------------------------------------------------------------------------


def test_health(own):
    assert get(own, "/healthz") == (200, "ok\n")
    until(lambda: get(own, "/readyz") == (200, "ready\n"), "the first keys")
    assert get(own, "/readyz?verbose=1")[0] == 200
    assert get(own, "/")[0] == 404
    assert get(own, "/metrics", "POST")[0] == 405
    assert get(own, "/metrics", "HEAD")[0] == 405


def test_what_is_counted(own):
    own.postgres.psql("create table if not exists seen (pan text, n bigint); truncate seen;"
                      "insert into seen values ('4111111111111111', 5555555555554444);"
                      "grant all on seen to payments_service")  # fmt: skip
    before = samples(own)
    token = own.token()
    done = own.psql(token, "select * from seen", "select 1/0")
    assert "************1111" in done.stdout
    own.psql("nonsense", "select 1")
    own.psql(own.token(seconds=-3600), "select 1")
    own.psql(own.token(team="others"), "select 1")
    after = samples(own)
    grown = {
        key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key)
    }
    wanted = {
        ("pangate_sessions_total", "payments"): 1,
        ("pangate_sessions_ended_total", "ok"): 1,
        ("pangate_sessions_refused_total", "auth.failed"): 2,
        ("pangate_sessions_refused_total", "authorisation.denied"): 1,
        ("pangate_auth_failures_total", "invalid"): 1,
        ("pangate_auth_failures_total", "expired"): 1,
        ("pangate_statements_total", "query", "allow"): 2,
        ("pangate_statements_failed_total",): 1,
        ("pangate_masked_total", "visa"): 1,
        ("pangate_masked_total", "mastercard"): 1,
        ("pangate_rows_total",): 1,
        ("pangate_statement_seconds_count",): 2,
    }
    assert {key: grown.get(key) for key in wanted} == wanted
    assert grown[("pangate_row_bytes_total",)] >= 32
    assert grown[("pangate_added_seconds_count", "backend")] >= 2
    assert grown[("pangate_added_seconds_count", "agent")] >= 2
    assert grown[("pangate_audit_flush_seconds_count",)] >= 2
    assert after[("pangate_sessions_open",)] == 0
    assert after[("pangate_ready",)] == 1
    assert after[("pangate_audit_pending_events",)] == 0
    assert after[("pangate_recordings_not_synced_total",)] == 0
    assert after[("pangate_audit_sequence",)] == len(events(own))
    assert after[("pangate_key_fetches_total", own.issuer.url)] >= 1
    assert after[("pangate_config_info", events(own)[0]["data"]["config"])] == 1
    in_a_year = after[("pangate_certificate_expiry_timestamp_seconds",)] - time.time()
    assert 3600 < in_a_year < 400 * 86400
    assert after[("process_resident_memory_bytes",)] > 10e6
    text = get(own, "/metrics")[1]
    for secret in (own.secret, token, str(own.config), "select"):
        assert secret not in text
    assert default_scanner().find(text.encode()) == []


def test_sessions_are_counted_while_they_are_open(own):
    with connect(own) as one, connect(own):
        one.execute("select generate_series(1, 50000)")
        found = samples(own)
        assert found[("pangate_sessions_open",)] == 2
        assert found[("pangate_connections_open",)] == 2
    until(lambda: samples(own)[("pangate_connections_open",)] == 0, "the end of both")


def test_an_agents_name_for_a_database_is_no_label(own):
    for n in range(5):
        own.psql(own.token(), "select 1", database=f"guess-{n}")
    assert "guess" not in get(own, "/metrics")[1]


# --- logs ------------------------------------------------------------------------------------------


def test_json_lines_with_the_session(postgres):
    with monitored(postgres) as own:
        port = f"port = {postgres.port}"
        reload(own, port, "port = 1")
        assert "cannot be reached" in own.psql(own.token(), "select 1").stderr
        (line,) = [found for found in lines(own) if found["event"].startswith("resource payments")]
        assert line["level"] == "error"
        assert line["session"] == events(own, "session.start")[-1]["session"]
        assert time.time() - 60 < time.mktime(time.strptime(line["time"][:19], "%Y-%m-%dT%H:%M:%S"))
        assert all({"time", "level", "logger", "event"} <= set(found) for found in lines(own))
        started = [found for found in lines(own) if found["event"].startswith("listening on")]
        assert "session" not in started[0]


# --- reload ----------------------------------------------------------------------------------------


def test_roles_that_change_under_an_open_session(postgres):
    with monitored(postgres, role="limits = { max_rows = 100 }") as own, connect(own) as open_one:
        (before,) = open_one.execute("select 1").fetchone()
        assert before == 1
        event = reload(own)  # nothing has changed: nothing changes
        assert event["code"] == "config.reloaded"
        assert event["data"]["config"] == event["data"]["before"]
        open_one.execute("select 1")

        # the role matches somebody else
        event = reload(own, 'team = "payments"', 'team = "treasury"')
        assert event["data"]["config"] != event["data"]["before"]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="connect again"):
            open_one.execute("select 2")
        assert "no role of this identity" in own.psql(own.token(), "select 1").stderr
        assert own.psql(own.token(team="treasury"), "select 1").returncode == 0
        assert events(own, "statement.denied")[-1]["data"]["rule"] == "role.missing"
        started = events(own, "session.start")[-1]
        assert started["data"]["config"] == event["data"]["config"]

        # and back: the session has what it had
        reload(own, 'team = "treasury"', 'team = "payments"')
        open_one.execute("select 3")

        # limits are those of now
        reload(own, "max_rows = 100", "max_rows = 5")
        with pytest.raises(psycopg.OperationalError, match="max_rows"):
            open_one.execute("select generate_series(1, 20)")


def test_a_narrower_mask_ends_what_shows_more(postgres):
    wide = 'mask = "first6_last4"\njustification = "disputes"'
    with monitored(postgres, role=wide) as own, connect(own) as open_one:
        pan = "select '4111111111111111'"
        assert open_one.execute(pan).fetchone() == ("411111******1111",)
        reload(own, wide, 'mask = "last4"')
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="connect again"):
            open_one.execute(pan)
        with connect(own) as another:
            assert another.execute(pan).fetchone() == ("************1111",)
            # what shows more now is for new sessions
            reload(own, 'mask = "last4"', wide)
            assert another.execute(pan).fetchone() == ("************1111",)
            # and a session is not held to the wider one that it never had
            reload(own, wide, 'mask = "last4"')
            assert another.execute(pan).fetchone() == ("************1111",)


def test_a_statement_that_runs_runs_on(postgres):
    with monitored(postgres) as own, connect(own) as open_one:
        rows: list[tuple] = []
        running = threading.Thread(
            target=lambda: rows.extend(open_one.execute("select pg_sleep(1.5), 7").fetchall())
        )
        running.start()
        time.sleep(0.3)
        reload(own, 'resources = ["payments"]', 'resources = ["ledger"]')
        running.join(20)
        assert rows == [("", 7)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            open_one.execute("select 1")


def test_a_wrong_file_changes_nothing_and_says_everything(postgres):
    with monitored(postgres) as own, connect(own) as open_one:
        text = own.config.read_text()
        digest = events(own)[0]["data"]["config"]
        wrong = text.replace("[limits]", "[limits]\nmax_session = 1\nlogin_seconds = 0\n")
        own.config.write_text(wrong.replace('resources = ["payments"]', 'resources = ["payment"]'))
        event = reload(own)
        assert (event["code"], event["success"]) == ("config.refused", False)
        assert event["data"]["config"] == digest
        assert event["data"]["count"] == len(event["data"]["problems"]) == 3
        said = [line["event"] for line in lines(own) if line["level"] == "error"]
        for key in ("limits.max_session:", "limits.login_seconds:", "roles[payments-reader].resou"):
            assert any(key in line for line in said), said
            assert any(problem.startswith(key) for problem in event["data"]["problems"])
        open_one.execute("select 1")
        assert own.psql(own.token(), "select 1").returncode == 0
        found = samples(own)
        assert found[("pangate_config_reloads_total", "refused")] == 1
        assert found[("pangate_config_reloads_total", "ok")] == 0
        assert found[("pangate_config_info", digest)] == 1
        for broken in ("not toml at all [", "\udcff"):
            own.config.write_bytes(broken.encode("utf-8", "surrogateescape"))
            assert reload(own)["code"] == "config.refused"
        own.config.unlink()
        assert reload(own)["code"] == "config.refused"
        own.config.mkdir()
        assert reload(own)["code"] == "config.refused"
        own.config.rmdir()
        own.config.write_text(text)
        assert reload(own)["code"] == "config.reloaded"
        assert "Traceback" not in own.log.read_text()


def serial(trial: Trial) -> str:
    context = ssl.create_default_context(cafile=str(trial.ca))
    context.set_alpn_protocols(["postgresql"])
    with (
        socket.create_connection((trial.host, trial.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        return str(sock.getpeercert()["serialNumber"])  # type: ignore[index]


def test_the_certificate_is_read_again(postgres, tmp_path):
    with monitored(postgres) as own, connect(own) as open_one:
        before = serial(own)
        authority = Authority(tmp_path)
        certificate, key = authority.issue("gateway")
        found = re.search(
            r'^certificate = "(.*)"\nkey = "(.*)"', own.config.read_text(), re.MULTILINE
        )
        target, target_key = Path(found[1]), Path(found[2])
        whole = target.read_bytes()
        # half of a rotation: the key does not belong to the certificate
        target.write_bytes(Path(certificate).read_bytes())
        event = reload(own)
        assert event["code"] == "config.refused"
        assert "does not belong to" in event["data"]["problems"][0]
        assert serial(own) == before
        target_key.write_bytes(Path(key).read_bytes())
        assert reload(own)["code"] == "config.reloaded"
        own.ca = authority.ca
        assert serial(own) != before
        assert own.psql(own.token(), "select 1").returncode == 0
        open_one.execute("select 1")
        assert whole != target.read_bytes()


def test_what_needs_a_restart_stays_as_it_was(postgres):
    with monitored(postgres) as own:
        moved = own.directory / "elsewhere.jsonl"
        text = own.config.read_text().replace(str(own.audit), str(moved))
        text = text.replace('host = "127.0.0.1"\nport = 0', 'host = "127.0.0.2"\nport = 0', 1)
        own.config.write_text(text.replace("[limits]", "[limits]\nmax_sessions = 3"))
        event = reload(own)
        assert event["code"] == "config.reloaded"
        assert event["data"]["needs_restart"] == ["listen", "audit"]
        assert not moved.exists()
        said = [line["event"] for line in lines(own) if line["level"] == "warning"]
        assert any(line.startswith("[audit] has changed and needs a restart") for line in said)
        assert own.psql(own.token(), "select 1").returncode == 0
        assert samples(own)[("pangate_connections_limit",)] == 3, "the rest is in force"


def test_plaintext_is_not_let_in_through_an_address_that_waits_for_a_restart(postgres):
    """The file may allow plaintext for the loopback address that it names; the socket is bound elsewhere."""
    with monitored(postgres) as own:
        text = own.config.read_text()
        text = text.replace(
            'host = "127.0.0.1"\nport = 0',
            'host = "127.0.0.2"\nport = 0\nallow_plaintext_loopback = true',
            1,
        )
        own.config.write_text(text)
        assert reload(own)["data"]["needs_restart"] == ["listen"]
        done = subprocess.run(
            [str(postgres.bin / "psql"), "-X", "-c", "select 1"],
            env={**own.environment(own.token()), "PGSSLMODE": "disable"},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert "inside TLS only" in done.stderr


def test_a_connection_that_is_promised_tls_gets_it(postgres):
    """The configuration that takes TLS away comes between its request and its answer."""
    with monitored(postgres) as own:
        request = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
        with socket.create_connection((own.host, own.port), timeout=10) as plain:
            plain.sendall(request[:5])
            time.sleep(0.2)
            tls = re.search(
                r'^certificate = ".*"\nkey = ".*"$', own.config.read_text(), re.MULTILINE
            )[0]
            assert reload(own, tls, "allow_plaintext_loopback = true")["code"] == "config.reloaded"
            plain.sendall(request[5:])
            assert plain.recv(1) == b"S"
            context = ssl.create_default_context(cafile=str(own.ca))
            with context.wrap_socket(plain, server_hostname="localhost") as sock:
                assert sock.version() == "TLSv1.3"
        # and one that comes now is told that there is none
        with socket.create_connection((own.host, own.port), timeout=10) as plain:
            plain.sendall(request)
            assert plain.recv(1) == b"N"


def test_reloads_leave_nothing_behind(postgres):
    with monitored(postgres) as own, connect(own) as open_one:
        reload(own)

        def used() -> tuple[int, int]:
            found = samples(own)
            return int(found[("process_open_fds",)]), int(found[("process_resident_memory_bytes",)])

        files, memory = used()
        for _ in range(60):
            reload(own)
        now = used()
        assert now[0] <= files + 1
        assert now[1] - memory < 8 << 20
        open_one.execute("select 1")


def test_reloads_under_load_lose_no_session(postgres):
    with monitored(postgres) as own:
        stop = threading.Event()
        failed: list[BaseException] = []
        counts = [0] * 4

        def work(n: int) -> None:
            try:
                while not stop.is_set():
                    with connect(own) as connection:
                        for _ in range(20):
                            connection.execute("select %s", (n,)).fetchone()
                            counts[n] += 1
            except BaseException as wrong:  # noqa: BLE001
                failed.append(wrong)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for worker in workers:
            worker.start()
        for n in range(20):
            limit = 1000 + n
            own.config.write_text(
                re.sub(r"\[limits\]\n(max_sessions = \d+\n)?", f"[limits]\nmax_sessions = {limit}\n",
                       own.config.read_text())
            )  # fmt: skip
            assert reload(own)["code"] == "config.reloaded"
        stop.set()
        for worker in workers:
            worker.join(30)
        assert failed == []
        assert min(counts) > 0
        assert len(events(own, "config.reloaded")) == 20
        numbers = [e["sequence"] for e in events(own)]
        assert numbers == list(range(1, len(numbers) + 1))


# --- readiness -------------------------------------------------------------------------------------


def test_not_ready_without_keys_until_a_reload_brings_them(postgres):
    with monitored(postgres) as own:
        own.stop_gateway()
        text = own.config.read_text()
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            wrong = f"http://127.0.0.1:{nobody.getsockname()[1]}"
            own.config.write_text(text.replace(own.issuer.url, wrong))
            own.start_gateway()
            assert get(own, "/readyz") == (503, "the keys of every issuer are stale\n")
            assert get(own, "/healthz")[0] == 200

            def told() -> list[str]:
                return [
                    line["event"] for line in lines(own) if "cannot be fetched" in line["event"]
                ]

            until(lambda: bool(told()), "the warning")
            time.sleep(1.2)
            assert len(told()) == 1, "it is said once"
            assert samples(own)[("pangate_ready",)] == 0
            own.config.write_text(text)
            reload(own)
        until(lambda: get(own, "/readyz") == (200, "ready\n"), "the keys")
        assert own.psql(own.token(), "select 1").returncode == 0


def test_not_ready_while_the_record_cannot_be_written(postgres):
    with monitored(postgres) as own:
        until(lambda: get(own, "/readyz")[0] == 200, "the first keys")
        with connect(own) as open_one:
            open_one.execute("select 1")
            time.sleep(0.2)
            size = own.audit.stat().st_size
            assert size > own.log.stat().st_size + 500, "the limit is for the record alone"
            full = (size, resource.RLIM_INFINITY)
            resource.prlimit(own.pid, resource.RLIMIT_FSIZE, full)
            with pytest.raises(psycopg.OperationalError):
                open_one.execute("select 2")
        until(lambda: get(own, "/readyz")[0] == 503, "not ready")
        assert "the record cannot be written" in get(own, "/readyz")[1]
        found = samples(own)
        assert found[("pangate_record_failures_total",)] >= 1
        assert found[("pangate_audit_pending_events",)] >= 1
        assert found[("pangate_audit_lag_seconds",)] > 0.5
        resource.prlimit(own.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        until(lambda: get(own, "/readyz") == (200, "ready\n"), "ready again, by itself")
        assert samples(own)[("pangate_audit_pending_events",)] == 0


# --- start and end ---------------------------------------------------------------------------------


def test_draining_is_not_ready_and_a_second_sigterm_ends_it(postgres):
    with monitored(postgres, limits="drain_seconds = 60") as own, connect(own) as open_one:
        open_one.execute("select 1")
        os.kill(own.pid, signal.SIGTERM)
        until(lambda: get(own, "/readyz") == (503, "draining\n"), "the drain")
        assert get(own, "/healthz")[0] == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((own.host, own.port), timeout=5)
        assert open_one.execute("select 2").fetchone() == (2,), "it may finish"
        os.kill(own.pid, signal.SIGHUP)  # too late, and no harm
        began = time.monotonic()
        assert own.stop_gateway() == 0  # SIGTERM again
        assert time.monotonic() - began < 10
        with pytest.raises(psycopg.OperationalError, match="shutting down"):
            open_one.execute("select 3")
        assert [e["code"] for e in events(own)[-2:]] == ["session.end", "log.stop"]
        assert not events(own, "config.reloaded")


def test_a_drain_ends_when_the_last_session_does(postgres):
    with monitored(postgres, limits="drain_seconds = 60") as own:
        with connect(own) as open_one:
            open_one.execute("select 1")
            os.kill(own.pid, signal.SIGTERM)
            until(lambda: get(own, "/readyz")[0] == 503, "the drain")
        assert own._gateway.wait(timeout=10) == 0


def test_the_service_manager_is_told(postgres, tmp_path, monkeypatch):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        told: list[str] = []

        def wait_for(state: str) -> None:
            while state not in "\n".join(told).split("\n"):
                told.append(manager.recv(4096).decode())

        with monitored(postgres) as own:
            wait_for("READY=1")
            wait_for("WATCHDOG=1")
            told.clear()
            os.kill(own.pid, signal.SIGHUP)
            wait_for("RELOADING=1")
            assert "MONOTONIC_USEC=" in told[-1]
            wait_for("READY=1")
            own.stop_gateway()
            wait_for("STOPPING=1")


def test_memory_is_locked_or_a_warning_says_why_not(own):
    locked = re.search(r"VmLck:\s+(\d+) kB", Path(f"/proc/{own.pid}/status").read_text())
    warned = [line for line in lines(own) if "may be swapped out" in line["event"]]
    assert (int(locked[1]) > 0) != bool(warned)


def test_an_address_in_use_is_one_clear_error(own, tmp_path):
    """Both listeners."""
    found = URL.findall(own.log.read_text())[-1]
    text = own.config.read_text().replace(str(own.audit), str(tmp_path / "audit.jsonl"))
    for change, to, key in (
        ("[monitor]\nport = 0", f"[monitor]\nport = {found[1]}", "monitor.port"),
        ('host = "127.0.0.1"\nport = 0', f'host = "127.0.0.1"\nport = {own.port}', "listen.port"),
    ):
        path = tmp_path / "pangate.toml"
        assert change in text
        path.write_text(text.replace(change, to, 1))
        done = subprocess.run(
            [sys.executable, "-m", "pangate.cli", "serve", "--config", str(path)],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"{key}: cannot listen on 127.0.0.1:" in done.stderr
        assert "Traceback" not in done.stderr
