import dataclasses
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pangate import config, policy
from pangate.audit.signing import command_of
from pangate.config import Config, load
from pangate.config.workers import of_worker
from pangate.errors import ConfigError
from pangate.model import Hold, Limits, Resource

ROOT = Path(__file__).parents[2]

LISTEN = """
[listen]
allow_plaintext_loopback = true
"""
ISSUER = """
[[issuers]]
url = "https://issuer.example"
audience = "pangate"
"""
RESOURCE = """
[[resources]]
name = "payments"
host = "db.example"
database = "pay"
user = "gateway"
password = { file = "password" }
"""
ROLE = """
[[roles]]
name = "reporting"
match = { team = "reporting" }
resources = ["payments"]
"""
AUDIT = """
[audit]
path = "audit.jsonl"
"""
WHOLE = LISTEN + ISSUER + RESOURCE + ROLE + AUDIT


@pytest.fixture
def write(tmp_path: Path):
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("hunter2-canary\n")

    def write(text: str) -> Path:
        path = tmp_path / "pangate.toml"
        path.write_text(text)
        return path

    return write


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems


def test_a_small_file_resolves_with_its_defaults(write, tmp_path):
    found = load(write(WHOLE))
    assert (found.listen.host, found.listen.port) == ("127.0.0.1", 6432)
    assert found.limits.max_message_bytes == 16 << 20
    assert found.limits.idle_seconds is None
    assert found.issuers_by_url["https://issuer.example"].audiences == ("pangate",)
    assert found.resources_by_name["payments"].tls == "verify-full"
    assert found.resources[0].password.file == tmp_path / "password"
    assert found.resources[0].model == Resource(
        "payments", "postgresql", "db.example", 5432, "pay", "gateway"
    )
    assert found.roles[0].mask == "last4"
    assert found.roles[0].limits.model == Limits()
    assert found.audit.path == tmp_path / "audit.jsonl"


def test_everything_that_may_be_said(write, tmp_path, monkeypatch, tls_files):
    monkeypatch.setenv("PGPASS_CANARY", "secret-from-env")
    text = f"""
[listen]
host = "0.0.0.0"
port = 0
certificate = "{tls_files[0]}"
key = "{tls_files[1]}"
[limits]
max_sessions = 5
idle_seconds = 60
login_seconds = 2.5
[[issuers]]
url = "https://a.example/realm"
audience = ["pangate", "api://pangate"]
algorithms = ["EdDSA", "ES384"]
jwks_url = "https://keys.example/jwks"
ca = "{tls_files[0]}"
[[issuers]]
url = "http://127.0.0.1:8080"
audience = "pangate"
allow_http_loopback = true
[[resources]]
name = "a"
host = "/run/postgresql"
database = "a"
user = "u"
password = {{ env = "PGPASS_CANARY" }}
tls = "disable"
[[resources]]
name = "b"
host = "::1"
port = 5433
database = "b"
user = "u"
password = {{ command = ["sh", "-c", "echo argument-canary"] }}
tls = "disable"
[[roles]]
name = "operator"
issuer = "https://a.example/realm"
match = {{ groups = ["ops", "dba"], "kubernetes.io" = {{ namespace = "pay" }}, level = 3, on = true }}
resources = ["a", "b"]
mask = "first6_last4"
justification = "Disputes are matched by BIN, see DOC-17"
limits = {{ max_sessions = 1, max_rows = 10, max_bytes = 1000, max_seconds = 3600 }}
[audit]
path = "audit.jsonl"
fsync = "always"
"""
    found = load(write(text))
    assert found.roles[0].limits.model == Limits(1, 10, 1000, 3600.0)
    assert found.limits.login_seconds == 2.5
    assert found.resources[0].unix
    text = config.describe(found)
    for secret in ("secret-from-env", "argument-canary", "BEGIN"):
        assert secret not in text
    for shown in ('command = ["sh", "(not shown)"', 'env = "PGPASS_CANARY"', found.digest):
        assert shown in text
    # What describe prints is a configuration again, but for the arguments it left out.
    printed = text.replace('""  # not set', "NOT_SET")
    lines = [line for line in printed.splitlines() if not line.endswith("NOT_SET")]
    assert load(write("\n".join(lines))).digest == found.digest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # tables and keys
        ("", ["issuers: missing", "resources: missing", "roles: missing", "audit.path: missing",
              "listen.certificate: missing"]),
        (WHOLE + "[audt]\n", ['audt: unknown table; did you mean "audit"?']),
        (WHOLE + "fsyn = 1\n", ['audit.fsyn: unknown key; did you mean "fsync"?']),
        (WHOLE + "zzz = 1\n", ["audit.zzz: unknown key; there is path, fsync"]),
        (WHOLE.replace("[[roles]]", "[roles]"), ["roles: must be an array of tables"]),
        (WHOLE.replace("[audit]", "[[audit]]"), ["audit: must be a table"]),
        (WHOLE.replace(ROLE, "") + "\n", ["roles: missing; write at least one [[roles]]"]),
        ("roles = []\n" + WHOLE.replace(ROLE, ""), ["roles: must be an array of tables"]),
        ("roles = [1]\n" + WHOLE.replace(ROLE, ""), ["roles[0]: must be a table"]),
        # types and ranges
        (WHOLE.replace('host = "db.example"', "host = 1"),
         ["resources[payments].host: expected a text, got a whole number"]),
        (WHOLE.replace('host = "db.example"', "port = 3"), ["resources[payments].host: missing."]),
        (LISTEN + "port = 65536\n" + WHOLE.replace(LISTEN, ""),
         ["listen.port: expected a whole number <= 65535"]),
        (LISTEN + "port = true\n" + WHOLE.replace(LISTEN, ""),
         ["listen.port: expected a whole number, got true or false"]),
        (LISTEN + 'port = "6432"\n' + WHOLE.replace(LISTEN, ""), ["listen.port: expected"]),
        (RESOURCE + "port = 0\n" + WHOLE.replace(RESOURCE, ""),
         ["resources[payments].port: expected a whole number >= 1"]),
        (WHOLE + "[limits]\nmax_sessions = 0\n", ["limits.max_sessions: expected"]),
        (WHOLE + "[limits]\nidle_seconds = nan\n", ["limits.idle_seconds: must be a finite"]),
        (WHOLE + "[limits]\nidle_seconds = inf\n", ["limits.idle_seconds: must be a finite"]),
        (WHOLE + "[limits]\nlogin_seconds = 0\n", ["limits.login_seconds: expected a number > 0"]),
        (WHOLE + "[limits]\nlogin_seconds = -1.5\n", ["limits.login_seconds: expected"]),
        (RESOURCE + "pool = { ready = 3, max_connections = 2 }\n" + WHOLE.replace(RESOURCE, ""),
         ["resources[payments].pool.ready: is more than max_connections"]),
        (RESOURCE + "pool = { ready = 1, idle_seconds = 0 }\n" + WHOLE.replace(RESOURCE, ""),
         ["resources[payments].pool.ready: has no effect with idle_seconds = 0"]),
        # listen
        (WHOLE.replace("allow_plaintext_loopback = true", ""), ["listen.certificate: missing"]),
        (LISTEN + 'host = "0.0.0.0"\n' + WHOLE.replace(LISTEN, ""),
         ["listen.allow_plaintext_loopback: 0.0.0.0 is not a loopback address"]),
        (LISTEN + 'host = "http://x/"\n' + WHOLE.replace(LISTEN, ""),
         ["listen.host: is neither", "listen.allow_plaintext_loopback: "]),
        (LISTEN + 'key = "nope.key"\n' + WHOLE.replace(LISTEN, ""),
         ["listen.certificate: missing: certificate and key are given together"]),
        (LISTEN + 'certificate = "c"\nkey = "k"\n' + WHOLE.replace(LISTEN, ""),
         ["listen.certificate: there is no file", "listen.key: there is no file"]),
        (LISTEN + 'certificate = "password"\nkey = "password"\n' + WHOLE.replace(LISTEN, ""),
         ["listen.certificate: ", "listen.key: "]),
        # log, monitor, process
        (WHOLE + '[log]\nformat = "xml"\n', ["log.format: invalid enum value"]),
        (WHOLE + "[monitor]\nport = 65536\n", ["monitor.port: expected a whole number <= 65535"]),
        (WHOLE + '[monitor]\nhost = "0.0.0.0"\nport = 1\n',
         ["monitor.host: 0.0.0.0 is not a loopback address"]),
        (WHOLE + '[monitor]\nhost = "a b"\nallow_network = true\n', ["monitor.host: is neither"]),
        (WHOLE + "[process]\nlock_memory = 1\n", ["process.lock_memory: expected true or false"]),
        # issuers
        (WHOLE.replace("https://issuer", "http://issuer"), ["issuers[0].url: http to issuer.example"]),
        (WHOLE.replace("https://issuer.example", "http://127.0.0.1"),
         ["issuers[0].url: http is for trials on loopback"]),
        (WHOLE.replace("https://issuer.example", "issuer"), ["issuers[0].url: is not an https URL"]),
        (WHOLE.replace("https://issuer.example", "https://u:p@x"), ["issuers[0].url: holds a user"]),
        (WHOLE.replace("https://issuer.example", "https://u@x"), ["issuers[0].url: holds a user"]),
        (WHOLE.replace("https://issuer.example", "https://x/?a=b"), ["issuers[0].url: has a query"]),
        (WHOLE.replace("https://issuer.example", "https://x:99999"), ["issuers[0].url: is not an"]),
        (WHOLE.replace('audience = "pangate"', 'audience = ""'), ["issuers[0].audience: is empty"]),
        (WHOLE.replace('audience = "pangate"', "audience = []"), ["issuers[0].audience: is empty"]),
        (WHOLE.replace('audience = "pangate"', 'audience = ["a", ""]'), ["audience: is empty"]),
        (WHOLE.replace('audience = "pangate"', ""), ["issuers[0].audience: missing"]),
        (ISSUER + 'algorithms = ["HS256", "none", "RS255"]\n' + WHOLE.replace(ISSUER, ""),
         ['"HS256" is signed with a shared secret', '"none" means unsigned', 'did you mean "RS256"?']),
        (ISSUER + "algorithms = []\n" + WHOLE.replace(ISSUER, ""), ["algorithms: is empty"]),
        (ISSUER + "stale_seconds = 10\n" + WHOLE.replace(ISSUER, ""),
         ["issuers[0].stale_seconds: 10 is less than refresh_seconds"]),
        (ISSUER + 'ca = "nope"\n' + WHOLE.replace(ISSUER, ""), ["issuers[0].ca: there is no file"]),
        (ISSUER + WHOLE, ['issuers[1].url: "https://issuer.example" is there twice']),
        # resources
        (RESOURCE + 'tls = "disable"\n' + WHOLE.replace(RESOURCE, ""),
         ["resources[payments].tls: \"disable\" would send the password"]),
        (RESOURCE + 'tls = "prefer"\n' + WHOLE.replace(RESOURCE, ""),
         ["resources[payments].tls: invalid enum value"]),
        (RESOURCE + 'pool = { mode = "transaction", idle_seconds = 0 }\n' + WHOLE.replace(RESOURCE, ""),
         ["resources[payments].pool.idle_seconds: must be more than 0"]),
        (RESOURCE + 'pool = { mode = "statement" }\n' + WHOLE.replace(RESOURCE, ""),
         ["resources[payments].pool.mode: invalid enum value"]),
        (WHOLE.replace("db.example", "/run/postgresql"), ["tls: a unix socket has no TLS"]),
        (WHOLE.replace("db.example", "postgres://db"), ["resources[payments].host: is neither"]),
        (WHOLE.replace('protocol = "x"', "").replace('user = "gateway"', 'user = "a\\u0000b"'),
         ["resources[payments].user: has control characters"]),
        (WHOLE.replace('database = "pay"', 'database = ""'), ["resources[payments].database: "]),
        (RESOURCE + WHOLE, ['resources[1].name: "payments" is there twice']),
        (WHOLE.replace('{ file = "password" }', "{}"), ["password: needs exactly one of"]),
        (WHOLE.replace('{ file = "password" }', '{ file = "x", env = "HOME" }'),
         ["password: needs exactly one of file, env, command, and has file and env"]),
        (WHOLE.replace('{ file = "password" }', '{ file = "nope" }'),
         ["resources[payments].password.file: there is no file"]),
        (WHOLE.replace('{ file = "password" }', '{ file = "." }'), ["is not a regular file"]),
        (WHOLE.replace('{ file = "password" }', '{ env = "PANGATE_UNSET" }'),
         ["password.env: the environment has no PANGATE_UNSET"]),
        (WHOLE.replace('{ file = "password" }', "{ command = [] }"), ["command: is empty"]),
        (WHOLE.replace('{ file = "password" }', '{ command = ["pangate-nope"] }'),
         ["password.command: there is no program pangate-nope"]),
        (WHOLE.replace('{ file = "password" }', '{ command = "ls" }'),
         ["password.command: expected a list, got a text"]),
        # roles
        (WHOLE.replace('["payments"]', '["paymets"]'),
         ['roles[reporting].resources: there is no resource "paymets"; did you mean "payments"?']),
        (WHOLE.replace('["payments"]', "[]"), ["roles[reporting].resources: is empty"]),
        (WHOLE.replace('["payments"]', '"payments"'), ["roles[reporting].resources: expected a list"]),
        (WHOLE.replace('["payments"]', "[1]"), ["roles[reporting].resources[0]: expected a text"]),
        (WHOLE.replace('{ team = "reporting" }', "{}"), ["match: is empty and would match every"]),
        (WHOLE.replace('{ team = "reporting" }', "{ team = [] }"), ["match.team: is an empty list"]),
        (WHOLE.replace('{ team = "reporting" }', "{ team = 1.5 }"), ["match.team: must be a text"]),
        (WHOLE.replace('{ team = "reporting" }', "{ a = { b = {} } }"), ["match.a.b: is empty"]),
        (WHOLE.replace('{ team = "reporting" }', "{ a = [{ b = 1 }] }"), ["match.a: must be a text"]),
        (ROLE + 'mask = "first6_last4"\n' + WHOLE.replace(ROLE, ""),
         ["roles[reporting].justification: missing", "PCI DSS 3.4.1"]),
        (ROLE + 'mask = "first8_last4"\njustification = "  "\n' + WHOLE.replace(ROLE, ""),
         ["roles[reporting].justification: missing"]),
        (ROLE + 'mask = "none"\n' + WHOLE.replace(ROLE, ""), ["roles[reporting].mask: invalid"]),
        (ROLE + "limits = { max_row = 1 }\n" + WHOLE.replace(ROLE, ""),
         ['roles[reporting].limits.max_row: unknown key; did you mean "max_rows"?']),
        (ROLE + "limits = { max_rows = 0 }\n" + WHOLE.replace(ROLE, ""), ["limits.max_rows: expected"]),
        (ROLE + 'issuer = "https://x"\n' + WHOLE.replace(ROLE, ""),
         ['roles[reporting].issuer: there is no issuer "https://x"']),
        (ISSUER.replace("issuer.example", "second.example") + WHOLE,
         ["roles[reporting].issuer: missing: with several issuers"]),
        (ROLE + WHOLE, ['roles[1].name: "reporting" is there twice']),
        # audit
        (WHOLE.replace("audit.jsonl", "no/such/audit.jsonl"), ["audit.path: there is no directory"]),
        (WHOLE.replace("audit.jsonl", "."), ["audit.path: ", "is a directory"]),
        (WHOLE.replace('path = "audit.jsonl"', 'path = ""'), ["audit.path: expected a path"]),
        (WHOLE.replace('path = "audit.jsonl"', 'path = "a\\u0000b"'), ["audit.path: expected a path"]),
    ],
)  # fmt: skip
def test_problems(write, text, expected):
    found = problems(write(text))
    for wanted in expected:
        assert any(wanted in problem for problem in found), (wanted, found)
    assert len(found) == len(set(found))
    # Nothing is said beside what is wrong: one problem for each that is expected here.
    assert len(found) <= max(len(expected), 2), found
    for problem in found:
        assert problem.partition(": ")[2]


def test_all_problems_are_found_in_one_run(write):
    text = """
[listen]
port = "x"
prot = 1
allow_plaintext_loopback = true
host = "0.0.0.0"
[[issuers]]
url = "ftp://x"
audience = []
[[resources]]
name = "a"
host = "db"
database = "a"
user = "u"
tls = "disable"
password = { file = "nope" }
[[resources]]
name = "a"
password = "hunter2-in-place"
[[roles]]
name = "r"
match = {}
resources = ["b"]
mask = "first6_last4"
colour = 1
[audit]
path = "x/y"
"""
    found = problems(write(text))
    keys = [problem.partition(": ")[0] for problem in found]
    assert sorted(keys) == sorted(
        [
            "listen.prot",
            "listen.port",
            "listen.allow_plaintext_loopback",
            "issuers[0].url",
            "issuers[0].audience",
            "resources[a].tls",
            "resources[a].password.file",
            "resources[a].host",
            "resources[a].database",
            "resources[a].user",
            "resources[a].password",
            "resources[1].name",
            "roles[r].colour",
            "roles[r].match",
            "roles[r].justification",
            "roles[r].resources",
            "audit.path",
        ]
    )
    assert "hunter2-in-place" not in "\n".join(found)


def test_a_password_written_in_the_file_is_not_repeated(write):
    (found,) = problems(write(WHOLE.replace('{ file = "password" }', '"hunter2-in-place"')))
    assert "hunter2" not in found
    assert "never written in this file" in found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[listen", "is not TOML"),
        (b"a = \xff", "is not UTF-8"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"# " + b"x" * (1 << 20), "larger than"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, data, expected):
    path = tmp_path / "pangate.toml"
    path.write_bytes(data)
    (found,) = problems(path)
    assert expected in found
    assert str(path) in found


def test_a_file_that_is_not_there(tmp_path):
    assert "there is no such file" in problems(tmp_path / "nope.toml")[0]
    assert "cannot be read" in problems(tmp_path)[0]


def test_relative_paths_start_at_the_file_wherever_the_process_is(write, tmp_path, monkeypatch):
    path = write(WHOLE)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(Path("..") / path.name).audit.path == tmp_path / "audit.jsonl"


# Certificates and keys


def listen_with(certificate: Path, key: Path) -> str:
    return WHOLE.replace(
        "allow_plaintext_loopback = true", f'certificate = "{certificate}"\nkey = "{key}"'
    )


def test_certificate_and_key_belong_together(write, tls_files, tmp_path):
    certificate, key = tls_files
    load(write(listen_with(certificate, key)))
    other = tmp_path / "other.key"
    other.touch(0o600)
    private = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    other.write_bytes(private.private_bytes(*form, serialization.NoEncryption()))
    assert "does not belong" in problems(write(listen_with(certificate, other)))[0]
    other.write_bytes(private.private_bytes(*form, serialization.BestAvailableEncryption(b"x")))
    assert "is encrypted" in problems(write(listen_with(certificate, other)))[0]
    other.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert "no private key" in problems(write(listen_with(certificate, other)))[0]
    assert "no certificate" in problems(write(listen_with(key, key)))[0]
    key.chmod(0o644)
    assert "has mode 0644" in problems(write(listen_with(certificate, key)))[0]


@pytest.mark.parametrize(
    ("mode", "wrong_for_root_file", "wrong"),
    [
        (0o600, False, False),
        (0o400, False, False),
        (0o440, False, True),
        (0o640, False, True),
        (0o660, True, True),
        (0o604, True, True),
        (0o644, True, True),
        (0o601, True, True),
    ],
)
def test_who_may_read_a_secret(tmp_path, mode, wrong_for_root_file, wrong, monkeypatch):
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(mode)
    owner = path.stat().st_uid
    expected = wrong_for_root_file if owner == 0 else wrong
    found = config.private_file_problem(path)
    assert (found is not None) is expected
    if expected:
        assert f"{mode:04o}" in found
    if owner == 0:
        # The same file seen by its owner when that is not root.
        os.chown(path, 65534, 65534)
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        assert (config.private_file_problem(path) is not None) is wrong
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert "another user" in (config.private_file_problem(path) or "")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_loopback(host, expected):
    assert config.is_loopback(host) is expected


# The digest


def test_the_digest_changes_with_the_meaning_and_not_with_the_form(write):
    first = load(write(WHOLE)).digest
    assert len(first) == 64
    assert load(write("# a comment\n" + WHOLE.replace(" = ", "="))).digest == first
    assert load(write(WHOLE + "[limits]\nmax_sessions = 1000\n")).digest == first
    assert load(write(WHOLE.replace('"reporting" }', '"other" }'))).digest != first
    assert load(write(WHOLE + "[limits]\nmax_sessions = 999\n")).digest != first


# Structure


def test_the_reference_that_is_checked_in_is_current():
    written = (ROOT / "docs" / "configuration.md").read_text()
    assert written == config.reference(), "run: pangate check --reference > docs/configuration.md"


def test_every_key_has_a_description():
    import msgspec

    for _, kind, _ in config.TABLES:
        for field in msgspec.structs.fields(kind):
            assert config.description_of(field.type).endswith("."), (kind, field.name)


def test_masks_and_limits_are_those_of_policy_and_model():
    import typing

    assert set(typing.get_args(config.MaskName)) == set(policy.MASKS)
    assert config.RoleLimitSettings.__struct_fields__ == tuple(
        field.name for field in dataclasses.fields(Limits)
    )


def test_the_configuration_cannot_be_changed(write):
    found = load(write(WHOLE))
    assert isinstance(found, Config)
    with pytest.raises(AttributeError):
        found.listen.port = 1  # type: ignore[misc]


# --- ways to authenticate, and the gateway's own login ---------------------------------------------


@pytest.mark.parametrize(
    ("listen", "issuers", "expected"),
    [
        ("authentication = []", 1, ["listen.authentication: is empty"]),
        ('authentication = "password"', 1, ["listen.authentication: expected a list"]),
        ('authentication = ["trust"]', 1, ["listen.authentication[0]: invalid enum value"]),
        ('authentication = ["oauth", "oauth"]', 1, ["listen.authentication: names a way twice"]),
        ('authentication = ["certificate"]', 1,
         ["listen.client_ca: missing", "listen.certificate: missing: client certificates",
          "roles[reporting].issuer: missing: with several issuers a role says whose claims it believes; "
          "name one of https://issuer.example, x509"]),
        ('client_ca = "nope"', 1,
         ['listen.client_ca: has no effect unless authentication has "certificate"',
          "listen.client_ca: there is no file"]),
        ('client_crl = "password"', 1, ["listen.client_crl: has no effect", "holds no revocation list"]),
        ('oauth_issuer = "https://issuer.example"', 1, ["listen.oauth_issuer: has no effect"]),
        ('oauth_scope = "a"', 1, ["listen.oauth_scope: has no effect"]),
        ('authentication = ["oauth"]\noauth_issuer = "https://issuer.exampel"', 1,
         ['listen.oauth_issuer: there is no issuer "https://issuer.exampel"; did you mean']),
        ('authentication = ["oauth"]', 2, ["listen.oauth_issuer: missing: with several issuers"]),
        ('authentication = ["oauth"]\noauth_scope = "a  b"', 1, ["listen.oauth_scope: is no list"]),
        ('authentication = ["oauth"]\noauth_scope = "a\\"b"', 1, ["listen.oauth_scope: is no list"]),
        ('client_name = "cn"', 1, ["listen.client_name: invalid enum value"]),
    ],
)  # fmt: skip
def test_ways_that_cannot_be(write, listen, issuers, expected):
    more = ISSUER.replace("issuer.example", "second.example") if issuers == 2 else ""
    found = problems(write(LISTEN + listen + WHOLE.replace(LISTEN, "") + more))
    for text in expected:
        assert any(text in problem for problem in found), found


def test_certificates_alone_need_no_issuer(write, tls_files):
    listen = (
        f'[listen]\ncertificate = "{tls_files[0]}"\nkey = "{tls_files[1]}"\n'
        f'client_ca = "{tls_files[0]}"\nauthentication = ["certificate"]\n'
    )
    found = load(write(listen + RESOURCE + ROLE + AUDIT))
    assert found.issuers == ()
    assert found.oauth_discovery == ""
    also = listen.replace('["certificate"]', '["certificate", "password"]')
    assert "issuers: missing" in problems(write(also + RESOURCE + ROLE + AUDIT))[0]


def test_where_oauth_clients_are_sent(write):
    listen = LISTEN + 'authentication = ["oauth", "password"]\noauth_scope = "openid pay:read"\n'
    found = load(write(listen + WHOLE.replace(LISTEN, "")))
    assert found.oauth_discovery == "https://issuer.example/.well-known/openid-configuration"
    second = ISSUER.replace("issuer.example", "second.example/realm/")
    role = ROLE + 'issuer = "https://issuer.example"\n'
    listen += 'oauth_issuer = "https://second.example/realm/"\n'
    found = load(write(listen + ISSUER + second + RESOURCE + role + AUDIT))
    assert found.oauth_discovery == "https://second.example/realm/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", ["password: missing: the gateway logs in with a password, or"]),
        ('certificate = "CERTIFICATE"', ["key: missing: certificate and key are given together"]),
        ('key = "KEY"', ["certificate: missing: certificate and key are given together"]),
        ('certificate = "CERTIFICATE"\nkey = "password"', ["key: ", "holds no private key"]),
        ('certificate = "CERTIFICATE"\nkey = "nope"', ["key: there is no file"]),
        ('certificate = "password"\nkey = "KEY"', ["certificate: ", "holds no certificate"]),
        ('certificate = "CERTIFICATE"\nkey = "KEY"\ntls = "disable"\nhost = "localhost"',
         ["certificate: has no effect with tls"]),
        ('certificate = "CERTIFICATE"\nkey = "KEY"\npassword = "hunter2-canary"',
         ["password: must be a table"]),
    ],
)  # fmt: skip
def test_a_login_that_cannot_be(write, tls_files, lines, expected):
    resource = RESOURCE.replace('password = { file = "password" }\n', "")
    if "host" in lines:
        resource = resource.replace('host = "db.example"\n', "")
    lines = lines.replace("CERTIFICATE", str(tls_files[0])).replace("KEY", str(tls_files[1]))
    found = problems(write(WHOLE.replace(RESOURCE, resource + lines + "\n")))
    assert "hunter2-canary" not in str(found)
    for text in expected:
        assert any(text in problem for problem in found), found


def test_a_login_with_a_certificate(write, tls_files):
    lines = f'certificate = "{tls_files[0]}"\nkey = "{tls_files[1]}"\n'
    resource = RESOURCE.replace('password = { file = "password" }\n', lines)
    found = load(write(WHOLE.replace(RESOURCE, resource)))
    assert found.resources[0].password is None
    assert f'key = "{tls_files[1]}"' in config.describe(found)
    assert load(write(WHOLE.replace(RESOURCE, RESOURCE + lines))).resources[0].password is not None


def test_a_key_of_a_resource_is_as_private_as_the_gateways(write, tls_files):
    tls_files[1].chmod(0o644)
    lines = f'certificate = "{tls_files[0]}"\nkey = "{tls_files[1]}"\n'
    (found,) = problems(write(WHOLE.replace(RESOURCE, RESOURCE + lines)))
    assert "resources[payments].key: " in found
    assert "mode 0644" in found


# Rules

APPROVERS = """
[[approvers]]
name = "dba"
match = { groups = "dba" }
owns = "owner"
"""


def rule(**keys):
    lines = ["[[rules]]"]
    for key, value in {"name": "r", "verdict": "deny", **keys}.items():
        lines.append(f"{key} = {value if key in RAW else repr(value).replace(chr(39), chr(34))}")
    return "\n".join(lines) + "\n"


RAW = ("hold", "when", "match", "shadow")


def test_a_rule_has_what_it_says_and_no_more(write):
    text = rule(
        verdict="hold",
        effects=["schema"],
        tables=["pay.*"],
        source=["10.0.0.0/8"],
        when='{ days = ["mon"], from = "22:00", to = "06:00", zone = "Europe/Vienna" }',
        hold='{ approvers = ["dba"], quorum = 2, mode = "refuse-and-retry" }',
        condition="principal.level > 2",
    )
    found = load(write(WHOLE + APPROVERS + text))
    assert found.approvers[0].owns == "owner"
    (made,) = found.rules
    assert (made.when.begin, made.when.end, made.rows_over) == ("22:00", "06:00", None)
    assert made.hold.model == Hold(("dba",), 2, mode="refuse-and-retry")
    assert [one.name for one in found.rulebook.rules] == ["r"]
    # What it resolves to says the same again, and nothing of what is left out.
    resolved = config.describe(found)
    assert "rows_over" not in resolved
    assert 'from = "22:00"' in resolved


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rule(verdict="maybe"), "rules[r].verdict: invalid enum value 'maybe'"),
        (rule(verdict="hold"), "rules[r].hold: missing: it says who may approve"),
        (
            rule(hold='{ approvers = ["dba"] }'),
            'rules[r].hold: has no effect with verdict = "deny"',
        ),
        (
            rule(verdict="hold", hold='{ approvers = ["dab"] }'),
            'rules[r].hold.approvers: there is no group of [[approvers]] "dab"; did you mean "dba"?',
        ),
        (rule(verdict="hold", hold="{ approvers = [] }"), "rules[r].hold.approvers: expected"),
        (
            rule(verdict="hold", hold='{ approvers = ["dba"], quorum = 0 }'),
            "rules[r].hold.quorum: expected",
        ),
        (rule(roles=["raporting"]), 'rules[r].roles: there is no role "raporting"; did you mean'),
        (rule(resources=["x"]), 'rules[r].resources: there is no resource "x"'),
        (rule(effects=["drop"]), "rules[r].effects[0]: invalid enum value 'drop'"),
        (rule(tables=["a.b.c"]), 'rules[r].tables: "a.b.c" is no [schema.]table'),
        (rule(columns=["a.b.c.d"]), 'rules[r].columns: "a.b.c.d" is no [[schema.]table.]column'),
        (rule(columns=["a..d"]), 'rules[r].columns: "a..d" is no [[schema.]table.]column'),
        (rule(source=["10.0.0.1/8"]), "rules[r].source: 10.0.0.1/8 has host bits set"),
        (rule(issuer="https://issuer.example"), "rules[r].issuer: has no effect without match"),
        (rule(match="{ team = [] }"), "rules[r].match.team: is an empty list"),
        (rule(verdict="allow", rows_over=3), "rules[r].rows_over: allows nothing"),
        (rule(rows_over=-1), "rules[r].rows_over: expected"),
        (rule(when='{ from = "9:00" }'), "rules[r].when.from: expected"),
        (
            rule(when='{ zone = "Mars/Base" }'),
            'rules[r].when.zone: there is no time zone "Mars/Base"',
        ),
        (rule(when="{ }"), "rules[r].when.from: the window is the whole week"),
        (rule(when='{ begin = "09:00" }'), "rules[r].when.begin: unknown key"),
        (rule(condition="nope == 1"), 'rules[r].condition: there is no variable "nope"'),
        (rule(condition="1 +"), "rules[r].condition: is no CEL"),
        (rule() + rule(), 'rules[1].name: "r" is there twice'),
        (rule() + rule(name="s", effects=["read"]), 'rules[s]: never decides, because "r" stands'),
        (APPROVERS, 'approvers[1].name: "dba" is there twice'),
        ('[[approvers]]\nname = "x"\nmatch = {}\n', "approvers[x].match: is empty"),
    ],
)
def test_what_is_wrong_with_rules(write, text, said):
    found = problems(write(WHOLE + APPROVERS + text))
    assert any(one.startswith(said) for one in found), found


def test_with_several_issuers_a_rule_that_allows_says_whose_claims_it_believes(write):
    two = WHOLE.replace("[[roles]]", ISSUER.replace("issuer.", "other.") + "[[roles]]", 1).replace(
        'resources = ["payments"]', 'resources = ["payments"]\nissuer = "https://issuer.example"'
    )
    match = '{ team = "x" }'
    found = problems(write(two + rule(verdict="allow", match=match)))
    assert found[0].startswith("rules[r].issuer: missing: with several issuers a rule that allows")
    assert load(write(two + rule(match=match))).rules[0].issuer is None


def test_the_profile_stands_behind_the_rules_of_the_file(write):
    text = 'profile = "pci"\n' + WHOLE + APPROVERS + rule(effects=["schema"], verdict="allow")
    found = load(write(text))
    names = [one.name for one in found.rules]
    assert names[0] == "r"
    assert names[1:] == [
        "pci-server", "pci-code", "pci-privilege", "pci-schema", "pci-bulk", "pci-read", "pci-write"
    ]  # fmt: skip
    held = [one for one in found.rules if one.verdict == "hold"]
    assert {one.hold.approvers for one in held} == {("dba",)}
    resolved = config.describe(found)
    assert 'name = "pci-schema"' in resolved
    assert '# profile = "pci" adds' in resolved


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('profile = "pci"\n' + WHOLE, 'profile: "pci" holds what is dangerous'),
        ('profile = "hipaa"\n' + WHOLE, "profile: invalid enum value 'hipaa'. Rules to start from"),
        ("profile = 3\n" + WHOLE, "profile: expected"),
        (
            'profile = "pci"\n' + WHOLE + APPROVERS + rule(name="pci-code"),
            "rules[pci-code].name: is a name of the profile",
        ),
    ],
)
def test_what_is_wrong_with_a_profile(write, text, said):
    found = problems(write(text))
    assert any(one.startswith(said) for one in found), found


@pytest.fixture
def keys(tmp_path):
    for name in ("out.key", "back.key", "signing", "hook-url"):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text("x")


def webhook(*lines: str, url: str = "https://hooks.example/pangate") -> str:
    return "\n".join(
        ["[[webhooks]]", 'name = "hook"', f'url = "{url}"', 'secret = { file = "out.key" }', *lines, ""]
    )  # fmt: skip


def slack(*lines: str) -> str:
    return "\n".join(["[[slack]]", 'name = "ops"', *lines, ""])


WEB = 'webhook = { file = "hook-url" }'
BUTTONS = 'signing_secret = { file = "signing" }'
CALLBACK = 'callback = { secret = { file = "back.key" }, subject = "board" }'
CONTROL = "[control]\nport = 0\n"


@pytest.mark.usefixtures("keys")
def test_channels(write, tmp_path):
    person = '{ user = "U1", subject = "ada", claims = { groups = ["dba"] } }'
    found = load(
        write(
            WHOLE
            + APPROVERS
            + webhook('approvers = ["dba"]', 'events = ["requested"]', CALLBACK)
            + slack(WEB, BUTTONS, f"people = [{person}]")
            + CONTROL
        )
    )
    (hook,), (ops,) = found.webhooks, found.slack
    assert hook.callback.secret.file == tmp_path / "back.key"
    assert hook.callback.claims == {}
    assert (ops.people[0].user, ops.people[0].claims) == ("U1", {"groups": ["dba"]})
    assert ops.webhook.file == tmp_path / "hook-url"
    resolved = config.describe(found)
    assert 'name = "hook"' in resolved
    assert "\ntoken = " not in resolved


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (webhook(url="http://hooks.example/x"), "webhooks[hook].url: http to hooks.example can"),
        (webhook(url="http://127.0.0.1:1/x"), "webhooks[hook].url: http is for trials on loopback"),
        (webhook(url="https://a:b@x/"), "webhooks[hook].url: holds a user name or password"),
        (webhook('name2 = "x"'), 'webhooks[hook].name2: unknown key; did you mean "name"?'),
        (webhook('networks = ["10.0.0.1/8"]'), "webhooks[hook].networks: 10.0.0.1/8 has host bits"),
        (webhook('approvers = ["dab"]'), "webhooks[hook].approvers: there is no group"),
        (webhook('events = ["all"]'), "webhooks[hook].events[0]: invalid enum value 'all'"),
        (webhook(CALLBACK), "webhooks[hook].callback: has no effect without control.port"),
        (
            webhook(CALLBACK.replace("back.key", "out.key")) + CONTROL,
            "webhooks[hook].callback.secret: is the one that messages are signed with",
        ),
        (
            webhook(CALLBACK.replace("}, s", '}, claims = { acr = "gold" }, s')) + CONTROL,
            "webhooks[hook].callback.claims: has acr, which only a sign-in proves",
        ),
        (
            webhook(CALLBACK.replace("}, s", "}, claims = { level = 1.5 }, s")) + CONTROL,
            "webhooks[hook].callback.claims.level: must be a text",
        ),
        (
            webhook(CALLBACK.replace("}, s", '}, issuer = "https://x", s')) + CONTROL,
            'webhooks[hook].callback.issuer: there is no issuer "https://x"',
        ),
        (webhook() + webhook(), 'webhooks[1].name: "hook" is there twice'),
        (webhook().replace('"hook"', '"a b"'), "webhooks[0].name: expected"),
        (slack(WEB).replace("ops", "hook") + webhook(), 'slack[0].name: "hook" is a webhook'),
        (slack(), "slack[ops].token: give either token and channel, or webhook"),
        (slack(WEB.replace("webhook", "token")), "slack[ops].channel: channel and token are given"),
        (slack(WEB, 'people = [{ user = "U1" }]'), "slack[ops].people[0].subject: missing"),
        (
            slack(WEB, 'people = [{ user = "U1", subject = "a" }]') + CONTROL,
            "slack[ops].signing_secret: missing",
        ),
        (
            slack(WEB, BUTTONS, 'people = [{ user = "U", subject = "a" }, { user = "U", subject = "b" }]')
            + CONTROL,
            "slack[ops].people: names a user twice",
        ),
        (
            slack(WEB, BUTTONS, 'people = [{ user = "U", subject = "a" }]'),
            "slack[ops].people[0]: has no effect without control.port",
        ),
        (slack(WEB, 'api = "http://slack.example"'), "slack[ops].api: http to slack.example"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_channels(write, text, said):
    found = problems(write(WHOLE + APPROVERS + text))
    assert any(one.startswith(said) for one in found), found


@pytest.mark.usefixtures("keys")
def test_the_arguments_of_commands_are_shown_nowhere(write):
    command = 'secret = { command = ["echo", "s3cr3t"] }'
    text = webhook(CALLBACK).replace('secret = { file = "out.key" }', command, 1) + CONTROL
    found = load(write(WHOLE + APPROVERS + text))
    assert "s3cr3t" not in config.describe(found)
    assert "(not shown)" in config.describe(found)


def signing(more, workers=1):
    process = f"[process]\nworkers = {workers}\n" if workers > 1 else ""
    return WHOLE.replace('path = "audit.jsonl"\n', f'path = "audit.jsonl"\n{more}\n') + process


@pytest.mark.usefixtures("keys")
def test_a_command_that_prints_the_key_of_the_record(write, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "t")
    keys = 'key_command = ["echo", "s3cr3t", "{origin}"]\nkey_environment = ["VAULT_TOKEN"]'
    found = load(write(signing(keys, 2)))
    assert found.audit.key_command == ("echo", "s3cr3t", "{origin}")
    assert "s3cr3t" not in config.describe(found)
    assert 'key_command = ["echo", "(not shown)", "(not shown)"]' in config.describe(found)
    made = [command_of(of_worker(found, number).audit)[2] for number in (1, 2)]
    assert [one.rpartition("/")[2] for one in made] == ["worker-1", "worker-2"]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("keys", "workers", "said"),
    [
        ('key_command = ["echo"]\nkey = "k"', 1, "audit.key: has no effect with key_command"),
        ("key_command = []", 1, "audit.key_command: is empty; name the program"),
        ('key_command = ["no-such-vault"]', 1, "audit.key_command: there is no program no-such"),
        ('key_environment = ["A"]', 1, "audit.key_environment: has no effect without"),
        (
            'key_command = ["echo"]\nkey_environment = ["NOT_THERE"]',
            1,
            "audit.key_environment: the environment has no NOT_THERE; set it",
        ),
        ('key_command = ["echo"]', 2, "audit.key_command: has no {origin} in it"),
    ],
)
def test_what_is_wrong_with_the_key_of_the_record(write, keys, workers, said):
    found = problems(write(signing(keys, workers)))
    assert any(one.startswith(said) for one in found), found
