"""The gateway's part of docs/performance.md, made of a record alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Table = Callable[[list[str], list[list[object]]], str]
Bars = Callable[[str, str, dict[str, dict[str, float]]], str]

HEAD = """\
## The gateway

`make bench-gateway` starts one PostgreSQL, pgbouncer, haproxy and pangate beside each other on one machine and runs
every case through them in turns, there and back, so that what the machine does meanwhile falls on all of them.
Ratios are made within a round; figures are medians of {rounds} rounds of {seconds:g} s a run. Before that, the answers
are checked: each way gives the very bytes of a direct connection, pangate with each card number masked to its
last four digits; {masked:,} were masked, none came in clear.

*pangate* is what is shipped, at full work: rules are applied, each command is recorded before it is forwarded, what is
sent is recorded, every row is masked, a sealer signs each second. *tls* is TLS on both sides. CPU is the proxy's
own, from /proc, for one query while all clients are at work (logins are not in it); *sealer* is that of the processes
that seal and index the record, which run beside it and may wait. The client, the server and the proxy share this machine's cores, so
transactions a second and latencies show mostly who had to wait for whom: trust the CPU.

To do the same: `make bench-gateway BENCH_ARGS="--minutes 15"` on a machine where nothing else runs;
`--quick` takes 2 minutes and has only what the goals need, `--only GROUP` one group, `--help` says more. Nothing
is to be set up: what the machine lacks is installed as root or named.

"""

SOAK = """\
### For an hour

`make soak`: short and long sessions, selects, writes, whole tables, cancelled statements, refused logins and broken
connections at the same time ({agents} loads), beside {idle} sessions that stay, for {minutes:g} minutes, TLS on both
sides, {workers}. What went wrong: {wrong_count}. The record verified afterwards.

"""

PROFILE = """\
### Where the CPU of a query goes

`python benchmarks/profile_gateway.py`: pgbench -S, {mode}, {clients} clients, no TLS; `perf record` samples each proxy, and a
sample falls to what the kernel does for a system call or to whose code runs outside of it. Microseconds of CPU a query,
of the proxy's own processes but those that seal and index.

"""

WORDS = {True: "met", False: "not met", None: "not run"}


def page(record: dict[str, Any], table: Table, bars: Bars, about: str) -> tuple[str, str]:
    """The text and its plot."""
    text = HEAD.format(
        rounds=record["rounds"], seconds=record["seconds"], masked=record["checked"]["masked"]
    )
    if record["quick"]:
        text += "This record is of the short form, so take it for a hint.\n\n"
    versions = record["versions"]
    text += about.rstrip("\n")
    text += f" {versions.get('postgresql', '')}, {versions.get('pgbouncer', '')}, {versions.get('haproxy', '').partition(' 20')[0]}.\n\n"
    text += _goals(record["goals"], table)
    cases = record["benchmarks"]
    text += _pgbench(_of(cases, "select", "tls", "tpcb", "connections", "workers"), table)
    text += "![CPU of a query](gateway-cpu.svg)\n\n"
    text += _parts(_of(cases, "parts"), table)
    if again := record.get("parts"):
        text += f"*Of this table*: {again['note']} ({again['rounds']} rounds).\n\n"
    text += _results(_of(cases, "sweep", "bulk"), table)
    text += _idle(_of(cases, "idle"), table)
    plot = {
        case["name"].removeprefix("pgbench -S, "): {
            way: found["cpu_us"] for way, found in case["ways"].items() if found["cpu_us"]
        }
        for case in _of(cases, "select")
    }
    return text, bars("CPU of the proxy for one query", "µs", plot) if any(plot.values()) else ""


def _of(cases: Sequence[dict[str, Any]], *groups: str) -> list[dict[str, Any]]:
    return [case for case in cases if case["group"] in groups and case["ways"]]


def _goals(goals: Sequence[dict[str, Any]], table: Table) -> str:
    rows: list[list[object]] = [
        [
            goal["goal"],
            goal["required"],
            goal["aim"],
            f"{goal['measured']:g} {goal['unit']}".rstrip() if "measured" in goal else "",
            f"{goal['from']:g} to {goal['to']:g}" if "from" in goal else "",
            WORDS[goal.get("met")],
        ]
        for goal in goals
    ]
    return table(["goal", "required", "aim", "measured", "rounds", ""], rows)


def _pgbench(cases: Sequence[dict[str, Any]], table: Table) -> str:
    rows: list[list[object]] = []
    for case in cases:
        peer = next((v for k, v in case["ways"].items() if k in ("pgbouncer", "pgbouncer tls")), {})
        for name, found in case["ways"].items():
            own = found["cpu_us"]
            to = f"{own / peer['cpu_us']:.2f}" if own and peer.get("cpu_us") else ""
            rows.append([
                case["name"].removeprefix("pgbench ").removeprefix("workers: pgbench "), name,
                f"{found['tps']:,.0f}", *(f"{found[key]:,.0f}" for key in ("p50_us", "p99_us", "p999_us")),
                f"{own:,.1f}" if own else "", to, f"{found['sealer_us']:,.1f}" if found["sealer_us"] else "",
                f"{found['server_us']:,.0f}", f"{found['pss_kib'] / 1024:,.0f}" if found["pss_kib"] else "",
            ])  # fmt: skip
    if not rows:
        return ""
    head = [
        "",
        "way",
        "tps",
        "p50 µs",
        "p99",
        "p99.9",
        "CPU µs",
        "to pgbouncer",
        "sealer µs",
        "server µs",
        "MB",
    ]
    return table(head, rows)


def _parts(cases: Sequence[dict[str, Any]], table: Table) -> str:
    if not cases:
        return ""
    names = list(dict.fromkeys(name for case in cases for name in case["ways"]))
    head = ["CPU", *(case["name"].removeprefix("parts: ") for case in cases)]
    rows: list[list[object]] = []
    for name in names:
        cells: list[object] = [name.replace(",", ", ")]
        for case in cases:
            found = case["ways"].get(name)
            if found is None:
                cells.append("")
                continue
            whole = case["ways"]["pangate"]
            key, unit = ("cpu_s_per_gb", "s/GB") if "cpu_s_per_gb" in found else ("cpu_us", "µs")
            cell = f"{found[key]:.2f} {unit} ({found[key] / whole[key]:.2f})"
            if key == "cpu_us":
                cell += f", {found['tps']:,.0f}/s, p99 {found['p99_us'] / 1000:.1f} ms"
            cells.append(cell)
        rows.append(cells)
    said = (
        "What each part costs: the same with it taken out of the program, which no setting can do but for sealing. In "
        "brackets the ratio to the whole; then transactions a second and the slowest of a hundred, where there are any.\n\n"
    )
    return said + table(head, rows) + "".join(_unsealed(case["ways"]) for case in cases)


def _unsealed(ways: Mapping[str, dict[str, float]]) -> str:
    """What it comes to where sealing and indexing do not share the two cores with all else."""
    peer, found = ways.get("pgbouncer"), ways.get("pangate without sealing")
    bare = ways.get("pangate without policy,record,recording,sealing")
    if peer is None or found is None or bare is None or "cpu_us" not in found:
        return ""
    return (
        "\nMasking, policy and record on, but sealed and indexed later or elsewhere: "
        f"{found['cpu_us'] / peer['cpu_us']:.2f} times the CPU of pgbouncer, {found['tps'] / peer['tps']:.2f} times its "
        f"transactions, {found['p99_us'] / peer['p99_us']:.2f} times its p99, and "
        f"{found['cpu_us'] / bare['cpu_us']:.2f} times the CPU of a gateway that decides and records nothing. The "
        f"processes that seal and index take {ways['pangate']['sealer_us']:.1f} µs a query more, which on two cores they "
        "take from all else.\n\n"
    )


def _results(cases: Sequence[dict[str, Any]], table: Table) -> str:
    if not cases:
        return ""
    names = list(dict.fromkeys(name for case in cases for name in case["ways"]))
    proxies = [name for name in names if name != "direct"]
    rows: list[list[object]] = []
    for case in cases:
        ways = case["ways"]
        small = ways["direct"]["us"] < 5000
        key = "us" if small else "mb_per_second"
        rows.append([
            case["name"], "µs" if small else "MB/s",
            *(f"{ways[name][key]:,.0f}" if name in ways else "" for name in names),
            *(f"{ways[name]['cpu_us']:,.0f}" if small else f"{ways[name]['cpu_s_per_gb']:.2f}"
              if name in ways else "" for name in proxies),
        ])  # fmt: skip
    said = (
        "Whole results, read by a client that only counts: microseconds for a small one, megabytes a second for a "
        "large one, and the proxy's CPU in microseconds for one or in seconds for a gigabyte.\n\n"
    )
    return said + table(["result", "", *names, *(f"CPU: {name}" for name in proxies)], rows)


def _idle(cases: Sequence[dict[str, Any]], table: Table) -> str:
    rows: list[list[object]] = [
        [case["name"], *(f"{found[key]:g}" for key in ("sessions", "sockets_kib", "after_a_statement", "beyond_kib"))]
        for case in cases
        for found in case["ways"].values()
    ]  # fmt: skip
    if not rows:
        return ""
    said = "Memory of a session that has run a statement and waits, in KiB; *sockets* is a relay's that only has them open.\n\n"
    return said + table(["", "sessions", "sockets", "pangate", "beyond"], rows)


def soak(record: dict[str, Any], table: Table, about: str) -> str:
    """What a long run came to."""
    (found,) = record["benchmarks"]
    workers = f"{found['workers']} worker{'s' if found['workers'] > 1 else ''}"
    text = SOAK.format(**{**found, "workers": workers}) + about
    steps = found["steps"]
    shown = [steps[(len(steps) - 1) * part // 6] for part in range(7)]
    rows: list[list[object]] = [
        [f"{step['seconds'] / 60:.1f}", f"{step['pss_kib'] / 1024:.0f}",
         f"{step['sealer_pss_kib'] / 1024:.0f}", f"{step['indexer_pss_kib'] / 1024:.0f}", step["descriptors"],
         f"{step['record_bytes'] / 1e6:.0f}"]
        for step in shown
    ]  # fmt: skip
    head = ["minutes", "MB of memory", "sealer MB", "indexer MB", "descriptors", "MB of events"]
    text += table(head, rows)
    done = ", ".join(f"{count:,} {name}" for name, count in found["done"].items())
    return (
        text
        + f"Done: {done}. In the second half the gateway's memory changed by {found['pss_kib_an_hour']:,.0f} KiB an "
        f"hour, the sealer's by {found['sealer_pss_kib_an_hour']:,.0f}, the indexer's by "
        f"{found['indexer_pss_kib_an_hour']:,.0f}.\n\n"
        + (f"{found['note']}\n\n" if "note" in found else "")
    )


def profile(record: dict[str, Any], table: Table, about: str) -> str:
    """Where the CPU goes, by part."""
    found = {entry["name"]: entry["microseconds"] for entry in record["benchmarks"]}
    parts = sorted(
        {part for micros in found.values() for part in micros},
        key=lambda part: -max(micros.get(part, 0.0) for micros in found.values()),
    )
    rows: list[list[object]] = [
        [part, *(f"{micros.get(part, 0.0):.1f}" for micros in found.values())]
        for part in parts
        if max(micros.get(part, 0.0) for micros in found.values()) >= 0.05
    ]
    rows.append(["all", *(f"{sum(micros.values()):.1f}" for micros in found.values())])
    return (
        PROFILE.format(**record) + about + table(["us a query", *found], rows) + _why(found) + "\n"
    )


def _why(found: Mapping[str, Mapping[str, float]]) -> str:
    """What the profile says of the goals for CPU a query."""
    (name, theirs), (_, ours) = found.items()
    peer = name.split()[0]
    kernel = [
        sum(micros for part, micros in one.items() if part.startswith("kernel"))
        for one in (theirs, ours)
    ]
    whole = [sum(one.values()) for one in (theirs, ours)]
    left = 1.35 * whole[0] - kernel[1]
    return (
        f"\nThe kernel takes {kernel[0]:.1f} of the {whole[0]:.1f} µs of {peer}, which decides and records nothing, "
        f"and {kernel[1]:.1f} of pangate's {whole[1]:.1f}: it sends the same four messages, writes the record and "
        f"wakes the thread that brings it to the disk. For 1.35 times the CPU of {peer} there would be {left:.1f} µs "
        f"for all that happens outside of the kernel, where pangate takes {whole[1] - kernel[1]:.1f}. Client, server, "
        "proxy and the processes that seal and index share two cores, so transactions a second and latencies are "
        "further apart than CPU is, and a second worker has no core of its own.\n"
    )
