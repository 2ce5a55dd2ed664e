"""TLS client certificates to principals. That a configured CA signed it, that it is not revoked and that the
agent has its key was settled in the handshake; here it becomes a name and claims."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from pangate.auth import FAILED_CERTIFICATE, KeyState
from pangate.config import CERTIFICATE_ISSUER, Config
from pangate.errors import AuthenticationFailed
from pangate.model import Certificate, Credential, Principal
from pangate.policy import roles_for

MAX_NAME = 512
"""No name of an agent is longer, in characters."""

_SPIFFE = re.compile(r"spiffe://[a-z0-9._\-]{1,255}(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._\-]+)+")
"""A SPIFFE ID of a workload: trust domain and path (SPIFFE-ID, section 2)."""

_SUBJECT = {
    "common_name": NameOID.COMMON_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizational_unit": NameOID.ORGANIZATIONAL_UNIT_NAME,
}


class _Fault(Exception):
    """What is wrong with a certificate, for the record."""


class CertificateAuthenticator:
    """Names agents by their certificates; the contract is `pangate.auth.Authenticator`.

    The name is the SPIFFE ID where there is one, otherwise what `listen.client_name` says. Roles
    match these claims: `spiffe_id`, `subject` and `san` (tables of lists), `issuer` (RFC 4514),
    `serial` and `fingerprint` (hexadecimal; SHA-256 of the certificate)."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock

    async def authenticate(self, credential: Credential, origin: str) -> Principal:
        """The principal of a certificate. Raises AuthenticationFailed."""
        if not isinstance(credential, Certificate):
            raise TypeError("a token is no certificate")
        try:
            return self._principal(credential.der)
        except _Fault as fault:
            reason = str(fault)
        raise AuthenticationFailed(FAILED_CERTIFICATE, reason)

    def recall(self, credential: Credential) -> Principal | None:
        """None: a certificate is looked at each time."""
        return None

    def throttled(self, origin: str) -> bool:
        """Whoever asks counts."""
        return False

    def failed(self, origin: str) -> None:
        """Nothing is counted here."""

    def believes(self, issuer: str) -> bool:
        """Whether certificates are accepted."""
        return issuer == CERTIFICATE_ISSUER and "certificate" in self._config.listen.authentication

    async def refresh(self) -> None:
        """There is nothing to fetch."""

    def key_states(self) -> Sequence[KeyState]:
        """There are no keys that could be fetched."""
        return ()

    async def close(self) -> None:
        """Nothing is open."""

    def _principal(self, der: bytes) -> Principal:
        if "certificate" not in self._config.listen.authentication:
            raise _Fault("client certificates are not accepted (listen.authentication)")
        if not der:
            raise _Fault("the agent showed no certificate")
        try:
            certificate = x509.load_der_x509_certificate(der)
            claims = _claims(certificate)
        except (ValueError, x509.InvalidVersion, x509.DuplicateExtension) as error:
            raise _Fault(f"the certificate cannot be read ({type(error).__name__})") from None
        # Checked in the handshake too; a resumed TLS session has none of its own.
        now = self._clock()
        expires_at = certificate.not_valid_after_utc.timestamp()
        if expires_at <= now:
            raise _Fault("the certificate has expired")
        if certificate.not_valid_before_utc.timestamp() > now:
            raise _Fault("the certificate is not valid yet")
        return Principal(
            subject=self._name(claims),
            issuer=CERTIFICATE_ISSUER,
            expires_at=expires_at,
            roles=roles_for(self._config, claims, CERTIFICATE_ISSUER),
            claims=MappingProxyType(claims),
        )

    def _name(self, claims: dict[str, object]) -> str:
        if "spiffe_id" in claims:
            return str(claims["spiffe_id"])
        place = self._config.listen.client_name
        if place == "spiffe":
            raise _Fault("the certificate has no SPIFFE ID, and listen.client_name names no other")
        table = claims["subject" if place == "common_name" else "san"]
        assert isinstance(table, dict)
        names = table.get(place, [])
        if len(names) != 1:
            raise _Fault(f"the certificate has {len(names)} names of the kind {place}, not one")
        name = names[0]
        if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
            raise _Fault(
                f"the {place} of the certificate is not a name of 1 to {MAX_NAME} characters"
            )
        return str(name)


def _claims(certificate: x509.Certificate) -> dict[str, object]:
    """What roles may match. Raises _Fault, and ValueError for what cannot be read."""
    subject = {
        name: [
            str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)
        ]
        for name, oid in _SUBJECT.items()
    }
    names = _alternative_names(certificate)
    claims: dict[str, object] = {
        "subject": {name: values for name, values in subject.items() if values},
        "san": {name: values for name, values in names.items() if values},
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
    }
    workloads = [uri for uri in names["uri"] if uri.lower().startswith("spiffe:")]
    if workloads:
        # An X.509-SVID has one URI name and no other (X509-SVID, section 2).
        if len(names["uri"]) != 1 or not _SPIFFE.fullmatch(workloads[0]):
            raise _Fault("the SPIFFE ID of the certificate is not one as X.509-SVIDs have it")
        claims["spiffe_id"] = workloads[0]
    return claims


def _alternative_names(certificate: x509.Certificate) -> dict[str, list[str]]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {"dns": [], "uri": []}
    return {
        "dns": found.get_values_for_type(x509.DNSName),
        "uri": found.get_values_for_type(x509.UniformResourceIdentifier),
    }
