"""Masking of Arrow arrays, chunked arrays, record batches and tables. The values of a text column are copied
once, in one piece, and masked in the copy; offsets and validity are shared with the original."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pangate.errors import MaskingError

if TYPE_CHECKING:
    from pangate.masking.masker import Masker


def mask(masker: Masker, value: Any, name: str | None = None) -> Any:
    """A masked value of the same type and schema; the value itself where nothing was found. Names of
    columns and the schema's metadata are masked as well. `name` is the column's, for the rules by name;
    those of a table have theirs. TypeError for a type of values that cannot be masked."""
    if isinstance(value, pa.Table | pa.RecordBatch):
        columns = [
            mask(masker, value.column(i), field.name) for i, field in enumerate(value.schema)
        ]
        return type(value).from_arrays(columns, schema=_schema(masker, value.schema, columns))
    if isinstance(value, pa.ChunkedArray):
        parts = [mask(masker, one, name) for one in value.chunks]
        return pa.chunked_array(parts, type=parts[0].type if parts else value.type)
    if isinstance(value, pa.Array):
        return _array(masker, value, name)
    raise TypeError(f"mask does not know how to mask {type(value).__name__}; convert it first")


def _schema(masker: Masker, schema: Any, columns: Sequence[Any]) -> Any:
    fields = [
        _field(masker, field).with_type(column.type)
        for field, column in zip(schema, columns, strict=True)
    ]
    return pa.schema(fields, metadata=_metadata(masker, schema))


def _field(masker: Masker, field: Any) -> Any:
    return field.with_name(masker.mask(field.name)).with_metadata(_metadata(masker, field))


def _metadata(masker: Masker, holder: Any) -> dict[bytes, bytes] | None:
    if holder.metadata is None:
        return None
    return {masker.mask(key): masker.mask(value) for key, value in holder.metadata.items()}


def _array(masker: Masker, value: Any, name: str | None) -> Any:
    kind = value.type
    types = pa.types
    if name is not None and masker.columns.action(name) is not None:
        return _by_name(masker, value, name)
    if isinstance(value, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(kind, _array(masker, value.storage, None))
    if types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(
            value.indices, _array(masker, value.dictionary, None), ordered=kind.ordered, safe=False
        )
    if types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        parts = [_array(masker, value.field(i), field.name) for i, field in enumerate(fields)]
        renamed = [
            _field(masker, field).with_type(part.type)
            for field, part in zip(fields, parts, strict=True)
        ]
        return pa.StructArray.from_arrays(parts, fields=renamed, mask=value.is_null())
    if types.is_list(kind) or types.is_large_list(kind):
        whole = type(value).from_arrays
        masked = _array(masker, value.flatten(), None)
        lengths = value.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        width = np.int64 if types.is_large_list(kind) else np.int32
        offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(width))
        kind = (pa.large_list if types.is_large_list(kind) else pa.list_)(
            _field(masker, kind.value_field).with_type(masked.type)
        )
        return whole(offsets, masked, type=kind, mask=value.is_null())
    if types.is_string(kind) or types.is_binary(kind):
        return _texts(masker, value, np.int32)
    if types.is_large_string(kind) or types.is_large_binary(kind):
        return _texts(masker, value, np.int64)
    if types.is_string_view(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return _one_by_one(masker, value)
    if types.is_decimal(kind) or types.is_map(kind) or types.is_fixed_size_list(kind):
        return _one_by_one(masker, value)
    if types.is_int64(kind) or types.is_uint64(kind) or types.is_float64(kind):
        return _numbers(masker, value)
    if types.is_primitive(kind) or types.is_null(kind):
        return value  # truth, times, and numbers too small for 12 digits
    raise TypeError(f"an Arrow array of type {kind} cannot be masked; cast it first")


def _texts(masker: Masker, value: Any, width: type[np.int32 | np.int64]) -> Any:
    validity, offsets, values = value.buffers()
    if values is None or not len(value):
        return value
    if value.offset:  # a slice: its buffers are those of the whole
        value = pa.concat_arrays([value])
        validity, offsets, values = value.buffers()
    ends = np.frombuffer(offsets, dtype=width, count=len(value) + 1).astype(np.int64)
    low, high = int(ends[0]), int(ends[-1])
    copied = bytearray(memoryview(values)[:high])
    found = masker.mask_fields(memoryview(copied)[low:], ends[:-1] - low, np.diff(ends))
    if found is None:
        return _one_by_one(masker, value)
    if not found:
        return value
    buffers = [validity, offsets, pa.py_buffer(copied)]
    return pa.Array.from_buffers(value.type, len(value), buffers, value.null_count)


def _numbers(masker: Masker, value: Any) -> Any:
    numbers = value.fill_null(0).to_numpy(zero_copy_only=False).copy()
    if not masker.mask_into(numbers):
        return value
    missing = value.is_null().to_numpy(zero_copy_only=False) if value.null_count else None
    return pa.array(numbers, type=value.type, mask=missing)


def _one_by_one(masker: Masker, value: Any) -> Any:
    from pangate.masking.structure import by_name

    masked = [None if one is None else by_name(masker, "", one) for one in value.to_pylist()]
    try:
        return pa.array(masked, type=value.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise MaskingError(f"what was masked does not fit the type {value.type}: {error}") from None


def _by_name(masker: Masker, value: Any, name: str) -> Any:
    from pangate.masking.structure import by_name

    masked = [None if one is None else by_name(masker, name, one) for one in value.to_pylist()]
    try:
        return pa.array(masked, type=value.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.nulls(
            len(value), type=value.type
        )  # a wiped value that its type has no other word for
