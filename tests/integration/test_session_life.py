"""A session lives as long as its token and the configured grace, busy or idle, and not longer."""

from __future__ import annotations

import time

import psycopg
import pytest

from pangate.trial import Trial, until
from servers import events, rest, session, through

pytestmark = pytest.mark.integration

GRACE = 3.0
EXPIRED = "the identity token of this session has expired; connect with a new one"


@pytest.fixture(scope="module")
def own(postgres):
    with Trial(postgres, limits=f"token_grace_seconds = {GRACE}") as running:
        yield running


def test_a_busy_session_ends_after_life_and_grace(own):
    token = own.token(seconds=2)
    expires = time.time() + 2
    with psycopg.connect(through(own, token), autocommit=True) as connection:
        with pytest.raises(psycopg.OperationalError, match=EXPIRED):
            while time.time() < expires + GRACE + 10:
                connection.execute("select pg_sleep(0.05)")
        lived = time.time() - expires
    # the token's life is in whole seconds
    assert GRACE - 1.1 < lived < GRACE + 2
    until(lambda: events(own)[-1]["code"] == "session.end", "the end of the session")
    end = events(own)[-1]
    assert end["success"] is False
    assert end["data"]["reason"] == EXPIRED


def test_an_idle_session_and_a_running_statement_end_too(own):
    token = own.token(seconds=1)
    began = time.monotonic()
    with session(own, token) as sock:
        assert EXPIRED.encode() in rest(sock)
    assert time.monotonic() - began < 1 + GRACE + 2
    done = own.psql(own.token(seconds=1), "select pg_sleep(60)")
    assert EXPIRED in done.stderr


def test_grace_is_for_sessions_and_not_for_logins(own):
    done = own.psql(own.token(seconds=-60), "select 1")
    assert "must be a valid, unexpired identity token" in done.stderr
