"""Checkpoints where whoever has the ledger cannot reach: at witnesses, in files on other storage.

Each anchor is a follower of the sealer. It works in a thread of its own, so that a witness that is slow
or away holds up nothing, and always takes the newest checkpoint. What went wrong is said once, and
again when it is something else; the ledger goes on, and its unwitnessed tail grows."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import httpx

from pangate.audit.reader import ANCHORS, Ledger
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint, open_checkpoint
from pangate.ledger.note import COSIGNATURE, Line, Verifier, parse_note
from pangate.ledger.proof import consistency_proof, verify_consistency
from pangate.ledger.witness import MAX_BYTES, Submission

TIMEOUT_SECONDS = 10.0

log = logging.getLogger("pangate.audit")


class Contradicted(LedgerError):
    """Somebody has seen a ledger that this one did not grow out of: it was rolled back or forked."""


class Anchor(Protocol):
    """Where checkpoints are put. `name` is for messages."""

    name: str

    def put(self, ledger: Ledger) -> Checkpoint:
        """Put the checkpoint of `ledger` there. Returns what is there now. Raises Contradicted when
        another ledger is there, LedgerError when it cannot be done."""


class FileAnchor:
    """A file on other storage, such as a mounted share that only adds."""

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
            _grown(ledger, Checkpoint.parse(parse_note(there)[0]), self.name)
        if there != ledger.checkpoint_note():
            write_whole(self.path, ledger.checkpoint_note())
        return checkpoint


class WitnessAnchor:
    """A witness that is asked by HTTP (C2SP tlog-witness). Its cosigned checkpoints are kept in the
    ledger, in anchors/NAME.checkpoint."""

    def __init__(self, url: str, key: Verifier) -> None:
        if key.type != COSIGNATURE:
            raise LedgerError(f"the key of {key.name} is not a witness's key")
        self.name = key.name
        self._url = url.rstrip("/") + "/add-checkpoint"
        self._key = key

    def put(self, ledger: Ledger) -> Checkpoint:
        """Have the checkpoint cosigned."""
        path = self._kept_in(ledger)
        kept = self._kept(path)
        if kept is not None:
            _grown(ledger, kept, str(path))
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
        try:
            with httpx.stream(
                "POST", self._url, content=submission.text(), timeout=TIMEOUT_SECONDS
            ) as answer:
                data = b""
                for block in answer.iter_bytes():
                    data += block
                    if len(data) > MAX_BYTES:
                        raise LedgerError(f"the witness {self.name} answers at too great length")
                return answer.status_code, data.decode("utf-8", "replace")
        except httpx.HTTPError as error:
            raise LedgerError(
                f"the witness {self.name} cannot be asked: {error or type(error).__name__}"
            ) from None

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


class AnchorFollower:
    """Puts the newest checkpoint into `anchor` whenever the sealer has sealed."""

    def __init__(self, directory: Path, anchor: Anchor) -> None:
        self._directory = directory
        self._anchor = anchor
        self._wake = threading.Event()
        self._stopping = False
        self.failure = ""
        """What is wrong now; empty when nothing is."""
        self.contradicted = False
        """Whether the anchor has seen another ledger. Nothing clears this."""
        self.size = 0
        """Leaves of the last checkpoint that is there."""
        self._thread = threading.Thread(
            target=self._work, name=f"audit-anchor-{anchor.name}", daemon=True
        )
        self._thread.start()

    def follow(self, first_index: int, leaves: Sequence[bytes]) -> None:
        """There is a newer checkpoint."""
        self._wake.set()

    def close(self) -> None:
        """Put the newest checkpoint there, and end."""
        self._stopping = True
        self._wake.set()
        self._thread.join(2 * TIMEOUT_SECONDS)

    def _work(self) -> None:
        stopping = False
        while not stopping:
            self._wake.wait()
            self._wake.clear()
            stopping = self._stopping
            self._put()

    def _put(self) -> None:
        try:
            self.size = self._anchor.put(Ledger(self._directory)).size
        except LedgerError as error:
            if str(error) != self.failure:
                self.failure = str(error)
                self.contradicted |= isinstance(error, Contradicted)
                log.error("%s", error)
        else:
            self.failure = ""


def _grown(ledger: Ledger, seen: Checkpoint, where: str) -> None:
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


def _size_of(text: str, name: str) -> int:
    if not re.fullmatch("(0|[1-9][0-9]{0,18})\n", text):
        raise LedgerError(f"the witness {name} answers 409 without a size")
    return int(text)


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file in one step, lastingly. Raises LedgerError."""
    new = path.with_name(path.name + ".new")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from None
