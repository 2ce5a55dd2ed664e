"""`pangate audit stats`: how many events there are of each day, principal, resource, verdict, code,
network."""

from __future__ import annotations

import argparse
import csv
import json
import sys

from pangate.audit.index import Total
from pangate.audit_cli import OK, output, question

BY = (
    "day",
    "principal",
    "role",
    "resource",
    "verdict",
    "code",
    "network",
    "effect",
    "table",
    "address",
    "rule",
    "error",
)
DEFAULT = ("day", "resource", "verdict", "code", "network", "principal")
LIMIT = 20
HEAD = ("events", "failed", "masked")


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    question.add(parser)
    parser.add_argument(
        "--by", action="append", choices=BY, metavar="WHAT",
        help=f"one of {', '.join(BY)}; repeatable; the default is {', '.join(DEFAULT)}",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=question.positive, default=LIMIT, metavar="N",
        help=f"the N most frequent of each; the default is {LIMIT}. Days are never cut",
    )  # fmt: skip
    output.add(parser)


def run(options: argparse.Namespace) -> int:
    """Count and show."""
    asked = question.query_of(options)
    several = question.open_indexes(options)
    by = list(dict.fromkeys(options.by or DEFAULT))
    counts = several.count(asked, ["all", *by])
    total = counts.pop("all")[0][1] if counts["all"] else Total(0, 0, 0)
    counts.pop("all", None)
    if "day" in counts:
        counts["day"].sort()
    if options.json:
        print(json.dumps({"by": "all", "value": None, **total._asdict()}))
        for kind, rows in counts.items():
            for value, one in rows:
                print(json.dumps({"by": kind, "value": value, **one._asdict()}, ensure_ascii=False))
        return OK
    if options.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(("by", "value", *HEAD))
        for kind, rows in counts.items():
            writer.writerows((kind, output.cell(value), *_numbers(one)) for value, one in rows)
        return OK
    print(
        f"{total.events:,} events, {total.failed:,} of them no success; {total.masked:,} card numbers masked"
    )
    for kind, rows in counts.items():
        limit = None if kind == "day" else options.limit
        print()
        output.print_table(
            (*(name.upper() for name in HEAD), kind.upper()),
            [(*(f"{number:,}" for number in _numbers(one)), value) for value, one in rows[:limit]],
            right=(0, 1, 2),
        )
        if limit is not None and len(rows) > limit:
            print(f"and {len(rows) - limit:,} more")
        elif not rows:
            print(f"no {kind}")
    if not total.events:
        question.explain_nothing(several, asked)
    return OK


def _numbers(total: Total) -> tuple[int, int, int]:
    return total.events, total.failed, total.masked
