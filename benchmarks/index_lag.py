"""index_lag.py [--seconds N] [--keep]: how far the index is behind the record while pgbench -S runs through the
gateway as fast as it can, with 32 clients, simple and prepared.

The lag is the age of the oldest event that is in the record's file and not in the index, at samples 20 times a
second. At the end the index has to have every event."""

from __future__ import annotations

import argparse
import bisect
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway.load import percentile
from gateway.tables import fill, programs
from gateway.ways import USER, pangate
from record import keep

from pangate.audit.index import Record, index_path
from pangate.audit.lines import sequence_of
from pangate.embedded import EmbeddedPostgres, unwinding_signals
from pangate.trial import Trial, until

EVERY_SECONDS = 0.05
TAIL_BYTES = 1 << 16


def newest(record: Path) -> int:
    """Sequence of the last whole line."""
    with record.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().split(b"\n")[1:-1]
    return sequence_of(lines[-1]) if lines else 0


def indexed(index: Path) -> int:
    """Sequence of the last event that the index has."""
    try:
        with sqlite3.connect(f"file:{index}?mode=ro", uri=True, timeout=1) as found:
            rows = found.execute("select value from meta where key = 'sequence'").fetchall()
    except sqlite3.OperationalError:
        return 0  # it is not there yet
    return int(rows[0][0]) if rows else 0


def measure(trial: Trial, server: EmbeddedPostgres, mode: str, seconds: int) -> dict[str, object]:
    environment = {**trial.environment(trial.token(seconds=7200)), "PGSSLMODE": "disable"}
    words = ["-S", "-n", "-M", mode, "-c", "32", "-j", "2", "-T", str(seconds), "-U", USER]
    index = index_path(Record(trial.audit))
    # the process that indexes has started, and has what came before
    until(lambda: indexed(index) >= max(1, newest(trial.audit)), "the index has what was there", 30)
    first, began = newest(trial.audit), time.monotonic()
    times: list[float] = []
    written: list[int] = []
    ages: list[int] = []
    behind = 0
    load = subprocess.Popen(
        [programs(server), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while load.poll() is None:
        time.sleep(EVERY_SECONDS)
        has = indexed(index)
        times.append(time.monotonic())
        written.append(newest(trial.audit))
        missing = bisect.bisect_right(written, has)
        age = times[-1] - times[missing] if missing < len(times) else 0.0
        ages.append(round(age * 1e6))
        behind = max(behind, written[-1] - has)
    said = load.communicate()[0]
    assert load.returncode == 0, said
    events, took = newest(trial.audit) - first, time.monotonic() - began
    ended = time.monotonic()
    until(lambda: indexed(index) >= newest(trial.audit), "the index has every event", 30)
    ages.sort()
    row = {
        "group": "index_lag",
        "name": f"-S {mode}, 32 clients",
        "seconds": round(took, 1),
        "events_per_second": round(events / took),
        "lag_ms_median": round(percentile(ages, 0.5) / 1000),
        "lag_ms_p99": round(percentile(ages, 0.99) / 1000),
        "lag_ms_max": round(ages[-1] / 1000),
        "events_behind_max": behind,
        "caught_up_ms": round((time.monotonic() - ended) * 1000),
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=int, default=30)
    words.add_argument("--keep", action="store_true")
    options = words.parse_args()
    with unwinding_signals(), EmbeddedPostgres(plaintext=True) as server:
        fill(server, 1000, 1, USER)
        with pangate(server, tls=False) as trial:
            rows = [
                measure(trial, server, mode, options.seconds) for mode in ("simple", "prepared")
            ]
    if options.keep:
        keep("index_lag", {"benchmarks": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
