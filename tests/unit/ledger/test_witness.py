"""The witness's answers, one by one as C2SP's tlog-witness has them."""

import pytest

import ledgers
from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint, open_checkpoint
from pangate.ledger.note import COSIGNATURE, Signer
from pangate.ledger.proof import consistency_proof
from pangate.ledger.tiles import hash_reader, tile_path
from pangate.ledger.witness import Submission, Witness

LEAVES = ledgers.events(600)
FORK = [*LEAVES[:20], ledgers.event(21, text="another"), *LEAVES[21:]]
KEY = Signer("witness.example", COSIGNATURE, bytes(32))


def proof_of(leaves, old, new):
    files = ledgers.tiles_of(leaves[:new])

    def read(level, index):
        start = tile_path(level, index)
        return next(data for path, data in files.items() if path.startswith(start))

    return tuple(consistency_proof(hash_reader(read), old, new))


def submission(old, new, leaves=LEAVES, **changes):
    made = {
        "old": old,
        "proof": proof_of(leaves, min(old, new), new),
        "note": ledgers.note_of(leaves[:new]),
        **changes,
    }
    return Submission(**made).text()


class Kept(dict):
    def keep(self, origin, note):
        self[origin] = note


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def witness(kept):
    return Witness(KEY, {ledgers.ORIGIN: ledgers.KEYS}, kept.get, kept.keep)


def test_it_cosigns_what_grows(witness, kept):
    known = 0
    for size in (0, 1, 255, 256, 300, 300, 600):
        text = submission(known, size)
        answer = witness.add_checkpoint(text, 1_700_000_000 + size)
        assert answer.status == 200, answer
        note = ledgers.note_of(LEAVES[:size]) + answer.body
        checkpoint, signatures = open_checkpoint(note, [*ledgers.KEYS, KEY.verifier])
        assert checkpoint.size == size == witness.latest(ledgers.ORIGIN).size
        assert [item.time for item in signatures] == [None, 1_700_000_000 + size]
        known = size
    assert open_checkpoint(kept[ledgers.ORIGIN], [KEY.verifier])[0].size == 600


def test_it_says_what_it_has(witness):
    assert witness.add_checkpoint(submission(0, 300), 1).status == 200
    for old, new in ((0, 300), (0, 600), (200, 600), (299, 300), (400, 600)):
        answer = witness.add_checkpoint(submission(old, new), 1)
        assert answer == (409, "text/x.tlog.size", b"300\n")


def test_it_refuses_to_be_rolled_back(witness):
    assert witness.add_checkpoint(submission(0, 300), 1).status == 200
    assert witness.add_checkpoint(submission(200, 250), 1).body == b"300\n"
    assert witness.add_checkpoint(submission(300, 250), 1).status == 400
    assert witness.latest(ledgers.ORIGIN).size == 300


def test_it_refuses_a_fork(witness):
    assert witness.add_checkpoint(submission(0, 300), 1).status == 200
    assert witness.add_checkpoint(submission(300, 300, FORK), 1).status == 409
    assert witness.add_checkpoint(submission(300, 600, FORK), 1).status == 422
    assert witness.add_checkpoint(submission(300, 600, proof=()), 1).status == 422
    assert witness.add_checkpoint(submission(300, 600), 1).status == 200


def test_it_wants_an_empty_proof_where_there_is_nothing_to_prove(witness):
    assert witness.add_checkpoint(submission(0, 5, proof=(bytes(32),)), 1).status == 422
    assert witness.add_checkpoint(submission(0, 5), 1).status == 200
    assert witness.add_checkpoint(submission(5, 5, proof=(bytes(32),)), 1).status == 422
    empty = Checkpoint(ledgers.ORIGIN, 0, bytes(32)).body()
    other = Witness(KEY, {ledgers.ORIGIN: ledgers.KEYS}, {}.get, dict.__setitem__)
    text = submission(0, 0, note=ledgers.SIGNER.sign_note(empty).encode())
    assert other.add_checkpoint(text, 1).status == 409


def test_whom_it_does_not_know(witness):
    stranger = Signer.generate("stranger")
    note = ledgers.note_of(LEAVES, stranger, "stranger")
    assert witness.add_checkpoint(submission(0, 600, note=note), 1).status == 404
    note = ledgers.note_of(LEAVES, Signer.generate(ledgers.ORIGIN))
    assert witness.add_checkpoint(submission(0, 600, note=note), 1).status == 403
    note = ledgers.note_of(LEAVES).replace(b"\n600\n", b"\n599\n")
    assert witness.add_checkpoint(submission(0, 600, note=note), 1).status == 403


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"old 0\n",
        b"old 00\n\n" + ledgers.note_of(LEAVES),
        b"old -1\n\n" + ledgers.note_of(LEAVES),
        b"new 0\n\n" + ledgers.note_of(LEAVES),
        b"old 0\nAAAA\n\n" + ledgers.note_of(LEAVES),
        b"old 0\n" + b"A" * 43 + b"=\n" * 64 + b"\n" + ledgers.note_of(LEAVES),
        b"old 0\n\xff\n\n" + ledgers.note_of(LEAVES),
        b"old 0\n\nno note",
    ],
)
def test_what_is_no_submission(witness, text):
    assert witness.add_checkpoint(text, 1).status == 400


def test_the_form_of_a_submission():
    made = Submission(17, (bytes(32), bytes(range(32))), b"the note")
    assert made.text().startswith(b"old 17\nAAAA")
    assert Submission.parse(made.text()) == made
    assert Submission(0, (), b"n").text() == b"old 0\n\nn"


def test_a_witness_has_a_key_of_its_own_type():
    with pytest.raises(LedgerError, match="keygen --witness"):
        Witness(ledgers.SIGNER, {}, {}.get, dict.__setitem__)
