"""Every code that the gateway records is in the table, and the documentation has the table."""

import re
from pathlib import Path

import pytest

from pangate.audit.codes import CODES, URGENT, URGENT_EFFECTS, reference
from pangate.errors import Refused
from pangate.model import EFFECTS

ROOT = Path(__file__).parents[3]
KINDS = sorted({code.partition(".")[0] for code in CODES})
CODE = re.compile(
    rf'(?:[Ee]vent|_record|_record_own|_by)\(\s*(?:person, origin, )?"((?:{"|".join(KINDS)})\.[a-z_]+)"'
)


def said():
    """The codes of events in the gateway's own files."""
    for path in (ROOT / "src" / "pangate").rglob("*.py"):
        if path.name not in ("codes.py", "afar.py"):  # that says what workers tell each other
            for found in CODE.findall(path.read_text()):
                yield found, path


def test_what_is_recorded_is_in_the_table():
    refusals = {kind.code for kind in Refused.__subclasses__()}
    others = {
        "approval.pending",
        "approval.denied",
        "approval.cancelled",
        "approval.changed",
    } | refusals
    unknown = {
        (code, path.name) for code, path in said() if code not in CODES and code not in others
    }
    files = ("css", "html", "jsonl", "pub", "rotations")
    names = {name for name, _ in unknown if name.partition(".")[2] not in files}
    names -= {"audit.retired"}  # of leaves that were taken away on purpose: the verifier reads it
    assert not names, unknown


def test_the_documentation_has_the_table():
    text = (ROOT / "docs" / "audit.md").read_text()
    assert reference() in text, "put what pangate.audit.codes.reference() gives into docs/audit.md"


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code(code):
    meaning, pci, urgent = CODES[code]
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", code)
    assert meaning
    assert not meaning.endswith(".")
    assert pci == "" or re.fullmatch(r"10\.2\.1\.[1-7]", pci)
    assert (code in URGENT) == urgent


def test_the_effects_that_are_urgent_are_all_but_these():
    assert {*EFFECTS} - URGENT_EFFECTS == {"read", "write", "session"}
