"""The logging filter: nothing of a record gets past it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from pangate import MaskingFilter

PAN, MASKED = "4111111111111111", "************1111"


class Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO, Keeper]]:
    logger = logging.getLogger("pangate.test.masked")
    out, keeper = io.StringIO(), Keeper()
    handlers = [logging.StreamHandler(out), keeper]
    for handler in handlers:
        handler.addFilter(MaskingFilter())
        logger.addHandler(handler)
    logger.propagate = False
    yield logger, out, keeper
    for handler in handlers:
        logger.removeHandler(handler)


def test_message_arguments_and_extra(log: tuple[logging.Logger, io.StringIO, Keeper]) -> None:
    logger, out, keeper = log
    logger.warning(
        "card %s and %d for %r", PAN, int(PAN), {"cvv": "123"}, extra={"card": PAN, "cvv": "123"}
    )
    logger.warning("whole %(pan)s", {"pan": PAN})
    logger.warning("%s%s", PAN[:8], PAN[8:])  # a PAN only in the whole
    logger.warning(f"plain {PAN} 100 %")
    text = out.getvalue()
    assert PAN not in text
    assert text.splitlines()[0] == f"card {MASKED} and 1000000000001111 for {{'cvv': '***'}}"
    assert text.splitlines()[1:] == [f"whole {MASKED}", MASKED, f"plain {MASKED} 100 %"]
    first = keeper.records[0]
    assert first.args == (MASKED, 1000000000001111, {"cvv": "***"})
    assert (first.card, first.cvv) == (MASKED, "***")  # type: ignore[attr-defined]
    assert PAN not in repr([vars(record) for record in keeper.records])


def test_exceptions_and_stacks(log: tuple[logging.Logger, io.StringIO, Keeper]) -> None:
    logger, out, keeper = log
    try:
        raise ValueError(f"no such card {PAN}")
    except ValueError:
        logger.exception("failed for %s", PAN, stack_info=True)
    text = out.getvalue()
    assert PAN not in text
    assert f"ValueError: no such card {MASKED}" in text
    assert "Traceback (most recent call last)" in text
    assert keeper.records[0].exc_info is None


class Secretive:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<{self.text}>"


class Broken:
    def __str__(self) -> str:
        raise RuntimeError(PAN)


def test_objects_of_any_type(log: tuple[logging.Logger, io.StringIO, Keeper]) -> None:
    logger, out, keeper = log
    logger.warning("%s %r", Secretive(PAN), Secretive("x"))
    assert out.getvalue() == f"<{MASKED}> <x>\n"
    assert str(keeper.records[0].args) == f"(<{MASKED}>, <x>)"


def test_what_cannot_be_masked_is_withheld(log: tuple[logging.Logger, io.StringIO, Keeper]) -> None:
    logger, out, keeper = log
    logger.warning("%s " + PAN, Broken(), extra={"thing": PAN})
    assert (
        out.getvalue()
        == "a log record was withheld, because it could not be masked (RuntimeError)\n"
    )
    assert PAN not in repr(vars(keeper.records[0]))


class Payment:
    """What does not print its number, but has it."""

    def __init__(self) -> None:
        self.pan = PAN

    def __repr__(self) -> str:
        return "<payment>"


def test_no_handler_can_look_into_an_object(
    log: tuple[logging.Logger, io.StringIO, Keeper],
) -> None:
    """A handler that writes JSON asks an object for its fields, whatever its text is."""
    logger, out, keeper = log
    logger.warning("%s %r", Payment(), Payment(), extra={"payment": Payment()})
    assert out.getvalue() == "<payment> <payment>\n"
    (record,) = keeper.records
    assert record.payment == "<payment>"  # type: ignore[attr-defined]
    assert not any(hasattr(one, "pan") for one in record.args or ())


class Changing:
    def __init__(self) -> None:
        self.text = "new"

    def __str__(self) -> str:
        return self.text


def test_what_changes_later_does_not_show(
    log: tuple[logging.Logger, io.StringIO, Keeper],
) -> None:
    logger, _, keeper = log
    thing = Changing()
    logger.warning("%s", thing)
    thing.text = PAN
    assert keeper.records[0].getMessage() == "new"


def test_names_of_a_record(log: tuple[logging.Logger, io.StringIO, Keeper]) -> None:
    logger, _, keeper = log
    record = logging.makeLogRecord(
        {"msg": "x", "levelno": 30, "name": PAN, "threadName": PAN, "message": PAN, PAN: 1}
    )
    logger.handle(record)
    assert PAN not in repr(vars(keeper.records[0]))
