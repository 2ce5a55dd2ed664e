"""Every token that must not pass, and what the agent and the record are told about it."""

import asyncio
import json
import time
from random import Random

import pytest
from jwt.algorithms import RSAAlgorithm

from attacks import ATTACKS
from issuer import EC, EC384, ED, OTHER_RSA, RSA, Issuer, b64, jwk
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
    assert (await authenticator.authenticate(issuer.token(), ORIGIN)).subject


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
    token = issuer.token(exp=int(time.time()) + 2)
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
