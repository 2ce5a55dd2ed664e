"""Signed notes, keys, checkpoints, cosignatures and proof files, by the published examples."""

import pytest

from pangate.errors import LedgerError
from pangate.ledger.checkpoint import Checkpoint, open_checkpoint
from pangate.ledger.letters import from_letters, letters
from pangate.ledger.note import (
    COSIGNATURE,
    Signer,
    UnknownSigner,
    Verifier,
    open_note,
    parse_note,
)
from pangate.ledger.proof import Proof

# The example in the documentation of Go's golang.org/x/mod/sumdb/note.
GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_NOTE = (
    f"{GO_TEXT}\n"
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The example of the C2SP signed-note specification.
SPEC_PUBLIC = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


def test_the_example_of_go():
    signer = Signer.from_private(GO_PRIVATE)
    assert signer.verifier.text() == GO_PUBLIC
    assert signer.private_text() == GO_PRIVATE
    assert signer.sign_note(GO_TEXT) == GO_NOTE
    body, signatures = open_note(GO_NOTE.encode(), [Verifier.parse(GO_PUBLIC)])
    assert body == GO_TEXT
    assert [(item.verifier.name, item.time) for item in signatures] == [("PeterNeumann", None)]


def test_the_example_of_the_specification():
    verifier = Verifier.parse(SPEC_PUBLIC)
    body, _ = open_note(SPEC_NOTE.encode(), [verifier])
    assert body == "This is an example message.\n"


def test_a_private_key_is_not_shown():
    signer = Signer.from_private(GO_PRIVATE)
    assert GO_PRIVATE.rpartition("+")[2] not in repr(signer)
    assert GO_PUBLIC in repr(signer)


def test_any_changed_byte_of_a_note_shows():
    data = GO_NOTE.encode()
    verifier = Verifier.parse(GO_PUBLIC)
    for position in range(len(data)):
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(data)
            changed[position] ^= flip
            with pytest.raises(LedgerError):
                open_note(bytes(changed), [verifier])
        with pytest.raises(LedgerError):
            open_note(data[:position] + data[position + 1 :], [verifier])
        with pytest.raises(LedgerError):
            open_note(data[:position], [verifier])


def test_a_key_of_the_same_name_is_another_key():
    other = Signer.generate("PeterNeumann")
    with pytest.raises(UnknownSigner, match=r"signed by PeterNeumann \(c74f20a3\), and by no key"):
        open_note(GO_NOTE.encode(), [other.verifier])
    both = GO_NOTE + other.sign(GO_TEXT).text()
    _, signatures = open_note(both.encode(), [other.verifier])
    assert [item.verifier for item in signatures] == [other.verifier]
    forged = GO_NOTE + Signer.from_private(GO_PRIVATE).sign("else\n").text()
    with pytest.raises(LedgerError, match=r"PeterNeumann \(c74f20a3\) does not hold"):
        open_note(forged.encode(), [Verifier.parse(GO_PUBLIC)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\n\n", "no UTF-8"),
        (b"a\tb\n\n\xe2\x80\x94 n AAAAAAA=\n", "control character"),
        (b"text\n", "a text, an empty line"),
        (b"text\n\n\xe2\x80\x94 n AAAAAAA=", "a text, an empty line"),
        (b"text\n\n- n AAAAAAA=\n", "a dash, a name"),
        (b"text\n\n\xe2\x80\x94 n AAAA\n", "too short"),
        (b"text\n\n\xe2\x80\x94 n AAAAAAB=\n", "bits left over"),
        (b"text\n\n\xe2\x80\x94 n+m AAAAAAA=\n", "a dash, a name"),
    ],
)
def test_what_is_no_note(text, message):
    with pytest.raises(LedgerError, match=message):
        parse_note(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PeterNeumann+c74f20a4+" + GO_PUBLIC.rpartition("+")[2], "does not have the id c74f20a4"),
        ("PeterNeumann", "form name"),
        ("PeterNeumann+C74F20A3+" + GO_PUBLIC.rpartition("+")[2], "8 hexadecimal digits"),
        ("PeterNeumann+c74f20a3+AhoA", "not known here"),
        (GO_PRIVATE, "private key where the public one belongs"),
    ],
)
def test_what_is_no_public_key(text, message):
    with pytest.raises(LedgerError, match=message):
        Verifier.parse(text)


def test_what_is_no_private_key():
    with pytest.raises(LedgerError, match="begins with PRIVATE"):
        Signer.from_private(GO_PUBLIC)
    with pytest.raises(LedgerError, match="does not have the id 00000000"):
        Signer.from_private(GO_PRIVATE.replace("c74f20a3", "00000000"))
    with pytest.raises(LedgerError, match="no spaces"):
        Signer.generate("two words")


def test_checkpoints():
    checkpoint = Checkpoint("example.com/log", 12, bytes(range(32)))
    assert checkpoint.body() == (
        "example.com/log\n12\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    )
    assert Checkpoint.parse(checkpoint.body()) == checkpoint
    longer = Checkpoint("a", 0, bytes(32), ("x", "y"))
    assert Checkpoint.parse(longer.body()) == longer


@pytest.mark.parametrize(
    "body",
    [
        "",
        "a\n1\n",
        "a\n01\n" + "A" * 43 + "=\n",
        "a\n-1\n" + "A" * 43 + "=\n",
        "a\n1\nAAAA\n",
        "a\n1\n" + "A" * 43 + "=",
        "\n1\n" + "A" * 43 + "=\n",
        "a\n1\n" + "A" * 43 + "=\n\n",
        "a\n9" + "9" * 19 + "\n" + "A" * 43 + "=\n",
    ],
)
def test_what_is_no_checkpoint(body):
    with pytest.raises(LedgerError):
        Checkpoint.parse(body)


def test_a_witness_signs_the_time_too():
    log, witness = Signer.generate("log"), Signer.generate("witness", COSIGNATURE)
    checkpoint = Checkpoint("log", 3, bytes(32))
    line = witness.sign(checkpoint.body(), 1679315147)
    note = log.sign_note(checkpoint.body()) + line.text()
    verifiers = [log.verifier, Verifier.parse(witness.verifier.text())]
    opened, signatures = open_checkpoint(note.encode(), verifiers)
    assert opened == checkpoint
    assert [(item.verifier.name, item.time) for item in signatures] == [
        ("log", None),
        ("witness", 1679315147),
    ]
    data = bytearray(line.signature)
    data[7] += 1  # a second later
    late = type(line)(line.name, line.key_id, bytes(data))
    assert witness.verifier.verify(checkpoint.body(), late) is None


def test_the_two_types_of_one_key_do_not_mix():
    seed = bytes(range(32))
    plain, cosigner = Signer("n", 1, seed), Signer("n", COSIGNATURE, seed)
    assert plain.verifier.key_id != cosigner.verifier.key_id
    assert Signer.from_private(cosigner.private_text()).verifier == cosigner.verifier
    assert cosigner.verifier.verify("text\n", plain.sign("text\n")) is None


def test_proof_files():
    note = (
        Signer.from_private(GO_PRIVATE).sign_note(Checkpoint("log", 9, bytes(32)).body()).encode()
    )
    made = Proof(b"the leaf", 7, (bytes(32), bytes(range(32))), note)
    text = made.text()
    assert text.startswith(b"c2sp.org/tlog-proof@v1\nextra dGhlIGxlYWY=\nindex 7\nAAAA")
    assert text.endswith(b"=\n\n" + note)
    assert Proof.parse(text) == made
    assert Proof.parse(Proof(b"", 0, (), note).text()) == Proof(b"", 0, (), note)
    for wrong in (
        text.replace(b"@v1", b"@v2"),
        text.replace(b"index 7", b"index 07"),
        text.replace(b"AAAA", b"AAA", 1),
        text.partition(b"\n\n")[0],
        b"c2sp.org/tlog-proof@v1\n\n" + note,
    ):
        with pytest.raises(LedgerError):
            Proof.parse(wrong)


def test_letters_have_no_digits():
    assert letters(bytes([0x00, 0x9A, 0xFF])) == "aajkpp"
    assert from_letters("aajkpp") == bytes([0x00, 0x9A, 0xFF])
    for wrong in ("a", "aq", "00", "AA"):
        with pytest.raises(LedgerError):
            from_letters(wrong)
