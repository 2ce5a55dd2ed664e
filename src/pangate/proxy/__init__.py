"""The sockets of the data path. This file listens, welcomes agents and reaches resources; session.py moves
the bytes of one connection; sockets.py is what both need of the system. There are no others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from pangate import credentials
from pangate._pump import Turn
from pangate._wire import Poll
from pangate.audit.recording import FLUSH_SECONDS
from pangate.auth import Authenticator
from pangate.config import Config, LimitSettings, ResourceSettings
from pangate.errors import (
    LimitReached,
    PangateError,
    ProtocolError,
    RecordFailed,
    ResourceUnavailable,
)
from pangate.gate import Gate, GateSession, call_soon
from pangate.logs import SESSION, Episode
from pangate.protocols import (
    Codec,
    Count,
    Errand,
    Estimate,
    Knowledge,
    StartTLS,
    ToFrontend,
    Ways,
    open_knowledge,
)
from pangate.proxy import sockets
from pangate.proxy.ahead import Ahead
from pangate.proxy.pool import Pool
from pangate.proxy.session import Session

log = logging.getLogger("pangate")

ACCEPT_AGAIN_SECONDS = 0.1
"""How long nothing is accepted when the system gives no descriptor for it."""

OUTCOME_SECONDS = 0.02
"""How long the record of a statement's outcome may wait to be written together with others."""


class _Accepting:
    """Takes the connections of one listening socket."""

    def __init__(self, gateway: Gateway, listener: socket.socket) -> None:
        self._gateway, self._listener = gateway, listener
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        """Done when nothing more can be accepted, with why."""
        self._trouble = Episode()
        self._limits: LimitSettings | None = None
        self._pause: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """From now on."""
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def end(self) -> None:
        """No more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        limits = self._gateway.config.limits
        changed = limits is not self._limits
        try:
            if changed:
                # connections have it of the socket that they came to
                sockets.watch(self._listener, limits)
                self._limits = limits
            sock, address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as wrong:
            # out of descriptors: the ones that are open go on
            if self._trouble.begins():
                log.error("cannot accept a connection: %s", wrong.strerror)
            self._loop.remove_reader(self._listener)
            self._pause = self._loop.call_later(ACCEPT_AGAIN_SECONDS, self.begin)
            return
        except Exception as wrong:  # noqa: BLE001 - told to who runs it
            # it would be called again at once, and for ever
            self._loop.remove_reader(self._listener)
            if not self.failed.done():
                self.failed.set_exception(wrong)
            return
        if changed or not sockets.INHERITED:
            sockets.watch(sock, limits)
        self._gateway.welcome(sock, f"{address[0]}:{address[1]}" if address else "unix")


class Gateway:
    """The listener and what its sessions share."""

    def __init__(self, gate: Gate, contexts: sockets.Contexts) -> None:
        self.gate = gate
        self.contexts = contexts
        self.ways = _ways(gate.config)
        """How agents may authenticate."""
        self._sessions: set[Session] = set()
        self._closing: set[Session] = set()
        self._keys: dict[bytes, Session] = {}
        self.number = 0
        """Which of the gateway's processes this is, 0 where there is one alone; cancel keys begin with it."""
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing: asyncio.TimerHandle | None = None
        self.turn = Turn(self._loop.call_soon, gate, self._commit, self._forward)
        """What waits for the next write of the record, and writes it."""
        self.poll = self._poll()
        """Reads the sockets of busy sessions together; None where the system cannot."""
        self._uncommitted: dict[Session, None] = {}
        """Sessions with commands whose events are not in the kernel yet, first come first."""
        self._unsynced: dict[Session, None] = {}
        """Sessions with commands whose events are not on the disk yet, and have to be."""
        self._syncing = False
        self._recording: asyncio.TimerHandle | None = None
        self._errands: dict[str, asyncio.Lock] = {}
        self._counts: dict[str, asyncio.Lock] = {}
        self._expiring: set[Knowledge] = set()
        self._knowledge: dict[str, tuple[ResourceSettings, Knowledge]] = {}
        self._knowledge = self._knowledge_for(gate.config)
        self._pools: dict[str, tuple[ResourceSettings, Pool]] = {}

    def _poll(self) -> Poll | None:
        try:
            return Poll(self._loop, self.turn)
        except (OSError, NotImplementedError) as wrong:
            log.info("sockets are read one by one: %s", wrong)
            return None

    @property
    def config(self) -> Config:
        """The configuration that is in force."""
        return self.gate.config

    def tls(self, gate: GateSession) -> ssl.SSLContext | None:
        """TLS of a connection that is accepted now. An address with too many failed logins is not asked for a
        certificate, so that none is looked at and it can be told why."""
        return self.contexts.listener_alone if gate.throttled else self.contexts.listener

    @property
    def connections(self) -> int:
        """Connections from agents that are open, their logins included."""
        return len(self._sessions)

    def reconfigure(
        self, config: Config, authenticator: Authenticator, contexts: sockets.Contexts
    ) -> None:
        """Put another configuration in force, all of it at once. Open sessions go on with their
        connections as they are."""
        knowledge = self._knowledge_for(config)
        self.gate.reconfigure(config, authenticator)
        self.contexts, self._knowledge = contexts, knowledge
        self.ways = _ways(config)
        for name, (resource, pool) in list(self._pools.items()):
            if config.resources_by_name.get(name) != resource:
                # sessions that are open end their connections with themselves
                pool.close()
                del self._pools[name]
        sockets.allow_descriptors(config)

    def _knowledge_for(self, config: Config) -> dict[str, tuple[ResourceSettings, Knowledge]]:
        # of a resource whose settings are the same, what is known stays known
        return {
            resource.name: (resource, self.knowledge(resource)) for resource in config.resources
        }

    def knowledge(self, resource: ResourceSettings) -> Knowledge:
        """What is known of `resource`, which an older configuration may have had."""
        known = self._knowledge.get(resource.name)
        if known is not None and known[0] == resource:
            return known[1]
        return open_knowledge(
            resource.protocol, resource.columns, sensitive=resource.sensitive_columns
        )

    def pool(self, resource: ResourceSettings) -> Pool:
        """Where connections to `resource` wait, which an older configuration may have had."""
        known = self._pools.get(resource.name)
        if known is not None and known[0] == resource:
            return known[1]
        pool = Pool(resource.pool)
        if self.config.resources_by_name.get(resource.name) != resource:
            pool.close()  # nothing comes for it any more, and nobody would close it later
            return pool
        if resource.pool.ready:
            pool.ahead = Ahead(self, resource, pool)
        self._pools[resource.name] = resource, pool
        return pool

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools of resources that have been asked for, by name."""
        return {name: pool for name, (_, pool) in self._pools.items()}

    async def run(self, listener: socket.socket) -> None:
        """Accept agents until cancelled."""
        sockets.allow_descriptors(self.config)
        accepting = _Accepting(self, listener)
        accepting.begin()
        try:
            await accepting.failed
        finally:
            accepting.end()

    def welcome(self, sock: socket.socket, origin: str) -> None:
        """Begin with a connection from `origin`."""
        task = self._loop.create_task(self._welcome(sock, origin))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _welcome(self, sock: socket.socket, origin: str) -> None:
        """From the accepted socket to a session that logs in, within limits.login_seconds."""
        sock.setblocking(False)
        session = Session(self, origin)
        # of this task, and so of everything that its connection will call
        SESSION.set(session.gate.id)
        self._sessions.add(session)
        if len(self._sessions) > self.config.limits.max_sessions:
            await self._turn_away(session, sock)
            return
        session.welcome = asyncio.current_task()
        session.late = self._loop.call_later(self.config.limits.login_seconds, session.too_late)
        try:
            await self._preface(session, sock)
        except ssl.SSLCertVerificationError as wrong:
            try:
                session.gate.refused_certificate(sockets.why(wrong))
            except RecordFailed as failed:
                log.error("%s", failed.detail)
            session.close(sockets.why(wrong))
        except (OSError, ssl.SSLError, EOFError) as wrong:
            session.close(sockets.why(wrong))
        except PangateError as wrong:
            session.close(str(wrong))
            await sockets.say_last(sock, session.codec.refuse(wrong))  # type: ignore[arg-type]
        except Exception as wrong:
            log.error("internal error", exc_info=wrong)
            session.close("internal error")
        finally:
            session.welcome = None
            if session.closed and not hasattr(session.agent, "transport"):
                sock.close()

    async def _turn_away(self, session: Session, sock: socket.socket) -> None:
        most = self.config.limits.max_sessions
        wrong = LimitReached(f"the gateway has {most} open sessions (limits.max_sessions)")
        session.close(str(wrong))
        await sockets.say_last(sock, session.codec.refuse(wrong))
        sock.close()

    async def _preface(self, session: Session, sock: socket.socket) -> None:
        """What comes before TLS, on the bare socket: the upgrade of a transport that has begun to read
        would race with the agent's ClientHello."""
        loop = self._loop
        context: ssl.SSLContext | None = None
        first = True
        while session.codec.in_preface:
            if first and session.tls is not None and await sockets.peek(sock) == sockets.TLS_RECORD:
                context = session.tls
                session.codec.tls_started()
                break
            first = False
            actions = session.codec.frontend(await sockets.receive(sock, 8))
            for action in actions:
                match action:
                    case StartTLS():
                        await loop.sock_sendall(sock, action.reply)
                        context = session.tls
                    case ToFrontend():
                        await loop.sock_sendall(sock, action.data)
                    case _:
                        raise ProtocolError("the first bytes are not a startup packet")
            if not actions:
                # the startup packet has begun: the transport reads the rest
                break
        if context is None:
            await loop.connect_accepted_socket(lambda: session.agent, sock)
            return
        await sockets.secure(session.agent, sock, context, self.config.limits.close_seconds)

    async def connect(
        self, resource: ResourceSettings, codec: Codec
    ) -> tuple[socket.socket, ssl.SSLContext | None]:
        """A connected socket to `resource` that is ready for TLS when a context comes with it.
        Raises ResourceUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            context = self.contexts.backend(resource)
            if resource.unix:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.setblocking(False)
                await loop.sock_connect(sock, f"{resource.host}/.s.PGSQL.{resource.port}")
            else:
                sock = await sockets.connect_tcp(resource.host, resource.port)
                sockets.watch(sock, self.config.limits)
        except OSError as wrong:
            log.error("resource %s: %s", resource.name, sockets.why(wrong))
            raise ResourceUnavailable(
                f"the resource {resource.name!r} cannot be reached; try again, or tell whoever "
                "runs the gateway"
            ) from None
        if context is not None and codec.tls_request:
            try:
                await loop.sock_sendall(sock, codec.tls_request)
                # not a byte more: what follows is inside TLS
                answer = await loop.sock_recv(sock, len(codec.tls_accepted))
            except OSError:
                answer = b""
            except BaseException:
                sock.close()  # its session has gone
                raise
            if answer != codec.tls_accepted:
                sock.close()
                log.error("resource %s: the server does not speak TLS", resource.name)
                raise ResourceUnavailable(
                    f"the resource {resource.name!r} does not speak TLS; tell whoever runs the "
                    "gateway"
                )
        return sock, context

    # --- cancel requests ------------------------------------------------------------------------

    def new_key(self, session: Session) -> bytes:
        """A cancel key of our own for `session`: process id and secret, as BackendKeyData has them."""
        while True:
            random = secrets.token_bytes(session.codec.key_bytes)
            # a process id, of which clients expect that it is neither negative nor 0
            first = self.number or random[0] & 0x7F
            key = bytes((first, *random[1:3], random[3] | 1)) + random[4:]
            if key not in self._keys:
                self._keys[key] = session
                return key

    async def cancel(self, asking: Session, key: bytes) -> None:
        """Pass a cancel request on, when `key` is the key of an open session. The protocol has no
        answer to it, right or wrong."""
        origin, peers = asking.gate.origin, self.gate.peers
        if key in self._keys:
            await self.cancel_here(key, origin)
        elif peers is not None and key[0] != self.number:
            await peers.cancel(key, origin)
        asking.close("cancel request")

    async def cancel_here(self, key: bytes, origin: str) -> None:
        """The same, when the session is of this process; `origin` is who asks."""
        session = self._keys.get(key)
        if session is not None and session.held is not None:
            session.gate.event("session.cancel", True, {"asked_from": origin})
            session.gate.withdraw("cancelled by the agent")
        elif session is not None and session.resource is not None and session.backend_key:
            session.gate.event("session.cancel", True, {"asked_from": origin})
            session.gate.written()
            with contextlib.suppress(PangateError, OSError, TimeoutError):
                async with asyncio.timeout(self.config.limits.connect_seconds):
                    await self._send_cancel(session, session.resource)

    def run_for(self, work: Coroutine[object, object, None]) -> None:
        """Run something of a session that may outlive it for a moment."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop_running(self, session: Session) -> None:
        """Cancel at the resource what an ended session was running: it would not notice by itself before it
        has something to send."""
        if session.resource is not None and session.backend_key:
            self.run_for(self._stop_running(session))

    async def _stop_running(self, session: Session) -> None:
        assert session.resource is not None
        with contextlib.suppress(PangateError, OSError, TimeoutError):
            async with asyncio.timeout(self.config.limits.connect_seconds):
                await self._send_cancel(session, session.resource)

    async def _send_cancel(self, session: Session, resource: ResourceSettings) -> None:
        session.spoilt = True  # it may come late, and would hit the next owner
        key = session.backend_key  # of the connection that it has now
        sock, context = await self.connect(resource, session.codec)
        reader, writer = await sockets.streams(
            sock, context, self.config.limits.close_seconds, resource.host
        )
        try:
            writer.write(session.codec.cancel_request(key))
            await writer.drain()
            await reader.read()  # the server closes when it has done it
        finally:
            writer.close()

    # --- errands --------------------------------------------------------------------------------

    async def run_errand(
        self, session: Session, resource: ResourceSettings, errand: Errand
    ) -> None:
        """Ask the resource for what the codec of `session` has to know, on a connection of the gateway's
        own, one after the other for each resource. Raises PangateError."""
        limits = self.config.limits
        async with self._errands.setdefault(resource.name, asyncio.Lock()):
            session.gate.event("catalog.read", True, errand.summary)
            session.gate.written()
            try:
                async with asyncio.timeout(limits.connect_seconds):
                    await self._run_errand(session.codec, resource, errand)
                self._expire_later(errand.knowledge)
            except TimeoutError:
                raise ResourceUnavailable(
                    "the resource did not say in time what its columns are (limits.connect_seconds)"
                ) from None
            except (OSError, EOFError) as wrong:
                raise ResourceUnavailable(
                    f"the connection that asks for columns failed: {sockets.why(wrong)}"
                ) from None

    async def run_estimate(
        self, session: Session, resource: ResourceSettings, asking: Estimate
    ) -> None:
        """Ask the resource what a statement of `session` would concern, on a connection of the gateway's
        own. Raises PangateError."""
        async with self._errands.setdefault(resource.name, asyncio.Lock()):
            session.gate.event("statement.estimated", True, {})
            session.gate.written()
            try:
                async with asyncio.timeout(self.config.limits.connect_seconds):
                    await self._run_errand(session.codec, resource, asking)
            except TimeoutError:
                raise ResourceUnavailable(
                    "the resource did not say in time how many rows it expects "
                    "(limits.connect_seconds)"
                ) from None
            except (OSError, EOFError) as wrong:
                raise ResourceUnavailable(
                    f"the connection that asks for an estimate failed: {sockets.why(wrong)}"
                ) from None

    async def run_count(self, session: Session, resource: ResourceSettings, asking: Count) -> None:
        """Have the resource count, likewise. Raises PangateError."""
        # a lock of its own: what is counted for minutes must not keep sessions from their columns
        async with self._counts.setdefault(resource.name, asyncio.Lock()):
            seconds = self.config.limits.connect_seconds + self.config.approvals.count_seconds
            try:
                async with asyncio.timeout(seconds):
                    await self._run_errand(session.codec, resource, asking, asking.take)
            except TimeoutError:
                raise ResourceUnavailable("the resource did not count in time") from None
            except (OSError, EOFError) as wrong:
                raise ResourceUnavailable(
                    f"the connection that counts failed: {sockets.why(wrong)}"
                ) from None

    def _expire_later(self, knowledge: Knowledge) -> None:
        """Tables may be made and views changed past the gateway."""
        if knowledge not in self._expiring:
            self._expiring.add(knowledge)
            loop = asyncio.get_running_loop()
            loop.call_later(self.config.limits.catalog_seconds, self._expire, knowledge)

    def _expire(self, knowledge: Knowledge) -> None:
        self._expiring.discard(knowledge)
        knowledge.expire()

    async def _run_errand(
        self,
        codec: Codec,
        resource: ResourceSettings,
        errand: Errand | Estimate,
        take: Callable[[], bytes] = bytes,
    ) -> None:
        secret = await credentials.read(resource, self.config.limits.credential_seconds)
        sock, context = await self.connect(resource, codec)
        reader, writer = await sockets.streams(
            sock, context, self.config.limits.close_seconds, resource.host
        )
        try:
            login = errand.login(
                resource.user,
                resource.database,
                secret.reveal(),
                cleartext=sockets.cleartext(resource, context),
            )
            if context is not None:
                login.bind(sockets.end_point(writer.transport))
            writer.write(login.start())
            while not login.done:
                writer.write(login.feed(await _some(reader)))
            writer.write(errand.start())
            if login.rest:
                errand.feed(login.rest)
            while not errand.done:
                writer.write(take())
                errand.feed(await _some(reader))
        finally:
            writer.close()

    def commit_soon(self, session: Session) -> None:
        """Have what is recorded in the kernel, with one write for all sessions whose bytes came at the same
        time, and what `session` waits with forwarded then."""
        self._uncommitted[session] = None
        self.turn.others = True
        self.turn.come()

    def _commit(self) -> None:
        sessions, self._uncommitted = self._uncommitted, {}
        self.turn.others = False
        try:
            self.gate.written()
        except RecordFailed as wrong:
            for session in (*self.turn.take(), *sessions):
                session.fail(wrong)
        else:
            # the short way is taken by who has nothing on the long one, so it comes first
            self._forward((*self.turn.forward(), *sessions))

    def _forward(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            if not session.forward():
                self._unsynced[session] = None
        if self._unsynced and not self._syncing:
            # one fsync for all that wait; who comes while it runs waits for the next
            self._syncing = True
            loop = asyncio.get_running_loop()
            self.gate.recorder.sync(lambda: call_soon(loop, self._synced))

    def _synced(self) -> None:
        self._syncing = False
        sessions, self._unsynced = self._unsynced, {}
        self._forward(sessions)

    def write_soon(self) -> None:
        """Have what is recorded in the kernel within OUTCOME_SECONDS, with whatever comes by then."""
        if self._writing is None and self.gate.recorder.pending:
            loop = asyncio.get_running_loop()
            self._writing = loop.call_later(OUTCOME_SECONDS, self._write)
            self.turn.writing = True

    def _write(self) -> None:
        self._writing = None
        self.turn.writing = False
        try:
            self.gate.written()
        except RecordFailed as wrong:
            # kept, and tried again; a command that comes meanwhile is refused
            log.error("%s", wrong.detail)

    def record_soon(self) -> None:
        """Have what agents were sent recorded within FLUSH_SECONDS."""
        if self._recording is None:
            loop = asyncio.get_running_loop()
            self._recording = loop.call_later(FLUSH_SECONDS, self._flush_recordings)
            self.turn.recording = True

    def _flush_recordings(self) -> None:
        self._recording = None
        self.turn.recording = False
        try:
            again = [session.gate.flush_recording() for session in self._sessions]
        except RecordFailed as wrong:
            log.error("%s", wrong.detail)
            again = [True]
        if any(again):
            self.record_soon()
        self.write_soon()

    def forget(self, session: Session) -> None:
        """`session` is over."""
        self._sessions.discard(session)
        self._closing.add(session)
        self._keys.pop(session.key, None)

    def gone(self, session: Session) -> None:
        """The connections of `session` are closed as well."""
        self._closing.discard(session)

    async def drain(self, seconds: float, at_once: asyncio.Event) -> None:
        """Let open sessions end by themselves for `seconds` or until `at_once`, then end them."""
        if self.gate.desk is not None:
            await self.gate.desk.shut(
                "the gateway is shutting down (limits.drain_seconds); connect again"
            )
        if self._sessions:
            log.info("draining %d sessions, %g seconds at most", len(self._sessions), seconds)
            over = asyncio.gather(*(session.over for session in self._sessions))
            hurry = asyncio.ensure_future(at_once.wait())
            both: set[asyncio.Future[Any]] = {over, hurry}
            await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
        for session in list(self._sessions):
            session.fail(
                ResourceUnavailable(
                    "the gateway is shutting down (limits.drain_seconds); connect again"
                )
            )
        for pool in self.pools.values():
            pool.close()
        closing = [asyncio.ensure_future(pool.gone()) for pool in self.pools.values()]
        self._tasks.update(closing)
        if ending := {*closing, *(session.gone for session in self._closing)}:
            await asyncio.wait(ending, timeout=self.config.limits.close_seconds)
        for task in list(self._tasks):
            task.cancel()
        for timer in (self._writing, self._recording):
            if timer:
                timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.poll is not None:
            self.poll.close()


def _ways(config: Config) -> Ways:
    listen = config.listen
    return Ways(listen.authentication, config.oauth_discovery, listen.oauth_scope)


async def _some(reader: asyncio.StreamReader) -> bytes:
    """The next bytes of a connection of our own. EOFError when there are none."""
    data = await reader.read(65536)
    if not data:
        raise EOFError("the resource closed the connection")
    return data
