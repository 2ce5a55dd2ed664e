"""Checkpoints: what a log was at one moment, as the text of a signed note (C2SP tlog-checkpoint)."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pangate.errors import LedgerError
from pangate.ledger.note import Signature, Verifier, decode_base64, open_note
from pangate.ledger.tree import HASH_BYTES

_DECIMAL = re.compile("0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree of `size` leaves with `root`, of the log that is named `origin`."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()
    """Further lines, without meaning here."""

    def body(self) -> str:
        """The text that is signed."""
        root = base64.b64encode(self.root).decode()
        return "".join(
            f"{line}\n" for line in (self.origin, str(self.size), root, *self.extensions)
        )

    @classmethod
    def parse(cls, body: str) -> Checkpoint:
        """The checkpoint that `body` is the text of. Raises LedgerError."""
        lines = body.split("\n")
        if len(lines) < 4 or lines.pop() or not all(lines):
            raise LedgerError("a checkpoint has three lines or more, none of them empty")
        origin, size, root, *extensions = lines
        if not _DECIMAL.fullmatch(size):
            raise LedgerError("the second line of a checkpoint is the size of a tree, in decimal")
        digest = decode_base64(root)
        if len(digest) != HASH_BYTES:
            raise LedgerError(f"the third line of a checkpoint is a hash of {HASH_BYTES} bytes")
        return cls(origin, int(size), digest, tuple(extensions))


def open_checkpoint(
    text: bytes, verifiers: Sequence[Verifier]
) -> tuple[Checkpoint, tuple[Signature, ...]]:
    """The checkpoint in a signed note, and who of `verifiers` has signed it.

    Raises LedgerError as `open_note` does, and when the note is no checkpoint."""
    body, signatures = open_note(text, verifiers)
    return Checkpoint.parse(body), signatures
