"""The review of a day, or of another period (PCI DSS 10.4.1): what is not as it always is.

"New" is what the record has nothing of before the period. All of it comes from the record, found by its
index."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pangate.audit.events import whole
from pangate.audit.index import Index, Query, Total
from pangate.audit.several import Several, by_time
from pangate.audit.verify import Report as Verified
from pangate.errors import LedgerError
from pangate.evidence import Report, Section

MOST_ROWS = 100
"""Rows of a section; the others are counted."""

MOST_READ = 20_000
"""Events that are read for a section."""

MOST_TEXT = 300
"""Characters of a statement or a reason."""

CRITICAL = ("schema", "privilege", "admin", "file", "code")

ACTIVITY = {
    "principal": "What each principal did",
    "resource": "What each resource saw",
    "network": "Card networks of masked numbers",
    "code": "Events by code",
}

Event = Mapping[str, Any]


class Part:
    """What one record has of a period: from the sequence `first` to before `behind`."""

    def __init__(self, index: Index, since: float, until: float) -> None:
        self.index = index
        self.first, self.behind = index.first_at(since), index.first_at(until)

    def missing(self, retired: Sequence[tuple[int, int]]) -> int:
        """Sequences of the period that the record has no event for, and that were not `retired`."""
        if self.behind <= self.first:
            return 0
        asked = Query(after=self.first - 1, before=self.behind, every=True)
        there = sum(total.events for _, total in self.index.count(asked, ["all"])["all"])
        gone = sum(
            max(0, min(end + 1, self.behind) - max(first + 1, self.first)) for first, end in retired
        )
        return max(0, self.behind - self.first - there - gone)

    def events(self, asked: Query) -> Iterator[Event]:
        """The events that `asked` is about, the oldest first, of the newest MOST_READ."""
        record = self.index.record
        with record.reader() as line:
            for hit in reversed(self.index.search(asked, MOST_READ)):
                try:
                    event = json.loads(line(hit.sequence, hit.offset))
                except (LedgerError, ValueError):
                    continue  # retired meanwhile; the section on the record itself tells of it
                yield whole(event, record.directory)


class Period:
    """The events of all records from `since` to before `until`, in seconds."""

    def __init__(self, several: Several, since: float, until: float) -> None:
        self._several = several
        self.since, self.until = since, until
        self.parts = {name: Part(index, since, until) for name, index in several.indexes.items()}

    def query(self, **terms: Sequence[str]) -> Query:
        """The question for events of this time that have these terms."""
        return Query(terms=terms, since=self.since, until=self.until)

    def events(self, asked: Query) -> Iterator[Event]:
        """The events that `asked` is about, the oldest first, of the newest MOST_READ of each record."""
        streams = [part.events(asked) for part in self.parts.values()]
        return by_time(streams, lambda event: str(event.get("time", "")), newest_first=False)

    def counts(self, asked: Query, kind: str) -> list[tuple[str, Total]]:
        """How many of them have each value of a kind."""
        return self._several.count(asked, [kind])[kind]

    def new(self, kind: str) -> list[str]:
        """The values of a kind that there were none of before, in any record."""
        new: dict[str, None] = {}
        known = set()
        for part in self.parts.values():
            for value, first in part.index.values(kind):
                if first < part.first:
                    known.add(value)
                elif first < part.behind:
                    new[value] = None
        return [value for value in new if value not in known]

    @property
    def begins(self) -> bool:
        """Whether no record has anything before the period, so that all of it is new."""
        return all(part.first <= 1 for part in self.parts.values())


@dataclass(frozen=True, slots=True)
class Checked:
    """What there is to say of a record as a whole: what verifying it said, or why there is nothing of that.
    `retired` are (index of the first leaf, index behind the last) of events that were taken away because of
    their age."""

    verified: Verified | None = None
    unverified: str = ""
    retired: Sequence[tuple[int, int]] = ()


def review(
    several: Several, since: float, until: float, checked: Mapping[str, Checked] | None = None
) -> Report:
    """The review of the events from `since` to before `until` in all records, and of each of these what was
    `checked`."""
    period = Period(several, since, until)
    names = ", ".join(str(index.record.name) for index in several.indexes.values())
    made = Report(names, moment(since), moment(until), moment(time.time()))
    total = dict(period.counts(period.query(), "all")).get("")
    if total is None:
        made.summary = ("No event in this time.",)
    else:
        made.summary = (
            f"{total.events:,} events, {total.failed:,} of them no success; {total.masked:,} card numbers "
            "masked.",
        )
    made.sections = [
        *(
            _record_itself(
                part, (checked or {}).get(name, Checked()), "" if several.alone else name
            )
            for name, part in period.parts.items()
        ),
        _glass(period),
        _denied(period),
        _logins(period),
        _new_principals(period),
        _new_places(period),
        _newly_masked(period),
        _held(period),
        _configuration(period),
        _recording(period),
        _critical(period),
        _readers(period),
        *_activity(period),
    ]
    return made


# The record itself


def _record_itself(part: Part, checked: Checked, name: str) -> Section:
    """About one record; `name` says which, where there are several."""
    rows: list[tuple[str, str]] = []
    verified = checked.verified
    missing = part.missing(checked.retired)
    wrong = missing > 0
    rows.append(("gaps", f"{missing:,} sequences have no event" if missing else "none"))
    if verified is None:
        rows.append(("sealed", checked.unverified))
    else:
        wrong = wrong or not verified.ok
        said = f"{verified.size:,} events, root {verified.root[:16]}" if verified.origin else "no"
        rows.append(("sealed", said))
        rows.append(("signed by", ", ".join(verified.signed_by) or "nobody"))
        alone = verified.size + verified.unsealed - verified.witnessed
        rows.append(("seen by nobody else", f"{alone:,} events, the newest"))
        rows += [(f"seen by {seen.name}", f"{seen.size:,} events") for seen in verified.seen]
        rows += [
            (f"WRONG: {one.kind}", f"{one.where}: {one.message}")
            for one in verified.findings[:MOST_ROWS]
        ]
        rows += [("note", notice) for notice in verified.notices]
        count = len(verified.findings) + verified.more_findings
        rows.append(("verified", f"{count:,} findings" if count else "nothing was changed"))
    return Section(
        f"The record itself{f', {name}' if name else ''}",
        ("10.3.2", "10.3.4"),
        ("what", "state"),
        rows,
        unusual=False,
        wrong=wrong,
        note="Something is wrong with the record; keep it as it is, and find out who did it."
        if wrong
        else "",
    )


def _recording(period: Period) -> Section:
    codes = ("log.start", "log.stop", "audit.repaired", "audit.recovered", "session.unfinished",
             "clock.back", "clock.accepted", "audit.note_refused", "audit.hold_placed",
             "audit.hold_released", "audit.retention_applied")  # fmt: skip
    rows = []
    for event in period.events(period.query(code=codes)):
        data = _data(event)
        rows.append(
            (
                _when(event),
                str(event.get("code")),
                _words(data, "detail", "removed_bytes", "seconds", "file") or _asked(data),
            )
        )
    return _section(
        "Recording started, stopped or was disturbed",
        ("10.2.1.6", "10.7.2"),
        ("time", "event", "what"),
        rows,
    )


def _asked(data: Mapping[str, Any]) -> str:
    """What somebody asked for who decides what becomes of the record."""
    asked = data.get("asked")
    return _words(asked, "name", "reason", "keep_days") if isinstance(asked, Mapping) else ""


# What was refused, and what was let through all the same


def _glass(period: Period) -> Section:
    events = list(period.events(period.query(code=("approval.broken_glass",))))
    steps = _steps(period, (_data(event).get("request") for event in events))
    rows = []
    for event in events:
        name = str(_data(event).get("request", ""))
        asked = (
            _data(steps[name, "approval.requested"][0]) if steps[name, "approval.requested"] else {}
        )
        reviews = [
            f"{_data(one).get('finding', '')} ({_short(one)}): {_data(one).get('note', '')}".rstrip(
                ": "
            )
            for one in steps[name, "approval.reviewed"]
        ]
        rows.append((_when(event), _short(event), str(event.get("resource")), _text(asked.get("text")),
                     _text(_data(event).get("reason")), "; ".join(reviews) or "NOT REVIEWED"))  # fmt: skip
    columns = ("time", "who", "resource", "statement", "reason", "review")
    return _section("The glass was broken", ("10.2.1.2",), columns, rows)


def _denied(period: Period) -> Section:
    groups: dict[tuple[str, ...], list[Event]] = defaultdict(list)
    asked = period.query(code=("statement.denied",))
    for event in period.events(asked):
        why = _text(_data(event).get("reason")) or str(_data(event).get("rule", ""))
        groups[_short(event), str(event.get("resource")), why].append(event)
    rows = [
        (
            str(len(events)),
            who,
            resource,
            why,
            _when(events[-1]),
            _text(_data(events[-1]).get("text")),
        )
        for (who, resource, why), events in _most(groups)
    ]
    columns = ("times", "who", "resource", "why", "last", "last statement")
    return _section("Statements that were denied", ("10.2.1.4",), columns, rows)


def _logins(period: Period) -> Section:
    codes = ("auth.failed", "authorisation.denied", "limit.reached", "session.refused")
    groups: dict[tuple[str, ...], list[Event]] = defaultdict(list)
    for event in period.events(period.query(code=codes)):
        address = str(event.get("origin", "")).rpartition(":")[0] or str(event.get("origin", ""))
        why = _text(_data(event).get("detail"))
        groups[str(event.get("code")), _short(event), address, why].append(event)
    rows = [
        (
            str(len(events)),
            code,
            who,
            address,
            str(events[-1].get("resource")),
            why,
            _when(events[-1]),
        )
        for (code, who, address, why), events in _most(groups)
    ]
    columns = ("times", "event", "who", "from", "resource", "why", "last")
    return _section("Logins that failed", ("10.2.1.4", "8.3.4"), columns, rows)


def _held(period: Period) -> Section:
    events = list(period.events(period.query(code=("approval.requested",))))
    steps = _steps(period, (_data(event).get("request") for event in events))
    rows = []
    for event in events:
        data = _data(event)
        name = str(data.get("request", ""))
        decided = [
            f"{_data(one).get('choice')} by {_short(one)}: {_text(_data(one).get('reason')) or 'no reason'}"
            for code in ("approval.decided", "approval.broken_glass")
            for one in steps[name, code]
        ]
        ends = [
            code.partition(".")[2]
            for code in ("approval.executed", "approval.expired", "approval.withdrawn")
            if steps[name, code]
        ]
        rows.append((_when(event), _short(event), str(event.get("resource")), _text(data.get("text")),
                     "; ".join(decided) or "nobody", ", ".join(ends) or "open", name))  # fmt: skip
    columns = ("time", "who", "resource", "statement", "decided", "end", "request")
    return _section("Statements that waited for people", ("10.2.1.2",), columns, rows)


def _critical(period: Period) -> Section:
    groups: dict[tuple[str, ...], list[Event]] = defaultdict(list)
    for event in period.events(period.query(code=("statement.allowed",), effect=CRITICAL)):
        effects = [one for one in _data(event).get("effects", ()) if one in CRITICAL]
        groups[_short(event), str(event.get("resource")), ", ".join(effects)].append(event)
    rows = [
        (
            str(len(events)),
            who,
            resource,
            effects,
            _when(events[-1]),
            _text(_data(events[-1]).get("text")),
        )
        for (who, resource, effects), events in _most(groups)
    ]
    columns = ("times", "who", "resource", "effects", "last", "last statement")
    title = "Objects, privileges, files or the server were changed"
    return _section(title, ("10.2.1.2", "10.2.1.5", "10.2.1.7"), columns, rows)


# What is new


def _new_principals(period: Period) -> Section:
    rows = []
    new = period.new("principal")
    for value in new[:MOST_ROWS]:
        asked = period.query(principal=(value,))
        roles = ", ".join(role for role, _ in period.counts(asked, "role"))
        resources = ", ".join(name for name, _ in period.counts(asked, "resource"))
        total = sum(one.events for _, one in period.counts(asked, "all"))
        rows.append((value, roles, resources, f"{total:,}"))
    columns = ("who", "roles", "resources", "events")
    return _section("Principals that were never seen before", ("10.2.1.5", "7.2.5.1"), columns, rows,
                    len(new) - len(rows), _all_new(period))  # fmt: skip


def _new_places(period: Period) -> Section:
    rows = []
    new = [value for value in period.new("place") if " " in value]
    for value in new[:MOST_ROWS]:
        resource, _, table = value.partition(" ")
        asked = period.query(place=(value,))
        who = period.counts(asked, "principal")
        effects = ", ".join(effect for effect, _ in period.counts(asked, "effect"))
        rows.append(
            (resource, table, _people(who), effects, f"{sum(one.events for _, one in who):,}")
        )
    columns = ("resource", "table", "who", "effects", "statements")
    return _section("Tables that were never used before", ("10.2.1.1",), columns, rows,
                    len(new) - len(rows), _all_new(period))  # fmt: skip


def _newly_masked(period: Period) -> Section:
    rows = []
    new = period.new("masked_at")
    for value in new[:MOST_ROWS]:
        resource, _, table = value.partition(" ")
        asked = period.query(masked_at=(value,))
        who = period.counts(asked, "principal")
        networks = ", ".join(network for network, _ in period.counts(asked, "network"))
        rows.append(
            (
                resource,
                table or "(no table named)",
                f"{sum(one.masked for _, one in who):,}",
                networks,
                _people(who),
            )
        )
    columns = ("resource", "table", "card numbers", "networks", "who")
    return _section("Card numbers where none were found before", ("12.5.2", "12.10.7"), columns, rows,
                    len(new) - len(rows), _all_new(period))  # fmt: skip


def _all_new(period: Period) -> str:
    return "The record begins in this period, so all of it is new." if period.begins else ""


# The rest


def _configuration(period: Period) -> Section:
    rows = []
    for event in period.events(period.query(code=("config.reloaded", "config.refused"))):
        data = _data(event)
        digests = (str(data.get(key, ""))[:12] for key in ("before", "config"))
        said = _words(data, "needs_restart", "problems")
        rows.append((_when(event), str(event.get("code")), *digests, said))
    columns = ("time", "event", "before", "in force", "what")
    return _section("The configuration was changed", ("10.2.1.2", "10.2.1.5"), columns, rows)


def _readers(period: Period) -> Section:
    groups: dict[tuple[str, ...], list[Event]] = defaultdict(list)
    codes = ("audit.read", "audit.exported", "approval.viewed")
    for event in period.events(period.query(code=codes)):
        command = str(_data(event).get("command") or event.get("code"))
        groups[_short(event), command].append(event)
    rows = [
        (str(len(events)), who, command, _when(events[-1]))
        for (who, command), events in _most(groups)
    ]
    return _section(
        "Who read the record", ("10.2.1.3",), ("times", "who", "how", "last"), rows, unusual=False
    )


def _activity(period: Period) -> Iterator[Section]:
    for kind, title in ACTIVITY.items():
        counts = period.counts(period.query(), kind)
        rows = [
            (value, f"{one.events:,}", f"{one.failed:,}", f"{one.masked:,}")
            for value, one in counts[:MOST_ROWS]
        ]
        columns = (kind, "events", "no success", "card numbers masked")
        yield Section(title, ("10.2.1.1",), columns, rows, len(counts) - len(rows), unusual=False)


# Words


def _section(
    title: str,
    requirements: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    more: int = 0,
    note: str = "",
    *,
    unusual: bool = True,
) -> Section:
    left = max(0, len(rows) - MOST_ROWS)
    return Section(
        title, requirements, columns, rows[:MOST_ROWS], more + left, note if rows else "", unusual
    )


def _steps(period: Period, requests: Iterable[object]) -> defaultdict[tuple[str, str], list[Event]]:
    """What became of requests for approval, also later than the period."""
    names = list(dict.fromkeys(name for name in requests if isinstance(name, str)))
    found: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
    if names:
        for event in period.events(Query(terms={"request": names})):
            found[str(_data(event).get("request")), str(event.get("code"))].append(event)
    return found


def _most(
    groups: Mapping[tuple[str, ...], list[Event]],
) -> list[tuple[tuple[str, ...], list[Event]]]:
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))


def _data(event: Event) -> Mapping[str, Any]:
    data = event.get("data")
    return data if isinstance(data, Mapping) else {}


def _when(event: Event) -> str:
    return str(event.get("time", ""))[:19].replace("T", " ")


def _short(event: Event) -> str:
    return _name(str(event.get("principal", "")))


def _name(principal: str) -> str:
    return principal.rpartition("#")[2] or principal


def _people(counts: Sequence[tuple[str, Total]]) -> str:
    names = [_name(value) for value, _ in counts]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _text(value: object) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _words(data: Mapping[str, Any], *keys: str) -> str:
    found = []
    for key in keys:
        value = data.get(key)
        if isinstance(value, list):
            value = "; ".join(map(str, value))
        if value not in (None, ""):
            found.append(f"{key.replace('_', ' ')}: {value}")
    return _text(", ".join(found))


def moment(seconds: float) -> str:
    """A time as events have it, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
