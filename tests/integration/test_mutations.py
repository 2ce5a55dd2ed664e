"""10,000 random changes of a ledger, every one of them noticed, given one checkpoint from elsewhere.

`PANGATE_SEED` repeats a run; the seed is printed with a failure."""

import os
import random
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

import ledgers
from pangate.audit.verify import verify

LEDGERS = ((268, 1_500), (24, 8_500))
"""Leaves and changes: one with a full bundle and a partial one, so that there are two levels and every kind
of file, and a smaller one, which is verified sooner."""


def whole_ledger(size):
    file, claim = ledgers.recording(data=b"what was sent" * 9)
    text, large = ledgers.recording(data=b"a long text" * 20)
    leaves = [ledgers.event(number, n=number) for number in range(1, size + 1)]
    leaves[9] = ledgers.event(10, "session.recording", **claim)
    leaves[19] = ledgers.event(
        20, large={"digest": large["digest"], "bytes": large["bytes"]}, kind="query"
    )
    files = ledgers.files_of(leaves, files=[file, (f"large/{large['digest']}", text[1])])
    return files, ledgers.note_of(leaves)


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
@pytest.mark.parametrize(("size", "count"), LEDGERS)
def test_every_change_is_noticed(size, count):
    seed = int(os.environ.get("PANGATE_SEED") or secrets.randbits(32))
    print(f"PANGATE_SEED={seed}")
    chance = random.Random(seed)
    files, anchor = whole_ledger(size)
    paths = sorted(files)
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="pangate-", dir=shared if shared.is_dir() else None
    ) as temporary:
        directory = ledgers.write(Path(temporary) / "ledger", files)
        checkpoints = [("elsewhere", anchor)]
        assert verify(directory, ledgers.KEYS, checkpoints).ok
        done = dict.fromkeys(paths, 0)
        while sum(done.values()) < count:
            path = chance.choice(paths)
            data = files[path]
            file = directory / path
            kind = chance.randrange(12)
            if kind == 0 and not path.startswith("journal/"):
                # All that the journal holds is sealed: without it nothing is lost.
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
            report = verify(directory, ledgers.KEYS, checkpoints)
            assert report.findings, f"PANGATE_SEED={seed}: {path} was changed: {what}"
            file.write_bytes(data)
            done[path] += 1
        assert verify(directory, ledgers.KEYS, checkpoints).ok
        assert min(done.values()) > count // len(paths) // 2, done
        shutil.rmtree(directory)
