from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pangate._leaf import Encoder, Form

Buffer = bytes | bytearray | memoryview

def is_unchanged(fd: int, length: int) -> bool: ...

class Histogram:
    """Counts of values by upper bound, in seconds."""

    def __init__(self, bounds: Sequence[float]) -> None: ...
    def observe(self, seconds: float) -> None: ...
    def buckets(self) -> tuple[list[tuple[str, float]], float]: ...

class Steps:
    """Notices that the system's clock went back. See _book.pyx."""

    latest: float
    @property
    def behind(self) -> float: ...
    def __init__(self, most: float, latest: float = ...) -> None: ...
    def see(self, moment: float) -> None: ...
    def accept(self, moment: float) -> None: ...

class Pending:
    """Leaves that wait to be written. See _book.pyx."""

    sequence: int
    closed: bool
    @property
    def leaves(self) -> list[bytes]: ...
    @property
    def size(self) -> int: ...
    @property
    def since(self) -> float: ...
    def __init__(
        self,
        sequence: int,
        most: int,
        encode: Callable[[Any, int], bytes] | None = ...,
        encoder: Encoder | None = ...,
        clock: Callable[[], str] | None = ...,
        steps: Steps | None = ...,
        longest: int = ...,
    ) -> None: ...
    def in_time(self, moment: float) -> bool: ...
    def note(self, event: tuple[Any, ...], now: float) -> int: ...
    def take(self, left: int = ...) -> None: ...

class Written:
    """The end of a file that only grows. See _book.pyx."""

    synced: int
    let_go: int
    sound: bool
    failing: bool
    @property
    def fd(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def kept(self) -> deque[tuple[int, bytes, int]]: ...
    @property
    def kept_bytes(self) -> int: ...
    def __init__(self, fd: int, length: int, sequence: int, most: int) -> None: ...
    def end(self) -> tuple[int, int]: ...
    def wrote(self, data: bytes, leaves: int) -> bool: ...
    def append(self, leaves: list[bytes]) -> int: ...
    def take_part(self) -> tuple[bytes, int] | None: ...

class Frames:
    """What was gathered of a recording. See _book.pyx."""

    @property
    def size(self) -> int: ...
    @property
    def sent_bytes(self) -> int: ...
    @property
    def micros(self) -> int: ...
    failed: bool
    full: bool
    def __init__(self, began: float, whole: bool, room: int = ...) -> None: ...
    def take(self) -> tuple[Any, int]: ...
    def statement(self, number: int) -> None: ...
    def finished(self, number: int, place: int) -> None: ...
    def described(self, data: bytes) -> None: ...
    def sent(self, buffers: list[Buffer]) -> None: ...

class InForce:
    """The letters of the configuration in force."""

    letters: str
    def __init__(self, letters: str) -> None: ...

class Tally:
    """How many of one kind there were."""

    number: int

class Given:
    """Rows, and their bytes, that agents were given."""

    rows: int
    size: int

class Decided:
    """What is known of a request that came before. See _book.pyx."""

    @property
    def judge(self) -> object: ...
    @property
    def letters(self) -> str: ...
    @property
    def forms(self) -> tuple[tuple[Tally, Form], ...]: ...
    @property
    def ended(self) -> Form | None: ...
    @property
    def found(self) -> Form | None: ...
    def __init__(
        self,
        judge: object,
        letters: str,
        forms: tuple[tuple[Tally, Form], ...],
        ended: Form | None = ...,
        found: Form | None = ...,
    ) -> None: ...

class Book:
    """What is noted of the statements of one session. See _book.pyx."""

    frames: Frames | None
    statements: int
    urgent: int
    rows: int
    size: int
    @property
    def started(self) -> dict[int, float]: ...
    @property
    def masked(self) -> dict[str, int]: ...
    def __init__(
        self,
        pending: Pending,
        seconds: Histogram,
        count_masked: Callable[[Mapping[str, int]], None],
        in_force: InForce,
        given: Given,
    ) -> None: ...
    def admit(self, judge: object, most_rows: int | None, most_bytes: int | None) -> None: ...
    def within(self, rows: int, size: int) -> bool: ...
    def again(self, decided: object, values: tuple[str | None, ...], text: str | None) -> bool: ...
    def answered(
        self,
        decided: object,
        number: int,
        many: int,
        rows: int,
        size: int,
        masked: dict[str, int],
        columns: dict[str, int],
        began: int,
        place: int,
    ) -> bool: ...
    def add(self, rows: int, size: int, masked: Mapping[str, int]) -> None: ...
