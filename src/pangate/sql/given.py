"""What the texts of a session gave names to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pangate.sql.tree import statements_of

Node = Any

MOST_GIVEN = 256
"""Names of each kind that a session's texts are remembered for."""


class Given:
    """What the texts of one session gave names to: cursors, prepared statements, and tables and views
    that nobody else may see yet."""

    def __init__(self, prepared: Callable[[str], str | None] = lambda name: None) -> None:
        self._prepared = prepared
        """The text of what was prepared otherwise than by a text."""
        self.version = 0
        """Grows whenever there is more."""
        self._texts: list[str] = []
        self._queries: dict[tuple[str, str], list[Node]] = {}
        self._relations: dict[str, list[Node]] = {}
        self._lost = False

    def note(self, text: str) -> None:
        """A text that gave a name to something."""
        if self._texts[-1:] == [text]:
            return
        self.version += 1
        self._texts.append(text)
        if len(self._texts) > MOST_GIVEN:
            self._read()

    def forget(self) -> None:
        """Names may mean something else now: what they stood for is not known any more."""
        self.version += 1
        self._read()
        self._queries.clear()

    def query(self, kind: str, name: str) -> list[Node] | None:
        """All queries that a cursor or a prepared statement of this name may stand for, None when that is
        not known."""
        self._read()
        found = self._queries.get((kind, name))
        if kind == "prepared" and (text := self._prepared(name)) is not None:
            statements = statements_of(text)
            if statements is None or len(statements) != 1:
                return None
            found = [*(found or ()), *statements]
        return found

    def relation(self, name: str) -> list[Node]:
        """Statements that made a table or view of this name, or changed one."""
        self._read()
        return self._relations.get(name, [])

    @property
    def lost(self) -> bool:
        """Whether there were more tables and views than are remembered."""
        self._read()
        return self._lost

    def take(self, statement: Node) -> None:
        """The names that a statement gives."""
        ((kind, body),) = statement.items()
        if kind == "DeclareCursorStmt":
            self._add(("cursor", body["portalname"]), body["query"])
        elif kind == "PrepareStmt":
            self._add(("prepared", body["name"]), body["query"])
        elif kind == "CreateTableAsStmt":
            self._made(body["into"]["rel"], statement)
        elif kind == "SelectStmt" and "intoClause" in leftmost(body):
            self._made(leftmost(body)["intoClause"]["rel"], statement)
        elif kind == "ViewStmt":
            self._made(body["view"], statement)
        elif kind == "CreateStmt":
            self._made(body["relation"], statement)
        elif kind == "RenameStmt" and "relation" in body:
            table = body["relation"]
            if body.get("subname") is None:
                table = {"relname": body.get("newname", "")}
            self._made(table, statement)

    def _read(self) -> None:
        texts, self._texts = self._texts, []
        for text in texts:
            statements = statements_of(text)
            if statements is None:
                self._lost = True
                self._queries.clear()
                continue
            for statement in statements:
                self.take(statement)

    def _add(self, key: tuple[str, str], query: Node) -> None:
        queries = self._queries.pop(key, [])
        if query not in queries:
            queries = [*queries[-15:], query] if len(queries) < 16 else []
        if not queries:
            return  # too many to say
        if len(self._queries) >= MOST_GIVEN:
            del self._queries[next(iter(self._queries))]
        self._queries[key] = queries

    def _made(self, table: Node, statement: Node) -> None:
        name = table["relname"]
        if len(self._relations) >= MOST_GIVEN or len(self._relations.get(name, ())) >= 16:
            self._lost = True
            return
        known = self._relations.setdefault(name, [])
        if statement not in known:
            known.append(statement)


def leftmost(select: Node) -> Node:
    while "larg" in select:
        select = select["larg"]
    return select
