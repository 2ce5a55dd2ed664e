"""psycopg and asyncpg through the gateway, judged by the same driver past it: equal values but for masks.

One table of random values around card numbers, read in every way that the drivers know."""

from __future__ import annotations

import asyncio
import csv
import decimal
import io
import json
import random
import ssl
import threading
import time

import asyncpg
import psycopg
import pytest
from psycopg import pq
from psycopg.rows import dict_row
from psycopg.types.composite import CompositeInfo, register_composite

from conftest import PANS
from servers import as_agent, assert_clean, assert_equal_but_for_masks, masked, past, through

pytestmark = [pytest.mark.integration, pytest.mark.pools]

ROWS = 250
COLUMNS = "id, t, v, p, n, d, j, jb, b, ta, na, da, x"
TABLE = """
create table mixed (
    id int primary key, t text, v varchar, p pan_text, n bigint, d numeric, j json, jb jsonb, b bytea,
    ta text[], na bigint[], da numeric[], x xml
);
create type pair as (one text, other text);
grant select on mixed to payments_service;
"""
# A digit right behind a character beyond ASCII, or three behind a backslash, may be no digit at all: there
# more is masked than the plain definition says, which test_cell.py judges. None stand here.
PIECES = (
    *PANS, "4111 1111 1111 1111", "5555-5555-5555-4444", "3782 822463 10005", "4222222222222", "0", "7",
    "4", "1111", " ", "-", "  ", ".", ",", "x", "caf\u00e9!", "'", '"', "\\q", "{", "}", "(", "\n", "\t", "*",
    "\u0664.", "",
)  # fmt: skip


def some_text(chance: random.Random) -> str:
    return "".join(chance.choices(PIECES, k=chance.randrange(6)))


def some_int(chance: random.Random) -> int:
    near = int(chance.choice(PANS)) + chance.choice((0, 0, 0, 1, -9))
    value = chance.choice(
        (near, near, near * 10 + 7, near // 10, chance.getrandbits(63), chance.randrange(99), 0)
    )
    return chance.choice((1, 1, -1)) * min(value, 2**63 - 1)


def some_decimal(chance: random.Random) -> decimal.Decimal:
    whole = chance.choice((str(some_int(chance)), "0", "-3", chance.choice(PANS) * 2))
    parts = ("", ".5", ".00", ".000000", f".{chance.choice(PANS)}", f".00{chance.choice(PANS)}00")
    return decimal.Decimal(whole + chance.choice(parts))


def rows() -> list[tuple[object, ...]]:
    chance = random.Random(20_261_124)
    made = []
    for row in range(ROWS):
        inner = {
            some_text(chance): some_text(chance),
            "n": some_int(chance),
            "l": [some_text(chance), some_int(chance), None, True, {"k": some_text(chance)}],
        }
        made.append(
            (
                row, some_text(chance), some_text(chance) or None, some_text(chance), some_int(chance),
                some_decimal(chance), json.dumps(inner), json.dumps(inner, ensure_ascii=False),
                chance.choice((some_text(chance).encode(), chance.randbytes(40), None)),
                [some_text(chance), None, *(some_text(chance) for _ in range(chance.randrange(4)))],
                [some_int(chance), None], [some_decimal(chance) for _ in range(chance.randrange(4))],
                f"<c n='{chance.choice(PANS)}'>{chance.choice(PANS)}</c>",
            )
        )  # fmt: skip
    return made


@pytest.fixture(scope="module", autouse=True)
def table(trial):
    trial.postgres.psql(TABLE)
    with (
        psycopg.connect(
            host=trial.postgres.host, port=trial.postgres.port, user=trial.postgres.user,
            password=trial.postgres.password, dbname="postgres", sslmode="require",
        ) as admin,
        admin.cursor() as cursor,
        cursor.copy(f"copy mixed ({COLUMNS}) from stdin") as copy,
    ):  # fmt: skip
        for row in rows():
            copy.write_row(row)
    yield
    trial.postgres.psql("drop table mixed; drop type pair")


@pytest.fixture
def agent(trial, token):
    with psycopg.connect(through(trial, token), autocommit=True) as connection:
        yield connection


@pytest.fixture
def service(trial):
    with psycopg.connect(past(trial), autocommit=True) as connection:
        yield connection


# --- psycopg ---------------------------------------------------------------------------------------

QUERY = f"select {COLUMNS} from mixed order by id"


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_rows(agent, service, binary, prepare):
    found = []
    for connection in (service, agent):
        with connection.cursor(binary=binary) as cursor:
            first = cursor.execute(QUERY, prepare=prepare).fetchall()
            # the second time without Parse, and with a parameter
            again = cursor.execute(QUERY, prepare=prepare).fetchall()
            one = cursor.execute(
                f"select {COLUMNS} from mixed where id = any(%s) order by id",
                ([3, 5, 8, 13, 21, 34, 55],),
                prepare=prepare,
            ).fetchall()
        assert repr(first) == repr(again)
        found.append((first, one))
    assert_equal_but_for_masks(found[0][0], found[1][0])
    assert_equal_but_for_masks(found[0][1], found[1][1])


def test_binding_on_the_client(agent, service):
    found = []
    for connection in (service, agent):
        with psycopg.ClientCursor(connection) as cursor:
            found.append(
                cursor.execute(
                    f"select %s, %s::bigint, %s::numeric, {COLUMNS} from mixed where id < %s order by id",
                    (PANS[0], int(PANS[1]), decimal.Decimal(PANS[2]) / 4, 60),
                ).fetchall()
            )
    assert_equal_but_for_masks(*found)


@pytest.mark.parametrize("binary", [False, True])
def test_parameters_come_back_masked_and_arrive_as_they_were(agent, service, binary):
    form = "%b" if binary else "%t"
    query = f"""select {form}::text, {form}::bigint, {form}::numeric, {form}::jsonb, {form}::text[],
        {form}::bytea, length({form}::text)"""
    values = (
        PANS[0], int(PANS[1]), decimal.Decimal(PANS[2] + ".50"),
        psycopg.types.json.Jsonb({"pan": PANS[3]}), [PANS[0], "x"], PANS[1].encode(), PANS[2],
    )  # fmt: skip
    shown = [connection.execute(query, values).fetchall() for connection in (service, agent)]
    assert_equal_but_for_masks(*shown)
    # a PAN as a condition finds its row: parameters are not changed on their way in
    found = agent.execute(
        f"select id from cards where t = {form} and n = {form}", (PANS[1], int(PANS[1]))
    )
    assert found.fetchall() == [(2,)]


@pytest.mark.parametrize("binary", [False, True])
def test_cursors_at_the_server(agent, service, binary):
    found = []
    for connection in (service, agent):
        with connection.transaction():
            with connection.cursor(name="c", binary=binary, scrollable=True) as cursor:
                cursor.itersize = 7
                cursor.execute(QUERY)
                some = [cursor.fetchone() for _ in range(10)]
                cursor.scroll(-5)
                some += cursor.fetchmany(20)
                some += list(cursor)
            with connection.cursor(name="4111111111111111", withhold=False) as cursor:
                cursor.execute("select t from mixed order by id")
                some += cursor.fetchall()
        found.append(some)
    assert_equal_but_for_masks(*found)


def test_row_by_row(agent, service):
    found = []
    for connection in (service, agent):
        with connection.cursor() as cursor:
            some = list(cursor.stream(QUERY))
            some += list(cursor.stream(QUERY, size=9, binary=True))
        found.append(some)
    assert_equal_but_for_masks(*found)


def test_pipelines(agent, service):
    found = []
    for connection in (service, agent):
        with connection.pipeline() as pipeline:
            cursors = [
                connection.execute(
                    f"select {COLUMNS} from mixed where id = %s", (n,), prepare=n % 2 == 0, binary=n % 3 == 0
                )
                for n in range(120)
            ]  # fmt: skip
            pipeline.sync()
            some = [cursor.fetchone() for cursor in cursors]
        found.append(some)
    assert_equal_but_for_masks(*found)


def test_an_error_in_a_pipeline_ends_what_is_behind_it(agent, service):
    seen = []
    for connection in (service, agent):
        outcome = []
        with connection.pipeline() as pipeline:
            good, bad, skipped = (connection.cursor() for _ in range(3))
            good.execute("select t from cards where id = 1")
            # the driver raises it where it comes to read it: at one of these, by how fast the answer is
            for step in (
                lambda bad=bad: bad.execute("select ('x' || t)::int from cards"),
                lambda skipped=skipped: skipped.execute("select t from cards where id = 2"),
                pipeline.sync,
            ):
                try:
                    step()
                except psycopg.errors.InvalidTextRepresentation as wrong:
                    outcome.append(wrong.diag.message_primary)
                except psycopg.errors.PipelineAborted:
                    pass  # the driver has read the error and sends nothing more before the Sync
            after = connection.execute("select t from cards where id = 3")
            for cursor in (good, skipped, after):
                try:
                    outcome.append(cursor.fetchone())
                except psycopg.Error as error:
                    outcome.append(type(error).__name__)
        outcome.append(connection.execute("select 'on'").fetchone())
        seen.append(tuple(outcome))
    assert seen[1] == as_agent(seen[0])
    # one error, and what is behind the Sync runs
    assert seen[0][1:] == ((PANS[0],), "ProgrammingError", (PANS[2],), ("on",))


TYPES = (
    "int4", "text", "varchar", "text", "int8", "numeric", "json", "jsonb", "bytea", "text[]", "int8[]",
    "numeric[]", "xml",
)  # fmt: skip


@pytest.mark.parametrize("form", ["text", "binary"])
def test_copy(agent, service, form):
    """Each cell is masked by its type, as in a SELECT."""
    command = f"copy (select {COLUMNS} from mixed order by id) to stdout (format {form})"
    shown = []
    for connection in (service, agent):
        with connection.cursor() as cursor, cursor.copy(command) as copy:
            copy.set_types(TYPES)
            shown.append(list(copy.rows()))
    assert_equal_but_for_masks(*shown)


def test_copy_of_a_whole_table_in_binary(agent, service):
    """The types of one's own among them."""
    shown = []
    for connection in (service, agent):
        with (
            connection.cursor() as cursor,
            cursor.copy("copy cards (id, t, e, h, p) to stdout (format binary)") as copy,
        ):
            shown.append(b"".join(bytes(block) for block in copy))
    direct, through_gateway = shown
    assert_clean(through_gateway)
    assert len(direct) == len(through_gateway)
    assert all(pan.encode() in direct for pan in PANS)


def test_copy_as_csv(agent, service):
    command = "copy (select id, t, v, p, n, d, na, x from mixed order by id) to stdout (format csv)"
    shown = []
    for connection in (service, agent):
        with connection.cursor() as cursor, cursor.copy(command) as copy:
            data = b"".join(bytes(block) for block in copy)
        made = []
        for id_, t, v, p, n, d, na, x in csv.reader(io.StringIO(data.decode(), newline="")):
            many = [None if one == "NULL" else int(one) for one in na[1:-1].split(",")]
            made.append((int(id_), t, v, p, int(n), decimal.Decimal(d), many, x))
        shown.append(made)
    assert_equal_but_for_masks(*shown)


def test_prepared_statements_come_and_go(agent, service):
    """More statements than the driver keeps, names used again, and what SQL does to them."""
    found = []
    for connection in (service, agent):
        connection.prepare_threshold, connection.prepared_max = 1, 3
        some = []
        for turn in range(4):
            for column in ("t", "n", "d", "jb", "ta"):
                for _ in range(3):
                    query = f"select {column}, id from mixed where id > %s order by id limit 9"
                    some += connection.execute(query, (turn,), binary=turn % 2 == 0).fetchall()
            if turn == 2:
                connection.execute("deallocate all")
                connection._prepared.clear()
        found.append(some)
    assert_equal_but_for_masks(*found)


def test_a_table_that_changes_under_a_prepared_statement(trial, agent):
    trial.postgres.psql(
        "create table shift (a int); insert into shift values (1);"
        "grant select on shift to payments_service"
    )
    try:
        query = "select * from shift"
        assert agent.execute(query, prepare=True).fetchone() == (1,)
        trial.postgres.psql("alter table shift alter a type text using '4111111111111111'")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan"):
            agent.execute(query, prepare=True)
        agent.execute("deallocate all")
        agent._prepared.clear()
        assert agent.execute(query, prepare=True).fetchone() == (masked(PANS[0]),)
        # a view of the same name in a schema before it: another statement's plan is never used
        agent.execute("create temp table shift as select 4111111111111111 as a")
        agent.execute("deallocate all")
        agent._prepared.clear()
        (value,) = agent.execute(query, prepare=True, binary=True).fetchone()
        assert value == as_agent(int(PANS[0]))
    finally:
        agent.close()
        trial.postgres.psql("drop table shift")


def test_a_composite_of_ones_own(agent, service):
    """Its fields come as text without types, so a number in it is masked as text and is no number then."""
    info = CompositeInfo.fetch(agent, "pair")
    assert info is not None
    for connection in (service, agent):
        register_composite(info, connection)
    query = "select row(t, v)::pair, array[row(v, null)::pair] from mixed order by id"
    found = [connection.execute(query).fetchall() for connection in (service, agent)]
    assert_equal_but_for_masks(*[[(*one, *many[0]) for one, many in rows] for rows in found])
    (holder,) = agent.execute("select h from cards where id = 1").fetchone()
    assert holder == masked(f"(Ada,{PANS[0]},{PANS[0]})")


def test_notices_and_notifications(agent):
    said, told = [], []
    agent.add_notice_handler(lambda diag: said.append((diag.message_primary, diag.message_detail)))
    agent.add_notify_handler(lambda note: told.append((note.channel, note.payload)))
    agent.execute("select shout('4111111111111111')")
    agent.execute('listen "5555555555554444"')
    agent.execute("select pg_notify('5555555555554444', '{\"pan\": 378282246310005}')")
    agent.execute("select 1")
    assert said == [("card ************1111", "detail ************1111")]
    assert [channel for channel, _ in told] == ["************4444"]
    assert_clean(told[0][1])


def test_every_field_of_an_error(agent):
    with pytest.raises(psycopg.errors.RaiseException) as wrong:
        agent.execute(
            "do $$ begin raise exception '4111111111111111' using detail = '5555555555554444', hint ="
            " '378282246310005', table = '6011000990139424', column = '4111111111111111',"
            " schema = '5555555555554444', datatype = '378282246310005'; end $$"
        )
    diag = wrong.value.diag
    shown = [getattr(diag, name) for name in dir(diag) if not name.startswith("_")]
    assert_clean(repr(shown))
    assert diag.message_hint == masked("378282246310005")
    assert diag.table_name == masked("6011000990139424")


def test_cancel_from_another_thread(agent):
    began = time.monotonic()
    timer = threading.Timer(0.4, agent.cancel_safe)
    timer.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        agent.execute("select pg_sleep(50)")
    timer.join()
    assert time.monotonic() - began < 20
    assert agent.execute("select 'on'").fetchone() == ("on",)


def test_what_the_library_below_does(agent):
    """libpq itself: formats by column, chunks of rows, descriptions, portals that are closed."""
    raw = agent.pgconn
    done = raw.exec_params(b"select t, n, $1::text from cards where id = 1", [PANS[2].encode()])
    assert done.get_value(0, 0) == masked(PANS[0]).encode()
    assert done.get_value(0, 2) == masked(PANS[2]).encode()
    done = raw.prepare(b"p1", b'select n, t as "4111111111111111" from cards where id = $1::int')
    assert done.status == pq.ExecStatus.COMMAND_OK
    described = raw.describe_prepared(b"p1")
    assert (described.nparams, described.nfields) == (1, 2)
    assert described.fname(1) == masked("4111111111111111").encode()
    for form in (0, 1):
        done = raw.exec_prepared(b"p1", [b"2"], result_format=form)
        value = done.get_value(0, 0)
        assert value is not None
        shown = int.from_bytes(value, "big") if form else int(value)
        assert shown == as_agent(int(PANS[1]))
    # the same name may not be given twice, and what is not there cannot run
    assert raw.prepare(b"p1", b"select 1").status == pq.ExecStatus.FATAL_ERROR
    assert raw.exec_prepared(b"p1", [b"1"]).ntuples == 1
    assert raw.exec_prepared(b"p2", [b"1"]).status == pq.ExecStatus.FATAL_ERROR
    assert raw.exec_(b"select 'on'").get_value(0, 0) == b"on"
    assert raw.exec_(b"").status == pq.ExecStatus.EMPTY_QUERY


def test_rows_as_dictionaries_hide_pans_in_their_keys(agent):
    with agent.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute('select t as "4111111111111111" from cards where id = 1').fetchone()
    assert row == {masked("4111111111111111"): masked(PANS[0])}


def test_transactions_and_savepoints(agent):
    with pytest.raises(psycopg.errors.UndefinedTable), agent.transaction():
        agent.execute("insert into notes values (900, 'rolled back')")
        agent.execute("select * from nowhere")
    with agent.transaction():
        agent.execute("insert into notes values (901, 'kept')")
        with pytest.raises(psycopg.errors.DivisionByZero), agent.transaction():
            agent.execute("insert into notes values (902, 'in a savepoint')")
            agent.execute("select 1 / 0")
    assert agent.execute("delete from notes where id >= 900 returning id").fetchall() == [(901,)]


def test_many_rows_into_a_table(agent):
    with agent.cursor() as cursor:
        cursor.executemany(
            "insert into notes values (%s, %s) returning note",
            [(n, PANS[n % 4]) for n in range(800, 860)],
            returning=True,
        )
        returned = []
        while True:
            returned += cursor.fetchall()
            if not cursor.nextset():
                break
        assert [note for (note,) in returned] == [masked(PANS[n % 4]) for n in range(800, 860)]
        with cursor.copy("copy notes from stdin") as copy:
            for n in range(860, 900):
                copy.write_row((n, PANS[n % 4]))
    # what was written is what was sent: the masks are on the way out only
    assert agent.execute(
        "delete from notes where id >= 800 and note = any(%s) returning id", (list(PANS),)
    ).rowcount == 100  # fmt: skip


async def test_psycopg_async(trial, token):
    async with (
        await psycopg.AsyncConnection.connect(past(trial), autocommit=True) as service,
        await psycopg.AsyncConnection.connect(through(trial, token), autocommit=True) as agent,
    ):
        found = []
        for connection in (service, agent):
            some = []
            for binary in (False, True):
                cursor = connection.cursor(binary=binary)
                await cursor.execute(QUERY, prepare=binary)
                some += await cursor.fetchall()
            async with connection.pipeline():
                cursors = [
                    await connection.execute("select t, n, d from mixed where id = %s", (n,))
                    for n in range(40)
                ]
                some += [await cursor.fetchone() for cursor in cursors]
            async with connection.transaction(), connection.cursor(name="c") as held:
                await held.execute(QUERY)
                some += [row async for row in held]
            found.append(some)
        assert_equal_but_for_masks(*found)


# --- asyncpg ---------------------------------------------------------------------------------------


async def connect(trial, token, **more):
    connection = await asyncpg.connect(**_address(trial, token), **more)
    await _json_as_values(connection)
    return connection


def _address(trial, token):
    return {
        "host": trial.host, "port": trial.port, "user": "agent", "password": token,
        "database": "payments", "ssl": ssl.create_default_context(cafile=str(trial.ca)),
    }  # fmt: skip


async def _json_as_values(connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
        )


@pytest.fixture
async def apg(trial, token):
    connection = await connect(trial, token)
    yield connection
    await connection.close()


@pytest.fixture
async def apg_service(trial):
    context = ssl.create_default_context(cafile=str(trial.postgres.authority.ca))
    connection = await asyncpg.connect(
        host="127.0.0.1", port=trial.postgres.port, user="payments_service", password=trial.secret,
        database="postgres", ssl=context,
    )  # fmt: skip
    await _json_as_values(connection)
    yield connection
    await connection.close()


async def test_asyncpg_rows(apg, apg_service):
    """All of it binary, by a statement that is used again, by a cursor, and with parameters."""
    found = []
    for connection in (apg_service, apg):
        statement = await connection.prepare(QUERY)
        some = [*await statement.fetch(), *await statement.fetch()]
        some.append(await statement.fetchrow())
        async with connection.transaction():
            some += [row async for row in connection.cursor(QUERY, prefetch=11)]
            cursor = await statement.cursor()
            some += await cursor.fetch(20)
            await cursor.forward(10)
            some += await cursor.fetch(20)
        for n in range(30):
            some += await connection.fetch(
                f"select {COLUMNS} from mixed where id between $1 and $1 + $2", n, n % 3
            )
        some += await connection.fetch(
            "select row(t, n, d, ta), array[row(n, t)] from mixed order by id"
        )
        found.append(some)
    assert_equal_but_for_masks(*found)


async def test_asyncpg_parameters_of_every_type(apg, apg_service):
    query = (
        "select $1::text, $2::bigint, $3::numeric, $4::jsonb, $5::text[], $6::bytea, $7::bigint[]"
    )
    values = (
        PANS[0], int(PANS[1]), decimal.Decimal(PANS[2] + ".50"), {"pan": PANS[3], "n": int(PANS[3])},
        [PANS[0], None, "x"], PANS[1].encode(), [int(PANS[2]), 5],
    )  # fmt: skip
    assert_equal_but_for_masks(
        *[await connection.fetch(query, *values) for connection in (apg_service, apg)]
    )


async def test_asyncpg_errors_leave_the_connection_usable(apg):
    with pytest.raises(asyncpg.InvalidTextRepresentationError) as wrong:
        await apg.fetch("select ($1 || t)::int from cards", "x")
    assert f'"x{masked(PANS[0])}"' in str(wrong.value)
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await apg.fetch("select where from")
    with pytest.raises(asyncpg.DataError):
        await apg.fetch("select $1::int", "not a number")
    with pytest.raises(asyncpg.UndefinedTableError):
        await apg.prepare("select * from nowhere")
    async with apg.transaction():
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with apg.transaction():
                await apg.fetch("select 1 / $1::int", 0)
        assert await apg.fetchval("select 'on'") == "on"


async def test_asyncpg_types_of_ones_own_in_binary(apg):
    found = await apg.fetch("select h, array[h] as a, e, array[e] as es, p from cards order by id")
    for pan, row in zip(PANS, found, strict=True):
        holder = ("Ada", masked(pan), as_agent(int(pan)))
        assert tuple(row["h"]) == holder
        assert [tuple(one) for one in row["a"]] == [holder]
        assert (row["e"], row["es"], row["p"]) == ("fine", ["fine"], masked(pan))
    assert await apg.fetchval("select h::text from cards where id = 1") == masked(
        f"(Ada,{PANS[0]},{PANS[0]})"
    )


async def test_asyncpg_many_at_once_through_a_pool(trial, token):
    async with asyncpg.create_pool(
        min_size=2, max_size=6, max_queries=5, **_address(trial, token)
    ) as pool:

        async def one(n: int) -> tuple[str, int]:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(f"set local application_name = 'n{n}'")
                row = await connection.fetchrow("select t, n from cards where id = $1", n % 4 + 1)
                return tuple(row)

        got = await asyncio.gather(*(one(n) for n in range(60)))
    assert got == [as_agent((PANS[n % 4], int(PANS[n % 4]))) for n in range(60)]


async def test_asyncpg_a_task_that_is_cancelled(apg):
    task = asyncio.create_task(apg.fetch("select pg_sleep(40)"))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await apg.fetchval("select 'on'") == "on"


async def test_asyncpg_listeners(apg):
    heard: asyncio.Queue[str] = asyncio.Queue()
    said = []
    await apg.add_listener("cards", lambda *note: heard.put_nowait(note[3]))
    apg.add_log_listener(lambda _, message: said.append((message.message, message.detail)))
    await apg.execute("notify cards, 'card 4111111111111111'")
    await apg.execute("select shout('378282246310005')")
    assert await asyncio.wait_for(heard.get(), 10) == masked("card 4111111111111111")
    await asyncio.sleep(0)
    assert said == [(masked("card 378282246310005"), masked("detail 378282246310005"))]
    await apg.remove_listener("cards", lambda *note: None)


async def test_asyncpg_copy(apg):
    out = io.BytesIO()
    await apg.copy_from_table("cards", columns=["id", "t", "n"], output=out, format="csv")
    assert out.getvalue().decode().splitlines() == [
        f"{n},{masked(pan)},{as_agent(int(pan))}" for n, pan in enumerate(PANS, 1)
    ]
    out = io.BytesIO()
    await apg.copy_from_table("cards", output=out, format="binary")
    assert_clean(out.getvalue())
    done = await apg.copy_records_to_table("notes", records=[(700, PANS[0]), (701, PANS[1])])
    assert done == "COPY 2"
    assert await apg.execute("delete from notes where id >= 700") == "DELETE 2"
