"""The issuer of the demonstration, judged by PyJWT's own client and by the gateway's authenticator."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from pangate import config
from pangate.auth import open_authenticator
from pangate.errors import AuthenticationFailed
from pangate.issuer import LocalIssuer

TOML = """
[listen]
allow_plaintext_loopback = true
[[issuers]]
url = "{url}"
audience = "pangate"
algorithms = ["ES256", "RS256"]
allow_http_loopback = true
[[resources]]
name = "payments"
host = "127.0.0.1"
database = "db"
user = "svc"
password = {{ env = "PANGATE_TEST_PASSWORD" }}
tls = "disable"
[[roles]]
name = "reader"
match = {{ team = "payments" }}
resources = ["payments"]
[audit]
path = "audit.jsonl"
"""


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as running:
        yield running


@pytest.fixture
async def authenticator(issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PANGATE_TEST_PASSWORD", "x")
    path = tmp_path / "pangate.toml"
    path.write_text(TOML.format(url=issuer.url))
    made = open_authenticator(config.load(path))
    yield made
    await made.close()


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_stranger_can_check_its_tokens(issuer, algorithm):
    token = issuer.mint("job-7", algorithm=algorithm, team="payments", seconds=60)
    key = jwt.PyJWKClient(f"{issuer.url}/keys").get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token,
        key.key,
        algorithms=[algorithm],
        audience="pangate",
        issuer=issuer.url,
        options={"require": ["exp", "iat", "nbf", "sub"]},
    )
    assert (claims["sub"], claims["team"]) == ("job-7", "payments")
    assert claims["exp"] - claims["iat"] == 60
    assert "d" not in key._jwk_data


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_the_gateway_takes_its_tokens(issuer, authenticator, algorithm):
    token = issuer.mint("job-7", algorithm=algorithm, team="payments")
    principal = await authenticator.authenticate(token, "127.0.0.1:1")
    assert (principal.issuer, principal.subject) == (issuer.url, "job-7")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"audience": "another"}, "audience"),
        ({"seconds": -3600}, "expired"),
        ({"iss": "http://127.0.0.1:1"}, "issuer"),
    ],
    ids=["audience", "expired", "issuer"],
)
async def test_the_gateway_refuses_its_wrong_tokens(issuer, authenticator, wrong, reason):
    token = issuer.mint("job-7", team="payments", **wrong)
    with pytest.raises(AuthenticationFailed) as caught:
        await authenticator.authenticate(token, "127.0.0.1:1")
    assert reason in caught.value.detail


async def test_tokens_of_another_issuer_do_not_count(issuer, authenticator):
    with LocalIssuer() as other:
        token = other.mint("job-7", team="payments", iss=issuer.url)
    with pytest.raises(AuthenticationFailed):
        await authenticator.authenticate(token, "127.0.0.1:1")


def test_nothing_else_is_served(issuer):
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        urllib.request.urlopen(f"{issuer.url}/token", timeout=10)
    caught.value.close()


def test_it_has_no_url_before_it_runs():
    with pytest.raises(RuntimeError, match="use it in `with`"):
        _ = LocalIssuer().url
