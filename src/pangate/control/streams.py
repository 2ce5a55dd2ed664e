"""Answers that have no end by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class Stream(StreamingResponse):
    """Server-sent events. `over` is called when they end, however that is, also when none was sent."""

    def __init__(
        self, content: AsyncIterator[str], headers: Mapping[str, str], over: Callable[[], None]
    ) -> None:
        super().__init__(content, headers=headers, media_type="text/event-stream")
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()
