"""The parser, and small things about its trees that the files of this package share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pgparse

MAX_TEXT = 16_384
"""Longest text that is parsed, in characters. It bounds how long the parser may take (about 10 ms), and
how deep it may recurse: it does not look at its stack, and 60,000 nested expressions overflow 8 MB."""

# pgparse gets its trees as JSON, and looks this name up each time: reading them with msgspec takes a quarter
# off what a new statement costs. Where it does not look there, nothing changes.
pgparse.json = SimpleNamespace(loads=msgspec.json.decode)


def parse(text: str) -> list[dict[str, Any]] | None:
    """The statements of `text`; None when it is too long, too deep or no SQL."""
    return None if isinstance(found := parse_or_why(text), str) else found


def parse_or_why(text: str) -> list[dict[str, Any]] | str:
    """The statements of `text`, or why there are none, without a word of the text."""
    if len(text) > MAX_TEXT:
        return f"it is longer than {MAX_TEXT} characters"
    try:
        found: list[dict[str, Any]] = pgparse.parse(text)
    except pgparse.PGQueryError as wrong:
        return f"syntax error at character {wrong.args[1]}"
    except (RecursionError, ValueError):
        return "it is nested too deep"
    return found


def statements_of(text: str) -> list[dict[str, Any]] | None:
    """The trees alone of the statements of `text`, without those that are empty."""
    found = parse(text)
    return None if found is None else [one["stmt"] for one in found if "stmt" in one]


def quoted(name: str) -> str:
    """`name` as an identifier that means exactly it."""
    return '"' + name.replace('"', '""') + '"'


def names_of(nodes: Any) -> tuple[str, ...]:
    """The texts of a list of String nodes; a star is "*"."""
    found = []
    for node in nodes or ():
        if "String" in node:
            found.append(node["String"].get("sval", ""))
        elif "A_Star" in node:
            found.append("*")
    return tuple(found)
