"""Rows of COPY that are too long to be kept: what comes out, piece by piece, is what masking the row at once
gives, however its bytes are split and wherever a window ends."""

import csv
import io
import itertools
import json
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from documents import documents
from pangate import _frame
from pangate._frame import SAFE, Names, Plan, Walker
from pangate.errors import LimitReached, ProtocolError
from pangate.masking import default_scanner
from pangate.masking.keys import wiped_names
from pangate.protocols.postgres import PostgresCodec
from pgwire import Bench, complete, copy_data, copy_out, described, kinds, message, query, ready

SCANNER = default_scanner()
LIMIT, WINDOW = 320, 64
"""Bounds of the walkers here, in bytes: small, so that windows end everywhere."""

PAN = b"4111111111111111"
MASKED = b"************1111"
TEXT, JSON, BYTEA = _frame.op_of(25, 0), _frame.op_of(114, 0), _frame.op_of(17, 0)
NUMBER, FLOAT, MONEY = _frame.op_of(4532, 0), _frame.op_of(1022, 0), _frame.op_of(791, 0)
NAMES = Names({"cvv": _frame.CODE, "track2": _frame.ANY})
EVERY = wiped_names()
JOINS = (b" ", b"-")
"""Delimiters that make one chain of the digits of two cells."""

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)


@dataclass(frozen=True)
class Form:
    """The options of a COPY."""

    csv: bool = False
    delimiter: bytes = b"\t"
    quote: bytes = b'"'
    escape: bytes = b'"'
    null: bytes = b"\\N"
    header: bool = False
    always: bool = False
    """FORCE_QUOTE: csv with quotes that are not needed."""

    def cell(self, value: bytes | None) -> bytes:
        """As the server writes it (CopyAttributeOutText, CopyAttributeOutCSV)."""
        if value is None:
            return self.null
        if not self.csv:
            return b"".join(self._escaped(value[i : i + 1]) for i in range(len(value)))
        marks = self.delimiter + self.quote + b"\n\r"
        if not self.always and value != self.null and not any(mark in value for mark in marks):
            return value
        inside = b"".join(
            self.escape + byte if byte in (self.quote, self.escape) else byte
            for byte in (value[i : i + 1] for i in range(len(value)))
        )
        return self.quote + inside + self.quote

    def _escaped(self, byte: bytes) -> bytes:
        letters = {b"\b": b"b", b"\f": b"f", b"\n": b"n", b"\r": b"r", b"\t": b"t", b"\v": b"v"}
        if byte == self.delimiter or byte == b"\\":
            return b"\\" + byte
        return b"\\" + letters[byte] if byte in letters else byte

    def row(self, *values: bytes | None) -> bytes:
        return copy_data(self.delimiter.join(map(self.cell, values)) + b"\n")

    def walker(self, limit: int, names: Names = NAMES) -> Walker:
        made = Walker(SCANNER, limit, WINDOW)
        made.names = names
        marks = (self.delimiter[0], self.quote[0], self.escape[0])
        made.copy_cells(self.csv, *marks, self.null, self.header)
        return made


FORMS = (
    Form(),
    Form(delimiter=b"|", null=b""),
    Form(delimiter=b'"', null=b"nothing"),
    Form(delimiter=b" "),
    Form(delimiter=b"-"),
    Form(True, b",", null=b""),
    Form(True, b",", null=b"", always=True),
    Form(True, b";", b"'", b"|", b"\\N"),
    Form(True, b"\t", b"'", b"'", b"NULL", always=True),
    Form(True, b" ", b'"', b"|", b"", always=True),
    Form(True, b"-", null=b""),
)


@dataclass
class Out:
    """What a walker gave: its bytes, what it booked, and the error that ended it."""

    data: bytes = b""
    error: str = ""
    held: int = 0
    within: bool = False
    hits: object = None
    counts: object = None
    total: object = None


def walked(walking: Walker, plan: Plan, chunks: Sequence[bytes]) -> Out:
    out = Out()
    try:
        for chunk in chunks:
            walking.load(chunk)
            assert walking.advance(plan) == 0
            if walking.undecodable:
                out.error = "undecodable"
                break
            out.data += b"".join(map(bytes, walking.release()))
            out.held = max(out.held, walking.held)
    except (LimitReached, ProtocolError) as wrong:
        out.error = str(wrong)
    out.within = walking.within_message
    out.hits, out.counts = plan.take_hits(), walking.take_counts()
    out.total = walking.all_rows, walking.all_bytes
    return out


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def assert_at_once(
    form: Form,
    ops: Sequence[int],
    stream: bytes,
    cuts: Sequence[int] = (),
    *,
    limit: int = LIMIT,
    names: Names = NAMES,
) -> bool:
    """Judge rows by what a walker makes of them that keeps them whole. False when they were refused for their
    limit."""
    wanted = walked(form.walker(1 << 24, names), Plan(ops), [stream])
    assert not wanted.error
    ways = ([stream], pieces(stream, cuts), bytewise(stream))
    outs = [walked(form.walker(limit, names), Plan(ops), chunks) for chunks in ways]
    for out in outs:
        assert wanted.data.startswith(out.data)
        if form.delimiter not in JOINS:  # there it may be that of the cell or that of the row
            assert out.error == outs[0].error
        assert bool(out.error) == bool(outs[0].error)
        if out.error:
            assert "limits.max_message_bytes" in out.error
            continue
        assert out.data == wanted.data
        assert not out.within
        assert (out.hits, out.counts, out.total) == (wanted.hits, wanted.counts, wanted.total)
    return not outs[0].error


PIECES = (
    PAN, PAN, b"4111 1111 1111 1111", b"5555-5555-5555-4444", b"4", b"11", b"0" * 30, b" ", b"-",
    b"\\x" + PAN.hex().encode(), b"\\", b"x", b"\\x34", b"\\001" + PAN, b"\\64", b"^", b"*" * 12,
    b";" + PAN + b"=49121010000000000000?", b"%B" + PAN + b"^DOE\\/J\tOHN^4912101" + b"Q" * 70,
    MASKED + b"=4912101000", b"$4,111,111,111,111,111.00", b"4.111111111111111e+15", b"\xc2\xa0",
    b"4,111,111,111,111,111 \xe2\x82\xac", b"\t", b"\n", b"\r", b",", b'"', b"'", b"|", b'""', b"''",
    b"\\N", b"\\.", b"NULL", b"ab", b"some words, no numbers. ", b"/" * 90, b"Z" * 20, b"4111\t1111",
    b"\xe6\xbc\xa2" * 20, b'{"cvv": "123"}', b"\n" + PAN + b"\n", b'"' + PAN + b'"', b"\\" + PAN, b"1\\1",
)  # fmt: skip

texts = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)
forms = st.sampled_from(FORMS)
cuts = st.lists(st.integers(0, 10**6), max_size=8)


@settings(max_examples=500, deadline=None)
@given(forms, st.lists(st.none() | texts, min_size=1, max_size=5), st.integers(0, 4), texts, cuts)
@example(Form(), [b"a", None], 1, PAN + b"\t" + PAN, [])
@example(Form(True, b",", null=b""), [None, b""], 0, b'"' * 40 + PAN, [])
def test_a_long_row_is_the_row_at_once(form, values, at, long, where):
    values.insert(at % (len(values) + 1), long * -(-2 * LIMIT // max(1, len(long))))
    rows = form.row(*values) + form.row(*[None] * len(values)) + form.row(*values)
    assert_at_once(form, [TEXT] * len(values), rows, where)


@pytest.mark.parametrize("form", FORMS)
def test_random_rows_mostly_pass(form):
    chance = random.Random(20_261_130)
    passed = 0
    for _ in range(40):
        values = [b"".join(chance.choices(PIECES, k=chance.choice([0, 2, 80]))) for _ in range(3)]
        values.append(b"".join(chance.choices(PIECES, k=90)))
        passed += assert_at_once(form, [TEXT, SAFE, TEXT, TEXT], form.row(*values))
    assert passed > 20


@pytest.mark.parametrize("form", FORMS)
def test_a_pan_across_the_border_of_a_window(form):
    joints = (b"\n", b"/", b"\\/", b'"', b"/'", b"\t|,;\v", b"\\x34 \\;")
    for shift, joint in itertools.product(range(WINDOW + 1), joints):
        value = b"/" * shift + joint.join([PAN, b"4111 1111 1111 1111", b"\\001" + PAN] * 8)
        stream = form.row(b"x", value, PAN)
        if form.delimiter not in JOINS:
            assert assert_at_once(form, [TEXT, TEXT, TEXT], stream)
        else:
            assert_at_once(form, [TEXT, TEXT, TEXT], stream)
        out = walked(form.walker(LIMIT), Plan([TEXT] * 3), bytewise(stream))
        assert PAN not in out.data


@pytest.mark.parametrize("form", FORMS)
def test_a_pan_in_two_cells_is_one_only_where_the_delimiter_joins_them(form):
    for pad, size in itertools.product((300, 310, 330, 64, 128), range(16)):
        values = (b"/" * pad * 2 + b"\n" + PAN[:size], PAN[size:] + b"\n" + b"/" * 400, b"")
        stream = form.row(*values)
        assert assert_at_once(form, [TEXT] * 3, stream)


def as_json(chance: random.Random, depth: int = 0) -> object:
    match chance.randrange(6 if depth < 3 else 4):
        case 0:
            return chance.choice([int(PAN), 12, -3.5, None, True, 4.111111111111111e15])
        case 1 | 2 | 3:
            return "".join(
                chance.choices([p.decode("latin-1") for p in PIECES if len(p) < 20], k=2)
            )
        case 4:
            return [as_json(chance, depth + 1) for _ in range(chance.randrange(4))]
        case _:
            found = {
                name: as_json(chance, depth + 1) for name in chance.sample(["pan", "a", "n"], 2)
            }
            names = {"cvv": "123", "track2": as_json(chance, depth + 2), "card_track2": 'a"b\\c\td'}
            return found | {name: names[name] for name in chance.sample(list(names), 2)}


@pytest.mark.parametrize("form", FORMS)
def test_json_with_names_that_are_wiped(form):
    """In windows as at once; and what comes out is what it would be without quotes and escapes around it."""
    chance = random.Random(20_261_131)
    passed = 0
    for _ in range(40):
        values = [as_json(chance) for _ in range(20)]
        document = json.dumps(values, ensure_ascii=chance.random() < 0.5).encode()
        for op in (JSON, TEXT):
            stream = form.row(document, PAN)
            passed += assert_at_once(form, [op, TEXT], stream)
            out = walked(form.walker(1 << 24), Plan([op, TEXT]), [stream])
            if form.delimiter in JOINS or op == TEXT:  # a text's numbers get stars
                continue
            read = json.loads(values_of(form, out.data)[0])
            plain = bytearray(document)
            _frame.mask_cell(SCANNER, 0, op, plain, None, NAMES)
            assert without_stars(read) == without_stars(json.loads(bytes(plain)))
    assert passed > 40


@pytest.mark.parametrize("form", FORMS)
def test_documents_of_the_corpus(form):
    """Nothing of them comes out, in windows as at once; and the row has as many cells as before."""
    for _, value, gone in documents():
        for op in (TEXT, JSON):
            stream = form.row(value, b"y")
            shown = walked(form.walker(1 << 24, EVERY), Plan([op, TEXT]), [stream])
            assert not shown.error
            cells = values_of(form, shown.data)
            assert gone.decode() not in cells[0]
            assert cells[1:] == ["y"]
            rows = stream + form.row(b"x\n" * LIMIT, b"")
            for limit in (LIMIT, 2048):
                assert_at_once(form, [op, TEXT], rows, [77, 300], limit=limit, names=EVERY)


@pytest.mark.parametrize("form", FORMS)
def test_the_end_of_what_is_wiped_at_the_border_of_a_window(form):
    """The quote that ends it may take two bytes here, and it is written before it is known what follows."""
    for pad, size, end in itertools.product(range(300, 330), range(8), (b"", b'"', b'", "a": 1}')):
        value = b'{"track2": "' + b"x" * size + end
        stream = form.row(b" " * pad + value, b"y")
        for op in (TEXT, JSON):
            assert_at_once(form, [op, TEXT], stream)


def without_stars(value: object) -> object:
    """What is wiped may have more stars where escapes stood."""
    if isinstance(value, str):
        return "***" if value and set(value) == {"*"} else value
    if isinstance(value, list):
        return [without_stars(one) for one in value]
    if isinstance(value, dict):
        return {key: without_stars(one) for key, one in value.items()}
    return value


def values_of(form: Form, stream: bytes) -> list[str]:
    """The cells of the first row, read by the obvious way."""
    body = stream[5 : 1 + int.from_bytes(stream[1:5], "big")].decode("latin-1")
    if form.csv:
        escape = form.escape.decode()
        reader = csv.reader(
            io.StringIO(body, newline=""),
            delimiter=form.delimiter.decode(),
            quotechar=form.quote.decode(),
            doublequote=form.escape == form.quote,
            escapechar=None if form.escape == form.quote else escape,
        )
        return [cell.encode("latin-1").decode() for cell in next(reader)]
    cells, cell, at = [], "", 0
    body = body.removesuffix("\n")
    letters = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
    while at < len(body):
        if body[at] == "\\":
            at += 1
            cell += letters.get(body[at], body[at])
        elif body[at] == form.delimiter.decode():
            cells.append(cell)
            cell = ""
        else:
            cell += body[at]
        at += 1
    return [one.encode("latin-1").decode() for one in (*cells, cell)]


@pytest.mark.parametrize(
    ("op", "one"),
    [
        (NUMBER, b"[4111111111111111,5555555555554444.5),"),
        (NUMBER, b"12 4111,"),
        (FLOAT, b"4.111111111111111e+15,(-1.5,2e+300),"),
        (FLOAT, b"{4111111111111111,NULL},"),
        (MONEY, b'"$4,111,111,111,111,111.00",-$5.00,'),
        (MONEY, '"4.111.111.111.111.111,00 €",'.encode()),
        (BYTEA, b"\\x" + b"00" + PAN.hex().encode() + b"0aff"),
    ],
)  # fmt: skip
def test_other_types_as_text(op, one):
    value = b"\\x" + one[2:] * 60 if op == BYTEA else b"{" + one * 60 + b"}"
    for form in FORMS:
        if form.delimiter in JOINS:
            continue  # what joins cells makes a second text of the row
        for shift in range(0, 40, 3) if op != BYTEA else (0,):
            stream = form.row(b"x", b"[" * shift + value, PAN)
            assert assert_at_once(form, [TEXT, op, TEXT], stream)
    row = b"D" + struct.pack("!ihi", len(value) + 10, 1, len(value)) + value
    whole = walked(Form().walker(1 << 24), Plan([op]), [row])
    for chunks in ([row], bytewise(row)):
        assert walked(Form().walker(LIMIT), Plan([op]), chunks) == Out(
            whole.data,
            "",
            pytest.approx(0, abs=2 * LIMIT),
            False,
            whole.hits,
            whole.counts,
            whole.total,
        )


WIPES = ("text", "digit", "zeros", "numeric", "json", "jsonb", "empty")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_wiped_keeps_its_length(form):
    long = (PAN + b"\n" + b"." * 40) * 20
    for kind, value in itertools.product(
        WIPES,
        (b"7", b"77", b"7\t\\,;'\"7" * 300, form.null + b"7", b"", None, b"7" * 64, b'7"', b"\\7"),
    ):
        if form.delimiter in JOINS and value and len(value) > WINDOW:
            continue  # of stars and zeros nothing ends a number
        for values in ((long, value, PAN), (value, long, PAN), (PAN, long, value)):
            at = values.index(value)
            wipes = [0, 0, 0]
            wipes[at] = _frame.WIPES[kind]
            stream = form.row(*values)
            outs = [
                walked(form.walker(LIMIT), Plan([TEXT] * 3, wipes), chunks)
                for chunks in ([stream], bytewise(stream))
            ]
            assert outs[0] == Out(**vars(outs[1]) | {"held": outs[0].held})
            assert not outs[0].error
            assert len(outs[0].data) == len(stream)
            shown = values_of(form, outs[0].data)[at].encode()
            if not value:
                assert at not in outs[0].hits or (form.csv and value == b"")  # two quotes
                assert not shown or value is None or at in outs[0].hits
            elif kind == "text":
                assert set(shown) == set(b"*")
            elif kind in ("json", "jsonb"):
                assert json.loads(shown) == 0
            else:
                assert set(shown) == set(b"0")
            if value:
                assert outs[0].hits[at] == 1
                assert b"7" not in outs[0].data
            assert PAN not in outs[0].data


def test_what_would_have_to_be_null_keeps_the_limit():
    for form in FORMS:
        plan = Plan([TEXT, TEXT], [0, _frame.WIPES["null"]])
        out = walked(form.walker(LIMIT), plan, [form.row(b"x\n" * 1000, b"123")])
        assert "limits.max_message_bytes" in out.error
        assert b"123" not in out.data
        # what is NULL already, or nothing, is not wiped
        assert not walked(form.walker(LIMIT), plan, [form.row(b"x\n" * 1000, None)]).error


@pytest.mark.parametrize("form", FORMS)
def test_a_header_longer_than_the_limit(form):
    names = [b"c%d" % n for n in range(90)] + [PAN]
    with_header = Form(**vars(form) | {"header": True})
    stream = form.row(*names) + form.row(*[b"1"] * 91) + form.row(b"y\n" * 400, *[b"1"] * 90)
    assert assert_at_once(with_header, [SAFE] * 90 + [TEXT], stream)
    assert PAN not in walked(with_header.walker(LIMIT), Plan([SAFE] * 91), bytewise(stream)).data


def binary_row(*cells: bytes | None) -> bytes:
    body = struct.pack("!h", len(cells))
    for cell in cells:
        body += struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
    return body


def binary(limit: int) -> Walker:
    made = Walker(SCANNER, limit, WINDOW)
    made.copy_binary()
    return made


@given(st.lists(st.none() | texts, min_size=1, max_size=4), texts, cuts)
@settings(max_examples=150, deadline=None)
def test_binary_rows(values, long, where):
    values.append(long * -(-2 * LIMIT // max(1, len(long))))
    row = binary_row(*values)
    stream = copy_data(SIGNATURE + row) + copy_data(row) + copy_data(b"\xff\xff")
    ops = [TEXT] * len(values)
    wanted = walked(binary(1 << 24), Plan(ops), [stream])
    outs = [
        walked(binary(LIMIT), Plan(ops), chunks)
        for chunks in ([stream], pieces(stream, where), bytewise(stream))
    ]
    for out in outs:
        assert out.error == outs[0].error
        assert wanted.data.startswith(out.data)
        if not out.error:
            assert (out.data, out.hits, out.counts) == (wanted.data, wanted.hits, wanted.counts)
            assert out.total == wanted.total


@pytest.mark.parametrize(
    "body",
    [
        binary_row(b"x" * 900),
        b"PGCOPY\n\xff\r\n\0" + bytes(3) + b"\1" + bytes(4) + binary_row(b"x" * 900),
        SIGNATURE + binary_row(b"x" * 900, b""),
        SIGNATURE + binary_row(b"x" * 900) + b"y",
        SIGNATURE + b"\0\1\0\0\3\xff" + b"x" * 900,
        SIGNATURE + b"\xff\xff" + b"x" * 900,
    ],
)
def test_binary_that_is_none(body):
    for chunks in ([copy_data(body)], bytewise(copy_data(body))):
        assert "not as it was described" in walked(binary(LIMIT), Plan([TEXT]), chunks).error


WRONG = [
    (Form(), b"a\t" + b"x" * 900 + b"\tb\n", "described"),
    (Form(), b"a" + b"x" * 900 + b"\n", "described"),
    (Form(), b"a\t" + b"x" * 900 + b"\\\n", "described"),
    (Form(), b"a\t" + b"x" * 900 + b"\\64111111111111111\n", "described"),
    (Form(), b"a\t" + b"x" * 900 + b"\\x34111111111111111\n", "described"),
    (Form(), b"a\t" + b"x\n" * 900 + b"411111111111111" + b"1", "split"),
    (Form(), b"a\t" + b"x\n" * 900 + b"4", "split"),
    (Form(True, b","), b'a,"' + b"x" * 900 + b"\n", "described"),
    (Form(True, b","), b'a,"' + b"x" * 900 + b'"y\n', "described"),
    (Form(True, b","), b'a,"' + b"x" * 900 + b'",\n', "described"),
    (Form(True, b","), b'"a"b,' + b"x" * 900 + b"\n", "described"),
    (Form(True, b","), b'a,"' + b"x" * 900 + b'"' + b"4", "split"),
    (Form(True, b",", header=True), b"a,b" + b"x\n" * 900 + b"4111", "split"),
]


@pytest.mark.parametrize(("form", "body", "wrong"), WRONG)
def test_a_row_that_is_not_what_it_says_ends_the_walk(form, body, wrong):
    outs = [
        walked(form.walker(LIMIT), Plan([TEXT, TEXT]), chunks)
        for chunks in ([copy_data(body)], bytewise(copy_data(body)))
    ]
    assert wrong in outs[0].error
    assert outs[0].error == outs[1].error
    assert b"4" not in outs[1].data[5:]
    assert b"11111" not in outs[1].data[5:]


@pytest.mark.parametrize(
    "body", [b"\\64111111111111111\tx\n", b"x\t\\x34111111111111111\n", b"\\4\tx\n"]
)
def test_escapes_that_could_spell_a_digit_are_none_in_short_rows_too(body):
    out = walked(Form().walker(LIMIT), Plan([TEXT, TEXT]), [copy_data(body)])
    assert "described" in out.error
    # but a NULL may look like one
    form = Form(null=b"\\4")
    assert walked(form.walker(LIMIT), Plan([TEXT] * 2), [form.row(None, b"x")]).data == form.row(
        None, b"x"
    )
    assert assert_at_once(form, [TEXT] * 3, form.row(None, b"x" * 900, None))


def test_little_is_held():
    """About a window, and what comes at once; however long the row is."""
    for form in FORMS:
        value = (PAN + b'\n" ' + b"." * 40 + b"\\\t") * 3000
        stream = form.row(b"1", value, b"2")
        chunks = [stream[i : i + 50] for i in range(0, len(stream), 50)]
        out = walked(form.walker(LIMIT), Plan([TEXT] * 3), chunks)
        assert not out.error
        assert out.held <= 4 * WINDOW + 50
        wiped = walked(form.walker(LIMIT), Plan([TEXT] * 3, [0, _frame.WIPES["text"], 0]), chunks)
        assert wiped.held <= (LIMIT if form.delimiter in JOINS else WINDOW + 50)


# --- through the codec -------------------------------------------------------------------------------

SMALL = 2048


def test_through_the_codec():
    bench = Bench(PostgresCodec(SCANNER, tls="none", max_message=SMALL)).log_in()
    bench.agent(query("copy cards (a, b) to stdout"))
    form = Form()
    long = (PAN + b"\n" + b"." * 40 + b"\n") * 200
    rows = form.row(b"1", PAN) + form.row(long, None) + form.row(PAN, b"z")
    end = message(b"c") + complete("COPY 3") + ready()
    bench.server(described([("a", 25, 0), ("b", 25, 0)]), copy_out(2))
    bench.server(*pieces(rows + end, range(0, 20_000, 77)))
    assert not bench.codec.within_message
    assert bench.seen().endswith(rows.replace(PAN, MASKED) + end)
    (finished,) = bench.finished
    assert finished.outcome.masked == {"visa": 202}
    assert finished.outcome.columns == {"a": 201, "b": 1}
    assert finished.outcome.rows == 3
    assert finished.outcome.bytes == len(rows) - 15


def test_an_error_in_the_first_window_can_be_told():
    bench = Bench(PostgresCodec(SCANNER, tls="none", max_message=SMALL)).log_in()
    bench.agent(query("copy cards (a, b) to stdout"))
    bench.server(described([("a", 25, 0), ("b", 114, 0)]), copy_out(2))
    with pytest.raises(LimitReached, match=r"column 1 .* 2048 .*limits.max_message_bytes"):
        bench.server(*bytewise(copy_data(b"4111," * 9000 + b"\tx\n")))
    assert not bench.codec.within_message
    assert kinds(bench.seen()) == "H"


def test_long_copy_data_that_nobody_asked_for_keeps_the_limit():
    walking = Walker(SCANNER, LIMIT, WINDOW)
    out = walked(walking, Plan([TEXT]), [copy_data(b"x\n" * 900)])
    assert "limits.max_message_bytes" in out.error
