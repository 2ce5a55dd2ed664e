"""record.py BENCHMARK.json: keep a pytest-benchmark run as a dated record, with the machine it ran on.

One file a group and day in benchmarks/record/; what is not needed to read a figure is left out, and so is
everything that names a host or a path."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pangate import _scan

RECORDS = Path(__file__).parent / "record"


def machine() -> dict[str, object]:
    """What the figures depend on."""
    cpu = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in cpu.splitlines() if "model name" in line]
    compiler = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False)
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(names),
        "kernel": _scan.kernel(),
        "compiler": compiler.stdout.splitlines()[0] if compiler.stdout else "unknown",
        "python": platform.python_version(),
        "system": platform.system() + " " + platform.release().split("-")[0],
        "pangate": version("pangate"),
    }


def keep(name: str, record: Mapping[str, object]) -> None:
    """Keep `record` as what the benchmark `name` found today, with the day and the machine in front. What it
    found earlier on the same day is gone."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    target = RECORDS / f"{day}-{name}.json"
    whole = {"date": day, "machine": machine(), **record}
    target.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    print(f"recorded in {target.relative_to(RECORDS.parents[1])}", flush=True)


def main(path: str) -> int:
    run = json.loads(Path(path).read_text())
    groups: dict[str, list[dict[str, object]]] = {}
    for entry in run["benchmarks"]:
        stats = entry["stats"]
        groups.setdefault((entry["group"] or "other").partition(":")[0], []).append(
            {
                "name": entry["name"],
                "group": entry["group"],
                "seconds_min": stats["min"],
                "seconds_median": stats["median"],
                "rounds": stats["rounds"],
                **entry["extra_info"],
            }
        )
    for group, entries in groups.items():
        keep(group, {"benchmarks": entries})
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: record.py BENCHMARK.json")
    sys.exit(main(sys.argv[1]))
