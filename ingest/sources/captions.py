"""Caption files: JSONL, CSV and TSV, one or more rows for each picture."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from search.errors import SourceError
from search.records import MAX_CAPTIONS, clean_metadata, clean_text

SUFFIXES = frozenset({".jsonl", ".ndjson", ".csv", ".tsv"})
IMAGE_COLUMNS = ("image", "image_path", "filepath", "file_path", "file_name", "filename", "file",
                 "path", "img", "photo", "picture")  # fmt: skip
CAPTION_COLUMNS = ("captions", "caption", "text", "texts", "sentences", "sentence", "description",
                   "title", "alt_text", "alt", "comment", "prompt")  # fmt: skip
#: One line longer than this is not a caption file's.
MAX_LINE = 4 << 20


@dataclass(frozen=True, slots=True)
class Described:
    """What a caption file says about one picture; ``image`` is "" for a text alone."""

    image: str
    captions: tuple[str, ...]
    metadata: Mapping[str, Any]
    line: int


class CaptionFile:
    """A caption file, read once and checked; rows of the same picture come together.

    The rows are kept in a temporary database, so that memory stays bounded however long the file.

    Args:
        path: the file.
        image_column, caption_column: the names of its columns, where guessing is not enough.

    Raises:
        SourceError: it cannot be read; the message names the line.
    """

    def __init__(self, path: Path, image_column: str = "", caption_column: str = "") -> None:
        self.path = path.absolute()
        # An empty name is a temporary database that moves to disk when it grows.
        self._rows = sqlite3.connect("", check_same_thread=False)
        self._rows.execute("CREATE TABLE row (image TEXT, line INTEGER, said TEXT, extra TEXT)")
        try:
            self._rows.executemany(
                "INSERT INTO row VALUES (?, ?, ?, ?)", self._read(image_column, caption_column)
            )
        except UnicodeDecodeError as error:
            raise SourceError(f"{path} is not UTF-8 text: {error.reason}") from error
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        self._rows.execute("CREATE INDEX by_image ON row (image, line)")

    def __iter__(self) -> Iterator[Described]:
        """Every picture in the order of its first row, then the texts that describe none."""
        named = self._rows.execute(
            "SELECT image, min(line) AS first FROM row WHERE image != ''"
            " GROUP BY image ORDER BY first"
        )
        for image, _ in named:
            yield self._described(image)
        alone = self._rows.execute(
            "SELECT line, said, extra FROM row WHERE image = '' ORDER BY line"
        )
        for line, said, extra in alone:
            yield Described("", _unique(json.loads(said)), _frozen(json.loads(extra)), line)

    def get(self, image: str) -> Described | None:
        """What the file says about the picture it calls so."""
        described = self._described(image)
        return described if described.line else None

    def _described(self, image: str) -> Described:
        captions: list[str] = []
        metadata: dict[str, Any] = {}
        first = 0
        rows = self._rows.execute(
            "SELECT line, said, extra FROM row WHERE image = ? ORDER BY line", (image,)
        )
        for line, said, extra in rows:
            first = first or line
            captions += json.loads(said)
            metadata |= json.loads(extra)
        return Described(image, _unique(captions), _frozen(metadata), first)

    def _read(self, image_column: str, caption_column: str) -> Iterator[tuple[str, int, str, str]]:
        columns: tuple[str, str] | None = None
        for line, row in _records(self.path):
            columns = columns or _columns(self.path, line, row, image_column, caption_column)
            image = row.get(columns[0])
            said = _captions(row.get(columns[1]))
            if image is not None and not isinstance(image, str):
                raise SourceError(f"{self.path}, line {line}: {columns[0]!r} is not a file name")
            if not said and not image:
                raise SourceError(
                    f"{self.path}, line {line}: "
                    f"neither {columns[0]!r} nor {columns[1]!r} says anything"
                )
            extra = {name: row[name] for name in row if name not in columns}
            yield image or "", line, json.dumps(said), json.dumps(clean_metadata(extra))


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with their line numbers (from 1)."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() in {".jsonl", ".ndjson"}:
            yield from _json_lines(path, file)
            return
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise SourceError(f"{path}, line {reader.line_num}: {error}") from error
            if None in row or None in row.values():
                fields = len(reader.fieldnames or ())
                raise SourceError(
                    f"{path}, line {reader.line_num}: not {fields} columns as in the first line"
                )
            yield reader.line_num, row


def _json_lines(path: Path, file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            if len(text) > MAX_LINE:
                raise ValueError("the line is too long")
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}, line {line}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise SourceError(f"{path}, line {line}: not a JSON object, but {type(row).__name__}")
        yield line, row


def _columns(
    path: Path, line: int, row: Mapping[str, Any], image: str, caption: str
) -> tuple[str, str]:
    """The names of the picture's and the captions' column, given or guessed."""
    by_lower = {name.lower(): name for name in row}

    def find(wanted: str, guesses: tuple[str, ...]) -> str | None:
        if wanted:
            return wanted if wanted in row else None
        return next((by_lower[guess] for guess in guesses if guess in by_lower), None)

    found_image, found_caption = find(image, IMAGE_COLUMNS), find(caption, CAPTION_COLUMNS)
    if found_caption is None or (image and found_image is None):
        missing = (
            image if image and found_image is None else caption or " or ".join(CAPTION_COLUMNS[:3])
        )
        raise SourceError(
            f"{path}, line {line}: no column {missing}; there are: {', '.join(map(str, row))}. "
            "Name them with --image-column and --caption-column"
        )
    return found_image or IMAGE_COLUMNS[0], found_caption


def _captions(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = [item.get("raw", "") if isinstance(item, dict) else item for item in values]
    return [text for text in (clean_text(str(t)) for t in texts if t is not None) if text]


def _unique(captions: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(captions))[:MAX_CAPTIONS]


def _frozen(metadata: dict[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(metadata)
