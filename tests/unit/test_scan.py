"""The scanner's kernels against the plain definition in oracle.py."""

import csv
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import oracle
from pangate import _scan
from pangate.errors import MaskingError
from pangate.masking import DIGITS, KINDS, default_scanner
from pangate.masking.iin import Range, compile_ranges, networks, packs, select

TABLES = compile_ranges(select())
SCANNERS = {name: _scan.Scanner(TABLES, name) for name in _scan.kernels()}
EVERYTHING = select(packs())
ALL = _scan.Scanner(compile_ranges(EVERYTHING))
CORPUS = Path(__file__).parents[1] / "corpus" / "pan.csv"

PANS = [
    "4111111111111111",
    "4222222222222",
    "4000000000000000006",
    "5555555555554444",
    "2223000000000007",
    "378282246310005",
    "6011000990139424",
    "30569309025904",
    "3566002020360505",
    "8171999900000000021",
    "6703444444444449",
    "6799998900000099990",
    "2200000000000004",
    "9792030000000000",
    "5066991111111118",
    "6062826786276634",
    "501800000009",
]


def rows() -> list[dict[str, str]]:
    with CORPUS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def unescape(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


@pytest.mark.parametrize("kernel", SCANNERS)
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_corpus(kernel, row):
    data = unescape(row["input"])
    out = bytearray(data)
    SCANNERS[kernel].mask(out)
    assert bytes(out) == unescape(row["expected"]), row["why"]
    assert oracle.mask(data) == unescape(row["expected"])


alphabet = st.sampled_from(b"0123456789" * 4 + b"  --" + b"x*_\n\x00\xff")
noise = st.lists(alphabet, max_size=90).map(bytes)
spaced = st.tuples(st.sampled_from(PANS), st.integers(0, 5), st.sampled_from(" -")).map(
    lambda t: (
        t[0] if not t[1] else t[2].join(t[0][i : i + t[1]] for i in range(0, len(t[0]), t[1]))
    ).encode()
)
fields = st.lists(st.one_of(noise, spaced, spaced), max_size=6).map(b"".join)


@given(data=fields, kind=st.sampled_from(list(KINDS)))
@settings(max_examples=500, deadline=None)
def test_kernels_agree_with_the_oracle(data, kind):
    expected = oracle.mask(data, kind)
    hits = [(start, end, network) for start, end, network, _ in oracle.find(data)]
    for scanner in SCANNERS.values():
        out = bytearray(data)
        assert scanner.mask(out, KINDS[kind]) == len(hits)
        assert bytes(out) == expected
        assert [(s, e, scanner.networks[n]) for s, e, n in scanner.find(data)] == hits


@given(data=fields)
@settings(max_examples=300, deadline=None)
def test_all_packs_agree_with_the_oracle(data):
    out = bytearray(data)
    ALL.mask(out)
    assert bytes(out) == oracle.mask(data, ranges=EVERYTHING)


@pytest.mark.parametrize("kernel", SCANNERS)
def test_every_length_and_alignment(kernel):
    scanner = SCANNERS[kernel]
    rng = random.Random(11)
    arena = bytearray(512)
    for length in range(301):
        data = bytes(rng.choices(b"0123456789 -x", k=length))
        if length >= 16:
            at = rng.randrange(length - 15)
            data = data[:at] + b"4111111111111111" + data[at + 16 :]
        expected = oracle.mask(data)
        for offset in (0, 1, 7, 15, 31, 63, length % 64):
            arena[:] = b"4" * 512  # what stands around the field must neither join it nor change
            arena[offset : offset + length] = data
            scanner.mask(memoryview(arena)[offset : offset + length])
            assert arena[offset : offset + length] == expected
            assert arena[:offset] == b"4" * offset
            assert arena[offset + length :] == b"4" * (512 - offset - length)


@pytest.mark.parametrize("kernel", SCANNERS)
@pytest.mark.parametrize("border", [64, 128, 4096, 65536])
def test_around_borders(kernel, border):
    for pan in (
        b"4111111111111111",
        b"4111 1111 1111 1111",
        b"8-1-7-1-9-9-9-9-0-0-0-0-0-0-0-0-0-2-1",
    ):
        for shift in range(-45, 4):
            data = b"x" * (border + shift) + pan + b"x" * 80
            out = bytearray(data)
            assert SCANNERS[kernel].mask(out) >= 1
            assert out == oracle.mask(data)


@pytest.mark.parametrize("kernel", SCANNERS)
def test_random_bytes_and_long_chains(kernel):
    rng = random.Random(5)
    for weights in ([10, 1, 0], [10, 0, 0], [4, 4, 1], [1, 1, 4]):
        for _ in range(12):
            kinds = rng.choices(["d", "s", "o"], weights, k=3000)
            data = bytes(
                rng.choice(b"0123456789") if k == "d" else rng.choice(b" -") if k == "s" else 120
                for k in kinds
            )
            out = bytearray(data)
            SCANNERS[kernel].mask(out)
            assert out == oracle.mask(data)


@pytest.mark.parametrize("kernel", SCANNERS)
def test_runs_over_windows_and_lists(kernel):
    """A run is taken in windows of 1,024 bytes and listed by 4,096. Chains and groups go over both; blocks
    of separators alone stand in the middle of runs. Each PAN is found once."""
    rng = random.Random(17)
    scanner, everything = SCANNERS[kernel], _scan.Scanner(compile_ranges(EVERYTHING), kernel)
    gaps = [" ", "-", "--", " " * 60, "-" * 64, " " * 130, "x", "\n"]
    for joined in (
        0,
        30,
        300,
    ):  # groups that one separator joins, for each that something else does
        for _ in range(8):
            parts = []
            while sum(map(len, parts)) < 9000:
                kind = rng.randrange(12)
                if kind == 0:
                    parts.append(rng.choice(PANS))
                elif kind == 1:
                    parts.append("".join(rng.choices("0123456789", k=rng.choice([20, 64, 1100]))))
                else:
                    parts.append(
                        "".join(rng.choices("0123456789", k=rng.choice([1, 1, 2, 4, 4, 6])))
                    )
                parts.append(rng.choice("- ") if rng.randrange(joined + 1) else rng.choice(gaps))
            data = "".join(parts).encode()
            out = bytearray(data)
            expected = oracle.find(data)
            assert scanner.mask(out) == len(expected)
            assert out == oracle.mask(data)
            assert scanner.find(data) == [(s, e, networks().index(n)) for s, e, n, _ in expected]
            out = bytearray(data)
            assert everything.mask(out) == len(oracle.find(data, EVERYTHING))
            assert out == oracle.mask(data, ranges=EVERYTHING)


@given(data=fields, kind=st.sampled_from(list(KINDS.values())))
@settings(max_examples=300, deadline=None)
def test_digits_stay_digits_and_hide_every_pan(data, kind):
    out = bytearray(data)
    hits = default_scanner().mask(out, kind | DIGITS)
    assert len(out) == len(data)
    assert hits == len(oracle.find(data))
    changed = [i for i in range(len(data)) if out[i] != data[i]]
    assert all(48 <= out[i] <= 57 and 48 <= data[i] <= 57 for i in changed)
    if not hits:
        assert out == data


groups = st.text(st.sampled_from("0123456789" + "45630" * 3), min_size=1, max_size=8)
chains = st.lists(st.tuples(groups, st.sampled_from(" -")).map("".join), max_size=30).map(
    lambda parts: "".join(parts).encode()
)


@given(data=st.one_of(chains, fields), kind=st.sampled_from(list(KINDS.values())))
@example(data=b"48642 52800 44011790-5-60-8-3414065-059172-50", kind=KINDS["first6_last4"])
@settings(max_examples=300, deadline=None)
def test_digits_leave_nothing_that_looks_like_a_pan(data, kind):
    """Fillers join with what stands beside them, and overlapping numbers write over each other's."""
    for scanner in (*SCANNERS.values(), ALL):
        out = bytearray(data)
        scanner.mask(out, kind | DIGITS)
        assert scanner.find(out) == []


@pytest.mark.parametrize("kernel", SCANNERS)
def test_filling_with_digits_takes_time_by_the_length_of_a_chain(kernel):
    """One long chain; a step that looks at all of it for each digit would take hours."""
    data = bytearray(b"4111 1111 6 2 0 " * (1 << 14))
    SCANNERS[kernel].mask(data, DIGITS)
    assert SCANNERS[kernel].find(data) == []


@pytest.mark.parametrize("pan", PANS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_number_is_no_pan(pan, kind):
    out = bytearray(pan.encode())
    assert default_scanner().mask(out, KINDS[kind] | DIGITS) == 1
    assert out[0] != ord("0")
    assert default_scanner().find(out) == []
    strict = bytearray(pan.encode())
    ALL.mask(strict, KINDS[kind] | DIGITS)  # where some ranges go without the Luhn check
    assert ALL.find(strict) == []
    low, high = oracle.hidden(len(pan), kind, oracle.find(pan.encode())[0][2])
    assert out[:low] == pan[:low].encode()
    assert out[high:] == pan[high:].encode()


def test_json():
    scanner = default_scanner()
    text = (
        b'{"a\\"4111111111111111": [4111111111111111, "x\\u00344111111111111111\\u0020"], '
        b'"b": "4\\u003111111111111111", "c": 1.5}'
    )
    out = bytearray(text)
    assert scanner.mask_json(out) == 3
    assert len(out) == len(text)
    read = json.loads(out)
    assert list(read) == ['a"************1111', "b", "c"]
    assert isinstance(read['a"************1111'][0], int)
    assert read["b"] == "************1111"
    assert read['a"************1111'][1] == "x44111111111111111 "  # seventeen digits: no PAN


json_values = st.recursive(
    st.one_of(
        st.sampled_from(PANS),
        st.sampled_from(PANS).map(int),
        st.text(st.sampled_from('01234 -"\\é\n'), max_size=24),
        st.integers(0, 10**20),
        st.booleans(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from([*PANS, "k", "\\"]), inner, max_size=3),
    ),
    max_leaves=10,
)


def walk(value, string, number):
    if isinstance(value, dict):
        return {string(k): walk(v, string, number) for k, v in value.items()}
    if isinstance(value, list):
        return [walk(v, string, number) for v in value]
    if isinstance(value, str):
        return string(value)
    return value if isinstance(value, bool) else number(value)


@given(value=json_values, ascii_only=st.booleans())
@settings(max_examples=300, deadline=None)
def test_json_against_its_values(value, ascii_only):
    """Masking the text is masking every string and every number of the value."""

    def number(n: int) -> int:
        out = bytearray(str(n).encode())
        default_scanner().mask(out, DIGITS)
        return int(out)

    def string(s: str) -> str:
        return oracle.mask(s.encode()).decode()

    out = bytearray(json.dumps(value, ensure_ascii=ascii_only).encode())
    default_scanner().mask_json(out)
    assert json.loads(out) == walk(value, string, number)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_json_that_is_none_keeps_its_length(data):
    out = bytearray(data)
    default_scanner().mask_json(out)
    assert len(out) == len(data)


def test_fields_have_their_own_boundaries():
    scanner = default_scanner()
    buffer = bytearray(b"41111111" + b"11111111" + b"4111111111111111" + b"1")
    offsets = np.array([0, 8, 16, 32, 5], dtype=np.int64)
    lengths = np.array([8, 8, 16, 1, -1], dtype=np.int64)
    assert scanner.mask_fields(buffer, offsets, lengths) == 1
    assert buffer == b"4111111111111111************11111"
    for at, size in ((-1, 4), (0, -2), (30, 9), (99, 0)):
        with pytest.raises(MaskingError, match="outside"):
            scanner.mask_fields(buffer, np.array([at]), np.array([size]))
    with pytest.raises(MaskingError, match="lengths"):
        scanner.mask_fields(buffer, offsets, lengths[:2])


@given(
    parts=st.lists(
        st.one_of(noise, spaced, chains, st.sampled_from(PANS).map(str.encode)), max_size=9
    ),
    gap=st.sampled_from([b"", b"4", b"\0\0\0\x16", b"x" * 64]),
    kind=st.sampled_from(list(KINDS)),
    digits=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_fields_are_masked_as_if_each_were_alone(parts, gap, kind, digits):
    """With what stands around them, and at both ends of the buffer."""
    flags = KINDS[kind] | (DIGITS if digits else 0)
    offsets = np.cumsum([0, *(len(part) + len(gap) for part in parts)], dtype=np.int64)[:-1]
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    for scanner in SCANNERS.values():
        buffer = bytearray(gap.join(parts))
        alone = [bytearray(part) for part in parts]
        hits = sum(scanner.mask(part, flags) for part in alone)
        assert scanner.mask_fields(buffer, offsets, lengths, flags) == hits
        assert buffer == gap.join(alone)
        if not digits:
            assert [bytes(part) for part in alone] == [oracle.mask(part, kind) for part in parts]


def test_wrong_buffers():
    scanner = default_scanner()
    with pytest.raises((TypeError, BufferError)):
        scanner.mask(b"4111111111111111")
    with pytest.raises(TypeError):
        scanner.mask("4111111111111111")
    with pytest.raises(TypeError):
        scanner.find(12)
    assert scanner.mask_counted(bytearray(b"4111111111111111 378282246310005")) == {0: 1, 2: 1}


def test_many_hits_and_threads():
    data = b"4111111111111111\n" * 1000
    assert len(default_scanner().find(data)) == 1000
    buffers = [bytearray(data * 20) for _ in range(4)]
    threads = [threading.Thread(target=default_scanner().mask, args=(b,)) for b in buffers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(b == b"************1111\n" * 20000 for b in buffers)


@pytest.mark.parametrize("kernel", SCANNERS)
def test_every_sum_that_the_luhn_check_can_come_to(kernel):
    """Up to 170 and 171, which no real range reaches and random digits do not either; alone and in a chain,
    which are checked in different ways."""
    ranges = (Range("9", "9", frozenset(range(12, 20)), "visa", True, "core", ""),)
    scanner = _scan.Scanner(compile_ranges(ranges), kernel)
    for length in range(12, 20):
        for nines in range(1, length + 1):
            for last in "0123456789":
                number = ("9" * nines).ljust(length - 1, "0")[: length - 1] + last
                for text in (number, f"1 {number}", f"{number}-1"):
                    found = [(s, e) for s, e, _ in scanner.find(text.encode())]
                    assert found == [(s, e) for s, e, *_ in oracle.find(text.encode(), ranges)]


@pytest.mark.parametrize("name", [*_scan.kernels(), "", "mmx"])
def test_the_environment_chooses_the_kernel(name):
    """At import, so it is asked in another process; an empty name is none."""
    code = "from pangate import _scan, masking; print(_scan.kernel(), masking.default_scanner().kernel)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PANGATE_KERNEL": name},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if name == "mmx":
        assert done.returncode == 1
        assert "kernel 'mmx' cannot run on this machine" in done.stderr
        assert ", ".join(_scan.kernels()) in done.stderr
    else:
        chosen = done.stdout.split()
        assert chosen[0] == chosen[1]
        assert chosen[0] == name or (not name and chosen[0] in _scan.kernels())


def test_a_kernel_that_does_not_exist():
    with pytest.raises(MaskingError, match=r"mmx.*portable"):
        _scan.Scanner(TABLES, "mmx")
    assert _scan.kernel() in _scan.kernels()
    assert _scan.kernels()[0] == "portable"
    assert len(networks()) <= 32
