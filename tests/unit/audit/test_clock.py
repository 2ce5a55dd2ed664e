"""The state of the system's clock."""

import pytest

from pangate.audit import clock
from pangate.audit.clock import Steps


def test_the_kernel_answers():
    assert clock.state() in ("synchronised", "unsynchronised", "unknown")


def test_it_is_asked_now_and_then():
    now, answers = [0.0], iter(["synchronised", "unsynchronised"])
    kept = clock.ClockState(lambda: next(answers), lambda: now[0])
    assert kept.now() == "synchronised"
    now[0] = clock.KEPT_SECONDS - 0.1
    assert kept.now() == "synchronised"
    now[0] = clock.KEPT_SECONDS
    assert kept.now() == "unsynchronised"


def test_a_clock_that_goes_back_is_behind_until_it_has_caught_up():
    steps = Steps(1.0, 100.0)
    for moment, behind in (
        (100.5, 0), (99.6, 0), (99.4, 1.1), (60, 40.5), (99.4, 1.1), (99.6, 0), (101, 0), (90, 11),
    ):  # fmt: skip
        steps.see(moment)
        assert steps.behind == pytest.approx(behind), moment
    assert steps.latest == 101
    steps.accept(90)
    assert (steps.latest, steps.behind) == (90, 0)
    steps.see(91)
    assert steps.behind == 0
