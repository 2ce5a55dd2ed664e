from collections.abc import Callable, Iterable
from typing import TypeVar

Taken = TypeVar("Taken", bound=tuple[int, int, bytes])

class Numbers:
    """A row of integers that grows."""

    size: int
    def __len__(self) -> int: ...
    def append(self, number: int) -> int: ...
    def tobytes(self) -> bytes: ...

class Group:
    """Events that have in common what the line of the first one says."""

    sample: bytes
    sequences: Numbers

class Gather:
    """What was gathered of some events. See _gather.pyx."""

    heads: dict[bytes, Group]
    kinds: dict[bytes, Group]
    words: list[tuple[int, str]]
    sequences: Numbers
    offsets: Numbers
    times: Numbers
    entries: Numbers
    began: Numbers
    behind: Numbers
    running: dict[str, dict[int, tuple[int, list[str]]]]
    room: int
    def __init__(self, places: Callable[[bytes], list[str]], room: int) -> None: ...
    def take(
        self, lines: Iterable[Taken], most: int, slow: Callable[[Taken], None]
    ) -> tuple[int, Taken | None]: ...

def split(
    data: bytes, at: int, kind: type[Taken], number: Callable[[bytes, int], int]
) -> tuple[list[Taken], int]: ...
