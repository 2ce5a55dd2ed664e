"""Texts for people who look: what cannot be seen made visible, times, and statements laid out for reading.

Nothing here is what runs. What a decision is bound to is the statement as the agent sent it; its exact text
stands beside the laid out one."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlparse
from markupsafe import Markup, escape
from pygments.lexers.sql import PostgresLexer
from pygments.token import Token
from sqlparse.exceptions import SQLParseError

MOST_LAID_OUT = 2_000
"""Characters of the longest statement that is laid out: it takes longer the longer it is."""

MOST_COLOURED = 8_000
"""Characters that are coloured on one page. Callers do this in a thread: it takes tenths of a second."""

_CLASSES = (
    (Token.Keyword, "k"),
    (Token.Name.Builtin, "k"),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "n"),
    (Token.Comment, "c"),
    (Token.Operator, "o"),
)


def visible(text: str) -> str:
    """`text` with what is not seen, or turns the order of what is seen around, by its number."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t" else f"\u27e8U+{ord(one):04X}\u27e9"
        for one in text
    )


def laid_out(text: str) -> str:
    """A statement with a line for each of its clauses; empty when that is not possible or nothing new, and
    when anything but its white space would be another than in `text`."""
    if len(text) > MOST_LAID_OUT:
        return ""
    try:
        made = sqlparse.format(text, reindent=True)
    except (SQLParseError, RecursionError, ValueError, IndexError):
        return ""
    made = made.strip()
    if made == text.strip() or "".join(made.split()) != "".join(text.split()):
        return ""
    return made


def coloured(text: str, most: int = MOST_COLOURED) -> Markup:
    """A statement with its words marked by kind, unless it is longer than `most`. It is masked already."""
    text = visible(text)
    if len(text) > most:
        return escape(text)
    made = []
    lexer = PostgresLexer(stripnl=False, stripall=False, ensurenl=False)
    for kind, piece in lexer.get_tokens(text):
        name = next((name for parent, name in _CLASSES if kind in parent), "")
        said = escape(piece)
        made.append(f'<span class="{name}">{said}</span>' if name else str(said))
    return Markup("".join(made))  # noqa: S704 - every piece is escaped above


def moment(seconds: float | None) -> str:
    """A time of day, UTC."""
    if seconds is None:
        return ""
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def stamp(text: object) -> str:
    """The time of an event for people: without its fractions."""
    said = str(text)
    return f"{said[:10]} {said[11:19]}" if len(said) > 18 and said[10] == "T" else said


def lasting(seconds: float) -> str:
    """How long that is, in the two largest units that say something."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    for size, name, smaller, below in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if left >= size:
            whole, rest = divmod(left, size)
            return f"{whole} {name}" + (f" {rest // smaller} {below}" if rest // smaller else "")
    return f"{left} s"


def until(seconds: float) -> str:
    """How long until then."""
    return lasting(seconds - time.time())


def person(name: str) -> str:
    """The subject of `issuer#subject`."""
    return name.partition("#")[2] or name


def plainly(value: object) -> str:
    """A claim, or a value of an event's data, as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def document(value: Mapping[str, Any]) -> str:
    """An event as it stands in the record, a key a line."""
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, default=str)


def token(text: str) -> Markup:
    """A random text of this process, as it is: digits in it are no card number."""
    return Markup(escape(text))  # noqa: S704


FILTERS: dict[str, Callable[..., object]] = {
    "moment": moment,
    "stamp": stamp,
    "lasting": lasting,
    "until": until,
    "person": person,
    "plainly": plainly,
    "document": document,
    "token": token,
}
