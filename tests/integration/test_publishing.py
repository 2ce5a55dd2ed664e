"""A gateway that is served, whose checkpoints go to every kind of anchor, one of which is down."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from conftest import EVERYTHING
from pangate import cli
from pangate.audit.reader import Ledger
from pangate.audit_cli.keygen import write_key
from pangate.errors import LedgerError
from pangate.ledger.note import COSIGNATURE, Signer
from pangate.trial import Trial, until
from receivers import RSYSLOG, Rsyslog, TimeAuthority, Webhook, free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(RSYSLOG is None, reason="Debian's package rsyslog"),
]

ANCHORS = """
[[audit.anchors]]
name = "worm"
kind = "file"
seconds = 0.2
path = "{elsewhere}/worm"

[[audit.anchors]]
name = "stamps"
kind = "rfc3161"
seconds = 0.2
url = "{tsa}"
authority = "{tsa_ca}"
path = "{elsewhere}/stamps"

[[audit.anchors]]
name = "log"
kind = "syslog"
seconds = 0.2
host = "localhost"
port = {syslog_port}
ca = "{syslog_ca}"

[[audit.anchors]]
name = "hook"
kind = "webhook"
seconds = 0.2
url = "{hook}"
ca = "{hook_ca}"
token = {{ file = "{elsewhere}/token" }}

[[audit.anchors]]
name = "down"
kind = "witness"
seconds = 0.2
url = "http://127.0.0.1:{dead_port}"
witness_key = "{elsewhere}/w.key.pub"

[[audit.sinks]]
name = "copy"
kind = "file"
path = "{elsewhere}/copy.jsonl"

[[audit.sinks]]
name = "siem"
kind = "syslog"
host = "localhost"
port = {syslog_port}
ca = "{syslog_ca}"

[[audit.sinks]]
name = "away"
kind = "syslog"
host = "127.0.0.1"
transport = "tcp"
port = {dead_port}

[monitor]
port = {monitor_port}
"""


def size(trial: Trial) -> int:
    try:
        return Ledger(trial.directory).size
    except LedgerError:
        return 0


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs if "audit" in name}


@pytest.fixture
def everywhere(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    authority, webhook = TimeAuthority(tmp_path / "tsa"), Webhook(tmp_path / "hook")
    (elsewhere / "token").touch(0o600)
    (elsewhere / "token").write_text("a-token\n")
    write_key(elsewhere / "w.key", Signer.generate("w.example/1", COSIGNATURE))
    with (
        Rsyslog(tmp_path / "rsyslog", tls=True) as receiver,
        authority.serving() as tsa,
        webhook.serving() as hook,
    ):
        values = {
            "elsewhere": elsewhere,
            "tsa": tsa,
            "tsa_ca": authority.ca,
            "syslog_port": receiver.port,
            "syslog_ca": receiver.ca,
            "hook": hook,
            "hook_ca": webhook.ca,
            "dead_port": free_port(),
            "monitor_port": free_port(),
        }
        yield values, receiver, webhook


def evidence(values, receiver, webhook) -> list[str]:
    return [
        *("--checkpoint", str(values["elsewhere"] / "worm")),
        *("--timestamp", str(values["elsewhere"] / "stamps")),
        *("--authority", str(values["tsa_ca"])),
        *("--log", str(receiver.file)),
        *("--log", str(webhook.file)),
    ]


def publisher_of(trial: Trial) -> int:
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(trial.pid)],
        capture_output=True, text=True, timeout=20, check=False,
    ).stdout  # fmt: skip
    (pid,) = [line.split()[0] for line in found.splitlines() if "service.publishing" in line]
    return int(pid)


def verified(trial: Trial, *more: str) -> subprocess.CompletedProcess[str]:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        code = cli.main(["audit", "verify", str(trial.directory), *more])
    return subprocess.CompletedProcess([], code, shown.getvalue())


def test_every_anchor_has_what_is_sealed_and_a_roll_back_shows(
    postgres, trial, everywhere, tmp_path
):
    values, receiver, webhook = everywhere
    with Trial(
        postgres,
        audit="seal_seconds = 0.1",
        effects=EVERYTHING,
        tables=ANCHORS.format(**values),
    ) as made:
        made.psql(made.token(), "select t from cards order by id")
        made.stop_gateway()
        earlier = tmp_path / "earlier"
        shutil.copytree(made.directory, earlier, ignore=shutil.ignore_patterns("*.log"))
        made.start_gateway()

        def seen() -> bool:
            found = metrics(values["monitor_port"])
            return all(
                found.get(f'pangate_audit_anchor_sequence{{anchor="{name}"}}') == size(made)
                for name in ("worm", "stamps", "log", "hook")
            )

        until(seen, "four of them have it", seconds=60)
        found = metrics(values["monitor_port"])
        assert found['pangate_audit_anchor_up{anchor="down"}'] == 0
        assert found['pangate_audit_anchor_failures_total{anchor="down"}'] > 0
        assert found['pangate_audit_anchor_up{anchor="log"}'] == 1
        assert found["pangate_audit_publisher_up"] == 1
        assert found['pangate_audit_sink_up{sink="away"}'] == 0
        assert found['pangate_audit_sink_lag_bytes{sink="away"}'] > 0
        assert found['pangate_audit_sink_up{sink="copy"}'] == 1
        assert "the anchor down: the witness w.example/1 cannot be asked" in made.log.read_text()
        # who publishes has neither the gateway's memory nor the key that signs
        publisher = publisher_of(made)
        opened = [one.readlink().name for one in Path(f"/proc/{publisher}/fd").iterdir()]
        assert "audit.jsonl.key" not in opened
        os.kill(publisher, signal.SIGKILL)
        shown = made.psql(made.token(), "select t from cards order by id")
        assert "************1111" in shown.stdout, "nobody waits for it"
        until(lambda: "the publisher ended" in made.log.read_text(), "it is noticed")

        def again() -> bool:
            with contextlib.suppress(ValueError):  # there is none for a while
                return publisher_of(made) != publisher
            return False

        until(again, "another one goes on", seconds=60)
        made.stop_gateway()
        record = made.audit.read_bytes().splitlines()
        total = len(record)
        copied = (values["elsewhere"] / "copy.jsonl").read_bytes().splitlines()
        assert copied == record, "to the last event, whoever was killed meanwhile"
        until(lambda: record[-1] in receiver.file.read_bytes(), "the last message is there")
        sent = receiver.file.read_bytes()
        assert all(sent.count(event) >= 1 for event in record)
        done = verified(made, *evidence(values, receiver, webhook))
        assert done.returncode == 0, done.stdout
        assert "unwitnessed tail: none" in done.stdout, "the last checkpoint is published too"
        assert done.stdout.count(f"has seen {total} events") == 4, done.stdout

        # everything on this machine is put back to an earlier state
        for item in earlier.iterdir():
            target = made.directory / item.name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            item.rename(target)
        assert verified(made).returncode == 0, "alone it looks as it was"
        for option in (
            ["--checkpoint", str(values["elsewhere"] / "worm")],
            [
                "--timestamp",
                str(values["elsewhere"] / "stamps"),
                "--authority",
                str(values["tsa_ca"]),
            ],
            ["--log", str(receiver.file)],
            ["--log", str(webhook.file)],
        ):
            done = verified(made, *option)
            assert done.returncode == 1
            assert "WRONG (rolled back)" in done.stdout


def test_what_is_wrong_with_them_is_said_before_the_start(tmp_path, trial, capsys):
    text = (
        trial.config.read_text().replace("[audit]", "[audit]\nseal_seconds = 0")
        + """
[[audit.anchors]]
name = "a"
kind = "file"
url = "https://x.example"

[[audit.anchors]]
name = "a"
kind = "webhook"
url = "http://x.example/"

[[audit.anchors]]
name = "b"
kind = "syslog"
host = "x.example"
transport = "udp"
ca = "nowhere"
"""
    )
    path = trial.directory / "wrong.toml"
    path.write_text(text)
    assert cli.main(["check", "--config", str(path)]) == 1
    shown = capsys.readouterr().err
    for problem in (
        'audit.anchors[a].path: missing: kind = "file" needs it',
        'audit.anchors[a].url: has no effect with kind = "file"; take one away',
        "audit.anchors[a].url: http to x.example can be read and forged on the way; use https",
        'audit.anchors[1].name: "a" is there twice; rename or drop one',
        'audit.anchors[b].ca: has no effect with transport = "udp"; take one away',
        "audit.anchors[b].ca: there is no file",
    ):
        assert problem in shown, shown
    path.write_text(
        trial.config.read_text().replace("[audit]", "[audit]\nseal_seconds = 0")
        + """
[[audit.anchors]]
name = "a"
kind = "file"
path = "there"
"""
    )
    assert cli.main(["check", "--config", str(path)]) == 1
    shown = capsys.readouterr().err
    assert "audit.seal_seconds: is 0, so there are no checkpoints for the anchors" in shown
