"""How a key hands over to the next one."""

from itertools import pairwise

import pytest

from pangate.errors import LedgerError
from pangate.ledger.note import COSIGNATURE, Signer
from pangate.ledger.rotation import Rotation, heirs, name_of, rotate

KEYS = [Signer("example.com/log", 1, bytes([number]) * 32) for number in range(1, 5)]
PUBLIC = [key.verifier for key in KEYS]


def test_a_rotation_is_read_as_it_was_written():
    made = rotate(KEYS[0], KEYS[1])
    assert Rotation.parse(made.text()) == made
    assert (made.old, made.new) == (PUBLIC[0], PUBLIC[1])


def test_who_knows_the_first_key_knows_all_that_followed():
    chain = [rotate(one, other) for one, other in pairwise(KEYS)]
    assert heirs(PUBLIC[:1], chain) == PUBLIC[1:]
    assert heirs(PUBLIC[1:2], chain) == PUBLIC[2:]
    assert heirs(PUBLIC, chain) == []
    assert heirs(PUBLIC[:1], chain[1:]) == [], "one is missing"
    assert heirs(PUBLIC[:1], chain * 2) == PUBLIC[1:]
    assert heirs([], chain) == []


def test_only_the_old_key_hands_over():
    good, other = rotate(KEYS[0], KEYS[1]), rotate(KEYS[2], KEYS[1])
    for by_old, by_new in (
        (other.by_old, good.by_new),
        (good.by_old, other.by_new),
        (bytes(64), good.by_new),
        (good.by_new, good.by_old),
        (b"", good.by_new),
    ):
        text = Rotation(good.old, good.new, by_old, by_new).text()
        with pytest.raises(LedgerError):
            Rotation.parse(text)


def test_what_is_no_rotation():
    stranger = Signer("example.com/other", 1, bytes([9]) * 32)
    witness = Signer("example.com/log", COSIGNATURE, bytes([9]) * 32)
    made = rotate(KEYS[0], KEYS[1]).text()
    for text in (
        "",
        made + " x",
        made.rpartition(" ")[0],
        made.replace("+", "-", 1),
        rotate(KEYS[0], stranger).text(),
        rotate(KEYS[0], KEYS[0]).text(),
        rotate(KEYS[0], witness).text(),
    ):
        with pytest.raises(LedgerError):
            Rotation.parse(text)


def test_the_name_of_a_key_never_reads_as_a_number():
    assert len(name_of(PUBLIC[0])) == 64
    assert name_of(PUBLIC[0]).isalpha()
