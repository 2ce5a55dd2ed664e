"""A token issuer on loopback for the demonstration and the tests: discovery document, key set, signed
tokens. It vouches for whoever it is told to and is no identity provider for real use."""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Algorithm = Literal["ES256", "RS256"]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A gateway that is stopped while it fetches keys is nothing to write about.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class LocalIssuer:
    """An OpenID Connect issuer at `url`, from `with` to its end, with one key for each algorithm."""

    def __init__(self) -> None:
        self._ids: dict[Algorithm, str] = {
            "ES256": secrets.token_hex(4),
            "RS256": secrets.token_hex(4),
        }
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> LocalIssuer:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = issuer._documents().get(self.path)
                body = json.dumps(answer or {"error": "not_found"}).encode()
                self.send_response(200 if answer else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="issuer", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            self._thread.join()

    @property
    def url(self) -> str:
        """The `iss` of its tokens, where its discovery document is found."""
        if self._server is None:
            raise RuntimeError("the issuer has a URL only while it runs: use it in `with`")
        return f"http://127.0.0.1:{self._server.server_port}"

    # Made when first asked for: an RSA key takes a while.

    @cached_property
    def _ec(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def _rsa(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def _documents(self) -> dict[str, dict[str, Any]]:
        discovery = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(self._ids),
        }
        keys: dict[Algorithm, str] = {
            "ES256": ECAlgorithm.to_jwk(self._ec.public_key()),
            "RS256": RSAAlgorithm.to_jwk(self._rsa.public_key()),
        }
        return {
            "/.well-known/openid-configuration": discovery,
            "/keys": {
                "keys": [
                    {**json.loads(key), "kid": self._ids[name], "use": "sig", "alg": name}
                    for name, key in keys.items()
                ]
            },
        }

    def mint(
        self,
        subject: str,
        audience: str = "pangate",
        seconds: float = 600,
        algorithm: Algorithm = "ES256",
        **claims: object,
    ) -> str:
        """A signed token for `subject` that lives for `seconds` (negative: it has ended already).

        `claims` are added to its own, or take their place."""
        now = int(time.time())
        payload: Mapping[str, object] = {
            "iss": self.url,
            "sub": subject,
            "aud": audience,
            "iat": now,
            "nbf": now,
            "exp": int(now + seconds),
            **claims,
        }
        key = self._ec if algorithm == "ES256" else self._rsa
        headers = {"kid": self._ids[algorithm]}
        return jwt.encode(dict(payload), key, algorithm=algorithm, headers=headers)
