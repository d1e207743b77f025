"""Read JSON caption files as a stream: lists of rows, columns, names with captions, COCO."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from twinlens.ingest.sources.json_shapes import is_named, named_row, plain_row
from twinlens.ingest.sources.text_lines import open_text
from twinlens.search.errors import SourceError
from twinlens.search.images.formats import is_image_name

Row = tuple[int, Mapping[str, Any]]

#: Characters. A file with a longer row is not a caption file.
MAX_VALUE = 64 << 20
_READ = 1 << 20


def json_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a JSON file, numbered from 1. These shapes are known:

    - ``[{…}, …]``: each object is a row.
    - ``{"a.jpg": "caption" | ["caption", …] | {…}, …}``, recognised by its first key.
    - COCO captions: ``{"images": […], "annotations": […]}``.
    - ``{"images": [{…}, …]}``: one list of rows under some name, Karpathy's splits among them.
    - Rows and files of LLaVA, Label Studio, VIA and kohya's scripts: see ``json_shapes``.
    - ``{"image": […], "caption": […]}``: columns, as lists or as pandas writes them.

    Only one row is in memory at a time.

    Raises:
        SourceError: it is not JSON, or of another shape.
    """
    with open_text(path) as file:
        scanner = _Scanner(path, file)
        opening = scanner.peek()
        if opening == "[":
            for number, value in enumerate(scanner.elements(), 1):
                yield number, _object(path, number, value)
        elif opening == "{":
            yield from _object_rows(path, scanner)
        else:
            raise SourceError(f"{path}: not JSON: it begins with {opening or 'nothing'!r}")
        if scanner.peek():
            raise SourceError(
                f"{path}: not JSON: text follows after its end; is it JSON lines (.jsonl)?"
            )


def _object_rows(path: Path, scanner: _Scanner) -> Iterator[Row]:
    members = scanner.members()
    first = next(members, None)
    if first is None:
        return
    if is_image_name(first):
        yield from _named(scanner, first, scanner.value(), members)
        return
    document = _Document(path)
    if scanner.peek() == "{":
        value = scanner.value()
        if is_named(value):
            yield from _named(scanner, first, value, members)
            return
        document.add_value(first, value)
    else:
        document.add(scanner, first)
    for key in members:
        document.add(scanner, key)
    yield from document.rows()


def _named(scanner: _Scanner, first: str, value: Any, rest: Iterator[str]) -> Iterator[Row]:
    yield 1, named_row(first, value)
    for number, key in enumerate(rest, 2):
        yield number, named_row(key, scanner.value())


class _Document:
    """An object of lists, kept in a temporary SQLite database until all its keys are known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # An empty name is a temporary database that moves to disk when it grows.
        self._cells = sqlite3.connect("")
        self._cells.execute("CREATE TABLE cell (key TEXT, number INTEGER, value TEXT, id TEXT)")
        self._lists: dict[str, int] = {}
        self._columns: dict[str, int] = {}

    def add(self, scanner: _Scanner, key: str) -> None:
        """Read the value of a key from the scanner."""
        if scanner.peek() == "[":
            self._insert(key, scanner.elements())
            return
        self.add_value(key, scanner.value())

    def add_value(self, key: str, value: Any) -> None:
        """Take the value of a key: columns as pandas writes them, or VIA's files by name."""
        if not isinstance(value, dict) or not value:
            return
        if all(name.isdigit() for name in value) or all(map(is_named, value.values())):
            self._insert(key, iter(value.values()))

    def rows(self) -> Iterator[Row]:
        """Yield the rows, after every key was added."""
        if {"images", "annotations"} <= self._lists.keys():
            yield from self._coco()
        elif self._lists:
            key = (
                "images"
                if "images" in self._lists
                else max(self._lists, key=self._lists.__getitem__)
            )
            for number, _, value in self._all(key):
                yield number, plain_row(value)
        elif self._columns:
            yield from self._zipped()
        else:
            raise SourceError(
                f"{self._path}: neither a list of rows, nor columns, nor pictures with captions"
            )

    def _insert(self, key: str, values: Iterator[Any]) -> None:
        kinds = {"list": 0, "column": 0}

        def cells() -> Iterator[tuple[str, int, str, str]]:
            for number, value in enumerate(values, 1):
                is_row = isinstance(value, dict)
                kinds["list" if is_row else "column"] += 1
                identity = str(value.get("id", "")) if is_row else ""
                yield key, number, json.dumps(value), identity

        self._cells.executemany("INSERT INTO cell VALUES (?, ?, ?, ?)", cells())
        if kinds["list"] and not kinds["column"]:
            self._lists[key] = kinds["list"]
        elif kinds["column"]:
            self._columns[key] = kinds["column"] + kinds["list"]

    def _all(self, key: str) -> Iterator[tuple[int, str, Any]]:
        cursor = self._cells.execute(
            "SELECT number, id, value FROM cell WHERE key = ? ORDER BY rowid", (key,)
        )
        for number, identity, value in cursor:
            yield number, identity, json.loads(value)

    def _coco(self) -> Iterator[Row]:
        """Yield one row per annotation, then the images without annotations."""
        self._cells.execute("CREATE INDEX by_id ON cell (key, id)")
        self._cells.execute("CREATE TABLE used (id TEXT PRIMARY KEY)")
        last = 0
        for last, _, annotation in self._all("annotations"):
            where = f"{self._path}, annotation {last}"
            if "caption" not in annotation:
                raise SourceError(
                    f"{where}: it has no caption; COCO's captions are in captions_*.json, and "
                    f"this one has: {', '.join(annotation)}"
                )
            identity = str(annotation.get("image_id", ""))
            image = self._coco_image(identity)
            if image is None:
                raise SourceError(f"{where}: there is no image with the id {identity!r}")
            self._cells.execute("INSERT OR IGNORE INTO used VALUES (?)", (identity,))
            yield last, {**image, "caption": annotation["caption"]}
        for number, identity, image in self._all("images"):
            known = self._cells.execute("SELECT 1 FROM used WHERE id = ?", (identity,)).fetchone()
            if known is None:
                yield last + number, {**_coco_columns(image), "caption": None}

    def _coco_image(self, identity: str) -> dict[str, Any] | None:
        found = self._cells.execute(
            "SELECT value FROM cell WHERE key = 'images' AND id = ?", (identity,)
        ).fetchone()
        return _coco_columns(json.loads(found[0])) if found else None

    def _zipped(self) -> Iterator[Row]:
        length = max(self._columns.values())
        for key, count in self._columns.items():
            if count != length:
                raise SourceError(
                    f"{self._path}: its columns differ in length: {key} has {count}, "
                    f"another one {length}"
                )
        cursor = self._cells.execute("SELECT number, key, value FROM cell ORDER BY number, rowid")
        row: dict[str, Any] = {}
        current = 1
        for number, key, value in cursor:
            if number != current:
                yield current, row
                row, current = {}, number
            if key in self._columns:
                row[key] = json.loads(value)
        yield current, row


def _coco_columns(image: dict[str, Any]) -> dict[str, Any]:
    """Return COCO's fields of an image, with its id as ``coco_id`` and without its size."""
    kept = {name: image[name] for name in image if name not in ("id", "width", "height")}
    return {**kept, "coco_id": image.get("id"), "image": str(image.get("file_name") or "")}


class _Scanner:
    """Reads a JSON text value by value, holding little more than one value at a time."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._values = 0

    def peek(self) -> str:
        """Return the next character that is not white space, "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def elements(self) -> Iterator[Any]:
        """Yield the values of the array that starts here."""
        self._take("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """Yield the keys of the object that starts here; the caller reads each value."""
        self._take("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self._broken("a name in quotes was expected")
            key = self.value()
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def value(self) -> Any:
        """Return the value that starts here."""
        self.peek()
        self._values += 1
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except RecursionError:
                raise self._broken("nested too deeply") from None
            except ValueError as error:
                if not self._more():
                    raise self._broken(getattr(error, "msg", str(error))) from error
                continue
            # A number may go on beyond what was read so far.
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return value

    def _take(self, expected: str) -> str:
        found = self.peek()
        if not found or found not in expected:
            raise self._broken(f"{' or '.join(expected)} was expected")
        self._at += 1
        return found

    def _more(self) -> bool:
        """Read more, doubling what is pending, so that a long value takes linear time."""
        pending = self._text[self._at :]
        if len(pending) > MAX_VALUE:
            raise self._broken("longer than a row can be; write it as JSON lines (.jsonl)")
        read = self._file.read(max(_READ, len(pending)))
        self._text, self._at = pending + read, 0
        return bool(read)

    def _broken(self, reason: str) -> SourceError:
        return SourceError(f"{self._path}: not JSON: value {self._values}: {reason}")


def _object(path: Path, number: int, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SourceError(f"{path}, row {number}: not a JSON object, but {type(value).__name__}")
    return plain_row(value)
