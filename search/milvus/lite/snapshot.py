"""Keep the columns of data files as memory-mapped Arrow files, a cache that can be deleted.

A Parquet file must be decoded by whole columns, even for ten rows. So the columns of each data file
are written once more, without the vectors (Milvus Lite keeps those in a file of their own), in the
Arrow IPC format: ``DATABASE/snapshot/COLLECTION/FILE.arrow``. Fields without a column are extracted
from their JSON into columns named ``$meta.FIELD``, so that filters need not parse it.

A data file never changes. A snapshot carries the stamp of its own, and is made anew if it is
missing, damaged, or of another file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from twinlens.search.milvus.lite.folder import stamp_of

#: Change it whenever the contents of snapshots change.
VERSION = "1"
#: Prefix of columns extracted from the JSON of the dynamic fields.
META = "$meta."
#: Data files with fewer rows are decoded each time.
MIN_ROWS = 1_000
#: The most dynamic fields that get a column.
MAX_FIELDS = 500
_STAMP = b"twinlens.stamp"
_SCALARS = (pa.types.is_boolean, pa.types.is_int64, pa.types.is_float64, pa.types.is_string)


class Snapshots:
    """The snapshots of one collection's data files.

    Args:
        folder: where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, data: Path) -> pa.Table:
        """The columns of a data file but the vectors, with those of dynamic fields.

        Raises:
            FileNotFoundError: the data file is gone.
        """
        with suppress(OSError, pa.ArrowException):
            if (found := self.stored(data)) is not None:
                return found
        stamp = _stamp(data)
        table = read_columns(data)
        if len(table) >= MIN_ROWS:
            with suppress(OSError):  # a folder that cannot be written to
                self._write(self.path(data), table.replace_schema_metadata({_STAMP: stamp}))
        return table

    def stored(self, data: Path) -> pa.Table | None:
        """The snapshot of a data file; None if there is none, or if it is of another file.

        Raises:
            FileNotFoundError: the data file is gone.
            OSError, pa.ArrowException: the snapshot cannot be read.
        """
        stamp, path = _stamp(data), self.path(data)
        if not path.exists():
            return None
        found = pa.ipc.open_file(pa.memory_map(str(path)))
        return found.read_all() if (found.schema.metadata or {}).get(_STAMP) == stamp else None

    def remove_others(self, data: Iterable[Path]) -> None:
        """Delete the snapshots of data files that no longer exist."""
        wanted = {self.path(path).name for path in data}
        with suppress(OSError):
            for name in os.listdir(self.folder):
                if name not in wanted:
                    os.unlink(self.folder / name)

    def size(self) -> int:
        """How many bytes the snapshots take on disk."""
        with suppress(OSError):
            return sum(entry.stat().st_size for entry in os.scandir(self.folder))
        return 0

    def drop(self) -> None:
        """Delete all snapshots."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, data: Path) -> Path:
        """Where the snapshot of a data file is kept."""
        return self.folder / f"{data.parent.parent.name}.{data.stem}.arrow"

    def _write(self, path: Path, table: pa.Table) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        try:
            with (
                pa.OSFile(str(partial), "wb") as sink,
                pa.ipc.new_file(sink, table.schema) as writer,
            ):
                writer.write_table(table)
            os.replace(partial, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial)


def with_meta_columns(table: pa.Table) -> pa.Table:
    """Add a column for each dynamic field whose values all have one type."""
    if "$meta" not in table.column_names:
        return table
    parsed = [json.loads(text) if text else {} for text in table.column("$meta").to_pylist()]
    names = dict.fromkeys(name for row in parsed for name in row)
    for name in list(names)[:MAX_FIELDS]:
        with suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
            column = pa.array([row.get(name) for row in parsed])
            if any(is_type(column.type) for is_type in _SCALARS):
                table = table.append_column(META + name, column)
    return table


def read_columns(data: Path) -> pa.Table:
    """Decode the columns of a data file but the vectors, with those of dynamic fields."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(data) as file:
        wanted = [name for name in file.schema_arrow.names if name != "vector"]
        return with_meta_columns(file.read(columns=wanted))


def _stamp(data: Path) -> bytes:
    """What tells a data file from any other: its size, time, and a hash of its footer.

    The footer of a Parquet file holds the sizes and the smallest and largest values of all columns.
    """
    found = stamp_of(data)
    if found is None:
        raise FileNotFoundError(data)
    _, changed, size = found
    with data.open("rb") as file:
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        footer = hashlib.blake2b(file.read(length), digest_size=16).hexdigest()
    return f"{VERSION} {size} {changed} {footer}".encode()
