from pangate._frame import Names
from pangate._scan import Scanner

def is_whole(line: bytes) -> bool: ...
def sequence_of(line: bytes) -> int: ...

class Form:
    """The leaf of an event that comes again, all but what differs."""

    def __len__(self) -> int: ...

class Encoder:
    """Makes leaves of events. For one thread. See _leaf.pyx."""

    def __init__(self, scanner: Scanner, names: Names) -> None: ...
    def encode(self, event: object, sequence: int, time: float, clock: str) -> bytes: ...
    def encode_value(self, value: object) -> bytes: ...
    def form(self, event: object, holes: tuple[str, ...]) -> Form: ...
    def fill(
        self,
        form: Form,
        sequence: int,
        time: float,
        clock: str,
        statement: int,
        values: tuple[object, ...],
    ) -> bytes: ...
