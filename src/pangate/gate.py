"""The order in which everything happens, for every protocol. An auditor reads this file.

 1. authenticate   the credential becomes a principal, or the agent is refused and that is recorded
 2. authorise      the principal's roles become a grant on the resource, or ... the same
 3. decide         each statement gets a verdict: allow, deny, hold
 4. hold           a held statement waits here for people; then it is allowed once, or denied
 5. record         the event is in the kernel: written, not only buffered; on the disk, where it is urgent
 6. forward        only now the bytes go to the resource
 7. mask           what comes back is masked by the codec before the gate sees it
 8. record         how the statement ended: rows, bytes, PANs masked, error

The gate owns no socket and knows no protocol. Whoever moves bytes calls it, and calls `written` between
5 and 6, and then waits until `on_disk` says yes: when one of them raises, nothing is forwarded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from pangate import policy
from pangate._again import Answered, Known
from pangate._book import Book, Decided, InForce
from pangate.approvals import Ask, Ticket
from pangate.approvals.desk import Desk
from pangate.audit import Recorder, pan_mask
from pangate.audit.codes import URGENT_EFFECTS
from pangate.audit.recording import Recording, Recordings
from pangate.auth import Authenticator
from pangate.config import Config, ResourceSettings, RoleSettings
from pangate.errors import (
    AuthenticationFailed,
    LimitReached,
    NotAuthorised,
    RecordFailed,
    Refused,
    StateFailed,
)
from pangate.ledger.letters import letters
from pangate.metrics import Metrics
from pangate.model import (
    EFFECTS,
    Credential,
    Event,
    Grant,
    Outcome,
    Principal,
    Statement,
    Understanding,
    Verdict,
)
from pangate.protocols import Authenticate, Buffer, Described

log = logging.getLogger("pangate")

UNKNOWN = "unknown"
"""The principal of an event before there is one."""

MOST_NAMES = 100
"""An event lists so many relations and functions at the most; the statement itself has them all."""


_NAMES = bytes(ord("a") + byte % 26 for byte in range(256))
"""Makes letters of random bytes."""

UNBOUND = RoleSettings(name="none", match={}, resources=())
"""A role whose settings are what they are when nobody says anything."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What steps 1 and 2 found: who, by which grant, to which resource."""

    principal: Principal
    grant: Grant
    resource: ResourceSettings


_ENDED = ("bytes", "masked", "number", "rows", "seconds")
_FOUND = ("bytes", "columns", "masked", "number", "rows", "seconds")
"""What is recorded of the end of a statement that came before; with columns when some was masked."""


class Waiting(Protocol):
    """The connection whose statement waits, as the gate sees it."""

    @property
    def in_transaction(self) -> bool:
        """Whether its session holds locks meanwhile, as far as is known by now."""

    def exact(self) -> bytes:
        """What the statement is made of, to the last byte."""

    def here(self) -> bool:
        """Whether the agent is still connected."""

    def begun(self, ticket: Ticket) -> None:
        """From now on it waits for this request."""

    async def estimate(self) -> int | None:
        """How many rows the resource expects the statement to concern now; None when it does not say."""


class Peers(Protocol):
    """The other processes of the same gateway, where there are any. What has to hold over all of them is
    asked of the first one."""

    async def take(self, session: str, key: tuple[str, str], most: int | None) -> None:
        """One more session of (principal, role). Raises LimitReached when `most` are open in all
        processes, or when that cannot be known."""

    def leave(self, session: str) -> None:
        """The session is over. Of one that was not taken it says nothing."""

    def failed(self, address: str) -> None:
        """A login from this address failed."""

    async def cancel(self, key: bytes, origin: str) -> None:
        """A cancel request from `origin` whose key is of another process."""


MOST_STANDINGS = 2048
"""So many kinds of sessions are remembered."""

UNCOUNTED = ("throttled", "unavailable")
"""Kinds of failed logins that do not count against their address."""


class Standings:
    """What sessions of the same token have in common under one configuration: their grant, and who decides
    for them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._grants: dict[tuple[tuple[str, ...], str], Grant] = {}
        self._judges: dict[tuple[int, int, str], tuple[Principal, Grant, policy.Judge]] = {}

    def grant(self, principal: Principal, resource: str) -> Grant:
        """As `policy.authorise`. Raises NotAuthorised."""
        key = principal.roles, resource
        found = self._grants.get(key)
        if found is None:
            found = policy.authorise(principal, resource, self.config)
            if len(self._grants) >= MOST_STANDINGS:
                self._grants.clear()
            self._grants[key] = found
        return found

    def judge(self, principal: Principal, grant: Grant, source: str) -> policy.Judge:
        """As `policy.Rulebook.judge`."""
        key = id(principal), id(grant), source
        # the identities are not another's while they are kept here
        if known := self._judges.get(key):
            return known[2]
        made = self.config.rulebook.judge(principal, grant, source)
        if len(self._judges) >= MOST_STANDINGS:
            self._judges.clear()
        self._judges[key] = principal, grant, made
        return made


class Gate:
    """What all sessions of one gateway share: the configuration, who authenticates, who records, what
    is counted."""

    def __init__(
        self,
        config: Config,
        authenticator: Authenticator,
        recorder: Recorder,
        recordings: Recordings,
    ) -> None:
        self.config = config
        self.standings = Standings(config)
        self.in_force = InForce(_letters(config))
        self.authenticator = authenticator
        self.recorder = recorder
        self.recordings = recordings
        self.mask_text = pan_mask()
        self.masked = _masked_by(self.mask_text)
        """The parameters that a resource reports of itself, as they may be kept."""
        self.metrics = Metrics()
        self.record_failure = ""
        """Why the record cannot be written now; empty when it can."""
        self._failing_since = 0.0
        self.open: Counter[tuple[str, str]] = Counter()
        """Open sessions by (principal, role)."""
        self.open_elsewhere: Callable[[], int] = int
        """How many the gateway's other processes have, where this one counts them."""
        self.wrong_elsewhere: Callable[[], Sequence[str]] = tuple
        """What is wrong with these, a sentence each."""
        self.peers: Peers | None = None
        self.desk: Desk | None = None
        """Where people decide; without one nothing that is held ever runs."""

    def session(self, origin: str) -> GateSession:
        """The gate for one connection. `origin` is where it comes from, "address:port"."""
        return GateSession(self, origin)

    def reconfigure(self, config: Config, authenticator: Authenticator) -> None:
        """Put another configuration in force, and who authenticates by it. What is decided from now on
        is decided by it, in open sessions too."""
        self.config, self.authenticator = config, authenticator
        self.standings = Standings(config)
        self.in_force.letters = _letters(config)
        if self.desk is not None:
            self.desk.reconfigure(config.desk)

    def event(self, code: str, success: bool, data: Mapping[str, object]) -> None:
        """Record something that the gateway itself did."""
        self.record(
            Event(code, time.time(), "-", "gateway", "local", "configuration", success, data)
        )

    def record(self, event: Event, *, urgent: bool = False) -> int:
        """Record an event, count it, and return its sequence."""
        if not event.config:
            event = event._replace(config=self.in_force.letters)
        try:
            sequence = self.recorder.record(event, urgent=urgent)
        except RecordFailed as wrong:
            self._fails(wrong.detail)
            raise
        self.metrics.count(event)
        return sequence

    def written(self) -> None:
        """Everything recorded so far is in the kernel, and its time is not before that of earlier events.
        Raises RecordFailed when it is not so, and then nothing may follow from it."""
        if self.recorder.pending:
            self._write()
        if wrong := self.recorder.clock_failure:
            self._fails(wrong)
            raise RecordFailed(
                wrong,
                "nothing was executed, because the gateway's clock went back; tell whoever runs the gateway",
            )

    def _write(self) -> None:
        began = time.perf_counter()
        try:
            self.recorder.flush()
        except RecordFailed as wrong:
            self._fails(wrong.detail)
            raise
        self._heals()
        self.metrics.flush_seconds.observe(time.perf_counter() - began)

    def on_disk(self, sequence: int) -> bool:
        """Whether what was written is on the disk up to `sequence`. Raises RecordFailed when nobody knows."""
        try:
            return self.recorder.on_disk(sequence)
        except RecordFailed as wrong:
            self._fails(wrong.detail)
            raise

    async def durable(self) -> None:
        """Everything recorded so far is in the kernel, and on the disk where it is urgent. Raises
        RecordFailed when it is not. Others go on meanwhile."""
        self.written()
        loop, last = asyncio.get_running_loop(), self.recorder.urgent
        while not self.on_disk(last):
            done = asyncio.Event()
            self.recorder.sync(lambda done=done: call_soon(loop, done.set))  # type: ignore[misc]
            await done.wait()

    def failing(self, wrong: RecordFailed) -> None:
        """Somebody could not record what has to be."""
        self._fails(wrong.detail)

    def look(self) -> None:
        """See whether the record can be relied on, when nobody has asked for a while."""
        self.recorder.look()
        if wrong := self.recorder.failure:
            if not self.record_failure:
                self._fails(wrong)
        elif not self.recorder.pending:
            self._heals()

    def _fails(self, why: str) -> None:
        if not self.record_failure:
            self._failing_since = time.monotonic()
            log.critical("nothing is executed, because it cannot be recorded: %s", why)
        self.record_failure = why
        self.metrics.record_failures += 1

    def _heals(self) -> None:
        if not self.record_failure or self.recorder.failure:
            return
        seconds = round(time.monotonic() - self._failing_since, 3)
        data = {"detail": self.record_failure, "seconds": seconds}
        log.warning("the record can be written again, after %g seconds", seconds)
        self.record_failure = ""
        self.record(
            Event("audit.recovered", time.time(), "-", "gateway", "local", "audit", True, data)
        )


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Call `callback` on the thread of `loop`, unless that is over."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)


class GateSession:
    """The order, for one connection."""

    def __init__(self, gate: Gate, origin: str) -> None:
        self._gate = gate
        self._origin = origin
        self._address = origin.rsplit(":", 1)[0]
        # letters only: digits in a row could read as a card number, and be masked in the record
        self.id = secrets.token_bytes(16).translate(_NAMES).decode()
        self._admission: Admission | None = None
        self._name = UNKNOWN
        """The principal of its events."""
        self._config = gate.config
        """The configuration by which the admission stands."""
        self._standings = gate.standings
        self._judge: policy.Judge | None = None
        """Who decides by the admission."""
        self._asked = ""
        self._began = time.monotonic()
        metrics = gate.metrics
        self._book = Book(
            gate.recorder.leaves,
            metrics.statement_seconds,
            metrics.count_masked,
            gate.in_force,
            metrics.given,
        )
        self._ended = False
        self._recording: Recording | None = None
        self._ticket: Ticket | None = None
        """What the session waits for."""
        self._cancelled = False
        """Whether the agent cancelled that."""

    @property
    def urgent(self) -> int:
        """Sequence of the last event of the session that has to be on the disk before anything follows."""
        return self._book.urgent

    # 1, 2

    async def admit(self, ask: Authenticate) -> Admission:
        """Authenticate and authorise. Raises Refused, recorded already, with what the agent may
        read. What is returned is recorded by the next `written`: before that nothing is sent to the
        resource for the session, and nothing to the agent."""
        self._asked = ask.resource
        try:
            principal = await self._authenticate(ask.credential, self._address)
        except AuthenticationFailed as refused:
            self._tell_failed(refused.kind)
            self._refused(refused, refused.detail, kind=refused.kind, authentication=ask.way)
            await self._gate.durable()
            raise
        try:
            grant = self._standings.grant(principal, ask.resource)
            self._allow_settings(principal, grant, ask.settings)
            await self._admit_one_more(principal, grant)
        except (NotAuthorised, LimitReached) as refused:
            self._refused(refused, refused.reason, principal)
            await self._gate.durable()
            raise
        return self._admit(principal, grant, ask)

    def admit_known(self, ask: Authenticate) -> Admission | None:
        """The same for a credential that was found good before, when nobody else has to be asked. None, and
        nothing has happened, when it takes `admit` to say how it stands."""
        gate = self._gate
        if gate.peers is not None or ask.settings is not None:
            return None
        self._config, self._standings = gate.config, gate.standings
        principal = gate.authenticator.recall(ask.credential)
        if principal is None:
            return None
        try:
            grant = self._standings.grant(principal, ask.resource)
        except NotAuthorised:
            return None
        key, most = (principal.name, grant.role), grant.limits.max_sessions
        if most is not None and gate.open[key] >= most:
            return None
        self._asked = ask.resource
        gate.open[key] += 1
        return self._admit(principal, grant, ask)

    def _admit(self, principal: Principal, grant: Grant, ask: Authenticate) -> Admission:
        resource = self._config.resources_by_name[grant.resource]
        self._admission = Admission(principal, grant, resource)
        self._name = principal.name
        self._settle()
        self._record(
            "session.start",
            True,
            {
                "role": grant.role,
                "mask": grant.mask,
                "authentication": ask.way,
                "token_expires": principal.expires_at,
                "application": ask.parameters.get("application_name", ""),
                "config": self._config.digest,
            },
        )
        return self._admission

    def begin_recording(self, parameters: Mapping[str, str], notice: Callable[[], None]) -> None:
        """From now on what the agent is sent is recorded. `parameters` are what the resource reports of
        itself; `notice` is called from another thread when `held` or `written` may answer otherwise.
        Raises RecordFailed."""
        grant = self._admitted().grant
        # A reload may have taken the role away; what its settings were is not known here any more.
        role = self._config.roles_by_name.get(grant.role, UNBOUND)
        about = {
            "role": grant.role,
            "resource": grant.resource,
            "record": role.record,
            "parameters": self._gate.masked(tuple(parameters.items())),
        }
        size = role.record_bytes if role.record == "full" else 0
        self._recording = self._gate.recordings.open(
            self.id, about, notice, rows=role.record_rows, size=size
        )
        self._book.frames = self._recording.frames

    def refused_certificate(self, detail: str) -> None:
        """The agent's certificate was refused in the TLS handshake, before anything was asked for."""
        self._gate.authenticator.failed(self._address)
        self._tell_failed("certificate")
        refused = AuthenticationFailed(detail, kind="certificate")
        self._refused(refused, detail, kind=refused.kind, authentication="certificate")
        self.written()

    @property
    def origin(self) -> str:
        """Where the connection comes from, "address:port"."""
        return self._origin

    @property
    def throttled(self) -> bool:
        """Whether no credential of this address is looked at for now."""
        return self._gate.authenticator.throttled(self._address)

    async def _authenticate(self, credential: Credential, address: str) -> Principal:
        """The principal, by the configuration that is in force when this returns."""
        while True:
            self._config, self._standings = self._gate.config, self._gate.standings
            principal = await self._gate.authenticator.authenticate(credential, address)
            if self._config is self._gate.config:
                return principal

    def _allow_settings(
        self, principal: Principal, grant: Grant, settings: Statement | None
    ) -> None:
        if settings is not None:
            verdict = self._judged(principal, grant).decide(settings, time.time())
            if verdict.action != "allow":
                raise NotAuthorised(verdict.reason)

    def _judged(self, principal: Principal, grant: Grant) -> policy.Judge:
        return self._standings.judge(principal, grant, self._address)

    async def _admit_one_more(self, principal: Principal, grant: Grant) -> None:
        """Count the session, here and in the other processes."""
        key, most = (principal.name, grant.role), grant.limits.max_sessions
        if most is not None and self._gate.open[key] >= most:
            raise LimitReached(too_many(grant.role, most))
        self._gate.open[key] += 1
        if self._gate.peers is not None:
            try:
                await self._gate.peers.take(self.id, key, most)
            except BaseException:
                self._leave(key)
                raise

    def _leave(self, key: tuple[str, str]) -> None:
        self._gate.open[key] -= 1
        if not self._gate.open[key]:
            del self._gate.open[key]

    def _tell_failed(self, kind: str) -> None:
        if self._gate.peers is not None and kind not in UNCOUNTED:
            self._gate.peers.failed(self._address)

    def _refused(
        self, refused: Refused, detail: str, principal: Principal | None = None, **more: str
    ) -> None:
        self._ended = True
        self._record(refused.code, False, {"detail": detail, **more}, principal)

    # 3, 4, 5

    def decide(self, statement: Statement) -> Verdict:
        """The verdict on one statement; its record is under way, and written by `written`. When it is
        `open`, nothing is recorded yet, and `hold` has the last word."""
        verdict = self._verdict_on(statement)
        self._book.statements += 1
        if not verdict.open:
            self._decided(statement, verdict)
        return verdict

    def _verdict_on(self, statement: Statement, estimate: float | None = None) -> Verdict:
        self._admitted()
        if statement.refusal:
            return Verdict("deny", statement.refusal, "protocol")
        assert self._judge is not None  # there is an admission
        verdict = self._judge.decide(statement, time.time(), estimate)
        if verdict.open and not statement.runs:
            # It is judged again when it runs: then its values are known, and who decides sees them.
            return Verdict("allow", "decided when it runs", verdict.rule, shadow=verdict.shadow)
        return verdict

    def _decided(self, statement: Statement, verdict: Verdict, request: str = "") -> None:
        if verdict.action != "deny":
            self._book.started[self._book.statements] = time.monotonic()
        if self._recording:
            self._recording.statement(self._book.statements)
        allowed = verdict.action == "allow"
        self._record(
            "statement.allowed" if allowed else "statement.denied",
            allowed,
            self._data_of(statement, verdict, request),
            urgent=allowed and statement.runs and _is_urgent(statement),
        )

    def _data_of(
        self, statement: Statement, verdict: Verdict, request: str = ""
    ) -> dict[str, object]:
        """What is recorded of a decision."""
        text, values = _kept(statement)
        data: dict[str, object] = {
            "number": self._book.statements,
            "kind": statement.kind,
            "text": text,
            "verdict": verdict.action,
            "rule": verdict.rule,
        }
        if values:
            data["parameters"] = list(values)
        if statement.shown is not None:
            data["wiped"] = True
        if statement.name:
            data["name"] = statement.name
        if statement.meaning is not None:
            data.update(_meaning(statement.meaning))
        if verdict.reason:
            data["reason"] = verdict.reason
        if verdict.shadow:
            data["shadow"] = [{"rule": rule, "verdict": would} for rule, would in verdict.shadow]
        if request:
            data["request"] = request
        return data

    # The same for requests that came before

    @property
    def book(self) -> Book:
        """What is noted of the session's statements."""
        return self._book

    @property
    def recording(self) -> Recording | None:
        """The recording of what the agent is sent, if there is one."""
        return self._recording

    def again(self, known: Known) -> bool:
        """Decide and record a request that came before but for its values, when that it may is known as well.
        False when each of its statements is to be decided by itself; then nothing was recorded."""
        self._admitted()
        if known.fresh:
            # its form costs more than its event, and most that ask for it ask once
            known.fresh = False
            return self._as_before(known)
        decided = known.decided
        if (
            type(decided) is not Decided
            or decided.judge is not self._judge
            or decided.letters is not self._gate.in_force.letters
        ):
            known.decided = decided = self._decide_again(known)
        if not decided.forms or not self._gate.recorder.in_time():
            return False
        return self._book.again(decided, known.values, known.text)

    def _as_before(self, known: Known) -> bool:
        """Decide and record what came before on another connection, when it may go the short way."""
        judge, decided = self._judge, []
        assert judge is not None
        for statement in known.statements:
            verdict = self._verdict_on(statement)
            if not self._goes_by_form(statement, verdict, judge):
                return False
            decided.append((statement, verdict))
        last, verdict = decided.pop()
        text = last.text if known.text is None else known.text
        last = Statement(last.kind, text, known.values, last.name, meaning=last.meaning)
        decided.append((last, verdict))
        for statement, verdict in decided:
            self._book.statements += 1
            self._decided(statement, verdict)
        return True

    def _goes_by_form(self, statement: Statement, verdict: Verdict, judge: policy.Judge) -> bool:
        """Whether nothing but the statement's meaning counts for its verdict, which is to allow it, and
        nobody waits for its record to be on the disk."""
        return (
            verdict.action == "allow"
            and not verdict.open
            and statement.meaning is not None
            and judge.remembers(statement.meaning)
            and not _is_urgent(statement)
        )

    def _decide_again(self, known: Known) -> Decided:
        """What there is to a request that is like `known`."""
        judge, letters_ = self._judge, self._gate.in_force.letters
        assert judge is not None
        forms = []
        last = len(known.statements)
        for statement in known.statements:
            last -= 1
            verdict = self._verdict_on(statement)
            if not self._goes_by_form(statement, verdict, judge):
                return Decided(judge, letters_, ())
            holes: tuple[str, ...] = ("number",)
            data = self._data_of(statement, verdict)
            if not last and known.values:
                data["parameters"] = []
                holes += ("parameters",)
            if not last and known.text is not None:
                holes += ("text",)
            form = self._gate.recorder.form(self._event("statement.allowed", True, data), holes)
            if form is None:
                return Decided(judge, letters_, ())
            forms.append((self._gate.metrics.statement(statement.kind, "allow"), form))
        ends = (
            self._gate.recorder.form(
                self._event("statement.finished", True, dict.fromkeys(holes, 0)), holes
            )
            for holes in (_ENDED, _FOUND)
        )
        return Decided(judge, letters_, tuple(forms), *ends)

    def answered(self, known: Known, answered: Answered) -> None:
        """How its statements ended."""
        many, number = len(known.statements), answered.number
        noted = self._gate.recorder.in_time() and self._book.answered(
            known.decided,
            number,
            many,
            answered.rows,
            answered.size,
            answered.masked,
            answered.columns,
            answered.began,
            answered.place,
        )
        if noted:
            return
        for other in range(number - many + 1, number):
            self.finished(other, Outcome(), answered.began)
        outcome = Outcome(answered.rows, answered.size, answered.masked, answered.columns)
        self.finished(number, outcome, answered.place)

    async def hold(self, statement: Statement, verdict: Verdict, waiting: Waiting) -> Verdict:
        """Wait until people have decided what `decide` held. The last word is to allow, once, or to deny;
        its record is under way. Raises RecordFailed, and then nothing may be forwarded."""
        began = time.monotonic()
        self._cancelled = False
        request = ""
        try:
            request, last = await self._wait(statement, verdict, waiting)
        except RecordFailed:
            raise
        except Refused as refused:
            # the desk takes no more
            if isinstance(refused, StateFailed):
                log.error("%s", refused.detail)
            last = Verdict("deny", refused.reason, verdict.rule, code=refused.code)
        finally:
            self._ticket = None
        if request:
            self._gate.metrics.hold_seconds.observe(time.monotonic() - began)
        if not self._ended:
            self._decided(statement, last, request)
        return last

    async def _wait(
        self, statement: Statement, verdict: Verdict, waiting: Waiting
    ) -> tuple[str, Verdict]:
        desk, admission = self._gate.desk, self._admitted()
        estimate = None
        if verdict.needs_estimate or (verdict.hold is not None and verdict.hold.estimate):
            estimate = await waiting.estimate()
            if self._over():
                raise Refused("the session is over")
            verdict = self._verdict_on(statement, estimate)
        if verdict.hold is None:
            return "", verdict
        if desk is None:
            raise Refused("statements are held, and this gateway has nowhere to keep them")
        text, values = _kept(statement)
        ask = Ask(
            session=self.id,
            principal=admission.principal,
            origin=self._origin,
            role=admission.grant.role,
            resource=admission.grant.resource,
            statement=statement,
            text=text,
            parameters=values,
            verdict=verdict,
            in_transaction=waiting.in_transaction,
            estimate=estimate,
            exact=waiting.exact(),
        )
        retry = ask.hold.mode == "refuse-and-retry"
        known = await desk.known(ask) if retry else None
        ticket = known or await desk.request(ask)
        name = ticket.request.id
        if known is not None and ticket.request.state != "pending":
            return name, await self._release(desk, ticket, statement, verdict, waiting)
        if self._over():
            if not retry:
                await desk.withdraw(ticket, "the agent went away")
            return name, self._denied(ticket, verdict)
        if retry:
            again = "still waits" if known else "waits"
            return name, Verdict(
                "deny",
                f"{_because(verdict)}request {name} {again} for approval by {_who(ticket)}; run the "
                "same statement again once it is approved",
                verdict.rule,
                code="approval.pending",
            )
        self._ticket = ticket
        waiting.begun(ticket)
        await ticket.left
        self._ticket = None
        return name, await self._release(desk, ticket, statement, verdict, waiting)

    async def _release(
        self, desk: Desk, ticket: Ticket, statement: Statement, verdict: Verdict, waiting: Waiting
    ) -> Verdict:
        """Allow what was approved, if everything is still as it was."""
        if ticket.request.state != "approved":
            return self._denied(ticket, verdict)
        wrong = await self._grown(ticket, waiting)
        if not wrong and not waiting.here():
            wrong = "the agent went away"
        wrong = wrong or self._different(statement, verdict, ticket)
        if wrong:
            await desk.withdraw(ticket, wrong)
        elif await desk.consume(ticket):
            # The last moment: from here to the record of it nothing else runs.
            wrong = (
                "the agent went away"
                if self._over()
                else self._different(statement, verdict, ticket)
            )
            if not wrong:
                desk.executed(ticket, self._book.statements, self.id)
                self._book.urgent = self._gate.recorder.urgent
                return Verdict("allow", ticket.request.outcome, verdict.rule)
            await desk.lapse(ticket, wrong)
        return self._denied(ticket, verdict)

    async def _grown(self, ticket: Ticket, waiting: Waiting) -> str:
        """What is wrong with the number of rows, where that was a part of what was approved."""
        if ticket.request.estimate is None:
            return ""
        rows = await waiting.estimate()
        if rows is None:
            return "the resource does not say any more how many rows it expects"
        if rows > ticket.request.estimate:
            return f"{rows} rows are expected now, and {ticket.request.estimate} were approved"
        return ""

    def _different(self, statement: Statement, verdict: Verdict, ticket: Ticket) -> str:
        """Why what was approved is not what would be asked for now; empty when it is."""
        now = self._verdict_on(statement, ticket.request.estimate)
        if now.action == "deny":
            return now.reason
        if now.action == "hold" and now.hold != verdict.hold:
            return "other approvers are asked for it by now"
        return ""

    def _denied(self, ticket: Ticket, verdict: Verdict) -> Verdict:
        request = ticket.request
        said = request.outcome or f"it is {request.state} already"
        if request.state == "approved":
            said = "its approval has expired"
        return Verdict(
            "deny",
            f"{_because(verdict)}request {request.id} was not approved: {said}",
            verdict.rule,
            code="approval.cancelled" if self._cancelled else "approval.denied",
        )

    def note(self, *, in_transaction: bool, seconds: float) -> None:
        """What the session waits for is inside of a transaction now, or is not any more, so that it waits
        for `seconds` at the most."""
        if self._ticket is not None and self._gate.desk is not None:
            self._gate.desk.note_soon(self._ticket, in_transaction=in_transaction, seconds=seconds)

    def withdraw(self, why: str) -> bool:
        """The agent does not want any more what its session waits for; false when it waits for nothing."""
        if self._ticket is None or self._gate.desk is None:
            return False
        self._cancelled = True
        self._gate.desk.withdraw_soon(self._ticket, why)
        return True

    def written(self) -> None:
        """Between 5 and 6: everything recorded so far is in the kernel. Raises RecordFailed when
        it is not, and then nothing may be forwarded."""
        self.check_recording()
        self._gate.written()

    def check_recording(self) -> None:
        """Raises RecordFailed when what the agent is sent cannot be recorded."""
        if self._recording and self._recording.failure:
            raise RecordFailed(
                self._recording.failure,
                "the session cannot go on, because what it is sent cannot be recorded; tell whoever "
                "runs the gateway",
            )

    def failing(self, wrong: RecordFailed) -> None:
        """The record takes nothing more for now."""
        self._gate.failing(wrong)

    def on_disk(self, sequence: int) -> bool:
        """Between 5 and 6, after `written`: whether the event `sequence` and all before it are on the disk.
        Raises RecordFailed when nobody knows."""
        return self._gate.on_disk(sequence)

    # 8

    def sent(self, buffers: Sequence[Buffer]) -> None:
        """These bytes, masked, are on their way to the agent."""
        if self._recording:
            self._recording.sent(buffers)

    @property
    def held(self) -> bool:
        """Whether so much of what was sent waits to be recorded that nothing more may be sent."""
        return self._recording is not None and self._recording.full

    def flush_recording(self) -> bool:
        """Have what was sent so far recorded. Returns whether that has to be seen to again."""
        if self._recording is None or self._ended:
            return False
        self._recording.flush()
        if data := self._recording.mark():
            self._record("session.recorded", True, data)
        return self._recording.unmarked

    def described(self, description: Described) -> None:
        """What rows are, of which the agent is not told it."""
        if self._recording:
            self._recording.described(
                description.number, description.place, description.description
            )

    def rows_described(self, number: int, described: tuple[int, bytes]) -> None:
        """The same, by its place and what they are."""
        self.described(Described(number, *described))

    def finished(self, number: int, outcome: Outcome, place: int = 0) -> None:
        """How a statement ended, with the message to the agent at `place`."""
        if self._recording:
            self._recording.finished(number, place)
        began = self._book.started.pop(number, None)
        if began is None:
            return  # it was denied: there is nothing to add to that
        self._book.add(outcome.rows, outcome.bytes, outcome.masked)
        data: dict[str, object] = {
            "number": number,
            "rows": outcome.rows,
            "bytes": outcome.bytes,
            "masked": dict(outcome.masked),
            "seconds": round(time.monotonic() - began, 6),
        }
        if outcome.columns:
            data["columns"] = dict(outcome.columns)
        if outcome.error:
            data["error"] = outcome.error
        self._record("statement.finished", not outcome.error, data)

    def received(self, rows: int, size: int) -> None:
        """Check what the agent has been given so far against its role's limits. `size` is in bytes.
        Raises LimitReached."""
        if self._book.within(rows, size):
            return
        limits = self._admitted().grant.limits
        if limits.max_rows is not None and rows > limits.max_rows:
            raise LimitReached(f"this role may read {limits.max_rows} rows a session (max_rows)")
        if limits.max_bytes is not None and size > limits.max_bytes:
            raise LimitReached(f"this role may read {limits.max_bytes} bytes a session (max_bytes)")
        self._book.within(rows, size)

    def event(self, code: str, success: bool, data: Mapping[str, object]) -> None:
        """Record something of the session that is not a statement."""
        self._record(code, success, data)

    def end(self, reason: str, *, success: bool) -> None:
        """The session is over; called once for every session, whatever ended it. `success` is false
        when an error did."""
        if self._ended:
            return
        self._ended = True
        if self._ticket is not None and self._gate.desk is not None:
            self._gate.desk.withdraw_soon(self._ticket, reason)
        if self._admission is None:
            self._record("session.refused", False, {"detail": reason})
            return
        if self._recording:
            data = self._recording.end()
            self._record("session.recording", "failure" not in data, data)
        self._leave((self._name, self._admission.grant.role))
        if self._gate.peers is not None:
            self._gate.peers.leave(self.id)
        self._record(
            "session.end",
            success,
            {
                "reason": reason,
                "statements": self._book.statements,
                "unfinished": sorted(self._book.started),
                "rows": self._book.rows,
                "bytes": self._book.size,
                "masked": dict(self._book.masked),
                "seconds": round(time.monotonic() - self._began, 3),
            },
        )

    def _over(self) -> bool:
        return self._ended

    @property
    def running(self) -> bool:
        """Whether a statement was forwarded of which it is not known how it ended."""
        return bool(self._book.started)

    def _admitted(self) -> Admission:
        if self._admission is None:
            raise RuntimeError("a statement came before the session was admitted")
        if self._config is not self._gate.config:
            self._config, self._standings = self._gate.config, self._gate.standings
            believed = self._gate.authenticator.believes(self._admission.principal.issuer)
            self._admission = _again(self._admission, self._config, believed)
            self._settle()
        return self._admission

    def _settle(self) -> None:
        """Who decides, and what may be given, by the admission as it is now."""
        admission = self._admission
        assert admission is not None
        self._judge = self._judged(admission.principal, admission.grant)
        limits = admission.grant.limits
        self._book.admit(self._judge, limits.max_rows, limits.max_bytes)

    def _record(
        self,
        code: str,
        success: bool,
        data: Mapping[str, object],
        principal: Principal | None = None,
        *,
        urgent: bool = False,
    ) -> None:
        event = self._event(code, success, data, principal)
        sequence = self._gate.record(event, urgent=urgent)
        if self._gate.recorder.urgent == sequence:
            self._book.urgent = sequence

    def _event(
        self,
        code: str,
        success: bool,
        data: Mapping[str, object],
        principal: Principal | None = None,
    ) -> Event:
        admission = self._admission
        number = data.get("number", 0)
        return Event(
            code,
            time.time(),
            self.id,
            self._name if principal is None else principal.name,
            self._origin,
            admission.grant.resource if admission else self._asked,
            success,
            data,
            self._gate.in_force.letters,
            admission.grant.role if admission else "",
            number if type(number) is int else 0,
        )


def too_many(role: str, most: int) -> str:
    """What an agent reads that has as many sessions as its role allows."""
    return (
        f"this identity has {most} open sessions, the most that its role allows "
        f"(roles[{role}].limits.max_sessions); close one"
    )


def _masked_by(
    mask: Callable[[str], str],
) -> Callable[[tuple[tuple[str, str], ...]], Mapping[str, str]]:
    """Masks names and values; a resource says the same to nearly all sessions."""

    @lru_cache(maxsize=64)
    def masked(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
        return {mask(name): mask(value) for name, value in items}

    return masked


def _letters(config: Config) -> str:
    """What stands in every event for the configuration in force: the first 6 bytes of its digest."""
    return letters(bytes.fromhex(config.digest)[:6])


def _again(admission: Admission, config: Config, believed: bool) -> Admission:
    """What an open session is admitted to by a configuration that is not the one it began with.
    `believed` is whether who vouched for its principal may still do so.

    It keeps its grant, with the limits as they are now, when a login would give it the same role on
    the same resource, show no less of a card number and do the same with columns. Otherwise it
    holds no role any more: its next statement is denied, and the agent may connect again to be given
    what it has now."""
    principal, before = admission.principal, admission.grant
    roles = policy.roles_for(config, principal.claims, principal.issuer) if believed else ()
    now = replace(principal, roles=roles)
    try:
        grant = policy.authorise(now, before.resource, config)
    except NotAuthorised:
        grant = before
        now = replace(principal, roles=())
    shows = policy.MASKS.index
    narrower = shows(grant.mask) < shows(before.mask) or _columns(
        config.resources_by_name.get(grant.resource)
    ) != _columns(admission.resource)
    if grant.role != before.role or narrower:
        return replace(admission, principal=replace(principal, roles=()))
    # What it shows was settled when it began.
    return replace(admission, principal=now, grant=replace(grant, mask=before.mask))


def _columns(resource: ResourceSettings | None) -> tuple[object, ...]:
    return () if resource is None else (resource.columns, resource.sensitive_columns)


def _kept(statement: Statement) -> tuple[str, tuple[str | None, ...]]:
    """The text and the values of a statement for whatever keeps or shows it."""
    if statement.shown is None:
        return statement.text, statement.parameters
    return statement.shown, statement.shown_parameters or ()


def _is_urgent(statement: Statement) -> bool:
    """Whether a statement does what has to be on the disk before it is forwarded."""
    meaning = statement.meaning
    return meaning is None or not URGENT_EFFECTS.isdisjoint(meaning.effects)


def _because(verdict: Verdict) -> str:
    return f"{verdict.reason}: " if verdict.reason else ""


def _who(ticket: Ticket) -> str:
    request = ticket.request
    return f"{request.quorum} of {' or '.join(request.approvers)}"


def _meaning(meaning: Understanding) -> Iterator[tuple[str, list[str]]]:
    """What an event says of what a statement does."""
    if meaning.effects:
        yield "effects", [effect for effect in EFFECTS if effect in meaning.effects]
    relations = dict.fromkeys(str(one) for part in meaning.parts for one in part.relations)
    if relations:
        yield "relations", list(relations)[:MOST_NAMES]
    if meaning.calls:
        yield "functions", list(meaning.calls)[:MOST_NAMES]
