"""Documents with names of sensitive data in them that came out once, or could have:
`corpus/documents.csv`.

`gone` must be nowhere in what comes out. In `document`, words in braces stand for what is long or is not
seen."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).parent / "corpus" / "documents.csv"

WORDS = {
    "{LONG}": "words; " * 1500,
    "{SIGNS}": "/" * 6000,
    "{ESCAPES}": "\\n" * 3000,
    "{BLANKS}": " " * 62,
    "{TAB}": "\t",
    "{CR}": "\r",
    "{MARK}": "\ufeff",
    "{WIDE}": "\u3000",
    "{HIDDEN}": "\u200b",
}
"""Of them BLANKS end with the second byte before those by which a document is told."""


class Document(NamedTuple):
    name: str
    value: bytes
    gone: bytes


def documents() -> list[Document]:
    """The corpus."""
    found = []
    with CORPUS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = row["document"]
            for word, meaning in WORDS.items():
                text = text.replace(word, meaning)
            assert row["gone"] in text, row["name"]
            found.append(Document(row["name"], text.encode(), row["gone"].encode()))
    return found
