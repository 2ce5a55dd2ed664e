"""A file on other storage, such as a mounted share that only adds."""

from __future__ import annotations

from pathlib import Path

from pangate.audit.anchors import grown, write_whole
from pangate.audit.reader import Ledger
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.note import parse_note


class FileAnchor:
    """Has the newest checkpoint, and nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def put(self, ledger: Ledger) -> Checkpoint:
        """Write the checkpoint there when it grew out of the one that is there."""
        checkpoint = ledger.checkpoint()
        try:
            there = self.path.read_bytes()
        except FileNotFoundError:
            there = b""
        except OSError as error:
            raise LedgerError(f"{self.path} cannot be read: {error.strerror}") from None
        if there:
            grown(ledger, Checkpoint.parse(parse_note(there)[0]), self.name)
        if there != ledger.checkpoint_note():
            write_whole(self.path, ledger.checkpoint_note())
        return checkpoint
