"""The desk as a worker sees it: requests are made here, and kept and decided in the gateway's first process.

What is said to it is masked. What was decided there is used up there too, once, whichever worker asks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol, cast

import msgspec

from pangate.approvals import Ask, Counted, DecisionRefused, DeskRules, MaskText, Ticket
from pangate.approvals.desk import Desk
from pangate.errors import PangateError, Refused
from pangate.model import Event
from pangate.store import OPEN, Request, State, Store

log = logging.getLogger("pangate")

COUNT_SECONDS = 660.0
"""How long a worker may take to count rows: longer than approvals.count_seconds can be, with the dial."""


class Line(Protocol):
    """The way to the first process. What cannot be asked raises StateFailed."""

    async def ask(self, name: str, value: object) -> Any:
        """What is answered there."""

    def tell(self, name: str, value: object) -> None:
        """Say something that needs no answer."""


class AskWorker(Protocol):
    """Ask the worker. Raises a PangateError when it does not answer."""

    def __call__(self, name: str, value: object, seconds: float) -> Awaitable[Any]: ...


class Counter:
    """The other end: the requests of one worker at the desk of the first process."""

    def __init__(self, desk: Desk, tell: Callable[[str, object], None], ask: AskWorker) -> None:
        self._desk, self._tell, self._ask = desk, tell, ask
        self._tickets: dict[str, Ticket] = {}
        """Requests of the worker that are not over, and those that it has consumed and not run yet."""
        self._consumed: set[str] = set()

    async def hear(self, name: str, value: Any) -> object:
        """What the worker says or asks about approvals."""
        match name:
            case "approval.request":
                await self._request(value)
                return None
            case "approval.known":
                known = self._desk.of_digest(value)
                if known is None:
                    return None
                if known.open:
                    self._mine(known)  # of one that is over nothing more comes
                return {"request": asdict(known.request)}
            case "approval.unwanted":
                if (unwanted := self._over(value)) is not None:
                    await self._desk.withdraw(unwanted, "the agent went away")
                return None
            case "approval.executed":
                if (ran := self._over(value)) is not None:
                    self._desk.ran(ran)
                return None
        ticket = self._tickets.get(value if isinstance(value, str) else value["request"])
        match name:
            case _ if ticket is None:
                return None
            case "approval.consume":
                if not await self._desk.consume(ticket):
                    return None
                self._consumed.add(ticket.request.id)
                return [one.person for one in ticket.decisions if one.choice != "deny"]
            case "approval.lapse":
                async with ticket.lock:
                    pass  # what uses it up, for somebody who has not waited for the answer, is over
                if ticket.request.id in self._consumed:
                    self._over(ticket.request.id)
                    await self._desk.lapse(ticket, value["why"])
            case "approval.note":
                seconds, inside = value["seconds"], value["in_transaction"]
                await self._desk.note(ticket, in_transaction=inside, seconds=seconds)
            case "approval.settle":
                return await self._desk.withdraw(ticket, value["why"])
        return None

    async def _request(self, value: Mapping[str, Any]) -> None:
        made = msgspec.convert(value["request"], Request)
        name, claims, digest = value["principal"], value["claims"], value["digest"]
        ticket = self._mine(await self._desk.enter(made, name, claims, digest))
        if made.mode == "wait":
            # the worker has the statement as it is, and its session
            ticket.count = lambda: self._count(made.id)

    async def _count(self, request: str) -> Counted:
        try:
            found = await self._ask("approval.count", request, COUNT_SECONDS)
        except PangateError as wrong:
            log.error("the rows of request %s are not counted: %s", request, wrong)
            raise DecisionRefused("not countable", "its process does not answer") from None
        if "refused" in found:
            raise DecisionRefused("not countable", str(found["refused"]))
        return Counted(int(found["rows"]), int(found["bound"]))

    def _mine(self, ticket: Ticket) -> Ticket:
        self._tickets[ticket.request.id] = ticket
        if self.changed not in ticket.told:
            ticket.told.append(self.changed)
        return ticket

    def _over(self, name: str) -> Ticket | None:
        """Nothing more comes of it for the worker."""
        self._consumed.discard(name)
        return self._tickets.pop(name, None)

    def changed(self, request: Request) -> None:
        """How a request stands has changed."""
        if request.id not in self._tickets:
            return
        self._tell("approval.changed", asdict(request))
        if request.state not in OPEN and request.id not in self._consumed:
            self._over(request.id)

    async def gone(self, why: str) -> None:
        """The worker has ended: nobody waits for its requests any more. One that is to be tried again may
        come to any worker."""
        tickets, self._tickets = list(self._tickets.values()), {}
        for ticket in tickets:
            if ticket.request.id in self._consumed:
                self._desk.unknown(ticket, why)
            if ticket.request.mode == "wait" and ticket.open:
                try:
                    await self._desk.withdraw(ticket, why)
                except PangateError as wrong:
                    log.error("%s", getattr(wrong, "detail", wrong))


class DeskAfar(Desk):
    """See `Desk`; it has no people here."""

    def __init__(
        self,
        line: Line,
        key: bytes,
        rules: DeskRules,
        record: Callable[[Event], object],
        durable: Callable[[], Awaitable[None]],
        mask: MaskText,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`key` is what the first process digests statements with."""
        # nothing here asks the store: what would is asked of the first process
        super().__init__(cast(Store, None), rules, record, durable, mask, clock)
        self._line = line
        self._key = key
        self._people: dict[str, list[str]] = {}
        """Who approved what was consumed and is about to run."""

    async def request(self, ask: Ask) -> Ticket:
        """As in the queue."""
        if self._closing:
            raise Refused(self._closing)
        made, name = self._request(ask), ask.principal.name
        claims, digest = self._shown(ask.principal.claims), self._digest(ask)
        left = asyncio.get_running_loop().create_future()
        ticket = Ticket(made, name, claims, digest, left)
        # here before it can be decided there
        self._of_principal[name] += 1
        self._tickets[made.id] = ticket
        value = {"request": asdict(made), "principal": name, "claims": claims, "digest": digest}
        try:
            await self._line.ask("approval.request", value)
        except BaseException:
            self._line.tell("approval.unwanted", made.id)
            self._drop(ticket)
            raise
        return ticket

    async def known(self, ask: Ask) -> Ticket | None:
        """As in the queue; whichever worker asked before."""
        digest = self._digest(ask)
        found = await self._line.ask("approval.known", digest)
        if found is None:
            return None
        request, name = msgspec.convert(found["request"], Request), ask.principal.name
        left = asyncio.get_running_loop().create_future()
        ticket = Ticket(request, name, self._shown(ask.principal.claims), digest, left)
        if request.state != "pending":
            left.set_result(None)
        return ticket

    async def consume(self, ticket: Ticket) -> bool:
        """As in the queue: true once, for one worker."""
        name = ticket.request.id
        try:
            found = await self._line.ask("approval.consume", name)
        except BaseException:
            # it may be used up by now, or soon, and it does not run
            self._line.tell(
                "approval.lapse", {"request": name, "why": "the gateway did not answer in time"}
            )
            raise
        if found is None:
            return False
        self._people[ticket.request.id] = list(found)
        self._settled(ticket, "executed", "", self._clock())
        return True

    def executed(self, ticket: Ticket, number: int, session: str) -> None:
        """As in the queue: recorded here, with the statement's own record."""
        people = self._people.pop(ticket.request.id, [])
        data = {"number": number, "ran_in": session, "people": people}
        self._event("approval.executed", ticket.request, True, data)
        self._line.tell("approval.executed", ticket.request.id)

    async def lapse(self, ticket: Ticket, why: str) -> None:
        """As in the queue."""
        self._people.pop(ticket.request.id, None)
        await self._line.ask("approval.lapse", {"request": ticket.request.id, "why": why})
        ticket.request = replace(ticket.request, state="withdrawn", outcome=why)

    async def note(self, ticket: Ticket, *, in_transaction: bool, seconds: float) -> None:
        """As in the queue."""
        value = {
            "request": ticket.request.id,
            "in_transaction": in_transaction,
            "seconds": seconds,
        }
        await self._line.ask("approval.note", value)

    async def counted_here(self, request: str) -> dict[str, object]:
        """For the first process: how many rows a statement concerns that waits here, or why that is not
        known."""
        ticket = self._tickets.get(request)
        if ticket is None or ticket.count is None:
            return {"refused": "no session waits with it, so nobody has its statement as it is"}
        try:
            found = await ticket.count()
        except DecisionRefused as refused:
            return {"refused": refused.reason}
        return {"rows": found.rows, "bound": found.bound}

    def changed(self, value: Mapping[str, Any]) -> None:
        """The first process says how a request stands."""
        request = msgspec.convert(value, Request)
        ticket = self._tickets.get(request.id)
        if ticket is None:
            return
        ticket.request = request
        if request.state != "pending" and not ticket.left.done():
            ticket.left.set_result(None)
        if request.state not in OPEN:
            self._drop(ticket)

    async def shut(self, why: str) -> None:
        """Take no more requests. Those that wait are ended by the first process."""
        self._closing = why

    async def close(self) -> None:
        """Shut."""
        await self.shut(self._closing or "the gateway is stopping")
        for ticket in list(self._tickets.values()):
            self._drop(ticket)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def sweep_soon(self) -> None:
        """The first process does it."""

    def use_soon(self, channels: Sequence[object]) -> None:
        """People hear of requests from the first process."""

    async def _settle(self, ticket: Ticket, state: State, why: str) -> bool:
        value = {"request": ticket.request.id, "state": state, "why": why}
        return bool(await self._line.ask("approval.settle", value))
