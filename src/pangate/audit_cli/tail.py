"""`pangate audit tail`: the newest events in their order, and with -f those that follow."""

from __future__ import annotations

import argparse
import contextlib
import time
from dataclasses import replace
from itertools import islice

from pangate.audit_cli import OK, output, question

LINES = 10
POLL_SECONDS = 0.5


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    question.add(parser)
    parser.add_argument(
        "-n", "--limit", type=question.positive, default=LINES, metavar="N",
        help=f"the newest N; the default is {LINES}",
    )  # fmt: skip
    parser.add_argument("-f", "--follow", action="store_true", help="wait for more, until Ctrl-C")
    output.add(parser)


def run(options: argparse.Namespace) -> int:
    """Show, and follow."""
    if options.follow:
        # An event is shown when it comes; how it ended is one of its own then.
        options.every = True
    asked = question.query_of(options)
    several = question.open_indexes(options)
    seen = {name: index.position().sequence for name, index in several.indexes.items()}
    hits = several.search(asked, options.limit)
    found = output.fetch_all(several, hits, newest_first=True, alone=options.every)
    output.show(options, reversed(list(islice(found, options.limit))))
    with contextlib.suppress(KeyboardInterrupt):
        while options.follow:
            time.sleep(POLL_SECONDS)
            hits = {}
            for name, index in several.indexes.items():
                index.catch_up()
                last = index.position().sequence
                if last < seen[name]:
                    seen[name] = 0  # the record is another one now
                if last > seen[name]:
                    hits[name] = index.search(replace(asked, after=seen[name]), None)
                    seen[name] = last
            if hits:
                found = output.fetch_all(several, hits, alone=options.every)
                output.show(options, found, head=False)
    return OK
