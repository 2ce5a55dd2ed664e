"""Whether a condition of UPDATE, DELETE or MERGE can spare a row."""

from __future__ import annotations

from typing import Any

from pangate.sql.tree import names_of


def spares(where: Any) -> bool:
    """Whether a condition depends on the row, so that it can spare one. False for what is constant on
    its face: no column in it, a thing compared with itself, one constant arm of an OR."""
    if not isinstance(where, dict):
        return False
    boolean = where.get("BoolExpr")
    if boolean is not None:
        arms = [spares(arm) for arm in boolean.get("args", ())]
        return all(arms) if boolean["boolop"] == "OR_EXPR" else any(arms)
    if "CurrentOfExpr" in where:
        return True
    expression = where.get("A_Expr")
    if expression is not None and "lexpr" in expression:
        left, right = expression["lexpr"], expression.get("rexpr")
        others = right["List"].get("items", ()) if "List" in (right or {}) else (right,)
        return _columns(where) and _shape_of(left) not in map(_shape_of, others)
    link = where.get("SubLink")
    if link is not None and "testexpr" not in link:
        return _correlated(link)
    return _columns(where)


def _columns(node: Any) -> bool:
    if isinstance(node, dict):
        return "ColumnRef" in node or any(map(_columns, node.values()))
    return isinstance(node, list) and any(map(_columns, node))


def _correlated(link: dict[str, Any]) -> bool:
    # EXISTS (SELECT 1 FROM t) is the same for every row; with a column in it, it may be not
    query = link.get("subselect", {}).get("SelectStmt", {})
    return _columns(query.get("whereClause")) or _columns(query.get("fromClause"))


def _shape_of(node: Any) -> Any:
    """A tree without places and values. What has no column in it is a constant, and no item of a list:
    so texts of one shape (`pangate._shape`), in which lists of literals are shorter, are alike here."""
    if isinstance(node, dict):
        if "ColumnRef" in node:
            return names_of(node["ColumnRef"]["fields"])
        if not _columns(node):
            return "constant"
        return {
            key: names_of(value) if key in ("funcname", "name") else _shape_of(value)
            for key, value in node.items()
            if key != "location"
        }
    if isinstance(node, list):
        return [shape for shape in map(_shape_of, node) if shape != "constant"]
    return node
