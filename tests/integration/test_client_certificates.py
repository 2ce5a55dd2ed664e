"""Agents that come with a TLS client certificate: psql with sslcert and sslkey through a real gateway."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

import psycopg
import pytest

from pangate.protocols.postgres.messages import message, ssl_request
from pangate.trial import Trial, until
from pki import SERVER, Pki, dns, uri
from servers import LOGIN, events, fatal, messages, rest

pytestmark = pytest.mark.integration

ID = "spiffe://acme.example/billing"
NO_NAME = (
    "authentication failed: this gateway needs a valid client certificate that names the agent"
)
NO_TOKEN = "authentication failed: the password must be a valid, unexpired identity token"


ROLES = f'''issuer = "x509"
match = {{ spiffe_id = "{ID}" }}
resources = ["payments"]
[[roles]]
name = "tokens"
issuer = "ISSUER"
match = {{ team = "payments" }}'''


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def gateway(postgres, pki: Pki, listen: str = "", **more: str) -> Trial:
    """A trial whose payments role is one of certificates."""

    class OfCertificates(Trial):
        def _configure(self) -> None:
            super()._configure()
            text = self.config.read_text()
            text = text.replace('match = { team = "payments" }', ROLES)
            text = text.replace(
                'match = { team = "ledger" }',
                f'issuer = "{self.issuer.url}"\nmatch = {{ team = "ledger" }}',
            )
            self.config.write_text(text.replace("ISSUER", self.issuer.url))

    ways = "" if "authentication" in listen else 'authentication = ["certificate", "password"]\n'
    return OfCertificates(postgres, listen=f'{ways}client_ca = "{pki.ca}"\n{listen}\n', **more)


@pytest.fixture(scope="module")
def revoked(pki) -> tuple[Path, Path]:
    return pki.issue("revoked", "agent", uri(ID))


@pytest.fixture(scope="module")
def own(postgres, pki, revoked):
    crl = pki.revoke(revoked[0])
    with gateway(postgres, pki, f'client_crl = "{crl}"') as running:
        yield running


def psql(
    trial: Trial, files: tuple[Path, Path] | None, sql: str = "select 1", **environment: str
) -> subprocess.CompletedProcess[str]:
    values = trial.environment("")
    del values["PGPASSWORD"]
    if files is not None:
        values |= {"PGSSLCERT": str(files[0]), "PGSSLKEY": str(files[1])}
    return subprocess.run(
        [str(trial.postgres.bin / "psql"), "-X", "-w", "-At", "-c", sql],
        env={**values, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def last(trial: Trial) -> dict:
    until(
        lambda: (
            events(trial)[-1]["code"]
            not in ("session.start", "session.connected", "statement.allowed")
        ),
        "a record",
    )
    return events(trial)[-1]


def test_a_certificate_and_no_token(own, pki):
    files = pki.issue("good", "agent", uri(ID))
    done = psql(own, files, "select current_user || ' 4111111111111111'")
    assert done.stdout.strip() == "payments_service ************1111", done.stderr
    until(lambda: events(own)[-1]["code"] == "session.end", "the end of the session")
    (start,) = [e for e in events(own) if e["code"] == "session.start"]
    assert start["principal"] == f"x509#{ID}"
    assert start["data"]["authentication"] == "certificate"
    assert start["data"]["role"] == "payments-reader"


def test_no_certificate_means_the_token_is_asked_for(own):
    assert psql(own, None, PGPASSWORD=own.token()).returncode == 0
    done = psql(own, None, PGPASSWORD="swordfish")
    assert NO_TOKEN in done.stderr


def test_a_wrong_token_is_not_rescued_by_a_certificate(own, pki):
    """Nor a certificate without a name by a good token: one way is taken, and nothing else looked at."""
    good = pki.issue("good", "agent", uri(ID))
    done = psql(own, good, PGPASSWORD="swordfish", PGOPTIONS="-c pangate.authentication=password")
    assert NO_TOKEN in done.stderr
    assert last(own)["data"]["authentication"] == "password"
    nameless = pki.issue("nameless", "agent")
    done = psql(own, nameless, PGPASSWORD=own.token())
    assert NO_NAME in done.stderr
    found = last(own)
    assert (found["code"], found["data"]["authentication"]) == ("auth.failed", "certificate")
    assert "no SPIFFE ID" in found["data"]["detail"]
    # chosen, the token counts, and the certificate gives nothing to it
    done = psql(
        own, nameless, PGPASSWORD=own.token(), PGOPTIONS="-c pangate.authentication=password"
    )
    assert done.returncode == 0


def test_the_certificate_is_chosen_and_there_is_none(own):
    done = psql(
        own, None, PGPASSWORD=own.token(), PGOPTIONS="-c pangate.authentication=certificate"
    )
    assert NO_NAME in done.stderr
    assert last(own)["data"]["detail"] == "the agent showed no certificate"


def test_another_name_has_no_role(own, pki):
    done = psql(own, pki.issue("other", "agent", uri("spiffe://acme.example/other")))
    assert "no role of this identity" in done.stderr
    assert last(own)["principal"] == "x509#spiffe://acme.example/other"


def test_certificates_that_end_the_handshake(own, pki, revoked, tmp_path):
    self_signed = Pki(tmp_path, "self")
    stranger = Pki(tmp_path, "test CA")  # the same name, another key
    cases = {
        "revoked": (revoked, "revoked"),
        "expired": (pki.issue("expired", "a", uri(ID), begins=-3, ends=-1), "expired"),
        "early": (pki.issue("early", "a", uri(ID), begins=1, ends=3), "not yet valid"),
        "server": (pki.issue("server", "a", uri(ID), usage=SERVER), "purpose"),
        "unknown": (self_signed.issue("unknown", "a", uri(ID)), "local issuer"),
        "stranger": (stranger.issue("stranger", "a", uri(ID)), "certificate"),
    }
    for name, (files, says) in cases.items():
        before = len(events(own))
        done = psql(own, files, PGPASSWORD=own.token())
        assert done.returncode == 2, name
        assert done.stdout == "", name
        until(lambda before=before: len(events(own)) > before, "the record")
        assert events(own)[-1]["code"] == "auth.failed"
        assert events(own)[-1]["data"]["authentication"] == "certificate"
        assert "alert" in done.stderr, name
        assert says in events(own)[-1]["data"]["detail"], (name, events(own)[-1])


def test_one_that_is_refused_right_before_the_login_is_too_late_is_recorded_and_counts(
    postgres, pki, revoked
):
    """An agent chooses when it finishes its handshake, and how long it leaves its socket open."""
    with gateway(
        postgres,
        pki,
        f'client_crl = "{pki.revoke(revoked[0])}"',
        limits="login_seconds = 4\nauth_failures_per_minute = 1",
    ) as own:
        context = ssl.create_default_context(cafile=own.directory / "ca.pem")
        context.check_hostname = False
        context.load_cert_chain(*revoked)
        with socket.create_connection(("127.0.0.1", own.port)) as sock:
            sock.sendall(ssl_request())
            assert sock.recv(1) == b"S"
            time.sleep(3.4)
            with context.wrap_socket(sock) as secured:
                until(lambda: events(own)[-1]["code"] == "auth.failed", "the record", seconds=5)
                time.sleep(1.2)  # past the end of the login, and of what it may take to read why
                with pytest.raises(OSError, match=r"(?i)revoked|alert"):
                    secured.recv(1)
        failed = [e["data"] for e in events(own) if e["code"] == "auth.failed"]
        assert [e["kind"] for e in failed] == ["certificate"]
        assert "revoked" in failed[0]["detail"]
        chosen = {"PGOPTIONS": "-c pangate.authentication=certificate"}
        said = psql(own, pki.issue("good", "agent", uri(ID)), **chosen).stderr
        assert "limits.auth_failures_per_minute" in said


def test_refused_certificates_are_throttled_as_bad_tokens_are(postgres, pki, revoked):
    good = pki.issue("good", "agent", uri(ID))
    with gateway(
        postgres,
        pki,
        f'client_crl = "{pki.revoke(revoked[0])}"',
        limits="auth_failures_per_minute = 4",
    ) as own:
        for _ in range(3):
            assert "alert" in psql(own, revoked).stderr
        # one that names nobody passes the handshake and counts as well
        assert NO_NAME in psql(own, pki.issue("nameless", "agent")).stderr
        chosen = {"PGOPTIONS": "-c pangate.authentication=certificate"}
        for files in (revoked, good, None):
            said = psql(own, files, **chosen).stderr
            assert "limits.auth_failures_per_minute" in said
        assert "limits.auth_failures_per_minute" in psql(own, None, PGPASSWORD=own.token()).stderr
        failed = [e["data"] for e in events(own) if e["code"] == "auth.failed"]
        assert [e["kind"] for e in failed] == ["certificate"] * 3 + ["invalid"] + ["throttled"] * 4
        assert "revoked" in failed[0]["detail"]


def test_bad_tokens_count_for_certificates(postgres, pki):
    good = pki.issue("good", "agent", uri(ID))
    with gateway(postgres, pki, limits="auth_failures_per_minute = 2") as own:
        assert psql(own, good).returncode == 0
        for _ in range(2):
            assert NO_TOKEN in psql(own, None, PGPASSWORD="swordfish").stderr
        done = psql(own, good, PGOPTIONS="-c pangate.authentication=certificate")
        assert "limits.auth_failures_per_minute" in done.stderr


def test_a_key_of_another_is_no_proof(own, pki):
    good, other = pki.issue("good", "agent", uri(ID)), pki.issue("second", "agent", uri(ID))
    assert psql(own, (good[0], other[1])).returncode == 2


def test_without_a_current_revocation_list_nobody_gets_in(postgres, pki):
    crl = pki.revoke(ends=-0.5)
    with gateway(postgres, pki, f'client_crl = "{crl}"') as stale:
        done = psql(stale, pki.issue("good", "agent", uri(ID)))
        assert done.returncode == 2
        until(lambda: "CRL has expired" in str(events(stale)[-1]["data"]), "the record")
        # who shows none is not concerned
        assert psql(stale, None, PGPASSWORD=stale.token()).returncode == 0


def test_certificates_alone_need_no_issuer(postgres, pki):
    class Alone(Trial):
        def _configure(self) -> None:
            super()._configure()
            text = self.config.read_text()
            begin, end = text.index("[[issuers]]"), text.index("[[resources]]")
            text = text[:begin] + text[end:]
            self.config.write_text(
                text.replace('{ team = "payments" }', '{ san = { dns = "a.example" } }')
            )

    listen = (
        f'authentication = ["certificate"]\nclient_ca = "{pki.ca}"\nclient_name = "common_name"'
    )
    with Alone(postgres, listen=listen, tables="[monitor]\nport = 0\n") as own:
        assert psql(own, pki.issue("named", "agent-7", dns("a.example"))).returncode == 0
        assert events(own)[1]["principal"] == "x509#agent-7"
        done = psql(own, None, PGPASSWORD=own.token())
        assert NO_NAME in done.stderr
        # no issuer is no reason not to be ready
        (port,) = re.findall(r"health at http://127\.0\.0\.1:(\d+)", own.log.read_text())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            assert answer.status == 200


def test_the_session_ends_with_the_certificate(postgres, pki):
    with gateway(postgres, pki) as own:
        files = pki.issue("short", "agent", uri(ID), ends=3 / 3600)
        with psycopg.connect(
            host=own.host, port=own.port, user="a", dbname="payments", sslmode="require",
            sslcert=str(files[0]), sslkey=str(files[1]), autocommit=True,
        ) as connection:  # fmt: skip
            assert connection.execute("select 1").fetchone() == (1,)
            with pytest.raises(
                psycopg.OperationalError, match="client certificate of this session"
            ):
                for _ in range(60):
                    connection.execute("select 1")
                    time.sleep(0.1)


def test_a_resumed_tls_session_is_checked_again(postgres, pki):
    """What a TLS ticket brings back of an expired certificate is worth nothing."""
    with gateway(postgres, pki) as own:
        files = pki.issue("ticket", "agent", uri(ID), ends=2 / 3600)
        context = ssl.create_default_context(cafile=str(own.ca))
        context.load_cert_chain(*files)

        def open_tls(session: ssl.SSLSession | None) -> ssl.SSLSocket:
            plain = socket.create_connection((own.host, own.port), timeout=20)
            plain.sendall(ssl_request())
            assert plain.recv(1) == b"S"
            return context.wrap_socket(plain, server_hostname="localhost", session=session)

        with open_tls(None) as first:
            first.sendall(LOGIN + message(b"X"))
            assert messages(rest(first))[0] == (b"R", b"\0\0\0\0")
            ticket = first.session
        time.sleep(2.2)
        with open_tls(ticket) as again:
            again.sendall(LOGIN + message(b"X"))
            seen = rest(again)
            if again.session_reused:
                assert fatal(seen)["M"] == NO_NAME
                assert events(own)[-1]["data"]["detail"] == "the certificate has expired"
            else:
                assert seen == b""
