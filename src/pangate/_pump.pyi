from collections.abc import Callable, Sized
from typing import Any

from pangate._again import ShortWay
from pangate._book import Book
from pangate._wire import Batch, Receiver, Wire

def peer_closed(fd: int) -> bool: ...

class Turn(Batch):
    """The requests that took the short way in one turn of the event loop. See _pump.pyx."""

    others: bool
    writing: bool
    recording: bool
    def __init__(
        self,
        call_soon: Callable[..., object],
        gate: object,
        commit_others: Callable[[], None],
        put_off: Callable[[list[Any]], None],
    ) -> None: ...
    def come(self) -> None: ...
    def commit(self) -> None: ...
    def take(self) -> list[Any]: ...
    def forward(self) -> list[Any]: ...

class Pump(Receiver):
    """The short way of one session. See _pump.pyx."""

    open: bool
    @property
    def active(self) -> float: ...
    @property
    def waits(self) -> bool: ...
    def __init__(self, session: object, turn: Turn) -> None: ...
    def start(
        self,
        way: ShortWay,
        book: Book,
        gate: object,
        block: int,
        behind: Sized,
        long_way: Callable[[bytes], None],
        agent: Wire,
        backend: Wire,
    ) -> None: ...
    def end(self) -> None: ...
    def from_agent(self, data: bytes) -> None: ...
    def from_backend(self, data: bytes) -> None: ...
