"""The rows that results are made of: the same with a card number in each and without, so that what a number
costs can be seen."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from pangate.embedded import EmbeddedPostgres

PREFIX = "41111111"
"""How every card number here begins, so that one in clear is found by looking for these bytes: no count of rows is
as long."""

DISTINCT = 1000
SEED = 20261129

WIDE_ROWS = 400
WIDE_BYTES = 100_000


def check_digit(digits: str) -> str:
    """Luhn's, for the digits in front of it."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def numbers() -> list[str]:
    """Card numbers of a test range, all valid, always the same."""
    rng = random.Random(SEED)
    made = (f"{PREFIX}{rng.randrange(10**7):07}" for _ in range(DISTINCT))
    return [digits + check_digit(digits) for digits in made]


def fill(server: EmbeddedPostgres, rows: int, scale: int, user: str) -> None:
    """pgbench's own tables, and `cards`, `orders`, `wide_cards` and `wide_orders`."""
    subprocess.run(
        [str(server.bin / "pgbench"), "-i", "-q", "-s", str(scale)],
        env=server.environment(),
        check=True,
        capture_output=True,
    )
    values = ",".join(f"({place},'{number}')" for place, number in enumerate(numbers()))
    pad = WIDE_BYTES // 20
    server.psql(
        f"""
        do $$ begin if not exists (select from pg_roles where rolname = '{user}')
            then create role {user} login; end if; end $$;
        create temp table pans (place int primary key, pan text);
        insert into pans values {values};
        create table cards as
            select id, 'holder ' || id as name, pan, 'paid at the counter, nothing to note here' as note,
                timestamptz '2026-01-01' + id * interval '1 second' as created
            from generate_series(1, {rows}) id join pans on place = id % {DISTINCT} order by id;
        create table orders as
            select id, name, 'no number here--' as pan, note, created from cards order by id;
        create table wide_cards (id int, body text);
        create table wide_orders (id int, body text);
        alter table wide_cards alter body set storage external;
        alter table wide_orders alter body set storage external;
        insert into wide_cards select id, repeat('plain text ', {pad}) || pan || repeat(' more text', {pad})
            from generate_series(1, {WIDE_ROWS}) id join pans on place = id;
        insert into wide_orders select id, repeat('plain text ', {pad}) || 'no number here--' || repeat(' more text', {pad})
            from generate_series(1, {WIDE_ROWS}) id;
        grant select, insert, update on all tables in schema public to {user};
        vacuum analyze;
        """
    )


def programs(server: EmbeddedPostgres) -> Path:
    """Where pgbench is."""
    return server.bin / "pgbench"
