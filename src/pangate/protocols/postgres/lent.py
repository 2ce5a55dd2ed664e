"""The codec of a session that has one connection after another: what it has to know of them, and when it may
part with one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping

from pangate import sql
from pangate._scan import Scanner
from pangate.model import Statement
from pangate.protocols import Action, ToFrontend
from pangate.protocols.postgres import messages, renewal
from pangate.protocols.postgres.conversation import Expected, Prepared, Running
from pangate.protocols.postgres.messages import message
from pangate.protocols.postgres.names import Carried, Names
from pangate.protocols.postgres.repeats import Repeats

_NAMING = re.compile("execute|deallocate", re.IGNORECASE)


class Lent(Repeats, ABC):
    """See `pangate.protocols.Codec`. Without `lend`, nothing of it counts."""

    _waiting: tuple[str, bytes, Prepared | None, bytes, Statement] | None
    _skipping: bool
    _spoilt: bool
    _unsynced: bool
    _asked: int
    _naming: dict[bytes, tuple[int, Expected]]

    def __init__(self, scanner: Scanner, max_message: int) -> None:
        super().__init__(scanner, max_message)
        self._names: Names | None = None
        self.away = False
        self.sequence = 0
        """How many Syncs were expected so far."""
        self._told: dict[str, str] = {}
        self._settled: Mapping[str, str] = {}
        """Settings as the server reported them last, and as they were when the connection was taken."""

    # What the codec says of itself.

    @property
    @abstractmethod
    def at_rest(self) -> bool:
        """Whether the server has answered everything and waits for a command."""

    @abstractmethod
    def lookup(self, name: bytes) -> Prepared | None:
        """What `name` means when the server comes to the message that is read now: UNKNOWN when nothing,
        None when an answer that is still on its way decides."""

    @abstractmethod
    def expect(self, expected: Expected) -> None:
        """The server owes this answer as well."""

    @abstractmethod
    def _go_on(self, actions: list[Action]) -> None:
        """Read on what the agent sent."""

    # --- one connection after another -----------------------------------------------------------

    def lend(self) -> None:
        """From `ready` on, the connection may be another one whenever nothing is under way."""
        self._names = Names(self)

    def carry(self) -> Carried:
        """Prepared statements."""
        return Carried()

    def taken(self, carried: object) -> None:
        """Before `ready`."""
        assert self._names is not None
        assert isinstance(carried, Carried)
        self._names.carried = carried

    def renew(
        self,
        parameters: Mapping[str, str],
        key: bytes,
        settings: Mapping[str, str],
        carried: object,
        *,
        kin: bool,
    ) -> tuple[renewal.Renewal, Carried]:
        """With the prepared statements, for the same principal."""
        if kin and isinstance(carried, Carried) and not carried.used_up:
            carried.unnamed = None  # any Query takes it away
            return renewal.renew(parameters, key, settings, statements=True), carried
        return renewal.renew(parameters, key, settings, statements=False), Carried()

    def unchanged(self, parameters: Mapping[str, str], key: bytes) -> renewal.Renewal:
        """Nothing."""
        return renewal.nothing(parameters, key)

    @property
    def pinned(self) -> str:
        """What of the statements so far."""
        return self._names.pinned if self._names is not None else ""

    @property
    def lendable(self) -> bool:
        """Outside of a transaction, with all answered."""
        names = self._names
        if names is None or names.pinned or self.away or not self._may_part():
            return False
        if self._told != self._settled:
            # by a trigger or a function that stands in no statement, or by the server's configuration
            names.pinned = "a setting that changed"
            return False
        return True

    def _may_part(self) -> bool:
        return not (
            not self.at_rest
            or self._standing.status != b"I"
            or self._skipping
            or self._failed
            or self._walker.held
            or self._spoilt
        )

    def part(self) -> None:
        """Nothing is sent until `reached`."""
        self.away = True

    def reached(self, carried: object, parameters: Mapping[str, str]) -> list[Action]:
        """With the settings that are not what the agent was told."""
        self.taken(carried)
        self.away = False
        actions: list[Action] = []
        for name, value in parameters.items():
            if self._told.get(name) != value:
                self._check_reported(name, value)
                masked = bytearray(messages.text(name) + messages.text(value))
                self._walker.mask_text(masked)
                actions.append(ToFrontend(message(b"S", bytes(masked))))
        self._report(parameters)
        if self._waiting is None:
            self._go_on(actions)
        return actions

    def _report(self, parameters: Mapping[str, str]) -> None:
        self._told, self._settled = dict(parameters), dict(parameters)

    @property
    def unsynced(self) -> bool:
        """Whether an extended sequence was begun and not ended."""
        return self._unsynced

    def digests(self) -> frozenset[bytes]:
        """Those of the statements that the agent has given names."""
        under_way = [one.prepared for one in self._queue if one.prepared is not None]
        return frozenset(one.digest for one in (*self._prepared.values(), *under_way))

    def _as_named(self, body: bytes) -> bytes:
        if self._names is None:
            return body
        shown = self._names.as_said(body)
        if shown is not body:
            masked = bytearray(shown)
            self._walker.mask_text(masked)
            shown = bytes(masked)
        return shown

    def _in_sql_in_doubt(self, text: str) -> bool:
        """Whether an answer that is on its way decides what a name means that stands in SQL."""
        if self._names is None or not _NAMING.search(text):
            return False
        return any(
            name and self.lookup(name.encode()) is None
            for part in sql.understand(text).parts
            for name in (part.executes, part.deallocates)
        )

    def _note_deallocated(self, text: str) -> None:
        """What was sent last may take names away: whatever comes behind it has to know."""
        if self._names is None or not _NAMING.search(text):
            return
        for part in sql.understand(text).parts:
            if part.deallocates is None:
                continue
            names = (
                [part.deallocates.encode()]
                if part.deallocates
                else [*self._prepared, *self._naming]
            )
            for name in filter(None, names):
                self._naming[name] = self._asked, self._queue[-1]

    def _on_deallocated(self, tag: bytes, running: Running | None) -> None:
        if self._names is None:
            return
        if tag != b"DEALLOCATE\0":
            self._prepared.clear()
        elif running is not None:
            parts = sql.understand(running.text).parts
            names = [part.deallocates for part in parts if part.deallocates is not None]
            for name in names[running.deallocated : running.deallocated + 1]:
                self._prepared.pop(name.encode(), None)
            running.deallocated += 1

    def _on_types(self, prepared: Prepared, types: tuple[int, ...]) -> None:
        if self._names is not None:
            self._names.settle(prepared, types)

    def _on_rest(self) -> None:
        if self._names is not None:
            self._names.at_rest()

    def _on_unnamed_gone(self) -> None:
        if self._names is not None:
            self._prepared.pop(b"", None)

    def _on_setting(self, name: bytes, value: bytes) -> None:
        self._told[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")

    def _check_reported(self, name: str, value: str) -> None:
        if name == "client_encoding":
            self._encoding = value
            self._check_encoding(value)
        elif name == "standard_conforming_strings":
            self._check_strings(value)
