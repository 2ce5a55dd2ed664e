"""`pangate audit hold`: events that are kept whatever their age, until somebody lets them go."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pangate.audit import pan_mask
from pangate.audit.holds import change, history, moment
from pangate.audit.reader import Ledger
from pangate.audit_cli.each import each
from pangate.audit_cli.retain import keys_in, note, signer_of, who
from pangate.errors import LedgerError

if TYPE_CHECKING:
    from pangate.config import Config


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|list|release")
    for action, summary in (
        ("add", "keep events that match all that is given"),
        ("list", "show what is held"),
        ("release", "let a hold go"),
    ):
        one = actions.add_parser(action, help=summary, description=f"{summary.capitalize()}.")
        one.add_argument(
            "--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file"
        )
        if action == "list":
            continue
        one.add_argument("name", metavar="NAME", help="what the hold is called, such as a case")
        one.add_argument("--reason", required=True, help="why, for whoever asks later")
        if action == "add":
            one.add_argument("--from", dest="since", metavar="TIME", help="a day, or a time (UTC)")
            one.add_argument(
                "--to", dest="until", metavar="TIME", help="the same; a day counts whole"
            )
            one.add_argument("--session", help="the session's id, as events have it")
            one.add_argument("--principal", help="the principal, as events have it")


def run(options: argparse.Namespace) -> int:
    """Do it. Each step is signed with the log's key, so it is done where the gateway runs."""
    from pangate import config

    whole = config.load(options.config)
    if options.action == "list":
        return each(whole, "hold", lambda _, one: _list(one))
    given = {}
    if options.action == "add":
        given = {
            "from": options.since and moment(options.since),
            "to": options.until and moment(options.until, end=True),
            "session": options.session,
            "principal": options.principal,
        }
        if not any(given.values()):
            raise LedgerError("say what to keep: --from, --to, --session or --principal")
    asked = {"action": options.action, "name": options.name, "reason": options.reason, **given}
    note(whole.audit.path, "hold", asked)
    # what people write may hold a card number
    mask = pan_mask()
    name, reason = mask(options.name), mask(options.reason)
    matched = {key: value and mask(value) for key, value in given.items()}

    def work(_: str, one: Config) -> None:
        directory = one.audit.ledger
        change(
            directory, signer_of(one)(), keys_in(directory), options.action, name, matched, reason, who(),
            datetime.now(UTC),
        )  # fmt: skip
        print(f"{name}: {'held' if options.action == 'add' else 'released'}")

    return each(whole, "hold", work)


def _list(one: Config) -> None:
    directory = one.audit.ledger
    origin = Ledger(directory).checkpoint().origin
    held = history(directory, origin, keys_in(directory))[-1]
    for hold in held.active.values():
        given = {
            "from": hold.since,
            "to": hold.until,
            "session": hold.session,
            "principal": hold.principal,
        }
        what = ", ".join(f"{key} {value}" for key, value in given.items() if value)
        print(f"{hold.name}: {what}; {hold.reason} (by {hold.by} at {hold.time})")
    if not held.active:
        print("nothing is held")
