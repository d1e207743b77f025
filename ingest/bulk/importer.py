"""New pictures into a server by its import: Parquet on storage that it reads, then one job a file.

Two passes over the same sources. The first encodes what is new and writes it to segments: a Parquet
file of pictures, one of texts, one with the ledger's rows. Milvus imports the first two; when that
is done the ledger's rows are written. The second pass is an ordinary ingest, which finds those
pictures stored, and does the rest: further paths of a picture, changed files, failures, tidying.

``manifest.json`` beside the segments says what was written and which jobs were begun, so that a run
that breaks off is gone on with: unfinished segments are imported before anything is encoded.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from twinlens.ingest.bulk.storage import Storage
from twinlens.ingest.ledger import Ledger, file_row
from twinlens.ingest.pipeline import Pipeline
from twinlens.ingest.report import IngestReport, ItemRow, Progress
from twinlens.ingest.rows import text_key
from twinlens.ingest.sample import Item
from twinlens.ingest.stages import Crew
from twinlens.search.errors import SourceError, StoreError, UnsupportedError, UsageError
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.encoder import Encoder
from twinlens.search.records import Kind, Row, Target

#: Bytes of a segment's largest file, about; Milvus splits what it imports into segments of its own.
SEGMENT_BYTES = 512 << 20
#: Ledger rows that are written at a time.
BATCH = 1_000
#: Seconds between two looks at a job.
PAUSE = 1.0
MANIFEST = "manifest.json"
_IMPORTED: tuple[Target, ...] = ("images", "texts")
_DROPPED = ("unchanged", "failed before")


@dataclass(slots=True)
class _Segment:
    """What was written together.

    Attributes:
        number: from 1.
        rows: of each kind; of a kind without any there is no file.
        jobs: Milvus' numbers of the imports that were begun.
        done: whether all is imported and in the ledger.
    """

    number: int
    rows: dict[str, int]
    jobs: dict[str, int] = field(default_factory=dict)
    done: bool = False

    def name(self, kind: str) -> str:
        return f"{kind}_{self.number:05d}.parquet"


class Bulk:
    """One corpus, and the storage that its segments go through.

    Args:
        corpus: on a server.
        storage: which the server reads, too.
        segment_bytes: of a segment's largest file, about.

    Raises:
        UnsupportedError: Milvus Lite has no import.
        UsageError: the storage holds segments of something else.
        SourceError: the storage cannot be read or written.
    """

    def __init__(
        self, collection: Collection, storage: Storage, *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        check_backend(collection.capabilities)
        self._collection = collection
        self._storage = storage
        self._segment_bytes = segment_bytes
        generation = collection.generation
        self._of = {
            "collection": generation.physical(collection.name, "images"),
            "tenant": collection.tenant,
            "fingerprint": generation.fingerprint.digest,
        }
        self._segments = self._read_manifest()

    def run(
        self,
        items: Callable[[], Iterator[Item]],
        encoder: Callable[[], Encoder],
        roots: Sequence[str] = (),
        *,
        retry_failed: bool = False,
        prune: bool = False,
        progress: Progress | None = None,
        sink: Callable[[ItemRow], None] | None = None,
        crew: Crew | None = None,
    ) -> IngestReport:
        """Store every item; see ``Pipeline``.

        Args:
            items: opens the sources, once for each pass.

        Raises:
            StoreError: Milvus refused, or an import failed. Segments are kept; run it again.
        """
        began = time.perf_counter()
        self.finish()
        with (
            tempfile.TemporaryDirectory(prefix="twinlens-bulk-") as folder,
            Ledger(self._collection) as ledger,
        ):
            gather = _Gather(
                self._collection,
                encoder,
                self,
                Path(folder),
                ledger,
                progress=progress,
                sink=sink,
                crew=crew,
            )
            first = gather.run(items())
            gather.close()
        self.finish()

        def rest(row: ItemRow) -> None:
            if row.status not in _DROPPED:  # which the first pass has told of
                if progress is not None:
                    progress.update(1)
                if sink is not None:
                    sink(row)

        pipeline = Pipeline(
            self._collection,
            encoder,
            retry_failed=retry_failed,
            prune=prune,
            sink=rest,
            crew=crew,
        )
        second = pipeline.run(items(), roots)
        if first.images or first.texts:
            self._collection.settle()
        return replace(
            second,
            images=first.images + second.images,
            texts=first.texts + second.texts,
            unchanged=first.unchanged,
            failed_before=first.failed_before,
            seconds=time.perf_counter() - began,
            encode_seconds=first.encode_seconds + second.encode_seconds,
        )

    def add(self, rows: Mapping[str, int], files: Mapping[str, Path]) -> None:
        """Take a segment on: move its files to the storage, and begin to import it."""
        segment = _Segment(len(self._segments) + 1, dict(rows))
        for kind, path in files.items():
            self._storage.put(segment.name(kind), path)
        self._segments.append(segment)
        self._write_manifest()
        self._begin(segment)

    def finish(self) -> None:
        """See every segment through: its imports, then its rows of the ledger."""
        pending = [segment for segment in self._segments if not segment.done]
        for segment in pending:
            self._begin(segment)
        for segment in pending:
            for kind in _IMPORTED:
                if kind in segment.jobs:
                    self._wait(segment, kind)
        if pending:
            self._collection.imports.show()
        for segment in pending:
            if segment.rows.get("files"):
                self._enter(segment)
            segment.done = True
            self._write_manifest()
            for name in segment.rows:
                self._storage.delete(segment.name(name))

    def _begin(self, segment: _Segment) -> None:
        """Start the imports that were not started, as far as anybody knows, or that failed."""
        for kind in _IMPORTED:
            if not segment.rows.get(kind):
                continue
            if kind in segment.jobs and not self._collection.imports.state(segment.jobs[kind])[1]:
                continue
            address = self._storage.address(segment.name(kind))
            job = self._collection.imports.jobs(kind).get(address)
            if job is None:
                job = self._collection.imports.start(kind, address)
            segment.jobs[kind] = job
            self._write_manifest()

    def _wait(self, segment: _Segment, kind: Target) -> None:
        while True:
            done, failure = self._collection.imports.state(segment.jobs[kind])
            if done:
                return
            if failure:
                raise StoreError(f"Milvus could not import {segment.name(kind)}: {failure}")
            time.sleep(PAUSE)

    def _enter(self, segment: _Segment) -> None:
        """Write a segment's rows of the ledger; again is no harm."""
        with self._storage.open(segment.name("files")) as file:
            for batch in parquet.ParquetFile(file).iter_batches(BATCH):
                zero = np.zeros(2, dtype=np.float32)
                self._collection.upsert(
                    "files", [row | {"vector": zero} for row in batch.to_pylist()]
                )

    def _read_manifest(self) -> list[_Segment]:
        text = self._storage.read(MANIFEST)
        if text is None:
            return []
        try:
            manifest = json.loads(text)
            of, segments = manifest["of"], [_Segment(**one) for one in manifest["segments"]]
        except (ValueError, TypeError, KeyError) as error:
            raise SourceError(f"{self._storage} holds a {MANIFEST} of something else") from error
        unfinished = any(not segment.done for segment in segments)
        if of != self._of and unfinished:
            raise UsageError(
                f"{self._storage} holds unfinished segments of {of.get('collection')}: finish that "
                "ingest first, or use another folder"
            )
        return segments if of == self._of else []

    def _write_manifest(self) -> None:
        segments = [
            {"number": one.number, "rows": one.rows, "jobs": one.jobs, "done": one.done}
            for one in self._segments
        ]
        manifest = {"of": self._of, "segments": segments}
        self._storage.write(MANIFEST, json.dumps(manifest, indent=1).encode())

    @property
    def segment_bytes(self) -> int:
        return self._segment_bytes


def check_backend(can: Capabilities) -> None:
    """Raise ``UnsupportedError`` where there is no import."""
    if can.lite:
        raise UnsupportedError(f"{can.label} has no bulk import: it needs a server")


class _Gather(Pipeline):
    """The first pass: what is new goes to segments, all else is left to the second."""

    def __init__(
        self,
        collection: Collection,
        encoder: Callable[[], Encoder],
        bulk: Bulk,
        folder: Path,
        ledger: Ledger,
        *,
        progress: Progress | None,
        sink: Callable[[ItemRow], None] | None,
        crew: Crew | None,
    ) -> None:
        super().__init__(collection, encoder, progress=progress, sink=sink, part=ledger, crew=crew)
        self._bulk = bulk
        self._folder = folder
        self._open: dict[Kind, _Table] = {}

    def _write(self, chunk: Any) -> None:
        chunk.new = [picture for picture in chunk.new if picture.known is None]
        chunk.alone = [picture for picture in chunk.alone if picture.known is None]
        # What a run wrote that broke off before the ledger was is the second pass's.
        stored = self._stored("images", [picture.id for picture in chunk.new])
        chunk.new = [picture for picture in chunk.new if picture.id not in stored]
        chunk.relabel, chunk.failed, chunk.replaced = [], [], []
        pictures = [*chunk.new, *chunk.alone]
        keys = {picture.id for picture in chunk.new}
        wanted = {text_key(one, text) for one in pictures for text in one.sample.captions}
        stored = self._stored("texts", sorted(wanted))
        chunk.images = [row for row in chunk.images if row["id"] in keys]
        chunk.texts = [row for row in chunk.texts if row["id"] in wanted - stored]
        files = [
            file_row(one.sample, one.id, [text_key(one, text) for text in one.sample.captions])
            for one in pictures
        ]
        self._add("images", chunk.images)
        self._add("texts", chunk.texts)
        self._add("files", files)
        if any(table.size >= self._bulk.segment_bytes for table in self._open.values()):
            self.close()
        self._report(chunk)

    def close(self) -> None:
        """End the segment that is being written."""
        tables, self._open = self._open, {}
        for table in tables.values():
            table.close()
        if tables:
            rows: dict[str, int] = {kind: table.rows for kind, table in tables.items()}
            self._bulk.add(rows, {kind: table.path for kind, table in tables.items()})
            for table in tables.values():
                table.path.unlink(missing_ok=True)

    def _add(self, kind: Kind, rows: list[Row]) -> None:
        if not rows:
            return
        if kind not in self._open:
            # Of the ledger our own columns are kept: those rows are written by ourselves.
            fields = self._collection.imports.columns(kind) if kind != "files" else _LEDGER
            self._open[kind] = _Table(self._folder / f"{kind}.parquet", fields)
        if kind != "files":
            self._collection.learn_fields(kind, rows)
            rows = self._collection.stored(kind, rows)
        self._open[kind].add(rows)

    def _stored(self, kind: Kind, keys: list[str]) -> set[str]:
        return {row["id"] for row in self._collection.get(kind, keys, ["id"])} if keys else set()


#: The ledger's columns by Milvus' names of their types.
_LEDGER: Mapping[str, str] = {
    "path": "VARCHAR", "image_id": "VARCHAR", "texts": "ARRAY", "size": "INT64",
    "mtime_ns": "INT64", "digest": "VARCHAR", "status": "VARCHAR", "reason": "VARCHAR",
    "root": "VARCHAR",
}  # fmt: skip
_ARROW: Mapping[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "INT64": pa.int64(),
    "DOUBLE": pa.float64(),
    "ARRAY": pa.list_(pa.string()),
    "FLOAT_VECTOR": pa.list_(pa.float32()),
    "FLOAT16_VECTOR": pa.list_(pa.uint8()),
    "JSON": pa.string(),
}


class _Table:
    """A Parquet file as Milvus imports it: a column for each field, all others as JSON.

    pymilvus has writers for this. They need clients of two cloud vendors, and what goes wrong in
    their writing thread is lost.
    """

    def __init__(self, path: Path, fields: Mapping[str, str]) -> None:
        self.path = path
        self.rows = 0
        self._fields = fields
        self._schema = pa.schema([(name, _ARROW[kind]) for name, kind in fields.items()])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def add(self, rows: Sequence[Row]) -> None:
        flat = [self._flat(row) for row in rows]
        self._writer.write_table(pa.Table.from_pylist(flat, schema=self._schema))
        self.rows += len(rows)

    def close(self) -> None:
        self._writer.close()

    def _flat(self, row: Row) -> Row:
        flat = {}
        for name, kind in self._fields.items():
            value = row.get(name)
            if kind == "JSON":
                more = {key: one for key, one in row.items() if key not in self._fields}
                value = json.dumps(more, ensure_ascii=False)
            elif kind == "FLOAT16_VECTOR":
                value = list(np.asarray(value, dtype="<f2").tobytes())
            elif kind == "FLOAT_VECTOR":
                value = np.asarray(value, dtype=np.float32)
            flat[name] = value
        return flat
