"""What the first process and a worker say to each other, over a pair of sockets that nobody else has an end
of: messages that want no answer (`tell`) and such that do (`ask`), each with a name and a value that
msgpack can hold."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import msgspec

from pangate.errors import LimitReached, PangateError, RecordFailed, Refused, StateFailed

log = logging.getLogger("pangate")

MAX_BYTES = 32 << 20
"""Longest message. A request for approval has its statement in it, and the values of its parameters."""

MAX_WAITING_BYTES = 64 << 20
"""What may wait for the other side to read it; a side that is so far behind is given up."""

ANSWER_SECONDS = 10.0

_LENGTH = struct.Struct("!I")
_TELL, _ASK, _ANSWER, _FAILURE = range(4)

_FAILURES: Mapping[str, Callable[[str], PangateError]] = {
    "limit": LimitReached,
    "state": StateFailed,
    "record": RecordFailed,
    "refused": Refused,
}
"""What may be raised on the other side and is raised here."""


class LinkLost(PangateError):
    """The other side is gone, or does not answer."""


class Link(asyncio.Protocol):
    """One end. `hear` is called with the name and value of each message, and returns the answer; `lost` when
    the other side is gone."""

    def __init__(
        self, hear: Callable[[str, Any], Awaitable[object]], lost: Callable[[], None]
    ) -> None:
        self._hear, self._lost = hear, lost
        self._came = bytearray()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls,
        sock: socket.socket,
        hear: Callable[[str, Any], Awaitable[object]],
        lost: Callable[[], None],
    ) -> Link:
        """The end that is `sock`."""
        sock.setblocking(False)
        _, link = await asyncio.get_running_loop().create_connection(
            lambda: cls(hear, lost), sock=sock
        )
        return link

    def tell(self, name: str, value: object = None) -> None:
        """Say something. It is lost when the other side is."""
        self._send(_TELL, 0, name, value)

    async def ask(self, name: str, value: object = None, seconds: float = ANSWER_SECONDS) -> Any:
        """Ask for something. Raises what the other side did (of the kinds that may cross), and LinkLost."""
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._send(_ASK, number, name, value)
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise LinkLost(f"there was no answer to {name} within {seconds:g} seconds") from None
        finally:
            del self._asked[number]

    def close(self) -> None:
        """Say nothing more."""
        if self._transport is not None:
            self._transport.close()
        for task in self._tasks:
            task.cancel()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._came += data
        while len(self._came) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._came)
            if size > MAX_BYTES:
                self._give_up(f"a message of {size} bytes")
                return
            end = _LENGTH.size + size
            if len(self._came) < end:
                return
            part = msgspec.msgpack.decode(bytes(self._came[_LENGTH.size : end]))
            del self._came[:end]
            self._take(*part)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(LinkLost("the other process has ended"))
        self._lost()

    # inside

    def _send(self, kind: int, number: int, name: str, value: object) -> None:
        if self._transport is None or self._transport.is_closing():
            if kind == _ASK:
                raise LinkLost("the other process has ended")
            return
        data = msgspec.msgpack.encode((kind, number, name, value))
        if len(data) > MAX_BYTES:
            raise LinkLost(f"{name} is too long to be said to another process")
        self._transport.write(_LENGTH.pack(len(data)) + data)
        if self._transport.get_write_buffer_size() > MAX_WAITING_BYTES:
            self._give_up("what is not read")

    def _give_up(self, why: str) -> None:
        log.error("another process of the gateway is given up: %s", why)
        if self._transport is not None:
            self._transport.abort()

    def _take(self, kind: int, number: int, name: str, value: Any) -> None:
        if kind in (_TELL, _ASK):
            task = asyncio.get_running_loop().create_task(self._answer(kind, number, name, value))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        answer = self._asked.get(number)
        if answer is None or answer.done():
            return
        if kind == _ANSWER:
            answer.set_result(value)
        else:
            made = _FAILURES.get(name, LinkLost)
            answer.set_exception(made(str(value)))

    async def _answer(self, kind: int, number: int, name: str, value: Any) -> None:
        try:
            found = await self._hear(name, value)
        except PangateError as wrong:
            said = str(getattr(wrong, "detail", wrong))
            self._fail(kind, number, _name_of(wrong), said)
        except Exception as wrong:
            log.error("internal error in %s", name, exc_info=wrong)
            self._fail(kind, number, "", "internal error in the gateway; see its log")
        else:
            if kind == _ASK:
                self._send(_ANSWER, number, "", found)

    def _fail(self, kind: int, number: int, name: str, said: str) -> None:
        if kind == _ASK:
            self._send(_FAILURE, number, name, said)
        else:
            log.error("%s", said)


def _name_of(wrong: PangateError) -> str:
    for name, kind in (
        ("limit", LimitReached),
        ("state", StateFailed),
        ("record", RecordFailed),
        ("refused", Refused),
    ):
        if isinstance(wrong, kind):
            return name
    return ""
