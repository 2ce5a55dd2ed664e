"""The real credentials are nowhere but where they must be. Unique ones are planted (a password, a private
key), everything that can go well or wrong is done, and everything that anybody can see is searched."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from canary import Processes, forms, found_in, key_forms, password_forms
from pangate.audit import recorded
from pangate.embedded import Authority, EmbeddedPostgres
from pangate.protocols.postgres.messages import error, message, ssl_request, startup
from pangate.trial import Trial, until
from pki import Pki
from relay import Relay
from servers import LOGIN, rest, tls

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

HBA = """
hostssl all postgres 127.0.0.1/32 scram-sha-256
hostssl all svc_canary 127.0.0.1/32 scram-sha-256
hostssl all svc_clear 127.0.0.1/32 password
hostssl all svc_md5 127.0.0.1/32 md5
hostssl all svc_key 127.0.0.1/32 cert
"""

FAULTY = """
import faulthandler, logging, sys
from pangate.protocols.postgres import login, scram
from pangate import cli, credentials
faulthandler.enable()
logging.captureWarnings(True)
work, read, first = login.BackendLogin._message, credentials.read, scram.ScramClient.final
def message(self, code, body):
    if self._user == "svc_crash_login":
        raise ZeroDivisionError("in the login", code)
    return work(self, code, body)
async def source(resource, seconds=5.0):
    secret = await read(resource, seconds)
    if resource.user == "svc_crash_read":
        raise KeyError(secret)
    return secret
def final(self, server_first):
    if resource_of(self):
        raise RuntimeError(f"in SCRAM: {self!r}")
    return first(self, server_first)
def resource_of(self):
    frame = sys._getframe(2)
    return frame.f_locals["self"]._user == "svc_crash_scram"
login.BackendLogin._message = message
credentials.read = source
scram.ScramClient.final = final
sys.exit(cli.main(sys.argv[1:]))
"""
"""The gateway with faults that no real part shows: errors nobody foresaw, while the password is in use."""


class Server(threading.Thread):
    """A database that says back what it is told: it asks for the password in clear and puts it into its
    error, as its message and as its SQLSTATE. It shows a certificate that is trusted."""

    def __init__(self, files: tuple[Path, Path]) -> None:
        import ssl

        super().__init__(daemon=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*files)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard: list[bytes] = []

    def run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with plain, contextlib.suppress(OSError):
                plain.settimeout(10)
                assert plain.recv(8) == ssl_request()
                plain.sendall(b"S")
                with self._context.wrap_socket(plain, server_side=True) as sock:
                    sock.recv(65536)
                    sock.sendall(message(b"R", struct.pack("!i", 3)))
                    said = sock.recv(65536)[5:-1]
                    self.heard.append(said)
                    sock.sendall(
                        error(said.decode(), f"wrong: {said.decode()}", detail=said.decode())
                    )

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join(timeout=10)


class Planted(Trial):
    """A gateway with debug logs, faults in three of its logins, and canaries for credentials."""

    def __init__(
        self, postgres: EmbeddedPostgres, password: str, key: tuple[Path, Path], **ports: int
    ):
        super().__init__(
            postgres,
            limits="auth_failures_per_minute = 1000\ndrain_seconds = 1",
            tables="[monitor]\nport = 0\n",
        )
        self._password, self._key, self._ports = password, key, ports

    def _configure(self) -> None:
        super()._configure()
        secret = self.directory / "planted"
        secret.touch(0o600)
        secret.write_text(self._password + "\n")
        file, ca = f'{{ file = "{secret}" }}', self.postgres.authority.ca
        command = f'{{ command = ["cat", "{secret}"] }}'
        failing = f'{{ command = ["sh", "-c", "cat {secret}; cat {secret} >&2; exit 3"] }}'
        port = self.postgres.port
        table = {
            "canary": ("svc_canary", port, file),
            "by-command": ("svc_canary", port, command),
            "failing": ("svc_canary", port, failing),
            "clear": ("svc_clear", port, file),
            "md5": ("svc_md5", port, file),
            "no-such-role": ("svc_nobody", port, file),
            "between": ("svc_canary", self._ports["relay"], file),
            "echo": ("svc_canary", self._ports["echo"], file),
            "crash-login": ("svc_crash_login", port, file),
            "crash-read": ("svc_crash_read", port, file),
            "crash-scram": ("svc_crash_scram", port, file),
        }
        made = "".join(
            f'[[resources]]\nname = "{name}"\nhost = "127.0.0.1"\nport = {at}\ndatabase = "postgres"\n'
            f'user = "{user}"\npassword = {source}\nca = "{ca}"\n'
            for name, (user, at, source) in table.items()
        )
        made += (
            f'[[resources]]\nname = "key"\nhost = "127.0.0.1"\nport = {port}\ndatabase = "postgres"\n'
            f'user = "svc_key"\nca = "{ca}"\ncertificate = "{self._key[0]}"\nkey = "{self._key[1]}"\n'
        )
        self.resources = [*table, "key"]
        names = ", ".join(f'"{name}"' for name in self.resources)
        text = self.config.read_text()
        text = text.replace("[[roles]]", f"{made}[[roles]]", 1)
        self.config.write_text(text.replace('resources = ["payments"]', f"resources = [{names}]"))

    def start_gateway(self) -> None:
        with self.log.open("ab") as log:
            begin = log.tell()
            self._gateway = subprocess.Popen(
                [sys.executable, "-X", "dev", "-c", FAULTY, "serve", "--config", str(self.config),
                 "--log-level", "debug"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
            )  # fmt: skip
        shown = self.log.read_bytes
        until(lambda: b"listening on" in shown()[begin:], "the gateway")
        self.port = int(
            shown()[begin:].partition(b"listening on 127.0.0.1:")[2].split()[0].split(b'"')[0]
        )


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def planted(pki) -> Iterator[tuple[Planted, dict[str, set[bytes]], Server]]:
    password = f"pw-Canäry'\"\\{secrets.token_hex(6)}"
    files = pki.issue("svc_key", "svc_key")
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres())
        ca = postgres.directory / "clients.pem"
        ca.write_bytes(pki.ca.read_bytes())
        (postgres.data / "pg_hba.conf").write_text(HBA)
        quoted = password.replace("'", "''")
        users = ("canary", "clear", "md5", "key", "crash_login", "crash_read", "crash_scram")
        roles = [f"create role svc_{name} login password '{quoted}';" for name in users]
        roles[2] = f"set password_encryption = 'md5'; {roles[2]} reset password_encryption;"
        postgres.psql("\n".join(roles) + f"alter system set ssl_ca_file = '{ca}';")
        hba = postgres.data / "pg_hba.conf"
        hba.write_text(HBA + "hostssl all all 127.0.0.1/32 scram-sha-256\n")
        postgres.psql("select pg_reload_conf()")
        relay = stack.enter_context(
            Relay((postgres.host, postgres.port), postgres.authority.issue("between"))
        )
        echo = Server(postgres.authority.issue("echo"))
        echo.start()
        stack.callback(echo.stop)
        own = stack.enter_context(
            Planted(postgres, password, files, relay=relay.port, echo=echo.port)
        )
        canaries = {
            "the password": password_forms(password, "svc_canary")
            | password_forms(password, "svc_md5"),
            "the key": key_forms(files[1]),
            "the gateway's key": key_forms(own.directory / "gateway.key"),
        }
        yield own, canaries, echo


def test_the_search_finds_what_it_is_meant_to_find(tmp_path):
    secret = "pw-Canäry'\"\\0a1b2c3d4e5f"
    canaries = {"it": password_forms(secret, "u")}
    import base64
    import json

    for prefix in (b"", b"x", b"xy", b"xyz"):
        for suffix in (b"", b"1", b"12"):
            encoded = base64.b64encode(prefix + secret.encode() + suffix)
            assert found_in({"base64": encoded}, canaries), (prefix, suffix)
    for shown in (secret, repr([secret]), json.dumps({"a": secret}), repr(secret.encode())):
        assert found_in({"a place": b"... " + shown.encode() + b" ..."}, canaries) == [
            "it in a place"
        ]
    assert not found_in({"a place": secret[:-1].encode()}, canaries)
    _, key = Authority(tmp_path).issue("k")
    assert found_in({"a place": key.read_bytes()}, {"key": key_forms(key)})
    assert found_in({"a place": key.read_bytes().replace(b"\n", b"\\n")}, {"key": key_forms(key)})
    child = subprocess.Popen(["sleep", "5"], env={"SECRET": secret}, stdin=subprocess.DEVNULL)
    with Processes(set()) as processes:
        until(lambda: bool(found_in({"x": processes.seen}, canaries)), "the sight of it")
    child.kill()
    child.wait()


def agents(own: Planted, echo: Server) -> dict[str, bytes]:
    """Have agents do everything; what each of them received."""
    got: dict[str, bytes] = {}
    statements = (
        "show all", "select * from pg_stat_activity", "select * from pg_stat_ssl",
        "select rolname, rolpassword from pg_roles", "select * from pg_authid",
        "select pg_read_file('pg_hba.conf')", "select * from pg_hba_file_rules", "select 1/0",
        "set client_min_messages = debug5", "select current_setting('ssl_key_file')", "\\conninfo",
        "select * from pg_user_mappings", "alter role current_user password 'x' valid until 'nonsense'",
    )  # fmt: skip
    for name in own.resources:
        done = own.psql(own.token(), *statements, database=name, arguments=("--echo-all", "-E"))
        got[f"psql at {name}"] = (done.stdout + done.stderr).encode()
        with tls(own) as sock:
            login = startup({"user": "agent", "database": name})
            sock.sendall(login + message(b"p", own.token().encode() + b"\0") + message(b"X"))
            got[f"bytes at {name}"] = rest(sock)
    for name, token, database in (
        ("garbage", "garbage", "canary"),
        ("expired", own.token(seconds=-9999), "canary"),
        ("no role", own.token(team="x"), "canary"),
        ("no database", own.token(), "nowhere"),
    ):
        done = own.psql(token, "select 1", database=database)
        got[name] = (done.stdout + done.stderr).encode()
    for name, data in (
        ("http", b"GET / HTTP/1.1\r\n\r\n"),
        ("zeros", bytes(64)),
        ("startup", LOGIN),
    ):
        with socket.create_connection((own.host, own.port), timeout=20) as sock:
            sock.sendall(data)
            got[name] = rest(sock)
    for name, data in (("a bad message", b"!\0\0\0\4"), ("a bad length", b"Q\xff\xff\xff\xff")):
        with tls(own) as sock:
            login = startup({"user": "agent", "database": "canary"})
            sock.sendall(login + message(b"p", own.token().encode() + b"\0") + data)
            got[name] = rest(sock)
            assert b"FATAL" in got[name]
    assert echo.heard, "the server that says the password back was told it"
    return got


def metrics(own: Planted) -> bytes:
    """What the gateway's monitor says."""
    port = int(re.findall(rb"health at http://127\.0\.0\.1:(\d+)", own.log.read_bytes())[-1])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        found = answer.read()
    assert b"pangate_" in found
    return found


def test_no_credential_is_where_anybody_can_see_it(planted):
    own, canaries, echo = planted
    postgres = own.postgres
    with Processes({os.getpid()}) as processes:
        places = agents(own, echo)
        assert b"svc_canary" in places["psql at canary"]
        assert b"svc_key" in places["psql at key"]
        assert b"svc_clear" in places["psql at clear"]
        assert b"svc_md5" in places["psql at md5"]
        assert b"Z\0\0\0\5I" in places["bytes at key"]
        assert b"SQLSTATE ?" in places["psql at echo"]
        for name in ("crash-login", "crash-read", "crash-scram"):
            assert b"FATAL" in places[f"psql at {name}"]
        # the file is changed, and is not the password any more
        secret = own.directory / "planted"
        kept = secret.read_bytes()
        for wrong in (
            kept.rstrip() + b" wrong\n",
            b"two\nlines\n" + kept,
            kept.rstrip() + b"\xff\n",
        ):
            secret.write_bytes(wrong)
            places[f"wrong {len(wrong)}"] = own.psql(own.token(), database="canary").stderr.encode()
        secret.chmod(0o644)
        places["open to all"] = own.psql(own.token(), database="canary").stderr.encode()
        secret.chmod(0o600)
        secret.write_bytes(kept)
        # one reload that is good, and one that is refused
        for lines in ("", f'\n[nonsense]\npassword = "{kept.decode().strip()[:4]}"\n'):
            text = own.config.read_text()
            own.config.write_text(text + lines)
            os.kill(own.pid, signal.SIGHUP)
            time.sleep(1)
            own.config.write_text(text)
        # the database dies in the middle of a session, and of a login
        with psycopg.connect(
            host=own.host, port=own.port, user="a", password=own.token(), dbname="canary",
            sslmode="require", autocommit=True,
        ) as connection:  # fmt: skip
            connection.execute("select 1")
            os.kill(postgres.pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError) as lost:
                for _ in range(100):
                    connection.execute("select 1")
                    time.sleep(0.05)
            places["the end of a session"] = str(lost.value).encode()
        for name in ("canary", "key"):
            places[f"no server for {name}"] = own.psql(own.token(), database=name).stderr.encode()
        for command in ("check", "serve"):
            broken = own.directory / "broken.toml"
            broken.write_text(
                own.config.read_text().replace("[audit]", "[audit]\nnonsense = 1\n")
                + f'\n[[resources]]\nname = "x"\npassword = "{kept.decode().strip()[:3]}"\n'
            )
            done = subprocess.run(
                [sys.executable, "-m", "pangate.cli", command, "--config", str(broken)],
                capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 1
            places[f"{command} of a broken file"] = done.stdout + done.stderr
        done = subprocess.run(
            [sys.executable, "-m", "pangate.cli", "check", "--config", str(own.config)],
            capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        places["the configuration, resolved"] = done.stdout + done.stderr
        places["the metrics"] = metrics(own)
        assert own.stop_gateway() == 0
    log = own.log.read_bytes()
    recordings = [file.read_bytes() for file in own.audit.parent.glob("sessions/*/*.rec")]
    assert len(recordings) > 1
    assert log.count(b"Traceback") >= 3
    assert processes.sightings > 1000
    places |= {
        "the log and standard error": log,
        "the record": own.audit.read_bytes(),
        "what agents were sent": b"".join(map(recorded.zstd().decompress, recordings)),
        "the processes": processes.seen,
    }
    assert found_in(places, canaries) == []
    token = forms(own.token().split(".")[0].encode())
    assert not found_in({"log": log, "record": places["the record"]}, {"a token": token})
    assert not list(Path("/").glob("core*"))
