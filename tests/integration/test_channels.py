"""Channels at a gateway as it is served: what is told outlives a kill, and a decision that comes by one
counts as anybody's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from standardwebhooks import Webhook as Judge

from approvals_served import TABLES, api, drop, people, url, waiting
from conftest import EVERYTHING
from hookserver import OK, Received, Receiver, answer, receiver
from pangate.approvals.channels.slack import sign
from pangate.trial import Trial, until
from servers import events

pytestmark = pytest.mark.integration

KEY, BACK = ("whsec_" + base64.b64encode(c * 32).decode() for c in (b"k", b"b"))
SIGNING = "8f742231b10e8888abcd99yyyzzz85a5"
PAN = "4111111111111111"


@contextlib.contextmanager
def listening(answering=None, port: int = 0) -> Iterator[Receiver]:
    """A receiver in a thread of its own."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    found: list[Receiver] = []
    stop = asyncio.Event()

    async def serve() -> None:
        async with receiver(answering, port=port) as made:
            found.append(made)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def secret(directory: Path, name: str, value: str) -> str:
    path = directory / name
    path.touch(0o600)
    path.write_text(value)
    return f'{{ file = "{path}" }}'


def tables(directory: Path, port: int) -> str:
    return f"""
{TABLES}
[[webhooks]]
name = "tickets"
url = "http://127.0.0.1:{port}/hook"
secret = {secret(directory, "out", KEY)}
networks = ["127.0.0.1"]
[webhooks.callback]
secret = {secret(directory, "back", BACK)}
subject = "change-board"
claims = {{ groups = ["owners"] }}
[[slack]]
name = "ops"
token = {secret(directory, "token", "xoxb-1")}
channel = "C1"
api = "http://127.0.0.1:{port}/api"
networks = ["127.0.0.1"]
signing_secret = {secret(directory, "signing", SIGNING)}
people = [{{ user = "UBOB", subject = "bob", claims = {{ groups = ["owners"] }} }}]
"""


def slack_or_hook(got: Received) -> bytes:
    made = {"ok": True, "channel": "C1", "ts": "1700000000.000100"}
    return answer(200, json.dumps(made).encode()) if got.path.startswith("/api/") else OK


@pytest.fixture(scope="module")
def there():
    with listening(slack_or_hook) as made:
        yield made


@pytest.fixture(scope="module")
def served(postgres, there, tmp_path_factory):
    directory = tmp_path_factory.mktemp("channels")
    with Trial(postgres, effects=EVERYTHING, tables=tables(directory, there.port)) as made:
        postgres.psql("grant create on schema public to payments_service")
        yield made


@pytest.fixture(autouse=True)
def table(served, there):
    served.postgres.psql(
        "set role payments_service; drop table if exists payments_old; create table payments_old ()"
    )
    there.received.clear()


def told(there: Receiver, name: str, path: str = "/hook") -> list[str]:
    return [
        got.json["type"]
        for got in list(there.received)
        if got.path == path and got.json["data"]["request"]["id"] == name
    ]


def call(trial: Trial, content: dict, *, key: str = BACK, name: str = "one") -> httpx.Response:
    body, now = json.dumps(content), datetime.now(UTC)
    headers = {
        "webhook-id": f"{name}-{time.time_ns()}" if name == "one" else name,
        "webhook-timestamp": str(int(now.timestamp())),
    }
    headers["webhook-signature"] = Judge(key).sign(headers["webhook-id"], now, body)
    return httpx.post(
        f"{url(trial)}/api/channels/tickets", content=body, headers=headers, trust_env=False
    )


def test_a_system_of_ones_own_decides(served, there):
    process = drop(served)
    until(lambda: there.received, "a message")
    asked = next(got for got in there.received if got.path == "/hook")
    Judge(KEY).verify(asked.body, asked.headers)
    name = asked.json["data"]["request"]["id"]
    said = {"request": name, "choice": "approve", "reason": f"change 7 {PAN}"}
    forged = call(served, said, key=KEY)
    assert (forged.status_code, forged.json()["error"]) == (401, "authentication")
    assert call(served, {**said, "request": "nothing"}).status_code == 404
    assert process.poll() is None
    done = call(served, said, name="m1")
    assert (done.status_code, done.json()["state"]) == (200, "approved")
    assert process.communicate(timeout=20)[0] == "DROP TABLE\n"
    assert call(served, said, name="m1").status_code == 409
    until(lambda: len(told(there, name)) == 3, "the steps")
    assert told(there, name) == ["approval.requested", "approval.decided", "approval.executed"]
    assert all(PAN.encode() not in got.body for got in there.received)
    found = [event for event in events(served) if event["data"].get("request") == name]
    decided = next(event for event in found if event["code"] == "approval.decided")
    assert decided["principal"] == f"{served.issuer.url}#change-board"
    assert decided["data"]["channel"] == "tickets"
    failed = [event for event in events(served) if event["code"] == "auth.failed"]
    assert failed[-1]["data"]["detail"] == "channel tickets: webhook-signature is not right"


def test_a_button_is_pressed(served, there):
    process = drop(served)
    until(lambda: any(got.path == "/api/chat.postMessage" for got in there.received), "a message")
    posted = next(got for got in there.received if got.path == "/api/chat.postMessage")
    (approve, _) = posted.json["blocks"][-1]["elements"]

    def press(user: str, stamp: int) -> httpx.Response:
        payload = {
            "type": "block_actions", "user": {"id": user}, "team": {"id": "T1"},
            "channel": {"id": "C1"}, "actions": [approve],
        }  # fmt: skip
        body = urlencode({"payload": json.dumps(payload)}).encode()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": str(stamp),
            "X-Slack-Signature": sign(SIGNING, str(stamp), body),
        }
        return httpx.post(
            f"{url(served)}/api/channels/ops", content=body, headers=headers, trust_env=False
        )

    now = int(time.time())
    assert press("UBOB", now - 400).status_code == 401
    assert press("UEVE", now).status_code == 200
    until(lambda: there.received[-1].path == "/api/chat.postEphemeral", "a refusal")
    assert process.poll() is None
    done = press("UBOB", now)
    assert (done.status_code, done.content) == (200, b"")
    assert process.communicate(timeout=20)[0] == "DROP TABLE\n"
    until(lambda: there.received[-1].path == "/api/chat.update", "the change")
    assert press("UBOB", now).status_code == 409


def test_what_was_to_be_told_outlives_a_kill(postgres, tmp_path):
    with listening() as there:
        port = there.port  # nobody listens there from now on
    with Trial(postgres, effects=EVERYTHING, tables=tables(tmp_path, port)) as made:
        with api(made, people(made, "bob", "owners")) as client:
            process = drop(made)
            name = waiting(client)["id"]
        os.kill(made.pid, signal.SIGKILL)
        process.communicate()
        made.stop_gateway()
        with listening(slack_or_hook, port) as there:
            made.start_gateway()
            until(lambda: len(told(there, name)) == 2, "what was kept")
            assert told(there, name) == ["approval.requested", "approval.expired"]
            until(lambda: any(g.path == "/api/chat.update" for g in there.received), "the message")
            assert made.stop_gateway() == 0
        assert "Traceback" not in made.log.read_text()


def test_channels_are_reloaded(postgres, tmp_path):
    with (
        listening(slack_or_hook) as old,
        listening(slack_or_hook) as new,
        Trial(postgres, effects=EVERYTHING, tables=tables(tmp_path, old.port)) as made,
    ):
        text = made.config.read_text()
        made.config.write_text(text.replace(f":{old.port}/", f":{new.port}/"))
        os.kill(made.pid, signal.SIGHUP)
        until(lambda: "is in force" in made.log.read_text(), "the reload")
        process: subprocess.Popen[str] = drop(made)
        until(lambda: any(got.path == "/hook" for got in new.received), "a message")
        assert old.received == []
        process.terminate()
        process.communicate()
