"""Choose the columns of a table that hold the image and its captions, and read their cells."""

from __future__ import annotations

import json
import re
from collections import abc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.search.errors import SourceError
from twinlens.search.records import clean_text

IMAGE_COLUMNS = ("image", "image_path", "filepath", "file_path", "file_name", "filename", "file",
                 "path", "img", "photo", "picture", "image_url", "img_url", "url")  # fmt: skip
CAPTION_COLUMNS = ("captions", "caption", "text", "texts", "sentences", "sentence", "description",
                   "title", "alt_text", "alt", "comment", "prompt", "raw")  # fmt: skip
#: ``caption_0``, ``caption_1``, …: one caption in each.
_NUMBERED = re.compile(r"(caption|text|sentence|comment)s?_?\d+")
#: Keys under which a caption that is an object keeps its text.
TEXT_KEYS = ("raw", "caption", "text", "sentence")
#: Columns in which img2dataset reports a download; never stored as metadata.
DOWNLOAD_COLUMNS = frozenset({"status", "error_message", "exif"})
_IMG2DATASET_COLUMNS = {"key", "status", "error_message"}


@dataclass(frozen=True, slots=True)
class Columns:
    """The image column, or "", and the caption columns, possibly none."""

    image: str
    captions: tuple[str, ...]

    def __contains__(self, name: object) -> bool:
        return name == self.image or name in self.captions


def choose_columns(
    where: str, names: abc.Collection[str], image: str = "", caption: str = ""
) -> Columns:
    """Return the requested columns, or guess them from their names, ignoring case.

    Args:
        where: file and line, for the error message.
        names: all columns of the table.
        image, caption: the requested columns; "" to guess.

    Raises:
        SourceError: the table lacks a requested column.
    """
    for wanted in filter(None, (image, caption)):
        if wanted not in names:
            raise missing_column(where, wanted, names)
    by_lower = {name.lower(): name for name in names}
    return Columns(
        image or guess(by_lower, IMAGE_COLUMNS),
        (caption,) if caption else _caption_columns(by_lower),
    )


def guess(by_lower: Mapping[str, str], guesses: Iterable[str]) -> str:
    """Return the first of the guesses that exists, "" if none does."""
    return next((by_lower[name] for name in guesses if name in by_lower), "")


def missing_column(where: str, wanted: str, names: Iterable[str]) -> SourceError:
    """Return an error that lists the existing columns."""
    return SourceError(
        f"{where}: no column {wanted}; there are: {', '.join(map(str, names))}. "
        "Name them with --image-column and --caption-column"
    )


def captions_in(row: Mapping[str, Any], columns: Columns) -> list[str]:
    """Return the captions of a row, cleaned and without duplicates."""
    said = (text for name in columns.captions for text in texts_of(row.get(name)))
    return list(dict.fromkeys(said))


def texts_of(cell: Any) -> list[str]:
    """Return the captions in a cell: a text, a list, or an object with one of ``TEXT_KEYS``.

    A text that is itself a JSON list of texts, as in some CSV files, counts as that list.
    """
    if isinstance(cell, list):
        return [text for entry in cell for text in texts_of(entry)]
    if isinstance(cell, Mapping):
        return texts_of(next((cell[key] for key in TEXT_KEYS if key in cell), None))
    if cell is None or cell != cell:  # NaN: pandas' missing value
        return []
    if isinstance(cell, str) and cell.startswith('["') and (listed := _json_list(cell)):
        return texts_of(listed)
    text = clean_text(str(cell))
    return [text] if text else []


def is_img2dataset(row: Mapping[str, Any]) -> bool:
    """Whether img2dataset wrote the row."""
    return row.keys() >= _IMG2DATASET_COLUMNS


def was_downloaded(row: Mapping[str, Any]) -> bool:
    """Whether img2dataset could download the image."""
    return bool(row["status"] == "success")


def downloaded_rows(
    path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield rows; give those of img2dataset the path of their image in ``image``.

    Rows that img2dataset could not download are skipped: there is no image, and img2dataset has
    reported the dead links already.
    """
    for number, row in rows:
        if not is_img2dataset(row) or "image" in row:
            yield number, row
        elif was_downloaded(row):
            # Images are 00012/000120034.jpg beside 00012.parquet.
            kept = {name: row[name] for name in row if name not in DOWNLOAD_COLUMNS}
            yield number, {**kept, "image": f"{path.stem}/{row['key']}"}


def _caption_columns(by_lower: Mapping[str, str]) -> tuple[str, ...]:
    guessed = guess(by_lower, CAPTION_COLUMNS)
    if guessed:
        return (guessed,)
    return tuple(by_lower[name] for name in by_lower if _NUMBERED.fullmatch(name))


def _json_list(text: str) -> list[str]:
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return []
    strings = isinstance(listed, list) and all(isinstance(entry, str) for entry in listed)
    return listed if strings else []
