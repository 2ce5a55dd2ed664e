import asyncio
import copy
import dataclasses
import json
import logging
import os
import pickle
import sys
import time
import traceback
from pathlib import Path

import msgspec
import pytest
import uvloop

from pangate import credentials
from pangate.config import ResourceSettings
from pangate.config.base import SecretSettings
from pangate.credentials import MAX_BYTES, Secret
from pangate.errors import CredentialError

CANARY = "pw-Canary-ÄÖ-4f1d"


def resource(**source: object) -> ResourceSettings:
    return ResourceSettings(
        name="payments",
        host="127.0.0.1",
        database="d",
        user="u",
        tls="disable",
        password=SecretSettings(**source),  # type: ignore[arg-type]
    )


def private(tmp_path: Path, data: bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def script(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def fault(source: ResourceSettings, seconds: float = 5.0) -> str:
    """The error's text, after looking for the canary everywhere that an error may carry it."""
    with pytest.raises(CredentialError) as caught:
        await credentials.read(source, seconds)
    error = caught.value
    chain: BaseException | None = error
    while chain is not None:
        assert CANARY not in repr(chain) + str(chain) + str(getattr(chain, "object", ""))
        chain = chain.__cause__ or chain.__context__
    assert CANARY not in "".join(traceback.format_exception(error))
    assert str(error).startswith("resources[payments].password.")
    return str(error)


def test_a_secret_does_not_show_itself(caplog):
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    record = logging.LogRecord("x", 20, "x", 1, "%s %r", (secret, secret), None)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        f"{secret:>40}",
        "%s %r" % (secret, secret),  # noqa: UP031
        repr([secret]),
        repr({"a": secret}),
        record.getMessage(),
        json.dumps({"a": secret}, default=str),
        repr(dir(secret)),
    ]
    assert all(CANARY not in text for text in shown)
    for way in (
        lambda: pickle.dumps(secret),
        lambda: pickle.dumps(secret, 0),
        lambda: copy.copy(secret),
        lambda: copy.deepcopy(secret),
        lambda: json.dumps(secret),
        lambda: msgspec.json.encode(secret),
        lambda: vars(secret),
        lambda: dataclasses.asdict(secret),
        lambda: hash(secret),
        lambda: "a" + secret,
        lambda: iter(secret),
    ):
        with pytest.raises(TypeError):
            way()
    assert secret == Secret(CANARY)
    assert secret != Secret("other")
    assert secret != CANARY
    assert bool(secret)
    assert not Secret("")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_file(tmp_path, end):
    path = private(tmp_path, f"{CANARY}{end}".encode())
    assert (await credentials.read(resource(file=path))).reveal() == CANARY


async def test_spaces_belong_to_a_password(tmp_path):
    path = private(tmp_path, b" a b \n")
    assert (await credentials.read(resource(file=path))).reveal() == " a b "


async def test_each_read_is_a_new_one(tmp_path):
    path = private(tmp_path, b"one")
    assert (await credentials.read(resource(file=path))).reveal() == "one"
    path.write_bytes(b"two")
    assert (await credentials.read(resource(file=path))).reveal() == "two"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (CANARY.encode() + b"\nsecond line\n", "several lines"),
        (CANARY.encode() + b"\n\n", "several lines"),
        (CANARY.encode() + b"\0", "control characters"),
        (CANARY.encode() + b"\xff", "not UTF-8"),
        (CANARY.encode() * MAX_BYTES, f"more than {MAX_BYTES} bytes"),
    ],
)
async def test_what_is_no_password(tmp_path, data, expected):
    assert expected in await fault(resource(file=private(tmp_path, data)))
    assert expected in await fault(
        resource(command=script(f"import sys; sys.stdout.buffer.write({data[:9000]!r})"))
    )


async def test_a_file_that_others_can_read_is_refused(tmp_path):
    path = private(tmp_path, CANARY.encode(), 0o644)
    assert "mode 0644" in await fault(resource(file=path))
    path.unlink()
    assert "there is no file" in await fault(resource(file=path))
    assert "not a regular file" in await fault(resource(file=tmp_path))


async def test_a_pipe_does_not_hang(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    assert "not a regular file" in await fault(resource(file=path))


async def test_env(monkeypatch):
    monkeypatch.setenv("PANGATE_TEST_PASSWORD", CANARY)
    source = resource(env="PANGATE_TEST_PASSWORD")
    assert (await credentials.read(source)).reveal() == CANARY
    monkeypatch.delenv("PANGATE_TEST_PASSWORD")
    assert "the environment has no PANGATE_TEST_PASSWORD" in await fault(source)


async def test_command():
    source = resource(command=script(f"print({CANARY!r})"))
    assert (await credentials.read(source)).reveal() == CANARY


async def test_a_command_that_fails_says_nothing_of_what_it_printed(capfd):
    code = f"import sys; print({CANARY!r}); print({CANARY!r}, file=sys.stderr); sys.exit(3)"
    assert "exit code 3" in await fault(resource(command=script(code)))
    assert CANARY not in "".join(capfd.readouterr())


async def test_a_command_that_is_not_there():
    assert "cannot be run" in await fault(resource(command=("/nonexistent/vault", CANARY)))


async def test_a_slow_command_is_ended_with_what_it_started(tmp_path):
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, time;"
        "child = subprocess.Popen(['sleep', '30']);"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}');"
        "time.sleep(30)"
    )
    started = time.monotonic()
    text = await fault(resource(command=script(code)), 1.0)
    assert "within 1 seconds (limits.credential_seconds)" in text
    assert time.monotonic() - started < 3
    for pid in map(int, pids.read_text().split()):
        for _ in range(100):
            if not alive(pid):
                break
            await asyncio.sleep(0.02)
        assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_an_endless_command_is_ended():
    for _ in range(20):
        started = time.monotonic()
        text = await fault(resource(command=("yes",)))
        assert f"more than {MAX_BYTES} bytes" in text
        assert time.monotonic() - started < 2


async def test_a_command_that_ignores_its_end_does_not_hold_the_session(tmp_path):
    """It has left its group and keeps the pipe open."""
    pid = tmp_path / "pid"
    code = (
        "import os, subprocess, time;"
        "child = subprocess.Popen(['sleep', '20'], start_new_session=True);"
        f"open({str(pid)!r}, 'w').write(str(child.pid));"
        "time.sleep(20)"
    )
    started = time.monotonic()
    assert "within 0.5 seconds" in await fault(resource(command=script(code)), 0.5)
    assert time.monotonic() - started < 1.5
    os.kill(int(pid.read_text()), 9)


def test_commands_run_on_uvloop_too():
    good = resource(command=script(f"print({CANARY!r})"))
    assert uvloop.run(credentials.read(good)).reveal() == CANARY
    assert "more than" in uvloop.run(fault(resource(command=("yes",))))
    assert "exit code 3" in uvloop.run(fault(resource(command=script("exit(3)"))))
    assert "within" in uvloop.run(fault(resource(command=("sleep", "20")), 0.3))


def test_every_source_of_the_configuration_can_be_read():
    assert tuple(credentials.SOURCES) == SecretSettings.__struct_fields__


async def test_a_vault_is_one_more_source(monkeypatch):
    async def from_vault(where: object) -> bytes:
        return f"{where}-secret".encode()

    monkeypatch.setitem(credentials.SOURCES, "env", from_vault)
    assert (await credentials.read(resource(env="x"))).reveal() == "x-secret"
