"""What the server quotes of data in its errors: of a row when a constraint is violated, of a value that it
cannot convert. Values with no type, under names alone or none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pangate.protocols.postgres.messages import error_fields
from pangate.sql import WIPED

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


_QUOTES = "\"'`\u00ab\u00bb\u2018-\u201f\u2039\u203a\u300c\u300d"
_QUOTED = re.compile(f"(?s)[{_QUOTES}].*[{_QUOTES}]")
_NUMBER = re.compile(r"[0-9]+(?:[.:/-][0-9]+)*")
_OF_NAMES = ("42704", "42P01", "42883", "3F000")
"""No such object, relation, function, schema: where no place in the text is given, a value was taken for a
name, as in `cvv::regclass`."""


def quotes_data(fields: Mapping[str, str]) -> bool:
    """Whether an error or a notice may quote a value of the data, and not only the agent's own text: it
    converts or computes (class 22), is raised by code (class P0, and the codes of notices), takes a value for
    a name, or is about what was made at run time, which has a context."""
    code = fields.get("C", "")
    return (
        code.startswith(("22", "P0", "00", "01"))
        or "q" in fields
        or "W" in fields
        or (code in _OF_NAMES and "P" not in fields)
    )


def without_quoted(body: bytes) -> bytes:
    """The body of an ErrorResponse or NoticeResponse with `***` for all that it quotes and counts: from the
    first quote to the last, and every number; of its context and its inner statement nothing stays."""
    out = []
    for part in body.split(NUL):
        kind = part[:1]
        if kind in (b"M", b"D", b"H"):
            text = _QUOTED.sub(_wiped, part[1:].decode("utf-8", "surrogateescape"))
            part = kind + _NUMBER.sub(WIPED, text).encode("utf-8", "surrogateescape")
        elif kind in (b"W", b"q"):
            part = kind + WIPED.encode()
        out.append(part)
    return NUL.join(out)


def _wiped(found: re.Match[str]) -> str:
    return found[0][0] + WIPED + found[0][-1]
