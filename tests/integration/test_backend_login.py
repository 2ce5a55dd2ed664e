"""pangate's own login at a real server, for each way that pg_hba.conf knows, and past somebody in between."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from pangate.embedded import EmbeddedPostgres
from pangate.trial import Trial
from pki import CLIENT, SERVER, Pki, dns
from relay import Relay

pytestmark = pytest.mark.integration

SECRET = "pässwörd \u2168 1x"
HBA = """
hostssl all postgres 127.0.0.1/32 scram-sha-256
hostssl all svc_scram 127.0.0.1/32 scram-sha-256
hostssl all svc_md5 127.0.0.1/32 md5
hostssl all svc_upgraded 127.0.0.1/32 md5
hostssl all svc_clear 127.0.0.1/32 password
hostssl all svc_cert 127.0.0.1/32 cert
hostssl all svc_both 127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl all svc_trust 127.0.0.1/32 trust
hostssl all svc_reject 127.0.0.1/32 reject
"""
ROLES = ("scram", "md5", "upgraded", "clear", "cert", "both", "trust", "reject")


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(pki):
    with EmbeddedPostgres() as running:
        ca = running.directory / "clients.pem"
        ca.write_bytes(pki.ca.read_bytes())
        (running.data / "pg_hba.conf").write_text(HBA)
        makes = [f"create role svc_{name} login password '{SECRET}';" for name in ROLES]
        makes[1] = f"set password_encryption = 'md5'; {makes[1]} reset password_encryption;"
        running.psql("\n".join(makes))
        running.psql(f"alter system set ssl_ca_file = '{ca}'")
        running.psql("select pg_reload_conf()")
        yield running


class Resources(Trial):
    """A gateway with these resources instead of its own; each is TOML without its name, user and port
    where the defaults do."""

    def __init__(self, server: EmbeddedPostgres, **resources: str) -> None:
        super().__init__(server)
        self._resources = resources

    def _configure(self) -> None:
        super()._configure()
        secret = self.directory / "secret"
        secret.touch(0o600)
        secret.write_text(SECRET + "\n")
        names = [name.replace("_", "-") for name in self._resources]
        text = self.config.read_text()
        text = text.replace('resources = ["payments"]', f"resources = {names}".replace("'", '"'))
        text = text.replace('resources = ["ledger"]', f'resources = ["{names[0]}"]')
        begin, end = text.index("[[resources]]"), text.index("[[roles]]")
        made = ""
        for name, lines in zip(names, self._resources.values(), strict=True):
            defaults = {
                "host": '"127.0.0.1"', "port": str(self.postgres.port), "database": '"postgres"',
                "pool": "{ idle_seconds = 0 }",  # a login each
                "user": f'"svc_{name}"', "password": f'{{ file = "{secret}" }}',
                "ca": f'"{self.postgres.authority.ca}"',
            }  # fmt: skip
            given = dict(line.split(" = ", 1) for line in lines.splitlines() if line)
            table = {key: value for key, value in {**defaults, **given}.items() if value != "none"}
            made += f'[[resources]]\nname = "{name}"\n'
            made += "".join(f"{key} = {value}\n" for key, value in table.items())
        self.config.write_text(text[:begin] + made + text[end:])

    def user(self, resource: str) -> str:
        """Who the server says that we are, or the error that the agent reads."""
        done = self.psql(self.token(), "select current_user", database=resource, arguments=("-At",))
        shown = done.stdout.strip() or done.stderr.partition("FATAL:")[2].strip() or done.stderr
        assert SECRET not in done.stdout + done.stderr
        return shown


def files(paths: tuple[Path, Path]) -> str:
    return f'certificate = "{paths[0]}"\nkey = "{paths[1]}"\n'


def test_every_method_of_pg_hba(server, pki):
    cert = files(pki.issue("svc_cert", "svc_cert"))
    both = files(pki.issue("svc_both", "svc_both"))
    with Resources(
        server,
        scram="",
        md5="",
        upgraded="",
        clear="",
        trust="",
        reject="",
        cert=cert + "password = none",
        both=both,
        cert_and_password=cert + 'user = "svc_cert"',
        cert_missing='user = "svc_cert"',
        cert_of_another=both + 'user = "svc_cert"\npassword = none',
        cert_unknown=files(Pki(pki.directory, "other CA").issue("unknown", "svc_cert"))
        + 'user = "svc_cert"\npassword = none',
        both_without_password=both + 'user = "svc_both"\npassword = none',
        both_without_certificate='user = "svc_both"',
        nobody='user = "svc_nobody"',
    ) as own:
        for name in ("scram", "md5", "upgraded", "clear", "trust", "cert", "both"):
            assert own.user(name) == f"svc_{name}"
        assert own.user("cert-and-password") == "svc_cert"
        for name in (
            "reject",
            "cert-missing",
            "cert-of-another",
            "both-without-certificate",
            "nobody",
        ):
            assert "refused the gateway's login (SQLSTATE 28000)" in own.user(name), name
        assert "could not be made" in own.user("cert-unknown") or "closed" in own.user(
            "cert-unknown"
        )
        assert "asks for a password" in own.user("both-without-password")
        server.psql("alter role svc_scram password 'x'; alter role svc_clear password 'x'")
        try:
            for name in ("scram", "clear"):
                assert "refused the gateway's login (SQLSTATE 28P01)" in own.user(name)
        finally:
            server.psql(
                f"alter role svc_scram password '{SECRET}'; alter role svc_clear password '{SECRET}'"
            )
        assert SECRET not in own.log.read_text() + own.audit.read_text()


def without_plus(data: bytes) -> bytes:
    """AuthenticationSASL without the mechanism that binds to the channel."""
    offered = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    if offered not in data:
        return data
    left = b"\0\0\0\x0aSCRAM-SHA-256\0\0"
    return b"R" + (len(left) + 4).to_bytes(4, "big") + left


def test_scram_is_bound_to_the_channel(server):
    """A certificate that the resource's CA signed is not enough to stand in between."""
    target = (server.host, server.port)
    mine = server.authority.issue("between")
    with (
        Relay(target, mine) as relay,
        Relay(target, mine, change=without_plus) as downgrade,
        Resources(
            server,
            scram=f"port = {relay.port}",
            downgraded=f'user = "svc_scram"\nport = {downgrade.port}',
            md5=f"port = {relay.port}",
            both=f'user = "svc_trust"\nport = {downgrade.port}',
        ) as own,
    ):
        # the relays work: what is not bound goes through them
        assert own.user("md5") == "svc_md5"
        assert own.user("both") == "svc_trust"
        assert "refused the gateway's login (SQLSTATE 28000)" in own.user("scram")
        assert "refused the gateway's login (SQLSTATE 28000)" in own.user("downgraded")
        # a session that came through had a connection of the gateway's own beside it
        assert (relay.relayed, downgrade.relayed) == (3, 3)


def test_who_the_server_is_is_checked(server, pki, tmp_path):
    target = (server.host, server.port)
    local = (dns("localhost"), dns("db.example"))
    cases = {
        "expired": (
            pki.issue("s-expired", "s", *local, usage=SERVER, begins=-3, ends=-1),
            "expired",
        ),
        "early": (
            pki.issue("s-early", "s", *local, usage=SERVER, begins=1, ends=3),
            "not yet valid",
        ),
        "client": (pki.issue("s-client", "s", *local, usage=CLIENT), "purpose"),
        "other_name": (
            pki.issue("s-name", "localhost", dns("db.example"), usage=SERVER),
            "Hostname",
        ),
        "only_common": (
            pki.issue("s-common", "db.example", usage=SERVER),
            "Hostname",
        ),
        "unknown": (
            Pki(tmp_path, "test CA").issue("s", "s", *local, usage=SERVER),
            "signature|issuer",
        ),
    }
    with contextlib.ExitStack() as stack:
        resources = {}
        for name, (paths, _) in cases.items():
            relay = stack.enter_context(Relay(target, paths))
            resources[name] = (
                f'user = "svc_trust"\nhost = "localhost"\nca = "{pki.ca}"\nport = {relay.port}'
            )
        resources["good"] = resources["other_name"] + '\ntls = "verify-ca"'
        for name, answer in (("no_tls", b"N"), ("gone", b""), ("early_bytes", b"SE\0\0\0\x0b")):
            relay = stack.enter_context(Relay(target, None, answer=answer))
            resources[name] = f"port = {relay.port}"
        own = stack.enter_context(Resources(server, **resources))
        for name, (_, says) in cases.items():
            shown = own.user(name.replace("_", "-"))
            assert "a TLS connection to the resource could not be made" in shown, name
            logged = own.log.read_text().split(f"resource {name.replace('_', '-')}: ")[1]
            assert any(word in logged.splitlines()[0] for word in says.split("|")), logged
        # verify-ca alone does not look at the name
        assert own.user("good") == "svc_trust"
        assert "does not speak TLS" in own.user("no-tls")
        assert "does not speak TLS" in own.user("gone")
        assert "could not be made" in own.user("early-bytes")
