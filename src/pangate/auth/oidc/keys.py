"""The signing keys of one issuer: found by discovery or at a given URL, kept for a bounded time,
fetched again when they are old or when a token names one that is not there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from pangate.auth import KeyState
from pangate.config import IssuerSettings, discovery_url, url_problem

log = logging.getLogger("pangate")

MAX_RESPONSE_BYTES = 512 * 1024
"""No key set and no discovery document is longer."""

MAX_KEYS = 256
"""Keys of one set that are looked at."""

RSA_BITS = (2048, 8192)
"""Shorter RSA keys are weak; longer ones are an attack on our time."""

UNKNOWN_KEY_SECONDS = 10.0
"""Tokens that name unknown keys make the set be fetched again no more often than this."""

RETRY_SECONDS = 5.0
"""After a failed fetch the issuer is left alone for this long."""

PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)

_RSA = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class IssuerUnavailable(Exception):
    """The keys of the issuer cannot be had now. The text says why, for the record."""


class _BadAnswer(Exception):
    """The issuer answered with something that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and the algorithms that it is good for. `fingerprint` is the SHA-256 of its
    encoding, so a key is the same one only if its bytes are."""

    kid: str | None
    algorithms: frozenset[str]
    public: PublicKey = field(repr=False)
    fingerprint: bytes = field(repr=False)


class KeySet:
    """The keys of one issuer, for one event loop.

    `find` answers from memory while the keys are younger than `refresh_seconds`. After that they
    are fetched first; if that fails, the old ones are used until `stale_seconds`, and then none.
    However many sessions wait, one fetch runs."""

    def __init__(
        self, settings: IssuerSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._due = False
        self._keys: tuple[Key, ...] = ()
        self._fetched_at: float | None = None
        self._failure = "never fetched"
        self._retry_at = float("-inf")
        self._unknown_at = float("-inf")
        self._fetch: asyncio.Task[None] | None = None
        self._tls: ssl.SSLContext | None = None
        self.fetches = 0
        """How many fetches were begun."""
        self.failures = 0
        """How many of them failed."""

    @property
    def settings(self) -> IssuerSettings:
        """What the configuration says of the issuer."""
        return self._settings

    @property
    def state(self) -> KeyState:
        """How the keys stand."""
        age = self._age()
        usable = age <= self._settings.stale_seconds
        return KeyState(self._settings.url, age, usable, self.fetches, self.failures, self._failure)

    def renewed(self) -> KeySet:
        """This set, to be fetched again before it is used; if that fails, as it is."""
        self._due = True
        self._retry_at = float("-inf")
        self._tls = None
        return self

    async def refresh(self) -> None:
        """Fetch the keys if they are due. A failure is left for `find` and `state` to tell."""
        if self._is_due():
            await self._refresh()

    async def find(self, kid: str | None, algorithm: str) -> tuple[Key, ...]:
        """The keys that may have signed a token whose header says `kid` and `algorithm`: none, one,
        or several of the same kid.

        Without a kid there must be one suitable key only. Raises IssuerUnavailable."""
        if self._is_due():
            await self._refresh()
        if self._age() > self._settings.stale_seconds:
            raise IssuerUnavailable(f"{self._settings.url}: {self._failure}")
        found = self._matching(kid, algorithm)
        if found or kid is None:
            return found
        now = self._clock()
        # A fetch that is running was asked for before this token came, but it may bring the key all
        # the same; it is waited for, and counts against the limit as one of our own would.
        if self._fetching() or (now >= self._unknown_at and now >= self._retry_at):
            self._unknown_at = now + UNKNOWN_KEY_SECONDS
            await self._refresh()
            found = self._matching(kid, algorithm)
        if not found and self._failure:
            # It may well be a new key, which the issuer cannot tell us about.
            raise IssuerUnavailable(f"{self._settings.url}: {self._failure}")
        return found

    def holds(self, fingerprint: bytes) -> bool:
        """Whether the key is in the set as it is now, and the set young enough to be used without
        being fetched again."""
        if self._age() > self._settings.refresh_seconds:
            return False
        return any(key.fingerprint == fingerprint for key in self._keys)

    async def close(self) -> None:
        """End a fetch that is running."""
        task = self._fetch
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _is_due(self) -> bool:
        old = self._due or self._age() > self._settings.refresh_seconds
        return old and self._clock() >= self._retry_at

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _matching(self, kid: str | None, algorithm: str) -> tuple[Key, ...]:
        fit = tuple(key for key in self._keys if algorithm in key.algorithms)
        if kid is None:
            return fit if len(fit) == 1 else ()
        return tuple(key for key in fit if key.kid == kid)

    def _fetching(self) -> bool:
        return self._fetch is not None and not self._fetch.done()

    async def _refresh(self) -> None:
        if self._fetch is None or self._fetch.done():
            self._fetch = asyncio.create_task(self._replace(), name="jwks")
        # Shielded: a session that goes away does not take the fetch from the others.
        await asyncio.shield(self._fetch)

    async def _replace(self) -> None:
        self.fetches += 1
        try:
            async with asyncio.timeout(self._settings.fetch_seconds):
                self._keys = await self._load()
            self._fetched_at = self._clock()
            if self._failure and self.failures:
                log.warning("issuer %s: its keys can be fetched again", self._settings.url)
            self._failure = ""
            self._due = False
        except TimeoutError:
            self._failed(f"no answer within {self._settings.fetch_seconds:g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            self._failed(f"{type(error).__name__}: {error}")
        except _BadAnswer as error:
            self._failed(str(error))

    def _failed(self, reason: str) -> None:
        if reason != self._failure:
            log.warning("issuer %s: its keys cannot be fetched: %s", self._settings.url, reason)
        self.failures += 1
        self._failure = reason
        self._retry_at = self._clock() + RETRY_SECONDS

    async def _load(self) -> tuple[Key, ...]:
        if self._tls is None:
            # Reading the CAs takes some milliseconds of disk.
            self._tls = await asyncio.to_thread(_tls_context, self._settings)
        settings = self._settings
        async with httpx.AsyncClient(
            verify=self._tls,
            follow_redirects=False,
            trust_env=False,
            timeout=settings.fetch_seconds,
            headers={"accept": "application/json", "accept-encoding": "identity"},
        ) as client:
            url = settings.jwks_url
            if url is None:
                document = await _get(client, discovery_url(settings.url))
                url = self._jwks_url(document)
            return _parse(await _get(client, url))

    def _jwks_url(self, document: dict[str, Any]) -> str:
        settings = self._settings
        if document.get("issuer") != settings.url:
            raise _BadAnswer("the discovery document is of another issuer than the configured one")
        url = document.get("jwks_uri")
        if not isinstance(url, str):
            raise _BadAnswer("the discovery document names no jwks_uri")
        wrong = url_problem(url, settings.allow_http_loopback)
        if wrong is not None:
            raise _BadAnswer(f"the jwks_uri of the discovery document {wrong}")
        return url


def _tls_context(settings: IssuerSettings) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings.ca)


async def _get(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    async with client.stream("GET", url) as response:
        if response.status_code != httpx.codes.OK:
            raise _BadAnswer(f"{url} answered with status {response.status_code}, not 200")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _BadAnswer(f"{url} answered with a content encoding that was not asked for")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                raise _BadAnswer(f"{url} answered with more than {MAX_RESPONSE_BYTES} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _BadAnswer(f"{url} answered with something that is not a JSON object")
    return document


def _parse(document: dict[str, Any]) -> tuple[Key, ...]:
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise _BadAnswer("the key set has no list of keys")
    if len(entries) > MAX_KEYS:
        raise _BadAnswer(f"the key set has more than {MAX_KEYS} keys")
    # What cannot be used is left out: issuers publish encryption keys and new kinds beside ours.
    keys = tuple(key for key in map(_key, entries) if key is not None)
    if not keys:
        raise _BadAnswer("the key set has no key that can check a signature")
    return keys


def _key(entry: object) -> Key | None:
    """The key of one JWK (RFC 7517), or None if it cannot or must not check signatures."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        return None
    try:
        public, algorithms = _public(entry)
    except (PyJWTError, ValueError, TypeError, KeyError, OverflowError, AttributeError):
        return None
    if "alg" in entry:
        algorithms &= {entry["alg"]} if isinstance(entry["alg"], str) else set()
    if not algorithms:
        return None
    encoded = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(kid, algorithms, public, hashlib.sha256(encoded).digest())


def _public(entry: dict[str, Any]) -> tuple[PublicKey, frozenset[str]]:
    kind = entry.get("kty")
    public: object = None
    if kind == "RSA":
        public = RSAAlgorithm.from_jwk(entry)
    elif kind == "EC":
        public = ECAlgorithm.from_jwk(entry)
    elif kind == "OKP":
        public = OKPAlgorithm.from_jwk(entry)
    if isinstance(public, rsa.RSAPublicKey):
        if not RSA_BITS[0] <= public.key_size <= RSA_BITS[1]:
            raise ValueError("size")
        if public.public_numbers().e.bit_length() > 32:
            raise ValueError("exponent")
        return public, _RSA
    if isinstance(public, ec.EllipticCurvePublicKey):
        return public, frozenset((_CURVES[public.curve.name],))
    if isinstance(public, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        return public, frozenset(("EdDSA",))
    # Also a private key, which comes of an entry with its private half in it: a key that is
    # published proves nothing.
    raise ValueError("kind")
