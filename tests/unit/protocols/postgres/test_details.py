"""Rows that the server quotes when a constraint is violated."""

import pytest

from pangate.protocols.postgres.details import without_values
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
