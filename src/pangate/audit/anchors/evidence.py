"""What anchors leave with others, read again: checkpoints in files, under time stamps, in lines of logs."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from pangate.audit.anchors import MARK
from pangate.audit.anchors.timestamp import NOTE, STAMP, stamped_at
from pangate.errors import LedgerError

MAX_LINE = 1 << 20
"""Bytes of a line of a log that are looked at; the rest of a longer one is looked at as another line."""

_MARKED = re.compile(re.escape(MARK.encode()) + rb" ([A-Za-z0-9+/]+={0,2})")


class Evidence(NamedTuple):
    """A signed checkpoint that was kept elsewhere. `time` and `who` are of whoever saw it, where they say
    so beside the note; `problem` says why it cannot be used."""

    name: str
    note: bytes
    time: int | None = None
    who: tuple[str, ...] = ()
    problem: str = ""


def notes_in(log: Path) -> Iterator[tuple[int, bytes]]:
    """(number of the line, note) for each checkpoint in a log, whatever else stands in its lines: syslog's
    files, bodies of webhooks. LedgerError when it cannot be read."""
    try:
        with log.open("rb") as file:
            number = 1
            while line := file.readline(MAX_LINE):
                for found in _MARKED.finditer(line):
                    try:
                        yield number, base64.b64decode(found[1], validate=True)
                    except binascii.Error:
                        yield number, b""
                number += line.endswith(b"\n")
    except OSError as error:
        raise LedgerError(f"{log} cannot be read: {error.strerror}") from None


def stamped(path: Path, roots: Sequence[x509.Certificate]) -> Iterator[Evidence]:
    """What the time stamp in the file at `path`, or those in the directory, are over: the checkpoint that is
    beside each. LedgerError when the path cannot be read."""
    try:
        files = sorted(path.glob(f"*{STAMP}")) if path.is_dir() else [path]
        if not files:
            raise LedgerError(f"{path} has no time stamps (*{STAMP})")
        for file in files:
            note = file.with_suffix(NOTE).read_bytes()
            name = f"{file.parent.name}/{file.name}"
            try:
                when = stamped_at(note, file.read_bytes(), list(roots))
            except LedgerError as error:
                yield Evidence(name, note, problem=str(error))
            else:
                yield Evidence(name, note, when, ("the time authority",))
    except OSError as error:
        raise LedgerError(f"{error.filename} cannot be read: {error.strerror}") from None
