"""A statement that waits for people, as its connection has it: what the agent is told meanwhile, and what
of the agent ends the waiting. What waits behind it is kept by the codec, within its bounds."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from pangate.approvals import Counted, DecisionRefused, Ticket
from pangate.errors import PangateError
from pangate.model import Statement, Verdict
from pangate.proxy import sockets

if TYPE_CHECKING:
    from pangate.proxy.session import Session

log = logging.getLogger("pangate")

LOOK_SECONDS = 1.0
"""How often it is looked whether an agent, of whom nothing is read, is still there."""


class Held:
    """From the verdict to hold to the last word."""

    def __init__(self, session: Session, statement: Statement, verdict: Verdict) -> None:
        self._session = session
        self._statement = statement
        self._verdict = verdict
        self._ticket: Ticket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._noticed = 0.0
        self._in_transaction = False

    async def wait(self) -> None:
        """Wait for the last word, and go on with it."""
        session = self._session
        try:
            verdict = await session.gate.hold(self._statement, self._verdict, self)
            session.go_on(verdict)
        except PangateError as wrong:
            session.fail(wrong)
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            session.crashed(wrong)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    # What the gate asks

    @property
    def in_transaction(self) -> bool:
        """As the codec knows by now."""
        self._in_transaction = self._session.codec.in_transaction
        return self._in_transaction

    def exact(self) -> bytes:
        """As the codec has it."""
        return self._session.codec.exact()

    def here(self) -> bool:
        """Whether the agent's side of the connection is open."""
        agent = self._session.agent
        return not self._session.closed and not sockets.peer_closed(agent.transport)

    def begun(self, ticket: Ticket) -> None:
        """Tell the agent, and look after it from now on."""
        self._ticket = ticket
        ticket.count = self.count
        self._look_again()

    async def estimate(self) -> int | None:
        """What the resource's planner says now; None, logged, when it cannot be asked."""
        session = self._session
        asking = session.codec.estimate()
        if asking is None or session.resource is None:
            return None
        try:
            await session.gateway.run_estimate(session, session.resource, asking)
        except PangateError as wrong:
            log.error("resource %s: %s", session.resource.name, wrong)
            return None
        return asking.rows

    async def count(self) -> Counted:
        """For who decides: how many rows there are. Raises DecisionRefused with the reason why not."""
        session, rules = self._session, self._session.gateway.config.approvals
        if session.closed or session.resource is None:
            raise DecisionRefused("not countable", "its session is over")
        try:
            asking = session.codec.count(rules.count_rows, rules.count_seconds)
            await session.gateway.run_count(session, session.resource, asking)
        except PangateError as wrong:
            raise DecisionRefused("not countable", str(wrong)) from None
        if asking.rows is None:
            raise DecisionRefused("not countable", asking.refusal or "the resource does not say")
        return Counted(asking.rows, rules.count_rows)

    # What the session tells

    def look(self) -> None:
        """Something came from one of the two sides."""
        session = self._session
        if self._ticket is None or session.closed:
            return
        if session.codec.leaving:
            session.gate.withdraw("the agent ended the session")
            return
        before, hold = self._in_transaction, self._verdict.hold
        if hold is not None and self.in_transaction != before:
            seconds = hold.expires_seconds
            if self._in_transaction:
                seconds = min(seconds, hold.transaction_seconds)
            session.gate.note(in_transaction=self._in_transaction, seconds=seconds)

    def _look_again(self) -> None:
        session = self._session
        if session.closed:
            return
        if not self.here():
            session.agent_lost(None)
            return
        self.look()
        self._notice()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK_SECONDS, self._look_again)

    def _notice(self) -> None:
        session, ticket = self._session, self._ticket
        seconds = session.gateway.config.approvals.notice_seconds
        now = time.monotonic()
        if ticket is None or not seconds or (self._noticed and now - self._noticed < seconds):
            return
        if session.agent.full:
            return  # it reads nothing: what it did not take yet must not grow
        self._noticed = now
        request = ticket.request
        left = max(0, round(request.expires - time.time()))
        groups = " or ".join(request.approvers)
        said = session.codec.notice(
            f"request {request.id} waits for approval by {request.quorum} of {groups}, {left} s left; "
            f"to decide: pangate approvals show {request.id}"
        )
        if said:
            session.say(said)
