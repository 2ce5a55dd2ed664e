"""`pangate audit tail`: the newest events in their order, and with -f those that follow."""

from __future__ import annotations

import argparse
import contextlib
import time

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
    index = question.open_index(options)
    seen = index.position().sequence
    hits = index.search(asked, options.limit)
    output.show(options, output.fetch(index.record, reversed(hits), alone=options.every))
    with contextlib.suppress(KeyboardInterrupt):
        while options.follow:
            time.sleep(POLL_SECONDS)
            index.catch_up()
            last = index.position().sequence
            if last < seen:
                seen = 0  # the record is another one now
            if last > seen:
                hits = index.search(question.query_of(options, after=seen), None)
                output.show(
                    options,
                    output.fetch(index.record, reversed(hits), alone=options.every),
                    head=False,
                )
                seen = last
    return OK
