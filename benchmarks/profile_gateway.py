"""profile_gateway.py [--seconds N] [--mode MODE] [--clients N] [--no-record]: where the CPU of a query goes.

pgbench -S runs through pgbouncer and pangate in turns; `perf record` samples each proxy meanwhile, and each sample
falls to one part: what the kernel does for a system call, or whose code runs outside of it. A part's share is given
in microseconds a query, of the CPU that /proc says. Kept as benchmarks/record/DATE-profile.json; `python
benchmarks/report.py` makes its table. It takes perf (Debian: linux-perf) and the right to use it (root, or
kernel.perf_event_paranoid at most 1)."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gateway.load import COUNT, cpu_seconds
from gateway.tables import fill, programs
from gateway.ways import USER, started
from record import keep

from pangate.embedded import EmbeddedPostgres, unwinding_signals

SERVER = {"shared_buffers": "512MB", "max_connections": "500", "autovacuum": "off"}
WAYS = ("pgbouncer session", "pangate")
ROUNDS = 3

CALLS = {
    "kernel: send": ("sendto", "sendmsg"),
    "kernel: receive": ("recvfrom", "recvmsg", "sock_read_iter", "sock_recvmsg"),
    "kernel: write files": ("ext4", "vfs_write", "fdatasync", "do_fsync", "xfs", "btrfs"),
    "kernel: wait for events": ("epoll", "do_epoll"),
    "kernel: wake and switch threads": ("futex", "schedule", "finish_task_switch"),
}
"""Which function of the kernel, anywhere up the stack, says what is done; the first that fits."""

PARTS = {
    "_pump": "our own: from socket to socket",
    "_tls": "our own: from socket to socket",
    "_again": "our own: known requests",
    "_frame": "our own: rows and masking",
    "_scan": "our own: rows and masking",
    "_leaf": "our own: events",
    "_book": "our own: events",
    "_zstd": "compression of recordings",
    "loop": "uvloop",
    "libpython": "Python",
    "python": "Python",
    "libc": "C library",
    "vdso": "C library",
    "libssl": "TLS",
    "libcrypto": "TLS",
}


def main() -> int:
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--seconds", type=int, default=5, help="of one run (5)")
    words.add_argument("--mode", default="prepared", choices=("simple", "extended", "prepared"))
    words.add_argument("--clients", type=int, default=32)
    words.add_argument("--no-record", action="store_true", help="keep nothing")
    options = words.parse_args()
    if shutil.which("perf") is None:
        print("perf is not there; sudo apt-get install linux-perf", file=sys.stderr)
        return 1
    with unwinding_signals(), EmbeddedPostgres(SERVER, plaintext=True) as server:
        fill(server, 1000, scale=5, user=USER)
        with started(server, WAYS) as ways:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
            for turn in range(ROUNDS):
                for name in WAYS[:: 1 if turn % 2 else -1]:
                    way = ways[name]
                    found[name].append(run(programs(server), way.environment, way.pid, options))
    entries = []
    for name, runs in found.items():
        best = min(runs, key=lambda one: sum(one.values()))
        entries.append({"name": name, "microseconds": best})
        print(f"\n{name}: {sum(best.values()):.1f} us a query")
        for part, micros in sorted(best.items(), key=lambda item: -item[1]):
            print(f"  {micros:6.2f}  {part}")
    if not options.no_record:
        about = {"mode": options.mode, "clients": options.clients}
        keep("profile", {**about, "benchmarks": entries})
    return 0


def run(
    pgbench: Path, environment: object, pid: int, options: argparse.Namespace
) -> dict[str, float]:
    """Microseconds of CPU a query by part."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "perf.data"
        before = cpu_seconds(pid)
        load = subprocess.Popen(
            [str(pgbench), "-n", "-S", "-M", options.mode, "-c", str(options.clients), "-T",
             str(options.seconds)],
            env={**os.environ, **environment},  # type: ignore[dict-item]
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        # the logins are over by then
        subprocess.run(
            ["perf", "record", "-q", "-F", "1999", "-g", "-o", str(data), "-p", str(pid), "--",
             "sleep", str(max(1, options.seconds - 2))],
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said, _ = load.communicate()
        spent = cpu_seconds(pid) - before
        queries = COUNT.search(said)
        if queries is None:
            raise RuntimeError(said[-500:])
        counts = Counter(part_of(stack) for stack in stacks(data))
    total = sum(counts.values())
    micros = spent / int(queries.group(1)) * 1e6
    return {part: round(micros * many / total, 2) for part, many in counts.most_common()}


FRAME = re.compile(r"\s+[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \((.*)\)$")


def stacks(data: Path) -> Iterator[list[tuple[str, str]]]:
    """The (function, library) of each frame of each sample, the innermost first."""
    said = subprocess.run(
        ["perf", "script", "-i", str(data), "-F", "ip,sym,dso"],
        capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    stack: list[tuple[str, str]] = []
    for line in [*said.splitlines(), ""]:
        if match := FRAME.match(line):
            stack.append((match.group(1), match.group(2).rpartition("/")[2]))
        elif not line.strip() and stack:
            yield stack
            stack = []


def part_of(stack: list[tuple[str, str]]) -> str:
    _, library = stack[0]
    if "kernel" in library or library in ("[guest.kernel.kallsyms]", "[unknown]"):
        functions = [function for function, where in stack if "kernel" in where]
        for part, words in CALLS.items():
            if any(word in function for function in functions for word in words):
                return part
        return "kernel: other"
    head = re.split(r"[.\-]", library.strip("[]"))[0]
    return PARTS.get(head, PARTS.get(re.sub(r"[\d.]+$", "", head), f"{head}: other"))


if __name__ == "__main__":
    sys.exit(main())
