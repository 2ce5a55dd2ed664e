"""What `verify` says of a ledger, whole and changed in every way there is."""

import random
import shutil
from pathlib import Path

import pytest

import ledgers
from pangate.audit.marks import mark_of
from pangate.audit.reader import Ledger
from pangate.audit.verify import KINDS, verify, walk
from pangate.audit.verify.differences import differences
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.note import COSIGNATURE, Signer
from pangate.ledger.proof import verify_inclusion
from pangate.ledger.tiles import encode_bundle, entries_path, split_tile, tile_path
from pangate.ledger.tree import leaf_hash

SIZE = 700  # two full bundles and a partial one
LEAVES = ledgers.events(SIZE)


@pytest.fixture
def directory(tmp_path):
    return ledgers.write(tmp_path / "ledger", ledgers.files_of(LEAVES))


def run(directory, **options):
    report = verify(directory, options.pop("keys", ledgers.KEYS), **options)
    assert {item.kind for item in report.findings} <= set(KINDS)
    return report


def told(report):
    return [(item.kind, item.where, item.sequence) for item in report.findings]


def rewrite(directory, leaves):
    """The leaves of a ledger, and nothing else of it."""
    for path, data in ledgers.tiles_of(leaves).items():
        if path.startswith("tile/entries"):
            (directory / path).write_bytes(data)


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 700])
def test_a_whole_ledger(tmp_path, size):
    leaves = LEAVES[:size]
    directory = ledgers.write(tmp_path / "l", ledgers.files_of(leaves))
    report = run(directory)
    assert report.ok, report.findings
    assert (report.size, report.events, report.unsealed) == (size, size, 0)
    assert report.origin == ledgers.ORIGIN
    assert report.notices == []
    assert report.as_json()["ok"] is True


def test_a_ledger_of_three_levels(tmp_path):
    leaves = [ledgers.event(number, n=number) for number in range(1, 65_800)]
    directory = ledgers.write(tmp_path / "l", ledgers.files_of(leaves))
    assert run(directory).ok
    path = directory / tile_path(1, 0)
    data = bytearray(path.read_bytes())
    data[5 * 32] ^= 1
    path.write_bytes(data)
    assert told(run(directory)) == [("tile", "tile/1/000 byte 160", 0)]
    rewrite_one(directory, leaves, 5 * 256 + 9)
    assert told(run(directory)) == [
        ("tile", "tile/1/000 byte 160", 0),
        ("edited", "sequence 1290", 1290),
    ]


def rewrite_one(directory, leaves, index):
    number = index // 256
    part = list(leaves[number * 256 : number * 256 + 256])
    part[index % 256] = ledgers.event(index + 1, text="something else")
    (directory / entries_path(number, len(part))).write_bytes(encode_bundle(part))


@pytest.mark.parametrize("index", [0, 255, 256, 511, 512, 699])
def test_an_edited_leaf(directory, index):
    rewrite_one(directory, LEAVES, index)
    assert told(run(directory)) == [("edited", f"sequence {index + 1}", index + 1)]


@pytest.mark.parametrize("index", [3, 300, 698])
def test_a_deleted_leaf(directory, index):
    number = index // 256
    part = LEAVES[number * 256 : number * 256 + 256]
    path = directory / entries_path(number, len(part))
    del part[index % 256]
    path.write_bytes(encode_bundle(part))
    assert told(run(directory)) == [("deleted", f"sequence {index + 1}", index + 1)]


def test_a_deleted_leaf_that_all_others_close_up_to(directory):
    rewrite(directory, [*LEAVES[:100], *LEAVES[101:]])
    (directory / entries_path(2, 187)).unlink()
    (directory / entries_path(2, 188)).write_bytes(encode_bundle(LEAVES[513:]))
    report = run(directory)
    assert told(report) == [("deleted", "sequence 101", 101)]


def test_an_inserted_leaf(directory):
    part = [*LEAVES[:40], ledgers.event(41, text="put in"), *LEAVES[40:256]]
    (directory / entries_path(0)).write_bytes(encode_bundle(part))
    assert told(run(directory)) == [("inserted", "sequence 41", 41)]


def test_leaves_that_changed_places(directory):
    part = LEAVES[:256]
    part[10], part[20] = part[20], part[10]
    (directory / entries_path(0)).write_bytes(encode_bundle(part))
    report = run(directory)
    assert {item.kind for item in report.findings} == {"moved"}
    assert {item.sequence for item in report.findings} == {11, 21}
    assert "stands in another place, that of the sequence 11" in report.findings[-1].message


def test_a_leaf_that_takes_the_place_of_another(directory):
    part = LEAVES[:256]
    part[10] = part[20]
    (directory / entries_path(0)).write_bytes(encode_bundle(part))
    assert told(run(directory)) == [("edited", "sequence 11", 11)]


def test_many_changed_leaves_are_one_finding(directory):
    part = [ledgers.event(index, text="new") for index in range(1, 257)]
    (directory / entries_path(0)).write_bytes(encode_bundle(part))
    report = run(directory)
    assert told(report) == [("edited", "tile/entries/000", 1)]
    assert "256 of its events" in report.findings[0].message


def test_a_bundle_that_cannot_be_read(directory):
    path = directory / entries_path(1)
    path.write_bytes(path.read_bytes()[:-3])
    report = run(directory)
    assert told(report) == [("bundle", "tile/entries/001", 257)]
    assert "follow" in report.findings[0].message


@pytest.mark.parametrize("path", [entries_path(0), entries_path(2, 188)])
def test_a_missing_bundle(directory, path):
    (directory / path).unlink()
    ((kind, where, _),) = told(run(directory))
    assert (kind, where) == ("bundle", path)


@pytest.mark.parametrize("path", [tile_path(0, 1), tile_path(0, 2, 188), tile_path(1, 0, 2)])
def test_a_missing_or_changed_tile(directory, path):
    file = directory / path
    data = bytearray(file.read_bytes())
    file.unlink()
    report = run(directory)
    assert told(report) == [("tile", path, 0)]
    assert report.findings[0].message == "is missing"
    data[33] ^= 0x80
    file.write_bytes(data)
    report = run(directory)
    assert told(report) == [("tile", f"{path} byte 33", 0)]
    file.write_bytes(data[:-1])
    assert "bytes and not" in run(directory).findings[0].message


def test_a_leaf_changed_with_its_tile(directory):
    rewrite_one(directory, LEAVES, 260)
    file = directory / tile_path(0, 1)
    hashes = split_tile(file.read_bytes())
    hashes[4] = leaf_hash(ledgers.event(261, text="something else"))
    file.write_bytes(b"".join(hashes))
    report = run(directory)
    assert told(report) == [("tree", "tile/0/001", 257)]
    assert "257 to 512" in report.findings[0].message


def test_everything_changed_but_the_checkpoint(directory):
    forged = [*LEAVES[:9], ledgers.event(10, text="forged"), *LEAVES[10:]]
    ledgers.write(directory, ledgers.tiles_of(forged))
    report = run(directory)
    assert told(report)[0][0] == "tree"
    assert "although they agree with each other" in report.findings[0].message


def test_signed_again_with_another_key(directory):
    other = Signer.generate(ledgers.ORIGIN)
    forged = [*LEAVES[:9], ledgers.event(10, text="forged"), *LEAVES[10:]]
    ledgers.write(directory, ledgers.tiles_of(forged))
    (directory / "checkpoint").write_bytes(ledgers.note_of(forged, other))
    (directory / "log.pub").write_text(other.verifier.text() + "\n")
    report = run(directory)
    assert "signed again with another key" in report.findings[0].message
    assert report.findings[0].kind == "key"
    assert any(other.verifier.text() in notice for notice in report.notices)
    # With nothing but what lies in the ledger, only a checkpoint from elsewhere shows it.
    alone = run(directory, keys=[])
    assert "can change them too" in alone.notices[0]
    assert alone.ok


def test_signed_again_with_the_same_key(directory):
    """Whoever has the private key can make another ledger. Who has seen the first one tells."""
    forged = [*LEAVES[:9], ledgers.event(10, text="forged"), *LEAVES[10:]]
    shutil.rmtree(directory)
    ledgers.write(directory, ledgers.files_of(forged))
    assert run(directory).ok
    for size in (10, 256, 300, 512, 700):
        report = run(directory, checkpoints=[("elsewhere", ledgers.note_of(LEAVES[:size]))])
        assert told(report) == [("forked", "elsewhere", size)]
    assert run(directory, checkpoints=[("elsewhere", ledgers.note_of(LEAVES[:9]))]).ok


def test_rolled_back(directory):
    anchor = ledgers.note_of(LEAVES)
    shutil.rmtree(directory)
    ledgers.write(directory, ledgers.files_of(LEAVES[:650]))
    assert run(directory).ok
    report = run(directory, checkpoints=[("elsewhere", anchor)])
    assert told(report) == [("rolled back", "checkpoint", 651)]
    assert "has seen 700" in report.findings[0].message
    (directory / "checkpoint").unlink()
    kinds = [item.kind for item in run(directory, checkpoints=[("x", anchor)]).findings]
    assert kinds == ["checkpoint", "rolled back"]


def test_checkpoints_from_elsewhere_that_fit(directory):
    sizes = [0, 1, 255, 256, 257, 512, 699, 700]
    anchors = [(str(size), ledgers.note_of(LEAVES[:size])) for size in sizes]
    report = run(directory, checkpoints=anchors)
    assert report.ok, report.findings
    assert [item.size for item in report.seen] == sizes
    assert report.witnessed == 700


def test_checkpoints_from_elsewhere_that_are_of_no_use(directory):
    other = Signer.generate("other")
    report = run(
        directory,
        keys=[*ledgers.KEYS, other.verifier],
        checkpoints=[
            ("text", b"no note"),
            ("other", ledgers.note_of(LEAVES, other, "other")),
            ("unknown", ledgers.note_of(LEAVES, Signer.generate("who"))),
        ],
    )
    assert [(item.kind, item.where) for item in report.findings] == [
        ("anchor", "text"),
        ("anchor", "other"),
        ("anchor", "unknown"),
    ]


@pytest.mark.parametrize("kept", [0, 31, 100 * 32, 8191, 8193])
def test_a_cut_tile_is_no_fork(directory, kept):
    path = directory / tile_path(0, 0)
    path.write_bytes((path.read_bytes() + b"more")[:kept])
    report = run(directory, checkpoints=[("a", ledgers.note_of(LEAVES[:100]))])
    assert told(report) == [("tile", tile_path(0, 0), 0)]


def test_an_edited_leaf_is_no_fork(directory):
    rewrite_one(directory, LEAVES, 3)
    anchors = [("a", ledgers.note_of(LEAVES[:300])), ("b", ledgers.note_of(LEAVES))]
    assert told(run(directory, checkpoints=anchors)) == [("edited", "sequence 4", 4)]


def test_witnesses_on_the_checkpoint(directory):
    witness = Signer.generate("witness", COSIGNATURE)
    note = ledgers.note_of(LEAVES)
    body = Checkpoint(ledgers.ORIGIN, SIZE, ledgers.root_of(LEAVES)).body()
    (directory / "checkpoint").write_bytes(note + witness.sign(body, 1234).text().encode())
    report = run(directory, keys=[*ledgers.KEYS, witness.verifier])
    assert report.ok
    assert [(item.witnesses, item.time) for item in report.seen] == [(("witness",), 1234)]
    only = run(directory, keys=[witness.verifier])
    assert "has not signed it" in only.findings[0].message


def test_the_unsealed_tail(tmp_path):
    more = ledgers.events(30, 701)
    directory = ledgers.write(tmp_path / "l", ledgers.files_of(LEAVES, unsealed=more))
    report = run(directory)
    assert report.ok
    assert report.unsealed == 30
    assert "30 events from the sequence 701 on" in report.notices[0]
    # Tiles that are written and not signed yet have to be what the journal has.
    ledgers.write(directory, ledgers.tiles_of([*LEAVES, *more]))
    assert run(directory).ok
    path = directory / entries_path(2, 218)
    path.write_bytes(path.read_bytes()[:-4] + b"'\"}}")
    assert told(run(directory)) == [("bundle", entries_path(2, 218), 513)]


def test_an_older_partial_tile_stays_true(directory):
    ledgers.write(directory, ledgers.tiles_of(LEAVES[:600]))
    assert run(directory).ok
    path = directory / tile_path(0, 2, 88)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    assert told(run(directory)) == [("tile", "tile/0/002.p/88", 513)]


def test_a_full_tile_in_place_of_a_partial_one(tmp_path):
    directory = ledgers.write(tmp_path / "l", ledgers.files_of(LEAVES[:600], unsealed=LEAVES[600:]))
    for path in ("tile/0/002.p/88", "tile/entries/002.p/88"):
        (directory / path).unlink()
    assert {item.kind for item in run(directory).findings} == {"bundle", "tree"}
    ledgers.write(directory, ledgers.tiles_of(LEAVES))
    report = run(directory)
    assert report.ok, report.findings


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        (lambda data: data[:-5], "byte", "ends within a record"),
        (lambda data: data + b"\0\0\0", "byte", "within the head"),
        (lambda data: b"x" + data[1:], "byte 0", "does not begin"),
        (lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:], "byte 18", "check"),
    ],
)
def test_a_torn_journal(directory, change, where, message):
    path = directory / "journal" / f"{512:016d}"
    path.write_bytes(change(path.read_bytes()))
    found = run(directory).findings
    assert any(where in item.where and message in item.message for item in found), found
    assert {item.kind for item in found} == {"journal"}


def test_a_journal_that_was_cut_or_changed(tmp_path):
    files = ledgers.files_of(LEAVES)
    path = f"journal/{512:016d}"
    short = ledgers.files_of(LEAVES[:690])[path]
    directory = ledgers.write(tmp_path / "a", {**files, path: short})
    assert told(run(directory)) == [("journal", path, 691)]
    forged = [*LEAVES[:600], ledgers.event(601, text="x"), *LEAVES[601:]]
    other = ledgers.files_of(forged)[path]
    directory = ledgers.write(tmp_path / "b", {**files, path: other})
    assert told(run(directory)) == [("journal", path, 601)]


def test_a_gap_in_the_journal(tmp_path):
    files = ledgers.files_of(LEAVES, unsealed=ledgers.events(10, 701))
    later = ledgers.files_of(ledgers.events(730), journal_from=720)[f"journal/{720:016d}"]
    files[f"journal/{720:016d}"] = later
    report = run(ledgers.write(tmp_path / "l", files))
    assert told(report) == [("journal", f"journal/{720:016d}", 711)]


def test_what_events_say_of_themselves(tmp_path):
    leaves = list(LEAVES)
    leaves[10] = ledgers.event(99)
    leaves[20] = b"no event"
    leaves[30] = ledgers.event(31, second=5)
    leaves[40] = ledgers.event(41).replace(b'"v":2', b'"v":4')
    report = run(ledgers.write(tmp_path / "l", ledgers.files_of(leaves)))
    assert told(report) == [
        ("event", "sequence 11", 11),
        ("event", "sequence 21", 21),
        ("event", "sequence 41", 41),
    ]
    assert "has the sequence 99" in report.findings[0].message
    assert any("back at 2 events, first at the sequence 12" in notice for notice in report.notices)


def test_recordings(tmp_path):
    file, data = ledgers.recording()
    leaves = list(LEAVES)
    leaves[50] = ledgers.event(51, "session.recording", **data)
    directory = ledgers.write(tmp_path / "l", ledgers.files_of(leaves, files=[file]))
    assert run(directory).ok
    path = directory / file[0]
    path.write_bytes(file[1][:-1] + b"X")
    report = run(directory)
    assert told(report) == [("file", file[0], 51)]
    assert "another digest" in report.findings[0].message
    path.write_bytes(file[1][:-1])
    assert "has 1299 bytes, and the event 51 says 1300" in run(directory).findings[0].message
    path.write_bytes(file[1] + b"more")
    assert told(run(directory)) == [("file", file[0], 51)]
    path.unlink()
    assert "No such file" in run(directory).findings[0].message
    ledgers.write(directory, {file[0]: file[1], "sessions/2026-11-25/s2.rec": b"?"})
    report = run(directory)
    assert report.ok
    assert report.notices == [
        "1 recordings are in no event, the first is sessions/2026-11-25/s2.rec"
    ]


def test_a_recording_that_goes_on(tmp_path):
    (name, data), claim = ledgers.recording()
    leaves = list(LEAVES)
    leaves[50] = ledgers.event(51, "session.recorded", **claim)
    open_name = name.replace(".rec", ".open")
    files = ledgers.files_of(leaves, files=[(open_name, data + b"and more")])
    directory = ledgers.write(tmp_path / "l", files)
    assert run(directory).ok
    (directory / open_name).write_bytes(b"W" + data[1:] + b"and more")
    assert told(run(directory)) == [("file", name, 51)]
    leaves[50] = ledgers.event(51, "session.recorded", **{**claim, "file": "../../etc/passwd"})
    directory = ledgers.write(tmp_path / "m", ledgers.files_of(leaves))
    assert "no path within" in run(directory).findings[0].message


def test_long_texts(tmp_path):
    (_, data), claim = ledgers.recording()
    name = f"large/{claim['digest']}"
    large = {"bytes": claim["bytes"], "digest": claim["digest"]}
    leaves = list(LEAVES)
    leaves[50] = ledgers.event(51, large=large, kind="query")
    directory = ledgers.write(tmp_path / "l", ledgers.files_of(leaves, files=[(name, data)]))
    assert run(directory).ok
    (directory / name).write_bytes(data.replace(b"sent", b"SENT", 1))
    assert told(run(directory)) == [("file", name, 51)]


@pytest.mark.parametrize("data", [{"first": 0, "last": 255}, {"files": ["sessions/x"]}, {}])
def test_no_event_excuses_what_is_missing(tmp_path, data):
    """Whoever can append a line could write one; it takes a tombstone, which the key has signed."""
    leaves = list(LEAVES)
    leaves[650] = ledgers.event(651, "audit.retired", reason="retention", **data)
    files = ledgers.files_of(leaves)
    del files[entries_path(0)]
    assert told(run(ledgers.write(tmp_path / "l", files))) == [("bundle", "tile/entries/000", 1)]


# The file that events were written to


def written(directory, leaves, name="audit.jsonl", *, mark=True):
    path = directory / name
    path.write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    path.chmod(0o600)
    if mark:
        mark_of(path).write_bytes(b"")
    return path


def test_the_file_that_events_were_written_to(directory):
    path = written(directory, LEAVES)
    assert run(directory).ok
    with path.open("ab") as file:
        file.write(ledgers.event(SIZE + 1) + b"\n" + b'{"clock":"torn')
    assert run(directory).ok, "what is not sealed yet is nothing that can be compared"
    with path.open("ab") as file:
        file.write(b"\0" * 9000)
    assert run(directory).ok


@pytest.mark.parametrize("index", [0, 255, 256, SIZE - 1])
def test_a_line_of_it_that_was_changed(directory, index):
    leaves = list(LEAVES)
    leaves[index] = ledgers.event(index + 1, text="another")
    path = written(directory, leaves)
    assert told(run(directory)) == [("journal", "audit.jsonl", index + 1)]
    # as if it had been retired
    length = len(leaves[index]) + 1
    at = sum(len(leaf) + 1 for leaf in leaves[:index])
    data = bytearray(path.read_bytes())
    data[at : at + length] = bytes(length)
    path.write_bytes(data)
    assert told(run(directory)) == [("journal", "audit.jsonl", index + 1)]


def test_lines_of_it_that_are_gone_or_moved(directory):
    written(directory, [*LEAVES[:300], *LEAVES[301:]])
    assert told(run(directory)) == [("journal", "audit.jsonl", 301)]
    written(directory, LEAVES[:400])
    assert told(run(directory)) == [("journal", "audit.jsonl", 401)]
    written(directory, [*LEAVES[:300], LEAVES[301], LEAVES[300], *LEAVES[302:]])
    assert [kind for kind, _, _ in told(run(directory))] == ["journal", "journal"]
    written(directory, [])
    assert told(run(directory)) == [("journal", "audit.jsonl", 1)]


@pytest.mark.parametrize("front", [b"\0", b" ", b"\0" * 70_000, b"\n"])
@pytest.mark.parametrize("name", ["audit.jsonl", "record.log"])
def test_an_edited_file_that_does_not_begin_like_one(directory, name, front):
    """Who shows events passes over what stands in front of them."""
    changed = [ledgers.event(1, text="another"), *LEAVES[1:]]
    path = written(directory, changed, name, mark=False)
    path.write_bytes(front + path.read_bytes())
    assert ("journal", name) in [(kind, where) for kind, where, _ in told(run(directory))]


@pytest.mark.parametrize("mark", [True, False])
def test_a_link_where_the_file_was(directory, tmp_path, mark):
    path = written(directory, LEAVES, mark=mark)
    elsewhere = path.rename(tmp_path / "elsewhere")
    elsewhere.write_bytes(elsewhere.read_bytes().replace(b"payments", b"somebody", 1))
    path.symlink_to(elsewhere)
    assert told(run(directory)) == [("journal", "audit.jsonl", 0)]


def test_the_file_is_gone_and_its_mark_is_not(directory):
    path = written(directory, LEAVES)
    assert run(directory).ok
    path.unlink()
    assert told(run(directory)) == [("journal", "audit.jsonl", 0)]
    mark_of(path).unlink()
    assert run(directory).ok, "as in a copy of the tree"


def test_a_copy_of_some_of_it(directory):
    """A sink's, say: it may be behind, and what it has is right."""
    written(directory, LEAVES[:400], "copy.jsonl", mark=False)
    assert run(directory).ok
    written(
        directory, [*LEAVES[:200], ledgers.event(201, text="another")], "copy.jsonl", mark=False
    )
    assert told(run(directory)) == [("journal", "copy.jsonl", 201)]


def test_permissions(directory, tmp_path):
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o640)
    directory.chmod(0o707)
    report = run(directory, key_file=key)
    assert told(report) == [("permissions", str(directory), 0), ("permissions", str(key), 0)]
    assert "0640" in report.findings[1].message
    key.chmod(0o600)
    directory.chmod(0o700)
    assert run(directory, key_file=key).ok


@pytest.mark.parametrize("text", ["", "x\n", ledgers.SIGNER.verifier.text(), "\n"])
def test_the_keys_in_the_ledger(directory, text):
    (directory / "log.pub").write_text(text)
    assert told(run(directory))[0][:2] == ("key", "log.pub")


def test_no_ledger(tmp_path):
    report = run(tmp_path)
    assert [item.kind for item in report.findings if item.kind != "permissions"] == [
        "key",
        "checkpoint",
    ]


# The reader


def test_the_reader(tmp_path):
    more = ledgers.events(30, 701)
    directory = ledgers.write(tmp_path / "l", ledgers.files_of(LEAVES, unsealed=more))
    ledger = Ledger(directory)
    everything = [*LEAVES, *more]
    assert list(ledger.leaves()) == everything
    for first, count in ((0, 1), (0, 256), (250, 20), (511, 2), (690, 20), (700, 5), (729, 9)):
        assert list(ledger.leaves(first, count)) == everything[first : first + count]
    assert list(ledger.leaves(730)) == []
    assert ledger.leaf(715) == everything[715]
    with pytest.raises(LedgerError, match="no event with the sequence 731"):
        ledger.leaf(730)
    for index in (0, 255, 256, 600, 699):
        proof = ledger.prove(index)
        root = ledger.checkpoint().root
        assert proof.extra == LEAVES[index]
        assert verify_inclusion(leaf_hash(proof.extra), index, SIZE, root, proof.hashes)
    with pytest.raises(LedgerError, match="wait until it is sealed"):
        ledger.prove(700)


def test_the_reader_names_what_is_missing(directory):
    ledger = Ledger(directory)
    (directory / entries_path(1)).unlink()
    with pytest.raises(LedgerError, match="tile/entries/001 is missing"):
        list(ledger.leaves())
    (directory / tile_path(0, 0)).write_bytes(b"short")
    with pytest.raises(LedgerError, match="tile/0/000 has 5 bytes and not 8192"):
        ledger.prove(0)


# The differences


def changes(expected, actual):
    found = differences({0: list(expected)}, {0: list(actual)})
    return [(item.kind, item.sequence) for item in found]


def test_differences():
    assert changes("abcd", "abcd") == []
    assert changes("abcd", "abXd") == [("edited", 3)]
    assert changes("abcd", "abd") == [("deleted", 3)]
    assert changes("abcd", "abXcd") == [("inserted", 3)]
    assert changes("abcd", "bacd") == [("moved", 1)] or changes("abcd", "bacd") == [("moved", 2)]
    assert changes("abcd", "") == [("deleted", number) for number in range(1, 5)]
    assert changes("abcd", "abcda") == [("inserted", 5)]
    assert changes("abcd", "aXbc") == [("inserted", 2), ("deleted", 4)]


def test_any_difference_is_told():
    chance = random.Random(9162)
    for _ in range(500):
        expected = [bytes([number]) for number in range(20)]
        actual = list(expected)
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(actual))
            match chance.randrange(4):
                case 0:
                    actual[place] = b"x%d" % chance.randrange(9)
                case 1:
                    del actual[place]
                case 2:
                    actual.insert(place, b"y%d" % chance.randrange(9))
                case 3:
                    actual.insert(chance.randrange(len(actual)), actual.pop(place))
        assert bool(differences({0: expected}, {0: actual})) == (expected != actual)


def test_several_processes_find_the_same(directory, monkeypatch):
    monkeypatch.setattr(walk, "PART", 1)
    anchors = [("a", ledgers.note_of(LEAVES[:600]))]
    whole = run(directory, checkpoints=anchors, processes=2)
    assert whole.ok, whole.findings
    assert whole == run(directory, checkpoints=anchors)
    rewrite_one(directory, LEAVES, 3)
    rewrite_one(directory, LEAVES, 690)
    (directory / entries_path(1)).unlink()
    done = []
    report = run(directory, processes=2, progress=lambda *count: done.append(count))
    assert report == run(directory)
    assert sorted(told(report)) == [
        ("bundle", "tile/entries/001", 257),
        ("edited", "sequence 4", 4),
        ("edited", "sequence 691", 691),
    ]
    assert done == [(256, 700), (512, 700), (700, 700)]


def test_the_time_goes_back_between_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(walk, "PART", 1)
    leaves = list(LEAVES)
    leaves[256] = ledgers.event(257, second=3)
    directory = ledgers.write(tmp_path / "l", ledgers.files_of(leaves))
    report = run(directory, processes=2)
    assert report == run(directory)
    assert "first at the sequence 257" in report.notices[0]


def test_the_manual_names_every_kind_of_finding():
    manual = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    for kind, meaning in KINDS.items():
        assert f"| {kind} | {meaning} |" in manual
