"""What a command does to each ledger of a gateway, whose workers have one of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from pangate.audit.reader import CHECKPOINT
from pangate.audit.several import FIRST, number_of, sources
from pangate.errors import LedgerError

if TYPE_CHECKING:
    from pangate.config import Config


def ledgers_of(whole: Config) -> list[tuple[str, Config]]:
    """ "first" with the configuration of the gateway, and "worker-N" with it as that worker has it, also of
    workers that there are no more. Of workers those that have sealed something."""
    from pangate.config.workers import of_worker

    workers = [
        (name, of_worker(whole, number_of(name)))
        for name, path in sources(whole.audit.path)
        if name != FIRST and (path.parent / CHECKPOINT).exists()
    ]
    return [(FIRST, whole), *workers]


def each(whole: Config, command: str, work: Callable[[str, Config], None]) -> int:
    """Do `work` to all of them and return the exit code: what is wrong with one keeps it from no other. With
    one ledger it raises what that raises."""
    ledgers = ledgers_of(whole)
    if len(ledgers) == 1:
        work(*ledgers[0])
        return 0
    code = 0
    for name, one in ledgers:
        print(f"{name}:", flush=True)
        try:
            work(name, one)
        except LedgerError as wrong:
            print(f"pangate audit {command}: {name}: {wrong}", file=sys.stderr)
            code = 1
    return code
