"""The forms of an archive, and its seal: a statement of the log over every byte before it, put where readers
of the form pass over it: a skippable frame of zstd, the comment of an empty member of gzip, or of a zip."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from pangate.audit.recorded import zstd
from pangate.errors import LedgerError
from pangate.ledger.letters import letters
from pangate.ledger.note import Signer, Verifier
from pangate.ledger.statement import EXPORT, number, open_statement, sign

Form = Literal["tar.zst", "tar.gz", "zip"]

FORMS: tuple[Form, ...] = ("tar.zst", "tar.gz", "zip")

MAX_SEAL = 16 << 10

_BLOCK = 1 << 20
_TIME = (1980, 1, 1, 0, 0, 0)
_SKIPPABLE = 0x184D2A50
_MEMBER = bytes.fromhex("1f8b 08 10 00000000 00 ff")
_MEMBER_END = bytes.fromhex("00 0300 00000000 00000000")


def form_of(path: Path) -> Form:
    """The form that a name asks for. Raises LedgerError."""
    for form in FORMS:
        if path.name.endswith(f".{form}"):
            return form
    raise LedgerError(f"{path.name}: the name of an archive ends in .{', .'.join(FORMS)}")


class Writer:
    """Makes an archive at `path`, whose name says its form. To be closed by `seal`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._form = form_of(path)
        self._zip: zipfile.ZipFile | None = None
        self._tar: tarfile.TarFile | None = None
        self._packed: Any = None
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.fdopen(os.open(path, flags, 0o600), "w+b")
        except OSError as error:
            raise LedgerError(f"{path} cannot be made: {error.strerror}") from None
        if self._form == "zip":
            self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED)
            return
        if self._form == "tar.gz":
            self._packed = gzip.GzipFile("", "wb", 6, self._file, mtime=0)
        else:
            self._packed = zstd().ZstdFile(self._file, "wb")
        self._tar = tarfile.TarFile.open(fileobj=self._packed, mode="w|")

    def add(self, name: str, source: IO[bytes], size: int) -> tuple[int, str]:
        """Put `size` bytes of `source` in as `name`. Returns the length and the digest."""
        reader = _Digesting(source, size)
        if self._zip is not None:
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            with self._zip.open(info, "w", force_zip64=True) as target:
                while data := reader.read(_BLOCK):
                    target.write(data)
        else:
            assert self._tar is not None
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = size, 0o600
            self._tar.addfile(entry, reader)
        if reader.done != size:
            raise LedgerError(
                f"{name} has {reader.done} bytes and had {size}: it was cut meanwhile"
            )
        return size, letters(reader.digest.digest())

    def add_bytes(self, name: str, data: bytes) -> tuple[int, str]:
        """Put `data` in as `name`."""
        return self.add(name, io.BytesIO(data), len(data))

    def seal(self, signer: Signer) -> None:
        """Put the seal at its end, and close it."""
        for one in (self._zip, self._tar, self._packed, self._file):
            if one is not None:
                one.close()
        with self._path.open("r+b") as file:
            length = file.seek(0, io.SEEK_END) - _cut(self._form)
            digest = _digest(file, length)
            values = {"origin": signer.verifier.name, "bytes": length, "digest": digest}
            file.seek(length)
            file.write(wrap(self._form, sign(EXPORT, values, signer)))

    def drop(self) -> None:
        """Take away what was not finished."""
        for one in (self._zip, self._tar, self._packed, self._file):
            if one is not None:
                # what is half written may not be closable, and is taken away
                with contextlib.suppress(Exception):
                    one.close()
        self._path.unlink(missing_ok=True)


class _Digesting(io.RawIOBase):
    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self._left = source, size
        self.digest = hashlib.sha256()
        self.done = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self.done += len(data)
        self.digest.update(data)
        return data


def wrap(form: Form, note: bytes) -> bytes:
    """The seal as it stands at the end of an archive."""
    if form == "tar.zst":
        return struct.pack("<II", _SKIPPABLE, len(note)) + note
    if form == "tar.gz":
        return _MEMBER + note + _MEMBER_END
    return struct.pack("<H", len(note)) + note


def check_seal(path: Path, verifiers: Sequence[Verifier]) -> str:
    """The origin of the archive at `path`. LedgerError when any byte of it is not what was sealed."""
    form = form_of(path)
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - MAX_SEAL))
            tail = file.read()
            begin = tail.rfind(f"{EXPORT}\n".encode())
            if begin < 0:
                raise LedgerError("it has no seal at its end: it was cut, or something was added")
            note = tail[begin : len(tail) - (len(_MEMBER_END) if form == "tar.gz" else 0)]
            sealed = wrap(form, note)
            if not tail.endswith(sealed):
                raise LedgerError("its seal was changed")
            values = open_statement(EXPORT, note, verifiers)
            length = size - len(sealed)
            if number(values, "bytes") != length or _digest(file, length) != values["digest"]:
                raise LedgerError("its bytes are not those that were sealed")
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}") from None
    return values["origin"]


def unpack(path: Path, directory: Path) -> None:
    """Put the files of an archive, whose seal was checked, below `directory`. LedgerError for what an archive
    has not: links, devices, paths that lead out of it, a file twice."""
    for name, source in _members(path, form_of(path)):
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in name:
            raise LedgerError(f"{name} is no path within an archive")
        target = directory / pure
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with target.open("xb") as file:
                while data := source.read(_BLOCK):
                    file.write(data)
        except FileExistsError:
            raise LedgerError(f"{name} is there twice") from None


def _members(path: Path, form: Form) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        if form == "zip":
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    with archive.open(info) as found:
                        yield info.filename, found
            return
        with (
            gzip.open(path) if form == "tar.gz" else zstd().ZstdFile(path) as packed,
            tarfile.open(fileobj=packed, mode="r|") as tar,
        ):
            for entry in tar:
                source = tar.extractfile(entry) if entry.isreg() else None
                if source is None:
                    raise LedgerError(f"{entry.name} is no file")
                yield entry.name, source
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise LedgerError(f"{path} cannot be unpacked: {error}") from None


def _cut(form: Form) -> int:
    """Bytes at the end of an archive without a seal that the seal takes the place of."""
    return 2 if form == "zip" else 0


def _digest(file: IO[bytes], length: int) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while length and (data := file.read(min(_BLOCK, length))):
        digest.update(data)
        length -= len(data)
    return letters(digest.digest())
