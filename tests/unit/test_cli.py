import os
import subprocess
import sys
from pathlib import Path

import pytest

import pangate
from pangate import cli, config
from pangate.errors import ConfigError, CredentialError, RecordFailed

ROOT = Path(__file__).parents[2]


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pangate.cli", *arguments]
    if code is not None:
        command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT / "src",
    )


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert name in shown
        assert command.summary in shown


def test_no_command_is_a_misuse(capsys):
    assert cli.main([]) == 2
    assert "usage:" in capsys.readouterr().err


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pangate {pangate.__version__}\n"


def test_an_unknown_command_gets_a_suggestion(capsys):
    assert cli.main(["chekc"]) == 2
    assert 'did you mean "check"?' in capsys.readouterr().err
    assert cli.main(["zzz"]) == 2
    assert "--help" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: pangate {name}" in capsys.readouterr().out


def test_check_prints_all_problems_and_fails(tmp_path):
    path = tmp_path / "pangate.toml"
    path.write_text("[listen]\nprot = 1\n[audit]\n")
    done = run("check", "--config", str(path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert 'listen.prot: unknown key; did you mean "port"?' in done.stderr
    assert "audit.path: missing." in done.stderr
    assert "problems:" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_prints_the_resolved_configuration(tmp_path):
    (tmp_path / "password").touch(0o600)
    path = tmp_path / "pangate.toml"
    path.write_text(
        """
[listen]
allow_plaintext_loopback = true
[[issuers]]
url = "https://issuer.example"
audience = "pangate"
[[resources]]
name = "payments"
host = "db.example"
database = "pay"
user = "gateway"
password = { file = "password" }
[[roles]]
name = "reporting"
match = { team = "reporting" }
resources = ["payments"]
[audit]
path = "audit.jsonl"
"""
    )
    done = run("check", "--config", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == config.describe(config.load(path))
    assert 'tls = "verify-full"' in done.stdout


def test_check_reference_is_the_page_in_docs():
    done = run("check", "--reference")
    assert done.returncode == 0
    assert done.stdout == (ROOT / "docs" / "configuration.md").read_text()


def test_a_configuration_that_is_not_there():
    for command in ("check", "serve"):
        done = run(command, "--config", "/nonexistent.toml")
        assert done.returncode == 1
        assert "there is no such file" in done.stderr
        assert "Traceback" not in done.stderr


def test_wrong_options_are_a_misuse():
    assert run("check").returncode == 2
    assert run("serve", "--conf", "x").returncode == 2


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ConfigError(["a: b; c"]), "1 problem:\n  a: b; c\n"),
        (RecordFailed("the audit file x is in use"), "pangate check: the audit file x is in use\n"),
        (CredentialError("resources[x]: is empty"), "pangate check: resources[x]: is empty\n"),
    ],
)
def test_errors_are_one_clear_message(monkeypatch, capsys, raised, expected):
    def fail(arguments: list[str]) -> int:
        raise raised

    monkeypatch.setattr(cli, "check", fail)
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().err == expected


def test_a_missing_extra_is_named():
    hide = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('msgspec', 'uvloop', 'httpx', 'jwt'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from pangate import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    done = run("check", "--reference", code=hide)
    assert done.returncode == 2
    assert 'pip install "pangate[gateway]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert run("--help", code=hide).returncode == 0


def test_the_command_line_imports_nothing_of_the_gateway():
    code = (
        "import sys, pangate.cli\n"
        "heavy = {'msgspec', 'httpx', 'uvloop', 'jwt', 'numpy', 'asyncio', 'ssl', 'cryptography'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = run(code=code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_reader_that_goes_away_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pangate.cli", "check", "--reference"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT / "src",
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
