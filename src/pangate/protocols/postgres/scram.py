"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS from the client's side, after RFC 5802, RFC 7677 and RFC 5929.

pangate logs in to the backend with it: the password never crosses the wire, and with channel binding
nobody between pangate and the server can stand in for the server."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stringprep
import unicodedata

from pangate.errors import ProtocolError

ITERATIONS_MAX = 1_000_000
"""More than this from a server is refused: it only makes the client burn time."""


def saslprep(password: str) -> str:
    """RFC 4013. A password that it does not allow is used as it stands, as PostgreSQL's own clients do
    (src/common/saslprep.c)."""
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
        stringprep.in_table_a1,
    )
    if not normal or any(check(c) for c in normal for check in prohibited):
        return password
    if any(map(stringprep.in_table_d1, normal)) and (
        any(map(stringprep.in_table_d2, normal))
        or not stringprep.in_table_d1(normal[0])
        or not stringprep.in_table_d1(normal[-1])
    ):
        return password
    return normal


class ScramClient:
    """One exchange: `first()`, then `final(server_first)`, then `verify(server_final)`.

    `binding` is the tls-server-end-point data of the connection (the hash of the server's certificate)
    or empty when there is no TLS or the server does not offer PLUS; `offered` says whether the server
    offered PLUS, so that nobody in between can strike it from the list unseen."""

    def __init__(self, password: str, *, binding: bytes = b"", offered: bool = False) -> None:
        self._password = saslprep(password).encode()
        self.mechanism = "SCRAM-SHA-256-PLUS" if binding and offered else "SCRAM-SHA-256"
        if self.mechanism.endswith("PLUS"):
            self._header, self._binding = b"p=tls-server-end-point,,", binding
        else:
            # "y": we could bind, but the server did not offer it; "n": we cannot
            self._header, self._binding = (b"y,," if binding else b"n,,"), b""
        self._nonce = base64.b64encode(secrets.token_bytes(18))
        # PostgreSQL takes the user from the startup packet and ignores the one given here
        self._first_bare = b"n=,r=" + self._nonce
        self._server_signature = b""

    def first(self) -> bytes:
        """The client-first-message."""
        return self._header + self._first_bare

    def final(self, server_first: bytes) -> bytes:
        """The client-final-message. ProtocolError when the server's message is malformed."""
        fields = _fields(server_first)
        try:
            nonce, salt = fields[b"r"], base64.b64decode(fields[b"s"], validate=True)
            iterations = int(fields[b"i"])
        except (KeyError, ValueError, binascii.Error):
            raise ProtocolError("the backend sent a malformed SCRAM message", "backend") from None
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or not salt:
            raise ProtocolError("the backend answered SCRAM with a nonce of its own", "backend")
        if not 1 <= iterations <= ITERATIONS_MAX:
            raise ProtocolError(f"the backend asks for {iterations} SCRAM iterations", "backend")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored_key = hashlib.sha256(client_key).digest()
        bare = b"c=" + base64.b64encode(self._header + self._binding) + b",r=" + nonce
        signed = b",".join((self._first_bare, server_first, bare))
        signature = hmac.digest(stored_key, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self._server_signature = hmac.digest(server_key, signed, "sha256")
        return bare + b",p=" + base64.b64encode(proof)

    def verify(self, server_final: bytes) -> None:
        """Check that the server knows the password as well; ProtocolError when it does not."""
        try:
            signature = base64.b64decode(_fields(server_final)[b"v"], validate=True)
        except (KeyError, ValueError, binascii.Error):
            raise ProtocolError("the backend sent a malformed SCRAM message", "backend") from None
        if not self._server_signature or not hmac.compare_digest(signature, self._server_signature):
            raise ProtocolError("the backend could not prove that it knows the password", "backend")


def _fields(data: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for part in data.split(b","):
        name, equals, value = part.partition(b"=")
        if not equals or len(name) != 1 or name in fields:
            raise ProtocolError("the backend sent a malformed SCRAM message", "backend")
        fields[name] = value
    return fields
