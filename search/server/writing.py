"""What writing needs of a server: turns, so that no writes meet, and a place for pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from search.errors import ImageError
from search.originals import read_file
from search.server.batching import QueueFullError
from search.server.library import Library
from search.server.media import Media
from search.server.problems import Problem
from search.uploads import Forgotten, Upload, Uploaded, UploadedItem

#: Writes to one collection that may wait.
WAITING = 16


class Intake(Protocol):
    """What writes to a collection; ``ingest.upload.Intake`` is one."""

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
    """One write to a collection at a time; a bounded number waits."""

    def __init__(self) -> None:
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
                yield
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name], self._locks[name]


class Kept:
    """The uploaded pictures that are kept to be shown."""

    def __init__(self, media: Media, library: Library) -> None:
        self._media = media
        self._library = library

    def keep(self, uploads: Sequence[Upload]) -> frozenset[str]:
        """Keep what this machine does not have under its path anyway; the ids of what was kept."""
        ids: set[str] = set()
        for upload in uploads:
            if upload.data is not None and not _is_here(upload.uri, upload.data):
                try:
                    ids.add(self._media.keep(upload.data))
                except OSError as error:
                    reason = error.strerror or str(error)
                    raise Problem(503, "store", f"a picture cannot be kept: {reason}") from error
        return frozenset(ids)

    def drop(self, ids: frozenset[str]) -> None:
        """Delete pictures that no collection holds any more."""
        if not ids:
            return
        store = self._library.store
        left = set(ids)
        for name in store.names():
            for part in store.corpus(name).parts():
                left -= {row["id"] for row in part.get("images", sorted(left), ["id"])}
        for key in left:
            self._media.forget(key)


def _is_here(uri: str, data: bytes) -> bool:
    """Whether the file of that name on this machine is the very picture."""
    with suppress(ImageError, OSError, ValueError):
        return read_file(uri) == data
    return False
