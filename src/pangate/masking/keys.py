"""The names of sensitive data as the kernels take them, for keys within JSON and hstore."""

from __future__ import annotations

from collections.abc import Iterable

from pangate import _frame
from pangate.masking.column import GLUED, SENSITIVE, words


def wiped_names(more: Iterable[str] = (), *, sensitive: bool = True) -> _frame.Names:
    """Names whose values are wiped: `more`, and those of sensitive authentication data unless `sensitive`
    is false."""
    shapes = {"_".join(words(name)): _frame.ANY for name in more}
    if sensitive:
        shapes |= {"_".join(words(name)): shape for name, shape in SENSITIVE.items()}
    return _frame.Names(shapes, GLUED if sensitive else ())
