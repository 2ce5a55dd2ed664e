"""State in SQLite: every step once, nothing lost by a crash, nobody else reads it."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pangate.errors import StateFailed
from pangate.store import Decision, Delegation, Notice, Request, Review, open_store
from pangate.store.sqlite import MIGRATIONS


def request(name: str = "aaaa", **changes: object) -> Request:
    made = Request(
        id=name,
        session="s",
        principal="https://ci#job",
        subject="job",
        claims={"team": "payments", "groups": ["a", "b"]},
        origin="127.0.0.1:1",
        role="writer",
        resource="payments",
        kind="query",
        statement="drop table payments",
        parameters=("1", None),
        effects=("schema",),
        approvers=("owners",),
        created=1000.0,
        expires=2000.0,
        shape="abc",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def decision(person: str, authority: str = "", time: float = 1500.0) -> Decision:
    return Decision(
        request="aaaa",
        person=person,
        authority=authority or person,
        choice="approve",
        reason="as planned",
        time=time,
    )


@pytest.fixture
async def store(tmp_path: Path):
    opened = await open_store(tmp_path / "state.db")
    yield opened
    await opened.close()


async def test_what_is_kept_comes_back(store):
    await store.add(request())
    found = await store.get("aaaa")
    assert found == replace(
        request(),
        parameters=["1", None],
        effects=["schema"],
        approvers=["owners"],
        relations=[],
        words=[],
        acr=[],
        amr=[],
    )
    assert await store.get("bbbb") is None
    await store.note("aaaa", in_transaction=True, expires=1800.0)
    found = await store.get("aaaa")
    assert (found.in_transaction, found.expires) == (True, 1800.0)


async def test_requests_are_found_by_state_and_by_shape(store):
    for number, name in enumerate(("a", "b", "c")):
        await store.add(request(name, created=1000.0 + number))
    await store.settle("b", ("pending",), "denied", "no", 1100.0)
    assert [one.id for one in await store.find(("pending",))] == ["c", "a"]
    assert [one.id for one in await store.find()] == ["c", "b", "a"]
    assert [one.id for one in await store.find(most=1)] == ["c"]
    assert [one.id for one in await store.alike("abc", most=2)] == ["c", "b"]
    assert await store.alike("other") == []


async def test_a_person_and_an_authority_decide_once(store):
    await store.add(request())
    assert await store.decide(decision("ada"), "pending", "")
    assert not await store.decide(decision("ada", "somebody"), "pending", "")
    assert not await store.decide(decision("bob", "ada"), "pending", "")
    assert (await store.get("aaaa")).state == "pending"
    assert await store.decide(decision("bob"), "approved", "2 of 2")
    assert not await store.decide(decision("eve"), "denied", "late")
    found = await store.get("aaaa")
    assert (found.state, found.outcome, found.settled) == ("approved", "2 of 2", None)
    assert [one.person for one in await store.decisions("aaaa")] == ["ada", "bob"]


async def test_nobody_decides_past_the_end(store):
    await store.add(request())
    assert not await store.decide(decision("ada", time=2000.0), "approved", "")
    assert await store.decisions("aaaa") == []


async def test_what_was_approved_is_consumed_once(store):
    await store.add(request())
    assert not await store.consume("aaaa", 1500.0)
    await store.decide(decision("ada"), "approved", "")
    assert not await store.consume("aaaa", 2000.0)
    taken = await asyncio.gather(*(store.consume("aaaa", 1600.0) for _ in range(20)))
    assert taken.count(True) == 1
    assert not await store.settle("aaaa", ("pending", "approved"), "withdrawn", "late", 1700.0)
    assert (await store.get("aaaa")).state == "executed"


async def test_delegations_and_their_end(store):
    made = Delegation(
        id="d", giver="ada", receiver="bob", group="owners", starts=10, ends=20, reason="leave"
    )
    await store.add_delegation(made)
    assert await store.delegations(5.0) == [made]
    assert await store.delegations(20.0) == []
    assert not await store.revoke_delegation("d", "bob", 12.0)
    assert await store.revoke_delegation("d", "ada", 12.0)
    assert not await store.revoke_delegation("d", "ada", 13.0)
    assert await store.delegations(5.0) == []


async def test_a_review_is_made_once(store):
    await store.add_review(Review(request="aaaa", person="ada", reason="outage", time=1.0))
    assert [one.request for one in await store.reviews()] == ["aaaa"]
    assert await store.review("aaaa", "justified", "bob", "it was", 2.0)
    assert not await store.review("aaaa", "not justified", "eve", "", 3.0)
    assert await store.reviews() == []
    (found,) = await store.reviews(due_only=False)
    assert (found.finding, found.reviewer, found.note, found.reviewed) == (
        "justified",
        "bob",
        "it was",
        2.0,
    )


async def test_what_is_old_is_forgotten_unless_a_review_is_due(store):
    for name in ("a", "b", "c"):
        await store.add(request(name))
    await store.settle("a", ("pending",), "denied", "", 1100.0)
    await store.settle("b", ("pending",), "executed", "", 1100.0)
    await store.add_review(Review(request="b", person="ada", reason="outage", time=1.0))
    assert await store.forget(1200.0) == 1
    assert {one.id for one in await store.find()} == {"b", "c"}
    await store.review("b", "justified", "bob", "", 2.0)
    assert await store.forget(1200.0) == 1


async def test_the_file_is_for_the_gateway_alone(tmp_path):
    path = tmp_path / "state.db"
    store = await open_store(path)
    await store.add(request())
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    with pytest.raises(StateFailed) as refused:
        await open_store(path)
    assert "another gateway" in refused.value.detail
    await store.close()
    await store.close()
    with pytest.raises(StateFailed):
        await store.get("aaaa")
    path.chmod(0o640)
    with pytest.raises(StateFailed) as refused:
        await open_store(path)
    assert "0640" in refused.value.detail


async def test_a_file_that_is_no_store_or_a_newer_one_is_refused(tmp_path):
    path = tmp_path / "state.db"
    path.touch(0o600)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StateFailed):
        await open_store(path)
    path.unlink()
    await (await open_store(path)).close()
    with sqlite3.connect(path) as db:
        assert db.execute("pragma user_version").fetchone() == (len(MIGRATIONS),)
        db.execute("pragma user_version = 1000")
    db.close()
    with pytest.raises(StateFailed) as refused:
        await open_store(path)
    assert "newer" in refused.value.detail
    with pytest.raises(StateFailed):
        await open_store(tmp_path / "nowhere" / "state.db")


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_sqlite import request
from pangate.store import open_store

async def main():
    store = await open_store(Path(sys.argv[1]))
    for number in range(1000):
        await store.add(request(f"r{number}"))
        print(number, flush=True)

asyncio.run(main())
"""


async def test_what_was_answered_survives_kill_9(tmp_path):
    path = tmp_path / "state.db"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in child.stdout:
        last = int(line)
        if last >= 20:
            os.kill(child.pid, signal.SIGKILL)
            break
    rest = [int(line) for line in child.stdout]
    child.wait()
    child.stdout.close()
    last = max([last, *rest])
    store = await open_store(path)
    found = {one.id for one in await store.find(most=2000)}
    await store.close()
    assert {f"r{number}" for number in range(last + 1)} <= found


def notice(number: int, request: str = "aaaa", channel: str = "hook", **changes: object) -> Notice:
    given = {
        "id": f"msg_{number}", "channel": channel, "request": request, "code": "approval.requested",
        "time": 1000.0 + number, "body": b"{}", "due": 1000.0 + number, **changes,
    }  # fmt: skip
    return Notice(**given)


async def due(store, now: float = 9e9, channel: str = "hook") -> list[str]:
    return [one.id for one, _ in await store.due(channel, now, most=10)]


async def test_what_is_to_be_told_is_kept_with_what_it_is_about(store):
    await store.add(request(), [notice(1), notice(2, channel="other")])
    assert not await store.consume(
        "aaaa", 1500.0, [notice(3)]
    )  # it is not approved: nothing is kept
    assert await store.decide(decision("ada"), "approved", "yes", [notice(4)])
    assert not await store.decide(decision("bob"), "approved", "yes", [notice(5)])
    assert await store.consume("aaaa", 1500.0, [notice(6, code="approval.executed")])
    # it did not run after all
    assert await store.settle("aaaa", ("executed",), "withdrawn", "gone", 1600.0, [notice(7)])
    assert not await store.settle("aaaa", ("executed",), "withdrawn", "gone", 1600.0, [notice(8)])
    await store.add(request("bbbb"), [notice(9, "bbbb")])
    seen = []
    # one of each request at a time, in order
    while found := await store.due("hook", 9e9, most=10):
        seen.append([one.id for one, _ in found])
        for one, _ in found:
            await store.told(one, "")
    assert seen == [["msg_1", "msg_9"], ["msg_4"], ["msg_7"]]
    assert await due(store, channel="other") == ["msg_2"]


async def test_what_failed_comes_again_and_nothing_of_its_request_before(store):
    await store.add(request(), [notice(1)])
    await store.note("aaaa", in_transaction=True, expires=1900.0, notices=[notice(2)])
    assert await due(store, 1000.5) == []
    assert await store.next_due("hook") == 1001.0
    await store.postpone("msg_1", 5000.0, "it answers 500")
    assert await due(store, 4999.0) == []
    assert await store.next_due("hook") == 5000.0
    ((found, place),) = await store.due("hook", 5000.0, most=10)
    assert (found.attempts, found.failure, found.body, place) == (1, "it answers 500", b"{}", "")
    await store.told(found, "there")
    ((found, place),) = await store.due("hook", 5000.0, most=10)
    assert (found.id, place) == ("msg_2", "there")
    await store.set_place("hook", "aaaa", "elsewhere")
    await store.set_place("hook", "gone", "nowhere")
    assert (await store.due("hook", 5000.0, most=10))[0][1] == "elsewhere"


async def test_what_is_told_is_bounded(store):
    for number in range(6):
        await store.add(request(f"r{number}"), [notice(number, f"r{number}")])
    assert await store.beyond("hook", most=6, at_once=9) == []
    assert await store.beyond("other", most=0, at_once=9) == []
    assert [one.id for one in await store.beyond("hook", most=3, at_once=2)] == ["msg_0", "msg_1"]
    found = await store.beyond("hook", most=4, at_once=9)
    assert found == [notice(0, "r0"), notice(1, "r1")]
    for one in found:
        await store.told(one, "")
    assert await due(store) == ["msg_2", "msg_3", "msg_4", "msg_5"]
    assert await store.kept_for_others(["hook"]) == {}
    assert await store.kept_for_others(["other"]) == {"hook": 4}
    assert await store.kept_for_others([]) == {"hook": 4}
    assert await store.keep_channels(["hook"]) == 0
    assert await store.keep_channels([]) == 4
    assert await store.next_due("hook") is None


async def test_a_message_is_seen_once(store):
    assert await store.first_seen("hook", "a", 1000.0, 1300.0)
    assert not await store.first_seen("hook", "a", 1300.0, 1600.0)
    assert await store.first_seen("other", "a", 1000.0, 1300.0)
    assert await store.first_seen("hook", "a", 1301.0, 1600.0)


async def test_a_file_of_the_first_version_is_taken_on(tmp_path):
    path = tmp_path / "state.db"
    path.touch(0o600)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(MIGRATIONS[0] + "; pragma user_version = 1")
    opened = await open_store(path)
    try:
        await opened.add(request(), [notice(1)])
        assert await due(opened) == ["msg_1"]
    finally:
        await opened.close()
