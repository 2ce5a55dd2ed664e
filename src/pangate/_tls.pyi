import asyncio
import ssl

class Out:
    """What goes to one peer. See _tls.pyx."""

    def __init__(self, transport: asyncio.Transport) -> None: ...
    def send(self, data: bytes | bytearray) -> None: ...

class Tls(asyncio.Transport, asyncio.Protocol, Out):
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
