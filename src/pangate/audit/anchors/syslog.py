"""A checkpoint as a message in a log that others keep (RFC 5424)."""

from __future__ import annotations

from datetime import UTC, datetime

from pangate.audit.anchors import Sent, line_of
from pangate.audit.reader import Ledger
from pangate.audit.syslog import NOTICE, Receiver, message
from pangate.config.audit import AnchorSettings
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint

CODE = "checkpoint"


class SyslogAnchor:
    """Sends to the receiver that `settings` name. A line of the receiver's log is the evidence."""

    def __init__(self, settings: AnchorSettings) -> None:
        self.name = settings.name
        assert settings.host is not None
        self._receiver = Receiver(
            settings.host,
            settings.port,
            settings.transport,
            ca=settings.ca,
            certificate=settings.certificate,
            key=settings.key,
        )
        self._sent = Sent(settings.name)

    def put(self, ledger: Ledger) -> Checkpoint:
        """Send the checkpoint. UDP says nothing of whether it came: the next one follows."""
        self._sent.check(ledger)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        text = message(now, CODE, line_of(ledger).encode(), NOTICE)
        try:
            self._receiver.send([text])
        except OSError as error:
            raise LedgerError(
                f"the syslog receiver {self._receiver} cannot be reached: {error}"
            ) from None
        finally:
            self._receiver.close()
        return self._sent.keep(ledger)
