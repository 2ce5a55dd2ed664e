"""Counts as bars: where each stands and how high it is, for a picture that needs no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 440.0, 170.0
LEFT, BELOW, ABOVE = 44.0, 22.0, 10.0
MOST_SERIES = 6
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a column. `series` is the number of what it counts."""

    x: float
    y: float
    width: float
    height: float
    series: int
    said: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of `names`, each a series, over `times`, and the same as a table."""

    title: str
    names: Sequence[str]
    bars: Sequence[Bar]
    lines: Sequence[tuple[float, str]]
    """Height and label of the lines across."""
    marks: Sequence[tuple[float, str]]
    """Place and label of times."""
    rows: Sequence[tuple[str, Sequence[int]]]
    total: int


def chart(title: str, times: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> Chart:
    """Stacked columns, one for each of `times`, of `counts` by time and name."""
    totals: dict[str, int] = {}
    for of_time in counts.values():
        for name, count in of_time.items():
            if count:
                totals[name] = totals.get(name, 0) + count
    names = sorted(totals, key=lambda name: (-totals[name], name))
    if len(names) > MOST_SERIES:
        names = [*names[: MOST_SERIES - 1], OTHERS]
    rows = [(time, _row(counts.get(time, {}), names)) for time in times]
    most = _nice(max((sum(row) for _, row in rows), default=0))
    step = (WIDTH - LEFT) / max(1, len(times))
    tall = HEIGHT - BELOW - ABOVE
    bars = []
    for place, (time, row) in enumerate(rows):
        low = HEIGHT - BELOW
        for series, count in enumerate(row):
            if count:
                height = tall * count / most
                low -= height
                bars.append(
                    Bar(
                        round(LEFT + place * step + step * 0.12, 1),
                        round(low, 1),
                        round(step * 0.76, 1),
                        round(height, 1),
                        series,
                        f"{_short(time)}: {count} {names[series]}",
                    )
                )
    lines = [
        (
            round(HEIGHT - BELOW - tall * part / 2, 1),
            f"{most * part // 2}" if most > 1 or part != 1 else "",
        )
        for part in (0, 1, 2)
    ]
    every = max(1, math.ceil(len(times) / 6))
    marks = [
        (round(LEFT + place * step + step / 2, 1), _short(time))
        for place, time in enumerate(times)
        if place % every == 0
    ]
    return Chart(title, names, bars, lines, marks, rows, sum(totals.values()))


def _row(counts: Mapping[str, int], names: Sequence[str]) -> list[int]:
    row = [counts.get(name, 0) for name in names]
    if names and names[-1] == OTHERS:
        row[-1] = sum(counts.values()) - sum(row[:-1])
    return row


def _nice(most: int) -> int:
    """The end of a scale: 1, 2, 4, 6, 8 or 10 times a power of ten, and not less than `most`."""
    if most <= 2:
        return max(1, most)
    power = int("1" + "0" * (len(str(most)) - 1))
    return next(part * power for part in (1, 2, 4, 6, 8, 10) if part * power >= most)


def _short(time: str) -> str:
    """The hour of a time that has one, the day of the month otherwise."""
    return f"{time[11:13]}:00" if len(time) > 10 else time[5:]
