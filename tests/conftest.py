"""What several tests share: one embedded PostgreSQL a run, one gateway in front of it, card data in it."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import settings

from installations import installations
from pangate.embedded import EmbeddedPostgres, unwinding_signals
from pangate.model import EFFECTS
from pangate.trial import Trial

# Tests watch no time: a machine with other work, or a sanitized build, takes longer now and then. What is
# drawn is drawn the same in every run, so that a failure is of the change that shows it; `make explore` draws
# anew, and more.
settings.register_profile("pangate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("pangate")

pytest.register_assert_rewrite("servers")

PANS = ("4111111111111111", "5555555555554444", "378282246310005", "6011000990139424")

EVERYTHING = f"effects = {json.dumps(EFFECTS)}"
"""What the role of `payments` may do, so that the masking is what is tested; that of `ledger` reads only."""

CARDS = """
create type holder as (name text, card text, number bigint);
create type mood as enum ('fine', 'worried');
create domain pan_text as text;
create table cards (
    id int primary key, t text, v varchar(40), c char(16), n bigint, d numeric(20, 2), f float8,
    m money, j json, jb jsonb, b bytea, ta text[], na bigint[], da numeric[], x xml, h holder,
    p pan_text, e mood, s timestamptz, u uuid, ok bool, r int8range
);
insert into cards
select row_number() over (), pan, 'card ' || pan, pan, pan::bigint, pan::numeric + 0.5, pan::float8,
    pan::numeric::money, json_build_object('pan', pan, 'n', pan::bigint),
    jsonb_build_object('pan', pan, 'n', pan::bigint), ('x ' || pan)::bytea, array[pan, 'x', null],
    array[pan::bigint, 7], array[pan::numeric], xmlparse(content '<pan>' || pan || '</pan>'),
    row('Ada', pan, pan::bigint)::holder, pan, 'fine', '2026-11-24 12:00:00+00',
    '4111111a-1111-4111-8111-111111111111', true, int8range(pan::bigint, null)
from unnest(array['{pans}']) pan;
create table notes (id int, note text);
grant select on cards to payments_service;
grant select, insert, update, delete on notes to payments_service;
create function shout(text) returns void language plpgsql as
    $$ begin raise notice 'card %', $1 using detail = 'detail ' || $1; end $$;
"""


@pytest.fixture(scope="session", autouse=True)
def _leave_nothing_running() -> Iterator[None]:
    """A run that is told to end ends its servers too. A shell that runs it in the background has it ignore
    what interrupts, and so would everything that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with unwinding_signals():
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A server of our own; its superuser is for setting up and for comparing."""
    with EmbeddedPostgres() as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that are marked `pools` are run in both modes of the pool."""
    if metafunc.definition.get_closest_marker("pools") and "trial" in metafunc.fixturenames:
        metafunc.parametrize("trial", ["session", "transaction"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def trial(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Iterator[Trial]:
    """The gateway in front of it, as `pangate serve` runs it, and an issuer of tokens."""
    lent = getattr(request, "param", "session") == "transaction"
    resource = 'pool = { mode = "transaction", idle_seconds = 300 }' if lent else ""
    with Trial(postgres, effects=EVERYTHING, resource=resource) as running:
        if not postgres.psql("select to_regclass('cards')", "postgres", "-At").strip():
            postgres.psql(CARDS.replace("{pans}", "','".join(PANS)))
        with passers_by(running) if lent else contextlib.nullcontext():
            yield running


@contextlib.contextmanager
def passers_by(trial: Trial) -> Iterator[None]:
    """Other sessions that come and take connections all the time, so that a test hardly has one twice."""
    over = threading.Event()

    def pass_by() -> None:
        with contextlib.ExitStack() as stack:
            opened = []
            for _ in range(2):
                connection = psycopg.connect(
                    host=trial.host, port=trial.port, user="agent", dbname="payments", autocommit=True,
                    password=trial.token("passer-by", seconds=86_400), sslmode="require",
                )  # fmt: skip
                opened.append(stack.enter_context(contextlib.closing(connection)))
            while not over.wait(0.002):
                for connection in opened:
                    connection.execute("select 42", prepare=True)

    passing = threading.Thread(target=pass_by)
    passing.start()
    try:
        yield
    finally:
        over.set()
        passing.join()


@pytest.fixture(scope="session")
def token(trial: Trial) -> str:
    """A token of an agent that may read `payments`."""
    return trial.token(seconds=7200)


@pytest.fixture(scope="session", params=sorted(installations()))
def trial_of(request: pytest.FixtureRequest) -> Iterator[Trial]:
    """A gateway in front of a server of each major version, with the card data; `trial` is one of them."""
    programs = installations()[request.param]
    if programs is None:
        yield request.getfixturevalue("trial")
        return
    with (
        EmbeddedPostgres(programs=programs) as server,
        Trial(server, effects=EVERYTHING) as running,
    ):
        server.psql(CARDS.replace("{pans}", "','".join(PANS)))
        yield running
