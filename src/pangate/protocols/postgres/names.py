"""Prepared statements of a session that has one connection after another.

The server knows each by a name of ours: what an agent calls `s1` is here one connection's statement and there
another's, and two sessions cannot meet in one name, since a name is random for each connection, counted, and
never given again. What one session has prepared, no other uses: the same text may mean something else there.
A connection keeps what it has been told; a Bind or Describe of what it does not have gets a Parse in front,
with the types that the agent was told, whose answer the agent does not see. SQL DEALLOCATE of a name finds
one there under the agent's own; SQL EXECUTE of it is refused."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from hashlib import sha256
from string import ascii_lowercase
from typing import TYPE_CHECKING

from pangate.model import Part, Statement
from pangate.protocols import Action, ToBackend
from pangate.protocols.postgres import messages, renewal
from pangate.protocols.postgres.answers import SIMPLE
from pangate.protocols.postgres.conversation import UNKNOWN, Expected, Placed, Prepared
from pangate.protocols.postgres.messages import Reader, message

if TYPE_CHECKING:
    from pangate.protocols.postgres.lent import Lent

MOST_STATEMENTS = 256
"""Prepared statements that one connection keeps; for a further one the oldest is closed."""

MOST_PARSES = 8192
"""Names that one connection is given before it is made as new: some may be left on it of which nobody knows,
because what would have closed them was skipped after an error."""

NOBODY = b"pangate: no statement"
"""A name that is never given."""

_OURS = re.compile(rb"pangate [a-z]{16} [0-9]+")


class Carried:
    """The prepared statements that one connection has: `placed` by the digest of what they were parsed from,
    `literal` by the name that the agent gave, `unnamed` the one without a name."""

    def __init__(self) -> None:
        # letters, so that no mask can take it for a card number
        self._secret = "".join(secrets.choice(ascii_lowercase) for _ in range(16))
        self.given = 0
        """Names that it was given so far."""
        self.placed: dict[bytes, Placed] = {}
        self.literal: dict[bytes, Placed] = {}
        self.unnamed: Placed | None = None

    def name(self) -> bytes:
        """One that nobody has had."""
        self.given += 1
        return f"pangate {self._secret} {self.given}".encode()

    @property
    def used_up(self) -> bool:
        """Whether it has to be made as new before anybody else has it."""
        return self.given >= MOST_PARSES


def pins(statement: Statement) -> str:
    """What of `statement` may leave something in its session that does not end with its transaction; empty
    when nothing is known to."""
    if not statement.runs:
        return ""
    meaning = statement.meaning
    if meaning is None:
        return "what is not understood"
    for part in meaning.parts:
        if part.lasting:
            return part.lasting
    return "a setting of its own" if renewal.spoils(statement) else ""


def _as_is(name: bytes) -> bytes:
    """A name that only SQL can have given, if anybody."""
    return NOBODY if _OURS.fullmatch(name) else name


class Names:
    """The names of one session. `carried` is what its connection has; the codec asks before it sends
    anything that a name stands in."""

    def __init__(self, codec: Lent) -> None:
        self._codec = codec
        self.carried = Carried()
        self.pinned = ""
        """Why the session keeps its connection; empty while it does not."""
        self._shown: dict[bytes, bytes] = {}
        self._own_mark = secrets.token_bytes(16)

    def digest(self, wire: bytes) -> bytes:
        """What a statement of this session is found by, from what stands in its Parse behind the name."""
        return sha256(self._own_mark + wire).digest()

    def refuses(self, parts: Iterable[Part]) -> str:
        """Why SQL may not run what has these parts; empty when it may."""
        for part in parts:
            name = (part.executes or "").encode()
            if name and (self._codec.lookup(name) is not UNKNOWN or name in self.carried.literal):
                return (
                    f"prepared statement {part.executes!r} was prepared through the protocol, and with "
                    'pool.mode = "transaction" it runs through the protocol only: bind it, or PREPARE it '
                    "in SQL"
                )
        return ""

    def settle(self, prepared: Prepared, types: tuple[int, ...]) -> None:
        """The agent was told the types of its parameters: wherever it is parsed again, it is with these."""
        text = prepared.wire[: prepared.wire.index(b"\0") + 1]
        wire = (
            text + len(types).to_bytes(2, "big") + b"".join(one.to_bytes(4, "big") for one in types)
        )
        if wire == prepared.wire:
            return
        before, prepared.wire, prepared.digest = prepared.digest, wire, self.digest(wire)
        carried = self.carried
        if (placed := carried.placed.pop(before, None)) is not None:
            carried.placed[prepared.digest] = placed
        else:
            placed = carried.unnamed
        if placed is not None and placed.digest == before:
            placed.digest = prepared.digest

    # --- what is sent ---------------------------------------------------------------------------

    def send(
        self,
        kind: str,
        raw: bytes,
        number: int,
        statement: Statement,
        prepared: Prepared | None,
        actions: list[Action],
    ) -> tuple[bytes, Placed | None]:
        """An allowed statement as the server is to get it, what has to stand in front of it put into
        `actions`; of a Parse also what it makes."""
        if not self.pinned and (why := pins(statement)):
            self.pinned = why
            self._forget_others(kind, actions)
        parts = statement.meaning.parts if statement.meaning else ()
        if any(part.deallocates is not None for part in parts):
            self._say_names(kind, parts, number, actions)
        if kind == "P":
            return self._parse(raw, prepared or UNKNOWN, number, actions)
        if kind == "B":
            return self._bind(raw, prepared or UNKNOWN, number, actions), None
        if kind == "Q":
            self.carried.unnamed = None  # a Query takes it away
        return raw, None

    def refused(self) -> None:
        """A statement of ours takes the place of the unnamed one."""
        self.carried.unnamed = None

    def describe(self, raw: bytes, name: bytes, actions: list[Action]) -> bytes | None:
        """A Describe of a statement; None when an answer that is on its way decides which."""
        known = self._codec.lookup(name)
        if known is None:
            return None
        if not name:
            self._see_unnamed(known, 0, actions)
            return raw
        if known is UNKNOWN:
            return message(b"D", b"S" + _as_is(name) + b"\0")
        return message(b"D", b"S" + self._there(known, name, 0, actions) + b"\0")

    def close(self, raw: bytes, name: bytes) -> bytes:
        """A Close of a statement."""
        if not name:
            self.carried.unnamed = None
            return raw
        known = self._codec.lookup(name)
        if known is UNKNOWN:
            return message(b"C", b"S" + _as_is(name) + b"\0")
        found = self.carried.placed.pop(known.digest, None) if known is not None else None
        return message(b"C", b"S" + (found.name if found else NOBODY) + b"\0")

    def _parse(
        self, raw: bytes, prepared: Prepared, number: int, actions: list[Action]
    ) -> tuple[bytes, Placed | None]:
        name = Reader(raw[5:], "frontend").cstring()
        wire = prepared.wire
        if not name:
            self.carried.unnamed = placed = Placed(b"", prepared.digest, self._codec.sequence)
            return raw, placed
        taken = self._codec.lookup(name)
        if taken is not None and taken is not UNKNOWN:
            # the server is to say that there is one of this name already
            return message(b"P", self._there(taken, name, number, actions) + b"\0" + wire), None
        placed = self._place(prepared.digest, actions)
        self._shown[placed.name] = name
        return message(b"P", placed.name + b"\0" + wire), placed

    def _bind(self, raw: bytes, known: Prepared, number: int, actions: list[Action]) -> bytes:
        reader = Reader(raw[5:], "frontend")
        portal, name = reader.cstring(), reader.cstring()
        if not name:
            self._see_unnamed(known, number, actions)
            return raw
        server = NOBODY if known is UNKNOWN else self._there(known, name, number, actions)
        return message(b"B", portal + b"\0" + server + b"\0" + reader.rest())

    # --- what the connection has ------------------------------------------------------------------

    def _usable(self, placed: Placed | None) -> bool:
        # One that is not answered yet counts up to the next Sync: if it fails, all up to there is skipped.
        return placed is not None and (
            placed.state == "there"
            or (placed.state == "sent" and placed.sequence == self._codec.sequence)
        )

    def _place(self, digest: bytes, actions: list[Action]) -> Placed:
        """A name for a Parse; what it takes the place of is closed."""
        held = self.carried.placed
        gone = [found] if (found := held.pop(digest, None)) else []
        while len(held) >= MOST_STATEMENTS:
            gone.append(held.pop(next(iter(held))))
        self._close(gone, actions)
        placed = held[digest] = Placed(self.carried.name(), digest, self._codec.sequence)
        return placed

    def _there(self, known: Prepared, name: bytes, number: int, actions: list[Action]) -> bytes:
        """The server's name of a statement, which is there when the server comes to what is sent next."""
        held = self.carried.placed
        placed = held.get(known.digest)
        if placed is not None and self._usable(placed):
            held[known.digest] = held.pop(known.digest)  # the one used last stands last
        else:
            placed = self._place(known.digest, actions)
            self._own(
                Expected("p", number, placed=placed),
                message(b"P", placed.name + b"\0" + known.wire),
                actions,
            )
        self._shown[placed.name] = name
        return placed.name

    def _see_unnamed(self, known: Prepared, number: int, actions: list[Action]) -> None:
        carried = self.carried
        there = carried.unnamed
        if known is UNKNOWN:
            if there is not None:  # somebody else's
                self._own(Expected("c"), messages.close_statement(""), actions)
                carried.unnamed = None
            return
        if there is not None and there.digest == known.digest and self._usable(there):
            return
        carried.unnamed = placed = Placed(b"", known.digest, self._codec.sequence)
        self._own(Expected("p", number, placed=placed), message(b"P", b"\0" + known.wire), actions)

    def _forget_others(self, kind: str, actions: list[Action]) -> None:
        """What is pinned may look at what the connection has, and that is its own by then."""
        own = self._codec.digests()
        held = self.carried.placed
        others = [placed for digest, placed in held.items() if digest not in own]
        for placed in others:
            del held[placed.digest]
        others += self.carried.literal.values()
        self.carried.literal.clear()
        if not others:
            return
        with_sync = kind in "QF" and not self._codec.unsynced
        self._close(others, actions)
        if with_sync:
            self._sync(actions)

    def _say_names(
        self, kind: str, parts: Iterable[Part], number: int, actions: list[Action]
    ) -> None:
        """SQL takes names away: have something there that the agent's own name is of."""
        literal = self.carried.literal
        for part in parts:
            if kind == "P" or part.deallocates is None:
                continue
            if part.deallocates == "":
                self.carried.placed.clear()
                literal.clear()
                self.carried.unnamed = None
                continue
            name = (part.deallocates or "").encode()
            known = self._codec.lookup(name) if name else None
            if known is None or known is UNKNOWN:
                continue
            if not self._usable(literal.get(name)):
                # one of that name may be there all the same, if what was to take it away was skipped
                apart = kind == "Q" and not self._codec.unsynced
                literal[name] = placed = Placed(name, b"", self._codec.sequence)
                self._close([placed], actions)
                self._own(
                    Expected("p", number, SIMPLE if apart else b"", placed=placed),
                    message(b"P", name + b"\0select 1\0\0\0"),
                    actions,
                )
                if apart:
                    self._sync(actions)
            literal[name] = Placed(name, b"", 0, "lost")

    def _close(self, gone: Iterable[Placed], actions: list[Action]) -> None:
        for placed in gone:
            self._own(Expected("c"), message(b"C", b"S" + placed.name + b"\0"), actions)

    def _sync(self, actions: list[Action]) -> None:
        self._own(Expected("s"), messages.sync(), actions)

    def _own(self, expected: Expected, data: bytes, actions: list[Action]) -> None:
        self._codec.expect(expected)
        actions.append(ToBackend(data))

    # --- what is answered -------------------------------------------------------------------------

    def as_said(self, body: bytes) -> bytes:
        """An error or notice with the agent's names in the place of ours."""
        if b"pangate " not in body:
            return body
        return _OURS.sub(lambda found: self._shown.get(found[0], NOBODY), body)

    def at_rest(self) -> None:
        """Nothing is under way."""
        self._shown.clear()
