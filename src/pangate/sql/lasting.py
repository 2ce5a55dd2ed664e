"""What a statement may leave in its session that does not end with its transaction. What is not known here
as harmless leaves something."""

from __future__ import annotations

from typing import Any

_TRANSIENT = """
    Select Insert Update Delete Merge Explain Copy Lock Transaction VariableShow Fetch ClosePortal Notify
    Truncate ConstraintsSet Deallocate
"""
TRANSIENT = frozenset(f"{kind}Stmt" for kind in _TRANSIENT.split())
"""Statements that leave nothing by themselves; what stands within them is asked for as well."""

TRANSIENT_FUNCTIONS = frozenset(
    {
        "pg_advisory_xact_lock",
        "pg_advisory_xact_lock_shared",
        "pg_try_advisory_xact_lock",
        "pg_try_advisory_xact_lock_shared",
        "pg_export_snapshot",
    }
)
"""Functions whose effects say more, but which end with the transaction."""

LASTING_FUNCTIONS = frozenset(
    {
        "nextval",
        "setval",
        "currval",
        "lastval",
        "setseed",
        "pg_advisory_unlock_all",
        "pg_listening_channels",
        "pg_prepared_statement",
        "pg_cursor",
    }
)
"""Functions whose effects say less: they change, or tell, what a session keeps."""

LASTING_EFFECTS = frozenset({"session", "code", "file", "admin", "schema", "privilege"})
"""A function that has one of these may leave something."""

LASTING_RELATIONS = frozenset({"pg_prepared_statements", "pg_cursors"})
"""Views of what a session keeps."""

_HOLD = 0x20
"""CURSOR_OPT_HOLD of the server's parsenodes.h."""


def leaves_nothing(kind: str, body: dict[str, Any]) -> bool:
    """Whether a statement leaves nothing by itself."""
    if kind == "VariableSetStmt":
        if body["kind"] == "VAR_SET_MULTI":
            return bool(body.get("name", "").startswith("TRANSACTION"))
        return bool(body.get("is_local"))
    if kind == "DeclareCursorStmt":
        return not body.get("options", 0) & _HOLD
    return kind in TRANSIENT
