"""The requests of one gateway on their way from a session that asks to the one execution.

Every step is checked, recorded, kept in the store and only then told to anybody, in this order and under
the request's own lock. So what the record says happened, and nothing happens that it does not say."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import string
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pangate._shape import shape
from pangate.approvals import Ask, Change, DeskRules, MaskText, Ticket
from pangate.approvals.channels import Channel
from pangate.approvals.outbox import Outbox
from pangate.approvals.people import shown
from pangate.approvals.words import plain_words
from pangate.errors import LimitReached, PangateError, RecordFailed, Refused, StateFailed
from pangate.model import EFFECTS, Event, Principal
from pangate.store import OPEN, Decision, Notice, Request, State, Store

log = logging.getLogger("pangate")

MOST_RELATIONS = 100
MOST_CHARACTERS = 1 << 20
"""Longest statement that is kept with its request."""


class Queue:
    """All requests of one gateway, as sessions see them. For one event loop."""

    def __init__(
        self,
        store: Store,
        rules: DeskRules,
        record: Callable[[Event], object],
        durable: Callable[[], Awaitable[None]],
        mask: MaskText,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`record` and `durable` are the gateway's; `mask` takes card numbers out of a text."""
        self._store = store
        self._rules = rules
        self._record = record
        self._durable = durable
        self._mask = mask
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._tickets: dict[str, Ticket] = {}
        self._by_digest: dict[bytes, Ticket] = {}
        self._of_principal: Counter[str] = Counter()
        self._watchers: set[asyncio.Queue[Change]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = ""
        self.outbox = Outbox(store, mask, self._lost, self._gone, durable, clock)
        """What channels are to be told."""

    async def start(self) -> None:
        """Expire what an earlier process left: nobody waits for it, and what it was bound to is gone."""
        while left := await self._store.find(OPEN, most=1000):
            for request in left:
                why = "the gateway was restarted"
                self._event("approval.expired", request, False, {"reason": why})
            await self._durable()
            for request in left:
                now = self._clock()
                ended = replace(request, state="expired", outcome=why, settled=now)
                said = await self._store.decisions(request.id)
                notices = self.outbox.notices("approval.expired", ended, said)
                await self._store.settle(request.id, OPEN, "expired", why, now, notices)
            self.outbox.wake()

    def reconfigure(self, rules: DeskRules) -> None:
        """From now on these rules say who decides."""
        self._rules = rules

    def use_soon(self, channels: Sequence[Channel]) -> None:
        """From now on these channels are told, for who cannot wait."""
        self._soon(self.outbox.use(channels))

    @property
    def waiting(self) -> int:
        """Statements that are held now, whose sessions wait."""
        return sum(t.request.mode == "wait" and t.open for t in self._tickets.values())

    @property
    def open(self) -> int:
        """Requests that can still come to run."""
        return sum(ticket.open for ticket in self._tickets.values())

    # --- from the session ---------------------------------------------------------------------------

    async def request(self, ask: Ask) -> Ticket:
        """Ask for approval. Raises LimitReached, StateFailed, RecordFailed, and Refused when the gateway
        is stopping; nothing is asked for then."""
        claims = self._shown(ask.principal.claims)
        return await self.enter(self._request(ask), ask.principal.name, claims, self._digest(ask))

    async def enter(
        self, made: Request, principal: str, claims: Mapping[str, object], digest: bytes
    ) -> Ticket:
        """The same for a request that is made already. `principal` is who asks, as it is; `claims` are
        masked; `digest` is what it is bound to."""
        if self._closing:
            raise Refused(self._closing)
        self._bound(principal)
        left = asyncio.get_running_loop().create_future()
        ticket = Ticket(made, principal, claims, digest, left)
        self._of_principal[principal] += 1
        self._tickets[made.id] = ticket
        async with ticket.lock:
            try:
                await self._store.add(made, self.outbox.notices("approval.requested", made))
                self._event("approval.requested", made, True, _asked(made))
                await self._durable()
            except PangateError:
                self._drop(ticket)
                await self._forget_quietly(made)
                raise
            except BaseException:
                # who asks is gone; what the store has of it by then must not stay open
                self._drop(ticket)
                self._soon(self._settle(ticket, "withdrawn", "who asked is gone"))
                raise
        if made.mode == "refuse-and-retry":
            self._by_digest[ticket.digest] = ticket
        self._arm(ticket)
        self._tell("approval.requested", ticket.request)
        return ticket

    async def known(self, ask: Ask) -> Ticket | None:
        """For refuse-and-retry: the request for exactly this that was made before and is not over."""
        return self.of_digest(self._digest(ask))

    def of_digest(self, digest: bytes) -> Ticket | None:
        """The same by what it is bound to."""
        return self._by_digest.get(digest)

    @property
    def key(self) -> bytes:
        """What that is digested with. It is in no file."""
        return self._key

    async def consume(self, ticket: Ticket) -> bool:
        """Use an approval up: true once. From then on nothing else comes of the request."""
        async with ticket.lock:
            if ticket.request.state != "approved":
                return False
            now = self._clock()
            ran = replace(ticket.request, state="executed", settled=now)
            notices = self.outbox.notices("approval.executed", ran, ticket.decisions)
            using = asyncio.ensure_future(self._store.consume(ticket.request.id, now, notices))
            try:
                used = await asyncio.shield(using)
            except asyncio.CancelledError:
                # what the store has and what is known here must not differ
                self._soon(self._unused(ticket, using, now))
                raise
            if not used:
                return False
            self._settled(ticket, "executed", "", now)
            return True

    async def _unused(self, ticket: Ticket, using: asyncio.Future[bool], now: float) -> None:
        """Who wanted to use it up is gone: if it is, it does not run."""
        async with ticket.lock:
            if not await using:
                return
            self._settled(ticket, "executed", "", now)
        await self.lapse(ticket, "the agent went away")

    def executed(self, ticket: Ticket, number: int, session: str) -> None:
        """Record that what was consumed goes on now, as statement `number` of `session`; written with
        the statement's own record."""
        data = {"number": number, "ran_in": session, "people": _people(ticket.decisions)}
        self._event("approval.executed", ticket.request, True, data)
        self._tell("approval.executed", ticket.request)

    def ran(self, ticket: Ticket) -> None:
        """What was consumed goes on in another process, which has recorded it."""
        self._tell("approval.executed", ticket.request)

    def unknown(self, ticket: Ticket, why: str) -> None:
        """What was consumed is with a process that has ended. Its own record says whether it went on."""
        data = {"reason": f"{why}; whether it ran is in the record of that process, if anywhere"}
        self._event("approval.unknown", ticket.request, False, data)

    async def lapse(self, ticket: Ticket, why: str) -> None:
        """What was consumed does not go on after all."""
        async with ticket.lock:
            if ticket.request.state != "executed":
                return
            self._event("approval.withdrawn", ticket.request, False, {"reason": why})
            now = self._clock()
            ticket.request = replace(ticket.request, state="withdrawn", outcome=why)
            notices = self.outbox.notices("approval.withdrawn", ticket.request, ticket.decisions)
            await self._store.settle(
                ticket.request.id, ("executed",), "withdrawn", why, now, notices
            )
        self._tell("approval.withdrawn", ticket.request)

    async def withdraw(self, ticket: Ticket, why: str) -> bool:
        """Nobody wants it any more; false when it is over already."""
        return await self._settle(ticket, "withdrawn", why)

    def withdraw_soon(self, ticket: Ticket, why: str) -> None:
        """The same for who cannot wait."""
        self._soon(self._settle(ticket, "withdrawn", why))

    async def note(
        self,
        ticket: Ticket,
        *,
        in_transaction: bool,
        seconds: float,
    ) -> None:
        """Its session holds locks by now, or does not any more. `seconds` is how long it may wait, from its
        beginning on."""
        async with ticket.lock:
            if not ticket.open:
                return
            before = ticket.request
            expires = before.created + seconds
            noted = replace(before, expires=expires, in_transaction=in_transaction)
            notices = self.outbox.notices("approval.noted", noted, ticket.decisions)
            await self._store.note(
                before.id, in_transaction=in_transaction, expires=expires, notices=notices
            )
            ticket.request = noted
            data = {"in_transaction": in_transaction, "expires": expires}
            self._event("approval.noted", ticket.request, True, data)
        self._arm(ticket)
        self._tell("approval.noted", ticket.request)

    def note_soon(self, ticket: Ticket, *, in_transaction: bool, seconds: float) -> None:
        """The same for who cannot wait."""
        self._soon(self.note(ticket, in_transaction=in_transaction, seconds=seconds))

    # --- the end ------------------------------------------------------------------------------------

    async def shut(self, why: str) -> None:
        """Take no more requests, and end those that wait."""
        self._closing = why
        for ticket in list(self._tickets.values()):
            try:
                await self._settle(ticket, "withdrawn", why)
            except PangateError as wrong:
                log.error("%s", getattr(wrong, "detail", wrong))

    async def close(self) -> None:
        """Shut, and let go of the store."""
        await self.shut(self._closing or "the gateway is stopping")
        for ticket in list(self._tickets.values()):
            self._drop(ticket)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        await self.outbox.close()
        await self._store.close()

    def sweep_soon(self) -> None:
        """The same as `sweep`, for who cannot wait."""
        self._soon(self.sweep())

    async def sweep(self) -> None:
        """Forget what was settled long ago."""
        await self._store.forget(self._clock() - self._rules.keep_seconds)

    # --- inside -------------------------------------------------------------------------------------

    def _bound(self, principal: str) -> None:
        rules = self._rules
        if len(self._tickets) >= rules.max_held:
            raise LimitReached(
                f"{rules.max_held} requests wait for approval already (limits.max_held)"
            )
        if self._of_principal[principal] >= rules.max_held_per_principal:
            raise LimitReached(
                f"{rules.max_held_per_principal} requests of this identity wait for approval already "
                "(limits.max_held_per_principal)"
            )

    def _request(self, ask: Ask) -> Request:
        now, hold, meaning = self._clock(), ask.hold, ask.statement.meaning
        seconds = hold.expires_seconds
        if ask.in_transaction:
            seconds = min(seconds, hold.transaction_seconds)
        mask = self._mask
        relations = dict.fromkeys(
            str(one) for part in (meaning.parts if meaning else ()) for one in part.relations
        )
        effects = [effect for effect in EFFECTS if meaning is None or effect in meaning.effects]
        return Request(
            id=new_id(),
            session=ask.session,
            principal=mask(ask.principal.name),
            subject=mask(ask.principal.subject),
            claims=self._shown(ask.principal.claims),
            origin=ask.origin,
            role=ask.role,
            resource=ask.resource,
            kind=ask.statement.kind,
            statement=mask(ask.text[:MOST_CHARACTERS]),
            parameters=[None if one is None else mask(one) for one in ask.parameters],
            effects=effects,
            relations=[mask(one) for one in list(relations)[:MOST_RELATIONS]],
            words=[mask(one) for one in plain_words(meaning)],
            shape=_shape_of(ask.resource, mask(ask.text)),
            rule=ask.verdict.rule,
            reason=mask(ask.verdict.reason),
            approvers=hold.approvers,
            quorum=hold.quorum,
            reason_required=hold.reason_required,
            acr=hold.acr,
            amr=hold.amr,
            mode=hold.mode,
            created=now,
            expires=now + seconds,
            in_transaction=ask.in_transaction,
            estimate=ask.estimate,
        )

    def _digest(self, ask: Ask) -> bytes:
        """What an approval is bound to. With a key that never leaves the process, so that nobody can try
        card numbers against it."""
        made = hmac.new(self._key, digestmod=hashlib.sha256)
        parts = (ask.principal.name, ask.role, ask.resource, ask.statement.kind, ask.statement.text)
        for part in (*(part.encode("utf-8", "surrogatepass") for part in parts), ask.exact):
            made.update(len(part).to_bytes(8, "big"))
            made.update(part)
        return made.digest()

    def _shown(self, claims: Mapping[str, object]) -> dict[str, object]:
        return shown(claims, self._mask)

    async def _settle(self, ticket: Ticket, state: State, why: str) -> bool:
        async with ticket.lock:
            if not ticket.open:
                return False
            now = self._clock()
            why = self._mask(why)
            ended = replace(ticket.request, state=state, outcome=why, settled=now)
            notices = self.outbox.notices(f"approval.{state}", ended, ticket.decisions)
            if not await self._store.settle(ticket.request.id, OPEN, state, why, now, notices):
                return False
            self._settled(ticket, state, why, now)
            try:
                self._event(f"approval.{state}", ticket.request, False, {"reason": why})
                await self._durable()
            except RecordFailed as wrong:
                # it has ended all the same; the event is kept and written with the next
                log.error("%s", wrong.detail)
        self._tell(f"approval.{state}", ticket.request)
        return True

    def _settled(self, ticket: Ticket, state: State, outcome: str, now: float) -> None:
        """The store has it in this state."""
        ended = None if state in OPEN else now
        outcome = outcome or ticket.request.outcome
        ticket.request = replace(ticket.request, state=state, outcome=outcome, settled=ended)
        # a refusal answers who tries again, for as long as the request would have waited
        remembered = state == "denied" and ticket.request.mode == "refuse-and-retry"
        if ended is not None and not remembered:
            self._drop(ticket)
        if not ticket.left.done():
            ticket.left.set_result(None)
        for told in ticket.told:
            asyncio.get_running_loop().call_soon(told, ticket.request)

    def _drop(self, ticket: Ticket) -> None:
        if ticket.timer is not None:
            ticket.timer.cancel()
            ticket.timer = None
        if self._tickets.pop(ticket.request.id, None) is not None:
            name = ticket.principal
            self._of_principal[name] -= 1
            if not self._of_principal[name]:
                del self._of_principal[name]
        if self._by_digest.get(ticket.digest) is ticket:
            del self._by_digest[ticket.digest]

    def _arm(self, ticket: Ticket) -> None:
        if ticket.timer is not None:
            ticket.timer.cancel()
        if ticket.request.id in self._tickets:
            left = max(0.0, ticket.request.expires - self._clock())
            loop = asyncio.get_running_loop()
            ticket.timer = loop.call_later(left, self._due, ticket)

    def _due(self, ticket: Ticket) -> None:
        if ticket.request.expires > self._clock():
            self._arm(ticket)  # the clock was set back
        elif ticket.open:
            self._soon(self._expire(ticket))
        else:
            self._drop(ticket)

    async def _expire(self, ticket: Ticket) -> None:
        try:
            await self._settle(ticket, "expired", "nobody decided in time")
        except StateFailed as wrong:
            log.error("%s", wrong.detail)
            # the session must not wait for a store that does not answer
            self._settled(ticket, "expired", "nobody decided in time", self._clock())

    def _soon(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (wrong := task.exception()) is not None:
            log.error("approvals: %s", getattr(wrong, "detail", wrong))

    async def _forget_quietly(self, request: Request) -> None:
        try:
            why = "it could not be recorded"
            ended = replace(request, state="withdrawn", outcome=why)
            notices = self.outbox.notices("approval.withdrawn", ended)
            await self._store.settle(request.id, OPEN, "withdrawn", why, self._clock(), notices)
        except StateFailed as wrong:
            log.error("%s", wrong.detail)

    def _lost(self, notice: Notice, why: str) -> None:
        self._untold(
            {
                "request": notice.request,
                "channel": notice.channel,
                "step": notice.code,
                "attempts": notice.attempts,
                "reason": why,
            }
        )

    def _gone(self, channel: str, count: int) -> None:
        why = "the channel is configured no more"
        self._untold({"channel": channel, "messages": count, "reason": why})

    def _untold(self, data: Mapping[str, object]) -> None:
        self._record(
            Event(
                "approval.untold",
                self._clock(),
                "-",
                "gateway",
                "local",
                "approvals",
                False,
                data,
            )
        )

    def _tell(self, code: str, request: Request) -> None:
        self.outbox.wake()
        for queue in self._watchers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(Change(code, request))

    def _event(
        self, code: str, request: Request, success: bool, data: Mapping[str, object]
    ) -> None:
        """An event of who asked."""
        self._record(
            Event(
                code,
                self._clock(),
                request.session,
                request.principal,
                request.origin,
                request.resource,
                success,
                {"request": request.id, **data},
            )
        )

    def _by(
        self,
        person: Principal,
        origin: str,
        code: str,
        request: Request | None,
        success: bool,
        data: Mapping[str, object],
    ) -> None:
        """An event of somebody who decides."""
        session, resource = (request.session, request.resource) if request else ("-", "approvals")
        about: dict[str, object] = {}
        if request is not None:
            about = {"request": request.id, "requester": request.principal}
        self._record(
            Event(
                code,
                self._clock(),
                session,
                person.name,
                origin,
                resource,
                success,
                {**about, **data},
            )
        )


def new_id() -> str:
    """A name that nobody can guess."""
    # letters only: digits in a row could read as a card number, and be masked in the record
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(12))


def _shape_of(resource: str, text: str) -> str:
    """A name for what differs in literals alone. Of a masked text, so that it holds no card number."""
    reduced = shape(text)
    found = text if reduced is None else reduced
    return hashlib.sha256(f"{resource}\0{found}".encode("utf-8", "replace")).hexdigest()[:32]


def _people(decisions: Sequence[Decision]) -> list[str]:
    return [one.person for one in decisions if one.choice != "deny"]


def _asked(request: Request) -> dict[str, object]:
    """What the event of a request says of it."""
    return {
        "kind": request.kind,
        "text": request.statement,
        "parameters": list(request.parameters),
        "effects": list(request.effects),
        "relations": list(request.relations),
        "rule": request.rule,
        "reason": request.reason,
        "approvers": list(request.approvers),
        "quorum": request.quorum,
        "mode": request.mode,
        "expires": request.expires,
        "in_transaction": request.in_transaction,
        "estimate": request.estimate,
        "claims": request.claims,
    }
