"""Reconcile stored images with the ledger: their paths and captions, and whether to keep them."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinlens.ingest.captions import caption_ids
from twinlens.ingest.sample import relative_path
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import is_in
from twinlens.search.records import (
    CAPTION_PROBABILITY,
    CAPTION_SOURCE,
    IMAGE_FIELDS,
    MAX_SHOWN,
    MAX_SHOWN_BYTES,
    PROPOSED,
    Row,
    clean_metadata,
    cut_bytes,
)

#: Images that are looked up in the ledger at once.
SHARED_BATCH = 1_024

_LEDGER_FIELDS = ("path", "image_id", "texts", "root", "status", "mtime_ns", "digest")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The result of ``reconcile``, as ids of images.

    Attributes:
        deleted: images that were deleted because no path has them.
        lost: images that a path has but that are not stored.
    """

    deleted: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


def reconcile(
    collection: Collection,
    image_ids: abc.Collection[str],
    *,
    planned: Sequence[Row] = (),
    removed: abc.Collection[str] = (),
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    strong: bool = False,
) -> Reconciled:
    """Update or delete images to match the ledger as it will be, before the ledger is written.

    Safe to repeat after a failure half-way.

    Args:
        collection: where they are stored.
        image_ids: the images.
        planned: ledger rows that will be written next.
        removed: paths that will be deleted from the ledger next.
        metadata: columns to set, by image id.
        strong: include the ledger rows that other processes have written so far.
    """
    ids = sorted(set(image_ids) - {""})
    if not ids:
        return Reconciled()
    files, tombstones = _ledger_rows(collection, ids, planned, removed, strong=strong)
    stored = {
        row["id"]: row for row in collection.get("images", ids, [*IMAGE_FIELDS, "vector", "$meta"])
    }
    orphans = [key for key in ids if not files.get(key)]
    delete_images(collection, orphans)
    alive = [key for key in ids if files.get(key) and key in stored]
    metadata = metadata or {}
    captions = {key: caption_ids([*files[key], *tombstones.get(key, ())]) for key in alive}
    texts = _reconcile_texts(collection, captions, files, metadata)
    changed = []
    for key in alive:
        given = metadata.get(key, {})
        row = stored[key] | dict(given)
        updated = row | _ledger_columns(files[key], texts.get(key, []))
        was_proposed = stored[key].get(CAPTION_SOURCE) == PROPOSED
        if was_proposed and CAPTION_SOURCE not in given and _captions_differ(updated, stored[key]):
            # The mark of a proposed caption does not outlive it.
            for name in (CAPTION_SOURCE, CAPTION_PROBABILITY):
                updated.pop(name, None)
        if updated != stored[key]:
            changed.append(updated | {"vector": np.asarray(row["vector"], dtype=np.float32)})
    collection.upsert("images", changed)
    lost = frozenset(key for key in ids if files.get(key) and key not in stored)
    return Reconciled(frozenset(orphans) & frozenset(stored), lost)


def reconcile_shared(
    collection: Collection, images: Mapping[str, Mapping[str, Any]], batch: int = SHARED_BATCH
) -> None:
    """Update images that two runs have stored at the same time, each with its own paths.

    The row of an image is that of the last run, but the ledger has the paths of both. Call it once
    the ledger rows of a run are written: the run that calls it later sees the rows of both.

    Args:
        collection: where they are stored.
        images: metadata to set where a row is updated, by image id.
        batch: how many to look up at once.
    """
    ids = sorted(images)
    for start in range(0, len(ids), batch):
        paths: dict[str, list[str]] = {}
        expression = is_in("image_id", ids[start : start + batch])
        for rows in collection.scan(
            "files", ["path", "image_id", "status"], expression, strong=True
        ):
            for row in rows:
                if row["status"] == "ok":
                    paths.setdefault(row["image_id"], []).append(row["path"])
        shared = {key: sorted(found) for key, found in paths.items() if len(found) > 1}
        outdated = [
            row["id"]
            for row in collection.get("images", sorted(shared), ["id", "paths"])
            if list(row["paths"]) != shared[row["id"]][:MAX_SHOWN]
        ]
        metadata = {key: clean_metadata(images[key]) for key in outdated}
        reconcile(collection, outdated, metadata=metadata, strong=True)


def _captions_differ(first: Row, second: Row) -> bool:
    return list(first["captions"]) != list(second["captions"])


def delete_images(collection: Collection, ids: Sequence[str]) -> None:
    """Delete images and their captions."""
    if ids:
        for rows in collection.scan("texts", ["id"], is_in("image_id", ids)):
            collection.delete("texts", [row["id"] for row in rows])
        collection.delete("images", list(ids))


def _ledger_rows(
    collection: Collection,
    ids: Sequence[str],
    planned: Iterable[Row],
    removed: abc.Collection[str],
    *,
    strong: bool,
) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """The future ledger rows of each image, ordered by path; and its tombstones."""
    by_path: dict[str, Row] = {}
    expression = is_in("image_id", ids)
    for rows in collection.scan("files", list(_LEDGER_FIELDS), expression, strong=strong):
        by_path |= {row["path"]: row for row in rows}
    by_path |= {row["path"]: row for row in planned}
    files: dict[str, list[Row]] = {}
    tombstones: dict[str, list[Row]] = {}
    for path, row in sorted(by_path.items()):
        if path not in removed and row["status"] in ("ok", "gone"):
            kept = files if row["status"] == "ok" else tombstones
            kept.setdefault(row["image_id"], []).append(row)
    return files, tombstones


def _reconcile_texts(
    collection: Collection,
    captions: Mapping[str, Sequence[str]],
    files: Mapping[str, list[Row]],
    metadata: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[str]]:
    """Delete all captions but those listed for each image; return the texts of these."""
    if not captions:
        return {}
    found: dict[str, list[Row]] = {}
    for rows in collection.scan(
        "texts", ["id", "text", "image_id", "path"], is_in("image_id", list(captions))
    ):
        for row in rows:
            found.setdefault(row["image_id"], []).append(row)
    stale: list[str] = []
    rewritten: dict[str, Row] = {}
    texts: dict[str, list[str]] = {}
    for key, rows in found.items():
        order = {text: position for position, text in enumerate(captions[key])}
        stale += [row["id"] for row in rows if row["id"] not in order]
        kept = sorted((row for row in rows if row["id"] in order), key=lambda row: order[row["id"]])
        texts[key] = [row["text"] for row in kept]
        paths = {file["path"] for file in files[key]}
        for row in kept:
            if row["path"] not in paths or metadata.get(key):
                rewritten[row["id"]] = _path_columns(files[key][0])
                rewritten[row["id"]] |= metadata.get(key, {})
    collection.delete("texts", stale)
    rows = collection.get("texts", list(rewritten), ["id", "vector", "text", "image_id", "$meta"])
    for row in rows:
        row |= {"vector": np.asarray(row["vector"], dtype=np.float32), **rewritten[row["id"]]}
    collection.upsert("texts", rows)
    return texts


def shown_captions(texts: Iterable[str]) -> list[str]:
    """The captions stored in the image's own row: the first ones, each cut to a maximum length."""
    return [cut_bytes(text, MAX_SHOWN_BYTES) for text in texts][:MAX_SHOWN]


def _ledger_columns(files: Sequence[Row], texts: Sequence[str]) -> Row:
    """The columns of an image that follow from its ledger rows."""
    return {
        **_path_columns(files[0]),
        "paths": [file["path"] for file in files][:MAX_SHOWN],
        "mtime": max(files[0]["mtime_ns"], 0) / 1e9,
        "captions": shown_captions(texts),
    }


def _path_columns(file: Row) -> Row:
    return {
        "path": file["path"],
        "relative_path": relative_path(file["path"], file["root"]),
    }
