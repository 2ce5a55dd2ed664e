"""Files, directories, pipes and compressed streams: read and written in bounded memory."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import mmap
import os
import queue
import stat
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import pangate

CHUNK = 1 << 18
"""Bytes read at a time: as many as stay in a core's own cache until they are written."""

ROOM = 1 << 16
"""Bytes in front of a chunk: for what a stream of lines holds back of the chunk before."""

_PIPE = 1 << 20  # bytes that a pipe of ours may hold, so that both ends can go on

_ALONE, _BUFFERS = 4, 4  # chunks that are read without a thread; buffers with one
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
    plain = raw.decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in plain)


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
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE)


class Chunk(NamedTuple):
    """What was read: buffer[start:end]. In front of it is room for what is held of the chunk before."""

    buffer: mmap.mmap
    start: int
    end: int

    @property
    def view(self) -> memoryview:
        """The bytes themselves."""
        return memoryview(self.buffer)[self.start : self.end]


def chunks(file: IO[bytes]) -> Iterator[Chunk]:
    """What is there to read, as it comes. A chunk is valid until the next one, and may be written to. What
    is long is read ahead by a thread of its own, so that reading and unpacking go on while something is
    masked."""
    buffer = _buffer()
    for _ in range(_ALONE):
        count = _read(file, buffer)
        if not count:
            return
        yield Chunk(buffer, ROOM, ROOM + count)
    yield from _ahead(file)


def _buffer() -> mmap.mmap:
    """Pages of their own: the kernel copies three times as fast to where a page begins."""
    return mmap.mmap(-1, ROOM + CHUNK)


def _read(file: IO[bytes], buffer: mmap.mmap) -> int:
    with memoryview(buffer)[ROOM:] as place:
        return int(file.readinto(place))  # type: ignore[attr-defined]


def _ahead(file: IO[bytes]) -> Iterator[Chunk]:
    free: queue.SimpleQueue[mmap.mmap | None] = queue.SimpleQueue()
    full: queue.SimpleQueue[Chunk | BaseException] = queue.SimpleQueue()

    def read() -> None:
        try:
            while (buffer := free.get()) is not None:
                count = _read(file, buffer)
                full.put(Chunk(buffer, ROOM, ROOM + count))
                if not count:
                    break
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            full.put(error)

    for _ in range(_BUFFERS):
        free.put(_buffer())
    # It may wait for a pipe when everything else has come to its end.
    threading.Thread(target=read, name="read ahead", daemon=True).start()
    try:
        while True:
            got = full.get()
            if isinstance(got, BaseException):
                raise got
            if got.end == ROOM:
                return
            yield got
            free.put(got.buffer)
    finally:
        free.put(None)


class Utf16:
    """UTF-16 with its mark in front, read as UTF-8 and written back, so that names, JSON and CSV are seen
    in it as in any other text. What has no such mark passes through."""

    def __init__(self) -> None:
        self._begun = b""
        self._codec: str | None = None
        self._decoder: Any = None
        self._back: Any = None
        self._known = False

    def read(self, chunk: memoryview | bytes) -> memoryview | bytes:
        """A chunk as it came, as what is to be masked: itself where nothing is to be done."""
        if not self._known:
            begun = self._begun + bytes(chunk[:4])
            if len(self._begun) + len(chunk) < 4:
                self._begun = begun
                return b""
            self._known = True
            if begun[:2] in _ORDERS and begun[:4] not in _UTF32:
                self._codec = _ORDERS[begun[:2]]
                self._decoder = codecs.getincrementaldecoder(self._codec)("surrogatepass")
                self._back = codecs.getincrementaldecoder("utf-8")("surrogatepass")
            if self._begun:
                chunk, self._begun = self._begun + bytes(chunk), b""
        if self._decoder is None:
            return chunk
        return bytes(self._decoder.decode(bytes(chunk)).encode("utf-8", "surrogatepass"))

    def rest(self) -> bytes:
        """What is left to be masked when the input has ended."""
        begun, self._begun = self._begun, b""
        return begun

    def written(self, masked: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        """What was masked, as it is written."""
        if self._codec is None:
            return masked
        return bytes(self._back.decode(masked).encode(self._codec, "surrogatepass"))

    def tail(self) -> bytes:
        """Half a character at the end of the input."""
        return bytes(self._decoder.getstate()[0]) if self._decoder is not None else b""


_ORDERS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


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


def _write_all(raw: Any, data: bytes | bytearray | memoryview) -> None:
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
