"""The order: who is admitted, what is recorded and when, and that nothing goes on when it cannot be."""

import asyncio
import contextlib
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pangate import config, policy, sql
from pangate._again import Answered, Known
from pangate._book import Decided
from pangate.audit import open_recorder
from pangate.audit.recorded import Reading, digest_of
from pangate.audit.recording import open_recordings
from pangate.auth import open_authenticator
from pangate.errors import AuthenticationFailed, LimitReached, NotAuthorised, RecordFailed
from pangate.gate import UNKNOWN, Gate
from pangate.issuer import LocalIssuer
from pangate.model import Outcome, Statement, Verdict
from pangate.protocols import Authenticate, Described

TOML = """
[listen]
allow_plaintext_loopback = true
[[issuers]]
url = "{issuer}"
audience = "pangate"
algorithms = ["ES256"]
allow_http_loopback = true
[[resources]]
name = "payments"
host = "127.0.0.1"
database = "db"
user = "svc"
password = {{ env = "PANGATE_TEST_PASSWORD" }}
tls = "disable"
[[roles]]
name = "reader"
match = {{ team = "payments" }}
resources = ["payments"]
limits = {{ max_sessions = 2, max_rows = 10, max_bytes = 1000 }}
[audit]
path = "audit.jsonl"
"""


@pytest.fixture(scope="module")
def issuer():
    with LocalIssuer() as running:
        yield running


@pytest.fixture
async def gate(tmp_path: Path, issuer, monkeypatch):
    monkeypatch.setenv("PANGATE_TEST_PASSWORD", "x")
    path = tmp_path / "pangate.toml"
    path.write_text(TOML.format(issuer=issuer.url))
    settings = config.load(path)
    recorder = open_recorder(settings)
    authenticator = open_authenticator(settings)
    recordings = open_recordings(settings)
    yield Gate(settings, authenticator, recorder, recordings)
    await authenticator.close()
    recordings.close()
    with contextlib.suppress(RecordFailed):  # one test takes its file away
        recorder.close()


def events(gate: Gate) -> list[dict]:
    return [json.loads(line) for line in gate.config.audit.path.read_text().splitlines()]


def ask(token: str, resource: str = "payments") -> Authenticate:
    return Authenticate(token, resource, {"application_name": "psql"})


async def test_a_session_from_admission_to_end(gate, issuer):
    session = gate.session("127.0.0.1:5555")
    admission = await session.admit(ask(issuer.mint("job", team="payments")))
    assert admission.grant.role == "reader"
    assert admission.resource.user == "svc"
    text = "select '4111111111111111' from charges"
    meaning = sql.understand(text)
    verdict = session.decide(Statement("query", text, ("378282246310005",), meaning=meaning))
    assert verdict.action == "allow"
    # admitted and decided, and not yet written: whoever forwards calls `written` first
    assert events(gate)[-1]["code"] == "log.start"
    session.written()
    assert events(gate)[-2]["code"] == "session.start"
    recorded = events(gate)[-1]
    assert recorded["code"] == "statement.allowed"
    assert recorded["data"]["text"] == "select '************1111' from charges"
    assert recorded["data"]["effects"] == ["read"]
    assert recorded["data"]["relations"] == ["charges"]
    assert recorded["data"]["parameters"] == ["***********0005"]
    session.finished(1, Outcome(rows=3, bytes=40, masked={"visa": 2}))
    session.end("the agent ended the session", success=True)
    session.end("again", success=True)
    session.written()
    last = events(gate)
    assert [e["code"] for e in last[-2:]] == ["statement.finished", "session.end"]
    assert last[-1]["data"]["masked"] == {"visa": 2}
    assert last[-1]["data"]["rows"] == 3
    assert [e["sequence"] for e in last] == list(range(1, len(last) + 1))
    fields = {"code", "principal", "time", "success", "origin", "resource"}
    assert all(fields <= set(e) and e["principal"] for e in last)
    assert not gate.open


async def test_a_request_that_came_before_is_recorded_as_the_first_was(gate, issuer):
    session = gate.session("127.0.0.1:5555")
    await session.admit(ask(issuer.mint("job", team="payments")))
    text = "select pan from cards where id = $1"
    statement = Statement("bind", text, name="s", meaning=sql.understand(text))
    known = Known("B", (statement,), b"s", b"", None, (), b"", b"", True, None, (), 0)
    values = ("4111111111111111", None)
    session.decide(replace(statement, parameters=values))
    session.finished(1, Outcome(rows=1, bytes=9, masked={"visa": 1}))
    given = known.given(values, None)
    assert session.again(given)
    assert session.running
    session.answered(given, Answered(b"", 2, 1, 9, {"visa": 1}, {}, 30, 0, None))
    assert not session.running
    assert session.again(given)
    session.answered(given, Answered(b"", 3, 1, 9, {}, {"pan": 1}, 30, 0, None))
    session.end("done", success=True)
    session.written()
    first, ended, second, second_ended, _, third, end = (
        event
        | dict.fromkeys(("sequence", "time", "statement", "whole"))
        | {"data": event["data"] | {"number": 0, "seconds": 0}}
        for event in events(gate)[-7:]
    )
    assert first == second
    assert ended == second_ended
    assert first["data"]["parameters"] == ["************1111", None]
    assert third["data"]["columns"] == {"pan": 1}
    assert (end["data"]["rows"], end["data"]["masked"]) == (3, {"visa": 2})
    assert gate.metrics.statements == {("bind", "allow"): 3}


async def test_what_came_before_on_another_connection_is_recorded_as_there(gate, issuer):
    text = "select pan from cards where id = 77"
    statement = Statement("query", text, meaning=sql.understand(text))
    known = Known("Q", (statement,), None, None, None, (), b"", b"", True, None, (), 0)
    told = []
    for first in (True, False):
        session = gate.session("127.0.0.1:5555")
        await session.admit(ask(issuer.mint("job", team="payments")))
        other = known.for_another()
        if first:
            session.decide(replace(statement, text=text.replace("77", "4111111111111111")))
        else:
            assert session.again(other.given((), text.replace("77", "4111111111111111")))
        session.finished(1, Outcome(rows=1, bytes=9))
        if not first:  # by its form, from now on
            assert session.again(other.given((), text))
            assert type(other.decided) is Decided
        session.written()
        told.append([e for e in events(gate) if e["session"] == session.id])
    same = ("code", "data", "origin", "principal", "resource", "role", "success")
    for one, other in zip(told[0][1:], told[1][1:], strict=False):
        assert all(
            one[name] == other[name]
            if name != "data"
            else {**one[name], "seconds": 0} == {**other[name], "seconds": 0}
            for name in same
            if name in one or name in other
        )
    assert told[1][1]["data"]["text"].endswith("************1111")
    assert [e["data"]["number"] for e in told[1][1:]] == [1, 1, 2]


async def test_what_another_connection_may_is_not_what_this_one_may(gate, issuer):
    text = "delete from cards where id = 1"
    statement = Statement("query", text, meaning=sql.understand(text))
    known = Known("Q", (statement,), None, None, None, (), b"", b"", True, None, (), 0)
    session = gate.session("127.0.0.1:5555")
    await session.admit(ask(issuer.mint("job", team="payments")))
    assert not session.again(known.for_another())
    assert not session.running
    session.written()
    assert events(gate)[-1]["code"] == "session.start"


async def test_logins_with_the_same_token_have_one_judge_until_the_configuration_changes(
    gate, issuer
):
    token = issuer.mint("job", team="payments")

    async def judge_of(origin: str, token: str = token):
        session = gate.session(origin)
        await session.admit(ask(token))
        session.end("done", success=True)
        return session._judge

    first = await judge_of("127.0.0.1:5555")
    assert await judge_of("127.0.0.1:6666") is first
    assert await judge_of("127.0.0.2:5555") is not first  # rules may name addresses
    other = issuer.mint("another", team="payments")
    assert await judge_of("127.0.0.1:5555", other) is not first
    gate.reconfigure(gate.config, gate.authenticator)
    assert await judge_of("127.0.0.1:5555") is not first


async def test_a_token_that_is_known_is_let_in_at_once_and_recorded_the_same(gate, issuer):
    asks = ask(issuer.mint("job", team="payments"))
    told = []
    for known in (False, True):
        session = gate.session("127.0.0.1:5555")
        admission = session.admit_known(asks)
        assert (admission is not None) == known
        if not known:
            assert session._ended is False
            assert not gate.open
            await session.admit(asks)
        assert gate.open.total() == 1
        session.written()
        told.append(events(gate)[-1] | dict.fromkeys(("sequence", "session", "time", "whole")))
        session.end("done", success=True)
    assert told[0] == told[1]
    assert told[0]["code"] == "session.start"
    assert not gate.open


async def test_whoever_has_to_be_asked_is_not_let_in_at_once(gate, issuer):
    asks = ask(issuer.mint("job", team="payments"))
    most = 2  # sessions of the role
    sessions = [gate.session("127.0.0.1:5555") for _ in range(most + 1)]
    await sessions[0].admit(asks)
    effects = Statement("startup", "startup parameters", meaning=sql.startup({"options": "-f"}))
    before = len(events(gate))
    assert sessions[1].admit_known(replace(asks, settings=effects)) is None
    assert sessions[1].admit_known(replace(asks, resource="nowhere")) is None
    assert sessions[1].admit_known(ask(issuer.mint("job", team="payments"))) is None
    gate.peers = object()
    assert sessions[1].admit_known(asks) is None
    gate.peers = None
    assert sessions[1].admit_known(asks) is not None
    assert sessions[2].admit_known(asks) is None
    with pytest.raises(LimitReached):
        await sessions[2].admit(asks)
    assert gate.open.total() == most
    codes = [e["code"] for e in events(gate)[before:]]
    assert codes == ["session.start", "session.start", "limit.reached"]
    gate.reconfigure(gate.config, open_authenticator(gate.config))
    sessions[1].end("done", success=True)
    assert gate.session("127.0.0.1:5555").admit_known(asks) is None


async def test_a_token_that_has_expired_since_is_not_known(gate, issuer, monkeypatch):
    asks = ask(issuer.mint("job", team="payments"))
    session = gate.session("127.0.0.1:5555")
    expires = (await session.admit(asks)).principal.expires_at
    monkeypatch.setattr("pangate.auth.oidc.time.time", lambda: expires)
    assert gate.session("127.0.0.1:5555").admit_known(asks) is None


async def test_who_may_nothing_is_asked_for_each_time_and_not_remembered(gate, issuer):
    token = issuer.mint("job", team="other")
    for number in range(3):
        session = gate.session("127.0.0.1:5555")
        with pytest.raises(NotAuthorised):
            await session.admit(ask(token, f"nowhere{number}"))
    assert not gate.standings._grants
    assert not gate.standings._judges


async def test_what_is_not_simply_allowed_is_decided_each_time(gate, issuer):
    session = gate.session("127.0.0.1:5555")
    await session.admit(ask(issuer.mint("job", team="payments")))
    text = "delete from cards where id = 1"
    statement = Statement("query", text, meaning=sql.understand(text))
    known = Known("Q", (statement,), None, None, None, (), b"", b"", True, None, (), 0)
    assert not session.again(known)
    assert not session.running


async def test_refusals_are_recorded_with_their_real_reason(gate, issuer):
    for token, resource, wrong, code in (
        ("nonsense", "payments", AuthenticationFailed, "auth.failed"),
        (issuer.mint("job", team="other"), "payments", NotAuthorised, "authorisation.denied"),
        (issuer.mint("job", team="payments"), "nowhere", NotAuthorised, "authorisation.denied"),
    ):
        session = gate.session("127.0.0.1:5555")
        with pytest.raises(wrong):
            await session.admit(ask(token, resource))
        session.end("closed", success=False)
        last = events(gate)[-1]
        assert (last["code"], last["success"], last["resource"]) == (code, False, resource)
        assert last["data"]["detail"]
        assert token not in json.dumps(last)
    assert events(gate)[2]["principal"] != UNKNOWN
    assert events(gate)[1]["principal"] == UNKNOWN


async def test_unknown_and_ungranted_read_the_same(gate, issuer):
    said = set()
    for team, resource in (("other", "payments"), ("payments", "nowhere")):
        with pytest.raises(NotAuthorised) as refused:
            await gate.session("o:1").admit(ask(issuer.mint("j", team=team), resource))
        said.add(refused.value.reason)
    assert len(said) == 1


async def test_limits_of_the_role(gate, issuer):
    token = issuer.mint("job", team="payments")
    sessions = [gate.session("127.0.0.1:1") for _ in range(3)]
    await sessions[0].admit(ask(token))
    await sessions[1].admit(ask(token))
    with pytest.raises(LimitReached, match="max_sessions"):
        await sessions[2].admit(ask(token))
    sessions[0].end("done", success=True)
    await gate.session("127.0.0.1:1").admit(ask(token))
    sessions[1].received(10, 1000)
    with pytest.raises(LimitReached, match="max_rows"):
        sessions[1].received(11, 0)
    with pytest.raises(LimitReached, match="max_bytes"):
        sessions[1].received(0, 1001)


async def test_what_the_codec_cannot_pass_is_denied_and_recorded(gate, issuer):
    session = gate.session("127.0.0.1:1")
    await session.admit(ask(issuer.mint("job", team="payments")))
    verdict = session.decide(Statement("call", "function call", refusal="cannot be masked"))
    assert (verdict.action, verdict.reason) == ("deny", "cannot be masked")
    session.finished(1, Outcome(error="42501"))
    session.written()
    assert events(gate)[-1]["code"] == "statement.denied"


async def test_what_the_role_does_not_grant_is_denied_and_recorded_with_its_effects(gate, issuer):
    session = gate.session("127.0.0.1:1")
    await session.admit(ask(issuer.mint("job", team="payments")))
    text = "delete from payments.charges; select audit()"
    verdict = session.decide(Statement("query", text, meaning=sql.understand(text)))
    assert verdict.action == "deny"
    assert "'write' (DELETE)" in verdict.reason
    session.written()
    data = events(gate)[-1]["data"]
    assert data["effects"] == ["read", "write", "bulk_write"]
    assert data["relations"] == ["payments.charges"]
    assert data["functions"] == ["audit"]
    assert (data["rule"], data["reason"]) == ("role:reader", verdict.reason)


async def test_startup_parameters_need_a_verdict_too(gate, issuer):
    for parameters, allowed in (
        ({"application_name": "x", "search_path": "public"}, True),
        ({"options": "-c statement_timeout=5s"}, True),
        ({"options": "-c role=postgres"}, False),
        ({"standard_conforming_strings": "off"}, False),
    ):
        settings = Statement("startup", "startup parameters", meaning=sql.startup(parameters))
        session = gate.session("127.0.0.1:1")
        token = issuer.mint("job", team="payments")
        asked = Authenticate(token, "payments", parameters, settings=settings)
        if allowed:
            await session.admit(asked)
        else:
            with pytest.raises(NotAuthorised):
                await session.admit(asked)
            assert events(gate)[-1]["code"] == "authorisation.denied"
        session.end("done", success=True)


async def test_a_record_that_cannot_be_written_stops_everything(gate, issuer):
    session = gate.session("127.0.0.1:1")
    await session.admit(ask(issuer.mint("job", team="payments")))
    gate.config.audit.path.unlink()  # somebody removes the file under us
    session.decide(Statement("query", "select 1"))
    with pytest.raises(RecordFailed) as refused:
        session.written()
    assert str(gate.config.audit.path) not in refused.value.reason


async def test_statements_need_an_admission(gate):
    with pytest.raises(RuntimeError):
        gate.session("o:1").decide(Statement("query", "select 1"))


# --- another configuration under open sessions -----------------------------------------------------


def reconfigure(gate: Gate, issuer, change: str = "", to: str = "") -> None:
    path = gate.config.path
    text = TOML.format(issuer=issuer.url)
    assert change in text
    path.write_text(text.replace(change, to) if change else text)
    settings = config.load(path)
    gate.reconfigure(settings, open_authenticator(settings, gate.authenticator))


ROLE = 'resources = ["payments"]'
WIDE = 'mask = "first6_last4"\njustification = "disputes"\n' + ROLE
ANOTHER = """[[roles]]
name = "another"
match = { sub = "job" }
resources = ["payments"]
[[roles]]"""
OTHER_RESOURCE = """[[resources]]
name = "elsewhere"
host = "127.0.0.1"
database = "db"
user = "svc"
password = { env = "PANGATE_TEST_PASSWORD" }
tls = "disable"
[[roles]]
name = "reader"
match = { team = "payments" }
resources = ["elsewhere"]
[[roles]]
name = "rest"""


@pytest.mark.parametrize(
    ("change", "to", "expected"),
    [
        ("", "", "role:reader"),
        (ROLE, WIDE, "role:reader"),
        ('team = "payments"', 'team = "treasury"', "role.missing"),
        ('team = "payments"', "sub = ['job', 'x']", "role:reader"),
        ('name = "reader"', 'name = "writer"', "role.missing"),
        ('tls = "disable"', 'tls = "disable"\ncolumns = { note = "wipe" }', "role.missing"),
        ('tls = "disable"', 'tls = "disable"\nsensitive_columns = false', "role.missing"),
        ('database = "db"', 'database = "other"', "role:reader"),
        # a login would give it another role, or this one on another resource
        ("[[roles]]", ANOTHER, "role.missing"),
        ('[[roles]]\nname = "reader', OTHER_RESOURCE, "role.missing"),
    ],
)
async def test_open_sessions_are_decided_by_the_configuration_of_now(
    gate, issuer, change, to, expected
):
    session = gate.session("127.0.0.1:1")
    await session.admit(ask(issuer.mint("job", team="payments")))
    reconfigure(gate, issuer, change, to)
    assert session.decide(Statement("query", "select 1")).rule == expected
    reconfigure(gate, issuer)
    assert session.decide(Statement("query", "select 1")).rule == "role:reader"
    session.end("over", success=True)
    assert not gate.open, "what was counted is given back, whatever the roles are now"


async def test_limits_are_those_of_the_configuration_of_now(gate, issuer):
    session = gate.session("127.0.0.1:1")
    await session.admit(ask(issuer.mint("job", team="payments")))
    session.received(10, 0)
    reconfigure(gate, issuer, "max_rows = 10", "max_rows = 12")
    session.received(11, 0)
    reconfigure(gate, issuer, "max_rows = 10", "max_rows = 3")
    with pytest.raises(LimitReached, match="3 rows"):
        session.received(11, 0)
    assert gate.metrics.given.rows == 11


async def test_a_session_never_shows_more_than_a_login_would(gate, issuer):
    """Its codec masks as it did at the login."""
    reconfigure(gate, issuer, ROLE, WIDE)
    wide = gate.session("127.0.0.1:1")
    await wide.admit(ask(issuer.mint("job", team="payments")))
    reconfigure(gate, issuer)
    narrow = gate.session("127.0.0.1:1")
    await narrow.admit(ask(issuer.mint("job", team="payments")))
    query = Statement("query", "select 1")
    assert wide.decide(query).rule == "role.missing"
    assert narrow.decide(query).rule == "role:reader"
    for change, rule in ((("", ""), "role.missing"), ((ROLE, WIDE), "role:reader")):
        reconfigure(gate, issuer, *change)
        assert wide.decide(query).rule == rule
        assert narrow.decide(query).rule == "role:reader"
    reconfigure(gate, issuer)
    assert narrow.decide(query).rule == "role:reader"


async def test_an_issuer_that_is_believed_no_more(gate, issuer):
    session = gate.session("127.0.0.1:1")
    await session.admit(ask(issuer.mint("job", team="payments")))
    reconfigure(gate, issuer, issuer.url, "https://other.example")
    assert session.decide(Statement("query", "select 1")).rule == "role.missing"


async def test_a_login_that_is_under_way_is_of_the_configuration_of_now(gate, issuer):
    """What the old one vouched for does not slip in under the new one."""
    old = gate.authenticator

    class Slow:
        async def authenticate(self, credential: str, origin: str):
            principal = await old.authenticate(credential, origin)
            gate.authenticator = old
            reconfigure(gate, issuer, 'audience = "pangate"', 'audience = "elsewhere"')
            return principal

    gate.authenticator = Slow()
    session = gate.session("127.0.0.1:1")
    with pytest.raises(AuthenticationFailed):
        await session.admit(ask(issuer.mint("job", team="payments")))
    assert "audience" in events(gate)[-1]["data"]["detail"]


async def test_a_record_that_fails_and_heals_is_known(gate, monkeypatch):
    def full(leaves: object) -> None:
        raise RecordFailed("no room")

    gate.event("config.reloaded", True, {"config": "x"})
    with monkeypatch.context() as patched:
        patched.setattr(gate.recorder._sink, "append", full)
        with pytest.raises(RecordFailed):
            gate.written()
    assert (gate.record_failure, gate.metrics.record_failures) == ("no room", 1)
    assert gate.recorder.waiting_seconds > 0
    gate.written()
    assert gate.record_failure == ""
    last = events(gate)[-1]
    assert (last["code"], last["principal"], last["session"]) == ("config.reloaded", "gateway", "-")
    gate.written()
    assert gate.recorder.waiting_seconds == 0
    last = events(gate)[-1]
    assert (last["code"], last["data"]["detail"]) == ("audit.recovered", "no room")


async def test_a_disk_that_fails_is_known_when_nobody_asks(gate, monkeypatch):
    sync = os.fdatasync

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def until(failing: bool) -> None:
        async with asyncio.timeout(10):
            while bool(gate.record_failure) != failing:
                await asyncio.sleep(0.01)
                gate.look()

    monkeypatch.setattr(os, "fdatasync", broken)
    gate.event("config.reloaded", True, {"config": "x"})
    gate.written()
    await until(True)
    with pytest.raises(RecordFailed):
        await gate.durable()
    monkeypatch.setattr(os, "fdatasync", sync)
    await until(False)
    await gate.durable()
    assert events(gate)[-1]["code"] == "audit.recovered"


@pytest.mark.parametrize(
    ("text", "urgent"),
    [
        ("select 1", False),
        ("insert into t values (1)", False),
        ("delete from t where a = 1", False),
        ("delete from t", True),
        ("drop table t", True),
        ("grant select on t to x", True),
        ("do $$begin end$$", True),
        ("copy t to '/tmp/x'", True),
        ("alter system set a = 1", True),
        (None, True),
    ],
)
async def test_what_a_statement_does_says_whether_it_waits_for_the_disk(
    gate, issuer, monkeypatch, text, urgent
):
    monkeypatch.setattr(policy.Judge, "decide", lambda *_: Verdict("allow", "", "x"))
    session = gate.session("127.0.0.1:1")
    await session.admit(ask(issuer.mint("job", team="payments")))
    before = session.urgent
    meaning = sql.understand(text) if text else None
    session.decide(Statement("parse", text or "?", meaning=meaning, runs=False))
    assert session.urgent == before, "it does not run yet"
    session.decide(Statement("query", text or "?", meaning=meaning))
    assert (session.urgent > before) == urgent
    if urgent:
        assert session.urgent == gate.recorder.sequence
        session.written()
        await gate.durable()
        assert session.on_disk(session.urgent)


RULES = """
[[approvers]]
name = "dba"
match = {{ groups = "dba" }}
[[rules]]
name = "no-notes"
verdict = "deny"
tables = ["notes"]
reason = "notes are private"
[[rules]]
name = "cards"
verdict = "hold"
tables = ["cards"]
hold = {{ approvers = ["dba"] }}
[[rules]]
name = "local"
verdict = "deny"
source = ["127.0.0.0/8"]
shadow = true
"""


class Alone:
    """A connection whose statement waits, where nobody can be asked anything."""

    in_transaction = False

    def exact(self):
        return b""

    def here(self):
        return True

    def begun(self, ticket):
        raise AssertionError(ticket)

    async def estimate(self):
        return None


async def test_rules_decide_and_are_named_in_the_record(gate, issuer):
    path = gate.config.path
    path.write_text((TOML + RULES).format(issuer=issuer.url))
    gate.reconfigure(config.load(path), gate.authenticator)
    session = gate.session("127.0.0.1:5555")
    await session.admit(ask(issuer.mint("job", team="payments")))

    def decide(text):
        return session.decide(Statement("query", text, meaning=sql.understand(text)))

    assert decide("select 1").action == "allow"
    denied = decide("select * from notes")
    assert (denied.action, denied.rule) == ("deny", "rule:no-notes")
    assert denied.reason.endswith("notes are private")
    held = decide("select * from cards")
    assert (held.action, held.rule) == ("hold", "rule:cards")
    statement = Statement("query", "select * from cards", meaning=sql.understand("select 1"))
    last = await session.hold(statement, held, Alone())
    assert last.action == "deny"
    assert "nowhere to keep them" in last.reason
    # Rules change under an open session.
    path.write_text(TOML.format(issuer=issuer.url))
    gate.reconfigure(config.load(path), gate.authenticator)
    assert decide("select * from notes").action == "allow"
    session.written()
    found = [event for event in events(gate) if event["code"].startswith("statement.")]
    assert [event["data"]["rule"] for event in found] == [
        "role:reader",
        "rule:no-notes",
        "rule:cards",
        "role:reader",
    ]
    assert found[0]["data"]["shadow"] == [{"rule": "local", "verdict": "deny"}]
    assert "shadow" not in found[1]["data"]
    assert "shadow" not in found[3]["data"]


# --- what is recorded of answers --------------------------------------------------------------------


async def test_what_is_sent_is_recorded_and_ends_with_its_digest(gate, issuer):
    session = gate.session("127.0.0.1:5555")
    await session.admit(ask(issuer.mint("job", team="payments")))
    session.begin_recording({"client_encoding": "UTF8", "x": "4111111111111111"}, lambda: None)
    session.decide(Statement("query", "select 1", meaning=sql.understand("select 1")))
    session.described(Described(1, 0, b"columns"))
    session.finished(1, Outcome(rows=1), 3)
    session.sent([b"one", bytearray(b"two")])
    assert not session.held
    assert session.flush_recording(), "somebody has to come back for the digest"
    session.end("over", success=True)
    session.written()
    codes = [event["code"] for event in events(gate)]
    assert codes[-2:] == ["session.recording", "session.end"]
    data = events(gate)[-2]["data"]
    file = gate.config.audit.ledger / data["file"]
    assert (data["digest"], data["bytes"]) == digest_of(file)
    frames = list(Reading(file))
    assert [frame.kind for frame in frames] == [b"h", b"q", b"d", b"f", b"s", b"e"]
    assert frames[4].payload == b"onetwo"
    assert b"************1111" in frames[0].payload
    assert b"reader" in frames[0].payload
    assert not session.flush_recording()


async def test_nothing_goes_on_when_answers_cannot_be_recorded(gate, issuer):
    session = gate.session("127.0.0.1:5555")
    await session.admit(ask(issuer.mint("job", team="payments")))
    session.begin_recording({}, lambda: None)
    session.written()
    session._recording.failure = "the disk is full"
    with pytest.raises(RecordFailed, match="cannot be recorded") as wrong:
        session.written()
    assert wrong.value.detail == "the disk is full"
    session.end("failed", success=False)
    gate.written()
    recorded = events(gate)[-2]
    assert (recorded["code"], recorded["success"]) == ("session.recording", False)
    assert recorded["data"]["failure"] == "the disk is full"


async def test_a_session_of_which_nothing_can_be_recorded_does_not_begin(gate, issuer):
    (gate.config.audit.ledger / "sessions").write_text("in the way")
    session = gate.session("127.0.0.1:5555")
    await session.admit(ask(issuer.mint("job", team="payments")))
    with pytest.raises(RecordFailed):
        session.begin_recording({}, lambda: None)
