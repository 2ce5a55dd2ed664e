"""The settings of a masker as one TOML table. A wrong one is a MaskingError that names the key and why."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pangate.errors import MaskingError
from pangate.masking.tokens import Key

_TEXT, _LIST, _FLAG, _TABLE = "a text", "a list of texts", "true or false", "a table of texts"

SETTINGS: dict[str, tuple[str, ...]] = {
    "kind": (_TEXT,),
    "packs": (_LIST,),
    "without": (_LIST,),
    "decode": (_TEXT, _LIST),
    "tracks": (_FLAG,),
    "columns": (_TABLE,),
    "sensitive": (_FLAG,),
    "patterns": (_TABLE,),
    "uuids": (_TEXT,),
    "confidence": (_TEXT,),
    "allow": (_LIST,),
    "key_file": (_TEXT,),
    "key_environment": (_TEXT,),
}
"""The keys of the table and what they take. All but the last two are the arguments of `Masker`."""


def read(settings: Mapping[str, object], where: str = "") -> dict[str, Any]:
    """The arguments of `Masker` for a table. MaskingError names the first key that is wrong."""
    prefix = where + "." if where else ""
    arguments: dict[str, Any] = {}
    for name, value in settings.items():
        takes = SETTINGS.get(name)
        if takes is None:
            close = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(SETTINGS)}"
            raise MaskingError(f"{prefix}{name}: there is no such key; {hint}")
        if not any(_is(value, kind) for kind in takes):
            raise MaskingError(f"{prefix}{name}: it takes {' or '.join(takes)}")
        arguments[name] = value
    file, variable = arguments.pop("key_file", None), arguments.pop("key_environment", None)
    if file is not None and variable is not None:
        raise MaskingError(f"{prefix}key_file, {prefix}key_environment: give one of them, not both")
    if file is not None:
        arguments["key"] = Key.from_file(file)
    elif variable is not None:
        arguments["key"] = Key.from_environment(variable)
    return arguments


def load(path: str | os.PathLike[str], table: str = "masking") -> dict[str, Any]:
    """The arguments of `Masker` for one table of a TOML file; dots in `table` name a table within one."""
    try:
        content: Any = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise MaskingError(f"{path}: {error.strerror or type(error).__name__}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MaskingError(f"{path}: {error}") from None
    for part in table.split("."):
        content = content.get(part) if isinstance(content, dict) else None
        if not isinstance(content, dict):
            raise MaskingError(f"{path}: there is no table [{table}]")
    return read(content, table)


def _is(value: object, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str)
    if kind == _FLAG:
        return isinstance(value, bool)
    if kind == _LIST:
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(one, str) for name, one in value.items()
    )
