"""`pangate audit anchor`: put the newest checkpoint where whoever has the ledger cannot reach it."""

from __future__ import annotations

import argparse
from pathlib import Path

from pangate.audit.anchors import Anchor
from pangate.audit.anchors.file import FileAnchor
from pangate.audit.anchors.witness import WitnessAnchor
from pangate.audit.reader import Ledger
from pangate.audit_cli import add_ledger, ledger_of
from pangate.audit_cli.verify import read_keys
from pangate.errors import LedgerError


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_ledger(parser)
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a file on other storage; repeatable",
    )
    parser.add_argument(
        "--witness",
        action="append",
        default=[],
        nargs=2,
        metavar=("URL", "KEYFILE"),
        help="a witness (C2SP tlog-witness) and its public key; repeatable",
    )


def run(options: argparse.Namespace) -> int:
    """Put it everywhere, and say where that failed. The exit code is 1 when it did anywhere."""
    anchors: list[Anchor] = [FileAnchor(path) for path in options.file]
    for url, file in options.witness:
        anchors += [WitnessAnchor(url, key) for key in read_keys(Path(file))]
    if not anchors:
        raise LedgerError("name a place: --file or --witness")
    ledger = Ledger(ledger_of(options))
    code = 0
    for anchor in anchors:
        try:
            size = anchor.put(ledger).size
        except LedgerError as error:
            print(f"{anchor.name}: {error}")
            code = 1
        else:
            print(f"{anchor.name}: has seen {size:,} events")
    return code
