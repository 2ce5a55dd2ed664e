"""What sessions leave in connections to the database: every kind that is known, for the tests of the pool."""

from __future__ import annotations

import psycopg

NOTHING = "select null"

STATES = {
    # what one session does: (its statements, a question, the answer of a new connection)
    "setting": ("set work_mem = '77MB'", "show work_mem", "4MB"),
    "date style": ("set datestyle = 'German'", "show datestyle", "ISO, MDY"),
    "time zone": ("set time zone 'Asia/Tokyo'", "select current_setting('TimeZone')", None),
    "search path": ("set search_path = pg_catalog", "show search_path", '"$user", public'),
    "search path that hides the built-in functions": (
        "set search_path = public, pg_catalog", "show search_path", '"$user", public'),
    "statement timeout": ("set statement_timeout = 98765", "show statement_timeout", "0"),
    "set_config": ("select set_config('work_mem', '78MB', false)", "show work_mem", "4MB"),
    "isolation level": (
        "set session characteristics as transaction isolation level serializable",
        "show default_transaction_isolation", "read committed"),
    "read only": (
        "set session characteristics as transaction read only", "show transaction_read_only", "off"),
    "application name": ("set application_name = 'somebody'", "show application_name", ""),
    "planner": ("set enable_seqscan = off", "show enable_seqscan", "on"),
    "bytea output": ("set bytea_output = 'escape'", "show bytea_output", "hex"),
    "float digits": ("set extra_float_digits = -3", "show extra_float_digits", "1"),
    "interval style": ("set intervalstyle = 'sql_standard'", "show intervalstyle", "postgres"),
    "xml option": ("set xmloption = 'document'", "show xmloption", "content"),
    "replication role": (NOTHING, "show session_replication_role", "origin"),
    "plan cache": ("set plan_cache_mode = 'force_generic_plan'", "show plan_cache_mode", "auto"),
    "temporary table": (
        "create temporary table mine as select 1 as one", "select to_regclass('pg_temp.mine')::text", None),
    "temporary table that hides a table": (
        "create temporary table cards as select 1 as id", "select count(*) > 1 from cards", True),
    "prepared statement": (
        "prepare mine as select 1", "select count(*) from pg_prepared_statements", 0),
    "held cursor": (
        "declare mine cursor with hold for select 1", "select count(*) from pg_cursors", 0),
    "advisory lock": (
        "select pg_advisory_lock(4711)",
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", 0),
    "shared advisory lock": (
        "select pg_advisory_lock_shared(4712)",
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", 0),
    "listen": ("listen mine", "select count(*) from pg_listening_channels()", 0),
    "open transaction": (
        "begin; insert into notes values (4711, 'left behind')",
        "select count(*) from notes where id = 4711", 0),
    "failed transaction": ("begin; select 1/(id-id) from cards", "select 1", 1),
    "savepoint": ("begin; savepoint one; set local work_mem = '79MB'", "show work_mem", "4MB"),
    "transaction's lock": (
        "begin; lock table notes in share mode",
        "select count(*) from pg_locks l join pg_class c on c.oid = l.relation where relname = 'notes'", 0),
    "role": ("set role none", "select current_user = session_user", True),
    "session authorization": (
        "set session authorization default", "select current_user = session_user", True),
    "last value of a sequence": (
        "create temporary sequence mine; select nextval('mine')",
        "select count(*) from pg_class where relname = 'mine'", 0),
    "what others may read in pg_stat_activity": (
        "select 'a secret of mine'",
        "select count(*) from pg_stat_activity where pid <> pg_backend_pid() and query like '%secret%'", 0),
}  # fmt: skip
"""Every kind of thing that a session can leave behind in a connection that the next owner then has."""

ENDS = {
    "a setting of one's own": "set my.secret = '1'",
    "the same by a function": "select set_config('my.secret', '1', false)",
    "a block of code": "do $$ begin perform 1; end $$",
    "a function of the database": "select shout('x')",
    "what cannot be read": "select from from",
    "a library": "load 'auto_explain'",
}
"""What no statement takes away: the connection has no further owner."""


def ask(connection: psycopg.Connection, text: str) -> object:
    """The first value of an answer, None when there is none."""
    found = None
    cursor = connection.execute(text)
    while True:
        if cursor.description and (row := cursor.fetchone()):
            found = row[0]
        if not cursor.nextset():
            return found
