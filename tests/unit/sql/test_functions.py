"""The lists of functions, against the server that the tests start."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pangate import sql
from pangate.sql.functions import builtins, effects_by_name

CALLABLE = """
select proname, string_agg(distinct provolatile::text, '') from pg_proc
where pronamespace = 'pg_catalog'::regnamespace and prokind in ('f', 'a', 'w')
and not exists (
    select 1 from unnest(proargtypes::oid[] || prorettype) t
    where t = any (array['internal', 'trigger', 'event_trigger', 'language_handler', 'fdw_handler',
                         'index_am_handler', 'table_am_handler', 'tsm_handler']::regtype[]))
group by 1
"""


@pytest.mark.integration
def test_every_function_of_the_server_is_listed_and_every_volatile_one_has_a_verdict(postgres):
    found = [line.split("|") for line in postgres.psql(CALLABLE, "postgres", "-At").splitlines()]
    assert len(found) > 2000
    known = effects_by_name()
    assert [name for name, volatility in found if "v" in volatility and name not in known] == []
    assert [name for name, _ in found if name not in known and name not in builtins()] == []


def test_the_lists_do_not_contradict_each_other():
    assert not builtins() & set(effects_by_name())
    path = Path(__file__).parents[3] / "src" / "pangate" / "sql" / "functions.csv"
    names = [row["name"] for row in csv.DictReader(path.read_text().splitlines())]
    assert names == sorted(set(names))


@pytest.mark.parametrize(
    "name", ["pg_read_file", "query_to_xml", "nextval", "pg_terminate_backend"]
)
def test_a_listed_function_has_its_effects_however_it_is_called(name):
    effects = {*effects_by_name()[name], "read"}
    for text in (
        f"select {name}()",
        f"select pg_catalog.{name}(1)",
        f'select "{name}"()',
        f"select db.pg_catalog.{name}()",
        f"select * from {name}(1) as t",
        f"values ({name}(1))",
    ):
        assert sql.understand(text).effects == effects
