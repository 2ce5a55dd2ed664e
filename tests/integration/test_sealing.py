"""The record of a gateway that is served, sealed while it runs and verified with public keys alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from conftest import EVERYTHING
from pangate.audit.events import events
from pangate.audit.index import Record, index_path
from pangate.audit.reader import Ledger
from pangate.audit.signing import signer
from pangate.errors import LedgerError
from pangate.ledger.note import Signer, Verifier, parse_note
from pangate.ledger.rotation import name_of, rotate
from pangate.trial import Trial, until
from servers import through

pytestmark = pytest.mark.integration

SEALED = "seal_seconds = 0.1"


@pytest.fixture
def sealed(postgres, trial):
    with Trial(postgres, audit=SEALED, effects=EVERYTHING) as made:
        yield made


def size(trial: Trial) -> int:
    try:
        return Ledger(trial.directory).size
    except LedgerError:
        return 0


def lines(trial: Trial) -> list[bytes]:
    return trial.audit.read_bytes().splitlines()


def verified(trial: Trial, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pangate.cli", "audit", "verify", str(trial.directory), *more],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def sealer_of(trial: Trial) -> int:
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(trial.pid)],
        capture_output=True, text=True, timeout=20, check=False,
    ).stdout  # fmt: skip
    (pid,) = [line.split()[0] for line in found.splitlines() if "service.sealing" in line]
    return int(pid)


def indexer_of(sealer: int) -> int:
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(sealer)],
        capture_output=True, text=True, timeout=20, check=False,
    ).stdout  # fmt: skip
    pids = [line.split()[0] for line in found.splitlines() if "service.indexing" in line]
    return int(pids[0]) if pids else 0


def test_the_index_is_kept_up_by_a_process_that_ends_with_the_sealer_and_begins_again(sealed):
    index = index_path(Record(sealed.audit))

    def indexed() -> bool:
        with contextlib.closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as db:
            try:
                rows = db.execute("select value from meta where key = 'sequence'").fetchall()
            except sqlite3.OperationalError:
                return False
        return bool(rows) and int(rows[0][0]) == len(lines(sealed))

    sealed.psql(sealed.token(), "select t from cards order by id")
    until(lambda: index.exists() and indexed(), "everything is indexed")
    sealer = sealer_of(sealed)
    first = indexer_of(sealer)
    os.kill(first, signal.SIGTERM)  # as a service manager tells all
    time.sleep(0.5)
    assert indexer_of(sealer) == first
    os.kill(first, signal.SIGKILL)
    until(lambda: indexer_of(sealer) not in (0, first), "there is another one", seconds=40)
    sealed.psql(sealed.token(), "select 1 as again")
    until(indexed, "it goes on")
    second = indexer_of(sealer)
    os.kill(sealer, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{second}").exists(), "it ends with its sealer")
    sealed.stop_gateway()


def test_everything_is_sealed_and_a_changed_byte_shows(sealed):
    shown = sealed.psql(sealed.token(), "select t from cards order by id")
    assert "************1111" in shown.stdout
    until(lambda: size(sealed) == len(lines(sealed)) > 3, "everything is sealed")
    sealed.stop_gateway()
    assert json.loads(lines(sealed)[-1])["code"] == "log.stop"
    assert list(Ledger(sealed.directory).leaves()) == lines(sealed), "to the last one"
    done = verified(sealed)
    assert done.returncode == 0, done.stdout
    assert f"verified: {len(lines(sealed))} events" in done.stdout
    bundle = next(iter((sealed.directory / "tile/entries").glob(f"000.p/{len(lines(sealed))}")))
    data = bundle.read_bytes()
    assert data.count(b"select t from cards") == 1
    bundle.write_bytes(data.replace(b"select t from cards", b"select v from cards"))
    done = verified(sealed)
    assert done.returncode == 1
    assert "WRONG (edited)" in done.stdout
    (number,) = [
        json.loads(line)["sequence"] for line in lines(sealed) if b"select t from cards" in line
    ]
    assert f"sequence {number}" in done.stdout


def test_a_recording_that_was_changed_shows(sealed):
    sealed.psql(sealed.token(), "select t from cards order by id")
    sealed.stop_gateway()
    (recording,) = (sealed.directory / "sessions").glob("*/*.rec")
    data = bytearray(recording.read_bytes())
    data[-1] ^= 1
    recording.write_bytes(data)
    done = verified(sealed)
    assert done.returncode == 1
    assert "WRONG (file)" in done.stdout
    assert recording.name in done.stdout


@pytest.mark.parametrize("who", ["the gateway", "the sealer", "both"])
def test_after_a_kill_it_goes_on(sealed, who):
    with psycopg.connect(through(sealed, sealed.token()), autocommit=True) as connection:
        for number in range(20):
            connection.execute(f"select {number} as before")
        sealer = sealer_of(sealed)
        if who != "the gateway":
            os.kill(sealer, signal.SIGKILL)
        if who != "the sealer":
            os.kill(sealed.pid, signal.SIGKILL)
    if who == "the sealer":
        until(lambda: "the sealer ended" in sealed.log.read_text(), "it is noticed")
        until(lambda: size(sealed) == len(lines(sealed)), "another one goes on", seconds=30)
    else:
        if who == "the gateway":
            until(lambda: size(sealed) == len(lines(sealed)), "the sealer has sealed what there is")
        sealed.stop_gateway()
        sealed.start_gateway()
    sealed.psql(sealed.token(), "select 1 as after")
    sealed.stop_gateway()
    found = list(Ledger(sealed.directory).leaves())
    assert found == lines(sealed)
    texts = [json.loads(line)["data"].get("text", "") for line in found]
    assert [text for text in texts if "before" in text] == [
        f"select {number} as before" for number in range(20)
    ]
    assert any("after" in text for text in texts)
    done = verified(sealed)
    assert done.returncode == 0, done.stdout


def test_a_long_statement_is_beside_its_leaf_and_masked(sealed):
    pan = "4111111111111111"
    text = "insert into notes (id, note) values (4714, '" + "x" * 200_000 + f" {pan}')"
    with psycopg.connect(through(sealed, sealed.token()), autocommit=True) as connection:
        connection.execute(text)
    sealed.stop_gateway()
    (event,) = [one for one in map(json.loads, lines(sealed)) if "large" in one["data"]]
    assert event["code"] == "statement.allowed"
    assert event["data"]["verdict"] == "allow"
    kept = (sealed.directory / "large" / event["data"]["large"]["digest"]).read_bytes()
    assert len(kept) == event["data"]["large"]["bytes"] > 200_000
    assert json.loads(kept)["text"].endswith(f" {'*' * 12}1111')")
    assert pan.encode() not in kept
    done = verified(sealed)
    assert done.returncode == 0, done.stdout
    read = [one for one in events(sealed.audit) if "large" in one["data"]]
    assert [one["data"]["text"] for one in read] == [json.loads(kept)["text"]], (
        "readers have it whole"
    )
    (sealed.directory / "large" / event["data"]["large"]["digest"]).write_bytes(kept[:-9] + b'x"}')
    assert all("text" not in one["data"] for one in events(sealed.audit) if "large" in one["data"])


def test_the_gateway_has_not_the_key_and_says_where_it_is(sealed):
    until(lambda: size(sealed) > 0, "the first checkpoint")
    key = sealed.directory / "audit.jsonl.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().startswith("PRIVATE+KEY+pangate/")
    opened = [found.readlink().name for found in Path(f"/proc/{sealed.pid}/fd").iterdir()]
    assert key.name not in opened
    environment = Path(f"/proc/{sealer_of(sealed)}/environ").read_bytes()
    assert all(
        part.split(b"=")[0].decode() in ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR")
        or part.startswith((b"PYTHONDONTWRITEBYTECODE=", b"OPENBLAS_NUM_THREADS="))
        for part in environment.split(b"\0")
        if part
    )


def test_what_cannot_be_sealed_is_said_and_holds_nothing_up(postgres, trial):
    with Trial(postgres, audit=SEALED) as made:
        until(lambda: size(made) > 0, "the first checkpoint")
        made.stop_gateway()
        key = made.directory / "audit.jsonl.key"
        key.chmod(0o644)
        made.start_gateway()
        until(lambda: "chmod it to 0600" in made.log.read_text(), "the reason")
        shown = made.psql(made.token(), "select t from cards order by id")
        assert "************1111" in shown.stdout


def rotated(trial: Trial) -> str:
    """The next key of a gateway that runs, once it signs."""
    words = [
        sys.executable,
        "-m",
        "pangate.cli",
        "audit",
        "rotate-key",
        "--config",
        str(trial.config),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    public = done.stdout.splitlines()[0]
    until(lambda: public in (trial.directory / "log.pub").read_text(), "the next key takes over")
    until(lambda: not (trial.directory / "audit.jsonl.key.next").exists(), "and has its place")
    return public


def test_a_key_hands_over_and_the_first_one_is_enough_to_verify(sealed):
    until(lambda: size(sealed) > 0, "the first checkpoint")
    first = (sealed.directory / "log.pub").read_text()
    second = rotated(sealed)
    assert first.split("+")[0] == second.split("+")[0], "the same log"
    sealed.psql(sealed.token(), "select 1 as between")
    third = rotated(sealed)
    sealed.psql(sealed.token(), "select 1 as after")
    sealed.stop_gateway()
    told = [one["data"] for one in map(json.loads, lines(sealed)) if one["code"] == "key.rotated"]
    keys = [Verifier.parse(text) for text in (first, second, third)]
    names = [name_of(key) for key in keys]
    assert [(one["old"], one["new"]) for one in told] == [tuple(names[:2]), tuple(names[1:])]
    _, signed = parse_note((sealed.directory / "checkpoint").read_bytes())
    assert [line.key_id for line in signed] == [keys[2].key_id]
    given = sealed.directory / "first.pub"
    given.write_text(first)
    done = verified(sealed, "--key", str(given))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("was handed over to by the one before") == 2
    # and it goes on with the key that is there now
    sealed.start_gateway()
    sealed.psql(sealed.token(), "select 1 as again")
    sealed.stop_gateway()
    assert verified(sealed, "--key", str(given)).returncode == 0
    # Whoever has no key of these signs with another one, and says so as well as can be.
    rotations = (sealed.directory / "log.rotations").read_text().splitlines()
    (sealed.directory / "log.rotations").write_text(rotations[0] + "\n")
    done = verified(sealed, "--key", str(given))
    assert done.returncode == 1
    assert "signed again with another key" in done.stdout
    forger = Signer.generate(keys[0].name)
    forged = rotate(forger, Signer.generate(keys[0].name)).text().split()
    forged[0] = keys[0].text()
    (sealed.directory / "log.rotations").write_text(" ".join(forged) + "\n")
    done = verified(sealed, "--key", str(given))
    assert done.returncode == 1
    assert "is not signed by" in done.stdout


def test_a_rotation_that_no_event_tells_of_shows(sealed):
    until(lambda: size(sealed) > 0, "the first checkpoint")
    sealed.stop_gateway()
    old = signer(sealed.directory / "audit.jsonl.key", "")
    line = rotate(old, Signer.generate(old.verifier.name)).text()
    (sealed.directory / "log.rotations").write_text(line + "\n")
    done = verified(sealed)
    assert done.returncode == 1
    assert "no event says that" in done.stdout


@pytest.fixture
def vaulted(postgres, trial, tmp_path):
    """A gateway whose key is in a vault: a program that wants a token in the environment."""
    kept, program = tmp_path / "kept", tmp_path / "vault"
    kept.write_text(Signer.generate("bank").private_text() + "\n")
    program.write_text(
        f'#!/bin/sh\ntest "$VAULT_TOKEN" = t0ken && test "$1" = bank && cat {kept}\n'
    )
    program.chmod(0o755)
    audit = (
        f'{SEALED}\norigin = "bank"\nkey_command = ["{program}", "{{origin}}", "s3cret"]\n'
        'key_environment = ["VAULT_TOKEN"]'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAULT_TOKEN", "t0ken")
        with Trial(postgres, audit=audit, effects=EVERYTHING) as made:
            yield made, kept


def test_a_key_from_a_vault_is_nowhere_else(vaulted):
    made, kept = vaulted
    until(lambda: size(made) > 0, "the first checkpoint")
    first = Signer.from_private(kept.read_text())
    until(
        lambda: first.verifier.text() in (made.directory / "log.pub").read_text(), "it is published"
    )
    arguments = subprocess.run(
        ["ps", "-e", "-ww", "-o", "args="], capture_output=True, text=True, timeout=20, check=True
    ).stdout
    assert "service.sealing" in arguments
    assert "s3cret" not in arguments
    # it hands over to the next one, which the vault has too
    following = Signer.generate("bank")
    with kept.open("a") as file:
        file.write(following.private_text() + "\n")
    words = [sys.executable, "-m", "pangate.cli", "audit", "rotate-key", "--config"]
    done = subprocess.run(
        [*words, str(made.config)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == following.verifier.text()
    until(
        lambda: following.verifier.text() in (made.directory / "log.pub").read_text(),
        "it takes over",
    )
    made.stop_gateway()
    made.start_gateway()
    made.psql(made.token(), "select 1 as again")
    kept.write_text(following.private_text() + "\n")
    made.stop_gateway()
    assert [json.loads(line)["code"] for line in lines(made)].count("key.rotated") == 1
    given = made.directory / "first.pub"
    given.write_text(first.verifier.text())
    whole = verified(made, "--key", str(given))
    assert whole.returncode == 0, whole.stdout
    # what signs by hand asks the vault as well
    held = ["audit", "hold", "add", "case", "--from", "2026-01-01", "--reason", "why", "--config"]
    done = subprocess.run(
        [sys.executable, "-m", "pangate.cli", *held, str(made.config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    secrets = [key.private_text().split("+", 4)[4].encode() for key in (first, following)]
    for path in made.directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [one for one in secrets if one in data], path
            assert b"PRIVATE+KEY" not in data, path


def test_a_vault_that_is_away_holds_nothing_up_and_is_said(vaulted):
    made, kept = vaulted
    until(lambda: size(made) > 0, "the first checkpoint")
    made.stop_gateway()
    text = kept.read_text()
    kept.rename(kept.with_name("away"))
    made.start_gateway()
    until(lambda: "ended with exit code 1; run it by hand" in made.log.read_text(), "the reason")
    shown = made.psql(made.token(), "select t from cards order by id")
    assert "************1111" in shown.stdout
    kept.with_name("away").rename(kept)
    until(lambda: size(made) == len(lines(made)), "it is sealed when the vault is back")
    assert text.split("+", 4)[4].strip() not in made.log.read_text()
