"""The short way of requests that came before: it gives what the long one gives, whatever is between."""

import random
import struct
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate._again import Requests, answer_parts
from pangate.model import Outcome
from pangate.protocols import Described, Finished
from pgwire import (
    BOUND,
    FLUSH,
    NO_DATA,
    PARSED,
    SYNC,
    Bench,
    bind,
    close,
    complete,
    describe,
    error,
    execute,
    message,
    parse,
    query,
    ready,
    row,
    row_description,
)

PAN = b"4111111111111111"
COLUMNS = row_description([("pan", 25, 0, 7, 1), ("n", 23, 0, 7, 2)])
OTHERS = row_description([("pan", 25, 0, 7, 1), ("n", 23, 0, 7, 2), ("more", 25, 0, 7, 3)])
TABLES = {7: [(n, "public", "cards", name) for n, name in enumerate(("pan", "n", "more"), 1)]}
SEEN = row(b"card " + PAN, b"7")
NOTICE = message(b"N", b"SNOTICE\0C00000\0Msaw " + PAN + b"\0\0")


@dataclass
class Short(Bench):
    """A bench that goes the short way where there is one, as a session does."""

    short: int = 0
    waiting: object = None

    def agent(self, *data: bytes) -> Bench:
        for part in data:
            found = self.codec.short_way.again(part)
            if found is None:
                self.take(self.codec.frontend(part))
                continue
            self.waiting = found
            self.to_backend += self.codec.short_way.proceed(found, part)
            *first, last = found.statements
            last = replace(last, parameters=found.values)
            self.statements += [
                *first,
                last if found.text is None else replace(last, text=found.text),
            ]
        return self

    def server(self, *data: bytes) -> Bench:
        for part in data:
            answered = self.codec.short_way.answered(part)
            if answered is None:
                self.take(self.codec.backend(part))
                continue
            self.short += 1
            self.to_frontend += bytes(answered.data)
            many = len(self.waiting.statements)
            for number in range(answered.number - many + 1, answered.number):
                self.finished.append(Finished(number, Outcome(), answered.began))
            if answered.described:
                self.described.append(Described(answered.number, *answered.described))
            outcome = Outcome(answered.rows, answered.size, answered.masked, answered.columns)
            self.finished.append(Finished(answered.number, outcome, answered.place))
        return self


def said(bench: Bench) -> tuple[object, ...]:
    codec = bench.codec
    return (
        bench.to_backend, bench.to_frontend, bench.statements, bench.finished, bench.described,
        codec.at_rest, codec.reusable, codec.received, codec._standing.status,
        codec._prepared, codec._portals,
    )  # fmt: skip


class Talk:
    """What an agent asks over and over, and what the server answers, by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def turn(self) -> tuple[bytes, bytes]:
        chance = self.chance
        number = chance.randrange(10**5)
        value = chance.choice((b"%d" % number, PAN, b"it's \xe9", b"\xff", None))
        columns = chance.choice((COLUMNS,) * 9 + (OTHERS,))
        cells = [chance.choice((PAN, b"x " + PAN, b"y", None)), b"%d" % number]
        if columns == OTHERS:
            cells.append(b"more")
        rows = row(*cells) * chance.choice((0, 1, 1, 1, 3))
        end = complete(f"SELECT {number % 10}") + ready(chance.choice("IIIT"))
        kind = chance.randrange(9)
        if kind == 0:
            return query(f"select pan, n from cards where n = {number}"), columns + rows + end
        if kind == 1:
            return query("update cards set n = 1"), complete("UPDATE 3") + ready()
        if kind == 2:
            return query(chance.choice(("begin", "commit"))), complete("BEGIN") + ready("T")
        asks = chance.random() < 0.7
        told = describe("P", "") if asks else b""
        if kind in (3, 4):
            asked = parse("", "select pan, n from cards where id = $1", []) + bind(
                "", "", [value], [0], [0]
            )
            return asked + told + execute("") + SYNC, PARSED + BOUND + columns + rows + end
        if kind == 5:
            answer = BOUND + NO_DATA + complete("INSERT 0 1") + ready()
            return bind("", "w", [value], [], []) + told + execute("") + SYNC, answer
        if kind == 6:
            value, form = struct.pack("!i", number), 1
        else:
            form = 0
        asked = bind("", "s", [value], [form], [0]) + told + execute("") + SYNC
        return asked, BOUND + columns + rows + end


BEGINNING = (
    (parse("s", "select pan, n from cards where id = $1", [23]) + SYNC, PARSED + ready()),
    (parse("w", "insert into notes values ($1)", []) + SYNC, PARSED + ready()),
)

TROUBLES = ("notice", "error", "cut", "cut agent", "two", "again", "known", "flush")
trouble = st.lists(st.sampled_from(["", "", "", *TROUBLES]), min_size=1, max_size=12)


def run(bench: Bench, seed: int, troubles: list[str]) -> Bench:
    talk = Talk(seed)
    bench.tables = TABLES
    bench.log_in()
    for asked, answer in BEGINNING:
        bench.agent(asked).server(answer)
    for trouble in troubles * 3:
        asked, answer = talk.turn()
        at = talk.chance.randrange(1, len(answer))
        match trouble:
            case "":
                bench.agent(asked).server(answer)
            case "notice":
                bench.agent(asked).server(NOTICE + answer)
            case "error":
                bench.agent(asked).server(error("22012", "wrong " + PAN.decode()) + ready())
            case "cut":
                bench.agent(asked).server(answer[:at], answer[at:])
            case "cut agent":
                bench.agent(asked[:7], asked[7:]).server(answer)
            case "two":
                again, more = talk.turn()
                bench.agent(asked, again).server(answer, more)
            case "again":
                bench.agent(parse("s", "select pan, n from cards where n = $1", [23]) + SYNC)
                bench.server(PARSED + ready())
                bench.agent(asked).server(answer)
            case "known":
                bench.agent(asked)
                bench.catalog.expire()
                bench.server(answer)
                # the short way may have asked again what the long one asks with the next request
                bench.catalog.expire()
            case "flush":
                bench.agent(asked, FLUSH, close("P", "") + SYNC)
                bench.server(answer, message(b"3") + ready())
    return bench


@given(st.integers(0, 2**32), trouble)
@settings(max_examples=400, deadline=None)
def test_the_short_way_gives_what_the_long_one_gives(seed, troubles):
    long, short = run(Bench(), seed, troubles), run(Short(), seed, troubles)
    assert said(long) == said(short)
    assert PAN not in short.to_frontend


@given(st.integers(0, 2**32), trouble, trouble)
@settings(max_examples=200, deadline=None)
def test_what_one_connection_came_to_know_holds_for_the_next(seed, troubles, others):
    found = []
    for kind in (Bench, Short):
        first = run(kind(), seed, troubles)
        found.append(said(run(kind(catalog=first.catalog), seed, others)))
    assert found[0] == found[1]
    assert PAN not in found[1][1]


ASKS = query("select pan, n from cards where n = 1")
TOLD = COLUMNS + SEEN + complete("SELECT 1") + ready()


def knowing() -> Short:
    """A connection that has come to know what ASKS asks."""
    bench = run(Short(), 5, [])
    for _ in range(2):  # at first its tables are read
        bench.agent(ASKS).server(TOLD)
    assert not bench.short
    return bench


def asked_again(catalog, mask="last4", asks=ASKS, told=TOLD):
    """How often the short way was gone by a connection that asks once, and what it was given."""
    bench = Short(tables=TABLES, catalog=catalog)
    bench.log_in(mask=mask)
    bench.agent(asks).server(told)
    return bench.short, bench.to_frontend


def test_the_first_query_of_a_connection_goes_the_short_way():
    first = knowing()
    short, shown = asked_again(first.catalog)
    assert short == 1
    assert shown == Bench(tables=TABLES).log_in().agent(ASKS).server(TOLD).to_frontend
    assert asked_again(first.catalog, asks=query("select pan, n from cards where n = 2"))[0] == 1


def test_what_was_seen_with_another_mask_or_before_a_change_is_not_known():
    first = knowing()
    short, shown = asked_again(first.catalog, mask="first6_last4")
    assert short == 0
    assert b"411111******1111" in shown
    assert asked_again(first.catalog)[0] == 1
    first.catalog.expire()
    assert asked_again(first.catalog)[0] == 0


def test_a_result_that_is_under_way_elsewhere_keeps_its_counts():
    first = knowing()
    more = query("select pan, n from cards where n = 3 and n = 3")
    first.agent(more).server(COLUMNS + SEEN)  # by the long way, and not all of it yet
    assert asked_again(first.catalog)[0] == 1
    first.server(SEEN + complete("SELECT 2") + ready())
    last = first.finished[-1].outcome
    assert (last.masked, last.columns) == ({"visa": 2}, {"public.cards.pan": 2})


def test_a_named_statement_is_known_to_its_own_connection_only():
    first = run(Short(), 5, [])
    for _ in range(3):
        first.agent(bind("", "s", [b"1"], [0], [0]) + describe("P", "") + execute("") + SYNC)
        first.server(BOUND + TOLD)
    assert first.short == 1
    assert not any(len(known) for known in first.catalog.requests.values())


def test_it_is_gone():
    assert run(Short(), 5, [""] * 20).short > 30


def test_a_byte_at_a_time_it_is_never_gone():
    short = run(Short(), 5, ["cut", "cut agent"])
    assert said(short) == said(run(Bench(), 5, ["cut", "cut agent"]))


# --- what is a request -----------------------------------------------------------------------------


def key(data: bytes) -> bytes:
    requests = Requests()
    requests.look(data)
    return requests.key if requests.kind else b""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("select 1", "select 22", True),
        ("select 1", "select  1", False),
        ("select a1", "select a2", False),
        ("select 1.5", "select 2.5", False),
        ("select '1'", "select '2'", False),
        ('select 1 as "1"', 'select 1 as "2"', False),
        ("select 1 -- 1", "select 1 -- 2", False),
        ("select 1 /* 1 */", "select 1 /* 2 */", False),
        ("select $$1$$", "select $$2$$", False),
        ("select $1", "select $2", False),
        ("select 1e1", "select 1e2", False),
        ("select 0x1", "select 0x2", False),
        ("select 1é", "select 2é", False),
        ("select -1", "select -2", True),
        ("select 1,2", "select 3,4", True),
    ],
)
def test_a_number_by_itself_is_a_value(one, other, same):
    assert (key(query(one)) == key(query(other))) == same


def test_values_are_taken_out_of_a_bind():
    def asked(value, name="s", formats=(0,), results=(0,)):
        return bind("", name, [value], list(formats), list(results)) + execute("") + SYNC

    assert key(asked(b"1")) == key(asked(b"something else")) == key(asked(None))
    assert key(asked(b"1")) != key(asked(b"1", name="t"))
    assert key(asked(b"1")) != key(asked(b"1", results=(1,)))
    assert key(asked(b"1")) != key(asked(b"1", formats=(1,)))


ASKED = bind("", "s", [PAN], [0], [0]) + describe("P", "") + execute("") + SYNC
PREPARED = parse("", "select $1", [25]) + bind("", "", [PAN], [0], [0]) + execute("") + SYNC


@pytest.mark.parametrize("data", [ASKED, PREPARED, query("select 1")])
def test_nothing_but_a_whole_request_is_one(data):
    assert key(data)
    for at in range(len(data)):
        assert not key(data[:at])
    assert not key(data + b"\0")
    assert not key(data + SYNC)


@given(st.sampled_from([ASKED, PREPARED, query("select 1")]), st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4))  # fmt: skip
def test_any_bytes_are_looked_at(data, changes):
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(changed)] = value
    key(bytes(changed))
    parts = answer_parts(bytes(changed))
    assert parts is None or changed.startswith(b"".join(parts))


def test_what_is_remembered_is_bounded():
    bench = Short(tables=TABLES).log_in()
    for number in range(300):
        asked = query(f"select a{number} from cards")
        for _ in range(2):
            bench.agent(asked).server(COLUMNS + SEEN + complete("SELECT 1") + ready())
    assert bench.short == 299  # the first one has its tables read


def test_an_open_portal_limit_and_another_portal_are_no_request():
    one = bind("p", "s", [b"1"])
    assert key(one + execute("p") + SYNC)
    assert not key(one + execute("p", 1) + SYNC)
    assert not key(one + execute("") + SYNC)
    assert not key(one + describe("S", "s") + execute("p") + SYNC)
    assert not key(one + execute("p") + FLUSH)
