import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

def places(
    data: Buffer, ends: npt.NDArray[np.uint8], points: npt.NDArray[np.uint8]
) -> tuple[list[int], list[int], list[int], list[int], list[int], list[int]]:
    """Offsets in bytes of what may be names, percent, slash, entity and plus signs, and digits and
    separators beyond ASCII.

    `ends` has shape (32768,): whether a name that has a rule may end in three letters. `points` has
    shape (131072,): 1 for code points that are digits, 2 for separators."""
