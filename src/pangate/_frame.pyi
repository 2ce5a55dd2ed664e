from collections.abc import Mapping, Sequence

from pangate._scan import Scanner

SAFE: int
TEXT: int
INT8: int
ARRAY: int
RECORD: int
RANGE: int
MULTIRANGE: int
HSTORE: int
VERSIONED: int
FORCED: int
FORCED_INT8: int
REFUSED: int
OPS: int
WIPES: Mapping[str, int]
WINDOW: int

def with_inner(op: int, oid: int) -> int:
    """A range or multirange (`op`) of the type `oid`."""

class Types:
    """The types that a database has beside the built-in ones: {OID: operation for the binary form}."""

    def __init__(self, operations: Mapping[int, int] = ...) -> None: ...
    def __len__(self) -> int: ...

ANY: int
CODE: int
PIN: int

class Names:
    """Names whose values are wiped in JSON and hstore. See _frame.pyx."""

    def __init__(self, shapes: Mapping[str, int], glued: Sequence[str] = ...) -> None: ...
    def find(self, name: bytes) -> bool: ...

def fits(shape: int, value: bytes, escaped: bool = ...) -> bool:
    """Whether a value looks like what names of this shape are about. See _frame.pyx."""

def op_of(oid: int, format: int, types: Types | None = ...) -> int:
    """What has to be done with a cell of this type (its OID) and format (0 text, 1 binary)."""

def mask_cell(
    scanner: Scanner,
    kind: int,
    op: int,
    cell: bytearray,
    types: Types | None = ...,
    names: Names | None = ...,
) -> int:
    """Mask one cell in place. Returns the number of PANs masked; -1 when it cannot be decoded."""

class Plan:
    """How the cells of one result are handled: one operation a column, and what takes the place of values
    that are wiped (one of WIPES, 0 for none)."""

    @property
    def columns(self) -> int: ...
    @property
    def rewrites(self) -> bool: ...
    def __init__(self, ops: Sequence[int], wipes: Sequence[int] | None = ...) -> None: ...
    @property
    def hit(self) -> bool: ...
    def take_hits(self) -> dict[int, int]: ...

class Walker:
    """The backend's bytes, message by message. See _frame.pyx."""

    kind: int
    types: Types | None
    names: Names | None
    muted: bool
    @property
    def undecodable(self) -> bool: ...
    @property
    def within_message(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    @property
    def all_rows(self) -> int: ...
    @property
    def all_bytes(self) -> int: ...
    @property
    def place(self) -> int: ...
    @property
    def held(self) -> int: ...
    def __init__(self, scanner: Scanner, limit: int, window: int = ...) -> None: ...
    def copy_cells(
        self, csv: bool, delimiter: int, quote: int, escape: int, null: bytes, header: bool = False
    ) -> None: ...
    def copy_binary(self) -> None: ...
    def load(self, data: bytes | bytearray | memoryview) -> None: ...
    def advance(self, plan: Plan | None) -> int: ...
    @property
    def masked(self) -> bool: ...
    def body(self) -> bytes: ...
    def mask_body(self, offset: int) -> int: ...
    def mask_text(self, text: bytearray) -> int: ...
    def keep(self) -> None: ...
    def drop(self) -> None: ...
    def replace(self, data: bytes) -> None: ...
    def insert(self, data: bytes) -> None: ...
    def release(self) -> list[bytes | bytearray | memoryview]: ...
    def take_counts(self) -> tuple[dict[int, int], int, int]: ...
