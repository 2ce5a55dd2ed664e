"""`pangate policy test`: a file of statements with the verdicts that somebody expects."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from pangate.config import load
from pangate.model import Verdict
from pangate.policy_cli import FAILED, OK, moment
from pangate.question import Question, Unusable, ask


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[expect]]`. `sql` and `rows` may be lists, of which all have this verdict; `rule` is what
    decides, as the record has it ("rule:NAME", "role:NAME"), or the name of a rule alone."""

    resource: str
    sql: str | list[str]
    verdict: Literal["allow", "deny", "hold"]
    rule: str = ""
    claims: dict[str, Any] = {}
    role: str = ""
    source: str = ""
    at: str = ""
    rows: float | list[float] | None = None


class Expectations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file. `config` starts from its directory."""

    expect: list[Expectation]
    config: str = ""


def run(file: Path, config: Path | None) -> int:
    """Print what differs, and how much was compared."""
    found = _read(file)
    if config is None:
        if not found.config:
            raise Unusable(f'{file} names no configuration: write config = "FILE", or use --config')
        config = file.parent / found.config
    settings = load(config, files=False)
    compared = differing = 0
    for number, expected in enumerate(found.expect, 1):
        texts = [expected.sql] if isinstance(expected.sql, str) else expected.sql
        rows = expected.rows if isinstance(expected.rows, list) else [expected.rows]
        for text, estimate in itertools.product(texts, rows):
            try:
                now = moment(expected.at) if expected.at else None
                question = Question(
                    expected.resource,
                    text,
                    expected.claims,
                    expected.role,
                    expected.source,
                    now,
                    estimate,
                )
                verdict = ask(settings, question)[1].verdict
            except (Unusable, ValueError) as wrong:
                raise Unusable(f"{file}: expect {number}: {wrong}") from None
            compared += 1
            if not _fits(expected, verdict):
                differing += 1
                wanted = f"{expected.verdict} {expected.rule}".rstrip()
                of = "" if estimate is None else f" ({estimate:g} rows)"
                print(f"expect {number}: {' '.join(text.split())}{of}")
                print(f"  - {wanted}")
                print(f"  + {verdict.action} {verdict.rule}")
                if verdict.reason:
                    print(f"    {verdict.reason}")
                if verdict.needs_estimate:
                    print("    the planner's estimate could change it: write rows = N")
    if not compared:
        raise Unusable(f"{file} expects nothing: write at least one [[expect]]")
    if differing:
        print(f"{differing} of {compared} verdicts are not the expected ones")
        return FAILED
    print(f"{compared} verdicts are as expected")
    return OK


def _fits(expected: Expectation, verdict: Verdict) -> bool:
    rules = (verdict.rule, verdict.rule.removeprefix("rule:"))
    return verdict.action == expected.verdict and (not expected.rule or expected.rule in rules)


def _read(file: Path) -> Expectations:
    try:
        return msgspec.convert(tomllib.loads(file.read_text()), Expectations)
    except OSError as wrong:
        raise Unusable(f"{file} cannot be read: {wrong.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise Unusable(f"{file} is not TOML: {wrong}") from None
    except msgspec.ValidationError as wrong:
        raise Unusable(f"{file}: {wrong}") from None
