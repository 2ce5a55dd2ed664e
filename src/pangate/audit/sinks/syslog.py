"""Events as messages of RFC 5424: the time and the code of each are the message's own, and its text is the
event, as it stands in the record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import msgspec

from pangate.audit.syslog import INFORMATIONAL, MAX_DATAGRAM, WARNING, Receiver, message
from pangate.config.audit import SinkSettings
from pangate.errors import LedgerError
from pangate.ledger.letters import letters


class _Event(msgspec.Struct, gc=False):
    sequence: int
    time: str
    code: str
    success: bool
    session: str = "-"
    principal: str = "-"


_DECODER = msgspec.json.Decoder(_Event)


class SyslogSink:
    """Sends to the receiver that `settings` name."""

    def __init__(self, settings: SinkSettings) -> None:
        assert settings.host is not None
        self.name = settings.name
        self._most = settings.bytes_at_most
        if settings.transport == "udp":
            self._most = min(self._most, MAX_DATAGRAM)
        self._receiver = Receiver(
            settings.host,
            settings.port,
            settings.transport,
            ca=settings.ca,
            certificate=settings.certificate,
            key=settings.key,
        )

    def last(self) -> int:
        """A receiver does not say what it has."""
        return 0

    def deliver(self, leaves: Sequence[bytes]) -> None:
        """Send them. TCP and TLS: the receiver's system has acknowledged all. UDP: they are gone."""
        self._receiver.send([self._message(leaf) for leaf in leaves])

    def close(self) -> None:
        """End the connection."""
        self._receiver.close()

    def _message(self, leaf: bytes) -> bytes:
        try:
            event = _DECODER.decode(leaf)
        except msgspec.DecodeError as error:
            raise LedgerError(f"a line of the record is no event: {error}") from None
        if len(leaf) > self._most:
            # an event that the receiver would cut somewhere says less than one that says so
            found = msgspec.structs.asdict(event)
            cut = {"bytes": len(leaf), "digest": letters(hashlib.sha256(leaf).digest())}
            leaf = json.dumps({**found, "cut": cut}, sort_keys=True).encode()
        return message(event.time, event.code, leaf, INFORMATIONAL if event.success else WARNING)
