"""What is run: cases of pgbench and of whole results, each through some of the ways, in turns."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.load import LoadError, TooShort, family, is_sealer, pgbench, settle, spent
from gateway.tables import PREFIX, WIDE_ROWS
from gateway.ways import WITHOUT, Way
from gateway.wire import Client
from pangate.audit.events import records

PLAIN = ("direct", "haproxy", "pgbouncer", "pgbouncer transaction", "pangate")
TLS = ("direct tls", "pgbouncer tls", "pangate tls")
OFF = ("pangate", *(f"pangate without {parts}" for parts in WITHOUT))
BULK = ("direct", "pgbouncer", "pangate")


@dataclass
class Case:
    """One thing to run through `ways`. `cost` is about how many seconds one run takes beside its own time."""

    name: str
    group: str
    ways: tuple[str, ...]
    run: Callable[[Way, Setting], dict[str, float]]
    priority: int = 1
    """0 where a goal hangs on it: it is run in the short form too. 2 goes first when there is no time."""
    cost: float = 0.6
    fixed: bool = False
    """Whether it takes what it takes, and not the time that runs are given."""
    samples: dict[str, list[dict[str, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What all cases share: where pgbench is, the server's process, seconds of one run, rows there are."""

    program: Path
    server: int
    seconds: float
    rows: int
    repeat: int


def _select(mode: str, clients: int) -> Callable[[Way, Setting], dict[str, float]]:
    return _pgbench("-S", "-M", mode, "-c", str(clients))


MOST_SECONDS = 20
"""A machine that needs longer for its logins is not fit to be measured on."""


def logins(clients: int) -> int:
    """Seconds that the logins of so many clients may take: pgbench's own clock runs from its start."""
    return 0 if clients == 1 else 1 if clients <= 32 else 2


def _pgbench(*words: str) -> Callable[[Way, Setting], dict[str, float]]:
    clients = int(words[words.index("-c") + 1])

    def run(way: Way, setting: Setting) -> dict[str, float]:
        # whole seconds are all that pgbench knows
        seconds = max(1, round(setting.seconds)) + (0 if "-C" in words else logins(clients))
        while True:
            arguments = ["-n", *words, "-j", str(min(clients, 2)), "-T", str(seconds)]
            try:
                return pgbench(setting.program, arguments, way.environment, way.pid, setting.server)
            except TooShort:
                if seconds > MOST_SECONDS:
                    raise
                seconds *= 2

    return run


def _fetch(
    sql: str, table: str, rows: int, *, repeat: bool = False
) -> Callable[[Way, Setting], dict[str, float]]:
    """Fetch a result, again and again for a part of the time that a run is given; with `repeat`, so often
    that it makes the bytes of a large one."""

    def run(way: Way, setting: Setting) -> dict[str, float]:
        most = min(
            rows or setting.rows, setting.rows if not table.startswith("wide") else WIDE_ROWS
        )
        text = sql.format(table=table, rows=most)
        settle(way.pid)
        with Client(way.environment) as client:
            client.fetch(text if most <= 1000 else sql.format(table=table, rows=1))
            before, began = spent(way.pid, setting.server), time.perf_counter()
            size = count = 0
            while True:
                got, last = client.fetch(text)
                if last != most:
                    raise LoadError(f"{way.name}: {last} rows of {most} came from {text!r}")
                size, count = size + got, count + 1
                over = time.perf_counter() - began
                if count >= setting.repeat if repeat else over > setting.seconds / 3:
                    break
        settle(way.pid)
        used = spent(way.pid, setting.server) - before
        return {
            "mb_per_second": size / over / 1e6,
            "us": over / count * 1e6,
            "bytes": size / count,
            "cpu_s_per_gb": used.own / size * 1e9,
            "cpu_us": used.own / count * 1e6,
            "sealer_us": used.sealer / count * 1e6,
            "server_us": used.server / count * 1e6,
        }

    return run


STATEMENTS = {
    "SELECT": "select * from {table} limit {rows}",
    "COPY": "copy (select * from {table} limit {rows}) to stdout",
}


def all_cases() -> list[Case]:
    """In the order in which they are run."""
    cases = []
    for clients in (1, 32, 200):
        for mode in ("prepared", "simple", "extended"):
            ways = PLAIN if clients < 200 else ("direct", "pgbouncer", "pangate")
            if mode == "prepared":
                # pgbouncer keeps prepared statements in this mode from 1.21 on
                ways = tuple(way for way in ways if way != "pgbouncer transaction")
            cases.append(Case(
                f"pgbench -S, {mode}, {_clients(clients)}", "select", ways, _select(mode, clients),
                priority=0 if clients == 32 or (clients == 1 and mode == "prepared") else 1 + (clients > 32),
                cost=0.6 + logins(clients),
            ))  # fmt: skip
    for mode, clients in (("prepared", 32), ("prepared", 1), ("simple", 32), ("extended", 32)):
        cases.append(Case(
            f"pgbench -S over TLS, {mode}, {_clients(clients)}", "tls", TLS, _select(mode, clients),
            priority=0 if (mode, clients) == ("prepared", 32) else 1 if clients == 1 else 2, cost=1.6,
        ))  # fmt: skip
    for mode in ("prepared", "simple"):
        later = mode == "simple"
        cases.append(Case(
            f"parts: pgbench -S, {mode}, 32 clients", "parts", ("pgbouncer", *OFF), _select(mode, 32),
            priority=2 if later else 0, cost=1.6,
        ))  # fmt: skip
        cases.append(Case(
            f"pgbench, TPC-B, {mode}, 32 clients", "tpcb",
            PLAIN if later else tuple(way for way in PLAIN if way != "pgbouncer transaction"),
            _pgbench("-b", "tpcb-like", "-M", mode, "-c", "32"), priority=1 if later else 2, cost=1.6,
        ))  # fmt: skip
    cases.append(Case(
        "parts: COPY of all rows with PANs", "parts", OFF,
        _fetch(STATEMENTS["COPY"], "cards", 0), cost=1.3, fixed=True,
    ))  # fmt: skip
    for name, ways in (("", ("direct", "pgbouncer", "pangate")), (" over TLS", TLS)):
        cases.append(Case(
            f"pgbench -S -C{name}, 8 clients", "connections", ways,
            _pgbench("-S", "-C", "-M", "simple", "-c", "8"), priority=0,
        ))  # fmt: skip
    cases.append(Case(
        "workers: pgbench -S, simple, 32 clients", "workers", ("pangate", "pangate 2 workers"),
        _select("simple", 32), priority=0, cost=1.6,
    ))  # fmt: skip
    for what, sql in STATEMENTS.items():
        for table, pans in (("cards", "with PANs"), ("orders", "without")):
            for rows in (1, 100, 10_000, 0):
                cases.append(Case(
                    f"{what} {_rows(rows)}, {pans}", "sweep", BULK, _fetch(sql, table, rows),
                    cost=0.4 if rows else 1.3, fixed=not rows, priority=1 if rows in (1, 0) else 2,
                ))  # fmt: skip
            cases.append(Case(
                f"{what} wide rows, {pans}", "sweep", BULK, _fetch(sql, f"wide_{table}", WIDE_ROWS),
                cost=0.5, priority=1 if table == "cards" else 2,
            ))  # fmt: skip
    for what, sql in STATEMENTS.items():
        cases.append(Case(
            f"bulk: {what}, a PAN a row", "bulk", ("direct", "pangate"),
            _fetch(sql, "cards", 0, repeat=True), priority=0, cost=0.3, fixed=True,
        ))  # fmt: skip
    return cases


def _clients(count: int) -> str:
    return f"{count} client{'s' if count > 1 else ''}"


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count > 1 else ''}" if count else "all rows"


# Whether the answers are right, before anybody asks how fast they come

CLEAR = re.compile(rb"(?<!\d)%b\d{%d}(\d{4})(?!\d)" % (PREFIX.encode(), 12 - len(PREFIX)))


def check(ways: Mapping[str, Way], setting: Setting) -> dict[str, int]:
    """Every way gives the bytes of the direct one, and pangate the same with every card number masked to its
    last four digits. What is without masking shows them. Returns what was counted; LoadError otherwise."""
    counted = {"rows": 0, "masked": 0, "ways": 0}
    for sql in STATEMENTS.values():
        for table, rows in (("cards", 5000), ("orders", 5000), ("wide_cards", 40)):
            text = sql.format(table=table, rows=rows)
            right = _whole(ways["direct"], text)
            masked, pans = CLEAR.subn(rb"************\1", right)
            if (pans != rows) is not (table == "orders"):
                raise LoadError(f"{pans} card numbers are in {rows} rows of {table}")
            for way in ways.values():
                masks = way.name.startswith("pangate") and "masking" not in way.name
                if _whole(way, text) != (masked if masks else right):
                    raise LoadError(f"{way.name}: the answer to {text!r} is not what it should be")
                counted["rows"] += rows
                counted["masked"] += pans if masks else 0
    for way in ways.values():
        if not way.name.startswith("pangate") or "masking" in way.name:
            continue
        clear, last = 0, b""

        def look(data: bytes) -> None:
            nonlocal clear, last
            seen = last + data
            clear += seen.count(PREFIX.encode())
            last = seen[1 - len(PREFIX) :]

        with Client(way.environment) as client:
            _, rows = client.fetch("copy cards to stdout", look)
        if rows != setting.rows or clear:
            raise LoadError(f"{way.name}: {clear} card numbers in clear in {rows} rows")
        counted["masked"] += rows
        counted["ways"] += 1
    return counted


def check_parts(ways: Mapping[str, Way]) -> None:
    """What is off is off, and what is on is on: the record grows or does not, and so on."""
    for way in ways.values():
        if way.audit is None:
            continue
        before = sum(map(_size, records(way.audit)))
        with Client(way.environment) as client:
            client.fetch("select 1 as seen")
            time.sleep(0.2)
        grew = sum(map(_size, records(way.audit))) > before
        folders = [record.parent / "sessions" for record in records(way.audit)]
        recorded = any(one for folder in folders for one in folder.rglob("*.*"))
        sealed = any(is_sealer(pid) for pid in family(way.pid))
        parts = way.name.partition(" without ")[2].split(",")
        for what, found in (("record", grew), ("recording", recorded), ("sealing", sealed)):
            if what == "sealing" and "record" in parts:
                continue  # there is nothing to seal
            off = what in parts
            if found is off:
                raise LoadError(f"{way.name}: {what} is {'on' if found else 'off'}")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _whole(way: Way, sql: str) -> bytes:
    parts: list[bytes] = []
    with Client(way.environment) as client:
        client.fetch(sql, parts.append)
    return b"".join(parts)


def in_turns(number: int, ways: Sequence[str]) -> Sequence[str]:
    """There and back: a drift of the machine falls on all of them."""
    return ways if number % 2 == 0 else ways[::-1]
