"""Statements that wait for a person: the words of it. queue.py is their way from a session that
asks to the one execution; desk.py is where people decide; people.py says who may; words.py says what a
statement would do. channels/ are the ways by which people hear of it beside the API, outbox.py keeps what
they are still to be told, post.py sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pangate.approvals.people import GroupRules, excluded
from pangate.errors import PangateError
from pangate.model import Hold, Principal, Statement, Verdict
from pangate.store import OPEN, Decision, Request

if TYPE_CHECKING:
    from pangate.approvals.channels import Channel
    from pangate.approvals.desk import Desk
    from pangate.config import Config
    from pangate.model import Event

MaskText = Callable[[str], str]
"""Takes card numbers out of a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a session asks for. `statement` and `parameters` are as they are recorded, not masked yet;
    `exact` is what ran, or would, to the last character: it is compared and never kept."""

    session: str
    principal: Principal
    origin: str
    role: str
    resource: str
    statement: Statement
    text: str
    parameters: Sequence[str | None]
    verdict: Verdict
    in_transaction: bool = False
    estimate: int | None = None
    exact: bytes = field(default=b"", repr=False)

    @property
    def hold(self) -> Hold:
        """What it waits for."""
        if self.verdict.hold is None:
            raise ValueError("the verdict holds nothing")
        return self.verdict.hold


@dataclass(frozen=True, slots=True)
class Counted:
    """How many rows a statement concerns, of which `bound` were looked at the most."""

    rows: int
    bound: int

    @property
    def more(self) -> bool:
        """Whether there may be more."""
        return self.rows >= self.bound


@dataclass(eq=False)
class Ticket:
    """A request in this process: as it stands in the store, and who waits for it."""

    request: Request
    principal: str
    """The name of who asks, as it is."""
    claims: Mapping[str, object]
    """All claims of who asks, masked."""
    digest: bytes = field(repr=False)
    left: asyncio.Future[None]
    """Done when the request is not pending any more."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held for every change of its state: what is recorded of it is what happened."""
    decisions: list[Decision] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    count: Callable[[], Awaitable[Counted]] | None = None
    """Counts the rows that its statement concerns, while its session waits; raises DecisionRefused."""
    told: list[Callable[[Request], object]] = field(default_factory=list)
    """Called soon after each change of its state."""
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    counted: tuple[float, Counted] | None = None
    """The last count, and when that was."""

    @property
    def open(self) -> bool:
        """Whether it can still come to run."""
        return self.request.state in OPEN

    def excluded(self, name: str, groups: Sequence[GroupRules]) -> str:
        """Why the person of this name, which is masked, may not decide it; empty when they may."""
        return excluded(name, self.request.principal, self.claims, groups)

    @property
    def approvals(self) -> int:
        """How many people said yes so far."""
        return sum(decision.choice != "deny" for decision in self.decisions)


@dataclass(frozen=True, slots=True)
class Change:
    """What watchers are told. `code` is that of the event."""

    code: str
    request: Request


class DecisionRefused(PangateError):
    """A person may not do this to this request. `kind` is its class: "unknown", "settled", "own",
    "not entitled", "sign-in", "reason", "again", "misused", "not countable"."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(reason)


class DeskRules(Protocol):
    """What the desk takes from the configuration, whichever is in force."""

    @property
    def groups(self) -> Sequence[GroupRules]: ...
    @property
    def break_glass(self) -> Sequence[str]: ...
    @property
    def delegation_seconds(self) -> float: ...
    @property
    def keep_seconds(self) -> float: ...
    @property
    def max_held(self) -> int: ...
    @property
    def max_held_per_principal(self) -> int: ...


async def open_desk(
    config: Config,
    record: Callable[[Event], object],
    durable: Callable[[], Awaitable[None]],
    mask: MaskText,
    channels: Sequence[Channel] = (),
) -> Desk:
    """The desk that `config` asks for, which tells `channels`. What waited when an earlier process ended is
    expired, and recorded. Raises StateFailed and RecordFailed."""
    from pangate.approvals.desk import Desk
    from pangate.store import open_store

    store = await open_store(config.state_path)
    desk = Desk(store, config.desk, record, durable, mask)
    try:
        await desk.outbox.use(channels)
        await desk.start()
    except BaseException:
        await desk.outbox.close(0)
        await store.close()
        raise
    return desk
