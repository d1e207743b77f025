"""Takes in what others read: items that come bit by bit, over HTTP, into one collection.

The same ``Pipeline`` as in an ingest, over a ledger of the paths that come, so that what a call
costs does not depend on how much is stored already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from twinlens.ingest.ledger import TOMBSTONE, Ledger
from twinlens.ingest.pipeline import Pipeline
from twinlens.ingest.prune import forget_below, forget_gone, forget_ids, tidy_replaced
from twinlens.ingest.report import ItemRow
from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.upload import Forgotten, Upload, Uploaded, UploadedItem
from twinlens.search.errors import ImageError, UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.encoder import Encoder
from twinlens.search.records import (
    MAX_CAPTIONS,
    MAX_PATH_BYTES,
    MAX_SHOWN_BYTES,
    clean_text,
    cut_bytes,
    image_id,
)


class Intake:
    """Writes to one collection. Not to be called from two threads at once.

    Args:
        corpus: gives the collection, or ``None`` while there is none.
        create: makes it.
        encoder: gives its model; called when something is to be encoded.
    """

    def __init__(
        self,
        collection: Callable[[], Collection | None],
        create: Callable[[], Collection],
        encoder: Callable[[], Encoder],
    ) -> None:
        self._collection = collection
        self._create = create
        self._encoder = encoder

    def put(
        self,
        items: Sequence[Upload],
        *,
        prune: bool = False,
        retry_failed: bool = False,
        more: bool = False,
    ) -> Uploaded:
        """Store items. What broke off may be repeated: the rows become the same.

        The collection is made when the first item can be stored, not before.

        Args:
            items: what to store. Without any, what a series of calls left to be done is done.
            prune: captions that a source no longer has are taken away.
            retry_failed: try items again that failed before and have not changed.
            more: further calls follow. Pictures that files no longer hold are then kept, since
                they may turn up under other names, until a call without items.

        Raises:
            UsageError: an item's name is none.
            ModelError: the model cannot be loaded.
            StoreError: Milvus refused, or stayed away.
        """
        samples = [_sample(upload) for upload in items]
        collection = self._collection()
        if not items:
            return self._finish(collection)
        with Ledger(
            collection,
            prune=prune,
            only=[sample.uri for sample in samples],
            images=[image_id(upload.data) for upload in items if upload.data is not None],
        ) as ledger:
            wanted = [
                number
                for number, (upload, sample) in enumerate(zip(items, samples, strict=True))
                if _is_wanted(upload, sample, ledger, retry_failed)
            ]
            left_out = frozenset(wanted)
            at_hand = [sample for n, sample in enumerate(samples) if n not in left_out]
            if not at_hand:
                return Uploaded(wanted=tuple(wanted))
            collection = collection or self._create()
            rows: list[ItemRow] = []
            pipeline = Pipeline(
                collection,
                self._encoder,
                prune=prune,
                retry_failed=retry_failed,
                sink=rows.append,
                part=ledger,
            )
            report = pipeline.run(at_hand)
            replaced = [] if more else list(pipeline.tombstones.values())
            deleted = tidy_replaced(collection, replaced)
            collection.check_open()
            return Uploaded(
                items=tuple(UploadedItem(row.uri, row.status, row.reason, row.ms) for row in rows),
                wanted=tuple(wanted),
                texts=report.texts,
                deleted=deleted,
                encode_seconds=report.encode_seconds,
            )

    def judge(self, items: Sequence[Upload]) -> list[UploadedItem]:
        """What ``put`` would find, item by item: a ``Verdict``, "changed" or "failed"."""
        samples = [_sample(upload) for upload in items]
        rows = []
        with Ledger(self._collection(), only=[sample.uri for sample in samples]) as ledger:
            for sample in samples:
                status = "failed"
                if isinstance(sample, Sample):
                    verdict, known = ledger.judge(sample)
                    status = "changed" if verdict == "new" and known is not None else verdict
                rows.append(UploadedItem(sample.uri, status))
        return rows

    def forget(self, paths: Sequence[str] = (), ids: Sequence[str] = ()) -> Forgotten:
        """Take out paths with all that is below them, and pictures or texts alone by their ids.

        Raises:
            UsageError: an id is that of a picture's caption.
        """
        collection = self._collection()
        if collection is None:
            return Forgotten()
        return forget_ids(collection, ids) + forget_below(collection, paths)

    def forget_gone(self, paths: Sequence[str], *, prune: bool = False) -> Forgotten:
        """Take out paths that are no longer on the client's disk.

        Those whose picture has no other path are kept, unless ``prune`` asks for them.
        """
        collection = self._collection()
        if collection is None:
            return Forgotten()
        done = forget_gone(collection, paths, frozenset(paths).__contains__, prune=prune)
        collection.check_open()
        return done

    def _finish(self, collection: Collection | None) -> Uploaded:
        if collection is None:
            return Uploaded()
        collection.check_open()
        deleted = tidy_replaced(collection)
        collection.settle()
        return Uploaded(deleted=deleted)


def _is_wanted(upload: Upload, sample: Item, ledger: Ledger, retry_failed: bool) -> bool:
    """Whether an item's bytes are needed that did not come along."""
    if isinstance(sample, Failure) or sample.load is None:
        return False
    if upload.data is not None or upload.failed:
        return False
    verdict = ledger.foresee(sample)
    return verdict == "new" or (verdict == "failed before" and retry_failed)


def _sample(upload: Upload) -> Item:
    """An upload as the pipeline takes it; nothing in it is believed.

    Raises:
        UsageError: its name, or its root's, is none.
    """
    for name in (upload.uri, upload.root, upload.relative):
        if len(name.encode()) > MAX_PATH_BYTES or "\0" in name:
            raise UsageError(f"a path has at most {MAX_PATH_BYTES} bytes, and none that are 0")
    if not upload.uri or upload.uri.startswith(TOMBSTONE[0]):
        raise UsageError(f"{upload.uri[:80]!r} is no path")
    if upload.kind == "missing":
        reason = cut_bytes(clean_text(upload.failed), MAX_SHOWN_BYTES)
        return Failure(upload.uri, reason or "there is no such picture", upload.root)
    captions = dict.fromkeys(filter(None, map(clean_text, upload.captions)))
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
    )


def _loader(upload: Upload) -> Callable[[], bytes]:
    def load() -> bytes:
        if upload.failed:
            raise ImageError(cut_bytes(clean_text(upload.failed), MAX_SHOWN_BYTES))
        assert upload.data is not None
        return upload.data

    return load
