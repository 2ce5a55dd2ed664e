"""The house rules that are tests: imports go down the floors, the lower floors know no sockets, plug points
know no siblings, and importing the library imports no gateway."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pangate"
EXTENSIONS = Path(__file__).parents[1] / "ext" / "pangate"

FLOORS = (
    {"_scan", "_frame", "_text", "_shape", "_leaf", "_again", "_book", "_gather", "errors"},
    {"model", "sql", "ledger", "masking"},
    {"protocols", "policy", "config"},
    {"store"},
    {"auth", "approvals", "audit", "credentials", "logs", "metrics", "question"},
    {"gate"},
    {"_wire"},
    {"_tls", "_pump"},
    {"proxy", "control", "evidence"},
    {"embedded", "issuer", "trial", "demo", "service"},
    {"cli", "approvals_cli", "audit_cli", "mask_cli", "policy_cli"},
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
SOCKETS = {"asyncio", "socket", "ssl", "uvloop", "sqlite3", "selectors", "socketserver", "http"}

PLUG_POINTS = ("protocols", "auth", "audit", "masking", "approvals.channels")
"""Folders whose files are implementations that import no sibling. In `masking` the rules rest on what
pan.py and iin.py say, which are no rules."""

SHARED = {
    "masking": {"iin", "pan", "hit", "tokens"},
    "audit": {
        "recorded",
        "reader",
        "anchors",
        "clock",
        "codes",
        "events",
        "marks",
        "shelf",
        "syncer",
        "syslog",
        "lines",
        "tombstones",
        "holds",
        "signing",
    },
}

COMPOSED = {
    "audit": {"retention", "export", "verify", "several"},
    "masking": {
        "masker",
        "stream",
        "structure",
        "array",
        "arrow",
        "logfilter",
        "rules",
        "tokens",
        "keys",
    },
}
"""Files of such a folder that put its rules together, so that they know them."""


def modules() -> list[tuple[str, Path]]:
    """Every module of the package as (dotted name below pangate, path)."""
    found = []
    for path in sorted([*SOURCE.rglob("*.py"), *SOURCE.rglob("*.pyi")]):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append((name, path))
    return found


def imports(path: Path, *, typing_too: bool = True) -> set[str]:
    """Absolute names of what a file imports, relative imports being none of ours. What stands under
    `if TYPE_CHECKING` counts unless `typing_too` is false."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if not typing_too:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped.update(inner for part in node.body for inner in ast.walk(part))
    names = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_extension_modules_import_the_ground_floor_or_what_sends():
    for path in EXTENSIONS.glob("*.p[yx][xd]"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"], ["cimport"]) and words[1].startswith("pangate"):
                target = words[1].split(".")[1]
                below = FLOOR[target] == 0 or (FLOOR[path.stem], target) == (FLOOR["_tls"], "_wire")
                assert below, f"{path.name}: {line}"


def test_every_module_has_a_floor():
    heads = {name.partition(".")[0] for name, _ in modules()} - {"", "__main__"}
    assert heads <= set(FLOOR), f"no floor: {sorted(heads - set(FLOOR))}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value))
def test_imports_go_down(name, path):
    head = name.partition(".")[0]
    allowed = FLOOR.get(head, FLOOR["masking"])  # the package itself is the library: masking only
    for imported in imports(path, typing_too=path.suffix != ".pyi"):
        if not imported.startswith("pangate."):
            continue
        target = imported.split(".")[1]
        if target == head or target not in FLOOR:
            continue
        assert FLOOR[target] <= allowed, f"{name} (floor {allowed}) imports {imported}"
        if FLOOR[target] == allowed and head:
            # across is allowed only towards what is plainly below: words, and the trial's own parts
            assert (head, target) in ACROSS, f"{name} imports {imported} across its floor"


ACROSS = {
    ("_frame", "_scan"),
    ("_again", "_frame"),
    ("_book", "_leaf"),
    ("_gather", "_leaf"),
    ("_leaf", "_frame"),
    ("_leaf", "_scan"),
    ("masking", "model"),
    ("sql", "model"),
    ("config", "policy"),
    ("config", "protocols"),
    ("trial", "embedded"),
    ("trial", "issuer"),
    ("demo", "embedded"),
    ("demo", "issuer"),
    ("demo", "trial"),
    ("cli", "mask_cli"),
    ("cli", "audit_cli"),
    ("cli", "policy_cli"),
}


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value))
def test_the_lower_floors_know_no_sockets(name, path):
    head = name.partition(".")[0]
    if FLOOR.get(head, 1) > 2:
        return
    found = {imported.partition(".")[0] for imported in imports(path)} & SOCKETS
    assert not found, f"{name} imports {found}"


@pytest.mark.parametrize("folder", PLUG_POINTS)
def test_plug_points_import_no_sibling(folder):
    for name, path in modules():
        if not name.startswith(folder + "."):
            continue
        own = name.removeprefix(f"{folder}.").split(".")[0]
        if own in COMPOSED.get(folder, set()):
            continue
        for imported in imports(path):
            if not imported.startswith(f"pangate.{folder}."):
                continue
            sibling = imported.removeprefix(f"pangate.{folder}.").split(".")[0]
            is_module = any(
                other == f"{folder}.{sibling}" or other.startswith(f"{folder}.{sibling}.")
                for other, _ in modules()
            )
            known = sibling == own or sibling in SHARED.get(folder, set())
            assert known or not is_module, f"{name} imports its sibling {imported}"
