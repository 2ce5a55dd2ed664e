"""Tokens of a real OpenID Connect provider, beside those of the local issuer, through a real gateway."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode

import pytest

from pangate.embedded import EmbeddedPostgres
from pangate.trial import Trial, until
from provider import Provider
from servers import events

pytestmark = pytest.mark.integration

REFUSED = "the password must be a valid, unexpired identity token"
UNAVAILABLE = "the identity issuer cannot be reached"
ISSUERS = """
[[issuers]]
url = "{url}"
audience = "pangate"
algorithms = ["ES256", "RS256"]
allow_http_loopback = true
refresh_seconds = {refresh}
stale_seconds = {stale}

[[resources]]
name = "payments"
"""
ROLES = """issuer = "{url}"
match = {{ team = "billing" }}
resources = ["payments"]
[[roles]]
name = "locals"
issuer = "{local}"
match = {{ team = "payments" }}
"""


@pytest.fixture(scope="module")
def provider():
    clients = {"billing-job": "billing", "reporting-job": "reporting", "impostor": "payments"}
    with Provider(clients) as running:
        yield running


class TwoIssuers(Trial):
    """A gateway that believes the provider and the local issuer, each for roles of its own."""

    def __init__(
        self, postgres: EmbeddedPostgres, url: str, refresh: float = 300, stale: float = 3600
    ) -> None:
        super().__init__(postgres)
        self._url, self._refresh, self._stale = url, refresh, stale

    def _configure(self) -> None:
        super()._configure()
        issuers = ISSUERS.format(url=self._url, refresh=self._refresh, stale=self._stale)
        roles = ROLES.format(url=self._url, local=self.issuer.url)
        text = self.config.read_text()
        for old, new in (
            ('\n[[resources]]\nname = "payments"\n', issuers),
            ('match = { team = "payments" }\n', roles),
            ('match = { team = "ledger" }', f'issuer = "{self.issuer.url}"\nmatch = {{ a = "b" }}'),
        ):
            assert text.count(old) == 1
            text = text.replace(old, new)
        self.config.write_text(text)


@pytest.fixture(scope="module")
def two(postgres, provider):
    with TwoIssuers(postgres, provider.url) as running:
        yield running


def header(token: str) -> dict:
    part = token.split(".")[0]
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.parametrize(
    ("resource", "algorithm"), [("urn:pangate", "ES256"), ("urn:rsa", "RS256")]
)
def test_a_login_by_discovery(two, provider, resource, algorithm):
    token = provider.token("billing-job", resource)
    assert header(token)["alg"] == algorithm
    assert header(token)["typ"] == "at+jwt"
    done = two.psql(token, "select 'seen'")
    assert "seen" in done.stdout, done.stderr
    (*_, start) = [e for e in events(two) if e["code"] == "session.start"]
    assert start["principal"] == f"{provider.url}#billing-job"


def test_several_issuers_each_for_its_own_roles(two, provider):
    assert two.psql(two.token(), "select 1").returncode == 0
    # the claim that a local role asks for, vouched for by the provider, and the other way round
    for token in (provider.token("impostor"), two.token(team="billing")):
        done = two.psql(token, "select 1")
        assert "no role of this identity" in done.stderr
    assert (
        "no role of this identity" in two.psql(provider.token("reporting-job"), "select 1").stderr
    )


def test_a_token_for_another_resource_server(two, provider):
    done = two.psql(provider.token("billing-job", "urn:other"), "select 1")
    assert REFUSED in done.stderr
    failed = [e for e in events(two) if e["code"] == "auth.failed"][-1]
    assert failed["data"]["detail"] == "the token is for another audience"


def test_new_keys_are_found_and_old_ones_forgotten(postgres, provider):
    with TwoIssuers(postgres, provider.url, refresh=1, stale=60) as own:
        old = provider.token("billing-job")
        assert own.psql(old, "select 1").returncode == 0
        provider.stop()
        provider.start()
        new = provider.token("billing-job")
        assert header(new)["kid"] != header(old)["kid"]
        # while it was away, a refresh may have failed, and is not tried again at once
        until(lambda: own.psql(new, "select 1").returncode == 0, "a login with the new key")
        time.sleep(1.1)
        assert REFUSED in own.psql(old, "select 1").stderr
        assert own.psql(new, "select 1").returncode == 0


def test_while_the_issuer_is_down_its_keys_serve_for_a_while(postgres, provider):
    stale = 15  # a busy machine takes seconds for three logins
    with TwoIssuers(postgres, provider.url, refresh=1, stale=stale) as own:
        tokens = [provider.token("billing-job") for _ in range(3)]
        assert own.psql(tokens[0], "select 1").returncode == 0
        provider.stop()
        stopped = time.monotonic()
        try:
            time.sleep(1.5)  # older than refresh_seconds
            assert own.psql(tokens[0], "select 1").returncode == 0
            assert own.psql(tokens[1], "select 1").returncode == 0
            time.sleep(max(0.0, stopped + stale - time.monotonic()))
            for token in tokens:
                assert UNAVAILABLE in own.psql(token, "select 1").stderr
            failed = [e for e in events(own) if e["code"] == "auth.failed"][-1]
            assert provider.url in failed["data"]["detail"]
            # the other issuer is not concerned
            assert own.psql(own.token(), "select 1").returncode == 0
        finally:
            provider.start()
