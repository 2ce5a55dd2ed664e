"""connects.py [CONNECTIONS] [--keep]: what is left in the gateway after many connections, in all the ways that
they begin and end (tests/guests.py). Descriptors and memory, after each tenth of them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from idle_sessions import memory
from record import keep

from guests import WAYS, Guest, context, guests
from pangate.embedded import EmbeddedPostgres, unwinding_signals
from pangate.trial import Trial, until
from servers import backends, descriptors


async def run(trial: Trial, count: int) -> list[dict[str, object]]:
    guest = Guest(trial.host, trial.port, context(trial), trial.token(seconds=7200))
    out: list[dict[str, object]] = []
    part = -(-count // 10 // len(WAYS)) * len(WAYS)
    done, used = 0, descriptors(trial)
    for _ in range(11):
        began = time.monotonic()
        await guests(guest, part)
        seconds = time.monotonic() - began
        await asyncio.to_thread(until, lambda: backends(trial) == 0, "the end of all sessions", 60)
        # two may be to the issuer of tokens
        await asyncio.to_thread(
            until, lambda: descriptors(trial) <= used + 2, "the end of them", 60
        )
        done += part
        out.append(
            {
                "connections": done,
                "descriptors": descriptors(trial),
                "resident_kib": memory(trial.pid) // 1024,
                "per_second": round(part / seconds),
            }
        )
        print(json.dumps(out[-1]), flush=True)
    return out


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("connections", type=int, nargs="?", default=10_000)
    words.add_argument("--keep", action="store_true")
    options = words.parse_args()
    limits = "auth_failures_per_minute = 1000000"
    with (
        unwinding_signals(),
        EmbeddedPostgres() as postgres,
        # what waits for an owner ends soon
        Trial(postgres, limits=limits, resource="pool = { idle_seconds = 1 }") as trial,
    ):
        found = uvloop.run(run(trial, options.connections))
    # the first tenth loads what is loaded once
    first, last = found[1], found[-1]
    row = {
        "group": "connects",
        "name": "all ways to begin and to end",
        "connections": int(str(last["connections"])) - int(str(first["connections"])),
        "descriptors_more": int(str(last["descriptors"])) - int(str(first["descriptors"])),
        "resident_kib_more": int(str(last["resident_kib"])) - int(str(first["resident_kib"])),
        "steps": found,
    }
    if options.keep:
        keep("connects", {"benchmarks": [row]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
