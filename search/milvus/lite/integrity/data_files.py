"""Check one data file of Milvus Lite: its checksum, its rows, and the copies of its columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from twinlens.search.errors import first_line
from twinlens.search.milvus.lite.arrays import numpy_of
from twinlens.search.milvus.lite.checksums import Checksums, DamagedRecordError, Recorded
from twinlens.search.milvus.lite.failures import is_whole_array
from twinlens.search.milvus.lite.folder import Schema
from twinlens.search.milvus.lite.integrity.damage import Damage, DamageKind
from twinlens.search.milvus.lite.recorder import array_of
from twinlens.search.milvus.lite.snapshot import Snapshots, read_columns

#: Rows decoded at a time.
BATCH = 8_192
#: What reading a damaged file may raise.
UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, TypeError, MemoryError)


def check_data_file(
    data: Path, schema: Schema, checksums: Checksums, snapshots: Snapshots, *, writing: bool
) -> Iterator[Damage]:
    """Find damage in a data file, in its file of vectors, and in its snapshot.

    Args:
        data: the data file.
        schema: of its collection.
        checksums, snapshots: the records, and the snapshots of the collection.
        writing: whether a process may be writing the file of vectors now.

    Raises:
        FileNotFoundError: the data file is gone.
    """
    damaged, notes = check_recorded("data file", data, checksums)
    yield from notes
    if damaged is None:
        try:
            rows = _check_rows(data, schema)
        except FileNotFoundError:
            raise
        except UNREADABLE as error:
            damaged = Damage("data file", str(data), f"is damaged: {first_line(error, 200)}")
    if damaged is not None:
        yield damaged
        return
    array = array_of(data)
    if not (writing and array.exists() and not checksums.has(array) and not is_whole_array(array)):
        yield from _check_array(data, schema, checksums, rows)
    yield from _check_snapshot(data, snapshots)


def check_recorded(
    kind: DamageKind, path: Path, checksums: Checksums
) -> tuple[Damage | None, list[Damage]]:
    """Compare a file with its record.

    Returns:
        The damage, or None; and what is wrong with the record itself.
    """
    try:
        recorded = checksums.recorded(path)
    except DamagedRecordError as error:
        return None, [Damage("checksum", str(path), f"its record {error} is damaged")]
    if recorded is None:
        note = Damage("checksum", str(path), "no checksum is recorded yet", harmless=True)
        return None, [note]
    try:
        now = Recorded.of(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        return Damage(kind, str(path), f"cannot be read: {error.strerror or error}"), []
    if now.size != recorded.size:
        reason = f"is damaged: it has {now.size:,} bytes, not {recorded.size:,}"
        return Damage(kind, str(path), reason), []
    if now.sha256 != recorded.sha256:
        return Damage(kind, str(path), "is damaged: it differs from its checksum"), []
    return None, []


def _check_rows(data: Path, schema: Schema) -> int:
    """Decode all columns; return the number of rows.

    Raises:
        OSError, ValueError, pa.ArrowException: the file is damaged.
    """
    import pyarrow.parquet as pq

    first, last = (int(number) for number in data.stem.split("_")[1:3])
    count = 0
    with pq.ParquetFile(data) as file:
        wanted = {"_seq", *schema.columns}
        if missing := wanted - set(file.schema_arrow.names):
            raise ValueError(f"it lacks the column {min(missing)}")
        dim = getattr(file.schema_arrow.field("vector").type, "list_size", 0)
        if dim != schema.dim:
            raise ValueError(f"its vectors have {dim} dimensions, not {schema.dim}")
        for batch in file.iter_batches(BATCH):
            batch.validate(full=True)
            if batch.column(schema.key).null_count:
                raise ValueError("a row has no key")
            sequence = numpy_of(batch.column("_seq"))
            if len(sequence) and not (first <= sequence.min() and sequence.max() <= last):
                raise ValueError("a row has a sequence number that its name rules out")
            count += len(batch)
        if count != file.metadata.num_rows:
            raise ValueError(f"it has {count:,} rows, not {file.metadata.num_rows:,}")
    return count


def _check_array(data: Path, schema: Schema, checksums: Checksums, rows: int) -> Iterator[Damage]:
    """Compare the vectors with those of the data file, which is sound."""
    path = array_of(data)
    if not path.exists():
        if checksums.has(path):
            yield Damage("vectors file", str(path), "is missing: searches are slower without it",
                         harmless=True)  # fmt: skip
        return
    damaged, notes = check_recorded("vectors file", path, checksums)
    yield from notes
    try:
        if damaged is None and not _array_agrees(path, data, (rows, schema.dim)):
            damaged = Damage("vectors file", str(path), f"differs from the vectors of {data.name}")
    except UNREADABLE as error:
        damaged = Damage("vectors file", str(path), f"is damaged: {first_line(error, 200)}")
    if damaged is not None:
        yield damaged


def _array_agrees(path: Path, data: Path, shape: tuple[int, int]) -> bool:
    import pyarrow.parquet as pq

    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != np.float32:
        return False
    done = 0
    with pq.ParquetFile(data) as file:
        for batch in file.iter_batches(BATCH, columns=["vector"]):
            vectors = numpy_of(batch.column(0).flatten()).reshape(-1, shape[1])
            # As bytes: not-a-number equals itself.
            if vectors.tobytes() != array[done : done + len(vectors)].tobytes():
                return False
            done += len(vectors)
    return done == shape[0]


def _check_snapshot(data: Path, snapshots: Snapshots) -> Iterator[Damage]:
    """Compare the snapshot, if it is used, with the data file."""
    path = snapshots.path(data)
    try:
        table = snapshots.stored(data)
        if table is not None:
            table.validate(full=True)
        if table is None or table.replace_schema_metadata(None).equals(
            read_columns(data).replace_schema_metadata(None)
        ):
            return
        reason = f"differs from {data.name}"
    except UNREADABLE as error:
        reason = f"is damaged: {first_line(error, 200)}"
    yield Damage("snapshot", str(path), reason)
