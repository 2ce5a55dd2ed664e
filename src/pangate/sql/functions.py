"""What PostgreSQL's functions do beside computing a value. Data, to be extended:

functions.csv  effects by name, of every volatile function of the server and of well-known extensions
builtins.txt   the other functions of pg_catalog (15, 17 and 18) that SQL can call: they only compute or read
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from importlib.resources import files

from pangate.model import EFFECTS, Effect


@functools.cache
def effects_by_name() -> Mapping[str, tuple[Effect, ...]]:
    """The effects of functions that have any, or that are known to have none but `read`."""
    found: dict[str, tuple[Effect, ...]] = {}
    known = {str(effect): effect for effect in EFFECTS}
    text = files("pangate.sql").joinpath("functions.csv").read_text("utf-8")
    for row in csv.DictReader(text.splitlines()):
        found[row["name"]] = tuple(known[word] for word in row["effects"].split())
    return found


@functools.cache
def builtins() -> frozenset[str]:
    """Functions of pg_catalog that have no effect but `read`."""
    return frozenset(files("pangate.sql").joinpath("builtins.txt").read_text("utf-8").split())
