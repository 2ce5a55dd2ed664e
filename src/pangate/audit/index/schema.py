"""The form of the index file."""

from __future__ import annotations

VERSION = 1
"""Of the form, and of what an event is found by. An index of another version is made anew."""

APPLICATION = 0x70676978
"""Says in the file's head that it is such an index."""

BLOCK_BITS = 13
BLOCK = 1 << BLOCK_BITS
"""Sequences that a block has."""

BITMAP_BYTES = BLOCK // 8
"""Bytes of a set that has a bit for each event of its block. A smaller set is a row of uint16 positions,
which is always shorter."""

KINDS = (
    "all",
    "entry",
    "code",
    "principal",
    "role",
    "resource",
    "address",
    "session",
    "verdict",
    "effect",
    "table",
    "network",
    "rule",
    "request",
    "error",
    "success",
    "day",
    "place",
    "masked_at",
    "word",
)
"""What a term can be; its number is its place here. `all` is every event, `entry` every one that is not told
with another: how a statement ended is told with the statement. `place` is a resource and a table of it,
`masked_at` one where a card number was masked. `word` is a word that many events of a full block have:
`words` has all of them too, and would count a common one out event by event."""

KIND = {name: number for number, name in enumerate(KINDS)}

SCHEMA = """
create table meta (key text primary key, value) without rowid;
create table terms (
    id integer primary key, kind integer not null, value text not null, first integer not null
) strict;
create unique index terms_by_value on terms (kind, value);
create table postings (
    term integer not null, block integer not null, bits blob not null, counts blob,
    primary key (term, block)
) without rowid, strict;
create table blocks (
    block integer primary key, earliest integer not null, latest integer not null,
    times blob not null, offsets blob not null, ended blob not null
) strict;
create table running (session text not null, statement integer not null, sequence integer not null,
    places text not null, primary key (session, statement)) without rowid, strict;
create table samples (sequence integer primary key, text text not null) strict;
create virtual table words using fts5 (
    text, content = '', columnsize = 0, tokenize = "unicode61 remove_diacritics 0 tokenchars '_'"
);
"""
"""`first` of a term is the sequence of the first event that has it. `times` are microseconds since 1970,
`offsets` bytes of the record's file (-1 for none), `ended` how many events behind its statement the one is
that says how it ended (0 for none): zlib over numpy arrays of BLOCK numbers. `running` are statements that
have not ended, `samples` texts of the block that is not full. `counts` are card numbers masked, of a
network's terms, one for each event in `bits`."""
