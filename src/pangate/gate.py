"""The order in which everything happens, for every protocol. An auditor reads this file.

 1. authenticate   the credential becomes a principal, or the agent is refused and that is recorded
 2. authorise      the principal's roles become a grant on the resource, or ... the same
 3. decide         each statement gets a verdict: allow, deny, hold
 4. hold           (a held statement waits here for a person)
 5. record         the event is in the kernel: written, not only buffered
 6. forward        only now the bytes go to the resource
 7. mask           what comes back is masked by the codec before the gate sees it
 8. record         how the statement ended: rows, bytes, PANs masked, error

The gate owns no socket and knows no protocol. Whoever moves bytes calls it, and calls `written` between
5 and 6: when that raises, nothing is forwarded."""

from __future__ import annotations

import secrets
import string
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pangate import policy
from pangate.audit import Recorder
from pangate.auth import Authenticator
from pangate.config import Config, ResourceSettings
from pangate.errors import AuthenticationFailed, LimitReached, NotAuthorised, Refused
from pangate.model import Event, Grant, Outcome, Principal, Statement, Verdict
from pangate.protocols import Authenticate

UNKNOWN = "unknown"
"""The principal of an event before there is one."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What steps 1 and 2 found: who, by which grant, to which resource."""

    principal: Principal
    grant: Grant
    resource: ResourceSettings


class Gate:
    """What all sessions of one gateway share: the configuration, who authenticates, who records."""

    def __init__(self, config: Config, authenticator: Authenticator, recorder: Recorder) -> None:
        self.config = config
        self.authenticator = authenticator
        self.recorder = recorder
        self.open: Counter[tuple[str, str]] = Counter()
        """Open sessions by (principal, role)."""

    def session(self, origin: str) -> GateSession:
        """The gate for one connection. `origin` is where it comes from, "address:port"."""
        return GateSession(self, origin)


class GateSession:
    """The order, for one connection."""

    def __init__(self, gate: Gate, origin: str) -> None:
        self._gate = gate
        self._origin = origin
        # letters only: digits in a row could read as a card number, and be masked in the record
        self.id = "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))
        self._admission: Admission | None = None
        self._asked = ""
        self._began = time.monotonic()
        self._statements = 0
        self._started: dict[int, float] = {}
        self._rows = 0
        self._bytes = 0
        self._masked: Counter[str] = Counter()
        self._ended = False

    # 1, 2

    async def admit(self, ask: Authenticate) -> Admission:
        """Authenticate and authorise. Raises Refused, recorded already, with what the agent may
        read."""
        self._asked = ask.resource
        address = self._origin.rsplit(":", 1)[0]
        try:
            principal = await self._gate.authenticator.authenticate(ask.credential, address)
        except AuthenticationFailed as refused:
            self._refused(refused, refused.detail, way=ask.way)
            raise
        try:
            grant = policy.authorise(principal, ask.resource, self._gate.config)
            self._admit_one_more(principal, grant)
        except (NotAuthorised, LimitReached) as refused:
            self._refused(refused, refused.reason, principal)
            raise
        resource = self._gate.config.resources_by_name[grant.resource]
        self._admission = Admission(principal, grant, resource)
        self._gate.open[principal.name, grant.role] += 1
        self._record(
            "session.start",
            True,
            {
                "role": grant.role,
                "mask": grant.mask,
                "authentication": ask.way,
                "token_expires": principal.expires_at,
                "application": ask.parameters.get("application_name", ""),
                "config": self._gate.config.digest,
            },
        )
        self.written()
        return self._admission

    def _admit_one_more(self, principal: Principal, grant: Grant) -> None:
        most = grant.limits.max_sessions
        if most is not None and self._gate.open[principal.name, grant.role] >= most:
            raise LimitReached(
                f"this identity has {most} open sessions, the most that its role allows "
                f"(roles[{grant.role}].limits.max_sessions); close one"
            )

    def _refused(
        self, refused: Refused, detail: str, principal: Principal | None = None, way: str = ""
    ) -> None:
        self._ended = True
        data = {"detail": detail, "authentication": way} if way else {"detail": detail}
        self._record(refused.code, False, data, principal)
        self.written()

    # 3, 4, 5

    def decide(self, statement: Statement) -> Verdict:
        """The verdict on one statement; its record is under way, and written by `written`."""
        admission = self._admitted()
        if statement.refusal:
            verdict = Verdict("deny", statement.refusal, "protocol")
        else:
            verdict = policy.decide(admission.principal, admission.grant, statement)
        self._statements += 1
        if verdict.action != "deny":
            self._started[self._statements] = time.monotonic()
        data: dict[str, object] = {
            "number": self._statements,
            "kind": statement.kind,
            "text": statement.text,
            "verdict": verdict.action,
            "rule": verdict.rule,
        }
        if statement.parameters:
            data["parameters"] = list(statement.parameters)
        if statement.name:
            data["name"] = statement.name
        if verdict.reason:
            data["reason"] = verdict.reason
        allowed = verdict.action == "allow"
        self._record("statement.allowed" if allowed else "statement.denied", allowed, data)
        return verdict

    def written(self) -> None:
        """Between 5 and 6: everything recorded so far is in the kernel. Raises RecordFailed when
        it is not, and then nothing may be forwarded."""
        self._gate.recorder.flush()

    # 8

    def finished(self, number: int, outcome: Outcome) -> None:
        """How a statement ended."""
        began = self._started.pop(number, None)
        if began is None:
            return  # it was denied: there is nothing to add to that
        self._rows += outcome.rows
        self._bytes += outcome.bytes
        self._masked.update(outcome.masked)
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
        limits = self._admitted().grant.limits
        if limits.max_rows is not None and rows > limits.max_rows:
            raise LimitReached(f"this role may read {limits.max_rows} rows a session (max_rows)")
        if limits.max_bytes is not None and size > limits.max_bytes:
            raise LimitReached(f"this role may read {limits.max_bytes} bytes a session (max_bytes)")

    def event(self, code: str, success: bool, data: Mapping[str, object]) -> None:
        """Record something of the session that is not a statement."""
        self._record(code, success, data)

    def end(self, reason: str, *, success: bool) -> None:
        """The session is over; called once for every session, whatever ended it. `success` is false
        when an error did."""
        if self._ended:
            return
        self._ended = True
        if self._admission is None:
            self._record("session.refused", False, {"detail": reason})
            return
        key = self._admission.principal.name, self._admission.grant.role
        self._gate.open[key] -= 1
        if not self._gate.open[key]:
            del self._gate.open[key]
        self._record(
            "session.end",
            success,
            {
                "reason": reason,
                "statements": self._statements,
                "unfinished": sorted(self._started),
                "rows": self._rows,
                "bytes": self._bytes,
                "masked": dict(self._masked),
                "seconds": round(time.monotonic() - self._began, 3),
            },
        )

    def _admitted(self) -> Admission:
        if self._admission is None:
            raise RuntimeError("a statement came before the session was admitted")
        return self._admission

    def _record(
        self,
        code: str,
        success: bool,
        data: Mapping[str, object],
        principal: Principal | None = None,
    ) -> None:
        who = principal or (self._admission.principal if self._admission else None)
        self._gate.recorder.record(
            Event(
                code=code,
                time=time.time(),
                session=self.id,
                principal=who.name if who else UNKNOWN,
                origin=self._origin,
                resource=self._admission.grant.resource if self._admission else self._asked,
                success=success,
                data=data,
            )
        )
