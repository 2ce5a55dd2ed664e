"""Which columns of a result carry sensitive data under another name, read off the text that made it.

A server names table and column only of what is a column and nothing else. Of an expression over one it
says nothing, so the names in the text are followed: through subqueries, WITH, functions in FROM and sets,
until nothing more is found. Names are taken wherever they stand, whatever scope hides them: that finds
too much at times, and never too little."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pangate.sql.carried import (
    EVERYTHING,
    PARAMETER,
    ROW,
    WIPE,
    Item,
    Known,
    Lineage,
    Outputs,
    Relation,
    as_relation,
    both,
    carried,
    either,
    joined,
)
from pangate.sql.figure import figure
from pangate.sql.given import Given, leftmost
from pangate.sql.keys import computed, folded, hidden, is_constant, key_bits, strings
from pangate.sql.meanings import (
    BOOLEAN,
    COMPARING,
    KEEPING,
    OF_ROWS,
    OPENING,
    PATHS,
    RUNNING,
    SINGLE,
)
from pangate.sql.tree import statements_of

Node = Any

ROUNDS = 12
"""Most rounds until nothing new is found; what needs more counts as sensitive whole."""


def lineage(text: str, known: Known, given: Given | None = None) -> Lineage:
    """What the columns of `text`'s results carry. Of several statements each column carries what any of
    them puts there; of a text that cannot be understood all columns do."""
    statements = statements_of(text)
    if statements is None:
        return EVERYTHING
    given = given or Given()
    try:
        found = [_of(statement, known, given) for statement in statements]
    except RecursionError:
        return EVERYTHING
    length = max((len(one.columns) for one in found), default=0)
    rest = 0
    for one in found:
        rest |= one.rest
    columns = []
    for index in range(length):
        bits = 0
        for one in found:
            bits |= one.of(index)
        columns.append(bits)
    return Lineage(tuple(columns), rest, any(one.unknown for one in found))


def settled(bits: int, values: Sequence[str | None], known: Known) -> int:
    """`bits` once the parameters have their values. None is NULL; one that is not there may be anything."""
    left = bits >> PARAMETER
    bits &= (1 << PARAMETER) - 1
    number = 0
    while left:
        if left & 1:
            if not 0 < number <= len(values):
                bits |= WIPE
            elif (value := values[number - 1]) is not None:
                bits |= key_bits(value, known)
        left >>= 1
        number += 1
    return bits


def columns_of(text: str, known: Known) -> tuple[Lineage, tuple[str, ...]]:
    """The same of the one query that `text` is, and the names of its columns."""
    found = statements_of(text)
    if found is None or len(found) != 1:
        return EVERYTHING, ()
    try:
        outputs = _Reader(known, Given()).whole(found[0])
    except RecursionError:
        return EVERYTHING, ()
    names = tuple(item.names[0] if item.names else "" for item in outputs.items)
    return outputs.lineage(), names


def _of(statement: Node, known: Known, given: Given) -> Lineage:
    given.take(statement)
    return _Reader(known, given).whole(statement).lineage()


class _Reader:
    """Reads one statement over and over until no name is added."""

    def __init__(
        self,
        known: Known,
        given: Given,
        within: frozenset[str] = frozenset(),
        relations: dict[str, Relation] | None = None,
    ) -> None:
        self.known = known
        self.given = given
        self.within = within
        self.names: dict[str, int] = {}
        self.rows: dict[str, int] = {}
        self.hard: dict[str, int] = {}
        self.ctes: dict[str, Outputs] = {}
        self.plain: set[str] = set()
        self.derived: set[str] = set()
        self.relations: dict[str, Relation] = {} if relations is None else relations
        self.open = 0
        self.changed = False

    def whole(self, statement: Node) -> Outputs:
        for _ in range(ROUNDS):
            self.changed = False
            outputs = self.statement(statement, top=True)
            if not self.changed:
                return outputs
        return Outputs(rest=WIPE, unknown=True)

    def add(self, where: dict[str, int], name: str, bits: int) -> None:
        if bits & ~where.get(name, 0):
            where[name] = where.get(name, 0) | bits
            self.changed = True

    def opened(self, bits: int) -> None:
        """Columns whose names are not known carry `bits`."""
        if bits & ~self.open:
            self.open |= bits
            self.changed = True

    # --- statements ---------------------------------------------------------------------------------

    def statement(self, statement: Node, *, top: bool = False) -> Outputs:
        ((kind, body),) = statement.items()
        if kind == "SelectStmt":
            return self.select(body, top=top)
        if kind in _CHANGES:
            return self.change(kind, body, top=top)
        if kind == "FetchStmt":
            if body.get("ismove"):
                return Outputs()
            return self.remembered(self.given.query("cursor", body["portalname"]), 0)
        if kind == "ExecuteStmt":
            queries = self.given.query("prepared", body["name"])
            return self.remembered(queries, self.value(body.get("params")))
        if kind == "CallStmt":
            return Outputs(rest=self.value(body.get("funccall", {}).get("args")))
        return Outputs()

    def remembered(self, queries: list[Node] | None, arguments: int) -> Outputs:
        if queries is None:
            return Outputs(rest=WIPE, unknown=True)
        outputs = Outputs()
        for query in queries:
            found = _Reader(self.known, self.given, self.within).whole(query)
            for item in found.items:
                item.bits = _executed(item.bits, arguments)
            found.rest = _executed(found.rest, arguments)
            unknown = outputs.unknown or found.unknown
            outputs = either(outputs, found) if outputs.items or outputs.rest else found
            outputs.unknown = unknown
        return outputs

    def select(self, body: Node, *, top: bool) -> Outputs:
        self.with_clause(body)
        if "larg" in body:
            left = self.select(body["larg"], top=top)
            right = self.select(body["rarg"], top=True)
            if not top:
                # where one arm has a star, nobody knows which name the other's columns get
                self.opened(right.behind(len(left.items)))
            return self.given_names(either(left, right), note=not top)
        outputs = Outputs()
        for index, line in enumerate(body.get("valuesLists", ())):
            for at, cell in enumerate(line["List"]["items"]):
                bits = self.value(cell)
                if index == 0:
                    outputs.items.append(Item((f"column{at + 1}",), bits, carried(bits)))
                elif at < len(outputs.items):
                    outputs.items[at].bits |= bits
                    outputs.items[at].row |= carried(bits)
        if "valuesLists" in body:
            return self.given_names(outputs, note=not top)
        hard, soft = self.sources(body.get("fromClause"))
        return self.targets(body.get("targetList"), hard, soft, note=not top)

    def change(self, kind: str, body: Node, *, top: bool) -> Outputs:
        """INSERT, UPDATE, DELETE, MERGE: what RETURNING gives."""
        self.with_clause(body)
        hard, soft = self.source({"RangeVar": body["relation"]})
        for name in ("old", "new"):
            self.add(self.rows, name, soft)
        more = [*body.get("fromClause", ()), *body.get("usingClause", ())]
        if "sourceRelation" in body:
            more.append(body["sourceRelation"])
        hard2, soft2 = self.sources(more)
        returning = body.get("returningList") or body.get("returningClause", {}).get("exprs")
        return self.targets(returning, hard | hard2, soft | soft2, note=not top)

    def with_clause(self, body: Node) -> None:
        for cte in body.get("withClause", {}).get("ctes", ()):
            query = cte["CommonTableExpr"]
            outputs = self.statement(query["ctequery"])
            outputs = self.renamed(outputs, query.get("aliascolnames"))
            bits = carried(outputs.all())
            for clause, column in (
                ("search_clause", "search_seq_column"),
                ("cycle_clause", "cycle_path_column"),
                ("cycle_clause", "cycle_mark_column"),
            ):
                if bits and column in query.get(clause, {}):
                    self.add(self.names, query[clause][column], bits)
            name = query["ctename"]
            known = self.ctes.get(name)
            if known is None or known != outputs:
                self.ctes[name] = outputs if known is None else both(outputs, known)
                self.changed = self.changed or self.ctes[name] != known

    # --- FROM ---------------------------------------------------------------------------------------

    def sources(self, nodes: Iterable[Node] | None) -> tuple[int, int]:
        hard = soft = 0
        for node in nodes or ():
            one, other = self.source(node)
            hard |= one
            soft |= other
        return hard, soft

    def source(self, node: Node) -> tuple[int, int]:
        """One item of FROM: what its columns carry that are expressions, and those that are not."""
        ((kind, body),) = node.items()
        alias = body.get("alias", {}).get("aliasname", "")
        listed = strings(body.get("alias", {}).get("colnames"))
        if kind == "RangeVar":
            return self.table(body, alias or body["relname"], listed)
        if kind == "RangeSubselect":
            outputs = self.renamed(self.statement(body["subquery"]), listed)
            return self.item(alias, outputs.row(), outputs.hard())
        if kind == "JoinExpr":
            hard, soft = self.sources([body["larg"], body["rarg"]])
            using = body.get("join_using_alias", {}).get("aliasname", "")
            if listed and hard | soft:
                hard = carried(hard | soft)
                for name in listed:
                    self.add(self.names, name, hard)
            for name in (alias, using):
                self.item(name, hard | soft, hard)
            return hard, soft
        if kind == "RangeTableSample":
            return self.source(body["relation"])
        if kind == "RangeFunction":
            return self.functions(body, alias, listed)
        return self.table_function(body, alias, listed)

    def item(self, name: str, row: int, hard: int, *, plain: bool = False) -> tuple[int, int]:
        """Note what goes by a name in FROM; `plain` when that is a table and nothing else."""
        if name:
            if not plain and name not in self.derived:
                self.derived.add(name)
                self.changed = True
            self.add(self.rows, name, row)
            self.add(self.hard, name, hard)
        return hard, row & ~hard

    def table(self, body: Node, name: str, listed: tuple[str, ...]) -> tuple[int, int]:
        table = body["relname"]
        relation = self.relation(table)
        for column, bits in relation.columns.items():
            self.add(self.names, column, bits & ~self.known.name(column))
        self.opened(relation.open)
        row, hard = relation.row, 0
        cte = None if "schemaname" in body else self.ctes.get(table)
        if cte is not None:
            row |= cte.row()
            hard |= cte.hard()
        plain = cte is None and not relation.open
        if plain:
            self.plain.add(name)
        if listed and row:
            row = hard = carried(row | hard)
            for column in listed:
                self.add(self.names, column, row)
        return self.item(name, row, hard, plain=plain)

    def functions(self, body: Node, alias: str, listed: tuple[str, ...]) -> tuple[int, int]:
        bits = 0
        names = [*listed]
        known = True
        for each in body["functions"]:
            items = each["List"]["items"]
            bits |= carried(self.value(items[0]))
            called = figure(items[0])
            names += called
            known = known and called[-1] in SINGLE
            names += _definitions(items[1:])
        names += _definitions(body.get("coldeflist"))
        for name in names:
            self.add(self.names, name, self.known.key(name) & ~self.known.name(name))
        if not bits:
            return 0, 0
        for name in (*names, alias):
            self.add(self.names, name, bits)
        if not known:
            self.opened(bits)
        return self.item(alias or names[0], bits, bits)

    def table_function(self, body: Node, alias: str, listed: tuple[str, ...]) -> tuple[int, int]:
        """XMLTABLE and JSON_TABLE: a column carries what its path names, or what the document does."""
        document = {k: v for k, v in body.items() if k not in ("columns", "alias", "namespaces")}
        bits = carried(self.value(document))
        every = bits
        for column in _columns(body.get("columns")):
            name = column.get("name") or column.get("colname", "")
            own = bits | carried(self.value(column)) | self.known.key(name)
            self.add(self.names, name, own)
            every |= own
        for name in listed if every else ():
            self.add(self.names, name, every)
        return self.item(alias, every, every)

    def relation(self, name: str) -> Relation:
        """The tables and views of this name, those of the session among them."""
        found = self.relations.get(name)
        if found is None:
            found = self.known.relation(name)
            made = self.given.relation(name)
            if self.given.lost:
                found = Relation(found.columns, WIPE, WIPE)
            elif name in self.within:
                return Relation(found.columns, WIPE, WIPE) if made else found
            else:
                for statement in made:
                    found = self.made(name, statement, found)
            self.relations[name] = found
        return found

    def made(self, name: str, statement: Node, found: Relation) -> Relation:
        inner = _Reader(self.known, self.given, self.within | {name}, self.relations)
        ((kind, body),) = statement.items()
        if kind == "RenameStmt":
            old = body["relation"]["relname"]
            if body.get("subname") is None:
                return joined(found, inner.relation(old))
            column = body["subname"]
            bits = self.known.key(column) | found.columns.get(column, 0)
            bits |= joined(found, self.known.relation(old)).columns.get(column, 0)
            if not bits:
                return found
            columns = {**found.columns, body.get("newname", ""): bits}
            return Relation(columns, carried(bits | found.row), found.open)
        if kind == "CreateStmt":
            outputs = Outputs()
            for element in body.get("tableElts", ()):
                if "ColumnDef" in element:
                    column = element["ColumnDef"]["colname"]
                    bits = self.known.key(column)
                    row = ROW if bits and self.known.kept(column) else bits
                    outputs.items.append(Item((column,), bits, row))
                elif "TableLikeClause" in element:
                    other = inner.relation(element["TableLikeClause"]["relation"]["relname"])
                    found = joined(found, other)
            for parent in body.get("inhRelations", ()):
                found = joined(found, inner.relation(parent["RangeVar"]["relname"]))
            return joined(found, as_relation(outputs))
        if kind == "ViewStmt":
            listed = strings(body.get("aliases"))
            query = body["query"]
        else:
            into = body.get("into") or leftmost(body)["intoClause"]
            listed = strings(into.get("colNames"))
            query = body.get("query") or statement
        outputs = inner.whole(query)
        if listed:
            outputs = inner.renamed(outputs, listed)
        return joined(found, as_relation(outputs))

    # --- columns of a query -------------------------------------------------------------------------

    def targets(
        self, targets: Iterable[Node] | None, hard: int, soft: int, *, note: bool
    ) -> Outputs:
        outputs = Outputs()
        starred = False
        for target in targets or ():
            body = target["ResTarget"]
            value = body.get("val", {})
            star = self.star(value, hard, soft)
            if star is not None:
                starred = True
                outputs.rest |= star[0]
                outputs.soft |= star[1]
                continue
            names = (body["name"],) if "name" in body else figure(value)
            bits = self.top(value)
            item = Item(names, bits, self.part(value, names, bits), is_constant(value))
            if starred:
                # behind a star nobody knows its place
                outputs.rest |= 0 if item.constant else item.bits
                if note and bits:
                    for name in names:
                        self.add(self.names, name, bits)
            else:
                outputs.items.append(item)
        return self.given_names(outputs, note=note)

    def part(self, value: Node, names: tuple[str, ...], bits: int) -> int:
        """What a column carries within its row."""
        if "ColumnRef" in value and len(names) == 1:
            last = strings(value["ColumnRef"]["fields"])[-1:]
            if last == names and last[0] not in self.names and self.known.kept(last[0]):
                return bits & ~WIPE | ROW if bits & WIPE else bits
        return bits if not bits & WIPE else carried(bits)

    def given_names(self, outputs: Outputs, *, note: bool) -> Outputs:
        """Note the names of what is not known by its name in any case."""
        if note:
            for item in outputs.items:
                for name in item.names if item.bits else ():
                    if item.bits & ~self.known.name(name):
                        self.add(self.names, name, item.bits)
        return outputs

    def renamed(self, outputs: Outputs, names: Iterable[Node] | None) -> Outputs:
        """`outputs` under the names of a list, which may be shorter."""
        listed = strings(names)
        if not listed:
            return outputs
        items = []
        rest = outputs.rest
        for index, name in enumerate(listed):
            if index < len(outputs.items):
                bits = outputs.items[index].bits
            else:
                bits = carried(outputs.rest | outputs.soft)
                rest |= bits
            self.add(self.names, name, bits)
            items.append(Item((name,), bits, carried(bits)))
        items += outputs.items[len(listed) :]
        return Outputs(items, rest, outputs.soft)

    def star(self, value: Node, hard: int, soft: int) -> tuple[int, int] | None:
        """What the columns of a star carry; None when `value` is none."""
        if "ColumnRef" in value:
            fields = value["ColumnRef"]["fields"]
            if "A_Star" not in fields[-1]:
                return None
            names = strings(fields)
            if not names:
                return hard, soft
            own = self.hard.get(names[-1], 0)
            return own, self.rows.get(names[-1], 0) & ~own
        if "A_Indirection" in value and "A_Star" in value["A_Indirection"]["indirection"][-1]:
            argument = value["A_Indirection"]["arg"]
            inner = strings(argument.get("ColumnRef", {}).get("fields"))
            if len(inner) == 1 and inner[0] in self.plain - self.derived:
                return 0, self.rows.get(inner[0], 0)
            return carried(self.value(argument)), 0
        return None

    # --- expressions --------------------------------------------------------------------------------

    def top(self, node: Node) -> int:
        """What an expression carries to whoever reads it: a comparison says too little to count."""
        ((kind, body),) = node.items() if node else (("", {}),)
        if kind in ("NullTest", "BooleanTest", "BoolExpr"):
            return 0
        if kind == "A_Expr":
            operator = strings(body.get("name"))
            own = len(operator) < 2 or operator[0] == "pg_catalog"
            if body["kind"] in BOOLEAN:
                return 0
            if body["kind"] == "AEXPR_OP" and "lexpr" in body and own:
                return 0 if operator[-1] in COMPARING else self.value(node)
        if kind == "SubLink" and body["subLinkType"] in ("ANY_SUBLINK", "ALL_SUBLINK"):
            return 0
        return self.value(node)

    def value(self, node: Node) -> int:
        """What an expression carries."""
        if isinstance(node, list):
            bits = 0
            for each in node:
                bits |= self.value(each)
            return bits
        if not isinstance(node, dict):
            return 0
        bits = 0
        for kind, body in node.items():
            if kind in _WORDLESS:
                continue
            handler = _VALUES.get(kind)
            if handler is not None:
                bits |= handler(self, body)
            else:
                found = self.value(body)
                # what stands within anything else is no row any more
                bits |= found if kind in _TRANSPARENT or not kind[:1].isupper() else carried(found)
        return bits

    def column(self, body: Node) -> int:
        names = strings(body["fields"])
        if "A_Star" in body["fields"][-1]:
            if names:
                return self.rows.get(names[-1], 0)
            bits = 0
            for row in self.rows.values():
                bits |= row
            return bits
        last = names[-1]
        bits = self.name(last)
        if len(names) == 1:
            return bits | self.rows.get(last, 0) | self.open
        before = names[-2]
        if before not in self.plain or before in self.derived:
            bits |= self.open
        if last in OF_ROWS:  # c.to_jsonb is to_jsonb(c)
            bits |= carried(self.rows.get(before, 0))
        return bits

    def name(self, name: str) -> int:
        return self.known.name(name) | self.names.get(name, 0)

    def constant(self, body: Node) -> int:
        text = body.get("sval")
        return self.key(str(text.get("sval", ""))) if isinstance(text, dict) else 0

    def key(self, text: str) -> int:
        """What is found under a key or a path."""
        return key_bits(text, self.known)

    def parameter(self, body: Node) -> int:
        return 1 << PARAMETER + int(body.get("number", 0))

    def function(self, body: Node) -> int:
        called = strings(body["funcname"])
        name = called[-1]
        own = len(called) < 2 or called[0] == "pg_catalog"
        if name == "count" and own:
            return 0
        if name in RUNNING:
            return WIPE
        arguments = body.get("args", [])
        bits = self.value(arguments) | self.name(name)  # cvv(c) is c.cvv
        if body.get("agg_within_group"):
            bits |= self.value(body.get("agg_order"))
        if name in PATHS and any(map(computed, arguments[1:])):
            bits |= WIPE
        return bits if name in KEEPING and own else carried(bits)

    def cast(self, body: Node) -> int:
        bits = self.value(body.get("arg"))
        type_ = strings(body["typeName"].get("names"))[-1:]
        if type_ and type_[0] not in ("json", "jsonb"):
            relation = self.relation(type_[0])
            bits = carried(bits) | carried(relation.row | relation.open)
        return bits

    def operation(self, body: Node) -> int:
        operator = strings(body.get("name"))[-1:]
        bits = carried(self.value(body.get("lexpr")) | self.value(body.get("rexpr")))
        if operator and operator[0] in OPENING and computed(body.get("rexpr")):
            bits |= WIPE
        joined = folded({"A_Expr": body})
        return bits | self.key(joined) if joined is not None else bits

    def sublink(self, body: Node) -> int:
        kind = body["subLinkType"]
        outputs = self.statement(body["subselect"])
        if kind == "EXISTS_SUBLINK":
            return 0
        bits = outputs.all()
        if kind in ("ANY_SUBLINK", "ALL_SUBLINK"):
            return carried(bits | self.value(body.get("testexpr")))
        return bits

    def json_path(self, body: Node) -> int:
        """JSON_VALUE and JSON_QUERY."""
        bits = carried(self.value(list(body.values())))
        return bits | WIPE if computed(body.get("pathspec")) else bits

    def indirection(self, body: Node) -> int:
        argument, path = body["arg"], body["indirection"]
        bits = 0
        for step in path:
            if "String" in step:
                bits |= self.name(step["String"]["sval"])
            elif "A_Indices" in step:
                for each in ("lidx", "uidx"):
                    index = step["A_Indices"].get(each)
                    bits |= self.value(index)
                    if index is not None and hidden(index):
                        bits |= WIPE
        first = path[0].get("String", {}).get("sval")
        inner = strings(argument.get("ColumnRef", {}).get("fields"))
        if (
            first
            and first not in OF_ROWS
            and len(inner) == 1
            and inner[0] in self.plain - self.derived
        ):
            return carried(bits)  # a column of a table
        return carried(bits | self.value(argument))


def _executed(bits: int, arguments: int) -> int:
    """What a query carries whose parameters are given in the text."""
    return bits & (1 << PARAMETER) - 1 | arguments if bits >> PARAMETER else bits


def _definitions(nodes: Iterable[Node] | None) -> list[str]:
    """Names of a list of column definitions, however deep it stands."""
    found = []
    for node in nodes or ():
        if "ColumnDef" in node:
            found.append(node["ColumnDef"]["colname"])
        elif "List" in node:
            found += _definitions(node["List"].get("items"))
    return found


def _columns(nodes: Iterable[Node] | None) -> Iterable[Node]:
    """Columns of XMLTABLE and JSON_TABLE, nested ones too."""
    for node in nodes or ():
        ((_, body),) = node.items()
        yield {key: value for key, value in body.items() if key != "columns"}
        yield from _columns(body.get("columns"))


_CHANGES = frozenset(("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"))


_WORDLESS = frozenset(("typeName", "agg_filter", "over", "location", "sortClause"))
"""Parts of an expression that give it no value."""


_TRANSPARENT = frozenset(("CoalesceExpr", "A_ArrayExpr", "NamedArgExpr", "CollateClause", "List"))
"""What leaves a row what it is."""


_VALUES = {
    "ColumnRef": _Reader.column,
    "A_Const": _Reader.constant,
    "ParamRef": _Reader.parameter,
    "FuncCall": _Reader.function,
    "TypeCast": _Reader.cast,
    "A_Expr": _Reader.operation,
    "SubLink": _Reader.sublink,
    "A_Indirection": _Reader.indirection,
    "JsonFuncExpr": _Reader.json_path,
}
