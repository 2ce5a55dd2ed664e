"""Makes the archive of a period."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import msgspec

from pangate.audit.export.container import Writer
from pangate.audit.holds import HOLDS, text_of
from pangate.audit.reader import ANCHORS, PUBLIC_KEYS, Ledger
from pangate.audit.tombstones import TOMBSTONES, tombstones
from pangate.audit.verify.claims import Claims
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.letters import letters
from pangate.ledger.note import Signer, Verifier, parse_note
from pangate.ledger.proof import consistency_proof
from pangate.ledger.statement import EXPORT, sign
from pangate.ledger.tiles import WIDTH
from pangate.ledger.tree import Frontier, leaf_hash

FORMAT = 1

README = """\
# The record of {origin}, events {first} to {last}

From {since} to {until} (UTC). The log had {size} events when this was made, at {made} by {by}.

`events.jsonl` has the events, a line each; `files/` what they name: recordings of what agents were sent
(zstd) and texts that were too long for an event. To check that nothing of it was changed, in this directory:

    python verify.py PUBLIC_KEYS                 # the log's public keys, from where you keep them
    python verify.py PUBLIC_KEYS ARCHIVE         # the archive's own bytes too

It needs Python 3.11 and the package `cryptography`, and nothing of pangate. Take the page from somebody whom
you trust, not from here, if you do not know where the archive was. `pangate audit verify ARCHIVE --key
PUBLIC_KEYS` does the same, and looks at what anchors have seen.
"""


class _Event(msgspec.Struct, gc=False):
    time: str


_DECODER = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class Period:
    """Leaves from `first` to before `end`; `gone` are those of them that were retired, as ranges."""

    first: int
    end: int
    gone: tuple[tuple[int, int], ...]


def export(
    directory: Path,
    verifiers: Sequence[Verifier],
    signer: Signer,
    since: str,
    until: str,
    out: Path,
    by: str,
    now: datetime,
) -> Period:
    """Write the archive of the sealed events from `since` to before `until` to the new file `out`.
    LedgerError when there are none, and when they are not what was signed: then there is no archive."""
    ledger = Ledger(directory)
    if signer.verifier.name != ledger.checkpoint().origin:
        raise LedgerError(f"the key is of {signer.verifier.name}, and the ledger of another log")
    period = _period(ledger, verifiers, since, until)
    writer = Writer(out)
    try:
        _Export(ledger, period, writer).all(signer, since, until, by, now)
    except BaseException:
        writer.drop()
        raise
    return period


def _period(ledger: Ledger, verifiers: Sequence[Verifier], since: str, until: str) -> Period:
    buried = {
        number: one
        for one in tombstones(ledger.directory, ledger.checkpoint().origin, verifiers)
        for number in one.bundles
    }
    first, end = ledger.size, 0
    gone: list[tuple[int, int]] = []
    for number in range((ledger.size + WIDTH - 1) // WIDTH):
        begin = number * WIDTH
        if number in buried:
            one = buried[number]
            if one.newest >= since and one.oldest < until:
                first, end = min(first, begin), max(end, begin + WIDTH)
            gone.append((begin, begin + WIDTH))
            continue
        for index, leaf in enumerate(ledger.bundle(number), begin):
            if since <= _DECODER.decode(leaf).time < until:
                first, end = min(first, index), max(end, index + 1)
    if first >= end:
        raise LedgerError(f"no event from {since} to {until} is sealed")
    return Period(first, end, tuple(item for item in gone if first <= item[0] < end))


class _Export:
    def __init__(self, ledger: Ledger, period: Period, writer: Writer) -> None:
        self._ledger, self._period, self._writer = ledger, period, writer
        self._files: dict[str, tuple[int, str]] = {}
        self._claims = Claims()
        self._tree: list[dict[str, Any]] = []

    def all(self, signer: Signer, since: str, until: str, by: str, now: datetime) -> None:
        ledger, period = self._ledger, self._period
        found = ledger.checkpoint()
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "origin": found.origin,
            "from": since,
            "until": until,
            "first": period.first,
            "end": period.end,
            "retired": sum(end - first for first, end in period.gone),
            "size": found.size,
            "root": letters(found.root),
            "made": text_of(now),
            "by": by,
        }
        readme = README.format(
            **{**manifest, "first": period.first + 1, "last": period.end, "since": since}
        )
        script = Path(__file__).with_name("verify_archive.py").read_bytes()
        self._add_bytes("README.md", readme.encode())
        self._add_bytes("verify.py", script)
        self._add_bytes("keys.pub", ledger.read(PUBLIC_KEYS))
        self._add_bytes("checkpoint", ledger.checkpoint_note())
        with tempfile.TemporaryFile() as events:
            self._events(events)
            size = events.tell()
            events.seek(0)
            self._files["events.jsonl"] = self._writer.add("events.jsonl", events, size)
        self._add_bytes("tree.json", _json(self._tree))
        self._beside()
        self._named()
        manifest["files"] = {name: list(item) for name, item in sorted(self._files.items())}
        data = _json(manifest)
        values = {
            "origin": found.origin,
            "bytes": len(data),
            "digest": letters(sha256(data).digest()),
        }
        self._writer.add_bytes("manifest.json", data)
        self._writer.add_bytes("manifest.note", sign(EXPORT, values, signer))
        self._writer.seal(signer)

    def _add_bytes(self, name: str, data: bytes) -> None:
        self._files[name] = self._writer.add_bytes(name, data)

    # The tree

    def _events(self, target: IO[bytes]) -> None:
        """The events, and what is beside them. It is put together once, to see that it is what was signed."""
        ledger, period = self._ledger, self._period
        frontier = Frontier()
        self._hashes(frontier, 0, period.first)
        at = period.first
        for first, end in (*period.gone, (period.end, period.end)):
            if at < first:
                self._tree.append({"events": first - at})
                for sequence, leaf in enumerate(ledger.leaves(at, first - at), at + 1):
                    frontier.append(leaf_hash(leaf))
                    self._claims.take(leaf, sequence)
                    target.write(leaf + b"\n")
            self._hashes(frontier, first, end)
            at = end
        self._hashes(frontier, period.end, ledger.size)
        if frontier.root() != ledger.checkpoint().root:
            raise LedgerError(
                "the events are not what was signed; see what `pangate audit verify` says"
            )

    def _hashes(self, frontier: Frontier, first: int, end: int) -> None:
        for height, index in subtrees(first, end):
            found = self._ledger.hash(height, index)
            frontier.append_whole(found, height)
            self._tree.append({"height": height, "hash": letters(found)})

    # Beside it

    def _beside(self) -> None:
        directory, own = self._ledger.directory, self._ledger.checkpoint()
        proofs: dict[str, list[str]] = {}
        for path in sorted((directory / ANCHORS).rglob("*")):
            if path.suffix not in (".checkpoint", ".tsr") or not path.is_file():
                continue
            name, data = path.relative_to(directory).as_posix(), path.read_bytes()
            if path.suffix == ".tsr":
                # what is stamped sorts before it
                if f"{name.removesuffix('.tsr')}.checkpoint" not in proofs:
                    continue
            else:
                try:
                    seen = Checkpoint.parse(parse_note(data)[0])
                except LedgerError:
                    continue
                if seen.origin != own.origin or seen.size > own.size:
                    continue  # it was sealed since
                proof = consistency_proof(self._ledger.hash, seen.size, own.size)
                proofs[name] = [base64.b64encode(item).decode() for item in proof]
            self._add_bytes(name, data)
        self._add_bytes("consistency.json", _json(proofs))
        for path in sorted((directory / TOMBSTONES).glob("*")):
            if path.suffix in (".note", ".files"):
                self._add_bytes(f"{TOMBSTONES}/{path.name}", path.read_bytes())
        if (directory / HOLDS).exists():
            self._add_bytes(HOLDS, (directory / HOLDS).read_bytes())

    def _named(self) -> None:
        directory = self._ledger.directory
        for where, wrong, sequence in self._claims.check(directory):
            raise LedgerError(
                f"{where}, which the event {sequence} names, {wrong}; see what `pangate audit "
                "verify` says"
            )
        for name in sorted(self._claims.files()):
            path = directory / name
            if not path.exists():
                path = path.with_suffix(".open")  # the session goes on
            with path.open("rb") as file:
                size = path.stat().st_size
                self._files[f"files/{name}"] = self._writer.add(f"files/{name}", file, size)


def subtrees(first: int, end: int) -> Iterator[tuple[int, int]]:
    """(height, index) of the largest whole subtrees that the leaves from `first` to before `end` make."""
    while first < end:
        height = (end - first).bit_length() - 1
        if first:
            height = min(height, (first & -first).bit_length() - 1)
        yield height, first >> height
        first += 1 << height


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"
