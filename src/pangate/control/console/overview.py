"""How the gateway stands: the first page, counts over time, and the ledger."""

from __future__ import annotations

import asyncio
import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path

from starlette.responses import Response

from pangate.audit.reader import ANCHORS, CHECKPOINT, PUBLIC_KEYS
from pangate.audit.several import FIRST, last_sequence, sources
from pangate.control.console import texts
from pangate.control.console.charts import Chart, chart
from pangate.control.console.records import COUNTED_BY, Counts
from pangate.control.console.web import ANYBODY, READING, Page, Visit, Web
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint
from pangate.ledger.letters import letters
from pangate.ledger.note import parse_note

PUBLISHED = "published.json"
"""What the process that shows checkpoints to others says of itself, in the directory of the ledger."""

MAX_PUBLISHED_BYTES = 1 << 20

SPANS = {
    "day": ("24 hours", 24, 13),
    "week": ("7 days", 7, 10),
    "month": ("30 days", 30, 10),
}
"""Name, columns, and how many letters of a time make one."""


@dataclass
class Anchor:
    """A checkpoint that somebody else has seen."""

    name: str
    size: int
    time: float
    wrong: str = ""


@dataclass
class Standing:
    """The ledger on disk. `failure` says why there is none to be read."""

    checkpoint: Checkpoint | None = None
    root: str = ""
    signatures: list[str] = field(default_factory=list)
    sealed_at: float = 0.0
    keys: list[str] = field(default_factory=list)
    anchors: list[Anchor] = field(default_factory=list)
    failure: str = ""
    source: str = FIRST
    """Whose record it is of."""
    recorded: int = 0
    """Events in the record, sealed or not."""

    @property
    def sealed(self) -> int:
        """Events that the checkpoint has."""
        return self.checkpoint.size if self.checkpoint else 0


async def first(web: Web, visit: Visit) -> Response:
    """Where somebody comes to who has signed in."""
    await web.record(visit, "console.viewed", {"page": "overview"})
    waiting = [
        one
        for one in await web.desk.requests(("pending",), 500)
        if visit.session.has("auditor", "admin") or web.desk.may_see(visit.session.person, one)
    ]
    gate = web.gate
    standings = await _standings(web)
    counts = await web.records.counts(_spans("day"))
    keys = [state for state in gate.authenticator.key_states() if not state.usable]
    return web.page(
        "overview.html",
        visit,
        waiting=waiting,
        open=sum(gate.open.values()) + gate.open_elsewhere(),
        sequence=sum(one.recorded for one in standings),
        sealed=sum(one.sealed for one in standings),
        sealing=bool(gate.config.audit.seal_seconds),
        failure=gate.record_failure,
        workers=gate.wrong_elsewhere(),
        keys=keys,
        charts=_charts(counts, "day", "resource"),
        behind=counts.behind,
    )


async def counted(web: Web, visit: Visit) -> Response:
    """Charts."""
    span = visit.query("span") if visit.query("span") in SPANS else "day"
    ways = [by for by in COUNTED_BY if by != "principal" or visit.session.has(*READING)]
    by = visit.query("by") if visit.query("by") in ways else "network"
    await web.record(visit, "console.viewed", {"page": "counts", "span": span, "by": by})
    counts = await web.records.counts(_spans(span), by)
    return web.page(
        "counts.html",
        visit,
        span=span,
        spans={name: about[0] for name, about in SPANS.items()},
        by=by,
        ways=ways,
        charts=[*_charts(counts, span, by), _sessions(counts, span)],
        behind=counts.behind,
    )


async def ledger(web: Web, visit: Visit) -> Response:
    """How far the record is sealed, and who has seen it."""
    await web.record(visit, "console.viewed", {"page": "ledger"})
    return web.page(
        "ledger.html",
        visit,
        standings=await _standings(web),
        pending=web.gate.recorder.pending,
        failure=web.gate.record_failure,
        seconds=web.gate.config.audit.seal_seconds,
    )


async def _standings(web: Web) -> list[Standing]:
    """Of the record of this process, and of those of all workers."""
    path, sequence = web.gate.config.audit.path, web.gate.recorder.sequence

    def read() -> list[Standing]:
        found = []
        for source, file in sources(path):
            one = _standing(file.parent)
            one.source = source
            try:
                one.recorded = sequence if source == FIRST else last_sequence(file)
            except OSError as wrong:
                one.failure = f"its record cannot be read: {wrong.strerror}"
            # what was sealed between the two looks
            one.recorded = max(one.recorded, one.sealed)
            found.append(one)
        return found

    return await asyncio.to_thread(read)


def _standing(directory: Path) -> Standing:
    """Read in a thread. Nothing is verified here: `pangate audit verify` does that, elsewhere at best."""
    found = Standing()
    path = directory / CHECKPOINT
    try:
        body, lines = parse_note(path.read_bytes())
        found.checkpoint = Checkpoint.parse(body)
        found.root = letters(found.checkpoint.root)
        found.signatures = [line.name for line in lines]
        found.sealed_at = path.stat().st_mtime
        found.keys = (directory / PUBLIC_KEYS).read_text().split()
    except FileNotFoundError:
        found.failure = "nothing is sealed"
    except (OSError, LedgerError, ValueError) as wrong:
        found.failure = f"it cannot be read: {wrong}"
    found.anchors = _anchors(directory)
    return found


def _anchors(directory: Path) -> list[Anchor]:
    """Who has seen a checkpoint: what the publisher says of those of the configuration, and beside them
    whoever cosigned one that is kept here."""
    found: dict[str, Anchor] = {}
    try:
        with (directory / PUBLISHED).open("rb") as file:
            said = json.loads(file.read(MAX_PUBLISHED_BYTES)).get("anchors", {})
        for name, one in said.items():
            wrong = "has seen another ledger than this" if one["contradicted"] else one["failure"]
            found[name] = Anchor(name, one["size"], float(one["put_at"]), wrong)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        found = {}
    for kept in sorted((directory / ANCHORS).glob("*.checkpoint"))[:100]:
        name = kept.stem.rpartition("+")[0] or kept.stem
        if name in found:
            continue
        try:
            seen = Checkpoint.parse(parse_note(kept.read_bytes())[0])
            found[name] = Anchor(name, seen.size, kept.stat().st_mtime)
        except (OSError, LedgerError):
            found[name] = Anchor(name, 0, 0.0, "its checkpoint cannot be read")
    return list(found.values())


def _spans(span: str) -> list[tuple[str, float]]:
    """The columns of a chart: name and when each begins."""
    _, columns, width = SPANS[span]
    now = datetime.datetime.now(datetime.UTC).replace(minute=0, second=0, microsecond=0)
    step = datetime.timedelta(hours=1)
    if width < 13:
        now, step = now.replace(hour=0), datetime.timedelta(days=1)
    times = [now - step * back for back in reversed(range(columns))]
    return [(time.isoformat()[:width], time.timestamp()) for time in times]


def _charts(counts: Counts, span: str, by: str) -> list[Chart]:
    times = [name for name, _ in _spans(span)]
    masked = _told_apart(counts.masked) if by == "principal" else counts.masked
    return [
        chart(f"Card numbers masked, by {by}", times, masked),
        chart("Statements, by verdict", times, counts.statements),
    ]


def _told_apart(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Principals by their subjects alone, where no other issuer has one of the same name."""
    subjects: dict[str, set[str]] = {}
    for of_time in counts.values():
        for name in of_time:
            subjects.setdefault(texts.person(name), set()).add(name)
    return {
        time: {
            name if len(subjects[texts.person(name)]) > 1 else texts.person(name): count
            for name, count in of_time.items()
        }
        for time, of_time in counts.items()
    }


def _sessions(counts: Counts, span: str) -> Chart:
    return chart("Sessions that began", [name for name, _ in _spans(span)], counts.sessions)


PAGES = (
    Page("/console", first, ANYBODY),
    Page("/console/counts", counted, ANYBODY),
    Page("/console/ledger", ledger, ANYBODY),
)
