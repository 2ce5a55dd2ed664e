"""Masking of numpy arrays: columns of integers and of texts of a fixed width, without a Python object for
each value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from pangate.errors import MaskingError

if TYPE_CHECKING:
    from pangate.masking.masker import Masker

_WIDTH = 20  # digits of the largest uint64
_BLOCK = 1 << 16  # values at a time, so that the memory taken is bounded
_LEAST, _MOST = 10**11, 10**19  # of numbers that have 12 to 19 digits
_POWERS = np.array([10**i for i in range(_WIDTH)], dtype=np.uint64)


def mask(masker: Masker, value: Any) -> Any:
    """A masked copy of an array or a numpy scalar; the value itself where it cannot hold a PAN. Arrays of
    objects are masked one by one. TypeError for a type that cannot be masked."""
    if isinstance(value, np.generic):
        if value.dtype.kind in "iuf":
            masked = mask(masker, np.array([value]))
            return masked[0]
        if value.dtype.kind in "bmM":
            return value
        return masker.mask(value.item())
    if not isinstance(value, np.ndarray):
        raise TypeError(f"mask does not know how to mask {type(value).__name__}; convert it first")
    if isinstance(value, np.ma.MaskedArray):
        return np.ma.MaskedArray(mask(masker, value.data), np.ma.getmaskarray(value))
    kind = value.dtype.kind
    if value.dtype.names:
        copied = value.copy()
        for name in value.dtype.names:
            copied[name] = _column(masker, name, value[name])
        names = tuple(masker.mask(name) for name in value.dtype.names)
        if names != value.dtype.names:  # a PAN as the name of a field
            copied.dtype.names = _unlike(names)
        return copied
    if kind == "O":
        from pangate.masking.structure import mask_value

        flat = mask_value(masker, list(value.flat))
        objects = np.empty(len(flat), dtype=object)
        objects[:] = flat
        return objects.reshape(value.shape)
    if kind in "SU" and masker.kind == "token":
        return _one_by_one(masker, value)
    copied = np.array(value, order="C", copy=True)
    if mask_into(masker, copied) is None:
        masker.mask_into(copied.reshape(-1).view(np.uint8).data)
    return copied


def mask_into(masker: Masker, value: npt.NDArray[Any]) -> int | None:
    """Mask an array in place; None when it is one of bytes. Returns the number of PANs, or of values
    changed where they are not masked by the scanner alone."""
    if not value.flags.writeable:
        raise TypeError("mask_into needs a writable array; mask() returns a masked copy")
    kind, size = value.dtype.kind, value.dtype.itemsize
    if size == 1 and kind in "iu":
        return None
    if kind in "bmM" or (kind in "iu" and size < 8) or (kind == "f" and size < 8):
        return 0  # too small for 12 digits
    if not value.flags.c_contiguous or not value.dtype.isnative:
        copied = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
        done = mask_into(masker, copied)
        value[...] = copied
        return done
    flat = value.reshape(-1)
    if kind in "iu":
        return _integers(masker, flat)
    if kind == "f" and size == 8:
        return _floats(masker, flat)
    if kind in "SU":
        return _texts(masker, flat)
    raise TypeError(f"an array of type {value.dtype} cannot be masked in place; mask() may copy it")


def _column(masker: Masker, name: str, value: npt.NDArray[Any]) -> Any:
    if masker.columns.action(name) is None:
        return mask(masker, value)
    from pangate.masking.structure import by_name

    return np.array([by_name(masker, name, one) for one in value.tolist()], dtype=value.dtype)


def _unlike(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those that have become alike told apart."""
    seen: list[str] = []
    for name in names:
        same = (f"{name} ({i})" for i in range(2, len(names) + 2))
        seen.append(name if name not in seen else next(one for one in same if one not in seen))
    return tuple(seen)


def _integers(masker: Masker, flat: npt.NDArray[Any]) -> int:
    found = 0
    for low in range(0, len(flat), _BLOCK):
        block = flat[low : low + _BLOCK]
        negative = block < 0
        size = block.astype(np.uint64)
        size[negative] = ~size[negative] + np.uint64(1)
        large = np.flatnonzero((size >= _LEAST) & (size < _MOST))
        if not len(large):
            continue
        if not masker.integers_alike:
            for i in large.tolist():
                number = masker.mask_integer(int(block[i]))
                found += number != block[i]
                block[i] = number
            continue
        masked, hits = _masked(masker, size[large])
        if hits:
            found += hits
            signed = masked.astype(block.dtype)
            block[large] = np.where(
                negative[large], -signed if flat.dtype.kind == "i" else signed, signed
            )
    return found


def _masked(masker: Masker, numbers: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], int]:
    """Numbers of 12 to 19 digits masked, and how many PANs were among them."""
    rows = np.empty((len(numbers), _WIDTH), dtype=np.uint8)
    rest = numbers.copy()
    ten = np.uint64(10)
    for place in range(_WIDTH - 1, -1, -1):
        higher = rest // ten
        rows[:, place] = rest - higher * ten
        rest = higher
    rows += 48
    lengths = np.searchsorted(_POWERS, numbers, side="right").astype(np.int64)
    offsets = np.arange(1, len(numbers) + 1, dtype=np.int64) * _WIDTH - lengths
    hits = masker.mask_fields(rows, offsets, lengths, numbers=True)
    if not hits:
        return numbers, 0
    # uint64 wraps where the first place is not 0, but a number of 20 digits never comes here
    values: npt.NDArray[np.uint64] = (rows - 48).astype(np.uint64) @ _POWERS[::-1]
    return values, hits


def _floats(masker: Masker, flat: npt.NDArray[Any]) -> int:
    found = 0
    for low in range(0, len(flat), _BLOCK):
        block = flat[low : low + _BLOCK]
        with np.errstate(invalid="ignore"):
            large = (np.abs(block) >= _LEAST) & (np.abs(block) < 2.0**63)
        places = np.flatnonzero(large)
        numbers = block[places].astype(np.int64)
        before = numbers.copy()
        hits = _integers(masker, numbers)
        if hits:
            found += hits
            changed = numbers != before
            behind = block[places[changed]] - before[changed]  # the point, which stays
            block[places[changed]] = numbers[changed].astype(np.float64) + behind
    return found


def _texts(masker: Masker, flat: npt.NDArray[Any]) -> int:
    if not len(flat) or not flat.dtype.itemsize:
        return 0
    if flat.dtype.kind == "S":
        rows = flat.view(np.uint8).reshape(len(flat), -1)
    else:
        points = flat.view(np.uint32).reshape(len(flat), -1)
        if points.max() >= 128:
            return _replace(masker, flat)
        rows = points.astype(np.uint8)
    width = rows.shape[1]
    lengths = np.char.str_len(flat).astype(np.int64)
    offsets = np.arange(len(flat), dtype=np.int64) * width
    found = masker.mask_fields(rows.reshape(-1), offsets, lengths)
    if found is None:
        return _replace(masker, flat)
    if found and flat.dtype.kind == "U":
        flat.view(np.uint32)[:] = rows.reshape(-1)
    return found


def _replace(masker: Masker, flat: npt.NDArray[Any]) -> int:
    if masker.kind == "token":
        raise MaskingError("mask_into: the kind token changes lengths; take fpe, or mask()")
    changed = 0
    for i, one in enumerate(flat.tolist()):
        masked = masker.mask(one)
        if masked is not one and masked != one:
            flat[i] = masked
            changed += 1
    return changed


def _one_by_one(masker: Masker, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    masked = [masker.mask(one) for one in value.reshape(-1).tolist()]
    longest = max(map(len, masked), default=0)
    kind = f"{value.dtype.kind}{max(longest, 1)}"
    return cast(npt.NDArray[Any], np.array(masked, dtype=kind).reshape(value.shape))
