"""`pangate audit`: commands that read the record. One command a file, which has

    add(parser)    gives the command's own arguments to its argparse.ArgumentParser
    run(options)   does the work and returns the exit code

and is one line in COMMANDS. The file is `<name>.py`, with _ for -, and only the one that is asked for is
imported."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pangate.errors import LedgerError, PangateError

if TYPE_CHECKING:
    from pangate.audit.several import Source

OK, FAILED, MISUSED = 0, 1, 2
"""Exit codes: done, and nothing is wrong; something is wrong or could not be done; the command line is
wrong."""


class Command(NamedTuple):
    """The name of a command, which is its module's too, and what it does in a few words. One that shows
    what is in the record `reads` it, which is an event of the record itself."""

    name: str
    summary: str
    reads: bool = False


COMMANDS: tuple[Command, ...] = (
    Command("search", "find events by who, what, where, when and their words", reads=True),
    Command("show", "show an event, a session or a request for approval, all of it", reads=True),
    Command("tail", "show the newest events, and those that follow", reads=True),
    Command("stats", "count events by day, principal, resource, verdict, code, ...", reads=True),
    Command("report", "the review of a day or a period, what is unusual first", reads=True),
    Command("reindex", "make the index that these commands search anew from the record"),
    Command("verify", "verify the whole record offline, from public keys alone"),
    Command("prove", "write the proof that an event is in the record", reads=True),
    Command("replay", "show a session as it happened", reads=True),
    Command("anchor", "put the newest checkpoint out of reach, at witnesses and in files"),
    Command("witness", "cosign the checkpoints of ledgers that run elsewhere"),
    Command("export", "write a period as one archive that anybody can verify", reads=True),
    Command("retain", "say what is older than the configuration keeps, and take it away"),
    Command("hold", "keep events whatever their age, until they are let go"),
    Command("keygen", "make a key that signs checkpoints"),
    Command("rotate-key", "make the next key of a gateway's record"),
)
"""The commands in the order of the help. A new one is one line here and one file beside this."""


def main(arguments: Sequence[str]) -> int:
    """`pangate audit`: run one of its commands and return the exit code."""
    names = [command.name for command in COMMANDS]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(), file=sys.stdout if arguments else sys.stderr)
        if not arguments:
            return MISUSED
        raise SystemExit(OK)
    name, *rest = arguments
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f'did you mean "{close[0]}"?' if close else "pangate audit --help lists the commands"
        print(f'pangate audit: there is no command "{name}"; {hint}', file=sys.stderr)
        return MISUSED
    command = COMMANDS[names.index(name)]
    module = importlib.import_module(f"pangate.audit_cli.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"pangate audit {name}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        allow_abbrev=False,
    )
    module.add(parser)
    try:
        options = parser.parse_args(rest)
        if command.reads:
            note_reading(options, parser, name)
        code: int = module.run(options)
    except BrokenPipeError:
        # who reads has seen enough; what Python would still write at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except PangateError as error:
        print(f"pangate audit {name}: {getattr(error, 'detail', error)}", file=sys.stderr)
        return FAILED
    return code


def add_ledger(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Give `parser` the two ways to name a ledger, of which `ledger_of` makes its directory; or, with
    `several`, those of all processes of a gateway, of which `sources_of` makes the records."""
    which = parser.add_mutually_exclusive_group(required=True)
    about = "the ledger's directory"
    if several:
        about += (
            "; the records of workers in it (worker-N) are read with it, as one; for one record alone name "
            "its file of JSON lines, or DIRECTORY/worker-N"
        )
    which.add_argument("--directory", type=Path, metavar="DIRECTORY", help=about)
    which.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"the gateway's TOML file, which names it{', and with it those of its workers' * several}",
    )


def ledger_of(options: argparse.Namespace) -> Path:
    """The directory of the ledger that the options of `add_ledger` name.

    Raises ConfigError for a configuration that cannot be used, and LedgerError when the gateway of the
    configuration has several."""
    if options.directory is not None:
        directory: Path = options.directory
        return directory
    return _only(options.config).parent


def sources_of(options: argparse.Namespace) -> list[Source]:
    """The records that the options of `add_ledger` name, those of a gateway's workers among them; --directory
    may name a file too, which is that one record. Raises ConfigError."""
    from pangate.audit.several import sources, sources_in

    if options.directory is not None:
        return sources_in(options.directory)
    from pangate import config

    return sources(config.load(options.config, files=False).audit.path)


def note_reading(options: argparse.Namespace, parser: argparse.ArgumentParser, name: str) -> None:
    """Have the gateway record that somebody reads its record, before anything is shown. A copy of a record
    has no gateway, and no inbox beside it. LedgerError when the note cannot be left: then nothing is
    shown."""
    from pangate.audit import pan_mask
    from pangate.audit.events import WORKERS
    from pangate.audit.inbox import SUFFIX, inbox_of, leave

    place: Path | None = getattr(options, "directory", None)
    if place is None:
        from pangate import config

        inboxes = [inbox_of(config.load(options.config, files=False).audit.path)]
    elif place.is_dir():
        inboxes = sorted(place.glob(f"*{SUFFIX}")) or sorted(place.glob(f"{WORKERS}/*{SUFFIX}"))
    else:
        inboxes = [inbox_of(place)] if inbox_of(place).exists() else []
    asked = {
        key: value if value is None or isinstance(value, (bool, int, float, list)) else str(value)
        for key, value in vars(options).items()
        if value != parser.get_default(key) and key not in ("config", "directory", "index")
    }
    for key in ("day", "since", "until"):
        if isinstance(when := asked.get(key), float):
            asked[key] = f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M:%SZ}"
    for inbox in inboxes:
        leave(inbox, name, asked, pan_mask())


def _only(config: Path) -> Path:
    found = records_of(config)
    if len(found) > 1:
        raise LedgerError(
            "this gateway has a record for each of its processes; name one of them with --directory: "
            f"{', '.join(str(record.parent) for record in found)}"
        )
    return found[0]


def records_of(config: Path) -> list[Path]:
    """The records of the gateway with this configuration: its own, and one of each worker. Raises
    ConfigError."""
    from pangate import config as configuration
    from pangate.audit.events import records

    return records(configuration.load(config, files=False).audit.path)


def _help() -> str:
    width = max(len(command.name) for command in COMMANDS)
    lines = [
        "usage: pangate audit [--help] COMMAND ...",
        "",
        "The record of what passed the gateway.",
        "",
        *(f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS),
        "",
        "pangate audit COMMAND --help says more.",
    ]
    return "\n".join(lines)
