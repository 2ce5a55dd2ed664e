"""Signed notes and their keys: C2SP signed-note, and the cosignatures of witnesses (tlog-cosignature,
version 1). Both are Ed25519; keys have the text forms of Go's sumdb/note."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pangate.errors import LedgerError

ED25519 = 1
"""Type of a key that signs the text of a note."""

COSIGNATURE = 4
"""Type of a witness's key, which signs the text of a checkpoint and the time."""

MAX_SIGNATURES = 64
MAX_NOTE_BYTES = 1 << 20

_PRIVATE = "PRIVATE+KEY+"
_NAME = re.compile(r"[^\s+]+")
_KEY_ID = re.compile("[0-9a-f]{8}")
_DASH = "— "


class UnknownSigner(LedgerError):
    """None of the signatures of a note is by a key that is known."""


@dataclass(frozen=True, slots=True)
class Line:
    """A signature line: what its key is called, the key's id, and the bytes of the signature."""

    name: str
    key_id: int
    signature: bytes

    def text(self) -> str:
        """The line as it stands in a note, with its newline."""
        data = self.key_id.to_bytes(4) + self.signature
        return f"{_DASH}{self.name} {base64.b64encode(data).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Line:
        """The signature in a line without its newline. Raises LedgerError."""
        words = text.split(" ")
        if len(words) != 3 or words[0] != "—" or not _NAME.fullmatch(words[1]):
            raise LedgerError("a signature line is a dash, a name and a signature in base64")
        data = decode_base64(words[2])
        if len(data) < 5:
            raise LedgerError(f"the signature of {words[1]} is too short")
        return cls(words[1], int.from_bytes(data[:4]), data[4:])


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that holds. `time` is when a witness saw the checkpoint, in seconds since 1970;
    None for a signature without a time."""

    verifier: Verifier
    time: int | None


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key. `type` is ED25519 or COSIGNATURE; equal keys of unequal types are two."""

    name: str
    type: int
    public: bytes

    @property
    def key_id(self) -> int:
        """The number that stands in front of this key's signatures."""
        material = self.name.encode() + b"\n" + bytes([self.type]) + self.public
        return int.from_bytes(sha256(material).digest()[:4])

    def text(self) -> str:
        """The key as name+id+base64 (a "vkey")."""
        data = base64.b64encode(bytes([self.type]) + self.public).decode()
        return f"{self.name}+{self.key_id:08x}+{data}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """The key that `text` has in the form name+id+base64. Raises LedgerError."""
        text = text.strip()
        if text.startswith(_PRIVATE):
            raise LedgerError("this is a private key where the public one belongs")
        name, key_id, type_, public = _split_key(text)
        verifier = cls(name, type_, public)
        if f"{verifier.key_id:08x}" != key_id:
            raise LedgerError(f"the public key of {name} does not have the id {key_id}")
        try:
            Ed25519PublicKey.from_public_bytes(public)
        except ValueError:
            raise LedgerError(f"the public key of {name} is no Ed25519 key") from None
        return verifier

    def verify(self, body: str, line: Line) -> Signature | None:
        """What `line` says about the note with the text `body`, or None when it does not hold."""
        signature, time, message = line.signature, None, body.encode()
        if self.type == COSIGNATURE:
            if len(signature) != 72 or signature[0] & 0x80:
                return None
            time = int.from_bytes(signature[:8])
            signature, message = signature[8:], cosigned(body, time)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return None
        return Signature(self, time)


class Signer:
    """A private key. Its text never appears in a message or a representation."""

    def __init__(self, name: str, type_: int, seed: bytes) -> None:
        if not _NAME.fullmatch(name):
            raise LedgerError('the name of a key has no spaces and no "+"')
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(name, type_, self._key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"Signer({self.verifier.text()})"

    @classmethod
    def generate(cls, name: str, type_: int = ED25519) -> Signer:
        """A new key."""
        return cls(name, type_, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_private(cls, text: str) -> Signer:
        """The key that `text` has in the form PRIVATE+KEY+name+id+base64. Raises LedgerError."""
        text = text.strip()
        if not text.startswith(_PRIVATE):
            raise LedgerError(f"a private key begins with {_PRIVATE}")
        name, key_id, type_, seed = _split_key(text.removeprefix(_PRIVATE))
        signer = cls(name, type_, seed)
        if f"{signer.verifier.key_id:08x}" != key_id:
            raise LedgerError(f"the private key of {name} does not have the id {key_id}")
        return signer

    def private_text(self) -> str:
        """The key as PRIVATE+KEY+name+id+base64. A secret."""
        verifier = self.verifier
        data = base64.b64encode(bytes([verifier.type]) + self._seed).decode()
        return f"{_PRIVATE}{verifier.name}+{verifier.key_id:08x}+{data}"

    def sign(self, body: str, time: int = 0) -> Line:
        """The signature line for a note with the text `body`; `time` is for a witness's key."""
        if self.verifier.type == COSIGNATURE:
            signature = time.to_bytes(8) + self._key.sign(cosigned(body, time))
        else:
            signature = self._key.sign(body.encode())
        return Line(self.verifier.name, self.verifier.key_id, signature)

    def sign_note(self, body: str) -> str:
        """A whole note with one signature."""
        return f"{_checked_body(body)}\n{self.sign(body).text()}"


def cosigned(body: str, time: int) -> bytes:
    """What a witness signs: the checkpoint and when it saw it."""
    return f"cosignature/v1\ntime {time}\n{body}".encode()


def parse_note(text: bytes) -> tuple[str, tuple[Line, ...]]:
    """The text of a note and its signature lines, none of which is verified. Raises LedgerError."""
    if len(text) > MAX_NOTE_BYTES:
        raise LedgerError(f"a note has at most {MAX_NOTE_BYTES} bytes")
    try:
        whole = text.decode()
    except UnicodeDecodeError as error:
        raise LedgerError(f"the note is no UTF-8 at byte {error.start}") from None
    if re.search(r"[\x00-\x09\x0b-\x1f]", whole):
        raise LedgerError("the note has a control character")
    body, separator, signatures = whole.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise LedgerError("a note is a text, an empty line, and lines that end in a newline")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise LedgerError(f"a note has at most {MAX_SIGNATURES} signatures here")
    return _checked_body(body + "\n"), tuple(Line.parse(line) for line in lines)


def open_note(text: bytes, verifiers: Sequence[Verifier]) -> tuple[str, tuple[Signature, ...]]:
    """The text of a note and the signatures on it that are by `verifiers`.

    Raises UnknownSigner when there is none of these, and LedgerError when one of them does not
    hold, and for what is no note."""
    body, lines = parse_note(text)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    found = []
    for line in lines:
        verifier = known.get((line.name, line.key_id))
        if verifier is None:
            continue
        signature = verifier.verify(body, line)
        if signature is None:
            raise LedgerError(f"the signature of {line.name} ({line.key_id:08x}) does not hold")
        found.append(signature)
    if not found:
        names = ", ".join(f"{line.name} ({line.key_id:08x})" for line in lines)
        raise UnknownSigner(f"it is signed by {names}, and by no key that was given")
    return body, tuple(found)


def decode_base64(text: str) -> bytes:
    """The bytes of `text` in the only way in which base64 writes them. Raises LedgerError."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise LedgerError("base64 was expected") from None
    if base64.b64encode(data).decode() != text:
        raise LedgerError("base64 was expected, and this has bits left over")
    return data


def _split_key(text: str) -> tuple[str, str, int, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    if not _NAME.fullmatch(name) or not _KEY_ID.fullmatch(key_id) or not encoded:
        raise LedgerError("a key has the form name+id+base64, the id in 8 hexadecimal digits")
    data = decode_base64(encoded)
    if len(data) != 33 or data[0] not in (ED25519, COSIGNATURE):
        raise LedgerError(
            f"the key of {name} is of a type that is not known here: Ed25519 is type {ED25519}, "
            f"a witness's Ed25519 {COSIGNATURE}"
        )
    return name, key_id, data[0], data[1:]


def _checked_body(body: str) -> str:
    if not body.endswith("\n"):
        raise LedgerError("the text of a note ends in a newline")
    return body
