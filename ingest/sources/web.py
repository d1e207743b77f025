"""Open ``http`` and ``https`` URLs: images, archives, tables, URL lists, caption files.

The suffix of the URL's path decides. Everything but an image is downloaded to a temporary file, by
the same fetcher and within the same limits as images.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from twinlens.ingest.sample import Failure, Item
from twinlens.ingest.sources import tables
from twinlens.ingest.sources.archives import Archive, TemporaryCopy
from twinlens.ingest.sources.caption_formats import FORMATS, SUFFIXES, TABLES, format_of, names_of
from twinlens.ingest.sources.captions import CaptionFile
from twinlens.ingest.sources.detect import ArchiveReader, Items, ReadOptions, archive_reader
from twinlens.ingest.sources.urls import Fetch, is_url_list, no_fetch, read_urls, url_item
from twinlens.search.errors import ImageError, SourceError, reason_of
from twinlens.search.images.decode import MAX_BYTES


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A downloaded file.

    Attributes:
        copy: the temporary file.
        stamp: a number made of the contents, used as modification time.
    """

    copy: TemporaryCopy
    stamp: int

    @classmethod
    def of(cls, address: str, fetch: Fetch) -> _Fetched:
        """Download a URL.

        Raises:
            ImageError, OSError: the download failed.
        """
        data = fetch(address)
        stamp = int(hashlib.blake2b(data, digest_size=5).hexdigest(), 16)
        return cls(TemporaryCopy([data], MAX_BYTES, posixpath.splitext(_path(address))[1]), stamp)


def open_web(address: str, options: ReadOptions) -> Items | CaptionFile:
    """Open a URL.

    Raises:
        SourceError: it has the suffix of a list, table or caption file, but is not one.
    """
    path = _path(address)
    if (read := archive_reader(path)) is not None:
        return lambda: _archive(address, read, options)
    suffix = posixpath.splitext(path)[1].lower()
    if suffix not in SUFFIXES and suffix != ".urls":
        fetch = options.fetch or no_fetch
        return lambda: iter([url_item(address, address, fetch, refresh=options.refresh)])
    fetched = _fetched(address, options)
    with _named(address, fetched):
        if is_url_list(fetched.copy.path):
            return lambda: _list(address, fetched, options)
        if suffix in TABLES and tables.holds_images(fetched.copy.path, options.image_column):
            return lambda: _table(address, fetched, options)
        return _captions(address, fetched, options)


def open_web_captions(address: str, options: ReadOptions) -> CaptionFile:
    """Open a caption file at a URL, whatever its suffix.

    Raises:
        SourceError: the download failed, or it is not a caption file.
    """
    fetched = _fetched(address, options)
    with _named(address, fetched):
        return _captions(address, fetched, options, whatever_its_name=True)


class WebImageFinder:
    """Finds the images that a caption file names, relative to its URL."""

    def __init__(self, captions: str, options: ReadOptions) -> None:
        self._captions = captions
        self._options = options

    def find(self, name: str) -> Item:
        """Return the image of that name; whether it exists shows when it is downloaded."""
        url = urljoin(self._captions, quote(name))
        fetch = self._options.fetch or no_fetch
        return url_item(url, self._captions, fetch, refresh=self._options.refresh)


def _path(address: str) -> str:
    return urlsplit(address).path


def _fetched(address: str, options: ReadOptions) -> _Fetched:
    try:
        return _Fetched.of(address, options.fetch or no_fetch)
    except (ImageError, OSError) as error:
        raise SourceError(f"{address}: {reason_of(error)}") from error


@contextmanager
def _named(address: str, fetched: _Fetched) -> Iterator[None]:
    """Name the URL in errors, not the temporary copy."""
    try:
        yield
    except SourceError as error:
        raise SourceError(str(error).replace(str(fetched.copy.path), address)) from error


def _captions(
    address: str, fetched: _Fetched, options: ReadOptions, *, whatever_its_name: bool = False
) -> CaptionFile:
    found = format_of(fetched.copy.path, whatever_its_name=whatever_its_name)
    if found is None:
        raise SourceError(f"{address} is not a caption file: caption files are {names_of(FORMATS)}")
    # CaptionFile reads all of it here; the copy is not needed afterwards.
    return options.caption_file(fetched.copy.path, found, address)


def _list(address: str, fetched: _Fetched, options: ReadOptions) -> Iterator[Item]:
    fetch = options.fetch or no_fetch
    yield from read_urls(fetched.copy.path, fetch, refresh=options.refresh, uri=address)


def _table(address: str, fetched: _Fetched, options: ReadOptions) -> Iterator[Item]:
    columns = (options.image_column, options.caption_column)
    place = tables.UriPrefix(address, f"{address}!", "")
    for item in tables.samples([fetched.copy.path], place, *columns):
        yield tables.keep_copy(item, fetched.copy, fetched.stamp)


def _archive(address: str, read: ArchiveReader, options: ReadOptions) -> Iterator[Item]:
    """Download an archive only when it is its turn: there may be many."""
    try:
        fetched = _Fetched.of(address, options.fetch or no_fetch)
    except (ImageError, OSError) as error:
        yield Failure(address, reason_of(error), address, transient=True)
        return
    place = tables.UriPrefix(address, f"{address}!", "")
    archive = Archive(address, place, fetched.copy.path, fetched.stamp, fetched.copy)
    yield from read(archive, options.files, options.warn)
