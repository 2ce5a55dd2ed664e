"""`pangate audit reindex`: make the index anew from the record."""

from __future__ import annotations

import argparse
import time

from pangate.audit.index import Index, Record
from pangate.audit_cli import OK, add_ledger, question, sources_of


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_ledger(parser, several=True)
    question.add_index(parser)


def run(options: argparse.Namespace) -> int:
    """Remove the index of each record, make it, and say how long that took."""
    for source in sources_of(options):
        began = time.monotonic()
        index = Index(Record(source.path), question.index_of(options, source))
        shown = question.Progress(index)
        count = index.make_anew(progress=shown)
        shown.end()
        seconds = time.monotonic() - began
        print(f"{index.path}: {count:,} events indexed in {seconds:.1f} seconds")
        if index.record.missing:
            print(
                f"{index.record.missing:,} events are retired or missing; "
                "`pangate audit verify` says which"
            )
    return OK
