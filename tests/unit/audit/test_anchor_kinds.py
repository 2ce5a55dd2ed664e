"""Every kind of anchor, and what is found out by what it leaves: whether the ledger was cut, or made anew."""

import base64
import json
import shutil
import subprocess
import threading
import time

import pytest

import ledgers
from pangate import cli
from pangate.audit.anchors import MARK, Contradicted, open_anchor
from pangate.audit.anchors.evidence import Evidence, notes_in, stamped
from pangate.audit.anchors.file import FileAnchor
from pangate.audit.anchors.follower import AnchorFollower
from pangate.audit.anchors.timestamp import authorities
from pangate.audit.reader import Ledger
from pangate.audit.verify import verify
from pangate.config.audit import AnchorSettings
from pangate.errors import LedgerError
from pangate.ledger.note import Signer
from pangate.trial import until
from receivers import RSYSLOG, Rsyslog, TimeAuthority, Webhook

LEAVES = ledgers.events(600)
FORK = [*LEAVES[:20], ledgers.event(21, text="another"), *LEAVES[21:]]

needs_rsyslog = pytest.mark.skipif(RSYSLOG is None, reason="Debian's package rsyslog")


def replaced(directory, leaves):
    """The ledger made anew of `leaves`, and nothing of what anchors had left in it."""
    shutil.rmtree(directory, ignore_errors=True)
    return ledgers.write(directory, ledgers.files_of(leaves))


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "ledger"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return TimeAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def webhook(tmp_path_factory):
    return Webhook(tmp_path_factory.mktemp("webhook"))


def kinds(report):
    return [item.kind for item in report.findings]


def caught(directory, **evidence):
    """Whether a ledger that was cut, and one that was made anew, show by this evidence of 500 events."""
    report = verify(replaced(directory, LEAVES), ledgers.KEYS, **evidence)
    assert report.ok, report.findings
    assert report.witnessed == 500, "the tail that nobody has seen begins behind it"
    assert kinds(verify(replaced(directory, LEAVES[:499]), ledgers.KEYS, **evidence)) == [
        "rolled back"
    ]
    for size in (500, 600):
        report = verify(replaced(directory, FORK[:size]), ledgers.KEYS, **evidence)
        assert set(kinds(report)) == {"forked"}
    (directory / "checkpoint").unlink()
    assert "rolled back" in kinds(verify(directory, ledgers.KEYS, **evidence))


def test_a_file(directory, tmp_path):
    open_anchor(AnchorSettings(name="f", kind="file", path=tmp_path / "there")).put(
        Ledger(replaced(directory, LEAVES[:500]))
    )
    caught(directory, checkpoints=[("there", (tmp_path / "there").read_bytes())])


def test_a_time_authority(directory, tmp_path, authority):
    settings = AnchorSettings(
        name="tsa", kind="rfc3161", url="http://x", authority=authority.ca, path=tmp_path / "stamps"
    )
    with authority.serving() as url:
        anchor = open_anchor(AnchorSettings(**{**fields(settings), "url": url}))
        for size in (300, 500, 500):
            before = authority.asked
            assert anchor.put(Ledger(replaced(directory, LEAVES[:size]))).size == size
        assert authority.asked == before, "what is stamped is not stamped again"
        with pytest.raises(Contradicted, match="rolled back"):
            anchor.put(Ledger(replaced(directory, LEAVES[:400])))
        with pytest.raises(Contradicted, match="forked"):
            anchor.put(Ledger(replaced(directory, FORK)))
    names = sorted(item.name for item in (tmp_path / "stamps").iterdir())
    assert [name for name in names if name.endswith(".tsr")] == [
        "000000000300.tsr",
        "000000000500.tsr",
    ]
    roots = authorities(authority.ca)
    evidence = list(stamped(tmp_path / "stamps", roots))
    assert all(abs(item.time - time.time()) < 600 for item in evidence)
    caught(directory, checkpoints=evidence)
    # OpenSSL, which knows nothing of us, says so too
    command = ["openssl", "ts", "-verify", "-in", tmp_path / "stamps/000000000500.tsr"]
    command += ["-data", tmp_path / "stamps/000000000500.checkpoint", "-CAfile", authority.ca]
    shown = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert b"Verification: OK" in shown.stdout + shown.stderr


def fields(settings):
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def test_stamps_in_the_ledger_itself(directory, tmp_path, authority):
    replaced(directory, LEAVES[:500])
    with authority.serving() as url:
        settings = AnchorSettings(name="tsa", kind="rfc3161", url=url, authority=authority.ca)
        open_anchor(settings).put(Ledger(directory))
    assert verify(directory, ledgers.KEYS).witnessed == 0, "without the authority's certificate"
    report = verify(directory, ledgers.KEYS, authorities=authorities(authority.ca))
    assert report.ok, report.findings
    assert report.witnessed == 500
    assert report.seen[0].witnesses == ("the time authority",)
    other = TimeAuthority(tmp_path / "other")
    report = verify(directory, ledgers.KEYS, authorities=authorities(other.ca))
    assert kinds(report) == ["anchor"]
    stamp = directory / "anchors/tsa/000000000500.tsr"
    data = stamp.read_bytes()
    for at in range(20, len(data), max(1, len(data) // 40)):
        stamp.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        report = verify(directory, ledgers.KEYS, authorities=authorities(authority.ca))
        # some bytes of an answer, such as unused certificates, say nothing
        assert report.ok or kinds(report) == ["anchor"]
    stamp.write_bytes(data)
    note = directory / "anchors/tsa/000000000500.checkpoint"
    note.write_bytes(ledgers.note_of(LEAVES[:400]))
    report = verify(directory, ledgers.KEYS, authorities=authorities(authority.ca))
    assert kinds(report) == ["anchor"], "a stamp over another checkpoint"


def test_an_authority_that_lies(directory, tmp_path, authority):
    """Whose answer is for another question, or who is another one."""
    replaced(directory, LEAVES[:500])
    other = TimeAuthority(tmp_path / "other")
    with other.serving() as url:
        settings = AnchorSettings(name="tsa", kind="rfc3161", url=url, authority=authority.ca)
        with pytest.raises(LedgerError, match="the time stamp does not hold"):
            open_anchor(settings).put(Ledger(directory))
    answered = (other.directory / "reply").read_bytes()
    other._answer = lambda headers, body: (200, answered)
    with other.serving() as url:
        settings = AnchorSettings(name="tsa", kind="rfc3161", url=url, authority=other.ca)
        with pytest.raises(LedgerError, match="Nonce mismatch"):
            open_anchor(settings).put(Ledger(directory))
    other._answer = lambda headers, body: (200, b"no stamp")
    with other.serving() as url:
        settings = AnchorSettings(name="tsa", kind="rfc3161", url=url, authority=other.ca)
        with pytest.raises(LedgerError, match="the time stamp does not hold"):
            open_anchor(settings).put(Ledger(directory))


@needs_rsyslog
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_syslog(directory, tmp_path, transport):
    with Rsyslog(tmp_path / "rsyslog", tls=transport == "tls") as receiver:
        settings = AnchorSettings(
            name="log", kind="syslog", host="localhost", port=receiver.port, transport=transport,
            ca=receiver.ca,
        )  # fmt: skip
        anchor = open_anchor(settings)
        for size in (0, 300, 500):
            assert anchor.put(Ledger(replaced(directory, LEAVES[:size]))).size == size
        until(lambda: len(receiver.lines()) == 3, "the messages are there")
        with pytest.raises(Contradicted, match="rolled back"):
            replaced(directory, LEAVES[:500])
            anchor.put(Ledger(directory))
            shutil.copytree(directory / "anchors", tmp_path / "anchors")
            shutil.copytree(tmp_path / "anchors", replaced(directory, LEAVES[:400]) / "anchors")
            anchor.put(Ledger(directory))
    assert b"checkpoint of example.com/ledger with 500 events" in receiver.lines()[2]
    parsed = receiver.parsed.read_bytes().splitlines()[2].split()
    assert parsed[2:] == [b"pangate", b"checkpoint", b"109"], "as rsyslog has understood it"
    caught(directory, logs=[receiver.file])


def test_a_webhook(directory, webhook):
    with webhook.serving() as url:
        settings = AnchorSettings(name="hook", kind="webhook", url=url, ca=webhook.ca)
        anchor = open_anchor(settings, "a-token")
        for size in (300, 500):
            assert anchor.put(Ledger(replaced(directory, LEAVES[:size]))).size == size
        assert webhook.headers["authorization"] == "Bearer a-token"
        with pytest.raises(LedgerError, match="cannot be asked"):
            open_anchor(AnchorSettings(name="h", kind="webhook", url=url)).put(Ledger(directory))
        webhook.status = 503
        with pytest.raises(LedgerError, match="answers 503"):
            anchor.put(Ledger(replaced(directory, LEAVES[:510])))
        webhook.status = 302
        with pytest.raises(LedgerError, match="answers 302"):
            anchor.put(Ledger(directory))
        webhook.status = 200
    posted = [json.loads(line) for line in webhook.file.read_bytes().splitlines()]
    assert [item["size"] for item in posted] == [300, 500]
    assert posted[1]["checkpoint"].encode() == ledgers.note_of(LEAVES[:500])
    caught(directory, logs=[webhook.file])


def marked(note):
    return f"Nov 29 a: {MARK} {base64.b64encode(note).decode()} more\n".encode()


def test_logs(directory, tmp_path):
    log = tmp_path / "log"
    other = Signer("example.com/other", 1, bytes(32))
    log.write_bytes(
        b"something else\n"
        + marked(ledgers.note_of(LEAVES[:100]))
        + marked(ledgers.note_of(LEAVES[:9], other, "example.com/other"))
        + marked(ledgers.note_of(LEAVES[:400]))
        + b"torn " + marked(ledgers.note_of(LEAVES[:400]))[:90]
    )  # fmt: skip
    assert [line for line, _ in notes_in(log)] == [2, 3, 4, 5]
    report = verify(replaced(directory, LEAVES), ledgers.KEYS, logs=[log])
    assert report.ok, report.findings
    assert (report.seen[0].name, report.witnessed) == (f"{log} line 4", 400)
    # a line that fits and that the log has not signed says nothing
    false = Signer(ledgers.ORIGIN, 1, bytes(32))
    log.write_bytes(log.read_bytes() + b"\n" + marked(ledgers.note_of(LEAVES[:500], false)))
    report = verify(directory, ledgers.KEYS, logs=[log])
    assert (kinds(report), report.witnessed) == (["anchor"], 400)
    log.write_bytes(b"nothing\n" * 10)
    report = verify(directory, ledgers.KEYS, logs=[log])
    assert kinds(report) == ["anchor"]
    with pytest.raises(LedgerError, match="cannot be read"):
        verify(directory, ledgers.KEYS, logs=[tmp_path / "none"])


def test_the_command(directory, tmp_path, authority, capsys):
    replaced(directory, LEAVES)
    (tmp_path / "keys").write_text(ledgers.SIGNER.verifier.text())
    (tmp_path / "log").write_bytes(marked(ledgers.note_of(LEAVES[:450])))
    with authority.serving() as url:
        settings = AnchorSettings(
            name="tsa", kind="rfc3161", url=url, authority=authority.ca, path=tmp_path / "stamps"
        )
        open_anchor(settings).put(Ledger(directory))
    ledgers.write(directory, ledgers.files_of([*LEAVES, *ledgers.events(7, 601)]))
    arguments = ["audit", "verify", str(directory), "--key", str(tmp_path / "keys")]
    arguments += ["--log", str(tmp_path / "log"), "--timestamp", str(tmp_path / "stamps")]
    assert cli.main(arguments) == 1
    assert "need --authority" in capsys.readouterr().err
    code = cli.main([*arguments, "--authority", str(authority.ca)])
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "stamps/000000000600.tsr: has seen 600 events, witnessed by the time authority" in shown
    assert "unwitnessed tail: 7 events, from the sequence 601 on" in shown


class Slow:
    """An anchor that answers when it is let."""

    name = "slow"

    def __init__(self):
        self.go = threading.Event()
        self.tries = 0
        self.fail = False

    def put(self, ledger):
        self.tries += 1
        assert self.go.wait(20)
        if self.fail:
            raise LedgerError("is down")
        return ledger.checkpoint()


def test_one_that_is_down_holds_up_no_other_and_is_tried_again(directory, tmp_path, monkeypatch):
    monkeypatch.setattr("pangate.audit.anchors.follower.FIRST_RETRY_SECONDS", 0.02)
    replaced(directory, LEAVES[:300])
    slow = Slow()
    slow.fail = True
    followers = [
        AnchorFollower(directory, slow, 0.02),
        AnchorFollower(directory, FileAnchor(tmp_path / "there"), 0.02, "file"),
    ]
    try:
        for size in (300, 500):
            ledgers.write(directory, ledgers.files_of(LEAVES[:size]))
            until(lambda size=size: followers[1].size == size, "the file has it")
        assert followers[0].size == 0
        slow.go.set()
        until(lambda: followers[0].failures > 2, "it is tried again")
        assert followers[0].failure == "is down"
        slow.fail = False
        until(lambda: followers[0].size == 500, "it has the newest one")
        assert (followers[0].failure, followers[0].contradicted) == ("", False)
        tries = slow.tries
        time.sleep(0.2)
        assert slow.tries == tries, "nothing is put twice"
    finally:
        slow.go.set()
        for follower in followers:
            follower.close()


def test_a_follower_remembers_what_was_wiped_from_the_disk(directory, tmp_path, caplog):
    """All that lies on this machine is rolled back together, the kept checkpoints too."""
    replaced(directory, LEAVES)
    follower = AnchorFollower(directory, FileAnchor(tmp_path / "there"), 0.02)
    try:
        until(lambda: follower.size == 600, "it is there")
        (tmp_path / "there").unlink()
        replaced(directory, LEAVES[:300])
        until(lambda: follower.contradicted, "it is noticed")
        assert "rolled back" in follower.failure
    finally:
        follower.close()


def test_evidence_with_a_problem_is_a_finding(directory):
    report = verify(
        replaced(directory, LEAVES), ledgers.KEYS, [Evidence("x", b"", problem="no stamp")]
    )
    assert [(item.kind, item.where) for item in report.findings] == [("anchor", "x")]
