"""One agent's connection: bytes between its codec, the gate and the resource, backpressure, timeouts."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, cast

from pangate import credentials
from pangate._pump import Pump
from pangate._tls import Tls
from pangate._wire import Wire
from pangate.audit.recording import BLOCK
from pangate.config import ResourceSettings
from pangate.errors import (
    AuthenticationFailed,
    CredentialError,
    LimitReached,
    PangateError,
    ProtocolError,
    RecordFailed,
    Refused,
    ResourceUnavailable,
)
from pangate.gate import Admission, GateSession, call_soon
from pangate.logs import SESSION
from pangate.masking import default_scanner
from pangate.model import Statement, Verdict, Way
from pangate.protocols import (
    Action,
    Authenticate,
    Cancel,
    Close,
    Described,
    Execute,
    Finished,
    Learn,
    Login,
    Reach,
    StartTLS,
    ToBackend,
    ToFrontend,
    open_codec,
)
from pangate.proxy import sockets
from pangate.proxy.held import Held
from pangate.proxy.lending import Lending
from pangate.proxy.pool import Connection, Pool, fits
from pangate.proxy.sides import (
    CODEC,
    DISK,
    LEARN,
    OTHER_SIDE,
    RECORD,
    TURN,
    AgentSide,
    BackendSide,
)

if TYPE_CHECKING:
    from pangate.proxy import Gateway

log = logging.getLogger("pangate")

TURN_BYTES = 16 << 10
"""What an agent sends is looked at in pieces of this size, others in between: it may hold hundreds of
statements, and each is decided and recorded."""


def _wire(transport: asyncio.Transport) -> Wire:
    """The socket under `transport`, with TLS where there is any."""
    return transport if isinstance(transport, Tls) else Wire(transport)


class Session:
    """One agent's connection, from its first byte to its last record."""

    def __init__(self, gateway: Gateway, origin: str) -> None:
        limits = gateway.config.limits
        listen = gateway.config.listen
        self.gateway = gateway
        self.gate: GateSession = gateway.gate.session(origin)
        self.tls = gateway.tls(self.gate)
        tls = "none" if self.tls is None else "required"
        if self.tls is not None and listen.allow_plaintext_loopback:
            tls = "offered"
        self.codec = open_codec(
            "postgresql",
            default_scanner(),
            tls=tls,
            max_message=limits.max_message_bytes,
            token_bytes=limits.token_bytes,
            ways=gateway.ways,
        )
        self.pump = Pump(self, gateway.turn)
        """The short way, from the end of the login on."""
        self.agent = AgentSide(self)
        self._errand: asyncio.Task[None] | None = None
        self.backend: BackendSide | None = None
        self.backend_key = b""
        self.key = b""
        self.resource: ResourceSettings | None = None
        self.closed = False
        self._begun = False
        """Whether the login is over."""
        self.cut_off = False
        """Whether what the agent was given ends within a message, so that no error can follow."""
        self._came = 0.0
        """When the bytes came that are being handled now; 0.0 outside of that."""
        self._later = bytearray()  # from the agent, for turns to come
        self._next: asyncio.Handle | None = None
        self._to_agent: list[bytes | bytearray | memoryview] = []
        self._to_backend: list[bytes | bytearray | memoryview] = []
        self._waiting: deque[tuple[int, float, list[bytes | bytearray | memoryview]]] = deque()
        """What goes to the resource once its record is in the kernel: up to which event it has to be on the
        disk too, and when its bytes came."""
        self._last_word = ""
        """Why the session ends when that has gone."""
        self.held: Held | None = None
        """The statement that waits for people."""
        self._login: asyncio.Task[None] | None = None
        self.lending: Lending | None = None
        """The session's way from one connection to the next, where it does not keep its first."""
        self._place: Pool | None = None
        """Where the connection to the resource has its place."""
        self._asked: Mapping[str, str] = {}
        """The settings with which that logged in."""
        self._in_line = False
        """Whether it waits for a connection that others have."""
        self.spoilt = False
        """Whether that connection must not have another owner."""
        self._timers: list[asyncio.TimerHandle] = []
        self._idle: asyncio.TimerHandle | None = None
        self._active = 0.0
        self._loop = loop = asyncio.get_running_loop()
        self.welcome: asyncio.Task[None] | None = None
        """What makes a connection of the agent's socket, until there is one."""
        self.late: asyncio.TimerHandle | None = None
        """Ends the session when its login is not over by then."""
        self.over: asyncio.Future[None] = loop.create_future()
        """Done when the session is."""
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when its connections are closed as well."""

    # --- bytes --------------------------------------------------------------------------------

    def from_agent(self, data: bytes) -> None:
        """Bytes came from the agent."""
        if self.closed:
            return
        self._active = self._loop.time()
        if self._later or len(data) > TURN_BYTES:
            self._later += data
            self.pump.open = False
            self.agent.hold(TURN)
            self._go_on()
        else:
            self._take(data)

    def _go_on(self) -> None:
        if self._later and self._next is None and not self.codec.full:
            self._next = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._next = None
        if self.closed:
            return
        part = bytes(self._later[:TURN_BYTES])
        del self._later[:TURN_BYTES]
        if not self._later:
            self.agent.release(TURN)
            self.pump.open = self._begun
        self._take(part)
        self._go_on()

    def _take(self, data: bytes) -> None:
        self._came = perf_counter()
        try:
            self._run(self.codec.frontend(data))
        except PangateError as wrong:
            self.fail(wrong)
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            self.crashed(wrong)
        self._came = 0.0

    # What the short way asks for

    def put_off(self, urgent: int, came: float, data: bytes) -> None:
        """The event `urgent` has to be on the disk before `data` goes to the resource."""
        self._waiting.append((urgent, came, [data]))

    def stop(self, wrong: Exception) -> None:
        """Something went wrong on the short way."""
        SESSION.set(self.gate.id)
        if isinstance(wrong, RecordFailed):
            self.gate.failing(wrong)
        if isinstance(wrong, PangateError):
            self.fail(wrong)
        else:
            self.crashed(wrong)

    def write_soon(self) -> None:
        """Something was recorded that holds nothing up."""
        self.gateway.write_soon()

    def record_soon(self) -> None:
        """The agent was sent something."""
        self.gateway.record_soon()

    def read_together(self) -> None:
        """The session is a busy one: read its sockets with those of others."""
        assert self.backend is not None
        self.agent.read_by(self.gateway.poll)
        self.backend.read_by(self.gateway.poll)

    def hold_for_record(self) -> None:
        """Much of what the agent was sent waits to be recorded."""
        self.gate.sent(())
        if self.gate.held and self.backend is not None:
            self.backend.hold(RECORD)

    def from_backend(self, data: bytes) -> None:
        """Bytes came from the resource."""
        if self.closed:
            return
        self._came = perf_counter()
        self._active = self._loop.time()
        try:
            actions = self.codec.backend(data)
            self.gate.received(*self.codec.received)
            self._run(actions)
        except PangateError as wrong:
            self.fail(wrong)
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            self.crashed(wrong)
        self._came = 0.0

    def _run(self, actions: Sequence[Action]) -> None:
        self.cut_off = self.codec.within_message
        closing = ""
        ask: Authenticate | None = None
        while actions:
            following: Sequence[Action] = ()
            for action in actions:
                match action:
                    case ToFrontend():
                        self._to_agent.append(action.data)
                    case ToBackend():
                        self._to_backend.append(action.data)
                    case Finished():
                        self.gate.finished(action.number, action.outcome, action.place)
                    case Described():
                        self.gate.described(action)
                    case Execute():
                        verdict = self.gate.decide(action.statement)
                        if verdict.open:
                            self._hold(action.statement, verdict)
                        elif self.lending is not None and self.codec.away:
                            self.lending.fetch(verdict)
                        else:
                            following = self.codec.resume(verdict)
                    case Authenticate():
                        ask = action
                    case Cancel():
                        self._login = asyncio.get_running_loop().create_task(
                            self.gateway.cancel(self, action.key)
                        )
                    case Learn():
                        self._learn(action)
                    case Reach():
                        assert self.lending is not None
                        self.lending.fetch(None)
                    case Close():
                        closing = action.reason
                    case StartTLS():
                        raise ProtocolError("TLS was asked for where it cannot begin")
            actions = following
        self._send()
        if self.held is not None:
            self.held.look()
        if self.lending is not None:
            self.lending.look()
        if closing and self._waiting:
            self._last_word = closing
            self.agent.hold(DISK)
        elif closing:
            self.close(closing)
        elif self.codec.full:
            self.agent.hold(CODEC)
        else:
            self.agent.release(CODEC)
            self._go_on()
        if ask is not None:
            self._begin_login(ask)

    def _send(self) -> None:
        if self._to_backend:
            if self.backend is None:
                raise ProtocolError("the agent sent commands before its login was done")
            # law 2: the record first
            self._waiting.append((self.gate.urgent, self._came, self._to_backend))
            self._to_backend = []
            self.gateway.commit_soon(self)
        else:
            self.gateway.write_soon()  # how a statement ended holds nothing up
        if self._to_agent:
            self.agent.transport.writelines(self._to_agent)
            self._record(self._to_agent)
            self._to_agent = []
            if self._came:
                self.gateway.gate.metrics.to_agent_seconds.observe(perf_counter() - self._came)

    def forward(self) -> bool:
        """Everything recorded so far is in the kernel: send the resource what waited for that, as far as it
        need not be on the disk or is. False when something waits for the disk."""
        SESSION.set(self.gate.id)
        try:
            return self._forward()
        except PangateError as wrong:
            self.fail(wrong)
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            self.crashed(wrong)
        return True

    def _forward(self) -> bool:
        if self.closed:
            self._waiting.clear()
        elif self._waiting:
            self.gate.check_recording()
        while self._waiting:
            urgent, came, data = self._waiting[0]
            if not self.gate.on_disk(urgent):
                self.agent.hold(DISK)
                return False
            self._waiting.popleft()
            assert self.backend is not None  # there was one, and it goes with the session
            self.backend.transport.writelines(data)
            if came:
                metrics = self.gateway.gate.metrics
                metrics.to_backend_seconds.observe(perf_counter() - came)
        if self._last_word:
            self.close(self._last_word)
        elif not self.closed:
            self.agent.release(DISK)
        return True

    # --- what is recorded -------------------------------------------------------------------------

    def _record(self, sent: Sequence[bytes | bytearray | memoryview]) -> None:
        self.gate.sent(sent)
        self.gateway.record_soon()
        if self.gate.held and self.backend is not None:
            self.backend.hold(RECORD)

    def _noticed(self) -> None:
        """What was recorded is written, or cannot be."""
        if self.closed:
            return
        try:
            self.gate.written()
        except PangateError as wrong:
            log.error("%s", getattr(wrong, "detail", wrong))
            self.fail(wrong)
            return
        if self.backend is not None and not self.gate.held:
            self.backend.release(RECORD)

    # --- what waits for people ------------------------------------------------------------------

    def _hold(self, statement: Statement, verdict: Verdict) -> None:
        self.held = Held(self, statement, verdict)
        self.gateway.run_for(self.held.wait())

    def say(self, data: bytes) -> None:
        """Tell the agent something that is no answer. It is recorded as all that the agent is given."""
        self._to_agent.append(data)
        try:
            self._send()
        except PangateError as wrong:
            self.fail(wrong)

    def go_on(self, verdict: Verdict) -> None:
        """The last word on the statement that was held."""
        self.held = None
        if self.closed:
            return
        self._active = asyncio.get_running_loop().time()
        if self.lending is not None and self.codec.away:
            self.lending.fetch(verdict)
            return
        try:
            self._run(self.codec.resume(verdict))
        except PangateError as wrong:
            self.fail(wrong)
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            self.crashed(wrong)

    # --- what has to be known ---------------------------------------------------------------------

    def _learn(self, action: Learn) -> None:
        """Nothing more is taken from the resource until the codec knows what it needs."""
        assert self.backend is not None
        self.backend.hold(LEARN)
        self._errand = asyncio.get_running_loop().create_task(self._run_errand(action))

    async def _run_errand(self, action: Learn) -> None:
        assert self.resource is not None
        try:
            await self.gateway.run_errand(self, self.resource, action.errand)
        except PangateError as wrong:
            log.error("resource %s: %s", self.resource.name, wrong)
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            self.crashed(wrong)
        if self.closed or self.backend is None:
            return
        self._errand = None
        try:
            self._run(self.codec.learned())
        except PangateError as wrong:
            self.fail(wrong)
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            self.crashed(wrong)
        if not self.closed and self._errand is None and self.backend is not None:
            self.backend.release(LEARN)

    # --- login --------------------------------------------------------------------------------

    def _begin_login(self, ask: Authenticate) -> None:
        """Log in: at once when everything for it is here, otherwise in a task of its own."""
        admission = None
        try:
            admission = self.gate.admit_known(ask)
            if admission is not None:
                self._let_in(admission)
                if login := self._at_hand(admission):
                    self._logged_in(ask, admission, login)
                    return
        except PangateError as wrong:
            self.fail(wrong)
            return
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            self.crashed(wrong)
            return
        self._login = self._loop.create_task(self._log_in(ask, admission))

    async def _log_in(self, ask: Authenticate, admission: Admission | None) -> None:
        try:
            if admission is None:
                try:
                    admission = await self.gate.admit(ask)
                except AuthenticationFailed as wrong:
                    self._reject(wrong)
                    return
                self._let_in(admission)
            self._logged_in(ask, admission, await self.reach(admission))
        except PangateError as wrong:
            self.fail(wrong)
        except Exception as wrong:  # noqa: BLE001 - the session ends, the gateway does not
            self.crashed(wrong)

    def _let_in(self, admission: Admission) -> None:
        self.gateway.write_soon()  # at the latest; what follows needs it sooner or not
        self.resource = admission.resource
        if admission.resource.pool.mode == "transaction":
            self.codec.lend()
            self.lending = Lending(self, admission, self.gateway.pool(admission.resource))

    def _logged_in(self, ask: Authenticate, admission: Admission, login: Login) -> None:
        """There is a connection to the resource."""
        assert self.backend is not None
        assert self.backend.connection is not None
        self.backend_key = login.key
        self.gate.event(
            "session.connected",
            True,
            {"backend": self.backend.connection.process, "owner": self.backend.connection.owners},
        )
        self.gate.written()
        if self.lending is not None:
            self.lending.begin(self.backend.connection, login)
        self.key = self.gateway.new_key(self)
        grant = admission.grant
        knowledge = self.gateway.knowledge(admission.resource)
        first, *actions = self.codec.ready(login.parameters, self.key, grant.mask, knowledge)
        greeting = cast(ToFrontend, first)
        loop = self._loop
        self.gate.begin_recording(login.parameters, lambda: call_soon(loop, self._noticed))
        self.agent.transport.write(greeting.data)  # with the cancel key: not for the record
        self._run(actions)
        if login.rest:
            self.from_backend(login.rest)
        if self.closed:
            return
        self._set_timers(ask.way, admission.principal.expires_at, grant.limits.max_seconds)
        if self.late is not None:
            self.late.cancel()
        if self.lending is None:
            self._start_pump(self.backend)
        self.backend.begin()
        if self._place is not None and self._place.ahead is not None:
            self._place.ahead.like(self._asked)
        if self.lending is not None:
            self.lending.look()

    def _start_pump(self, backend: BackendSide) -> None:
        self.agent.wire, backend.wire = _wire(self.agent.transport), _wire(backend.transport)
        self.pump.start(
            self.codec.short_way,
            self.gate.book,
            self.gate,
            BLOCK,
            self._waiting,
            backend.data_received,
            self.agent.wire,
            backend.wire,
        )
        self._begun = True
        self.pump.open = not self._later
        backend.data_received = self.pump.from_backend  # type: ignore[method-assign]
        backend.transport.set_protocol(backend)

    def _reject(self, wrong: AuthenticationFailed) -> None:
        """Refuse the credential; where the protocol wants it, after the agent has taken note."""
        challenge = self.codec.challenge(wrong)
        if not challenge:
            self.fail(wrong)
        elif not self.closed:
            self.agent.transport.write(challenge)
            self.from_agent(b"")  # its answer may be here already

    async def reach(self, admission: Admission) -> Login:
        """A connection to the resource that is this session's, within limits.connect_seconds. Raises
        LimitReached, ResourceUnavailable and ProtocolError."""
        if login := self._at_hand(admission):
            return login
        try:
            async with asyncio.timeout(self.gateway.config.limits.connect_seconds):
                return await self._reach(admission)
        except TimeoutError:
            if self._in_line:
                most = admission.resource.pool.max_connections
                raise LimitReached(
                    f"all {most} connections to the resource are in use (pool.max_connections) "
                    "and none was free in time (limits.connect_seconds); try again"
                ) from None
            raise ResourceUnavailable(
                "the resource did not answer in time (limits.connect_seconds); "
                "try again, or tell whoever runs the gateway"
            ) from None
        except CredentialError as wrong:
            log.error("resource %s: %s", admission.resource.name, wrong)
            raise ResourceUnavailable(
                "the gateway cannot read its credential for this resource; "
                "tell whoever runs the gateway"
            ) from None

    def _at_hand(self, admission: Admission) -> Login | None:
        """One to which nothing has to be said to be this session's, when one waits. It is read from: what
        follows, to `begin`, is one step of the event loop."""
        resource = admission.resource
        pool = self.gateway.pool(resource)
        if self.lending or resource.principal_setting is not None or not pool.knows_credential:
            return None
        self._asked = asked = {**self.codec.settings, **self._application(admission)}
        connection = pool.take_fresh(fits(asked, pool.credential))
        if connection is None:
            return None
        self._place = pool
        self.backend = side = BackendSide(self)
        side.take_over(connection, paused=False)
        if self.agent.full:
            side.hold(OTHER_SIDE)
        return self.codec.adopt(connection.parameters, connection.key, {}, look=False)

    async def _reach(self, admission: Admission) -> Login:
        """One that had another owner, or a new one. Raises CredentialError, ResourceUnavailable and
        ProtocolError."""
        resource = admission.resource
        lending = self.lending
        pool = self.gateway.pool(resource) if lending is None else lending.pool
        self._asked = asked = {**self.codec.settings, **self._application(admission)}
        secret = None
        if not pool.knows_credential:
            secret = await self._read_credential(pool, resource)
        own = {}
        if resource.principal_setting is not None:
            own[resource.principal_setting] = admission.principal.name
        while connection := await self._take_place(pool, fits(asked, pool.credential)):
            if lending is not None:
                login = lending.renewal(connection, own)
            else:
                login = self.codec.adopt(
                    connection.parameters, connection.key, own, look=not connection.fresh
                )
            side = BackendSide(self)
            side.take_over(connection)
            if await self._try(side, login):
                return login
        try:
            if secret is None:
                secret = await self._read_credential(pool, resource)
            self.gate.written()
            first = await self._dial(resource, secret, asked)
        except BaseException:
            if self.backend is None:
                self.leave_pool()
            raise
        assert self.backend is not None
        born = asyncio.get_running_loop().time()
        like = fits(asked, secret.digest)
        made = Connection(like, dict(first.parameters), first.key, self.codec.farewell, born)
        made.transport = self.backend.transport
        self.backend.connection = made
        if not own:
            return first
        login = self.codec.adopt(first.parameters, first.key, own)
        if first.rest:
            login.feed(first.rest)  # what the server said behind its login
        await self.backend.log_in(login)
        return login

    async def _read_credential(self, pool: Pool, resource: ResourceSettings) -> credentials.Secret:
        seconds = self.gateway.config.limits.credential_seconds
        secret = await credentials.read(resource, seconds)
        pool.credential_was_read(secret.digest)
        return secret

    async def _take_place(self, pool: Pool, like: Hashable) -> Connection | None:
        self._in_line = True
        rather = self.lending.last if self.lending is not None else None
        connection = await pool.take(like, rather)
        self._in_line = False
        self._place = pool
        return connection

    def _application(self, admission: Admission) -> dict[str, str]:
        """The application_name that tells the resource who it serves, if it is to be told."""
        template = admission.resource.application_name
        if template is None:
            return {}
        said = template.format(
            application=self.codec.settings.get("application_name", ""),
            principal=admission.principal.name,
            role=admission.grant.role,
        )
        return {"application_name": said}

    async def _try(self, side: BackendSide, login: Login) -> bool:
        """Whether the connection that waited is still there."""
        self.backend = side
        if self.agent.full:
            side.hold(OTHER_SIDE)
        if login.start():
            self.gate.written()  # the resource hears something of this session: its record first
        try:
            await side.log_in(login)
        except PangateError as wrong:
            log.debug("a connection that waited is gone: %s", wrong)
            self.backend = None
            side.forsaken = True
            self.leave_pool()
            side.transport.abort()
            return False
        return True

    def leave_pool(self) -> None:
        """The connection to the resource is closed, or never was."""
        if self._place is not None:
            place, self._place = self._place, None
            place.leave()

    def arrived(self, carried: object, login: Login, verdict: Verdict | None) -> None:
        """There is a connection again: go on with the statement that `verdict` is about, or what waits."""
        assert self.backend is not None
        self._active = self._loop.time()
        if self.gate.held:
            self.backend.hold(RECORD)
        self._came = perf_counter()  # waiting for the connection does not count
        self._run(self.codec.reached(carried, login.parameters))
        if login.rest:
            self.from_backend(login.rest)
        if verdict is not None and not self.closed:
            self._run(self.codec.resume(verdict))
        self._came = 0.0
        if self.backend is not None and not self.closed:
            self.backend.begin()

    def parted(self) -> None:
        """The connection to the resource is not this session's any more."""
        self.backend = self._place = None
        self.backend_key = b""

    @property
    def sent_everything(self) -> bool:
        """Whether nothing waits to be sent to the resource."""
        return not self._waiting and not self._to_backend

    def _give_back(self) -> None:
        """The connection to the resource may have another owner: then it is not this session's any more."""
        side, place = self.backend, self._place
        if (
            side is None
            or place is None
            or side.gone
            or side.full
            or self.spoilt
            or self._waiting
            or self.pump.waits
        ):
            return
        if side.in_login:
            return
        connection = side.connection
        if connection is None or side.transport.is_closing():
            return
        if self.codec.reusable and place.rest(connection, self.codec):
            self.backend = self._place = None
        elif self.codec.at_rest:
            side.transport.write(self.codec.farewell)

    async def _dial(
        self, resource: ResourceSettings, secret: credentials.Secret, asked: Mapping[str, str]
    ) -> Login:
        loop = asyncio.get_running_loop()
        sock, context = await self.gateway.connect(resource, self.codec)
        login = self.codec.login(
            resource.user,
            resource.database,
            secret.reveal(),
            cleartext=sockets.cleartext(resource, context),
            settings=asked,
        )
        side = BackendSide(self)
        try:
            if context is None:
                await loop.create_connection(lambda: side, sock=sock)
            else:
                seconds = self.gateway.config.limits.close_seconds
                await sockets.secure(side, sock, context, seconds, resource.host)
                login.bind(sockets.end_point(side.transport))
        except (OSError, ssl.SSLError) as wrong:
            sock.close()
            log.error("resource %s: %s", resource.name, sockets.why(wrong))
            raise ResourceUnavailable(
                "a TLS connection to the resource could not be made; "
                "tell whoever runs the gateway to see its log"
            ) from None
        self.backend = side
        if self.agent.full:
            side.hold(OTHER_SIDE)
        try:
            await side.log_in(login)
        except PangateError as wrong:
            log.error("resource %s: %s", resource.name, wrong)
            raise
        return login

    # --- time ---------------------------------------------------------------------------------

    def _set_timers(self, way: Way, expires_at: float, max_seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        limits = self.gateway.config.limits
        left = expires_at + limits.token_grace_seconds - time.time()
        what = "client certificate" if way == "certificate" else "identity token"
        self._timers.append(
            loop.call_later(
                max(left, 0.0),
                self._reached,
                f"the {what} of this session has expired; connect with a new one",
            )
        )
        if max_seconds is not None:
            self._timers.append(
                loop.call_later(
                    max_seconds,
                    self._reached,
                    f"this role's sessions last {max_seconds:g} seconds (max_seconds)",
                )
            )
        self._watch()

    def too_late(self) -> None:
        """The login is not over within limits.login_seconds."""
        self._reached("the login took too long (limits.login_seconds)")

    def _reached(self, limit: str) -> None:
        self.fail(LimitReached(limit))

    def _watch(self) -> None:
        """See to limits.idle_seconds: one timer, which looks when the last bytes came."""
        seconds = self.gateway.config.limits.idle_seconds
        if seconds is None or self.closed:
            return
        loop = asyncio.get_running_loop()
        if self.held is not None:
            self._active = loop.time()  # it is the agent that waits
        left = max(self._active, self.pump.active) + seconds - loop.time()
        if left > 0:
            self._idle = loop.call_later(left, self._watch)
        else:
            self._reached(f"this session was silent for {seconds:g} seconds (limits.idle_seconds)")

    # --- the end ------------------------------------------------------------------------------

    def agent_lost(self, exc: Exception | None) -> None:
        """The agent's connection is gone."""
        if self._last_word and self._waiting:
            return  # it said that it goes, and what it sent before is still to be forwarded
        self._stop_running()
        self.close(self._lost("the agent", exc))

    def backend_lost(self, exc: Exception | None) -> None:
        """The resource's connection is gone."""
        self.fail(ResourceUnavailable(f"{self._lost('the resource', exc)}; connect again"))

    def _lost(self, who: str, exc: Exception | None) -> str:
        if isinstance(exc, TimeoutError):
            seconds = self.gateway.config.limits.dead_peer_seconds
            return f"{who} did not answer for {seconds:g} seconds (limits.dead_peer_seconds)"
        return f"{who} {'went away' if who == 'the agent' else 'closed the connection'}"

    def fail(self, wrong: PangateError) -> None:
        """End the session with the protocol's own error. What was not forwarded never will be."""
        if self.closed:
            return
        if not self.key:  # its login is not over
            wrong = self._after_record(wrong)
        self._to_backend.clear()
        self._waiting.clear()
        self._stop_running()
        if not isinstance(wrong, LimitReached):
            self.spoilt = True
        # What is for the agent was masked already.
        refused = wrong if isinstance(wrong, (Refused, ProtocolError)) else None
        if isinstance(wrong, ProtocolError) and wrong.side == "backend":
            refused = ResourceUnavailable(f"the resource's answer was not understood: {wrong}")
        if refused is None:
            refused = Refused("the gateway cannot go on with this session")
        transport = getattr(self.agent, "transport", None)
        if transport is not None and not transport.is_closing():
            last = [] if self.cut_off else [self.codec.refuse(refused)]
            transport.writelines([*self._to_agent, *last])
            self.gate.sent([*self._to_agent, *last])
        self._to_agent.clear()
        self.close(getattr(wrong, "detail", "") or str(wrong), success=False)

    def _after_record(self, wrong: PangateError) -> PangateError:
        """What an agent may be told of a login that failed with `wrong`: that it was let in is recorded
        first."""
        if not isinstance(wrong, RecordFailed):
            try:
                self.gate.written()
            except RecordFailed as failed:
                return failed
        return wrong

    def crashed(self, wrong: Exception) -> None:
        """End the session for a fault of the gateway's own."""
        log.error("internal error", exc_info=wrong)
        self.fail(Refused("internal error in the gateway; tell whoever runs it to see its log"))

    def close(self, reason: str, *, success: bool = True) -> None:
        """End the session, send what is queued, close both sides. Does nothing the second time."""
        if self.closed:
            return
        self.closed = True
        self.pump.end()
        for timer in (*self._timers, self._idle, self.late):
            if timer is not None:
                timer.cancel()
        self.gateway.forget(self)
        try:
            self.gate.end(reason, success=success)
            self.gate.written()
        except PangateError as wrong:
            log.error("the end of the session could not be recorded: %s", wrong)
        self._give_back()
        if self.lending is not None:
            self.lending.leave()
        for side in (self.agent, self.backend):
            if transport := getattr(side, "transport", None):
                transport.close()
        self._timers = [
            asyncio.get_running_loop().call_later(
                self.gateway.config.limits.close_seconds, self._abort
            )
        ]
        self.rest()
        if self.lending is not None:
            self.lending.stop()
        # with a transport it is over in a moment, and may have something to say by it
        welcome = None if hasattr(self.agent, "transport") else self.welcome
        for task in (self._login, self._errand, welcome):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        if not self.over.done():
            self.over.set_result(None)

    def _abort(self) -> None:
        """A peer did not take the last bytes within limits.close_seconds."""
        for side in (self.agent, self.backend):
            if transport := getattr(side, "transport", None):
                transport.abort()

    def _stop_running(self) -> None:
        alive = self.backend is not None and not self.backend.gone
        if alive and not self.closed and self.gate.running:
            # The cancel request comes later than this: it must not hit another owner.
            self.spoilt = True
            self.gateway.stop_running(self)

    def rest(self) -> None:
        """Let go of what is left of a session whose connections are gone."""
        if not self.closed or self.gone.done():
            return
        for side in (self.agent, self.backend):
            if side is not None and hasattr(side, "transport") and not side.gone:
                return
        for timer in self._timers:
            timer.cancel()
        self.gone.set_result(None)
        self.gateway.gone(self)
