"""What the server quotes of a row when a constraint is violated: values with no type, under names alone."""

from __future__ import annotations

import re
from collections.abc import Callable

from pangate.protocols.postgres.messages import error_fields

NUL = b"\0"
_OF_KEYS = ("23505", "23503", "23P01")
"""Unique, foreign key and exclusion: the others quote whole rows."""

_ROW = re.compile(rb"(?s)^(.*?\()(.*)(\)[^()]*)$")
_KEY = re.compile(rb"(?s)^(.*?\((.*?)\)=\()(.*)(\)[^()]*)$")


def without_values(body: bytes, sensitive: Callable[[str], bool]) -> bytes:
    """The body of an ErrorResponse with the values of its detail taken out, where they may be sensitive:
    those of a key when `sensitive` says so of one of its names, those of a whole row always, since it
    has no names.

    Only violations of constraints (class 23) quote rows; their wording is in the language of the
    server, so it is the brackets that are read: `Key (a, b)=(1, 2) ...`, `... contains (1, 2, 3).`"""
    fields = error_fields(body)
    if not fields.get("C", "").startswith("23") or not fields.get("D"):
        return body
    out = []
    for part in body.split(NUL):
        if part[:1] == b"D":
            key = _KEY.match(part) if fields["C"] in _OF_KEYS else None
            if key:
                names = key[2].decode("utf-8", "replace").split(", ")
                if any(sensitive(name.strip('"')) for name in names):
                    part = key[1] + b"***" + key[4]
            else:
                found = _ROW.match(part)
                part = found[1] + b"***" + found[3] if found else b"D***"
        out.append(part)
    return NUL.join(out)
