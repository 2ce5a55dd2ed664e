"""The state of the system's clock."""

from pangate.audit import clock


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
