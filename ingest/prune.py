"""Delete images that no file contains any more, and remove paths from the collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain

from twinlens.ingest.captions import inherit
from twinlens.ingest.ledger import SEPARATORS, Ledger
from twinlens.ingest.reconcile import reconcile
from twinlens.ingest.unfinished import finish_writes
from twinlens.ingest.upload import Removed
from twinlens.ingest.writer import wait_for_milvus
from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import begins, is_in, quote
from twinlens.search.paths import name_forms
from twinlens.search.records import Row

_BATCH = 256
_FIELDS = ("path", "image_id", "texts", "digest", "status")


def clean_up(
    collection: Collection, ledger: Ledger, *, prune: bool, replaced: bool = True
) -> tuple[int, int]:
    """At the end of a run, remove what the corpus no longer contains.

    The former image of a changed file is deleted. The old path of a moved file is removed, since
    its image has the new path. A path that no longer exists at all keeps its image unless ``prune``
    is set: a disk that is not mounted must not delete anything. What the option ``leave_out`` names
    is deleted.

    Each batch is retried while Milvus is unreachable, so that the counts stay right.

    Args:
        collection: where.
        ledger: the paths, of which ``find_missing`` has found the missing ones.
        prune: delete the images of paths that no longer exist.
        replaced: whether there may be tombstones; otherwise they are not searched for.

    Returns:
        How many images were deleted, and how many missing paths were kept with their images.
    """
    deleted = kept = 0
    if replaced:
        deleted = len(wait_for_milvus(partial(delete_replaced, collection, prune=prune)))
    for paths in ledger.unwanted(_BATCH):
        remove = partial(remove_missing, collection, paths, ledger.is_missing, prune=True)
        deleted += len(wait_for_milvus(remove).images)
    for paths in ledger.missing(_BATCH):
        remove = partial(remove_missing, collection, paths, ledger.is_missing, prune=prune)
        removed = wait_for_milvus(remove)
        deleted += len(removed.images)
        kept += removed.missing
    return deleted, kept


def delete_replaced(
    collection: Collection, tombstones: Sequence[Row] | None = None, *, prune: bool = False
) -> frozenset[str]:
    """Delete the former images of files that contain another image now.

    Args:
        collection: where.
        tombstones: rows of the ledger that remember those images; ``None`` for all there are.
        prune: their captions go; otherwise, other paths of the images inherit them.

    Returns:
        The ids of the deleted images: those that no other file contains.
    """
    found: Iterable[Sequence[Row]] = (
        [tombstones]
        if tombstones is not None
        else collection.scan("files", _FIELDS, 'status == "gone"', batch=_BATCH)
    )
    deleted: set[str] = set()
    # The scan pages by key, so rows deleted meanwhile lie behind the cursor.
    for rows in found:
        for start in range(0, len(rows), _BATCH):
            deleted |= _delete(collection, rows[start : start + _BATCH], bequeath=not prune)
    return frozenset(deleted)


def remove_missing(
    collection: Collection, paths: Sequence[str], is_missing: Callable[[str], bool], *, prune: bool
) -> Removed:
    """Remove paths that no longer exist on disk; see ``clean_up``.

    Args:
        collection: where.
        paths: about ``_BATCH`` at most.
        is_missing: whether another path is missing, too.
        prune: also remove paths that are the only one of their image. Otherwise, the image may
            have been renamed, and its other paths inherit the captions.
    """
    rows = collection.get("files", paths, _FIELDS)
    removable = rows if prune else _removable(collection, is_missing, rows)
    deleted = _delete(collection, removable, bequeath=not prune)
    return Removed(deleted, missing=len(rows) - len(removable))


def remove_paths(collection: Collection, paths: Sequence[str]) -> Removed:
    """Remove paths and everything below them, in whichever Unicode form they are stored.

    Returns:
        The deleted images and texts: those that no other path contains.
    """
    removed = Removed(finish_writes(collection))
    for path in dict.fromkeys(chain.from_iterable(map(name_forms, paths))):
        below = f"path == {quote(path)} or root == {quote(path)}"
        below += "".join(f" or ({begins('path', path + sep)})" for sep in SEPARATORS)
        removed += _remove_where(collection, below)
    collection.check_writes()
    return removed


def remove_ids(collection: Collection, ids: Sequence[str]) -> Removed:
    """Remove images, and texts without an image, by their ids.

    Raises:
        UsageError: an id belongs to the caption of an image, which is deleted with its image.
    """
    removed = Removed()
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        texts = collection.get("texts", batch, ["id", "image_id"])
        for row in texts:
            if row["image_id"]:
                raise UsageError(
                    f"{row['id']} is a caption of the image {row['image_id']}: delete that image"
                )
        removed += _remove_where(collection, is_in("image_id", batch))
        for row in texts:
            removed += _remove_where(collection, f"array_contains(texts, {quote(row['id'])})")
    collection.check_writes()
    return removed


def _remove_where(collection: Collection, expression: str) -> Removed:
    removed = Removed()
    rows = [row for batch in collection.scan("files", _FIELDS, expression) for row in batch]
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        texts_only = sum(not row["image_id"] and row["status"] == "ok" for row in batch)
        removed += Removed(_delete(collection, batch), texts_only, paths=len(batch))
    return removed


def _delete(
    collection: Collection, rows: Sequence[Row], *, bequeath: bool = False
) -> frozenset[str]:
    """Delete ledger rows, and the images that no other row has; the ids of those images.

    Args:
        collection: where.
        rows: the rows.
        bequeath: other paths of the images inherit their captions.
    """
    if not rows:
        return frozenset()
    paths = {row["path"] for row in rows}
    heirs = inherit(collection, rows) if bequeath else []
    images = {row["image_id"] for row in rows}
    outcome = reconcile(collection, images, planned=heirs, removed=paths)
    collection.upsert("files", heirs)
    collection.delete(
        "texts", [text for row in rows if not row["image_id"] for text in row["texts"]]
    )
    collection.delete("files", sorted(paths))
    return outcome.deleted


def _removable(
    collection: Collection, is_missing: Callable[[str], bool], rows: Sequence[Row]
) -> list[Row]:
    """Of missing paths, those that had failed or whose image has another path that exists."""
    ids = sorted({row["image_id"] for row in rows} - {""})
    alive: set[str] = set()
    if ids:
        same_images = f'{is_in("image_id", ids)} and status == "ok"'
        for found in collection.scan("files", ["path", "image_id"], same_images):
            alive |= {row["image_id"] for row in found if not is_missing(row["path"])}
    return [row for row in rows if row["status"] == "failed" or row["image_id"] in alive]
