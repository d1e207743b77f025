"""Read Parquet and Arrow files: their rows, and the encoded images in them."""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from twinlens.ingest.sources.arrow_types import (
    element_of,
    has_path,
    holds_pictures,
    is_bytes,
    is_list,
    is_picture,
    is_plain,
    rows_of,
)
from twinlens.ingest.sources.columns import IMAGE_COLUMNS, guess
from twinlens.ingest.sources.json_files import Row
from twinlens.search.errors import ImageError, SourceError, first_line

#: Rows per batch, without their images.
ROWS = 256
#: Images per batch of a Parquet file, and how many batches are cached: decoder threads ask for
#: nearby rows.
PICTURES = 32
KEPT = 3
#: Names of byte columns that are taken to hold images.
_BYTES_COLUMNS = (*IMAGE_COLUMNS, "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
_ARROW_FILE = b"ARROW1"

Fetch = Callable[[int], Any]


class Table(Protocol):
    """A file of rows, whose images are read separately and on demand."""

    path: Path
    schema: Any

    def batches(
        self, columns: Sequence[str], pictures: str = ""
    ) -> Iterator[tuple[list[dict[str, Any]], Fetch]]:
        """Yield batches of rows with these columns, and a reader of row i of ``pictures``."""
        ...


def open_table(path: Path) -> Table:
    """Open a Parquet or Arrow file, told apart by the first bytes; reads only the schema.

    Raises:
        SourceError: it is neither, or damaged.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
        table: Table = ParquetTable(path) if is_parquet(head) else ArrowTable(path)
        _read_names(table.schema)
        return table
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read: {error.strerror or first_line(error)}"
        ) from error
    except table_errors() as error:
        raise SourceError(f"{path} cannot be read: {first_line(error)}") from error


def rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file without images, numbered from 1; byte columns are skipped."""
    number = 0
    try:
        table = open_table(path)
        classes = labels(table.schema)
        for batch, _ in table.batches(plain_columns(table.schema)):
            for row in batch:
                number += 1
                yield number, labelled(row, classes)
    except table_errors() as error:
        raise SourceError(f"{path}, after row {number}: {first_line(error)}") from error


def table_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that pyarrow raises for damaged files and for invalid UTF-8."""
    import pyarrow as pa

    return (OSError, pa.ArrowException, ValueError, TypeError, KeyError, OverflowError)


def is_parquet(head: bytes) -> bool:
    """Whether a file that starts with these bytes is Parquet."""
    return head.startswith(b"PAR1")


def is_arrow(head: bytes) -> bool:
    """Whether a file that starts with these bytes is an Arrow file or stream."""
    return head.startswith((_ARROW_FILE, b"\xff\xff\xff\xff"))


def picture_column(schema: Any, wanted: str = "") -> str:
    """Return the column of encoded images: bytes, Hugging Face's ``{bytes, path}``, or lists.

    Args:
        schema: of the table.
        wanted: the requested column; "" to take the first that fits.

    Returns:
        "" if there is none, or if the requested one holds something else.
    """
    fields = {field.name: field.type for field in schema}
    if wanted:
        return wanted if wanted in fields and holds_pictures(fields[wanted]) else ""
    features = [name for name, kind in fields.items() if is_picture(element_of(kind))]
    names = [*features, *(name for name, kind in fields.items() if is_bytes(element_of(kind)))]
    return guess(names, _BYTES_COLUMNS) or next(iter(features), "")


def plain_columns(schema: Any) -> list[str]:
    """Return the columns of texts, numbers, times, and lists and objects of these."""
    return [field.name for field in schema if is_plain(field.type)]


def lost_columns(schema: Any) -> dict[str, str]:
    """Return the columns that are neither plain nor the pictures, and why they are not kept."""
    pictures = picture_column(schema)
    return {
        field.name: f"holds {field.type} and is not kept"[:200]
        for field in schema
        if field.name != pictures and not is_plain(field.type)
    }


def lost_of_file(path: Path) -> dict[str, str]:
    """``lost_columns`` of a file."""
    return lost_columns(open_table(path).schema)


def labels(schema: Any) -> dict[str, list[str]]:
    """Return the class names of Hugging Face's ``ClassLabel`` columns, from the schema."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        features = info["info"]["features"].items()
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}
    return {
        name: [str(label) for label in feature["names"]]
        for name, feature in features
        if isinstance(feature, dict)
        and feature.get("_type") == "ClassLabel"
        and isinstance(feature.get("names"), list)
    }


def labelled(row: Mapping[str, Any], classes: Mapping[str, list[str]]) -> dict[str, Any]:
    """Replace the class numbers in a row by class names."""
    named = dict(row)
    for column, names in classes.items():
        value = row.get(column)
        if isinstance(value, int) and 0 <= value < len(names):
            named[column] = names[value]
    return named


class ParquetTable:
    """A Parquet file, read by row group; any thread can read images, a few at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            self.schema = file.schema_arrow
            counts = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        self._starts = list(accumulate(counts, initial=0))[:-1]
        self._lock = threading.Lock()
        self._file: Any = None
        self._stream: Iterator[Any] = iter(())
        self._next = self._group = -1
        self._kept: list[tuple[int, Any]] = []

    def batches(
        self, columns: Sequence[str], pictures: str = ""
    ) -> Iterator[tuple[list[dict[str, Any]], Fetch]]:
        first = 0
        with self._open() as file:
            # Of the images read only the path, which the file stores as a separate column.
            nested = _path_leaf(file, pictures) if pictures else []
            size = ROWS
            if pictures and not nested and is_list(self.schema.field(pictures).type):
                nested, size = [pictures], PICTURES  # how many there are, no other column says
            for group, start in enumerate(self._starts):
                count = file.metadata.row_group(group).num_rows
                if not columns and not nested:
                    for first in range(start, start + count, ROWS):
                        empty: list[dict[str, Any]] = [
                            {} for _ in range(min(ROWS, start + count - first))
                        ]
                        yield empty, self._fetcher(pictures, first)
                    continue
                first = start
                for batch in file.iter_batches(
                    size, row_groups=[group], columns=[*columns, *nested], use_threads=False
                ):
                    yield rows_of(batch, pictures), self._fetcher(pictures, first)
                    first += batch.num_rows

    def _fetcher(self, pictures: str, first: int) -> Fetch:
        return lambda i: self._picture(pictures, first + i)

    def _picture(self, column: str, row: int) -> Any:
        with self._lock:
            try:
                return _cell(*self._find(column, row), self.path)
            except table_errors() as error:
                self._group = -1
                # With an errno it is a disk error; pyarrow raises OSError without one for damage.
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                reason = f"cannot be read from {self.path.name}: {first_line(error)}"
                raise ImageError(reason) from error

    def _find(self, column: str, row: int) -> tuple[Any, int]:
        """Return the batch that holds the row, and the row's index in it."""
        for start, batch in self._kept:
            if start <= row < start + len(batch):
                return batch, row - start
        group = bisect_right(self._starts, row) - 1
        if group != self._group or row < self._next:
            if self._file is None:
                self._file = self._open()
            self._stream = self._file.iter_batches(
                PICTURES, row_groups=[group], columns=[column], use_threads=False
            )
            self._group, self._next = group, self._starts[group]
        for batch in self._stream:
            start, self._next = self._next, self._next + batch.num_rows
            if row < self._next:
                self._kept = [*self._kept[1 - KEPT :], (start, batch.column(0))]
                return batch.column(0), row - start
        self._group = -1
        raise ImageError(f"{self.path.name} has no row {row + 1} any more")

    def _open(self) -> Any:
        from pyarrow.parquet import ParquetFile

        # Read a row group page by page, not whole.
        return ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False)


class ArrowTable:
    """A memory-mapped Arrow file or stream: images stay on disk until they are read.

    Hugging Face ``datasets`` writes streams, one message after the other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._mapped() as source:
            self.schema = self._reader(source).schema

    def batches(
        self, columns: Sequence[str], pictures: str = ""
    ) -> Iterator[tuple[list[dict[str, Any]], Fetch]]:
        kind = self.schema.field(pictures).type if pictures else None
        nested = [pictures] if kind is not None and (has_path(kind) or is_list(kind)) else []
        for batch in self._record_batches():
            cells = batch.column(pictures) if pictures else None
            for first in range(0, batch.num_rows, ROWS):
                part = batch.slice(first, ROWS).select([*columns, *nested])
                read = rows_of(part, pictures) or [{}] * min(ROWS, batch.num_rows - first)
                yield read, self._fetcher(cells, first)

    def _fetcher(self, cells: Any, first: int) -> Fetch:
        return lambda i: _cell(cells, first + i, self.path)

    def _record_batches(self) -> Iterator[Any]:
        with self._mapped() as source:
            reader = self._reader(source)
            count = getattr(reader, "num_record_batches", None)
            for batch in reader if count is None else map(reader.get_batch, range(count)):
                # Damaged offsets would read arbitrary memory.
                batch.validate(full=True)
                yield batch

    def _reader(self, source: Any) -> Any:
        from pyarrow import ipc

        is_file = source.read(len(_ARROW_FILE)) == _ARROW_FILE
        source.seek(0)
        return ipc.open_file(source) if is_file else ipc.open_stream(source)

    def _mapped(self) -> Any:
        import pyarrow as pa

        return pa.memory_map(str(self.path))


def _path_leaf(file: Any, pictures: str) -> list[str]:
    """The column of a Parquet file that has the paths of its images, if there is one."""
    leaves = [file.schema.column(number).path for number in range(len(file.schema))]
    inner = [leaf for leaf in leaves if leaf.startswith(f"{pictures}.")]
    return [leaf for leaf in inner if leaf.endswith(".path")][:1]


def _cell(cells: Any, row: int, path: Path) -> Any:
    try:
        return cells[row].as_py()
    except table_errors() as error:
        raise ImageError(f"cannot be read from {path.name}: {first_line(error)}") from error


def _read_names(fields: Any) -> None:
    """Read every column name now, so that invalid UTF-8 raises here."""
    import pyarrow as pa

    for field in fields:
        assert field.name is not None
        inner = field.type
        while pa.types.is_list(inner) or pa.types.is_large_list(inner):
            inner = inner.value_type
        if pa.types.is_struct(inner):
            _read_names(inner.field(i) for i in range(inner.num_fields))
