"""The sessions that are open in all workers, which the first process counts."""

from __future__ import annotations

from collections import Counter

from pangate.errors import LimitReached
from pangate.gate import too_many


class Sessions:
    """Sessions by their id, each of one worker and of one (principal, role)."""

    def __init__(self) -> None:
        self._of: dict[int, dict[str, tuple[str, str]]] = {}
        self._count: Counter[tuple[str, str]] = Counter()

    def total(self) -> int:
        """All of them."""
        return self._count.total()

    def take(self, worker: int, session: str, key: tuple[str, str], most: int | None) -> None:
        """One more. Raises LimitReached when there are `most`."""
        if most is not None and self._count[key] >= most:
            raise LimitReached(too_many(key[1], most))
        self._of.setdefault(worker, {})[session] = key
        self._count[key] += 1

    def leave(self, worker: int, session: str) -> None:
        """It is over. One that was never taken changes nothing: nobody makes room for another session by
        being turned away."""
        key = self._of.get(worker, {}).pop(session, None)
        if key is not None:
            self._count[key] -= 1
            if not self._count[key]:
                del self._count[key]

    def gone(self, worker: int) -> None:
        """The worker has ended, and all of its sessions."""
        for session in list(self._of.get(worker, ())):
            self.leave(worker, session)
