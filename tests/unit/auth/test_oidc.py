"""Every token that must not pass, and what the agent and the record are told about it."""

import asyncio
import hashlib
import hmac
import json
import time
from random import Random

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from issuer import AUDIENCE, EC, EC384, ED, OTHER_RSA, RSA, Issuer, b64, jwk
from pangate.auth import FAILED, THROTTLED, UNAVAILABLE, open_authenticator
from pangate.auth.oidc import MAX_ORIGINS, OidcAuthenticator, Throttle
from pangate.auth.oidc.keys import UNKNOWN_KEY_SECONDS
from pangate.config import LimitSettings
from pangate.errors import AuthenticationFailed

ORIGIN = "192.0.2.7"


async def refusal(authenticator, token: str, origin: str = ORIGIN) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as caught:
        await authenticator.authenticate(token, origin)
    error = caught.value
    for text in (str(error), error.reason, error.detail, repr(error)):
        assert len(token) < 8 or token not in text
        for part in token.split("."):
            assert len(part) < 8 or part not in text
    return error


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [
        (RSA, "RS256", "rsa"),
        (RSA, "PS384", "rsa"),
        (EC, "ES256", "ec"),
        (EC384, "ES384", "ec384"),
        (ED, "EdDSA", "ed"),
    ],
)
async def test_good_tokens(issuer, make_config, key, algorithm, kid):
    issuer.keys += [jwk(EC384, "ec384"), jwk(ED, "ed")]
    config = make_config(issuer, algorithms=("RS256", "PS384", "ES256", "ES384", "EdDSA"))
    authenticator = open_authenticator(config)
    principal = await authenticator.authenticate(issuer.token(key, algorithm, kid), ORIGIN)
    assert principal.subject == "agent-1"
    assert principal.name == f"{issuer.url}#agent-1"
    assert principal.roles == ("reporting-0",)
    assert 590 < principal.expires_at - time.time() <= 600
    assert principal.claims["team"] == "reporting"
    with pytest.raises(TypeError):
        principal.claims["team"] = "admin"
    await authenticator.close()


async def test_claims_without_a_role_give_a_principal_without_roles(issuer, make_config):
    authenticator = open_authenticator(make_config(issuer))
    principal = await authenticator.authenticate(issuer.token(team="other"), ORIGIN)
    assert principal.roles == ()


async def test_key_set_at_a_given_url_needs_no_discovery(issuer, make_config):
    config = make_config(issuer, jwks_url=f"{issuer.url}/jwks")
    await open_authenticator(config).authenticate(issuer.token(), ORIGIN)
    assert issuer.requests == ["/jwks"]


async def test_audience_list_leeway_and_subject_claim(issuer, make_config):
    config = make_config(issuer, audience=("a", "b"), subject_claim="client_id", leeway_seconds=60)
    authenticator = open_authenticator(config)
    now = int(time.time())
    token = issuer.token(
        aud=["x", "b"], client_id="svc", sub=None, exp=now - 20, iat=now - 90, nbf=now + 20
    )
    principal = await authenticator.authenticate(token, ORIGIN)
    assert principal.subject == "svc"


def hs256_with_public_key(issuer: Issuer) -> str:
    """Algorithm confusion: the issuer's public key, which everybody has, as an HMAC secret."""
    secret = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = (
        b64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "rsa"}).encode())
        + "."
        + b64(json.dumps(issuer.claims()).encode())
    )
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def unsigned(issuer: Issuer, name: str) -> str:
    header = b64(json.dumps({"alg": name, "kid": "rsa"}).encode())
    return f"{header}.{b64(json.dumps(issuer.claims()).encode())}."


def with_payload(issuer: Issuer, change) -> str:
    """A good signature over other claims than it was made for."""
    header, payload, signature = issuer.token().split(".")
    claims = json.loads(jwt.utils.base64url_decode(payload))
    change(claims)
    return f"{header}.{b64(json.dumps(claims).encode())}.{signature}"


def raw(issuer: Issuer, payload: bytes | None = None, header: bytes | None = None) -> str:
    return issuer.raw(
        header or b'{"alg":"RS256","kid":"rsa"}', payload or json.dumps(issuer.claims()).encode()
    )


def broken_signature(issuer: Issuer) -> str:
    token = issuer.token()
    end = "A" if token[-5] != "A" else "B"
    return token[:-5] + end + token[-4:]


NOW = int(time.time())
ATTACKS = {
    # name: (token, what the record says)
    "no token": (lambda i: "", "empty"),
    "a plain password": (lambda i: "correct horse", "not a signed token"),
    "two parts": (lambda i: issuer_parts(i, 2), "not a signed token"),
    "four parts": (lambda i: i.token() + ".AAAA", "not a signed token"),
    "five parts, as an encrypted one": (lambda i: i.token() + ".AAAA.AAAA", "not a signed token"),
    "JSON serialisation": (lambda i: json.dumps({"payload": "e30"}), "not a signed token"),
    "space around it": (lambda i: f" {i.token()}", "not a signed token"),
    "newline after it": (lambda i: i.token() + "\n", "not a signed token"),
    "padding": (lambda i: i.token().replace(".", "=.", 1), "not a signed token"),
    "plain base64 alphabet": (lambda i: i.token() + "+/", "not a signed token"),
    "other digits": (lambda i: i.token() + "٣", "not a signed token"),
    "surrogate": (lambda i: i.token() + "\udcff", "not a signed token"),
    "NUL": (lambda i: i.token() + "\0", "not a signed token"),
    "oversized": (lambda i: i.token(junk="x" * 20_000), "limits.token_bytes"),
    "oversized garbage": (lambda i: "A" * 1_000_000, "limits.token_bytes"),
    "none": (lambda i: unsigned(i, "none"), "not a signed token"),
    "none with a signature": (lambda i: unsigned(i, "none") + "AAAA", "algorithm 'none'"),
    "NoNe": (lambda i: unsigned(i, "NoNe") + "AAAA", "algorithm 'NoNe'"),
    "empty algorithm": (lambda i: unsigned(i, "") + "AAAA", "algorithm ''"),
    "HMAC with the public key": (hs256_with_public_key, "algorithm 'HS256'"),
    "HMAC of another size": (lambda i: unsigned(i, "HS512") + "AAAA", "algorithm 'HS512'"),
    "an algorithm that is not pinned": (lambda i: i.token(RSA, "RS512"), "algorithm 'RS512'"),
    "PSS where it is not pinned": (lambda i: i.token(RSA, "PS256"), "algorithm 'PS256'"),
    "algorithm of another key type": (lambda i: i.token(EC, "ES256", "rsa"), "no ES256 key 'rsa'"),
    "RSA signature under an EC key's name": (lambda i: i.token(kid="ec"), "no RS256 key 'ec'"),
    "algorithm is a list": (
        lambda i: raw(i, header=b'{"alg":["RS256"],"kid":"rsa"}'),
        "algorithm (not a text)",
    ),
    "no algorithm": (lambda i: raw(i, header=b'{"kid":"rsa"}'), "algorithm (none)"),
    "another's key under our key's name": (lambda i: i.token(OTHER_RSA), "signature is wrong"),
    "unknown key": (lambda i: i.token(OTHER_RSA, kid="evil"), "no RS256 key 'evil'"),
    "key id that is a path": (
        lambda i: i.token(OTHER_RSA, kid="../../dev/null"),
        "no RS256 key '../../dev/null'",
    ),
    "key id that is not a text": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":{"a":1}}'),
        "kid is not a name",
    ),
    "endless key id": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":"%s"}' % (b"k" * 600)),
        "kid is not a name",
    ),
    "brings its own key (jwk)": (
        lambda i: i.token(OTHER_RSA, headers={"jwk": jwk(OTHER_RSA, "rsa")}),
        "signature is wrong",
    ),
    "brings its own key under an unknown name (jwk)": (
        lambda i: i.token(OTHER_RSA, kid="x", headers={"jwk": jwk(OTHER_RSA, "x")}),
        "no RS256 key 'x'",
    ),
    "names its own key set (jku)": (
        lambda i: i.token(OTHER_RSA, kid="x", headers={"jku": f"{i.url}/evil"}),
        "no RS256 key 'x'",
    ),
    "names its own certificate (x5u)": (
        lambda i: i.token(OTHER_RSA, headers={"x5u": f"{i.url}/evil"}),
        "signature is wrong",
    ),
    "brings its own certificate (x5c)": (
        lambda i: i.token(OTHER_RSA, headers={"x5c": ["MIIB"]}),
        "signature is wrong",
    ),
    "crit": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":"rsa","crit":["exp"],"exp":1}'),
        "header crit",
    ),
    "empty crit": (lambda i: raw(i, header=b'{"alg":"RS256","kid":"rsa","crit":[]}'), "crit"),
    "b64 false": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":"rsa","b64":false}'),
        "header b64",
    ),
    "compressed": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":"rsa","zip":"DEF"}'),
        "header zip",
    ),
    "logout token": (
        lambda i: i.token(headers={"typ": "logout+jwt"}),
        "type 'logout+jwt' is not a credential",
    ),
    "DPoP proof": (lambda i: i.token(headers={"typ": "dpop+jwt"}), "type 'dpop+jwt'"),
    "bound to a key": (lambda i: i.token(cnf={"jkt": "abc"}), "cnf"),
    "wrong signature": (broken_signature, "signature is wrong"),
    "no signature": (lambda i: i.token().rpartition(".")[0] + ".", "not a signed token"),
    "one byte of a signature": (lambda i: i.token().rpartition(".")[0] + ".AA", "signature"),
    "changed subject": (
        lambda i: with_payload(i, lambda c: c.update(sub="root")),
        "signature is wrong",
    ),
    "changed expiry": (
        lambda i: with_payload(i, lambda c: c.update(exp=c["exp"] + 9999)),
        "signature is wrong",
    ),
    "expired": (lambda i: i.token(exp=NOW - 60, iat=NOW - 600), "expired"),
    "not valid yet": (lambda i: i.token(nbf=NOW + 3600), "not valid yet"),
    "issued in the future": (lambda i: i.token(iat=NOW + 3600, exp=NOW + 4000), "not valid yet"),
    "lives too long": (lambda i: i.token(exp=NOW + 86_400 * 30), "lives longer"),
    "never ends": (lambda i: i.token(exp=10**300), "lives longer"),
    "no expiry": (lambda i: i.token(exp=None), "claim exp is missing"),
    "expiry null": (
        lambda i: raw(i, json.dumps({**i.claims(), "exp": None}).encode()),
        "claim exp is missing",
    ),
    "expiry as a text": (lambda i: i.token(exp=str(NOW + 600)), "exp is not a number"),
    "expiry true": (lambda i: i.token(exp=True), "expired"),
    "expiry infinite": (
        lambda i: raw(i, json.dumps({**i.claims(), "exp": "E"}).encode().replace(b'"E"', b"1e999")),
        "not usable",
    ),
    "expiry NaN": (
        lambda i: raw(i, json.dumps({**i.claims(), "exp": float("nan")}).encode()),
        "not a JSON object",
    ),
    "issued at as a text": (lambda i: i.token(iat=str(NOW)), "iat is not a number"),
    "no issue time": (lambda i: i.token(iat=None), "claim iat is missing"),
    "no subject": (lambda i: i.token(sub=None), "claim sub is missing"),
    "empty subject": (lambda i: i.token(sub=""), "sub is not a name"),
    "blank subject": (lambda i: i.token(sub="  "), "sub is not a name"),
    "subject with a newline": (lambda i: i.token(sub="agent-1\nadmin"), "sub is not a name"),
    "endless subject": (lambda i: i.token(sub="a" * 600), "longer than 512"),
    "subject that is a number": (
        lambda i: raw(i, json.dumps({**i.claims(), "sub": 7}).encode()),
        "not usable",
    ),
    "no audience": (lambda i: i.token(aud=None), "claim aud is missing"),
    "audience of another service": (lambda i: i.token(aud="billing"), "another audience"),
    "audience in other letters": (lambda i: i.token(aud=AUDIENCE.upper()), "another audience"),
    "audience that holds ours": (lambda i: i.token(aud=f"{AUDIENCE}-test"), "another audience"),
    "empty audiences": (lambda i: i.token(aud=[]), "claim aud is missing"),
    "audience in a table": (lambda i: i.token(aud={AUDIENCE: 1}), "another audience"),
    "no issuer": (lambda i: i.token(iss=None), "claim iss is missing"),
    "unknown issuer": (lambda i: i.token(iss="https://evil.example"), "'https://evil.example'"),
    "issuer with a slash": (lambda i: i.token(iss=i.url + "/"), "is not configured"),
    "issuer that begins with ours": (lambda i: i.token(iss=i.url + ".evil"), "not configured"),
    "issuers in a list": (
        lambda i: raw(i, json.dumps({**i.claims(), "iss": [i.url]}).encode()),
        "claim iss is missing",
    ),
    "subject twice": (
        lambda i: raw(i, json.dumps(i.claims()).encode()[:-1] + b',"sub":"root"}'),
        "unique keys",
    ),
    "algorithm twice": (
        lambda i: raw(i, header=b'{"alg":"none","alg":"RS256","kid":"rsa"}'),
        "unique keys",
    ),
    "key twice, deep inside": (
        lambda i: raw(i, json.dumps(i.claims()).encode()[:-1] + b',"x":{"a":1,"a":2}}'),
        "unique keys",
    ),
    "payload is a list": (lambda i: raw(i, b"[1]"), "payload is not a JSON object"),
    "payload is not JSON": (lambda i: raw(i, b"sub=root"), "payload is not a JSON object"),
    "payload is not UTF-8": (lambda i: raw(i, b'{"sub":"\xff"}'), "payload is not"),
    "payload is nested deeply": (lambda i: raw(i, b"[" * 9000), "payload is not"),
    "number of many digits": (lambda i: raw(i, b'{"exp":' + b"9" * 9000 + b"}"), "payload is not"),
    "header is not JSON": (lambda i: raw(i, header=b"alg"), "header is not a JSON object"),
}


def issuer_parts(issuer: Issuer, count: int) -> str:
    return ".".join(issuer.token().split(".")[:count])


@pytest.mark.parametrize("name", ATTACKS)
async def test_attack(issuer, make_config, name):
    make, recorded = ATTACKS[name]
    token = make(issuer)
    config = make_config(issuer)
    authenticator = open_authenticator(config)
    error = await refusal(authenticator, token)
    assert error.reason == FAILED
    assert recorded in error.detail
    assert all(path in ("/.well-known/openid-configuration", "/jwks") for path in issuer.requests)
    # The refusal is about this token: a good one passes beside it.
    await authenticator.authenticate(issuer.token(), ORIGIN)


async def test_a_token_of_one_issuer_does_not_pass_for_another(issuer, make_config):
    other = Issuer()
    try:
        other.keys = [jwk(OTHER_RSA, "rsa")]
        authenticator = open_authenticator(make_config((issuer, other)))
        mine = await authenticator.authenticate(issuer.token(), ORIGIN)
        theirs = await authenticator.authenticate(other.token(OTHER_RSA), ORIGIN)
        assert (mine.roles, theirs.roles) == (("reporting-0",), ("reporting-1",))
        # Their key, our name: the key set of the issuer that is named is the only one asked.
        error = await refusal(authenticator, issuer.token(OTHER_RSA))
        assert error.detail == "the signature is wrong"
    finally:
        other.stop()


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(jwk(RSA, "rsa", use="enc"), id="for encryption"),
        pytest.param(jwk(RSA, "rsa", key_ops=["encrypt"]), id="other operations"),
        pytest.param(jwk(RSA, "rsa", alg="RS512"), id="for another algorithm"),
        pytest.param(jwk(RSA, "rsa", alg=["RS256"]), id="algorithm in a list"),
        pytest.param(
            {**json.loads(RSAAlgorithm.to_jwk(RSA)), "kid": "rsa", "key_ops": ["verify"]},
            id="private half published",
        ),
        pytest.param(jwk(RSA, "rsa", n=b64(b"\x80" + bytes(126) + b"\1")), id="1024 bits"),
        pytest.param(jwk(RSA, "rsa", n=b64(b"\x80" + bytes(2046) + b"\1")), id="16384 bits"),
        pytest.param(jwk(RSA, "rsa", e="AQAAAAAAAAAB"), id="huge exponent"),
        pytest.param(jwk(RSA, "rsa", n="AQAB"), id="tiny modulus"),
        pytest.param({"kty": "oct", "kid": "rsa", "k": "c2VjcmV0"}, id="shared secret"),
        pytest.param({"kty": "RSA", "kid": "rsa"}, id="no numbers"),
        pytest.param({"kty": "RSA", "kid": "rsa", "n": 7, "e": []}, id="wrong types"),
        pytest.param("rsa", id="a text"),
    ],
)
async def test_keys_that_must_not_be_used(issuer, make_config, entry):
    issuer.keys = [entry, jwk(EC, "ec")]
    authenticator = open_authenticator(make_config(issuer))
    error = await refusal(authenticator, issuer.token())
    assert "no RS256 key" in error.detail
    await authenticator.authenticate(issuer.token(EC, "ES256", "ec"), ORIGIN)


async def test_without_a_key_id_there_must_be_one_suitable_key(issuer, make_config):
    authenticator = open_authenticator(make_config(issuer))
    await authenticator.authenticate(issuer.token(kid=None), ORIGIN)
    issuer.keys.append(jwk(OTHER_RSA, "second"))
    again = open_authenticator(make_config(issuer))
    error = await refusal(again, issuer.token(kid=None))
    assert "no RS256 key (none)" in error.detail


async def test_keys_that_share_an_id_are_all_tried(issuer, make_config):
    issuer.keys = [jwk(OTHER_RSA, "rsa"), jwk(RSA, "rsa")]
    authenticator = open_authenticator(make_config(issuer))
    await authenticator.authenticate(issuer.token(), ORIGIN)


# The cache of verified tokens


async def test_a_verified_token_is_not_verified_again(issuer, make_config):
    authenticator = open_authenticator(make_config(issuer))
    token = issuer.token()
    first = await authenticator.authenticate(token, ORIGIN)
    assert await authenticator.authenticate(token, "198.51.100.1") is first
    # Another signature of the same claims is another token.
    header, payload, signature = token.split(".")
    assert (await refusal(authenticator, f"{header}.{payload}.{signature[::-1]}")).reason == FAILED


async def test_the_cache_is_bounded_and_may_be_off(issuer, make_config):
    for entries in (0, 2):
        limits = LimitSettings(token_cache_entries=entries)
        authenticator = OidcAuthenticator(make_config(issuer, limits))
        tokens = [issuer.token(sub=f"agent-{number}") for number in range(5)]
        for token in tokens:
            await authenticator.authenticate(token, ORIGIN)
        assert len(authenticator._verified) == entries
        first = await authenticator.authenticate(tokens[0], ORIGIN)
        assert first.subject == "agent-0"


async def test_a_remembered_token_ends_when_it_expires(issuer, make_config):
    authenticator = open_authenticator(make_config(issuer, leeway_seconds=0.0))
    token = issuer.token(exp=time.time() + 1.0, iat=time.time() - 1, nbf=None)
    await authenticator.authenticate(token, ORIGIN)
    await asyncio.sleep(2.05)
    assert "expired" in (await refusal(authenticator, token)).detail


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_remembered_token_ends_with_its_key(issuer, make_config):
    clock = Clock()
    authenticator = OidcAuthenticator(make_config(issuer, refresh_seconds=300.0), clock)
    token = issuer.token()
    await authenticator.authenticate(token, ORIGIN)
    issuer.keys = [jwk(OTHER_RSA, "rsa-2")]
    clock.now += 301
    assert "no RS256 key 'rsa'" in (await refusal(authenticator, token)).detail


# The keys


async def test_rotation_is_seen_at_once_and_unknown_keys_do_not_flood(issuer, make_config):
    clock = Clock()
    config = make_config(issuer, jwks_url=f"{issuer.url}/jwks")
    authenticator = OidcAuthenticator(config, clock)
    await authenticator.authenticate(issuer.token(), ORIGIN)
    issuer.keys = [jwk(OTHER_RSA, "rsa-2")]
    await authenticator.authenticate(issuer.token(OTHER_RSA, kid="rsa-2"), ORIGIN)
    assert len(issuer.requests) == 2
    for number in range(20):
        await refusal(authenticator, issuer.token(OTHER_RSA, kid=f"x{number}"))
    assert len(issuer.requests) == 2
    clock.now += UNKNOWN_KEY_SECONDS + 0.1
    await refusal(authenticator, issuer.token(OTHER_RSA, kid="y"))
    await refusal(authenticator, issuer.token(OTHER_RSA, kid="z"))
    assert len(issuer.requests) == 3


async def test_one_fetch_serves_all_who_wait(issuer, make_config):
    def slow(handler) -> None:
        time.sleep(0.2)
        issuer.jwks(handler)

    issuer.routes["/jwks"] = slow
    authenticator = open_authenticator(make_config(issuer))
    tokens = [issuer.token(sub=f"agent-{number}") for number in range(30)]
    principals = await asyncio.gather(
        *(authenticator.authenticate(token, ORIGIN) for token in tokens)
    )
    assert len({principal.subject for principal in principals}) == 30
    assert issuer.requests.count("/jwks") == 1


async def test_a_session_that_goes_away_does_not_end_the_fetch_of_others(issuer, make_config):
    def slow(handler) -> None:
        time.sleep(0.2)
        issuer.jwks(handler)

    issuer.routes["/jwks"] = slow
    authenticator = open_authenticator(make_config(issuer))
    first = asyncio.create_task(authenticator.authenticate(issuer.token(), ORIGIN))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(authenticator.authenticate(issuer.token(sub="b"), ORIGIN))
    await asyncio.sleep(0.05)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second).subject == "b"
    assert issuer.requests.count("/jwks") == 1


async def test_issuer_down_from_the_start(issuer, make_config):
    issuer.stop()
    authenticator = open_authenticator(make_config(issuer))
    error = await refusal(authenticator, issuer.token())
    assert error.reason == UNAVAILABLE
    assert issuer.url in error.detail


async def test_stale_keys_serve_for_a_bounded_time(issuer, make_config):
    clock = Clock()
    config = make_config(issuer, refresh_seconds=100.0, stale_seconds=1000.0)
    authenticator = OidcAuthenticator(config, clock)
    await authenticator.authenticate(issuer.token(), ORIGIN)
    issuer.stop()
    for age in (50, 150, 999):
        clock.now = 1000.0 + age
        await authenticator.authenticate(issuer.token(sub=f"at-{age}"), ORIGIN)
    clock.now = 1000.0 + 1001
    assert (await refusal(authenticator, issuer.token())).reason == UNAVAILABLE


async def test_a_key_that_may_be_new_is_not_called_wrong_while_the_issuer_is_down(
    issuer, make_config
):
    clock = Clock()
    authenticator = OidcAuthenticator(make_config(issuer), clock)
    await authenticator.authenticate(issuer.token(), ORIGIN)
    issuer.stop()
    error = await refusal(authenticator, issuer.token(OTHER_RSA, kid="rsa-2"))
    assert error.reason == UNAVAILABLE
    # The known key goes on serving.
    await authenticator.authenticate(issuer.token(sub="other"), ORIGIN)


async def test_an_issuer_that_failed_is_left_alone_for_a_while(issuer, make_config):
    clock = Clock()
    issuer.routes["/.well-known/openid-configuration"] = issuer.not_found
    authenticator = OidcAuthenticator(make_config(issuer), clock)
    for _ in range(10):
        assert "status 404" in (await refusal(authenticator, issuer.token())).detail
    assert len(issuer.requests) == 1
    issuer.routes["/.well-known/openid-configuration"] = issuer.discovery
    clock.now += 6
    await authenticator.authenticate(issuer.token(), ORIGIN)


def answer(body: bytes, status: int = 200, **headers: str):
    def send(handler) -> None:
        handler.send_response(status)
        handler.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def endless(handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" " * 65536)


def dripping(handler) -> None:
    """Never silent for long, and never done: a timeout of single reads would not end it."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def silent(handler) -> None:
    time.sleep(1.5)


@pytest.mark.parametrize(
    ("path", "route", "recorded"),
    [
        ("/jwks", answer(b"", 302, location="/other"), "status 302"),
        ("/jwks", answer(b"{}", 500), "status 500"),
        ("/jwks", answer(b"not json"), "not a JSON object"),
        ("/jwks", answer(b"[" * 100_000), "not a JSON object"),
        ("/jwks", answer(b"[]"), "not a JSON object"),
        ("/jwks", answer(b"{}"), "no list of keys"),
        ("/jwks", answer(b'{"keys":[]}'), "no key that can check"),
        ("/jwks", answer(b'{"keys":[' + b"{}," * 300 + b"{}]}"), "more than 256 keys"),
        ("/jwks", answer(b"x" * 20, content_encoding="gzip"), "encoding"),
        ("/jwks", answer(b" " * 600_000), "more than 524288 bytes"),
        ("/jwks", endless, "more than 524288 bytes"),
        ("/jwks", dripping, "no answer within 0.5 seconds"),
        ("/jwks", silent, "no answer within 0.5 seconds|ReadTimeout"),
        ("/.well-known/openid-configuration", answer(b'{"issuer":"https://evil"}'), "of another"),
        ("/.well-known/openid-configuration", "http", "can be forged"),
        ("/.well-known/openid-configuration", "none", "names no jwks_uri"),
        ("/.well-known/openid-configuration", "file", "not an https URL"),
    ],
)
async def test_bad_answers_of_the_issuer(issuer, make_config, path, route, recorded):
    uris = {"http": "http://192.0.2.1/jwks", "none": None, "file": "file:///etc/passwd"}
    if isinstance(route, str):
        document = {"issuer": issuer.url, "jwks_uri": uris[route]}
        route = answer(json.dumps(document).encode())
    issuer.routes[path] = route
    authenticator = open_authenticator(make_config(issuer, fetch_seconds=0.5))
    started = time.monotonic()
    error = await refusal(authenticator, issuer.token())
    assert time.monotonic() - started < 1.4
    assert error.reason == UNAVAILABLE
    assert any(text in error.detail for text in recorded.split("|"))
    assert "/other" not in issuer.requests


async def test_https_with_an_unknown_ca_is_refused(issuer, make_config, tls_files):
    import ssl

    certificate, key = tls_files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    issuer.server.socket = context.wrap_socket(issuer.server.socket, server_side=True)
    issuer.url = issuer.url.replace("http:", "https:")
    unknown = open_authenticator(make_config(issuer, allow_http_loopback=False))
    error = await refusal(unknown, issuer.token())
    assert error.reason == UNAVAILABLE
    assert "CERTIFICATE_VERIFY_FAILED" in error.detail
    known = open_authenticator(make_config(issuer, allow_http_loopback=False, ca=certificate))
    await known.authenticate(issuer.token(), ORIGIN)


async def test_close_ends_a_running_fetch(issuer, make_config):
    issuer.routes["/jwks"] = silent
    authenticator = open_authenticator(make_config(issuer))
    waiting = asyncio.create_task(authenticator.authenticate(issuer.token(), ORIGIN))
    await asyncio.sleep(0.2)
    await authenticator.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await authenticator.close()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "jwks"] == []


# Throttling


async def test_failures_from_one_address_are_limited(issuer, make_config):
    clock = Clock()
    limits = LimitSettings(auth_failures_per_minute=3)
    authenticator = OidcAuthenticator(make_config(issuer, limits), clock)
    remembered = issuer.token(sub="remembered")
    await authenticator.authenticate(remembered, "192.0.2.7:4711")
    for port in range(3):
        assert (await refusal(authenticator, "bad", f"192.0.2.7:{port}")).reason == FAILED
    error = await refusal(authenticator, issuer.token(), "192.0.2.7:9")
    assert error.reason == THROTTLED
    assert "limits.auth_failures_per_minute" in error.reason
    # A token that was verified before is known without being looked at; other addresses are free.
    await authenticator.authenticate(remembered, "192.0.2.7")
    await authenticator.authenticate(issuer.token(), "192.0.2.8")
    clock.now += 121
    await authenticator.authenticate(issuer.token(), "192.0.2.7")


async def test_an_issuer_that_is_down_is_not_the_agents_failure(issuer, make_config):
    issuer.stop()
    limits = LimitSettings(auth_failures_per_minute=2)
    authenticator = OidcAuthenticator(make_config(issuer, limits))
    for _ in range(5):
        assert (await refusal(authenticator, issuer.token())).reason == UNAVAILABLE


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1:1", "192.0.2.1:2", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "[2001:db8::ffff:1]:99", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("unix", "unix", True),
        ("", "192.0.2.1", False),
    ],
)
def test_what_counts_as_one_address(one, other, same):
    throttle = Throttle(1, Clock())
    throttle.failed(one)
    assert throttle.reached(one)
    assert throttle.reached(other) is same


def test_the_throttle_fades_and_is_bounded():
    clock = Clock()
    clock.now = 600.0
    throttle = Throttle(10, clock)
    for _ in range(10):
        throttle.failed("a")
    clock.now = 659.0
    assert throttle.reached("a")
    clock.now = 660.5
    assert not throttle.reached("a")
    throttle.failed("a")
    assert throttle.reached("a")
    clock.now = 720.0
    for number in range(MAX_ORIGINS + 10):
        throttle.failed(f"origin-{number}")
    assert len(throttle._counts) == MAX_ORIGINS


# Whatever is presented


async def test_nothing_but_a_refusal_comes_of_garbage(issuer, make_config):
    """Texts of any kind, and a good token with a few characters changed, added or taken away."""
    limits = LimitSettings(auth_failures_per_minute=1_000_000, token_cache_entries=0)
    authenticator = OidcAuthenticator(make_config(issuer, limits))
    token = issuer.token()
    await authenticator.authenticate(token, ORIGIN)
    random = Random(1)
    passed, refused = 0, set()
    for _ in range(3000):
        if random.random() < 0.3:
            credential = "".join(chr(random.randrange(0x300)) for _ in range(random.randrange(60)))
        else:
            place, length = random.randrange(len(token)), random.randrange(5)
            filling = "".join(
                random.choice("ABCXYZabcxyz0189-_.=") for _ in range(random.randrange(6))
            )
            credential = token[:place] + filling + token[place + length :]
        try:
            found = await authenticator.authenticate(credential, ORIGIN)
        except AuthenticationFailed as error:
            refused.add(error.reason)
        else:
            # Only bits behind the last whole byte of the signature may differ and mean nothing.
            passed += 1
            assert found.subject == "agent-1"
            assert credential[: len(token) - 1] == token[:-1]
    assert refused == {FAILED}
    assert passed < 300


# --- the authenticator of another configuration ----------------------------------------------------


async def test_keys_of_the_same_issuer_go_over_and_are_fetched_again(issuer, make_config):
    clock = Clock()
    old = OidcAuthenticator(make_config(issuer), clock)
    token = issuer.token()
    await old.authenticate(token, ORIGIN)
    assert issuer.requests.count("/jwks") == 1
    new = open_authenticator(make_config(issuer), old)
    await new.authenticate(token, ORIGIN)
    assert issuer.requests.count("/jwks") == 2, "fetched again, and the token looked at again"
    await new.authenticate(token, ORIGIN)
    assert issuer.requests.count("/jwks") == 2
    # with the issuer down, its keys are good for as long as before
    newest = open_authenticator(make_config(issuer), new)
    issuer.stop()
    assert (await newest.authenticate(token, ORIGIN)).subject == "agent-1"
    (state,) = newest.key_states()
    assert (state.usable, state.fetches, state.failures) == (True, 3, 1)
    assert state.failure
    clock.now += 4000
    assert (await refusal(newest, issuer.token(sub="b"))).reason == UNAVAILABLE
    assert not newest.key_states()[0].usable
    # and other settings mean other keys
    other = open_authenticator(make_config(issuer, leeway_seconds=1.0), newest)
    assert other.key_states()[0].age == float("inf")


async def test_a_withdrawn_key_is_gone_with_the_next_configuration(issuer, make_config):
    old = open_authenticator(make_config(issuer))
    token = issuer.token()
    await old.authenticate(token, ORIGIN)
    issuer.keys = [entry for entry in issuer.keys if entry["kid"] != "rsa"]
    await old.authenticate(token, ORIGIN)  # within refresh_seconds
    new = open_authenticator(make_config(issuer), old)
    assert "has no RS256 key" in (await refusal(new, token)).detail


async def test_counts_of_failures_go_over(issuer, make_config):
    limits = LimitSettings(auth_failures_per_minute=3)
    old = open_authenticator(make_config(issuer, limits))
    for _ in range(3):
        await refusal(old, "nonsense")
    new = open_authenticator(make_config(issuer, limits), old)
    assert (await refusal(new, "nonsense")).reason == THROTTLED


async def test_refresh_fetches_what_is_due_and_says_once_that_it_cannot(
    issuer, make_config, caplog
):
    clock = Clock()
    authenticator = OidcAuthenticator(make_config(issuer), clock)
    assert not authenticator.key_states()[0].usable
    await authenticator.refresh()
    await authenticator.refresh()
    assert authenticator.key_states()[0].usable
    assert issuer.requests.count("/jwks") == 1
    clock.now += 301
    issuer.stop()
    for _ in range(3):
        await authenticator.refresh()
        clock.now += 6
    assert caplog.text.count("its keys cannot be fetched") == 1
    assert authenticator.key_states()[0].failures == 3


async def test_refusals_have_a_class(issuer, make_config):
    limits = LimitSettings(auth_failures_per_minute=4)
    authenticator = open_authenticator(make_config(issuer, limits))
    kinds = []
    for token in (
        "nonsense",
        issuer.token(exp=int(time.time()) - 100, iat=int(time.time()) - 200, nbf=0),
        issuer.token(OTHER_RSA),
        issuer.token(aud="other"),
        "more",
    ):
        kinds.append((await refusal(authenticator, token)).kind)
    assert kinds == ["invalid", "expired", "signature", "invalid", "throttled"]
    issuer.stop()
    down = open_authenticator(make_config(issuer))
    assert (await refusal(down, issuer.token())).kind == "unavailable"
