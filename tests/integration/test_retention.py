"""The record of a gateway that is served, of which the older part is taken away while it is written."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from conftest import EVERYTHING
from pangate import cli
from pangate.audit.events import events
from pangate.audit.reader import Ledger
from pangate.audit.signing import KeyFile
from pangate.audit_cli.retain import retain
from pangate.errors import LedgerError
from pangate.trial import Trial, until
from servers import through

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC) + timedelta(days=400)


def size(trial: Trial) -> int:
    try:
        return Ledger(trial.directory).size
    except LedgerError:
        return 0


def verified(trial: Trial) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pangate.cli", "audit", "verify", str(trial.directory)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def apply(trial: Trial) -> None:
    key = KeyFile(trial.directory / "audit.jsonl.key", "none").signer
    assert retain(trial.audit, trial.directory, key, 366, NOW, apply=True) == 0


def test_it_is_written_sealed_and_read_all_the_while(postgres, trial, capsys):
    with Trial(postgres, audit="seal_seconds = 0.1", effects=EVERYTHING) as made:
        made.psql(made.token(), "select t from cards order by id")
        with psycopg.connect(through(made, made.token()), autocommit=True) as connection:
            for number in range(320):
                connection.execute(f"select {number} as before")
            until(lambda: size(made) > 600, "two bundles and more are sealed", seconds=60)
            (old,) = (made.directory / "sessions").glob("*/*.rec")
            apply(made)
            assert not old.exists(), "the recording of the session that is over"
            connection.execute("select 'after' as after")
        first = next(events(made.audit))["sequence"]
        assert first > 512
        made.stop_gateway()
        shown = verified(made)
        assert f"retired: {first - 1} events" in shown
        assert "tombstone: the events 1 to" in shown
        made.start_gateway()
        made.psql(made.token(), "select t from cards order by id")
        config = ["--config", str(made.config)]
        hold = [
            "audit",
            "hold",
            "add",
            "case-7",
            "--reason",
            "a court asks for 4111111111111111",
            *config,
        ]
        assert cli.main([*hold, "--from", "2020-01-01"]) == 0
        assert cli.main([*hold, "--from", "2020-01-01"]) == 1
        assert cli.main(["audit", "hold", "list", *config]) == 0
        shown = capsys.readouterr()
        assert (
            "case-7: from 2020-01-01T00:00:00.000000Z; a court asks for ************1111 (by "
            in shown.out
        )
        assert b"4111111111111111" not in (made.directory / "holds.jsonl").read_bytes()
        assert 'there is a hold "case-7" already' in shown.err
        with psycopg.connect(through(made, made.token()), autocommit=True) as connection:
            for number in range(200):
                connection.execute(f"select {number} as between")
        made.stop_gateway()
        apply(made)
        assert "kept by holds" in capsys.readouterr().out
        assert next(events(made.audit))["sequence"] == first
        release = ["audit", "hold", "release", "case-7", "--reason", "it is over", *config]
        assert cli.main(release) == 0
        apply(made)
        assert next(events(made.audit))["sequence"] > first
        verified(made)
        out = made.directory / "period.tar.gz"
        day = datetime.now(UTC).date()
        export = [
            "audit",
            "export",
            *config,
            "--from",
            str(day - timedelta(days=1)),
            "--to",
            str(day),
        ]
        assert cli.main([*export, "--out", str(out)]) == 0
        made.start_gateway()  # which takes the notes of what was done without it
        made.stop_gateway()
        # those of placing holds may be among the events that were retired
        asked = [event["code"] for event in events(made.audit) if "note" in event["data"]]
        assert (asked.count("audit.exported"), asked.count("audit.hold_released")) == (1, 1)
        assert set(asked) <= {"audit.exported", "audit.hold_released", "audit.hold_placed"}
        assert "of them retired" in capsys.readouterr().out
        assert (
            cli.main(["audit", "verify", str(out), "--key", str(made.directory / "log.pub")]) == 0
        )
        (made.directory / "unpacked").mkdir()
        subprocess.run(
            ["tar", "-xzf", out, "-C", made.directory / "unpacked"], check=True, timeout=60
        )
        done = subprocess.run(
            [sys.executable, "-I", "unpacked/verify.py", "log.pub", out], cwd=made.directory,
            capture_output=True, text=True, timeout=60, check=False, env={},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("verified: ")
        capsys.readouterr()
        assert cli.main(["audit", "retain", *config, "--apply"]) == 0
        assert "before 20" in capsys.readouterr().out


def test_less_than_twelve_months_need_a_reason(trial, capsys):
    text = trial.config.read_text()
    path = trial.directory / "short.toml"
    path.write_text(text + "\n[audit.retention]\nkeep_days = 90\n")
    assert cli.main(["check", "--config", str(path)]) == 1
    shown = capsys.readouterr().err
    assert "audit.retention.justification: missing: keep_days = 90 is less than" in shown
    path.write_text(
        text + '\n[audit.retention]\nkeep_days = 90\njustification = "the SIEM has two years"\n'
    )
    assert cli.main(["check", "--config", str(path)]) == 0
