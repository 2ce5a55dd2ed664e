"""10,000 random changes of what gateways have written and sealed, every one of them noticed, given one
checkpoint from elsewhere.

`PANGATE_SEED` repeats a run; the seed is printed with a failure."""

import os
import random
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

import ledgers
from conftest import EVERYTHING
from pangate.audit.marks import mark_of
from pangate.audit.verify import verify
from pangate.ledger.note import Verifier
from pangate.ledger.tiles import entries_path, tile_path, tile_widths
from pangate.trial import Trial

LEDGERS = ((140, 1_500), (3, 8_500))
"""Statements and changes: one ledger with a full bundle and a partial one, so that there are two levels and
every kind of file, and a smaller one, which is verified sooner."""

EVIDENCE = (
    "checkpoint", "log.pub", "tile/**/*", "sessions/**/*.rec", "large/*", "audit.jsonl"
)  # fmt: skip


def whole_ledger(postgres, statements):
    """What a gateway wrote and its sealer sealed: path to bytes, the public keys, and the checkpoint."""
    with Trial(postgres, audit="seal_seconds = 0.1", effects=EVERYTHING) as trial:
        texts = [f"select {number}, t from cards" for number in range(statements - 1)]
        done = trial.psql(
            trial.token(), *texts, f"insert into notes values (815, '{'x' * 60_000}')"
        )
        assert done.returncode == 0, done.stderr
        trial.stop_gateway()
        found = {
            str(path.relative_to(trial.directory)): path.read_bytes()
            for pattern in EVIDENCE
            for path in trial.directory.glob(pattern)
            if path.is_file()
        }
    size = int(found["checkpoint"].split(b"\n")[1])
    newest = set()
    for level, full, partial in tile_widths(size):
        newest.add(tile_path(level, full, partial))
        if level == 0:
            newest.add(entries_path(full, partial))
    # those that were sealed before and have grown since may go: nothing is lost with them
    found = {path: data for path, data in found.items() if ".p/" not in path or path in newest}
    keys = [Verifier.parse(line) for line in found["log.pub"].decode().splitlines()]
    kinds = {path.partition("/")[0] for path in found}
    assert kinds == {"checkpoint", "log.pub", "tile", "sessions", "large", "audit.jsonl"}
    return found, keys, found["checkpoint"]


def changed(chance, data):
    """`data` with one random change, which is never none."""
    size = len(data)
    first, second = sorted((chance.randrange(size), chance.randrange(size)))
    match chance.randrange(7):
        case 0:  # one bit
            made = bytearray(data)
            made[first] ^= 1 << chance.randrange(8)
            return "bit", bytes(made)
        case 1:  # one byte
            made = bytearray(data)
            made[first] = (made[first] + chance.randrange(1, 256)) % 256
            return "byte", bytes(made)
        case 2:
            return "cut out", data[:first] + data[max(second, first + 1) :]
        case 3:
            return "cut off", data[:first]
        case 4:
            put = chance.randbytes(chance.randrange(1, 40))
            return "put in", data[:first] + put + data[first:]
        case 5:  # a piece of itself
            piece = data[first : first + chance.randrange(1, 200)]
            return "repeated", data[:second] + piece + data[second:]
        case _:
            middle = (first + second) // 2
            return (
                "swapped",
                data[:first] + data[middle:second] + data[first:middle] + data[second:],
            )


def bundles_changed(chance, data):
    """A bundle with whole leaves deleted, doubled or exchanged."""
    from pangate.ledger.tiles import decode_bundle, encode_bundle

    leaves = decode_bundle(data)
    one, other = chance.sample(range(len(leaves)), 2)
    match chance.randrange(3):
        case 0:
            del leaves[one]
        case 1:
            leaves.insert(one, leaves[other])
        case _:
            leaves[one], leaves[other] = leaves[other], leaves[one]
    return "leaves", encode_bundle(leaves)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("statements", "count"), LEDGERS)
def test_every_change_is_noticed(postgres, trial, statements, count):
    seed = int(os.environ.get("PANGATE_SEED") or secrets.randbits(32))
    print(f"PANGATE_SEED={seed}")
    chance = random.Random(seed)
    files, keys, anchor = whole_ledger(postgres, statements)
    paths = sorted(files)
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="pangate-", dir=shared if shared.is_dir() else None
    ) as temporary:
        directory = ledgers.write(Path(temporary) / "ledger", files)
        mark_of(directory / "audit.jsonl").touch()
        checkpoints = [("elsewhere", anchor)]
        assert verify(directory, keys, checkpoints).ok
        done = dict.fromkeys(paths, 0)
        while sum(done.values()) < count:
            path = chance.choice(paths)
            data = files[path]
            file = directory / path
            kind = chance.randrange(12)
            if kind == 0:
                what, made = "deleted", None
                file.unlink()
            elif kind == 1:
                other = chance.choice(paths)
                what, made = f"replaced by {other}", files[other]
            elif kind < 4 and path.startswith("tile/entries"):
                what, made = bundles_changed(chance, data)
            else:
                what, made = changed(chance, data)
            if made == data:
                continue
            if made is not None:
                file.write_bytes(made)
            report = verify(directory, keys, checkpoints)
            assert report.findings, f"PANGATE_SEED={seed}: {path} was changed: {what}"
            file.write_bytes(data)
            done[path] += 1
        assert verify(directory, keys, checkpoints).ok
        assert min(done.values()) > count // len(paths) // 2, done
        shutil.rmtree(directory)
