"""After a run: paths that are gone are forgotten, and pictures that no file holds are deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.changes import Ledger
from ingest.reconcile import reconcile
from search.records import Row
from search.store import Corpus, begins, quote

_BATCH = 256
_FIELDS = ("path", "image_id", "texts", "status")


@dataclass(frozen=True, slots=True)
class Tidied:
    """How many pictures were deleted, and how many paths are gone whose pictures were kept."""

    removed: int
    missing: int


def tidy(corpus: Corpus, ledger: Ledger, *, prune: bool) -> Tidied:
    """Bring the store in line with what is on disk.

    A file that now holds another picture gives up the one it held. A moved file's old path is
    forgotten, since the picture has its new one. A path that is gone altogether keeps its picture
    unless ``prune`` says otherwise: a disk that is not mounted must not cost anything.
    """
    removed = missing = 0
    tombstones = [row for rows in corpus.scan("files", _FIELDS, 'status == "gone"') for row in rows]
    for start in range(0, len(tombstones), _BATCH):
        removed += _forget(corpus, tombstones[start : start + _BATCH])
    for paths in ledger.gone(_BATCH):
        rows = corpus.get("files", paths, _FIELDS)
        forgotten = rows if prune else _replaceable(corpus, ledger, rows)
        removed += _forget(corpus, forgotten)
        missing += len(rows) - len(forgotten)
    return Tidied(removed, missing)


def forget_below(corpus: Corpus, paths: Sequence[str]) -> int:
    """Take paths, and all that is below them, out of the corpus.

    Returns:
        How many pictures and texts alone were deleted: those that no other path holds.
    """
    deleted = 0
    for path in paths:
        below = f"path == {quote(path)} or root == {quote(path)}"
        below += "".join(f" or ({begins('path', path + sep)})" for sep in "/!#")
        rows = [row for batch in corpus.scan("files", _FIELDS, below) for row in batch]
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            alone = sum(not row["image_id"] and row["status"] == "ok" for row in part)
            deleted += _forget(corpus, part) + alone
    corpus.check_open()
    return deleted


def _forget(corpus: Corpus, rows: Sequence[Row]) -> int:
    if not rows:
        return 0
    paths = {row["path"] for row in rows}
    outcome = reconcile(corpus, {row["image_id"] for row in rows}, removed=paths)
    corpus.delete("texts", [text for row in rows if not row["image_id"] for text in row["texts"]])
    corpus.delete("files", sorted(paths))
    return outcome.deleted


def _replaceable(corpus: Corpus, ledger: Ledger, rows: Sequence[Row]) -> list[Row]:
    """Of paths that are gone, those that failed anyway or whose picture has a living path."""
    ids = sorted({row["image_id"] for row in rows} - {""})
    alive: set[str] = set()
    if ids:
        wanted = f'image_id in [{", ".join(map(quote, ids))}] and status == "ok"'
        for found in corpus.scan("files", ["path", "image_id"], wanted):
            alive |= {row["image_id"] for row in found if not ledger.is_gone(row["path"])}
    return [row for row in rows if row["status"] == "failed" or row["image_id"] in alive]
