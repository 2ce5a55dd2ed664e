"""Statements as they may be kept: without their values where one may be sensitive authentication data."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from pangate import sql
from pangate.model import Statement, Understanding
from pangate.protocols.postgres.catalog import Catalog


def as_shown(
    statement: Statement, catalog: Catalog, names: Container[str], *, doubtful: bool = False
) -> Statement:
    """`statement` with what may be kept of it, when that is less than all: it touches a sensitive column, or
    the name of one stands in its text or a bind value (a key of JSON, a setting, code). Then all its
    values are wiped, since which of them is which is not asked.

    `names` are those of prepared statements for which that holds. `doubtful` says that another text may run:
    then its bind values are wiped at least."""
    rules = catalog.rules
    if not rules.any:
        return statement
    meaning = statement.meaning or sql.understand(statement.text)
    values = statement.parameters
    if not (
        catalog.touches(meaning)
        or (doubtful and values)
        or any(part.executes in names for part in meaning.parts if part.executes)
        or mentioned(statement.text, catalog, meaning)
        or (values and mentioned("\n".join(filter(None, values)), catalog))
    ):
        return statement
    understood = bool(meaning.parts and meaning.parts[0].command)
    return replace(
        statement,
        shown=sql.without_values(statement.text, understood=understood),
        shown_parameters=tuple(None if value is None else sql.WIPED for value in values),
    )


def mentioned(text: str, catalog: Catalog, meaning: Understanding | None = None) -> bool:
    """Whether the name of a sensitive column stands in `text`, otherwise than as one that it only shows."""
    named = catalog.rules.mentioned
    if named(text):
        shown = [name for part in meaning.parts for name in part.shown] if meaning else ()
        if not shown or (rest := sql.without_names(text, shown)) is None or named(rest):
            return True
    if "\\" not in text and "&" not in text:
        return False
    # in U&'' any character may begin an escape
    return "uescape" in text.lower() or named(sql.unescaped(text))
