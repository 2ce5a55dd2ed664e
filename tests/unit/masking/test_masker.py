"""The masker against the oracle, its kinds, and what it leaves alone."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from pangate import Key, Masker, MaskingError

KEY = Key(bytes(range(32)))
PLAIN = {"decode": (), "tracks": False, "sensitive": False, "uuids": "mask"}
PANS = ["4111111111111111", "5555555555554444", "378282246310005", "6011000990139424", "4222222222222",
        "8171999900000000021", "501800000009"]  # fmt: skip
TEXT = st.lists(
    st.one_of(
        st.sampled_from(PANS),
        st.sampled_from(list("0123456789 --  x,\n")),
        st.sampled_from(["4111 ", "1111"]),
    ),
    max_size=40,
).map("".join)


@pytest.mark.parametrize("kind", ["last4", "first6_last4", "first8_last4", "full"])
@given(TEXT)
@settings(max_examples=150, deadline=None)
def test_the_scanner_alone_masks_what_the_oracle_masks(kind: str, text: str) -> None:
    masker = Masker(kind, **PLAIN)
    assert masker.mask(text).encode() == oracle.mask(text.encode(), kind)


@given(TEXT)
@settings(max_examples=200, deadline=None)
def test_all_rules_together_mask_at_least_that(text: str) -> None:
    masked = Masker().mask(text).encode()
    expected = oracle.mask(text.encode())
    assert len(masked) == len(expected)
    assert all(ours == 42 for ours, theirs in zip(masked, expected, strict=True) if theirs == 42)


@given(TEXT)
@settings(max_examples=200, deadline=None)
def test_find_tells_the_hits_of_the_oracle_and_never_a_pan(text: str) -> None:
    hits = Masker(**PLAIN).find(text)
    assert {(h.start, h.end, h.network) for h in hits} == {
        h[:3] for h in oracle.find(text.encode())
    }
    masked = oracle.mask(text.encode()).decode()
    for hit in hits:
        assert hit.masked == masked[hit.start : hit.end]  # also where another PAN overlaps it


def test_no_hit_tells_a_pan_by_the_name_of_its_rule() -> None:
    masker = Masker(columns={"secret": "wipe"})
    for text, rule in (
        ("4111111111111111_cvv=123", "column:cvv"),
        ('{"4111-1111-1111-1111.cardCvv2": "123"}', "column:cvv2"),
        ("4111111111111111mycvv=123", "column:cvv"),
        ("4111111111111111_secret=x", "column:secret"),
    ):
        hits = masker.find(text)
        assert rule in {hit.rule for hit in hits}
        assert not oracle.find(repr(hits).encode())


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("last4", "4111 1111 1111 1111", "**** **** **** 1111"),
        ("first6_last4", "4111 1111 1111 1111", "4111 11** **** 1111"),
        ("first8_last4", "4111111111111111", "41111111****1111"),
        ("first8_last4", "5555555555554444", "55555555****4444"),
        ("first8_last4", "378282246310005", "378282*****0005"),  # Amex: never more than 6 and 4
        ("first8_last4", "8171999900000000021", "817199*********0021"),  # 19 digits
        ("first8_last4", "2200000000000004", "220000******0004"),  # Mir is not of the five
        ("first6_last4", "4222222222222", "*********2222"),  # 13 digits
        ("full", "4111-1111-1111-1111", "****-****-****-****"),
        ("digits", "4111111111111111", "1000000000001111"),
        ("token", "4111 1111 1111 1111.", "tok_hialfancpkdjhomobhbkbehlbnogdbce."),
        ("fpe", "4111 1111 1111 1111", "4111 1178 8767 1111"),
        ("fpe", "378282246310005", "661442739220005"),
    ],
)
def test_the_kinds(kind: str, text: str, expected: str) -> None:
    masker = Masker(kind, key=KEY if kind in ("token", "fpe") else None)
    assert masker.mask(text) == expected
    assert masker.mask(text.encode()) == expected.encode()


@pytest.mark.parametrize("kind", ["digits", "token", "fpe"])
@given(TEXT)
@settings(max_examples=150, deadline=None)
def test_what_takes_the_place_of_a_lone_pan_is_not_found_again(kind: str, text: str) -> None:
    masker = Masker(kind, key=None if kind == "digits" else KEY)
    for pan in PANS:
        assert not oracle.find(masker.mask(f"{text[:1].strip('0123456789 -')}{pan}").encode())
    masked = masker.mask(text)
    if kind == "token":  # letters cannot join with what stands beside them
        assert not oracle.find(masked.encode())


def test_where_pans_overlap_the_likeliest_gets_the_token_and_the_rest_stars() -> None:
    text = "4111111111111111 18"  # 16 digits and 18
    assert len(oracle.find(text.encode())) == 2
    assert Masker("token", key=KEY).mask(text) == "tok_hialfancpkdjhomobhbkbehlbnogdbce **"
    assert Masker().mask(text) == "**************11 18"


def test_the_types() -> None:
    masker = Masker()
    for value in ("4111111111111111", b"4111111111111111", bytearray(b"4111111111111111")):
        masked = masker.mask(value)
        assert type(masked) is type(value)
        assert masked in ("************1111", b"************1111")
    original = bytearray(b"4111111111111111")
    masker.mask(original)
    assert original == b"4111111111111111"
    assert masker.mask(memoryview(b"x 4111111111111111")[2:]) == b"************1111"
    assert masker.mask("\ud800 4111111111111111") == "\ud800 ************1111"
    for wrong in (None, True, object(), iter("4111111111111111"), ["x", object()]):
        with pytest.raises(TypeError):
            masker.mask(wrong)
    for wrong in (7, None, ["4111111111111111"]):
        with pytest.raises(TypeError):
            masker.find(wrong)


def test_mask_into() -> None:
    buffer = bytearray(b'{"n":4111111111111111,"cvv":123,"s":"4111111111111111"}')
    assert Masker().mask_into(buffer, "json") == 3
    assert json.loads(buffer) == {"n": 1000000000001111, "cvv": 0, "s": "************1111"}
    part = bytearray(b"4111111111111111 4111111111111111x")
    assert Masker().mask_into(memoryview(part)[17:33]) == 1
    assert part == b"4111111111111111 ************1111x"
    for wrong in (b"4111111111111111", "4111111111111111", memoryview(bytearray(40))[::2], 7,
                  memoryview(bytearray(16)).cast("I")):  # fmt: skip
        with pytest.raises(TypeError):
            Masker().mask_into(wrong)
    with pytest.raises(MaskingError, match="changes lengths"):
        Masker("token", key=KEY).mask_into(bytearray(40))


def test_json_stays_json() -> None:
    document = {
        "n": 4111111111111111,
        "s": "4111 1111 1111 1111",
        "list": [5555555555554444, -378282246310005, 4111111111111111.0, 1.5],
        "pin": "1234",
        "cvv2": 99,
        "nested": {"security_code": {"value": "123", "x": [1]}},
        "t": True,
    }
    for kind in ("last4", "first6_last4", "full", "digits", "token", "fpe"):
        masked = Masker(kind, key=KEY if kind in ("token", "fpe") else None).mask(
            json.dumps(document), "json"
        )
        loaded = json.loads(masked)
        assert not oracle.find(masked.encode())
        assert loaded["pin"] == "***"
        assert loaded["cvv2"] == 0
        assert loaded["nested"] == {"security_code": {"value": "***", "x": [0]}}
        assert loaded["t"] is True
        assert loaded["list"][-1] == 1.5


def test_a_uuid_is_left_alone_unless_it_could_be_a_number() -> None:
    inside = "id 41111111-1111-4107-8111-11111111111a end"
    assert oracle.find(inside.encode())
    assert Masker().mask(inside) == inside
    assert Masker(uuids="mask").mask(inside) != inside
    for text in ("41111111-1111-4107-8111-111111111111",  # no letter
                 "41111111-1111-0105-8111-11111111111a",  # no version
                 "x-41111111-1111-4107-8111-11111111111a"):  # fmt: skip
        assert Masker().mask(text) != text
    beside = "4111111111111111 41111111-1111-4107-8111-11111111111a"
    assert Masker().mask(beside).startswith("************1111")


def test_allowed_numbers_are_left_and_only_these() -> None:
    masker = Masker(allow=[KEY.digest("4111111111111111")], key=KEY)
    text = "4111 1111 1111 1111, 5555555555554444"
    assert masker.mask(text) == "4111 1111 1111 1111, ************4444"
    assert [hit.network for hit in masker.find(text)] == ["mastercard"]
    assert masker.mask(4111111111111111) == 4111111111111111
    with pytest.raises(MaskingError, match="needed"):
        Masker(allow=[KEY.digest("4111111111111111")])
    with pytest.raises(MaskingError, match="not a digest") as caught:
        Masker(allow=["4111111111111111"], key=KEY)
    assert "4111111111111111" not in str(caught.value)


def test_confidence() -> None:
    def of(text: str) -> str:
        return Masker().find(text)[0].confidence

    assert of("card: 4111111111111111") == "high"
    assert of("4111 1111 1111 1111") == "medium"
    assert of("x4111111111111111") == "low"
    assert of("41 11111111111111") == "low"
    sure = Masker(confidence="medium")
    assert sure.mask("x4111111111111111 y") == "x4111111111111111 y"
    assert sure.mask("4111111111111111") == "************1111"


def test_packs_and_networks_are_switched() -> None:
    assert Masker().mask("135410014004955") == "135410014004955"
    assert Masker(packs=["core", "uatp"]).mask("135410014004955") == "***********4955"
    assert Masker(without=["visa", "elo"]).mask("4111111111111111") == "4111111111111111"


@pytest.mark.parametrize(
    ("settings_", "error", "reason"),
    [
        ({"kind": "lats4"}, MaskingError, "kind: there is no 'lats4'"),
        ({"kind": "token"}, MaskingError, "needs a key"),
        ({"kind": "fpe", "key": b"x" * 32}, TypeError, "a pangate.Key, not bytes"),
        ({"uuids": "yes"}, MaskingError, "uuids: 'yes'"),
        ({"confidence": "sure"}, MaskingError, "confidence: 'sure'"),
        ({"packs": ["cor"]}, MaskingError, "pack 'cor'"),
        ({"without": "visa"}, TypeError, "without: a list"),
        ({"columns": {"cvv": "drop"}}, MaskingError, "columns.cvv: there is no action 'drop'"),
        ({"columns": {"__": "wipe"}}, MaskingError, "neither letters nor digits"),
    ],
)
def test_a_setting_that_cannot_be_used_is_an_error(
    settings_: dict[str, object], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        Masker(**settings_)  # type: ignore[arg-type]


def test_one_masker_serves_many_threads() -> None:
    masker = Masker("fpe", key=KEY)
    expected = masker.mask("a 4111111111111111 b")
    wrong: list[str] = []

    def work() -> None:
        for _ in range(200):
            masked = masker.mask("a 4111111111111111 b")
            if masked != expected:
                wrong.append(masked)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
