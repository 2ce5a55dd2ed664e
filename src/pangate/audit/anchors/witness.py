"""A witness that is asked by HTTP (C2SP tlog-witness) and cosigns what grew out of what it has seen."""

from __future__ import annotations

import re
from pathlib import Path

from pangate.audit.anchors import Contradicted, grown, write_whole
from pangate.audit.anchors.http import post
from pangate.audit.reader import ANCHORS, Ledger
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint, open_checkpoint
from pangate.ledger.note import COSIGNATURE, Line, Verifier, parse_note
from pangate.ledger.proof import consistency_proof
from pangate.ledger.witness import MAX_BYTES, Submission


class WitnessAnchor:
    """Its cosigned checkpoints are kept in the ledger, in anchors/NAME.checkpoint."""

    def __init__(self, url: str, key: Verifier, ca: Path | None = None) -> None:
        if key.type != COSIGNATURE:
            raise LedgerError(f"the key of {key.name} is not a witness's key")
        self.name = key.name
        self._url = url.rstrip("/") + "/add-checkpoint"
        self._key = key
        self._ca = ca

    def put(self, ledger: Ledger) -> Checkpoint:
        """Have the checkpoint cosigned."""
        path = self._kept_in(ledger)
        kept = self._kept(path)
        if kept is not None:
            grown(ledger, kept, str(path))
            if kept.size == ledger.size:
                return kept
        old = 0 if kept is None else kept.size
        status, text = self._ask(ledger, old)
        if status == 409:
            known = _size_of(text, self.name)
            if known > ledger.size:
                raise Contradicted(
                    f"the witness {self.name} has seen {known} events, and the ledger has "
                    f"{ledger.size}: it was rolled back"
                )
            if known == old:
                raise Contradicted(
                    f"the witness {self.name} has seen another ledger of {known} events: it was forked"
                )
            status, text = self._ask(ledger, known)
        if status in (409, 422):
            raise Contradicted(
                f"the witness {self.name} says that the ledger did not grow out of what it has seen: "
                f"{text.strip()[:200]}"
            )
        if status != 200:
            raise LedgerError(f"the witness {self.name} answers {status}: {text.strip()[:200]}")
        self._keep(ledger, path, text)
        return ledger.checkpoint()

    def _ask(self, ledger: Ledger, old: int) -> tuple[int, str]:
        proof = tuple(consistency_proof(ledger.hash, old, ledger.size))
        submission = Submission(old, proof, ledger.checkpoint_note())
        status, data = post(
            self._url, submission.text(), f"the witness {self.name}", most=MAX_BYTES, ca=self._ca
        )
        return status, data.decode("utf-8", "replace")

    def _keep(self, ledger: Ledger, path: Path, text: str) -> None:
        body, _ = parse_note(ledger.checkpoint_note())
        for line in text.splitlines():
            found = Line.parse(line)
            if (found.name, found.key_id) == (self._key.name, self._key.key_id):
                if self._key.verify(body, found) is None:
                    raise LedgerError(f"the cosignature of {self.name} does not hold")
                path.parent.mkdir(mode=0o700, exist_ok=True)
                write_whole(path, ledger.checkpoint_note() + found.text().encode())
                return
        raise LedgerError(f"the witness {self.name} answers without a signature of its key")

    def _kept_in(self, ledger: Ledger) -> Path:
        name = re.sub("[^A-Za-z0-9.-]", "_", self._key.name).lstrip(".")
        return ledger.directory / ANCHORS / f"{name}+{self._key.key_id:08x}.checkpoint"

    def _kept(self, path: Path) -> Checkpoint | None:
        """What the witness has cosigned last, as far as is known here. Without it, or when it was
        changed, the witness says what it has."""
        try:
            return open_checkpoint(path.read_bytes(), [self._key])[0]
        except (OSError, LedgerError):
            return None


def witness_key(path: Path) -> Verifier:
    """The public key of a witness in the file at `path`. Raises LedgerError."""
    try:
        return Verifier.parse(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "") or error
        raise LedgerError(f"{path} cannot be read: {why}") from None
    except LedgerError as error:
        raise LedgerError(f"{path}: {error}") from None


def _size_of(text: str, name: str) -> int:
    if not re.fullmatch("(0|[1-9][0-9]{0,18})\n", text):
        raise LedgerError(f"the witness {name} answers 409 without a size")
    return int(text)
