"""What an agent did is found by everything that the record says of it, and reading it is recorded."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys

import pytest

from conftest import EVERYTHING
from pangate import cli
from pangate.audit.events import events
from pangate.audit.index import Index, Query, Record
from pangate.trial import Trial, until

pytestmark = pytest.mark.integration


@pytest.fixture
def own(postgres, trial):
    with Trial(postgres, effects=EVERYTHING) as made:
        yield made


def audit(trial: Trial, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pangate.cli", "audit", command, *arguments, "--config", str(trial.config)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def found(trial: Trial, *arguments: str) -> list[dict]:
    """In this process: there are many of these."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert (
            cli.main(["audit", "search", "--json", *arguments, "--config", str(trial.config)]) == 0
        )
    return [json.loads(line) for line in shown.getvalue().splitlines()]


def codes(trial: Trial) -> list[str]:
    return [event["code"] for event in events(trial.audit)]


def test_a_statement_is_found_by_all_that_is_known_of_it(own):
    shown = own.psql(
        own.token(), "select t from cards order by id", "delete from notes where id = 77"
    )
    assert "************1111" in shown.stdout
    own.psql(own.token("ci-job-43", team="ledger"), "delete from notes", database="ledger")
    until(lambda: codes(own).count("session.end") == 2, "both sessions end")
    (one,) = found(own, "select t from cards")
    assert one["data"]["text"] == "select t from cards order by id"
    masked = one["finished"]["data"]["masked"]
    assert masked["visa"] >= 1
    assert sum(masked.values()) == 4
    start = next(event for event in events(own.audit) if event["code"] == "session.start")
    for more in (
        ("--principal", "ci-job-42"),
        ("--role", "payments-reader"),
        ("--resource", "payments"),
        ("--session", one["session"]),
        ("--table", "cards"),
        ("--effect", "read"),
        ("--verdict", "allow"),
        ("--network", "visa"),
        ("--masked", "4"),
        ("--address", "127.0.0.0/8"),
        ("--since", start["time"]),
        ("--since", "1h"),
    ):
        assert one in found(own, *more), more
    for more in (
        ("--principal", "ci-job-43"),
        ("--masked", "5"),
        ("--network", "jcb"),
        ("--until", start["time"]),
        ("--address", "10.0.0.0/8"),
    ):
        assert one not in found(own, *more), more
    (denied,) = found(own, "--verdict", "deny")
    assert denied["principal"].endswith("#ci-job-43")
    assert [
        event["data"]["text"] for event in found(own, "--table", "notes", "--effect", "write")
    ] == [
        "delete from notes",
        "delete from notes where id = 77",
    ]
    own.psql(own.token(), "select 'pan 4111111111111111'")
    (pan,) = found(own, "pan 1111")
    assert pan["data"]["text"] == "select 'pan ************1111'"
    assert found(own, "4111111111111111") == []
    assert found(own, "4111*") == []
    shown = audit(own, "show", one["session"])
    assert "select t from cards order by id" in shown.stdout
    assert "4111111111111111" not in shown.stdout


def test_reading_is_an_event_of_the_record(own):
    own.psql(own.token(), "select 1 as looked_for")
    before = codes(own).count("audit.read")
    assert before == 0
    for number, command in enumerate(
        (("search", "looked_for 4111111111111111"), ("stats",), ("tail",)), 1
    ):
        done = audit(own, *command)
        assert done.returncode == 0, done.stderr
        until(
            lambda number=number: codes(own).count("audit.read") == number, f"{command} is an event"
        )
    reads = [event for event in events(own.audit) if event["code"] == "audit.read"]
    assert [event["data"]["command"] for event in reads] == ["search", "stats", "tail"]
    assert reads[0]["data"]["asked"] == {"words": "looked_for ************1111"}
    assert all(event["principal"].startswith("unix:") for event in reads)
    assert all(event["resource"] == "audit" for event in reads)
    assert list((own.directory / "audit.jsonl.inbox").iterdir()) == []
    assert [event["data"]["command"] for event in found(own, "--code", "audit.read")][-3:] == [
        "tail",
        "stats",
        "search",
    ]


def test_a_note_that_was_left_while_the_gateway_did_not_run_is_taken_at_its_start(own):
    own.stop_gateway()
    done = audit(own, "search", "--verdict", "allow")
    assert done.returncode == 0, done.stderr
    assert "audit.read" not in codes(own)
    assert len(list((own.directory / "audit.jsonl.inbox").iterdir())) == 1
    own.start_gateway()
    until(lambda: "audit.read" in codes(own), "the note is taken")
    own.stop_gateway()
    assert codes(own).count("audit.read") == 1


def test_without_an_inbox_nothing_is_read(own):
    own.stop_gateway()
    (own.directory / "audit.jsonl.inbox").rmdir()
    done = audit(own, "search")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "the gateway makes it when it starts" in done.stderr
    copy = own.directory / "copy" / "audit.jsonl"
    copy.parent.mkdir()
    copy.write_bytes(own.audit.read_bytes())
    assert cli.main(["audit", "search", "--directory", str(copy)]) == 0, "a copy has no gateway"
    assert not (copy.parent / "audit.jsonl.inbox").exists()


def test_the_sealer_keeps_the_index_up(postgres, trial):
    with Trial(postgres, audit="seal_seconds = 0.1") as made:
        made.psql(made.token(), "select 'needle'")
        index = Index(Record(made.audit))
        until(
            lambda: index.path.exists() and len(index.search(Query(text="needle"), 5)) == 1,
            "it is indexed",
        )
        assert index.path.stat().st_mode & 0o777 == 0o600
        assert index.record.missing == 0
        config = ["--config", str(made.config)]
        until(lambda: cli.main(["audit", "prove", "2", *config]) == 0, "it is sealed")
        assert cli.main(["audit", "verify", *config]) == 0
        assert cli.main(["audit", "report", "--since", "1h", *config]) == 0


def test_the_review_of_what_happened(own, capsys):
    own.psql(own.token(), "select t from cards order by id")
    own.psql("no token", "select 1")
    own.psql(own.token("ci-job-43", team="ledger"), "delete from notes", database="ledger")
    until(lambda: codes(own).count("session.end") == 2, "both sessions end")
    arguments = ["audit", "report", "--since", "1h", "--json", "--config", str(own.config)]
    assert cli.main(arguments) == 0
    sections = {
        one["title"]: one["rows"] for one in json.loads(capsys.readouterr().out)["sections"]
    }
    (denied,) = sections["Statements that were denied"]
    assert denied[1:3] == ["ci-job-43", "ledger"]
    assert denied[-1] == "delete from notes"
    assert "auth.failed" in [row[1] for row in sections["Logins that failed"]]
    assert ["payments", "cards", "4"] in [
        row[:3] for row in sections["Card numbers where none were found before"]
    ]
    assert [row[1] for row in sections["Recording started, stopped or was disturbed"]] == [
        "log.start"
    ]
