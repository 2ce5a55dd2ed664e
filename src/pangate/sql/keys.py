"""Keys and paths within JSON, XML and hstore: what a text names, and what is made at run time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pangate.sql.carried import Known

Node = Any


def key_bits(text: str, known: Known) -> int:
    """What is found under a key, or a path of keys, as JSON, XML and hstore know them."""
    bits = 0
    texts = [text]
    if "\\" in text or "&" in text:
        texts.append(_ESCAPE.sub(_unescaped, text))
    for each in texts:
        for key in _KEY.findall(each):
            key = key.strip()
            bits |= known.key(key)
            if " " in key:
                for word in key.split():
                    bits |= known.key(word)
    return bits


_KEY = re.compile(r"[\w \-]{1,100}")


_ESCAPE = re.compile(
    r"\\u\{([0-9a-fA-F]+)\}|\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|&#x([0-9a-fA-F]+);|&#([0-9]+);|\\(.)",
    re.DOTALL,
)


def _unescaped(found: re.Match[str]) -> str:
    if found[6]:
        return found[6]
    digits = next(filter(None, found.group(1, 2, 3, 4)), "")
    number = int(digits, 16) if digits else int(found[5])
    return chr(number) if number < 0x110000 else ""


def strings(nodes: Iterable[Node] | None) -> tuple[str, ...]:
    return tuple(
        node if isinstance(node, str) else node["String"].get("sval", "")
        for node in nodes or ()
        if isinstance(node, str) or "String" in node
    )


def is_constant(node: Node) -> bool:
    while "TypeCast" in node:
        node = node["TypeCast"].get("arg", {})
    return "A_Const" in node or "ParamRef" in node


def computed(node: Node) -> bool:
    """Whether a key is made at run time, so that nobody can say which it is."""
    if not node:
        return False
    if "A_ArrayExpr" in node:
        return any(map(computed, node["A_ArrayExpr"].get("elements", ())))
    if "NamedArgExpr" in node:
        return computed(node["NamedArgExpr"].get("arg"))
    if "TypeCast" in node:
        return computed(node["TypeCast"].get("arg"))
    return not is_constant(node) and folded(node) is None


def hidden(node: Node) -> bool:
    """Whether a subscript may be a key that is made at run time."""
    if isinstance(node, list):
        return any(map(hidden, node))
    if not isinstance(node, dict):
        return False
    if "FuncCall" in node or "SubLink" in node or "CaseExpr" in node:
        return True
    if "A_Expr" in node and strings(node["A_Expr"].get("name"))[-1:] == ("||",):
        return folded(node) is None
    return any(map(hidden, node.values()))


def folded(node: Node) -> str | None:
    """The text that constants joined by || are."""
    if not isinstance(node, dict):
        return None
    if "TypeCast" in node:
        return folded(node["TypeCast"].get("arg"))
    if "A_Const" in node:
        text = node["A_Const"].get("sval")
        return text.get("sval", "") if isinstance(text, dict) else None
    body = node.get("A_Expr", {})
    if strings(body.get("name"))[-1:] != ("||",):
        return None
    left, right = folded(body.get("lexpr")), folded(body.get("rexpr"))
    return None if left is None or right is None else left + right
