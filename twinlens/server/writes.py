"""Queue writes to each collection, and keep uploaded pictures while a collection has them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import chain, islice

from twinlens.index import Index
from twinlens.ingest.upload import Upload
from twinlens.search.errors import ImageError
from twinlens.search.images.originals import read_file
from twinlens.search.records import image_id
from twinlens.server.batching import QueueFullError
from twinlens.server.library import Library
from twinlens.server.media import Media
from twinlens.server.problems import Problem

#: How many writes to one collection may wait.
MAX_WAITING = 16
#: How many deleted pictures are looked up in the collections at once.
DELETE_BATCH = 1_000


class WriteQueue:
    """Run one write to a collection at a time; a limited number may wait.

    Args:
        max_waiting: how many writes to one collection may wait.

    Attributes:
        written: how many writes have finished, in all collections.
    """

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self.written = 0
        self.max_waiting = max_waiting
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait for the earlier writes to a collection, and hold off the later ones.

        Raises:
            QueueFullError: too many writes are waiting.
        """
        waiting = self._waiting.get(name, 0)
        if waiting > self.max_waiting:
            raise QueueFullError(waiting)
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._waiting[name] = waiting + 1
        try:
            async with lock:
                try:
                    yield
                finally:
                    self.written += 1
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name], self._locks[name]


class UploadedPictures:
    """Store the bytes of uploaded pictures while a collection has them; thread-safe.

    Several collections may have the same picture. While it is being written to one of them, its row
    may not exist yet; a deletion from another collection must not delete its bytes then.

    Args:
        media: stores the bytes.
        library: the collections.
        batch: how many deleted pictures are looked up in the collections at once.
    """

    def __init__(self, media: Media, library: Library, batch: int = DELETE_BATCH) -> None:
        self.batch = batch
        self._media = media
        self._library = library
        self._lock = threading.Lock()
        #: How many writes of each picture are running.
        self._writing: Counter[str] = Counter()
        #: For each running deletion, the pictures whose writing started meanwhile.
        self._protected: list[set[str]] = []

    @contextmanager
    def store(self, uploads: Sequence[Upload]) -> Iterator[frozenset[str]]:
        """Store the pictures that this machine does not have on disk, while their rows are written.

        Yields:
            The ids of the stored pictures.
        """
        new = {
            image_id(upload.data): upload.data
            for upload in uploads
            if upload.data is not None and not _is_on_disk(upload.uri, upload.data)
        }
        with self._lock:
            self._writing.update(new.keys())
            for protected in self._protected:
                protected.update(new.keys())
        try:
            for data in new.values():
                try:
                    self._media.store(data)
                except OSError as error:
                    reason = error.strerror or str(error)
                    raise Problem(503, "store", f"cannot store a picture: {reason}") from error
            yield frozenset(new)
        finally:
            with self._lock:
                self._writing -= Counter(new.keys())

    def of(self, index: Index) -> list[str]:
        """The ids of a collection's uploaded pictures, those of all tenants included."""
        if self._media.is_empty:
            return []
        scanned = (part.scan("images", ["id"]) for part in index.engine.collection.per_tenant())
        ids = (row["id"] for rows in chain.from_iterable(scanned) for row in rows)
        return [key for key in ids if self._media.has(key)]

    def delete_unused(self, ids: Iterable[str]) -> None:
        """Delete the uploaded pictures among these that no collection has any more."""
        uploaded = (key for key in ids if self._media.has(key))
        while batch := set(islice(uploaded, self.batch)):
            self._delete_unused(batch)

    def _delete_unused(self, ids: set[str]) -> None:
        protected: set[str] = set()
        with self._lock:
            self._protected.append(protected)
            protected.update(ids & self._writing.keys())
        try:
            unused = ids - self._in_use(ids - protected) - protected
            with self._lock:
                for key in unused - protected:
                    self._media.delete(key)
        finally:
            with self._lock:
                self._protected = [one for one in self._protected if one is not protected]

    def _in_use(self, ids: set[str]) -> set[str]:
        """The pictures among these that a collection has."""
        database = self._library.database
        unused = set(ids)
        for name in database.names():
            for part in database.collection(name).per_tenant():
                if unused:
                    unused -= {row["id"] for row in part.get("images", sorted(unused), ["id"])}
        return ids - unused


def _is_on_disk(uri: str, data: bytes) -> bool:
    """Whether this machine has a file of that name with these bytes."""
    with suppress(ImageError, OSError, ValueError):
        return read_file(uri) == data
    return False
