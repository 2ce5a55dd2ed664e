"""psql through the gateway, judged by psql past it: the same script gives the same text, masked."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import sys
import time

import pytest

from conftest import PANS
from pangate.protocols.postgres.messages import message
from pangate.trial import until
from servers import assert_clean, masked, number, numbers, psql, rest, service, session

pytestmark = [pytest.mark.integration, pytest.mark.pools]

OBJECTS = """
create table vault (
    id int primary key, card text unique check (card <> '5555555555554444'),
    note text default 'call about 4111-1111-1111-1111'
);
comment on table vault is 'the first card is 4111111111111111';
comment on column vault.card is 'such as 378282246310005';
create view "4111111111111111" as select card as "5555555555554444" from vault;
create function vault_note() returns text language sql as $$ select '4111111111111111'::text $$;
grant select, insert on vault to payments_service;
grant select on "4111111111111111" to payments_service;
insert into vault values (1, '4111111111111111'), (2, '6011000990139424');
"""


@pytest.fixture(scope="module", autouse=True)
def vault(trial):
    trial.postgres.psql(OBJECTS)
    yield
    trial.postgres.psql(
        'drop view "4111111111111111"; drop table vault; drop function vault_note()'
    )


def both(trial, token, script, *arguments):
    """The script past the gateway and through it: text that has to be equal once masked."""
    before = psql(service(trial), trial, script, *arguments)
    after = psql(trial.environment(token), trial, script, *arguments)
    assert after.returncode == before.returncode, after.stderr
    return before, after


# Each holds PANs in text: what psql prints through the gateway is what the plain definition makes of what it
# prints past it. Nothing may join digits of two cells that one value does not have: hence -A.
TEXT = {
    "rows": "select id, t, v, c, p, s, u, ok, e from cards order by id;",
    "json": "select j->>'pan', jb->>'pan', j->'pan' from cards order by id;",
    "arrays": "select ta, array[array[t, v]] from cards order by id;",
    "xml": "select x from cards order by id;",
    "records": "select row(t, v, id), (h).card from cards order by id;",
    "copy": "copy (select id, t, v from cards order by id) to stdout;",
    "copy csv": "copy (select id, t, v from cards order by id) to stdout (format csv, header);",
    "backslash copy": "\\copy (select id, t from cards order by id) to stdout csv",
    "cursor": "begin; declare c scroll cursor for select id, t from cards order by id;"
    "fetch 2 from c; fetch 1 from c; fetch backward 1 from c; move first from c; fetch all from c;"
    "close c; commit;",
    "held cursor": "begin; declare c cursor with hold for select t from cards order by id; commit;"
    "fetch 3 from c; fetch 3 from c; close c;",
    "fetch count": "\\set FETCH_COUNT 2\nselect id, t from cards order by id;",
    "explain": "explain (costs off) select * from cards where t = '4111111111111111' and v like '4%';",
    "explain json": "explain (costs off, format json) select 1 from cards where t = '378282246310005';",
    "column name": 'select 1 as "4111111111111111", t as "5555 5555 5555 4444" from cards where id = 1;',
    "three statements": "select t from cards where id = 1\\; select 'x'\\; select v from cards where id = 2;",
    "bind": "select $1::text, $2::varchar \\bind 4111111111111111 'pan 378282246310005' \\g\n",
    "gdesc": "select id, t, n as \"4111111111111111\" from cards \\gdesc\n",
    "gexec": "select format('select %L, %s', t, id) from cards order by id \\gexec\n",
    "gset": "select t as held from cards where id = 1 \\gset\n\\echo :held\n",
    "expanded": "\\x\nselect id, t from cards order by id;",
    "describe": "\\d+ vault\n\\d cards\n\\dd\n",
    "list": "\\dv\n\\df vault*\n\\sf vault_note\n\\sv \"4111111111111111\"\n\\dt+ vault\n",
    "view": 'table "4111111111111111";',
    "default": "begin; insert into vault (id, card) values (9, '6011111111111117') returning *; rollback;",
    "prepared": "prepare p (text) as select id, t from cards where t = $1;"
    "execute p ('4111111111111111'); select statement from pg_prepared_statements; deallocate p;",
    "notice": "do $$ begin raise notice 'card %', '4111111111111111'; end $$;",
    "warning": "do $$ begin raise warning using message = '4111111111111111', hint = '378282246310005',"
    " table = '6011000990139424'; end $$;",
    "raised": "\\set VERBOSITY verbose\n"
    "do $$ begin raise exception 'declined %', '4111111111111111' using detail = 'd 378282246310005',"
    " hint = 'h 6011000990139424', column = '5555555555554444', constraint = '4111111111111111'; end $$;",
    "cast": "select (v || 'x')::int from cards where id = 1;",
    "out of range": "select t::int from cards where id = 1;",
    "unique": "\\set VERBOSITY verbose\ninsert into vault select 3, card from vault where id = 1;",
    "check": "insert into vault select 4, '5555' || '5555' || '5555' || '4444';",
    "errors go on": "select 1; select (t || 'x')::int from cards; select 2;",
    "transaction": "begin; select (t || 'x')::int from cards; select 1; rollback; select t from cards;",
    "savepoint": "begin; savepoint a; select (t || 'x')::int from cards; rollback to a;"
    "select t from cards where id = 3; commit;",
    "chained": "begin; select 1; commit and chain; select t from cards where id = 1; rollback;",
    "implicit transaction": "insert into vault values (7, 'x')\\; select (t || 'x')::int from cards;"
    "select count(*) from vault;",
    "no rows": "select t from cards where false; select from cards; ;",
    "null": "\\pset null NULL\nselect null::text, '', t from cards;",
    "unicode": "select 'caf\u00e9 \u0664', repeat('\u00e9', 3) || t || '\u20ac' from cards order by id;",
    "settings": "set application_name = '4111111111111111'; show application_name; reset all;",
    "error in copy": "copy (select (t || 'x')::int from cards) to stdout; select 1;",
    "row in error": "copy vault from stdin;\n4111111111111111\tx\ty\n\\.\nselect 1;",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXT)
def test_the_same_text_but_for_the_masks(trial, token, name):
    before, after = both(trial, token, TEXT[name], "-A")
    assert after.stdout == masked(before.stdout)
    assert after.stderr == masked(_without_row(before.stderr))
    assert before.stdout + before.stderr != ""
    assert_clean(after.stdout + after.stderr)


def _without_row(text: str) -> str:
    """The row that a broken constraint quotes has no names, so all of it is taken out."""
    return re.sub(r"(?<=Failing row contains )\(.*\)", "(***)", text)


def test_the_scripts_show_pans_without_the_gateway(trial):
    # otherwise the test above could not fail
    shown = [psql(service(trial), trial, script, "-A") for script in TEXT.values()]
    bare = [name for name, done in zip(TEXT, shown, strict=True) if _same(done)]
    # what shows none is there for its order of messages
    assert bare == ["no rows"]


def _same(done: subprocess.CompletedProcess[str]) -> bool:
    text = done.stdout + done.stderr
    return masked(text) == text


NUMBERS = {
    "bigint": "select n from cards order by id;",
    "numeric": "select d, d::numeric(30, 4), -d from cards order by id;",
    "arrays": "select na, da from cards order by id;",
    "range": "select r from cards order by id;",
    "copy": "copy (select id, n from cards order by id) to stdout;",
    "cursor": "begin; declare c cursor for select n, d from cards order by id; fetch all from c; commit;",
    "bind": "select $1::bigint, $2::numeric \\bind 4111111111111111 378282246310005.25 \\g\n",
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_stay_numbers(trial, token, name):
    before, after = both(trial, token, NUMBERS[name], "-At")
    assert after.stdout == numbers(before.stdout)
    assert after.stdout != before.stdout
    assert_clean(after.stdout)


def test_money_and_floats_are_numbers_too(trial, token):
    before, after = both(trial, token, "select m, f from cards order by id;", "-At")
    lines = zip(before.stdout.split(), after.stdout.split(), PANS, strict=True)
    for was, shown, pan in lines:
        money, real = shown.split("|")
        assert was.split("|")[0].replace(",", "") == f"${pan}.00"
        assert money.replace(",", "") == f"${number(int(pan))}.00"
        assert [m.start() for m in re.finditer(",", money)] == [
            m.start() for m in re.finditer(",", was.split("|")[0])
        ]
        assert float(real) == float(number(int(pan)))
    assert_clean(after.stdout.replace(",", ""))


def test_the_outcome_of_a_copy_into_a_table(trial, token):
    script = (
        "\\copy vault (id, card) from stdin\n20\tone\n21\ttwo\n\\.\nselect count(*) from vault;\n"
    )
    done = psql(trial.environment(token), trial, script, "-At")
    assert done.stdout.split("\n")[:2] == ["COPY 2", "4"], done.stderr
    assert trial.postgres.psql(
        "select card from vault where id > 19 order by id", "postgres", "-At"
    ).split() == ["one", "two"]
    trial.postgres.psql("delete from vault where id > 19")


def test_a_copy_into_a_table_that_is_not_granted(trial, token):
    before, after = both(trial, token, "\\copy cards (id) from '/dev/null'\nselect 'on';", "-At")
    assert "permission denied for table cards" in after.stderr
    assert (after.stdout, after.stderr) == (before.stdout, before.stderr)
    assert after.stdout == "on\n"


def test_notifications_name_and_payload(trial, token):
    script = 'listen "4111111111111111";\nnotify "4111111111111111", \'card 378282246310005\';\nselect 1;'
    before, after = both(trial, token, script, "-At")

    def without_pid(text: str) -> str:
        return re.sub(r"PID \d+", "PID", text)

    assert without_pid(after.stdout) == masked(without_pid(before.stdout))
    assert 'notification "************1111"' in after.stdout
    assert "card ***********0005" in after.stdout


def test_what_others_run_is_not_shown(trial, token):
    """pg_stat_activity has what another session of the same login runs, with all its values."""
    script = "select pg_sleep(30), '4111111111111111 elsewhere';"
    other = subprocess.Popen(
        [str(trial.postgres.bin / "psql"), "-X", "-c", script], env=service(trial),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        seen = (
            "select state, query from pg_stat_activity where query like '%' || 'elsewhere''%'"
            " and pid <> pg_backend_pid();"
        )

        def shown() -> str:
            return psql(trial.environment(token), trial, seen, "-At").stdout

        until(lambda: "active" in shown(), "the other statement")
        assert shown() == "active|***\n"
    finally:
        other.kill()
        other.wait()
        trial.postgres.psql(
            "select pg_terminate_backend(pid) from pg_stat_activity where query like '%elsewhere%'"
            " and pid <> pg_backend_pid()"
        )


def test_large_objects(trial, token):
    """By the fast path, in pieces of 8 KiB, with a PAN over the border of two of them."""
    pan = PANS[0]
    content = "x" * 8190 + pan + "y" * 8170 + f" {pan} end {pan}"
    made = trial.postgres.psql(f"select lo_from_bytea(0, '{content}')", "postgres", "-At").strip()
    trial.postgres.psql(f"grant select on large object {made} to payments_service")
    done = psql(
        trial.environment(token),
        trial,
        f"\\lo_export {made} /dev/stdout\n\\echo\nselect lo_get({made});",
        "-At",
    )
    exported, got = [line for line in done.stdout.split("\n") if line][:2]
    assert_clean(done.stdout)
    # digits at a border are masked whatever they are
    stars = "*" * len(pan)
    shown = "x" * 8190 + stars + "y" * 8170 + f" {stars} end {masked(pan)}"
    assert exported.removesuffix("lo_export") == shown
    # the bytes by SELECT are bytea, and masked
    assert got == "\\x" + masked(content).encode().hex()
    trial.postgres.psql(f"select lo_unlink({made})")


def test_other_function_calls_are_refused(trial, token):
    with session(trial, token) as sock:
        sock.sendall(message(b"F", struct.pack("!ihhh", 1598, 0, 0, 0)))
        sock.sendall(message(b"X"))
        said = rest(sock)
    assert b"function calls by OID cannot be masked; call the function with SELECT" in said


ON_ITS_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """An interactive psql on a terminal of its own."""

    def __init__(self, trial, token):
        ours, its = pty.openpty()
        self._fd = ours
        self.seen = ""
        self.process = subprocess.Popen(
            [
                sys.executable, "-c", ON_ITS_TERMINAL,
                str(trial.postgres.bin / "psql"), "-X", "-n", "-At", "-P", "pager=off",
            ],
            env={**trial.environment(token), "TERM": "dumb"}, stdin=its, stdout=its, stderr=its,
        )  # fmt: skip
        os.close(its)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str, seconds: float = 20) -> str:
        """What it prints up to `text`, which is taken away."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not come: {self.seen!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self.seen += os.read(self._fd, 4096).decode()
        found, _, self.seen = self.seen.partition(text)
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)


def test_ctrl_c_at_a_terminal_ends_the_statement_and_not_the_session(trial, token):
    terminal = Terminal(trial, token)
    try:
        terminal.wait_for("payments=> ")
        running = (
            "select count(*) from pg_stat_activity where state = 'active' and query like '%61)%'"
            " and pid <> pg_backend_pid()"
        )
        for _ in range(2):
            terminal.type("select pg_sleep(61);\n")
            until(
                lambda: trial.postgres.psql(running, "postgres", "-At").strip() == "1",
                "the statement",
            )
            terminal.type("\x03")
            terminal.wait_for("ERROR:  canceling statement due to user request")
            terminal.wait_for("payments=> ")
        terminal.type("select 'still ' || 'here', t from cards where id = 1;\n")
        terminal.wait_for("still here|************1111")
        # a result that is on its way
        terminal.type("select repeat('x', 100) from generate_series(1, 100000000);\n")
        time.sleep(0.5)
        terminal.type("\x03")
        terminal.wait_for("payments=> ", 60)
        terminal.type("select 'and ' || 'here';\n\\q\n")
        terminal.wait_for("and here")
        assert terminal.process.wait(timeout=10) == 0
    finally:
        terminal.close()
