"""Kills gateways, and the processes that seal for them, at any moment while pgbench works through them, and
compares what is recorded with what PostgreSQL says that it was asked to do.

    python tests/crash.py --kills 200

prints a line (sooner after SIGUSR1) and ends with 1 when the record does not verify, has a gap, or lacks a
command."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pangate.audit.marks import is_whole
from pangate.embedded import EmbeddedPostgres
from pangate.model import EFFECTS
from pangate.trial import Trial, until

SCRIPT = """\\set a random(1, 99999999)
\\set b random(1, 99999999)
insert into crash (a, b, c) values (:a, :b, :client_id);
select count(*) from crash where a = :a and b = :b;
/* :a and :b */ update total set n = n + 1;
"""
"""One that need not be on the disk first, one that only reads, one that has to be. Each names itself."""

SETTINGS = {"log_statement": "all", "log_line_prefix": ""}
MARK = re.compile(r"insert into crash|from crash where|update total")
CLIENTS = 6


@dataclass
class Found:
    """What came of it. `executed` are the commands that PostgreSQL logged, `lost` those of them that are not
    in the record, `committed` the rows that are in its tables."""

    kills: Counter[str] = field(default_factory=Counter)
    executed: int = 0
    committed: int = 0
    recorded: int = 0
    events: int = 0
    repaired: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)
    stopped: bool = False
    """Whether somebody has seen enough."""

    def __str__(self) -> str:
        kills = ", ".join(f"{number} of {who}" for who, number in sorted(self.kills.items()))
        return (
            f"{sum(self.kills.values())} kills ({kills}); {self.executed} commands executed, "
            f"{self.committed} rows committed, {self.recorded} commands recorded in {self.events} events, "
            f"{self.repaired} torn ends repaired; lost commands: {self.lost}"
            + "".join(f"\nWRONG: {one}" for one in self.wrong)
        )


def crash(kills: int, seed: int, say: bool = False) -> Found:
    """Kill `kills` times, and see."""
    chance, found = random.Random(seed), Found()
    if say:
        signal.signal(signal.SIGUSR1, lambda number, frame: setattr(found, "stopped", True))
    with (
        EmbeddedPostgres(SETTINGS) as postgres,
        Trial(
            postgres,
            effects=f"effects = {json.dumps(EFFECTS)}",
            audit="seal_seconds = 0.2",
            role='record = "digest"',
        ) as trial,
    ):
        postgres.psql(
            "create table crash (a int, b int, c int); create table total as select 0 as n;"
            "grant all on crash, total to public"
        )
        script = trial.directory / "script.sql"
        script.write_text(SCRIPT)
        for number in range(kills):
            if found.stopped:
                break
            with _load(trial, script):
                time.sleep(chance.uniform(0.02, 0.7))
                who = chance.choices(("the gateway", "both", "the sealer"), (8, 3, 1))[0]
                _kill(trial, who)
                found.kills[who] += 1
                if who == "the sealer":
                    time.sleep(chance.uniform(0, 0.1))
                    os.kill(trial.pid, signal.SIGKILL)
            trial.stop_gateway()
            trial.start_gateway()
            if say and number % 10 == 9:
                print(f"{number + 1} kills", file=sys.stderr, flush=True)
        with _load(trial, script):
            time.sleep(1)  # and it goes on
        if trial.stop_gateway() != 0:
            found.wrong.append("the last gateway did not end well")
        _compare(trial, postgres, found)
    return found


@contextlib.contextmanager
def _load(trial: Trial, script: Path):
    words = [
        str(trial.postgres.bin / "pgbench"), "-n", "-c", str(CLIENTS), "-j", "2", "-T", "600",
        "-f", str(script),
    ]  # fmt: skip
    before = trial.audit.stat().st_size
    process = subprocess.Popen(
        words, env=trial.environment(trial.token()), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: trial.audit.stat().st_size > before + 10_000, "pgbench works", seconds=60)
        yield
    finally:
        process.kill()
        process.wait()


def _kill(trial: Trial, who: str) -> None:
    sealers = []
    if who != "the gateway":
        children = Path(f"/proc/{trial.pid}/task/{trial.pid}/children").read_text().split()
        sealers = [int(pid) for pid in children]
    for pid in sealers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if who != "the sealer":
        os.kill(trial.pid, signal.SIGKILL)


def _compare(trial: Trial, postgres: EmbeddedPostgres, found: Found) -> None:
    executed: Counter[str] = Counter()
    with postgres.log.open(encoding="utf-8", errors="replace") as log:
        for line in log:
            _, mark, text = line.rstrip("\n").partition("statement: ")
            if mark and MARK.search(text):
                executed[text.rstrip(";")] += 1
    recorded: Counter[str] = Counter()
    with trial.audit.open("rb") as file:
        for number, line in enumerate(file, 1):
            event = json.loads(line)
            if event["sequence"] != number or not is_whole(line[:-1]):
                found.wrong.append(f"line {number} is not the event {number}")
                break
            found.events = number
            found.repaired += event["code"] == "audit.repaired"
            if event["code"] == "statement.allowed":
                recorded[event["data"]["text"].rstrip(";")] += 1
    found.executed, found.recorded = executed.total(), recorded.total()
    found.lost = (executed - recorded).total()
    found.committed = int(
        postgres.psql("select (select count(*) from crash) + n from total", "postgres", "-At")
    )
    if not found.executed:
        found.wrong.append("nothing was executed")
    if found.lost:
        found.wrong.append(f"not recorded: {list(executed - recorded)[:3]}")
    if found.committed > found.executed:
        found.wrong.append("more was committed than executed")
    words = [sys.executable, "-m", "pangate.cli", "audit", "verify", str(trial.directory)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode or f"verified: {found.events:,} events" not in done.stdout:
        found.wrong.append(f"it does not verify: {done.stdout}{done.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="how often (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    options = parser.parse_args()
    began = time.monotonic()
    found = crash(options.kills, options.seed, say=True)
    print(f"{found}\n{time.monotonic() - began:.0f} seconds, seed {options.seed}")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
