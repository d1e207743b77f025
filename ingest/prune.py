"""After a run: paths that are gone are forgotten, and pictures that no file holds are deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from twinlens.ingest.ledger import Ledger
from twinlens.ingest.reconcile import reconcile
from twinlens.ingest.upload import Forgotten
from twinlens.ingest.writer import patiently
from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import begins, quote
from twinlens.search.records import Row

_BATCH = 256
_FIELDS = ("path", "image_id", "texts", "status")


@dataclass(frozen=True, slots=True)
class Tidied:
    """How many pictures were deleted, and how many paths are gone whose pictures were kept."""

    removed: int
    missing: int


def tidy(collection: Collection, ledger: Ledger, *, prune: bool) -> Tidied:
    """Bring the store in line with what is on disk.

    A file that now holds another picture gives up the one it held. A moved file's old path is
    forgotten, since the picture has its new one. A path that is gone altogether keeps its picture
    unless ``prune`` says otherwise: a disk that is not mounted must not cost anything.

    A Milvus that is away is waited for, page by page: what is done is counted.
    """
    removed, missing = len(patiently(partial(tidy_replaced, collection))), 0
    for paths in ledger.gone(_BATCH):
        done = patiently(partial(forget_gone, collection, paths, ledger.is_gone, prune=prune))
        removed += len(done.pictures)
        missing += done.missing
    return Tidied(removed, missing)


def tidy_replaced(
    collection: Collection, tombstones: Sequence[Row] | None = None
) -> frozenset[str]:
    """Let files that hold another picture now give up the one they held.

    Args:
        corpus: where.
        tombstones: what remembers that, as rows of the ledger; default: all that there are.

    Returns:
        The pictures that were deleted, since no other file holds them.
    """
    found: Iterable[Sequence[Row]] = (
        [tombstones]
        if tombstones is not None
        else collection.scan("files", _FIELDS, 'status == "gone"', batch=_BATCH)
    )
    removed: set[str] = set()
    # Read by their keys, page by page: what is deleted meanwhile lies behind.
    for rows in found:
        for start in range(0, len(rows), _BATCH):
            removed |= _forget(collection, rows[start : start + _BATCH])
    return frozenset(removed)


def forget_gone(
    collection: Collection, paths: Sequence[str], is_gone: Callable[[str], bool], *, prune: bool
) -> Forgotten:
    """Take paths out that are no longer on disk, as far as ``tidy`` says.

    Args:
        corpus: where.
        paths: at most ``_BATCH`` or so.
        is_gone: whether another path is gone, too.
        prune: take out also those whose picture has no other path.
    """
    rows = collection.get("files", paths, _FIELDS)
    forgotten = rows if prune else _replaceable(collection, is_gone, rows)
    return Forgotten(_forget(collection, forgotten), missing=len(rows) - len(forgotten))


def forget_below(collection: Collection, paths: Sequence[str]) -> Forgotten:
    """Take paths, and all that is below them, out of the corpus.

    Returns:
        The pictures and texts alone that were deleted: those that no other path holds.
    """
    done = Forgotten()
    for path in paths:
        below = f"path == {quote(path)} or root == {quote(path)}"
        below += "".join(f" or ({begins('path', path + sep)})" for sep in "/!#")
        done += _forget_where(collection, below)
    collection.check_open()
    return done


def forget_ids(collection: Collection, ids: Sequence[str]) -> Forgotten:
    """Take pictures out by their ids, and texts that describe no picture.

    Raises:
        UsageError: an id is that of a picture's caption, which goes with its picture.
    """
    done = Forgotten()
    for start in range(0, len(ids), _BATCH):
        part = ids[start : start + _BATCH]
        texts = collection.get("texts", part, ["id", "image_id"])
        for row in texts:
            if row["image_id"]:
                raise UsageError(
                    f"{row['id']} is a caption of the picture {row['image_id']}: delete that one"
                )
        done += _forget_where(collection, f"image_id in [{', '.join(map(quote, part))}]")
        for row in texts:
            done += _forget_where(collection, f"array_contains(texts, {quote(row['id'])})")
    collection.check_open()
    return done


def _forget_where(collection: Collection, expression: str) -> Forgotten:
    done = Forgotten()
    rows = [row for batch in collection.scan("files", _FIELDS, expression) for row in batch]
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        alone = sum(not row["image_id"] and row["status"] == "ok" for row in part)
        done += Forgotten(_forget(collection, part), alone)
    return done


def _forget(collection: Collection, rows: Sequence[Row]) -> frozenset[str]:
    if not rows:
        return frozenset()
    paths = {row["path"] for row in rows}
    outcome = reconcile(collection, {row["image_id"] for row in rows}, removed=paths)
    collection.delete(
        "texts", [text for row in rows if not row["image_id"] for text in row["texts"]]
    )
    collection.delete("files", sorted(paths))
    return outcome.removed


def _replaceable(
    collection: Collection, is_gone: Callable[[str], bool], rows: Sequence[Row]
) -> list[Row]:
    """Of paths that are gone, those that failed anyway or whose picture has a living path."""
    ids = sorted({row["image_id"] for row in rows} - {""})
    alive: set[str] = set()
    if ids:
        wanted = f'image_id in [{", ".join(map(quote, ids))}] and status == "ok"'
        for found in collection.scan("files", ["path", "image_id"], wanted):
            alive |= {row["image_id"] for row in found if not is_gone(row["path"])}
    return [row for row in rows if row["status"] == "failed" or row["image_id"] in alive]
