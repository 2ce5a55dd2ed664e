"""Is a ledger what was signed? Offline, from public keys alone.

A walk hashes every leaf, compares with the tiles and builds the tree upwards. When its root is the
signed one and every tile fits, all is well. Otherwise the tree is read from the signed root downwards:
of what stands on disk and what the leaves give, the one that has the hash that is signed is right, and
the other one was changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.x509 import Certificate

from pangate.audit.anchors.evidence import Evidence
from pangate.audit.verify.report import KINDS, Finding, Report, Seen
from pangate.audit.verify.run import Run
from pangate.audit.verify.walk import Progress
from pangate.ledger.note import Verifier

__all__ = ["KINDS", "Finding", "Progress", "Report", "Seen", "verify"]


def verify(
    directory: Path,
    verifiers: Sequence[Verifier],
    checkpoints: Sequence[tuple[str, bytes] | Evidence] = (),
    key_file: Path | None = None,
    progress: Progress | None = None,
    processes: int = 1,
    logs: Sequence[Path] = (),
    authorities: Sequence[Certificate] = (),
) -> Report:
    """Verify the ledger in `directory`. `verifiers` are the public keys of the log and of witnesses;
    without any, those in the ledger itself, which shows only that it fits together. `checkpoints`
    are (name, signed note) that were kept elsewhere. `key_file` is the private key whose
    permissions to look at, where it is. A large ledger is read by up to `processes` processes.

    `logs` are files of others that checkpoints were sent to by syslog or webhook. With `authorities`, the
    certificates of time authorities, the stamps in the ledger itself are looked at."""
    run = Run(directory, verifiers, checkpoints, logs, authorities, progress, processes)
    run.all(key_file)
    return run.report
