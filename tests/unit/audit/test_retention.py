"""Events that are taken away on purpose, under tombstones: what verify accepts, and all that it does not."""

import contextlib
import json
import os
import random
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

import ledgers
from pangate import cli
from pangate.audit.events import events
from pangate.audit.holds import HOLDS, change, history, moment
from pangate.audit.index import Index, Query, Record
from pangate.audit.index.source import Position
from pangate.audit.lines import lines, open_record
from pangate.audit.reader import Ledger
from pangate.audit.retention import Retention
from pangate.audit.sealer import POSITION, Sealer
from pangate.audit.tombstones import TOMBSTONES
from pangate.audit.verify import verify
from pangate.audit_cli.retain import retain
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.note import Signer
from pangate.ledger.statement import EXPORT, HOLD, KEYS, TOMBSTONE, open_statement, sign

# the events of ledgers.py are of 2026-11-25, one a second
NOW = datetime(2027, 11, 28, tzinfo=UTC)
SOON = datetime(2026, 11, 30, tzinfo=UTC)
KEY = ledgers.SIGNER

DAY = 86_400


def leaf(number, **more):
    """Events from 0 to 999 are of the first day, the later ones of 400 days later."""
    day = "2025-11-25" if number <= 1000 else "2026-12-30"
    found = json.loads(ledgers.event(number, **more))
    found["time"] = day + found["time"][10:]
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode()


@pytest.fixture
def made(tmp_path):
    """A ledger with recordings and long texts, as a sealer makes it, and the record beside it."""
    directory = tmp_path / "ledger"
    directory.mkdir(mode=0o700)
    leaves = [leaf(number) for number in range(1, 1501)]
    files = {}

    def names(at, name, **more):
        (file, data), claim = ledgers.recording(name, f"of {name}".encode() * 100)
        files[file] = data
        found = json.loads(leaf(at, **{**claim, **more}))
        found["code"] = "session.recording"
        leaves[at - 1] = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()

    def long(at, text):
        data = text.encode() * 100
        (_, claim) = ledgers.recording("x", data)
        files[f"large/{claim['digest']}"] = data
        leaves[at - 1] = leaf(at, large={"bytes": len(data), "digest": claim["digest"]})

    names(100, "sessions/2025-11-25/old.rec")
    names(900, "sessions/2025-11-25/late.rec")
    names(1200, "sessions/2026-12-30/new.rec")
    long(101, "an old text")
    long(102, "a text of then and of now")
    long(1201, "a text of then and of now")
    ledgers.write(directory, files)
    for path in files:
        os.utime(directory / path, (1_700_000_000, 1_700_000_000))
    record = directory / "audit.jsonl"
    record.touch(0o600)
    record.write_bytes(b"".join(one + b"\n" for one in leaves))
    with contextlib.closing(Sealer(record, directory, KEY)) as sealer:
        sealer.seal()
    key = directory / "audit.jsonl.key"
    key.touch(0o600)
    key.write_text(KEY.private_text())
    assert verify(directory, ledgers.KEYS).ok
    return directory, leaves


def apply(directory, now=NOW, days=366):
    return retain(directory / "audit.jsonl", directory, lambda: KEY, days, now, apply=True)


def told(directory, **options):
    return [(item.kind, item.where) for item in verify(directory, ledgers.KEYS, **options).findings]


def test_what_is_old_goes_and_the_tree_stays(made, capsys):
    directory, leaves = made
    record = directory / "audit.jsonl"
    before = record.stat()
    arguments = (record, directory, lambda: KEY, 366, NOW)
    assert retain(*arguments, apply=False) == 0
    shown = capsys.readouterr().out
    assert "768 events" in shown
    assert "nothing was taken away" in shown
    assert (directory / "tile/entries/000").exists()
    assert apply(directory) == 0
    assert "retired the events 1 to 768" in capsys.readouterr().out
    report = verify(directory, ledgers.KEYS)
    assert report.ok, report.findings
    assert (report.retired, report.events, report.size) == (768, 732, 1500)
    assert (
        "the events 1 to 768 (2025-11-25 to 2025-11-25) and 2 files were retired"
        in (report.tombstones[0])
    )
    # what was taken away is in no file any more
    rest = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert leaves[0] not in rest
    assert leaves[767] not in rest
    assert leaves[768] in rest
    assert b"an old text" not in rest
    assert not (directory / "sessions/2025-11-25/old.rec").exists()
    assert (directory / "sessions/2025-11-25/late.rec").exists(), "its event stays"
    assert b"a text of then and of now" in rest, "an event that stays names it"
    # no offset has changed, and the room is free
    after = record.stat()
    assert after.st_size == before.st_size
    assert after.st_blocks < before.st_blocks
    fd = open_record(record)
    assert [line for _, line in lines(fd)] == leaves[768:]
    os.close(fd)
    assert [event["sequence"] for event in events(record)] == list(range(769, 1501))
    # proofs of what stays hold as before
    assert Ledger(directory).prove(900).extra == leaves[900]
    assert apply(directory) == 0
    assert "0 events" in capsys.readouterr().out


@pytest.mark.parametrize("position", [True, False])
def test_the_sealer_goes_on(made, position):
    directory, leaves = made
    apply(directory)
    record = directory / "audit.jsonl"
    if not position:
        (directory / POSITION).unlink()
    more = [leaf(number) for number in range(1501, 2001)]
    with record.open("ab") as file:
        file.write(b"".join(one + b"\n" for one in more))
    with contextlib.closing(Sealer(record, directory, KEY)) as sealer:
        assert sealer.seal().size == 2000
    report = verify(directory, ledgers.KEYS)
    assert report.ok, report.findings
    assert list(Ledger(directory).leaves(768)) == [*leaves[768:], *more]


def test_the_last_events_never_go(made):
    directory, _ = made
    apply(directory, datetime(2030, 1, 1, tzinfo=UTC))
    report = verify(directory, ledgers.KEYS)
    assert report.ok, report.findings
    assert report.retired == 1280


def test_nothing_is_old_enough(made, capsys):
    directory, _ = made
    assert apply(directory, datetime(2026, 11, 20, tzinfo=UTC)) == 0
    assert not (directory / TOMBSTONES).exists()
    assert "0 events" in capsys.readouterr().out


def test_a_ledger_that_does_not_verify_is_left_alone(made):
    directory, _ = made
    path = directory / "tile/entries/001"
    path.write_bytes(path.read_bytes().replace(b"select", b"SELECT", 1))
    with pytest.raises(LedgerError, match=r"does not verify \(edited"):
        apply(directory)
    assert (directory / "tile/entries/000").exists()


def test_a_record_that_was_changed_is_left_alone(made):
    directory, leaves = made
    record = directory / "audit.jsonl"
    data = record.read_bytes()
    record.write_bytes(data.replace(leaves[10], leaves[10].replace(b"select", b"SELECT")))
    with pytest.raises(LedgerError, match="event 11 is not the one that is sealed"):
        apply(directory)
    assert (directory / "tile/entries/000").exists()
    record.write_bytes(data)
    apply(directory)
    report = verify(directory, ledgers.KEYS)
    assert report.ok, report.findings
    assert report.notices == []
    assert report.retired == 768


@pytest.mark.parametrize("step", range(1, 8))
def test_a_crash_at_any_step(made, monkeypatch, step):
    """What was begun is finished, and verify has nothing to find in between."""
    directory, leaves = made
    count = 0

    def breaking(real):
        def call(*arguments, **more):
            nonlocal count
            count += 1
            if count == step:
                raise LedgerError("the power is gone")
            return real(*arguments, **more)

        return call

    for name in ("_punch", "write_whole"):
        monkeypatch.setattr(
            f"pangate.audit.retention.{name}",
            breaking(getattr(__import__("pangate.audit.retention", fromlist=[name]), name)),
        )
    monkeypatch.setattr(Path, "unlink", breaking(Path.unlink))
    with contextlib.suppress(LedgerError):
        apply(directory)
    monkeypatch.undo()
    report = verify(directory, ledgers.KEYS)
    assert report.ok, report.findings
    apply(directory)
    report = verify(directory, ledgers.KEYS)
    assert report.ok, report.findings
    assert report.retired == 768
    rest = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert leaves[0] not in rest
    assert b"an old text" not in rest


# --- what verify does not accept ------------------------------------------------------------------


def only(directory):
    (found,) = (directory / TOMBSTONES).glob("*.note")
    return found


def test_without_its_tombstone_a_bundle_is_missing(made):
    directory, _ = made
    apply(directory)
    only(directory).unlink()
    missing = [("bundle", f"tile/entries/00{number}") for number in range(3)]
    assert sorted(told(directory)) == [*missing, ("journal", "audit.jsonl")]


def test_what_a_tombstone_is_not_over_is_missing(made):
    directory, _ = made
    apply(directory)
    (directory / "tile/entries/003").unlink()
    assert ("bundle", "tile/entries/003") in told(directory)


def test_a_missing_hash_under_a_tombstone(made):
    directory, _ = made
    apply(directory)
    (directory / "tile/0/001").unlink()
    assert ("tree", "tile/0/001") in told(directory)


def test_a_kept_recording_is_missing(made):
    directory, _ = made
    apply(directory)
    (directory / "sessions/2025-11-25/late.rec").unlink()
    assert ("file", "sessions/2025-11-25/late.rec") in told(directory)


def values_of(note):
    return open_statement(TOMBSTONE, note, ledgers.KEYS)


@pytest.mark.parametrize(
    ("change_", "wrong"),
    [
        ({"first": 256}, "over other leaves"),
        ({"end": 1024}, "over other leaves"),
        ({"end": 2560}, "which the ledger has not"),
        ({"end": 700}, "not over whole bundles"),
        ({"end": 0}, "not over whole bundles"),
        ({"tree": "aa" * 32}, "over other leaves"),
        ({"list": "aa" * 32}, "another list of files"),
        ({"origin": "example.com/other"}, "which has not signed it"),
        ({"first": "x"}, "no whole number"),
        ({"keep_days": 4000}, "days old, and 4000 were to be kept"),
        ({"newest": "2027-06-01T00:00:00.000000Z"}, "days old, and 366 were to be kept"),
        ({"time": "2026-01-01T00:00:00.000000Z"}, "days old, and 366 were to be kept"),
        ({"time": "soon"}, "times that cannot be read"),
        ({"holds": 3}, "it was cut"),
        ({"held": "aa"}, "it was cut"),
    ],
)
def test_tombstones_that_the_log_has_signed_and_that_do_not_hold(made, change_, wrong):
    directory, _ = made
    apply(directory)
    path = only(directory)
    path.write_bytes(sign(TOMBSTONE, {**values_of(path.read_bytes()), **change_}, KEY))
    report = verify(directory, ledgers.KEYS)
    assert "tombstone" in {item.kind for item in report.findings}
    assert any(wrong in item.message for item in report.findings), report.findings


def test_a_tombstone_by_another_key(made):
    directory, _ = made
    apply(directory)
    path = only(directory)
    other = Signer(ledgers.ORIGIN, 1, bytes(32))
    path.write_bytes(sign(TOMBSTONE, values_of(path.read_bytes()), other))
    assert told(directory)[0][0] == "tombstone"
    assert ("bundle", "tile/entries/000") in told(directory)


def test_a_tombstone_of_another_history(made, tmp_path):
    """The holder of the key makes another history; a tombstone of the first is not over its leaves."""
    directory, leaves = made
    apply(directory)
    other = [leaf(1, text="another"), *leaves[1:]]
    elsewhere = ledgers.write(tmp_path / "other", ledgers.files_of(other))
    shutil.copytree(directory / TOMBSTONES, elsewhere / TOMBSTONES)
    for number in range(3):
        (elsewhere / f"tile/entries/00{number}").unlink()
    kinds = [kind for kind, _ in told(elsewhere)]
    assert kinds.count("tombstone") == 1
    assert kinds.count("bundle") == 3


def test_any_changed_byte_of_a_tombstone_is_noticed(made):
    directory, _ = made
    apply(directory)
    chance = random.Random(11)
    for path in (only(directory), only(directory).with_suffix(".files")):
        data = path.read_bytes()
        for _ in range(150):
            at = chance.randrange(len(data))
            path.write_bytes(
                data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
            )
            assert told(directory), f"{path.name} byte {at}"
        path.write_bytes(data)
    assert not told(directory)


def test_no_statement_is_one_of_another_kind():
    values = dict.fromkeys({key for keys in KEYS.values() for key in keys}, "1")
    values["origin"] = ledgers.ORIGIN
    notes = {kind: sign(kind, values, KEY) for kind in KEYS}
    for kind, note in notes.items():
        assert open_statement(kind, note, ledgers.KEYS)["origin"] == ledgers.ORIGIN
        for other in {TOMBSTONE, HOLD, EXPORT} - {kind}:
            with pytest.raises(LedgerError, match="it is no"):
                open_statement(other, note, ledgers.KEYS)
        with pytest.raises(LedgerError):
            Checkpoint.parse(note.decode().partition("\n\n")[0] + "\n")
        with pytest.raises(LedgerError, match="it is no"):
            open_statement(kind, ledgers.note_of([b"x"]), ledgers.KEYS)
    with pytest.raises(LedgerError, match="control character"):
        sign(HOLD, {**values, "reason": "two\nlines"}, KEY)


# --- holds ----------------------------------------------------------------------------------------


def hold(directory, name="case-7", action="add", **given):
    change(directory, KEY, ledgers.KEYS, action, name, given, "a court asks", "ann", SOON)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"session": "s3"}, 768),
        ({"principal": "reports@example.com"}, 768),
        ({"principal": "nobody@example.com"}, 0),
        ({"from": moment("2025-11-25"), "to": moment("2025-11-25", end=True)}, 768),
        ({"from": "2025-11-25T00:05:00.000000Z", "to": "2025-11-25T00:06:00.000000Z"}, 256),
        ({"to": moment("2025-11-24", end=True)}, 0),
        ({"from": moment("2026-01-01")}, 0),
    ],
)
def test_what_is_held_stays(made, given, kept, capsys):
    directory, leaves = made
    hold(directory, **given)
    apply(directory)
    report = verify(directory, ledgers.KEYS)
    assert report.ok, report.findings
    assert report.retired == 768 - kept
    if kept:
        assert f"kept by holds: {kept} events" in capsys.readouterr().out
    if kept == 256:
        # a hole before and behind what is held: the index is of what stays
        record = Record(directory / "audit.jsonl")
        found = [(line.sequence, line.data) for line in record.lines(Position())]
        assert found == [
            (number, leaves[number - 1]) for number in (*range(257, 513), *range(769, 1501))
        ]
        assert record.missing >= 256
        index = Index(record)
        assert index.catch_up() == 256 + 732
        assert len(index.search(Query(), None)) == 256 + 732
        assert Ledger(directory).leaf(300) == leaves[300]
        assert [event["sequence"] for event in events(directory / "audit.jsonl")] == [
            *range(257, 513), *range(769, 1501)
        ]  # fmt: skip
    hold(directory, action="release")
    apply(directory)
    report = verify(directory, ledgers.KEYS)
    assert report.ok, report.findings
    assert report.retired == 768


def test_the_file_of_holds(made):
    directory, _ = made
    for name in ("a", "b", "c"):
        hold(directory, name, session=name)
    hold(directory, "b", "release")
    held = history(directory, ledgers.ORIGIN, ledgers.KEYS)[-1]
    assert list(held.active) == ["a", "c"]
    assert held.entries == 4
    with pytest.raises(LedgerError, match='there is a hold "a" already'):
        hold(directory, "a", session="x")
    with pytest.raises(LedgerError, match='there is no hold "b"; there is a, c'):
        hold(directory, "b", "release")
    path = directory / HOLDS
    whole = path.read_bytes().splitlines(keepends=True)
    for changed in (
        whole[1:],
        [whole[0], *whole[2:]],
        [whole[1], whole[0], *whole[2:]],
        [*whole, whole[-1]],
        [*whole[:-1], whole[-1][:-20] + b"\n"],
        [whole[0].replace(b"a court asks", b"nobody asked"), *whole[1:]],
        [b"{}\n", *whole],
    ):
        path.write_bytes(b"".join(changed))
        assert told(directory) == [("hold", HOLDS)]
        with pytest.raises(LedgerError, match=r"does not verify \(hold"):
            apply(directory)
    path.write_bytes(b"".join(whole))
    assert not told(directory)


def test_holds_that_were_cut_off_before_retiring_show(made, tmp_path):
    """Somebody cuts the hold off, retires, and puts it back; or leaves it off."""
    directory, _ = made
    hold(directory, "x", session="nothing")
    before = (directory / HOLDS).read_bytes()
    window = {"from": "2025-11-25T00:05:00.000000Z", "to": "2025-11-25T00:06:00.000000Z"}
    hold(directory, **window)
    after = (directory / HOLDS).read_bytes()
    apply(directory)
    assert not told(directory)
    (directory / HOLDS).write_bytes(before)
    assert {kind for kind, _ in told(directory)} == {"tombstone"}, "it was cut since"
    (directory / HOLDS).write_bytes(after)
    # a log that signs what is held nevertheless
    path = min((directory / TOMBSTONES).glob("*.note"))
    values = {**values_of(path.read_bytes()), "newest": "2025-11-25T00:05:30.000000Z"}
    path.write_bytes(sign(TOMBSTONE, values, KEY))
    report = verify(directory, ledgers.KEYS)
    assert any('which the hold "case-7" kept' in item.message for item in report.findings)


def test_times():
    assert moment("2026-11-29") == "2026-11-29T00:00:00.000000Z"
    assert moment("2026-11-29", end=True) == "2026-11-30T00:00:00.000000Z"
    assert moment("2026-11-29T13:00:00+02:00", end=True) == "2026-11-29T11:00:00.000000Z"
    with pytest.raises(LedgerError, match="is no time"):
        moment("yesterday")


def test_where_a_file_system_has_no_holes(made, monkeypatch, capsys):
    directory, leaves = made

    class NoHoles:
        def __getattr__(self, name):
            import ctypes
            import errno

            def call(*_):
                ctypes.set_errno(errno.EOPNOTSUPP)
                return -1

            return call

    monkeypatch.setattr("pangate.audit.retention.ctypes.CDLL", lambda *_, **__: NoHoles())
    apply(directory)
    assert "has no holes" in capsys.readouterr().out
    data = (directory / "audit.jsonl").read_bytes()
    assert data.startswith(b"\0" * 1000)
    assert leaves[0] not in data
    assert next(event["sequence"] for event in events(directory / "audit.jsonl")) == 769


def test_one_at_a_time(made):
    import fcntl

    directory, _ = made
    retention = Retention(directory, directory / "audit.jsonl", ledgers.KEYS)
    held = history(directory, ledgers.ORIGIN, ledgers.KEYS)[-1]
    plan = retention.plan(366, NOW, held)
    with (directory / "retain.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match="somebody else retires"):
            list(retention.apply(plan, KEY, 366, held, "ann", NOW))


def test_nothing_that_is_gone_stays_in_the_index(made, capsys):
    directory, leaves = made
    said = []
    index = Index(Record(directory), notice=said.append)
    assert index.catch_up() == 1500
    assert len(index.search(Query(text='"select 5 from"'), 5)) == 1
    before = index.path.read_bytes()
    assert apply(directory) == 0
    assert index.catch_up() == 0, "it was made anew"
    assert index.search(Query(text='"select 5 from"'), 5) == []
    index.path.write_bytes(before)  # as if whoever retired them had not done so
    index = Index(Record(directory), notice=said.append)
    assert index.catch_up() == 732
    assert ["events that were retired since" in one for one in said] == [True]
    assert index.search(Query(text='"select 5 from"'), 5) == []
    (hit,) = index.search(Query(after=799, before=801), 5)
    assert index.record.line(hit.sequence, hit.offset) == leaves[799]
    assert index.catch_up() == 0
    assert len(said) == 1
    capsys.readouterr()
    arguments = ["--since", "2025-11-01", "--until", "2027-01-31", "--directory", str(directory)]
    assert cli.main(["audit", "report", *arguments]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"gaps\s+(state: +)?none", shown), "what was retired is no gap"
