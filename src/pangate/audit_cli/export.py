"""`pangate audit export`: one period of the record as one file that shows by itself that it is whole."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pangate.audit.export.container import FORMS, form_of
from pangate.audit.export.write import export
from pangate.audit.holds import moment
from pangate.audit_cli.each import each, ledgers_of
from pangate.audit_cli.retain import keys_in, signer_of, who

if TYPE_CHECKING:
    from pangate.config import Config


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
        help=f"the archive, which must not be there: its name ends in .{', .'.join(FORMS)}; with several "
        "workers there is one for each record, with first or worker-N in its name",
    )


def run(options: argparse.Namespace) -> int:
    """Write it. It is signed with the log's key, so this is done where the gateway runs."""
    from pangate import config

    whole = config.load(options.config)
    since, until = moment(options.since), moment(options.until, end=True)
    several = len(ledgers_of(whole)) > 1

    def work(name: str, one: Config) -> None:
        directory, out = one.audit.ledger, _named(options.out, name) if several else options.out
        period = export(
            directory,
            keys_in(directory),
            signer_of(one)(),
            since,
            until,
            out,
            who(),
            datetime.now(UTC),
        )
        retired = sum(end - first for first, end in period.gone)
        gone = f", {retired:,} of them retired" if retired else ""
        print(f"{out}: the events {period.first + 1} to {period.end}{gone}")

    return each(whole, "export", work)


def _named(out: Path, name: str) -> Path:
    """The archive of one ledger of several: with its name in front of what says the form."""
    form = form_of(out)
    return out.with_name(f"{out.name.removesuffix(f'.{form}')}.{name}.{form}")
