"""SCRAM against the example of RFC 7677, and against servers that lie."""

import base64
import hashlib
import hmac

import pytest

from pangate.errors import ProtocolError
from pangate.protocols.postgres.scram import ScramClient, saslprep


def example(binding: bytes = b"") -> ScramClient:
    client = ScramClient("pencil", binding=binding, offered=bool(binding))
    client._nonce = b"rOprNGfwEbeRWgbNEkqO"
    client._first_bare = b"n=user,r=rOprNGfwEbeRWgbNEkqO"
    return client


SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)


def test_the_example_of_rfc_7677():
    client = example()
    assert client.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    final = client.final(SERVER_FIRST)
    assert final == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    client.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def test_a_wrong_server_signature_is_refused():
    client = example()
    client.final(SERVER_FIRST)
    with pytest.raises(ProtocolError, match="prove"):
        client.verify(b"v=" + base64.b64encode(bytes(32)))


def test_the_signature_cannot_come_first():
    with pytest.raises(ProtocolError):
        example().verify(b"v=" + base64.b64encode(b""))


@pytest.mark.parametrize(
    "server_first",
    [
        b"",
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",  # adds nothing of its own
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=999999999",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=x",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=!!,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,r=rOprNGfwEbeRWgbNEkqOy,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"m=ext,r=rOprNGfwEbeRWgbNEkqOx",
    ],
)
def test_a_malformed_challenge_is_refused(server_first):
    with pytest.raises(ProtocolError):
        example().final(server_first)


def test_channel_binding_is_in_the_proof_and_a_downgrade_shows():
    binding = hashlib.sha256(b"certificate").digest()
    bound = ScramClient("pencil", binding=binding, offered=True)
    assert bound.mechanism == "SCRAM-SHA-256-PLUS"
    assert bound.first().startswith(b"p=tls-server-end-point,,")
    final = bound.final(b"r=" + bound._nonce + b"x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    said = base64.b64decode(final.split(b",")[0][2:])
    assert said == b"p=tls-server-end-point,," + binding
    # PLUS struck from the list by somebody in between: the server reads "y" and refuses
    assert ScramClient("pencil", binding=binding, offered=False).first().startswith(b"y,,")
    assert ScramClient("pencil").first().startswith(b"n,,")


def test_the_server_proves_itself():
    client = ScramClient("s3cret")
    client.first()
    server_first = b"r=" + client._nonce + b"tail,s=" + base64.b64encode(b"salt") + b",i=4096"
    final = client.final(server_first)
    salted = hashlib.pbkdf2_hmac("sha256", b"s3cret", b"salt", 4096)
    signed = b",".join((client._first_bare, server_first, final.rsplit(b",", 1)[0]))
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    client.verify(b"v=" + base64.b64encode(hmac.digest(server_key, signed, "sha256")))


@pytest.mark.parametrize(
    ("raw", "prepared"),
    [
        ("IX", "IX"),
        ("I\u00adX", "IX"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("\u0007", "\u0007"),
    ],
)
def test_saslprep(raw, prepared):
    assert saslprep(raw) == prepared
