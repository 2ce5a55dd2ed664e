"""OAUTHBEARER in bytes: the messages of RFC 7628 as PostgreSQL 18 has them, and every malformed one."""

import itertools
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangate.errors import AuthenticationFailed, LimitReached, ProtocolError, Refused
from pangate.masking import default_scanner
from pangate.model import Certificate
from pangate.protocols import Authenticate, Close, ToFrontend, Ways
from pangate.protocols.postgres import PostgresCodec, messages
from pangate.protocols.postgres.messages import message, startup
from pangate.protocols.postgres.ways import CHOICE, chosen, without_choice
from pgwire import split

DISCOVERY = "https://issuer.example/.well-known/openid-configuration"
WAYS = Ways(("oauth", "password"), DISCOVERY, "openid payments")
STARTUP = startup({"user": "agent", "database": "payments"})
REQUEST = message(b"R", struct.pack("!i", 10) + b"OAUTHBEARER\0\0")
EMPTY = message(b"R", struct.pack("!i", 11))
FAILED = AuthenticationFailed("authentication failed: the password must be a token", "the reason")


def codec(ways: Ways = WAYS, **settings) -> PostgresCodec:
    return PostgresCodec(default_scanner(), tls="none", ways=ways, **settings)


def initial(response: bytes | None, mechanism: bytes = b"OAUTHBEARER") -> bytes:
    size = -1 if response is None else len(response)
    return message(b"p", mechanism + b"\0" + struct.pack("!i", size) + (response or b""))


def bearer(token: bytes, header: bytes = b"n,,") -> bytes:
    return header + b"\x01auth=Bearer " + token + b"\x01\x01"


def asked(c: PostgresCodec) -> PostgresCodec:
    assert c.frontend(STARTUP) == [ToFrontend(REQUEST)]
    return c


def token_of(response: bytes) -> str:
    (action,) = asked(codec()).frontend(initial(response))
    assert isinstance(action, Authenticate)
    assert (action.way, action.resource) == ("oauth", "payments")
    assert isinstance(action.credential, str)
    return action.credential


def test_a_token_in_the_initial_response():
    assert token_of(bearer(b"a.b.c")) == "a.b.c"


def test_a_token_when_the_client_waits_to_be_asked():
    c = asked(codec())
    assert c.frontend(initial(None)) == [ToFrontend(EMPTY)]
    (action,) = c.frontend(message(b"p", bearer(b"a.b.c")))
    assert action.credential == "a.b.c"


@pytest.mark.parametrize(
    ("response", "token"),
    [
        (bearer(b"t", b"y,,"), "t"),
        (b"n,,\x01host=db\x01port=5432\x01auth=Bearer t\x01\x01", "t"),
        (b"n,,\x01auth=Bearer t\x01x=y\r\n\tz\x01\x01", "t"),
        (b"n,,\x01auth=bEaReR   t\x01\x01", "t"),
        (b"n,,\x01auth=Bearer t u\x01\x01", "t u"),
        # no token: it goes on, is recorded, and counts as a failure
        (b"n,,\x01auth=Basic dTpw\x01\x01", "Basic dTpw"),
        (b"n,,\x01auth=Bearer\x01\x01", "Bearer"),
        (b"n,,\x01auth=Bearer \x01\x01", ""),
    ],
)
def test_what_is_taken_for_the_token(response, token):
    assert token_of(response) == token


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (initial(b""), "GS2"),
        (initial(b"n,,"), "GS2"),
        (initial(b"n,"), "GS2"),
        (initial(b"n\x01auth=Bearer t\x01\x01"), "GS2"),
        (initial(bearer(b"t", b"x,,")), "GS2"),
        (initial(bearer(b"t", b"n,,,")), "GS2"),
        (initial(bearer(b"t", b"n,b=c,")), "GS2"),
        (initial(bearer(b"t", b"p=tls-server-end-point,,")), "channel binding"),
        (initial(b"n,,\x01"), "end"),
        (initial(b"n,,\x01\x01"), "not one auth"),
        (initial(b"n,,\x01auth=Bearer t"), "end"),
        (initial(b"n,,\x01auth=Bearer t\x01"), "end"),
        (initial(b"n,,\x01auth=Bearer t\x01\x01\x01"), "a pair|end"),
        (initial(b"n,,\x01auth=Bearer t\x01\x01x=y\x01\x01"), "a pair"),
        (initial(b"n,,\x01auth=Bearer t\x01\x01x"), "end"),
        (initial(b"n,,\x01auth=a\x01auth=b\x01\x01"), "not one auth"),
        (initial(b"n,,\x01host=x\x01\x01"), "not one auth"),
        (initial(b"n,,\x01=x\x01\x01"), "a pair"),
        (initial(b"n,,\x01au th=x\x01\x01"), "a pair"),
        (initial(b"n,,\x01auth\x01\x01"), "a pair"),
        (initial(b"n,,\x01auth=Bearer \0t\x01\x01"), "a pair"),
        (initial(b"n,,\x01auth=Bearer \xfft\x01\x01"), "a pair"),
        (initial(bearer(b"t"), b"SCRAM-SHA-256"), "not offered"),
        (initial(bearer(b"t"), b""), "not offered"),
        (message(b"p", b"OAUTHBEARER"), "too short"),
        (message(b"p", b"OAUTHBEARER\0\0\0"), "too short"),
        (message(b"p", b"OAUTHBEARER\0\0\0\0\x09n,,"), "length"),
        (message(b"p", b"OAUTHBEARER\0\0\0\0\x01n,,"), "length"),
        (message(b"p", b"OAUTHBEARER\0\xff\xff\xff\xffn,,"), "length"),
        (message(b"p", b"OAUTHBEARER\0\xff\xff\xff\xfe"), "length"),
        (message(b"p", b"a.b.c\0"), "too short"),
        (message(b"Q", b"select 1\0"), "did not answer"),
        (b"p\0\0\0\4", "did not answer"),
        (initial(None) + message(b"p", b"\x01"), "GS2"),
        (initial(None) + initial(bearer(b"t")), "GS2"),
    ],
)
def test_a_malformed_message(data, says):
    with pytest.raises(ProtocolError, match=says) as wrong:
        asked(codec()).frontend(data)
    assert "Bearer" not in str(wrong.value)


def test_an_authorization_identity_is_refused():
    with pytest.raises(Refused, match="identity"):
        asked(codec()).frontend(initial(bearer(b"t", b"n,a=root,")))


def test_the_token_has_its_bound():
    c = asked(codec(token_bytes=256))
    with pytest.raises(LimitReached, match=r"limits\.token_bytes"):
        c.frontend(b"p" + (256 + 2000).to_bytes(4, "big"))


def said(data: bytes) -> dict[str, str]:
    ((kind, body),) = split(data)
    assert (kind, body[:4]) == ("R", struct.pack("!i", 11))
    return json.loads(body[4:])


def test_discovery():
    c = asked(codec())
    (challenge,) = c.frontend(initial(b"n,,\x01auth=\x01\x01"))
    assert said(challenge.data) == {
        "status": "invalid_token",
        "openid-configuration": DISCOVERY,
        "scope": "openid payments",
    }
    with pytest.raises(AuthenticationFailed) as refused:
        c.frontend(message(b"p", b"\x01"))
    assert "discovery" in refused.value.detail
    assert messages.error_fields(c.refuse(refused.value)[5:])["C"] == "28000"


def test_a_scope_or_a_discovery_that_is_not_known_is_left_out():
    c = asked(codec(Ways(("oauth",))))
    (challenge,) = c.frontend(initial(b"n,,\x01auth=\x01\x01"))
    assert said(challenge.data) == {"status": "invalid_token"}


def test_a_rejected_token():
    c = asked(codec())
    c.frontend(initial(bearer(b"a.b.c")))
    assert said(c.challenge(FAILED))["status"] == "invalid_token"
    assert c.frontend(b"p\0\0\0") == []
    with pytest.raises(AuthenticationFailed) as refused:
        c.frontend(b"\5\x01")
    assert refused.value is FAILED
    fields = messages.error_fields(c.refuse(FAILED)[5:])
    assert fields["C"] == "28000"
    assert fields["M"] == "authentication failed: the bearer token must be a token"


def test_an_acknowledgement_that_came_early_is_read():
    c = asked(codec())
    c.frontend(initial(bearer(b"a.b.c")) + message(b"p", b"\x01"))
    c.challenge(FAILED)
    with pytest.raises(AuthenticationFailed):
        c.frontend(b"")


@pytest.mark.parametrize("data", [b"\x01\x01", b"x", bearer(b"good.token.x")])
def test_no_second_try_after_a_rejected_token(data):
    c = asked(codec())
    c.frontend(initial(bearer(b"a.b.c")))
    c.challenge(FAILED)
    with pytest.raises(ProtocolError, match="acknowledge"):
        c.frontend(message(b"p", data))


def test_what_is_no_failed_login_is_refused_at_once():
    c = asked(codec())
    c.frontend(initial(bearer(b"a.b.c")))
    assert messages.error_fields(c.refuse(LimitReached("full"))[5:])["C"] == "53400"


def test_a_password_is_refused_without_a_challenge():
    c = codec(Ways())
    c.frontend(STARTUP + message(b"p", b"a.b.c\0"))
    assert c.challenge(FAILED) == b""
    assert messages.error_fields(c.refuse(FAILED)[5:])["C"] == "28P01"


# --- the laws of a parser --------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**6), max_size=6), st.booleans())
def test_split_anywhere(cuts, asks_first):
    data = STARTUP + (
        initial(None) + message(b"p", bearer(b"a.b.c")) if asks_first else initial(bearer(b"a.b.c"))
    )
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    c = codec()
    actions = []
    for start, end in itertools.pairwise(edges):
        actions += c.frontend(data[start:end])
    assert actions[0] == ToFrontend(REQUEST)
    assert [a.data for a in actions[1:-1]] == ([EMPTY] if asks_first else [])
    assert actions[-1].credential == "a.b.c"


@given(st.binary(max_size=200), st.sampled_from(["message", "response", "pairs"]), st.booleans())
def test_garbage_gives_an_error_or_a_credential(data, place, late):
    if place == "pairs":
        data = b"n,,\x01" + data + b"\x01\x01"
    if place != "message":
        data = message(b"p", data) if late else initial(data)
    c = asked(codec())
    if late:
        c.frontend(initial(None))
    try:
        actions = c.frontend(data)
    except (ProtocolError, Refused):
        return
    assert not any(isinstance(action, Close) for action in actions)
    for action in actions:
        if isinstance(action, Authenticate):
            assert isinstance(action.credential, str)


# --- the choice ------------------------------------------------------------------------------------

ALL = ("certificate", "password", "oauth")


@pytest.mark.parametrize(
    ("parameters", "names", "certificate", "way"),
    [
        ({}, ("password",), False, "password"),
        ({}, ("password",), True, "password"),
        ({}, ("oauth", "password"), False, "oauth"),
        ({}, ALL, True, "certificate"),
        ({}, ALL, False, "password"),
        ({}, ("password", "certificate"), True, "password"),
        ({}, ("certificate",), False, "certificate"),
        ({CHOICE: "oauth"}, ALL, True, "oauth"),
        ({CHOICE: "certificate"}, ALL, False, "certificate"),
        ({"options": f"-c {CHOICE}=oauth"}, ALL, True, "oauth"),
        ({"options": f"-c{CHOICE}=oauth"}, ALL, False, "oauth"),
        ({"options": f"--{CHOICE}=oauth"}, ALL, False, "oauth"),
        ({"options": f"-c work_mem=1MB  -c  {CHOICE}=oau\\th -c x=y"}, ALL, False, "oauth"),
        ({"options": f"-c x=\\ -c\\ {CHOICE}=oauth"}, ALL, False, "password"),
        ({"options": f"-c {CHOICE}"}, ALL, False, "password"),
        ({"options": "-c"}, ALL, False, "password"),
    ],
)
def test_the_way(parameters, names, certificate, way):
    assert chosen(parameters, names, certificate=certificate) == way


@pytest.mark.parametrize("wanted", ["oauth", "", "Password", "trust", "password,oauth"])
def test_a_way_that_is_not_open_is_refused(wanted):
    with pytest.raises(Refused, match=r"listen\.authentication"):
        chosen({CHOICE: wanted}, ("password", "certificate"), certificate=True)


@pytest.mark.parametrize(
    ("parameters", "left"),
    [
        ({"a": "b", CHOICE: "oauth"}, {"a": "b"}),
        ({"options": f"-c {CHOICE}=oauth"}, {}),
        ({"options": f"-c a=b -c {CHOICE}=oauth -c c=d"}, {"options": "-c a=b  -c c=d"}),
        ({"options": f"--{CHOICE}=x -c{CHOICE}=y"}, {}),
        ({"options": "-c a=b\\ c"}, {"options": "-c a=b\\ c"}),
        ({"options": ""}, {}),
    ],
)
def test_the_choice_is_not_passed_on(parameters, left):
    assert without_choice(parameters) == left


def test_the_codec_goes_the_chosen_way():
    for ways, wanted, certificate, kind in (
        (Ways(ALL), "oauth", None, b"R\0\0\0\x15\0\0\0\x0a"),
        (Ways(ALL), "password", Certificate(b"der"), b"R\0\0\0\x08\0\0\0\x03"),
    ):
        c = codec(ways)
        c.certificate = certificate
        (action,) = c.frontend(startup({"user": "a", CHOICE: wanted}))
        assert action.data.startswith(kind)
        assert CHOICE.encode() not in c.login("u", "d", "p", cleartext=False).start()


@pytest.mark.parametrize("shown", [Certificate(b"der"), None])
def test_a_certificate_is_no_message(shown):
    c = codec(Ways(("certificate",)))
    c.certificate = shown
    (action,) = c.frontend(STARTUP)
    assert action == Authenticate(
        shown or Certificate(b""),
        "payments",
        {"user": "agent", "database": "payments"},
        "certificate",
    )
    assert "der" not in repr(action)
    assert c.challenge(FAILED) == b""
