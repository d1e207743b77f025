"""read → decode → encode → write, each stage bounded, all overlapped.

Threads read and decode ahead; the calling thread encodes; one thread writes. Work travels in
chunks: a chunk's pictures and texts are stored before its files are entered in the ledger, so that
a run that breaks off anywhere goes on there the next time.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from twinlens.ingest.ledger import Known, Ledger, failed_row, file_row, tombstone_row
from twinlens.ingest.prune import Tidied, tidy
from twinlens.ingest.reconcile import Reconciled, reconcile, texts_of
from twinlens.ingest.report import IngestReport, Progress, Sink, Status, Tally
from twinlens.ingest.rows import Picture, columns_of, image_row, seen_columns, text_key, text_row
from twinlens.ingest.sample import Failure, Item, Sample, failure_of
from twinlens.ingest.stages import Crew, Result, Task, embed_texts, look
from twinlens.ingest.writer import Writer, patiently
from twinlens.search.errors import ImageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.encoder import Encoder, Pixels
from twinlens.search.records import Row, clean_metadata, image_id

#: Samples, and captions, that travel together.
CHUNK = 256
CHUNK_TEXTS = 4_096


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of reading an item: a picture, or why there is none."""

    picture: Picture | None
    failure: Failure | None = None


#: Waits for what comes of an item.
_Awaited = Callable[[], _Outcome]


@dataclass(slots=True)
class _Chunk:
    """What is written together."""

    new: list[Picture] = field(default_factory=list)
    relabel: list[Picture] = field(default_factory=list)
    alone: list[Picture] = field(default_factory=list)
    failed: list[tuple[Failure, Sample | None]] = field(default_factory=list)
    replaced: list[Known] = field(default_factory=list)
    images: list[Row] = field(default_factory=list)
    texts: list[Row] = field(default_factory=list)

    @property
    def full(self) -> bool:
        stored = [*self.new, *self.relabel, *self.alone]
        captions = sum(len(picture.sample.captions) for picture in stored)
        return len(stored) + len(self.failed) >= CHUNK or captions >= CHUNK_TEXTS


class Pipeline:
    """One run over a corpus.

    Args:
        corpus: where to store.
        encoder: called when the first item needs the model; without anything new, never.
        retry_failed: try items again that failed before and have not changed.
        prune: delete pictures that no file holds any more.
        progress: told of every finished item.
        sink: given a row for every finished item.
        part: the ledger of the only paths that will come, where the corpus is filled bit by bit.
            What is done once at the end of a run, ``tidy`` and ``settle``, is then the caller's.
        crew: reads and encodes elsewhere; then ``encoder`` is not called.

    Attributes:
        tombstones: the ledger's rows that were written of pictures which a file held before, by
            path; where ``part`` is given.
    """

    def __init__(
        self,
        collection: Collection,
        encoder: Callable[[], Encoder],
        *,
        retry_failed: bool = False,
        prune: bool = False,
        progress: Progress | None = None,
        sink: Sink | None = None,
        part: Ledger | None = None,
        crew: Crew | None = None,
    ) -> None:
        self._collection = collection
        self._encoder = encoder
        self._retry_failed = retry_failed
        self._prune = prune
        self._tally = Tally(progress, sink)
        self._encode_seconds = 0.0
        self._roots: set[str] = set()
        self._part = part
        self._crew = crew
        self.tombstones: dict[str, Row] = {}

    def run(self, items: Iterable[Item], roots: Iterable[str] = ()) -> IngestReport:
        """Store every item; ``roots`` are what the items come from, searched for what is gone.

        Raises:
            StoreError: Milvus refused, or stayed away for longer than ``PATIENCE``. What was
                written until then is kept, and the next run goes on from there.
        """
        began = time.perf_counter()
        self._collection.check_open()
        self._roots = set(roots)
        ledger = (
            nullcontext(self._part) if self._part else Ledger(self._collection, prune=self._prune)
        )
        with ledger as self._ledger:
            tidied = self._database(items)
        patiently(self._collection.check_open)
        if self._part is None and (self._tally.counts["images"] or self._tally.counts["texts"]):
            patiently(self._collection.settle)
        return IngestReport(
            **self._tally.counts,
            removed=tidied.removed,
            missing=tidied.missing,
            failed=tuple(self._tally.failed),
            seconds=time.perf_counter() - began,
            encode_seconds=self._encode_seconds + (self._crew.encode_seconds if self._crew else 0),
        )

    def _database(self, items: Iterable[Item]) -> Tidied:
        if self._crew is not None:
            self._crew.begin(self._ledger.image_digests)
        workers = min(32, (os.cpu_count() or 2) + 1)
        with Writer(self._write) as writer, ThreadPoolExecutor(workers) as pool:
            try:
                self._feed(items, pool, writer)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if self._part is not None:
            return Tidied(0, 0)
        self._ledger.mark_gone(self._roots)
        return tidy(self._collection, self._ledger, prune=self._prune)

    def _feed(
        self, items: Iterable[Item], pool: ThreadPoolExecutor, writer: Writer[_Chunk]
    ) -> None:
        ahead: deque[_Awaited] = deque()
        chunk = _Chunk()

        def take() -> None:
            nonlocal chunk
            self._collect(ahead.popleft()(), chunk)
            if chunk.full:
                writer.put(self._encode(chunk))
                chunk = _Chunk()

        for item in items:
            started = self._start(item, pool)
            if started is not None:
                ahead.append(started)
            while len(ahead) > (self._crew.ahead if self._crew else 2 * CHUNK):
                take()
        while ahead:
            take()
        writer.put(self._encode(chunk))

    def _start(self, item: Item, pool: ThreadPoolExecutor) -> _Awaited | None:
        """Begin the work on an item; None when there is nothing to do."""
        if isinstance(item, Failure):
            self._ledger.meet(item.uri)
            failed = _Outcome(None, item)
            return lambda: failed
        self._roots.add(item.root)
        verdict, known = self._ledger.judge(item)
        if verdict == "met":
            return None
        if verdict == "unchanged" or (verdict == "failed before" and not self._retry_failed):
            self._tally.item(item.uri, verdict)
            return None
        picture = Picture(item, known)
        if item.caption_vector is not None and item.captions:
            picture.spoken[item.captions[0]] = item.caption_vector
        if verdict == "captions changed" and known is not None:
            picture.id = known.image_id
        elif item.vector is not None:
            picture.id = image_id(item.vector.tobytes())
            picture.vector = item.vector
            picture.columns = columns_of(item)
        elif item.load is not None and self._crew is None:
            return pool.submit(self._read, picture, self._encoder()).result
        elif item.load is not None:
            return self._hand_over(picture, item.load)
        return self._hand_over(picture, None)

    def _read(self, picture: Picture, encoder: Encoder) -> _Outcome:
        """In a thread of the pool: bytes → id → pixels, unless the picture is stored already."""
        sample = picture.sample
        assert sample.load is not None
        began = time.perf_counter()
        try:
            data = sample.load()
            picture.id = image_id(data)
            if self._ledger.has_image(picture.id):
                return _Outcome(picture)
            view = look(data, encoder.prepare, encoder.fingerprint.image_size)
        except (ImageError, OSError) as error:
            return _Outcome(picture, failure_of(error, sample.uri, sample.root))
        picture.pixels = view.pixels
        picture.columns = seen_columns(sample, view)
        picture.ms = 1e3 * (time.perf_counter() - began)
        return _Outcome(picture)

    def _hand_over(self, picture: Picture, load: Callable[[], bytes] | None) -> _Awaited:
        """Let the crew read the picture and encode its captions; or the captions alone.

        Without a crew captions are encoded with their chunk.
        """
        sample = picture.sample
        texts = tuple(text for text in sample.captions if text not in picture.spoken)
        if self._crew is None or (load is None and not texts):
            return lambda: _Outcome(picture)
        future = self._crew.submit(Task(sample.uri, sample.root, load, texts))
        return partial(self._returned, picture, future)

    def _returned(self, picture: Picture, future: Future[Result]) -> _Outcome:
        assert self._crew is not None
        self._crew.need(future)
        result = future.result()
        picture.id = picture.id or result.id
        picture.spoken |= result.texts
        picture.ms = result.ms
        if result.view is not None:
            picture.vector = result.vector
            picture.columns = seen_columns(picture.sample, result.view)
        return _Outcome(picture, result.failure)

    def _collect(self, outcome: _Outcome, chunk: _Chunk) -> None:
        picture, failure = outcome.picture, outcome.failure
        known = picture.known if picture is not None else None
        if failure is not None:
            chunk.failed.append((failure, picture.sample if picture else None))
            if known is not None and known.image_id and not failure.transient:
                chunk.replaced.append(known)
        elif picture is not None:
            if known is not None and known.image_id not in ("", picture.id):
                chunk.replaced.append(known)
            if not picture.id:
                chunk.alone.append(picture)
            elif picture.is_at_hand and self._ledger.claim(picture.id):
                chunk.new.append(picture)
            else:
                chunk.relabel.append(picture)

    def _encode(self, chunk: _Chunk) -> _Chunk:
        """Pictures and texts of a chunk → rows, on the calling thread."""
        began = time.perf_counter()
        decoded = [picture for picture in chunk.new if picture.pixels is not None]
        batch = self._encoder().image_batch if decoded else 1
        for start in range(0, len(decoded), batch):
            pictures = decoded[start : start + batch]
            vectors = self._encoder().images(np.stack([_pixels(picture) for picture in pictures]))
            for picture, vector in zip(pictures, vectors, strict=True):
                chunk.images.append(image_row(picture, vector))
                picture.pixels = None
        for picture in chunk.new:
            if picture.vector is not None:
                chunk.images.append(image_row(picture, picture.vector))
        self._add_texts(chunk)
        self._encode_seconds += time.perf_counter() - began
        return chunk

    def _add_texts(self, chunk: _Chunk) -> None:
        wanted: dict[str, tuple[str, Picture]] = {}
        for picture in [*chunk.new, *chunk.relabel, *chunk.alone]:
            for text in picture.sample.captions:
                wanted.setdefault(text_key(picture, text), (text, picture))
        maybe_stored = [
            text_key(picture, text) for picture in chunk.relabel for text in picture.sample.captions
        ]
        for row in patiently(partial(self._collection.get, "texts", maybe_stored, ["id"])):
            wanted.pop(row["id"], None)
        pending = []
        for key, (text, picture) in wanted.items():
            if text in picture.spoken:
                chunk.texts.append(text_row(key, text, picture, picture.spoken[text]))
            else:
                pending.append((key, text, picture))
        vectors = embed_texts(self._encoder(), [text for _, text, _ in pending]) if pending else []
        for (key, text, picture), vector in zip(pending, vectors, strict=True):
            chunk.texts.append(text_row(key, text, picture, vector))

    def _write(self, chunk: _Chunk) -> None:
        """In the writing thread: rows first, the ledger last."""
        self._collection.upsert("images", chunk.images)
        self._collection.upsert("texts", chunk.texts)
        stored = [*chunk.new, *chunk.relabel, *chunk.alone]
        inherited = self._inherited(chunk)
        files = [
            file_row(
                p.sample,
                p.id,
                inherited.get(p.id, []) + [text_key(p, text) for text in p.sample.captions],
            )
            for p in stored
        ]
        outcome = reconcile(
            self._collection,
            {picture.id for picture in chunk.relabel},
            planned=files,
            metadata={p.id: clean_metadata(p.sample.metadata) for p in chunk.relabel},
        )
        files = self._heal(files, outcome, chunk)
        tombstones = [tombstone_row(known) for known in chunk.replaced]
        self._collection.upsert("files", tombstones)
        if self._part is not None:
            self.tombstones |= {row["path"]: row for row in tombstones}
        self._collection.upsert("files", files)
        lasting = [failed for failed in chunk.failed if not failed[0].transient]
        self._collection.upsert("files", [failed_row(*failed) for failed in lasting])
        # What was written before the collection was frozen is carried over to its successor.
        self._collection.check_open()
        self._report(chunk)

    def _inherited(self, chunk: _Chunk) -> dict[str, list[str]]:
        """The texts of stored pictures whose new path says nothing: they keep what they have."""
        if self._prune:
            return {}
        silent = [picture.id for picture in chunk.relabel if picture.sample.silent]
        return texts_of(self._collection, silent)

    def _heal(self, files: list[Row], outcome: Reconciled, chunk: _Chunk) -> list[Row]:
        """A picture that the ledger knew but nobody stores is forgotten, to be read next time."""
        if not outcome.lost:
            return files
        for picture in [p for p in chunk.relabel if p.id in outcome.lost]:
            reason = "its stored embedding was deleted meanwhile: ingest once more"
            lost = Failure(picture.sample.uri, reason, picture.sample.root, transient=True)
            chunk.failed.append((lost, None))
            chunk.relabel.remove(picture)
        for row in [row for row in files if row["image_id"] in outcome.lost]:
            self._collection.delete("files", [row["path"]])
        return [row for row in files if row["image_id"] not in outcome.lost]

    def _report(self, chunk: _Chunk) -> None:
        self._tally.counts["texts"] += len(chunk.texts)
        for picture in chunk.new:
            self._tally.item(picture.sample.uri, "stored", picture.ms)
        for picture in chunk.relabel:
            status: Status = "unchanged"
            if picture.known is None or picture.known.image_id != picture.id:
                status = "duplicate"
            elif picture.known.digest != picture.sample.digest:
                status = "updated"
            self._tally.item(picture.sample.uri, status, picture.ms)
        for picture in chunk.alone:
            self._tally.item(picture.sample.uri, "text stored")
        for failure, _ in chunk.failed:
            self._tally.failure(failure)


def _pixels(picture: Picture) -> Pixels:
    assert picture.pixels is not None
    return picture.pixels
