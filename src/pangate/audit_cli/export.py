"""`pangate audit export`: one period of the record as one file that shows by itself that it is whole."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from pangate.audit.export.container import FORMS
from pangate.audit.export.write import export
from pangate.audit.holds import moment
from pangate.audit_cli.retain import keys_in, signer_of, who


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file"
    )
    parser.add_argument(
        "--from", dest="since", required=True, metavar="TIME", help="a day, or a time (UTC)"
    )
    parser.add_argument(
        "--to", dest="until", required=True, metavar="TIME", help="the same; a day counts whole"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"the archive, which must not be there: its name ends in .{', .'.join(FORMS)}",
    )


def run(options: argparse.Namespace) -> int:
    """Write it. It is signed with the log's key, so this is done where the gateway runs."""
    from pangate import config

    whole = config.load(options.config)
    settings = whole.audit
    since, until = moment(options.since), moment(options.until, end=True)
    signer = signer_of(whole)()
    verifiers = keys_in(settings.ledger)
    period = export(
        settings.ledger, verifiers, signer, since, until, options.out, who(), datetime.now(UTC)
    )
    retired = sum(end - first for first, end in period.gone)
    gone = f", {retired:,} of them retired" if retired else ""
    print(f"{options.out}: the events {period.first + 1} to {period.end}{gone}")
    return 0
