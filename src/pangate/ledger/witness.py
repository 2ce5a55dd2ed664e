"""The witness of a log, after C2SP tlog-witness: it cosigns a checkpoint that grows out of the last one
that it cosigned, and no other. Pure: who listens and who keeps the state is elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint, open_checkpoint
from pangate.ledger.note import COSIGNATURE, Signer, Verifier, decode_base64, parse_note
from pangate.ledger.proof import MAX_HASHES, verify_consistency
from pangate.ledger.tree import empty_root

MAX_BYTES = 64 << 10
"""Longest submission that is read."""

SIZE_TYPE = "text/x.tlog.size"
TEXT_TYPE = "text/plain; charset=utf-8"

_OLD = re.compile("old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Submission:
    """What a log sends: the size that the witness has, as far as the log knows, the proof that
    leads from there to the checkpoint, and the checkpoint as it is signed."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def text(self) -> bytes:
        """The body of the request."""
        lines = [f"old {self.old}", *(base64.b64encode(item).decode() for item in self.proof)]
        return "\n".join([*lines, "", ""]).encode() + self.note

    @classmethod
    def parse(cls, text: bytes) -> Submission:
        """The submission in the body of a request. Raises LedgerError."""
        head, separator, note = text.partition(b"\n\n")
        try:
            first, *lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise LedgerError("the lines above the checkpoint are ASCII") from None
        old = _OLD.fullmatch(first)
        if not separator or old is None:
            raise LedgerError('a submission begins with "old" and a size')
        proof = tuple(decode_base64(line) for line in lines)
        if len(proof) > MAX_HASHES or any(len(item) != 32 for item in proof):
            raise LedgerError(f"a proof has at most {MAX_HASHES} hashes")
        return cls(int(old[1]), proof, note)


class Answer(NamedTuple):
    """An HTTP response: status, content type and body."""

    status: int
    content_type: str
    body: bytes


class Witness:
    """Cosigns for `logs`, which has the public keys of each origin.

    `load` gives the last cosigned note of an origin, or None; `keep` stores one lastingly before it
    returns. Calls of `add_checkpoint` come one after the other: whoever has several threads holds a
    lock."""

    def __init__(
        self,
        signer: Signer,
        logs: Mapping[str, Sequence[Verifier]],
        load: Callable[[str], bytes | None],
        keep: Callable[[str, bytes], None],
    ) -> None:
        if signer.verifier.type != COSIGNATURE:
            raise LedgerError(
                "a witness has a key of its own type; make one with pangate audit keygen --witness"
            )
        self._signer = signer
        self._logs = logs
        self._load = load
        self._keep = keep

    def latest(self, origin: str) -> Checkpoint | None:
        """The last checkpoint of `origin` that was cosigned."""
        note = self._load(origin)
        return None if note is None else Checkpoint.parse(parse_note(note)[0])

    def add_checkpoint(self, text: bytes, now: int) -> Answer:
        """What a witness answers to the request with the body `text` at `now`, in seconds."""
        try:
            submission = Submission.parse(text)
            body, _ = parse_note(submission.note)
            checkpoint = Checkpoint.parse(body)
        except LedgerError as error:
            return _text(400, str(error))
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            return _text(404, "this log is not known here")
        try:
            open_checkpoint(submission.note, keys)
        except LedgerError as error:
            return _text(403, str(error))
        if submission.old > checkpoint.size:
            return _text(400, "the old size is beyond that of the checkpoint")
        latest = self.latest(checkpoint.origin)
        known, root = (latest.size, latest.root) if latest else (0, empty_root())
        if submission.old != known:
            return _size(known)
        if checkpoint.size == known and checkpoint.root != root:
            return _size(known)
        if not verify_consistency(known, root, checkpoint.size, checkpoint.root, submission.proof):
            return _text(422, f"this is not a tree that grew out of the one of {known} leaves")
        line = self._signer.sign(body, now).text()
        self._keep(checkpoint.origin, f"{body}\n{line}".encode())
        return Answer(200, TEXT_TYPE, line.encode())


def _text(status: int, message: str) -> Answer:
    return Answer(status, TEXT_TYPE, f"{message}\n".encode())


def _size(size: int) -> Answer:
    return Answer(409, SIZE_TYPE, f"{size}\n".encode())
