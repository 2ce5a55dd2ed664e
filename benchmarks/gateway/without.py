"""without.py PART[,PART...] COMMAND...: pangate with parts of it off, to see what each costs.

The gateway has no settings for this, and shall have none. So the parts are taken out of the program that is
measured: it is no gateway any more, and is never run for anything else.

    masking    every cell is passed as one that can hold no card number, and next to no issuer's range is known
    policy     every statement is allowed without a look at the rules
    record     no event is written; what is made by a form, without Python, is still made
    recording  what agents are sent is not recorded
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

from pangate import audit, gate, masking, service
from pangate._book import Written
from pangate._frame import SAFE
from pangate._scan import Scanner
from pangate.audit import Recorder
from pangate.cli import main
from pangate.config import Config
from pangate.masking.iin import compile_ranges, select
from pangate.model import Event, Verdict
from pangate.policy import Judge
from pangate.protocols.postgres import plans
from pangate.proxy import session


def masking_off() -> None:
    # one range is the least that there can be: one that is in no number of these tables
    visa = next(one for one in select() if one.network == "visa")
    blind = Scanner(compile_ranges((replace(visa, first="00000000", last="00000000"),)))
    for module in (masking, session):
        module.default_scanner = lambda: blind
    plans.op_of = lambda *_: SAFE


def policy_off() -> None:
    allow = Verdict("allow", "", "off")
    Judge.decide = lambda *_, **__: allow
    Judge.remembers = lambda *_: True


class Silent(Recorder):
    """Forgets events."""

    def record(self, event: Event, **_: object) -> int:
        return self.sequence


class Kept(Written):
    """The end of no file."""

    def append(self, leaves: object) -> int:
        return 0


class Nowhere:
    """A sink that keeps nothing, which is on no disk at once."""

    written = Kept(-1, 0, 0, 0)
    written.synced = 1 << 62

    last_sequence = repaired_bytes = 0
    synced_sequence = 1 << 62
    failure = ""

    def append(self, leaves: object) -> None:
        pass

    def sync(self, notice: Callable[[], None] | None = None) -> None:
        if notice is not None:
            notice()

    def close(self) -> None:
        pass


def record_off() -> None:
    def open_recorder(config: Config, *_: object, **__: object) -> Recorder:
        return Silent(Nowhere(), audit.leaf_encoder())

    service.open_recorder = open_recorder


def recording_off() -> None:
    gate.GateSession.begin_recording = lambda *_: None


PARTS: dict[str, Callable[[], None]] = {
    "masking": masking_off,
    "policy": policy_off,
    "record": record_off,
    "recording": recording_off,
}

if __name__ == "__main__":
    for part in sys.argv[1].split(","):
        PARTS[part]()
    sys.exit(main(sys.argv[2:]))
