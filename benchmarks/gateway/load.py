"""pgbench and what came of it; the kernel's accounts of CPU and memory."""

from __future__ import annotations

import bisect
import os
import re
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
TPS = re.compile(r"tps = ([\d.]+)")
COUNT = re.compile(r"actually processed: (\d+)")
SETTLE_SECONDS = 5.0
"""What works behind a run (a sealer, a compressor) may take so long to come to its end; its CPU is the run's."""


WATCH_SECONDS = 0.05


class LoadError(Exception):
    """A run failed; says which and how."""


class TooShort(LoadError):
    """The run was over before a client was logged in."""


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """User and system seconds of one process, with `children` those of its ended children too; 0 when there
    is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15] if children else fields[11:13])) / TICK


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def is_sealer(pid: int) -> bool:
    """Whether it seals or indexes the record, behind the gateway."""
    return duty(pid) != "gateway"


def duty(pid: int) -> str:
    """What a process of the gateway is for."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "gateway"
    if b"pangate.service.sealing" in words:
        return "sealer"
    return "indexer" if b"pangate.service.indexing" in words else "gateway"


@dataclass(frozen=True)
class Spent:
    """CPU seconds of a way's own processes, of its sealers, and of the server."""

    own: float = 0.0
    sealer: float = 0.0
    server: float = 0.0

    def __sub__(self, before: Spent) -> Spent:
        return Spent(
            self.own - before.own, self.sealer - before.sealer, self.server - before.server
        )


def spent(pid: int, server: int) -> Spent:
    """What was used so far. `pid` is the way's first process, 0 for none."""
    pids = family(pid) if pid else []
    sealers = [one for one in pids if is_sealer(one)]
    return Spent(
        sum(cpu_seconds(one) for one in pids if one not in sealers),
        sum(map(cpu_seconds, sealers)),
        _with_ended(server),
    )


def _with_ended(pid: int) -> float:
    """CPU of a process and of its children, those that have ended too."""
    for _ in range(20):
        ended = cpu_seconds(pid, children=True)
        living = sum(cpu_seconds(one) for one in family(pid) if one != pid)
        # a child that ends between the two is in neither: look again
        if cpu_seconds(pid, children=True) - ended <= 1 / TICK:
            break
    return ended + living


def settle(pid: int) -> None:
    """Wait until a way has done what it does behind a run, so that the next run has the machine."""
    if not pid:
        return
    pids = family(pid)
    until = time.monotonic() + SETTLE_SECONDS
    before = sum(map(cpu_seconds, pids))
    while time.monotonic() < until:
        time.sleep(0.08)
        after = sum(map(cpu_seconds, pids))
        if after - before <= 1 / TICK:
            return
        before = after


def pss_kib(pid: int) -> int:
    """PSS of a process: what is shared counts by its share."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def percentile(ordered: Sequence[int], part: float) -> float:
    """By the nearest rank."""
    return float(ordered[min(len(ordered) - 1, int(part * len(ordered)))])


class Watch(threading.Thread):
    """Reads a way's CPU and, once, its memory while pgbench runs. What logins cost is so kept out of what a
    transaction does."""

    def __init__(self, pids: Sequence[int], at: float) -> None:
        super().__init__(daemon=True)
        self._pids = [pid for pid in pids if not is_sealer(pid)]
        self._at = time.monotonic() + at
        self._over = threading.Event()
        self.seen: list[tuple[float, float]] = []
        self.pss_kib = 0

    def run(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            self.seen.append((time.time(), sum(map(cpu_seconds, self._pids))))
            if not self.pss_kib and time.monotonic() > self._at:
                self.pss_kib = sum(map(pss_kib, self._pids))

    def stop(self) -> None:
        self._over.set()
        self.join()

    def cpu_us(self, ends: Sequence[float], begin: float) -> float | None:
        """CPU microseconds for each of the transactions that ended (at these times, in order) from `begin`
        on; None when that was too short to say."""
        seen = [one for one in self.seen if begin < one[0] < ends[-1]]
        if len(seen) < 3:
            return None
        (first, before), (last, after) = seen[0], seen[-1]
        count = bisect.bisect(ends, last) - bisect.bisect(ends, first)
        return (after - before) / count * 1e6 if count else None


@dataclass(frozen=True)
class Done:
    """One transaction of pgbench's log: whose, when it ended, how long it took in microseconds."""

    client: int
    end: float
    took: int


def logged(place: Path) -> list[Done]:
    """What pgbench wrote, in the order of its ends."""
    found = []
    for file in place.iterdir():
        for line in file.read_bytes().splitlines():
            client, _, took, _, second, micro = line.split()[:6]
            found.append(Done(int(client), int(second) + int(micro) / 1e6, int(took)))
    return sorted(found, key=lambda one: one.end)


def all_at_work(done: Sequence[Done], clients: int) -> float:
    """When the last of the clients had done its first transaction. A pooler may have been making connections
    until then, one after the other. TooShort when that left less than a third of the run."""
    first: dict[int, float] = {}
    for one in done:
        first.setdefault(one.client, one.end)
    begin = max(first.values())
    whole = done[-1].end - min(first.values())
    if len(first) < clients or (clients > 1 and done[-1].end - begin < whole / 3):
        raise TooShort(f"{len(first)} of {clients} clients were at work, and not for long")
    return begin


def pgbench(
    program: Path, words: Sequence[str], environment: Mapping[str, str], pid: int, server: int
) -> dict[str, float]:
    """One run through one way: transactions a second, the latencies in microseconds, CPU microseconds for a
    transaction of everybody who took part, and the memory of the way in the middle of it."""
    settle(pid)
    place = Path(tempfile.mkdtemp(prefix="pangate-bench-", dir=_memory()))
    seconds = float(words[words.index("-T") + 1])
    watch = Watch(family(pid) if pid else [], seconds / 2)
    try:
        before, own = spent(pid, server), resource.getrusage(resource.RUSAGE_CHILDREN)
        watch.start()
        done = subprocess.run(
            [program, "--log", f"--log-prefix={place}/log", *words],
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=seconds + 120,
            check=False,
        )
        watch.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        settle(pid)
        used = spent(pid, server) - before
        if done.returncode or "number of failed transactions: 0 " not in done.stdout:
            raise LoadError(f"pgbench {' '.join(words)}: {done.stderr[-600:]}{done.stdout[-300:]}")
        transactions = logged(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    count = int(COUNT.search(done.stdout)[1])  # type: ignore[index]
    if not count:
        raise TooShort(f"no client was logged in within {seconds:g} seconds")
    if count != len(transactions):
        raise LoadError(f"pgbench did {count} transactions and logged {len(transactions)}")
    client = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
    tps, cpu = float(TPS.search(done.stdout)[1]), used.own / count * 1e6  # type: ignore[index]
    if "-C" not in words:
        begin = all_at_work(transactions, int(words[words.index("-c") + 1]))
        steady = watch.cpu_us([one.end for one in transactions], begin)
        cpu = cpu if steady is None else steady
        transactions = [one for one in transactions if one.end > begin]
        tps = len(transactions) / (transactions[-1].end - begin)
    took = sorted(one.took for one in transactions)
    return {
        "tps": tps,
        "p50_us": percentile(took, 0.5),
        "p99_us": percentile(took, 0.99),
        "p999_us": percentile(took, 0.999),
        "cpu_us": cpu,
        "sealer_us": used.sealer / count * 1e6,
        "server_us": used.server / count * 1e6,
        "client_us": client / count * 1e6,
        "pss_kib": watch.pss_kib,
    }


def _memory() -> str | None:
    """Where files are in memory, so that pgbench's logs wait for no disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
