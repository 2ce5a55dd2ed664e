"""The table `[control.console]`."""

from __future__ import annotations

import pytest

from pangate.config import load
from pangate.errors import ConfigError

FILE = """
[listen]
allow_plaintext_loopback = true
{issuers}
[[resources]]
name = "payments"
host = "db.example"
database = "pay"
user = "gateway"
password = {{ env = "PANGATE_TEST_PASSWORD" }}
[[roles]]
name = "reporting"
match = {{ team = "reporting" }}
issuer = "https://issuer.example"
resources = ["payments"]
[audit]
path = "audit.jsonl"
[control]
{control}
[control.console]
{console}
"""

ISSUER = '[[issuers]]\nurl = "https://issuer.example"\naudience = "pangate"\n'
OTHER = '[[issuers]]\nurl = "https://other.example"\naudience = "pangate"\n'
GOOD = 'url = "https://gateway.example"\nclient_id = "console"\nviewer = { groups = "staff" }\n'


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setenv("PANGATE_TEST_PASSWORD", "x")
    (tmp_path / "open").touch(mode=0o644)

    def read(console: str = GOOD, issuers: str = ISSUER, control: str = "port = 6480"):
        path = tmp_path / "pangate.toml"
        path.write_text(FILE.format(console=console, issuers=issuers, control=control))
        return load(path).control.console

    return read


def test_a_console(read):
    found = read()
    assert dict(found.matches()) == {"viewer": {"groups": "staff"}}
    assert (found.secure, found.host) == (True, "gateway.example")
    assert (found.idle_seconds, found.max_seconds) == (900, 28800)
    plain = read(GOOD.replace("https://gateway.example", "http://localhost:6480/"))
    assert (plain.secure, plain.host) == (False, "localhost:6480")
    assert read(GOOD + 'issuer = "https://other.example"', ISSUER + OTHER).issuer == (
        "https://other.example"
    )


def test_a_client_may_be_called_like_the_audience_of_another_issuer(read):
    console = GOOD.replace('"console"', '"agents"') + 'issuer = "https://issuer.example"\n'
    assert read(console, ISSUER + OTHER.replace('"pangate"', '"agents"')).client_id == "agents"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"console": GOOD.replace("https://g", "http://g")}, "http to gateway.example can be forged"),
        ({"console": GOOD.replace(".example", ".example/gate")}, "url: has a path"),
        ({"console": GOOD.replace("https://gateway", "https://Gateway")}, "url: is not as browsers send"),
        ({"console": GOOD.replace(".example", ".example:443")}, "url: is not as browsers send"),
        ({"console": GOOD + 'scope = "groups"'}, 'scope: has no "openid"'),
        ({"console": GOOD.replace("viewer", "visitor")}, "visitor: unknown key"),
        ({"console": GOOD.replace('{ groups = "staff" }', "{}")}, "nobody could sign in"),
        ({"console": GOOD.replace('"staff"', "[]")}, "viewer.groups: is an empty list"),
        ({"console": GOOD + "idle_seconds = 90000"}, "idle_seconds: 90000 is more than max_seconds"),
        ({"console": GOOD + 'secret_file = "nowhere"'}, "secret_file: there is no file"),
        ({"console": GOOD + 'secret_file = "open"'}, "secret_file: "),
        ({"console": GOOD, "control": ""}, "control.port: missing: the console needs it"),
        ({"console": GOOD.replace('"console"', '"pangate"')}, "client_id: \"pangate\" is an audience"),
        ({"console": GOOD.replace('"console"', '"b"'),
          "issuers": ISSUER.replace('"pangate"', '["a", "b"]')}, "client_id: \"b\" is an audience"),
        ({"issuers": ISSUER + OTHER}, "control.console.issuer: missing: with several issuers"),
        ({"console": GOOD + 'issuer = "https://isuer.example"'}, "did you mean"),
        ({"console": 'url = "https://gateway.example"'}, "client_id: missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_it(read, more, said):
    with pytest.raises(ConfigError) as wrong:
        read(**more)
    assert any(said in problem for problem in wrong.value.problems), wrong.value.problems
