"""Signed statements of a log about itself that are no checkpoints: lines of a key and its value in a fixed
order, below a first line that says what they are. None is one of another kind, nor a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pangate.errors import LedgerError
from pangate.ledger.note import ED25519, Signer, Verifier, open_note

TOMBSTONE = "pangate.dev/tombstone/v1"
HOLD = "pangate.dev/hold/v1"
EXPORT = "pangate.dev/export/v1"

KEYS: Mapping[str, tuple[str, ...]] = {
    TOMBSTONE: (
        *("origin", "first", "end", "tree", "oldest", "newest", "files", "list", "holds", "held"),
        *("keep_days", "time", "by"),
    ),
    HOLD: (
        *("origin", "entry", "before", "action", "name", "from", "to", "session", "principal"),
        *("reason", "time", "by"),
    ),
    EXPORT: ("origin", "bytes", "digest"),
}
"""The keys of each kind, in their order."""

NOTHING = "-"
"""The value that stands for none."""


def sign(kind: str, values: Mapping[str, object], signer: Signer) -> bytes:
    """The statement as a signed note. LedgerError for a value that is no line of text."""
    lines = [kind]
    for key in KEYS[kind]:
        value = str(values[key]) or NOTHING
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise LedgerError(f"{key} has a control character; write it in one line")
        lines.append(f"{key} {value}")
    return signer.sign_note("\n".join(lines) + "\n").encode()


def open_statement(kind: str, note: bytes, verifiers: Sequence[Verifier]) -> dict[str, str]:
    """The values of a statement of this kind that its own log has signed. Raises LedgerError."""
    body, signatures = open_note(note, verifiers)
    values = parse(kind, body)
    for one in signatures:
        if one.verifier.type == ED25519 and one.verifier.name == values["origin"]:
            return values
    raise LedgerError(f"it is a statement of {values['origin']}, which has not signed it")


def parse(kind: str, body: str) -> dict[str, str]:
    """The values in the text of a note. Raises LedgerError when it is not of this kind."""
    first, *lines = body[:-1].split("\n")
    keys = KEYS[kind]
    pairs = [line.partition(" ") for line in lines]
    if first != kind or [key for key, _, _ in pairs] != list(keys):
        raise LedgerError(f"it is no {kind}")
    values = {key: value for key, _, value in pairs}
    if not all(values.values()):
        raise LedgerError(f"a line of it has no value: {kind}")
    return values


def number(values: Mapping[str, str], key: str) -> int:
    """The whole number under `key`. LedgerError when it is none."""
    text = values[key]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise LedgerError(f"{key} is no whole number")
    return int(text)
