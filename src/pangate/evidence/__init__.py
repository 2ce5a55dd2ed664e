"""What the record shows to whoever has to look at it: reports with the requirements of PCI DSS that they
answer to.

A report is a list of sections, made once (`daily`), and shown as text, as a page or as JSON (`show`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Section:
    """One thing to look at. `requirements` are those of PCI DSS v4.0.1; a section that is `unusual` and
    has rows comes first. `more` is how many rows are left out; `note` is a sentence to read before the
    rows, or instead of them."""

    title: str
    requirements: Sequence[str]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    more: int = 0
    note: str = ""
    unusual: bool = True
    wrong: bool = False
    """Whether somebody has to do something about it."""


@dataclass(slots=True)
class Report:
    """What happened from `since` to before `until`, in a record. Times are as events have them."""

    record: str
    since: str
    until: str
    made: str
    summary: Sequence[str] = ()
    sections: list[Section] = field(default_factory=list)

    @property
    def unusual(self) -> list[Section]:
        """What there is that is not of every day: what is wrong before all else."""
        found = [one for one in self.sections if one.wrong or (one.unusual and one.rows)]
        return sorted(found, key=lambda one: not one.wrong)

    @property
    def nothing(self) -> list[Section]:
        """What was looked for and is not there."""
        return [one for one in self.sections if one.unusual and not one.rows and not one.wrong]

    @property
    def usual(self) -> list[Section]:
        """What is of every day."""
        return [one for one in self.sections if not one.unusual and not one.wrong]

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return asdict(self)
