"""``ArrowWriter``: write rows to Milvus Lite as the Arrow batches that its log consists of.

On the way through ``pymilvus``, each row becomes a message, a dict and columns again, and every
number of its vector a Python object. Milvus Lite runs in this process, so its engine can be given
the columns at once. What it does with them is the same: the log first, then its table in memory,
which becomes a data file when it is full.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from twinlens.search.records import Row

if TYPE_CHECKING:
    from milvus_lite.engine.collection import Collection
    from milvus_lite.storage.memtable import MemTable

_PARTITION = "_default"
#: One for each open collection: Milvus Lite's engine takes one write at a time.
_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_locks_lock = threading.Lock()


class ArrowWriter:
    """Writes to one collection of a Milvus Lite that is open in this process.

    Args:
        collection: of Milvus Lite's engine.

    Attributes:
        lock: held by every write to this collection in this process.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        with _locks_lock:
            self.lock = _locks.setdefault(collection, threading.RLock())
        self._words = {
            function.output_field_names[0]: function.input_field_names[0]
            for function in collection.schema.functions or ()
        }
        _build_data_files_by_column()

    @classmethod
    def of(cls, path: str | os.PathLike[str], name: str) -> ArrowWriter | None:
        """The writer of a collection; ``None`` if rows must be written by ``pymilvus``.

        Args:
            path: of the database, which is open.
            name: of the collection.
        """
        from milvus_lite.server_manager import server_manager_instance

        found = server_manager_instance._servers.get(os.path.abspath(path))
        if found is None:
            return None
        collection = found[1].get_collection(name)
        if collection._partition_key_field is not None or collection._auto_id:
            return None
        return cls(collection)

    def insert(self, rows: Sequence[Row]) -> None:
        """Write rows; of rows with the same key, the last one counts.

        Raises:
            ValueError: a row lacks a column, or a value is too long.
            TypeError: a value has another type than its column (or ``ValueError``).
        """
        from milvus_lite.engine.operation import InsertOp

        collection = self._collection
        columns = self._columns(rows)
        with self.lock:
            first = collection._next_seq
            collection._next_seq += len(rows)
            columns["_seq"] = pa.array(range(first, first + len(rows)), pa.uint64())
            schema = collection._wal_data_schema
            arrays = [columns[field.name] for field in schema]
            batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
            collection._apply(InsertOp(partition=_PARTITION, batch=batch))
            if collection._should_flush():
                collection._trigger_flush()

    def _columns(self, rows: Sequence[Row]) -> dict[str, pa.Array]:
        """All columns of some rows but their sequence numbers."""
        collection = self._collection
        types = {field.name: field.type for field in collection._wal_data_schema}
        columns = {"_partition": pa.array([_PARTITION] * len(rows))}
        for field in collection.schema.fields:
            if field.name in self._words:
                texts = [row.get(self._words[field.name]) or "" for row in rows]
                analyzer = collection._bm25_analyzers[field.name]
                columns[field.name] = pa.array(_terms(analyzer, texts), pa.binary())
                continue
            values = [row.get(field.name) for row in rows]
            columns[field.name] = _column(field, values, types[field.name])
        known = {field.name for field in collection.schema.fields}
        columns["$meta"] = pa.array([_dynamic(row, known) for row in rows], pa.string())
        return columns


def _column(field: Any, values: list[Any], kind: pa.DataType) -> pa.Array:
    """One column of rows, checked as Milvus Lite checks each value."""
    if pa.types.is_fixed_size_list(kind):
        vectors = np.asarray(values, dtype=np.float32)
        if vectors.shape != (len(values), kind.list_size):
            raise ValueError(f"a row's {field.name} does not have {kind.list_size} dimensions")
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), kind.list_size)
    column = pa.array(values, kind)
    if column.null_count and not field.nullable:
        raise ValueError(f"a row lacks the column {field.name}")
    limit = field.max_capacity if pa.types.is_list(kind) else field.max_length
    if limit and pa.types.is_nested(kind) | pa.types.is_string(kind):
        longest = max((len(value) for value in values if value is not None), default=0)
        if longest > limit:
            raise ValueError(f"a row's {field.name} has a length of {longest}, over {limit}")
    return column


def _terms(analyzer: Any, texts: Sequence[str]) -> list[bytes]:
    """The words of texts for full-text search, as Milvus Lite stores them."""
    from milvus_lite.analyzer.sparse import compute_tf, sparse_to_bytes

    return [sparse_to_bytes(compute_tf(analyzer.analyze(text))) for text in texts]


def _dynamic(row: Row, known: set[str]) -> str | None:
    """The fields of a row without a column, as JSON."""
    if len(row) <= len(known) and row.keys() <= known:
        return None
    extra = {name: value for name, value in row.items() if name not in known}
    return json.dumps(extra, sort_keys=True, default=_plain) if extra else None


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be stored")


def _build_data_files_by_column() -> None:
    """Let Milvus Lite turn its table in memory into a data file column by column.

    Workaround: Milvus Lite 3.2 makes a Python object of each number of each vector, which takes
    longer than everything else about a row.
    """
    from milvus_lite.storage.memtable import MemTable

    MemTable._build_data_table = _data_table


def _data_table(self: MemTable, rows: Sequence[tuple[int, int]]) -> pa.Table:
    """The rows at some places: pairs of the number of a batch and a place in it."""
    batches = self._insert_batches
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    places = np.array(rows, dtype=np.int64).reshape(-1, 2)
    chosen = starts[places[:, 0]] + places[:, 1]
    table = pa.Table.from_batches(batches).select(self._data_schema.names)
    if not np.array_equal(chosen, np.arange(table.num_rows)):
        table = table.combine_chunks().take(pa.array(chosen))
    return pa.Table.from_arrays(table.columns, schema=self._data_schema)
