"""Every bad token end to end: one refusal that says nothing, a record that says what was wrong."""

from __future__ import annotations

import struct

import pytest

from attacks import ATTACKS
from issuer import EC, Issuer
from pangate.protocols.postgres.messages import message, startup
from pangate.trial import Trial, until
from servers import LOGIN, events, fatal, rest, tls

pytestmark = pytest.mark.integration

PASSWORD = (
    "authentication failed: the password must be a valid, unexpired identity token for this gateway"
)
BEARER = PASSWORD.replace("the password", "the bearer token")
BY_OAUTH = startup({"user": "agent", "database": "payments", "pangate.authentication": "oauth"})
LIMIT = "token_bytes"


class OfIssuer(Trial):
    """A gateway that believes an issuer of the tests instead of the local one."""

    def __init__(self, postgres, issuer: Issuer, **more: str) -> None:
        super().__init__(postgres, listen='authentication = ["password", "oauth"]', **more)
        self._issuer = issuer

    def _configure(self) -> None:
        super()._configure()
        text = self.config.read_text()
        assert text.count('algorithms = ["ES256"]') == 1
        text = text.replace('algorithms = ["ES256"]', 'algorithms = ["RS256", "ES256"]')
        self.config.write_text(text.replace(self.issuer.url, self._issuer.url))


@pytest.fixture(scope="module")
def issuer():
    running = Issuer()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def own(postgres, issuer):
    with OfIssuer(postgres, issuer, limits="auth_failures_per_minute = 100000") as running:
        yield running


def by_password(trial: Trial, token: bytes) -> dict[str, str]:
    with tls(trial) as sock:
        sock.sendall(LOGIN + message(b"p", token + b"\0"))
        return fatal(rest(sock))


def by_oauth(trial: Trial, token: bytes) -> dict[str, str]:
    response = b"n,,\x01auth=Bearer " + token + b"\x01\x01"
    initial = b"OAUTHBEARER\0" + struct.pack("!i", len(response)) + response
    with tls(trial) as sock:
        sock.sendall(BY_OAUTH + message(b"p", initial) + message(b"p", b"\x01"))
        return fatal(rest(sock))


def assert_refused(trial: Trial, name: str, token: str, recorded: str, way: str) -> None:
    before = len(events(trial))
    data = token.encode("utf-8", "surrogatepass")
    said = (by_password if way == "password" else by_oauth)(trial, data)
    until(lambda: len(events(trial)) > before, "the record")
    (event,) = events(trial)[before:]
    shown = repr(sorted(said.items()))
    if recorded == f"limits.{LIMIT}":
        assert LIMIT in said["M"]
        assert LIMIT in event["data"]["detail"]
    elif b"\0" in data:
        assert said["C"] == "08P01"
    else:
        assert said["M"] == (PASSWORD if way == "password" else BEARER)
        assert said["C"] == ("28P01" if way == "password" else "28000")
        assert set(said) == {"S", "V", "C", "M"}
        assert (event["code"], event["success"]) == ("auth.failed", False)
        assert recorded in event["data"]["detail"]
        assert event["data"]["authentication"] == way
        assert event["principal"] == "unknown"
    for part in [token, *token.split(".")]:
        if len(part) > 12:
            assert part not in shown
            assert part not in trial.log.read_text()
            assert part not in str(event)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_bad_password(own, issuer, name):
    make, recorded = ATTACKS[name]
    assert_refused(own, name, make(issuer), recorded, "password")


def by_oauth_too(name: str) -> bool:
    """Whether the mechanism can carry it at all, and as it is: it drops spaces before a token."""
    return name not in {"other digits", "surrogate", "NUL", "newline after it", "space around it"}


@pytest.mark.parametrize("name", [name for name in ATTACKS if by_oauth_too(name)])
def test_a_bad_bearer_token(own, issuer, name):
    make, recorded = ATTACKS[name]
    token = make(issuer)
    assert_refused(own, name, token, recorded, "oauth")


def test_psql_reads_the_same_and_a_good_token_still_passes(own, issuer):
    said = set()
    for name in (
        "expired",
        "audience of another service",
        "HMAC with the public key",
        "crit",
        "unknown key",
    ):
        token = ATTACKS[name][0](issuer)
        done = own.psql(token, "select 1")
        assert done.returncode == 2
        said.add(done.stderr.partition("FATAL:")[2].strip())
    assert said == {PASSWORD}
    good = issuer.token(EC, "ES256", "ec", team="payments")
    assert own.psql(good, "select 1").returncode == 0


def test_failures_are_throttled_and_that_is_recorded(postgres, issuer):
    with OfIssuer(postgres, issuer, limits="auth_failures_per_minute = 5") as own:
        said = [own.psql(f"bad-{n}", "select 1").stderr for n in range(7)]
        assert all(PASSWORD in text for text in said[:5])
        assert all("limits.auth_failures_per_minute" in text for text in said[5:])
        # a good token is not looked at either, so that nobody can go on guessing
        good = issuer.token(team="payments")
        assert "auth_failures_per_minute" in own.psql(good, "select 1").stderr
        details = [e["data"]["detail"] for e in events(own) if e["code"] == "auth.failed"]
        assert len(details) == 8
        assert "too many failures" in details[-1]
