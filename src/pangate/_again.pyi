from collections.abc import Callable, Sequence
from typing import Any

from pangate._frame import Plan, Walker

class Known:
    """What is known of a request. See _again.pyx."""

    decided: object
    fresh: bool
    values: tuple[str | None, ...]
    text: str | None
    @property
    def kind(self) -> str: ...
    @property
    def statements(self) -> tuple[Any, ...]: ...
    @property
    def name(self) -> bytes: ...
    @property
    def portal(self) -> bytes: ...
    @property
    def prepared(self) -> object: ...
    @property
    def types(self) -> tuple[int, ...]: ...
    @property
    def head(self) -> bytes: ...
    @property
    def description(self) -> bytes: ...
    @property
    def shown(self) -> bool: ...
    @property
    def plan(self) -> Plan | None: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def generation(self) -> int: ...
    def __init__(
        self,
        kind: str,
        statements: tuple[Any, ...],
        name: bytes | None,
        portal: bytes | None,
        prepared: object,
        types: tuple[int, ...],
        head: bytes,
        description: bytes,
        shown: bool,
        plan: Plan | None,
        names: tuple[str, ...],
        generation: int,
    ) -> None: ...
    def given(self, values: tuple[str | None, ...], text: str | None) -> Known: ...
    def for_another(self) -> Known: ...

class Answered:
    """All that the resource answered to a request that came before. See _again.pyx."""

    data: bytes | bytearray
    number: int
    rows: int
    size: int
    masked: dict[str, int]
    columns: dict[str, int]
    place: int
    began: int
    described: tuple[int, bytes] | None
    all_rows: int
    all_size: int
    def __init__(
        self,
        data: bytes | bytearray,
        number: int,
        rows: int,
        size: int,
        masked: dict[str, int],
        columns: dict[str, int],
        place: int,
        began: int,
        described: tuple[int, bytes] | None,
        all_rows: int = ...,
        all_size: int = ...,
    ) -> None: ...

class Requests:
    """The requests that one connection remembers. See _again.pyx."""

    @property
    def kind(self) -> str: ...
    @property
    def key(self) -> bytes: ...
    @property
    def name(self) -> bytes: ...
    @property
    def portal(self) -> bytes: ...
    @property
    def asks_description(self) -> bool: ...
    @property
    def exact(self) -> bool: ...
    @property
    def values(self) -> tuple[str | None, ...] | None: ...
    @property
    def text(self) -> str | None: ...
    @property
    def plain(self) -> bool: ...
    def look(self, data: bytes) -> Known | None: ...
    def remember(self, key: bytes, known: Known) -> None: ...

class ShortWay:
    """The short way through a codec, whatever its protocol. See _again.pyx."""

    def again(self, data: bytes) -> Known | None: ...
    def proceed(self, known: Known, data: bytes) -> bytes: ...
    def answered(self, data: bytes) -> Answered | None: ...

class Standing:
    """How a conversation stands, for the short way as for the long one. See _again.pxd."""

    numbers: int
    status: bytes
    changed: bool
    candidate: Any

class Lane(ShortWay):
    """The short way through a codec. See _again.pyx."""

    idle: bool
    @property
    def requests(self) -> Requests: ...
    @property
    def pending(self) -> Known | None: ...
    def __init__(
        self,
        codec: object,
        standing: Standing,
        walker: Walker,
        prepared: dict[bytes, Any],
        portals: dict[bytes, int],
        networks: Sequence[str],
        most: int,
        values: Callable[[bytes, tuple[int, ...]], tuple[str | None, ...]],
        mentioned: Callable[[tuple[str | None, ...]], bool],
        describe: Callable[[bytes], bytes],
        prepare: Callable[[str, tuple[int, ...]], object],
    ) -> None: ...
    def begin(self, catalog: object, common: dict[bytes, Known]) -> None: ...
    def remember(self, key: bytes, known: Known) -> None: ...
    def forget(self) -> bytes: ...

def answer_parts(data: bytes) -> tuple[bytes, bytes] | None: ...
