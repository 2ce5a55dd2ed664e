"""The process that speaks to those who keep checkpoints and events elsewhere, and who looks after it. Neither
the gateway nor who has the key waits for them: this reads what they have written, and may end at any time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pangate import credentials, logs
from pangate.audit.anchors import open_anchor
from pangate.audit.anchors.follower import AnchorFollower
from pangate.audit.sinks import open_sink
from pangate.audit.sinks.follower import SinkFollower
from pangate.config import AuditSettings, LogSettings
from pangate.config.base import Settings
from pangate.errors import CredentialError, LedgerError
from pangate.service import system

log = logging.getLogger("pangate")

STATUS = "published.json"
"""What the process says of itself, beside the ledger, for whoever reads the gateway's metrics."""

SINKS = "sinks"
"""The directory of the files that say how far each sink is."""

MAX_STATUS_BYTES = 1 << 20

STATUS_SECONDS = 1.0

AGAIN_SECONDS = 5.0
"""Between the end of a publisher that should not have ended and the next one."""

STOP_SECONDS = 15.0
"""How long the publisher may take for what is left when the gateway stops."""

_INHERITED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONDONTWRITEBYTECODE")
"""Of the gateway's environment, which may hold secrets, the publisher has these and its own tokens."""


_PROGRAM = "from pangate.service.publishing import main; raise SystemExit(main())"


class Orders(Settings, frozen=True, kw_only=True):
    """What the gateway tells the publisher, a line of JSON on its standard input."""

    audit: AuditSettings
    log: LogSettings


class Publishing:
    """Runs the publisher of a record for as long as the gateway runs."""

    def __init__(self, settings: AuditSettings, look: LogSettings) -> None:
        self._settings, self._look = settings, look
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether there is a publisher."""
        return self._process is not None and self._process.returncode is None

    def status(self) -> Mapping[str, Any]:
        """What it last said of itself; empty when it said nothing."""
        try:
            with (self._settings.ledger / STATUS).open("rb") as file:
                found = json.loads(file.read(MAX_STATUS_BYTES))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    async def run(self) -> None:
        """Start a publisher, and another one whenever it ends, until `stop`."""
        while not self._stopping.is_set():
            try:
                await self._start()
            except OSError as error:
                # no process or descriptor is free just now, which is no reason to end the gateway
                log.error("the publisher cannot be started: %s", error.strerror or error)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            assert self._process is not None
            code = await self._process.wait()
            if self._stopping.is_set():
                return
            log.error("the publisher ended (%d); anchors and sinks get nothing meanwhile", code)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _start(self) -> None:
        with contextlib.suppress(OSError):
            # what the one before said of itself is no longer so
            (self._settings.ledger / STATUS).unlink()
        anchors = self._settings.anchors
        named = {anchor.token.env for anchor in anchors if anchor.token and anchor.token.env}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM),
            stdin=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in (*_INHERITED, *named) if name in os.environ},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        orders = Orders(audit=self._settings, log=self._look)
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(msgspec.json.encode(orders, enc_hook=str) + b"\n")
            await self._process.stdin.drain()

    async def stop(self) -> None:
        """Have what is sealed and recorded published, and the publisher ended."""
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
            log.error("the publisher did not come to its end; the next start goes on where it was")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def publish(settings: AuditSettings) -> int:
    """Publish until standard input ends, which it does when the gateway is gone, and then what is left."""
    anchors = dict(_anchors(settings))
    sinks = {
        one.name: SinkFollower(
            settings.path, settings.ledger / SINKS / f"{one.name}.json", open_sink(one)
        )
        for one in settings.sinks
    }
    status = ""
    over = False
    while not over:
        over = bool(select.select([sys.stdin], [], [], STATUS_SECONDS)[0])
        status = _say(settings.ledger / STATUS, anchors, sinks, status)
    followers: tuple[AnchorFollower | SinkFollower, ...] = (*anchors.values(), *sinks.values())
    for follower in followers:
        follower.stop()
    for follower in followers:
        follower.close()
    _say(settings.ledger / STATUS, anchors, sinks, status)
    return 0


def _anchors(settings: AuditSettings) -> Iterator[tuple[str, AnchorFollower]]:
    """Those that can be opened. One that cannot is said, and holds up no other."""
    for one in settings.anchors:
        try:
            token = ""
            if one.token is not None:
                key = f"audit.anchors[{one.name}].token"
                token = asyncio.run(credentials.read_secret(one.token, key)).reveal()
            anchor = open_anchor(one, token)
        except (LedgerError, CredentialError) as wrong:
            log.critical("the anchor %s cannot be used: %s", one.name, wrong)
            continue
        yield one.name, AnchorFollower(settings.ledger, anchor, one.interval, one.name)


def _say(
    path: Path,
    anchors: Mapping[str, AnchorFollower],
    sinks: Mapping[str, SinkFollower],
    before: str,
) -> str:
    """Write how it stands, when that is another than `before`. It needs to outlive nothing."""
    now = json.dumps(
        {
            "anchors": {
                name: {
                    "size": one.size,
                    "failure": one.failure,
                    "failures": one.failures,
                    "contradicted": one.contradicted,
                    "put_at": round(one.put_at),
                }
                for name, one in anchors.items()
            },
            "sinks": {
                name: {
                    "sequence": one.sequence,
                    "failure": one.failure,
                    "failures": one.failures,
                    "behind": one.behind,
                    "put_at": round(one.caught_up),
                }
                for name, one in sinks.items()
            },
        }
    )
    if now != before:
        new = path.with_name(path.name + ".new")
        with contextlib.suppress(OSError):
            new.write_text(now)
            new.chmod(0o600)
            new.replace(path)
    return now


def _path(kind: type, raw: object) -> Path:
    if kind is not Path:
        raise NotImplementedError
    return Path(str(raw))


def main() -> int:
    """The publisher's process. The gateway starts it by itself."""
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders, dec_hook=_path)
    logs.configure(orders.log)
    system.forbid_dumps()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # meant for the gateway, whose last words are to be published
        signal.signal(number, signal.SIG_IGN)
    return publish(orders.audit)


def ages(found: Mapping[str, Any]) -> dict[str, float]:
    """Seconds since each anchor or sink had all that there was, by its name."""
    now = time.time()
    return {name: max(0.0, now - one["put_at"]) for name, one in found.items() if one["put_at"]}
