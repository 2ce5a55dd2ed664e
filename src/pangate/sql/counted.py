"""From a statement to one that counts the rows that it concerns, and does nothing else.

The text of the condition is taken as it stands. Where it begins and ends is tried, and what is taken is what
the server's own grammar reads as the very same condition, of the very same table: a mistake of ours
finds no text, and never another one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pangate.sql import understand
from pangate.sql.tree import parse, quoted

MOST_TRIED = 64
"""Places at which a condition may begin, times those at which it may end."""

_WHERE = re.compile(r"\bwhere\b", re.IGNORECASE)
_RETURNING = re.compile(r"\breturning\b", re.IGNORECASE)

_INNER = {"targetList", "fromClause", "whereClause", "limitCount", "limitOption", "op"}

Tree = dict[str, Any]


class NotCountable(ValueError):
    """Why not."""


def count_of(text: str, bound: int) -> str:
    """A query for how many rows `text` concerns, of which it looks at `bound` at the most. Raises
    NotCountable."""
    found = parse(text)
    if found is None or len(found) != 1 or "stmt" not in found[0]:
        raise NotCountable("it is not one statement")
    ((kind, tree),) = found[0]["stmt"].items()
    if kind == "SelectStmt":
        made = _of_query(text, tree, bound)
    elif kind == "TruncateStmt":
        made = _of_rows(text, tree.get("relations", []), None, bound)
    elif kind in ("UpdateStmt", "DeleteStmt"):
        for key, what in (
            ("withClause", "WITH"),
            ("fromClause", "FROM"),
            ("usingClause", "USING"),
        ):
            if key in tree:
                raise NotCountable(f"it has {what}, so its rows are not those of one table")
        made = _of_rows(text, [{"RangeVar": tree["relation"]}], tree.get("whereClause"), bound)
    else:
        raise NotCountable("it is no SELECT, UPDATE, DELETE or TRUNCATE of one table")
    meaning = understand(made)
    if meaning.calls:
        raise NotCountable(f"it calls {meaning.calls[0]}, which could do anything")
    if meaning.refusal or meaning.effects != {"read"}:
        doing = ", ".join(sorted(meaning.effects - {"read"})) or "nobody knows what"
        raise NotCountable(f"looking for its rows would do more than read: {doing}")
    return made


def _of_query(text: str, tree: Tree, bound: int) -> str:
    for key, what in (("lockingClause", "locks rows"), ("intoClause", "makes a table")):
        if key in tree:
            raise NotCountable(f"it {what}")
    made = _counting(f"({text.rstrip().rstrip(';')}\n) as held", "", bound)
    inner = _inner(made)
    source = inner["fromClause"][0].get("RangeSubselect", {}) if inner else {}
    if _bare(source.get("subquery")) != _bare({"SelectStmt": tree}):
        raise NotCountable("its text cannot be taken apart")
    return made


def _of_rows(text: str, relations: list[Tree], where: Tree | None, bound: int) -> str:
    if len(relations) != 1 or "RangeVar" not in relations[0]:
        raise NotCountable("it concerns more than one table")
    if where is not None and "CurrentOfExpr" in where:
        raise NotCountable("it is about the row of a cursor")
    table = _named(relations[0]["RangeVar"])
    for condition in _conditions(text) if where is not None else ("",):
        made = _counting(table, condition, bound)
        inner = _inner(made)
        if (
            inner is not None
            and _bare(inner.get("whereClause")) == _bare(where)
            and _bare(inner["fromClause"]) == _bare(relations)
        ):
            return made
    raise NotCountable("its text cannot be taken apart")


def _counting(source: str, condition: str, bound: int) -> str:
    where = f" where ({condition}\n)" if condition else ""
    # the server's own grammar says afterwards what it is
    return f"select count(*) from (select 1 from {source}{where} limit {bound}) as counted"  # noqa: S608


def _conditions(text: str) -> Iterator[str]:
    """What could be the condition in it."""
    ends = [len(text.rstrip().rstrip(";")), *(one.start() for one in _RETURNING.finditer(text))]
    tried = 0
    for begin in _WHERE.finditer(text):
        for end in ends:
            if end > begin.end() and tried < MOST_TRIED:
                tried += 1
                yield text[begin.end() : end]


def _inner(made: str) -> Tree | None:
    """What is counted, as the grammar reads it; None when it reads something else."""
    found = parse(made)
    if found is None or len(found) != 1:
        return None
    outer = found[0].get("stmt", {}).get("SelectStmt", {})
    sources = outer.get("fromClause", [])
    if len(sources) != 1 or "whereClause" in outer:
        return None
    inner: Tree = sources[0].get("RangeSubselect", {}).get("subquery", {}).get("SelectStmt", {})
    return inner if inner.keys() <= _INNER and len(inner.get("fromClause", [])) == 1 else None


def _named(relation: Tree) -> str:
    if "catalogname" in relation:
        raise NotCountable("it names another database")
    names = [relation[key] for key in ("schemaname", "relname") if key in relation]
    said = ".".join(map(quoted, names))
    alias = relation.get("alias", {})
    if "colnames" in alias:
        raise NotCountable("it renames columns")
    only = "" if relation.get("inh") else "only "
    return f"{only}{said}" + (f" as {quoted(alias['aliasname'])}" if alias else "")


def _bare(node: Any) -> Any:
    """A tree without the places of its parts in the text."""
    if isinstance(node, dict):
        return {
            key: _bare(value)
            for key, value in node.items()
            if not (isinstance(value, int) and key.endswith(("location", "_start", "_end", "_len")))
        }
    return [_bare(one) for one in node] if isinstance(node, list) else node
