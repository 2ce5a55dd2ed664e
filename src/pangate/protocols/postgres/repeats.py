"""The short way of requests that came before: what was found out about one holds for the next that is the
same in all but its values, when nothing else is under way.

The short way gives what the long one gives, to both sides and to the gate; it only does not go step by step.
What it cannot be sure of (an answer that looks otherwise, a further request before the answer) goes the
long way: the codec is told then what was sent, and goes on as if it had come that way."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pangate._again import Known, Lane, Requests, ShortWay, answer_parts
from pangate._scan import Scanner
from pangate.model import Statement, Verdict
from pangate.protocols import Action, Buffer, Execute
from pangate.protocols.postgres import messages, renewal
from pangate.protocols.postgres.answers import Answers
from pangate.protocols.postgres.binds import bind_values
from pangate.protocols.postgres.catalog import KEPT_TEXT
from pangate.protocols.postgres.conversation import Prepared
from pangate.protocols.postgres.messages import Reader
from pangate.protocols.postgres.plans import plan_for
from pangate.protocols.postgres.shown import mentioned

_ALLOW = Verdict("allow")


class _Candidate:
    """A request that goes the long way and may be known behind it."""

    __slots__ = ("generation", "key", "kind", "name", "portal", "shown", "statements", "varies")

    def __init__(self, requests: Requests, generation: int) -> None:
        self.key, self.kind = requests.key, requests.kind
        self.name, self.portal = requests.name, requests.portal
        self.shown = requests.asks_description or self.kind == "Q"
        self.varies = not requests.exact
        self.generation = generation
        self.statements: list[Statement] = []


class Repeats(Answers, ABC):
    """The codec's memory of requests."""

    def __init__(self, scanner: Scanner, max_message: int) -> None:
        super().__init__(scanner, max_message)
        self._begun = False  # whether the login is over
        self._lane = Lane(
            self,
            self._standing,
            self._walker,
            self._prepared,
            self._portals,
            self._networks,
            max_message,
            _values,
            self._mentioned,
            messages.describe_portal,
            Prepared,
        )

    # What the codec says of itself, beside what the server's half knows.

    @abstractmethod
    def _idle(self) -> bool:
        """Whether nothing is under way on either side."""

    @abstractmethod
    def frontend(self, data: Buffer) -> list[Action]:
        """Take bytes from the agent."""

    @abstractmethod
    def resume(self, verdict: Verdict) -> list[Action]:
        """Go on after `Execute`."""

    # --- the short way ----------------------------------------------------------------------------

    @property
    def short_way(self) -> ShortWay:
        """See `pangate.protocols.Codec`."""
        return self._lane

    def _mentioned(self, values: tuple[str | None, ...]) -> bool:
        catalog = self._catalog
        return catalog.rules.any and mentioned("\n".join(filter(None, values)), catalog)

    def _replay(self) -> None:
        """Tell the codec what went the short way, as it would have gone the long one."""
        actions = self.frontend(self._lane.forget())
        while actions and isinstance(actions[-1], Execute):
            actions = self.resume(_ALLOW)

    # --- what comes to be known -------------------------------------------------------------------

    def _note_request(self, data: bytes) -> None:
        """A request goes the long way while everything is at rest."""
        self._standing.candidate = None
        requests = self._lane.requests
        requests.look(data)
        if requests.kind:
            self._standing.candidate = _Candidate(requests, self._catalog.generation)

    def _note_answer(self, data: bytes) -> None:
        """Its answer went through; from now on it may be known."""
        candidate, self._standing.candidate = self._standing.candidate, None
        assert candidate is not None
        parts = answer_parts(data)
        catalog = self._catalog
        if parts is None or candidate.generation != catalog.generation or not self._idle():
            return
        head, description = parts
        body = description[5:] if description[:1] == b"T" else b""
        planned = self._plans.get(body) if body else None
        if body and (
            planned is None
            or planned.plan is None
            or planned.plan.rewrites
            or planned.traced
            or self._plans_of != catalog.generation
            or self._names_masked(body)
        ):
            return
        kinds = ("query",) if candidate.kind == "Q" else ("parse", "bind")
        if candidate.kind == "B":
            kinds = ("bind",)
        statements = tuple(candidate.statements)
        if tuple(statement.kind for statement in statements) != kinds:
            return
        if not all(self._may_repeat(statement, candidate.varies) for statement in statements):
            return
        prepared = None if candidate.kind == "Q" else self._prepared.get(candidate.name)
        if prepared is None and candidate.kind != "Q":
            return
        known = Known(
            candidate.kind,
            statements,
            candidate.name,
            candidate.portal,
            prepared,
            prepared.types if prepared else (),
            head,
            description,
            candidate.shown,
            # of its own: what is masked by it is counted there until the whole answer is through
            plan_for(messages.row_description(body), catalog).plan if planned else None,
            planned.names if planned else (),
            catalog.generation,
        )
        self._lane.remember(candidate.key, known)

    def _names_masked(self, body: bytes) -> bool:
        """Whether a name in a RowDescription is masked. That was counted when it came."""
        masked = self._shown(body, messages.row_description(body)) != body
        self._walker.take_counts()
        return masked

    def _may_repeat(self, statement: Statement, varies: bool) -> bool:
        """Whether nothing of a statement but its values could make it another one."""
        meaning = statement.meaning
        if meaning is None or statement.refusal or meaning.refusal or statement.shown is not None:
            return False
        if len(statement.text) > KEPT_TEXT:
            return False
        if any(part.executes or part.prepares for part in meaning.parts):
            return False
        text = statement.text.lower()
        if renewal.spoils(statement) or "copy" in text or "fetch" in text:
            return False
        if not varies:
            return True
        return meaning.constant and not any(
            mentioned(text.translate(dict.fromkeys(range(48, 58), ord(digit))), self._catalog)
            for digit in "0123"
        )


def _values(data: bytes, types: tuple[int, ...]) -> tuple[str | None, ...]:
    """The values of the Bind in a request, some of them binary."""
    if data[:1] == b"P":
        data = data[1 + int.from_bytes(data[1:5], "big") :]
    reader = Reader(data[5 : 1 + int.from_bytes(data[1:5], "big")], "frontend")
    reader.cstring()
    reader.cstring()
    return bind_values(reader, types)
