"""Is an archive what was exported? Offline, from public keys alone."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from cryptography.x509 import Certificate

from pangate.audit.anchors.evidence import Evidence, stamped
from pangate.audit.export.container import check_seal, unpack
from pangate.audit.recorded import digest_of
from pangate.audit.verify import Report, Seen
from pangate.audit.verify.claims import Claims
from pangate.audit.verify.report import Finding
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint, open_checkpoint
from pangate.ledger.letters import from_letters, letters
from pangate.ledger.note import Verifier, decode_base64
from pangate.ledger.proof import verify_consistency
from pangate.ledger.statement import EXPORT, number, open_statement
from pangate.ledger.tree import HASH_BYTES, Frontier, leaf_hash

KEYS = "keys.pub"

VERSIONS = (2, 3)
"""Of events."""

MAX_TEXT = 64 << 20
"""Bytes of a manifest, a tree and the like."""


class _Event(msgspec.Struct, gc=False):
    v: int
    sequence: int


_DECODER = msgspec.json.Decoder(_Event)


def verify_archive(
    path: Path,
    verifiers: Sequence[Verifier],
    evidence: Sequence[Evidence] = (),
    authorities: Sequence[Certificate] = (),
) -> Report:
    """Verify the archive at `path`. Without `verifiers` it is verified with the keys that are in it, which
    shows only that it fits together. `evidence` are checkpoints that were kept elsewhere."""
    report = Report(str(path))
    with tempfile.TemporaryDirectory(prefix="pangate-archive-") as folder:
        try:
            if verifiers:
                check_seal(path, verifiers)
            unpack(path, Path(folder))
            _Check(Path(folder), report, verifiers, evidence, authorities).all(path)
        except LedgerError as error:
            report.findings.append(Finding("archive", path.name, str(error)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            report.findings.append(Finding("archive", path.name, f"cannot be read: {error!r}"))
    return report


class _Check:
    def __init__(
        self,
        directory: Path,
        report: Report,
        verifiers: Sequence[Verifier],
        evidence: Sequence[Evidence],
        authorities: Sequence[Certificate],
    ) -> None:
        self._directory, self._report = directory, report
        self._verifiers = list(verifiers)
        self._evidence, self._authorities = evidence, authorities
        self._claims = Claims()

    def all(self, path: Path) -> None:
        """Everything. Raises LedgerError at the first thing that is wrong: what is behind it says nothing."""
        if not self._verifiers:
            lines = self._read(KEYS).decode().splitlines()
            self._verifiers = [Verifier.parse(line) for line in lines]
            check_seal(path, self._verifiers)
            self._report.notices.append(
                "verified with the keys that lie in the archive: give those that you keep with --key, to "
                "know whose it is"
            )
        manifest = self._manifest()
        self._files(manifest)
        checkpoint, signatures = open_checkpoint(self._read("checkpoint"), self._verifiers)
        if checkpoint.origin != manifest["origin"]:
            raise LedgerError("the checkpoint is of another log than the manifest")
        report = self._report
        report.origin, report.size = checkpoint.origin, checkpoint.size
        report.root = checkpoint.root.hex()
        report.retired = int(manifest["retired"])
        report.signed_by = tuple(
            f"{one.verifier.name}+{one.verifier.key_id:08x}" for one in signatures
        )
        self._tree(manifest, checkpoint)
        for where, wrong, _ in self._claims.check(self._directory / "files"):
            raise LedgerError(f"{where} {wrong}")
        report.notices.append(
            f"events {int(manifest['first']) + 1} to {manifest['end']}, {manifest['from']} to "
            f"{manifest['until']}, exported at {manifest['made']} by {manifest['by']}"
        )
        self._anchors(checkpoint)

    def _read(self, name: str) -> bytes:
        path = self._directory / name
        if path.stat().st_size > MAX_TEXT:
            raise LedgerError(f"{name} has more than {MAX_TEXT} bytes")
        return path.read_bytes()

    def _manifest(self) -> dict[str, Any]:
        data = self._read("manifest.json")
        values = open_statement(EXPORT, self._read("manifest.note"), self._verifiers)
        if number(values, "bytes") != len(data) or values["digest"] != letters(
            sha256(data).digest()
        ):
            raise LedgerError("manifest.json is not what was signed")
        found = json.loads(data)
        if found["format"] != 1 or found["origin"] != values["origin"]:
            raise LedgerError("the manifest is of another format, or of another log")
        manifest: dict[str, Any] = found
        return manifest

    def _files(self, manifest: dict[str, Any]) -> None:
        there = {
            (Path(folder) / name).relative_to(self._directory).as_posix()
            for folder, _, names in os.walk(self._directory)
            for name in names
        }
        other = there ^ {*manifest["files"], "manifest.json", "manifest.note"}
        if other:
            raise LedgerError(f"{min(other)} is missing, or was put in")
        for name, (size, digest) in manifest["files"].items():
            if digest_of(self._directory / name) != (digest, size):
                raise LedgerError(f"{name} was changed")

    def _tree(self, manifest: dict[str, Any], checkpoint: Checkpoint) -> None:
        """From the events and what is beside them to the root that is signed."""
        frontier = Frontier()
        begun = False
        with (self._directory / "events.jsonl").open("rb") as events:
            for item in json.loads(self._read("tree.json")):
                if "hash" in item:
                    digest = from_letters(item["hash"])
                    if len(digest) != HASH_BYTES or not 0 <= item["height"] < 63:
                        raise LedgerError("tree.json has something that is no hash")
                    frontier.append_whole(digest, item["height"])
                for _ in range(item.get("events", 0)):
                    begun = begun or self._begins(frontier.size, manifest)
                    self._event(events.readline(), frontier)
            if events.read(1):
                raise LedgerError("events.jsonl has more events than the tree")
        if frontier.size != checkpoint.size or frontier.root() != checkpoint.root:
            raise LedgerError(
                "the events and the hashes beside them are not the tree that was signed"
            )

    @staticmethod
    def _begins(size: int, manifest: dict[str, Any]) -> bool:
        if not manifest["first"] <= size < manifest["end"]:
            raise LedgerError("the events are others than the manifest says")
        return True

    def _event(self, line: bytes, frontier: Frontier) -> None:
        leaf = line.removesuffix(b"\n")
        frontier.append(leaf_hash(leaf))
        try:
            event = _DECODER.decode(leaf)
        except msgspec.DecodeError as error:
            raise LedgerError(f"the event {frontier.size} is none: {error}") from None
        if event.sequence != frontier.size or event.v not in VERSIONS:
            raise LedgerError(f"the event {frontier.size} is another: {event.sequence}")
        self._claims.take(leaf, event.sequence)
        self._report.events += 1

    def _anchors(self, checkpoint: Checkpoint) -> None:
        """What was anchored grew into what is here."""
        for name, lines in json.loads(self._read("consistency.json")).items():
            note = self._read(name)
            try:
                seen, signatures = open_checkpoint(note, self._verifiers)
            except LedgerError as error:
                self._report.notices.append(f"{name} counts for nothing: {error}")
                continue
            proof = [decode_base64(line) for line in lines]
            if seen.origin != checkpoint.origin or not verify_consistency(
                seen.size, seen.root, checkpoint.size, checkpoint.root, proof
            ):
                raise LedgerError(f"{name} has seen another ledger: it was forked")
            times = [one.time for one in signatures if one.time is not None]
            who = tuple(one.verifier.name for one in signatures if one.time is not None)
            if who:
                self._report.seen.append(Seen(name, seen.size, who, max(times)))
        if self._authorities:
            stamps = {file.parent for file in (self._directory / "anchors").rglob("*.tsr")}
            for place in sorted(stamps):
                for item in stamped(place, self._authorities):
                    seen, _ = open_checkpoint(item.note, self._verifiers)
                    if item.problem:
                        raise LedgerError(f"{item.name}: {item.problem}")
                    self._report.seen.append(Seen(item.name, seen.size, item.who, item.time))
        for item in self._evidence:
            seen, _ = open_checkpoint(item.note, self._verifiers)
            # of a size between no root can be made of a period's events alone
            if seen.size == checkpoint.size:
                if seen.root != checkpoint.root:
                    raise LedgerError(f"{item.name} has seen another ledger: it was forked")
                self._report.seen.append(Seen(item.name, seen.size, item.who, item.time))
            else:
                self._report.notices.append(
                    f"{item.name} has seen {seen.size} events and the archive is of {checkpoint.size}: they "
                    "cannot be compared"
                )
