"""A certificate authority for tests that makes what a real one should not: expired, revoked, misnamed."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
USAGE = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
         "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip


def uri(value: str) -> x509.GeneralName:
    # As it stands, which the constructor would check.
    return x509.UniformResourceIdentifier._init_without_validation(value)


def dns(value: str) -> x509.GeneralName:
    return x509.DNSName(value)


class Pki:
    """A CA in `directory`; `ca` is its certificate's path."""

    def __init__(self, directory: Path, name: str = "test CA") -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        bits = {use: use in ("key_cert_sign", "crl_sign") for use in USAGE}
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        certificate = (
            self._builder(self._name, self._key.public_key(), -1, 1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**bits), critical=True)
            .add_extension(self._identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = directory / f"{name.replace(' ', '-')}.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begins: float, ends: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(hours=begins))
            .not_valid_after(now + datetime.timedelta(hours=ends))
        )

    def certificate(
        self,
        common_name: str | Sequence[str] = (),
        *names: x509.GeneralName,
        begins: float = -1,
        ends: float = 1,
        usage: x509.ObjectIdentifier | None = CLIENT,
        organization: str = "",
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A certificate and its key. `begins` and `ends` are in hours from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        common = [common_name] if isinstance(common_name, str) else common_name
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, part) for part in common]
        if organization:
            parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        builder = self._builder(x509.Name(parts), key.public_key(), begins, ends).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier),
            critical=False,
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self._key, hashes.SHA256()), key

    def issue(self, file: str, *args: object, **more: object) -> tuple[Path, Path]:
        """The files of `certificate(...)`: certificate and key."""
        certificate, key = self.certificate(*args, **more)  # type: ignore[arg-type]
        paths = self.directory / f"{file}.pem", self.directory / f"{file}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].touch(0o600)
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def revoke(self, *files: Path, ends: float = 1) -> Path:
        """A revocation list with these certificates on it; it is current for `ends` hours."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - datetime.timedelta(hours=2))
            .next_update(now + datetime.timedelta(hours=ends))
        )
        for file in files:
            serial = x509.load_pem_x509_certificate(file.read_bytes()).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(now - datetime.timedelta(hours=1))
                .build()
            )
        path = self.directory / f"crl-{ends:g}.pem"
        found = builder.sign(self._key, hashes.SHA256())
        path.write_bytes(found.public_bytes(serialization.Encoding.PEM))
        return path
