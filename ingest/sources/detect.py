"""Detect what a path is (archive, table, embeddings, URL list, caption file, folder) and open it.

To add a kind of source, write a module that yields ``Sample`` and add one entry to ``CONTAINERS``
(local files and folders) or ``ARCHIVES`` (also read over HTTP and from object stores).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from twinlens.ingest.sample import Failure, Item, Warn, failure_of, ignore_notices
from twinlens.ingest.sources import embeddings, tables
from twinlens.ingest.sources import export_manifest as manifest
from twinlens.ingest.sources.archives import Archive
from twinlens.ingest.sources.caption_formats import (
    FORMATS,
    SUFFIXES,
    TABLES,
    CaptionFormat,
    format_of,
    names_of,
)
from twinlens.ingest.sources.captions import CaptionFile
from twinlens.ingest.sources.choose import KnownNames
from twinlens.ingest.sources.folder import EVERY_FILE, FileFilter, walk
from twinlens.ingest.sources.tar import is_tar, read_tar
from twinlens.ingest.sources.urls import Fetch, is_url_list, no_fetch, read_urls
from twinlens.ingest.sources.zip import is_zip, read_zip
from twinlens.search.errors import SourceError
from twinlens.search.images.formats import is_image_name
from twinlens.search.models.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read the sources.

    Attributes:
        files: which files of a folder to take.
        image_column, caption_column: columns of tables; "" to guess them.
        fetch: downloads a URL; None to download nothing.
        refresh: download images again that are stored already.
        embeddings: the model that computed the embeddings.
        warn: told of what is passed over or cannot be kept.
        known: the names of pictures that are given beside a caption file.
        texts_alone: store texts of a caption file that name no picture, beside pictures.
    """

    files: FileFilter = EVERY_FILE
    image_column: str = ""
    caption_column: str = ""
    fetch: Fetch | None = None
    refresh: bool = False
    embeddings: Fingerprint | None = None
    warn: Warn = ignore_notices
    known: KnownNames = frozenset
    texts_alone: bool = False

    def caption_file(self, path: Path, kind: CaptionFormat, uri: str = "") -> CaptionFile:
        """Read a caption file of a known format; ``uri`` names it if ``path`` is a copy."""
        return CaptionFile(
            path, self.image_column, self.caption_column, kind, uri=uri, known=self.known
        )


#: Yields the items of one path, from the start at each call.
Items = Callable[[], Iterator[Item]]
#: Opens one kind of file, or folder of files, that holds images. Arguments: the path; the folder it
#: was found in, or None for a path named by the user; how to read it. Returns None for a path of
#: another kind, and raises SourceError for one that cannot be read.
Container = Callable[[Path, Path | None, ReadOptions], Items | None]


#: Reads the images of an archive that the filter takes, and tells what it passes over.
ArchiveReader = Callable[[Archive, FileFilter, Warn], Iterator[Item]]

#: Archive formats: a test of the file's name, and a reader.
ARCHIVES: tuple[tuple[Callable[[str], bool], ArchiveReader], ...] = (
    (is_tar, read_tar),
    (is_zip, read_zip),
)


def archive_reader(name: str) -> ArchiveReader | None:
    """Return the reader of an archive by the file's name; None if it is not an archive."""
    return next((read for matches, read in ARCHIVES if matches(name)), None)


def open_path(path: Path, options: ReadOptions) -> Items | CaptionFile:
    """Open a path that the user named.

    Raises:
        SourceError: the path is of no known kind, or damaged.
    """
    for container in CONTAINERS:
        items = container(path.absolute(), None, options)
        if items is not None:
            return items
    found = format_of(path)
    if found is not None:
        return options.caption_file(path, found)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        raise SourceError(
            f"{path} holds neither pictures nor captions; captions are read from "
            f"{names_of(FORMATS)}"
        )
    return lambda: walk(
        path, options.files, lambda inner, root: _below(inner, root, options), options.warn
    )


def holds_pictures(path: Path, options: ReadOptions) -> bool:
    """Whether a file is a container of pictures or of embeddings.

    Raises:
        SourceError: it cannot be read.
    """
    return any(container(path, path.parent, options) is not None for container in CONTAINERS)


def has_no_pictures(path: Path) -> bool:
    """Whether a path is a folder with nothing to ingest, as when a disk is not mounted."""
    if not path.is_dir():
        return False
    try:
        items = open_path(path, ReadOptions())
    except SourceError:  # something is there that cannot be read
        return False
    return not isinstance(items, CaptionFile) and next(items(), None) is None


def open_captions(path: Path, options: ReadOptions) -> CaptionFile:
    """Open a file that the user calls a caption file; its content decides if its suffix does not.

    Raises:
        SourceError: it is of no known format, or cannot be read.
    """
    found = format_of(path, whatever_its_name=not is_image_name(path.name))
    if found is None:
        raise SourceError(
            f"{path} is not a caption file: caption files are {names_of(FORMATS)} and end in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return options.caption_file(path, found)


def _below(path: Path, root: Path, options: ReadOptions) -> Iterator[Item] | None:
    """Open a container found in a folder; a damaged one becomes a ``Failure``."""
    try:
        for container in CONTAINERS:
            items = container(path, root, options)
            if items is not None:
                str(path).encode()
                return items()
    except UnicodeEncodeError:
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        return iter([Failure(readable, "its name is not valid UTF-8: rename it", str(root))])
    except SourceError as error:
        return iter([Failure(str(path), str(error), str(root), transient=True)])
    return None


def _tables(path: Path, root: Path | None, options: ReadOptions) -> Items | None:
    """Open Parquet and Arrow files and saved datasets that hold images.

    Those without images are caption files, which are read only if the user names them.
    """
    splits = _table_files(path)
    files = [file for split in splits.values() for file in split]
    if not any(tables.holds_images(file, options.image_column) for file in files[:1]):
        return None
    columns = (options.image_column, options.caption_column)
    for file in files:
        tables.check(file, *columns)
    place = tables.UriPrefix.of(path, root)

    def items() -> Iterator[Item]:
        for split, inner in splits.items():
            below = place.below(split) if split else place
            yield from tables.samples(inner, below, *columns, split=split)

    return items


def _table_files(path: Path) -> dict[str, list[Path]]:
    """Return the table files of a path, by split."""
    if path.is_dir():
        return tables.dataset_splits(path) if tables.is_saved_dataset(path) else {}
    if path.suffix.lower() not in TABLES or format_of(path) is None:
        return {}
    return {"": [path]}


def _archive(path: Path, root: Path | None, options: ReadOptions) -> Items | None:
    """Open tar shards and zip archives."""
    read = archive_reader(path.name)
    if read is None or not path.is_file():
        return None
    # In a folder, ``include`` has selected the archive, not its members.
    files = options.files if root is None else replace(options.files, include=())

    def items() -> Iterator[Item]:
        try:
            archive = Archive.of(path, root)
        except OSError as error:
            return iter([failure_of(error, str(path), str(root or path))])
        return read(archive, files, options.warn)

    return items


def _embeddings(path: Path, root: Path | None, options: ReadOptions) -> Items | None:
    """Open embeddings that were computed elsewhere."""
    parts = embeddings.parts_of(path)
    if not parts:
        if root is None and path.suffix.lower() == ".npy":
            raise SourceError(
                f"{path} needs {path.stem}.parquet beside it, which describes its rows"
            )
        return None
    if options.embeddings is None:
        if (path / manifest.NAME).is_file():
            raise SourceError(f"{path} is an export: import it with `twinlens import`")
        raise SourceError(
            f"{path} holds embeddings: name the model that made them with --embeddings-model"
        )
    for part in parts:
        embeddings.check(part, options.embeddings)
    place = tables.UriPrefix.of(path, root)
    return lambda: embeddings.read_embeddings(parts, place, options.caption_column)


def _urls(path: Path, root: Path | None, options: ReadOptions) -> Items | None:
    """Open URL lists that the user names; a .txt found in a folder is an image's sidecar."""
    if root is not None or not path.is_file() or not is_url_list(path):
        return None
    return lambda: read_urls(path, options.fetch or no_fetch, refresh=options.refresh)


#: Tried in this order. Add a new kind of source here.
CONTAINERS: tuple[Container, ...] = (_embeddings, _tables, _archive, _urls)
