"""What the gateway has to remember beside its record: requests that wait for a person, who decided them,
who may decide for whom, and what has to be looked at afterwards. The contract of stores; one a file.

Every change of a request's state is one conditional step: it says from which states it goes, and takes
place once, whoever else tries at the same time. Nothing here holds an unmasked card number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

State = Literal["pending", "approved", "denied", "expired", "withdrawn", "executed"]
"""pending    waits for people
approved   enough of them said yes; it has not run yet
executed   it was let go on, once and for all
denied, expired, withdrawn   it will never run"""

OPEN: tuple[State, ...] = ("pending", "approved")
"""The states that something can still come of."""

Choice = Literal["approve", "deny", "break_glass"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One statement that waits for a person. Texts are masked; times are in seconds since the epoch.

    `principal`, `claims` and `origin` are who asks and from where; `statement`, `parameters`, `effects`,
    `relations` and `words` what for; `shape` is the same for statements that differ in literals alone.
    `approvers` are the groups whose people decide, `quorum` how many of them have to, `acr` and `amr`
    what their tokens must say of how they signed in. `estimate` is how many rows the planner expects,
    None when nobody asked. `in_transaction` says that the statement's session holds locks meanwhile."""

    id: str
    session: str
    principal: str
    subject: str
    claims: Mapping[str, object]
    origin: str
    role: str
    resource: str
    kind: str
    statement: str
    parameters: Sequence[str | None] = ()
    effects: Sequence[str] = ()
    relations: Sequence[str] = ()
    words: Sequence[str] = ()
    shape: str = ""
    rule: str = ""
    reason: str = ""
    approvers: Sequence[str] = ()
    quorum: int = 1
    reason_required: bool = False
    acr: Sequence[str] = ()
    amr: Sequence[str] = ()
    mode: Literal["wait", "refuse-and-retry"] = "wait"
    created: float
    expires: float
    in_transaction: bool = False
    estimate: int | None = None
    state: State = "pending"
    settled: float | None = None
    outcome: str = ""
    """Why it is in a state that nothing comes of any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one person said to one request. `authority` is who the person decided for by delegation, the
    person otherwise. A person says one thing to a request, and so does an authority."""

    request: str
    person: str
    authority: str
    choice: Choice
    reason: str
    time: float
    claims: Mapping[str, object] = field(default_factory=dict)
    channel: str = ""
    """Which one it came by; empty for the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """`receiver` may decide in the place of `giver`, for one group of approvers, from `starts` to
    `ends`. `revoked` is when the giver took it back, None for never. `claims` are the giver's as they
    were: what is excluded for the giver stays excluded for the receiver."""

    id: str
    giver: str
    receiver: str
    group: str
    starts: float
    ends: float
    reason: str
    claims: Mapping[str, object] = field(default_factory=dict)
    revoked: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What was run by breaking the glass has to be looked at by somebody else afterwards. `finding` is
    empty until then."""

    request: str
    person: str
    reason: str
    time: float
    finding: Literal["", "justified", "not justified"] = ""
    reviewer: str = ""
    note: str = ""
    reviewed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What one channel is to be told of one step of a request. `id` is the same for every attempt. `body` is
    a JSON object, masked. It is tried from `due` on; `failure` says why the last attempt failed."""

    id: str
    channel: str
    request: str
    code: str
    time: float
    body: bytes
    due: float
    attempts: int = 0
    failure: str = ""


class Store(Protocol):
    """Where that is kept. For one event loop; no method blocks it. Every method raises StateFailed when
    the store does not answer, and then nothing was changed or it is not known whether.

    The `notices` of a change are kept in one step with it: neither is there without the other."""

    async def add(self, request: Request, notices: Sequence[Notice] = ()) -> None:
        """Keep a new request."""

    async def get(self, request: str) -> Request | None:
        """The request of this id."""

    async def find(self, states: Sequence[State] = (), *, most: int = 100) -> list[Request]:
        """Requests in one of `states` (all of them when empty), the newest first."""

    async def alike(self, shape: str, *, most: int = 10) -> list[Request]:
        """Requests of the same shape, the newest first."""

    async def note(
        self,
        request: str,
        *,
        in_transaction: bool,
        expires: float,
        notices: Sequence[Notice] = (),
    ) -> None:
        """Its session holds locks by now, or does not any more, so that it ends at `expires`."""

    async def decide(
        self,
        decision: Decision,
        state: State,
        outcome: str,
        notices: Sequence[Notice] = (),
    ) -> bool:
        """Keep a decision and put its request, which has to be pending and not past its end, into
        `state`. False, and nothing is kept, when it is not, or when the person or the authority
        has decided already."""

    async def decisions(self, request: str) -> list[Decision]:
        """What was said to a request, in order."""

    async def settle(
        self,
        request: str,
        states: Sequence[State],
        state: State,
        outcome: str,
        now: float,
        notices: Sequence[Notice] = (),
    ) -> bool:
        """Take a request from one of `states` to `state`; false when it is in none of them. What was to be
        told of its execution and was not yet is dropped: it did not take place."""

    async def consume(self, request: str, now: float, notices: Sequence[Notice] = ()) -> bool:
        """Take an approved request that is not past its end to executed: true for one caller only."""

    async def add_delegation(self, delegation: Delegation) -> None:
        """Keep a new delegation."""

    async def revoke_delegation(self, delegation: str, giver: str, now: float) -> bool:
        """Take back a delegation of `giver`; false when there is none that could be."""

    async def delegations(self, now: float) -> list[Delegation]:
        """Delegations that are not over, those of the future too."""

    async def add_review(self, review: Review) -> None:
        """Ask for a review."""

    async def review(
        self, request: str, finding: str, reviewer: str, note: str, now: float
    ) -> bool:
        """Keep the result of a review that was asked for; false when there is none to be made."""

    async def reviews(self, *, due_only: bool = True) -> list[Review]:
        """Reviews that are asked for, the oldest first."""

    async def due(self, channel: str, now: float, *, most: int) -> list[tuple[Notice, str]]:
        """What a channel is to be told next: the first of each request, if it is due, with the place that was
        kept for the request. The longest due first."""

    async def next_due(self, channel: str) -> float | None:
        """When there is something to be told again; None for nothing."""

    async def told(self, notice: Notice, place: str) -> None:
        """It was told. `place` is what the channel wants to know of it at the request's next notice."""

    async def postpone(self, notice: str, due: float, failure: str) -> None:
        """An attempt failed."""

    async def beyond(self, channel: str, *, most: int, at_once: int) -> list[Notice]:
        """The oldest of what a channel is to be told beyond `most`, up to `at_once` of them."""

    async def kept_for_others(self, names: Sequence[str]) -> dict[str, int]:
        """How much is kept for channels of other names than these."""

    async def keep_channels(self, names: Sequence[str]) -> int:
        """Drop what channels of other names were to be told; how many."""

    async def set_place(self, channel: str, request: str, place: str) -> None:
        """As `told` does."""

    async def first_seen(self, channel: str, message: str, now: float, until: float) -> bool:
        """Whether a message of a channel was not seen before; it is from now on, until `until`."""

    async def forget(self, before: float) -> int:
        """Drop what was settled before `before` and has no review due. How many requests that were."""

    async def close(self) -> None:
        """Let go of it. May be called twice."""


async def open_store(path: Path) -> Store:
    """The store in the file `path`, which is made if it is not there. Raises StateFailed when it cannot be
    used, or another gateway uses it."""
    from pangate.store.sqlite import SqliteStore

    return await SqliteStore.open(path)
