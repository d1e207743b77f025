"""Choose the columns of a table that hold the image and its captions, and read their cells."""

from __future__ import annotations

import ast
import json
import re
from collections import abc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from twinlens.search.errors import SourceError
from twinlens.search.records import clean_text

#: Names of columns, compared by ``same_name``. The first that a table has counts.
IMAGE_COLUMNS = ("image", "image_path", "filepath", "file_path", "source_file", "file_name", "file",
                 "path", "img", "photo", "picture", "img_path", "image_name", "img_name",
                 "image_file", "img_file", "image_file_name", "photo_path", "photo_name",
                 "picture_path", "full_path", "abs_path", "relative_path", "rel_path", "fname",
                 "fpath", "local_path", "src", "image_src", "media", "images",
                 "image_paths", "image_files", "image_url", "img_url",
                 "image_urls", "photo_url", "download_url", "url")  # fmt: skip
CAPTION_COLUMNS = ("captions", "caption", "text", "texts", "sentences", "sentence", "description",
                   "caption_abstract", "image_description", "caption_str", "caption_text",
                   "image_caption", "headline", "title", "alt_text", "alt", "comment",
                   "user_comment", "prompt", "raw")  # fmt: skip
#: ``caption_0``, ``caption_1``, …: one caption in each.
_NUMBERED = re.compile(r"(caption|text|sentence|comment)s?_?\d+")
#: Keys under which a caption that is an object keeps its text.
TEXT_KEYS = ("raw", "caption", "text", "sentence")
#: Columns in which img2dataset reports a download; never stored as metadata.
DOWNLOAD_COLUMNS = frozenset({"status", "error_message", "exif"})
_PYTHON_TEXT = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\"""", re.DOTALL)
_PYTHON_LIST = re.compile(rf"(?:{_PYTHON_TEXT.pattern})(?:\s*,?\s*(?:{_PYTHON_TEXT.pattern}))*+,?",
                          re.DOTALL)  # fmt: skip
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
    """Return the requested columns, or guess them from their names, however these are spelled.

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
    return Columns(
        image or guess(names, IMAGE_COLUMNS),
        (caption,) if caption else _caption_columns(names),
    )


@lru_cache(4_096)
def same_name(name: str) -> str:
    """The spelling of a column's name that counts: ``XMP:File Name`` is ``filename``."""
    return "".join(ch for ch in name.rpartition(":")[2].casefold() if ch.isalnum())


def guess(names: Iterable[str], guesses: Iterable[str]) -> str:
    """Return the column with the first of the guessed names that there is, "" if there is none."""
    known: dict[str, str] = {}
    for name in names:
        known.setdefault(same_name(name), name)
    return next((known[one] for one in map(same_name, guesses) if one in known), "")


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

    A text that is itself a list of texts, as JSON or as Python writes it, counts as that list.
    """
    if isinstance(cell, list | tuple):
        return [text for entry in cell for text in texts_of(entry)]
    if isinstance(cell, Mapping):
        return texts_of(next((cell[key] for key in TEXT_KEYS if key in cell), None))
    if cell is None or cell != cell:  # NaN: pandas' missing value
        return []
    if isinstance(cell, str) and (listed := listed_texts(cell)):
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


def listed_texts(text: str) -> list[str]:
    """The texts in a list that JSON, Python or NumPy has written as text; [] if it is none."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return []
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return _python_list(text)
    strings = isinstance(listed, list) and all(isinstance(entry, str) for entry in listed)
    return listed if strings else []


def _python_list(text: str) -> list[str]:
    """``['a dog', "it's wet"]``; if commas are missing, as in NumPy's, Python would join them."""
    inner = text[1:-1].strip()
    if _PYTHON_LIST.fullmatch(inner) is None:
        return []
    try:
        return [str(ast.literal_eval(one[0])) for one in _PYTHON_TEXT.finditer(inner)]
    except (ValueError, SyntaxError):
        return []


def _caption_columns(names: abc.Collection[str]) -> tuple[str, ...]:
    guessed = guess(names, CAPTION_COLUMNS)
    if guessed:
        more = re.compile(rf"{re.escape(guessed)}_?\d+")
        return (guessed, *(name for name in names if more.fullmatch(name)))
    return tuple(name for name in names if _NUMBERED.fullmatch(name.lower()))
