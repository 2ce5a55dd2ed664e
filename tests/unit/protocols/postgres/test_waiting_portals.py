"""Messages about a portal that wait, because an answer on its way decides whether there is such a portal."""

import pytest

from pgwire import (
    BOUND,
    CLOSED,
    PARSED,
    SYNC,
    Bench,
    bind,
    close,
    complete,
    describe,
    error,
    execute,
    parse,
    query,
    ready,
    row_description,
    split,
)


def fetching() -> Bench:
    """A portal p that has been executed, its Sync sent and not answered."""
    agent = (
        parse("", "select pan from cards") + bind("p") + describe("P", "p") + execute("p", 1) + SYNC
    )
    return Bench().log_in().agent(agent)


ANSWERED = PARSED + BOUND + row_description([("pan", 25, 0)]) + b"s\0\0\0\4"


@pytest.mark.parametrize("message", [execute("p", 1), describe("P", "p"), close("P", "p")])
def test_it_waits_for_the_answer_to_the_sync(message):
    bench = fetching()
    sent = bench.to_backend
    bench.agent(message)
    assert bench.to_backend == sent
    bench.server(ANSWERED)
    assert bench.to_backend == sent
    bench.server(ready("T"))
    assert bench.to_backend.endswith(message)


def test_in_a_transaction_the_portal_lives_on():
    bench = fetching().agent(execute("p", 1)).server(ANSWERED + ready("T"))
    assert [s.kind for s in bench.statements] == ["parse", "bind"]


def test_outside_of_one_it_does_not():
    """So what is executed is a cursor that SQL declared, and decided as one."""
    bench = fetching().agent(execute("p", 1)).server(ANSWERED + ready("I"))
    assert [s.kind for s in bench.statements] == ["parse", "bind", "execute"]
    assert bench.statements[-1].text == 'fetch from "p"'


def test_a_portal_without_a_statement_under_way_ends_too():
    """Everything that was run is finished; the name means nothing any more."""
    bench = Bench().log_in()
    bench.agent(parse("", "select 1") + bind("p") + execute("p") + SYNC)
    bench.server(
        PARSED + BOUND + row_description([("n", 25, 0)]) + complete("SELECT 0") + ready("I")
    )
    assert len(bench.finished) == 2
    bench.agent(execute("p"))
    assert bench.statements[-1].kind == "execute"


def test_a_closed_portal_is_gone_at_once():
    """The server keeps the answer to a Close back until Sync, so waiting for it would be for ever."""
    bench = fetching().server(ANSWERED + ready("T")).agent(close("P", "p") + execute("p"))
    assert bench.statements[-1].kind == "execute"
    bench = Bench().log_in()
    sent = parse("", "select 1") + bind("p") + describe("P", "p") + execute("p")
    sent += close("P", "p") + close("P", "p") + SYNC
    assert bench.agent(sent).to_backend == sent
    answers = PARSED + BOUND + row_description([("n", 25, 0)]) + complete("SELECT 0") + CLOSED * 2
    bench.server(answers + ready("I"))
    assert bench.codec.at_rest
    assert len(bench.finished) == 2


def test_what_the_server_skips_does_not_wait_for_ever():
    """The Query that it would wait for is skipped as well, up to a Sync that stands behind it."""
    bench = fetching().server(ANSWERED + ready("T"))
    bench.agent(parse("s", "selec") + query("select 1") + execute("p") + SYNC)
    bench.server(error("42601", "syntax error"))
    assert split(bench.to_backend)[-1][0] == "S"
    bench.server(ready("E"))
    assert bench.codec.at_rest
    assert [f.outcome.error for f in bench.finished] == ["", "42601", "skipped"]


def test_during_a_copy_nothing_waits():
    """The server answers no Execute then, and takes it for an error; waiting would be for ever."""
    bench = fetching().server(ANSWERED + ready("T"))
    bench.agent(query("copy cards from stdin") + execute("p"))
    assert split(bench.to_backend)[-1][0] == "Q"
    bench.server(b"G\0\0\0\x09\0\0\1\0\0")
    assert split(bench.to_backend)[-1][0] == "E"


def test_a_refused_result_is_its_own_statements():
    """The portal that is described is refused, not what the server comes to next."""
    bench = Bench().log_in()
    bench.agent(
        parse("", "select p from points")
        + bind("p", "", [], [], [1])
        + describe("P", "p")
        + parse("t", "select 1")
        + SYNC
    )
    bench.server(PARSED + BOUND + row_description([("p", 90001, 1)]) + PARSED + ready("I"))
    assert {f.number: f.outcome.error for f in bench.finished} == {1: "", 2: "0A000", 3: ""}
