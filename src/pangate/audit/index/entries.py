"""What an event is found by: its terms and its words.

Events come by the million and have few different heads, so terms are made for a group of events at a time:
those of one session and day, of one kind and verdict, of the same effects and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

MOST_WORDS = 1 << 20
"""Characters of an event whose words are kept; those behind are not found."""

MOST_VALUE = 500
"""Characters of a term; a longer one is cut to these."""

Terms = Iterator[tuple[str, str]]
"""(kind, value) of each."""


class Data(msgspec.Struct, gc=False):
    """What is looked at in the data of an event."""

    number: int = 0
    role: str = ""
    verdict: str = ""
    rule: str = ""
    request: str = ""
    error: str = ""
    text: str = ""
    reason: str = ""
    detail: str = ""
    note: str = ""
    application: str = ""
    parameters: tuple[str | None, ...] = ()
    effects: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    masked: dict[str, int] = msgspec.field(default_factory=dict)
    large: Any = None


class Entry(msgspec.Struct, gc=False):
    """What is looked at in an event."""

    code: str = ""
    time: str = ""
    session: str = ""
    principal: str = ""
    origin: str = ""
    resource: str = ""
    role: str = ""
    success: bool = False
    data: Data = msgspec.field(default_factory=Data)


Made = TypeVar("Made", bound=msgspec.Struct)

_decode = msgspec.json.Decoder(Entry).decode


def decoded(leaf: bytes) -> Entry | None:
    """The entry of a leaf; None when it is no JSON object."""
    try:
        return _decode(leaf)
    except (msgspec.ValidationError, UnicodeDecodeError):
        pass
    except msgspec.DecodeError:
        return None
    try:
        found = msgspec.json.decode(leaf)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return entry_of(found) if isinstance(found, dict) else None


def entry_of(event: Mapping[str, Any]) -> Entry:
    """The entry of an event as a mapping. What has not the type that it should have is left out."""
    data = event.get("data")
    made = _kept(Entry, {key: value for key, value in event.items() if key != "data"})
    made.data = _kept(Data, data if isinstance(data, Mapping) else {})
    return made


def _kept(kind: type[Made], values: Mapping[str, Any]) -> Made:
    made = kind()
    for field in msgspec.structs.fields(kind):
        if field.name in values:
            try:
                value = msgspec.convert(values[field.name], field.type)
            except msgspec.ValidationError:
                continue
            setattr(made, field.name, value)
    return made


# Terms


class Head(NamedTuple):
    """What events of one session and day have in common."""

    day: str
    session: str
    principal: str
    origin: str
    resource: str
    role: str

    @classmethod
    def of(cls, event: Entry) -> Head:
        """What an event has in common with others."""
        role = event.role or event.data.role
        return cls(
            event.time[:10], event.session, event.principal, event.origin, event.resource, role
        )

    def terms(self) -> Terms:
        """Those of the group."""
        yield "all", ""
        yield "day", self.day
        yield "principal", cut(self.principal)
        yield "resource", cut(self.resource)
        yield "address", cut(address_of(self.origin))
        if self.role:
            yield "role", cut(self.role)
        if self.session and self.session != "-":
            yield "session", cut(self.session)


class Kind(NamedTuple):
    """What events of one kind have in common."""

    code: str
    success: bool
    verdict: str
    rule: str
    error: str
    request: str

    @classmethod
    def of(cls, event: Entry) -> Kind:
        """What an event has in common with others."""
        data = event.data
        return cls(event.code, event.success, data.verdict, data.rule, data.error, data.request)

    def terms(self) -> Terms:
        """Those of the group."""
        yield "code", cut(self.code)
        yield "success", "true" if self.success else "false"
        verdict = "hold" if self.code == "approval.requested" else self.verdict
        for name in ("verdict", "rule", "error", "request"):
            value = verdict if name == "verdict" else getattr(self, name)
            if value:
                yield name, cut(value)


class Meaning(NamedTuple):
    """What statements that do the same have in common."""

    effects: tuple[str, ...]
    relations: tuple[str, ...]

    def terms(self) -> Terms:
        """Those of the group."""
        for effect in dict.fromkeys(self.effects):
            yield "effect", cut(effect)
        for table in dict.fromkeys(self.relations):
            yield "table", cut(table)


def places(resource: str, relations: tuple[str, ...]) -> list[str]:
    """A resource with each of its tables that a statement names; alone when it names none."""
    return [cut(f"{resource} {table}") for table in dict.fromkeys(relations)] or [cut(resource)]


def words(data: Data) -> str:
    """The text whose words an event is found by; empty when it has none."""
    found = data.text
    if data.parameters:
        found = "\n".join([found, *(one for one in data.parameters if one is not None)])
    for more in (data.reason, data.detail, data.note, data.application):
        if more:
            found = f"{found}\n{more}" if found else more
    return found[:MOST_WORDS]


def address_of(origin: str) -> str:
    """The address in where an event comes from, "address:port"."""
    address, _, port = origin.rpartition(":")
    return address.strip("[]") if address and port.isdigit() else origin


def cut(value: str) -> str:
    """A text as the value of a term."""
    return value[:MOST_VALUE]
