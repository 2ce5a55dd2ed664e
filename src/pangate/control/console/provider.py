"""The issuer that people sign in at: OpenID Connect's authorization code with PKCE (RFC 7636), as a client
that keeps nothing of it but who the identity token says somebody is.

The token is checked by the same code as those of agents: keys, algorithms, issuer, times. Its audience is the
console's name at the issuer, so that a token for the gateway is none for the console, nor the other way
round."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import msgspec

from pangate.auth.oidc import OidcAuthenticator
from pangate.config import Config, IssuerSettings, discovery_url, url_problem
from pangate.config.console import ConsoleSettings
from pangate.control.console.sessions import Pending, same
from pangate.errors import AuthenticationFailed, PangateError
from pangate.gate import Gate
from pangate.model import Principal

MAX_BYTES = 256 * 1024
"""No answer of an issuer to us is longer."""

MAX_SECRET_BYTES = 4096


class SignInFailed(PangateError):
    """Somebody could not be signed in. The text is for them; `detail` says more, for the record."""

    def __init__(self, text: str, detail: str, kind: str = "invalid") -> None:
        self.detail, self.kind = detail, kind
        super().__init__(text)


AWAY = "the issuer of identities cannot be reached now; try again later"
REFUSED = "the issuer did not confirm who you are; sign in again"


class Provider:
    """The issuer as the console sees it, by whatever configuration is in force."""

    def __init__(self, gate: Gate, settings: ConsoleSettings) -> None:
        self._gate = gate
        self._settings = settings
        self._config: Config | None = None
        self._tokens: OidcAuthenticator | None = None
        self._found: dict[str, Any] = {}
        self._found_at = float("-inf")
        self._tls: tuple[IssuerSettings, ssl.SSLContext] | None = None

    @property
    def callback(self) -> str:
        """Where the issuer sends people back to."""
        return self._settings.url.rstrip("/") + "/console/callback"

    async def close(self) -> None:
        """End what is being fetched."""
        if self._tokens is not None:
            await self._tokens.close()

    async def address(self, pending: Pending, acr: Sequence[str] = ()) -> str:
        """Where somebody goes to sign in. Raises SignInFailed."""
        found = await self._discovered()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self.callback,
            "scope": self._settings.scope,
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        if acr:
            asked["acr_values"] = " ".join(acr)
        if pending.strong:
            asked["prompt"] = "login"
        endpoint = found["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    async def person(self, pending: Pending, answer: dict[str, str], origin: str) -> Principal:
        """Who came back with `answer`, the parameters of the callback. Raises SignInFailed."""
        found = await self._discovered()
        issuer = self._issuer()
        if answer.get("iss", issuer.url) != issuer.url or (
            found.get("authorization_response_iss_parameter_supported") is True
            and "iss" not in answer
        ):
            # RFC 9207: the answer of another issuer, mixed in
            raise SignInFailed(REFUSED, "the answer is not of the configured issuer (iss)")
        if "error" in answer:
            raise SignInFailed(REFUSED, f"the issuer answered {answer['error'][:200]!r}")
        token = await self._exchanged(found, issuer, pending, answer.get("code", ""))
        try:
            person = await self._authenticator().authenticate(token, origin)
        except AuthenticationFailed as wrong:
            text = AWAY if wrong.kind == "unavailable" else REFUSED
            raise SignInFailed(text, wrong.detail, wrong.kind) from None
        self._check(person, pending, issuer)
        return person

    def _check(self, person: Principal, pending: Pending, issuer: IssuerSettings) -> None:
        """What an identity token has to say beyond what any token does (OpenID Connect Core, 3.1.3.7)."""
        claims, client = person.claims, self._settings.client_id
        if not isinstance(nonce := claims.get("nonce"), str) or not same(nonce, pending.nonce):
            raise SignInFailed(REFUSED, "the identity token is for another sign-in (nonce)")
        audience = claims.get("aud")
        several = isinstance(audience, list) and len(audience) > 1
        if claims.get("azp", None if several else client) != client:
            raise SignInFailed(REFUSED, "the identity token is for another client (azp)")
        at = claims.get("auth_time")
        if (
            pending.strong
            and isinstance(at, (int, float))
            and at < pending.began_at - issuer.leeway_seconds - 1
        ):
            raise SignInFailed(REFUSED, "a new sign-in was asked for, and this is an old one")

    # --- what is in force ---------------------------------------------------------------------------

    def _issuer(self) -> IssuerSettings:
        config = self._gate.config
        url = self._settings.issuer or (config.issuers[0].url if config.issuers else "")
        found = config.issuers_by_url.get(url)
        if found is None:
            raise SignInFailed(AWAY, f"the issuer {url!r} is not configured any more")
        return found

    def _authenticator(self) -> OidcAuthenticator:
        """Who checks identity tokens."""
        config = self._gate.config
        if self._tokens is None or self._config is not config:
            issuer = msgspec.structs.replace(self._issuer(), audience=self._settings.client_id)
            ours = msgspec.structs.replace(config, issuers=(issuer,), roles=())
            self._tokens = OidcAuthenticator(ours, before=self._tokens)
            self._config = config
        return self._tokens

    # --- the issuer's own words ---------------------------------------------------------------------

    async def _discovered(self) -> dict[str, Any]:
        issuer = self._issuer()
        now = time.monotonic()
        if self._found.get("issuer") == issuer.url and (
            now - self._found_at < issuer.refresh_seconds
        ):
            return self._found
        found = await self._ask(issuer, "GET", discovery_url(issuer.url))
        if found.get("issuer") != issuer.url:
            raise SignInFailed(AWAY, "the discovery document is of another issuer")
        for name in ("authorization_endpoint", "token_endpoint"):
            url = found.get(name)
            wrong = "is missing"
            if isinstance(url, str):
                # a query is allowed in the first of them
                plain = url.partition("?")[0] if name == "authorization_endpoint" else url
                wrong = url_problem(plain, issuer.allow_http_loopback) or ""
            if wrong:
                raise SignInFailed(AWAY, f"the {name} of the discovery document {wrong}")
        self._found, self._found_at = found, now
        return found

    async def _exchanged(
        self, found: dict[str, Any], issuer: IssuerSettings, pending: Pending, code: str
    ) -> str:
        """The identity token for a code."""
        if not code or len(code) > 4096:
            raise SignInFailed(REFUSED, "the issuer's answer has no code")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.callback,
            "code_verifier": pending.verifier,
        }
        headers = {}
        client, secret = self._settings.client_id, await self._secret()
        ways = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if not secret:
            form["client_id"] = client
        elif "client_secret_basic" in ways:
            pair = f"{quote(client, safe='')}:{quote(secret, safe='')}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": client, "client_secret": secret}
        answer = await self._ask(issuer, "POST", found["token_endpoint"], form, headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignInFailed(REFUSED, "the issuer gave no identity token")
        return token

    async def _secret(self) -> str:
        path = self._settings.secret_file
        if path is None:
            return ""
        try:
            data = (await asyncio.to_thread(path.read_bytes))[: MAX_SECRET_BYTES + 1]
            secret = data.decode().strip()
        except (OSError, ValueError):
            secret = ""
        if not secret or len(secret) > MAX_SECRET_BYTES:
            raise SignInFailed(AWAY, "control.console.secret_file: cannot be read")
        return secret

    async def _ask(
        self,
        issuer: IssuerSettings,
        method: str,
        url: str,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """A JSON object of the issuer's, within bounds."""
        if self._tls is None or self._tls[0] != issuer:
            # reading the CAs takes some milliseconds of disk
            context = await asyncio.to_thread(ssl.create_default_context, cafile=issuer.ca)
            self._tls = issuer, context
        where = urlsplit(url).path or "/"
        try:
            async with (
                asyncio.timeout(issuer.fetch_seconds),
                httpx.AsyncClient(
                    verify=self._tls[1],
                    follow_redirects=False,
                    trust_env=False,
                    timeout=issuer.fetch_seconds,
                    headers={"accept": "application/json", "accept-encoding": "identity"},
                ) as client,
                client.stream(method, url, data=form, headers=headers) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise SignInFailed(AWAY, f"{where} answered at too great length")
        except (httpx.HTTPError, httpx.StreamError, OSError, ValueError) as wrong:
            raise SignInFailed(
                AWAY, f"{where} cannot be asked: {type(wrong).__name__}", "unavailable"
            ) from None
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise SignInFailed(AWAY, f"{where} answered {response.status_code} without JSON")
        if response.status_code != httpx.codes.OK:
            said = str(found.get("error", ""))[:100]
            text = REFUSED if response.status_code == httpx.codes.BAD_REQUEST else AWAY
            raise SignInFailed(text, f"{where} answered {response.status_code} {said!r}")
        return found


def challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, section 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
