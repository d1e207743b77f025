"""Makes stored pictures agree with the ledger: paths, captions, and whether any file holds them."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import quote
from twinlens.search.records import IMAGE_FIELDS, MAX_SHOWN, MAX_SHOWN_BYTES, Row, cut_bytes

_LEDGER = ("path", "image_id", "texts", "root", "status", "mtime_ns")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What became of the pictures: which were deleted, and which are not stored at all."""

    removed: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()

    @property
    def deleted(self) -> int:
        """How many pictures were deleted."""
        return len(self.removed)


def reconcile(
    collection: Collection,
    image_ids: abc.Collection[str],
    *,
    planned: Sequence[Row] = (),
    removed: abc.Collection[str] = (),
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
) -> Reconciled:
    """Bring pictures in line with the ledger as it will be, before the ledger says so.

    Nothing here depends on having run to the end before: what breaks off can be run again.

    Args:
        corpus: where they are stored.
        image_ids: the pictures.
        planned: ledger rows that will be written next.
        removed: paths that will be deleted from the ledger next.
        metadata: columns to set, by picture.
    """
    ids = sorted(set(image_ids) - {""})
    if not ids:
        return Reconciled()
    files = _ledger(collection, ids, planned, removed)
    stored = {
        row["id"]: row for row in collection.get("images", ids, [*IMAGE_FIELDS, "vector", "$meta"])
    }
    orphans = [key for key in ids if not files.get(key)]
    delete_images(collection, orphans)
    alive = [key for key in ids if files.get(key) and key in stored]
    metadata = metadata or {}
    texts = _tidy_texts(collection, alive, files, metadata)
    changed = []
    for key in alive:
        row = stored[key] | dict(metadata.get(key, {}))
        updated = row | _shown(files[key], texts.get(key, []))
        if updated != stored[key]:
            changed.append(updated | {"vector": np.asarray(row["vector"], dtype=np.float32)})
    collection.upsert("images", changed)
    lost = frozenset(key for key in ids if files.get(key) and key not in stored)
    return Reconciled(frozenset(orphans) & frozenset(stored), lost)


def texts_of(collection: Collection, image_ids: abc.Collection[str]) -> dict[str, list[str]]:
    """The ids of the texts that the ledger has for each picture."""
    ids = sorted(set(image_ids))
    files = _ledger(collection, ids, (), ()) if ids else {}
    return {
        key: list(dict.fromkeys(text for row in rows for text in row["texts"]))
        for key, rows in files.items()
    }


def delete_images(collection: Collection, ids: Sequence[str]) -> None:
    """Delete pictures and the texts that describe them."""
    if ids:
        for rows in collection.scan("texts", ["id"], _of_images(ids)):
            collection.delete("texts", [row["id"] for row in rows])
        collection.delete("images", list(ids))


def _ledger(
    collection: Collection, ids: Sequence[str], planned: Iterable[Row], removed: abc.Collection[str]
) -> dict[str, list[Row]]:
    """For each picture its paths' rows as the ledger will have them, in path order."""
    by_path: dict[str, Row] = {}
    for rows in collection.scan("files", list(_LEDGER), _of_images(ids)):
        by_path |= {row["path"]: row for row in rows}
    by_path |= {row["path"]: row for row in planned}
    files: dict[str, list[Row]] = {}
    for path in sorted(by_path):
        if by_path[path]["status"] == "ok" and path not in removed:
            files.setdefault(by_path[path]["image_id"], []).append(by_path[path])
    return files


def _tidy_texts(
    collection: Collection,
    ids: Sequence[str],
    files: Mapping[str, list[Row]],
    metadata: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[str]]:
    """Delete texts that no path of their picture brings any more; the others, by picture."""
    if not ids:
        return {}
    found: dict[str, list[Row]] = {}
    for rows in collection.scan("texts", ["id", "text", "image_id", "path"], _of_images(ids)):
        for row in rows:
            found.setdefault(row["image_id"], []).append(row)
    stale: list[str] = []
    rewritten: dict[str, Row] = {}
    texts: dict[str, list[str]] = {}
    for key, rows in found.items():
        wanted = list(dict.fromkeys(text for file in files[key] for text in file["texts"]))
        order = {text: position for position, text in enumerate(wanted)}
        stale += [row["id"] for row in rows if row["id"] not in order]
        kept = sorted((row for row in rows if row["id"] in order), key=lambda row: order[row["id"]])
        texts[key] = [row["text"] for row in kept]
        paths = {file["path"] for file in files[key]}
        for row in kept:
            if row["path"] not in paths or metadata.get(key):
                rewritten[row["id"]] = place(files[key][0]["path"], files[key][0]["root"])
                rewritten[row["id"]] |= metadata.get(key, {})
    collection.delete("texts", stale)
    rows = collection.get("texts", list(rewritten), ["id", "vector", "text", "image_id", "$meta"])
    for row in rows:
        row |= {"vector": np.asarray(row["vector"], dtype=np.float32), **rewritten[row["id"]]}
    collection.upsert("texts", rows)
    return texts


def place(path: str, root: str) -> Row:
    """The columns that say where a picture is."""
    root = root.rstrip("/")
    below = path.startswith((f"{root}/", f"{root}!"))
    return {"path": path, "relative_path": path[len(root) + 1 :] if below else path}


def shown_captions(texts: Iterable[str]) -> list[str]:
    """The captions that a picture's own row carries."""
    return [cut_bytes(text, MAX_SHOWN_BYTES) for text in texts][:MAX_SHOWN]


def _shown(files: Sequence[Row], texts: Sequence[str]) -> Row:
    paths = [file["path"] for file in files]
    return {
        **place(paths[0], files[0]["root"]),
        "paths": paths[:MAX_SHOWN],
        "mtime": max(files[0]["mtime_ns"], 0) / 1e9,
        "captions": shown_captions(texts),
    }


def _of_images(ids: Sequence[str]) -> str:
    return f"image_id in [{', '.join(map(quote, ids))}]"
