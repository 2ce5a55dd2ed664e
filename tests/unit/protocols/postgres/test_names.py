"""Names of prepared statements over several connections: what the server is sent for what an agent says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pangate.errors import ProtocolError
from pangate.masking import default_scanner
from pangate.model import Verdict
from pangate.protocols import Action, Execute, Reach, ToBackend, ToFrontend
from pangate.protocols.postgres import PostgresCodec
from pangate.protocols.postgres.catalog import open_catalog
from pangate.protocols.postgres.messages import error, error_fields, message, startup
from pangate.protocols.postgres.names import MOST_STATEMENTS, Carried
from pgwire import (
    BOUND,
    CLOSED,
    NO_DATA,
    PARSED,
    SYNC,
    bind,
    close,
    complete,
    describe,
    execute,
    parse,
    query,
    ready,
    split,
)

ALLOW, DENY = Verdict("allow"), Verdict("deny", "refused")
REPORTED = {"client_encoding": "UTF8", "TimeZone": "UTC"}


class Agent:
    """A session in transaction mode whose statements are all allowed."""

    def __init__(self, carried: Carried | None = None) -> None:
        self.codec = PostgresCodec(default_scanner(), tls="none")
        self.codec.frontend(startup({"user": "agent"}))
        self.codec.frontend(message(b"p", b"token\0"))
        self.codec.lend()
        self.carried = carried or Carried()
        self.codec.taken(self.carried)
        self.codec.ready(REPORTED, bytes(8), "last4", open_catalog({}))

    def _all(self, actions: list[Action]) -> tuple[bytes, bytes, bool]:
        to_server, to_agent, reach = b"", b"", False
        while actions:
            following: list[Action] = []
            for action in actions:
                match action:
                    case ToBackend():
                        to_server += bytes(action.data)
                    case ToFrontend():
                        to_agent += bytes(action.data)
                    case Execute():
                        refused = action.statement.refusal
                        following = self.codec.resume(DENY if refused else ALLOW)
                    case Reach():
                        reach = True
            actions = following
        return to_server, to_agent, reach

    def says(self, data: bytes) -> list[tuple[str, bytes]]:
        """What the server is sent for it."""
        return split(self._all(self.codec.frontend(data))[0])

    def hears(self, data: bytes) -> list[tuple[str, bytes]]:
        """What the agent is given of it."""
        return split(self._all(self.codec.backend(data))[1])

    def move(self, carried: Carried) -> None:
        """To another connection."""
        assert self.codec.lendable
        self.codec.part()
        self.codec.reached(carried, REPORTED)


def name(said: tuple[str, bytes]) -> bytes:
    """The statement that a message names."""
    kind, body = said
    first, second = body.split(b"\0")[:2]
    return {"P": first, "B": second, "D": first[1:], "C": first[1:]}[kind]


def kinds(said: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in said)


def test_no_two_sessions_and_no_two_statements_have_one_name():
    seen = set()
    carried = Carried()
    for agent in (Agent(carried), Agent(carried), Agent()):
        for text in ("select 1", "select 2"):
            said = agent.says(parse("s", text) + close("S", "s") + SYNC)
            seen.add(name(said[-3]))
            agent.hears(CLOSED * (len(said) - 3) + PARSED + CLOSED + ready())
    assert len(seen) == 6
    assert all(found.startswith(b"pangate ") for found in seen)


def test_an_agent_that_says_a_name_of_ours_means_its_own():
    first, second = Agent(), Agent()
    (parsed, _) = first.says(parse("s", "select 1") + SYNC)
    ours = name(parsed)
    first.hears(PARSED + ready())
    second.move(first.carried)
    for data in (
        bind("", ours.decode()) + execute() + SYNC,
        describe("S", ours.decode()) + SYNC,
        close("S", ours.decode()) + SYNC,
    ):
        said = second.says(data)
        assert ours not in b"".join(body for _, body in said)
        second.hears((CLOSED if said[0][0] == "C" else error("26000", "no such")) + ready())


def test_a_parse_of_ours_goes_in_front_and_its_answer_nowhere():
    agent = Agent()
    agent.says(parse("s", "select $1", (23,)) + SYNC)
    agent.hears(PARSED + ready())
    agent.move(Carried())
    said = agent.says(bind("", "s", [b"1"]) + execute() + SYNC)
    assert kinds(said) == "PBDES"
    assert name(said[0]) == name(said[1]) != b"s"
    assert said[0][1].endswith(b"\0select $1\0\0\1\0\0\0\x17")
    found = agent.hears(PARSED + BOUND + NO_DATA + complete("SELECT 0") + ready())
    assert kinds(found) == "2CZ"
    assert kinds(agent.says(bind("", "s", [b"1"]) + execute() + SYNC)) == "BDES"


@pytest.mark.parametrize("fails", ["1", "2"])
def test_what_a_failed_parse_did_not_make_is_parsed_again(fails):
    agent = Agent()
    agent.says(parse("s", "select 1") + SYNC)
    agent.hears(PARSED + ready())
    agent.move(Carried())
    said = agent.says((bind("", "s") + execute() + SYNC) * 2)
    # behind a Sync nobody knows yet whether the first came to anything
    assert kinds(said) == "PBDESCPBDES"
    wrong = error("42P01", "there is no such table")
    if fails == "1":
        assert kinds(agent.hears(wrong + ready() + CLOSED + PARSED + BOUND + NO_DATA)) == "EZ2"
    else:
        found = agent.hears(
            PARSED + BOUND + NO_DATA + complete("SELECT 0") + ready() + CLOSED + wrong
        )
        assert kinds(found) == "2CZE"
    agent.hears((complete("SELECT 0") if fails == "1" else b"") + ready())
    assert kinds(agent.says(bind("", "s") + SYNC)) == ("BS" if fails == "1" else "CPBS")


def test_what_is_answered_is_forgotten_in_one_long_transaction_too():
    one = Agent()
    one.says(query("begin"))
    one.hears(complete("BEGIN") + ready("T"))
    for number in range(5):
        one.says(parse(f"s{number}", "select 1") + close("S", f"s{number}") + SYNC)
        one.hears(PARSED + CLOSED + ready("T"))
    assert one.codec._names is not None
    assert not one.codec._names._shown


def test_the_oldest_are_closed():
    agent = Agent()
    for number in range(MOST_STATEMENTS):
        agent.says(parse(f"s{number}", f"select {number}") + SYNC)
        agent.hears(PARSED + ready())
    first = next(iter(agent.carried.placed.values())).name
    said = agent.says(parse("more", "select 'more'") + SYNC)
    assert kinds(said) == "CPS"
    assert name(said[0]) == first
    assert kinds(agent.hears(CLOSED + PARSED + ready())) == "1Z"
    assert len(agent.carried.placed) == MOST_STATEMENTS
    assert kinds(agent.says(describe("S", "s0") + SYNC)) == "CPDS"


def test_a_connection_that_was_given_very_many_names_is_made_as_new():
    agent = Agent()
    login, kept = agent.codec.renew({}, bytes(8), {}, agent.carried, kin=True)
    assert kept is agent.carried
    assert b"DISCARD ALL" not in login.start()
    agent.carried.given = 10_000
    login, kept = agent.codec.renew({}, bytes(8), {}, agent.carried, kin=True)
    assert kept is not agent.carried
    assert b"DISCARD ALL" in login.start()
    login, kept = agent.codec.renew({}, bytes(8), {}, Carried(), kin=False)
    assert b"DISCARD ALL" in login.start()


def test_what_is_pinned_has_a_connection_without_statements_of_others():
    carried = Carried()
    other, agent = Agent(carried), Agent(carried)
    other.says(parse("s", "select 'theirs'") + SYNC)
    other.hears(PARSED + ready())
    agent.says(parse("s", "select 'mine'") + SYNC)
    agent.hears(PARSED + ready())
    theirs, mine = carried.placed.values()
    said = agent.says(query("set work_mem = '1MB'"))
    assert kinds(said) == "CSQ"
    assert name(said[0]) == theirs.name
    assert kinds(agent.hears(CLOSED + ready() + complete("SET") + ready())) == "CZ"
    assert list(carried.placed.values()) == [mine]
    assert (agent.codec.pinned, agent.codec.lendable) == ("SET", False)


def test_errors_have_the_agent_s_names_masked():
    agent = Agent()
    said = agent.says(parse("4111111111111111", "select 1") + SYNC)
    agent.hears(PARSED + ready())
    agent.says(bind("", "4111111111111111", [b"1"]) + SYNC)
    text = f'"{name(said[0]).decode()}" requires 0'
    (found, _) = agent.hears(error("08P01", text) + ready())
    assert error_fields(found[1])["M"] == '"************1111" requires 0'


BUSY: dict[str, Callable[[Agent], object]] = {
    "a query": lambda agent: agent.says(query("select 1")),
    "no Sync": lambda agent: (agent.says(parse("s", "select 1")), agent.hears(PARSED)),
    "a transaction": lambda agent: (
        agent.says(query("begin")), agent.hears(complete("BEGIN") + ready("T"))),
    "half a message": lambda agent: (
        agent.says(query("select 1")), agent.hears(complete("SELECT 0") + ready() + b"N\0\0")),
    "a setting that changed": lambda agent: (
        agent.says(query("select 1")),
        agent.hears(message(b"S", b"TimeZone\0PST\0") + complete("SELECT 0") + ready())),
}  # fmt: skip


@pytest.mark.parametrize("what", BUSY)
def test_when_a_session_keeps_its_connection(what):
    agent = Agent()
    assert agent.codec.lendable
    BUSY[what](agent)
    assert not agent.codec.lendable


def test_without_a_connection_nothing_is_sent():
    agent = Agent()
    agent.codec.part()
    for said in (describe("S", "s"), close("S", "s"), SYNC, execute("p")):
        assert [type(action) for action in agent.codec.frontend(said)] in ([Reach], [])
    agent.codec.reached(Carried(), REPORTED)
    idle = Agent()
    idle.codec.part()
    assert idle.codec.frontend(message(b"H") + message(b"d", b"x") + message(b"c")) == []
    with pytest.raises(ProtocolError):
        idle.codec.frontend(b"?\0\0\0\4")


def test_settings_that_changed_meanwhile_are_told():
    agent = Agent()
    agent.codec.part()
    (told,) = agent.codec.reached(Carried(), {**REPORTED, "TimeZone": "PST"})
    assert isinstance(told, ToFrontend)
    assert bytes(told.data) == message(b"S", b"TimeZone\0PST\0")
    assert agent.codec.lendable
