"""Who decides what, once; and that nothing takes effect that is not recorded."""

import asyncio
import contextlib
import json
import random
from dataclasses import asdict, replace

import pytest

from approvals_office import CI, PEOPLE, Office, agent, ask, office, person, rules
from pangate.approvals import DecisionRefused
from pangate.errors import LimitReached, RecordFailed, Refused, StateFailed

ADA, BOB, EVE = (person(name, "owners") for name in ("ada", "bob", "eve"))


@pytest.fixture
async def room(tmp_path):
    async with office(tmp_path / "state.db") as made:
        yield made


async def refused(work) -> str:
    with pytest.raises(DecisionRefused) as caught:
        await work
    return caught.value.kind


async def test_a_request_is_approved_and_runs_once(room: Office):
    ticket = await room.desk.request(ask())
    assert room.desk.waiting == 1
    found = await room.desk.decide(ticket.request.id, ADA, "approve", "planned", "10.0.0.2:6")
    assert (found.state, found.outcome) == ("approved", "approved by 1 of 1")
    await asyncio.wait_for(ticket.left, 5)
    assert await room.desk.consume(ticket)
    assert not await room.desk.consume(ticket)
    room.desk.executed(ticket, 7, "session")
    assert room.codes == ["approval.requested", "approval.decided", "approval.executed"]
    asked, decided, ran = room.events
    assert (asked.principal, asked.origin, asked.resource) == (
        f"{CI}#job",
        "10.0.0.1:5",
        "payments",
    )
    assert (decided.principal, decided.origin) == (f"{PEOPLE}#ada", "10.0.0.2:6")
    assert decided.data["reason"] == "planned"
    assert decided.data["requester"] == f"{CI}#job"
    assert ran.data["people"] == [f"{PEOPLE}#ada"]
    assert {event.data["request"] for event in room.events} == {ticket.request.id}
    assert room.desk.open == 0
    (shown, decisions, alike) = await room.desk.show(ticket.request.id)
    assert (shown.state, [one.person for one in decisions], alike) == (
        "executed", [f"{PEOPLE}#ada"], [],
    )  # fmt: skip


async def test_a_quorum_counts_people(room: Office):
    ticket = await room.desk.request(ask(quorum=2, approvers=("owners", "dba")))
    name = ticket.request.id
    both = person("ada", "owners", "dba")
    assert (await room.desk.decide(name, both, "approve")).state == "pending"
    assert await refused(room.desk.decide(name, both, "approve")) == "again"
    assert await refused(room.desk.decide(name, both, "deny")) == "again"
    assert not ticket.left.done()
    assert (await room.desk.decide(name, BOB, "approve")).outcome == "approved by 2 of 2"
    assert await refused(room.desk.decide(name, EVE, "approve")) == "settled"


async def test_two_of_three_are_enough_whoever_they_are(room: Office):
    for number in range(12):
        ticket = await room.desk.request(ask(f"drop table t{number}", quorum=2))
        order = [ADA, BOB, EVE]
        random.Random(number).shuffle(order)
        found = await asyncio.gather(
            *(room.desk.decide(ticket.request.id, one, "approve") for one in order),
            return_exceptions=True,
        )
        late = [one for one in found if isinstance(one, DecisionRefused)]
        assert [one.kind for one in late] == ["settled"]
        assert (ticket.request.state, ticket.approvals) == ("approved", 2)
        people = {one.person for one in ticket.decisions}
        assert len(people) == 2
        assert await room.desk.consume(ticket)
        room.desk.executed(ticket, 1, "session")
        assert set(room.events[-1].data["people"]) == people


async def test_the_third_of_three_may_still_say_no(room: Office):
    ticket = await room.desk.request(ask(quorum=3))
    for one in (ADA, BOB):
        assert (await room.desk.decide(ticket.request.id, one, "approve")).state == "pending"
    assert (await room.desk.decide(ticket.request.id, EVE, "deny")).state == "denied"
    assert not await room.desk.consume(ticket)


async def test_approval_and_expiry_race(tmp_path):
    """Whatever comes first: it is approved or expired, never both, and the record says which."""
    room = Office(tmp_path / "state.db", now=None)
    desk = await room.open()
    try:
        seen = set()
        for number in range(20):
            ticket = await desk.request(ask(f"drop table t{number}", expires_seconds=0.03))
            await asyncio.sleep(0.022 + 0.001 * (number % 10))
            with contextlib.suppress(DecisionRefused):
                await desk.decide(ticket.request.id, ADA, "approve")
            ran = await desk.consume(ticket)
            async with asyncio.timeout(5):
                while ticket.open:
                    await asyncio.sleep(0.005)
            (shown, decisions, _) = await desk.show(ticket.request.id)
            assert shown.state == ("executed" if ran else "expired")
            assert decisions or not ran
            ends = [
                event.code
                for event in room.events
                if event.data.get("request") == ticket.request.id
                and event.code in ("approval.decided", "approval.expired")
            ]
            assert ("approval.expired" in ends) is not ran
            seen.add(ran)
        assert seen
    finally:
        await desk.close()


async def test_one_no_is_enough(room: Office):
    ticket = await room.desk.request(ask(quorum=2))
    await room.desk.decide(ticket.request.id, ADA, "approve")
    found = await room.desk.decide(ticket.request.id, BOB, "deny", "not today 4111111111111111")
    assert found.state == "denied"
    assert found.outcome == f"denied by {PEOPLE}#bob: not today ************1111"
    assert not await room.desk.consume(ticket)


async def test_nobody_decides_their_own(room: Office):
    """Neither who asks, in whatever group, nor who owns it; administrators are not exempt."""
    itself = replace(agent(), claims={"groups": ["owners", "dba"]}, issuer=PEOPLE)
    first = await room.desk.request(ask(principal=itself, quorum=1))
    assert await refused(room.desk.decide(first.request.id, itself, "approve")) == "own"
    assert await refused(room.desk.decide(first.request.id, itself, "break_glass", "x")) == "own"
    owned = agent("robot", owner=["ada", "bob"])
    second = await room.desk.request(ask(principal=owned, approvers=("owners", "dba")))
    for subject in ("ada", "bob"):
        someone = person(subject, "owners", "dba", "admin")
        assert await refused(room.desk.decide(second.request.id, someone, "approve")) == "own"
        assert (
            await refused(room.desk.decide(second.request.id, someone, "break_glass", "x")) == "own"
        )
    assert room.codes[-1] == "approval.refused"
    assert room.events[-1].principal == f"{PEOPLE}#bob"
    assert not room.events[-1].success
    assert (await room.desk.decide(second.request.id, EVE, "approve")).state == "approved"


async def test_who_else_may_not(room: Office):
    ticket = await room.desk.request(ask(acr=("gold",), amr=("hwk", "pin"), reason_required=True))
    name = ticket.request.id
    strong = person("ada", "owners", acr="gold", amr=["pin", "hwk", "mfa"])
    decide = room.desk.decide
    assert await refused(decide("nothing", strong, "approve")) == "unknown"
    assert await refused(decide(name, person("ada", "others"), "approve", "x")) == "not entitled"
    other_issuer = person("ada", "owners", issuer=CI)
    assert await refused(decide(name, other_issuer, "approve", "x")) == "not entitled"
    assert (
        await refused(decide(name, replace(strong, expires_at=room.now), "approve", "x"))
        == "sign-in"
    )
    for claims in ({}, {"acr": "gold"}, {"acr": "gold", "amr": ["hwk"]}, {"amr": ["hwk", "pin"]}):
        weak = person("ada", "owners", **claims)
        assert await refused(decide(name, weak, "approve", "x")) == "sign-in"
    assert await refused(decide(name, strong, "approve", "  ")) == "reason"
    assert room.codes.count("approval.refused") == 8
    assert (await decide(name, strong, "approve", "x")).state == "approved"


async def test_breaking_the_glass_is_reviewed_by_somebody_else(room: Office):
    ticket = await room.desk.request(ask(quorum=2))
    name, breaker = ticket.request.id, person("zoe", "dba", "owners")
    assert await refused(room.desk.decide(name, ADA, "break_glass", "x")) == "not entitled"
    assert await refused(room.desk.decide(name, breaker, "break_glass")) == "reason"
    found = await room.desk.decide(name, breaker, "break_glass", "payments are down")
    assert found.state == "approved"
    assert room.codes[-1] == "approval.broken_glass"
    assert await room.desk.consume(ticket)
    (due,) = await room.desk.reviews()
    assert (due.request, due.person, due.reason) == (name, breaker.name, "payments are down")
    assert await refused(room.desk.review(name, breaker, "justified", "fine")) == "own"
    assert (
        await refused(room.desk.review(name, person("x", "dba"), "justified", "y"))
        == "not entitled"
    )
    assert await refused(room.desk.review(name, ADA, "justified", "")) == "reason"
    assert await refused(room.desk.review(name, ADA, "maybe", "x")) == "misused"
    await room.desk.review(name, ADA, "justified", "it was down")
    assert room.codes[-1] == "approval.reviewed"
    assert await room.desk.reviews() == []
    assert await refused(room.desk.review(name, BOB, "justified", "x")) == "unknown"


async def test_a_delegation_holds_in_its_window(room: Office):
    receiver = person("dora")
    ticket = await room.desk.request(ask(quorum=2))
    name, now = ticket.request.id, room.now
    give = room.desk.delegate
    assert await refused(give(receiver, ADA.name, "owners", now, now + 10, "x")) == "misused"
    assert await refused(give(ADA, "dora", "owners", now, now + 10, "x")) == "misused"
    assert await refused(give(ADA, receiver.name, "owners", now, now + 2000, "x")) == "misused"
    assert await refused(give(ADA, receiver.name, "owners", now, now, "x")) == "misused"
    assert await refused(give(ADA, receiver.name, "owners", now, now + 10, "")) == "misused"
    made = await give(ADA, receiver.name, "owners", now + 5, now + 10, "leave")
    assert room.codes[-1] == "approval.delegated"
    assert await refused(room.desk.decide(name, receiver, "approve")) == "not entitled"
    room.now = now + 6
    found = await room.desk.decide(name, receiver, "approve")
    assert found.state == "pending"
    assert room.events[-1].data["delegated_by"] == ADA.name
    # what ada's place was used for, ada has said
    assert await refused(room.desk.decide(name, ADA, "approve")) == "again"
    other = await room.desk.request(ask())
    await room.desk.revoke(made.id, ADA)
    assert await refused(room.desk.decide(other.request.id, receiver, "approve")) == "not entitled"
    assert await refused(room.desk.revoke(made.id, ADA)) == "unknown"


async def test_what_was_refused_of_delegations_is_recorded(room: Office):
    now = room.now
    give = room.desk.delegate(ADA, f"{PEOPLE}#dora", "dba", now, now + 10, "x")
    assert await refused(give) == "misused"
    assert (room.codes[-1], room.events[-1].data["choice"]) == ("approval.refused", "delegate")
    made = await room.desk.delegate(ADA, f"{PEOPLE}#dora", "owners", now, now + 10, "x")
    assert await refused(room.desk.revoke(made.id, BOB)) == "unknown"
    assert (room.codes[-1], room.events[-1].data["choice"]) == ("approval.refused", "revoke")
    assert await room.desk.delegations() == [made]


async def test_a_delegation_holds_until_its_end_is_recorded(room: Office, monkeypatch):
    made = await room.desk.delegate(ADA, f"{PEOPLE}#dora", "owners", room.now, room.now + 10, "x")
    room.full = True
    with pytest.raises(RecordFailed):
        await room.desk.revoke(made.id, ADA)
    assert await room.desk.delegations() == [made]
    room.full = False

    async def failing(*_):
        raise StateFailed("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(room.desk._store, "revoke_delegation", failing)
        with pytest.raises(StateFailed):
            await room.desk.revoke(made.id, ADA)
    assert room.codes[-2:] == ["approval.delegation_revoked", "approval.void"]
    assert await room.desk.delegations() == [made]
    await room.desk.revoke(made.id, ADA)
    assert await room.desk.delegations() == []
    with monkeypatch.context() as patched:
        patched.setattr(room.desk._store, "add_delegation", failing)
        with pytest.raises(StateFailed):
            await room.desk.delegate(ADA, f"{PEOPLE}#dora", "owners", room.now, room.now + 9, "x")
    assert room.codes[-2:] == ["approval.delegated", "approval.void"]


async def test_what_is_excluded_for_the_giver_is_for_the_receiver(room: Office):
    await room.desk.delegate(ADA, f"{PEOPLE}#dora", "owners", room.now, room.now + 10, "leave")
    ticket = await room.desk.request(ask(principal=agent(owner="ada")))
    assert (
        await refused(room.desk.decide(ticket.request.id, person("dora"), "approve"))
        == "not entitled"
    )


async def test_a_request_expires(room: Office):
    ticket = await room.desk.request(ask(expires_seconds=0.05))
    room.now += 0.05
    assert await refused(room.desk.decide(ticket.request.id, ADA, "approve")) == "settled"
    await asyncio.wait_for(ticket.left, 5)
    assert (ticket.request.state, ticket.request.outcome) == ("expired", "nobody decided in time")
    assert room.codes[-1] == "approval.expired"
    assert not room.events[-1].success


async def test_in_a_transaction_it_expires_sooner(room: Office):
    ticket = await room.desk.request(ask(in_transaction=True, transaction_seconds=5.0))
    assert ticket.request.expires == room.now + 5
    late = await room.desk.request(ask(estimate=12))
    await room.desk.note(late, in_transaction=True, seconds=6.0)
    assert (late.request.expires, late.request.in_transaction) == (room.now + 6, True)
    (shown, _, _) = await room.desk.show(late.request.id)
    assert (shown.expires, shown.estimate) == (room.now + 6, 12)


async def test_an_approval_that_is_not_used_expires(room: Office):
    ticket = await room.desk.request(ask(mode="refuse-and-retry", expires_seconds=0.05))
    await room.desk.decide(ticket.request.id, ADA, "approve")
    room.now += 1
    assert not await room.desk.consume(ticket)
    async with asyncio.timeout(5):
        while room.codes[-1] != "approval.expired":
            await asyncio.sleep(0.01)
    assert await room.desk.known(ask(mode="refuse-and-retry")) is None


async def test_a_retry_is_known_by_all_that_it_is_bound_to(room: Office):
    retry = {"mode": "refuse-and-retry"}
    text = "delete from a where b = $1"
    ticket = await room.desk.request(ask(text, exact=b"1", **retry))
    same = ask(text, exact=b"1", session="another", **retry)
    assert await room.desk.known(same) is ticket
    for other in (
        ask(text, exact=b"2", **retry),
        ask("delete from a where b =  $1", exact=b"1", **retry),
        ask(text, exact=b"1", principal=agent("other"), **retry),
        ask(text, exact=b"1", resource="ledger", **retry),
        ask(text, exact=b"1", role="other", **retry),
    ):
        assert await room.desk.known(other) is None
    await room.desk.decide(ticket.request.id, ADA, "approve")
    assert await room.desk.consume(ticket)
    assert await room.desk.known(same) is None


async def test_a_refusal_is_remembered_for_who_tries_again(room: Office):
    ticket = await room.desk.request(ask(mode="refuse-and-retry"))
    await room.desk.decide(ticket.request.id, ADA, "deny", "no")
    assert await room.desk.known(ask(mode="refuse-and-retry")) is ticket
    room.now += 4000
    room.desk._due(ticket)
    assert await room.desk.known(ask(mode="refuse-and-retry")) is None


async def test_limits_have_names(tmp_path):
    async with office(tmp_path / "s", rules(max_held=3, max_held_per_principal=2)) as room:
        first = await room.desk.request(ask())
        await room.desk.request(ask())
        with pytest.raises(LimitReached, match=r"limits\.max_held_per_principal"):
            await room.desk.request(ask())
        await room.desk.request(ask(principal=agent("other")))
        with pytest.raises(LimitReached, match=r"limits\.max_held\b"):
            await room.desk.request(ask(principal=agent("third")))
        assert await room.desk.withdraw(first, "gone")
        await room.desk.request(ask(principal=agent("third")))


async def test_who_asked_or_owns_it_withdraws(room: Office):
    ticket = await room.desk.request(ask(principal=agent(owner="ada")))
    name = ticket.request.id
    assert await refused(room.desk.withdraw_by(name, BOB, "", "-")) == "not entitled"
    found = await room.desk.withdraw_by(name, person("ada"), "wrong table", "-")
    assert found.outcome == f"withdrawn by {PEOPLE}#ada: wrong table"
    assert await refused(room.desk.withdraw_by(name, person("ada"), "", "-")) == "settled"
    assert ticket.left.done()


async def test_what_cannot_be_recorded_is_not_decided(room: Office):
    ticket = await room.desk.request(ask())
    room.full = True
    with pytest.raises(RecordFailed):
        await room.desk.decide(ticket.request.id, ADA, "approve")
    assert ticket.request.state == "pending"
    assert await room.desk._store.decisions(ticket.request.id) == []
    with pytest.raises(RecordFailed):
        await room.desk.request(ask())
    assert room.desk.open == 1
    room.full = False
    assert (await room.desk.decide(ticket.request.id, ADA, "approve")).state == "approved"


async def test_what_cannot_be_kept_is_not_decided(room: Office, monkeypatch):
    ticket = await room.desk.request(ask())

    async def fail(*_):
        raise StateFailed("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(room.desk._store, "decide", fail)
        with pytest.raises(StateFailed):
            await room.desk.decide(ticket.request.id, ADA, "approve")
    assert ticket.request.state == "pending"
    assert room.codes[-2:] == ["approval.decided", "approval.void"]
    assert not await room.desk.consume(ticket)


async def test_a_restart_expires_what_waited(tmp_path):
    before = Office(tmp_path / "state.db")
    await before.open()
    ticket = await before.desk.request(ask())
    approved = await before.desk.request(ask(mode="refuse-and-retry"))
    await before.desk.decide(approved.request.id, ADA, "approve")
    await before.desk._store.close()  # as a crash would leave it
    async with office(tmp_path / "state.db") as after:
        assert sorted(e.data["request"] for e in after.events) == sorted(
            [ticket.request.id, approved.request.id]
        )
        assert set(after.codes) == {"approval.expired"}
        found = await after.desk.requests(())
        assert {(one.state, one.outcome) for one in found} == {
            ("expired", "the gateway was restarted")
        }
        assert await refused(after.desk.decide(ticket.request.id, ADA, "approve")) == "settled"


async def test_shutting_ends_what_waits(room: Office):
    ticket = await room.desk.request(ask())
    await room.desk.shut("the gateway is shutting down")
    assert (ticket.request.state, ticket.request.outcome) == (
        "withdrawn", "the gateway is shutting down",
    )  # fmt: skip
    with pytest.raises(Refused, match="shutting down"):
        await room.desk.request(ask())


async def test_watchers_see_every_step(room: Office):
    seen = []

    async def watch():
        async for change in room.desk.watch():
            seen.append((change.code, change.request.state))

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    ticket = await room.desk.request(ask())
    await room.desk.decide(ticket.request.id, ADA, "deny")
    await asyncio.sleep(0)
    task.cancel()
    assert seen == [("approval.requested", "pending"), ("approval.decided", "denied")]


async def test_no_card_number_is_kept(tmp_path):
    pan = "4111111111111111"
    async with office(tmp_path / "state.db") as room:
        text = f"delete from cards where pan = '{pan}' and x = $1"
        ticket = await room.desk.request(
            ask(
                text,
                parameters=(pan,),
                principal=agent(f"job-{pan}", note=pan, number=int(pan)),
                mode="refuse-and-retry",
            )
        )
        who = person(pan, "owners", note=pan)
        await room.desk.decide(ticket.request.id, who, "deny", f"about {pan}")
        await room.desk.delegate(who, f"{PEOPLE}#x", "owners", room.now, room.now + 9, pan)
        shown, decisions, _ = await room.desk.show(ticket.request.id)
        said = json.dumps([asdict(shown), [asdict(one) for one in decisions]])
        assert pan not in said
        assert "************1111" in shown.statement
        assert shown.parameters == ["************1111"]
    for file in tmp_path.iterdir():
        assert pan.encode() not in file.read_bytes(), file


async def test_earlier_requests_of_a_shape_are_shown(room: Office):
    first = await room.desk.request(ask("delete from a where b = 1"))
    await room.desk.decide(first.request.id, ADA, "deny", "no")
    second = await room.desk.request(ask("delete from a where b = 2"))
    third = await room.desk.request(ask("delete from a where c = 2"))
    _, _, alike = await room.desk.show(second.request.id)
    assert [(one.id, one.state) for one in alike] == [(first.request.id, "denied")]
    assert (await room.desk.show(third.request.id))[2] == []
    assert second.request.words == [
        "DELETE on a.",
        "It concerns the rows that its condition picks.",
    ]


async def test_races_execute_once_at_the_most(tmp_path):
    """Two people approve, the time runs out and the agent goes away, all at once: 1,000 rounds."""
    chance = random.Random(20261125)
    settings = rules(max_held=10_000, max_held_per_principal=10_000)
    async with office(tmp_path / "state.db", settings) as room:
        ran: dict[str, int] = {}
        outcomes = set()

        async def session(ticket):
            await ticket.left
            if ticket.request.state == "approved" and await room.desk.consume(ticket):
                ran[ticket.request.id] = ran.get(ticket.request.id, 0) + 1
                room.desk.executed(ticket, 1, "session")

        async def person_decides(ticket, who, choice):
            await asyncio.sleep(chance.choice((0, 0, 0.0005, 0.001)))
            with contextlib.suppress(DecisionRefused):
                await room.desk.decide(ticket.request.id, who, choice, "because")

        async def other(ticket):
            await asyncio.sleep(chance.choice((0, 0, 0.0005, 0.001, 0.002)))
            match chance.randrange(3):
                case 0:
                    await room.desk.withdraw(ticket, "the agent went away")
                case 1:
                    await room.desk._expire(ticket)
                case _:
                    await asyncio.gather(session(ticket), room.desk.consume(ticket))

        async def one_round(number):
            made = ask(f"drop table t{number}", quorum=1 + number % 2, expires_seconds=60.0)
            ticket = await room.desk.request(made)
            choice = "deny" if number % 7 == 0 else "approve"
            work = [
                session(ticket),
                session(ticket),
                person_decides(ticket, ADA, "approve"),
                person_decides(ticket, ADA, "approve"),
                person_decides(ticket, BOB, choice),
                other(ticket),
            ]
            chance.shuffle(work)
            rest = asyncio.gather(*work)
            done, _ = await asyncio.wait({rest}, timeout=20)
            assert done, ticket.request
            await rest
            outcomes.add(ticket.request.state)
            assert not ticket.open

        for start in range(0, 1000, 20):
            await asyncio.gather(*(one_round(start + n) for n in range(20)))
        executed = [e.data["request"] for e in room.events if e.code == "approval.executed"]
        assert len(executed) == len(set(executed))
        assert set(ran.values()) == {1}
        assert {"executed", "denied", "withdrawn", "expired"} <= outcomes
        quorum = {
            e.data["request"]: e.data["quorum"]
            for e in room.events
            if e.code == "approval.requested"
        }
        for name in executed:  # and only what enough people had approved
            people = {
                e.principal
                for e in room.events
                if e.code == "approval.decided"
                and e.data["request"] == name
                and e.data["choice"] == "approve"
            }
            assert len(people) >= quorum[name]


async def test_what_is_over_for_long_is_forgotten(room: Office):
    ticket = await room.desk.request(ask())
    await room.desk.decide(ticket.request.id, ADA, "deny")
    room.now += 999
    await room.desk.sweep()
    assert [one.id for one in await room.desk.requests(())] == [ticket.request.id]
    room.now += 2
    await room.desk.sweep()
    assert await room.desk.requests(()) == []


async def test_who_uses_an_approval_up_and_is_gone(room, monkeypatch):
    """It is used up, does not run, and that is said."""
    desk = room.desk
    ticket = await desk.request(ask(mode="refuse-and-retry"))
    await desk.decide(ticket.request.id, ADA, "approve")
    real, reached, goes_on = desk._store.consume, asyncio.Event(), asyncio.Event()

    async def slow(*arguments):
        done = await real(*arguments)
        reached.set()
        await goes_on.wait()
        return done

    monkeypatch.setattr(desk._store, "consume", slow)
    using = asyncio.create_task(desk.consume(ticket))
    await reached.wait()
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    goes_on.set()
    while desk._tasks:
        await asyncio.gather(*desk._tasks)
    kept = await desk._store.get(ticket.request.id)
    assert (kept.state, kept.outcome) == ("withdrawn", "the agent went away")
    assert room.codes[-1] == "approval.withdrawn"
    assert (desk._tickets, desk._by_digest) == ({}, {})
