"""One POST, within bounds, to somebody who keeps checkpoints."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx

from pangate.audit.anchors import TIMEOUT_SECONDS
from pangate.errors import LedgerError


def post(
    url: str,
    body: bytes,
    who: str,
    *,
    most: int,
    ca: Path | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """The status and at most `most` bytes of what `url` answers. No redirect is followed: the anchor is the
    one that the configuration names. Raises LedgerError with `who` in it."""
    try:
        trusted: ssl.SSLContext | bool = True
        if ca is not None:
            trusted = ssl.create_default_context(cafile=ca)
        with (
            httpx.Client(verify=trusted, timeout=TIMEOUT_SECONDS, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            data = b""
            for block in answer.iter_bytes():
                data += block
                if len(data) > most:
                    raise LedgerError(f"{who} answers at too great length")
            return answer.status_code, data
    except (httpx.HTTPError, OSError) as error:
        raise LedgerError(f"{who} cannot be asked: {error or type(error).__name__}") from None
