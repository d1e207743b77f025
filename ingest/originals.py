"""Stored pictures' bytes by their paths: files, members of archives and tables, addresses."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from twinlens.ingest.sample import Item, Sample
from twinlens.ingest.sources import open_sources
from twinlens.ingest.sources.paths import is_address
from twinlens.ingest.sources.tar import is_tar
from twinlens.ingest.sources.urls import Fetch, is_url, no_fetch
from twinlens.ingest.sources.zips import is_zip
from twinlens.search.errors import ImageError, SourceError, UsageError
from twinlens.search.images.originals import read_file

#: Containers that are kept open, the latest used ones.
OPEN = 4
#: Members of one container whose places are remembered; of a larger one it is gone through again.
REMEMBERED = 100_000


class Originals:
    """Gets the bytes behind a stored path; from any thread.

    A container is gone through as far as it takes to find a member, and where members lie is
    remembered, so that a second picture of it costs one read.

    Args:
        fetch: gets what is at an address; without it, what is on the web stays there.
    """

    def __init__(self, fetch: Fetch = no_fetch) -> None:
        self._fetch = fetch
        self._open: OrderedDict[Path, _Container] = OrderedDict()
        self._guard = threading.Lock()

    def __call__(self, path: str) -> bytes:
        """The bytes; whether they are the right ones is for the caller to say.

        Raises:
            ImageError: there is no such picture any more, or it can never be had.
            OSError: it cannot be had now.
        """
        if is_url(path) and not _is_packed(path):
            return self._fetch(path)
        if is_address(path):
            raise ImageError("is not on this machine")
        container = _container_of(path)
        if container is None:
            return read_file(path)
        load = self._opened(container).find(path)
        if load is None:
            raise ImageError(f"is not in {container.name} any more")
        return load()

    def _opened(self, path: Path) -> _Container:
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        with self._guard:
            known = self._open.pop(path, None)
            if known is None or known.stamp != stamp:
                known = _Container(path, stamp)
            self._open[path] = known
            while len(self._open) > OPEN:
                self._open.popitem(last=False)
            return known


class _Container:
    """One archive, table or saved data set, gone through step by step."""

    def __init__(self, path: Path, stamp: tuple[int, int]) -> None:
        self.stamp = stamp
        self._path = path
        self._guard = threading.Lock()
        self._loads: OrderedDict[str, Callable[[], bytes]] = OrderedDict()
        self._items: Iterator[Item] | None = None
        self._whole = True  # whether every member so far is remembered

    def find(self, uri: str) -> Callable[[], bytes] | None:
        """What reads a member, by its name for good."""
        with self._guard:
            if uri in self._loads:
                return self._loads[uri]
            begun = self._items is not None
            found = self._search(uri)
            if found is None and begun and not self._whole:
                self._items = None  # it may have been met, and forgotten
                found = self._search(uri)
            return found

    def _search(self, uri: str) -> Callable[[], bytes] | None:
        try:
            if self._items is None:
                self._items = open_sources([self._path])
            for item in self._items:
                if isinstance(item, Sample) and item.load is not None:
                    self._loads[item.uri] = item.load
                    if len(self._loads) > REMEMBERED:
                        self._loads.popitem(last=False)
                        self._whole = False
                    if item.uri == uri:
                        return item.load
        except (SourceError, UsageError) as error:
            raise ImageError(str(error)) from error
        return None


def _is_packed(address: str) -> bool:
    """Whether an address names a member of an archive, which nobody serves by itself."""
    archive, _, member = address.partition("!")
    return bool(member) and (is_tar(archive) or is_zip(archive))


def _container_of(path: str) -> Path | None:
    """What holds ``container!member``; None where the path is a file of its own."""
    at = path.find("!")
    if at < 0 or "\0" in path or not os.path.isabs(path) or os.path.lexists(path):
        return None
    while at >= 0:
        container = Path(path[:at])
        if container.is_file() or container.is_dir():
            return container
        at = path.find("!", at + 1)
    return None
