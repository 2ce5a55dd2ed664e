"""Rules beside PANs: tracks, names, patterns, and all of them from one TOML table."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate import Key, Masker, MaskingError
from pangate.masking.column import SENSITIVE, Columns, words

PAN, MASKED = "4111111111111111", "************1111"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f";{PAN}=25121011234567890?", f";{MASKED}=*****************?"),
        (f"{PAN}=2512101123", f"{MASKED}=**********"),
        (f"%B{PAN}^DOE/JOHN^25121011234567890?", f"%B{MASKED}^**************************?"),
        (f"%B{PAN}^DOE/J^2512101 rest \nnext", f"%B{MASKED}^*******************\nnext"),
        ("%B4111 1111 1111 1111^DOE/J^2512101?", "%B**** **** **** 1111^*************?"),
        (f"57 {PAN}D25121011234567890F", f"57 {MASKED}D*****************F"),
        # a number that is no PAN of ours, but stands on a track
        (";9999999999999994=25121011234567890?", ";************9994=*****************?"),
        ("%B9999999999999994^DOE/J^2512101?", "%B************9994^*************?"),
        # no tracks
        (f"{PAN}=5", f"{MASKED}=5"),
        (f"{PAN}Dear 1234567", f"{MASKED}Dear 1234567"),
        ("a^b^c; x=1234567", "a^b^c; x=1234567"),
        (
            '{"t":";4111111111111111=25121011234567890?","x":1}',
            '{"t":";************1111=*****************?","x":1}',
        ),
    ],
)
def test_tracks_are_wiped_behind_the_pan(text: str, expected: str) -> None:
    assert Masker().mask(text) == expected
    assert Masker().mask(text.encode()) == expected.encode()
    assert Masker(tracks=False).mask(text).count("*") <= expected.count("*")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"cvv": "123"}', '{"cvv": "***"}'),
        ('{"cvv": 123, "x": 1}', '{"cvv": 0, "x": 1}'),
        ('{"cvv": null, "cvc": true}', '{"cvv": null, "cvc": true}'),
        ('{"card": {"securityCode": "1234"}}', '{"card": {"securityCode": "***"}}'),
        (
            '{"cvv": {"value": "123", "n": [1, 22]}, "x": 5}',
            '{"cvv": {"value": "***", "n": [0, 0]}, "x": 5}',
        ),
        ("{'cvv2': '123'}", "{'cvv2': '***'}"),
        ('{\\"cvv\\":\\"123\\"}', '{\\"cvv\\":\\"***\\"}'),
        ("cvv=123&cvc2=999&amount=10", "cvv=***&cvc2=***&amount=10"),
        ("card[cvv]=123", "card[cvv]=***"),
        ("CVV: 123, exp: 12/27", "CVV: ***, exp: 12/27"),
        ("<card:cvv>123</card:cvv>", "<card:cvv>***</card:cvv>"),
        ("cvv => 123", "cvv => ***"),
        ("pin=1234 pin=blue shopping=1234", "pin=*** pin=blue shopping=1234"),
        ("pin_block: 0123456789ABCDEF", "pin_block: ***"),
        ("cid=4711 cid=c0ffee", "cid=*** cid=c0ffee"),
        ("cid=123.0 cid=1.23e2 cid=12.5", "cid=*** cid=*** cid=12.5"),
        ("cid=\uff11\uff12\uff13 pin=04:12:AC:89:AB:CD:EF:01", "cid=*** pin=***"),
        ('{"cid": " 123", "pin": "04 12 34"}', '{"cid": "***", "pin": "***"}'),
        ('{"cid": "12\\u00333", "pin": "1 x"}', '{"cid": "***", "pin": "1 x"}'),
        (
            '{"cid": 123.0, "cvv": n123, "cvv2": card.code}',
            '{"cid": 0, "cvv": 0, "cvv2": card.code}',
        ),
        ("track_1=abc track2Data: xyz", "track_1=*** track2Data: ***"),
        ("cvv_result=M cvvResponse: 1", "cvv_result=M cvvResponse: 1"),
        ("mycvvx=123", "mycvvx=123"),
        ('"cvv":"12', '"cvv":"***'),  # a cut text
        ("cvv=", "cvv="),
    ],
)
def test_values_are_wiped_by_their_name(text: str, expected: str) -> None:
    assert Masker().mask(text) == expected
    assert Masker().mask(("x" * 9000 + "\n" + text).encode())[9001:] == expected.encode()
    assert Masker(sensitive=False).mask(text) == text
    buffer = bytearray(text.encode())
    Masker().mask_into(buffer)
    assert len(buffer) == len(text.encode())
    assert (text == expected) == (buffer == text.encode())


@given(
    st.sampled_from(sorted(SENSITIVE)), st.sampled_from(["_", "-", ".", "", "camel"]), st.booleans()
)
def test_every_sensitive_name_is_seen_however_it_is_written(
    name: str, style: str, upper: bool
) -> None:
    parts = name.split("_")
    if style == "camel":
        written = parts[0] + "".join(part.capitalize() for part in parts[1:])
    else:
        written = style.join(parts)
        if style == "" and words(written) != words(name):
            return  # glued words are no words; the commonest are rules of their own
    written = written.upper() if upper and style != "camel" else written
    for text in (
        f"billing.{written}=1234",
        f'{{"{written}":"1234"}}',
        f"<{written}>1234</{written}>",
    ):
        assert "1234" not in Masker().mask(text), text


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_rules_by_name(text: str) -> None:
    masker = Masker()
    assert isinstance(masker.mask("cvv" + text), str)
    assert masker.mask('{"cvv":' + text).startswith('{"cvv":')


def test_names_of_the_user_stand_before_ours() -> None:
    masker = Masker(
        columns={"order_no": "leave", "card_number": "mask", "secret": "wipe", "cid": "leave"}
    )
    assert masker.mask(f"order_no={PAN} x={PAN}") == f"order_no={PAN} x={MASKED}"
    assert masker.mask("card_number=1234567890123456") == "card_number=************3456"
    assert masker.mask("card_number=123456") == "card_number=******"
    assert masker.mask('{"cardNumber": 1234567890123456}') == '{"cardNumber": 1000000000003456}'
    assert masker.mask("my-secret: hunter2 cid=1234") == "my-secret: *** cid=1234"
    assert Masker("full", columns={"n": "mask"}).mask("n=1234567890123456") == "n=****************"
    key = Key(bytes(range(32)))
    assert (
        Masker("token", columns={"n": "mask"}, key=key)
        .mask("n=1234567890123456")
        .startswith("n=tok_")
    )


def test_what_a_rule_by_name_left_is_not_found_again() -> None:
    masker = Masker(columns={"card_no": "mask"})
    text = (
        '{"cvv": 123, "pin": "1234", "cardNo": "1234567890123456"} cvv=1 card_no=1234567890123456*'
    )
    masked = masker.mask(text)
    assert masked == (
        '{"cvv": 0, "pin": "***", "cardNo": "************3456"} cvv=*** card_no=************3456*'
    )
    assert len(masker.find(text)) == 5
    assert masker.find(masked) == []
    assert masker.mask(masked) == masked


def test_words() -> None:
    assert words("cardCvv2") == words("card_cvv2") == words("CARD-CVV2") == ("card", "cvv2")
    assert words("billing.card[cvv]") == ("billing", "card", "cvv")
    assert words("CVVCode") == ("cvv", "code")
    assert Columns().action("cardcvv") is not None
    assert Columns().action("cvv_result") is None


def test_patterns_are_wiped_whole_or_in_their_group() -> None:
    pytest.importorskip("re2")
    masker = Masker(patterns={"iban": r"\b[A-Z]{2}[0-9]{20}\b", "ssn": r"ssn (?P<mask>[0-9-]+)"})
    text = "DE89370400440532013000 ssn 078-05-1120."
    assert masker.mask(text) == "*" * 22 + " ssn ***********."
    assert [(hit.rule, hit.start) for hit in masker.find(text)] == [
        ("pattern:iban", 0),
        ("pattern:ssn", 27),
    ]
    assert Masker(patterns={"x": "a.c"}).mask("é a c") == "é ***"
    assert Masker(patterns={"x": r"a\sb"}).mask("a\nb a b") == "a\nb ***"  # never over a line end
    for pattern, reason in (
        ("((", "patterns.bad: "),
        ("x*", "matches nothing"),
        (r"(a)\1", "patterns.bad: "),
    ):
        with pytest.raises(MaskingError, match=reason):
            Masker(patterns={"bad": pattern})


def test_no_pattern_can_hang() -> None:
    pytest.importorskip("re2")
    start = time.monotonic()
    Masker(patterns={"bomb": "(a+)+b"}).mask("a" * 100_000)
    assert time.monotonic() - start < 5


def test_one_toml_table_holds_everything(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    file = tmp_path / "mask.toml"
    file.write_text(
        f"""
        [data.masking]
        kind = "first6_last4"
        packs = ["core", "uatp"]
        without = ["verve"]
        decode = ["default", "base64"]
        tracks = true
        sensitive = true
        uuids = "mask"
        confidence = "low"
        key_file = "{tmp_path}/key"
        allow = ["{Key(bytes(range(32))).digest("5555555555554444")}"]
        [data.masking.columns]
        order_no = "leave"
        """
    )
    masker = Masker.from_toml(file, "data.masking")
    text = f"{PAN} 5555555555554444, order_no=378282246310005 NDExMTExMTExMTExMTExMQ=="
    assert masker.mask(text) == (
        "411111******1111 5555555555554444, order_no=378282246310005 NDExMTExKioqKioqMTExMQ=="
    )


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ('knid = "last4"', r"masking.knid: there is no such key; did you mean kind\?"),
        ("kind = 4", "masking.kind: it takes a text"),
        ('packs = "core"', "masking.packs: it takes a list of texts"),
        ('tracks = "no"', "masking.tracks: it takes true or false"),
        ('columns = "cvv"', "masking.columns: it takes a table of texts"),
        ('columns = { cvv = "drop" }', "columns.cvv: there is no action 'drop'"),
        ('key_file = "a"\nkey_environment = "b"', "give one of them, not both"),
        ('key_file = "/nowhere/key"', "key file /nowhere/key: No such file"),
        ("kind = ", "Invalid value"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_key_and_reason(
    tmp_path: Path, table: str, reason: str
) -> None:
    file = tmp_path / "mask.toml"
    file.write_text("[masking]\n" + table)
    with pytest.raises(MaskingError, match=reason):
        Masker.from_toml(file)


def test_a_table_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "mask.toml"
    file.write_text("[other]\n")
    with pytest.raises(MaskingError, match=r"there is no table \[masking\]"):
        Masker.from_toml(file)
    with pytest.raises(MaskingError, match="No such file"):
        Masker.from_toml(tmp_path / "none.toml")
    assert Masker.from_mapping({"kind": "full"}).mask(PAN) == "*" * 16
