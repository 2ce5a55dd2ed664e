"""From the credential that an agent presents to a principal: the contract of authenticators and the
way to the ones that the configuration asks for. One kind of identity provider a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pangate.errors import AuthenticationFailed
from pangate.model import Certificate, Credential, Principal

if TYPE_CHECKING:
    from pangate.config import Config

FAILED = (
    "authentication failed: the password must be a valid, unexpired identity token for this gateway"
)
"""What an agent reads, whatever was wrong with its token."""

FAILED_CERTIFICATE = (
    "authentication failed: this gateway needs a valid client certificate that names the agent"
)
"""What an agent reads that was to come with a certificate, whatever was wrong with it."""

UNAVAILABLE = (
    "authentication is not possible now: the identity issuer cannot be reached; try again later"
)
"""What an agent reads when its token could not be checked, good or bad."""

THROTTLED = (
    "too many failed logins from this address (limits.auth_failures_per_minute); wait a minute"
)
"""What an agent reads when its token was not looked at, good or bad."""


def throttled() -> AuthenticationFailed:
    """The refusal of an address with too many failures."""
    detail = "too many failures from this address (limits.auth_failures_per_minute)"
    return AuthenticationFailed(THROTTLED, detail, "throttled")


@dataclass(frozen=True, slots=True)
class KeyState:
    """How the keys of one issuer stand. `age` is in seconds since they were fetched, infinite when they
    never were; `usable` is false when they are too old to check a token with; `failure` says why the
    last fetch failed, empty when it did not."""

    issuer: str
    age: float
    usable: bool
    fetches: int
    failures: int
    failure: str


class Authenticator(Protocol):
    """Makes a principal of a credential. Safe to be used by any number of sessions of one loop."""

    async def authenticate(self, credential: Credential, origin: str) -> Principal:
        """The principal that `credential` proves. `origin` is the agent's address, for throttling.

        Raises AuthenticationFailed, whose reason is `FAILED` (`FAILED_CERTIFICATE`) for every fault
        of the credential, `UNAVAILABLE` or `THROTTLED`; its `detail` says more, for the record, and
        never holds the credential."""

    def recall(self, credential: Credential) -> Principal | None:
        """What `authenticate` gives for it, when that is known without asking or checking anything more: it
        was found good before, and nothing has changed since. None otherwise, and nothing is counted."""

    def throttled(self, origin: str) -> bool:
        """Whether credentials of this address are not looked at for now."""

    def failed(self, origin: str) -> None:
        """Count a failure of this address that was noticed elsewhere: in the TLS handshake."""

    def believes(self, issuer: str) -> bool:
        """Whether principals of `issuer` could be made now: what an open session's principal is asked
        for when the configuration has changed."""

    async def refresh(self) -> None:
        """Fetch the keys that are due, so that no agent waits for it. Never raises for an issuer that
        cannot be reached."""

    def key_states(self) -> Sequence[KeyState]:
        """How the keys of every issuer stand."""

    async def close(self) -> None:
        """Let go of connections and running fetches. May be called more than once."""


def open_authenticator(config: Config, before: Authenticator | None = None) -> Authenticator:
    """The authenticator for `config`. It opens nothing before the first credential.

    `before` is the one whose place it takes: the keys of issuers whose settings are the same go over,
    due to be fetched again, and so do the counts of failures. Verified tokens are forgotten. `before`
    may still be asked, by whoever has begun to."""
    from pangate.auth.oidc import OidcAuthenticator
    from pangate.auth.x509 import CertificateAuthenticator

    tokens = before.tokens if isinstance(before, ByKind) else before
    return ByKind(
        OidcAuthenticator(config, before=tokens if isinstance(tokens, OidcAuthenticator) else None),
        CertificateAuthenticator(config),
    )


class ByKind:
    """Tokens to the one, certificates to the other. What fails at one is never shown to the other."""

    def __init__(self, tokens: Authenticator, certificates: Authenticator) -> None:
        self.tokens = tokens
        self._certificates = certificates

    async def authenticate(self, credential: Credential, origin: str) -> Principal:
        """The principal of either. Failures of both count together."""
        if not isinstance(credential, Certificate):
            return await self.tokens.authenticate(credential, origin)
        if self.throttled(origin):
            raise throttled()
        try:
            return await self._certificates.authenticate(credential, origin)
        except AuthenticationFailed:
            self.failed(origin)
            raise

    def recall(self, credential: Credential) -> Principal | None:
        """Of a token."""
        return self.tokens.recall(credential)

    def throttled(self, origin: str) -> bool:
        """As tokens are."""
        return self.tokens.throttled(origin)

    def failed(self, origin: str) -> None:
        """As a token that failed."""
        self.tokens.failed(origin)

    def believes(self, issuer: str) -> bool:
        """Whether one of the two does."""
        return self.tokens.believes(issuer) or self._certificates.believes(issuer)

    async def refresh(self) -> None:
        """Fetch what is due."""
        await self.tokens.refresh()

    def key_states(self) -> Sequence[KeyState]:
        """The keys of tokens; those of certificates are files."""
        return self.tokens.key_states()

    async def close(self) -> None:
        """Let go of both."""
        await self.tokens.close()
        await self._certificates.close()
