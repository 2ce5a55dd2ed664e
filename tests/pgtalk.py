"""Conversations by chance: an agent that says anything the protocol has, and a server that answers what it
is sent as PostgreSQL would. Both are made of a `random.Random`, so that the same one says the same again,
however the bytes are cut."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct
from collections.abc import Callable

from pangate.errors import ProtocolError, Refused
from pangate.masking import default_scanner
from pangate.model import Verdict
from pangate.protocols.postgres import PostgresCodec
from pangate.protocols.postgres.login import BackendLogin
from pangate.protocols.postgres.messages import message, startup
from pgwire import (
    BOUND,
    CLOSED,
    FLUSH,
    NO_DATA,
    PARSED,
    SYNC,
    TERMINATE,
    Bench,
    bind,
    close,
    complete,
    copy_data,
    copy_out,
    cstring,
    describe,
    error,
    execute,
    parse,
    query,
    ready,
    row,
    row_description,
)

PANS = (b"4111111111111111", b"5555555555554444", b"378282246310005", b"6011000990139424")
DENY = Verdict("deny", "not allowed here")
NAMES = ("", "s", "t", "u")
Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data] if data else []


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def anywhere(chance: random.Random) -> Cut:
    def cut(data: bytes) -> list[bytes]:
        edges = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(6)))
        return [data[a:b] for a, b in itertools.pairwise([0, *edges, len(data)])]

    return cut


# --- the agent -------------------------------------------------------------------------------------


def said(chance: random.Random) -> bytes:
    """One message or sequence of an agent."""
    name, portal = chance.choice(NAMES), chance.choice(NAMES)
    pan = chance.choice(PANS)
    match chance.randrange(16):
        case 0 | 1:
            return query(
                chance.choice(("select 1", "", "begin; select 1; rollback", "select 1; ;"))
            )
        case 2:
            return query("copy cards to stdout" + chance.choice(("", " csv", " with (format csv)")))
        case 3:
            lines = b"".join(copy_data(pan + b"\n") for _ in range(chance.randrange(4)))
            end = chance.choice((message(b"c"), message(b"f", b"no\0")))
            return query("copy cards from stdin") + lines + end
        case 4:
            return query(f"deny this {pan.decode()}")
        case 5 | 6:
            return (
                parse(name, f"select '{pan.decode()}', $1", [25])
                + bind(portal, name, [pan], [0], [chance.randrange(2)])
                + chance.choice((b"", describe("P", portal)))
                + execute(portal, chance.choice((0, 1)))
                + SYNC
            )
        case 7:
            return parse(name, chance.choice(("select 1", "deny this", "")), []) + describe(
                "S", name
            )
        case 8:
            return bind(portal, name, [None, pan][: chance.randrange(3)]) + execute(portal)
        case 9:
            return close(chance.choice("SP"), name)
        case 10:
            return execute(portal, chance.randrange(3))
        case 11:
            return describe("P", portal)
        case 12:
            return (
                message(b"F", struct.pack("!ihhh", 1, 0, 0, 0)) if chance.random() < 0.3 else FLUSH
            )
        case 13:
            return copy_data(pan)
        case _:
            return SYNC


# --- the server ------------------------------------------------------------------------------------

Columns = list[tuple[str, int, int]]
COPIED: Columns = [("id", 23, 0), ("pan", 25, 0)]


class Server:
    """Answers the bytes that a codec sends; `feed` gives what it says to them."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._inbox = bytearray()
        self._skipping = self._copying = False
        self._copy_extended = False
        self._portals: dict[bytes, Columns] = {}
        self._statements: dict[bytes, bytes] = {}
        self.closed = False
        self.seen = bytearray()

    def feed(self, data: bytes) -> bytes:
        self._inbox += data
        self.seen += data
        out = b""
        while not self.closed and len(self._inbox) >= 5:
            size = int.from_bytes(self._inbox[1:5], "big") + 1
            if size < 5:
                raise AssertionError(
                    f"the codec sent a broken message: {bytes(self._inbox[:40])!r}"
                )
            if len(self._inbox) < size:
                break
            code, body = chr(self._inbox[0]), bytes(self._inbox[5:size])
            del self._inbox[:size]
            out += self._answer(code, body)
        return out

    def _answer(self, code: str, body: bytes) -> bytes:
        if code == "X":
            self.closed = True
            return b""
        if self._copying:
            return self._copied(code)
        if code == "S":
            self._skipping = False
            return self._by_the_way() + ready(self._status())
        if self._skipping or code in "dcfH":
            return b""
        if code == "Q":
            return self._query(body)
        if code == "F":
            return self._fails_alone() + ready(self._status())
        if self._chance.random() < 0.08:
            return self._fails()
        match code:
            case "P":
                name, text = body.split(b"\0")[:2]
                if b"PANGATE" in text:
                    return self._fails()
                self._statements[name] = text
                return PARSED
            case "B":
                self._portals[body.split(b"\0")[0]] = self._columns()
                return BOUND
            case "C":
                return CLOSED
            case "D":
                name = body[1:-1]
                if body[:1] == b"S":
                    types = message(b"t", struct.pack("!hI", 1, 25))
                    if self._statements.get(name, b"").startswith(b"SELECT"):
                        return types + row_description(COPIED)  # of a COPY
                    return types + self._described(self._columns())
                if name not in self._portals:
                    return self._fails()
                return self._described(self._portals[name])
            case "E":
                return self._execute(body.split(b"\0")[0])
        raise AssertionError(f"the codec sent {code!r}")

    def _status(self) -> str:
        return self._chance.choice("IIIITE")

    def _by_the_way(self) -> bytes:
        pan = self._chance.choice(PANS)
        match self._chance.randrange(12):
            case 0:
                return message(b"N", b"SNOTICE\0C00000\0Msaw " + pan + b"\0\0")
            case 1:
                return message(b"A", struct.pack("!i", 7) + b"channel\0" + pan + b"\0")
            case 2:
                return message(b"S", b"application_name\0" + pan + b"\0")
        return b""

    def _fails(self) -> bytes:
        self._skipping = True
        return error("22012", "wrong: " + self._chance.choice(PANS).decode())

    def _fails_alone(self) -> bytes:
        return error("42883", "no such function")

    def _columns(self) -> Columns:
        kinds = (
            (25, 0),
            (1043, 1),
            (20, 0),
            (20, 1),
            (1700, 0),
            (17, 0),
            (17, 1),
            (114, 0),
            (23, 1),
        )
        names = ("a", "pan", "n4111111111111111")
        return [
            (self._chance.choice(names), *self._chance.choice(kinds))
            for _ in range(self._chance.randrange(4))
        ]

    def _described(self, columns: Columns) -> bytes:
        return row_description(columns) if columns else NO_DATA

    def _cell(self, oid: int, format_: int) -> bytes | None:
        pan = self._chance.choice(PANS)
        if self._chance.random() < 0.15:
            return None
        match oid, format_:
            case 20, 1:
                return struct.pack("!q", int(pan))
            case 23, 1:
                return b"\0\0\0\1"
            case 17, 0:
                return b"\\x" + pan.hex().encode()
            case 114, 0:
                return b'{"pan": "' + pan + b'", "n": ' + pan + b"}"
            case (20, 0) | (1700, 0):
                return pan
        return b"card " + pan + b" " + pan

    def _rows(self, columns: Columns) -> bytes:
        return b"".join(
            row(*(self._cell(oid, format_) for _, oid, format_ in columns))
            for _ in range(self._chance.randrange(4))
        )

    def _copy_lines(self, mark: bytes) -> bytes:
        lines = b"".join(
            copy_data(b"1" + mark + self._chance.choice(PANS) + b"\n")
            for _ in range(self._chance.randrange(4))
        )
        return copy_out(2) + lines + message(b"c") + complete("COPY 3")

    def _query(self, body: bytes) -> bytes:
        if b"PANGATE" in body:
            return error("42601", "syntax error") + ready(self._status())
        if body.startswith(b"copy cards to"):
            return self._copy_lines(b"," if b"csv" in body else b"\t") + ready(self._status())
        if body.startswith(b"copy cards from"):
            self._copying, self._copy_extended = True, False
            return message(b"G", struct.pack("!bhh", 0, 1, 0))
        out = self._by_the_way()
        for _ in range(self._chance.randrange(3)):
            columns = self._columns()
            match self._chance.randrange(5):
                case 0:
                    out += complete("BEGIN")
                case 1:
                    out += message(b"I")
                case 2:
                    return (
                        out
                        + error("22012", self._chance.choice(PANS).decode())
                        + ready(self._status())
                    )
                case _:
                    out += row_description(columns) + self._rows(columns) + complete("SELECT 3")
            out += self._by_the_way()
        return out + ready(self._status())

    def _execute(self, name: bytes) -> bytes:
        columns = self._portals.get(name)
        if columns is None:
            return self._fails()
        rows = self._rows(columns) if columns else b""
        match self._chance.randrange(6):
            case 0:
                return rows + message(b"s")
            case 1:
                return rows + self._fails()
            case 2 if not columns:
                return message(b"I")
        return rows + complete("SELECT 3") + self._by_the_way()

    def _copied(self, code: str) -> bytes:
        if code in "dHS":
            return b""
        self._copying = False
        if code == "c":
            return complete("COPY 1") + ready(self._status())
        return error("57014", "COPY from stdin failed") + ready(self._status())


# --- both ------------------------------------------------------------------------------------------


def decided(bench: Bench) -> Bench:
    """A bench that refuses the statements which say so."""

    class Deciding(type(bench)):  # type: ignore[misc]
        @property
        def verdict(self) -> Verdict:
            last = self.statements[-1] if self.statements else None
            return DENY if last and ("deny" in last.text or last.refusal) else Verdict("allow")

        @verdict.setter
        def verdict(self, value: Verdict) -> None: ...

    return Deciding()


def talk(
    seed: int,
    turns: int,
    agent: Cut = whole,
    server: Cut = whole,
    spoil_agent: Callable[[bytes], bytes] = lambda data: data,
    spoil_server: Callable[[bytes], bytes] = lambda data: data,
) -> Bench:
    """A conversation of that many turns, with each side's bytes cut and changed by these."""
    bench = decided(Bench()).log_in()
    chance, other = random.Random(seed), Server(random.Random(seed + 1))
    for turn in range(turns + 1):
        last = TERMINATE if chance.random() < 0.2 else SYNC
        words = b"".join(said(chance) for _ in range(chance.randrange(1, 6)))
        if turn == turns:
            words += message(b"c") + last
        for part in agent(spoil_agent(words)):
            bench.agent(part)
        while sent := bench.sent():
            for part in server(spoil_server(other.feed(sent))):
                bench.server(part)
        if other.closed or bench.closed:
            break
    bench.to_backend = bytes(other.seen)
    return bench


def same(one: Bench, two: Bench) -> bool:
    """Whether two conversations came to the same."""
    return (
        one.to_backend == two.to_backend
        and one.to_frontend == two.to_frontend
        and one.statements == two.statements
        and one.closed == two.closed
        and [(f.number, f.outcome) for f in one.finished]
        == [(f.number, f.outcome) for f in two.finished]
    )


def leaks(bench: Bench) -> int:
    """Card numbers that the agent was given."""
    return sum(bench.to_frontend.count(pan) for pan in PANS)


def spoiler(chance: random.Random, many: float = 0.1) -> Callable[[bytes], bytes]:
    """Changes bytes by chance: overwritten, taken out, put in, cut off, said twice."""

    def spoil(data: bytes) -> bytes:
        if not data or chance.random() > many:
            return data
        out = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(out) or 1)
            match chance.randrange(6):
                case 0 | 1 | 2 if out:
                    out[at] = chance.choice((0, 1, 4, 5, 0x7F, 0x80, 0xFF, chance.randrange(256)))
                case 3:
                    del out[at : at + chance.randrange(1, 6)]
                case 4:
                    out[at:at] = chance.randbytes(chance.randrange(1, 6))
                case _:
                    out += out[at:]
        return bytes(out)

    return spoil


# --- the beginning ---------------------------------------------------------------------------------


def beginning(chance: random.Random) -> bytes:
    """What an agent says up to its first command."""
    parameters = {"user": "agent", "database": chance.choice(("payments", ""))}
    if chance.random() < 0.2:
        parameters["replication"] = chance.choice(("database", "off", "true"))
    if chance.random() < 0.3:
        parameters[chance.choice(("_pq_.x", "options", "client_encoding"))] = "x"
    data = startup(parameters)
    match chance.randrange(8):
        case 0:
            data = struct.pack("!ii", 8, 80877104) + data
        case 1:
            data = struct.pack("!iiii", 16, 80877102, 1, 2)
        case 2:
            data = struct.pack("!ii", 8, 80877103)
    return data + message(b"p", cstring("token")) + query("select 1")


def begin(data: bytes, tls: str, cut: Cut = whole) -> list[object]:
    """The actions that a new codec makes of it, joined as far as they are bytes."""
    codec = PostgresCodec(default_scanner(), tls=tls)
    actions: list[object] = []
    for part in cut(data):
        actions += codec.frontend(part)
    return actions


def server_login(chance: random.Random, login: BackendLogin, sent: bytes) -> bytes:
    """What a server says to `sent` of a login, SCRAM and others, right or nearly."""
    if not sent.startswith(b"p"):
        method = chance.choice(
            (
                struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0",
                struct.pack("!i", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
                struct.pack("!i", 5) + b"salt",
                struct.pack("!i", 3),
                struct.pack("!i", 0),
            )
        )
        data = message(b"R", method)
        return data if method != struct.pack("!i", 0) else data + greeting(chance)
    if b"n=,r=" in sent:
        nonce = sent.partition(b"r=")[2]
        first = b"r=" + nonce + b"server,s=c2FsdA==,i=" + chance.choice((b"1", b"4096", b"0", b"x"))
        return message(b"R", struct.pack("!i", 11) + first)
    if b",p=" in sent:
        return message(b"R", struct.pack("!i", 12) + b"v=AAAA") + greeting(chance)
    return message(b"R", struct.pack("!i", 0)) + greeting(chance)


def greeting(chance: random.Random) -> bytes:
    data = b"".join(
        message(b"S", cstring(f"name{n}") + cstring("value")) for n in range(chance.randrange(4))
    )
    data += message(b"N", b"Mhello\0\0") * chance.randrange(2)
    return data + message(b"K", struct.pack("!ii", 1, 2)) + ready() + b"D" * chance.randrange(3)


def log_in(
    seed: int, cut: Cut = whole, spoil: Callable[[bytes], bytes] = lambda data: data
) -> tuple[str, bytes, bool]:
    """pangate's own login at such a server: how it ended, what is left over, whether it is done."""
    chance = random.Random(seed)
    login = BackendLogin("user", "database", "secret", cleartext=chance.random() < 0.5)
    sent = login.start()
    ended = "silence"
    with contextlib.suppress(StopIteration):
        for _ in range(6):
            answer = b""
            for part in cut(spoil(server_login(chance, login, sent))):
                try:
                    if login.done:
                        login.rest += part
                    else:
                        answer += login.feed(part)
                except (ProtocolError, Refused) as wrong:
                    return type(wrong).__name__ + str(wrong), b"", False
            if login.done:
                ended = "done"
                break
            sent = answer
    return ended, login.rest, login.done
