"""Files, directories, pipes and compressed streams: read and written in bounded memory."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import pangate

CHUNK = 1 << 20
"""Bytes read at a time."""

_HEAD = 8192
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_JSON, _CSV = (".json", ".jsonl", ".ndjson"), (".csv", ".tsv", ".psv")
_COMPRESSED = (".gz", ".zst")


class Failed(Exception):
    """One input could not be done; the message names it, with card numbers masked."""

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


class Source(NamedTuple):
    """One input: `path` is None for stdin."""

    path: Path | None
    form: str

    @property
    def name(self) -> str:
        return "stdin" if self.path is None else str(self.path)

    @property
    def shown(self) -> str:
        """The name as it may be shown: a file can be called after a card number."""
        return shown(self.name)


def shown(text: str) -> str:
    """A text about files with every card number in it masked, and fit to be printed on one line."""
    raw = pangate.mask(text).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace").replace("\n", "\\n")


def sources(options: argparse.Namespace) -> tuple[list[Source], int]:
    """The inputs, and how many binary files of directories were left out."""
    if not options.paths:
        return [Source(None, "text" if options.format == "auto" else options.format)], 0
    found, skipped = [], 0
    for text in options.paths:
        path = Path(text)
        if path.is_dir():
            for file in sorted(_walk(path)):
                if options.binary or not _is_binary(file):
                    found.append(Source(file, _form(file, options.format)))
                else:
                    skipped += 1
        elif path.exists():
            found.append(Source(path, _form(path, options.format)))
        else:
            raise Failed(f"{text}: no such file or directory")
    return found, skipped


def _walk(folder: Path) -> Iterator[Path]:
    """Regular files below a folder. Links are not followed: what they lead to has a name of its own."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _is_binary(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    if head.startswith((b"\xff\xfe", b"\xfe\xff", _GZIP, _ZSTD)):
        return False
    return b"\0" in head


def _form(path: Path, wanted: str) -> str:
    if wanted != "auto":
        return wanted
    name = path.name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return "json" if name.endswith(_JSON) else "csv" if name.endswith(_CSV) else "text"


@contextlib.contextmanager
def reading(source: Source) -> Iterator[tuple[Any, str, Any]]:
    """An open input as (what to read, "" or "gz" or "zst", the file itself)."""
    try:
        if source.path is None:
            raw: Any = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
            _widen(0)
            yield raw, "", raw
            return
        with source.path.open("rb") as raw:
            head = raw.peek(4)[:4]
            if head.startswith(_GZIP):
                import gzip

                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield unpacked, "gz", raw
            elif head.startswith(_ZSTD):
                with _zstd().ZstdFile(raw, "rb") as unpacked:
                    yield unpacked, "zst", raw
            else:
                yield raw.raw if raw.tell() == 0 and _rewind(raw) else raw, "", raw
    except BrokenPipeError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Failed(f"{source.name}: {reason}") from error


def _rewind(raw: Any) -> bool:
    """What `peek` took belongs to the buffer; a file that can be rewound is read without one."""
    if not raw.seekable():
        return False
    raw.seek(0)
    raw.raw.seek(0)
    return True


def _zstd() -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ModuleNotFoundError as error:
        raise Failed(
            'zst files need a package; install it with: pip install "pangate[zstd]"'
        ) from error
    return zstd


def _widen(descriptor: int) -> None:
    """A pipe that takes more at a time, where the system allows it."""
    with contextlib.suppress(OSError, ImportError, AttributeError):
        import fcntl

        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CHUNK)


def chunks(file: IO[bytes]) -> Iterator[memoryview]:
    """What is there to read, as it comes. A chunk is valid until the next one."""
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        yield view[:count]


class Progress:
    """A line on a terminal that says how far it is; nothing anywhere else, and nothing for short work."""

    def __init__(self, options: argparse.Namespace, sources: Sequence[Source]) -> None:
        self._on = not options.quiet and sys.stderr.isatty()
        self._total = 0
        for source in sources:
            if self._on and source.path is not None:
                with contextlib.suppress(OSError):
                    self._total += source.path.stat().st_size
        self._done = self._before = 0
        self._start = self._shown = time.monotonic()

    def at(self, position: int) -> None:
        """Bytes read of the present input, as they stand in it."""
        now = time.monotonic()
        self._done = self._before + position
        if self._on and now - self._shown > 0.2 and now - self._start > 0.8:
            self._shown = now
            rate = self._done / (now - self._start) / 1e6
            part = f"{100 * self._done // self._total:3} %" if self._total else "    "
            print(
                f"\r{part} {self._done / 1e6:12,.0f} MB {rate:8,.0f} MB/s", end="", file=sys.stderr
            )

    def next(self) -> None:
        """The present input is done."""
        self._before = self._done

    def clear(self) -> None:
        if self._on and self._shown != self._start:
            print("\r" + " " * 40 + "\r", end="", file=sys.stderr)


@contextlib.contextmanager
def writing(path: Path | None) -> Iterator[Any]:
    """A function that writes bytes to a file or to stdout."""
    if path is None:
        sys.stdout.flush()
        _widen(sys.stdout.fileno())
        with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as raw:
            yield lambda data: _write_all(raw, data)
        return
    try:
        with path.open("xb") as file, packed(file, path.suffix.removeprefix(".")) as target:
            yield target.write
    except FileExistsError as error:
        raise Failed(f"{path}: it exists; take another name, or --in-place") from error
    except OSError as error:
        raise Failed(f"{path}: {error.strerror or error}") from error


def _write_all(raw: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[raw.write(view) :]


@contextlib.contextmanager
def packed(raw: IO[bytes], packing: str) -> Iterator[Any]:
    """`raw`, or what packs into it."""
    if packing == "gz":
        import gzip

        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as file:
            yield file
    elif packing == "zst":
        with _zstd().ZstdFile(raw, "wb") as file:
            yield file
    else:
        yield raw
