"""The process that seals the record, and who looks after it. It alone has the key that signs; the gateway,
which speaks to agents, never reads it. It has another process keep the index of the record up."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import select
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pangate import logs
from pangate.audit.reader import CHECKPOINT
from pangate.audit.sealer import Sealer
from pangate.audit.signing import (
    INHERITED,
    KeyCommand,
    KeyFile,
    KeySource,
    command_of,
    origin_of,
)
from pangate.config import AuditSettings, LogSettings
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.letters import letters
from pangate.ledger.note import parse_note
from pangate.ledger.rotation import Rotation, name_of
from pangate.service import system
from pangate.service.indexing import Indexer

log = logging.getLogger("pangate")

AGAIN_SECONDS = 5.0
"""Between the end of a sealer that should not have ended and the next one."""

STOP_SECONDS = 10.0
"""How long the sealer may take for what is left when the gateway stops."""


_PROGRAM = "from pangate.service.sealing import main; raise SystemExit(main())"
"""Not with -m: the package that this is in imports it too, of which Python would warn."""


class Sealing:
    """Runs the sealer of a record for as long as the gateway runs."""

    def __init__(
        self,
        settings: AuditSettings,
        look: LogSettings,
        rotates: Callable[[Mapping[str, object]], None] = lambda data: None,
        key_seconds: float = 5.0,
    ) -> None:
        """`rotates` records what a key says that hands over to the next one. A command that prints the key
        may take `key_seconds`."""
        self._key_seconds = key_seconds
        self._settings, self._look, self._rotates = settings, look, rotates
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def sealed(self) -> int:
        """Events under the newest checkpoint."""
        try:
            body, _ = parse_note((self._settings.ledger / CHECKPOINT).read_bytes())
            return Checkpoint.parse(body).size
        except (OSError, LedgerError):
            return 0

    @property
    def running(self) -> bool:
        """Whether there is a sealer."""
        return self._process is not None and self._process.returncode is None

    async def run(self) -> None:
        """Start a sealer, and another one whenever it ends, until `stop`."""
        while not self._stopping.is_set():
            try:
                await self._start()
            except OSError as error:
                # no process or descriptor is free just now, which is no reason to end the gateway
                log.error("the sealer cannot be started: %s", error.strerror or error)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            assert self._process is not None
            assert self._process.stdout is not None
            while line := await self._process.stdout.readline():
                self._asked(line)
            code = await self._process.wait()
            if self._stopping.is_set():
                return
            log.error("the sealer ended (%d); what is recorded is not sealed meanwhile", code)
            await asyncio.sleep(AGAIN_SECONDS)

    def _asked(self, line: bytes) -> None:
        """The sealer has a key that is to take over, and waits for the event that says so."""
        try:
            found = Rotation.parse(line.decode().rstrip("\n"))
        except (LedgerError, UnicodeDecodeError) as wrong:
            log.error("the sealer said what is not understood: %s", wrong)
            return
        log.warning("the record is sealed with another key from now on: %s", found.new.text())
        self._rotates(
            {
                "old": name_of(found.old),
                "new": name_of(found.new),
                "key": letters(found.new.public),
                "signature": letters(found.by_old),
            }
        )

    async def _start(self) -> None:
        settings = self._settings
        named = (*INHERITED, *settings.key_environment)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM),
            *("--record", str(settings.path), "--key", str(settings.private_key)),
            *("--key-seconds", str(self._key_seconds), "--origin", origin_of(settings)),
            *("--seconds", str(settings.seal_seconds)),
            *("--log-format", self._look.format, "--log-level", self._look.level),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in named if name in os.environ},
            start_new_session=True,
        )
        # Not among the arguments, which everybody sees: a vault's client may have a token in its own.
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command_of(settings)).encode() + b"\n")

    async def stop(self) -> None:
        """Have what is recorded sealed, and the sealer ended."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            log.error("the sealer did not come to its end; the next start goes on where it was")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def seal(record: Path, key: KeySource, seconds: float, look: LogSettings) -> int:
    """Seal until standard input ends, which it does when the gateway is gone, and then what is left."""
    failure = ""
    try:
        signs = key.signer()
        sealer = Sealer(record, record.parent, signs)
    except LedgerError as wrong:
        log.critical("the record cannot be sealed: %s", wrong)
        return 1
    if key.made:
        log.warning(
            "the key of the record was made; keep its public half where nobody of this machine can change "
            "it: %s",
            signs.verifier.text(),
        )
    else:
        log.info("the record is sealed with the key of %s", signs.verifier.text())
    if sealer.broken_succession:
        log.critical("%s", sealer.broken_succession)
    with contextlib.closing(sealer), contextlib.closing(Indexer(record, look)) as indexer:
        over = asked = False
        complaint = ""
        while not over:
            indexer.look_after()
            over = _is_over(seconds)
            if over:
                indexer.let_end()
            try:
                following = None
                try:
                    following = None if asked or over else key.following()
                except LedgerError as wrong:
                    # what is wrong with it holds up nothing; it is said once
                    if str(wrong) != complaint:
                        complaint = str(wrong)
                        log.error("the record is sealed with the same key as before: %s", wrong)
                if following is not None:
                    rotation = sealer.hand_over(following)
                    sys.stdout.write(f"{rotation.text()}\n")
                    sys.stdout.flush()
                    asked = True
                # when the gateway is gone, what is in the file is all that there will be
                sealer.seal(marked=not over)
                if asked and sealer.signer is not signs:
                    key.taken_over()
                    signs, asked = sealer.signer, False
            except LedgerError as wrong:
                if str(wrong) != failure:
                    failure = str(wrong)
                    log.critical("the record cannot be sealed: %s", failure)
            else:
                failure = ""
    return 1 if failure else 0


def _is_over(seconds: float) -> bool:
    """Whether standard input ends within so many seconds."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _line() -> bytes:
    """The first line of standard input, and no byte behind it: whether there is more is asked of the
    descriptor."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line


def main() -> int:
    """The sealer's process."""
    parser = argparse.ArgumentParser(
        prog="pangate-sealer", description="Seal a record. The gateway starts this by itself."
    )
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--key-seconds", type=float, required=True)
    parser.add_argument("--origin", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args()
    look = LogSettings(format=options.log_format, level=options.log_level)
    logs.configure(look)
    system.forbid_dumps()
    system.leave_signals()
    line = _line()
    if not line.endswith(b"\n"):
        return 1  # the gateway is gone before it said where the key is
    command = json.loads(line)
    key = (
        # all of the environment here was chosen by the gateway
        KeyCommand(command, options.key_seconds, options.record, tuple(os.environ))
        if command
        else KeyFile(options.key, options.origin)
    )
    return seal(options.record, key, options.seconds, look)
