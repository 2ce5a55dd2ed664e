"""From the credential that an agent presents to a principal: the contract of authenticators and the
way to the ones that the configuration asks for. One kind of identity provider a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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


class Authenticator(Protocol):
    """Makes a principal of a credential. Safe to be used by any number of sessions of one loop."""

    async def authenticate(self, credential: Credential, origin: str) -> Principal:
        """The principal that `credential` proves. `origin` is the agent's address, for throttling.

        Raises AuthenticationFailed, whose reason is `FAILED` (`FAILED_CERTIFICATE`) for every fault
        of the credential, `UNAVAILABLE` or `THROTTLED`; its `detail` says more, for the record, and
        never holds the credential."""

    async def close(self) -> None:
        """Let go of connections and running fetches. May be called more than once."""


def open_authenticator(config: Config) -> Authenticator:
    """The authenticator for `config`. It opens nothing before the first credential."""
    from pangate.auth.oidc import OidcAuthenticator
    from pangate.auth.x509 import CertificateAuthenticator

    return _ByKind(OidcAuthenticator(config), CertificateAuthenticator(config))


class _ByKind:
    """Tokens to the one, certificates to the other. What fails at one is never shown to the other."""

    def __init__(self, tokens: Authenticator, certificates: Authenticator) -> None:
        self._tokens = tokens
        self._certificates = certificates

    async def authenticate(self, credential: Credential, origin: str) -> Principal:
        if isinstance(credential, Certificate):
            return await self._certificates.authenticate(credential, origin)
        return await self._tokens.authenticate(credential, origin)

    async def close(self) -> None:
        await self._tokens.close()
        await self._certificates.close()
