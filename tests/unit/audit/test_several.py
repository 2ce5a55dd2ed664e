"""The records of several processes read as one."""

from __future__ import annotations

from pathlib import Path

from pangate.audit.lines import MAX_LINE
from pangate.audit.several import last_sequence

EVENT = b'{"code":"query","sequence":%d,"session":"-"}\n'


def test_the_last_event_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for data, found in (
        (b"", 0),
        (EVENT % 1 + EVENT % 2, 2),
        (EVENT % 7 + b'{"sequence":8,"co', 7),
        (EVENT % 7 + b"\0" * 300_000, 7),
        (EVENT % 7 + EVENT.replace(b"query", b"x" * 3_000_000) % 8 + b"{", 8),
        (b"\0" * 5000 + EVENT % 9, 9),
    ):
        path.write_bytes(data)
        assert last_sequence(path) == found


def test_a_file_of_zeros_is_not_read_to_its_beginning(tmp_path: Path) -> None:
    """As one of which all is retired."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(EVENT % 7)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert last_sequence(path) == 0
    with path.open("r+b") as file:
        file.truncate(len(EVENT % 7) + MAX_LINE // 2)
    assert last_sequence(path) == 7
