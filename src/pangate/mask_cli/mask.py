"""`pangate mask`: copy inputs masked, or replace files by their masked copies."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pangate.mask_cli.inputs import (
    Failed,
    Progress,
    Source,
    Utf16,
    chunks,
    packed,
    reading,
    sources,
    writing,
)
from pangate.mask_cli.table import Table

if TYPE_CHECKING:
    from pangate.masking.masker import Masker

OK, FAILED = 0, 2
"""Exit codes; FAILED when some input could not be done."""


def run(masker: Masker, options: argparse.Namespace) -> int:
    """The command behind its options. Returns the exit code."""
    inputs, skipped = sources(options)
    progress = Progress(options, inputs)
    failed = False
    changed = 0
    try:
        if options.in_place:
            for source in inputs:
                try:
                    changed += _mask_in_place(masker, source, options, progress)
                except Failed as error:
                    failed = True
                    progress.clear()
                    print(f"pangate mask: {error}", file=sys.stderr)
                progress.next()
        else:
            with writing(options.output) as write:
                for source in inputs:
                    _mask_one(masker, source, write, options, progress)
                    progress.next()
    finally:
        progress.clear()
    if not options.quiet and (options.in_place or skipped):
        left = f"; {skipped} binary files left out, --binary takes them" if skipped else ""
        print(f"{changed} of {len(inputs)} files changed{left}", file=sys.stderr)
    return FAILED if failed else OK


def _mask_one(
    masker: Masker, source: Source, write: Any, options: argparse.Namespace, progress: Progress
) -> bool:
    """Mask one input into `write`. Returns whether anything differs."""
    with reading(source) as (file, _, raw):
        return _copy(masker, source, file, raw, write, options, progress)


def _copy(
    masker: Masker,
    source: Source,
    file: IO[bytes],
    raw: IO[bytes],
    write: Any,
    options: argparse.Namespace,
    progress: Progress,
) -> bool:
    stream: Any = Table(masker, source, options) if source.form == "csv" else None
    if stream is None:
        stream = masker.stream("json" if source.form == "json" else "text")
    regular = source.path is not None
    text = Utf16()
    before = after = size = out = 0

    def give(masked: bytes | bytearray | memoryview) -> None:
        nonlocal after, out
        if options.in_place:
            after, out = zlib.crc32(masked, after), out + len(masked)
        if masked:
            write(masked)

    for chunk in chunks(file):
        view = chunk.view
        if options.in_place:
            before, size = zlib.crc32(view, before), size + len(view)
        plain = text.read(view)
        for part in stream.through(*chunk) if plain is view else stream.parts(plain):
            give(text.written(part))
        if regular:
            progress.at(raw.tell())
    give(text.written(stream.feed(text.rest()) + stream.finish()))
    give(text.tail())
    return (before, size) != (after, out)


def _mask_in_place(
    masker: Masker, source: Source, options: argparse.Namespace, progress: Progress
) -> bool:
    """Replace a file by its masked copy, which is whole and on the disk before it takes the name."""
    path = source.path
    assert path is not None
    if path.is_symlink() or not path.is_file():
        raise Failed(f"{path}: not a regular file, so it is not masked in place")
    if path.stat().st_nlink > 1:
        raise Failed(
            f"{path}: the file has other names (hard links), under which it would stay as it is; remove "
            "them, or write to --output"
        )
    backup = path.with_name(path.name + options.backup) if options.backup else None
    if backup is not None and backup.exists():
        raise Failed(f"{backup}: the backup exists already; take another suffix")
    temporary = path.with_name(f".{path.name}.pangate-{os.getpid()}")
    try:
        with reading(source) as (file, packing, raw), temporary.open("xb") as out:
            status = os.fstat(raw.fileno())
            _own(out.fileno(), raw.fileno(), status)
            with packed(out, packing) as target:
                changed = _copy(masker, source, file, raw, target.write, options, progress)
            out.flush()
            os.fsync(out.fileno())
        if changed:
            now = path.stat()
            if (now.st_ino, now.st_size, now.st_mtime_ns) != (
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
            ):
                raise Failed(f"{path}: it was written to meanwhile, so it was left as it is")
            if backup is not None:
                os.link(path, backup)
            temporary.replace(path)
            _sync(path.parent)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return changed


def _own(copy: int, original: int, status: os.stat_result) -> None:
    """Give a copy the owner, the mode and, where there are any, the access lists of its original."""
    with contextlib.suppress(PermissionError):
        os.fchown(copy, status.st_uid, status.st_gid)
    os.fchmod(copy, stat.S_IMODE(status.st_mode))
    with contextlib.suppress(
        OSError, AttributeError
    ):  # where the system or the file system has none
        for name in os.listxattr(original):
            os.setxattr(copy, name, os.getxattr(original, name))


def _sync(folder: Path) -> None:
    """See to it that a new name is on the disk too."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
