"""`pangate audit prove`: a file that shows, with the public key alone, that an event is in the record."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pangate.audit.reader import Ledger
from pangate.audit_cli import add_ledger, ledger_of
from pangate.errors import LedgerError


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("sequence", type=int, metavar="SEQUENCE", help="the sequence of the event")
    add_ledger(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write here and not to standard output; such files end in .tlog-proof",
    )


def run(options: argparse.Namespace) -> int:
    """Write the proof in the form of C2SP's tlog-proof, the event itself as its extra data."""
    proof = Ledger(ledger_of(options)).prove(options.sequence - 1).text()
    if options.output is None:
        sys.stdout.write(proof.decode())
        return 0
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(options.output, flags, 0o600), "wb") as file:
            file.write(proof)
    except OSError as error:
        raise LedgerError(f"{options.output} cannot be written: {error.strerror}") from None
    return 0
