"""What the log says of an error that nobody expected: what it is and where it came from, none of its words.
They may have in them what somebody sent, a token too."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

log = logging.getLogger("pangate")

MOST_PLACES = 12


def report(what: str, wrong: BaseException) -> None:
    """Log it."""
    places = [
        f"{Path(one.filename).name}:{one.lineno} in {one.name}"
        for one in traceback.extract_tb(wrong.__traceback__)[-MOST_PLACES:]
    ]
    log.error("internal error in %s: %s at %s", what, type(wrong).__name__, " > ".join(places))
