"""What writing needs of a server: turns, so that no writes meet, and a place for pictures."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import chain, islice
from typing import Protocol

from twinlens.ingest.upload import Forgotten, Upload, Uploaded, UploadedItem
from twinlens.search.errors import ImageError
from twinlens.search.images.originals import read_file
from twinlens.search.records import image_id
from twinlens.server.batching import QueueFullError
from twinlens.server.library import Library, Served
from twinlens.server.media import Media
from twinlens.server.problems import Problem

#: Writes to one collection that may wait.
WAITING = 16
#: Uploaded pictures that are looked for in the collections at once.
_DROPPED = 1_000


class Intake(Protocol):
    """What writes to a collection; ``twinlens.ingest.receiver.Intake`` is one."""

    def put(
        self,
        items: Sequence[Upload],
        *,
        prune: bool = False,
        retry_failed: bool = False,
        more: bool = False,
    ) -> Uploaded: ...
    def judge(self, items: Sequence[Upload]) -> list[UploadedItem]: ...
    def forget(self, paths: Sequence[str] = (), ids: Sequence[str] = ()) -> Forgotten: ...
    def forget_gone(self, paths: Sequence[str], *, prune: bool = False) -> Forgotten: ...


class Writable(Protocol):
    """A collection that can be written; ``twinlens.Index`` is one."""

    def intake(self) -> Intake: ...


class Turns:
    """One write to a collection at a time; a bounded number waits.

    Attributes:
        written: how many there were, in all collections.
    """

    def __init__(self) -> None:
        self.written = 0
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """While it is one's turn.

        Raises:
            QueueFullError: too many wait already.
        """
        waiting = self._waiting.get(name, 0)
        if waiting > WAITING:
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


class Kept:
    """The uploaded pictures that are kept to be shown; from any thread.

    Several collections may hold the same picture. One that is being written to one of them is not
    deleted because another lets go of it: its row may not be there yet.
    """

    def __init__(self, media: Media, library: Library) -> None:
        self._media = media
        self._library = library
        self._guard = threading.Lock()
        #: How many writes are under way of each picture.
        self._under_way: Counter[str] = Counter()
        #: For each deletion that is under way, what began to be written meanwhile.
        self._spared: list[set[str]] = []

    @contextmanager
    def keeping(self, uploads: Sequence[Upload]) -> Iterator[frozenset[str]]:
        """Keep what this machine does not have under its path anyway, while its rows are written.

        Yields:
            The ids of what is kept.
        """
        there = {
            image_id(upload.data): upload.data
            for upload in uploads
            if upload.data is not None and not _is_here(upload.uri, upload.data)
        }
        with self._guard:
            self._under_way.update(there.keys())
            for spared in self._spared:
                spared.update(there.keys())
        try:
            for data in there.values():
                try:
                    self._media.keep(data)
                except OSError as error:
                    reason = error.strerror or str(error)
                    raise Problem(503, "store", f"a picture cannot be kept: {reason}") from error
            yield frozenset(there)
        finally:
            with self._guard:
                self._under_way -= Counter(there.keys())

    def of(self, index: Served) -> list[str]:
        """The ids of a collection's pictures, those of all its tenants, that are kept here."""
        if self._media.is_empty:
            return []
        scanned = (part.scan("images", ["id"]) for part in index.engine.collection.parts())
        ids = (row["id"] for rows in chain.from_iterable(scanned) for row in rows)
        return [key for key in ids if self._media.has(key)]

    def drop(self, ids: Iterable[str]) -> None:
        """Delete pictures that no collection holds any more."""
        kept = (key for key in ids if self._media.has(key))
        while some := set(islice(kept, _DROPPED)):
            self._drop(some)

    def _drop(self, ids: set[str]) -> None:
        spared: set[str] = set()
        with self._guard:
            self._spared.append(spared)
            spared.update(ids & self._under_way.keys())
        try:
            left = ids - self._held(ids - spared) - spared
            with self._guard:
                for key in left - spared:
                    self._media.forget(key)
        finally:
            with self._guard:
                self._spared = [one for one in self._spared if one is not spared]

    def _held(self, ids: set[str]) -> set[str]:
        """Those of the pictures that a collection holds."""
        database = self._library.database
        left = set(ids)
        for name in database.names():
            for part in database.collection(name).parts():
                if left:
                    left -= {row["id"] for row in part.get("images", sorted(left), ["id"])}
        return ids - left


def _is_here(uri: str, data: bytes) -> bool:
    """Whether the file of that name on this machine is the very picture."""
    with suppress(ImageError, OSError, ValueError):
        return read_file(uri) == data
    return False
