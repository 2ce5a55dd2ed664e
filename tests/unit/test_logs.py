"""The log's two forms: masked, told apart by session, one line a record."""

from __future__ import annotations

import json
import subprocess
import sys

from pangate.logs import Episode

PREPARE = """
import logging, sys, threading, warnings
from pangate import logs
from pangate.config import LogSettings
logs.configure(LogSettings(format={format!r}, level="info"), {level!r})
log = logging.getLogger("pangate.test")
"""
PAN = "4111111111111111"


def test_trouble_is_told_once_while_it_lasts():
    trouble = Episode(60)
    assert [trouble.begins(now) for now in (5, 5.1, 64, 124, 183.9, 250)] == [
        True, False, False, True, False, True,
    ]  # fmt: skip


def run(code: str, form: str = "json", level: str | None = None) -> str:
    # A process of its own: it is the whole process' log.
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", PREPARE.format(format=form, level=level) + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    return done.stderr


def test_json():
    said = run(
        f"""
log.debug("not this")
log.info("card %s of %d", "{PAN}", 7)
logs.SESSION.set("abcdef")
log.warning("in a session\\nwith a line of its own {{}}")
try:
    raise ValueError("card {PAN}")
except ValueError:
    log.exception("went wrong")
warnings.warn("card {PAN}")
logging.getLogger("httpx").info("not this")
log.info("a half \\ud800")
"""
    )
    assert PAN not in said
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "error", "warning", "info"]
    first, second, third, fourth, fifth = lines
    assert first["event"] == "card ************1111 of 7"
    assert first["time"].endswith("Z")
    assert first["logger"] == "pangate.test"
    assert "session" not in first
    assert second["session"] == "abcdef"
    assert second["event"].splitlines() == ["in a session", "with a line of its own {}"]
    assert third["exception"].splitlines()[-1] == "ValueError: card ************1111"
    assert "card ************1111" in fourth["event"]
    assert fifth["event"] == "a half ?"


def test_text_cannot_be_made_to_look_like_a_line_of_its_own():
    said = run(
        f"""
logs.SESSION.set("abcdef")
log.error("%s", "name\\n2026-01-01 00:00:00,000 ERROR pangate: forged\\x1b[2J\\u2028 {PAN}")
""",
        "text",
    )
    assert len(said.splitlines()) == 1
    assert "\x1b" not in said
    assert PAN not in said
    assert " ERROR pangate.test: session abcdef: name\\n2026" in said


def test_the_command_lines_level_has_the_last_word():
    assert "this" in run('log.debug("this")', level="debug")
    assert run('log.warning("not this")', level="error") == ""


def test_what_nobody_handles_is_masked_too():
    said = run(
        f"""
threading.Thread(target=lambda: int("x {PAN}")).start()
class Bad:
    def __del__(self): raise ValueError("y {PAN}")
Bad()
raise ValueError("z {PAN}")
"""
    )
    assert PAN not in said
    exceptions = [json.loads(line)["exception"].splitlines()[-1] for line in said.splitlines()]
    assert sorted(exceptions) == [
        "ValueError: invalid literal for int() with base 10: 'x ************1111'",
        "ValueError: y ************1111",
        "ValueError: z ************1111",
    ]
