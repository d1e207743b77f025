"""``LiveRows``: the rows of a Milvus Lite collection as they are now, in memory-mapped blocks.

A row is live if its sequence number is the highest of its key, and its key was not deleted later.
Data files and the log may have the same row for a moment, while Milvus Lite flushes; it counts
once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twinlens.search.errors import StoreError, first_line
from twinlens.search.milvus.lite.arrays import int64_array, numpy_of, string_array
from twinlens.search.milvus.lite.blocks import Block, Mask
from twinlens.search.milvus.lite.folder import LiteFolder, Manifest, Schema, Stamp, stamp_of
from twinlens.search.milvus.lite.log import LogFile
from twinlens.search.milvus.lite.snapshot import Snapshots

Sequences = npt.NDArray[np.uint64]
#: How often a read starts again because files were replaced meanwhile.
MAX_TRIES = 20


@dataclass(frozen=True)
class View:
    """The live rows at one moment; it does not change when more is written.

    Attributes:
        blocks: each with a mask of its live rows.
    """

    blocks: tuple[tuple[Block, Mask], ...]

    def __iter__(self) -> Iterator[tuple[Block, Mask]]:
        return iter(self.blocks)


class LiveRows:
    """Follows the files of one collection; safe to use from several threads.

    Args:
        folder: the database.
        collection: its name, not an alias.
        snapshots: of its data files.
    """

    def __init__(self, folder: LiteFolder, collection: str, snapshots: Snapshots) -> None:
        self.folder = folder
        self.collection = collection
        self.snapshots = snapshots
        self._lock = threading.Lock()
        self._manifest: Manifest | None = None
        self._files: dict[tuple[Path, Stamp | None], Block] = {}
        self._logs: dict[Path, LogFile] = {}
        self._blocks: list[tuple[Block, Mask]] = []
        self._deleted: dict[str, int] = {}
        self._from_files = 0

    def view(self) -> View:
        """The live rows now, including everything that any process has written so far.

        Raises:
            UnknownFormatError: the collection has another format.
            StoreError: the files are damaged, or change all the time.
        """
        with self._lock:
            missing: OSError | None = None
            for _ in range(MAX_TRIES):
                try:
                    manifest = self.folder.manifest(self.collection)
                    if self._manifest is None or manifest.stamp != self._manifest.stamp:
                        self._load(manifest)
                    self._follow_logs()
                    if self.folder.manifest(self.collection).stamp == manifest.stamp:
                        return View(tuple(self._blocks))
                except FileNotFoundError as error:
                    self._manifest, missing = None, error  # replaced since the manifest was read
            reason = f"{missing.filename} is missing" if missing else "its files keep changing"
            raise StoreError(f"{self.collection} in {self.folder.path} cannot be read: {reason}")

    def count_unknown(self, keys: pa.ChunkedArray, sequence: Sequences) -> int:
        """How many of some rows are neither here, in this version or a later one, nor deleted."""
        self.view()
        wanted = keys.combine_chunks()
        unknown = np.ones(len(wanted), dtype=bool)
        with self._lock:
            for block, _ in self._blocks:
                where = block.positions(wanted)
                (rows,) = np.nonzero(where >= 0)
                unknown[where[rows[block.sequence[rows] >= sequence[where[rows]]]]] = False
            for row in np.flatnonzero(unknown):
                if self._deleted.get(wanted[int(row)].as_py(), 0) > sequence[row]:
                    unknown[row] = False
        return int(unknown.sum())

    def save_snapshots(self) -> None:
        """Make snapshots of all data files, and delete those of files that no longer exist."""
        self.view()
        with self._lock:
            self.snapshots.remove_others(path for path, _ in self._files)

    def _load(self, manifest: Manifest) -> None:
        """Read the data files, those that are known already excepted."""
        schema = self.folder.schema(self.collection)
        root = self.folder.folder_of(self.collection)
        files = {}
        for path in (root / name for name in manifest.data):
            # Another collection may have been created under the same name since.
            key = path, stamp_of(path)
            files[key] = self._files.get(key) or self._block(schema, path)
        self._files = files
        self._logs = {}
        self._deleted = _read_deltas([root / name for name in manifest.deltas], schema)
        blocks = list(self._files.values())
        # Each file has a key only once.
        live = _newest(blocks) if len(blocks) > 1 else [np.ones(len(b), dtype=bool) for b in blocks]
        self._blocks = list(zip(blocks, live, strict=True))
        self._from_files = len(blocks)
        self._hide(self._deleted)
        self._manifest = manifest

    def _block(self, schema: Schema, data: Path) -> Block:
        try:
            return Block.of_file(schema, data, self.snapshots)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException, KeyError) as error:
            raise StoreError(
                f"{data} is damaged ({first_line(error, 100)}): run `twinlens check --repair`, or "
                "restore a backup"
            ) from error

    def _follow_logs(self) -> None:
        """Add what was written to the log since the last call."""
        paths = self.folder.log_files(self.collection)
        for gone in self._logs.keys() - set(paths):
            # Flushed: the manifest has changed, too.
            del self._logs[gone]
        for path in paths:
            log = self._logs.setdefault(path, LogFile(path))
            batches = [batch for batch in log.read() if len(batch)]
            if not batches:
                continue
            schema = self.folder.schema(self.collection)
            if log.deletes:
                deleted = _deletions(pa.Table.from_batches(batches), schema)
                for key, number in deleted.items():
                    self._deleted[key] = max(number, self._deleted.get(key, 0))
                self._hide(deleted)
            else:
                self._add(Block.of_log(schema, batches))

    def _add(self, new: Block) -> None:
        """Add rows, which replace older ones with the same keys."""
        (live,) = _newest([new])
        keys = new.keys.combine_chunks()
        for place, (block, before) in enumerate(self._blocks):
            where = block.positions(keys)
            (rows,) = np.nonzero(where >= 0)
            if not len(rows):
                continue
            # A key may be in the new rows twice: compare with the newest of them.
            newest = _highest(keys, new.sequence)[where[rows]]
            older = block.sequence[rows] < newest
            after = before.copy()
            after[rows[older]] = False
            self._blocks[place] = block, after
            stale = block.keys.take(int64_array(rows[~older]))
            live &= new.positions(stale.combine_chunks()) < 0
        for row, key in enumerate(keys.to_pylist()):
            if live[row] and self._deleted.get(key, 0) > new.sequence[row]:
                live[row] = False
        self._blocks.append((new, live))
        self._merge_small()

    def _hide(self, deleted: dict[str, int]) -> None:
        """Hide rows that were deleted after they were written."""
        if not deleted:
            return
        keys = string_array(list(deleted))
        numbers = np.fromiter(deleted.values(), dtype=np.uint64, count=len(deleted))
        for place, (block, live) in enumerate(self._blocks):
            where = block.positions(keys)
            (rows,) = np.nonzero(where >= 0)
            if len(rows):
                live = live.copy()
                live[rows[numbers[where[rows]] > block.sequence[rows]]] = False
                self._blocks[place] = block, live

    def _merge_small(self) -> None:
        """Merge blocks of the log, so that there are few: each is twice as large as the next."""
        blocks = self._blocks
        while len(blocks) - self._from_files >= 2 and len(blocks[-2][0]) <= 2 * len(blocks[-1][0]):
            (first, some), (second, others) = blocks[-2:]
            blocks[-2:] = [(Block.join([first, second]), np.concatenate([some, others]))]


def _newest(blocks: Sequence[Block]) -> list[Mask]:
    """Which rows have the highest sequence number of their key; the first of equal ones."""
    if not blocks:
        return []
    keys = pa.chunked_array([chunk for block in blocks for chunk in block.keys.chunks])
    live = np.ones(len(keys), dtype=bool)
    codes = np.concatenate(
        [numpy_of(c.indices) for c in keys.dictionary_encode().unify_dictionaries().chunks]
        or [np.empty(0, dtype=np.int32)]
    )
    if len(codes) and int(codes.max()) + 1 < len(codes):
        sequence = np.concatenate([block.sequence for block in blocks])
        # By key, then by number; of equal numbers the first row comes last.
        order = np.lexsort((-np.arange(len(codes)), sequence, codes))
        last = np.append(np.diff(codes[order]) != 0, True)
        live[order[~last]] = False
    ends = np.cumsum([len(block) for block in blocks])[:-1]
    return list(np.split(live, ends))


def _highest(keys: pa.Array, sequence: Sequences) -> Sequences:
    """For each row the highest sequence number of its key."""
    codes = numpy_of(keys.dictionary_encode().indices)
    highest = np.zeros(int(codes.max()) + 1, dtype=np.uint64)
    np.maximum.at(highest, codes, sequence)
    found: Sequences = highest[codes]
    return found


def _read_deltas(paths: Sequence[Path], schema: Schema) -> dict[str, int]:
    """The deleted keys of delta files, each with the number of its last deletion."""
    if not paths:
        return {}
    import pyarrow.parquet as pq

    deleted: dict[str, int] = {}
    for path in paths:
        with pq.ParquetFile(path) as file:
            for key, number in _deletions(file.read(), schema).items():
                deleted[key] = max(number, deleted.get(key, 0))
    return deleted


def _deletions(table: pa.Table, schema: Schema) -> dict[str, int]:
    deleted: dict[str, int] = {}
    numbers = table.column("_seq").to_pylist()
    for key, number in zip(table.column(schema.key).to_pylist(), numbers, strict=True):
        deleted[key] = max(number, deleted.get(key, 0))
    return deleted
