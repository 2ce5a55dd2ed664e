"""What columns carry, and how that adds up: the values that lineage is told in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Node = Any

WIPE, MASK, ROW = 1, 2, 4
"""What a value may carry, as bits: something to wipe, something to mask, or a whole row in which sensitive
columns still have their names, so that they are found in JSON."""


PARAMETER = 8
"""Bit of `$0`: from here on a bit says that parameter n is taken as a name (a key of JSON), so that its
value decides."""


@dataclass(frozen=True, slots=True)
class Relation:
    """The sensitive columns of a table or view: what each carries, and what a whole row does. `open` is
    what any column may carry whose name is not known."""

    columns: Mapping[str, int] = field(default_factory=dict)
    row: int = 0
    open: int = 0


NOTHING = Relation()


class Known(Protocol):
    """What is known beside the text."""

    def name(self, name: str) -> int:
        """What a column of this name carries, whatever table it is of."""

    def key(self, name: str) -> int:
        """What a JSON key of this name does, or a column whose type is not known."""

    def kept(self, name: str) -> bool:
        """Whether the values under this key are wiped in JSON."""

    def relation(self, name: str) -> Relation:
        """The tables and views of this name, in any schema."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What each column of a result carries, as bits: `columns[i]`, and `rest` from there on. `unknown` when
    that is so because nobody can tell what is in it."""

    columns: tuple[int, ...]
    rest: int = 0
    unknown: bool = False

    def of(self, index: int) -> int:
        """Of column `index`."""
        return self.columns[index] if index < len(self.columns) else self.rest

    def __bool__(self) -> bool:
        return bool(self.rest or any(self.columns))


EVERYTHING = Lineage((), WIPE, unknown=True)


@dataclass(slots=True)
class Item:
    """One column of a query: the names that it may have, what it carries, what it carries as a part of a
    row, and whether it is a constant and nothing else."""

    names: tuple[str, ...]
    bits: int
    row: int
    constant: bool = False


@dataclass(slots=True)
class Outputs:
    """The columns of a query up to its first star; `rest` is what those from there on carry as
    expressions, `soft` what the plain columns among them do. `unknown` as for Lineage."""

    items: list[Item] = field(default_factory=list)
    rest: int = 0
    soft: int = 0
    unknown: bool = False

    def lineage(self) -> Lineage:
        return Lineage(
            tuple(0 if item.constant else item.bits for item in self.items),
            carried(self.rest),
            self.unknown,
        )

    def all(self) -> int:
        bits = self.rest | self.soft
        for item in self.items:
            bits |= item.bits
        return bits

    def behind(self, index: int) -> int:
        """What is carried by columns that are, or may be, behind the first `index`."""
        bits = self.rest | self.soft
        for item in self.items[index:]:
            bits |= item.bits
        return carried(bits)

    def hard(self) -> int:
        """What the columns carry that are expressions, or go by another name."""
        bits = self.rest
        for item in self.items:
            if not (item.bits & WIPE and item.row & ROW and not item.row & WIPE):
                bits |= item.bits
        return carried(bits)

    def row(self) -> int:
        bits = carried(self.rest) | self.soft
        for item in self.items:
            bits |= item.row
        return bits


def carried(bits: int) -> int:
    """The same outside of a row that keeps its names."""
    return bits & ~ROW | WIPE if bits & ROW else bits


def either(left: Outputs, right: Outputs) -> Outputs:
    """Rows of both, under the names of the left one."""
    rest = left.rest | left.soft | right.rest | right.soft
    items = []
    for index in range(min(len(left.items), len(right.items))):
        one, other = left.items[index], right.items[index]
        items.append(Item(one.names, one.bits | other.bits, one.row | carried(other.row)))
    for item in (*left.items[len(items) :], *right.items[len(items) :]):
        rest |= item.bits
    if len(left.items) != len(right.items):
        return Outputs(items, carried(rest), 0)
    return Outputs(items, carried(rest), 0) if rest else Outputs(items)


def both(left: Outputs, right: Outputs) -> Outputs:
    """What either of two queries of one name gives."""
    items = []
    for one, other in zip(left.items, right.items, strict=False):
        items.append(Item(one.names, one.bits | other.bits, one.row | other.row))
    rest = left.rest | right.rest
    for item in (*left.items[len(items) :], *right.items[len(items) :]):
        rest |= carried(item.bits)
    return Outputs(items, rest, left.soft | right.soft)


def as_relation(outputs: Outputs) -> Relation:
    columns: dict[str, int] = {}
    for item in outputs.items:
        for name in item.names if item.bits else ():
            columns[name] = columns.get(name, 0) | carried(item.bits)
    return Relation(columns, outputs.row(), carried(outputs.rest))


def joined(left: Relation, right: Relation) -> Relation:
    columns = {**left.columns}
    for name, bits in right.columns.items():
        columns[name] = columns.get(name, 0) | bits
    return Relation(columns, left.row | right.row, left.open | right.open)
