"""Backend secrets: read when a resource is dialled, from where the configuration says, never shown.

A source of secrets is a function in `SOURCES` under the name of its key in the configuration; a
vault is one more of them."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

from pangate.config import ResourceSettings, SecretSettings, private_file_problem
from pangate.errors import CredentialError

MAX_BYTES = 4096
"""No password is longer; what is longer is the wrong file or the wrong command."""


END_SECONDS = 1.0
"""How long a command that was killed is waited for."""


_DIGEST_KEY = secrets.token_bytes(32)


class Secret:
    """A text that shows itself to `reveal` alone: not in repr, str, format, pickle or vars."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself. Only the code that speaks to the resource calls this."""
        return self._value

    @property
    def digest(self) -> bytes:
        """Equal for equal secrets of this process, and worth nothing outside of it."""
        return hmac.digest(_DIGEST_KEY, self._value.encode(), "sha256")

    def __repr__(self) -> str:
        return "Secret(not shown)"

    def __str__(self) -> str:
        return "(not shown)"

    def __format__(self, spec: str) -> str:
        return format("(not shown)", spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is neither pickled nor copied; read it again where it is needed")


async def read(resource: ResourceSettings, seconds: float = 5.0) -> Secret:
    """The password of `resource`, read now, within `seconds` (the limit `credential_seconds`).

    Empty when the resource has none, because the gateway logs in with a certificate. Raises
    CredentialError: what is wrong with the source, never what was read from it."""
    if resource.password is None:
        return Secret("")
    return await read_secret(resource.password, f"resources[{resource.name}].password", seconds)


async def read_secret(settings: SecretSettings, table: str, seconds: float = 5.0) -> Secret:
    """The secret that `settings` say the place of, read now; `table` is their key, for messages."""
    for name, source in SOURCES.items():
        where = getattr(settings, name)
        if where is None:
            continue
        key = f"{table}.{name}"
        try:
            async with asyncio.timeout(seconds):
                data = await source(where)
        except TimeoutError:
            raise CredentialError(
                f"{key}: gave nothing within {seconds:g} seconds (limits.credential_seconds); "
                "see why it is slow, or raise the limit"
            ) from None
        except CredentialError as error:
            raise CredentialError(f"{key}: {error}") from None
        return _secret(data, key)
    raise CredentialError(f"{table}: names no source")


def _secret(data: bytes, key: str) -> Secret:
    if len(data) > MAX_BYTES:
        raise CredentialError(
            f"{key}: gave more than {MAX_BYTES} bytes; it must give the password alone"
        )
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    try:
        value = data.decode()
    except UnicodeDecodeError:
        value = None
    # Outside of the handler: the exception that it would be chained to holds the bytes.
    if value is None:
        raise CredentialError(f"{key}: gave bytes that are not UTF-8; save the password as UTF-8")
    if not value:
        raise CredentialError(f"{key}: is empty; put the password there")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise CredentialError(
            f"{key}: has control characters or several lines; it must give the password alone"
        )
    return Secret(value)


async def _read_file(path: Path) -> bytes:
    # In a thread: a secret may be on a network file system or behind a FUSE vault.
    return await asyncio.to_thread(_read_private, path)


def _read_private(path: Path) -> bytes:
    wrong = private_file_problem(path)
    if wrong is not None:
        raise CredentialError(wrong)
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 3)
    except OSError as error:
        raise CredentialError(f"{path} cannot be read: {error.strerror}") from None


async def _read_env(name: str) -> bytes:
    value = os.environb.get(name.encode())
    if value is None:
        raise CredentialError(f"the environment has no {name}; set it and start the gateway again")
    return value


class _Output(asyncio.SubprocessProtocol):
    """Gathers what a process prints. `done` comes when it has ended and its output too, or when it
    printed more than a password can be; `exited` when it has ended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.done = asyncio.get_running_loop().create_future()
        self.exited = asyncio.Event()
        self._open = True

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)
        if len(self.data) <= MAX_BYTES + 2:
            self.data += data
        self._check()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open = False
        self._check()

    def process_exited(self) -> None:
        self.exited.set()
        self._check()

    def _check(self) -> None:
        ended = not self._open and self.exited.is_set()
        if (ended or len(self.data) > MAX_BYTES + 2) and not self.done.done():
            self.done.set_result(None)


async def _run(command: tuple[str, ...]) -> bytes:
    """What `command` prints. Standard error is dropped: clients of vaults print tokens there."""
    program = command[0]
    try:
        transport, output = await asyncio.get_running_loop().subprocess_exec(
            _Output,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # A group of its own, so that what it started ends with it.
            start_new_session=True,
        )
    except OSError as error:
        raise CredentialError(f"{program} cannot be run: {error.strerror}") from None
    try:
        await output.done
        code = transport.get_returncode()
        if code:
            raise CredentialError(
                f"{program} ended with exit code {code}; run it by hand to see why"
            )
        return bytes(output.data)
    finally:
        if transport.get_returncode() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
        transport.close()
        # What is killed ends at once, unless it hangs in the kernel; that must not hold the session.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await output.exited.wait()


SOURCES: dict[str, Callable[[Any], Awaitable[bytes]]] = {
    "file": _read_file,
    "env": _read_env,
    "command": _run,
}
"""Name of the key in `password` to the function that reads what the key names. A function raises
CredentialError, without the secret in it, and need not mind time or length."""
