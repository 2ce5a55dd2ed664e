"""Which tables and views of a database have sensitive columns, and what a view calls what it shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from typing import Protocol

from pangate.sql.carried import ROW, WIPE, Relation
from pangate.sql.lineage import columns_of
from pangate.sql.tree import MAX_TEXT

MOST_COLUMNS = 50_000
"""Columns whose names may be sensitive that are read, and that views use. With more, every table counts
as one that has such a column."""

MOST_VIEWS = 2_000
"""Views whose definition is read; of others every column counts when it rests on a sensitive one."""

MOST_READ = 500
"""Views over sensitive columns whose definition is followed."""

MOST_NAMES = 4096
"""Names that are remembered."""

ROUNDS = 8
"""How often one is, for what other views add."""

_OUTSIDE = "n.nspname <> all ('{pg_catalog,information_schema,pg_toast}'::pg_catalog.text[])"

SENSITIVE = f"""\
select a.attrelid, a.attnum, n.nspname, c.relname, a.attname,
    (case when t.typtype = 'd' then t.typbasetype >= 16384 or t.typbasetype in (18, 19, 25, 705, 1042, 1043)
        else t.oid in (18, 19, 25, 705, 1042, 1043) end)::int,
    coalesce(nullif(t.typrelid, 0), nullif(e.typrelid, 0), nullif(b.typrelid, 0), 0)
from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_type t on t.oid = a.atttypid
left join pg_catalog.pg_type e on e.oid = t.typelem and t.typelem <> 0
left join pg_catalog.pg_type b on b.oid = t.typbasetype and t.typtype = 'd'
where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f', 'c') and {_OUTSIDE}
    and (a.attname ~* '%s' or coalesce(nullif(t.typrelid, 0), nullif(e.typrelid, 0), b.typrelid, 0) > 0)
limit {MOST_COLUMNS}"""  # noqa: S608

USES = f"""\
select distinct r.ev_class, d.refobjid, d.refobjsubid
from pg_catalog.pg_depend d
join pg_catalog.pg_rewrite r on r.oid = d.objid
join pg_catalog.pg_class c on c.oid = r.ev_class
where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and r.oid >= 16384
    and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid <> r.ev_class
    and c.relkind in ('v', 'm')
limit {MOST_COLUMNS}"""  # noqa: S608

VIEWS = f"""\
select c.oid, c.relname, case when length(v.text) <= {MAX_TEXT} then v.text else '' end
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join lateral (select pg_catalog.pg_get_viewdef(c.oid)) v(text)
where c.relkind in ('v', 'm') and {_OUTSIDE}
order by c.oid limit {MOST_VIEWS}"""  # noqa: S608

NAMES = f"""\
select c.oid, c.relname
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('v', 'm') and {_OUTSIDE}
limit {MOST_COLUMNS}"""  # noqa: S608

STATISTICS = frozenset(
    ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs", "pg_statistic", "pg_statistic_ext_data")
)
"""The server's own tables and views that hold samples of any column's values."""

STATEMENTS = frozenset(("pg_stat_activity", "pg_stat_statements"))
"""Those that show what other sessions run, in their column `query`, with all values in it."""

Rows = list[tuple[str, ...]]


class Rules(Protocol):
    """What the rules say of names. `NameRules` is one."""

    def bits(self, name: str) -> tuple[int, bool]:
        """What a column of this name carries, and whether only when it is a text."""

    def bits_of(self, schema: str, table: str, column: str) -> tuple[int, bool]:
        """The same of a column of a table."""

    def kept(self, name: str) -> bool:
        """Whether what is under this key is wiped in JSON."""


class Carriers:
    """What is known of one database, from the rows of SENSITIVE, USES, NAMES and VIEWS. `definitions` is
    None when the server did not show them (somebody holds a lock): then every column of a view that
    uses a sensitive one counts as sensitive.

    `columns` has what the columns of views carry that rest on sensitive ones, and columns that are rows
    of such a table, by OID and attribute number; `views` the OIDs of all views."""

    def __init__(
        self, rules: Rules, sensitive: Rows, uses: Rows, names: Rows, definitions: Rows | None
    ) -> None:
        self._rules = rules
        self._texts: set[str] = set()
        self._named: dict[str, int] = {}
        self.columns: dict[tuple[int, int], int] = {}
        self.views = {int(oid) for oid, _ in names}
        self._all: dict[tuple[int, int], int] = {}
        self._open: set[int] = set()
        self._relations: dict[str, Relation] = {}
        self._every = max(len(sensitive), len(uses), len(names)) >= MOST_COLUMNS
        rows_of: dict[int, set[tuple[int, int]]] = defaultdict(set)
        called: dict[int, str] = {int(oid): name for oid, name in names}
        labels: dict[tuple[int, int], str] = {}
        for oid, number, schema, table, column, text, row in sensitive:
            at = int(oid), int(number)
            called[at[0]] = table
            labels[at] = column
            bits, texts_only = rules.bits_of(schema, table, column)
            if bits and (text == "1" or not texts_only):
                self._all[at] = bits
                if texts_only:
                    self._texts.add(column.lower())
            if int(row):
                rows_of[int(row)].add(at)
        used: dict[int, set[tuple[int, int]]] = defaultdict(set)
        for view, table_, number in uses:
            used[int(view)].add((int(table_), int(number)))
        texts = {int(oid): text for oid, _, text in definitions or ()}
        self._close(called, labels, rows_of, used, texts)

    def _close(
        self,
        called: Mapping[int, str],
        labels: dict[tuple[int, int], str],
        rows_of: Mapping[int, Set[tuple[int, int]]],
        used: Mapping[int, Set[tuple[int, int]]],
        texts: Mapping[int, str],
    ) -> None:
        """Go on to the rows and views over what is sensitive until nothing is added."""
        users: dict[int, set[int]] = defaultdict(set)
        for view, columns in used.items():
            for table, _ in columns:
                users[table].add(view)
        read: Counter[int] = Counter()
        changed = {oid for oid, _ in self._all}
        for _ in range(MOST_VIEWS):
            if not changed:
                break
            self._relations = self._by_name(called, labels)
            before = dict(self._all), set(self._open)
            for oid in changed:
                for at in rows_of.get(oid, ()):
                    self._put(at, WIPE)
            for view in set().union(*(users.get(oid, ()) for oid in changed)):
                if self._touches(used[view]):
                    read[view] += 1
                    known = read[view] <= ROUNDS and len(read) <= MOST_READ
                    self._view(view, texts.get(view, "") if known else "", labels)
            changed = {at[0] for at, bits in self._all.items() if before[0].get(at) != bits}
            changed |= self._open - before[1]
        self._relations = self._by_name(called, labels)

    def _touches(self, columns: Set[tuple[int, int]]) -> bool:
        """Whether one of these columns is sensitive; 0 is for a whole row."""
        if any(at in self._all or at[0] in self._open for at in columns):
            return True
        rows = {table for table, number in columns if not number}
        return bool(rows) and any(table in rows for table, _ in self._all)

    def _view(self, view: int, text: str, labels: dict[tuple[int, int], str]) -> None:
        found, names = columns_of(text, self)
        if not text or found.rest:
            self._open.add(view)
        for index, name in enumerate(names):
            labels.setdefault((view, index + 1), name)
            if found.of(index):
                self._put((view, index + 1), found.of(index))

    def _put(self, at: tuple[int, int], bits: int) -> None:
        self._all[at] = self._all.get(at, 0) | bits
        self.columns[at] = self._all[at]

    def _by_name(
        self, called: Mapping[int, str], labels: Mapping[tuple[int, int], str]
    ) -> dict[str, Relation]:
        found: dict[str, tuple[dict[str, int], int, int]] = {}
        for at, bits in self._all.items():
            table, label = called.get(at[0], ""), labels.get(at, "")
            columns, row, open_ = found.get(table, ({}, 0, 0))
            columns[label] = columns.get(label, 0) | bits
            if bits == WIPE and self.kept(label):
                row |= ROW
            else:
                row |= bits & ~ROW | (WIPE if bits & ROW else 0)
            found[table] = columns, row, open_
        for oid in self._open:
            columns, row, open_ = found.get(called.get(oid, ""), ({}, 0, 0))
            found[called.get(oid, "")] = columns, row | WIPE, open_ | WIPE
        return {name: Relation(*parts) for name, parts in found.items()}

    def carried(self, table: int, attribute: int) -> int:
        """What a column carries that no rule names."""
        return WIPE if table in self._open else self.columns.get((table, attribute), 0)

    # --- what a text is read with -------------------------------------------------------------------

    def name(self, name: str) -> int:
        found = self._named.get(name)
        if found is None:
            bits, texts_only = self._rules.bits(name)
            found = 0 if texts_only and name.lower() not in self._texts else bits
            if len(self._named) >= MOST_NAMES:
                self._named.clear()
            self._named[name] = found
        return found

    def key(self, name: str) -> int:
        return self._rules.bits(name)[0]

    def kept(self, name: str) -> bool:
        return self._rules.kept(name)

    def relation(self, name: str) -> Relation:
        if name in STATISTICS:
            return _SAMPLES
        if name in STATEMENTS:
            bits, _ = self._rules.bits_of("pg_catalog", name, "query")
            return Relation({"query": bits} if bits else {}, row=bits)
        found = self._relations.get(name, _NONE)
        return Relation(found.columns, WIPE, WIPE) if self._every else found


_NONE = Relation()
_SAMPLES = Relation(row=WIPE)


def pattern(words: Set[str]) -> str:
    """A regular expression of the server for names that end in one of `words`, as the inside of a
    literal."""
    if not words:
        return "^$"
    escaped = ("".join(c if c.isalnum() else "\\" + c for c in word) for word in sorted(words))
    return f"({'|'.join(escaped)})[^a-zA-Z0-9]*$".replace("'", "''")
