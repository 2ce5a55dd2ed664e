"""The daily review: what is not as it always is comes first, and nothing in it can harm who reads it."""

import json
import stat
from html.parser import HTMLParser

import pytest

import ledgers
from pangate import cli
from pangate.audit import leaf_encoder
from pangate.audit.index import Index, Record
from pangate.audit.several import FIRST, Several
from pangate.evidence import daily, show
from pangate.ledger.note import Signer
from pangate.model import Event

DAY = 1_795_046_400.0  # 2026-11-19
HOUR = 3600.0


def event(
    code, when, who="https://id#job-1", session="s", success=True, resource="payments", **data
):
    return Event(code, DAY + when * HOUR, session, who, "10.0.0.1:4000", resource, success, data)


def allowed(when, number, who="https://id#job-1", **data):
    about = {
        "verdict": "allow",
        "effects": ["read"],
        "relations": ["cards"],
        "text": "select 1",
        "rule": "role",
    }
    return event("statement.allowed", when, who, number=number, **(about | data))


def finished(when, number, **masked):
    return event("statement.finished", when, number=number, masked=masked)


BEFORE = [
    event("log.start", -30, "gateway", "-", resource="audit"),
    event("session.start", -29, role="reader"),
    allowed(-29, 1),
    finished(-29, 1, visa=3),
    allowed(-28, 2, relations=["orders"]),
    finished(-28, 2),
]
QUIET = [allowed(1, 3), finished(1, 3, visa=2)]
LOUD = [
    event(
        "statement.denied",
        2,
        success=False,
        number=4,
        verdict="deny",
        reason="no role of yours",
        text="drop table cards",
    ),
    event(
        "statement.denied",
        3,
        success=False,
        number=5,
        verdict="deny",
        reason="no role of yours",
        text="drop table orders",
    ),
    event("auth.failed", 3, "unknown", "t", success=False, detail="the token has expired"),
    allowed(4, 6, "https://id#job-9", relations=["orders", "refunds"]),
    finished(4, 6, amex=7),
    allowed(5, 7, effects=["schema"], text="create table x ()", relations=["x"]),
    finished(5, 7),
    event("approval.requested", 6, request="abcdef", text="delete from cards", effects=["write"]),
    event(
        "approval.decided",
        7,
        "https://id#carol",
        request="abcdef",
        choice="approve",
        reason="release 42",
        state="approved",
    ),
    event("approval.executed", 7, request="abcdef"),
    event("approval.requested", 8, request="ghijkl", text="delete from orders"),
    event(
        "approval.broken_glass",
        8,
        "https://id#dave",
        request="ghijkl",
        choice="break_glass",
        reason="payments are down",
    ),
    event(
        "config.reloaded",
        9,
        "gateway",
        "-",
        resource="configuration",
        before="aaaa",
        config="bbbb",
        needs_restart=["audit"],
    ),
    event("log.stop", 10, "gateway", "-", resource="audit"),
    event("log.start", 11, "gateway", "-", resource="audit"),
    event("audit.read", 12, "unix:alice", "-", resource="audit", command="search"),
    event("audit.exported", 13, "unix:alice", "-", resource="audit", command="export", asked={}),
    event(
        "audit.hold_placed",
        14,
        "unix:alice",
        "-",
        resource="audit",
        command="hold",
        asked={"action": "add", "name": "case-7", "reason": "a court asks"},
    ),
]
AFTER = [
    event(
        "approval.reviewed",
        30,
        "https://id#erin",
        request="ghijkl",
        finding="justified",
        note="incident 7",
    ),
    event(
        "statement.denied",
        31,
        success=False,
        number=9,
        verdict="deny",
        reason="later",
        text="select later",
    ),
]


def reviewed(tmp_path, events, **more):
    encode = leaf_encoder()
    leaves = [encode(one, number) for number, one in enumerate(events, 1)]
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    index = Index(Record(file))
    index.catch_up()
    return daily.review(Several({FIRST: index}), DAY, DAY + 24 * HOUR, **more)


def section(report, begin):
    (found,) = [one for one in report.sections if one.title.startswith(begin)]
    return found


@pytest.fixture
def loud(tmp_path):
    return reviewed(tmp_path, [*BEFORE, *QUIET, *LOUD, *AFTER])


def test_a_quiet_day(tmp_path):
    report = reviewed(tmp_path, [*BEFORE, *QUIET, *AFTER])
    assert report.unusual == []
    assert "Nothing unusual" in show.text(report)
    assert "<strong>Nothing unusual.</strong>" in show.page(report)
    assert report.summary == ("1 events, 0 of them no success; 2 card numbers masked.",)


def test_a_day_without_events(tmp_path):
    report = reviewed(tmp_path, BEFORE)
    assert report.summary == ("No event in this time.",)
    assert report.unusual == []


def test_denials_are_told_by_who_and_why(loud):
    assert section(loud, "Statements that were denied").rows == [
        ("2", "job-1", "payments", "no role of yours", "2026-11-19 03:00:00", "drop table orders")
    ]


def test_failed_logins(loud):
    (row,) = section(loud, "Logins that failed").rows
    assert row[:4] == ("1", "auth.failed", "unknown", "10.0.0.1")
    assert "the token has expired" in row


def test_what_was_never_there_before(loud):
    people = [row[0] for row in section(loud, "Principals that were never").rows]
    assert "https://id#job-9" in people
    assert "https://id#job-1" not in people
    assert [row[:3] for row in section(loud, "Tables that were never").rows] == [
        ("payments", "refunds", "job-9"),
        ("payments", "x", "job-1"),
    ]
    assert section(loud, "Card numbers where none").rows == [
        ("payments", "orders", "7", "amex", "job-9"),
        ("payments", "refunds", "7", "amex", "job-9"),
    ]


def test_what_waited_and_who_let_it_run(loud):
    first, second = section(loud, "Statements that waited").rows
    assert first[3:6] == ("delete from cards", "approve by carol: release 42", "executed")
    assert second[4:6] == ("break_glass by dave: payments are down", "open")
    (glass,) = section(loud, "The glass").rows
    assert glass[1:] == (
        "dave",
        "payments",
        "delete from orders",
        "payments are down",
        "justified (erin): incident 7",
    )


def test_a_glass_that_nobody_reviewed(tmp_path):
    (row,) = section(reviewed(tmp_path, [*BEFORE, *LOUD]), "The glass").rows
    assert row[-1] == "NOT REVIEWED"


def test_changes_of_objects_configuration_and_recording(loud):
    (row,) = section(loud, "Objects, privileges").rows
    assert row[3:] == ("schema", "2026-11-19 05:00:00", "create table x ()")
    (row,) = section(loud, "The configuration").rows
    assert row[2:] == ("aaaa", "bbbb", "needs restart: audit")
    recording = section(loud, "Recording started").rows
    assert [row[1] for row in recording] == ["log.stop", "log.start", "audit.hold_placed"]
    assert "case-7" in recording[-1][2]
    assert "a court asks" in recording[-1][2]
    assert section(loud, "Who read the record").rows == [
        ("1", "unix:alice", "export", "2026-11-19 13:00:00"),
        ("1", "unix:alice", "search", "2026-11-19 12:00:00"),
    ]


def test_a_record_that_begins_in_the_period_says_so(tmp_path):
    report = reviewed(tmp_path, QUIET)
    assert "The record begins in this period" in section(report, "Principals").note


def test_a_gap_is_wrong_and_comes_first(tmp_path):
    encode = leaf_encoder()
    leaves = [encode(one, number) for number, one in enumerate([*BEFORE, *QUIET, *LOUD], 1)]
    del leaves[9:11]
    (tmp_path / "audit.jsonl").write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    index = Index(Record(tmp_path))
    index.catch_up()
    report = daily.review(Several({FIRST: index}), DAY, DAY + 24 * HOUR)
    assert report.unusual[0].title == "The record itself"
    assert ("gaps", "2 sequences have no event") in report.unusual[0].rows


def test_the_records_of_all_workers_are_one_review(tmp_path):
    """What is new is new in all of them, and a gap is said of the record that has it."""
    encode = leaf_encoder()
    known = allowed(-20, 1, "https://id#job-9", relations=["refunds"])
    parts = {
        "first": [*BEFORE, *QUIET, *LOUD],
        "worker-1": [event("log.start", -30, "gateway", "-", resource="audit"), known],
        "worker-2": [
            event("log.start", 1, "gateway", "-", resource="audit"),
            event("statement.denied", 2.5, success=False, verdict="deny", reason="no role of yours",
                  text="drop table later"),
            event("auth.failed", 3, "unknown", "t", success=False, detail="the token has expired"),
        ],
    }  # fmt: skip
    indexes = {}
    for name, found in parts.items():
        leaves = [encode(one, number) for number, one in enumerate(found, 1)]
        if name == "worker-2":
            del leaves[1]
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.jsonl").write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
        indexes[name] = Index(Record(tmp_path / name))
        indexes[name].catch_up()
    report = daily.review(Several(indexes), DAY, DAY + 24 * HOUR)
    assert section(report, "Logins that failed").rows[0][0] == "2"
    assert ("gaps", "1 sequences have no event") in section(
        report, "The record itself, worker-2"
    ).rows
    assert ("gaps", "none") in section(report, "The record itself, first").rows
    # job-9 and its table were seen by another process before
    assert "https://id#job-9" not in [
        row[0] for row in section(report, "Principals that were never").rows
    ]
    assert [row[1] for row in section(report, "Tables that were never").rows] == ["x"]
    steps = section(report, "Statements that waited for people").rows
    assert [row[0] for row in steps] == sorted(row[0] for row in steps)


# The forms of it


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.words, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "action", "data")]

    def handle_data(self, data):
        self.words.append(data)


HOSTILE = "</td><script>alert(1)</script><img src=x onerror=y> \u202e \x1b[2J &amp;"


def test_no_statement_gets_out_of_the_page(tmp_path):
    said = {"reason": HOSTILE, "text": HOSTILE, "number": 8}
    one = event("statement.denied", 2, HOSTILE, success=False, resource=HOSTILE, **said)
    report = reviewed(tmp_path, [*BEFORE, one])
    made = show.page(report)
    page = Page()
    page.feed(made)
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "table", "thead",
        "tbody", "tr", "th", "td", "strong",
    }  # fmt: skip
    assert page.links == []
    assert "url(" not in made
    assert "default-src 'none'" in made
    assert any("<script>alert(1)</script>" in words for words in page.words), (
        "it is shown as it is written"
    )
    for shown in (made, show.text(report)):
        assert "\x1b" not in shown
        assert "\u202e" not in shown


def test_text_fits_and_the_same_is_in_json(loud):
    text = show.text(loud)
    assert max(map(len, text.splitlines())) <= show.WIDTH + 3
    assert text.index("Unusual") < text.index("The glass was broken") < text.index("As every day")
    made = json.loads(json.dumps(loud.as_json()))
    assert made["since"] == "2026-11-19T00:00:00Z"
    assert len(made["sections"]) == len(loud.sections)


# The command


@pytest.fixture
def record(tmp_path):
    encode = leaf_encoder()
    leaves = [encode(one, number) for number, one in enumerate([*BEFORE, *QUIET, *LOUD], 1)]
    directory = ledgers.write(tmp_path / "ledger", ledgers.files_of(leaves))
    (directory / "audit.jsonl").write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    key = tmp_path / "key.pub"
    key.write_text(ledgers.SIGNER.verifier.text() + "\n")
    return directory, key


def report(record, *arguments):
    directory, key = record
    return cli.main(
        ["audit", "report", "--directory", str(directory), "--key", str(key), *arguments]
    )


def test_the_command(record, capsys, tmp_path):
    assert report(record, "--day", "2026-11-19") == 0
    text = capsys.readouterr().out
    assert "delete from cards" in text
    assert "nothing was changed" in text
    assert report(record, "--day", "2026-11-19", "--json") == 0
    assert json.loads(capsys.readouterr().out)["until"] == "2026-11-20T00:00:00Z"
    file = tmp_path / "report.html"
    assert report(record, "--day", "2026-11-19", "--html", "-o", str(file)) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("<!doctype html>")
    assert report(record) == 0
    assert "No event in this time." in capsys.readouterr().out


def test_a_changed_record_is_wrong(record, capsys, tmp_path):
    directory, _ = record
    bundle = next((directory / "tile/entries/000.p").iterdir())
    bundle.write_bytes(bundle.read_bytes().replace(b"release 42", b"release 43"))
    assert report(record, "--day", "2026-11-19") == 1
    text = capsys.readouterr().out
    assert text.index("!! The record itself") < text.index("The glass was broken")
    assert "WRONG: edited" in text
    assert report(record, "--day", "2026-11-19", "--no-verify") == 0
    other = tmp_path / "other.pub"
    other.write_text(Signer.generate("x").verifier.text() + "\n")
    assert report((directory, other), "--day", "2026-11-19") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--day", "2026-11-19", "--since", "2d"), "give --day, or"),
        (("--until", "2d"), "needs --since"),
        (("--since", "1d", "--until", "2d"), "is not before"),
        (("--since", "1d", "-o", "/nowhere/report"), "cannot be written"),
    ],
)
def test_misuse(record, capsys, arguments, said):
    assert report(record, *arguments) == 1
    assert said in capsys.readouterr().err
