"""The control plane: an HTTP listener of its own for people and their programs, beside the data path. The
API holds no state: whoever asks is authenticated anew with each request, by the same issuers as agents. The
console, where there is one, has sessions of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from pangate.config.approvals import ControlSettings
from pangate.control.api import routes
from pangate.control.connections import Accepting, Places
from pangate.gate import Gate

if TYPE_CHECKING:
    from pangate.control.console import Web

log = logging.getLogger("pangate")

KEEP_ALIVE_SECONDS = 15
END_SECONDS = 2


def application(gate: Gate, web: Web | None = None) -> Starlette:
    """The whole of it as an ASGI application; `web` is the console."""
    paths: list[BaseRoute] = [*routes(gate)]
    if web is not None:
        from pangate.control import console

        paths += console.routes(web)
    return Starlette(routes=paths)


def open_console(gate: Gate) -> Web | None:
    """The console, where the configuration asks for one."""
    settings = gate.config.control.console
    if settings is None:
        return None
    # what only some need takes a while to import
    from pangate.control.console import Web

    return Web(gate, settings)


class Control(uvicorn.Server):
    """The listener, in the gateway's own event loop."""

    def __init__(self, gate: Gate, settings: ControlSettings) -> None:
        self.ending = False
        self._web = open_console(gate)
        self._places = Places(settings)
        super().__init__(
            uvicorn.Config(
                application(gate, self._web),
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=END_SECONDS,
                ssl_certfile=settings.certificate,
                ssl_keyfile=settings.key,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As the server does it, but with connections of ours."""
        await self.lifespan.startup()  # nothing, but it is asked for its state
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            return self._places.protocol(self.config, self.server_state, self.lifespan.state, loop)

        # what the server does with these is to close them
        self.servers = [
            Accepting(self._places, sock, self.config.ssl, connection, float(END_SECONDS))  # type: ignore[misc]
            for sock in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the service's."""
        yield

    async def run_on(self, listener: socket.socket) -> None:
        """Serve until cancelled; then what was asked is answered, within bounds."""
        serving = asyncio.get_running_loop().create_task(self.serve(sockets=[listener]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self.should_exit = True
            if self._web is not None:
                self._web.ending.set()
            await asyncio.wait({serving}, timeout=END_SECONDS + 1)
            serving.cancel()
            raise
        finally:
            if self._web is not None:
                await self._web.close()
