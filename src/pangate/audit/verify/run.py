"""One verification, step by step."""

from __future__ import annotations

import stat
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from cryptography.x509 import Certificate

from pangate.audit.anchors.evidence import Evidence
from pangate.audit.reader import CHECKPOINT, JOURNAL, PUBLIC_KEYS, ROTATIONS, Ledger
from pangate.audit.verify import written
from pangate.audit.verify.diagnosis import Diagnosis, edge_root, edges_of, levels_of
from pangate.audit.verify.others import Others
from pangate.audit.verify.report import KINDS, MAX_FINDINGS, Finding, Report
from pangate.audit.verify.retired import Retired
from pangate.audit.verify.walk import Progress, Walk, walk_all
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import open_checkpoint
from pangate.ledger.note import UnknownSigner, Verifier
from pangate.ledger.records import decode_records
from pangate.ledger.rotation import Rotation, heirs, name_of
from pangate.ledger.tiles import (
    TILE_HEIGHT,
    WIDTH,
    entries_path,
    parse_path,
    split_tile,
    tile_path,
    tile_widths,
)
from pangate.ledger.tree import HASH_BYTES, leaf_hash, whole_root

GROWS_SECONDS = 2.0


class Run:
    """Holds what the steps have found so far; `report` is what comes out."""

    def __init__(
        self,
        directory: Path,
        verifiers: Sequence[Verifier],
        checkpoints: Sequence[tuple[str, bytes] | Evidence],
        logs: Sequence[Path],
        roots: Sequence[Certificate],
        progress: Progress | None,
        processes: int,
    ) -> None:
        self.directory = directory
        self.report = Report(str(directory))
        self.verifiers = list(verifiers)
        self._others = Others(self, [Evidence(*item) for item in checkpoints], logs, roots)
        self._progress = progress
        self._processes = processes

    def all(self, key_file: Path | None) -> None:
        """Everything, in the order in which later steps rest on earlier ones."""
        self._permissions(key_file)
        self._public_keys()
        try:
            self.ledger = Ledger(self.directory)
        except LedgerError as error:
            self.find("checkpoint", CHECKPOINT, str(error))
            self._others.lost()
            return
        self.checkpoint = self.ledger.checkpoint()
        self.walk = Walk(self.ledger, self.checkpoint.size)
        self._signatures()
        self.report.origin = self.checkpoint.origin
        self.report.size = self.checkpoint.size
        self.report.root = self.checkpoint.root.hex()
        self._leaves()
        self._tree()
        self._retired()
        self._handed_over()
        self._others.compare()
        self._leftovers(self._journal())
        self._files()
        if back := self.walk.times_back:
            self.report.notices.append(
                f"the time goes back at {len(back)} events, first at the sequence {back[0]}: the clock "
                "was set"
            )

    def find(self, kind: str, where: str, message: str, sequence: int = 0) -> None:
        """Add a finding."""
        assert kind in KINDS
        if len(self.report.findings) < MAX_FINDINGS:
            self.report.findings.append(Finding(kind, where, message, sequence))
        else:
            self.report.more_findings += 1

    # Keys and checkpoint

    def _permissions(self, key_file: Path | None) -> None:
        for path, what in ((self.directory, "the ledger"), (key_file, "the private key")):
            if path is None:
                continue
            try:
                found = path.lstat()
            except OSError:
                continue
            if found.st_mode & 0o077 and not (path is self.directory and not found.st_mode & 0o027):
                self.find(
                    "permissions",
                    str(path),
                    f"{what} has mode {stat.S_IMODE(found.st_mode):04o}, so that others can read or "
                    f"change it; chmod it to {'0700' if path is self.directory else '0600'}",
                )
            elif path is key_file and not stat.S_ISREG(found.st_mode):
                self.find("permissions", str(path), "the private key is not a regular file")

    def _public_keys(self) -> None:
        own: list[Verifier] = []
        self._rotations: list[Rotation] = []
        try:
            lines = (self.directory / ROTATIONS).read_text().splitlines()
            self._rotations = [Rotation.parse(line) for line in lines]
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError, LedgerError) as error:
            detail = error.strerror if isinstance(error, OSError) else str(error)
            self.find("key", ROTATIONS, f"how keys handed over cannot be read: {detail}")
        for key in heirs(self.verifiers, self._rotations):
            self.verifiers.append(key)
            self.report.notices.append(f"the key {key.text()} was handed over to by the one before")
        try:
            text = (self.directory / PUBLIC_KEYS).read_bytes()
            own = [Verifier.parse(line) for line in text.decode().splitlines()]
        except (OSError, UnicodeDecodeError, LedgerError) as error:
            detail = error.strerror if isinstance(error, OSError) else str(error)
            self.find("key", PUBLIC_KEYS, f"the ledger's own public keys cannot be read: {detail}")
        else:
            if not own or text != "".join(f"{key.text()}\n" for key in own).encode():
                self.find(
                    "key", PUBLIC_KEYS, "it has one key a line and nothing else, and this not"
                )
        if self.verifiers:
            for key in own:
                if key not in self.verifiers:
                    self.report.notices.append(
                        f"{PUBLIC_KEYS} has the key {key.text()}, which was not given to verify with"
                    )
        else:
            self.verifiers = own
            self.report.notices.append(
                "verified with the keys that lie in the ledger: whoever can change the ledger can "
                "change them too; keep a copy elsewhere and give it with --key"
            )
        self._own = own

    def _handed_over(self) -> None:
        """Every rotation is an event too."""
        for rotation in self._rotations:
            if name_of(rotation.new) not in self.walk.claims.rotated:
                self.find("key", ROTATIONS, f"no event says that {rotation.new.text()} took over")

    def _signatures(self) -> None:
        try:
            _, signed = open_checkpoint(self.ledger.checkpoint_note(), self.verifiers)
        except UnknownSigner as error:
            self.find("key", CHECKPOINT, f"{error}: it was signed again with another key")
            return
        except LedgerError as error:
            self.find("checkpoint", CHECKPOINT, str(error))
            return
        names = [item.verifier.name for item in signed]
        if self.checkpoint.origin not in names:
            self.find(
                "key",
                CHECKPOINT,
                f"it is the checkpoint of {self.checkpoint.origin}, which has not signed it",
            )
        self.report.signed_by = tuple(
            f"{item.verifier.name}+{item.verifier.key_id:08x}" for item in signed
        )
        for item in signed:
            if item.verifier.name == self.checkpoint.origin and item.verifier not in self._own:
                self.find("key", PUBLIC_KEYS, f"the key {item.verifier.text()} is not in it")
        self._others.signed(signed)

    def _leaves(self) -> None:
        """Hash every leaf, compare with the tiles of level 0, and read the events."""
        walk_all(self.walk, self._processes, self._progress)
        self.report.events = self.walk.events
        for item in self.walk.findings:
            self.find(item.kind, item.where, item.message, item.sequence)
        self.report.more_findings += self.walk.more_findings

    # The tree

    def _tree(self) -> None:
        """Compare the tree of the leaves with the signed root and with the tiles above level 0; when
        anything is different, tell what was changed."""
        size = self.checkpoint.size
        own = levels_of(self.walk.roots, self.walk.edge)
        wrong = bool(self.walk.differing)
        for level, full, partial in tile_widths(size):
            for index in range(full + bool(partial)) if level else ():
                width = WIDTH if index < full else partial
                tile = self.walk.stored_tile(level, index, width)
                wrong |= tile != b"".join(own[level][index * WIDTH : index * WIDTH + width])
        if wrong or edge_root(edges_of(own, size)) != self.checkpoint.root:
            Diagnosis(self, own).run()

    def _retired(self) -> None:
        size = self.checkpoint.size
        retired = Retired(self)
        for number in self.walk.missing:
            first, end = number * WIDTH, min((number + 1) * WIDTH, size)
            if retired.covers(first, end - 1):
                self.report.retired += end - first
            else:
                self.find(
                    "bundle",
                    entries_path(number, end - first),
                    f"is missing, with the sequences {first + 1} to {end}, and no tombstone says that these "
                    "were retired",
                    first + 1,
                )
        written.compare(self, retired)

    def signed_hashes(self, number: int) -> list[bytes]:
        """The leaf hashes of a bundle, as they were signed; empty when nothing has them."""
        if number >= len(self.walk.roots):
            return self.walk.edge
        data = self.walk.stored_tile(0, number, WIDTH) or b""
        tile = split_tile(data) if len(data) == WIDTH * HASH_BYTES else []
        leaves = [leaf_hash(leaf) for leaf in self.walk.leaves(number, WIDTH) or ()]
        for hashes in (tile, leaves):
            if len(hashes) == WIDTH and whole_root(hashes) == self.walk.roots[number]:
                return hashes
        return []

    # What is not in the tree

    def _journal(self) -> dict[int, bytes]:
        """Compare the journal with what is sealed. Returns the leaves behind the checkpoint."""
        size = self.checkpoint.size
        unsealed: dict[int, bytes] = {}
        try:
            segments = self.ledger.segments()
        except LedgerError as error:
            self.find("journal", JOURNAL, str(error))
            return unsealed
        end = None
        for first, path in segments:
            if end is not None and first != end:
                self.find(
                    "journal",
                    path,
                    f"begins with the sequence {first + 1}, and {end + 1} is next",
                    end + 1,
                )
            try:
                found = decode_records(self.ledger.read(path), first)
            except LedgerError as error:
                self.find("journal", path, str(error), first + 1)
                end = None
                continue
            end = first + len(found.leaves)
            if found.problem:
                self.find("journal", f"{path} byte {found.end}", found.problem, end + 1)
            sealed = max(0, size - first)
            unsealed.update(enumerate(found.leaves[sealed:], first + sealed))
            self._compare_sealed(path, first, found.leaves[:sealed])
        if end is not None and end < size:
            self.find(
                "journal",
                segments[-1][1],
                f"ends with the sequence {end}, and {size} events are sealed: it was cut",
                end + 1,
            )
        if segments and segments[0][0] > size:
            self.find(
                "journal", segments[0][1], f"begins behind the sequence {size}, the last sealed one"
            )
        if unsealed:
            self.report.unsealed = len(unsealed)
            self.report.notices.append(
                f"{len(unsealed)} events from the sequence {min(unsealed) + 1} on are in the journal "
                "and not sealed yet: nothing shows a change of these"
            )
        return unsealed

    def _compare_sealed(self, path: str, first: int, leaves: Sequence[bytes]) -> None:
        for start in range(first // WIDTH, (first + len(leaves) + WIDTH - 1) // WIDTH):
            begin, end = max(first, start * WIDTH), min(first + len(leaves), (start + 1) * WIDTH)
            hashes = self.signed_hashes(start)
            for index in range(begin, end if hashes else begin):
                if leaf_hash(leaves[index - first]) != hashes[index % WIDTH]:
                    self.find(
                        "journal",
                        path,
                        f"the event {index + 1} is not the one that is sealed",
                        index + 1,
                    )

    def _leftovers(self, unsealed: Mapping[int, bytes]) -> None:
        """Tiles and bundles that the checkpoint has no need of: earlier partial ones, and those that
        were written and not signed yet."""
        size = self.checkpoint.size
        needed = {
            path
            for level, full, partial in tile_widths(size)
            for path in (
                *(tile_path(level, index) for index in range(full)),
                *([tile_path(level, full, partial)] if partial else ()),
                *(() if level else map(entries_path, range(full))),
                *([entries_path(full, partial)] if partial and not level else ()),
            )
        }
        for file in sorted((self.directory / "tile").rglob("*")):
            path = file.relative_to(self.directory).as_posix()
            if path in needed or file.is_dir():
                continue
            parsed = parse_path(path)
            if parsed is None:
                self.report.notices.append(f"{path} is no part of the ledger")
                continue
            level, index, width = parsed
            try:
                data = file.read_bytes()
                right = self._expected(level, index, width, unsealed)
            except (OSError, LedgerError):
                right = None
            if right is None or data != right:
                if (index * WIDTH + width) << (TILE_HEIGHT * (level or 0)) > size and self._grows:
                    continue
                self.find(
                    "bundle" if level is None else "tile",
                    path,
                    "holds what neither the checkpoint nor the journal has",
                    index * WIDTH + 1 if not level else 0,
                )

    @cached_property
    def _grows(self) -> bool:
        """Whether somebody seals just now: then what is behind the checkpoint is being written. It is
        waited for once, and what is behind the new one is a matter of the next verification."""
        until = time.monotonic() + GROWS_SECONDS
        while time.monotonic() < until:
            try:
                if Ledger(self.directory).size > self.checkpoint.size:
                    return True
            except LedgerError:
                return False
            time.sleep(0.05)
        return False

    def _expected(
        self, level: int | None, index: int, width: int, unsealed: Mapping[int, bytes]
    ) -> bytes | None:
        """What a tile or bundle has to hold by the checkpoint and the journal."""
        if level:
            wide = (index * WIDTH + width) << (TILE_HEIGHT * level)
            if wide <= self.checkpoint.size:
                return self.ledger.tile(level, index)[: width * HASH_BYTES]
            parts = []
            for child in range(index * WIDTH, index * WIDTH + width):
                below = self._expected(level - 1, child, WIDTH, unsealed)
                if below is None:
                    return None
                parts.append(whole_root(split_tile(below)))
            return b"".join(parts)
        leaves = []
        sealed: list[bytes] | None = None
        for leaf in range(index * WIDTH, index * WIDTH + width):
            if leaf in unsealed:
                leaves.append(unsealed[leaf])
                continue
            if sealed is None and leaf < self.checkpoint.size:
                if level == 0 and (index * WIDTH + width) <= self.checkpoint.size:
                    return self.ledger.tile(0, index)[: width * HASH_BYTES]
                sealed = self.ledger.bundle(index)
            if sealed is None or leaf % WIDTH >= len(sealed):
                return None
            leaves.append(sealed[leaf % WIDTH])
        if level is None:
            return b"".join(len(leaf).to_bytes(2) + leaf for leaf in leaves)
        return b"".join(map(leaf_hash, leaves))

    def _files(self) -> None:
        for where, message, sequence in self.walk.claims.check(self.directory):
            self.find("file", where, message, sequence)
        if strange := self.walk.claims.unknown(self.directory):
            self.report.notices.append(
                f"{len(strange)} recordings are in no event, the first is {strange[0]}"
            )
