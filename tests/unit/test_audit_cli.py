"""The commands of `pangate audit`."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import ledgers
from pangate import audit_cli, cli
from pangate.ledger.note import COSIGNATURE, Signer, Verifier
from pangate.ledger.proof import Proof

ROOT = Path(__file__).parents[2]


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["audit", "--help"])
    shown = capsys.readouterr().out
    for command in audit_cli.COMMANDS:
        assert command.name in shown
        assert command.summary in shown


@pytest.mark.parametrize("command", audit_cli.COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["audit", command.name, "--help"])
    assert caught.value.code == 0
    assert f"usage: pangate audit {command.name}" in capsys.readouterr().out


def test_misuse(capsys):
    assert cli.main(["audit"]) == 2
    assert "usage: pangate audit" in capsys.readouterr().err
    assert cli.main(["audit", "keyegn"]) == 2
    assert 'did you mean "keygen"?' in capsys.readouterr().err


def test_keygen(tmp_path, capsys):
    file = tmp_path / "log.key"
    assert cli.main(["audit", "keygen", str(file), "--name", "example.com/log"]) == 0
    public = capsys.readouterr().out.strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Signer.from_private(file.read_text()).verifier == Verifier.parse(public)
    assert (tmp_path / "log.key.pub").read_text() == public + "\n"
    before = file.read_text()
    assert cli.main(["audit", "keygen", str(file), "--name", "other"]) == 1
    assert "no key is ever written over" in capsys.readouterr().err
    assert file.read_text() == before


def test_keygen_for_a_pipe(capsys, monkeypatch):
    words = ["audit", "keygen", "-", "--name", "example.com/log"]
    assert cli.main(words) == 0
    shown = capsys.readouterr()
    made = Signer.from_private(shown.out)
    assert shown.out == made.private_text() + "\n"
    assert shown.err == made.verifier.text() + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(words) == 1
    shown = capsys.readouterr()
    assert "PRIVATE" not in shown.out + shown.err
    assert "is not shown on a terminal" in shown.err


def test_keygen_for_a_witness(tmp_path, capsys):
    assert cli.main(["audit", "keygen", str(tmp_path / "k"), "--name", "w", "--witness"]) == 0
    assert Verifier.parse(capsys.readouterr().out).type == COSIGNATURE


# verify and prove

LEAVES = ledgers.events(300)


@pytest.fixture
def ledger(tmp_path):
    return ledgers.write(tmp_path / "ledger", ledgers.files_of(LEAVES))


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "elsewhere.pub"
    file.write_text(ledgers.SIGNER.verifier.text() + "\n")
    return file


def test_verify(ledger, key, tmp_path, capsys):
    arguments = ["audit", "verify", str(ledger), "--key", str(key)]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "example.com/ledger: 300 events sealed" in shown
    assert "unwitnessed tail: 300 events, from the sequence 1 on" in shown
    assert shown.endswith("verified: 300 events\n")
    anchor = tmp_path / "anchor"
    anchor.write_bytes(ledgers.note_of(LEAVES))
    assert cli.main([*arguments, "--checkpoint", str(anchor)]) == 0
    assert "unwitnessed tail: none" in capsys.readouterr().out


def test_verify_names_what_is_wrong(ledger, key, capsys):
    path = ledger / "tile/entries/000"
    path.write_bytes(path.read_bytes().replace(b"select 17 ", b"select 71 "))
    assert cli.main(["audit", "verify", str(ledger), "--key", str(key)]) == 1
    shown = capsys.readouterr().out
    assert "WRONG (edited) sequence 17: the event 17 was changed\n" in shown
    assert "1 finding: this is not the record that was signed" in shown
    assert cli.main(["audit", "verify", str(ledger), "--key", str(key), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["findings"][0]["sequence"] == 17


def test_verify_without_what_it_needs(ledger, tmp_path, capsys):
    assert cli.main(["audit", "verify"]) == 1
    assert "name a ledger" in capsys.readouterr().err
    missing = str(tmp_path / "missing")
    assert cli.main(["audit", "verify", str(ledger), "--key", missing]) == 1
    assert "missing cannot be read: No such file" in capsys.readouterr().err
    bad = tmp_path / "bad"
    bad.write_text("x")
    assert cli.main(["audit", "verify", str(ledger), "--key", str(bad)]) == 1
    assert "bad: a key has the form" in capsys.readouterr().err


def independently(proof, key):
    return subprocess.run(
        [sys.executable, ROOT / "docs" / "verify_proof.py", proof, key],
        capture_output=True,
        timeout=60,
        check=False,
        env={"PATH": ""},
        cwd="/",
    )


@pytest.mark.parametrize("sequence", [1, 256, 257, 300])
def test_a_page_of_independent_code_checks_proofs(ledger, key, tmp_path, sequence):
    proof = tmp_path / "event.tlog-proof"
    arguments = ["--directory", str(ledger), "--output", str(proof)]
    assert cli.main(["audit", "prove", str(sequence), *arguments]) == 0
    assert proof.stat().st_mode & 0o777 == 0o600, "an event is in it"
    done = independently(proof, key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip(b"\n") == LEAVES[sequence - 1]
    text = proof.read_bytes()
    other = tmp_path / "other.pub"
    other.write_text(Signer.generate(ledgers.ORIGIN).verifier.text())
    assert b"has signed this" in independently(proof, other).stderr
    for change in (b"index 1", b"\n300\n", b"extra e"):
        if change in text:
            proof.write_bytes(text.replace(change, change[:-1] + bytes([change[-1] ^ 1]), 1))
            assert independently(proof, key).returncode != 0


def test_prove_to_standard_output(ledger, capsys):
    assert cli.main(["audit", "prove", "5", "--directory", str(ledger)]) == 0
    assert Proof.parse(capsys.readouterr().out.encode()).extra == LEAVES[4]
    for wrong in ("0", "301", "-1"):
        assert cli.main(["audit", "prove", "--directory", str(ledger), "--", wrong]) == 1
        assert "sequences 1 to 300" in capsys.readouterr().err
