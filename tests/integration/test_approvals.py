"""Deciding by HTTP and on the command line, at a gateway as it is served; and what a crash leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import httpx
import pytest

from approvals_served import TABLES, api, command, drop, people, url, waiting
from conftest import EVERYTHING
from pangate.trial import Trial
from servers import events

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def served(postgres):
    with Trial(postgres, effects=EVERYTHING, tables=TABLES) as made:
        postgres.psql("grant create on schema public to payments_service")
        yield made


@pytest.fixture(autouse=True)
def table(served):
    served.postgres.psql(
        "set role payments_service; drop table if exists payments_old; create table payments_old ()"
    )


def test_by_http(served):
    ada, agent = people(served, "ada", "owners"), served.token(owner="ada")
    with (
        api(served, people(served, "bob", "owners")) as bob,
        api(served, ada) as owner,
        api(served, people(served, "eve")) as stranger,
        api(served, agent) as itself,
        api(served, None) as nobody,
        api(served, "nonsense") as liar,
    ):
        process = drop(served, owner="ada")
        request = waiting(bob)
        path = f"/api/approvals/{request['id']}"
        assert request["statement"] == "drop table payments_old"
        for client in (nobody, liar):
            for answer in (client.get("/api/approvals"), client.post(f"{path}/approve")):
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"] == "Bearer"
        # to whom it is nothing, it is not there
        assert stranger.get("/api/approvals").json() == {"approvals": []}
        assert stranger.get(path).status_code == 404
        assert stranger.post(f"{path}/approve").status_code == 404
        assert bob.get("/api/approvals/nothing").status_code == 404
        for client in (owner, itself):
            assert client.get(path).status_code == 200
            answer = client.post(f"{path}/approve", json={"reason": "mine"})
            assert (answer.status_code, answer.json()["error"]) == (403, "own")
        assert bob.post(f"{path}/wave").status_code == 404
        assert bob.post(f"{path}/approve", content=b"[1]").status_code == 400
        assert bob.post(f"{path}/approve", content=b"x" * 70_000).status_code == 413
        assert bob.post(f"{path}/approve", json={"reason": 1}).status_code == 422
        assert bob.get("/api/approvals?state=odd").status_code == 422
        assert process.poll() is None
        answer = bob.post(f"{path}/approve", json={"reason": "planned"})
        assert (answer.status_code, answer.json()["state"]) == (200, "approved")
        assert answer.headers["Cache-Control"] == "no-store"
        assert process.communicate(timeout=20)[0] == "DROP TABLE\n"
        assert bob.post(f"{path}/approve").status_code == 409
        shown = bob.get(path).json()
        assert shown["state"] == "executed"
        assert [one["reason"] for one in shown["decisions"]] == ["planned"]
    found = [e for e in events(served) if e["data"].get("request") == request["id"]]
    codes = [event["code"] for event in found]
    assert codes.count("approval.refused") == 4
    assert codes.count("approval.viewed") == 3
    assert (
        codes[-3:-1] == ["approval.executed", "statement.allowed"] or "approval.executed" in codes
    )
    decided = next(event for event in found if event["code"] == "approval.decided")
    assert decided["principal"].endswith("#bob")
    assert decided["origin"].startswith("127.0.0.1:")


def test_on_the_command_line(served):
    token = people(served, "bob", "owners")
    watch = subprocess.Popen(
        [sys.executable, "-m", "pangate.cli", "approvals", "--url", url(served), "watch", "--json"],
        env={**os.environ, "PANGATE_TOKEN": token}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with api(served, token) as client:
            assert watch.stderr.readline().startswith("watching http://")
            process = drop(served)
            name = waiting(client)["id"]
        listed = command(served, token, "list")
        assert (listed.returncode, name in listed.stdout) == (0, True)
        shown = command(served, token, "show", name)
        assert "DROP TABLE on payments_old." in shown.stdout
        assert "needs        1 of owners" in shown.stdout
        uncounted = command(served, token, "count", name)
        assert (uncounted.returncode, uncounted.stderr) == (
            1,
            "pangate approvals: it is no SELECT, UPDATE, DELETE or TRUNCATE of one table\n",
        )
        wrong = command(served, people(served, "x"), "approve", name)
        assert (wrong.returncode, wrong.stderr) == (
            1,
            "pangate approvals: there is no such request\n",
        )
        denied = command(served, token, "deny", name, "--reason", "not today")
        assert denied.returncode == 0, denied.stderr
        assert "denied" in denied.stdout
        _, said = process.communicate(timeout=20)
        assert "not today" in said
        assert name in said
        assert name not in command(served, token, "list").stdout
        assert name in command(served, token, "list", "--all").stdout
        assert command(served, "", "list").returncode == 1
        # who decides the next of its kind sees what was said to this one
        again = drop(served)
        with api(served, token) as client:
            second = waiting(client)["id"]
        shown = command(served, token, "show", second).stdout
        issuer = served.issuer.url
        assert re.search(
            rf"earlier      {name}, \d+ (s|min) ago by {issuer}#ci-job-42: denied "
            rf"\(deny by {issuer}#bob: not today\)",
            shown,
        ), shown
        again.terminate()
        again.communicate()
        seen = [json.loads(watch.stdout.readline()) for _ in range(2)]
        assert [(one["code"], one["id"]) for one in seen] == [
            ("approval.requested", name), ("approval.decided", name),
        ]  # fmt: skip
    finally:
        watch.kill()
        watch.wait()
        watch.stdout.close()
        watch.stderr.close()


def test_the_glass_is_broken_and_reviewed(served):
    token = people(served, "zoe", "night")
    with api(served, token) as night:
        process = drop(served)
        name = waiting(night)["id"]
        assert night.post(f"/api/approvals/{name}/break-glass").status_code == 422
        done = command(served, token, "break-glass", name, "--reason", "payments are down")
        assert done.returncode == 0, done.stderr
        assert process.communicate(timeout=20)[0] == "DROP TABLE\n"
    assert "the glass was broken" in served.log.read_text()
    bob = people(served, "bob", "owners")
    assert name in command(served, bob, "reviews").stdout
    assert command(served, token, "review", name, "justified", "--note", "x").returncode == 1
    done = command(served, bob, "review", name, "justified", "--note", "it was down")
    assert done.returncode == 0, done.stderr
    assert name not in command(served, bob, "reviews").stdout


def test_delegations(served):
    now = time.time()
    dora = people(served, "dora")
    with api(served, people(served, "ada", "owners")) as ada, api(served, dora) as stand_in:
        body = {
            "receiver": f"{served.issuer.url}#dora", "group": "owners", "starts": now,
            "ends": now + 600, "reason": "leave",
        }  # fmt: skip
        assert ada.post("/api/delegations", json={**body, "ends": "x"}).status_code == 422
        made = ada.post("/api/delegations", json=body)
        assert made.status_code == 201
        assert len(stand_in.get("/api/delegations").json()["delegations"]) == 1
        process = drop(served)
        name = waiting(ada)["id"]
        assert stand_in.post(f"/api/approvals/{name}/approve").json()["state"] == "approved"
        assert process.communicate(timeout=20)[0] == "DROP TABLE\n"
        assert stand_in.delete(f"/api/delegations/{made.json()['id']}").status_code == 404
        assert ada.delete(f"/api/delegations/{made.json()['id']}").status_code == 204
        assert ada.get("/api/delegations").json() == {"delegations": []}


def test_a_crash_expires_what_waited_with_a_record(postgres):
    with Trial(postgres, effects=EVERYTHING, tables=TABLES) as made:
        token = people(made, "bob", "owners")
        with api(made, token) as client:
            process = drop(made)
            name = waiting(client)["id"]
        os.kill(made.pid, signal.SIGKILL)
        assert process.wait(20) != 0
        process.communicate()
        made.stop_gateway()
        made.start_gateway()
        with api(made, token) as client:
            shown = client.get(f"/api/approvals/{name}").json()
            assert (shown["state"], shown["outcome"]) == ("expired", "the gateway was restarted")
            assert client.post(f"/api/approvals/{name}/approve").status_code == 409
        (expired,) = [event for event in events(made) if event["code"] == "approval.expired"]
        assert expired["data"] == {"request": name, "reason": "the gateway was restarted"}
        assert made.stop_gateway() == 0
        assert "Traceback" not in made.log.read_text()
    assert postgres.psql("select to_regclass('payments_old')", "postgres", "-At").strip()


def test_metrics_and_a_drain(postgres):
    with Trial(postgres, effects=EVERYTHING, tables=TABLES + "[monitor]\nport = 0\n") as made:
        monitor = re.findall(r"metrics and health at (http://[\w.:]+)", made.log.read_text())[-1]
        with api(made, people(made, "bob", "owners")) as client:
            process = drop(made)
            name = waiting(client)["id"]
        time.sleep(1.1)
        text = httpx.get(f"{monitor}/metrics", trust_env=False).text
        assert "pangate_held_statements 1.0" in text
        assert 'pangate_approvals_total{step="requested"} 1.0' in text
        os.kill(made.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert "shutting down" in said
        assert made.stop_gateway() == 0
        (ended,) = [event for event in events(made) if event["code"] == "approval.withdrawn"]
        assert ended["data"]["request"] == name
