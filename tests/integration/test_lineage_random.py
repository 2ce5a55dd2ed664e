"""Lineage against the server's own semantics: whatever changes in a result when a CVV changes was carried.

Random queries run twice, once before and once behind an update of the CVVs that nobody else sees. A column
that differs, that the server names no table for and that is not boolean must be one that lineage found."""

from __future__ import annotations

import random

import psycopg
import pytest

from pangate.protocols.postgres.carriers import Carriers
from pangate.protocols.postgres.catalog import NameRules
from pangate.sql import lineage

pytestmark = pytest.mark.integration

QUERIES = 400
TABLES = """
create schema rnd;
create table rnd.cards (id int, holder text, cvv text, n int);
insert into rnd.cards values (1, 'Ada', '7319', 5), (2, 'Bob', '7319', 6);
create table rnd.notes (id int, note text);
insert into rnd.notes values (1, 'one'), (2, 'two');
create view rnd.shown as select id, cvv as code, holder from rnd.cards;
"""
KNOWN = Carriers(
    NameRules({}),
    [("70", "3", "rnd", "cards", "cvv", "1", "0")],
    [("80", "70", "3")],
    [("80", "shown")],
    [("80", "shown", "SELECT id, cvv AS code, holder FROM rnd.cards;")],
)
WRAPS = (
    "{} || ''", "upper({})", "{}", "{}", "md5({})", "coalesce({}, 'x')", "({})", "substr({}, 2)",
    "(select {})", "case when true then {} end", "concat({}, 'y')", "nullif({}, 'q')", "{} collate \"C\"",
    "array[{}]::text", "to_jsonb({})::text", "row({})::text", "greatest({}, 'a')", "(array[{}])[1]",
    "json_build_object('k', {})->>'k'", "(values ({}))", "{}::varchar", "length({})::text",
    "({} is null)::text", "format('%s', {})",
)  # fmt: skip


class Maker:
    """Makes queries whose columns are texts."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.count = 0

    def fresh(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def source(self, depth: int) -> tuple[str, str, list[str]]:
        """An item of FROM, its alias and the names of its columns."""
        chance, alias = self.chance, self.fresh("t")
        pick = chance.randrange(9 if depth else 3)
        if pick == 0:
            return f"rnd.notes {alias}", alias, ["note"]
        if pick == 1:
            return f"rnd.shown {alias}", alias, ["code", "holder"]
        if pick == 2:
            if chance.random() < 0.5:
                return f"rnd.cards {alias}", alias, ["cvv", "holder"]
            return f"rnd.cards {alias}(p, q, r, s)", alias, ["q", "r"]
        if pick == 3:
            text, names = self.query(depth - 1)
            listed = [self.fresh("l") for _ in names]
            return f"({text}) {alias}({', '.join(listed)})", alias, listed
        if pick == 4:
            inner, other, names = self.source(depth - 1)
            name = chance.choice(names)
            f = self.fresh("f")
            each = f"regexp_split_to_table({other}.{name}, '') {f}"
            return f"{inner} cross join lateral {each}", f, [f]
        if pick == 5:
            inner, other, _ = self.source(depth - 1)
            each = f"jsonb_each_text(to_jsonb({other})) {alias}"
            return f"{inner} cross join lateral {each}", alias, ["value"]
        if pick == 6:
            one, a, names = self.source(depth - 1)
            two, b, others = self.source(depth - 1)
            shown = [f"{a}.{name}" for name in names] + [f"{b}.{name}" for name in others]
            return f"{one} cross join {two}", "", shown
        text, names = self.query(depth - 1)
        return f"({text}) {alias}", alias, names

    def expression(self, alias: str, names: list[str]) -> str:
        chance = self.chance
        name = chance.choice(names)
        if alias and chance.random() < 0.15:
            row = chance.choice(
                ("{}::text", "to_jsonb({})::text", "concat({}.*)", "quote_literal({})")
            )
            return row.format(alias)
        made = f"{alias}.{name}" if alias and chance.random() < 0.5 else name
        if chance.random() < 0.15:
            return chance.choice(("min({0}) over ()", "lag({0}) over (order by 1)")).format(made)
        for _ in range(chance.randrange(3)):
            made = chance.choice(WRAPS).format(made)
        return made

    def query(self, depth: int) -> tuple[str, list[str]]:
        """A query and the names of its columns."""
        chance = self.chance
        if depth and chance.random() < 0.2:
            one, names = self.query(depth - 1)
            other, _ = self.query(depth - 1)
            width = len(names)
            return (
                f"({one}) union all select {', '.join(['max(z::text)'] * width)} from ({other}) zz(z)",
                names,
            )
        if depth and chance.random() < 0.2:
            text, names = self.query(depth - 1)
            name = self.fresh("w")
            return f"with {name} as ({text}) select * from {name}", names
        if depth and chance.random() < 0.2:
            text, names = self.query(depth - 1)
            name, listed = self.fresh("w"), [self.fresh("v") for _ in names]
            shown = ", ".join(f"{one} as {one}" for one in listed)
            return (
                f"with {name}({', '.join(listed)}) as ({text}) select {shown} from {name}",
                listed,
            )
        source, alias, names = self.source(depth)
        columns, given = [], []
        for _ in range(chance.randrange(1, 4)):
            given.append(self.fresh("c"))
            columns.append(f"({self.expression(alias, names)})::text as {given[-1]}")
        if chance.random() < 0.2:
            given, columns = names[:1], [f"{names[0]} as {names[0].split('.')[-1]}"]
            given = [names[0].split(".")[-1]]
        return f"select {', '.join(columns)} from {source}", given


def test_what_changes_was_carried(postgres):
    postgres.psql(TABLES)
    answered = carried = 0
    login = {
        "host": postgres.host, "port": postgres.port, "user": postgres.user,
        "password": postgres.password, "dbname": "postgres", "sslmode": "require",
    }  # fmt: skip
    try:
        with psycopg.connect(**login) as other, psycopg.connect(**login, autocommit=True) as one:
            other.execute("update rnd.cards set cvv = case id when 1 then '8264' else '9105' end")
            for seed in range(QUERIES):
                text, _ = Maker(seed).query(3)
                before = one.pgconn.exec_(text.encode())
                other.execute("savepoint s")
                behind = other.pgconn.exec_(text.encode())
                other.execute("rollback to s")
                if before.status != psycopg.pq.ExecStatus.TUPLES_OK:
                    continue
                answered += 1
                found = lineage(text, KNOWN)
                for column in range(before.nfields):
                    # in any order: of most queries the server may choose it
                    values = [
                        sorted(
                            result.get_value(row, column) or b"" for row in range(result.ntuples)
                        )
                        for result in (before, behind)
                    ]
                    if values[0] != values[1] and not before.ftable(column):
                        carried += 1
                        label = before.fname(column).decode()
                        assert found.of(column) or KNOWN.name(label), (seed, column, text)
    finally:
        postgres.psql("drop schema rnd cascade")
    assert answered > QUERIES / 2
    assert carried > QUERIES / 4
