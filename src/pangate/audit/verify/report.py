"""What a verification says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

KINDS: Mapping[str, str] = {
    "key": "the checkpoint is not signed by a key that was given",
    "checkpoint": "the checkpoint is missing, cannot be read, or its signature does not hold",
    "tree": "the leaves and the tiles are not the tree that was signed",
    "edited": "a leaf was changed",
    "deleted": "a leaf was taken out",
    "inserted": "a leaf was put in",
    "moved": "a leaf stands in another place",
    "bundle": "an entry bundle is missing or has not the form",
    "tile": "a tile is missing or was changed",
    "rolled back": "somebody has seen a longer ledger than this",
    "forked": "somebody has seen another ledger than this",
    "anchor": "a checkpoint from elsewhere cannot be used",
    "event": "a leaf is no event, or its sequence is not its place",
    "journal": "the file that events are written to first is torn, has a gap, or differs from what is sealed",
    "file": "a recording or a long text is missing or was changed",
    "tombstone": "what says that events were retired does not hold, or had no right to",
    "hold": "the file of legal holds was changed or cut",
    "archive": "an archive is not what was exported",
    "permissions": "others can read or change what they must not",
}
"""What findings are about."""

MAX_FINDINGS = 1000
"""Findings that are kept; further ones are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `where` names a file, with the byte where that is known, or a
    sequence; `sequence` is 0 where it is none."""

    kind: str
    where: str
    message: str
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint that somebody else has, and who: the file it came from and the names on it."""

    name: str
    size: int
    witnesses: tuple[str, ...]
    time: int | None
    """When a witness saw it, in seconds since 1970."""


@dataclass(slots=True)
class Report:
    """What a verification found. The ledger is as it was signed when `findings` is empty; `notices`
    are worth knowing and nothing wrong."""

    directory: str
    origin: str = ""
    size: int = 0
    root: str = ""
    signed_by: tuple[str, ...] = ()
    events: int = 0
    """Events whose content was read: all but those that were retired."""
    retired: int = 0
    tombstones: list[str] = field(default_factory=list)
    """What each of those that hold says."""
    unsealed: int = 0
    """Events in the journal that no checkpoint covers yet."""
    seen: list[Seen] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    """How many more there were than are listed."""
    notices: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def witnessed(self) -> int:
        """Leaves that somebody else's checkpoint covers."""
        return max((item.size for item in self.seen), default=0)

    def as_json(self) -> dict[str, Any]:
        """The report as what JSON can hold."""
        return {**asdict(self), "ok": self.ok, "witnessed": self.witnessed}
