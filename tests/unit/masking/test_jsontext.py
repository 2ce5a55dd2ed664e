"""JSON stays JSON under every masker, and under every splitting of its lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate import Key, Masker

KEY = Key(bytes(range(32)))
PANS = ("4111111111111111", "378282246310005", "8171999900000000021", "501800000009")
MASKERS = {
    "default": Masker(),
    "digits": Masker("digits"),
    "token": Masker("token", key=KEY),
    "fpe": Masker("fpe", key=KEY),
    "all decoders": Masker(decode="all"),
    "all decoders, token": Masker("token", decode="all", key=KEY),
    "patterns": Masker(patterns={"three": "[0-9]{3}", "ones": "1{4}", "mark": "[,:]"}),
    "columns": Masker(columns={"card_no": "mask", "order": "leave", "x": "wipe"}),
    "columns, token": Masker("token", columns={"card_no": "mask"}, key=KEY),
}

PARTS = st.sampled_from(
    [*PANS, "4111-1111-1111-1111", "hello", "é", "\\n", '\\"', "\\\\", "12", "0", "\\u00e9", "%41", "a=",
     "cvv=123", 'cvv\\":\\"123', "=", "^", "D", "\\u0022", "\\u0034111111111111111", "%34111111111111111",
     "４", " ", "-", ",", "/", "pin=1234\\n"]
)  # fmt: skip
STRINGS = st.lists(PARTS, max_size=6).map(lambda parts: '"' + "".join(parts) + '"')
NUMBERS = st.one_of(
    st.sampled_from([*PANS, "0.4111111111111111", "4111", "1e506", "0.0"]),
    st.builds(
        lambda a, b, c: a + b + c,
        st.sampled_from(["", "-"]),
        st.sampled_from(PANS),
        st.sampled_from(["", ".0", ".50", "0", "00000", "e2", "E-3"]),
    ),
    st.integers(-(10**20), 10**20).map(str),
)
NAMES = st.sampled_from(["pan", "cvv", "card_no", "x", "n", "cvv2", "order", "pin"])
VALUES = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["null", "true"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda all_: "[" + ",".join(all_) + "]"),
        st.lists(st.tuples(NAMES, inner), max_size=4).map(
            lambda all_: "{" + ", ".join(f'"{name}": {one}' for name, one in all_) + "}"
        ),
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("name", MASKERS)
@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_json_stays_json(name: str, text: str) -> None:
    masker = MASKERS[name]
    json.loads(text)
    masked = masker.mask(text, "json")
    json.loads(masked)
    assert masker.mask(text.encode(), "json") == masked.encode()
    if masker.kind != "token":
        buffer = bytearray(text.encode())
        masker.mask_into(buffer, "json")
        json.loads(buffer)
        assert len(buffer) == len(text.encode())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("patterns", "[41234]", "[10034]"),
        ("patterns", '["\\u1234"]', '["\\u002a"]'),
        ("patterns", '{"a":true}', '{"a":true}'),
        ("token", "[6011000990139424e2]", '["tok_aipdppldjacdmjmppdiipjdmgidcceep"]'),
        ("all decoders", "[41111111111111110]", "[10000000000011110]"),
        ("columns", '{"card_no": "\\u0034111111\\n"}', '{"card_no": "\\u002a******\\n"}'),
        ("columns", '{"card_no": "\\u00e9 4"}', '{"card_no": "\\u00e9 *"}'),
        ("default", '{"m": "say \\"cvv=123\\" now"}', '{"m": "say \\"cvv=***\\" now"}'),
        ("default", '{"m": "pin=1234\\nfoo"}', '{"m": "pin=***\\nfoo"}'),
        ("default", '"cvv\\":\\"123 and no more"', '"cvv\\":\\"***"'),
        ("fpe", '{"cvv": [4111111111111111]}', '{"cvv": [0]}'),
    ],
)
def test_what_is_written(name: str, text: str, expected: str) -> None:
    assert MASKERS[name].mask(text, "json") == expected


def test_lines_that_are_no_json_are_masked_one_by_one() -> None:
    """A quote too many turns strings and numbers around, but no further than its line."""
    text = b'{"a": "x" "}\n{"n": 4111111111111111}\n'
    masker = Masker()
    lines = [masker.mask(line, "json") for line in text.splitlines(keepends=True)]
    assert masker.mask(text, "json") == b"".join(lines)
    assert lines[1] == b'{"n": 1000000000001111}\n'
