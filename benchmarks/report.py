"""report.py: make docs/performance.md and its plot from the newest records in benchmarks/record/, so that no
figure stands there that was not measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from gateway import page

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "record"
COLOURS = ("#1f6f8b", "#99a8b2", "#d98c3f", "#6b8f3c", "#8b5a8c", "#c44e52", "#4c72b0", "#937860")

HEAD = """\
# Performance

Made by `python benchmarks/report.py` from the records in [benchmarks/record/](../benchmarks/record/); `make bench`
and `make bench-gateway` take them. Machines are noisy and differ: compare columns of one table, which come from one run, and not
tables with each other.

"""

SCAN = """\
## The scanner

Seven corpora of {megabytes} MB, made from seeds (`benchmarks/corpora.py`), masked in place by one thread, best of
five; the number of PANs found is asserted. memcpy and memchr on the same bytes in the same run are the limits of
the machine. *DataRow* is scanned field by field, *separators* (a separator after every digit) is the slowest
thing that an attacker can send. The NEON kernel agrees with the oracle in an emulator (`tests/unit/test_neon.py`);
how fast it is was not measured, for want of such a machine.

"""

PEERS = """\
## Others at the same work

The same bytes for all ({kilobytes} KB); pangate masks, the others only find. The first row is the scanner alone, as the
gateway uses it; the second the library with its default decoders and rules, which looks deeper and pays for it.
Presidio and scrubadub are given lines, since they are made for sentences.

"""

LABELLED = """\
Recall and false positives on one labelled corpus (`benchmarks/labelled.py`): {cases}. Where a peer does better,
it stands here too.

"""

COLUMNS = {
    "integers": "integers, a PAN in each hundredth",
    "arrow_strings[0]": "Arrow strings without a PAN",
    "arrow_strings[1]": "Arrow strings, a PAN in each hundredth",
}

LIBRARY = """\
## The library

Masking {kilobytes} KB of logs with the decoders that are on by default, and with one more of those that are off.

"""

PIPE = """\
`cat huge.log | pangate mask > /dev/null` beside `cat huge.log | cat > /dev/null`, {megabytes} MB of logs, in turns,
medians of {rounds}. User and system are the seconds of the last process; *start* is the same without a byte to mask.
The wall time is that of the pipe and so of {cores} cores and whatever else they do: it was {low} to {high} times
that of `cat`, {middle} in the middle.

"""


def newest(group: str) -> dict[str, Any] | None:
    """The latest record of a group."""
    found = sorted(RECORDS.glob(f"*-{group}.json"))
    return json.loads(found[-1].read_text()) if found else None


def table(head: list[str], rows: list[list[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n\n"


def about(record: dict[str, Any]) -> str:
    machine = record["machine"]
    return (
        f"{record['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['compiler']}, "
        f"Python {machine['python']}, {machine['system']}.\n\n"
    )


def bars(title: str, unit: str, values: dict[str, dict[str, float]]) -> str:
    """Grouped horizontal bars as SVG: group, then name, then value. Logarithmic, since they span decades."""
    import math

    rows = [
        (group, name, value) for group, named in values.items() for name, value in named.items()
    ]
    low, high = min(v for *_, v in rows), max(v for *_, v in rows)
    low, high = math.floor(math.log10(low)), math.ceil(math.log10(high))
    names = list(dict.fromkeys(name for _, name, _ in rows))
    left, wide, step = 130, 520, 16
    out, y, last = [], 64, None
    for group, name, value in rows:
        if group != last:
            y += 8
            out.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{group}</text>')
            last = group
        size = max(2.0, (math.log10(value) - low) / (high - low) * wide)
        colour = COLOURS[names.index(name) % len(COLOURS)]
        out.append(
            f'<rect x="{left}" y="{y}" width="{size:.0f}" height="{step - 3}" fill="{colour}"/>'
        )
        out.append(f'<text x="{left + size + 5:.0f}" y="{y + 11}" class="v">{value:g}</text>')
        y += step
    for power in range(low, high + 1):
        x = left + (power - low) / (high - low) * wide
        out.append(f'<line x1="{x:.0f}" y1="58" x2="{x:.0f}" y2="{y}" stroke="#ddd"/>')
        out.append(
            f'<text x="{x:.0f}" y="54" text-anchor="middle" class="v">{10.0**power:g}</text>'
        )
    legend = "".join(
        f'<rect x="{left + 110 * i}" y="26" width="10" height="10" fill="{COLOURS[i % len(COLOURS)]}"/>'
        f'<text x="{left + 110 * i + 14}" y="35" class="v">{name}</text>'
        for i, name in enumerate(names)
    )
    style = "text{font:12px sans-serif;fill:#222}.v{font-size:10px}.t{font-size:14px}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 70}" height="{y + 10}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="8" y="17" class="t">{title}, {unit}, logarithmic</text>{legend}{"".join(out)}</svg>\n'
    )


def scan(record: dict[str, Any]) -> str:
    entries = [e for e in record["benchmarks"] if "to_memcpy" in e]
    kernels = list(dict.fromkeys(e["name"].rpartition("-")[2].rstrip("]") for e in entries))
    corpora: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in entries:
        name = entry["group"].partition(": ")[2]
        corpora.setdefault(name, {})[entry["name"].rpartition("-")[2].rstrip("]")] = entry
    rows, plot = [], {}
    for name, by_kernel in corpora.items():
        best = by_kernel[record["machine"]["kernel"]]
        rows.append(
            [name, *(by_kernel[k]["gb_per_second"] if k in by_kernel else "" for k in kernels)]
            + [
                best["memcpy_gb"],
                best["memchr_gb"],
                best["to_memcpy"],
                best["to_memchr"],
                best["pans"],
            ]
        )
        plot[name] = {k: by_kernel[k]["gb_per_second"] for k in kernels if k in by_kernel}
        plot[name]["memcpy"] = best["memcpy_gb"]
    (ROOT / "docs" / "scan-speed.svg").write_text(
        bars("The scanner on seven corpora", "GB/s", plot)
    )
    text = SCAN.format(megabytes=max(e["megabytes"] for e in entries) + 1) + about(record)
    head = ["GB/s", *kernels, "memcpy", "memchr", "to memcpy", "to memchr", "PANs"]
    text += table(head, rows) + "![the same as bars](scan-speed.svg)\n\n"
    calls = [e for e in record["benchmarks"] if "nanoseconds" in e]
    rows = [[e["name"].partition("[")[2].rpartition("-")[0], e["nanoseconds"]] for e in calls]
    return text + "One call from Python:\n\n" + table(["buffer", "ns"], rows)


def peers(record: dict[str, Any]) -> str:
    speed: dict[str, dict[str, Any]] = {}
    labelled = []
    for entry in record["benchmarks"]:
        inside = entry["name"].partition("[")[2].rstrip("]")
        if "recall" in entry:
            labelled.append((inside, entry))
        elif "mb_per_second" in entry:
            corpus, _, peer = inside.partition("-")
            speed.setdefault(peer, {})[corpus] = entry
    names = list(dict.fromkeys(c for by in speed.values() for c in by))
    rows = [
        [
            peer,
            *(f"{by[c]['mb_per_second']:g} ({by[c]['found']} of {by[c]['pans']})" for c in names),
        ]
        for peer, by in speed.items()
    ]
    text = PEERS.format(kilobytes=record["benchmarks"][0].get("kilobytes", 512)) + about(record)
    text += table(["MB/s (found)", *names], rows)
    groups = list(labelled[0][1]["recall"])
    wrong = list(labelled[0][1]["false_positives"])
    text += LABELLED.format(cases=f"{len(groups)} kinds with a PAN, {len(wrong)} without")
    text += table(["recall, %", *groups, "all"], [
        [peer, *(f"{100 * e['recall'][g]:.0f}" for g in groups), f"{100 * e['recall_all']:.0f}"]
        for peer, e in labelled
    ])  # fmt: skip
    return text + table(["false positives, %", *(g.removeprefix("not: ") for g in wrong)], [
        [peer, *(f"{100 * e['false_positives'][g]:.1f}" for g in wrong)] for peer, e in labelled
    ])  # fmt: skip


def library(record: dict[str, Any]) -> str:
    entries = record["benchmarks"]
    rows = [
        [e["name"].partition("[")[2].rstrip("]"), e["decoder_mb"]]
        for e in entries
        if "decoder_mb" in e
    ]
    text = LIBRARY.format(kilobytes=512) + about(record) + table(["decoder", "MB/s"], rows)
    rows = [
        [COLUMNS[e["name"].removeprefix("test_")], e["million"]] for e in entries if "million" in e
    ]
    text += table(["a column of", "million values a second"], rows)
    for entry in entries:
        if "wall_to_cat" not in entry:
            continue
        low, middle, high = entry["wall_to_cat"]
        cores = record["machine"]["cores"]
        text += PIPE.format(**entry, cores=cores, low=low, middle=middle, high=high)
        text += table(["seconds", "wall", "user", "system", "MB of memory"], [
            [name, *(entry[name][field] for field in ("wall", "user", "system")), round(entry[name]["memory"])]
            for name in ("pangate", "cat", "start")
        ])  # fmt: skip
    return text


def gateway(record: dict[str, Any]) -> str:
    if "goals" not in record:
        return ""  # of a form that there is not any more
    text, plot = page.page(record, table, bars, about(record))
    if plot:
        (ROOT / "docs" / "gateway-cpu.svg").write_text(plot)
    return text


def soak(record: dict[str, Any]) -> str:
    return page.soak(record, table, about(record))


def profile(record: dict[str, Any]) -> str:
    return page.profile(record, table, about(record))


def main() -> int:
    text = HEAD
    for group, make in (
        ("scan", scan),
        ("peers", peers),
        ("library", library),
        ("gateway", gateway),
        ("profile", profile),
        ("soak", soak),
    ):
        record = newest(group)
        if record is not None:
            text += make(record)
    target = ROOT / "docs" / "performance.md"
    target.write_text(text.rstrip("\n") + "\n")
    print(f"wrote {target.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
