"""A rule, ready to be compared with what a statement does."""

from __future__ import annotations

import datetime
import ipaddress
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from fnmatch import translate
from typing import NamedTuple, Protocol

from pangate.model import Action, Effect, Hold, Part, Principal, Relation, Verdict
from pangate.policy.claims import matches_table
from pangate.policy.conditions import Condition

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

ANY = Relation("", "*", "")
"""The relation of what may reach any: code that is not in the statement, DROP ... CASCADE."""

WHOLE = frozenset({"bulk_write", "schema", "privilege", "code", "file", "admin"})
"""Effects that are on all columns of a table, whichever the statement names."""


class WhenRules(Protocol):
    """A window of the week, as the configuration has it."""

    @property
    def days(self) -> Sequence[str]: ...
    @property
    def begin(self) -> str: ...
    @property
    def end(self) -> str: ...
    @property
    def zone(self) -> str: ...


class HoldRules(Protocol):
    """A hold, as the configuration has it."""

    @property
    def model(self) -> Hold: ...


class RuleRules(Protocol):
    """A rule, as the configuration has it."""

    @property
    def name(self) -> str: ...
    @property
    def verdict(self) -> Action: ...
    @property
    def reason(self) -> str: ...
    @property
    def match(self) -> Mapping[str, object]: ...
    @property
    def issuer(self) -> str | None: ...
    @property
    def roles(self) -> Sequence[str]: ...
    @property
    def resources(self) -> Sequence[str]: ...
    @property
    def effects(self) -> Sequence[Effect]: ...
    @property
    def tables(self) -> Sequence[str]: ...
    @property
    def columns(self) -> Sequence[str]: ...
    @property
    def source(self) -> Sequence[str]: ...
    @property
    def when(self) -> WhenRules | None: ...
    @property
    def rows_over(self) -> int | None: ...
    @property
    def condition(self) -> str | None: ...
    @property
    def hold(self) -> HoldRules | None: ...
    @property
    def shadow(self) -> bool: ...


class Access(NamedTuple):
    """One effect of a statement on one relation. The effect is None for what needs none, the
    relation None for what has none, and ANY for what may have any."""

    effect: Effect | None
    relation: Relation | None


class Name:
    """A pattern for dotted names, such as `schema.table`.

    Where a rule takes something away (`strict` is false) a name that is written without its schema
    may be the one that is meant, and so may one in another case; where it gives, it may not."""

    __slots__ = ("_parts", "_strict")

    def __init__(self, pattern: str, strict: bool) -> None:
        flags = re.DOTALL if strict else re.DOTALL | re.IGNORECASE
        # fnmatch's classes are no part of the language: a [ is a [
        self._parts = tuple(
            None if part == "*" else re.compile(translate(part.replace("[", "[[]")), flags).match
            for part in reversed(pattern.split("."))
        )
        self._strict = strict

    def matches(self, *names: str) -> bool:
        """Whether the names, from the last to the first, fit. Empty ones are not written; "*" is all
        there are."""
        for part, name in zip(self._parts, names, strict=False):
            if part is None:
                continue
            if not name or name == "*":
                if self._strict:
                    return False
            elif part(name) is None:
                return False
        return True


class Rule:
    """A rule of the configuration, compiled. Raises ValueError for a condition that cannot be."""

    __slots__ = (
        "_columns",
        "_issuer",
        "_match",
        "_networks",
        "_plain",
        "_resources",
        "_roles",
        "_strict",
        "_tables",
        "_window",
        "action",
        "allowed",
        "condition",
        "dynamic",
        "effects",
        "hold",
        "name",
        "reason",
        "rows_over",
        "settings",
        "shadow",
    )

    def __init__(self, settings: RuleRules) -> None:
        self.settings = settings
        self.name = settings.name
        self.action: Action = settings.verdict
        self.allowed = Verdict("allow", rule=f"rule:{settings.name}")
        self.reason = settings.reason
        self.shadow = settings.shadow
        self.hold = settings.hold.model if settings.hold is not None else None
        self.effects: frozenset[Effect] = frozenset(settings.effects)
        self.rows_over = settings.rows_over
        self.condition = Condition(settings.condition) if settings.condition is not None else None
        self._match = settings.match
        self._issuer = settings.issuer
        self._roles = frozenset(settings.roles)
        self._resources = frozenset(settings.resources)
        self._networks = tuple(map(ipaddress.ip_network, settings.source))
        self._strict = self.action == "allow"
        last = [pattern.rpartition(".")[2].lower() for pattern in settings.tables]
        self._plain = None if any(set(name) & set("*?") for name in last) else frozenset(last)
        """Names of all its tables in lower case, where none is a pattern: most tables are none of them."""
        self._tables = tuple(Name(pattern, self._strict) for pattern in settings.tables)
        self._columns = tuple(Name(pattern, self._strict) for pattern in settings.columns)
        self._window = Window(settings.when) if settings.when is not None else None
        self.dynamic = bool(self._window or self.condition or self.rows_over is not None)
        """Whether the same statement in the same session can find another answer."""

    # Each of these says which criterion fails, "" for none.

    def session_mismatch(self, principal: Principal, role: str, resource: str, source: str) -> str:
        """The criteria that stand for a whole session."""
        if self._match and not (
            self._issuer in (None, principal.issuer)
            and matches_table(self._match, principal.claims)
        ):
            return "match"
        if self._roles and role not in self._roles:
            return "roles"
        if self._resources and resource not in self._resources:
            return "resources"
        if self._networks and not self._comes_from(source):
            return "source"
        return ""

    def access_mismatch(self, access: Access, part: Part) -> str:
        """The criteria that stand for a statement, whoever runs it whenever."""
        if self.effects and access.effect not in self.effects:
            return "effects"
        if self._tables and not self._on_tables(access):
            return "tables"
        if self._columns and not self._on_columns(access, part):
            return "columns"
        return ""

    def open_at(self, now: float) -> bool:
        """Whether the window of the rule is open; `now` is in seconds since the epoch."""
        return self._window is None or self._window.open_at(now)

    def _comes_from(self, source: str) -> bool:
        try:
            address = ipaddress.ip_address(source.strip("[]").partition("%")[0])
        except ValueError:
            # Where an agent comes from is not known: what takes away holds, what gives does not.
            return not self._strict
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def _on_tables(self, access: Access) -> bool:
        relation = access.relation
        if relation is None:
            return False
        if relation is ANY:
            return not self._strict
        name = relation.name
        if self._plain is not None and name.lower() not in self._plain:
            return False
        return any(pattern.matches(name, relation.schema) for pattern in self._tables)

    def _on_columns(self, access: Access, part: Part) -> bool:
        relation, effect = access.relation, access.effect
        if relation is ANY or effect is None:
            return not self._strict and effect is not None
        found = [
            (column, *reversed(table.split(".", 1))) if table else (column,)
            for table, column in part.columns
            if not self._strict or relation is None or table in ("", str(relation))
        ]
        if effect in WHOLE:
            if relation is not None:
                found = [("*", relation.name, relation.schema)]
            elif not self._strict:
                return True
        matched = [
            any(pattern.matches(*(*names, "", "")[:3]) for pattern in self._columns)
            for names in found
        ]
        return bool(matched) and all(matched) if self._strict else any(matched)


class Window:
    """A window of the week, in its own time zone."""

    __slots__ = ("_begin", "_days", "_end", "_zone")

    def __init__(self, when: WhenRules) -> None:
        self._zone = zoneinfo.ZoneInfo(when.zone)
        self._days = frozenset(DAYS.index(day) for day in when.days) or frozenset(range(7))
        self._begin, self._end = _minutes(when.begin), _minutes(when.end)

    def open_at(self, now: float) -> bool:
        """Whether it is open; `now` is in seconds since the epoch."""
        local = datetime.datetime.fromtimestamp(now, self._zone)
        today, minute = local.weekday(), local.hour * 60 + local.minute
        if self._begin < self._end:
            return today in self._days and self._begin <= minute < self._end
        # It ends on the day after it began.
        return (today in self._days and minute >= self._begin) or (
            (today - 1) % 7 in self._days and minute < self._end
        )


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def accesses(part: Part, needs: Mapping[Effect, str]) -> list[Access]:
    """What a statement does to what: each of its effects with each relation that may have it. `needs` is
    what it needs of its role."""
    if not needs:
        return [Access(None, None)]
    named = [one for one in part.relations if one.name != "*"]
    changed = [one for one in named if one.use != "read"]
    beside = [one for one in named if one.use != "schema"]
    # Code can reach what the statement does not name, and so can CASCADE.
    unknown = "code" in needs or len(named) < len(part.relations)
    found = []
    for effect in needs:
        touched: list[Relation | None]
        if effect == "session":
            touched = [None]
        elif effect == "read":
            touched = [*beside] or [None]
        elif effect in ("write", "bulk_write"):
            touched = [*(changed or named)] or [None]
        else:
            touched = [*named] or [ANY]
        if unknown and effect != "session" and ANY not in touched:
            touched.append(ANY)
        found += [Access(effect, relation) for relation in touched]
    return found


def covers(first: RuleRules, second: RuleRules) -> bool:
    """Whether all that `second` matches is matched by `first` before it, so that it never decides.
    False when that cannot be told."""
    if first.shadow or first.when is not None or first.rows_over is not None or first.condition:
        return False
    # What gives is compared more strictly than what takes away.
    if first.verdict == "allow" and second.verdict != "allow" and (first.tables or first.columns):
        return False
    if first.match and (dict(first.match) != dict(second.match) or first.issuer != second.issuer):
        return False
    for key in ("roles", "resources", "effects"):
        wide, narrow = getattr(first, key), getattr(second, key)
        if wide and not (narrow and set(narrow) <= set(wide)):
            return False
    for key in ("tables", "columns", "source"):
        wide, narrow = getattr(first, key), getattr(second, key)
        if wide and not (narrow and set(narrow) <= set(wide)):
            return False
    return True
