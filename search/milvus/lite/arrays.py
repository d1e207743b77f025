"""Convert between Arrow and NumPy without pandas, which ``pa.array`` and ``pa.scalar`` import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_TYPES = {
    pa.int32(): np.int32, pa.int64(): np.int64, pa.uint64(): np.uint64, pa.float32(): np.float32,
}  # fmt: skip

#: One term of a sparse vector, as Milvus Lite stores it.
SPARSE_TERM = np.dtype([("term", "<u4"), ("count", "<f4")])


def int64_array(values: npt.NDArray[np.int64]) -> pa.Array:
    """An Arrow array of integers ``[n]``."""
    values = np.ascontiguousarray(values, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def string_array(values: Sequence[str]) -> pa.Array:
    """An Arrow array of strings; together they have less than 2 GB of UTF-8."""
    encoded = [value.encode("utf-8", "surrogatepass") for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64).astype(np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def numpy_of(column: pa.Array | pa.ChunkedArray, null: int = 0) -> npt.NDArray[Any]:
    """The values of a column of numbers or booleans ``[n]``, with ``null`` in place of nulls."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            return numpy_of(column.chunk(0), null)
        if column.num_chunks:
            return np.concatenate([numpy_of(chunk, null) for chunk in column.chunks])
        return np.empty(0, dtype=bool if pa.types.is_boolean(column.type) else _TYPES[column.type])
    start, end = column.offset, column.offset + len(column)
    valid, data = column.buffers()
    if pa.types.is_boolean(column.type):
        values = _bits(data, start, end)
    else:
        values = np.frombuffer(data or b"", dtype=_TYPES[column.type], count=end)[start:]
    if column.null_count:
        values = np.where(_bits(valid, start, end), values, values.dtype.type(null))
    return values


def _bits(data: pa.Buffer | None, start: int, end: int) -> npt.NDArray[np.bool_]:
    octets = np.frombuffer(data or b"", dtype=np.uint8)
    return np.unpackbits(octets, bitorder="little", count=end)[start:].view(np.bool_)
