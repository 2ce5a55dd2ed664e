"""soak.py [--minutes N] [--agents N] [--idle N] [--workers N] [--keep]: mixed load for a long time, and what
is left of it.

Short and long sessions, selects, writes, whole tables, cancelled statements, refused logins and broken
connections at the same time, beside sessions that stay. Memory (PSS of each of the gateway's processes),
descriptors and what the record has grown by are sampled meanwhile. At the end every session has to be gone,
every process has to be the one that was started, no card number may have come in clear, and the record has to
verify. What memory grew by in the second half, in KiB an hour, is the figure that counts: the first half
fills caches."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway.load import duty, family, is_sealer, pss_kib
from gateway.tables import PREFIX, fill
from gateway.ways import USER, pangate
from idle_sessions import SMALL, Agent, client_context, each
from record import keep

from guests import WAYS, Guest, context, guests
from pangate.audit.events import records
from pangate.embedded import EmbeddedPostgres, unwinding_signals
from pangate.trial import Trial, until

LOADS = ("selects", "writes", "tables", "short", "cancels", "strangers")

BURST = "3"
"""Seconds of one pgbench."""

IDLE_SECONDS = 30.0
"""How often a session that stays runs a small statement."""


class Soak:
    """The load, and what is counted of it."""

    def __init__(self, trial: Trial, minutes: float, agents: int, loads: Sequence[str]) -> None:
        self.trial = trial
        self.until = time.monotonic() + minutes * 60
        self.agents, self.loads = agents, loads
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.token = trial.token(seconds=86_400)
        self.environment = trial.environment(self.token)
        self.samples: list[dict[str, object]] = []

    async def run(self, idle: int, every: float) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        staying = [Agent() for _ in range(idle)]
        where = client_context(self.trial.ca)

        async def begin(agent: Agent) -> None:
            await agent.connect(self.trial.host, self.trial.port, where)
            await agent.log_in(self.token)

        await each(staying, begin)
        loads: list[Callable[[], Awaitable[None]]] = [getattr(self, name) for name in self.loads]
        async with asyncio.TaskGroup() as group:
            for number in range(self.agents):
                group.create_task(self.again(loads[number % len(loads)]))
            group.create_task(self.stay(staying))
            group.create_task(self.sample(every))
        for agent in staying:
            agent.writer.transport.abort()

    def stop(self) -> None:
        """Somebody wants it to end."""
        self.until = 0.0
        self.wrong.append("it was ended before its time")

    async def again(self, load: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self.until:
            try:
                await load()
            except Exception as wrong:  # noqa: BLE001 - it is told, and the others go on
                self.wrong.append(f"{load.__name__}: {wrong}"[:300])
                await asyncio.sleep(1)

    async def stay(self, agents: list[Agent]) -> None:
        while time.monotonic() < self.until:
            await each(agents, lambda agent: agent.run(SMALL))
            self.done["small statements"] += len(agents)
            await asyncio.sleep(min(IDLE_SECONDS, max(0.0, self.until - time.monotonic())))

    # --- loads --------------------------------------------------------------------------------

    async def pgbench(self, *words: str) -> None:
        program = self.trial.postgres.bin / "pgbench"
        done = await asyncio.create_subprocess_exec(
            program, "-n", "-T", BURST, *words, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await done.communicate()
        if done.returncode:
            raise RuntimeError(said.decode(errors="replace")[-250:])

    async def selects(self) -> None:
        await self.pgbench("-S", "-c", "4", "-M", random.choice(("simple", "extended", "prepared")))
        self.done["bursts of selects"] += 1

    async def writes(self) -> None:
        await self.pgbench(
            "-b", "tpcb-like", "-c", "2", "-M", random.choice(("simple", "prepared"))
        )
        self.done["bursts of writes"] += 1

    async def short(self) -> None:
        await self.pgbench("-S", "-C", "-c", "2")
        self.done["bursts of connections"] += 1

    async def tables(self) -> None:
        sql = random.choice(("copy cards to stdout", "select * from cards limit 20000"))
        process = await asyncio.create_subprocess_exec(
            self.trial.postgres.bin / "psql", "-X", "-At", "-c", sql, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, limit=1 << 20,
        )  # fmt: skip
        assert process.stdout is not None
        last = b""
        while data := await process.stdout.read(1 << 20):
            seen = last + data
            if PREFIX.encode() in seen:
                self.wrong.append("a card number came in clear")
            last = seen[1 - len(PREFIX) :]
        if await process.wait():
            raise RuntimeError(f"psql ended with {process.returncode}")
        self.done["tables"] += 1

    async def cancels(self) -> None:
        process = await asyncio.create_subprocess_exec(
            self.trial.postgres.bin / "psql", "-X", "-c", "select pg_sleep(60)", env=self.environment,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await asyncio.sleep(random.uniform(1.0, 3.0))
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
        # one that came before the statement ended psql itself
        if said and b"canceling statement" not in said:
            raise RuntimeError(said.decode(errors="replace")[-250:])
        self.done["cancelled statements"] += 1

    async def strangers(self) -> None:
        guest = Guest(self.trial.host, self.trial.port, context(self.trial), self.token)
        await guests(guest, 2 * len(WAYS))
        self.done["guests"] += 2 * len(WAYS)

    # --- what is seen -------------------------------------------------------------------------

    async def sample(self, every: float) -> None:
        began = time.monotonic()
        while True:
            self.samples.append(self.now(began))
            print(json.dumps(self.samples[-1]), flush=True)
            left = self.until - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(every, left))

    def now(self, began: float) -> dict[str, object]:
        pids = family(self.trial.pid)
        own = [pid for pid in pids if not is_sealer(pid)]
        kept = Counter[str]()
        for pid in pids:
            kept[duty(pid)] += pss_kib(pid)
        return {
            "seconds": round(time.monotonic() - began),
            "pss_kib": kept["gateway"],
            "sealer_pss_kib": kept["sealer"],
            "indexer_pss_kib": kept["indexer"],
            "descriptors": sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in own),
            "record_bytes": sum(one.stat().st_size for one in records(self.trial.audit)),
            "done": self.done.total(),
            "wrong": len(self.wrong),
        }


def open_sessions(audit: Path) -> set[str]:
    """The sessions that the record says began and have not ended, read a line at a time: an hour's record does
    not fit into memory."""
    found: set[str] = set()
    for record in records(audit):
        with record.open("rb") as lines:
            for line in lines:
                if b'"code":"session.' in line:
                    event = json.loads(line)
                    if event["code"] == "session.start":
                        found.add(event["session"])
                    elif event["code"] == "session.end":
                        found.discard(event["session"])
    return found


def growth(samples: list[dict[str, object]], field: str) -> float:
    """How much a field grew in the second half, an hour: the slope of the line through it."""
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        return 0.0
    times = [float(str(one["seconds"])) for one in half]
    values = [float(str(one[field])) for one in half]
    return round(statistics.linear_regression(times, values).slope * 3600, 1)


def main() -> int:
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--minutes", type=float, default=60)
    words.add_argument("--agents", type=int, default=12, help="loads at the same time (12)")
    words.add_argument("--idle", type=int, default=100, help="sessions that stay (100)")
    words.add_argument("--workers", type=int, default=1, help="process.workers (1)")
    words.add_argument("--load", action="append", choices=LOADS, help="these alone; repeatable")
    words.add_argument("--every", type=float, default=30, help="seconds from sample to sample (30)")
    words.add_argument("--keep", action="store_true", help="write benchmarks/record/DATE-soak.json")
    options = words.parse_args()
    server = {"max_connections": str(options.idle + 40 * options.agents + 100)}
    with unwinding_signals(), EmbeddedPostgres(server) as postgres:
        fill(postgres, 100_000, scale=5, user=USER)
        # strangers fail their logins on purpose
        failures = "\nauth_failures_per_minute = 1000000"
        with pangate(postgres, tls=True, workers=options.workers, limits=failures) as trial:
            before = {pid for pid in family(trial.pid) if not is_sealer(pid)}
            soak = Soak(trial, options.minutes, options.agents, options.load or LOADS)
            uvloop.run(soak.run(options.idle, options.every))
            same = {pid for pid in family(trial.pid) if not is_sealer(pid)} == before
            if not same:
                soak.wrong.append("a process of the gateway is another one")
            until(lambda: not open_sessions(trial.audit), "the end of all sessions", 120)
            soak.samples.append(soak.now(time.monotonic()))
            if trial.stop_gateway():
                soak.wrong.append("the gateway did not end well")
            verified = subprocess.run(
                [sys.executable, "-m", "pangate.cli", "audit", "verify", "--config", str(trial.config)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if verified.returncode:
                soak.wrong.append(verified.stdout[-300:])
    *during, after = soak.samples
    row = {
        "group": "soak", "name": "mixed load", "minutes": options.minutes, "agents": options.agents,
        "idle": options.idle, "workers": options.workers, "done": dict(soak.done), "wrong": soak.wrong[:20],
        "wrong_count": len(soak.wrong), "pss_kib_an_hour": growth(during, "pss_kib"),
        "sealer_pss_kib_an_hour": growth(during, "sealer_pss_kib"),
        "indexer_pss_kib_an_hour": growth(during, "indexer_pss_kib"),
        "descriptors_an_hour": growth(during, "descriptors"), "steps": during, "after": after,
    }  # fmt: skip
    print(json.dumps({name: value for name, value in row.items() if name != "steps"}, indent=1))
    if options.keep and soak.until:
        keep("soak", {"benchmarks": [row]})
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    if os.geteuid():
        sys.exit("the memory of the gateway's processes is private to root: run this as root")
    sys.exit(main())
