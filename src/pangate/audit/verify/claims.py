"""What events say of files beside the tree, and of keys that took over."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from pangate.audit.reader import LARGE, SESSIONS
from pangate.ledger.letters import letters

RECORDED, UNFINISHED = "session.recording", "session.unfinished"
"""What is there of a recording that ended, or that ended with its gateway."""

MARKED = "session.recorded"

ROTATED = "key.rotated"

_LARGE = b'"large":{"bytes":'
_BLOCK = 1 << 20


class _Claim(NamedTuple):
    """The first `size` bytes of a file have `digest`; all of it for None."""

    size: int | None
    digest: str
    sequence: int
    whole: bool


class Claims:
    """Gathered while events are read; checked when all have been."""

    _MARKS = (
        b'"session.record',
        b'"session.unfinished"',
        b'"key.rotated"',
        _LARGE,
    )

    @classmethod
    def may_be_in(cls, leaves: bytes) -> bool:
        """Whether one of several events may say something; quick, and true too often."""
        return any(mark in leaves for mark in cls._MARKS)

    def __init__(self) -> None:
        self._files: dict[str, list[_Claim]] = {}
        self.rotated: dict[str, int] = {}
        """By the name of a key, the sequence of the event by which it took over."""

    def take(self, leaf: bytes, sequence: int) -> None:
        """Note what the event with this sequence says."""
        if not self.may_be_in(leaf):
            return
        event = msgspec.json.decode(leaf)
        code, found = event["code"], event.get("data")
        if not isinstance(found, dict):
            return
        if code == ROTATED:
            self.rotated.setdefault(str(found.get("new")), sequence)
        elif code in (RECORDED, UNFINISHED, MARKED):
            self._claim(found.get("file"), found, sequence, whole=code != MARKED)
        large = found.get("large")
        if isinstance(large, dict):
            self._claim(f"{LARGE}/{large.get('digest')}", large, sequence, whole=True)

    def _claim(self, file: object, found: dict[str, Any], sequence: int, *, whole: bool) -> None:
        digest, size = found.get("digest"), found.get("bytes")
        if isinstance(file, str) and isinstance(digest, str):
            size = size if type(size) is int else None
            claim = _Claim(size, digest, sequence, whole)
            self._files.setdefault(file, []).append(claim)

    def add(self, other: Claims) -> None:
        """Add what other events say."""
        for file, claims in other._files.items():
            self._files.setdefault(file, []).extend(claims)
        for name, sequence in other.rotated.items():
            self.rotated[name] = min(sequence, self.rotated.get(name, sequence))

    def files(self) -> dict[str, bool]:
        """The files that events name, and whether one of these says all of it."""
        return {file: any(claim.whole for claim in claims) for file, claims in self._files.items()}

    def check(self, directory: Path) -> Iterator[tuple[str, str, int]]:
        """(file, what is wrong, sequence of the event that says so) for every file that is not what
        events say."""
        for file, claims in sorted(self._files.items()):
            pure = PurePosixPath(file)
            if pure.is_absolute() or ".." in pure.parts:
                yield file, "is no path within the ledger", claims[0].sequence
                continue
            path = directory / file
            if not path.exists() and not any(claim.whole for claim in claims):
                # The session goes on, or its gateway was killed.
                path = path.with_suffix(".open")
            yield from self._check(file, path, claims)

    def _check(self, file: str, path: Path, claims: list[_Claim]) -> Iterator[tuple[str, str, int]]:
        digest, done = sha256(), 0
        try:
            with path.open("rb") as opened:
                length = path.stat().st_size
                for claim in sorted(claims, key=lambda item: item.size or length):
                    until = length if claim.size is None else claim.size
                    if until > length or (claim.whole and until < length):
                        yield (
                            file,
                            f"has {length} bytes, and the event {claim.sequence} says {until}",
                            claim.sequence,
                        )
                        return
                    while done < until:
                        block = opened.read(min(_BLOCK, until - done))
                        digest.update(block)
                        done += len(block)
                    if letters(digest.digest()) != claim.digest:
                        yield (
                            file,
                            f"was changed within its first {until} bytes: the event "
                            f"{claim.sequence} has another digest",
                            claim.sequence,
                        )
                        return
        except OSError as error:
            yield file, f"cannot be read: {error.strerror}", claims[0].sequence

    def unknown(self, directory: Path) -> list[str]:
        """Finished recordings that no event names."""
        names = (
            item.relative_to(directory).as_posix() for item in (directory / SESSIONS).rglob("*.rec")
        )
        return sorted(name for name in names if name not in self._files)
