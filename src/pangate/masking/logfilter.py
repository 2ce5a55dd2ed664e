"""A filter for `logging` that lets no record through unmasked."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pangate.masking.masker import Masker

_WITHHELD = "a log record was withheld, because it could not be masked (%s)"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NAMES = ("name", "threadName", "processName", "taskName")
_TRUSTED = (bool, type(None))


class MaskingFilter(logging.Filter):
    """Masks message, arguments, exception and stack text of every record, and what `extra` gave it.

    Add it to handlers: a filter of a logger does not see the records of the loggers below it. The
    arguments stay where the masked message can be made of them; an exception, and any object of a type
    that `mask` does not know, stays as its masked text only, so that no handler can print it anew or
    look into it. What cannot be masked is withheld, and the record says so."""

    def __init__(self, masker: Masker | None = None) -> None:
        super().__init__()
        if masker is None:
            from pangate.masking.masker import Masker as Default

            masker = Default()
        self._masker = masker

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record in place. Always true."""
        try:
            self._mask(record)
        except Exception as error:  # noqa: BLE001  (a log call must not raise, and must not leak)
            record.msg, record.args = _WITHHELD % type(error).__name__, None
            record.exc_info = record.exc_text = record.stack_info = None
            for name in set(vars(record)) - _STANDARD:
                setattr(record, name, "***")
        return True

    def _mask(self, record: logging.LogRecord) -> None:
        mask = self._masker.mask
        whole = mask(record.getMessage())
        if record.args:
            args: Any = record.args
            masked: Any = (
                {key: self._value(one) for key, one in args.items()}
                if isinstance(args, dict)
                else tuple(self._value(one) for one in args)
            )
            text = mask(str(record.msg))
            formatted = _formatted(text, masked)
            # Not when a number is in pieces over text and arguments.
            if formatted is not None and mask(formatted) == formatted:
                record.msg, record.args = text, masked
            else:
                record.msg, record.args = whole, None
        else:
            record.msg = whole
        if record.exc_info and not record.exc_text:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        record.exc_info = None
        if record.exc_text:
            record.exc_text = mask(record.exc_text)
        if record.stack_info:
            record.stack_info = mask(record.stack_info)
        if "message" in vars(record):  # of a handler before this one
            record.message = whole
        for name in _NAMES:
            value = getattr(record, name, None)
            if value and isinstance(value, str):
                setattr(record, name, mask(value))
        for name in set(vars(record)) - _STANDARD:
            value = self._value(getattr(record, name), name)
            shown = mask(name)
            if shown != name:  # a PAN as the name of a field
                delattr(record, name)
            setattr(record, shown, str(value) if isinstance(value, _Shown) else value)

    def _value(self, value: Any, name: str = "") -> Any:
        if isinstance(value, _TRUSTED):
            return value
        from pangate.masking.structure import by_name

        try:
            return by_name(self._masker, name, value)
        except TypeError:
            return _Shown(self._masker.mask(str(value)), self._masker.mask(repr(value)))


class _Shown:
    """What is left of an object: its texts, as they were when it was logged. Its attributes, which some
    handlers print, are gone, and what changes later does not show."""

    __slots__ = ("_repr", "_str")

    def __init__(self, text: str, representation: str) -> None:
        self._str, self._repr = text, representation

    def __str__(self) -> str:
        return self._str

    def __repr__(self) -> str:
        return self._repr


def _formatted(text: str, args: Any) -> str | None:
    try:
        return str(text % args)
    except (TypeError, ValueError, KeyError):
        return None
