"""The first process of a gateway with several workers. It serves no agent: it starts the workers, replaces
one that ends, hands signals on, and has what there can be only one of: the desk and its store, the
control plane, the listener for metrics, and the counts that hold over all workers.

Each worker accepts on a socket of its own, of which this process keeps a copy: who connects to a worker that
has ended waits for the next one. What the processes say to each other goes over pairs of sockets that
nobody else can reach (link.py)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest

from pangate.approvals import afar
from pangate.approvals.desk import Desk
from pangate.config import Config
from pangate.config.workers import place_of
from pangate.errors import PangateError
from pangate.gate import Gate
from pangate.metrics import counter, gauge
from pangate.proxy import Gateway
from pangate.service import Service
from pangate.service.counts import Sessions
from pangate.service.joined import joined
from pangate.service.link import Link
from pangate.service.monitor import Answer
from pangate.service.publishing import Publishing
from pangate.service.sealing import Sealing
from pangate.service.state import EXPOSITION, SCRAPE_SECONDS, State

log = logging.getLogger("pangate")

AGAIN_SECONDS = 0.5
"""How long after a worker's end the next one is started."""

START_SECONDS = 60.0
SILENT_SECONDS = 10.0
"""A worker that says nothing for so long is not ready."""

KILL_SECONDS = 10.0
"""Beyond what draining may take, a worker has so long to end by itself."""

_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What the service manager says to this process alone."""


class Started(PangateError):
    """A worker did not come up."""


class Child:
    """One worker, whichever process it is by now."""

    def __init__(self, number: int, listener: socket.socket) -> None:
        self.number, self.listener = number, listener
        self.process: asyncio.subprocess.Process | None = None
        self.link: Link | None = None
        self.requests: afar.Counter | None = None
        self.up = asyncio.Event()
        self.state: dict[str, Any] = {}
        self.heard = 0.0
        """When it last said how it stands."""
        self.restarts = 0

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.process is not None and self.process.returncode is None

    @property
    def silent(self) -> bool:
        """Whether it has not said for long how it stands."""
        return not self.up.is_set() or time.monotonic() - self.heard > SILENT_SECONDS

    def tell(self, name: str, value: object = None) -> None:
        """Say something to it, if it is there to hear."""
        if self.link is not None and self.up.is_set():
            self.link.tell(name, value)


class Supervisor(Service):
    """See above."""

    def __init__(self, config: Config, level: str | None = None) -> None:
        super().__init__(config, level)
        self._children: dict[int, Child] = {}
        self._sessions = Sessions()

    def _listen(self) -> socket.socket:
        first: socket.socket | None = None
        for number in range(1, self._config.process.workers + 1):
            host, port = self._config.listen.host, self._config.listen.port
            if first is not None:
                port = first.getsockname()[1]
            limits = self._config.limits
            listener = self._bound("listen", host, port, shared=True, limits=limits)
            first = first or listener
            self._children[number] = Child(number, listener)
        assert first is not None
        return first

    async def _open_desk(self, gate: Gate) -> Desk:
        gate.open_elsewhere = self._sessions.total
        gate.wrong_elsewhere = lambda: wrong_with(self._children, gate.config.digest)
        return await super()._open_desk(gate)

    async def _serve(self, listener: socket.socket) -> None:
        """Start the workers and keep them running, until cancelled."""
        await asyncio.gather(*map(self._keep, self._children.values()))

    def _more_work(self, stack: contextlib.AsyncExitStack) -> list[Coroutine[object, object, None]]:
        stack.push_async_callback(self._end)
        return []

    async def _started(self, listener: socket.socket) -> None:
        waiting = [asyncio.ensure_future(child.up.wait()) for child in self._children.values()]
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            async with asyncio.timeout(START_SECONDS):
                both: set[asyncio.Future[Any]] = {asyncio.gather(*waiting), stopped}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise Started(f"the workers were not up within {START_SECONDS:g} seconds") from None
        finally:
            stopped.cancel()
            for one in waiting:
                one.cancel()
        if self._stop.is_set():
            if self._failed:
                raise Started(self._failed)
            return
        log.info("%d workers serve", len(self._children))
        await super()._started(listener)

    _failed = ""

    # --- workers ------------------------------------------------------------------------------

    async def _keep(self, child: Child) -> None:
        while True:
            await self._start(child)
            assert child.process is not None
            code = await child.process.wait()
            was_up = child.up.is_set()
            await self._over(child)
            if self._stop.is_set():
                return
            if not was_up and not child.restarts:
                self._failed = f"worker {child.number} did not start ({code}); its log says why"
                self._stop.set()
                return
            log.error(
                "worker %d ended (%d), and its sessions with it; another takes its place",
                child.number,
                code,
            )
            self._record("worker.ended", False, {"worker": child.number, "code": code})
            child.restarts += 1
            await asyncio.sleep(AGAIN_SECONDS)

    async def _start(self, child: Child) -> None:
        config = self._gateway.config
        place_of(config, child.number).mkdir(mode=0o700, exist_ok=True)
        mine, its = socket.socketpair()
        with its:
            words = ["--config", str(config.path), "--number", str(child.number)]
            words += ["--listener", str(child.listener.fileno()), "--link", str(its.fileno())]
            if self._level is not None:
                words += ["--log-level", self._level]
            child.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pangate.service.worker", *words),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(child.listener.fileno(), its.fileno()),
                env={name: text for name, text in os.environ.items() if name not in _NOT_INHERITED},
                # what the terminal sends is for this process
                start_new_session=True,
            )
        child.link = await Link.open(
            mine, lambda name, value: self._hear(child, name, value), lambda: None
        )
        desk = self._gateway.gate.desk
        assert desk is not None
        child.requests = afar.Counter(desk, child.link.tell, child.link.ask)

    async def _over(self, child: Child) -> None:
        """The process of a worker has ended: what it held is free."""
        child.up.clear()
        child.state = {}
        if child.link is not None:
            child.link.close()
            child.link = None
        self._sessions.gone(child.number)
        if child.requests is not None:
            await child.requests.gone("its session ended with a process of the gateway")
            child.requests = None

    async def _hear(self, child: Child, name: str, value: Any) -> object:
        gate = self._gateway.gate
        match name:
            case "hello":
                assert gate.desk is not None
                return {"key": gate.desk.key}
            case "ready":
                child.heard = time.monotonic()
                child.up.set()
            case "state":
                child.state, child.heard = value, time.monotonic()
            case "take":
                session, key, most = value
                self._sessions.take(child.number, session, tuple(key), most)
            case "leave":
                self._sessions.leave(child.number, value)
            case "failed":
                gate.authenticator.failed(value)
                for other in self._children.values():
                    if other is not child:
                        other.tell("failed", value)
            case "cancel":
                key, origin = value
                owner = self._children.get(key[0])
                if owner is not None and owner.link is not None and owner.up.is_set():
                    await owner.link.ask("cancel", (key, origin))
            case _ if name.startswith("approval.") and child.requests is not None:
                return await child.requests.hear(name, value)
        return None

    # --- signals ------------------------------------------------------------------------------

    async def reload(self) -> None:
        """Reload here, and when that is good, everywhere."""
        before = self._gateway.config
        await super().reload()
        if self._gateway.config is not before:
            for child in self._children.values():
                child.tell("reload")

    async def _drain(self, seconds: float) -> None:
        desk = self._gateway.gate.desk
        if desk is not None:
            await desk.shut("the gateway is shutting down (limits.drain_seconds); connect again")
        for child in self._children.values():
            child.listener.close()
            child.tell("stop")
        ended = asyncio.ensure_future(self._ended())
        hurry = asyncio.ensure_future(self._at_once.wait())
        limits = self._gateway.config.limits
        most = seconds + limits.close_seconds + KILL_SECONDS
        await asyncio.wait({ended, hurry}, timeout=most, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not ended.done():
            for child in self._children.values():
                child.tell("stop")
            await asyncio.wait({ended}, timeout=limits.close_seconds + KILL_SECONDS)
        ended.cancel()
        await self._gateway.drain(0, self._at_once)

    async def _ended(self) -> None:
        await asyncio.gather(
            *(child.process.wait() for child in self._children.values() if child.process)
        )

    async def _end(self) -> None:
        """No worker outlives this process."""
        for child in self._children.values():
            child.listener.close()
            if child.alive:
                assert child.process is not None
                log.error("worker %d did not end by itself", child.number)
                with contextlib.suppress(ProcessLookupError):
                    child.process.kill()
                await child.process.wait()
            await self._over(child)

    # --- how it stands ------------------------------------------------------------------------

    def _make_state(self, sealing: Sealing | None, publishing: Publishing | None) -> State:
        return JoinedState(self._gateway, sealing, publishing, self._children)


def wrong_with(children: dict[int, Child], digest: str) -> list[str]:
    """Why workers should get no new sessions, by what they say of themselves. `digest` is that of the
    configuration that all of them should have."""
    reasons = []
    for number, child in children.items():
        if child.silent:
            reasons.append(f"worker {number} is not up")
        if child.state.get("config", digest) != digest:
            reasons.append(f"worker {number} has another configuration")
        reasons += [f"worker {number}: {reason}" for reason in child.state.get("not_ready", ())]
    return reasons


class JoinedState(State):
    """How this process and all workers stand."""

    def __init__(
        self,
        gateway: Gateway,
        sealing: Sealing | None,
        publishing: Publishing | None,
        children: dict[int, Child],
    ) -> None:
        super().__init__(gateway, sealing, publishing)
        self._children = children
        self._joined = b""
        self._joined_at = float("-inf")

    def not_ready(self) -> list[str]:
        """Reasons of all."""
        here = super().not_ready()
        return [*here, *wrong_with(self._children, self._gateway.config.digest)]

    def metrics(self) -> Answer:
        """The sums."""
        now = time.monotonic()
        if now - self._joined_at >= SCRAPE_SECONDS:
            texts = {0: super().metrics().body.decode()}
            for number, child in self._children.items():
                if "metrics" in child.state:
                    texts[number] = child.state["metrics"].decode()
            registry = CollectorRegistry()
            registry.register(_Fixed(joined(texts)))
            self._joined, self._joined_at = generate_latest(registry), now
        return Answer(200, self._joined, EXPOSITION)

    def collect(self) -> Iterator[Metric]:
        """What a gateway with workers has beside."""
        yield from super().collect()
        up = {str(n): float(not child.silent) for n, child in self._children.items()}
        yield gauge("worker_up", "1 while a worker serves.", up, "worker")
        restarts = {str(n): child.restarts for n, child in self._children.items()}
        yield counter(
            "worker_restarts", "Workers that ended and were replaced.", restarts, "worker"
        )


class _Fixed:
    """Metrics that are there already."""

    def __init__(self, found: Any) -> None:
        self._found = list(found)

    def collect(self) -> Any:
        """All of them."""
        return self._found
