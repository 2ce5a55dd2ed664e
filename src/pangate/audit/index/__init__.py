"""What finds events in a record: an index of it, in one SQLite file beside it.

It is derived from the record and holds nothing that is not there, masked as it is there. It only finds:
what is shown is read from the record. So it may be removed at any time, and one that is damaged, of an
older form or of another record is made anew.

Events are numbered by their sequence and cut into blocks. For each term (a principal, a table, a code,
...) and block the index has the set of events that have it, so that a question is an intersection of sets,
whatever is asked for together. How a statement ended is an event of its own; its terms count for the
statement too."""

from __future__ import annotations

from pangate.audit.index.query import Hit, Query, Total
from pangate.audit.index.schema import BLOCK, KINDS
from pangate.audit.index.source import Record
from pangate.audit.index.store import Index, InUse, index_path

__all__ = ["BLOCK", "KINDS", "Hit", "InUse", "Index", "Query", "Record", "Total", "index_path"]
