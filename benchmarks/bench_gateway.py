"""bench_gateway.py [--quick] [--minutes N] [--only GROUP] [--no-record]: the gateway beside its peers.

PostgreSQL, pgbouncer, haproxy and pangate stand side by side on one machine, and every case runs through them in
turns, there and back in the next round, so that what the machine does meanwhile falls on all of them. What is
compared is made within a round, and a figure is the median of the rounds: at least five of them, unless
--quick. Rounds go on until the time is over; cases that no goal hangs on are left out when it is too short for
five. 25 minutes are enough for all. docs/performance.md says how to read it.

Progress is on standard error, the goals and how they stand on standard output, everything in
benchmarks/record/DATE-gateway.json; `python benchmarks/report.py` makes the page of it."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from gateway.cases import TLS, Case, Setting, all_cases, check, check_parts, in_turns
from gateway.goals import NOTHING, standing
from gateway.load import LoadError
from gateway.tables import fill, programs
from gateway.ways import USER, Way, started
from idle_sessions import bare, through_the_gateway
from record import RECORDS, keep

from pangate.config import ProcessSettings
from pangate.embedded import EmbeddedPostgres, unwinding_signals
from pangate.trial import Trial

ROUNDS, QUICK_ROUNDS, MOST_ROUNDS = 5, 2, 25
IDLE = 300
SERVER = {"shared_buffers": "512MB", "max_connections": "1500", "autovacuum": "off"}
MB_PER_SECOND = 110
"""A guess at what a result comes at, to know beforehand how long a round takes."""

ROW_BYTES = 125

LONG = 25
"""Minutes from which on a bulk run is of 1 GB, and not of the half."""


def main() -> int:
    options = _options()
    with unwinding_signals():
        return run(options)


def _options() -> argparse.Namespace:
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument(
        "--quick", action="store_true", help="about 2 minutes: what the goals need, two rounds"
    )
    words.add_argument("--minutes", type=float, help="how long it may take (15, quick 2)")
    words.add_argument("--only", action="append", choices=("select", "tls", "parts", "tpcb", "connections", "workers", "sweep", "bulk", "idle"), help="a group of cases: select, tls, parts, tpcb, connections, "
                       "workers, sweep, bulk, idle; repeatable")  # fmt: skip
    words.add_argument("--rows", type=int, help="rows of the large results (1000000, quick 200000)")
    words.add_argument("--bulk-mb", type=int, help="megabytes of a bulk run (1000, quick 100)")
    words.add_argument("--rounds", type=int, help="the least number of rounds (5, quick 2)")
    words.add_argument("--no-record", action="store_true", help="keep nothing")
    options = words.parse_args()
    options.minutes = options.minutes or (2 if options.quick else 15)
    options.rows = options.rows or (200_000 if options.quick else 1_000_000)
    if not options.bulk_mb:
        options.bulk_mb = 100 if options.quick else 1000 if options.minutes >= LONG else 500
    return options


def run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    until = began + options.minutes * 60
    cases = _chosen(options)
    names = list(dict.fromkeys(["direct", *(way for case in cases for way in case.ways)]))
    say(f"{len(cases)} cases through {len(names)} ways; PostgreSQL and its tables first")
    with EmbeddedPostgres(SERVER, plaintext=True) as server:
        fill(server, options.rows, scale=5 if options.quick else 20, user=USER)
        with started(server, names) as ways:
            setting = Setting(
                programs(server), server.pid, 1.0, options.rows,
                max(1, round(options.bulk_mb * 1e6 / options.rows / ROW_BYTES)),
            )  # fmt: skip
            checked = check(ways, setting)
            check_parts(ways)
            say(f"the answers are right: {checked['masked']:,} card numbers masked, none in clear")
            idle = (
                [] if options.only and "idle" not in options.only else idle_sessions(server, IDLE)
            )
            rounds, setting = rounds_of(cases, ways, setting, options, until)
    cases += idle
    goals = standing(cases)
    print(goals_table(goals))
    record = {
        "versions": versions(server),
        "quick": options.quick,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "rounds": rounds,
        "seconds": setting.seconds,
        "rows": options.rows,
        "bulk_mb": options.bulk_mb,
        "checked": checked,
        "goals": goals,
        "benchmarks": [entry(case) for case in cases],
    }
    if not options.no_record:
        keep("gateway", record)
    return 0


def _chosen(options: argparse.Namespace) -> list[Case]:
    cases = all_cases()
    if options.quick:
        cases = [case for case in cases if case.priority == 0]
    if options.only:
        cases = [case for case in cases if case.group in options.only]
    if not hasattr(ProcessSettings, "workers"):
        cases = [case for case in cases if case.group != "workers"]
    if options.quick:
        # what no goal is about is left out
        keep = {
            "direct",
            "pgbouncer",
            "pangate",
            "pangate 2 workers",
            f"pangate without {NOTHING}",
            *TLS,
        }
        cases = [
            replace(case, ways=tuple(way for way in case.ways if way in keep)) for case in cases
        ]
    return cases


def estimate(cases: Sequence[Case], setting: Setting) -> float:
    """About how many seconds a round takes."""
    total = 0.0
    for case in cases:
        own = 0.0 if case.fixed else setting.seconds / (3 if case.group == "sweep" else 1)
        size = setting.rows * ROW_BYTES * setting.repeat / 1e6 if case.group == "bulk" else 0
        total += len(case.ways) * (case.cost + own + size / MB_PER_SECOND)
    return total


def rounds_of(
    cases: list[Case],
    ways: dict[str, Way],
    setting: Setting,
    options: argparse.Namespace,
    until: float,
) -> tuple[int, Setting]:
    """Run the rounds that there is time for, and return how many that were."""
    least = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    left = until - time.monotonic()
    dropped = []
    for case in sorted(cases, key=lambda case: (case.priority, cases.index(case)), reverse=True):
        if case.priority == 0 or least * estimate(cases, setting) <= left:
            break
        cases.remove(case)
        dropped.append(case.name)
    if dropped:
        say(f"left out, for want of time: {'; '.join(dropped)}")
    while setting.seconds < 10:
        longer = replace(setting, seconds=setting.seconds + 1)
        if least * estimate(cases, longer) > left:
            break
        setting = longer
    about = estimate(cases, setting)
    say(
        f"a round takes about {about:.0f} s, {left:.0f} s are left; a run of pgbench takes {setting.seconds:g} s"
    )
    if least * about > left:
        say(f"{least} rounds take longer than there is time (--minutes, --only)")
    slowest = 0.0
    for number in range(MOST_ROUNDS):
        began = time.monotonic()
        if number >= least and began + slowest > until:
            return number, setting
        for case in cases:
            for name in in_turns(number, case.ways):
                try:
                    found = case.run(ways[name], setting)
                except LoadError as wrong:
                    raise LoadError(f"{case.name}, {name}: {wrong}") from None
                case.samples.setdefault(name, []).append(found)
            say(f"{number + 1}: {case.name}: {brief(case)}")
        slowest = max(slowest, time.monotonic() - began)
    return MOST_ROUNDS, setting


def brief(case: Case) -> str:
    """The last round of a case in a line."""
    shown = []
    for name in case.ways:
        last = case.samples[name][-1]
        figure = (
            f"{last['mb_per_second']:.0f} MB/s"
            if "mb_per_second" in last
            else f"{last['tps']:.0f}/s"
        )
        shown.append(f"{name} {figure} {last.get('cpu_us', 0):.0f} µs")
    return ", ".join(shown)


def idle_sessions(server: EmbeddedPostgres, count: int) -> list[Case]:
    """What an idle session costs in memory, beside a relay that has only its sockets."""
    out = []
    for tls in (False, True):
        with Trial(
            server,
            limits=f"max_sessions = {count + 60}",
            listen="" if tls else "allow_plaintext_loopback = true",
            tls="verify-full" if tls else "disable",
            resource=f"pool = {{ max_connections = {count + 60} }}",
        ) as trial:
            found = uvloop.run(through_the_gateway(trial, count, tls))
            sockets = uvloop.run(bare(server, trial.directory, count, tls))
        name = "pangate tls" if tls else "pangate"
        case = Case(f"idle sessions{' over TLS' if tls else ''}", "idle", (name,), lambda *_: {})
        beyond = round(found["after_a_statement"] - sockets, 1)
        case.samples[name] = [
            {"sessions": count, "sockets_kib": sockets, "beyond_kib": beyond, **found}
        ]
        say(f"{case.name}: {beyond} KiB beyond the sockets' {sockets}")
        out.append(case)
    return out


def entry(case: Case) -> dict[str, object]:
    """A case as it is recorded: medians, and how far the rounds lie apart in what counts most."""
    ways = {}
    for name, samples in case.samples.items():
        row = {key: middle(samples, key) for key in samples[0]}
        for key in ("tps", "mb_per_second", "cpu_us"):
            if key in row:
                values = [sample[key] for sample in samples]
                row[f"{key}_from_to"] = [rounded(min(values)), rounded(max(values))]
        ways[name] = row
    return {"name": case.name, "group": case.group, "ways": ways}


def middle(samples: Sequence[dict[str, float]], key: str) -> float:
    return rounded(statistics.median(sample[key] for sample in samples))


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def goals_table(goals: Sequence[dict[str, object]]) -> str:
    """The goals for a terminal."""
    head = ("goal", "required", "aim", "measured", "from", "to", "")
    rows = [head]
    for goal in goals:
        measured = goal.get("measured", "-")
        met = {True: "met", False: "NOT MET"}.get(goal.get("met"), "not run")  # type: ignore[call-overload]
        unit = f" {goal['unit']}" if goal["unit"] else ""
        rows.append((
            str(goal["goal"]), str(goal["required"]), str(goal["aim"]), f"{measured}{unit}",
            str(goal.get("from", "")), str(goal.get("to", "")), met,
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def versions(server: EmbeddedPostgres) -> dict[str, str]:
    """Of everything that was measured."""
    found = {}
    for name, words in (
        ("postgresql", [str(server.bin / "postgres"), "--version"]),
        ("pgbouncer", ["/usr/sbin/pgbouncer", "--version"]),
        ("haproxy", ["/usr/sbin/haproxy", "-v"]),
        ("pangate", ["git", "-C", str(RECORDS), "describe", "--always", "--dirty"]),
    ):
        if Path(words[0]).exists() or words[0] == "git":
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            found[name] = (done.stdout.splitlines() or ["unknown"])[0]
    return found


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
