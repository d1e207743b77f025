"""``FileCopier``: copy the files of a database, each with its checksum."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twinlens.search.milvus.lite.folder import stamp_of

CopyProgress = Callable[[int], object]


class FileCopier:
    """Copies files of a database into a new folder, each once, with their checksums.

    Args:
        source: the database.
        target: the folder, which is new.
        before: the database of the backup before; ``None`` if there is none.
        progress: called with the number of bytes that were copied or linked.
    """

    def __init__(
        self, source: Path, target: Path, before: Path | None, progress: CopyProgress
    ) -> None:
        self.source, self.target, self.before = source, target, before
        self.files: dict[str, list[Any]] = {}
        self.copied = 0
        self._progress = progress
        self._logs: dict[str, int] = {}

    def data_file(self, path: Path) -> None:
        """Copy or link a file that never changes, unless it is there already.

        Raises:
            FileNotFoundError: it is gone.
        """
        name = path.relative_to(self.source).as_posix()
        if name in self.files:
            return
        stamp = path.stat()
        old = self.before / name if self.before else None
        target = self.target / name
        target.parent.mkdir(parents=True, exist_ok=True)
        linked = False
        if old is not None and _alike(old, stamp):
            with suppress(OSError):  # another file system, or one without links
                os.link(old, target)
                linked = True
        if linked:
            with target.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self.files[name] = [stamp.st_size, digest]
            self._progress(stamp.st_size)
        else:
            self.files[name] = self._copy(path, target, stamp.st_size)
            os.utime(target, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            self.copied += stamp.st_size

    def metadata(self, path: Path) -> None:
        """Copy a small file that is replaced when it changes, also if it was copied before."""
        name = path.relative_to(self.source).as_posix()
        target = self.target / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.files[name] = self._copy(path, target, None)

    def log(self, path: Path) -> None:
        """Copy a log file, or what was added to it since it was copied."""
        name = path.relative_to(self.source).as_posix()
        target = self.target / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source:
            inode = os.fstat(source.fileno()).st_ino
            mode = "ab" if self._logs.get(name) == inode else "wb"
            with target.open(mode) as copy:
                source.seek(copy.tell())
                shutil.copyfileobj(source, copy, 1 << 20)
        self._logs[name] = inode
        self.files[name] = []

    def finish_logs(self) -> None:
        """Compute the checksums of the copied logs."""
        for name, found in self.files.items():
            if not found:
                with (self.target / name).open("rb") as file:
                    os.fsync(file.fileno())
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    found += [os.fstat(file.fileno()).st_size, digest]

    def drop(self, name: str) -> None:
        """Delete a copy."""
        del self.files[name]
        (self.target / name).unlink()

    def _copy(self, path: Path, target: Path, limit: int | None) -> list[Any]:
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as source, target.open("wb") as copy:
            while data := source.read(min(1 << 20, (1 << 62 if limit is None else limit) - size)):
                copy.write(data)
                digest.update(data)
                size += len(data)
                self._progress(len(data))
            copy.flush()
            os.fsync(copy.fileno())
        return [size, digest.hexdigest()]


def _alike(path: Path, stamp: os.stat_result) -> bool:
    """Whether a file of the backup before has the size and the time of one that never changes."""
    found = stamp_of(path)
    return found is not None and found[1:] == (stamp.st_mtime_ns, stamp.st_size)
