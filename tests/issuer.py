"""A token issuer for tests: a real HTTP server on loopback with discovery, a key set and keys."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "pangate"


def jwk(private: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public JWK of `private`."""
    public = private.public_key()
    if isinstance(private, rsa.RSAPrivateKey):
        entry = json.loads(RSAAlgorithm.to_jwk(public))
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        entry = json.loads(ECAlgorithm.to_jwk(public))
    else:
        entry = json.loads(OKPAlgorithm.to_jwk(public))
    entry.pop("key_ops", None)
    if kid is not None:
        entry["kid"] = kid
    return {**entry, **more}


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
EC384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


class Issuer:
    """An issuer that can be told what to answer. `routes` maps a path to a function that writes the
    answer; `keys` is the key set; `requests` are the paths that were asked for."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk(RSA, "rsa"), jwk(EC, "ec")]
        self.requests: list[str] = []
        self.routes: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    outer.routes.get(self.path, outer.not_found)(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.routes["/.well-known/openid-configuration"] = self.discovery
        self.routes["/jwks"] = self.jwks
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stop(self) -> None:
        """Stop answering; the port is closed then."""
        self.released.set()
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join()
        self.server.server_close()

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
        handler.send_response(status)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def not_found(self, handler: BaseHTTPRequestHandler) -> None:
        self.send(handler, b"", 404)

    def discovery(self, handler: BaseHTTPRequestHandler) -> None:
        self.send(
            handler, json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}).encode()
        )

    def jwks(self, handler: BaseHTTPRequestHandler) -> None:
        self.send(handler, json.dumps({"keys": self.keys}).encode())

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good claims with `changes`; a value of None takes the claim away."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "agent-1",
            "aud": AUDIENCE,
            "iat": now - 5,
            "nbf": now - 5,
            "exp": now + 600,
            "team": "reporting",
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        key: Any = RSA,
        algorithm: str = "RS256",
        kid: str | None = "rsa",
        headers: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """A signed token."""
        header = dict(headers or {})
        if kid is not None:
            header["kid"] = kid
        return jwt.encode(self.claims(**changes), key, algorithm=algorithm, headers=header)

    def raw(self, header: bytes, payload: bytes, key: Any = RSA) -> str:
        """A token over these very bytes, signed with RS256."""
        signed = f"{b64(header)}.{b64(payload)}"
        signature = jwt.algorithms.RSAAlgorithm(RSAAlgorithm.SHA256).sign(signed.encode(), key)
        return f"{signed}.{b64(signature)}"
