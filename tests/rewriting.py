"""The same SQL in other words: comments, quoting, case, escapes and whitespace that change nothing."""

from __future__ import annotations

import re

from hypothesis import strategies as st

TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*\*/)|(?P<string>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")*")
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<space>\s+)|(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
TRICKY = re.compile(
    r"""\\|\$|[uUeE]&?['"]|/\*|--|[^\x00-\x7f]|\bcopy\b.*\bprogram\b""", re.IGNORECASE
)
"""What can be written in other words only by somebody who understands it."""

NAMES = {
    "cards",
    "notes",
    "shout",
    "id",
    "note",
    "t",
    "v",
    "pg_read_file",
    "pg_terminate_backend",
    "dblink",
}
SPACES = st.sampled_from(
    [" ", "\n", "\t", "/**/", "/* ' */", "--x'\n", "  ", "/* /* ; */ */", "\f"]
)


def rewritten(data: st.DataObject, sql: str) -> str:
    """`sql` written otherwise."""
    written = []
    for token in TOKEN.finditer(sql):
        text = token[0]
        if token["space"]:
            # libpg_query takes no comment between words that PostgreSQL reads as one (WITH ORDINALITY,
            # NOT IN): that is a syntax error here, and so the worst case
            pair = written and written[-1].lower() in ("with", "not", "nulls")
            text = " " if pair else data.draw(SPACES)
        elif token["word"]:
            how = data.draw(st.sampled_from("=uUrq"))
            if how == "q" and text.lower() in NAMES:
                text = data.draw(
                    st.sampled_from(
                        [
                            f'"{text.lower()}"',
                            f'U&"\\00{ord(text[0].lower()):02x}{text[1:].lower()}"',
                        ]
                    )
                )
            elif how != "=":
                text = "".join(c.upper() if data.draw(st.booleans()) else c.lower() for c in text)
        elif token["string"]:
            inside = text[1:-1].replace("''", "'")
            how = data.draw(st.sampled_from(["=", "e", "x", "u", "d"]))
            escaped = inside.replace("'", "\\'")
            # dollar quotes glue themselves to a word in front of them
            text = {
                "=": text,
                "e": f" E'{escaped}'",
                "x": " e'" + "".join(f"\\x{ord(c):02x}" for c in inside) + "'",
                "u": " U&'" + "".join(f"\\{ord(c):04x}" for c in inside) + "'",
                "d": f" $q${inside}$q$ ",
            }[how]
        written.append(text)
    return "".join(written)
