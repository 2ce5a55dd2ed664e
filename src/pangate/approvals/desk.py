"""Where people decide: what they may do to a request, and what they see of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from pangate.approvals import Change, Counted, DecisionRefused, Ticket
from pangate.approvals.channels import Message, Said
from pangate.approvals.people import excluded, groups_of, sign_in_missing, standing
from pangate.approvals.queue import Queue, new_id
from pangate.errors import RecordFailed, StateFailed
from pangate.model import Event, Principal
from pangate.store import OPEN, Choice, Decision, Delegation, Request, Review, State

log = logging.getLogger("pangate")

COUNT_SECONDS = 5.0
"""The rows of a statement are counted no more often than this, however many ask."""

QUEUED_CHANGES = 1000
"""Changes that a watcher may be behind; then the oldest are dropped."""


class Desk(Queue):
    """The queue with its people. Everything that somebody does takes the verified principal who does it,
    and where from."""

    def called(self, person: Principal) -> str:
        """The name of a person as the desk has it: masked."""
        return self._mask(person.name)

    # --- from people --------------------------------------------------------------------------------

    async def decide(
        self,
        request: str,
        person: Principal,
        choice: Choice,
        reason: str = "",
        origin: str = "-",
        channel: str = "",
    ) -> Request:
        """One person's decision; the request as it stands then. `channel` is the one that it came by, empty
        for the API. Raises DecisionRefused, recorded already, RecordFailed and StateFailed: then it was
        not decided."""
        ticket = self._tickets.get(request)
        if ticket is None:
            raise await self._absent(request)
        async with ticket.lock:
            now = self._clock()
            try:
                authority = await self._allowed(ticket, person, choice, reason, now)
            except DecisionRefused as refused:
                said = {"choice": choice, "kind": refused.kind, "detail": refused.reason}
                if channel:
                    said["channel"] = channel
                self._by(person, origin, "approval.refused", ticket.request, False, said)
                await self._durable()
                raise
            made = Decision(
                request=request,
                person=self.called(person),
                authority=authority,
                choice=choice,
                reason=self._mask(reason.strip()),
                time=now,
                claims=self._shown(person.claims),
                channel=channel,
            )
            state, outcome = self._becomes(ticket, made)
            await self._decided(ticket, made, person, origin, state)
            await self._keep(ticket, made, person, origin, state, outcome)
        code = "approval.broken_glass" if choice == "break_glass" else "approval.decided"
        self._tell(code, ticket.request)
        return ticket.request

    async def _allowed(
        self, ticket: Ticket, person: Principal, choice: Choice, reason: str, now: float
    ) -> str:
        """In whose place this person decides. Raises DecisionRefused."""
        request, groups = ticket.request, self._rules.groups
        if request.state != "pending":
            raise DecisionRefused("settled", f"request {request.id} is {request.state} already")
        if request.expires <= now:
            raise DecisionRefused("settled", f"request {request.id} has expired")
        if person.expires_at <= now:
            raise DecisionRefused("sign-in", "your token has expired; sign in again")
        if wrong := ticket.excluded(self.called(person), groups):
            raise DecisionRefused("own", wrong)
        held = groups_of(person, groups)
        authority = self.called(person)
        if choice == "break_glass":
            if not set(held) & set(self._rules.break_glass):
                raise DecisionRefused(
                    "not entitled", "you are in no group that may break the glass"
                )
        elif not set(held) & set(request.approvers):
            authority = await self._delegated(ticket, person, now)
        if wrong := sign_in_missing(request, person.claims):
            raise DecisionRefused("sign-in", wrong)
        if (request.reason_required or choice == "break_glass") and not reason.strip():
            raise DecisionRefused("reason", "say why: this decision needs a reason")
        for made in ticket.decisions:
            mine = made.person == self.called(person)
            if mine or made.authority == authority:
                who = "you" if mine else made.person
                raise DecisionRefused("again", f"{who} decided this request already")
        return authority

    async def _delegated(self, ticket: Ticket, person: Principal, now: float) -> str:
        for one in await self._store.delegations(now):
            if (
                standing(one, self.called(person), ticket.request, now)
                and any(group.name == one.group for group in self._rules.groups)
                and not ticket.excluded(one.giver, self._rules.groups)
            ):
                return one.giver
        groups = ", ".join(ticket.request.approvers)
        raise DecisionRefused("not entitled", f"only people of {groups} decide this request")

    def _becomes(self, ticket: Ticket, made: Decision) -> tuple[State, str]:
        """What a decision makes of its request."""
        request = ticket.request
        if made.choice == "deny":
            said = f": {made.reason}" if made.reason else ""
            return "denied", f"denied by {made.person}{said}"
        if made.choice == "break_glass":
            return "approved", f"glass broken by {made.person}: {made.reason}"
        count = ticket.approvals + 1
        if count < request.quorum:
            return "pending", ""
        return "approved", f"approved by {count} of {request.quorum}"

    async def _decided(
        self, ticket: Ticket, made: Decision, person: Principal, origin: str, state: State
    ) -> None:
        data: dict[str, object] = {
            "choice": made.choice,
            "reason": made.reason,
            "state": state,
            "quorum": ticket.request.quorum,
            "approvals": ticket.approvals + (made.choice != "deny"),
            "claims": made.claims,
        }
        if made.authority != made.person:
            data["delegated_by"] = made.authority
        if made.channel:
            data["channel"] = made.channel
        glass = made.choice == "break_glass"
        code = "approval.broken_glass" if glass else "approval.decided"
        self._by(person, origin, code, ticket.request, True, data)
        await self._durable()  # law 2: before it takes effect
        if glass:
            log.critical(
                "the glass was broken: %s lets request %s of %s run without approval; a review is due",
                person.name,
                ticket.request.id,
                ticket.request.principal,
            )

    async def _keep(
        self,
        ticket: Ticket,
        made: Decision,
        person: Principal,
        origin: str,
        state: State,
        outcome: str,
    ) -> None:
        request = ticket.request
        try:
            if made.choice == "break_glass":
                await self._store.add_review(
                    Review(
                        request=request.id, person=made.person, reason=made.reason, time=made.time
                    )
                )
            code = "approval.broken_glass" if made.choice == "break_glass" else "approval.decided"
            ended = None if state in OPEN else made.time
            after = replace(request, state=state, outcome=outcome or request.outcome, settled=ended)
            notices = self.outbox.notices(code, after, [*ticket.decisions, made])
            kept = await self._store.decide(made, state, outcome, notices)
        except StateFailed as wrong:
            log.error("%s", wrong.detail)
            said = {"choice": made.choice, "detail": "it could not be kept, so it has no effect"}
            self._by(person, origin, "approval.void", request, False, said)
            raise
        if not kept:
            said = {"choice": made.choice, "detail": "the request was settled meanwhile"}
            self._by(person, origin, "approval.void", request, False, said)
            raise DecisionRefused("settled", f"request {request.id} was settled meanwhile")
        ticket.decisions.append(made)
        if state != "pending":
            self._settled(ticket, state, outcome, made.time)

    async def hear(self, name: str, message: Message, origin: str = "-") -> Request | None:
        """What came for a channel; the request as it stands then, None when the channel answers by itself.
        Raises NotBelieved and ChannelFailed: then nobody said anything; and what `decide` raises."""
        channel = self.outbox.channels.get(name)
        if channel is None:
            raise DecisionRefused("unknown", "there is no such channel")
        now = self._clock()
        said = await channel.hear(message, now)
        if not await self._store.first_seen(name, said.message, now, said.until):
            raise DecisionRefused("again", "this message came before; sign another one")
        try:
            found = await self._heard(name, said, origin)
        except (DecisionRefused, RecordFailed, StateFailed) as wrong:
            if not channel.replies:
                raise
            why = wrong.reason if isinstance(wrong, DecisionRefused) else "nothing was done"
            self._soon(channel.reply(said, why))
            return None
        return None if channel.replies else found

    async def _heard(self, name: str, said: Said, origin: str) -> Request:
        if said.person is None:
            why = f"the user {said.user} is nobody that {name} knows"
            data = {"choice": said.choice, "kind": "not entitled", "detail": why, "channel": name,
                    "request": said.request}  # fmt: skip
            self._record(
                Event("approval.refused", self._clock(), "-", "unknown", origin, "approvals", False,
                      data)
            )  # fmt: skip
            await self._durable()
            raise DecisionRefused("not entitled", why)
        found = await self._store.get(said.request)
        person = said.person
        if found is None or not (
            self.may_see(person, found) or await self.stands_in(person, found)
        ):
            raise await self.unseen(person, found, origin, name)
        if said.place:
            await self._store.set_place(name, found.id, said.place)
        return await self.decide(found.id, person, said.choice, said.reason, origin, name)

    async def withdraw_by(self, request: str, person: Principal, why: str, origin: str) -> Request:
        """Who asked, or owns who asked, takes a request back."""
        ticket = self._tickets.get(request)
        if ticket is None:
            raise await self._absent(request)
        if not ticket.excluded(self.called(person), self._rules.groups):
            raise DecisionRefused("not entitled", "only who asked, or owns who asked, withdraws")
        why = f"withdrawn by {self.called(person)}" + (
            f": {self._mask(why)}" if why.strip() else ""
        )
        if not await self._settle(ticket, "withdrawn", why):
            raise DecisionRefused("settled", f"request {request} is {ticket.request.state} already")
        return ticket.request

    def counted(self, request: str) -> tuple[float, Counted] | None:
        """When the rows of a statement that waits were counted last, and how many they were."""
        ticket = self._tickets.get(request)
        return None if ticket is None else ticket.counted

    def countable(self, request: str) -> bool:
        """Whether a session waits with a request, which it takes to count its rows."""
        ticket = self._tickets.get(request)
        return ticket is not None and ticket.count is not None

    async def count(self, request: str, person: Principal, origin: str = "-") -> Counted:
        """How many rows a statement that waits concerns, counted now, for somebody who may decide it: a
        number says something of the rows. Raises DecisionRefused with the reason why it cannot be."""
        ticket = self._tickets.get(request)
        if ticket is None or ticket.request.state != "pending":
            raise await self._absent(request)
        try:
            await self._may_count(ticket, person)
        except DecisionRefused as refused:
            said = {"choice": "count", "kind": refused.kind, "detail": refused.reason}
            self._by(person, origin, "approval.refused", ticket.request, False, said)
            await self._durable()
            raise
        if ticket.count is None:
            why = "no session waits with it, so nobody has its statement as it is"
            raise DecisionRefused("not countable", why)
        async with ticket.counting:
            now = self._clock()
            if ticket.counted is not None and 0 <= now - ticket.counted[0] < COUNT_SECONDS:
                return ticket.counted[1]
            asked = {"detail": "its rows are counted"}
            self._by(person, origin, "approval.counting", ticket.request, True, asked)
            await self._durable()  # law 2: the resource is asked something
            if ticket.request.state != "pending":
                raise await self._absent(request)
            try:
                found = await ticket.count()
            except DecisionRefused as refused:
                said = {"detail": refused.reason}
                self._by(person, origin, "approval.counted", ticket.request, False, said)
                raise
            ticket.counted = self._clock(), found
            told = {"rows": found.rows, "bound": found.bound}
            self._by(person, origin, "approval.counted", ticket.request, True, told)
            return found

    async def _may_count(self, ticket: Ticket, person: Principal) -> None:
        """Who decides may know. Who asks may not: they would read by counting what nobody let them read."""
        if wrong := ticket.excluded(self.called(person), self._rules.groups):
            raise DecisionRefused("own", wrong)
        held = set(groups_of(person, self._rules.groups))
        if not held & (set(ticket.request.approvers) | set(self._rules.break_glass)):
            await self._delegated(ticket, person, self._clock())

    async def delegate(
        self,
        person: Principal,
        receiver: str,
        group: str,
        starts: float,
        ends: float,
        reason: str,
        origin: str = "-",
    ) -> Delegation:
        """Let `receiver` ("issuer#subject") decide in the place of `person`, who is in `group`, for a
        time. What was delegated to a person cannot be passed on."""
        now = self._clock()
        most = self._rules.delegation_seconds
        wrong = ""
        if group not in groups_of(person, self._rules.groups):
            wrong = f"you are not in the group {group!r}, so you cannot pass on what it may do"
        elif "#" not in receiver or receiver == person.name:
            wrong = "name another person, as issuer#subject"
        elif not max(starts, now) < ends:
            wrong = "a delegation has to end after it begins, and in the future"
        elif ends - starts > most or ends - now > 2 * most:
            wrong = (
                f"a delegation lasts {most:g} seconds at the most (approvals.delegation_seconds)"
            )
        elif not reason.strip():
            wrong = "say why: a delegation needs a reason"
        if wrong:
            said = {"choice": "delegate", "kind": "misused", "detail": wrong,
                    "receiver": receiver, "group": group}  # fmt: skip
            self._by(person, origin, "approval.refused", None, False, said)
            await self._durable()
            raise DecisionRefused("misused", wrong)
        made = Delegation(
            id=new_id(),
            giver=self.called(person),
            receiver=self._mask(receiver),
            group=group,
            starts=starts,
            ends=ends,
            reason=self._mask(reason.strip()),
            claims=self._shown(person.claims),
        )
        data = {
            "delegation": made.id, "receiver": receiver, "group": group, "starts": starts,
            "ends": ends, "reason": made.reason,
        }  # fmt: skip
        self._by(person, origin, "approval.delegated", None, True, data)
        await self._durable()
        try:
            await self._store.add_delegation(made)
        except StateFailed as failed:
            log.error("%s", failed.detail)
            self._void(person, origin, "delegate", made.id)
            raise
        return made

    async def revoke(self, delegation: str, person: Principal, origin: str = "-") -> None:
        """Take back a delegation that this person gave. It holds until that is recorded."""
        giver, now = self.called(person), self._clock()
        unknown = DecisionRefused("unknown", "you gave no such delegation that could be taken back")
        known = await self._store.delegations(now)
        if not any(one.id == delegation and one.giver == giver for one in known):
            said = {"choice": "revoke", "kind": unknown.kind, "detail": unknown.reason,
                    "delegation": delegation}  # fmt: skip
            self._by(person, origin, "approval.refused", None, False, said)
            await self._durable()
            raise unknown
        data = {"delegation": delegation}
        self._by(person, origin, "approval.delegation_revoked", None, True, data)
        await self._durable()
        try:
            revoked = await self._store.revoke_delegation(delegation, giver, self._clock())
        except StateFailed as failed:
            log.error("%s", failed.detail)
            self._void(person, origin, "revoke", delegation)
            raise
        if not revoked:
            # it ended, or was taken back, while this was recorded
            raise unknown

    def _void(self, person: Principal, origin: str, choice: str, delegation: str) -> None:
        said = {"choice": choice, "delegation": delegation,
                "detail": "it could not be kept, so it has no effect"}  # fmt: skip
        self._by(person, origin, "approval.void", None, False, said)

    async def review(
        self, request: str, person: Principal, finding: str, note: str, origin: str = "-"
    ) -> None:
        """Say whether breaking the glass was justified: somebody else of the request's approvers does."""
        if finding not in ("justified", "not justified"):
            raise DecisionRefused("misused", 'the finding is "justified" or "not justified"')
        due = {one.request: one for one in await self._store.reviews()}
        found = await self._store.get(request)
        if request not in due or found is None:
            raise DecisionRefused("unknown", "no review of this request is due")
        own = excluded(self.called(person), found.principal, found.claims, self._rules.groups)
        if self.called(person) == due[request].person:
            own = "nobody reviews what they did themselves"
        if own:
            raise DecisionRefused("own", own)
        if not set(groups_of(person, self._rules.groups)) & set(found.approvers):
            groups = ", ".join(found.approvers)
            raise DecisionRefused("not entitled", f"only people of {groups} review this")
        if not note.strip():
            raise DecisionRefused("reason", "say why: a review needs a note")
        note = self._mask(note.strip())
        data = {"finding": finding, "note": note, "broken_by": due[request].person}
        self._by(person, origin, "approval.reviewed", found, True, data)
        await self._durable()
        if not await self._store.review(request, finding, self.called(person), note, self._clock()):
            self._by(person, origin, "approval.void", found, False, {"detail": "reviewed already"})
            raise DecisionRefused("settled", "somebody reviewed it meanwhile")

    # --- to people ----------------------------------------------------------------------------------

    async def requests(
        self, states: Sequence[State] = ("pending",), most: int = 100
    ) -> list[Request]:
        """Requests, the newest first."""
        return await self._store.find(states, most=most)

    async def show(self, request: str) -> tuple[Request, list[Decision], list[Request]]:
        """One request, what was decided on it, and earlier requests of the same shape."""
        found = await self._store.get(request)
        if found is None:
            raise await self._absent(request)
        alike = await self._store.alike(found.shape)
        decisions = await self._store.decisions(request)
        return found, decisions, [one for one in alike if one.id != request]

    async def said_of(self, request: str) -> list[Decision]:
        """What was decided on a request, in order."""
        return await self._store.decisions(request)

    async def unseen(
        self, person: Principal, request: Request | None, origin: str, channel: str = ""
    ) -> DecisionRefused:
        """What somebody is told who has nothing to do with a request: that there is none. That they tried is
        recorded."""
        refused = DecisionRefused("unknown", "there is no such request")
        if request is not None:
            said = {"kind": refused.kind, "detail": "it does not concern them"}
            if channel:
                said["channel"] = channel
            self._by(person, origin, "approval.refused", request, False, said)
            await self._durable()
        return refused

    async def listed(self, person: Principal, origin: str, shown: Sequence[Request]) -> None:
        """Record that somebody is shown these requests, before they are."""
        data = {"requests": [request.id for request in shown]}
        self._by(person, origin, "approval.listed", None, True, data)
        await self._durable()

    def may_see(self, person: Principal, request: Request) -> bool:
        """Whether a person has anything to do with a request: may decide it as far as their groups go,
        or asked."""
        held = set(groups_of(person, self._rules.groups))
        concerned = set(request.approvers) | set(self._rules.break_glass)
        return bool(held & concerned) or self.called(person) == request.principal

    async def stands_in(self, person: Principal, request: Request) -> bool:
        """Whether a delegation gives a person something to do with a request."""
        found = await self._store.delegations(self._clock())
        return any(standing(one, self.called(person), request, self._clock()) for one in found)

    def is_current(self, person: Principal) -> bool:
        """Whether the token of a person has not ended."""
        return person.expires_at > self._clock()

    def viewed(self, request: Request, person: Principal, origin: str) -> None:
        """Record that somebody looked at a request."""
        self._by(person, origin, "approval.viewed", request, True, {"state": request.state})

    async def delegated_to(self, person: Principal) -> list[Delegation]:
        """Delegations that this person gave or has."""
        found = await self._store.delegations(self._clock())
        return [one for one in found if self.called(person) in (one.giver, one.receiver)]

    async def delegations(self) -> list[Delegation]:
        """All that are not over, for those who audit."""
        return await self._store.delegations(self._clock())

    async def reviews(self) -> Sequence[Review]:
        """Reviews that are due."""
        return await self._store.reviews()

    async def watch(self) -> AsyncIterator[Change]:
        """Every change from now on. Who is too slow misses the oldest."""
        queue: asyncio.Queue[Change] = asyncio.Queue(QUEUED_CHANGES)
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    async def _absent(self, request: str) -> DecisionRefused:
        found = await self._store.get(request)
        if found is None:
            return DecisionRefused("unknown", "there is no such request")
        return DecisionRefused("settled", f"request {request} is {found.state} already")
