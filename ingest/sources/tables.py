"""Read tables that hold images, a sample per row: Parquet, Arrow and Hugging Face datasets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sources import arrow_files
from twinlens.ingest.sources.arrow_files import (
    labelled,
    labels,
    lost_columns,
    open_table,
    picture_column,
    plain_columns,
    table_errors,
)
from twinlens.ingest.sources.columns import (
    IMAGE_COLUMNS,
    Columns,
    captions_in,
    choose_columns,
    guess,
    is_img2dataset,
    missing_column,
    was_downloaded,
)
from twinlens.ingest.sources.folder import reader
from twinlens.ingest.sources.json_files import Row
from twinlens.search.errors import ImageError, SourceError, first_line
from twinlens.search.records import MAX_CAPTIONS, clean_metadata

#: Bytes. A row with a longer name is named by its number.
_MAX_NAME = 1_024


@dataclass(frozen=True, slots=True)
class UriPrefix:
    """The prefix of the names of images in an archive or table.

    Attributes:
        root: the source that was ingested.
        uri, relative: prefixes of the sample's ``uri`` and ``relative``.
    """

    root: str
    uri: str
    relative: str

    @classmethod
    def of(cls, container: Path, root: Path | None = None) -> UriPrefix:
        """Return the prefix of a file that the user named, or that was found below ``root``."""
        if root is None:
            return cls(str(container), f"{container}!", "")
        return cls(str(root), f"{container}!", f"{container.relative_to(root).as_posix()}!")

    def failure(self, reason: str) -> Failure:
        """Report that a part cannot be read now; rows that are stored of it are kept."""
        return Failure(self.uri.rstrip("!/"), reason, self.root, transient=True)

    def below(self, folder: str) -> UriPrefix:
        """Return the prefix of a part of it."""
        return UriPrefix(self.root, f"{self.uri}{folder}/", f"{self.relative}{folder}/")


def holds_images(path: Path, image_column: str = "") -> bool:
    """Whether the table has a column of encoded images.

    Raises:
        SourceError: it cannot be read.
    """
    return bool(picture_column(open_table(path).schema, image_column))


def check(path: Path, image_column: str, caption_column: str) -> None:
    """Refuse a table that lacks a requested column.

    Raises:
        SourceError: lists the existing columns.
    """
    schema = open_table(path).schema
    if not picture_column(schema, image_column):
        raise missing_column(str(path), f"of pictures {image_column}".strip(), schema.names)
    if caption_column and caption_column not in schema.names:
        raise missing_column(str(path), caption_column, schema.names)


def samples(
    paths: Iterable[Path],
    place: UriPrefix,
    image_column: str = "",
    caption_column: str = "",
    split: str = "",
) -> Iterator[Item]:
    """Yield every row of tables that belong together.

    A row is named by the path its image came from; by its number if it has none, or one that an
    earlier row has. Each image of a list is one sample, with the captions of the row. A file that
    cannot be read is a failure, and the next file is read. ``split`` becomes a column of that name.
    """
    names = UniqueNames()
    columns = {"split": split} if split else {}
    for path in paths:
        yield from _table_samples(path, place, names, image_column, caption_column, columns)


def is_saved_dataset(folder: Path) -> bool:
    """Whether Hugging Face ``datasets`` wrote the folder with ``save_to_disk``."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def dataset_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the Arrow files of every split, in order; a dataset without splits has the split "".

    Raises:
        SourceError: a file is missing, or is not what ``save_to_disk`` writes.
    """
    if not (folder / "dataset_dict.json").is_file():
        return {"": _files(folder)}
    names = _listed(folder / "dataset_dict.json", "splits")
    return {name: _files(folder / name) for name in names}


def dataset_rows(folder: Path) -> Iterator[Row]:
    """Yield the rows of a saved dataset without images, numbered from 1 over all splits.

    If it has several splits, each row has its split's name in ``split``.
    """
    number = 0
    for split, files in dataset_splits(folder).items():
        for file in files:
            for _, row in arrow_files.rows(file):
                number += 1
                yield number, {"split": split, **row} if split else row


def keep_copy(item: Item, copy: object, mtime_ns: int) -> Item:
    """Bind the temporary copy of a table to an item, and give it the original's date."""
    if isinstance(item, Failure) or item.load is None:
        return item
    load = item.load

    def keep() -> bytes:
        assert copy is not None
        return load()

    return replace(item, load=keep, mtime_ns=mtime_ns)


def _table_samples(
    path: Path,
    place: UriPrefix,
    names: UniqueNames,
    image_column: str,
    caption_column: str,
    columns: Mapping[str, Any],
) -> Iterator[Item]:
    try:
        table = open_table(path)
        pictures = picture_column(table.schema, image_column)
        others = plain_columns(table.schema)
        chosen = choose_columns(str(path), others, "", caption_column)
        row_of = _RowReader(path, place, pictures, chosen, labels(table.schema))
        row_of.lost |= lost_columns(table.schema)
        for rows, fetch in table.batches(others, pictures):
            for i, row in enumerate(rows):
                number = names.count()
                if is_img2dataset(row) and not was_downloaded(row):
                    continue
                row = {**columns, **row}
                cell = row.get(pictures)
                if not isinstance(cell, list):
                    name = names.unique(row_of.name(row, cell), number)
                    yield row_of.sample(name, row, _loader(fetch, i, path))
                    continue
                for k, one in enumerate(cell or [None]):
                    own = row_of.name({}, one) or f"{row_of.name(row, None) or number}/{k}"
                    name = names.unique(own, number)
                    yield row_of.sample(name, row, _loader(fetch, i, path, k))
    except SourceError as error:
        yield place.failure(str(error))
    except table_errors() as error:
        yield place.failure(f"{path.name} cannot be read further: {first_line(error)}")


class _RowReader:
    """Turns the rows of one table into samples."""

    def __init__(
        self,
        path: Path,
        place: UriPrefix,
        pictures: str,
        columns: Columns,
        classes: Mapping[str, list[str]],
    ) -> None:
        status = path.stat()
        self._size, self._mtime_ns = status.st_size, status.st_mtime_ns
        self._place = place
        self._pictures = pictures
        self._columns = Columns(pictures, columns.captions)
        self._classes = classes
        self._told: set[str] = set()
        #: Columns that cannot be kept, or not wholly, and why.
        self.lost: dict[str, str] = {}

    def name(self, row: Mapping[str, Any], cell: object) -> str:
        """Return the name of an image of the row, "" if there is none that can be used."""
        named = cell.get("path") if isinstance(cell, Mapping) else None
        if not named:
            texts = [key for key, value in row.items() if isinstance(value, str)]
            named = row.get(guess(texts, (*IMAGE_COLUMNS, "key")))
        if not isinstance(named, str):
            return ""
        named = named.strip().replace("\\", "/")
        if named.startswith("/") or "://" in named or named[1:3] == ":/":
            # An absolute path from another machine: keep only the file name.
            named = named.rpartition("/")[2]
        usable = named.isprintable() and len(named.encode("utf-8", "replace")) <= _MAX_NAME
        return named if usable else ""

    def sample(self, name: str, row: Mapping[str, Any], load: Callable[[], bytes]) -> Sample:
        """Return the row as a sample with that name."""
        extra = {key: value for key, value in row.items() if key not in self._columns}
        metadata = clean_metadata(labelled(extra, self._classes), self.lost)
        new = sorted(self.lost.keys() - self._told)
        self._told.update(new)
        return Sample(
            uri=f"{self._place.uri}{name}",
            root=self._place.root,
            relative=f"{self._place.relative}{name}",
            load=load,
            size=self._size,
            mtime_ns=self._mtime_ns,
            captions=tuple(captions_in(row, self._columns))[:MAX_CAPTIONS],
            metadata=metadata,
            notes=tuple(f"the column {column} {self.lost[column]}" for column in new),
        )


def _loader(
    fetch: Callable[[int], Any], i: int, path: Path, k: int | None = None
) -> Callable[[], bytes]:
    """Return a function that reads the image: from the table, or from the file it names."""

    def load() -> bytes:
        cell = fetch(i)
        if k is not None:
            cell = cell[k] if cell and k < len(cell) else None
        data = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if isinstance(data, bytes) and data:
            return data
        named = cell.get("path") if isinstance(cell, Mapping) else None
        if named and (beside := path.parent / named).is_file():
            return reader(beside)()
        raise ImageError("its row holds no picture" + (f", only the path {named}" if named else ""))

    return load


class UniqueNames:
    """Gives every row a unique name; keeps millions of names in a temporary SQLite database."""

    def __init__(self) -> None:
        self._taken = sqlite3.connect("", check_same_thread=False)
        self._taken.execute("CREATE TABLE name (name TEXT PRIMARY KEY) WITHOUT ROWID")
        self._rows = 0

    def count(self) -> int:
        """Return the number of the next row, from 0."""
        self._rows += 1
        return self._rows - 1

    def unique(self, name: str, row: int) -> str:
        """Return ``name``; add the row's number if it is empty or already used."""
        folder, slash, last = name.rpartition("/")
        for candidate in filter(None, (name, f"{folder}{slash}{row}{'-' * bool(last)}{last}")):
            added = self._taken.execute("INSERT OR IGNORE INTO name VALUES (?)", (candidate,))
            if added.rowcount:
                return candidate
        return f"row {row}"


def _files(folder: Path) -> list[Path]:
    named = _listed(folder / "state.json", "_data_files")
    files = [folder / name for name in named]
    for file in files:
        if not file.is_file():
            raise SourceError(f"{folder} is not complete: there is no {file.name}")
    return files


def _listed(path: Path, key: str) -> list[str]:
    """Read a list of file names from a JSON file; refuse names with a folder."""
    try:
        listed: Any = json.loads(path.read_text("utf-8"))[key]
        names = [entry["filename"] if isinstance(entry, dict) else entry for entry in listed]
        if not all(isinstance(name, str) and name == Path(name).name for name in names):
            raise ValueError("its file names must not contain a folder")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(
            f"{path} is not in the format of Hugging Face datasets: {error}"
        ) from error
    return names
