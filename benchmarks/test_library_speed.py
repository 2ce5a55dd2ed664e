"""The library around the scanner: what decoders cost, columns, and the command line in a pipe beside `cat`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest
from corpora import corpora

from pangate import Masker
from pangate.masking.decode import DECODERS

(LOGS,) = corpora(512 << 10, ["logs"])
OFF = [decoder.name for decoder in DECODERS.values() if not decoder.default]
COUNT = 1_000_000  # values of a column
PIPE = int(os.environ.get("PANGATE_PIPE_MB", "1024")) << 20
ROUNDS = 7
MASK = (sys.executable, "-m", "pangate.cli", "mask")


@pytest.mark.parametrize("name", ["default", *OFF])
@pytest.mark.timeout(600)
def test_decoder(benchmark, name):
    """Masking logs with what is on by default, and with one decoder more."""
    masker = Masker(decode=["default", name])
    benchmark.group = "library: decoders"
    masked = benchmark.pedantic(masker.mask, (LOGS.data,), rounds=5, warmup_rounds=1)
    assert masked != LOGS.data
    benchmark.extra_info.update(
        decoder_mb=round(len(LOGS.data) / benchmark.stats.stats.min / 1e6, 1)
    )


def test_integers(benchmark):
    masker = Masker()
    values = np.random.default_rng(1).integers(10**11, 10**16, COUNT)
    values[::100] = 4111111111111111
    benchmark.group = "library: columns"
    masked = benchmark.pedantic(masker.mask, (values,), rounds=5, warmup_rounds=1)
    assert (masked[::100] != values[::100]).all()
    benchmark.extra_info.update(million=round(COUNT / benchmark.stats.stats.min / 1e6, 1))


@pytest.mark.parametrize("pans", [0, 1])
def test_arrow_strings(benchmark, pans):
    """Order numbers, without a PAN and with one in each hundredth."""
    pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    masker = Masker()
    texts = [f"order {i % 1000}" for i in range(COUNT)]
    if pans:
        texts[::100] = ["4111111111111111"] * len(texts[::100])
    values = pyarrow.array(texts)
    benchmark.group = "library: columns"
    masked = benchmark.pedantic(masker.mask, (values,), rounds=5, warmup_rounds=1)
    assert masked[0].as_py() == ("************1111" if pans else "order 0")
    benchmark.extra_info.update(million=round(COUNT / benchmark.stats.stats.min / 1e6, 1))


class Cost(NamedTuple):
    """Seconds and MB of the process at the end of a pipe; `wall` is that of the pipe."""

    wall: float
    user: float
    system: float
    memory: float


def through(path: Path, command: Sequence[str]) -> Cost:
    """`cat PATH | COMMAND > /dev/null`."""
    began = time.perf_counter()
    with (
        subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat,
        subprocess.Popen(command, stdin=cat.stdout, stdout=subprocess.DEVNULL) as last,
    ):
        assert cat.stdout
        cat.stdout.close()
        _, status, used = os.wait4(last.pid, 0)
        last.returncode = os.waitstatus_to_exitcode(status)
    assert last.returncode == 0
    return Cost(time.perf_counter() - began, used.ru_utime, used.ru_stime, used.ru_maxrss / 1024)


def middle(costs: Sequence[Cost], name: str) -> float:
    return round(median(getattr(cost, name) for cost in costs), 3)


@pytest.mark.timeout(600)
def test_pipe(benchmark, tmp_path):
    """`cat huge.log | pangate mask`, beside `cat huge.log | cat`, in turns."""
    masked = subprocess.run(MASK, input=LOGS.data, capture_output=True, check=True).stdout
    assert masked == Masker().mask(LOGS.data) != LOGS.data
    path, empty = tmp_path / "huge.log", tmp_path / "empty.log"
    with path.open("wb") as file:
        for _ in range(PIPE // len(LOGS.data)):
            file.write(LOGS.data)
    empty.touch()
    ours, cats, starts = [], [], []
    for counted in range(-1, ROUNDS):
        found = through(path, MASK), through(path, ["cat"]), through(empty, MASK)
        if counted >= 0:
            for costs, cost in zip((ours, cats, starts), found, strict=True):
                costs.append(cost)
    benchmark.group = "library: pipe"
    benchmark.pedantic(through, (empty, MASK), rounds=1)
    benchmark.extra_info.update(megabytes=path.stat().st_size >> 20, rounds=ROUNDS)
    for name, costs in (("pangate", ours), ("cat", cats), ("start", starts)):
        benchmark.extra_info[name] = {field: middle(costs, field) for field in Cost._fields}
    ratios = [a.wall / b.wall for a, b in zip(ours, cats, strict=True)]
    benchmark.extra_info["wall_to_cat"] = [
        round(value, 2) for value in (min(ratios), median(ratios), max(ratios))
    ]
