"""Which way an agent authenticates. A PostgreSQL server makes one authentication request and no other, so
one way is chosen before it, from what the startup packet says and the configuration allows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

from pangate.errors import Refused
from pangate.model import Way

CHOICE = "pangate.authentication"
"""The setting with which an agent chooses: `PGOPTIONS="-c pangate.authentication=oauth"`, or the name as
a startup parameter of its own. It is for pangate, and is not passed on."""

_ARGUMENT = re.compile(r"(?:\\.|\S)+", re.DOTALL)


def chosen(parameters: Mapping[str, str], names: Sequence[Way], *, certificate: bool) -> Way:
    """The way of this connection: what the agent asks for, else the first of `names` that it can go
    (`certificate` says whether it showed one). Nothing falls back to another way afterwards.

    Raises Refused when the agent asks for a way that is not open."""
    wanted = parameters.get(CHOICE)
    for name, value, _, _ in _settings(parameters.get("options", "")):
        if name == CHOICE:
            wanted = value
    if wanted is not None:
        if wanted not in names:
            raise Refused(
                f"{CHOICE} must be one of {', '.join(names)}, the ways of this gateway "
                "(listen.authentication)"
            )
        return cast(Way, wanted)
    for way in names:
        if way != "certificate" or certificate:
            return way
    return "certificate"


def without_choice(parameters: Mapping[str, str]) -> dict[str, str]:
    """`parameters` as the resource may see them."""
    kept = {name: value for name, value in parameters.items() if name != CHOICE}
    options = kept.get("options", "")
    for name, _, start, end in reversed(_settings(options)):
        if name == CHOICE:
            options = options[:start] + options[end:]
    if options.strip():
        kept["options"] = options
    else:
        kept.pop("options", None)
    return kept


def _settings(options: str) -> list[tuple[str, str, int, int]]:
    """Name, value, start and end of each setting in `options`, which the server splits at white space
    that has no backslash before it (pg_split_opts): `-c name=value`, `-cname=value`, `--name=value`."""
    found: list[tuple[str, str, int, int]] = []
    if not options:
        return found
    words = list(_ARGUMENT.finditer(options))
    at = 0
    while at < len(words):
        first = last = words[at]
        text = first[0]
        if text == "-c" and at + 1 < len(words):
            at += 1
            last = words[at]
            text = "--" + last[0]
        elif text.startswith("-c"):
            text = "--" + text[2:]
        at += 1
        if text.startswith("--") and "=" in text:
            name, _, value = text[2:].partition("=")
            found.append((name, re.sub(r"\\(.)", r"\1", value), first.start(), last.end()))
    return found
