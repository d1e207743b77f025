"""Read a caption file of any format, group its rows by image, and find the images it names."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twinlens.ingest.sample import Item
from twinlens.ingest.sources.caption_formats import CaptionFormat, format_of
from twinlens.ingest.sources.cell_types import ColumnTypes
from twinlens.ingest.sources.choose import KnownNames, columns_of, first_rows
from twinlens.ingest.sources.columns import (
    IMAGE_COLUMNS,
    Columns,
    captions_in,
    downloaded_rows,
    listed_texts,
    same_name,
)
from twinlens.ingest.sources.folder import file_sample
from twinlens.ingest.sources.urls import plain_url
from twinlens.search.errors import SourceError
from twinlens.search.images.formats import supported_extensions
from twinlens.search.paths import name_forms, one_form
from twinlens.search.records import MAX_CAPTIONS, clean_metadata

#: Names of folders that hold caption files while the images are in a folder beside them, as in
#: COCO and Flickr8k.
_OF_TEXTS = re.compile(r"annotation|caption|text|label|meta", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
#: Keys under which a picture that is an object keeps its name.
_NAME_KEYS = ("path", "file_name", "filename", "url", "src")
#: How many folders to search, and how deep.
_MAX_FOLDERS = 256
_DEPTH = 2


@dataclass(frozen=True, slots=True)
class CaptionEntry:
    """One image's captions and metadata in a caption file; ``image`` is "" for a text alone."""

    image: str
    captions: tuple[str, ...]
    metadata: Mapping[str, Any]
    line: int


class CaptionFile:
    """A caption file, read and checked when it is opened; rows of the same image are merged.

    The rows are kept in a temporary SQLite database, so that memory stays bounded.

    Args:
        path: the file, or a saved dataset's folder.
        image_column, caption_column: its columns; "" to guess them.
        format: its format, if known.
        uri: its permanent name, if ``path`` is a temporary copy.
        known: the names of pictures that are given beside it; called if the image column cannot be
            told otherwise.

    Attributes:
        columns: the names of its columns.
        guessed: the image column, if only its values show that it is one.
        lost: columns that cannot be kept, or not wholly, and why.

    Raises:
        SourceError: it cannot be read; the message names the line.
    """

    def __init__(
        self,
        path: Path,
        image_column: str = "",
        caption_column: str = "",
        format: CaptionFormat | None = None,  # noqa: A002 - what it is called everywhere else
        uri: str = "",
        known: KnownNames = frozenset,
    ) -> None:
        self.path = path.absolute()
        self.uri = uri or str(self.path)
        found = format or format_of(path)
        if found is None:
            raise SourceError(f"{path} is not a caption file")
        self._format = found
        self._types = ColumnTypes()
        self.columns: tuple[str, ...] = ()
        self.guessed = ""
        self.lost = found.lost(path) if found.lost is not None else {}
        # An empty name is a temporary database that moves to disk when it grows.
        self._rows = sqlite3.connect("", check_same_thread=False)
        self._rows.execute(
            "CREATE TABLE row (image TEXT, line INTEGER, said TEXT, extra TEXT, base TEXT)"
        )
        self._rows.execute("CREATE TABLE used (image TEXT PRIMARY KEY) WITHOUT ROWID")
        try:
            self._rows.executemany(
                "INSERT INTO row VALUES (?, ?, ?, ?, ?)",
                self._read(image_column, caption_column, known),
            )
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{path} is neither UTF-8 nor UTF-16 text: save it as UTF-8"
            ) from error
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        self._rows.execute("CREATE INDEX by_image ON row (image, line)")
        self._rows.execute("CREATE INDEX by_base ON row (base) WHERE base != ''")

    def __iter__(self) -> Iterator[CaptionEntry]:
        """Yield every image in the order of its first row, then the texts without an image."""
        return self._described_where("image != ''")

    def unused(self) -> Iterator[CaptionEntry]:
        """Yield the images that ``take`` did not return, then the texts without an image."""
        return self._described_where("image != '' AND image NOT IN (SELECT image FROM used)")

    def get(self, image: str) -> CaptionEntry | None:
        """Return the entry of an image, by the name in the file; None if there is none."""
        described = self._described(_plain(image))
        return described if described.line else None

    def take(self, *names: str) -> CaptionEntry | None:
        """Return the entry of the first of these names that has one, and mark it as used."""
        for name in names:
            described = self.get(name) if name else None
            if described is not None:
                self._rows.execute("INSERT OR IGNORE INTO used VALUES (?)", (described.image,))
                return described
        return None

    def is_used(self, entry: CaptionEntry) -> bool:
        """Whether ``take`` has returned the entry."""
        found = self._rows.execute("SELECT 1 FROM used WHERE image = ?", (entry.image,))
        return found.fetchone() is not None

    def take_by_name(self, *names: str) -> tuple[CaptionEntry | None, str]:
        """Like ``take``, for an image that is not beside the file; and what to tell the user.

        An entry that names an image beside the file describes that one, and no other of its name.
        """
        folder = self.path.parent if self.uri == str(self.path) else None
        for name in names:
            entry = self.get(name) if name else None
            if entry is not None and not (folder and _existing(folder / entry.image)):
                again = f"shares its captions with another {entry.image} ({self.where(entry)})"
                note = f"{again}: add the folder to the name there" if self.is_used(entry) else ""
                return self.take(name), note
        return None, ""

    def take_foreign(self, relative: str) -> CaptionEntry | None:
        """Return the entry whose absolute path, of another machine, ends in this path.

        None if there is none, or more than one: another picture's caption is worse than no caption.
        """
        for name in (_plain(relative), os.path.splitext(_plain(relative))[0]):
            found = self._rows.execute(
                "SELECT DISTINCT image FROM row WHERE base = ?", (os.path.basename(name),)
            )
            ending = [image for (image,) in found if _slashes(image).endswith(f"/{name}")]
            if len(ending) == 1 and not os.path.lexists(ending[0]):
                return self.take(ending[0])
        return None

    def where(self, described: CaptionEntry) -> str:
        """Name the file and the row, for a message."""
        return f"{os.path.basename(self.uri)}, {self._format.unit} {described.line}"

    @property
    def names_pictures(self) -> bool:
        """Whether any row names a picture."""
        found = self._rows.execute("SELECT 1 FROM row WHERE image != '' LIMIT 1")
        return found.fetchone() is not None

    def _described_where(self, condition: str) -> Iterator[CaptionEntry]:
        named = self._rows.execute(
            f"SELECT image, min(line) AS first FROM row WHERE {condition}"  # noqa: S608 - ours
            " GROUP BY image ORDER BY first"
        )
        for image, _ in named:
            yield self._described(image)
        alone = self._rows.execute(
            "SELECT line, said, extra FROM row WHERE image = '' ORDER BY line"
        )
        for line, said, extra in alone:
            yield CaptionEntry("", _unique(json.loads(said)), _frozen(self._typed(extra)), line)

    def _described(self, image: str) -> CaptionEntry:
        captions: list[str] = []
        metadata: dict[str, Any] = {}
        first = 0
        rows = self._rows.execute(
            "SELECT line, said, extra FROM row WHERE image = ? ORDER BY line", (image,)
        )
        for line, said, extra in rows:
            first = first or line
            captions += json.loads(said)
            metadata |= self._typed(extra)
        return CaptionEntry(image, _unique(captions), _frozen(metadata), first)

    def _typed(self, extra: str) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(extra)
        return row if self._format.typed else self._types.typed(row)

    def _read(
        self, image_column: str, caption_column: str, known: KnownNames
    ) -> Iterator[tuple[str, int, str, str, str]]:
        first, rows = first_rows(downloaded_rows(self.path, self._format.read(self.path)))
        if not first:
            return
        where = f"{self.path}, {self._format.unit} {first[0][0]}"
        sample = [row for _, row in first]
        columns = columns_of(where, sample, image_column, caption_column, known)
        self.columns = tuple(dict.fromkeys(name for row in sample for name in row))
        is_usual = not columns.image or same_name(columns.image) in map(same_name, IMAGE_COLUMNS)
        self.guessed = "" if is_usual or image_column else columns.image
        columns = Columns(columns.image or IMAGE_COLUMNS[0], columns.captions)
        for line, row in rows:
            where = f"{self.path}, {self._format.unit} {line}"
            images = _images_in(row.get(columns.image))
            said = captions_in(row, columns)
            if images is None:
                raise SourceError(f"{where}: {columns.image!r} is not a file name")
            if not said and not images:
                raise SourceError(
                    f"{where}: no value in {columns.image!r}, "
                    f"{', '.join(map(repr, columns.captions))}"
                )
            extra = clean_metadata(
                {name: row[name] for name in row if name not in columns}, self.lost
            )
            if not self._format.typed:
                self._types.see(extra)
            for name in images or [""]:
                image = _plain(name)
                yield image, line, json.dumps(said), json.dumps(extra), _foreign_base(image)


class ImageFinder:
    """Finds the images that a caption file names: beside it, below it, or below the given folders.

    Args:
        captions: the caption file, or a saved dataset's folder.
        folders: further folders that the user named.
    """

    def __init__(self, captions: Path, folders: Sequence[Path]) -> None:
        self._captions = captions
        self._given = [captions.parent, *(folder.absolute() for folder in folders)]
        self._around: list[Path] | None = None

    def find(self, name: str) -> Item | None:
        """Find the image that the caption file calls ``name``; None if there is none.

        Tries the path relative to the caption file's folder and the given folders; then relative to
        the folders below them and, if the caption file is in a folder such as ``annotations/``, to
        the folders beside it: ``annotations/captions_val2014.json`` finds ``val2014/``. A name
        without a suffix is tried with every image suffix.

        Raises:
            SourceError: several folders have an image of that name.
        """
        for folder in self._given:
            path = _existing(folder / name)
            if path is not None:
                return file_sample(path, folder if path.is_relative_to(folder) else path.parent)
        if os.path.isabs(name):
            return None
        found = [path for folder in self._folders() if (path := _existing(folder / name))]
        # captions_val2014.json means val2014/, even if train2014/ has a file of the same name.
        meant = [path for path in found if path.parent.name in self._captions.stem] or found
        if len(meant) > 1:
            parents = ", ".join(str(path.parent) for path in meant)
            raise SourceError(f"several pictures are called {name}, in {parents}: add the folder")
        return file_sample(meant[0], meant[0].parent) if meant else None

    def _folders(self) -> list[Path]:
        if self._around is None:
            home = self._captions.parent
            tops = [home, *self._given[1:]]
            if _OF_TEXTS.search(home.name):
                tops.append(home.parent)
            below = (folder for top in tops for folder in _below(top, _DEPTH))
            self._around = list(dict.fromkeys(below))[:_MAX_FOLDERS]
        return self._around


def _images_in(cell: Any) -> list[str] | None:
    """The pictures that a cell names, [] if none; None if it is neither a name nor a list of them.

    A number is a name, too: the suffix is found with the file.
    """
    if cell is None or cell == "" or cell != cell:  # NaN: pandas' missing value
        return []
    if isinstance(cell, Mapping):
        cell = next((cell[key] for key in _NAME_KEYS if isinstance(cell.get(key), str)), cell)
    if isinstance(cell, list):
        found = [_images_in(one) for one in cell]
        return None if None in found else [name for names in found for name in names or ()]
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        return None
    return listed_texts(str(cell)) or [str(cell)]


def _foreign_base(image: str) -> str:
    """The last part of an absolute path, POSIX or Windows; "" for any other name."""
    is_absolute = image.startswith("/") or _DRIVE.match(image) is not None
    return _slashes(image).rpartition("/")[2] if is_absolute else ""


def _slashes(image: str) -> str:
    return image.replace("\\", "/") if _DRIVE.match(image) else image


def _plain(image: str) -> str:
    """Normalise an image's path: ``a.jpg`` for ``./a.jpg``, and NFC for any Unicode form."""
    image = plain_url(image.encode("utf-8", "replace").decode())
    return os.path.normpath(one_form(image)) if image and "://" not in image else image


def _unique(captions: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(captions))[:MAX_CAPTIONS]


def _frozen(metadata: dict[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(metadata)


def _existing(path: Path) -> Path | None:
    forms = name_forms(os.path.normpath(path))
    return next((found for form in forms if (found := _exists(Path(form))) is not None), None)


def _exists(path: Path) -> Path | None:
    try:
        if path.is_file():
            return path
        if not path.suffix:
            with_endings = (path.with_suffix(ending) for ending in sorted(supported_extensions()))
            return next((candidate for candidate in with_endings if candidate.is_file()), None)
    except (OSError, ValueError):  # a name that no file can have
        return None
    return None


def _below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as listing:
            inner = sorted(e.path for e in listing if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return
    for path in inner[:_MAX_FOLDERS]:
        yield Path(path)
        if depth > 1:
            yield from _below(Path(path), depth - 1)
