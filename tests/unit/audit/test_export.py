"""Archives of a period: whole, by two verifiers, one of which knows nothing of pangate; changed anywhere."""

import ast
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

import ledgers
from pangate import cli
from pangate.audit.export import verify_archive as script
from pangate.audit.export.check import verify_archive
from pangate.audit.export.container import FORMS, Writer, check_seal, form_of, unpack, wrap
from pangate.audit.export.write import export, subtrees
from pangate.audit.holds import change, moment
from pangate.audit.reader import Ledger
from pangate.audit.sealer import Sealer
from pangate.audit_cli.retain import retain
from pangate.errors import LedgerError
from pangate.ledger.note import COSIGNATURE, Signer
from pangate.ledger.tree import Frontier, leaf_hash

NOW = datetime(2027, 1, 2, tzinfo=UTC)
KEY = ledgers.SIGNER
WITNESS = Signer("witness.example/w1", COSIGNATURE, bytes(32))

SINCE, UNTIL = "2026-11-25T00:05:00.000000Z", "2026-11-25T00:12:00.000000Z"
"""Sequences 300 to 719 of the ledger below."""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """900 events, with recordings, a long text and a witness."""
    directory = tmp_path_factory.mktemp("export") / "ledger"
    leaves = ledgers.events(900)
    files = {}
    for at, name in ((100, "before"), (400, "within"), (800, "behind")):
        (file, data), claim = ledgers.recording(
            f"sessions/2026-11-25/{name}.rec", name.encode() * 99
        )
        files[file] = data
        leaves[at - 1] = ledgers.event(at, "session.recording", **claim)
    (_, claim), data = ledgers.recording(data=b"a long text" * 99), b"a long text" * 99
    claim = ledgers.recording(data=data)[1]
    files[f"large/{claim['digest']}"] = data
    leaves[500] = ledgers.event(501, large={"bytes": len(data), "digest": claim["digest"]})
    # a session that goes on: what is recorded up to here
    mark = ledgers.recording("sessions/2026-11-25/open.rec", b"so far" * 50)[1]
    files["sessions/2026-11-25/open.open"] = b"so far" * 50 + b" and more"
    leaves[550] = ledgers.event(551, "session.recorded", **mark)
    ledgers.write(directory, files)
    record = directory / "audit.jsonl"
    record.touch(0o600)
    for count in (450, 900):
        record.write_bytes(b"".join(one + b"\n" for one in leaves[:count]))
        with contextlib.closing(Sealer(record, directory, KEY)) as sealer:
            sealer.seal()
        if count == 450:
            note = ledgers.note_of(leaves[:count])
            line = WITNESS.sign(note.decode().rpartition("\n\n")[0] + "\n", 1_700_000_000)
            (directory / "anchors").mkdir()
            (directory / "anchors/w.checkpoint").write_bytes(note + line.text().encode())
    (directory / "audit.jsonl.key").touch(0o600)
    (directory / "audit.jsonl.key").write_text(KEY.private_text())
    return directory, leaves


@pytest.fixture(params=FORMS)
def archive(ledger, tmp_path, request):
    out = tmp_path / f"period.{request.param}"
    export(ledger[0], ledgers.KEYS, KEY, SINCE, UNTIL, out, "ann", NOW)
    return out


def wrong(path, keys=ledgers.KEYS, **more):
    return [(item.kind, item.message) for item in verify_archive(path, keys, **more).findings]


def unpacked(archive, directory):
    """By programs that are not ours."""
    directory.mkdir()
    if archive.name.endswith(".zip"):
        command = [sys.executable, "-m", "zipfile", "-e", str(archive), str(directory)]
    elif archive.name.endswith(".gz"):
        command = ["tar", "-xzf", str(archive), "-C", str(directory)]
    elif shutil.which("zstd"):
        command = ["tar", "--zstd", "-xf", str(archive), "-C", str(directory)]
    else:
        unpack(archive, directory)
        return
    subprocess.run(command, check=True, timeout=60)


def checked(directory, *arguments):
    """By the page in the archive, in an interpreter that has no pangate."""
    return subprocess.run(
        [sys.executable, "-I", str(directory / "verify.py"), *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, env={},
    )  # fmt: skip


def test_it_is_whole(archive, ledger, tmp_path):
    _, leaves = ledger
    report = verify_archive(archive, [*ledgers.KEYS, WITNESS.verifier])
    assert report.ok, report.findings
    assert (report.events, report.size, report.retired) == (420, 900, 0)
    assert [(one.name, one.size) for one in report.seen] == [("anchors/w.checkpoint", 450)]
    assert archive.stat().st_mode & 0o777 == 0o600
    unpacked(archive, tmp_path / "x")
    assert (tmp_path / "x/events.jsonl").read_bytes().splitlines() == leaves[299:719]
    names = {path.name for path in (tmp_path / "x/files/sessions/2026-11-25").iterdir()}
    assert names == {"within.rec", "open.rec"}
    assert len(list((tmp_path / "x/files/large").iterdir())) == 1
    assert "events 300 to 719" in (tmp_path / "x/README.md").read_text()
    keys = tmp_path / "keys"
    keys.write_text(KEY.verifier.text() + "\n")
    for arguments in ((), (keys,), (keys, archive)):
        done = checked(tmp_path / "x", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verified: 420 events of example.com/ledger" in done.stdout
    other = Signer(ledgers.ORIGIN, 1, bytes(32))
    keys.write_text(other.verifier.text() + "\n")
    assert checked(tmp_path / "x", keys).returncode != 0
    assert "by no key that was given" in wrong(archive, [other.verifier])[0][1]
    # without keys from elsewhere it says that it fits together, and no more
    report = verify_archive(archive, [])
    assert report.ok
    assert "give those that you keep" in report.notices[0]


def test_any_changed_byte_is_noticed(archive, tmp_path):
    data = archive.read_bytes()
    chance = random.Random(archive.name)
    places = [chance.randrange(len(data)) for _ in range(600)]
    # all of the head and of the seal, where a form has bytes that its readers pass over
    places += [*range(40), *range(len(data) - 450, len(data))]
    changed = tmp_path / f"changed.{form_of(archive)}"
    for at in places:
        bit = 1 << chance.randrange(8)
        changed.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
        with pytest.raises(LedgerError):
            check_seal(changed, ledgers.KEYS)
    for other in (data[:-1], data + b"\0", data[1:], b"", data[: len(data) // 2], data + data):
        changed.write_bytes(other)
        assert wrong(changed)


def test_any_changed_file_of_an_unpacked_archive_is_noticed(ledger, tmp_path):
    out = tmp_path / "period.zip"
    export(ledger[0], ledgers.KEYS, KEY, SINCE, UNTIL, out, "ann", NOW)
    unpacked(out, tmp_path / "x")
    keys = tmp_path / "keys"
    keys.write_text(KEY.verifier.text() + "\n")
    chance = random.Random(3)
    for path in sorted((tmp_path / "x").rglob("*")):
        if path.is_dir() or path.name == "verify.py":
            continue
        data = path.read_bytes()
        for _ in range(3):
            at = chance.randrange(len(data))
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            assert checked(tmp_path / "x", keys).returncode != 0, f"{path} byte {at}"
        path.unlink()
        assert checked(tmp_path / "x", keys).returncode != 0
        path.write_bytes(data)
    (tmp_path / "x/more").write_text("x")
    assert "was put in" in checked(tmp_path / "x", keys).stderr
    (tmp_path / "x/more").unlink()
    assert checked(tmp_path / "x", keys).returncode == 0


def made_again(archive, out, **changes):
    """The archive with other files, sealed by the log, which cannot make them fit the checkpoint."""
    folder = out.with_name(out.name + ".x")
    folder.mkdir()
    unpack(archive, folder)
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = path.read_bytes()
    manifest = json.loads(files.pop("manifest.json"))
    files.pop("manifest.note")
    files.update(changes)
    from hashlib import sha256

    from pangate.ledger.letters import letters
    from pangate.ledger.statement import EXPORT, sign

    manifest["files"] = {
        name: [len(data), letters(sha256(data).digest())] for name, data in files.items()
    }
    text = json.dumps(manifest).encode()
    values = {
        "origin": ledgers.ORIGIN, "bytes": len(text), "digest": letters(sha256(text).digest())
    }  # fmt: skip
    writer = Writer(out)
    for name, data in {
        **files, "manifest.json": text, "manifest.note": sign(EXPORT, values, KEY)
    }.items():  # fmt: skip
        writer.add_bytes(name, data)
    writer.seal(KEY)
    return out


@pytest.mark.parametrize(
    ("change_", "said"),
    [
        (lambda files: {"events.jsonl": files["events.jsonl"].replace(b"select 350 ", b"select 351 ")},
         "not the tree that was signed"),
        (lambda files: {"events.jsonl": files["events.jsonl"][:-1].rpartition(b"\n")[0] + b"\n"},
         "is none"),
        (lambda files: {"events.jsonl": files["events.jsonl"] + b"{}\n"}, "more events than the tree"),
        (lambda files: {"tree.json": files["tree.json"].replace(b'"height": 8', b'"height": 7', 1)},
         ""),
        (lambda files: {"files/sessions/2026-11-25/within.rec": b"else"}, "within.rec"),
        (lambda files: {"checkpoint": ledgers.note_of(ledgers.events(900))},
         "not the tree that was signed"),
        (lambda files: {"consistency.json": b'{"anchors/w.checkpoint": []}'}, "another ledger"),
        (lambda files: {"anchors/w.checkpoint": ledgers.note_of(ledgers.events(450))}, "another ledger"),
    ],
)  # fmt: skip
def test_what_was_sealed_again_by_the_log_does_not_fit_its_checkpoint(
    ledger, tmp_path, change_, said
):
    out = tmp_path / "period.tar.gz"
    export(ledger[0], ledgers.KEYS, KEY, SINCE, UNTIL, out, "ann", NOW)
    folder = tmp_path / "files"
    folder.mkdir()
    unpack(out, folder)
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip
    assert wrong(made_again(out, tmp_path / "same.zip")) == []
    (found,) = wrong(made_again(out, tmp_path / "other.zip", **change_(files)))
    assert said in found[1]


def test_a_period_with_retired_events(ledger, tmp_path):
    directory = tmp_path / "ledger"
    shutil.copytree(ledger[0], directory)
    for path in directory.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    change(
        directory, KEY, ledgers.KEYS, "add", "case", {"to": "2026-11-25T00:04:00.000000Z"}, "why",
        "ann", NOW,
    )  # fmt: skip
    later = datetime(2028, 1, 1, tzinfo=UTC)
    retain(directory / "audit.jsonl", directory, lambda: KEY, 366, later, apply=True)
    assert Ledger(directory).leaf(0)
    for form in FORMS:
        out = tmp_path / f"period.{form}"
        period = export(
            directory,
            ledgers.KEYS,
            KEY,
            moment("2026-11-25"),
            moment("2026-11-26"),
            out,
            "ann",
            NOW,
        )
        assert (period.first, period.end) == (0, 900)
        report = verify_archive(out, ledgers.KEYS)
        assert report.ok, report.findings
        assert (report.events, report.retired) == (388, 512)
        unpacked(out, tmp_path / form)
        done = checked(tmp_path / form)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / form / "holds.jsonl").exists()
        assert (tmp_path / form / "tombstones").is_dir()


def test_what_is_not_exported(ledger, tmp_path):
    directory, _ = ledger

    def run(since=SINCE, until=UNTIL, out="p.zip", directory=directory, key=KEY):
        export(directory, ledgers.KEYS, key, since, until, tmp_path / out, "ann", NOW)

    with pytest.raises(LedgerError, match="no event from"):
        run("2027-01-01T00:00:00.000000Z", "2027-01-02T00:00:00.000000Z")
    with pytest.raises(LedgerError, match=r"ends in .tar.zst, .tar.gz, .zip"):
        run(out="p.rar")
    with pytest.raises(LedgerError, match="the key is of"):
        run(key=Signer("else", 1, bytes(32)))
    run()
    with pytest.raises(LedgerError, match="File exists"):
        run()
    copy = tmp_path / "ledger"
    shutil.copytree(directory, copy)
    (copy / "sessions/2026-11-25/within.rec").write_bytes(b"else")
    with pytest.raises(LedgerError, match=r"within.rec, which the event 400 names"):
        run(out="q.zip", directory=copy)
    shutil.copy(directory / "sessions/2026-11-25/within.rec", copy / "sessions/2026-11-25")
    path = copy / "tile/entries/001"
    path.write_bytes(path.read_bytes().replace(b"select 350 ", b"select 351 "))
    with pytest.raises(LedgerError, match="not what was signed"):
        run(out="q.zip", directory=copy)
    assert not (tmp_path / "q.zip").exists(), "there is no half of one"


def test_the_commands(ledger, tmp_path, capsys):
    directory, _ = ledger
    (tmp_path / "keys").write_text(KEY.verifier.text() + "\n")
    out = tmp_path / "p.tar.zst"
    export(directory, ledgers.KEYS, KEY, SINCE, UNTIL, out, "ann", NOW)
    assert cli.main(["audit", "verify", str(out), "--key", str(tmp_path / "keys")]) == 0
    shown = capsys.readouterr().out
    assert "verified: 420 events" in shown
    assert "events 300 to 719" in shown
    assert out.stat().st_mode & 0o777 == 0o600
    told = ["audit", "verify", str(out), "--key", str(tmp_path / "keys"), "--log", str(out)]
    assert cli.main(told) == 1
    assert "--log goes with the directory" in capsys.readouterr().err
    out.write_bytes(out.read_bytes()[:-3])
    assert cli.main(["audit", "verify", str(out), "--key", str(tmp_path / "keys")]) == 1
    assert "WRONG (archive)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "a\\b"])
def test_a_path_that_leads_out_of_an_archive(tmp_path, name):
    for form in FORMS:
        path = tmp_path / f"a.{form}"
        writer = Writer(path)
        writer.add_bytes(name, b"x")
        writer.seal(KEY)
        (tmp_path / form).mkdir()
        assert check_seal(path, ledgers.KEYS) == ledgers.ORIGIN
        with pytest.raises(LedgerError, match="is no path within an archive"):
            unpack(path, tmp_path / form)


def test_what_is_no_file_in_an_archive(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(LedgerError, match="link is no file"):
        unpack(path, tmp_path)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("A/b", b"1")
    unpack(path, tmp_path / "y") if (tmp_path / "y").mkdir() is None else None
    with pytest.raises(LedgerError, match="is there twice"):
        unpack(path, tmp_path / "y")


@pytest.mark.parametrize("form", FORMS)
def test_others_read_what_has_a_seal(archive, form):
    assert wrap(form, b"note")
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as found:
            assert found.testzip() is None
    elif archive.name.endswith(".gz"):
        assert subprocess.run(["gzip", "-t", archive], timeout=30, check=False).returncode == 0
    elif shutil.which("zstd"):
        assert subprocess.run(["zstd", "-qt", archive], timeout=30, check=False).returncode == 0


def test_the_page_is_a_page_and_knows_nothing_of_pangate():
    text = Path(script.__file__).read_text()
    assert len(text.splitlines()) < 180
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert names - sys.stdlib_module_names == {"cryptography"}


def test_subtrees_put_a_tree_together():
    leaves = [leaf_hash(bytes([number])) for number in range(70)]
    whole = Frontier()
    whole.extend(leaves)

    def root(height, index):
        one = Frontier()
        one.extend(leaves[index << height : (index + 1) << height])
        return one.root()

    for first in range(0, 71, 3):
        for end in range(first, 71, 5):
            made = Frontier()
            for part in ((0, first), (first, end), (end, 70)):
                for height, index in subtrees(*part):
                    made.append_whole(root(height, index), height)
            assert made.root() == whole.root()
            assert made.size == 70


def test_a_file_that_is_cut_while_it_is_exported(tmp_path):
    for form in FORMS:
        writer = Writer(tmp_path / f"a.{form}")
        with pytest.raises((LedgerError, OSError), match=r"cut|end"):
            writer.add("x", io.BytesIO(b"short"), 500)
        writer.drop()
        assert not (tmp_path / f"a.{form}").exists()
