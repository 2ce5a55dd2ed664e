"""Checkpoints where whoever has the ledger cannot reach: at witnesses, in files on other storage, under the
stamp of a time authority, in other people's logs. One kind of anchor a file; this one has the contract.

Evidence that an anchor leaves is read by `evidence.py`; who publishes at intervals is `follower.py`."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pangate.audit.reader import ANCHORS, Ledger
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.note import parse_note
from pangate.ledger.proof import consistency_proof, verify_consistency

if TYPE_CHECKING:
    from pangate.config.audit import AnchorSettings

TIMEOUT_SECONDS = 10.0
"""For one answer of whoever keeps checkpoints."""

MARK = "pangate-checkpoint/v1"
"""What stands in front of a checkpoint, in base64, within a line of somebody's log."""


class Contradicted(LedgerError):
    """Somebody has seen a ledger that this one did not grow out of: it was rolled back or forked."""


class Anchor(Protocol):
    """Where checkpoints are put. `name` is for messages."""

    name: str

    def put(self, ledger: Ledger) -> Checkpoint:
        """Put the checkpoint of `ledger` there. Returns what is there now. Raises Contradicted when
        another ledger is there, LedgerError when it cannot be done."""


def open_anchor(settings: AnchorSettings, token: str = "") -> Anchor:
    """The anchor that an entry of `audit.anchors` describes; `token` is the secret of a webhook. Raises
    LedgerError when a file that the entry names cannot be used."""
    kind = settings.kind
    if kind == "file":
        from pangate.audit.anchors.file import FileAnchor

        assert settings.path is not None
        return FileAnchor(settings.path)
    if kind == "syslog":
        from pangate.audit.anchors.syslog import SyslogAnchor

        return SyslogAnchor(settings)
    assert settings.url is not None
    if kind == "witness":
        from pangate.audit.anchors.witness import WitnessAnchor, witness_key

        assert settings.witness_key is not None
        return WitnessAnchor(settings.url, witness_key(settings.witness_key), settings.ca)
    if kind == "rfc3161":
        from pangate.audit.anchors.timestamp import TimestampAnchor

        assert settings.authority is not None
        return TimestampAnchor(settings)
    from pangate.audit.anchors.webhook import WebhookAnchor

    return WebhookAnchor(settings.name, settings.url, token, settings.ca)


def line_of(ledger: Ledger) -> str:
    """The checkpoint of `ledger` as part of a line of text: what a person reads, and the signed note."""
    found = ledger.checkpoint()
    note = base64.b64encode(ledger.checkpoint_note()).decode()
    return f"checkpoint of {found.origin} with {found.size} events {MARK} {note}"


class Sent:
    """What was sent last to somebody who answers nothing, kept in the ledger as anchors/NAME.checkpoint.
    It is no evidence: it lies where the ledger lies. It shows a roll-back by whoever forgets it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def check(self, ledger: Ledger) -> None:
        """Raises Contradicted when `ledger` did not grow out of what was sent last."""
        try:
            note = self._path(ledger).read_bytes()
            seen = Checkpoint.parse(parse_note(note)[0])
        except (OSError, LedgerError):
            return
        grown(ledger, seen, self._name)

    def keep(self, ledger: Ledger) -> Checkpoint:
        """This was sent."""
        path = self._path(ledger)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, ledger.checkpoint_note())
        return ledger.checkpoint()

    def _path(self, ledger: Ledger) -> Path:
        return ledger.directory / ANCHORS / f"{self._name}.checkpoint"


def grown(ledger: Ledger, seen: Checkpoint, where: str) -> None:
    """Raises Contradicted unless the ledger grew out of `seen`."""
    checkpoint = ledger.checkpoint()
    if seen.origin != checkpoint.origin:
        raise LedgerError(f"{where} is of {seen.origin}, and the ledger is of {checkpoint.origin}")
    if seen.size > checkpoint.size:
        raise Contradicted(
            f"{where} has seen {seen.size} events, and the ledger has {checkpoint.size}: it was "
            "rolled back"
        )
    proof = consistency_proof(ledger.hash, seen.size, checkpoint.size)
    if not verify_consistency(seen.size, seen.root, checkpoint.size, checkpoint.root, proof):
        raise Contradicted(f"{where} has seen another ledger of {seen.size} events: it was forked")


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file in one step, lastingly. Raises LedgerError."""
    write_all({path: data}, {})


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(files: Mapping[Path, bytes], unread: Mapping[Path, bytes]) -> None:
    """The same of several files, each in one step and all of them lastingly when this returns, in no order.
    Those `unread` are of no use to anybody before that, and are written where they are to be, which takes
    half the time. A directory is brought to the disk once for all that are in it."""
    path = Path()
    try:
        for path, data in unread.items():
            _write(path, data)
        for path, data in files.items():
            new = path.with_name(path.name + ".new")
            _write(new, data)
            new.replace(path)
        for path in dict.fromkeys(path.parent for path in (*files, *unread)):
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from None
