"""A session as it happened: its commands from the events of the ledger, what it was sent from its recording,
whose digest the ledger has."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pangate.audit import recorded
from pangate.audit.recorded import Damaged, Reading, digest_of, header_of
from pangate.errors import LedgerError, ProtocolError
from pangate.protocols import PROTOCOLS, Lines, Row, Said, Table, Transcript, open_transcript

_SESSION = re.compile(r"[a-z0-9]{1,64}")
_FILE = re.compile(r"sessions/\d{4}-\d\d-\d\d/[a-z0-9]{1,64}\.rec")

ENDS = ("session.recording", "session.unfinished")
"""Codes of events that have the digest of a whole recording; `session.recorded` has that of a beginning."""

Kind = Literal[
    "command",
    "table",
    "row",
    "lines",
    "done",
    "error",
    "notice",
    "notification",
    "parameter",
    "cut",
    "end",
]


class Moment(NamedTuple):
    """Something of a session. `seconds` count from its beginning, `number` is the statement's, 0 for none.

    `value` is the event of a command; the names of a table's columns; the cells of a row as text; a
    mapping {"bytes", "rows"} of what is cut; a text of all else."""

    seconds: float
    kind: Kind
    number: int
    value: Any
    code: str = ""


@dataclass
class Session:
    """What the ledger has of the session `id`: `start`, `end` and its `commands` by number are events, in the
    form of their leaves. `recordings` are those that have a digest of its recording, in their order."""

    id: str
    start: Mapping[str, Any] | None = None
    end: Mapping[str, Any] | None = None
    commands: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    recordings: list[Mapping[str, Any]] = field(default_factory=list)


class Checked(NamedTuple):
    """Whether a recording is what the ledger says, in one sentence. `path` is None when there is none."""

    right: bool
    sentence: str
    path: Path | None


class NoSuchSession(LedgerError):
    """The record is whole, and has nothing of the session."""


def session_of(events: Iterable[Mapping[str, Any]], session: str) -> Session:
    """What `events` have of one session. Raises LedgerError for what cannot be one's name, and when they
    have nothing of it."""
    if not _SESSION.fullmatch(session):
        raise LedgerError(f"{session[:100]!r} is no session: its name has small letters only")
    found = Session(session)
    some = False
    for event in events:
        if event.get("session") != session:
            continue
        some = True
        code, data = event.get("code"), event.get("data")
        if not isinstance(data, Mapping):
            continue
        if code == "session.start":
            found.start = event
        elif code == "session.end":
            found.end = event
        elif code == "session.recorded" or code in ENDS:
            found.recordings.append(event)
        elif str(code).startswith("statement.") and code != "statement.finished":
            found.commands.setdefault(int(data.get("number", 0)), event)
    if not some:
        raise NoSuchSession(f"the ledger has nothing of a session {session}")
    return found


def check(session: Session, directory: Path) -> Checked:
    """Compare the recording of `session` in the ledger at `directory` with the events on it."""
    events = session.recordings
    last = events[-1] if events else None
    named = str(last["data"].get("file", "")) if last else ""
    if last and not _FILE.fullmatch(named):
        return Checked(False, f"{_about(last)} names no recording", None)
    if last:
        path = directory / named
    else:
        found = sorted((directory / "sessions").glob(f"*/{session.id}.*"))
        if not found:
            return Checked(False, "the session has no recording, and no event tells of one", None)
        path = found[0]
    still = path.with_suffix(".open")
    if not path.exists() and still.exists():
        path = still
    try:
        digest, size = digest_of(path)
        if last is None:
            return Checked(
                False, f"no event has the digest of {path}: nobody can say who wrote it", path
            )
        if _says(last, digest, size):
            return Checked(*_right(last, path), path)
        if last["code"] not in ENDS and size > int(last["data"]["bytes"]) and _holds(last, path):
            more = size - int(last["data"]["bytes"])
            return Checked(
                True,
                f"{path} is as {_about(last)} says, up to byte {last['data']['bytes']}; no event has "
                f"the digest of the {more} bytes behind that, as the session has not ended",
                path,
            )
        return Checked(False, _wrong(events, path, size), path)
    except FileNotFoundError:
        return Checked(
            False, f"the recording {path} is missing; {_about(last)} has its digest", None
        )
    except OSError as wrong:
        return Checked(False, f"the recording {path} cannot be read: {wrong.strerror}", None)


def _says(event: Mapping[str, Any], digest: str, size: int) -> bool:
    return bool(event["data"].get("digest") == digest and event["data"].get("bytes") == size)


def _holds(event: Mapping[str, Any], path: Path) -> bool:
    """Whether the beginning of the file is what an event says."""
    size = event["data"].get("bytes")
    return type(size) is int and _says(event, *digest_of(path, size))


def _right(event: Mapping[str, Any], path: Path) -> tuple[bool, str]:
    failure = event["data"].get("failure")
    if failure:
        return False, f"{path} is as {_about(event)} says, and not whole: {failure}"
    return True, f"{path} is as {_about(event)} says"


def _wrong(events: Sequence[Mapping[str, Any]], path: Path, size: int) -> str:
    last = events[-1]
    said = last["data"].get("bytes")
    what = f"{path} is not what {_about(last)} says: "
    if said == size:
        what += "other bytes of the same number"
    else:
        what += f"{size} bytes instead of {said}"
    for event in reversed(events[:-1]):
        if _holds(event, path):
            return f"{what}; up to byte {event['data']['bytes']} it is as {_about(event)} says"
    return f"{what}; nothing of it is certain"


def _about(event: Mapping[str, Any] | None) -> str:
    return f"event {event['sequence']} ({event['code']})" if event else "no event"


def moments(session: Session, path: Path | None) -> Iterator[Moment]:
    """The session in its order: commands when they were decided, answers when they were sent. Commands that
    the recording does not have, or all when `path` is None, come at the end. What cannot be read ends it
    with an `error` of the code "damaged"."""
    left = dict(session.commands)
    seconds = 0.0
    if path is not None:
        try:
            for moment in _Player(Reading(path)).moments():
                seconds = moment.seconds
                if moment.kind == "command":
                    event = left.pop(moment.number, None)
                    if event is None:
                        continue
                    moment = moment._replace(value=event)
                yield moment
        except (Damaged, ProtocolError, OSError) as wrong:
            yield Moment(seconds, "error", 0, f"nothing more can be read: {wrong}", "damaged")
    for number, event in sorted(left.items()):
        yield Moment(seconds, "command", number, event)


class _Player:
    """From the frames of a recording to moments."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._transcript: Transcript | None = None
        self._open: list[int] = []
        """Statements that were decided and are not finished."""
        self._ends: deque[tuple[int, int]] = deque()
        """(place, statement): what was sent up to a place belongs to a statement."""
        self._described: deque[tuple[int, int]] = deque()
        self._of = 0
        self._in_table = False

    def moments(self) -> Iterator[Moment]:
        for kind, seconds, payload in self._reading:
            match kind:
                case recorded.HEADER:
                    self._begin(header_of(recorded.Frame(kind, seconds, payload)))
                case recorded.STATEMENT:
                    (number,) = recorded.NUMBER.unpack(payload)
                    self._open.append(number)
                    yield Moment(seconds, "command", number, None)
                case recorded.DESCRIBED:
                    number, place = recorded.PLACE.unpack_from(payload)
                    self._described.append((place, number))
                    self._need().described(place, payload[recorded.PLACE.size :])
                case recorded.FINISHED:
                    number, place = recorded.PLACE.unpack(payload)
                    self._ends.append((place, number))
                case recorded.SENT:
                    yield from self._sent(seconds, payload)
                case recorded.CUT:
                    size, rows, whole = recorded.GAP.unpack(payload)
                    self._need().cut(size, whole=bool(whole))
                    yield Moment(seconds, "cut", self._of, {"bytes": size, "rows": rows})
                case recorded.END:
                    yield Moment(
                        seconds, "end", 0, header_of(recorded.Frame(kind, seconds, payload))
                    )
                case _:
                    raise Damaged(
                        f"a frame of the kind {kind!r}, which is not known", self._reading.bytes
                    )

    def _begin(self, header: Mapping[str, Any]) -> None:
        protocol, parameters = header.get("protocol"), header.get("parameters", {})
        if protocol not in PROTOCOLS or not isinstance(parameters, Mapping):
            raise Damaged(f"a recording of the protocol {protocol!r}, which is not known", 0)
        self._transcript = open_transcript(str(protocol), parameters)

    def _need(self) -> Transcript:
        if self._transcript is None:
            raise Damaged("a recording without its header", 0)
        return self._transcript

    def _sent(self, seconds: float, data: bytes) -> Iterator[Moment]:
        transcript = self._need()
        for place, reply in transcript.take(data):
            number = self._statement_at(place)
            match reply:
                case Table():
                    self._in_table = True
                    yield Moment(seconds, "table", number, reply.names)
                case Row():
                    if not self._in_table:
                        self._in_table = True
                        yield Moment(seconds, "table", number, transcript.table().names)
                    yield Moment(seconds, "row", number, reply.cells)
                case Lines():
                    yield Moment(seconds, "lines", number, reply.text)
                case Said():
                    self._in_table = self._in_table and reply.kind not in ("done", "error")
                    yield Moment(seconds, reply.kind, number, reply.text, reply.code)

    def _statement_at(self, place: int) -> int:
        """The statement that the message at `place` answers."""
        while self._ends and self._ends[0][0] < place:
            _, number = self._ends.popleft()
            if number in self._open:
                self._open.remove(number)
            if self._of == number:
                self._of = 0
        while self._described and self._described[0][0] <= place:
            self._of = self._described.popleft()[1]
        if not self._of or self._of not in self._open:
            self._of = self._ends[0][1] if self._ends else min(self._open, default=0)
        return self._of
