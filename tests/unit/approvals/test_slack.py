"""Slack: the message shows what an agent wrote and nothing that it made of it; a button is believed when
Slack signed it, and counts as what the person behind the user may decide."""

import asyncio
import json
import time
from urllib.parse import urlencode

import pytest

from approvals_office import PEOPLE, Office, agent, ask, person
from hookserver import OK, Received, answer, receiver
from pangate.approvals import DecisionRefused, outbox
from pangate.approvals.channels import Message, NotBelieved
from pangate.approvals.channels.slack import Slack, shown, sign
from pangate.config.base import SecretSettings
from pangate.config.channels import PersonSettings, SlackSettings
from pangate.credentials import read_secret

SIGNING = "8f742231b10e8888abcd99yyyzzz85a5"
PAN = "4111111111111111"
LOOPBACK = ("127.0.0.0/8",)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(outbox, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(outbox, "LANE_SECONDS", 0.1)
    monkeypatch.setattr(outbox, "LAPSE_SECONDS", 0.05)


def people(*names: str, **claims) -> tuple[PersonSettings, ...]:
    groups = {"groups": ["owners"], **claims}
    return tuple(PersonSettings(user=f"U{n.upper()}", subject=n, claims=groups) for n in names)


@pytest.fixture
def slack(tmp_path):
    def made(url: str, way: str = "token", **changes) -> Slack:
        def secret(name: str, value: str) -> SecretSettings:
            path = tmp_path / name
            path.touch(0o600)
            path.write_text(value)
            return SecretSettings(file=path)

        given = {
            "name": "ops", "networks": LOOPBACK, "api": f"{url}/api", "timeout_seconds": 20.0,
            "signing_secret": secret("signing", SIGNING), "people": people("ada", "olga"),
        }  # fmt: skip
        if way == "token":
            given |= {"token": secret("token", "xoxb-1"), "channel": "C1"}
        else:
            given |= {"webhook": secret("webhook", f"{url}/services/T/B/X")}
        return Slack(SlackSettings(**{**given, **changes}), read_secret, PEOPLE)

    return made


@pytest.fixture
async def room(tmp_path):
    made = Office(tmp_path / "state.db", now=None)
    yield made
    await made.desk.close()


def api(got: Received) -> bytes:
    """As Slack answers."""
    if not got.path.startswith("/api/"):
        return OK
    if got.headers.get("authorization") != "Bearer xoxb-1":
        return answer(200, b'{"ok": false, "error": "invalid_auth"}')
    made = {"ok": True, "channel": "C1", "ts": "1700000000.000100"}
    return answer(200, json.dumps(made).encode())


def press(request: str, choice: str = "approve", user: str = "UADA", **changes) -> Message:
    """What Slack sends when a button is pressed."""
    payload = {
        "type": "block_actions",
        "user": {"id": user, "team_id": "T1"},
        "team": {"id": "T1"},
        "channel": {"id": "C1"},
        "actions": [{"action_id": choice, "value": request, "type": "button"}],
        "state": {"values": {"reason": {"reason": {"value": f"it is due {PAN}"}}}},
        "response_url": changes.pop("response_url", "http://127.0.0.1:1/actions/x"),
        **changes,
    }
    return signed(urlencode({"payload": json.dumps(payload)}).encode())


def signed(body: bytes, at: float | None = None, secret: str = SIGNING) -> Message:
    stamp = str(int(time.time() if at is None else at))
    return Message(
        {"x-slack-request-timestamp": stamp, "x-slack-signature": sign(secret, stamp, body)}, body
    )


async def refused(work) -> str:
    with pytest.raises(DecisionRefused) as caught:
        await work
    return caught.value.kind


def test_the_signature_of_slacks_own_documentation():
    body = (
        "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
        "&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
        "&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        "%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    assert sign(SIGNING, "1531420618", body.encode()) == (
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    )


async def test_a_message_with_buttons_is_posted_and_changed(room, slack):
    async with receiver(api) as there:
        desk = await room.open(channels=[slack(there.url(""))])
        ticket = await desk.request(
            ask(f"drop table a -- <!channel> *{PAN}* ```", reason_required=True)
        )
        (posted,) = await there.until(1)
        assert posted.path == "/api/chat.postMessage"
        assert posted.json["channel"] == "C1"
        assert PAN.encode() not in posted.body
        blocks = {block["type"]: block for block in posted.json["blocks"]}
        (code,) = blocks["rich_text"]["elements"][0]["elements"]
        # the text of the agent is a text, not markup
        assert code == {"type": "text", "text": "drop table a -- <!channel> *************1111* ```"}
        buttons = blocks["actions"]["elements"]
        assert [(one["action_id"], one["value"]) for one in buttons] == [
            ("approve", ticket.request.id), ("deny", ticket.request.id),
        ]  # fmt: skip
        assert blocks["input"]["optional"] is False
        assert "<" not in posted.json["text"]
        assert await desk.hear("ops", press(ticket.request.id), "10.0.0.9:1") is None
        assert ticket.request.state == "approved"
        changed = (await there.until(2))[1]
        assert changed.path == "/api/chat.update"
        assert (changed.json["channel"], changed.json["ts"]) == ("C1", "1700000000.000100")
        types = [block["type"] for block in changed.json["blocks"]]
        assert "actions" not in types
        assert "input" not in types
        assert changed.json["text"] == "Approved: approved by 1 of 1"
        assert f"approve by {PEOPLE}#ada: it is due ************1111" in changed.body.decode()
    decided = next(event for event in room.events if event.code == "approval.decided")
    assert (decided.principal, decided.data["channel"]) == (f"{PEOPLE}#ada", "ops")
    assert decided.data["reason"] == "it is due ************1111"


async def test_by_an_incoming_webhook(room, slack):
    async with receiver(api) as there:
        desk = await room.open(channels=[slack(there.url(""), "webhook")])
        ticket = await desk.request(ask())
        (posted,) = await there.until(1)
        assert posted.path == "/services/T/B/X"
        elsewhere = press(ticket.request.id, "deny", response_url="http://127.0.0.1:1/steal")
        second = await desk.request(ask())
        await there.until(2)
        await desk.hear("ops", elsewhere)  # a place that is not Slack's is not posted to
        got = (await there.until(3))[2]
        assert (got.path, "replace_original" in got.json) == ("/services/T/B/X", False)
        pressed = press(second.request.id, "deny", response_url=there.url("/actions/1"))
        await desk.hear("ops", pressed)
        got = (await there.until(4))[3]
        assert (got.path, got.json["replace_original"]) == ("/actions/1", True)
        # and who may not is told so, alone
        await desk.hear("ops", press(second.request.id, response_url=there.url("/actions/2")))
        got = (await there.until(5))[4]
        assert got.path == "/actions/2"
        assert got.json["response_type"] == "ephemeral"
        assert got.json["text"] == (
            f"Nothing was decided: request {second.request.id} is denied already"
        )


async def test_nobody_unknown_decides_and_four_eyes_hold(room, slack):
    async with receiver(api) as there:
        desk = await room.open(channels=[slack(there.url(""), team="T1")])
        ticket = await desk.request(ask(principal=agent(owner="olga"), quorum=2))
        name = ticket.request.id
        await there.until(1)
        for pressed, why in (
            (press(name, user="UEVE"), "the user UEVE is nobody that ops knows"),
            (press(name, user="UOLGA"), "you own the agent that asks"),
        ):
            assert await desk.hear("ops", pressed, "10.0.0.9:1") is None
            got = (await there.until(len(there.received) + 1))[-1]
            assert got.path == "/api/chat.postEphemeral"
            assert got.json["user"] in ("UEVE", "UOLGA")
            assert why in got.json["text"]
        assert room.codes.count("approval.refused") == 2
        await desk.hear("ops", press(name))
        assert ticket.approvals == 1
        # the person behind the user counts once, whichever way they come
        assert await refused(desk.decide(name, person("ada", "owners"), "approve")) == "again"
        with pytest.raises(NotBelieved, match="workspace"):
            await desk.hear("ops", press(name, team={"id": "T2"}))
        assert ticket.request.state == "pending"


async def test_what_slack_did_not_sign_is_not_believed(room, slack):
    desk = await room.open(
        channels=[
            slack("http://127.0.0.1:1"),
            slack("http://127.0.0.1:1", name="mute", signing_secret=None, people=()),
        ]
    )
    ticket = await desk.request(ask())
    good = press(ticket.request.id)
    for wrong in (
        Message(good.headers, good.body + b"&x=1"), Message({}, good.body),
        signed(good.body, secret="x"), signed(good.body, at=time.time() - 310),
        signed(good.body, at=time.time() + 310),
        Message({**good.headers, "x-slack-signature": ""}, good.body),
        Message({**good.headers, "x-slack-request-timestamp": "now"}, good.body),
    ):  # fmt: skip
        with pytest.raises(NotBelieved):
            await desk.hear("ops", wrong)
    assert await refused(desk.hear("mute", good)) == "unknown"
    for odd in (
        signed(b""), signed(b"payload=1"), signed(b"payload=[]"), signed(b"payload=%7B"), signed(b"\xff"),
        press(ticket.request.id, type="view_submission"), press(ticket.request.id, "break_glass"),
        press(ticket.request.id, actions=[]), press(ticket.request.id, user=""),
        press(ticket.request.id, actions=[{"action_id": "approve", "value": 1}]),
    ):  # fmt: skip
        assert await refused(desk.hear("ops", odd)) == "misused"
    assert ticket.request.state == "pending"
    await desk.hear("ops", good)
    assert ticket.request.state == "approved"
    assert await refused(desk.hear("ops", good)) == "again"


@pytest.mark.parametrize(
    "wrong",
    [None, answer(500), answer(200, b"<html>"), answer(200, b"{}"), answer(200, b'{"ok": true}'),
     answer(200, b'{"ok": false, "error": "channel_not_found"}'), b"\x00" * 100],
    ids=["hangs", "500", "html", "empty", "no message", "refused", "garbage"],
)  # fmt: skip
async def test_a_slack_that_is_down_approves_nothing_and_is_tried_again(room, slack, wrong):
    down = True
    async with receiver(lambda got: wrong if down else api(got)) as there:
        desk = await room.open(channels=[slack(there.url(""), timeout_seconds=0.5)])
        ticket = await desk.request(ask())
        async with asyncio.timeout(10):
            while desk.outbox.failed["ops"] < 2:
                await asyncio.sleep(0.01)
        assert ticket.request.state == "pending"
        found = await desk.decide(ticket.request.id, person("ada", "owners"), "deny")
        assert found.state == "denied"
        down = False
        async with asyncio.timeout(10):
            while await desk._store.next_due("ops") is not None:
                await asyncio.sleep(0.01)
        assert [got.path for got in there.received[-2:]] == [
            "/api/chat.postMessage", "/api/chat.update",
        ]  # fmt: skip


def test_a_message_stays_within_what_slack_takes():
    request = {
        "id": "abc", "state": "pending", "outcome": "", "quorum": 2, "approvers": ["a" * 60] * 9,
        "principal": "p" * 5000, "resource": "r", "role": "w", "origin": "o", "rule": "x",
        "reason": "y" * 500, "words": ["w" * 500] * 50, "estimate": 5, "in_transaction": True,
        "expires": 2e9, "statement": "s\x00\u202e" * 2000, "characters_left_out": 100_000,
        "parameters": ["v" * 500] * 50, "parameters_left_out": 3, "reason_required": False,
    }  # fmt: skip
    decision = {"person": "p" * 3000, "authority": "q", "choice": "approve", "reason": "r" * 10_000}
    made = shown(request, [decision] * 100, buttons=True)
    assert len(made["blocks"]) <= 50

    def texts(found):
        if isinstance(found, dict):
            if isinstance(found.get("text"), str):
                yield found["text"], found["type"]
            for one in found.values():
                yield from texts(one)
        elif isinstance(found, list):
            for one in found:
                yield from texts(one)

    for text, _ in texts(made["blocks"]):
        assert 0 < len(text) <= 3000
        assert "\x00" not in text
        assert "\u202e" not in text
    assert len(made["blocks"][0]["text"]["text"]) <= 150
    assert "pangate approvals show abc" in json.dumps(made)
