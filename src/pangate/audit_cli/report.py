"""`pangate audit report`: the review of a day or another period, what is unusual first (PCI DSS 10.4.1)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from pangate.audit.reader import CHECKPOINT, PUBLIC_KEYS, Ledger
from pangate.audit.tombstones import tombstones
from pangate.audit.verify import Report as Verified
from pangate.audit.verify import verify
from pangate.audit_cli import FAILED, OK, add_ledger, question
from pangate.audit_cli.verify import read_keys
from pangate.errors import LedgerError
from pangate.evidence import show
from pangate.evidence.daily import Checked, review

DAY = 86400


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_ledger(parser, several=True)
    question.add_index(parser)
    parser.add_argument(
        "--day",
        type=question.moment,
        metavar="DATE",
        help="a day in UTC, 2026-11-28; the default is yesterday",
    )
    parser.add_argument(
        "--since",
        type=question.moment,
        metavar="TIME",
        help="another period: from this time (ISO, or 7d) on",
    )
    parser.add_argument(
        "--until",
        type=question.moment,
        metavar="TIME",
        help="and before this one; the default is now",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--html", action="store_true", help="a page, all in one file")
    form.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write here, mode 0600")
    parser.add_argument(
        "--key", action="append", default=[], type=Path, metavar="FILE",
        help="public keys of the ledger and of witnesses, kept elsewhere, to verify it with; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--no-verify", action="store_true", help="do not verify the record, which reads all of it"
    )


def run(options: argparse.Namespace) -> int:
    """Make the report. The exit code is 1 when the record itself is not right."""
    since, until = _period(options)
    several = question.open_indexes(options)
    checked = {}
    for name, index in several.indexes.items():
        directory = index.record.directory
        checked[name] = Checked(*_verified(options, directory), _retired(directory))
    made = review(several, since, until, checked)
    if options.json:
        text = json.dumps(made.as_json(), indent=2, ensure_ascii=False) + "\n"
    else:
        text = show.page(made) if options.html else show.text(made)
    if options.output is None:
        sys.stdout.write(text)
    else:
        _write(options.output, text)
    return FAILED if any(section.wrong for section in made.sections) else OK


def _period(options: argparse.Namespace) -> tuple[float, float]:
    if options.day is not None and (options.since is not None or options.until is not None):
        raise LedgerError("give --day, or --since and --until")
    if options.since is None and options.until is not None:
        raise LedgerError("--until needs --since")
    if options.since is None:
        now = time.time()
        day = options.day if options.day is not None else now - DAY
        since = day - day % DAY
        return since, since + DAY
    until = time.time() if options.until is None else options.until
    if options.since >= until:
        raise LedgerError("--since is not before --until")
    return options.since, until


def _verified(options: argparse.Namespace, directory: Path) -> tuple[Verified | None, str]:
    """What verifying the record says, or why nothing."""
    if options.no_verify:
        return None, "not verified (--no-verify)"
    if not (directory / CHECKPOINT).exists():
        return None, "not sealed (audit.seal_seconds): nothing shows a change of it"
    keys = [key for file in options.key for key in read_keys(file)]
    return verify(directory, keys, processes=len(os.sched_getaffinity(0))), ""


def _retired(directory: Path) -> list[tuple[int, int]]:
    """What was taken away because of its age, as the log has signed it."""
    if not (directory / CHECKPOINT).exists():
        return []
    origin = Ledger(directory).checkpoint().origin
    keys = read_keys(directory / PUBLIC_KEYS)
    return [(one.first, one.end) for one in tombstones(directory, origin, keys)]


def _write(path: Path, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
    except OSError as wrong:
        raise LedgerError(f"{path} cannot be written: {wrong.strerror}") from None
