"""What was retired from a ledger, as its tombstones say. They are read here; `retention.py` makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pangate.errors import LedgerError
from pangate.ledger.letters import letters
from pangate.ledger.note import Verifier
from pangate.ledger.statement import TOMBSTONE, number, open_statement
from pangate.ledger.tiles import TILE_HEIGHT, WIDTH
from pangate.ledger.tree import Frontier, ReadHash

TOMBSTONES = "tombstones"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The leaves from `first` to before `end` were taken away. `tree` is the root over them, in letters;
    `files` went with them. `holds` steps were in the file of holds then, the last with the digest `held`."""

    name: str
    first: int
    end: int
    tree: str
    oldest: str
    newest: str
    files: tuple[str, ...]
    holds: int
    held: str
    keep_days: int
    time: str
    by: str

    @property
    def bundles(self) -> range:
        """The numbers of the bundles that are gone."""
        return range(self.first // WIDTH, self.end // WIDTH)


def open_tombstone(path: Path, origin: str, verifiers: Sequence[Verifier]) -> Tombstone:
    """The tombstone in the file at `path`, with the list of files beside it. LedgerError when it is not one
    that this log has signed."""
    try:
        note = path.read_bytes()
        listed = path.with_suffix(".files").read_bytes()
    except OSError as error:
        raise LedgerError(f"cannot be read: {error.strerror}") from None
    values = open_statement(TOMBSTONE, note, verifiers)
    first, end = number(values, "first"), number(values, "end")
    if values["origin"] != origin:
        raise LedgerError(f"is of {values['origin']}, and the ledger is of {origin}")
    if first % WIDTH or end % WIDTH or first >= end:
        raise LedgerError("is not over whole bundles")
    if letters(hashlib.sha256(listed).digest()) != values["list"]:
        raise LedgerError("has another list of files than was signed")
    try:
        files = tuple(line.split(" ", 2)[2] for line in listed.decode().splitlines())
    except (UnicodeDecodeError, IndexError):
        raise LedgerError("has a list of files that cannot be read") from None
    return Tombstone(
        path.name,
        first,
        end,
        values["tree"],
        values["oldest"],
        values["newest"],
        files,
        number(values, "holds"),
        values["held"],
        number(values, "keep_days"),
        values["time"],
        values["by"],
    )


def tombstones(directory: Path, origin: str, verifiers: Sequence[Verifier]) -> list[Tombstone]:
    """All of a ledger, by their place. LedgerError when one does not hold."""
    found = []
    for path in sorted((directory / TOMBSTONES).glob("*.note")):
        try:
            found.append(open_tombstone(path, origin, verifiers))
        except LedgerError as error:
            raise LedgerError(f"{TOMBSTONES}/{path.name} {error}") from None
    return found


def range_root(read: ReadHash, first: int, end: int) -> bytes:
    """Root over leaves of whole bundles, as if they were a tree of their own."""
    frontier = Frontier()
    for bundle in range(first // WIDTH, end // WIDTH):
        frontier.append_whole(read(TILE_HEIGHT, bundle), TILE_HEIGHT)
    return frontier.root()
