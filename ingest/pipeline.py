"""``Pipeline``: read → decode → encode → write, all stages overlapped and bounded.

An ``Executor`` reads, decodes and encodes ahead of the calling thread; another thread writes to a
``ChunkSink``. A chunk's images and texts are stored before its ledger rows, so that an interrupted
run resumes with the first chunk that is not in the ledger.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Unpack

from twinlens.ingest.chunk_encoder import ChunkEncoder
from twinlens.ingest.executor import Executor, PendingResult
from twinlens.ingest.ledger import Ledger
from twinlens.ingest.prune import clean_up
from twinlens.ingest.report import IngestReport, Status, Tally
from twinlens.ingest.rows import (
    PendingItem,
    decoded_columns,
    sample_columns,
)
from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sinks import Chunk, ChunkSink, CollectionSink
from twinlens.ingest.tasks import Task
from twinlens.ingest.unfinished import finish_writes
from twinlens.ingest.upload import WriteOptions
from twinlens.ingest.writer import WriterThread, wait_for_milvus
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import image_id

if TYPE_CHECKING:
    from twinlens.search.analysis.policy.judge import Judge

#: Seconds of work in a chunk: what an interruption loses, and how often progress moves.
CHUNK_SECONDS = 2.0
#: Images and captions that the first chunk encodes, before it is known how long that takes.
FIRST_CHUNK = 32

#: An item, and the result that is awaited for it, if any.
_Submitted = tuple[PendingItem | Failure, PendingResult | None]


def ingest_items(
    collection: Collection,
    items: Iterable[Item],
    roots: Iterable[str],
    executor: Executor,
    tally: Tally,
    judge: Judge | None = None,
    **options: Unpack[WriteOptions],
) -> IngestReport:
    """Store a whole corpus, then clean up what its paths no longer contain.

    Args:
        collection: where to store.
        items: the corpus.
        roots: the ingested paths, which are searched for missing files.
        executor: reads, decodes and encodes.
        tally: counts items.
        judge: see ``Pipeline``.
        options: see ``WriteOptions``.

    Raises:
        StoreError: Milvus refused a call, or stayed unreachable for longer than
            ``writer.PATIENCE``. What was written is kept, and the next run resumes from there.
    """
    began = time.perf_counter()
    prune, retry_failed = options.get("prune", False), options.get("retry_failed", False)
    wait_for_milvus(collection.check_loaded)
    with Ledger(collection, prune=prune) as ledger:
        if ledger.has_unfinished():
            wait_for_milvus(partial(finish_writes, collection))
        with CollectionSink(collection, prune=prune) as sink:
            pipeline = Pipeline(
                collection, ledger, executor, sink, tally, retry_failed=retry_failed, judge=judge
            )
            report = pipeline.run(items)
            wait_for_milvus(sink.end)
        ledger.find_missing({*roots, *pipeline.roots})
        replaced = sink.wrote_tombstones or ledger.has_tombstones()
        removed, missing = clean_up(collection, ledger, prune=prune, replaced=replaced)
    wait_for_milvus(collection.check_writes)
    if report.images or report.texts:
        wait_for_milvus(partial(collection.flush, wait=False))
    seconds = time.perf_counter() - began
    return replace(report, removed=removed, missing=missing, seconds=seconds)


class Pace:
    """Says when a chunk is worth ``CHUNK_SECONDS`` of work, from how long the last one took."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._most = FIRST_CHUNK

    def begin(self) -> None:
        """A chunk begins."""
        self._began = time.perf_counter()

    def end(self, count: int, seconds: float) -> None:
        """A chunk is encoded: so many images and texts, with those before it, in so many seconds.

        It is counted from when the chunk was begun, not from the one before: the chunks that share
        a batch end at the same time.
        """
        if count:
            rate = count / max(seconds, 1e-3)
            self._most = max(1, min(int(rate * CHUNK_SECONDS), 2 * max(self._most, count)))

    def is_due(self, chunk: Chunk) -> bool:
        """Whether a chunk should be encoded and written now."""
        return chunk.to_encode >= self._most or (self.is_late and not chunk.empty)

    @property
    def is_late(self) -> bool:
        """Whether the chunk was begun ``CHUNK_SECONDS`` ago."""
        return time.perf_counter() - self._began >= CHUNK_SECONDS


class Pipeline:
    """One run over some items.

    Args:
        collection: searched for texts that are stored already.
        ledger: decides which items need work.
        executor: reads, decodes and encodes.
        sink: writes chunks.
        tally: counts items.
        retry_failed: try again items that failed before and have not changed.
        judge: judges new images before they are stored.

    Attributes:
        roots: the roots of the items of the run.
    """

    def __init__(
        self,
        collection: Collection,
        ledger: Ledger,
        executor: Executor,
        sink: ChunkSink,
        tally: Tally,
        *,
        retry_failed: bool = False,
        judge: Judge | None = None,
    ) -> None:
        self._judge = judge
        self._collection = collection
        self._ledger = ledger
        self._executor = executor
        self._sink = sink
        self._tally = tally
        self._retry_failed = retry_failed
        self._pace = Pace()
        self.roots: set[str] = set()

    def run(self, items: Iterable[Item]) -> IngestReport:
        """Write every item to the sink.

        Raises:
            StoreError: Milvus refused a call, or stayed unreachable.
        """
        began, encoded_before = time.perf_counter(), self._executor.encode_seconds
        self._collection.check_not_frozen()
        self._executor.start(self._ledger)
        with WriterThread(self._write) as writer:
            try:
                self._feed(items, writer)
            except BaseException:
                self._executor.stop(cancel=True)
                raise
            self._executor.stop(cancel=False)
        return IngestReport(
            **self._tally.counts,
            failed=tuple(self._tally.failed),
            notices=(),
            seconds=time.perf_counter() - began,
            encode_seconds=self._executor.encode_seconds - encoded_before,
        )

    def _feed(self, items: Iterable[Item], writer: WriterThread[Chunk]) -> None:
        """Judge and submit every item; collect the results into chunks, and have these encoded."""
        submitted: deque[_Submitted] = deque()
        chunk = Chunk()
        self._pace.begin()

        def encoded(chunk: Chunk, count: int, seconds: float) -> None:
            self._pace.end(count, seconds)
            writer.put(chunk)

        encoder = ChunkEncoder(self._collection, self._executor, self._judge, encoded)

        def collect() -> None:
            self._collect(*submitted.popleft(), chunk)
            encoder.finish_ready()

        def begin_if_due() -> None:
            nonlocal chunk
            if chunk.full or self._pace.is_due(chunk):
                encoder.begin(chunk)
                chunk = Chunk()
                self._pace.begin()

        for item, verdict, entry in self._ledger.judge_all(items, self.roots):
            if isinstance(item, Sample):
                self._tally.captions_left_out(item.left_out)
            if isinstance(item, Failure):
                submitted.append((item, None))
            elif verdict in ("unchanged", "left out") or (
                verdict == "failed before" and not self._retry_failed
            ):
                self._tally.item(item.uri, verdict)
            else:
                pending = PendingItem(item, entry)
                submitted.append((pending, self._submit(pending, verdict == "captions changed")))
            if self._pace.is_late:  # a slow source, or one with few new items
                encoder.finish_ready()
                while submitted and _is_done(*submitted[0]) and not chunk.full:
                    collect()
                begin_if_due()
            while len(submitted) > self._executor.ahead:
                collect()
                begin_if_due()
        while submitted:
            collect()
            begin_if_due()
        if not chunk.empty:
            encoder.begin(chunk)
        encoder.finish()

    def _submit(self, pending: PendingItem, same_image: bool) -> PendingResult | None:
        """Submit the work on an item; None when there is nothing to read or encode."""
        item, entry = pending.sample, pending.entry
        if item.caption_vector is not None and item.captions:
            pending.text_vectors[item.captions[0]] = item.caption_vector
        load = item.load
        if same_image and entry is not None:
            pending.id, load = entry.image_id, None
        elif item.vector is not None:
            pending.id, load = image_id(item.vector.tobytes()), None
            pending.vector = item.vector
            pending.columns = sample_columns(item)
        texts = tuple(text for text in item.captions if text not in pending.text_vectors)
        if load is None and not texts:
            return None
        return self._executor.submit(Task(item.uri, item.root, load, texts))

    def _collect(
        self, pending: PendingItem | Failure, future: PendingResult | None, chunk: Chunk
    ) -> None:
        """Add an item to the chunk, once its result is there."""
        if isinstance(pending, Failure):
            chunk.failed.append((pending, None))
            return
        entry = pending.entry
        failure = self._await(pending, future) if future is not None else None
        if failure is not None:
            chunk.failed.append((failure, pending.sample))
            if entry is not None and entry.image_id and not failure.transient:
                chunk.replaced.append(entry)
            return
        if entry is not None and entry.image_id not in ("", pending.id):
            chunk.replaced.append(entry)
        chunk.captions += len(pending.sample.captions)
        has_pixels = pending.pixels is not None or pending.vector is not None
        if not pending.id:
            chunk.texts_only.append(pending)
        elif has_pixels and self._ledger.claim(pending.id):
            chunk.new.append(pending)
        else:
            chunk.stored.append(pending)

    def _await(self, pending: PendingItem, future: PendingResult) -> Failure | None:
        """Wait for a task, and copy its result to the item."""
        result = self._executor.wait(future)
        pending.id = pending.id or result.id
        pending.text_vectors |= result.texts
        pending.ms = result.ms
        if result.image is not None:
            pending.pixels = result.image.pixels
            pending.vector = result.vector
            pending.columns = decoded_columns(pending.sample, result.image)
        return result.failure

    def _write(self, chunk: Chunk) -> None:
        """In the writer thread: write a chunk, then count its items."""
        self._sink.write(chunk)
        known = chunk.known or {}
        self._tally.counts["texts"] += len(chunk.text_rows)
        for item in chunk.new:
            self._tally.item(item.sample.uri, "stored", item.ms, item.moderation)
        for item in chunk.stored:
            status: Status = "unchanged"
            if item.entry is None or item.entry.image_id != item.id:
                status = "duplicate"
            elif item.entry.digest != item.sample.digest and item.sample.uri not in known:
                status = "updated"
            self._tally.item(item.sample.uri, status, item.ms)
        for item in chunk.texts_only:
            self._tally.item(item.sample.uri, "text stored")
        for failure, _ in chunk.failed:
            self._tally.failure(failure)


def _is_done(_: PendingItem | Failure, future: PendingResult | None) -> bool:
    """Whether nothing of an item is to be waited for."""
    return future is None or future.done()
