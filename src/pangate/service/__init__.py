"""The gateway as a service: from its start by way of reloads to its end, and what whoever runs it can see
meanwhile. It serves no agent; `proxy` does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

import msgspec
import uvloop

from pangate import config as configuration
from pangate import credentials, logs
from pangate.approvals import open_desk
from pangate.approvals.channels import Channel, open_channels
from pangate.approvals.desk import Desk
from pangate.audit import open_recorder, pan_mask
from pangate.audit.inbox import Inbox, inbox_of
from pangate.audit.recording import open_recordings
from pangate.auth import open_authenticator
from pangate.config import Config, LimitSettings
from pangate.errors import ConfigError, RecordFailed
from pangate.gate import Gate
from pangate.model import Event
from pangate.proxy import Gateway, sockets
from pangate.service import monitor, system
from pangate.service.publishing import Publishing
from pangate.service.sealing import Sealing
from pangate.service.state import State

log = logging.getLogger("pangate")

BEAT_SECONDS = 0.5
"""How often the service looks after itself: the lag of its event loop, pending records, keys that are due."""

SWEEP_SECONDS = 3600.0
"""How often requests for approval that are over for long enough are forgotten."""

MOST_PROBLEMS = 100
"""Problems of one file that go into the record; the log has all."""

NEEDS_RESTART = ("audit", "monitor", "process", "state", "control")
"""Tables that a reload leaves as they are. So it does with `listen` when its host or port is another."""


class Service:
    """One gateway from start to end. `level` is the command line's, which a reload does not change."""

    def __init__(self, config: Config, level: str | None = None) -> None:
        self._config = config
        self._level = level
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._hangup = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second one ends at once. SIGHUP reloads. Raises
        ConfigError or RecordFailed when it cannot start."""
        config = self._config
        async with contextlib.AsyncExitStack() as stack:
            self._handle_signals(stack)
            listener = stack.enter_context(self._listen())
            tls = _contexts(config)
            sealing = self._sealing()
            publishing = None
            if config.audit.anchors or config.audit.sinks:
                publishing = Publishing(config.audit, config.log)
            if publishing is not None:
                # after the sealer: the last checkpoint is published too
                stack.push_async_callback(publishing.stop)
            if sealing is not None:
                # what the recorder writes at its end is sealed too
                stack.push_async_callback(sealing.stop)
            recorder = open_recorder(config)
            stack.callback(recorder.close)
            recordings = open_recordings(config)
            stack.callback(recordings.close)
            self._inbox = Inbox(inbox_of(config.audit.path))
            gate = Gate(config, open_authenticator(config), recorder, recordings)
            _note_unfinished(gate)
            stack.push_async_callback(lambda: gate.authenticator.close())
            gate.desk = await self._open_desk(gate)
            stack.push_async_callback(gate.desk.close)
            self._gateway = Gateway(gate, tls)
            stack.callback(self._take_notes)
            self._state = self._make_state(sealing, publishing)
            if config.monitor.port is not None:
                paths = {
                    "/metrics": self._state.metrics,
                    "/healthz": self._state.healthz,
                    "/readyz": self._state.readyz,
                }
                watched = await monitor.listen(config.monitor, paths)
                stack.callback(watched.close)
            work = [self._beat(), self._reloads(), *self._more_work(stack), *self._control(stack)]
            if sealing is not None:
                work.append(sealing.run())
            if publishing is not None:
                work.append(publishing.run())
            async with self._running(*work):
                async with self._running(self._serve(listener)):
                    system.spare_collector()
                    await self._started(listener)
                    await self._stop.wait()
                listener.close()
                self._state.draining = True
                system.notify("STOPPING=1\nSTATUS=draining")
                await self._drain(gate.config.limits.drain_seconds)
        log.info("stopped")

    def _sealing(self) -> Sealing | None:
        """Who seals the record, if it is to be sealed."""
        audit = self._config.audit

        def rotates(data: Mapping[str, object]) -> None:
            self._record("key.rotated", True, data)

        if not audit.seal_seconds:
            return None
        return Sealing(audit, self._config.log, rotates, self._config.limits.credential_seconds)

    # What is otherwise where there are several processes

    def _serve(self, listener: socket.socket) -> Coroutine[object, object, None]:
        return self._gateway.run(listener)

    async def _started(self, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        plain = "" if self._gateway.contexts.listener else " without TLS"
        log.info("listening on %s:%d%s", host, port, plain)
        system.notify(f"READY=1\nSTATUS=listening on {host}:{port}")

    async def _drain(self, seconds: float) -> None:
        await self._gateway.drain(seconds, self._at_once)

    async def _open_desk(self, gate: Gate) -> Desk:
        told = _channels(gate.config)
        return await open_desk(gate.config, gate.record, gate.durable, pan_mask(), told)

    def _make_state(self, sealing: Sealing | None, publishing: Publishing | None) -> State:
        return State(self._gateway, sealing, publishing)

    def _more_work(self, stack: contextlib.AsyncExitStack) -> list[Coroutine[object, object, None]]:
        return []

    @contextlib.asynccontextmanager
    async def _running(self, *work: Coroutine[object, object, None]) -> AsyncIterator[None]:
        """Run `work` until the block ends. When one of it ends by itself, the gateway stops: it would be
        half of one."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                log.critical("internal error, the gateway stops", exc_info=task.exception())
                self._stop.set()

        tasks = [asyncio.get_running_loop().create_task(one) for one in work]
        for task in tasks:
            task.add_done_callback(ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _listen(self) -> socket.socket:
        listen, limits = self._config.listen, self._config.limits
        return self._bound("listen", listen.host, listen.port, limits=limits)

    def _bound(
        self,
        table: str,
        host: str,
        port: int,
        *,
        shared: bool = False,
        limits: LimitSettings | None = None,
    ) -> socket.socket:
        try:
            return sockets.listen(host, port, shared=shared, limits=limits)
        except OSError as wrong:
            raise ConfigError(
                [
                    f"{table}.port: cannot listen on {host}:{port}: "
                    f"{wrong.strerror or wrong}; name an address and a free port of this machine"
                ]
            ) from None

    def _control(self, stack: contextlib.AsyncExitStack) -> list[Coroutine[object, object, None]]:
        """The control plane's listener, where there is one."""
        settings = self._config.control
        if settings.port is None:
            return []
        # what only some need takes a while to import
        from pangate.control import Control

        listener = stack.enter_context(self._bound("control", settings.host, settings.port))
        try:
            control = Control(self._gateway.gate, settings)
        except OSError as wrong:
            raise ConfigError(
                [f"control.certificate: cannot be used: {sockets.why(wrong)}"]
            ) from None
        host, port = listener.getsockname()[:2]
        scheme = "http" if settings.certificate is None else "https"
        log.info("control plane at %s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)
        return [control.run_on(listener)]

    def _handle_signals(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: self._asked_to_stop,
            signal.SIGINT: self._asked_to_stop,
            signal.SIGHUP: self._hangup.set,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
            stack.callback(loop.remove_signal_handler, number)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            log.warning("asked to stop again: sessions are ended now")
            self._at_once.set()
        self._stop.set()

    # --- reload -------------------------------------------------------------------------------

    async def _reloads(self) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            if self._stop.is_set():
                continue
            system.notify_reloading()
            await self.reload()
            system.notify("READY=1")

    async def reload(self) -> None:
        """Read the file again and put it in force, all of it or, when anything is wrong, nothing. What
        happened is logged, recorded and counted."""
        before = self._gateway.config
        try:
            # In a thread: its files, certificates too, may be on a disk that is slow or gone.
            config, tls, waiting = await asyncio.to_thread(self._read, before)
        except ConfigError as wrong:
            self._refuse(wrong.problems)
            return
        except OSError as wrong:
            self._refuse([f"a file of its TLS cannot be used: {sockets.why(wrong)}"])
            return
        except Exception as wrong:
            log.error("internal error in the reload", exc_info=wrong)
            self._refuse(["internal error in the gateway; see its log"])
            return
        gate = self._gateway.gate
        gate.recorder.accept_clock()
        # No await from here on: no session sees half of it, and every later event comes after this one.
        authenticator = open_authenticator(config, gate.authenticator)
        self._gateway.reconfigure(config, authenticator, tls)
        if gate.desk is not None:
            gate.desk.use_soon(_channels(config))
        logs.configure(config.log, self._level)
        self._state.loaded_at = time.time()
        for table in waiting:
            log.warning("[%s] has changed and needs a restart; what it said before stays", table)
        log.info("configuration %s is in force", config.digest[:12])
        data = {"config": config.digest, "before": before.digest, "needs_restart": waiting}
        self._record("config.reloaded", True, data)
        self._refresh_keys()

    def _read(self, before: Config) -> tuple[Config, sockets.Contexts, list[str]]:
        """What to put in force, with its TLS, and the tables that wait for a restart. In a thread."""
        config = configuration.load(before.path)
        waiting = [name for name in NEEDS_RESTART if getattr(config, name) != getattr(before, name)]
        old, new = before.listen, config.listen
        listen_waits = (old.host, old.port) != (new.host, new.port)
        if listen_waits:
            # All of the table: whether plaintext is allowed hangs on the address.
            waiting.insert(0, "listen")
        config = msgspec.structs.replace(
            config, **{name: getattr(before, name) for name in waiting}
        )
        keep = self._gateway.contexts if listen_waits else None
        return config, sockets.Contexts(config, keep), waiting

    def _refuse(self, problems: Sequence[str]) -> None:
        for problem in problems:
            log.error("the configuration is not reloaded: %s", problem)
        data = {
            "config": self._gateway.config.digest,
            "problems": list(problems[:MOST_PROBLEMS]),
            "count": len(problems),
        }
        self._record("config.refused", False, data)

    def _record(self, code: str, success: bool, data: Mapping[str, object]) -> None:
        try:
            self._gateway.gate.event(code, success, data)
            self._gateway.gate.written()
        except RecordFailed as wrong:
            # No statement goes on either, and this event is written before the next one is.
            log.error("%s", wrong.detail)

    # --- in between ---------------------------------------------------------------------------

    async def _beat(self) -> None:
        watched = "WATCHDOG_USEC" in os.environ
        lag = self._gateway.gate.metrics.loop_lag_seconds
        sweep = time.monotonic()
        while True:
            due = time.monotonic() + BEAT_SECONDS
            if due >= sweep and self._gateway.gate.desk is not None:
                self._gateway.gate.desk.sweep_soon()
                sweep = due + SWEEP_SECONDS
            self._refresh_keys()
            self._take_notes()
            await asyncio.sleep(BEAT_SECONDS)
            lag.observe(max(0.0, time.monotonic() - due))
            # what could not be written is tried again, so that /readyz can come back by itself
            self._gateway.gate.look()
            self._gateway.write_soon()
            if watched:
                system.notify("WATCHDOG=1")

    def _take_notes(self) -> None:
        """Take notes of who read the record into it."""
        gate = self._gateway.gate
        if gate.record_failure:
            return

        def record(code: str, who: str, success: bool, data: Mapping[str, object]) -> None:
            gate.record(Event(code, time.time(), "-", who, "local", "audit", success, data))

        # What could not be written is kept by the recorder; its notes are removed once it is.
        with contextlib.suppress(RecordFailed):
            self._inbox.take(record)
            gate.written()
            self._inbox.done()

    def _refresh_keys(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            authenticator = self._gateway.gate.authenticator
            self._refreshing = asyncio.get_running_loop().create_task(authenticator.refresh())


def _note_unfinished(gate: Gate) -> None:
    """Record what a gateway that was killed had recorded of its sessions."""
    for session, data in gate.recordings.unfinished():
        log.warning("session %s was not ended: %s", session, data["file"])
        gate.record(
            Event(
                "session.unfinished", time.time(), session, "gateway", "local", "audit", True, data
            )
        )
        # though the clock may have gone back: nothing follows from it
        gate.recorder.flush()


def _channels(config: Config) -> list[Channel]:
    seconds = config.limits.credential_seconds
    return open_channels(
        config, lambda settings, key: credentials.read_secret(settings, key, seconds)
    )


def _contexts(config: Config) -> sockets.Contexts:
    try:
        return sockets.Contexts(config)
    except OSError as wrong:
        raise ConfigError([f"a file of its TLS cannot be used: {sockets.why(wrong)}"]) from None


def serve(config: Config, level: str | None = None) -> None:
    """Be a gateway until told to stop: the whole process. `level` is the least that is logged, if not
    what the configuration says. Raises ConfigError or RecordFailed."""
    logs.configure(config.log, level)
    system.forbid_dumps()
    if config.process.lock_memory:
        why = system.lock_memory()
        if why:
            log.warning("memory, and with it secrets, may be swapped out: %s", why)
    uvloop.run(_service(config, level).run())


def _service(config: Config, level: str | None) -> Service:
    if config.process.workers == 1:
        return Service(config, level)
    # it builds on this file
    from pangate.service.supervisor import Supervisor

    return Supervisor(config, level)
