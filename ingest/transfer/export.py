"""Export a collection to a folder of Parquet and ``.npy`` files, and import such a folder.

    metadata/metadata_00000.parquet, img_emb/img_emb_00000.npy            images, their vectors
    texts/texts_00000.parquet,       text_vectors/text_vectors_00000.npy  texts, their vectors
    files/files_00000.parquet                                             the ledger
    twinlens-export.json                                                  the manifest

A table has the columns of the collection, and one for each metadata field, of the field's type. A
value of another type is stored as JSON in the column ``$more``.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from twinlens.ingest.reconcile import reconcile
from twinlens.ingest.sources.embeddings import open_matrix
from twinlens.ingest.sources.export_manifest import (
    KINDS,
    MATRICES,
    TABLES,
    ExportedFile,
    ExportShard,
    Manifest,
    verify,
)
from twinlens.search.errors import SourceError, UsageError, first_line
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Rows
from twinlens.search.paths import expand_home
from twinlens.search.query.saved import SavedSearch, list_saved, store
from twinlens.search.records import (
    FILE_FIELDS,
    ID_LENGTH,
    IMAGE_FIELDS,
    MAX_CAPTIONS,
    MAX_PATH_BYTES,
    MAX_SHOWN_BYTES,
    MAX_TEXT_BYTES,
    TEXT_FIELDS,
    FieldType,
    Kind,
    Row,
)

_log = logging.getLogger("twinlens")

#: Rows per table and matrix: 60 MB of vectors of 768 dimensions.
SHARD_ROWS = 20_000
#: Rows to write at a time, and to read: each page costs Milvus Lite a pass over all rows.
BATCH = 1_000
PAGE = 4_000
#: Limit on the uncompressed bytes of a row group, against malicious files.
MAX_GROUP_BYTES = 1 << 30
MORE = "$more"

_COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    "images": IMAGE_FIELDS,
    "texts": TEXT_FIELDS,
    "files": FILE_FIELDS,
}
_LISTS = {"paths", "captions", "texts"}
_INTEGERS = {"width", "height", "bytes", "size", "mtime_ns"}
#: Longest text in a column, in bytes; ``MAX_PATH_BYTES`` in the others.
_LONGEST = {"text": MAX_TEXT_BYTES + 500, "captions": MAX_SHOWN_BYTES, "reason": MAX_SHOWN_BYTES}
_TYPES: Mapping[FieldType, tuple[type, pa.DataType]] = {
    "text": (str, pa.string()),
    "date": (str, pa.string()),
    "integer": (int, pa.int64()),
    "number": (float, pa.float64()),
    "boolean": (bool, pa.bool_()),
}
_ID = re.compile(f"[0-9a-f]{{{ID_LENGTH}}}")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class Exchanged:
    """How many rows were exported or imported, and the folder."""

    folder: Path
    images: int
    texts: int
    files: int

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> Exchanged:
        return cls(folder, *map(manifest.count, KINDS))


def export_collection(
    collection: Collection, folder: Path, shard_rows: int = SHARD_ROWS
) -> Exchanged:
    """Export a collection to a folder that does not exist yet, or is empty.

    The folder appears when it is complete. Memory is bounded by the size of a shard.

    Raises:
        UsageError: the folder is not empty.
        SourceError: the folder cannot be written.
    """
    folder = expand_home(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: choose a folder that does not exist yet")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        for name in (*TABLES.values(), *MATRICES.values()):
            (partial / name).mkdir(parents=True, exist_ok=True)
        # Read the ledger first: every row it names is stored by then, even while others write.
        shards = [shard for kind in reversed(KINDS) for shard in _export(collection, kind, partial,
                  shard_rows)]  # fmt: skip
        saved = tuple(one.to_text() for one in list_saved(collection))
        manifest = Manifest(collection.name, collection.fingerprint, tuple(shards), saved)
        manifest.write(partial)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise SourceError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exchanged.of(folder, manifest)


def import_collection(collection: Collection, folder: Path, manifest: Manifest) -> Exchanged:
    """Write every row of an export to a collection; rows with the same key are replaced.

    Run an interrupted import again. Images that were stored before get the paths and captions of
    both.

    Raises:
        SourceError: a file is damaged. Earlier shards have been written.
        StoreError: the collection is being reindexed and may miss some rows; import again.
    """
    looks = collection.count("images") > 0
    # On disk: as many ids as the export has images.
    with TemporaryFile("w+", encoding="ascii") as known:
        # Write the ledger last: every row it names is stored by then.
        for kind in KINDS:
            for shard in manifest.shards:
                if shard.kind != kind:
                    continue
                verify(shard, folder)
                for rows in _import(shard, folder, manifest.fingerprint.dim):
                    if looks and kind == "images":
                        ids = [row["id"] for row in rows]
                        stored = collection.get("images", ids, ["id"])
                        known.writelines(f"{row['id']}\n" for row in stored)
                    collection.upsert(kind, rows)
        known.seek(0)
        while both := [line.strip() for line in islice(known, BATCH)]:
            reconcile(collection, both)
    for text in manifest.saved:
        try:
            store(collection, SavedSearch.from_text(text))
        except UsageError as error:
            _log.warning("a saved search is not imported: %s", error)
    collection.check_open()
    collection.flush()
    return Exchanged.of(folder, manifest)


def _export(
    collection: Collection, kind: Kind, folder: Path, shard_rows: int
) -> Iterator[ExportShard]:
    types = collection.fields(kind) if kind != "files" else {}
    more = {name: found for name, found in types.items() if name not in _COLUMNS[kind]}
    dynamic = {name: _TYPES[found] for name, found in more.items() if found in _TYPES}
    fields = [*_COLUMNS[kind], *([] if kind == "files" else ["vector", "$meta"])]
    batches = collection.scan(kind, fields, batch=min(PAGE, shard_rows))
    for number, parts in enumerate(_shards(batches, shard_rows)):
        yield _export_shard(kind, number, parts, dynamic, folder)


def _shards(batches: Iterable[list[Row]], rows: int) -> Iterator[Iterator[list[Row]]]:
    """Group batches into shards of at least ``rows`` rows; read each shard before the next."""
    source = iter(batches)

    def run(first: list[Row]) -> Iterator[list[Row]]:
        count = len(first)
        yield first
        while count < rows and (batch := next(source, None)) is not None:
            count += len(batch)
            yield batch

    while (first := next(source, None)) is not None:
        yield run(first)


def _export_shard(
    kind: Kind,
    number: int,
    batches: Iterable[list[Row]],
    dynamic: Mapping[str, tuple[type, pa.DataType]],
    folder: Path,
) -> ExportShard:
    none = ExportedFile(0, "")
    place = ExportShard(kind, number, 0, none, none)
    schema = _schema(kind, {name: column for name, (_, column) in dynamic.items()})
    vectors: list[Rows] = []
    count = 0
    with parquet.ParquetWriter(place.table_path(folder), schema, compression="zstd") as writer:
        for rows in batches:
            count += len(rows)
            if kind != "files":
                vectors.append(np.array([row["vector"] for row in rows], dtype=np.float32))
            flat = [_flat(row, kind, dynamic) for row in rows]
            writer.write_table(pa.Table.from_pylist(flat, schema=schema), BATCH)
    if kind != "files":
        np.save(place.matrix_path(folder), np.concatenate(vectors))
    return ExportShard(
        kind,
        number,
        count,
        ExportedFile.of(place.table_path(folder)),
        ExportedFile.of(place.matrix_path(folder)) if vectors else None,
    )


def _schema(kind: Kind, dynamic: Mapping[str, pa.DataType]) -> pa.Schema:
    fixed = [(name, _column(name)) for name in _COLUMNS[kind]]
    more = [] if kind == "files" else [(MORE, pa.string())]
    return pa.schema([*fixed, *dynamic.items(), *more])


def _column(name: str) -> pa.DataType:
    if name in _LISTS:
        return pa.list_(pa.string())
    if name in _INTEGERS:
        return pa.int64()
    return pa.float64() if name == "mtime" else pa.string()


def _flat(row: Row, kind: Kind, dynamic: Mapping[str, tuple[type, pa.DataType]]) -> Row:
    """Convert a stored row to a row of the table."""
    flat = {name: list(row[name]) if name in _LISTS else row[name] for name in _COLUMNS[kind]}
    if kind == "files":
        return flat
    more = {}
    for name, value in row.items():
        if name in flat or name == "vector" or value is None:
            continue
        if name in dynamic and type(value) is dynamic[name][0]:
            flat[name] = value
        else:
            more[name] = value
    return flat | {MORE: json.dumps(more, ensure_ascii=False) if more else None}


def _import(shard: ExportShard, folder: Path, dim: int) -> Iterator[list[Row]]:
    """Yield a shard's rows in batches, as they are stored; check each."""
    path = shard.table_path(folder)
    vectors = None
    if shard.matrix is not None:
        vectors = open_matrix(shard.matrix_path(folder))
        if vectors.dtype != np.float32 or vectors.shape != (shard.rows, dim):
            raise SourceError(f"{shard.matrix_path(folder)} does not hold the vectors of {path}")
    done = 0
    try:
        with parquet.ParquetFile(path) as table:
            _check_table(table, shard)
            for batch in table.iter_batches(BATCH):
                rows = [_row(flat, shard.kind) for flat in batch.to_pylist()]
                if vectors is not None:
                    part = np.array(vectors[done : done + len(rows)])
                    if not np.allclose(np.linalg.norm(part, axis=1), 1, atol=1e-3):
                        raise ValueError("a vector is not of length 1")
                    for row, vector in zip(rows, part, strict=True):
                        row["vector"] = vector
                done += len(rows)
                yield rows
    except (pa.ArrowException, OSError, ValueError, TypeError, RecursionError) as error:
        reason = first_line(error, 200)
        raise SourceError(f"{path} is not a table of an export: {reason}") from error


def _check_table(table: parquet.ParquetFile, shard: ExportShard) -> None:
    if table.metadata.num_rows != shard.rows:
        raise ValueError(f"it has {table.metadata.num_rows} rows, not {shard.rows}")
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        if group.total_byte_size > MAX_GROUP_BYTES:
            raise ValueError(f"one of its row groups has {group.total_byte_size >> 20} MB")
    schema = table.schema_arrow
    allowed = [column for _, column in _TYPES.values()] if shard.kind != "files" else []
    fixed = {*_COLUMNS[shard.kind], MORE, "vector"}
    dynamic = {field.name: field.type for field in schema if field.name not in fixed}
    for name, column in dynamic.items():
        if not _FIELD.fullmatch(name) or column not in allowed:
            raise ValueError(f"an unknown column {name[:40]!r}")
    if not schema.equals(_schema(shard.kind, dynamic)):
        raise ValueError("its columns are not those of an export")


def _row(flat: Row, kind: Kind) -> Row:
    """Convert a row of the table to a stored row, without its vector.

    Raises:
        ValueError: a value is not valid.
    """
    row = {name: value for name, value in flat.items() if value is not None and name != MORE}
    for name in _COLUMNS[kind]:
        if name not in row:
            raise ValueError(f"a row has no {name}")
        _check_value(name, row[name])
    more = json.loads(flat.get(MORE) or "{}")
    if not isinstance(more, dict):
        raise ValueError(f"{MORE} is not a JSON object")
    for name, value in more.items():
        if name in row or name == "vector" or not _FIELD.fullmatch(name):
            raise ValueError(f"not a valid field name: {name[:40]!r}")
        if not isinstance(value, str | int | float | bool):
            raise ValueError(f"{name} is neither text nor number")
    row |= more
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is not finite")
    return row


def _check_value(name: str, value: Any) -> None:
    if name == "id" and not _ID.fullmatch(value):
        raise ValueError("not a valid id")
    if name in _LISTS and len(value) > MAX_CAPTIONS:
        raise ValueError(f"more than {MAX_CAPTIONS} {name}")
    for text in value if isinstance(value, list) else [value]:
        if text is None:
            raise ValueError(f"{name} has an empty value")
        if isinstance(text, str) and len(text.encode()) > _LONGEST.get(name, MAX_PATH_BYTES):
            raise ValueError(f"a text is too long for {name}")
