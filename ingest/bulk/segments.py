"""``SegmentWriter``: write the chunks of the pipeline to Parquet files that Milvus can import."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from twinlens.ingest.ledger import file_row
from twinlens.ingest.rows import text_keys
from twinlens.ingest.sinks import Chunk
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import Kind, Row, Target

#: The ledger's columns with Milvus' names of their types.
_LEDGER: Mapping[str, str] = {
    "path": "VARCHAR", "image_id": "VARCHAR", "texts": "ARRAY", "size": "INT64",
    "mtime_ns": "INT64", "digest": "VARCHAR", "status": "VARCHAR", "reason": "VARCHAR",
    "root": "VARCHAR",
}  # fmt: skip
_ARROW: Mapping[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "INT64": pa.int64(),
    "DOUBLE": pa.float64(),
    "ARRAY": pa.list_(pa.string()),
    "FLOAT_VECTOR": pa.list_(pa.float32()),
    "FLOAT16_VECTOR": pa.list_(pa.uint8()),
    "JSON": pa.string(),
}

#: Takes a finished segment: its rows, and its files, of each kind.
SegmentCallback = Callable[[Mapping[Kind, int], Mapping[Kind, Path]], None]


class SegmentWriter:
    """A ``ChunkSink`` that writes new images and texts to segments: up to three files each.

    An import cannot replace rows. Everything that is or may be stored already is left out, for the
    ordinary ingest that follows.

    Args:
        collection: the collection that the rows are for.
        folder: for the files while they are written.
        segment_bytes: approximate size of a segment's largest file.
        finished: called with every segment; its files are deleted afterwards.
    """

    def __init__(
        self,
        collection: Collection,
        folder: Path,
        segment_bytes: int,
        finished: SegmentCallback,
    ) -> None:
        self._collection = collection
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._finished = finished
        self._open: dict[Kind, _ParquetTable] = {}

    def write(self, chunk: Chunk) -> None:
        # After an interrupted run, images may be stored without their ledger rows.
        stored = self._stored("images", [item.id for item in chunk.new])
        chunk.new = [item for item in chunk.new if item.entry is None and item.id not in stored]
        chunk.texts_only = [item for item in chunk.texts_only if item.entry is None]
        chunk.stored, chunk.failed, chunk.replaced = [], [], []
        items = chunk.items
        images = {item.id for item in chunk.new}
        texts = {key for item in items for key in text_keys(item)}
        texts -= self._stored("texts", sorted(texts))
        chunk.image_rows = [row for row in chunk.image_rows if row["id"] in images]
        chunk.text_rows = [row for row in chunk.text_rows if row["id"] in texts]
        image_rows = self._collection.prepare("images", chunk.image_rows)
        text_rows = self._collection.prepare("texts", chunk.text_rows)
        # From here on nothing is retried, so that no row gets into the files twice.
        self._add("images", image_rows)
        self._add("texts", text_rows)
        self._add("files", [file_row(item.sample, item.id, text_keys(item)) for item in items])
        if any(table.size >= self._segment_bytes for table in self._open.values()):
            self.close()

    def close(self) -> None:
        """Finish the segment that is being written, if any."""
        tables, self._open = self._open, {}
        for table in tables.values():
            table.close()
        if tables:
            self._finished(
                {kind: table.rows for kind, table in tables.items()},
                {kind: table.path for kind, table in tables.items()},
            )
            for table in tables.values():
                table.path.unlink(missing_ok=True)

    def _add(self, kind: Kind, rows: Sequence[Row]) -> None:
        if not rows:
            return
        if kind not in self._open:
            # Ledger rows are not imported but upserted, so that only their own columns are needed.
            fields = self._collection.bulk_imports.columns(kind) if kind != "files" else _LEDGER
            self._open[kind] = _ParquetTable(self._folder / f"{kind}.parquet", fields)
        self._open[kind].add(rows)

    def _stored(self, kind: Target, keys: Sequence[str]) -> set[str]:
        return {row["id"] for row in self._collection.get(kind, keys, ["id"])} if keys else set()


class _ParquetTable:
    """A Parquet file as Milvus imports it: a column for each field, and one of JSON for the rest.

    Replaces pymilvus' writers, which need the clients of two cloud vendors and lose errors of their
    writer thread.
    """

    def __init__(self, path: Path, fields: Mapping[str, str]) -> None:
        self.path = path
        self.rows = 0
        self._fields = fields
        self._schema = pa.schema([(name, _ARROW[kind]) for name, kind in fields.items()])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def add(self, rows: Sequence[Row]) -> None:
        flat = [self._flat(row) for row in rows]
        self._writer.write_table(pa.Table.from_pylist(flat, schema=self._schema))
        self.rows += len(rows)

    def close(self) -> None:
        self._writer.close()

    def _flat(self, row: Row) -> Row:
        flat = {}
        for name, kind in self._fields.items():
            value = row.get(name)
            if kind == "JSON":
                more = {key: one for key, one in row.items() if key not in self._fields}
                value = json.dumps(more, ensure_ascii=False)
            elif kind == "FLOAT16_VECTOR":
                value = list(np.asarray(value, dtype="<f2").tobytes())
            elif kind == "FLOAT_VECTOR":
                value = np.asarray(value, dtype=np.float32)
            flat[name] = value
        return flat
