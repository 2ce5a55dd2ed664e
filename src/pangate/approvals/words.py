"""What a statement would do, in plain words for whoever decides it."""

from __future__ import annotations

from collections.abc import Iterator

from pangate.model import Part, Understanding

MOST_PARTS = 20

_CONDITION = {
    "none": "every row: there is no condition",
    "constant": "every row or none: its condition looks at no column",
    "some": "the rows that its condition picks",
}

_EFFECTS = {
    "bulk_write": "changes or removes rows without a condition that could spare one",
    "schema": "makes, changes or removes tables, views, types or functions",
    "privilege": "changes who may do what",
    "code": "runs code that is not in the statement",
    "file": "reaches files of the server or its network",
    "session": "changes what later statements of this session mean or do",
    "admin": "changes or controls the server itself",
}


def plain_words(meaning: Understanding | None) -> tuple[str, ...]:
    """One sentence a line; nothing in them is a literal of the statement."""
    if meaning is None:
        return ("Nobody knows what it does: count it as everything.",)
    lines = [line for part in meaning.parts[:MOST_PARTS] for line in _part(part)]
    left = len(meaning.parts) - MOST_PARTS
    if left > 0:
        lines.append(f"And {left} more statements behind these.")
    return tuple(lines)


def _part(part: Part) -> Iterator[str]:
    name = part.command or "A command that cannot be understood"
    touched = [str(one) for one in part.relations if one.use != "read"]
    read = [str(one) for one in part.relations if one.use == "read"]
    said = name
    if part.explain == "analyze":
        said += ", run by EXPLAIN ANALYZE"
    elif part.explain == "plan":
        said += ", explained and not run"
    if touched:
        said += f" on {_list(touched)}"
    if read:
        said += f", reading {_list(read)}" if touched else f" from {_list(read)}"
    yield said + "."
    if part.where:
        yield f"It concerns {_CONDITION[part.where]}."
    for effect, what in _EFFECTS.items():
        if effect in part.needs and not (effect == "bulk_write" and part.where):
            yield f"It {what} ({part.needs[effect]})."  # type: ignore[index]
    if part.calls:
        yield f"It calls {_list(list(part.calls))}."


def _list(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    shown = names[:10]
    if len(names) > 10:
        shown.append(f"{len(names) - 10} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
