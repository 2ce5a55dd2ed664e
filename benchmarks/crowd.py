"""crowd.py [--idle N] [--active N] [--slow N] [--keep]: thousands of idle sessions, hundreds of active ones, and
readers that hardly read, all at the same time.

The idle ones log in, ask one question and fall silent. pgbench runs the active ones, in turns without and with
agents that have asked for gigabytes and take a few KiB a second. The figures: what an idle session costs the
gateway in memory, transactions a second and latency of the active ones without and with the slow readers,
and what the gateway keeps for a slow reader. Every idle session has to be there at the end and give the right
answer, no transaction may fail, and whatever a slow reader was given has to be in order, without a card number
in clear. TLS is on both sides; the server is on the same machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import ssl
import statistics
import struct
import sys
from collections.abc import Sequence

import uvloop
from gateway.load import TooShort, family, is_sealer, pgbench, pss_kib
from gateway.tables import fill
from gateway.ways import USER
from idle_sessions import AT_ONCE, READY, Agent, client_context, each, memory
from record import keep

from pangate.embedded import EmbeddedPostgres, unwinding_signals
from pangate.protocols.postgres.messages import message, query, startup
from pangate.trial import Trial

PAN, MASKED = b"4111111111111111", b"************1111"
WIDTH = 1000
FLOOD = f"select generate_series(1, {{rows}}) as n, '{PAN.decode()}' as pan, repeat('x', {WIDTH})"
"""What a slow reader asks for; the masked row follows from its number."""

SIP, PAUSE = 4096, 0.5
"""Bytes that a slow reader takes at a time, and the seconds between."""

_LENGTH = struct.Struct("!I")


class CrowdError(Exception):
    """A session was not given what it should have been; says which."""


def cells(answer: bytes) -> list[bytes]:
    """The cells of all rows of an answer, as they are."""
    found, at = [], 0
    while at < len(answer):
        size = _LENGTH.unpack_from(answer, at + 1)[0]
        if answer[at : at + 1] == b"E":
            raise CrowdError(answer[at : at + size].decode(errors="replace"))
        if answer[at : at + 1] == b"D":
            place = at + 7
            while place < at + 1 + size:
                length = _LENGTH.unpack_from(answer, place)[0]
                found.append(answer[place + 4 : place + 4 + length])
                place += 4 + length
        at += 1 + size
    return found


class Asking(Agent):
    """A session whose answers are looked at."""

    async def begin(self, trial: Trial, context: ssl.SSLContext | None, token: str) -> None:
        await self.connect(trial.host, trial.port, context)
        await self.log_in(token)

    def leave(self) -> None:
        """Go without a word."""
        self.writer.transport.abort()

    async def ask(self, number: int) -> None:
        """Raises CrowdError when the answer is not the one to this question."""
        sql = f"select {number} + 1, '{PAN.decode()}'"
        self.writer.write(query(sql))
        answer = b""
        while not answer.endswith(READY):
            data = await self.reader.read(1 << 16)
            if not data:
                raise CrowdError(f"session {number} was ended: {answer[-200:]!r}")
            answer += data
        right = [b"%d" % (number + 1), MASKED]
        if (given := cells(answer)) != right:
            raise CrowdError(f"session {number} was given {given}")


class Slow:
    """A reader that takes SIP bytes at a time."""

    def __init__(self) -> None:
        self.rows = 0
        self._tail = b""

    async def begin(
        self, trial: Trial, context: ssl.SSLContext | None, token: str, rows: int
    ) -> None:
        """Log in and ask for `rows` rows."""
        # asyncio would read on by itself up to twice this
        self.reader, self.writer = await asyncio.open_connection(
            trial.host, trial.port, ssl=context, server_hostname="localhost" if context else None, limit=SIP
        )  # fmt: skip
        login = startup({"user": "agent", "database": "payments"})
        self.writer.write(login + message(b"p", token.encode() + b"\0"))
        await self.reader.readuntil(READY)
        self.writer.write(query(FLOOD.format(rows=rows)))

    async def sip(self) -> None:
        """Take a little, and look at it."""
        data = self._tail + await self.reader.read(SIP)
        at = 0
        while at + 5 <= len(data):
            end = at + 1 + _LENGTH.unpack_from(data, at + 1)[0]
            if end > len(data):
                break
            given = cells(data[at:end])
            if given:
                self.rows += 1
                if given != [b"%d" % self.rows, MASKED, b"x" * WIDTH]:
                    raise CrowdError(f"row {self.rows} of a slow reader is {given!r:.200}")
            at = end
        if len(data) == len(self._tail):
            raise CrowdError("a slow reader was ended")
        self._tail = data[at:]

    async def read_slowly(self) -> None:
        """Until cancelled."""
        while True:
            await self.sip()
            await asyncio.sleep(PAUSE)

    def leave(self) -> None:
        """Go without a word."""
        self.writer.transport.abort()


async def reading(readers: Sequence[Slow], work) -> object:
    """What `work` returns, while all of these read."""
    tasks = [asyncio.ensure_future(reader.read_slowly()) for reader in readers]
    try:
        return await work
    finally:
        for task in tasks:
            task.cancel()
        for wrong in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(wrong, asyncio.CancelledError):
                raise wrong


async def run(trial: Trial, options: argparse.Namespace, tls: bool) -> dict[str, object]:
    token = trial.token(seconds=86_400)
    context = client_context(trial.ca) if tls else None
    environment = trial.environment(token)
    if not tls:
        environment["PGSSLMODE"] = "disable"
    idle = [Asking() for _ in range(options.idle)]
    number = {agent: 10 * at for at, agent in enumerate(idle)}

    async def begin(agent: Asking) -> None:
        await agent.begin(trial, context, token)
        await agent.ask(number[agent])

    def own() -> int:
        return sum(pss_kib(pid) for pid in family(trial.pid) if not is_sealer(pid))

    async def active() -> dict[str, float]:
        seconds = options.seconds
        while True:
            words = ["-n", "-S", "-M", "prepared", "-c", str(options.active), "-j", "2"]
            try:
                return await asyncio.to_thread(
                    pgbench, trial.postgres.bin / "pgbench", [*words, "-T", str(seconds)],
                    environment, trial.pid, trial.postgres.pid,
                )  # fmt: skip
            except TooShort:
                seconds *= 2

    await each(idle[:AT_ONCE], begin)
    await asyncio.sleep(1)
    before = memory(trial.pid)
    await each(idle[AT_ONCE:], begin)
    await asyncio.sleep(1)
    per_idle = (
        (memory(trial.pid) - before) / (len(idle) - AT_ONCE) / 1024 if idle[AT_ONCE:] else 0.0
    )
    print(f"{len(idle)} idle sessions: {per_idle:.1f} KiB each", flush=True)
    rounds: dict[str, list[dict[str, float]]] = {"alone": [], "with slow readers": []}
    kept = []
    rows = 0
    for _ in range(options.rounds):
        rounds["alone"].append(await active())
        low = own()
        readers = [Slow() for _ in range(options.slow)]
        await each(readers, lambda reader: reader.begin(trial, context, token, 10_000_000))
        await reading(readers, asyncio.sleep(2))
        kept.append((own() - low) / max(1, len(readers)))
        rounds["with slow readers"].append(await reading(readers, active()))
        rows += sum(reader.rows for reader in readers)
        if not all(reader.rows for reader in readers):
            raise CrowdError("a slow reader was given no row")
        for reader in readers:
            reader.leave()
        for name, made in rounds.items():
            one = made[-1]
            print(f"{name}: {one['tps']:.0f} tps, p99 {one['p99_us'] / 1000:.1f} ms", flush=True)
    await each(idle, lambda agent: agent.ask(number[agent] + 1))
    for agent in idle:
        agent.leave()
    found: dict[str, object] = {
        "idle": options.idle, "active": options.active, "slow": options.slow,
        "tls": "on both sides" if tls else "off", "idle_kib": round(per_idle, 1),
        "slow_reader_kib": round(statistics.median(kept)), "slow_rows": rows,
    }  # fmt: skip
    for name, made in rounds.items():
        for field in ("tps", "p50_us", "p99_us", "cpu_us"):
            figure = statistics.median(one[field] for one in made)
            found[f"{field} {name}"] = round(figure)
    return found


def main() -> int:
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--idle", type=int, default=5000, help="sessions that say nothing (5000)")
    words.add_argument("--active", type=int, default=500, help="clients of pgbench (500)")
    words.add_argument("--slow", type=int, default=20, help="readers that hardly read (20)")
    words.add_argument("--seconds", type=int, default=30, help="of one pgbench (30)")
    words.add_argument("--rounds", type=int, default=2, help="pairs of pgbench (2)")
    words.add_argument("--no-tls", action="store_true", help="TLS on neither side")
    words.add_argument(
        "--keep", action="store_true", help="write benchmarks/record/DATE-crowd.json"
    )
    options = words.parse_args()
    most = options.idle + options.active + options.slow + 60
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    settings = {
        "max_connections": str(most), "shared_buffers": "64MB", "authentication_timeout": "600s",
        "autovacuum": "off",
    }  # fmt: skip
    tls = not options.no_tls
    with unwinding_signals(), EmbeddedPostgres(settings, plaintext=True) as postgres:
        fill(postgres, 1000, scale=1, user=USER)
        with Trial(
            postgres,
            limits=f"max_sessions = {most}\nlogin_seconds = 60\nconnect_seconds = 60",
            listen="" if tls else "allow_plaintext_loopback = true",
            tls="verify-full" if tls else "disable",
            effects='effects = ["read", "write"]',
            resource=f"pool = {{ max_connections = {most} }}",
            audit="seal_seconds = 1",
        ) as trial:
            row: dict[str, object] = {
                "group": "crowd",
                "name": "idle, active and slow at the same time",
            }
            row |= uvloop.run(run(trial, options, tls))
    print(json.dumps(row, indent=1))
    if options.keep:
        keep("crowd", {"benchmarks": [row]})
    return 0


if __name__ == "__main__":
    if os.geteuid():
        sys.exit("the memory of the gateway's processes is private to root: run this as root")
    sys.exit(main())
