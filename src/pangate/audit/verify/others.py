"""What others have seen of a ledger: is it the beginning of what stands here?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cryptography.x509 import Certificate

from pangate.audit.anchors.evidence import Evidence, notes_in, stamped
from pangate.audit.reader import ANCHORS, CHECKPOINT
from pangate.audit.verify.report import Seen
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint, open_checkpoint
from pangate.ledger.note import Signature, parse_note
from pangate.ledger.tiles import TILE_HEIGHT, WIDTH
from pangate.ledger.tree import Frontier

if TYPE_CHECKING:
    from pangate.audit.verify.run import Run

MAX_LOGGED = 1 << 20
"""Different checkpoints that are taken from one log."""


class _Logged(NamedTuple):
    """A checkpoint in a log, nothing of which is verified."""

    checkpoint: Checkpoint
    note: bytes
    line: int


class Others:
    """Compares with a `run`; what is found is in its report."""

    def __init__(
        self,
        run: Run,
        evidence: Sequence[Evidence],
        logs: Sequence[Path],
        authorities: Sequence[Certificate],
    ) -> None:
        self._run = run
        self._evidence = evidence
        self._logs = logs
        self._authorities = authorities

    def signed(self, signed: Sequence[Signature]) -> None:
        """The ledger's own checkpoint has these signatures."""
        self._seen(Evidence(CHECKPOINT, b""), self._run.checkpoint.size, signed)

    def lost(self) -> None:
        """There is no checkpoint here: whoever has one has seen more."""
        for item in self._evidence:
            opened = self._open(item)
            if opened is not None:
                self._run.find(
                    "rolled back", CHECKPOINT, f"{item.name} has {opened[0].size} events"
                )
        for log in self._logs:
            for line, note in notes_in(log):
                if self._read(note) is not None:
                    self._run.find("rolled back", CHECKPOINT, f"{log} has one in line {line}")
                    break

    def compare(self) -> None:
        """Compare every checkpoint that is known with the tree."""
        evidence = [*self._in_ledger(), *self._evidence]
        logged = [(log, self._logged(log)) for log in self._logs]
        sizes = {found.size for item in evidence if (found := self._read(item.note)) is not None}
        sizes.update(item.checkpoint.size for _, items in logged for item in items)
        roots = self._roots(sizes)
        for item in evidence:
            opened = self._open(item)
            if opened is not None and self._fits(item.name, opened[0], roots):
                self._seen(item, opened[0].size, opened[1])
        for log, items in logged:
            self._compare_log(log, items, roots)

    def _compare_log(self, log: Path, items: Iterable[_Logged], roots: dict[int, bytes]) -> None:
        """Whoever may write to a log may write anything: a checkpoint counts only when it is signed. Of
        those that fit and those of another ledger, one each is enough: the newest, the first, the longest."""
        right: list[_Logged] = []
        wrong: list[_Logged] = []
        longer: list[_Logged] = []
        for item in sorted(items, key=lambda one: one.checkpoint.size):
            size = item.checkpoint.size
            kind = right if roots.get(size) == item.checkpoint.root else wrong
            (longer if size > self._run.checkpoint.size else kind).append(item)
        for candidates in (reversed(longer), wrong, reversed(right)):
            for item in candidates:
                evidence = Evidence(f"{log} line {item.line}", item.note)
                opened = self._open(evidence)
                if opened is None:
                    continue
                if self._fits(evidence.name, opened[0], roots):
                    self._seen(evidence, opened[0].size, opened[1])
                break

    def _fits(self, name: str, checkpoint: Checkpoint, roots: dict[int, bytes]) -> bool:
        run, own = self._run, self._run.checkpoint
        if checkpoint.origin != own.origin:
            run.find(
                "anchor", name, f"is of {checkpoint.origin}, and the ledger is of {own.origin}"
            )
        elif checkpoint.size > own.size:
            run.find(
                "rolled back",
                CHECKPOINT,
                f"it has {own.size} events, and {name} has seen {checkpoint.size}: "
                f"the sequences from {own.size + 1} on were taken away",
                own.size + 1,
            )
        elif roots[checkpoint.size] != checkpoint.root:
            run.find(
                "forked",
                name,
                f"has seen another ledger of {checkpoint.size} events: something up to that "
                "sequence was changed and signed again",
                checkpoint.size,
            )
        else:
            return True
        return False

    def _seen(self, item: Evidence, size: int, signed: Sequence[Signature]) -> None:
        others = [one for one in signed if one.time is not None]
        who = (*item.who, *(one.verifier.name for one in others))
        # What lies in the ledger is somebody else's only by a cosignature or a stamp.
        if who or not (item.name == CHECKPOINT or item.name.startswith(f"{ANCHORS}/")):
            times = [
                time for time in (item.time, *(one.time for one in others)) if time is not None
            ]
            self._run.report.seen.append(Seen(item.name, size, who, max(times, default=None)))

    def _open(self, item: Evidence) -> tuple[Checkpoint, tuple[Signature, ...]] | None:
        problem = item.problem
        if not problem:
            try:
                return open_checkpoint(item.note, self._run.verifiers)
            except LedgerError as error:
                problem = str(error)
        self._run.find("anchor", item.name, f"cannot be compared with: {problem}")
        return None

    def _in_ledger(self) -> list[Evidence]:
        """Checkpoints that witnesses have cosigned, and those that were stamped, kept in the ledger."""
        found = []
        folder = self._run.directory / ANCHORS
        for file in sorted(folder.glob("*.checkpoint")):
            try:
                found.append(Evidence(f"{ANCHORS}/{file.name}", file.read_bytes()))
            except OSError as error:
                self._run.find(
                    "anchor", f"{ANCHORS}/{file.name}", f"cannot be read: {error.strerror}"
                )
        if self._authorities:
            for place in sorted({file.parent for file in folder.glob("*/*.tsr")}):
                try:
                    found += [
                        item._replace(name=f"{ANCHORS}/{item.name}")
                        for item in stamped(place, self._authorities)
                    ]
                except LedgerError as error:
                    self._run.find("anchor", f"{ANCHORS}/{place.name}", str(error))
        return found

    def _logged(self, log: Path) -> list[_Logged]:
        """The different checkpoints of this ledger in a log, which may hold those of others."""
        found: dict[tuple[int, bytes], _Logged] = {}
        for line, note in notes_in(log):
            checkpoint = self._read(note)
            if checkpoint is None or checkpoint.origin != self._run.checkpoint.origin:
                continue
            key = checkpoint.size, checkpoint.root
            if key not in found and len(found) == MAX_LOGGED:
                raise LedgerError(f"{log} has more than {MAX_LOGGED} checkpoints; split it")
            found.setdefault(key, _Logged(checkpoint, note, line))
        if not found:
            self._run.find("anchor", str(log), "has no checkpoint of this ledger")
        return list(found.values())

    @staticmethod
    def _read(note: bytes) -> Checkpoint | None:
        try:
            return Checkpoint.parse(parse_note(note)[0])
        except LedgerError:
            return None

    def _roots(self, sizes: Iterable[int]) -> dict[int, bytes]:
        """Roots of the trees of these sizes, as they were signed, in one way along the ledger."""
        roots: dict[int, bytes] = {}
        frontier = Frontier()
        for size in sorted(sizes):
            if size > self._run.checkpoint.size:
                break
            full, rest = divmod(size, WIDTH)
            for root in self._run.walk.roots[frontier.size // WIDTH : full]:
                frontier.append_whole(root, TILE_HEIGHT)
            edge = frontier.copy()
            if rest:
                edge.extend(self._run.signed_hashes(full)[:rest])
            roots[size] = edge.root()
        return roots
