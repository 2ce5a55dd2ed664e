"""A checkpoint as JSON in an HTTPS POST, for whoever keeps it, such as a log service."""

from __future__ import annotations

import json
from pathlib import Path

from pangate.audit.anchors import Sent, line_of
from pangate.audit.anchors.http import post
from pangate.audit.reader import Ledger
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint

MOST = 64 << 10
"""Bytes of an answer that are read; nothing in it matters but its status."""


class WebhookAnchor:
    """Posts to `url`. What is posted carries the log's own signature, so the receiver need keep it only;
    `token` tells the receiver who posts."""

    def __init__(self, name: str, url: str, token: str = "", ca: Path | None = None) -> None:
        self.name = name
        self._url, self._ca = url, ca
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._sent = Sent(name)

    def put(self, ledger: Ledger) -> Checkpoint:
        """Post the checkpoint. Any status from 200 to 299 says that it is kept."""
        self._sent.check(ledger)
        found = ledger.checkpoint()
        body = json.dumps(
            {
                "origin": found.origin,
                "size": found.size,
                "checkpoint": ledger.checkpoint_note().decode(),
                "text": line_of(ledger),
            }
        )
        status, _ = post(
            self._url,
            body.encode(),
            f"the webhook {self.name}",
            most=MOST,
            ca=self._ca,
            headers=self._headers,
        )
        if not 200 <= status <= 299:
            raise LedgerError(f"the webhook {self.name} answers {status}")
        return self._sent.keep(ledger)
