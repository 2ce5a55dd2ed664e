"""Counting the sessions of all workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pangate.errors import LimitReached
from pangate.service.counts import Sessions

KEY, OTHER = ("job", "reader"), ("job", "writer")


def test_most_of_all_workers():
    sessions = Sessions()
    sessions.take(1, "a", KEY, 2)
    sessions.take(2, "b", KEY, 2)
    with pytest.raises(LimitReached, match="reader"):
        sessions.take(1, "c", KEY, 2)
    sessions.take(1, "d", OTHER, 1)
    sessions.take(1, "e", KEY, None)
    sessions.leave(2, "b")
    sessions.leave(1, "e")
    sessions.take(2, "f", KEY, 2)


def test_who_is_turned_away_makes_no_room():
    """Its client may go at any moment, and then its end is said although it never was."""
    sessions = Sessions()
    sessions.take(1, "a", KEY, 1)
    for worker, session in ((1, "b"), (2, "b"), (2, "a")):
        with pytest.raises(LimitReached):
            sessions.take(worker, session, KEY, 1)
        sessions.leave(worker, session)
    with pytest.raises(LimitReached):
        sessions.take(1, "c", KEY, 1)
    sessions.leave(1, "a")
    sessions.leave(1, "a")
    sessions.take(1, "c", KEY, 1)
    with pytest.raises(LimitReached):
        sessions.take(1, "d", KEY, 1)


def test_a_worker_that_ended():
    sessions = Sessions()
    sessions.take(1, "a", KEY, 2)
    sessions.take(2, "b", KEY, 2)
    sessions.gone(1)
    sessions.gone(3)
    sessions.take(2, "c", KEY, 2)
    with pytest.raises(LimitReached):
        sessions.take(1, "d", KEY, 2)


@given(some.lists(some.tuples(some.booleans(), some.integers(1, 3), some.sampled_from("abcde"))))
def test_never_more_than_most(steps):
    sessions, open_now = Sessions(), set()
    for begins, worker, session in steps:
        if begins and (worker, session) not in open_now:
            if len(open_now) < 3:
                sessions.take(worker, session, KEY, 3)
                open_now.add((worker, session))
            else:
                with pytest.raises(LimitReached):
                    sessions.take(worker, session, KEY, 3)
        elif not begins:
            sessions.leave(worker, session)
            open_now.discard((worker, session))
        assert sessions.total() == len(open_now)
