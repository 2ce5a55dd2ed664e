"""Sessions by chance over fewer connections than there are sessions: each sees what it would see with a
connection of its own, message by message."""

from __future__ import annotations

import contextlib
import random
import socket

import pytest

from conftest import EVERYTHING
from pangate.protocols.postgres.messages import error_fields
from pangate.trial import Trial
from pgwire import SYNC, bind, close, describe, execute, parse, query
from servers import messages, past_session, session

pytestmark = pytest.mark.integration

SESSIONS, CONNECTIONS = 5, 3
STEPS = 400

TRANSIENT = (
    "select 1", "select 'a', null, 2.5", "select generate_series(1, 5)", "select 1/0",
    "select from from_nothing", "show work_mem", "show search_path", "select current_setting('my.own', true)",
    "select count(*) from cards", "insert into notes values (99, 'by chance') returning note",
    "update notes set note = 'x' where id = -1", "select to_regclass('pg_temp.mine')::text",
    "values (1), (2)", "begin", "commit", "rollback", "savepoint s", "rollback to savepoint s",
    "release savepoint s",
    "set local work_mem = '7MB'",
    "select set_config('work_mem', '8MB', true)", "select 1; select 2", "begin; select 3", "commit; select 4",
    "declare c cursor for select generate_series(1, 9)", "fetch 2 from c", "close c",
    "copy (select 5) to stdout", "", "deallocate s1", "deallocate s2", "deallocate all",
    "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    "select pg_advisory_xact_lock_shared(3)", "notify somebody", "select '4111111111111111'",
)  # fmt: skip
LASTING = (
    "set work_mem = '9MB'", "select set_config('my.own', 'x', false)",
    "create temporary table mine as select 7 as n", "select n + 0 from mine",
    "select pg_advisory_lock_shared(5)", "declare h cursor with hold for select generate_series(1, 9)",
    "fetch 3 from h", "listen somebody", "discard all", "reset all", "select pg_advisory_unlock_all()",
    "do $$ begin perform 1; end $$",
    "begin; set work_mem = '6MB'; rollback", "select count(*) from pg_cursors", "discard temp",
)  # fmt: skip
"""After one of these, a session keeps its connection. PREPARE is not one of them: a gateway trusts no name of
Parse after that, in either mode."""
PREPARED = (
    "select 1", "select $1::int + 1", "select $1::text, $2::int", "select n from nowhere", "select 1/$1::int",
    "show work_mem", "begin", "commit", "insert into notes values ($1::int, 'chance') returning id",
    "select generate_series(1, $1::int)", "deallocate s3", "select current_setting('my.own', true)",
)  # fmt: skip
VALUES = (b"1", b"2", b"0", b"x", None)
NAMES = ("", "s1", "s2", "s3")


@pytest.fixture(scope="module")
def few(postgres, trial):
    with Trial(
        postgres,
        effects=EVERYTHING,
        resource=f'pool = {{ mode = "transaction", idle_seconds = 300, max_connections = {CONNECTIONS} }}',
    ) as running:
        yield running


class Pair:
    """One agent twice: through the gateway and past it, and both are told the same."""

    def __init__(self, few: Trial, who: str, stack: contextlib.ExitStack) -> None:
        self.through = stack.enter_context(session(few, few.token(who)))
        self.past = stack.enter_context(past_session(few))
        self.keeps = False
        """Whether it has a connection to itself: it is in a transaction, or pinned."""
        self.pinned = False
        self.failed = False

    def say(self, data: bytes, syncs: int) -> list[tuple[bytes, bytes]]:
        found = []
        for sock in (self.through, self.past):
            sock.sendall(data)
            found.append(plain(answers(sock, syncs)))
            if self.failed:
                # what its connection has not had yet cannot be prepared in a transaction that has failed
                found[-1] = [one for one in found[-1] if one[0] == b"Z"]
        assert found[0] == found[1], f"{data!r}\n{found[0]}\n{found[1]}"
        state = found[0][-1][1]
        self.keeps = self.pinned or state != b"I"
        self.failed = state == b"E"
        return found[0]


def answers(sock: socket.socket, syncs: int) -> list[tuple[bytes, bytes]]:
    """What is said up to so many ReadyForQuery."""
    seen = b""
    while True:
        chunk = sock.recv(65536)
        assert chunk, seen
        seen += chunk
        with contextlib.suppress(AssertionError):
            found = messages(seen)
            if sum(kind == b"Z" for kind, _ in found) == syncs:
                return found


def plain(found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without what differs by right: the words of an error, the mask of a card number, when it is told of a
    setting, which error says that nobody has prepared something, and which of two faults is named of what is
    bound in a transaction that has failed."""
    out = []
    for kind, body in found:
        if kind == b"E":
            code = error_fields(body)["C"]
            unlike = {"26000": "unknown", "42501": "unknown", "08P01": "25P02"}
            out.append((kind, unlike.get(code, code).encode()))
        elif kind == b"D":
            out.append((kind, body.replace(b"4111111111111111", b"*" * 12 + b"1111")))
        elif kind not in b"NSA":
            out.append((kind, body))
    return out


def some_step(chance: random.Random, texts: tuple[str, ...]) -> tuple[bytes, int]:
    """A few messages, and how many answers end with ReadyForQuery."""
    if chance.random() < 0.4:
        return query(chance.choice(texts)), 1
    data, syncs = b"", chance.choice((1, 1, 1, 2))
    for _ in range(syncs):
        for _ in range(chance.randrange(1, 4)):
            name = chance.choice(NAMES)
            match chance.randrange(7):
                case 0 | 1:
                    text = chance.choice(PREPARED)
                    data += parse(name, text)
                    if chance.random() < 0.7:
                        data += bind("", name, values_for(chance, text)) + execute()
                case 2 | 3 | 4:
                    data += bind("", name, values_for(chance, chance.choice(PREPARED)))
                    if chance.random() < 0.5:
                        data += describe("P")
                    data += execute()
                case 5:
                    data += describe("S", name)
                case 6:
                    data += close("S", name)
        data += SYNC
    return data, syncs


def values_for(chance: random.Random, text: str) -> list[bytes | None]:
    return [chance.choice(VALUES) for _ in range(max(text.count("$1") and 1, 2 * text.count("$2")))]


@pytest.mark.parametrize("seed", range(6))
def test_each_session_sees_what_it_would_see_alone(few, seed):
    chance = random.Random(seed)
    switched = 0
    with contextlib.ExitStack() as stack:
        pairs = [Pair(few, f"agent-{number % 2}", stack) for number in range(SESSIONS)]
        last = None
        for _ in range(STEPS):
            pair = chance.choice(pairs)
            # one connection stays free for all that have none
            may_keep = sum(other.keeps for other in pairs if other is not pair) < CONNECTIONS - 1
            if not pair.keeps and not may_keep:
                keeping = chance.choice(
                    [other for other in pairs if other.keeps and other is not pair]
                )
                keeping.say(query("rollback"), 1)
                if keeping.keeps:
                    pairs[pairs.index(keeping)] = Pair(few, f"agent-{chance.randrange(2)}", stack)
                    keeping.through.close()
                    keeping.past.close()
                continue
            if chance.random() < 0.02:
                pair.pinned = True
            texts = TRANSIENT + LASTING if pair.pinned else TRANSIENT
            switched += last is not pair
            last = pair
            data, syncs = some_step(chance, texts)
            pair.say(data, syncs)
    assert switched > STEPS / 2
