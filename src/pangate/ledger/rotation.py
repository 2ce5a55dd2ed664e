"""A key hands over to the next one: a statement that both have signed. With it, who knows the first key of a
log knows all that followed."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from pangate.errors import LedgerError
from pangate.ledger.letters import letters
from pangate.ledger.note import ED25519, Line, Signer, Verifier, decode_base64


@dataclass(frozen=True, slots=True)
class Rotation:
    """From `old` to `new`, with the signatures of both."""

    old: Verifier
    new: Verifier
    by_old: bytes
    by_new: bytes

    def text(self) -> str:
        """One line without its newline: both keys and both signatures."""
        signed = (base64.b64encode(one).decode() for one in (self.by_old, self.by_new))
        return " ".join((self.old.text(), self.new.text(), *signed))

    @classmethod
    def parse(cls, text: str) -> Rotation:
        """The rotation that `text` writes, whose signatures hold. Raises LedgerError."""
        words = text.split(" ")
        if len(words) != 4:
            raise LedgerError("a rotation is two public keys and two signatures")
        old, new = map(Verifier.parse, words[:2])
        found = cls(old, new, *map(decode_base64, words[2:]))
        if old.name != new.name or {old.type, new.type} != {ED25519} or old == new:
            raise LedgerError("a rotation is from one key of a log to another one of the same name")
        body = _body(old, new)
        for key, signature in ((old, found.by_old), (new, found.by_new)):
            if key.verify(body, Line(key.name, key.key_id, signature)) is None:
                raise LedgerError(f"the rotation to {new.text()} is not signed by {key.text()}")
        return found


def rotate(old: Signer, new: Signer) -> Rotation:
    """`old` hands over to `new`."""
    body = _body(old.verifier, new.verifier)
    return Rotation(old.verifier, new.verifier, old.sign(body).signature, new.sign(body).signature)


def heirs(known: Sequence[Verifier], rotations: Iterable[Rotation]) -> list[Verifier]:
    """The keys that those of `known` handed over to, one after the other, that are not among them."""
    found: list[Verifier] = []
    for rotation in rotations:
        if rotation.old in (*known, *found) and rotation.new not in (*known, *found):
            found.append(rotation.new)
    return found


def name_of(key: Verifier) -> str:
    """What a public key is called in an event: the SHA-256 of its text, in letters."""
    return letters(sha256(key.text().encode()).digest())


def _body(old: Verifier, new: Verifier) -> str:
    return f"pangate key rotation\n{old.text()}\n{new.text()}\n"
