"""Seals the record: makes a Merkle log of the lines of its file, and signs checkpoints over it.

What is sealed is on the disk, in the file first and then in the tiles. A line that is not whole yet is
never sealed. Who seals is not who writes: the gateway needs no key, and waits for nothing here."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pangate.audit.anchors import write_all, write_whole
from pangate.audit.lines import lines, sequence_of
from pangate.audit.marks import is_whole, read_mark
from pangate.audit.reader import CHECKPOINT, PUBLIC_KEYS, ROTATIONS, Ledger
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint, open_checkpoint
from pangate.ledger.note import Signer, Verifier
from pangate.ledger.rotation import Rotation, heirs, name_of, rotate
from pangate.ledger.tiles import (
    MAX_LEAF_BYTES,
    TILE_HEIGHT,
    WIDTH,
    encode_bundle,
    entries_path,
    split_tile,
    tile_path,
    tile_widths,
)
from pangate.ledger.tree import Frontier, leaf_hash, whole_root

POSITION = "sealed.json"
"""How far the file was sealed, so that it need not be read from its beginning after a start."""

LOCK = "sealer.lock"
"""Held by who seals."""

LOCK_SECONDS = 10.0
"""How long another sealer is waited for."""

_PIECE = 4 << 20
"""Bytes of the file that are sealed at a time."""

_MOST = 1 << 16
"""Leaves under one checkpoint more than under the one before."""

_ROTATED = b'"code":"key.rotated"'


class Sealer:
    """The ledger in `directory`, which grows by the lines of `journal`, signed by `signer`.

    For one process at a time. Raises LedgerError when the directory holds a ledger that another key signed,
    whose files do not fit, or that is not of this file."""

    def __init__(self, journal: Path, directory: Path, signer: Signer) -> None:
        self._journal, self._directory, self._signer = journal, directory, signer
        self._frontier = Frontier()
        self._leaves: list[bytes] = []
        """Leaves of the bundle that is not full."""
        self._rows: list[list[bytes]] = []
        """By level, the hashes of the tile that is not full."""
        self._new: dict[str, bytes] = {}
        self._offset = 0
        self._signed = 0
        """Events under the newest checkpoint that was written."""
        self._next_signer: Signer | None = None
        self._due = False
        """Whether the event by which the next key takes over is in the tree, and it has not yet."""
        self._rotates_to = ""
        self._rotation = b""
        """What the event has in it by which this one takes over; empty when none is to."""
        self._lock = _lock(directory / LOCK)
        try:
            self.broken_succession = self._succession()
            """Why the key that signs is not one that a former key handed over to; empty when it is."""
            self._publish_key()
            self._fd = self._open(journal)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            if (directory / CHECKPOINT).exists():
                self._go_on()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Events that are sealed."""
        return self._frontier.size

    def close(self) -> None:
        """Let go of the file and of the ledger."""
        if self._fd >= 0:
            os.close(self._fd)
            os.close(self._lock)
            self._fd = -1

    def hand_over(self, signer: Signer) -> Rotation:
        """From the event on that says so, `signer` signs. What the event has to say is in what comes back."""
        if (
            signer.verifier.name != self._signer.verifier.name
            or signer.verifier == self._signer.verifier
        ):
            raise LedgerError(
                f"the key that was to take over is of {signer.verifier.name}, or the one that signs already; "
                f"make another one for {self._signer.verifier.name} with `pangate audit rotate-key`"
            )
        found = rotate(self._signer, signer)
        self._next_signer = signer
        self._rotates_to = name_of(signer.verifier)
        self._rotation = f'"new":"{self._rotates_to}"'.encode()
        return found

    @property
    def signer(self) -> Signer:
        """Who signs now."""
        return self._signer

    def seal(self, *, marked: bool = False) -> Checkpoint | None:
        """Seal every whole line that is there, and when `marked`, only what the one who writes knows to be on
        the disk: the rest it may have to write again. The newest checkpoint, None when nothing was new.

        Raises LedgerError when a line is not the next event, and when something cannot be read or
        written: then what was sealed before stays."""
        # what could not be written the last time is still to be
        checkpoint = self._sign() if self._new or self._signed < self.size or self._due else None
        while leaves := self._next(marked=marked):
            self._extend(leaves)
            self._due = self._due or bool(self._rotation and any(map(self._hands_over, leaves)))
            checkpoint = self._sign()
        return checkpoint

    def _sign(self) -> Checkpoint:
        """Store what is new. When a key hands over, both sign, and from then on the next one alone."""
        if not self._due:
            return self._store()
        checkpoint = self._store(self._next_signer)
        self._taken_over()
        self._due = False
        return checkpoint

    def _hands_over(self, leaf: bytes) -> bool:
        """Whether it is the event by which the next key takes over. Others may have its words in their
        data."""
        if self._rotation not in leaf or _ROTATED not in leaf:
            return False
        event = json.loads(leaf)
        return bool(event["code"] == "key.rotated" and event["data"].get("new") == self._rotates_to)

    def _taken_over(self) -> None:
        """The next key has signed the newest checkpoint too; from now on it alone does."""
        assert self._next_signer is not None
        path = self._directory / ROTATIONS
        found = rotate(self._signer, self._next_signer)
        before = path.read_bytes() if path.exists() else b""
        write_whole(path, before + f"{found.text()}\n".encode())
        self._signer, self._next_signer, self._rotation = self._next_signer, None, b""
        self._publish_key()

    # The file

    @staticmethod
    def _open(journal: Path) -> int:
        try:
            return os.open(journal, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise LedgerError(f"{journal} cannot be read: {error.strerror}") from None

    def _next(self, *, marked: bool) -> list[bytes]:
        """The next whole lines, which are on the disk when this returns."""
        try:
            mark = read_mark(self._journal) if marked else None
            if mark is None:
                os.fdatasync(self._fd)
            data = os.pread(self._fd, _PIECE, self._offset)
            while b"\n" not in data and len(data) >= _PIECE:
                more = os.pread(self._fd, _PIECE, self._offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise LedgerError(f"{self._journal} cannot be read: {error.strerror}") from None
        most = len(data) if mark is None else max(0, mark.size - self._offset)
        end = data.rfind(b"\n", 0, most) + 1
        if not end:
            return []
        lines = data[: end - 1].split(b"\n")[:_MOST]
        for number, line in enumerate(lines, self.size + 1):
            if len(line) > MAX_LEAF_BYTES:
                raise LedgerError(
                    f"the event {number} has {len(line)} bytes and a leaf {MAX_LEAF_BYTES} at the most: it "
                    "was recorded before audit.seal_seconds was set; begin a new file (audit.path)"
                )
            if sequence_of(line) != number or not is_whole(line):
                raise LedgerError(
                    f"{self._journal} does not go on with the event {number} at byte {self._offset}: "
                    "somebody else wrote there"
                )
        self._offset += sum(map(len, lines)) + len(lines)
        return lines

    def _go_on(self) -> None:
        """Take up the ledger that is there."""
        verifiers = self._published()
        ledger = Ledger(self._directory)
        checkpoint, _ = open_checkpoint(ledger.checkpoint_note(), verifiers)
        size = checkpoint.size
        self._frontier = Frontier.of(ledger.hash, size)
        if self._frontier.root() != checkpoint.root:
            raise LedgerError(
                f"the tiles in {self._directory} are not the tree that was signed; see what "
                "`pangate audit verify` says"
            )
        for level, full, partial in tile_widths(size):
            self._rows.append(split_tile(ledger.tile(level, full, partial)) if partial else [])
            if level == 0 and partial:
                self._leaves = ledger.bundle(full, partial)
        self._offset = self._sealed_until(ledger, size)
        self._signed = size

    def _sealed_until(self, ledger: Ledger, size: int) -> int:
        """Where in the file the sealed lines end. LedgerError when they are not there."""
        try:
            kept = json.loads((self._directory / POSITION).read_bytes())
            if kept["size"] == size and self._line_before(int(kept["offset"])) == ledger.leaf(
                size - 1
            ):
                return int(kept["offset"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        end = before = 0
        for start, line in lines(self._fd):
            # where lines were retired there are zeros
            number = before + 1 if start == end else sequence_of(line)
            if number > size:
                break
            if number <= before or leaf_hash(line) != ledger.hash(0, number - 1):
                raise LedgerError(
                    f"line {number} of {self._journal} is not the event that was sealed"
                )
            before, end = number, start + len(line) + 1
            if number == size:
                return end
        raise LedgerError(
            f"{self._journal} does not have the {size} events that were sealed; keep both as evidence "
            "and begin a new record"
        )

    def _line_before(self, offset: int) -> bytes:
        start = max(0, offset - 0x1_0001)
        data = os.pread(self._fd, offset - start, start)
        if len(data) != offset - start or not data.endswith(b"\n"):
            return b""
        return data[:-1].rpartition(b"\n")[2]

    # The tree

    def _extend(self, leaves: Sequence[bytes]) -> None:
        """Add leaves, whole bundles by the root that their tile has anyway."""
        at = min(-len(self._leaves) % WIDTH, len(leaves))
        for leaf in leaves[:at]:
            self._append(leaf)
        while len(leaves) - at >= WIDTH:
            bundle = leaves[at : at + WIDTH]
            hashes = [leaf_hash(leaf) for leaf in bundle]
            index, root = self._frontier.size // WIDTH, whole_root(hashes)
            self._frontier.append_whole(root, TILE_HEIGHT)
            self._new[entries_path(index)] = encode_bundle(bundle)
            self._new[tile_path(0, index)] = b"".join(hashes)
            self._join(root, 1, index // WIDTH)
            at += WIDTH
        for leaf in leaves[at:]:
            self._append(leaf)

    def _append(self, leaf: bytes) -> None:
        digest = leaf_hash(leaf)
        index = self._frontier.size // WIDTH
        self._frontier.append(digest)
        self._leaves.append(leaf)
        if len(self._leaves) == WIDTH:
            self._new[entries_path(index)] = encode_bundle(self._leaves)
            self._leaves = []
        self._join(digest, 0, index)

    def _join(self, digest: bytes, level: int, index: int) -> None:
        """Put a hash into the tile `index` of a level, and what becomes of it into those above."""
        while True:
            while level >= len(self._rows):
                self._rows.append([])
            row = self._rows[level]
            row.append(digest)
            if len(row) < WIDTH:
                return
            self._new[tile_path(level, index)] = b"".join(row)
            self._rows[level] = []
            digest = whole_root(row)
            index //= WIDTH
            level += 1

    def _store(self, also: Signer | None = None) -> Checkpoint:
        """Write the tiles, then the checkpoint over them, which `also` signs too."""
        size = self._frontier.size
        parts: dict[str, bytes] = {}
        for level, full, partial in tile_widths(size):
            if partial:
                parts[tile_path(level, full, partial)] = b"".join(self._rows[level])
                if level == 0:
                    parts[entries_path(full, partial)] = encode_bundle(self._leaves)
        # of tiles that are not full, those of upper levels may be there already, and be read
        write_all(self._placed(parts), self._placed(self._new))
        self._new = {}
        checkpoint = Checkpoint(self._signer.verifier.name, size, self._frontier.root())
        note = self._signer.sign_note(checkpoint.body())
        if also is not None:
            note += also.sign(checkpoint.body()).text()
        write_whole(self._directory / CHECKPOINT, note.encode())
        self._signed = size
        position = json.dumps({"offset": self._offset, "size": size})
        write_whole(self._directory / POSITION, position.encode())
        return checkpoint

    def _placed(self, files: Mapping[str, bytes]) -> dict[Path, bytes]:
        """The same by their places, whose directories are there."""
        placed = {self._directory / path: data for path, data in files.items()}
        for folder in {path.parent for path in placed}:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return placed

    # Keys

    def _published(self) -> list[Verifier]:
        try:
            lines = (self._directory / PUBLIC_KEYS).read_text().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LedgerError(f"{PUBLIC_KEYS} cannot be read: {error.strerror}") from None
        return [Verifier.parse(line) for line in lines]

    def _succession(self) -> str:
        """What is wrong when a key signs that nobody handed over to: who verifies with the first one is told
        of a forgery. It signs all the same, since a record that nobody signs shows less."""
        keys, own, path = self._published(), self._signer.verifier, self._directory / ROTATIONS
        if not keys or own in keys:
            return ""
        whose = f"the ledger in {self._directory} was signed with {keys[-1].text()}"
        try:
            rotations = path.read_text().splitlines() if path.exists() else []
            if own in heirs(keys, map(Rotation.parse, rotations)):
                return ""
        except (LedgerError, OSError, ValueError) as wrong:
            return (
                f"{whose}, and whether that has handed over to {own.text()} cannot be read: {path}: {wrong}; "
                "put that file back from a copy of the ledger: verify needs it too"
            )
        return (
            f"{whose}, which has not handed over "
            f"to {own.text()}: verify will say so to all who know the former key alone. Put that one back, "
            "and `pangate audit rotate-key` changes it; if it is lost, keep both public keys"
        )

    def _publish_key(self) -> None:
        """Put the key that signs from now on into the list of those that ever did."""
        keys = self._published()
        own = self._signer.verifier
        if any(key.name != own.name for key in keys):
            raise LedgerError(
                f"the ledger in {self._directory} is of {keys[0].name} and the key of {own.name}; "
                "a key is for one ledger (audit.origin)"
            )
        if own not in keys:
            text = "".join(f"{key.text()}\n" for key in [*keys, own])
            write_whole(self._directory / PUBLIC_KEYS, text.encode())


def _lock(path: Path) -> int:
    """The lock of the ledger. The sealer of a gateway that was killed may have it for as long as it takes to
    seal what is left, so it is waited for. LedgerError when that is too long."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LedgerError(f"{path} cannot be opened: {error.strerror}") from None
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                os.close(fd)
                raise LedgerError(
                    f"the ledger in {path.parent} is sealed by another process; see which has {path} open"
                ) from None
            time.sleep(0.05)
        else:
            return fd
