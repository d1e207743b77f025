"""Serve pictures by id: make and cache thumbnails, and send originals as they are.

An id is the hash of a picture's bytes. Whatever a stored path leads to by now, only bytes with that
hash are decoded or sent.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twinlens.search.errors import ImageError
from twinlens.search.images.decode import MAX_PIXELS
from twinlens.search.images.formats import sniff
from twinlens.search.images.originals import (
    Read,
    ThumbnailFormat,
    read_file,
    read_original,
    thumbnail,
)
from twinlens.search.milvus.collection import Collection
from twinlens.search.paths import expand_home
from twinlens.search.records import HELD, Row, image_id, is_id
from twinlens.server.batching import QueueFullError
from twinlens.server.disk_cache import DiskCache, write_atomically
from twinlens.server.shared_work import SharedWork

#: Bytes of thumbnails in the cache.
CACHE_BYTES = 2 << 30
#: The formats that browsers show, and their media types.
BROWSER_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif",
                 "AVIF": "image/avif"}  # fmt: skip
#: Bytes; of a larger original a JPEG is sent, since the whole file is hashed in memory.
MAX_ORIGINAL = 32 << 20
#: Pixels of the longer side of the JPEG that replaces an original.
REPLACEMENT_SIDE = 4_096
#: Pixels of the longer side of the largest thumbnail that clients may ask for.
LARGEST_SIDE = 640
#: How many pictures may wait to be made.
MAX_PENDING = 512
#: How many ids may wait to be looked up.
MAX_LOOKUPS = 4_096
ROW_FIELDS = ("id", "path", "paths", "width", "height", HELD)


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """A picture's encoded bytes and their media type."""

    data: bytes
    type: str


class Media:
    """Thumbnails and originals of stored pictures; thread-safe.

    Args:
        folder: ``thumbnails`` in it is a cache that may be deleted, ``originals`` is not.
        read: reads the bytes behind a stored path.
        cache_bytes: bytes of thumbnails in the cache.
        max_pixels: the largest picture to decode.
        max_pending: how many pictures may wait to be made; more raise ``QueueFullError``.
        max_original: bytes of the largest original that is sent as it is.
        replacement_side: pixels of the longer side of the JPEG that replaces an original.
    """

    def __init__(
        self,
        folder: Path,
        *,
        read: Read = read_file,
        cache_bytes: int = CACHE_BYTES,
        max_pixels: int = MAX_PIXELS,
        max_pending: int = MAX_PENDING,
        max_original: int = MAX_ORIGINAL,
        replacement_side: int = REPLACEMENT_SIDE,
    ) -> None:
        folder = expand_home(folder).absolute()  # ``read_file`` needs absolute paths
        self._cache = DiskCache(folder / "thumbnails", cache_bytes)
        self._originals = folder / "originals"
        self._read = read
        self._max_pixels = max_pixels
        self._max_original = max_original
        self._replacement_side = replacement_side
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "twinlens-media")
        self._work: SharedWork[EncodedPicture] = SharedWork(self._pool, max_pending)

    def cached(self, key: str, side: int, encoding: ThumbnailFormat) -> bytes | None:
        """A thumbnail from the cache, or ``None``. Reads a small file."""
        return self._cache.get(_name(key, side, encoding)) if is_id(key) else None

    def thumbnail(self, row: Row, side: int, encoding: ThumbnailFormat) -> Future[EncodedPicture]:
        """Make a thumbnail of a stored picture; concurrent calls for the same one share it.

        Args:
            row: the picture's ``id``, ``path``, ``paths``, ``width`` and ``height``.
            side: pixels of its longer side.
            encoding: of the thumbnail.

        Returns:
            A future, which fails with ``GoneError`` or ``ImageError``. It is shared: do not
            cancel it, but call ``leave`` if it is not wanted any more.

        Raises:
            QueueFullError: too many pictures are waiting.
        """
        return self._work.get(
            _name(row["id"], side, encoding), lambda: self._make_thumbnail(row, side, encoding)
        )

    def original(self, row: Row) -> Future[EncodedPicture]:
        """A stored picture as it is if browsers show it, else an upright JPEG made of it.

        Args, Returns and Raises: see ``thumbnail``.
        """
        return self._work.get(row["id"], lambda: self._read_original(row))

    def leave(self, future: Future[EncodedPicture]) -> None:
        """No longer want a picture; if nobody else does, it is not made."""
        self._work.leave(future)

    def original_bytes(self, row: Row) -> bytes:
        """A picture's bytes: as uploaded, or from one of its paths that still has them.

        Raises:
            GoneError: none has them any more.
        """
        key = row["id"]
        if is_id(key):
            with suppress(OSError, ImageError):
                data = read_file(str(self._original(key)))
                if image_id(data) == key:
                    return data
        return read_original(row, self._read)

    def store(self, data: bytes) -> str:
        """Store an uploaded picture until ``delete``; returns its id.

        Raises:
            OSError: it cannot be written.
        """
        key = image_id(data)
        path = self._original(key)
        if not path.is_file():
            write_atomically(path, data, durable=True)
        return key

    def has(self, key: str) -> bool:
        """Whether an uploaded picture is stored."""
        return is_id(key) and self._original(key).is_file()

    @property
    def is_empty(self) -> bool:
        """Whether no uploaded picture is stored."""
        return next(self._originals.glob("??/*"), None) is None

    def delete(self, key: str) -> None:
        """Delete an uploaded picture, if there is one; no collection may have it any more."""
        if is_id(key):
            with suppress(OSError):
                self._original(key).unlink()

    def close(self) -> None:
        """Finish what is running; start nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def _make_thumbnail(self, row: Row, side: int, encoding: ThumbnailFormat) -> EncodedPicture:
        name = _name(row["id"], side, encoding)
        data = self._cache.get(name)
        if data is None:
            # A larger thumbnail is decoded much faster than a photo of 12 megapixels.
            larger = self._cache.get(_name(row["id"], LARGEST_SIDE, encoding))
            source = larger if larger and side < LARGEST_SIDE else self.original_bytes(row)
            data = thumbnail(source, side, encoding, max_pixels=self._max_pixels)
            self._cache.put(name, data)
        return EncodedPicture(data, BROWSER_TYPES[encoding])

    def _read_original(self, row: Row) -> EncodedPicture:
        data = self.original_bytes(row)
        kind = BROWSER_TYPES.get(sniff(data) or "")
        if kind is not None and len(data) <= self._max_original:
            return EncodedPicture(data, kind)
        del data
        return self._make_thumbnail(row, self._replacement_side, "JPEG")

    def _original(self, key: str) -> Path:
        return self._originals / key[:2] / key


class PictureLookup:
    """Find pictures' rows by id, many in one query; thread-safe.

    A page of results asks for dozens of thumbnails at once, and each needs its picture's paths.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "twinlens-lookup")
        self._waiting: dict[Collection, dict[str, Future[Row | None]]] = {}
        self._lock = threading.Lock()

    def find(self, collection: Collection, key: str) -> Future[Row | None]:
        """Find a picture's ``id``, ``path``, ``paths``, ``width``, ``height`` and ``held``.

        Args:
            collection: where to look; only a tenant's rows if it is a tenant's.
            key: the id of the picture, or of a text that describes it.

        Returns:
            A future of the row, or of ``None`` if there is no such picture. It is shared: do not
            cancel it.

        Raises:
            QueueFullError: too many ids are waiting.
        """
        with self._lock:
            waiting = self._waiting.setdefault(collection, {})
            if key not in waiting:
                if sum(map(len, self._waiting.values())) >= MAX_LOOKUPS:
                    raise QueueFullError(MAX_LOOKUPS)
                waiting[key] = Future()
                if len(waiting) == 1:
                    self._pool.submit(self._read, collection)
            return waiting[key]

    def close(self) -> None:
        """Finish the running query; start no other."""
        self._pool.shutdown(cancel_futures=True)

    def _read(self, collection: Collection) -> None:
        with self._lock:
            waiting = self._waiting.pop(collection)
        try:
            found = _rows(collection, list(waiting))
        except BaseException as error:  # noqa: BLE001 - passed to the callers that wait
            for future in waiting.values():
                future.set_exception(error)
        else:
            for key, future in waiting.items():
                future.set_result(found.get(key))


def _name(key: str, side: int, encoding: ThumbnailFormat) -> str:
    """The name of a thumbnail in the cache."""
    return f"{key}-{side}.{'webp' if encoding == 'WEBP' else 'jpg'}"


def _rows(collection: Collection, keys: list[str]) -> dict[str, Row]:
    """The pictures' rows by the ids that were asked for, of pictures or of texts."""
    found = {row["id"]: row for row in collection.get("images", keys, ROW_FIELDS)}
    others = [key for key in keys if key not in found]
    if others:
        texts = collection.get("texts", others, ["id", "image_id"])
        described = {row["id"]: row["image_id"] for row in texts if row["image_id"]}
        ids = sorted(set(described.values()))
        rows = {row["id"]: row for row in collection.get("images", ids, ROW_FIELDS)}
        found |= {text: rows[key] for text, key in described.items() if key in rows}
    return found
