"""What a startup packet says. Programs say the same each time they connect, so it is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from pangate import sql
from pangate.model import Statement
from pangate.protocols.postgres import messages
from pangate.protocols.postgres.ways import without_choice

REMEMBERED, REMEMBERED_BYTES = 256, 1024
"""Packets that are remembered, and how long one may be."""

_NAMES = frozenset(("user", "database", "replication"))
"""Parameters that are no settings."""


class Opening(NamedTuple):
    """Nobody changes any of it."""

    parameters: Mapping[str, str]
    """As they came."""
    unknown: tuple[str, ...]
    """Names of options of the protocol, of which none is known here."""
    kept: Mapping[str, str]
    """Without these, and without what is for pangate alone."""
    settings: Mapping[str, str]
    """Those of them that are settings."""
    statement: Statement | None
    """What the settings do, where that is anything that somebody has to decide."""


NOT_OPENED = Opening({}, (), {}, {}, None)
"""Before it came."""


def read_opening(body: bytes) -> Opening:
    """The StartupMessage with this body, from behind its version. Raises ProtocolError."""
    return _remembered(body) if len(body) <= REMEMBERED_BYTES else _read(body)


def _read(body: bytes) -> Opening:
    parameters = messages.startup_parameters(body)
    unknown = tuple(name for name in parameters if name.startswith("_pq_."))
    kept = without_choice({k: v for k, v in parameters.items() if k not in unknown})
    meaning = sql.startup(kept)
    statement = None
    if meaning.effects or meaning.refusal:
        statement = Statement("startup", "startup parameters", meaning=meaning)
    settings = {k: v for k, v in kept.items() if k not in _NAMES}
    return Opening(parameters, unknown, kept, settings, statement)


_remembered = lru_cache(maxsize=REMEMBERED)(_read)
