"""From the description of a result to what is done with its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pangate._frame import FORCED, FORCED_INT8, REFUSED, SAFE, WIPES, Plan, op_of
from pangate.masking.column import Action
from pangate.protocols.postgres.catalog import FIRST_OWN_OID, Catalog, Fact
from pangate.protocols.postgres.messages import Column
from pangate.sql.carried import MASK, ROW, WIPE

TEXTS = frozenset({18, 19, 25, 705, 1042, 1043})
"""OIDs of the types whose values are plain text in both formats."""

_WIPES: dict[int, tuple[int, int]] = {
    **dict.fromkeys(TEXTS, (WIPES["text"], WIPES["text"])),
    # int8 int2 int4 oid float4 float8 money
    **dict.fromkeys((20, 21, 23, 26, 700, 701, 790), (WIPES["digit"], WIPES["zeros"])),
    1700: (WIPES["digit"], WIPES["numeric"]),
    17: (WIPES["empty"], WIPES["empty"]),
    114: (WIPES["json"], WIPES["json"]),
    3802: (WIPES["json"], WIPES["jsonb"]),
}
"""What takes the place of a wiped value, by type, as text and in binary. Others become NULL."""


_UNTRACED = frozenset({16, 2278})
"""bool and void: what they say is too little."""

_JSON = frozenset({114, 3802})


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and the names of its columns as the record shows them. `refused` is the index of a column
    that cannot be masked, -1 when there is none; there is no plan then. `traced` are the columns that
    no table is known for, so that it counts what the text made them of; `untold` when that cannot be said of
    the one that is refused."""

    plan: Plan | None
    names: tuple[str, ...]
    refused: int = -1
    traced: tuple[int, ...] = ()
    untold: bool = False


def is_expression(column: Column) -> bool:
    """Whether the server names no column of a table for this one, and it could carry something."""
    return (not column.table or not column.attribute) and column.oid not in _UNTRACED


def plan_for(
    columns: Sequence[Column], catalog: Catalog, carried: Mapping[int, int] = MappingProxyType({})
) -> Planned:
    """What is done with the cells of `columns`, given what the catalog knows by now, and what the text
    has some of them carry, as bits by their index."""
    ops, wipes, names = [], [], []
    refused = -1
    traced = []
    for index, column in enumerate(columns):
        fact = catalog.fact(column.table, column.attribute) if column.table else None
        label = column.name.decode("utf-8", "replace")
        names.append(fact.name if fact else label)
        op, wipe = _cell(column, fact, label, catalog, carried.get(index, 0))
        ops.append(op)
        wipes.append(wipe)
        if fact is None and not wipe and column.attribute >= 0 and column.oid not in _UNTRACED:
            traced.append(index)
        if op & 0xFF == REFUSED and not wipe and refused < 0:
            refused = index
    if refused >= 0:
        return Planned(None, tuple(names), refused)
    return Planned(Plan(ops, wipes), tuple(names), traced=tuple(traced))


def _cell(
    column: Column, fact: Fact | None, label: str, catalog: Catalog, carried: int
) -> tuple[int, int]:
    oid, binary = column.oid, column.format
    op = op_of(oid, binary, catalog.types)
    if fact is None:
        action, texts_only = catalog.rules.label(label)
    else:
        action, texts_only = fact.action, fact.texts_only
        carried = catalog.carriers.carried(column.table, column.attribute)
    if texts_only and oid not in TEXTS:
        action = None
    if action != "leave":
        action = _by_lineage(carried, oid) or action
    if action is None:
        return op, 0
    if action == "leave":
        return SAFE, 0
    if action == "mask":
        if oid in TEXTS:
            return FORCED, 0
        if oid == 20 and binary:
            return FORCED_INT8, 0
    if oid in _WIPES:
        return op, _WIPES[oid][binary]
    if oid >= FIRST_OWN_OID and not binary:
        return op, WIPES["text"]  # an enum, citext and their like
    return op, WIPES["null"]


def _by_lineage(bits: int, oid: int) -> Action | None:
    if not bits or oid in _UNTRACED:
        return None
    if bits & WIPE or (bits & ROW and oid not in _JSON):  # in JSON a row's keys are seen
        return "wipe"
    return "mask" if bits & MASK else None
