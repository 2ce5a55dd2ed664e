"""Rows that the server quotes when a constraint is violated."""

import pytest

from pangate.protocols.postgres.details import quotes_data, without_quoted, without_values
from pangate.protocols.postgres.messages import error_fields


def shown(code: str, detail: str) -> str:
    fields = {"S": "ERROR", "C": code, "M": "violates", "D": detail, "t": "cards"}
    body = b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items()) + b"\0"
    out = without_values(body, lambda name: "cvv" in name)
    got = error_fields(out)
    assert {**got, "D": ""} == {**fields, "D": ""}
    assert out.endswith(b"\0\0")
    return got["D"]


@pytest.mark.parametrize(
    ("code", "detail", "expected"),
    [
        ("23505", "Key (cvv)=(123) already exists.", "Key (cvv)=(***) already exists."),
        (
            "23505",
            'Key (id, "my cvv")=(1, 2) already exists.',
            'Key (id, "my cvv")=(***) already exists.',
        ),
        (
            "23505",
            "Key (lower(cvv))=(a)=(b) already exists.",
            "Key (lower(cvv))=(***) already exists.",
        ),
        ("23505", "Key (id)=(123) already exists.", "Key (id)=(123) already exists."),
        ("23514", "Failing row contains (1, Ada (x), 123).", "Failing row contains (***)."),
        ("23502", "Failing row contains (1, a\nb).", "Failing row contains (***)."),
        ("23514", "Failing row contains (1, a)=(b, 123).", "Failing row contains (***)."),
        ("23514", "Partition key of the failing row contains (cvv) = (123).", None),
        ("23502", "La ligne contient 1, 123", "***"),
        ("22P02", "Failing row contains (1, 123).", "Failing row contains (1, 123)."),
    ],
)
def test_values_are_taken_out(code, detail, expected):
    got = shown(code, detail)
    assert "123" not in got if expected is None else got == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('invalid input syntax for type date: "123"', 'invalid input syntax for type date: "***"'),
        ('invalid input syntax for type integer: "1"2"', 'invalid input syntax for type integer: "***"'),
        ("syntaxe en entrée invalide pour le type date : « 123 »",
         "syntaxe en entrée invalide pour le type date : «***»"),
        ("ungültige Eingabesyntax für Typ date: »123«", "ungültige Eingabesyntax für Typ date: »***«"),
        ("date field value out of range: 0123-13-01", "date field value out of range: ***"),
        ("setseed parameter 123.5 is out of allowed range [-1,1]",
         "setseed parameter *** is out of allowed range [-***,***]"),
        ("division by zero", "division by zero"),
    ],
)  # fmt: skip
def test_what_an_error_quotes_is_taken_out(message, expected):
    fields = {
        "S": "ERROR",
        "C": "22007",
        "M": message,
        "D": 'Token "123" is invalid.',
        "W": "x 123",
    }
    body = b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items()) + b"\0"
    out = without_quoted(body)
    assert out.endswith(b"\0\0")
    wiped = {"M": expected, "D": 'Token "***" is invalid.', "W": "***"}
    assert error_fields(out) == {**fields, **wiped}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"C": "22P02"}, True),
        ({"C": "P0001"}, True),
        ({"C": "00000"}, True),
        ({"C": "42704"}, True),
        ({"C": "42704", "P": "8"}, False),
        ({"C": "42703", "P": "8"}, False),
        ({"C": "42703", "p": "8", "q": "select x"}, True),
        ({"C": "42601", "P": "8", "W": 'invalid type name "123x"'}, True),
        ({"C": "25P02"}, False),
        ({}, False),
    ],
)
def test_errors_that_may_quote_data(fields, expected):
    assert quotes_data(fields) is expected
