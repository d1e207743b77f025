"""``Recorder``: record the checksums of what ``LiteClient`` has written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from twinlens.search.errors import StoreError
from twinlens.search.milvus.lite.checksums import Checksums, DamagedRecordError
from twinlens.search.milvus.lite.folder import LiteFolder, UnknownFormatError
from twinlens.search.milvus.lite.leftovers import clear_leftovers
from twinlens.search.milvus.lite.snapshot import Snapshots

#: Methods of ``MilvusClient`` that change the schema of the collection that they name first.
_CHANGE_SCHEMA = (
    "create_collection",
    "alter_collection_properties",
    "drop_collection_properties",
)
#: Workaround: Milvus Lite 3.2 writes metadata by way of one file, also if two threads write it.
_CHANGING = threading.Lock()
#: Those that change the aliases.
_CHANGE_ALIASES = ("create_alias", "alter_alias", "drop_alias")


class Recorder:
    """Records files of one database; what cannot be recorded is left for the next time.

    Args:
        folder: the metadata of the database.
    """

    def __init__(self, folder: LiteFolder) -> None:
        self._folder = folder
        self._checksums = Checksums(folder.path)
        self._lock = threading.Lock()
        self._followed: dict[Path, int] = {}

    def recording(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of ``MilvusClient`` that also records the metadata which it changes."""
        if name not in (*_CHANGE_SCHEMA, *_CHANGE_ALIASES):
            return method

        @wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            collection = str(args[0] if args else options.get("collection_name", ""))
            if name == "create_collection":
                clear_leftovers(self._folder.folder_of(collection))
                self._checksums.forget(self._folder.folder_of(collection))
            with _CHANGING:
                answer = method(*args, **options)
            if name in _CHANGE_ALIASES:
                self.aliases_changed()
            else:
                self._record(self._folder.folder_of(collection) / "schema.json", metadata=True)
            return answer

        return call

    def aliases_changed(self) -> None:
        """Record the aliases."""
        self._record(self._folder.path / "aliases.json", metadata=True)

    def forget(self, collection: str) -> None:
        """Delete the records of a collection, before it is dropped."""
        self._checksums.forget(self._folder.folder_of(collection))
        self._checksums.forget(self._folder.path / "snapshot" / collection)

    def wrote(self, collection: str) -> None:
        """Record what was added to the log of a collection."""
        paths = self._folder.log_files(collection)
        root = self._folder.folder_of(collection)
        with self._lock:
            for path in [path for path in self._followed if path.is_relative_to(root)]:
                if path not in paths:  # flushed
                    del self._followed[path]
                    self._checksums.forget(path)
            newest = max(map(log_number, paths), default=0)
            # Earlier ones may end with half a write, of a process that was killed or had no room.
            for path in [path for path in paths if log_number(path) == newest]:
                with suppress(OSError, DamagedRecordError):  # flushed meanwhile, or a full disk
                    self._followed[path] = self._checksums.follow(path, self._done(path))

    def _done(self, path: Path) -> int:
        """How many bytes of a log file are recorded."""
        done = self._followed.get(path)
        if done is None:
            # What a process before this one has recorded stays as it is.
            done = parts[-1].end if (parts := self._checksums.followed(path)) else 0
        return done if done <= path.stat().st_size else 0

    def settled(self, collection: str, *, arrays: bool = True) -> None:
        """Record the data files and the manifest of a collection.

        Files that are recorded already are not read again; records of files that are gone are
        deleted.

        Args:
            collection: its name.
            arrays: also files of vectors, which Milvus Lite may be writing while it is open.
        """
        root = self._folder.folder_of(collection)
        with suppress(StoreError, UnknownFormatError):
            listed = files_of(self._folder, collection)
            snapshots = Snapshots(self._folder.path / "snapshot" / collection)
            copies = [snapshots.path(path) for path in listed if path.suffix == ".parquet"]
            listed += [path for path in copies if path.exists()]
            for path in listed:
                if not self._checksums.has(path) and (arrays or path.suffix != ".idx"):
                    self._record(path)
            for below in (root / "partitions", snapshots.folder):
                for path in list(self._checksums.paths(below)):
                    if not path.exists():
                        self._checksums.forget(path)
            with self._lock:
                for path in list(self._checksums.paths(root / "wal")):
                    if not path.exists():
                        self._checksums.forget(path)
                        self._followed.pop(path, None)
            self._record(root / "manifest.json", metadata=True)
            if not self._checksums.has(root / "schema.json"):
                self._record(root / "schema.json", metadata=True)
            if not self._checksums.has(self._folder.path / "aliases.json"):
                self.aliases_changed()

    def _record(self, path: Path, *, metadata: bool = False) -> None:
        with suppress(OSError):
            self._checksums.record(path, metadata=metadata)


def files_of(folder: LiteFolder, collection: str) -> list[Path]:
    """The data files of a collection, files of deleted keys, and arrays of vectors that exist.

    Raises:
        StoreError: the manifest is damaged.
        UnknownFormatError: it is of another version.
    """
    root = folder.folder_of(collection)
    manifest = folder.manifest(collection)
    data = [root / name for name in manifest.data]
    arrays = [array for path in data if (array := array_of(path)).exists()]
    return [*data, *arrays, *(root / name for name in manifest.deltas)]


def log_number(path: Path) -> int:
    """The number of a log file."""
    return int(path.stem.rpartition("_")[2])


def array_of(data: Path) -> Path:
    """The file in which Milvus Lite keeps the vectors of a data file once more."""
    return data.parent.parent / "indexes" / f"{data.stem}.vector.flat.idx"
