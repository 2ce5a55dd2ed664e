"""Notes of who read the record, between who leaves them and the gateway that takes them."""

import json
import os
import stat
import time

import pytest

from pangate.audit import inbox, pan_mask
from pangate.audit.codes import CODES
from pangate.audit.inbox import Inbox, inbox_of, leave
from pangate.errors import LedgerError, RecordFailed


@pytest.fixture
def box(tmp_path):
    return Inbox(tmp_path / "audit.jsonl.inbox")


def taken(box, most=10):
    found = []
    for _ in range(most):
        box.take(lambda *event: found.append(event))
        box.done()
    return found


def note(box, **more):
    leave(box.path, "search", {"words": ["drop"], "limit": 3, **more}, pan_mask())


def test_a_note_becomes_an_event_once(box):
    note(box)
    ((code, who, success, data),) = taken(box)
    assert (code, success) == ("audit.read", True)
    assert who.startswith("unix:")
    assert data["command"] == "search"
    assert data["asked"] == {"words": "drop", "limit": 3}
    assert data["uid"] == os.geteuid()
    assert list(box.path.iterdir()) == []
    assert taken(box) == []


@pytest.mark.parametrize(
    ("command", "asked", "code"),
    [
        ("hold", {"action": "add", "name": "case"}, "audit.hold_placed"),
        ("hold", {"action": "release", "name": "case"}, "audit.hold_released"),
        ("hold", {"action": "list"}, "audit.read"),
        ("hold", {"action": None}, "audit.read"),
        ("retain", {"keep_days": 366}, "audit.retention_applied"),
        ("export", {"out": "q4.zip"}, "audit.exported"),
        ("export", {"action": "add"}, "audit.read"),
        ("search", {"action": "add"}, "audit.read"),
    ],
)
def test_who_decides_what_becomes_of_the_record_has_a_code_for_it(box, command, asked, code):
    leave(box.path, command, asked, pan_mask())
    ((found, _, success, data),) = taken(box)
    assert (found, success) == (code, True)
    assert data["asked"] == asked
    assert code in CODES


def test_where_and_with_which_modes(box, tmp_path):
    assert inbox_of(tmp_path / "audit.jsonl") == box.path
    assert stat.S_IMODE(box.path.stat().st_mode) == 0o700
    note(box)
    (file,) = box.path.iterdir()
    assert file.suffix == ".note"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_no_card_number_is_in_a_note(box):
    note(box, text="4111111111111111", more=["x 4111111111111111"])
    (file,) = box.path.iterdir()
    assert b"4111111111111111" not in file.read_bytes()
    assert file.read_bytes().count(b"************1111") == 2


def test_it_is_removed_only_when_it_is_written(box):
    note(box)
    found = []
    assert box.take(lambda *event: found.append(event)) == 1
    assert box.take(lambda *event: found.append(event)) == 0, "it is not given twice"
    assert len(list(box.path.iterdir())) == 1
    box.done()
    assert list(box.path.iterdir()) == []
    assert len(found) == 1


def test_one_that_the_record_does_not_take_stays(box):
    note(box)

    def full(*event):
        raise RecordFailed("no room")

    with pytest.raises(RecordFailed):
        box.take(full)
    box.done()
    assert len(taken(box)) == 1


def test_many_are_taken_in_pieces(box, monkeypatch):
    monkeypatch.setattr(inbox, "AT_A_TIME", 3)
    for _ in range(7):
        note(box)
    assert box.take(lambda *event: None) == 3
    assert len(taken(box)) == 4


def test_a_full_inbox_refuses(box, monkeypatch):
    monkeypatch.setattr(inbox, "MOST_WAITING", 2)
    note(box)
    note(box)
    with pytest.raises(LedgerError, match="start the gateway"):
        note(box)


def test_a_long_question_is_cut(box):
    note(box, words=["x" * 10_000])
    ((_, _, success, data),) = taken(box)
    assert success
    assert data["asked"]["too_long"] > 10_000
    assert data["asked"]["words"] == "x" * 60


def test_a_long_reason_hides_nothing_of_what_was_done(box):
    asked = {"action": "release", "name": "case-1", "reason": "\U0001f4b3\0" * 9000}
    leave(box.path, "hold", asked, pan_mask())
    found = []
    box.take(lambda *event: found.append(event))
    ((code, _, success, data),) = found
    assert (code, success) == ("audit.hold_released", True)
    assert (data["asked"]["action"], data["asked"]["name"]) == ("release", "case-1")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"command": "search"}',
        b'{"command": 1, "asked": {}, "read_at": ""}',
        b'{"command": "x", "asked": [], "read_at": ""}',
        b'{"command": "x", "asked": {"a": {"b": 1}}, "read_at": ""}',
        b'{"command": "x", "asked": {}, "read_at": "", "principal": "root"}',
        b'{"command": "x", "asked": {}, "read_at": "' + b"x" * 9000 + b'"}',
        b"\xff\xfe",
        b"[" * 5000,
    ],
)
def test_what_is_no_note_is_told_and_removed(box, data):
    (box.path / "abc.note").write_bytes(data)
    ((code, who, success, found),) = taken(box)
    assert (code, success) == ("audit.note_refused", False)
    assert who.startswith("unix:")
    assert len(json.dumps(found)) < 300
    assert list(box.path.iterdir()) == []


def test_links_pipes_and_odd_names(box, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('{"command": "x", "asked": {}, "read_at": ""}')
    (box.path / "link.note").symlink_to(secret)
    os.mkfifo(box.path / "pipe.note")
    (box.path / "4111 1.note").write_text("x")
    assert [event[0] for event in taken(box)] == ["audit.note_refused"] * 3
    assert secret.exists()
    assert list(box.path.iterdir()) == []


def test_what_was_never_finished_is_removed_in_the_end(box):
    file = box.path / "abc.new"
    file.write_text("{")
    assert taken(box) == []
    assert file.exists()
    old = time.time() - 2 * inbox.ABANDONED_SECONDS
    os.utime(file, (old, old))
    assert taken(box) == []
    assert not file.exists()


def test_what_cannot_be_removed_is_not_recorded_again_and_again(box):
    (box.path / "dir.note").mkdir()
    assert len(taken(box)) == 1


def test_an_inbox_that_is_not_there_says_who_makes_it(tmp_path):
    with pytest.raises(LedgerError, match="the gateway makes it when it starts"):
        leave(tmp_path / "none", "search", {}, pan_mask())


def test_an_inbox_for_everybody_is_none(tmp_path):
    (tmp_path / "a.inbox").mkdir()
    (tmp_path / "a.inbox").chmod(0o777)
    with pytest.raises(RecordFailed) as caught:
        Inbox(tmp_path / "a.inbox")
    assert "mode 0777" in caught.value.detail
    (tmp_path / "b.inbox").touch()
    with pytest.raises(RecordFailed) as caught:
        Inbox(tmp_path / "b.inbox")
    assert "not a directory" in caught.value.detail


@pytest.mark.parametrize("words", [["4111", "1111", "1111", "1111"], ["41111111", "11111111"]])
def test_no_card_number_is_in_several_words(box, words):
    note(box, words=words)
    (file,) = box.path.iterdir()
    assert b"1111" in file.read_bytes()
    assert b"4111" not in file.read_bytes()
    ((*_, data),) = taken(box)
    assert "4111" not in data["asked"]["words"]


def test_a_note_of_a_stranger_is_one_text_too(box):
    """Who left it need not have masked anything: the record masks texts, each by itself."""
    asked = {"words": ["4111", "1111", "1111", "1111"]}
    told = {"command": "search", "asked": asked, "read_at": "t"}
    (box.path / "abcdefgh.note").write_text(json.dumps(told))
    ((*_, data),) = taken(box)
    assert data["asked"] == {"words": "4111 1111 1111 1111"}


def test_a_directory_in_the_place_of_a_note_goes(box):
    (box.path / "abcdefgh.note").mkdir()
    ((code, *_),) = taken(box)
    assert code == "audit.note_refused"
    assert list(box.path.iterdir()) == []
