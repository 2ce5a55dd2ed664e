"""Where the key that signs comes from: a file, or a command that prints it."""

import shlex
import time

import pytest

from pangate.audit.sealer import Sealer
from pangate.audit.signing import KeyCommand, KeyFile, next_key, signer
from pangate.errors import LedgerError
from pangate.ledger.note import COSIGNATURE, Signer

ONE, TWO = (Signer.generate("example.com/log") for _ in range(2))
SECRET = ONE.private_text().split("+", 4)[4]


def shell(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text)


@pytest.fixture
def vault(tmp_path):
    """What a vault would give, and the command that asks it."""
    kept = tmp_path / "vault"
    kept.write_text(f"{ONE.private_text()}\n")
    record = tmp_path / "audit.jsonl"
    record.touch(mode=0o600)
    return kept, KeyCommand(shell(f"cat {shlex.quote(str(kept))}"), 5.0, record), record


def test_the_key_in_a_file(tmp_path):
    path = tmp_path / "key"
    made = signer(path, "example.com/log")
    assert path.stat().st_mode & 0o777 == 0o600
    assert signer(path, "ignored").verifier == made.verifier
    path.chmod(0o640)
    with pytest.raises(LedgerError, match="mode 0640; chmod it to 0600"):
        signer(path, "x")
    path.chmod(0o600)
    path.write_text("PRIVATE+KEY+nonsense")
    with pytest.raises(LedgerError, match="cannot be used"):
        signer(path, "x")


def test_a_file_is_made_once_and_hands_over_to_the_one_beside_it(tmp_path):
    source = KeyFile(tmp_path / "key", "example.com/log")
    first = source.signer()
    assert source.made
    assert source.signer().verifier == first.verifier
    assert not source.made
    assert source.following() is None
    made = signer(next_key(source.path), "example.com/log")
    following = source.following()
    assert following is not None
    assert following.verifier == made.verifier
    source.taken_over()
    assert source.signer().verifier == made.verifier
    assert source.following() is None


def test_a_command_prints_the_key(vault):
    _, source, record = vault
    assert source.signer().verifier == ONE.verifier
    assert not source.made
    assert source.following() is None
    sealer = Sealer(record, record.parent, source.signer())
    sealer.close()
    assert (record.parent / "log.pub").read_text() == ONE.verifier.text() + "\n"
    assert {path.name for path in record.parent.iterdir()} == {
        *("vault", "audit.jsonl", "log.pub", "sealer.lock")
    }, "nothing is kept"


def test_the_next_key_is_in_a_line_behind_it(vault):
    kept, source, record = vault
    Sealer(record, record.parent, source.signer()).close()
    with pytest.raises(LedgerError, match="printed one key; put the next one"):
        source.rotate()
    with kept.open("a") as file:
        file.write(f"{TWO.private_text()}\n")
    assert source.following() is None, "only when somebody says so"
    assert source.rotate().verifier == TWO.verifier
    with pytest.raises(LedgerError, match="is there already"):
        source.rotate()
    following = source.following()
    assert following is not None
    assert following.verifier == TWO.verifier
    assert source.signer().verifier == ONE.verifier, "until it has taken over"
    published = record.parent / "log.pub"
    published.write_text(published.read_text() + TWO.verifier.text() + "\n")
    assert source.signer().verifier == TWO.verifier, "whatever is still in the vault"
    assert source.following() is None, "a crash came in between"
    assert not (record.parent / "audit.jsonl.rotate").exists()
    kept.write_text(f"{TWO.private_text()}\n")
    assert source.signer().verifier == TWO.verifier


def test_a_vault_that_is_away_when_a_key_is_to_take_over_is_not_asked_all_the_time(vault):
    kept, source, record = vault
    kept.write_text(f"{ONE.private_text()}\n{TWO.private_text()}\n")
    source.rotate()
    kept.unlink()
    with pytest.raises(LedgerError, match=r"cannot be had: audit\.key_command: /bin/sh ended with"):
        source.following()
    assert source.following() is None
    again = KeyCommand(shell(f"echo {ONE.private_text()}"), 5.0, record)
    with pytest.raises(LedgerError, match="it prints another key"):
        again.following()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 3", "ended with exit code 3; run it by hand"),
        (f"echo {SECRET} >&2; exit 1", "ended with exit code 1"),
        ("true", "printed nothing; make a key with `pangate audit keygen -"),
        (f"echo {SECRET}", "printed something that is no key"),
        (f"echo PRIVATE+KEY+{SECRET}+x", "printed something that is no key"),
        (f"echo {ONE.private_text()[:-2]}", "printed something that is no key"),
        (f"echo {ONE.verifier.text()}", "printed something that is no key"),
        (f"printf '\\377{SECRET}'", "printed something that is no key"),
        (f"echo {Signer.generate('w', COSIGNATURE).private_text()}", "no key of a log"),
        (f"yes {ONE.private_text()} | head -3", "more than two lines"),
        (f"yes {ONE.private_text()}", "more than 4096 bytes"),
        (f"echo {ONE.private_text()}; echo {Signer.generate('b').private_text()}", "two logs"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_that_was_printed(tmp_path, script, told):
    with pytest.raises(LedgerError, match=r"audit\.key_command: /bin/sh") as caught:
        KeyCommand(shell(script), 5.0, tmp_path / "audit.jsonl").signer()
    assert told in str(caught.value)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert SECRET[:12] not in repr(seen)
        seen = seen.__cause__ or seen.__context__


def test_no_program(tmp_path):
    with pytest.raises(LedgerError, match="no-such-vault cannot be run"):
        KeyCommand(("/no-such-vault",), 5.0, tmp_path / "audit.jsonl").signer()


@pytest.mark.parametrize("script", ["sleep 30", f"echo {ONE.private_text()}; exec >&-; sleep 30"])
def test_a_command_that_hangs_ends_with_all_that_it_started(tmp_path, script):
    began = time.monotonic()
    with pytest.raises(LedgerError, match=r"did not end within 0\.3 seconds"):
        KeyCommand(shell(f"{script} & wait"), 0.3, tmp_path / "audit.jsonl").signer()
    assert time.monotonic() - began < 5


def test_a_key_shows_nothing_of_itself():
    assert SECRET[:12] not in repr(ONE)
