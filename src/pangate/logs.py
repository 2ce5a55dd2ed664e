"""The gateway's own log: lines on standard error, as text or JSON, masked. Not the record, which `audit`
writes."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

import msgspec

from pangate.config import LogSettings
from pangate.masking.logfilter import MaskingFilter

SESSION: ContextVar[str] = ContextVar("session", default="")
"""The id of the session that the running code belongs to: whatever it logs, and whatever the code that
it calls logs, is told apart by it."""

log = logging.getLogger("pangate")

EPISODE_SECONDS = 60.0
"""Without the same trouble, until it counts as over."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(settings: LogSettings, level: str | None = None) -> None:
    """Have everything that is logged go to standard error as `settings` say. `level` takes the place of
    theirs. May be called again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_session)
    handler.addFilter(MaskingFilter())
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel((level or settings.level).upper())
    # At info they write a line for every request to an issuer.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # What nobody handles goes the same way, and so past the mask.
    sys.excepthook = _unhandled
    sys.unraisablehook = _unraisable
    threading.excepthook = _unraisable


class Episode:
    """Trouble that comes again and again while it lasts, of which one line is enough."""

    def __init__(self, seconds: float = EPISODE_SECONDS) -> None:
        self._seconds = seconds
        self._last = -seconds

    def begins(self, now: float | None = None) -> bool:
        """Say that there is trouble now. Whether there was none for so long that this is to be logged."""
        now = time.monotonic() if now is None else now
        since, self._last = now - self._last, now
        return since >= self._seconds


def _add_session(record: logging.LogRecord) -> bool:
    record.session = SESSION.get()
    return True


def _unhandled(
    kind: type[BaseException], value: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        log.critical("an exception was not handled", exc_info=(kind, value, trace))


def _unraisable(found: sys.UnraisableHookArgs | threading.ExceptHookArgs) -> None:
    # also the threads': both have these three
    if found.exc_value is not None:
        _unhandled(found.exc_type, found.exc_value, found.exc_traceback)


class TextFormatter(logging.Formatter):
    """One line a record, for people. Control characters are shown as escapes, so that a text from
    elsewhere cannot make a line of its own; only a traceback has several lines."""

    def __init__(self) -> None:
        super().__init__()
        self.default_msec_format = "%s,%03d"

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        session = getattr(record, "session", "")
        line = (
            f"{self.formatTime(record)} {record.levelname} {record.name}: "
            f"{f'session {session}: ' if session else ''}{_visible(record.getMessage())}"
        )
        return line + "".join(f"\n{text}" for text in _traces(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `event`, `session` where there is one,
    `exception` and `stack` where they were logged."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _encodable(record.getMessage()),
        }
        session = getattr(record, "session", "")
        if session:
            line["session"] = session
        if record.exc_text:
            line["exception"] = _encodable(record.exc_text)
        if record.stack_info:
            line["stack"] = _encodable(record.stack_info)
        return msgspec.json.encode(line).decode()


def _traces(record: logging.LogRecord) -> list[str]:
    # The masking filter has put the masked traceback here, and taken the exception away.
    return [text for text in (record.exc_text, record.stack_info) if text]


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
