"""``Block``: some rows of a collection as columns, from a data file or from the log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twinlens.search.milvus.lite.arrays import numpy_of
from twinlens.search.milvus.lite.folder import Schema
from twinlens.search.milvus.lite.snapshot import META, Snapshots, with_meta_columns

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


class Block:
    """Rows that never change; which of them are live is kept elsewhere.

    Args:
        schema: of the collection.
        table: all columns but the vectors.
        vectors: float32 ``[rows, dim]``, possibly memory-mapped.

    Attributes:
        masks: the rows that satisfy an expression, by expression; filled by ``filters``.
        postings: the words of the rows, decoded by ``ranking`` on first use.
    """

    def __init__(self, schema: Schema, table: pa.Table, vectors: Floats) -> None:
        self.schema = schema
        self.table = table
        self.vectors = vectors
        self.masks: dict[str, Mask] = {}
        self.postings: object = None

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def keys(self) -> pa.ChunkedArray:
        """The primary keys."""
        return self.table.column(self.schema.key)

    @cached_property
    def sequence(self) -> npt.NDArray[np.uint64]:
        """When each row was written: a number that grows with each write."""
        return numpy_of(self.table.column("_seq"))

    def positions(self, keys: pa.Array) -> npt.NDArray[np.int64]:
        """Where each row's key is in ``keys``; -1 if it is not among them."""
        found = pc.index_in(self.keys, value_set=keys)
        return numpy_of(found, null=-1).astype(np.int64)

    @classmethod
    def of_file(cls, schema: Schema, data: Path, snapshots: Snapshots) -> Block:
        """The rows of a data file.

        Raises:
            FileNotFoundError: Milvus Lite has replaced it.
        """
        table = snapshots.table(data)
        return cls(schema, table, _vectors_of_file(schema, data, len(table)))

    @classmethod
    def of_log(cls, schema: Schema, batches: Sequence[pa.RecordBatch]) -> Block:
        """The rows of batches of the log."""
        table = pa.Table.from_batches(batches).combine_chunks()
        vectors = _unpack(table.column("vector"), schema.dim)
        return cls(schema, with_meta_columns(table.drop(["vector", "_partition"])), vectors)

    @classmethod
    def join(cls, blocks: Sequence[Block]) -> Block:
        """One block of several, in order."""
        # Columns of dynamic fields may have other types here than in each block.
        plain = [block.table.select([*_stored(block.table)]) for block in blocks]
        table = pa.concat_tables(plain).combine_chunks()
        vectors = np.concatenate([block.vectors for block in blocks])
        return cls(blocks[0].schema, with_meta_columns(table), vectors)


def _stored(table: pa.Table) -> list[str]:
    """The columns that are not extracted from JSON."""
    return [name for name in table.column_names if not name.startswith(META)]


def _vectors_of_file(schema: Schema, data: Path, rows: int) -> Floats:
    """The vectors of a data file: Milvus Lite's own array, or decoded if there is none yet."""
    array = data.parent.parent / "indexes" / f"{data.stem}.vector.flat.idx"
    try:
        mapped: Floats = np.load(array, mmap_mode="r", allow_pickle=False)
        if mapped.shape == (rows, schema.dim) and mapped.dtype == np.float32:
            return mapped.view(np.ndarray)
    except (OSError, ValueError, EOFError):
        pass
    import pyarrow.parquet as pq

    with pq.ParquetFile(data) as file:
        return _unpack(file.read(columns=["vector"]).column("vector"), schema.dim)


def _unpack(column: pa.ChunkedArray, dim: int) -> Floats:
    flat = [numpy_of(chunk.flatten()) for chunk in column.chunks]
    return np.concatenate(flat).reshape(-1, dim) if flat else np.empty((0, dim), dtype=np.float32)
