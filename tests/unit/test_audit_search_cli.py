"""`pangate audit search`, `show`, `tail`, `stats` and `reindex`, and the notes that reading leaves."""

import csv
import io
import json
import os
import subprocess
import sys
import time

import pytest

import ledgers
import records
from pangate import cli
from pangate.audit.inbox import Inbox

COUNT = 3000


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return records.write(tmp_path_factory.mktemp("cli") / "audit.jsonl", COUNT, seconds=2.0)


@pytest.fixture
def run(record, capsys):
    def go(command, *arguments, code=0, place=("--directory", str(record))):
        assert cli.main(["audit", command, *arguments, *place]) == code
        return capsys.readouterr()

    return go


def lines(shown):
    return [json.loads(line) for line in shown.out.splitlines()]


# search


def test_a_table_that_fits_the_terminal(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shown = run("search", "--limit", "20", "select")
    head, *rows = shown.out.splitlines()
    assert head.split() == [
        "SEQUENCE",
        "TIME",
        "(UTC)",
        "PRINCIPAL",
        "RESOURCE",
        "EVENT",
        "MASKED",
        "WHAT",
    ]
    assert len(rows) == 20
    assert all(len(row) <= 100 for row in rows)
    numbers = [int(row.split()[0]) for row in rows]
    assert numbers == sorted(numbers, reverse=True)
    assert "--limit shows more" in shown.err


def test_what_is_found_is_what_was_asked_for(run):
    found = lines(run("search", "--json", "--table", "cards", "--masked", "150", "--limit", "1000"))
    assert found
    for event in found:
        assert any(one.endswith(".cards") for one in event["data"]["relations"])
        assert sum(event["finished"]["data"]["masked"].values()) >= 150
    denied = lines(run("search", "--json", "--verdict", "deny", "--effect", "schema", "--failed"))
    assert denied
    assert {event["code"] for event in denied} == {"statement.denied"}
    assert lines(run("search", "--json", "drop table")) == []
    assert lines(run("search", "--json", "delete from", "sale*"))


def test_times(run):
    every = lines(run("search", "--json", "--limit", "100000"))
    middle = every[len(every) // 2]["time"]
    later = lines(run("search", "--json", "--since", middle, "--limit", "100000"))
    earlier = lines(run("search", "--json", "--until", middle, "--limit", "100000"))
    assert later + earlier == every
    assert later[-1]["time"] == middle
    assert lines(run("search", "--json", "--since", "1m")) == []
    assert "is not before --until" in run("search", "--since", "1h", "--until", "2h", code=1).err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "write 2026-11-28"),
        (("--limit", "0"), "a number above 0"),
        (("--masked", "many"), "is not a number"),
        (("--colour", "red"), "unrecognized arguments"),
    ],
)
def test_misuse_is_explained(run, capsys, arguments, said):
    with pytest.raises(SystemExit) as caught:
        run("search", *arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_nothing_found_says_which_value_there_is_none_of(run):
    shown = run("search", "--resource", "paymets", "--role", "payments-reader")
    assert shown.out == ""
    assert "no event has the resource 'paymets'; there is payments" in shown.err
    assert "the role" not in shown.err


def test_who_looks_for_a_card_number_is_told_how(run):
    shown = run("search", "4111111111111111")
    assert "it stands there as ************1111" in shown.err
    assert lines(run("search", "--json", "1111"))


def test_csv_that_no_spreadsheet_runs(tmp_path, run):
    leaf = ledgers.event(1, "statement.denied", text='=cmd("x")', verdict="deny")
    file = tmp_path / "a.jsonl"
    file.write_bytes(leaf + b"\n")
    shown = run("search", "--csv", place=("--directory", str(tmp_path)))
    (row,) = csv.DictReader(io.StringIO(shown.out))
    assert row["text"] == '\'=cmd("x")'
    assert (row["sequence"], row["verdict"], row["success"]) == ("1", "deny", "true")


def test_what_a_terminal_would_obey_is_shown_as_it_is_written(tmp_path, run):
    leaf = ledgers.event(1, "statement.denied", text="select \x1b[2J 1\u202e")
    (tmp_path / "a.jsonl").write_bytes(leaf + b"\n")
    place = "--directory", str(tmp_path)
    for shown in (run("search", place=place), run("show", "1", place=place)):
        assert "\\x1b[2J" in shown.out
        assert "\x1b" not in shown.out
        assert "\u202e" not in shown.out


# show


def test_show_an_event_a_session_and_what_is_neither(run):
    event = lines(
        run("search", "--json", "--code", "statement.allowed", "--limit", "1", "--masked", "1")
    )[0]
    shown = run("show", str(event["sequence"])).out
    assert event["data"]["text"] in shown
    assert "statement.finished" in shown, "how it ended is told too"
    session = lines(run("show", event["session"], "--json"))
    assert {one["session"] for one in session} == {event["session"]}
    assert [one["sequence"] for one in session] == sorted(one["sequence"] for one in session)
    assert event["sequence"] in [one["sequence"] for one in session]
    assert "has those up to 3000" in run("show", "999999", code=1).err
    assert "is no event, session or request" in run("show", "nosuchthing", code=1).err


# tail


def test_tail(run):
    found = lines(run("tail", "-n", "7", "--json"))
    assert len(found) == 7
    assert [one["sequence"] for one in found] == sorted(one["sequence"] for one in found)


def test_tail_follows(tmp_path):
    file = records.write(tmp_path / "audit.jsonl", 20)
    words = [sys.executable, "-m", "pangate.cli", "audit", "tail", "-f", "--json", "-n", "1"]
    follower = subprocess.Popen(
        [*words, "--directory", str(file), "--every"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert json.loads(follower.stdout.readline())["sequence"] == 20
        more = list(records.leaves(40))[20:]
        with file.open("ab") as record:
            record.write(b"".join(leaf + b"\n" for leaf in more))
        assert [json.loads(follower.stdout.readline()) for _ in more] == list(map(json.loads, more))
    finally:
        follower.terminate()
        follower.wait(timeout=20)
        follower.stdout.close()


# stats


def test_stats(run):
    rows = lines(run("stats", "--json", "--by", "code", "--by", "verdict", "--by", "day"))
    total = rows[0]
    assert total["by"] == "all"
    codes = {row["value"]: row["events"] for row in rows if row["by"] == "code"}
    assert sum(codes.values()) == total["events"]
    assert sum(row["events"] for row in rows if row["by"] == "day") == total["events"]
    found = lines(run("search", "--json", "--code", "auth.failed", "--limit", "10000"))
    assert codes["auth.failed"] == len(found)
    shown = run("stats", "--by", "principal", "--limit", "2").out
    assert "and " in shown
    assert "more" in shown
    table = list(csv.reader(io.StringIO(run("stats", "--csv", "--by", "code").out)))
    assert table[0] == ["by", "value", "events", "failed", "masked"]
    assert {row[1]: int(row[2]) for row in table[1:]} == codes


def test_stats_of_nothing(run):
    shown = run("stats", "--principal", "nobody")
    assert shown.out.startswith("0 events")
    assert "no event has the principal 'nobody'" in shown.err


# The records of all workers


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """A directory with the record of the first process and those of two workers."""
    directory = tmp_path_factory.mktemp("workers")
    for number, (name, seed) in enumerate(((".", 1), ("worker-2", 2), ("worker-10", 3))):
        (directory / name).mkdir(exist_ok=True)
        records.write(directory / name / "audit.jsonl", 200 + number, seed=seed, seconds=2.0)
    # of no worker, and of none yet
    (directory / "worker-x").mkdir()
    records.write(directory / "worker-x" / "audit.jsonl", 5)
    (directory / "worker-3").mkdir()
    return directory


def test_several_records_are_read_as_one(workers, run):
    place = "--directory", str(workers)
    every = lines(run("search", "--json", "--every", "--limit", "10000", place=place))
    assert len(every) == 603
    assert {one["record"] for one in every} == {"first", "worker-2", "worker-10"}
    times = [one["time"] for one in every]
    assert times == sorted(times, reverse=True)
    newest = lines(run("search", "--json", "--every", "--limit", "20", place=place))
    assert newest == every[:20]
    shown = run("search", "--limit", "1", place=place)
    assert "--limit shows more" in shown.err
    tail = lines(run("tail", "--json", "--every", "-n", "20", place=place))
    assert tail == every[:20][::-1]
    rows = lines(run("stats", "--json", "--every", "--by", "code", place=place))
    assert rows[0]["events"] == 603
    assert sum(row["events"] for row in rows[1:]) == 603
    table = run("search", "--csv", place=place).out
    assert {row["record"] for row in csv.DictReader(io.StringIO(table))} <= {
        "first", "worker-2", "worker-10",
    }  # fmt: skip
    # one of them alone, by its directory or its file
    for one, count in ((workers / "worker-2", 201), (workers / "audit.jsonl", 200)):
        found = lines(
            run("search", "--json", "--every", "--limit", "10000", place=("--directory", str(one)))
        )
        assert len(found) == count
        assert "record" not in found[0]


def test_show_of_several_records(workers, run, tmp_path):
    place = "--directory", str(workers)
    said = run("show", "17", place=place, code=1).err
    assert "say which: first/17, worker-2/17, worker-10/17" in said
    assert run("show", "worker-2/17", place=place).out.startswith(
        "record:      worker-2\nsequence:    17\n"
    )
    assert '"record": "worker-10"' in run("show", "202", "--json", place=place).out
    assert "worker-2 those up to 201" in run("show", "900", place=place, code=1).err
    assert "there is no record 'worker-7'" in run("show", "worker-7/1", place=place, code=1).err
    event = lines(run("search", "--json", "--code", "session.start", "--limit", "1", place=place))[
        0
    ]
    session = lines(run("show", event["session"], "--json", place=place))
    assert {(one["session"], one["record"]) for one in session} == {
        (event["session"], event["record"])
    }
    # the indexes can be elsewhere too
    run("search", "--index", str(tmp_path / "index"), place=place)
    assert {one.name for one in tmp_path.iterdir()} >= {
        "index",
        "index.worker-2",
        "index.worker-10",
    }


def test_a_report_of_several_records(workers, run):
    place = "--directory", str(workers)
    shown = run("report", "--since", "2026-11-01", "--json", place=place)
    titles = [one["title"] for one in json.loads(shown.out)["sections"]]
    assert titles[:3] == [
        "The record itself, first", "The record itself, worker-2", "The record itself, worker-10",
    ]  # fmt: skip


# reindex


def test_reindex_and_an_index_elsewhere(run, record, tmp_path):
    shown = run("reindex", "--index", str(tmp_path / "other"))
    assert f"{COUNT:,} events indexed" in shown.out
    assert (tmp_path / "other").exists()
    assert len(lines(run("search", "--json", "--index", str(tmp_path / "other")))) == 50
    missing = str(tmp_path / "none" / "index")
    assert "--index" in run("search", "--index", missing, code=1).err


def test_a_damaged_index_is_one_line(run, record):
    run("search")
    index = record.with_name("audit.jsonl.index")
    index.write_bytes(b"x" * 5000)
    shown = run("search", "--json")
    assert len(lines(shown)) == 50
    assert shown.err.count("it is made anew from the record") == 1


# Reading leaves a note


READING = (
    ("search", "drop"),
    ("show", "5"),
    ("tail",),
    ("stats",),
    ("replay", "s5", "--dump"),
    ("prove", "5"),
)


@pytest.fixture
def live(tmp_path):
    """A ledger whose gateway has an inbox."""
    leaves = ledgers.events(20)
    directory = ledgers.write(tmp_path / "ledger", ledgers.files_of(leaves))
    (directory / "audit.jsonl").write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    return directory, Inbox(directory / "audit.jsonl.inbox")


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_reading_leaves_a_note(live, capsys, words):
    directory, box = live
    cli.main(["audit", *words, "--directory", str(directory)])
    found = []
    box.take(lambda *event: found.append(event))
    ((code, _, _, data),) = found
    assert code == "audit.read"
    assert data["command"] == words[0]
    assert set(data["asked"]) <= {"words", "id", "session", "dump", "sequence"}


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_what_cannot_leave_a_note_shows_nothing(live, capsys, words, monkeypatch):
    directory, _ = live

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    assert cli.main(["audit", *words, "--directory", str(directory)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "reading the record is an event of it" in shown.err


def test_a_note_has_what_was_asked_and_no_card_number(live, capsys):
    directory, box = live
    arguments = ["4111111111111111", "--since", "2026-11-25", "--principal", "a", "--limit", "7"]
    cli.main(["audit", "search", *arguments, "--directory", str(directory / "audit.jsonl")])
    found = []
    box.take(lambda *event: found.append(event))
    assert found[0][3]["asked"] == {
        "words": "************1111",
        "since": "2026-11-25T00:00:00Z",
        "principal": "a",
        "limit": 7,
    }
    assert found[0][3]["read_at"][:10] == time.strftime("%Y-%m-%d", time.gmtime())


def test_a_record_that_cannot_be_read_is_not_one_without_the_session(tmp_path, capsys):
    """Of several, which may have it."""
    for name in ("worker-1", "worker-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.jsonl").write_bytes(ledgers.event(1) + b"\n")
    (tmp_path / "worker-1" / "audit.jsonl").write_bytes(b"no event\n")
    assert cli.main(["audit", "replay", "abc", "--directory", str(tmp_path)]) == 1
    assert "no event at byte 0" in capsys.readouterr().err
    (tmp_path / "worker-1" / "audit.jsonl").write_bytes(ledgers.event(1) + b"\n")
    assert cli.main(["audit", "replay", "abc", "--directory", str(tmp_path)]) == 1
    assert "nothing of a session abc" in capsys.readouterr().err
