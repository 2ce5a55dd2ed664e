"""The sealer: the ledger it makes is the one that the format says, whatever comes between."""

import json
import os
import random
from pathlib import Path

import pytest

import ledgers
from leaves import with_check
from pangate.audit import sealer as module
from pangate.audit.lines import sequence_of
from pangate.audit.marks import Marker
from pangate.audit.reader import Ledger
from pangate.audit.sealer import POSITION, Sealer
from pangate.audit.verify import verify
from pangate.errors import LedgerError
from pangate.ledger.note import Signer
from pangate.ledger.rotation import name_of

KEY = ledgers.SIGNER


@pytest.fixture
def journal(tmp_path):
    tmp_path.chmod(0o700)
    path = tmp_path / "audit.jsonl"
    path.touch(mode=0o600)
    return path


def write(path, leaves):
    with path.open("ab") as file:
        file.write(b"".join(leaf + b"\n" for leaf in leaves))


def seal(path, key=KEY):
    sealer = Sealer(path, path.parent, key)
    try:
        return sealer.seal()
    finally:
        sealer.close()


def expect(path, leaves):
    """The directory holds what the format says of these leaves, and verifies."""
    for name, data in ledgers.tiles_of(leaves).items():
        assert (path.parent / name).read_bytes() == data, name
    assert (path.parent / "checkpoint").read_bytes() == ledgers.note_of(leaves)
    report = verify(path.parent, ledgers.KEYS)
    assert [(item.kind, item.where) for item in report.findings] == []
    assert report.events == len(leaves)


def test_what_the_gateway_may_have_to_write_again_is_not_sealed(journal):
    leaves = ledgers.events(10)
    write(journal, leaves)
    marker, sealer = Marker(journal), Sealer(journal, journal.parent, KEY)
    for sure in (0, 3, 3, 7):
        marker.put(sum(len(leaf) + 1 for leaf in leaves[:sure]), sure)
        sealer.seal(marked=True)
        assert sealer.size == sure
    sealer.seal()
    sealer.close()
    marker.close()
    expect(journal, leaves)


def test_a_line_that_is_not_what_was_written_is_not_sealed(journal):
    leaf = with_check(ledgers.event(1).replace(b'"v":2', b'"v":3'))
    write(journal, [leaf.replace(b"payments", b"paymemts")])
    with pytest.raises(LedgerError, match="somebody else wrote there"):
        seal(journal)


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 700, 66_000])
def test_a_ledger_at_once(journal, count):
    leaves = ledgers.events(count)
    write(journal, leaves)
    assert seal(journal).size == count
    expect(journal, leaves)


def test_a_ledger_that_grows_over_many_starts(journal):
    chance, leaves = random.Random(20_261_125), []
    while len(leaves) < 1500:
        new = ledgers.events(chance.choice((1, 3, 17, 250, 256, 300)), len(leaves) + 1)
        leaves += new
        write(journal, new)
        assert seal(journal).size == len(leaves)
        assert seal(journal) is None, "there was nothing new"
        if chance.random() < 0.3:
            (journal.parent / POSITION).unlink()  # a crash between the checkpoint and this
    expect(journal, leaves)


def test_one_sealer_that_lives_long(journal):
    sealer, leaves = Sealer(journal, journal.parent, KEY), []
    for count in (1, 254, 1, 1, 300, 2):
        new = ledgers.events(count, len(leaves) + 1)
        leaves += new
        write(journal, new)
        assert sealer.seal().size == len(leaves)
    sealer.close()
    expect(journal, leaves)


def test_a_line_that_is_not_whole_is_not_sealed(journal):
    leaves = ledgers.events(3)
    write(journal, leaves[:2])
    with journal.open("ab") as file:
        file.write(leaves[2][:-1])
    assert seal(journal).size == 2
    with journal.open("ab") as file:
        file.write(leaves[2][-1:] + b"\n")
    assert seal(journal).size == 3
    expect(journal, leaves)


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ([ledgers.event(1), ledgers.event(3)], "the event 2"),
        ([ledgers.event(1), ledgers.event(1)], "the event 2"),
        ([ledgers.event(2)], "the event 1"),
        ([b"somebody wrote this"], "the event 1"),
        ([b""], "the event 1"),
    ],
)
def test_what_is_not_the_next_event_is_not_sealed(journal, lines, wrong):
    write(journal, lines)
    with pytest.raises(LedgerError, match=wrong):
        seal(journal)


@pytest.mark.parametrize("position", [True, False])
@pytest.mark.parametrize("line", [0, 150, 299])
def test_a_file_that_was_changed_is_noticed_at_the_next_start(journal, line, position):
    leaves = ledgers.events(300)
    write(journal, leaves)
    seal(journal)
    changed = [*leaves]
    changed[line] = changed[line].replace(b"payments", b"somebody")
    journal.write_bytes(b"".join(leaf + b"\n" for leaf in changed))
    if not position:
        (journal.parent / POSITION).unlink()
    if position and line != 299:
        # in between it is the verifier who sees it: what is sealed is in the tiles
        assert seal(journal) is None
    else:
        with pytest.raises(LedgerError, match=f"line {line + 1} of"):
            seal(journal)
    found = verify(journal.parent, ledgers.KEYS).findings
    assert [(one.kind, one.sequence) for one in found] == [("journal", line + 1)]


def test_a_file_that_was_cut(journal):
    leaves = ledgers.events(300)
    write(journal, leaves)
    seal(journal)
    journal.write_bytes(b"".join(leaf + b"\n" for leaf in leaves[:250]))
    with pytest.raises(LedgerError, match="does not have the 300 events"):
        seal(journal)


def test_tiles_that_were_changed(journal):
    write(journal, ledgers.events(300))
    seal(journal)
    tile = journal.parent / "tile/1/000.p/1"
    tile.write_bytes(bytes(32))
    with pytest.raises(LedgerError, match="not the tree that was signed"):
        seal(journal)


@pytest.mark.parametrize(
    ("garbage", "says"),
    [
        (b"x\n", "two public keys and two signatures"),
        (b"\xff\xfe\n", "can't decode"),
        (b"a+1+b c+2+d e f\n", "log.rotations"),
        (None, "Is a directory"),
    ],
)
def test_a_list_of_rotations_that_cannot_be_read_does_not_end_sealing(journal, garbage, says):
    """Whoever may write it could stop the record from being sealed for good."""
    leaves = ledgers.events(4)
    write(journal, leaves[:2])
    seal(journal)
    write(journal, leaves[2:])
    rotations = journal.parent / "log.rotations"
    if garbage is None:
        rotations.mkdir()
    else:
        rotations.write_bytes(garbage)
    new = Signer.generate(ledgers.ORIGIN)
    sealer = Sealer(journal, journal.parent, new)
    assert "cannot be read" in sealer.broken_succession
    assert says in sealer.broken_succession
    assert sealer.seal().size == 4
    sealer.close()
    found = verify(journal.parent, [KEY.verifier, new.verifier]).findings
    assert [(one.kind, one.where) for one in found] == [("key", "log.rotations")]


def test_another_key(journal, tmp_path):
    leaves = ledgers.events(4)
    write(journal, leaves[:2])
    seal(journal)
    write(journal, leaves[2:])
    with pytest.raises(LedgerError, match="a key is for one ledger"):
        seal(journal, Signer.generate("example.com/other"))
    new = Signer.generate(ledgers.ORIGIN)
    sealer = Sealer(journal, journal.parent, new)
    assert "which has not handed over to" in sealer.broken_succession
    sealer.close()
    assert seal(journal, new).size == 4
    sealer = Sealer(journal, journal.parent, new)
    assert not sealer.broken_succession
    with pytest.raises(LedgerError, match="make another one"):
        sealer.hand_over(new)
    with pytest.raises(LedgerError, match="make another one"):
        sealer.hand_over(Signer.generate("example.com/other"))
    sealer.close()
    text = (journal.parent / "log.pub").read_text()
    assert text == f"{KEY.verifier.text()}\n{new.verifier.text()}\n"
    assert verify(journal.parent, [KEY.verifier, new.verifier]).ok
    assert not verify(journal.parent, [KEY.verifier]).ok


def test_what_could_not_be_written_is_written_later(journal):
    sealer, leaves = Sealer(journal, journal.parent, KEY), ledgers.events(300)
    write(journal, leaves)
    blocked = journal.parent / "tile"
    blocked.write_bytes(b"in the way")
    with pytest.raises((LedgerError, OSError)):
        sealer.seal()
    blocked.unlink()
    assert sealer.seal().size == 300
    sealer.close()
    expect(journal, leaves)


def test_two_at_a_time(journal, monkeypatch):
    monkeypatch.setattr("pangate.audit.sealer.LOCK_SECONDS", 0.1)
    first = Sealer(journal, journal.parent, KEY)
    with pytest.raises(LedgerError, match="sealed by another process"):
        Sealer(journal, journal.parent, KEY)
    first.close()
    Sealer(journal, journal.parent, KEY).close()


def test_an_event_from_before_there_was_a_bound(journal):
    write(journal, [*ledgers.events(2), ledgers.event(3, text="x" * 70_000)])
    with pytest.raises(LedgerError, match=r"the event 3 has .* begin a new file"):
        seal(journal)


def test_the_reader_has_every_event(journal):
    leaves = ledgers.events(513)
    write(journal, leaves)
    seal(journal)
    ledger = Ledger(journal.parent)
    assert list(ledger.leaves()) == leaves
    assert json.loads(ledger.leaf(400))["sequence"] == 401


def test_an_event_that_has_another_sequence_in_its_data(journal):
    """Somebody's note may have any names in it."""
    forged = ledgers.event(2, asked={"sequence": 999_999_999, "session": "x"})
    leaves = [ledgers.event(1), forged, ledgers.event(3)]
    assert [sequence_of(leaf) for leaf in leaves] == [1, 2, 3]
    write(journal, leaves)
    assert seal(journal).size == 3
    expect(journal, leaves)


@pytest.mark.parametrize("rotating", [False, True])
def test_a_checkpoint_that_could_not_be_written(journal, monkeypatch, rotating):
    """It is written the next time, though nothing is new, and a key that was to take over does."""
    following = Signer.generate(KEY.verifier.name)
    sealer = Sealer(journal, journal.parent, KEY)
    write(journal, [ledgers.event(1)])
    sealer.seal()
    event = ledgers.event(2)
    if rotating:
        rotation = sealer.hand_over(following)
        event = ledgers.event(2, "key.rotated", new=name_of(rotation.new))
        # its words in the data of another event are nothing
        write(
            journal, [ledgers.event(2, text='"code":"key.rotated" "new":"' + name_of(rotation.new))]
        )
        sealer.seal()
        assert sealer.signer is KEY
        event = ledgers.event(3, "key.rotated", new=name_of(rotation.new))
    write(journal, [event])
    right = module.write_whole

    def fails(path, data):
        if path.name == "checkpoint":
            raise LedgerError("no room")
        right(path, data)

    monkeypatch.setattr(module, "write_whole", fails)
    with pytest.raises(LedgerError, match="no room"):
        sealer.seal()
    monkeypatch.setattr(module, "write_whole", right)
    checkpoint = sealer.seal()
    assert checkpoint is not None
    assert checkpoint.size == sealer.size
    assert Ledger(journal.parent).size == checkpoint.size
    assert (sealer.signer is following) == rotating
    assert sealer.seal() is None
    sealer.close()


@pytest.mark.parametrize("pieces", [(1, 255, 256), (255, 2, 600), (256, 256), (700, 12, 512, 1)])
def test_whole_bundles_and_single_leaves_make_one_tree(journal, pieces):
    """However they come, as one that is built of every leaf by itself."""
    sealer = Sealer(journal, journal.parent, KEY)
    leaves = ledgers.events(sum(pieces))
    at = 0
    for many in pieces:
        with journal.open("ab") as file:
            file.write(b"".join(leaf + b"\n" for leaf in leaves[at : at + many]))
        at += many
        checkpoint = sealer.seal()
        assert checkpoint is not None
        assert (checkpoint.size, checkpoint.root) == (at, ledgers.root_of(leaves[:at]))
    sealer.close()
    expect(journal, leaves)


def test_tiles_are_on_the_disk_and_in_their_place_before_the_checkpoint(journal, monkeypatch):
    """And each directory is brought there once for all that are new in it."""
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def synced(fd):
        done.append(("disk", Path(f"/proc/self/fd/{fd}").readlink().name))
        fsync(fd)

    def put(self, target):
        done.append(("place", Path(target).name))
        return replace(self, target)

    write(journal, ledgers.events(600))
    sealer = Sealer(journal, journal.parent, KEY)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", put)
    sealer.seal()
    sealer.close()
    at = done.index(("place", "checkpoint"))
    before, folder = done[:at], journal.parent / "tile"
    for path in folder.rglob("*"):
        name = path.name
        if path.is_file() and path.parent.suffix == ".p":
            # somebody may be reading what is there
            assert before.index(("disk", f"{name}.new")) < before.index(("place", name))
        elif path.is_file():
            assert ("disk", name) in before
    for name in ("entries", "0"):
        last = max(where for where, one in enumerate(before) if one == ("disk", "001"))
        assert before.index(("disk", name)) > last
        assert before.count(("disk", name)) == 1
