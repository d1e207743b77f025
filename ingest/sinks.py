"""``ChunkSink``: where the pipeline writes its chunks; ``CollectionSink`` writes to Milvus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from twinlens.ingest.ledger import LedgerEntry, failed_row, file_row, tombstone_row
from twinlens.ingest.reconcile import SHARED_BATCH, reconcile, reconcile_shared
from twinlens.ingest.rows import PendingItem, text_keys
from twinlens.ingest.sample import Failure, Sample
from twinlens.ingest.unfinished import WriteNote
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import Row, clean_metadata, text_moderation

#: Items, and captions, of a full chunk.
CHUNK = 256
CHUNK_TEXTS = 4_096


@dataclass(slots=True)
class Chunk:
    """Items that are encoded and written together.

    Attributes:
        new: images to store.
        stored: images that are stored already; only their paths, captions and metadata may change.
        texts_only: texts without an image.
        failed: failures, with their samples where there are any.
        replaced: entries of files that contained another image before.
        captions: how many captions the items have.
        image_rows, text_rows: rows to write.
        known: the ledger rows of ``kept`` and ``replaced`` before the chunk is written, by path.
    """

    new: list[PendingItem] = field(default_factory=list)
    stored: list[PendingItem] = field(default_factory=list)
    texts_only: list[PendingItem] = field(default_factory=list)
    failed: list[tuple[Failure, Sample | None]] = field(default_factory=list)
    replaced: list[LedgerEntry] = field(default_factory=list)
    captions: int = 0
    image_rows: list[Row] = field(default_factory=list)
    text_rows: list[Row] = field(default_factory=list)
    known: dict[str, Row] | None = None

    @property
    def items(self) -> list[PendingItem]:
        """All items that did not fail."""
        return [*self.new, *self.stored, *self.texts_only]

    @property
    def kept(self) -> list[PendingItem]:
        """Items with the same image as before, whose source does not say anything about it now."""
        return [
            item
            for item in self.stored
            if item.sample.silent and item.entry is not None and item.entry.image_id == item.id
        ]

    @property
    def to_encode(self) -> int:
        """About how many images and captions the chunk has to encode."""
        return self.captions + len(self.new)

    @property
    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not (self.new or self.stored or self.texts_only or self.failed)

    @property
    def full(self) -> bool:
        items = len(self.new) + len(self.stored) + len(self.texts_only) + len(self.failed)
        return items >= CHUNK or self.captions >= CHUNK_TEXTS

    def fail(self, item: PendingItem, failure: Failure) -> None:
        """Make an item of the chunk a transient failure: what is stored of its path stays."""
        for items in (self.new, self.stored, self.texts_only):
            items[:] = [one for one in items if one is not item]
        self.replaced = [entry for entry in self.replaced if entry is not item.entry]
        self.failed.append((failure, None))


class ChunkSink(Protocol):
    """Writes chunks, in order, from one thread."""

    def write(self, chunk: Chunk) -> None:
        """Write a chunk, and remove from it whatever this run should not report.

        Must be safe to call again with the same chunk after a failure half-way.
        """


class CollectionSink:
    """Writes to a collection: rows first and the ledger last, so that a broken run can resume.

    A context manager; call ``end`` before leaving it if all chunks were written.

    Args:
        collection: where to write.
        prune: a path without captions removes the stored ones; otherwise they are kept.
        keep_tombstones: collect the tombstone rows of the run.

    Attributes:
        tombstones: those rows, by path.
        wrote_tombstones: whether the run wrote any.
    """

    def __init__(
        self, collection: Collection, *, prune: bool = False, keep_tombstones: bool = False
    ) -> None:
        self._collection = collection
        self._prune = prune
        self._keep_tombstones = keep_tombstones
        self.tombstones: dict[str, Row] = {}
        self.wrote_tombstones = False
        self._note = WriteNote(collection)
        #: The metadata of images that another run may be storing as well, by id.
        self._unchecked: dict[str, Mapping[str, Any]] = {}

    def write(self, chunk: Chunk) -> None:
        self._hold_back_texts(chunk)
        self._note_rows(chunk)
        self._collection.upsert("images", chunk.image_rows)
        self._collection.upsert("texts", chunk.text_rows)
        known = self._known_rows(chunk)
        files = [file_row(item.sample, item.id, text_keys(item)) for item in chunk.items]
        kept = {item.sample.uri for item in chunk.kept} & known.keys()
        for row in files:
            if row["path"] in kept:
                row |= {name: known[row["path"]][name] for name in ("texts", "digest")}
        tombstones = [
            tombstone_row(entry, known[entry.uri]["texts"] if entry.uri in known else ())
            for entry in chunk.replaced
        ]
        metadata = {item.id: clean_metadata(item.sample.metadata) for item in chunk.stored}
        outcome = reconcile(
            self._collection, metadata.keys(), planned=[*files, *tombstones], metadata=metadata
        )
        files = self._drop_lost(files, outcome.lost, chunk)
        self._collection.upsert("files", tombstones)
        self.wrote_tombstones |= bool(tombstones)
        if self._keep_tombstones:
            self.tombstones |= {row["path"]: row for row in tombstones}
        self._collection.upsert("files", files)
        lasting = [failed for failed in chunk.failed if not failed[0].transient]
        self._collection.upsert("files", [failed_row(*failed) for failed in lasting])
        self._unchecked |= {item.id: item.sample.metadata for item in (*chunk.new, *chunk.stored)}
        if len(self._unchecked) >= SHARED_BATCH:
            self._check_shared()
        # What was written before the collection was frozen is copied to its next generation.
        self._collection.check_writes()

    def __enter__(self) -> CollectionSink:
        return self

    def __exit__(self, *exc: object) -> None:
        self._note.release()

    def end(self) -> None:
        """End a run that has written all its chunks."""
        self._check_shared()
        self._note.end()

    def _check_shared(self) -> None:
        reconcile_shared(self._collection, self._unchecked)
        self._unchecked.clear()

    def _note_rows(self, chunk: Chunk) -> None:
        images = {row["id"] for row in chunk.image_rows}
        images |= {row["image_id"] for row in chunk.text_rows} - {""}
        texts = [row["id"] for row in chunk.text_rows if not row["image_id"]]
        if images or texts:
            self._note.begin(sorted(images), texts)

    def _hold_back_texts(self, chunk: Chunk) -> None:
        """Give new captions of stored images what a policy has found in the images."""
        stored = {item.id for item in chunk.stored}
        ids = sorted({row["image_id"] for row in chunk.text_rows} & stored)
        rows = self._collection.get("images", ids, ["id", "$meta"])
        found = {row["id"]: text_moderation(row) for row in rows}
        for text in chunk.text_rows:
            text |= found.get(text["image_id"], {})

    def _known_rows(self, chunk: Chunk) -> dict[str, Row]:
        """What the ledger has of the paths whose captions stay, or are inherited.

        Read once: a chunk that is written again may have overwritten some of it.
        """
        if chunk.known is None:
            paths = {item.sample.uri for item in chunk.kept} | {one.uri for one in chunk.replaced}
            wanted = [] if self._prune else sorted(paths)
            rows = self._collection.get("files", wanted, ["path", "texts", "digest"])
            chunk.known = {row["path"]: row for row in rows}
        return chunk.known

    def _drop_lost(self, files: list[Row], lost: frozenset[str], chunk: Chunk) -> list[Row]:
        """Fail images that are in the ledger but not stored, so that the next run reads them."""
        if not lost:
            return files
        for item in [item for item in chunk.stored if item.id in lost]:
            reason = "its stored embedding was deleted during this run: ingest once more"
            failure = Failure(item.sample.uri, reason, item.sample.root, transient=True)
            chunk.failed.append((failure, None))
            chunk.stored.remove(item)
        for row in [row for row in files if row["image_id"] in lost]:
            self._collection.delete("files", [row["path"]])
        return [row for row in files if row["image_id"] not in lost]
