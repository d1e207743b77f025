"""``Receiver``: store items that clients read and send in parts, over HTTP.

Uses the same ``Pipeline`` as an ingest, over a ledger of only the paths of the request, so that the
cost of a request does not depend on how much is stored already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Unpack

from twinlens.ingest.executor import LocalExecutor
from twinlens.ingest.ledger import TOMBSTONE, Ledger
from twinlens.ingest.pipeline import Pipeline
from twinlens.ingest.prune import delete_replaced, remove_ids, remove_missing, remove_paths
from twinlens.ingest.report import ItemRow, Tally
from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sinks import CollectionSink
from twinlens.ingest.unfinished import finish_writes
from twinlens.ingest.upload import PutOptions, Removed, Upload, Uploaded, UploadedItem
from twinlens.search.analysis.policy.judge import Judge
from twinlens.search.errors import ImageError, UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder
from twinlens.search.records import (
    MAX_CAPTIONS,
    MAX_PATH_BYTES,
    MAX_SHOWN_BYTES,
    clean_metadata,
    clean_text,
    cut_bytes,
    image_id,
)


class Receiver:
    """Writes uploaded items to one collection; not safe to call from two threads at once.

    Args:
        collection: returns the collection, or ``None`` while there is none.
        create: creates it.
        encoder: returns its encoder; called when something must be encoded.
        judge: judges new images by a policy before they are stored.
    """

    def __init__(
        self,
        collection: Callable[[], Collection | None],
        create: Callable[[], Collection],
        encoder: Callable[[], Encoder],
        judge: Judge | None = None,
    ) -> None:
        self._collection = collection
        self._create = create
        self._encoder = encoder
        self._judge = judge

    def put(self, items: Sequence[Upload], **options: Unpack[PutOptions]) -> Uploaded:
        """Store items. Safe to repeat after a failure: the rows become the same.

        The collection is created with the first item that can be stored.

        Args:
            items: what to store. An empty list ends a series of requests, and deletes the images
                that files no longer contain.
            options: see ``PutOptions``.

        Raises:
            UsageError: the name of an item is invalid.
            ModelError: the model cannot be loaded.
            StoreError: Milvus refused a call, or stayed unreachable.
        """
        prune, retry_failed = options.get("prune", False), options.get("retry_failed", False)
        samples = [_sample(upload) for upload in items]
        collection = self._collection()
        if not items:
            return self._finish(collection, prune)
        with Ledger(
            collection,
            prune=prune,
            only=[sample.uri for sample in samples],
            images=[image_id(upload.data) for upload in items if upload.data is not None],
        ) as ledger:
            wanted = [
                number
                for number, (upload, sample) in enumerate(zip(items, samples, strict=True))
                if _needs_bytes(upload, sample, ledger, retry_failed)
            ]
            without_bytes = frozenset(wanted)
            complete = [sample for n, sample in enumerate(samples) if n not in without_bytes]
            if not complete:
                return Uploaded(wanted=tuple(wanted))
            collection = collection or self._create()
            if self._judge is not None:
                self._judge.check_model(collection.fingerprint)
            rows: list[ItemRow] = []
            with CollectionSink(collection, prune=prune, keep_tombstones=True) as sink:
                pipeline = Pipeline(
                    collection,
                    ledger,
                    LocalExecutor(self._encoder),
                    sink,
                    Tally(on_item=rows.append),
                    retry_failed=retry_failed,
                    judge=self._judge,
                )
                report = pipeline.run(complete)
                sink.end()
        replaced = [] if options.get("more") else list(sink.tombstones.values())
        deleted = delete_replaced(collection, replaced, prune=prune)
        collection.check_writes()
        notes = {one.uri: "; ".join(one.notes) for one in complete if isinstance(one, Sample)}
        return Uploaded(
            items=tuple(
                UploadedItem(
                    row.uri,
                    row.status,
                    row.reason or notes.get(row.uri, ""),
                    row.ms,
                    row.moderation,
                )
                for row in rows
            ),
            wanted=tuple(wanted),
            texts=report.texts,
            deleted=deleted,
            encode_seconds=report.encode_seconds,
        )

    def judge(self, items: Sequence[Upload]) -> list[UploadedItem]:
        """Say what ``put`` would do: the status of each item is a ``Verdict`` or "failed"."""
        samples = [_sample(upload) for upload in items]
        with Ledger(self._collection(), only=[sample.uri for sample in samples]) as ledger:
            return [
                UploadedItem(
                    sample.uri,
                    ledger.judge(sample)[0] if isinstance(sample, Sample) else "failed",
                )
                for sample in samples
            ]

    def remove(self, paths: Sequence[str] = (), ids: Sequence[str] = ()) -> Removed:
        """Remove paths and everything below them, and images or texts by their ids.

        Raises:
            UsageError: an id belongs to the caption of an image.
        """
        collection = self._collection()
        if collection is None:
            return Removed()
        return remove_paths(collection, paths) + remove_ids(collection, ids)

    def remove_missing(self, paths: Sequence[str], *, prune: bool = False) -> Removed:
        """Remove paths that no longer exist on the client's disk.

        Paths that are the only one of their image are kept, unless ``prune`` is set.
        """
        collection = self._collection()
        if collection is None:
            return Removed()
        removed = remove_missing(collection, paths, frozenset(paths).__contains__, prune=prune)
        collection.check_writes()
        return removed

    def _finish(self, collection: Collection | None, prune: bool) -> Uploaded:
        if collection is None:
            return Uploaded()
        collection.check_not_frozen()
        deleted = finish_writes(collection) | delete_replaced(collection, prune=prune)
        collection.flush(wait=False)
        return Uploaded(deleted=deleted)


def _needs_bytes(upload: Upload, sample: Item, ledger: Ledger, retry_failed: bool) -> bool:
    """Whether the item's image must be read but was not sent."""
    if isinstance(sample, Failure) or sample.load is None:
        return False
    if upload.data is not None or upload.failed:
        return False
    verdict = ledger.peek(sample)
    return verdict in ("new", "changed") or (verdict == "failed before" and retry_failed)


def _sample(upload: Upload) -> Item:
    """Convert an upload to a sample; nothing in it is trusted.

    Raises:
        UsageError: its name, or its root's, is not a valid path.
    """
    for name in (upload.uri, upload.root, upload.relative):
        if len(name.encode()) > MAX_PATH_BYTES or "\0" in name:
            raise UsageError(f"a path must have at most {MAX_PATH_BYTES} bytes and no zero byte")
    if not upload.uri or upload.uri.startswith(TOMBSTONE[0]):
        raise UsageError(f"{upload.uri[:80]!r} is not a path")
    if upload.kind == "missing":
        reason = cut_bytes(clean_text(upload.failed), MAX_SHOWN_BYTES)
        return Failure(upload.uri, reason or "there is no such image", upload.root)
    captions = dict.fromkeys(filter(None, map(clean_text, upload.captions)))
    lost: dict[str, str] = {}
    clean_metadata(upload.metadata, lost)
    return Sample(
        uri=upload.uri,
        root=upload.root,
        relative=upload.relative or PurePosixPath(upload.uri).name or upload.uri,
        load=_loader(upload) if upload.kind == "image" else None,
        size=upload.size,
        mtime_ns=upload.mtime_ns,
        captions=tuple(captions)[:MAX_CAPTIONS],
        metadata=upload.metadata,
        fixed=upload.fixed,
        left_out=upload.left_out,
        notes=tuple(f"the field {name} {reason}" for name, reason in lost.items()),
    )


def _loader(upload: Upload) -> Callable[[], bytes]:
    def load() -> bytes:
        if upload.failed:
            raise ImageError(cut_bytes(clean_text(upload.failed), MAX_SHOWN_BYTES))
        assert upload.data is not None
        return upload.data

    return load
