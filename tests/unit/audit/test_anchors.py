"""Checkpoints at witnesses and in files: what is put there, and what is found out by it."""

import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

import ledgers
from pangate import cli
from pangate.audit.anchors import Contradicted
from pangate.audit.anchors.file import FileAnchor
from pangate.audit.anchors.follower import AnchorFollower
from pangate.audit.anchors.witness import WitnessAnchor
from pangate.audit.reader import Ledger
from pangate.audit.verify import verify
from pangate.audit_cli.keygen import write_key
from pangate.audit_cli.witness import State, WitnessServer
from pangate.errors import LedgerError
from pangate.ledger.note import COSIGNATURE, Signer
from pangate.ledger.witness import Witness

LEAVES = ledgers.events(600)
FORK = [*LEAVES[:20], ledgers.event(21, text="another"), *LEAVES[21:]]
KEY = Signer("witness.example/w1", COSIGNATURE, bytes(32))
ALL_KEYS = [*ledgers.KEYS, KEY.verifier]


def replaced(directory, leaves):
    """The ledger made anew of `leaves`; what others have given it stays."""
    for item in directory.iterdir() if directory.exists() else ():
        if item.name != "anchors":
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    return ledgers.write(directory, ledgers.files_of(leaves))


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "ledger"


@contextmanager
def serving(state):
    with State(state) as kept:
        witness = Witness(KEY, {ledgers.ORIGIN: ledgers.KEYS}, kept.load, kept.keep)
        with WitnessServer(("127.0.0.1", 0), witness, lambda: 1_700_000_000) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture
def url(tmp_path):
    with serving(tmp_path / "state") as found:
        yield found


def test_a_witness_cosigns(directory, url):
    anchor = WitnessAnchor(url, KEY.verifier)
    for size in (3, 256, 400, 400, 600):
        anchor.put(Ledger(replaced(directory, LEAVES[:size])))
        report = verify(directory, ALL_KEYS)
        assert report.ok, report.findings
        (seen,) = report.seen
        assert (seen.size, seen.witnesses) == (size, ("witness.example/w1",))
        assert seen.time == 1_700_000_000
    replaced(directory, [*LEAVES, *ledgers.events(50, 601)])
    assert (verify(directory, ALL_KEYS).witnessed, verify(directory, ALL_KEYS).size) == (600, 650)
    # Without the witness's key its word counts for nothing.
    assert verify(directory, ledgers.KEYS).witnessed == 0


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_witness_sees_a_roll_back(directory, url, forgotten):
    anchor = WitnessAnchor(url, KEY.verifier)
    anchor.put(Ledger(replaced(directory, LEAVES)))
    replaced(directory, LEAVES[:500])
    if forgotten:
        shutil.rmtree(directory / "anchors")
    else:
        assert [item.kind for item in verify(directory, ALL_KEYS).findings] == ["rolled back"]
    with pytest.raises(Contradicted, match=r"has seen 600 events, and the ledger has 500"):
        anchor.put(Ledger(directory))


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("size", [500, 600])
def test_a_witness_sees_a_fork(directory, url, size, forgotten):
    anchor = WitnessAnchor(url, KEY.verifier)
    anchor.put(Ledger(replaced(directory, LEAVES[:500])))
    replaced(directory, FORK[:size])
    if forgotten:
        shutil.rmtree(directory / "anchors")
    else:
        assert [item.kind for item in verify(directory, ALL_KEYS).findings] == ["forked"]
    with pytest.raises(Contradicted):
        anchor.put(Ledger(directory))


def test_a_witness_keeps_its_state(directory, tmp_path):
    with serving(tmp_path / "state") as url:
        WitnessAnchor(url, KEY.verifier).put(Ledger(replaced(directory, LEAVES)))
        with pytest.raises(LedgerError, match="in use by another witness"):
            State(tmp_path / "state")
    shutil.rmtree(directory)
    with serving(tmp_path / "state") as url, pytest.raises(Contradicted, match="rolled back"):
        WitnessAnchor(url, KEY.verifier).put(Ledger(replaced(directory, LEAVES[:599])))


def test_a_witness_that_is_not_there(directory, tmp_path):
    with serving(tmp_path / "state") as url:
        pass
    with pytest.raises(LedgerError, match="cannot be asked"):
        WitnessAnchor(url, KEY.verifier).put(Ledger(replaced(directory, LEAVES)))


def test_a_witness_with_another_key(directory, url):
    other = Signer.generate("witness.example/w1", COSIGNATURE)
    with pytest.raises(LedgerError, match="without a signature of its key"):
        WitnessAnchor(url, other.verifier).put(Ledger(replaced(directory, LEAVES)))
    with pytest.raises(LedgerError, match="not a witness's key"):
        WitnessAnchor(url, ledgers.SIGNER.verifier)


def test_files(directory, tmp_path):
    anchor = FileAnchor(tmp_path / "elsewhere")
    for size in (0, 300, 300, 500):
        assert anchor.put(Ledger(replaced(directory, LEAVES[:size]))).size == size
        assert anchor.path.read_bytes() == ledgers.note_of(LEAVES[:size])
    with pytest.raises(Contradicted, match="rolled back"):
        anchor.put(Ledger(replaced(directory, LEAVES[:499])))
    with pytest.raises(Contradicted, match="forked"):
        anchor.put(Ledger(replaced(directory, FORK)))
    assert anchor.path.read_bytes() == ledgers.note_of(LEAVES[:500])
    with pytest.raises(LedgerError, match="cannot be written: No such file"):
        FileAnchor(tmp_path / "no" / "where").put(Ledger(directory))


def test_a_follower(directory, tmp_path, caplog):
    replaced(directory, LEAVES[:300])
    follower = AnchorFollower(directory, FileAnchor(tmp_path / "elsewhere"))
    follower.follow(0, LEAVES[:300])
    follower.close()
    assert (follower.size, follower.failure, follower.contradicted) == (300, "", False)
    replaced(directory, LEAVES[:200])
    follower = AnchorFollower(directory, FileAnchor(tmp_path / "elsewhere"))
    follower.close()
    assert follower.contradicted
    assert "rolled back" in follower.failure
    assert "rolled back" in caplog.text


def test_the_commands(directory, tmp_path, capsys):
    replaced(directory, LEAVES)
    write_key(tmp_path / "witness.key", KEY)
    (tmp_path / "log.pub").write_text(ledgers.SIGNER.verifier.text() + "\n")
    public = str(tmp_path / "witness.key.pub")
    command = [sys.executable, "-m", "pangate.cli", "audit", "witness", "--port", "0"]
    command += ["--key", str(tmp_path / "witness.key"), "--log", str(tmp_path / "log.pub")]
    command += ["--state", str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("witness listens on 127.0.0.1:"), line
            url = "http://" + line.split()[-1]
            arguments = ["audit", "anchor", "--directory", str(directory)]
            arguments += ["--witness", url, public, "--file", str(tmp_path / "elsewhere")]
            assert cli.main(arguments) == 0
            assert "witness.example/w1: has seen 600 events" in capsys.readouterr().out
            assert (tmp_path / "elsewhere").exists()
            replaced(directory, LEAVES[:10])
            assert cli.main(arguments) == 1
            assert capsys.readouterr().out.count("rolled back") == 2
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    assert cli.main(["audit", "anchor", "--directory", str(directory)]) == 1
    assert "name a place" in capsys.readouterr().err


def test_a_key_that_others_can_read(tmp_path, capsys):
    write_key(tmp_path / "k", KEY)
    (tmp_path / "k").chmod(0o644)
    (tmp_path / "log.pub").write_text(ledgers.SIGNER.verifier.text())
    arguments = ["audit", "witness", "--port", "0", "--state", str(tmp_path / "s")]
    arguments += ["--key", str(tmp_path / "k"), "--log", str(tmp_path / "log.pub")]
    assert cli.main(arguments) == 1
    assert "chmod it to 0600" in capsys.readouterr().err


def test_what_the_server_does_not_read(url):
    import httpx

    assert httpx.post(f"{url}/else", content=b"x").status_code == 404
    assert httpx.post(f"{url}/add-checkpoint", content=b"x" * (1 << 17)).status_code == 413
    assert httpx.post(f"{url}/add-checkpoint", content=b"x").status_code == 400
    assert httpx.get(f"{url}/add-checkpoint").status_code == 501
