"""`pangate audit verify`: is the record what was signed, and what is it that was changed?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from pangate.audit.anchors.evidence import Evidence, stamped
from pangate.audit.anchors.timestamp import authorities
from pangate.audit.verify import Report, verify
from pangate.errors import LedgerError
from pangate.ledger.note import Verifier


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "ledger",
        nargs="?",
        type=Path,
        metavar="DIRECTORY",
        help="the ledger's directory, or an archive",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the gateway's TOML file, which names it"
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="public keys of the ledger and of witnesses, one a line, kept elsewhere than the ledger; "
        "repeatable",
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a signed checkpoint that was kept elsewhere; repeatable",
    )
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a log of others in which there are checkpoints: a file of the syslog receiver, or what a "
        "webhook was sent; repeatable",
    )
    parser.add_argument(
        "--timestamp",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="a time stamp (.tsr) with its .checkpoint beside it, or a directory of these; repeatable",
    )
    parser.add_argument(
        "--authority",
        type=Path,
        metavar="FILE",
        help="PEM file with the certificates that those of time authorities have to lead to",
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")


def run(options: argparse.Namespace) -> int:
    """Verify and report. The exit code is 1 when there is any finding."""
    if (options.ledger is None) == (options.config is None):
        raise LedgerError("name a ledger: its DIRECTORY, or --config and the gateway's file")
    directory = options.ledger
    if directory is not None:
        key_file = directory.with_name(directory.name + ".key")
    else:
        from pangate import config

        settings = config.load(options.config).audit
        directory, key_file = settings.ledger, settings.private_key
    roots = authorities(options.authority) if options.authority else []
    if options.timestamp and not roots:
        raise LedgerError("time stamps need --authority, the certificates of who made them")
    evidence = [Evidence(str(file), _read(file)) for file in options.checkpoint]
    for path in options.timestamp:
        evidence += stamped(path, roots)
    if directory.is_file():
        from pangate.audit.export.check import verify_archive

        keys = [key for file in options.key for key in read_keys(file)]
        return _told(verify_archive(directory, keys, evidence, roots), as_json=options.json)
    report = verify(
        directory,
        [key for file in options.key for key in read_keys(file)],
        evidence,
        key_file=key_file,
        progress=_progress if sys.stderr.isatty() else None,
        processes=len(os.sched_getaffinity(0)),
        logs=options.log,
        authorities=roots,
    )
    return _told(report, as_json=options.json)


def _told(report: Report, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print("\n".join(_lines(report)))
    return 0 if report.ok else 1


def read_keys(file: Path) -> list[Verifier]:
    """The public keys in `file`, one a line. Raises LedgerError."""
    try:
        lines = _read(file).decode().splitlines()
        return [Verifier.parse(line) for line in lines if line.strip()]
    except (LedgerError, UnicodeDecodeError) as error:
        raise LedgerError(f"{file}: {error}") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise LedgerError(f"{file} cannot be read: {error.strerror}") from None


def _progress(done: int, size: int) -> None:
    end = "\n" if done == size else ""
    print(f"\r{done:,} of {size:,} events", end=end, file=sys.stderr, flush=True)


def _lines(report: Report) -> list[str]:
    lines = []
    if report.origin:
        lines.append(f"{report.origin}: {report.size:,} events sealed, root {report.root[:16]}...")
    if report.signed_by:
        lines.append(f"signed by {', '.join(report.signed_by)}")
    for seen in report.seen:
        when = ""
        if seen.time is not None:
            when = f" at {datetime.fromtimestamp(seen.time, UTC):%Y-%m-%d %H:%M:%S} UTC"
        who = f", witnessed by {', '.join(seen.witnesses)}{when}" if seen.witnesses else ""
        lines.append(f"{seen.name}: has seen {seen.size:,} events{who}")
    total = report.size + report.unsealed
    if total and report.origin:
        alone = total - report.witnessed
        lines.append(
            f"unwitnessed tail: {alone:,} events, from the sequence {report.witnessed + 1} on; nobody "
            "else has seen these"
            if alone
            else "unwitnessed tail: none"
        )
    if report.retired:
        lines.append(f"retired: {report.retired:,} events, whose hashes are there")
    lines += [f"tombstone: {item}" for item in report.tombstones]
    lines += [f"note: {notice}" for notice in report.notices]
    for item in report.findings:
        lines.append(f"WRONG ({item.kind}) {item.where}: {item.message}")
    if report.more_findings:
        lines.append(f"and {report.more_findings:,} more findings")
    count = len(report.findings) + report.more_findings
    lines.append(
        f"{count:,} finding{'s' if count != 1 else ''}: this is not the record that was signed"
        if count
        else f"verified: {report.events:,} events"
    )
    return lines
