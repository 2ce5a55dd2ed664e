"""Certificates to principals: names, claims, roles, and the certificates that name nobody."""

import time

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pangate.auth import FAILED_CERTIFICATE, open_authenticator
from pangate.auth.x509 import CertificateAuthenticator
from pangate.config import Config, ListenSettings, RoleSettings
from pangate.errors import AuthenticationFailed
from pangate.model import Certificate
from pki import Pki, dns, uri

SPIFFE = "spiffe://acme.example/ns/billing/sa/reader"


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


@pytest.fixture
def settings(issuer, make_config):
    def make(
        match, client_name="spiffe", role_issuer="x509", ways=("certificate", "password")
    ) -> Config:
        config = make_config(issuer)
        role = RoleSettings(name="r", issuer=role_issuer, match=match, resources=("payments",))
        listen = ListenSettings(authentication=ways, client_name=client_name)
        return msgspec.structs.replace(config, listen=listen, roles=(*config.roles, role))

    return make


def shown(pki: Pki, *args, **more) -> Certificate:
    return Certificate(pki.certificate(*args, **more)[0].public_bytes(Encoding.DER))


async def refusal(config: Config, certificate: Certificate) -> str:
    with pytest.raises(AuthenticationFailed) as caught:
        await open_authenticator(config).authenticate(certificate, "192.0.2.1")
    assert caught.value.reason == FAILED_CERTIFICATE
    return caught.value.detail


async def test_a_spiffe_id_names_the_agent_before_anything_else(pki, settings):
    for place in ("spiffe", "common_name", "dns", "uri"):
        config = settings({"spiffe_id": SPIFFE}, place)
        certificate = shown(pki, "other", uri(SPIFFE), dns("a.example"), ends=2)
        principal = await open_authenticator(config).authenticate(certificate, "192.0.2.1")
        assert principal.name == f"x509#{SPIFFE}"
        assert principal.roles == ("r",)
        assert principal.expires_at == pytest.approx(time.time() + 7200, abs=60)


@pytest.mark.parametrize(
    ("place", "name"),
    [("common_name", "agent-1"), ("dns", "agent-1.example"), ("uri", "urn:agent:1")],
)
async def test_the_configured_field_names_the_agent(pki, settings, place, name):
    certificate = shown(
        pki, "agent-1", dns("agent-1.example"), uri("urn:agent:1"), organization="Acme"
    )
    match = {
        "subject": {"common_name": "agent-1", "organization": ["Acme", "Beta"]},
        "san": {"dns": "agent-1.example"},
        "issuer": "CN=test CA",
    }
    principal = await open_authenticator(settings(match, place)).authenticate(certificate, "o")
    assert (principal.subject, principal.issuer, principal.roles) == (name, "x509", ("r",))
    assert len(principal.claims["fingerprint"]) == 64
    assert int(principal.claims["serial"], 16) > 0
    with pytest.raises(TypeError):
        principal.claims["issuer"] = "CN=other"


@pytest.mark.parametrize(
    "match",
    [
        {"spiffe_id": SPIFFE + "2"},
        {"spiffe_id": "spiffe://acme.example"},
        {"subject": {"common_name": "agent"}},
        {"subject": "agent-1"},
        {"common_name": "agent-1"},
        {"san": {"dns": "example"}},
        {"issuer": "test CA"},
        {"sub": SPIFFE},
    ],
)
async def test_no_role_without_an_exact_match(pki, settings, match):
    config = settings(match)
    found = await open_authenticator(config).authenticate(shown(pki, "agent-1", uri(SPIFFE)), "o")
    assert found.roles == ()


async def test_a_role_for_tokens_is_not_for_certificates_nor_the_other_way(pki, settings, issuer):
    config = settings({"team": "reporting"})
    token = await open_authenticator(config).authenticate(issuer.token(), "o")
    assert token.roles == ("reporting-0",)
    config = settings({"spiffe_id": SPIFFE}, role_issuer=issuer.url)
    found = await open_authenticator(config).authenticate(shown(pki, "a", uri(SPIFFE)), "o")
    assert found.roles == ()


@pytest.mark.parametrize(
    ("place", "args", "more", "says"),
    [
        ("spiffe", ("agent-1",), {}, "no SPIFFE ID"),
        ("spiffe", ("a", dns("a.example")), {}, "no SPIFFE ID"),
        ("common_name", ((),), {}, "0 names of the kind common_name"),
        ("common_name", (("a", "b"),), {}, "2 names of the kind common_name"),
        ("dns", ("a",), {}, "0 names of the kind dns"),
        ("dns", ("a", dns("a.example"), dns("b.example")), {}, "2 names of the kind dns"),
        ("uri", ("a", uri("urn:a"), uri("urn:b")), {}, "2 names of the kind uri"),
        ("common_name", (" ",), {}, "is not a name"),
        ("common_name", ("a\nroot",), {}, "is not a name"),
        ("uri", ("a", uri("urn:" + "a" * 600)), {}, "is not a name"),
        ("uri", ("a", uri(SPIFFE), uri("spiffe://acme.example/b")), {}, "X.509-SVIDs"),
        ("uri", ("a", uri(SPIFFE), uri("urn:b")), {}, "X.509-SVIDs"),
        ("uri", ("a", uri("spiffe://acme.example")), {}, "X.509-SVIDs"),
        ("uri", ("a", uri("spiffe://acme.example/")), {}, "X.509-SVIDs"),
        ("uri", ("a", uri("spiffe://acme.example/a/../b")), {}, "X.509-SVIDs"),
        ("uri", ("a", uri("spiffe://acme.example/a/.")), {}, "X.509-SVIDs"),
        ("uri", ("a", uri("spiffe://u@acme.example/a")), {}, "X.509-SVIDs"),
        ("uri", ("a", uri("SPIFFE://acme.example/a")), {}, "X.509-SVIDs"),
        ("uri", ("a", uri("spiffe://acme.example/a?x=y")), {}, "X.509-SVIDs"),
        ("spiffe", ("a", uri(SPIFFE)), {"begins": -3, "ends": -1}, "has expired"),
        ("spiffe", ("a", uri(SPIFFE)), {"begins": 1, "ends": 3}, "not valid yet"),
    ],
)
async def test_a_certificate_that_names_nobody(pki, settings, place, args, more, says):
    assert says in await refusal(settings({"sub": "x"}, place), shown(pki, *args, **more))


async def test_no_certificate_or_no_such_way(pki, settings):
    assert "showed no certificate" in await refusal(settings({"a": "b"}), Certificate(b""))
    assert "cannot be read" in await refusal(settings({"a": "b"}), Certificate(b"0\x03abc"))
    config = settings({"a": "b"}, ways=("password",))
    assert "not accepted" in await refusal(config, shown(pki, "a", uri(SPIFFE)))


async def test_tokens_and_certificates_do_not_mix(pki, settings, issuer):
    config = settings({"a": "b"})
    certificate = pki.certificate("a", uri(SPIFFE))[0]
    for text in (
        certificate.public_bytes(Encoding.PEM).decode(),
        certificate.public_bytes(Encoding.DER).hex(),
        "",
        SPIFFE,
    ):
        with pytest.raises(AuthenticationFailed) as caught:
            await open_authenticator(config).authenticate(text, "o")
        assert caught.value.reason != FAILED_CERTIFICATE
    assert "cannot be read" in await refusal(config, Certificate(issuer.token().encode()))
    with pytest.raises(TypeError):
        await CertificateAuthenticator(config).authenticate(issuer.token(), "o")


async def test_a_reload_that_takes_the_way_away(pki, settings, issuer):
    """What open sessions are asked for, and what goes over from one authenticator to the next."""
    with_both = open_authenticator(settings({"a": "b"}))
    await with_both.authenticate(issuer.token(), "o")
    assert with_both.believes("x509")
    assert with_both.believes(issuer.url)
    assert not with_both.believes("https://other.example")
    without = open_authenticator(settings({"a": "b"}, ways=("password",)), with_both)
    assert not without.believes("x509")
    assert without.believes(issuer.url)
    (state,) = without.key_states()
    assert (state.issuer, state.fetches, state.usable) == (issuer.url, 1, True)
    await without.refresh()
    await without.close()
