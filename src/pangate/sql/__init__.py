"""SQL text as PostgreSQL's own grammar reads it."""

from __future__ import annotations

from pangate.sql.copies import CopyOut, copies_out, copy_out

__all__ = ["CopyOut", "copies_out", "copy_out"]
