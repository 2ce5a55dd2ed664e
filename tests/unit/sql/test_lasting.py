"""What of a statement may outlast its transaction in the session that ran it."""

from __future__ import annotations

import pytest

from pangate import sql
from pangate.sql.functions import effects_by_name
from pangate.sql.lasting import LASTING_FUNCTIONS, TRANSIENT_FUNCTIONS

NOTHING = (
    "", "select 1", "select * from cards c join notes n using (id) where c.t like 'x%' order by random()",
    "insert into notes values (1, 'x') on conflict do nothing returning id", "update notes set note = 'x'",
    "delete from notes where id = 1", "with x as (delete from notes returning *) select * from x",
    "merge into notes using cards on notes.id = cards.id when matched then delete", "truncate notes",
    "copy notes from stdin", "copy (select 1) to stdout", "lock table notes", "explain analyze select 1",
    "show work_mem", "notify a, 'b'", "begin", "start transaction isolation level serializable", "commit",
    "rollback", "savepoint a", "rollback to a", "release a", "prepare transaction 'a'", "commit prepared 'a'",
    "set local work_mem = '1MB'", "set transaction read only", "set local role x",
    "set constraints all deferred", "set transaction snapshot 'x'",
    "select set_config('work_mem', '1MB', true)", "fetch 3 from c", "move c",
    "select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1)", "close c", "close all",
    "declare c cursor for select 1", "declare c scroll cursor without hold for select 1",
    "deallocate a", "deallocate all", "select pg_export_snapshot()", "select lo_open(1, 2), pg_sleep(1)",
    "select 1; update notes set note = ''; commit",
)  # fmt: skip

SOMETHING = {
    "set work_mem = '1MB'": "SET",
    "set session work_mem = '1MB'": "SET",
    "set time zone 'UTC'": "SET",
    "set session characteristics as transaction read only": "SET",
    "set role x": "SET",
    "set session authorization default": "SET",
    "reset work_mem": "SET",
    "reset all": "SET",
    "select set_config('work_mem', '1MB', false)": "set_config()",
    "select set_config('work_mem', '1MB', $1)": "set_config()",
    "select set_config('work_mem', '1MB', is_local => true)": "set_config()",
    "update notes set note = set_config('work_mem', '1MB', false)": "set_config()",
    "with x as (select pg_advisory_lock(1)) select * from x": "pg_advisory_lock()",
    "select pg_catalog.pg_try_advisory_lock(1)": "pg_try_advisory_lock()",
    "select pg_advisory_unlock_all()": "pg_advisory_unlock_all()",
    "insert into notes values (nextval('s'), 'x')": "nextval()",
    "select setval('s', 1)": "setval()",
    "select currval('s')": "currval()",
    "select lastval()": "lastval()",
    "select setseed(0.1)": "setseed()",
    "select mine(1)": "a function",
    "select public.lower('x')": "a function",
    "select 1 operator(public.+) 2": "a function",
    "select 1 from notes tablesample mine(1)": "a function",
    "call mine()": "CALL",
    "do 'begin end'": "DO",
    "load 'x'": "LOAD",
    "listen a": "LISTEN",
    "unlisten *": "UNLISTEN",
    "prepare a as select 1": "PREPARE",
    "execute a": "EXECUTE",
    "explain execute a": "EXECUTE",
    "discard all": "DISCARD",
    "discard plans": "DISCARD",
    "declare c cursor with hold for select 1": "DECLARE CURSOR",
    "create temporary table a (n int)": "CREATE TABLE",
    "create temporary table a on commit drop as select 1": "CREATE TABLE AS",
    "explain analyze create temporary table a as select 1": "CREATE TABLE AS",
    "select 1 into temporary a": "SELECT INTO",
    "select * from pg_temp.a": "what the session keeps",
    "select * from pg_prepared_statements": "what the session keeps",
    "select * from pg_catalog.pg_cursors": "what the session keeps",
    "select pg_listening_channels()": "pg_listening_channels()",
    "create index on notes (id)": "CREATE INDEX",
    "grant select on notes to x": "GRANT",
    "vacuum notes": "VACUUM",
    "refresh materialized view a": "REFRESH MATERIALIZED VIEW",
    "select dblink_connect('x')": "dblink_connect()",
    "select query_to_xml('select 1', true, true, '')": "query_to_xml()",
    "select pg_read_file('x')": "pg_read_file()",
    "select pg_reload_conf()": "pg_reload_conf()",
    "select 1; set work_mem = '1MB'": "SET",
    "select from from": "what is not understood",
}


def lasting(text: str) -> str:
    return next((part.lasting for part in sql.understand(text).parts if part.lasting), "")


@pytest.mark.parametrize("text", NOTHING)
def test_what_leaves_nothing(text):
    assert lasting(text) == ""


@pytest.mark.parametrize("text", SOMETHING)
def test_what_may_leave_something(text):
    assert lasting(text) == SOMETHING[text]


def test_every_function_that_does_more_than_read_and_write_may_leave_something():
    for name, effects in effects_by_name().items():
        more = not {"read", "write"}.issuperset(effects)
        found = lasting(f'select "{name}"(1)')
        if name in TRANSIENT_FUNCTIONS:
            assert (more, found) == (True, "")
        else:
            assert bool(found) == (more or name in LASTING_FUNCTIONS), name


@pytest.mark.parametrize(
    "text", ["deallocate a", 'deallocate prepare "A b"', "deallocate all", "select 1"]
)
def test_what_is_deallocated(text):
    (part,) = sql.understand(text).parts
    assert part.deallocates == {"a": "a", 'A b"': "A b", "all": ""}.get(
        text.partition(" ")[2].removeprefix('prepare "')
    )
