"""`pangate mask` and `pangate find`: the masking library for files, directories and pipes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangate.errors import MaskingError

if TYPE_CHECKING:
    from pangate.masking.masker import Masker

# Nothing here multiplies matrices: numpy need not start threads that wait for it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

FAILED = 2
"""Exit code of both commands when an input could not be done, or a setting cannot be used."""


# --- the two commands ---------------------------------------------------------------------------------


def main_mask(argv: Sequence[str]) -> int:
    """`pangate mask`: returns the exit code."""
    parser = _parser("mask", "Mask card numbers in files, directories or what is piped in.")
    parser.add_argument("-i", "--in-place", action="store_true", help="mask the files themselves")
    backup = parser.add_mutually_exclusive_group()
    backup.add_argument(
        "--backup", metavar="SUFFIX", help="keep each original under its name and SUFFIX"
    )
    backup.add_argument("--no-backup", action="store_true", help="keep no originals")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write here; .gz and .zst compress"
    )
    options = parser.parse_args(argv)
    if options.in_place:
        if not options.paths:
            parser.error("--in-place needs files or directories")
        if options.output:
            parser.error("--in-place and --output exclude each other")
        if options.backup is None and not options.no_backup:
            parser.error(
                "--in-place needs --backup SUFFIX (it holds the card numbers) or --no-backup"
            )
        if options.backup == "":
            parser.error("--backup needs a SUFFIX that is not empty")
    elif options.backup is not None or options.no_backup:
        parser.error("--backup and --no-backup belong to --in-place")
    from pangate.mask_cli import mask

    return _guarded("mask", mask.run, options)


def main_find(argv: Sequence[str]) -> int:
    """`pangate find`: returns the exit code."""
    parser = _parser(
        "find",
        "Report card numbers in files, directories or what is piped in, never showing one. "
        "Exit code 0: none, 1: found, 2: an error.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", action="store_true", help="the summary only")
    parser.add_argument(
        "--digests", action="store_true", help="add what an allow-list takes for each (needs a key)"
    )
    options = parser.parse_args(argv)
    from pangate.mask_cli import find

    return _guarded("find", find.run, options)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    from pangate.masking.masker import ALL_KINDS

    parser = argparse.ArgumentParser(f"pangate {name}", description=description, allow_abbrev=False)
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="files and directories; without any: stdin"
    )
    add = parser.add_argument
    add("--format", choices=("auto", "text", "json", "csv"), default="auto",
        help="auto goes by the file's name; stdin is text")  # fmt: skip
    add("--kind", choices=ALL_KINDS, help="what of a card number stays (default last4)")
    add("--config", type=Path, metavar="FILE", help="a TOML file with a table [masking]")
    add("--key-file", metavar="FILE", help="the key for tokens and allow-lists")
    add("--key-environment", metavar="NAME", help="the environment variable that holds it")
    add(
        "--decode",
        action="append",
        metavar="NAME",
        help="default, all, none or a decoder; repeatable",
    )
    add("--pack", action="append", metavar="NAME", help="a further issuer pack; repeatable")
    add(
        "--without",
        action="append",
        metavar="NETWORK",
        help="a network not to look for; repeatable",
    )
    add("--column", action="append", default=[], metavar="NAME=ACTION",
        help="wipe, mask or leave the values of this name; repeatable")  # fmt: skip
    add(
        "--pattern",
        action="append",
        default=[],
        metavar="NAME=REGEX",
        help="wipe what matches; repeatable",
    )
    add("--delimiter", metavar="CHARACTER", help="of CSV; otherwise the header line shows it")
    add("--binary", action="store_true", help="take binary files of directories as well")
    add("--quiet", action="store_true", help="no progress, no summary")
    return parser


def _guarded(
    name: str, run: Callable[[Masker, argparse.Namespace], int], options: argparse.Namespace
) -> int:
    from pangate.mask_cli.inputs import Failed

    try:
        return run(masker_of(options), options)
    except (MaskingError, Failed) as error:
        print(f"pangate {name}: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        extra = {"re2": "patterns", "cryptography": "tokens"}.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        print(
            f"pangate {name}: the package {error.name} is not installed; install it with: "
            f'pip install "pangate[{extra}]"',
            file=sys.stderr,
        )
    return FAILED


def masker_of(options: argparse.Namespace) -> Masker:
    """The masker of the table in --config, with what the options say on top."""
    from pangate.masking import rules
    from pangate.masking.masker import Masker

    arguments = rules.load(options.config) if options.config else {}
    given: dict[str, Any] = {}
    if options.kind:
        given["kind"] = options.kind
    if options.decode:
        given["decode"] = [name for name in options.decode if name != "none"]
    if options.pack:
        given["packs"] = ["core", *options.pack]
    if options.without:
        given["without"] = options.without
    for name, entries in (("columns", options.column), ("patterns", options.pattern)):
        if entries:
            given[name] = {
                **arguments.get(name, {}),
                **dict(_pair(name, entry) for entry in entries),
            }
    if options.key_file or options.key_environment:
        arguments.pop("key", None)
    for name in ("key_file", "key_environment"):
        if getattr(options, name):
            given[name] = getattr(options, name)
    return Masker(**{**arguments, **rules.read(given)})


def _pair(name: str, entry: str) -> tuple[str, str]:
    key, equals, value = entry.partition("=")
    if not equals or not key:
        raise MaskingError(f"--{name[:-1]} {entry!r}: write it as NAME=VALUE")
    return key, value
