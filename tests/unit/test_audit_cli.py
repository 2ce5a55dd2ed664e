"""The commands of `pangate audit`."""

import stat

import pytest

from pangate import audit_cli, cli
from pangate.ledger.note import COSIGNATURE, Signer, Verifier


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


def test_keygen_for_a_witness(tmp_path, capsys):
    assert cli.main(["audit", "keygen", str(tmp_path / "k"), "--name", "w", "--witness"]) == 0
    assert Verifier.parse(capsys.readouterr().out).type == COSIGNATURE
