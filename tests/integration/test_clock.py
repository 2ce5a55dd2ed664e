"""A gateway whose clock goes back: nothing runs until it is right again or somebody says that it is.
The clock is that of a library which is preloaded: the clock of the machine is everybody's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from conftest import EVERYTHING
from pangate.trial import Trial, until
from servers import through

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the clock is compiled"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).parents[1] / "clock.c"
    words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"]
    subprocess.run(words, check=True, timeout=60)
    return made


class Wrong(Trial):
    """A trial whose clock can be set."""

    def set(self, seconds: int) -> None:
        (self.directory / "seconds").write_text(f"{seconds}\n")

    def start_gateway(self) -> None:
        before = dict(os.environ)
        os.environ |= {
            "LD_PRELOAD": str(self.library),
            "PANGATE_CLOCK": str(self.directory / "seconds"),
        }
        try:
            super().start_gateway()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def codes(self) -> list[str]:
        return [event["code"] for event in self.events()]

    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.audit.read_bytes().splitlines()]


@pytest.fixture
def wrong(postgres, trial, library, monkeypatch) -> Iterator[Wrong]:
    monkeypatch.setattr(Wrong, "library", library, raising=False)
    with Wrong(postgres, effects=EVERYTHING) as made:
        yield made


def connected(trial: Trial) -> psycopg.Connection:
    return psycopg.connect(through(trial, trial.token()), autocommit=True)


def test_nothing_runs_until_the_clock_has_caught_up(wrong):
    with connected(wrong) as agent, pytest.raises(psycopg.Error) as caught:
        agent.execute("select 1")
        wrong.set(-3)
        agent.execute("select 2")
    assert caught.value.sqlstate == "58030"
    assert "the gateway's clock went back" in str(caught.value)
    until(lambda: "clock.back" in wrong.codes(), "it is recorded")
    with pytest.raises(psycopg.Error):
        connected(wrong)
    until(lambda: "audit.recovered" in wrong.codes(), "the clock has caught up")
    with connected(wrong) as agent:
        agent.execute("select 3")
    wrong.stop_gateway()
    events = wrong.events()
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    (back,) = [event for event in events if event["code"] == "clock.back"]
    assert 1 < back["data"]["seconds"] < 4
    behind = [event for event in events if event["clock"] == "back"]
    assert back in behind
    latest = 0.0
    for event in events:
        moment = datetime.fromisoformat(event["time"]).timestamp()
        # so much (audit.clock_back_seconds) is no trouble
        assert event["clock"] == "back" or moment >= latest - 1, event
        latest = max(latest, moment)
    assert "the system's clock went back" in wrong.log.read_text()


def test_a_clock_that_was_ahead_is_accepted_by_a_person(wrong):
    wrong.set(100)
    with connected(wrong) as agent:
        agent.execute("select 1")
    wrong.set(0)
    until(lambda: "clock.back" in wrong.codes(), "it is recorded, though nobody asks")
    assert wrong.stop_gateway() == 0
    wrong.start_gateway()
    with pytest.raises(psycopg.Error, match="clock went back"):
        connected(wrong)
    os.kill(wrong.pid, signal.SIGHUP)
    until(lambda: "clock.accepted" in wrong.codes(), "it is accepted")
    with connected(wrong) as agent:
        agent.execute("select 1")
    wrong.stop_gateway()
    events = wrong.events()
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    (accepted,) = [event for event in events if event["code"] == "clock.accepted"]
    assert 10 < accepted["data"]["seconds"] <= 101
