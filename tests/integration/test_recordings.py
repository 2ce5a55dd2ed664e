"""Recordings of real sessions: what clients of every kind were sent is replayed as they got it, and no
byte of it is a card number."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from conftest import CARDS, EVERYTHING, PANS
from pangate.audit import recorded
from pangate.audit.events import events
from pangate.audit.recorded import SENT, Reading, digest_of
from pangate.audit.replay import check, moments, session_of
from pangate.embedded import EmbeddedPostgres
from pangate.masking import default_scanner
from pangate.trial import Trial, until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def own() -> Iterator[Trial]:
    with EmbeddedPostgres() as server, Trial(server, effects=EVERYTHING) as running:
        server.psql(CARDS.replace("{pans}", "','".join(PANS)))
        yield running


def last_session(trial: Trial) -> str:
    """The id of the session that ended last."""
    found = [event for event in events(trial.audit) if event["code"] == "session.end"]
    return found[-1]["session"]


@contextlib.contextmanager
def one_session(trial: Trial) -> Iterator[list[str]]:
    """What happens in the block is one session, whose id is in the list afterwards."""

    def ended() -> int:
        return sum(event["code"] == "session.end" for event in events(trial.audit))

    before = ended()
    found: list[str] = []
    yield found
    until(lambda: ended() > before, "the end of the session")
    found.append(last_session(trial))


def seen(trial: Trial, session: str) -> list[tuple[str, int, object]]:
    """What is replayed of a session, less its timing; its recording is what the ledger says."""
    known = session_of(events(trial.audit), session)
    checked = check(known, trial.audit.parent)
    assert checked.right, checked.sentence
    found = list(moments(known, checked.path))
    times = [moment.seconds for moment in found]
    assert times == sorted(times)
    return [(moment.kind, moment.number, moment.value) for moment in found]


def commands(found) -> dict[int, str]:
    return {number: value["data"]["text"] for kind, number, value in found if kind == "command"}


def rows(found, number: int | None = None) -> list[tuple[str | None, ...]]:
    return [value for kind, of, value in found if kind == "row" and number in (None, of)]


def conninfo(trial: Trial, **more: object) -> dict[str, object]:
    settings = trial.environment(trial.token())
    return {
        "host": settings["PGHOST"],
        "port": settings["PGPORT"],
        "user": settings["PGUSER"],
        "password": settings["PGPASSWORD"],
        "dbname": settings["PGDATABASE"],
        "sslmode": "require",
        **more,
    }


def test_psql(own):
    statements = ["select id, t from cards order by id", "select 7 as seven"]
    with one_session(own) as session:
        shown = own.psql(own.token(), *statements)
    assert "************1111" in shown.stdout
    found = seen(own, session[0])
    assert list(commands(found).values()) == statements
    assert rows(found) == [
        ("1", "************1111"),
        ("2", "************4444"),
        ("3", "***********0005"),
        ("4", "************9424"),
        ("7",),
    ]
    tables = [value for kind, _, value in found if kind == "table"]
    assert tables == [("id", "t"), ("seven",)]


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_and_a_pipeline(own, binary):
    with (
        one_session(own) as session,
        psycopg.connect(**conninfo(own), autocommit=True) as connection,
    ):
        with connection.pipeline():
            one = connection.execute("select id, n from cards where id = %s", (2,), binary=binary)
            two = connection.execute("select t from cards where id = %s", (3,), binary=binary)
            three = connection.execute("select %s::int8, %s::text", (5, None), binary=binary)
        answers = [one.fetchall(), two.fetchall(), three.fetchall()]
    found = seen(own, session[0])
    texts = commands(found)
    for text, answer in zip(("select id, n", "select t from", "::int8"), answers, strict=True):
        numbers = [n for n, command in texts.items() if text in command]
        got = [row for n in numbers for row in rows(found, n)]
        assert got == [
            tuple(None if value is None else str(value) for value in row) for row in answer
        ]


async def test_asyncpg_has_its_rows_in_binary_and_describes_once(own):
    with one_session(own) as session:
        settings = conninfo(own)
        connection = await asyncpg.connect(
            host=settings["host"], port=settings["port"], user=settings["user"],
            password=settings["password"], database=settings["dbname"], ssl=_no_check(),
        )  # fmt: skip
        answers = [
            await connection.fetch("select id, t, ok, u, s from cards where id >= $1 order by 1", 3)
            for _ in range(3)
        ]
        await connection.close()
    found = seen(own, session[0])
    assert len(rows(found)) == 6
    for row, answer in zip(rows(found), [row for each in answers for row in each], strict=True):
        assert row[0] == str(answer["id"])
        assert row[1] == answer["t"]
        assert row[2] == "t"
        assert row[3] == str(answer["u"])
        assert row[4] == "2026-11-24 12:00:00+00"
    assert ("id", "t", "ok", "u", "s") in [value for kind, _, value in found if kind == "table"]


def _no_check() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_copy_out(own, form):
    command = f"copy cards (id, t, n) to stdout (format {form})"
    with one_session(own) as session, psycopg.connect(**conninfo(own)) as connection:
        bulk = connection.cursor()
        with bulk.copy(command) as copy:
            list(copy)
    found = seen(own, session[0])
    number = next(n for n, text in commands(found).items() if text.startswith("copy"))
    if form == "binary":
        assert rows(found, number)[0][:2] == ("1", "************1111")
        assert ("id", "t", "n") in [value for kind, _, value in found if kind == "table"]
    else:
        lines = [value for kind, of, value in found if kind == "lines" and of == number]
        assert lines[0].startswith(
            "1\t************1111" if form == "text" else "1,************1111"
        )
        assert len(lines) == len(PANS)


def test_what_is_said_beside_rows(own):
    with (
        one_session(own) as session,
        psycopg.connect(**conninfo(own), autocommit=True) as connection,
    ):
        connection.execute(f"select shout('{PANS[0]}')")
        with contextlib.suppress(psycopg.Error):
            connection.execute("select nothing from nowhere")
        with contextlib.suppress(psycopg.Error):
            connection.execute(f"select 'x{PANS[1]}'::int")
        connection.execute("listen shop")
        connection.execute(f"select pg_notify('shop', 'paid {PANS[0]}')")
    found = seen(own, session[0])
    said = {kind: str(value) for kind, _, value in found}
    assert "card ************1111" in said["notice"]
    assert "DETAIL: detail ************1111" in said["notice"]
    errors = [value for kind, _, value in found if kind == "error"]
    assert any("nowhere" in value for value in errors)
    assert any("************4444" in value for value in errors)
    assert "shop: paid ************1111" in said["notification"]


def test_a_denied_command_and_what_the_agent_sent(own):
    """No byte that the agent sent is in the file: what it wrote is in the events, masked."""
    secret = "a value that only the agent has written"
    with (
        one_session(own) as session,
        psycopg.connect(**conninfo(own), autocommit=True) as connection,
    ):
        connection.execute("insert into notes values (%s, %s)", (1, f"{secret} {PANS[0]}"))
        with connection.cursor().copy("copy notes from stdin") as copy:
            copy.write(f"2\t{secret} {PANS[1]}\n")
        with contextlib.suppress(psycopg.Error):
            connection.execute("alter system set work_mem = '1GB'")
            connection.execute("select dblink('x', 'y')")
    found = seen(own, session[0])
    assert any(value == "COPY 1" for kind, _, value in found if kind == "done")
    path = own.audit.parent / "sessions"
    (file,) = path.glob(f"*/{session[0]}.rec")
    plain = recorded.zstd().decompress(file.read_bytes())
    assert secret.encode() not in plain
    assert own.token().encode()[:40] not in plain


def test_cursors_that_are_read_in_turns(own):
    with one_session(own) as session, psycopg.connect(**conninfo(own)) as connection:
        one, two = connection.cursor("one"), connection.cursor("two")
        one.execute("select id from cards order by id")
        two.execute("select t from cards order by id")
        got = [one.fetchone(), two.fetchone(), one.fetchone(), two.fetchone()]
        one.close()
        two.close()
    found = seen(own, session[0])
    assert [row for row in rows(found) if len(row) == 1] == [
        tuple(str(value) for value in row) for row in got
    ]


FORMS = (
    "select * from cards",
    "select t || ' ' || n from cards",
    "select array_agg(n), json_agg(t), jsonb_object_agg(id, t) from cards",
    "select convert_to(t, 'utf8'), convert_to(t, 'utf8')::text from cards",
    "select row(id, t, n), h from cards",
    "select repeat('x', 43) || t, t || repeat(' ', 40) from cards",
    'select t as "4111111111111111" from cards',
    "select concat_ws('-', substr(t, 1, 4), substr(t, 5, 4), substr(t, 9, 4), substr(t, 13)) from cards",
    "copy cards to stdout",
    "copy cards to stdout (format csv, header)",
    "select * from nowhere where x = '4111111111111111'",
    "select '4111111111111111'::date",
)


def test_no_byte_of_any_recording_is_a_card_number(own):
    """Every form that a number has, by text and by binary; then what is in the files, as it stands there."""
    for binary in (False, True):
        with psycopg.connect(**conninfo(own), autocommit=True) as connection:
            for statement in FORMS:
                with contextlib.suppress(psycopg.Error):
                    if statement.startswith("copy"):
                        with connection.cursor().copy(statement) as copy:
                            list(copy)
                    else:
                        connection.execute(statement, binary=binary).fetchall()
            connection.execute(f"select shout('{PANS[2]}')")
    folder = own.audit.parent / "sessions"
    until(lambda: not list(folder.glob("*/*.open")), "the end of the sessions")
    scanner = default_scanner()
    files = sorted(folder.glob("*/*.rec"))
    assert len(files) > 2
    masked = 0
    for file in files:
        assert not scanner.find(file.read_bytes()), file
        plain = recorded.zstd().decompress(file.read_bytes())
        assert [plain[slice(*hit[:2])] for hit in scanner.find(plain)] == [], file
        for pan in PANS:
            assert pan.encode() not in plain
            assert pan.encode().hex().encode() not in plain
            assert int(pan).to_bytes(8, "big") not in plain
        masked += plain.count(b"************")
        known = session_of(events(own.audit), file.stem)
        for moment in moments(known, file):
            assert not scanner.find(repr(moment.value).encode()), moment
    assert masked > 100
    assert not scanner.find(own.audit.read_bytes())


def test_every_recording_is_in_the_record(own):
    folder = own.audit.parent / "sessions"
    until(lambda: not list(folder.glob("*/*.open")), "the end of the sessions")
    told = {
        event["data"]["file"]: event
        for event in events(own.audit)
        if event["code"] == "session.recording"
    }
    files = {f"sessions/{file.parent.name}/{file.name}": file for file in folder.glob("*/*.rec")}
    assert files.keys() == told.keys()
    for name, file in files.items():
        data = told[name]["data"]
        assert (data["digest"], data["bytes"]) == digest_of(file)
        assert told[name]["success"]
        assert data["cut"] is None
    ends = [event["session"] for event in events(own.audit) if event["code"] == "session.end"]
    assert sorted(event["session"] for event in told.values()) == sorted(ends)


def replay(trial: Trial, session: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "pangate.cli", "audit", "replay", session),
            *("--config", str(trial.config), *arguments),
        ],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_command_line(own):
    with one_session(own) as session:
        own.psql(own.token(), "select id, t from cards where id < 3 order by id")
    shown = replay(own, session[0], "--dump")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("verified: ")
    assert " id | t" in f" {shown.stdout}" or "id | t" in shown.stdout
    at = lines.index("id | t")
    assert lines[at + 1 : at + 5] == [
        "---+-----------------",
        "1  | ************1111",
        "2  | ************4444",
        "SELECT 2",
    ]
    assert any("select id, t from cards where id < 3 order by id" in line for line in lines[:at])
    as_json = replay(own, session[0], "--json")
    objects = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert objects[0]["verified"] is True
    assert [one["value"] for one in objects if one["kind"] == "row"] == [
        ["1", "************1111"], ["2", "************4444"]
    ]  # fmt: skip
    fast = replay(own, session[0], "--speed", "1000")
    assert fast.stdout == shown.stdout

    (file,) = (own.audit.parent / "sessions").glob(f"*/{session[0]}.rec")
    whole = file.read_bytes()
    try:
        for changed in (
            whole[:-1],
            whole + b"x",
            whole[:200] + bytes([whole[200] ^ 1]) + whole[201:],
        ):
            file.write_bytes(changed)
            wrong = replay(own, session[0], "--dump")
            assert wrong.returncode == 1
            assert wrong.stdout.startswith("NOT VERIFIED: ")
            assert "session.recording" in wrong.stdout.splitlines()[0]
        file.unlink()
        gone = replay(own, session[0], "--dump")
        assert gone.returncode == 1
        assert "missing" in gone.stdout.splitlines()[0]
        assert "select id, t from cards" in gone.stdout
    finally:
        file.write_bytes(whole)
    nothing = replay(own, "nosuchsession")
    assert nothing.returncode == 1
    assert "nothing of a session" in nothing.stderr
    assert replay(own, "../../etc/passwd").returncode == 1


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_rows_of_copy_that_passed_in_pieces(postgres, form):
    """Far longer than the gateway keeps, and recorded as they were sent."""
    long = f"repeat('{PANS[0]} ' || chr(10) || repeat('words, ', 30), 20000)"
    command = f"copy (select 1, {long}, 'a' union all select 2, 'b', '{PANS[1]}') to stdout (format {form})"
    with Trial(postgres, effects=EVERYTHING, limits="max_message_bytes = 65536") as some:
        with one_session(some) as session, psycopg.connect(**conninfo(some)) as one:
            with one.cursor() as cursor, cursor.copy(command) as copy:
                sent = [bytes(row) for row in copy]
            assert one.execute("select 1").fetchone() == (1,)
        assert max(map(len, sent)) > 4_000_000
        assert PANS[0].encode() not in b"".join(sent)
        found = seen(some, session[0])
        number = next(n for n, text in commands(found).items() if text.startswith("copy"))
        if form == "binary":
            shown = rows(found, number)
            assert [(row[0], row[2]) for row in shown] == [("1", "a"), ("2", "************4444")]
            assert shown[0][1] == ("************1111 \n" + "words, " * 30) * 20_000
        else:
            shown = [value for kind, of, value in found if kind == "lines" and of == number]
            assert [line + "\n" for line in shown] == [row.decode() for row in sent]
        assert ("done", number, "COPY 2") in [
            (kind, of, getattr(v, "text", v)) for kind, of, v in found
        ]


# --- roles, crashes, disks ----------------------------------------------------------------------------------


def test_roles_that_keep_less(postgres):
    with Trial(postgres, effects=EVERYTHING, role="record_rows = 2\nrecord_bytes = 4000") as some:
        with (
            one_session(some) as session,
            psycopg.connect(**conninfo(some), autocommit=True) as one,
        ):
            got = one.execute("select generate_series(1, 9)").fetchall()
            assert len(got) == 9
            one.execute("select generate_series(1, 2)").fetchall()
            one.execute("select repeat('y', 9000)").fetchall()
        found = seen(some, session[0])
        assert [row for row in rows(found) if len(row) == 1][:4] == [("1",), ("2",), ("1",), ("2",)]
        cuts = [value for kind, _, value in found if kind == "cut"]
        assert cuts[0]["rows"] == 7
        assert cuts[-1]["bytes"] > 4000
        (data,) = (
            event["data"] for event in events(some.audit) if event["code"] == "session.recording"
        )
        assert data["cut"]["bytes"] == sum(cut["bytes"] for cut in cuts)
    with Trial(postgres, effects=EVERYTHING, role='record = "digest"') as none:
        with (
            one_session(none) as session,
            psycopg.connect(**conninfo(none), autocommit=True) as one,
        ):
            one.execute("select 'only counted'").fetchall()
        found = seen(none, session[0])
        assert rows(found) == []
        assert "select 'only counted'" in commands(found).values()
        (data,) = (
            event["data"] for event in events(none.audit) if event["code"] == "session.recording"
        )
        assert data["cut"]["bytes"] == data["sent"] > 0
        (file,) = (none.audit.parent / "sessions").glob("*/*.rec")
        assert not [frame for frame in Reading(file) if frame.kind == SENT]


def test_a_gateway_that_was_killed_leaves_what_it_had(postgres):
    with Trial(postgres, effects=EVERYTHING) as killed:
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(**conninfo(killed), autocommit=True) as one,
        ):
            one.execute("select 'seen before'").fetchall()
            folder = killed.audit.parent / "sessions"
            (file,) = folder.glob("*/*.open")
            size = file.stat().st_size
            until(lambda: file.stat().st_size > size, "the flush")
            os.kill(killed.pid, signal.SIGKILL)
            killed.stop_gateway()
        killed.start_gateway()
        (event,) = (one for one in events(killed.audit) if one["code"] == "session.unfinished")
        assert event["session"] == file.stem
        found = seen(killed, event["session"])
        assert ("seen before",) in rows(found)
        assert not list(folder.glob("*/*.open"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_ends_sessions_and_lets_nothing_in(postgres, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with Trial(postgres, effects=EVERYTHING) as small:
            small.stop_gateway()
            (small.audit.parent / "sessions").symlink_to(disk)
            small.start_gateway()
            generator = random.Random(1)
            one = psycopg.connect(**conninfo(small), autocommit=True)
            with pytest.raises(psycopg.Error, match="cannot be recorded"):
                for _ in range(200):
                    noise = generator.randbytes(8000).hex()
                    one.execute("select %s", (noise,)).fetchall()
            one.close()
            until(
                lambda: any(event["code"] == "session.end" for event in events(small.audit)),
                "its end",
            )
            (end,) = (
                event for event in events(small.audit) if event["code"] == "session.recording"
            )
            assert not end["success"]
            assert os.strerror(28) in end["data"]["failure"]
            with contextlib.suppress(OSError), (disk / "filler").open("wb") as filler:
                while True:
                    filler.write(bytes(4096))
                    filler.flush()
            with pytest.raises(psycopg.Error, match="could not be written"):
                psycopg.connect(**conninfo(small), autocommit=True).execute("select 1")
            assert not [
                event for event in events(small.audit)
                if event["code"] == "statement.allowed" and event["data"]["text"] == "select 1"
            ]  # fmt: skip
            (disk / "filler").unlink()
            for file in disk.glob("*/*"):
                file.unlink()
            with psycopg.connect(**conninfo(small), autocommit=True) as again:
                assert again.execute("select 1").fetchone() == (1,)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
