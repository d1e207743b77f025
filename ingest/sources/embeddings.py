"""Read embeddings computed elsewhere: clip-retrieval's layout, or ``X.npy`` beside ``X.parquet``.

Each row of a matrix is the embedding of one image, which the same row of the table describes.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.ingest.sample import Failure, Item, Sample, relative_path
from twinlens.ingest.sources.arrow_files import open_table, plain_columns
from twinlens.ingest.sources.columns import (
    DOWNLOAD_COLUMNS,
    Columns,
    captions_in,
    choose_columns,
)
from twinlens.ingest.sources.tables import UniqueNames, UriPrefix
from twinlens.ingest.sources.urls import is_url, plain_url
from twinlens.search.errors import SourceError, first_line
from twinlens.search.images.formats import is_image_name
from twinlens.search.models.base import Rows
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import MAX_CAPTIONS, MAX_PATH_BYTES, clean_metadata

_FOLDERS = {"images": "img_emb", "texts": "text_emb"}
_METADATA = "metadata"
_NUMBER = re.compile(r"_(\d+)$")
#: Columns that may locate an image, best first.
_ADDRESSES = ("url", "image_url", "img_url")
_PATHS = ("image_path", "image", "filepath", "file_path", "file_name", "filename", "path", "key")


@dataclass(frozen=True, slots=True)
class EmbeddingsPart:
    """Image and text matrices, one of which may be missing, and the table that describes them."""

    table: Path
    images: Path | None
    texts: Path | None


def parts_of(path: Path) -> list[EmbeddingsPart]:
    """The parts of a folder with ``img_emb``, ``text_emb`` and ``metadata``, or the part of an
    ``.npy`` with its table beside it; none where a path is neither.

    Raises:
        SourceError: the folder's matrices have no table.
    """
    if path.suffix.lower() == ".npy" and path.is_file():
        table = path.with_suffix(".parquet")
        return [EmbeddingsPart(table, path, None)] if table.is_file() else []
    there = {kind: path / name for kind, name in _FOLDERS.items() if (path / name).is_dir()}
    if not there:
        return []
    tables = {_number(file): file for file in sorted((path / _METADATA).glob("*.parquet"))}
    matrices = {
        kind: {_number(file): file for file in sorted(folder.glob("*.npy"))}
        for kind, folder in there.items()
    }
    numbers = sorted({number for files in matrices.values() for number in files})
    for number in numbers:
        if number not in tables:
            raise SourceError(
                f"{path}: the embeddings {number} have no {_METADATA}/{_METADATA}_{number}.parquet"
            )
    return [
        EmbeddingsPart(
            tables[number],
            matrices.get("images", {}).get(number),
            matrices.get("texts", {}).get(number),
        )
        for number in numbers
    ]


def check(part: EmbeddingsPart, model: Fingerprint) -> None:
    """Refuse matrices that the model cannot have computed or that do not match the table.

    Raises:
        SourceError: says what does not match.
    """
    rows = _table_rows(part.table)
    for path in filter(None, (part.images, part.texts)):
        matrix = open_matrix(path)
        if matrix.shape[1] != model.dim:
            raise SourceError(
                f"{path}: its rows have {matrix.shape[1]} numbers, but those of {model.label} "
                f"have {model.dim}: another model made them"
            )
        if matrix.shape[0] != rows:
            raise SourceError(
                f"{path} has {matrix.shape[0]} rows, but {part.table.name} has {rows}"
            )


def read_embeddings(
    parts: list[EmbeddingsPart], place: UriPrefix, caption_column: str = ""
) -> Iterator[Item]:
    """Yield every row as a sample with its embedding.

    A row is named by its URL, or by its path if there is such a file; else by the name in the
    table, or the row's number.
    """
    names = UniqueNames()
    for part in parts:
        try:
            yield from _part(part, place, names, caption_column)
        except (SourceError, OSError) as error:
            yield Failure(str(part.table), str(error), place.root, transient=True)


def _part(
    part: EmbeddingsPart, place: UriPrefix, names: UniqueNames, caption_column: str
) -> Iterator[Item]:
    import pyarrow as pa

    images = open_matrix(part.images) if part.images is not None else None
    texts = open_matrix(part.texts) if part.texts is not None else None
    made = (part.images or part.texts or part.table).stat().st_mtime_ns
    try:
        table = open_table(part.table)
        others = plain_columns(table.schema)
        columns = Columns("", choose_columns(str(part.table), others, "", caption_column).captions)
        row = 0
        for batch, _ in table.batches(others):
            for described in batch:
                uri, relative = _called(described, part, place, names)
                try:
                    vector = _unit(images, row)
                    caption_vector = _unit(texts, row)
                except ValueError as error:
                    yield Failure(uri, str(error), place.root)
                else:
                    yield Sample(
                        uri=uri,
                        root=place.root,
                        relative=relative,
                        load=None,
                        size=vector.nbytes if vector is not None else -1,
                        mtime_ns=made,
                        captions=tuple(captions_in(described, columns))[:MAX_CAPTIONS],
                        metadata=clean_metadata(
                            {
                                name: value
                                for name, value in described.items()
                                if name not in columns and name not in DOWNLOAD_COLUMNS
                            }
                        ),
                        vector=vector,
                        caption_vector=caption_vector,
                    )
                row += 1
    except pa.ArrowException as error:
        raise SourceError(f"{part.table} cannot be read: {first_line(error)}") from error


def _called(
    row: Mapping[str, Any], part: EmbeddingsPart, place: UriPrefix, names: UniqueNames
) -> tuple[str, str]:
    """Return a row's uri and its name relative to the root."""
    number = names.count()
    for column in _ADDRESSES:
        address = row.get(column)
        address = plain_url(address) if isinstance(address, str) else None
        if address is not None and is_url(address) and len(address) <= MAX_PATH_BYTES // 4:
            name = names.unique(address, number)
            return (name, name) if name == address else _member(place, names.unique("", number))
    for column in _PATHS:
        named = row.get(column)
        if isinstance(named, str) and 0 < len(named) <= MAX_PATH_BYTES // 8 and named.isprintable():
            name = names.unique(named, number)
            file = os.path.normpath(part.table.parent / named)
            if name == named and is_image_name(named) and os.path.isfile(file):
                return file, relative_path(file, place.root)
            return _member(place, name)
    return _member(place, names.unique("", number))


def _member(place: UriPrefix, name: str) -> tuple[str, str]:
    return place.uri + name, place.relative + name


def open_matrix(path: Path) -> np.ndarray[Any, Any]:
    """Memory-map a matrix, shape (rows, dim), of floats.

    Raises:
        SourceError: the file is not a matrix of floats.
    """
    try:
        matrix: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise SourceError(f"{path} cannot be read: {first_line(error)}") from error
    if getattr(matrix, "ndim", 0) != 2 or matrix.dtype.kind != "f" or not matrix.shape[1]:
        raise SourceError(f"{path} is not a matrix of floats with a row for each item")
    return matrix


def _unit(matrix: np.ndarray[Any, Any] | None, row: int) -> Rows | None:
    """Return a row normalised to unit length, float32."""
    if matrix is None:
        return None
    values = matrix[row].astype(np.float64)
    length = float(np.sqrt(values @ values))
    if not math.isfinite(length):
        raise ValueError("its embedding is not finite")
    if length < 1e-6:
        raise ValueError("its embedding is zero")
    unit: Rows = (values / length).astype(np.float32)
    return unit


def _table_rows(path: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} cannot be read: {first_line(error)}") from error


def _number(path: Path) -> str:
    """Return the number that a matrix and its table share, without leading zeros."""
    found = _NUMBER.search(path.stem)
    return str(int(found[1])) if found is not None else path.stem
