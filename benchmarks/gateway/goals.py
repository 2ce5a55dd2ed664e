"""What the gateway is held to, and how it stands. A goal is a ratio within each round, or a figure, and its
median over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.cases import Case

Samples = Mapping[str, Sequence[Mapping[str, float]]]

NOTHING = "policy,record,recording,sealing"


@dataclass(frozen=True)
class Goal:
    """`figures` makes one number of each round of the case `case`. `most` says whether the required and the
    aimed at are the most or the least that it may be."""

    name: str
    case: str
    figures: Callable[[Samples], list[float]]
    required: float
    aim: float
    most: bool = True
    unit: str = ""


def ratio(field: str, way: str, to: str) -> Callable[[Samples], list[float]]:
    """`field` of one way to that of another."""

    def figures(samples: Samples) -> list[float]:
        pairs = zip(samples[way], samples[to], strict=True)
        return [mine[field] / theirs[field] for mine, theirs in pairs if theirs[field]]

    return figures


def with_sealer(way: str, to: str) -> Callable[[Samples], list[float]]:
    """CPU of one way, its sealer's too, to that of another."""

    def figures(samples: Samples) -> list[float]:
        pairs = zip(samples[way], samples[to], strict=True)
        return [
            (mine["cpu_us"] + mine["sealer_us"]) / theirs["cpu_us"]
            for mine, theirs in pairs
            if theirs["cpu_us"]
        ]

    return figures


def added(field: str) -> Callable[[Samples], list[float]]:
    """What pangate adds to the direct way, to what pgbouncer adds."""

    def figures(samples: Samples) -> list[float]:
        rounds = zip(samples["pangate"], samples["pgbouncer"], samples["direct"], strict=True)
        return [
            (mine[field] - bare[field]) / (theirs[field] - bare[field])
            for mine, theirs, bare in rounds
            if theirs[field] > bare[field]
        ]

    return figures


def figure(field: str, way: str) -> Callable[[Samples], list[float]]:
    """A figure as it is."""
    return lambda samples: [each[field] for each in samples[way]]


def _goals() -> list[Goal]:
    out = []
    for mode in ("prepared", "simple", "extended"):
        case = f"pgbench -S, {mode}, 32 clients"
        out.append(Goal(
            f"CPU a query to pgbouncer's, {mode}", case, ratio("cpu_us", "pangate", "pgbouncer"), 1.35, 1.0,
        ))  # fmt: skip
    case = "pgbench -S, prepared, 32 clients"
    out += [
        Goal("the same, the sealer's CPU too", case, with_sealer("pangate", "pgbouncer"), 1.35, 1.0),
        Goal(
            "CPU a query to pgbouncer's, TLS on both sides",
            "pgbench -S over TLS, prepared, 32 clients",
            ratio("cpu_us", "pangate tls", "pgbouncer tls"), 1.35, 1.0,
        ),
        Goal(
            "CPU with policy, record and recording to without",
            "parts: pgbench -S, prepared, 32 clients",
            ratio("cpu_us", "pangate", f"pangate without {NOTHING}"), 1.15, 1.05,
        ),
        Goal("tps to pgbouncer's, 32 clients", case, ratio("tps", "pangate", "pgbouncer"), 0.9, 1.0, most=False),
        Goal(
            "p50 that is added, to what pgbouncer adds, 1 client",
            "pgbench -S, prepared, 1 client", added("p50_us"), 1.3, 0.7,
        ),
        Goal("p99 to pgbouncer's, 32 clients", case, ratio("p99_us", "pangate", "pgbouncer"), 1.3, 1.0),
    ]  # fmt: skip
    for what in ("COPY", "SELECT"):
        case = f"bulk: {what}, a PAN a row"
        out += [
            Goal(f"MB/s of {what} to direct", case, ratio("mb_per_second", "pangate", "direct"), 0.85, 0.97, most=False),
            Goal(f"CPU of {what}", case, figure("cpu_s_per_gb", "pangate"), 5.5, 4, unit="s/GB"),
        ]  # fmt: skip
    out += [
        Goal(
            "connections a second, a token each", "pgbench -S -C, 8 clients",
            figure("tps", "pangate"), 1500, 1500, most=False, unit="/s",
        ),
        Goal(
            "the same over TLS", "pgbench -S -C over TLS, 8 clients",
            figure("tps", "pangate tls"), 500, 500, most=False, unit="/s",
        ),
        Goal("memory of an idle session beyond its sockets", "idle sessions", figure("beyond_kib", "pangate"), 64, 16, unit="KiB"),
        Goal(
            "the same over TLS", "idle sessions over TLS", figure("beyond_kib", "pangate tls"), 64, 16, unit="KiB",
        ),
        Goal(
            "tps of two workers to one's", "workers: pgbench -S, simple, 32 clients",
            ratio("tps", "pangate 2 workers", "pangate"), 1.5, 1.8, most=False,
        ),
    ]  # fmt: skip
    return out


def standing(cases: Sequence[Case]) -> list[dict[str, object]]:
    """A row for each goal: what is required, aimed at and measured. Without "measured" when its case was not
    run."""
    samples = {case.name: case.samples for case in cases}
    rows = []
    for goal in _goals():
        row: dict[str, object] = {
            "goal": goal.name,
            "case": goal.case,
            "required": f"{'≤' if goal.most else '≥'} {goal.required:g}",
            "aim": f"{goal.aim:g}",
            "unit": goal.unit,
        }
        try:
            found = goal.figures(samples[goal.case])
        except (KeyError, ValueError):
            found = []
        if found:
            middle = statistics.median(found)
            row["measured"] = round(middle, 3)
            row["from"], row["to"] = round(min(found), 3), round(max(found), 3)
            good = middle <= goal.required if goal.most else middle >= goal.required
            row["met"] = good
        rows.append(row)
    return rows
