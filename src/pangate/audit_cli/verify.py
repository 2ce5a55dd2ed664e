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
from pangate.audit.reader import CHECKPOINT
from pangate.audit.verify import Report, verify
from pangate.audit_cli import records_of
from pangate.errors import LedgerError
from pangate.ledger.note import Verifier


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "ledger",
        nargs="*",
        type=Path,
        metavar="DIRECTORY",
        help="the ledger's directory, or an archive; several for a gateway with workers",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the gateway's TOML file, which names it, and those of its workers",
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
    if bool(options.ledger) == (options.config is not None):
        raise LedgerError("name a ledger: its DIRECTORY, or --config and the gateway's file")
    ledgers: list[tuple[Path, Path | None]] = [
        (one, one.with_name(one.name + ".key")) for one in options.ledger
    ]
    if options.config is not None:
        ledgers = _of_gateway(options.config)
    reports = [_one(*ledger, options, len(ledgers) > 1) for ledger in ledgers]
    if options.json:
        made = [report.as_json() for report in reports]
        print(json.dumps(made if len(made) > 1 else made[0], indent=2))
    else:
        for (directory, _), report in zip(ledgers, reports, strict=True):
            if len(reports) > 1:
                print(f"{directory}:")
            print("\n".join(_lines(report)))
    return 0 if all(report.ok for report in reports) else 1


def _of_gateway(config: Path) -> list[tuple[Path, Path | None]]:
    """The directory of each of its ledgers, and the file of its private key, if it is in one."""
    from pangate import config as configuration

    audit = configuration.load(config, files=False).audit
    own, *workers = records_of(config)
    if audit.key_command is not None:
        return [(record.parent, None) for record in (own, *workers)]
    found: list[tuple[Path, Path | None]] = [(own.parent, audit.private_key)]
    for record in workers:
        key = record.with_name(record.name + ".key")
        if audit.key is not None:
            key = audit.key.with_name(f"{audit.key.name}.{record.parent.name}")
        found.append((record.parent, key))
    return found


def _one(
    directory: Path, key_file: Path | None, options: argparse.Namespace, several: bool
) -> Report:
    roots = authorities(options.authority) if options.authority else []
    if options.timestamp and not roots:
        raise LedgerError("time stamps need --authority, the certificates of who made them")
    evidence = [Evidence(str(file), _read(file)) for file in options.checkpoint]
    for path in options.timestamp:
        evidence += stamped(path, roots)
    if several and not directory.is_file():
        # each checkpoint was made by one of them
        origin = _origin(_read(directory / CHECKPOINT))
        evidence = [one for one in evidence if _origin(one.note) == origin]
    if directory.is_file():
        if options.log:
            raise LedgerError(
                f"{directory} is an archive, which ends where its period does: --log goes with the "
                "directory of a ledger"
            )
        from pangate.audit.export.check import verify_archive

        keys = [key for file in options.key for key in read_keys(file)]
        return verify_archive(directory, keys, evidence, roots)
    return verify(
        directory,
        [key for file in options.key for key in read_keys(file)],
        evidence,
        key_file=key_file,
        progress=_progress if sys.stderr.isatty() else None,
        processes=len(os.sched_getaffinity(0)),
        logs=options.log,
        authorities=roots,
    )


def _origin(note: bytes) -> bytes:
    return note.partition(b"\n")[0]


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
