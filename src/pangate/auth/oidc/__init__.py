"""OpenID Connect and plain JWT: a signed token of a configured issuer to a principal.

The order matters and is this: (1) size; (2) a token that was verified before, by its digest; (3)
the limit of failures; (4) form, before anything is parsed; (5) which configured issuer it says it
is of; (6) its algorithm against the issuer's pinned ones; (7) a key of the issuer's own set, never
one that the token brings along; (8) the signature; (9) the claims."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import re
import time
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

import jwt

from pangate.auth import FAILED, UNAVAILABLE, KeyState, throttled
from pangate.auth.oidc.keys import IssuerUnavailable, Key, KeySet
from pangate.config import Config, IssuerSettings
from pangate.errors import AuthenticationFailed
from pangate.model import Credential, Principal
from pangate.policy import roles_for

MAX_SUBJECT = 512
"""No name of an agent is longer, in characters."""

MAX_ORIGINS = 65536
"""Addresses whose failures are counted; the one that failed longest ago is forgotten first."""

FAILURE_SECONDS = 60.0

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

TYPES = frozenset(("jwt", "at+jwt", "jose"))
"""What a token may say of its own kind (`typ`). Logout tokens, DPoP proofs and the like are signed
by the same keys and are no credentials."""

_FAULTS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet (nbf or iat)"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is of another issuer"),
    (jwt.InvalidAlgorithmError, "the algorithm is not one of the issuer's"),
    (jwt.InvalidKeyError, "the key does not fit the algorithm"),
)


class _Fault(Exception):
    """What is wrong with a token, for the record; without the token. `kind` is its class."""

    def __init__(self, text: str, kind: str = "invalid") -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was checked: whose it is, and the key without which it is worth nothing."""

    principal: Principal
    fingerprint: bytes


class OidcAuthenticator:
    """Checks tokens of the issuers in `config`; the contract is `pangate.auth.Authenticator`."""

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.monotonic,
        before: OidcAuthenticator | None = None,
    ) -> None:
        self._config = config
        known = {} if before is None else before._keys
        self._keys: dict[str, KeySet] = {
            issuer.url: known[issuer.url].renewed()
            if issuer.url in known and known[issuer.url].settings == issuer
            else KeySet(issuer, clock)
            for issuer in config.issuers
        }
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._throttle: Throttle = Throttle(
            config.limits.auth_failures_per_minute, clock, before._throttle if before else None
        )

    async def authenticate(self, credential: Credential, origin: str) -> Principal:
        """The principal of a token. Raises AuthenticationFailed."""
        if not isinstance(credential, str):
            raise TypeError("a certificate is no token")
        limits = self._config.limits
        if len(credential) > limits.token_bytes:
            raise self._failed(
                origin, f"longer than {limits.token_bytes} bytes (limits.token_bytes)"
            )
        digest = _digest(credential)
        known = self._recall(digest)
        if known is not None:
            return known
        if self.throttled(origin):
            raise throttled()
        try:
            verified = await self._verify(credential)
        except _Fault as fault:
            # Raised outside of the handler: what a fault is chained to may quote the token.
            reason, kind = str(fault), fault.kind
        except IssuerUnavailable as error:
            raise AuthenticationFailed(
                UNAVAILABLE, f"no keys of the issuer {error}", "unavailable"
            ) from None
        else:
            self._remember(digest, verified)
            return verified.principal
        raise self._failed(origin, reason, kind)

    def recall(self, credential: Credential) -> Principal | None:
        """Of a token that was verified."""
        if not isinstance(credential, str) or len(credential) > self._config.limits.token_bytes:
            return None
        return self._recall(_digest(credential))

    def throttled(self, origin: str) -> bool:
        """Whether `limits.auth_failures_per_minute` is reached for this address."""
        return self._throttle.reached(origin)

    def failed(self, origin: str) -> None:
        """Count a failure."""
        self._throttle.failed(origin)

    def believes(self, issuer: str) -> bool:
        """Whether the issuer is configured."""
        return issuer in self._keys

    async def refresh(self) -> None:
        """Fetch the keys that are due, all issuers at the same time."""
        await asyncio.gather(*(keys.refresh() for keys in self._keys.values()))

    def key_states(self) -> Sequence[KeyState]:
        """How the keys of every issuer stand."""
        return [keys.state for keys in self._keys.values()]

    async def close(self) -> None:
        """Forget every token and end what is being fetched."""
        self._verified.clear()
        for keys in self._keys.values():
            await keys.close()

    def _failed(self, origin: str, reason: str, kind: str = "invalid") -> AuthenticationFailed:
        self._throttle.failed(origin)
        return AuthenticationFailed(FAILED, reason, kind)

    async def _verify(self, token: str) -> _Verified:
        if not _COMPACT.fullmatch(token):
            raise _Fault("empty" if not token else "not a signed token (three base64url parts)")
        header_part, payload_part, _ = token.split(".")
        header = _object(header_part, "header")
        claims = _object(payload_part, "payload")
        issuer = self._config.issuers_by_url.get(_issuer_of(claims))
        if issuer is None:
            raise _Fault(f"the issuer {_shown(claims.get('iss'))} is not configured")
        algorithm, kid = _check_header(header, issuer)
        keys = await self._keys[issuer.url].find(kid, algorithm)
        if not keys:
            raise _Fault(f"the issuer has no {algorithm} key {_shown(kid)}")
        for key in keys:
            verified = _verified_claims(token, key, algorithm, issuer)
            if verified is not None:
                return _Verified(self._principal(verified, issuer), key.fingerprint)
        raise _Fault("the signature is wrong", "signature")

    def _principal(self, claims: dict[str, Any], issuer: IssuerSettings) -> Principal:
        for claim in ("exp", "iat", "nbf"):
            # PyJWT takes "1" and true for numbers as well.
            if claim in claims and type(claims[claim]) not in (int, float):
                raise _Fault(f"the claim {claim} is not a number")
        if claims["exp"] - claims["iat"] > issuer.max_life_seconds:
            raise _Fault(
                f"the token lives longer than {issuer.max_life_seconds:g} seconds "
                "(max_life_seconds of the issuer)"
            )
        if "cnf" in claims:
            raise _Fault("the token is bound to a key (cnf), and a password cannot prove that key")
        subject = claims[issuer.subject_claim]
        if not isinstance(subject, str) or not subject.strip() or not subject.isprintable():
            raise _Fault(f"the claim {issuer.subject_claim} is not a name")
        if len(subject) > MAX_SUBJECT:
            raise _Fault(f"the claim {issuer.subject_claim} is longer than {MAX_SUBJECT}")
        return Principal(
            subject=subject,
            issuer=issuer.url,
            expires_at=float(claims["exp"]),
            roles=roles_for(self._config, claims, issuer.url),
            claims=MappingProxyType(claims),
        )

    # Tokens that were verified before

    def _recall(self, digest: bytes) -> Principal | None:
        entry = self._verified.get(digest)
        if entry is None:
            return None
        principal = entry.principal
        # After a rotation, and when the keys are due to be fetched, it is verified from the start.
        if principal.expires_at <= time.time() or not self._keys[principal.issuer].holds(
            entry.fingerprint
        ):
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return principal

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        self._verified[digest] = verified
        self._verified.move_to_end(digest)
        while len(self._verified) > self._config.limits.token_cache_entries:
            self._verified.popitem(last=False)


class Throttle:
    """Counts failures by address (an IPv6 one by its /64) over a sliding minute, approximately: the
    count of the minute before fades out linearly while the present one fills."""

    def __init__(
        self,
        per_minute: int,
        clock: Callable[[], float] = time.monotonic,
        before: Throttle | None = None,
    ) -> None:
        """`before` is another whose counts are taken over."""
        self._limit = per_minute
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, int, int]] = (
            OrderedDict() if before is None else before._counts
        )

    def reached(self, origin: str) -> bool:
        """Whether the limit is reached for `origin`."""
        if not self._counts:
            return self._limit <= 0
        window, before, count = self._window(network_of(origin))
        fading = 1.0 - (self._clock() / FAILURE_SECONDS - window)
        return count + before * fading >= self._limit

    def failed(self, origin: str) -> None:
        """Count one failure of `origin`."""
        key = network_of(origin)
        window, before, count = self._window(key)
        self._counts[key] = (window, before, count + 1)
        self._counts.move_to_end(key)
        if len(self._counts) > MAX_ORIGINS:
            self._counts.popitem(last=False)

    def _window(self, key: str) -> tuple[int, int, int]:
        """Number of the present minute, failures in the one before, failures in it."""
        now = int(self._clock() // FAILURE_SECONDS)
        window, before, count = self._counts.get(key, (now, 0, 0))
        if window == now:
            return window, before, count
        return now, count if window == now - 1 else 0, 0


@lru_cache(maxsize=4096)
def network_of(origin: str) -> str:
    """The part of an address, with or without a port, that stands for one sender."""
    host = origin
    if origin.startswith("["):
        host = origin[1:].partition("]")[0]
    elif origin.count(":") == 1:
        host = origin.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _object(part: str, what: str) -> dict[str, Any]:
    """A base64url part as a JSON object, of which no key is there twice: two readers of such an
    object need not agree on what it says."""
    try:
        found = json.loads(
            urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _Fault(f"the {what} is not a JSON object with unique keys")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("duplicate key")
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _issuer_of(claims: dict[str, Any]) -> str:
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise _Fault("the claim iss is missing")
    return issuer


def _check_header(header: dict[str, Any], issuer: IssuerSettings) -> tuple[str, str | None]:
    """Algorithm and key id. `jku`, `jwk`, `x5u` and `x5c`, with which a token brings or names a key
    of its own, have no effect at all."""
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise _Fault(f"the algorithm {_shown(algorithm)} is not one of the issuer's")
    for name in ("crit", "b64", "zip", "enc"):
        if name in header:
            raise _Fault(f"the header {name} is not understood")
    kind = header.get("typ")
    if kind is not None and (
        not isinstance(kind, str) or kind.lower().removeprefix("application/") not in TYPES
    ):
        raise _Fault(f"a token of type {_shown(kind)} is not a credential")
    kid = header.get("kid")
    if kid is not None and (not isinstance(kid, str) or len(kid) > MAX_SUBJECT):
        raise _Fault("the header kid is not a name")
    return algorithm, kid


def _verified_claims(
    token: str, key: Key, algorithm: str, issuer: IssuerSettings
) -> dict[str, Any] | None:
    """The claims of the token, checked; None if `key` did not sign it."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=[algorithm],
            audience=issuer.audiences,
            issuer=issuer.url,
            leeway=issuer.leeway_seconds,
            options={"require": ["exp", "iat", "iss", "aud", issuer.subject_claim]},
        )
    except jwt.InvalidSignatureError:
        return None
    except jwt.MissingRequiredClaimError as error:
        raise _Fault(f"the claim {error.claim} is missing") from None
    except jwt.PyJWTError as error:
        expired = isinstance(error, jwt.ExpiredSignatureError)
        raise _Fault(_reason(error), "expired" if expired else "invalid") from None
    return claims


def _reason(error: jwt.PyJWTError) -> str:
    for kind, reason in _FAULTS:
        if isinstance(error, kind):
            return reason
    return f"the token is not usable ({type(error).__name__})"


def _shown(value: object) -> str:
    """A value of an unverified token for the record: short, and on one line."""
    if value is None:
        return "(none)"
    if not isinstance(value, str):
        return "(not a text)"
    return repr(value[:100]) + ("..." if len(value) > 100 else "")
