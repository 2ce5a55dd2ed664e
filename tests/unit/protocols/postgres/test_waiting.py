"""A statement that waits, as the codec has it: what is kept behind it, what is known of it, what may be
said meanwhile."""

import json
import struct

import pytest

from pangate import sql
from pangate.errors import LimitReached
from pangate.masking import default_scanner
from pangate.model import Verdict
from pangate.protocols import Execute, ToBackend, ToFrontend
from pangate.protocols.postgres import PostgresCodec, messages
from pangate.protocols.postgres.catalog import open_catalog
from pangate.protocols.postgres.estimate import RowEstimate, can_be_explained
from pangate.protocols.postgres.messages import message
from pgwire import PARSED, SYNC, TERMINATE, bind, complete, execute, parse, query, ready, row, split

ALLOW, CANCEL = Verdict("allow"), Verdict("deny", "cancelled", code="approval.cancelled")


@pytest.fixture
def codec() -> PostgresCodec:
    made = PostgresCodec(default_scanner(), tls="none", max_message=4096)
    made.frontend(messages.startup({"user": "payments"}))
    made.frontend(message(b"p", b"token\0"))
    made.ready({}, b"\0" * 8, "last4", open_catalog({}))
    return made


def sent(actions) -> bytes:
    return b"".join(bytes(a.data) for a in actions if isinstance(a, ToBackend))


def told(actions) -> bytes:
    return b"".join(bytes(a.data) for a in actions if isinstance(a, ToFrontend))


def test_what_comes_behind_it_goes_on_in_order(codec):
    first = codec.frontend(query("drop table a") + query("select 1") + query("select 2"))
    (asked,) = first
    assert isinstance(asked, Execute)
    assert codec.frontend(query("select 3")) == []
    actions = codec.resume(ALLOW)
    assert sent(actions) == query("drop table a")
    assert isinstance(actions[-1], Execute)
    assert actions[-1].statement.text == "select 1"


def test_what_is_kept_behind_it_is_bounded(codec):
    codec.frontend(query("drop table a"))
    assert not codec.full
    with pytest.raises(LimitReached, match=r"limits\.max_message_bytes"):
        codec.frontend(b"H\0\0\0\4" * 1000)


def test_answers_to_what_was_before_go_on(codec):
    codec.frontend(query("select 1"))
    codec.resume(ALLOW)
    codec.frontend(query("drop table a"))
    answer = complete("SELECT 0") + ready("I")
    assert told(codec.backend(answer)) == answer
    assert sent(codec.resume(ALLOW)) == query("drop table a")


def test_a_notice_has_a_place_between_messages_only(codec):
    codec.frontend(query("drop table a"))
    kind, body = split(codec.notice("wait for 4111111111111111"))[0]
    fields = messages.error_fields(body)
    assert (kind, fields["C"], fields["M"]) == ("N", "00000", "wait for ************1111")


def test_a_terminate_behind_it_is_seen_however_it_is_split(codec):
    codec.frontend(query("drop table a"))
    behind = parse(b"", b"select 'X'") + SYNC + TERMINATE
    for at in range(len(behind)):
        assert not codec.leaving, at
        codec.frontend(behind[at : at + 1])
        if codec.leaving:
            break
    assert at >= len(behind) - 5
    codec.resume(ALLOW)
    assert not codec.leaving


@pytest.mark.parametrize("status", ["T", "E"])
def test_it_is_known_when_locks_are_held(codec, status):
    codec.frontend(query("begin"))
    codec.resume(ALLOW)
    codec.frontend(query("drop table a"))
    assert not codec.in_transaction
    codec.backend(complete("BEGIN") + ready(status))
    assert codec.in_transaction
    codec.resume(ALLOW)
    codec.frontend(query("drop table b"))
    codec.backend(complete("COMMIT") + ready("I"))
    assert not codec.in_transaction


def test_an_extended_sequence_that_ran_something_holds_locks(codec):
    def begin(text: bytes) -> None:
        codec.frontend(parse(b"", text))
        codec.resume(ALLOW)
        codec.frontend(bind(b"", b""))

    begin(b"select 1")
    assert not codec.in_transaction
    codec.resume(ALLOW)
    codec.frontend(execute(b""))
    begin(b"drop table a")
    assert codec.in_transaction


def test_a_cancel_is_the_servers_own_error(codec):
    codec.frontend(query("drop table a"))
    assert b"PANGATE REFUSED" in sent(codec.resume(CANCEL))
    poisoned = message(b"E", b"SERROR\0VERROR\0C42601\0Msyntax error\0\0")
    (kind, body), _ = split(told(codec.backend(poisoned + ready("I"))))
    assert kind == "E"
    assert messages.error_fields(body)["C"] == "57014"


def exact(
    codec: PostgresCodec, statement: bytes, portal: bytes, value: bytes, text: bytes
) -> bytes:
    codec.frontend(parse(statement, text))
    codec.resume(ALLOW)
    values = struct.pack("!HH", 0, 1) + struct.pack("!i", len(value)) + value + b"\0\0"
    codec.frontend(message(b"B", portal + b"\0" + statement + b"\0" + values))
    found = codec.exact()
    codec.resume(ALLOW)
    return found


def test_names_that_a_session_chooses_do_not_count(codec):
    text = b"delete from a where b = $1"
    first = exact(codec, b"s1", b"", b"1", text)
    assert exact(codec, b"s2", b"portal", b"1", text) == first
    assert exact(codec, b"s3", b"", b"2", text) != first
    assert exact(codec, b"s4", b"", b"1", text + b" ") != first


@pytest.mark.parametrize(
    ("text", "can"),
    [
        ("delete from a where b = 1", True),
        ("select count(*) from a", True),
        ("drop table a", False),
        ("delete from a; delete from b", False),
        ("select own_function(1)", False),
        ("explain delete from a", False),
        ("execute x", False),
        ("delete from", False),
    ],
)
def test_only_what_runs_nothing_is_explained(text, can):
    assert can_be_explained(sql.understand(text)) is can


def test_an_estimate_reads_the_plan():
    asking = RowEstimate("delete from a")
    kinds = [kind for kind, _ in split(asking.start())]
    assert kinds == ["Q", "P", "B", "E", "S", "Q"]
    plan = json.dumps(
        [{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 0,
                   "Plans": [{"Node Type": "Seq Scan", "Plan Rows": 50}]}}]
    )  # fmt: skip
    answer = ready("T") + PARSED + row(plan.encode()) + complete("EXPLAIN") + ready("T")
    for at in range(len(answer)):
        asking.feed(answer[at : at + 1])
    assert not asking.done
    asking.feed(complete("ROLLBACK") + ready("I"))
    assert (asking.done, asking.rows) == (True, 50)


def test_an_estimate_that_fails_is_none():
    asking = RowEstimate("delete from a")
    failed = message(b"E", b"SERROR\0C42P01\0Mno\0\0")
    asking.feed(ready("T") + failed + ready("E") + complete("ROLLBACK") + ready("I"))
    assert (asking.done, asking.rows) == (True, None)
