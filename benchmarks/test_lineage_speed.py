"""What it costs to read a text for what its columns carry, the first time and from memory."""

from __future__ import annotations

import pytest

from pangate.protocols.postgres.carriers import Carriers
from pangate.protocols.postgres.catalog import NameRules, open_catalog
from pangate.sql import lineage
from pangate.sql.carried import WIPE

TEXTS = {
    "count": "select count(*) from pay.cards where id = 7",
    "expression": "select id, upper(holder), cvv || '' as x from pay.cards where id = 7",
    "orm": "select c.id, c.doc->>'name' as a, coalesce(sum(n.amount), 0) as b from pay.cards c "
    "left join (select card, amount, date_trunc('day', at) as day from pay.notes where amount > 5) n "
    "on n.card = c.id where c.id in (1, 2, 3) group by c.id, c.doc order by 3 desc limit 10",
    "names": "with a as (select cvv as x from pay.cards), b as (select x as y from a), "
    "c as (select y as z from b) select z || '' from c union select holder from pay.cards",
    "longest": "select " + ", ".join(f"upper(c{i})" for i in range(1200)) + " from pay.cards",
}
ROWS = [("70", "4", "pay", "cards", "cvv", "1", "0")]


@pytest.mark.parametrize("name", TEXTS)
def test_read(benchmark, name):
    known = Carriers(NameRules({}), ROWS, [], [], [])
    found = benchmark(lineage, TEXTS[name], known)
    assert bool(found) == (name in ("expression", "names"))
    assert not found.unknown


def test_remembered(benchmark):
    catalog = open_catalog({})
    catalog.take_carriers(ROWS, [], [], [])
    catalog.lineage(TEXTS["orm"])
    assert benchmark(catalog.lineage, TEXTS["orm"]) is catalog.lineage(TEXTS["orm"])


@pytest.mark.parametrize("views", [100, 2000])
def test_views(benchmark, views):
    """A database whose every view is over a table with a sensitive column."""
    uses = [(str(100 + i), "70", "4") for i in range(views)]
    names = [(str(100 + i), f"v{i}") for i in range(views)]
    texts = [(oid, name, "SELECT cards.id, cards.cvv AS x FROM pay.cards;") for oid, name in names]
    made = benchmark.pedantic(Carriers, (NameRules({}), ROWS, uses, names, texts), rounds=3)
    assert made.relation("v99").columns == {"x": WIPE}
