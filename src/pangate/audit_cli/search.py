"""`pangate audit search`: events by who, what, where, when and their words, the newest first."""

from __future__ import annotations

import argparse
import sys
from itertools import islice

from pangate.audit_cli import OK, output, question

LIMIT = 50


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    question.add(parser)
    parser.add_argument(
        "--limit", type=question.positive, default=LIMIT, metavar="N",
        help=f"the newest N at the most; the default is {LIMIT}",
    )  # fmt: skip
    output.add(parser)


def run(options: argparse.Namespace) -> int:
    """Find and show."""
    asked = question.query_of(options)
    several = question.open_indexes(options)
    hits = several.search(asked, options.limit + 1)
    count = sum(map(len, hits.values()))
    found = output.fetch_all(several, hits, newest_first=True, alone=options.every)
    output.show(options, islice(found, options.limit))
    if not count:
        print("pangate audit: nothing was found", file=sys.stderr)
        question.explain_nothing(several, asked)
    elif count > options.limit:
        print(
            f"pangate audit: these are the newest {options.limit}; --limit shows more",
            file=sys.stderr,
        )
    return OK
