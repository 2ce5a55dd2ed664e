"""What a server answers to what makes a connection as new: each answer is read, the same one once."""

from __future__ import annotations

import pytest

from pangate.errors import ProtocolError, ResourceUnavailable
from pangate.protocols.postgres import renewal
from pgwire import complete, error, message, ready, row, row_description

CLEANED = (
    complete("DISCARD ALL")
    + ready()
    + complete("RESET")
    + row_description([("setseed", 2278, 0, 0, 0)])
    + row(b"")
    + complete("SELECT 1")
    + ready()
)


@pytest.fixture(autouse=True)
def nothing_known():
    renewal._right.clear()


def cleaning(**parameters: str) -> renewal.Renewal:
    return renewal.clean(parameters, b"12345678", in_transaction=False)


def test_the_same_answer_counts_as_it_did():
    for known in (0, 1, 1):
        assert len(renewal._right) == known
        one = cleaning(TimeZone="UTC")
        one.feed(CLEANED)
        assert one.done
        assert one.parameters == {"TimeZone": "UTC"}
        with pytest.raises(ProtocolError):
            one.feed(CLEANED)  # nobody asked for that


def test_what_comes_in_pieces_is_read():
    cleaning().feed(CLEANED)
    for at in range(1, len(CLEANED)):
        one = cleaning()
        one.feed(CLEANED[:at])
        assert not one.done
        one.feed(CLEANED[at:])
        assert one.done


def test_an_answer_is_that_to_as_many_queries():
    cleaning().feed(CLEANED)
    one = renewal.clean({}, b"12345678", in_transaction=True)  # ROLLBACK is one more
    one.feed(CLEANED)
    assert not one.done
    one.feed(ready())
    assert one.done


def test_a_parameter_that_is_told_is_noted_each_time():
    told = message(b"S", b"application_name\0psql\0") + CLEANED
    for name in ("psql", "job", "job"):
        one = cleaning(application_name=name)
        one.feed(told)
        assert one.parameters == {"application_name": "psql"}
    assert not renewal._right


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (error("57014", "no"), ResourceUnavailable),
        (CLEANED[:-1] + b"T", ResourceUnavailable),
        (CLEANED + ready(), ProtocolError),
        (CLEANED[:-1] + b"?", ProtocolError),
    ],
)
def test_what_is_wrong_is_wrong_each_time(answer, wrong):
    for _ in range(3):
        with pytest.raises(wrong):
            cleaning().feed(answer)
    assert not renewal._right


def test_what_is_known_is_bounded():
    for number in range(100):
        cleaning().feed(message(b"N", b"SNOTICE\0M%d\0\0" % number) + CLEANED)
        assert len(renewal._right) <= renewal.MOST_ANSWERS
    renewal._right.clear()
    cleaning().feed(message(b"N", b"x" * renewal.LONGEST_ANSWER + b"\0") + CLEANED)
    assert not renewal._right
