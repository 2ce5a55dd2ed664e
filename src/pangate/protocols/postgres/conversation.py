"""What the two halves of the codec share: the queue of answers that the server owes, the names that the agent
gave, and the statements under way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from pangate._again import Standing
from pangate._frame import Walker
from pangate._scan import Scanner
from pangate.errors import Refused
from pangate.model import Outcome
from pangate.protocols import Action, Finished
from pangate.protocols.postgres.catalog import Catalog, open_catalog
from pangate.protocols.postgres.messages import Column
from pangate.protocols.postgres.plans import Planned
from pangate.sql import CopyOut

ENCODINGS = frozenset(
    {"UTF8", "SQL_ASCII", "LATIN1", "LATIN2", "LATIN3", "LATIN4", "LATIN5", "LATIN6", "LATIN7"}
    | {"LATIN8", "LATIN9", "LATIN10", "KOI8R", "KOI8U", "WIN866", "WIN874", "WIN1250", "WIN1251"}
    | {"WIN1252", "WIN1253", "WIN1254", "WIN1255", "WIN1256", "WIN1257", "WIN1258", "ISO_8859_5"}
    | {"ISO_8859_6", "ISO_8859_7", "ISO_8859_8", "EUC_JP", "EUC_CN", "EUC_KR", "EUC_TW"}
    | {"EUC_JIS_2004"}
)
"""Client encodings in which a byte that looks like ASCII is ASCII. In the others (SJIS, BIG5, GBK, UHC,
GB18030, JOHAB) it can be the second half of a character: a digit there hides the PAN behind it, and a
backslash ends a string where nobody sees it end."""


@dataclass(slots=True)
class Prepared:
    """What the agent named with Parse."""

    text: str
    types: tuple[int, ...]
    doubtful: bool = False
    """Whether the server may mean another text by this name since."""
    wire: bytes = b""
    """What stood in the Parse behind the name, where a further Parse may be needed."""
    digest: bytes = b""
    """That of `wire`."""


UNKNOWN = Prepared("", ())


@dataclass(slots=True)
class Placed:
    """A prepared statement of one connection: its name there, the digest of what it was parsed from, and in
    which sequence of messages (up to a Sync) it was sent."""

    name: bytes
    digest: bytes
    sequence: int
    state: Literal["sent", "there", "lost"] = "sent"


@dataclass(slots=True)
class Expected:
    """One answer that the server owes. `kind` is the letter of the message that asked: Q, P, B, D, E, C,
    S, F; X for a statement that we refused; and for messages of our own, whose answers the agent does
    not see: d (Describe of a portal), p (Parse), y (Describe of what that named), c (Close), s (Sync).
    m is no answer: it marks where the agent ended its COPY before the server said that it takes one."""

    kind: str
    statement: int = 0
    name: bytes = b""
    prepared: Prepared | None = None
    error: bytes = b""
    sqlstate: str = ""
    """That of `error`."""
    describes: str = ""
    aborted: bytes = b""
    """The error that our own messages in front of a COPY got, which ended the transaction."""
    call: int = 0
    """OID of the function that is called (F)."""
    closes: int = 0
    """The statement whose portal is closed (C): by then its name may be another's."""
    portal: int = 0
    """The statement of the portal that is described."""
    placed: Placed | None = None
    """What a Parse makes (P, p), where names differ by the connection."""


@dataclass(slots=True)
class CopyPlan:
    """A COPY TO STDOUT under way: what it was asked for, and the columns of its result once the server has
    described them."""

    out: CopyOut
    columns: list[Column] | None = None


@dataclass(slots=True)
class Running:
    """A statement between its Execute action and its Finished action."""

    number: int
    text: str
    masked: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    copy: CopyPlan | None = None
    rows: int = 0
    bytes: int = 0
    error: str = ""
    values: tuple[str | None, ...] = ()
    """What its parameters are."""
    doubtful: bool = False
    """Whether another text than `text` may run."""
    deallocated: int = 0
    """How many of its DEALLOCATEs were answered."""
    secret: bool = False
    """Whether its values may be sensitive, so that they are not kept."""


@cache
def _nothing() -> Catalog:
    """What is known of a resource before the login; no result comes before that."""
    return open_catalog({})


class Conversation:
    """The state of one connection past its login."""

    def __init__(self, scanner: Scanner, max_message: int) -> None:
        self._networks = scanner.networks
        self._walker = Walker(scanner, max_message)
        self._queue: deque[Expected] = deque()
        self._prepared: dict[bytes, Prepared] = {}
        self._portals: dict[bytes, int] = {}
        self._running: dict[int, Running] = {}
        self._standing = Standing()
        self._deciding = 0
        """The statement that the gate is asked about; 0 for none."""
        self._catalog: Catalog = _nothing()
        self._planned: Planned | None = None
        """What is done with the rows that come."""
        self._failed = False  # an error in an extended sequence: the server skips to Sync
        self._muted = False
        self._copying = False  # the server takes COPY data, and the agent has not ended it

    def _check_encoding(self, encoding: str) -> None:
        if encoding.upper() not in ENCODINGS:
            raise Refused(
                f"client_encoding {encoding} is not passed through this gateway; use UTF8"
            )

    def _check_strings(self, conforming: str) -> None:
        if conforming != "on":
            raise Refused(
                "standard_conforming_strings = off is not passed through this gateway, because it "
                "changes how statements are read; set it to on"
            )

    def _count(self, expected: Expected) -> None:
        """Book what was masked since the last answer on the statement that it belongs to."""
        self._book(self._running.get(expected.statement))

    def _book(self, running: Running | None) -> None:
        masked, rows, size = self._walker.take_counts()
        planned = self._planned
        hits = planned.plan.take_hits() if planned and planned.plan else {}
        if running is None:
            return
        for index, count in masked.items():
            network = self._networks[index]
            running.masked[network] = running.masked.get(network, 0) + count
        if planned:
            for index, count in hits.items():
                name = planned.names[index]
                running.columns[name] = running.columns.get(name, 0) + count
        running.rows += rows
        running.bytes += size

    def _finish(self, number: int, actions: list[Action]) -> None:
        running = self._running.pop(number, None)
        if running is None:
            return
        self._book(running)
        actions.append(
            Finished(
                number,
                Outcome(
                    rows=running.rows,
                    bytes=running.bytes,
                    masked=running.masked,
                    columns=running.columns,
                    error=running.error,
                ),
                self._walker.place,
            )
        )
