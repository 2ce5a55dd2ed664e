"""`pangate audit retain`: take away what is old enough, and leave what shows that this was on purpose."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pangate.audit import pan_mask
from pangate.audit.holds import history, moment
from pangate.audit.inbox import inbox_of, leave
from pangate.audit.index import Index, Record
from pangate.audit.reader import PUBLIC_KEYS, Ledger
from pangate.audit.retention import Plan, Retention
from pangate.audit.signing import key_source
from pangate.audit.verify import verify
from pangate.audit_cli.each import each
from pangate.errors import LedgerError
from pangate.ledger.note import Signer, Verifier

if TYPE_CHECKING:
    from pangate.config import Config


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file"
    )
    parser.add_argument(
        "--apply", action="store_true", help="do it; without this it says what would go"
    )
    parser.add_argument(
        "--now",
        metavar="TIME",
        help="the time to count from, where it is not now; not after it",
    )


def run(options: argparse.Namespace) -> int:
    """Say what goes, and with --apply take it away, of each ledger. One that does not verify is left as it
    is."""
    from pangate import config

    whole = config.load(options.config)
    settings = whole.audit
    now = datetime.now(UTC)
    if options.now is not None:
        now = min(now, datetime.fromisoformat(moment(options.now)))
    if options.apply:
        note(
            settings.path, "retain", {"keep_days": settings.retention.keep_days, "now": options.now}
        )

    def work(_: str, one: Config) -> None:
        retain(
            one.audit.path, one.audit.ledger, signer_of(one), one.audit.retention.keep_days, now,
            apply=options.apply,
        )  # fmt: skip

    return each(whole, "retain", work)


def retain(
    record: Path,
    directory: Path,
    key: Callable[[], Signer],
    keep_days: int,
    now: datetime,
    *,
    apply: bool,
) -> int:
    """The work of the command, with the time as it is told."""
    verifiers = keys_in(directory)
    report = verify(directory, verifiers, processes=len(os.sched_getaffinity(0)))
    if not report.ok:
        first = report.findings[0]
        raise LedgerError(
            f"the ledger does not verify ({first.kind}, {first.where}: {first.message}); nothing is "
            "taken away from it"
        )
    holds = history(directory, report.origin, verifiers)[-1]
    retention = Retention(directory, record if record.exists() else None, verifiers)
    plan = retention.plan(keep_days, now, holds)
    print("\n".join(_lines(plan, keep_days)))
    if apply and (plan.ranges or plan.unfinished):
        for line in retention.apply(plan, key(), keep_days, holds, who(), now):
            print(line)
        # what finds events knows what is gone; it is made of what stays
        index = Index(Record(record))
        if index.path.exists():
            index.make_anew()
    elif plan.ranges:
        print("nothing was taken away; --apply does it")
    return 0


def _lines(plan: Plan, keep_days: int) -> list[str]:
    made = [f"older than {keep_days} days, before {plan.before}: {plan.events:,} events"]
    for one in plan.ranges:
        size = sum(file.size for file in one.files)
        made.append(
            f"  {one.first + 1} to {one.end}, {one.oldest} to {one.newest}, and {len(one.files):,} "
            f"files of {size:,} bytes"
        )
    if plan.held:
        made.append(f"kept by holds: {plan.held:,} events")
    return made


def note(record: Path, command: str, asked: Mapping[str, object]) -> None:
    """Have the gateway record that this was asked for, before it is done. LedgerError when the note cannot be
    left; then it is not done."""
    leave(inbox_of(record), command, asked, pan_mask())


def keys_in(directory: Path) -> list[Verifier]:
    """The public keys that lie in the ledger. Raises LedgerError."""
    text = Ledger(directory).read(PUBLIC_KEYS)
    return [Verifier.parse(line) for line in text.decode().splitlines()]


def signer_of(whole: Config) -> Callable[[], Signer]:
    """What reads the key that signs for the ledger. It raises LedgerError."""

    def read() -> Signer:
        settings = whole.audit
        if settings.key_command is None and not settings.private_key.exists():
            raise LedgerError(
                f"there is no key {settings.private_key}; run this where the gateway runs"
            )
        return key_source(settings, whole.limits.credential_seconds).signer()

    return read


def who() -> str:
    """Who runs this, for the record of it."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unknown"
    by = os.environ.get("SUDO_USER")
    return f"{name} for {by}" if by and by != name else name
