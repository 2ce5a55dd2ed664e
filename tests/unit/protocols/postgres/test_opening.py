"""Startup packets: what is remembered of one is what is read of it."""

from __future__ import annotations

import pytest

from pangate.errors import ProtocolError
from pangate.protocols.postgres import opening
from pangate.protocols.postgres.opening import REMEMBERED_BYTES


def body(**parameters: str) -> bytes:
    pairs = (f"{name}\0{value}\0".encode() for name, value in parameters.items())
    return b"".join(pairs) + b"\0"


def test_what_is_for_pangate_and_for_the_protocol_is_not_passed_on():
    asked = {
        "user": "agent",
        "database": "payments",
        "application_name": "job",
        "options": "-c pangate.authentication=password -c session_replication_role=replica",
        "_pq_.new": "1",
    }
    found = opening.read_opening(body(**asked))
    assert found.parameters == asked
    assert found.unknown == ("_pq_.new",)
    assert {k: v.strip() for k, v in found.settings.items()} == {
        "application_name": "job",
        "options": "-c session_replication_role=replica",
    }
    assert set(found.kept) == {"user", "database", "application_name", "options"}
    assert found.statement is not None
    assert opening.read_opening(body(user="agent", client_encoding="UTF8")).statement is None


def test_the_same_packet_is_read_once_and_another_by_itself():
    one, other = body(user="a", application_name="x"), body(user="a", application_name="y")
    assert opening.read_opening(one) is opening.read_opening(bytes(bytearray(one)))
    assert opening.read_opening(one).settings == {"application_name": "x"}
    assert opening.read_opening(other).settings == {"application_name": "y"}


def test_a_long_packet_is_not_kept():
    long = body(user="a", application_name="x" * REMEMBERED_BYTES)
    before = opening._remembered.cache_info().currsize
    assert opening.read_opening(long) == opening.read_opening(long)
    assert opening.read_opening(long) is not opening.read_opening(long)
    assert opening._remembered.cache_info().currsize == before


@pytest.mark.parametrize("wrong", [b"user\0", b"user\0a\0user\0b\0\0", b"user\0\xff\0\0"])
def test_what_is_wrong_is_wrong_each_time(wrong):
    for _ in range(2):
        with pytest.raises(ProtocolError):
            opening.read_opening(wrong)
