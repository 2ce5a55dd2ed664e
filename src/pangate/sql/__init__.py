"""SQL text to what it does, by PostgreSQL's own grammar; what cannot be understood does everything.

`understand` is asked for every statement, so it remembers: by the exact text, and by the text with its
literals taken out where they change nothing. Its memory is bounded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pangate._shape import shape
from pangate.model import EFFECTS, Effect, Part, Understanding
from pangate.sql import settings
from pangate.sql.carried import Lineage, Relation
from pangate.sql.copies import CopyOut, copies_out, copy_out
from pangate.sql.effects import Reader
from pangate.sql.given import Given
from pangate.sql.lineage import columns_of, lineage, settled
from pangate.sql.tree import MAX_TEXT, parse_or_why, quoted
from pangate.sql.values import WIPED, unescaped, without_names, without_values

__all__ = [
    "WIPED",
    "CopyOut",
    "Given",
    "Lineage",
    "Relation",
    "columns_of",
    "copies_out",
    "copy_out",
    "lineage",
    "quoted",
    "resolve",
    "settled",
    "startup",
    "understand",
    "unescaped",
    "without_names",
    "without_values",
]

ENTRIES = 2048
KEPT_TEXT = 4096
"""At most so many texts and shapes are remembered, each at most so many characters long."""

T = TypeVar("T")

_texts: dict[str, Understanding] = {}
_shapes: dict[str, Understanding] = {}

MAX_REPEATED = 1 << 17
"""Longest shape in which repeated rows are looked for, in characters: about 15 ms at the worst."""

_REPEATED = re.compile(r"(\((?:[^()]|\([^()]*\))*\))(?:\s*,\s*\1)+")
"""Rows of VALUES that are one and the same once their literals are out."""


def understand(text: str) -> Understanding:
    """What `text` does, all its statements."""
    found = _texts.get(text)
    if found is not None:
        return found
    reduced = shape(text)
    if reduced is not None:
        found = _shapes.get(reduced)
        if found is not None:
            return found
    found = _read(text, reduced)
    if found.constant and reduced is not None:
        _remember(_shapes, reduced, found)
    else:
        _remember(_texts, text, found)
    return found


def _read(text: str, reduced: str | None) -> Understanding:
    long = len(text) > MAX_TEXT
    if long and reduced is not None:
        text = reduced
        if MAX_TEXT < len(text) <= MAX_REPEATED:
            text = _REPEATED.sub(r"\1", text)
    tree = parse_or_why(text)
    if isinstance(tree, str):
        return _worst(f"a statement that cannot be understood ({tree})")
    try:
        readers = [Reader(statement["stmt"]) for statement in tree if "stmt" in statement]
    except RecursionError:
        return _worst("a statement that cannot be understood (it is nested too deep)")
    if len(readers) == 1 and not long:
        (reader,) = readers
        part = reader.part
        effects = frozenset(part.needs)
        return Understanding((part,), reader.refusal, reader.constant, effects, part.calls)
    constant = all(reader.constant for reader in readers)
    if long and not constant:
        return _worst(
            f"a statement that cannot be understood (it is longer than {MAX_TEXT} characters)"
        )
    refusal = next((reader.refusal for reader in readers if reader.refusal), "")
    return _whole([reader.part for reader in readers], refusal, constant)


def resolve(meaning: Understanding, prepared: Mapping[str, tuple[Part, ...]]) -> Understanding:
    """`meaning` with what its EXECUTEs run put in. `prepared` has the statements that a name may stand
    for, all of them; a name that is neither there nor in `meaning` itself may stand for anything."""
    if not any(part.executes for part in meaning.parts):
        return meaning
    here: dict[str, tuple[Part, ...]] = {}
    parts = []
    for part in meaning.parts:
        if part.executes:
            known = (*prepared.get(part.executes, ()), *here.get(part.executes, ()))
            part = _executing(part, known)
        if part.prepares:
            here[part.prepares] = (*here.get(part.prepares, ()), part)
        parts.append(part)
    return _whole(parts, meaning.refusal, False)


def startup(parameters: Mapping[str, str]) -> Understanding:
    """What the settings of a startup packet do."""
    parts = []
    refusal = ""
    for name, value in settings.startup_settings(parameters):
        if not name:
            parts.append(
                Part("startup options", dict.fromkeys(EFFECTS, "a startup option other than -c"))
            )
            continue
        effect, why = settings.judge(name, value)
        refusal = refusal or why
        if effect is not None:
            parts.append(Part("startup", {effect: f"the startup parameter {name}"}))
    return _whole(parts, refusal, False)


def _executing(part: Part, known: tuple[Part, ...]) -> Part:
    if not known:
        why = "EXECUTE of a prepared statement that this gateway has not seen"
        return part._replace(needs=dict.fromkeys(EFFECTS, why))
    needs: dict[Effect, str] = dict(part.needs)
    for one in known:
        for effect, why in one.needs.items():
            needs.setdefault(effect, f"EXECUTE of {why}")
    return part._replace(
        needs=needs,
        calls=_joined(part.calls, *(one.calls for one in known)),
        relations=_joined(part.relations, *(one.relations for one in known)),
        columns=_joined(part.columns, *(one.columns for one in known)),
        whole=part.whole or any(one.whole for one in known),
    )


def _joined(*parts: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(item for part in parts for item in part))


def _whole(parts: Iterable[Part], refusal: str, constant: bool) -> Understanding:
    parts = tuple(parts)
    return Understanding(
        parts,
        refusal,
        constant,
        frozenset(effect for part in parts for effect in part.needs),
        tuple(dict.fromkeys(call for part in parts for call in part.calls)),
    )


def _worst(why: str) -> Understanding:
    return _whole(
        [Part("", dict.fromkeys(EFFECTS, why), lasting="what is not understood")], "", False
    )


def _remember(memory: dict[str, Understanding], key: str, found: Understanding) -> None:
    if len(key) > KEPT_TEXT:
        return
    if len(memory) >= ENTRIES:
        memory.clear()
    memory[key] = found
