"""Webhooks: what is told arrives, signed, in order and once for whoever looks at its id, whatever happens
meanwhile; and a system that decides is believed no more than anybody."""

import asyncio
import base64
import json
import secrets
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook as Judge

from approvals_office import CI, PEOPLE, Office, agent, ask, person
from hookserver import OK, answer, receiver
from pangate.approvals import DecisionRefused, outbox
from pangate.approvals.channels import ChannelFailed, Message, NotBelieved
from pangate.approvals.channels.webhook import Webhook, keys_of, sign, verify
from pangate.config.base import SecretSettings
from pangate.config.channels import CallbackSettings, WebhookSettings
from pangate.credentials import read_secret

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()
BACK = "whsec_" + base64.b64encode(b"b" * 32).decode()
ADA = person("ada", "owners")
PAN = "4111111111111111"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(outbox, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(outbox, "LANE_SECONDS", 0.1)
    monkeypatch.setattr(outbox, "LAPSE_SECONDS", 0.05)


@pytest.fixture
def secret(tmp_path):
    def made(name: str, value: str) -> SecretSettings:
        path = tmp_path / name
        path.touch(0o600)
        path.write_text(value)
        return SecretSettings(file=path)

    return made


@pytest.fixture
def hook(secret):
    def made(url: str, **changes) -> Webhook:
        given = {
            "name": "hook", "url": url, "secret": secret("key", KEY), "networks": ("127.0.0.0/8",),
            "timeout_seconds": 20.0, **changes,
        }  # fmt: skip
        return Webhook(WebhookSettings(**given), read_secret, PEOPLE)

    return made


@pytest.fixture
async def room(tmp_path):
    made = Office(tmp_path / "state.db", now=None)
    yield made
    await made.desk.close()


def callback(secret, **changes) -> CallbackSettings:
    given = {"secret": secret("back", BACK), "subject": "board", "claims": {"groups": ["owners"]}}
    return CallbackSettings(**{**given, **changes})


def message(content, *, key: str = BACK, name: str = "", at: float | None = None) -> Message:
    """As a system would send it: signed by somebody else's library."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    name = name or "in_" + secrets.token_hex(8)
    when = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    return Message(
        {
            "webhook-id": name,
            "webhook-timestamp": str(int(when.timestamp())),
            "webhook-signature": Judge(key).sign(name, when, body.decode()),
        },
        body,
    )


def test_the_vector_of_the_specification():
    keys = keys_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    given = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    made = sign(keys, *given)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert verify(keys, *given, ["v1,x", "v2,y", made])
    assert not verify(keys, *given, ["", made[:-1], made.replace("v1", "v2"), "v1,é"])


def test_keys_that_are_none():
    assert len(keys_of(f"{KEY} {BACK.removeprefix('whsec_')}")) == 2
    for wrong in (
        "whsec_AA",
        "password",
        "whsec_" + base64.b64encode(b"short").decode(),
        KEY + "!",
    ):
        with pytest.raises(ChannelFailed, match="is not whsec_") as caught:
            keys_of(wrong)
        assert wrong not in str(caught.value)


async def test_every_step_is_told_in_order_and_anybody_can_check_it(room, hook):
    async with receiver() as there:
        desk = await room.open(channels=[hook(there.url())])
        ticket = await desk.request(ask(f"drop table a -- {PAN}", quorum=2, parameters=(PAN, None)))
        name = ticket.request.id
        await desk.decide(name, ADA, "approve", f"for {PAN}")
        await desk.decide(name, person("bob", "owners"), "approve")
        assert await desk.consume(ticket)
        desk.executed(ticket, 1, "session")
        got = await there.until(4)
        assert [one.json["type"] for one in got] == [
            "approval.requested", "approval.decided", "approval.decided", "approval.executed",
        ]  # fmt: skip
        for one in got:
            Judge(KEY).verify(one.body, one.headers)
            assert PAN.encode() not in one.body
            assert one.json["data"]["request"]["id"] == name
            assert one.headers["content-type"] == "application/json"
        states = [one.json["data"]["request"]["state"] for one in got]
        assert states == ["pending", "pending", "approved", "executed"]
        assert len({one.headers["webhook-id"] for one in got}) == 4
        asked = got[0].json["data"]["request"]
        assert asked["statement"] == "drop table a -- ************1111"
        assert asked["parameters"] == ["************1111", None]
        assert asked["words"] == ["DROP TABLE on a.", "It makes, changes or removes tables, views, "
                                  "types or functions (DROP TABLE)."]  # fmt: skip
        (first, second) = got[2].json["data"]["decisions"]
        assert (first["person"], first["reason"]) == (f"{PEOPLE}#ada", "for ************1111")
        assert second["choice"] == "approve"
    assert room.codes == ["approval.requested", "approval.decided", "approval.decided",
                          "approval.executed"]  # fmt: skip


async def test_the_end_of_a_request_is_told_and_what_did_not_run_is_not(room, hook):
    async with receiver() as there:
        desk = await room.open(channels=[hook(there.url())])
        late = await desk.request(ask(expires_seconds=0.2))
        gone = await desk.request(ask())
        glass = await desk.request(ask())
        await desk.withdraw(gone, "the agent went away")
        await desk.decide(glass.request.id, person("zoe", "dba"), "break_glass", "it is down")
        assert await desk.consume(glass)
        await desk.lapse(glass, "the agent went away")  # what was consumed did not run
        got = await there.until(8 - 1)
        await asyncio.sleep(0.2)
        assert len(got) == 7
        steps = {
            ticket.request.id: [
                one.json["type"].removeprefix("approval.")
                for one in got
                if one.json["data"]["request"]["id"] == ticket.request.id
            ]
            for ticket in (late, gone, glass)
        }
        assert list(steps.values()) == [
            ["requested", "expired"], ["requested", "withdrawn"],
            ["requested", "broken_glass", "withdrawn"],
        ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [None, answer(500), answer(404, b"no"), answer(301, b"", "location: /x\r\n"), b"garbage\r\n\r\n",
     answer(429, b"", "retry-after: 0\r\n")],
    ids=["hangs", "500", "404", "redirects", "garbage", "429"],
)  # fmt: skip
async def test_a_channel_that_is_down_blocks_nobody_and_approves_nothing(room, hook, wrong):
    down = True
    async with receiver(lambda got: wrong if down else OK) as bad, receiver() as good:
        desk = await room.open(
            channels=[
                hook(bad.url(), name="bad", timeout_seconds=1.0),
                hook(good.url(), name="good"),
            ]
        )
        denied, waits = await desk.request(ask()), await desk.request(ask())
        await desk.decide(denied.request.id, ADA, "deny", "no")
        assert denied.request.state == "denied"
        await good.until(3)
        async with asyncio.timeout(15):
            while desk.outbox.failed["bad"] < 4:
                await asyncio.sleep(0.01)
        assert (waits.request.state, desk.waiting) == ("pending", 1)
        # of each request its first step alone, again and again with the same id and body
        assert {got.json["type"] for got in bad.received} == {"approval.requested"}
        first = {got.headers["webhook-id"]: got.body for got in bad.received}
        assert len(first) == 2
        assert all(first[got.headers["webhook-id"]] == got.body for got in bad.received)
        down = False
        async with asyncio.timeout(15):
            while await desk._store.next_due("bad") is not None:
                await asyncio.sleep(0.01)
        mine = [
            got.json["type"]
            for got in bad.received
            if got.json["data"]["request"]["id"] == denied.request.id
        ]
        assert mine[-2:] == ["approval.requested", "approval.decided"]


async def test_nothing_is_lost_by_a_restart(tmp_path, room, hook):
    async with receiver() as there:
        url, port = there.url(), there.port
    desk = await room.open(channels=[hook(url)])  # nobody listens
    ticket = await desk.request(ask())
    while not desk.outbox.failed["hook"]:
        await asyncio.sleep(0.01)
    (kept, _), *_ = await desk._store.due("hook", time.time() + 1000, most=5)
    await desk.close()
    async with receiver(port=port) as there:
        await room.open(channels=[hook(url)])
        got = await there.until(2)
        assert [one.json["type"] for one in got] == ["approval.requested", "approval.withdrawn"]
        assert got[0].headers["webhook-id"] == kept.id
        assert got[0].body == kept.body
        assert got[1].json["data"]["request"]["id"] == ticket.request.id
        # and what was told is not told again
        await room.desk.close()
        await room.open(channels=[hook(url)])
        await asyncio.sleep(0.2)
        assert len(there.received) == 2


async def test_what_is_given_up_is_recorded(room, hook):
    async with receiver(lambda got: answer(500)) as there:
        desk = await room.open(channels=[hook(there.url(), give_up_seconds=0.2)])
        ticket = await desk.request(ask())
        async with asyncio.timeout(10):
            while "approval.untold" not in room.codes:
                await asyncio.sleep(0.01)
        (lost,) = [event for event in room.events if event.code == "approval.untold"]
        assert lost.data["request"] == ticket.request.id
        assert (lost.data["channel"], lost.data["step"]) == ("hook", "approval.requested")
        assert lost.data["reason"] == "it answers 500"
        assert await desk._store.next_due("hook") is None


async def test_what_is_dropped_is_recorded(room, hook, monkeypatch):
    """A channel that takes nothing keeps the newest; of each that goes there is an event first."""
    monkeypatch.setattr("pangate.approvals.outbox.MOST_KEPT", 3)
    async with receiver(lambda got: answer(500, b"")) as there:
        desk = await room.open(channels=[hook(there.url())])
        made = [await desk.request(ask(f"drop table t{number}")) for number in range(5)]
        async with asyncio.timeout(20):
            while room.codes.count("approval.untold") < 2:
                await asyncio.sleep(0.05)
        lost = [event.data for event in room.events if event.code == "approval.untold"]
        assert [one["request"] for one in lost] == [made[0].request.id, made[1].request.id]
        assert all("takes nothing" in one["reason"] and one["attempts"] >= 1 for one in lost)
        kept = await desk._store.beyond("hook", most=0, at_once=9)
        assert [one.request for one in kept] == [one.request.id for one in made[2:]]
        await desk.close()


async def test_what_a_channel_that_is_no_more_was_to_be_told_is_recorded(room, hook):
    async with receiver(lambda got: answer(500, b"")) as there:
        desk = await room.open(channels=[hook(there.url())])
        for number in range(2):
            await desk.request(ask(f"drop table t{number}"))
        room.full = True
        await desk.outbox.use([hook(there.url())])
        assert "approval.untold" not in room.codes
        room.full = False
        await desk.outbox.use([])
        (lost,) = [event.data for event in room.events if event.code == "approval.untold"]
        assert lost == {
            "channel": "hook", "messages": 2, "reason": "the channel is configured no more",
        }  # fmt: skip
        assert await desk._store.beyond("hook", most=0, at_once=9) == []
        await desk.close()


async def test_what_a_channel_does_not_want_is_not_sent_to_it(room, hook):
    async with receiver() as there:
        desk = await room.open(
            channels=[hook(there.url(), approvers=("dba",), events=("requested", "expired"))]
        )
        await desk.request(ask())
        wanted = await desk.request(ask(approvers=("dba",)))
        await desk.withdraw(wanted, "enough")
        await there.until(1)
        await asyncio.sleep(0.1)
        (got,) = there.received
        assert got.json["data"]["request"]["approvers"] == ["dba"]


async def test_a_long_statement_is_cut_and_a_key_can_be_changed(room, hook, secret):
    async with receiver() as there:
        channel = hook(there.url(), secret=secret("both", f"{BACK} {KEY}"))
        desk = await room.open(channels=[channel])
        # where it is cut, a part of the long number would be a card number
        text = "drop table a -- ".ljust(outbox.MOST_STATEMENT - 16, "x") + PAN + "0" * 40
        await desk.request(ask(text))
        (got,) = await there.until(1)
        for key in (KEY, BACK):
            Judge(key).verify(got.body, got.headers)
        shown = got.json["data"]["request"]
        assert shown["characters_left_out"] == 40
        assert PAN not in shown["statement"]


# --- in -------------------------------------------------------------------------------------------------


async def refused(work) -> str:
    with pytest.raises(DecisionRefused) as caught:
        await work
    return caught.value.kind


async def test_a_system_decides_as_whoever_it_is_configured_to_be(room, hook, secret):
    desk = await room.open(channels=[hook("https://x.example", callback=callback(secret))])
    ticket = await desk.request(ask(quorum=2, reason_required=True))
    said = {"request": ticket.request.id, "choice": "approve", "reason": f"change {PAN}"}
    assert await refused(desk.hear("hook", message({**said, "reason": ""}))) == "reason"
    found = await desk.hear("hook", message(said), "10.0.0.9:1")
    assert found.state == "pending"
    # two messages of one identity are one person
    assert await refused(desk.hear("hook", message(said))) == "again"
    board = person("board", "owners")
    assert await refused(desk.decide(ticket.request.id, board, "approve", "x")) == "again"
    assert (await desk.decide(ticket.request.id, ADA, "approve", "x")).state == "approved"
    decided = next(event for event in room.events if event.code == "approval.decided")
    assert (decided.principal, decided.origin) == (f"{PEOPLE}#board", "10.0.0.9:1")
    assert decided.data["channel"] == "hook"
    assert decided.data["reason"] == "change ************1111"
    _, decisions, _ = await desk.show(ticket.request.id)
    assert [one.channel for one in decisions] == ["hook", ""]


async def test_a_message_is_believed_once_in_its_time_and_from_whom_it_is(room, hook, secret):
    desk = await room.open(
        channels=[
            hook("https://x.example", callback=callback(secret)),
            hook("https://x.example", name="told"),
        ]
    )
    ticket = await desk.request(ask())
    said = {"request": ticket.request.id, "choice": "approve"}
    good = message(said, name="one")
    changed = Message(good.headers, good.body.replace(b"approve", b"deny"))
    other = Message({**good.headers, "webhook-id": "two"}, good.body)
    later = Message({**good.headers, "webhook-timestamp": str(int(time.time()) + 5)}, good.body)
    unsigned = {k: v for k, v in good.headers.items() if k != "webhook-signature"}
    for wrong in (
        changed, other, later, Message(unsigned, good.body), Message({}, good.body),
        message(said, key=KEY), message(said, at=time.time() - 310),
        message(said, at=time.time() + 310),
        Message({**good.headers, "webhook-timestamp": "soon"}, good.body),
        Message({**good.headers, "webhook-id": ""}, good.body),
    ):  # fmt: skip
        with pytest.raises(NotBelieved):
            await desk.hear("hook", wrong)
    assert await refused(desk.hear("told", good)) == "unknown"
    assert await refused(desk.hear("nothing", good)) == "unknown"
    assert ticket.request.state == "pending"
    assert (await desk.hear("hook", good)).state == "approved"
    assert await refused(desk.hear("hook", good)) == "again"
    # nor after a restart, as long as its time is not over
    await desk.close()
    desk = await room.open(channels=[hook("https://x.example", callback=callback(secret))])
    assert await refused(desk.hear("hook", good)) == "again"


async def test_what_is_believed_and_makes_no_sense(room, hook, secret):
    desk = await room.open(channels=[hook("https://x.example", callback=callback(secret))])
    ticket = await desk.request(ask())
    name = ticket.request.id
    for wrong in (
        b"", b"[]", b"{", {"request": name}, {"request": name, "choice": "break_glass"},
        {"request": name, "choice": ["approve"]}, {"request": 1, "choice": "approve"},
        {"request": name, "choice": "approve", "reason": 1},
        {"request": name, "choice": "approve", "reason": "x" * 10_001},
        b'{"request": "\\ud800", "choice": "approve"}', b"[" * 5000,
    ):  # fmt: skip
        assert await refused(desk.hear("hook", message(wrong))) == "misused"
    assert ticket.request.state == "pending"
    wrong = {"request": "nothing", "choice": "approve"}
    assert await refused(desk.hear("hook", message(wrong))) == "unknown"


async def test_four_eyes_hold_for_a_system_as_for_anybody(room, hook, secret):
    def channel(name: str, **changes) -> Webhook:
        return hook("https://x.example", name=name, callback=callback(secret, **changes))

    desk = await room.open(
        channels=[
            channel("owner", subject="olga"),
            channel("self", subject="job", issuer=CI, claims={"groups": ["owners"]}),
            channel("stranger", claims={"groups": ["others"]}),
            channel("elsewhere", issuer=CI),
            channel("board"),
        ]
    )
    ticket = await desk.request(ask(principal=agent(owner="olga")))
    said = {"request": ticket.request.id, "choice": "approve"}
    assert await refused(desk.hear("owner", message(said))) == "own"
    assert await refused(desk.hear("self", message(said))) == "own"
    # to whom it is nothing, it is not there
    assert await refused(desk.hear("stranger", message(said))) == "unknown"
    assert await refused(desk.hear("elsewhere", message(said))) == "unknown"
    strong = await desk.request(ask(acr=("gold",)))
    assert (
        await refused(desk.hear("board", message({**said, "request": strong.request.id})))
        == "sign-in"
    )
    assert (await desk.hear("board", message(said))).state == "approved"
    assert room.codes.count("approval.refused") == 5, "what does not concern somebody as well"
    refusal = next(event for event in room.events if event.code == "approval.refused")
    assert refusal.data["channel"] == "owner"
