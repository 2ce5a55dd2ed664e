"""The configuration as text for people: what a file resolves to, and the reference of all keys."""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any, Literal

import msgspec

from pangate.config import (
    OPTIONAL,
    PROFILE,
    TABLES,
    Config,
    _bare,
    description_of,
    doc_of,
    items_of,
    settings_of,
    toml_key,
)
from pangate.config.base import SecretSettings, Settings


def describe(config: Config) -> str:
    """The resolved configuration as TOML, defaults filled in and secrets left out."""
    plain = public(config)
    lines = [f"# {config.path}", f"# digest {config.digest}"]
    if config.profile:
        lines.append(f'# profile = "{config.profile}" adds the last of the rules below')
    for key, _, array in TABLES:
        for item in plain[key] if array else [plain[key]]:
            lines += ["", f"[[{key}]]" if array else f"[{key}]"]
            if key in OPTIONAL:
                # what such a table leaves out is no setting: it says nothing of that
                item = {name: value for name, value in item.items() if value not in _NOTHING}
            lines += [f"{toml_key(name)} = {_toml(value)}" for name, value in item.items()]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The reference of the file in Markdown, made from the types above."""
    lines = [
        "# Configuration",
        "",
        "One TOML file configures the gateway: `pangate serve --config pangate.toml`. "
        "`pangate check --config pangate.toml` prints every problem in it at once, or the resolved "
        "configuration. A key that is not listed here is an error. Relative paths start from the "
        "directory of the file.",
        "",
        "This page is printed by `pangate check --reference`.",
        "",
        "## `profile`",
        "",
        PROFILE,
        "",
        'Left out, or `""`: none.',
    ]
    described: dict[type[Settings], str] = {}
    for key, kind, array in TABLES:
        header = f"[[{key}]]" if array else f"[{key}]"
        lines += ["", f"## `{header}`", "", doc_of(kind), "", *_reference_rows(kind)]
        for field in msgspec.structs.fields(kind):
            nested, items = settings_of(field.type), items_of(field.type)
            made = nested or items
            if made is None:
                continue
            name = f"{key}.{field.name}" if nested else f"[[{key}.{field.name}]]"
            lines += ["", f"### `{name}`", ""]
            if made in described:
                lines.append(f"As `{described[made]}`.")
                continue
            described[made] = name
            lines += [doc_of(made), "", *_reference_rows(made)]
    return "\n".join(lines) + "\n"


def public(config: Config) -> dict[str, Any]:
    """The configuration as plain values without secrets; also what the digest is made of."""
    plain = msgspec.to_builtins(config, enc_hook=str)
    assert isinstance(plain, dict)
    del plain["path"]
    _hide(plain)
    return plain


def _hide(value: Any) -> None:
    """Leave out the arguments of commands that print secrets: they are where tokens of vault clients end
    up."""
    if isinstance(value, (list, tuple)):
        for item in value:
            _hide(item)
    elif isinstance(value, dict):
        command = value.get("command")
        if command is not None and value.keys() == _SECRET:
            value["command"] = [command[0], *["(not shown)"] * (len(command) - 1)]
        if command := value.get("key_command"):
            value["key_command"] = [command[0], *["(not shown)"] * (len(command) - 1)]
        for item in value.values():
            _hide(item)


_SECRET = set(SecretSettings.__struct_fields__)

_NOTHING: tuple[object, ...] = (None, "", False, (), [], {})


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(
            f"{toml_key(key)} = {_toml(item)}" for key, item in value.items() if item is not None
        )
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value is None:
        return '""  # not set'
    return json.dumps(value, ensure_ascii=False)


def _reference_rows(kind: type[Settings]) -> list[str]:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        if field.required:
            default = "required"
        elif field.default is None:
            default = "none"
        elif field.default is msgspec.NODEFAULT:
            default = "`{}`"  # made anew for each: only tables are
        elif isinstance(field.default, Settings):
            default = "none of them"
        else:
            made = field.default
            if made is msgspec.NODEFAULT:
                made = field.default_factory()
            plain = msgspec.to_builtins(made, enc_hook=str)
            default = f"`{_toml(plain)}`"
        text = description_of(field.type).replace("|", "\\|")
        rows.append(f"| `{field.encode_name}` | {_type_name(field.type)} | {default} | {text} |")
    return rows


def _type_name(annotation: Any) -> str:
    bare = _bare(annotation)
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(
            _type_name(argument) for argument in arguments if argument is not types.NoneType
        )
    if origin is Literal:
        return " or ".join(f'`"{argument}"`' for argument in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}{'s' if items_of(bare) else ''}"
    if settings_of(bare) is not None or origin is dict or bare is Any:
        return "table"
    return {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}[
        bare
    ]
