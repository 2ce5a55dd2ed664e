"""The leak matrix against real servers: every way in every form, judged by plain search in the raw bytes."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

import leaks
from leaks import OUTCOMES, Way, encodings_in
from pangate.protocols.postgres.messages import error_fields
from pangate.trial import Trial
from pgwire import SYNC, bind, describe, execute, parse, query, send_numeric, split
from servers import past_session, session

pytestmark = pytest.mark.integration

# Sixteen digits fill four groups of a numeric, fifteen do not.
PANS = ("4111111111111111", "378282246310005")
WAYS = leaks.ways()
DOCS = Path(__file__).parents[2] / "docs" / "security.md"
RESET = "rollback; close all; deallocate all; unlisten *; reset all"


@dataclass
class Wire:
    """One connection in raw bytes. When the other side closes it, the next statement opens another."""

    connect: Callable[[], contextlib.AbstractContextManager[socket.socket]]
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _sock: socket.socket | None = None

    def run(self, way: Way, form: str, pan: str) -> Outcome:
        """Say the statements of `way` in `form`, each when the one before it has been answered."""
        *before, last = (fill(sql, pan) for sql in way.sql)
        heard = b""
        for sql in before:
            heard += self._ask(_simple(sql) if form.startswith("copy") else _asked(form, sql))
        if form.startswith("copy"):
            last = f"copy ({last}) to stdout (format {form.removeprefix('copy ')})"
        heard += self._ask(_asked(form, last))
        outcome = Outcome(heard, self._sock is None)
        if self._sock:
            self._ask(_simple(RESET))
        return outcome

    def _ask(self, message: bytes) -> bytes:
        if self._sock is None:
            self._sock = self._stack.enter_context(self.connect())
        heard = bytearray()
        try:
            self._sock.sendall(message)
            while b"Z\0\0\0\5" not in heard[-6:]:
                chunk = self._sock.recv(1 << 20)
                if not chunk:
                    raise ConnectionError
                heard += chunk
        except ConnectionError:
            self.close()
        return bytes(heard)

    def close(self) -> None:
        self._sock = None
        self._stack.close()


@dataclass
class Outcome:
    """What came back: all of it, and whether the other side closed the connection."""

    heard: bytes
    closed: bool

    def errors(self) -> list[dict[str, str]]:
        return [error_fields(body) for kind, body in split(self.heard) if kind == "E"]

    def data(self) -> list[tuple[str, bytes]]:
        return [(kind, body) for kind, body in split(self.heard) if kind in "Dd"]

    def refused(self) -> bool:
        """Whether it was refused, and not failed as it would have without the gateway."""
        return self.closed or any(error["C"] == "0A000" for error in self.errors())


def _simple(sql: str) -> bytes:
    return query(sql)


def _asked(form: str, sql: str) -> bytes:
    if form not in ("text", "binary"):
        return _simple(sql)
    formats = [1] if form == "binary" else []
    return parse("", sql) + bind(results=formats) + describe("P") + execute() + SYNC


def schema(pan: str) -> str:
    return f"leaks_{pan[-4:]}"


def fill(sql: str, pan: str) -> str:
    return sql.replace("{pan}", pan).replace("{s}", schema(pan))


@pytest.fixture(scope="module")
def wires(trial_of: Trial) -> Iterator[tuple[Wire, Wire]]:
    """A connection past the gateway and one through it, with what all rows of the corpus need."""
    script = ""
    for pan in PANS:
        name = schema(pan)
        script += f"create schema {name}; set search_path = {name}, public;\n"
        script += "".join(f"{fill(way.setup, pan)};\n" for way in WAYS if way.setup)
        script += (
            f"grant usage on schema {name} to payments_service;"
            f"grant all on all tables in schema {name} to payments_service;\n"
        )
    trial_of.postgres.psql(script)
    token = trial_of.token(seconds=7200)
    past = Wire(lambda: past_session(trial_of))
    through = Wire(lambda: session(trial_of, token))
    yield past, through
    past.close()
    through.close()
    trial_of.postgres.psql(
        "".join(f"drop schema {schema(pan)} cascade;" for pan in PANS)
        + "drop extension if exists citext, cube, hstore, ltree, pgcrypto cascade"
    )


def judged(way: Way, form: str, pan: str, past: Wire, through: Wire) -> str:
    """What came of one cell: refused, masked, passes (as it is without the gateway), LEAK with the encodings
    that came out, "unseen" (rows that do not show the PAN to this judge, and are as without the gateway), or
    "-" (no row shows it)."""
    bare, shown = past.run(way, form, pan), through.run(way, form, pan)
    there, left = encodings_in(bare.heard, pan), encodings_in(shown.heard, pan)
    same = bare.data() == shown.data() != []
    if (there or bare.data()) and not left and shown.refused() and not bare.refused():
        return "refused"
    if left:
        return "passes" if same else f"LEAK {sorted(left)}"
    if there:
        return "masked"
    return "unseen" if same else "-"


@pytest.fixture(scope="module")
def major(trial_of: Trial) -> int:
    """The major version of the server."""
    return int(trial_of.postgres.psql("show server_version_num", "postgres", "-At")) // 10_000


FITS = {
    "masked": {"masked"},
    "refused": {"refused", "masked"},
    "gap": {"passes", "unseen", "refused"},
    "-": {"unseen", "-"},
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.group}: {way.name}")
def test_way(way, wires, trial_of, major):
    if major < way.since:
        pytest.skip(f"PostgreSQL has it since {way.since}")
    # The corpus is written for the package's release. The messages of others need not show the PAN, and
    # one PAN will do for them.
    whole = trial_of.postgres.programs is None
    wrong = {}
    for form, expected in way.expected.items():
        came = {judged(way, form, pan, *wires) for pan in (PANS if whole else PANS[:1])}
        if not whole:
            fine = expected == "gap" or came <= FITS[expected] | {"-"}
        elif expected == "gap":  # some pass for one of the PANs only
            fine = not came.isdisjoint(FITS["gap"])
        else:
            fine = came <= FITS[expected]
        if not fine:
            wrong[form] = f"{expected} is expected, and came: {came}"
    assert wrong == {}


def test_the_docs_show_the_matrix():
    assert leaks.printed(DOCS.read_text(encoding="utf-8")) == DOCS.read_text(encoding="utf-8"), (
        "make docs brings docs/security.md up to date"
    )


def test_every_row_says_something():
    assert {outcome for way in WAYS for outcome in way.expected.values()} == set(OUTCOMES)
    assert [way.name for way in WAYS if set(way.expected.values()) == {"-"}] == []
    names = [(way.group, way.name) for way in WAYS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("pan", PANS)
def test_the_judge_finds_every_encoding(pan):
    value = int(pan)
    for name, data in (
        ("text", f"x{pan}y".encode()),
        ("separated", f"${value:,}.00".encode()),
        ("separated", "\u00a0".join(pan).encode()),
        ("hex", pan.encode().hex().encode()),
        ("base64", base64.b64encode(pan.encode())),
        ("int8", struct.pack("!q", value * 100)),
        ("float8", struct.pack("!d", value)),
        ("numeric", send_numeric(Decimal(f"{pan}.5"))),
        ("numeric", send_numeric(Decimal(f"0.0{pan}"))),
        ("packed", bytes.fromhex(pan + "f" * (len(pan) % 2))),
    ):
        assert name in encodings_in(b"\x07" + data + b"\0", pan)
    assert encodings_in(f"{'*' * 12}{pan[-4:]}, 1{'0' * 11}{pan[-4:]}".encode(), pan) == set()


CURSORS = "declare c no scroll cursor for select t, n, d, f, m, jb, b from {s}.cards"


def test_portals_by_name(wires):
    """A cursor that SQL declared, fetched by the protocol; then another of its name, in the other format."""
    _, through = wires
    for pan in PANS:
        text, binary = fill(CURSORS, pan), fill(CURSORS.replace("c no", "c binary no"), pan)
        for first, then in ((text, binary), (binary, text)):
            heard = through._ask(_simple(f"begin; {first}"))
            heard += through._ask(execute("c", 1) + SYNC)
            heard += through._ask(_simple(f"close c; {then}"))
            heard += through._ask(execute("c", 1) + execute("c", 1) + SYNC)
            heard += through._ask(_simple("rollback"))
            assert [kind for kind, _ in split(heard)].count("D") == 2
            assert encodings_in(heard, pan) == set()
