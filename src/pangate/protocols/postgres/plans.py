"""From the description of a result to what is done with its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pangate._frame import FORCED, FORCED_INT8, REFUSED, SAFE, WIPES, Plan, op_of
from pangate.protocols.postgres.catalog import FIRST_OWN_OID, Catalog, Fact
from pangate.protocols.postgres.messages import Column

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


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and the names of its columns as the record shows them. `refused` is the index of a column
    that cannot be masked, -1 when there is none; there is no plan then."""

    plan: Plan | None
    names: tuple[str, ...]
    refused: int = -1


def plan_for(columns: Sequence[Column], catalog: Catalog) -> Planned:
    """What is done with the cells of `columns`, given what the catalog knows by now."""
    ops, wipes, names = [], [], []
    refused = -1
    for index, column in enumerate(columns):
        fact = catalog.fact(column.table, column.attribute) if column.table else None
        label = column.name.decode("utf-8", "replace")
        names.append(fact.name if fact else label)
        op, wipe = _cell(column, fact, label, catalog)
        ops.append(op)
        wipes.append(wipe)
        if op & 0xFF == REFUSED and not wipe and refused < 0:
            refused = index
    if refused >= 0:
        return Planned(None, tuple(names), refused)
    return Planned(Plan(ops, wipes), tuple(names))


def _cell(column: Column, fact: Fact | None, label: str, catalog: Catalog) -> tuple[int, int]:
    oid, binary = column.oid, column.format
    op = op_of(oid, binary, catalog.types)
    if fact is None:
        action, texts_only = catalog.rules.label(label)
    else:
        action, texts_only = fact.action, fact.texts_only
    if action is None or (texts_only and oid not in TEXTS):
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
