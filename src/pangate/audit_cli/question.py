"""What `search`, `tail` and `stats` have in common: the options that say which events are meant, and the
index that finds them, brought up to the record first."""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pangate.audit import pan_mask
from pangate.audit.index import Index, Query, Record
from pangate.audit.several import FIRST, Several, Source
from pangate.audit_cli import add_ledger, sources_of
from pangate.errors import LedgerError


class Facet(NamedTuple):
    """An option that names what events have."""

    kind: str
    metavar: str
    help: str


FACETS = (
    Facet("principal", "NAME", "who: ISSUER#SUBJECT, or the subject alone"),
    Facet("role", "ROLE", "by which role"),
    Facet("resource", "NAME", "on which resource"),
    Facet("code", "CODE", "which event: statement.denied, auth.failed, ..."),
    Facet("verdict", "VERDICT", "allow, deny or hold"),
    Facet("effect", "EFFECT", "what the statement does: read, write, bulk_write, schema, ..."),
    Facet("table", "TABLE", "a table that the statement names, with its schema or without"),
    Facet(
        "network", "NETWORK", "a card network of which a number was masked: visa, mastercard, ..."
    ),
    Facet("address", "ADDRESS", "from where: an address, or a network like 10.0.0.0/8"),
    Facet("session", "SESSION", "one session"),
    Facet("rule", "RULE", "the rule that decided"),
    Facet("request", "REQUEST", "a request for approval"),
    Facet("error", "SQLSTATE", "the error that the statement ended with"),
)

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_SPAN = re.compile(r"(\d{1,9})([smhdw])")


def add(parser: argparse.ArgumentParser) -> None:
    """The options that say which events are meant."""
    add_ledger(parser, several=True)
    add_index(parser)
    which = parser.add_argument_group(
        "which events",
        "All of these have to hold; an option that is given again is one value more of which one has to. `*` "
        "in a value stands for anything.",
    )
    which.add_argument(
        "words", nargs="*", metavar="WORD",
        help="words of the statement, its bind values and reasons, all of them; several in quotes stand "
        "beside each other, WORD* is how a word begins",
    )  # fmt: skip
    for facet in FACETS:
        which.add_argument(
            f"--{facet.kind}", action="append", default=[], metavar=facet.metavar, help=facet.help
        )
    which.add_argument("--failed", action="store_true", help="only what did not succeed")
    which.add_argument(
        "--masked", type=_count, default=0, metavar="N", help="N card numbers or more were masked"
    )
    which.add_argument(
        "--since", type=moment, metavar="TIME",
        help="from this time on: ISO (2026-11-28, 2026-11-28T14:30; UTC unless it says other), or how long "
        "ago (2h, 7d)",
    )  # fmt: skip
    which.add_argument("--until", type=moment, metavar="TIME", help="before this time")
    which.add_argument(
        "--every", action="store_true",
        help="also the events that say how statements ended, which are told with the statements otherwise",
    )  # fmt: skip


def add_index(parser: argparse.ArgumentParser) -> None:
    """The option for where the index is."""
    parser.add_argument(
        "--index", type=Path, metavar="FILE",
        help="the index, where it cannot be beside the record; made when it is not there. Those of workers "
        "have .worker-N at the end of its name",
    )  # fmt: skip


def query_of(options: argparse.Namespace) -> Query:
    """What these options ask for."""
    terms = {
        facet.kind: tuple(getattr(options, facet.kind))
        for facet in FACETS
        if getattr(options, facet.kind)
    }
    mask = pan_mask()
    for word in options.words:
        if (masked := mask(word)) != word:
            _say(
                f"no card number is in the record; it stands there as {masked}, "
                "and its last digits are a word"
            )
    if options.failed:
        terms["success"] = ("false",)
    if options.since is not None and options.until is not None and options.since >= options.until:
        raise LedgerError("--since is not before --until")
    return Query(
        terms=terms,
        text=" ".join(f'"{word}"' if " " in word else word for word in options.words),
        since=options.since,
        until=options.until,
        masked=options.masked,
        every=options.every,
    )


def open_indexes(options: argparse.Namespace) -> Several:
    """The indexes of the records that the options name, brought up to them."""
    found: dict[str, Index] = {}
    for source in sources_of(options):
        index = Index(Record(source.path), index_of(options, source), notice=_say)
        found[source.name] = index
        shown = Progress(index)
        index.catch_up(progress=shown)
        shown.end()
        if index.record.missing:
            _say(
                f"{index.record.missing:,} events are retired or missing; `pangate audit verify` says which"
            )
    return Several(found)


def index_of(options: argparse.Namespace, source: Source) -> Path | None:
    """Where the index of one record is; None for beside it."""
    place: Path | None = options.index
    if place is None or source.name == FIRST:
        return place
    return place.with_name(f"{place.name}.{source.name}")


class Progress:
    """Says how far indexing is, when somebody watches and it takes a while."""

    def __init__(self, index: Index) -> None:
        file = index.record.file
        self._size = file.stat().st_size if file is not None and file.exists() else 0
        self._shown = False

    def __call__(self, done: int, end: int) -> None:
        if sys.stderr.isatty():
            self._shown = True
            part = f" ({min(100, 100 * end // self._size)} %)" if self._size and end > 0 else ""
            print(f"\rindexed {done:,} events{part}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Go on below."""
        if self._shown:
            print(file=sys.stderr)


def explain_nothing(index: Several, asked: Query) -> None:
    """Say which value nothing in the record has, when that is why nothing was found."""
    for kind, wanted in asked.terms.items():
        for value in wanted:
            if (
                kind == "success"
                or index.count(Query(terms={kind: (value,)}, every=True), ["all"])["all"]
            ):
                continue
            import difflib

            known = index.values(kind)
            close = difflib.get_close_matches(value, known, n=3) or known[:5]
            hint = f"; there is {', '.join(close)}" if close else ""
            _say(f"no event has the {kind} {value!r}{hint}")


def moment(text: str) -> float:
    """Seconds since 1970 of a time as it is given on a command line."""
    found = _SPAN.fullmatch(text)
    if found:
        return time.time() - int(found[1]) * UNITS[found[2]]
    try:
        made = datetime.fromisoformat(text)
        return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write 2026-11-28, 2026-11-28T14:30:00Z, or how long ago: 30m, 2h, 7d"
        ) from None


def positive(text: str) -> int:
    """A number above 0."""
    found = _count(text)
    if not found:
        raise argparse.ArgumentTypeError("a number above 0")
    return found


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _say(what: str) -> None:
    print(f"pangate audit: {what}", file=sys.stderr)
