import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

class Look:
    """What is looked for, made once. Safe to share between threads.

    `ends` has shape (32768,): whether a name that has a rule may end in three letters. `points` has
    shape (131072,): 1 for code points that are digits, 2 for separators. ValueError when a shape is
    another."""

    def __init__(self, ends: npt.NDArray[np.uint8], points: npt.NDArray[np.uint8]) -> None: ...
    def places(
        self, data: Buffer
    ) -> tuple[list[int], list[int], list[int], list[int], list[int], list[int], bool]:
        """Offsets in bytes of what may be names, percent, slash, entity and plus signs, and digits and
        separators beyond ASCII, as six lists, which are not to be changed; then whether there is a byte 0, or
        a `;` or `^` that may be a track's."""
