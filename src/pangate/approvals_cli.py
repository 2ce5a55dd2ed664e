"""`pangate approvals`: what waits for approval, and the decision on it, by the gateway's HTTP API."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from pangate.errors import PangateError

URL_VARIABLE, TOKEN_VARIABLE = "PANGATE_URL", "PANGATE_TOKEN"
DEFAULT_URL = "http://127.0.0.1:6480"
ANSWER_SECONDS = 30.0
ALIVE_SECONDS = 60.0
"""A watched gateway says something more often than this."""


class ApiError(PangateError):
    """The gateway refused, or did not answer."""


class Api:
    """The gateway's API, as one person asks it."""

    def __init__(self, url: str, token: str, ca: Path | None) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            verify=str(ca) if ca else True,
            timeout=ANSWER_SECONDS,
            follow_redirects=False,
            trust_env=False,
        )

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The answer to one request; None when it has no body. Raises ApiError."""
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as wrong:
            raise ApiError(f"{self._client.base_url} does not answer: {wrong}") from None
        if not answer.is_success:
            raise ApiError(_detail(answer))
        return answer.json() if answer.content else None

    def watch(self) -> Iterator[dict[str, Any]]:
        """Every change, as it happens."""
        timeout = httpx.Timeout(ANSWER_SECONDS, read=ALIVE_SECONDS)
        try:
            with self._client.stream("GET", "/api/approvals/watch", timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    raise ApiError(_detail(answer))
                print(f"watching {self._client.base_url}", file=sys.stderr, flush=True)
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        yield json.loads(line.removeprefix("data: "))
        except httpx.HTTPError as wrong:
            raise ApiError(f"{self._client.base_url} does not answer: {wrong}") from None


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return (
            f"the gateway answered with {answer.status_code}; is this the URL of its control plane?"
        )


def main(arguments: list[str]) -> int:
    """Run one of its commands; the exit code."""
    options = _parser().parse_args(arguments)
    api = Api(options.url, _token(options.token_file), options.ca)
    run: Callable[[Api, argparse.Namespace], None] = options.run
    run(api, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pangate approvals",
        description="See and decide statements that wait for approval.",
        epilog=f"The identity token of whoever decides is in {TOKEN_VARIABLE} or in --token-file.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--url",
        default=os.environ.get(URL_VARIABLE, DEFAULT_URL),
        help=f"the gateway's control plane; also {URL_VARIABLE} (default {DEFAULT_URL})",
    )
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="PEM file with the CA of its server"
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file that holds the token")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[Api, argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=f"{text}.", allow_abbrev=False)
        made.set_defaults(run=run, choice=name)
        return made

    made = command("list", _list, "list what waits")
    made.add_argument("--all", action="store_true", help="also what is over")
    made.add_argument("--json", action="store_true", help="as JSON")
    made = command("show", _show, "show one request")
    made.add_argument("id")
    made.add_argument("--json", action="store_true", help="as JSON")
    for name, text in (
        ("approve", "let a statement run, once"),
        ("deny", "refuse a statement"),
        ("withdraw", "take back a request of your own agent"),
        ("break-glass", "let a statement run at once, alone; somebody else has to review it"),
    ):
        made = command(name, _decide, text)
        made.add_argument("id")
        made.add_argument("--reason", default="", help="why; some decisions need it")
    made = command("count", _count, "have the rows counted that it concerns")
    made.add_argument("id")
    made = command("watch", _watch, "follow what happens until interrupted")
    made.add_argument("--json", action="store_true", help="one JSON object a line")
    command("reviews", _reviews, "list broken glass that nobody has looked at")
    made = command("review", _review, "say whether broken glass was justified")
    made.add_argument("id")
    made.add_argument("finding", choices=("justified", "not-justified"))
    made.add_argument("--note", required=True, help="why")
    return parser


def _token(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text().strip()
        except (OSError, UnicodeDecodeError) as wrong:
            raise ApiError(f"cannot read the token in {file}: {wrong}") from None
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise ApiError(f"there is no token; put yours into {TOKEN_VARIABLE} or name --token-file")
    return token


def _list(api: Api, options: argparse.Namespace) -> None:
    found = api.ask("GET", f"/api/approvals?state={'all' if options.all else 'pending'}")
    if options.json:
        print(json.dumps(found["approvals"], indent=2))
        return
    for one in found["approvals"]:
        print(_line(one))
    if not found["approvals"]:
        print("nothing waits", file=sys.stderr)


def _show(api: Api, options: argparse.Namespace) -> None:
    found = api.ask("GET", f"/api/approvals/{_name(options.id)}")
    if options.json:
        print(json.dumps(found, indent=2))
        return
    rows = [
        ("request", found["id"]),
        ("state", f"{found['state']} {found['outcome']}".strip()),
        ("asked by", f"{found['principal']} from {found['origin']}"),
        ("claims", ", ".join(f"{name}={value}" for name, value in found["claims"].items())),
        ("resource", f"{found['resource']}, role {found['role']}"),
        ("rule", f"{found['rule']} {found['reason']}".strip()),
        ("needs", f"{found['quorum']} of {' or '.join(found['approvers'])}"),
    ]
    if found["state"] == "pending":
        rows.append(("time left", f"{_left(found)} s"))
    if found["in_transaction"]:
        rows.append(("transaction", "is open: its locks are held while this waits"))
    if found["estimate"] is not None:
        rows.append(("rows", f"{found['estimate']} expected by the planner"))
    rows += [("decision", _decision(one)) for one in found["decisions"]]
    rows += [("earlier", _earlier(one)) for one in found["earlier"]]
    for name, value in rows:
        print(f"{name:<12} {_plain(value)}")
    print()
    for line in found["words"]:
        print(_plain(line))
    print()
    print(_plain(found["statement"], lines=True))
    for number, value in enumerate(found["parameters"], 1):
        print(f"${number} = {'NULL' if value is None else _plain(value)}")


def _decide(api: Api, options: argparse.Namespace) -> None:
    path = f"/api/approvals/{_name(options.id)}/{options.choice}"
    print(_line(api.ask("POST", path, {"reason": options.reason})))


def _count(api: Api, options: argparse.Namespace) -> None:
    found = api.ask("POST", f"/api/approvals/{_name(options.id)}/count", {})
    print(f"{found['rows']} rows{' or more' if found['more'] else ''}")


def _watch(api: Api, options: argparse.Namespace) -> None:
    for change in api.watch():
        print(
            json.dumps(change) if options.json else f"{change['code']:<22} {_line(change)}",
            flush=True,
        )


def _reviews(api: Api, options: argparse.Namespace) -> None:
    for one in api.ask("GET", "/api/reviews")["reviews"]:
        print(f"{one['request']} broken by {_plain(one['person'])}: {_plain(one['reason'])}")


def _review(api: Api, options: argparse.Namespace) -> None:
    finding = options.finding.replace("-", " ")
    api.ask("POST", f"/api/reviews/{_name(options.id)}", {"finding": finding, "note": options.note})


def _line(one: dict[str, Any]) -> str:
    left = f", {_left(one)} s left" if one["state"] == "pending" else ""
    statement = " ".join(_plain(one["statement"]).split())
    shown = statement if len(statement) <= 80 else statement[:79] + "…"
    return f"{one['id']}  {one['state']}{left}  {_plain(one['principal'])} on {one['resource']}: {shown}"


def _decision(one: dict[str, Any]) -> str:
    place = f" in the place of {one['authority']}" if one["authority"] != one["person"] else ""
    way = f" by way of {one['channel']}" if one["channel"] else ""
    reason = f": {one['reason']}" if one["reason"] else ""
    return f"{one['choice'].replace('_', ' ')} by {one['person']}{place}{way}{reason}"


def _earlier(one: dict[str, Any]) -> str:
    """A request of the same shape, and what was said to it."""
    ago = max(0, round(time.time() - float(one["created"])))
    since = next((f"{ago // unit} {name}" for unit, name in _UNITS if ago >= unit), f"{ago} s")
    said = "; ".join(map(_decision, one["decisions"])) or one["outcome"]
    return f"{one['id']}, {since} ago by {one['principal']}: {one['state']}{said and f' ({said})'}"


_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def _left(one: dict[str, Any]) -> int:
    return max(0, round(float(one["expires"]) - time.time()))


def _name(text: str) -> str:
    if not (text.isascii() and text.isalnum()):
        raise ApiError(f'"{text}" is no request; an id is of letters')
    return text


def _plain(text: str, *, lines: bool = False) -> str:
    """A text that an agent wrote, without what a terminal would take as commands or as another order."""
    kept = "\n\t" if lines else ""
    return "".join(
        char if char.isprintable() or char in kept else f"\\x{ord(char):02x}" for char in text
    )
