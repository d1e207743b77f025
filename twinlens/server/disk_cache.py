"""Cache small files in a folder, and delete the least recently used ones when it is full (LRU).

Several processes may share the folder. Files are written atomically, and an open file stays
readable after it is deleted.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("twinlens.server")

#: Seconds after which a read updates a file's modification time, which serves as its time of use.
TOUCH_SECONDS = 3_600.0
#: The share of the limit that a process writes before it measures the folder again.
SLACK = 1 / 16
#: The share of the limit that remains after files were deleted.
SHRINK_TO = 0.9


class DiskCache:
    """Store bytes by name, at most about ``limit`` bytes in all; thread-safe.

    If the folder cannot be written, nothing is cached, and a warning is logged once.

    Args:
        folder: the first write creates it.
        limit: bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._written = limit  # so that the first write measures what earlier runs left
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._warned = False

    def get(self, name: str) -> bytes | None:
        """Read the bytes stored under a name, or ``None``."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                data = file.read()
                used = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        # The clock may have gone back since, and a time in the future is no time of use.
        if abs(time.time() - used) > TOUCH_SECONDS:
            with suppress(OSError):
                os.utime(path)
        return data or None  # a crash of the machine may leave an empty file

    def put(self, name: str, data: bytes) -> None:
        """Store bytes under a name."""
        try:
            write_atomically(self._path(name), data)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("cannot cache thumbnails in %s: %s", self._folder, error.strerror)
            return
        with self._lock:
            self._written += len(data)
            due = self._written >= self._limit * SLACK
            if due:
                self._written = 0
        if due and self._sweeping.acquire(blocking=False):
            try:
                self.sweep()
            finally:
                self._sweeping.release()

    def sweep(self) -> None:
        """Delete the least recently used files if there are more bytes than the limit."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        if total <= self._limit:
            return
        for _, size, path in files:
            if total <= self._limit * SHRINK_TO:
                break
            with suppress(OSError):
                os.unlink(path)
            total -= size

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Time of use, bytes and path of each file; delete what interrupted writes left behind.

        A time in the future counts as long ago.
        """
        now = time.time()
        with suppress(OSError), os.scandir(self._folder) as folders:
            for folder in folders:
                with suppress(OSError), os.scandir(folder) as entries:
                    for entry in entries:
                        with suppress(OSError):
                            status = entry.stat(follow_symlinks=False)
                            used = status.st_mtime
                            if entry.name.startswith(".") and used < now - 600:
                                os.unlink(entry)
                            else:
                                used = used if used <= now + TOUCH_SECONDS else 0.0
                                yield used, status.st_size, entry.path

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


def write_atomically(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file atomically, readable by its owner only.

    Args:
        path: its folder is created if it is missing.
        data: the whole file.
        durable: whether the file must survive a crash of the machine once this returns.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
