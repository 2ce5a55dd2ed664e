"""A desk with what it rests on, for tests: a store, a record that can fail, a clock that is set."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pangate import sql
from pangate.approvals import Ask
from pangate.approvals.channels import Channel
from pangate.approvals.desk import Desk
from pangate.audit import pan_mask
from pangate.config.approvals import DeskSettings
from pangate.config.rules import ApproverSettings
from pangate.errors import RecordFailed
from pangate.model import Event, Hold, Principal, Statement, Verdict
from pangate.store import open_store

PEOPLE = "https://people.example"
CI = "https://ci.example"

OWNERS = ApproverSettings(name="owners", match={"groups": "owners"}, issuer=PEOPLE, owns="owner")
DBA = ApproverSettings(name="dba", match={"groups": "dba"}, issuer=PEOPLE)


def rules(**changes: object) -> DeskSettings:
    given: dict[str, object] = {
        "groups": (OWNERS, DBA), "break_glass": ("dba",), "delegation_seconds": 1000.0,
        "keep_seconds": 1000.0, "max_held": 10, "max_held_per_principal": 5, **changes,
    }  # fmt: skip
    return DeskSettings(**given)  # type: ignore[arg-type]


def person(subject: str, *groups: str, issuer: str = PEOPLE, **claims: object) -> Principal:
    return Principal(subject, issuer, 1e12, claims={"groups": list(groups), **claims})


def agent(subject: str = "job", **claims: object) -> Principal:
    return Principal(subject, CI, 1e12, ("writer",), {"team": "payments", **claims})


def ask(text: str = "drop table payments", **changes: object) -> Ask:
    hold = {
        name: changes.pop(name)
        for name in ("approvers", "quorum", "reason_required", "acr", "amr", "mode",
                     "expires_seconds", "transaction_seconds")
        if name in changes
    }  # fmt: skip
    parameters = changes.pop("parameters", ())
    statement = Statement("query", text, parameters, meaning=sql.understand(text))  # type: ignore[arg-type]
    given: dict[str, object] = {
        "session": "session", "principal": agent(), "origin": "10.0.0.1:5", "role": "writer",
        "resource": "payments", "statement": statement, "text": text, "parameters": parameters,
        "verdict": Verdict("hold", "DDL waits", "rule:ddl",
                           Hold(**{"approvers": ("owners",), **hold})),
        **changes,
    }  # fmt: skip
    return Ask(**given)  # type: ignore[arg-type]


@dataclass
class Office:
    """`events` has what was recorded, `full` makes the record fail, `now` is the time; None for the real
    one."""

    path: Path
    now: float | None = 1_000_000.0
    full: bool = False
    events: list[Event] = field(default_factory=list)
    desk: Desk = field(init=False)

    async def durable(self) -> None:
        if self.full:
            raise RecordFailed("the disk is full")

    @property
    def codes(self) -> list[str]:
        return [event.code for event in self.events]

    def clock(self) -> float:
        return time.time() if self.now is None else self.now

    async def open(
        self, settings: DeskSettings | None = None, channels: Sequence[Channel] = ()
    ) -> Desk:
        self.desk = Desk(
            await open_store(self.path),
            settings or rules(),
            self.events.append,
            self.durable,
            pan_mask(),
            self.clock,
        )
        await self.desk.outbox.use(channels)
        await self.desk.start()
        return self.desk


@contextlib.asynccontextmanager
async def office(path: Path, settings: DeskSettings | None = None) -> AsyncIterator[Office]:
    made = Office(path)
    await made.open(settings)
    try:
        yield made
    finally:
        await made.desk.close()
