"""What a database says of itself: its own types in binary, and columns that are wiped under any name."""

import re
import struct
from decimal import Decimal

import pytest

from pangate import _frame
from pangate.errors import MaskingError, ProtocolError
from pangate.protocols.postgres import carriers
from pangate.protocols.postgres.catalog import COLUMNS, TYPES, NameRules, Wanted, open_catalog
from pangate.protocols.postgres.messages import error_fields, message
from pangate.sql.carried import WIPE
from pangate.sql.tree import MAX_TEXT
from pgwire import (
    BOUND,
    PARSED,
    SYNC,
    Bench,
    bind,
    cells,
    complete,
    copy_data,
    copy_out,
    describe,
    described,
    error,
    execute,
    kinds,
    parse,
    query,
    ready,
    row,
    row_description,
    send_numeric,
    split,
)

PAN = b"4111111111111111"
MASKED = b"************1111"
CARDS = [(1, "pay", "cards", "pan"), (2, "pay", "cards", "cvv"), (3, "pay", "cards", "pin")]
TEXT, INT4, INT8, NUMERIC, JSON, JSONB, DATE, BYTEA = 25, 23, 20, 1700, 114, 3802, 1082, 17


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.tables[70] = [*CARDS, (4, "pay", "cards", "n")]
    made.types = [
        ("20001", "e", "0", "0", "enum_send"),
        ("20002", "d", "20001", "0", "domain_send"),
        ("20003", "r", "0", "20", "range_send"),
        ("20004", "m", "0", "20", "multirange_send"),
        ("20005", "c", "0", "0", "record_send"),
        ("20006", "b", "0", "0", "array_send"),
        ("20007", "b", "0", "0", "hstore_send"),
        ("20008", "b", "0", "0", "textsend"),
        ("20009", "b", "0", "0", "cube_send"),
        ("20010", "d", "20009", "0", "domain_send"),
    ]
    return made.log_in()


def rows(bench: Bench, columns: list[tuple], *data: bytes) -> list[list[bytes | None]]:
    bench.agent(query("select something"))
    bench.server(row_description(columns), *data, complete("SELECT"), ready())
    return [cells(body) for kind, body in split(bench.seen()) if kind == "D"]


# --- columns ---------------------------------------------------------------------------------------


def test_an_alias_changes_nothing(bench):
    columns = [("harmless", TEXT, 0, 70, 2), ("id", TEXT, 0, 70, 1), ("cvv", INT4, 0, 70, 4)]
    assert rows(bench, columns, row(b"123", PAN, b"7"), row(None, b"x", None)) == [
        [b"***", MASKED, b"7"],
        [None, b"x", None],
    ]
    assert bench.finished[0].outcome.columns == {"pay.cards.cvv": 1, "pay.cards.pan": 1}
    assert bench.errands == 1
    rows(bench, columns, row(b"1", b"2", b"3"))
    assert bench.errands == 1, "it is remembered"


def test_a_label_counts_where_nothing_else_is_known(bench):
    """Of an expression, and of a table that nobody else sees yet."""
    assert rows(bench, [("cvv", TEXT, 0), ("max", INT4, 0)], row(b"1234", b"5")) == [[b"***", b"5"]]
    assert rows(bench, [("cardCVV2", TEXT, 0, 71, 1)], row(b"12")) == [[b"**"]]


def test_names_that_mean_other_things_are_wiped_in_texts_only(bench):
    assert rows(bench, [("x", TEXT, 0, 70, 3), ("y", INT4, 0, 70, 3)], row(b"1234", b"1234")) == [
        [b"***", b"1234"]
    ]


@pytest.mark.parametrize(
    ("oid", "binary", "value", "wiped"),
    [
        (TEXT, 0, b"1234", b"***"),
        (TEXT, 1, b"12", b"**"),
        (TEXT, 0, b"", b""),
        (INT4, 0, b"123", b"0"),
        (INT4, 1, b"\0\0\0\x7b", b"\0\0\0\0"),
        (INT8, 1, b"\0\0\0\0\0\0\0\x7b", bytes(8)),
        (NUMERIC, 0, b"123", b"0"),
        (JSON, 0, b'{"a": 1}', b'"***"'),
        (JSON, 1, b"123", b"0"),
        (JSONB, 1, b"\1[1, 2]", b'\1"***"'),
        (JSONB, 1, b"\1[]", b"\0010"),
        (BYTEA, 0, b"\\x3132", b""),
        (BYTEA, 1, b"12", b""),
        (DATE, 1, b"\0\0\0\1", None),
        (1009, 0, b"{1,2}", None),
        (20001, 0, b"123", b"***"),
        (20001, 1, b"123", None),
        (600000, 1, b"123", None),
    ],
)
def test_what_stands_for_a_wiped_value(bench, oid, binary, value, wiped):
    assert rows(bench, [("c", oid, binary, 70, 2), ("z", TEXT, 0)], row(value, b"z")) == [
        [wiped, b"z"]
    ]


def test_numeric_in_binary(bench):
    zero = struct.pack("!hhHH", 0, 0, 0, 0)
    assert rows(bench, [("c", NUMERIC, 1, 70, 2)], row(send_numeric(Decimal(123)))) == [[zero]]


def test_many_rows_in_any_pieces(bench):
    """Rows that shrink are built anew; whatever chunks they come in, they come out whole and in order."""
    columns = [("n", INT4, 0), ("c", TEXT, 0, 70, 2), ("p", TEXT, 0, 70, 1)]
    data = b"".join(row(str(i).encode(), b"12345", PAN) for i in range(50))
    stream = row_description(columns) + data + complete("SELECT 50") + ready()
    for size in (1, 7, 64, 1000, len(stream)):
        made = Bench(tables={70: CARDS}).log_in().agent(query("select"))
        made.server(*(stream[i : i + size] for i in range(0, len(stream), size)))
        out = [cells(body) for kind, body in split(made.seen()) if kind == "D"]
        assert out == [[str(i).encode(), b"***", MASKED] for i in range(50)]
        assert made.finished[0].outcome.rows == 50


def test_in_copy_too(bench):
    bench.agent(query("copy cards to stdout"))
    columns = [("pan", TEXT, 0, 70, 1), ("cvv", TEXT, 0, 70, 2), ("pin", INT4, 0, 70, 3)]
    bench.server(described(columns), copy_out(3), copy_data(PAN + b"\t1\\t2345\t12\n"))
    bench.server(copy_data(b"\\N\t\\N\t\\N\n"), message(b"c"), complete("COPY 2"), ready())
    lines = [body for kind, body in split(bench.seen()) if kind == "d"]
    assert lines == [MASKED + b"\t***\t12\n", b"\\N\t\\N\t\\N\n"]


def test_described_long_ago(bench):
    """The plan is that of the portal that runs, whatever was described before."""
    bench.agent(parse("s", "select cvv as x from cards"), describe("S", "s"), SYNC)
    bench.server(PARSED, message(b"t", b"\0\0"), row_description([("x", TEXT, 0, 70, 2)]), ready())
    bench.seen()
    bench.agent(bind("", "s"), execute(), SYNC)
    bench.server(
        BOUND, row_description([("x", TEXT, 0, 70, 2)]), row(b"123"), complete("SELECT 1"), ready()
    )
    assert [cells(body) for kind, body in split(bench.seen()) if kind == "D"] == [[b"***"]]


def test_ddl_makes_it_ask_again(bench):
    columns = [("x", TEXT, 0, 70, 4)]
    assert rows(bench, columns, row(b"123")) == [[b"123"]]
    assert bench.errands == 1
    bench.tables[70] = [*CARDS, (4, "pay", "cards", "cvc2")]
    bench.agent(query("alter table cards rename column x to cvc2"))
    bench.server(complete("ALTER TABLE"), ready())
    bench.seen()
    assert rows(bench, columns, row(b"123")) == [[b"***"]]


def test_a_catalog_that_cannot_be_read_refuses_the_result(bench):
    bench.unreadable = True
    assert rows(bench, [("x", TEXT, 0, 70, 2)], row(b"123"), row(b"456")) == []
    assert bench.finished[0].outcome.error == "0A000"
    bench.unreadable = False
    assert rows(bench, [("x", TEXT, 0, 70, 2)], row(b"123")) == [[b"***"]]
    bench.unreadable = True
    bench.catalog.expire()
    bench.agent(query("copy cards to stdout"))
    bench.server(described([("cvv", TEXT, 0, 70, 2)]), copy_out(1), copy_data(b"123\n"))
    bench.server(message(b"c"), complete("COPY 1"), ready())
    assert kinds(bench.seen()) == "EZ"


def test_a_column_that_came_later_is_asked_for_once(bench):
    assert rows(bench, [("x", TEXT, 0, 70, 1)], row(b"1")) == [[b"1"]]
    bench.tables[70] = [*CARDS, (9, "pay", "cards", "cvc2")]
    assert rows(bench, [("x", TEXT, 0, 70, 9)], row(b"123")) == [[b"***"]]
    assert bench.errands == 2
    for _ in range(3):
        assert rows(bench, [("x", TEXT, 0, 70, 10)], row(b"123")) == [[b"123"]]
    assert bench.errands == 3


# --- rules -----------------------------------------------------------------------------------------


def test_rules_of_the_configuration():
    rules = NameRules(
        {
            "secret": "wipe",
            "cards.number": "mask",
            "shop.orders.order_no": "leave",
            "Shop.T.CVV": "leave",
        }
    )
    assert rules.of("a", "b", "topSecret") == ("wipe", False)
    assert rules.of("x", "CARDS", "Number") == ("mask", False)
    assert rules.of("x", "other", "number") == (None, False)
    assert rules.of("shop", "orders", "order_no") == ("leave", False)
    assert rules.of("mine", "orders", "order_no") == (None, False)
    assert rules.of("shop", "t", "cvv") == ("leave", False)
    assert rules.label("cvv") == ("wipe", False)
    assert NameRules({}, sensitive=False).of("a", "b", "cvv") == (None, False)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"a.b.c.d": "wipe"}, "no name of a column"),
        ({"a..b": "wipe"}, "no name of a column"),
        ({"a": "hide"}, "no action 'hide'"),
        ({"order_no": "leave"}, "needs the full name"),
        ({"orders.order_no": "leave"}, "needs the full name"),
    ],
)
def test_rules_that_cannot_be_used(given, says):
    with pytest.raises(MaskingError, match=says):
        NameRules(given)


def test_left_and_forced_columns():
    bench = Bench(catalog=open_catalog({"s.t.ref": "leave", "acct": "mask"}))
    bench.tables[5] = [(1, "s", "t", "ref"), (2, "s", "t", "acct")]
    bench.log_in()
    columns = [
        ("a", TEXT, 0, 5, 1),
        ("b", TEXT, 0, 5, 2),
        ("c", INT8, 1, 5, 2),
        ("d", INT4, 0, 5, 2),
    ]
    value = struct.pack("!q", 1234567890123)
    assert rows(bench, columns, row(PAN, b"AB12-3456-7890-1234", value, b"12345")) == [
        [PAN, b"AB**-****-****-1234", struct.pack("!q", 1000000000123), b"0"]
    ]


# --- types -----------------------------------------------------------------------------------------


def array(oid: int, *values: bytes) -> bytes:
    body = struct.pack("!iiIii", 1, 0, oid, len(values), 1)
    return body + b"".join(struct.pack("!i", len(v)) + v for v in values)


def sized(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


NUMBER = struct.pack("!q", int(PAN))
DIGITS = struct.pack("!q", 1000000000001111)


@pytest.mark.parametrize(
    ("oid", "value", "masked"),
    [
        (20001, PAN, MASKED),
        (20002, PAN, MASKED),
        (20003, b"\2" + sized(NUMBER) + sized(NUMBER), b"\2" + sized(DIGITS) + sized(DIGITS)),
        (
            20004,
            b"\0\0\0\1" + sized(b"\2" + sized(NUMBER) + sized(NUMBER)),
            b"\0\0\0\1" + sized(b"\2" + sized(DIGITS) + sized(DIGITS)),
        ),
        (
            20005,
            b"\0\0\0\2" + struct.pack("!I", 20002) + sized(PAN) + struct.pack("!Ii", 25, -1),
            b"\0\0\0\2" + struct.pack("!I", 20002) + sized(MASKED) + struct.pack("!Ii", 25, -1),
        ),
        (20006, array(20001, PAN, b"x"), array(20001, MASKED, b"x")),
        (
            20007,
            b"\0\0\0\2" + sized(b"a") + sized(PAN) + sized(PAN) + struct.pack("!i", -1),
            b"\0\0\0\2" + sized(b"a") + sized(MASKED) + sized(MASKED) + struct.pack("!i", -1),
        ),
        (20008, b"x " + PAN, b"x " + MASKED),
        (
            4536,
            b"\0\0\0\1" + sized(b"\2" + sized(NUMBER)),
            b"\0\0\0\1" + sized(b"\2" + sized(DIGITS)),
        ),
        (
            3614,
            b"\0\0\0\2" + PAN + b"\0\0\1\0\1" + b"a\0\0\0",
            b"\0\0\0\2" + MASKED + b"\0\0\1\0\1" + b"a\0\0\0",
        ),
        (
            3615,
            b"\0\0\0\3" + b"\2\2" + b"\1\0\0" + PAN + b"\0" + b"\1\0\0b\0",
            b"\0\0\0\3" + b"\2\2" + b"\1\0\0" + MASKED + b"\0" + b"\1\0\0b\0",
        ),
    ],
)
def test_types_of_the_database_in_binary(bench, oid, value, masked):
    assert rows(bench, [("a", oid, 1)], row(value)) == [[masked]]


@pytest.mark.parametrize("oid", [20009, 20010, 20011, 6000])
def test_types_that_stay_unknown_are_refused(bench, oid):
    assert rows(bench, [("a", oid, 1)], row(PAN)) == []
    assert rows(bench, [("a", oid, 0)], row(PAN)) == [[MASKED]]


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (JSONB, b"\2{}"),
        (INT8, b"1234"),
        (20006, array(20009, PAN)),
        (2249, struct.pack("!iI", 1, 30000) + sized(PAN)),
        (3614, b"\0\0\0\1" + PAN),
        (3615, b"\0\0\0\1\3"),
    ],
)
def test_a_value_that_cannot_be_decoded_ends_its_statement(bench, oid, value):
    """The session goes on."""
    bench.agent(query("select"))
    bench.server(row_description([("a", oid, 1)]), row(None), row(value), row(None))
    bench.server(complete("SELECT 3"), ready())
    seen = bench.seen()
    assert kinds(seen) == "TDEZ"
    assert PAN not in seen
    assert bench.finished[0].outcome.error == "0A000"
    assert rows(bench, [("a", TEXT, 0)], row(PAN)) == [[MASKED]]


# --- the errand ------------------------------------------------------------------------------------


def answer(*rows_: tuple[str, ...]) -> bytes:
    width = len(rows_[0]) if rows_ else 0
    body = row_description([("x", TEXT, 0)] * width)
    return (
        body
        + b"".join(row(*(cell.encode() for cell in line)) for line in rows_)
        + complete("SELECT")
        + ready()
    )


def test_the_errand_asks_and_tells():
    catalog = open_catalog({})
    wanted = catalog.wanted([20001, TEXT], [(70, 1), (0, 0), (71, 1)])
    assert wanted == Wanted(True, frozenset({70, 71}), True)
    errand = catalog.errand(wanted)
    asked = [
        carriers.SENSITIVE % catalog.rules.pattern,
        carriers.USES,
        carriers.NAMES,
        carriers.VIEWS,
    ]
    assert errand.start() == b"".join(map(query, (TYPES, *asked, COLUMNS % "70,71")))
    data = answer(("20001", "e", "0", "0", "enum_send"))
    data += answer(("70", "2", "pay", "cards", "cvv", "1", "0")) + answer(("72", "70", "2"))
    data += answer(("72", "v")) + answer(("72", "v", "SELECT cvv || '' AS x FROM pay.cards"))
    data += answer(("70", "2", "pay", "cards", "cvv", "0", "0"))
    for i in range(len(data)):
        assert not errand.done
        errand.feed(data[i : i + 1])
    assert errand.done
    assert not catalog.wanted([20001, 20002], [(70, 2), (71, -1)], expressions=True)
    assert _frame.op_of(20001, 1, catalog.types) == _frame.TEXT
    assert catalog.fact(70, 2).name == "pay.cards.cvv"
    assert catalog.fact(71, 1) is None
    assert catalog.carriers.carried(72, 1) == WIPE
    catalog.expire()
    assert catalog.wanted([20001], [(70, 1)]) == Wanted(True, frozenset({70}), True)
    assert not catalog.wanted([TEXT], [(0, 0)])


@pytest.mark.parametrize(
    "data",
    [
        error("42501", "permission denied"),
        answer(("1", "2")),
        message(b"G", b"\0\0\0"),
        b"D\xff\xff\xff\xff",
        message(b"D", b"\0\1\0\0\0\5x"),
    ],
)
def test_an_errand_that_goes_wrong(data):
    catalog = open_catalog({})
    errand = catalog.errand(Wanted(True, frozenset()))
    with pytest.raises(ProtocolError):
        errand.feed(data)
    assert catalog.wanted([20001], [])


# --- lineage ---------------------------------------------------------------------------------------


def traced(bench: Bench, text: str, columns: list[tuple], *data: bytes) -> list[list[bytes | None]]:
    bench.agent(query(text))
    bench.server(row_description(columns), *data, complete("SELECT 1"), ready())
    return [cells(body) for kind, body in split(bench.seen()) if kind == "D"]


X = [("x", TEXT, 0)]


def test_an_expression_is_judged_by_its_text(bench):
    """Under one and the same description."""
    assert traced(bench, "select cvv || '' as x from cards", X, row(b"123")) == [[b"***"]]
    assert traced(bench, "select pan || '' as x from cards", X, row(b"123")) == [[b"123"]]
    assert bench.finished[0].outcome.columns == {"x": 1}
    assert bench.errands == 1


@pytest.mark.parametrize(
    "text",
    ["select x from where", f"select count(*) as x from cards where n in ({'1,' * MAX_TEXT} 1)", "fetch c"],
)  # fmt: skip
def test_an_expression_of_which_nobody_can_tell_is_refused(bench, text):
    """A count that is wiped to 0 would be believed."""
    bench.agent(query(text))
    bench.server(row_description(X), row(b"123"), complete("SELECT 1"), ready())
    (kind, body), *rest = split(bench.seen())
    fields = error_fields(body)
    assert (kind, fields["C"]) == ("E", "0A000")
    assert "column 'x'" in fields["M"]
    assert str(MAX_TEXT) in fields["H"]
    assert [kind for kind, _ in rest] == ["Z"]


def test_columns_of_tables_need_no_text_that_can_be_read(bench):
    plain = [("x", TEXT, 0, 70, 4)]
    assert traced(bench, "select x from where", plain, row(b"123")) == [[b"123"]]


def test_a_pipeline_keeps_texts_and_portals_apart(bench):
    bench.agent(
        parse("a", "select cvv || '' as x from cards"),
        parse("b", "select 'a' || n as x from cards"),
    )
    bench.agent(bind("", "a"), describe("P"), execute(), bind("", "b"), execute(), SYNC)
    bench.server(PARSED, PARSED, BOUND, row_description(X), row(b"123"), complete("SELECT 1"))
    bench.server(BOUND, row_description(X), row(b"123"), complete("SELECT 1"), ready())
    assert [cells(body) for kind, body in split(bench.seen()) if kind == "D"] == [
        [b"***"],
        [b"123"],
    ]


def test_code_may_have_prepared_again(bench):
    bench.agent(parse("a", "select 'a' || n as x from cards"), SYNC)
    bench.server(PARSED, ready())
    bench.agent(query("do $$ begin execute 'x'; end $$"))
    bench.server(complete("DO"), ready())
    bench.agent(bind("", "a"), execute(), SYNC)
    bench.seen()
    bench.server(BOUND, row_description(X), row(b"123"), complete("SELECT 1"), ready())
    _, (kind, body), *_ = split(bench.seen())
    assert kind == "E"
    assert "prepare it again" in error_fields(body)["H"]


def test_a_view_is_known_by_its_own_columns(bench):
    bench.views = [(90, "v", "SELECT cards.cvv AS x, cards.n FROM pay.cards;")]
    bench.tables[90] = [(1, "pay", "v", "x"), (2, "pay", "v", "n")]
    columns = [("a", TEXT, 0, 90, 1), ("b", TEXT, 0, 90, 2)]
    assert traced(bench, "select x as a, n as b from v", columns, row(b"123", b"4")) == [
        [b"***", b"4"]
    ]


def test_a_plain_result_is_not_read(bench, monkeypatch):
    """What has no expression costs nothing."""
    monkeypatch.setattr("pangate.protocols.postgres.answers.Answers._lineage", None)
    columns = [("n", INT4, 0, 70, 4), ("ok", 16, 0)]
    assert traced(bench, "select n, true as ok from cards", columns, row(b"1", b"t")) == [
        [b"1", b"t"]
    ]


def test_a_definition_that_is_locked():
    catalog = open_catalog({})
    errand = catalog.errand(Wanted(False, frozenset(), True))
    errand.feed(answer(("70", "2", "pay", "cards", "cvv", "1", "0")) + answer(("72", "70", "2")))
    errand.feed(
        answer(("72", "v")) + error("55P03", "canceling statement due to lock timeout") + ready()
    )
    assert errand.done
    assert catalog.carriers.carried(72, 5) == WIPE


def test_names_are_sought_coarsely():
    """The server's own pattern finds every name that a rule is about."""
    rules = NameRules({"secretNote": "wipe", "pay.cards.we'ird": "wipe", "acct": "mask"})
    found = re.compile(rules.pattern.replace("''", "'"), re.IGNORECASE)
    names = (
        "cvv",
        "cardCVV2",
        "Track_1",
        "track_1_",
        "securityCode",
        "mycvv",
        "secret_note",
        "we'ird",
        "ACCT",
    )
    for name in names:
        assert found.search(name), name
    assert not found.search("harmless")
    assert NameRules({}, sensitive=False).pattern == "^$"
