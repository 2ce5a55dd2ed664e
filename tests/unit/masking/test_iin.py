"""The issuer table and the automaton made of it."""

import csv
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from pangate import _scan
from pangate.errors import MaskingError
from pangate.masking.iin import (
    Range,
    _range,
    compile_ranges,
    networks,
    packs,
    ranges,
    select,
)

CORE = select()
SCANNER = _scan.Scanner(compile_ranges(CORE))


def test_the_core_has_every_network_that_is_on_by_default():
    assert {r.network for r in CORE} == {
        "visa", "mastercard", "amex", "discover", "diners", "jcb", "unionpay",
        "maestro", "mir", "rupay", "verve", "troy", "elo", "hipercard",
    }  # fmt: skip
    assert packs()[0] == "core"
    assert all(r.luhn for r in CORE)


def test_packs_and_networks_are_switches():
    assert any(r.network == "uatp" for r in select(("core", "uatp")))
    assert not any(r.network == "visa" for r in select(without=("visa",)))
    for wrong in ({"with_packs": ("nope",)}, {"without": ("nope",)}, {"with_packs": ()}):
        with pytest.raises(MaskingError):
            select(**wrong)


@given(st.integers(10**7, 10**8 - 1), st.integers(12, 19), st.sampled_from([0, 1, 2]))
def test_the_automaton_says_what_the_table_says(prefix, length, filler):
    digits = str(prefix) + str(filler) * (length - 8)
    for check in "0123456789":
        candidate = digits[:-1] + check
        known = oracle.issuer(candidate, CORE)
        hits = SCANNER.find(candidate.encode())
        if known and oracle.luhn(candidate):
            assert [SCANNER.networks[n] for _, _, n in hits] == [known[0]]
        else:
            assert hits == []


def test_every_range_is_found_at_both_its_ends():
    for r in ranges():
        scanner = _scan.Scanner(compile_ranges((r,)))
        for prefix in (r.first, r.last):
            for length in r.lengths:
                body = prefix + "0" * (length - len(prefix) - 1)
                pan = next(body + d for d in "0123456789" if oracle.luhn(body + d))
                assert len(scanner.find(pan.encode())) == 1
        outside = str(int(r.last) + 1).zfill(len(r.last))[-len(r.last) :] + "0" * 12
        assert not any(scanner.find((outside[:15] + d).encode()) for d in "0123456789") or (
            outside.startswith("0")
        )


def test_prefixes_are_few_and_exact():
    r = Range("2221", "2720", frozenset({16}), "mastercard", True, "core", "")
    prefixes = list(r.prefixes())
    assert len(prefixes) < 40
    covered = {p for p in range(1000, 10000) if any(str(p).startswith(x) for x in prefixes)}
    assert covered == set(range(2221, 2721))
    assert list(Range("4", "4", frozenset({16}), "visa", True, "core", "").prefixes()) == ["4"]


def test_tables_have_their_shapes():
    tables = compile_ranges(CORE)
    assert tables.next.dtype == np.uint16
    assert tables.next.shape[1] == tables.issuers.shape[1] == 10
    assert len(tables.next) == len(tables.issuers)
    assert tables.next.max() < len(tables.next)
    assert tables.networks == networks()


def test_the_file_has_no_line_twice_and_a_source_for_each():
    text = files("pangate.masking").joinpath("iin.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    keys = [(r["prefix_from"], r["prefix_to"], r["network"], r["pack"]) for r in rows]
    assert len(keys) == len(set(keys))
    assert all(r["source"] for r in rows)


GOOD = {
    "prefix_from": "51", "prefix_to": "55", "lengths": "16", "network": "mastercard",
    "luhn": "required", "pack": "core", "source": "x",
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"prefix_from": "5a"},
        {"prefix_to": "5"},
        {"prefix_from": "99"},
        {"luhn": "maybe"},
        {"lengths": ""},
        {"lengths": "11"},
        {"lengths": "16-20"},
        {"lengths": "x"},
        {"prefix_from": "123456789", "prefix_to": "123456789"},
    ],
)
def test_a_wrong_line(change):
    assert _range(GOOD).network == "mastercard"
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the reason, whatever it is
        _range(GOOD | change)
