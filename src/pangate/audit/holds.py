"""Legal holds: what is never retired until somebody lets it go. Each step is a note that the log has signed,
a line in a file that only grows; each names the one before, so that none in between can be taken out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pangate.errors import LedgerError
from pangate.ledger.letters import letters
from pangate.ledger.note import Signer, Verifier
from pangate.ledger.statement import HOLD, NOTHING, number, open_statement, sign

HOLDS = "holds.jsonl"

MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Hold:
    """Events that match all that is given; None matches any. Times as events have them, `until` is beyond."""

    name: str
    since: str | None
    until: str | None
    session: str | None
    principal: str | None
    reason: str
    time: str
    by: str

    def overlaps(self, oldest: str, newest: str) -> bool:
        """Whether the hold's time has a part in that between two events."""
        return (self.since is None or newest >= self.since) and (
            self.until is None or oldest < self.until
        )

    def covers(self, time: str, session: str, principal: str) -> bool:
        """Whether an event is held."""
        return (
            self.overlaps(time, time)
            and self.session in (None, session)
            and self.principal in (None, principal)
        )

    @property
    def by_time(self) -> bool:
        """Whether time alone decides."""
        return self.session is None and self.principal is None


@dataclass(frozen=True, slots=True)
class Holds:
    """All steps up to one of them."""

    active: Mapping[str, Hold]
    entries: int
    digest: str
    """Of the last note; `NOTHING` when there is none."""


NO_HOLDS = Holds({}, 0, NOTHING)


def history(directory: Path, origin: str, verifiers: Sequence[Verifier]) -> list[Holds]:
    """What was held after each step, before the first one too. LedgerError when a step does not hold."""
    try:
        with (directory / HOLDS).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return [NO_HOLDS]
    except OSError as error:
        raise LedgerError(f"{HOLDS} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise LedgerError(f"{HOLDS} has more than {MAX_BYTES} bytes")
    steps = [NO_HOLDS]
    for place, line in enumerate(data.splitlines(), 1):
        try:
            steps.append(_step(steps[-1], line, origin, verifiers))
        except LedgerError as error:
            raise LedgerError(f"line {place} of {HOLDS}: {error}") from None
    return steps


def _step(before: Holds, line: bytes, origin: str, verifiers: Sequence[Verifier]) -> Holds:
    try:
        note = json.loads(line)["note"].encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LedgerError("it is no note in JSON") from None
    values = open_statement(HOLD, note, verifiers)
    if values["origin"] != origin:
        raise LedgerError(f"it is of {values['origin']}")
    if number(values, "entry") != before.entries + 1 or values["before"] != before.digest:
        raise LedgerError("it does not follow the one before: something was taken out or put in")
    active = dict(before.active)
    if values["action"] == "add":
        since, until, session, principal = (
            None if values[key] == NOTHING else values[key] for key in _CONDITIONS
        )
        name = values["name"]
        active[name] = Hold(
            name, since, until, session, principal, values["reason"], values["time"], values["by"]
        )
    elif values["action"] == "release":
        active.pop(values["name"], None)
    else:
        raise LedgerError(f"it does neither add nor release: {values['action']}")
    return Holds(active, before.entries + 1, _digest(note))


_CONDITIONS = ("from", "to", "session", "principal")


def change(
    directory: Path,
    signer: Signer,
    verifiers: Sequence[Verifier],
    action: str,
    name: str,
    given: Mapping[str, str | None],
    reason: str,
    by: str,
    now: datetime,
) -> None:
    """Add a step. LedgerError when there is such a hold already, or none to release."""
    origin = signer.verifier.name
    held = history(directory, origin, verifiers)[-1]
    if action == "add" and name in held.active:
        raise LedgerError(f'there is a hold "{name}" already; release it first, or name another')
    if action == "release" and name not in held.active:
        known = ", ".join(held.active) or "none"
        raise LedgerError(f'there is no hold "{name}"; there is {known}')
    if not name or not reason.strip():
        raise LedgerError("a hold has a name and a reason")
    values = {key: given.get(key) or NOTHING for key in _CONDITIONS}
    note = sign(
        HOLD,
        {
            "origin": origin,
            "entry": held.entries + 1,
            "before": held.digest,
            "action": action,
            "name": name,
            **values,
            "reason": reason,
            "time": text_of(now),
            "by": by,
        },
        signer,
    )
    _append(directory / HOLDS, json.dumps({"note": note.decode()}).encode() + b"\n")


def moment(text: str, *, end: bool = False) -> str:
    """A day, or a time as RFC 3339 has it, as events have their times. A day is its beginning (UTC), or with
    `end` that of the day behind it. LedgerError for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise LedgerError(
            f'"{text}" is no time; write 2026-11-29 or 2026-11-29T13:00:00Z'
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    if end and len(text) <= len("2026-11-29"):
        found += timedelta(days=1)
    return text_of(found)


def text_of(when: datetime) -> str:
    """A time as events have it."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _append(path: Path, data: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if os.write(fd, data) != len(data):
                os.ftruncate(fd, size)
                raise LedgerError(f"{path} took a part only; make room on its disk")
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from None


def _digest(note: bytes) -> str:
    return letters(hashlib.sha256(note).digest())
