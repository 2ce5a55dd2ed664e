"""Names of sensitive data as keys in JSON and hstore, judged by the library's own reading of names and by
a plain walk over the parsed document."""

import json
import struct

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import oracle
import pgwire
from documents import documents as corpus
from pangate import _frame
from pangate.errors import LimitReached, ProtocolError
from pangate.masking import default_scanner
from pangate.masking.column import GLUED, SENSITIVE, Columns
from pangate.protocols.postgres.catalog import NameRules

SCANNER = default_scanner()
RULES = NameRules({"secret": "wipe"})
LIBRARY = Columns({"secret": "wipe"})
TEXT, JSON, JSONB, HSTORE = _frame.TEXT, _frame.op_of(114, 0), _frame.op_of(3802, 1), _frame.HSTORE

PARTS = [
    *SENSITIVE,
    *GLUED,
    "secret",
    "Cvv",
    "CVV",
    "card",
    "URL",
    "x",
    "2",
    "Pin",
    "code",
    "Security",
]
names = st.lists(
    st.sampled_from([*PARTS, "_", "-", ".", " ", "[", "]"]), min_size=1, max_size=5
).map("".join)


def mask(op: int, value: bytes, names: _frame.Names | None = RULES.names) -> tuple[int, bytes]:
    data = bytearray(value)
    hits = _frame.mask_cell(SCANNER, 0, op, data, None, names)
    assert len(data) == len(value)
    return hits, bytes(data)


@given(names, st.sampled_from([str, str.upper, str.title]))
def test_a_name_is_read_as_the_library_reads_it(name, change):
    name = change(name)
    assert RULES.names.find(name.encode()) == (LIBRARY.action(name) is not None)


SPELLED = "1200 \t\n.eE+-:abx\\\u3000\u200b\xa0\uff11\u0662\u0967\U0001d7cf\uff21\uff0e\u4e00\xb2"
codes = st.one_of(
    st.text(alphabet=SPELLED, max_size=8),
    st.text(alphabet="0123456789abcdefABCDEF :-", min_size=14, max_size=20),
    st.from_regex(r"[ \t]?[+-]?[0-9]{1,5}\.?[0-9]{0,3}(e[+-]?[0-9])?[ \n]?", fullmatch=True),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 10**6),
    st.integers(0, 10**5).map(float),
    st.floats(0, 10**5),
    st.text(alphabet='12ab"\\é', max_size=8),
    codes,
)
keys = st.one_of(
    st.sampled_from(["cvv", "cardCvv2", "pin", "cid", "track_data", "a", "x y", "secret"]), names
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12,
)


def wiped(value, name: str = ""):
    """The document as it should come out."""
    found = LIBRARY.action(name) if name else None
    if found and value is not None and not isinstance(value, bool):
        if isinstance(value, dict | list):
            return 0
        raw = json.dumps(value, ensure_ascii=False)
        inside = raw[1:-1] if isinstance(value, str) else raw
        said = value if isinstance(value, str) else inside
        if inside and (
            found[1] == _frame.ANY or oracle.says_code(said, pin=found[1] == _frame.PIN)
        ):
            return "*" * min(3, len(inside.encode())) if isinstance(value, str) else 0
    if isinstance(value, dict):
        return {key: wiped(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [wiped(one) for one in value]
    if isinstance(value, str):
        return oracle.mask(value.encode()).decode()
    assume(not oracle.find(json.dumps(value).encode()))
    return value


@given(documents, st.booleans(), st.sampled_from([None, 1]))
@example("3566000000252536", True, None)
def test_documents(document, ascii_only, indent):
    raw = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    _, out = mask(JSON, raw)
    assert unstarred(json.loads(out)) == unstarred(wiped(document))
    assert mask(JSONB, b"\1" + raw)[1] == b"\1" + out


def unstarred(value):
    """What is wiped has as many stars as it has room for, escapes and all."""
    if isinstance(value, str):
        return "*" if value and not value.strip("*") else value
    if isinstance(value, list):
        return [unstarred(one) for one in value]
    return {k: unstarred(v) for k, v in value.items()} if isinstance(value, dict) else value


@given(codes, st.sampled_from([_frame.CODE, _frame.PIN]))
@example("000.0", _frame.CODE)
@example("0.123e3", _frame.CODE)
@example("1e", _frame.CODE)
@example("0x", _frame.PIN)
@example("x1234", _frame.PIN)
@example("12345678901234567890e-10", _frame.PIN)
@example("12340e-99999999999999999999999", _frame.PIN)
@example("1e99999999999999999999999999", _frame.PIN)
def test_what_says_a_code(text, shape):
    says = oracle.says_code(text, pin=shape == _frame.PIN)
    assert _frame.fits(shape, text.encode()) == says
    escaped = json.dumps(text)[1:-1].encode()
    if "\\" not in text:
        assert _frame.fits(shape, escaped, escaped=True) == says
    assert not _frame.fits(shape, text.encode() + b" " * 257)


@given(st.binary(max_size=40), st.sampled_from([_frame.CODE, _frame.PIN]))
def test_bytes_that_are_no_text_are_looked_at_as_well(value, shape):
    for escaped in (False, True):
        for one in (value, b"\\u00" + value):
            assert _frame.fits(shape, one, escaped=escaped) in (True, False)


@given(
    st.binary(max_size=60),
    st.lists(st.sampled_from([b'"cvv"', b":", b'"', b"\\", b"{", b"[", b"1", b" "])),
)
def test_what_is_no_json_stays_in_its_bounds(junk, parts):
    value = junk + b"".join(parts)
    assert len(mask(JSON, value)[1]) == len(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'{"cvv": "123", "n": 5}', b'{"cvv": "***", "n": 5}'),
        (b'{"cvv": "1234"}', b'{"cvv": "***" }'),
        (b'{"cvv": 1234}', b'{"cvv": 0   }'),
        (b'{"cvv": [1, {"a": "]"}], "b": 1}', b'{"cvv": 0              , "b": 1}'),
        (b'{"cvv": null, "cvv2": true}', b'{"cvv": null, "cvv2": true}'),
        (rb'{"cvv\n": "123"}', rb'{"cvv\n": "***"}'),
        (rb'{"\u0063vv": "123"}', rb'{"\u0063vv": "***"}'),
        (b'{"%b\\u005fcvv": "123"}' % (b"x" * 200), b'{"%b\\u005fcvv": "***"}' % (b"x" * 200)),
        (b'{"pin": "110001 x", "pin2": 1}', b'{"pin": "110001 x", "pin2": 1}'),
        (b'{"pin": 4711.5, "cid": 12.0}', b'{"pin": 4711.5, "cid": 12.0}'),
        (b'{"cid": 12345.0, "pin": 1e13}', b'{"cid": 12345.0, "pin": 1e13}'),
        (b'{"cid": 1e3, "pin": 1.2e-3}', b'{"cid": 0  , "pin": 1.2e-3}'),
        (b'{"cid": "12-3", "pin": "-"}', b'{"cid": "12-3", "pin": "-"}'),
        (rb'{"cid": "12\\u0033"}', rb'{"cid": "12\\u0033"}'),  # no escape but a backslash
        (b'{"cid": "1%b23"}' % (b" " * 253), b'{"cid": "***"%b}' % (b" " * 253)),
        (
            b'{"cid": "1%b23"}' % (b" " * 254),
            b'{"cid": "1%b23"}' % (b" " * 254),
        ),  # too long for one
        (b'{"a": {"cvv":"9"}}', b'{"a": {"cvv":"*"}}'),
        (b'["cvv", "123"]', b'["cvv", "123"]'),
        (b'{"note": "cvv: \\"123\\""}', b'{"note": "cvv: \\"123\\""}'),
    ],
)
def test_values(value, shown):
    assert mask(JSON, value)[1] == shown
    json.loads(shown)
    assert mask(TEXT, value)[1] == shown, "in a column of text as well"
    assert mask(JSON, value, None)[1] == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'"cvv"=>"123", "n"=>"5"', b'"cvv"=>"***", "n"=>"5"'),
        (b'"n"=>"123", "cvv"=>"1234"', b'"n"=>"123", "cvv"=>"***" '),
        (b'"cvv"=>NULL, "cvv2"=>"123"', b'"cvv"=>NULL, "cvv2"=>"***"'),
        (b'"pin"=>"12 3"', b'"pin"=>"12 3"'),
        (b'"a\\"b cvv"=>"123"', b'"a\\"b cvv"=>"***"'),
        (b'"a"=>"", "%b cvv"=>"123"' % (b"x" * 80), b'"a"=>"", "%b cvv"=>"***"' % (b"x" * 80)),
        (b'"%b cvv"=>"123"' % (b"x" * 50), b'"%b cvv"=>"***"' % (b"x" * 50)),
        (b'"%b cvv"=>"123"' % (b"x" * 90), b'"%b cvv"=>"***"' % (b"x" * 90)),
        (b'"%b"=>"1", "cvv"=>"12"' % (b"x" * 63), b'"%b"=>"1", "cvv"=>"**"' % (b"x" * 63)),
        (b'"%b\n cvv"=>"123"' % (b"x" * 60), b'"%b\n cvv"=>"123"' % (b"x" * 60)),  # prose
        (b'"%b" cvv: 123' % (b"x" * 90), b'"%b" cvv: 123' % (b"x" * 90)),
        (b'"cvv": "123"', b'"cvv": "123"'),  # no more than a text that begins with a quote
        (b'"cvv" => "123" or so', b'"cvv" => "123" or so'),
    ],
)
def test_text_of_hstore(value, shown):
    assert mask(TEXT, value)[1] == shown
    assert mask(TEXT, value, None)[1] == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'{"cvv": "1', b'{"cvv": "*'),
        (b'{"cid": "123', b'{"cid": "***'),
        (b'{"cid": "1234', b'{"cid": "*** '),
        (b'{"cvv": "12345', b'{"cvv": "***" '),
        (b'{"cid": "12345', b'{"cid": "12345'),
        (b'{"cvv": nul, "cvv2": truer}', b'{"cvv": 0  , "cvv2": 0    }'),
        (b'{"cvv": nul', b'{"cvv": nul'),
        (b'{"cid": 12300', b'{"cid": 0    '),  # e-2 may follow
        (b'{"cid": 12345', b'{"cid": 12345'),
        (b'{"cid": "1\\"', b'{"cid": "1\\"'),
        (rb'{"cid": "12\u033x", "pin": "\u"}', rb'{"cid": "12\u033x", "pin": "\u"}'),
        (rb'{"cid": "12\u003', rb'{"cid": "***"   '),
        (b'{"cid": "12\xef\xbc', b'{"cid": "*** '),
        (b'{"cid": 12', b'{"cid": 0 '),
        (b'{"cid": 12, "a": 12', b'{"cid": 12, "a": 12'),
        (b'{"secret": "cvv": "123", "x": "y"}', b'{"secret": "***": "***", "x": "y"}'),
    ],
)
def test_what_is_cut_or_is_no_json(value, shown):
    assert mask(JSON, value)[1] == shown
    assert mask(TEXT, value)[1] == shown


@pytest.mark.parametrize("document", corpus(), ids=lambda document: document.name)
def test_corpus(document):
    """At once, and with a limit that is shorter than the long ones: there it may be refused as well."""
    _, value, gone = document
    for op in (TEXT, JSON):
        assert gone not in mask(op, value)[1]
        for padding in (b"", b" " * 5000):  # a document of any length is cut somewhere
            for limit, window in ((4096, 512), (1024, 64)):
                whole = pgwire.row(value + padding)
                for chunks in ([whole], [whole[i : i + 1] for i in range(len(whole))]):
                    shown, error = walked(op, chunks, limit, window)
                    assert gone not in shown[7:]
                    assert whole_or_refused(shown, error, op, value + padding, limit)


def walked(op: int, chunks: list[bytes], limit: int, window: int) -> tuple[bytes, str]:
    walker = _frame.Walker(SCANNER, limit, window)
    walker.names = RULES.names
    shown = b""
    try:
        for chunk in chunks:
            walker.load(chunk)
            assert walker.advance(_frame.Plan([op])) == 0
            shown += b"".join(map(bytes, walker.release()))
    except (LimitReached, ProtocolError) as wrong:
        return shown, str(wrong)
    return shown, ""


def whole_or_refused(shown: bytes, error: str, op: int, value: bytes, limit: int) -> bool:
    wanted = pgwire.row(mask(op, value)[1])
    if not error:
        return shown == wanted
    return "limits.max_message_bytes" in error and len(value) > limit and wanted.startswith(shown)


def test_hstore():
    def sized(*texts: bytes | None) -> bytes:
        return b"".join(
            struct.pack("!i", -1) if t is None else struct.pack("!i", len(t)) + t for t in texts
        )

    head = struct.pack("!i", 4)
    value = head + sized(b"cvv", b"1234", b"cvv2", None, b"a", b"1234", b"pin", b"1")
    shown = head + sized(b"cvv", b"****", b"cvv2", None, b"a", b"1234", b"pin", b"1")
    assert mask(HSTORE, value) == (1, shown)
    assert mask(HSTORE, value[:-1])[0] == -1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b";4111111111111111=25121010000012300000?", b";************1111=********************?"),
        (b"4111111111111111=2512101", b"************1111=*******"),
        (
            b"%B4111111111111111^DOE/JOHN^25121010000012300000?x",
            b"%B************1111^DOE/JOHN^********************?x",
        ),
        (
            b"%B4111111111111111^DOE/JOHN^2512101ABC 9?",
            b"%B************1111^DOE/JOHN^************?",
        ),
        (b"4111111111111111=251210 ", b"************1111=251210 "),  # too short for a track
        (b"id=4111111111111111&n=1234567", b"id=************1111&n=1234567"),
        (b"1234567890123456=2512101", b"1234567890123456=2512101"),  # no PAN
        (b"4111111111111111^x", b"************1111^x"),
    ],
)
def test_what_follows_a_pan_on_a_track(value, shown):
    assert mask(TEXT, value)[1] == shown
