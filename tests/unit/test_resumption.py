"""TLS of the listener: an agent that has a session may go on with it, and is given no more tickets than it
needs for that."""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import pytest

from pangate.embedded import Authority
from pangate.proxy import sockets


@pytest.fixture
def contexts(tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway")
    listen = SimpleNamespace(certificate=certificate, key=key, client_ca=None)
    agent = ssl.create_default_context(cafile=str(authority.ca))
    agent.check_hostname = False
    return sockets.listen_context(SimpleNamespace(listen=listen)), agent


def connected(listener: ssl.SSLContext, agent: ssl.SSLContext, session=None):
    """Both ends past their handshake, and how many bytes the agent was sent behind its own."""
    to_agent, to_listener = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = agent.wrap_bio(to_agent, to_listener, session=session)
    ours = listener.wrap_bio(to_listener, to_agent, server_side=True)
    open_ = [theirs, ours]
    while open_:
        for one in open_[:]:
            try:
                one.do_handshake()
                open_.remove(one)
            except ssl.SSLWantReadError:
                pass
    behind = to_agent.pending
    ours.write(b"x")
    assert theirs.read(1) == b"x"
    return theirs, behind


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(contexts, version):
    listener, agent = contexts
    agent.maximum_version = version
    first, _ = connected(listener, agent)
    assert not first.session_reused
    second, _ = connected(listener, agent, first.session)
    assert second.session_reused
    if version == ssl.TLSVersion.TLSv1_3:  # with the ticket that it was given there, once more
        assert connected(listener, agent, second.session)[0].session_reused


def test_one_ticket_is_given(contexts):
    listener, agent = contexts
    _, one = connected(listener, agent)
    assert one > 0
    listener.num_tickets = 0
    assert connected(listener, agent)[1] == 0
    listener.num_tickets = 2
    _, two = connected(listener, agent)
    assert one < two
