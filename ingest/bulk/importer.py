"""Bulk import: encode new images into Parquet files and let a Milvus server import them.

Two passes over the same sources. The first encodes what is new and writes segments to the storage:
a Parquet file of images, one of texts, and one of ledger rows. Milvus imports the first two; then
the ledger rows are upserted. The second pass is an ordinary ingest, which finds those images
stored and does the rest: further paths of an image, changed files, failures, cleaning up.

``manifest.json`` beside the segments lists them with their import jobs, so that an interrupted run
can resume: unfinished segments are imported before anything is encoded.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from pyarrow import parquet

from twinlens.ingest.bulk.segments import SegmentWriter
from twinlens.ingest.bulk.storage import Storage
from twinlens.ingest.executor import Executor
from twinlens.ingest.ledger import Ledger
from twinlens.ingest.pipeline import Pipeline, ingest_items
from twinlens.ingest.report import IngestReport, ItemRow, Tally
from twinlens.ingest.sample import Item
from twinlens.ingest.upload import WriteOptions
from twinlens.ingest.writer import wait_for_milvus
from twinlens.search.errors import SourceError, StoreError, UnsupportedError, UsageError
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import Kind, Target

#: Approximate bytes of a segment's largest file; Milvus splits imports into segments of its own.
SEGMENT_BYTES = 512 << 20
#: Ledger rows upserted at a time.
BATCH = 1_000
#: Seconds between two polls of an import job.
POLL_SECONDS = 1.0
if TYPE_CHECKING:
    from twinlens.search.analysis.policy.judge import Judge

MANIFEST = "manifest.json"
_IMPORTED: tuple[Target, ...] = ("images", "texts")
#: Statuses that the first pass has reported already.
_REPORTED = ("unchanged", "failed before", "left out")


def bulk_ingest(
    collection: Collection,
    storage: Storage,
    read_items: Callable[[], Iterator[Item]],
    roots: Sequence[str],
    executor: Executor,
    tally: Tally,
    *,
    judge: Judge | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    **options: Unpack[WriteOptions],
) -> IngestReport:
    """Store every item, new ones by bulk import; see ``twinlens.ingest.pipeline.ingest_items``.

    Args:
        storage: for the segments; the server must be able to read it, too.
        read_items: opens the sources; called once for each pass.
        judge: judges new images before they are stored.
        segment_bytes: approximate size of a segment's largest file.

    Raises:
        UnsupportedError: Milvus Lite cannot import.
        UsageError: the storage contains segments of another collection.
        SourceError: the storage cannot be read or written.
        StoreError: Milvus refused a call, or an import failed. The segments are kept; run it again.
    """
    began = time.perf_counter()
    importer = BulkImporter(collection, storage)
    importer.finish()
    with (
        tempfile.TemporaryDirectory(prefix="twinlens-bulk-") as folder,
        Ledger(collection) as ledger,
    ):
        sink = SegmentWriter(collection, Path(folder), segment_bytes, importer.add)
        first = Pipeline(collection, ledger, executor, sink, tally, judge=judge).run(read_items())
        sink.close()
    importer.finish()

    def report_rest(row: ItemRow) -> None:
        if row.status not in _REPORTED:
            tally.add(row)

    second = ingest_items(
        collection,
        read_items(),
        roots,
        executor,
        Tally(on_item=report_rest),
        judge,
        **options,
    )
    if first.images or first.texts:
        collection.flush()
    return replace(
        second,
        images=first.images + second.images,
        texts=first.texts + second.texts,
        unchanged=first.unchanged,
        failed_before=first.failed_before,
        left_out=first.left_out,
        flagged=first.flagged + second.flagged,
        held=first.held + second.held,
        seconds=time.perf_counter() - began,
        encode_seconds=first.encode_seconds + second.encode_seconds,
    )


def check_backend(can: Capabilities) -> None:
    """Raise ``UnsupportedError`` where the backend cannot import."""
    if can.lite:
        raise UnsupportedError(f"{can.label} has no bulk import: it needs a server")


@dataclass(slots=True)
class _Segment:
    """Files that were written together.

    Attributes:
        number: counted from 1.
        rows: of each kind; a kind without rows has no file.
        jobs: Milvus' job ids of the imports that were started.
        done: whether everything is imported and in the ledger.
    """

    number: int
    rows: dict[str, int]
    jobs: dict[str, int] = field(default_factory=dict)
    done: bool = False

    def name(self, kind: str) -> str:
        return f"{kind}_{self.number:05d}.parquet"


class BulkImporter:
    """Moves segments to the storage, and has Milvus import them into a collection.

    Args:
        collection: on a server.
        storage: for the segments; the server must be able to read it, too.

    Raises:
        UnsupportedError: Milvus Lite cannot import.
        UsageError: the storage contains segments of another collection.
        SourceError: the storage cannot be read or written.
    """

    def __init__(self, collection: Collection, storage: Storage) -> None:
        check_backend(collection.capabilities)
        self._collection = collection
        self._storage = storage
        generation = collection.generation
        self._of = {
            "collection": generation.physical(collection.name, "images"),
            "tenant": collection.tenant,
            "fingerprint": generation.fingerprint.digest,
        }
        self._segments = self._read_manifest()

    def add(self, rows: Mapping[Kind, int], files: Mapping[Kind, Path]) -> None:
        """Copy a segment's files to the storage, and start to import it."""
        segment = _Segment(len(self._segments) + 1, {kind: rows[kind] for kind in rows})
        for kind, path in files.items():
            self._storage.put(segment.name(kind), path)
        self._segments.append(segment)
        self._write_manifest()
        wait_for_milvus(partial(self._start, segment))

    def finish(self) -> None:
        """Complete every segment: wait for its imports, then upsert its ledger rows."""
        pending = [segment for segment in self._segments if not segment.done]
        for segment in pending:
            self._start(segment)
        for segment in pending:
            for kind in _IMPORTED:
                if kind in segment.jobs:
                    self._wait(segment, kind)
        if pending:
            self._collection.bulk_imports.refresh()
        for segment in pending:
            if segment.rows.get("files"):
                self._write_ledger(segment)
            segment.done = True
            self._write_manifest()
            for name in segment.rows:
                self._storage.delete(segment.name(name))

    def _start(self, segment: _Segment) -> None:
        """Start the imports that failed, or that Milvus does not list as started."""
        for kind in _IMPORTED:
            if not segment.rows.get(kind):
                continue
            imports = self._collection.bulk_imports
            if kind in segment.jobs and not imports.state(segment.jobs[kind])[1]:
                continue
            address = self._storage.address(segment.name(kind))
            job = imports.jobs(kind).get(address)
            if job is None:
                job = imports.start(kind, address)
            segment.jobs[kind] = job
            self._write_manifest()

    def _wait(self, segment: _Segment, kind: Target) -> None:
        while True:
            done, failure = self._collection.bulk_imports.state(segment.jobs[kind])
            if done:
                return
            if failure:
                raise StoreError(f"Milvus could not import {segment.name(kind)}: {failure}")
            time.sleep(POLL_SECONDS)

    def _write_ledger(self, segment: _Segment) -> None:
        """Upsert a segment's ledger rows; safe to repeat."""
        with self._storage.open(segment.name("files")) as file:
            for batch in parquet.ParquetFile(file).iter_batches(BATCH):
                self._collection.upsert("files", batch.to_pylist())

    def _read_manifest(self) -> list[_Segment]:
        text = self._storage.read(MANIFEST)
        if text is None:
            return []
        try:
            manifest = json.loads(text)
            of, segments = manifest["of"], [_Segment(**one) for one in manifest["segments"]]
        except (ValueError, TypeError, KeyError) as error:
            raise SourceError(
                f"{self._storage} holds a {MANIFEST} of something else: use another folder"
            ) from error
        unfinished = any(not segment.done for segment in segments)
        if of != self._of and unfinished:
            raise UsageError(
                f"{self._storage} holds unfinished segments of {of.get('collection')}: finish that "
                "ingest first, or use another folder"
            )
        return segments if of == self._of else []

    def _write_manifest(self) -> None:
        manifest = {"of": self._of, "segments": [asdict(segment) for segment in self._segments]}
        self._storage.write(MANIFEST, json.dumps(manifest, indent=1).encode())
