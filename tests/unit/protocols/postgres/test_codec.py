"""The PostgreSQL codec: what passes, what is masked, what is refused, in which order."""

import struct
import sys

import pytest

from pangate.errors import AuthenticationFailed, LimitReached, ProtocolError, Refused
from pangate.masking import default_scanner
from pangate.model import Verdict
from pangate.protocols import Authenticate, Cancel, StartTLS, ToFrontend
from pangate.protocols.postgres import POISON, PostgresCodec, messages
from pangate.protocols.postgres.messages import message, startup
from pgwire import (
    BOUND,
    CLOSED,
    FLUSH,
    NO_DATA,
    PARSED,
    SYNC,
    TERMINATE,
    Bench,
    bind,
    cells,
    close,
    complete,
    copy_data,
    cstring,
    describe,
    error,
    execute,
    kinds,
    parse,
    query,
    ready,
    row,
    row_description,
    split,
)

PAN = b"4111111111111111"
MASKED = b"************1111"
DENY = Verdict("deny", "not allowed by the role")
SSL = messages.ssl_request()
GSS = struct.pack("!ii", 8, messages.GSSENC_REQUEST)


@pytest.fixture
def bench() -> Bench:
    return Bench().log_in()


def codec(tls: str = "required", **settings: int) -> PostgresCodec:
    return PostgresCodec(default_scanner(), tls=tls, **settings)


# --- startup ---------------------------------------------------------------------------------------


def test_tls_then_the_token():
    c = codec()
    assert c.frontend(SSL) == [StartTLS(b"S")]
    assert not c.in_preface
    (asked,) = c.frontend(startup({"user": "agent", "database": "payments", "search_path": "x"}))
    assert split(asked.data) == [("R", b"\0\0\0\3")]
    (authenticate,) = c.frontend(message(b"p", cstring("a.b.c")))
    assert isinstance(authenticate, Authenticate)
    assert (authenticate.credential, authenticate.resource) == ("a.b.c", "payments")
    assert "a.b.c" not in repr(authenticate)
    start = c.login("svc", "db", "secret", cleartext=False).start()
    assert b"search_path\0x\0" in start
    assert b"agent" not in start


def test_the_database_defaults_to_the_user():
    c = codec("none")
    c.frontend(startup({"user": "payments"}))
    (authenticate,) = c.frontend(message(b"p", cstring("t")))
    assert authenticate.resource == "payments"


def test_no_token_is_taken_without_tls():
    with pytest.raises(Refused, match="sslmode=require"):
        codec().frontend(startup({"user": "agent"}))


def test_gss_is_declined_and_tls_may_follow():
    c = codec()
    assert c.frontend(GSS) == [ToFrontend(b"N")]
    assert c.frontend(SSL) == [StartTLS(b"S")]
    plain = codec("none")
    assert plain.frontend(SSL) == [ToFrontend(b"N")]


def test_bytes_between_sslrequest_and_tls_are_refused():
    with pytest.raises(ProtocolError, match="between"):
        codec().frontend(SSL + b"x")
    c = codec()
    c.frontend(SSL)
    with pytest.raises(ProtocolError):
        c.frontend(SSL)


@pytest.mark.parametrize(("asked", "spoken"), [(0, 0), (1, 0), (2, 2), (3, 2), (9999, 2)])
@pytest.mark.parametrize("option", [b"", b"_pq_.command_compression\0on\0"])
def test_newer_protocols_and_options_are_negotiated(asked, spoken, option):
    c = codec("none")
    body = struct.pack("!i", 196608 + asked) + b"user\0agent\0" + option + b"\0"
    *negotiated, password = c.frontend(struct.pack("!i", len(body) + 4) + body)
    assert split(password.data)[0][0] == "R"
    assert c.key_bytes == (36 if spoken else 8)
    unknown = [b"_pq_.command_compression\0"] if option else []
    answer = struct.pack("!ii", 196608 + spoken, len(unknown)) + b"".join(unknown)
    expected = [("v", answer)] if option or asked != spoken else []
    assert [split(action.data)[0] for action in negotiated] == expected


@pytest.mark.parametrize(
    ("data", "wrong", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", ProtocolError, "startup"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", ProtocolError, "startup"),
        (struct.pack("!ii", 8, 0), ProtocolError, "protocol"),
        (struct.pack("!ii", 9, 196608) + b"\0", Refused, "user"),
        (struct.pack("!ii", 12, 196608) + b"user", ProtocolError, "startup"),
        (struct.pack("!ii", 14, 196608) + b"user\0\xff", ProtocolError, "startup"),
        (startup({"user": "a", "replication": "database"}), Refused, "replication"),
        (startup({"user": "a", "replication": "true"}), Refused, "replication"),
        (struct.pack("!ii", 8, messages.CANCEL_REQUEST), ProtocolError, "cancel"),
        (startup({"user": "a"}) + message(b"Q", b"x\0"), ProtocolError, "password"),
        (startup({"user": "a"}) + message(b"p", b"x"), ProtocolError, "malformed"),
        (startup({"user": "a"}) + message(b"p", b"x\0y\0"), ProtocolError, "malformed"),
        (startup({"user": "a"}) + b"p\x7f\xff\xff\xff", LimitReached, "token_bytes"),
    ],
)
def test_a_wrong_beginning(data, wrong, says):
    with pytest.raises(wrong, match=says):
        codec("none").frontend(data)


def test_a_cancel_request():
    (cancel,) = codec("none").frontend(messages.cancel_request(b"12345678"))
    assert cancel == Cancel(b"12345678")


def test_the_greeting_is_masked():
    bench = Bench()
    c = bench.codec
    c.frontend(startup({"user": "agent"}))
    c.frontend(message(b"p", cstring("t")))
    (greeting,) = c.ready(
        {"application_name": PAN.decode(), "client_encoding": "UTF8"},
        b"k" * 8,
        "last4",
        bench.catalog,
    )
    assert kinds(greeting.data) == "RSSKZ"
    assert PAN not in greeting.data
    assert MASKED in greeting.data


def test_an_encoding_that_hides_digits_is_refused(bench):
    with pytest.raises(Refused, match="GB18030"):
        Bench().log_in({"client_encoding": "GB18030"})
    bench.agent(query("set client_encoding = johab"))
    with pytest.raises(Refused, match="JOHAB"):
        bench.server(complete("SET") + message(b"S", b"client_encoding\0JOHAB\0") + ready())


def test_refusals_in_the_protocols_own_words():
    fields = messages.error_fields(codec().refuse(AuthenticationFailed("no"))[5:])
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "28P01", "no")
    fields = messages.error_fields(codec().refuse(ProtocolError("bad bytes"))[5:])
    assert (fields["C"], fields["M"]) == ("08P01", "protocol violation: bad bytes")


# --- simple queries --------------------------------------------------------------------------------


def test_a_simple_query_is_masked_and_counted(bench):
    bench.agent(query("select * from cards"))
    assert bench.statements[0].text == "select * from cards"
    assert bench.sent() == query("select * from cards")
    number = struct.pack("!q", int(PAN))
    bench.server(
        row_description([("pan", 25, 0), ("n", 20, 0), ("b", 20, 1)])
        + row(PAN, PAN, number)
        + row(None, b"7", struct.pack("!q", 7))
        + complete("SELECT 2")
        + ready()
    )
    rows = [cells(body) for kind, body in split(bench.seen()) if kind == "D"]
    assert rows[0][0] == MASKED
    assert rows[0][1] != PAN
    assert rows[0][1][-4:] == b"1111"
    assert rows[0][1].isdigit()
    assert struct.unpack("!q", rows[0][2])[0] == int(rows[0][1])
    assert rows[1] == [None, b"7", struct.pack("!q", 7)]
    (finished,) = bench.finished
    assert finished.number == 1
    assert finished.outcome.rows == 2
    assert finished.outcome.masked == {"visa": 3}
    assert finished.outcome.error == ""


def test_column_names_errors_notices_and_notifications_are_masked(bench):
    bench.agent(query("select 1"))
    bench.server(
        row_description([(PAN.decode(), 25, 0), ("other", 25, 0)])
        + row(b"a", b"b")
        + complete("SELECT 1")
        + message(b"N", b"SNOTICE\0C00000\0Mcard " + PAN + b"\0\0")
        + message(b"A", b"1234" + cstring("channel") + cstring(PAN))
        + ready()
    )
    bench.agent(query("select 1"))
    bench.server(error("22P02", f'invalid input syntax: "{PAN.decode()}"') + ready())
    seen = bench.seen()
    assert PAN not in seen
    assert seen.count(MASKED) == 4
    assert kinds(seen) == "TDCNAZEZ"
    assert bench.finished[1].outcome.error == "22P02"


def test_a_denied_query_fails_at_the_server_and_reads_as_ours(bench):
    bench.verdict = DENY
    bench.agent(query("drop table cards"))
    assert bench.sent() == query(POISON)
    bench.server(error("42601", 'syntax error at or near "PANGATE"') + ready("E"))
    seen = bench.seen()
    assert kinds(seen) == "EZ"
    fields = messages.error_fields(split(seen)[0][1])
    assert (fields["C"], fields["M"]) == ("42501", "not allowed by the role")
    assert split(seen)[1] == ("Z", b"E")


def test_a_result_that_cannot_be_masked_is_refused_whole(bench):
    bench.agent(query("fetch all in c"))
    bench.server(
        row_description([("id", 23, 1), ("geometry", 90001, 1)])
        + row(b"\0\0\0\1", PAN)
        + complete("FETCH 1")
        + ready("T")
    )
    seen = bench.seen()
    assert kinds(seen) == "EZ"
    assert b"geometry" in seen
    assert b"90001" in seen
    assert PAN not in seen
    assert bench.finished[0].outcome.error == "0A000"
    # and the next one works again
    bench.agent(query("select 1"))
    bench.server(row_description([("a", 25, 0)]) + row(b"1") + complete("SELECT 1") + ready())
    assert kinds(bench.seen()) == "TDCZ"


@pytest.mark.parametrize(
    "answer",
    [
        row(b"x") + complete("SELECT 1") + ready(),  # a row that nothing described
        row_description([("a", 25, 0)]) + row(b"x", b"y"),
        row_description([("a", 25, 0)]) + message(b"D", b"\0\1\0\0\0\7x"),
        row_description([("a", 25, 0)]) + message(b"D", b"\0\1\xff\xff\xff\xfe"),
        row_description([("a", 25, 0)]) + message(b"D", b"\0\1\0\0\0\1xy"),
        row_description([("a", 25, 3)]),
        message(b"T", b"\0\1name"),
        message(b"T", b"\xff\xff"),
        message(b"W", b"\0\0\0"),
        message(b"V", b"\0\0\0\0"),
        message(b"R", b"\0\0\0\0"),
        message(b"K", b"12345678"),
        message(b"1"),
        message(b"2"),
        message(b"n"),
        message(b"t", b"\0\0"),
        message(b"s"),
        b"Z\0\0\0\3",
        b"D\x7f\xff\xff\xff",
        ready() + ready(),
        ready() + complete("SELECT"),
        ready() + error("XX000", "unasked"),
    ],
)
def test_a_backend_that_breaks_the_protocol_ends_the_session(bench, answer):
    bench.agent(query("select 1"))
    with pytest.raises(ProtocolError) as wrong:
        bench.server(answer)
    assert wrong.value.side == "backend"
    assert b"x" not in bench.seen().replace(b"syntax", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"!\0\0\0\4",
        b"Q\0\0\0\3",
        message(b"Q", b"no end"),
        message(b"Q", b"two\0ends\0"),
        message(b"p", b"again\0"),
        message(b"P", b"\0select\0\0\1"),
        message(b"B", b"\0"),
        message(b"D", b"X\0"),
        message(b"C", b""),
        message(b"E", b"\0\0\0"),
        message(b"F", b"\0"),
    ],
)
def test_an_agent_that_breaks_the_protocol_ends_the_session(bench, data):
    with pytest.raises(ProtocolError) as wrong:
        bench.agent(data)
    assert wrong.value.side == "frontend"
    assert bench.sent() == b""


def test_messages_that_are_too_long_are_refused_before_they_are_read(bench):
    with pytest.raises(LimitReached, match="max_message_bytes"):
        bench.agent(b"Q\x7f\xff\xff\xff")


def test_terminate(bench):
    # the connection may have another owner: whoever closes it says farewell
    bench.agent(TERMINATE)
    assert bench.sent() == b""
    assert bench.closed
    assert bench.codec.reusable
    assert bench.codec.farewell == TERMINATE


@pytest.mark.parametrize("unanswered", [query("select 1"), parse("", "select 1")])
def test_terminate_before_all_is_answered(bench, unanswered):
    bench.agent(unanswered + TERMINATE)
    assert bench.sent() == unanswered + TERMINATE
    assert not bench.codec.at_rest


# --- extended queries ------------------------------------------------------------------------------


def test_a_described_portal_gets_no_describe_of_ours(bench):
    conversation = (
        parse("", "select pan from cards where id = $1")
        + bind(values=[b"5"])
        + describe("P")
        + execute()
        + SYNC
    )
    bench.agent(conversation)
    assert bench.sent() == conversation
    assert [(s.kind, s.parameters) for s in bench.statements] == [("parse", ()), ("bind", ("5",))]
    assert bench.statements[1].text == "select pan from cards where id = $1"
    bench.server(
        PARSED
        + BOUND
        + row_description([("pan", 25, 1)])
        + row(PAN)
        + complete("SELECT 1")
        + ready()
    )
    seen = bench.seen()
    assert kinds(seen) == "12TDCZ"
    assert MASKED in seen
    assert [f.number for f in bench.finished] == [1, 2]


def test_an_undescribed_portal_is_described_by_us(bench):
    bench.agent(parse("s", "select n from t"), describe("S", "s"), SYNC)
    bench.server(PARSED + message(b"t", b"\0\0") + row_description([("n", 20, 0)]) + ready())
    assert kinds(bench.seen()) == "1tTZ"
    bench.sent()
    bench.agent(bind("", "s", results=[1]) + execute() + SYNC)
    assert kinds(bench.sent()) == "BDES"
    number = struct.pack("!q", int(PAN))
    bench.server(
        BOUND + row_description([("n", 20, 1)]) + row(number) + complete("SELECT 1") + ready()
    )
    seen = bench.seen()
    assert kinds(seen) == "2DCZ"
    assert number not in seen


def test_a_plan_is_never_older_than_its_portal(bench):
    """An agent describes a statement of integers, then makes the name mean text in SQL."""
    bench.agent(
        parse("s", "select 1::int4"), bind("c", "s"), describe("P", "c"), execute("c"), SYNC
    )
    bench.server(
        PARSED
        + BOUND
        + row_description([("n", 23, 0)])
        + row(b"1")
        + complete("SELECT 1")
        + ready("T")
    )
    bench.seen()
    bench.agent(query("close c; declare c cursor for select pan from cards"))
    bench.server(complete("CLOSE CURSOR") + complete("DECLARE CURSOR") + ready("T"))
    bench.seen()
    bench.sent()
    bench.agent(execute("c"), SYNC)
    assert kinds(bench.sent()) == "DES"
    bench.server(row_description([("pan", 25, 0)]) + row(PAN) + complete("FETCH 1") + ready("T"))
    assert kinds(bench.seen().replace(PAN, b"")) if PAN in bench.to_frontend else True
    assert PAN not in bench.to_frontend


def test_sql_prepare_takes_the_trust_from_names(bench):
    bench.agent(parse("s", "select 1"), SYNC).server(PARSED + ready())
    bench.agent(query("deallocate s; prepare s as delete from cards"))
    bench.server(complete("DEALLOCATE") + complete("PREPARE") + ready())
    bench.sent()
    bench.seen()
    bench.verdict = Verdict("deny", "as the gate does for a refusal")
    bench.agent(bind("", "s"), execute(), SYNC)
    assert bench.statements[-1].refusal
    assert bench.statements[-1].kind == "bind"
    assert bench.sent() == parse("", POISON) + SYNC


def test_a_denied_parse_fails_in_its_place_in_the_pipeline(bench):
    bench.agent(parse("", "select 1"), bind(), describe("P"), execute())
    bench.sent()
    bench.verdict = DENY
    bench.agent(parse("", "drop table t"))
    bench.verdict = Verdict("allow")
    bench.agent(bind(), describe("P"), execute(), SYNC)
    assert bench.sent() == parse("", POISON) + SYNC
    bench.server(
        PARSED
        + BOUND
        + row_description([("a", 23, 0)])
        + row(b"1")
        + complete("SELECT 1")
        + error("42601", "syntax error")
        + ready()
    )
    seen = bench.seen()
    assert kinds(seen) == "12TDCEZ"
    assert b"not allowed by the role" in seen
    assert b"syntax" not in seen
    by_number = {f.number: f.outcome.error for f in bench.finished}
    assert by_number == {1: "", 2: "", 3: "42501"}
    assert len(bench.statements) == 3


def test_an_error_skips_to_sync_and_two_pipelines_stay_apart(bench):
    one = parse("", "select bad") + bind() + describe("P") + execute() + SYNC
    two = parse("", "select 2") + bind() + describe("P") + execute() + SYNC
    bench.agent(one + two)
    bench.server(error("42703", "no such column") + ready())
    bench.server(
        PARSED
        + BOUND
        + row_description([("a", 23, 0)])
        + row(b"2")
        + complete("SELECT 1")
        + ready()
    )
    assert kinds(bench.seen()) == "EZ12TDCZ"
    assert {f.number: f.outcome.error for f in bench.finished} == {
        1: "42703",
        2: "skipped",
        3: "",
        4: "",
    }


def test_a_name_is_not_guessed_while_its_parse_may_still_fail(bench):
    bench.agent(parse("s", "select one"), SYNC).server(PARSED + ready())
    # Parse of an existing name fails; the Bind behind the Sync means the old statement
    bench.agent(parse("s", "select two") + SYNC + bind("", "s") + execute() + SYNC)
    assert [s.text for s in bench.statements] == ["select one", "select two"]
    bench.server(error("42P05", "already exists") + ready())
    assert bench.statements[-1].kind == "bind"
    assert bench.statements[-1].text == "select one"


def test_cursors_of_sql_are_commands_of_their_own(bench):
    bench.agent(execute("c", 10), SYNC)
    assert bench.statements[-1].kind == "execute"
    assert "c" in bench.statements[-1].text
    assert kinds(bench.sent()) == "DES"


def test_partial_fetch(bench):
    bench.agent(
        parse("", "select pan from cards"), bind("p"), describe("P", "p"), execute("p", 1), FLUSH
    )
    bench.sent()
    bench.server(PARSED + BOUND + row_description([("pan", 25, 0)]) + row(PAN) + message(b"s"))
    bench.agent(execute("p", 1), close("P", "p"), SYNC)
    assert kinds(bench.sent()) == "DECS"
    bench.server(
        row_description([("pan", 25, 0)]) + row(PAN) + complete("SELECT 1") + CLOSED + ready()
    )
    seen = bench.seen()
    assert kinds(seen) == "12TDsDC3Z"
    assert PAN not in seen
    assert bench.finished[-1].outcome.rows == 2


def test_statements_without_rows(bench):
    bench.agent(parse("", "update t set a = 1"), bind(), describe("P"), execute(), SYNC)
    bench.server(PARSED + BOUND + NO_DATA + complete("UPDATE 1") + ready())
    assert kinds(bench.seen()) == "12nCZ"
    bench.agent(parse("", ""), bind(), execute(), SYNC)
    bench.server(PARSED + BOUND + NO_DATA + message(b"I") + ready())
    assert kinds(bench.seen()) == "12IZ"


def test_a_refused_result_in_a_pipeline(bench):
    bench.agent(parse("", "select g"), bind(results=[1]), execute(), SYNC)
    bench.server(
        PARSED
        + BOUND
        + row_description([("g", 90001, 1)])
        + row(PAN)
        + complete("SELECT 1")
        + ready()
    )
    seen = bench.seen()
    assert kinds(seen) == "12EZ"
    assert PAN not in seen


def test_function_calls_are_refused(bench):
    bench.verdict = Verdict("deny", "as the gate does")
    bench.agent(message(b"F", struct.pack("!Ihhh", 1598, 0, 0, 0)))
    assert bench.statements[-1].refusal
    assert bench.sent() == query(POISON)


def test_a_pipeline_that_is_ahead_of_its_answers_waits():
    """What is past `max_pending` stays with the codec, which says that it is full; answers let it go on."""
    bench = Bench(codec("none", max_pending=4)).log_in()
    bench.agent(SYNC * 6)
    assert bench.sent() == SYNC * 4
    assert bench.codec.full
    bench.server(ready())
    assert bench.sent() == SYNC
    assert bench.codec.full
    bench.server(ready())
    assert bench.sent() == SYNC
    assert not bench.codec.full
    bench.server(ready() * 4)
    assert bench.seen() == ready() * 6


def test_a_bind_that_waits_for_an_answer_says_so():
    bench = Bench().log_in().agent(parse("s", "select 1"), SYNC)
    bench.agent(bind("", "s"), execute(), SYNC)
    assert bench.codec.full, "whether `s` exists is on its way"
    bench.server(PARSED + ready())
    assert not bench.codec.full
    assert [s.kind for s in bench.statements] == ["parse", "bind"]


def test_a_full_pipeline_that_the_server_skips_goes_on_to_its_sync():
    """After an error in an extended sequence no answer comes before Sync: nothing could be waited for."""
    bench = Bench(codec("none", max_pending=4)).log_in()
    bench.agent(parse("", "selct"), FLUSH, *[parse("", "select 1")] * 9)
    assert bench.codec.full
    bench.sent()
    bench.server(error("42601", "syntax"))
    assert not bench.codec.full
    assert bench.sent() == b""
    assert len(bench.statements) == 4
    bench.agent(parse("", "select 1"), SYNC, query("select 2"))
    assert bench.sent() == SYNC
    bench.server(ready())
    assert bench.sent() == query("select 2")
    assert kinds(bench.seen()) == "EZ"


def test_a_portal_whose_name_is_given_again_before_it_is_closed(bench):
    """Close and Bind of one name in a pipeline: what ends is the statement that was closed."""
    bench.agent(parse("s", "select 1"), bind("p", "s"), execute("p", 1), FLUSH)
    bench.server(PARSED + BOUND + row_description([("a", 23, 0)]) + row(b"1") + message(b"s"))
    bench.agent(close("P", "p"), bind("p", "s"), execute("p"), SYNC).server(CLOSED)
    assert [f.number for f in bench.finished] == [1, 2]
    bench.server(
        BOUND + row_description([("a", 23, 0)]) + row(b"1") + complete("SELECT 1") + ready()
    )
    assert [(f.number, f.outcome.rows) for f in bench.finished] == [(1, 0), (2, 1), (3, 1)]


def test_terminate_waits_for_what_came_before_it(bench):
    bench.agent(query("select 1"), TERMINATE)
    assert not bench.closed
    bench.server(row_description([("a", 23, 0)]) + row(b"1") + complete("SELECT 1") + ready())
    assert kinds(bench.seen()) == "TDCZ"
    assert bench.closed


def lines_for(count: int) -> int:
    """Lines of Python that a pipeline of `count` Binds takes."""
    bench = Bench(codec("none", max_pending=100_000)).log_in()
    bench.agent(parse("s", "select 1")).server(PARSED)
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        bench.agent((bind("", "s") + execute()) * count)
    finally:
        sys.settrace(before)
    assert len(bench.statements) == count + 1
    return lines


def test_names_of_a_long_pipeline_are_found_at_once():
    """No look for each Bind through all that is outstanding: four times as many are four times the work."""
    assert lines_for(400) < 5 * lines_for(100)


def test_bounds_on_names():
    bench = Bench(codec("none", max_statements=2)).log_in()
    for name in "ab":
        bench.agent(parse(name, "select 1"), SYNC).server(PARSED + ready())
    with pytest.raises(LimitReached, match="prepared"):
        bench.agent(parse("c", "select 1"))


# --- COPY from the agent -----------------------------------------------------------------------------


COPY_IN = message(b"G", b"\0\0\1\0\0")
COPIES = parse("", "copy cards from stdin") + bind() + execute()


def test_a_sync_within_a_copy_is_not_answered(bench):
    # pg8000 sends one ahead, and the server ignores it
    bench.agent(COPIES + SYNC)
    bench.server(PARSED + BOUND + NO_DATA + COPY_IN)
    bench.agent(copy_data(b"1\n") + SYNC + message(b"c") + SYNC + query("select 1"))
    bench.server(complete("COPY 1") + ready())
    bench.server(row_description([("a", 25, 0)]) + row(PAN) + complete("SELECT 1") + ready())
    assert kinds(bench.seen()) == "12GCZTDCZ"
    assert [done.outcome.error for done in bench.finished] == ["", "", ""]


def test_a_copy_that_was_sent_ahead_ends_where_it_ends(bench):
    bench.agent(COPIES + copy_data(b"1\n") + SYNC + message(b"c") + SYNC + query("select 1"))
    bench.server(PARSED + BOUND + NO_DATA + COPY_IN + complete("COPY 1") + ready())
    bench.server(row_description([("a", 25, 0)]) + row(PAN) + complete("SELECT 1") + ready())
    assert kinds(bench.seen()) == "12GCZTDCZ"


def test_a_copy_that_fails_takes_the_next_sync(bench):
    bench.agent(COPIES + copy_data(b"1\n") + message(b"c") + SYNC)
    bench.server(PARSED + BOUND + NO_DATA + error("42501", "no") + ready())
    assert kinds(bench.seen()) == "12EZ"
    bench.agent(COPIES + SYNC)
    bench.server(PARSED + BOUND + NO_DATA + COPY_IN + error("22P02", "no"))
    bench.agent(copy_data(b"1\n") + message(b"c") + SYNC)
    bench.server(ready())
    assert kinds(bench.seen()) == "12GEZ"
    bench.agent(query("select 1"))
    bench.server(complete("SELECT 1") + ready())
    assert kinds(bench.seen()) == "CZ"


def test_copy_from_the_agent_passes(bench):
    bench.agent(query("copy cards from stdin"))
    bench.server(message(b"G", b"\0\0\1\0\0"))
    bench.sent()
    data = copy_data(b"1\n") + message(b"c")
    bench.agent(data)
    assert bench.sent() == data
    bench.server(complete("COPY 1") + ready())
    assert kinds(bench.seen()) == "GCZ"
