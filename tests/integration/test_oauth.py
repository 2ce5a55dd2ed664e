"""OAUTHBEARER through a real gateway: a libpq that speaks it, and bytes."""

from __future__ import annotations

import json
import struct

import psycopg
import pytest

import libpq
from pangate.protocols.postgres.messages import message, startup
from pangate.trial import Trial, until
from servers import events, fatal, messages, rest, tls

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not libpq.speaks_oauth(),
        reason="this psycopg brings a libpq before 18, without OAUTHBEARER",
    ),
]

LOGIN = startup({"user": "agent", "database": "payments", "pangate.authentication": "oauth"})
REFUSAL = "authentication failed: the bearer token must be a valid, unexpired identity token for this gateway"


@pytest.fixture(scope="module")
def both(postgres):
    """A gateway that takes tokens as passwords, and by OAUTHBEARER from who asks for that."""
    listen = 'authentication = ["password", "oauth"]\noauth_scope = "openid payments"\n'
    with Trial(postgres, listen=listen, limits="login_seconds = 4") as running:
        yield running


@pytest.fixture(autouse=True)
def _http(monkeypatch):
    # libpq takes an issuer without TLS only so.
    monkeypatch.setenv("PGOAUTHDEBUG", "UNSAFE")


def connect(trial: Trial, **more: object) -> psycopg.Connection:
    values: dict[str, object] = {
        "host": trial.host, "port": trial.port, "user": "agent", "dbname": "payments",
        "sslmode": "verify-full", "sslrootcert": str(trial.ca), "autocommit": True,
        "options": "-c pangate.authentication=oauth -c work_mem=3MB",
        "oauth_issuer": trial.issuer.url, "oauth_client_id": "agent", "connect_timeout": 20,
        "require_auth": "oauth", **more,
    }  # fmt: skip
    return psycopg.connect(**values)  # type: ignore[arg-type]


def bearer(token: str) -> bytes:
    response = f"n,,\x01auth=Bearer {token}\x01\x01".encode() if token else b"n,,\x01auth=\x01\x01"
    return message(b"p", b"OAUTHBEARER\0" + struct.pack("!i", len(response)) + response)


def test_a_libpq_client_discovers_the_issuer_and_logs_in(both):
    asked = []

    def make(where: str, scope: str) -> str:
        asked.append((where, scope))
        return both.token()

    with libpq.bearer_tokens(make), connect(both) as connection:
        shown = connection.execute("select current_setting('work_mem'), current_user").fetchone()
    assert shown == ("3MB", "payments_service")
    assert asked == [
        (f"{both.issuer.url}/.well-known/openid-configuration", "openid payments"),
    ]
    until(lambda: events(both)[-1]["code"] == "session.end", "the end of the session")
    codes = [(e["code"], e["data"].get("authentication")) for e in events(both)]
    assert ("session.start", "oauth") in codes
    (discovery,) = [e for e in events(both) if e["code"] == "session.refused"]
    assert "discovery" in discovery["data"]["detail"]


def test_a_libpq_client_with_a_bad_token_reads_the_one_refusal(both):
    said = set()
    for token in (
        both.token(seconds=-3600),
        both.token()[:-8] + "AAAAAAAA",
        both.issuer.mint("ci-job-42", audience="billing", team="payments"),
        "not-a-token",
    ):
        with (
            libpq.bearer_tokens(lambda where, scope, token=token: token),
            pytest.raises(psycopg.OperationalError) as refused,
        ):
            connect(both)
        said.add(str(refused.value).partition("FATAL:")[2].strip())
        assert token not in str(refused.value)
    assert said == {REFUSAL}
    failed = [e["data"] for e in events(both) if e["code"] == "auth.failed"]
    assert len({data["detail"] for data in failed[-4:]}) == 4
    assert {data["authentication"] for data in failed[-4:]} == {"oauth"}


def test_a_role_is_needed_as_with_a_password(both):
    with (
        libpq.bearer_tokens(lambda where, scope: both.token(team="marketing")),
        pytest.raises(psycopg.OperationalError, match="no role of this identity"),
    ):
        connect(both)


def test_the_password_is_asked_for_when_nothing_is_chosen(both):
    assert both.psql(both.token(), "select 1").returncode == 0
    with pytest.raises(psycopg.OperationalError, match=r"listen\.authentication"):
        connect(both, options="-c pangate.authentication=certificate")


def test_as_the_default_it_is_what_everybody_is_asked_for(postgres):
    with Trial(postgres, listen='authentication = ["oauth"]') as own:
        with libpq.bearer_tokens(lambda where, scope: own.token()), connect(own, options=""):
            pass
        done = own.psql(own.token(), "select 1")  # a psql from before OAUTHBEARER
        assert done.returncode == 2
        assert own.token() not in done.stderr


def test_the_exchange_in_bytes(both):
    with tls(both) as sock:
        sock.sendall(LOGIN + bearer(both.token()) + message(b"X"))
        seen = messages(rest(sock))
    assert seen[0] == (b"R", b"\0\0\0\x0aOAUTHBEARER\0\0")
    assert seen[1] == (b"R", b"\0\0\0\0")
    with tls(both) as sock:
        sock.sendall(LOGIN + bearer("a.b.c"))
        seen = b""
        while b"}" not in seen:
            seen += sock.recv(4096)
        challenge = json.loads(messages(seen)[1][1][4:])
        sock.sendall(message(b"p", b"\x01"))
        assert fatal(rest(sock))["C"] == "28000"
    assert challenge == {
        "status": "invalid_token",
        "openid-configuration": f"{both.issuer.url}/.well-known/openid-configuration",
        "scope": "openid payments",
    }


@pytest.mark.parametrize("answer", [message(b"p", b"\x01"), message(b"p", b"xx"), b""])
def test_after_a_bad_token_there_is_nothing_but_the_refusal(both, answer):
    """Neither a second token nor a command; and who says nothing is cut off."""
    with tls(both) as sock:
        sock.sendall(LOGIN + bearer("a.b.c") + answer)
        if answer:
            sock.sendall(bearer(both.token()) + message(b"Q", b"select 1\0"))
        found = fatal(rest(sock))
    code = {b"": "53400", message(b"p", b"xx"): "08P01"}.get(answer, "28000")
    assert found["C"] == code


def test_failures_are_counted_whichever_way_they_come(postgres):
    with Trial(
        postgres,
        listen='authentication = ["password", "oauth"]',
        limits="auth_failures_per_minute = 3",
    ) as own:
        for _ in range(3):
            with tls(own) as sock:
                sock.sendall(LOGIN + bearer("a.b.c") + message(b"p", b"\x01"))
                assert fatal(rest(sock))["M"] == REFUSAL
        assert "limits.auth_failures_per_minute" in own.psql(own.token(), "select 1").stderr
        with tls(own) as sock:
            sock.sendall(LOGIN + bearer(own.token()) + message(b"p", b"\x01"))
            assert "auth_failures_per_minute" in fatal(rest(sock))["M"]
        # a discovery is no attempt
        with tls(own) as sock:
            sock.sendall(LOGIN + bearer("") + message(b"p", b"\x01"))
            assert fatal(rest(sock))["M"] == "get a token and connect again"
