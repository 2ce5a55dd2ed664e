import pytest

from pangate import sql
from pangate.sql import CopyOut


def test_the_defaults_are_the_servers():
    assert sql.copy_out("copy cards to stdout") == CopyOut(
        format="text", delimiter="\t", null="\\N", quote='"', escape='"', header=False, force_quote=(),
        encoding="", select='SELECT * FROM ONLY "cards"', relation=("", "cards"), columns=(),
    )  # fmt: skip
    found = sql.copy_out("copy cards to stdout csv")
    assert (found.format, found.delimiter, found.null) == ("csv", ",", "")


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ("(format csv)", "format", "csv"),
        ("(format 'csv')", "format", "csv"),
        ("with csv", "format", "csv"),
        ("binary", "format", "binary"),
        ("(format binary)", "format", "binary"),
        ("(format text)", "format", "text"),
        ("(format xml)", "format", "binary"),
        ("(format xml)", "unknown", ("format",)),
        ("(delimiter '|')", "delimiter", "|"),
        ("(delimiter 7)", "delimiter", "7"),
        ("(delimiter e'\\x37')", "delimiter", "7"),
        ("(delimiter U&'\\0037')", "delimiter", "7"),
        ("(delimiter $$7$$)", "delimiter", "7"),
        ("using delimiters '7'", "delimiter", "7"),
        ("csv delimiter as '7'", "delimiter", "7"),
        ("(format csv, quote '7')", "quote", "7"),
        ("(format csv, quote '7')", "escape", "7"),
        ("(format csv, escape '7')", "escape", "7"),
        ("(format csv, escape '7')", "quote", '"'),
        ("csv quote '''' escape '7'", "quote", "'"),
        ("(null '7')", "null", "7"),
        ("(null 0)", "null", "0"),
        ("csv null as 'x'", "null", "x"),
        ("(header)", "header", True),
        ("(header true)", "header", True),
        ("(header off)", "header", False),
        ("(header 0)", "header", False),
        ("csv header", "header", True),
        ("(format csv, force_quote *)", "force_quote", ("*",)),
        ("(format csv, force_quote (a, \"B\"))", "force_quote", ("a", "B")),
        ("csv force quote a, b", "force_quote", ("a", "b")),
        ("(encoding 'GB18030')", "encoding", "GB18030"),
        ("(foo 1)", "unknown", ("foo",)),
        ("(\"FORMAT\" csv)", "unknown", ("FORMAT",)),
        ("(delimiter '|', delimiter '7')", "unknown", ("delimiter",)),
        ("(delimiter)", "unknown", ("delimiter",)),
        ("(force_null (a))", "unknown", ("force_null",)),
    ],
)  # fmt: skip
def test_options(options, field, value):
    assert getattr(sql.copy_out(f"copy cards to stdout {options}"), field) == value


@pytest.mark.parametrize(
    ("text", "select"),
    [
        ("copy cards to stdout", 'SELECT * FROM ONLY "cards"'),
        ('copy s."Ta""b"(a, "B") to stdout', 'SELECT "a", "B" FROM ONLY "s"."Ta""b"'),
        ("copy (select 1) to stdout", "select 1"),
        ("copy ( select ')', $$)$$, e'\\')', \")\" /* ) /* ) */ ' */ -- )\n, (1)) to stdout",
         "select ')', $$)$$, e'\\')', \")\" /* ) /* ) */ ' */ -- )\n, (1)"),
        ("-- (\ncopy/*((*/(table cards)to stdout;", "table cards"),
        ("copy (delete from t returning a) to stdout", "delete from t returning a"),
        ("copy (with c as (select 1) select * from c) to stdout", "with c as (select 1) select * from c"),
        ("copy (select $a$ ) $b$ $a$) to stdout", "select $a$ ) $b$ $a$"),
        ("copy (select U&'\\0029', b'1', n')'::text) to stdout", "select U&'\\0029', b'1', n')'::text"),
        ("copy (select U&\"\\0029\") to stdout", "select U&\"\\0029\""),
        ("copy (select e'a'\n'\\')') to stdout", None),
        ("copy ((select 1)) to stdout", "(select 1)"),
    ],
)  # fmt: skip
def test_the_query_behind_it(text, select):
    found = sql.copy_out(text)
    assert (found and found.select) == select
    if found and found.relation is None:
        assert sql.understand(select).effects  # it stands by itself


@pytest.mark.parametrize(
    "text",
    [
        "copy cards from stdin", "copy cards to '/tmp/x'", "copy cards to program 'x'", "select 1", "",
        "copy", "copy cards to stdout; select 1", "select 1; copy cards to stdout",
        "explain copy cards to stdout", "copy (select 1 to stdout", "copy cards to stdout" + " " * 20_000,
    ],
)  # fmt: skip
def test_what_is_no_copy_out(text):
    assert sql.copy_out(text) is None


def test_all_of_a_text():
    found = sql.copies_out(
        "copy a to stdout; select 1; copy (select 2) to stdout csv; copy b from stdin"
    )
    assert [(copy.relation, copy.format) for copy in found] == [(("", "a"), "text"), (None, "csv")]
    assert sql.copies_out("select 1") == ()
    assert sql.copies_out("selct") is None
