"""COPY ... TO STDOUT as the codec needs it: the options that shape its rows, and the query behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pangate.sql.tree import parse, quoted


@dataclass(frozen=True, slots=True)
class CopyOut:
    """One COPY ... TO STDOUT, its options with the server's defaults filled in.

    `select` is a statement whose result columns are the COPY's columns: its own query as it was
    written (which may be an INSERT, UPDATE, DELETE or MERGE with RETURNING: describe it, never run
    it), or one made for its table. A table's generated columns are no columns of a COPY without a
    column list, and are in `select`: then the two have different numbers of columns.

    `force_quote` is the names, or ("*",) for all. `encoding` is empty unless the COPY sets its own.
    `unknown` names the options that are not understood."""

    format: Literal["text", "csv", "binary"]
    delimiter: str
    null: str
    quote: str
    escape: str
    header: bool
    force_quote: tuple[str, ...]
    encoding: str
    select: str
    relation: tuple[str, str] | None
    """(schema, table), the schema empty where none is written; None for a query."""
    columns: tuple[str, ...]
    """The column list of a table; empty for all."""
    unknown: tuple[str, ...] = ()


def copy_out(text: str) -> CopyOut | None:
    """The COPY that `text` is; None when it is anything but exactly one COPY ... TO STDOUT, or when it
    cannot be understood."""
    found = copies_out(text, whole=True)
    return found[0] if found and len(found) == 1 else None


def copies_out(text: str, *, whole: bool = False) -> tuple[CopyOut, ...] | None:
    """Every COPY ... TO STDOUT among the statements of `text`, in their order; None when the text
    cannot be understood. With `whole`, None as well when another statement is beside them.

    Only the one of a text that is nothing else has its own query as `select`; for others with a query
    it is empty."""
    statements = parse(text)
    if statements is None:
        return None
    found = []
    for statement in statements:
        copy = statement["stmt"].get("CopyStmt")
        if copy is None or copy.get("is_from") or copy.get("is_program") or "filename" in copy:
            if whole:
                return None
            continue
        query = ""
        if "query" in copy and len(statements) == 1:
            inner = _inner(text, copy["query"])
            if inner is None:
                return None
            query = inner
        found.append(_copy(copy, query))
    return tuple(found)


def _copy(copy: dict[str, Any], query: str) -> CopyOut:
    given: dict[str, Any] = {}
    unknown = []
    for option in copy.get("options", ()):
        element = option["DefElem"]
        name = element["defname"]
        if name not in _OPTIONS or name in given:
            unknown.append(name)
        given[name] = element.get("arg")
    kind = _text(given["format"]) if "format" in given else "text"
    if kind not in ("text", "csv", "binary"):
        unknown.append("format")
        kind = "binary"  # whoever does not look at `unknown` sees what is never passed
    csv = kind == "csv"
    values = {"delimiter": "," if csv else "\t", "null": "" if csv else "\\N", "quote": '"'}
    for name in ("delimiter", "null", "quote", "escape", "encoding"):
        if name in given:
            value = _text(given[name])
            if value is None:
                unknown.append(name)
            else:
                values[name] = value
    header = given.get("header", _ABSENT)
    forced: tuple[str, ...] = ()
    if "force_quote" in given:
        forced = _names(given["force_quote"])
        if not forced:
            unknown.append("force_quote")
    relation, columns, select = None, (), query
    if "relation" in copy:
        table = copy["relation"]
        relation = table.get("schemaname", ""), table["relname"]
        columns = tuple(column["String"]["sval"] for column in copy.get("attlist", ()))
        where = ".".join(quoted(part) for part in relation if part)
        # a COPY leaves the children of its table out
        select = f"SELECT {', '.join(map(quoted, columns)) or '*'} FROM ONLY {where}"  # noqa: S608 - names are quoted, and nothing runs it
    return CopyOut(
        format=kind,  # type: ignore[arg-type]
        delimiter=values["delimiter"],
        null=values["null"],
        quote=values["quote"],
        escape=values.get("escape", values["quote"]),
        header=header is not _ABSENT and (_text(header) or "true").lower() not in _FALSE,
        force_quote=forced,
        encoding=values.get("encoding", ""),
        select=select,
        relation=relation,
        columns=columns,
        unknown=tuple(unknown),
    )


_ABSENT: Any = object()
_FALSE = ("false", "off", "0", "no")
_OPTIONS = frozenset(
    (
        "format",
        "freeze",
        "delimiter",
        "null",
        "header",
        "quote",
        "escape",
        "force_quote",
        "encoding",
    )
)


def _text(value: Any) -> str | None:
    """An option's value as the server's defGetString reads it; None for what it would not take."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((kind, inner),) = value.items()
    if kind == "String":
        return str(inner.get("sval", ""))
    if kind == "Integer":
        return str(inner.get("ival", 0))
    if kind == "Float":
        return str(inner.get("fval", ""))
    if kind == "Boolean":
        return "true" if inner.get("boolval") else "false"
    return None


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        if "A_Star" in value:
            return ("*",)
        value = value.get("List", {}).get("items", ())
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(item["String"]["sval"] for item in value if "String" in item)


_TOKEN = re.compile(
    r"""
      --[^\n\r]*
    | /\*
    | \*/
    | [eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    | [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


def _inner(text: str, query: Any) -> str | None:
    """The text between the brackets of `COPY (...) TO`. Whether it was cut right is shown by parsing
    it: it has to give the very tree that the whole text gave."""
    at = depth = start = comment = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return None
        piece = found[0]
        at = found.end()
        if piece == "/*" or comment:
            if piece in ("/*", "*/"):
                comment += 1 if piece == "/*" else -1
            elif comment:
                at = found.start() + 1  # quotes mean nothing here
            continue
        if found["dollar"]:
            end = text.find(piece, at)
            if end < 0:
                return None
            at = end + len(piece)
        elif piece == "(":
            depth += 1
            if depth == 1:
                start = at
        elif piece == ")":
            depth -= 1
            if depth == 0:
                break
    inner = text[start : at - 1]
    parsed = parse(inner)
    if parsed is None or len(parsed) != 1 or _placeless(parsed[0]["stmt"]) != _placeless(query):
        return None
    return inner.strip()


def _placeless(node: Any) -> Any:
    """A tree without where in the text it stood."""
    if isinstance(node, dict):
        return {
            key: _placeless(value)
            for key, value in node.items()
            if key
            not in ("location", "stmt_location", "stmt_len", "rexpr_list_start", "rexpr_list_end")
        }
    if isinstance(node, list):
        return [_placeless(item) for item in node]
    return node
