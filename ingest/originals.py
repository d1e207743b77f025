"""``Originals``: read the bytes of stored images again: from files, archives, tables or URLs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cachetools import LRUCache

from twinlens.ingest.sample import Item, Sample
from twinlens.ingest.sources import open_sources
from twinlens.ingest.sources.detect import archive_reader
from twinlens.ingest.sources.paths import is_address
from twinlens.ingest.sources.urls import Fetch, is_url, no_fetch
from twinlens.search.errors import ImageError, SourceError, UsageError
from twinlens.search.images.originals import read_file

#: Containers kept open, in an LRU cache.
MAX_CONTAINERS = 4
#: Members of a container whose positions are cached; a larger one is scanned again on a miss.
MAX_MEMBERS = 100_000


class Originals:
    """Reads the bytes of stored paths; safe to call from any thread.

    A container is scanned up to the wanted member. The positions of its members are cached, so that
    the next image of it costs one read.

    Args:
        fetch: downloads URLs; by default images on the web cannot be read.
    """

    def __init__(self, fetch: Fetch = no_fetch) -> None:
        self._fetch = fetch
        self._containers: LRUCache[Path, _Container] = LRUCache(MAX_CONTAINERS)
        self._lock = threading.Lock()

    def __call__(self, path: str) -> bytes:
        """Read the bytes of a path; the caller checks that they are the right ones.

        Raises:
            ImageError: the image is no longer there, or cannot be read at all.
            OSError: the image cannot be read now.
        """
        if is_url(path) and not _is_archive_member(path):
            return self._fetch(path)
        if is_address(path):
            raise ImageError("is not on this machine")
        container = _container_path(path)
        if container is None:
            return read_file(path)
        load = self._open(container).find(path)
        if load is None:
            raise ImageError(f"is not in {container.name} any more")
        return load()

    def _open(self, path: Path) -> _Container:
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        with self._lock:
            container = self._containers.get(path)
            if container is None or container.stamp != stamp:
                container = self._containers[path] = _Container(path, stamp)
            return container


class _Container:
    """One archive, table or saved dataset, scanned step by step."""

    def __init__(self, path: Path, stamp: tuple[int, int]) -> None:
        self.stamp = stamp
        self._path = path
        self._lock = threading.Lock()
        self._members: LRUCache[str, Callable[[], bytes]] = LRUCache(MAX_MEMBERS)
        self._items: Iterator[Item] | None = None
        self._evicted = False

    def find(self, uri: str) -> Callable[[], bytes] | None:
        """The function that reads a member, given its uri; None where there is no such member."""
        with self._lock:
            cached = self._members.get(uri)
            if cached is not None:
                return cached
            resumed = self._items is not None
            found = self._scan(uri)
            if found is None and resumed and self._evicted:
                self._items = None  # the member may be before the position of the scan
                found = self._scan(uri)
            return found

    def _scan(self, uri: str) -> Callable[[], bytes] | None:
        try:
            if self._items is None:
                self._items = open_sources([self._path])
            for item in self._items:
                if isinstance(item, Sample) and item.load is not None:
                    self._evicted |= len(self._members) == self._members.maxsize
                    self._members[item.uri] = item.load
                    if item.uri == uri:
                        return item.load
        except (SourceError, UsageError) as error:
            raise ImageError(str(error)) from error
        return None


def _is_archive_member(address: str) -> bool:
    """Whether a URL names a member of an archive, which cannot be downloaded by itself."""
    archive, _, member = address.partition("!")
    return bool(member) and archive_reader(archive) is not None


def _container_path(path: str) -> Path | None:
    """The container of a path ``container!member``; None where the path is a file of its own."""
    at = path.find("!")
    if at < 0 or "\0" in path or not os.path.isabs(path) or os.path.lexists(path):
        return None
    while at >= 0:
        container = Path(path[:at])
        if container.is_file() or container.is_dir():
            return container
        at = path.find("!", at + 1)
    return None
