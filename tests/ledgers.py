"""Ledgers for tests, written file by file as the format has it, without the gateway and its sealer."""

import json
from hashlib import sha256
from pathlib import Path

from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.letters import letters
from pangate.ledger.note import Signer
from pangate.ledger.records import MAGIC, encode_records
from pangate.ledger.tiles import encode_bundle, entries_path, tile_path, tile_widths
from pangate.ledger.tree import Frontier, leaf_hash, whole_root

ORIGIN = "example.com/ledger"
SIGNER = Signer(ORIGIN, 1, bytes(range(32)))
KEYS = [SIGNER.verifier]


def event(sequence, code="statement.executed", second=None, **data):
    """A leaf as the gateway writes it."""
    seconds = sequence if second is None else second
    minute, second = divmod(seconds, 60)
    hour, minute = divmod(minute, 60)
    return json.dumps(
        {
            "v": 2,
            "clock": "synchronised",
            "sequence": sequence,
            "time": f"2026-11-25T{hour % 24:02d}:{minute:02d}:{second:02d}.000000Z",
            "code": code,
            "session": f"s{sequence % 7}",
            "principal": "reports@example.com",
            "origin": "192.0.2.7",
            "resource": "cards",
            "success": True,
            "data": data or {"text": f"select {sequence} from payments"},
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


def events(count, first=1):
    return [event(sequence) for sequence in range(first, first + count)]


def root_of(leaves):
    frontier = Frontier()
    frontier.extend(map(leaf_hash, leaves))
    return frontier.root()


def note_of(leaves, signer=SIGNER, origin=ORIGIN):
    """A signed checkpoint over these leaves."""
    return signer.sign_note(Checkpoint(origin, len(leaves), root_of(leaves)).body()).encode()


def tiles_of(leaves):
    """The tiles and bundles of a log of these leaves, as path to bytes."""
    files = {}
    hashes = list(map(leaf_hash, leaves))
    for level, full, partial in tile_widths(len(leaves)):
        for index in range(full + bool(partial)):
            width = 256 if index < full else partial
            part = slice(index * 256, index * 256 + width)
            files[tile_path(level, index, width)] = b"".join(hashes[part])
            if level == 0:
                files[entries_path(index, width)] = encode_bundle(leaves[part])
        hashes = [whole_root(hashes[index * 256 : index * 256 + 256]) for index in range(full)]
    return files


def files_of(leaves, *, unsealed=(), journal_from=None, files=()):
    """Every file of a ledger, as path to bytes. The journal begins with the partial bundle."""
    made = {
        "checkpoint": note_of(leaves),
        "log.pub": f"{SIGNER.verifier.text()}\n".encode(),
        **tiles_of(leaves),
        **dict(files),
    }
    first = len(leaves) // 256 * 256 if journal_from is None else journal_from
    written = [*leaves[first:], *unsealed]
    made[f"journal/{first:016d}"] = MAGIC + encode_records(written, first)
    return made


def write(directory: Path, files) -> Path:
    """Put the files below `directory`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, data in files.items():
        file = directory / path
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_bytes(data)
    return directory


def recording(name="sessions/2026-11-25/s1.rec", data=b"what was sent" * 100):
    """(file, the data of the event that names it)."""
    return (name, data), {
        "file": name,
        "bytes": len(data),
        "digest": letters(sha256(data).digest()),
    }
