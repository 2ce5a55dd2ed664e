"""The gateway's record on disks that fill up, take nothing more, or fail: nothing runs meanwhile, somebody is
told, and everything goes on by itself, with nothing missing. The disks are real file systems."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from conftest import EVERYTHING
from pangate.embedded import free_port
from pangate.trial import Trial, until
from servers import through

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="making file systems takes root"),
]

KIB = 1024


def run(*words: object) -> str:
    paths = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def prepare(*words: object) -> None:
    """What a platform may not be able to do, a container without the right to mount for example."""
    try:
        run(*words)
    except AssertionError as wrong:
        pytest.skip(f"this machine makes no such file system: {wrong}")


@contextlib.contextmanager
def mounted(place: Path, *how: object) -> Iterator[Path]:
    place.mkdir()
    prepare("mount", *how, place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, timeout=60)


class On(Trial):
    """A trial whose record is in another directory."""

    def __init__(self, directory: Path, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self._elsewhere = directory
        self.monitor = free_port()
        self._lines["tables"] += f"[monitor]\nport = {self.monitor}\n"

    def _configure(self) -> None:
        super()._configure()
        text, here = self.config.read_text(), self.audit
        self.audit = self._elsewhere / "record" / "audit.jsonl"
        self.audit.parent.mkdir(mode=0o700)
        self.config.write_text(text.replace(f'path = "{here}"', f'path = "{self.audit}"'))

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/readyz", timeout=10):
                return True
        except urllib.error.HTTPError as wrong:
            return b"the record cannot be written" not in wrong.read()

    def failures(self) -> float:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.monitor}/metrics", timeout=10
        ) as found:
            lines = found.read().decode().splitlines()
        (count,) = [
            float(line.split()[1])
            for line in lines
            if "record_failures_total " in line and line[0] != "#"
        ]
        return count

    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.audit.read_bytes().splitlines()]


def fill(place: Path, leave: int = 0) -> Path:
    """Take all that is left of a file system but for `leave` bytes."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
            break
    if leave:
        os.truncate(filler, max(0, filler.stat().st_size - leave))
    return filler


def connected(trial: Trial) -> psycopg.Connection:
    return psycopg.connect(through(trial, trial.token()), autocommit=True)


def refused(connection: psycopg.Connection, text: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(text)
    assert caught.value.sqlstate == "58030", caught.value


def count(trial: Trial) -> str:
    return trial.postgres.psql("select count(*) from faults", "postgres", "-At").strip()


@pytest.fixture
def table(postgres):
    postgres.psql("drop table if exists faults; create table faults (n int)")
    postgres.psql("grant all on faults to public")
    yield
    postgres.psql("drop table faults")


def recovered(trial: On) -> None:
    """The record is whole, says that it could not be written, and everything that ran is in it."""
    until(trial.ready, "the gateway is ready again")
    with contextlib.closing(connected(trial)) as agent:
        agent.execute("insert into faults values (1000)")
    assert trial.stop_gateway() == 0
    events = trial.events()
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    (told,) = [event for event in events if event["code"] == "audit.recovered"]
    assert told["data"]["detail"]
    assert told["data"]["seconds"] > 0
    log = trial.log.read_text()
    assert log.count("nothing is executed, because it cannot be recorded") == 1
    assert log.count("the record can be written again") == 1
    texts = [event["data"]["text"] for event in events if event["code"] == "statement.allowed"]
    assert "insert into faults values (1000)" in texts


def test_a_full_disk(postgres, trial, table, tmp_path):
    with (
        mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=1m", "none") as place,
        On(place, postgres, effects=EVERYTHING) as made,
    ):
        agent = connected(made)
        agent.execute("insert into faults values (1)")
        filler = fill(place)
        with pytest.raises(psycopg.Error) as caught:
            for number in range(100):  # the last page of the file has room for a few more
                agent.execute(f"insert into faults values ({number}) -- {'x' * 200}")
        assert caught.value.sqlstate == "58030"
        agent.close()
        ran = count(made)
        assert not made.ready()
        for _ in range(3):
            with pytest.raises(psycopg.Error):
                connected(made)
        assert count(made) == ran
        assert made.failures() > 0
        recorded = len(
            [line for line in made.audit.read_bytes().splitlines() if b"insert into faults" in line]
        )
        assert recorded >= int(ran)
        filler.unlink()
        recovered(made)


def test_a_disk_that_takes_nothing_more(postgres, trial, table, tmp_path):
    """What an ext4 makes of an error of its disk: from then on it only reads."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    prepare("mkfs.ext4", "-q", image)
    with (
        mounted(tmp_path / "disk", "-o", "loop", image) as place,
        On(place, postgres, effects=EVERYTHING) as made,
    ):
        agent = connected(made)
        agent.execute("insert into faults values (1)")
        until(lambda: b"statement.finished" in made.audit.read_bytes(), "its end is recorded")
        run("mount", "-o", "remount,abort", place)
        refused(agent, "insert into faults values (2)")
        agent.close()
        assert count(made) == "1"
        until(lambda: not made.ready(), "it says that it is not ready")
        assert made.failures() > 0
        assert made.stop_gateway() is not None, "it ends all the same"


def test_a_disk_that_fails_to_keep_what_it_took(postgres, trial, table, tmp_path):
    """The disk has less than it says, so that an fsync fails after the write was good. The kernel forgets
    what it could not write: what is on the disk in the end was written again."""
    # room enough, when nothing fills it, for what is sealed and indexed beside the record
    with mounted(tmp_path / "thin", "-t", "tmpfs", "-o", "size=32m", "none") as thin:
        image = thin / "image"
        with image.open("wb") as file:
            file.truncate(64 << 20)
        prepare("mkfs.ext2", "-q", "-b", "4096", image)
        with mounted(tmp_path / "disk", "-o", "loop", image) as place:
            # A loop device calls a write good of which only the first pages found room: a page at a time
            device = Path(run("findmnt", "-no", "SOURCE", place).strip()).name
            Path(f"/sys/block/{device}/queue/max_sectors_kb").write_text("4")
            with On(place, postgres, effects=EVERYTHING) as made:
                agent = connected(made)
                agent.execute("insert into faults values (1)")
                time.sleep(0.3)  # the start of the record is on the disk
                filler = fill(thin)
                steps = 0
                with pytest.raises(psycopg.Error) as caught:
                    for _ in range(200):  # every row, so it has to be on the disk first
                        agent.execute(f"/* {'x' * 1000} */ update faults set n = n + 1")
                        steps += 1
                assert caught.value.sqlstate == "58030"
                until(lambda: not made.ready(), "it says that it is not ready")
                with pytest.raises(psycopg.Error):
                    connected(made)
                ran = postgres.psql("select n from faults", "postgres", "-At").strip()
                assert ran == str(steps + 1), "nothing ran whose record is not on the disk"
                assert b"update faults" in made.audit.read_bytes()
                agent.close()
                filler.unlink()
                recovered(made)
                before = made.audit.read_bytes()
            run("umount", place)
            run("mount", "-o", "loop", image, place)
            assert made.audit.read_bytes() == before, "and it is on the disk"
