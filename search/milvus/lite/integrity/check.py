"""Check all files of a Milvus Lite database, beside a process that writes, if there is one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from twinlens.search.errors import StoreError, first_line
from twinlens.search.milvus.lite.arrays import numpy_of
from twinlens.search.milvus.lite.checksums import Checksums
from twinlens.search.milvus.lite.folder import LiteFolder, Schema, UnknownFormatError
from twinlens.search.milvus.lite.integrity.damage import Damage, DamageKind
from twinlens.search.milvus.lite.integrity.data_files import (
    UNREADABLE,
    check_data_file,
    check_recorded,
)
from twinlens.search.milvus.lite.integrity.logs import check_logs
from twinlens.search.milvus.lite.integrity.metadata import (
    check_aliases,
    check_manifest,
    check_schema,
    read_json,
)
from twinlens.search.milvus.lite.recorder import array_of
from twinlens.search.milvus.lite.rows import LiveRows
from twinlens.search.milvus.lite.snapshot import Snapshots

#: Seconds to wait before metadata that seems damaged is read again, beside a process that writes.
WAIT = 0.5


class FileCheck:
    """Checks the files of one database.

    Args:
        path: of the database.
        wanted: which collections of Milvus Lite to check.
        writing: whether another process has the database open for writing.
        progress: called with the number of bytes that were checked.
    """

    def __init__(
        self,
        path: Path,
        wanted: Callable[[str], bool] = lambda name: True,
        *,
        writing: bool = False,
        progress: Callable[[int], object] = lambda count: None,
    ) -> None:
        self.path = path
        self.folder = LiteFolder(path)
        self.checksums = Checksums(path)
        self._wanted = wanted
        self._writing = writing
        self._progress = progress

    def bytes(self) -> int:
        """How many bytes there are to check."""
        return sum(_size(path) for name in self._names() for path in self._files(name))

    def run(self) -> Iterator[Damage]:
        """Find damage, in the order of the files."""
        root = self.path / "collections"
        there = set(self.folder.collections())
        yield from self._metadata(
            lambda: check_aliases(
                self.path / "aliases.json",
                self.checksums,
                sorted(there),
                only={name for name in there if self._wanted(name)} or None,
            )
        )
        for name in self._names():
            if name in there:
                yield from self._collection(root / name)
            elif self.checksums.has(root / name / "schema.json"):
                yield Damage("schema", str(root / name / "schema.json"), "is missing")
            else:
                reason = "is left of a collection that was being created or deleted"
                yield Damage("leftover", str(root / name), reason, harmless=True)

    def _names(self) -> list[str]:
        """The collections that are there, or of which something was recorded."""
        names = set(self.folder.collections())
        for folder in (self.path, self.checksums.folder):
            if (folder / "collections").is_dir():
                names |= {name for name in os.listdir(folder / "collections") if "." not in name}
        return sorted(filter(self._wanted, names))

    def _files(self, name: str) -> Iterator[Path]:
        for place, _, names in os.walk(self.path / "collections" / name):
            yield from (Path(place) / one for one in names)

    def _metadata(self, check: Callable[[], Iterator[Damage]]) -> list[Damage]:
        """What is wrong with a metadata file, also after a process that writes has finished it."""
        found = list(check())
        if self._writing and any(not one.harmless for one in found):
            time.sleep(WAIT)
            found = list(check())
        return found

    def _collection(self, root: Path) -> Iterator[Damage]:
        found = self._metadata(lambda: check_schema(root / "schema.json", self.checksums))
        yield from found
        try:
            schema = LiteFolder(self.path).schema(root.name)
            columns = set(schema.columns)
        except (UnknownFormatError, StoreError, *UNREADABLE):
            return
        found = self._metadata(
            lambda: check_manifest(root / "manifest.json", self.checksums, columns)
        )
        yield from found
        if not any(one.kind == "manifest" for one in found):
            yield from self._data(root, schema)

    def _data(self, root: Path, schema: Schema) -> Iterator[Damage]:
        raw = read_json(root / "manifest.json")
        listed = listed_files(root, raw)
        snapshots = Snapshots(self.path / "snapshot" / root.name)
        highest = 0
        for path in listed:
            try:
                if path.parent.name == "delta":
                    yield from check_deletions(path, schema, self.checksums)
                else:
                    yield from check_data_file(
                        path, schema, self.checksums, snapshots, writing=self._writing
                    )
            except FileNotFoundError:
                if self._is_listed(root, path):
                    kind: DamageKind = "deletions" if path.parent.name == "delta" else "data file"
                    yield Damage(kind, str(path), "is missing")
            highest = max(highest, highest_sequence(path))
            self._progress(_size(path) + _size(array_of(path)))
        if highest > raw["current_seq"]:
            yield Damage(
                "manifest", str(root / "manifest.json"),
                f"current_seq is {raw['current_seq']:,}, but rows have up to {highest:,}",
            )  # fmt: skip
        active = raw["active_wal_number"] or 0
        yield from check_logs(root / "wal", self.checksums, active, writing=self._writing)
        if not self._writing:
            yield from self._leftovers(root, schema, set(listed))

    def _is_listed(self, root: Path, path: Path) -> bool:
        """Whether a file that is gone is in the manifest still."""
        return path in listed_files(root, read_json(root / "manifest.json")) and not path.exists()

    def _leftovers(self, root: Path, schema: Schema, listed: set[Path]) -> Iterator[Damage]:
        """Files that the manifest lacks: Milvus Lite deletes them when it is opened to write."""
        for path in sorted(root.glob("partitions/*/d*/*.parquet")):
            if path in listed:
                continue
            lost = self._only_there(root.name, path, schema)
            reason = "is not in the manifest"
            if lost:
                rows = f"{lost:,} row" + "s" * (lost > 1) if lost > 0 else "its rows"
                yield Damage("leftover", str(path), f"{reason}, and {rows} may be nowhere else")
            else:
                yield Damage("leftover", str(path), f"{reason}: left by an interrupted write",
                             harmless=True)  # fmt: skip

    def _only_there(self, collection: str, path: Path, schema: Schema) -> int:
        """How many rows of a file are nowhere else, nor were deleted; -1 if that is not known."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                table = file.read(columns=[schema.key, "_seq"])
            rows = LiveRows(
                LiteFolder(self.path), collection, Snapshots(self.path / "snapshot" / collection)
            )
            return rows.count_unknown(table.column(schema.key), numpy_of(table.column("_seq")))
        except (StoreError, UnknownFormatError):
            return -1
        except UNREADABLE:
            return 0  # a write that never ended


def check_deletions(path: Path, schema: Schema, checksums: Checksums) -> Iterator[Damage]:
    """Find damage in a file of deleted keys.

    Raises:
        FileNotFoundError: it is gone.
    """
    import pyarrow.parquet as pq

    damaged, notes = check_recorded("deletions", path, checksums)
    yield from notes
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
        table.validate(full=True)
        table.select([schema.key, "_seq"])
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        damaged = Damage("deletions", str(path), f"is damaged: {first_line(error, 200)}")
    if damaged is not None:
        yield damaged


def listed_files(root: Path, manifest: dict[str, Any]) -> list[Path]:
    """The data files and the files of deleted keys that a valid manifest names."""
    return [
        root / "partitions" / partition / name
        for partition, contents in manifest["partitions"].items()
        for name in (*contents["data_files"], *contents["delta_files"])
    ]


def highest_sequence(path: Path) -> int:
    """The highest sequence number in a data file; 0 if it cannot be read."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            column: pa.ChunkedArray = file.read(columns=["_seq"]).column(0)
        return int(numpy_of(column).max()) if len(column) else 0
    except UNREADABLE:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
