"""Verifiers that are not ours read our ledger: Go's own, where these formats come from, and tlog-scales."""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ledgers
from pangate.audit.reader import Ledger
from pangate.ledger.tiles import entries_path, tile_path

SOURCE = Path(__file__).parents[1] / "golang" / "verify.go"
SIZE, EARLIER = 66_000, 12_345
"""Three levels of tiles."""

KEY = ledgers.SIGNER.verifier.text()


@pytest.fixture(scope="module")
def leaves():
    return [ledgers.event(number, n=number) for number in range(1, SIZE + 1)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, leaves):
    return ledgers.write(tmp_path_factory.mktemp("log") / "ledger", ledgers.files_of(leaves))


@pytest.fixture
def directory(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "ledger")


@pytest.fixture(scope="module")
def verifier(tmp_path_factory):
    """The program in Go, built without modules from what Debian has of golang.org/x/mod."""
    made = tmp_path_factory.mktemp("go") / "verify"
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(made.parent / "cache"),
        "GOFLAGS": "",
    }
    subprocess.run(["go", "build", "-o", made, SOURCE], check=True, env=environment, timeout=300)
    return made


def verified(verifier, directory, key=KEY):
    return subprocess.run(
        [verifier, directory, key, str(EARLIER)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def changed(path, position=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_go_reads_the_whole_ledger(verifier, whole, leaves):
    done = verified(verifier, whole)
    assert done.returncode == 0, done.stderr
    *proofs, last = done.stdout.splitlines()
    earlier = base64.b64encode(ledgers.root_of(leaves[:EARLIER])).decode()
    assert last == f"verified {SIZE} {earlier}"
    ledger = Ledger(whole)
    for index in (0, 97, 65_960, SIZE - 1):
        ours = [f"{index} {base64.b64encode(item).decode()}" for item in ledger.prove(index).hashes]
        assert [line for line in proofs if line.startswith(f"{index} ")] == ours


@pytest.mark.parametrize(
    "path",
    [
        "checkpoint",
        tile_path(0, 100),
        tile_path(0, 257, 208),
        tile_path(1, 0),
        tile_path(1, 1, 1),
        tile_path(2, 0, 1),
        entries_path(3),
    ],
)
def test_go_sees_what_was_changed(verifier, directory, path):
    changed(directory / path, 9)
    assert verified(verifier, directory).returncode == 1


def test_go_wants_the_right_key(verifier, whole):
    other = ledgers.Signer.generate(ledgers.ORIGIN).verifier.text()
    assert "no verifiable signatures" in verified(verifier, whole, other).stderr


def test_tlog_scales_reads_the_ledger(whole, leaves):
    from tlog_scales import tiles
    from tlog_scales.backend import LocalBackend
    from tlog_scales.reader import TilesReader
    from tlog_scales.signing import Vkey

    reader = TilesReader(LocalBackend(whole))
    checkpoint = reader.get_checkpoint()
    assert (checkpoint.origin, checkpoint.size) == (ledgers.ORIGIN, SIZE)
    checkpoint.verify(Vkey.from_string(ledgers.SIGNER.verifier.text()))
    assert reader.calculate_root_hash() == checkpoint.root_hash
    for index in (0, 255, 256, 40_000, SIZE - 1):
        leaf = reader.get_entry(index)
        assert leaf == leaves[index]
        reader.get_inclusion_proof(index, SIZE).check(tiles.leaf_hash(leaf), checkpoint.root_hash)
    reader.get_consistency_proof(EARLIER, SIZE).check(
        ledgers.root_of(leaves[:EARLIER]), checkpoint.root_hash
    )


def test_the_command_of_tlog_scales(whole, directory, leaves):
    def leaf(where, index):
        return subprocess.run(
            [Path(sys.executable).with_name("tlog-tiles"), "get-leaf", "-c", where, str(index)],
            capture_output=True,
            timeout=60,
            check=False,
        )

    assert leaf(whole, 700).stdout == leaves[700]
    changed(directory / entries_path(2), 400)
    wrong = [leaf(directory, index).returncode for index in range(512, 516)]
    assert sum(map(bool, wrong)) == 1
