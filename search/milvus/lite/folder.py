"""Read the metadata of a Milvus Lite folder: aliases, schemas and manifests.

The layout is that of milvus-lite 3.2: ``aliases.json``, and for each collection
``collections/NAME/{schema.json,manifest.json,partitions/,wal/}``. Files are replaced atomically, so
they can be read while another process writes. Format versions are checked: a folder of another
version is left to Milvus Lite itself.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from twinlens.search.errors import StoreError

#: The versions of ``manifest.json`` and ``schema.json`` that are understood.
MANIFEST_VERSION = SCHEMA_VERSION = 2

#: Tells versions of a file apart: inode, time of the last change in nanoseconds, size in bytes.
Stamp = tuple[int, int, int]


class UnknownFormatError(Exception):
    """The folder has another format than the one that is understood here."""


@dataclass(frozen=True)
class Schema:
    """The schema of one collection, as ``schema.json`` describes it."""

    path: Path
    raw: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """The column of the primary key."""
        return str(next(field["name"] for field in self.raw["fields"] if field["is_primary"]))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All columns in order, without that of the dynamic fields."""
        return tuple(field["name"] for field in self.raw["fields"])

    @cached_property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return int(next(f["dim"] for f in self.raw["fields"] if f["name"] == "vector"))

    @property
    def properties(self) -> dict[str, str]:
        """The properties of the collection."""
        return dict(self.raw.get("properties") or {})


@dataclass(frozen=True)
class Manifest:
    """Which files a collection consists of, beside its write-ahead log.

    Attributes:
        stamp: of ``manifest.json``.
        data: files of rows, relative to the collection.
        deltas: files of deleted keys, relative to the collection.
    """

    stamp: Stamp
    data: tuple[str, ...]
    deltas: tuple[str, ...]


def is_database(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a Milvus Lite database, or the copy of one in a backup."""
    there = (os.path.exists(os.path.join(folder, name)) for name in ("aliases.json", "LOCK"))
    return os.path.isdir(os.path.join(folder, "collections")) and any(there)


class LiteFolder:
    """The metadata of one Milvus Lite folder; every call reads what is current.

    Args:
        path: of the folder, which need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._read: dict[Path, tuple[Stamp, dict[str, Any]]] = {}

    def aliases(self) -> dict[str, str]:
        """The collection that each alias points to."""
        return {str(k): str(v) for k, v in self._json(self.path / "aliases.json").items()}

    def collections(self) -> list[str]:
        """The names of all collections, sorted."""
        try:
            found = os.listdir(self.path / "collections")
        except FileNotFoundError:
            return []
        return sorted(name for name in found if self._schema_path(name).exists())

    def resolve(self, name: str) -> str | None:
        """The collection of a name or an alias; None if there is none."""
        if self._schema_path(name).exists():
            return name
        name = self.aliases().get(name, "")
        return name if name and self._schema_path(name).exists() else None

    def folder_of(self, collection: str) -> Path:
        """The folder of a collection."""
        return self.path / "collections" / collection

    def schema(self, collection: str) -> Schema:
        """The schema of a collection.

        Raises:
            UnknownFormatError: it is of another version, or missing.
        """
        path = self._schema_path(collection)
        raw = self._json(path)
        if raw.get("schema_format_version") != SCHEMA_VERSION or not raw.get("fields"):
            raise UnknownFormatError(path)
        return Schema(path, raw)

    def manifest(self, collection: str) -> Manifest:
        """The manifest of a collection.

        Raises:
            UnknownFormatError: it is of another version.
            StoreError: it is damaged.
        """
        path = self.folder_of(collection) / "manifest.json"
        raw = self._json(path)
        if not raw:
            if path.with_name("manifest.json.prev").exists():
                raise _damaged(path, "is missing")
            return Manifest((0, 0, 0), (), ())
        if raw.get("manifest_format_version") != MANIFEST_VERSION:
            raise UnknownFormatError(path)
        files: dict[str, list[str]] = {"data_files": [], "delta_files": []}
        try:
            for partition, contents in raw["partitions"].items():
                for kind, names in files.items():
                    names += [f"partitions/{partition}/{name}" for name in contents[kind]]
        except (KeyError, TypeError, AttributeError):
            raise _damaged(path) from None
        stamp, _ = self._read[path]
        return Manifest(stamp, tuple(files["data_files"]), tuple(files["delta_files"]))

    def log_files(self, collection: str) -> list[Path]:
        """The files of the write-ahead log, oldest first."""
        folder = self.folder_of(collection) / "wal"
        try:
            return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(".arrow")]
        except FileNotFoundError:
            return []

    def _schema_path(self, collection: str) -> Path:
        return self.folder_of(collection) / "schema.json"

    def _json(self, path: Path) -> dict[str, Any]:
        """A JSON file, read again if it has changed; {} if there is none."""
        stamp = stamp_of(path)
        if stamp is None:
            return {}
        known = self._read.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            raw = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            raise _damaged(path) from None
        if not isinstance(raw, dict):
            raise _damaged(path)
        if stamp_of(path) != stamp:  # replaced meanwhile
            return self._json(path)
        self._read[path] = stamp, raw
        return raw


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; None if there is none."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _damaged(path: Path, how: str = "is damaged") -> StoreError:
    return StoreError(f"{path} {how}: run `twinlens check --repair`, or restore a backup")
