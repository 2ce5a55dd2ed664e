"""COPY to the agent: described before it runs, each cell masked by its type, in text, csv and binary."""

import csv
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangate import _frame
from pangate.errors import ProtocolError
from pangate.masking import default_scanner
from pangate.protocols.postgres.messages import message
from pgwire import (
    BOUND,
    CLOSED,
    PARSED,
    SYNC,
    Bench,
    bind,
    complete,
    copy_data,
    copy_out,
    described,
    error,
    execute,
    kinds,
    parse,
    query,
    ready,
    row_description,
    split,
)

PAN = b"4111111111111111"
MASKED = b"************1111"
NUMBER = b"1000000000001111"
HEX = PAN.hex().encode()
DONE = message(b"c") + complete("COPY 1") + ready()
SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)

TEXT, BYTEA, INT8, NUMERIC, FLOAT8, MONEY, JSON, DATE = 25, 17, 20, 1700, 701, 790, 114, 1082


@pytest.fixture
def bench() -> Bench:
    return Bench().log_in()


def copied(
    bench: Bench, sql: str, columns: list[tuple], *rows: bytes, binary: int = 0
) -> list[bytes]:
    """The rows that an agent gets."""
    bench.agent(query(sql))
    bench.server(described(columns), copy_out(len(columns), binary))
    bench.server(*(copy_data(row) for row in rows), DONE)
    seen = bench.seen()
    assert kinds(seen) == "H" + "d" * len(rows) + "cCZ", seen
    return [body for kind, body in split(seen) if kind == "d"]


@pytest.mark.parametrize("mark", [b"7", b"*", b"x", b"A", b"\\", b"\n", b"\0", b"\xe9"])
def test_no_mark_that_could_be_a_part_of_a_number_or_a_mask(mark):
    walker = _frame.Walker(default_scanner(), 1000)
    comma, quote = ord(","), ord('"')
    for given_ in ((*mark, quote, quote), (comma, *mark, quote), (comma, quote, *mark)):
        with pytest.raises(ValueError, match="no mark of COPY"):
            walker.copy_cells(True, *given_, b"")
    with pytest.raises(ValueError, match="no mark of COPY"):
        walker.copy_cells(False, *mark, quote, quote, b"")
    walker.copy_cells(False, comma, *mark, *mark, b"")  # of text these are none


def test_the_server_describes_it_first(bench):
    bench.agent(query("copy cards (a, b) to stdout"))
    sent = split(bench.sent())
    assert "".join(kind for kind, _ in sent) == "PDSQ"
    assert b'SELECT "a", "b" FROM ONLY "cards"' in sent[0][1]
    bench.server(described([("a", TEXT, 0), ("b", INT8, 0)]))
    assert bench.seen() == b"", "the agent sees nothing of it"
    bench.server(copy_out(2), copy_data(PAN + b"\t" + PAN + b"\n"), DONE)
    assert MASKED + b"\t" + NUMBER + b"\n" in bench.seen()
    assert bench.finished[0].outcome.rows == 1
    assert bench.finished[0].outcome.columns == {"a": 1, "b": 1}


def test_text_cells_by_their_types(bench):
    types = (TEXT, BYTEA, INT8, NUMERIC, FLOAT8, MONEY, JSON, TEXT)
    columns = [(name, oid, 0) for name, oid in zip("abcdefgh", types, strict=True)]
    cells = [
        b"4111 1111\\t" + PAN,
        b"\\\\x" + HEX,
        PAN,
        PAN + b".50",
        b"4.111111111111111e+15",
        b"$4,111,111,111,111,111.00",
        b'{"pan": ' + PAN + b', "\\\\u00341": "\\\\u0034111111111111111"}',
        b"\\N",
    ]
    (line,) = copied(bench, "copy t to stdout", columns, b"\t".join(cells) + b"\n")
    out = line[:-1].split(b"\t")
    assert out[0] == b"4111 1111\\t" + MASKED
    assert out[1] == b"\\\\x" + MASKED.hex().encode()
    assert out[2:4] == [NUMBER, NUMBER + b".50"]
    assert out[4] == b"1.000000000001111e+15"
    assert out[5] == b"$1,000,000,000,001,111.00"
    assert out[6] == b'{"pan": ' + NUMBER + b', "\\\\u00341": "\\\\u002a***********1111"}'
    assert out[7] == b"\\N"


def test_csv_cells_by_their_types(bench):
    sql = "copy t to stdout (format csv, header, delimiter ';', quote '''', force_quote *)"
    columns = [("a", TEXT, 0), ("b", INT8, 0), ("c", JSON, 0)]
    lines = copied(
        bench,
        sql,
        columns,
        b"a;b;c\n",
        b"'it''s; " + PAN + b"\nand more';'" + PAN + b"';'{\"a\": [" + PAN + b"]}'\n",
        b";;\n",
    )
    assert lines[0] == b"a;b;c\n"
    assert lines[1] == (
        b"'it''s; " + MASKED + b"\nand more';'" + NUMBER + b"';'{\"a\": [" + NUMBER + b"]}'\n"
    )
    assert lines[2] == b";;\n"


def test_delimiters_that_join_cells(bench):
    """A PAN in two columns is one for whoever reads the line."""
    columns = [("a", TEXT, 0), ("b", TEXT, 0)]
    (line,) = copied(bench, "copy t to stdout (delimiter ' ')", columns, b"41111111 11111111\n")
    assert line == b"******** ****1111\n"
    (line,) = copied(
        Bench().log_in(),
        "copy t to stdout (delimiter '-')",
        columns,
        b"4111\\-1111\\-1111\\-1111-x\n",
    )
    assert line == b"****\\-****\\-****\\-1111-x\n"


def binary_row(*cells: bytes | None) -> bytes:
    body = struct.pack("!h", len(cells))
    for cell in cells:
        body += struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
    return body


def test_binary(bench):
    columns = [("a", TEXT, 0), ("b", INT8, 0), ("c", DATE, 0)]
    first, second, trailer = copied(
        bench,
        "copy t to stdout (format binary)",
        columns,
        SIGNATURE + binary_row(PAN, struct.pack("!q", int(PAN)), b"1234"),
        binary_row(None, None, None),
        b"\xff\xff",
        binary=1,
    )
    assert first == SIGNATURE + binary_row(MASKED, struct.pack("!q", int(NUMBER)), b"1234")
    assert (second, trailer) == (binary_row(None, None, None), b"\xff\xff")


def test_binary_of_an_unknown_type_is_refused(bench):
    bench.agent(query("copy t to stdout (format binary)"))
    bench.server(
        described([("a", 600000, 0)]), copy_out(1, 1), copy_data(SIGNATURE + binary_row(PAN))
    )
    bench.server(DONE)
    seen = bench.seen()
    assert kinds(seen) == "EZ"
    assert b"text or csv" in seen
    assert bench.finished[0].outcome.error == "0A000"


def test_binary_of_a_type_of_ones_own(bench):
    bench.types = [("20001", "e", "0", "0", "enum_send")]
    row = SIGNATURE + binary_row(PAN)
    got = copied(bench, "copy t to stdout (format binary)", [("a", 20001, 0)], row, binary=1)
    assert got == [SIGNATURE + binary_row(MASKED)]
    assert bench.errands == 1


@pytest.mark.parametrize(
    "bad",
    [
        binary_row(PAN),  # no signature
        b"PGCOPY\n\xff\r\n\0" + bytes(3) + b"\1" + bytes(4) + binary_row(PAN),
        SIGNATURE + binary_row(PAN, PAN),
        SIGNATURE + binary_row(PAN)[:-1],
        SIGNATURE + b"\xff",
    ],
)
def test_binary_that_is_none(bench, bad):
    bench.agent(query("copy t to stdout (format binary)"))
    bench.server(described([("a", TEXT, 0)]), copy_out(1, 1))
    with pytest.raises(ProtocolError):
        bench.server(copy_data(bad))
    assert PAN not in bench.seen()


@pytest.mark.parametrize("bad", [b"\n", b"a\n", b"a\tb\tc\n", b"a\\\tb\n", b"a\tb\\\n"])
def test_rows_that_are_not_as_described(bench, bad):
    bench.agent(query("copy t to stdout"))
    bench.server(described([("a", TEXT, 0), ("b", TEXT, 0)]), copy_out(2))
    with pytest.raises(ProtocolError, match="not as it was described"):
        bench.server(copy_data(bad))


def test_generated_columns_are_not_copied(bench):
    """A COPY of a table leaves them out, and a SELECT does not."""
    bench.catalog.take_tables([9], [])
    columns = [("a", TEXT, 0, 9, 1), ("g", TEXT, 0, 9, 2), ("b", INT8, 0, 9, 3)]
    rows = [
        ("9", "1", "s", "t", "a", "0", "0"),
        ("9", "2", "s", "t", "g", "1", "0"),
        ("9", "3", "s", "t", "b", "0", "0"),
    ]
    bench.catalog.take_tables([9], rows)
    bench.agent(query("copy t to stdout"))
    bench.server(described(columns), copy_out(2), copy_data(PAN + b"\t" + PAN + b"\n"), DONE)
    assert MASKED + b"\t" + NUMBER + b"\n" in bench.seen()


def test_columns_that_nobody_described_are_refused(bench):
    bench.agent(query("copy t to stdout"))
    bench.server(described([("a", TEXT, 0)]), copy_out(2), copy_data(PAN + b"\tx\n"), DONE)
    assert kinds(bench.seen()) == "EZ"


def test_lines_of_which_nothing_is_known_are_no_text(bench):
    """A name and its value could stand in any column, escaped."""
    for line in (b'\t{"cvv":"123"}\n', b'1\t{"a": "x\\\\"", "cvv":"123"}\n', b"x\n"):
        walker = _frame.Walker(default_scanner(), 1000)
        walker.load(copy_data(line))
        with pytest.raises(ProtocolError, match="not as it was described"):
            walker.advance(_frame.Plan([_frame.TEXT]))
        assert not walker.release()


def test_a_copy_beside_other_statements_is_refused(bench):
    bench.agent(query("select 1; copy t to stdout"))
    assert kinds(bench.sent()) == "Q"
    bench.server(row_description([("a", 23, 0)]), complete("SELECT 0"), copy_out(1))
    bench.server(copy_data(PAN + b"\n"), DONE)
    seen = bench.seen()
    assert kinds(seen) == "TCEZ"
    assert b"by itself" in seen


def test_a_wrong_copy_gets_the_servers_own_error(bench):
    bench.agent(query("copy missing to stdout"))
    missing = error("42P01", f"no table {PAN.decode()}")
    bench.server(missing, ready(), missing, ready())
    seen = bench.seen()
    assert kinds(seen) == "EZ"
    assert MASKED in seen
    assert bench.finished[0].outcome.error == "42P01"


def test_in_a_transaction_the_first_error_is_what_the_agent_gets(bench):
    bench.agent(query("begin"))
    bench.server(complete("BEGIN"), ready("T"))
    bench.seen()
    bench.agent(query("copy missing to stdout"))
    bench.server(error("42P01", "no such table"), ready("E"), error("25P02", "aborted"), ready("E"))
    seen = bench.seen()
    assert kinds(seen) == "EZ"
    assert b"no such table" in seen


def test_in_the_extended_protocol(bench):
    bench.agent(parse("", "copy (select pan from cards) to stdout"), bind(), execute(), SYNC)
    sent = split(bench.sent())
    assert "".join(kind for kind, _ in sent) == "PBDCPDCES"
    bench.server(PARSED, BOUND, message(b"n"), CLOSED, PARSED, message(b"t", b"\0\0"))
    bench.server(row_description([("pan", INT8, 0)]), CLOSED, copy_out(1), copy_data(PAN + b"\n"))
    bench.server(message(b"c"), complete("COPY 1"), ready())
    seen = bench.seen()
    assert kinds(seen) == "12HdcCZ"
    assert NUMBER + b"\n" in seen


def test_an_error_in_front_of_an_extended_copy(bench):
    bench.agent(parse("", "copy (select pan from cards) to stdout"), bind(), execute(), SYNC)
    bench.server(PARSED, BOUND, message(b"n"), CLOSED, error("42P01", "no such table"), ready())
    assert kinds(bench.seen()) == "12EZ"
    assert not bench.codec._queue


@pytest.mark.parametrize(
    "sql",
    [
        "copy cards to stdout (format csv, quote '4')",
        "copy cards to stdout (format csv, delimiter '4')",
        "copy cards to stdout (format csv, delimiter 4)",
        "copy cards to stdout (format csv, delimiter 'é')",
        "copy cards to stdout (encoding 'GB18030')",
        "copy cards to stdout (format csv, rot13 on)",
        "copy cards to stdout csv escape '1'",
    ],
)
def test_options_that_could_hide_a_pan_are_refused(bench, sql):
    bench.agent(query(sql))
    bench.server(described([("a", TEXT, 0)]), copy_out(1), copy_data(b"4" + PAN + b"4\n"), DONE)
    seen = bench.seen()
    assert kinds(seen) == "EZ"
    assert PAN not in seen


@pytest.mark.parametrize(
    "sql",
    [
        "copy cards to stdout (format csv, force_quote *)",
        "copy cards to stdout (format csv, delimiter ';', quote '''', escape '|', null '4')",
        "copy quote to stdout -- a table of that name",
    ],
)
def test_harmless_options_pass(bench, sql):
    assert copied(bench, sql, [("a", TEXT, 0)], PAN + b"\n") == [MASKED + b"\n"]


def test_a_row_is_never_split(bench):
    bench.agent(query("copy cards to stdout"))
    bench.server(described([("a", TEXT, 0)]), copy_out(1))
    with pytest.raises(ProtocolError, match="split"):
        bench.server(copy_data(PAN[:8]) + copy_data(PAN[8:] + b"\n"))
    assert PAN[:8] not in bench.seen()


def test_a_format_that_was_not_asked_for(bench):
    bench.agent(query("copy cards to stdout"))
    bench.server(
        described([("a", TEXT, 0)]), copy_out(1, 1), copy_data(SIGNATURE + binary_row(PAN))
    )
    bench.server(DONE)
    assert kinds(bench.seen()) == "EZ"


# --- against an obvious reading --------------------------------------------------------------------

WIPE = _frame.WIPES
values = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "x", "\\N", PAN.decode(), f"a{PAN.decode()}\tb\\", '"q" ' + PAN.decode(), "123"]
    ),
    st.text(alphabet='01 -\\";,\t\nab', max_size=12),
)


def text_form(value: str | None) -> str:
    if value is None:
        return "\\N"
    for raw, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n")):
        value = value.replace(raw, escaped)
    return value


def read_text(line: str) -> list[str | None]:
    out: list[str | None] = []
    for cell in line.removesuffix("\n").split("\t"):
        if cell == "\\N":
            out.append(None)
            continue
        done, at = "", 0
        while at < len(cell):
            if cell[at] == "\\":
                at += 1
                done += {"t": "\t", "n": "\n"}.get(cell[at], cell[at])
            else:
                done += cell[at]
            at += 1
        out.append(done)
    return out


def expected(value: str | None, *, wiped: bool) -> str | None:
    if value is None:
        return None
    if wiped:
        return "***"
    data = bytearray(value.encode())
    default_scanner().mask(data)
    return data.decode()


def walker(csv_form: bool, count: int, wipe: int) -> tuple[_frame.Walker, _frame.Plan]:
    made = _frame.Walker(default_scanner(), 1 << 20)
    if csv_form:
        made.copy_cells(True, ord(","), ord('"'), ord('"'), b"")
    else:
        made.copy_cells(False, ord("\t"), ord('"'), ord('"'), b"\\N")
    wipes = [0] * count
    if wipe >= 0:
        wipes[wipe % count] = WIPE["text"]
    return made, _frame.Plan([_frame.TEXT] * count, wipes)


def passed(made: _frame.Walker, plan: _frame.Plan, line: str) -> str:
    made.load(copy_data(line.encode()))
    assert made.advance(plan) == 0
    ((_, body),) = split(b"".join(bytes(part) for part in made.release()))
    return body.decode()


@given(st.lists(values, min_size=1, max_size=4), st.integers(-1, 3))
def test_text_rows_as_read_by_an_obvious_reader(row, wipe):
    made, plan = walker(False, len(row), wipe)
    line = passed(made, plan, "\t".join(map(text_form, row)) + "\n")
    at = wipe % len(row) if wipe >= 0 else -1
    want = [expected(value, wiped=i == at) for i, value in enumerate(row)]
    got = read_text(line)
    for i, (have, value) in enumerate(zip(got, want, strict=True)):
        if i == at and value is not None:
            assert set(have) <= {"*"}
            assert len(have) <= 3
        else:
            assert have == value


@given(st.lists(values, min_size=1, max_size=4), st.integers(-1, 3))
def test_csv_rows_as_read_by_the_standard_library(row, wipe):
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(
        ["" if value is None else value for value in row]
    )
    made, plan = walker(True, len(row), wipe)
    line = passed(made, plan, buffer.getvalue())
    (got,) = csv.reader(io.StringIO(line, newline=""))
    at = wipe % len(row) if wipe >= 0 else -1
    for i, (have, value) in enumerate(zip(got, row, strict=True)):
        if i == at:
            assert set(have) <= {"*"}
        else:
            assert have == expected(value or "", wiped=False)
