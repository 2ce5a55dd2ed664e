"""A time stamp of an authority (RFC 3161) over a checkpoint: it existed at that time, as it is. The authority
remembers nothing, so the stamps are kept: best on other storage than the ledger's."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from pangate.audit.anchors import grown, write_whole
from pangate.audit.anchors.http import post
from pangate.audit.reader import ANCHORS, Ledger
from pangate.config.audit import AnchorSettings
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.note import parse_note

MOST = 256 << 10
"""Bytes of the longest answer of an authority."""

STAMP, NOTE = ".tsr", ".checkpoint"


class TimestampAnchor:
    """Keeps each stamp as SIZE.tsr beside what it is over, SIZE.checkpoint."""

    def __init__(self, settings: AnchorSettings) -> None:
        assert settings.url is not None
        assert settings.authority is not None
        self.name = settings.name
        self._url, self._ca, self._path = settings.url, settings.ca, settings.path
        self._roots = authorities(settings.authority)

    def put(self, ledger: Ledger) -> Checkpoint:
        """Have the checkpoint stamped, and keep it with its stamp."""
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

        directory = self._path or ledger.directory / ANCHORS / self.name
        for note in self._newest(directory):
            grown(ledger, Checkpoint.parse(parse_note(note)[0]), str(directory))
            if note == ledger.checkpoint_note():
                return ledger.checkpoint()
        note = ledger.checkpoint_note()
        request = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()
        status, answer = post(
            self._url,
            request.as_bytes(),
            f"the time authority {self.name}",
            most=MOST,
            ca=self._ca,
            headers={"content-type": "application/timestamp-query"},
        )
        if status != 200:
            raise LedgerError(f"the time authority {self.name} answers {status}")
        try:
            stamped_at(note, answer, self._roots, request.nonce)
        except LedgerError as error:
            raise LedgerError(f"the time authority {self.name}: {error}") from None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = directory / f"{ledger.size:012d}"
        write_whole(place.with_suffix(STAMP), answer)
        write_whole(place.with_suffix(NOTE), note)
        return ledger.checkpoint()

    @staticmethod
    def _newest(directory: Path) -> list[bytes]:
        try:
            names = sorted(item.name for item in directory.iterdir() if item.suffix == NOTE)
            return [(directory / name).read_bytes() for name in names[-1:]]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LedgerError(f"{directory} cannot be read: {error.strerror}") from None


def authorities(file: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file, which the certificates of authorities have to lead to. LedgerError
    when it cannot be read."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "holds no certificate in PEM form"
        raise LedgerError(f"{file}: {why}") from None


def stamped_at(
    note: bytes, stamp: bytes, roots: list[x509.Certificate], nonce: int | None = None
) -> int:
    """When an authority saw `note`, in seconds since 1970. LedgerError when `stamp` is not its stamp."""
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    builder = VerifierBuilder(roots=list(roots), nonce=nonce)
    try:
        found = decode_timestamp_response(stamp)
        builder.build().verify_message(found, note)
        when: datetime = found.tst_info.gen_time
    except (VerificationError, ValueError) as error:
        raise LedgerError(f"the time stamp does not hold: {error}") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
