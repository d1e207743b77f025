"""``Media``: pictures by id. Thumbnails are made once and kept; originals go out as they are.

An id is the hash of a picture's bytes. Whatever a stored path leads to by now, only bytes of that
very hash are ever decoded or served.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from twinlens.search.errors import ImageError
from twinlens.search.images.decode import MAX_PIXELS, sniff
from twinlens.search.images.originals import Read, read_file, read_original
from twinlens.search.images.thumbnails import Encoding, thumbnail
from twinlens.search.records import ID_LENGTH, Row, image_id
from twinlens.server.batching import QueueFullError
from twinlens.server.disk_cache import FolderCache, write_whole

#: Bytes of thumbnails that are kept.
CACHE_BYTES = 2 << 30
#: What browsers show by themselves.
SHOWN = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif",
         "AVIF": "image/avif"}  # fmt: skip
#: Bytes; a larger original goes out as a JPEG made of it, since it is checked whole in memory.
MAX_SERVED = 32 << 20
#: Pixels of the longer side of a JPEG that stands for an original.
STAND_IN = 4_096
#: Pixels; of pictures with more only one is decoded at a time.
LARGE = 40_000_000
#: Pictures that may wait to be made.
QUEUE = 512
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Blob:
    """Encoded bytes, and their media type."""

    data: bytes
    type: str


class Media:
    """Thumbnails and originals of stored pictures; from any thread.

    Args:
        folder: ``thumbnails`` below it may be deleted at any time, ``originals`` not.
        read: gets the bytes behind a stored path.
        limit: bytes of thumbnails that are kept.
        max_pixels: of a picture.
        queue: pictures that may wait to be made; more raise ``QueueFullError``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        read: Read = read_file,
        limit: int = CACHE_BYTES,
        max_pixels: int = MAX_PIXELS,
        queue: int = QUEUE,
    ) -> None:
        folder = Path(os.path.expanduser(folder)).absolute()  # ``read_file`` takes no other
        self._cache = FolderCache(folder / "thumbnails", limit)
        self._originals = folder / "originals"
        self._read = read
        self._max_pixels = max_pixels
        self._queue = queue
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "twinlens-media")
        self._large = threading.Lock()
        self._making: dict[str, Future[Blob]] = {}
        self._guard = threading.Lock()

    def cached(self, key: str, side: int, encoding: Encoding) -> bytes | None:
        """A thumbnail that was made before, or None. Reads a small file."""
        return self._cache.get(_name(key, side, encoding)) if is_id(key) else None

    def thumbnail(self, row: Row, side: int, encoding: Encoding) -> Future[Blob]:
        """A stored picture, small; those who ask at once wait for the same one.

        Args:
            row: of the picture: its ``id``, ``path``, ``paths``, ``width`` and ``height``.
            side: pixels of its longer side.
            encoding: what to encode it as.

        Returns:
            What becomes the picture, or fails with ``GoneError`` or ``ImageError``. It is shared:
            do not cancel it.

        Raises:
            QueueFullError: too many wait already.
        """
        return self._once(
            _name(row["id"], side, encoding), lambda: self._small(row, side, encoding)
        )

    def original(self, row: Row) -> Future[Blob]:
        """A stored picture as it is, where browsers show it; else an upright JPEG made of it.

        Args, Returns and Raises: see ``thumbnail``.
        """
        return self._once(row["id"], lambda: self._whole(row))

    def keep(self, data: bytes) -> str:
        """Store an uploaded picture for good; returns its id.

        Raises:
            OSError: it cannot be written.
        """
        key = image_id(data)
        path = self._original(key)
        if not path.is_file():
            write_whole(path, data, durable=True)
        return key

    def has(self, key: str) -> bool:
        """Whether an uploaded picture is stored."""
        return is_id(key) and self._original(key).is_file()

    @property
    def is_empty(self) -> bool:
        """Whether no picture was uploaded, or all were deleted."""
        return next(self._originals.glob("??/*"), None) is None

    def forget(self, key: str) -> None:
        """Delete an uploaded picture, if it is one; no collection may refer to it any more."""
        if is_id(key):
            with suppress(OSError):
                self._original(key).unlink()

    def close(self) -> None:
        """Finish what is being made; nothing more is begun."""
        self._pool.shutdown(cancel_futures=True)

    def _once(self, name: str, make: Callable[[], Blob]) -> Future[Blob]:
        with self._guard:
            made = self._making.get(name)
            if made is None:
                if len(self._making) >= self._queue:
                    raise QueueFullError(len(self._making))
                made = self._making[name] = self._pool.submit(make)
        # Called at once where it is done already, and then outside of the guard.
        made.add_done_callback(lambda _: self._done(name, made))
        return made

    def _done(self, name: str, made: Future[Blob]) -> None:
        with self._guard:
            if self._making.get(name) is made:
                del self._making[name]

    def _small(self, row: Row, side: int, encoding: Encoding) -> Blob:
        name = _name(row["id"], side, encoding)
        kind = SHOWN[encoding]
        kept = self._cache.get(name)
        if kept is not None:
            return Blob(kept, kind)
        with self._turn(row):
            made = thumbnail(self._bytes(row), side, encoding, max_pixels=self._max_pixels)
        self._cache.put(name, made)
        return Blob(made, kind)

    def _whole(self, row: Row) -> Blob:
        data = self._bytes(row)
        kind = SHOWN.get(sniff(data) or "")
        if kind is not None and len(data) <= MAX_SERVED:
            return Blob(data, kind)
        del data
        return self._small(row, STAND_IN, "JPEG")

    def _turn(self, row: Row) -> AbstractContextManager[object]:
        """Large pictures take turns, so that memory is bounded by one of them."""
        large = int(row.get("width") or 0) * int(row.get("height") or 0) > LARGE
        return self._large if large else nullcontext()

    def _bytes(self, row: Row) -> bytes:
        """A picture's bytes: as uploaded, or from one of its paths that still holds them."""
        key = row["id"]
        if is_id(key):
            with suppress(OSError, ImageError):
                data = read_file(str(self._original(key)))
                if image_id(data) == key:
                    return data
        return read_original(row, self._read)

    def _original(self, key: str) -> Path:
        return self._originals / key[:2] / key


def is_id(text: str) -> bool:
    """Whether it has the form of an id, and so can be a file's name."""
    return _ID.fullmatch(text) is not None


def _name(key: str, side: int, encoding: Encoding) -> str:
    """What a thumbnail is kept under."""
    return f"{key}-{side}.{'webp' if encoding == 'WEBP' else 'jpg'}"
