"""What tombstones say was taken away on purpose: do they hold, and did they have the right to?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pangate.audit.holds import HOLDS, Holds, history
from pangate.audit.tombstones import TOMBSTONES, Tombstone, open_tombstone
from pangate.config.audit import REQUIRED_DAYS
from pangate.errors import LedgerError
from pangate.ledger.letters import letters
from pangate.ledger.tiles import TILE_HEIGHT, WIDTH
from pangate.ledger.tree import Frontier

if TYPE_CHECKING:
    from pangate.audit.verify.run import Run


class Retired:
    """The tombstones of the ledger of `run`; those that do not hold are findings and cover nothing."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._valid: list[Tombstone] = []
        steps = self._history()
        for path in sorted((run.directory / TOMBSTONES).glob("*.note")):
            name = f"{TOMBSTONES}/{path.name}"
            try:
                found = open_tombstone(path, run.checkpoint.origin, run.verifiers)
                self._check(found)
            except LedgerError as error:
                run.find("tombstone", name, str(error))
                continue
            self._valid.append(found)
            for wrong in self._unlawful(found, steps):
                run.find("tombstone", name, wrong, found.first + 1)
        self._tell()

    def covers(self, first: int, last: int) -> bool:
        """Whether the leaves from `first` to `last` were taken away under a tombstone."""
        for one in sorted(self._valid, key=lambda item: item.first):
            if one.first <= first < one.end:
                first = one.end
        return first > last

    def _history(self) -> list[Holds] | None:
        try:
            return history(self._run.directory, self._run.checkpoint.origin, self._run.verifiers)
        except LedgerError as error:
            self._run.find("hold", HOLDS, str(error))
            return None

    def _check(self, one: Tombstone) -> None:
        """It is over leaves of this tree. A tombstone of another history is over others."""
        roots = self._run.walk.roots
        if one.end // WIDTH > len(roots):
            raise LedgerError(f"is over leaves up to {one.end}, which the ledger has not")
        frontier = Frontier()
        for number in one.bundles:
            frontier.append_whole(roots[number], TILE_HEIGHT)
        if letters(frontier.root()) != one.tree:
            raise LedgerError("is over other leaves than those that were signed")

    def _unlawful(self, one: Tombstone, steps: Sequence[Holds] | None) -> list[str]:
        wrong = []
        try:
            age = datetime.fromisoformat(one.time) - datetime.fromisoformat(one.newest)
            if age < timedelta(days=one.keep_days):
                wrong.append(
                    f"took away events that were {age.days} days old, and {one.keep_days} were to be kept"
                )
        except ValueError:
            wrong.append("has times that cannot be read")
        if steps is None:
            return wrong
        if one.holds >= len(steps) or steps[one.holds].digest != one.held:
            wrong.append(
                f"was made when {HOLDS} had {one.holds} lines, and those are not there now: it was cut"
            )
            return wrong
        wrong += [
            f'took away events from {one.oldest} to {one.newest}, which the hold "{hold.name}" kept'
            for hold in steps[one.holds].active.values()
            if hold.by_time and hold.overlaps(one.oldest, one.newest)
        ]
        return wrong

    def _tell(self) -> None:
        report = self._run.report
        for one in self._valid:
            report.tombstones.append(
                f"the events {one.first + 1} to {one.end} ({one.oldest[:10]} to {one.newest[:10]}) and "
                f"{len(one.files)} files were retired at {one.time} by {one.by}, {one.keep_days} days kept"
            )
            missing = set(self._run.walk.missing)
            left = [number for number in one.bundles if number not in missing]
            if left:
                report.notices.append(
                    f"{TOMBSTONES}/{one.name} is over {len(left)} bundles that are still there; run "
                    "pangate audit retain again"
                )
        short = sum(one.keep_days < REQUIRED_DAYS for one in self._valid)
        if short:
            report.notices.append(
                f"{short} tombstones are of less than {REQUIRED_DAYS} days, which PCI DSS 10.5.1 asks for"
            )
