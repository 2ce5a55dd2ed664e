"""`pangate policy`: what the rules decide, asked without a connection."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from pangate.config import load
from pangate.question import Question, Unusable

OK, FAILED, MISUSED = 0, 1, 2
"""Exit codes: decided, and as expected; not as expected or not to be done; wrong command line."""


def moment(text: str) -> float:
    """A time of the form 2026-03-02T12:00[+01:00], UTC where it has no zone, in seconds since the epoch.
    Raises ValueError."""
    found = datetime.datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def main(arguments: Sequence[str]) -> int:
    """`pangate policy`: run one of its commands and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="pangate policy",
        description="What the rules decide, asked without a connection.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser(
        "explain", help="say which rule decides on a statement, and why", allow_abbrev=False
    )
    one.add_argument("--config", type=Path, required=True, metavar="FILE", help="the TOML file")
    one.add_argument("--resource", required=True, metavar="NAME", help="what the agent asks for")
    one.add_argument(
        "--principal", type=Path, metavar="FILE", help="JSON file with the claims of the token"
    )
    one.add_argument(
        "--claim",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one claim; JSON, or else a text; may be repeated",
    )
    one.add_argument("--role", default="", metavar="NAME", help="take this role")
    one.add_argument("--source", default="", metavar="ADDRESS", help="where the agent comes from")
    one.add_argument("--at", type=moment, metavar="TIME", help="when, as 2026-03-02T12:00+01:00")
    one.add_argument("--rows", type=float, metavar="N", help="what the planner expects")
    one.add_argument("sql", metavar="SQL", help="the statement")
    many = commands.add_parser(
        "test", help="compare verdicts with a file of expected ones", allow_abbrev=False
    )
    many.add_argument("file", type=Path, metavar="FILE", help="TOML file with [[expect]] tables")
    many.add_argument(
        "--config", type=Path, metavar="FILE", help="the TOML file; else the one that FILE names"
    )
    options = parser.parse_args(arguments)
    if options.command == "test":
        from pangate.policy_cli import expect

        return expect.run(options.file, options.config)

    from pangate.policy_cli import explain

    question = Question(
        options.resource,
        options.sql,
        _claims(options.principal, options.claim),
        options.role,
        options.source,
        options.at,
        options.rows,
    )
    return explain.run(load(options.config, files=False), question)


def _claims(file: Path | None, single: Sequence[str]) -> dict[str, object]:
    claims: dict[str, object] = {}
    if file is not None:
        try:
            found = json.loads(file.read_text())
        except (OSError, ValueError) as wrong:
            raise Unusable(f"{file} cannot be read as JSON: {wrong}") from None
        if not isinstance(found, dict):
            raise Unusable(f"{file} holds no JSON object; write the claims as one")
        claims.update(found)
    for text in single:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Unusable(f'"{text}" is no claim; write NAME=VALUE')
        try:
            claims[name] = json.loads(value)
        except ValueError:
            claims[name] = value
    return claims
