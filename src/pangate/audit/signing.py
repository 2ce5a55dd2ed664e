"""The private key that signs checkpoints, from where the configuration says: a file, or a command that prints
it, such as a vault's client. It is read where it is needed, and no message has anything of it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pangate.audit.anchors import write_whole
from pangate.audit.reader import PUBLIC_KEYS
from pangate.errors import LedgerError
from pangate.ledger.note import ED25519, Signer, Verifier

if TYPE_CHECKING:
    from pangate.config import AuditSettings

ORIGIN = "{origin}"
"""What stands in a command for the name of the log."""

MAX_BYTES = 4096
"""Of a file, or of what a command prints: two keys are shorter."""

INHERITED = (
    *("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR"),
    *("PYTHONDONTWRITEBYTECODE", "OPENBLAS_NUM_THREADS"),
)
"""Of the environment, which may hold secrets, the sealer and a command have these and what the
configuration names (`audit.key_environment`)."""

ROTATE = ".rotate"
"""Behind the name of the record: the public half of the key that is to take over, where a command prints
both."""


class KeySource(Protocol):
    """Where the key is."""

    made: bool
    """Whether the key was made just now, because there was none."""

    def signer(self) -> Signer:
        """The key that signs. Raises LedgerError."""

    def following(self) -> Signer | None:
        """The key that is to take over; None when none is. Raises LedgerError."""

    def taken_over(self) -> None:
        """That key signs by now."""


def key_source(settings: AuditSettings, seconds: float) -> KeySource:
    """Where `settings` say the key is. A command may take `seconds`."""
    origin = origin_of(settings)
    if settings.key_command is None:
        return KeyFile(settings.private_key, origin)
    names = (*INHERITED, *settings.key_environment)
    return KeyCommand(command_of(settings), seconds, settings.path, names)


def origin_of(settings: AuditSettings) -> str:
    """The name of the log."""
    return settings.origin or f"pangate/{socket.gethostname()}"


def command_of(settings: AuditSettings) -> tuple[str, ...]:
    """`audit.key_command` with the name of the log in it."""
    return tuple(word.replace(ORIGIN, origin_of(settings)) for word in settings.key_command or ())


class KeyFile:
    """The key in the file at `path`, made with the name `origin` when there is none. The one that takes over
    waits beside it."""

    def __init__(self, path: Path, origin: str) -> None:
        self.path, self._origin = path, origin
        self.made = False

    def signer(self) -> Signer:
        self.made = not self.path.exists()
        return signer(self.path, self._origin)

    def following(self) -> Signer | None:
        path = next_key(self.path)
        return signer(path, self._origin) if path.exists() else None

    def taken_over(self) -> None:
        next_key(self.path).replace(self.path)


class KeyCommand:
    """The key that `command` prints, and in a line behind it the one that takes over. That one signs when it
    is the last that the ledger of `record` names, so that the vault may be told later."""

    made = False

    def __init__(
        self,
        command: Sequence[str],
        seconds: float,
        record: Path,
        environment: Sequence[str] = INHERITED,
    ) -> None:
        """`environment` are the names of the variables that the command has."""
        self._command, self._seconds, self._named = tuple(command), seconds, tuple(environment)
        self._asked = record.with_name(record.name + ROTATE)
        self._published = record.parent / PUBLIC_KEYS
        self._failed_until = 0.0

    def signer(self) -> Signer:
        return self._present(self.keys())

    def _present(self, found: Sequence[Signer]) -> Signer:
        last = self._last_published()
        return next((key for key in found if key.verifier == last), found[0])

    def following(self) -> Signer | None:
        # a vault that is away is not asked with every checkpoint
        if time.monotonic() < self._failed_until or not self._asked.exists():
            return None
        try:
            wanted = Verifier.parse(self._asked.read_text())
            if wanted == self._last_published():
                self.taken_over()  # before a crash
                return None
            return next(key for key in self.keys() if key.verifier == wanted)
        except (LedgerError, OSError, ValueError, StopIteration) as wrong:
            self._failed_until = time.monotonic() + 60
            why = wrong if isinstance(wrong, LedgerError) else "it prints another key"
            raise LedgerError(
                f"the key that was to take over cannot be had: {why}; see to it, or remove {self._asked}"
            ) from None

    def taken_over(self) -> None:
        self._asked.unlink(missing_ok=True)

    def rotate(self) -> Signer:
        """Ask the sealer to take up the next key, and return that. Raises LedgerError."""
        found = self.keys()
        present = self._present(found).verifier
        following = [key for key in found if key.verifier != present]
        if not following:
            raise self._wrong(
                "printed one key; put the next one, which `pangate audit keygen - --name "
                f"{found[0].verifier.name}` makes, in a line behind it, and run this again"
            )
        if self._asked.exists():
            raise LedgerError(
                f"{self._asked} is there already: the sealer has not taken up the next key yet"
            )
        write_whole(self._asked, f"{following[0].verifier.text()}\n".encode())
        return following[0]

    def keys(self) -> list[Signer]:
        """What the command prints. Raises LedgerError, which says what is wrong and nothing that was
        printed."""
        text = self._run()
        lines = [line for line in text.splitlines() if line.strip()]
        if not lines:
            raise self._wrong(
                "printed nothing; make a key with `pangate audit keygen - --name ORIGIN` and put it there"
            )
        if len(lines) > 2:
            raise self._wrong("printed more than two lines; it prints the key, and the next one")
        found: list[Signer] = []
        with contextlib.suppress(LedgerError, UnicodeDecodeError):
            found = [Signer.from_private(line.decode()) for line in lines]
        # Outside of the handler: what it would be chained to may have a part of the key.
        if len(found) != len(lines) or any(key.verifier.type != ED25519 for key in found):
            raise self._wrong(
                "printed something that is no key of a log; it is one line that begins with PRIVATE+KEY+, as "
                "`pangate audit keygen - --name ORIGIN` writes it"
            )
        if len({key.verifier.name for key in found}) > 1:
            raise self._wrong("printed keys of two logs; they are to have one name (audit.origin)")
        return found

    def _last_published(self) -> Verifier | None:
        try:
            lines = self._published.read_text().splitlines()
            return Verifier.parse(lines[-1]) if lines else None
        except (OSError, UnicodeDecodeError, LedgerError):
            return None  # whoever seals says what is wrong with it

    def _wrong(self, what: str) -> LedgerError:
        return LedgerError(f"audit.key_command: {self._command[0]} {what}")

    def _run(self) -> bytes:
        """What it prints on standard output; standard error is dropped, where clients of vaults print tokens.
        It has a group of its own, so that what it started ends with it."""
        try:
            process = subprocess.Popen(  # noqa: S603 - the command of whoever configures the gateway
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, start_new_session=True,
                env={name: os.environ[name] for name in self._named if name in os.environ},
            )  # fmt: skip
        except OSError as error:
            raise self._wrong(f"cannot be run: {error.strerror}; install it") from None
        assert process.stdout is not None
        data, until, code = b"", time.monotonic() + self._seconds, None
        try:
            while len(data) <= MAX_BYTES:
                left = max(0.0, until - time.monotonic())
                if not select.select([process.stdout], [], [], left)[0]:
                    break
                if not (piece := os.read(process.stdout.fileno(), MAX_BYTES)):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        code = process.wait(max(0.1, until - time.monotonic()))
                    break
                data += piece
        finally:
            process.stdout.close()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
        if len(data) > MAX_BYTES:
            raise self._wrong(f"printed more than {MAX_BYTES} bytes; it prints the key alone")
        if code is None:
            raise self._wrong(
                f"did not end within {self._seconds:g} seconds (limits.credential_seconds); see why it is "
                "slow, or raise the limit"
            )
        if code:
            raise self._wrong(
                f"ended with exit code {code}; run it by hand as this user to see why (audit.key_environment "
                "names what it needs of the environment)"
            )
        return data


def next_key(path: Path) -> Path:
    """Where the key waits that takes over from the one in the file at `path`."""
    return path.with_name(path.name + ".next")


def signer(path: Path, origin: str) -> Signer:
    """The private key in the file at `path`, made when there is none, with the name `origin`.

    Raises LedgerError when it cannot be read or made, is no key, or others may read it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _made(path, origin)
    except OSError as error:
        raise LedgerError(f"the key {path} cannot be read: {error.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & 0o077:
            raise LedgerError(f"the key {path} has mode {mode & 0o7777:04o}; chmod it to 0600")
        text = file.read(MAX_BYTES)
    try:
        return Signer.from_private(text.decode())
    except (LedgerError, UnicodeDecodeError) as error:
        raise LedgerError(f"the key {path} cannot be used: {error}") from None


def _made(path: Path, origin: str) -> Signer:
    made = Signer.generate(origin)
    write_whole(path, f"{made.private_text()}\n".encode())
    return made
