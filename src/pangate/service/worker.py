"""A worker: one of several processes that serve agents on one port, with a record of its own.

The first process (supervisor.py) starts it, holds the socket that it accepts on, and is asked for what has to
hold over all workers. When the first process is gone, so is the worker."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import uvloop

from pangate import config as configuration
from pangate import logs
from pangate.approvals.afar import DeskAfar
from pangate.approvals.desk import Desk
from pangate.audit import pan_mask
from pangate.config import Config
from pangate.config.workers import of_worker
from pangate.errors import ConfigError, LimitReached, RecordFailed, StateFailed
from pangate.gate import Gate
from pangate.proxy import sockets
from pangate.service import Service, system
from pangate.service.link import Link, LinkLost

log = logging.getLogger("pangate")

STATE_SECONDS = 1.0
"""How often the first process is told how a worker stands."""


class _Line:
    """The link as the desk and the gate have it: what cannot be asked is refused."""

    def __init__(self, link: Link) -> None:
        self._link = link

    # For the desk

    async def ask(self, name: str, value: object) -> Any:
        try:
            return await self._link.ask(name, value)
        except LinkLost as wrong:
            raise StateFailed(f"the gateway's first process cannot be asked: {wrong}") from None

    def tell(self, name: str, value: object) -> None:
        self._link.tell(name, value)

    # For the gate

    async def take(self, session: str, key: tuple[str, str], most: int | None) -> None:
        if most is None:
            self._link.tell("take", (session, key, None))
            return
        try:
            await self._link.ask("take", (session, key, most))
        except LinkLost:
            self.leave(session)
            raise LimitReached(
                "it cannot be known how many sessions this identity has; try again"
            ) from None
        except asyncio.CancelledError:
            # it may have been counted, or refused, or neither yet
            self.leave(session)
            raise

    def leave(self, session: str) -> None:
        self._link.tell("leave", session)

    def failed(self, address: str) -> None:
        self._link.tell("failed", address)

    async def cancel(self, key: bytes, origin: str) -> None:
        with contextlib.suppress(LinkLost):
            await self._link.ask("cancel", (key, origin))


class Worker(Service):
    """The process. Signals are the first process's, which says what becomes of them."""

    def __init__(
        self,
        config: Config,
        number: int,
        listener: socket.socket,
        link: socket.socket,
        level: str | None = None,
    ) -> None:
        super().__init__(of_worker(config, number), level)
        self._whole = config
        self._number = number
        self._accepted_on = listener
        self._link_socket = link

    async def run(self) -> None:
        """Serve until the first process says to stop, or is gone."""
        self._link = await Link.open(self._link_socket, self._hear, self._lost)
        self._line = _Line(self._link)
        try:
            self._hello: dict[str, Any] = await self._link.ask("hello")
            await super().run()
        finally:
            self._link.close()

    async def _hear(self, name: str, value: Any) -> object:
        gate = self._gateway.gate
        match name:
            case "stop":
                self._asked_to_stop()
            case "reload":
                self._hangup.set()
            case "failed":
                gate.authenticator.failed(value)
            case "cancel":
                key, origin = value
                await self._gateway.cancel_here(key, origin)
            case "approval.count":
                return await cast(DeskAfar, gate.desk).counted_here(value)
            case "approval.changed":
                cast(DeskAfar, gate.desk).changed(value)
        return None

    def _lost(self) -> None:
        if not self._stop.is_set():
            log.error("the gateway's first process is gone; worker %d ends", self._number)
        # nothing can be decided or counted any more, and another gateway may want the record
        self._stop.set()
        self._at_once.set()

    def _handle_signals(self, stack: contextlib.AsyncExitStack) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _listen(self) -> socket.socket:
        self._accepted_on.setblocking(False)
        return self._accepted_on

    async def _open_desk(self, gate: Gate) -> Desk:
        gate.peers = self._line
        return DeskAfar(
            self._line,
            self._hello["key"],
            gate.config.desk,
            gate.record,
            gate.durable,
            pan_mask(),
        )

    async def _started(self, listener: socket.socket) -> None:
        self._gateway.number = self._number
        self._link.tell("ready")
        log.info("worker %d serves, process %d", self._number, os.getpid())

    def _more_work(self, stack: contextlib.AsyncExitStack) -> list[Coroutine[object, object, None]]:
        return [self._report()]

    async def _report(self) -> None:
        while True:
            value = {
                "metrics": self._state.metrics().body,
                "not_ready": self._state.not_ready(),
                "config": self._gateway.config.digest,
                "at": time.time(),
            }
            self._link.tell("state", value)
            await asyncio.sleep(STATE_SECONDS)

    def _read(self, before: Config) -> tuple[Config, sockets.Contexts, list[str]]:
        config, tls, waiting = super()._read(self._whole)
        self._whole = config
        return of_worker(config, self._number), tls, waiting


def main() -> int:
    """A worker's process."""
    parser = argparse.ArgumentParser(
        description="Serve agents. The gateway starts this by itself, so often as process.workers says."
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--log-level")
    options = parser.parse_args()
    try:
        config = configuration.load(options.config)
        logs.configure(config.log, options.log_level)
        system.forbid_dumps()
        if config.process.lock_memory:
            system.lock_memory()
        listener = socket.socket(fileno=options.listener)
        link = socket.socket(fileno=options.link)
        worker = Worker(config, options.number, listener, link, options.log_level)
        uvloop.run(worker.run())
    except ConfigError as wrong:
        for problem in wrong.problems:
            log.critical("worker %d: %s", options.number, problem)
        return 1
    except (RecordFailed, StateFailed) as wrong:
        log.critical("worker %d: %s", options.number, wrong.detail)
        return 1
    except LinkLost as wrong:
        log.critical("worker %d: %s", options.number, wrong)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
