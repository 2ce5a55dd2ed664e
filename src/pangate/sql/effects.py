"""What a statement does, read off its tree. What is not known here does everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from pangate.model import EFFECTS, Effect, Part, Relation
from pangate.sql import settings
from pangate.sql.conditions import spares
from pangate.sql.functions import builtins, effects_by_name
from pangate.sql.lasting import (
    LASTING_EFFECTS,
    LASTING_FUNCTIONS,
    LASTING_RELATIONS,
    TRANSIENT_FUNCTIONS,
    leaves_nothing,
)
from pangate.sql.statements import EFFECTS_OF, command_of
from pangate.sql.tree import names_of

Node = dict[str, Any]
Ctes = frozenset[str]
NONE: Ctes = frozenset()
_NOTHING: Node = {}
PLAIN = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
"""Statements in which another literal changes nothing that is read here."""

SAMPLING = frozenset({"bernoulli", "system", "system_rows", "system_time"})


class Reader:
    """Reads one statement; `part` is what came out."""

    __slots__ = (
        "_called", "aliases", "calls", "columns", "command", "constant", "flags", "kind", "lasting",
        "needs", "plain", "refusal", "relations", "shown", "used", "where",
    )  # fmt: skip

    def __init__(self, statement: Node) -> None:
        ((kind, body),) = statement.items()
        self.kind = kind
        self.command = command_of(kind, body)
        self.needs: dict[Effect, str] = {}
        self.calls: dict[str, None] = {}
        self.relations: dict[Relation, None] = {}
        self.columns: dict[tuple[str, ...], None] = {}
        self.aliases: dict[str, set[str]] = {}
        self.where: Literal["", "none", "constant", "some"] = ""
        self.flags: dict[str, Any] = {}
        self.refusal = ""
        self.lasting = ""
        self.constant = kind in PLAIN
        self.plain = _plain(kind, body)
        self.shown: list[str] = []
        self.used: set[str] = set()
        self._called: tuple[Effect, ...] = ()
        self.statement(kind, body, NONE)

    @property
    def part(self) -> Part:
        used = self.used
        return Part(
            self.command,
            self.needs,
            tuple(self.calls),
            tuple(self.relations),
            tuple(dict.fromkeys(self._resolved())) if self.columns else (),
            self.where,
            shown=tuple([name for name in self.shown if name not in used]),
            lasting=self.lasting or ("a function" if self.calls else ""),
            **self.flags,
        )

    def need(self, effect: Effect, why: str = "") -> None:
        self.needs.setdefault(effect, why or self.command)

    def lasts(self, what: str) -> None:
        """It may leave something in its session by `what`."""
        self.lasting = self.lasting or what

    def everything(self, why: str) -> None:
        self.lasts(self.command)
        for effect in EFFECTS:
            self.need(effect, why)

    def refuse(self, name: str, value: str | None, why: str) -> None:
        effect, refusal = settings.judge(name, value)
        if effect is not None:
            self.need(effect, why)
        self.refusal = self.refusal or refusal

    # --- statements -----------------------------------------------------------------------------

    def statement(self, kind: str, body: Node, ctes: Ctes) -> None:
        """One statement, whole or within another."""
        if not leaves_nothing(kind, body):
            self.lasts(command_of(kind, body))
        handler = _STATEMENTS.get(kind)
        if handler is not None:
            handler(self, body, ctes)
            return
        effects = EFFECTS_OF.get(kind)
        if effects is None:
            self.everything(f"{self.command}, which is not known here")
            return
        for effect in effects:
            self.need(effect)
        use = "read"
        if "schema" in effects or "privilege" in effects:
            use = "schema"
        elif "write" in effects:
            use = "write"
        self.cascade(body, use)
        for value in body.values():
            if isinstance(value, dict) and "relname" in value:
                self.relation(value, use)
            elif isinstance(value, (dict, list)):
                self.walk(value, ctes, use)

    def cascade(self, body: Node, use: str) -> None:
        """What depends on it goes with it, whatever that is."""
        if body.get("behavior") == "DROP_CASCADE":
            self.relations[Relation("", "*", use)] = None

    def wrapped(self, node: Node | None, ctes: Ctes) -> None:
        """A statement node within another."""
        for kind, body in (node or {}).items():
            self.statement(kind, body, ctes)

    def select(self, body: Node, ctes: Ctes) -> None:
        self.need("read")
        if "withClause" in body:
            ctes = self.with_clause(body, ctes)
        if "intoClause" in body:
            self.into(body["intoClause"], "SELECT INTO")
        if "lockingClause" in body:
            self.need("write", "SELECT ... FOR UPDATE or SHARE")
            self.walk(body.get("fromClause"), ctes, "write")
        if "limitCount" in body and _limits(body):
            self.flags["limit"] = True
        if "larg" in body:  # the two of a UNION are not wrapped
            self.select(body["larg"], ctes)
            self.select(body["rarg"], ctes)
        self.walk([value for key, value in body.items() if key not in _READ_BY_SELECT], ctes)

    def into(self, into: Node, what: str) -> None:
        table = into["rel"]
        self.lasts(what)
        self.relation(table, "schema")
        if _temporary(table):
            self.need("write", f"{what} of a temporary table")
        else:
            self.need("schema", what)
            self.need("write", what)

    def with_clause(self, body: Node, ctes: Ctes) -> Ctes:
        clause = body["withClause"]
        queries = [cte["CommonTableExpr"] for cte in clause.get("ctes", ())]
        if clause.get("recursive"):
            ctes |= {query["ctename"] for query in queries}
        for query in queries:
            for kind, inner in query["ctequery"].items():
                self.statement(kind, inner, ctes)
            ctes |= {query["ctename"]}
            self.walk({k: v for k, v in query.items() if k != "ctequery"}, ctes)
        return ctes

    def change(self, body: Node, ctes: Ctes, what: str) -> None:
        """INSERT, UPDATE, DELETE, MERGE."""
        if "withClause" in body:
            ctes = self.with_clause(body, ctes)
        self.need("write", what)
        target = body["relation"]
        self.relation(target, "write")
        if not _FROM.isdisjoint(body):
            self.need("read", f"{what} from another table")
        if "returningList" in body or "returningClause" in body:
            self.need("read", f"{what} ... RETURNING")
            self.flags["returning"] = True
        self.walk([value for key, value in body.items() if key not in _READ_BY_CHANGE], ctes)
        table = _name(target)
        columns = body.get("targetList") if what == "UPDATE" else body.get("cols")
        if not columns:
            self.columns[table, "*"] = None
        for column in (*(columns or ()), *body.get("onConflictClause", {}).get("targetList", ())):
            self.columns[table, column["ResTarget"]["name"]] = None
        if what == "INSERT" and not columns:
            self.flags["whole"] = True

    def insert(self, body: Node, ctes: Ctes) -> None:
        rows = body.get("selectStmt", {}).get("SelectStmt", {})
        if "valuesLists" in rows and "withClause" not in rows:
            body = {**body, "selectStmt": rows["valuesLists"]}  # nothing is read
        self.change(body, ctes, "INSERT")

    def update(self, body: Node, ctes: Ctes) -> None:
        self.change(body, ctes, "UPDATE")
        self.condition("UPDATE", body.get("whereClause"), ctes)

    def delete(self, body: Node, ctes: Ctes) -> None:
        self.change(body, ctes, "DELETE")
        self.condition("DELETE", body.get("whereClause"), ctes)

    def merge(self, body: Node, ctes: Ctes) -> None:
        self.change(body, ctes, "MERGE")
        clauses = [clause["MergeWhenClause"] for clause in body.get("mergeWhenClauses", ())]
        table = _name(body["relation"])
        for clause in clauses:
            columns = clause.get("targetList", ())
            if clause["commandType"] == "CMD_INSERT" and not columns:
                self.flags["whole"] = True
            for column in columns:
                self.columns[table, column["ResTarget"]["name"]] = None
        spared = spares(body.get("joinCondition")) and not any(
            clause["matchKind"] == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE"
            and not spares(clause.get("condition"))
            and clause["commandType"] in ("CMD_UPDATE", "CMD_DELETE")
            for clause in clauses
        )
        self.where = "some" if spared else "constant"
        if not spared and any(c["commandType"] in ("CMD_UPDATE", "CMD_DELETE") for c in clauses):
            self.need("bulk_write", "MERGE with a condition that is true of every row")

    def condition(self, what: str, where: Node | None, ctes: Ctes) -> None:
        if where is None:
            self.where = "none"
            self.need("bulk_write", f"{what} without WHERE")
            return
        self.walk(where, ctes)
        if spares(where):
            self.where = self.where or "some"
        else:
            self.where = "constant"
            self.need("bulk_write", f"{what} with a WHERE that no row decides")

    def explain(self, body: Node, ctes: Ctes) -> None:
        self.constant = False
        analyze = any(
            option["DefElem"]["defname"] == "analyze"
            and names_of([option["DefElem"].get("arg", {})]) not in (("off",), ("false",))
            and option["DefElem"].get("arg") != {"Integer": {}}
            for option in body.get("options", ())
        )
        self.flags["explain"] = "analyze" if analyze else "plan"
        ((kind, inner),) = body["query"].items()
        self.command = f"EXPLAIN {'ANALYZE ' if analyze else ''}{command_of(kind, inner)}"
        before = dict(self.needs)
        self.statement(kind, inner, ctes)
        if not analyze and kind != "ExecuteStmt":
            # It is planned only. A function may run even then: its effects stay.
            called = dict.fromkeys(self._called)
            self.needs = {e: why for e, why in self.needs.items() if e in before or e in called}
        self.need("read", "EXPLAIN")

    def copy(self, body: Node, ctes: Ctes) -> None:
        into = bool(body.get("is_from"))
        what = "COPY FROM" if into else "COPY TO"
        if into:
            self.need("write", what)
        else:
            self.need("read", what)
        if body.get("is_program"):
            self.need("code", f"{what} PROGRAM")
            self.need("file", f"{what} PROGRAM")
        elif "filename" in body:
            self.need("file", f"{what} a file of the server")
        if "relation" in body:
            self.relation(body["relation"], "write" if into else "read")
            table = _name(body["relation"])
            for column in names_of(body.get("attlist")) or ("*",):
                self.columns[table, column] = None
        self.wrapped(body.get("query"), ctes)
        self.walk(body.get("whereClause"), ctes)

    def prepare(self, body: Node, ctes: Ctes) -> None:
        self.flags["prepares"] = body["name"]
        self.wrapped(body.get("query"), ctes)

    def execute(self, body: Node, ctes: Ctes) -> None:
        self.flags["executes"] = body["name"]
        self.walk(body.get("params"), ctes)

    def deallocate(self, body: Node, ctes: Ctes) -> None:
        self.flags["deallocates"] = body.get("name", "")

    def declare(self, body: Node, ctes: Ctes) -> None:
        self.wrapped(body.get("query"), ctes)

    def create_as(self, body: Node, ctes: Ctes) -> None:
        self.into(body["into"], self.command)
        self.wrapped(body.get("query"), ctes)

    def create(self, body: Node, ctes: Ctes) -> None:
        table = body["relation"]
        self.relation(table, "schema")
        if _temporary(table):
            self.need("write", "CREATE TEMPORARY TABLE")
        else:
            self.need("schema")
        self.walk({k: v for k, v in body.items() if k != "relation"}, ctes)

    def view(self, body: Node, ctes: Ctes) -> None:
        self.need("schema")
        self.relation(body["view"], "schema")
        self.wrapped(body.get("query"), ctes)

    def lock(self, body: Node, ctes: Ctes) -> None:
        if body.get("mode") == 1:
            self.need("read", "LOCK in ACCESS SHARE mode")
        else:
            self.need("write", "LOCK")
        self.walk(body.get("relations"), ctes, "read" if body.get("mode") == 1 else "write")

    def transaction(self, body: Node, ctes: Ctes) -> None:
        kind = body["kind"].removeprefix("TRANS_STMT_").lower()
        kind = {"start": "begin"}.get(kind, kind)
        self.flags["transaction"] = kind.replace("_", " ")
        if "prepare" in kind:
            self.need("write", "a two-phase transaction")

    def set_variable(self, body: Node, ctes: Ctes) -> None:
        name = body.get("name", "")
        why = f"SET {name}"
        if body["kind"] == "VAR_SET_MULTI":
            if name.startswith("TRANSACTION") or name == "SESSION CHARACTERISTICS":
                return
            self.everything(why)
        elif body["kind"] == "VAR_SET_VALUE":
            values = [_literal(value) for value in body.get("args", ())]
            joined = None if None in values else ",".join(filter(None, values))
            if name == "role" and joined == "none":
                return  # the login's own again
            self.refuse(name, joined, why)

    def alter_table(self, body: Node, ctes: Ctes) -> None:
        self.need("schema")
        if "relation" in body:
            self.relation(body["relation"], "schema")
        for command in body.get("cmds", ()):
            kind = command.get("AlterTableCmd", {}).get("subtype", "")
            if "RowSecurity" in kind or kind == "AT_ChangeOwner":
                self.need("privilege", "ALTER TABLE of an owner or of row security")
            if "Trig" in kind or "Rule" in kind:
                self.need("privilege", "ALTER TABLE of triggers or rules")
        self.walk(body.get("cmds"), ctes)

    def drop(self, body: Node, ctes: Ctes) -> None:
        self.need("schema")
        self.cascade(body, "schema")
        kind = body["removeType"]
        if kind == "OBJECT_POLICY":
            self.need("privilege")
        if kind in ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE"):
            for item in body.get("objects", ()):
                names = names_of(item.get("List", {}).get("items"))
                if names:
                    schema = names[-2] if len(names) > 1 else ""
                    self.relations[Relation(schema, names[-1], "schema")] = None

    def call(self, body: Node, ctes: Ctes) -> None:
        self.need("read")
        self.function(body["funccall"])
        self.walk(body["funccall"].get("args"), ctes)

    # --- what stands within ----------------------------------------------------------------------

    def walk(self, root: Any, ctes: Ctes, use: str = "read") -> None:
        """Everything below `root` that matters wherever it stands."""
        # Most of what a new statement costs here is this loop: what there is most of is asked for first, and
        # a column or a constant is not put on the stack only to be taken off again.
        stack = [root]
        push, pop = stack.append, stack.pop
        what_of = _WHAT
        while stack:
            node = pop()
            if type(node) is not dict:
                if type(node) is list:
                    stack += node
                continue
            for key, value in node.items():
                kind = type(value)
                if kind is not dict:
                    if kind is list:
                        if key == "operName" or key == "useOp":
                            self.operator(value)
                        else:
                            stack += value
                    continue
                what = what_of[key]
                if what == _COLUMN:
                    self.column(value)
                elif what == _SKIP:
                    continue
                elif what == _DESCEND:
                    push(value)
                elif what == _RESULT:
                    within = value.get("val")
                    if "indirection" in value:
                        push(within)
                        push(value["indirection"])
                    elif within is not None:
                        if "ColumnRef" in within:
                            self.column(within["ColumnRef"])
                        else:
                            push(within)
                elif what == _EXPRESSION:
                    name = value.get("name")
                    if name is not None and len(name) > 1:
                        self.operator(name)
                    left, right = value.get("lexpr"), value.get("rexpr")
                    if right is None or "A_Const" in right:
                        if left is not None and "ColumnRef" in left:
                            self.column(left["ColumnRef"])
                        else:
                            push(left)
                    else:
                        push(left)
                        push(right)
                elif what == _CALL:
                    self.function(value)
                    push({k: v for k, v in value.items() if k != "funcname"})
                elif what == _TABLE:
                    if "schemaname" in value or value["relname"] not in ctes:
                        self.relation(value, use)
                    else:
                        self.alias(value, "")
                elif what == _ALIAS:
                    if "colnames" in value:
                        self.flags["whole"] = True
                elif what == _STATEMENT:
                    self.statement(key, value, ctes)
                elif what == _JOIN:
                    if "isNatural" in value or "alias" in value:
                        self.columns[("*",)] = None
                    for column in names_of(value.get("usingClause")):
                        self.columns[(column,)] = None
                    push(value)
                elif what == _SAMPLE:
                    method = names_of(value.get("method"))
                    if method[-1] not in SAMPLING:
                        self.calls[".".join(method)] = None
                    push(value)
                elif what == _MAYBE_TABLE:
                    if "relname" in value:
                        self.relation(value, use)
                    else:
                        push(value)

    def column(self, column: Node) -> None:
        fields = column["fields"]
        names = (
            (fields[0]["String"].get("sval", ""),)
            if len(fields) == 1 and "String" in fields[0]
            else names_of(fields)
        )
        self.columns[names] = None
        shown = self.plain.get(id(column))
        if shown is not None:
            self.shown += shown
        else:
            self.used.add(names[-1])
            if names[-1] == "*":
                self.flags["whole"] = True

    def operator(self, names: Any) -> None:
        if names is not None and len(names) > 1:
            name = names_of(names)
            if name[-2] != "pg_catalog":
                self.calls[".".join(name)] = None

    def relation(self, table: Node, use: str) -> None:
        schema, name = table.get("schemaname", ""), table["relname"]
        self.relations[Relation(schema, name, use)] = None
        self.alias(table, _name(table))
        if schema == "pg_temp" or name in LASTING_RELATIONS:
            self.lasts("what the session keeps")
        if use != "read" and (schema == "pg_catalog" or (not schema and name.startswith("pg_"))):
            # the server's own tables, and pg_settings, through which every setting can be changed
            self.everything(f"a change of {name}")
            if name == "pg_settings":
                self.refusal = "settings are not changed through pg_settings here; use SET"

    def alias(self, table: Node, name: str) -> None:
        given = table.get("alias")
        alias = table["relname"] if given is None else given["aliasname"]
        known = self.aliases.get(alias)
        if known is None:
            self.aliases[alias] = {name}
        else:
            known.add(name)
        if given is not None and "colnames" in given:
            self.columns[alias, "*"] = None  # its columns have other names here
            self.flags["whole"] = True

    def function(self, call: Node) -> None:
        names = names_of(call["funcname"])
        name = names[-1]
        schema = names[-2] if len(names) > 1 else ""
        effects = effects_by_name().get(name)
        if name in LASTING_FUNCTIONS:
            self.lasts(f"{name}()")
        if name == "set_config" and schema in ("", "pg_catalog"):
            self.set_config(call)
        elif effects is not None:
            for effect in effects:
                if effect in LASTING_EFFECTS and name not in TRANSIENT_FUNCTIONS:
                    self.lasts(f"{name}()")
                if effect != "read":
                    self.need(effect, f"{name}()")
                    self._called = (*self._called, effect)
            if schema not in ("", "pg_catalog"):
                self.calls[f"{schema}.{name}"] = None
        elif schema in ("", "pg_catalog"):
            if name not in builtins():
                self.calls[".".join(names[-2:])] = None
        elif schema != "information_schema":
            self.calls[f"{schema}.{name}"] = None

    def set_config(self, call: Node) -> None:
        self.constant = False
        given = call.get("args", ())
        values = [_literal(value) for value in given]
        before = set(self.needs)
        if len(values) != 3 or values[2] is None or values[2].lower() not in _TRUE:
            self.lasts("set_config()")
        if len(values) != 3 or values[0] is None or any("NamedArgExpr" in arg for arg in given):
            self.everything("set_config() of a setting that the statement does not show")
        else:
            self.refuse(values[0], values[1], f"set_config() of {values[0]}")
        self._called = (*self._called, *(set(self.needs) - before))

    def _resolved(self) -> Iterator[tuple[str, str]]:
        """The columns with the relations that their aliases stand for."""
        named = sorted({str(relation) for relation in self.relations})
        aliases = self.aliases
        alone = named[0] if len(named) == 1 and len(aliases) == 1 else ""
        for fields in self.columns:
            if len(fields) == 1 and fields[0] != "*" and fields[0] not in aliases:
                yield alone, fields[0]
                continue
            *qualifier, column = fields
            if len(qualifier) == 1 and qualifier[0] in aliases:
                for table in sorted(aliases[qualifier[0]]):
                    yield table, column
            elif qualifier:
                yield ".".join(qualifier), column
            elif column in aliases:
                # the name of a table is a whole row of it, unless a column has that name
                self.flags["whole"] = True
                yield from ((table, "*") for table in sorted(aliases[column]))
            elif column == "*":
                yield from ((table, "*") for table in named)
            else:
                yield alone, column


def _plain(kind: str, body: Node) -> dict[int, tuple[str, ...]]:
    """The columns and stars that a statement's own result is made of without more, by the identity of their
    nodes: for those of a SELECT their names, the one in the result too."""
    while kind not in PLAIN:
        query = body.get("query")
        if kind == "CopyStmt" or not isinstance(query, dict) or len(query) != 1:
            return {}
        ((kind, body),) = query.items()
    select = kind == "SelectStmt"
    targets = body.get("targetList") if select else body.get("returningList")
    found: dict[int, tuple[str, ...]] = {}
    for target in targets or body.get("returningClause", {}).get("exprs") or ():
        result = target.get("ResTarget", _NOTHING)
        column = result.get("val", _NOTHING).get("ColumnRef")
        if column is None:
            continue
        if not select:
            found[id(column)] = ()
            continue
        last = column["fields"][-1]
        name = last["String"].get("sval", "") if "String" in last else "*"
        found[id(column)] = (name, result["name"]) if result.get("name") else (name,)
    return found


def _name(table: Node) -> str:
    schema = table.get("schemaname", "")
    return f"{schema}.{table['relname']}" if schema else str(table["relname"])


def _temporary(table: Node) -> bool:
    return table.get("relpersistence") == "t" or table.get("schemaname") == "pg_temp"


def _limits(body: Node) -> bool:
    count = body.get("limitCount")
    return count is not None and not count.get("A_Const", {}).get("isnull")


def _literal(node: Node) -> str | None:
    """The value of a literal as a text, through casts to a text; None for anything else, since other casts
    can change it."""
    while "TypeCast" in node:
        cast = node["TypeCast"]
        kind = cast["typeName"]
        if names_of(kind.get("names")) not in _TEXTS or "typmods" in kind:
            return None
        node = cast["arg"]
    constant = node.get("A_Const")
    if constant is None:
        return None
    if "sval" in constant:
        return str(constant["sval"].get("sval", ""))
    if "ival" in constant:
        return str(constant["ival"].get("ival", 0))
    if "fval" in constant:
        return str(constant["fval"].get("fval", ""))
    if "boolval" in constant:
        return "on" if constant["boolval"].get("boolval") else "off"
    return None


_DESCEND, _SKIP, _COLUMN, _EXPRESSION, _CALL, _TABLE, _STATEMENT, _SAMPLE, _MAYBE_TABLE = range(9)
_RESULT, _JOIN, _ALIAS = 9, 10, 11


class _What(dict[str, int]):
    """What `walk` does with a node or a field, by its name: nodes begin with a capital."""

    def __missing__(self, key: str) -> int:
        what = _DESCEND
        if key.endswith("Stmt") and key[0].isupper():
            what = _STATEMENT
        elif not key[0].isupper():
            # a field may hold a table as it is, without the node around it
            what = _MAYBE_TABLE
        self[key] = what
        return what


_WHAT = _What(
    {
        **dict.fromkeys(("A_Const", "TypeName", "typeName", "ParamRef", "String"), _SKIP),
        **dict.fromkeys(("val", "node", "arg", "quals", "whereClause", "limitCount"), _DESCEND),
        "alias": _ALIAS,
        "ColumnRef": _COLUMN,
        "A_Expr": _EXPRESSION,
        "FuncCall": _CALL,
        "RangeVar": _TABLE,
        "ResTarget": _RESULT,
        "JoinExpr": _JOIN,
        "RangeTableSample": _SAMPLE,
    }
)

_READ_BY_SELECT = frozenset({"withClause", "intoClause", "larg", "rarg", "lockingClause"})
_TRUE = frozenset({"on", "true", "t", "yes", "1"})
_TEXTS = (("text",), ("varchar",), ("pg_catalog", "text"), ("pg_catalog", "varchar"))
_FROM = frozenset({"fromClause", "usingClause", "sourceRelation"})
_READ_BY_CHANGE = frozenset({"withClause", "relation", "cols", "whereClause"})

_STATEMENTS: dict[str, Callable[[Reader, Node, Ctes], None]] = {
    "SelectStmt": Reader.select,
    "InsertStmt": Reader.insert,
    "UpdateStmt": Reader.update,
    "DeleteStmt": Reader.delete,
    "MergeStmt": Reader.merge,
    "ExplainStmt": Reader.explain,
    "CopyStmt": Reader.copy,
    "PrepareStmt": Reader.prepare,
    "ExecuteStmt": Reader.execute,
    "DeallocateStmt": Reader.deallocate,
    "DeclareCursorStmt": Reader.declare,
    "CreateTableAsStmt": Reader.create_as,
    "CreateStmt": Reader.create,
    "ViewStmt": Reader.view,
    "LockStmt": Reader.lock,
    "TransactionStmt": Reader.transaction,
    "VariableSetStmt": Reader.set_variable,
    "AlterTableStmt": Reader.alter_table,
    "DropStmt": Reader.drop,
    "CallStmt": Reader.call,
}
