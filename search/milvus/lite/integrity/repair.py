"""Repair the files of a Milvus Lite database, after copying its metadata aside.

What has a second copy is made anew from it: vectors, snapshots, checksums, metadata, and a data
file whose columns and vectors both have sound copies. What has none is put aside, with the rows in
it. Nothing is deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from twinlens.search.errors import StoreError, StoreLockedError, StoreReadOnlyError
from twinlens.search.milvus.lite.checksums import Checksums, DamagedRecordError, write_whole
from twinlens.search.milvus.lite.folder import MANIFEST_VERSION, LiteFolder, Schema
from twinlens.search.milvus.lite.integrity.check import highest_sequence
from twinlens.search.milvus.lite.integrity.damage import Damage
from twinlens.search.milvus.lite.integrity.data_files import (
    BATCH,
    UNREADABLE,
    check_recorded,
)
from twinlens.search.milvus.lite.integrity.logs import good_bytes
from twinlens.search.milvus.lite.integrity.metadata import (
    DATA_NAME,
    DELTA_NAME,
    check_manifest_values,
    check_schema_values,
    read_json,
    recorded_text,
)
from twinlens.search.milvus.lite.recorder import Recorder, array_of, log_number
from twinlens.search.milvus.lite.serving import locked_message
from twinlens.search.milvus.lite.snapshot import Snapshots

#: What is put aside, in the folder of the database.
ASIDE = "before-repair"


@dataclass(slots=True)
class FilesRepaired:
    """The result of a repair.

    Attributes:
        damage: what was wrong, with what was done about it.
        changed: names of collections of Milvus Lite that lost rows, or may show older versions of
            rows again.
        aside: the folder with what was put aside; None if nothing was.
    """

    damage: list[Damage] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    aside: Path | None = None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every process, also this one, from opening a database to write.

    Raises:
        StoreLockedError: a process has it open.
        StoreReadOnlyError: the folder cannot be written to.
    """
    try:
        import fcntl
    except ImportError:  # Windows: Milvus Lite's own lock is all there is
        yield
        return
    try:
        handle = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StoreReadOnlyError(f"{path} is read-only: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreLockedError(locked_message(path)) from error
        yield
    finally:
        os.close(handle)


def repair_files(path: Path, found: Iterable[Damage]) -> FilesRepaired:
    """Repair what ``FileCheck`` found.

    Args:
        path: of the database, which no process has open to write.
        found: the damage; what is harmless is repaired as well.

    Raises:
        StoreError: a file cannot be written.
    """
    return _Repair(path).run(list(found))


class _Repair:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = LiteFolder(path)
        self.checksums = Checksums(path)
        self.recorder = Recorder(self.folder)
        self.outcome = FilesRepaired()
        self.aside = path / ASIDE / time.strftime("%Y%m%d-%H%M%S")

    def run(self, found: list[Damage]) -> FilesRepaired:
        if not found:
            return self.outcome
        try:
            self._copy_metadata()
            for kinds, repair in (
                (("schema", "aliases"), self._metadata),
                (("manifest", "leftover"), self._manifest),
                (("data file", "deletions"), self._data),
                (("vectors file",), self._array),
                (("snapshot",), self._snapshot),
                (("log",), self._log),
                (("checksum",), self._record),
            ):
                for damage in found:
                    if damage.kind in kinds:
                        done = repair(damage, Path(damage.place))
                        self.outcome.damage.append(replace(damage, repaired=done))
        except OSError as error:
            raise StoreError(
                f"{error.filename or self.path} cannot be written: {error.strerror or error}; "
                f"what was put aside is in {self.aside}"
            ) from error
        for name in self.folder.collections():
            self.recorder.settled(name)
        with suppress(OSError):
            self.aside.rmdir()
        self.outcome.aside = self.aside if self.aside.exists() else None
        return self.outcome

    # ---- What is put aside

    def _copy_metadata(self) -> None:
        paths = [self.path / "aliases.json"]
        for name in sorted(os.listdir(self.path / "collections")):
            paths += sorted((self.path / "collections" / name).glob("*.json*"))
        for path in paths:
            if path.is_file():
                self._to_aside(path, keep=True)

    def _to_aside(self, path: Path, *, keep: bool = False) -> None:
        """Move a file aside, or copy it."""
        target = self.aside / path.relative_to(self.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if keep:
            shutil.copy2(path, target)
        elif path.exists():
            os.replace(path, target)

    # ---- Metadata

    def _metadata(self, damage: Damage, path: Path) -> str:
        """Restore a schema or the aliases from the recorded copy."""
        text = recorded_text(self.checksums, path)
        if text:
            write_whole(path, text.encode())
            return "restored from its copy"
        with suppress(*UNREADABLE):
            if damage.kind == "schema":
                check_schema_values(read_json(path))
                return ""
        if damage.kind == "aliases":
            # The highest generation of each collection.
            newest: dict[str, tuple[int, str]] = {}
            for name in self.folder.collections():
                alias, _, number = name.rpartition("_g")
                if alias and number.isdigit():
                    newest[alias] = max(newest.get(alias, (0, "")), (int(number), name))
            aliases = {alias: name for alias, (_, name) in newest.items()}
            write_whole(path, json.dumps(aliases, indent=2, sort_keys=True).encode())
            return "made anew: each points to the newest generation"
        return ""

    def _schema(self, root: Path) -> Schema | None:
        try:
            return LiteFolder(self.path).schema(root.name)
        except Exception:  # noqa: BLE001 - it cannot be read, whatever the reason
            return None

    def _manifest(self, damage: Damage, path: Path) -> str:
        """Make a manifest from what is left of it, of the one before, and the files there are."""
        if damage.kind == "leftover" and path.suffix != ".parquet":
            return ""  # a folder, which creating the collection clears
        # A leftover is named by its own path.
        root = path.parent if damage.kind == "manifest" else path.parents[3]
        schema = self._schema(root)
        if schema is None:
            return ""
        current = self.path / "collections" / root.name / "manifest.json"
        candidates = [
            self._parsed(text, set(schema.columns))
            for text in (
                _text(current), recorded_text(self.checksums, current),
                _text(current.with_name("manifest.json.prev")),
            )
        ]  # fmt: skip
        sound = [one for one in candidates if one is not None]
        manifest = max(sound, key=lambda one: int(one["version"])) if sound else None
        if manifest is None:
            manifest = _empty_manifest(schema)
        if damage.kind == "leftover" and damage.harmless:
            return ""  # Milvus Lite deletes it
        partitions = {
            folder.name: {
                "data_files": _files(folder, "data"),
                "delta_files": _files(folder, "delta"),
            }
            for folder in sorted((root / "partitions").glob("*"))
            if folder.is_dir()
        }
        for name in manifest["partitions"]:
            partitions.setdefault(name, {"data_files": [], "delta_files": []})
        files = [
            root / "partitions" / name / one
            for name, contents in partitions.items()
            for one in (*contents["data_files"], *contents["delta_files"])
        ]
        logs = [log_number(log) + 1 for log in (root / "wal").glob("wal_*.arrow")]
        numbers = [int(one["active_wal_number"] or 0) for one in sound]
        manifest |= {
            "partitions": partitions or manifest["partitions"],
            "current_seq": max(
                [*map(highest_sequence, files), *(int(one["current_seq"]) for one in sound)],
                default=0,
            ),
            # A log that was not flushed has a number below it, and is read all the same.
            "active_wal_number": max([*numbers, *logs], default=0) or None,
            "version": max((int(one["version"]) for one in sound), default=0) + 1,
        }
        write_whole(current, json.dumps(manifest, indent=2, sort_keys=True).encode())
        self.checksums.record(current, metadata=True)
        self.outcome.changed.add(root.name)
        return "made anew from the files that are there"

    @staticmethod
    def _parsed(text: str, columns: set[str]) -> dict[str, Any] | None:
        try:
            raw = json.loads(text)
            check_manifest_values(raw, columns)
        except UNREADABLE:
            return None
        return dict(raw)

    # ---- Data files

    def _data(self, damage: Damage, path: Path) -> str:
        """Make a data file from sound copies, or put it aside and leave it out."""
        root = path.parents[3]
        schema = self._schema(root)
        if schema is None:
            return ""
        if damage.kind == "data file" and self._rebuilt(path, schema):
            self.checksums.record(path)
            return "made anew from its snapshot and its file of vectors"
        self._to_aside(path)
        for copy in (array_of(path), Snapshots(self.path / "snapshot" / root.name).path(path)):
            self._to_aside(copy)
            self.checksums.forget(copy)
        self.checksums.forget(path)
        current = root / "manifest.json"
        try:
            manifest = read_json(current)
            contents = manifest["partitions"][path.parents[1].name]
        except UNREADABLE:
            return ""
        for kind, name in (
            ("data_files", f"data/{path.name}"),
            ("delta_files", f"delta/{path.name}"),
        ):
            contents[kind] = [one for one in contents[kind] if one != name]
        manifest["version"] += 1
        write_whole(current, json.dumps(manifest, indent=2, sort_keys=True).encode())
        self.checksums.record(current, metadata=True)
        self.outcome.changed.add(root.name)
        return "left out: its rows are gone"

    def _rebuilt(self, path: Path, schema: Schema) -> bool:
        """Write a data file again from copies that agree with their checksums."""
        import pyarrow.parquet as pq
        from milvus_lite.schema.arrow_builder import build_data_schema
        from milvus_lite.schema.persistence import load_schema

        snapshot = Snapshots(self.path / "snapshot" / schema.path.parent.name).path(path)
        for copy in (array_of(path), snapshot):
            if not copy.exists() or not self.checksums.has(copy):
                return False
            damaged, notes = check_recorded("snapshot", copy, self.checksums)
            if damaged is not None or notes:
                return False
        try:
            array = np.load(array_of(path), mmap_mode="r", allow_pickle=False)
            table = pa.ipc.open_file(pa.memory_map(str(snapshot))).read_all()
            if array.shape != (len(table), schema.dim) or array.dtype != np.float32:
                return False
            vectors = pa.FixedSizeListArray.from_arrays(
                pa.Array.from_buffers(pa.float32(), array.size, [None, pa.py_buffer(array)]),
                schema.dim,
            )
        except UNREADABLE:
            return False
        if path.exists():
            self._to_aside(path)
        # As Milvus Lite writes it, so that it can be merged with others.
        wanted = build_data_schema(load_schema(str(schema.path))[1])
        columns = [vectors if name == "vector" else table.column(name) for name in wanted.names]
        partial = path.with_suffix(".partial")
        pq.write_table(pa.Table.from_arrays(columns, schema=wanted), partial)
        os.replace(partial, path)
        return True

    def _array(self, damage: Damage, path: Path) -> str:
        """Write the vectors of a data file, which is sound, once more."""
        import pyarrow.parquet as pq

        from twinlens.search.milvus.lite.arrays import numpy_of

        root = path.parents[3]
        data = path.parents[1] / "data" / f"{path.name.partition('.')[0]}.parquet"
        schema = self._schema(root)
        if schema is None or not data.exists():
            return ""
        partial = path.with_name(f".{path.name}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetFile(data) as file, partial.open("wb") as target:
            shape = (file.metadata.num_rows, schema.dim)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(target, header)
            for batch in file.iter_batches(BATCH, columns=["vector"]):
                target.write(np.ascontiguousarray(numpy_of(batch.column(0).flatten())).tobytes())
        os.replace(partial, path)
        self.checksums.record(path)
        return "made anew from its data file"

    def _snapshot(self, damage: Damage, path: Path) -> str:
        self._to_aside(path)
        return "deleted: the next search makes it anew"

    # ---- The log

    def _log(self, damage: Damage, path: Path) -> str:
        """Keep the part of a log file before the damage."""
        self.outcome.changed.add(path.parents[1].name)
        if not path.exists():
            self.checksums.forget(path)
            return "nothing is left of it: its rows are gone"
        try:
            parts: Sequence[Any] = self.checksums.followed(path)
        except DamagedRecordError:
            parts = []
        good = good_bytes(path, parts)
        self._to_aside(path)
        self.checksums.forget(path)
        if good:
            kept = self.aside / path.relative_to(self.path)
            write_whole(path, kept.read_bytes()[:good])
            self.checksums.follow(path, 0)
        return "cut off before the damage"

    def _record(self, damage: Damage, path: Path) -> str:
        """Record a file, which is sound otherwise."""
        if path.suffix == ".arrow" and path.parent.name == "wal":
            self.checksums.forget(path)
            if path.exists():
                self.checksums.follow(path, 0)
        elif path.exists():
            self.checksums.record(path, metadata=path.suffix == ".json")
        else:
            self.checksums.forget(path)
        return "recorded"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _files(partition: Path, kind: str) -> list[str]:
    """The readable data files, or files of deleted keys, of a partition."""
    import pyarrow.parquet as pq

    pattern = DATA_NAME if kind == "data" else DELTA_NAME
    found = []
    for path in sorted((partition / kind).glob("*.parquet")):
        name = f"{kind}/{path.name}"
        with suppress(*UNREADABLE):
            pq.ParquetFile(path).close()
            if pattern.fullmatch(name):
                found.append(name)
    return found


def _empty_manifest(schema: Schema) -> dict[str, Any]:
    """A manifest without files, with the indexes that twinlens creates."""
    indexes = {"vector": ("FLAT", "IP")}
    if "sparse" in schema.columns:
        indexes["sparse"] = ("SPARSE_INVERTED_INDEX", "BM25")
    return {
        "manifest_format_version": MANIFEST_VERSION,
        "schema_version": 1,
        "version": 0,
        "current_seq": 0,
        "active_wal_number": None,
        "partitions": {"_default": {"data_files": [], "delta_files": []}},
        "index_specs": {
            field: {
                "field_name": field,
                "index_type": kind,
                "metric_type": metric,
                "build_params": {},
                "search_params": {},
            }
            for field, (kind, metric) in indexes.items()
        },
    }
