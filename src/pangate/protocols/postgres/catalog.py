"""What a database says of itself: its own types, and which column of which table a result comes from.

An agent chooses the names in its results, but not the OIDs: a rule for `cards.cvv` holds under any alias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pangate import _frame
from pangate._again import Known
from pangate.errors import MaskingError, ProtocolError
from pangate.masking.column import ACTIONS, GLUED, SENSITIVE, Action, Columns, words
from pangate.masking.keys import wiped_names
from pangate.model import EFFECTS, Part, Understanding
from pangate.protocols import Buffer
from pangate.protocols.postgres import carriers, messages
from pangate.protocols.postgres.carriers import Carriers, pattern
from pangate.protocols.postgres.login import BackendLogin
from pangate.protocols.postgres.messages import Reader
from pangate.sql import Lineage, lineage
from pangate.sql.carried import MASK, WIPE

FIRST_OWN_OID = 16384
"""FirstNormalObjectId of the server: types below are built in."""

MOST_TYPES = 100_000
"""Types of one database that are read. What lies beyond is not known, and refused in binary."""

MOST_TABLES = 20_000
"""Tables whose columns are remembered; beyond, all are forgotten and read again when needed."""

MESSAGE_MAX = 1 << 20

LOCK_TIMEOUT = "200ms"

MOST_TEXTS = 1024
KEPT_TEXT = 4096
"""Texts whose lineage is remembered, and the longest of them in characters."""

Rows = list[tuple[str, ...]]

TYPES = f"""\
select t.oid, t.typtype, t.typbasetype, coalesce(r.rngsubtype, m.rngsubtype, 0), coalesce(p.proname, '')
from pg_catalog.pg_type t
left join pg_catalog.pg_range r on r.rngtypid = t.oid
left join pg_catalog.pg_range m on m.rngmultitypid = t.oid
left join pg_catalog.pg_proc p on p.oid = t.typsend
where t.oid >= {FIRST_OWN_OID}
order by t.oid limit {MOST_TYPES}"""  # noqa: S608

COLUMNS = """\
select a.attrelid, a.attnum, n.nspname, c.relname, a.attname, (a.attgenerated <> '')::int,
    (c.relkind in ('v', 'm'))::int
from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where a.attrelid = any ('{%s}'::pg_catalog.oid[]) and a.attnum > 0 and not a.attisdropped"""

_SENDERS: Mapping[str, int | None] = {
    "array_send": _frame.ARRAY,
    "record_send": _frame.RECORD,
    "hstore_send": _frame.HSTORE,
    **dict.fromkeys(
        ("textsend", "varcharsend", "bpcharsend", "namesend", "byteasend", "citextsend")
    ),
    **dict.fromkeys(("ltree_send", "lquery_send", "ltxtq_send"), _frame.VERSIONED),
}
"""Operation by the function that makes the binary form of a base type; None is text. Only a superuser can
make a base type, so the name can be trusted."""

_AMBIGUOUS = frozenset(("cid", "verification_code", "pin", "pin_code", "pin_number"))
"""Names of SENSITIVE that mean other things in tables of numbers: a customer's id, a postal code."""


_STATISTICS = frozenset(("most_common_vals", "most_common_elems", "histogram_bounds")) | {
    f"stavalues{number}" for number in range(1, 6)
}
"""Columns of the server's own tables that hold samples of any column's values."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One column of one table: its full name, and what is done with its values. `texts_only` when that
    holds for texts alone."""

    name: str
    action: Action | None
    texts_only: bool = False
    generated: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a codec has to know: whether the database's own types, the columns of which tables (OIDs), and
    whether which tables and views have sensitive columns."""

    types: bool
    tables: frozenset[int]
    carriers: bool = False

    def __bool__(self) -> bool:
        return self.types or self.carriers or bool(self.tables)


class NameRules:
    """What to do with a column by its name. Keys of `given` are `column`, `table.column` or
    `schema.table.column`, in any case; a column alone is read as words, so `orderNo` is `order_no`.

    MaskingError names the entry that cannot be used."""

    def __init__(self, given: Mapping[str, str], *, sensitive: bool = True) -> None:
        alone: dict[str, str] = {}
        self._qualified: dict[tuple[str, ...], Action] = {}
        for key, action in given.items():
            parts = tuple(key.lower().split("."))
            if len(parts) > 3 or not all(parts):
                raise MaskingError(
                    f"columns.{key}: is no name of a column; write column, table.column or "
                    "schema.table.column"
                )
            for allowed in ACTIONS:
                if action != allowed:
                    continue
                if action == "leave" and len(parts) < 3:
                    # A table of the same name elsewhere would be left unmasked as well.
                    raise MaskingError(
                        f'columns.{key}: "leave" needs the full name; write schema.table.column'
                    )
                if len(parts) > 1:
                    self._qualified[parts] = allowed
                else:
                    alone[key] = allowed
                break
            else:
                raise MaskingError(
                    f"columns.{key}: there is no action {action!r}; there are {', '.join(ACTIONS)}"
                )
        self._given = Columns(alone, sensitive=False)
        wiped = [name for name, what in alone.items() if what == "wipe"]
        self.names = wiped_names(wiped, sensitive=sensitive)
        """The same for keys within JSON and hstore."""
        self._built_in = Columns(sensitive=sensitive)
        self._columns: dict[str, int] = {}
        """What columns carry whose name counts with their table only."""
        for parts, action_ in self._qualified.items():
            bits = _BITS.get(action_, 0)
            self._columns[parts[-1]] = self._columns.get(parts[-1], 0) | bits
        last = {words(name)[-1] for name in (*alone, *(SENSITIVE if sensitive else ()))}
        self.pattern = pattern(last | {*self._columns} | {*(GLUED if sensitive else ())})
        """What the names of sensitive columns match, and others with them."""
        self.any = bool(last or self._columns)
        qualified = {name: "wipe" for name, bits in self._columns.items() if bits and words(name)}
        acting = {name: what for name, what in alone.items() if what != "leave"}
        self._anywhere = Columns({**qualified, **acting}, sensitive=sensitive)
        self._mentioned: dict[str, bool] = {}

    def of(self, schema: str, table: str, column: str) -> tuple[Action | None, bool]:
        """What to do with a column, and whether with texts only."""
        full = (schema.lower(), table.lower(), column.lower())
        for length in (3, 2):
            if action := self._qualified.get(full[3 - length :]):
                return action, False
        if column == "query" and table in carriers.STATEMENTS and self._built_in:
            return "wipe", False
        return self.label(column)

    def label(self, name: str) -> tuple[Action | None, bool]:
        """The same for a name alone, which the agent may have chosen: it can ask for more masking, never for
        less."""
        found = self._given.action(name)
        return (found[0], False) if found else self._sensitive(name)

    def bits(self, name: str) -> tuple[int, bool]:
        """What a column of this name carries (see `pangate.sql.lineage`), and whether only when it is a
        text."""
        action, texts_only = self.label(name)
        return _BITS.get(action, 0), texts_only

    def bits_of(self, schema: str, table: str, column: str) -> tuple[int, bool]:
        """The same of a column of a table."""
        action, texts_only = self.of(schema, table, column)
        return _BITS.get(action, 0), texts_only

    def kept(self, name: str) -> bool:
        """Whether what is under this key is wiped in JSON."""
        return self.names.find(name.encode())

    def sensitive(self, name: str) -> bool:
        """Whether a column of this name is sensitive in some table."""
        return self._anywhere.action(name) is not None

    def mentioned(self, text: str) -> bool:
        """Whether such a name stands anywhere in a text."""
        found = self._mentioned.get(text)
        if found is None:
            found = self._anywhere.mentions(text)
            if len(text) <= KEPT_TEXT:
                if len(self._mentioned) >= MOST_TEXTS:
                    self._mentioned.clear()
                self._mentioned[text] = found
        return found

    def _sensitive(self, name: str) -> tuple[Action | None, bool]:
        if not self._built_in:
            return None, False
        if not self._built_in.action(name):
            return ("wipe" if name in _STATISTICS else None), False
        return "wipe", self._built_in.rule(name) in _AMBIGUOUS


_BITS: Mapping[Action | None, int] = {"wipe": WIPE, "mask": MASK}


class Catalog:
    """What is known of one database. Shared by the sessions on it, for one event loop."""

    def __init__(self, rules: NameRules) -> None:
        self.rules = rules
        self.types = _frame.Types()
        self.generation = 0
        """Grows whenever something else is known than before."""
        self._types_known = False
        self._tables: dict[int, dict[int, Fact]] = {}
        self._sought: set[tuple[int, int]] = set()
        """Columns that a table which is known did not have, and was read again for."""
        self._carriers: Carriers | None = None
        self._nothing = Carriers(rules, [], [], [], [])
        self._unseen: set[int] = set()
        """Views that came later than what is known of views, and were asked for."""
        self._lineages: dict[str, Lineage] = {}
        self._touching: dict[int, tuple[Understanding, bool]] = {}
        self.greetings: dict[tuple[object, ...], bytes] = {}
        """What agents are told at the end of their logins, by what the server says of itself and how it is
        masked: nearly all are told the same."""
        self.requests: dict[str, dict[bytes, Known]] = {}
        """Queries that came before but for their values, by the mask that their results were seen with."""

    def expire(self) -> None:
        """Read everything again when it is needed."""
        self._types_known = False
        self._tables.clear()
        self._sought.clear()
        self._carriers = None
        self._unseen.clear()
        self._lineages.clear()
        self._touching.clear()
        self.generation += 1

    def wanted(
        self,
        types: Iterable[int],
        columns: Iterable[tuple[int, int]],
        *,
        expressions: bool = False,
    ) -> Wanted:
        """What has to be read first for these types (OIDs) and columns (OID of the table and attribute
        number, 0 for no table's), and for the text behind them if there are `expressions`. Types that
        no database could add are not."""
        own = not self._types_known and any(oid >= FIRST_OWN_OID for oid in types)
        tables = set()
        ask = expressions
        for table, attribute in columns:
            if not table:
                continue
            ask = True
            known = self._tables.get(table)
            if known is None:
                tables.add(table)
            elif (
                attribute > 0 and attribute not in known and (table, attribute) not in self._sought
            ):
                self._sought.add((table, attribute))
                tables.add(table)
        return Wanted(own, frozenset(tables), ask and self._carriers is None and self.rules.any)

    def fact(self, table: int, attribute: int) -> Fact | None:
        """What is known of a column; None when nothing is, as of a table that nobody else sees yet."""
        return self._tables.get(table, {}).get(attribute)

    @property
    def carriers(self) -> Carriers:
        """What is known of the tables and views that have sensitive columns."""
        return self._carriers or self._nothing

    def touches(self, meaning: Understanding) -> bool:
        """Whether sensitive columns are, or may be, among those that a statement does more with than to show
        them, by their names or within whole rows. In doubt they are."""
        known = self._touching.get(id(meaning))
        if known is not None and known[0] is meaning:
            return known[1]
        found = any(map(self._touched, meaning.parts))
        if len(self._touching) >= MOST_TEXTS:
            self._touching.clear()
        self._touching[id(meaning)] = meaning, found  # kept, so that nothing else gets its identity
        return found

    def _touched(self, part: Part) -> bool:
        named = {column for _, column in part.columns}.difference(part.shown)
        if any(map(self.rules.sensitive, named)):
            return True
        if part.executes and len(part.needs) == len(EFFECTS):
            return self.rules.any  # nobody knows what it runs
        if self._carriers is None:
            return part.whole and bool(part.relations) and self.rules.any
        for relation in part.relations:
            if relation.name in carriers.STATEMENTS:
                continue
            found = self._carriers.relation(relation.name)
            if found.open or not named.isdisjoint(found.columns) or (part.whole and found.row):
                return True
        return False

    def lineage(self, text: str) -> Lineage:
        """What the columns of `text`'s results carry, when no session gave names to anything."""
        found = self._lineages.get(text)
        if found is None:
            found = lineage(text, self.carriers)
            if len(text) <= KEPT_TEXT:
                if len(self._lineages) >= MOST_TEXTS:
                    self._lineages.clear()
                self._lineages[text] = found
        return found

    def take_types(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Rows of TYPES."""
        base: dict[int, int] = {}
        operations: dict[int, int] = {}
        for oid, kind, inner, subtype, sender in rows:
            op = _operation(kind, int(subtype), sender)
            if op is not None:
                operations[int(oid)] = op
            elif kind == "d":
                base[int(oid)] = int(inner)
        known = _frame.Types(operations)
        for domain in base:
            at = domain
            for _ in range(32):  # domains over domains
                if at not in base:
                    break
                at = base[at]
            operations[domain] = _frame.op_of(at, 1, known)
        self.types = _frame.Types(
            {oid: op for oid, op in operations.items() if op & 0xFF != _frame.REFUSED}
        )
        self._types_known = True
        self.generation += 1

    def take_tables(self, tables: Iterable[int], rows: Iterable[tuple[str, ...]]) -> None:
        """Rows of COLUMNS for `tables`; one that has none is remembered as such."""
        if len(self._tables) >= MOST_TABLES:
            self._tables.clear()
        for table in tables:
            self._tables[table] = {}
        for table_, number, schema, name, column, generated, view in rows:
            action, texts_only = self.rules.of(schema, name, column)
            fact = Fact(f"{schema}.{name}.{column}", action, texts_only, generated == "1")
            self._tables.setdefault(int(table_), {})[int(number)] = fact
            if view == "1":
                self._take_view(int(table_))
        self.generation += 1

    def _take_view(self, oid: int) -> None:
        known = self._carriers
        if known and oid >= FIRST_OWN_OID and oid not in self._unseen and oid not in known.views:
            self._unseen.add(oid)
            self._carriers = None
            self._lineages.clear()
            self._touching.clear()

    def take_carriers(
        self, sensitive: Rows, uses: Rows, names: Rows, definitions: Rows | None
    ) -> None:
        """Rows of the queries of `carriers`."""
        self._carriers = Carriers(self.rules, sensitive, uses, names, definitions)
        self._lineages.clear()
        self._touching.clear()
        self.generation += 1

    def errand(self, wanted: Wanted) -> CatalogErrand:
        """What reads it."""
        return CatalogErrand(self, wanted)


def _operation(kind: str, subtype: int, sender: str) -> int | None:
    if kind == "e":
        return _frame.TEXT
    if kind == "c":
        return _frame.RECORD
    if kind == "r":
        return _frame.with_inner(_frame.RANGE, subtype)
    if kind == "m":
        return _frame.with_inner(_frame.MULTIRANGE, subtype)
    if kind == "b" and sender in _SENDERS:
        return _frame.TEXT if _SENDERS[sender] is None else _SENDERS[sender]
    return None


class CatalogErrand:
    """Asks the server for what is wanted, on a connection of its own, and tells the catalog.

    ProtocolError when the server does not answer as it should."""

    def __init__(self, catalog: Catalog, wanted: Wanted) -> None:
        self._catalog = catalog
        self._wanted = wanted
        self._asked = ["types"] if wanted.types else []
        if wanted.carriers:
            self._asked += ["sensitive", "uses", "names", "views"]
        if wanted.tables:
            self._asked.append("tables")
        self._found: dict[str, Rows | None] = {}
        self._rows: list[tuple[str, ...]] = []
        self._buffer = bytearray()
        self.done = False

    @property
    def knowledge(self) -> Catalog:
        return self._catalog

    @property
    def summary(self) -> Mapping[str, object]:
        return {
            "types": self._wanted.types,
            "tables": len(self._wanted.tables),
            "views": self._wanted.carriers,
        }

    def login(self, user: str, database: str, password: str, *, cleartext: bool) -> BackendLogin:
        """A login whose names mean the server's own."""
        settings = {"application_name": "pangate", "search_path": "pg_catalog"}
        settings["client_encoding"] = "UTF8"
        # A session that waits for this may hold the very lock that a view's definition needs.
        settings["lock_timeout"] = LOCK_TIMEOUT
        return BackendLogin(user, database, password, cleartext=cleartext, parameters=settings)

    def start(self) -> bytes:
        """The queries."""
        texts = {
            "types": TYPES,
            "tables": COLUMNS % ",".join(map(str, sorted(self._wanted.tables))),
            "sensitive": carriers.SENSITIVE % self._catalog.rules.pattern,
            "uses": carriers.USES,
            "names": carriers.NAMES,
            "views": carriers.VIEWS,
        }
        return b"".join(messages.query(texts[what]) for what in self._asked)

    def feed(self, data: Buffer) -> None:
        """Take the server's answer."""
        buffer = self._buffer
        buffer += data
        at = 0
        while not self.done and len(buffer) - at >= 5:
            length = int.from_bytes(buffer[at + 1 : at + 5], "big")
            if not 4 <= length <= MESSAGE_MAX:
                raise ProtocolError(
                    "the backend sent a catalog message of a wrong length", "backend"
                )
            if len(buffer) - at < length + 1:
                break
            self._message(buffer[at], bytes(buffer[at + 5 : at + 1 + length]))
            at += length + 1
        del buffer[:at]

    def _message(self, code: int, body: bytes) -> None:
        if code == ord("D"):
            if len(self._rows) > MOST_TYPES + 2000 * (1 + len(self._wanted.tables)):
                raise ProtocolError("the backend's catalog has no end", "backend")
            self._rows.append(_texts(body))
        elif code == ord("E"):
            said = messages.error_fields(body).get("C", "?")
            if self._asked[0] == "views" and said == "55P03":
                self._found["views"] = None  # somebody changes a table
                return
            raise ProtocolError(
                f"the backend does not show its catalog (SQLSTATE {said})", "backend"
            )
        elif code == ord("Z"):
            rows, self._rows = self._rows, []
            asked = self._asked.pop(0)
            _check({len(row) for row in rows} <= {_WIDTHS[asked]})
            if asked == "types":
                self._catalog.take_types(rows)
            elif asked == "tables":
                self._catalog.take_tables(self._wanted.tables, rows)
            else:
                self._found.setdefault(asked, rows)
                if asked == "views":
                    took = [self._found[what] or [] for what in ("sensitive", "uses", "names")]
                    self._catalog.take_carriers(took[0], took[1], took[2], self._found["views"])
            self.done = not self._asked
        else:
            _check(code in b"TCNS")


_WIDTHS = {"types": 5, "tables": 7, "sensitive": 7, "uses": 3, "names": 2, "views": 3}
"""Columns of the answers."""


def _check(fine: bool) -> None:
    if not fine:
        raise ProtocolError("the backend's catalog is not understood", "backend")


def _texts(body: bytes) -> tuple[str, ...]:
    """A DataRow in text; NULL is empty."""
    reader = Reader(body, "backend")
    cells = []
    for _ in range(reader.int16()):
        length = reader.int32()
        cells.append("" if length == -1 else reader.take(length).decode("utf-8", "replace"))
    reader.done()
    return tuple(cells)


def open_catalog(columns: Mapping[str, str], *, sensitive: bool = True) -> Catalog:
    """An empty catalog with these rules."""
    return Catalog(NameRules(columns, sensitive=sensitive))


assert frozenset(SENSITIVE) >= _AMBIGUOUS
