"""What a column of a query is called when it is given no name, as the server decides it."""

from __future__ import annotations

from typing import Any


def figure(node: Any) -> tuple[str, ...]:
    """The names that an expression's column may have, the likeliest last. Never empty."""
    name, _ = _figure(node)
    if name:
        return (name,)
    ((kind, _),) = node.items() if node else (("", None),)
    return _OTHERS if kind.startswith(("Json", "Xml", "SQLValue", "Grouping", "Merge")) else _NONE


_NONE = ("?column?",)
_OTHERS = (
    "?column?", "json_object", "json_array", "json_objectagg", "json_arrayagg", "json", "json_scalar",
    "json_serialize", "json_exists", "json_query", "json_value", "xmlconcat", "xmlelement", "xmlforest",
    "xmlparse", "xmlpi", "xmlroot", "xmlserialize", "current_date", "current_time", "current_timestamp",
    "localtime", "localtimestamp", "current_role", "current_user", "user", "session_user",
    "current_catalog", "current_schema", "grouping", "merge_action",
)  # fmt: skip


def _figure(node: Any) -> tuple[str, int]:
    """The name and how sure it is, 0 to 2."""
    if not node:
        return "", 0
    ((kind, body),) = node.items()
    if kind == "ColumnRef":
        return _last(body["fields"]), 2
    if kind == "A_Indirection":
        name = _last(body["indirection"])
        return (name, 2) if name else _figure(body["arg"])
    if kind == "FuncCall":
        return _last(body["funcname"]), 2
    if kind == "A_Expr":
        return ("nullif", 2) if body["kind"] == "AEXPR_NULLIF" else ("", 0)
    if kind == "TypeCast":
        name, strength = _figure(body.get("arg"))
        return (name, strength) if strength > 1 else (_last(body["typeName"].get("names")), 1)
    if kind == "CollateClause":
        return _figure(body.get("arg"))
    if kind == "CaseExpr":
        name, strength = _figure(body.get("defresult"))
        return (name, strength) if strength > 1 else ("case", 1)
    if kind == "SubLink":
        return _of_sublink(body)
    return (_FIXED[kind], 2) if kind in _FIXED else _min_max(kind, body)


_FIXED = {"A_ArrayExpr": "array", "RowExpr": "row", "CoalesceExpr": "coalesce"}


def _min_max(kind: str, body: Any) -> tuple[str, int]:
    if kind == "MinMaxExpr":
        return ("greatest" if body.get("op") == "IS_GREATEST" else "least"), 2
    return "", 0


def _of_sublink(body: Any) -> tuple[str, int]:
    kind = body["subLinkType"]
    if kind == "EXISTS_SUBLINK":
        return "exists", 2
    if kind == "ARRAY_SUBLINK":
        return "array", 2
    select = body["subselect"].get("SelectStmt", {})
    while "larg" in select:
        select = select["larg"]
    targets = select.get("targetList")
    if kind != "EXPR_SUBLINK" or not targets:
        return ("column1", 2) if "valuesLists" in select else ("", 0)
    target = targets[0]["ResTarget"]
    return (target["name"], 2) if "name" in target else _figure(target.get("val"))


def _last(nodes: Any) -> str:
    """The last text of a list of String nodes."""
    names = [node["String"].get("sval", "") for node in nodes or () if "String" in node]
    return names[-1] if names else ""
