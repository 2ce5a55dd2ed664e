"""Small things about names and trees that the files of this package share."""

from __future__ import annotations


def quoted(name: str) -> str:
    """`name` as an identifier that means exactly it."""
    return '"' + name.replace('"', '""') + '"'
