"""Who gets the events of the record beside its file: one kind of sink a file, and this has the contract.

No sink is ever waited for. `follower.py` reads the record in another process than the gateway's, from where
the sink was, and gives it what came since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pangate.config.audit import SinkSettings


class Sink(Protocol):
    """Takes leaves, which are lines of the record without their newline, in their order."""

    name: str

    def last(self) -> int:
        """Sequence of the last leaf that is there already; 0 when nobody can know."""

    def deliver(self, leaves: Sequence[bytes]) -> None:
        """Returns when all of `leaves` are there as lastingly as the sink can tell. OSError or LedgerError
        when not: then all of them come again."""

    def close(self) -> None:
        """Let go of what is open."""


def open_sink(settings: SinkSettings) -> Sink:
    """The sink that an entry of `audit.sinks` describes."""
    if settings.kind == "file":
        from pangate.audit.sinks.file import FileSink

        assert settings.path is not None
        return FileSink(settings.name, settings.path)
    from pangate.audit.sinks.syslog import SyslogSink

    return SyslogSink(settings)
