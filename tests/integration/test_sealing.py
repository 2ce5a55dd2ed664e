"""The record of a gateway that is served, sealed while it runs and verified with public keys alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from conftest import EVERYTHING
from pangate.audit.events import events
from pangate.audit.reader import Ledger
from pangate.errors import LedgerError
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
        or part.startswith(b"PYTHONDONTWRITEBYTECODE")
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
