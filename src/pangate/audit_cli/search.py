"""`pangate audit search`: events by who, what, where, when and their words, the newest first."""

from __future__ import annotations

import argparse
import sys

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
    index = question.open_index(options)
    hits = index.search(asked, options.limit + 1)
    output.show(options, output.fetch(index.record, hits[: options.limit], alone=options.every))
    if not hits:
        print("pangate audit: nothing was found", file=sys.stderr)
        question.explain_nothing(index, asked)
    elif len(hits) > options.limit:
        print(
            f"pangate audit: these are the newest {options.limit}; --limit shows more",
            file=sys.stderr,
        )
    return OK
