import asyncio
import ssl

from pangate._wire import Wire

class Tls(asyncio.Transport, asyncio.Protocol, Wire):
    """TLS over a transport; its classes are asyncio's in all but their bases. See _tls.pyx."""

    def __init__(
        self,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        ready: asyncio.Future[None],
        closing_seconds: float,
        *,
        server: bool,
        hostname: str | None = None,
    ) -> None: ...
