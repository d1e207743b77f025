"""A folder of small files that may go at any time: the least recently used go when it is full.

Several processes may share it. A file appears whole or not at all, and one that somebody has open
stays readable when it goes.
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

#: Seconds for which a file's time of use is taken to be recent: looking often writes seldom.
RECENT = 3_600.0
#: Of the limit: so much is written by one process before it looks again how much there is.
SLACK = 1 / 16
#: Of the limit: so much is left when it was exceeded.
KEPT = 0.9


class FolderCache:
    """Bytes by name, at most about ``limit`` of them in all; from any thread.

    Args:
        folder: where; made when the first file is written. What cannot be written is not kept.
        limit: bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._written = limit  # so that the first write looks what earlier runs left
        self._guard = threading.Lock()
        self._sweeping = threading.Lock()
        self._told = False

    def get(self, name: str) -> bytes | None:
        """What was put under the name, or None."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                data = file.read()
                used = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        if time.time() - used > RECENT:
            with suppress(OSError):
                os.utime(path)
        return data or None  # empty is what a crash of the machine leaves

    def put(self, name: str, data: bytes) -> None:
        """Keep the bytes, as long as there is room for them."""
        try:
            write_whole(self._path(name), data)
        except OSError as error:
            if not self._told:
                self._told = True
                log.warning("thumbnails are not kept in %s: %s", self._folder, error.strerror)
            return
        with self._guard:
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
        """Delete what was not used for longest, where there is more than the limit."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        if total <= self._limit:
            return
        for _, size, path in files:
            if total <= self._limit * KEPT:
                break
            with suppress(OSError):
                os.unlink(path)
            total -= size

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Time of last use, bytes and path of every file; what broken-off writes left goes."""
        with suppress(OSError), os.scandir(self._folder) as folders:
            for folder in folders:
                with suppress(OSError), os.scandir(folder) as entries:
                    for entry in entries:
                        with suppress(OSError):
                            status = entry.stat(follow_symlinks=False)
                            if entry.name.startswith(".") and status.st_mtime < time.time() - 600:
                                os.unlink(entry)
                            else:
                                yield status.st_mtime, status.st_size, entry.path

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


def write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file so that nobody ever sees a part of it; only its owner may read it.

    Args:
        path: its folder is made where it is missing.
        data: all of it.
        durable: whether it must survive a crash of the machine once this returns.

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
