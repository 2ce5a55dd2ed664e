"""The two laws of a parser, for both directions: however the bytes are split, the same comes out; and
garbage gives the protocol's error and nothing else."""

import contextlib
import itertools
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate.errors import ProtocolError, Refused
from pangate.masking import default_scanner
from pangate.protocols.postgres import PostgresCodec, messages
from pangate.protocols.postgres.login import BackendLogin
from pangate.protocols.postgres.messages import message, startup
from pgtalk import anywhere, begin, beginning, bytewise, leaks, log_in, spoiler, talk
from pgtalk import same as came_to_the_same
from pgwire import (
    BOUND,
    NO_DATA,
    PARSED,
    SYNC,
    TERMINATE,
    Bench,
    bind,
    complete,
    copy_data,
    copy_out,
    describe,
    described,
    error,
    execute,
    parse,
    query,
    ready,
    row,
    row_description,
    split,
)

PAN = b"4111 1111 1111 1111"

# What the agent sends, and what the server answers, before and after a turn: a server cannot answer what
# it was not sent yet.
AGENT_1 = b"".join(
    [
        query("select 1"),
        parse("s", "select pan, n from cards where id = $1", [20]),
        bind("", "s", [struct.pack("!q", 7)], [1], [0, 1]),
        describe("P"),
        execute(),
        SYNC,
    ]
)
AGENT_2 = b"".join(
    [
        bind("", "s", [b"8"], [0], [0, 1]),
        execute(),
        SYNC,
        query("copy cards to stdout"),
        TERMINATE,
    ]
)
COLUMNS = row_description([("pan", 25, 0), ("n", 20, 1)])
ROW = row(b"a " + PAN + b" b", struct.pack("!q", 5555555555554444))
SERVER_1 = b"".join(
    [
        row_description([("?column?", 23, 0)]),
        row(b"1"),
        complete("SELECT 1"),
        ready(),
        PARSED,
        BOUND,
        COLUMNS,
        ROW * 3,
        message(b"N", b"SNOTICE\0C00000\0Msaw " + PAN + b"\0\0"),
        complete("SELECT 3"),
        ready(),
    ]
)
SERVER_2 = b"".join(
    [
        BOUND,
        COLUMNS,
        ROW,
        error("22012", "division by " + PAN.decode()),
        ready(),
        described([("pan", 25, 0)]),
        copy_out(1),
        copy_data(PAN + b"\n"),
        copy_data(b"\\\\x34313131313131313131313131313131\n"),
        message(b"c"),
        complete("COPY 2"),
        ready(),
    ]
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def whole(data: bytes) -> list[bytes]:
    return [data]


def run(agent=whole, server=whole) -> Bench:
    """The conversation, the agent's and the server's bytes cut by these functions."""
    bench = Bench().log_in().agent(*agent(AGENT_1)).server(*server(SERVER_1))
    return bench.agent(*agent(AGENT_2)).server(*server(SERVER_2))


WHOLE = run()


def assert_same(bench: Bench) -> None:
    assert bench.to_backend == WHOLE.to_backend
    assert bench.to_frontend == WHOLE.to_frontend
    assert bench.statements == WHOLE.statements
    assert [(f.number, f.outcome) for f in bench.finished] == [
        (f.number, f.outcome) for f in WHOLE.finished
    ]


def test_the_whole_conversation_is_what_it_should_be():
    assert PAN not in WHOLE.to_frontend
    assert WHOLE.to_frontend.count(b"**** **** **** 1111") == 7
    assert len(WHOLE.statements) == 5
    assert len(WHOLE.finished) == 5
    assert WHOLE.closed


def test_byte_at_a_time():
    def bytewise(data: bytes) -> list[bytes]:
        return [data[i : i + 1] for i in range(len(data))]

    assert_same(run(bytewise, bytewise))


@given(st.lists(st.integers(0, 10**6), max_size=8), st.lists(st.integers(0, 10**6), max_size=8))
def test_split_anywhere(agent, server):
    assert_same(run(lambda data: pieces(data, agent), lambda data: pieces(data, server)))


def test_what_is_held_back_is_never_seen():
    """Cut after every byte: what came out by then holds no PAN and no start of a message."""
    for at in range(0, len(SERVER_1), 7):
        bench = Bench().log_in().agent(AGENT_1).server(SERVER_1[:at])
        assert WHOLE.to_frontend.startswith(bench.to_frontend)


# --- any conversation ------------------------------------------------------------------------------

seeds = st.integers(0, 2**32)


@given(seeds, seeds)
@settings(max_examples=300, deadline=None)
def test_any_conversation_cut_anywhere(seed, cuts):
    """Pipelines, portals, COPY both ways, errors, refusals, what comes unasked; nothing of it leaks."""
    assert_cuts_change_nothing(seed, cuts)


@pytest.mark.parametrize("seed", [941, 1393, 1734, 7162])
def test_portals_of_before_a_sync(seed):
    """They are executed, described or closed behind it, unanswered: whether there is such a portal hung on
    how much of the answers came at once."""
    assert_cuts_change_nothing(seed, 0)


def assert_cuts_change_nothing(seed, cuts):
    chance = random.Random(cuts)
    one = talk(seed, 4)
    assert came_to_the_same(one, talk(seed, 4, bytewise, bytewise))
    assert came_to_the_same(one, talk(seed, 4, anywhere(chance), anywhere(chance)))
    assert leaks(one) == 0


def test_conversations_reach_what_there_is():
    """The conversations above are worth something: they come to every kind of message and of end."""
    sent, seen, ends = set(), set(), set()
    for seed in range(150):
        bench = talk(seed, 4)
        sent |= {kind for kind, _ in split(bench.to_backend)}
        seen |= {kind for kind, _ in split(bench.to_frontend)}
        ends |= {f.outcome.error for f in bench.finished}
    assert sent == set("QPBDECSHdcfX")
    assert seen == set("TDCZ123tnsIEGHdcNAS")
    assert ends >= {"", "42501", "22012", "57014", "skipped"}


@given(seeds, seeds)
@settings(max_examples=400, deadline=None)
def test_a_spoilt_agent_in_any_conversation(seed, change):
    with_errors(lambda: talk(seed, 4, spoil_agent=spoiler(random.Random(change), 0.5)))


@given(seeds, seeds)
@settings(max_examples=600, deadline=None)
def test_a_spoilt_server_in_any_conversation(seed, change):
    with_errors(lambda: talk(seed, 4, spoil_server=spoiler(random.Random(change), 0.3)))


@given(seeds, seeds, st.sampled_from(["required", "offered", "none"]))
@settings(max_examples=300, deadline=None)
def test_any_beginning(seed, change, tls):
    """The startup, encryption requests, cancel requests, the password: cut anywhere, and spoilt."""
    chance = random.Random(seed)
    data = beginning(chance)

    def outcome(cut) -> list[object]:
        try:
            return begin(data, tls, cut)
        except (ProtocolError, Refused) as wrong:
            return [type(wrong), str(wrong)]

    if data[4:8] != messages.ssl_request()[4:8]:  # behind that comes TLS, or it is an error
        assert outcome(bytewise) == outcome(lambda data: [data]) == outcome(anywhere(chance))
    data = spoiler(random.Random(change), 1.0)(data)
    with_errors(lambda: begin(data, tls, anywhere(chance)))


@given(seeds, seeds)
@settings(max_examples=300, deadline=None)
def test_any_login_at_a_server(seed, change):
    one = log_in(seed)
    assert one[2] == log_in(seed, bytewise)[2]
    if one[2]:
        assert one[1] == log_in(seed, bytewise)[1]
    log_in(seed, anywhere(random.Random(change)), spoiler(random.Random(change), 0.6))


@pytest.mark.parametrize("code", "123nscI")
def test_a_message_without_a_body_has_none(code):
    """What a client would skip there was not looked at."""
    bench = Bench().log_in().agent(*{
        "1": [parse("", "select 1")],
        "2": [bind("", "s")],
        "3": [message(b"C", b"Ss\0")],
        "n": [describe("S", "s")],
        "s": [query("select 1")],
        "c": [query("copy cards to stdout")],
        "I": [query("")],
    }[code])  # fmt: skip
    if code == "2":
        bench = Bench().log_in().agent(parse("s", "select 1")).server(PARSED).agent(bind("", "s"))
    with_errors(lambda: bench.server(message(code.encode(), PAN.replace(b" ", b""))))
    assert PAN.replace(b" ", b"") not in bench.to_frontend


# --- garbage ---------------------------------------------------------------------------------------

mutation = st.tuples(st.integers(0, 10**6), st.integers(0, 255))


def mutate(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    out = bytearray(data)
    for at, value in changes:
        out[at % len(out)] = value
    return bytes(out)


@given(st.binary(max_size=300))
def test_garbage_at_the_start(data):
    codec = PostgresCodec(default_scanner(), tls="none")
    with_errors(lambda: codec.frontend(data))


def with_errors(action) -> None:
    with contextlib.suppress(ProtocolError, Refused):
        action()


@given(st.binary(max_size=300))
def test_garbage_from_the_agent(data):
    bench = Bench().log_in()
    with_errors(lambda: bench.agent(data))


@given(st.lists(mutation, min_size=1, max_size=4))
@settings(max_examples=400)
def test_a_mutated_agent(changes):
    bench = Bench().log_in()
    with_errors(lambda: bench.agent(mutate(AGENT_1, changes)))


@given(st.lists(mutation, min_size=1, max_size=4))
@settings(max_examples=600)
def test_a_mutated_server_leaks_nothing(changes):
    bench = Bench().log_in().agent(AGENT_1).server(SERVER_1).agent(AGENT_2)
    with_errors(lambda: bench.server(mutate(SERVER_2, changes)))
    # a mutation inside a PAN makes it another number; the other copies must still be masked
    touched = sum(1 for _ in changes)
    assert bench.to_frontend.count(PAN) <= touched


@given(st.binary(max_size=200))
def test_garbage_from_the_server(data):
    bench = Bench().log_in().agent(AGENT_1)
    with_errors(lambda: bench.server(data))


@given(st.binary(max_size=200), st.booleans())
def test_garbage_during_the_login(data, framed):
    login = BackendLogin("u", "d", "secret", cleartext=False)
    login.start()
    if framed and data:
        data = message(data[:1], data[1:])
    with_errors(lambda: login.feed(data))
    if not data.startswith(b"R\0\0\0\x0c\0\0\0\5"):
        assert not login.done


@pytest.mark.parametrize("step", [1, 3, 7])
def test_startup_split(step):
    data = startup({"user": "agent", "database": "d"}) + message(b"p", b"token\0")
    codec = PostgresCodec(default_scanner(), tls="none")
    out = []
    for i in range(0, len(data), step):
        out += codec.frontend(data[i : i + step])
    assert [type(a).__name__ for a in out] == ["ToFrontend", "Authenticate"]
    assert messages.SSL_REQUEST == 80877103
    assert NO_DATA
