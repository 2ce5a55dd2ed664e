"""`pangate audit reindex`: make the index anew from the record."""

from __future__ import annotations

import argparse
import time

from pangate.audit.index import Index
from pangate.audit_cli import OK, add_ledger, question, record_of


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_ledger(parser)
    question.add_index(parser)


def run(options: argparse.Namespace) -> int:
    """Remove the index, make it, and say how long that took."""
    began = time.monotonic()
    index = Index(record_of(options), options.index)
    shown = question.Progress(index)
    count = index.make_anew(progress=shown)
    shown.end()
    seconds = time.monotonic() - began
    print(f"{index.path}: {count:,} events indexed in {seconds:.1f} seconds")
    if index.record.missing:
        print(
            f"{index.record.missing:,} events are retired or missing; `pangate audit verify` says which"
        )
    return OK
